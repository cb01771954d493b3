"""Holdings: where each item of an Uploader is, and the ledger that tells. Every change is made here, under one lock.

An item is in the queue, in one Hand, in the waiting list, or settled in the ledger. `take_rest` takes away the Hands of
workers that do not finish in time; a worker settles only what is still in its Hand. Re-entrant: a finalizer that the garbage
collector runs inside of this may add an item. Nothing here waits, reads or writes.

Changes of Events keep their order, though two workers' requests may arrive in any: they are in one Hand from the queue at a
time, and in none as long as another one has what was queued before them, which may be the very Event.
"""

from __future__ import annotations

import bisect
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from honeyhive_autoinstrument.delivery.ledger import DropReason, Ledger
from honeyhive_autoinstrument.delivery.sink import Batch, Outcome, Record

read_ticks = time.monotonic

T = TypeVar("T")


EMPTY = Batch(())
NOT_YET_S = 1.0
"""How long a change in memory waits for its Event to become known."""


class Hand(Generic[T]):
    """What one worker is busy with: items not built yet, then the Batch of them, less what is settled."""

    __slots__ = (
        "batch", "has_changes", "is_left_on_disk", "items", "left_because", "path", "queued_at", "requests",
        "sending_since", "taken", "waited_as", "worker",
    )  # fmt: skip

    def __init__(self, items: Sequence[T | Record], batch: Batch | None = None, path: Path | None = None) -> None:
        self.items = items
        self.worker = threading.current_thread()
        self.sending_since = float("inf")
        """When the request began that the worker waits for."""
        self.requests = 1
        """How many there may be in what it waits for: each change is one."""
        self.queued_at = float("inf")
        """When the oldest of its items came, if they are from the queue."""
        self.waited_as: int | None = None
        """Its number among what waits in memory, if it comes from there."""
        self.left_because: Outcome | None = None
        """The answer after which a part of it was left for a later try."""
        self.batch = batch
        self.path = path
        """The spool's file that the Batch was read from; it stays there until the Batch is settled."""
        self.taken = len(self)
        self.is_left_on_disk = False
        self.has_changes = batch is not None and _has_changes(batch)

    def __len__(self) -> int:
        return len(self.items) if self.batch is None else len(self.batch)

    @property
    def is_backlog(self) -> bool:
        """Whether it has waited for a later try, on disk or in memory."""
        return self.path is not None or self.waited_as is not None


class Holdings(Generic[T]):
    """Queue, Hands, waiting list and ledger of one Uploader in one process."""

    def __init__(self, *, max_events: int, max_bytes: int, is_change: Callable[[T], bool]) -> None:
        """
        :param is_change: whether an item changes an Event that is there.
        """
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._is_change = is_change
        self.lock = threading.RLock()
        self.ledger = Ledger()
        self._queue: deque[tuple[T | Record, int, float]] = deque()
        """Items with their size in bytes and the time when they came."""
        self._changes: deque[tuple[T | Record, int, float]] = deque()
        """The part of the queue that changes Events."""
        self._queued_bytes = 0
        self._hands: set[Hand[T]] = set()
        self._waiting: list[tuple[int, float, Batch]] = []
        """Batches that are to go on disk, or out, and cannot: by number, oldest first, with the time of the next try."""
        self._numbers = itertools.count()
        self._waiting_bytes = 0
        self._on_disk: dict[Path, int] = {}
        """Files whose Events the ledger has as spooled: what this process wrote, and what it read and could not send."""

    @property
    def queued(self) -> int:
        """Items of which a worker can take some now."""
        with self.lock:
            return sum(map(len, self._takeable()))

    @property
    def waiting(self) -> int:
        """Batches that wait in memory."""
        return len(self._waiting)

    @property
    def hands(self) -> int:
        """How many workers are busy, or read from disk."""
        return len(self._hands)

    def pending(self) -> int:
        """Items that are not settled. Counted, not derived."""
        with self.lock:
            queued = len(self._queue) + len(self._changes)
            return queued + sum(map(len, tuple(self._hands))) + sum(len(batch) for _, _, batch in self._waiting)

    def has_backlog(self) -> bool:
        """Whether Events wait in memory or on disk for a later try, or have theirs just now. On disk: as far as this process
        knows."""
        with self.lock:
            return bool(self._waiting) or self.ledger.spooled > 0 or any(hand.is_backlog for hand in tuple(self._hands))

    def is_waiting_due(self) -> bool:
        """Whether a Batch in memory may be tried again."""
        with self.lock:
            now = read_ticks()
            return any(not_before <= now for _, not_before, _ in self._waiting)

    def has_changes_queued(self) -> bool:
        """Whether changes are queued, be it that they cannot be taken now."""
        return bool(self._changes)

    def is_any_under_way(self) -> bool:
        """Whether items are queued or in hand; what is read back from disk is not counted."""
        with self.lock:
            return bool(self._queue or self._changes) or any(hand.path is None for hand in tuple(self._hands))

    def is_locked_here(self) -> bool:
        """Whether the calling thread is in the middle of a change: a signal's handler may find itself there."""
        return bool(self.lock._is_owned())  # type: ignore[attr-defined]  # as threading's own Condition asks

    def add(self, item: T | Record, size: int) -> int:
        """Queue an item; how many of its kind (changes, or all others) there are then, 0 where there is no room for it. The
        caller has the lock, and counts the item as created."""
        if len(self._queue) + len(self._changes) >= self._max_events or self._queued_bytes + size > self._max_bytes:
            return 0
        is_change = item.updates is not None if isinstance(item, Record) else self._is_change(item)
        queue = self._changes if is_change else self._queue
        queue.append((item, size, read_ticks()))
        self._queued_bytes += size
        return len(queue)

    def is_crowded(self, share: float) -> bool:
        """Whether the queue is fuller than this share of its bounds."""
        with self.lock:
            queued = len(self._queue) + len(self._changes)
            return queued > share * self._max_events or self._queued_bytes > share * self._max_bytes

    def is_pressed(self, share: float, oldest_s: float) -> bool:
        """Whether the queue is that full, or its oldest item has waited longer; False where nothing can be taken."""
        with self.lock:
            queues = self._takeable()
            if not queues:
                return False
            return self.is_crowded(share) or read_ticks() - min(queue[0][2] for queue in queues) > oldest_s

    def take(self, max_events: int, max_bytes: int) -> Hand[T]:
        """The oldest items of the queue, so many or of so many bytes by estimate, in a Hand."""
        items: list[T | Record] = []
        size = 0
        with self.lock:
            queue, changes, until = self._queue, self._changes, self._changes_until()
            hand = self.hold(Hand(items))
            while len(items) < max_events and size < max_bytes:
                is_change_next = changes and changes[0][2] < until and (not queue or changes[0][2] < queue[0][2])
                if not queue and not is_change_next:
                    break
                item, weight, came_at = (changes if is_change_next else queue).popleft()
                items.append(item)
                size += weight
                hand.has_changes = hand.has_changes or bool(is_change_next)
                hand.queued_at = min(hand.queued_at, came_at)
            self._queued_bytes -= size
        return hand

    def _changes_until(self) -> float:
        """Changes that came before this may be taken: none while others from the queue are out, else those that are older
        than all that is in hand. (Beside a backlog they may: they join it.)"""
        fresh = [hand for hand in tuple(self._hands) if not hand.is_backlog]
        if any(hand.has_changes for hand in fresh):
            return float("-inf")
        return min((hand.queued_at for hand in fresh), default=float("inf"))

    def _takeable(self) -> list[deque[tuple[T | Record, int, float]]]:
        """The parts of the queue from which something can be taken now."""
        queues = [self._queue]
        if self._changes and self._changes[0][2] < self._changes_until():
            queues.append(self._changes)
        return [queue for queue in queues if queue]

    def take_waiting(self, after: int) -> Hand[T] | None:
        """The oldest of the Batches that wait in memory and are due, of those with a higher number. None, too, if it has
        changes and others are out, or what has waited longer."""
        with self.lock:
            now = read_ticks()
            for place, (number, not_before, batch) in enumerate(self._waiting):
                if number <= after or not_before > now:
                    continue
                if _has_changes(batch) and any(hand.has_changes or hand.is_backlog for hand in tuple(self._hands)):
                    return None
                del self._waiting[place]
                self._waiting_bytes -= _bytes_of(batch)
                hand: Hand[T] = Hand([], batch)
                hand.waited_as = number
                return self.hold(hand)
            return None

    def take_file(self, batch: Batch, path: Path) -> Hand[T]:
        """A Batch that was read from disk. Files of other processes join this ledger when they are read first."""
        with self.lock:
            own = self._on_disk.pop(path, 0)
            self.ledger.spooled -= own
            self.ledger.drop(DropReason.DAMAGED, max(0, own - len(batch)))
            self.ledger.created += max(0, len(batch) - own)
            return self.hold(Hand([], batch, path))

    def take_stuck(self, patience_s: float) -> list[Hand[T]]:
        """What is in the Hands of workers that have waited longer for each answer, in Hands of their own."""
        with self.lock:
            now = read_ticks()
            return [
                self._take_away(hand)
                for hand in tuple(self._hands)
                if now - hand.sending_since > patience_s * hand.requests
            ]

    def take_rest(self) -> list[Hand[T]]:
        """Everything that is not settled, in new Hands, oldest first; nobody else has it any more. Where a signal ends in
        the middle what the caller does with them, its handler gets what is left of them here."""
        with self.lock:
            hands = sorted(self._hands, key=lambda hand: hand.queued_at)
            rest = [self._take_away(hand) for hand in hands if hand.is_backlog]
            rest += (self.hold(Hand([], batch)) for _, _, batch in self._waiting)
            rest += (self._take_away(hand) for hand in hands if not hand.is_backlog)
            rest.append(self.hold(Hand([item for item, _, _ in (*self._queue, *self._changes)])))
            self._queue.clear()
            self._changes.clear()
            self._waiting.clear()
            self._queued_bytes = self._waiting_bytes = 0
            return rest

    def _take_away(self, hand: Hand[T]) -> Hand[T]:
        self._hands.discard(hand)
        taken = self.hold(Hand(hand.items, hand.batch, hand.path))
        taken.worker = hand.worker
        taken.has_changes, taken.queued_at, taken.waited_as = hand.has_changes, hand.queued_at, hand.waited_as
        return taken

    def hold(self, hand: Hand[T]) -> Hand[T]:
        """Take a Hand into account."""
        with self.lock:
            self._hands.add(hand)
        return hand

    def is_held(self, hand: Hand[T]) -> bool:
        """Whether a Hand is still its worker's."""
        return hand in self._hands

    def release(self, hand: Hand[T]) -> bool:
        """The worker is done with it. False: it has been taken away."""
        with self.lock:
            is_held = hand in self._hands
            self._hands.discard(hand)
            return is_held

    def build(self, hand: Hand[T], records: list[Record], sampled_out: int) -> None:
        """Items have become Records, but for those that were sampled out; those that could not are dropped."""
        with self.lock:
            if hand in self._hands:
                self.ledger.sampled_out += sampled_out
                self.ledger.drop(DropReason.NOT_BUILT, len(hand.items) - len(records) - sampled_out)
                hand.batch = Batch.of(records)

    def sent(self, hand: Hand[T], batch: Batch) -> bool:
        """These are delivered. False, here and below: the Hand has been taken away; they are somebody else's to count."""
        with self.lock:
            is_settled = self._settle(hand, batch)
            self.ledger.sent += len(batch) * is_settled
            return is_settled

    def rejected(self, hand: Hand[T], batch: Batch) -> bool:
        """The server will never take these."""
        with self.lock:
            is_settled = self._settle(hand, batch)
            self.ledger.rejected += len(batch) * is_settled
            return is_settled

    def spooled(self, hand: Hand[T], batch: Batch, path: Path | None) -> bool:
        """These are on disk, in that file or in a journal."""
        with self.lock:
            is_settled = self._settle(hand, batch)
            if is_settled:
                self._count_spooled(batch, path)
            return is_settled

    def dropped(self, hand: Hand[T], batch: Batch, reason: DropReason) -> bool:
        """These are given up."""
        with self.lock:
            is_settled = self._settle(hand, batch)
            self.ledger.drop(reason, len(batch) * is_settled)
            return is_settled

    def wait(self, hand: Hand[T], batch: Batch) -> bool:
        """Keep these in memory. False: they are somebody else's, or there is no room, and they are dropped."""
        size = _bytes_of(batch)
        with self.lock:
            if self._waiting_bytes + size > self._max_bytes:
                self.dropped(hand, batch, DropReason.QUEUE_FULL)
                return False
            if not self._settle(hand, batch):
                return False
            number = next(self._numbers) if hand.waited_as is None else hand.waited_as
            not_before = read_ticks() + (NOT_YET_S if hand.left_because is Outcome.NOT_YET else 0)
            bisect.insort(self._waiting, (number, not_before, batch), key=lambda waiting: waiting[0])
            self._waiting_bytes += size
            return True

    def made_room(self, files: Iterable[Path]) -> None:
        """Files that the Spool has dropped. The oldest may be another process's; only what this ledger has leaves it."""
        with self.lock:
            for each in files:
                own = self._on_disk.pop(each, 0)
                self.ledger.spooled -= own
                self.ledger.drop(DropReason.SPOOL_FULL, own)

    def _count_spooled(self, batch: Batch, path: Path | None) -> None:
        if path is not None:
            self._on_disk[path] = len(batch)
        self.ledger.spooled += len(batch)

    def _settle(self, hand: Hand[T], batch: Batch) -> bool:
        if hand not in self._hands or hand.batch is None:
            return False
        hand.batch = EMPTY if batch is hand.batch else hand.batch.without(batch.ids)
        return True


def _has_changes(batch: Batch) -> bool:
    return batch.creations() is not batch


def _bytes_of(batch: Batch) -> int:
    return sum(len(record.body) for record in batch.records)
