"""200 000 calls at full speed: whatever the server does, each event is accounted for, memory and disk keep their bounds, and
no call waits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from honeyhive_autoinstrument.delivery.spool import Spool
from tests.conftest import BIN, FAULT_MARK, Run, app
from tests.fakes.honeyhive import KEY
from tests.fakes.server import Reply, Request, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CALLS = 200_000
MIB = 1024 * 1024
QUEUE_MAX_BYTES = 64 * MIB
"""The setting's default."""
BESIDE_THE_QUEUE = 64 * MIB
"""What may be taken on top: estimates that are too small, events being built, batches on their way, and what Python's
allocator does not give back."""
SPOOL_MAX_BYTES = 32 * MIB
"""About 15 000 events: soon full."""
LONGEST_CALL_US = 2_000_000
"""A garbage collection while the queue is full takes 0.3 s, on a busy machine three times that. How long the machine stood
still meanwhile is not the call's."""
BATCH = 100
"""The setting's default."""
PART = 20
"""The server at 5 % takes one event of so many."""
OVERFLOW = {"queue full", "spool full"}
"""Why an event may be given up here."""

EVENT_ID = re.compile(rb'"event_id":"([0-9a-f-]{36})"')
Program = dict[str, Any]


class CountingServer(Server):
    """Counts the ids that it is sent and keeps nothing else, so that it is not what limits the speed."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: Counter[str] = Counter()
        self.progress: Path | None = None
        """Where the program says how many calls it has made. While it is set, one of PART of these is taken and a batch, not
        more."""
        self._turn = threading.Lock()

    @property
    def env(self) -> dict[str, str]:
        return {"HONEYHIVE_API_KEY": KEY, "HONEYHIVE_API_URL": self.url}

    def answer(self, request: Request) -> Reply:
        with self.lock:
            self.requests.clear()
        if not request.path.endswith("/events/batch"):
            return Reply.of({"session_id": request.json.get("session_id")})
        ids = [each.decode() for each in EVENT_ID.findall(request.body)]
        with self._turn:
            while len(self.arrivals) + len(ids) > self._allowed() and not self.stopping.is_set():
                time.sleep(0.005)
            self.arrivals.update(ids)
        return Reply.of({"success": True, "event_ids": ids})

    def _allowed(self) -> float:
        progress = self.progress  # another thread's, and it may change while a request waits for its turn
        if progress is None:
            return float("inf")
        return BATCH + int(progress.read_bytes() or b"0") / PART


@contextmanager
def calling(env: dict[str, str]) -> Iterator[Callable[[], Program]]:
    """The program under the launcher, at the moment when it has made its calls. The function lets it deliver and end."""
    process = subprocess.Popen(
        [BIN / "honeyhive-instrument", sys.executable, app("full_speed.py"), str(CALLS)],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def end() -> Program:
        out, err = process.communicate("go on\n", timeout=400)
        assert process.returncode == 0, err
        assert FAULT_MARK not in err, err
        return json.loads(out)  # type: ignore[no-any-return]

    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if said != "called\n":
            pytest.fail(f"the program ended before its calls did: {said}{process.communicate(timeout=60)[1]}")
        yield end
    finally:
        process.kill()
        process.communicate()


def stored_ids(home: Path) -> list[str]:
    """Ids of the events that wait on disk."""
    (folder,) = (home / "spool").iterdir()
    spool = Spool(str(home), folder.name, max_bytes=1 << 40, max_age_s=1e9)
    batches = [spool.peek(path) for path in spool.paths()]
    assert None not in batches, "a file of our own cannot be read"
    return [record.id for batch in batches if batch is not None for record in batch.records]


def assert_bounds_held(program: Program) -> None:
    stats = program["stats"]
    assert stats["created"] == CALLS
    assert program["unbalanced"] == [], "the ledger did not add up at some moment"
    assert stats["pending"] == 0
    assert stats["sent"] + stats["spooled"] + stats["rejected"] + sum(stats["dropped"].values()) == CALLS
    assert stats["rejected"] == 0
    assert set(stats["dropped"]) <= OVERFLOW
    assert stats["faults"] == {}
    assert program["us"]["max"] < LONGEST_CALL_US, program["us"]
    assert program["growth"] <= QUEUE_MAX_BYTES + BESIDE_THE_QUEUE


def say(what: str, program: Program, record_property: Callable[[str, object], None]) -> None:
    figures = {
        "calls per s": round(CALLS / program["seconds"]),
        "us": {name: round(value) for name, value in program["us"].items()},
        "growth in MiB": round(program["growth"] / MIB, 1),
        "disk in MiB": round(program["disk"] / MIB, 1),
        "at most": program["at_most"],
    }
    if "stats" in program:
        parts = ("sent", "spooled", "dropped")
        figures["after the calls"] = {part: program["after_the_calls"][part] for part in ("pending", *parts)}
        figures["at the end"] = {part: program["stats"][part] for part in parts}
        figures["delivered in s"] = round(program["delivery_seconds"], 1)
    record_property(what, figures)
    print(f"\n{what}:", json.dumps(figures))


def test_the_program_without_us_for_comparison(run: Run, record_property: Callable[[str, object], None]) -> None:
    finished = run(sys.executable, app("full_speed.py"), CALLS, "bare", timeout=300)

    assert finished.status == 0, finished.err
    program = json.loads(finished.out)
    say("without us", program, record_property)
    assert program["us"]["max"] < LONGEST_CALL_US


def test_a_healthy_server_gets_all_that_is_not_counted_as_dropped_once(
    environ: dict[str, str], record_property: Callable[[str, object], None]
) -> None:
    with CountingServer() as server, calling({**environ, **server.env}) as end:
        program = end()

    say("healthy server", program, record_property)
    assert_bounds_held(program)
    assert program["stats"]["spooled"] == 0
    assert set(server.arrivals.values()) == {1}
    assert len(server.arrivals) == program["stats"]["sent"]


def test_a_server_at_a_twentieth_of_the_speed_fills_disk_and_memory_to_their_bounds(
    environ: dict[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with CountingServer() as server:
        server.progress = tmp_path / "progress"
        server.progress.touch()
        bounded = {"HONEYHIVE_SPOOL_MAX_BYTES": str(SPOOL_MAX_BYTES), "PROGRESS": str(server.progress)}
        with calling({**environ, **server.env, **bounded}) as end:
            sent_by_then = len(server.arrivals)
            server.progress = None  # it has recovered; what is left can be delivered in this test's time
            program = end()

    say("server at 5 %", program, record_property)
    assert_bounds_held(program)
    assert 0 < sent_by_then < CALLS / 10
    assert program["disk"] <= SPOOL_MAX_BYTES
    assert sum(program["stats"]["dropped"].values()) > 0
    assert program["stats"]["spooled"] == 0
    assert set(server.arrivals.values()) == {1}
    assert len(server.arrivals) == program["stats"]["sent"]


def test_without_a_server_the_newest_events_are_on_disk_and_the_others_counted(
    environ: dict[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    nobody = {"HONEYHIVE_API_KEY": KEY, "HONEYHIVE_API_URL": "http://127.0.0.1:9"}
    bounded = {"HONEYHIVE_SPOOL_MAX_BYTES": str(SPOOL_MAX_BYTES)}
    with calling({**environ, **nobody, **bounded}) as end:
        program = end()

    say("no server", program, record_property)
    assert_bounds_held(program)
    assert program["stats"]["sent"] == 0
    assert program["disk"] <= SPOOL_MAX_BYTES
    assert sum(program["stats"]["dropped"].values()) > 0
    kept = stored_ids(tmp_path / "home")
    assert len(set(kept)) == len(kept) == program["stats"]["spooled"] > 0
