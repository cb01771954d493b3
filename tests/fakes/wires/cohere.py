"""Cohere's wire: chat (v2, and v1 as LiteLLM spoke it until 1.74), rerank and embed.

Written after Cohere's published API reference: `/v2/chat` with its events (`message-start` to `message-end`), `/v1/chat`
with its lines of JSON, `/v1/rerank`, `/v2/rerank`, `/v1/embed`, `/v2/embed`.

Events come as server-sent events to who accepts those, else as lines of JSON. LiteLLM accepts `application/json`, and cannot
read the former.
"""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.server import Reply, Request
from tests.fakes.wires import TEXT, USAGE, WORDS, Behaviour

PLAN = "I will look up the weather."
DOCUMENT = {"id": "greetings", "title": "Greetings", "snippet": "People say hello."}
CITATION: dict[str, Any] = {
    "start": 0,
    "end": 5,
    "text": "Hello",
    "sources": [{"type": "document", "id": "greetings", "document": DOCUMENT}],
    "type": "TEXT_CONTENT",
}
V1_CITATION = {"start": 0, "end": 5, "text": "Hello", "document_ids": ["greetings"]}
SCORES = (0.9, 0.5, 0.1)
"""Of the documents in reverse order: the last one is the best."""
ROUTES = frozenset({"/v1/chat", "/v2/chat", "/v1/rerank", "/v2/rerank", "/v1/embed", "/v2/embed"})


class CohereWire:
    """Routes below `/v1` and `/v2` that are no one else's. Special: `citations`."""

    def model_of(self, request: Request) -> str | None:
        if request.path.partition("?")[0] not in ROUTES:
            return None
        return str(request.json.get("model") or "")

    def error(self, how: Behaviour) -> Reply:
        return Reply.of({"message": how.message}, status=how.status, headers=dict(how.headers))

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply:
        path, body = request.path.partition("?")[0], request.json
        if path.endswith("/rerank"):
            return self._rerank(body)
        if path.endswith("/embed"):
            return self._embed(body)
        if path == "/v1/chat":
            return self._v1_stream(how) if body.get("stream") else Reply.of(self._v1_answer(how))
        is_sse = "text/event-stream" in request.headers.get("accept", "")
        return self._stream(how, is_sse=is_sse) if body.get("stream") else self._chat(how)

    @property
    def _usage(self) -> dict[str, Any]:
        """What is billed leaves out what Cohere itself adds to the prompt."""
        prompt, answer = USAGE["prompt_tokens"], USAGE["completion_tokens"]
        return {
            "billed_units": {"input_tokens": prompt - 2, "output_tokens": answer},
            "tokens": {"input_tokens": prompt, "output_tokens": answer},
        }

    def _chat(self, how: Behaviour) -> Reply:
        message: dict[str, Any] = {"role": "assistant"}
        if how.tool_calls:
            message |= {"tool_plan": PLAN, "tool_calls": how.tool_calls}
        else:
            message["content"] = [{"type": "text", "text": TEXT}]
        if how.special == "citations":
            message["citations"] = [CITATION]
        reason = "TOOL_CALL" if how.tool_calls else "COMPLETE"
        return Reply.of({"id": "cohere-fake", "finish_reason": reason, "message": message, "usage": self._usage})

    def _stream(self, how: Behaviour, *, is_sse: bool) -> Reply:
        def piece(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
            item: dict[str, Any] = {"type": kind}
            if index is not None:
                item["index"] = index
            if message:
                item["delta"] = {"message": message}
            return item

        start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        events = [{"type": "message-start", "id": "cohere-fake", "delta": {"message": start}}]
        if how.tool_calls:
            half = len(PLAN) // 2
            events += [piece("tool-plan-delta", tool_plan=text) for text in (PLAN[:half], PLAN[half:])]
            for index, call in enumerate(how.tool_calls):
                arguments = call["function"]["arguments"]
                head = {**call, "function": {"name": call["function"]["name"], "arguments": ""}}
                events.append(piece("tool-call-start", index, tool_calls=head))
                half = len(arguments) // 2
                events += [
                    piece("tool-call-delta", index, tool_calls={"function": {"arguments": text}})
                    for text in (arguments[:half], arguments[half:])
                ]
                events.append(piece("tool-call-end", index))
        else:
            events.append(piece("content-start", 0, content={"type": "text", "text": ""}))
            events += [piece("content-delta", 0, content={"text": word}) for word in WORDS]
            events.append(piece("content-end", 0))
        if how.special == "citations":
            events += [piece("citation-start", 0, citations=CITATION), piece("citation-end", 0)]
        reason = "TOOL_CALL" if how.tool_calls else "COMPLETE"
        events.append({"type": "message-end", "delta": {"finish_reason": reason, "usage": self._usage}})
        if not is_sse:
            return self._lines(events, how)
        chunks = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        chunks.append(b"data: [DONE]\n\n")
        return Reply(content_type="text/event-stream", chunks=chunks, reset_after=how.cut_after, wait_between=how.hold)

    def _lines(self, events: list[dict[str, Any]], how: Behaviour) -> Reply:
        return Reply(
            content_type="application/stream+json",
            chunks=[json.dumps(event).encode() + b"\n" for event in events],
            reset_after=how.cut_after,
            wait_between=how.hold,
        )

    def _v1_answer(self, how: Behaviour) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "response_id": "cohere-fake",
            "generation_id": "generation-fake",
            "text": PLAN if how.tool_calls else TEXT,
            "chat_history": [],
            "finish_reason": "COMPLETE",
            "meta": {"api_version": {"version": "1"}, **self._usage},
        }
        if how.tool_calls:
            answer["tool_calls"] = self._v1_tool_calls(how)
        if how.special == "citations":
            answer |= {"citations": [V1_CITATION], "documents": [DOCUMENT]}
        return answer

    def _v1_tool_calls(self, how: Behaviour) -> list[dict[str, Any]]:
        return [
            {"name": call["function"]["name"], "parameters": json.loads(call["function"]["arguments"])}
            for call in how.tool_calls or ()
        ]

    def _v1_stream(self, how: Behaviour) -> Reply:
        def line(kind: str, **more: Any) -> dict[str, Any]:
            return {"is_finished": kind == "stream-end", "event_type": kind, **more}

        lines = [line("stream-start", generation_id="generation-fake")]
        if how.tool_calls:
            lines.append(line("tool-calls-generation", text=PLAN, tool_calls=self._v1_tool_calls(how)))
        else:
            lines += [line("text-generation", text=word) for word in WORDS]
        if how.special == "citations":
            lines.append(line("citation-generation", citations=[V1_CITATION]))
        lines.append(line("stream-end", finish_reason="COMPLETE", response=self._v1_answer(how)))
        return self._lines(lines, how)

    def _rerank(self, body: dict[str, Any]) -> Reply:
        documents = body["documents"]
        found = [
            {"index": index, "relevance_score": score}
            for index, score in zip(reversed(range(len(documents))), SCORES, strict=False)
        ]
        for each in found:
            if body.get("return_documents"):
                document = documents[each["index"]]
                each["document"] = document if isinstance(document, dict) else {"text": document}
        meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
        return Reply.of({"id": "rerank-fake", "results": found[: body.get("top_n")], "meta": meta})

    def _embed(self, body: dict[str, Any]) -> Reply:
        texts = body["texts"]
        vectors = [[0.25, 0.5, 0.75] for _ in texts]
        is_by_type = bool(body.get("embedding_types"))
        return Reply.of(
            {
                "id": "embed-fake",
                "texts": texts,
                "embeddings": {"float": vectors} if is_by_type else vectors,
                "response_type": "embeddings_by_type" if is_by_type else "embeddings_floats",
                "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 2}},
            }
        )
