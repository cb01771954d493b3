"""Where a call's session, parent and ids come from: a table of all sources, each alone, and every pair in conflict."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import litellm
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider

import honeyhive_autoinstrument as hh
from tests.conftest import Recording
from tests.identity.test_sessions import (
    as_uuid,
    ask,
    ask_async,
    in_thread,
    messages,
    router,
    row_of,
    sessions,
    text_of,
)

TRACER = TracerProvider().get_tracer("tests")
"""Of a provider of its own: the global one can be set only once in a process."""
TRACE_ID, SPAN_ID = 0x0123456789ABCDEF0123456789ABCDEF, 0x0123456789ABCDEF
HAS_SDK = sys.version_info >= (3, 11)
"""HoneyHive's SDK is there for no older Python."""


def uuid_for(text: str) -> str:
    return str(uuid5(NAMESPACE_URL, text))


# What surrounds a call.


@contextmanager
def attached(made: context.Context) -> Iterator[None]:
    token = context.attach(made)
    try:
        yield
    finally:
        context.detach(token)


def in_baggage(**values: str) -> AbstractContextManager[object]:
    made = context.get_current()
    for name, value in values.items():
        made = baggage.set_baggage(name, value, made)
    return attached(made)


def in_context(name: str, value: object) -> AbstractContextManager[object]:
    return attached(context.set_value(name, value))


def in_span(name: str = "work", **attributes: str) -> Any:
    return TRACER.start_as_current_span(name, attributes=attributes)


def in_trace(trace_id: int = TRACE_ID, *, is_sampled: bool = True) -> Any:
    """As with a request from elsewhere: a span without attributes or name."""
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if is_sampled else trace.TraceFlags.DEFAULT)
    where = trace.SpanContext(trace_id, SPAN_ID, is_remote=True, trace_flags=flags)
    return trace.use_span(trace.NonRecordingSpan(where))


class Tracer:
    """What counts of a HoneyHiveTracer, for the SDK's own registry. A real one sets OpenTelemetry's global provider."""

    def __init__(self, session_id: str | None, session_name: str | None = None) -> None:
        self.session_id = session_id
        self.session_name = session_name


def registry_of_tracers() -> Any:
    return importlib.import_module("honeyhive.tracer.registry")  # not at the top: Python 3.10 has no such SDK


@contextmanager
def beside_tracers(default: Tracer | None = None, named: Tracer | None = None) -> Iterator[None]:
    """HoneyHiveTracers in this process: the default one, one that the baggage names, and one that nothing names."""
    registry = registry_of_tracers()
    former = registry.get_default_tracer()
    bystander = Tracer(uuid_for("bystander"), "bystander")
    registry.register_tracer(bystander)
    try:
        if default is not None:
            registry.set_default_tracer(default)
        if named is None:
            yield
        else:
            with in_baggage(honeyhive_tracer_id=registry.register_tracer(named)):
                yield
    finally:
        registry.clear_registry()
        registry.set_default_tracer(former)


@contextmanager
def configured(session_id: str) -> Iterator[None]:
    """HONEYHIVE_SESSION_ID, which is read anew with `init()`; an argument of `init()` could not be taken back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HONEYHIVE_SESSION_ID", session_id)
        hh.init()
        yield
    hh.init()


# The ways in which a call is made. Each makes it before it returns.

Call = Callable[..., Any]


def sync(text: str, arguments: Mapping[str, Any]) -> None:
    ask(text, **arguments)


def in_a_loop(text: str, arguments: Mapping[str, Any]) -> None:
    asyncio.run(ask_async(text, **arguments))


def in_an_executor(text: str, arguments: Mapping[str, Any]) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            await loop.run_in_executor(pool, contextvars.copy_context().run, sync, text, arguments)

    asyncio.run(work())


def in_a_plain_thread(text: str, arguments: Mapping[str, Any]) -> None:
    in_thread(lambda: ask(text, **arguments))


def by_a_router(text: str, arguments: Mapping[str, Any]) -> None:
    router().completion(model="group", messages=messages(text), **arguments)


def by_a_router_in_a_loop(text: str, arguments: Mapping[str, Any]) -> None:
    asyncio.run(router().acompletion(model="group", messages=messages(text), **arguments))


WAYS = (sync, in_a_loop, in_an_executor, in_a_plain_thread, by_a_router, by_a_router_in_a_loop)
ways = pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])


# The table.


@dataclass(frozen=True)
class Source:
    """One place that says something about a call: its rank (the lower counts more), what it says, and how it is set."""

    rank: int
    name: str
    enter: Callable[[], AbstractContextManager[Any]] = nullcontext
    arguments: Mapping[str, Any] = field(default_factory=dict)
    is_everywhere: bool = False
    """Whether a plain thread knows it, too."""
    has_span: bool = False
    value: str = ""

    @property
    def says(self) -> str:
        return self.value or uuid_for(self.name)

    def counts(self, way: Callable[..., None]) -> bool:
        return self.is_everywhere or way is not in_a_plain_thread


def argument(rank: int, name: str, **arguments: Any) -> Source:
    return Source(rank, name, arguments=arguments, is_everywhere=True)


SESSIONS = (
    argument(1, "metadata", metadata={"session_id": uuid_for("metadata")}),
    argument(1, "litellm_metadata", litellm_metadata={"session_id": uuid_for("litellm_metadata")}),
    argument(1, "litellm_session_id", litellm_session_id=uuid_for("litellm_session_id")),
    Source(2, "session()", lambda: hh.session(uuid_for("session()"))),
    Source(3, "baggage", lambda: in_baggage(session_id=uuid_for("baggage"))),
    Source(3, "baggage, dotted", lambda: in_baggage(**{"honeyhive.session_id": uuid_for("baggage, dotted")})),
    Source(3, "baggage, long", lambda: in_baggage(honeyhive_session_id=uuid_for("baggage, long"))),
    Source(4, "span", lambda: in_span(**{"honeyhive.session_id": uuid_for("span")}), has_span=True),
    Source(
        4,
        "span of Traceloop",
        lambda: in_span(**{"traceloop.association.properties.session_id": uuid_for("span of Traceloop")}),
        has_span=True,
    ),
    Source(
        4,
        "span of OpenInference",
        lambda: in_span(**{"session.id": uuid_for("span of OpenInference")}),
        has_span=True,
    ),
    Source(5, "Traceloop", lambda: in_context("association_properties", {"session_id": uuid_for("Traceloop")})),
    Source(5, "OpenInference", lambda: in_context("session.id", uuid_for("OpenInference"))),
    *(
        (
            Source(6, "named tracer", lambda: beside_tracers(named=Tracer(uuid_for("named tracer")))),
            Source(6, "default tracer", lambda: beside_tracers(Tracer(uuid_for("default tracer"))), is_everywhere=True),
        )
        if HAS_SDK
        else ()
    ),
    Source(7, "trace", in_trace, has_span=True, value=as_uuid(f"trace:{TRACE_ID:032x}")),
    Source(8, "configured", lambda: configured(uuid_for("configured")), is_everywhere=True),
    Source(9, "process", is_everywhere=True, value="process"),
)

PARENTS = (
    argument(1, "metadata", metadata={"honeyhive_parent_id": uuid_for("metadata")}),
    Source(2, "baggage", lambda: in_baggage(parent_id=uuid_for("baggage"))),
    Source(3, "span", lambda: in_span(honeyhive_event_id=uuid_for("span"))),
    Source(4, "session", is_everywhere=True, value="session"),
)


def pairs(sources: tuple[Source, ...]) -> list[tuple[Source, Source]]:
    """Every two of different rank that can be at once, the one that counts first. Of two spans only one is current."""
    return [
        (first, second)
        for first, second in itertools.combinations(sources, 2)
        if first.rank < second.rank and not (first.has_span and second.has_span)
    ]


def label(*sources: Source) -> str:
    return " before ".join(source.name for source in sources)


def call_amid(way: Callable[..., None], *sources: Source) -> None:
    """What counts more is set first, so that the last word is never simply right."""
    arguments: dict[str, Any] = {}
    with ExitStack() as stack:
        for source in sources:
            stack.enter_context(source.enter())
            arguments |= source.arguments
        way(label(*sources), arguments)


def expected(way: Callable[..., None], *sources: Source, default: str) -> str:
    return next((source.says for source in sources if source.counts(way)), default)


def outermost(recording: Recording) -> dict[str, dict[str, Any]]:
    """The outermost event of each call, by what was asked."""
    events = recording.events()
    known = {event["event_id"] for event in events}
    return {text_of(event): event for event in events if event["parent_id"] not in known}


def check_that_trees_are_whole(recording: Recording) -> None:
    """All events of a call are in one session."""
    of_call: dict[str, set[str]] = {}
    for event in recording.events():
        of_call.setdefault(text_of(event), set()).add(event["session_id"])
    assert [text for text, found in of_call.items() if len(found) != 1] == []


IS_SLOW = {"configured"}
"""Sources that take a new `init()`; they are tried in a test of their own."""


@ways
def test_each_source_alone_names_the_session(recording: Recording, way: Callable[..., None]) -> None:
    sources = [source for source in SESSIONS if source.name not in IS_SLOW]

    for source in sources:
        call_amid(way, source)

    assert sessions(recording) == {label(source): expected(way, source, default="process") for source in sources}
    check_that_trees_are_whole(recording)


@ways
def test_of_two_sources_the_earlier_one_names_the_session(recording: Recording, way: Callable[..., None]) -> None:
    conflicts = [pair for pair in pairs(SESSIONS) if IS_SLOW.isdisjoint(source.name for source in pair)]

    for pair in conflicts:
        call_amid(way, *pair)

    assert sessions(recording) == {label(*pair): expected(way, *pair, default="process") for pair in conflicts}
    check_that_trees_are_whole(recording)


@ways
def test_a_configured_session_is_taken_before_that_of_the_process_and_after_all_others(
    recording: Recording, way: Callable[..., None]
) -> None:
    others = [source for source in SESSIONS if source.rank < 8]

    with configured(uuid_for("configured")):
        ask("alone")
        for source in others:
            call_amid(way, source)
        found = {text_of(event): event["session_id"] for event in recording.events()}

    default = uuid_for("configured")
    assert found == {
        "alone": default,
        **{label(source): expected(way, source, default=default) for source in others},
    }


@ways
def test_each_source_alone_names_the_parent(recording: Recording, way: Callable[..., None]) -> None:
    for source in PARENTS:
        call_amid(way, source)

    assert parents(recording) == {label(source): expected(way, source, default="session") for source in PARENTS}


@ways
def test_of_two_sources_the_earlier_one_names_the_parent(recording: Recording, way: Callable[..., None]) -> None:
    for pair in pairs(PARENTS):
        call_amid(way, *pair)

    assert parents(recording) == {label(*pair): expected(way, *pair, default="session") for pair in pairs(PARENTS)}


def parents(recording: Recording) -> dict[str, str]:
    return {
        text: "session" if event["parent_id"] == event["session_id"] else event["parent_id"]
        for text, event in outermost(recording).items()
    }


# Within one source, and what does not count.


@pytest.mark.parametrize(
    ("enter", "arguments"),
    [
        (
            nullcontext,
            {
                "litellm_session_id": uuid_for("third"),
                "litellm_metadata": {"session_id": uuid_for("second")},
                "metadata": {"session_id": uuid_for("first")},
            },
        ),
        (
            lambda: in_baggage(
                **{
                    "honeyhive_session_id": uuid_for("third"),
                    "honeyhive.session_id": uuid_for("second"),
                    "session_id": uuid_for("first"),
                }
            ),
            {},
        ),
        (
            lambda: in_span(
                **{
                    "session.id": uuid_for("third"),
                    "traceloop.association.properties.session_id": uuid_for("second"),
                    "honeyhive.session_id": uuid_for("first"),
                }
            ),
            {},
        ),
        (
            lambda: attached(
                context.set_value(
                    "association_properties",
                    {"session_id": uuid_for("first")},
                    context.set_value("session.id", uuid_for("second")),
                )
            ),
            {},
        ),
    ],
    ids=["arguments", "baggage", "span", "context"],
)
def test_of_several_names_in_one_place_the_first_counts(
    recording: Recording, enter: Callable[[], AbstractContextManager[Any]], arguments: dict[str, Any]
) -> None:
    with enter():
        ask(**arguments)

    assert recording.event()["session_id"] == uuid_for("first")


@pytest.mark.skipif(not HAS_SDK, reason="the SDK needs Python 3.11")
def test_a_tracer_that_the_baggage_names_is_taken_before_the_default_one(recording: Recording) -> None:
    with beside_tracers(Tracer(uuid_for("default")), named=Tracer(uuid_for("named"))):
        ask()

    assert recording.event()["session_id"] == uuid_for("named")


@pytest.mark.skipif(not HAS_SDK, reason="the SDK needs Python 3.11")
def test_a_tracer_that_is_gone_is_no_source(recording: Recording) -> None:
    registry = registry_of_tracers()
    registry.set_default_tracer(Tracer(uuid_for("gone")))  # which holds it weakly
    ask("after")

    assert registry.get_default_tracer() is None
    assert sessions(recording) == {"after": "process"}


@pytest.mark.parametrize(
    "source",
    [source for source in SESSIONS if source.rank in (3, 5)],
    ids=lambda source: source.name,
)
def test_a_session_id_that_is_no_uuid_becomes_one(recording: Recording, source: Source) -> None:
    enter: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "baggage": lambda: in_baggage(session_id="chat-7"),
        "baggage, dotted": lambda: in_baggage(**{"honeyhive.session_id": "chat-7"}),
        "baggage, long": lambda: in_baggage(honeyhive_session_id="chat-7"),
        "Traceloop": lambda: in_context("association_properties", {"session_id": "chat-7"}),
        "OpenInference": lambda: in_context("session.id", "chat-7"),
    }

    with enter[source.name]():
        ask()

    event = recording.event()
    assert event["session_id"] == as_uuid("chat-7")
    assert event["metadata"]["original_session_id"] == "chat-7"


ODD: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "empty baggage": lambda: in_baggage(session_id="", parent_id=""),
    "association properties that are none": lambda: in_context("association_properties", 5),
    "association properties without a session": lambda: in_context("association_properties", {"user": "x"}),
    "no session": lambda: in_context("session.id", None),
    "an invalid span": lambda: trace.use_span(trace.INVALID_SPAN),
    **(
        {
            "a tracer without a session": lambda: beside_tracers(Tracer(None)),
            "a tracer that is not there": lambda: in_baggage(honeyhive_tracer_id="0"),
        }
        if HAS_SDK
        else {}
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_says_nothing_is_as_if_it_were_not_there(recording: Recording, name: str) -> None:
    with ODD[name]():
        ask("x")

    assert sessions(recording) == {"x": "process"}
    assert recording.event()["parent_id"] == recording.event()["session_id"]


def test_a_span_whose_attributes_cannot_be_read_disturbs_nothing(recording: Recording) -> None:
    class Broken(trace.NonRecordingSpan):  # type: ignore[misc]
        @property
        def attributes(self) -> Any:
            raise RuntimeError("no attributes")

    where = trace.SpanContext(TRACE_ID, SPAN_ID, is_remote=False)
    with trace.use_span(Broken(where)):
        ask("x")

    assert [text_of(event) for event in recording.events()] == ["x"]
    from honeyhive_autoinstrument._faults import faults

    faults.after_fork()  # whether that counts as a Fault is not the question here


@pytest.mark.parametrize(
    ("arguments", "parent_id", "event_id", "wanted"),
    [
        ({"metadata": {"honeyhive_parent_id": "x"}}, uuid_for("baggage"), uuid_for("span"), uuid_for("baggage")),
        ({}, "x", uuid_for("span"), uuid_for("span")),
        ({}, "x", "0123456789abcdef", None),
    ],
    ids=["metadata", "baggage", "all"],
)
def test_a_parent_that_is_no_uuid_does_not_count(
    recording: Recording, arguments: dict[str, Any], parent_id: str, event_id: str, wanted: str | None
) -> None:
    with in_span(honeyhive_event_id=event_id), in_baggage(parent_id=parent_id):
        ask(**arguments)

    event = recording.event()
    assert event["parent_id"] == (wanted or event["session_id"])


# A recorded call around it.


class Agent(litellm.CustomLLM):  # type: ignore[misc]
    """A provider of the application's own that asks another model."""

    def __init__(self, **inner: Any) -> None:
        self.inner = inner

    def completion(self, *args: Any, **kwargs: Any) -> Any:
        return ask("inner", **self.inner)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def ask_agent(**inner: Any) -> None:
        monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": "agent", "custom_handler": Agent(**inner)}])
        litellm.completion(model="agent/x", messages=messages("outer"))

    return ask_agent


def test_a_recorded_call_around_it_is_the_parent_before_all_others(
    recording: Recording, agent: Callable[..., None]
) -> None:
    with in_baggage(parent_id=uuid_for("baggage")):
        agent(metadata={"honeyhive_parent_id": uuid_for("metadata")})

    outer, inner = recording.events()
    assert (outer["parent_id"], inner["parent_id"]) == (uuid_for("baggage"), outer["event_id"])


def test_a_call_inside_a_recorded_call_is_in_its_session(recording: Recording, agent: Callable[..., None]) -> None:
    with hh.session(uuid_for("outer")):
        agent(metadata={"session_id": uuid_for("inner")})

    assert {event["session_id"] for event in recording.events()} == {uuid_for("outer")}


# A span that comes with the call: LiteLLM's Proxy and its users put one there.


def test_a_span_in_the_metadata_stands_in_where_there_is_no_current_one(recording: Recording) -> None:
    attributes = {"honeyhive.session_id": uuid_for("given"), "honeyhive_event_id": uuid_for("event")}
    span = TRACER.start_span("given", attributes=attributes)

    ask(metadata={"litellm_parent_otel_span": span})

    event = recording.event()
    assert (event["session_id"], event["parent_id"]) == (uuid_for("given"), uuid_for("event"))
    assert event["metadata"]["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert event["metadata"]["span_id"] == f"{span.get_span_context().span_id:016x}"


def test_the_trace_of_a_span_in_the_metadata_is_a_session(recording: Recording) -> None:
    span = TRACER.start_span("POST /chat")

    ask(metadata={"litellm_parent_otel_span": span})

    session_id = as_uuid(f"trace:{span.get_span_context().trace_id:032x}")
    assert recording.event()["session_id"] == session_id
    assert row_of(recording, session_id)["session_name"] == "POST /chat"


def test_the_current_span_is_taken_before_one_in_the_metadata(recording: Recording) -> None:
    given = TRACER.start_span("given", attributes={"honeyhive.session_id": uuid_for("given")})

    with in_span(**{"honeyhive.session_id": uuid_for("current")}) as current:
        ask(metadata={"litellm_parent_otel_span": given})

    event = recording.event()
    assert event["session_id"] == uuid_for("current")
    assert event["metadata"]["span_id"] == f"{current.get_span_context().span_id:016x}"


def test_baggage_does_not_hide_a_span_in_the_metadata(recording: Recording) -> None:
    given = TRACER.start_span("given", attributes={"honeyhive.session_id": uuid_for("given")})

    with in_baggage(tenant="x"):
        ask(metadata={"litellm_parent_otel_span": given})

    assert recording.event()["session_id"] == uuid_for("given")


# Ids on the events.


@ways
def test_the_outermost_event_carries_the_ids_of_the_surrounding_span(
    recording: Recording, way: Callable[..., None]
) -> None:
    with in_span() as span:
        way("x", {})

    where = span.get_span_context()
    wanted = (f"{where.trace_id:032x}", f"{where.span_id:016x}") if way is not in_a_plain_thread else (None, None)
    metadata = outermost(recording)["x"]["metadata"]
    assert (metadata.get("trace_id"), metadata.get("span_id")) == wanted


def test_outside_any_span_no_event_carries_ids_of_one(recording: Recording) -> None:
    ask("no span")
    with trace.use_span(trace.INVALID_SPAN):
        ask("invalid span")

    assert [event["metadata"].keys() & {"trace_id", "span_id"} for event in recording.events()] == [set(), set()]


@ways
def test_ids_of_an_experiment_in_the_baggage_are_on_every_event(recording: Recording, way: Callable[..., None]) -> None:
    ids = {"run_id": uuid_for("run"), "dataset_id": "EXT-0123", "datapoint_id": "EXT-4567"}

    with in_baggage(**ids):
        way("x", {})
    ask("after")

    wanted = {} if way is in_a_plain_thread else ids
    *inside, after = [
        {name: event["metadata"][name] for name in ids if name in event["metadata"]} for event in recording.events()
    ]
    assert inside == [wanted] * (2 if "router" in way.__name__ else 1)
    assert after == {}


# The session of a trace.


def test_calls_of_one_trace_share_a_session_named_by_the_first_calls_span(recording: Recording) -> None:
    with in_span("POST /chat") as root:
        with in_span("first step"):
            ask("first")
        with in_span("second step"):
            ask("second")
    with in_span("POST /chat"):
        ask("other trace")

    session_id = as_uuid(f"trace:{root.get_span_context().trace_id:032x}")
    found = sessions(recording)
    assert found["first"] == found["second"] == session_id
    assert found["other trace"] not in ("process", session_id)
    assert row_of(recording, session_id)["session_name"] == "first step"


def test_a_trace_from_elsewhere_that_is_not_sampled_is_a_session_all_the_same(recording: Recording) -> None:
    with in_trace(is_sampled=False):
        ask("x")

    assert sessions(recording) == {"x": as_uuid(f"trace:{TRACE_ID:032x}")}


# Rows of sessions that others created.


@pytest.mark.parametrize(
    "source",
    [source for source in SESSIONS if source.rank in (3, 4, 5)],
    ids=lambda source: source.name,
)
def test_a_session_of_somebody_else_gets_a_row_with_the_programs_name(recording: Recording, source: Source) -> None:
    ask("in the session of the process")
    call_amid(sync, source)

    row = row_of(recording, source.says)
    assert row["session_name"] == row_of(recording, hh.stats()["session_id"])["session_name"]
    assert not row.get("user_properties")


@pytest.mark.skipif(not HAS_SDK, reason="the SDK needs Python 3.11")
@pytest.mark.parametrize("is_default", [True, False], ids=["default", "named"])
def test_the_row_of_a_tracers_session_has_the_tracers_name(recording: Recording, is_default: bool) -> None:
    tracer = Tracer(uuid_for("tracer"), "nightly run")

    with beside_tracers(tracer) if is_default else beside_tracers(named=tracer):
        ask()

    assert row_of(recording, uuid_for("tracer"))["session_name"] == "nightly run"


@pytest.mark.skipif(not HAS_SDK, reason="the SDK needs Python 3.11")
def test_a_tracers_session_that_comes_by_baggage_has_the_tracers_name_too(recording: Recording) -> None:
    """As inside its `@trace`, which puts the session of the tracer into the baggage."""
    tracer = Tracer(uuid_for("tracer"), "nightly run")

    with beside_tracers(tracer), in_baggage(session_id=uuid_for("tracer")):
        ask()

    assert row_of(recording, uuid_for("tracer"))["session_name"] == "nightly run"


# When it is read.


def test_it_is_read_when_a_call_begins_and_not_when_its_stream_is_read(recording: Recording) -> None:
    with in_baggage(session_id=uuid_for("begin"), run_id="begin"):
        stream = ask("streamed", stream=True)
    with in_baggage(session_id=uuid_for("later"), run_id="later"):
        list(stream)

    event = recording.event()
    assert (event["session_id"], event["metadata"]["run_id"]) == (uuid_for("begin"), "begin")


# What OpenInference has in the context. Its `using_metadata` keeps JSON text there, `using_session` and `using_user` texts.


def test_openinferences_user_is_the_user_of_the_events(recording: Recording) -> None:
    with in_context("user.id", "u-7"):
        router().completion(model="group", messages=messages("x"))

    assert [event["user_properties"] for event in recording.events()] == [{"user_id": "u-7"}, {"user_id": "u-7"}]


def test_the_user_of_a_session_is_taken_before_openinferences(recording: Recording) -> None:
    with in_context("user.id", "u-7"), hh.session(user="u-1"):
        ask()

    assert recording.event()["user_properties"]["user_id"] == "u-1"


def test_the_user_of_a_call_is_taken_before_openinferences(recording: Recording) -> None:
    with in_context("user.id", "u-7"):
        ask(user="u-1")

    assert recording.event()["user_properties"]["user_id"] == "u-1"


@pytest.mark.parametrize("dump", [json.dumps, dict], ids=["as OpenInference keeps it", "as a dictionary"])
def test_openinferences_metadata_is_on_the_events(recording: Recording, dump: Callable[[Any], object]) -> None:
    with in_context("metadata", dump({"tenant": "t-1", "tries": 3})):
        ask()

    metadata = recording.event()["metadata"]
    assert (metadata["tenant"], metadata["tries"]) == ("t-1", 3)


@pytest.mark.parametrize("value", ["no JSON {", "[1]", "5", 5, None, ["x"]])
def test_metadata_in_the_context_that_is_none_disturbs_nothing(recording: Recording, value: object) -> None:
    with in_context("metadata", value):
        ask("x")

    assert sessions(recording) == {"x": "process"}


def test_metadata_in_the_context_does_not_replace_our_own(recording: Recording) -> None:
    with in_context("metadata", {"operation_name": "theirs", "tenant": "t-1"}):
        ask()

    metadata = recording.event()["metadata"]
    assert (metadata["operation_name"], metadata["tenant"]) == ("chat", "t-1")
    assert metadata["user_metadata"]["operation_name"] == "theirs"
