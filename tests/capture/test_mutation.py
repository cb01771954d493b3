"""The event shows what was passed, whatever the application does with it afterwards, or in another thread meanwhile."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable
from typing import Any

import litellm
import pytest

from tests.capture.calls import FUNCTIONS
from tests.conftest import Recording
from tests.fakes.provider import TEXT, Behaviour, FakeProvider

CHAT = FUNCTIONS[0]


def arguments(provider: FakeProvider) -> dict[str, Any]:
    return {
        **CHAT.arguments(provider),
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            litellm.Message(role="assistant", content="Yes?"),
            {"role": "user", "content": "Say hello."},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                },
            }
        ],
        "metadata": {"feature": "greeting", "nested": {"step": 1}},
        "stop": ["END"],
    }


def spoil(given: dict[str, Any]) -> None:
    """Everything that an agent may do to its lists, at every depth."""
    given["messages"][0]["content"][0]["text"] = "SPOILED"
    given["messages"][1].content = "SPOILED"
    given["messages"][2]["content"] = "SPOILED"
    given["messages"].append({"role": "tool", "content": "SPOILED"})
    given["tools"][0]["function"]["name"] = "SPOILED"
    given["tools"][0]["function"]["parameters"]["properties"]["SPOILED"] = {"type": "string"}
    given["metadata"]["feature"] = "SPOILED"
    given["metadata"]["nested"]["step"] = "SPOILED"
    given["stop"].append("SPOILED")


def assert_as_passed(event: dict[str, Any], passed: dict[str, Any]) -> None:
    assert "SPOILED" not in str(event)
    contents = [message["content"] for message in event["inputs"]["chat_history"]]
    assert contents == [passed["messages"][0]["content"], "Yes?", "Say hello."]
    assert event["config"]["tools"] == passed["tools"]
    assert event["config"]["stop_sequences"] == passed["stop"]
    assert event["metadata"]["feature"] == "greeting"
    assert event["metadata"]["nested"] == {"step": 1}


def plain(given: dict[str, Any]) -> None:
    litellm.completion(**given)


def streamed(given: dict[str, Any]) -> None:
    stream = litellm.completion(**given, stream=True)
    next(stream)
    spoil(given)
    list(stream)


def awaited(given: dict[str, Any]) -> None:
    asyncio.run(litellm.acompletion(**given))


def routed(given: dict[str, Any]) -> None:
    deployment = {name: given.pop(name) for name in ("model", "api_base", "api_key", "max_retries")}
    router = litellm.Router(model_list=[{"model_name": "group", "litellm_params": deployment}], num_retries=0)
    router.completion(model="group", **given)


@pytest.mark.parametrize("make", [plain, streamed, awaited, routed])
def test_what_is_changed_after_the_call_is_recorded_as_it_was(
    make: Callable[[dict[str, Any]], None], recording: Recording, fake_provider: FakeProvider
) -> None:
    given = arguments(fake_provider)
    passed = copy.deepcopy(given)

    make(given)
    spoil(given)

    for event in recording.events():
        assert_as_passed(event, passed)


def test_what_another_thread_changes_during_the_call_is_recorded_as_it_was(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    hold = threading.Event()
    fake_provider.always("gpt-4o-mini", Behaviour(hold=hold))
    given = arguments(fake_provider)
    passed = copy.deepcopy(given)
    call = threading.Thread(target=litellm.completion, kwargs=given)

    call.start()
    while not fake_provider.requests:
        call.join(0.01)
    spoil(given)
    hold.set()
    call.join()

    assert_as_passed(recording.event(), passed)


def test_an_answer_that_the_application_cleans_up_is_recorded_as_it_came(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    answer = litellm.completion(**CHAT.arguments(fake_provider))
    answer.choices[0].message.content = "SPOILED"
    answer.choices.clear()

    assert recording.event()["outputs"]["content"] == TEXT


def test_recording_changes_nothing_of_what_was_passed(recording: Recording, fake_provider: FakeProvider) -> None:
    given = {**arguments(fake_provider)}
    given.pop("metadata")  # LiteLLM itself writes into it
    passed = copy.deepcopy(given)

    litellm.completion(**given)
    recording.events()

    assert given == passed
