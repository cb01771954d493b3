"""`enrich`, `update_event`, `last_event_id`: what the application adds to events. Public; nothing here raises, or waits for
a server (with durability `always`, a change waits for MASK).

Resolved by `honeyhive_autoinstrument/__init__.py` on first use. Without a recording they do nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from honeyhive_autoinstrument._faults import faults, harmless
from honeyhive_autoinstrument.activation.runtime import current_runtime
from honeyhive_autoinstrument.capture.additions import buckets_of
from honeyhive_autoinstrument.events.ids import uuid_in, uuid_of


@harmless("add to a call", False)
def enrich(
    *,
    metadata: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    feedback: Mapping[str, Any] | None = None,
    user_properties: Mapping[str, Any] | None = None,
) -> bool:
    """Add to the event of the call in whose context this runs, else to that of the last call begun in this context.

    Joins the event where that is not built yet, and changes it afterwards (`update_event`).

    :returns: False where there is no such call, or nothing usable was given.
    """
    given = {"metadata": metadata, "metrics": metrics, "feedback": feedback, "user_properties": user_properties}
    runtime = current_runtime()
    return runtime is not None and runtime.enrich(buckets_of(given, "enrich"))


@harmless("change an event", False)
def update_event(
    event_id: str,
    *,
    metadata: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    feedback: Mapping[str, Any] | None = None,
    user_properties: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
) -> bool:
    """Change an event, or a session's row, after the fact: `outputs` are replaced, the rest is merged (honeyhive_api.md
    2.5).

    Goes the way of the events: queue, retries, disk; never before the event itself.

    :param event_id: as `last_event_id()` gives it.
    :returns: False where there is nothing to do it with: no recording, no id, nothing usable given.
    """
    target = uuid_in(event_id)
    if target is None:
        faults.say("argument event_id", "HoneyHive: update_event(...) was given no event's id, but %.60r.", event_id)
        return False
    given = {
        "metadata": metadata,
        "metrics": metrics,
        "feedback": feedback,
        "user_properties": user_properties,
        "outputs": outputs,
    }
    runtime = current_runtime()
    buckets = buckets_of(given, "update_event")
    if runtime is None or not buckets:
        return False
    runtime.update(target, buckets)
    return True


@harmless("find a call's id", None)
def last_event_id() -> str | None:
    """Id of the event of the call in whose context this runs, else of the last call begun in this context."""
    runtime = current_runtime()
    handle = None if runtime is None else runtime.recorder.handle_here()
    return None if handle is None else uuid_of(handle.number)
