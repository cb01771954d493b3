"""Anthropic's wire: the Messages API, whole and as server-sent events.

Written after Anthropic's published API reference: Messages, streaming Messages, extended thinking, prompt caching, tool
use, errors.
"""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.server import Reply, Request
from tests.fakes.wires import TEXT, USAGE, WORDS, Behaviour

MESSAGE_ID = "msg_01FakeFakeFakeFakeFakeFake"
REQUEST_ID = "req_011FakeFakeFakeFakeFake"
THOUGHTS = ("The user wants", " a greeting.")
THOUGHT = "".join(THOUGHTS)
SIGNATURE = "RXJyb0NrZ0lCaEFCR0FJaVFGYWtlU2lnbmF0dXJl"
REDACTED = "RW1Sa1lXTjBaV1E="
CACHE_READ = 20
CACHE_WRITTEN = 5
"""3 of them for five minutes, 2 for an hour."""
DATED = {"claude-sonnet-4-5": "claude-sonnet-4-5-20250929", "claude-haiku-4-5": "claude-haiku-4-5-20251001"}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
Block = dict[str, Any]


class AnthropicWire:
    """The route `/v1/messages`.

    Specials: `thinking` (a thinking and a redacted block before the answer), `cache` (tokens read from and written to the
    prompt cache), `stop_sequence` (the first of the request's).
    """

    def model_of(self, request: Request) -> str | None:
        if request.path.partition("?")[0] != "/v1/messages":
            return None
        model = request.json.get("model")
        return model if isinstance(model, str) else ""

    def error(self, how: Behaviour) -> Reply:
        error = {"type": ERROR_TYPES.get(how.status, "api_error"), "message": how.message}
        return Reply.of(
            {"type": "error", "error": error, "request_id": REQUEST_ID},
            status=how.status,
            headers={"request-id": REQUEST_ID, **dict(how.headers)},
        )

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply:
        body = request.json
        if body.get("stream"):
            return self._stream(body, model, how)
        reason, sequence = _ending(body, how)
        message = _message(model, _blocks(how), reason, sequence, _usage(how, USAGE["completion_tokens"]))
        return Reply.of(message, headers={"request-id": REQUEST_ID})

    def _stream(self, body: dict[str, Any], model: str, how: Behaviour) -> Reply:
        reason, sequence = _ending(body, how)
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": _message(model, [], None, None, _usage(how, output_tokens=1))}
        ]
        for index, block in enumerate(_blocks(how)):
            start, deltas = _in_pieces(block)
            events.append({"type": "content_block_start", "index": index, "content_block": start})
            if index == 0:
                events.append({"type": "ping"})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        counts = {**_input_usage(how), "output_tokens": USAGE["completion_tokens"]}
        end = {"stop_reason": reason, "stop_sequence": sequence}
        events += [{"type": "message_delta", "delta": end, "usage": counts}, {"type": "message_stop"}]
        return Reply(
            content_type="text/event-stream; charset=utf-8",
            headers={"request-id": REQUEST_ID},
            chunks=[f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events],
            reset_after=how.cut_after,
            wait_between=how.hold,
        )


def _message(model: str, blocks: list[Block], reason: str | None, sequence: str | None, usage: Block) -> Block:
    return {
        "id": MESSAGE_ID,
        "type": "message",
        "role": "assistant",
        "model": DATED.get(model, model),
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage,
    }


def _ending(body: dict[str, Any], how: Behaviour) -> tuple[str, str | None]:
    if how.special == "stop_sequence":
        return "stop_sequence", body["stop_sequences"][0]
    return ("tool_use" if how.tool_calls else "end_turn"), None


def _blocks(how: Behaviour) -> list[Block]:
    blocks: list[Block] = []
    if how.special == "thinking":
        blocks.append({"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE})
        blocks.append({"type": "redacted_thinking", "data": REDACTED})
    if how.tool_calls:
        blocks += [
            {
                "type": "tool_use",
                "id": call["id"],
                "name": call["function"]["name"],
                "input": json.loads(call["function"]["arguments"]),
            }
            for call in how.tool_calls
        ]
    else:
        blocks.append({"type": "text", "text": TEXT})
    return blocks


def _in_pieces(block: Block) -> tuple[Block, list[Block]]:
    """How a stream tells a block: as it starts, and what is added to it."""
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": word} for word in WORDS]
    if block["type"] == "thinking":
        deltas: list[Block] = [{"type": "thinking_delta", "thinking": thought} for thought in THOUGHTS]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {**block, "thinking": "", "signature": ""}, deltas
    if block["type"] == "tool_use":
        arguments = json.dumps(block["input"])
        third = len(arguments) // 3
        pieces = ("", arguments[:third], arguments[third : 2 * third], arguments[2 * third :])
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block, []


def _input_usage(how: Behaviour) -> dict[str, Any]:
    is_cached = how.special == "cache"
    return {
        "input_tokens": USAGE["prompt_tokens"],
        "cache_creation_input_tokens": CACHE_WRITTEN if is_cached else 0,
        "cache_read_input_tokens": CACHE_READ if is_cached else 0,
    }


def _usage(how: Behaviour, output_tokens: int) -> dict[str, Any]:
    five_minutes, hour = (3, 2) if how.special == "cache" else (0, 0)
    return {
        **_input_usage(how),
        "cache_creation": {"ephemeral_5m_input_tokens": five_minutes, "ephemeral_1h_input_tokens": hour},
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }
