"""Anthropic, by LiteLLM's chat functions and by its native Messages functions: thinking, cached tokens, tools, images.

Streams of the native functions need the packages of LiteLLM's proxy, which LiteLLM imports to read them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any
from unittest.mock import ANY

import pytest

from tests.capture.calls import MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import KEY, Behaviour, FakeProvider
from tests.fakes.wires.anthropic import CACHE_READ, CACHE_WRITTEN, REDACTED, REQUEST_ID, SIGNATURE, THOUGHT
from tests.providers.case import (
    ANSWER,
    IS_NEWEST,
    Case,
    check,
    event,
    price,
)

MODEL = "claude-sonnet-4-5"
DATED = "claude-sonnet-4-5-20250929"
HAS_PROXY = all(find_spec(name) is not None for name in ("fastapi", "soundfile", "backoff", "redis"))
BASE: dict[str, Any] = {
    "model": f"anthropic/{MODEL}",
    "messages": MESSAGES,
    "api_base": "{url}",
    "api_key": KEY,
    "max_retries": 0,
}
NATIVE_BASE: dict[str, Any] = {
    "model": f"anthropic/{MODEL}",
    "messages": MESSAGES,
    "api_base": "{url}",
    "api_key": KEY,
    "max_tokens": 100,
}
HIDDEN = frozenset({"messages", "api_base", "api_key"})
"""Arguments that are not settings."""
CHAT_INPUTS: dict[str, Any] = {"chat_history": MESSAGES}
NATIVE_ANSWER: dict[str, Any] = {**ANSWER, "finish_reason": "end_turn"}

CALLS: list[dict[str, Any]] = [
    {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "toolu_2", "type": "function", "function": {"name": "time", "arguments": '{"zone": "CET"}'}},
]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": f"The {name}.", "parameters": SCHEMA}}
    for name in ("weather", "time")
]
NATIVE_TOOLS = [{"name": name, "description": f"The {name}.", "input_schema": SCHEMA} for name in ("weather", "time")]
THINKING = {"type": "enabled", "budget_tokens": 1024}
THOUGHT_TOKENS = 6
"""LiteLLM counts the words of the thoughts itself."""
THOUGHTS: dict[str, Any] = {
    "reasoning": THOUGHT,
    "thinking_blocks": [
        {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE},
        {"type": "redacted_thinking", "data": REDACTED},
    ],
}
PNG = b"\x89PNG\r\n\x1a\n a very small picture"
PNG_BASE64 = base64.b64encode(PNG).decode()
BLOB = {"size": len(PNG), "sha256": hashlib.sha256(PNG).hexdigest()}


def _price(**tokens: int) -> float:
    return price(MODEL, **tokens) if IS_NEWEST else 0.0  # old price lists lack the model


INPUT_COST = _price(input_cost_per_token=11)
OUTPUT_COST = _price(output_cost_per_token=7)
READ_COST = _price(cache_read_input_token_cost=CACHE_READ)
WRITE_COST = _price(cache_creation_input_token_cost=3, cache_creation_input_token_cost_above_1hr=2)


def _approximately(value: float) -> Any:
    return pytest.approx(value, rel=1e-9)


def _usage(*, thoughts: int = 0, read: int = 0, written: int = 0, is_stream: bool = False) -> dict[str, Any]:
    five_minutes, hour = (3, 2) if written else (0, 0)
    prompt = 11 + read + written
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": 7,
        "total_tokens": prompt + 7,
        "completion_tokens_details": {"reasoning_tokens": thoughts, "text_tokens": 7 - thoughts},
        "prompt_tokens_details": {
            "text_tokens": 11,
            "cached_tokens": read,
            "cache_write_tokens": written,
            "cache_creation_tokens": written,
            "cache_creation_token_details": {
                "ephemeral_5m_input_tokens": five_minutes,
                "ephemeral_1h_input_tokens": hour,
            },
        },
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
    }
    cost = INPUT_COST + OUTPUT_COST + (READ_COST if read else 0) + (WRITE_COST if written else 0)
    return {**usage, "cost": _approximately(cost)} if is_stream else {**usage, "service_tier": "standard"}


def _same_for(function: str, operation: str) -> dict[str, Any]:
    return {"operation_name": operation, "call_type": function.rpartition(".")[2], "provider": "anthropic"}


def _counted(usage: Mapping[str, Any]) -> dict[str, Any]:
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    thoughts = usage["completion_tokens_details"]["reasoning_tokens"]
    cost = INPUT_COST + OUTPUT_COST + (READ_COST if read else 0) + (WRITE_COST if written else 0)
    parts = {
        "total_cost": cost,
        "original_cost": cost,
        "input_cost": cost - OUTPUT_COST,
        "output_cost": OUTPUT_COST,
        "cache_read_cost": READ_COST if read else 0,
        "cache_creation_cost": WRITE_COST if written else 0,
        "reasoning_cost": OUTPUT_COST / 7 * thoughts,
    }
    counts = {
        "cache_read_input_tokens": read,
        "cache_write_input_tokens": written,
        "reasoning_tokens": thoughts,
    }
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
        **{name: count for name, count in counts.items() if count},
        "usage": usage,
        "usage_source": "provider",
        "cost": _approximately(cost),
        "cost_parts": {name: _approximately(part) for name, part in parts.items() if part},
    }


def _case(
    case: str,
    *,
    function: str = "completion",
    settings: Mapping[str, Any] | None = None,
    messages: list[dict[str, Any]] | None = None,
    recorded: list[dict[str, Any]] | None = None,
    special: str | None = None,
    tool_calls: list[dict[str, Any]] | None = None,
    outputs: Mapping[str, Any] = ANSWER,
    usage: Mapping[str, int] | None = None,
    chunks: int | None = None,
    since: tuple[int, int] = (1, 55),
) -> Case:
    """A chat call that is answered; a stream if it has chunks."""
    given = {**(settings or {}), **({} if chunks is None else {"stream": True})}
    arguments = {**BASE, **given, **({"messages": messages} if messages else {})}
    named = {"stop_sequences" if name == "stop" else name: value for name, value in given.items()}
    metadata: dict[str, Any] = {
        **_same_for(function, "chat"),
        **_counted(_usage(is_stream=chunks is not None, **(usage or {}))),
        "cost_source": "response" if chunks is None else "price_table",
        "response_model": DATED,
        "api_base": "{url}",
        "provider_request_id": REQUEST_ID,
        "finish_reason": outputs["finish_reason"],
    }
    if chunks is None:
        metadata["service_tier"] = "standard"  # LiteLLM drops it from the usage of streams
    else:
        metadata |= {"stream_ending": "completed", "stream_chunks": chunks}
    return Case(
        id=case,
        function=function,
        arguments=arguments,
        behaviour=Behaviour(special=special, tool_calls=tool_calls),
        model=MODEL,
        expected=event(
            f"litellm.{function}",
            config={"model": BASE["model"], "provider": "anthropic", "max_retries": 0, **named},
            inputs={"chat_history": recorded or messages or MESSAGES},
            outputs=outputs,
            metadata=metadata,
        ),
        since=since,
    )


ERRORS = {
    400: ("invalid_request_error", "BadRequestError"),
    401: ("authentication_error", "AuthenticationError"),
    429: ("rate_limit_error", "RateLimitError"),
}


def _failing(
    case: str,
    status: int,
    *,
    function: str = "completion",
    base: Mapping[str, Any] = BASE,
    is_stream: bool = False,
    operation: str = "chat",
    since: tuple[int, int] = (1, 55),
) -> Case:
    kind, name = ERRORS[status]
    message = "max_tokens: 0 is too small"
    body = json.dumps(
        {"type": "error", "error": {"type": kind, "message": message}, "request_id": REQUEST_ID},
    )
    # LiteLLM writes the body of a refused stream as bytes; its native functions read it first.
    text = f"b'{body}'" if is_stream and operation == "chat" else body
    metadata: dict[str, Any] = {
        **_same_for(function, operation),
        "api_base": "{url}",
        "error_type": name,
        "error_module": "litellm.exceptions",
        "status_code": status,
        "provider_request_id": REQUEST_ID,
        "ending": "failed",
    }
    if status == 429:
        metadata["retry_after_s"] = 3
    settings = {name: value for name, value in base.items() if name not in HIDDEN}
    if is_stream:
        settings["stream"] = True
    return Case(
        id=case,
        function=function,
        arguments={**base, **({"stream": True} if is_stream else {})},
        behaviour=Behaviour(status=status, message=message, headers=(("retry-after", "3"),) if status == 429 else ()),
        model=MODEL,
        expected=event(
            f"litellm.{function}",
            config={"provider": "anthropic", **settings},
            inputs=CHAT_INPUTS,
            outputs={"role": "assistant"},
            metadata=metadata,
            error=f"{name}: litellm.{name}: AnthropicException - {text}",
        ),
        since=since,
    )


CALLED: dict[str, Any] = {"role": "assistant", "content": None, "finish_reason": "tool_calls", "tool_calls": CALLS}
COUNTING = {"stream_options": {"include_usage": True}}
THINKING_SETTINGS = {"thinking": THINKING, "max_tokens": 2000}
CACHED_SYSTEM: list[dict[str, Any]] = [
    {"role": "system", "content": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]},
    *MESSAGES,
]
CACHED = {"read": CACHE_READ, "written": CACHE_WRITTEN}


def _with_image(url: Any) -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": parts}]


TOOL_HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather and time?"},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"},
    {"role": "tool", "tool_call_id": "toolu_2", "content": [{"type": "text", "text": "noon"}]},
]

CASES = (
    _case("answer"),
    _case("answer, async", function="acompletion"),
    _case("stream that LiteLLM counts quietly", chunks=5, since=(1, 82)),
    _case("stream that tells its counts", settings=COUNTING, chunks=6, since=(1, 74)),
    _case("stream, async", function="acompletion", settings=COUNTING, chunks=6, since=(1, 82)),
    _case("parallel tools", settings={"tools": TOOLS, "tool_choice": "auto"}, tool_calls=CALLS, outputs=CALLED),
    _case(
        "parallel tools in a stream",
        settings={"tools": TOOLS, **COUNTING},
        tool_calls=CALLS,
        outputs=CALLED,
        chunks=12,
        since=(1, 74),
    ),
    _case(
        "thinking",
        settings=THINKING_SETTINGS,
        special="thinking",
        outputs={**ANSWER, **THOUGHTS},
        usage={"thoughts": THOUGHT_TOKENS},
        since=(1, 82),
    ),
    _case(
        "thinking in a stream",
        settings={**THINKING_SETTINGS, **COUNTING},
        special="thinking",
        outputs={**ANSWER, **THOUGHTS},
        usage={"thoughts": THOUGHT_TOKENS},
        chunks=10,
        since=(1, 82),
    ),
    _case("cached system prompt", messages=CACHED_SYSTEM, special="cache", usage=CACHED, since=(1, 82)),
    _case(
        "cached system prompt in a stream",
        settings=COUNTING,
        messages=CACHED_SYSTEM,
        special="cache",
        usage=CACHED,
        chunks=6,
        since=(1, 82),
    ),
    _case("stop sequence", settings={"stop": ["END", "world"]}, special="stop_sequence"),
    _case(
        "image in the question",
        messages=_with_image(f"data:image/png;base64,{PNG_BASE64}"),
        recorded=_with_image({"type": "image/png", **BLOB}),
    ),
    _case("results of tools in the question", messages=TOOL_HISTORY, settings={"tools": TOOLS}),
    _failing("bad request", 400),
    _failing("wrong key", 401),
    _failing("rate limit", 429),
    # Up to 1.60 the kept async client is bound to the event loop of an earlier call, and fails in the next one.
    _failing("rate limit, async", 429, function="acompletion", since=(1, 74)),
    _failing("rate limit of a stream", 429, is_stream=True),
)


RAW_USAGE: dict[str, Any] = {
    "input_tokens": 11,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 7,
    "service_tier": "standard",
}
MESSAGES_FUNCTIONS = ("anthropic_messages", "anthropic.messages.acreate")


def _native(
    case: str,
    *,
    function: str = "anthropic_messages",
    settings: Mapping[str, Any] | None = None,
    messages: list[dict[str, Any]] | None = None,
    history: list[dict[str, Any]] | None = None,
    special: str | None = None,
    tool_calls: list[dict[str, Any]] | None = None,
    outputs: Mapping[str, Any] = NATIVE_ANSWER,
    is_stream: bool = False,
    since: tuple[int, int] = (1, 74),
) -> Case:
    """A call of a native function that is answered. (How a stream is cut into pieces is up to the network.)"""
    given = {**(settings or {}), **({"stream": True} if is_stream else {})}
    kept = {name: value for name, value in given.items() if name != "system"}
    metadata: dict[str, Any] = {
        **_same_for(function, "anthropic_messages"),
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "input_tokens": 11,
        "output_tokens": 7,
        "total_tokens": 18,
        "usage": RAW_USAGE,
        "usage_source": "provider",
        "cost": _approximately(INPUT_COST + OUTPUT_COST),
        "cost_source": "price_table",
        "cost_parts": {"input_cost": _approximately(INPUT_COST), "output_cost": _approximately(OUTPUT_COST)},
        "response_model": DATED,
        "service_tier": "standard",
        "api_base": "{url}",
        "finish_reason": outputs["finish_reason"],
    }
    if is_stream:
        metadata |= {"stream_ending": "completed", "stream_chunks": ANY, "provider_request_id": REQUEST_ID}
    return Case(
        id=case,
        function=function,
        arguments={**NATIVE_BASE, **given, **({"messages": messages} if messages else {})},
        behaviour=Behaviour(special=special, tool_calls=tool_calls),
        model=MODEL,
        expected=event(
            f"litellm.{function}",
            config={"model": BASE["model"], "provider": "anthropic", "max_tokens": 100, **kept},
            inputs={"chat_history": history or MESSAGES},
            outputs=outputs,
            metadata=metadata,
        ),
        since=since,
    )


NATIVE_CALLS = [
    {**call, "function": {**call["function"], "arguments": arguments}}
    for call, arguments in zip(CALLS, ('{"city":"Oslo"}', '{"zone":"CET"}'), strict=True)
]
"""The input is an object on this wire, and is written as JSON by the recorder, of a stream as well."""


NATIVE_CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "finish_reason": "tool_use",
    "tool_calls": NATIVE_CALLS,
}


NATIVE_MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"},
            {"type": "text", "text": "And this?"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}},
        ],
    },
]
NATIVE_HISTORY: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [{"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "toolu_1", "content": "rain"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "And this?"},
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": {"type": "image/png", **BLOB}},
            },
        ],
    },
]

NATIVE_CASES = (
    *(_native(f"answer of {function}", function=function) for function in MESSAGES_FUNCTIONS),
    _native(
        "parallel tools",
        settings={"tools": NATIVE_TOOLS},
        tool_calls=CALLS,
        outputs=NATIVE_CALLED,
    ),
    _native(
        "system, results of tools and an image in the question",
        settings={"system": "Be kind.", "tools": NATIVE_TOOLS},
        messages=NATIVE_MESSAGES,
        history=NATIVE_HISTORY,
    ),
    _native(
        "thinking",
        settings={"thinking": THINKING},
        special="thinking",
        outputs={**NATIVE_ANSWER, **THOUGHTS},
    ),
    _native(
        "stop sequence",
        settings={"stop_sequences": ["END", "world"]},
        special="stop_sequence",
        outputs={
            **NATIVE_ANSWER,
            "finish_reason": "stop_sequence",
            "provider_specific_fields": {"stop_sequence": "END"},
        },
    ),
    *(
        _failing(
            f"status {status} of {function}",
            status,
            function=function,
            base=NATIVE_BASE,
            operation="anthropic_messages",
            since=(1, 109),
        )
        for function, status in ((MESSAGES_FUNCTIONS[0], 400), (MESSAGES_FUNCTIONS[0], 401), (MESSAGES_FUNCTIONS[1], 429))
    ),
    _failing(
        "rate limit of a stream",
        429,
        function="anthropic_messages",
        base=NATIVE_BASE,
        is_stream=True,
        operation="anthropic_messages",
        since=(1, 109),
    ),
)  # fmt: skip

NATIVE_STREAMS = (
    *(_native(f"stream of {function}", function=function, is_stream=True) for function in MESSAGES_FUNCTIONS),
    _native(
        "parallel tools in a stream",
        settings={"tools": NATIVE_TOOLS},
        tool_calls=CALLS,
        outputs=NATIVE_CALLED,
        is_stream=True,
    ),
    _native(
        "thinking in a stream",
        settings={"thinking": THINKING},
        special="thinking",
        outputs={**NATIVE_ANSWER, **THOUGHTS},
        is_stream=True,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_chat_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)


@pytest.mark.parametrize("case", NATIVE_CASES, ids=lambda case: case.id)
def test_a_native_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)


@pytest.mark.skipif(
    not HAS_PROXY, reason="LiteLLM reads these streams with its proxy's packages, which are not installed"
)
@pytest.mark.parametrize("case", NATIVE_STREAMS, ids=lambda case: case.id)
def test_a_native_stream_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)
