"""Chat and text completions: messages, choices and their streams -> inputs and outputs. Pure.

LiteLLM's objects and plain dictionaries are read alike. Shapes of the event: honeyhive_api.md 3.2 to 3.4. Shapes of the
responses: litellm_map.md 4.1, 4.5.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from honeyhive_autoinstrument.events.facts import CallFacts
from honeyhive_autoinstrument.events.values import (
    blob_of_bytes,
    field_of,
    fields_of,
    json_text,
    list_of,
    plain_of,
    without_blobs,
    without_nothing,
)

Outputs = dict[str, Any]


def chat_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`chat_history`: the messages as the caller passed them."""
    messages = arguments.get("messages")
    if isinstance(messages, str):
        messages = [messages]
    return {"chat_history": [message_of(each) for each in messages] if isinstance(messages, Sequence) else []}


def message_of(message: Any) -> dict[str, Any]:
    """A message as the schema wants it: a role, and content even where there is none."""
    plain = plain_of(message)
    if not isinstance(plain, dict):
        return {"role": "user", "content": str(plain)}
    plain = {key: value for key, value in plain.items() if value is not None or key == "content"}
    if not isinstance(plain.get("role"), str) or not plain["role"]:
        plain["role"] = "user"
    if plain.get("tool_calls"):
        plain["tool_calls"] = [tool_call_of(each) for each in plain["tool_calls"]]
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
    for name in ("audio", "images"):
        if name in plain:
            plain[name] = without_blobs(plain[name])
    return plain


def _content(content: Any) -> Any:
    """A message's content as the schema wants it: text, nothing, or parts with a type."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        return str(content)
    return [part_of(each) for each in content]


def part_of(part: Any) -> dict[str, Any]:
    """A part of a message's content: with a type, and without blobs."""
    if not isinstance(part, dict) or part.get("type") is None:
        return {"type": "text", "text": str(part)}
    plain: dict[str, Any] = without_blobs(part)
    return plain if isinstance(plain["type"], str) else {**plain, "type": str(plain["type"])}


def tool_call_of(call: Any) -> dict[str, Any]:
    """A tool call of OpenAI's form; arguments are JSON text. Calls of other types (`custom`) keep what they have."""
    function = field_of(call, "function")
    custom = field_of(call, "custom")
    if function is None and custom is not None:
        return tool_call(field_of(call, "id"), field_of(custom, "name"), field_of(custom, "input"))
    return tool_call(field_of(call, "id"), field_of(function, "name"), field_of(function, "arguments"))


def tool_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """`{id, type: "function", function: {name, arguments}}` (honeyhive_api.md 3.3)."""
    return {
        "id": str(call_id or ""),
        "type": "function",
        "function": {"name": str(name or ""), "arguments": json_text(arguments)},
    }


def chat_outputs(facts: CallFacts) -> Outputs:
    """The first choice's message; all of them under `choices` where there are several."""
    response: Any = facts.result
    if isinstance(response, str):  # a tool loop's last answer
        return {"role": "assistant", "content": response}
    choices = field_of(facts.answer or response, "choices") or []
    outputs = [_choice(each) for each in choices]
    if not outputs:
        return {"role": "assistant", "content": None}
    own = provider_fields_of(response)
    if own:
        first = outputs[0]
        first["provider_specific_fields"] = {**first.get("provider_specific_fields", {}), **own}
    return with_choices(outputs)


def with_choices(outputs: list[Outputs]) -> Outputs:
    """One choice as it is; of several the first one's fields, and all of them."""
    first = outputs[0]
    return first if len(outputs) == 1 else {**first, "choices": outputs}


MESSAGE_FIELDS = {
    "refusal": "refusal",
    "reasoning_content": "reasoning",
    "thinking_blocks": "thinking_blocks",
    "annotations": "annotations",
    "audio": "audio",
    "images": "images",
    "function_call": "function_call",
}
"""Fields of a message beside role, content and tool calls, and their names in `outputs`."""

SAME_AS = {**MESSAGE_FIELDS, "reasoningContentBlocks": "thinking_blocks", "reasoningContent": "thinking_blocks"}
"""Fields that LiteLLM leaves among a provider's own and repeats under another name (the last two: Bedrock)."""

RESPONSE_FIELDS = frozenset(
    {
        "id", "created", "model", "object", "choices", "usage", "system_fingerprint", "service_tier",
        "provider_specific_fields", "stream_options", "data",
    }
)  # fmt: skip
"""Fields of a response or chunk that every provider's has; others are the provider's own (Bedrock's `trace`, ...)."""


def _choice(choice: Any) -> Outputs:
    message = field_of(choice, "message")
    output: Outputs = {
        "role": field_of(message, "role") or "assistant",
        "content": _content(plain_of(field_of(message, "content"))),
    }
    reason = field_of(choice, "finish_reason")
    if reason:
        output["finish_reason"] = reason
    calls = field_of(message, "tool_calls")
    if calls:
        output["tool_calls"] = [tool_call_of(each) for each in calls]
    for name, ours in MESSAGE_FIELDS.items():
        value = field_of(message, name)
        if value:
            output[ours] = _thinking([value]) if name == "thinking_blocks" else without_blobs(plain_of(value))
    logprobs = without_nothing(plain_of(field_of(choice, "logprobs")))
    if logprobs:
        output["logprobs"] = logprobs
    own = {
        **_own_fields(field_of(choice, "provider_specific_fields")),
        **_own_fields(field_of(message, "provider_specific_fields")),
    }
    return _with_own_fields(output, own)


def _with_own_fields(output: Outputs, own: dict[str, Any]) -> Outputs:
    """A provider's own fields, less those that LiteLLM gives under a name of its own as well."""
    own = {name: value for name, value in own.items() if SAME_AS.get(name) not in output}
    return {**output, "provider_specific_fields": own} if own else output


def _own_fields(fields: Any) -> dict[str, Any]:
    plain = without_blobs(without_nothing(plain_of(fields)))
    return plain if isinstance(plain, dict) else {}


def provider_fields_of(response: Any) -> dict[str, Any]:
    """What a provider adds to a response or a chunk: `provider_specific_fields`, and fields that others do not have."""
    own = _own_fields(field_of(response, "provider_specific_fields"))
    for name, value in fields_of(response).items():
        if value is not None and name not in RESPONSE_FIELDS and not name.startswith("_"):
            plain = without_blobs(without_nothing(plain_of(value)))
            if plain not in (None, {}, [], ""):
                own[name] = plain
    return own


def text_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`prompt`: a text, several, or the number of token ids."""
    given = arguments.get("prompt")
    if isinstance(given, list) and not is_token_ids(given):
        return {"prompt": [text_or_count(each) for each in given]}
    return {"prompt": text_or_count(given)}


def text_or_count(given: Any) -> Any:
    """The text, or the number of tokens where ids were given."""
    return {"tokens": len(given)} if is_token_ids(given) else plain_of(given)


def is_token_ids(given: Any) -> bool:
    """Whether a prompt is given as token ids."""
    return isinstance(given, list) and bool(given) and isinstance(given[0], int)


def text_outputs(facts: CallFacts) -> Outputs:
    """`text` of the first choice; all of them under `choices` where there are several."""
    choices = field_of(facts.answer or facts.result, "choices") or []
    outputs = []
    for choice in choices:
        output: Outputs = {"text": field_of(choice, "text")}
        more = {"finish_reason": field_of(choice, "finish_reason"), "logprobs": field_of(choice, "logprobs")}
        outputs.append({**output, **without_nothing(plain_of(more))})
    return with_choices(outputs) if outputs else {"text": None}


def merged_chat(facts: CallFacts) -> Outputs:
    """The message that a stream's chunks add up to. Pieces of tool calls are merged by their index."""
    choices = _merged_choices(facts.chunks)
    outputs = [each.as_output() for each in choices]
    own: dict[str, Any] = {}
    for chunk in facts.chunks:
        merge_fields(own, provider_fields_of(chunk))
    if own:
        outputs[0]["provider_specific_fields"] = {**outputs[0].get("provider_specific_fields", {}), **own}
    return with_choices(outputs)


def merged_text(facts: CallFacts) -> Outputs:
    """The text that a stream's chunks add up to."""
    return with_choices(
        [
            {"text": each.content, **({"finish_reason": each.finish_reason} if each.finish_reason else {})}
            for each in _merged_choices(facts.chunks)
        ]
    )


def _merged_choices(chunks: Sequence[object]) -> list[_Merged]:
    choices: dict[int, _Merged] = {}
    for chunk in chunks:
        for choice in field_of(chunk, "choices") or ():
            index = _index_of(choice)
            merged = choices.get(index)
            if merged is None:
                merged = choices[index] = _Merged()
            merged.add(choice)
    return [choices[index] for index in sorted(choices)] or [_Merged()]


def _index_of(piece: Any) -> int:
    index = field_of(piece, "index")
    return index if type(index) is int else 0


def merge_fields(into: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Add a piece's fields to those before it: lists grow, dictionaries are filled, other values that differ are listed."""
    for name, value in fields.items():
        known = into.get(name)
        if known is None or known == value:
            into[name] = value
        elif isinstance(known, list):
            into[name] = [*known, *(value if isinstance(value, list) else [value])]
        elif isinstance(known, dict) and isinstance(value, dict) and known.keys().isdisjoint(value):
            into[name] = {**known, **value}
        else:
            into[name] = [known, value]


class _Merged:
    """One choice of a stream, growing."""

    def __init__(self) -> None:
        self._role = "assistant"
        self._texts: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._function = {"name": "", "arguments": ""}
        self._audio: list[Any] = []
        self._more: dict[str, list[Any]] = {}
        self._own: dict[str, Any] = {}
        self.finish_reason: str | None = None

    def add(self, choice: Any) -> None:
        reason = field_of(choice, "finish_reason")
        if reason:
            self.finish_reason = reason
        logprobs = field_of(choice, "logprobs")
        if logprobs is not None:
            self._more.setdefault("logprobs", []).append(logprobs)
        delta = field_of(choice, "delta")
        if delta is None:
            _append_text(self._texts, field_of(choice, "text"))
            return
        for name, value in fields_of(delta).items():
            if value is None or value == "":
                continue
            if name == "content":
                _append_text(self._texts, value)
            elif name == "role":
                self._role = value
            elif name == "tool_calls":
                for piece in value:
                    self._add_call(piece)
            elif name == "provider_specific_fields":
                merge_fields(self._own, _own_fields(value))
            elif name in MESSAGE_FIELDS:
                self._more.setdefault(name, []).append(value)

    def _add_call(self, piece: Any) -> None:
        index, call_id = _index_of(piece), field_of(piece, "id")
        known = self._calls.get(index)
        if known is not None and call_id and known["id"] and call_id != known["id"]:
            # Ollama's calls come whole, and all of them under index 0 (1.110).
            index = next(number for number in range(index, index + len(self._calls) + 1) if number not in self._calls)
        call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": []})
        call["id"] = call["id"] or call_id or ""
        function = field_of(piece, "function")
        call["name"] = call["name"] or field_of(function, "name") or ""
        _append_text(call["arguments"], field_of(function, "arguments"))

    @property
    def content(self) -> str:
        return "".join(self._texts)

    def as_output(self) -> Outputs:
        output: Outputs = {
            "role": self._role,
            "content": self.content or (None if self._calls else ""),
        }
        if self.finish_reason:
            output["finish_reason"] = self.finish_reason
        if self._calls:
            output["tool_calls"] = [
                tool_call(call["id"], call["name"], "".join(call["arguments"]))
                for _, call in sorted(self._calls.items())
            ]
        for name, pieces in self._more.items():
            merged = MERGERS[name](pieces)
            if merged:
                output[MESSAGE_FIELDS.get(name, name)] = merged
        return _with_own_fields(output, self._own)


def _append_text(texts: list[str], piece: Any) -> None:
    if isinstance(piece, str) and piece:
        texts.append(piece)


def _joined(pieces: list[Any]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def _listed(pieces: list[Any]) -> list[Any]:
    return [
        without_blobs(plain_of(each)) for piece in pieces for each in (piece if isinstance(piece, list) else [piece])
    ]


def _thinking(pieces: list[Any]) -> list[dict[str, Any]]:
    """Blocks of thinking: text comes in pieces, a signature ends a block, a redacted one comes whole and stays as it is."""
    blocks: list[dict[str, Any]] = []
    is_open = False
    for piece in (each for group in pieces for each in list_of(plain_of(group))):
        if not isinstance(piece, dict):
            continue
        piece = without_nothing({name: value for name, value in piece.items() if name != "index"})
        if is_open and piece.get("type", "thinking") == blocks[-1].get("type"):
            block = blocks[-1]
            block["thinking"] = block.get("thinking", "") + piece.get("thinking", "")
            block.update({name: value for name, value in piece.items() if name not in ("thinking", "type")})
        else:
            blocks.append(piece)
        is_open = piece.get("type", "thinking") == "thinking" and "signature" not in piece
    return blocks


def _function_call(pieces: list[Any]) -> dict[str, str]:
    names = [field_of(piece, "name") for piece in pieces]
    return {
        "name": next((name for name in names if name), ""),
        "arguments": "".join(field_of(piece, "arguments") or "" for piece in pieces),
    }


def _audio(pieces: list[Any]) -> dict[str, Any]:
    """Audio comes in pieces, each of them base64 of its own."""
    audio: dict[str, Any] = {}
    data = bytearray()
    transcript: list[str] = []
    for piece in pieces:
        for name, value in fields_of(plain_of(piece)).items():
            if name == "data" and isinstance(value, str):
                try:
                    data += base64.b64decode(value)
                except (binascii.Error, ValueError):
                    continue
            elif name == "transcript":
                _append_text(transcript, value)
            elif value is not None:
                audio[name] = value
    if data:
        audio["data"] = blob_of_bytes(bytes(data), "base64")
    if transcript:
        audio["transcript"] = "".join(transcript)
    return audio


def _logprobs(pieces: list[Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for piece in pieces:
        merge_fields(merged, _own_fields(piece))
    return merged


MERGERS: Mapping[str, Callable[[list[Any]], Any]] = {
    "refusal": _joined,
    "reasoning_content": _joined,
    "thinking_blocks": _thinking,
    "annotations": _listed,
    "audio": _audio,
    "images": _listed,
    "function_call": _function_call,
    "logprobs": _logprobs,
}
"""How the pieces of a field add up."""
