"""A limit for a whole answer. httpx' own is for each read, and so none for a server that drips. Used by http.py only."""

from __future__ import annotations

import ssl
import threading
import time
from typing import Any

import httpcore
import httpx

INSTANT_S = 0.001
"""What is there already is read; no more."""


class Deadline(threading.local):
    """When the answer that this thread waits for has to be there, by `time.monotonic`."""

    at = float("inf")
    handshake_s: float | None = None
    """How long that of TLS may take: the server is there by then."""

    def limit(self, timeout: float | None) -> float | None:
        """Seconds that the next read may take. When the time is up: an instant, for what is there already."""
        left = max(self.at - time.monotonic(), INSTANT_S)
        return left if timeout is None else min(timeout, left)


def put_under(client: httpx.Client, deadline: Deadline) -> bool:
    """Make every connection of a client keep to a deadline.

    Neither httpx (to 0.28) nor httpcore (to 1.0) has a door for that: the backend of a transport's pool is set here.

    :returns: False where a later release has moved it; each read then has a limit, as ever.
    """
    transports = [getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()]
    pools = [getattr(transport, "_pool", None) for transport in transports if transport is not None]
    if not all(isinstance(getattr(pool, "_network_backend", None), httpcore.NetworkBackend) for pool in pools):
        return False
    for pool in pools:
        pool._network_backend = _Backend(pool._network_backend, deadline)  # type: ignore[union-attr]
    return True


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend, deadline: Deadline) -> None:
        self._backend = backend
        self._deadline = deadline

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _Stream(self._backend.connect_tcp(*args, **kwargs), self._deadline)

    def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _Stream(self._backend.connect_unix_socket(*args, **kwargs), self._deadline)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.limit(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        # httpcore takes the time for a connection, which at the end of a program is too short for a server far away.
        limit = self._deadline.handshake_s
        timeout = timeout if limit is None else limit
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
