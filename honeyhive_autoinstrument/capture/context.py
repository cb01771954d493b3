"""The one context variable: the Call that surrounds the running code.

It travels wherever contextvars do: into tasks, and into the executors that LiteLLM starts with a copied context. Values
are set and set back, never reset by token: a coroutine may be closed in another context than the one it began in (by the
garbage collector, anywhere), and a token refuses that with an error. Such a context is left as it is.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from honeyhive_autoinstrument.capture.call import Call

current_call: ContextVar[Call | None] = ContextVar("honeyhive_autoinstrument_current_call", default=None)


def enter_call(call: Call) -> Call | None:
    """Make a Call the surrounding one; what it was before is the answer, for `leave_call`."""
    surrounding = current_call.get()
    current_call.set(call)
    return surrounding


def leave_call(call: Call, surrounding: Call | None) -> None:
    """Set back, where the Call is still the surrounding one."""
    if current_call.get() is call:
        current_call.set(surrounding)
