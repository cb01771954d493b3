"""Forks by hand in the middle of its calls; parent and child both go on asking, and end through sys.exit."""

import os
import sys

import idle
import litellm


def ask(text):
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], mock_response=text)


ask("before")
idle.wait_for_litellm()
child = os.fork()
ask("child" if child == 0 else "parent")
if child:
    _, status = os.waitpid(child, 0)
    print("child ended with", os.waitstatus_to_exitcode(status))
sys.exit(0)
