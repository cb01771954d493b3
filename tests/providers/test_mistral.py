"""Mistral: OpenAI's wire, with the usage in every stream and a Magistral's thoughts as parts of the content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.capture.calls import MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import KEY, Behaviour, FakeProvider
from tests.fakes.wires.openai import THOUGHT
from tests.providers.case import (
    ANSWER,
    IS_NEWEST,
    STREAM,
    TOOLS,
    Case,
    check,
    event,
    price,
)

MODEL = "mistral-small-latest"
THINKER = "magistral-medium-latest"
CALLS = [
    {"id": "D681PevKs", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
    {"id": "a1B2c3D4e", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
]
CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "finish_reason": "tool_calls",
    "tool_calls": CALLS,
}
SLOW_DOWN = Behaviour(status=429, message="slow down", headers=(("retry-after", "7"),), special="mistral")
DEBUG = "\nModel: {model}\nAPI Base: `{{url}}/v1`\nMessages: `[{{'role': 'user', 'content': 'Say hello.'}}]`"


def _body(message: str) -> str:
    return f'{{"object": "error", "message": "{message}", "type": "fake_error", "param": null, "code": null}}'


def _price(model: str, **tokens: int) -> float:
    return price(f"mistral/{model}", **tokens) if IS_NEWEST else 0.0  # old price lists lack some of the models


def _case(
    name: str,
    function: str = "completion",
    *,
    model: str = MODEL,
    settings: Mapping[str, Any] | None = None,
    behaviour: Behaviour | None = None,
    outputs: Mapping[str, Any],
    metadata: Mapping[str, Any],
    error: str | None = None,
    since: tuple[int, int] = (1, 55),
) -> Case:
    config = {"model": f"mistral/{model}", "max_retries": 0, **(settings or {})}
    common = {"operation_name": "chat", "call_type": function, "provider": "mistral", "api_base": "{url}/v1"}
    return Case(
        id=name,
        function=function,
        arguments={**config, "messages": MESSAGES, "api_base": "{url}/v1", "api_key": KEY},
        behaviour=behaviour,
        model=model,
        since=since,
        expected=event(
            f"litellm.{function}",
            config={**config, "provider": "mistral"},
            inputs={"chat_history": MESSAGES},
            outputs=outputs,
            metadata={**common, **metadata},
            error=error,
        ),
    )


def _counted(model: str = MODEL, *, reason: str = "stop", details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    parts = {
        "input_cost": _price(model, input_cost_per_token=11),
        "output_cost": _price(model, output_cost_per_token=7),
    }
    cost = sum(parts.values())
    return {
        "prompt_tokens": 11,
        "input_tokens": 11,
        "completion_tokens": 7,
        "output_tokens": 7,
        "total_tokens": 18,
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, **(details or {})},
        "usage_source": "provider",
        "cost": cost,
        "cost_source": "response",
        "cost_parts": {**parts, "total_cost": cost, "original_cost": cost},
        "response_model": model,
        "finish_reason": reason,
    }


def _streamed(chunks: int, model: str = MODEL, *, reason: str = "stop", reasoning: int | None = 0) -> dict[str, Any]:
    """`reasoning`: LiteLLM counts the thoughts of a stream itself, but not with tool calls."""
    details = {}
    if reasoning is not None:
        details["completion_tokens_details"] = {"reasoning_tokens": reasoning, "text_tokens": 7 - reasoning}
    counted = _counted(model, reason=reason, details=details)
    counted["usage"]["cost"] = counted["cost"]
    if reasoning:
        counted["reasoning_tokens"] = reasoning
        counted["cost_parts"]["reasoning_cost"] = _price(model, output_cost_per_token=reasoning)
    return {**counted, "cost_source": "price_table", "stream_ending": "completed", "stream_chunks": chunks}


def _failed(kind: str, status: int, model: str, **more: Any) -> dict[str, Any]:
    return {
        "error_type": kind,
        "error_module": "litellm.exceptions",
        "status_code": status,
        "ending": "failed",
        "error_debug_info": DEBUG.format(model=model),
        **more,
    }


CASES = (
    _case("plain", settings={"temperature": 0.5, "max_tokens": 100}, outputs=ANSWER, metadata=_counted()),
    _case("plain, async", "acompletion", outputs=ANSWER, metadata=_counted()),
    _case("stream", settings=STREAM, outputs=ANSWER, since=(1, 82), metadata=_streamed(5)),
    _case(
        "stream with usage, async",
        "acompletion",
        settings={"stream": True, "stream_options": {"include_usage": True}},
        outputs=ANSWER,
        since=(1, 82),
        metadata=_streamed(6),
    ),
    _case(
        "parallel tool calls",
        settings={"tools": TOOLS, "tool_choice": "auto"},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs=CALLED,
        metadata=_counted(reason="tool_calls"),
    ),
    _case(
        "parallel tool calls in a stream",
        settings={"tools": TOOLS, **STREAM},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs=CALLED,
        since=(1, 82),
        metadata=_streamed(8, reason="tool_calls", reasoning=None),
    ),
    _case(
        "thoughts",
        model=THINKER,
        behaviour=Behaviour(special="thinking"),
        outputs={**ANSWER, "reasoning": THOUGHT},
        since=(1, 82),
        metadata=_counted(THINKER),
    ),
    _case(
        "thoughts in a stream",
        model=THINKER,
        settings=STREAM,
        behaviour=Behaviour(special="thinking"),
        outputs={
            **ANSWER,
            "reasoning": THOUGHT,
            "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT, "signature": "mistral"}],
        },
        since=(1, 82),
        metadata=_streamed(6, THINKER, reasoning=6),
    ),
    _case(
        "bad request",
        behaviour=Behaviour(status=400, message="bad parameter", special="mistral"),
        outputs={"role": "assistant"},
        error=f"BadRequestError: litellm.BadRequestError: MistralException - {_body('bad parameter')}",
        metadata=_failed("BadRequestError", 400, MODEL),
    ),
    _case(
        "bad key, async",
        "acompletion",
        behaviour=Behaviour(status=401, message="Unauthorized", special="mistral"),
        outputs={"role": "assistant"},
        error="AuthenticationError: litellm.AuthenticationError: AuthenticationError: "
        f"MistralException - {_body('Unauthorized')}",
        metadata=_failed("AuthenticationError", 401, f"mistral/{MODEL}"),
    ),
    _case(
        "rate limit",
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error=f"RateLimitError: litellm.RateLimitError: RateLimitError: MistralException - {_body('slow down')}",
        metadata=_failed("RateLimitError", 429, MODEL, retry_after_s=7.0),
    ),
    _case(
        "rate limit before a stream, async",
        "acompletion",
        settings=STREAM,
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error=f"RateLimitError: litellm.RateLimitError: RateLimitError: MistralException - {_body('slow down')}",
        metadata=_failed("RateLimitError", 429, f"mistral/{MODEL}", retry_after_s=7.0),
    ),
    Case(
        id="embedding",
        function="embedding",
        arguments={
            "model": "mistral/mistral-embed",
            "input": ["red", "green"],
            "api_base": "{url}/v1",
            "api_key": KEY,
        },
        expected=event(
            "litellm.embedding",
            config={"model": "mistral/mistral-embed", "provider": "mistral"},
            inputs={"chunks": ["red", "green"]},
            outputs={"num_embeddings": 2, "dimensions": 3},
            metadata={
                "operation_name": "embedding",
                "call_type": "embedding",
                "provider": "mistral",
                "api_base": "{url}/v1",
                "response_model": "mistral-embed",
                "prompt_tokens": 5,
                "input_tokens": 5,
                "completion_tokens": 0,
                "output_tokens": 0,
                "total_tokens": 5,
                "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
                "usage_source": "provider",
                "cost": _price("mistral-embed", input_cost_per_token=5),
                "cost_source": "response",
                "cost_parts": dict.fromkeys(
                    ("input_cost", "total_cost", "original_cost"), _price("mistral-embed", input_cost_per_token=5)
                ),
            },
        ),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)
