"""The first code of ours in the application's process: is recording wanted, is it on already? Then wait for LiteLLM.

Standard library only, and as little of it as possible: this runs in every process that the settings reach, most of
which never import LiteLLM. It never raises, and it never imports LiteLLM.

The waiting is a finder on `sys.meta_path` that knows two names. It hands out the spec that the other finders would have
given, with a loader that first puts the real loader back (importlib.resources and inspect ask the module for it), runs
it, and then activates. `litellm` is then complete: every public name and `Router` is bound (litellm_map.md, 10).
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

LIBRARY = "litellm"
LATE_PART = "litellm.router_rust.core"
"""The class behind the Router; LiteLLM 1.110 and later import it with the first Router, not with the library."""
SHIM = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "sitecustomize_shim")
"""Beside the package, in a checkout as in site-packages."""
RUNTIME = "honeyhive_autoinstrument.activation.runtime"
OFF = ("0", "false", "no", "off")


def is_switched_off() -> bool:
    """`HONEYHIVE_AUTO=0` wins over every way to switch on but `init()`."""
    return os.environ.get("HONEYHIVE_AUTO", "").strip().lower() in OFF


def activate_from_environment() -> None:
    """Called by the `.pth` and `.start` files: active only when HONEYHIVE_AUTO is set to something that means yes."""
    if os.environ.get("HONEYHIVE_AUTO", "").strip():
        activate("HONEYHIVE_AUTO")


def activate_from_launcher() -> None:
    """Called by the shim that `honeyhive-instrument` puts onto PYTHONPATH."""
    activate("honeyhive-instrument")


def activate_on_import() -> None:
    """Called by `honeyhive_autoinstrument.auto`, and by the package itself inside IPython."""
    activate("import")


def activate(way: str) -> None:
    """Record from now on: at once if LiteLLM is loaded, else as soon as it is. Safe to repeat; never raises."""
    if is_switched_off():
        return
    try:
        wait_for_library(way)
    except Exception as error:  # noqa: BLE001  (no import of _faults here: logging alone costs 10 ms)
        if os.environ.get("HONEYHIVE_DEBUG"):
            sys.stderr.write(f"honeyhive_autoinstrument: not active ({type(error).__name__}: {error})\n")


def wait_for_library(way: str) -> None:
    """Install the finder once; when LiteLLM is already there and complete, start right away."""
    _hide_shim()
    finder = installed_finder()
    if finder is None:
        import atexit

        finder = LibraryFinder(way)
        sys.meta_path.insert(0, finder)
        # Registered before the program's own handlers, so it runs after them and their calls are recorded too.
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            # And before the program's own hooks, so that none of those finds a signal held. What follows a fork twice: a
            # signal handler of the program's that raises may do so just when the first of them begins.
            os.register_at_fork(before=_before_fork)
            for _ in range(2):
                os.register_at_fork(after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
    library = sys.modules.get(LIBRARY)
    if library is not None and is_complete(library):
        _start_runtime(way)


def _hide_shim() -> None:
    # PYTHONPATH keeps it, for child processes; in this one the program sees sys.path as it would be without us.
    sys.path[:] = [entry for entry in sys.path if entry != SHIM]


def stop_waiting() -> None:
    """Take the finder away again. LiteLLM imported after this is left alone."""
    finder = installed_finder()
    if finder is not None:
        sys.meta_path.remove(finder)


def installed_finder() -> LibraryFinder | None:
    """The finder of this process, if it waits."""
    for finder in sys.meta_path:
        if type(finder) is LibraryFinder:
            return finder
    return None


def is_complete(library: ModuleType) -> bool:
    """In a circular import the name is in sys.modules half built; then the finder's loader will start us."""
    return "Router" in vars(library) and "acompletion" in vars(library)


class LibraryFinder:
    """Finds `litellm` (and its late part) as the other finders do, and makes the import end with our activation."""

    def __init__(self, way: str) -> None:
        self.way = way
        self._asking: set[int] = set()
        """Threads that ask the other finders; wrapt's own import hook asks all finders again, this one included."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != LIBRARY and name != LATE_PART:
            return None
        thread = get_ident()
        if thread in self._asking:
            return None
        self._asking.add(thread)
        try:
            return self._spec_of_others(name, path, target)
        finally:
            self._asking.discard(thread)

    def _spec_of_others(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = ActivatingLoader(spec.loader, self.way)  # type: ignore[assignment]
                return spec
        return None

    def invalidate_caches(self) -> None:
        """Part of the finder protocol; there is nothing to invalidate."""


class ActivatingLoader:
    """Stands in for the real loader until the module is executed."""

    def __init__(self, loader: Any, way: str) -> None:
        self._loader = loader
        self._way = way

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _start_runtime(self._way)


def _start_runtime(way: str) -> None:
    # An exception here would propagate out of the application's `import litellm`.
    try:
        from honeyhive_autoinstrument.activation.runtime import activate_runtime

        activate_runtime(way)
    except Exception as error:  # noqa: BLE001  (a missing dependency of ours means: inactive, not broken)
        if os.environ.get("HONEYHIVE_DEBUG"):
            sys.stderr.write(f"honeyhive_autoinstrument: not active ({type(error).__name__}: {error})\n")


def _tell_runtime(name: str) -> None:
    """Call a function of its module, if that has been imported, and the function is there by now."""
    function = getattr(sys.modules.get(RUNTIME), name, None)
    if function is not None:
        function()


def _at_exit() -> None:
    _tell_runtime("at_exit")


def _before_fork() -> None:
    _tell_runtime("hold_sigterm")


def _after_fork_in_parent() -> None:
    _tell_runtime("let_sigterm_go")


def _after_fork_in_child() -> None:
    _tell_runtime("let_sigterm_go_in_child")
