"""Reminder: a signal whose handler has not begun is sent to the main thread again, until it has.

A handler that finds its thread in the middle of our own work asks for that. And a signal can be missed. The interpreter
notes it, and runs the handler when the main thread executes Python next (docs.python.org/3/library/signal.html, "Execution
of Python signal handlers"). If it comes after the interpreter's last look and before the system call in which the thread
waits, for a lock that another process holds say, nobody looks any more; without a handler it would have ended the process
there. multiprocessing's pools meet this: they end their workers just when those turn to the next task, and wait for them
without a limit (CPython 3.11: one in some four hundred pools).

So a thread reads the interpreter's wakeup descriptor, to which each signal is written at once. What it sends to the main
thread interrupts the system call.

It does so in children of multiprocessing and its like only: a program that becomes a daemon closes all descriptors, and the
interpreter would write to whatever file has the number next.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import wrapt

from honeyhive_autoinstrument._faults import harmless

SOON_S, LATER_S = 0.002, 0.5
"""How long to wait before the signal is sent (again): at first, and when that was tried OFTEN."""
OFTEN = 250


class Reminder:
    """Sends a signal to the main thread until its handler has begun."""

    def __init__(self, number: int, is_handled_here: Callable[[], bool]) -> None:
        """
        :param is_handled_here: whether the handler of this signal is the one that calls `begin_handling`.
        """
        self._number = number
        self._is_handled_here = is_handled_here
        self._set_wakeup_fd = signal.set_wakeup_fd
        self._is_wrapped = False
        self._make_fresh()

    def _make_fresh(self) -> None:
        self._pipe: tuple[int, int] | None = None
        """Descriptors: ours, and the interpreter's."""
        self._has_begun = False
        self._is_sending = False
        self._lock = threading.RLock()
        """Held from the look whether the handler has begun to the signal, which would pass for a second one after that."""

    def watch(self) -> None:
        """From now on; on any thread but the main one, and where it cannot be, this does nothing.

        :raises OSError: there is no descriptor left.
        :raises RuntimeError: there is no thread left.
        """
        if self._pipe is not None or not hasattr(signal, "pthread_kill") or not _is_main_thread():
            return
        self._pipe = ours, its = os.pipe()
        os.set_blocking(its, False)
        _thread.start_new_thread(self._read, (ours, threading.get_ident()))
        if not self._is_wrapped:
            self._is_wrapped = True
            wrapt.wrap_function_wrapper(signal, "set_wakeup_fd", self._around_set_wakeup_fd)
        # To whoever has it, asyncio for example, it stays until they give it back.
        signal.set_wakeup_fd(signal.set_wakeup_fd(-1))

    def send_again(self) -> bool:
        """In the handler: have the signal come again in a moment. False: there is no thread left that could."""
        if not self._is_sending:
            try:
                _thread.start_new_thread(self._send_until_handled, (threading.get_ident(),))
            except RuntimeError:
                return False
            self._is_sending = True
        return True

    def begin_handling(self) -> None:
        """In the handler: it goes on to its end; what comes from now on was sent by others."""
        with self._lock:
            self._has_begun = True

    def after_fork(self) -> None:
        """In the child: watch nothing yet."""
        inherited = self._pipe
        self._make_fresh()
        if inherited is not None:
            held = self._set_wakeup_fd(-1)
            if held not in (-1, inherited[1]):
                self._set_wakeup_fd(held)
            for descriptor in inherited:
                os.close(descriptor)

    def _around_set_wakeup_fd(
        self, wrapped: Callable[..., int], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int:
        """To others it looks as if nobody had the descriptor while we have it: trio for example warns if anybody has."""
        if self._pipe is None:
            return wrapped(*args, **kwargs)
        its = self._pipe[1]
        if args == (-1,):
            args, kwargs = (its,), {"warn_on_full_buffer": False}
        held = wrapped(*args, **kwargs)
        return -1 if held == its else held

    @harmless("read signals", None)
    @harmless("read signals", None)
    def _read(self, descriptor: int, main_thread: int) -> None:
        while numbers := os.read(descriptor, 1024):
            if self._number in numbers:
                self._send_until_handled(main_thread)

    def _send_until_handled(self, main_thread: int) -> None:
        times = 0
        while True:
            time.sleep(SOON_S if times < OFTEN else LATER_S)
            with self._lock:
                if self._has_begun or not self._is_handled_here():
                    self._is_sending = False
                    return
                _send(self._number, main_thread)
            times += 1


def _send(number: int, main_thread: int) -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main_thread, number)  # wakes it, whatever it waits for
    else:
        _thread.interrupt_main(signal.Signals(number))


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
