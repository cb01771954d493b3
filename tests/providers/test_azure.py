"""Azure OpenAI: deployments, the results of its content filters, its request ids and regions.

The filters' results are in `provider_specific_fields`, as LiteLLM has them: of the prompt on the answer, of the answer on
the choice. In a stream LiteLLM loses those of the prompt and of the chunk that ends it, which alone say what was filtered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.capture.calls import MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import KEY, Behaviour, FakeProvider
from tests.fakes.wires.openai import FILTERS_HIT, FILTERS_PASSED, PROMPT_FILTERS
from tests.providers.case import (
    ANSWER,
    CALLS,
    IS_NEWEST,
    TOOLS,
    WITH_USAGE,
    Case,
    check,
    event,
    price,
)

DEPLOYMENT = "gpt-4o-mini"
SERVED = "gpt-4o-mini-2024-07-18"
MODEL = f"azure/{DEPLOYMENT}"
VERSION = "2024-10-21"
PASSED = {"content_filter_results": FILTERS_PASSED, "prompt_filter_results": PROMPT_FILTERS}
HIT = {"content_filter_results": FILTERS_HIT, "prompt_filter_results": PROMPT_FILTERS}
CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "finish_reason": "tool_calls",
    "tool_calls": CALLS,
}
REGION = {"region": "Sweden Central"}
"""As `x-ms-region` has it."""
REFUSED = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
SLOW_DOWN = Behaviour(status=429, message="slow down", headers=(("retry-after", "7"),))
DEBUG = "\nModel: {model}\nAPI Base: `{{url}}`\nMessages: `[{{'role': 'user', 'content': 'Say hello.'}}]`"


def _price(model: str, **tokens: int) -> float:
    return price(model, **tokens) if IS_NEWEST else 0.0


def _case(
    name: str,
    function: str = "completion",
    *,
    settings: Mapping[str, Any] | None = None,
    behaviour: Behaviour | None = None,
    outputs: Mapping[str, Any],
    metadata: Mapping[str, Any],
    error: str | None = None,
    since: tuple[int, int] = (1, 55),
) -> Case:
    config = {"model": MODEL, "api_version": VERSION, "max_retries": 0, **(settings or {})}
    common = {"operation_name": "chat", "call_type": function, "provider": "azure", "api_base": "{url}"}
    return Case(
        id=name,
        function=function,
        arguments={**config, "messages": MESSAGES, "api_base": "{url}", "api_key": KEY},
        behaviour=behaviour,
        model=DEPLOYMENT,
        since=since,
        expected=event(
            f"litellm.{function}",
            config={**config, "provider": "azure"},
            inputs={"chat_history": MESSAGES},
            outputs=outputs,
            metadata={**common, **metadata},
            error=error,
        ),
    )


def _counted(
    prompt: int = 11, completion: int = 7, *, reason: str = "stop", details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    parts = {
        "input_cost": _price(MODEL, input_cost_per_token=prompt),
        "output_cost": _price(MODEL, output_cost_per_token=completion),
    }
    cost = sum(parts.values())
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
        "cost": cost,
        "cost_source": "response",
        "cost_parts": {**parts, "total_cost": cost, "original_cost": cost},
        "response_model": SERVED,
        "system_fingerprint": "fp_fake",
        "provider_request_id": "req_fake",
        "finish_reason": reason,
        **REGION,
    }


def _streamed(
    chunks: int, prompt: int = 11, completion: int = 7, *, reason: str = "stop", source: str = "provider"
) -> dict[str, Any]:
    details = {"completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": completion}}
    counted = _counted(prompt, completion, reason=reason, details=None if reason == "tool_calls" else details)
    del counted["system_fingerprint"]
    counted["usage"]["cost"] = counted["cost"]
    return {
        **counted,
        "usage_source": source,
        "cost_source": "price_table",
        "provider_request_id": "apim_fake",
        "stream_ending": "completed",
        "stream_chunks": chunks,
    }


def _failed(kind: str, status: int, model: str, **more: Any) -> dict[str, Any]:
    return {
        "error_type": kind,
        "error_module": "litellm.exceptions",
        "status_code": status,
        "ending": "failed",
        "error_debug_info": DEBUG.format(model=model),
        **more,
    }


EMBEDDER = "azure/text-embedding-3-small"
EMBEDDING_COST = _price(EMBEDDER, input_cost_per_token=5)
CASES = (
    _case(
        "plain",
        settings={"temperature": 0.5, "max_tokens": 100},
        outputs={**ANSWER, "provider_specific_fields": PASSED},
        metadata=_counted(),
    ),
    _case("plain, async", "acompletion", outputs={**ANSWER, "provider_specific_fields": PASSED}, metadata=_counted()),
    _case(
        "stream without usage",
        settings={"stream": True},
        outputs=ANSWER,
        since=(1, 82),
        metadata=_streamed(5, 10, 4, source="litellm"),
    ),
    _case(
        # One chunk more than OpenAI sends: the filters' results of the prompt come first, without a choice.
        "stream with usage, async",
        "acompletion",
        settings=WITH_USAGE,
        outputs=ANSWER,
        metadata=_streamed(7),
        since=(1, 91),
    ),
    _case(
        "parallel tool calls",
        settings={"tools": TOOLS, "parallel_tool_calls": True},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs={**CALLED, "provider_specific_fields": PASSED},
        metadata=_counted(reason="tool_calls"),
    ),
    _case(
        "parallel tool calls in a stream",
        settings={"tools": TOOLS, **WITH_USAGE},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs=CALLED,
        metadata=_streamed(10, reason="tool_calls"),
    ),
    _case(
        "filtered answer",
        behaviour=Behaviour(special="content_filter"),
        outputs={**ANSWER, "finish_reason": "content_filter", "provider_specific_fields": HIT},
        metadata=_counted(reason="content_filter"),
    ),
    _case(
        "filtered answer in a stream",
        settings=WITH_USAGE,
        behaviour=Behaviour(special="content_filter"),
        outputs={**ANSWER, "finish_reason": "content_filter"},
        metadata=_streamed(7, reason="content_filter"),
        since=(1, 91),
    ),
    _case(
        "filtered question",
        behaviour=Behaviour(status=400, message=REFUSED, special="content_filter"),
        outputs={"role": "assistant"},
        error=f"ContentPolicyViolationError: litellm.BadRequestError: litellm.ContentPolicyViolationError: {REFUSED}",
        metadata=_failed(
            "ContentPolicyViolationError",
            400,
            DEPLOYMENT,
            provider_request_id="apim_fake",
            error_code="content_filter",
            **REGION,
        ),
    ),
    _case(
        "bad request",
        behaviour=Behaviour(status=400, message="bad parameter"),
        outputs={"role": "assistant"},
        error="BadRequestError: litellm.BadRequestError: AzureException - bad parameter",
        metadata=_failed("BadRequestError", 400, DEPLOYMENT),
    ),
    _case(
        "bad key, async",
        "acompletion",
        behaviour=Behaviour(status=401, message="unauthorized"),
        outputs={"role": "assistant"},
        error="AuthenticationError: litellm.AuthenticationError: AzureException AuthenticationError - unauthorized",
        metadata=_failed("AuthenticationError", 401, MODEL),
    ),
    _case(
        "rate limit",
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error="RateLimitError: litellm.RateLimitError: AzureException RateLimitError - slow down",
        metadata=_failed("RateLimitError", 429, DEPLOYMENT, retry_after_s=7.0),
    ),
    _case(
        "rate limit before a stream, async",
        "acompletion",
        settings={"stream": True},
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error="RateLimitError: litellm.RateLimitError: AzureException RateLimitError - slow down",
        metadata=_failed("RateLimitError", 429, MODEL, retry_after_s=7.0),
    ),
    Case(
        id="embedding",
        function="embedding",
        arguments={
            "model": EMBEDDER,
            "input": ["red", "green"],
            "api_base": "{url}",
            "api_key": KEY,
            "api_version": VERSION,
        },
        expected=event(
            "litellm.embedding",
            config={"model": EMBEDDER, "provider": "azure", "api_version": VERSION},
            inputs={"chunks": ["red", "green"]},
            outputs={"num_embeddings": 2, "dimensions": 3},
            metadata={
                "operation_name": "embedding",
                "call_type": "embedding",
                "provider": "azure",
                "api_base": "{url}",
                "response_model": "text-embedding-3-small",
                "prompt_tokens": 5,
                "input_tokens": 5,
                "completion_tokens": 0,
                "output_tokens": 0,
                "total_tokens": 5,
                "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
                "usage_source": "provider",
                "cost": EMBEDDING_COST,
                "cost_source": "response",
                "cost_parts": dict.fromkeys(("input_cost", "total_cost", "original_cost"), EMBEDDING_COST),
            },
        ),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)
