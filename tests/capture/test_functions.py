"""Each public function, sync and async: exactly one event with the right content, checked against what FakeProvider got."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import types
from typing import Any

import litellm
import pytest

from tests.capture.calls import FUNCTIONS, LITELLM_VERSION, POSITIONAL, STREAMING, Function, names
from tests.conftest import Recording
from tests.fakes.provider import KEY, TEXT, Behaviour, FakeProvider


def call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a function of either kind, and read a stream to its end."""
    result = function(*args, **kwargs)
    if asyncio.iscoroutine(result):
        return asyncio.run(finish(result))
    return list(result) if kwargs.get("stream") else result


async def finish(coroutine: Any) -> Any:
    result = await coroutine
    return [chunk async for chunk in result] if hasattr(type(result), "__anext__") else result


EXPECTED_OUTPUT: dict[str, dict[str, Any]] = {
    "chat": {"role": "assistant", "content": TEXT, "finish_reason": "stop"},
    "text": {"text": TEXT, "finish_reason": "stop"},
    "embedding": {"num_embeddings": 2, "dimensions": 3},
    "image": {"images": [{"url": "https://images.example/1.png", "revised_prompt": "a cat"}]},
}
EXPECTED_INPUT: dict[str, dict[str, Any]] = {
    "chat": {"chat_history": [{"role": "user", "content": "Say hello."}]},
    "text": {"prompt": "Say hello."},
    "embedding": {"chunks": ["red", "green"]},
    "image": {"prompt": "a cat"},
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=names(FUNCTIONS))
def test_a_call_is_one_event_with_its_content(
    function: Function, recording: Recording, fake_provider: FakeProvider
) -> None:
    call(getattr(litellm, function.name), **function.arguments(fake_provider))

    event = recording.event()
    assert len(fake_provider.calls) == 1
    assert (event["event_type"], event["event_name"]) == ("model", f"litellm.{function.name}")
    assert event["inputs"] == EXPECTED_INPUT[function.kind]
    assert event["outputs"] == EXPECTED_OUTPUT[function.kind]
    assert event["error"] is None
    assert event["parent_id"] == event["session_id"]
    assert event["config"]["provider"] in ("openai", "text-completion-openai")
    assert event["metadata"]["litellm_version"]


@pytest.mark.parametrize("function", FUNCTIONS, ids=names(FUNCTIONS))
def test_the_model_asked_for_and_the_model_that_served_are_both_there(
    function: Function, recording: Recording, fake_provider: FakeProvider
) -> None:
    result = call(getattr(litellm, function.name), **function.arguments(fake_provider))

    event = recording.event()
    assert event["config"]["model"] == function.arguments(fake_provider)["model"]
    served = getattr(result, "model", None)
    assert event["metadata"].get("response_model") == served


@pytest.mark.parametrize("name", ["completion", "acompletion", "embedding", "aembedding"])
def test_tokens_and_cost_are_those_of_the_response(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    function = next(each for each in FUNCTIONS if each.name == name)
    result = call(getattr(litellm, name), **function.arguments(fake_provider))

    metadata = recording.event()["metadata"]
    assert metadata["prompt_tokens"] == metadata["input_tokens"] == result.usage.prompt_tokens
    assert metadata.get("completion_tokens", 0) == (result.usage.completion_tokens or 0)
    assert metadata["usage_source"] == "provider"
    assert metadata["cost"] == pytest.approx(result._hidden_params["response_cost"])
    assert metadata["cost"] > 0


@pytest.mark.parametrize("function", STREAMING, ids=names(STREAMING))
def test_a_stream_read_to_its_end_is_one_event_with_the_whole_text(
    function: Function, recording: Recording, fake_provider: FakeProvider
) -> None:
    chunks = call(getattr(litellm, function.name), stream=True, **function.arguments(fake_provider))

    event = recording.event()
    assert len(fake_provider.calls) == 1
    assert event["outputs"] == EXPECTED_OUTPUT[function.kind]
    assert event["metadata"]["stream_ending"] == "completed"
    assert event["metadata"]["stream_chunks"] == len(chunks)
    assert 0 < event["metadata"]["time_to_first_token_ms"] <= event["duration"]


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_stream_whose_provider_counts_has_its_tokens_and_their_price(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    function = next(each for each in FUNCTIONS if each.name == name)
    arguments = function.arguments(fake_provider)
    call(getattr(litellm, name), stream=True, stream_options={"include_usage": True}, **arguments)

    metadata = recording.event()["metadata"]
    assert (metadata["prompt_tokens"], metadata["completion_tokens"]) == (11, 7)
    assert metadata["usage_source"] == "provider"
    priced = litellm.cost_per_token(model="gpt-4o-mini", prompt_tokens=11, completion_tokens=7)
    assert metadata["cost"] == pytest.approx(sum(priced))


@pytest.mark.parametrize("function", FUNCTIONS, ids=names(FUNCTIONS))
def test_a_failed_call_is_one_event_with_class_status_and_inputs(
    function: Function, recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.always(function.provider_model, Behaviour(status=429, message="slow down"))

    with pytest.raises(litellm.RateLimitError) as raised:
        call(getattr(litellm, function.name), **function.arguments(fake_provider))

    event = recording.event()
    assert event["event_name"] == f"litellm.{function.name}"
    assert event["error"].startswith("RateLimitError: ")
    assert "slow down" in event["error"]
    assert event["metadata"]["status_code"] == raised.value.status_code == 429
    assert event["metadata"]["error_type"] == "RateLimitError"
    assert event["inputs"] == EXPECTED_INPUT[function.kind]


@pytest.mark.parametrize("function", STREAMING, ids=names(STREAMING))
def test_a_stream_that_fails_at_request_is_one_failed_event(
    function: Function, recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.always(function.provider_model, Behaviour(status=400, message="bad parameter"))

    with pytest.raises(litellm.BadRequestError):
        call(getattr(litellm, function.name), stream=True, **function.arguments(fake_provider))

    event = recording.event()
    assert event["error"].startswith("BadRequestError")
    assert len(fake_provider.calls) == 1


@pytest.mark.parametrize("function", POSITIONAL, ids=names(POSITIONAL))
def test_positional_arguments_are_recorded_by_name(
    function: Function, recording: Recording, fake_provider: FakeProvider
) -> None:
    rest = {"api_base": fake_provider.base, "api_key": KEY, "max_retries": 0}

    call(getattr(litellm, function.name), *function.positional(), **rest)

    event = recording.event()
    assert event["inputs"] == EXPECTED_INPUT[function.kind]
    assert event["config"]["model"] == function.arguments(fake_provider)["model"]


@pytest.fixture
def holder() -> Any:
    """A module of the application's that imported names from LiteLLM before anything was switched on."""
    module = types.ModuleType("an_application_module")
    for function in FUNCTIONS:
        setattr(module, function.name, getattr(litellm, function.name))
    module.partials = {f.name: functools.partial(getattr(litellm, f.name)) for f in FUNCTIONS}
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


@pytest.fixture
def late_recording(holder: Any, request: pytest.FixtureRequest) -> Recording:
    """Switched on after `holder` took its names."""
    recording: Recording = request.getfixturevalue("recording")
    return recording


@pytest.mark.parametrize("function", FUNCTIONS, ids=names(FUNCTIONS))
def test_a_name_imported_before_activation_is_recorded_once(
    function: Function, holder: Any, late_recording: Recording, fake_provider: FakeProvider
) -> None:
    call(getattr(holder, function.name), **function.arguments(fake_provider))

    event = late_recording.event()
    assert event["event_name"] == f"litellm.{function.name}"
    assert event["inputs"] == EXPECTED_INPUT[function.kind]


@pytest.mark.parametrize("function", FUNCTIONS, ids=names(FUNCTIONS))
def test_a_partial_made_before_activation_is_recorded_once(
    function: Function, holder: Any, late_recording: Recording, fake_provider: FakeProvider
) -> None:
    call(holder.partials[function.name], **function.arguments(fake_provider))

    event = late_recording.event()
    assert event["inputs"] == EXPECTED_INPUT[function.kind]
    assert event["outputs"] == EXPECTED_OUTPUT[function.kind]


def test_completion_with_retries_is_a_chain_with_one_model_event_for_each_request(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.plan("gpt-4o-mini", Behaviour(status=500), Behaviour(status=500))

    arguments = FUNCTIONS[0].arguments(fake_provider)
    litellm.completion_with_retries(num_retries=3, **arguments)

    events = recording.events()
    chain, *attempts = events
    assert chain["event_type"] == "chain"
    assert chain["event_name"] == "litellm.completion_with_retries"
    assert len(attempts) == len(fake_provider.calls) == 3
    assert [attempt["parent_id"] for attempt in attempts] == [chain["event_id"]] * 3
    assert [attempt["metadata"]["attempt"] for attempt in attempts] == [1, 2, 3]
    assert [attempt["error"] is None for attempt in attempts] == [False, False, True]
    assert "prompt_tokens" not in chain["metadata"]


def test_completion_with_retries_that_gives_up_is_a_failed_chain(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.always("gpt-4o-mini", Behaviour(status=429, message="slow down"))
    arguments = FUNCTIONS[0].arguments(fake_provider)
    given = (arguments.pop("model"), arguments.pop("messages"))

    with pytest.raises(litellm.RateLimitError):
        litellm.completion_with_retries(*given, num_retries=2, **arguments)

    chain, *attempts = recording.events()
    assert chain["error"].startswith("RateLimitError: ")
    assert chain["config"]["model"] == given[0]
    assert chain["inputs"] == EXPECTED_INPUT["chat"]
    assert len(attempts) == len(fake_provider.calls) == 2
    assert all(attempt["error"].startswith("RateLimitError: ") for attempt in attempts)


def test_a_stream_of_completion_with_retries_is_a_chain_with_its_text(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    arguments = FUNCTIONS[0].arguments(fake_provider)

    list(litellm.completion_with_retries(stream=True, num_retries=2, **arguments))

    chain, attempt = recording.events()
    assert chain["outputs"] == attempt["outputs"] == EXPECTED_OUTPUT["chat"]
    assert chain["metadata"]["stream_ending"] == attempt["metadata"]["stream_ending"] == "completed"


def test_acompletion_with_retries_is_a_chain_with_one_model_event_for_each_request(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.plan("gpt-4o-mini", Behaviour(status=500))

    arguments = FUNCTIONS[0].arguments(fake_provider)
    # Up to 1.60 it does not retry at all: it hands an async function to the sync retryer.
    with contextlib.suppress(litellm.APIError):
        # Its own default is the sync function, whose result it then awaits; people pass the async one.
        call(litellm.acompletion_with_retries, num_retries=2, original_function=litellm.acompletion, **arguments)

    chain, *attempts = recording.events()
    assert chain["event_name"] == "litellm.acompletion_with_retries"
    assert len(attempts) == len(fake_provider.calls) == (2 if LITELLM_VERSION >= (1, 74) else 1)
    assert {attempt["event_name"] for attempt in attempts} == {"litellm.acompletion"}


def test_tool_calls_of_an_answer_and_of_a_stream_are_recorded_alike(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    wanted = [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": '{"zone": "CET"}'}},
    ]
    fake_provider.always("gpt-4o-mini", Behaviour(tool_calls=wanted))
    arguments = FUNCTIONS[0].arguments(fake_provider)

    call(litellm.completion, **arguments)
    call(litellm.completion, stream=True, **arguments)

    plain, streamed = recording.events()
    assert plain["outputs"]["tool_calls"] == streamed["outputs"]["tool_calls"] == wanted
    assert plain["outputs"]["finish_reason"] == streamed["outputs"]["finish_reason"] == "tool_calls"


def test_messages_changed_after_the_call_are_recorded_as_they_were(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "one"}]}]
    metadata = {"feature": "chat"}
    arguments = {**FUNCTIONS[0].arguments(fake_provider), "messages": messages, "metadata": metadata}

    response = litellm.completion(**arguments)
    messages.append(response.choices[0].message)
    messages[0]["content"][0]["text"] = "changed"
    metadata["feature"] = "changed"

    event = recording.event()
    assert event["inputs"]["chat_history"] == [{"role": "user", "content": [{"type": "text", "text": "one"}]}]
    assert event["metadata"]["feature"] == "chat"


@pytest.mark.parametrize("function", FUNCTIONS[:4], ids=names(FUNCTIONS[:4]))
def test_an_answer_changed_after_the_call_is_recorded_as_it_was(
    function: Function, recording: Recording, fake_provider: FakeProvider
) -> None:
    answer = call(getattr(litellm, function.name), **function.arguments(fake_provider))
    if function.kind == "chat":
        answer.choices[0].message.content = "changed"
    else:
        answer.choices[0].text = "changed"

    assert recording.event()["outputs"] == EXPECTED_OUTPUT[function.kind]


def test_an_answer_appended_to_the_history_is_recorded_as_a_message(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    arguments = FUNCTIONS[0].arguments(fake_provider)
    first = litellm.completion(**arguments)

    history = [*arguments["messages"], first.choices[0].message, {"role": "user", "content": "And?"}]
    litellm.completion(**{**arguments, "messages": history})

    roles = [(message["role"], message["content"]) for message in recording.events()[1]["inputs"]["chat_history"]]
    assert roles == [("user", "Say hello."), ("assistant", TEXT), ("user", "And?")]


def test_the_arguments_reach_the_provider_unchanged(recording: Recording, fake_provider: FakeProvider) -> None:
    arguments = FUNCTIONS[0].arguments(fake_provider)
    litellm.completion(temperature=0.3, **arguments)

    (sent,) = fake_provider.calls
    extra = {name: value for name, value in sent.items() if name not in ("model", "messages")}
    assert extra == {"temperature": 0.3}


def test_a_call_with_a_session_id_in_its_metadata_joins_that_session(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    arguments = FUNCTIONS[0].arguments(fake_provider)
    session_id = "7f22137a-6911-4ed3-bc36-110f1dde6b66"
    litellm.completion(metadata={"session_id": session_id}, **arguments)
    litellm.completion(metadata={"session_id": "customer-17"}, **arguments)

    first, second = recording.events()
    assert first["session_id"] == session_id
    assert second["metadata"]["original_session_id"] == "customer-17"
    assert recording.server.sessions[second["session_id"]]["metadata"]["original_session_id"] == "customer-17"
