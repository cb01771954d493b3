"""Sessions and Events of the local store, read from the Spool's files. Reading disturbs nobody: files are whole or gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from honeyhive_autoinstrument.delivery.sink import Record
from honeyhive_autoinstrument.delivery.spool import Spool, journals


@dataclass(slots=True)
class StoredSession:
    """A session and its Events, as kept on disk."""

    id: str
    name: str
    started_ms: float
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id: an Event that stands in two files counts once."""


def read_sessions(spools: Iterable[Spool]) -> list[StoredSession]:
    """All sessions on disk, oldest first."""
    sessions: dict[str, StoredSession] = {}
    updates: list[tuple[str, Any]] = []
    for record in records_in(spools):
        if record.updates is not None:
            updates.append((record.updates, orjson.loads(record.body)))
            continue
        if record.session_id not in sessions:
            sessions[record.session_id] = _session_of(record.session_id, orjson.loads(record.session_body))
        event = orjson.loads(record.body)
        if isinstance(event, dict):
            sessions[record.session_id].events[record.id] = _whole(event, record.id)
    events = {event_id: event for session in sessions.values() for event_id, event in session.events.items()}
    for event_id, fields in updates:
        if event_id in events:
            change(events[event_id], fields)
    return sorted(sessions.values(), key=lambda session: session.started_ms)


def records_in(spools: Iterable[Spool]) -> Iterator[Record]:
    """Everything on disk, in the order in which it was written there: Events, and changes of Events."""
    for spool in spools:
        for path in (*spool.paths(), *journals(spool.folder)):
            batch = spool.peek(path)
            if batch is not None:
                yield from batch.records


def change(event: dict[str, Any], fields: Any) -> None:
    """Do to a stored Event what the server would (honeyhive_api.md 2.5): `outputs` are replaced, other buckets merged."""
    for name, value in fields.items() if isinstance(fields, dict) else ():
        if not isinstance(value, dict):
            continue
        known = event.get(name)
        event[name] = value if name == "outputs" or not isinstance(known, dict) else {**known, **value}


def _session_of(session_id: str, row: Any) -> StoredSession:
    row = row if isinstance(row, dict) else {}
    return StoredSession(
        id=session_id, name=str(row.get("session_name") or ""), started_ms=number_of(row, "start_time")
    )


def _whole(event: dict[str, Any], event_id: str) -> dict[str, Any]:
    """The Event with everything that is always there in one of ours. Other releases and other hands write files, too."""
    buckets = {name: event[name] if isinstance(event.get(name), dict) else {} for name in ("config", "metadata")}
    return {
        **event,
        **buckets,
        "event_id": event_id,
        "event_type": str(event.get("event_type") or "event"),
        "event_name": str(event.get("event_name") or "unknown"),
        "start_time": number_of(event, "start_time"),
        "duration": number_of(event, "duration"),
    }


def number_of(fields: dict[str, Any], name: str) -> float:
    """A number among fields; 0 where there is none."""
    value = fields.get(name)
    return value if isinstance(value, int | float) else 0.0
