"""The way to the server: proxies and certificates as the environment names them. And the way out of the program, which a
server that is slow or cannot be reached makes no longer than it may."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from honeyhive_autoinstrument.delivery.spool import Spool
from tests.conftest import BIN, FAULT_MARK, Run, app
from tests.fakes.honeyhive import KEY, FakeHoneyHive

LAUNCHER = BIN / "honeyhive-instrument"
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(environ: dict[str, str]) -> None:
    """Those of the machine that runs the tests are not asked. (An empty variable would hide its twin in capitals.)"""
    for name in PROXY_VARIABLES:
        environ.pop(name, None)
        environ.pop(name.lower(), None)


def kept_ids(home: Path) -> list[str]:
    """Ids of the events that wait on disk."""
    ids = []
    for folder in (home / "spool").glob("*"):
        spool = Spool(str(home), folder.name, max_bytes=1 << 30, max_age_s=1e6)
        ids += [record.id for batch in map(spool.peek, spool.paths()) if batch is not None for record in batch.records]
    return ids


def pump(source: socket.socket, target: socket.socket) -> None:
    """Hand on what comes until it ends."""
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def join(one: socket.socket, other: socket.socket) -> None:
    there = threading.Thread(target=pump, args=(one, other), daemon=True)
    there.start()
    pump(other, one)
    there.join(20)


# -- proxies -----------------------------------------------------------------------------------------------------------


class ForwardProxy:
    """An HTTP proxy. Whatever host it is asked for is the server on this port; nothing but loopback is reached."""

    def __init__(self, server_port: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server_port = server_port
        self.asked: list[str] = []
        """`METHOD target` of what it was asked for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> ForwardProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._hand_on(connection)

    def _hand_on(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                return
            head += piece
        line, rest = head.split(b"\r\n", 1)
        method, target, version = line.split(b" ")
        self.asked.append(f"{method.decode()} {target.decode()}")
        with socket.create_connection(("127.0.0.1", self._server_port)) as server:
            if method == b"CONNECT":
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                join(connection, server)
                return
            # `POST http://host:port/path`: one request for each connection, so that none is missed here.
            path = b"/" + target.split(b"/", 3)[3]
            server.sendall(b" ".join((method, path, version)) + b"\r\nConnection: close\r\n" + rest)
            join(connection, server)


@pytest.mark.parametrize(
    "variable", ["HTTP_PROXY", *(pytest.param(name, marks=pytest.mark.slow) for name in ("http_proxy", "ALL_PROXY"))]
)
def test_a_proxy_that_the_environment_names_is_used(run: Run, fake_honeyhive: FakeHoneyHive, variable: str) -> None:
    with ForwardProxy(fake_honeyhive.port) as proxy:
        # A name that only the proxy can reach.
        settings = {**fake_honeyhive.env, "HONEYHIVE_API_URL": "http://honeyhive.invalid:8080"}

        result = run(LAUNCHER, "python", app("one_completion.py"), env={**settings, variable: proxy.url})

    assert (result.status, result.out, result.err) == (0, "hello\n", "")
    assert len(fake_honeyhive.events) == 1
    assert proxy.asked == [
        "POST http://honeyhive.invalid:8080/v1/sessions",
        "POST http://honeyhive.invalid:8080/v1/events/batch",
    ]


@pytest.mark.slow
def test_a_host_that_no_proxy_names_is_asked_directly(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    with ForwardProxy(fake_honeyhive.port) as proxy:
        around = {"HTTP_PROXY": proxy.url, "NO_PROXY": "example.com,127.0.0.1"}

        result = run(LAUNCHER, "python", app("one_completion.py"), env={**around, **fake_honeyhive.env})

    assert (result.status, result.out, result.err) == (0, "hello\n", "")
    assert len(fake_honeyhive.events) == 1
    assert proxy.asked == []


@pytest.mark.slow
def test_a_proxy_that_is_away_leaves_the_events_on_disk(
    run: Run, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    away = {"HTTP_PROXY": "http://127.0.0.1:9"}

    result = run(LAUNCHER, "python", app("one_completion.py"), env={**away, **fake_honeyhive.env})

    assert (result.status, result.out) == (0, "hello\n")
    assert fake_honeyhive.events == []
    assert len(kept_ids(tmp_path / "home")) == 1


# -- certificates ------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The certificate of the private authority that has signed for `secure_honeyhive`."""
    return tmp_path / "authority.pem"


@pytest.fixture
def secure_honeyhive(authority: Path) -> Iterator[FakeHoneyHive]:
    signing = trustme.CA()
    signing.cert_pem.write_to_path(str(authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    signing.issue_cert("127.0.0.1", "honeyhive.invalid").configure_cert(context)
    with FakeHoneyHive(tls=context) as server:
        yield server
    assert server.problems == []


def test_a_server_with_a_private_authority_is_trusted_through_ssl_cert_file_and_only_then(
    run: Run, secure_honeyhive: FakeHoneyHive, authority: Path, tmp_path: Path
) -> None:
    settings = {**secure_honeyhive.env, "SSL_CERT_FILE": ""}

    without = run(LAUNCHER, "python", app("one_completion.py"), env=settings)
    kept = kept_ids(tmp_path / "home")
    arrived = list(secure_honeyhive.events)
    trusted = run(LAUNCHER, "python", app("one_completion.py"), env={**settings, "SSL_CERT_FILE": str(authority)})

    assert (without.status, without.out) == (0, "hello\n")
    assert len(without.err.splitlines()) == 1
    assert "cannot be reached" in without.err
    assert (len(kept), arrived) == (1, [])
    assert (trusted.status, trusted.out, trusted.err) == (0, "hello\n", "")
    assert len(secure_honeyhive.events) == 2
    assert {event["event_id"] for event in secure_honeyhive.events} > set(kept)
    assert kept_ids(tmp_path / "home") == []


def test_at_the_end_a_server_whose_handshake_takes_a_while_is_waited_for(
    run: Run, secure_honeyhive: FakeHoneyHive, authority: Path, tmp_path: Path
) -> None:
    secure_honeyhive.accept_delay_s = 2 * UNREACHABLE_S  # for a connection that the system has made at once
    settings = {**secure_honeyhive.env, "SSL_CERT_FILE": str(authority), "HONEYHIVE_LINGER": "30"}

    result = run(LAUNCHER, "python", app("one_completion.py"), env=settings)

    assert (result.status, result.out, result.err) == (0, "hello\n", "")
    assert len(secure_honeyhive.events) == 1
    assert kept_ids(tmp_path / "home") == []


@pytest.mark.slow
def test_a_server_with_https_is_reached_through_a_proxy(
    run: Run, secure_honeyhive: FakeHoneyHive, authority: Path
) -> None:
    with ForwardProxy(secure_honeyhive.port) as proxy:
        around = {"HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(authority)}
        settings = {**secure_honeyhive.env, "HONEYHIVE_API_URL": "https://honeyhive.invalid"}

        result = run(LAUNCHER, "python", app("one_completion.py"), env={**around, **settings})

    assert (result.status, result.out, result.err) == (0, "hello\n", "")
    assert len(secure_honeyhive.events) == 1
    assert set(proxy.asked) == {"CONNECT honeyhive.invalid:443"}


# -- the end of the program --------------------------------------------------------------------------------------------

CALLS = 150
"""Of asks_many.py: two batches."""
EXIT_TIMEOUT_S = 5.0
"""The setting's default."""
UNREACHABLE_S = 0.5
NOISE_S = 1.0
"""Of a busy machine, in the best of three."""
SHORT_NOISE_S = 0.5
"""The same, where less time goes by."""
TRIES = 3

Way = Callable[[], contextlib.AbstractContextManager[str]]
"""Opens what the program finds at the URL."""


@contextlib.contextmanager
def misbehaving(**how: Any) -> Iterator[str]:
    with FakeHoneyHive() as server:
        server.misbehave(**how)
        yield server.url


def takes_two_seconds() -> contextlib.AbstractContextManager[str]:
    return misbehaving(status=200, delay_s=2)


def never_answers() -> contextlib.AbstractContextManager[str]:
    return misbehaving(is_silent=True)


def drips() -> contextlib.AbstractContextManager[str]:
    return misbehaving(status=200, drips_from="head", path="/v1/events")


@contextlib.contextmanager
def refuses() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def swallows_packets() -> Iterator[str]:
    """A socket that listens and does not accept, with as many connections waiting as it has room for: further ones hang."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(20):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.3)
            try:
                filler.connect(full.getsockname())
            except TimeoutError:
                break
        else:
            pytest.skip("this system always has room for another connection")
        yield f"http://127.0.0.1:{full.getsockname()[1]}"


@contextlib.contextmanager
def has_no_address() -> Iterator[str]:
    yield "http://honeyhive.invalid"


@contextlib.contextmanager
def is_looked_up_for_ever() -> Iterator[str]:
    """See RESOLVER_THAT_HANGS."""
    yield "http://slow.honeyhive.invalid"


RESOLVER_THAT_HANGS = """
import runpy, socket, sys, time

look_up = socket.getaddrinfo

def hang(host, *more, **options):
    if str(host).startswith("slow."):
        time.sleep(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return look_up(host, *more, **options)

socket.getaddrinfo = hang
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""What a program sees whose name servers do not answer. Nothing else of it is changed."""

SLOW: tuple[Way, ...] = (takes_two_seconds, never_answers, drips)
UNREACHABLE: tuple[Way, ...] = (refuses, swallows_packets, has_no_address, is_looked_up_for_ever)


def end_s(environ: dict[str, str], home: Path, **settings: str) -> float:
    """Seconds from the last act of asks_many.py, an exit handler of its own, to its end. Without settings, it has no key."""
    process = subprocess.Popen(
        [LAUNCHER, sys.executable, "-c", RESOLVER_THAT_HANGS, app("asks_many.py")],
        env={**environ, "HONEYHIVE_HOME": str(home), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ending\n"
        began = time.monotonic()
        out, err = process.communicate(timeout=60)
        took = time.monotonic() - began
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out) == (0, "")
    assert FAULT_MARK not in err
    return took


def held_up_s(environ: dict[str, str], tmp_path: Path, way: Way, allowed_s: float, **settings: str) -> float:
    """By how much longer than without a key the end takes, at best; more tries only where it is more than allowed."""
    found_s: list[float] = []
    for number in range(TRIES):
        plain_s = end_s(environ, tmp_path / f"plain-{number}")
        home = tmp_path / f"home-{number}"
        with way() as url:
            took_s = end_s(environ, home, HONEYHIVE_API_KEY=KEY, HONEYHIVE_API_URL=url, **settings)
        found_s.append(took_s - plain_s)
        kept = kept_ids(home)
        assert len(set(kept)) == len(kept)
        if way is not takes_two_seconds:  # which takes some
            assert len(kept) == CALLS
        if found_s[-1] <= allowed_s:
            break
    print(f"{way.__name__}: held up for", ", ".join(f"{seconds:.2f} s" for seconds in found_s))
    return min(found_s)


@pytest.mark.slow
@pytest.mark.parametrize("way", SLOW, ids=lambda way: way.__name__)
def test_a_server_that_answers_slowly_holds_the_end_up_for_the_exit_timeout_at_most(
    environ: dict[str, str], tmp_path: Path, way: Way
) -> None:
    allowed_s = EXIT_TIMEOUT_S + NOISE_S

    assert held_up_s(environ, tmp_path, way, allowed_s) <= allowed_s


@pytest.mark.slow
def test_the_exit_timeout_is_a_setting(environ: dict[str, str], tmp_path: Path) -> None:
    allowed_s = 1 + NOISE_S

    assert held_up_s(environ, tmp_path, never_answers, allowed_s, HONEYHIVE_EXIT_TIMEOUT="1") <= allowed_s


@pytest.mark.slow
@pytest.mark.parametrize("way", UNREACHABLE, ids=lambda way: way.__name__)
def test_a_server_that_cannot_be_reached_hardly_holds_the_end_up(
    environ: dict[str, str], tmp_path: Path, way: Way
) -> None:
    allowed_s = UNREACHABLE_S + SHORT_NOISE_S

    assert held_up_s(environ, tmp_path, way, allowed_s) <= allowed_s


STOPS_AS_IT_LOOKS_FOR_ITS_SERVER = """
import os, runpy, signal, socket, sys

look_up = socket.getaddrinfo

def stop(*words, **options):
    os.kill(os.getpid(), signal.SIGSTOP)
    return look_up(*words, **options)

socket.getaddrinfo = stop
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A program whose machine stands still for a moment, just then."""
STANDSTILL_S = 3 * UNREACHABLE_S


def test_a_program_whose_machine_stands_still_at_its_end_still_finds_its_server(
    environ: dict[str, str], fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    environ["HONEYHIVE_LINGER"] = "30"  # so that the first request is one of the end
    process = subprocess.Popen(
        [LAUNCHER, sys.executable, "-c", STOPS_AS_IT_LOOKS_FOR_ITS_SERVER, app("one_completion.py")],
        env={**environ, **fake_honeyhive.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        time.sleep(STANDSTILL_S)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()

    assert (process.returncode, out) == (0, "hello\n")
    assert FAULT_MARK not in err
    assert len(fake_honeyhive.events) == 1
    assert kept_ids(tmp_path / "home") == []
