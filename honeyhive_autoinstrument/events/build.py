"""build_event(facts, ...) -> Event and session_row(session, ...) -> SessionRow: the one place where Events are made.

Pure. Every bucket passes the Redactor here, so nothing unredacted exists beyond this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from honeyhive_autoinstrument._faults import guarded
from honeyhive_autoinstrument.events.content import without_content
from honeyhive_autoinstrument.events.facts import CallFacts, Ending, ErrorFacts, Session
from honeyhive_autoinstrument.events.fields import CONFIG, OWN_METADATA, names_in, names_of_content
from honeyhive_autoinstrument.events.identity import identity_of
from honeyhive_autoinstrument.events.operations import READERS, inputs_of, outputs_of, with_whole_answer
from honeyhive_autoinstrument.events.parameters import PROXY_NAMES, SETTINGS
from honeyhive_autoinstrument.events.request import request_metadata, user_properties_of
from honeyhive_autoinstrument.events.routing import routing_config, routing_metadata
from honeyhive_autoinstrument.events.schema import Event, EventType, SessionRow
from honeyhive_autoinstrument.events.usage import (
    ESTIMATED,
    Price,
    cost_metadata,
    estimated_tokens,
    hidden_params_of,
    token_metadata,
    usage_of,
)
from honeyhive_autoinstrument.events.values import field_of, plain_of, without_blobs, without_vectors
from honeyhive_autoinstrument.redaction import Redactor

SETTING_NAMES = {"stop": "stop_sequences", "max_completion_tokens": "max_output_tokens", "config": "generation_config"}
"""Names that HoneyHive has for a setting (honeyhive_api.md 3.3, Config)."""

TEXTS_IN_CONFIG = names_of_content(CONFIG)
"""Settings that can hold the caller's own words."""

OWN_NAMES = names_in(OWN_METADATA) | {"user_metadata"}
"""Keys of `metadata` that we write. The caller's own of the same name go to `user_metadata`, always: they must not pass for
ours where we have nothing to say (a cost of an unknown model, tokens on a chain)."""

NO_FACTS = frozenset(
    {
        "session_id", "honeyhive_parent_id", "honeyhive_capture_content",
        "_otel_internal", "litellm_parent_otel_span", "llm_api_timing_windows", "_routing_request_tags",
        "kubernetes_pod_routing",
    }
)  # fmt: skip
"""Keys of the caller's metadata that steer the recording and are no facts of the call; and marks that LiteLLM puts there."""


def no_price(models: Sequence[str], provider: str | None, usage: Any, tokens: Mapping[str, int]) -> None:
    """Where nobody knows prices."""


def build_event(
    facts: CallFacts,
    *,
    source: str,
    redactor: Redactor,
    capture_content: bool = True,
    capture_headers: bool = False,
    price: Price = no_price,
) -> Event:
    """The Event of an ended Call. A part that cannot be read is left out and counted as a Fault; the rest is sent.

    :param capture_content: whether texts of the caller's and the model's are recorded; else their lengths.
    :param capture_headers: whether the provider's response headers are recorded, those on the allow-list.
    """
    config: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    user_properties: dict[str, Any] = {}
    provider: str | None = None
    with guarded("put a stream together"):
        facts = with_whole_answer(facts)
    with guarded("find a call's provider"):
        provider = _provider(facts)
    with guarded("read the settings of a call"):
        config = redactor.value(_config(facts, provider))
    with guarded("read the inputs of a call"):
        inputs = redactor.value(inputs_of(facts))
    with guarded("read the outputs of a call"):
        outputs = redactor.value(outputs_of(facts))
    with guarded("read the metadata of a call"):
        own = _own_metadata(facts, provider, capture_headers, price)
        if outputs.get("finish_reason"):
            own["finish_reason"] = str(outputs["finish_reason"])
        if facts.is_stream and not facts.is_chain and own.get("usage_source") is None:
            with guarded("estimate the usage of a stream"):
                own.update(_estimate(facts, inputs, outputs))
        metadata = redactor.value(_with_callers(own, facts, capture_content))
    with guarded("read the user of a call"):
        user_properties = redactor.value({**_plain(facts.place.user_properties), **user_properties_of(facts)})
    error = facts.error.type_name if facts.error is not None else None
    with guarded("read the text of an error"):
        error = _error_text(facts, redactor, capture_content)
    if not capture_content:
        inputs, outputs = without_content(inputs), without_content(outputs)
        texts = {name: config.pop(name) for name in TEXTS_IN_CONFIG if name in config}
        config.update(without_content(texts))
        for name in TEXTS_IN_METADATA:
            metadata.pop(name, None)
    if READERS[facts.operation].is_chat:
        inputs.setdefault("chat_history", [])
        outputs.setdefault("role", "assistant")
        config.setdefault("model", "unknown")
    event = replace(
        bare_event(facts, source=source),
        config=config,
        inputs=inputs,
        outputs=outputs,
        error=error,
        metadata=metadata,
        user_properties=user_properties,
    )
    with guarded("add to a call"):
        return with_additions(event, facts.added, redactor)
    return event


ADDED_TO = ("metadata", "metrics", "feedback", "user_properties")


def with_additions(event: Event, added: Mapping[str, Mapping[str, Any]], redactor: Redactor) -> Event:
    """The Event, and what the application adds to its buckets beside what is there; it replaces nothing of ours."""
    changed: dict[str, Any] = {}
    for name in ADDED_TO:
        values = redactor.value(plain_of(added[name])) if added.get(name) else {}
        if not values:
            continue
        if name == "metadata":
            values = beside_ours(values, event.metadata.get("user_metadata") or {})
        changed[name] = {**getattr(event, name), **values}
    return replace(event, **changed) if changed else event


def beside_ours(metadata: dict[str, Any], users: Mapping[str, Any]) -> dict[str, Any]:
    """The application's metadata, with keys that are ours under `user_metadata`.

    :param users: what stands there already.
    """
    collided = {key: value for key, value in metadata.items() if key in OWN_NAMES}
    if not collided:
        return metadata
    kept = {key: value for key, value in metadata.items() if key not in OWN_NAMES}
    return {**kept, "user_metadata": {**users, **collided}}


def bare_event(facts: CallFacts, *, source: str) -> Event:
    """What is left when an Event cannot be built: that the call was made, when, how long it took and how it ended."""
    is_chat = READERS[facts.operation].is_chat
    return Event(
        event_id=facts.event_id,
        session_id=facts.place.session.id,
        parent_id=facts.parent_id,
        event_type=_event_type(facts),
        event_name=facts.name,
        source=source,
        start_time=facts.started_ms,
        end_time=facts.ended_ms,
        duration=round(facts.ended_ms - facts.started_ms, 3),
        config={"model": "unknown"} if is_chat else {},
        inputs={"chat_history": []} if is_chat else {},
        outputs={"role": "assistant"} if is_chat else {},
        error=facts.error.type_name if facts.error is not None else None,
        metadata={"operation_name": facts.operation.value, "ending": facts.ending.value},
    )


TEXTS_IN_METADATA = names_of_content(OWN_METADATA)
"""Facts that hold the caller's or the model's words, and nothing else that matters without them."""


def _event_type(facts: CallFacts) -> EventType:
    if facts.is_chain:
        return EventType.CHAIN
    return EventType.TOOL if facts.is_tool else EventType.MODEL


def _estimate(facts: CallFacts, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    """Nobody counted (a stream that broke off, or a provider that does not): by length, where a word came at all."""
    if not (outputs.get("content") or outputs.get("text") or outputs.get("tool_calls") or outputs.get("reasoning")):
        return {}
    return {**estimated_tokens(inputs, outputs), "usage_source": ESTIMATED}


def session_row(session: Session, *, source: str, attributes: Mapping[str, str], redactor: Redactor) -> SessionRow:
    """The row of a Session; it is created before or with its first Events."""
    name, metadata, user_properties = "session", {}, {}
    with guarded("name a session"):
        name = redactor.text(session.name) or name
    with guarded("describe a session"):
        given: dict[str, Any] = dict(attributes)
        given.update(_plain(session.metadata))
        if session.original_id is not None:
            given["original_session_id"] = session.original_id
        metadata = redactor.value(given)
    with guarded("describe a session's user"):
        user_properties = redactor.value(plain_of(session.user_properties))
    return SessionRow(
        session_id=session.id,
        session_name=name,
        source=source,
        start_time=round(session.started_ms, 3),
        metadata=metadata,
        user_properties=user_properties,
    )


def _config(facts: CallFacts, provider: str | None) -> dict[str, Any]:
    arguments = facts.arguments
    config: dict[str, Any] = {}
    model = arguments.get("model") or field_of(facts.result, "model")
    if model:
        config["model"] = str(model)
    if provider:
        config["provider"] = provider
    if facts.routing is not None:
        config.update(routing_config(facts))
    for name, value in arguments.items():
        if value is not None and name in SETTINGS:
            config[SETTING_NAMES.get(name, name)] = without_blobs(plain_of(value))
    for name in ("tools", "functions"):
        if arguments.get(name):
            config[name] = plain_of(arguments[name])
    return config


def _provider(facts: CallFacts) -> str | None:
    candidates = (
        field_of(hidden_params_of(facts.result), "custom_llm_provider"),
        field_of(facts.hidden, "custom_llm_provider"),
        facts.arguments.get("custom_llm_provider"),
        *(field_of(field_of(chunk, "_hidden_params"), "custom_llm_provider") for chunk in facts.chunks[:1]),
        facts.error.provider if facts.error is not None else None,
        facts.provider,
    )
    return next((each for each in candidates if isinstance(each, str) and each), None)


def _own_metadata(facts: CallFacts, provider: str | None, capture_headers: bool, price: Price) -> dict[str, Any]:
    own: dict[str, Any] = {**facts.attributes}
    if not facts.is_chain:
        usage: Any = None
        tokens: dict[str, Any] = {}
        with guarded("read usage"):
            usage, usage_source = usage_of(facts, provider)
            tokens = token_metadata(usage, facts.operation)
            own.update(tokens)
            own["usage_source"] = usage_source
        with guarded("read cost"):
            own.update(cost_metadata(facts, provider, usage, tokens, price))
    with guarded("read the response's identity"):
        own.update(identity_of(facts, provider, capture_headers=capture_headers))
    with guarded("read the request to the Proxy"):
        own.update(request_metadata(facts, capture_headers=capture_headers))
    with guarded("read the attempt"):
        own.update(routing_metadata(facts))
    with guarded("read the error"):
        own.update(_error_metadata(facts))
    with guarded("read the raw request"):
        own.update(_raw(facts))
    if facts.is_stream:
        own["stream_ending"] = facts.ending.value
        own["stream_chunks"] = len(facts.chunks)
        own["time_to_first_token_ms"] = facts.time_to_first_token_ms
    if facts.ending in (Ending.CANCELLED, Ending.FAILED):
        own["ending"] = facts.ending.value
    if facts.place.session.original_id is not None:
        own["original_session_id"] = facts.place.session.original_id
    own["trace_id"], own["span_id"] = facts.place.trace_id, facts.place.span_id
    return {name: value for name, value in own.items() if value is not None}


def _with_callers(own: dict[str, Any], facts: CallFacts, capture_content: bool) -> dict[str, Any]:
    """Our facts, and the caller's own metadata beside them."""
    metadata: dict[str, Any] = {}
    with guarded("read the caller's metadata"):
        callers = {**_callers_metadata(facts), **_plain(facts.place.metadata)}
        metadata.update(callers if capture_content else without_content(callers, kept=frozenset()))
        metadata.update(facts.place.experiment)
    ours = OWN_NAMES if facts.proxy is None else OWN_NAMES | PROXY_NAMES
    collided = {name: metadata.pop(name) for name in list(metadata) if name in ours or name in facts.attributes}
    if collided:
        metadata["user_metadata"] = collided
    return {**metadata, **own}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain_of(value) for name, value in values.items()}


def _callers_metadata(facts: CallFacts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("litellm_metadata", "metadata"):
        bucket = facts.arguments.get(name)
        if isinstance(bucket, dict):
            found.update({key: plain_of(value) for key, value in bucket.items() if key not in NO_FACTS})
    return found


def _error_metadata(facts: CallFacts) -> dict[str, Any]:
    error = facts.error
    if error is None:
        return {}
    return {
        "error_type": error.type_name,
        "error_module": error.module,
        "error_code": None if error.code == str(error.status_code) else error.code,
        "status_code": error.status_code,
        "retry_after_s": _seconds(error.retry_after),
        "error_debug_info": error.debug_info,
    }


def _seconds(retry_after: str | None) -> float | None:
    """`retry-after` in seconds. Some servers send a date; what is left of the wait then, only they know."""
    try:
        return None if retry_after is None else float(retry_after)
    except ValueError:
        return None


def _raw(facts: CallFacts) -> dict[str, Any]:
    requests = facts.requests
    if requests is None:
        return {}
    found: dict[str, Any] = {"provider_requests": requests.count if requests.count > 1 else None}
    if requests.raw_body is not None:
        found["raw_request"] = {"url": requests.raw_url, "body": _json_of(requests.raw_body)}
    if requests.raw_response is not None:
        found["raw_response"] = _json_of(requests.raw_response)
    return found


def _json_of(raw: Any) -> Any:
    """What was sent or came back, as JSON where it is the text of some."""
    if isinstance(raw, str | bytes):
        try:
            raw = orjson.loads(raw)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return raw if isinstance(raw, str) else plain_of(raw)
    return without_blobs(without_vectors(plain_of(raw)))


def _error_text(facts: CallFacts, redactor: Redactor, capture_content: bool) -> str | None:
    error: ErrorFacts | None = facts.error
    if error is None:
        return None
    if not capture_content or not error.message:
        return error.type_name
    return f"{error.type_name}: {redactor.text(error.message)}"
