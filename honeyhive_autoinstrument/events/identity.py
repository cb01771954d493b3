"""Who answered, where, under which ids -> metadata. Pure.

Sources: LiteLLM's `_hidden_params` (litellm_map.md 4.2), the fields of the answer, the provider's response headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from honeyhive_autoinstrument.events.facts import CallFacts
from honeyhive_autoinstrument.events.parameters import PROVIDER_PREFIX, REQUEST_ID_HEADERS, RESPONSE_HEADERS
from honeyhive_autoinstrument.events.usage import hidden_params_of
from honeyhive_autoinstrument.events.values import field_of, fields_of


def identity_of(facts: CallFacts, provider: str | None, *, capture_headers: bool) -> dict[str, Any]:
    """Model that served, ids, region, endpoint; with `capture_headers` the provider's headers on the allow-list."""
    response: Any = facts.result
    # Of a stream its own notes: those of its events name another address (Responses, 1.110).
    hidden: Any = facts.hidden if facts.is_stream and facts.hidden else hidden_params_of(response)
    if facts.is_stream and response is None:
        response = facts.chunks[-1] if facts.chunks else None
        hidden = hidden or hidden_params_of(response)
    arguments = facts.arguments
    headers = headers_of(facts, hidden)
    texts = {
        "operation_name": facts.operation.value,
        "call_type": facts.name.rpartition(".")[2],
        "litellm_version": facts.litellm_version,
        "litellm_call_id": field_of(hidden, "litellm_call_id") or arguments.get("litellm_call_id"),
        "litellm_trace_id": arguments.get("litellm_trace_id"),
        "response_model": _served_model(facts, hidden) or _first(facts, response, "model", "modelVersion"),
        "response_id": _first(facts, response, "id", "responseId"),
        "system_fingerprint": _first(facts, response, "system_fingerprint"),
        "service_tier": _first(facts, response, "service_tier")
        or field_of(field_of(response, "usage"), "service_tier"),
        "api_base": field_of(hidden, "api_base") or facts.api_base,
        "provider": provider,
        "region": field_of(hidden, "region_name")
        or arguments.get("aws_region_name")
        or arguments.get("vertex_location")
        or arguments.get("region_name")
        or headers.get("x-ms-region"),
        "provider_request_id": next((headers[name] for name in REQUEST_ID_HEADERS if headers.get(name)), None),
    }
    found: dict[str, Any] = {name: str(value) for name, value in texts.items() if value}
    overhead = field_of(hidden, "litellm_overhead_time_ms")
    if isinstance(overhead, int | float):
        found["litellm_overhead_ms"] = round(float(overhead), 3)
    queued = _queue_time_s(facts)
    if queued is not None:
        found["queue_time_ms"] = round(queued * 1000.0, 3)
    if capture_headers:
        kept = {name: value for name, value in headers.items() if name.startswith(RESPONSE_HEADERS)}
        if kept:
            found["response_headers"] = kept
    return found


def _served_model(facts: CallFacts, hidden: Any) -> Any:
    """The name that the provider gave, where LiteLLM notes it beside its own (1.106 and later)."""
    notes = (hidden, *(field_of(chunk, "_hidden_params") for chunk in reversed(facts.chunks[-LOOK_AT:])))
    return next((name for name in (field_of(each, "provider_response_model") for each in notes) if name), None)


def _first(facts: CallFacts, response: Any, *names: str) -> Any:
    """A field of the answer; on a stream of any chunk, since not all of them carry everything."""
    for name in names:
        found = field_of(response, name)
        if found:
            return found
    if facts.is_stream and facts.result is None:
        for chunk in facts.chunks[:LOOK_AT]:
            for name in names:
                found = field_of(chunk, name)
                if found:
                    return found
    return None


LOOK_AT = 3
"""Chunks at the beginning of a stream that are asked for what the last one does not say."""


def _queue_time_s(facts: CallFacts) -> float | None:
    """The Proxy's note of how long a request waited (litellm_map.md 8.2)."""
    queued = facts.proxy.notes.get("queue_time_seconds") if facts.proxy is not None else None
    return float(queued) if isinstance(queued, int | float) else None


def headers_of(facts: CallFacts, hidden: Any) -> dict[str, str]:
    """The provider's response headers by their own names in lower case."""
    found: dict[str, str] = {}
    errors = facts.error.headers if facts.error is not None else None
    for headers in (errors, field_of(hidden, "headers"), field_of(hidden, "additional_headers")):
        for name, value in dict(headers if isinstance(headers, Mapping) else fields_of(headers)).items():
            own_name = str(name).lower()
            if isinstance(value, str | int | float) and not own_name.startswith("x-litellm-"):
                found[own_name.removeprefix(PROVIDER_PREFIX)] = str(value)
    return found
