"""build_event(facts, ...) -> Event and session_row(session, ...) -> SessionRow: the one place where Events are made.

Pure. Every bucket passes the Redactor here, so nothing unredacted exists beyond this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from honeyhive_autoinstrument._faults import guarded
from honeyhive_autoinstrument.events.facts import CallFacts, Ending, ErrorFacts, Operation, Session
from honeyhive_autoinstrument.events.messages import field_of, inputs_of, outputs_of, plain_of
from honeyhive_autoinstrument.events.parameters import SETTINGS
from honeyhive_autoinstrument.events.schema import Event, EventType, SessionRow
from honeyhive_autoinstrument.events.usage import cost_of, hidden_params_of, is_cache_hit, token_metadata, usage_of
from honeyhive_autoinstrument.redaction import Redactor

SETTING_NAMES = {"stop": "stop_sequences", "max_completion_tokens": "max_output_tokens"}
"""Names that HoneyHive has for a setting (honeyhive_api.md 3.3, Config)."""

TEXTS_IN_CONFIG = frozenset(
    {"tools", "functions", "response_format", "stop_sequences", "tool_choice", "function_call", "web_search_options"}
)
"""Settings that can hold the caller's own words."""

OWN_NAMES = frozenset(
    {
        "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens",
        "cache_write_input_tokens", "reasoning_tokens", "usage_source", "cost", "cache_hit", "operation_name",
        "litellm_version", "litellm_call_id", "litellm_trace_id", "response_model", "response_id", "system_fingerprint",
        "api_base", "provider", "finish_reason", "attempts", "attempt", "model_group", "original_model_group",
        "deployment", "deployment_id", "is_fallback", "fallback_depth", "error_type", "error_module", "status_code",
        "stream_ending", "stream_chunks", "time_to_first_token_ms", "ending", "original_session_id", "user_metadata",
    }
)  # fmt: skip
"""Keys of `metadata` that we write. The caller's own of the same name go to `user_metadata`, always: they must not pass for
ours where we have nothing to say (a cost of an unknown model, tokens on a chain)."""

OWN_SESSION_KEYS = frozenset({"session_id"})
"""Keys of the caller's metadata that steer the recording and are no facts of the call."""


def build_event(facts: CallFacts, *, source: str, redactor: Redactor) -> Event:
    """The Event of an ended Call. A part that cannot be read is left out and counted as a Fault; the rest is sent."""
    config: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    user_properties: dict[str, Any] = {}
    provider: str | None = None
    with guarded("find a call's provider"):
        provider = _provider(facts)
    with guarded("read the settings of a call"):
        config = redactor.value(_config(facts, provider))
    with guarded("read the inputs of a call"):
        inputs = redactor.value(inputs_of(facts))
    with guarded("read the outputs of a call"):
        outputs = redactor.value(outputs_of(facts))
    with guarded("read the metadata of a call"):
        metadata = redactor.value(_metadata(facts, provider, redactor.capture_content))
    with guarded("read the user of a call"):
        user_properties = redactor.value(_user_properties(facts))
    error = _error_text(facts, redactor)
    if not redactor.capture_content:
        inputs, outputs = without_content(inputs), without_content(outputs)
        texts = {name: config.pop(name) for name in TEXTS_IN_CONFIG if name in config}
        config.update(without_content(texts))
    if facts.operation is Operation.CHAT:
        inputs.setdefault("chat_history", [])
        outputs.setdefault("role", "assistant")
        config.setdefault("model", "unknown")
    return Event(
        event_id=facts.event_id,
        session_id=facts.session.id,
        parent_id=facts.parent_id,
        event_type=EventType.CHAIN if facts.is_chain else EventType.MODEL,
        event_name=facts.name,
        source=source,
        start_time=facts.started_ms,
        end_time=facts.ended_ms,
        duration=round(facts.ended_ms - facts.started_ms, 3),
        config=config,
        inputs=inputs,
        outputs=outputs,
        error=error,
        metadata=metadata,
        user_properties=user_properties,
    )


def session_row(session: Session, *, source: str, attributes: Mapping[str, str], redactor: Redactor) -> SessionRow:
    """The row of a Session; it is created before or with its first Events."""
    metadata: dict[str, Any] = dict(attributes)
    if session.original_id is not None:
        metadata["original_session_id"] = session.original_id
    return SessionRow(
        session_id=session.id,
        session_name=redactor.text(session.name) or "session",
        source=source,
        start_time=round(session.started_ms, 3),
        metadata=redactor.value(metadata),
    )


def _config(facts: CallFacts, provider: str | None) -> dict[str, Any]:
    arguments = facts.arguments
    config: dict[str, Any] = {}
    model = arguments.get("model") or field_of(facts.result, "model")
    if model:
        config["model"] = str(model)
    if provider:
        config["provider"] = provider
    for name, value in arguments.items():
        if value is not None and name in SETTINGS:
            config[SETTING_NAMES.get(name, name)] = plain_of(value)
    for name in ("tools", "functions"):
        if arguments.get(name):
            config[name] = plain_of(arguments[name])
    return config


def _provider(facts: CallFacts) -> str | None:
    candidates = (
        field_of(hidden_params_of(facts.result), "custom_llm_provider"),
        facts.arguments.get("custom_llm_provider"),
        *(field_of(field_of(chunk, "_hidden_params"), "custom_llm_provider") for chunk in facts.chunks[:1]),
        facts.error.provider if facts.error is not None else None,
        facts.provider,
    )
    return next((each for each in candidates if isinstance(each, str) and each), None)


def _metadata(facts: CallFacts, provider: str | None, capture_content: bool) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    with guarded("read the caller's metadata"):
        callers = _callers_metadata(facts)
        metadata.update(callers if capture_content else without_content(callers, kept=frozenset()))
    own: dict[str, Any] = {**facts.attributes}
    if not facts.is_chain:
        with guarded("read usage"):
            usage, usage_source = usage_of(facts)
            own.update(token_metadata(usage))
            own["usage_source"] = usage_source
            own["cost"] = cost_of(facts)
            if is_cache_hit(facts):
                own["cache_hit"] = True
    with guarded("read the response's identity"):
        own.update(_identity(facts, provider))
    with guarded("read the attempt"):
        own.update(_attempt(facts))
    if facts.is_stream:
        own["stream_ending"] = facts.ending.value
        own["stream_chunks"] = len(facts.chunks)
        own["time_to_first_token_ms"] = facts.time_to_first_token_ms
    if facts.ending in (Ending.CANCELLED, Ending.FAILED):
        own["ending"] = facts.ending.value
    if facts.session.original_id is not None:
        own["original_session_id"] = facts.session.original_id
    own = {name: value for name, value in own.items() if value is not None}
    collided = {name: metadata.pop(name) for name in list(metadata) if name in OWN_NAMES or name in facts.attributes}
    if collided:
        metadata["user_metadata"] = collided
    return {**metadata, **own}


def _callers_metadata(facts: CallFacts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("litellm_metadata", "metadata"):
        bucket = facts.arguments.get(name)
        if isinstance(bucket, dict):
            found.update({key: plain_of(value) for key, value in bucket.items() if key not in OWN_SESSION_KEYS})
    return found


def _identity(facts: CallFacts, provider: str | None) -> dict[str, Any]:
    response: Any = facts.result
    if facts.is_stream:
        response = facts.chunks[-1] if facts.chunks else None
    hidden = hidden_params_of(response)
    identity = {
        "operation_name": facts.operation.value,
        "litellm_version": facts.litellm_version,
        "litellm_call_id": field_of(hidden, "litellm_call_id") or facts.arguments.get("litellm_call_id"),
        "litellm_trace_id": facts.arguments.get("litellm_trace_id"),
        "response_model": field_of(response, "model"),
        "response_id": field_of(response, "id"),
        "system_fingerprint": field_of(response, "system_fingerprint"),
        "api_base": field_of(hidden, "api_base") or facts.api_base,
        "provider": provider,
        "finish_reason": _finish_reason(facts),
    }
    return {name: str(value) for name, value in identity.items() if value}


def _finish_reason(facts: CallFacts) -> Any:
    if not facts.is_stream:
        choices = field_of(facts.result, "choices")
        return field_of(choices[0], "finish_reason") if choices else None
    # Of several choices the first one's, as in an answer that is no stream.
    reasons = (
        field_of(choice, "finish_reason")
        for chunk in reversed(facts.chunks)
        for choice in _choices(chunk)
        if not field_of(choice, "index")
    )
    return next((reason for reason in reasons if reason), None)


def _choices(chunk: Any) -> Any:
    return field_of(chunk, "choices") or ()


def _attempt(facts: CallFacts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if facts.is_chain:
        found["attempts"] = facts.attempt_count
        found["deployment_id"] = field_of(hidden_params_of(facts.result), "model_id")
    attempt = facts.attempt
    if attempt is not None:
        found["attempt"] = attempt.number
        found["model_group"] = attempt.model_group
        found["deployment"] = attempt.deployment
        found["deployment_id"] = attempt.deployment_id
        if attempt.fallback_depth:
            found["is_fallback"] = True
            found["fallback_depth"] = attempt.fallback_depth
            found["original_model_group"] = attempt.original_model_group
    if facts.error is not None:
        found["error_type"] = facts.error.type_name
        found["error_module"] = facts.error.module
        found["status_code"] = facts.error.status_code
    return found


def _error_text(facts: CallFacts, redactor: Redactor) -> str | None:
    error: ErrorFacts | None = facts.error
    if error is None:
        return None
    if not redactor.capture_content or not error.message:
        return error.type_name
    return f"{error.type_name}: {redactor.text(error.message)}"


def _user_properties(facts: CallFacts) -> dict[str, Any]:
    user = facts.arguments.get("user")
    return {"user_id": str(user)} if user else {}


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
