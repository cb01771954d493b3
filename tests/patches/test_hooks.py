"""When our own code fails, the application sees no difference, and a Hook that keeps failing removes itself."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import importlib.abc
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import litellm
import litellm.main as litellm_main
import pytest
from litellm.types.utils import GenericStreamingChunk

import honeyhive_autoinstrument
from honeyhive_autoinstrument._faults import faults
from honeyhive_autoinstrument.capture import recorder as recorder_module
from tests.conftest import Recording
from tests.fakes.provider import KEY, FakeProvider


def ask() -> str:
    answer = litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y")
    return str(answer.choices[0].message.content)


def test_a_hook_that_fails_five_times_removes_itself_and_says_so_once(
    recording: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(recorder_module, "text_size", fail)

    answers = [ask() for _ in range(7)]

    assert answers == ["y"] * 7
    # From 1.103 on the function has an inner end, whose Hook steps in for the one that is gone.
    assert faults.counts() in ({"start a call": 5}, {"start a call": 7})
    assert sum("is no longer watched" in record.message for record in caplog.records) == 1
    # What could not be read is missing; that the calls were made, and how they ended, is not.
    events = recording.events()
    assert len(events) in (5, 7)
    assert {event["inputs"]["chat_history"][0]["content"] for event in events if event["inputs"]["chat_history"]} <= {
        "x"
    }
    assert {event["outputs"]["content"] for event in events} == {"y"}
    faults.after_fork()


def test_an_argument_that_cannot_be_copied_costs_only_itself(recording: Recording) -> None:
    class Odd:
        @property
        def __dict__(self) -> dict[str, object]:  # type: ignore[override]
            raise RuntimeError("not now")

    metadata = {"odd": Odd()}
    answer = litellm.completion(
        model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y", metadata=metadata
    )

    event = recording.event()
    assert answer.choices[0].message.content == "y"
    assert event["inputs"]["chat_history"][0]["content"] == "x"
    assert set(faults.counts()) == {"copy an argument"}
    faults.after_fork()


def test_an_argument_that_refuses_to_be_asked_is_not_asked(recording: Recording) -> None:
    class Refusing:
        def __bool__(self) -> bool:
            raise ValueError("ambiguous, as an array is")

    mock = Refusing()
    litellm.completion(
        model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y", my_array=mock, access_token=mock
    )

    assert recording.event()["outputs"]["content"] == "y"


def test_a_structure_that_holds_itself_ends(recording: Recording) -> None:
    nodes: list[dict[str, object]] = [{"number": number} for number in range(12)]
    for node in nodes:
        node["others"] = nodes
    litellm.completion(
        model="gpt-4o",
        messages=[{"role": "user", "content": "x"}],
        mock_response="y",
        tools=None,
        metadata={"graph": nodes},
    )

    assert "too large" in str(recording.event()["metadata"]["graph"])


def test_a_callable_object_in_litellms_place_is_called_as_without_us(request: pytest.FixtureRequest) -> None:
    original = litellm.acompletion
    litellm.acompletion = functools.partial(original, mock_response="y")
    try:
        recording: Recording = request.getfixturevalue("recording")
        answer = asyncio.run(litellm.acompletion(model="gpt-4o", messages=[{"role": "user", "content": "x"}]))
        assert answer.choices[0].message.content == "y"
        assert len(recording.events()) == 1
        honeyhive_autoinstrument.uninstrument()
    finally:
        litellm.acompletion = original


def test_a_bound_method_of_a_router_copies_as_without_us(recording: Recording) -> None:
    router = litellm.Router(model_list=[])

    assert copy.copy(router.acompletion) == router.acompletion


class Asking(litellm.CustomLLM):  # type: ignore[misc]
    """A custom provider that asks another model, once for a stream's first chunk and twice for a plain answer."""

    def completion(self, *args: object, **kwargs: object) -> object:
        ask_main("inner 1")
        return ask_main("inner 2")

    def streaming(self, *args: object, **kwargs: object) -> Iterator[GenericStreamingChunk]:
        ask_main("inner")
        yield {
            "finish_reason": "stop", "index": 0, "is_finished": True, "text": "y", "tool_use": None, "usage": None
        }  # fmt: skip

    async def astreaming(self, *args: object, **kwargs: object) -> AsyncIterator[GenericStreamingChunk]:
        for chunk in self.streaming():
            yield chunk


def ask_main(text: str) -> object:
    return litellm_main.completion(model="gpt-4o", messages=[{"role": "user", "content": text}], mock_response="y")


@pytest.fixture
def asking_provider() -> Iterator[str]:
    litellm.custom_provider_map = [{"provider": "asking", "custom_handler": Asking()}]
    yield "asking/model"
    litellm.custom_provider_map = []


def test_calls_below_the_inner_end_of_a_function_are_children(recording: Recording, asking_provider: str) -> None:
    litellm_main.completion(model=asking_provider, messages=[{"role": "user", "content": "outer"}])

    outer, *inner = recording.events()
    assert [event["inputs"]["chat_history"][0]["content"] for event in inner] == ["inner 1", "inner 2"]
    assert {event["parent_id"] for event in inner} == {outer["event_id"]}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_calls_that_a_custom_providers_stream_makes_are_children(
    recording: Recording, asking_provider: str, is_async: bool
) -> None:
    messages = [{"role": "user", "content": "outer"}]

    async def read() -> None:
        async for _ in await litellm.acompletion(model=asking_provider, messages=messages, stream=True):
            pass

    if is_async:
        asyncio.run(read())
    else:
        list(litellm.completion(model=asking_provider, messages=messages, stream=True))

    outer, inner = recording.events()
    assert outer["metadata"]["stream_ending"] == "completed"
    assert inner["parent_id"] == outer["event_id"]


def test_a_coroutine_that_the_collector_ends_leaves_the_surrounding_call_alone(recording: Recording) -> None:
    class Provider(litellm.CustomLLM):
        async def acompletion(self, *args: object, **kwargs: object) -> object:
            is_pending.set()
            await asyncio.sleep(3600)
            raise AssertionError("never")

        def completion(self, *args: object, **kwargs: object) -> object:
            loops.clear()  # with it goes the task, whose coroutine ends here
            gc.collect()
            return litellm.completion(
                model="gpt-4o", messages=[{"role": "user", "content": "inner"}], mock_response="z"
            )

    def text_of(event: dict[str, Any]) -> str:
        return str(event["inputs"]["chat_history"][0]["content"])

    litellm.custom_provider_map = [{"provider": "mine", "custom_handler": Provider()}]
    is_pending = asyncio.Event()
    loops = [asyncio.new_event_loop()]
    try:
        pending = loops[0].create_task(
            litellm.acompletion(model="mine/model", messages=[{"role": "user", "content": "pending"}])
        )
        loops[0].run_until_complete(asyncio.wait_for(is_pending.wait(), 20))
        # A thread of the executor that has just handed over its result may still hold the task.
        loops[0].run_until_complete(loops[0].shutdown_default_executor())
        loops[0].close()
        del pending
        litellm.completion(model="mine/model", messages=[{"role": "user", "content": "outer"}])
    finally:
        litellm.custom_provider_map = []
    ask()

    by_text = {text_of(event): event for event in recording.events()}
    assert set(by_text) == {"pending", "outer", "inner", "x"}
    assert by_text["inner"]["parent_id"] == by_text["outer"]["event_id"]
    assert by_text["x"]["parent_id"] == by_text["x"]["session_id"]


def test_a_call_that_the_collector_ends_while_the_first_is_taken_is_not_lost(recording: Recording) -> None:
    class Collecting(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == "honeyhive_autoinstrument.delivery.http":
                gc.collect()  # stands for an automatic collection at this moment

    def drop_half_read() -> None:
        stream = litellm.completion(
            model="gpt-4o", messages=[{"role": "user", "content": "dropped"}], mock_response="one two", stream=True
        )
        next(stream)
        ring = [stream]
        ring.append(ring)

    taken_away = {name: sys.modules.pop(name) for name in PIPELINE_MODULES if name in sys.modules}
    sys.meta_path.insert(0, Collecting())
    gc.collect()
    gc.disable()
    try:
        drop_half_read()
        ask()
    finally:
        gc.enable()
        sys.meta_path.pop(0)
        sys.modules.update(taken_away)

    first, second = recording.events()
    assert first["metadata"]["stream_ending"] == "abandoned"
    assert first["session_id"] == second["session_id"]
    assert honeyhive_autoinstrument.stats()["created"] == 2


PIPELINE_MODULES = ("honeyhive_autoinstrument.activation.pipeline", "honeyhive_autoinstrument.delivery.http")


def test_a_call_with_a_model_list_is_a_chain_of_the_requests_it_makes(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    deployment = {"model": "openai/gpt-4o-mini", "api_base": fake_provider.base, "api_key": KEY}
    litellm.completion(
        model="group",
        messages=[{"role": "user", "content": "x"}],
        model_list=[{"model_name": "group", "litellm_params": deployment}],
        deployments=[],
    )

    assert len(fake_provider.calls) == 1
    chain, request = recording.events()
    assert (chain["event_type"], chain["event_name"]) == ("chain", "litellm.completion")
    assert (chain["metadata"]["items"], request["metadata"]["item"]) == (1, 1)
    assert request["parent_id"] == chain["event_id"]
    assert request["metadata"]["prompt_tokens"] == 11
    assert "prompt_tokens" not in chain["metadata"]


def test_calls_that_a_custom_provider_makes_are_children(recording: Recording) -> None:
    class Provider(litellm.CustomLLM):
        def completion(self, *args: object, **kwargs: object) -> object:
            for number in (1, 2):
                litellm.completion(
                    model="gpt-4o",
                    messages=[{"role": "user", "content": f"inner {number}"}],
                    mock_response="y",
                    litellm_call_id=f"mine-{number}",
                )
            return litellm.completion(
                model="gpt-4o", messages=[{"role": "user", "content": "inner 3"}], mock_response="z"
            )

    litellm.custom_provider_map = [{"provider": "mine", "custom_handler": Provider()}]
    try:
        litellm.completion(model="mine/model", messages=[{"role": "user", "content": "outer"}])
    finally:
        litellm.custom_provider_map = []

    outer, *inner = recording.events()
    assert [event["inputs"]["chat_history"][0]["content"] for event in inner] == ["inner 1", "inner 2", "inner 3"]
    assert {event["parent_id"] for event in inner} == {outer["event_id"]}
