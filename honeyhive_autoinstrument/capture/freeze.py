"""Copies of what the application may change after it made the call. Runs in its thread, so it is made to be quick.

Containers are copied to the bottom; texts and numbers are immutable and shared. Pydantic objects (LiteLLM's Message in
a history) become dictionaries of their fields, files what can be known of them without reading. Everything else is kept by
reference and described later, on a worker.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

from honeyhive_autoinstrument.events.facts import FileFacts
from honeyhive_autoinstrument.events.values import PYDANTIC_MARK

MAX_DEPTH = 24
MAX_CONTAINERS = 20_000
"""Deeper and larger structures are cut: one that holds itself more than once would never end."""

CUT = "[too deep or too large]"

_PLAIN = frozenset({str, int, float, bool, type(None)})


def freeze(value: Any, depth: int = 0, budget: list[int] | None = None) -> Any:
    """A copy that later changes by the application do not reach."""
    kind = type(value)
    plain = _PLAIN
    if kind in plain:
        return value
    if budget is None:
        budget = [MAX_CONTAINERS]
    budget[0] -= 1
    if depth >= MAX_DEPTH or budget[0] < 0:
        return CUT
    if kind is dict:
        copied = value.copy()  # one step of C code: another thread that adds a key meanwhile cannot break it
        for key, item in copied.items():
            if type(item) not in plain:
                copied[key] = freeze(item, depth + 1, budget)
        return copied
    if kind is list or kind is tuple or kind is set:
        return [item if type(item) in plain else freeze(item, depth + 1, budget) for item in list(value)]
    if isinstance(value, type):
        return value
    fields = getattr(value, "__dict__", None)
    if type(fields) is dict and PYDANTIC_MARK in kind.__dict__:
        extra = getattr(value, "__pydantic_extra__", None)
        return freeze({**fields, **extra} if extra else fields, depth, budget)
    if isinstance(value, Mapping):
        return freeze(dict(value), depth, budget)
    if kind is bytearray or kind is memoryview:
        return bytes(value)
    if isinstance(value, io.IOBase | os.PathLike):
        return file_facts_of(value)
    return value


def file_facts_of(file: Any) -> FileFacts:
    """What is known of an open file or a path. It is not read: the position is the application's."""
    if isinstance(file, io.BytesIO):
        # Shares the buffer until one of them writes; copies nothing.
        return FileFacts(name=_name_of(file), data=file.getvalue())
    try:
        size = os.stat(file if isinstance(file, os.PathLike) else file.fileno()).st_size
    except (OSError, ValueError):
        size = None
    return FileFacts(name=_name_of(file), size=size)


def _name_of(file: Any) -> str | None:
    name = os.fspath(file) if isinstance(file, os.PathLike) else getattr(file, "name", None)
    return os.path.basename(name) if isinstance(name, str) else None


def freeze_answer(result: Any) -> dict[str, Any] | None:
    """The choices of an answer as they were when the call returned: applications clean them up in place.

    None for an answer without choices; what is deeper than a message's fields is shared.
    """
    choices = getattr(result, "__dict__", NO_FIELDS).get("choices")
    if type(choices) is not list:
        return None
    copied = []
    for choice in choices:
        fields = _fields_of(choice)
        if "message" in fields:
            fields["message"] = _fields_of(fields["message"])
        copied.append(fields)
    return {"choices": copied}


NO_FIELDS: dict[str, Any] = {}


def _fields_of(value: Any) -> Any:
    if type(value) is dict:
        return value.copy()
    extra = getattr(value, "__pydantic_extra__", None)
    return {**value.__dict__, **extra} if extra else value.__dict__.copy()


def text_size(value: Any) -> int:
    """Characters in the texts of a frozen value; an estimate of what it will weigh. Looks two levels deep only: the
    texts of a conversation are in the messages of a list."""
    size = 0
    for item in value.values() if type(value) is dict else value:
        kind = type(item)
        if kind is str or kind is bytes:
            size += len(item)
        elif kind is FileFacts:
            size += len(item.data or b"")
        elif kind is dict:
            for inner in item.values():
                if type(inner) is str:
                    size += len(inner)
                elif type(inner) is list:
                    size += 64 + sum(_part_size(part) for part in inner)
    return size


def _part_size(part: Any) -> int:
    if type(part) is dict:
        return sum(len(item) if type(item) is str else 256 for item in part.values())
    return len(part) if type(part) is str else 64
