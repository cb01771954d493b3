"""Bounded queue, worker threads, batching, retries, flush, close. Generic over what it carries.

`submit` is called in the application's thread, and from finalizers that the garbage collector runs at any moment, even
inside our own code: it takes a re-entrant lock for a few instructions, never waits and never raises. Workers are daemon
threads of our own (`concurrent.futures` refuses work once the interpreter ends); they start with the first submit, and
again after a fork.

Ownership: an item is in the queue, in one worker's Hand, in the waiting list, or settled in the ledger. `close` takes the
Hands of workers that do not finish in time, under the lock, and so does the keeper with those of workers that hang; a worker
settles only what is still in its Hand.

The keeper is a further thread that comes while all workers are busy: what waits too long, or fills the queue by three
quarters, it puts to disk, whatever the workers wait for.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from honeyhive_autoinstrument._faults import faults, guarded, log
from honeyhive_autoinstrument.delivery.backoff import delay_s
from honeyhive_autoinstrument.delivery.breaker import PROBE_S, Breaker
from honeyhive_autoinstrument.delivery.dispatch import Fate, dispatch
from honeyhive_autoinstrument.delivery.journal import Journal
from honeyhive_autoinstrument.delivery.ledger import DropReason, Ledger
from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome, Record, Sink
from honeyhive_autoinstrument.delivery.spool import Spool

read_ticks = time.monotonic

T = TypeVar("T")

TRIES_IN_MEMORY = 3
"""Then the Batch goes to disk, where it waits without a limit on tries."""
MEMORY_S = 2.0
"""The same by time: what a killed process loses is no older than this, the linger and one request."""
CONTACT_S = 0.35
"""How long the end of a program waits for a server that none of its requests has found."""
IDLE_S = 30.0
"""How often an idle worker looks whether spooled Batches can be sent."""
SHORT_IDLE_S = 1.0
"""The same while Batches wait in memory."""
WATCH_S = 0.05
"""How often the keeper looks at a backlog."""
CALM_WATCH_S = 0.5
"""And how often while there is none."""
SPILL_AT, SPILL_TO = 0.75, 0.5
"""Shares of the queue: beyond the first the keeper puts what is oldest to disk, down to the second."""
KEEPER_IDLE_S = 5.0
"""The keeper ends when no worker has been busy for so long."""
STUCK_REQUESTS = 3
"""A worker that waits for so many times a request's timeout hangs; its Hand is kept on disk, and another takes its place."""
MAX_STUCK = 8
"""Threads that are left hanging; then there is something that more threads would not cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one Uploader; see the settings of the same names."""

    queue_max_events: int
    queue_max_bytes: int
    batch_max_events: int
    batch_max_bytes: int
    linger_s: float
    workers: int
    request_s: float
    """How long one request may take."""


class Hand(Generic[T]):
    """What one worker is busy with: items not built yet, then the Batch of them, less what is settled."""

    __slots__ = ("batch", "is_left_on_disk", "items", "path", "sending_since", "taken", "worker")

    def __init__(self, items: list[T | Record], batch: Batch | None = None, path: Path | None = None) -> None:
        self.items = items
        self.worker = threading.current_thread()
        self.sending_since = float("inf")
        self.batch = batch
        self.path = path
        """The spool's file that the Batch was read from; it stays there until the Batch is settled."""
        self.taken = len(self)
        self.is_left_on_disk = False

    def __len__(self) -> int:
        return len(self.items) if self.batch is None else len(self.batch)


class Uploader(Generic[T]):
    """Takes items, makes Records of them on its threads, and brings Batches of those to the Sink or the Spool."""

    def __init__(
        self,
        *,
        encode: Callable[[T], Record],
        size_of: Callable[[T], int],
        sink: Sink | None,
        spool: Spool | None,
        limits: Limits,
        is_durable: bool = False,
        name: str = "honeyhive",
    ) -> None:
        """
        :param encode: item -> Record; runs on a worker (in `submit` where that is durable), may raise (the item is then
            dropped and counted).
        :param sink: None keeps every Batch in the Spool.
        :param spool: None keeps nothing on disk; Batches then wait in memory.
        :param is_durable: an item is on disk when `submit` returns; needs a Spool.
        """
        self._encode = encode
        self._size_of = size_of
        self._sink = sink
        self._spool = spool
        self._limits = limits
        self._journal: Journal | None = None
        if is_durable and spool is not None:
            self._journal = Journal(spool, segment_events=limits.batch_max_events, segment_bytes=limits.batch_max_bytes)
        self._name = name
        self._random = random.Random().random
        self._make_fresh()

    def _make_fresh(self) -> None:
        """Everything that one process must not share with a forked child. Assigns only; starts nothing."""
        self._lock = threading.RLock()  # guards the ledger, the Hands, the sizes and the worker list
        self._ledger = Ledger()
        self._queue: deque[tuple[T | Record, int, float]] = deque()
        """Items with their size in bytes and the time when they came."""
        self._queued_bytes = 0
        self._hands: set[Hand[T]] = set()
        self._waiting: deque[Batch] = deque()
        self._waiting_bytes = 0
        self._leftover: list[Hand[T]] = []
        """What `close` has taken and not put to disk yet."""
        self._on_disk: dict[Path, int] = {}
        """Files whose Events the ledger has as spooled: what this process wrote, and what it read and could not send."""
        self._being_written: set[Path] = set()
        self._done_with: set[Path] = set()
        """Files that are sent and could not be removed."""
        self._wake = threading.Lock()
        self._wake.acquire()
        self._threads: list[threading.Thread] = []
        self._keeper: threading.Thread | None = None
        self._stuck = 0
        self._flushes = 0
        self._generation = 0
        """Counts the times that this was closed; a worker of an earlier one ends."""
        self._is_closing = False
        self._deadline = float("inf")
        self._breaker = Breaker(self._random)

    def submit(self, item: T) -> bool:
        """Take an item. Full: it is dropped and counted, or kept on disk where that is asked for. Waits for no server."""
        if self._journal is not None:
            return self._submit_durably(item, self._journal)
        size = self._size_of(item)
        with self._lock:
            self._ledger.created += 1
            is_late = self._is_closing
            if not is_late and not self._enqueue(item, size):
                self._ledger.drop(DropReason.QUEUE_FULL, 1)
                return False
        if is_late:
            # In an exit handler that runs after ours, or between close() and the end: there is no worker any more.
            with guarded("keep a late event"):
                self._keep_now(Hand([item]))
        return True

    def _submit_durably(self, item: T, journal: Journal) -> bool:
        record: Record | None = None
        with guarded("build an event"):
            record = self._encode(item)
        if record is None:
            with self._lock:
                self._ledger.created += 1
                self._ledger.drop(DropReason.NOT_BUILT, 1)
            return False
        if not self._is_closing:
            try:
                journal.append(record)
            except OSError as error:
                self._say_disk_failed(error)
        with self._lock:
            self._ledger.created += 1
            is_queued = not self._is_closing and self._enqueue(record, len(record.body))
        if not is_queued:
            with guarded("keep an event"):
                self._keep_now(Hand([], Batch.of([record])))
        return True

    def _enqueue(self, item: T | Record, size: int) -> bool:
        """Under the lock. False: there is no room."""
        waiting = len(self._queue) + 1
        if waiting > self._limits.queue_max_events or self._queued_bytes + size > self._limits.queue_max_bytes:
            return False
        self._queue.append((item, size, read_ticks()))
        self._queued_bytes += size
        if waiting == 1 or waiting % self._limits.batch_max_events == 0:
            self._tend()
        return True

    def _tend(self) -> None:
        """See that somebody works: a worker, and while all are busy the keeper. A thread that has died is replaced."""
        if not any(thread.is_alive() for thread in self._threads):
            with self._lock:
                self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._start_thread()
        if len(self._hands) >= len(self._threads):  # all are busy
            keeper = self._keeper
            if keeper is None or not keeper.is_alive():
                self._start_keeper()
        self._wake_one()

    def flush(self, timeout_s: float) -> bool:
        """Bring out what has been submitted so far, within the time.

        :returns: whether all of it is settled: sent, or on disk because it cannot be sent now.
        """
        deadline = read_ticks() + timeout_s
        with self._lock:
            self._flushes += 1
        try:
            while self._is_busy():
                if read_ticks() >= deadline or self._is_closing:
                    return False
                self._tend()
                time.sleep(0.005)
            return not self._waiting
        finally:
            with self._lock:
                self._flushes -= 1

    def close(self, timeout_s: float) -> None:
        """Bring out what can be brought out within the time, put the rest to disk, stop the threads.

        Called again while it waits (a signal's handler), it waits no longer and puts the rest to disk at once.
        """
        # A signal's handler may run in the middle of a submit; nobody could work while it waits with the lock held.
        # (threading's own Condition asks a lock so, too.)
        is_interrupting = bool(self._lock._is_owned())  # type: ignore[attr-defined]
        with self._lock:
            is_first = not self._is_closing
            self._is_closing = True
            if is_first:
                self._deadline = read_ticks() + timeout_s
                if self._waiting:
                    self._breaker.release()  # what waits in memory gets its last try
        if is_first and not is_interrupting:
            self._wait_for_workers()
            if not self._threads:
                self._work_here()
        # The time is up, or there never was a worker. A request that a worker still waits for may yet succeed; those
        # Events then go out twice, under the same ids.
        with self._lock:
            self._leftover += self._hands
            self._leftover.append(Hand([item for item, _, _ in self._queue]))
            self._leftover += (Hand([], batch) for batch in self._waiting)
            self._hands = set()
            self._queue.clear()
            self._waiting.clear()
            self._queued_bytes = self._waiting_bytes = 0
        while self._leftover:
            # Out of the list when it is done with: a signal may end this in the middle, and its handler close again.
            hand = self._leftover[-1]
            with guarded("keep the rest on disk"):
                self._keep_now(hand)
            with self._lock:
                if hand in self._leftover:
                    self._leftover.remove(hand)
        if self._spool is not None and is_first:
            with guarded("close the journal"):
                self._spool.close()
        if self._sink is not None and is_first:
            with guarded("close the connections"):
                self._sink.close()
        lost = self._ledger.dropped[DropReason.ENDED] + self._ledger.dropped[DropReason.DISK_FAILED]
        if lost:
            faults.say(
                "ended",
                "%d HoneyHive events could not be delivered before the program ended, and are lost: %s.",
                lost,
                "HONEYHIVE_DURABILITY is memory. With on_failure they are kept on disk and sent later"
                if self._spool is None
                else f"they cannot be kept in {self._spool.folder}",
            )

    def reopen(self) -> None:
        """Go on after `close`: the program did not end after all."""
        with self._lock:
            self._generation += 1
            self._is_closing = False
            self._deadline = float("inf")
            self._threads = []
            self._keeper = None
            self._breaker.release()
        if self._sink is not None:
            self._sink.hurry(float("inf"))

    def stats(self) -> dict[str, object]:
        """The ledger: created = sent + pending + spooled + rejected + dropped. Pending is counted, not derived."""
        with self._lock:
            return self._ledger.as_dict(pending=self._pending())

    def after_fork(self) -> None:
        """In the child: fresh queue, locks and threads. What the parent had queued stays the parent's."""
        self._make_fresh()
        if self._journal is not None:
            self._journal.after_fork()
        if self._spool is not None:
            self._spool.after_fork()
        after_fork = getattr(self._sink, "after_fork", None)
        if after_fork is not None:
            after_fork()

    def _pending(self) -> int:
        hands = sum(map(len, self._hands)) + sum(map(len, self._leftover))
        return len(self._queue) + hands + sum(map(len, self._waiting))

    def _is_busy(self) -> bool:
        """Whether a worker has something to bring out now; what is read back from disk is no such thing."""
        with self._lock:
            if self._queue or any(hand.path is None for hand in self._hands):
                return True
            return bool(self._waiting) and self._sink is not None and not self._is_parked()

    def _wake_one(self) -> None:
        # The lock is the bell: held while nobody has rung. Ringing twice is ringing once.
        try:
            self._wake.release()
        except RuntimeError:
            pass

    def _start_thread(self) -> None:
        with self._lock:
            if self._is_closing or len(self._threads) >= self._limits.workers:
                return
            number = len(self._threads) + 1
            thread = threading.Thread(
                target=self._work, args=(self._generation,), name=f"{self._name}-uploader-{number}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                return  # the interpreter ends, or the system has no thread left; close() will bring the queue out
            self._threads.append(thread)

    def _start_keeper(self) -> None:
        with self._lock:
            if self._is_closing or (self._keeper is not None and self._keeper.is_alive()):
                return
            keeper = threading.Thread(
                target=self._watch, args=(self._generation,), name=f"{self._name}-keeper", daemon=True
            )
            try:
                keeper.start()
            except RuntimeError:
                return
            self._keeper = keeper

    def _wait_for_workers(self) -> None:
        """Until they are done, or the time is up, or there is nobody to wait for: a server that no request has found."""
        if self._sink is not None:
            self._sink.hurry(self._deadline - read_ticks())
        out_of_contact_since = float("inf")
        while any(thread.is_alive() for thread in self._threads):
            now = read_ticks()
            if now >= self._deadline:
                return
            if self._sink is not None and not self._sink.has_contact():
                out_of_contact_since = min(out_of_contact_since, now)
                if now - out_of_contact_since > CONTACT_S:
                    with self._lock:
                        self._deadline = now
                    return
            else:
                out_of_contact_since = float("inf")
            self._wake_one()
            time.sleep(0.002)

    def _work_here(self) -> None:
        """A worker's work in the thread that closes: from 3.12 on CPython starts no thread once the program has ended."""
        while self._queue and read_ticks() < self._deadline:
            with guarded("deliver events", BaseException):
                self._step()

    def _keep_now(self, hand: Hand[T]) -> None:
        """Put a Hand that no worker owns to disk."""
        if hand.path is not None and hand.batch is not None:
            with self._lock:
                self._count_spooled(hand.path, hand.batch)  # its file is still there
            return
        # A Hand of our own: the worker that had this one may still look whether it owns it.
        taken: Hand[T] = Hand(hand.items, hand.batch)
        with self._lock:
            self._hands.add(taken)
        try:
            if taken.batch is None:
                self._build(taken)
            self._keep(taken)
        finally:
            with self._lock:
                self._hands.discard(taken)

    # On a worker thread from here on.

    def _work(self, generation: int) -> None:
        while generation == self._generation and not self._is_replaced():
            # A worker does not die: an object of the application's may raise anything when it is read.
            with guarded("deliver events", BaseException):
                if self._step():
                    return

    def _is_replaced(self) -> bool:
        """Whether the keeper has put another in this worker's place, because it hung."""
        with self._lock:
            return threading.current_thread() not in self._threads

    def _step(self) -> bool:
        """Wait for work and do it once. True: the worker is done for good."""
        if not self._queue:
            if self._is_closing:
                self._catch_up()
                return True
            rung = self._wake.acquire(timeout=self._idle_s())
            if not rung or not self._queue:
                self._catch_up()
                return False
        if len(self._queue) < self._limits.batch_max_events and not self._is_closing and not self._flushes:
            self._wake.acquire(timeout=self._limits.linger_s)
        hand = self._take()
        if self._queue:
            self._call_help()
        try:
            self._build(hand, BaseException)
            if len(hand):
                self._deliver(hand)
        finally:
            # Whatever went wrong: what is still in hand is not lost.
            if len(hand):
                self._keep(hand)
            with self._lock:
                self._hands.discard(hand)
        if not self._queue and not self._breaker.failures:
            self._catch_up()
        return False

    def _idle_s(self) -> float:
        if self._waiting:
            return SHORT_IDLE_S
        return PROBE_S / 2 if self._breaker.failures else IDLE_S

    def _watch(self, generation: int) -> None:
        """The keeper's work."""
        last_busy = read_ticks()
        while generation == self._generation and not self._is_closing:
            with guarded("look after a backlog", BaseException):
                if self._hands:
                    last_busy = read_ticks()
                if self._spool is not None and self._is_pressed(SPILL_AT):
                    while self._is_pressed(SPILL_TO) and not self._is_closing:
                        self._spill()
                self._replace_stuck()
                if read_ticks() - last_busy > KEEPER_IDLE_S:
                    return
            time.sleep(WATCH_S if self._has_backlog() else CALM_WATCH_S)

    def _has_backlog(self) -> bool:
        return len(self._queue) > self._limits.batch_max_events

    def _is_pressed(self, share: float) -> bool:
        """Whether the queue is fuller than this share of its bounds, or its oldest item has waited too long."""
        limits = self._limits
        with self._lock:
            if (
                len(self._queue) > share * limits.queue_max_events
                or self._queued_bytes > share * limits.queue_max_bytes
            ):
                return True
            return bool(self._queue) and read_ticks() - self._queue[0][2] > limits.linger_s + MEMORY_S

    def _spill(self) -> None:
        """Put the oldest items to disk."""
        hand = self._take()
        try:
            self._build(hand, BaseException)
        finally:
            self._keep(hand)
            with self._lock:
                self._hands.discard(hand)

    def _replace_stuck(self) -> None:
        """Keep on disk what a worker that hangs has in hand, and let another take its place."""
        patience = STUCK_REQUESTS * self._limits.request_s
        with self._lock:
            now = read_ticks()
            stuck = [hand for hand in self._hands if now - hand.sending_since > patience]
            for hand in stuck:
                if self._stuck < MAX_STUCK and hand.worker in self._threads:
                    self._stuck += 1
                    self._threads.remove(hand.worker)
                self._hands.discard(hand)
        for hand in stuck:
            self._keep_now(hand)
        if stuck:
            self._start_thread()

    def _call_help(self) -> None:
        if len(self._queue) >= self._limits.batch_max_events and len(self._threads) < self._limits.workers:
            self._start_thread()
        self._wake_one()

    def _take(self) -> Hand[T]:
        """Items for the next Batch, closed by count or by estimated bytes."""
        hand: Hand[T] = Hand([])
        weights = 0
        with self._lock:
            while len(hand.items) < self._limits.batch_max_events and weights < self._limits.batch_max_bytes:
                if not self._queue:
                    break
                item, weight, _ = self._queue.popleft()
                hand.items.append(item)
                weights += weight
            self._queued_bytes -= weights
            self._hands.add(hand)
        return hand

    def _build(self, hand: Hand[T], kind: type[BaseException] = Exception) -> None:
        records: list[Record] = []
        guard = guarded("build an event", kind)
        for item in hand.items:
            with guard:
                records.append(item if isinstance(item, Record) else self._encode(item))
        with self._lock:
            if hand in self._hands:
                self._ledger.drop(DropReason.NOT_BUILT, len(hand.items) - len(records))
                hand.batch = Batch.of(records)

    def _settle(self, hand: Hand[T], batch: Batch) -> bool:
        """Take a Batch's Records out of a Hand, if it is still the worker's; the caller counts them, under the lock."""
        if hand not in self._hands or hand.batch is None:
            return False
        hand.batch = hand.batch.without(batch.ids)
        return True

    def _leave_journal(self, batch: Batch) -> None:
        """What is sent, set aside or in a file of its own needs no line in the journal."""
        if self._journal is not None:
            self._journal.settle(batch.ids)

    def _deliver(self, hand: Hand[T]) -> None:
        """Bring what is in hand to the Sink; what does not go now is kept."""
        if self._sink is None or hand.batch is None or not self._may_send():
            self._keep(hand)
            return
        refused: list[Record] = []
        why = ""

        def send(batch: Batch) -> Answer:
            return self._send(hand, batch)

        for step in dispatch(hand.batch, send):
            if step.fate is Fate.SENT:
                self._count_sent(hand, step.batch)
            elif step.fate is Fate.REFUSED:
                refused += step.batch.records
                why = step.answer.detail
        if refused:
            self._reject(hand, Batch.of(refused), why)
        self._keep(hand)

    def _send(self, hand: Hand[T], batch: Batch) -> Answer:
        """The Sink's answer, after a few tries if it is a passing failure."""
        assert self._sink is not None
        began = read_ticks()
        tries = 0
        while True:
            answer = Answer(outcome=Outcome.RETRY_LATER, detail="our own request failed")
            hand.sending_since = read_ticks()
            with guarded("send a batch"):
                answer = self._sink.send(batch)
            hand.sending_since = float("inf")
            tries += 1
            log.debug("A batch of %d events: %s %s", len(batch), answer.outcome.value, answer.detail)
            self._learn_from(answer)
            if answer.outcome is not Outcome.RETRY_LATER or tries >= TRIES_IN_MEMORY or self._is_parked():
                return answer
            wait_s = delay_s(tries, answer.retry_after_s, self._random)
            if read_ticks() + wait_s - began > MEMORY_S:
                self._park(wait_s)
                return answer
            if not self._pause(wait_s):
                return answer

    def _learn_from(self, answer: Answer) -> None:
        with self._lock:
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
        if self._is_closing:
            # The program waits for us: one failure is enough, the rest goes to disk.
            self._park(float("inf"))

    def _where_kept(self) -> str:
        return f"in {self._spool.folder}" if self._spool is not None else "in memory, as long as the program runs,"

    def _park(self, seconds: float) -> None:
        with self._lock:
            self._breaker.park(seconds, read_ticks())

    def _is_parked(self) -> bool:
        with self._lock:
            return self._breaker.is_parked(read_ticks())

    def _may_send(self) -> bool:
        with self._lock:
            return self._breaker.may_send(read_ticks())

    def _pause(self, seconds: float) -> bool:
        """Wait between two tries; False if the process ends meanwhile."""
        until = read_ticks() + seconds
        while not self._is_closing:
            left = until - read_ticks()
            if left <= 0:
                return True
            time.sleep(min(left, 0.05))
        return False

    def _keep(self, hand: Hand[T]) -> None:
        """Put what is in hand to disk (or back: a Batch that was read from there); without a Spool, into memory."""
        batch = hand.batch
        if batch is None or not len(batch):
            return
        if self._spool is None:
            self._keep_in_memory(hand, batch, DropReason.ENDED)
            return
        if hand.path is not None and len(batch) == hand.taken:
            with self._lock:
                if self._settle(hand, batch):
                    hand.is_left_on_disk = True
                    self._count_spooled(hand.path, batch)
            return
        path = self._spool.new_path(batch)
        with self._lock:
            if hand not in self._hands:
                return  # close() has put it to disk
            self._being_written.add(path)
        lost: list[Path] = []
        failure: OSError | None = None
        try:
            lost = self._spool.put(batch, path)
        except OSError as error:
            failure = error
        with self._lock:
            self._being_written.discard(path)
            if failure is None and self._settle(hand, batch):
                self._count_spooled(path, batch)
                self._leave_journal(batch)
            # The oldest may be another process's; only what this ledger has leaves its column.
            for each in lost:
                own = self._on_disk.pop(each, 0)
                self._ledger.spooled -= own
                self._ledger.drop(DropReason.SPOOL_FULL, own)
        if failure is not None:
            self._say_disk_failed(failure)
            self._keep_in_memory(hand, batch, DropReason.DISK_FAILED)

    def _say_disk_failed(self, error: OSError) -> None:
        assert self._spool is not None
        faults.say(
            "disk",
            "HoneyHive events cannot be kept in %s (%s). They stay in memory as long as there is room, and are still sent"
            " where possible. Make room, or set HONEYHIVE_HOME to a folder that can be written.",
            self._spool.folder,
            error,
        )

    def _count_spooled(self, path: Path, batch: Batch) -> None:
        self._on_disk[path] = len(batch)
        self._ledger.spooled += len(batch)

    def _keep_in_memory(self, hand: Hand[T], batch: Batch, at_the_end: DropReason) -> None:
        """
        :param at_the_end: why the Events are lost if the program ends now.
        """
        size = sum(len(record.body) for record in batch.records)
        with self._lock:
            if not self._settle(hand, batch):
                return
            if self._is_closing and self._journal is not None and self._journal.holds(batch.ids):
                self._ledger.spooled += len(batch)  # a later process finds them there
            elif self._is_closing:
                self._ledger.drop(at_the_end, len(batch))
            elif self._waiting_bytes + size > self._limits.queue_max_bytes:
                self._ledger.drop(DropReason.QUEUE_FULL, len(batch))
            else:
                self._waiting.append(batch)
                self._waiting_bytes += size

    def _reject(self, hand: Hand[T], batch: Batch, why: str) -> None:
        faults.say(
            "rejected",
            "HoneyHive refused %d event(s): %s. They are set aside%s; the others go on.",
            len(batch),
            why,
            f" in {self._spool.folder}" if self._spool is not None else "",
        )
        if self._spool is not None:
            try:
                self._spool.reject(batch, why)
            except OSError as error:
                self._say_disk_failed(error)
        with self._lock:
            if self._settle(hand, batch):
                self._ledger.rejected += len(batch)
                self._leave_journal(batch)

    def _count_sent(self, hand: Hand[T], batch: Batch) -> None:
        with self._lock:
            if self._settle(hand, batch):
                self._ledger.sent += len(batch)
                self._leave_journal(batch)

    def _catch_up(self) -> None:
        """Send what waits in memory and on disk, oldest first, as long as it goes well and nothing new is waiting."""
        with guarded("send what waits"):
            for _ in range(len(self._waiting)):
                if read_ticks() >= self._deadline or (self._sink is not None and self._is_parked()):
                    break
                with self._lock:
                    if not self._waiting:
                        break
                    batch = self._waiting.popleft()
                    self._waiting_bytes -= sum(len(record.body) for record in batch.records)
                    hand: Hand[T] = Hand([], batch)
                    self._hands.add(hand)
                self._deliver_and_release(hand)
            if self._sink is None or self._spool is None or self._is_parked() or self._spool.is_empty():
                return
            with self._spool.claimed() as is_mine:
                if is_mine:
                    self._replay(self._spool)

    def _replay(self, spool: Spool) -> None:
        for path in spool.replayable():
            is_late = read_ticks() >= self._deadline
            if self._is_parked() or is_late or len(self._queue) >= self._limits.batch_max_events:
                return
            if path in self._being_written or path in self._done_with:
                continue  # by another worker, which has not counted it yet
            batch = spool.load(path)
            if batch is None:
                continue
            hand: Hand[T] = Hand([], batch, path)
            with self._lock:
                # Files of other processes join this ledger when they are read for the first time.
                own = self._on_disk.pop(path, 0)
                self._ledger.spooled -= own
                self._ledger.drop(DropReason.DAMAGED, max(0, own - len(batch)))
                self._ledger.created += max(0, len(batch) - own)
                self._hands.add(hand)
            if not self._deliver_and_release(hand):
                return
            if not spool.remove(path):
                self._done_with.add(path)

    def _deliver_and_release(self, hand: Hand[T]) -> bool:
        """True: the Hand is settled, and its file, if it has one, is done with."""
        try:
            self._deliver(hand)
        finally:
            self._keep(hand)
            with self._lock:
                is_mine = hand in self._hands
                self._hands.discard(hand)
        return is_mine and not hand.is_left_on_disk
