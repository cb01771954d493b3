"""Programs that run until a signal ends them, servers among them: started under the launcher, asked, ended; and what must
have arrived by then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from tests.conftest import APPS as SHARED_APPS
from tests.conftest import BIN, FAULT_MARK, wait_until
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.server import free_port

APPS = Path(__file__).parent / "apps"
LAUNCHER = BIN / "honeyhive-instrument"
LINGER_S = 30.0
"""So long that the last events are surely unsent when the end begins. (A process's first batch may go out at once.)"""
READY_WITHIN_S = 90.0
"""Importing LiteLLM takes 3 s of a processor, for each process that does."""
EXIT_TIMEOUT_S = 5.0
ENDED_WITHIN_S = EXIT_TIMEOUT_S + 5.0
"""The server answers at once, so the end waits for it only as long as requests take; the rest is what gunicorn, uvicorn
and celery wait for by themselves (1 to 3 s), on a busy machine."""
LAST = ("last 1", "last 2", "last 3", "last 4")
"""What is asked before the end, one at a time, when everybody has settled."""
READY = "app ready"
"""What each application prints when it is imported."""


class Program:
    """A program in a session of its own, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, times: int = 1, within_s: float = READY_WITHIN_S) -> None:
        """Wait until it has said this so often."""
        deadline = time.monotonic() + within_s
        while True:
            status = self.process.poll()  # before the look: what an ended program has said, it has said
            if self.said.count(text) >= times:
                return
            assert status is None, f"ended with {status}:\n{self.said[-4000:]}"
            if time.monotonic() > deadline:
                self.fail_with_stacks(f"did not say {text!r} {times} times within {within_s} s")
            time.sleep(0.02)

    def end(self, number: signal.Signals, *, within_s: float = ENDED_WITHIN_S, to_all: bool = False) -> int:
        """Ask it to end, wait until it and all its children have, and return its status.

        :param to_all: as a terminal does with Ctrl-C; a supervisor asks the parent only.
        """
        assert living(self.process.pid), f"it is gone already:\n{self.said[-4000:]}"
        if to_all:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        return self.wait(within_s)

    def wait(self, within_s: float) -> int:
        """Wait until it and all its children have ended."""
        deadline = time.monotonic() + within_s
        while (self.process.poll() is None or living(self.process.pid)) and time.monotonic() < deadline:
            time.sleep(0.02)
        if living(self.process.pid):
            self.fail_with_stacks(f"still there after {within_s} s")
        return self.process.wait(1)

    def fail_with_stacks(self, why: str) -> NoReturn:
        """Have each of its processes say where all of its threads are."""
        left = living(self.process.pid)
        for each in left:
            os.kill(int(each.split()[0]), signal.SIGABRT)
        wait_until(lambda: not living(self.process.pid), 10, "an end by SIGABRT")
        pytest.fail(f"{why}: {left}\n{self.said[-20_000:]}")

    def clean_up(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)


class Service(Program):
    """A program that answers requests: it asks LiteLLM for the text of each, and answers with its process id."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        super().__init__(process, log)
        self.url = f"http://127.0.0.1:{port}"
        self.answered: list[str] = []
        """Texts of the requests that had an answer."""
        self.unanswered: list[str] = []
        """Texts of those that met a process which was about to end."""

    def wait_until_ready(self, imports: int) -> None:
        """Wait until so many processes have the application, and one answers."""
        self.wait_for(READY, imports)
        wait_until(lambda: self._is_answering(), READY_WITHIN_S, "the first answer")

    def ask(self, *texts: str, at_once: int = 1) -> set[str]:
        """Ask for each text; the ids of the processes that answered."""
        with ThreadPoolExecutor(at_once) as pool:
            return set(filter(None, pool.map(self._ask, texts)))

    def ask_until(self, is_enough: Callable[[set[str]], bool], name: str) -> set[str]:
        """Ask, four at a time, until these processes have answered."""
        pids: set[str] = set()
        deadline = time.monotonic() + READY_WITHIN_S
        while not is_enough(pids):
            assert time.monotonic() < deadline, f"only {pids} answered:\n{self.said[-4000:]}"
            begin = len(self.answered) + len(self.unanswered)
            pids |= self.ask(*(f"{name} {number}" for number in range(begin, begin + 4)), at_once=4)
        return pids

    def _ask(self, text: str) -> str | None:
        try:
            answer = httpx.get(f"{self.url}/ask", params={"text": text}, timeout=30)
        except httpx.TransportError:
            self.unanswered.append(text)
            return None
        assert answer.status_code == 200, f"{answer.status_code}\n{self.said[-4000:]}"
        self.answered.append(text)
        return answer.text

    def _is_answering(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.said[-4000:]}"
        try:
            return httpx.get(f"{self.url}/ready", timeout=30).status_code == 200
        except httpx.TransportError:
            return False


Start = Callable[..., Program]
Serve = Callable[..., Service]


@pytest.fixture
def start(environ: dict[str, str], fake_honeyhive: FakeHoneyHive, tmp_path: Path) -> Iterator[Start]:
    """Start commands under the launcher. What is left of them afterwards is ended; fails if our own code failed in one."""
    started: list[Program] = []

    def start_program(*words: object, cwd: Path = APPS, port: int | None = None, **variables: str) -> Program:
        log = tmp_path / f"program{len(started)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(word) for word in (LAUNCHER, *words)],
                env={
                    **environ,
                    **fake_honeyhive.env,
                    "HOME": str(tmp_path),  # gunicorn puts a socket there
                    "PYTHONPATH": str(SHARED_APPS),
                    "PYTHONFAULTHANDLER": "1",
                    "PYTHONUNBUFFERED": "1",
                    "HONEYHIVE_LINGER": str(LINGER_S),
                    "HONEYHIVE_EXIT_TIMEOUT": str(EXIT_TIMEOUT_S),
                    **variables,
                },
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A shell that started the tests in the background has them ignore Ctrl-C, and they hand that on.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        program = Program(process, log) if port is None else Service(process, log, port)
        started.append(program)
        return program

    yield start_program
    for program in started:
        program.clean_up()
    for program in started:
        assert FAULT_MARK not in program.said, program.said


@pytest.fixture
def serve(start: Start) -> Serve:
    """Start a server; `{port}` in its words stands for a port that is free. Returns when it is ready to be asked."""

    def serve_until_ready(*words: object, imports: int = 1, cwd: Path = APPS, **variables: str) -> Service:
        port = free_port()
        filled = [str(word).replace("{port}", str(port)) for word in words]
        service = start(*filled, cwd=cwd, port=port, **variables)
        assert isinstance(service, Service)
        service.wait_until_ready(imports)
        return service

    return serve_until_ready


def living(session: int) -> list[str]:
    """The processes of a session that have not ended, as `id command`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session, *_ = stat.read_text().rpartition(")")[2].split()
            command = stat.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended meanwhile
        if int(its_session) == session and state not in "ZX":
            found.append(f"{stat.parent.name} {command[:100]}")
    return found


def asked(server: FakeHoneyHive) -> list[str]:
    return sorted(event["inputs"]["chat_history"][0]["content"] for event in server.events)


def waiting(home: Path) -> list[str]:
    """Files that a later process would send."""
    return sorted(path.name for path in home.glob("spool/*/*.batch"))


def kept(home: Path) -> list[str]:
    """What the events in those files ask."""
    lines = [json.loads(line) for path in home.glob("spool/*/*.batch") for line in path.read_text().splitlines()]
    return [line["event"]["inputs"]["chat_history"][0]["content"] for line in lines if "event" in line]


def check_each_arrived_once(server: FakeHoneyHive, home: Path, texts: Iterable[str]) -> None:
    """Everything is there once, nothing else is, and nothing is left to be sent a second time."""
    wait_until(lambda: server.is_quiet, 10, "an answer to every request")
    assert asked(server) == sorted(texts), f"on disk: {kept(home)}"
    assert set(server.arrivals.values()) == {1}, "an event arrived twice"
    assert waiting(home) == []


def check_every_answer_has_arrived(server: FakeHoneyHive, home: Path, service: Service) -> None:
    """The same where a request may have been cut off: of such a one an event may be there or not."""
    also = set(asked(server)) & set(service.unanswered)
    check_each_arrived_once(server, home, [*service.answered, *also])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"
