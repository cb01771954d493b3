"""Asks for each line on stdin, and repeats the line when the answer is there."""

import sys

import litellm

for line in sys.stdin:
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": line.strip()}], mock_response="heard")
    print(line.strip(), flush=True)
