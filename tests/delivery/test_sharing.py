"""Many processes share one folder of the spool: each file goes out once, whoever sends it and whoever is killed."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.delivery.sink import Batch
from tests.apps.replays import record_of, spool_of
from tests.conftest import BIN, Run, app, order_from, wait_until
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.server import RESET, Reply, Request

LAUNCHER = BIN / "honeyhive-instrument"
EVENTS = BIN / "honeyhive-events"

FILES, EVENTS_OF_A_FILE = 200, 3
PROCESSES = 20
ENDED_WITHIN_S = 90
LOCKS = Path("/proc/locks")

Files = list[tuple[str, ...]]
"""The ids in each file."""


class Crowd:
    """Processes that all begin at the same moment. Their output is read at the end; none of them says much."""

    def __init__(self, ways: list[str], env: dict[str, str]) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, app("replays.py"), way],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for way in ways
        ]
        self.ways = dict(zip((process.pid for process in self.processes), ways, strict=True))
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def begin(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def end(self) -> list[tuple[str, int, str, str]]:
        """(way, status, output, errors) of each, when all have ended."""
        ends = []
        for process in self.processes:
            out, err = process.communicate(timeout=ENDED_WITHIN_S)
            ends.append((self.ways[process.pid], process.returncode, out, err))
        return ends

    def kill(self, pid: int) -> bool:
        """Whether it was still alive."""
        (process,) = (each for each in self.processes if each.pid == pid)
        if process.poll() is not None:
            return False
        process.kill()
        process.wait()
        return True

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


class Patient(FakeHoneyHive):
    """Does not take the first part of a request for all of it: its client was killed in the middle."""

    def answer(self, request: Request) -> Reply:
        is_whole = len(request.body) == int(request.headers.get("content-length", 0))
        return super().answer(request) if is_whole else RESET


@pytest.fixture
def fake_honeyhive() -> Iterator[FakeHoneyHive]:
    with Patient() as server:
        yield server
    assert server.problems == [], "bodies that break the contract"


@pytest.fixture
def env(environ: dict[str, str], fake_honeyhive: FakeHoneyHive) -> dict[str, str]:
    return {**environ, **fake_honeyhive.env, "HONEYHIVE_LINGER": "0"}


def put_files(env: dict[str, str], count: int = FILES) -> Files:
    """Files that wait for the server that the settings name."""
    spool = spool_of(Config.from_env(env))
    files = []
    for number in range(count):
        records = [record_of(f"file {number} event {part}") for part in range(EVENTS_OF_A_FILE)]
        spool.put(Batch.of(records))
        files.append(tuple(record.id for record in records))
    return files


@pytest.fixture
def crowd(env: dict[str, str]) -> Iterator[Crowd]:
    started = Crowd([("upload", "send")[number % 2] for number in range(PROCESSES)], env)
    yield started
    started.stop()


def waiting(home: Path) -> list[Path]:
    return [*(home / "spool").glob("*/*.batch"), *(home / "spool").glob("*/*.journal")]


def holder_of_a_lock(home: Path, pids: set[int]) -> int | None:
    """Which of these processes holds a lock on a file of the spool, as Linux tells."""
    inodes = {path.stat().st_ino for path in (home / "spool").glob("*/.*")}
    for line in LOCKS.read_text().splitlines():
        words = [word for word in line.split() if word != "->"]
        # 1: POSIX ADVISORY WRITE 4242 fd:01:1234 0 EOF
        if int(words[4]) in pids and int(words[5].rpartition(":")[2]) in inodes:
            return int(words[4])
    return None


def assert_all_own_events_arrived(ends: list[tuple[str, int, str, str]], server: FakeHoneyHive) -> None:
    own = 0
    for way, _, out, _ in ends:
        if way == "upload":
            stats: dict[str, Any] = json.loads(out)
            own += stats["own"]
            assert (stats["pending"], stats["spooled"], stats["rejected"], stats["dropped"]) == (0, 0, 0, {})
            assert stats["created"] == stats["sent"]
    names = Counter(event["event_name"] for event in server.events)
    assert names["own"] == own > 0


def test_twenty_processes_that_replay_one_folder_at_once_send_each_file_once(
    env: dict[str, str], crowd: Crowd, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    files = put_files(env)

    crowd.begin()
    ends = crowd.end()

    arrivals = fake_honeyhive.arrivals
    assert {each: arrivals[each] for ids in files for each in ids if arrivals[each] != 1} == {}
    assert set(arrivals.values()) == {1}
    assert waiting(tmp_path / "home") == []
    assert [(status, err) for _, status, _, err in ends if status or "Traceback" in err] == []
    assert_all_own_events_arrived(ends, fake_honeyhive)


@pytest.mark.skipif(not LOCKS.exists(), reason="who holds a lock is told by Linux only")
@pytest.mark.slow
def test_when_those_that_send_are_killed_the_others_send_the_rest(
    env: dict[str, str], crowd: Crowd, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    files = put_files(env)
    fake_honeyhive.misbehave(status=200, delay_s=0.01)  # so that there is a middle
    alive = {process.pid for process in crowd.processes}
    killed: list[int] = []

    def kill_the_holder() -> bool:
        holder = holder_of_a_lock(tmp_path / "home", alive)
        if holder is None or not crowd.kill(holder):
            return False
        alive.discard(holder)
        killed.append(holder)
        return True

    def arrived() -> int:
        return sum(1 for ids in files if fake_honeyhive.arrivals[ids[0]])

    crowd.begin()
    for part in (0.1, 0.2, 0.3, 0.4, 0.5):
        wait_until(lambda part=part: arrived() >= FILES * part, ENDED_WITHIN_S, "some of the files")  # type: ignore[misc]
        wait_until(kill_the_holder, what="a process that is sending")
    assert arrived() < FILES, "all was over before the last one was killed"
    for pid in [each for each in alive if crowd.ways[each] == "send"][:3]:  # some that only wait, too
        crowd.kill(pid)
    ends = crowd.end()

    arrivals = fake_honeyhive.arrivals
    assert [ids for ids in files if not all(arrivals[each] for each in ids)] == []
    repeated = sum(max(arrivals[each] for each in ids) - 1 for ids in files)
    assert repeated <= len(killed), "more than the file on its way when a process was killed has arrived again"
    assert {arrivals[event["event_id"]] for event in fake_honeyhive.events if event["event_name"] == "own"} <= {1}
    assert waiting(tmp_path / "home") == []
    assert len(killed) == 5
    others = [(status, err) for _, status, _, err in ends if status != -signal.SIGKILL]
    assert [(status, err) for status, err in others if status or "Traceback" in err] == []


@pytest.mark.slow
def test_honeyhive_events_send_and_an_instrumented_program_share_a_folder(
    env: dict[str, str], run: Run, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [LAUNCHER, "python", app("asks_on_demand.py")],
        env={**env, "HONEYHIVE_LINGER": "0.05"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    order = functools.partial(order_from, process)

    try:
        order("before")
        wait_until(lambda: len(fake_honeyhive.events) == 1 and fake_honeyhive.is_quiet, what="the first event")
        fake_honeyhive.stop()
        for number in range(3):
            order(f"away {number}")
        wait_until(lambda: len(waiting(tmp_path / "home")) > 0, what="a file that waits")
        put_files(env, 20)
        fake_honeyhive.start()
        order("back")
        sent = run(EVENTS, "send", env=env)
        order("after")
        wait_until(lambda: len(fake_honeyhive.events) == 6 + 20 * EVENTS_OF_A_FILE, 40, "all events")
        wait_until(lambda: waiting(tmp_path / "home") == [], what="an empty folder")
    finally:
        process.communicate(timeout=60)

    assert process.returncode == 0
    assert sent.status == 0, sent.err
    assert set(fake_honeyhive.arrivals.values()) == {1}
    asked = {
        event["inputs"]["chat_history"][0]["content"]
        for event in fake_honeyhive.events
        if event["event_type"] == "model"
    }
    assert asked == {"before", "away 0", "away 1", "away 2", "back", "after"}
