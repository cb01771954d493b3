"""Fixtures for every room: the fakes, an isolated environment, a recording in this process, launched programs."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else importing LiteLLM tries the network
for variable in [name for name in os.environ if name.startswith(("HONEYHIVE_", "HH_"))]:
    del os.environ[variable]

from honeyhive_autoinstrument._faults import faults
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import FakeProvider

ROOT = Path(__file__).parent.parent
collect_ignore = ["beside"]  # needs six other tools: a session of nox
APPS = Path(__file__).parent / "apps"
BIN = Path(sys.executable).parent
FAULT_MARK = "internal error while trying to"


@pytest.fixture(autouse=True)
def no_fault_is_left_behind() -> Iterator[None]:
    """A Fault that nobody expected fails the test. A test that provokes one clears `faults` itself."""
    faults.after_fork()
    yield
    assert faults.counts() == {}, "Faults of our own code"


@pytest.fixture
def fake_honeyhive() -> Iterator[FakeHoneyHive]:
    with FakeHoneyHive() as server:
        yield server
    assert server.problems == [], "bodies that break the contract"


@pytest.fixture
def fake_provider() -> Iterator[FakeProvider]:
    with FakeProvider() as server:
        yield server


LONGEST = ("processes", "proxy", "activation", "delivery")
"""Folders whose files take longest. A worker takes a whole file: one that comes last leaves the others idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)


ALL_THERE_WITHIN_S = 40.0
"""Five hundred sessions in a row took ten, on a busy machine."""


class Recording:
    """LiteLLM in this process, recorded, with events going to a FakeHoneyHive."""

    def __init__(self, server: FakeHoneyHive) -> None:
        self.server = server

    def events(self) -> list[dict[str, Any]]:
        import honeyhive_autoinstrument

        assert honeyhive_autoinstrument.flush(ALL_THERE_WITHIN_S)
        if not self.server.plan:
            # What has queued for two seconds goes by way of the disk, on a machine that is as busy as that.
            wait_until(self._is_all_there, ALL_THERE_WITHIN_S, "all events at the server")
        return self.server.events

    def _is_all_there(self) -> bool:
        import honeyhive_autoinstrument

        ledger = honeyhive_autoinstrument.stats()
        return ledger["pending"] == ledger["spooled"] == 0

    def event(self) -> dict[str, Any]:
        (event,) = self.events()
        return event


@pytest.fixture(scope="session")
def frozen_library() -> None:
    """LiteLLM, imported."""
    import litellm  # noqa: F401

    collect_and_freeze()


FROZEN_TESTS = 50
_ended_tests = itertools.count(1)


def collect_and_freeze() -> None:
    """Take what is there out of the collector's sight, so that the next test waits for its own objects only: those of
    LiteLLM alone are 0.4 s. Now and then it sees everything, as what is frozen may have become garbage."""
    if next(_ended_tests) % FROZEN_TESTS == 0:
        gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture
def recording(frozen_library: None, fake_honeyhive: FakeHoneyHive, tmp_path: Path) -> Iterator[Recording]:
    import litellm

    import honeyhive_autoinstrument
    from honeyhive_autoinstrument.activation.runtime import current_runtime

    litellm.suppress_debug_info = True
    level = logging.getLogger("honeyhive_autoinstrument").level
    known = current_runtime()
    if known is not None:
        known.settings.clear()  # what another test of this process asked for would stay
    honeyhive_autoinstrument.init(
        api_key=fake_honeyhive.key,
        api_url=fake_honeyhive.url,
        home=str(tmp_path / "home"),
        linger=0.05,
    )
    yield Recording(fake_honeyhive)
    honeyhive_autoinstrument.shutdown(5)
    honeyhive_autoinstrument.uninstrument()
    # A half-read stream of LiteLLM's is garbage for the collector, which closes it wherever it runs: amid httpcore's next
    # request it waits for ever, for the lock of the pool that its own thread holds.
    # And LiteLLM's cached clients: up to 1.60 it knows them by address and key, not by loop, and a port comes again.
    litellm.in_memory_llm_clients_cache.flush_cache()
    collect_and_freeze()
    logging.getLogger("honeyhive_autoinstrument").setLevel(level)


class Finished:
    """A launched program that has ended."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.status = process.returncode
        self.out = process.stdout
        self.err = process.stderr


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """What a launched program gets: this machine's variables, none of ours, a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HONEYHIVE_", "HH_", "OTEL_"))}
    kept.pop("PYTHONPATH", None)
    return {
        **kept,
        "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', '')}",
        "HONEYHIVE_HOME": str(tmp_path / "home"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONDONTWRITEBYTECODE": "",
    }


Run = Callable[..., Finished]


@pytest.fixture
def run(environ: dict[str, str], tmp_path: Path) -> Run:
    """Run a command to its end. Fails if our own code failed in it, unless told that it may."""

    def run_command(
        *command: object,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
        may_fault: bool = False,
        timeout: float = 90,
    ) -> Finished:
        finished = Finished(
            subprocess.run(
                [str(word) for word in command],
                env={**environ, **(env or {})},
                input=stdin,
                cwd=cwd or tmp_path,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        )
        if not may_fault:
            assert FAULT_MARK not in finished.err, finished.err
        return finished

    return run_command


def app(name: str) -> str:
    """The path of a program under tests/apps."""
    return str(APPS / name)


def order_from(process: subprocess.Popen[str], text: str) -> None:
    """Have asks_on_demand.py ask for this, and wait until it has its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{text}\n")
    process.stdin.flush()
    assert process.stdout.readline() == f"{text}\n"


def wait_until(condition: Callable[[], bool], seconds: float = 20, what: str = "the condition") -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.01)
