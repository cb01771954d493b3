"""The keys of provider and HoneyHive appear in no event, no log, no file, no output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import litellm
import openai
import pytest

import honeyhive_autoinstrument
from honeyhive_autoinstrument._faults import faults
from tests.capture.calls import FUNCTIONS
from tests.conftest import BIN, Recording, Run, app
from tests.fakes.provider import KEY, Behaviour, FakeProvider

SECRETS = {
    "api_key": KEY,
    "extra_headers": {"Authorization": "Bearer canary-header-0123456789", "x-api-key": "canary-x-0123456789"},
}
CANARIES = (KEY, "canary-header-0123456789", "canary-x-0123456789", "canary-metadata-0123456789")


def everything_that_left(recording: Recording, home: Path, log: str) -> bytes:
    bodies = b"".join(request.body for request in recording.server.requests)
    files = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    return bodies + files + log.encode()


def test_keys_appear_in_no_event_no_log_and_no_file(
    recording: Recording, fake_provider: FakeProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="honeyhive_autoinstrument")
    fake_provider.always("echo", Behaviour(status=401, message=f"Incorrect API key provided: {KEY}"))
    metadata = {"api_key": "canary-metadata-0123456789", "feature": "x"}
    for function in FUNCTIONS:
        arguments = {**function.arguments(fake_provider), **SECRETS, "metadata": dict(metadata)}
        for more in ({}, {"model": "openai/echo"}, {"stream": True} if function.can_stream else {}):
            run_one(function.name, {**arguments, **more})
    router = litellm.Router(
        model_list=[
            {
                "model_name": "group",
                "litellm_params": {"model": "openai/echo", "api_base": fake_provider.base, **SECRETS},
            },
            {
                "model_name": "other",
                "litellm_params": {"model": "openai/gpt-4o", "api_base": fake_provider.base, **SECRETS},
            },
        ],
        fallbacks=[{"group": ["other"]}],
        num_retries=1,
        retry_after=0,
    )
    router.completion(model="group", messages=[{"role": "user", "content": f"my key is {KEY}"}])
    recording.server.misbehave(status=503)
    run_one("completion", {**FUNCTIONS[0].arguments(fake_provider), **SECRETS})
    honeyhive_autoinstrument.flush(10)

    left = everything_that_left(recording, tmp_path, caplog.text)

    assert len(recording.server.events) > 20
    assert [canary for canary in CANARIES if canary.encode() in left] == []
    keys_of_honeyhive = [
        request for request in recording.server.requests if recording.server.key.encode() in request.body
    ]
    assert keys_of_honeyhive == []
    assert recording.server.key not in caplog.text
    assert b"hh_test" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


SHAPELESS = "canary0123456789without0shape"
"""A key that nothing but its place tells to be one."""


def client_with_key(provider: FakeProvider) -> Any:
    return openai.OpenAI(api_key=SHAPELESS, base_url=provider.base, max_retries=0)


PLACES: dict[str, Callable[[FakeProvider], dict[str, Any]]] = {
    "argument": lambda _: {"api_key": SHAPELESS},
    "argument of a name that only looks like one": lambda _: {"gigachat_access_token": SHAPELESS},
    "headers": lambda _: {"extra_headers": httpx.Headers({"x-api-key": SHAPELESS})},
    "nested body": lambda _: {"extra_body": {"auth": {"client_secret": SHAPELESS}}},
    "fallbacks": lambda provider: {"fallbacks": [{"model": "openai/echo", "api_key": SHAPELESS}]},
    "client": lambda provider: {"client": client_with_key(provider)},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_key_that_a_provider_repeats_is_hidden_wherever_it_came_from(
    recording: Recording, fake_provider: FakeProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    fake_provider.always("echo", Behaviour(status=400, message=f"bad key {SHAPELESS} given"))
    arguments = {**FUNCTIONS[0].arguments(fake_provider), "model": "openai/echo", **PLACES[place](fake_provider)}

    with pytest.raises(Exception, match=SHAPELESS):
        litellm.completion(**arguments)

    assert recording.events()[0]["error"]
    ours = "".join(record.getMessage() for record in caplog.records if record.name == "honeyhive_autoinstrument")
    assert SHAPELESS.encode() not in everything_that_left(recording, tmp_path, ours)


def test_a_key_set_on_litellm_itself_is_hidden(
    recording: Recording, fake_provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "openai_key", SHAPELESS)
    fake_provider.always("echo", Behaviour(status=400, message=f"bad key {SHAPELESS} given"))
    arguments = {**FUNCTIONS[0].arguments(fake_provider), "model": "openai/echo"}

    with pytest.raises(litellm.BadRequestError):
        litellm.completion(**arguments)

    assert "bad key" in recording.event()["error"]
    assert SHAPELESS.encode() not in everything_that_left(recording, tmp_path, "")


def test_a_key_in_the_environment_is_hidden(run: Run, tmp_path: Path) -> None:
    env = {"MY_PROVIDER_API_KEY": SHAPELESS}
    code = (
        "import os, litellm\n"
        "litellm.completion(model='gpt-4o', mock_response='y', messages=[\n"
        "    {'role': 'user', 'content': 'my key is ' + os.environ['MY_PROVIDER_API_KEY']}])\n"
    )

    run(BIN / "honeyhive-instrument", "python", "-c", code, env=env)

    (batch,) = (tmp_path / "home").rglob("*.batch")
    assert b"my key is [hidden]" in batch.read_bytes()


@pytest.mark.parametrize(("status", "said"), [(401, "does not take this key"), (400, "refused 1 event")])
def test_a_key_that_the_server_repeats_is_in_no_log_and_no_file(
    recording: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, said: str
) -> None:
    faults._said_at.clear()
    message = json.dumps({"statusCode": status, "message": f"the key {recording.server.key} is odd"}).encode()
    recording.server.misbehave(status=status, body=message)
    litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y")
    assert honeyhive_autoinstrument.flush(10)

    assert said in caplog.text
    assert "the key [hidden] is odd" in caplog.text
    assert recording.server.key.encode() not in b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )
    assert recording.server.key not in caplog.text


def run_one(name: str, arguments: dict[str, Any]) -> None:
    async def finish(coroutine: Any) -> None:
        result = await coroutine
        if hasattr(type(result), "__anext__"):
            async for _ in result:
                pass

    # The failing ones fail with the provider's 401; what was recorded of them is looked at later.
    with contextlib.suppress(litellm.AuthenticationError):
        result = getattr(litellm, name)(**arguments)
        if asyncio.iscoroutine(result):
            asyncio.run(finish(result))
        elif arguments.get("stream"):
            list(result)


@pytest.mark.slow
def test_without_content_no_text_of_prompt_or_answer_leaves(
    run: Run, tmp_path: Path, fake_provider: FakeProvider
) -> None:
    run(BIN / "honeyhive-instrument", "--no-content", "python", app("one_completion.py"))

    (batch,) = (tmp_path / "home").rglob("*.batch")
    data = batch.read_text()
    assert "Say hello" not in data
    assert '"hello"' not in data
    event = json.loads(data.splitlines()[-1])["event"]
    assert event["inputs"]["chat_history"] == [{"role": "user", "content": None, "content_length": 10}]
    assert event["metadata"]["prompt_tokens"] > 0
