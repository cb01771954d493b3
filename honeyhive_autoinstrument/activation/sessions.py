"""Which Session a Call belongs to, and below what: the first place that says, in the order of design.md 5. On worker
threads.

The outermost Call decides for its tree, by what surrounded it when it began (capture/surroundings.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from honeyhive_autoinstrument._faults import guarded
from honeyhive_autoinstrument.capture.call import Call
from honeyhive_autoinstrument.capture.scope import Scope
from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.events.facts import Place, Session, SurroundingFacts
from honeyhive_autoinstrument.events.ids import as_uuid, uuid_in, uuid_of
from honeyhive_autoinstrument.events.values import metadata_in

MAX_SESSIONS = 10_000
"""Session rows kept encoded; a service opens one for each of its requests."""

PARENT_KEY = "honeyhive_parent_id"
"""In a call's metadata: the event that it belongs below."""


class Sessions:
    """Finds the Place of each Call. Safe from several worker threads: what two find at once is the same."""

    def __init__(self, config: Config, process_session: Session, row_of: Callable[[Session], bytes]) -> None:
        """
        :param row_of: a Session -> its encoded row.
        """
        self.process_session = process_session
        self._process_name = process_session.name
        self._is_configured = config.session_id is not None
        self._row_of = row_of
        self._rows: dict[str, tuple[Session, bytes]] = {}
        self._told: dict[str, dict[str, dict[str, Any]]] = {}
        """What the rows say of their Sessions, with what was added since."""

    def place_of(self, call: Call) -> Place:
        """Of the tree that a Call is in; the process session's where nothing can be found out."""
        root = root_of(call)
        if root.place is None:
            with guarded("find a call's session"):
                root.place = self._find(root)
        return root.place or Place(session=self.process_session)

    def row_of(self, session: Session) -> bytes:
        """The encoded row; of a Session that was seen before, the same bytes."""
        known = self._rows.get(session.id)
        if known is None:
            known = (session, self._row_of(session))
            while len(self._rows) >= MAX_SESSIONS:
                with contextlib.suppress(RuntimeError, StopIteration):  # another worker changes it in between
                    oldest = next(iter(self._rows))
                    self._rows.pop(oldest, None)
                    self._told.pop(oldest, None)
            self._rows[session.id] = known
            self._told[session.id] = {
                "metadata": dict(session.metadata),
                "user_properties": dict(session.user_properties),
            }
        return known[1]

    def news_of(self, call: Call, session: Session) -> dict[str, dict[str, Any]]:
        """What the `session(...)` around a Call says of its Session that the row does not say yet; from now on it does."""
        surroundings = root_of(call).surroundings
        scope = None if surroundings is None else surroundings.scope
        told = self._told.get(session.id)
        if scope is None or told is None or scope.uuid != session.id:
            return {}
        news: dict[str, dict[str, Any]] = {}
        for name, values in (("metadata", scope.metadata), ("user_properties", scope.user_properties)):
            fresh = {key: value for key, value in values.items() if key not in told[name] or told[name][key] != value}
            if fresh:
                news[name] = fresh
                told[name].update(fresh)
        return news

    def _find(self, root: Call) -> Place:
        surroundings = root.surroundings
        facts = SurroundingFacts()
        scope: Scope | None = None
        if surroundings is not None:
            scope = surroundings.scope
            with guarded("read what surrounds a call"):
                facts = surroundings.facts()
        user = {} if facts.user_id is None else {"user_id": facts.user_id}
        return Place(
            session=self._session_of(root, scope, facts),
            parent_id=_named_parent(root) or facts.parent_id,
            trace_id=facts.trace_id,
            span_id=facts.span_id,
            metadata=facts.metadata,
            experiment=facts.experiment,
            user_properties=user if scope is None else {**user, **scope.user_properties},
        )

    def _session_of(self, root: Call, scope: Scope | None, facts: SurroundingFacts) -> Session:
        started_ms = root.started_s * 1000
        proxy = root.proxy
        given = session_id_in(root.arguments) if proxy is None else proxy.session_id
        if given is not None:
            return self._named(given, None, started_ms)
        if scope is not None:
            return self._known(
                Session(
                    id=scope.uuid,
                    name=scope.name or scope.original_id or self._process_name,
                    started_ms=scope.started_s * 1000,
                    original_id=scope.original_id,
                    user_properties=scope.user_properties,
                    metadata=scope.metadata,
                )
            )
        of_tracer, its_name = facts.tracer_session or (None, None)
        for found in (facts.baggage_session, facts.span_session, facts.context_session, of_tracer):
            if found is not None:
                name = its_name if found == of_tracer else None
                return self._named(found, name or self._process_name, started_ms)
        if facts.trace_id is not None and not facts.is_trace_of_call:
            session_id, _ = as_uuid(f"trace:{facts.trace_id}")
            return self._known(
                Session(id=session_id, name=facts.span_name or self._process_name, started_ms=started_ms)
            )
        if proxy is not None and not self._is_configured:
            # Requests of strangers share nothing but the process.
            session_id, _ = as_uuid(f"request:{uuid_of(root.number)}")
            return Session(id=session_id, name=proxy.route or "request", started_ms=started_ms)
        return self.process_session

    def _named(self, given: str, name: str | None, started_ms: float) -> Session:
        session_id, original_id = as_uuid(given)
        return self._known(
            Session(
                id=session_id, name=name or original_id or session_id, started_ms=started_ms, original_id=original_id
            )
        )

    def _known(self, session: Session) -> Session:
        known = self._rows.get(session.id)
        return session if known is None else known[0]


def root_of(call: Call) -> Call:
    """The outermost Call around it, or itself."""
    while call.parent is not None:
        call = call.parent
    return call


def process_session_of(config: Config, process_name: str, started_ms: float) -> Session:
    """The Session of what names none: the configured one, or one of the process's own."""
    session_id, original_id = as_uuid(config.session_id) if config.session_id else (str(uuid4()), None)
    return Session(
        id=session_id,
        name=config.session_name or process_name,
        started_ms=started_ms,
        original_id=original_id,
    )


def session_id_in(arguments: Mapping[str, Any]) -> str | None:
    """The session that a call names: in its metadata, or as `litellm_session_id`."""
    for bucket in metadata_in(arguments):
        if bucket.get("session_id"):
            return str(bucket["session_id"])
    given = arguments.get("litellm_session_id")
    return str(given) if given else None


def _named_parent(root: Call) -> str | None:
    named = (uuid_in(bucket.get(PARENT_KEY)) for bucket in metadata_in(root.arguments))
    return next((each for each in named if each is not None), None)
