"""Streams behave as without us, and each ends its Call once with the right ending."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import copy
import gc
import threading
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any

import litellm
import pytest
from litellm import CustomStreamWrapper

import honeyhive_autoinstrument
from tests.capture.calls import FUNCTIONS
from tests.conftest import Recording
from tests.fakes.provider import TEXT, WORDS, Behaviour, FakeProvider

CHAT = FUNCTIONS[0]
CAN_CLOSE = hasattr(CustomStreamWrapper, "aclose")
STOPPED = "closed" if CAN_CLOSE else "abandoned"
"""How a stream ends that its reader leaves: old releases of LiteLLM have no way to close one."""


async def stop_reading(stream: Any) -> None:
    if CAN_CLOSE:
        await stream.aclose()


def stream_of(provider: FakeProvider, **more: Any) -> Any:
    return litellm.completion(stream=True, **CHAT.arguments(provider), **more)


async def astream_of(provider: FakeProvider, **more: Any) -> Any:
    return await litellm.acompletion(stream=True, **CHAT.arguments(provider), **more)


def text_of(chunk: Any) -> str:
    return chunk.choices[0].delta.content or ""


def ending_of(recording: Recording) -> tuple[str, str]:
    gc.collect()
    event = recording.event()
    return event["metadata"]["stream_ending"], event["outputs"]["content"]


def test_a_stream_keeps_its_type_attributes_and_text(recording: Recording, fake_provider: FakeProvider) -> None:
    stream = stream_of(fake_provider)

    assert isinstance(stream, CustomStreamWrapper)
    assert isinstance(stream, Iterator)
    assert iter(stream) is stream
    assert stream.model == "gpt-4o-mini"
    assert stream.custom_llm_provider == "openai"
    assert stream._hidden_params is stream.__wrapped__._hidden_params
    assert stream.logging_obj is stream.__wrapped__.logging_obj
    assert "".join(map(text_of, stream)) == TEXT
    assert next(stream, None) is None
    assert ending_of(recording) == ("completed", TEXT)


def test_an_async_stream_keeps_its_type_attributes_and_text(recording: Recording, fake_provider: FakeProvider) -> None:
    async def read() -> str:
        stream = await astream_of(fake_provider)
        assert isinstance(stream, CustomStreamWrapper)
        assert isinstance(stream, AsyncIterator)
        assert stream.__aiter__() is stream
        return "".join([text_of(chunk) async for chunk in stream])

    assert asyncio.run(read()) == TEXT
    assert ending_of(recording) == ("completed", TEXT)


def test_a_stream_has_no_method_that_its_original_lacks(recording: Recording, fake_provider: FakeProvider) -> None:
    stream = stream_of(fake_provider)
    bare = stream.__wrapped__

    assert {name for name in ("close", "aclose", "send", "throw") if hasattr(stream, name)} == {
        name for name in ("close", "aclose", "send", "throw") if hasattr(bare, name)
    }
    list(stream)


PROTOCOLS = (
    collections.abc.Iterator, collections.abc.AsyncIterator, collections.abc.Sized, collections.abc.Container,
    collections.abc.Collection, collections.abc.Reversible, collections.abc.Callable, typing.SupportsInt,
    contextlib.AbstractContextManager, contextlib.AbstractAsyncContextManager,
)  # fmt: skip
SPECIAL = ("__len__", "__getitem__", "__contains__", "__index__", "__bool__", "__add__", "__enter__", "__aenter__")


@pytest.mark.parametrize("name", ["completion", "text_completion"])
def test_a_stream_answers_questions_about_itself_as_without_us(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    function = next(each for each in FUNCTIONS if each.name == name)
    stream = getattr(litellm, name)(stream=True, **function.arguments(fake_provider))
    bare = stream.__wrapped__

    assert [isinstance(stream, each) for each in PROTOCOLS] == [isinstance(bare, each) for each in PROTOCOLS]
    assert [hasattr(stream, each) for each in SPECIAL] == [hasattr(bare, each) for each in SPECIAL]
    assert vars(stream) is vars(bare)
    assert repr(stream) == repr(bare)
    assert dir(stream) == dir(bare)
    assert (stream.__module__, stream.__doc__, stream.__class__) == (bare.__module__, bare.__doc__, bare.__class__)
    assert (type(stream).__name__, bool(stream)) == (type(bare).__name__, bool(bare))
    assert stream == bare
    assert hash(stream) == hash(bare)
    list(stream)


def test_a_with_statement_does_what_it_does_without_us(recording: Recording, fake_provider: FakeProvider) -> None:
    def enter(stream: Any) -> type[BaseException] | None:
        try:
            with stream:
                return None
        except (TypeError, AttributeError) as error:
            return type(error)

    stream = stream_of(fake_provider)
    assert enter(stream) is enter(stream.__wrapped__)
    list(stream)


def test_setting_an_attribute_reaches_the_stream(recording: Recording, fake_provider: FakeProvider) -> None:
    stream = stream_of(fake_provider)
    stream.note = "mine"

    assert stream.__wrapped__.note == "mine"
    list(stream)


def test_a_loop_that_breaks_and_drops_the_stream_abandons_it_with_its_text(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    for number, _ in enumerate(stream_of(fake_provider)):
        if number == 1:
            break

    assert ending_of(recording) == ("abandoned", "".join(WORDS[:2]))


def test_a_stream_dropped_unread_is_abandoned(recording: Recording, fake_provider: FakeProvider) -> None:
    stream_of(fake_provider)

    assert ending_of(recording) == ("abandoned", "")


def test_a_half_read_stream_that_is_closed_ends_as_closed(recording: Recording, fake_provider: FakeProvider) -> None:
    async def read() -> None:
        stream = await astream_of(fake_provider)
        await stream.__anext__()
        await stop_reading(stream)
        await stop_reading(stream)

    asyncio.run(read())
    assert ending_of(recording) == (STOPPED, WORDS[0])


def test_a_stream_whose_provider_breaks_off_fails_with_the_text_so_far(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.always("gpt-4o-mini", Behaviour(cut_after=2))
    seen: list[str] = []

    stream = stream_of(fake_provider)
    with pytest.raises(Exception, match=r".+") as raised:
        seen.extend(map(text_of, stream))

    event = recording.event()
    assert event["metadata"]["stream_ending"] == "failed"
    assert event["outputs"]["content"] == "".join(seen) == "".join(WORDS[:2])
    assert event["error"].startswith(type(raised.value).__name__)


def test_a_consumer_cancelled_between_chunks_cancels_the_stream(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    hold = threading.Event()
    fake_provider.always("gpt-4o-mini", Behaviour(hold=hold))
    first_seen = asyncio.Event()

    async def consume() -> None:
        async for _ in await astream_of(fake_provider):
            first_seen.set()

    async def cancel_it() -> None:
        task = asyncio.create_task(consume())
        await asyncio.wait_for(first_seen.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_it())
    hold.set()
    assert ending_of(recording) == ("cancelled", WORDS[0])
    assert recording.event()["error"] is None


def test_a_call_cancelled_before_its_answer_is_cancelled_and_no_error(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    hold = threading.Event()

    original = fake_provider.answer

    def answer(request: Any) -> Any:
        hold.wait(20)
        return original(request)

    fake_provider.answer = answer  # type: ignore[method-assign]

    async def cancel_it() -> None:
        task = asyncio.create_task(litellm.acompletion(**CHAT.arguments(fake_provider)))
        while not fake_provider.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_it())
    hold.set()
    event = recording.event()
    assert event["metadata"]["ending"] == "cancelled"
    assert event["error"] is None


def test_a_stream_ends_once_whatever_comes_after_its_end(recording: Recording, fake_provider: FakeProvider) -> None:
    stream = stream_of(fake_provider)
    list(stream)
    list(stream)
    del stream
    gc.collect()

    assert ending_of(recording) == ("completed", TEXT)


def test_copying_a_stream_fails_as_without_us(recording: Recording, fake_provider: FakeProvider) -> None:
    stream = stream_of(fake_provider)
    with pytest.raises(Exception, match=r".+") as bare:
        copy.deepcopy(stream.__wrapped__)

    with pytest.raises(bare.type):
        copy.deepcopy(stream)
    list(stream)


def test_a_stream_is_freed_as_soon_as_it_is_dropped(recording: Recording, fake_provider: FakeProvider) -> None:
    gc.disable()
    try:
        stream = stream_of(fake_provider)
        next(stream)
        del stream

        assert recording.event()["metadata"]["stream_ending"] == "abandoned"
    finally:
        gc.enable()


@pytest.mark.timeout(40)
def test_a_stream_dropped_while_another_one_is_priced_at_the_end_does_not_hang(
    recording: Recording, fake_provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    price = litellm.cost_per_token
    dropped: list[str] = []

    def price_and_drop(**arguments: Any) -> Any:
        if not dropped:
            dropped.append("once")
            next(stream_of(fake_provider))  # freed at once, on the worker that prices
        return price(**arguments)

    monkeypatch.setattr(litellm, "cost_per_token", price_and_drop)
    honeyhive_autoinstrument.init(linger=30)
    list(stream_of(fake_provider, stream_options={"include_usage": True}))

    honeyhive_autoinstrument.shutdown(10)

    stats = honeyhive_autoinstrument.stats()
    assert dropped == ["once"]
    assert (stats["created"], stats["pending"]) == (2, 0)
    assert stats["sent"] + stats["spooled"] == 2
