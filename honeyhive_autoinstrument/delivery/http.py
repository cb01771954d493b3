"""HttpSink: one httpx client; status code -> Outcome. Used by the uploader's threads; may block for its timeout.

Routes and codes: honeyhive_api.md 2. Our own requests are invisible to OpenTelemetry instrumentation.

Everything that a request needs is imported with this file, in the application's thread: no worker may import (see
`activation/pipeline.py` for what happens otherwise).
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401  (looked up by name with the first host name that is resolved)
import threading
import time
from collections import OrderedDict
from typing import Any

import httpcore  # noqa: F401  (httpx imports it with its first client)
import httpx
import orjson

from honeyhive_autoinstrument._version import __version__
from honeyhive_autoinstrument.delivery.backoff import retry_after_s
from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome
from honeyhive_autoinstrument.redaction import Redactor

try:
    from opentelemetry.instrumentation.utils import suppress_instrumentation
except ImportError:
    # A process that lacks the dependency (or has one that is too old) has no instrumentation to hide from.
    suppress_instrumentation = contextlib.nullcontext

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
CONNECT_TIMEOUT_S = 3.0
KEEP_ALIVE_S = 30.0
MAX_DETAIL_BYTES = 1000
MAX_SESSIONS_KNOWN = 10_000
"""Session rows known to exist; the POST is idempotent, so a forgotten one only costs a request."""


class HttpSink:
    """Sends Batches to a HoneyHive server. Safe from several threads."""

    def __init__(self, *, url: str, api_key: str, timeout_s: float, project: str | None = None) -> None:
        self._url = url
        self._api_key = api_key
        self._timeout = _timeout_of(timeout_s)
        self._project = project
        # What is said of an answer reaches logs and files; a server may repeat the key in it.
        self._redactor = Redactor(max_content_bytes=MAX_DETAIL_BYTES, secrets=(api_key,))
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._inherited: httpx.Client | None = None
        self._sessions: OrderedDict[str, None] = OrderedDict()
        self._is_legacy = False
        """The server has no v1 routes (self-hosted, older than May 2026)."""

    def send(self, batch: Batch) -> Answer:
        """Create the sessions that are not known to exist, then post the Events."""
        for session_id, body in batch.sessions().items():
            if session_id not in self._sessions:
                answer = self._post_session(body)
                if answer.outcome is not Outcome.DELIVERED:
                    return answer
                self._remember(session_id)
        events = b'{"events":[' + b",".join(record.body for record in batch.records) + b"]}"
        answer = self._post("/events/batch" if self._is_legacy else "/v1/events/batch", events)
        if answer.outcome is Outcome.UNAUTHORISED and not self._is_legacy and self._speaks_legacy(batch):
            return self._post("/events/batch", events)
        return answer

    def hurry(self, seconds: float) -> None:
        """No request that begins after this waits longer for its server."""
        self._timeout = _timeout_of(min(self._timeout.read or seconds, max(seconds, 0.1)))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def after_fork(self) -> None:
        """In the child: sockets are the parent's and are left alone; the next request opens new ones."""
        self._lock = threading.Lock()
        self._inherited = self._client  # kept, so that its sockets are not closed here with a ResourceWarning
        self._client = None
        self._sessions = OrderedDict()

    def check(self) -> tuple[bool, str]:
        """Whether the server answers and takes the key, for `--check`: (fine, a sentence for a person)."""
        answer = self._post("/v1/events/batch", b'{"events":[]}')
        if answer.outcome is Outcome.DELIVERED:
            return True, f"{self._url} answers and takes the key"
        if answer.outcome is Outcome.UNAUTHORISED:
            legacy = self._post("/events/batch", b'{"events":[]}')
            if legacy.outcome is Outcome.DELIVERED:
                return True, f"{self._url} answers on its legacy routes and takes the key"
        return False, answer.detail

    def _post_session(self, body: bytes) -> Answer:
        if not self._is_legacy:
            answer = self._post("/v1/sessions", body)
            if answer.outcome is not Outcome.UNAUTHORISED:
                return answer
            # A rejected key and a missing route look the same (404 since 2026-09); only a try on the old route tells.
            legacy = self._post("/session/start", self._legacy_session(body))
            if legacy.outcome is not Outcome.DELIVERED:
                return answer
            self._is_legacy = True
            return legacy
        return self._post("/session/start", self._legacy_session(body))

    def _legacy_session(self, body: bytes) -> bytes:
        if self._project is None:
            return b'{"session":' + body + b"}"
        return orjson.dumps({"session": {**orjson.loads(body), "project": self._project}})

    def _speaks_legacy(self, batch: Batch) -> bool:
        session = next(iter(batch.sessions().values()), None)
        if session is None:
            return False
        if self._post("/session/start", self._legacy_session(session)).outcome is not Outcome.DELIVERED:
            return False
        self._is_legacy = True
        return True

    def _remember(self, session_id: str) -> None:
        with self._lock:
            self._sessions[session_id] = None
            while len(self._sessions) > MAX_SESSIONS_KNOWN:
                self._sessions.popitem(last=False)

    def _post(self, path: str, body: bytes) -> Answer:
        try:
            with suppress_instrumentation():
                response = self._open_client().post(path, content=body, timeout=self._timeout)
        except httpx.HTTPError as error:
            return Answer(
                outcome=Outcome.RETRY_LATER,
                detail=self._redactor.text(f"no answer from {self._url}{path} ({type(error).__name__})"),
            )
        except (httpx.InvalidURL, ValueError, OSError, ImportError) as error:
            # ValueError: a proxy or certificate setting that httpx cannot use; ImportError: a SOCKS proxy without the
            # package for it. Either may be mended without losing what waits.
            return Answer(
                outcome=Outcome.RETRY_LATER,
                detail=self._redactor.text(f"cannot reach {self._url}{path}: {type(error).__name__}: {error}"),
            )
        return self._answer_of(response, path)

    def _open_client(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    base_url=self._url,
                    headers={
                        "Authorization": f"Bearer {self._api_key}",
                        "Content-Type": "application/json",
                        "User-Agent": f"honeyhive-autoinstrument/{__version__}",
                        "hh-client-package": "honeyhive-autoinstrument",
                        "hh-client-version": __version__,
                        "hh-client-language": "python",
                    },
                    limits=httpx.Limits(max_connections=4, max_keepalive_connections=4, keepalive_expiry=KEEP_ALIVE_S),
                )
            return self._client

    def _answer_of(self, response: httpx.Response, path: str) -> Answer:
        status = response.status_code
        if status == 200:
            return Answer(outcome=Outcome.DELIVERED)
        detail = self._redactor.text(f"{self._url}{path} answered {status} {_message_of(response)}".rstrip())
        if status == 413 or (status == 400 and _names_size(response)):
            return Answer(outcome=Outcome.TOO_LARGE, detail=detail)
        if status == 500 and path.endswith("/batch"):
            accepted = _accepted_ids(response)
            if accepted:
                return Answer(outcome=Outcome.PARTLY, detail=detail, accepted=accepted)
        if status in RETRIED or status >= 500:
            wait_s = retry_after_s(response.headers.get("retry-after"), time.time())
            return Answer(outcome=Outcome.RETRY_LATER, detail=detail, retry_after_s=wait_s)
        if status in (401, 403, 404):
            return Answer(outcome=Outcome.UNAUTHORISED, detail=detail)
        if status < 400:
            # The official client treats every code but 200 as a failure, redirects too: they mean a wrong URL.
            return Answer(outcome=Outcome.UNAUTHORISED, detail=detail)
        return Answer(outcome=Outcome.REJECTED, detail=detail)


def _timeout_of(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(CONNECT_TIMEOUT_S, seconds))


def _message_of(response: httpx.Response) -> str:
    body = _json_of(response)
    message = body.get("message") if isinstance(body, dict) else None
    return str(message)[:200] if message else ""


def _names_size(response: httpx.Response) -> bool:
    text = _message_of(response).lower()
    return "too large" in text or "too big" in text or "exceeds" in text


def _accepted_ids(response: httpx.Response) -> tuple[str, ...]:
    body = _json_of(response)
    ids = body.get("event_ids") if isinstance(body, dict) else None
    return tuple(each for each in ids if isinstance(each, str)) if isinstance(ids, list) else ()


def _json_of(response: httpx.Response) -> Any:
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None  # HTML of a load balancer, or nothing
