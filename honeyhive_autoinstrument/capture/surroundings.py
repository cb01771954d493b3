"""What surrounds an outermost Call when it begins: our Scope, OpenTelemetry's context, a HoneyHiveTracer of this process.

`read_surroundings` runs in the application's thread with each outermost Call and only takes hold of things; what they mean
is found out later (`Surroundings.facts()`), on a worker. Contexts of OpenTelemetry never change once made. Nothing here
imports OpenTelemetry or the `honeyhive` package: where nobody else has, there is nothing to read.

Sources: honeyhive_api.md 5; OpenInference's keys are its `using_session`, `using_user`, `using_metadata` (0.1.x).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from honeyhive_autoinstrument._faults import guarded, harmless
from honeyhive_autoinstrument.capture.context import current_scope
from honeyhive_autoinstrument.capture.scope import Scope
from honeyhive_autoinstrument.events.facts import SurroundingFacts
from honeyhive_autoinstrument.events.ids import uuid_in

SESSION_IN_BAGGAGE = ("session_id", "honeyhive.session_id", "honeyhive_session_id")
SESSION_OF_SPAN = ("honeyhive.session_id", "traceloop.association.properties.session_id", "session.id")
EXPERIMENT = ("run_id", "dataset_id", "datapoint_id")
"""What `honeyhive.evaluate` has in baggage; events without them do not count to the run."""
EVENT_OF_SPAN = "honeyhive_event_id"
"""Where a span tells under which id HoneyHive has it."""

_modules = sys.modules


class Surroundings:
    """What an outermost Call begins in."""

    __slots__ = ("context", "scope", "span", "tracer_session")

    def __init__(
        self, scope: Scope | None, context: Any, span: Any, tracer_session: tuple[str, str | None] | None
    ) -> None:
        self.scope = scope
        self.context = context
        """OpenTelemetry's; empty where nothing is set."""
        self.span = span
        """One that LiteLLM's arguments bring; the current one of the context counts more."""
        self.tracer_session = tracer_session
        """Id and name of the session of a HoneyHiveTracer."""

    def facts(self) -> SurroundingFacts:
        """What that says. Runs on a worker."""
        found: dict[str, Any] = {}
        baggage: Mapping[str, Any] = {}
        with guarded("read OpenTelemetry's baggage"):
            baggage = self._baggage()
            found["baggage_session"] = _first_text(baggage, SESSION_IN_BAGGAGE)
            found["parent_id"] = uuid_in(baggage.get("parent_id"))
            found["experiment"] = {name: str(baggage[name]) for name in EXPERIMENT if baggage.get(name)}
        with guarded("read the surrounding span"):
            found.update(self._of_span(found.get("parent_id")))
        with guarded("read OpenTelemetry's context"):
            found.update(self._of_context())
        return SurroundingFacts(tracer_session=self.tracer_session, **found)

    def _baggage(self) -> Mapping[str, Any]:
        api = _modules.get("opentelemetry.baggage")
        return api.get_all(self.context) if api is not None and self.context else {}

    def _of_span(self, parent_id: str | None) -> dict[str, Any]:
        api = _modules.get("opentelemetry.trace")
        if api is None:
            return {}
        span = api.get_current_span(self.context) if self.context else None
        if (span is None or not span.get_span_context().is_valid) and self.span is not None:
            span = self.span
        where = None if span is None else span.get_span_context()
        if where is None or not where.is_valid:
            return {}
        attributes = getattr(span, "attributes", None) or {}
        name = getattr(span, "name", None)
        return {
            "trace_id": f"{where.trace_id:032x}",
            "span_id": f"{where.span_id:016x}",
            "is_trace_of_call": getattr(span, "parent", None) is None and _is_of_instrumentation(span),
            "span_name": name if isinstance(name, str) else None,
            "span_session": _first_text(attributes, SESSION_OF_SPAN),
            "parent_id": parent_id or uuid_in(attributes.get(EVENT_OF_SPAN)),
        }

    def _of_context(self) -> dict[str, Any]:
        if not self.context:
            return {}
        properties = self.context.get("association_properties")
        session = _first_text(properties, ("session_id",)) if isinstance(properties, Mapping) else None
        metadata = self.context.get("metadata")
        if isinstance(metadata, str):  # `using_metadata` keeps it as JSON
            metadata = _json_of(metadata)
        return {
            "context_session": session or _first_text(self.context, ("session.id",)),
            "user_id": _first_text(self.context, ("user.id",)),
            "metadata": metadata if isinstance(metadata, Mapping) else {},
        }


def read_surroundings(bucket: Any) -> Surroundings | None:
    """None where there is nothing.

    :param bucket: the metadata that the call was given, if any; LiteLLM's own users put a span there.
    """
    scope = current_scope.get()
    context = None
    api = _modules.get("opentelemetry.context")
    if api is not None:
        current = getattr(api, "get_current", None)  # missing while another thread imports it
        context = current() if current is not None else None
    span = bucket.get("litellm_parent_otel_span") if type(bucket) is dict else None
    tracer_session = _tracer_session(context) if "honeyhive" in _modules else None
    if scope is None and not context and span is None and tracer_session is None:
        return None
    return Surroundings(scope, context, span, tracer_session)


def _is_of_instrumentation(span: Any) -> bool:
    """Whether another tool has made the span for a call of LiteLLM's (scopes: openinference.instrumentation.litellm, which
    Logfire uses, too; openlit.otel.tracing)."""
    scope = str(getattr(getattr(span, "instrumentation_scope", None), "name", ""))
    return "litellm" in scope or scope.startswith("openlit")


@harmless("find a HoneyHiveTracer", None)
def _tracer_session(context: Any) -> tuple[str, str | None] | None:
    """Of the tracer that the baggage names, else of the default one, else of the only one (honeyhive 1.7,
    `tracer/registry.py`)."""
    registry = _modules.get("honeyhive.tracer.registry")
    if registry is None:
        return None
    tracer = registry.get_tracer_from_baggage(context) if context else None
    if tracer is None:
        tracer = registry.get_default_tracer()
    if tracer is None:
        tracers = registry.get_all_tracers()
        tracer = tracers[0] if len(tracers) == 1 else None
    session_id = getattr(tracer, "session_id", None)
    if not isinstance(session_id, str) or not session_id:
        return None
    name = getattr(tracer, "session_name", None)
    return session_id, name if isinstance(name, str) and name else None


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _first_text(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = fields.get(name)
        if value is not None and value != "":
            return str(value)
    return None
