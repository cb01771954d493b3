"""A request to the LiteLLM Proxy -> metadata and user_properties of every event below it. Pure."""

from __future__ import annotations

from typing import Any

from honeyhive_autoinstrument.events.facts import CallFacts

USER = ("user_id", "user_email", "team_id", "team_alias")


def request_metadata(facts: CallFacts, *, capture_headers: bool) -> dict[str, Any]:
    """Who asks; on the request itself also where, and with what."""
    proxy = facts.proxy
    if proxy is None:
        return {}
    found = dict(proxy.identity)
    if facts.is_request:
        found["route"] = proxy.route
        found["user_agent"] = proxy.user_agent
        found["caller_ip"] = proxy.caller_ip if capture_headers else None
        found["applied_guardrails"] = proxy.notes.get("applied_guardrails") or None
    return found


def user_properties_of(facts: CallFacts) -> dict[str, Any]:
    """The Proxy's user and team; outside it the `user` that the call names."""
    if facts.proxy is not None:
        return {name: facts.proxy.identity[name] for name in USER if name in facts.proxy.identity}
    user = facts.arguments.get("user")
    return {"user_id": str(user)} if user else {}
