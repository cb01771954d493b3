"""Beside HoneyHive's own SDK, the real one: its session and ours are one tree. It sets OpenTelemetry's global provider, so
each test looks at what a program of its own sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BIN, FAULT_MARK
from tests.fakes.honeyhive import FakeHoneyHive
from tests.identity.test_sessions import as_uuid, text_of

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the SDK needs Python 3.11")

OURS = """
import honeyhive_autoinstrument as hh
hh.init()
"""
THEIRS = """
from honeyhive import HoneyHiveTracer
tracer = HoneyHiveTracer.init(session_name="nightly run")
"""
LAUNCHED = """
import honeyhive_autoinstrument as hh
"""
ORDERS = {
    "ours first": ([], OURS + "import litellm\n" + THEIRS),
    "theirs first": ([], THEIRS + "import litellm\n" + OURS),
    "launcher": ([str(BIN / "honeyhive-instrument")], LAUNCHED + THEIRS + "import litellm\n"),
}
"""How a program begins, and under what it runs."""

HELPERS = """
import asyncio, contextvars, json, threading, uuid
from honeyhive import evaluate, trace
from honeyhive.tracer.processing.context import with_distributed_trace_context

results = {"tracer": tracer.session_id}

def ask(text, **more):
    messages = [{"role": "user", "content": text}]
    return litellm.completion(model="gpt-4o-mini", messages=messages, mock_response="hello", **more)

async def ask_async(text, **more):
    messages = [{"role": "user", "content": text}]
    return await litellm.acompletion(model="gpt-4o-mini", messages=messages, mock_response="hello", **more)

def ask_router(text):
    deployment = {"model": "openai/gpt-4o-mini", "api_key": "k", "mock_response": "hello"}
    router = litellm.Router(model_list=[{"model_name": "group", "litellm_params": deployment}], num_retries=0)
    router.completion(model="group", messages=[{"role": "user", "content": text}])

def scene(function):
    # The SDK attaches what it puts into the baggage and never takes it back.
    contextvars.copy_context().run(function)

def finish():
    tracer.force_flush()
    print("RESULTS" + json.dumps(results))
"""

SCENES = """
EVENT_ID, REMOTE, EXISTING = (str(uuid.uuid5(uuid.NAMESPACE_URL, name)) for name in ("event", "remote", "existing"))
results.update(event_id=EVENT_ID, remote=REMOTE, existing=EXISTING)

@scene
def plainly():
    ask("plain")
    asyncio.run(ask_async("in a loop"))
    ask_router("by a router")
    thread = threading.Thread(target=ask, args=("on a thread",))
    thread.start()
    thread.join()

@scene
def creates_a_session():
    results["created"] = tracer.create_session(session_name="request 1", user_properties={"plan": "pro"})
    ask("created")
    tracer.enrich_session(metadata={"tier": "gold"}, outputs={"answer": "42"})

@scene
def creates_a_session_in_a_loop():
    async def serve():
        results["created in a loop"] = await tracer.acreate_session(session_name="request 2")
        await ask_async("created in a loop")
    asyncio.run(serve())

@scene
def creates_sessions_side_by_side():
    async def serve(number):
        results[f"request {number}"] = await tracer.acreate_session(session_name=f"request {number}")
        await asyncio.sleep(0)
        await ask_async(f"request {number}")
    async def serve_all():
        await asyncio.gather(*(serve(number) for number in (3, 4)))
    asyncio.run(serve_all())

@scene
def with_a_session():
    with tracer.with_session("request 5") as session_id:
        results["with a session"] = session_id
        ask("with a session")

@scene
def with_a_session_that_exists():
    tracer.create_session(session_id=EXISTING, session_name="elsewhere", skip_api_call=True)
    ask("existing")

@scene
def traced():
    @trace(event_type="chain", event_name="step")
    def step():
        ask("traced")
    step()

@scene
def traced_in_a_loop():
    @trace(event_type="chain", event_name="step in a loop")
    async def step():
        await ask_async("traced in a loop")
    asyncio.run(step())

@scene
def traced_router():
    @trace(event_type="chain", event_name="step with a router")
    def step():
        ask_router("traced router")
    step()

@scene
def traced_with_an_event_id():
    @trace(event_type="tool", event_name="step with an id", event_id=EVENT_ID)
    def step():
        ask("below an event")
    step()

@scene
def traced_in_a_created_session():
    results["traced in a created session"] = tracer.create_session(session_name="request 6")
    @trace(event_type="chain", event_name="step in a created session")
    def step():
        ask("traced in a created session")
    step()

@scene
def called_from_elsewhere():
    @trace(event_type="chain", event_name="remote step")
    def step():
        ask("from elsewhere")
    headers = {
        "traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
        "baggage": f"honeyhive_session_id={REMOTE}",
    }
    with with_distributed_trace_context(headers, tracer):
        step()

@scene
def in_ours():
    @trace(event_type="chain", event_name="step in ours")
    def step():
        with hh.session("ours"):
            ask("in ours")
        ask("by argument", metadata={"session_id": "argument"})
    step()

@scene
def with_two_tracers():
    second = HoneyHiveTracer.init(session_name="second run")
    results["second"] = second.session_id
    @trace(event_type="chain", event_name="step of the second", tracer=second)
    def step():
        ask("of the second")
    step()
    second.force_flush()

ask("at last")
finish()
"""


@dataclass
class Played:
    """What a program sent, and what it says of the SDK's side."""

    server: FakeHoneyHive
    results: dict[str, Any]

    def event(self, text: str) -> dict[str, Any]:
        """The outermost event of the call that asked this."""
        events = [event for event in self.server.events if text_of(event) == text]
        known = {event["event_id"] for event in events}
        (event,) = [event for event in events if event["parent_id"] not in known]
        return event

    def span(self, name: str) -> dict[str, Any]:
        (span,) = [span for span in self.server.spans if span["name"] == name]
        return span

    def names_of_rows(self, session_id: str) -> set[str]:
        return {row["session_name"] for row in self.server.rows if row["session_id"] == session_id}


def play(program: str, server: FakeHoneyHive, folder: Path, prefix: list[str]) -> Played:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HONEYHIVE_", "HH_", "OTEL_"))}
    (folder / "program.py").write_text(program)
    finished = subprocess.run(
        [*prefix, sys.executable, str(folder / "program.py")],
        # One pair of variables for both.
        env={
            **kept,
            "HH_API_KEY": server.key,
            "HH_API_URL": server.url,
            "HONEYHIVE_HOME": str(folder / "home"),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert FAULT_MARK not in finished.stderr, finished.stderr
    (line,) = [line for line in finished.stdout.splitlines() if line.startswith("RESULTS")]
    return Played(server, json.loads(line.removeprefix("RESULTS")))


@pytest.fixture(
    scope="module",
    params=["ours first", *(pytest.param(each, marks=pytest.mark.slow) for each in ("theirs first", "launcher"))],
)
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """One program for all of a kind of beginning: it takes several seconds to import both."""
    prefix, begin = ORDERS[request.param]
    with FakeHoneyHive() as server:
        yield play(begin + HELPERS + SCENES, server, tmp_path_factory.mktemp("sdk"), prefix)
    assert server.problems == [], "bodies that break the contract"


@pytest.mark.parametrize("text", ["plain", "in a loop", "by a router", "on a thread", "at last"])
def test_calls_are_in_the_session_of_the_tracer(played: Played, text: str) -> None:
    event = played.event(text)

    assert event["session_id"] == event["parent_id"] == played.results["tracer"]


def test_the_session_of_the_tracer_keeps_its_name(played: Played) -> None:
    assert played.names_of_rows(played.results["tracer"]) == {"nightly run"}


@pytest.mark.parametrize(
    "text", ["created", "created in a loop", "request 3", "request 4", "with a session", "existing"]
)
def test_calls_are_in_the_session_that_was_made_for_the_request(played: Played, text: str) -> None:
    event = played.event(text)

    assert event["session_id"] == event["parent_id"] == played.results[text]


def test_the_session_of_a_request_is_not_renamed_after_the_tracer(played: Played) -> None:
    # Our row says no more than that there is a session; the SDK's says its name, and came first.
    assert played.server.sessions[played.results["created"]]["session_name"] == "request 1"
    assert "nightly run" not in played.names_of_rows(played.results["created"])


def test_what_the_sdk_says_of_a_session_stays(played: Played) -> None:
    row = played.server.sessions[played.results["created"]]

    assert row["metadata"]["tier"] == "gold"
    assert row["outputs"] == {"answer": "42"}
    assert row["user_properties"] == {"plan": "pro"}


def test_our_rows_of_its_sessions_say_nothing_of_users(played: Played) -> None:
    ours = [row for row in played.server.rows if row["session_id"] == played.results["created"]][1:]

    assert [row.get("user_properties") or {} for row in ours] == [{}] * len(ours)


TRACED = {
    "traced": "step",
    "traced in a loop": "step in a loop",
    "traced router": "step with a router",
    "traced in a created session": "step in a created session",
    "from elsewhere": "remote step",
    "of the second": "step of the second",
}


@pytest.mark.parametrize("text", TRACED)
def test_a_call_in_a_traced_function_is_in_the_session_and_the_trace_of_its_span(played: Played, text: str) -> None:
    event, span = played.event(text), played.span(TRACED[text])

    assert event["session_id"] == span["attributes"]["honeyhive.session_id"]
    assert event["metadata"]["trace_id"] == span["traceId"]
    assert event["metadata"]["span_id"] == span["spanId"]


@pytest.mark.parametrize(
    ("text", "session"),
    [
        ("traced", "tracer"),
        ("traced in a loop", "tracer"),
        ("traced router", "tracer"),
        ("traced in a created session", "traced in a created session"),
        ("from elsewhere", "remote"),
        ("of the second", "second"),
    ],
)
def test_a_call_in_a_traced_function_is_in_the_session_that_the_sdk_names(
    played: Played, text: str, session: str
) -> None:
    assert played.event(text)["session_id"] == played.results[session]


def test_a_call_below_a_span_with_an_event_id_is_below_that_event(played: Played) -> None:
    assert played.event("below an event")["parent_id"] == played.results["event_id"]
    assert played.span("step with an id")["attributes"]["honeyhive_event_id"] == played.results["event_id"]


def test_what_the_application_says_to_us_is_taken_before_what_the_sdk_knows(played: Played) -> None:
    assert played.event("in ours")["session_id"] == as_uuid("ours")
    assert played.event("by argument")["session_id"] == as_uuid("argument")


def test_a_second_tracers_session_keeps_its_name(played: Played) -> None:
    assert played.names_of_rows(played.results["second"]) == {"second run"}


def test_each_call_arrives_once(played: Played) -> None:
    assert set(played.server.arrivals.values()) == {1}
    assert len(played.server.events) == 22, sorted(text_of(event) for event in played.server.events)


EXPERIMENT = """
def answer(datapoint):
    text = datapoint["inputs"]["text"]
    ask(f"{text} plain")
    ask_router(f"{text} router")
    return {"answer": text}

async def answer_async(datapoint):
    text = datapoint["inputs"]["text"]
    await asyncio.gather(*(ask_async(f"{text} {number}") for number in range(2)))
    return {"answer": text}

for name, function in {"sync": answer, "async": answer_async}.items():
    dataset = [{"inputs": {"text": f"{name} {number}"}, "ground_truth": {"answer": "x"}} for number in range(3)]
    summary = evaluate(function, dataset=dataset, name=f"{name} run", max_workers=2, print_results=False)
    results[name] = summary.run_id
ask("after")
finish()
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Two runs of `evaluate` over three datapoints, on two threads, so that one of them serves several."""
    prefix, begin = ORDERS["ours first"]
    with FakeHoneyHive() as server:
        yield play(begin + HELPERS + EXPERIMENT, server, tmp_path_factory.mktemp("sdk"), prefix)
    assert server.problems == [], "bodies that break the contract"


def calls_of(experiment: Played, name: str) -> dict[str, list[dict[str, Any]]]:
    """The events of a run by datapoint."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in experiment.server.events:
        text = text_of(event)
        if text.startswith(name):
            found.setdefault(" ".join(text.split()[:2]), []).append(event)
    return found


@pytest.mark.parametrize(("name", "count"), [("sync", 3), ("async", 2)])
def test_calls_of_an_experiment_are_in_the_session_of_their_datapoint(
    experiment: Played, name: str, count: int
) -> None:
    run = experiment.server.runs[experiment.results[name]]
    by_datapoint = calls_of(experiment, name)

    found = {datapoint: {event["session_id"] for event in events} for datapoint, events in by_datapoint.items()}

    assert [len(events) for events in by_datapoint.values()] == [count] * 3
    assert [len(ids) for ids in found.values()] == [1, 1, 1]
    assert sorted(next(iter(ids)) for ids in found.values()) == sorted(run["event_ids"])


@pytest.mark.parametrize("name", ["sync", "async"])
def test_every_event_of_an_experiment_names_its_run_dataset_and_datapoint(experiment: Played, name: str) -> None:
    run = experiment.server.runs[experiment.results[name]]

    for datapoint, events in calls_of(experiment, name).items():
        row = experiment.server.sessions[events[0]["session_id"]]
        assert row["inputs"] == {"text": datapoint}
        for event in events:
            metadata = event["metadata"]
            assert metadata["run_id"] == experiment.results[name]
            assert metadata["dataset_id"] == run["metadata"]["offline_dataset_id"]
            assert metadata["datapoint_id"] == row["metadata"]["datapoint_id"]


@pytest.mark.parametrize("name", ["sync", "async"])
def test_sessions_of_an_experiment_keep_the_name_of_the_run(experiment: Played, name: str) -> None:
    run = experiment.server.runs[experiment.results[name]]

    assert [experiment.names_of_rows(session_id) for session_id in run["event_ids"]] == [{f"{name} run"}] * 3


def test_a_call_after_an_experiment_belongs_to_none(experiment: Played) -> None:
    event = experiment.event("after")

    assert event["session_id"] == event["parent_id"] == experiment.results["tracer"]
    assert {"run_id", "dataset_id", "datapoint_id"}.isdisjoint(event["metadata"])
