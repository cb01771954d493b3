"""What happens when something of ours fails: it is logged, counted and never raised into the application.

Foundation: any room may import it, it imports none. Safe from any thread, and from a finalizer that the garbage
collector runs in the middle of our own code (hence the re-entrant lock). This is the only file with broad excepts.

A Fault is a failure of our own code. A Drop is an Event given up for a stated reason; those are counted where they
happen, in the Uploader's ledger.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

LOGGER_NAME = "honeyhive_autoinstrument"
log = logging.getLogger(LOGGER_NAME)

# One line a minute and subject: a broken server or a hook that fails on each call must not fill somebody's log.
QUIET_S = 60.0

_monotonic = time.monotonic
R = TypeVar("R")
Otherwise = TypeVar("Otherwise")


class Faults:
    """Counts Faults by the operation that failed and keeps the log quiet. One instance for the process, `faults`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counts: dict[str, int] = {}
        self._said_at: dict[str, float] = {}

    def note(self, doing: str, error: BaseException) -> None:
        """Count a failure of ours while `doing` something; say so at most once a minute for each `doing`."""
        with self._lock:
            self._counts[doing] = self._counts.get(doing, 0) + 1
        # Not the error's text: it can hold a prompt or a key.
        self.say(
            f"fault: {doing}",
            "HoneyHive recording: internal error while trying to %s (%s). The program is not affected; the event may lack"
            " some details. Set HONEYHIVE_DEBUG=1 to see where.",
            doing,
            type(error).__name__,
        )
        try:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("Internal error in %r:\n%s", doing, "".join(traceback.format_tb(error.__traceback__)))
        except Exception:
            return

    def say(self, subject: str, message: str, *arguments: object) -> None:
        """Log a warning, at most once a minute for each `subject`."""
        now = _monotonic()
        with self._lock:
            said_at = self._said_at.get(subject)
            if said_at is not None and now - said_at < QUIET_S:
                return
            self._said_at[subject] = now
        try:
            log.warning(message, *arguments)
        except Exception:
            # A handler of the application's own logging failed: its trouble, never a reason to fail the call.
            return

    def counts(self) -> dict[str, int]:
        """Faults so far, by what was being done."""
        with self._lock:
            return dict(self._counts)

    def after_fork(self) -> None:
        """The child starts with its own lock, counts and log; the parent's lock may be held by a thread that is gone."""
        self._lock = threading.RLock()
        self._counts = {}
        self._said_at = {}


faults = Faults()


class guarded:
    """`with guarded("read usage"):` turns an exception of ours into a Fault. BaseExceptions pass: they are the user's.

    :param kind: BaseException on a thread of our own, where there is nobody that one could be for.
    """

    __slots__ = ("_doing", "_kind")

    def __init__(self, doing: str, kind: type[BaseException] = Exception) -> None:
        self._doing = doing
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, self._kind):
            return False
        try:
            faults.note(self._doing, error)
        except BaseException:
            # A log handler of the application's that ends the program; on a thread of ours it would only end that.
            if self._kind is Exception:
                raise
        return True


def harmless(doing: str, otherwise: Otherwise) -> Callable[[Callable[..., R]], Callable[..., R | Otherwise]]:
    """Decorator: a failure of the function becomes a Fault and the answer `otherwise`."""

    def decorate(function: Callable[..., R]) -> Callable[..., R | Otherwise]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> R | Otherwise:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                faults.note(doing, error)
                return otherwise

        return call

    return decorate
