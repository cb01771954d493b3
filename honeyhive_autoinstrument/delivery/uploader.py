"""Uploader: bounded queue, worker threads, flush, close. Generic over what it carries.

`submit` is called in the application's thread, and from finalizers that the garbage collector runs at any moment, even
inside our own code: it takes a re-entrant lock for a few instructions, never waits and never raises. Workers are daemon
threads of our own (`concurrent.futures` refuses work once the interpreter ends); they start with the first submit, and
again after a fork. The keeper is a further thread that comes while all workers are busy: what waits too long, or fills the
queue by three quarters, it puts to disk, whatever the workers wait for.

Where each item is, `holdings.py` knows; what becomes of what a worker has in hand is `courier.py`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from honeyhive_autoinstrument._faults import faults, guarded
from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.delivery.breaker import PROBE_S
from honeyhive_autoinstrument.delivery.courier import MEMORY_S, Courier
from honeyhive_autoinstrument.delivery.holdings import Hand, Holdings, T, read_ticks
from honeyhive_autoinstrument.delivery.journal import Journal
from honeyhive_autoinstrument.delivery.ledger import DropReason
from honeyhive_autoinstrument.delivery.sink import Batch, Record, Sink
from honeyhive_autoinstrument.delivery.spool import Spool
from honeyhive_autoinstrument.patience import LOOK_S, Patience

CONTACT_S = 0.35
"""How long the end of a program waits for a server that none of its requests has found."""
IDLE_S = 30.0
"""How often an idle worker looks whether spooled Batches can be sent."""
SHORT_IDLE_S = 1.0
"""The same while Batches wait in memory, or changes for others that are out."""
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
BUILDING_S = 0.25
"""How long the end of the process waits for a worker that is just making a Record."""
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

    @classmethod
    def of(cls, config: Config) -> Limits:
        """The bounds that the settings give."""
        return cls(
            queue_max_events=config.queue_max_events,
            queue_max_bytes=config.queue_max_bytes,
            batch_max_events=config.batch_max_events,
            batch_max_bytes=config.batch_max_bytes,
            linger_s=config.linger,
            workers=config.workers,
            request_s=config.timeout,
        )


class Uploader(Generic[T]):
    """Takes items, makes Records of them on its threads, and brings Batches of those to the Sink or the Spool."""

    def __init__(
        self,
        *,
        encode: Callable[[T], Record | None],
        size_of: Callable[[T], int],
        sink: Sink | None,
        spool: Spool | None,
        limits: Limits,
        is_durable: bool = False,
        is_change: Callable[[T], bool] = lambda _: False,
        name: str = "honeyhive",
    ) -> None:
        """
        :param encode: item -> Record, or None for what is not to be recorded; runs on a worker (in `submit` where that is
            durable), may raise (the item is then dropped and counted).
        :param sink: None keeps every Batch in the Spool.
        :param spool: None keeps nothing on disk; Batches then wait in memory.
        :param is_durable: an item is on disk when `submit` returns; needs a Spool.
        :param is_change: whether an item changes an Event that is there; changes arrive in their order.
        """
        self._encode = encode
        self._size_of = size_of
        self._sink = sink
        self._spool = spool
        self._limits = limits
        self._is_change = is_change
        self._journal: Journal | None = None
        if is_durable and spool is not None:
            self._journal = Journal(spool, segment_events=limits.batch_max_events, segment_bytes=limits.batch_max_bytes)
        self._name = name
        self._make_fresh()

    def _make_fresh(self) -> None:
        """Everything that one process must not share with a forked child. Assigns only; starts nothing."""
        limits = self._limits
        self._holdings: Holdings[T] = Holdings(
            max_events=limits.queue_max_events, max_bytes=limits.queue_max_bytes, is_change=self._is_change
        )
        self._courier: Courier[T] = Courier(
            self._holdings,
            sink=self._sink,
            spool=self._spool,
            journal=self._journal,
            enough_queued=limits.batch_max_events,
        )
        self._lock = self._holdings.lock  # guards the list of threads, too
        self._wake = threading.Lock()
        self._wake.acquire()
        self._threads: list[threading.Thread] = []
        self._keeper: threading.Thread | None = None
        self._builders: set[int] = set()
        """Threads that make Records just now, by their idents."""
        self._stuck = 0
        self._flushes = 0
        self._generation = 0
        """Counts the times that this was opened again; a worker of an earlier one ends."""

    def submit(self, item: T) -> bool:
        """Take an item. Full: it is dropped and counted, or kept on disk where that is asked for. Waits for no server."""
        if self._journal is not None:
            return self._submit_durably(item, self._journal)
        size = self._size_of(item)
        with self._lock:
            self._holdings.ledger.created += 1
            late: Hand[T] | None = None
            queued = 0
            if self._courier.is_closing:
                late = self._holdings.hold(Hand([item]))
            else:
                queued = self._holdings.add(item, size)
                self._holdings.ledger.drop(DropReason.QUEUE_FULL, int(not queued))
        if late is None:
            self._attend(queued)
            return queued > 0
        # In an exit handler that runs after ours, or between close() and the end: there is no worker any more.
        with guarded("keep a late event"):
            self._keep_now(late)
        return True

    def _submit_durably(self, item: T, journal: Journal) -> bool:
        record: Record | None = None
        is_built = False
        with guarded("build an event"):
            record = self._encode(item)
            is_built = True
        if record is None:
            with self._lock:
                self._holdings.ledger.created += 1
                if is_built:
                    self._holdings.ledger.sampled_out += 1
                else:
                    self._holdings.ledger.drop(DropReason.NOT_BUILT, 1)
            return is_built
        if not self._courier.is_closing:
            try:
                journal.append(record)
            except OSError as error:
                self._courier.say_disk_failed(error)
        with self._lock:
            self._holdings.ledger.created += 1
            queued = 0 if self._courier.is_closing else self._holdings.add(record, len(record.body))
            hand = None if queued else self._holdings.hold(Hand([], Batch.of([record])))
        if hand is None:
            self._attend(queued)
        else:
            with guarded("keep an event"):
                self._keep_now(hand)
        return True

    def _attend(self, queued: int) -> None:
        """See that somebody works on what is queued. Without the lock: a thread's start() waits for the new thread, in which
        a finalizer may submit before it has begun."""
        if not queued or self._holdings.is_locked_here():
            return  # a finalizer amid a change: whoever makes that attends, or is a worker
        if queued & (queued - 1) == 0 or queued % self._limits.batch_max_events == 0:
            if queued == 1 or queued >= self._limits.batch_max_events:
                self._wake_one()  # not in between: a worker waits for company then; nor after a new one has begun to
            self._tend()

    def _tend(self) -> None:
        """See that somebody works: a worker, and while all are busy the keeper. A thread that has died is replaced."""
        if not any(map(_lives, self._threads)):
            with self._lock:
                self._threads = [thread for thread in self._threads if _lives(thread)]
            self._start_thread()
        self._watch_if_busy()

    def _watch_if_busy(self) -> None:
        if self._holdings.hands >= len(self._threads):
            self._start_keeper()

    def flush(self, timeout_s: float) -> bool:
        """Bring out what has been submitted so far, within the time.

        :returns: whether all of it is settled: sent, or on disk because it cannot be sent now.
        """
        deadline = read_ticks() + timeout_s
        with self._lock:
            self._flushes += 1
        try:
            while self._is_busy():
                if read_ticks() >= deadline or self._courier.is_closing:
                    return False
                self._tend()
                self._wake_one()
                time.sleep(0.005)
            return not self._holdings.waiting
        finally:
            with self._lock:
                self._flushes -= 1

    def close(self, timeout_s: float) -> None:
        """Bring out what can be brought out within the time, put the rest to disk, stop the threads.

        Called again while it waits (a signal's handler), it waits no longer and puts the rest to disk at once.
        """
        is_interrupting = self.is_locked_here()  # then nobody could work while this waits
        with self._lock:
            is_first = not self._courier.is_closing
            if is_first:
                self._courier.begin_closing(read_ticks() + timeout_s)
        if is_first and not is_interrupting:
            self._wait_for_workers()
            if not self._threads:
                self._work_here()
        # The time is up, or there never was a worker. A request that a worker still waits for may yet succeed; those
        # Events then go out twice, under the same ids.
        for hand in self._holdings.take_rest():
            with guarded("keep the rest on disk"):
                self._keep_now(hand)
        self._courier.undo_writing()
        self._wait_for_builders()
        if self._spool is not None and is_first:
            with guarded("close the journal"):
                if self._journal is not None:
                    self._journal.leave()
                self._spool.close()
        if self._sink is not None and is_first:
            with guarded("close the connections"):
                self._sink.close()
        dropped = self._holdings.ledger.dropped
        lost = dropped[DropReason.ENDED] + dropped[DropReason.DISK_FAILED]
        if lost:
            faults.say(
                "ended",
                "%d HoneyHive events could not be delivered before the program ended, and are lost: %s.",
                lost,
                "HONEYHIVE_DURABILITY is memory. With on_failure they are kept on disk and sent later"
                if self._spool is None
                else f"they cannot be kept in {self._spool.folder}",
            )

    def is_locked_here(self) -> bool:
        """Whether the calling thread is in the middle of a change, of a submit for example: a signal's handler may find
        itself there."""
        places = (self._holdings, self._journal, self._spool)
        return any(place is not None and place.is_locked_here() for place in places)

    def reopen(self) -> None:
        """Go on after `close`: the program did not end after all."""
        with self._lock:
            self._generation += 1
            self._threads = []
            self._keeper = None
            self._courier.go_on()
        if self._sink is not None:
            self._sink.hurry(float("inf"))

    def stats(self) -> dict[str, object]:
        """The ledger: created = sent + pending + spooled + rejected + dropped. Pending is counted, not derived."""
        with self._lock:
            return self._holdings.ledger.as_dict(pending=self._holdings.pending())

    def before_fork(self) -> None:
        """Hold what must not be cut in half."""
        if self._sink is not None:
            self._sink.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._sink is not None:
            self._sink.after_fork_in_parent()

    def after_fork(self) -> None:
        """In the child: fresh queue, locks and threads. What the parent had queued stays the parent's."""
        self._make_fresh()
        if self._journal is not None:
            self._journal.after_fork()
        if self._spool is not None:
            self._spool.after_fork()
        if self._sink is not None:
            self._sink.after_fork()

    def _is_busy(self) -> bool:
        """Whether a worker has something to bring out now; what is read back from disk is no such thing."""
        if self._holdings.is_any_under_way():
            return True
        return self._holdings.is_waiting_due() and self._sink is not None and not self._courier.is_parked()

    def _wake_one(self) -> None:
        # The lock is the bell: held while nobody has rung. Ringing twice is ringing once.
        try:
            self._wake.release()
        except RuntimeError:
            pass

    def _start_thread(self) -> None:
        with self._lock:
            if self._courier.is_closing or len(self._threads) >= self._limits.workers:
                return
            number = len(self._threads) + 1
            thread = threading.Thread(
                target=self._work, args=(self._generation,), name=f"{self._name}-uploader-{number}", daemon=True
            )
            self._threads.append(thread)
        # Without the lock: start() waits for the new thread, in which a finalizer may submit before it has begun.
        try:
            thread.start()
        except RuntimeError:
            return  # the interpreter ends, or the system has no thread left; close() will bring the queue out
        finally:
            if thread.ident is None:
                with self._lock:
                    self._threads = [each for each in self._threads if each is not thread]

    def _start_keeper(self) -> None:
        with self._lock:
            if self._courier.is_closing or (self._keeper is not None and _lives(self._keeper)):
                return
            keeper = threading.Thread(
                target=self._watch, args=(self._generation,), name=f"{self._name}-keeper", daemon=True
            )
            self._keeper = keeper
        try:
            keeper.start()
        except RuntimeError:
            return
        finally:
            if keeper.ident is None:
                self._keeper = None

    def _wait_for_workers(self) -> None:
        """Until they are done, or the time is up, or there is nobody to wait for: a server that no request has found."""
        if self._sink is not None:
            self._sink.hurry(self._courier.deadline - read_ticks())
        patience = Patience(CONTACT_S)
        while any(map(_lives, self._threads)):
            if read_ticks() >= self._courier.deadline:
                return
            if self._sink is None or self._sink.has_contact():
                patience = Patience(CONTACT_S)
            elif patience.is_over():
                with self._lock:
                    self._courier.deadline = read_ticks()
                return
            self._wake_one()
            time.sleep(LOOK_S)

    def _wait_for_builders(self) -> None:
        """Until no worker makes Records any more. Prices are LiteLLM's, and pydantic aborts a process whose end a thread
        meets in one of its functions."""
        patience = Patience(BUILDING_S)
        while self._builders - {threading.get_ident()} and not patience.is_over():
            time.sleep(LOOK_S)

    def _work_here(self) -> None:
        """A worker's work in the thread that closes: from 3.12 on CPython starts no thread once the program has ended."""
        while self._holdings.queued and read_ticks() < self._courier.deadline:
            with guarded("deliver events", BaseException):
                self._step()

    def _keep_now(self, hand: Hand[T]) -> None:
        """Put a Hand to disk that no worker has."""
        if hand.batch is None:
            self._build(hand)
        self._courier.keep(hand)
        self._holdings.release(hand)

    # On a worker's thread.

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
        courier, holdings, limits = self._courier, self._holdings, self._limits
        if not holdings.queued:
            if courier.is_closing:
                courier.catch_up()
                return not holdings.queued  # changes wait for what was caught up with
            rung = self._wake.acquire(timeout=self._idle_s())
            if not rung or not holdings.queued:
                courier.catch_up()
                return False
        self._wake.acquire(blocking=False)  # the ring for what is there already would end the wait for company
        if holdings.queued < limits.batch_max_events and not courier.is_closing and not self._flushes:
            self._wake.acquire(timeout=limits.linger_s)
        hand = holdings.take(limits.batch_max_events, limits.batch_max_bytes)
        if holdings.queued:
            self._call_help()
            self._watch_if_busy()
        was_held_back = False
        try:
            self._build(hand, BaseException)
            if hand.has_changes and self._spool is not None and holdings.is_crowded(SPILL_AT):
                courier.keep(hand)  # one worker does not keep up with them, and the keeper cannot take them meanwhile
            else:
                was_held_back = not courier.deliver(hand)
        finally:
            # Whatever went wrong: what is still in hand is not lost.
            courier.keep(hand)
            holdings.release(hand)
        if not holdings.queued and (was_held_back or not courier.has_failed):
            courier.catch_up()
        return False

    def _idle_s(self) -> float:
        if self._holdings.waiting or self._holdings.has_changes_queued():
            return SHORT_IDLE_S
        return PROBE_S / 2 if self._courier.has_failed or self._holdings.ledger.spooled else IDLE_S

    def _call_help(self) -> None:
        if self._holdings.queued >= self._limits.batch_max_events and len(self._threads) < self._limits.workers:
            self._start_thread()
        self._wake_one()

    def _build(self, hand: Hand[T], kind: type[BaseException] = Exception) -> None:
        records: list[Record] = []
        sampled_out = 0
        guard = guarded("build an event", kind)
        builder = threading.get_ident()
        is_outermost = builder not in self._builders
        self._builders.add(builder)
        try:
            for item in hand.items:
                if not self._holdings.is_held(hand):
                    return  # who has taken it makes its Records
                with guard:
                    record = item if isinstance(item, Record) else self._encode(item)
                    if record is None:
                        sampled_out += 1
                    else:
                        records.append(record)
            self._holdings.build(hand, records, sampled_out)
        finally:
            if is_outermost:
                self._builders.discard(builder)

    # On the keeper's thread.

    def _watch(self, generation: int) -> None:
        limits, holdings = self._limits, self._holdings
        last_busy = read_ticks()
        while generation == self._generation and not self._courier.is_closing:
            with guarded("look after a backlog", BaseException):
                if holdings.hands:
                    last_busy = read_ticks()
                if self._spool is not None:
                    self._spill()
                self._replace_stuck()
                if read_ticks() - last_busy > KEEPER_IDLE_S:
                    return
            time.sleep(WATCH_S if holdings.queued > limits.batch_max_events else CALM_WATCH_S)

    def _spill(self) -> None:
        """Put the oldest items to disk where they press."""
        limits, holdings = self._limits, self._holdings
        oldest_s = limits.linger_s + MEMORY_S
        share = SPILL_AT
        while holdings.is_pressed(share, oldest_s) and not self._courier.is_closing:
            share = SPILL_TO
            hand = holdings.take(limits.batch_max_events, limits.batch_max_bytes)
            try:
                self._build(hand, BaseException)
            finally:
                self._courier.keep(hand)
                holdings.release(hand)
            self._wake_one()  # for changes that had to wait for it

    def _replace_stuck(self) -> None:
        """Keep on disk what a worker that hangs has in hand, and let another take its place."""
        stuck = self._holdings.take_stuck(STUCK_REQUESTS * self._limits.request_s)
        for hand in stuck:
            with self._lock:
                if self._stuck < MAX_STUCK and hand.worker in self._threads:
                    self._stuck += 1
                    self._threads.remove(hand.worker)
            self._keep_now(hand)
        if stuck:
            self._start_thread()


def _lives(thread: threading.Thread) -> bool:
    """Whether a thread is alive or just being started."""
    return thread.ident is None or thread.is_alive()
