"""`honeyhive-events export`: what is kept here as JSON Lines, each session row and each event once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from honeyhive_autoinstrument.delivery.spool import Spool, journals


def exported_lines(spools: Iterable[Spool]) -> Iterator[tuple[bool, bytes]]:
    """(whether it is an event and no session row, a line), the row of a session before the first of its events.

    A session row has the form of an event of type `session`, whose id is the session's (honeyhive_api.md 2.4).
    """
    seen: set[tuple[bool, str]] = set()
    for spool in spools:
        for path in (*spool.paths(), *journals(spool.folder)):
            batch = spool.peek(path)
            if batch is None:
                continue
            for record in batch.records:
                if (False, record.session_id) not in seen:
                    seen.add((False, record.session_id))
                    yield False, _session_line(record.session_id, record.session_body)
                if (True, record.id) not in seen:
                    seen.add((True, record.id))
                    yield True, record.body + b"\n"


def _session_line(session_id: str, body: bytes) -> bytes:
    row = orjson.loads(body)
    fields = row if isinstance(row, dict) else {}
    name = fields.get("session_name") or session_id
    line = {"event_type": "session", "event_id": session_id, "event_name": name, **fields, "session_id": session_id}
    return orjson.dumps(line) + b"\n"
