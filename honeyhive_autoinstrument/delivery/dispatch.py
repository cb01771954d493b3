"""One Batch until every Event of it has its fate: sent, refused, or left for later.

What a server does not take as a whole is split, sent in part or shortened here; how often and when a request is tried again
is the caller's. Used by the uploader and by `honeyhive-events`. Pure but for the `send` it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome, Record

MAX_PARTLY = 8
"""Answers to one Batch that take a part only; a server that takes one Event at a time gets the rest later."""
SMALLEST_BYTES = 2 * 1024
"""An Event that is refused as too large is halved down to this, and no further: what is left would say nothing."""


class Fate(Enum):
    """What became of Events."""

    SENT = "sent"
    REFUSED = "refused"
    """The server will never take them as they are."""
    LEFT = "left"
    """For a later try."""


@dataclass(frozen=True, slots=True)
class Step:
    """Events that have found their fate, and the answer that decided it."""

    fate: Fate
    batch: Batch
    answer: Answer


def dispatch(batch: Batch, send: Callable[[Batch], Answer], unknown: set[str]) -> Iterator[Step]:
    """Bring a Batch to its server. Each Event is in exactly one Step; LEFT, if it comes, is the last one.

    :param unknown: Events of which a change came too early; their further changes wait behind it. New ones are added.
    """
    work = [batch] if len(batch) else []
    originals: dict[str, Record] = {}
    """Events that were too large by themselves, before they were shortened."""
    partly = 0
    later: list[Batch] = []
    why = Answer(outcome=Outcome.NOT_YET)
    while work:
        part = work.pop()
        behind = Batch.of(record for record in part.records if record.updates in unknown)
        if len(behind):
            later.append(behind)
            part = part.without(behind.ids)
            if not len(part):
                continue
        answer = send(part)
        if answer.outcome is Outcome.DELIVERED:
            yield Step(Fate.SENT, part, answer)
        elif answer.outcome is Outcome.PARTLY:
            rest = part.without(answer.accepted)
            taken = part.without(rest.ids)
            if len(taken):
                yield Step(Fate.SENT, taken, answer)
            partly += 1
            if len(rest):
                work.append(rest)
            if not len(taken) or partly > MAX_PARTLY:
                yield _left([*later, *reversed(work)], answer)
                return
        elif answer.outcome in (Outcome.RETRY_LATER, Outcome.UNAUTHORISED):
            yield _left([*later, part, *reversed(work)], answer)
            return
        elif answer.outcome is Outcome.NOT_YET and len(part) == 1:
            later.append(part)
            unknown.update(record.updates for record in part.records if record.updates is not None)
            why = answer
        elif len(part) > 1:
            # Too large, or one bad Event among good ones: smaller Batches tell which.
            work.extend(reversed(part.halves()))
        else:
            (record,) = part.records
            original = originals.setdefault(record.id, record)
            limit = len(record.body) // 2
            shortened = None
            if answer.outcome is Outcome.TOO_LARGE and limit >= SMALLEST_BYTES:
                shortened = original.shortened(limit)
            if shortened is None or len(shortened.body) >= len(record.body):
                yield Step(Fate.REFUSED, Batch.of([original]), answer)
            else:
                work.append(Batch.of([shortened]))
    if later:
        yield _left(later, why)


def _left(batches: list[Batch], answer: Answer) -> Step:
    return Step(Fate.LEFT, Batch.of([record for batch in batches for record in batch.records]), answer)
