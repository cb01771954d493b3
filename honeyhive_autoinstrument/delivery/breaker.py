"""Breaker: whether a request may go out now, after those before it failed. Has no clock and no lock: its owner has both."""

from __future__ import annotations

from collections.abc import Callable

from honeyhive_autoinstrument.delivery.sink import Answer, Outcome

BREAKER_AT = 5
"""Failures in a row after which sends are parked and only a probe goes out now and then."""
PROBE_S = 10.0
UNAUTHORISED_PROBE_S = 60.0
PROBE_TAKES_S = 60.0
"""A probe without an answer after this is given up, and another may go out."""


class Breaker:
    """Counts failures in a row; parks sends after five of them, after a refused key, and when a server asks for a pause."""

    def __init__(self, random_unit: Callable[[], float]) -> None:
        self.failures = 0
        self._random_unit = random_unit
        self._is_open = False
        self._parked_until = float("-inf")
        self._paused_until = float("-inf")
        """As long as a server has asked for; an answer to a request from before that does not end it."""
        self._probing_until = float("-inf")

    def is_parked(self, now: float) -> bool:
        """Whether nothing may go out at this time, in seconds of the owner's clock."""
        return now < max(self._parked_until, self._paused_until)

    def may_send(self, now: float) -> bool:
        """Whether a Batch may go out. After a park only one may, until its answer is known: the probe."""
        if self.is_parked(now):
            return False
        if not self._is_open:
            return True
        if now < self._probing_until:
            return False
        self._probing_until = now + PROBE_TAKES_S
        return True

    def learn(self, answer: Answer, now: float) -> None:
        """An answer has come."""
        self._probing_until = float("-inf")
        if answer.outcome not in (Outcome.RETRY_LATER, Outcome.UNAUTHORISED):
            self.failures = 0
            self._is_open = False
            self._parked_until = float("-inf")
            return
        self.failures += 1
        if answer.retry_after_s and self.failures >= BREAKER_AT:
            self.pause(answer.retry_after_s, now)
        if answer.outcome is Outcome.UNAUTHORISED:
            self._is_open = True
            self.park(UNAUTHORISED_PROBE_S, now)
        elif self.failures >= BREAKER_AT:
            self._is_open = True
            # Spread, so that the processes of a fleet do not all knock at the moment when their server is back.
            self.park(PROBE_S * (0.5 + self._random_unit()), now)

    def park(self, seconds: float, now: float) -> None:
        """Let nothing out for so long."""
        self._parked_until = max(self._parked_until, now + seconds)

    def pause(self, seconds: float, now: float) -> None:
        """The same, because the server asks for it."""
        self._paused_until = max(self._paused_until, now + seconds)

    def release(self) -> None:
        """Forget park and pause; the next send may go out."""
        self._paused_until = float("-inf")
        self._parked_until = float("-inf")
        self._probing_until = float("-inf")
