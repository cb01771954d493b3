"""Encoder: an ended Call -> facts -> Event -> bytes. What Runtime hands to the uploaders as their `encode`.

Runs on worker threads. One Encoder lives as long as one set of settings.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from honeyhive_autoinstrument._faults import guarded
from honeyhive_autoinstrument.capture.call import Call, uuid_of
from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.delivery.sink import Record
from honeyhive_autoinstrument.events.build import bare_event, build_event, session_row
from honeyhive_autoinstrument.events.encode import encode
from honeyhive_autoinstrument.events.facts import Session
from honeyhive_autoinstrument.events.schema import Event
from honeyhive_autoinstrument.patches.library import (
    credentials_of_library,
    library_version,
    price_of_tokens,
    provider_of,
    router_settings_of,
)
from honeyhive_autoinstrument.redaction import Redactor, is_credential_name

MAX_SESSIONS = 10_000
"""Session rows kept encoded; a service opens one for each of its requests."""

FORK_WAIT_S = 1.0
PRICE_WAIT_S = 2.0
"""How long the first price of another thread is waited for; an event without its price is better than none."""


class Encoder:
    """Makes Records of Calls, by the settings it was given."""

    def __init__(self, config: Config, process_session: Session) -> None:
        self._config = config
        self._attributes = dict(config.attributes)
        self._redactor = Redactor(
            max_content_bytes=config.max_content_bytes,
            capture_content=config.capture_content,
            secrets=(*credentials_in_environment(), config.api_key or ""),
        )
        self.process_session = process_session
        """The Session of every Call that names none."""
        self._sessions: dict[str, tuple[Session, bytes]] = {}
        self._litellm_version: str | None = None
        with guarded("read LiteLLM's version"):
            self._litellm_version = library_version()  # here, not on a worker: importlib.metadata imports as it reads
        self._first_price = threading.RLock()  # re-entrant: a finalizer may end a Call in the middle of it
        self._has_priced = False
        self._is_held = False

    def __call__(self, call: Call) -> Record:
        """
        :raises Exception: when nothing at all can be made of the Call; parts that cannot be read are left out.
        """
        with guarded("learn a call's credentials"):
            around: Call | None = call
            while around is not None:  # the keys of a chain's further models reach its first try's errors
                self._redactor.learn(texts_in(around.secrets))
                around = around.parent
            if call.error is not None:
                # Providers repeat keys in their answers, and a key need not have come with the call.
                self._redactor.learn(texts_in(credentials_of_library()))
        session, session_body = self._session_or_own(call)
        facts = call.facts(session, provider_of, router_settings_of, self._litellm_version, self._attributes)
        event: Event | None = None
        with guarded("build an event"):
            event = build_event(
                facts,
                source=self._config.source,
                redactor=self._redactor,
                capture_headers=self._config.capture_headers,
                price=self._price,
            )
        if event is None:
            event = bare_event(facts, source=self._config.source)
        return Record(
            id=event.event_id,
            body=encode(event, max_bytes=self._config.max_event_bytes),
            session_id=session.id,
            session_body=session_body,
        )

    def before_fork(self) -> None:
        """LiteLLM's first price imports many of its modules; a child forked in the middle of that would hang on them."""
        self._is_held = self._first_price.acquire(timeout=FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Pricing goes on."""
        if self._is_held:
            self._first_price.release()

    def after_fork_in_child(self) -> None:
        """The locks were taken in the parent."""
        self._first_price = threading.RLock()
        self._redactor.after_fork()

    def _session_or_own(self, call: Call) -> tuple[Session, bytes]:
        with guarded("find a call's session"):
            return self._session_of(call)
        return self.process_session, self._encode_session(self.process_session)

    def _session_of(self, call: Call) -> tuple[Session, bytes]:
        """The Session that the outermost Call names, else that of the process; and its encoded row."""
        while call.parent is not None:
            call = call.parent
        proxy = call.proxy
        given = session_id_in(call.arguments) if proxy is None else proxy.session_id
        session = self.process_session
        if given is not None:
            session_id, original_id = as_uuid(given)
            session = Session(
                id=session_id, name=original_id or session_id, started_ms=call.started_s * 1000, original_id=original_id
            )
        elif proxy is not None:
            # Requests of strangers share nothing but the process.
            session_id, _ = as_uuid(f"request:{uuid_of(call.number)}")
            session = Session(id=session_id, name=proxy.route or "request", started_ms=call.started_s * 1000)
        known = self._sessions.get(session.id)
        if known is None:
            known = (session, self._encode_session(session))
            while len(self._sessions) >= MAX_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)), None)
            self._sessions[session.id] = known
        return known

    def _encode_session(self, session: Session) -> bytes:
        row = session_row(session, source=self._config.source, attributes=self._attributes, redactor=self._redactor)
        return encode(row, max_bytes=self._config.max_event_bytes)

    def _price(
        self, models: Sequence[str], provider: str | None, usage: Any, tokens: Mapping[str, int]
    ) -> tuple[float, float] | None:
        """LiteLLM's price of what its answer carries none for: streams, and answers in a provider's own form."""
        if self._has_priced:
            return price_of_tokens(models, provider, usage, tokens)
        if self._first_price.acquire(timeout=PRICE_WAIT_S):
            try:
                prices = price_of_tokens(models, provider, usage, tokens)
                self._has_priced = prices is not None
                return prices
            finally:
                self._first_price.release()
        return None


def process_session_of(config: Config, process_name: str, started_ms: float) -> Session:
    """The Session of what names none: the configured one, or one of the process's own."""
    session_id, original_id = as_uuid(config.session_id) if config.session_id else (str(uuid4()), None)
    return Session(
        id=session_id,
        name=config.session_name or process_name,
        started_ms=started_ms,
        original_id=original_id,
    )


def as_uuid(given: str) -> tuple[str, str | None]:
    """A lower-case UUID for an id: itself if it is one, else a stable one made of it, with the original beside it."""
    try:
        return str(UUID(given)), None
    except ValueError:
        return str(uuid5(NAMESPACE_URL, f"honeyhive-autoinstrument:{given}")), given


def session_id_in(arguments: Any) -> str | None:
    """The session that a call names: in its metadata, or as `litellm_session_id`."""
    for name in ("metadata", "litellm_metadata"):
        bucket = arguments.get(name)
        if isinstance(bucket, dict) and bucket.get("session_id"):
            return str(bucket["session_id"])
    given = arguments.get("litellm_session_id")
    return str(given) if given else None


def credentials_in_environment() -> list[str]:
    """Keys that LiteLLM's providers read for themselves (OPENAI_API_KEY, ...), and all others. Paths of files are none."""
    return [
        value
        for name, value in os.environ.items()
        if is_credential_name(name) and not value.startswith(("/", "~", "."))
    ]


def texts_in(fields: Iterable[tuple[Any, Any]], depth: int = 0) -> Iterator[str]:
    """The credentials among named values: of a text itself (and a bearer's token alone), in dictionaries and lists such as
    headers, service accounts and fallbacks the fields that are named like one, of a provider's client its key."""
    for name, value in fields:
        if isinstance(value, str):
            if is_credential_name(name) or str(name).endswith("_key"):
                yield value
                yield value.rpartition(" ")[2]
        elif depth >= MAX_SECRET_DEPTH or value is None:
            continue
        elif isinstance(value, Mapping):
            yield from texts_in(list(value.items()), depth + 1)
        elif isinstance(value, list | tuple):
            yield from texts_in([(name, each) for each in value], depth + 1)
        else:
            # An OpenAI client, or one of LiteLLM's credential items.
            held = getattr(value, "__dict__", None) or {}
            yield from texts_in([(key, held[key]) for key in HOLDERS if key in held], depth + 1)


MAX_SECRET_DEPTH = 6
HOLDERS = ("api_key", "credential_values")
