"""What a Router did -> metadata and config of its chain and of the Attempts below it. Pure.

Names are LiteLLM's where it has one (`attempted_retries`, `attempted_fallbacks`: its response headers; settings by the names
of the Router's parameters).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from honeyhive_autoinstrument.events.facts import Attempt, CallFacts, RoutingFacts, Selection
from honeyhive_autoinstrument.events.parameters import FALLBACKS
from honeyhive_autoinstrument.events.usage import hidden_params_of
from honeyhive_autoinstrument.events.values import field_of, plain_of


def routing_config(facts: CallFacts) -> dict[str, Any]:
    """How the Router is set up, where this call does not say otherwise; of fallbacks the names of models only."""
    settings = facts.routing.settings if facts.routing is not None else {}
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if name in FALLBACKS:
            found.update(_fallbacks(name, value))
        elif hasattr(value, "model_dump"):
            found[name] = {key: each for key, each in plain_of(value).items() if each is not None}
        else:
            found[name] = plain_of(value)
    for name, given in facts.fallbacks.items():
        found.pop(name, None)  # an empty list, too, takes the Router's place
        if name == "fallbacks":
            found.pop("default_fallbacks", None)
        found.update(_fallbacks(name, given))
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def _fallbacks(name: str, given: Any) -> dict[str, Any]:
    """A group's fallbacks as names. `{"*": [...]}` is where LiteLLM keeps its `default_fallbacks`; a fallback that is a
    dictionary of parameters may hold credentials, and has a model."""
    listed: list[Any] = []
    default: list[Any] = []
    for entry in given if isinstance(given, list | tuple) else ():
        if not isinstance(entry, Mapping) or "model" in entry:
            listed.append(_name_of(entry))
            continue
        for group, targets in entry.items():
            names = [_name_of(each) for each in targets] if isinstance(targets, list | tuple) else [_name_of(targets)]
            if group == "*":
                default += names
            else:
                listed.append({str(group): names})
    return {name: listed, **({"default_fallbacks": default} if default else {})}


def _name_of(target: Any) -> str:
    return str(target.get("model", "?") if isinstance(target, Mapping) else target)


def routing_metadata(facts: CallFacts) -> dict[str, Any]:
    """Of a chain what its Attempts add up to, of an Attempt how it came about."""
    found: dict[str, Any] = {}
    if facts.item is not None:
        found["item"] = facts.item
    if facts.is_request:
        return {}
    if facts.is_chain and not facts.has_attempts:
        found["items"] = facts.attempt_count
    elif facts.is_chain:
        found["attempts"] = facts.attempt_count
        found["deployment_id"] = field_of(hidden_params_of(facts.result), "model_id")
        if facts.routing is not None:
            found.update(_chain(facts.routing, facts.attempt_count))
    if facts.attempt is not None:
        found.update(_attempt(facts.attempt))
        found["cooldown_s"] = facts.cooldown_s
    return found


def _chain(routing: RoutingFacts, attempts: int) -> dict[str, Any]:
    winner = routing.winner
    found: dict[str, Any] = {
        "attempted_retries": routing.retries,
        "attempted_fallbacks": max(0, len(routing.path) - 1),
    }
    if len(routing.path) > 1:
        found["fallback_path"] = list(routing.path)
    if attempts > 1:
        found["total_delay_ms"] = routing.total_delay_ms
    if routing.cooldowns:
        found["cooldowns"] = [
            {"deployment_id": each.deployment_id, "seconds": each.seconds} for each in routing.cooldowns
        ]
    if winner is not None:
        found["winner_attempt"] = winner.number
        if winner.model_group is not None:
            found["model_group"] = winner.model_group
        if winner.deployment_id is not None:
            found["deployment_id"] = winner.deployment_id
    elif routing.selection is not None:
        found["selection"] = _selection(routing.selection)
    return found


def _attempt(attempt: Attempt) -> dict[str, Any]:
    found: dict[str, Any] = {
        "attempt": attempt.number,
        "model_group": attempt.model_group,
        "deployment": attempt.deployment,
        "deployment_id": attempt.deployment_id,
        "delay_ms": attempt.delay_ms,
        "deployment_settings": dict(attempt.settings) or None,
    }
    if attempt.is_retry:
        found["is_retry"] = True
    if attempt.fallback_depth:
        found["is_fallback"] = True
        found["fallback_depth"] = attempt.fallback_depth
        found["fallback_from"] = attempt.fallback_from
        found["fallback_reason"] = attempt.fallback_reason
        found["original_model_group"] = attempt.original_model_group
    if attempt.selection is not None:
        found["selection"] = _selection(attempt.selection) or None
    return found


def _selection(selection: Selection) -> dict[str, Any]:
    found: dict[str, Any] = {
        "healthy": list(selection.healthy),
        "cooled_down": list(selection.cooled_down),
        "excluded": dict(selection.excluded),
        "auto_router": dict(selection.auto_router),
    }
    return {name: value for name, value in found.items() if value}
