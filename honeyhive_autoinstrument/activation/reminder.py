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
interpreter would go on writing to them. Such children do that seldom; the pipe has high numbers, which no file gets soon.
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

SOON_S, LATER_S = 0.002, 0.5
"""How long to wait before the signal is sent (again): at first, and when that was tried OFTEN."""
OFTEN = 250
HIGHEST, SPARE = 4096, 64
"""Descriptors are numbered from SPARE below the limit of the process, or below HIGHEST."""


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
        self._identity: object = None
        """What the system calls that pipe."""
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
        pipe = _high_pipe()
        os.set_blocking(pipe[1], False)
        try:
            _start_thread(self._read, pipe[0], threading.get_ident())
        except RuntimeError:
            for each in pipe:
                os.close(each)
            raise
        self._pipe, self._identity = pipe, _identity_of(pipe)
        if not self._is_wrapped:
            self._is_wrapped = True
            wrapt.wrap_function_wrapper(signal, "set_wakeup_fd", self._around_set_wakeup_fd)
        held = self._set_wakeup_fd(pipe[1], warn_on_full_buffer=False)
        if held != -1:
            # Whoever has it, asyncio for example, keeps it until they give it back.
            self._set_wakeup_fd(held, warn_on_full_buffer=False)

    def send_again(self) -> bool:
        """In the handler: have the signal come again in a moment. False: there is no thread left that could."""
        if not self._is_sending:
            self._is_sending = True  # before the thread can say that it is done
            try:
                _start_thread(self._send_until_handled, threading.get_ident(), True)
            except RuntimeError:
                self._is_sending = False
                return False
        return True

    def begin_handling(self) -> None:
        """In the handler: it goes on to its end; what comes from now on was sent by others."""
        with self._lock:
            self._has_begun = True

    def after_fork(self) -> None:
        """In the child: watch nothing yet."""
        inherited, is_open = self._pipe, self._is_open()
        self._make_fresh()
        if inherited is None:
            return
        held = self._set_wakeup_fd(-1)
        if held not in (-1, inherited[1]):
            self._set_wakeup_fd(held, warn_on_full_buffer=False)
        if is_open:
            for descriptor in inherited:
                os.close(descriptor)

    def _is_open(self) -> bool:
        """Whether the pipe is there still. A program may close all descriptors, and get their numbers again."""
        return self._pipe is not None and _identity_of(self._pipe) == self._identity

    def _around_set_wakeup_fd(
        self, wrapped: Callable[..., int], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int:
        """To others it looks as if nobody had the descriptor while we have it: trio for example warns if anybody has."""
        if self._pipe is None:
            return wrapped(*args, **kwargs)
        its = self._pipe[1]
        if args == (-1,) and self._is_open():
            args, kwargs = (its,), {"warn_on_full_buffer": False}
        held = wrapped(*args, **kwargs)
        return -1 if held == its else held

    def _read(self, descriptor: int, main_thread: int) -> None:
        try:
            while numbers := os.read(descriptor, 1024):
                if self._number in numbers:
                    self._send_until_handled(main_thread)
        except OSError:
            return  # somebody closed it

    def _send_until_handled(self, main_thread: int, is_asked: bool = False) -> None:
        """
        :param is_asked: by the handler; then once at least, as the one that the program put in its place may call it.
        """
        times = 0
        while True:
            time.sleep(SOON_S if times < OFTEN else LATER_S)
            with self._lock:
                if self._has_begun:
                    return
                is_handled_here = self._is_handled_here()
                self._is_sending = is_handled_here
                if is_handled_here or is_asked:
                    _send(self._number, main_thread)
                if not is_handled_here:
                    return
            times += 1


def _start_thread(function: Callable[..., None], *arguments: object) -> None:
    """With all signals blocked: those that the program has blocked everywhere else, to fetch them itself, are not for it."""
    if not hasattr(signal, "pthread_sigmask"):
        _thread.start_new_thread(function, arguments)
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        _thread.start_new_thread(function, arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _high_pipe() -> tuple[int, int]:
    """
    :raises OSError: there is no descriptor left.
    """
    import fcntl
    import resource

    lowest = max(3, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], HIGHEST) - SPARE)
    low = os.pipe()
    try:
        ours = fcntl.fcntl(low[0], fcntl.F_DUPFD_CLOEXEC, lowest)
        try:
            return ours, fcntl.fcntl(low[1], fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError:
            os.close(ours)
            raise
    finally:
        for each in low:
            os.close(each)


def _identity_of(pipe: tuple[int, int]) -> object:
    try:
        return [(at.st_dev, at.st_ino) for at in map(os.fstat, pipe)]
    except OSError:
        return None


def _send(number: int, main_thread: int) -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main_thread, number)  # wakes it, whatever it waits for
    else:
        _thread.interrupt_main(signal.Signals(number))


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
