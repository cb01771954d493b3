"""Endings: the ways in which a process ends without its exit handlers, and what is done so that nothing is lost there.

- SIGTERM, where its handling is the default: deliver, then end by the signal all the same.
- A program that ends itself by a signal (`signal.raise_signal`, `os.kill` of its own id) under default handling. uvicorn
  ends so: it takes SIGTERM before the application is imported, and raises it again when it has served its last request
  (uvicorn/server.py, `capture_signals`).
- `os.exec*`: the process becomes another program.
- Children of multiprocessing and of billiard, its twin in celery: they end with `os._exit`. celery's pool leaves out even
  their finalizers (billiard/pool.py, `Worker._do_exit`), but tells `worker_process_shutdown` before.

`os._exit` by the program itself is left alone: who calls it wants to end at once. Nothing here may raise or change how a
process ends.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import wrapt

from honeyhive_autoinstrument._faults import harmless
from honeyhive_autoinstrument.activation.reminder import Reminder

ENDING_SIGNALS = frozenset(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
"""Signals that end a process by default and that somebody sends for that. Not SIGKILL, which nothing may delay."""
MAX_PUT_OFF = 250
"""A signal that finds its thread in the middle of our own work, which takes microseconds, comes again a moment later. After
so many times it is taken as it comes: the work hangs, on a disk perhaps."""
LAST = -100
"""Priority of a finalizer: after all others, as theirs may make calls."""


class Endings:
    """Sees to it that a process delivers before it ends. One for the Runtime; what it wraps stays wrapped."""

    def __init__(
        self,
        deliver: Callable[[], None],
        is_amid_work: Callable[[], bool],
        before_exec: Callable[[], bool],
        after_failed_exec: Callable[[], None],
    ) -> None:
        """
        :param deliver: bring out what can be brought out, keep the rest. None of these raises for a failure of ours.
        :param is_amid_work: whether the calling thread is in the middle of work of ours, which `deliver` could not wait for.
        :param before_exec: the same; says whether there was something to end.
        :param after_failed_exec: begin again.
        """
        self._deliver_all = deliver
        self._pid = os.getpid()
        self._is_amid_work = is_amid_work
        self._times_put_off = 0
        self._before_exec = before_exec
        self._after_failed_exec = after_failed_exec
        self._known: set[str] = set()
        """Families of processes whose children are watched."""
        self._reminder = Reminder(signal.SIGTERM, self._has_sigterm)
        self._forking = threading.local()

    def watch(self) -> None:
        """Once, when the recording begins."""
        self.handle_sigterm()
        wrapt.wrap_function_wrapper(signal, "raise_signal", self._around_raise_signal)
        wrapt.wrap_function_wrapper(os, "kill", self._around_kill)
        for name in ("execv", "execve"):  # the others call these two
            wrapt.wrap_function_wrapper(os, name, self._around_exec)
        self.watch_children()
        self.watch_this_child()

    @harmless("watch for children", None)
    def watch_children(self) -> None:
        """Before each fork: what the child will need to end well. The program may have imported it since the last one."""
        for family in ("multiprocessing", "billiard"):
            util = sys.modules.get(f"{family}.util")
            if util is not None and family not in self._known:
                self._known.add(family)
                # A child clears its finalizers first, and then runs these.
                util.register_after_fork(self, Endings.watch_this_child)
        signals = sys.modules.get("celery.signals")
        if signals is not None and "celery" not in self._known:
            self._known.add("celery")
            signals.worker_process_shutdown.connect(self._on_celery_child_end, weak=False)

    @harmless("watch a child", None)
    def watch_this_child(self) -> None:
        """If this process is somebody's child: at the end of it, and that it gets its signals."""
        if self._register_finalizers() and not _threads_are_greenlets():
            self._reminder.watch()

    def _register_finalizers(self) -> bool:
        is_child = False
        for family in ("multiprocessing", "billiard"):
            process = sys.modules.get(f"{family}.process")
            util = sys.modules.get(f"{family}.util")
            if process is None or util is None:
                continue
            if _is_child(process.current_process()):
                util.Finalize(None, self._deliver_at_end_of_child, exitpriority=LAST)
                is_child = True
        return is_child

    @harmless("watch the end of a child", None)
    def after_fork(self) -> None:
        """In the child. Whoever makes children in a way of their own may do more at this point that a thread disturbs."""
        self._pid = os.getpid()
        self._register_finalizers()

    def _deliver_at_end_of_child(self) -> None:
        # Its parent may lose patience (uvicorn's after half a second), and ask it to end while it does.
        self.handle_sigterm()
        self._deliver()

    def _on_celery_child_end(self, **_: Any) -> None:
        self._deliver()

    def handle_sigterm(self) -> None:
        """Take SIGTERM where nobody has; on any thread but the main one, this does nothing."""
        try:
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self._deliver_and_end)
        except ValueError:
            return  # not the main thread, or a sub-interpreter

    def _has_sigterm(self) -> bool:
        return signal.getsignal(signal.SIGTERM) == self._deliver_and_end

    def hold_sigterm(self) -> None:
        """Before a fork: a child that meets a signal while it is being forked forgets it where that has a handler (CPython
        3.11, Modules/signalmodule.c, `_PySignal_AfterFork`); one that is held meanwhile it does not."""
        # In a fork inside of a fork, by a hook of the program's, it is held already.
        if self._has_sigterm() and signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            # First, as a handler of the program's, of an alarm say, may raise in what follows.
            self._forking.is_holding = True
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def let_sigterm_go(self, *, in_child: bool) -> None:
        """After it, in parent and child. Safe to repeat."""
        if in_child:
            self._forget_signals()  # first, as one that is let go would be written to the parent's pipe
        if getattr(self._forking, "is_holding", False):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            self._forking.is_holding = False

    @harmless("leave the pipe of the parent", None)
    def _forget_signals(self) -> None:
        self._reminder.after_fork()

    def _deliver(self) -> None:
        if self._pid == os.getpid():
            self._deliver_all()  # not in a child that is not through its fork: what it has is its parent's

    def _deliver_and_end(self, number: int, frame: types.FrameType | None) -> None:
        if _threads_are_greenlets():
            # This runs in the hub, or in whichever greenlet is running; who waits here keeps those from working for whom
            # it waits. A second signal ends the program at once: it may never give way to others.
            signal.signal(number, signal.SIG_DFL)
            _thread.start_new_thread(self._end, (number,))
        elif not self._put_off(number):
            self._reminder.begin_handling()
            self._end(number)

    def _put_off(self, number: int) -> bool:
        """Have the signal come again in a moment, if it came in the middle of work of ours."""
        if self._times_put_off >= MAX_PUT_OFF or self._pid != os.getpid() or not self._is_amid_work():
            return False
        self._times_put_off += 1
        return self._reminder.send_again()

    def _end(self, number: int) -> None:
        self._deliver()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _around_raise_signal(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if args and _ends_the_process(args[0]):
            self._deliver()
        elif args and args[0] in ENDING_SIGNALS:
            # uvicorn raises a Ctrl-C again when it has put the handler of SIGTERM back, and its parent's SIGTERM follows.
            self.handle_sigterm()
        return wrapped(*args, **kwargs)

    def _around_kill(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if len(args) == 2 and args[0] == os.getpid() and _ends_the_process(args[1]):
            self._deliver()
        return wrapped(*args, **kwargs)

    def _around_exec(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = args[0] if args else kwargs.get("path")
        if not _is_program(path):
            # `os.execvp` tries one folder of PATH after the other; all but one of these calls fail.
            return wrapped(*args, **kwargs)
        was_open = self._before_exec()
        try:
            return wrapped(*args, **kwargs)
        finally:
            if was_open:
                self._after_failed_exec()


def _is_child(process: object) -> bool:
    # A spawned child imports the program, and us, before it takes its own name (multiprocessing/spawn.py, `_main`).
    return type(process).__name__ != "_MainProcess" or getattr(process, "_inheriting", False)


def _threads_are_greenlets() -> bool:
    """Whether gevent or eventlet has put its own threads in the place of the system's."""
    return _thread.start_new_thread.__module__ != "_thread"


def _ends_the_process(number: object) -> bool:
    return number in ENDING_SIGNALS and signal.getsignal(number) is signal.SIG_DFL  # type: ignore[arg-type]


def _is_program(path: object) -> bool:
    if isinstance(path, int):
        return True  # an open file, on systems that can execute one
    try:
        return os.access(path, os.X_OK)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False  # the call itself will say what is wrong
