"""Ollama's wire: `/api/chat` and `/api/generate` with streams of JSON lines, `/api/show`, `/api/embed`.

Written after Ollama's published API reference.
"""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.server import Reply, Request
from tests.fakes.wires import TEXT, USAGE, WORDS, Behaviour

THOUGHT = "A greeting is wanted."
CREATED = "2025-11-01T10:00:00.000000Z"
ROUTES = frozenset({"/api/chat", "/api/generate", "/api/show", "/api/embed"})


class OllamaWire:
    """Routes below `/api`. Special: `thinking`."""

    def model_of(self, request: Request) -> str | None:
        if request.path.partition("?")[0] not in ROUTES:
            return None
        body = request.json
        return str(body.get("model") or body.get("name") or "")

    def error(self, how: Behaviour) -> Reply:
        return Reply.of({"error": how.message}, status=how.status, headers=dict(how.headers))

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply:
        path, body = request.path.partition("?")[0], request.json
        if path == "/api/show":
            return self._show(how)
        if path == "/api/embed":
            return self._embed(body)
        is_chat = path == "/api/chat"
        if not body.get("stream", True):  # a stream is what Ollama sends to who does not say
            return Reply.of(self._piece(model, is_chat, self._whole(how), is_done=True))
        pieces = [self._piece(model, is_chat, message) for message in self._pieces(how)]
        pieces.append(self._piece(model, is_chat, {"content": ""}, is_done=True))
        return Reply(
            content_type="application/x-ndjson",
            chunks=[json.dumps(piece).encode() + b"\n" for piece in pieces],
            reset_after=how.cut_after,
            wait_between=how.hold,
        )

    def _whole(self, how: Behaviour) -> dict[str, Any]:
        message: dict[str, Any] = {"content": "" if how.tool_calls else TEXT}
        if how.special == "thinking":
            message["thinking"] = THOUGHT
        if how.tool_calls:
            message["tool_calls"] = self._tool_calls(how)
        return message

    def _pieces(self, how: Behaviour) -> list[dict[str, Any]]:
        pieces: list[dict[str, Any]] = []
        if how.special == "thinking":
            half = len(THOUGHT) // 2
            pieces += [{"content": "", "thinking": text} for text in (THOUGHT[:half], THOUGHT[half:])]
        if how.tool_calls:
            return [*pieces, *({"content": "", "tool_calls": [call]} for call in self._tool_calls(how))]
        return [*pieces, *({"content": word} for word in WORDS)]

    def _tool_calls(self, how: Behaviour) -> list[dict[str, Any]]:
        return [
            {
                "function": {
                    "index": index,
                    "name": call["function"]["name"],
                    "arguments": json.loads(call["function"]["arguments"]),
                }
            }
            for index, call in enumerate(how.tool_calls or ())
        ]

    def _piece(self, model: str, is_chat: bool, message: dict[str, Any], *, is_done: bool = False) -> dict[str, Any]:
        piece: dict[str, Any] = {"model": model, "created_at": CREATED}
        if is_chat:
            piece["message"] = {"role": "assistant", **message}
        else:
            piece["response"] = message["content"]
            if "thinking" in message:
                piece["thinking"] = message["thinking"]
        piece["done"] = is_done
        if is_done:
            piece |= {
                "done_reason": "stop",
                "total_duration": 5_000_000,
                "load_duration": 1_000_000,
                "prompt_eval_count": USAGE["prompt_tokens"],
                "prompt_eval_duration": 2_000_000,
                "eval_count": USAGE["completion_tokens"],
                "eval_duration": 2_000_000,
            }
            if not is_chat:
                piece["context"] = [1, 2, 3]
        return piece

    def _show(self, how: Behaviour) -> Reply:
        return Reply.of(
            {
                "modelfile": "FROM llama",
                "parameters": "",
                "template": "{{ .Prompt }} {{ .Tools }}",
                "details": {
                    "parent_model": "",
                    "format": "gguf",
                    "family": "llama",
                    "families": ["llama"],
                    "parameter_size": "8.0B",
                    "quantization_level": "Q4_K_M",
                },
                "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
                "capabilities": ["completion", "tools", *(["thinking"] if how.special == "thinking" else [])],
            }
        )

    def _embed(self, body: dict[str, Any]) -> Reply:
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        return Reply.of(
            {
                "model": body["model"],
                "embeddings": [[0.25, 0.5, 0.75] for _ in inputs],
                "total_duration": 5_000_000,
                "load_duration": 1_000_000,
                "prompt_eval_count": 4,
            }
        )
