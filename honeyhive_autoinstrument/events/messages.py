"""Request and response shapes -> inputs and outputs. Pure; LiteLLM's objects and plain dictionaries are read alike.

Shapes of the event: honeyhive_api.md 3.2 to 3.4. Shapes of the responses: litellm_map.md 4.1, 4.5.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import orjson

from honeyhive_autoinstrument.events.facts import CallFacts, Operation

PYDANTIC_MARK = "__pydantic_validator__"
"""Every pydantic class has one of its own in its dictionary."""


def field_of(value: Any, name: str) -> Any:
    """A field of a dictionary or an attribute of an object; None where there is none.

    Pydantic keeps fields, private attributes and extra fields in three dictionaries. They are read directly: asking such
    an object for a name that it does not have raises inside, and takes microseconds, some forty times an event.
    """
    if value is None:
        return None
    kind = type(value)
    if kind is dict:
        return value.get(name)
    if PYDANTIC_MARK in kind.__dict__:
        found = value.__dict__.get(name)
        if found is None:
            private = value.__pydantic_private__
            if private is not None:
                found = private.get(name)
            if found is None and value.__pydantic_extra__:
                found = value.__pydantic_extra__.get(name)
        return found
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None)


def inputs_of(facts: CallFacts) -> dict[str, Any]:
    """The `inputs` bucket: what the model was given."""
    return INPUTS[facts.operation](facts.arguments)


def outputs_of(facts: CallFacts) -> dict[str, Any]:
    """The `outputs` bucket: what came back, or as much of a stream as was read."""
    if facts.is_stream:
        return merge_chunks(facts.chunks, facts.operation)
    if facts.result is None:
        return {}
    return OUTPUTS[facts.operation](facts.result if facts.answer is None else facts.answer)


def _chat_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    messages = arguments.get("messages")
    if isinstance(messages, str):
        messages = [messages]
    return {"chat_history": [_message(each) for each in messages] if isinstance(messages, Sequence) else []}


def _message(message: Any) -> Any:
    """A message as the schema wants it: a role, and content even where there is none."""
    plain = plain_of(message)
    if not isinstance(plain, dict):
        return {"role": "user", "content": str(plain)}
    plain = {key: value for key, value in plain.items() if value is not None or key == "content"}
    if not isinstance(plain.get("role"), str) or not plain["role"]:
        plain["role"] = "user"
    if plain.get("tool_calls"):
        plain["tool_calls"] = [_tool_call(each) for each in plain["tool_calls"]]
    else:
        plain.pop("tool_calls", None)
    for name in ("name", "tool_call_id"):
        if name in plain and not isinstance(plain[name], str):
            plain[name] = str(plain[name])
    if "function_call" in plain and not isinstance(plain["function_call"], dict):
        plain["function_call"] = {"value": plain["function_call"]}
    if "content" in plain:
        plain["content"] = _content(plain["content"])
    elif "tool_calls" not in plain and "function_call" not in plain:
        plain["content"] = None
    return plain


def _content(content: Any) -> Any:
    """A message's content as the schema wants it: text, nothing, or parts with a type."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        return str(content)
    return [_part(each) for each in content]


def _part(part: Any) -> dict[str, Any]:
    if not isinstance(part, dict) or part.get("type") is None:
        return {"type": "text", "text": str(part)}
    return part if isinstance(part["type"], str) else {**part, "type": str(part["type"])}


def _text_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    given = arguments.get("prompt")
    if isinstance(given, list) and not _is_token_ids(given):
        return {"prompt": [_text_or_count(each) for each in given]}
    return {"prompt": _text_or_count(given)}


def _embedding_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    given = arguments.get("input")
    chunks = given if isinstance(given, list) and not _is_token_ids(given) else [given]
    return {"chunks": [_text_or_count(each) for each in chunks]}


def _text_or_count(given: Any) -> Any:
    return {"tokens": len(given)} if _is_token_ids(given) else plain_of(given)


def _is_token_ids(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and isinstance(given[0], int)


def _image_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": plain_of(arguments.get("prompt"))}


INPUTS: Mapping[Operation, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    Operation.CHAT: _chat_inputs,
    Operation.TEXT: _text_inputs,
    Operation.EMBEDDING: _embedding_inputs,
    Operation.IMAGE: _image_inputs,
}


def _chat_outputs(response: Any) -> dict[str, Any]:
    choices = field_of(response, "choices") or []
    outputs = [_choice(each) for each in choices]
    if not outputs:
        return {"role": "assistant", "content": None}
    first = outputs[0]
    return first if len(outputs) == 1 else {**first, "choices": outputs}


MESSAGE_FIELDS = ("refusal", "reasoning_content", "thinking_blocks", "annotations", "audio", "images", "function_call")


def _choice(choice: Any) -> dict[str, Any]:
    message = field_of(choice, "message")
    output: dict[str, Any] = {
        "role": field_of(message, "role") or "assistant",
        "content": _content(plain_of(field_of(message, "content"))),
        "finish_reason": field_of(choice, "finish_reason"),
    }
    calls = field_of(message, "tool_calls")
    if calls:
        output["tool_calls"] = [_tool_call(each) for each in calls]
    for name in MESSAGE_FIELDS:
        value = field_of(message, name)
        if value:
            output["reasoning" if name == "reasoning_content" else name] = plain_of(value)
    return output


def _tool_call(call: Any) -> dict[str, Any]:
    function = field_of(call, "function")
    return {
        "id": str(field_of(call, "id") or ""),
        "type": "function",
        "function": {
            "name": str(field_of(function, "name") or ""),
            "arguments": _json_text(field_of(function, "arguments")),
        },
    }


def _json_text(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    if arguments is None:
        return ""
    plain = plain_of(arguments)
    try:
        return orjson.dumps(plain, default=str).decode()
    except TypeError:  # lone surrogates, numbers beyond 64 bits
        return json.dumps(plain, default=str)


def _text_outputs(response: Any) -> dict[str, Any]:
    choices = field_of(response, "choices") or []
    texts = [field_of(each, "text") for each in choices]
    output: dict[str, Any] = {
        "text": texts[0] if texts else None,
        "finish_reason": field_of(choices[0], "finish_reason") if choices else None,
    }
    if len(texts) > 1:
        output["choices"] = [
            {"text": text, "finish_reason": field_of(choice, "finish_reason")}
            for text, choice in zip(texts, choices, strict=True)
        ]
    return output


def _embedding_outputs(response: Any) -> dict[str, Any]:
    data = field_of(response, "data") or []
    output: dict[str, Any] = {"num_embeddings": len(data)}
    vector = field_of(data[0], "embedding") if data else None
    if isinstance(vector, list):
        output["dimensions"] = len(vector)
    elif isinstance(vector, str):
        # base64 of 32-bit floats (OpenAI, encoding_format="base64")
        output["dimensions"] = len(vector) * 3 // 4 // 4
    return output


def _image_outputs(response: Any) -> dict[str, Any]:
    images = []
    for each in field_of(response, "data") or []:
        image: dict[str, Any] = {}
        if field_of(each, "url"):
            image["url"] = field_of(each, "url")
        if field_of(each, "b64_json"):
            image["b64_json"] = blob_of(field_of(each, "b64_json"))
        if field_of(each, "revised_prompt"):
            image["revised_prompt"] = field_of(each, "revised_prompt")
        images.append(image)
    return {"images": images}


OUTPUTS: Mapping[Operation, Callable[[Any], dict[str, Any]]] = {
    Operation.CHAT: _chat_outputs,
    Operation.TEXT: _text_outputs,
    Operation.EMBEDDING: _embedding_outputs,
    Operation.IMAGE: _image_outputs,
}


def blob_of(text: str) -> dict[str, Any]:
    """Size and SHA-256 in place of a blob given as base64."""
    data = text.encode("ascii", "replace")
    return {"type": "base64", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def merge_chunks(chunks: Sequence[object], operation: Operation) -> dict[str, Any]:
    """The message that a stream's chunks add up to. Pieces of tool calls are merged by their index."""
    choices: dict[int, _Merged] = {}
    for chunk in chunks:
        for choice in field_of(chunk, "choices") or ():
            index = _index_of(choice)
            merged = choices.get(index)
            if merged is None:
                merged = choices[index] = _Merged()
            merged.add(choice)
    merged_choices = [choices[index] for index in sorted(choices)] or [_Merged()]
    if operation is Operation.TEXT:
        outputs = [{"text": each.content, "finish_reason": each.finish_reason} for each in merged_choices]
    else:
        outputs = [each.as_output() for each in merged_choices]
    return outputs[0] if len(outputs) == 1 else {**outputs[0], "choices": outputs}


def _index_of(piece: Any) -> int:
    index = field_of(piece, "index")
    return index if type(index) is int else 0


class _Merged:
    """One choice of a stream, growing."""

    def __init__(self) -> None:
        self._role = "assistant"
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self.finish_reason: str | None = None

    def add(self, choice: Any) -> None:
        reason = field_of(choice, "finish_reason")
        if reason:
            self.finish_reason = reason
        delta = field_of(choice, "delta")
        if delta is None:
            _append_text(self._texts, field_of(choice, "text"))
            return
        self._role = field_of(delta, "role") or self._role
        _append_text(self._texts, field_of(delta, "content"))
        _append_text(self._reasoning, field_of(delta, "reasoning_content"))
        _append_text(self._refusal, field_of(delta, "refusal"))
        for piece in field_of(delta, "tool_calls") or ():
            index = _index_of(piece)
            call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": []})
            call["id"] = call["id"] or field_of(piece, "id") or ""
            function = field_of(piece, "function")
            call["name"] = call["name"] or field_of(function, "name") or ""
            _append_text(call["arguments"], field_of(function, "arguments"))

    @property
    def content(self) -> str:
        return "".join(self._texts)

    def as_output(self) -> dict[str, Any]:
        output: dict[str, Any] = {
            "role": self._role,
            "content": self.content or (None if self._calls else ""),
            "finish_reason": self.finish_reason,
        }
        if self._calls:
            output["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": "".join(call["arguments"])},
                }
                for _, call in sorted(self._calls.items())
            ]
        if self._reasoning:
            output["reasoning"] = "".join(self._reasoning)
        if self._refusal:
            output["refusal"] = "".join(self._refusal)
        return output


def _append_text(texts: list[str], piece: Any) -> None:
    if isinstance(piece, str) and piece:
        texts.append(piece)


def plain_of(value: Any, depth: int = 0) -> Any:
    """A JSON-like copy: pydantic objects as their fields, classes by name, bytes by size, the rest as text."""
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    if depth > 40:
        return "[too deep]"
    if kind is dict:
        return {str(key): plain_of(item, depth + 1) for key, item in value.items()}
    if kind is list or kind is tuple or kind is set:
        return [plain_of(item, depth + 1) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {"type": "bytes", "size": len(value)}
    if isinstance(value, type):
        return class_as_plain(value)
    if isinstance(value, Mapping):
        return {str(key): plain_of(item, depth + 1) for key, item in value.items()}
    fields = getattr(value, "__dict__", None)
    if type(fields) is dict and PYDANTIC_MARK in kind.__dict__:
        extra = getattr(value, "__pydantic_extra__", None) or {}
        return {key: plain_of(item, depth + 1) for key, item in {**fields, **extra}.items()}
    if isinstance(value, Enum):
        return plain_of(value.value, depth + 1)
    for scalar in (str, int, float):
        if isinstance(value, scalar):
            return scalar(value)
    if isinstance(value, WRITTEN_AS_TEXT):
        return str(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"


WRITTEN_AS_TEXT = (UUID, date, time, timedelta, Decimal, PurePath)


def class_as_plain(kind: type) -> dict[str, Any]:
    """A class given as a parameter (`response_format=MyModel`): its name, and its JSON schema where it has one."""
    plain: dict[str, Any] = {"class": kind.__qualname__}
    schema = getattr(kind, "model_json_schema", None)
    if callable(schema):
        plain["json_schema"] = schema()
    return plain
