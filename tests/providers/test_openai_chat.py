"""OpenAI's chat completions, text completions, embeddings and images, called through LiteLLM: one whole event each.

The provider's side follows OpenAI's published API reference ("Chat", "Completions", "Embeddings", "Images"). What LiteLLM
makes of it was read off its response objects.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from typing import Any
from unittest.mock import ANY

import litellm
import pytest
from pydantic import BaseModel

from tests.capture.calls import LITELLM_VERSION, MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import KEY, TEXT, Behaviour, FakeProvider
from tests.fakes.wires.openai import CITATION, IMAGE, NO_DETAILS, REFUSAL, SOUND
from tests.providers.case import (
    IS_NEWEST,
    WITH_USAGE,
    Case,
    check,
    event,
)

API: dict[str, Any] = {"api_base": "{url}/v1", "api_key": KEY, "max_retries": 0}
CHAT: dict[str, Any] = {"model": "openai/gpt-4o", "messages": MESSAGES, **API}
CONFIG: dict[str, Any] = {"model": "openai/gpt-4o", "provider": "openai", "max_retries": 0}
HISTORY = {"chat_history": MESSAGES}
ANSWER = {"role": "assistant", "content": TEXT, "finish_reason": "stop"}
TOKENS = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
INPUT_PRICE, CACHED_PRICE, OUTPUT_PRICE = 2.5e-06, 1.25e-06, 1e-05
"""Of gpt-4o, US dollars a token."""
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": '{"zone": "CET"}'}},
]
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {key: {"type": "string"}}}},
    }
    for name, key in (("weather", "city"), ("time", "zone"))
]
PNG = b"\x89PNG\r\n\x1a\n a cat"
WAV = b"RIFF a question"
PDF = b"%PDF-1.7 a report"


class Weather(BaseModel):
    """What `response_format` may be."""

    city: str
    degrees: int


def blob(data: bytes, kind: str = "base64") -> dict[str, Any]:
    return {"type": kind, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def counts(prompt: int, completion: int) -> dict[str, int]:
    """Tokens under both pairs of names."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
    }


def costs(*, source: str = "response", **parts: float) -> dict[str, Any]:
    """Cost and its parts: those given, and the sum of input and output, which the others are within."""
    total = parts["input_cost"] + parts.get("output_cost", 0.0)
    sums = {"total_cost": total, "original_cost": total}
    exact = {name: pytest.approx(part) for name, part in {**parts, **sums}.items()}
    return {"cost": pytest.approx(total), "cost_source": source, "cost_parts": exact}


def priced(prompt: int = 11, completion: int = 7, **more: Any) -> dict[str, Any]:
    return costs(input_cost=prompt * INPUT_PRICE, output_cost=completion * OUTPUT_PRICE, **more)


def metadata(call_type: str = "completion", **more: Any) -> dict[str, Any]:
    """Of a chat that is no stream."""
    return {
        **counts(11, 7),
        "usage": TOKENS,
        "usage_source": "provider",
        **priced(),
        "operation_name": "chat",
        "call_type": call_type,
        "response_model": "gpt-4o",
        "system_fingerprint": "fp_fake",
        "provider": "openai",
        "api_base": "{url}/v1",
        "provider_request_id": "req_fake",
        "finish_reason": "stop",
        **more,
    }


def stream_metadata(call_type: str = "completion", *, chunks: int, **more: Any) -> dict[str, Any]:
    """Of a stream whose provider sends the usage. (FakeProvider's chat streams have no fingerprint and no request id.)"""
    found = metadata(call_type, **priced(source="price_table"))
    del found["system_fingerprint"], found["provider_request_id"]
    details = {"completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": 7}}
    usage = {**TOKENS, **details, "cost": pytest.approx(9.75e-05)}
    return {**found, "usage": usage, "stream_ending": "completed", "stream_chunks": chunks, **more}


def counted(prompt: int, completion: int) -> dict[str, Any]:
    """Where the provider sends no usage, LiteLLM counts by itself, and not on every release alike."""
    if not IS_NEWEST:
        return {"prompt_tokens": ANY, "completion_tokens": ANY}
    total = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    cost = prompt * INPUT_PRICE + completion * OUTPUT_PRICE
    details = {"completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": completion}}
    return {
        **counts(prompt, completion),
        "usage": {**total, **details, "cost": pytest.approx(cost)},
        "usage_source": "litellm",
        **priced(prompt, completion, source="price_table"),
    }


def arguments_recorded(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name != "messages"}


def chat(
    id: str,
    *,
    function: str = "completion",
    arguments: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    inputs: dict[str, Any] | None = None,
    outputs: dict[str, Any] | None = None,
    user_properties: dict[str, Any] | None = None,
    behaviour: Behaviour | None = None,
    since: tuple[int, int] = (1, 55),
    **metadata_fields: Any,
) -> Case:
    """A chat, plain or streamed, that differs from the plainest in what is given."""
    arguments = arguments or {}
    chunks = metadata_fields.pop("chunks", 0)
    of_call = (
        stream_metadata(function, chunks=chunks, **metadata_fields)
        if arguments.get("stream")
        else metadata(function, **metadata_fields)
    )
    return Case(
        id=id,
        function=function,
        arguments={**CHAT, **arguments},
        behaviour=behaviour,
        model="gpt-4o",
        since=since,
        expected=event(
            f"litellm.{function}",
            config={**CONFIG, **(arguments_recorded(arguments) if config is None else config)},
            inputs=inputs or HISTORY,
            outputs=outputs or ANSWER,
            metadata=of_call,
            user_properties=user_properties,
        ),
    )


def specials(
    special: str,
    *,
    outputs: dict[str, Any],
    streamed: dict[str, Any] | None = None,
    chunks: int = 6,
    arguments: dict[str, Any] | None = None,
    usage: dict[str, Any] | None = None,
    cost: dict[str, Any] | None = None,
    usage_in_stream: dict[str, Any] | None = None,
    since: tuple[int, int] = (1, 55),
    stream_since: tuple[int, int] | None = None,
    **metadata_fields: Any,
) -> list[Case]:
    """An answer with something special, plain and as a stream."""
    behaviour = Behaviour(special=special)
    arguments = arguments or {}
    plain_fields = {"usage": usage} if usage else {}
    in_stream = {"usage": usage_in_stream} if usage_in_stream else {}
    return [
        chat(
            special,
            arguments=arguments,
            outputs=outputs,
            behaviour=behaviour,
            since=since,
            **plain_fields,
            **(cost or {}),
            **metadata_fields,
        ),
        chat(
            f"{special}, streamed",
            arguments={**arguments, **WITH_USAGE},
            outputs=streamed or outputs,
            behaviour=behaviour,
            since=stream_since or since,
            chunks=chunks,
            **in_stream,
            **({**cost, "cost_source": "price_table"} if cost else {}),
            **metadata_fields,
        ),
    ]


LOGPROBS = {
    "content": [
        {"token": word, "logprob": -0.25, "bytes": list(word.encode())} for word in ("Hello", " there", ",", " world")
    ]
}
"""Less what is empty."""
AUDIO = {"id": "audio_fake", "data": blob(SOUND), "expires_at": 1_760_003_600, "transcript": TEXT}
REASONED = {**NO_DETAILS["completion_tokens_details"], "reasoning_tokens": 4}
REASONED_USAGE = {**TOKENS, **NO_DETAILS, "completion_tokens_details": REASONED}
CACHED_USAGE = {**TOKENS, **NO_DETAILS, "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0}}
AUDIO_USAGE = {
    **TOKENS,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 2, "text_tokens": 9},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 5, "text_tokens": 2},
}
CACHED_COST = costs(
    input_cost=6 * INPUT_PRICE + 5 * CACHED_PRICE, cache_read_cost=5 * CACHED_PRICE, output_cost=7 * OUTPUT_PRICE
)
TWO = {**ANSWER, "choices": [ANSWER, ANSWER]}
TWO_STREAMED = {**ANSWER, "choices": [ANSWER, {"role": "assistant", "content": TEXT}]}
"""LiteLLM stops a stream at the first choice's finish reason; the second one's never reaches the caller."""
CALLED = {"role": "assistant", "content": None, "finish_reason": "tool_calls", "tool_calls": CALLS}
NO_USAGE_COST = {"usage": {**TOKENS, "cost": pytest.approx(9.75e-05)}}
"""LiteLLM adds no details to the usage of a stream without text."""

PLAIN = (
    chat("plain"),
    chat("plain, async", function="acompletion"),
    chat(
        "settings",
        arguments={
            "temperature": 0.5,
            "top_p": 0.75,
            "max_tokens": 50,
            "seed": 7,
            "stop": ["END"],
            "presence_penalty": 0.25,
            "frequency_penalty": 0.25,
            "timeout": 30,
        },
        config={
            "temperature": 0.5,
            "top_p": 0.75,
            "max_tokens": 50,
            "seed": 7,
            "stop_sequences": ["END"],
            "presence_penalty": 0.25,
            "frequency_penalty": 0.25,
            "timeout": 30,
        },
    ),
    chat("max_completion_tokens", arguments={"max_completion_tokens": 50}, config={"max_output_tokens": 50}),
    chat(
        "metadata of the caller's",
        arguments={"metadata": {"feature": "greeting"}, "user": "u-17"},
        config={},
        user_properties={"user_id": "u-17"},
        feature="greeting",
    ),
    chat("n=2", arguments={"n": 2}, outputs=TWO),
    chat(
        "a tool is called",
        arguments={"tools": TOOLS[:1]},
        behaviour=Behaviour(tool_calls=CALLS[:1]),
        outputs={**CALLED, "tool_calls": CALLS[:1]},
        finish_reason="tool_calls",
    ),
    chat(
        "two tools are called",
        arguments={"tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": True},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs=CALLED,
        finish_reason="tool_calls",
    ),
    chat(
        "response_format is a class",
        arguments={"response_format": Weather},
        config={"response_format": {"class": "Weather", "json_schema": Weather.model_json_schema()}},
    ),
    chat("response_format is a dict", arguments={"response_format": {"type": "json_object"}}),
)

STREAMS = (
    chat("streamed", arguments={"stream": True}, chunks=5, **counted(10, 4)),
    chat("streamed, async", function="acompletion", arguments={"stream": True}, chunks=5, **counted(10, 4)),
    chat("streamed with usage", arguments=WITH_USAGE, chunks=6),
    chat("streamed with usage, async", function="acompletion", arguments=WITH_USAGE, chunks=6),
    chat("n=2, streamed", arguments={"n": 2, "stream": True}, outputs=TWO_STREAMED, chunks=9, **counted(10, 8)),
    chat(
        "a tool is called, streamed",
        arguments={"tools": TOOLS[:1], **WITH_USAGE},
        behaviour=Behaviour(tool_calls=CALLS[:1]),
        outputs={**CALLED, "tool_calls": CALLS[:1]},
        finish_reason="tool_calls",
        chunks=6,
        **NO_USAGE_COST,
    ),
    chat(
        "two tools are called, streamed",
        arguments={"tools": TOOLS, **WITH_USAGE},
        behaviour=Behaviour(tool_calls=CALLS),
        outputs=CALLED,
        finish_reason="tool_calls",
        chunks=9,
        **NO_USAGE_COST,
    ),
)

SPECIALS = (
    *specials(
        "reasoning",
        outputs=ANSWER,
        usage=REASONED_USAGE,
        usage_in_stream={**REASONED_USAGE, "cost": pytest.approx(9.75e-05)},
        cost=priced(reasoning_cost=4 * OUTPUT_PRICE),
        reasoning_tokens=4,
        service_tier="default",
    ),
    *specials(
        "cached",
        outputs=ANSWER,
        usage=CACHED_USAGE,
        usage_in_stream={**CACHED_USAGE, "cost": pytest.approx(9.125e-05)},
        cost=CACHED_COST,
        cache_read_input_tokens=5,
    ),
    *specials("logprobs", arguments={"logprobs": True}, outputs={**ANSWER, "logprobs": LOGPROBS}),
    *specials(
        "refusal",
        outputs={**ANSWER, "content": None, "refusal": REFUSAL},
        # LiteLLM takes a chunk with nothing but a refusal for empty; only the one that also has the role gets through.
        streamed={**ANSWER, "content": "", "refusal": REFUSAL[:9]},
        usage_in_stream=NO_USAGE_COST["usage"],
        chunks=3,
    ),
    *specials(
        "annotations",
        outputs={**ANSWER, "annotations": [CITATION]},
        usage_in_stream=NO_USAGE_COST["usage"],
        chunks=7,
    ),
    *specials(
        "audio",
        arguments={"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        outputs={**ANSWER, "content": None, "audio": AUDIO},
        streamed={**ANSWER, "content": "", "audio": AUDIO},
        usage=AUDIO_USAGE,
        usage_in_stream=AUDIO_USAGE,  # and no price: LiteLLM fails to put the pieces of audio together
        chunks=7,
        since=(1, 74),
        stream_since=(1, 91),  # before, LiteLLM itself fails at the end of such a stream
        audio_input_tokens=2,
        audio_output_tokens=5,
    ),
)

CAT = f"data:image/png;base64,{b64encode(PNG).decode()}"
CONVERSATION: list[Any] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "system", "content": [{"type": "text", "text": "Be polite."}]},
    {
        "role": "user",
        "name": "alice",
        "content": [
            {"type": "text", "text": "What are these?"},
            {"type": "image_url", "image_url": {"url": "https://images.example/cat.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": CAT}},
            {"type": "input_audio", "input_audio": {"data": b64encode(WAV).decode(), "format": "wav"}},
            {
                "type": "file",
                "file": {
                    "filename": "report.pdf",
                    "file_data": f"data:application/pdf;base64,{b64encode(PDF).decode()}",
                },
            },
            {"type": "file", "file": {"file_id": "file-17"}},
        ],
    },
    litellm.Message(role="assistant", content=None, tool_calls=CALLS[:1]),
    {"role": "tool", "tool_call_id": "call_1", "content": "4 degrees"},
    {"role": "assistant", "content": "A cat.", "refusal": None},
    {"role": "assistant", "content": None, "tool_calls": CALLS[1:]},
    {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
    litellm.Message(role="assistant", content="It is noon."),
    {"role": "user", "content": "Thanks."},
]
RECORDED_CONVERSATION: list[Any] = [
    *CONVERSATION[:2],
    {
        "role": "user",
        "name": "alice",
        "content": [
            *CONVERSATION[2]["content"][:2],
            {"type": "image_url", "image_url": {"url": blob(PNG, "image/png")}},
            {"type": "input_audio", "input_audio": {"data": blob(WAV), "format": "wav"}},
            {"type": "file", "file": {"filename": "report.pdf", "file_data": blob(PDF, "application/pdf")}},
            {"type": "file", "file": {"file_id": "file-17"}},
        ],
    },
    {"role": "assistant", "content": None, "tool_calls": CALLS[:1]},
    CONVERSATION[4],
    {"role": "assistant", "content": "A cat."},
    *CONVERSATION[6:8],
    {"role": "assistant", "content": "It is noon."},
    CONVERSATION[9],
]
INPUTS = (
    chat(
        "every role and kind of part",
        arguments={"messages": CONVERSATION},
        inputs={"chat_history": RECORDED_CONVERSATION},
        since=(1, 74),  # before, LiteLLM refuses a part of type file
    ),
)

DEBUG_INFO = f"\nModel: gpt-4o\nAPI Base: `{{url}}/v1`\nMessages: `{MESSAGES}`"


def failure(
    id: str,
    status: int,
    kind: str,
    text: str,
    *,
    function: str = "completion",
    arguments: dict[str, Any] | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    since: tuple[int, int] = (1, 55),
    **metadata_fields: Any,
) -> Case:
    return Case(
        id=id,
        function=function,
        arguments={**CHAT, **(arguments or {})},
        behaviour=Behaviour(status=status, message="no luck", headers=headers),
        model="gpt-4o",
        since=since,
        expected=event(
            f"litellm.{function}",
            config={**CONFIG, **(arguments or {})},
            inputs=HISTORY,
            outputs={"role": "assistant"},
            error=f"{kind}: litellm.{kind}: {text}",
            metadata={
                "operation_name": "chat",
                "call_type": function,
                "provider": "openai",
                "api_base": "{url}/v1",
                "error_type": kind,
                "error_module": "litellm.exceptions",
                "status_code": status,
                "ending": "failed",
                **metadata_fields,
            },
        ),
    )


BAD = ("BadRequestError", "OpenAIException - no luck")
LIMITED = ("RateLimitError", "RateLimitError: OpenAIException - no luck")
FAILURES = (
    failure("400", 400, *BAD, error_debug_info=DEBUG_INFO),
    failure(
        "401",
        401,
        "AuthenticationError",
        "AuthenticationError: OpenAIException - no luck",
        error_debug_info=DEBUG_INFO,
    ),
    failure("404", 404, "NotFoundError", "NotFoundError: OpenAIException - no luck", error_debug_info=DEBUG_INFO),
    failure("429", 429, *LIMITED, headers=(("retry-after", "7"),), retry_after_s=7),
    failure(
        "500",
        500,
        "InternalServerError",
        "InternalServerError: OpenAIException - no luck",
        headers=(("x-request-id", "req_failed"),),
        error_debug_info=DEBUG_INFO,
        provider_request_id="req_failed",
        since=(1, 74),  # before, it is an APIError
    ),
    failure("429, async", 429, *LIMITED, function="acompletion", headers=(("retry-after", "7"),), retry_after_s=7),
    failure("400 for a stream", 400, *BAD, arguments={"stream": True}, error_debug_info=DEBUG_INFO),
    failure(
        "429 for a stream, async",
        429,
        *LIMITED,
        function="acompletion",
        arguments=WITH_USAGE,
        headers=(("retry-after", "7"),),
        retry_after_s=7,
    ),
)

TEXT_MODEL = "text-completion-openai/gpt-3.5-turbo-instruct"
TEXT_COST = {"input_cost": 11 * 1.5e-06, "output_cost": 7 * 2e-06}


def text(id: str, function: str, **more: Any) -> Case:
    """A text completion; its stream when asked for."""
    stream = more.get("stream", False)
    usage: dict[str, Any] = TOKENS
    if stream:
        details = {"completion_tokens_details": {"reasoning_tokens": 0, "text_tokens": 7}}
        usage = {**TOKENS, **details, "cost": pytest.approx(3.05e-05)}
    of_stream: dict[str, Any] = {"stream_ending": "completed", "stream_chunks": 6} if stream else {}
    if stream and not IS_NEWEST:
        of_stream |= {"prompt_tokens": ANY, "completion_tokens": ANY}  # 1.60 and 1.99 drop the provider's and count
    return Case(
        id=id,
        function=function,
        arguments={"model": TEXT_MODEL, "prompt": "Say hello.", **API, **more},
        expected=event(
            f"litellm.{function}",
            config={"model": TEXT_MODEL, "provider": "text-completion-openai", "max_retries": 0, **more},
            inputs={"prompt": "Say hello."},
            outputs={"text": TEXT, "finish_reason": "stop"},
            metadata={
                **counts(11, 7),
                "usage": usage,
                "usage_source": "provider",
                **costs(source="price_table" if stream else "response", **TEXT_COST),
                "operation_name": "text_completion",
                "call_type": function,
                "response_model": "gpt-3.5-turbo-instruct",
                "provider": "text-completion-openai",
                "api_base": "{url}/v1",
                "finish_reason": "stop",
                **of_stream,
            },
        ),
    )


def embedding(id: str, function: str, *, dimensions: int = 3, given: Any = ("red", "green"), **more: Any) -> Case:
    chunks = list(given) if isinstance(given, tuple) else given
    return Case(
        id=id,
        function=function,
        arguments={"model": "openai/text-embedding-3-small", "input": chunks, **API, **more},
        expected=event(
            f"litellm.{function}",
            config={"model": "openai/text-embedding-3-small", "provider": "openai", "max_retries": 0, **more},
            inputs={"chunks": chunks if isinstance(chunks, list) else [chunks]},
            outputs={
                "num_embeddings": len(chunks) if isinstance(chunks, list) else 1,
                "dimensions": dimensions,
            },
            metadata={
                **counts(5, 0),
                "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
                "usage_source": "provider",
                **costs(input_cost=5 * 2e-08),
                "operation_name": "embedding",
                "call_type": function,
                "response_model": "text-embedding-3-small",
                "provider": "openai",
                "api_base": "{url}/v1",
            },
        ),
    )


def image(
    id: str,
    function: str,
    model: str,
    *,
    outputs: list[Any],
    extra: dict[str, Any],
    since: tuple[int, int],
    **more: Any,
) -> Case:
    return Case(
        id=id,
        function=function,
        arguments={"model": f"openai/{model}", "prompt": "a cat", **API, **more},
        behaviour=Behaviour(special="gpt-image" if model == "gpt-image-1" else None),
        model=model,
        since=since,
        expected=event(
            f"litellm.{function}",
            config={"model": f"openai/{model}", "provider": "openai", "max_retries": 0, **more},
            inputs={"prompt": "a cat"},
            outputs={"images": outputs},
            metadata={
                "operation_name": "image_generation",
                "call_type": function,
                "provider": "openai",
                "api_base": "{url}/v1",
                **extra,
            },
        ),
    )


DRAWN = [{"url": "https://images.example/1.png", "revised_prompt": "a cat"}]
DRAWN_USAGE = {
    **counts(10, 30),
    # LiteLLM's usage object has OpenAI's names for images and those of chats.
    "usage": {
        "input_tokens": 10,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 10},
        "output_tokens": 30,
        "prompt_tokens": 10,
        "prompt_tokens_details": {"image_tokens": 0, "text_tokens": 10},
        "completion_tokens": 30,
        "total_tokens": 40,
    },
    "usage_source": "provider",
    "cost": pytest.approx(10 * 5e-06 + 30 * 4e-05),
    "cost_source": "response",
    "provider_request_id": "req_fake",
}
OTHERS = (
    text("text", "text_completion"),
    text("text, async", "atext_completion"),
    text("text, streamed with usage", "text_completion", **WITH_USAGE),
    text("text, streamed with usage, async", "atext_completion", **WITH_USAGE),
    embedding("embedding", "embedding"),
    embedding("embedding, async", "aembedding"),
    embedding("embedding of one text", "embedding", given="red"),
    embedding("embedding as base64", "embedding", encoding_format="base64"),
    Case(
        **{
            **vars(embedding("embedding with fewer dimensions", "embedding", dimensions=2)),
            "arguments": {
                "model": "openai/text-embedding-3-small",
                "input": ["red", "green"],
                "dimensions": 2,
                **API,
            },
        }
    ),
    image("image by url", "image_generation", "dall-e-3", outputs=DRAWN, extra={}, since=(1, 55)),
    image("image by url, async", "aimage_generation", "dall-e-3", outputs=DRAWN, extra={}, since=(1, 55)),
    image(
        "image as base64",
        "image_generation",
        "gpt-image-1",
        outputs=[{"b64_json": blob(IMAGE)}],
        extra=DRAWN_USAGE,
        since=(1, 74),
        quality="low",
        size="1024x1024",
    ),
)
OTHERS[8].expected["config"]["dimensions"] = 2

CASES = (*PLAIN, *STREAMS, *SPECIALS, *INPUTS, *FAILURES, *OTHERS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "-"))
def test_a_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)


@pytest.mark.parametrize("special", ["logprobs", "annotations", *(["audio"] if LITELLM_VERSION >= (1, 91) else [])])
def test_an_async_stream_records_what_a_sync_one_does(
    special: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.always("gpt-4o", Behaviour(special=special))
    arguments = {**CHAT, **WITH_USAGE, "api_base": fake_provider.base}

    async def read() -> None:
        async for _ in await litellm.acompletion(**arguments):
            pass

    for _ in litellm.completion(**arguments):
        pass
    asyncio.run(read())

    sync, asynchronous = recording.events()
    assert sync["outputs"] == asynchronous["outputs"]


@pytest.mark.skipif(LITELLM_VERSION < (1, 74), reason="LiteLLM refuses a part of type file")
def test_no_text_of_a_blob_is_recorded(recording: Recording, fake_provider: FakeProvider) -> None:
    fake_provider.always("gpt-4o", Behaviour(special="audio"))

    litellm.completion(**{**CHAT, "messages": CONVERSATION, "api_base": fake_provider.base})

    recorded = str(recording.event())
    for data in (PNG, WAV, PDF, SOUND):
        assert b64encode(data).decode() not in recorded
