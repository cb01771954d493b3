"""Sink (Protocol), Record, Batch, Outcome, Answer: what the rooms of delivery say to each other. Pure data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

import orjson

from honeyhive_autoinstrument.redaction import shorten_to_fit


class Outcome(Enum):
    """A Sink's answer to a Batch."""

    DELIVERED = "delivered"
    RETRY_LATER = "retry later"
    """No network, 408, 425, 429, 5xx: the same Batch may go through later."""
    PARTLY = "partly"
    """Some Events were taken; `Answer.accepted` names them."""
    TOO_LARGE = "too large"
    """413, or a 400 that names the size: a smaller Batch may go through."""
    UNAUTHORISED = "unauthorised"
    """401, 403, 404 and what else tells of the key, the URL or the way there, not of an Event. Everything is kept."""
    NOT_YET = "not yet"
    """A change of an Event that the server does not know yet; others may go on."""
    REJECTED = "rejected"
    """The server will never take it as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One encoded Event and the session row that has to exist before it."""

    id: str
    """The Event's id; the same in every try, so that a repeat is harmless."""
    body: bytes
    session_id: str
    session_body: bytes
    updates: str | None = None
    """Id of the Event, or session, that this changes and does not create; its session is not told then. `id` is its own."""
    made_s: float = 0.0
    """Of a change: Unix time. What it changes may not have arrived yet, but not for ever."""

    def shortened(self, max_bytes: int) -> Record | None:
        """The same Event with its longest texts cut to head and tail, near the limit; None where that does not help."""
        smaller = orjson.dumps(
            shorten_to_fit(orjson.loads(self.body), max_bytes, lambda value: len(orjson.dumps(value)))
        )
        return replace(self, body=smaller) if len(smaller) < len(self.body) else None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one request."""

    records: tuple[Record, ...]

    @classmethod
    def of(cls, records: Iterable[Record]) -> Batch:
        return cls(tuple(records))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of its Events, in order."""
        return tuple(record.id for record in self.records)

    def halves(self) -> tuple[Batch, Batch]:
        """Two smaller ones; only for a Batch of two or more."""
        middle = len(self.records) // 2
        return Batch(self.records[:middle]), Batch(self.records[middle:])

    def without(self, ids: Sequence[str]) -> Batch:
        """What is left when these Events are taken."""
        taken = frozenset(ids)
        return Batch(tuple(record for record in self.records if record.id not in taken))

    def sessions(self) -> dict[str, bytes]:
        """The session rows of these Records by id, each once."""
        return {record.session_id: record.session_body for record in self.records if record.updates is None}

    def creations(self) -> Batch:
        """Without what changes Events that are there."""
        if all(record.updates is None for record in self.records):
            return self
        return Batch(tuple(record for record in self.records if record.updates is None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a Sink made of a Batch."""

    outcome: Outcome
    detail: str = ""
    """For a person: what was tried and what came back. No key, no content."""
    retry_after_s: float | None = None
    status: int | None = None
    """HTTP's, where there was an answer."""
    accepted: tuple[str, ...] = ()


class Sink(Protocol):
    """Where Batches go. Safe from several threads. `send` may block for its own timeout; it does not raise for an answer or
    a broken network."""

    def send(self, batch: Batch) -> Answer: ...

    def hurry(self, seconds: float) -> None:
        """No request that begins after this waits longer for its server: the program wants to end. Infinity: it does not."""

    def has_contact(self) -> bool:
        """False while every request under way is still looking for its server. A program that ends waits no longer then."""

    def close(self) -> None: ...

    def before_fork(self) -> None:
        """Hold what must not be cut in half."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork(self) -> None:
        """In the child: what is open is the parent's."""
