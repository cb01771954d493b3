"""Anthropic's Messages API as LiteLLM offers it (`anthropic_messages`): messages, answers, streams. Pure.

Shapes: Anthropic's API reference (Messages, streaming). Answers are dictionaries; streams are the bytes of server-sent
events, cut anywhere (litellm_map.md 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from honeyhive_autoinstrument.events.facts import CallFacts
from honeyhive_autoinstrument.events.messages import Outputs, message_of, part_of, tool_call
from honeyhive_autoinstrument.events.sse import events_in
from honeyhive_autoinstrument.events.values import field_of, list_of, plain_of, text_of, without_blobs


def anthropic_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`chat_history`: the system prompt as a message, tool calls and results in chat's form, other blocks as parts."""
    history: list[dict[str, Any]] = []
    system = arguments.get("system")
    if system:
        history.append(message_of({"role": "system", "content": _text_or_parts(plain_of(system))}))
    for message in list_of(arguments.get("messages")):
        history += _messages_of(plain_of(message))
    return {"chat_history": history}


def _messages_of(message: Any) -> list[dict[str, Any]]:
    content = field_of(message, "content")
    if not isinstance(content, list):
        return [message_of(message)]
    found: list[dict[str, Any]] = []
    parts: list[Any] = []
    calls: list[dict[str, Any]] = []
    for block in content:
        kind = field_of(block, "type")
        if kind == "tool_result":
            found.append(
                {
                    "role": "tool",
                    "tool_call_id": text_of(field_of(block, "tool_use_id")),
                    "content": _text_or_parts(field_of(block, "content")),
                }
            )
        elif kind == "tool_use":
            calls.append(_call_of(block))
        else:
            parts.append(block)
    if parts or calls or not found:
        whole: dict[str, Any] = {"role": field_of(message, "role"), "content": _text_or_parts(parts) if parts else None}
        if calls:
            whole["tool_calls"] = calls
        found.append(message_of(whole))
    return found


def _text_or_parts(content: Any) -> Any:
    if not isinstance(content, list):
        return content if content is None else text_of(content)
    if len(content) == 1 and isinstance(content[0], dict) and content[0].keys() == {"type", "text"}:
        return text_of(content[0]["text"])
    return [part_of(block) for block in content]


def _call_of(block: Any) -> dict[str, Any]:
    return tool_call(field_of(block, "id"), field_of(block, "name"), field_of(block, "input") or {})


THINKING = frozenset({"thinking", "redacted_thinking"})


def anthropic_outputs(facts: CallFacts) -> Outputs:
    """One assistant message; blocks that are no text, thinking or tool call under `items`."""
    response: Any = facts.result
    texts: list[str] = []
    thinking: list[Any] = []
    calls: list[dict[str, Any]] = []
    citations: list[Any] = []
    items: list[Any] = []
    for block in list_of(plain_of(field_of(response, "content"))):
        kind = field_of(block, "type")
        if kind == "text":
            texts.append(text_of(field_of(block, "text")))
            citations += list_of(field_of(block, "citations"))
        elif kind in THINKING:
            thinking.append(block)
        elif kind == "tool_use":
            calls.append(_call_of(block))
        else:
            items.append(without_blobs(block))
    stop_sequence = field_of(response, "stop_sequence")
    more = {
        "finish_reason": field_of(response, "stop_reason"),
        "tool_calls": calls,
        "reasoning": "".join(text_of(field_of(block, "thinking")) for block in thinking),
        "thinking_blocks": thinking,
        "annotations": citations,
        "items": items,
        "provider_specific_fields": {"stop_sequence": stop_sequence} if stop_sequence else None,
    }
    return {
        "role": field_of(response, "role") or "assistant",
        "content": "".join(texts) if texts or not (calls or thinking or items) else None,
        **{name: value for name, value in more.items() if value},
    }


def whole_message(chunks: Sequence[object]) -> dict[str, Any]:
    """The message that a stream's events add up to, as far as they were read."""
    message: dict[str, Any] = {"content": []}
    blocks: dict[Any, dict[str, Any]] = {}
    for event in events_in(chunks):
        kind = field_of(event, "type")
        if kind == "message_start":
            start = field_of(event, "message")
            if isinstance(start, dict):
                message.update({**start, "content": []})
        elif kind == "content_block_start":
            block = field_of(event, "content_block")
            blocks[field_of(event, "index")] = dict(block) if isinstance(block, dict) else {"type": "text"}
        elif kind == "content_block_delta":
            _add_delta(blocks.setdefault(field_of(event, "index"), {"type": "text"}), field_of(event, "delta"))
        elif kind == "message_delta":
            delta = field_of(event, "delta")
            if isinstance(delta, dict):
                message.update(delta)
            usage = field_of(event, "usage")
            if isinstance(usage, dict):
                known = message.get("usage")
                message["usage"] = {**(known if isinstance(known, dict) else {}), **usage}
    message["content"] = [_closed(block) for block in blocks.values()]
    return message


def _add_delta(block: dict[str, Any], delta: Any) -> None:
    if not isinstance(delta, dict):
        return
    for name in ("text", "thinking", "signature"):
        if isinstance(delta.get(name), str):
            block[name] = text_of(block.get(name)) + delta[name]
    if isinstance(delta.get("partial_json"), str):
        block["partial_json"] = text_of(block.get("partial_json")) + delta["partial_json"]
    if "citation" in delta:
        block["citations"] = [*list_of(block.get("citations")), delta["citation"]]


def _closed(block: dict[str, Any]) -> dict[str, Any]:
    """A tool's input comes as pieces of JSON text; half of it is no JSON yet."""
    pieces = block.pop("partial_json", None)
    if pieces is not None:
        try:
            block["input"] = orjson.loads(pieces)
        except orjson.JSONDecodeError:
            block["input"] = pieces
    return block
