"""Failures of every kind: the exception is LiteLLM's own, and the event tells what it was."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import litellm
import pytest

from tests.capture.calls import FUNCTIONS, LITELLM_VERSION
from tests.conftest import Recording
from tests.fakes.provider import TEXT, Behaviour, FakeProvider

CHAT = FUNCTIONS[0]


def failing(**given: Any) -> BaseException:
    """What `completion` raises."""
    try:
        litellm.completion(**given)
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


def assert_failed_as(event: dict[str, Any], error: BaseException) -> None:
    assert event["error"].startswith(type(error).__name__)
    assert event["metadata"]["error_type"] == type(error).__name__
    assert event["metadata"]["error_module"] == type(error).__module__
    assert event["metadata"]["ending"] == "failed"
    assert event["metadata"].get("status_code") == getattr(error, "status_code", None)
    assert "prompt_tokens" not in event["metadata"]


def test_a_timeout_is_a_failure_with_its_class_and_status(recording: Recording, fake_provider: FakeProvider) -> None:
    hold = threading.Event()
    fake_provider.always("gpt-4o-mini", Behaviour(hold=hold))

    error = failing(**CHAT.arguments(fake_provider), timeout=0.3)
    hold.set()

    assert isinstance(error, litellm.Timeout)
    event = recording.event()
    assert_failed_as(event, error)
    assert event["metadata"]["status_code"] == 408
    assert event["config"]["timeout"] == 0.3


def test_a_call_that_the_application_stops_waiting_for_is_cancelled_and_no_failure(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    hold = threading.Event()
    fake_provider.always("gpt-4o-mini", Behaviour(hold=hold))

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(litellm.acompletion(**CHAT.arguments(fake_provider)), 0.3)

    asyncio.run(give_up())
    hold.set()

    event = recording.event()
    assert (event["metadata"]["ending"], event["error"]) == ("cancelled", None)


def test_a_server_that_is_not_there_is_a_failure(recording: Recording) -> None:
    given = {
        "model": "openai/gpt-4o",
        "api_base": "http://127.0.0.1:9/v1",
        "api_key": "sk-0123456789",
        "max_retries": 0,
    }

    error = failing(messages=[{"role": "user", "content": "x"}], **given)

    assert_failed_as(recording.event(), error)


def test_retry_after_is_recorded_in_seconds(recording: Recording, fake_provider: FakeProvider) -> None:
    fake_provider.always("gpt-4o-mini", Behaviour(status=429, message="slow down", headers=(("retry-after", "7"),)))

    error = failing(**CHAT.arguments(fake_provider))

    event = recording.event()
    assert_failed_as(event, error)
    if LITELLM_VERSION >= (1, 74):  # before, LiteLLM keeps no headers with its exceptions
        assert event["metadata"]["retry_after_s"] == 7.0


def test_an_unknown_model_is_a_failure_before_any_request(recording: Recording, fake_provider: FakeProvider) -> None:
    error = failing(model="nobody-knows-this", messages=[{"role": "user", "content": "x"}])

    event = recording.event()
    assert_failed_as(event, error)
    assert event["config"]["model"] == "nobody-knows-this"
    assert fake_provider.requests == []


def test_a_missing_argument_is_a_failure_before_any_request(recording: Recording) -> None:
    error = failing(messages=[{"role": "user", "content": "x"}])

    assert_failed_as(recording.event(), error)


def test_messages_that_are_none_are_a_failure_before_any_request(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    error = failing(**{**CHAT.arguments(fake_provider), "messages": "x", "model": 5})

    assert_failed_as(recording.event(), error)


@pytest.fixture
def spent_budget() -> Iterator[None]:
    litellm.max_budget, litellm._current_cost = 0.000001, 1.0
    yield
    litellm.max_budget, litellm._current_cost = 0.0, 0.0


def test_a_budget_that_is_spent_is_a_failure_before_any_request(
    spent_budget: None, recording: Recording, fake_provider: FakeProvider
) -> None:
    error = failing(**CHAT.arguments(fake_provider))

    assert isinstance(error, litellm.BudgetExceededError)
    assert_failed_as(recording.event(), error)
    assert fake_provider.requests == []


def test_a_content_policy_violation_keeps_its_class(recording: Recording, fake_provider: FakeProvider) -> None:
    refusal = "invalid_request_error: content_policy_violation"
    fake_provider.always("gpt-4o-mini", Behaviour(status=400, message=refusal))

    error = failing(**CHAT.arguments(fake_provider))

    assert isinstance(error, litellm.ContentPolicyViolationError)
    assert_failed_as(recording.event(), error)


@pytest.fixture
def cached() -> Iterator[None]:
    litellm.cache = litellm.Cache(type="local")
    yield
    litellm.cache = None


@pytest.mark.skipif(LITELLM_VERSION < (1, 63), reason="this LiteLLM does not find its entry again")
@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
def test_an_answer_from_litellms_cache_is_marked_and_costs_nothing(
    is_stream: bool, cached: None, recording: Recording, fake_provider: FakeProvider
) -> None:
    given = {**CHAT.arguments(fake_provider), "caching": True, "stream": is_stream}
    if is_stream:
        given["stream_options"] = {"include_usage": True}

    async def twice() -> None:
        for _ in range(2):
            result = await litellm.acompletion(**given)
            if is_stream:
                async for _ in result:
                    pass
            while not litellm.cache.cache.cache_dict:  # LiteLLM writes it in a task of its own
                await asyncio.sleep(0.01)

    asyncio.run(twice())

    first, second = recording.events()
    assert len(fake_provider.calls) == 1
    assert first["outputs"]["content"] == second["outputs"]["content"] == TEXT
    assert "cache_hit" not in first["metadata"]
    if LITELLM_VERSION >= (1, 82) and not is_stream:
        assert (second["metadata"]["cache_hit"], second["metadata"]["cost"]) == (True, 0.0)
        assert second["metadata"]["cost_source"] == "cache"
