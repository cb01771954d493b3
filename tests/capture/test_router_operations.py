"""The Router's counterparts of the other operations, among them methods that it makes for each instance or serves by name:
one chain with its attempt, also from a Router that was there before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import litellm
import pytest

from tests.capture.calls import LITELLM_VERSION
from tests.conftest import Recording
from tests.fakes.provider import KEY, TEXT, FakeProvider

MESSAGES = [{"role": "user", "content": "Say hello."}]
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "


@dataclass(frozen=True)
class Method:
    """A Router method, the leaf it leads to, and how it is called."""

    name: str
    leaf: str
    model: str
    arguments: dict[str, Any]
    since: tuple[int, int]
    path: str = "/v1"
    """What FakeProvider's address needs behind it."""
    is_stream: bool = False

    @property
    def is_there(self) -> bool:
        return self.since <= LITELLM_VERSION


ANTHROPIC = {"messages": MESSAGES, "max_tokens": 100}
METHODS = tuple(
    method
    for method in (
        Method("aresponses", "aresponses", "openai/gpt-4o", {"input": "Say hello."}, (1, 67)),
        Method("responses", "responses", "openai/gpt-4o", {"input": "Say hello."}, (1, 74)),
        Method("aresponses", "aresponses", "openai/gpt-4o", {"input": "Hi.", "stream": True}, (1, 74), is_stream=True),
        Method("aanthropic_messages", "anthropic_messages", "anthropic/claude-sonnet-4-5", ANTHROPIC, (1, 74), path=""),
        Method("anthropic_messages", "anthropic_messages", "anthropic/claude-sonnet-4-5", ANTHROPIC, (1, 80), path=""),
        Method("arerank", "arerank", "cohere/rerank-v3.5", {"query": "red", "documents": ["red", "blue"]}, (1, 74), path=""),
        Method("amoderation", "amoderation", "openai/omni-moderation-latest", {"input": "Hello."}, (1, 82)),
        Method("atranscription", "atranscription", "openai/whisper-1", {"file": ("a.wav", WAV)}, (1, 60)),
        Method("aspeech", "aspeech", "openai/tts-1", {"input": "Hello.", "voice": "alloy"}, (1, 60)),
        Method("aimage_edit", "aimage_edit", "openai/gpt-image-1", {"image": b"\x89PNG", "prompt": "red"}, (1, 77)),
        Method(
            "agenerate_content", "google_genai.agenerate_content", "gemini/gemini-2.5-flash",
            {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}, (1, 82), path="",
        ),
        Method(
            "agenerate_content_stream", "google_genai.agenerate_content_stream", "gemini/gemini-2.5-flash",
            {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}, (1, 82), path="", is_stream=True,
        ),
        Method("schedule_acompletion", "acompletion", "openai/gpt-4o", {"messages": MESSAGES, "priority": 1}, (1, 60)),
    )
    if method.is_there
)  # fmt: skip


def router_of(provider: FakeProvider, model: str, path: str = "/v1") -> Any:
    deployment = {"model": model, "api_base": provider.url + path, "api_key": KEY, "max_retries": 0}
    return litellm.Router(
        model_list=[{"model_name": "group", "litellm_params": deployment, "model_info": {"id": "deployment-0"}}],
        num_retries=0,
    )


def ask(router: Any, method: Method) -> None:
    call: Callable[..., Any] = getattr(router, method.name)
    result = call(model="group", **method.arguments)
    if asyncio.iscoroutine(result):
        asyncio.run(_read(result))


async def _read(coroutine: Any) -> None:
    result = await coroutine
    if hasattr(result, "__anext__"):
        async for _ in result:
            pass


def check(method: Method, recording: Recording) -> None:
    chain, attempt = recording.events()
    assert (chain["event_type"], chain["event_name"]) == ("chain", f"litellm.Router.{method.name}")
    assert (attempt["event_type"], attempt["event_name"]) == ("model", f"litellm.{method.leaf}")
    assert attempt["parent_id"] == chain["event_id"]
    assert attempt["error"] is chain["error"] is None
    assert attempt["metadata"]["attempt"] == chain["metadata"]["attempts"] == 1
    if method.name != "aspeech" or LITELLM_VERSION >= (1, 91):
        # Before, the Router's aspeech does not say which deployment it took (litellm_map.md 3.1).
        assert attempt["metadata"]["deployment_id"] == "deployment-0"
    assert chain["config"]["model"] == "group"
    assert chain["inputs"] == attempt["inputs"] != {}
    assert chain["outputs"] == attempt["outputs"] != {}
    assert chain["metadata"].get("stream_ending") == ("completed" if method.is_stream else None)
    assert "prompt_tokens" not in chain["metadata"]


METHOD_IDS = [method.name + (", stream" if method.arguments.get("stream") else "") for method in METHODS]


@pytest.mark.parametrize("method", METHODS, ids=METHOD_IDS)
def test_a_router_method_is_a_chain_with_its_attempt(
    method: Method, recording: Recording, fake_provider: FakeProvider
) -> None:
    ask(router_of(fake_provider, method.model, method.path), method)

    check(method, recording)


@pytest.mark.parametrize("method", METHODS, ids=METHOD_IDS)
def test_a_router_made_before_switching_on_is_recorded_alike(
    method: Method, fake_provider: FakeProvider, request: pytest.FixtureRequest
) -> None:
    router = router_of(fake_provider, method.model, method.path)

    recording: Recording = request.getfixturevalue("recording")
    ask(router, method)

    check(method, recording)


def test_a_method_that_the_router_lacks_is_still_lacking(recording: Recording) -> None:
    router = litellm.Router(model_list=[])

    assert not hasattr(litellm.Router, "aimage_edit_of_the_future")
    with pytest.raises(AttributeError):
        router.aimage_edit_of_the_future  # noqa: B018


def items_of(recording: Recording) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The chain of a batch, and the model events anywhere below it."""
    events = recording.events()
    (chain,) = [event for event in events if event["parent_id"] == event["session_id"]]
    return chain, [event for event in events if event["event_type"] == "model"]


def settings(provider: FakeProvider) -> dict[str, Any]:
    return {"api_base": provider.base, "api_key": KEY, "max_retries": 0}


def test_a_batch_is_a_chain_of_its_items(recording: Recording, fake_provider: FakeProvider) -> None:
    conversations = [[{"role": "user", "content": text}] for text in ("one", "two", "three")]

    litellm.batch_completion(model="openai/gpt-4o-mini", messages=conversations, **settings(fake_provider))

    chain, items = items_of(recording)
    assert (chain["event_type"], chain["event_name"]) == ("chain", "litellm.batch_completion")
    assert chain["inputs"]["chat_histories"] == conversations
    assert [result["content"] for result in chain["outputs"]["results"]] == [TEXT] * 3
    assert {item["parent_id"] for item in items} == {chain["event_id"]}
    assert sorted(item["inputs"]["chat_history"][0]["content"] for item in items) == ["one", "three", "two"]
    assert sorted(item["metadata"]["item"] for item in items) == [1, 2, 3]
    assert chain["metadata"]["items"] == 3
    assert "prompt_tokens" not in chain["metadata"]


@pytest.mark.parametrize("name", ["batch_completion_models", "batch_completion_models_all_responses"])
def test_one_question_to_several_models_is_a_chain_of_their_answers(
    name: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    models = ["openai/gpt-4o-mini", "openai/gpt-4o"]

    getattr(litellm, name)(models=models, messages=MESSAGES, **settings(fake_provider))

    chain, items = items_of(recording)
    assert chain["event_name"] == f"litellm.{name}"
    assert chain["config"]["models"] == models
    assert {item["config"]["model"] for item in items} == set(models)
    assert {item["parent_id"] for item in items} == {chain["event_id"]}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("abatch_completion", {"models": ["group"], "messages": [MESSAGES, MESSAGES]}),
        ("abatch_completion_one_model_multiple_requests", {"model": "group", "messages": [MESSAGES, MESSAGES]}),
    ],
)
def test_a_routers_batch_is_a_chain_of_router_calls(
    name: str, given: dict[str, Any], recording: Recording, fake_provider: FakeProvider
) -> None:
    router = router_of(fake_provider, "openai/gpt-4o-mini")

    asyncio.run(getattr(router, name)(**given))

    batch, models = items_of(recording)
    calls = [event for event in recording.events() if event["parent_id"] == batch["event_id"]]
    assert (batch["event_type"], batch["event_name"]) == ("chain", f"litellm.Router.{name}")
    assert [call["event_name"] for call in calls] == ["litellm.Router.acompletion"] * 2
    assert {model["parent_id"] for model in models} == {call["event_id"] for call in calls}
    assert len(models) == 2


def test_the_fastest_answer_of_a_router_leaves_the_others_cancelled(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    import threading

    from tests.fakes.provider import Behaviour

    slow = threading.Event()
    fake_provider.always("slow", Behaviour(hold=slow))
    deployments = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", **settings(fake_provider)}}
        for name in ("slow", "fast")
    ]
    router = litellm.Router(model_list=deployments, num_retries=0)

    asyncio.run(router.abatch_completion_fastest_response(model="slow, fast", messages=MESSAGES))
    slow.set()

    batch, models = items_of(recording)
    assert batch["event_name"] == "litellm.Router.abatch_completion_fastest_response"
    assert batch["outputs"]["content"] == TEXT
    assert models != []
