"""SAMPLE_RATE: which events are recorded. Whole sessions, the same ones in every process. Pure, on worker threads.

What fails, or takes long, is kept if that is asked for, with the Calls around it that end later.
"""

from __future__ import annotations

from honeyhive_autoinstrument.capture.call import Call
from honeyhive_autoinstrument.config import Config

SPACE = 1 << 32


def is_sampled_in(session_id: str, rate: float) -> bool:
    """Whether a session is among those that are recorded. By the first 32 bits of its id, which are random in a UUID of
    version 4 and a hash in one of version 5."""
    return rate >= 1.0 or int(session_id[:8], 16) < rate * SPACE


def is_kept(call: Call, session_id: str, config: Config) -> bool:
    """Whether a Call's event is recorded."""
    if is_sampled_in(session_id, config.sample_rate):
        return True
    if config.sample_keep_slow is not None and call.ended_ticks - call.started_ticks >= config.sample_keep_slow:
        return True
    around: Call | None = call
    while config.sample_keep_errors and around is not None:
        if around.has_failure:
            return True
        around = around.parent
    return False
