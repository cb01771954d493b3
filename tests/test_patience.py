"""Waiting by a clock that stands still while the process does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from honeyhive_autoinstrument.patience import LONGEST_LOOK_S, Patience, take_lock, wait_for

LIMIT_S = 0.5
WAITS = f"""
import sys, threading
from honeyhive_autoinstrument.patience import Patience, wait_for

come = threading.Event()

def read():
    sys.stdin.readline()
    come.set()

threading.Thread(target=read, daemon=True).start()
print("waiting", flush=True)
print(wait_for(come.wait, Patience({LIMIT_S})))
"""


def waiting() -> subprocess.Popen[str]:
    """A process that waits LIMIT_S for a line, and says whether it came in time."""
    process = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    return process


def test_what_comes_while_a_process_stands_still_has_come_in_time() -> None:
    process = waiting()
    process.send_signal(signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    time.sleep(3 * LIMIT_S)
    assert process.stdin is not None
    process.stdin.write("it comes\n")
    process.stdin.flush()
    process.send_signal(signal.SIGCONT)

    assert process.communicate(timeout=30)[0] == "True\n"


def test_what_does_not_come_is_not_waited_for_longer_than_the_limit() -> None:
    began = time.monotonic()

    assert not wait_for(threading.Event().wait, Patience(LIMIT_S))

    assert time.monotonic() - began >= LIMIT_S


def test_what_is_there_is_not_waited_for() -> None:
    come = threading.Event()
    come.set()

    assert wait_for(come.wait, Patience(0))


def test_what_keeps_everybody_from_looking_by_computing_is_counted_where_that_is_asked_for() -> None:
    looks = 0

    def compute(seconds: float) -> bool:
        nonlocal looks
        looks += 1
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        return False

    assert not wait_for(compute, Patience(LIMIT_S, counts_computing=True))

    assert looks < LIMIT_S / LONGEST_LOOK_S / 2


def test_a_lock_that_another_thread_has_is_not_had_and_then_is() -> None:
    lock = threading.Lock()
    lock.acquire()

    assert not take_lock(lock.acquire, 0.05)
    threading.Timer(0.05, lock.release).start()
    assert take_lock(lock.acquire, 30)
