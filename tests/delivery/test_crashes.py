"""Programs that end in every way, at random moments, with the server there or cut off: what a call's return promised holds.

A call counts from the moment it has returned: the program notes it in a file then, see tests/apps/crashes.py. A later
process is all that comes after.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orjson
import pytest

from tests.conftest import BIN, FAULT_MARK, app
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.server import RESET, Reply, Request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SEED = int(os.environ.get("CRASHES_SEED") or random.SystemRandom().randrange(1_000_000))
RUNS = 7
"""In each group: an ending, a durability, a server that stays or goes. 8 x 2 x 2 groups, and the long runs: 232."""
LANES = 3
LINGER_S = 0.5
"""The setting's default. Half of the runs have a short one, so that requests are under way at any moment."""
SHORT_LINGER_S = 0.02
ONE_SEND_S = 2.0
"""A batch's tries in memory end after about two seconds; then it is on disk."""
WINDOW_S = LINGER_S + ONE_SEND_S
"""With on_failure, what a process that is killed may lose: calls that returned in its last moments."""
FIRST_CALL_S = 60.0
HANGS_AFTER_S = 45.0
SWALLOWED_S = 5.0
"""A Ctrl-C that the program has not seen for so long never comes."""

STATUS = {"kill": -9, "term": -15, "int": -2, "exit": 0, "exception": 1, "_exit": 7, "exec": 5, "storm": 0}
"""Endings, and the exit status of a program that ends so."""
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
KILLED = ("kill", "_exit")
"""Endings that leave a process no moment."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run."""

    name: str
    ending: str
    durability: str
    is_cut: bool
    """The server goes away when the program ends; else it stays."""
    after_s: float
    """From the first call's return to the end."""
    threads: int
    daemons: bool
    pace_s: float
    linger_s: float
    later: str
    """The process that comes after it: `command` (honeyhive-events send) or `call` (a program that asks once)."""
    seed: int

    @property
    def group(self) -> str:
        long = " (long)" if self.pace_s else ""
        return f"{self.ending}, {self.durability}, server {'cut' if self.is_cut else 'up'}{long}"


@dataclass(kw_only=True)
class Run:
    """What came of a Plan."""

    plan: Plan
    returned: dict[str, float] = field(default_factory=dict)
    """Texts of calls that have returned, and when."""
    deaths: dict[str, float] = field(default_factory=dict)
    """Processes that had no moment to do anything, and when they were still alive."""
    stored: dict[str, set[str]] = field(default_factory=dict)
    """Ids that the server has, and the texts that came under them."""
    arrivals: Counter[str] = field(default_factory=Counter)
    early_arrivals: Counter[str] = field(default_factory=Counter)
    """Those before the later process."""
    status: int | None = None
    end_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def texts(self) -> set[str]:
        return {text for texts in self.stored.values() for text in texts}

    @property
    def missing(self) -> list[str]:
        stored = self.texts
        return [text for text in self.returned if text not in stored]

    @property
    def repeated(self) -> dict[str, str]:
        """Texts that came more than once, and when."""
        return {
            text: f"{self.early_arrivals[event_id]} of {count} times from the program itself"
            for event_id, count in self.arrivals.items()
            if count > 1
            for text in self.stored[event_id]
        }


class WatchedHoneyHive(FakeHoneyHive):
    """Remembers every text that came under an id, not the last one only. Does not look at requests that were cut off."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.texts: dict[str, set[str]] = {}

    def answer(self, request: Request) -> Reply:
        if len(request.body) < int(request.headers.get("content-length") or 0):
            return RESET  # its sender was killed in the middle of it, or the server was cut off
        return super().answer(request)

    def _store(self, events: list[dict[str, Any]]) -> None:
        super()._store(events)
        with self.lock:
            for event in events:
                text = event["inputs"]["chat_history"][0]["content"]
                self.texts.setdefault(event["event_id"], set()).add(text)


class Hangs(Exception):
    """A process did not say in time what it had to say."""


class Lane:
    """One run at a time: a zygote of programs, and a port that is the server's."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = 0
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        kept.pop("PYTHONPATH", None)
        self.environ = {**kept, "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', '')}"}
        self._errors = (folder / "zygote").open("wb")
        self._zygote = subprocess.Popen(
            [BIN / "honeyhive-instrument", "python", app("crashes.py")],
            env={**self.environ, "HONEYHIVE_HOME": str(folder / "home")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        self._said = b""
        self._child = 0

    def start(self, **order: object) -> int:
        """Have a program started; its process id."""
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(orjson.dumps(order) + b"\n")
        self._child = self._hear("started", FIRST_CALL_S)
        return self._child

    def wait(self) -> int:
        """The program's exit status, when it and all that it forked are gone.

        :raises Hangs: they do not go; they are ended.
        """
        try:
            status = self._hear("ended", HANGS_AFTER_S)
            self._hear("gone", HANGS_AFTER_S)
        except Hangs:
            with suppress(ProcessLookupError):
                os.killpg(self._child, signal.SIGUSR1)  # each says where it is
                time.sleep(1)
                os.killpg(self._child, signal.SIGKILL)
            while self._hear_word(HANGS_AFTER_S)[0] != "gone":
                pass
            raise
        return status

    def has_said_something(self) -> bool:
        return b"\n" in self._said or bool(select.select([self._zygote.stdout], [], [], 0)[0])

    def wait_until_ready(self) -> None:
        self._hear("ready", 120)

    def close(self) -> None:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        try:
            self._zygote.wait(20)
        except subprocess.TimeoutExpired:
            self._zygote.kill()
            self._zygote.wait()
        self._zygote.stdout.close()
        self._errors.close()

    def _hear(self, word: str, seconds: float) -> int:
        said, number = self._hear_word(seconds)
        assert said == word, f"the zygote says {said} for {word}"
        return number

    def _hear_word(self, seconds: float) -> tuple[str, int]:
        assert self._zygote.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._said:
            ready, _, _ = select.select([self._zygote.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Hangs
            more = self._zygote.stdout.read(4096)
            assert more, "the zygote is gone"
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        word, _, number = line.decode().partition(" ")
        return word, int(number or 0)


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Lane]]:
    folder = tmp_path_factory.mktemp("lanes")
    open_lanes: list[Lane] = []
    try:
        for number in range(LANES):
            open_lanes.append(Lane(folder / str(number)))  # noqa: PERF401  (those that are open are closed)
        for lane in open_lanes:
            lane.wait_until_ready()
        yield open_lanes
    finally:
        for lane in open_lanes:
            lane.close()


def plans_of(ending: str, chance: random.Random) -> Iterator[Plan]:
    """The runs of an ending, at random moments; the first moment of all is among them."""

    def plan(number: int, durability: str, is_cut: bool, **more: Any) -> Plan:
        standard = {
            "after_s": 0.0 if number == 1 else chance.uniform(0, 0.6),
            "threads": chance.randint(1, 3),
            "pace_s": 0.0,
            "linger_s": chance.choice([LINGER_S, SHORT_LINGER_S]),
        }
        return Plan(
            name=f"{ending}-{durability}-{'cut' if is_cut else 'up'}-{number}",
            ending=ending,
            durability=durability,
            is_cut=is_cut,
            daemons=chance.random() < 0.5,
            later="call" if number == 0 else "command",
            seed=chance.randrange(1_000_000),
            **{**standard, **more},
        )

    for durability in ("always", "on_failure"):
        for is_cut in (False, True):
            for number in range(RUNS):
                yield plan(number, durability, is_cut)
    if ending in KILLED:
        # Longer than what may be lost: the calls before that have to be there. Slower, for the server's sake.
        for is_cut in (False, True):
            for number in (100, 101):
                after_s = chance.uniform(3.2, 4.2)
                yield plan(number, "on_failure", is_cut, after_s=after_s, threads=2, pace_s=0.02, linger_s=LINGER_S)


def carry_out(plan: Plan, lane: Lane) -> Run:
    """The program, its end, and the process that comes after it."""
    run = Run(plan=plan)
    notes, output, home = (lane.folder / f"{plan.name}.{what}" for what in ("notes", "output", "home"))
    server = WatchedHoneyHive(lane.port)
    with server:
        lane.port = server.port
        order: dict[str, Any] = {
            "run": plan.name,
            "home": str(home),
            "url": server.url,
            "key": server.key,
            "notes": str(notes),
            "output": str(output),
            "durability": plan.durability,
            "ending": "signal" if plan.ending in SIGNALS else plan.ending,
            "after_s": plan.after_s,
            "threads": plan.threads,
            "daemons": plan.daemons,
            "pace_s": plan.pace_s,
            "linger_s": plan.linger_s,
            "seed": plan.seed,
        }
        end_program(lane, run, order, notes, server)
        with server.lock:
            run.early_arrivals = Counter(server.arrivals)
        if plan.is_cut:
            server.start()
        if plan.later == "call":
            ask_later(lane, run, {**order, "ending": "later", "durability": "on_failure"})
        else:
            send_later(lane, run, order)
        run.problems += [f"still on disk: {path.name}" for path in waiting_files(home)]
        run.problems += server.problems
        with server.lock:
            run.stored = {event_id: set(texts) for event_id, texts in server.texts.items()}
            run.arrivals = Counter(server.arrivals)
    read_notes(notes, run)
    said = output.read_text() if output.exists() else ""
    if FAULT_MARK in said:
        run.problems.append(f"a fault of our own: {said[said.index(FAULT_MARK) :][:200]}")
    if not run.returned or run.status != STATUS[plan.ending]:
        run.problems.append(f"status {run.status}, {len(run.returned)} calls returned; it said: ...{said[-5000:]}")
    return run


def end_program(lane: Lane, run: Run, order: dict[str, Any], notes: Path, server: FakeHoneyHive) -> None:
    plan = run.plan
    child = lane.start(**order)
    deadline = time.monotonic() + FIRST_CALL_S
    while not (notes.exists() and notes.stat().st_size):
        if lane.has_said_something() or time.monotonic() > deadline:
            run.problems.append("no call returned")
            break
        time.sleep(0.001)
    else:
        time.sleep(plan.after_s)  # the moment of the end, which is any; a program that ends by itself counts it, too
        run.deaths["main"] = time.time()
        if plan.ending in SIGNALS:
            os.kill(child, SIGNALS[plan.ending])
    if plan.is_cut:
        server.stop()
    if plan.ending == "int":
        see_interrupted(lane, child, notes)
    began = time.monotonic()
    try:
        run.status = lane.wait()
    except Hangs:
        run.problems.append("it hangs")
    run.end_s = time.monotonic() - began


def see_interrupted(lane: Lane, child: int, notes: Path) -> None:
    """Press Ctrl-C again where it went lost: Rust extensions below LiteLLM print what an isinstance() raises, and go on."""
    for _ in range(5):
        deadline = time.monotonic() + SWALLOWED_S
        while time.monotonic() < deadline:
            if lane.has_said_something() or b"interrupted:" in notes.read_bytes():
                return
            time.sleep(0.01)
        os.kill(child, signal.SIGINT)


def ask_later(lane: Lane, run: Run, order: dict[str, Any]) -> None:
    lane.start(**order)
    try:
        status = lane.wait()
    except Hangs:
        run.problems.append("the later program hangs")
    else:
        if status:
            run.problems.append(f"the later program ended with {status}")


def send_later(lane: Lane, run: Run, order: dict[str, Any]) -> None:
    variables = {
        "HONEYHIVE_HOME": order["home"],
        "HONEYHIVE_API_URL": order["url"],
        "HONEYHIVE_API_KEY": order["key"],
    }
    command = [BIN / "honeyhive-events", "send"]
    done = subprocess.run(
        command, env={**lane.environ, **variables}, capture_output=True, text=True, timeout=90, check=False
    )
    if done.returncode or FAULT_MARK in done.stderr:
        run.problems.append(f"honeyhive-events send: status {done.returncode}: {done.stdout} {done.stderr[-1000:]}")


def waiting_files(home: Path) -> list[Path]:
    spool = home / "spool"
    return [*spool.glob("*/*.batch"), *spool.glob("*/*.journal"), *spool.glob("*/rejected/*")]


def read_notes(notes: Path, run: Run) -> None:
    """A line is a text and when its call had returned, or what a process has to say of its end."""
    if not notes.exists():
        return
    for line in notes.read_text().splitlines():
        word, _, at = line.rpartition(" ")
        if word.startswith("ends:"):
            run.deaths[word.removeprefix("ends:")] = float(at)
        elif word.startswith("interrupted:"):
            continue
        elif word.startswith("failed:"):
            run.problems.append(f"a child of the storm ended otherwise: {word}")
        else:
            run.returned[word] = float(at)


def is_killed(plan: Plan, text: str) -> bool:
    """Whether the process of a call had no moment at its end."""
    who = text.split("/")[1]
    return who.startswith("_exits") or (who == "main" and plan.ending in KILLED)


def may_be_lost(run: Run, text: str) -> bool:
    if run.plan.durability == "always" or not is_killed(run.plan, text):
        return False
    return run.returned[text] >= run.deaths[text.split("/")[1]] - WINDOW_S


def judge(run: Run) -> list[str]:
    """What in a run is not as promised."""
    wrong = list(run.problems)
    lost = [text for text in run.missing if not may_be_lost(run, text)]
    if lost:
        wrong.append(f"lost {len(lost)} of {len(run.returned)} returned calls, as {lost[0]}")
    wrong += [f"{event_id} came as {sorted(texts)}" for event_id, texts in run.stored.items() if len(texts) > 1]
    ids = Counter(text for texts in run.stored.values() for text in texts)
    wrong += [f"{text} came under {count} ids" for text, count in ids.items() if count > 1]
    repeated = [
        f"{text} ({when})"
        for text, when in run.repeated.items()
        if not run.plan.is_cut and not is_killed(run.plan, text)
    ]
    if repeated:
        wrong.append(f"{len(repeated)} came twice, with the server there and nobody killed, as {repeated[0]}")
    return [f"{run.plan.name}: {problem}" for problem in wrong]


def summary(group: str, runs: list[Run]) -> str:
    return (
        f"{group}: {len(runs)} runs, {sum(len(run.returned) for run in runs)} returned calls,"
        f" {sum(len(run.missing) for run in runs)} missing, {sum(len(run.repeated) for run in runs)} duplicates,"
        f" slowest end {max(run.end_s for run in runs):.1f} s"
    )


@pytest.mark.parametrize("ending", STATUS)
def test_a_returned_call_survives_the_end_of_its_program(ending: str, lanes: list[Lane]) -> None:
    free: SimpleQueue[Lane] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def in_a_free_lane(plan: Plan) -> Run:
        lane = free.get()
        try:
            return carry_out(plan, lane)
        finally:
            free.put(lane)

    plans = list(plans_of(ending, random.Random(f"{SEED} {ending}")))
    with ThreadPoolExecutor(LANES) as pool:
        runs = list(pool.map(in_a_free_lane, plans))

    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.plan.group, []).append(run)
    report = "\n".join(summary(group, members) for group, members in groups.items())
    print(f"\nseed {SEED}\n{report}")
    wrong = [problem for run in runs for problem in judge(run)]
    assert wrong == [], f"CRASHES_SEED={SEED}\n{report}\n" + "\n".join(wrong)
    for group, members in groups.items():
        if "(long)" in group:
            early = [t for run in members for t, at in run.returned.items() if at < run.deaths["main"] - WINDOW_S]
            assert early, f"{group}: nothing returned early enough to be safe"
