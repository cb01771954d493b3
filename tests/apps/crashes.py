"""Programs that end in every way there is, one after the other. A zygote that has imported LiteLLM and made no call forks
a child for each order on stdin (a line of JSON), and says on stdout when the child has `started` (its process id), `ended`
(its status) and when all that it forked is `gone`, too. The child asks in several threads as fast as it can, notes each
call that has returned in a file, and ends as the order says: `exit`, `exception`, `_exit`, `exec`, `storm` (exits while it
forks), or `signal` (goes on until it gets one). `later` is the process that comes after it."""

import atexit
import contextlib
import faulthandler
import gc
import importlib
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import idle
import litellm

import honeyhive_autoinstrument
from honeyhive_autoinstrument.activation import bootstrap

LATER_S = 30.0
FAST_CALLS, SLOW_PACE_S = 1000, 0.02
ENDLESS_S = 60.0
HANGS_AFTER_S = 5.0
MAX_STORM = 4
"""Children of a storm alive at once; one that hangs stops the storm."""


def ask(text, mock_response="heard"):
    messages = [{"role": "user", "content": text}]
    litellm.completion(model="gpt-4o-mini", messages=messages, mock_response=mock_response)


def learn_modules(found):
    before = set(sys.modules)
    ask("scout")
    with contextlib.suppress(litellm.RateLimitError):
        ask("scout", mock_response="litellm.RateLimitError")  # one that fails loads more
    idle.wait_for_litellm()
    honeyhive_autoinstrument.flush(10)
    new = [
        name for name in sys.modules if name not in before and not name.startswith(honeyhive_autoinstrument.__name__)
    ]
    os.write(found, "\n".join(new).encode())
    os._exit(0)


def load_what_a_call_loads():
    """LiteLLM imports a lot with its first call: here once for all children. What it is, a child finds out by a call.
    (A daemon thread that the end of a program meets in an import would hang it, with us or without.)"""
    names, found = os.pipe()
    scout = os.fork()
    if scout == 0:
        learn_modules(found)
    os.close(found)
    with open(names) as file:
        for name in file.read().split():
            try:
                importlib.import_module(name)
            except Exception:
                continue  # made by other means than an import
    os.waitpid(scout, 0)


def next_order():
    """Comes back in a child, with its order."""
    for line in sys.stdin:
        gone, alive = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(gone)  # `alive` is held by this process and by all that it forks
            os.setpgid(0, 0)
            return json.loads(line)
        os.close(alive)
        print("started", child, flush=True)
        _, status = os.waitpid(child, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)
        os.read(gone, 1)
        os.close(gone)
        print("gone", flush=True)
    return sys.exit(0)


def run_last(function, *args):
    """At exit, after the handler that the launcher has registered before the program began."""
    atexit.unregister(bootstrap._at_exit)
    atexit.register(function, *args)
    atexit.register(bootstrap._at_exit)


class Program:
    """One child. A call's text is `<run>/<who>/<thread>/<number>`; who is `main`, or a child of a storm."""

    def __init__(self, order):
        self.order = order
        self.who = "main"
        self.random = random.Random(order["seed"])
        self.notes = os.open(order["notes"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.is_over = threading.Event()
        self.may_ask = threading.Lock()
        """Held by a fork: not in the middle of another thread's call, see idle.py."""

    def note(self, word):
        os.write(self.notes, f"{word} {time.time()}\n".encode())

    def ask(self, thread, number):
        text = f"{self.order['run']}/{self.who}/{thread}/{number}"
        ask(text)
        self.note(text)

    def run(self):
        order = self.order
        others = [
            threading.Thread(target=self.ask_aside, args=(number,), daemon=order["daemons"])
            for number in range(1, order["threads"])
        ]
        run_last(self.stop_asking, os.getpid())
        try:
            self.ask(0, 0)
            for other in others:
                other.start()
            seconds = ENDLESS_S if order["ending"] == "signal" else order["after_s"]
            if order["ending"] == "storm":
                self.storm(seconds)
            else:
                self.keep_asking(0, seconds)
            self.end()
        except KeyboardInterrupt:
            self.note("interrupted:main")
            raise
        finally:
            self.is_over.set()

    def stop_asking(self, process_id):
        """A daemon thread's call ends after our exit handler, and before the interpreter: pydantic aborts a process whose
        end a thread meets in one of its functions (without us, too)."""
        if os.getpid() == process_id:
            self.may_ask.acquire(timeout=HANGS_AFTER_S)

    def ask_aside(self, thread):
        try:
            self.keep_asking(thread)
        except RuntimeError:
            pass  # the program ends, and LiteLLM cannot start anything any more

    def keep_asking(self, thread, seconds=ENDLESS_S):
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until and not self.is_over.is_set():
            number += 1
            with self.may_ask:
                self.ask(thread, number)
            # 0, too, lets another thread have the lock. A program whose Ctrl-C was swallowed would else go on by thousands.
            time.sleep(self.order["pace_s"] if number < FAST_CALLS else SLOW_PACE_S)

    def end(self):
        ending = self.order["ending"]
        if ending == "exception":
            raise RuntimeError("nobody catches this")
        if ending == "_exit":
            self.note("ends:main")
            os._exit(7)
        if ending == "exec":
            os.execv(sys.executable, [sys.executable, "-c", "import sys; sys.exit(5)"])
        if ending == "signal":
            sys.exit(99)  # it never came
        sys.exit(0)

    def storm(self, seconds):
        until = time.monotonic() + seconds
        alive = {}
        number = 0
        while time.monotonic() < until or not number:
            number += 1
            who = f"{self.random.choice(['exits', '_exits'])}-{number}"
            calls = self.random.choice([1, 2])
            with self.may_ask:
                idle.wait_for_litellm()
                with idle.executor._idle_semaphore._cond:  # a thread that has just become idle may still be in it
                    child = os.fork()
            if child == 0:
                self.be_stormy(who, calls)
            alive[child] = who
            self.ask(0, number)
            self.reap(alive)

    def be_stormy(self, who, calls):
        self.who = who
        for number in range(calls):
            self.ask(0, number)
        if who.startswith("exits"):
            sys.exit(0)
        self.note(f"ends:{who}")
        os._exit(7)

    def reap(self, alive):
        while alive:
            child, status = os.waitpid(-1, 0 if len(alive) >= MAX_STORM else os.WNOHANG)
            if child == 0:
                return
            who = alive.pop(child)
            code = os.waitstatus_to_exitcode(status)
            if code != (0 if who.startswith("exits") else 7):
                self.note(f"failed:{who}:{code}")


def come_later(program):
    """Asks once, and waits until nothing waits any more."""
    program.who = "later"
    program.ask(0, 0)
    honeyhive_autoinstrument.flush(
        LATER_S
    )  # its own event, too: the end of a program waits less long for a busy machine
    spool = Path(program.order["home"]) / "spool"
    deadline = time.monotonic() + LATER_S
    while [*spool.glob("*/*.batch"), *spool.glob("*/*.journal")]:
        if time.monotonic() > deadline:
            sys.exit(9)
        time.sleep(0.01)


litellm.suppress_debug_info = True
load_what_a_call_loads()
gc.freeze()  # else each child's end goes over all objects, and copies their pages: a second instead of a tenth
assert threading.active_count() == 1
print("ready", flush=True)
order = next_order()
output = os.open(order["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(output, 1)
os.dup2(output, 2)
# A shell that started the tests in the background has them ignore Ctrl-C, and they hand that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
faulthandler.register(signal.SIGUSR1, all_threads=True)  # the test asks a process that hangs where it is
faulthandler.enable()  # and one that crashes says where
honeyhive_autoinstrument.init(
    api_key=order["key"],
    api_url=order["url"],
    home=order["home"],
    durability=order["durability"],
    linger=order["linger_s"],
)
if order["ending"] == "later":
    come_later(Program(order))
else:
    Program(order).run()
