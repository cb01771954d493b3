"""Forks fifty times while another thread is asking; each child asks once and ends through sys.exit.

The children do without LiteLLM's pool of logging threads: the other thread may have held its lock at the fork, and LiteLLM
then hangs, with us or without (seen without, 1.110.2).
"""

import faulthandler
import gc
import os
import sys
import threading
import time

import idle
import litellm

CHILDREN, AT_ONCE = 50, 4


def ask(text):
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], mock_response="heard")


def keep_asking():
    number = 0
    while not is_over.is_set():
        ask(f"thread {number}")
        number += 1
        time.sleep(0.005)  # leaves the processors to the children
    print("the thread asked", number, flush=True)


def wait_for_one():
    _, status = os.wait()
    statuses.append(os.waitstatus_to_exitcode(status))


ask("first")
idle.wait_for_litellm()
gc.freeze()  # else each child spends a second on looking through what it inherited
is_over = threading.Event()
thread = threading.Thread(target=keep_asking)
thread.start()
statuses = []
for number in range(CHILDREN):
    if number >= AT_ONCE:
        wait_for_one()
    if os.fork() == 0:
        faulthandler.dump_traceback_later(30, exit=True)
        idle.executor.submit = lambda *_, **__: None
        ask(f"child {number}")
        sys.exit(0)
while len(statuses) < CHILDREN:
    wait_for_one()
is_over.set()
thread.join()
print("children ended with", sorted(set(statuses)), flush=True)
