"""LiteLLM's `completion`, replaced by one that returns a ready-made answer: what is left is the instrumentation's cost.

The stub is a closure, never a module attribute, so that no contestant can find and wrap it anywhere but where LiteLLM's
own function was. It has to be put in place before a contestant is switched on.
"""

from __future__ import annotations

from typing import Any

MARKER = "marker-7c1f"
"""Stands once in each prompt; the sink counts it."""

MODEL = "gpt-4o-mini"
ANSWER = ("The measured cost of a call is what remains when the model's own time is taken away. " * 3)[:200]
WORDS = "A prompt of a realistic length, as a service would send it with every call that it makes. "


def prompt_of(length: int) -> list[dict[str, Any]]:
    """Messages with one user message of that many characters."""
    return [{"role": "user", "content": (MARKER + " " + WORDS * (length // len(WORDS) + 1))[:length]}]


def install(stream_lengths: tuple[int, ...] = ()) -> Any:
    """Replace `litellm.completion` and its inner end; `stream=True, max_tokens=n` gives a stream of n chunks.

    :returns: the stub, to see later whether a contestant wrapped it.
    """
    import litellm
    import litellm.main
    from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper

    class ReadyStream(CustomStreamWrapper):
        """A stream whose chunks are there already. LiteLLM's class by name only: OpenInference asks `isinstance`."""

        def __init__(self, chunks: list[Any]) -> None:
            self._chunks = iter(chunks)

        def __iter__(self) -> ReadyStream:
            return self

        def __next__(self) -> Any:
            return next(self._chunks)

    response = litellm.ModelResponse(
        model=MODEL,
        choices=[
            litellm.Choices(finish_reason="stop", index=0, message=litellm.Message(content=ANSWER, role="assistant"))
        ],
        usage=litellm.Usage(prompt_tokens=250, completion_tokens=50, total_tokens=300),
    )
    streams = {length: _chunks(length) for length in stream_lengths}

    def completion(model: Any, messages: Any, **kwargs: Any) -> Any:
        if kwargs.get("stream"):
            return ReadyStream(streams[kwargs["max_tokens"]])
        return response

    litellm.completion = completion
    # From LiteLLM 1.103 on these are two functions, the outer of which calls the inner.
    litellm.main.completion = completion
    return completion


def _chunks(count: int) -> list[Any]:
    from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices

    return [
        ModelResponseStream(
            model=MODEL,
            choices=[
                StreamingChoices(
                    index=0,
                    delta=Delta(content="word " if at < count - 1 else None, role="assistant" if at == 0 else None),
                    finish_reason="stop" if at == count - 1 else None,
                )
            ],
        )
        for at in range(count)
    ]
