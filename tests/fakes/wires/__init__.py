"""How providers speak: one Wire for each format. It knows its routes, answers and errors; FakeProvider knows the plans."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any, Protocol

from tests.fakes.server import Reply, Request

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
    headers: tuple[tuple[str, str], ...] = ()
    """Of an error (`retry-after`)."""
    reset: bool = False
    cut_after: int | None = None
    """Chunks of a stream before the connection breaks."""
    hold: threading.Event | None = None
    """Chunks after the first wait for this, or the whole answer that has none."""
    silence: threading.Event | None = None
    """Nothing is answered before this, no status and no chunk (OpenAI's wire)."""
    tool_calls: list[dict[str, Any]] | None = None
    """In OpenAI's form, whatever the wire; each Wire writes them in its own."""
    special: str | None = None
    """What the provider has that others have not, by a name that its Wire knows (`thinking`, `guardrail`, ...)."""


class Wire(Protocol):
    """One provider's format."""

    def model_of(self, request: Request) -> str | None:
        """The model that a request asks for ("" where it names none); None if the route is not this provider's."""

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply: ...

    def error(self, how: Behaviour) -> Reply: ...


def sse(items: list[dict[str, Any]], how: Behaviour, end: bytes = b"data: [DONE]\n\n") -> Reply:
    """Server-sent events, one `data:` line for each item."""
    chunks = [f"data: {json.dumps(item)}\n\n".encode() for item in items]
    if end:
        chunks.append(end)
    return Reply(content_type="text/event-stream", chunks=chunks, reset_after=how.cut_after, wait_between=how.hold)
