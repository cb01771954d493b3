"""Tokens, cost, timings -> metadata of a model event. Pure.

Where they go: honeyhive_api.md 3.3 (counts belong to `metadata`; session sums read them there). Where they come from:
litellm_map.md 4.2 to 4.4. What is not known is left out; nothing is invented.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from honeyhive_autoinstrument.events.facts import CallFacts
from honeyhive_autoinstrument.events.messages import field_of


def usage_of(facts: CallFacts) -> tuple[Any, str | None]:
    """LiteLLM's usage object of a call, and who counted: `provider` or `litellm`; (None, None) if nobody did."""
    if not facts.is_stream:
        usage = field_of(facts.result, "usage")
        return (usage, "provider") if _counts_anything(usage) else (None, None)
    return usage_of_chunks(facts.chunks)


def usage_of_chunks(chunks: Sequence[object]) -> tuple[Any, str | None]:
    """Usage of a stream: of a chunk that the provider sent it with, else what LiteLLM left on the last content chunk.

    0/0 on a stream means unknown: LiteLLM 1.105 to 1.108 report that where the provider sent none (litellm_map.md 4.3).
    """
    # It comes with the last chunk or shortly before; a stream without any must not be searched to its beginning.
    last = chunks[-USAGE_WITHIN:]
    for chunk in reversed(last):
        usage = field_of(chunk, "usage")
        if _counts_anything(usage):
            return usage, "provider"
    for chunk in reversed(last):
        usage = field_of(field_of(chunk, "_hidden_params"), "usage")
        if _counts_anything(usage):
            return usage, "litellm"
    return None, None


USAGE_WITHIN = 8


def _counts_anything(usage: Any) -> bool:
    if usage is None:
        return False
    return bool(
        _first_of(usage, "prompt_tokens", "input_tokens") or _first_of(usage, "completion_tokens", "output_tokens")
    )


def _first_of(usage: Any, *names: str) -> Any:
    return next((value for value in (field_of(usage, name) for name in names) if value is not None), None)


def token_metadata(usage: Any) -> dict[str, Any]:
    """Token counts under the names that HoneyHive reads; both pairs of names, as its own instrumentation sends them."""
    if usage is None:
        return {}
    # Images (gpt-image-1) and Responses count under the second names (litellm_map.md 4.3).
    prompt = _count(_first_of(usage, "prompt_tokens", "input_tokens"))
    completion = _count(_first_of(usage, "completion_tokens", "output_tokens"))
    prompt_details = field_of(usage, "prompt_tokens_details")
    completion_details = field_of(usage, "completion_tokens_details")
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": _count(field_of(usage, "total_tokens")),
        "cache_read_input_tokens": _count(field_of(prompt_details, "cached_tokens"))
        or _count(field_of(usage, "cache_read_input_tokens")),
        "cache_write_input_tokens": _count(field_of(usage, "cache_creation_input_tokens"))
        or _count(field_of(prompt_details, "cache_creation_tokens")),
        "reasoning_tokens": _count(field_of(completion_details, "reasoning_tokens")),
    }
    return {name: count for name, count in counts.items() if count is not None}


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def is_cache_hit(facts: CallFacts) -> bool:
    """Whether LiteLLM answered from its own cache (litellm_map.md 4.2)."""
    return field_of(hidden_params_of(facts.result), "cache_hit") is True


def cost_of(facts: CallFacts) -> float | None:
    """US dollars: of the response where LiteLLM put it, else the price computed afterwards; a cache hit costs nothing."""
    if is_cache_hit(facts):
        return 0.0
    if not facts.is_stream:
        cost = field_of(hidden_params_of(facts.result), "response_cost")
        if isinstance(cost, int | float) and cost > 0:
            return float(cost)
    return facts.cost_usd


def hidden_params_of(response: Any) -> Any:
    """LiteLLM's notes on a response; a dictionary, or a pydantic object on text completions."""
    return field_of(response, "_hidden_params")
