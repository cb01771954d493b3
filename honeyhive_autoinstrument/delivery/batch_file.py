"""The form of what lies in the Spool: a header, then a line of JSON for each session row and each Event. Pure.

A Batch's file is written whole, and its header says how many Events it has. A journal's grows line by line, and ends in the
middle of one if its process was killed there; a `done` line names Events that need no more sending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from honeyhive_autoinstrument.delivery.sink import Batch, Record

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Decoded:
    """What could be read of a file."""

    batch: Batch
    damaged: int = 0
    """Lines that nothing could be made of."""
    missing: int = 0
    """Events that the header speaks of and that are not there."""


def header_line(**fields: Any) -> bytes:
    """The first line of a file."""
    return orjson.dumps({"format": FORMAT, **fields}) + b"\n"


def session_line(session_id: str, body: bytes) -> bytes:
    """The row of a session, before the first of its Events."""
    return b'{"session_id":' + orjson.dumps(session_id) + b',"session":' + body + b"}\n"


def event_line(record: Record) -> bytes:
    """One Event."""
    if record.updates is not None:
        return b'{"event_id":%b,"updates":%b,"made_s":%b,"event":%b}\n' % (
            orjson.dumps(record.id),
            orjson.dumps(record.updates),
            orjson.dumps(record.made_s),
            record.body,
        )
    return b'{"event_id":%b,"session_id":%b,"event":%b}\n' % (
        orjson.dumps(record.id),
        orjson.dumps(record.session_id),
        record.body,
    )


def done_line(ids: Sequence[str]) -> bytes:
    """Events of a journal that have left it: sent, or kept elsewhere."""
    return orjson.dumps({"done": ids}) + b"\n"


def encode_batch(batch: Batch, **header: Any) -> bytes:
    """A whole file.

    :param header: further fields of the header.
    """
    lines = [header_line(events=len(batch), **header)]
    lines.extend(session_line(session_id, body) for session_id, body in batch.sessions().items())
    lines.extend(map(event_line, batch.records))
    return b"".join(lines)


def decode(data: bytes) -> Decoded:
    """What a file holds, as far as it can be read.

    :raises ValueError: it is no file of ours, or of a format that is not known here.
    """
    first, *lines = data.split(b"\n")
    header = orjson.loads(first)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError("not a batch file of this format")
    sessions: dict[str, bytes] = {}
    records: dict[str, Record] = {}
    damaged = 0
    is_journal = "journal" in header
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            _read_line(orjson.loads(line), sessions, records)
        except (ValueError, KeyError, TypeError):
            if not (
                is_journal and number == len(lines)
            ):  # a journal's last line was being written when its process died
                damaged += 1
    expected = 0 if is_journal or not isinstance(header.get("events"), int) else header["events"]
    return Decoded(Batch.of(records.values()), damaged, max(0, expected - len(records)))


def _read_line(item: Any, sessions: dict[str, bytes], records: dict[str, Record]) -> None:
    if "done" in item:
        for each in item["done"]:
            records.pop(each, None)
        return
    if "updates" in item:
        event_id, updates = item["event_id"], item["updates"]
        if not isinstance(event_id, str) or not isinstance(updates, str):
            raise TypeError("an id is no text")
        records[event_id] = Record(
            id=event_id,
            body=orjson.dumps(item["event"]),
            session_id="",
            session_body=b"",
            updates=updates,
            made_s=float(item["made_s"]),
        )
        return
    session_id = item["session_id"]
    if not isinstance(session_id, str):
        raise TypeError("a session's id is no text")
    if "session" in item:
        sessions[session_id] = orjson.dumps(item["session"])
        return
    event_id = item["event_id"]
    if not isinstance(event_id, str):
        raise TypeError("an event's id is no text")
    records[event_id] = Record(
        id=event_id,
        body=orjson.dumps(item["event"]),
        session_id=session_id,
        session_body=sessions.get(session_id) or b'{"session_id":%b}' % orjson.dumps(session_id),
    )
