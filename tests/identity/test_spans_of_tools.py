"""Another instrumentation's span of the very call is around ours, and surrounds nothing else: it makes no session."""

from __future__ import annotations

import litellm
import pytest
from opentelemetry.sdk.trace import TracerProvider

import honeyhive_autoinstrument
from tests.conftest import Recording

PROVIDER = TracerProvider(shutdown_on_exit=False)


def ask() -> None:
    litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y")


@pytest.mark.parametrize("scope", ["openinference.instrumentation.litellm", "openlit.otel.tracing"])
def test_a_trace_that_a_tool_begins_with_the_call_leaves_it_in_the_session_of_the_process(
    recording: Recording, scope: str
) -> None:
    with PROVIDER.get_tracer(scope).start_as_current_span("completion") as span:
        ask()

    event = recording.event()
    assert event["session_id"] == honeyhive_autoinstrument.stats()["session_id"]
    assert event["metadata"]["trace_id"] == f"{span.get_span_context().trace_id:032x}"


@pytest.mark.parametrize("scope", ["openinference.instrumentation.litellm", "openlit.otel.tracing"])
def test_a_tools_span_inside_the_programs_trace_leaves_the_call_in_the_session_of_that(
    recording: Recording, scope: str
) -> None:
    with PROVIDER.get_tracer("the program").start_as_current_span("request"):
        ask()
        with PROVIDER.get_tracer(scope).start_as_current_span("completion"):
            ask()

    first, second = recording.events()
    assert first["session_id"] == second["session_id"] != honeyhive_autoinstrument.stats()["session_id"]
