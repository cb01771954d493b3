"""uvicorn takes SIGTERM and SIGINT for itself while it runs, and raises them again at its end, under the handlers from
before. LiteLLM may come before its handlers or after them, with the application or with a request."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.fakes.honeyhive import FakeHoneyHive
from tests.processes.conftest import (
    APPS,
    LAST,
    Serve,
    asked,
    check_each_arrived_once,
    check_every_answer_has_arrived,
    kept,
)

pytestmark = pytest.mark.timeout(180)

WORKERS = 2
UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "{port}")


@pytest.mark.parametrize(
    ("number", "status", "imports"),
    [
        pytest.param(signal.SIGTERM, -signal.SIGTERM, "module", id="SIGTERM, with the application"),
        pytest.param(signal.SIGTERM, -signal.SIGTERM, "loop", id="SIGTERM, by a request", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, -signal.SIGTERM, "thread", id="SIGTERM, on a thread", marks=pytest.mark.slow),
        # uvicorn takes the KeyboardInterrupt that SIGINT becomes for itself.
        pytest.param(signal.SIGINT, 0, "module", id="SIGINT, with the application", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 0, "loop", id="SIGINT, by a request", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 0, "thread", id="SIGINT, on a thread", marks=pytest.mark.slow),
    ],
)
def test_no_event_of_a_single_process_is_lost_wherever_it_imports_litellm(
    serve: Serve, fake_honeyhive: FakeHoneyHive, home: Path, number: signal.Signals, status: int, imports: str
) -> None:
    server = serve(*UVICORN, "asgi_app:app", IMPORTS=imports)
    server.ask("first", *LAST)
    assert len(fake_honeyhive.events) < len(server.answered), "nothing was unsent at the end"

    assert server.end(number) == status
    check_each_arrived_once(fake_honeyhive, home, server.answered)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_no_event_of_any_worker_is_lost_when_the_parent_is_ended(
    serve: Serve, fake_honeyhive: FakeHoneyHive, home: Path, number: signal.Signals
) -> None:
    server = serve(*UVICORN, "--workers", WORKERS, "asgi_app:app", imports=WORKERS)
    server.ask_until(lambda pids: len(pids) >= WORKERS, "request")
    server.ask(*LAST)
    assert len(fake_honeyhive.events) < len(server.answered), "nothing was unsent at the end"

    assert server.end(number) == 0
    check_each_arrived_once(fake_honeyhive, home, server.answered)


@pytest.mark.parametrize(
    "delay_s", [pytest.param(0, id="a quick server", marks=pytest.mark.slow), pytest.param(2, id="a slow server")]
)
def test_no_event_is_lost_when_after_ctrl_c_the_parent_ends_workers_that_may_be_delivering(
    serve: Serve, fake_honeyhive: FakeHoneyHive, home: Path, delay_s: int
) -> None:
    # Ctrl-C reaches all of them; the parent sends its workers a SIGTERM within half a second.
    server = serve(*UVICORN, "--workers", WORKERS, "asgi_app:app", imports=WORKERS)
    server.ask_until(lambda pids: len(pids) >= WORKERS, "request")
    server.ask(*LAST)
    fake_honeyhive.misbehave(delay_s=delay_s)

    assert server.end(signal.SIGINT, to_all=True) == 0
    # What was on its way may be kept as well; it then goes out again under the same id.
    assert {*asked(fake_honeyhive), *kept(home)} == set(server.answered)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_no_event_of_a_process_that_a_changed_file_replaces_is_lost(
    serve: Serve,
    fake_honeyhive: FakeHoneyHive,
    home: Path,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    file = shutil.copy(APPS / "asgi_app.py", folder)
    server = serve(*UVICORN, "--reload", "--reload-dir", folder, "asgi_app:app", cwd=folder)

    before = server.ask("one", "two", "three")
    with Path(file).open("a") as program:
        program.write("# changed\n")
    server.ask_until(lambda pids: bool(pids - before), "meanwhile")
    server.ask(*LAST)

    assert server.end(number) == 0
    check_every_answer_has_arrived(fake_honeyhive, home, server)
