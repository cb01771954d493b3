"""How each recorded function is called against FakeProvider: one row per public function and Router method."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from tests.fakes.provider import KEY, FakeProvider

LITELLM_VERSION = tuple(int(part) for part in metadata.version("litellm").split(".")[:2])
MESSAGES = [{"role": "user", "content": "Say hello."}]
MODELS = {
    "chat": "openai/gpt-4o-mini",
    "text": "text-completion-openai/gpt-3.5-turbo-instruct",
    "embedding": "openai/text-embedding-3-small",
    "image": "openai/dall-e-3",
}
CONTENT: dict[str, tuple[str, Any]] = {
    "chat": ("messages", MESSAGES),
    "text": ("prompt", "Say hello."),
    "embedding": ("input", ["red", "green"]),
    "image": ("prompt", "a cat"),
}


@dataclass(frozen=True)
class Function:
    """A recorded function: its public name and what kind of work it does."""

    name: str
    kind: str

    @property
    def is_async(self) -> bool:
        return self.name.startswith("a")

    @property
    def can_stream(self) -> bool:
        return self.kind in ("chat", "text")

    @property
    def provider_model(self) -> str:
        """The model as the provider sees it."""
        return MODELS[self.kind].partition("/")[2]

    def arguments(self, provider: FakeProvider) -> dict[str, Any]:
        name, content = CONTENT[self.kind]
        return {
            "model": MODELS[self.kind],
            name: content,
            "api_base": provider.base,
            "api_key": KEY,
            "max_retries": 0,
        }

    def positional(self) -> tuple[Any, ...]:
        """The arguments that people give by position."""
        _, content = CONTENT[self.kind]
        first_is_content = self.kind in ("text", "image")
        return (content, MODELS[self.kind]) if first_is_content else (MODELS[self.kind], content)


FUNCTIONS = (
    Function("completion", "chat"),
    Function("acompletion", "chat"),
    Function("text_completion", "text"),
    Function("atext_completion", "text"),
    Function("embedding", "embedding"),
    Function("aembedding", "embedding"),
    Function("image_generation", "image"),
    Function("aimage_generation", "image"),
)
POSITIONAL = tuple(
    # LiteLLM itself reads the first positional argument of these two as the model, and then hands it on as the prompt.
    function
    for function in FUNCTIONS
    if function.name not in ("atext_completion", "aimage_generation")
)
ROUTED = tuple(
    # The Router's sync image_generation fails by itself up to 1.60: it hands a coroutine to code that wants a response.
    function
    for function in FUNCTIONS
    if function.name != "image_generation" or LITELLM_VERSION >= (1, 74)
)
STREAMING = tuple(function for function in FUNCTIONS if function.can_stream)


def names(functions: tuple[Function, ...]) -> list[str]:
    return [function.name for function in functions]


def read_out(result: Any, *, is_stream: bool = False) -> Any:
    """What a call returned, awaited where it is a coroutine; a stream as the list of its chunks."""
    if asyncio.iscoroutine(result):
        return asyncio.run(_awaited(result))
    return list(result) if is_stream else result


async def _awaited(coroutine: Any) -> Any:
    result = await coroutine
    return [chunk async for chunk in result] if hasattr(type(result), "__anext__") else result
