"""Many calls at once: each event belongs to its own request, none is doubled, none is missing. And many one after another:
the memory stays what it was."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import litellm
import pytest

import honeyhive_autoinstrument
from tests.capture.calls import FUNCTIONS, LITELLM_VERSION
from tests.conftest import Recording, Run, app
from tests.fakes.provider import Behaviour, FakeProvider

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

THREADS, CALLS_OF_A_THREAD = 16, 250
TASKS, CALLS_OF_A_TASK = 200, 30
CHAT, TEXT, EMBEDDING = FUNCTIONS[0], FUNCTIONS[2], FUNCTIONS[4]
Ask = tuple[str, dict[str, Any]]


def mixed(provider: FakeProvider, marker: str, chance: random.Random) -> Ask:
    """A function and its arguments, with the marker in what the model is given."""
    kind = chance.choice(["chat", "chat", "stream", "stream", "failing", "text", "embedding", "responses", "tools"])
    message = {"messages": [{"role": "user", "content": marker}]}
    chat = {**CHAT.arguments(provider), **message}
    if kind == "stream":
        return "completion", {**chat, "stream": True}
    if kind == "failing":
        return "completion", {**chat, "model": "openai/unwell"}
    if kind == "tools":
        return "completion", {**chat, "model": "openai/tools", "stream": True}
    if kind == "text":
        return "text_completion", {**TEXT.arguments(provider), "prompt": marker}
    if kind == "embedding":
        return "embedding", {**EMBEDDING.arguments(provider), "input": [marker]}
    if kind == "responses" and LITELLM_VERSION >= (1, 74):
        given = {name: value for name, value in chat.items() if name not in ("messages", "max_retries")}
        return "responses", {**given, "input": marker}
    return "completion", chat


def marker_in_event(event: dict[str, Any]) -> str:
    inputs = event["inputs"]
    if "chat_history" in inputs:
        return str(inputs["chat_history"][0]["content"])
    return str(inputs["prompt"] if "prompt" in inputs else inputs["chunks"][0])


def marker_in_request(body: dict[str, Any]) -> str:
    given = body.get("messages") or body.get("prompt") or body["input"]
    if isinstance(given, list):
        given = given[0]
    return str(given["content"] if isinstance(given, dict) else given)


def test_ten_thousand_mixed_calls_of_threads_and_tasks_are_recorded_once_each(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    fake_provider.always("unwell", Behaviour(status=400))
    fake_provider.always("tools", Behaviour(tool_calls=[call]))

    def in_thread(number: int) -> None:
        chance = random.Random(number)
        for turn in range(CALLS_OF_A_THREAD):
            name, given = mixed(fake_provider, f"thread {number} turn {turn}", chance)
            try:
                result = getattr(litellm, name)(**given)
                if given.get("stream"):
                    list(result)
            except litellm.BadRequestError:
                pass

    async def in_task(number: int) -> None:
        chance = random.Random(1000 + number)
        for turn in range(CALLS_OF_A_TASK):
            name, given = mixed(fake_provider, f"task {number} turn {turn}", chance)
            try:
                result = await getattr(litellm, f"a{name}")(**given)
                if given.get("stream"):
                    async for _ in result:
                        pass
            except litellm.BadRequestError:
                pass

    async def all_tasks() -> None:
        await asyncio.gather(*(in_task(number) for number in range(TASKS)))

    threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    asyncio.run(all_tasks())
    for thread in threads:
        thread.join()

    assert honeyhive_autoinstrument.flush(120)
    events = recording.events()
    asked = Counter(map(marker_in_event, events))
    assert asked == Counter(map(marker_in_request, fake_provider.calls))
    assert set(asked.values()) == {1}
    assert len(asked) == THREADS * CALLS_OF_A_THREAD + TASKS * CALLS_OF_A_TASK == 10_000
    assert set(recording.server.arrivals.values()) == {1}
    for event in events:
        model = event["config"]["model"]
        assert (event["error"] is not None) is (model == "openai/unwell")
        assert event["parent_id"] == event["session_id"]
        assert ("tool_calls" in event["outputs"]) is (model == "openai/tools")
        assert event["metadata"].get("stream_ending") in (None, "completed", "failed")


MAX_GROWTH = 8 * 1024 * 1024
"""Bytes that the process may grow by over 80 000 calls: a hundred bytes kept of each would show."""


def test_a_hundred_thousand_calls_leave_the_memory_as_it_was(
    run: Run, record_property: Callable[[str, object], None]
) -> None:
    finished = run(
        "honeyhive-instrument", sys.executable, app("soak.py"), timeout=800, env={"HONEYHIVE_SPOOL_MAX_BYTES": "8MiB"}
    )

    assert finished.status == 0, finished.err
    result = json.loads(finished.out)
    record_property("memory", result)
    print("soak:", result)
    assert result["calls"] == 100_000
    assert result["created"] == 100_000
    assert result["bytes_at_the_end"] - result["bytes_after_20000"] < MAX_GROWTH
