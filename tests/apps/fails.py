"""Prints, asks, then fails with an error of LiteLLM's that nobody catches."""

import litellm

print("before")
litellm.completion(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "Say hello."}],
    mock_response="litellm.RateLimitError",
)
