"""Courier: brings what is in a Hand to the Sink, and what does not go now to disk; sends what waits there.

Used by the uploader's threads, and by the thread that closes it. Waits for the Sink, and between two tries. Knows which
tries make sense (`breaker.py`, `backoff.py`), and nothing of threads.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Generic

from honeyhive_autoinstrument._faults import faults, guarded, log
from honeyhive_autoinstrument.delivery.backoff import delay_s
from honeyhive_autoinstrument.delivery.breaker import Breaker
from honeyhive_autoinstrument.delivery.dispatch import Fate, dispatch
from honeyhive_autoinstrument.delivery.holdings import Hand, Holdings, T, read_ticks
from honeyhive_autoinstrument.delivery.journal import Journal
from honeyhive_autoinstrument.delivery.ledger import DropReason
from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome, Record, Sink
from honeyhive_autoinstrument.delivery.spool import Spool, written_ns
from honeyhive_autoinstrument.patience import LOOK_S, Patience

TRIES_IN_MEMORY = 3
"""Then the Batch goes to disk, where it waits without a limit on tries."""
WRITING_S = 0.25
"""How long the end of the process waits for a worker that is just writing a file."""
MEMORY_S = 2.0
"""The same by time: what a killed process loses is no older than this, the linger and one request."""


class Courier(Generic[T]):
    """The way of the Hands of one Uploader in one process. Safe from several threads."""

    def __init__(
        self,
        holdings: Holdings[T],
        *,
        sink: Sink | None,
        spool: Spool | None,
        journal: Journal | None,
        enough_queued: int,
    ) -> None:
        """
        :param enough_queued: so many new items are more urgent than what waits on disk.
        """
        self._holdings = holdings
        self._sink = sink
        self._spool = spool
        self._journal = journal
        self._enough_queued = enough_queued
        self._random = random.Random().random
        self._breaker = Breaker(self._random)
        self._being_written: dict[Path, Hand[T]] = {}
        self._done_with: set[Path] = set()
        """Files that are sent and could not be removed."""
        self.is_closing = False
        self.deadline = float("inf")
        self._closing_since_ns = 0

    @property
    def has_failed(self) -> bool:
        """Whether the last answer was a failure."""
        return self._breaker.failures > 0

    def is_parked(self) -> bool:
        """Whether nothing may be sent now."""
        with self._holdings.lock:
            return self._breaker.is_parked(read_ticks())

    def begin_closing(self, deadline: float) -> None:
        """The program wants to end: no pauses any more, and no second try after a failure."""
        self.is_closing = True
        self.deadline = deadline
        self._closing_since_ns = time.time_ns()
        if self._holdings.waiting:
            self._breaker.release()  # what waits in memory gets its last try

    def go_on(self) -> None:
        """It did not end."""
        self.is_closing = False
        self.deadline = float("inf")
        self._breaker.release()

    def deliver(self, hand: Hand[T], unknown: set[str] | None = None) -> bool:
        """Bring what is in hand to the Sink; what does not go now is kept.

        :param unknown: see `dispatch`; the same for Hands that are delivered one after the other.
        :returns: False if all of it has to wait for what waits already.
        """
        if self._sink is None or hand.batch is None:
            self.keep(hand)
            return True
        sink = self._sink
        ready = self._ready(hand, hand.batch)
        if not len(ready) or not self._may_send():
            self.keep(hand)
            return len(ready) > 0
        refused: list[Record] = []
        why = ""

        def send(batch: Batch) -> Answer:
            return self._send(sink, hand, batch)

        for step in dispatch(ready, send, set() if unknown is None else unknown):
            if step.fate is Fate.SENT:
                if self._holdings.sent(hand, step.batch):
                    self._leave_journal(step.batch)
            elif step.fate is Fate.REFUSED:
                refused += step.batch.records
                why = step.answer.detail
            else:
                hand.left_because = step.answer.outcome
        if refused:
            self._reject(hand, Batch.of(refused), why)
        self.keep(hand)
        return True

    def _ready(self, hand: Hand[T], batch: Batch) -> Batch:
        """What of it may go out now: changes from the queue do not overtake what waits for a later try, which may be the
        Event that they change. (What has waited itself has its turn.)"""
        if hand.is_backlog or not hand.has_changes or not self._holdings.has_backlog():
            return batch
        if self._spool is None:
            return batch if self.is_closing else batch.creations()  # there is no later try after the end
        # Another process may have sent what this one has left on disk.
        is_alone = not self._holdings.waiting and self._spool.is_empty()
        return batch if is_alone else batch.creations()

    def keep(self, hand: Hand[T]) -> None:
        """Put what is in hand to disk (or leave a Batch there that was read from it); without a disk, into memory."""
        batch = hand.batch
        if batch is None or not len(batch):
            return
        if self._spool is None:
            self._keep_in_memory(hand, batch, DropReason.ENDED)
            return
        if hand.path is not None and len(batch) == hand.taken:
            hand.is_left_on_disk = self._holdings.spooled(hand, batch, hand.path)
            return
        if self.is_closing and self._journal is not None and self._journal.holds(batch.ids):
            self._holdings.spooled(
                hand, batch, None
            )  # a later process finds them there; a second file would double them
            return
        path = self._spool.new_path(batch, hand.path)
        with self._holdings.lock:
            if not self._holdings.is_held(hand):
                return  # who has taken it puts it to disk
            self._being_written[path] = hand
        try:
            self._holdings.made_room(self._spool.put(batch, path))
        except OSError as error:
            self.say_disk_failed(error)
            self._keep_in_memory(hand, batch, DropReason.DISK_FAILED)
        else:
            with self._holdings.lock:
                # In one: a file is being written, or it is counted.
                self._being_written.pop(path, None)
                is_kept = self._holdings.spooled(hand, batch, path)
            if is_kept:
                self._leave_journal(batch)
            else:
                self._spool.remove(path)  # taken away meanwhile; who has it puts it to disk, too
        finally:
            self._being_written.pop(path, None)

    def undo_writing(self) -> None:
        """Remove the files of Hands that were taken from workers as they wrote: the process may end before they do."""
        patience = Patience(WRITING_S)
        while self._spool is not None and not patience.is_over():
            nobodys = [path for path, hand in list(self._being_written.items()) if not self._holdings.is_held(hand)]
            if not nobodys:
                return
            for path in nobodys:
                self._spool.remove(path)
            time.sleep(LOOK_S)

    def catch_up(self) -> None:
        """Send what waits in memory and on disk, oldest first, as long as it goes well and nothing new is waiting."""
        with guarded("send what waits"):
            unknown: set[str] = set()
            number = -1
            while read_ticks() < self.deadline and not (self._sink is not None and self.is_parked()):
                hand = self._holdings.take_waiting(after=number)
                if hand is None:
                    break
                number = hand.waited_as or 0
                self._deliver_and_release(hand, unknown)
                if hand.left_because not in (None, Outcome.NOT_YET):
                    break
            if self._sink is None or self._spool is None or self.is_parked() or self._spool.is_empty():
                return
            with self._spool.claimed() as is_mine:
                if is_mine:
                    self._replay(self._spool)

    def say_disk_failed(self, error: OSError) -> None:
        """Memory goes on."""
        assert self._spool is not None
        faults.say(
            "disk",
            "HoneyHive events cannot be kept in %s (%s). They stay in memory as long as there is room, and are still sent"
            " where possible. Make room, or set HONEYHIVE_HOME to a folder that can be written.",
            self._spool.folder,
            error,
        )

    def _send(self, sink: Sink, hand: Hand[T], batch: Batch) -> Answer:
        """The Sink's answer, after a few tries if it is a passing failure."""
        began = read_ticks()
        tries = 0
        while True:
            answer = Answer(outcome=Outcome.RETRY_LATER, detail="our own request failed")
            hand.requests = 1 + sum(record.updates is not None for record in batch.records) + len(batch.sessions())
            hand.sending_since = read_ticks()
            with guarded("send a batch"):
                answer = sink.send(batch)
            hand.sending_since = float("inf")
            tries += 1
            log.debug("A batch of %d events: %s %s", len(batch), answer.outcome.value, answer.detail)
            self._learn_from(answer)
            if answer.outcome is not Outcome.RETRY_LATER or tries >= TRIES_IN_MEMORY or self.is_parked():
                return answer
            wait_s = delay_s(tries, answer.retry_after_s, self._random)
            if read_ticks() + wait_s - began > MEMORY_S:
                with self._holdings.lock:
                    self._breaker.pause(wait_s, read_ticks())
                return answer
            if not self._pause(wait_s):
                return answer

    def _learn_from(self, answer: Answer) -> None:
        with self._holdings.lock:
            self._breaker.learn(answer, read_ticks())
        if answer.outcome is Outcome.UNAUTHORISED:
            faults.say(
                "unauthorised",
                "HoneyHive does not take this key, or the URL is wrong: %s. Events are kept %s and tried again once a"
                " minute. Check HONEYHIVE_API_KEY and HONEYHIVE_API_URL (`honeyhive-instrument --check`).",
                answer.detail,
                self._where_kept(),
            )
        elif answer.outcome is Outcome.RETRY_LATER:
            faults.say(
                "unreachable",
                "HoneyHive cannot be reached: %s. The program is not affected; events are kept %s and sent later.",
                answer.detail,
                self._where_kept(),
            )
        else:
            return
        if self.is_closing:
            # The program waits for us: one failure is enough, the rest goes to disk.
            self._park(float("inf"))

    def _where_kept(self) -> str:
        return f"in {self._spool.folder}" if self._spool is not None else "in memory, as long as the program runs,"

    def _park(self, seconds: float) -> None:
        with self._holdings.lock:
            self._breaker.park(seconds, read_ticks())

    def _may_send(self) -> bool:
        with self._holdings.lock:
            return self._breaker.may_send(read_ticks())

    def _pause(self, seconds: float) -> bool:
        """Wait between two tries; False if the process ends meanwhile."""
        until = read_ticks() + seconds
        while not self.is_closing:
            left = until - read_ticks()
            if left <= 0:
                return True
            time.sleep(min(left, 0.05))
        return False

    def _keep_in_memory(self, hand: Hand[T], batch: Batch, at_the_end: DropReason) -> None:
        """
        :param at_the_end: why the Events are lost if the program ends now.
        """
        if self.is_closing:
            self._holdings.dropped(hand, batch, at_the_end)
        else:
            self._holdings.wait(hand, batch)

    def _reject(self, hand: Hand[T], batch: Batch, why: str) -> None:
        faults.say(
            "rejected",
            "HoneyHive refused %d event%s: %s. What it refuses is set aside%s; the others go on.",
            len(batch),
            "s" if len(batch) != 1 else "",
            why,
            f" in {self._spool.folder}" if self._spool is not None else "",
        )
        if self._spool is not None:
            try:
                self._spool.reject(batch, why)
            except OSError as error:
                self.say_disk_failed(error)
        if self._holdings.rejected(hand, batch):
            self._leave_journal(batch)

    def _leave_journal(self, batch: Batch) -> None:
        """What is sent, set aside or in a file of its own needs no line in the journal."""
        if self._journal is not None:
            self._journal.settle(batch.ids)

    def _replay(self, spool: Spool) -> None:
        while self._replay_once(spool):
            pass  # the keeper may have put more there meanwhile

    def _replay_once(self, spool: Spool) -> bool:
        """One pass over the folder. True: everything went well, and there may be more."""
        has_sent = False
        unknown: set[str] = set()
        for path in spool.replayable():
            is_late = read_ticks() >= self.deadline
            if self.is_parked() or is_late or self._holdings.queued >= self._enough_queued:
                return False
            if path in self._being_written or path in self._done_with:
                continue  # by another worker, which has not counted it yet
            if self.is_closing and written_ns(path) >= self._closing_since_ns:
                return False  # what threads that go on meanwhile put there would keep the end waiting
            batch = spool.load(path)
            if batch is None:
                continue
            hand = self._holdings.take_file(batch, path)
            is_done_with = self._deliver_and_release(hand, unknown)
            if is_done_with and not spool.remove(path):
                self._done_with.add(path)
            is_early = hand.left_because is Outcome.NOT_YET
            if not is_early and (hand.left_because is not None or not is_done_with):
                return False
            if not is_done_with and not hand.is_left_on_disk:
                return False  # it was taken away
            has_sent = has_sent or is_done_with
        return has_sent

    def _deliver_and_release(self, hand: Hand[T], unknown: set[str]) -> bool:
        """True: the Hand is settled, and its file, if it has one, is done with."""
        try:
            self.deliver(hand, unknown)
        finally:
            self.keep(hand)
            is_mine = self._holdings.release(hand)
        return is_mine and not hand.is_left_on_disk
