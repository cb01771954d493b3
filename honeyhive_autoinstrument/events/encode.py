"""Event -> bytes. A ladder: orjson as it is, then with odd values described, then without what nothing can encode.

Pure; it cannot raise for a value inside an Event.
"""

from __future__ import annotations

import math
from typing import Any

import orjson

from honeyhive_autoinstrument.events.schema import Event, SessionRow
from honeyhive_autoinstrument.events.values import plain_of
from honeyhive_autoinstrument.redaction import shorten_to_fit


def encode(record: Event | SessionRow, *, max_bytes: int) -> bytes:
    """The JSON of an Event or a session row, at most `max_bytes` long where shortening its texts can do that."""
    data = _dump(record)
    if len(data) <= max_bytes:
        return data
    smaller = shorten_to_fit(orjson.loads(data), max_bytes, lambda value: len(orjson.dumps(value)))
    return orjson.dumps(smaller)


def _dump(record: Event | SessionRow) -> bytes:
    try:
        return orjson.dumps(record, default=plain_of)
    except (TypeError, ValueError):
        # Lone surrogates, keys that are no text, numbers beyond 64 bits, more than 254 levels.
        fields = {name: getattr(record, name) for name in type(record).__dataclass_fields__}
        return orjson.dumps(tolerable(fields), default=str)


def tolerable(value: Any, depth: int = 0) -> Any:
    """A copy in which every value is one that JSON and orjson accept."""
    if depth > 40:
        return "[too deep]"
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {tolerable(str(key)): tolerable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tolerable(item, depth + 1) for item in value]
    return tolerable(plain_of(value), depth + 1)
