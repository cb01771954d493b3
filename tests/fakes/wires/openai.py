"""OpenAI's wire, also as Azure, Mistral and every compatible server speak it: chat, completions, embeddings, images.

Written after OpenAI's published API reference.
"""

from __future__ import annotations

from typing import Any

from tests.fakes.server import Reply, Request
from tests.fakes.wires import TEXT, USAGE, WORDS, Behaviour, served_as, sse


class OpenAIWire:
    """Routes below `/v1`, and Azure's `/openai/deployments/<model>`."""

    def model_of(self, request: Request) -> str | None:
        route = self._route(request)
        if route not in ROUTES:
            return None
        if "/openai/deployments/" in request.path:
            return request.path.partition("/deployments/")[2].partition("/")[0]
        model = request.json.get("model")
        return model if isinstance(model, str) else ""

    def error(self, how: Behaviour) -> Reply:
        return Reply.of(
            {"error": {"message": how.message, "type": "fake_error", "code": None, "param": None}},
            status=how.status,
            headers=dict(how.headers),
        )

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply:
        body = {"model": model, **request.json}
        route = self._route(request)
        if route == "/chat/completions":
            return self._chat_stream(body, how) if body.get("stream") else self._chat(body, how)
        if route == "/completions":
            return self._text_stream(body, how) if body.get("stream") else self._text(body)
        if route == "/embeddings":
            return self._embeddings(body)
        return Reply.of({"created": 1, "data": [{"url": "https://images.example/1.png", "revised_prompt": "a cat"}]})

    def _route(self, request: Request) -> str:
        path = request.path.partition("?")[0]
        if "/openai/deployments/" in path:
            return "/" + path.partition("/deployments/")[2].partition("/")[2]
        return path.removeprefix("/v1")

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
        return sse(items, how)

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
        return sse(items, how)

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


ROUTES = frozenset({"/chat/completions", "/completions", "/embeddings", "/images/generations"})
