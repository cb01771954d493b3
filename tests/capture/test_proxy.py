"""The stream proxy around streams of every make: what each can do, it can do, and its Call ends once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from honeyhive_autoinstrument.capture.call import Call
from honeyhive_autoinstrument.capture.context import current_call
from honeyhive_autoinstrument.capture.recorder import Recorder
from honeyhive_autoinstrument.events.facts import Ending
from honeyhive_autoinstrument.patches.targets import TARGETS


def wants_no_fault() -> None:
    pytest.fail("recording failed")


class Closable:
    """A stream that is a context manager of both kinds and makes its iterators anew."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return iter(["a", "b"])

    async def __aiter__(self) -> AsyncIterator[str]:
        yield "a"
        yield "b"

    def __next__(self) -> str:
        return "next"

    async def __anext__(self) -> str:
        return "anext"

    def __enter__(self) -> Closable:
        self.log.append("enter")
        return self

    def __exit__(self, *error: object) -> bool:
        self.log.append("exit")
        return error[0] is KeyError

    async def __aenter__(self) -> str:
        return "another object"

    async def __aexit__(self, *error: object) -> None:
        self.log.append("aexit")

    def __len__(self) -> int:
        return 2

    def __bool__(self) -> bool:
        return False

    def close(self) -> str:
        self.log.append("close")
        return "closed"


@pytest.fixture
def ended() -> list[Call]:
    return []


def proxied(stream: Any, ended: list[Call]) -> Any:
    """The stream as a recorded call returns it."""
    recorder = Recorder(ended.append)
    call = recorder.start(TARGETS[0], None, (), (), {"model": "m"}, wants_no_fault)
    assert call is not None
    return call.succeed(stream)


def endings(ended: list[Call]) -> list[tuple[Ending | None, list[object] | None]]:
    gc.collect()
    return [(call.ending, call.chunks) for call in ended]


def test_iterators_that_a_stream_makes_anew_are_watched(ended: list[Call]) -> None:
    assert list(proxied(Closable(), ended)) == ["a", "b"]
    assert endings(ended) == [(Ending.COMPLETED, ["a", "b"])]


def test_async_iterators_that_a_stream_makes_anew_are_watched(ended: list[Call]) -> None:
    async def read() -> list[str]:
        return [chunk async for chunk in proxied(Closable(), ended)]

    assert asyncio.run(read()) == ["a", "b"]
    assert endings(ended) == [(Ending.COMPLETED, ["a", "b"])]


def test_a_half_read_iterator_that_is_dropped_abandons_its_stream(ended: list[Call]) -> None:
    iterator = iter(proxied(Closable(), ended))
    assert next(iterator) == "a"
    assert iter(iterator) is iterator
    del iterator

    assert endings(ended) == [(Ending.ABANDONED, ["a"])]


def test_a_with_statement_closes_and_may_swallow_errors_as_the_stream_does(ended: list[Call]) -> None:
    stream = Closable()
    with proxied(stream, ended) as entered:
        assert entered.__wrapped__ is stream
        raise KeyError("swallowed by the stream")

    assert stream.log == ["enter", "exit"]
    assert endings(ended) == [(Ending.CLOSED, [])]


def test_an_async_with_statement_gives_what_the_stream_gives(ended: list[Call]) -> None:
    stream = Closable()

    async def use() -> object:
        async with proxied(stream, ended) as entered:
            return entered

    assert asyncio.run(use()) == "another object"
    assert stream.log == ["aexit"]
    assert endings(ended) == [(Ending.CLOSED, [])]


def test_close_is_the_streams_own_and_ends_the_call_once(ended: list[Call]) -> None:
    stream = Closable()
    proxy = proxied(stream, ended)

    assert (proxy.close(), proxy.close()) == ("closed", "closed")
    assert (len(proxy), bool(proxy), next(proxy)) == (2, False, "next")
    assert stream.log == ["close", "close"]
    assert [ending for ending, _ in endings(ended)] == [Ending.CLOSED]


def test_a_generator_can_be_sent_to_and_closed(ended: list[Call]) -> None:
    def talk() -> Iterator[Any]:
        heard = yield "first"
        yield heard

    stream = proxied(talk(), ended)

    assert next(stream) == "first"
    assert stream.send("hello") == "hello"
    stream.close()
    assert endings(ended) == [(Ending.CLOSED, ["first"])]


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (ValueError("broken"), Ending.FAILED),
        (asyncio.CancelledError(), Ending.CANCELLED),
        (GeneratorExit(), Ending.CLOSED),
        (KeyboardInterrupt(), Ending.FAILED),
    ],
)
def test_what_a_stream_raises_goes_on_and_says_how_it_ended(
    ended: list[Call], error: BaseException, ending: Ending
) -> None:
    class Raising:
        def __iter__(self) -> Raising:
            return self

        def __next__(self) -> str:
            raise error

    with pytest.raises(type(error)) as raised:
        next(proxied(Raising(), ended))

    assert raised.value is error
    assert [each for each, _ in endings(ended)] == [ending]
    assert current_call.get() is None


def test_attributes_are_read_written_and_deleted_on_the_stream(ended: list[Call]) -> None:
    stream = Closable()
    proxy = proxied(stream, ended)

    proxy.note = "mine"
    assert stream.note == proxy.note == "mine"  # type: ignore[attr-defined]
    del proxy.note
    assert not hasattr(stream, "note")
    assert not hasattr(proxy, "note")
    assert str(proxy) == str(stream)
