"""The context variables: the Call and the Scope that surround the running code, and the Call that began last in it.

They travel wherever contextvars do: into tasks, and into the executors that LiteLLM starts with a copied context. Values
are set and set back, never reset by token: a coroutine may be closed in another context than the one it began in (by the
garbage collector, anywhere), and a token refuses that with an error. Such a context is left as it is.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from honeyhive_autoinstrument.capture.additions import Handle
    from honeyhive_autoinstrument.capture.call import Call
    from honeyhive_autoinstrument.capture.scope import Scope

current_call: ContextVar[Call | None] = ContextVar("honeyhive_autoinstrument_current_call", default=None)
current_scope: ContextVar[Scope | None] = ContextVar("honeyhive_autoinstrument_current_scope", default=None)
last_handle: ContextVar[Handle | None] = ContextVar("honeyhive_autoinstrument_last_handle", default=None)
"""Of the outermost Call that began last. Not the Call itself: that would keep prompts and answers alive."""


MUTE: Any = object()
"""Stands for a surrounding Call on threads of ours that run the user's functions: what is called there is not recorded."""


def surrounding_call() -> Call | None:
    """The Call that surrounds the running code, if it is one."""
    call = current_call.get()
    return None if call is MUTE else call


def enter_call(call: Call) -> Call | None:
    """Make a Call the surrounding one; what it was before is the answer, for `leave_call`."""
    surrounding = current_call.get()
    current_call.set(call)
    return surrounding


def leave_call(call: Call, surrounding: Call | None) -> None:
    """Set back, where the Call is still the surrounding one."""
    if current_call.get() is call:
        current_call.set(surrounding)
