"""What the loaded LiteLLM knows itself: its version, a model's provider, the price of a usage. For worker threads.

LiteLLM's cost function prints to stdout for a model that it does not know, and may ask the network about it; it is only
called for models that its own price table lists (litellm_map.md 4.4). Its first call takes most of a second.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any


def price_of_usage(model: str, provider: str | None, usage: Any) -> float | None:
    """US dollars for a usage object of LiteLLM's, or None if LiteLLM has no price for the model.

    :raises Exception: whatever LiteLLM raises; the caller guards.
    """
    litellm = sys.modules.get("litellm")
    if litellm is None or usage is None:
        return None
    prices = litellm.model_cost
    known = next((name for name in (f"{provider}/{model}", model) if name in prices), None)
    if known is None:
        return None
    prompt_cost, completion_cost = litellm.cost_per_token(
        model=model,
        custom_llm_provider=provider or prices[known].get("litellm_provider"),
        usage_object=usage,
    )
    return float(prompt_cost) + float(completion_cost)


def provider_of(model: str) -> str | None:
    """The provider that a model's name stands for: its prefix, or what LiteLLM's price table says of it."""
    litellm = sys.modules.get("litellm")
    if litellm is None:
        return None
    prefix, slash, _ = model.partition("/")
    if slash and prefix in litellm.provider_list:
        return prefix
    known = litellm.model_cost.get(model)
    return known.get("litellm_provider") if known else None


def credentials_of_library() -> list[tuple[str, Any]]:
    """Keys set on LiteLLM itself (`litellm.api_key`, `litellm.openai_key`, `litellm.headers`, the credential list), as
    names and values."""
    litellm = sys.modules.get("litellm")
    found: list[tuple[str, Any]] = []
    for name, value in list(vars(litellm).items()) if litellm is not None else ():
        if value and type(value) in (str, dict, list) and (name.endswith("_key") or name in LIBRARY_CREDENTIALS):
            found.append((name, value))
    return found


LIBRARY_CREDENTIALS = frozenset({"headers", "credential_list"})


def library_version() -> str | None:
    """The version of the LiteLLM that is loaded, from its distribution's metadata."""
    try:
        return metadata.version("litellm")
    except metadata.PackageNotFoundError:
        return None
