"""Forks and pools of the standard library: a child has locks, a queue and threads of its own, and what its parent has not
sent yet stays the parent's."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.honeyhive import FakeHoneyHive
from tests.processes.conftest import ENDED_WITHIN_S, READY_WITHIN_S, Start, check_each_arrived_once

pytestmark = pytest.mark.timeout(180)

HOLDERS = {"Runtime", "Uploader", "Spool", "HttpSink", "Redactor", "Faults"}
"""Some of the classes that have locks; the program finds the others by itself."""
NO_WARNING = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
"""From 3.12 on a fork of a program with threads warns, and LiteLLM's are there as well after a call."""
FORKS_WITHIN_S = 5.0
"""A fork may wait a little for what must not be cut in half, never until another thread is done with it."""


@pytest.mark.parametrize(
    ("durability", "holders"),
    [
        pytest.param("on_failure", HOLDERS, marks=pytest.mark.slow, id="on_failure"),
        pytest.param("always", HOLDERS | {"Journal"}, marks=pytest.mark.slow, id="always"),
    ],
)
def test_a_fork_while_any_lock_is_held_hangs_nobody_and_loses_and_repeats_nothing(
    start: Start, fake_honeyhive: FakeHoneyHive, home: Path, durability: str, holders: set[str]
) -> None:
    program = start("python", "fork_locks.py", HONEYHIVE_DURABILITY=durability)
    program.wait_for("all forked", within_s=120)
    status = program.wait(ENDED_WITHIN_S)
    forks: list[dict[str, Any]] = [json.loads(line) for line in program.said.splitlines() if line.startswith("{")]

    assert status == 0
    assert {fork["owner"] for fork in forks} >= holders, [fork["lock"] for fork in forks]
    assert [fork for fork in forks if fork["status"] != 0] == [], program.said
    assert [fork for fork in forks if fork["took_s"] > FORKS_WITHIN_S] == []
    names = [fork["lock"] for fork in forks]
    check_each_arrived_once(
        fake_honeyhive, home, ["before", *(f"{who} {name}" for name in names for who in ("child", "parent"))]
    )


@pytest.mark.parametrize(
    "method", ["fork", *(pytest.param(name, marks=pytest.mark.slow) for name in ("forkserver", "spawn"))]
)
def test_every_task_of_every_kind_of_child_arrives_once(
    start: Start, fake_honeyhive: FakeHoneyHive, home: Path, method: str
) -> None:
    program = start("python", "pools.py", method)
    program.wait_for("pool", times=6)
    program.wait_for("process")
    status = program.wait(READY_WITHIN_S)

    answered = program.said.split("\n")[:-1]
    assert status == 0, program.said
    assert Counter(line.split()[0] for line in answered) == {"pool": 6, "process": 1, "executor": 3}, program.said
    check_each_arrived_once(fake_honeyhive, home, ["parent", *answered])


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("use", ["unused", pytest.param("used", marks=pytest.mark.slow)])
def test_a_sigterm_that_a_child_has_missed_ends_it_all_the_same(
    start: Start, fake_honeyhive: FakeHoneyHive, home: Path, method: str, use: str
) -> None:
    program = start("python", "missed.py", method, use)
    program.wait_for("the child ended")
    status = program.wait(ENDED_WITHIN_S)

    of_an_event_loop = ["had before: -1", "read: True", "had after: True"] if use == "used" else []
    assert program.said.splitlines() == [*of_an_event_loop, f"the child ended with {-signal.SIGTERM}"]
    assert status == 0
    check_each_arrived_once(fake_honeyhive, home, ["child"])


@pytest.mark.slow
def test_a_sigterm_amid_a_fork_ends_the_new_child_alone_and_sends_nothing_twice(
    start: Start, fake_honeyhive: FakeHoneyHive, home: Path
) -> None:
    program = start("python", "fork_signal.py", **NO_WARNING)
    program.wait_for("the child ended")
    status = program.wait(ENDED_WITHIN_S)

    assert program.said.splitlines() == [f"the grandchild ended with {-signal.SIGTERM}", "the child ended with 0"]
    assert status == 0
    check_each_arrived_once(fake_honeyhive, home, ["child"])


@pytest.mark.slow
def test_a_fork_leaves_sigterm_blocked_where_it_was_and_nowhere_else(start: Start) -> None:
    program = start("python", "fork_masks.py", **NO_WARNING)
    status = program.wait(READY_WITHIN_S)

    assert program.said.splitlines() == [
        "in the child: 0 in the parent: 0 in threads: [0, 0]",
        "in its child: 1 in the thread: 1",
        "blocked in a child, it waits: True",
        "beside an alarm: 0",
    ]
    assert status == 0


@pytest.mark.slow
def test_two_thousand_pools_end(start: Start, fake_honeyhive: FakeHoneyHive, home: Path) -> None:
    program = start("python", "many_pools.py", 2_000)
    program.wait_for("all pools ended", within_s=150)
    status = program.wait(ENDED_WITHIN_S)

    assert status == 0
    check_each_arrived_once(fake_honeyhive, home, ["parent"])


@pytest.mark.slow
def test_each_generation_of_a_double_fork_delivers_its_own(
    start: Start, fake_honeyhive: FakeHoneyHive, home: Path
) -> None:
    program = start("python", "double_fork.py")
    program.wait_for("the grandchild has asked")
    status = program.wait(ENDED_WITHIN_S)

    assert status == 0
    assert "a child ended with 0" in program.said
    check_each_arrived_once(
        fake_honeyhive, home, ["parent before", "parent after", "child before", "child after", "grandchild"]
    )


@pytest.mark.slow
def test_fifty_children_forked_while_another_thread_is_asking_lose_and_repeat_nothing(
    start: Start, fake_honeyhive: FakeHoneyHive, home: Path
) -> None:
    program = start("python", "fork_storm.py", HONEYHIVE_LINGER="0.05")
    status = program.wait(READY_WITHIN_S)

    assert status == 0, program.said
    assert "children ended with [0]" in program.said, program.said
    asked_by_thread = int(program.said.partition("the thread asked ")[2].split()[0])
    assert asked_by_thread >= 50, "the thread was asking all the while"
    check_each_arrived_once(
        fake_honeyhive,
        home,
        [
            "first",
            *(f"child {number}" for number in range(50)),
            *(f"thread {number}" for number in range(asked_by_thread)),
        ],
    )
