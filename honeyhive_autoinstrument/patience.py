"""Patience: waiting by a clock that stands still while the whole process does, or gets no processor.

A machine that is paused for a second, or a process that is stopped, finds each of its limits over when it goes on. That
says nothing of what was waited for, which had no time either: a server, a thread, a function of the user's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_S = 0.002
"""How often to look, where looking is all that can be done."""
LONGEST_LOOK_S = 0.02
"""As much as goes by from one look to the next, by this clock."""


class Patience:
    """So many seconds, for a loop that asks again and again whether they are over."""

    def __init__(self, seconds: float, *, counts_computing: bool = False) -> None:
        """
        :param counts_computing: they are over as well when the process has computed for so long meanwhile: what holds the
            interpreter, a regular expression for example, keeps everybody from looking.
        """
        self._left_s = seconds
        self._before = time.monotonic()
        self._until = self._before + seconds
        self._computed_until = time.process_time() + seconds if counts_computing else float("inf")

    def is_over(self) -> bool:
        """Whether they are. What went by since the last time counts for LONGEST_LOOK_S at most."""
        now = time.monotonic()
        self._left_s -= min(now - self._before, LONGEST_LOOK_S)
        self._before = now
        return self._left_s <= 0 or (now >= self._until and time.process_time() >= self._computed_until)

    def look_s(self) -> float:
        """How long to wait for it before asking again."""
        return max(0.0, min(self._left_s, LONGEST_LOOK_S))


def wait_for(wait: Callable[[float], bool], patience: Patience) -> bool:
    """Whether it came about in time.

    :param wait: waits so many seconds for it, as `Event.wait` does.
    """
    while not wait(patience.look_s()):
        if patience.is_over():
            return wait(0.0)  # it may have come in the meantime that is not counted
    return True


def take_lock(acquire: Callable[..., bool], seconds: float) -> bool:
    """Whether a lock could be had in time, by its `acquire`."""
    return wait_for(lambda look_s: acquire(timeout=look_s), Patience(seconds))
