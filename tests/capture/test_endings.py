"""Streams of all kinds x endings: one event each, with the text so far and the right ending."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
from dataclasses import dataclass
from typing import Any

import litellm
import pytest

from tests.capture.calls import LITELLM_VERSION
from tests.conftest import Recording, Run, app
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import KEY, TEXT, Behaviour, FakeProvider

MESSAGES = [{"role": "user", "content": "Say hello."}]


@dataclass(frozen=True)
class Kind:
    """A way to get a stream."""

    id: str
    call: str
    """Below `litellm`, or a method of a Router with one deployment."""
    model: str
    given: dict[str, Any]
    since: tuple[int, int] = (1, 55)
    path: str = "/v1"

    @property
    def is_async(self) -> bool:
        return self.call.rpartition(".")[2] not in ("completion", "text_completion", "responses")

    @property
    def is_of_bytes(self) -> bool:
        """Whether the network decides what a chunk is."""
        return self.call == "anthropic_messages"

    @property
    def read_first(self) -> int:
        """Chunks that are read of a stream which is left half-read."""
        return 1 if self.is_of_bytes else 3

    @property
    def provider_model(self) -> str:
        return self.model.rpartition("/")[2]

    @property
    def event_name(self) -> str:
        return f"litellm.{self.call}"

    def open(self, provider: FakeProvider) -> Any:
        deployment = {"api_base": provider.url + self.path, "api_key": KEY, "max_retries": 0}
        owner, _, method = self.call.rpartition(".")
        if owner == "Router":
            router = litellm.Router(
                model_list=[{"model_name": "group", "litellm_params": {"model": self.model, **deployment}}],
                num_retries=0,
            )
            return getattr(router, method)(model="group", stream=True, **self.given)
        return getattr(litellm, method)(model=self.model, stream=True, **deployment, **self.given)


CHAT, ASK = {"messages": MESSAGES}, {"input": "Say hello."}
KINDS = tuple(
    kind
    for kind in (
        Kind("chat", "completion", "openai/gpt-4o-mini", CHAT),
        Kind("chat, async", "acompletion", "openai/gpt-4o-mini", CHAT),
        Kind("text", "text_completion", "text-completion-openai/gpt-3.5-turbo-instruct", {"prompt": "Say hello."}),
        Kind("text, async", "atext_completion", "text-completion-openai/gpt-3.5-turbo-instruct", {"prompt": "Say hello."}),
        Kind("responses", "responses", "openai/gpt-4o", ASK, (1, 74)),
        Kind("responses, async", "aresponses", "openai/gpt-4o", ASK, (1, 74)),
        Kind("anthropic chat", "completion", "anthropic/claude-sonnet-4-5", {**CHAT, "max_tokens": 50}, (1, 74), ""),
        Kind("messages", "anthropic_messages", "anthropic/claude-sonnet-4-5", {**CHAT, "max_tokens": 50}, (1, 106), ""),
        Kind("router", "Router.completion", "openai/gpt-4o-mini", CHAT),
        Kind("router, async", "Router.acompletion", "openai/gpt-4o-mini", CHAT),
        Kind("router, responses", "Router.aresponses", "openai/gpt-4o", ASK, (1, 82)),
    )
    if kind.since <= LITELLM_VERSION
)  # fmt: skip
ENDINGS = ("completed", "closed", "cancelled", "failed at request", "failed between chunks", "half-read", "unread")


def table() -> list[Any]:
    rows = []
    for kind in KINDS:
        for ending in ENDINGS:
            if ending == "cancelled" and not kind.is_async:
                continue  # only a task can be cancelled
            if (kind.id, ending) == ("router", "failed between chunks") and (1, 82) <= LITELLM_VERSION < (1, 106):
                continue  # these releases ask again and again, for ever (litellm_map.md 3.5)
            rows.append(pytest.param(kind, ending, id=f"{kind.id}-{ending}"))
    return rows


@pytest.mark.parametrize(("kind", "ending"), table())
def test_a_stream_ends_once_and_says_how(
    kind: Kind, ending: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    hold = threading.Event()
    if ending == "failed at request":
        fake_provider.always(kind.provider_model, Behaviour(status=400, message="no"))
    elif ending == "failed between chunks":
        fake_provider.always(kind.provider_model, Behaviour(cut_after=3))
    elif ending == "cancelled" or (kind.is_of_bytes and ending in ("closed", "half-read")):
        fake_provider.always(kind.provider_model, Behaviour(hold=hold))

    seen = asyncio.run(read_async(kind, ending, fake_provider)) if kind.is_async else read(kind, ending, fake_provider)
    hold.set()
    gc.collect()

    (event,) = [event for event in recording.events() if event["event_name"] == kind.event_name]
    assert_ended(event, ending, seen)


def read(kind: Kind, ending: str, provider: FakeProvider) -> list[Any]:
    seen: list[Any] = []
    with contextlib.suppress(Exception):
        stream = kind.open(provider)
        if ending == "unread":
            return seen
        for chunk in stream:
            seen.append(chunk)
            if ending in ("half-read", "closed") and len(seen) == kind.read_first:
                break
        if ending == "closed":
            getattr(stream, "close", lambda: None)()
    return seen


async def read_async(kind: Kind, ending: str, provider: FakeProvider) -> list[Any]:
    seen: list[Any] = []

    async def consume() -> None:
        stream = await kind.open(provider)
        if ending == "unread":
            return
        async for chunk in stream:
            seen.append(chunk)
            if ending in ("half-read", "closed") and len(seen) == kind.read_first:
                break
        if ending == "closed":
            await getattr(stream, "aclose", nothing)()

    task = asyncio.create_task(consume())
    if ending == "cancelled":
        while not provider.requests:
            await asyncio.sleep(0.01)
        task.cancel()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await task
    await asyncio.get_running_loop().shutdown_default_executor()
    return seen


async def nothing() -> None:
    return None


def assert_ended(event: dict[str, Any], ending: str, seen: list[Any]) -> None:
    metadata, outputs = event["metadata"], event["outputs"]
    text = outputs.get("content") or outputs.get("text") or ""
    assert TEXT.startswith(text) or text.startswith(TEXT)
    if "stream_chunks" in metadata:
        assert metadata["stream_chunks"] == len(seen)
    if ending == "completed":
        assert (metadata["stream_ending"], text) == ("completed", TEXT)
        assert event["error"] is None
    elif ending == "closed":
        # Without a method to close it, a stream is dropped.
        assert metadata["stream_ending"] in ("closed", "abandoned")
        assert event["error"] is None
        assert text != TEXT
    elif ending == "cancelled":
        assert metadata["ending"] == "cancelled"
        assert event["error"] is None
    elif ending == "failed at request":
        assert metadata["ending"] == "failed"
        assert metadata["status_code"] == 400
        assert event["error"] != ""
    elif ending == "failed between chunks":
        assert_broken(event, text)
    else:
        assert (metadata["stream_ending"], event["error"]) == ("abandoned", None)
        assert text != TEXT


def assert_broken(event: dict[str, Any], text: str) -> None:
    if event["metadata"]["stream_ending"] == "completed":
        # As LiteLLM tells it: the Responses API's cut streams end quietly, and up to 1.90 so do async ones of chats.
        assert text != TEXT
    else:
        assert event["metadata"]["stream_ending"] == "failed"
        assert event["error"]


@pytest.mark.parametrize(
    "kind", ["completion", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("acompletion", "responses"))]
)
def test_a_stream_that_the_end_of_the_process_cuts_off_is_abandoned_with_its_text(
    kind: str, run: Run, fake_honeyhive: FakeHoneyHive, fake_provider: FakeProvider
) -> None:
    if kind == "responses" and LITELLM_VERSION < (1, 74):
        pytest.skip("LiteLLM has no Responses streams yet")
    hold = threading.Event()
    fake_provider.always("gpt-4o-mini", Behaviour(hold=hold))
    # Without us first: CPython 3.13 crashes on such an end by itself (seen with LiteLLM 1.110.2 and openai 2.54).
    bare = run(sys.executable, app("exits_in_stream.py"), kind, env={"PROVIDER": fake_provider.base})

    finished = run(
        "honeyhive-instrument", sys.executable, app("exits_in_stream.py"), kind,
        env={**fake_honeyhive.env, "PROVIDER": fake_provider.base},
    )  # fmt: skip
    hold.set()

    assert (finished.status, finished.out) == (bare.status, bare.out)
    assert finished.out == "read 1\n"
    (event,) = fake_honeyhive.events
    assert event["event_name"] == f"litellm.{kind}"
    assert event["metadata"]["stream_ending"] == "abandoned"
    assert event["metadata"]["stream_chunks"] == 1
