"""A server of one's own that speaks OpenAI's wire: vLLM (`hosted_vllm/`, with its `reasoning_content` and `stop_reason`),
`openai/` with another address, `custom_openai/`. Nobody has a price for its models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.capture.calls import MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import KEY, Behaviour, FakeProvider
from tests.fakes.wires.openai import STOP_TOKEN, THOUGHT
from tests.providers.case import (
    ANSWER,
    CALLS,
    STREAM,
    TOOLS,
    WITH_USAGE,
    Case,
    check,
    event,
)

MODEL = "qwen3-8b"
CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "finish_reason": "tool_calls",
    "tool_calls": CALLS,
}
REASONING = Behaviour(special="vllm")
SLOW_DOWN = Behaviour(status=429, message="slow down", headers=(("retry-after", "7"),))
DEBUG = "\nModel: {model}\nAPI Base: `{{url}}/v1`\nMessages: `[{{'role': 'user', 'content': 'Say hello.'}}]`"


def _body(message: str) -> str:
    return f'{{"error": {{"message": "{message}", "type": "fake_error", "code": null, "param": null}}}}'


def _case(
    name: str,
    function: str = "completion",
    *,
    provider: str = "hosted_vllm",
    settings: Mapping[str, Any] | None = None,
    behaviour: Behaviour | None = None,
    outputs: Mapping[str, Any],
    metadata: Mapping[str, Any],
    error: str | None = None,
    since: tuple[int, int] = (1, 55),
) -> Case:
    config = {"model": f"{provider}/{MODEL}", "max_retries": 0, **(settings or {})}
    common = {"operation_name": "chat", "call_type": function, "provider": provider, "api_base": "{url}/v1"}
    return Case(
        id=name,
        function=function,
        arguments={**config, "messages": MESSAGES, "api_base": "{url}/v1", "api_key": KEY},
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


def _counted(
    prompt: int = 11,
    completion: int = 7,
    *,
    model: str = MODEL,
    reason: str = "stop",
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "input_tokens": prompt,
        "completion_tokens": completion,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            **(details or {}),
        },
        "usage_source": "provider",
        "response_model": model,
        "system_fingerprint": "fp_fake",
        "provider_request_id": "req_fake",
        "finish_reason": reason,
    }


def _streamed(
    chunks: int,
    prompt: int = 11,
    completion: int = 7,
    *,
    reason: str = "stop",
    source: str = "provider",
    reasoning: int | None = 0,
) -> dict[str, Any]:
    """`reasoning`: LiteLLM counts the thoughts of a stream itself, but not with tool calls."""
    details = {}
    if reasoning is not None:
        details["completion_tokens_details"] = {"reasoning_tokens": reasoning, "text_tokens": completion - reasoning}
    counted = _counted(prompt, completion, reason=reason, details=details)
    del counted["system_fingerprint"], counted["provider_request_id"]
    counted |= {"reasoning_tokens": reasoning} if reasoning else {}
    return {**counted, "usage_source": source, "stream_ending": "completed", "stream_chunks": chunks}


def _failed(kind: str, status: int, model: str | None = None, **more: Any) -> dict[str, Any]:
    found = {
        "error_type": kind,
        "error_module": "litellm.exceptions",
        "status_code": status,
        "ending": "failed",
        **more,
    }
    return found if model is None else {**found, "error_debug_info": DEBUG.format(model=model)}


CASES = (
    _case("plain", settings={"temperature": 0.5, "max_tokens": 100}, outputs=ANSWER, metadata=_counted()),
    _case("plain, async", "acompletion", outputs=ANSWER, metadata=_counted()),
    _case(
        "stream without usage",
        settings=STREAM,
        outputs=ANSWER,
        since=(1, 82),
        metadata=_streamed(5, 10, 4, source="litellm"),
    ),
    _case("stream with usage, async", "acompletion", settings=WITH_USAGE, outputs=ANSWER, metadata=_streamed(6)),
    _case(
        "parallel tool calls",
        settings={"tools": TOOLS},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs=CALLED,
        metadata=_counted(reason="tool_calls"),
    ),
    _case(
        "parallel tool calls in a stream, async",
        "acompletion",
        settings={"tools": TOOLS, **WITH_USAGE},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs=CALLED,
        metadata=_streamed(9, reason="tool_calls", reasoning=None),
    ),
    _case(
        "reasoning",
        behaviour=REASONING,
        outputs={**ANSWER, "reasoning": THOUGHT, "provider_specific_fields": {"stop_reason": STOP_TOKEN}},
        metadata=_counted(),
    ),
    _case(
        "reasoning in a stream, async",
        "acompletion",
        settings=WITH_USAGE,
        behaviour=REASONING,
        outputs={**ANSWER, "reasoning": THOUGHT},
        metadata=_streamed(8, reasoning=6),
    ),
    _case(
        "bad request",
        behaviour=Behaviour(status=400, message="bad parameter"),
        outputs={"role": "assistant"},
        error=f"BadRequestError: litellm.BadRequestError: Hosted_vllmException - {_body('bad parameter')}",
        metadata=_failed("BadRequestError", 400, MODEL),
    ),
    _case(
        "bad key, async",
        "acompletion",
        behaviour=Behaviour(status=401, message="unauthorized"),
        outputs={"role": "assistant"},
        error="AuthenticationError: litellm.AuthenticationError: AuthenticationError: "
        f"Hosted_vllmException - {_body('unauthorized')}",
        metadata=_failed("AuthenticationError", 401, f"hosted_vllm/{MODEL}"),
    ),
    _case(
        "rate limit",
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error=f"RateLimitError: litellm.RateLimitError: RateLimitError: Hosted_vllmException - {_body('slow down')}",
        metadata=_failed("RateLimitError", 429, MODEL, retry_after_s=7.0),
    ),
    _case("openai with another address", provider="openai", outputs=ANSWER, metadata=_counted()),
    _case(
        "stream of openai with another address, async",
        "acompletion",
        provider="openai",
        settings=WITH_USAGE,
        outputs=ANSWER,
        metadata=_streamed(6),
    ),
    _case("custom_openai", provider="custom_openai", outputs=ANSWER, metadata=_counted(model=f"custom_openai/{MODEL}")),
    _case(
        "custom_openai, rate limit",
        provider="custom_openai",
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error="RateLimitError: litellm.RateLimitError: RateLimitError: Custom_openaiException - slow down",
        metadata=_failed("RateLimitError", 429, retry_after_s=7.0),
    ),
    Case(
        id="embedding",
        function="embedding",
        arguments={
            "model": "hosted_vllm/bge-m3",
            "input": ["red", "green"],
            "api_base": "{url}/v1",
            "api_key": KEY,
        },
        expected=event(
            "litellm.embedding",
            config={"model": "hosted_vllm/bge-m3", "provider": "hosted_vllm"},
            inputs={"chunks": ["red", "green"]},
            outputs={"num_embeddings": 2, "dimensions": 3},
            metadata={
                "operation_name": "embedding",
                "call_type": "embedding",
                "provider": "hosted_vllm",
                "api_base": "{url}/v1",
                "response_model": "bge-m3",
                "prompt_tokens": 5,
                "input_tokens": 5,
                "completion_tokens": 0,
                "output_tokens": 0,
                "total_tokens": 5,
                "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
                "usage_source": "provider",
            },
        ),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)
