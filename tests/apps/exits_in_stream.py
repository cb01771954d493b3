"""Reads one chunk of a stream, then ends, with the stream still open."""

import asyncio
import os
import sys

import litellm

SETTINGS = {
    "model": "openai/gpt-4o-mini",
    "api_base": os.environ["PROVIDER"],
    "api_key": "sk-exits-0123",
    "stream": True,
}
MESSAGES = [{"role": "user", "content": "Say hello."}]
kept = []


async def read() -> None:
    stream = await litellm.acompletion(messages=MESSAGES, **SETTINGS)
    kept.append(stream)
    await stream.__anext__()
    print("read 1", flush=True)
    sys.exit(0)


if sys.argv[1] == "acompletion":
    asyncio.run(read())
elif sys.argv[1] == "responses":
    stream = litellm.responses(input="Say hello.", **SETTINGS)
else:
    stream = litellm.completion(messages=MESSAGES, **SETTINGS)
next(stream)
print("read 1", flush=True)
