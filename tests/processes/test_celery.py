"""Celery's workers. Children of the prefork pool are billiard's, which end past exit handlers and multiprocessing's
finalizers; the other pools live in the worker's own process."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from celery import Celery

from tests.fakes.honeyhive import FakeHoneyHive
from tests.processes.conftest import ENDED_WITHIN_S, LAST, READY_WITHIN_S, Program, Start, check_each_arrived_once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CHILDREN = 2
PREFORK = ("--pool", "prefork", "-c", CHILDREN)
CELERYS_OWN_END_S = 6.0
"""Its loop looks at the signal between two waits of 2 s for messages; a child of the pool sleeps 1 s before it ends."""


class Worker:
    """A celery worker, and what was sent to it."""

    def __init__(self, start: Start, folder: Path, *options: object, **variables: str) -> None:
        for name in ("outbox", "messages", "control", "done"):
            (folder / name).mkdir(parents=True)
        self._sender = Celery("sender", broker="filesystem://localhost")
        self._sender.conf.broker_transport_options = {
            "data_folder_in": str(folder / "messages"),
            "data_folder_out": str(folder / "outbox"),
            "control_folder": str(folder / "control"),
        }
        self._folder = folder
        self._done = folder / "done"
        self.sent: list[str] = []
        quick = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")
        self.program: Program = start(
            "celery", "-A", "tasks", "worker", *quick, *options, QUEUE=str(folder), **variables
        )
        self.program.wait_for("celery@")  # its banner
        self.program.wait_for(" ready.")

    def ask(self, *texts: str) -> None:
        """Send a task for each text, and wait until all are done."""
        for text in texts:
            self._sender.send_task("ask", args=[text])
            self.sent.append(text)
        for message in (self._folder / "outbox").iterdir():
            # Renamed, because kombu writes its files in place: a worker that reads one half written ends of it.
            message.rename(self._folder / "messages" / message.name)
        deadline = time.monotonic() + READY_WITHIN_S
        while self._missing():
            assert self.program.process.poll() is None, f"the worker ended:\n{self.program.said[-4000:]}"
            assert time.monotonic() < deadline, f"{self._missing()} are not done:\n{self.program.said[-4000:]}"
            time.sleep(0.01)

    def ask_until(self, processes: int) -> None:
        """Send tasks until so many processes have done some."""
        while len(self.pids) < processes:
            begin = len(self.sent)
            self.ask(*(f"task {number}" for number in range(begin, begin + 4)))

    def end(self) -> int:
        """A warm shutdown; the status."""
        return self.program.end(signal.SIGTERM, within_s=ENDED_WITHIN_S + CELERYS_OWN_END_S)

    @property
    def pids(self) -> set[str]:
        return {(self._done / text).read_text() for text in self.sent}

    def _missing(self) -> list[str]:
        # A file is there before its content.
        return [text for text in self.sent if not _is_written(self._done / text)]


def _is_written(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "processes", "imports"),
    [
        pytest.param(PREFORK, CHILDREN, "module", id="prefork"),
        pytest.param(PREFORK, CHILDREN, "task", id="prefork, LiteLLM imported by tasks"),
        pytest.param(("--pool", "threads", "-c", "4"), 1, "module", id="threads"),
        pytest.param(("--pool", "solo"), 1, "module", id="solo"),
    ],
)
def test_no_event_of_any_task_is_lost_in_a_warm_shutdown_right_after_the_last_one(
    start: Start,
    fake_honeyhive: FakeHoneyHive,
    home: Path,
    tmp_path: Path,
    options: tuple[object, ...],
    processes: int,
    imports: str,
) -> None:
    worker = Worker(start, tmp_path / "queue", *options, IMPORTS=imports)
    worker.ask_until(processes)
    for text in LAST:
        worker.ask(text)
    assert len(fake_honeyhive.events) < len(worker.sent), "nothing was unsent at the end"

    assert worker.end() == 0
    check_each_arrived_once(fake_honeyhive, home, worker.sent)


def test_no_event_of_a_child_that_has_done_its_share_of_tasks_is_lost(
    start: Start, fake_honeyhive: FakeHoneyHive, home: Path, tmp_path: Path
) -> None:
    worker = Worker(start, tmp_path / "queue", *PREFORK, "--max-tasks-per-child", "2")
    worker.ask_until(2 * CHILDREN)

    assert worker.end() == 0
    check_each_arrived_once(fake_honeyhive, home, worker.sent)
