"""Google's wire: `generateContent` and its stream, embeddings, and the OAuth token that Vertex AI wants before.

Written after Google's published references: the Gemini API (`/v1beta/models/<model>:generateContent`), Vertex AI
(`/v1/projects/<p>/locations/<l>/publishers/google/models/<model>:generateContent`) and OAuth 2.0 for service accounts.
"""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.server import Reply, Request
from tests.fakes.wires import TEXT, USAGE, WORDS, Behaviour, served_as, sse

TOKEN_ROUTE = "/google/token"
THOUGHT = "The user wants a greeting."
THOUGHT_TOKENS = 5
CACHED_TOKENS = 4
SIGNATURE = "c2lnbmF0dXJl"
METHODS = frozenset({"generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents", "predict"})
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
GROUNDING: dict[str, Any] = {
    "webSearchQueries": ["greeting in English"],
    "groundingChunks": [{"web": {"uri": "https://greetings.example/hello", "title": "greetings.example"}}],
    "groundingSupports": [
        {"segment": {"startIndex": 0, "endIndex": 5, "text": "Hello"}, "groundingChunkIndices": [0]},
    ],
}
SAFE = [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}]
UNSAFE = [{"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}]


class GeminiWire:
    """Routes that end in `models/<model>:<method>`, and the token endpoint.

    Specials: `thinking`, `grounding`, `cache`, `blocked` (the answer), `prompt_blocked` (the question).
    """

    def model_of(self, request: Request) -> str | None:
        path = request.path.partition("?")[0]
        if path == TOKEN_ROUTE:
            return ""
        name, _, method = path.rpartition(":")
        if method not in METHODS or "/models/" not in name:
            return None
        return name.rpartition("/models/")[2]

    def error(self, how: Behaviour) -> Reply:
        error = {"code": how.status, "message": how.message, "status": STATUSES.get(how.status, "UNKNOWN")}
        return Reply.of({"error": error}, status=how.status, headers=dict(how.headers))

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply:
        path = request.path.partition("?")[0]
        if path == TOKEN_ROUTE:
            return Reply.of({"access_token": "ya29.fake", "expires_in": 3599, "token_type": "Bearer"})
        method = path.rpartition(":")[2]
        if method == "generateContent":
            return Reply.of(self._whole(request.json, model, how))
        if method == "streamGenerateContent":
            pieces = self._pieces(model, how)
            if "alt=sse" in request.path:
                return sse(pieces, how, end=b"")
            return Reply(body=json.dumps(pieces).encode())
        return self._embeddings(request.json, method)

    def _whole(self, body: dict[str, Any], model: str, how: Behaviour) -> dict[str, Any]:
        if how.special == "prompt_blocked":
            return self._blocked_prompt(model)
        settings = body.get("generationConfig") or {}
        count = settings.get("candidateCount") or settings.get("candidate_count") or 1  # both are JSON names to Google
        reason = "SAFETY" if how.special == "blocked" else "STOP"
        candidates = [self._candidate(index, self._parts(how), reason, how) for index in range(count)]
        return self._response(model, candidates, self._usage(how))

    def _pieces(self, model: str, how: Behaviour) -> list[dict[str, Any]]:
        """Counts come with every piece; those of the answer grow."""
        if how.special == "prompt_blocked":
            return [self._blocked_prompt(model)]
        parts = self._parts(how, is_stream=True)
        early = {"promptTokenCount": USAGE["prompt_tokens"], "totalTokenCount": USAGE["prompt_tokens"]}
        pieces = [
            self._response(model, [{"content": {"parts": [part], "role": "model"}, "index": 0}], early)
            for part in parts[:-1]
        ]
        reason = "SAFETY" if how.special == "blocked" else "STOP"
        last = self._candidate(0, parts[-1:], reason, how)
        return [*pieces, self._response(model, [last], self._usage(how))]

    def _parts(self, how: Behaviour, *, is_stream: bool = False) -> list[dict[str, Any]]:
        if how.special == "blocked":
            return []
        parts: list[dict[str, Any]] = []
        if how.special == "thinking":
            parts.append({"text": THOUGHT, "thought": True})
        if how.tool_calls:
            parts += [
                {"functionCall": {"name": call["function"]["name"], "args": json.loads(call["function"]["arguments"])}}
                for call in how.tool_calls
            ]
        else:
            parts += [{"text": word} for word in (WORDS if is_stream else (TEXT,))]
        if how.special == "thinking":
            first_of_answer = parts[1]
            first_of_answer["thoughtSignature"] = SIGNATURE
        return parts

    def _candidate(self, index: int, parts: list[dict[str, Any]], reason: str, how: Behaviour) -> dict[str, Any]:
        candidate: dict[str, Any] = {"finishReason": reason, "index": index}
        if parts:
            candidate["content"] = {"parts": parts, "role": "model"}
        candidate["safetyRatings"] = UNSAFE if reason == "SAFETY" else SAFE
        if how.special == "grounding":
            candidate["groundingMetadata"] = GROUNDING
        return candidate

    def _usage(self, how: Behaviour) -> dict[str, Any]:
        prompt, answer = USAGE["prompt_tokens"], USAGE["completion_tokens"]
        usage: dict[str, Any] = {
            "promptTokenCount": prompt,
            "candidatesTokenCount": answer,
            "totalTokenCount": prompt + answer,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
        }
        if how.special == "thinking":
            usage["thoughtsTokenCount"] = THOUGHT_TOKENS
            usage["totalTokenCount"] += THOUGHT_TOKENS
        if how.special == "cache":
            usage["cachedContentTokenCount"] = CACHED_TOKENS
            usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": CACHED_TOKENS}]
        if how.special == "blocked":
            del usage["candidatesTokenCount"]
            usage["totalTokenCount"] = prompt
        return usage

    def _blocked_prompt(self, model: str) -> dict[str, Any]:
        response = self._response(
            model, [], {"promptTokenCount": USAGE["prompt_tokens"], "totalTokenCount": USAGE["prompt_tokens"]}
        )
        del response["candidates"]
        return {**response, "promptFeedback": {"blockReason": "SAFETY", "safetyRatings": UNSAFE}}

    def _response(self, model: str, candidates: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "candidates": candidates,
            "usageMetadata": usage,
            "modelVersion": served_as(model),
            "responseId": "gemini-fake",
        }

    def _embeddings(self, body: dict[str, Any], method: str) -> Reply:
        vector = [0.25, 0.5, 0.75]
        if method == "predict":
            statistics = {"truncated": False, "token_count": 2}
            predictions = [{"embeddings": {"values": vector, "statistics": statistics}} for _ in body["instances"]]
            return Reply.of({"predictions": predictions, "metadata": {"billableCharacterCount": 8}})
        if method == "embedContent":
            return Reply.of({"embedding": {"values": vector}})
        return Reply.of({"embeddings": [{"values": vector} for _ in body["requests"]]})
