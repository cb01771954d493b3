"""The keys of provider and HoneyHive appear in no event, no log, no file, no output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import litellm
import pytest

import honeyhive_autoinstrument
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
