"""What the LiteLLM Proxy says of a request, in the arguments of the call that serves it. Read at entry; only reads.

Source: litellm_map.md 8.2, and `proxy/litellm_pre_call_utils.py` of 1.108 and 1.110.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from honeyhive_autoinstrument.capture.freeze import freeze
from honeyhive_autoinstrument.events.facts import ProxyFacts
from honeyhive_autoinstrument.events.parameters import LITELLM_METADATA, PROXY_IDENTITY

MARK = "user_api_key"
"""A metadata dictionary that has this key, or one that begins so, was filled by the Proxy."""

NOTHING: tuple[object, ...] = (None, "", [], {})

KEY_HASH = "virtual_key_hash"
HASH = re.compile(r"[0-9a-f]{64}")
"""A `custom_auth` may hand on the key itself: LiteLLM hashes those that begin with `sk-`."""

OF_CLIENT = "requester_metadata"
"""Where the Proxy keeps the client's own metadata."""
NOT_OF_CLIENT = frozenset({"headers", "used_client_oauth_token"})
"""What it puts there all the same."""


def proxy_facts_of(kwargs: Mapping[str, Any]) -> ProxyFacts | None:
    """The Proxy's notes on the request that a call serves; None outside the Proxy."""
    request = kwargs.get("proxy_server_request")
    if type(request) is not dict:
        return None
    bucket = proxy_bucket_of(kwargs)
    arrived = request.get("arrival_time")
    identity = {ours: freeze(bucket[name]) for name, ours in PROXY_IDENTITY if bucket.get(name) not in NOTHING}
    key = identity.get(KEY_HASH)
    raw_key = None
    if key is not None and not HASH.fullmatch(str(key)):
        raw_key = str(key)
        identity[KEY_HASH] = hashlib.sha256(raw_key.encode()).hexdigest()  # as LiteLLM hashes a key
    return ProxyFacts(
        identity=identity,
        raw_key=raw_key,
        session_id=_session_id_of(kwargs, bucket),
        route=_text(bucket.get("user_api_key_request_route")) or _route_of(request.get("url")),
        user_agent=_text(bucket.get("user_agent")) or _text(_headers_of(request).get("user-agent")),
        caller_ip=_text(bucket.get("requester_ip_address")),
        arrived_s=arrived if isinstance(arrived, float) else None,
        notes=bucket,
    )


def proxy_bucket_of(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The dictionary that the Proxy filled: `metadata`, or `litellm_metadata` where `metadata` is a parameter of the API."""
    for name in ("litellm_metadata", "metadata"):
        bucket = kwargs.get(name)
        if type(bucket) is dict and is_of_proxy(bucket):
            return bucket
    return {}


def is_of_proxy(bucket: Mapping[str, Any]) -> bool:
    """Whether a metadata dictionary was filled by the Proxy."""
    return MARK in bucket or "user_api_key_hash" in bucket


def metadata_of_caller(bucket: Mapping[str, Any]) -> dict[str, Any]:
    """What is the caller's own in a metadata dictionary on its way through the Router or the Proxy."""
    if is_of_proxy(bucket):
        given = bucket.get(OF_CLIENT)
        return {key: given[key] for key in list(given) if key not in NOT_OF_CLIENT} if type(given) is dict else {}
    return {key: bucket[key] for key in list(bucket) if key not in LITELLM_METADATA}


def _session_id_of(kwargs: Mapping[str, Any], bucket: Mapping[str, Any]) -> str | None:
    """LiteLLM's own order; it has put the session that a header names into all of them."""
    for found in (
        kwargs.get("litellm_session_id"),
        bucket.get("session_id"),
        bucket.get("trace_id"),
        kwargs.get("litellm_trace_id"),
    ):
        if found:
            return str(found)
    return None


def _headers_of(request: Mapping[str, Any]) -> Mapping[str, Any]:
    headers = request.get("headers")
    return headers if isinstance(headers, Mapping) else {}


def _route_of(url: Any) -> str | None:
    if type(url) is not str:
        return None
    _, _, rest = url.partition("://")
    return "/" + rest.partition("/")[2].partition("?")[0]


def _text(value: Any) -> str | None:
    return value if type(value) is str and value else None
