"""`honeyhive-events send`: what is kept here goes to its server, file by file, under the lock that running programs use."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from honeyhive_autoinstrument.delivery.backoff import delay_s
from honeyhive_autoinstrument.delivery.dispatch import Fate, dispatch
from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome, Record, Sink
from honeyhive_autoinstrument.delivery.spool import Spool, events_in

TRIES = 3
"""For one request; then the rest stays, since a person waits."""
LONGEST_PAUSE_S = 30.0
SAID_EVERY_S = 1.0


@dataclass(slots=True)
class Sent:
    """What became of the events of one run."""

    sent: int = 0
    changed: int = 0
    """Changes of events that were there already."""
    refused: int = 0
    left: int = 0
    """At least so many; the files after the first that could not be sent are not looked into."""


class Progress:
    """Says on stderr how far it is: one line that changes on a terminal, else a line now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._is_terminal = sys.stderr.isatty()
        self._said_at = float("-inf")
        self._has_line = False

    def at(self, done: int) -> None:
        """So many are done with."""
        now = time.monotonic()
        if now - self._said_at < (0.1 if self._is_terminal else SAID_EVERY_S) and done < self._total:
            return
        self._said_at = now
        self._total = max(self._total, done)
        text = f"{done} of {self._total} events"
        print(
            f"\r{text}" if self._is_terminal else text,
            end="" if self._is_terminal else "\n",
            file=sys.stderr,
            flush=True,
        )
        self._has_line = self._is_terminal

    def say(self, text: str) -> None:
        """A line of its own."""
        self.end()
        print(f"honeyhive-events: {text}", file=sys.stderr)

    def end(self) -> None:
        """What follows begins on a new line."""
        if self._has_line:
            print(file=sys.stderr)
        self._has_line = False


def send_kept(spools: list[Spool], sink: Sink) -> Sent:
    """Send what these folders hold. Stops at the first failure that would meet the rest as well."""
    result = Sent()
    unknown: set[str] = set()
    progress = Progress(sum(events_in(path) for spool in spools for path in spool.paths()))
    for spool in spools:
        with spool.claimed() as is_mine:
            if not is_mine:
                if not spool.is_empty():
                    progress.say(f"another process is sending {spool.folder} right now, or it cannot be written")
                continue
            for path in spool.replayable():
                why = _send_file(spool, path, patiently(sink.send), result, unknown)
                progress.at(result.sent + result.changed + result.refused)
                if why is not None:
                    progress.say(why)
                    break
    progress.end()
    return result


def _send_file(
    spool: Spool, path: Path, send: Callable[[Batch], Answer], result: Sent, unknown: set[str]
) -> str | None:
    """What the server said, if events are left.

    :param unknown: see `dispatch`.
    """
    batch = spool.load(path)
    if batch is None:
        return None
    refused: list[Record] = []
    why = ""
    for step in dispatch(batch, send, unknown):
        if step.fate is Fate.LEFT and step.answer.outcome is Outcome.NOT_YET:
            spool.put(step.batch, spool.new_path(step.batch, path))
            result.left += len(step.batch)
            continue
        if step.fate is Fate.LEFT:
            # The file stays whole, and with it what of it is sent: the same ids make a repeat harmless.
            result.left += len(step.batch)
            return step.answer.detail
        if step.fate is Fate.SENT:
            result.sent += len(step.batch.creations())
            result.changed += len(step.batch) - len(step.batch.creations())
        else:
            refused += step.batch.records
            why = step.answer.detail
    if refused:
        spool.reject(Batch.of(refused), why)
        result.refused += len(refused)
    spool.remove(path)
    return None


def patiently(send: Callable[[Batch], Answer]) -> Callable[[Batch], Answer]:
    """The same, with a few tries where a failure may pass."""

    def send_patiently(batch: Batch) -> Answer:
        for tries in range(1, TRIES + 1):
            answer = send(batch)
            if answer.outcome is not Outcome.RETRY_LATER or tries == TRIES:
                break
            pause_s = delay_s(tries, answer.retry_after_s, random.random)
            if pause_s > LONGEST_PAUSE_S:
                break
            time.sleep(pause_s)
        return answer

    return send_patiently
