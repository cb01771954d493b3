"""Cohere: chat (v2, and v1 as LiteLLM speaks it to this day for `v1/` models), citations, tools, rerank, embeddings.

LiteLLM reads neither the reason nor the counts at the end of a v2 stream; what it counts itself is called so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.capture.calls import LITELLM_VERSION, MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import KEY, Behaviour, FakeProvider
from tests.fakes.wires.cohere import SCORES
from tests.providers.case import (
    ANSWER,
    CALLS,
    IS_NEWEST,
    STREAM,
    TOOLS,
    Case,
    check,
    event,
    price,
)

MODEL = "command-r-plus-08-2024"
HAS_V2 = LITELLM_VERSION >= (1, 82)
V1_MODEL = f"v1/{MODEL}" if HAS_V2 else MODEL
EMBEDDER = "embed-english-v3.0"
RERANKER = "rerank-v3.5"
PER_SEARCH = 0.002

CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "finish_reason": "tool_calls",
    "tool_calls": CALLS,
}
CITED = [
    {
        "type": "url_citation",
        "url_citation": {"start_index": 0, "end_index": 5, "title": "Greetings", "url": "source:greetings"},
    }
]
SLOW_DOWN = Behaviour(status=429, message="slow down", headers=(("retry-after", "7"),))
NEVER_RECORDED = frozenset({"messages", "api_base", "api_key", "input", "query", "documents"})


def _price(model: str, **tokens: int) -> float:
    return price(model, **tokens) if IS_NEWEST else 0.0  # old price lists lack some of the models


def _case(
    name: str,
    function: str,
    operation: str,
    *,
    arguments: Mapping[str, Any],
    inputs: Mapping[str, Any],
    behaviour: Behaviour | None = None,
    model: str | None = None,
    provider: str | None = None,
    outputs: Mapping[str, Any],
    metadata: Mapping[str, Any],
    error: str | None = None,
    since: tuple[int, int] = (1, 55),
) -> Case:
    prefix, _, name_at_provider = arguments["model"].partition("/")
    provider = provider or prefix
    model = name_at_provider if model is None else model
    config = {key: value for key, value in arguments.items() if key not in NEVER_RECORDED}
    common = {
        "operation_name": operation,
        "call_type": function,
        "provider": provider,
        "api_base": arguments["api_base"],
    }
    return Case(
        id=name,
        function=function,
        arguments=arguments,
        behaviour=behaviour,
        model=model,
        since=since,
        expected=event(
            f"litellm.{function}",
            config={**config, "provider": provider},
            inputs=inputs,
            outputs=outputs,
            metadata={**common, **metadata},
            error=error,
        ),
    )


def _chat(
    name: str,
    function: str = "completion",
    *,
    settings: Mapping[str, Any] | None = None,
    since: tuple[int, int] = (1, 82),
    **more: Any,
) -> Case:
    arguments = {
        "model": f"cohere_chat/{MODEL}",
        "messages": MESSAGES,
        "api_base": "{url}/v2/chat",
        "api_key": KEY,
        "max_retries": 0,
        **(settings or {}),
    }
    return _case(name, function, "chat", arguments=arguments, inputs={"chat_history": MESSAGES}, since=since, **more)


def _without_parts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """LiteLLM's price table does not have a name with `v1/` before it."""
    return {name: value for name, value in metadata.items() if name != "cost_parts"}


def _v1_chat(
    name: str, function: str = "completion", *, settings: Mapping[str, Any] | None = None, **more: Any
) -> Case:
    settings = {"model": f"cohere_chat/{V1_MODEL}", "api_base": "{url}/v1/chat", **(settings or {})}
    # LiteLLM sends no model to this route.
    return _chat(name, function, settings=settings, since=more.pop("since", (1, 55)), model="", **more)


def _counted(
    prompt: int,
    completion: int,
    *,
    reason: str = "stop",
    chunks: int | None = None,
    model: str = MODEL,
    **details: Any,
) -> dict[str, Any]:
    """Metadata of a call that went well; `chunks` says that it was a stream, whose tokens LiteLLM counts."""
    metadata: dict[str, Any] = {
        "prompt_tokens": prompt,
        "input_tokens": prompt,
        "completion_tokens": completion,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            **details,
        },
        "usage_source": "provider",
        "response_model": model,
        "finish_reason": reason,
    }
    parts = {
        "input_cost": _price(MODEL, input_cost_per_token=prompt),
        "output_cost": _price(MODEL, output_cost_per_token=completion),
    }
    cost = parts["input_cost"] + parts["output_cost"]
    metadata |= {
        "cost": cost,
        "cost_source": "response",
        "cost_parts": {**parts, "total_cost": cost, "original_cost": cost},
    }
    if chunks is not None:
        metadata |= {
            "stream_ending": "completed",
            "stream_chunks": chunks,
            "usage_source": "litellm",
            "cost_source": "price_table",
        }
        metadata["usage"]["cost"] = cost
    return metadata


def _failed(kind: str, status: int, **more: Any) -> dict[str, Any]:
    return {
        "error_type": kind,
        "error_module": "litellm.exceptions",
        "status_code": status,
        "ending": "failed",
        **more,
    }


BY_TOKENIZER = {"completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": 4}}
DEBUG = f"\nModel: {MODEL}\nAPI Base: `{{url}}/v2/chat`\nMessages: `[{{'role': 'user', 'content': 'Say hello.'}}]`"

CHAT = (
    _chat("plain", settings={"temperature": 0.5, "max_tokens": 100}, outputs=ANSWER, metadata=_counted(11, 7)),
    _chat(
        "plain, async",
        "acompletion",
        settings={"model": f"cohere/{MODEL}"},
        provider="cohere_chat",
        outputs=ANSWER,
        metadata=_counted(11, 7),
    ),
    _chat(
        "stream", settings=STREAM, outputs=ANSWER, since=(1, 109), metadata=_counted(10, 4, chunks=5, **BY_TOKENIZER)
    ),
    _chat(
        "stream with usage, async",
        "acompletion",
        settings={"stream": True, "stream_options": {"include_usage": True}},
        outputs=ANSWER,
        metadata=_counted(10, 4, chunks=6, **BY_TOKENIZER),
    ),
    _chat(
        "parallel tool calls",
        settings={"tools": TOOLS},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs=CALLED,
        since=(1, 110),
        metadata=_counted(11, 7, reason="tool_calls"),
    ),
    _chat(
        "parallel tool calls in a stream",
        settings={"tools": TOOLS, **STREAM},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs=CALLED,
        since=(1, 109),
        metadata=_counted(10, 55, reason="tool_calls", chunks=7),
    ),
    _chat(
        "citations",
        behaviour=Behaviour(special="citations"),
        outputs={**ANSWER, "annotations": CITED},
        metadata=_counted(11, 7),
    ),
    _chat(
        "bad request",
        provider="cohere",
        behaviour=Behaviour(status=400, message="bad parameter"),
        outputs={"role": "assistant"},
        error='BadRequestError: litellm.BadRequestError: CohereException - {"message": "bad parameter"}',
        metadata=_failed("BadRequestError", 400),
    ),
    _chat(
        "bad key, async",
        "acompletion",
        provider="cohere",
        behaviour=Behaviour(status=401, message="invalid api token"),
        outputs={"role": "assistant"},
        error='AuthenticationError: litellm.AuthenticationError: CohereException - {"message": "invalid api token"}',
        metadata=_failed("AuthenticationError", 401),
    ),
    # LiteLLM's exceptions for Cohere have no headers, so there is no `retry_after_s`.
    _chat(
        "rate limit",
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error='RateLimitError: litellm.RateLimitError: Cohere_chatException - {"message": "slow down"}',
        since=(1, 109),
        metadata=_failed("RateLimitError", 429, error_debug_info=DEBUG),
    ),
    _chat(
        "rate limit before a stream",
        settings=STREAM,
        behaviour=SLOW_DOWN,
        outputs={"role": "assistant"},
        error='RateLimitError: litellm.RateLimitError: Cohere_chatException - {"message": "slow down"}',
        since=(1, 109),
        metadata=_failed("RateLimitError", 429, error_debug_info=DEBUG),
    ),
    _v1_chat("v1", outputs=ANSWER, metadata=_counted(9, 7, model=V1_MODEL), since=(1, 82)),
    _v1_chat(
        "v1 stream",
        settings=STREAM,
        outputs=ANSWER,
        since=(1, 82),
        metadata=_without_parts(_counted(10, 4, chunks=5, model=V1_MODEL, **BY_TOKENIZER)),
    ),
    _v1_chat(
        "v1 tool calls",
        "acompletion",
        settings={"tools": TOOLS},
        behaviour=Behaviour(tool_calls=CALLS),
        # The wire has no ids for calls, and LiteLLM makes up the same one for all. Nor does it say why the answer ended.
        outputs={**CALLED, "finish_reason": "stop", "tool_calls": [{**call, "id": "call_"} for call in CALLS]},
        metadata=_counted(9, 7, model=V1_MODEL),
        since=(1, 82),
    ),
)

COLOURS = ["red", "green", "blue"]
RERANK: dict[str, Any] = {
    "model": f"cohere/{RERANKER}",
    "query": "Which is the sky's?",
    "documents": COLOURS,
    "api_base": "{url}",
    "api_key": KEY,
}
RERANKED = {
    "search_units": 1,
    "usage": {"search_units": 1},
    "usage_source": "provider",
    "cost": PER_SEARCH,
    "cost_source": "response",
    "cost_parts": dict.fromkeys(("input_cost", "total_cost", "original_cost"), PER_SEARCH),
}


def _rerank(name: str, function: str, *, settings: Mapping[str, Any], **more: Any) -> Case:
    arguments = {**RERANK, **settings}
    inputs = {"query": arguments["query"], "nodes": arguments["documents"]}
    return _case(name, function, "rerank", arguments=arguments, inputs=inputs, **more)


RERANKS = (
    _rerank(
        "rerank",
        "rerank",
        settings={"top_n": 2, "return_documents": False},
        outputs={"nodes": [{"index": 2, "score": SCORES[0]}, {"index": 1, "score": SCORES[1]}]},
        metadata=RERANKED,
    ),
    _rerank(
        "rerank with documents, async",
        "arerank",
        settings={"return_documents": True, "api_base": "{url}/v1/rerank"},
        outputs={
            "nodes": [
                {"index": index, "score": score, "content": COLOURS[index]}
                for index, score in zip((2, 1, 0), SCORES, strict=True)
            ]
        },
        since=(1, 74),
        metadata=RERANKED,
    ),
    _rerank(
        "rerank of structured documents",
        "rerank",
        settings={"documents": [{"text": "red"}, {"text": "blue"}], "return_documents": True},
        outputs={
            "nodes": [
                {"index": 1, "score": SCORES[0], "content": "blue"},
                {"index": 0, "score": SCORES[1], "content": "red"},
            ]
        },
        since=(1, 74),
        metadata=RERANKED,
    ),
    _rerank(
        "rerank with a bad key, async",
        "arerank",
        settings={"top_n": 2},
        behaviour=Behaviour(status=401, message="invalid api token"),
        outputs={},
        error='AuthenticationError: litellm.AuthenticationError: CohereException - {"message": "invalid api token"}',
        since=(1, 109),
        metadata=_failed("AuthenticationError", 401),
    ),
)

EMBED: dict[str, Any] = {
    "model": f"cohere/{EMBEDDER}",
    "input": ["red", "green"],
    "api_base": "{url}/v2/embed",
    "api_key": KEY,
}
EMBEDDING_COST = _price(EMBEDDER, input_cost_per_token=2)
EMBEDDED = {
    "prompt_tokens": 2,
    "input_tokens": 2,
    "completion_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 2,
    "usage": {
        "prompt_tokens": 2,
        "completion_tokens": 0,
        "total_tokens": 2,
        "prompt_tokens_details": {"text_tokens": 2},
    },
    "usage_source": "provider",
    "cost": EMBEDDING_COST,
    "cost_source": "response",
    "cost_parts": dict.fromkeys(("input_cost", "total_cost", "original_cost"), EMBEDDING_COST),
    "response_model": EMBEDDER,
}
EMBEDDINGS = (
    _case(
        "embedding",
        "embedding",
        "embedding",
        arguments=EMBED,
        inputs={"chunks": ["red", "green"]},
        outputs={"num_embeddings": 2, "dimensions": 3},
        since=(1, 109),
        metadata=EMBEDDED,
    ),
    _case(
        "embedding, async",
        "aembedding",
        "embedding",
        arguments={**EMBED, "api_base": "{url}/v1/embed", "encoding_format": "float"},
        inputs={"chunks": ["red", "green"]},
        outputs={"num_embeddings": 2, "dimensions": 3},
        since=(1, 74),
        metadata=EMBEDDED,
    ),
    _case(
        "embedding, bad request",
        "embedding",
        "embedding",
        arguments=EMBED,
        inputs={"chunks": ["red", "green"]},
        behaviour=Behaviour(status=400, message="too long"),
        outputs={},
        error='BadRequestError: litellm.BadRequestError: CohereException - {"message": "too long"}',
        since=(1, 109),
        metadata=_failed("BadRequestError", 400),
    ),
)
CASES = CHAT + RERANKS + EMBEDDINGS


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)
