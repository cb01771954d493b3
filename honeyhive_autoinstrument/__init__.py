"""Zero-code HoneyHive instrumentation for LiteLLM.

Importing the package costs nothing: every public name is resolved on first use. The one exception is a notebook, where
`import honeyhive_autoinstrument` switches the recording on (a running IPython shell is how a notebook is recognised).

Public face: `init`, `flush`, `shutdown`, `stats`, `uninstrument`; `session`, `with_context`, `enrich`, `last_event_id`,
`update_event`; `__version__`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `typing` costs more than all of this file
if TYPE_CHECKING:
    from typing import Any

    from honeyhive_autoinstrument._version import __version__
    from honeyhive_autoinstrument.activation.additions import enrich, last_event_id, update_event
    from honeyhive_autoinstrument.activation.runtime import flush, init, shutdown, stats, uninstrument
    from honeyhive_autoinstrument.capture.scope import session, with_context

__all__ = [
    "__version__",
    "init",
    "flush",
    "shutdown",
    "stats",
    "uninstrument",
    "session",
    "with_context",
    "enrich",
    "last_event_id",
    "update_event",
]

_HOMES = {
    "session": "capture.scope",
    "with_context": "capture.scope",
    "enrich": "activation.additions",
    "last_event_id": "activation.additions",
    "update_event": "activation.additions",
}
"""Where a public name lives, if not in `activation.runtime`."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from honeyhive_autoinstrument._version import __version__ as version

        return version
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'activation.runtime')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


def load_ipython_extension(ipython: object) -> None:
    """`%load_ext honeyhive_autoinstrument`: the same as the import, said the IPython way."""
    from honeyhive_autoinstrument.activation.bootstrap import activate_on_import

    activate_on_import()


def _is_running_in_ipython() -> bool:
    ipython = sys.modules.get("IPython")
    shell = getattr(ipython, "get_ipython", None)
    return shell is not None and shell() is not None


if _is_running_in_ipython():
    load_ipython_extension(None)
