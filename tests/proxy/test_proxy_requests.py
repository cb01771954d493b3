"""Requests to LiteLLM's proxy, by the clients that people use: the tree of each, whose it is and which session it joins."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import openai
import pytest

from tests.conftest import wait_until
from tests.fakes.provider import TEXT, WORDS, Behaviour
from tests.proxy.server import CALL_ID, OPAQUE_KEY, TEAMLESS_KEY, VIRTUAL_KEY, Proxy, Tree

MESSAGES: Any = [{"role": "user", "content": "Say hello."}]
CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
ANTHROPIC = "/v1/messages"

IDENTITY = {
    "virtual_key_hash": sha256(VIRTUAL_KEY.encode()).hexdigest(),
    "virtual_key_alias": "search-prod",
    "virtual_key_spend": 1.5,
    "virtual_key_max_budget": 10.0,
    "team_id": "team-search",
    "team_alias": "Search",
    "team_spend": 2.5,
    "team_max_budget": 20.0,
    "user_id": "user-ada",
    "user_email": "ada@example.com",
    "user_spend": 3.5,
    "user_max_budget": 30.0,
    "organization_id": "org-acme",
    "organization_alias": "Acme",
    "project_id": "project-index",
    "tags": ["of-the-key"],
}
"""What custom_auth.py says of VIRTUAL_KEY, as every event of its requests has it."""
TEAMLESS = {
    "virtual_key_hash": sha256(TEAMLESS_KEY.encode()).hexdigest(),
    "virtual_key_alias": "teamless",
    "user_id": "user-bob",
}
IDENTITY_NAMES = {*IDENTITY, "end_user_id"}
USER = {"user_id": "user-ada", "user_email": "ada@example.com", "team_id": "team-search", "team_alias": "Search"}


def identity_of(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event["metadata"].items() if name in IDENTITY_NAMES}


def check_identity(tree: Tree, expected: dict[str, Any] = IDENTITY, user: dict[str, Any] = USER) -> None:
    """All of a request's events say whose it is, and none says more."""
    for event in tree.events:
        found = identity_of(event)
        # A key that has spent nothing yet has spent 0.0.
        assert {key: value for key, value in found.items() if key in expected or value} == expected, event["event_name"]
        assert event["user_properties"] == user, event["event_name"]


def check_route(tree: Tree, route: str, answer: Any) -> None:
    assert tree.root["metadata"]["route"] == route
    assert tree.root["metadata"]["litellm_call_id"] == answer.headers[CALL_ID]
    assert tree.root["metadata"]["user_agent"] == answer.request.headers["user-agent"]
    assert "caller_ip" not in tree.root["metadata"]
    assert tree.root["inputs"] == tree.chain["inputs"]
    assert tree.root["outputs"] == tree.chain["outputs"]
    assert tree.root["error"] == tree.chain["error"]


def raw(proxy: Proxy, key: str = VIRTUAL_KEY, **arguments: Any) -> Any:
    """openai's chat call, with the headers of its answer."""
    arguments = {"model": "chat", "messages": MESSAGES, **arguments}
    return proxy.openai(key).chat.completions.with_raw_response.create(**arguments)


def test_a_chat_request_is_three_levels_proxy_router_and_attempt(proxy: Proxy) -> None:
    answer = raw(proxy)

    assert answer.parse().choices[0].message.content == TEXT
    tree = proxy.tree(answer)
    check_route(tree, CHAT, answer.http_response)
    check_identity(tree)
    assert tree.chain["event_name"] == "litellm.Router.acompletion"
    assert tree.attempt["event_name"] == "litellm.acompletion"
    assert tree.chain["config"]["model"] == "chat"
    assert tree.attempt["config"]["model"] == "openai/gpt-4o-mini"
    assert tree.attempt["metadata"]["deployment_id"] == tree.chain["metadata"]["deployment_id"] == "chat-1"
    assert [event["inputs"]["chat_history"] for event in tree.events] == [MESSAGES] * 3
    assert [event["outputs"]["content"] for event in tree.events] == [TEXT] * 3
    assert [event["error"] for event in tree.events] == [None] * 3
    # Tokens once, where they were spent; else a sum over the session counts them three times.
    assert ["prompt_tokens" in event["metadata"] for event in tree.events] == [False, False, True]


def test_the_levels_of_a_request_lie_within_each_other_in_time(proxy: Proxy) -> None:
    tree = proxy.tree(raw(proxy))

    starts = [event["start_time"] for event in tree.events]
    ends = [event["end_time"] for event in tree.events]
    assert starts == sorted(starts)
    assert ends == sorted(ends, reverse=True)


def test_a_streaming_request_is_recorded_when_its_last_chunk_is_read(proxy: Proxy) -> None:
    answer = raw(proxy, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in answer.parse() if chunk.choices)

    assert text == TEXT
    tree = proxy.tree(answer)
    check_route(tree, CHAT, answer.http_response)
    check_identity(tree)
    assert [event["outputs"]["content"] for event in tree.events] == [TEXT] * 3
    assert [event["metadata"]["stream_ending"] for event in tree.events] == ["completed"] * 3
    assert tree.attempt["metadata"]["prompt_tokens"] == 11


def test_a_client_that_disconnects_in_a_stream_closes_all_three(proxy: Proxy) -> None:
    held = threading.Event()
    proxy.provider.plan("held", Behaviour(hold=held))
    try:
        answer = raw(proxy, model="held", stream=True)
        stream = answer.parse()
        assert next(stream).choices[0].delta.content == WORDS[0]
        stream.close()

        tree = proxy.tree(answer)
    finally:
        held.set()
    check_identity(tree)
    assert [event["metadata"]["stream_ending"] for event in tree.events] == ["closed"] * 3
    assert [event["outputs"]["content"] for event in tree.events] == [WORDS[0]] * 3
    assert [event["error"] for event in tree.events] == [None] * 3


def test_a_fallback_is_a_further_attempt_below_the_same_chain(proxy: Proxy) -> None:
    answer = raw(proxy, model="shaky")

    assert answer.headers["x-litellm-attempted-fallbacks"] == "1"
    assert answer.headers["x-litellm-model-id"] == "steady-1"
    tree = proxy.tree(answer, attempts=2)
    check_route(tree, CHAT, answer.http_response)
    check_identity(tree)
    failed, won = tree.attempts
    assert tree.chain["metadata"]["fallback_path"] == ["shaky", "steady"]
    assert tree.chain["metadata"]["winner_attempt"] == 2
    assert tree.chain["metadata"]["deployment_id"] == won["metadata"]["deployment_id"] == "steady-1"
    assert failed["error"].startswith("InternalServerError")
    assert failed["metadata"]["status_code"] == 500
    assert won["metadata"]["is_fallback"] is True
    assert won["metadata"]["fallback_from"] == won["metadata"]["original_model_group"] == "shaky"
    assert tree.root["error"] is None
    assert tree.root["outputs"]["content"] == TEXT


def test_a_fallback_of_a_stream_is_a_further_attempt_too(proxy: Proxy) -> None:
    answer = raw(proxy, model="shaky", stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in answer.parse() if chunk.choices)

    assert text == TEXT
    tree = proxy.tree(answer, attempts=2)
    check_identity(tree)
    assert [attempt["error"] is None for attempt in tree.attempts] == [False, True]
    assert tree.root["metadata"]["stream_ending"] == tree.chain["metadata"]["stream_ending"] == "completed"
    assert tree.root["outputs"]["content"] == TEXT


def test_a_retry_that_the_request_asks_for_is_a_further_attempt(proxy: Proxy) -> None:
    proxy.provider.plan("flaky", Behaviour(status=500))

    answer = raw(proxy, model="flaky", extra_body={"num_retries": 1})

    tree = proxy.tree(answer, attempts=2)
    check_identity(tree)
    assert [attempt["metadata"].get("is_retry") for attempt in tree.attempts] == [None, True]
    assert [attempt["error"] is None for attempt in tree.attempts] == [False, True]
    assert tree.chain["metadata"]["attempted_retries"] == 1
    assert tree.chain["config"]["num_retries"] == 1


def test_a_request_that_fails_has_its_error_on_all_levels(proxy: Proxy) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        raw(proxy, model="doomed")

    tree = proxy.tree(raised.value.response)
    check_route(tree, CHAT, raised.value.response)
    check_identity(tree)
    assert all(event["error"].startswith("InternalServerError") for event in tree.events)
    assert all("the doomed one is unwell" in event["error"] for event in tree.events)
    assert [event["metadata"]["status_code"] for event in tree.events] == [500] * 3


def embeddings(proxy: Proxy) -> Any:
    return proxy.openai().embeddings.with_raw_response.create(model="vectors", input=["red", "green"])


def images(proxy: Proxy) -> Any:
    return proxy.openai().images.with_raw_response.generate(model="pictures", prompt="a cat")


def text(proxy: Proxy) -> Any:
    return proxy.openai().completions.with_raw_response.create(model="chat", prompt="Say hello.")


def responses(proxy: Proxy) -> Any:
    answer = proxy.openai().responses.with_raw_response.create(model="chat", input="Say hello.")
    assert answer.parse().output_text == TEXT
    return answer


def responses_stream(proxy: Proxy) -> Any:
    answer = proxy.openai().responses.with_raw_response.create(model="chat", input="Say hello.", stream=True)
    assert [event.type for event in answer.parse()][-1] == "response.completed"
    return answer


def anthropic(proxy: Proxy) -> Any:
    answer = proxy.post(ANTHROPIC, {"model": "claude", "max_tokens": 100, "messages": MESSAGES})
    assert answer.json()["content"] == [{"type": "text", "text": TEXT}]
    return answer


def anthropic_stream(proxy: Proxy) -> Any:
    answer = proxy.post(ANTHROPIC, {"model": "claude", "max_tokens": 100, "messages": MESSAGES, "stream": True})
    assert "message_stop" in answer.text
    return answer


@pytest.mark.parametrize(
    ("ask", "route", "router_method", "operation"),
    [
        (embeddings, "/v1/embeddings", "aembedding", "embedding"),
        (images, "/v1/images/generations", "aimage_generation", "image_generation"),
        (text, "/v1/completions", "atext_completion", "text_completion"),
        (responses, RESPONSES, "aresponses", "responses"),
        (responses_stream, RESPONSES, "aresponses", "responses"),
        (anthropic, ANTHROPIC, "anthropic_messages", "anthropic_messages"),
        (anthropic_stream, ANTHROPIC, "anthropic_messages", "anthropic_messages"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_route_has_its_three_levels(
    ask: Callable[[Proxy], Any], route: str, router_method: str, operation: str, proxy: Proxy
) -> None:
    answer = ask(proxy)

    assert getattr(answer, "status_code", 200) == 200
    tree = proxy.tree(answer)
    check_route(tree, route, getattr(answer, "http_response", answer))
    check_identity(tree)
    assert tree.chain["event_name"] == f"litellm.Router.{router_method}"
    assert tree.attempt["event_name"].startswith("litellm.")
    assert tree.attempt["metadata"]["model_group"] == tree.chain["config"]["model"]
    assert tree.root["inputs"] == tree.attempt["inputs"] != {}
    assert tree.root["outputs"] == tree.attempt["outputs"] != {}
    ending = "completed" if ask.__name__.endswith("_stream") else None
    assert [event["metadata"].get("stream_ending") for event in tree.events] == [ending] * 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "Not for the record."}]}),
        ("/v1/embeddings", {"input": ["Not for the record."]}),
        (RESPONSES, {"input": "Not for the record."}),
        (ANTHROPIC, {"messages": [{"role": "user", "content": "Not for the record."}], "max_tokens": 9}),
    ],
)
def test_a_refused_key_and_an_unknown_model_are_no_events(path: str, body: dict[str, Any], proxy: Proxy) -> None:
    refused = proxy.post(path, {**body, "model": "chat"}, key="sk-nobody-0123456789abcdef")
    unknown = proxy.post(path, {**body, "model": "no-such-model"})
    assert (refused.status_code, unknown.status_code) == (401, 400)

    # What comes later in the same process has arrived, so these would have, too.
    proxy.tree(proxy.post(CHAT, {"model": "chat", "messages": MESSAGES}))

    assert not [each for each in proxy.honeyhive.requests if b"Not for the record." in each.body]
    assert unknown.headers[CALL_ID] not in {
        event["metadata"].get("litellm_call_id") for event in proxy.honeyhive.events
    }


def test_a_request_without_a_session_is_one_of_its_own(proxy: Proxy) -> None:
    first, second = proxy.tree(raw(proxy)), proxy.tree(raw(proxy))

    assert first.root["session_id"] != second.root["session_id"]
    for tree in (first, second):
        assert UUID(tree.root["session_id"])
        assert tree.session["session_id"] == tree.root["session_id"]
        assert tree.session["session_name"] == CHAT
        assert "original_session_id" not in tree.root["metadata"]


TRACE_HEADER = {"x-litellm-trace-id": "header-trace"}
SESSION_HEADER = {"x-litellm-session-id": "header-session"}
BODY_SESSION = {"litellm_session_id": "body-session"}
BODY_TRACE = {"litellm_trace_id": "body-trace"}
METADATA = {"metadata": {"session_id": "metadata-session"}}
OF_CLAUDE_CODE = {"metadata": {"user_id": "user_7f3a_account__session_0b5c2d9e-7a41-4f0e-9d5b-4b8a6f1c2e3d"}}


@pytest.mark.parametrize(
    ("path", "headers", "body", "session"),
    [
        # LiteLLM's order (proxy/litellm_pre_call_utils.py, litellm_core_utils/get_litellm_params.py): each row leaves out
        # the winner of the row before it.
        (CHAT, {**TRACE_HEADER, **SESSION_HEADER}, {**BODY_SESSION, **METADATA, **BODY_TRACE}, "header-trace"),
        (CHAT, SESSION_HEADER, {**BODY_SESSION, **METADATA, **BODY_TRACE}, "header-session"),
        (CHAT, {}, {**BODY_SESSION, **METADATA, **BODY_TRACE}, "body-session"),
        (CHAT, {}, {**METADATA, **BODY_TRACE}, "metadata-session"),
        (CHAT, {}, BODY_TRACE, "body-trace"),
        # A client's own header, as coding agents send it.
        (CHAT, {"x-claude-code-session-id": "agent-session-1"}, BODY_SESSION, "agent-session-1"),
        ("/v1/embeddings", {}, METADATA, "metadata-session"),
        # `metadata` is the provider's field there, and LiteLLM reads it all the same.
        (RESPONSES, {}, METADATA, "metadata-session"),
        (RESPONSES, SESSION_HEADER, METADATA, "header-session"),
        (ANTHROPIC, {}, METADATA, "metadata-session"),
        (ANTHROPIC, TRACE_HEADER, METADATA, "header-trace"),
        (ANTHROPIC, {}, OF_CLAUDE_CODE, "0b5c2d9e-7a41-4f0e-9d5b-4b8a6f1c2e3d"),
    ],
)
def test_a_request_joins_the_session_that_litellm_finds_in_it(
    path: str, headers: dict[str, str], body: dict[str, Any], session: str, proxy: Proxy
) -> None:
    asks: dict[str, dict[str, Any]] = {
        CHAT: {"model": "chat", "messages": MESSAGES},
        "/v1/embeddings": {"model": "vectors", "input": ["red"]},
        RESPONSES: {"model": "chat", "input": "Say hello."},
        ANTHROPIC: {"model": "claude", "max_tokens": 100, "messages": MESSAGES},
    }

    answer = proxy.post(path, {**asks[path], **body}, **headers)

    assert answer.status_code == 200, answer.text
    tree = proxy.tree(answer)
    is_uuid = len(session) == 36
    expected = session if is_uuid else str(uuid5(NAMESPACE_URL, f"honeyhive-autoinstrument:{session}"))
    assert tree.root["session_id"] == expected
    original = None if is_uuid else session
    assert {event["metadata"].get("original_session_id") for event in tree.events} == {original}


def test_requests_of_a_session_are_siblings_in_it(proxy: Proxy) -> None:
    session = str(uuid4())

    trees = [proxy.tree(raw(proxy, extra_headers={"x-litellm-session-id": session})) for _ in range(3)]

    assert {tree.root["session_id"] for tree in trees} == {tree.root["parent_id"] for tree in trees} == {session}
    started = [
        request.json for request in proxy.honeyhive.requests if request.method == "POST" and "session" in request.path
    ]
    assert [body.get("session_id") for body in started].count(session) == 1


def test_tags_of_body_header_and_key_are_on_every_event(proxy: Proxy) -> None:
    answer = raw(
        proxy,
        extra_body={"metadata": {"tags": ["of-the-body"]}},
        extra_headers={"x-litellm-tags": "of-a-header,of-it-too"},
    )

    tree = proxy.tree(answer)
    for event in tree.events:
        assert set(event["metadata"]["tags"]) == {"of-the-body", "of-the-key", "of-a-header", "of-it-too"}
        assert len(event["metadata"]["tags"]) == 4


@pytest.mark.parametrize(
    ("headers", "body"),
    [({}, {"user": "customer-7"}), ({"x-litellm-end-user-id": "customer-7"}, {})],
    ids=["body", "header"],
)
def test_the_end_user_is_on_every_event(headers: dict[str, str], body: dict[str, Any], proxy: Proxy) -> None:
    tree = proxy.tree(proxy.post(CHAT, {"model": "chat", "messages": MESSAGES, **body}, **headers))

    check_identity(tree, {**IDENTITY, "end_user_id": "customer-7"})


def test_the_callers_own_metadata_is_recorded_and_litellms_is_not_taken_for_it(proxy: Proxy) -> None:
    tree = proxy.tree(raw(proxy, extra_body={"metadata": {"ticket": "T-7"}}))

    assert [event["metadata"].get("ticket") for event in tree.events] == ["T-7"] * 3
    for event in tree.events:
        litellms = [name for name in event["metadata"] if name.startswith(("user_api_key", "requester_", "headers"))]
        assert litellms == []


def test_a_key_that_litellm_does_not_hash_is_hashed(proxy: Proxy) -> None:
    tree = proxy.tree(raw(proxy, OPAQUE_KEY))

    check_identity(
        tree,
        {
            "virtual_key_hash": sha256(OPAQUE_KEY.encode()).hexdigest(),
            "virtual_key_alias": "opaque",
            "user_id": "user-eve",
        },
        {"user_id": "user-eve"},
    )
    assert re.fullmatch("[0-9a-f]{64}", tree.root["metadata"]["virtual_key_hash"])
    assert not [each for each in proxy.honeyhive.requests if OPAQUE_KEY.encode() in each.body]


def test_a_call_id_that_the_client_chose_is_the_requests(proxy: Proxy) -> None:
    chosen = str(uuid4())

    answer = raw(proxy, extra_headers={CALL_ID: chosen})

    assert answer.headers[CALL_ID] == chosen
    assert proxy.tree(chosen).root["metadata"]["litellm_call_id"] == chosen


def test_requests_at_the_same_time_keep_their_own_keys_sessions_and_attempts(proxy: Proxy) -> None:
    def ask(number: int) -> tuple[int, str, Any]:
        key = (VIRTUAL_KEY, TEAMLESS_KEY)[number % 2]
        model = ("chat", "shaky", "chat")[number % 3]
        session = str(uuid5(NAMESPACE_URL, f"at the same time {number}"))
        answer = raw(
            proxy,
            key,
            model=model,
            stream=number % 4 == 0,
            messages=[{"role": "user", "content": f"Number {number}."}],
            extra_headers={"x-litellm-session-id": session},
        )
        if number % 4 == 0:
            assert len(list(answer.parse())) > 1
        return number, session, answer

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(36)))

    for number, session, answer in answers:
        tree = proxy.tree(answer, attempts=2 if number % 3 == 1 else 1)
        if number % 2:
            check_identity(tree, TEAMLESS, {"user_id": "user-bob"})
        else:
            check_identity(tree)
        assert tree.root["session_id"] == session
        assert {event["inputs"]["chat_history"][0]["content"] for event in tree.events} == {f"Number {number}."}


def test_several_models_in_one_request_are_several_chains_below_it(proxy: Proxy) -> None:
    answer = proxy.post(CHAT, {"model": "chat,steady", "messages": MESSAGES})

    assert [each["choices"][0]["message"]["content"] for each in answer.json()] == [TEXT] * 2
    call_id = answer.headers[CALL_ID]
    proxy.asked.append(call_id)

    def roots() -> list[dict[str, Any]]:
        return [
            event
            for event in proxy.honeyhive.events
            if event["event_name"] == "litellm.proxy" and event["metadata"].get("litellm_call_id") == call_id
        ]

    wait_until(lambda: len(roots()) == 1, what="the request's event")
    (root,) = roots()
    below = [event for event in proxy.honeyhive.events if event["session_id"] == root["session_id"]]
    batch = next(event for event in below if event["parent_id"] == root["event_id"])
    items = [event for event in below if event["parent_id"] == batch["event_id"]]
    assert batch["event_name"] == "litellm.Router.abatch_completion"
    assert [item["event_name"] for item in items] == ["litellm.Router.acompletion"] * 2
    assert sorted(item["config"]["model"] for item in items) == ["chat", "steady"]
    attempts = [event for event in below if event["parent_id"] in {item["event_id"] for item in items}]
    assert len(attempts) == 2
    assert len(below) == 6
    assert all(identity_of(event) == IDENTITY for event in below)
