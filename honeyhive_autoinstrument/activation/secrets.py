"""Which credentials this process works with, to be recognised by value wherever they turn up again. On worker threads.

From the arguments of calls, the URLs they go to, the headers that LiteLLM makes, and the environment (places:
litellm_map.md 9).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from honeyhive_autoinstrument.credentials import is_credential_name, is_random

MAX_DEPTH = 6
HOLDERS = ("api_key", "credential_values", "_custom_headers", "_custom_query", "_azure_ad_token")
"""Where a provider's client, or one of LiteLLM's credential items, holds its own."""


def credentials_in_environment() -> list[str]:
    """Keys that LiteLLM's providers read for themselves (OPENAI_API_KEY, ...), and all others. Paths of files are none."""
    return [
        text
        for name in list(os.environ)
        if (value := os.environ.get(name)) is not None  # a thread of the application may have taken it away
        and _is_secret_variable(name)
        and not _is_path(value)
        for text in _forms_of(name, value)
    ]


def _is_secret_variable(name: str) -> bool:
    return is_credential_name(name) or (name.upper().endswith("KEY") and "PUBLIC" not in name.upper())


def _is_path(value: str) -> bool:
    """Of a file that holds the credential. (One in base64 may begin like one.)"""
    return value.startswith(("/", "~", ".")) and not is_random(value.lstrip("/~."))


def credentials_in(fields: Iterable[tuple[Any, Any]], depth: int = 0) -> Iterator[str]:
    """The credentials among named values: of a text itself (and a bearer's token alone), in dictionaries and lists such as
    headers, service accounts and fallbacks the fields that are named like one, of a provider's client its key."""
    for name, value in list(fields):
        if isinstance(value, str):
            if is_credential_name(name) or str(name).endswith("key"):
                yield from _forms_of(name, value)
            if value.lstrip().startswith("{") and depth < MAX_DEPTH:
                yield from credentials_in(_fields_of_json(value), depth + 1)
            elif "://" in value:
                yield from credentials_in_url(value)
        elif depth >= MAX_DEPTH or value is None:
            continue
        elif isinstance(value, Mapping):
            yield from credentials_in(dict(value).items(), depth + 1)
        elif isinstance(value, list | tuple):
            yield from credentials_in([(name, each) for each in value], depth + 1)
        else:
            held = getattr(value, "__dict__", None) or {}
            yield from credentials_in([(key, held[key]) for key in HOLDERS if key in held], depth + 1)


def credentials_in_url(url: str) -> Iterator[str]:
    """User and password of a URL, as they stand there, unquoted, and as httpx makes a header of them; keys among its
    parameters."""
    try:
        parts = urlsplit(url)
        user, password = parts.username, parts.password
    except ValueError:
        return
    for part in (user, password):
        if part:
            yield part
            yield unquote(part)
    if user or password:
        yield base64.b64encode(f"{unquote(user or '')}:{unquote(password or '')}".encode()).decode()
    for name, value in parse_qsl(parts.query):
        if is_credential_name(name) or name.lower() in ("key", "sig", "signature", "code"):
            yield value


def _forms_of(name: Any, value: str) -> Iterator[str]:
    """A credential as it was given, without what is around it in a file, a header, or a list of cookies."""
    yield value
    bare = value.strip()
    yield bare
    yield bare.rpartition(" ")[2]
    if str(name).lower().endswith("cookie"):
        for part in bare.split(";"):
            yield part.partition("=")[2].strip()


def _fields_of_json(text: str) -> list[tuple[Any, Any]]:
    """Of a service account, for example, that is given as text."""
    try:
        fields = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return []
    return list(fields.items()) if isinstance(fields, dict) else []
