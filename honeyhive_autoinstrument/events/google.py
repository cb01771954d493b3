"""Google's generateContent as LiteLLM offers it (`generate_content`): contents, candidates, streams. Pure.

Shapes: Google's API reference (GenerateContent). Field names come in camel case on the wire and in snake case from SDKs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from honeyhive_autoinstrument.events.facts import CallFacts
from honeyhive_autoinstrument.events.messages import Outputs, message_of, part_of, tool_call, with_choices
from honeyhive_autoinstrument.events.sse import events_in
from honeyhive_autoinstrument.events.values import field_of, list_of, plain_of, text_of, without_blobs, without_nothing


def google_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`chat_history`: the system instruction as a message, then every content."""
    history: list[dict[str, Any]] = []
    config = plain_of(arguments.get("config"))
    system = _either(arguments, "systemInstruction") or _either(config, "systemInstruction")
    if system is not None:
        history += _messages_of(plain_of(system), "system")
    for content in list_of(arguments.get("contents")):
        history += _messages_of(plain_of(content), None)
    return {"chat_history": history}


def _either(value: Any, name: str) -> Any:
    """A field by its name in camel case or in snake case."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    found = field_of(value, name)
    return field_of(value, snake) if found is None else found


ROLES = {"model": "assistant", "user": "user", "function": "tool", "system": "system"}


def _messages_of(content: Any, role: str | None) -> list[dict[str, Any]]:
    if not isinstance(content, dict):
        return [{"role": role or "user", "content": text_of(content)}]
    role = role or ROLES.get(text_of(content.get("role")), "user")
    found: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for part in list_of(content.get("parts")):
        response = _either(part, "functionResponse")
        call = _either(part, "functionCall")
        if response is not None:
            found.append(
                {
                    "role": "tool",
                    "tool_call_id": text_of(field_of(response, "id") or field_of(response, "name")),
                    "content": text_of(field_of(response, "response")),
                }
            )
        elif call is not None:
            calls.append(_call_of(call))
        else:
            parts.append(_part_of(part))
    if parts or calls or not found:
        message: dict[str, Any] = {"role": role, "content": _text_or_parts(parts)}
        found.append(message_of({**message, "tool_calls": calls} if calls else message))
    return found


def _call_of(call: Any) -> dict[str, Any]:
    return tool_call(field_of(call, "id"), field_of(call, "name"), field_of(call, "args") or {})


def _part_of(part: Any) -> dict[str, Any]:
    text = field_of(part, "text")
    if isinstance(text, str):
        return {"type": "text", "text": text}
    if isinstance(part, dict):
        kind = next((name for name in part if name != "thoughtSignature"), "part")
        return part_of({"type": kind, **part})
    return part_of(part)


def _text_or_parts(parts: list[dict[str, Any]]) -> Any:
    if not parts:
        return None
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


CANDIDATE_FIELDS = frozenset({"content", "finishReason", "finish_reason", "index", "tokenCount", "token_count"})


def google_outputs(facts: CallFacts) -> Outputs:
    """The first candidate's message; all of them under `choices` where there are several."""
    response = plain_of(facts.result)
    outputs = [_candidate(each) for each in list_of(field_of(response, "candidates"))]
    blocked = _either(response, "promptFeedback")
    if not outputs:
        outputs = [{"role": "assistant", "content": None}]
    if blocked:
        first = outputs[0]
        first["provider_specific_fields"] = {
            **first.get("provider_specific_fields", {}),
            "promptFeedback": without_nothing(blocked),
        }
    return with_choices(outputs)


def _candidate(candidate: Any) -> Outputs:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    items: list[Any] = []
    for part in list_of(field_of(field_of(candidate, "content"), "parts")):
        call = _either(part, "functionCall")
        text = field_of(part, "text")
        if call is not None:
            calls.append(_call_of(call))
        elif isinstance(text, str):
            (thoughts if field_of(part, "thought") else texts).append(text)
        else:
            items.append(without_blobs(without_nothing(part)))
    reason = _either(candidate, "finishReason")
    own = {
        name: without_nothing(value)
        for name, value in (candidate.items() if isinstance(candidate, dict) else ())
        if name not in CANDIDATE_FIELDS and value
    }
    more = {
        "finish_reason": text_of(reason),
        "tool_calls": calls,
        "reasoning": "".join(thoughts),
        "items": items,
        "provider_specific_fields": own,
    }
    return {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        **{name: value for name, value in more.items() if value},
    }


def whole_generation(chunks: Sequence[object]) -> dict[str, Any]:
    """The answer that a stream's chunks add up to: parts one after the other, what comes once as it came last."""
    whole: dict[str, Any] = {}
    candidates: dict[Any, dict[str, Any]] = {}
    for event in events_in(chunks):
        if not isinstance(event, dict):
            continue
        for candidate in list_of(event.get("candidates")):
            if not isinstance(candidate, dict):
                continue
            index = candidate.get("index") or 0
            known = candidates.setdefault(index, {"content": {"parts": []}})
            known["content"]["parts"] += list_of(field_of(candidate.get("content"), "parts"))
            known.update({name: value for name, value in candidate.items() if name != "content" and value is not None})
        whole.update({name: value for name, value in event.items() if name != "candidates" and value is not None})
    return {**whole, "candidates": list(candidates.values())}
