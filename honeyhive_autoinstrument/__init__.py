"""Zero-code HoneyHive instrumentation for LiteLLM.

Importing the package costs nothing: every public name is resolved on first use. The one exception is a notebook, where
`import honeyhive_autoinstrument` switches the recording on (a running IPython shell is how a notebook is recognised).

Public face: `init`, `flush`, `shutdown`, `stats`, `uninstrument`, `__version__`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `typing` costs more than all of this file
if TYPE_CHECKING:
    from typing import Any

    from honeyhive_autoinstrument._version import __version__
    from honeyhive_autoinstrument.activation.runtime import flush, init, shutdown, stats, uninstrument

__all__ = ["__version__", "flush", "init", "shutdown", "stats", "uninstrument"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from honeyhive_autoinstrument._version import __version__ as version

        return version
    if name in __all__:
        from honeyhive_autoinstrument.activation import runtime

        return getattr(runtime, name)
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
