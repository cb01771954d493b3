"""A child of multiprocessing that misses its SIGTERM: another thread takes it while the main one waits for a lock.
Arguments: start method, and how the wakeup descriptor of the interpreter was used before."""

import multiprocessing
import signal
import socket
import sys
import threading
import time

import litellm

LOOKS = 50
"""So often in a row the main thread is found waiting; its way there takes less."""


def state_of(thread):
    with open(f"/proc/self/task/{thread.native_id}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def take_the_signal():
    waiting = 0
    while waiting < LOOKS:
        waiting = waiting + 1 if state_of(threading.main_thread()) == "S" else 0
        time.sleep(0.001)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)


def use_the_wakeup_descriptor():
    """As an event loop does; nobody seems to have it before."""
    mine, other = socket.socketpair()
    mine.setblocking(False)
    print("had before:", signal.set_wakeup_fd(mine.fileno()), flush=True)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.raise_signal(signal.SIGUSR1)
    print("read:", list(other.recv(10)) == [signal.SIGUSR1], flush=True)
    print("had after:", signal.set_wakeup_fd(-1) == mine.fileno(), flush=True)


def wait_for_ever(lock, use):
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": "child"}], mock_response="heard")
    if use == "used":
        use_the_wakeup_descriptor()
    threading.Thread(target=take_the_signal, daemon=True).start()
    with lock:
        print("this is never reached", flush=True)


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    lock = context.Lock()
    with lock:
        child = context.Process(target=wait_for_ever, args=(lock, sys.argv[2]))
        child.start()
        child.join()
    print("the child ended with", child.exitcode, flush=True)
