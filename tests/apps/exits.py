"""Reads stdin, looks at its own function objects, and exits with a status of its own."""

import asyncio
import inspect
import pickle
import sys

import litellm
from litellm import acompletion, completion

print(sys.stdin.read().strip())
print(sys.argv[1:], __name__, __file__ == sys.argv[0])
print([entry for entry in sys.path if "sitecustomize" in entry])
print(inspect.iscoroutinefunction(acompletion), inspect.iscoroutinefunction(completion))
print(list(inspect.signature(litellm.Router.completion).parameters)[:3])
print(completion.__name__, completion.__module__.startswith("litellm"), inspect.isfunction(completion))
print(pickle.loads(pickle.dumps(completion)) is completion)


async def ask():
    answer = await acompletion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="async")
    print(answer.choices[0].message.content)


asyncio.run(ask())
try:
    litellm.completion(model="gpt-4o")
except Exception as error:
    print(type(error).__name__)
print("done", file=sys.stderr)
sys.exit(7)
