"""Asks once, says so, and waits to be killed."""

import time

import litellm

litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], mock_response="ready")
print("ready", flush=True)
time.sleep(60)
