"""`honeyhive-events export`: what is kept here as JSON Lines, each session row and each event once, with its changes.

A change of an event that is not here any more is a line of its own, of the form `{"event_id": ..., "update": {...}}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from honeyhive_autoinstrument.delivery.spool import Spool
from honeyhive_autoinstrument.store.reader import change, records_in


def exported_lines(spools: Iterable[Spool]) -> Iterator[tuple[bool, bytes]]:
    """(whether it is an event and no session row, a line), the row of a session before the first of its events.

    A session row has the form of an event of type `session`, whose id is the session's (honeyhive_api.md 2.4).
    """
    known = list(spools)
    updates: dict[str, list[dict[str, Any]]] = {}
    for record in records_in(known):
        if record.updates is not None:
            fields = orjson.loads(record.body)
            updates.setdefault(record.updates, []).append({name: fields[name] for name in fields if name != "event_id"})
    seen: set[tuple[bool, str]] = set()
    for record in records_in(known):
        if record.updates is not None:
            continue
        if (False, record.session_id) not in seen:
            seen.add((False, record.session_id))
            line = _session_line(record.session_id, record.session_body)
            yield False, _changed(line, updates.pop(record.session_id, ())) + b"\n"
        if (True, record.id) not in seen:
            seen.add((True, record.id))
            yield True, _changed(record.body, updates.pop(record.id, ())) + b"\n"
    for event_id, changes in updates.items():
        for each in changes:
            yield True, orjson.dumps({"event_id": event_id, "update": each}) + b"\n"


def _changed(body: bytes, changes: Iterable[Any]) -> bytes:
    if not changes:
        return body
    event = orjson.loads(body)
    for fields in changes:
        change(event, fields)
    return orjson.dumps(event)


def _session_line(session_id: str, body: bytes) -> bytes:
    row = orjson.loads(body)
    fields = row if isinstance(row, dict) else {}
    name = fields.get("session_name") or session_id
    line = {"event_type": "session", "event_id": session_id, "event_name": name, **fields, "session_id": session_id}
    return orjson.dumps(line)
