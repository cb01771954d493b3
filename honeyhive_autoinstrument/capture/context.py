"""The one context variable: the Call that surrounds the running code.

It travels wherever contextvars do: into tasks, and into the executors that LiteLLM starts with a copied context. Values
are set and set back, never reset by token: a coroutine may be closed in another context than the one it began in, and
a token refuses that with an error.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from honeyhive_autoinstrument.capture.call import Call

current_call: ContextVar[Call | None] = ContextVar("honeyhive_autoinstrument_current_call", default=None)
