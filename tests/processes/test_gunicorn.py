"""gunicorn's workers: forked, replaced, reloaded, ended by their master. Each records its own requests, and delivers what it
has before it ends."""

from __future__ import annotations

import importlib.util
import shutil
import signal
from pathlib import Path

import pytest

from tests.fakes.honeyhive import FakeHoneyHive
from tests.processes.conftest import APPS, LAST, Serve, check_each_arrived_once, check_every_answer_has_arrived

pytestmark = pytest.mark.timeout(180)

WORKERS = 2
GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--no-control-socket")
UVICORN_WORKER = (
    "uvicorn_worker.UvicornWorker" if importlib.util.find_spec("uvicorn_worker") else "uvicorn.workers.UvicornWorker"
)
"""A package of its own from some release of uvicorn on."""

VARIANTS = {
    "sync": ("wsgi_app:app",),
    "sync, preloaded": ("--preload", "wsgi_app:app"),
    "gthread": ("-k", "gthread", "--threads", "4", "wsgi_app:app"),
    "gthread, preloaded": ("-k", "gthread", "--threads", "4", "--preload", "wsgi_app:app"),
    "gevent": ("-k", "gevent", "wsgi_app:app"),
    "uvicorn": ("-k", UVICORN_WORKER, "asgi_app:app"),
    "uvicorn, preloaded": ("-k", UVICORN_WORKER, "--preload", "asgi_app:app"),
}


@pytest.mark.parametrize(
    "variant",
    [name if name == "sync, preloaded" else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS],
)
def test_no_event_of_any_worker_is_lost_when_the_master_is_ended_right_after_the_last_answer(
    serve: Serve, fake_honeyhive: FakeHoneyHive, home: Path, variant: str
) -> None:
    words = VARIANTS[variant]
    imports = 1 if "--preload" in words else WORKERS
    server = serve(*GUNICORN, "--workers", WORKERS, *words, imports=imports)
    server.ask_until(lambda pids: len(pids) >= WORKERS, "request")
    server.ask(*LAST)
    assert len(fake_honeyhive.events) < len(server.answered), "nothing was unsent at the end"

    status = server.end(signal.SIGTERM)

    assert status == 0
    check_each_arrived_once(fake_honeyhive, home, server.answered)


@pytest.mark.slow
@pytest.mark.parametrize(
    "preload", [pytest.param(("--preload",), id="preloaded"), pytest.param((), id="not preloaded")]
)
def test_no_event_of_a_worker_that_max_requests_replaces_is_lost(
    serve: Serve, fake_honeyhive: FakeHoneyHive, home: Path, preload: tuple[str, ...]
) -> None:
    options = (*preload, "--workers", WORKERS, "--max-requests", 4)
    server = serve(*GUNICORN, *options, "wsgi_app:app", imports=1 if preload else WORKERS)

    server.ask_until(lambda pids: len(pids) >= 3 * WORKERS, "request")
    status = server.end(signal.SIGTERM)

    assert status == 0
    check_every_answer_has_arrived(fake_honeyhive, home, server)


@pytest.mark.slow
def test_no_event_of_a_worker_that_a_changed_file_replaces_is_lost(
    serve: Serve, fake_honeyhive: FakeHoneyHive, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    file = shutil.copy(APPS / "wsgi_app.py", folder)
    server = serve(*GUNICORN, "--reload", "wsgi_app:app", cwd=folder)

    before = server.ask("one", "two", "three")
    with Path(file).open("a") as program:
        program.write("# changed\n")
    server.ask_until(lambda pids: bool(pids - before), "meanwhile")
    server.ask(*LAST)
    status = server.end(signal.SIGTERM)

    assert status == 0
    check_every_answer_has_arrived(fake_honeyhive, home, server)
