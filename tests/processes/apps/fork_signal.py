"""A child of multiprocessing forks a child of its own, which meets a SIGTERM before it is through the fork."""

import multiprocessing
import os
import signal
import threading

is_struck = False


def strike():
    if is_struck:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)


os.register_at_fork(
    after_in_child=strike
)  # before those of the recording that renew what is in it; they come with LiteLLM

import litellm  # noqa: E402


def fork():
    global is_struck
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": "child"}], mock_response="heard")
    is_struck = True
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
    print("the grandchild ended with", status, flush=True)


if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=fork)
    child.start()
    child.join()
    print("the child ended with", child.exitcode, flush=True)
