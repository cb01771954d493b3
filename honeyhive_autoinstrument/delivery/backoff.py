"""How long to wait before the next try. Pure."""

from __future__ import annotations

import email.utils
from collections.abc import Callable

BASE_S = 0.5
CAP_S = 30.0
RETRY_AFTER_CAP_S = 300.0
"""A server that asks for a day would park data that the next process could send."""


def delay_s(tries: int, retry_after_s: float | None, random_unit: Callable[[], float]) -> float:
    """Seconds until the next try: full jitter under a doubling ceiling, and no less than the server asked for.

    :param tries: tries made so far, 1 or more.
    :param random_unit: gives a number from 0 to 1.
    """
    ceiling = min(CAP_S, BASE_S * 2.0 ** min(tries - 1, 16))
    floor = min(retry_after_s or 0.0, RETRY_AFTER_CAP_S)
    return max(ceiling * random_unit(), floor)


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """Seconds that a Retry-After header asks for, given in seconds or as an HTTP date; None if it says neither."""
    if not header:
        return None
    text = header.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now_s
        except (ValueError, TypeError, OverflowError):
            return None
    if seconds != seconds:  # nan
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_CAP_S)
