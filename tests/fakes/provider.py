"""FakeProvider: LLM services on loopback, in their real wire formats, with streams and errors on demand."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

from tests.fakes.server import RESET, Reply, Request, Server
from tests.fakes.wires import KEY, TEXT, USAGE, WORDS, Behaviour, Wire, served_as
from tests.fakes.wires.anthropic import AnthropicWire
from tests.fakes.wires.bedrock import BedrockWire
from tests.fakes.wires.cohere import CohereWire
from tests.fakes.wires.gemini import GeminiWire
from tests.fakes.wires.lookups import LookupWire
from tests.fakes.wires.ollama import OllamaWire
from tests.fakes.wires.openai import OpenAIWire
from tests.fakes.wires.openai_media import MediaWire
from tests.fakes.wires.openai_responses import ResponsesWire

__all__ = ["KEY", "TEXT", "USAGE", "WORDS", "Behaviour", "FakeProvider", "served_as"]

WIRES: tuple[Wire, ...] = (
    AnthropicWire(),
    BedrockWire(),
    OpenAIWire(),
    ResponsesWire(),
    MediaWire(),
    GeminiWire(),
    CohereWire(),
    OllamaWire(),
    LookupWire(),
)


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
        """Bodies of the requests so far, those that ask for something."""
        with self.lock:
            requests = [request for request in self.requests if request.method == "POST"]
        return [request.json for request in requests if "urlencoded" not in request.headers.get("content-type", "")]

    def answer(self, request: Request) -> Reply:
        for wire in WIRES:
            model = wire.model_of(request)
            if model is not None:
                break
        else:
            return Reply.of({"error": {"message": f"no route {request.path}"}}, status=404)
        with self.lock:
            plan = self._plans[model]
            how = plan.popleft() if plan else self._always.get(model, Behaviour())
        if how.reset:
            return RESET
        reply = wire.error(how) if how.status != 200 else wire.answer(request, model, how)
        if how.hold is not None and reply.chunks is None:
            how.hold.wait(20)
        return reply
