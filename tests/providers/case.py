"""A Case: one call against one provider's wire, and the whole event that it has to become."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import litellm

from tests.capture.calls import LITELLM_VERSION
from tests.conftest import Recording
from tests.fakes.provider import FakeProvider
from tests.fakes.wires import Behaviour

IS_NEWEST = LITELLM_VERSION >= (1, 110)
"""Whole events are compared where LiteLLM's own part in them is known; on other releases what a user cannot do without."""

VARYING = frozenset({"event_id", "session_id", "parent_id", "start_time", "end_time", "duration"})
VARYING_METADATA = frozenset(
    {
        "litellm_call_id", "litellm_trace_id", "litellm_version", "time_to_first_token_ms", "litellm_overhead_ms",
        "response_id",
    }
)  # fmt: skip
"""Ids and times. (LiteLLM makes up the response id for providers that send none.)"""

ON_EVERY_RELEASE = {
    "root": ("event_type", "event_name"),
    "inputs": None,
    "outputs": ("role", "content", "finish_reason", "tool_calls", "text", "num_embeddings", "dimensions", "nodes"),
    "metadata": ("prompt_tokens", "completion_tokens", "finish_reason", "error_type", "stream_ending", "provider"),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is called, how the provider answers, what the event is."""

    id: str
    function: str
    """A public function of LiteLLM: `completion`, `aresponses`, `anthropic.messages.acreate`."""
    arguments: Mapping[str, Any]
    """`{url}` in a text becomes FakeProvider's address."""
    behaviour: Behaviour | None = None
    """How the provider answers (`model` below says for which model)."""
    model: str = ""
    """The model's name as the provider sees it, where `behaviour` is given."""
    expected: Mapping[str, Any] = field(default_factory=dict)
    """The whole event, ids and times aside; made by `event`."""
    is_read: bool = True
    """Whether a stream is read to its end."""
    since: tuple[int, int] = (1, 55)
    """The first LiteLLM release (minor line) that can do this at all, as seen by running it."""


def event(
    name: str,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    metadata: Mapping[str, Any],
    error: str | None = None,
    event_type: str = "model",
    user_properties: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A whole event as the server gets it, less what varies."""
    return {
        "event_type": event_type,
        "event_name": name,
        "source": "production",
        "config": dict(config),
        "inputs": dict(inputs),
        "outputs": dict(outputs),
        "error": error,
        "metadata": dict(metadata),
        "metrics": {},
        "feedback": {},
        "user_properties": dict(user_properties or {}),
    }


def price(model: str, **tokens: int) -> float:
    """US dollars by LiteLLM's own table: `price("gpt-4o", input_cost_per_token=11, output_cost_per_token=7)`."""
    row = litellm.model_cost[model]
    return float(sum(row[name] * count for name, count in tokens.items()))


def check(case: Case, recording: Recording, provider: FakeProvider) -> None:
    """Make the call and compare its event."""
    if case.behaviour is not None:
        provider.always(case.model, case.behaviour)

    call(case, provider)

    found = recording.event()
    expected = filled(case.expected, provider)
    assert_times(found)
    if IS_NEWEST:
        assert stable(found) == expected
    else:
        assert essentials(found) == essentials(expected)


def call(case: Case, provider: FakeProvider) -> BaseException | None:
    """Call it, read it to its end, and give back what it raised."""
    function: Callable[..., Any] = litellm
    for name in case.function.split("."):
        function = getattr(function, name)
    arguments = filled(case.arguments, provider)
    try:
        result = function(**arguments)
        if asyncio.iscoroutine(result):
            asyncio.run(_consume(result, is_read=case.is_read))
        elif case.is_read and hasattr(result, "__next__") and arguments.get("stream"):
            for _ in result:
                pass
    except Exception as error:
        return error
    return None


async def _consume(coroutine: Any, *, is_read: bool) -> None:
    result = await coroutine
    if is_read and hasattr(result, "__anext__"):
        async for _ in result:
            pass


def filled(value: Any, provider: FakeProvider) -> Any:
    """A copy with FakeProvider's address in place of `{url}`."""
    if isinstance(value, str):
        return value.replace("{url}", provider.url)
    if isinstance(value, Mapping):
        return {key: filled(item, provider) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, provider) for item in value]
    return value


def stable(found: Mapping[str, Any]) -> dict[str, Any]:
    """The event less ids and times."""
    kept = {key: value for key, value in found.items() if key not in VARYING}
    kept["metadata"] = {key: value for key, value in found["metadata"].items() if key not in VARYING_METADATA}
    return kept


def essentials(found: Mapping[str, Any]) -> dict[str, Any]:
    """What holds on every release."""
    kept: dict[str, Any] = {key: found[key] for key in ON_EVERY_RELEASE["root"] or ()}
    for bucket in ("inputs", "outputs", "metadata"):
        names = ON_EVERY_RELEASE[bucket]
        kept[bucket] = {key: value for key, value in found[bucket].items() if names is None or key in names}
    return kept


def assert_times(found: Mapping[str, Any]) -> None:
    assert found["end_time"] >= found["start_time"] > 1_700_000_000_000
    assert found["duration"] == round(found["end_time"] - found["start_time"], 3)
    first = found["metadata"].get("time_to_first_token_ms")
    assert first is None or 0 < first <= found["duration"]
