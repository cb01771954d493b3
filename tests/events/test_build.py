"""Events as a function of facts: one whole event, then what odd but legal values become."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from honeyhive_autoinstrument._faults import faults
from honeyhive_autoinstrument.events.build import build_event
from honeyhive_autoinstrument.events.encode import encode
from honeyhive_autoinstrument.events.facts import Attempt, CallFacts, Ending, Operation, Place, Session
from honeyhive_autoinstrument.redaction import Redactor
from tests.fakes.honeyhive import validator

SESSION = Session(id="11111111-1111-4111-8111-111111111111", name="program", started_ms=1795424183000.0)
EVENT_ID = "22222222-2222-4222-8222-222222222222"
MESSAGES = [{"role": "user", "content": "Say hello."}]


def facts_of(
    arguments: Mapping[str, Any],
    result: Any = None,
    *,
    chunks: Sequence[Any] = (),
    operation: Operation = Operation.CHAT,
    **more: Any,
) -> CallFacts:
    return CallFacts(
        **{
            "operation": operation,
            "name": "litellm.completion",
            "is_chain": False,
            "event_id": EVENT_ID,
            "parent_id": SESSION.id,
            "place": Place(session=SESSION),
            "started_ms": 1795424183275.0,
            "ended_ms": 1795424183525.5,
            "arguments": arguments,
            "ending": Ending.COMPLETED,
            "result": result,
            "chunks": chunks,
            "is_stream": bool(chunks),
            **more,
        }
    )


def event_of(facts: CallFacts, *, capture_content: bool = True) -> dict[str, Any]:
    """The event as the server gets it, checked against the schema."""
    redactor = Redactor(max_content_bytes=100_000)
    event: dict[str, Any] = json.loads(
        encode(build_event(facts, source="test", redactor=redactor, capture_content=capture_content), max_bytes=1 << 20)
    )
    profile = "ProducerModelEvent" if facts.operation is Operation.CHAT and not facts.is_chain else "ProducerEvent"
    validator(profile).validate(event)
    return event


def answer(**more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 8},
        },
        "_hidden_params": {"custom_llm_provider": "openai", "response_cost": 0.0025, "litellm_call_id": "call-1"},
        **more,
    }


def chunk(text: str, index: Any = 0, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]}


def test_an_attempt_becomes_this_event() -> None:
    attempt = Attempt(number=2, model_group="group", deployment="openai/gpt-4o", deployment_id="d-1", fallback_depth=1)
    arguments = {"model": "openai/gpt-4o", "messages": MESSAGES, "temperature": 0.2, "user": "u-1", "stop": ["x"]}

    event = event_of(
        facts_of(
            arguments, answer(), attempt=attempt, attributes={"team": "search"}, litellm_version="1.2.3",
            api_base="https://user:pass@api.example.com/v1",
        )
    )  # fmt: skip

    assert event == {
        "event_id": EVENT_ID,
        "session_id": SESSION.id,
        "parent_id": SESSION.id,
        "event_type": "model",
        "event_name": "litellm.completion",
        "source": "test",
        "start_time": 1795424183275.0,
        "end_time": 1795424183525.5,
        "duration": 250.5,
        "config": {"model": "openai/gpt-4o", "provider": "openai", "temperature": 0.2, "stop_sequences": ["x"]},
        "inputs": {"chat_history": MESSAGES},
        "outputs": {"role": "assistant", "content": "Hello.", "finish_reason": "stop"},
        "error": None,
        "metadata": {
            "team": "search",
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "input_tokens": 100,
            "output_tokens": 20,
            "total_tokens": 120,
            "cache_read_input_tokens": 64,
            "reasoning_tokens": 8,
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 64},
                "completion_tokens_details": {"reasoning_tokens": 8},
            },
            "usage_source": "provider",
            "cost": 0.0025,
            "cost_source": "response",
            "operation_name": "chat",
            "call_type": "completion",
            "litellm_version": "1.2.3",
            "litellm_call_id": "call-1",
            "response_model": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-1",
            "api_base": "https://api.example.com/v1",
            "provider": "openai",
            "finish_reason": "stop",
            "attempt": 2,
            "model_group": "group",
            "deployment": "openai/gpt-4o",
            "deployment_id": "d-1",
            "is_fallback": True,
            "fallback_depth": 1,
        },
        "metrics": {},
        "feedback": {},
        "user_properties": {"user_id": "u-1"},
    }


def test_the_callers_metadata_never_passes_for_our_figures() -> None:
    callers = {"cost": "low", "prompt_tokens": 9999, "finish_reason": 7, "feature": "chat"}

    event = event_of(facts_of({"model": "m", "messages": MESSAGES, "metadata": callers}))
    chain = event_of(facts_of({"model": "m", "messages": MESSAGES, "metadata": callers}, answer(), is_chain=True))

    for each in (event, chain):
        assert each["metadata"]["feature"] == "chat"
        assert each["metadata"]["user_metadata"] == {"cost": "low", "prompt_tokens": 9999, "finish_reason": 7}
        assert "cost" not in each["metadata"]
        assert "prompt_tokens" not in each["metadata"]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "4", "tool_call_id": 17, "name": 3},
        {"role": "assistant", "tool_calls": [{"id": 5, "function": {"name": None, "arguments": {"big": 2**80}}}]},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"s": "\ud800"}}}]},
        {"role": "user", "content": [{"type": None, "text": "x"}, {"type": 3}, "bare", {"text": "no type"}]},
        {"role": "assistant", "content": None, "function_call": "f"},
        {"role": "user", "content": {"odd": 1}},
        {"role": None, "content": float("nan")},
        {"content": b"bytes"},
        "only a text",
        {},
    ],
)
def test_an_odd_message_is_recorded_and_fits_the_schema(message: Any) -> None:
    event = event_of(facts_of({"model": "m", "messages": [message]}, answer()))

    assert len(event["inputs"]["chat_history"]) == 1
    assert event["outputs"]["content"] == "Hello."


def test_a_text_in_place_of_messages_is_one_message() -> None:
    event = event_of(facts_of({"model": "m", "messages": "hello"}, answer()))

    assert event["inputs"]["chat_history"] == [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("content", [["bare", {"type": "text", "text": "x"}], {"odd": 1}, None, "text"])
def test_odd_content_of_an_answer_fits_the_schema(content: Any) -> None:
    result = answer(choices=[{"finish_reason": "stop", "message": {"role": "assistant", "content": content}}])

    assert event_of(facts_of({"model": "m", "messages": MESSAGES}, result))["outputs"]["role"] == "assistant"


def test_several_choices_of_a_stream_are_all_there_and_the_first_one_leads() -> None:
    chunks = [chunk("a", 0), chunk("b", 1), chunk("", 0, "stop"), chunk("", 1, "length")]

    event = event_of(facts_of({"model": "m", "messages": MESSAGES, "n": 2}, chunks=chunks))

    assert event["metadata"]["finish_reason"] == event["outputs"]["finish_reason"] == "stop"
    assert [choice["content"] for choice in event["outputs"]["choices"]] == ["a", "b"]


def test_several_choices_of_a_text_stream_are_all_there() -> None:
    chunks = [
        {"choices": [{"index": index, "text": text, "finish_reason": reason}]}
        for index, text, reason in [(0, "a", None), (1, "b", None), (0, "", "stop"), (1, "", "length")]
    ]

    event = event_of(facts_of({"model": "m", "prompt": "p"}, chunks=chunks, operation=Operation.TEXT))

    assert event["outputs"]["text"] == "a"
    assert [choice["text"] for choice in event["outputs"]["choices"]] == ["a", "b"]


def test_an_index_that_is_no_number_costs_nothing() -> None:
    event = event_of(facts_of({"model": "m", "messages": MESSAGES}, chunks=[chunk("a", "x"), chunk("b", 0)]))

    assert event["outputs"]["content"] == "ab"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("text", "text"),
        (["one", "two"], ["one", "two"]),
        ([1, 2, 3], {"tokens": 3}),
        ([[1, 2], [3]], [{"tokens": 2}, {"tokens": 1}]),
    ],
)
def test_token_ids_of_a_prompt_become_their_number(prompt: Any, expected: Any) -> None:
    event = event_of(facts_of({"model": "m", "prompt": prompt}, operation=Operation.TEXT))

    assert event["inputs"]["prompt"] == expected


def test_tokens_of_an_image_are_counted() -> None:
    result = {"data": [], "usage": {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}}

    metadata = event_of(facts_of({"model": "m", "prompt": "p"}, result, operation=Operation.IMAGE))["metadata"]

    assert (metadata["prompt_tokens"], metadata["completion_tokens"], metadata["total_tokens"]) == (9, 4, 13)


def test_a_user_that_cannot_be_read_costs_only_itself() -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("not now")

    event = event_of(facts_of({"model": "m", "messages": MESSAGES, "user": Odd()}, answer()))

    assert event["outputs"]["content"] == "Hello."
    assert event["user_properties"] == {}
    assert faults.counts() == {"read the user of a call": 1}
    faults.after_fork()


def test_without_content_nothing_of_the_callers_words_is_left() -> None:
    arguments = {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "WORDS"}], "name": "WORDS"}],
        "stop": "WORDS",
        "tool_choice": "WORDS",
        "response_format": {"type": "json_schema", "json_schema": {"name": "WORDS", "schema": {"title": "WORDS"}}},
        "tools": [{"type": "function", "function": {"name": "WORDS", "description": "WORDS"}}],
        "metadata": {"note": "WORDS", "type": "WORDS", "id": "WORDS", "these are WORDS": 1, "list": ["WORDS"]},
    }
    result = answer(choices=[{"finish_reason": "stop", "message": {"role": "assistant", "content": "WORDS"}}])

    event = event_of(facts_of(arguments, result), capture_content=False)

    assert "WORDS" not in json.dumps(event)
    assert event["config"]["stop_sequences_length"] == 5
    assert event["inputs"]["chat_history"][0]["role"] == "user"
    assert event["metadata"]["prompt_tokens"] == 100


def test_without_content_the_apis_own_words_stay() -> None:
    event = event_of(
        facts_of({"model": "m", "messages": MESSAGES, "tool_choice": "auto"}, answer()), capture_content=False
    )

    assert event["config"]["tool_choice"] == "auto"


def test_reasoning_refusal_and_tool_calls_of_an_answer_are_recorded() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "I think",
        "refusal": "I will not",
        "thinking_blocks": [{"type": "thinking", "thinking": "deep", "signature": "sig"}],
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    result = answer(choices=[{"index": 0, "finish_reason": "tool_calls", "message": message}])

    outputs = event_of(facts_of({"model": "m", "messages": MESSAGES}, result))["outputs"]

    assert outputs == {
        "role": "assistant",
        "content": None,
        "finish_reason": "tool_calls",
        "reasoning": "I think",
        "refusal": "I will not",
        "thinking_blocks": message["thinking_blocks"],
        "tool_calls": message["tool_calls"],
    }


def test_reasoning_and_refusal_of_a_stream_are_merged() -> None:
    deltas = [{"reasoning_content": "I "}, {"reasoning_content": "think"}, {"refusal": "No"}, {"refusal": "."}]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]

    outputs = event_of(facts_of({"model": "m", "messages": MESSAGES}, chunks=chunks))["outputs"]

    assert (outputs["reasoning"], outputs["refusal"], outputs["content"]) == ("I think", "No.", "")


def test_all_choices_of_an_answer_are_recorded() -> None:
    choices = [
        {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for index, text in enumerate(["a", "b"])
    ]
    texts = [{"text": text, "finish_reason": "stop"} for text in ("a", "b")]

    chat = event_of(facts_of({"model": "m", "messages": MESSAGES}, answer(choices=choices)))["outputs"]
    text = event_of(facts_of({"model": "m", "prompt": "p"}, answer(choices=texts), operation=Operation.TEXT))["outputs"]

    assert [choice["content"] for choice in chat["choices"]] == ["a", "b"]
    assert text == {"text": "a", "finish_reason": "stop", "choices": texts}


def test_blobs_and_vectors_become_their_size() -> None:
    image = {"data": [{"b64_json": "QUJD", "revised_prompt": "a cat"}]}
    vectors = {"data": [{"embedding": "A" * 16}, {"embedding": "A" * 16}]}

    images = event_of(facts_of({"model": "m", "prompt": "p"}, image, operation=Operation.IMAGE))["outputs"]["images"]
    embedded = event_of(facts_of({"model": "m", "input": "p"}, vectors, operation=Operation.EMBEDDING))["outputs"]

    digest = hashlib.sha256(b"ABC").hexdigest()
    assert images == [{"b64_json": {"type": "base64", "size": 3, "sha256": digest}, "revised_prompt": "a cat"}]
    assert embedded == {"num_embeddings": 2, "dimensions": 3}


def test_a_cache_hit_costs_nothing() -> None:
    result = answer(_hidden_params={"cache_hit": True, "response_cost": 0.5})

    metadata = event_of(facts_of({"model": "m", "messages": MESSAGES}, result))["metadata"]

    assert (metadata["cost"], metadata["cache_hit"]) == (0.0, True)


def test_usage_of_zero_is_unknown() -> None:
    result = answer(usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})

    metadata = event_of(facts_of({"model": "m", "messages": MESSAGES}, result))["metadata"]

    assert {"prompt_tokens", "total_tokens", "usage_source"} & metadata.keys() == set()
