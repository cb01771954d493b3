"""HttpSink: one httpx client; status code -> Outcome. Used by the uploader's threads; may block for its timeout.

Routes and codes: honeyhive_api.md 2. Our own requests are invisible to OpenTelemetry instrumentation.

Everything that a request needs is imported with this file, in the application's thread: no worker may import (see
`activation/pipeline.py` for what happens otherwise).
"""

from __future__ import annotations

import contextlib
import email.utils
import encodings.idna  # noqa: F401  (looked up by name with the first host name that is resolved)
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import httpcore  # noqa: F401  (httpx imports it with its first client)
import httpx
import orjson

from honeyhive_autoinstrument._version import __version__
from honeyhive_autoinstrument.delivery.backoff import retry_after_s
from honeyhive_autoinstrument.delivery.deadline import Deadline, put_under
from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome, Record
from honeyhive_autoinstrument.patience import take_lock
from honeyhive_autoinstrument.redaction import Redactor

try:
    from opentelemetry.instrumentation.utils import suppress_instrumentation
except ImportError:
    # A process that lacks the dependency (or has one that is too old) has no instrumentation to hide from.
    suppress_instrumentation = contextlib.nullcontext

RETRIED = frozenset({408, 425, 429})
"""And every 5xx."""
NOT_ABOUT_AN_EVENT = frozenset({401, 402, 403, 404, 405, 407, 410, 421, 426, 451})
"""The key, the URL, the plan or a proxy on the way is wrong; every Event would be answered so."""
CONNECT_TIMEOUT_S = 3.0
FORK_WAIT_S = 1.0
"""How long a fork waits for a client that is being made; that takes a twentieth of a second."""
HURRIED_CONNECT_S = 0.4
"""At the end of a program: a server that cannot be reached at once is not waited for."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""The ids of 10 000 Events fit ten times over; what sends more is no HoneyHive."""
CONNECTED = "connection.connect_tcp.complete"
IN_CONTACT = (CONNECTED, "http11.send_request_headers.started")
"""httpcore's events that tell of a connection, a new one or one that was kept open."""
SENT = "http11.send_request_body.complete"
"""And the one after which only the answer is waited for."""
KEEP_ALIVE_S = 30.0
NOT_FOUND = 404
UNKNOWN_FOR_S = 120.0
"""A change of an Event that the server does not know is tried for so long; then it never will."""
MAX_DETAIL_BYTES = 1000
MAX_MESSAGE = 200
"""Characters of a server's own words."""
MAX_SESSIONS_KNOWN = 10_000
"""Session rows known to exist; the POST is idempotent, so a forgotten one only costs a request."""


NO_EVENTS = Batch(())


class HttpSink:
    """Sends Batches to a HoneyHive server. Safe from several threads."""

    def __init__(self, *, url: str, api_key: str, timeout_s: float, project: str | None = None) -> None:
        self._url = url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._timeout = _timeout_of(timeout_s)
        self._project = project
        # What is said of an answer reaches logs and files; a server may repeat the key in it.
        self._redactor = Redactor(max_content_bytes=MAX_DETAIL_BYTES, secrets=(api_key,))
        self._lock = threading.RLock()
        """Held for a few instructions only."""
        self._opening = threading.Lock()
        """Held while a client is made; OpenSSL has locks then that a forked child would inherit, and never get."""
        self._is_held = False
        self._client: httpx.Client | None = None
        self._inherited: httpx.Client | None = None
        self._sessions: OrderedDict[str, None] = OrderedDict()
        self._deadline = Deadline()
        self._under_way = 0
        self._in_contact = 0
        self._is_legacy = False
        """The server has no v1 routes (self-hosted, older than May 2026)."""

    def send(self, batch: Batch) -> Answer:
        """Create the sessions that are not known to exist, then the Events; then change those that are to be changed."""
        creations = batch.creations()
        if creations is batch:
            return self._create(batch)
        accepted: tuple[str, ...] = ()
        if len(creations):
            answer = self._create(creations)
            if answer.outcome is not Outcome.DELIVERED:
                return answer  # the changes wait for them
            accepted = creations.ids
        for record in batch.records:
            if record.updates is None:
                continue
            answer = self._change(record)
            if answer.outcome is not Outcome.DELIVERED:
                if accepted:
                    return Answer(outcome=Outcome.PARTLY, detail=answer.detail, accepted=accepted)
                return answer
            accepted = (*accepted, record.id)
        return Answer(outcome=Outcome.DELIVERED)

    def _create(self, batch: Batch) -> Answer:
        for session_id, body in batch.sessions().items():
            if session_id not in self._sessions:
                answer = self._post_session(body)
                if answer.outcome is not Outcome.DELIVERED:
                    return answer
                self._remember(session_id)
        events = b'{"events":[' + b",".join(record.body for record in batch.records) + b"]}"
        answer = self._post("/events/batch" if self._is_legacy else "/v1/events/batch", events, batch)
        if answer.outcome is Outcome.UNAUTHORISED and not self._is_legacy and self._speaks_legacy(batch):
            return self._post("/events/batch", events, batch)
        return answer

    def hurry(self, seconds: float) -> None:
        """No request that begins after this waits longer for its server. Infinity: there is no hurry any more."""
        if seconds == float("inf"):
            self._timeout = _timeout_of(self._timeout_s)
            return
        seconds = min(self._timeout_s, max(seconds, 0.1))
        self._timeout = httpx.Timeout(seconds, connect=min(HURRIED_CONNECT_S, seconds))

    def has_contact(self) -> bool:
        """False while every request under way is still looking for its server (a name, a connection)."""
        return self._in_contact > 0 or self._under_way == 0

    def close(self) -> None:
        """Close the connections; a request that comes later opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def before_fork(self) -> None:
        """No client is made while the process forks."""
        self._is_held = take_lock(self._opening.acquire, FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._is_held:
            self._opening.release()

    def after_fork(self) -> None:
        """In the child: sockets are the parent's and are left alone; the next request opens new ones."""
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        self._inherited = self._client  # kept, so that its sockets are not closed here with a ResourceWarning
        self._client = None
        self._sessions = OrderedDict()
        self._under_way = self._in_contact = 0

    def check(self) -> tuple[bool, str]:
        """Whether the server answers and takes the key, for `--check`: (fine, a sentence for a person)."""
        answer = self._post("/v1/events/batch", b'{"events":[]}')
        if answer.outcome is Outcome.DELIVERED:
            return True, self._redactor.text(f"{self._url} answers and takes the key")
        if answer.outcome is Outcome.UNAUTHORISED:
            legacy = self._post("/events/batch", b'{"events":[]}')
            if legacy.outcome is Outcome.DELIVERED:
                return True, self._redactor.text(f"{self._url} answers on its legacy routes and takes the key")
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

    def _change(self, record: Record) -> Answer:
        """`PUT` merges metadata, metrics, feedback and user properties into an Event that is there (honeyhive_api.md
        2.5)."""
        if not self._is_legacy:
            fields = orjson.loads(record.body)
            fields.pop("event_id", None)
            answer = self._ask("PUT", f"/v1/events/{record.updates}", orjson.dumps(fields))
            if answer.outcome is not Outcome.UNAUTHORISED:
                return self._of_change(answer, record)
        legacy = self._ask("PUT", "/events", record.body)
        if legacy.outcome is Outcome.DELIVERED:
            self._is_legacy = True
        return self._of_change(legacy, record)

    def _of_change(self, answer: Answer, record: Record) -> Answer:
        """An Event that is unknown is answered with 400, perhaps with 404, as a wrong key is: it may pass, since what is
        stored is known only after a while (honeyhive_api.md 2.2, 2.5). Where it does not, another request tells of the
        key."""
        may_be_unknown = answer.outcome is Outcome.REJECTED or answer.status == NOT_FOUND
        if answer.outcome not in (Outcome.REJECTED, Outcome.UNAUTHORISED) or not may_be_unknown:
            return answer
        if abs(time.time() - record.made_s) < UNKNOWN_FOR_S:
            return replace(answer, outcome=Outcome.NOT_YET)
        if answer.outcome is Outcome.UNAUTHORISED and not self.check()[0]:
            return answer
        return replace(answer, outcome=Outcome.REJECTED)

    def _post(self, path: str, body: bytes, batch: Batch = NO_EVENTS) -> Answer:
        """
        :param batch: the Events in the body, as far as their storing is in question.
        """
        return self._ask("POST", path, body, batch)

    def _ask(self, method: str, path: str, body: bytes, batch: Batch = NO_EVENTS) -> Answer:
        try:
            answered = self._exchange_or_again(method, path, body)
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
        return replace(self._answer_of(answered, path, batch), status=answered.status)

    def _exchange_or_again(self, method: str, path: str, body: bytes) -> _Answered:
        """
        :raises httpx.HTTPError: as below.
        """
        client = self._open_client()  # takes a while, which is none of looking for the server
        contact = _Contact(self)
        try:
            with contact, suppress_instrumentation():
                return self._exchange(client, method, path, body, contact)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if contact.is_new:
                raise
        # The server had closed a connection that was kept open: no news of the server, and no reason to wait.
        contact = _Contact(self)
        with contact, suppress_instrumentation():
            return self._exchange(self._open_client(), method, path, body, contact)

    def _exchange(self, client: httpx.Client, method: str, path: str, body: bytes, contact: _Contact) -> _Answered:
        """
        :raises httpx.HTTPError: no answer, or none that was complete within the timeout.
        """
        timeout = self._timeout
        contact.answer_s = timeout.read or 0.0
        self._deadline.at = float("inf")
        self._deadline.handshake_s = contact.answer_s
        request = client.stream(method, path, content=body, timeout=timeout, extensions={"trace": contact.trace})
        with request as response:
            data = bytearray()
            for piece in response.iter_bytes():
                data += piece
                if len(data) > MAX_ANSWER_BYTES:
                    raise httpx.DecodingError("the answer is too long", request=response.request)
            return _Answered(response.status_code, response.headers, _json_of(bytes(data)))

    def _open_client(self) -> httpx.Client:
        with self._opening:
            if self._client is None:
                client = _Client(
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
                put_under(client, self._deadline)
                self._client = client
            return self._client

    def _answer_of(self, answered: _Answered, path: str, batch: Batch) -> Answer:
        status = answered.status
        stored = _stored_of(answered.json, batch)
        if status == 200 and (stored is None or len(stored) >= len(batch)):
            return Answer(outcome=Outcome.DELIVERED)
        said = self._redactor.text(_message_of(answered.json))[
            :MAX_MESSAGE
        ]  # cut after the key in it is hidden, not before
        detail = self._redactor.text(f"{self._url}{path} answered {status} {said}".rstrip())
        if stored and status in (200, 500):
            return Answer(outcome=Outcome.PARTLY, detail=detail, accepted=stored)
        if status == 200:
            return Answer(outcome=Outcome.REJECTED, detail=f"{detail} and does not name the event as stored")
        if status == 413 or (status == 400 and _names_size(answered.json)):
            return Answer(outcome=Outcome.TOO_LARGE, detail=detail)
        if status in RETRIED or status >= 500:
            wait_s = retry_after_s(answered.headers.get("retry-after"), _server_time_s(answered.headers))
            return Answer(outcome=Outcome.RETRY_LATER, detail=detail, retry_after_s=wait_s)
        if status < 400 or status in NOT_ABOUT_AN_EVENT:
            # The official client treats every code but 200 as a failure, redirects too: they mean a wrong URL.
            return Answer(outcome=Outcome.UNAUTHORISED, detail=detail)
        return Answer(outcome=Outcome.REJECTED, detail=detail)


@dataclass(frozen=True, slots=True)
class _Answered:
    status: int
    headers: httpx.Headers
    json: Any
    """None where the body is none: HTML of a load balancer, or nothing."""


class _Client(httpx.Client):
    """Whose requests are not seen by tools that wrap httpx itself: ddtrace 4 and others put wrappers around these methods,
    and know nothing of OpenTelemetry's suppression."""

    def send(self, *args: Any, **kwargs: Any) -> httpx.Response:
        response: httpx.Response = _bare("send")(self, *args, **kwargs)
        return response

    def _send_single_request(self, *args: Any, **kwargs: Any) -> httpx.Response:
        response: httpx.Response = _bare("_send_single_request")(self, *args, **kwargs)
        return response


def _bare(name: str) -> Any:
    """A method of httpx' own, without what others have put around it."""
    method = getattr(httpx.Client, name)
    for _ in range(MAX_LAYERS):
        inner = getattr(method, "__wrapped__", None)
        if inner is None:
            break
        method = inner
    return method


MAX_LAYERS = 20


class _Contact:
    """One request under way: whether it has found its server yet, which its Sink counts, and when its answer has to come."""

    __slots__ = ("_is_found", "_sink", "answer_s", "is_new")

    def __init__(self, sink: HttpSink) -> None:
        self._sink = sink
        self._is_found = False
        self.is_new = False
        """Whether a connection was made for it."""
        self.answer_s = float("inf")

    def trace(self, name: str, info: object) -> None:
        """What httpcore calls as the request goes on."""
        if not self._is_found and name in IN_CONTACT:
            self._is_found = True
            self.is_new = name == CONNECTED
            with self._sink._lock:
                self._sink._in_contact += 1
        elif name == SENT:
            self._sink._deadline.at = time.monotonic() + self.answer_s

    def __enter__(self) -> None:
        with self._sink._lock:
            self._sink._under_way += 1

    def __exit__(self, *error: object) -> None:
        with self._sink._lock:
            self._sink._under_way -= 1
            self._sink._in_contact -= self._is_found


def _timeout_of(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(CONNECT_TIMEOUT_S, seconds))


def _server_time_s(headers: httpx.Headers) -> float:
    """A date in an answer is one of the server's clock; ours may be wrong."""
    try:
        return email.utils.parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return time.time()


def _message_of(body: Any) -> str:
    message = body.get("message") if isinstance(body, dict) else None
    return str(message) if message else ""


def _names_size(body: Any) -> bool:
    text = _message_of(body).lower()
    return "too large" in text or "too big" in text or "exceeds" in text


def _stored_of(body: Any, batch: Batch) -> tuple[str, ...] | None:
    """Those of our Events that an answer names as stored; None if it does not speak of them, or names as many as were sent
    under ids of its own."""
    named = body.get("event_ids") if isinstance(body, dict) else None
    if not isinstance(named, list):
        return None
    wanted = frozenset(batch.ids)
    stored = tuple(each for each in named if isinstance(each, str) and each in wanted)
    return None if not stored and len(named) >= len(batch) else stored


def _json_of(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
