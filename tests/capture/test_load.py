"""Many calls at once: each event belongs to its own request, none is doubled, none is missing."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from typing import Any

import litellm
import pytest

import honeyhive_autoinstrument
from tests.capture.calls import FUNCTIONS
from tests.conftest import Recording
from tests.fakes.provider import Behaviour, FakeProvider

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_mixed_calls_of_threads_and_tasks_are_recorded_once_each(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.always("unwell", Behaviour(status=400))
    base = FUNCTIONS[0].arguments(fake_provider)

    def arguments(marker: str, chance: random.Random) -> dict[str, Any]:
        model = chance.choice(["openai/gpt-4o-mini", "openai/gpt-4o-mini", "openai/unwell"])
        return {**base, "model": model, "messages": [{"role": "user", "content": marker}]}

    def in_thread(number: int) -> None:
        chance = random.Random(number)
        for turn in range(60):
            kwargs = arguments(f"thread {number} turn {turn}", chance)
            try:
                if turn % 3 == 0:
                    for _ in litellm.completion(stream=True, **kwargs):
                        pass
                else:
                    litellm.completion(**kwargs)
            except litellm.BadRequestError:
                pass

    async def in_task(number: int) -> None:
        chance = random.Random(1000 + number)
        for turn in range(10):
            kwargs = arguments(f"task {number} turn {turn}", chance)
            try:
                if turn % 3 == 0:
                    async for _ in await litellm.acompletion(stream=True, **kwargs):
                        pass
                else:
                    await litellm.acompletion(**kwargs)
            except litellm.BadRequestError:
                pass

    async def all_tasks() -> None:
        await asyncio.gather(*(in_task(number) for number in range(60)))

    threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    asyncio.run(all_tasks())
    for thread in threads:
        thread.join()

    assert honeyhive_autoinstrument.flush(60)
    asked = Counter(event["inputs"]["chat_history"][0]["content"] for event in recording.events())
    requested = Counter(call["messages"][0]["content"] for call in fake_provider.calls)
    assert asked == requested
    assert set(asked.values()) == {1}
    assert len(asked) == 8 * 60 + 60 * 10
    assert set(recording.server.arrivals.values()) == {1}
    for event in recording.events():
        failed = event["config"]["model"] == "openai/unwell"
        assert (event["error"] is not None) is failed
        assert event["metadata"].get("stream_ending") in (None, "completed", "failed")
