"""Amazon Bedrock's wire: Converse, and ConverseStream in the binary event stream, for several families of models.

Written after AWS's published references: the Bedrock Runtime API (Converse, ConverseStream, guardrail traces, common
errors) and the event stream encoding (`application/vnd.amazon.eventstream`).
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from typing import Any
from urllib.parse import unquote

from tests.fakes.server import Reply, Request
from tests.fakes.wires import TEXT, USAGE, WORDS, Behaviour

REQUEST_ID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
THOUGHTS = ("The user wants", " a greeting.")
THOUGHT = "".join(THOUGHTS)
SIGNATURE = "RXJyb0NrZ0lCaEFCR0FJaVFGYWtlU2lnbmF0dXJl"
BLOCKED_TEXT = "Sorry, I cannot answer that."
GUARDRAIL_TRACE: dict[str, Any] = {
    "guardrail": {
        "modelOutput": ["How to hurt someone"],
        "outputAssessments": {
            "gr-fake": [
                {
                    "contentPolicy": {
                        "filters": [
                            {
                                "type": "VIOLENCE",
                                "confidence": "HIGH",
                                "filterStrength": "HIGH",
                                "action": "BLOCKED",
                                "detected": True,
                            }
                        ]
                    },
                    "invocationMetrics": {
                        "guardrailProcessingLatency": 245,
                        "usage": {"topicPolicyUnits": 0, "contentPolicyUnits": 1, "wordPolicyUnits": 0},
                    },
                }
            ]
        },
    }
}
CACHE_READ = 20
CACHE_WRITTEN = 5
ERROR_TYPES = {
    400: "ValidationException",
    401: "UnauthorizedException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
ROUTE = re.compile(r"/model/([^/]+)/(converse|converse-stream)")
Json = dict[str, Any]


class BedrockWire:
    """Routes `/model/<URL-encoded id>/converse` and `/converse-stream`.

    Families: Claude sends a tool's input in pieces and counts cached tokens, Nova sends the input at once and counts
    them, Llama sends it at once and does not. Specials: `thinking`, `cache`, `guardrail` (the answer is blocked; the
    trace is there if the request asks for it).
    """

    def model_of(self, request: Request) -> str | None:
        found = ROUTE.fullmatch(request.path.partition("?")[0])
        return unquote(found[1]) if found else None

    def error(self, how: Behaviour) -> Reply:
        kind = ERROR_TYPES.get(how.status, "InternalServerException")
        headers = {
            "x-amzn-requestid": REQUEST_ID,
            "x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/",
        }
        return Reply.of({"message": how.message}, status=how.status, headers={**headers, **dict(how.headers)})

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply:
        body = request.json
        if request.path.partition("?")[0].endswith("/converse-stream"):
            return Reply(
                content_type="application/vnd.amazon.eventstream",
                headers={"x-amzn-requestid": REQUEST_ID},
                chunks=[frame(kind, payload) for kind, payload in _events(body, model, how)],
                reset_after=how.cut_after,
                wait_between=how.hold,
            )
        answer: Json = {
            "metrics": {"latencyMs": 551},
            "output": {"message": {"role": "assistant", "content": _blocks(how)}},
            "stopReason": _stop_reason(how),
            "usage": _usage(model, how),
        }
        return Reply.of(answer | _trace(body, how), headers={"x-amzn-requestid": REQUEST_ID})


def frame(kind: str, payload: Json) -> bytes:
    """One message of the event stream: lengths, their checksum, headers, JSON, the checksum of it all."""
    body = json.dumps(payload).encode()
    headers = b"".join(
        _header(name, value)
        for name, value in ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event"))
    )
    lengths = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    message = lengths + struct.pack("!I", zlib.crc32(lengths)) + headers + body
    return message + struct.pack("!I", zlib.crc32(message))


def _header(name: str, value: str) -> bytes:
    is_text = 7
    return struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", is_text, len(value)) + value.encode()


def _events(body: Json, model: str, how: Behaviour) -> list[tuple[str, Json]]:
    events: list[tuple[str, Json]] = [("messageStart", {"role": "assistant"})]
    for index, block in enumerate(_blocks(how)):
        start, deltas = _in_pieces(block, model)
        if start:
            events.append(("contentBlockStart", {"contentBlockIndex": index, "start": start}))
        events += [("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas]
        events.append(("contentBlockStop", {"contentBlockIndex": index}))
    events.append(("messageStop", {"stopReason": _stop_reason(how)}))
    last = {"metrics": {"latencyMs": 551}, "usage": _usage(model, how)}
    events.append(("metadata", last | _trace(body, how)))
    # `p` is padding, so that lengths do not tell the text.
    return [
        (kind, {**payload, "p": "abcdefghijklmnopq"[: 3 + number]}) for number, (kind, payload) in enumerate(events)
    ]


def _blocks(how: Behaviour) -> list[Json]:
    if how.special == "guardrail":
        return [{"text": BLOCKED_TEXT}]
    blocks: list[Json] = []
    if how.special == "thinking":
        blocks.append({"reasoningContent": {"reasoningText": {"text": THOUGHT, "signature": SIGNATURE}}})
    if not how.tool_calls:
        return [*blocks, {"text": TEXT}]
    return blocks + [
        {
            "toolUse": {
                "toolUseId": call["id"],
                "name": call["function"]["name"],
                "input": json.loads(call["function"]["arguments"]),
            }
        }
        for call in how.tool_calls
    ]


def _in_pieces(block: Json, model: str) -> tuple[Json | None, list[Json]]:
    """How a stream tells a block: its start (only tools have one), and what is added."""
    if "toolUse" in block:
        tool = block["toolUse"]
        arguments = json.dumps(tool["input"])
        half = len(arguments) // 2
        pieces = ("", arguments[:half], arguments[half:]) if "anthropic." in model else (arguments,)
        start = {"toolUse": {"toolUseId": tool["toolUseId"], "name": tool["name"]}}
        return start, [{"toolUse": {"input": piece}} for piece in pieces]
    if "reasoningContent" in block:
        deltas: list[Json] = [{"reasoningContent": {"text": thought}} for thought in THOUGHTS]
        return None, [*deltas, {"reasoningContent": {"signature": SIGNATURE}}]
    words = WORDS if block["text"] == TEXT else (block["text"],)
    return None, [{"text": word} for word in words]


def _stop_reason(how: Behaviour) -> str:
    if how.special == "guardrail":
        return "guardrail_intervened"
    return "tool_use" if how.tool_calls else "end_turn"


def _usage(model: str, how: Behaviour) -> Json:
    read, written = (CACHE_READ, CACHE_WRITTEN) if how.special == "cache" else (0, 0)
    prompt, answer = USAGE["prompt_tokens"], USAGE["completion_tokens"]
    usage = {"inputTokens": prompt, "outputTokens": answer, "totalTokens": prompt + answer + read + written}
    if "meta." not in model:
        usage |= {"cacheReadInputTokens": read, "cacheWriteInputTokens": written}
    return usage


def _trace(body: Json, how: Behaviour) -> Json:
    wanted = (body.get("guardrailConfig") or {}).get("trace")
    return {"trace": GUARDRAIL_TRACE} if how.special == "guardrail" and wanted == "enabled" else {}
