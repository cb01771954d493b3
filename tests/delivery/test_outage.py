"""The server goes away and comes back: everything arrives exactly once, in this process or a later one."""

from __future__ import annotations

import functools
import signal
import subprocess
from pathlib import Path

import httpx
import litellm
import pytest

import honeyhive_autoinstrument
from honeyhive_autoinstrument.delivery.spool import events_in
from tests.conftest import BIN, Recording, Run, app, order_from, wait_until
from tests.fakes.honeyhive import FakeHoneyHive, Misbehaviour
from tests.fakes.provider import FakeProvider

LAUNCHER = BIN / "honeyhive-instrument"


def ask(text: str) -> None:
    litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": text}], mock_response="y")


def asked(server: FakeHoneyHive) -> list[str]:
    return sorted(event["inputs"]["chat_history"][0]["content"] for event in server.events)


def test_a_server_killed_in_mid_run_gets_everything_once_from_a_later_process(
    environ: dict[str, str], run: Run, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [LAUNCHER, "python", app("asks_on_demand.py")],
        env={**environ, **fake_honeyhive.env, "HONEYHIVE_LINGER": "0.05"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    order = functools.partial(order_from, process)

    for number in range(5):
        order(f"up {number}")
    wait_until(lambda: len(fake_honeyhive.events) == 5 and fake_honeyhive.is_quiet, what="the first five events")
    fake_honeyhive.stop()
    for number in range(5):
        order(f"down {number}")
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()
    assert process.stderr is not None
    warnings = process.stderr.read()
    process.stderr.close()
    assert "HoneyHive cannot be reached" in warnings
    assert len(list((tmp_path / "home" / "spool").glob("*/*.batch"))) > 0

    fake_honeyhive.start()
    run(LAUNCHER, "python", app("one_completion.py"), env=fake_honeyhive.env)

    expected = [f"up {number}" for number in range(5)] + [f"down {number}" for number in range(5)] + ["Say hello."]
    assert asked(fake_honeyhive) == sorted(expected)
    assert set(fake_honeyhive.arrivals.values()) == {1}
    assert list((tmp_path / "home" / "spool").glob("*/*.batch")) == []


def test_a_connection_that_was_kept_open_and_is_closed_by_the_server_is_no_outage(
    recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    ask("before")  # opens the connection
    recording.events()
    recording.server.plan.append(Misbehaviour(path="/v1/events/batch", closes=True, times=1))

    ask("on the kept connection")

    recording.events()
    assert asked(recording.server) == ["before", "on the kept connection"]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []
    assert honeyhive_autoinstrument.stats()["spooled"] == 0


def test_a_server_that_comes_back_gets_everything_from_the_same_process(recording: Recording) -> None:
    ask("before")
    recording.events()
    recording.server.stop()
    ask("meanwhile")
    wait_until(lambda: honeyhive_autoinstrument.stats()["spooled"] == 1, what="the event on disk")

    recording.server.start()
    ask("after")

    # An event that is read back from disk is pending until the server's answer has come.
    wait_until(lambda: honeyhive_autoinstrument.stats()["sent"] == 3, what="all three sent")
    assert asked(recording.server) == ["after", "before", "meanwhile"]
    assert honeyhive_autoinstrument.stats()["spooled"] == 0
    assert set(recording.server.arrivals.values()) == {1}


def test_the_ledger_adds_up_during_and_after_an_outage(recording: Recording) -> None:
    recording.server.misbehave(status=503)
    for number in range(30):
        ask(str(number))
    wait_until(lambda: honeyhive_autoinstrument.stats()["pending"] == 0, what="nothing pending")

    stats = honeyhive_autoinstrument.stats()
    assert stats["created"] == 30
    assert stats["created"] == stats["sent"] + stats["pending"] + stats["spooled"] + stats["rejected"] + sum(
        stats["dropped"].values()
    )
    assert stats["spooled"] == 30
    recording.server.behave()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_passing_fault_is_retried_with_the_same_ids(recording: Recording, status: int) -> None:
    recording.server.misbehave(status=status, body=b"<html>oops</html>", path="/v1/events/batch", times=1)
    ask("hello")

    assert len(recording.events()) == 1
    posts = [request for request in recording.server.requests if request.path == "/v1/events/batch"]
    assert len(posts) == 2
    assert posts[0].body == posts[1].body


def test_a_reset_connection_is_retried(recording: Recording) -> None:
    recording.server.misbehave(reset=True, times=1)
    ask("hello")

    assert len(recording.events()) == 1


def test_what_a_partly_stored_batch_left_out_is_sent_again(recording: Recording) -> None:
    ask("warm up")
    recording.events()
    recording.server.misbehave(status=500, takes_first=2, path="/v1/events/batch", times=1)
    for number in range(5):
        ask(str(number))

    assert len(recording.events()) == 6
    assert set(recording.server.arrivals.values()) == {1}


def test_one_refused_event_is_set_aside_and_the_others_arrive(
    recording: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask("warm up")
    recording.events()
    original = recording.server._batch

    def refuse_poison(request: object, is_v1: bool) -> object:
        from tests.fakes.server import Reply

        if b"poison" in request.body:  # type: ignore[attr-defined]
            return Reply.of({"statusCode": 400, "message": "no poison", "success": False}, status=400)
        return original(request, is_v1)  # type: ignore[arg-type]

    recording.server._batch = refuse_poison  # type: ignore[method-assign, assignment]
    for text in ("one", "poison", "two", "three"):
        ask(text)

    recording.events()
    assert asked(recording.server) == ["one", "three", "two", "warm up"]
    (aside,) = (tmp_path / "home" / "spool").glob("*/rejected/*.batch")
    assert b"no poison" in aside.read_bytes()
    assert honeyhive_autoinstrument.stats()["rejected"] == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_rejected_key_keeps_everything_and_says_so_once(
    fake_honeyhive: FakeHoneyHive, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    fake_honeyhive.refusal = status
    honeyhive_autoinstrument.init(
        api_key="hh_wrong_key_0123456789", api_url=fake_honeyhive.url, home=str(tmp_path / "home"), linger=0.02
    )
    from honeyhive_autoinstrument._faults import faults

    faults._said_at.clear()

    for number in range(3):
        ask(str(number))
        assert honeyhive_autoinstrument.flush(5)

    stats = honeyhive_autoinstrument.stats()
    said = [record.message for record in caplog.records if "does not take this key" in record.message]
    honeyhive_autoinstrument.shutdown(5)
    honeyhive_autoinstrument.uninstrument()
    assert stats["spooled"] == 3
    assert len(said) == 1
    assert "hh_wrong" not in said[0]


def test_a_server_without_v1_gets_its_legacy_routes(tmp_path: Path) -> None:
    with FakeHoneyHive(has_v1=False) as server:
        honeyhive_autoinstrument.init(
            api_key=server.key, api_url=server.url, project="mine", home=str(tmp_path / "home"), linger=0.02
        )
        ask("old")
        assert honeyhive_autoinstrument.flush(5)
        honeyhive_autoinstrument.shutdown(5)
        honeyhive_autoinstrument.uninstrument()

        assert asked(server) == ["old"]
        (session,) = server.sessions.values()
        assert session["project"] == "mine"
        assert server.problems == []


def test_many_calls_arrive_once_each_in_batches(recording: Recording, fake_provider: FakeProvider) -> None:
    for number in range(500):
        ask(f"number {number}")

    assert len(recording.events()) == 500
    batches = [request for request in recording.server.requests if request.path.endswith("/batch")]
    assert len(batches) < 250
    assert set(recording.server.arrivals.values()) == {1}


def test_a_program_with_an_unreachable_server_ends_soon_and_keeps_its_events(run: Run, tmp_path: Path) -> None:
    env = {"HONEYHIVE_API_KEY": "hh_test_0123456789abcdefghijkl", "HONEYHIVE_API_URL": "http://127.0.0.1:9"}

    result = run(LAUNCHER, "python", app("one_completion.py"), env=env)

    assert (result.status, result.out) == (0, "hello\n")
    (batch,) = (tmp_path / "home" / "spool").glob("*/*.batch")
    assert b"Say hello" in batch.read_bytes()


def test_a_sigterm_while_the_end_waits_for_the_server_loses_nothing(
    environ: dict[str, str], fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    fake_honeyhive.misbehave(delay_s=20)
    process = subprocess.Popen(
        [LAUNCHER, "python", app("asks_many.py")],
        env={**environ, **fake_honeyhive.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ending\n"
    process.send_signal(signal.SIGTERM)

    assert process.wait(20) == -signal.SIGTERM
    process.stdout.close()
    assert sum(map(events_in, (tmp_path / "home" / "spool").glob("*/*.batch"))) == 150


@pytest.mark.slow
def test_with_durability_memory_nothing_touches_the_disk(run: Run, tmp_path: Path) -> None:
    env = {
        "HONEYHIVE_API_KEY": "hh_test_0123456789abcdefghijkl",
        "HONEYHIVE_API_URL": "http://127.0.0.1:9",
        "HONEYHIVE_DURABILITY": "memory",
    }

    result = run(LAUNCHER, "python", app("one_completion.py"), env=env)

    assert (result.status, result.out) == (0, "hello\n")
    assert not (tmp_path / "home").exists()


def test_our_own_requests_are_invisible_to_opentelemetry(recording: Recording) -> None:
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    seen: list[bool] = []
    transport_send = httpx.HTTPTransport.handle_request

    def watch(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if str(request.url).startswith(recording.server.url):
            seen.append(is_instrumentation_enabled())
        return transport_send(self, request)

    httpx.HTTPTransport.handle_request = watch  # type: ignore[method-assign]
    try:
        ask("hello")
        recording.events()
    finally:
        httpx.HTTPTransport.handle_request = transport_send  # type: ignore[method-assign]
    assert seen
    assert not any(seen)
