"""Calls outside a Router that LiteLLM repeats itself: one chain with its tries."""

from __future__ import annotations

from typing import Any

import litellm
import pytest

from tests.capture.calls import LITELLM_VERSION, read_out
from tests.conftest import Recording
from tests.fakes.provider import KEY, TEXT, Behaviour, FakeProvider

MESSAGES = [{"role": "user", "content": "Say hello."}]
NAMES = ("completion", "acompletion")


def ask(name: str, provider: FakeProvider, model: str = "openai/flaky", **more: Any) -> Any:
    """Call it, and read a stream to its end. The provider's SDK repeats nothing."""
    settings = {"api_base": provider.base, "api_key": KEY, "max_retries": 0}
    result = getattr(litellm, name)(model=model, messages=MESSAGES, **settings, **more)
    return read_out(result, is_stream=bool(more.get("stream")))


def tree_of(recording: Recording) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The chain, and its tries in the order in which they were made."""
    events = recording.events()
    (chain,) = [event for event in events if event["event_type"] == "chain"]
    tries = [event for event in events if event is not chain]
    assert {(event["event_type"], event["parent_id"]) for event in tries} == {("model", chain["event_id"])}
    return chain, sorted(tries, key=lambda event: event["metadata"]["attempt"])


@pytest.mark.parametrize("name", NAMES)
def test_the_models_of_a_fallback_list_are_tries(name: str, recording: Recording, fake_provider: FakeProvider) -> None:
    if name == "acompletion" and LITELLM_VERSION < (1, 67):
        pytest.skip("LiteLLM's acompletion with fallbacks asks nobody")
    fake_provider.always("bad", Behaviour(status=500))

    ask(name, fake_provider, "openai/bad", fallbacks=["openai/good"])

    chain, (first, second) = tree_of(recording)
    assert [call["model"] for call in fake_provider.calls] == ["bad", "good"]
    assert chain["event_name"] == f"litellm.{name}"
    assert chain["error"] is None
    assert chain["config"]["fallbacks"] == ["openai/good"]
    assert chain["metadata"]["fallback_path"] == ["openai/bad", "openai/good"]
    assert chain["metadata"]["winner_attempt"] == 2
    assert chain["outputs"] == second["outputs"]
    assert "prompt_tokens" not in chain["metadata"]
    assert first["metadata"]["status_code"] == 500
    assert second["metadata"]["is_fallback"] is True
    assert second["metadata"]["fallback_from"] == "openai/bad"
    assert second["metadata"]["prompt_tokens"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_retries_of_a_call_are_tries(name: str, recording: Recording, fake_provider: FakeProvider) -> None:
    # Not a 500: that one the provider's SDK repeats by itself, below LiteLLM, which makes num_retries its max_retries.
    fake_provider.plan("flaky", Behaviour(status=400, message="not now"))

    answer = ask(name, fake_provider, num_retries=2)

    chain, (first, second) = tree_of(recording)
    assert answer.choices[0].message.content == TEXT
    assert [call["model"] for call in fake_provider.calls] == ["flaky", "flaky"]
    assert first["metadata"]["status_code"] == 400
    assert "is_retry" not in first["metadata"]
    assert second["metadata"]["is_retry"] is True
    assert second["metadata"]["delay_ms"] >= 0
    assert chain["metadata"]["attempted_retries"] == 1
    assert chain["metadata"]["winner_attempt"] == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_call_that_may_be_repeated_and_is_not_has_one_try(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    ask(name, fake_provider, num_retries=3)

    chain, (only,) = tree_of(recording)
    assert chain["config"]["num_retries"] == 3
    assert chain["metadata"]["attempts"] == chain["metadata"]["winner_attempt"] == 1
    assert chain["metadata"]["attempted_retries"] == 0
    assert chain["outputs"] == only["outputs"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_for_longer_contexts_is_a_further_try(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.plan("short", Behaviour(status=400, special="context_length_exceeded"))

    ask(name, fake_provider, "openai/short", context_window_fallback_dict={"openai/short": "openai/long"})

    chain, (first, second) = tree_of(recording)
    assert [call["model"] for call in fake_provider.calls] == ["short", "long"]
    assert first["metadata"]["error_type"] == "ContextWindowExceededError"
    assert second["metadata"]["fallback_reason"] == "ContextWindowExceededError"
    assert second["metadata"]["is_fallback"] is True
    assert chain["metadata"]["winner_attempt"] == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_of_a_call_that_may_be_repeated_is_read_through_its_try(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    ask(name, fake_provider, num_retries=1, stream=True)

    chain, (only,) = tree_of(recording)
    assert chain["outputs"]["content"] == only["outputs"]["content"] == TEXT
    assert chain["metadata"]["stream_ending"] == only["metadata"]["stream_ending"] == "completed"


@pytest.mark.parametrize("name", ["completion_with_retries", "acompletion_with_retries"])
def test_completion_with_retries_is_a_chain_of_its_tries(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    if name.startswith("a") and LITELLM_VERSION < (1, 74):
        pytest.skip("LiteLLM's acompletion_with_retries awaits an answer, and raises")
    fake_provider.plan("flaky", Behaviour(status=500))

    ask(name, fake_provider, num_retries=2)

    chain, (first, second) = tree_of(recording)
    assert chain["event_name"] == f"litellm.{name}"
    assert [call["model"] for call in fake_provider.calls] == ["flaky", "flaky"]
    assert (first["error"] is None, second["error"] is None) == (False, True)
    assert second["metadata"]["is_retry"] is True


@pytest.mark.parametrize("name", NAMES)
def test_when_every_try_fails_the_chain_fails_with_the_last(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.always("flaky", Behaviour(status=400, message="never"))

    with pytest.raises(litellm.BadRequestError):
        ask(name, fake_provider, num_retries=1)

    chain, tries = tree_of(recording)
    assert len(tries) == len(fake_provider.calls) == 2
    assert chain["error"].startswith("BadRequestError")
    assert "winner_attempt" not in chain["metadata"]


def test_a_plain_call_stays_one_event(recording: Recording, fake_provider: FakeProvider) -> None:
    ask("completion", fake_provider, num_retries=0)

    assert recording.event()["event_type"] == "model"
