"""What the loaded LiteLLM knows itself: its version, a model's provider, the price of a usage. For worker threads.

LiteLLM's cost function prints to stdout for a model that it does not know, and may ask the network about it; it is only
called for models that its own price table lists (litellm_map.md 4.4). Its first call takes most of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any


def price_of_tokens(
    models: Sequence[str], provider: str | None, usage: Any, tokens: Mapping[str, int]
) -> tuple[float, float] | None:
    """US dollars for input and for output, or None if LiteLLM has no price for any of the names.

    :param models: names of the model, with or without the provider's prefix; the first one that has a price counts.
    :param usage: LiteLLM's own usage object knows most (cache writes for an hour cost more than those for minutes).
    :param tokens: counts by their names in an event's metadata, for a usage of another form.
    :raises Exception: whatever LiteLLM raises; the caller guards.
    """
    litellm = sys.modules.get("litellm")
    if litellm is None:
        return None
    prices = litellm.model_cost
    for model in models:
        bare = model.removeprefix(f"{provider}/") if provider else model
        known = next((name for name in (f"{provider}/{bare}", bare, model) if name in prices), None)
        if known is not None and provider in LOCAL:
            return 0.0, 0.0
        if known is not None:
            prompt_cost, completion_cost = litellm.cost_per_token(
                model=bare,
                custom_llm_provider=provider or prices[known].get("litellm_provider"),
                usage_object=usage if isinstance(usage, litellm.Usage) else _usage_for(litellm, tokens),
            )
            return float(prompt_cost), float(completion_cost)
    return None


LOCAL = frozenset({"ollama", "ollama_chat"})
"""Up to 1.82 LiteLLM asks the server itself (127.0.0.1:11434) about a model's price, which is nothing."""


def _usage_for(litellm: Any, tokens: Mapping[str, int]) -> Any:
    """LiteLLM's usage object with its own names for the counts."""
    read, written = tokens.get("cache_read_input_tokens"), tokens.get("cache_write_input_tokens")
    details: dict[str, Any] = {}
    if "reasoning_tokens" in tokens or "audio_output_tokens" in tokens:
        details["completion_tokens_details"] = {
            "reasoning_tokens": tokens.get("reasoning_tokens"),
            "audio_tokens": tokens.get("audio_output_tokens"),
        }
    if "audio_input_tokens" in tokens or read:
        details["prompt_tokens_details"] = {
            "cached_tokens": read,
            "audio_tokens": tokens.get("audio_input_tokens"),
        }
    return litellm.Usage(
        prompt_tokens=tokens.get("prompt_tokens", 0),
        completion_tokens=tokens.get("completion_tokens", 0),
        total_tokens=tokens.get("total_tokens", 0),
        **({"cache_read_input_tokens": read} if read else {}),
        **({"cache_creation_input_tokens": written} if written else {}),
        **details,
    )


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
    for name, value in vars(litellm).copy().items() if litellm is not None else ():
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


ROUTER_SETTINGS = (
    "routing_strategy", "num_retries", "retry_policy", "model_group_retry_policy", "fallbacks", "context_window_fallbacks",
    "content_policy_fallbacks", "max_fallbacks", "timeout", "stream_timeout", "allowed_fails", "allowed_fails_policy",
    "cooldown_time", "disable_cooldowns", "retry_after", "enable_pre_call_checks", "enable_tag_filtering",
)  # fmt: skip
"""What a Router can be told, by the names of its parameters (router.py, 1.55 to 1.110)."""


def router_settings_of(router: Any) -> dict[str, Any]:
    """How a Router is set up; what it was not told is left out.

    From 1.109 on some settings are in a snapshot, and the Router's own attribute of that name warns when it is read.
    """
    snapshot = router.settings() if hasattr(type(router), "settings") else router
    found: dict[str, Any] = {}
    for name in ROUTER_SETTINGS:
        value = getattr(snapshot, name, _MISSING)
        if value is _MISSING and snapshot is not router:
            value = getattr(router, name, None)
        if value is not _MISSING and value is not None and value is not False and value != [] and value != {}:
            found[name] = getattr(value, "value", value)
    return found


_MISSING = object()


UNLOGGED_HEADERS = ("litellm-enable-message-redaction", "x-litellm-enable-message-redaction")


def is_unlogged(kwargs: Mapping[str, Any]) -> bool:
    """Whether LiteLLM was told not to log a call (`no-log`), or not its texts (`turn_off_message_logging`): by an
    argument, by the Proxy's headers, or for good. Runs in the application's thread, with each call.

    One that protects is enough; LiteLLM lets an argument undo what was set for good (`should_run_callback` in
    litellm_logging.py, `should_redact_message_logging` in redact_messages.py, 1.110.2).
    """
    litellm = sys.modules.get("litellm")
    if getattr(litellm, "turn_off_message_logging", False) is True or kwargs.get("no-log") is True:
        return True
    given = kwargs.get("turn_off_message_logging")
    if given is True or (given is not None and str(given).strip().lower() == "true"):
        return True
    request = kwargs.get("proxy_server_request")
    headers = request.get("headers") if type(request) is dict else None
    return headers is not None and any(headers.get(name) for name in UNLOGGED_HEADERS)
