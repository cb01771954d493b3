"""Shapes of the other APIs, odd but legal ones among them: what they become in an event."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar

import pytest

from honeyhive_autoinstrument.events.facts import FileFacts, Operation, ProxyFacts, RequestFacts
from tests.events.test_build import MESSAGES, answer, event_of, facts_of

DATA = b"\x89PNG picture"
BLOB = {"size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}


def inputs_of(operation: Operation, **arguments: Any) -> Any:
    return event_of(facts_of({"model": "m", **arguments}, operation=operation))["inputs"]


def outputs_of(operation: Operation, result: Any) -> Any:
    return event_of(facts_of({"model": "m"}, result, operation=operation))["outputs"]


def streamed(operation: Operation, chunks: list[Any]) -> Any:
    return event_of(facts_of({"model": "m"}, chunks=chunks, operation=operation))


def sse(*events: Any, cut: int | None = None) -> list[bytes]:
    """Bytes of server-sent events, cut in pieces of seven that no event knows of."""
    data = b"".join(f"event: x\ndata: {json.dumps(event)}\n\n".encode() for event in events)
    data = data if cut is None else data[:-cut]
    return [data[at : at + 7] for at in range(0, len(data), 7)]


GOOGLE_CALL = {"name": "weather", "args": {"city": "Oslo"}}


def test_contents_of_google_become_chat_messages() -> None:
    contents = [
        {
            "role": "user",
            "parts": [{"text": "What is it?"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0K"}}],
        },
        {"role": "model", "parts": [{"functionCall": GOOGLE_CALL}]},
        {"role": "user", "parts": [{"function_response": {"name": "weather", "response": {"is": "sunny"}}}]},
        {"role": "user", "parts": []},
        "a bare text",
    ]

    history = inputs_of(
        Operation.GENERATE, contents=contents, config={"system_instruction": {"parts": [{"text": "Be brief."}]}}
    )["chat_history"]

    assert history[0] == {"role": "system", "content": "Be brief."}
    assert history[1]["content"][0] == {"type": "text", "text": "What is it?"}
    assert history[1]["content"][1]["inlineData"]["data"]["type"] == "image/png"
    assert history[2]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert history[3]["role"] == "tool"
    assert history[3]["tool_call_id"] == "weather"
    assert history[4:] == [{"role": "user", "content": None}, {"role": "user", "content": "a bare text"}]


def test_a_text_as_the_system_instruction_is_a_message() -> None:
    history = inputs_of(Operation.GENERATE, contents="Hello.", systemInstruction="Be brief.")["chat_history"]

    assert history == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]


def test_an_answer_of_google_has_its_thoughts_calls_and_grounding() -> None:
    parts = [
        {"text": "I think", "thought": True},
        {"text": "Yes."},
        {"functionCall": GOOGLE_CALL},
        {"executableCode": {"code": "1"}},
    ]
    candidate = {"content": {"parts": parts}, "finishReason": "STOP", "groundingMetadata": {"webSearchQueries": ["q"]}}
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3, "totalTokenCount": 10}

    event = event_of(
        facts_of({"model": "m"}, {"candidates": [candidate], "usageMetadata": usage}, operation=Operation.GENERATE)
    )

    outputs, metadata = event["outputs"], event["metadata"]
    assert (outputs["reasoning"], outputs["content"], outputs["finish_reason"]) == ("I think", "Yes.", "STOP")
    assert outputs["tool_calls"][0]["function"]["name"] == "weather"
    assert outputs["items"] == [{"executableCode": {"code": "1"}}]
    assert outputs["provider_specific_fields"] == {"groundingMetadata": {"webSearchQueries": ["q"]}}
    assert (metadata["prompt_tokens"], metadata["completion_tokens"], metadata["reasoning_tokens"]) == (5, 5, 3)


def test_a_question_that_google_blocks_says_why() -> None:
    outputs = outputs_of(Operation.GENERATE, {"promptFeedback": {"blockReason": "SAFETY"}})

    assert outputs["content"] is None
    assert outputs["provider_specific_fields"] == {"promptFeedback": {"blockReason": "SAFETY"}}


def test_a_stream_of_google_is_put_together_from_bytes_cut_anywhere() -> None:
    first = {"candidates": [{"content": {"parts": [{"text": "Hello"}]}}, "odd"]}
    last = {
        "candidates": [{"content": {"parts": [{"text": " there"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2},
    }

    event = streamed(Operation.GENERATE, sse(first, "no object", last))

    assert (event["outputs"]["content"], event["metadata"]["finish_reason"]) == ("Hello there", "STOP")
    assert event["metadata"]["total_tokens"] == 3


def test_messages_of_anthropic_become_chat_messages() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    messages = [
        {"role": "user", "content": "plain"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "42"}]},
                {"type": "tool_result", "tool_use_id": "t2"},
                {"type": "image", "source": source},
            ],
        },
    ]

    history = inputs_of(Operation.MESSAGES, messages=messages, system=[{"type": "text", "text": "Be brief."}])[
        "chat_history"
    ]

    assert [message["role"] for message in history] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert history[0]["content"] == "Be brief."
    assert history[2]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert [history[3]["content"], history[4]["content"]] == ["42", None]
    assert history[5]["content"][0]["source"]["data"]["type"] == "image/png"


EVENTS = (
    {"type": "message_start", "message": {"role": "assistant", "usage": {"input_tokens": 9, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"url": "u"}}},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t1", "name": "f", "input": {}}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
    {
        "type": "message_delta", "delta": {"stop_reason": "tool_use"},
        "usage": {"output_tokens": 7, "cache_read_input_tokens": 4},
    },
)  # fmt: skip


def test_a_stream_of_anthropic_is_put_together_from_bytes_cut_anywhere() -> None:
    event = streamed(Operation.MESSAGES, sse(*EVENTS))

    outputs, metadata = event["outputs"], event["metadata"]
    assert (outputs["content"], outputs["finish_reason"]) == ("Hello", "tool_use")
    assert json.loads(outputs["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert outputs["annotations"] == [{"url": "u"}]
    # Anthropic counts cached tokens apart; everywhere else they are part of the prompt's.
    assert (metadata["prompt_tokens"], metadata["completion_tokens"], metadata["total_tokens"]) == (13, 7, 20)


def test_a_stream_of_anthropic_that_breaks_off_in_a_tool_call_has_the_pieces() -> None:
    outputs = streamed(Operation.MESSAGES, sse(*EVENTS[:6]))["outputs"]

    assert outputs["tool_calls"][0]["function"]["arguments"] == '{"a"'


def test_chunks_of_anthropic_may_be_texts_and_events_too() -> None:
    chunks = [
        f"data: {json.dumps(EVENTS[0])}\n\n",
        EVENTS[1],
        EVENTS[2],
        "data: [DONE]\n\n",
        {"type": "content_block_delta"},
    ]

    assert streamed(Operation.MESSAGES, chunks)["outputs"]["content"] in ("Hello", "")


def test_blocks_of_anthropic_that_nobody_knows_are_kept_as_items() -> None:
    block = {"type": "server_tool_use", "id": "s1", "name": "web_search"}

    outputs = outputs_of(Operation.MESSAGES, {"role": "assistant", "content": [block], "stop_reason": "pause_turn"})

    assert (outputs["items"], outputs["content"]) == ([block], None)


def test_items_of_responses_become_chat_messages() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "42"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "because"}]},
        {"type": "item_reference", "id": "i1"},
        {
            "role": "user",
            "content": [{"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}],
        },
        "a bare text",
    ]

    history = inputs_of(Operation.RESPONSES, input=items, instructions="Be brief.", prompt={"id": "p1"})

    roles = [message["role"] for message in history["chat_history"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "assistant", "user", "user"]
    assert history["chat_history"][3] == {"role": "tool", "tool_call_id": "c1", "content": "42"}
    assert history["chat_history"][4]["reasoning"] == "because"
    assert history["chat_history"][6]["content"][0]["file"]["file_data"]["type"] == "application/pdf"
    assert history["prompt"] == {"id": "p1"}


def test_a_stored_response_is_asked_for_by_its_id() -> None:
    assert inputs_of(Operation.RESPONSES, response_id="resp_1")["response_id"] == "resp_1"


def test_a_stream_of_responses_that_breaks_off_has_what_was_read() -> None:
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "No"}]}
    chunks = [
        {"type": "response.created", "response": {"id": "resp_1", "model": "gpt"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "summary": []}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "I think"},
        {"type": "response.output_text.delta", "output_index": 1, "delta": "Hel"},
        {"type": "response.output_text.delta", "output_index": 1, "delta": "lo"},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"a'},
        {"type": "response.output_item.done", "output_index": 3, "item": refusal},
        {"type": "response.refusal.delta", "output_index": 3, "delta": "ignored: it was done"},
    ]  # fmt: skip

    event = streamed(Operation.RESPONSES, chunks)

    outputs = event["outputs"]
    assert (outputs["content"], outputs["reasoning"], outputs["refusal"]) == ("Hello", "I think", "No")
    assert outputs["tool_calls"][0]["function"]["arguments"] == '{"a'
    assert "finish_reason" not in outputs
    assert event["metadata"]["response_id"] == "resp_1"
    assert event["metadata"]["usage_source"] == "estimated"


def test_an_image_that_a_response_made_becomes_its_hash() -> None:
    item = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "iVBORyBwaWN0dXJl"}

    (found,) = outputs_of(Operation.RESPONSES, {"output": [item], "status": "completed"})["items"]

    assert set(found["result"]) == {"type", "size", "sha256"}


def test_an_image_of_an_earlier_turn_that_is_handed_back_becomes_its_hash() -> None:
    item = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "iVBORyBwaWN0dXJl"}

    (message,) = inputs_of(Operation.RESPONSES, input=[item])["chat_history"]

    assert set(message["content"][0]["result"]) == {"type", "size", "sha256"}


IMAGE = "iVBORyBw" * 20


@pytest.mark.parametrize(
    "carried",
    [
        {"messages": [{"role": "user", "content": "what is it?", "images": [IMAGE, "data:image/png;base64," + IMAGE]}]},
        {"instances": [{"prompt": "red", "image": {"bytesBase64Encoded": IMAGE}}]},
        {"output": [{"type": "image_generation_call", "result": IMAGE}]},
    ],
    ids=["Ollama", "Vertex", "Responses"],
)
def test_images_in_what_went_over_the_wire_become_their_hash(carried: dict[str, Any]) -> None:
    requests = RequestFacts(count=1, raw_url="http://h/v1", raw_body=carried, raw_response=json.dumps(carried))

    metadata = event_of(facts_of({"model": "m", "messages": MESSAGES}, answer(), requests=requests))["metadata"]

    for found in (json.dumps(metadata["raw_request"]), json.dumps(metadata["raw_response"])):
        assert IMAGE[:16] not in found
        assert "sha256" in found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (DATA, {"type": "bytes", **BLOB}),
        (["a.png", DATA], {"type": "bytes", "name": "a.png", **BLOB}),
        (["a.png", DATA, "image/png"], {"type": "image/png", "name": "a.png", **BLOB}),
        (["a.png", FileFacts(name="other.png", size=9)], {"type": "file", "name": "a.png", "size": 9}),
        (FileFacts(name="a.png", size=9), {"type": "file", "name": "a.png", "size": 9}),
        (FileFacts(), {"type": "file"}),
        ([DATA, DATA], [{"type": "bytes", **BLOB}, {"type": "bytes", **BLOB}]),
        ("https://example.org/a.png", "https://example.org/a.png"),
        (["a.png", "a text"], ["a.png", "a text"]),
    ],
)
def test_a_file_is_recorded_in_every_form_it_is_given(given: Any, expected: Any) -> None:
    assert inputs_of(Operation.IMAGE_EDIT, prompt="red", image=given) == {"prompt": "red", "image": expected}


def test_the_video_that_is_changed_is_named() -> None:
    assert inputs_of(Operation.VIDEO, prompt="red", video_id="video_1") == {"prompt": "red", "video_id": "video_1"}


def test_a_transcription_may_be_a_bare_text() -> None:
    assert outputs_of(Operation.TRANSCRIPTION, "Hello.") == {"text": "Hello."}
    assert inputs_of(Operation.TRANSCRIPTION, file=DATA, prompt="names")["prompt"] == "names"


def test_speech_that_was_not_read_yet_is_not_read() -> None:
    class Response:
        headers: ClassVar = {"content-type": "audio/mpeg"}

    class Speech:
        response = Response()

    assert outputs_of(Operation.SPEECH, Speech()) == {"audio": {"type": "audio/mpeg"}}


def test_a_batch_gives_each_result_or_its_error() -> None:
    results = [answer(), ValueError("no"), [answer()]]

    outputs = outputs_of(Operation.BATCH, results)["results"]

    assert [outputs[0]["content"], outputs[1], outputs[2][0]["content"]] == [
        "Hello.",
        {"error": "ValueError"},
        "Hello.",
    ]


def test_an_operation_without_a_form_shows_arguments_and_answer_as_they_are() -> None:
    event = event_of(facts_of({"model": "m", "state": {"a": 1}}, {"decision": "yes"}, operation=Operation.OTHER))
    text = event_of(facts_of({"model": "m"}, "yes", operation=Operation.OTHER))

    assert (event["inputs"], event["outputs"]) == ({"state": {"a": 1}}, {"decision": "yes"})
    assert text["outputs"] == {"result": "yes"}


def test_texts_and_documents_of_a_rerank_are_both_shown() -> None:
    result = {
        "results": [
            {"index": 1, "relevance_score": 0.5, "document": {"title": "t"}},
            {"index": 0, "relevance_score": 0.1},
        ]
    }

    nodes = outputs_of(Operation.RERANK, result)["nodes"]

    assert nodes == [{"index": 1, "score": 0.5, "content": {"title": "t"}}, {"index": 0, "score": 0.1}]


def test_pieces_of_a_streamed_function_call_and_of_audio_are_joined() -> None:
    deltas = [
        {"function_call": {"name": "f", "arguments": '{"a'}},
        {"function_call": {"arguments": '": 1}'}},
        {"audio": {"id": "audio_1", "data": "AAAA", "transcript": "Hel"}},
        {"audio": {"data": "A", "transcript": "lo", "expires_at": 5}},
        {"provider_specific_fields": {"citation": "one", "list": [1], "map": {"a": 1}}},
        {"provider_specific_fields": {"citation": "two", "list": [2], "map": {"b": 2}}},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "id": "c2", "function": {"name": "g", "arguments": "{}"}}]},
    ]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]

    outputs = streamed(Operation.CHAT, chunks)["outputs"]

    assert outputs["function_call"] == {"name": "f", "arguments": '{"a": 1}'}
    assert (outputs["audio"]["transcript"], outputs["audio"]["data"]["size"]) == ("Hello", 3)
    assert outputs["provider_specific_fields"] == {"citation": ["one", "two"], "list": [1, 2], "map": {"a": 1, "b": 2}}
    assert [call["function"]["name"] for call in outputs["tool_calls"]] == ["f", "g"]


def test_a_custom_tools_call_has_its_input_as_arguments() -> None:
    message = {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}],
    }

    history = inputs_of(Operation.CHAT, messages=[message])["chat_history"]

    assert history[0]["tool_calls"][0]["function"] == {"name": "sql", "arguments": "SELECT 1"}


def test_the_time_that_a_request_waited_in_the_proxy_is_recorded() -> None:
    request = ProxyFacts(identity={}, notes={"queue_time_seconds": 0.25})

    event = event_of(facts_of({"model": "m", "messages": MESSAGES}, proxy=request))

    assert event["metadata"]["queue_time_ms"] == 250.0


def test_a_raw_request_that_is_no_json_is_kept_as_text() -> None:
    requests = RequestFacts(count=2, raw_url="http://h/v1", raw_body="no json", raw_response=b"\xff")

    metadata = event_of(facts_of({"model": "m", "messages": MESSAGES}, answer(), requests=requests))["metadata"]

    assert metadata["raw_request"] == {"url": "http://h/v1", "body": "no json"}
    assert metadata["raw_response"]["type"] == "bytes"
    assert metadata["provider_requests"] == 2


def test_a_stream_that_nobody_counted_is_estimated_and_says_so() -> None:
    chunks = [{"choices": [{"index": 0, "delta": {"content": "x" * 40}}]}]

    metadata = event_of(facts_of({"model": "m", "messages": [{"role": "user", "content": "y" * 80}]}, chunks=chunks))[
        "metadata"
    ]

    assert (metadata["prompt_tokens"], metadata["completion_tokens"]) == (20, 10)
    assert metadata["usage_source"] == "estimated"
    assert "cost" not in metadata
