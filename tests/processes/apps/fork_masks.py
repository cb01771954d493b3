"""Forks under which the recording holds SIGTERM back: with hooks of the program's that start threads, with an alarm whose
handler raises at any moment, in a thread that has SIGTERM blocked for itself, and in a child of multiprocessing that has it
blocked. Prints what is blocked afterwards."""

import logging
import multiprocessing
import os
import random
import signal
import sys
import threading

FORKS = 3_000
LATEST_S = 300e-6
"""An alarm rings at any moment from the begin of a fork to a while after it."""
found_in_hooks = []
is_told = True


def start_thread():
    if is_told:
        return
    thread = threading.Thread(target=lambda: found_in_hooks.append(len(blocked())))
    thread.start()
    thread.join()


for place in ("before", "after_in_parent"):
    os.register_at_fork(**{place: start_thread})

import litellm  # noqa: E402

import honeyhive_autoinstrument  # noqa: E402


class Alarm(Exception):
    pass


def ring(*_):
    raise Alarm


def end_of(child):
    if child == 0:
        os._exit(len(blocked()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def blocked():
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def fork_beside_an_alarm():
    """Whether SIGTERM is blocked after that."""
    child = None
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, LATEST_S))
        child = os.fork()
        if child == 0:
            os._exit(0)
    except Alarm:
        if child == 0:
            os._exit(0)
    while True:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.waitpid(-1, 0)
        except Alarm:
            continue
        except ChildProcessError:
            return bool(blocked())


def fork_where_it_is_blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    print("in its child:", end_of(os.fork()), "in the thread:", len(blocked()), flush=True)


def wait_with_it_blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.kill(os.getpid(), signal.SIGTERM)
    print("blocked in a child, it waits:", signal.SIGTERM in signal.sigpending(), flush=True)
    signal.sigtimedwait({signal.SIGTERM}, 10)


litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": "parent"}], mock_response="heard")
honeyhive_autoinstrument.flush()
is_told = False
print("in the child:", end_of(os.fork()), "in the parent:", len(blocked()), "in threads:", found_in_hooks, flush=True)
is_told = True

thread = threading.Thread(target=fork_where_it_is_blocked)
thread.start()
thread.join()

child = multiprocessing.get_context("fork").Process(target=wait_with_it_blocked)
child.start()
child.join()

signal.signal(signal.SIGALRM, ring)
logging.disable(logging.CRITICAL)  # an alarm that raises in a hook of the recording passes for its fault
sys.unraisablehook = lambda _: None  # an exception in a hook is lost, with the recording or without
print("beside an alarm:", sum(fork_beside_an_alarm() for _ in range(FORKS)), flush=True)
