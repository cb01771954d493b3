"""Reading values that are not ours: LiteLLM's objects, the application's, providers' answers. Pure.

Everything an event shows of them goes through `plain_of` (JSON-like copies) and `without_blobs` (type, size and SHA-256 in
place of images, audio and files).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import orjson

from honeyhive_autoinstrument.events.facts import FileFacts

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


def fields_of(value: Any) -> Mapping[str, Any]:
    """The fields of a dictionary or a pydantic object, extra ones too; of anything else none. Not to be changed."""
    kind = type(value)
    if kind is dict:
        return value  # type: ignore[no-any-return]
    if PYDANTIC_MARK in kind.__dict__:
        extra = value.__pydantic_extra__
        fields: dict[str, Any] = value.__dict__
        return {**fields, **extra} if extra else fields
    return value if isinstance(value, Mapping) else {}


def plain_of(value: Any, depth: int = 0) -> Any:
    """A JSON-like copy: pydantic objects as their fields, classes by name, bytes by size and hash, the rest as text."""
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
        return blob_of_bytes(bytes(value))
    if kind is FileFacts:
        return file_as_plain(value)
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


def file_as_plain(file: FileFacts) -> dict[str, Any]:
    """A file given as an argument: name and type where it has them, size, and SHA-256 where its bytes were at hand."""
    plain: dict[str, Any] = {"type": file.media_type} if file.media_type else {}
    if file.name:
        plain["name"] = file.name
    if file.data is not None:
        return {"type": "bytes", **plain, **_size_and_digest(file.data)}
    return {"type": "file", **plain, **({} if file.size is None else {"size": file.size})}


def blob_of_bytes(data: bytes, media_type: str | None = None) -> dict[str, Any]:
    """Type, size and SHA-256 in place of bytes."""
    return {"type": media_type or "bytes", **_size_and_digest(data)}


def blob_of(text: str, media_type: str | None = None) -> dict[str, Any]:
    """Type, size and SHA-256 of what a base64 text holds; of the text itself if it is none."""
    try:
        data = base64.b64decode(text, altchars=b"-_" if "-" in text or "_" in text else None)
    except (binascii.Error, ValueError):
        data = text.encode("utf-8", "replace")
    return {"type": media_type or "base64", **_size_and_digest(data)}


def _size_and_digest(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,")

BLOB_FIELDS = frozenset(
    {"data", "file_data", "b64_json", "image_base64", "bytes", "partial_image_b64", "bytesBase64Encoded"}
)
"""Fields in which providers and LiteLLM carry base64: OpenAI's `input_audio.data`, `file.file_data`, `b64_json`, Anthropic's
`source.data`, Google's `inlineData.data`, Bedrock's `bytes`, Mistral's OCR `image_base64`, Vertex's `bytesBase64Encoded`."""

BLOB_LISTS = frozenset({"images"})
"""Lists of the same: Ollama's `images`."""

SHORTEST_IN_LIST = 64
"""Characters; shorter ones in such a list may be words."""

TYPE_FIELDS = ("media_type", "mime_type", "mimeType")

BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")


def without_blobs(value: Any) -> Any:
    """A copy of a JSON-like value with blobs in place of base64 texts and data URLs. Other texts are the same objects."""
    kind = type(value)
    if kind is str:
        return _url_or_blob(value) if value.startswith("data:") else value
    if kind is dict:
        copied = {}
        for key, item in value.items():
            if type(item) is str and not item.startswith("data:") and _carries_base64(key, value):
                item = _field_or_blob(item, value)
            elif type(item) is list and key in BLOB_LISTS:
                item = [_field_or_blob(each, value) if _may_be_base64(each) else without_blobs(each) for each in item]
            elif type(item) in (str, dict, list):
                item = without_blobs(item)
            copied[key] = item
        return copied
    if kind is list:
        return [without_blobs(item) for item in value]
    return value


def _carries_base64(name: Any, fields: Mapping[str, Any]) -> bool:
    # The Responses API's `image_generation_call` has its image in `result`.
    return name in BLOB_FIELDS or (name == "result" and fields.get("type") == "image_generation_call")


def _may_be_base64(text: Any) -> bool:
    return type(text) is str and len(text) >= SHORTEST_IN_LIST and not text.startswith("data:")


VECTOR_FIELDS = frozenset({"embedding", "embeddings", "vector", "vectors", "values"})


def without_vectors(value: Any) -> Any:
    """A copy of a raw answer with the number of numbers in place of each vector."""
    if type(value) is dict:
        return {key: _shape_of(item) if key in VECTOR_FIELDS else without_vectors(item) for key, item in value.items()}
    if type(value) is list:
        return [without_vectors(item) for item in value]
    return value


def _shape_of(value: Any) -> Any:
    if type(value) is dict:  # Cohere has them by type
        return {key: _shape_of(item) for key, item in value.items()}
    if type(value) is not list:
        return without_vectors(value)
    if value and all(type(item) is float or type(item) is int for item in value):
        return {"dimensions": len(value)}
    return [_shape_of(item) for item in value]


def _url_or_blob(url: str) -> Any:
    found = DATA_URL.match(url)
    return blob_of(url[found.end() :], found.group(1)) if found else url


def _field_or_blob(text: str, fields: Mapping[str, Any]) -> Any:
    # The beginning only: matching a whole image would hold the interpreter for the time.
    if BASE64.fullmatch(text[:256].replace("\n", "")) is None:
        return text
    named = next((fields[name] for name in TYPE_FIELDS if isinstance(fields.get(name), str)), None)
    return blob_of(text, named)


def without_nothing(value: Any) -> Any:
    """A copy without None, empty texts, lists and dictionaries, to the bottom: what providers leave unset says nothing."""
    if type(value) is dict:
        copied = {key: without_nothing(item) for key, item in value.items()}
        return {
            key: item for key, item in copied.items() if item is not None and item != {} and item != [] and item != ""
        }
    if type(value) is list:
        return [without_nothing(item) for item in value]
    return value


def json_text(value: Any) -> str:
    """JSON text of a tool's arguments: as given if they are text, which need not be whole."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    plain = plain_of(value)
    try:
        return orjson.dumps(plain, default=str).decode()
    except TypeError:  # lone surrogates, numbers beyond 64 bits
        return json.dumps(plain, default=str)


def list_of(value: Any) -> list[Any]:
    """A list or tuple as a list; nothing as none; anything else as the only element."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def text_of(value: Any) -> str:
    """The text itself, nothing as an empty one, anything else written out."""
    if isinstance(value, str):
        return value
    return "" if value is None else str(plain_of(value))


def metadata_in(arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The metadata that a call was given; `metadata` before `litellm_metadata`, which stands in for it where an API has a
    parameter of that name."""
    for name in ("metadata", "litellm_metadata"):
        bucket = arguments.get(name)
        if isinstance(bucket, dict):
            yield bucket
