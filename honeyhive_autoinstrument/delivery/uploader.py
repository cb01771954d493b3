"""Bounded queue, worker threads, batching, retries, flush, close. Generic over what it carries.

`submit` is called in the application's thread, and from finalizers that the garbage collector runs at any moment, even
inside our own code: it takes a re-entrant lock for a few instructions, never waits and never raises. Workers are daemon
threads of our own (`concurrent.futures` refuses work once the interpreter ends); they start with the first submit, and
again after a fork.

Ownership: an item is in the queue, in one worker's Hand, in the waiting list, or settled in the ledger. `close` takes the
Hands of workers that do not finish in time, under the lock; a worker settles only what is still in its Hand.
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
from honeyhive_autoinstrument.delivery.ledger import DropReason, Ledger
from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome, Record, Sink
from honeyhive_autoinstrument.delivery.spool import Spool

read_ticks = time.monotonic

T = TypeVar("T")

TRIES_IN_MEMORY = 3
"""Then the Batch goes to disk, where it waits without a limit on tries."""
BREAKER_AT = 5
"""Failures in a row after which sends are parked and only a probe goes out now and then."""
PROBE_S = 10.0
UNAUTHORISED_PROBE_S = 60.0
IDLE_S = 30.0
"""How often an idle worker looks whether spooled Batches can be sent."""
SHORT_IDLE_S = 1.0
"""The same while Batches wait in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one Uploader; see the settings of the same names."""

    queue_max_events: int
    queue_max_bytes: int
    batch_max_events: int
    batch_max_bytes: int
    linger_s: float
    workers: int


class Hand(Generic[T]):
    """What one worker is busy with: items not built yet, then the Batch of them, less what is settled."""

    __slots__ = ("batch", "is_left_on_disk", "items", "path", "taken")

    def __init__(self, items: list[T], batch: Batch | None = None, path: Path | None = None) -> None:
        self.items = items
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
        spool_first: bool = False,
        name: str = "honeyhive",
    ) -> None:
        """
        :param encode: item -> Record; runs on a worker, may raise (the item is then dropped and counted).
        :param sink: None keeps every Batch in the Spool.
        :param spool: None keeps nothing on disk; Batches then wait in memory.
        :param spool_first: write each Batch to disk before it is sent.
        """
        self._encode = encode
        self._size_of = size_of
        self._sink = sink
        self._spool = spool
        self._limits = limits
        self._spool_first = spool_first
        self._name = name
        self._random = random.Random().random
        self._make_fresh()

    def _make_fresh(self) -> None:
        """Everything that one process must not share with a forked child. Assigns only; starts nothing."""
        self._lock = threading.RLock()  # guards the ledger, the Hands, the sizes and the worker list
        self._ledger = Ledger()
        self._queue: deque[tuple[T, int]] = deque()
        self._queued_bytes = 0
        self._hands: set[Hand[T]] = set()
        self._waiting: deque[Batch] = deque()
        self._waiting_bytes = 0
        self._on_disk: dict[Path, int] = {}
        """Files whose Events the ledger has as spooled: what this process wrote, and what it read and could not send."""
        self._being_written: set[Path] = set()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._threads: list[threading.Thread] = []
        self._flushes = 0
        self._is_closing = False
        self._deadline = float("inf")
        self._failures = 0
        self._parked_until = 0.0

    def submit(self, item: T) -> bool:
        """Take an item. Full: it is dropped and counted. Never waits."""
        size = self._size_of(item)
        with self._lock:
            self._ledger.created += 1
            is_late = self._is_closing
            waiting = len(self._queue)
            if not is_late:
                if waiting >= self._limits.queue_max_events or self._queued_bytes + size > self._limits.queue_max_bytes:
                    self._ledger.drop(DropReason.QUEUE_FULL, 1)
                    return False
                self._queue.append((item, size))
                self._queued_bytes += size
                waiting += 1
            needs_thread = not is_late and not self._threads
        if is_late:
            # In an exit handler that runs after ours, or between close() and the end: there is no worker any more.
            with guarded("keep a late event"):
                self._keep_now(Hand([item]))
            return True
        if needs_thread:
            self._start_thread()
        if waiting == 1 or waiting % self._limits.batch_max_events == 0:
            self._wake_one()
        return True

    def flush(self, timeout_s: float) -> bool:
        """Bring out what has been submitted so far, within the time.

        :returns: whether all of it is settled: sent, or on disk because it cannot be sent now.
        """
        deadline = read_ticks() + timeout_s
        with self._lock:
            self._flushes += 1
        try:
            while self._is_busy():
                if read_ticks() >= deadline or not any(thread.is_alive() for thread in self._threads):
                    return False
                self._wake_one()
                time.sleep(0.005)
            return not self._waiting
        finally:
            with self._lock:
                self._flushes -= 1

    def close(self, timeout_s: float) -> None:
        """Bring out what can be brought out within the time, put the rest to disk, stop the threads.

        Called again while it waits (a signal's handler), it waits no longer and puts the rest to disk at once.
        """
        with self._lock:
            is_first = not self._is_closing
            self._is_closing = True
            if is_first:
                self._deadline = read_ticks() + timeout_s
                if self._spool is None:
                    self._parked_until = 0.0  # what waits in memory gets its last try
        if is_first:
            while any(thread.is_alive() for thread in self._threads) and read_ticks() < self._deadline:
                self._wake_one()
                time.sleep(0.002)
            if not self._threads:
                self._work_here()
        # The time is up, or there never was a worker. A request that a worker still waits for may yet succeed; those
        # Events then go out twice, under the same ids.
        with self._lock:
            hands, self._hands = self._hands, set()
            hands.add(Hand([item for item, _ in self._queue]))
            self._queue.clear()
            waiting, self._waiting = self._waiting, deque()
        for hand in [*hands, *(Hand[T]([], batch) for batch in waiting)]:
            with guarded("keep the rest on disk"):
                self._keep_now(hand)
        if self._sink is not None and is_first:
            with guarded("close the connections"):
                self._sink.close()
        lost = self._ledger.dropped[DropReason.ENDED]
        if lost:
            faults.say(
                "ended",
                "%d HoneyHive events could not be delivered before the program ended, and are lost: HONEYHIVE_DURABILITY"
                " is memory. With on_failure they are kept on disk and sent later.",
                lost,
            )

    def stats(self) -> dict[str, object]:
        """The ledger: created = sent + pending + spooled + rejected + dropped. Pending is counted, not derived."""
        with self._lock:
            return self._ledger.as_dict(pending=self._pending())

    def after_fork(self) -> None:
        """In the child: fresh queue, locks and threads. What the parent had queued stays the parent's."""
        self._make_fresh()
        if self._spool is not None:
            self._spool.after_fork()
        after_fork = getattr(self._sink, "after_fork", None)
        if after_fork is not None:
            after_fork()

    def _pending(self) -> int:
        return len(self._queue) + sum(map(len, self._hands)) + sum(map(len, self._waiting))

    def _is_busy(self) -> bool:
        """Whether a worker has something to bring out now. What is read back from disk counts only where everything
        goes there first."""
        with self._lock:
            if self._queue or any(hand.path is None for hand in self._hands):
                return True
            if self._is_parked():
                return False
            if self._waiting:
                return True
            is_untried = bool(self._on_disk) and not self._failures and self._is_first_on_disk()
        # Another process may have sent what this one put there. Looked at without the lock, which every submit takes.
        return is_untried and self._spool is not None and not self._spool.is_empty()

    def _is_first_on_disk(self) -> bool:
        return self._spool_first and self._sink is not None

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
            thread = threading.Thread(target=self._work, name=f"{self._name}-uploader-{number}", daemon=True)
            self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:
            # The interpreter ends, or the system has no thread left; close() will bring the queue out.
            with self._lock:
                self._threads.remove(thread)

    def _work_here(self) -> None:
        """A worker's work in the thread that closes: from 3.12 on CPython starts no thread once the program has ended."""
        if self._queue and self._sink is not None:
            self._sink.hurry(self._deadline - read_ticks())
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
        if taken.batch is None:
            self._build(taken)
        self._keep(taken)
        with self._lock:
            self._hands.discard(taken)

    # On a worker thread from here on.

    def _work(self) -> None:
        while True:
            # A worker does not die: an object of the application's may raise anything when it is read.
            with guarded("deliver events", BaseException):
                if self._step():
                    return

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
            if self._is_first_on_disk():
                self._keep(hand)
            elif len(hand):
                self._deliver(hand)
        finally:
            # Whatever went wrong: what is still in hand is not lost.
            if len(hand):
                self._keep(hand)
            with self._lock:
                self._hands.discard(hand)
        if not self._queue and not self._failures:
            self._catch_up()
        return False

    def _idle_s(self) -> float:
        if self._waiting:
            return SHORT_IDLE_S
        return PROBE_S if self._failures else IDLE_S

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
                item, weight = self._queue.popleft()
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
                records.append(self._encode(item))
        with self._lock:
            if hand in self._hands:
                self._ledger.drop(DropReason.NOT_BUILT, len(hand.items) - len(records))
                hand.batch = Batch.of(records)

    def _settle(self, hand: Hand[T], batch: Batch) -> bool:
        """Take a Batch's Records out of a Hand, if it is still the worker's; the caller counts them, under the lock."""
        if hand not in self._hands or hand.batch is None:
            return False
        hand.batch = hand.batch.without([record.id for record in batch.records])
        return True

    def _deliver(self, hand: Hand[T]) -> None:
        """Bring what is in hand to the Sink; what does not go now is kept."""
        if self._sink is None or self._is_parked() or hand.batch is None:
            self._keep(hand)
            return
        work = [hand.batch]
        while work:
            batch = work.pop()
            answer = self._send(batch)
            if answer.outcome is Outcome.DELIVERED:
                self._count_sent(hand, batch)
            elif answer.outcome is Outcome.PARTLY:
                rest = batch.without(answer.accepted)
                self._count_sent(hand, batch.without([record.id for record in rest.records]))
                if len(rest) == len(batch):
                    self._keep(hand)
                    return
                if len(rest):
                    work.append(rest)
            elif answer.outcome in (Outcome.RETRY_LATER, Outcome.UNAUTHORISED):
                self._keep(hand)
                return
            elif len(batch) > 1:
                # Too large, or one bad Event among good ones: smaller Batches tell which.
                work.extend(batch.halves())
            else:
                self._reject(hand, batch, answer)

    def _send(self, batch: Batch) -> Answer:
        """The Sink's answer, after a few tries if it is a passing failure."""
        assert self._sink is not None
        tries = 0
        while True:
            answer = Answer(outcome=Outcome.RETRY_LATER, detail="our own request failed")
            with guarded("send a batch"):
                answer = self._sink.send(batch)
            tries += 1
            log.debug("A batch of %d events: %s %s", len(batch), answer.outcome.value, answer.detail)
            self._learn_from(answer)
            if answer.outcome is not Outcome.RETRY_LATER or tries >= TRIES_IN_MEMORY or self._is_parked():
                return answer
            wait_s = delay_s(tries, answer.retry_after_s, self._random)
            if wait_s > IDLE_S:
                self._park(wait_s)
                return answer
            if not self._pause(wait_s):
                return answer

    def _learn_from(self, answer: Answer) -> None:
        if answer.outcome not in (Outcome.RETRY_LATER, Outcome.UNAUTHORISED):
            self._failures = 0
            self._parked_until = 0.0
            return
        self._failures += 1
        if self._is_closing:
            # The program waits for us: one failure is enough, the rest goes to disk.
            self._park(float("inf"))
        if answer.outcome is Outcome.UNAUTHORISED:
            self._park(UNAUTHORISED_PROBE_S)
            faults.say(
                "unauthorised",
                "HoneyHive does not take this key, or the URL is wrong: %s. Events are kept %s and tried again once a"
                " minute. Check HONEYHIVE_API_KEY and HONEYHIVE_API_URL (`honeyhive-instrument --check`).",
                answer.detail,
                self._where_kept(),
            )
            return
        if self._failures >= BREAKER_AT:
            self._park(max(PROBE_S, answer.retry_after_s or 0.0))
        faults.say(
            "unreachable",
            "HoneyHive cannot be reached: %s. The program is not affected; events are kept %s and sent later.",
            answer.detail,
            self._where_kept(),
        )

    def _where_kept(self) -> str:
        return f"in {self._spool.folder}" if self._spool is not None else "in memory, as long as the program runs,"

    def _park(self, seconds: float) -> None:
        self._parked_until = max(self._parked_until, read_ticks() + seconds)

    def _is_parked(self) -> bool:
        return read_ticks() < self._parked_until

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
            self._keep_in_memory(hand, batch)
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
            if self._settle(hand, batch):
                if failure is None:
                    self._count_spooled(path, batch)
                else:
                    self._ledger.drop(DropReason.DISK_FAILED, len(batch))
            # The oldest may be another process's; only what this ledger has leaves its column.
            for each in lost:
                own = self._on_disk.pop(each, 0)
                self._ledger.spooled -= own
                self._ledger.drop(DropReason.SPOOL_FULL, own)
        if failure is not None:
            faults.say(
                "disk",
                "HoneyHive events cannot be kept in %s (%s). They are lost; new ones are still sent where possible."
                " Make room, or set HONEYHIVE_HOME to a folder that can be written.",
                self._spool.folder,
                failure,
            )

    def _count_spooled(self, path: Path, batch: Batch) -> None:
        self._on_disk[path] = len(batch)
        self._ledger.spooled += len(batch)

    def _keep_in_memory(self, hand: Hand[T], batch: Batch) -> None:
        size = sum(len(record.body) for record in batch.records)
        with self._lock:
            if not self._settle(hand, batch):
                return
            if self._is_closing:
                self._ledger.drop(DropReason.ENDED, len(batch))
            elif self._waiting_bytes + size > self._limits.queue_max_bytes:
                self._ledger.drop(DropReason.QUEUE_FULL, len(batch))
            else:
                self._waiting.append(batch)
                self._waiting_bytes += size

    def _reject(self, hand: Hand[T], batch: Batch, answer: Answer) -> None:
        faults.say(
            "rejected",
            "HoneyHive refused an event: %s. It is set aside%s; the others go on.",
            answer.detail,
            f" in {self._spool.folder}" if self._spool is not None else "",
        )
        if self._spool is not None:
            with guarded("set a refused event aside"):
                self._spool.reject(batch, answer.detail)
        with self._lock:
            if self._settle(hand, batch):
                self._ledger.rejected += len(batch)

    def _count_sent(self, hand: Hand[T], batch: Batch) -> None:
        with self._lock:
            if self._settle(hand, batch):
                self._ledger.sent += len(batch)

    def _catch_up(self) -> None:
        """Send what waits in memory and on disk, oldest first, as long as it goes well and nothing new is waiting."""
        with guarded("send what waits"):
            while self._waiting and not self._is_parked() and read_ticks() < self._deadline:
                with self._lock:
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
        for path in spool.paths():
            is_late = read_ticks() >= self._deadline
            if self._is_parked() or is_late or len(self._queue) >= self._limits.batch_max_events:
                return
            if path in self._being_written:
                continue  # by another worker, which has not counted it yet
            batch = spool.load(path)
            if batch is None:
                continue
            hand: Hand[T] = Hand([], batch, path)
            with self._lock:
                # Files of other processes join this ledger when they are read for the first time.
                own = self._on_disk.pop(path, 0)
                self._ledger.spooled -= own
                self._ledger.created += len(batch) - own
                self._hands.add(hand)
            if not self._deliver_and_release(hand):
                return
            spool.remove(path)

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
