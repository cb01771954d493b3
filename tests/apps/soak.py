"""100 000 calls of a LiteLLM whose provider is a stub, streams left half-read among them. Prints what memory they took."""

import gc
import json
import os

import litellm
from litellm.types.utils import Delta, StreamingChoices

import honeyhive_autoinstrument

CALLS, WARM = 100_000, 20_000
PAGE = os.sysconf("SC_PAGE_SIZE")


class Stream:
    """Three chunks."""

    def __init__(self):
        self.left = 3

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        delta = Delta(content="word ", role="assistant")
        return litellm.ModelResponse(stream=True, choices=[StreamingChoices(index=0, delta=delta)])


def stub(model, messages, **kwargs):
    if kwargs.get("stream"):
        return Stream()
    message = litellm.Message(content="An answer.", role="assistant")
    choices = [litellm.Choices(finish_reason="stop", index=0, message=message)]
    usage = litellm.Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
    return litellm.ModelResponse(model=model, choices=choices, usage=usage)


def innermost(function):
    """Put the stub below our wrapper: what is left of LiteLLM is nothing."""
    function.__wrapped__ = stub


def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


innermost(litellm.completion)
after_warming = 0
for number in range(CALLS):
    text = f"Call {number}: " + "a prompt of a realistic length " * 8
    result = litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": text}], stream=number % 5 == 0)
    if number % 5 == 0:
        next(result)
        if number % 10 == 0:
            for _ in result:
                pass
        del result
    if number % 500 == 0:
        honeyhive_autoinstrument.flush(30)
    if number == WARM:
        after_warming = resident()
honeyhive_autoinstrument.flush(60)
stats = honeyhive_autoinstrument.stats()
print(
    json.dumps(
        {
            "calls": CALLS,
            "created": stats["created"],
            "bytes_after_20000": after_warming,
            "bytes_at_the_end": resident(),
        }
    )
)
