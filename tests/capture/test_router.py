"""Router calls: one chain with its attempts, in every shape of call."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import litellm
import pytest

from tests.capture.calls import CONTENT, FUNCTIONS, LITELLM_VERSION, MODELS, ROUTED, Function, names, read_out
from tests.capture.test_streams import STOPPED, stop_reading
from tests.conftest import Recording
from tests.fakes.provider import KEY, TEXT, WORDS, Behaviour, FakeProvider


def router_for(provider: FakeProvider, *models: str, **settings: Any) -> Any:
    """A Router with one deployment for each provider model; the group is called `group`, further ones `fallback-N`."""
    model_list = [
        {
            "model_name": "group" if number == 0 else f"fallback-{number}",
            "litellm_params": {"model": model, "api_base": provider.base, "api_key": KEY, "max_retries": 0},
            "model_info": {"id": f"deployment-{number}"},
        }
        for number, model in enumerate(models)
    ]
    return litellm.Router(model_list=model_list, **{"num_retries": 0, **settings})


def ask(router: Any, function: Function, **more: Any) -> Any:
    name, content = CONTENT[function.kind]
    result = getattr(router, function.name)(model=more.pop("model", "group"), **{name: content}, **more)
    return read_out(result, is_stream=bool(more.get("stream")))


@pytest.mark.parametrize("function", ROUTED, ids=names(ROUTED))
def test_a_router_call_is_a_chain_with_its_attempt(
    function: Function, recording: Recording, fake_provider: FakeProvider
) -> None:
    router = router_for(fake_provider, MODELS[function.kind])
    group = "group"
    if function.name == "text_completion":
        # The Router's sync text_completion passes the group's name on as the model (litellm_map.md 3.1).
        group = MODELS["text"]
        router = litellm.Router(
            model_list=[
                {
                    "model_name": group,
                    "litellm_params": {"model": group, "api_base": fake_provider.base, "api_key": KEY},
                    "model_info": {"id": "deployment-0"},
                }
            ],
            num_retries=0,
        )

    ask(router, function, model=group)

    chain, attempt = recording.events()
    assert len(fake_provider.calls) == 1
    assert (chain["event_type"], chain["event_name"]) == ("chain", f"litellm.Router.{function.name}")
    assert (attempt["event_type"], attempt["event_name"]) == ("model", f"litellm.{function.name}")
    assert attempt["parent_id"] == chain["event_id"]
    assert chain["parent_id"] == chain["session_id"] == attempt["session_id"]
    if function.name != "text_completion":
        # The Router's sync text_completion does not say which deployment it took.
        assert attempt["metadata"]["deployment_id"] == "deployment-0"
    assert attempt["metadata"]["model_group"] == group
    assert chain["config"]["model"] == group
    assert attempt["config"]["model"] == MODELS[function.kind]
    assert chain["outputs"] == attempt["outputs"]
    assert "prompt_tokens" not in chain["metadata"]


ROUTED_POSITIONAL = tuple(
    # The Router's text_completion wants a deployment whose name is the model's; see the test above.
    function
    for function in ROUTED
    if function.name != "text_completion"
)


@pytest.mark.parametrize("function", ROUTED_POSITIONAL, ids=names(ROUTED_POSITIONAL))
def test_positional_arguments_of_a_router_call_are_recorded_by_name(
    function: Function, recording: Recording, fake_provider: FakeProvider
) -> None:
    router = router_for(fake_provider, MODELS[function.kind])
    _, content = CONTENT[function.kind]
    given = (content, "group") if function.kind == "image" else ("group", content)

    result = getattr(router, function.name)(*given)
    read_out(result)

    chain, attempt = recording.events()
    assert chain["config"]["model"] == "group"
    assert chain["inputs"] == attempt["inputs"] != {}


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_fallback_shows_what_failed_and_what_won(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    function = next(each for each in FUNCTIONS if each.name == name)
    fake_provider.always("bad", Behaviour(status=500))
    router = router_for(fake_provider, "openai/bad", "openai/good", fallbacks=[{"group": ["fallback-1"]}])

    ask(router, function)

    chain, first, second = recording.events()
    assert [call["model"] for call in fake_provider.calls] == ["bad", "good"]
    assert chain["error"] is None
    assert chain["metadata"]["attempts"] == 2
    assert chain["metadata"]["deployment_id"] == "deployment-1"
    assert [first["metadata"]["deployment_id"], second["metadata"]["deployment_id"]] == [
        "deployment-0",
        "deployment-1",
    ]
    assert first["metadata"]["status_code"] == 500
    assert second["error"] is None
    assert second["metadata"]["is_fallback"] is True
    assert {first["parent_id"], second["parent_id"]} == {chain["event_id"]}


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_each_retry_is_an_attempt(name: str, recording: Recording, fake_provider: FakeProvider) -> None:
    function = next(each for each in FUNCTIONS if each.name == name)
    fake_provider.plan("flaky", Behaviour(status=500), Behaviour(status=500))
    router = router_for(fake_provider, "openai/flaky", num_retries=2, retry_after=0, disable_cooldowns=True)

    ask(router, function)

    chain, *attempts = recording.events()
    assert len(attempts) == len(fake_provider.calls) == 3
    assert [attempt["error"] is None for attempt in attempts] == [False, False, True]
    assert chain["error"] is None


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_when_all_fails_the_chain_fails_too(name: str, recording: Recording, fake_provider: FakeProvider) -> None:
    function = next(each for each in FUNCTIONS if each.name == name)
    fake_provider.always("bad", Behaviour(status=400, message="no such thing"))
    router = router_for(fake_provider, "openai/bad")

    with pytest.raises(litellm.BadRequestError):
        ask(router, function)

    chain, attempt = recording.events()
    assert chain["error"].startswith("BadRequestError")
    assert attempt["error"].startswith("BadRequestError")
    assert len(fake_provider.calls) == 1


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_streaming_router_call_is_a_chain_with_its_text(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    function = next(each for each in FUNCTIONS if each.name == name)

    ask(router_for(fake_provider, MODELS["chat"]), function, stream=True)

    chain, attempt = recording.events()
    assert chain["outputs"]["content"] == attempt["outputs"]["content"] == TEXT
    assert chain["metadata"]["stream_ending"] == attempt["metadata"]["stream_ending"] == "completed"


def test_a_streaming_router_call_closed_early_closes_its_attempt(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    async def read() -> None:
        router = router_for(fake_provider, MODELS["chat"])
        stream = await router.acompletion(
            model="group", messages=[{"role": "user", "content": "Say hello."}], stream=True
        )
        await stream.__anext__()
        await stop_reading(stream)

    asyncio.run(read())
    gc.collect()
    chain, attempt = recording.events()
    assert chain["metadata"]["stream_ending"] == attempt["metadata"]["stream_ending"] == STOPPED
    assert chain["outputs"]["content"] == WORDS[0]


if LITELLM_VERSION >= (1, 99):  # before, a stream cut off by the network looks complete (litellm_map.md 3.7)

    def test_a_stream_that_breaks_before_its_first_word_goes_on_as_the_next_attempt(
        recording: Recording, fake_provider: FakeProvider
    ) -> None:
        fake_provider.always("bad", Behaviour(cut_after=0))
        router = router_for(fake_provider, "openai/bad", "openai/good", fallbacks=[{"group": ["fallback-1"]}])
        acompletion = next(each for each in FUNCTIONS if each.name == "acompletion")

        ask(router, acompletion, stream=True)

        chain, broken, winner = recording.events()
        assert [call["model"] for call in fake_provider.calls] == ["bad", "good"]
        assert chain["outputs"]["content"] == winner["outputs"]["content"] == TEXT
        assert chain["metadata"]["attempts"] == 2
        assert broken["metadata"]["stream_ending"] == "failed"
        assert {broken["parent_id"], winner["parent_id"]} == {chain["event_id"]}
        assert winner["metadata"]["is_fallback"] is True


def test_a_router_made_before_activation_is_recorded(fake_provider: FakeProvider, request: Any) -> None:
    router = router_for(fake_provider, MODELS["chat"])
    recording: Recording = request.getfixturevalue("recording")

    ask(router, FUNCTIONS[0])

    assert [event["event_type"] for event in recording.events()] == ["chain", "model"]


if LITELLM_VERSION < (1, 110):

    def test_a_subclass_of_router_is_recorded_once(recording: Recording, fake_provider: FakeProvider) -> None:
        class MyRouter(litellm.Router):
            def completion(self, *args: Any, **kwargs: Any) -> Any:
                return super().completion(*args, **kwargs)

        router = MyRouter(
            model_list=[
                {
                    "model_name": "group",
                    "litellm_params": {"model": MODELS["chat"], "api_base": fake_provider.base, "api_key": KEY},
                }
            ]
        )
        router.completion("group", [{"role": "user", "content": "Say hello."}])

        chain, attempt = recording.events()
        assert attempt["parent_id"] == chain["event_id"]
        assert chain["inputs"]["chat_history"][0]["content"] == "Say hello."

else:

    def test_a_subclass_of_router_is_refused_as_without_us(recording: Recording) -> None:
        with pytest.raises(TypeError, match="cannot be subclassed"):
            type("MyRouter", (litellm.Router,), {})


def test_a_sync_router_call_inside_a_running_loop_keeps_its_tree(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    router = router_for(fake_provider, MODELS["chat"])

    async def work() -> None:
        ask(router, FUNCTIONS[0])

    asyncio.run(work())

    chain, attempt = recording.events()
    assert attempt["parent_id"] == chain["event_id"]


def test_parallel_router_calls_keep_their_attempts_apart(recording: Recording, fake_provider: FakeProvider) -> None:
    fake_provider.always("bad", Behaviour(status=500))
    router = router_for(fake_provider, "openai/bad", "openai/good", fallbacks=[{"group": ["fallback-1"]}])

    async def work() -> None:
        await asyncio.gather(
            *(
                router.acompletion(model="group", messages=[{"role": "user", "content": f"marker-{number}"}])
                for number in range(20)
            )
        )

    asyncio.run(work())

    events = recording.events()
    chains = {event["event_id"]: event for event in events if event["event_type"] == "chain"}
    models = [event for event in events if event["event_type"] == "model"]
    assert len(chains) == 20
    assert len(models) == len(fake_provider.calls)
    for event in models:
        assert event["inputs"] == chains[event["parent_id"]]["inputs"]


def test_recording_a_router_raises_no_warning_of_litellms(recording: Recording, fake_provider: FakeProvider) -> None:
    router = router_for(fake_provider, MODELS["chat"])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask(router, FUNCTIONS[0])
        recording.events()

    assert [str(each.message) for each in caught if "Router" in str(each.message)] == []
