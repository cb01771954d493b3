"""Tokens, cost, timings -> metadata of a model event. Pure.

Where they go: honeyhive_api.md 3.3 (counts belong to `metadata`; session sums read them there). Where they come from:
litellm_map.md 4.2 to 4.4. What is not known is left out; what is estimated says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from honeyhive_autoinstrument.events.facts import CallFacts, Operation
from honeyhive_autoinstrument.events.values import field_of, plain_of, without_nothing

PROVIDER, LITELLM, ESTIMATED = "provider", "litellm", "estimated"
"""`usage_source`: the provider counted; LiteLLM did, since the provider sent none; we estimate by the texts' length."""


def usage_of(facts: CallFacts, provider: str | None) -> tuple[Any, str | None]:
    """The usage of a call and who counted; (None, None) if nobody did."""
    if _is_piecewise(facts):
        usage = usage_of_chunks(facts.chunks)
        is_reported = facts.is_usage_reported
        if is_reported is None:  # text completions, and streams that were not read to their end
            is_reported = field_of(facts.arguments.get("stream_options"), "include_usage") is True
        return usage, None if usage is None else PROVIDER if is_reported else LITELLM
    for name in ("usage", "usageMetadata", "usage_metadata"):
        usage = field_of(facts.result, name)
        if counts_anything(usage):
            return usage, LITELLM if (facts.operation, provider) in COUNTED_BY_LITELLM else PROVIDER
    meta = field_of(facts.result, "meta")  # Cohere's rerank
    for name in ("tokens", "billed_units"):
        if counts_anything(field_of(meta, name)):
            return field_of(meta, name), PROVIDER
    return None, None


COUNTED_BY_LITELLM = frozenset({(Operation.EMBEDDING, "gemini")})
"""Answers without a usage, which LiteLLM fills in (llms/vertex_ai/gemini_embeddings, 1.110)."""


def usage_of_chunks(chunks: Sequence[object]) -> Any:
    """Usage of a stream of chunks: the one that a chunk brings, where the caller asked for it with
    `stream_options={"include_usage": True}`, else the one that LiteLLM left on the last content chunk.

    0/0 on a stream means unknown: LiteLLM 1.105 to 1.108 report that where the provider sent none (litellm_map.md 4.3).
    """
    # It comes with the last chunk or shortly before; a stream without any must not be searched to its beginning.
    last = chunks[-USAGE_WITHIN:]
    for chunk in reversed(last):
        usage = field_of(chunk, "usage")
        if counts_anything(usage):
            return usage
    for chunk in reversed(last):
        usage = field_of(field_of(chunk, "_hidden_params"), "usage")
        if counts_anything(usage):
            return usage
    return None


USAGE_WITHIN = 8

PROMPT_NAMES = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count")
COMPLETION_NAMES = ("completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count")
TOTAL_NAMES = ("total_tokens", "totalTokenCount", "total_token_count", "search_units")


def counts_anything(usage: Any) -> bool:
    """Whether a usage says something. All zero says nothing."""
    if usage is None or isinstance(usage, str | int | float):
        return False
    return bool(_first_of(usage, *PROMPT_NAMES, *COMPLETION_NAMES, *TOTAL_NAMES, "seconds"))


def _first_of(usage: Any, *names: str) -> Any:
    """The first that counts something, else the first that is there: LiteLLM fills the names that a provider does not use
    with zero (image edits, 1.110)."""
    found = None
    for name in names:
        value = field_of(usage, name)
        if value:
            return value
        if found is None:
            found = value
    return found


def token_metadata(usage: Any, operation: Operation) -> dict[str, Any]:
    """Token counts under the names that HoneyHive reads; both pairs of names, as its own instrumentation sends them.

    Parts of a count (cached, reasoning, audio, image) only where there are any.
    """
    raw = without_nothing(plain_of(usage))
    if not isinstance(raw, dict) or not raw:
        return {}
    prompt = _count(_first_of(raw, *PROMPT_NAMES))
    completion = _count(_first_of(raw, *COMPLETION_NAMES))
    prompt_details = _details(raw, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    completion_details = _details(raw, "completion_tokens_details", "output_tokens_details", "output_token_details")
    read = _some(prompt_details.get("cached_tokens")) or _some(
        _first_of(raw, "cache_read_input_tokens", "cachedContentTokenCount", "cached_content_token_count")
    )
    written = _some(raw.get("cache_creation_input_tokens")) or _some(
        _first_of(prompt_details, "cache_creation_tokens", "cache_write_tokens")
    )
    reasoning = _some(completion_details.get("reasoning_tokens")) or _some(
        _first_of(raw, "reasoning_tokens", "thoughtsTokenCount", "thoughts_token_count")
    )
    if operation is Operation.MESSAGES and prompt is not None:
        # Anthropic counts what it read from and wrote to its cache apart; LiteLLM's prompt_tokens include it, and so do
        # those of every other provider.
        prompt += (read or 0) + (written or 0)
    if operation is Operation.GENERATE and completion is not None:
        completion += reasoning or 0  # Google counts thoughts apart
    total = _count(_first_of(raw, *TOTAL_NAMES[:3]))
    if not total and prompt is not None and completion is not None:
        total = prompt + completion  # LiteLLM's mock embeddings say 0
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": total,
        "cache_read_input_tokens": read,
        "cache_write_input_tokens": written,
        "reasoning_tokens": reasoning,
        "audio_input_tokens": _some(prompt_details.get("audio_tokens")),
        "audio_output_tokens": _some(completion_details.get("audio_tokens")),
        "image_input_tokens": _some(prompt_details.get("image_tokens")),
        "image_output_tokens": _some(completion_details.get("image_tokens")),
        "search_units": _some(raw.get("search_units")),
    }
    return {**{name: count for name, count in counts.items() if count is not None}, "usage": raw}


def _details(raw: dict[str, Any], *names: str) -> dict[str, Any]:
    """A count's parts, by the first name under which there are any."""
    return next((raw[name] for name in names if isinstance(raw.get(name), dict)), {})


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def _some(value: Any) -> int | None:
    return _count(value) or None


BYTES_PER_TOKEN = 4
"""English text, as OpenAI's help page on tokens gives it; other texts have fewer bytes to a token or more."""


def estimated_tokens(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Counts by the length of the texts, for a stream that ended without any."""
    prompt, completion = _tokens_of(inputs), _tokens_of({**outputs, "role": None, "finish_reason": None})
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _tokens_of(value: Any) -> int:
    return -(-_bytes_of(value) // BYTES_PER_TOKEN)


def _bytes_of(value: Any) -> int:
    if type(value) is str:
        return len(value.encode("utf-8", "replace"))
    if type(value) is dict:
        # A blob has a digest in its place, which nobody is charged for.
        return 0 if "sha256" in value else sum(_bytes_of(item) for key, item in value.items() if key not in NO_TEXT)
    if type(value) is list:
        return sum(_bytes_of(item) for item in value)
    return 0


NO_TEXT = frozenset({"role", "type", "id", "tool_call_id", "choices", "url"})


def is_cache_hit(facts: CallFacts) -> bool:
    """Whether LiteLLM answered from its own cache (litellm_map.md 4.2)."""
    return field_of(hidden_params_of(facts.result), "cache_hit") is True or field_of(facts.hidden, "cache_hit") is True


Price = Callable[[Sequence[str], "str | None", Any, Mapping[str, int]], "tuple[float, float] | None"]
"""(names of the model, the best first; provider; usage; token counts) -> US dollars for input and for output."""


def cost_metadata(
    facts: CallFacts, provider: str | None, usage: Any, tokens: Mapping[str, Any], price: Price
) -> dict[str, Any]:
    """`cost` in US dollars and where it comes from: LiteLLM's with the response, else its price table; a cache hit costs
    nothing. `cost_parts` as LiteLLM has them.

    :param tokens: what `token_metadata` says.
    """
    if is_cache_hit(facts):
        return {"cost": 0.0, "cost_source": "cache", "cache_hit": True}
    cost, parts = _cost_given(facts, usage), facts.requests.cost_parts if facts.requests is not None else None
    if _is_piecewise(facts):
        parts = None  # of a stream they are known some time after its end
    if cost is not None and parts is not None:
        return {"cost": cost, "cost_source": "response", "cost_parts": _parts_of(parts)}
    counts = {name: tokens[name] for name in PRICED if name in tokens}
    prices = None
    if counts and (facts.is_stream or facts.operation in WITHOUT_COST):
        names = [str(name) for name in (facts.arguments.get("model"), _model_of(facts)) if name]
        prices = price(names, provider, usage, counts)
    found: dict[str, Any] = {}
    if cost is not None:
        found = {"cost": cost, "cost_source": "response"}
    elif prices is not None:
        found = {"cost": sum(prices), "cost_source": "price_table"}
    if prices is not None:
        found["cost_parts"] = _parts_of({"input_cost": prices[0], "output_cost": prices[1]})
    return found


def _cost_given(facts: CallFacts, usage: Any) -> float | None:
    """What LiteLLM says that the call cost: with the answer; of a stream with the usage that it leaves (1.109 and later)."""
    cost = (
        field_of(usage, "cost") if _is_piecewise(facts) else field_of(hidden_params_of(facts.result), "response_cost")
    )
    is_known = isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0
    return float(cost) if is_known else None


PRICED = (
    "prompt_tokens", "completion_tokens", "total_tokens", "cache_read_input_tokens", "cache_write_input_tokens",
    "reasoning_tokens", "audio_input_tokens", "audio_output_tokens",
)  # fmt: skip
"""Counts that have prices of their own."""

WITHOUT_COST = frozenset({Operation.MESSAGES, Operation.GENERATE})
"""Operations whose answers are the provider's own, with no place for LiteLLM's cost."""


def _parts_of(parts: Any) -> dict[str, float] | None:
    """The parts of a cost that are not nothing; the total is `cost` itself."""
    if not isinstance(parts, Mapping):
        return None
    return {
        name: value
        for name, value in parts.items()
        if isinstance(value, float | int) and value and name.endswith("_cost") and name not in TOTALS
    } or None


TOTALS = frozenset({"total_cost", "original_cost"})


def _model_of(facts: CallFacts) -> Any:
    model = field_of(facts.result, "model") or field_of(facts.result, "modelVersion")
    return model or next((field_of(chunk, "model") for chunk in facts.chunks[:1]), None)


def _is_piecewise(facts: CallFacts) -> bool:
    """Streams of chunks have a placeholder where the cost would be (litellm_map.md 4.2)."""
    return facts.is_stream and facts.operation in (Operation.CHAT, Operation.TEXT)


def hidden_params_of(response: Any) -> Any:
    """LiteLLM's notes on a response; a dictionary, or a pydantic object on text completions."""
    return field_of(response, "_hidden_params")
