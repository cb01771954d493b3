"""FakeHoneyHive: the ingestion API on loopback. Validates bodies and token, keeps events, misbehaves by plan.

Contract: honeyhive_events.schema.json (the `Producer*` definitions are the tighter profile for us).
"""

from __future__ import annotations

import json
import ssl
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.fakes.server import CLOSE, RESET, SILENCE, Reply, Request, Server

SCHEMA = json.loads((Path(__file__).parent / "honeyhive_events.schema.json").read_text())
KEY = "hh_test_0123456789abcdefghijkl"


@lru_cache
def validator(definition: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{definition}"})


@dataclass
class Misbehaviour:
    """How the next `times` requests whose path begins with `path` are answered."""

    status: int = 503
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    reads: float | None = None
    """Read this share of the body, then reset the connection."""
    reset: bool = False
    """Read all of it, then reset the connection."""
    closes: bool = False
    """The same with a clean end of the connection."""
    is_silent: bool = False
    """Never answer; the client has to give up."""
    drips_from: str = ""
    """With status 200: store, and answer byte by byte from the "head" or the "body" on."""
    is_truncated: bool = False
    """With status 200: store, and cut the connection in the middle of the answer's body."""
    stores: bool = False
    """What is refused or not answered is stored all the same."""
    takes_first: int | None = None
    """With status 500 or 200 on a batch: store so many events and name their ids."""
    leaves_out: bytes | None = None
    """With status 500 or 200 on a batch: store and name the events that do not hold this."""
    names_ids: bool = True
    """Whether the answer to a batch that is stored in part names what is stored."""
    holds: bytes = b""
    """Only requests whose body holds this."""
    above_bytes: int = -1
    """Only requests whose body is longer."""
    path: str = "/"
    times: int = 1_000_000
    met: int = 0
    """Requests so far that were treated so."""

    def fits(self, request: Request) -> bool:
        return (
            self.times > 0
            and self.reads is None
            and request.path.startswith(self.path)
            and self.holds in request.body
            and len(request.body) > self.above_bytes
        )


class FakeHoneyHive(Server):
    def __init__(
        self, *, key: str = KEY, has_v1: bool = True, refusal: int = 401, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(tls=tls)
        self.key = key
        self.has_v1 = has_v1
        self.refusal = refusal
        self.stored: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.arrivals: Counter[str] = Counter()
        self.problems: list[str] = []
        self.plan: list[Misbehaviour] = []
        self.updates: list[tuple[str, dict[str, Any]]] = []
        """Updates that were taken, in order: the id of the event (or session), and the body."""
        self.refused_updates: list[str] = []
        """Ids of updates that came for something that was never created."""
        self.rows: list[dict[str, Any]] = []
        """Session rows in the order of their arrival, each with its id; `sessions` keeps the first of an id."""
        self.spans: list[dict[str, Any]] = []
        """OTLP spans (JSON) that HoneyHive's own SDK exported, `attributes` as a dictionary of texts."""
        self.runs: dict[str, dict[str, Any]] = {}
        """Experiment runs of the SDK's `evaluate`, by id."""

    @property
    def env(self) -> dict[str, str]:
        return {"HONEYHIVE_API_KEY": self.key, "HONEYHIVE_API_URL": self.url}

    @property
    def events(self) -> list[dict[str, Any]]:
        """Stored events, by start time."""
        with self.lock:
            return sorted(self.stored.values(), key=lambda event: event["start_time"])

    def misbehave(self, **how: Any) -> Misbehaviour:
        self.plan.append(Misbehaviour(**how))
        return self.plan[-1]

    def behave(self) -> None:
        self.plan.clear()

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return self._error(self.refusal, "unauthorised")
        how = self._how(request)
        if how is None:
            return self._serve(request)
        if how.delay_s:
            time.sleep(how.delay_s)
        if how.takes_first is not None or how.leaves_out is not None:
            return self._take_in_part(request, how)
        answers = not (how.reset or how.closes or how.is_silent)
        if how.stores or (how.status == 200 and answers):
            served = self._serve(request)
            if how.status == 200 and answers:
                served = replace(served, drips_from=how.drips_from, is_truncated=how.is_truncated)
                return replace(served, body=how.body) if how.body else served
        if how.reset:
            return RESET
        if how.closes:
            return CLOSE
        if how.is_silent:
            return SILENCE
        return Reply(status=how.status, body=how.body, content_type=how.content_type, headers=dict(how.headers))

    def share_to_read(self, path: str) -> float | None:
        with self.lock:
            for how in self.plan:
                if how.reads is not None and how.times > 0 and path.startswith(how.path):
                    how.times -= 1
                    how.met += 1
                    return how.reads
        return None

    def _serve(self, request: Request) -> Reply:
        is_v1 = request.path.startswith("/v1/")
        if is_v1 and not self.has_v1:
            return self._error(404, "not found")
        if request.path in ("/v1/sessions", "/session/start"):
            return self._session(request, is_v1)
        if request.path in ("/v1/events/batch", "/events/batch"):
            return self._batch(request, is_v1)
        if request.method == "PUT" and (request.path == "/events" or request.path.startswith("/v1/events/")):
            return self._update(request, is_v1)
        if request.path == "/opentelemetry/v1/traces":
            return self._traces(request)
        if request.path.startswith("/v1/runs"):
            return self._experiment_run(request)
        return self._error(404, "no such route")

    def _how(self, request: Request) -> Misbehaviour | None:
        with self.lock:
            for how in self.plan:
                if how.fits(request):
                    how.times -= 1
                    how.met += 1
                    return how
        return None

    def _session(self, request: Request, is_v1: bool) -> Reply:
        body = request.json if is_v1 else request.json["session"]
        self._validate(request, "StartSessionRequest" if is_v1 else "LegacyStartSessionRequest", request.json)
        if is_v1:
            self._validate(request, "ProducerSession", body)
        session_id = body.get("session_id") or str(uuid.uuid4())
        with self.lock:
            self.sessions.setdefault(session_id, body)
            self.rows.append({**body, "session_id": session_id})
        return Reply.of(
            {"event_id": session_id, "session_id": session_id, "org_id": "o", "workspace_id": "w", "project_id": "p"}
        )

    def _take_in_part(self, request: Request, how: Misbehaviour) -> Reply:
        events = request.json["events"][: how.takes_first]
        taken = [
            event for event in events if how.leaves_out is None or how.leaves_out not in json.dumps(event).encode()
        ]
        self._store(taken)
        if not how.names_ids:
            return Reply(status=how.status, body=how.body, content_type=how.content_type)
        return Reply.of({"event_ids": [event["event_id"] for event in taken]}, status=how.status)

    def _batch(self, request: Request, is_v1: bool) -> Reply:
        body = request.json
        problems = self._validate(request, "PostEventBatchRequest" if is_v1 else "LegacyPostEventBatchRequest", body)
        for event in body["events"]:
            problems += self._validate(request, "ProducerEvent", event)
            if event["event_type"] == "model" and event["metadata"].get("operation_name") == "chat":
                problems += self._validate(request, "ProducerModelEvent", event)
        if problems:
            return self._error(400, "; ".join(problems)[:500])
        self._store(body["events"])
        return Reply.of({"success": True, "event_ids": [event["event_id"] for event in body["events"]]})

    def _update(self, request: Request, is_v1: bool) -> Reply:
        body = dict(request.json)
        if self._validate(request, "UpdateEventRequest" if is_v1 else "LegacyUpdateEventRequest", body):
            return self._error(400, "no update")
        event_id = request.path.removeprefix("/v1/events/") if is_v1 else body.pop("event_id")
        with self.lock:
            target = self.stored.get(event_id) or self.sessions.get(event_id)
            if target is None:
                self.refused_updates.append(event_id)
            else:
                self.updates.append((event_id, body))
                for name in ("metadata", "feedback", "metrics", "config", "user_properties"):
                    if isinstance(body.get(name), dict):
                        target[name] = {**target.get(name, {}), **body[name]}
                if isinstance(body.get("outputs"), dict):
                    target["outputs"] = body["outputs"]
        return self._error(400, f"no event {event_id}") if target is None else Reply.of({"success": True})

    def _traces(self, request: Request) -> Reply:
        spans = [
            {**span, "attributes": {each["key"]: _text_of(each["value"]) for each in span["attributes"]}}
            for resource in request.json["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
        with self.lock:
            self.spans += spans
        return Reply.of({})

    def _experiment_run(self, request: Request) -> Reply:
        run_id = (*request.path.partition("?")[0].split("/"), "")[3]
        body = request.json
        with self.lock:
            run = self.runs.setdefault(run_id or body["run_id"], {})
            run.update(body)
        shown = {
            "id": "r", "run_id": run_id, "metadata": {}, "results": {}, "event_ids": [], "configuration": {},
            "is_active": True, "created_at": "2026-01-01T00:00:00Z", "scope_type": "project", "scope_id": "p", **run,
        }  # fmt: skip
        if request.method != "GET":
            return Reply.of({"evaluation": shown, "run_id": shown["run_id"]})
        lists: dict[str, Any] = {name: [] for name in ("passed", "failed", "datapoints", "event_details")}
        return Reply.of(
            {**lists, "status": "completed", "success": True, "metrics": {"details": []}, "run_object": shown}
        )

    def _store(self, events: list[dict[str, Any]]) -> None:
        with self.lock:
            for event in events:
                if event["session_id"] not in self.sessions:
                    self.problems.append(f"{event['event_name']}: session {event['session_id']} was never started")
                self.arrivals[event["event_id"]] += 1
                self.stored[event["event_id"]] = event

    def _validate(self, request: Request, definition: str, value: Any) -> list[str]:
        found = [
            f"{request.path} {definition}: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
            for error in validator(definition).iter_errors(value)
        ]
        for problem in found:
            self._note(problem)
        return found

    def _note(self, problem: str) -> None:
        with self.lock:
            self.problems.append(problem)

    @staticmethod
    def _error(status: int, message: str) -> Reply:
        return Reply.of({"statusCode": status, "message": message, "success": False}, status=status)


def _text_of(value: dict[str, Any]) -> str:
    """An OTLP attribute's value, whatever its type."""
    return str(next(iter(value.values())))
