"""docs/privacy.md says what is sent: it is as the generator makes it, its tables agree with the code, and calls of many
kinds lead to no field that it does not list."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import litellm
import pytest
from opentelemetry import baggage, context

import honeyhive_autoinstrument
from honeyhive_autoinstrument.events import fields
from honeyhive_autoinstrument.events.build import (
    OWN_NAMES,
    SETTING_NAMES,
    TEXTS_IN_CONFIG,
    TEXTS_IN_METADATA,
)
from honeyhive_autoinstrument.events.content import KEPT_TEXTS, KEPT_WORDS, WORDS_IN_CONFIG
from honeyhive_autoinstrument.events.fields import BUCKETS, names_in, names_of_content
from honeyhive_autoinstrument.events.parameters import PROXY_NAMES, SETTINGS
from honeyhive_autoinstrument.events.request import USER
from honeyhive_autoinstrument.events.schema import Event, SessionRow
from honeyhive_autoinstrument.patches.library import ROUTER_SETTINGS
from honeyhive_autoinstrument.patterns import SETS
from tests import privacy_page
from tests.capture.calls import LITELLM_VERSION, MESSAGES
from tests.conftest import Recording
from tests.corpora.credentials import CREDENTIALS, KINDS
from tests.corpora.ordinary import ORDINARY
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import KEY, Behaviour, FakeProvider
from tests.providers.case import CALLS, IS_NEWEST, TOOLS
from tests.proxy.server import failing, running
from tests.test_credential_corpus import REDACTOR

# -- the page and the code ---------------------------------------------------------------------------------------------


def test_the_page_is_what_the_generator_prints() -> None:
    assert privacy_page.PAGE.read_text(encoding="utf-8") == privacy_page.page()


def test_root_fields_are_those_of_an_event_and_of_a_session() -> None:
    assert [row.name for row in fields.EVENT] == [each.name for each in dataclasses.fields(Event)]
    assert [row.name for row in fields.SESSION_ROW] == [each.name for each in dataclasses.fields(SessionRow)]


def test_metadata_lists_our_own_names_those_of_the_proxy_and_of_experiments() -> None:
    experiment = {"run_id", "dataset_id", "datapoint_id"}

    assert names_in(fields.METADATA) == OWN_NAMES | PROXY_NAMES | experiment


def test_config_lists_every_setting_under_the_name_that_it_has_in_an_event() -> None:
    settings = {SETTING_NAMES.get(name, name) for name in SETTINGS}

    others = {"model", "provider", "tools", "functions", "default_fallbacks"}
    assert names_in(fields.CONFIG) == settings | set(ROUTER_SETTINGS) | others


def test_what_is_withheld_of_config_and_of_our_metadata_is_marked() -> None:
    ours = names_of_content(fields.METADATA) & OWN_NAMES

    assert names_of_content(fields.CONFIG) == TEXTS_IN_CONFIG
    assert ours == {*TEXTS_IN_METADATA, "user_metadata"}


def test_user_properties_list_what_is_taken_from_the_proxy() -> None:
    assert set(USER) == names_in(fields.USER_PROPERTIES)


def test_every_bucket_of_an_event_has_a_table() -> None:
    buckets = {each.name for each in dataclasses.fields(Event) if str(each.type).startswith("dict")}

    assert set(BUCKETS) == buckets


def test_the_figures_on_recognising_credentials_are_those_of_the_corpora() -> None:
    changed = sum(REDACTOR.text(text) != text for text in ORDINARY)

    figures = (privacy_page.FOUND, privacy_page.KINDS, privacy_page.CHANGED, privacy_page.ORDINARY)
    assert figures == (len(CREDENTIALS), len(KINDS), changed, len(ORDINARY))


def test_every_set_of_redact_is_described() -> None:
    assert privacy_page.TEXTS_OF_SETS.keys() == SETS.keys()


def test_every_row_says_something_in_a_sentence() -> None:
    rows = [*fields.EVENT, *fields.SESSION_ROW, *(row for table in BUCKETS.values() for row in table)]

    assert [row.name for row in rows if not row.says.endswith((".", ".)")) or "|" in row.says] == []


# -- the inventory, by running -----------------------------------------------------------------------------------------

WORD = "heliotrope"
"""In every text that the application gives in these calls."""

OWN_METADATA = {"feature": WORD, "tier": 2, "cost": WORD}
"""The last one is named like one of ours."""

Make = Callable[[FakeProvider], Any]


@dataclass(frozen=True)
class Made:
    """A call, and a field that its event has where it went as it should (`bucket.field`)."""

    id: str
    make: Make
    shows: str
    since: tuple[int, int] = (1, 55)


def api(provider: FakeProvider) -> dict[str, Any]:
    return {"api_base": provider.base, "api_key": KEY, "max_retries": 0}


def asked(function: str, **arguments: Any) -> Make:
    """A call of a function of LiteLLM's; a stream is read to its end. `{url}` becomes FakeProvider's address."""

    def make(provider: FakeProvider) -> None:
        owner: Any = litellm
        for name in function.split("."):
            owner = getattr(owner, name)
        given = {**api(provider), "metadata": dict(OWN_METADATA), **arguments}
        given["api_base"] = given["api_base"].replace("{url}", provider.url)
        if "anthropic" in function or "google" in function:
            del given["max_retries"]
        asyncio.run(awaited(owner(**given))) if function.rpartition(".")[2].startswith("a") else read(owner(**given))

    return make


async def awaited(pending: Any) -> None:
    result = await pending
    if hasattr(result, "__anext__"):
        async for _ in result:
            pass


def read(result: Any) -> None:
    if hasattr(result, "__next__"):
        for _ in result:
            pass


def chat(**arguments: Any) -> Make:
    return asked("completion", **{"model": "openai/gpt-4o-mini", "messages": SAID, **arguments})


def behaving(make: Make, model: str, how: Behaviour) -> Make:
    def made(provider: FakeProvider) -> None:
        provider.always(model, how)
        make(provider)

    return made


def routed(provider: FakeProvider) -> None:
    provider.always("down", Behaviour(status=500, message=WORD))
    models = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", **api(provider)}}
        for name in ("down", "gpt-4o-mini")
    ]
    router = litellm.Router(
        model_list=models, fallbacks=[{"down": ["gpt-4o-mini"]}], num_retries=1, retry_after=0, cooldown_time=1
    )
    router.completion("down", SAID, metadata=dict(OWN_METADATA))


def inside_a_session(provider: FakeProvider) -> None:
    around = context.get_current()
    for name in ("run_id", "dataset_id", "datapoint_id"):
        around = baggage.set_baggage(name, f"experiment-{name}", around)
    token = context.attach(around)
    try:
        with honeyhive_autoinstrument.session("order 7", user="u1", user_properties={"plan": "gold"}):
            litellm.completion("openai/gpt-4o-mini", SAID, **api(provider))
    finally:
        context.detach(token)


def closed_early(provider: FakeProvider) -> None:
    stream = litellm.completion("openai/gpt-4o-mini", SAID, stream=True, **api(provider))
    next(iter(stream))
    stream.close() if hasattr(stream, "close") else None


SAID = [
    {"role": "system", "content": f"Be {WORD}."},
    {"role": "user", "content": [{"type": "text", "text": WORD}], "name": WORD},
]
WITH_TOOLS = {"tools": TOOLS, "tool_choice": "auto", "stop": [WORD], "user": "u1", "max_completion_tokens": 5}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"}}
RECORDING = ("hello.wav", b"RIFF a question", "audio/wav")
PNG = b"\x89PNG\r\n\x1a\n a cat"
GEMINI = "{url}/v1beta/models/gemini-2.5-flash"
CONTENTS = [{"role": "user", "parts": [{"text": WORD}]}]

MADE = (
    Made("chat with tools", behaving(chat(**WITH_TOOLS), "gpt-4o-mini", Behaviour(tool_calls=CALLS)), "config.tools"),
    Made("chat with a picture", chat(messages=[{"role": "user", "content": [PICTURE]}]), "metadata.raw_request"),
    Made("chat with thoughts", chat(model="openai/thinks"), "outputs.content"),
    Made("stream", chat(stream=True, stream_options={"include_usage": True}), "metadata.stream_chunks"),
    Made(
        "async stream", asked("acompletion", model="openai/gpt-4o-mini", messages=SAID, stream=True), "outputs.content"
    ),
    Made("stream that was closed", closed_early, "metadata.stream_ending"),
    Made("mock", chat(mock_response=WORD), "outputs.content"),
    Made("failure", behaving(chat(), "gpt-4o-mini", Behaviour(status=429, message=WORD)), "metadata.error_type"),
    Made("several answers", chat(model="openai/gpt-4o-mini", mock_response=WORD, n=2), "outputs.choices"),
    Made("repeated", chat(mock_response=WORD, num_retries=1), "metadata.attempts"),
    Made(
        "text completion",
        asked("text_completion", model="text-completion-openai/gpt-3.5-turbo-instruct", prompt=WORD),
        "outputs.text",
    ),
    Made("responses", asked("responses", model="openai/gpt-4o-mini", input=WORD, instructions=WORD), "outputs.content"),
    Made("responses stream", asked("aresponses", model="openai/gpt-4o-mini", input=WORD, stream=True), "outputs.role"),
    Made(
        "Anthropic messages",
        asked(
            "anthropic.messages.acreate",
            model="anthropic/claude-sonnet-4-5",
            messages=[{"role": "user", "content": WORD}],
            max_tokens=20,
            api_base="{url}",
        ),
        "outputs.content",
        (1, 74),
    ),
    Made(
        "generate_content",
        asked(
            "google_genai.generate_content",
            model="gemini/gemini-2.5-flash",
            contents=CONTENTS,
            config={"stopSequences": [WORD]},
            api_base=GEMINI,
        ),
        "config.generation_config",
        (1, 82),
    ),
    Made(
        "embedding",
        asked("embedding", model="openai/text-embedding-3-small", input=[WORD, [1, 2]]),
        "outputs.num_embeddings",
    ),
    Made(
        "rerank",
        asked("rerank", model="cohere/rerank-v3.5", query=WORD, documents=[WORD, "green"], api_base="{url}/v2/rerank"),
        "outputs.nodes",
    ),
    Made("moderation", asked("moderation", model="omni-moderation-latest", input=WORD), "outputs.results"),
    Made("image", asked("image_generation", model="openai/dall-e-3", prompt=WORD), "outputs.images"),
    Made(
        "image edit", asked("image_edit", model="gpt-image-1", image=PNG, mask=PNG, prompt=WORD), "inputs.mask", (1, 74)
    ),
    Made(
        "transcription",
        asked("transcription", model="openai/whisper-1", file=RECORDING, prompt=WORD, language="en"),
        "outputs.segments",
    ),
    Made("speech", asked("speech", model="openai/tts-1", input=WORD, voice="alloy"), "outputs.audio"),
    Made(
        "OCR",
        asked("ocr", model="mistral/mistral-ocr-latest", document={"type": "document_url", "document_url": WORD}),
        "outputs.pages",
        (1, 80),
    ),
    Made("search", asked("search", query=WORD, search_provider="tavily", api_base="{url}"), "outputs.nodes", (1, 80)),
    Made("video", asked("video_generation", model="openai/sora-2", prompt=WORD), "outputs.status", (1, 82)),
    Made(
        "batch", asked("batch_completion", model="openai/gpt-4o-mini", messages=[SAID, SAID]), "inputs.chat_histories"
    ),
    Made("Router with a fallback", routed, "metadata.fallback_path"),
    Made("session of an experiment", inside_a_session, "metadata.datapoint_id"),
)
IDS = [made.id for made in MADE]


@pytest.fixture
def all_on(recording: Recording) -> Iterator[Recording]:
    """Everything is recorded that can be."""
    honeyhive_autoinstrument.init(capture_raw=True, capture_headers=True)
    yield recording
    honeyhive_autoinstrument.init(capture_content=True, capture_raw=False, capture_headers=False)


def events_of(made: Made, recording: Recording, provider: FakeProvider) -> list[dict[str, Any]]:
    """What the call leads to, whether it fails or not; on the newest LiteLLM its event shows what it should."""
    if made.since > LITELLM_VERSION:
        pytest.skip("this LiteLLM cannot do it yet")
    with contextlib.suppress(Exception):
        made.make(provider)
    events = recording.events()
    assert events
    bucket, _, name = made.shows.partition(".")
    assert not IS_NEWEST or any(name in event[bucket] for event in events), events
    return events


def unlisted(event: Mapping[str, Any], own: Mapping[str, Any] = OWN_METADATA) -> list[str]:
    """Fields of an event that no table lists, but for the caller's own, and the lengths of texts that are withheld."""
    found = [name for name in event if name not in names_in(fields.EVENT)]
    for bucket, rows in BUCKETS.items():
        lengths = {f"{name}_length" for name in names_of_content(rows) | own.keys()}
        listed = names_in(rows) | lengths | (own.keys() if bucket == "metadata" else {"plan"})
        found += [f"{bucket}.{name}" for name in event[bucket] if name not in listed]
    return found


def texts_in(value: Any, path: str) -> Iterator[str]:
    """Where texts are that are no structure of the API's."""
    if isinstance(value, dict):
        for key, item in value.items():
            is_word = key in WORDS_IN_CONFIG and isinstance(item, str) and item in KEPT_WORDS
            if not is_word and not (key in KEPT_TEXTS and isinstance(item, str)):
                yield from texts_in(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item, path)
    elif isinstance(value, str) and value:
        yield f"{path}: {value}"


def left_of_contents(event: Mapping[str, Any]) -> list[str]:
    """Texts of an event in fields that are marked as withheld."""
    found: list[str] = []
    for bucket, rows in BUCKETS.items():
        names = names_of_content(rows) | (OWN_METADATA.keys() - {"cost"} if bucket == "metadata" else set())
        marked = {name: value for name, value in event[bucket].items() if name in names}
        found += texts_in(marked, bucket)
    return found


@pytest.mark.parametrize("made", MADE, ids=IDS)
def test_an_event_has_no_field_that_is_not_listed(made: Made, all_on: Recording, fake_provider: FakeProvider) -> None:
    events = events_of(made, all_on, fake_provider)

    assert [name for event in events for name in unlisted(event)] == []


@pytest.mark.parametrize("made", MADE, ids=IDS)
def test_without_contents_what_is_marked_as_withheld_has_no_text(
    made: Made, all_on: Recording, fake_provider: FakeProvider
) -> None:
    honeyhive_autoinstrument.init(capture_content=False)
    shown = made if made.shows != "metadata.raw_request" else dataclasses.replace(made, shows="inputs.chat_history")

    events = events_of(shown, all_on, fake_provider)

    assert [text for event in events for text in left_of_contents(event)] == []
    assert [name for event in events for name in unlisted(event)] == []
    assert [event["error"] for event in events if event["error"] != event["metadata"].get("error_type")] == []
    assert WORD not in json.dumps(events)


def test_a_sessions_row_and_a_change_have_no_field_that_is_not_listed(
    all_on: Recording, fake_provider: FakeProvider
) -> None:
    with honeyhive_autoinstrument.session("order 7", "Orders", user="u1", metadata={"shop": "north"}):
        litellm.completion("openai/gpt-4o-mini", MESSAGES, **api(fake_provider))
        all_on.events()
        honeyhive_autoinstrument.enrich(metrics={"score": 1}, feedback={"rating": 5}, metadata={"note": "fine"})
    all_on.events()

    (row,) = all_on.server.rows
    ((_, change),) = all_on.server.updates
    assert row.keys() <= names_in(fields.SESSION_ROW)
    assert row["metadata"] == {"shop": "north", "original_session_id": "order 7"}
    assert change.keys() == {"metrics", "feedback", "metadata"}


@pytest.mark.slow
def test_a_request_to_the_proxy_has_no_field_that_is_not_listed(tmp_path: Path, fake_provider: FakeProvider) -> None:
    failing(fake_provider)
    with FakeHoneyHive() as server:
        with running(
            fake_provider, server, tmp_path, HONEYHIVE_CAPTURE_RAW="1", HONEYHIVE_CAPTURE_HEADERS="1"
        ) as proxy:
            for model in ("chat", "shaky", "doomed"):
                body = {"model": model, "messages": MESSAGES, "metadata": OWN_METADATA, "user": "u1"}
                proxy.post("/v1/chat/completions", body)
        events = server.events

    assert any("caller_ip" in event["metadata"] for event in events)
    assert [name for event in events for name in unlisted(event)] == []
