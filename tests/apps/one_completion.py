"""Asks once, prints the answer."""

import litellm

answer = litellm.completion(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "Say hello."}], mock_response="hello"
)
print(answer.choices[0].message.content)
