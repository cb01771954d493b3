"""What the application adds to a Call: `enrich(...)` while it is recorded, `update_event(...)` at any time.

An Addition joins the Event of its Call where that is not built yet; else it travels as an Update of its own. Used in the
application's threads, and on the worker that builds the Event.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from honeyhive_autoinstrument.capture.scope import mapping_of

NOTHING: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

UPDATE_SIZE = 1024
"""Bytes that an Update takes in memory, by estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A change of an Event, or of a session's row, that has an id already."""

    event_id: str
    buckets: Mapping[str, Mapping[str, Any]]
    made_s: float
    """Unix time. Its Event may be on the way still, and not known to the server; not for ever."""
    size: int = UPDATE_SIZE


class Handle:
    """How a Call is found again for an Addition, by its context and by the worker. Does not hold the Call."""

    __slots__ = ("added", "generation", "number")

    def __init__(self, number: int, generation: int) -> None:
        self.number = number
        self.generation = generation
        """Forks so far when the Call began; in a child of that process the Call is somebody else's."""
        self.added: list[Mapping[str, Mapping[str, Any]]] | Mapping[str, Mapping[str, Any]] = []
        """A list while the Event is not built; then all of it together."""


class Additions:
    """Adds to Handles, and takes what was added. One of the Recorder's, so that a fork renews its lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: the collector may run the application's code in the middle of it

    def add(self, handle: Handle, buckets: Mapping[str, Mapping[str, Any]], generation: int) -> bool:
        """False: the Event has been built, or is being built in the parent of this process."""
        with self._lock:
            if not isinstance(handle.added, list) or handle.generation != generation:
                return False
            handle.added.append(buckets)
            return True

    def take(self, handle: Handle | None) -> Mapping[str, Mapping[str, Any]]:
        """Everything that was added, later values over earlier ones; nothing can be added from now on. Each exporter
        takes."""
        if handle is None:
            return NOTHING
        with self._lock:
            if isinstance(handle.added, list):
                merged: dict[str, dict[str, Any]] = {}
                for buckets in handle.added:
                    for name, values in buckets.items():
                        merged.setdefault(name, {}).update(values)
                handle.added = merged
            return handle.added


def buckets_of(given: Mapping[str, object], function: str) -> dict[str, dict[str, Any]]:
    """The dictionaries among what a public function was given, by bucket; what is none, or empty, is left out.

    :param function: its name, for a warning.
    """
    found = {name: mapping_of(value, f"{function}({name}=...)") for name, value in given.items()}
    return {name: values for name, values in found.items() if values}
