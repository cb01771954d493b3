"""OpenAI's wire, also as Azure, Mistral and every compatible server speak it: chat, completions, embeddings, images.

Written after OpenAI's published API reference, and after those of Azure OpenAI (content filters), Mistral (`/v1/chat/
completions`: thoughts as parts, usage in every stream) and vLLM (`reasoning_content`, `stop_reason`) for what they add.
"""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from dataclasses import dataclass, field, replace
from typing import Any

from tests.fakes.server import Reply, Request
from tests.fakes.wires import TEXT, USAGE, WORDS, Behaviour, served_as, sse


@dataclass(frozen=True)
class Special:
    """What a chat answer has besides, or instead of, its text."""

    message: dict[str, Any] = field(default_factory=dict)
    deltas: tuple[dict[str, Any], ...] = ()
    """The same in a stream; in the place of the text if the message has none."""
    choice: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    """Of the whole answer, and of each chunk."""


FILTERS_PASSED: dict[str, Any] = {
    kind: {"filtered": False, "severity": "safe"} for kind in ("hate", "self_harm", "sexual", "violence")
}
FILTERS_HIT: dict[str, Any] = {**FILTERS_PASSED, "violence": {"filtered": True, "severity": "medium"}}
PROMPT_FILTERS: list[dict[str, Any]] = [{"prompt_index": 0, "content_filter_results": FILTERS_PASSED}]
THOUGHT = "The user wants a greeting."
STOP_TOKEN = 128_009
SOUND = b"RIFF a spoken greeting"
REFUSAL = "I cannot help with that."
CITATION = {
    "type": "url_citation",
    "url_citation": {"start_index": 0, "end_index": 5, "title": "Hello", "url": "https://news.example/hello"},
}
LOGPROBS = {
    "content": [{"token": word, "logprob": -0.25, "bytes": list(word.encode()), "top_logprobs": []} for word in WORDS],
    "refusal": None,
}
NO_DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
_SPOKEN = b64encode(SOUND).decode()
SPECIALS = {
    "reasoning": Special(
        usage={"completion_tokens_details": {**NO_DETAILS["completion_tokens_details"], "reasoning_tokens": 4}},
        answer={"service_tier": "default"},
    ),
    "cached": Special(usage={"prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0}}),
    "logprobs": Special(choice={"logprobs": LOGPROBS}),
    "refusal": Special(
        message={"content": None, "refusal": REFUSAL},
        deltas=({"refusal": REFUSAL[:9]}, {"refusal": REFUSAL[9:]}),
    ),
    "annotations": Special(message={"annotations": [CITATION]}, deltas=({"annotations": [CITATION]},)),
    # vLLM's: what a reasoning parser took out of the text, and the token that ended it.
    "vllm": Special(
        message={"reasoning_content": THOUGHT},
        deltas=({"reasoning_content": THOUGHT[:9]}, {"reasoning_content": THOUGHT[9:]}),
        choice={"stop_reason": STOP_TOKEN},
    ),
    "audio": Special(
        message={
            "content": None,
            "audio": {"id": "audio_fake", "data": _SPOKEN, "expires_at": 1_760_003_600, "transcript": TEXT},
        },
        deltas=(
            {"audio": {"id": "audio_fake", "transcript": TEXT[:6]}},
            {"audio": {"id": "audio_fake", "transcript": TEXT[6:]}},
            {"audio": {"id": "audio_fake", "data": _SPOKEN[:16]}},
            {"audio": {"id": "audio_fake", "data": _SPOKEN[16:]}},
            {"audio": {"id": "audio_fake", "expires_at": 1_760_003_600}},
        ),
        usage={
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 2, "text_tokens": 9},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 5, "text_tokens": 2},
        },
    ),
}
"""By Behaviour.special. Usage details, once there are any, are there in full, as OpenAI sends them."""
REFUSALS: dict[str, dict[str, Any]] = {
    "context_length_exceeded": {
        "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    },
    "content_policy_violation": {
        "message": "Your request was rejected as a result of our safety system.",
        "type": "invalid_request_error",
        "param": None,
        "code": "content_policy_violation",
    },
}
"""By Behaviour.special: the bodies of the 400s by which OpenAI tells these two apart from other bad requests."""
IMAGE = b"\x89PNG\r\n\x1a\n a generated picture"
VECTOR = (0.25, 0.5, 0.75)


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
        if how.special == "mistral":
            body = {"object": "error", "message": how.message, "type": "fake_error", "param": None, "code": None}
            return Reply.of(body, status=how.status, headers=dict(how.headers))
        if how.special == "content_filter":
            return _azure_refusal(how)
        error = REFUSALS.get(
            how.special or "", {"message": how.message, "type": "fake_error", "code": None, "param": None}
        )
        return Reply.of({"error": error}, status=how.status, headers=dict(how.headers))

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply:
        if how.silence is not None:
            how.silence.wait(20)
        body = {"model": model, **request.json}
        route = self._route(request)
        if route == "/chat/completions":
            reply = self._chat_stream(body, how) if body.get("stream") else self._chat(body, how)
            if "/openai/deployments/" in request.path:
                return _as_azure(reply, how)
            return _as_mistral(reply, how) if model.startswith(MISTRAL) else reply
        if route == "/completions":
            return self._text_stream(body, how) if body.get("stream") else self._text(body)
        if route == "/embeddings":
            return self._embeddings(body)
        if how.special == "gpt-image":
            return self._image(body)
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
        special = SPECIALS.get(how.special or "", Special())
        message |= special.message
        return Reply.of(
            {
                **special.answer,
                "id": "chatcmpl-fake",
                "object": "chat.completion",
                "created": 1,
                "model": served_as(body["model"]),
                "system_fingerprint": "fp_fake",
                "choices": [
                    {"index": index, "message": message, "finish_reason": reason, "logprobs": None, **special.choice}
                    for index in range(count)
                ],
                "usage": _usage(special),
            },
            headers={"x-request-id": "req_fake"},
        )

    def _chat_stream(self, body: dict[str, Any], how: Behaviour) -> Reply:
        special = SPECIALS.get(how.special or "", Special())

        def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
            return {
                **special.answer,
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
            words = WORDS if special.message.get("content", TEXT) else ()
            deltas = [*({"content": word} for word in words), *special.deltas]
            items = [chunk({"role": "assistant", **deltas[0]}), *map(chunk, deltas[1:])]
            if "logprobs" in special.choice:
                for item, logprob in zip(items, LOGPROBS["content"], strict=True):
                    item["choices"][0]["logprobs"] = {"content": [logprob], "refusal": None}
            items.append(chunk({}, "stop"))
        items = [
            {**item, "choices": [{**item["choices"][0], "index": index}]}
            for item in items
            for index in range(body.get("n") or 1)
        ]
        if (body.get("stream_options") or {}).get("include_usage"):
            items.append({**chunk({}), "choices": [], "usage": _usage(special)})
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
        if (body.get("stream_options") or {}).get("include_usage"):
            items.append({**items[0], "choices": [], "usage": USAGE})
        return sse(items, how)

    def _embeddings(self, body: dict[str, Any]) -> Reply:
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vector: Any = list(VECTOR[: body.get("dimensions")])
        if body.get("encoding_format") == "base64":
            vector = b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        return Reply.of(
            {
                "object": "list",
                "model": body["model"],
                "data": [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(inputs))],
                "usage": {"prompt_tokens": 5, "total_tokens": 5},
            }
        )

    def _image(self, body: dict[str, Any]) -> Reply:
        """As gpt-image-1 answers: no address but the picture, and tokens."""
        return Reply.of(
            {
                "created": 1,
                "background": "opaque",
                "data": [{"b64_json": b64encode(IMAGE).decode()}] * (body.get("n") or 1),
                "output_format": "png",
                "quality": "low",
                "size": "1024x1024",
                "usage": {
                    "input_tokens": 10,
                    "input_tokens_details": {"image_tokens": 0, "text_tokens": 10},
                    "output_tokens": 30,
                    "total_tokens": 40,
                },
            },
            headers={"x-request-id": "req_fake"},
        )


def _usage(special: Special) -> dict[str, Any]:
    return {**USAGE, **NO_DETAILS, **special.usage} if special.usage else USAGE


def _as_azure(reply: Reply, how: Behaviour) -> Reply:
    """With the results of Azure's content filters, which can end an answer. Special: `content_filter`."""
    results = FILTERS_HIT if how.special == "content_filter" else FILTERS_PASSED

    def with_results(choice: dict[str, Any]) -> dict[str, Any]:
        if how.special == "content_filter" and choice["finish_reason"] is not None:
            choice = {**choice, "finish_reason": "content_filter"}
        return {**choice, "content_filter_results": results if choice["finish_reason"] else FILTERS_PASSED}

    headers = {**reply.headers, "apim-request-id": "apim_fake", "x-ms-region": "Sweden Central"}
    if reply.chunks is None:
        body = json.loads(reply.body)
        choices = [with_results(choice) for choice in body["choices"]]
        body |= {"choices": choices, "prompt_filter_results": PROMPT_FILTERS}
        return replace(reply, body=json.dumps(body).encode(), headers=headers)
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": PROMPT_FILTERS}
    items = [first, *_items(reply)]
    for item in items:
        item["choices"] = [with_results(choice) for choice in item["choices"]]
    return replace(sse(items, how), headers=headers)


def _azure_refusal(how: Behaviour) -> Reply:
    """Of a prompt that Azure's filters stop."""
    error = {
        "message": how.message,
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": how.status,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": FILTERS_HIT},
    }
    headers = {**dict(how.headers), "apim-request-id": "apim_fake", "x-ms-region": "Sweden Central"}
    return Reply.of({"error": error}, status=how.status, headers=headers)


MISTRAL = ("mistral-", "magistral-")


def _as_mistral(reply: Reply, how: Behaviour) -> Reply:
    """Without a fingerprint; usage is part of a stream's last chunk. Special: `thinking` (a Magistral's)."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}
    if reply.chunks is None:
        body = json.loads(reply.body)
        del body["system_fingerprint"]
        if how.special == "thinking":
            for choice in body["choices"]:
                choice["message"]["content"] = [thinking, {"type": "text", "text": TEXT}]
        return replace(reply, body=json.dumps(body).encode(), headers={})
    items = [item for item in _items(reply) if item["choices"]]
    items[-1]["usage"] = USAGE
    if how.special == "thinking":
        items.insert(0, {**items[0], "choices": [{"index": 0, "delta": {"role": "assistant", "content": [thinking]}}]})
    return sse(items, how)


def _items(reply: Reply) -> list[dict[str, Any]]:
    """What a stream of ours says, but its end."""
    return [json.loads(chunk.removeprefix(b"data: ")) for chunk in (reply.chunks or [])[:-1]]


ROUTES = frozenset({"/chat/completions", "/completions", "/embeddings", "/images/generations"})
