"""Bedrock's Converse API by three families of models: tools, reasoning, cached tokens, guardrails, errors.

LiteLLM signs these requests with boto3 and reads their streams with botocore; without them the file is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import pytest

from tests.capture.calls import MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import Behaviour, FakeProvider
from tests.fakes.wires.bedrock import (
    BLOCKED_TEXT,
    CACHE_READ,
    CACHE_WRITTEN,
    GUARDRAIL_TRACE,
    REQUEST_ID,
    SIGNATURE,
    THOUGHT,
)
from tests.providers.case import (
    ANSWER,
    IS_NEWEST,
    Case,
    check,
    event,
    price,
)

pytestmark = pytest.mark.skipif(find_spec("boto3") is None, reason="boto3 is not installed")

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
LLAMA = "meta.llama3-3-70b-instruct-v1:0"
SINCE = {CLAUDE: (1, 82), NOVA: (1, 55), LLAMA: (1, 55)}
"""Older releases do not know this Claude, and call it by Bedrock's older API."""
REGION = "us-east-1"
CALLS: list[dict[str, Any]] = [
    {"id": "tooluse_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "tooluse_2", "type": "function", "function": {"name": "time", "arguments": '{"zone": "CET"}'}},
]
CALLED: dict[str, Any] = {"role": "assistant", "content": "", "finish_reason": "tool_calls", "tool_calls": CALLS}
CALLED_IN_STREAM: dict[str, Any] = {**CALLED, "content": None}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"The {name}.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("weather", "time")
]
COUNTING = {"stream_options": {"include_usage": True}}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
THOUGHT_TOKENS = 6
"""LiteLLM counts the words of the thoughts itself."""
THOUGHTS: dict[str, Any] = {
    "reasoning": THOUGHT,
    "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}],
}
GUARDRAIL = {"guardrailIdentifier": "gr-fake", "guardrailVersion": "1", "trace": "enabled"}
BLOCKED: dict[str, Any] = {
    "role": "assistant",
    "content": BLOCKED_TEXT,
    "finish_reason": "content_filter",
    "provider_specific_fields": {"trace": GUARDRAIL_TRACE},
}


def _arguments(model: str) -> dict[str, Any]:
    return {
        "model": f"bedrock/{model}",
        "messages": MESSAGES,
        "api_base": "{url}",
        "aws_region_name": REGION,
        "aws_access_key_id": "AKIAFAKEFAKEFAKEFAKE",
        "aws_secret_access_key": "fake/secret/0123456789abcdefABCDEF012345",
        "max_retries": 0,
    }


def _costs(model: str, *, thoughts: int = 0, read: int = 0, written: int = 0) -> dict[str, float]:
    """What LiteLLM's logging object tells of the price, part by part."""
    if not IS_NEWEST:
        return {"total_cost": 0.0}  # old price lists lack some of the models
    output_cost = price(model, output_cost_per_token=7)
    parts = {
        "output_cost": output_cost,
        "cache_read_cost": price(model, cache_read_input_token_cost=read) if read else 0.0,
        "cache_creation_cost": price(model, cache_creation_input_token_cost=written) if written else 0.0,
        "reasoning_cost": output_cost / 7 * thoughts,
    }
    parts["input_cost"] = (
        price(model, input_cost_per_token=11) + parts["cache_read_cost"] + parts["cache_creation_cost"]
    )
    total = parts["input_cost"] + output_cost
    return {"total_cost": total, "original_cost": total, **{name: part for name, part in parts.items() if part}}


def _approximately(value: float) -> Any:
    return pytest.approx(value, rel=1e-9)


def _counted(
    costs: Mapping[str, float], *, is_stream: bool, thoughts: int = 0, read: int = 0, written: int = 0
) -> dict[str, Any]:
    prompt = 11 + read + written
    cost = _approximately(costs["total_cost"])
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
        },
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
    }
    counts = {
        "cache_read_input_tokens": read,
        "cache_write_input_tokens": written,
        "reasoning_tokens": thoughts,
    }
    return {
        "prompt_tokens": prompt,
        "completion_tokens": 7,
        "input_tokens": prompt,
        "output_tokens": 7,
        "total_tokens": prompt + 7,
        **{name: count for name, count in counts.items() if count},
        "usage": {**usage, "cost": cost} if is_stream else usage,
        "usage_source": "provider",
        "cost": cost,
        "cost_source": "price_table" if is_stream else "response",
        "cost_parts": {name: _approximately(part) for name, part in costs.items()},
    }


def _case(
    case: str,
    model: str,
    *,
    function: str = "completion",
    settings: Mapping[str, Any] | None = None,
    special: str | None = None,
    tool_calls: list[dict[str, Any]] | None = None,
    outputs: Mapping[str, Any] = ANSWER,
    usage: Mapping[str, int] | None = None,
    chunks: int | None = None,
    since: tuple[int, int] = (1, 55),
) -> Case:
    """A call that is answered; a stream if it has chunks."""
    is_stream = chunks is not None
    given = {**(settings or {}), **({"stream": True} if is_stream else {})}
    metadata: dict[str, Any] = {
        "operation_name": "chat",
        "call_type": function,
        "provider": "bedrock",
        "region": REGION,
        **_counted(_costs(model, **(usage or {})), is_stream=is_stream, **(usage or {})),
        "response_model": model,
        "api_base": "{url}",
        "provider_request_id": REQUEST_ID,
        "finish_reason": outputs["finish_reason"],
    }
    if is_stream:
        metadata |= {"stream_ending": "completed", "stream_chunks": chunks}
    return Case(
        id=case,
        function=function,
        arguments={**_arguments(model), **given},
        behaviour=Behaviour(special=special, tool_calls=tool_calls),
        model=model,
        expected=event(
            f"litellm.{function}",
            config={
                "model": f"bedrock/{model}",
                "provider": "bedrock",
                "aws_region_name": REGION,
                "max_retries": 0,
                **given,
            },
            inputs={"chat_history": MESSAGES},
            outputs=outputs,
            metadata=metadata,
        ),
        since=max(since, SINCE[model]),
    )


ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    429: "RateLimitError",
}


def _failing(
    case: str,
    status: int,
    *,
    function: str = "completion",
    is_stream: bool = False,
    since: tuple[int, int] = (1, 82),
) -> Case:
    name = ERRORS[status]
    message = "The model is not for you"
    metadata: dict[str, Any] = {
        "operation_name": "chat",
        "call_type": function,
        "provider": "bedrock",
        "region": REGION,
        "api_base": "{url}",
        "error_type": name,
        "error_module": "litellm.exceptions",
        "status_code": status,
        "provider_request_id": REQUEST_ID,
        "ending": "failed",
    }
    if status in (403, 429):
        told = CLAUDE if function == "completion" else f"bedrock/{CLAUDE}"
        metadata["error_debug_info"] = f"\nModel: {told}\nAPI Base: `{{url}}`\nMessages: `{MESSAGES}`"
    if status == 429:
        metadata["retry_after_s"] = 3
    settings = {"stream": True} if is_stream else {}
    return Case(
        id=case,
        function=function,
        arguments={**_arguments(CLAUDE), **settings},
        behaviour=Behaviour(status=status, message=message, headers=(("retry-after", "3"),) if status == 429 else ()),
        model=CLAUDE,
        expected=event(
            f"litellm.{function}",
            config={
                "model": f"bedrock/{CLAUDE}",
                "provider": "bedrock",
                "aws_region_name": REGION,
                "max_retries": 0,
                **settings,
            },
            inputs={"chat_history": MESSAGES},
            outputs={"role": "assistant"},
            metadata=metadata,
            error=f"{name}: litellm.{name}: BedrockException - {json.dumps({'message': message})}",
        ),
        since=since,
    )


CACHED = {"read": CACHE_READ, "written": CACHE_WRITTEN}
FAMILIES = {"Claude": CLAUDE, "Nova": NOVA, "Llama": LLAMA}

CASES = (
    *(_case(f"answer of {family}", model) for family, model in FAMILIES.items()),
    _case("answer of Claude, async", CLAUDE, function="acompletion"),
    *(
        _case(f"stream of {family} that LiteLLM counts quietly", model, chunks=5, since=(1, 82))
        for family, model in FAMILIES.items()
    ),
    *(
        _case(f"stream of {family} that tells its counts", model, settings=COUNTING, chunks=6, since=(1, 74))
        for family, model in FAMILIES.items()
    ),
    _case("stream of Claude, async", CLAUDE, function="acompletion", settings=COUNTING, chunks=6),
    *(
        _case(
            f"parallel tools of {family}",
            model,
            settings={"tools": TOOLS},
            tool_calls=CALLS,
            outputs=CALLED,
            since=(1, 74) if family == "Llama" else (1, 55),  # it had no tools in LiteLLM before
        )
        for family, model in FAMILIES.items()
    ),
    *(
        _case(
            f"parallel tools of {family} in a stream",
            model,
            settings={"tools": TOOLS, **COUNTING},
            tool_calls=CALLS,
            outputs=CALLED_IN_STREAM,
            chunks=chunks,
            since=since,
        )
        # LiteLLM does not stream Llama with tools: it asks for a whole answer and cuts that up.
        for family, model, chunks, since in (
            ("Claude", CLAUDE, 10, (1, 74)),
            ("Nova", NOVA, 6, (1, 82)),
            ("Llama", LLAMA, 3, (1, 109)),
        )
    ),
    _case(
        "reasoning",
        CLAUDE,
        settings=THINKING,
        special="thinking",
        outputs={**ANSWER, **THOUGHTS},
        usage={"thoughts": THOUGHT_TOKENS},
    ),
    _case(
        "reasoning in a stream",
        CLAUDE,
        settings={**THINKING, **COUNTING},
        special="thinking",
        outputs={**ANSWER, **THOUGHTS},
        usage={"thoughts": THOUGHT_TOKENS},
        chunks=9,
    ),
    _case("cached tokens", CLAUDE, special="cache", usage=CACHED),
    _case("cached tokens in a stream", CLAUDE, settings=COUNTING, special="cache", usage=CACHED, chunks=6),
    _case(
        "guardrail",
        NOVA,
        settings={"guardrailConfig": GUARDRAIL},
        special="guardrail",
        outputs=BLOCKED,
        since=(1, 82),  # before, the reason is Bedrock's own
    ),
    _case(
        "guardrail in a stream",
        NOVA,
        settings={"guardrailConfig": GUARDRAIL},
        special="guardrail",
        outputs=BLOCKED,
        chunks=3,
        since=(1, 91),  # before, the reason is "stop"
    ),
    _failing("bad request", 400),
    _failing("wrong key", 401),
    _failing("no access", 403, since=(1, 109)),
    _failing("rate limit", 429),
    _failing("rate limit, async", 429, function="acompletion"),
    _failing("rate limit of a stream", 429, is_stream=True),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)
