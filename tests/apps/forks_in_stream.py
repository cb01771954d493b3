"""Forks while a stream is half read; only the parent goes on reading it."""

import os
import sys

import litellm

stream = litellm.completion(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "x"}], mock_response="one two three", stream=True
)
next(stream)
child = os.fork()
if child == 0:
    del stream
    sys.exit(0)
os.waitpid(child, 0)
print(len(list(stream)) > 0)
