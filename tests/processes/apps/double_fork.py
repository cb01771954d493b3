"""Becomes a daemon by two forks; each generation asks before and after, and ends through sys.exit."""

import os
import sys

import idle
import litellm


def ask(text):
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], mock_response="heard")


def wait_for(child):
    _, status = os.waitpid(child, 0)
    print("a child ended with", os.waitstatus_to_exitcode(status), flush=True)


ask("parent before")
idle.wait_for_litellm()
child = os.fork()
if child:
    ask("parent after")
    wait_for(child)
    sys.exit(0)
ask("child before")  # LiteLLM's threads are the parent's: there is none here to wait for
grandchild = os.fork()
if grandchild:
    ask("child after")
    sys.exit(0)  # without waiting: the grandchild is on its own
ask("grandchild")
print("the grandchild has asked", flush=True)
sys.exit(0)
