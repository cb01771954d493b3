"""OpenAI's Responses API called through LiteLLM, and LiteLLM's bridges between it and chat completions: one event each.

The provider's side follows OpenAI's published API reference ("Responses", "Streaming events"). What LiteLLM makes of it was
read off its response objects.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from typing import Any

import litellm
import pytest

from tests.capture.calls import LITELLM_VERSION, MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import KEY, TEXT, Behaviour, FakeProvider
from tests.fakes.wires.openai_responses import CITATION, DRAWING, FAILURE, IMAGE, REFUSAL, SUMMARY, WEB_SEARCH
from tests.providers.case import IS_NEWEST, Case, check, event

API: dict[str, Any] = {"api_base": "{url}/v1", "api_key": KEY, "max_retries": 0}
MODEL = "openai/gpt-4o"
CONFIG: dict[str, Any] = {"model": MODEL, "provider": "openai", "max_retries": 0}
HISTORY = {"chat_history": MESSAGES}
ANSWER = {"role": "assistant", "content": TEXT, "finish_reason": "completed"}
CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": '{"zone": "CET"}'}},
]
CALLED = {"role": "assistant", "content": None, "finish_reason": "completed", "tool_calls": CALLS}
TOOLS = [
    {"type": "function", "name": name, "parameters": {"type": "object", "properties": {key: {"type": "string"}}}}
    for name, key in (("weather", "city"), ("time", "zone"))
]
PNG = b"\x89PNG\r\n\x1a\n a cat"
PDF = b"%PDF-1.7 a report"
SINCE = (1, 74)
"""`litellm.responses` is younger than 1.60."""


def blob(data: bytes, kind: str = "base64") -> dict[str, Any]:
    return {"type": kind, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def tokens(prompt: int = 11, completion: int = 7) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
    }


def usage(*, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": 18,
    }


def costs(*, cached: bool = False, reasoning: bool = False) -> dict[str, Any]:
    """Of 11 and 7 tokens of gpt-4o."""
    read = 6 * 2.5e-06 + 5 * 1.25e-06 if cached else 11 * 2.5e-06
    total = read + 7 * 1e-05
    parts = {"input_cost": read, "output_cost": 7 * 1e-05, "total_cost": total, "original_cost": total}
    if cached:
        parts["cache_read_cost"] = 5 * 1.25e-06
    if reasoning:
        parts["reasoning_cost"] = 4 * 1e-05
    exact = {name: pytest.approx(part) for name, part in parts.items()}
    return {"cost": pytest.approx(total), "cost_source": "response", "cost_parts": exact}


def responses(
    id: str,
    *,
    function: str = "responses",
    arguments: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    inputs: list[Any] | None = None,
    outputs: dict[str, Any] | None = None,
    behaviour: Behaviour | None = None,
    chunks: int = 12,
    cached: int = 0,
    reasoning: int = 0,
    since: tuple[int, int] = SINCE,
) -> Case:
    """A response, plain or streamed, that differs from the plainest in what is given."""
    arguments = arguments or {}
    outputs = outputs or ANSWER
    is_stream = bool(arguments.get("stream"))
    metadata: dict[str, Any] = {
        **tokens(),
        "usage": usage(cached=cached, reasoning=reasoning),
        "usage_source": "provider",
        **costs(cached=bool(cached), reasoning=bool(reasoning)),  # the completed event has its price with it
        "operation_name": "responses",
        "call_type": function,
        "response_model": "gpt-4o",
        "service_tier": "default",
        "provider": "openai",
        "api_base": "{url}/v1",
        "provider_request_id": "req_fake",
        "finish_reason": outputs["finish_reason"],
    }
    if cached:
        metadata["cache_read_input_tokens"] = cached
    if reasoning:
        metadata["reasoning_tokens"] = reasoning
    if is_stream:
        metadata |= {"stream_ending": "completed", "stream_chunks": chunks}
        metadata["usage"] = {**metadata["usage"], "cost": metadata["cost"]}  # LiteLLM adds it on streams
    recorded = {name: value for name, value in arguments.items() if name not in ("input", "instructions")}
    return Case(
        id=id,
        function=function,
        arguments={"model": MODEL, "input": "Say hello.", **API, **arguments},
        behaviour=behaviour,
        model="gpt-4o",
        since=since,
        expected=event(
            f"litellm.{function}",
            config={**CONFIG, **(recorded if config is None else config)},
            inputs={"chat_history": MESSAGES if inputs is None else inputs},
            outputs=outputs,
            metadata=metadata,
        ),
    )


def both(id: str, *, chunks: int, arguments: dict[str, Any] | None = None, **more: Any) -> list[Case]:
    """Plain and as a stream."""
    arguments = arguments or {}
    return [
        responses(id, arguments=arguments, **more),
        responses(f"{id}, streamed", arguments={**arguments, "stream": True}, chunks=chunks, **more),
    ]


DRAWN = {**DRAWING, "result": blob(IMAGE)}
ANSWERS = (
    *both("plain", chunks=12),
    responses("plain, async", function="aresponses"),
    responses("plain, streamed, async", function="aresponses", arguments={"stream": True}),
    responses(
        "settings",
        arguments={
            "temperature": 0.5,
            "top_p": 0.75,
            "max_output_tokens": 50,
            "parallel_tool_calls": False,
            "reasoning": {"summary": "auto"},
            "text": {"format": {"type": "text"}},
            "truncation": "auto",
            "store": False,
        },
    ),
    responses("previous_response_id", arguments={"previous_response_id": "resp_6770742d346f"}),
    *both("tools", arguments={"tools": TOOLS}, behaviour=Behaviour(tool_calls=CALLS), outputs=CALLED, chunks=13),
    *both(
        "reasoning",
        behaviour=Behaviour(special="reasoning"),
        outputs={**ANSWER, "reasoning": "\n\n".join(SUMMARY)},
        reasoning=4,
        chunks=24,
    ),
    *both(
        "web_search",
        arguments={"tools": [{"type": "web_search"}]},
        behaviour=Behaviour(special="web_search"),
        outputs={**ANSWER, "annotations": [CITATION], "items": [WEB_SEARCH]},
        chunks=18,
    ),
    *both(
        "image_generation",
        arguments={"tools": [{"type": "image_generation"}]},
        behaviour=Behaviour(special="image_generation"),
        outputs={**ANSWER, "items": [DRAWN]},
        chunks=17,
    ),
    *both(
        "refusal",
        behaviour=Behaviour(special="refusal"),
        outputs={**ANSWER, "content": "", "refusal": REFUSAL},
        chunks=10,
    ),
    *both("cached", behaviour=Behaviour(special="cached"), cached=5, chunks=12),
    *both(
        "incomplete",
        behaviour=Behaviour(special="incomplete"),
        outputs={**ANSWER, "finish_reason": "max_output_tokens"},
        chunks=12,
    ),
)

ITEMS: list[Any] = [
    {"role": "developer", "content": "Answer in English."},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What are these?"},
            {"type": "input_image", "image_url": "https://images.example/cat.png", "detail": "low"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{b64encode(PNG).decode()}"},
            {
                "type": "input_file",
                "filename": "report.pdf",
                "file_data": f"data:application/pdf;base64,{b64encode(PDF).decode()}",
            },
        ],
    },
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "They want the weather."}]},
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "4 degrees"},
    WEB_SEARCH,
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "It is cold.", "annotations": []}],
    },
    {"role": "user", "content": [{"type": "input_text", "text": "Thanks."}]},
]
CONVERSATION: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": "Answer in English."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What are these?"},
            {"type": "image_url", "image_url": {"url": "https://images.example/cat.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": blob(PNG, "image/png")}},
            {"type": "file", "file": {"filename": "report.pdf", "file_data": blob(PDF, "application/pdf")}},
        ],
    },
    {"role": "assistant", "content": None, "reasoning": "They want the weather."},
    {"role": "assistant", "content": None, "tool_calls": CALLS[:1]},
    {"role": "tool", "tool_call_id": "call_1", "content": "4 degrees"},
    {"role": "assistant", "content": [WEB_SEARCH]},
    {"role": "assistant", "content": "It is cold."},
    {"role": "user", "content": "Thanks."},
]
INPUTS = (
    responses(
        "instructions",
        arguments={"instructions": "Be brief."},
        inputs=[{"role": "system", "content": "Be brief."}, *MESSAGES],
    ),
    responses("every kind of item", arguments={"input": ITEMS, "instructions": "Be brief."}, inputs=CONVERSATION),
)

BODY = '{"error": {"message": "no luck", "type": "fake_error", "code": null, "param": null}}'


def failure(
    id: str, status: int, kind: str, text: str, *, function: str = "responses", retry: bool = False, **more: Any
) -> Case:
    found: dict[str, Any] = {"retry_after_s": 7} if retry else {}
    named = MODEL if function == "aresponses" else "gpt-4o"  # LiteLLM's two functions tell it in two ways
    return Case(
        id=id,
        function=function,
        arguments={"model": MODEL, "input": "Say hello.", **API, **more},
        behaviour=Behaviour(status=status, message="no luck", headers=(("retry-after", "7"),) if retry else ()),
        model="gpt-4o",
        since=SINCE,
        expected=event(
            f"litellm.{function}",
            config={**CONFIG, **more},
            inputs=HISTORY,
            outputs={"role": "assistant"},
            error=f"{kind}: litellm.{kind}: {text} - {BODY}",
            metadata={
                "operation_name": "responses",
                "call_type": function,
                "provider": "openai",
                "api_base": "{url}/v1",
                "error_type": kind,
                "error_module": "litellm.exceptions",
                "error_debug_info": f"\nModel: {named}\nAPI Base: `{{url}}/v1`\nMessages: `None`",
                "status_code": status,
                "ending": "failed",
                **found,
            },
        ),
    )


LIMITED = ("RateLimitError", "RateLimitError: OpenAIException")
FAILURES = (
    failure("400", 400, "BadRequestError", "OpenAIException"),
    failure("429", 429, *LIMITED, retry=True),
    failure("429, async", 429, *LIMITED, function="aresponses", retry=True),
    failure("429 for a stream", 429, *LIMITED, retry=True, stream=True),
    failure("500", 500, "InternalServerError", "InternalServerError: OpenAIException"),
)

REPLAY = {
    "openai_responses_replay": {
        "version": 1,
        "items": [{"type": "message", "parts": [18]}],
        "checksum": "88e8b0159e30ddd70ed3354e9adb9f8306bd2481ea70605aad7312cd14bda8f7",
    }
}
"""What LiteLLM adds, to find the items again in the next turn."""


def bridged_chat(id: str, function: str, model: str, rates: tuple[float, float], since: tuple[int, int]) -> Case:
    """A chat that LiteLLM sends to `/v1/responses`."""
    served = model.rpartition("/")[2]
    cost = 11 * rates[0] + 7 * rates[1]
    parts = {"input_cost": 11 * rates[0], "output_cost": 7 * rates[1], "total_cost": cost, "original_cost": cost}
    return Case(
        id=id,
        function=function,
        arguments={"model": model, "messages": MESSAGES, **API},
        since=since,
        expected=event(
            f"litellm.{function}",
            config={"model": model, "provider": "openai", "max_retries": 0},
            inputs=HISTORY,
            outputs={**ANSWER, "finish_reason": "stop", "provider_specific_fields": REPLAY},
            metadata={
                **tokens(),
                "usage": {
                    "prompt_tokens": 11,
                    "completion_tokens": 7,
                    "total_tokens": 18,
                    "completion_tokens_details": {"reasoning_tokens": 0},
                    "prompt_tokens_details": {"cached_tokens": 0},
                },
                "usage_source": "provider",
                "cost": pytest.approx(cost),
                "cost_source": "response",
                "cost_parts": {name: pytest.approx(part) for name, part in parts.items()},
                "operation_name": "chat",
                "call_type": function,
                "response_model": served,
                "service_tier": "default",
                "provider": "openai",
                "api_base": "{url}/v1",
                "provider_request_id": "req_fake",
                "finish_reason": "stop",
            },
        ),
    )


def bridged_response(id: str, function: str, **more: Any) -> Case:
    """A response of a provider that LiteLLM asks for a chat."""
    return Case(
        id=id,
        function=function,
        arguments={"model": "mistral/m", "input": "Say hello.", **API, **more},
        since=SINCE,
        expected=event(
            f"litellm.{function}",
            config={"model": "mistral/m", "provider": "mistral", "max_retries": 0},
            inputs=HISTORY,
            outputs=ANSWER,
            metadata={
                **tokens(),
                "usage": {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18},
                "usage_source": "provider",
                "operation_name": "responses",
                "call_type": function,
                "response_model": "m",
                "provider": "mistral",
                "api_base": "{url}/v1",
                "provider_request_id": "req_fake",
                "finish_reason": "completed",
            },
        ),
    )


BRIDGES = (
    bridged_chat("chat by responses", "completion", "openai/responses/gpt-4o", (2.5e-06, 1e-05), (1, 74)),
    bridged_chat("chat by responses, async", "acompletion", "openai/responses/gpt-4o", (2.5e-06, 1e-05), (1, 74)),
    bridged_chat("chat of o1-pro", "completion", "openai/o1-pro", (1.5e-04, 6e-04), (1, 74)),
    bridged_response("response by chat", "responses"),
    bridged_response("response by chat, async", "aresponses"),
)

CASES = (*ANSWERS, *INPUTS, *FAILURES, *BRIDGES)
needs_responses = pytest.mark.skipif(LITELLM_VERSION < SINCE, reason="LiteLLM has no working Responses API")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "-"))
def test_a_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)


def arguments_of(provider: FakeProvider, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": "Say hello.", **API, "api_base": provider.base, **more}


@needs_responses
def test_a_response_in_the_background_is_queued_and_counts_nothing(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    litellm.responses(**arguments_of(fake_provider, background=True))

    found = recording.event()
    assert (found["outputs"]["role"], found["outputs"]["finish_reason"]) == ("assistant", "queued")
    assert not found["outputs"].get("content")
    assert found["config"]["background"] is True
    assert "prompt_tokens" not in found["metadata"]
    assert "usage_source" not in found["metadata"]


@needs_responses
def test_a_response_that_is_fetched_later_is_an_event_of_its_own(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    arguments = arguments_of(fake_provider, background=True)
    queued = litellm.responses(**arguments)
    of_api = {name: arguments[name] for name in ("api_base", "api_key")}

    litellm.get_responses(response_id=queued.id, custom_llm_provider="openai", **of_api)

    asked, got = recording.events()
    assert asked["event_name"] == "litellm.responses"
    assert got["event_name"] == "litellm.get_responses"
    assert got["outputs"] == ANSWER
    assert got["metadata"]["response_id"] == queued.id
    assert got["config"]["provider"] == "openai"


@needs_responses
def test_a_response_that_failed_at_the_provider_says_so(recording: Recording, fake_provider: FakeProvider) -> None:
    fake_provider.always("gpt-4o", Behaviour(special="failed"))

    litellm.responses(**arguments_of(fake_provider))

    found = recording.event()
    assert found["outputs"]["finish_reason"] == found["metadata"]["finish_reason"] == "failed"
    assert "prompt_tokens" not in found["metadata"]


@needs_responses
def test_a_stream_that_fails_at_the_provider_is_one_event_with_what_happened(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.always("gpt-4o", Behaviour(special="failed"))
    raised: BaseException | None = None
    try:
        for _ in litellm.responses(**arguments_of(fake_provider, stream=True)):
            pass
    except Exception as error:
        raised = error

    found = recording.event()
    assert found["event_name"] == "litellm.responses"
    if raised is None:  # older releases hand out the event and raise nothing
        assert found["outputs"]["finish_reason"] == "failed"
    else:
        assert found["error"].startswith(type(raised).__name__)
        assert FAILURE["message"] in found["error"]
        assert found["metadata"]["stream_ending"] == "failed"


@needs_responses
def test_a_stream_that_breaks_has_its_text_so_far(recording: Recording, fake_provider: FakeProvider) -> None:
    fake_provider.always("gpt-4o", Behaviour(cut_after=6))

    with pytest.raises(Exception):  # noqa: B017, PT011 - what LiteLLM raises differs by release
        list(litellm.responses(**arguments_of(fake_provider, stream=True)))

    found = recording.event()
    assert found["outputs"]["content"] == "Hello there"
    assert found["metadata"]["stream_ending"] == "failed"


@needs_responses
def test_a_stream_left_early_has_its_text_so_far(recording: Recording, fake_provider: FakeProvider) -> None:
    stream = litellm.responses(**arguments_of(fake_provider, stream=True))
    for number, _ in enumerate(stream, 1):
        if number == 6:
            break
    del stream

    found = recording.event()
    assert found["outputs"]["role"] == "assistant"
    assert found["outputs"]["content"] == "Hello there"
    assert found["metadata"]["stream_chunks"] == 6
    assert found["metadata"]["stream_ending"] in ("abandoned", "closed")


@needs_responses
def test_a_streamed_response_by_chat_is_one_event(recording: Recording, fake_provider: FakeProvider) -> None:
    arguments = {**arguments_of(fake_provider), "model": "mistral/m"}

    async def read() -> None:
        async for _ in await litellm.aresponses(stream=True, **arguments):
            pass

    for _ in litellm.responses(stream=True, **arguments):
        pass
    asyncio.run(read())

    sync, asynchronous = recording.events()
    assert (sync["event_name"], asynchronous["event_name"]) == ("litellm.responses", "litellm.aresponses")
    for found in (sync, asynchronous):
        assert {**found["outputs"], "content": TEXT} == ANSWER
        assert TEXT.endswith(found["outputs"]["content"])  # 1.82 loses the first word
        assert found["outputs"]["content"] == TEXT or not IS_NEWEST
        assert found["inputs"] == HISTORY
        assert found["metadata"]["stream_ending"] == "completed"
        assert found["config"]["provider"] == "mistral"


@needs_responses
def test_tools_called_in_a_response_by_chat_are_recorded(recording: Recording, fake_provider: FakeProvider) -> None:
    fake_provider.always("m", Behaviour(tool_calls=CALLS))
    arguments = {**arguments_of(fake_provider), "model": "mistral/m", "tools": TOOLS}

    litellm.responses(**arguments)

    found = recording.event()
    assert found["outputs"]["tool_calls"] == CALLS
    assert found["config"]["tools"] == TOOLS


@pytest.mark.skipif(LITELLM_VERSION < (1, 82), reason="LiteLLM muddles the pieces of tool calls")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_streamed_chat_by_responses_is_one_event(
    is_async: bool, recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.always("gpt-4o", Behaviour(special="reasoning", tool_calls=CALLS))
    arguments = {
        "model": "openai/responses/gpt-4o",
        "messages": MESSAGES,
        **API,
        "api_base": fake_provider.base,
        "stream": True,
    }

    async def read() -> None:
        async for _ in await litellm.acompletion(**arguments):
            pass

    if is_async:
        asyncio.run(read())
    else:
        for _ in litellm.completion(**arguments):
            pass

    found = recording.event()
    assert found["event_name"] == ("litellm.acompletion" if is_async else "litellm.completion")
    assert found["inputs"] == HISTORY
    assert found["metadata"]["stream_ending"] == "completed"
    names = [(call["function"]["name"], call["function"]["arguments"]) for call in found["outputs"]["tool_calls"]]
    assert names == [(call["function"]["name"], call["function"]["arguments"]) for call in CALLS]
    if IS_NEWEST:
        assert found["outputs"]["finish_reason"] == "tool_calls"
        assert found["outputs"]["reasoning"] == " ".join(SUMMARY)
