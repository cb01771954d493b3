"""Server-sent events, as streams of Anthropic's and Google's own APIs hand them out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from honeyhive_autoinstrument.events.values import plain_of


def events_in(chunks: Sequence[object]) -> list[Any]:
    """The JSON of server-sent events, from bytes that are cut anywhere; chunks that are no text are events already."""
    events: list[Any] = []
    pieces: list[bytes] = []
    for chunk in chunks:
        if isinstance(chunk, bytes):
            pieces.append(chunk)
        elif isinstance(chunk, str):
            pieces.append(chunk.encode("utf-8", "replace"))
        else:
            events.append(plain_of(chunk))
    for line in b"".join(pieces).splitlines():
        if line.startswith(b"data:"):
            try:
                events.append(orjson.loads(line[5:]))
            except orjson.JSONDecodeError:
                continue  # `[DONE]`, or cut off where reading stopped
    return events
