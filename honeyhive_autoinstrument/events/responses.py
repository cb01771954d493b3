"""The Responses API: input items, output items and stream events -> inputs and outputs. Pure.

Shapes: OpenAI's API reference (Responses, streaming events); LiteLLM's objects for them, litellm_map.md 4.1. In the event
they are chat messages (honeyhive_api.md 3.2), so that both APIs read alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from honeyhive_autoinstrument.events.facts import CallFacts
from honeyhive_autoinstrument.events.messages import Outputs, message_of, part_of, tool_call
from honeyhive_autoinstrument.events.values import field_of, list_of, plain_of, text_of, without_blobs, without_nothing

BLANK_LINE = "\n\n"


def responses_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`chat_history`: the instructions as a system message, then every input item as a message."""
    if arguments.get("response_id") is not None and arguments.get("input") is None:
        return {"response_id": text_of(arguments["response_id"])}
    history: list[dict[str, Any]] = []
    instructions = arguments.get("instructions")
    if instructions:
        history.append({"role": "system", "content": text_of(instructions)})
    given = arguments.get("input")
    if isinstance(given, str):
        history.append({"role": "user", "content": given})
    else:
        history += [message_of_item(plain_of(each)) for each in list_of(given)]
    inputs: dict[str, Any] = {"chat_history": history}
    if arguments.get("prompt") is not None:
        inputs["prompt"] = plain_of(arguments["prompt"])
    return inputs


def message_of_item(item: Any) -> dict[str, Any]:
    """An item of a Responses conversation as a chat message."""
    if not isinstance(item, dict):
        return message_of({"role": "user", "content": text_of(item)})
    item = without_nothing(item)
    kind = item.get("type")
    if kind == "function_call":
        return {"role": "assistant", "content": None, "tool_calls": [_call_of(item)]}
    if kind == "function_call_output":
        return {
            "role": "tool",
            "tool_call_id": text_of(item.get("call_id")),
            "content": _content_of(item.get("output", "")),
        }
    if kind == "reasoning":
        return {"role": "assistant", "content": None, "reasoning": _reasoning_of(item)}
    if kind in (None, "message") and "role" in item:
        return message_of({"role": item["role"], "content": _content_of(item.get("content"))})
    return {"role": "assistant", "content": [part_of({"type": "item", **item})]}


def _content_of(content: Any) -> Any:
    """Parts in chat's form; a single text as itself."""
    if not isinstance(content, list):
        return content if content is None else text_of(content)
    parts = [_part_of(each) for each in content]
    if len(parts) == 1 and parts[0].keys() == {"type", "text"} and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _part_of(part: Any) -> dict[str, Any]:
    kind = field_of(part, "type")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": text_of(field_of(part, "text"))}
    if kind == "input_image":
        image = {name: part[name] for name in ("detail", "file_id") if name in part}
        return part_of({"type": "image_url", "image_url": {"url": field_of(part, "image_url"), **image}})
    if kind == "input_file":
        return part_of({"type": "file", "file": {key: value for key, value in part.items() if key != "type"}})
    return part_of(part)


def responses_outputs(facts: CallFacts) -> Outputs:
    """One assistant message of all output items; what is no message, call or reasoning under `items`."""
    response: Any = facts.result
    texts: list[str] = []
    refusals: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    annotations: list[Any] = []
    logprobs: list[Any] = []
    items: list[Any] = []
    for each in list_of(field_of(response, "output")):
        item = without_nothing(plain_of(each))
        kind = field_of(item, "type")
        if kind == "message":
            for part in list_of(field_of(item, "content")):
                texts.append(text_of(field_of(part, "text")))
                refusals.append(text_of(field_of(part, "refusal")))
                annotations += list_of(field_of(part, "annotations"))
                logprobs += list_of(field_of(part, "logprobs"))
        elif kind == "function_call":
            calls.append(_call_of(item))
        elif kind == "reasoning":
            reasoning.append(_reasoning_of(item))
        else:
            items.append(without_blobs(item))
    more = {
        "finish_reason": status_of(response),
        "tool_calls": calls,
        "reasoning": BLANK_LINE.join(filter(None, reasoning)),
        "refusal": "".join(refusals),
        "annotations": annotations,
        "logprobs": logprobs,
        "items": items,
    }
    return {
        "role": "assistant",
        "content": "".join(texts) or (None if calls or items or not texts else ""),
        **{name: value for name, value in more.items() if value},
    }


def status_of(response: Any) -> str | None:
    """Why it ended: the incomplete reason where there is one, else the status."""
    reason = field_of(field_of(response, "incomplete_details"), "reason")
    status = reason or field_of(response, "status")
    return text_of(status) if status else None


def _call_of(item: Mapping[str, Any]) -> dict[str, Any]:
    return tool_call(item.get("call_id") or item.get("id"), item.get("name"), item.get("arguments"))


def _reasoning_of(item: Mapping[str, Any]) -> str:
    parts = [*list_of(item.get("summary")), *list_of(item.get("content"))]
    return BLANK_LINE.join(filter(None, (text_of(field_of(part, "text")) for part in parts)))


WHOLE = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""Events that carry the whole response."""

TEXT_DELTAS = {
    "response.output_text.delta": ("message", "text"),
    "response.refusal.delta": ("message", "refusal"),
    "response.reasoning_summary_text.delta": ("reasoning", "text"),
    "response.reasoning_text.delta": ("reasoning", "text"),
}


def whole_response(chunks: Sequence[object]) -> Any:
    """The response that a stream's events add up to: that of the last event where it says so, else what was read so far."""
    first: Any = None
    items: dict[Any, dict[str, Any]] = {}
    for chunk in reversed(chunks):
        if kind_of(chunk) in WHOLE and field_of(chunk, "response") is not None:
            return field_of(chunk, "response")
    for chunk in chunks:
        kind = kind_of(chunk)
        response = field_of(chunk, "response")
        if response is not None:
            first = response
        index = field_of(chunk, "output_index")
        if kind in ("response.output_item.added", "response.output_item.done"):
            item = plain_of(field_of(chunk, "item"))
            if isinstance(item, dict):
                items[index] = {**item, "is_done": kind.endswith("done")}
        elif kind in TEXT_DELTAS:
            item_type, name = TEXT_DELTAS[kind]
            _add_text(items.setdefault(index, {"type": item_type}), name, field_of(chunk, "delta"))
        elif kind == "response.function_call_arguments.delta":
            call = items.setdefault(index, {"type": "function_call"})
            call["arguments"] = text_of(call.get("arguments")) + text_of(field_of(chunk, "delta"))
    return {
        "id": field_of(first, "id"),
        "model": field_of(first, "model"),
        "output": [items[index] for index in sorted(items, key=str)],
    }


def _add_text(item: dict[str, Any], name: str, delta: Any) -> None:
    if item.get("is_done"):
        return
    where = "content" if item.get("type") == "message" else "summary"
    parts = [dict(part) for part in list_of(item.get(where)) if isinstance(part, dict)] or [{}]
    parts[-1][name] = text_of(parts[-1].get(name)) + text_of(delta)
    item[where] = parts


def kind_of(event: Any) -> str:
    """A stream event's type; LiteLLM has an Enum of them."""
    kind = field_of(event, "type")
    return str(getattr(kind, "value", kind))
