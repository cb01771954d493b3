"""Asks many times, says when it ends, and ends."""

import atexit

import litellm

atexit.register(lambda: print("ending", flush=True))

for number in range(150):
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": str(number)}], mock_response="y")
