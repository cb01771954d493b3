"""Runs first in every Python that a process under honeyhive-instrument starts.

The launcher puts this file's folder on PYTHONPATH. It switches the recording on, leaves sys.path as the program would
have seen it without us, and hands over to the `sitecustomize` that it shadows. PYTHONPATH itself stays, so that child
processes are covered.

Standard library only, and it parses on Python 2.7: any interpreter may be started by an instrumented program. One that
is too old or lacks the package goes on as if this file were not there.
"""
import os
import sys


def _activate(root):
    if sys.version_info < (3, 10):
        return
    # First on the path while it is imported: found by place, so that a module of the same name in the program's folder
    # does not get in between. (importlib.util could do it, too; importing that alone takes 4 ms in each process.)
    sys.path.insert(0, root)
    try:
        from honeyhive_autoinstrument.activation.bootstrap import activate_from_launcher
    finally:
        sys.path.remove(root)
    activate_from_launcher()


def _start():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    try:
        _activate(os.path.dirname(here))
    except Exception:
        if os.environ.get("HONEYHIVE_DEBUG"):
            import traceback

            traceback.print_exc()


_start()
# Without another sitecustomize this raises ModuleNotFoundError for 'sitecustomize', which is what `site` expects when
# there is none and passes over; an error inside the program's own one reaches `site` unchanged.
sys.modules.pop("sitecustomize", None)
import sitecustomize  # noqa: E402,F401
