"""With contents off, by the setting or for a call, no piece of anybody's words leaves: in no request, file, log or output.

Each place where words can stand gets random ones of its own; afterwards every window of eight characters of each is looked
for in everything that left.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import litellm
import pytest

import honeyhive_autoinstrument
from tests.conftest import BIN, Recording, Run
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import KEY, Behaviour, FakeProvider
from tests.fakes.server import Reply, Request
from tests.proxy.server import VIRTUAL_KEY, Proxy, failing, running

LOGGER = "honeyhive_autoinstrument"
LENGTH = 24
WINDOW = 8
LAUNCHER = BIN / "honeyhive-instrument"
EVENTS = BIN / "honeyhive-events"

Off = dict[str, Any]


class Texts(dict[str, str]):
    """Random texts, made as they are asked for, by what they stand for."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def __missing__(self, name: str) -> str:
        self[name] = "".join(self._random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=LENGTH))
        return self[name]

    def found_in(self, data: bytes) -> list[str]:
        """Names of the texts of which a piece is in there."""
        return [
            name
            for name, text in self.items()
            if any(text[at : at + WINDOW].encode() in data for at in range(LENGTH - WINDOW + 1))
        ]


class TellingProvider(FakeProvider):
    """Answers with random words where FakeProvider's wires say always the same ones: texts, thoughts, finds."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = Texts(1)

    def answer(self, request: Request) -> Reply:
        reply = super().answer(request)
        if reply.content_type == "application/octet-stream" or request.path.endswith("/speech"):
            return reply
        chunks = None if reply.chunks is None else [self._told(chunk) for chunk in reply.chunks]
        return replace(reply, body=self._told(reply.body), chunks=chunks)

    def _told(self, data: bytes) -> bytes:
        for word, name in (
            (b"Hello", "answer"),
            (b"world", "end of the answer"),
            (b"greeting", "thought"),
            (b"blue", "find"),
        ):
            data = data.replace(word, self.texts[name].encode())
        return data


@pytest.fixture
def provider() -> Iterator[TellingProvider]:
    with TellingProvider() as server:
        yield server


@pytest.fixture
def all_on(recording: Recording, caplog: pytest.LogCaptureFixture) -> Iterator[Recording]:
    """Everything else that could tell of contents is on: raw requests, headers, the debug log."""
    caplog.set_level(logging.DEBUG, logger=LOGGER)
    honeyhive_autoinstrument.init(capture_raw=True, capture_headers=True)
    yield recording
    honeyhive_autoinstrument.init(capture_content=True, capture_raw=False, capture_headers=False)


# -- calls, with words in every place ----------------------------------------------------------------------------------


def chat(texts: Texts) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "description": texts["schema"],
        "properties": {"city": {"type": "string", "enum": [texts["choice"]], "default": texts["default"]}},
    }
    tool_call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": json.dumps({"city": texts["tool argument"]})},
    }
    return {
        "model": "openai/gpt-4o-mini",
        "messages": [
            {"role": "system", "content": texts["system prompt"]},
            {"role": "user", "content": [{"type": "text", "text": texts["prompt"]}], "name": texts["name"]},
            {"role": "assistant", "content": texts["earlier answer"], "tool_calls": [tool_call]},
            {"role": "tool", "tool_call_id": "call_1", "content": texts["tool result"]},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": texts["tool"], "parameters": parameters},
            }
        ],
        "stop": [texts["stop"]],
        "metadata": {
            "note": texts["metadata"],
            "deep": {"list": [texts["metadata in a list"]], texts["key"] + " is a key": 1},
            "tags": [texts["tag"]],
        },
    }


def prepare_answers(texts: Texts, provider: TellingProvider) -> None:
    """What the models of these calls answer."""
    provider.texts = texts
    call = {
        "id": "call_2",
        "type": "function",
        "function": {"name": "weather", "arguments": json.dumps({"city": texts["answered argument"]})},
    }
    provider.always("tools", Behaviour(tool_calls=[call]))
    provider.always("thinks", Behaviour(special="vllm"))
    provider.always("refuses", Behaviour(special="refusal"))
    provider.always("cites", Behaviour(special="annotations"))
    provider.always("counts", Behaviour(special="logprobs"))
    provider.always("echo", Behaviour(status=400, message=f"bad prompt: {texts['error']}"))
    provider.always("down", Behaviour(status=500, message=f"broken: {texts['error']}"))
    provider.always("breaks", Behaviour(cut_after=3))


def file_of(texts: Texts) -> tuple[str, BytesIO]:
    return "speech.wav", BytesIO(b"RIFF" + texts["sound"].encode())


CHATS: dict[str, Off] = {
    "plain": {},
    "stream": {"stream": True},
    "tools": {"model": "openai/tools"},
    "tools in a stream": {"model": "openai/tools", "stream": True},
    "thoughts": {"model": "openai/thinks"},
    "thoughts in a stream": {"model": "openai/thinks", "stream": True},
    "a refusal": {"model": "openai/refuses"},
    "citations": {"model": "openai/cites"},
    "probabilities": {"model": "openai/counts", "logprobs": True},
    "an error": {"model": "openai/echo"},
    "a stream that breaks": {"model": "openai/breaks", "stream": True},
    "a fallback": {"model": "openai/down", "fallbacks": ["openai/gpt-4o-mini"]},
    "mocked": {"mock_response": "mocked"},
}
OTHERS: dict[str, Callable[[Texts], dict[str, Any]]] = {
    "text_completion": lambda texts: {
        "model": "text-completion-openai/gpt-3.5-turbo-instruct", "prompt": texts["prompt"], "suffix": texts["suffix"],
    },
    "embedding": lambda texts: {
        "model": "openai/text-embedding-3-small", "input": [texts["embedded"], texts["also embedded"]],
    },
    "image_generation": lambda texts: {"model": "openai/dall-e-3", "prompt": texts["prompt"]},
    "moderation": lambda texts: {"model": "openai/omni-moderation-latest", "input": texts["prompt"]},
    "speech": lambda texts: {"model": "openai/tts-1", "input": texts["spoken"], "voice": "alloy"},
    "transcription": lambda texts: {"model": "openai/whisper-1", "file": file_of(texts), "prompt": texts["prompt"]},
    "rerank": lambda texts: {
        "model": "cohere/rerank-v3.5", "query": texts["query"], "documents": [texts["document"], {"text": texts["other"]}],
        "return_documents": True,
    },
    "responses": lambda texts: {
        "model": "openai/gpt-4o", "input": [{"role": "user", "content": texts["prompt"]}],
        "instructions": texts["system prompt"],
    },
    "anthropic_messages": lambda texts: {
        "model": "anthropic/claude-sonnet-4-5", "messages": [{"role": "user", "content": texts["prompt"]}],
        "system": texts["system prompt"], "max_tokens": 100, "metadata": {},
    },
    "search": lambda texts: {"query": texts["query"], "search_provider": "tavily"},
}  # fmt: skip
BASES = {"anthropic_messages": "", "rerank": "", "search": ""}
"""Paths of those APIs that LiteLLM adds to by itself; else `/v1`."""


def with_switch(arguments: dict[str, Any], off: Off) -> dict[str, Any]:
    """The arguments of a call with those that switch contents off, their metadata side by side."""
    metadata = {**(arguments.get("metadata") or {}), **off.get("metadata", {})}
    return {**arguments, **off, **({"metadata": metadata} if metadata else {})}


def run_call(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """To the end of its stream, if it has one. What fails is meant to, or cannot be done by this LiteLLM."""

    async def read(coroutine: Any) -> None:
        result = await coroutine
        if hasattr(type(result), "__aiter__"):
            async for _ in result:
                pass

    with contextlib.suppress(Exception):
        result = function(**arguments)
        if asyncio.iscoroutine(result):
            asyncio.run(read(result))
        elif hasattr(type(result), "__next__"):
            for _ in result:
                pass


def run_all(provider: TellingProvider, off: Off) -> Iterator[tuple[str, Texts]]:
    """Every call, one after the other; the name of each and its words."""
    seeds = itertools.count(100)
    api = {"api_base": provider.base, "api_key": KEY, "max_retries": 0}
    for (name, more), function in itertools.product(CHATS.items(), ("completion", "acompletion")):
        texts = Texts(next(seeds))
        prepare_answers(texts, provider)
        more = {**more, "mock_response": texts["mocked"]} if "mock_response" in more else more
        run_call(getattr(litellm, function), with_switch({**chat(texts), **api, **more}, off))
        yield f"{function}: {name}", texts
    for function, arguments in OTHERS.items():
        texts = Texts(next(seeds))
        prepare_answers(texts, provider)
        base = f"{provider.url}{BASES.get(function, '/v1')}"
        run_call(getattr(litellm, function), with_switch({**arguments(texts), **api, "api_base": base}, off))
        yield function, texts
    for function in ("completion", "acompletion"):
        texts = Texts(next(seeds))
        prepare_answers(texts, provider)
        run_call(getattr(router(provider), function), with_switch({**chat(texts), "model": "down"}, off))
        yield f"Router.{function}", texts


def router(provider: FakeProvider) -> litellm.Router:
    def deployment(group: str, model: str) -> dict[str, Any]:
        parameters = {"model": model, "api_base": provider.base, "api_key": KEY, "max_retries": 0}
        return {"model_name": group, "litellm_params": parameters}

    models = [deployment("down", "openai/down"), deployment("good", "openai/gpt-4o-mini")]
    return litellm.Router(model_list=models, fallbacks=[{"down": ["good"]}], num_retries=0)


def everything(recording: Recording, home: Path, caplog: pytest.LogCaptureFixture) -> bytes:
    """All that left this process."""
    honeyhive_autoinstrument.flush(20)
    bodies = b"".join(request.path.encode() + request.body for request in recording.server.requests)
    files = b"".join(str(path).encode() + path.read_bytes() for path in home.rglob("*") if path.is_file())
    said = "".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records if record.name == LOGGER)
    return bodies + files + said.encode()


# -- in this process ---------------------------------------------------------------------------------------------------

SWITCHES: dict[str, Off] = {
    "the setting": {},
    "honeyhive_capture_content": {"metadata": {"honeyhive_capture_content": False}},
    "no-log": {"no-log": True},
    "turn_off_message_logging": {"turn_off_message_logging": True},
    "litellm.turn_off_message_logging": {},
}


def switch_off(name: str, patch: pytest.MonkeyPatch) -> Off:
    """Switch contents off in this way; what each call has to be given for it."""
    if name == "the setting":
        honeyhive_autoinstrument.init(capture_content=False)
    if name == "litellm.turn_off_message_logging":
        patch.setattr(litellm, "turn_off_message_logging", True)
    return SWITCHES[name]


@pytest.mark.parametrize("switch", SWITCHES)
def test_with_contents_off_no_piece_of_anybodys_words_leaves(
    all_on: Recording,
    provider: TellingProvider,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    switch: str,
) -> None:
    off = switch_off(switch, monkeypatch)

    said = dict(run_all(provider, off))

    left = everything(all_on, tmp_path, caplog)
    assert {name: found for name, texts in said.items() if (found := texts.found_in(left))} == {}
    assert len(all_on.server.events) >= len(said)
    assert b"honeyhive_capture_content" not in left


CHAT_TEXTS = {
    "system prompt", "prompt", "earlier answer", "tool argument", "tool result", "tool", "schema", "stop", "metadata",
    "metadata in a list", "tag", "key",
}  # fmt: skip
EXPECTED: dict[str, set[str]] = {
    "completion: plain": {*CHAT_TEXTS, "answer", "end of the answer"},
    "acompletion: stream": {*CHAT_TEXTS, "answer", "end of the answer"},
    "completion: tools": {*CHAT_TEXTS, "answered argument"},
    "acompletion: thoughts in a stream": {*CHAT_TEXTS, "thought"},
    "completion: an error": {*CHAT_TEXTS, "error"},
    "completion: mocked": {"prompt", "mocked"},
    "completion: a fallback": {"prompt", "error", "answer"},
    "text_completion": {"prompt", "answer"},
    "embedding": {"embedded", "also embedded"},
    "image_generation": {"prompt"},
    "moderation": {"prompt"},
    "speech": {"spoken"},
    "transcription": {"prompt", "answer"},
    "rerank": {"query", "document", "other"},
    "responses": {"prompt", "system prompt", "answer"},
    "anthropic_messages": {"prompt", "system prompt", "answer"},
    "search": {"query", "find"},
    "Router.completion": {*CHAT_TEXTS, "answer"},
}


def test_with_contents_on_the_same_words_are_found(
    all_on: Recording, provider: TellingProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = dict(run_all(provider, {}))

    left = everything(all_on, tmp_path, caplog)
    missing = {name: texts - set(said[name].found_in(left)) for name, texts in EXPECTED.items()}
    assert {name: texts for name, texts in missing.items() if texts} == {}


def contents(recording: Recording) -> list[Any]:
    return [event["inputs"]["chat_history"][0]["content"] for event in recording.events()]


def ask(**arguments: Any) -> None:
    arguments = {"model": "gpt-4o", "mock_response": "y", **arguments}
    litellm.completion(messages=[{"role": "user", "content": "a question"}], **arguments)


def said_of(capture: bool) -> dict[str, Any]:
    return {"metadata": {"honeyhive_capture_content": capture}}


def test_a_call_may_have_contents_though_the_setting_has_not(recording: Recording) -> None:
    honeyhive_autoinstrument.init(capture_content=False)

    ask()
    ask(**said_of(True))

    assert contents(recording) == [None, "a question"]


def test_calls_below_inherit_what_was_said_of_the_call_around_them(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    fake_provider.always("down", Behaviour(status=500))
    honeyhive_autoinstrument.init(capture_content=False)
    question: Any = [{"role": "user", "content": "a question"}]

    router(fake_provider).completion("down", question)
    router(fake_provider).completion("down", question, metadata={"honeyhive_capture_content": True})

    found = contents(recording)
    assert found == [None] * 3 + ["a question"] * 3


@pytest.mark.parametrize(
    "protection",
    [{"no-log": True}, {"turn_off_message_logging": True}, "litellm"],
    ids=["no-log", "argument", "litellm"],
)
def test_what_is_said_in_so_many_words_wins_over_everything(
    recording: Recording, monkeypatch: pytest.MonkeyPatch, protection: Any
) -> None:
    if protection == "litellm":
        monkeypatch.setattr(litellm, "turn_off_message_logging", True)
        protection = {}

    ask(**protection)
    ask(**protection, **said_of(True))

    assert contents(recording) == [None, "a question"]


def test_the_most_protective_of_the_others_wins(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "turn_off_message_logging", True)
    ask(turn_off_message_logging=False)
    monkeypatch.setattr(litellm, "turn_off_message_logging", False)
    ask(**{"no-log": True, "turn_off_message_logging": False})
    honeyhive_autoinstrument.init(capture_content=False)
    ask(turn_off_message_logging=False)

    assert contents(recording) == [None, None, None]


@pytest.mark.parametrize("value", [None, "", "maybe", 2, [], {}], ids=repr)
def test_a_value_that_says_neither_changes_nothing_to_less_protection(recording: Recording, value: Any) -> None:
    honeyhive_autoinstrument.init(capture_content=False)

    ask(metadata={"honeyhive_capture_content": value})

    assert contents(recording) == [None]


@pytest.mark.parametrize("value", [False, "false", "False", 0, "0", "no", "off"], ids=repr)
def test_a_value_that_says_no_in_other_words_is_a_no(recording: Recording, value: Any) -> None:
    ask(metadata={"honeyhive_capture_content": value})

    assert contents(recording) == [None]


def test_the_key_is_no_metadata_of_the_event(recording: Recording) -> None:
    ask(**said_of(True))
    ask(**said_of(False))
    ask(litellm_metadata={"honeyhive_capture_content": False, "note": "x"})

    assert not any("honeyhive_capture_content" in json.dumps(event) for event in recording.events())
    assert contents(recording) == ["a question", None, None]


def test_hooks_are_given_no_contents_of_such_a_call(recording: Recording) -> None:
    given: list[Any] = []

    def mask(path: tuple[Any, ...], text: str) -> str:
        given.append(text)
        return text

    honeyhive_autoinstrument.init(mask=mask, enrich=given.append)

    ask(**said_of(False))
    recording.events()
    settings = honeyhive_autoinstrument.init().settings
    del settings["mask"], settings["enrich"]
    honeyhive_autoinstrument.init()

    assert given
    assert "a question" not in json.dumps(given)


# -- programs: what is on disk, printed, shown and exported ------------------------------------------------------------

PROGRAM = """
import json, sys
import litellm
litellm.suppress_debug_info = True
given = json.load(sys.stdin)
if given["is_global"]:
    litellm.turn_off_message_logging = True
api = {"api_base": given["base"], "api_key": given["key"], "max_retries": 0}
def ask(function, **more):
    try:
        result = function(**{**given["arguments"], **api, **more})
        if more.get("stream"):
            list(result)
    except Exception as error:
        print(type(error).__name__)
ask(litellm.completion)
ask(litellm.completion, stream=True)
ask(litellm.completion, model="openai/thinks", stream=True)
ask(litellm.completion, model="openai/tools")
ask(litellm.completion, model="openai/echo")
models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **api}} for name in ("down", "gpt-4o-mini")]
router = litellm.Router(model_list=models, fallbacks=[{"down": ["gpt-4o-mini"]}], num_retries=0)
ask(router.completion, model="down")
stream = litellm.completion(**given["arguments"], **api, stream=True)
next(iter(stream))  # left open
"""
PLACES = ["the local store", "the spool", "the journal", "a server"]


def run_program(
    run: Run,
    provider: TellingProvider,
    server: FakeHoneyHive,
    home: Path,
    texts: Texts,
    switch: str,
    place: str,
) -> bytes:
    """Everything that left the program, whether it was sent, kept, printed, shown or exported."""
    prepare_answers(texts, provider)
    env = {"HONEYHIVE_CAPTURE_RAW": "1", "HONEYHIVE_CAPTURE_HEADERS": "1", "HONEYHIVE_DEBUG": "1"}
    env["HONEYHIVE_EXIT_TIMEOUT"] = "2"
    if switch == "the setting":
        env["HONEYHIVE_CAPTURE_CONTENT"] = "false"
    if place == "the local store":
        env["HONEYHIVE_EXPORTERS"] = "local,console"
    else:
        env |= server.env
    if place == "the journal":
        env["HONEYHIVE_DURABILITY"] = "always"
    if place != "a server":
        server.stop()
    given = {
        "base": provider.base,
        "key": KEY,
        "arguments": with_switch(chat(texts), SWITCHES.get(switch, {})),
        "is_global": switch == "litellm.turn_off_message_logging",
    }

    program = run(LAUNCHER, "python", "-c", PROGRAM, env=env, stdin=json.dumps(given))

    assert program.status == 0, program.err
    shown, exported = run(EVENTS, "show"), run(EVENTS, "export")
    assert place == "a server" or exported.out.count("event_id") >= 10
    assert place != "a server" or len(server.events) >= 9
    outputs = [program.out, program.err, shown.out, shown.err, exported.out, exported.err]
    bodies = [request.body for request in server.requests]
    files = [str(path).encode() + path.read_bytes() for path in home.rglob("*") if path.is_file()]
    return b"".join([*bodies, *files, *(text.encode() for text in outputs)])


@pytest.mark.parametrize(
    "place", [pytest.param(each, marks=pytest.mark.slow if number else ()) for number, each in enumerate(PLACES)]
)
def test_with_contents_off_no_piece_of_anybodys_words_is_sent_kept_printed_or_shown(
    run: Run, provider: TellingProvider, fake_honeyhive: FakeHoneyHive, tmp_path: Path, place: str
) -> None:
    texts = Texts(7)

    left = run_program(run, provider, fake_honeyhive, tmp_path / "home", texts, "the setting", place)

    assert texts.found_in(left) == []


@pytest.mark.slow
@pytest.mark.parametrize("switch", list(SWITCHES)[1:])
@pytest.mark.parametrize("place", PLACES)
def test_the_same_for_each_way_to_switch_a_call_off(
    run: Run, provider: TellingProvider, fake_honeyhive: FakeHoneyHive, tmp_path: Path, place: str, switch: str
) -> None:
    texts = Texts(8)

    left = run_program(run, provider, fake_honeyhive, tmp_path / "home", texts, switch, place)

    assert texts.found_in(left) == []


def test_in_the_same_places_the_words_are_found_with_contents_on(
    run: Run, provider: TellingProvider, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    texts = Texts(9)

    left = run_program(run, provider, fake_honeyhive, tmp_path / "home", texts, "nothing", "the spool")

    assert {*CHAT_TEXTS, "answer", "end of the answer", "thought", "answered argument", "error"} <= set(
        texts.found_in(left)
    )


# -- the Proxy ---------------------------------------------------------------------------------------------------------

OF_REQUESTS: dict[str, tuple[Off, dict[str, str]]] = {
    "header": ({}, {"litellm-enable-message-redaction": "true"}),
    "header with x": ({}, {"x-litellm-enable-message-redaction": "true"}),
    "honeyhive_capture_content": ({"metadata": {"honeyhive_capture_content": False}}, {}),
    "no-log": ({"no-log": True}, {}),
}
"""The Proxy takes no `turn_off_message_logging` from clients."""


def ask_proxy(proxy: Proxy, texts: Texts, off: Off, headers: dict[str, str]) -> int:
    """A request of each kind; how many events they are at least."""
    arguments = with_switch({**chat(texts), "model": "chat"}, off)
    del arguments["metadata"]["tags"]  # there they say who asks, as the virtual key's do
    with proxy.http(VIRTUAL_KEY) as client:
        for more in ({}, {"stream": True}, {"model": "shaky"}, {"model": "doomed"}):
            client.post("/v1/chat/completions", json={**arguments, **more}, headers=headers)
    return 3 + 3 + 4 + 3


@pytest.mark.slow
def test_requests_to_the_proxy_can_switch_contents_off(tmp_path: Path, provider: TellingProvider) -> None:
    failing(provider)
    asked: dict[str, Texts] = {}
    with FakeHoneyHive() as server:
        with running(provider, server, tmp_path, HONEYHIVE_CAPTURE_RAW="1", HONEYHIVE_CAPTURE_HEADERS="1") as proxy:
            expected = 0
            for seed, (name, (off, headers)) in enumerate({**OF_REQUESTS, "nothing": ({}, {})}.items()):
                asked[name] = provider.texts = Texts(seed)
                expected += ask_proxy(proxy, asked[name], off, headers)
        left = b"".join(request.body for request in server.requests)
        count = len(server.events)

    assert count >= expected
    words = asked.pop("nothing").found_in(left)
    assert {"prompt", "system prompt", "answer", "metadata"} <= set(words)
    assert {name: found for name, texts in asked.items() if (found := texts.found_in(left))} == {}
