"""What the LiteLLM Proxy says of a request, by the arguments that its calls come with."""

from __future__ import annotations

import hashlib
from typing import Any

import litellm
import pytest

import honeyhive_autoinstrument
from tests.conftest import Recording

RAW_KEY = "opaque-virtual-key-0123456789"


def ask(**more: Any) -> None:
    """As the Proxy calls without a Router: its notes are in the metadata."""
    bucket = {"user_api_key": RAW_KEY, "user_api_key_hash": RAW_KEY, "requester_ip_address": "10.0.0.7", **more}
    litellm.completion(
        model="gpt-4o",
        messages=[{"role": "user", "content": "x"}],
        mock_response=f"your key is {RAW_KEY}",
        metadata=bucket,
        proxy_server_request={
            "url": "http://proxy/v1/chat/completions?a=b",
            "headers": {"user-agent": "client/1"},
            "body": {},
        },
    )


def test_a_raw_key_is_hashed_and_hidden_wherever_it_stands(recording: Recording) -> None:
    ask()

    request, call = recording.events()
    expected = hashlib.sha256(RAW_KEY.encode()).hexdigest()
    assert [event["metadata"]["virtual_key_hash"] for event in (request, call)] == [expected, expected]
    assert not [body for body in recording.server.requests if RAW_KEY.encode() in body.body]


def test_a_call_without_a_router_is_below_its_request(recording: Recording) -> None:
    ask()

    request, call = recording.events()
    assert (request["event_name"], request["parent_id"]) == ("litellm.proxy", request["session_id"])
    assert (call["event_type"], call["parent_id"]) == ("model", request["event_id"])
    assert request["metadata"]["route"] == "/v1/chat/completions"
    assert request["metadata"]["user_agent"] == "client/1"
    assert "caller_ip" not in request["metadata"]


def test_the_callers_address_is_recorded_with_the_headers_only(recording: Recording) -> None:
    honeyhive_autoinstrument.init(capture_headers=True)

    ask()

    assert recording.events()[0]["metadata"]["caller_ip"] == "10.0.0.7"


def test_guardrails_that_were_applied_are_recorded(recording: Recording) -> None:
    ask(applied_guardrails=["no-secrets"])

    assert [event["metadata"]["applied_guardrails"] for event in recording.events()] == [["no-secrets"], ["no-secrets"]]


def test_a_client_cannot_pass_for_somebody_else(recording: Recording) -> None:
    ask(requester_metadata={"team_id": "forged", "mine": "x"})

    for event in recording.events():
        assert "team_id" not in event["metadata"]
        assert event["metadata"]["mine"] == "x"
        assert event["metadata"]["user_metadata"] == {"team_id": "forged"}


@pytest.mark.parametrize("given", [{"session_id": "chosen"}, {"trace_id": "chosen"}])
def test_a_request_joins_the_session_that_the_proxy_notes(given: dict[str, str], recording: Recording) -> None:
    ask(**given)

    assert {event["metadata"]["original_session_id"] for event in recording.events()} == {"chosen"}


def test_requests_that_name_no_session_share_none(recording: Recording) -> None:
    ask()
    ask()

    assert len({event["session_id"] for event in recording.events()}) == 2
