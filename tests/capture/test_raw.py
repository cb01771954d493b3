"""With CAPTURE_RAW and CAPTURE_HEADERS: the request as sent, the answer as it came, the headers on the list; no key."""

from __future__ import annotations

import json
from typing import Any

import litellm
import pytest

import honeyhive_autoinstrument
from tests.capture.calls import FUNCTIONS, LITELLM_VERSION
from tests.conftest import Recording
from tests.fakes.provider import KEY, TEXT, Behaviour, FakeProvider

CHAT = FUNCTIONS[0]
SECRET = "cookie-0123456789abcdef"


@pytest.fixture
def raw(recording: Recording) -> Recording:
    honeyhive_autoinstrument.init(capture_raw=True, capture_headers=True)
    return recording


def test_the_request_as_sent_and_the_answer_as_it_came_are_recorded(
    raw: Recording, fake_provider: FakeProvider
) -> None:
    litellm.completion(**CHAT.arguments(fake_provider), temperature=0.5, extra_headers={"x-tenant-token": SECRET})

    metadata = raw.event()["metadata"]
    (sent,) = fake_provider.calls
    assert {name: metadata["raw_request"]["body"][name] for name in sent} == sent
    assert metadata["raw_request"]["url"].startswith(fake_provider.url)
    assert metadata["raw_response"]["choices"][0]["message"]["content"] == TEXT
    assert metadata["raw_response"]["usage"]["prompt_tokens"] == 11
    assert no_secret_in(raw)


def test_a_request_with_its_key_in_the_address_is_recorded_without_it(
    raw: Recording, fake_provider: FakeProvider
) -> None:
    given = {
        "model": "gemini/gemini-2.5-flash",
        "messages": [{"role": "user", "content": "Say hello."}],
        "api_key": KEY,
    }

    litellm.completion(**given, api_base=f"{fake_provider.url}/v1beta/models/gemini-2.5-flash")

    assert "contents" in raw.event()["metadata"]["raw_request"]["body"]
    assert no_secret_in(raw)


def test_nothing_raw_is_recorded_unless_it_was_asked_for(recording: Recording, fake_provider: FakeProvider) -> None:
    litellm.completion(**CHAT.arguments(fake_provider))

    assert not {"raw_request", "raw_response", "response_headers"} & recording.event()["metadata"].keys()


def test_without_content_nothing_raw_is_recorded(raw: Recording, fake_provider: FakeProvider) -> None:
    honeyhive_autoinstrument.init(capture_content=False)

    litellm.completion(**CHAT.arguments(fake_provider))

    event = raw.event()
    assert "raw_request" not in event["metadata"]
    assert TEXT not in json.dumps(event)


def test_the_headers_on_the_list_are_recorded_and_no_others(raw: Recording, fake_provider: FakeProvider) -> None:
    headers = (
        ("x-ratelimit-remaining-requests", "0"),
        ("x-request-id", "req_7"),
        ("set-cookie", SECRET),
        ("x-own", "1"),
    )
    fake_provider.always("gpt-4o-mini", Behaviour(status=429, headers=headers))

    with pytest.raises(litellm.RateLimitError):
        litellm.completion(**CHAT.arguments(fake_provider))

    if LITELLM_VERSION >= (1, 74):  # before, LiteLLM keeps no headers with its exceptions
        found = raw.event()["metadata"]["response_headers"]
        assert (found["x-ratelimit-remaining-requests"], found["x-request-id"]) == ("0", "req_7")
        assert not {"set-cookie", "x-own"} & found.keys()
    assert no_secret_in(raw)


def test_headers_of_an_answer_are_recorded_by_the_providers_names(raw: Recording, fake_provider: FakeProvider) -> None:
    litellm.completion(**CHAT.arguments(fake_provider))

    metadata = raw.event()["metadata"]
    assert metadata["response_headers"]["x-request-id"] == metadata["provider_request_id"] == "req_fake"


def no_secret_in(recording: Recording) -> bool:
    recording.events()
    bodies: list[Any] = [request.body for request in recording.server.requests]
    return not any(secret.encode() in body for secret in (KEY, SECRET) for body in bodies)
