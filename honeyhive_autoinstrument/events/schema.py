"""The field names of the HoneyHive API: Event and session row. Source: honeyhive_api.md 2.3, 2.4, 3."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class EventType(Enum):
    """`event_type`; tokens are summed over `model` events, so a wrapper of others is a `chain`."""

    MODEL = "model"
    CHAIN = "chain"
    TOOL = "tool"
    SESSION = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`POST /v1/events`, one element of a batch. Times in Unix ms, duration in ms. The buckets are JSON objects."""

    event_id: str
    session_id: str
    parent_id: str
    event_type: EventType
    event_name: str
    source: str
    start_time: float
    end_time: float
    duration: float
    config: dict[str, Any]
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    error: str | None
    metadata: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    feedback: dict[str, Any] = field(default_factory=dict)
    user_properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """`POST /v1/sessions`; idempotent on `session_id`."""

    session_id: str
    session_name: str
    source: str
    start_time: float
    metadata: dict[str, Any] = field(default_factory=dict)
    user_properties: dict[str, Any] = field(default_factory=dict)
