"""A Case: one call against one provider's wire, and the whole event that it has to become."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import litellm
import pytest

from tests.capture.calls import LITELLM_VERSION
from tests.conftest import Recording
from tests.fakes.provider import TEXT, FakeProvider
from tests.fakes.wires import Behaviour

IS_NEWEST = LITELLM_VERSION >= (1, 110)
"""Whole events are compared where LiteLLM's own part in them is known; on other releases what a user cannot do without."""

# A question about the weather in two cities, which the tests of several providers ask.
CALLS = [
    {"id": "call_paris", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
    {"id": "call_rome", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
ANSWER: dict[str, Any] = {"role": "assistant", "content": TEXT, "finish_reason": "stop"}
STREAM = {"stream": True}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}

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
    """A whole event as the server gets it, less what varies.

    :param metadata: `cost_parts` may be LiteLLM's whole breakdown: its sums are no parts, and of streams its table tells
        input and output only. Where LiteLLM leaves a stream's cost with the usage, that is where it comes from.
    """
    metadata = dict(metadata)
    is_chunked = "stream_ending" in metadata and metadata.get("operation_name") in ("chat", "text_completion")
    if is_chunked and "cost" in metadata.get("usage", {}):
        metadata["cost_source"] = "response"
    if "cost_parts" in metadata:
        known = ("input_cost", "output_cost") if is_chunked or metadata["cost_source"] == "price_table" else None
        metadata["cost_parts"] = {
            name: part
            for name, part in metadata["cost_parts"].items()
            if name not in ("total_cost", "original_cost") and (known is None or name in known)
        }
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
    if case.since > LITELLM_VERSION:
        pytest.skip(f"LiteLLM cannot do it before {case.since}")
    if case.behaviour is not None:
        provider.always(case.model, case.behaviour)

    call(case, provider)

    found = recording.event()
    expected = filled(case.expected, provider)
    assert_times(found)
    part = stable if IS_NEWEST else essentials
    wrong = list(differences(part(found), part(expected)))
    if not IS_NEWEST and found["metadata"].get("usage_source") == "estimated":
        # LiteLLM 1.105 to 1.108 counts nothing where the provider does not.
        wrong = [each for each in wrong if "_tokens:" not in each]
    assert not wrong, "\n".join(wrong)


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


def differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Where two values differ, and how; a whole event is too long to be read side by side."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            if key not in found:
                yield f"{path}/{key}: missing; expected {expected[key]!r}"
            elif key not in expected:
                yield f"{path}/{key}: not expected; found {found[key]!r}"
            else:
                yield from differences(found[key], expected[key], f"{path}/{key}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(one, other, f"{path}/{number}")
    elif found != expected:
        yield f"{path}: {found!r} instead of {expected!r}"


def assert_times(found: Mapping[str, Any]) -> None:
    assert found["end_time"] >= found["start_time"] > 1_700_000_000_000
    assert found["duration"] == round(found["end_time"] - found["start_time"], 3)
    first = found["metadata"].get("time_to_first_token_ms")
    assert first is None or 0 < first <= found["duration"]
