"""Forks while another thread holds a lock of the recording, once for each lock that there is. Parent and child go on asking.
Prints a line of JSON for each fork."""

import faulthandler
import gc
import inspect
import json
import os
import queue
import sys
import threading
import time
from collections import deque

import idle
import litellm

import honeyhive_autoinstrument

OURS = "honeyhive_autoinstrument"
LOCKS = (type(threading.Lock()), type(threading.RLock()))
CONTAINERS = (list, tuple, set, frozenset, deque)
HOLDERS = (threading.Condition, threading.Event, threading.Semaphore, queue.Queue)
"""What holds a lock inside."""

HOLD_S = 6.0
"""A thread never holds a lock of ours so long; a fork that waits for one has to give up before."""
CHILD_S = 20.0


def ask(text):
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], mock_response="heard")


def parts_of(value):
    """What an object of ours, or a container, refers to, by its place in it."""
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", each) for key, each in list(value.items()))
    elif isinstance(value, CONTAINERS):
        yield from ((f"[{number}]", each) for number, each in enumerate(list(value)))
    elif inspect.ismethod(value):
        yield ".__self__", value.__self__
    elif inspect.isfunction(value):
        if value.__module__.startswith(OURS):
            yield from ((f".<{number}>", cell.cell_contents) for number, cell in enumerate(value.__closure__ or ()))
    elif type(value).__module__.split(".")[0] == OURS or isinstance(value, HOLDERS):
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        names = [*getattr(value, "__dict__", {}), *(name for name in slots if hasattr(value, name))]
        yield from ((f".{name}", getattr(value, name)) for name in names)


def locks():
    """Every lock that our modules and the objects behind them hold: (place, class of the holder) -> lock."""
    found = {}
    seen = set()
    modules = sorted((name, module) for name, module in sys.modules.items() if name.split(".")[0] == OURS)
    queued = deque(
        (f"{module.removeprefix(OURS)}.{name}".lstrip("."), module, value)
        for module, namespace in ((name, vars(module)) for name, module in modules)
        for name, value in namespace.items()
        if not inspect.isclass(value) and not inspect.ismodule(value)
    )
    while queued:
        place, owner, value = queued.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, LOCKS):
            found[place, owner] = value
            continue
        holder = owner if isinstance(value, (dict, *CONTAINERS, *HOLDERS)) else type(value).__name__
        queued.extend((f"{place}{step}", holder, part) for step, part in parts_of(value))
    return found


class Holder:
    """A thread that holds a lock until it is told to let go, or as long as HOLD_S."""

    def __init__(self, lock):
        self._lock = lock
        self._is_ready = threading.Event()
        self._let_go = threading.Event()
        self.held_to_the_end = False
        self._thread = threading.Thread(target=self._hold)

    def __enter__(self):
        self._thread.start()
        self._is_ready.wait()
        return self

    def __exit__(self, *error):
        self._let_go.set()
        self._thread.join()

    def _hold(self):
        # A lock that is held anyway, as a bell is, stays as it is.
        is_taken = self._lock.acquire(timeout=2)
        self._is_ready.set()
        self.held_to_the_end = self._let_go.wait(HOLD_S)
        if is_taken:
            self._lock.release()


def end_of(child):
    """The child's status; one that hangs is killed."""
    deadline = time.monotonic() + CHILD_S + 5
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"


ask("before")
honeyhive_autoinstrument.flush()
gc.freeze()  # else each child spends a second on looking through what it inherited
for (place, owner), lock in locks().items():
    idle.wait_for_litellm()
    with Holder(lock) as holder:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(CHILD_S, exit=True)
            honeyhive_autoinstrument.init()  # as a server's hook for new workers may
            ask(f"child {place}")
            honeyhive_autoinstrument.stats()
            sys.exit(0)
        took_s = time.monotonic() - began
    ask(f"parent {place}")
    print(
        json.dumps(
            {
                "lock": place,
                "owner": owner,
                "took_s": round(took_s, 3),
                "held": holder.held_to_the_end,
                "status": end_of(child),
            }
        ),
        flush=True,
    )
print("all forked", flush=True)
