"""WSGI: asks LiteLLM for the text of each request, and answers with the id of its process."""

import os
from urllib.parse import parse_qs

import litellm


def app(environ, start_response):
    if environ["PATH_INFO"] == "/ask":
        (text,) = parse_qs(environ["QUERY_STRING"])["text"]
        litellm.completion(
            model="gpt-4o-mini", messages=[{"role": "user", "content": text}], mock_response=f"heard {text}"
        )
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


print("app ready", os.getpid(), flush=True)
