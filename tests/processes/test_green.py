"""Programs whose threads are greenlets, because gevent or eventlet has patched the standard library before anything else."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.fakes.honeyhive import FakeHoneyHive
from tests.processes.conftest import ENDED_WITHIN_S, Start, asked, check_each_arrived_once, kept

pytestmark = pytest.mark.timeout(180)

GREENLETS = [f"greenlet {number}" for number in range(60)]
ASKED = [*GREENLETS, *(f"last {number}" for number in range(4))]
UNREACHABLE_S = 0.5
"""What the end may wait for a server that is not there."""
ENDS_S = 4.0
"""What an interpreter with LiteLLM takes to end, on a busy machine."""


@pytest.fixture(params=["gevent", pytest.param("eventlet", marks=pytest.mark.slow)])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_call_of_a_greenlet_is_recorded_when_the_program_ends_by_itself(
    start: Start, fake_honeyhive: FakeHoneyHive, home: Path, library: str
) -> None:
    program = start("python", "greenlets.py", library, "ends")
    program.wait_for("answered 64")

    assert program.wait(ENDED_WITHIN_S) == 0
    check_each_arrived_once(fake_honeyhive, home, ASKED)


@pytest.mark.slow
def test_every_call_of_a_greenlet_has_arrived_or_is_kept_when_sigterm_ends_the_program(
    start: Start, fake_honeyhive: FakeHoneyHive, home: Path, library: str
) -> None:
    program = start("python", "greenlets.py", library, "waits")
    program.wait_for("answered 64")
    assert len(fake_honeyhive.events) < len(ASKED), "nothing was unsent at the end"

    assert program.end(signal.SIGTERM) == -signal.SIGTERM
    # The handler may run in the hub, where nothing can wait for a server.
    assert sorted([*asked(fake_honeyhive), *kept(home)]) == sorted(ASKED)
    assert set(fake_honeyhive.arrivals.values()) <= {1}, "an event arrived twice"


@pytest.mark.slow
@pytest.mark.parametrize(("then", "status"), [("ends", 0), ("waits", -signal.SIGTERM), ("kills", -signal.SIGTERM)])
def test_without_a_server_every_call_of_a_greenlet_is_kept_and_the_program_ends_soon(
    start: Start, fake_honeyhive: FakeHoneyHive, home: Path, library: str, then: str, status: int
) -> None:
    fake_honeyhive.stop()
    program = start("python", "greenlets.py", library, then)
    program.wait_for("answered 64")

    if then == "waits":
        program.process.send_signal(signal.SIGTERM)
    assert program.wait(UNREACHABLE_S + ENDS_S) == status
    assert sorted(kept(home)) == sorted(ASKED)
