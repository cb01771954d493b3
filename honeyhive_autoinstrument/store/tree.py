"""Draws a session as a tree of lines: name, model, deployment, tokens, cost, time, error. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from honeyhive_autoinstrument.store.reader import StoredSession, number_of

ERROR_WIDTH = 110
LATEST_MS = 4e12
"""The year 2096; a time beyond it is none."""


def draw(session: StoredSession) -> Iterator[str]:
    """The lines of one session."""
    by_parent: dict[str, list[dict[str, Any]]] = {}
    for event in sorted(session.events.values(), key=lambda event: event["start_time"]):
        parent = str(event.get("parent_id"))
        if parent not in session.events or not _leads_to_the_root(session, event):
            parent = session.id
        by_parent.setdefault(parent, []).append(event)
    started = datetime.fromtimestamp(min(max(session.started_ms, 0), LATEST_MS) / 1000, tz=timezone.utc).astimezone()
    totals = _totals(session)
    yield f"session {session.name}  {started:%Y-%m-%d %H:%M:%S}  {session.id}{totals}"
    yield from _branch(by_parent, session.id, "")


def _branch(by_parent: dict[str, list[dict[str, Any]]], parent: str, indent: str) -> Iterator[str]:
    children = by_parent.pop(parent, [])
    for position, event in enumerate(children, 1):
        is_last = position == len(children)
        yield f"{indent}{'└─' if is_last else '├─'} {line_of(event)}"
        deeper = indent + ("   " if is_last else "│  ")
        if event.get("error"):
            yield f"{deeper}   {_shortened(str(event['error']))}"
        yield from _branch(by_parent, event["event_id"], deeper)


def _leads_to_the_root(session: StoredSession, event: dict[str, Any]) -> bool:
    """Whether the parents of an Event end; a ring of them would never be drawn."""
    seen = set()
    while event["event_id"] not in seen:
        seen.add(event["event_id"])
        parent = session.events.get(str(event.get("parent_id")))
        if parent is None:
            return True
        event = parent
    return False


def line_of(event: dict[str, Any]) -> str:
    """One event as one line."""
    metadata = event["metadata"]
    parts = [f"{event['event_type']} {event['event_name']}"]
    model = event["config"].get("model")
    if model:
        parts.append(str(model))
    if metadata.get("deployment_id"):
        parts.append(f"@{str(metadata['deployment_id'])[:16]}")
    if metadata.get("attempt"):
        parts.append(f"attempt {metadata['attempt']}")
    if event["event_type"] == "chain" and metadata.get("attempts"):
        parts.append(f"{metadata['attempts']} attempt{'s' if metadata['attempts'] != 1 else ''}")
    if "prompt_tokens" in metadata or "completion_tokens" in metadata:
        parts.append(f"{metadata.get('prompt_tokens', 0)}+{metadata.get('completion_tokens', 0)} tokens")
    if number_of(metadata, "cost"):
        parts.append(f"${number_of(metadata, 'cost'):.6f}")
    parts.append(_duration(event["duration"]))
    if "stream_ending" in metadata:
        parts.append(f"stream {metadata['stream_ending']}")
    parts.append("FAILED" if event.get("error") else str(metadata.get("ending") or "ok"))
    return "  ".join(parts)


def _totals(session: StoredSession) -> str:
    models = [event for event in session.events.values() if event["event_type"] == "model"]
    tokens = sum(int(number_of(event["metadata"], "total_tokens")) for event in models)
    cost = sum(number_of(event["metadata"], "cost") for event in models)
    failed = sum(1 for event in models if event.get("error"))
    said = f"  {len(models)} model event{'s' if len(models) != 1 else ''}, {tokens} tokens, ${cost:.6f}"
    return said + (f", {failed} failed" if failed else "")


def _duration(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:.1f} s"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= ERROR_WIDTH else line[: ERROR_WIDTH - 1] + "…"
