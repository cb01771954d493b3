"""Structure without text, for CAPTURE_CONTENT=false: what an event shows of words that it may not show. Pure."""

from __future__ import annotations

from typing import Any

KEPT_TEXTS = frozenset({"role", "type", "id", "tool_call_id", "finish_reason"})
KEPT_WORDS = frozenset({"auto", "none", "required", "any", "text", "json_object", "json_schema"})
"""Values of `tool_choice`, `function_call` and `response_format` that are the API's, not the caller's."""


def without_content(value: Any, kept: frozenset[str] = KEPT_TEXTS) -> Any:
    """Structure without text: roles, kinds, ids and reasons stay, every other text becomes its length.

    :param kept: fields whose text stays; none of them in what is the caller's own (metadata).
    """
    if isinstance(value, dict):
        bare: dict[str, Any] = {}
        for key, item in value.items():
            name = key if is_name(key) else f"[{len(key)} characters]"
            if isinstance(item, str) and key not in kept and not (key in WORDS_IN_CONFIG and item in KEPT_WORDS):
                # The key stays, since readers tell shapes by it; a message needs its content, a call its arguments.
                bare[name] = "" if key in ("name", "arguments") else None
                bare[f"{name}_length"] = len(item)
            else:
                bare[name] = without_content(item, kept)
        return bare
    if isinstance(value, list):
        if value and all(type(item) is int for item in value):
            return [{"length": len(value)}]  # token ids
        return [{"length": len(item)} if isinstance(item, str) else without_content(item, kept) for item in value]
    return value


WORDS_IN_CONFIG = frozenset({"tool_choice", "function_call", "response_format"})


def is_name(key: str) -> bool:
    """Whether a key names a field. Others can be the caller's words."""
    return len(key) <= 64 and key.replace("-", "_").replace(".", "_").isidentifier()
