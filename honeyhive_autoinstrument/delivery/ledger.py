"""The ledger of one Uploader: created = sent + pending + spooled + rejected + dropped (by reason) + sampled out. Pure
counting.

`spooled` counts what this process put on disk and has not sent from there. Guarded by the Uploader's lock.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum


class DropReason(Enum):
    """Why an Event was given up."""

    QUEUE_FULL = "queue full"
    NOT_BUILT = "not built"
    DISK_FAILED = "disk failed"
    SPOOL_FULL = "spool full"
    DAMAGED = "damaged"
    """Could not be read back from disk."""
    ENDED = "program ended"
    """Not delivered when the program ended, and nothing may go to disk."""


class Ledger:
    """Where every Event went."""

    __slots__ = ("created", "dropped", "rejected", "sampled_out", "sent", "spooled")

    def __init__(self) -> None:
        self.created = 0
        self.sent = 0
        self.spooled = 0
        self.rejected = 0
        self.sampled_out = 0
        self.dropped: Counter[DropReason] = Counter()

    def drop(self, reason: DropReason, count: int) -> None:
        """Count Events that are given up."""
        if count:
            self.dropped[reason] += count

    def as_dict(self, *, pending: int) -> dict[str, object]:
        """For `stats()`; what is pending is counted by whoever holds it."""
        return {
            "created": self.created,
            "sent": self.sent,
            "pending": pending,
            "spooled": self.spooled,
            "rejected": self.rejected,
            "sampled_out": self.sampled_out,
            "dropped": {reason.value: count for reason, count in self.dropped.items()},
        }
