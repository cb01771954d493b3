"""Side by side with other tools that watch LiteLLM: neither takes anything from the other or from the program, whoever
was first, and either can go.

Each combination is one process (program.py). What it saw is compared with processes in which only we are, only the other
tool, or nobody. The tools are installed in nox's session `beside` only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.beside.program import PHASE
from tests.beside.tools import TOOLS
from tests.conftest import FAULT_MARK

PROGRAM = Path(__file__).parent / "program.py"
SETTINGS = ("HONEYHIVE_", "HH_", "OTEL_", "OPENLIT_", "DD_", "LANGFUSE_", "LOGFIRE_", "LITELLM_")
OURS, THEIRS = "ours", "theirs"
OUR_LAYER = "honeyhive_autoinstrument."
NOBODY = "-"
POOL = ThreadPoolExecutor(2)


@dataclass(frozen=True)
class Round:
    """What came of one round of calls."""

    seen: dict[str, Any]
    """What the program saw of each call."""
    requests: list[str]
    """Models that the provider was asked for."""
    printed: str
    events: list[dict[str, Any]]
    """Ours."""
    records: list[str]
    """The other tool's spans, or the invocations of its callbacks."""
    uploads: int
    """Records that tell of our own requests to HoneyHive."""
    functions: dict[str, list[str]]
    """What stands behind LiteLLM's names, from the outside in."""


@dataclass(frozen=True)
class Case:
    """Which tool, who is switched on first, and who is switched off first."""

    tool: str
    first: str
    removed: str

    def __str__(self) -> str:
        return f"{self.tool}-{self.first}_first-{self.removed}_removed_first"

    @property
    def second(self) -> str:
        return OURS if self.first == THEIRS else THEIRS

    @property
    def stays(self) -> str:
        return OURS if self.removed == THEIRS else THEIRS

    @property
    def is_last_in_first_out(self) -> bool:
        return self.removed == self.second

    @property
    def both(self) -> Round:
        """With both."""
        return self._rounds[0]

    @property
    def one(self) -> Round:
        """After the first was removed."""
        return self._rounds[1]

    @property
    def none(self) -> Round:
        """After both were removed."""
        return self._rounds[2]

    @property
    def again(self) -> Round:
        """After we were switched on again."""
        return self._rounds[3 if TOOLS[self.tool].can_be_removed else 2]

    @property
    def _rounds(self) -> list[Round]:
        return rounds(self.tool, *self.steps)

    @property
    def steps(self) -> list[str]:
        """What its program does."""
        steps = [f"+{self.first}", f"+{self.second}", "ask", f"-{self.removed}", "ask"]
        if TOOLS[self.tool].can_be_removed:
            steps += [f"-{self.stays}", "ask"]
        return [*steps, "+ours", "ask"]


CASES = [
    Case(tool, first, removed)
    for tool, kind in TOOLS.items()
    for first in (OURS, THEIRS)
    for removed in (OURS, THEIRS)
    if removed == OURS or kind.can_be_removed
    # A tool that takes away whatever is outermost cannot go before those who came after it, whoever they are.
    if kind.removes_its_own or (first, removed) != (THEIRS, THEIRS)
]


def for_each(cases: list[Case]) -> pytest.MarkDecorator:
    """One test for each."""
    return pytest.mark.parametrize("case", cases, ids=str)


@pytest.fixture(scope="session", autouse=True)
def programs_under_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """The programs of all chosen tests run two at a time; each test waits for its own only."""
    started(NOBODY, "ask")  # what all others are compared with comes first
    started(NOBODY, "+ours", "ask")
    for item in request.session.items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")  # type: ignore[attr-defined]
        if case is not None:
            started(case.tool, "+theirs", "ask")
            started(case.tool, *case.steps)
    yield
    POOL.shutdown(cancel_futures=True)


def rounds(tool: str, *steps: str) -> list[Round]:
    """What came of a program."""
    return started(tool, *steps).result()


@cache
def started(tool: str, *steps: str) -> Future[list[Round]]:
    return POOL.submit(run, tool, *steps)


def run(tool: str, *steps: str) -> list[Round]:
    """Run the program. Fails if our own code failed in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        finished = subprocess.run(
            [sys.executable, str(PROGRAM), str(report), tool, *steps],
            env={
                **kept,
                "HONEYHIVE_HOME": str(Path(folder) / "home"),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "PYTHONDONTWRITEBYTECODE": "",
            },
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr[-4000:]
        assert FAULT_MARK not in finished.stderr, finished.stderr[-4000:]
        printed = finished.stdout.split(f"{PHASE}\n")[1:]
        return [
            Round(printed=text, **result) for text, result in zip(printed, json.loads(report.read_text()), strict=True)
        ]


def bare() -> Round:
    return rounds(NOBODY, "ask")[0]


def ours_alone() -> Round:
    return rounds(NOBODY, "+ours", "ask")[0]


def theirs_alone(tool: str) -> Round:
    return rounds(tool, "+theirs", "ask")[0]


def layers_of_others(found: Round) -> dict[str, list[str]]:
    return {
        name: [layer for layer in layers if not layer.startswith(OUR_LAYER)] for name, layers in found.functions.items()
    }


def outline(events: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, int]]]:
    """Names with what they stand below, types and tokens: what a failing test shows first."""
    return [("/".join(event["path"]), event["type"], event["tokens"]) for event in events]


def assert_same_for_the_program(found: Round, expected: Round) -> None:
    for name, seen in expected.seen.items():
        assert found.seen[name] == seen, name
    assert found.printed == expected.printed
    assert found.requests == expected.requests


@pytest.mark.parametrize("tool", [NOBODY, *TOOLS])
def test_calls_give_something_to_compare(tool: str) -> None:
    alone = bare() if tool == NOBODY else theirs_alone(tool)

    failed = {name for name, seen in alone.seen.items() if "error" in seen}
    assert failed == {"failure", "async failure"}
    assert len(alone.seen) == 13
    assert tool == NOBODY or len(alone.records) >= len(alone.seen)


@for_each(CASES)
def test_the_program_sees_what_it_sees_with_the_other_tool_alone(case: Case) -> None:
    assert_same_for_the_program(case.both, theirs_alone(case.tool))


@for_each(CASES)
def test_our_events_are_the_same_as_without_the_other_tool(case: Case) -> None:
    assert outline(case.both.events) == outline(ours_alone().events)
    assert case.both.events == ours_alone().events


@for_each(CASES)
def test_the_other_tool_records_what_it_records_alone(case: Case) -> None:
    assert case.both.records == theirs_alone(case.tool).records


@for_each(CASES)
def test_our_requests_to_honeyhive_are_none_of_its_records(case: Case) -> None:
    assert case.both.uploads == 0


@for_each([case for case in CASES if case.removed == OURS])
def test_after_we_are_gone_the_other_tool_works_as_if_alone(case: Case) -> None:
    assert_same_for_the_program(case.one, theirs_alone(case.tool))
    assert case.one.events == []
    assert case.one.records == theirs_alone(case.tool).records


@for_each([case for case in CASES if case.removed == THEIRS])
def test_after_the_other_tool_is_gone_we_work_as_if_alone(case: Case) -> None:
    assert case.one.records == []
    assert outline(case.one.events) == outline(ours_alone().events)
    assert case.one.events == ours_alone().events
    assert_same_for_the_program(case.one, bare())


@for_each([case for case in CASES if TOOLS[case.tool].can_be_removed])
def test_after_both_are_gone_nothing_is_recorded(case: Case) -> None:
    assert case.none.events == []
    assert case.none.records == []
    assert_same_for_the_program(case.none, bare())


@for_each([case for case in CASES if TOOLS[case.tool].can_be_removed])
def test_after_both_are_gone_the_original_functions_are_back(case: Case) -> None:
    tool = TOOLS[case.tool]
    if tool.wraps and (case.first == case.removed == OURS or not tool.puts_back_what_it_found):
        # It puts our wrapper back, or something made of it; that only passes calls on since we are gone.
        assert layers_of_others(case.none) == bare().functions
    else:
        assert case.none.functions == bare().functions


@for_each([case for case in CASES if not TOOLS[case.tool].can_be_removed])
def test_beside_a_tool_that_stays_only_our_wrappers_go(case: Case) -> None:
    assert layers_of_others(case.one) == theirs_alone(case.tool).functions


@for_each(CASES)
def test_switched_on_again_we_record_everything_once(case: Case) -> None:
    assert outline(case.again.events) == outline(ours_alone().events)


def test_with_us_alone_the_program_sees_what_it_sees_without() -> None:
    assert_same_for_the_program(ours_alone(), bare())
