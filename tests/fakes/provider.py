"""FakeProvider: an OpenAI-compatible service on loopback, with streams (SSE) and errors on demand.

Wire formats after OpenAI's published API reference: chat completions, completions, embeddings, images.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

from tests.fakes.server import RESET, Reply, Request, Server

KEY = "sk-provider-0123456789abcdefABCDEF"
WORDS = ("Hello", " there", ",", " world")
TEXT = "".join(WORDS)
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def served_as(model: str) -> str:
    """The dated model that answers for a name, as OpenAI reports it."""
    return {"gpt-4o-mini": "gpt-4o-mini-2024-07-18"}.get(model, model)


@dataclass
class Behaviour:
    """How one request for a model is answered."""

    status: int = 200
    message: str = "the provider is unwell"
    reset: bool = False
    cut_after: int | None = None
    """Chunks of a stream before the connection breaks."""
    hold: threading.Event | None = None
    """Chunks after the first wait for this."""
    tool_calls: list[dict[str, Any]] | None = None


class FakeProvider(Server):
    def __init__(self) -> None:
        super().__init__()
        self._plans: dict[str, deque[Behaviour]] = defaultdict(deque)
        self._always: dict[str, Behaviour] = {}

    @property
    def base(self) -> str:
        return f"{self.url}/v1"

    def plan(self, model: str, *behaviours: Behaviour) -> None:
        """The next requests for a model, one behaviour each; then it answers well."""
        self._plans[model].extend(behaviours)

    def always(self, model: str, behaviour: Behaviour) -> None:
        self._always[model] = behaviour

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Bodies of the requests so far."""
        with self.lock:
            return [request.json for request in self.requests if request.method == "POST"]

    def answer(self, request: Request) -> Reply:
        body = request.json
        model = body["model"]
        with self.lock:
            plan = self._plans[model]
            how = plan.popleft() if plan else self._always.get(model, Behaviour())
        if how.reset:
            return RESET
        if how.status != 200:
            return Reply.of(
                {"error": {"message": how.message, "type": "fake_error", "code": None, "param": None}},
                status=how.status,
            )
        route = request.path.removeprefix("/v1")
        if route == "/chat/completions":
            return self._chat_stream(body, how) if body.get("stream") else self._chat(body, how)
        if route == "/completions":
            return self._text_stream(body, how) if body.get("stream") else self._text(body)
        if route == "/embeddings":
            return self._embeddings(body)
        if route == "/images/generations":
            return Reply.of(
                {"created": 1, "data": [{"url": "https://images.example/1.png", "revised_prompt": "a cat"}]}
            )
        return Reply.of({"error": {"message": f"no route {route}"}}, status=404)

    def _chat(self, body: dict[str, Any], how: Behaviour) -> Reply:
        message: dict[str, Any] = {"role": "assistant", "content": TEXT}
        if how.tool_calls:
            message = {"role": "assistant", "content": None, "tool_calls": how.tool_calls}
        reason = "tool_calls" if how.tool_calls else "stop"
        count = body.get("n") or 1
        return Reply.of(
            {
                "id": "chatcmpl-fake",
                "object": "chat.completion",
                "created": 1,
                "model": served_as(body["model"]),
                "system_fingerprint": "fp_fake",
                "choices": [
                    {"index": index, "message": message, "finish_reason": reason, "logprobs": None}
                    for index in range(count)
                ],
                "usage": USAGE,
            },
            headers={"x-request-id": "req_fake"},
        )

    def _chat_stream(self, body: dict[str, Any], how: Behaviour) -> Reply:
        def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
            return {
                "id": "chatcmpl-fake",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": served_as(body["model"]),
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
            }

        if how.tool_calls:
            items = [chunk({"role": "assistant", "content": None})]
            for index, call in enumerate(how.tool_calls):
                arguments = call["function"]["arguments"]
                head = {"index": index, **call, "function": {"name": call["function"]["name"], "arguments": ""}}
                items.append(chunk({"tool_calls": [head]}))
                half = len(arguments) // 2
                items.extend(
                    chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
                    for piece in (arguments[:half], arguments[half:])
                )
            items.append(chunk({}, "tool_calls"))
        else:
            items = [chunk({"role": "assistant", "content": WORDS[0]})]
            items += [chunk({"content": word}) for word in WORDS[1:]]
            items.append(chunk({}, "stop"))
        if (body.get("stream_options") or {}).get("include_usage"):
            items.append({**chunk({}), "choices": [], "usage": USAGE})
        return _sse(items, how)

    def _text(self, body: dict[str, Any]) -> Reply:
        return Reply.of(
            {
                "id": "cmpl-fake",
                "object": "text_completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": None}],
                "usage": USAGE,
            }
        )

    def _text_stream(self, body: dict[str, Any], how: Behaviour) -> Reply:
        items = [
            {
                "id": "cmpl-fake",
                "object": "text_completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "text": word, "finish_reason": reason, "logprobs": None}],
            }
            for word, reason in [*((word, None) for word in WORDS), ("", "stop")]
        ]
        return _sse(items, how)

    def _embeddings(self, body: dict[str, Any]) -> Reply:
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        return Reply.of(
            {
                "object": "list",
                "model": body["model"],
                "data": [
                    {"object": "embedding", "index": index, "embedding": [0.25, 0.5, 0.75]}
                    for index in range(len(inputs))
                ],
                "usage": {"prompt_tokens": 5, "total_tokens": 5},
            }
        )


def _sse(items: list[dict[str, Any]], how: Behaviour) -> Reply:
    chunks = [f"data: {json.dumps(item)}\n\n".encode() for item in items] + [b"data: [DONE]\n\n"]
    return Reply(content_type="text/event-stream", chunks=chunks, reset_after=how.cut_after, wait_between=how.hold)
