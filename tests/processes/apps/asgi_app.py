"""ASGI: asks LiteLLM for the text of each request, and answers with the id of its process. IMPORTS says where LiteLLM is
imported: with the application (`module`), or by the first request, on the loop (`loop`) or on a thread (`thread`)."""

import asyncio
import importlib
import os
from urllib.parse import parse_qs

WHERE = os.environ.get("IMPORTS", "module")
if WHERE == "module":
    import litellm  # noqa: F401


async def load():
    if WHERE == "thread":
        return await asyncio.to_thread(importlib.import_module, "litellm")
    return importlib.import_module("litellm")


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/ask":
        (text,) = parse_qs(scope["query_string"].decode())["text"]
        library = await load()
        await library.acompletion(
            model="gpt-4o-mini", messages=[{"role": "user", "content": text}], mock_response=f"heard {text}"
        )
    body = str(os.getpid()).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


print("app ready", os.getpid(), flush=True)
