"""Functions that are called seldom: OCR, search, video, vector stores, adapters, tool loops. One event for each call."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import litellm
import pytest

from tests.capture.calls import FUNCTIONS, LITELLM_VERSION
from tests.conftest import Recording
from tests.fakes.provider import KEY, TEXT, Behaviour, FakeProvider
from tests.fakes.wires.lookups import FOUND, PAGE_IMAGE

CHAT = FUNCTIONS[0]
MESSAGES = [{"role": "user", "content": "Say hello."}]


def call(name: str, given: dict[str, Any]) -> Any:
    owner: Any = litellm
    for part in name.split("."):
        owner = getattr(owner, part)
    result = owner(**given)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result


def has(name: str) -> bool:
    owner: Any = litellm
    for part in name.split("."):
        owner = getattr(owner, part, None)
    return callable(owner)


def since(*version: int) -> pytest.MarkDecorator:
    return pytest.mark.skipif(version > LITELLM_VERSION, reason="this LiteLLM cannot do it yet")


@since(1, 80)
@pytest.mark.parametrize("name", ["ocr", "aocr"])
def test_ocr_is_recorded_with_its_pages_and_without_their_images(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    document = {"type": "document_url", "document_url": "https://example.org/a.pdf"}

    call(
        name,
        {"model": "mistral/mistral-ocr-latest", "document": document, "api_base": fake_provider.base, "api_key": KEY},
    )

    event = recording.event()
    assert (event["event_name"], event["event_type"]) == (f"litellm.{name}", "model")
    assert event["inputs"] == {"document": document}
    (page,) = event["outputs"]["pages"]
    assert page["markdown"] == f"# {FOUND}"
    assert page["images"][0]["image_base64"]["sha256"] == hashlib.sha256(PAGE_IMAGE).hexdigest()


@since(1, 80)
@pytest.mark.parametrize("name", ["search", "asearch"])
def test_a_search_is_a_tool_event_with_what_was_found(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    call(
        name,
        {"query": "sky", "search_provider": "tavily", "api_base": fake_provider.url, "api_key": KEY, "max_results": 2},
    )

    event = recording.event()
    assert (event["event_name"], event["event_type"]) == (f"litellm.{name}", "tool")
    assert event["inputs"] == {"query": "sky"}
    assert event["config"]["search_provider"] == "tavily"
    assert event["outputs"]["nodes"][0]["snippet"] == FOUND


@since(1, 82)
@pytest.mark.parametrize("name", ["vector_stores.search", "vector_stores.asearch"])
def test_a_search_in_a_vector_store_is_a_tool_event(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    call(
        name,
        {
            "vector_store_id": "vs_1",
            "query": "sky",
            "custom_llm_provider": "openai",
            "api_base": fake_provider.base,
            "api_key": KEY,
        },
    )

    event = recording.event()
    assert (event["event_name"], event["event_type"]) == (f"litellm.{name}", "tool")
    assert event["inputs"] == {"query": "sky"}
    assert event["outputs"]["nodes"][0]["content"] == [{"type": "text", "text": FOUND}]


@since(1, 82)
@pytest.mark.parametrize("name", ["video_generation", "avideo_generation"])
def test_a_video_is_recorded_as_the_job_that_it_is(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    call(
        name,
        {"model": "openai/sora-2", "prompt": "a cat", "seconds": "4", "api_base": fake_provider.base, "api_key": KEY},
    )

    event = recording.event()
    assert event["event_name"] == f"litellm.{name}"
    assert event["inputs"] == {"prompt": "a cat"}
    assert event["outputs"]["status"] == "queued"
    assert event["config"]["seconds"] == "4"


class UpperCase:
    """An adapter as users write them: another form in, LiteLLM's out, and back."""

    def translate_completion_input_params(self, kwargs: dict[str, Any]) -> Any:
        return {**kwargs, "messages": [{"role": "user", "content": kwargs["messages"][0]["content"].upper()}]}

    def translate_completion_output_params(self, response: Any) -> Any:
        return response


@pytest.mark.parametrize("name", ["adapter_completion", "aadapter_completion"])
def test_an_adapter_is_a_chain_with_the_completion_it_makes(
    name: str, recording: Recording, fake_provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "adapters", [{"id": "upper", "adapter": UpperCase()}])

    call(name, {"adapter_id": "upper", **CHAT.arguments(fake_provider)})

    chain, completion = recording.events()
    assert (chain["event_type"], chain["event_name"]) == ("chain", f"litellm.{name}")
    assert completion["parent_id"] == chain["event_id"]
    assert chain["inputs"]["chat_history"][0]["content"] == "Say hello."
    assert completion["inputs"]["chat_history"][0]["content"] == "SAY HELLO."
    assert "prompt_tokens" not in chain["metadata"]


@pytest.mark.skipif(not has("run_tool_loop"), reason="this LiteLLM has no tool loop yet")
def test_a_tool_loop_is_a_chain_with_each_completion(recording: Recording, fake_provider: FakeProvider) -> None:
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    fake_provider.plan(
        "gpt-4o-mini", Behaviour(tool_calls=[{"id": "call_1", "type": "function", "function": function}])
    )

    def execute(call: Any) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": call.id, "content": "sunny"}

    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    litellm.run_tool_loop(
        model="openai/gpt-4o-mini",
        messages=MESSAGES,
        tools=[tool],
        execute_tool=execute,
        api_base=fake_provider.base,
        api_key=KEY,
    )

    chain, first, second = recording.events()
    assert (chain["event_type"], chain["event_name"]) == ("chain", "litellm.run_tool_loop")
    assert {first["parent_id"], second["parent_id"]} == {chain["event_id"]}
    assert first["outputs"]["tool_calls"][0]["function"] == function
    assert second["outputs"]["content"] == TEXT
    assert chain["outputs"]["content"] == TEXT
    assert [first["metadata"]["item"], second["metadata"]["item"]] == [1, 2]


@since(1, 74)
def test_responses_with_retries_is_a_chain_of_its_attempts(recording: Recording, fake_provider: FakeProvider) -> None:
    if not has("responses_with_retries"):
        pytest.skip("this LiteLLM has no retries of Responses yet")
    fake_provider.plan("gpt-4o", Behaviour(status=500))

    litellm.responses_with_retries(
        model="openai/gpt-4o",
        input="Say hello.",
        num_retries=2,
        api_base=fake_provider.base,
        api_key=KEY,
        max_retries=0,
    )

    chain, failed, won = recording.events()
    assert (chain["event_type"], chain["event_name"]) == ("chain", "litellm.responses_with_retries")
    assert {failed["parent_id"], won["parent_id"]} == {chain["event_id"]}
    assert failed["metadata"]["status_code"] == 500
    assert won["outputs"]["content"] == chain["outputs"]["content"] == TEXT
