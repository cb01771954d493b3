"""Ollama: the chat route (`ollama_chat/`), the older generate route (`ollama/`), thoughts, tools, embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import ANY

import pytest

from tests.capture.calls import MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import Behaviour, FakeProvider
from tests.fakes.wires.ollama import THOUGHT
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

MODEL = "llama3.1"
CHAT = f"ollama_chat/{MODEL}"
GENERATE = f"ollama/{MODEL}"
MADE_UP_IDS = [{**call, "id": ANY} for call in CALLS]
"""Ollama sends calls without ids; LiteLLM makes them up."""
BY_TOKENIZER = {"completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": 7}}
"""LiteLLM counts the thoughts of a stream itself."""
FREE = {"cost": 0.0, "cost_source": "response"}
"""LiteLLM's price of the `ollama/` route; it has none for `ollama_chat/`."""
SLOW_DOWN = Behaviour(status=429, message="slow down", headers=(("retry-after", "7"),))
DEBUG = "\nModel: {model}\nAPI Base: `{{url}}`\nMessages: `[{{'role': 'user', 'content': 'Say hello.'}}]`"


def _case(
    name: str,
    function: str = "completion",
    *,
    model: str = CHAT,
    settings: Mapping[str, Any] | None = None,
    behaviour: Behaviour | None = None,
    outputs: Mapping[str, Any],
    metadata: Mapping[str, Any],
    error: str | None = None,
    since: tuple[int, int] = (1, 55),
) -> Case:
    arguments = {"model": model, "max_retries": 0, **(settings or {})}
    config = {"stop_sequences" if key == "stop" else key: value for key, value in arguments.items()}
    provider = model.partition("/")[0]
    common = {"operation_name": "chat", "call_type": function, "provider": provider, "api_base": "{url}"}
    return Case(
        id=name,
        function=function,
        arguments={**arguments, "messages": MESSAGES, "api_base": "{url}"},
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


def _counted(model: str, *, reason: str = "stop", details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "prompt_tokens": 11,
        "input_tokens": 11,
        "completion_tokens": 7,
        "output_tokens": 7,
        "total_tokens": 18,
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, **(details or {})},
        "usage_source": "provider",
        "response_model": model,
        "finish_reason": reason,
    }


def _streamed(chunks: int, *, reason: str = "stop", details: Mapping[str, Any] | None = BY_TOKENIZER) -> dict[str, Any]:
    counted = _counted(MODEL, reason=reason, details=details)
    return {**counted, "stream_ending": "completed", "stream_chunks": chunks}


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
    _case(
        "plain",
        settings={"temperature": 0.5, "max_tokens": 100, "stop": ["."]},
        outputs=ANSWER,
        metadata=_counted(CHAT),
    ),
    _case("plain, async", "acompletion", outputs=ANSWER, metadata=_counted(CHAT)),
    _case("stream", settings=STREAM, outputs=ANSWER, since=(1, 74), metadata=_streamed(5)),
    _case(
        "stream with usage, async",
        "acompletion",
        settings=WITH_USAGE,
        outputs=ANSWER,
        since=(1, 74),
        metadata=_streamed(6),
    ),
    _case(
        "parallel tool calls",
        settings={"tools": TOOLS},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs={"role": "assistant", "content": "", "finish_reason": "tool_calls", "tool_calls": MADE_UP_IDS},
        since=(1, 82),
        metadata=_counted(CHAT, reason="tool_calls"),
    ),
    _case(
        # Each comes in a chunk of its own. LiteLLM gives all of them index 0; only the ids tell them apart.
        "parallel tool calls in a stream",
        settings={"tools": TOOLS, **WITH_USAGE},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs={"role": "assistant", "content": None, "finish_reason": "tool_calls", "tool_calls": MADE_UP_IDS},
        since=(1, 109),
        metadata=_streamed(4, reason="tool_calls", details=None),
    ),
    _case(
        "one tool call in a stream, async",
        "acompletion",
        settings={"tools": TOOLS, **WITH_USAGE},
        behaviour=Behaviour(tool_calls=CALLS[:1]),
        outputs={"role": "assistant", "content": None, "finish_reason": "tool_calls", "tool_calls": MADE_UP_IDS[:1]},
        since=(1, 109),
        metadata=_streamed(3, reason="tool_calls", details=None),
    ),
    _case(
        "thoughts",
        settings={"reasoning_effort": "low"},
        behaviour=Behaviour(special="thinking"),
        outputs={**ANSWER, "reasoning": THOUGHT},
        since=(1, 82),
        metadata=_counted(CHAT),
    ),
    _case(
        "thoughts in a stream, async",
        "acompletion",
        settings={"reasoning_effort": "low", **WITH_USAGE},
        behaviour=Behaviour(special="thinking"),
        outputs={**ANSWER, "reasoning": THOUGHT},
        since=(1, 82),
        metadata={
            **_streamed(8, details={"completion_tokens_details": {"reasoning_tokens": 5, "text_tokens": 2}}),
            "reasoning_tokens": 5,
        },
    ),
    _case("generate", model=GENERATE, outputs=ANSWER, metadata={**_counted(GENERATE), **FREE}),
    _case("generate, async", "acompletion", model=GENERATE, outputs=ANSWER, metadata={**_counted(GENERATE), **FREE}),
    _case(
        "generate stream",
        model=GENERATE,
        settings=WITH_USAGE,
        outputs=ANSWER,
        metadata={**_streamed(6), "cost": 0.0, "cost_source": "price_table"},
    ),
    _case(
        "bad request",
        behaviour=Behaviour(status=400, message="bad parameter"),
        outputs={"role": "assistant"},
        error='BadRequestError: litellm.BadRequestError: Ollama_chatException - {"error": "bad parameter"}',
        since=(1, 109),
        metadata=_failed("BadRequestError", 400, MODEL),
    ),
    _case(
        "unknown model, async",
        "acompletion",
        behaviour=Behaviour(status=404, message="model is not there"),
        outputs={"role": "assistant"},
        error='NotFoundError: litellm.NotFoundError: Ollama_chatException - {"error": "model is not there"}',
        since=(1, 109),
        metadata=_failed("NotFoundError", 404, CHAT),
    ),
    _case(
        "bad key",
        behaviour=Behaviour(status=401, message="unauthorized"),
        outputs={"role": "assistant"},
        error='AuthenticationError: litellm.AuthenticationError: Ollama_chatException - {"error": "unauthorized"}',
        since=(1, 109),
        metadata=_failed("AuthenticationError", 401, MODEL),
    ),
    _case(
        "rate limit",
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error='RateLimitError: litellm.RateLimitError: Ollama_chatException - {"error": "slow down"}',
        since=(1, 109),
        metadata=_failed("RateLimitError", 429, MODEL, retry_after_s=7.0),
    ),
    _case(
        "rate limit before a stream, async",
        "acompletion",
        model=GENERATE,
        settings=STREAM,
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error='RateLimitError: litellm.RateLimitError: OllamaException - {"error": "slow down"}',
        since=(1, 109),
        metadata=_failed("RateLimitError", 429, GENERATE, retry_after_s=7.0),
    ),
    *(
        Case(
            id=name,
            function=function,
            since=(1, 74),
            arguments={"model": "ollama/nomic-embed-text", "input": ["red", "green"], "api_base": "{url}"},
            expected=event(
                f"litellm.{function}",
                config={"model": "ollama/nomic-embed-text", "provider": "ollama"},
                inputs={"chunks": ["red", "green"]},
                outputs={"num_embeddings": 2, "dimensions": 3},
                metadata={
                    "operation_name": "embedding",
                    "call_type": function,
                    "provider": "ollama",
                    "api_base": "{url}",
                    "response_model": "ollama/nomic-embed-text",
                    "prompt_tokens": 4,
                    "input_tokens": 4,
                    "completion_tokens": 0,
                    "output_tokens": 0,
                    "total_tokens": 4,
                    "usage": {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4},
                    "usage_source": "provider",
                    **FREE,
                },
            ),
        )
        for name, function in (("embedding", "embedding"), ("embedding, async", "aembedding"))
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)
