"""Sessions and Events of the local store, read from the Spool's files. Reading disturbs nobody: files are whole or gone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from honeyhive_autoinstrument.delivery.spool import Spool


@dataclass(slots=True)
class StoredSession:
    """A session and its Events, as kept on disk."""

    id: str
    name: str
    started_ms: float
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id: an Event that stands in two files counts once."""


def destinations(home: str) -> list[str]:
    """Names of the folders in the spool; `local` holds what was recorded without a key."""
    try:
        return sorted(path.name for path in (Path(home) / "spool").iterdir() if path.is_dir())
    except OSError:
        return []


def read_sessions(spools: Iterable[Spool]) -> list[StoredSession]:
    """All sessions on disk, oldest first."""
    sessions: dict[str, StoredSession] = {}
    for spool in spools:
        for path in spool.paths():
            batch = spool.peek(path)
            if batch is None:
                continue
            for session_id, body in batch.sessions().items():
                if session_id not in sessions:
                    row = orjson.loads(body)
                    sessions[session_id] = StoredSession(
                        id=session_id, name=row.get("session_name", ""), started_ms=row.get("start_time", 0.0)
                    )
            for record in batch.records:
                sessions[record.session_id].events[record.id] = orjson.loads(record.body)
    return sorted(sessions.values(), key=lambda session: session.started_ms)
