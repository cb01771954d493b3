"""OpenAI's Responses API: answers, streams of typed events, background responses that are fetched later.

Written after OpenAI's published API reference ("Responses" and "Streaming events"). Kept apart from the chat wire: the
two share nothing but the error.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from tests.fakes.server import Reply, Request
from tests.fakes.wires import TEXT, WORDS, Behaviour, served_as

ROUTE = "/responses"
CREATED = 1_760_000_000
SUMMARY = ("The user wants a greeting.", "A short one will do.")
REFUSAL = "I cannot help with that."
IMAGE = b"\x89PNG\r\n\x1a\n a small picture"
ITEM_IDS = {
    "message": "msg_fake",
    "reasoning": "rs_fake",
    "web_search_call": "ws_fake",
    "image_generation_call": "ig_fake",
}
CITATION = {
    "type": "url_citation",
    "start_index": 0,
    "end_index": 5,
    "url": "https://news.example/hello",
    "title": "Hello",
}
WEB_SEARCH = {
    "type": "web_search_call",
    "id": ITEM_IDS["web_search_call"],
    "status": "completed",
    "action": {"type": "search", "query": "hello"},
}
DRAWING = {
    "type": "image_generation_call",
    "id": ITEM_IDS["image_generation_call"],
    "status": "completed",
    "background": "opaque",
    "output_format": "png",
    "quality": "low",
    "result": b64encode(IMAGE).decode(),
    "revised_prompt": "a small cat",
    "size": "1024x1024",
}
FAILURE = {"code": "server_error", "message": "The model failed to answer."}


class ResponsesWire:
    """`/v1/responses`. Specials: reasoning, refusal, web_search, image_generation, cached, incomplete, failed."""

    def model_of(self, request: Request) -> str | None:
        path = _path(request)
        if request.method == "GET" and path.startswith(f"{ROUTE}/resp_"):
            return bytes.fromhex(path.removeprefix(f"{ROUTE}/resp_")).decode()
        if path != ROUTE:
            return None
        model = request.json.get("model")
        return model if isinstance(model, str) else ""

    def error(self, how: Behaviour) -> Reply:
        error = {"message": how.message, "type": "fake_error", "code": None, "param": None}
        return Reply.of({"error": error}, status=how.status, headers=dict(how.headers))

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply:
        body = {"model": model, **request.json}
        if request.method == "GET":
            body["background"] = True
        elif body.get("background"):
            queued = {**_response(body, [], "queued"), "usage": None}
            return Reply.of(queued, headers={"x-request-id": "req_fake"})
        response = _ended(body, how)
        return (
            _stream(response, how) if body.get("stream") else Reply.of(response, headers={"x-request-id": "req_fake"})
        )


def _path(request: Request) -> str:
    return request.path.partition("?")[0].removeprefix("/v1")


def _ended(body: dict[str, Any], how: Behaviour) -> dict[str, Any]:
    """The response as it is when the model is done."""
    if how.special == "failed":
        return {**_response(body, [], "failed"), "error": FAILURE, "usage": None}
    response = _response(body, _output(how), "completed")
    if how.special == "incomplete":
        response |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        response["output"][-1]["status"] = "incomplete"
    return {**response, "usage": _usage(how)}


def _response(body: dict[str, Any], output: list[dict[str, Any]], status: str) -> dict[str, Any]:
    return {
        "id": "resp_" + body["model"].encode().hex(),  # tells the model to the GET that asks for it
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": bool(body.get("background")),
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": served_as(body["model"]),
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
        "metadata": body.get("metadata") or {},
    }


def _usage(how: Behaviour) -> dict[str, Any]:
    return {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 5 if how.special == "cached" else 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 4 if how.special == "reasoning" else 0},
        "total_tokens": 18,
    }


def _output(how: Behaviour) -> list[dict[str, Any]]:
    before: list[dict[str, Any]] = []
    if how.special == "reasoning":
        summary = [{"type": "summary_text", "text": text} for text in SUMMARY]
        before = [{"type": "reasoning", "id": ITEM_IDS["reasoning"], "summary": summary}]
    elif how.special == "web_search":
        before = [WEB_SEARCH]
    elif how.special == "image_generation":
        before = [DRAWING]
    if how.tool_calls:
        return before + [
            {
                "type": "function_call",
                "id": f"fc_{number}",
                "call_id": call["id"],
                "name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
                "status": "completed",
            }
            for number, call in enumerate(how.tool_calls, 1)
        ]
    part: dict[str, Any] = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
    if how.special == "web_search":
        part["annotations"] = [CITATION]
    if how.special == "refusal":
        part = {"type": "refusal", "refusal": REFUSAL}
    message = {
        "type": "message",
        "id": ITEM_IDS["message"],
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    return [*before, message]


def _stream(response: dict[str, Any], how: Behaviour) -> Reply:
    start = {
        **response,
        "status": "in_progress",
        "output": [],
        "usage": None,
        "error": None,
        "incomplete_details": None,
    }
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": start},
        {"type": "response.in_progress", "response": start},
    ]
    for index, item in enumerate(response["output"]):
        place = {"item_id": item["id"], "output_index": index}
        events.append(
            {"type": "response.output_item.added", "output_index": index, "item": {**item, **UNFINISHED[item["type"]]}}
        )
        events += DURING[item["type"]](item, place)
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": f"response.{response['status']}", "response": response})
    chunks = [
        f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n".encode()
        for number, event in enumerate(events)
    ]
    return Reply(
        content_type="text/event-stream; charset=utf-8",
        headers={"x-request-id": "req_fake"},
        chunks=chunks,
        reset_after=how.cut_after,
        wait_between=how.hold,
    )


UNFINISHED: dict[str, dict[str, Any]] = {
    "message": {"status": "in_progress", "content": []},
    "function_call": {"status": "in_progress", "arguments": ""},
    "reasoning": {"summary": []},
    "web_search_call": {"status": "in_progress"},
    "image_generation_call": {"status": "in_progress", "result": None},
}
"""What differs in an item when it is added and when it is done."""


def _message_events(item: dict[str, Any], place: dict[str, Any]) -> list[dict[str, Any]]:
    (part,) = item["content"]
    place = {**place, "content_index": 0}
    if part["type"] == "refusal":
        half = len(REFUSAL) // 2
        events: list[dict[str, Any]] = [
            {"type": "response.refusal.delta", **place, "delta": piece} for piece in (REFUSAL[:half], REFUSAL[half:])
        ]
        events.append({"type": "response.refusal.done", **place, "refusal": REFUSAL})
        empty = {"type": "refusal", "refusal": ""}
    else:
        events = [{"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in WORDS]
        events += [
            {
                "type": "response.output_text.annotation.added",
                **place,
                "annotation_index": number,
                "annotation": annotation,
            }
            for number, annotation in enumerate(part["annotations"])
        ]
        events.append({"type": "response.output_text.done", **place, "text": TEXT, "logprobs": []})
        empty = {**part, "text": "", "annotations": []}
    return [
        {"type": "response.content_part.added", **place, "part": empty},
        *events,
        {"type": "response.content_part.done", **place, "part": part},
    ]


def _function_call_events(item: dict[str, Any], place: dict[str, Any]) -> list[dict[str, Any]]:
    arguments = item["arguments"]
    half = len(arguments) // 2
    return [
        {"type": "response.function_call_arguments.delta", **place, "delta": arguments[:half]},
        {"type": "response.function_call_arguments.delta", **place, "delta": arguments[half:]},
        {"type": "response.function_call_arguments.done", **place, "name": item["name"], "arguments": arguments},
    ]


def _reasoning_events(item: dict[str, Any], place: dict[str, Any]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for number, part in enumerate(item["summary"]):
        here = {**place, "summary_index": number}
        half = len(part["text"]) // 2
        events += [
            {"type": "response.reasoning_summary_part.added", **here, "part": {**part, "text": ""}},
            {"type": "response.reasoning_summary_text.delta", **here, "delta": part["text"][:half]},
            {"type": "response.reasoning_summary_text.delta", **here, "delta": part["text"][half:]},
            {"type": "response.reasoning_summary_text.done", **here, "text": part["text"]},
            {"type": "response.reasoning_summary_part.done", **here, "part": part},
        ]
    return events


def _web_search_events(item: dict[str, Any], place: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": f"response.web_search_call.{step}", **place} for step in ("in_progress", "searching", "completed")]


def _drawing_events(item: dict[str, Any], place: dict[str, Any]) -> list[dict[str, Any]]:
    steps = ("in_progress", "generating", "completed")
    return [{"type": f"response.image_generation_call.{step}", **place} for step in steps]


DURING = {
    "message": _message_events,
    "function_call": _function_call_events,
    "reasoning": _reasoning_events,
    "web_search_call": _web_search_events,
    "image_generation_call": _drawing_events,
}
"""The events between an item's first and last."""
