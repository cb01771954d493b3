"""Gemini, on Google AI Studio and on Vertex AI: thoughts, grounding, cached tokens, blocked answers, tools, embeddings.

Vertex wants an OAuth token first. A service account with a key of its own gets it from FakeProvider; that path of LiteLLM
needs google-auth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any
from unittest.mock import ANY

import pytest

from tests.capture.calls import LITELLM_VERSION, MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import KEY, Behaviour, FakeProvider
from tests.fakes.wires.gemini import CACHED_TOKENS, GROUNDING, SAFE, SIGNATURE, THOUGHT, THOUGHT_TOKENS, TOKEN_ROUTE
from tests.providers.case import (
    ANSWER,
    CALLS,
    IS_NEWEST,
    STREAM,
    TOOLS,
    WITH_USAGE,
    Case,
    check,
    event,
    price,
)

MODEL = "gemini-2.5-flash"
STUDIO = "{url}/v1beta" if LITELLM_VERSION >= (1, 75) else f"{{url}}/v1beta/models/{MODEL}"
"""Older releases take `api_base` for the address of the model itself."""
VERTEX = f"{{url}}/v1/projects/greetings/locations/us-central1/publishers/google/models/{MODEL}"
HAS_GOOGLE_AUTH = find_spec("google") is not None and find_spec("google.auth") is not None

MADE_UP_IDS = [{**call, "id": ANY} for call in CALLS]
"""Gemini sends calls without ids; LiteLLM makes them up."""
COUNTED = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
DETAILS: dict[str, Any] = {
    "completion_tokens_details": {"text_tokens": 7},
    "prompt_tokens_details": {"text_tokens": 11},
}
ZERO_REASONING = {"reasoning_tokens": 0}
"""LiteLLM counts the thoughts of a stream itself; with tool calls it does not."""


def _price(model: str, **tokens: int) -> float:
    return price(model, **tokens) if IS_NEWEST else 0.0  # old price lists lack some of the models


INPUT_COST = _price(f"gemini/{MODEL}", input_cost_per_token=11)
OUTPUT_COST = _price(f"gemini/{MODEL}", output_cost_per_token=7)
COST = INPUT_COST + OUTPUT_COST
NATIVE = {"native_finish_reason": "STOP", "vertex_ai_safety_results": [SAFE]}
IN_STREAM = {"vertex_ai_safety_ratings": [SAFE], "vertex_ai_safety_results": [SAFE]}


def _details(**reasoning: int) -> dict[str, Any]:
    return {**DETAILS, "completion_tokens_details": {**reasoning, **DETAILS["completion_tokens_details"]}}


def _parts(cost: float = COST, **parts: float) -> dict[str, float]:
    costs = {"input_cost": INPUT_COST, "output_cost": OUTPUT_COST, **parts}
    return {"total_cost": cost, "original_cost": cost, **{name: part for name, part in costs.items() if part}}


def _service_account() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "greetings",
            "private_key_id": "1",
            "private_key": key.decode(),
            "client_email": "greeter@greetings.example",
            "client_id": "1",
            "token_uri": f"{{url}}{TOKEN_ROUTE}",
        }
    )


STUDIO_ARGUMENTS: dict[str, Any] = {
    "model": f"gemini/{MODEL}",
    "messages": MESSAGES,
    "api_base": STUDIO,
    "api_key": KEY,
    "max_retries": 0,
}
VERTEX_ARGUMENTS: dict[str, Any] = {
    "model": f"vertex_ai/{MODEL}",
    "messages": MESSAGES,
    "api_base": VERTEX,
    "vertex_credentials": _service_account() if HAS_GOOGLE_AUTH else "",
    "vertex_project": "greetings",
    "vertex_location": "us-central1",
    "max_retries": 0,
}
NEVER_RECORDED = frozenset({"messages", "api_base", "api_key", "vertex_credentials", "vertex_project"})


def _case(
    name: str,
    function: str = "completion",
    *,
    base: Mapping[str, Any] = STUDIO_ARGUMENTS,
    settings: Mapping[str, Any] | None = None,
    behaviour: Behaviour | None = None,
    outputs: Mapping[str, Any],
    metadata: Mapping[str, Any],
    error: str | None = None,
    provider: str | None = None,
    since: tuple[int, int] = (1, 55),
) -> Case:
    arguments = {**base, **(settings or {})}
    provider = provider or base["model"].partition("/")[0]
    config = {key: value for key, value in arguments.items() if key not in NEVER_RECORDED}
    common = {"operation_name": "chat", "call_type": function, "provider": provider, "api_base": base["api_base"]}
    if "vertex_location" in arguments:
        common["region"] = arguments["vertex_location"]
    return Case(
        id=name,
        function=function,
        arguments=arguments,
        behaviour=behaviour,
        model=MODEL,
        since=since,
        expected=event(
            f"litellm.{function}",
            config={**config, "provider": provider},
            inputs={"chat_history": MESSAGES},
            outputs=outputs,
            metadata={**common, **metadata},
            error=error,
        ),
    )


def _answered(
    usage: Mapping[str, Any],
    cost: float = COST,
    parts: Mapping[str, float] | None = None,
    *,
    reason: str = "stop",
    chunks: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Metadata of a call that went well; `chunks` says that it was a stream."""
    metadata = {
        "prompt_tokens": usage["prompt_tokens"],
        "input_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "output_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
        "usage": dict(usage),
        "usage_source": "provider",
        "cost": cost,
        "cost_source": "response",
        "cost_parts": dict(parts or _parts(cost)),
        "response_model": MODEL,
        "finish_reason": reason,
        **more,
    }
    if chunks is not None:
        metadata |= {"stream_ending": "completed", "stream_chunks": chunks, "cost_source": "price_table"}
        metadata["usage"] = {**usage, "cost": metadata["cost_parts"]["total_cost"]}
    return metadata


def _failed(kind: str, status: int, **more: Any) -> dict[str, Any]:
    return {
        "error_type": kind,
        "error_module": "litellm.exceptions",
        "status_code": status,
        "ending": "failed",
        **more,
    }


SLOW_DOWN = Behaviour(status=429, message="slow down", headers=(("retry-after", "7"),))
SLOW_DOWN_BODY = '{"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}'
DEBUG_MESSAGES = "Messages: `[{'role': 'user', 'content': 'Say hello.'}]`"
BLOCKED_USAGE = {"prompt_tokens": 11, "completion_tokens": 0, "total_tokens": 11}
ONLY_INPUT = {"input_cost": INPUT_COST, "total_cost": INPUT_COST, "original_cost": INPUT_COST}

THOUGHT_USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7 + THOUGHT_TOKENS,
    "total_tokens": 18 + THOUGHT_TOKENS,
    **_details(reasoning_tokens=THOUGHT_TOKENS),
}
THOUGHT_COST = _price(f"gemini/{MODEL}", output_cost_per_token=THOUGHT_TOKENS)
THINKING_COST = INPUT_COST + _price(f"gemini/{MODEL}", output_cost_per_token=7 + THOUGHT_TOKENS)
THINKING_PARTS = _parts(THINKING_COST, output_cost=THINKING_COST - INPUT_COST, reasoning_cost=THOUGHT_COST)
THINKING = Behaviour(special="thinking")

SEARCH_COST = 0.035
"""For each grounded request, by Google's price list."""
GROUNDED_USAGE = {**COUNTED, **DETAILS, "prompt_tokens_details": {"text_tokens": 11, "web_search_requests": 1}}
GROUNDED_PARTS = _parts(COST + SEARCH_COST, tool_usage_cost=SEARCH_COST)
CITED = [
    {
        "type": "url_citation",
        "url_citation": {
            "start_index": 0,
            "end_index": 5,
            "url": "https://greetings.example/hello",
            "title": "greetings.example",
        },
    }
]
SEARCH = {"web_search_options": {"search_context_size": "medium"}}

CACHED_USAGE = {
    **COUNTED,
    **DETAILS,
    "prompt_tokens_details": {
        "cached_tokens": CACHED_TOKENS,
        "text_tokens": 11,
        "cached_tokens_details": {"text_tokens": CACHED_TOKENS},
    },
    "cache_read_input_tokens": CACHED_TOKENS,
}
CACHE_COST = _price(f"gemini/{MODEL}", cache_read_input_token_cost=CACHED_TOKENS)
CACHED_INPUT_COST = _price(f"gemini/{MODEL}", input_cost_per_token=11 - CACHED_TOKENS) + CACHE_COST
CACHED_COST = CACHED_INPUT_COST + OUTPUT_COST
CACHED_PARTS = _parts(CACHED_COST, input_cost=CACHED_INPUT_COST, cache_read_cost=CACHE_COST)

CASES = (
    _case(
        "plain",
        settings={"temperature": 0.5, "max_tokens": 100},
        outputs={**ANSWER, "provider_specific_fields": NATIVE},
        metadata=_answered({**COUNTED, **DETAILS}),
    ),
    _case(
        "plain, async",
        "acompletion",
        outputs={**ANSWER, "provider_specific_fields": NATIVE},
        metadata=_answered({**COUNTED, **DETAILS}),
    ),
    _case(
        "stream",
        settings=STREAM,
        outputs={**ANSWER, "provider_specific_fields": IN_STREAM},
        metadata=_answered({**COUNTED, **_details(**ZERO_REASONING)}, chunks=5),
    ),
    _case(
        "stream with usage, async",
        "acompletion",
        settings=WITH_USAGE,
        outputs={**ANSWER, "provider_specific_fields": IN_STREAM},
        metadata=_answered({**COUNTED, **_details(**ZERO_REASONING)}, chunks=6),
    ),
    _case(
        "parallel tool calls",
        settings={"tools": TOOLS},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs={
            "role": "assistant",
            "content": None,
            "finish_reason": "tool_calls",
            "tool_calls": MADE_UP_IDS,
            "provider_specific_fields": NATIVE,
        },
        metadata=_answered({**COUNTED, **DETAILS}, reason="tool_calls"),
        since=(1, 74),
    ),
    _case(
        "parallel tool calls in a stream",
        settings={"tools": TOOLS, **STREAM},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs={
            "role": "assistant",
            "content": None,
            "finish_reason": "tool_calls",
            "tool_calls": MADE_UP_IDS,
            "provider_specific_fields": IN_STREAM,
        },
        metadata=_answered({**COUNTED, **DETAILS}, reason="tool_calls", chunks=3),
        since=(1, 82),
    ),
    _case(
        "thoughts",
        settings={"reasoning_effort": "low"},
        behaviour=THINKING,
        outputs={
            **ANSWER,
            "reasoning": THOUGHT,
            "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT}],
            "provider_specific_fields": {**NATIVE, "thought_signatures": [SIGNATURE]},
        },
        metadata=_answered(THOUGHT_USAGE, THINKING_COST, THINKING_PARTS, reasoning_tokens=THOUGHT_TOKENS),
        since=(1, 74),
    ),
    _case(
        "thoughts in a stream",
        settings={"reasoning_effort": "low", **WITH_USAGE},
        behaviour=THINKING,
        outputs={
            **ANSWER,
            "reasoning": THOUGHT,
            "provider_specific_fields": {**IN_STREAM, "thought_signatures": [SIGNATURE]},
        },
        metadata=_answered(THOUGHT_USAGE, THINKING_COST, THINKING_PARTS, reasoning_tokens=THOUGHT_TOKENS, chunks=7),
        since=(1, 74),
    ),
    _case(
        "thoughts before tool calls",
        "acompletion",
        settings={"reasoning_effort": "low", "tools": TOOLS},
        behaviour=Behaviour(special="thinking", tool_calls=CALLS),
        outputs={
            "role": "assistant",
            "content": None,
            "finish_reason": "tool_calls",
            "tool_calls": MADE_UP_IDS,
            "reasoning": THOUGHT,
            "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT}],
            "provider_specific_fields": {**NATIVE, "thought_signatures": [SIGNATURE]},
        },
        metadata=_answered(
            THOUGHT_USAGE, THINKING_COST, THINKING_PARTS, reasoning_tokens=THOUGHT_TOKENS, reason="tool_calls"
        ),
        since=(1, 74),
    ),
    _case(
        "grounding",
        settings=SEARCH,
        behaviour=Behaviour(special="grounding"),
        outputs={
            **ANSWER,
            "annotations": CITED,
            "provider_specific_fields": {**NATIVE, "vertex_ai_grounding_metadata": [GROUNDING]},
        },
        metadata=_answered(GROUNDED_USAGE, COST + SEARCH_COST, GROUNDED_PARTS),
        since=(1, 74),
    ),
    _case(
        "grounding in a stream",
        settings={**SEARCH, **STREAM},
        behaviour=Behaviour(special="grounding"),
        outputs={
            **ANSWER,
            "annotations": CITED,
            "provider_specific_fields": {**IN_STREAM, "vertex_ai_grounding_metadata": [GROUNDING]},
        },
        metadata=_answered(GROUNDED_USAGE, GROUNDED_PARTS["total_cost"], GROUNDED_PARTS, chunks=5),
        since=(1, 74),
    ),
    _case(
        "cached tokens",
        behaviour=Behaviour(special="cache"),
        outputs={**ANSWER, "provider_specific_fields": NATIVE},
        metadata=_answered(CACHED_USAGE, CACHED_COST, CACHED_PARTS, cache_read_input_tokens=CACHED_TOKENS),
    ),
    _case(
        "cached tokens in a stream",
        settings=WITH_USAGE,
        behaviour=Behaviour(special="cache"),
        outputs={**ANSWER, "provider_specific_fields": IN_STREAM},
        metadata=_answered(
            {**CACHED_USAGE, "completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": 7}},
            CACHED_COST,
            CACHED_PARTS,
            cache_read_input_tokens=CACHED_TOKENS,
            chunks=6,
        ),
    ),
    _case(
        "blocked answer",
        behaviour=Behaviour(special="blocked"),
        outputs={"role": "assistant", "content": None, "finish_reason": "content_filter"},
        metadata=_answered(BLOCKED_USAGE, INPUT_COST, ONLY_INPUT, reason="content_filter"),
    ),
    _case(
        "blocked answer in a stream",
        settings=STREAM,
        behaviour=Behaviour(special="blocked"),
        outputs={"role": "assistant", "content": "", "finish_reason": "content_filter"},
        metadata=_answered(
            {
                **BLOCKED_USAGE,
                "completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": 0},
                "prompt_tokens_details": {"text_tokens": 11},
            },
            INPUT_COST,
            ONLY_INPUT,
            reason="content_filter",
            chunks=1,
        ),
        since=(1, 82),
    ),
    _case(
        "blocked question",
        behaviour=Behaviour(special="prompt_blocked"),
        outputs={"role": "assistant", "content": None, "finish_reason": "content_filter"},
        metadata=_answered(BLOCKED_USAGE, INPUT_COST, ONLY_INPUT, reason="content_filter"),
    ),
    _case(
        "bad request",
        behaviour=Behaviour(status=400, message="bad parameter"),
        outputs={"role": "assistant"},
        error="BadRequestError: litellm.BadRequestError: GeminiException BadRequestError - "
        '{"error": {"code": 400, "message": "bad parameter", "status": "INVALID_ARGUMENT"}}',
        metadata=_failed(
            "BadRequestError", 400, error_debug_info=f"\nModel: {MODEL}\nAPI Base: `{STUDIO}`\n{DEBUG_MESSAGES}"
        ),
        since=(1, 82),
    ),
    _case(
        "bad key",
        behaviour=Behaviour(status=401, message="API key not valid"),
        outputs={"role": "assistant"},
        error="AuthenticationError: litellm.AuthenticationError: GeminiException - "
        '{"error": {"code": 401, "message": "API key not valid", "status": "UNAUTHENTICATED"}}',
        metadata=_failed("AuthenticationError", 401),
    ),
    _case(
        "rate limit",
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error=f"RateLimitError: litellm.RateLimitError: litellm.RateLimitError: GeminiException - {SLOW_DOWN_BODY}",
        metadata=_failed(
            "RateLimitError",
            429,
            retry_after_s=7.0,
            error_debug_info=f"\nModel: {MODEL}\nAPI Base: `{STUDIO}`\n{DEBUG_MESSAGES}",
        ),
        since=(1, 82),
    ),
    _case(
        # LiteLLM asks Gemini with the first `next`, so the error comes out of the stream, and says `vertex_ai_beta`.
        "rate limit in a stream",
        "acompletion",
        settings=STREAM,
        behaviour=SLOW_DOWN,
        provider="vertex_ai_beta",
        outputs={"role": "assistant", "content": ""},
        error="MidStreamFallbackError: litellm.MidStreamFallbackError: litellm.RateLimitError: litellm.RateLimitError: "
        f"Vertex_ai_betaException - b'{SLOW_DOWN_BODY}' Original exception: RateLimitError: litellm.RateLimitError: "
        f"litellm.RateLimitError: Vertex_ai_betaException - b'{SLOW_DOWN_BODY}'",
        metadata=_failed("MidStreamFallbackError", 429, retry_after_s=7.0, stream_ending="failed", stream_chunks=0),
        since=(1, 82),
    ),
    Case(
        id="embedding",
        since=(1, 74),
        function="embedding",
        arguments={
            "model": "gemini/gemini-embedding-001",
            "input": ["red", "green"],
            "dimensions": 3,
            "api_base": STUDIO.replace(MODEL, "gemini-embedding-001"),
            "api_key": KEY,
        },
        expected=event(
            "litellm.embedding",
            config={"model": "gemini/gemini-embedding-001", "provider": "gemini", "dimensions": 3},
            inputs={"chunks": ["red", "green"]},
            outputs={"num_embeddings": 2, "dimensions": 3},
            metadata={
                "operation_name": "embedding",
                "call_type": "embedding",
                "provider": "gemini",
                "api_base": STUDIO,
                "response_model": "gemini-embedding-001",
                "prompt_tokens": 2,
                "input_tokens": 2,
                "completion_tokens": 0,
                "output_tokens": 0,
                "total_tokens": 2,
                "usage": {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2},
                # Google sends no count with these embeddings.
                "usage_source": "litellm",
                "cost": _price("gemini/gemini-embedding-001", input_cost_per_token=2),
                "cost_source": "response",
                "cost_parts": {
                    name: _price("gemini/gemini-embedding-001", input_cost_per_token=2)
                    for name in ("input_cost", "total_cost", "original_cost")
                },
            },
        ),
    ),
)

VERTEX_DEBUG = (
    f"\nModel: {MODEL}\nAPI Base: `{VERTEX}`\n{DEBUG_MESSAGES}"
    "\nvertex_project: `greetings`\n\nvertex_location: `us-central1`\n"
)
VERTEX_CASES = (
    _case(
        "plain",
        base=VERTEX_ARGUMENTS,
        outputs={**ANSWER, "provider_specific_fields": NATIVE},
        metadata=_answered({**COUNTED, **DETAILS}),
    ),
    _case(
        "plain, async",
        "acompletion",
        base=VERTEX_ARGUMENTS,
        outputs={**ANSWER, "provider_specific_fields": NATIVE},
        metadata=_answered({**COUNTED, **DETAILS}),
        since=(1, 74),
    ),
    _case(
        "stream with usage",
        base=VERTEX_ARGUMENTS,
        settings=WITH_USAGE,
        outputs={**ANSWER, "provider_specific_fields": IN_STREAM},
        metadata=_answered({**COUNTED, **_details(**ZERO_REASONING)}, chunks=6),
    ),
    _case(
        "parallel tool calls in a stream, async",
        "acompletion",
        base=VERTEX_ARGUMENTS,
        settings={"tools": TOOLS, **WITH_USAGE},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs={
            "role": "assistant",
            "content": None,
            "finish_reason": "tool_calls",
            "tool_calls": MADE_UP_IDS,
            "provider_specific_fields": IN_STREAM,
        },
        metadata=_answered({**COUNTED, **DETAILS}, reason="tool_calls", chunks=4),
        since=(1, 82),
    ),
    _case(
        "thoughts",
        base=VERTEX_ARGUMENTS,
        settings={"reasoning_effort": "low"},
        behaviour=THINKING,
        outputs={
            **ANSWER,
            "reasoning": THOUGHT,
            "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT}],
            "provider_specific_fields": {**NATIVE, "thought_signatures": [SIGNATURE]},
        },
        metadata=_answered(THOUGHT_USAGE, THINKING_COST, THINKING_PARTS, reasoning_tokens=THOUGHT_TOKENS),
        since=(1, 74),
    ),
    _case(
        "rate limit",
        base=VERTEX_ARGUMENTS,
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error=f"RateLimitError: litellm.RateLimitError: litellm.RateLimitError: Vertex_aiException - {SLOW_DOWN_BODY}",
        metadata=_failed("RateLimitError", 429, retry_after_s=7.0, error_debug_info=VERTEX_DEBUG),
        since=(1, 82),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_call_on_ai_studio_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)


@pytest.mark.skipif(not HAS_GOOGLE_AUTH, reason="google-auth is not installed")
@pytest.mark.parametrize("case", VERTEX_CASES, ids=lambda case: case.id)
def test_a_call_on_vertex_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)
