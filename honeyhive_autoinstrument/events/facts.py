"""What the builders are given: the frozen picture of an ended Call. Pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Operation(Enum):
    """What kind of work a call asks for; decides how inputs and outputs are read."""

    CHAT = "chat"
    TEXT = "text_completion"
    EMBEDDING = "embedding"
    IMAGE = "image_generation"


class Ending(Enum):
    """How a Call ended. Every Call ends exactly once, in one of these."""

    COMPLETED = "completed"
    CLOSED = "closed"
    """The application stopped reading a stream, or closed it."""
    CANCELLED = "cancelled"
    FAILED = "failed"
    ABANDONED = "abandoned"
    """A stream was dropped unread or half read, or the process ended first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The root and id that the Events of one run share; becomes one session row."""

    id: str
    """A lower-case UUID."""
    name: str
    started_ms: float
    original_id: str | None = None
    """The id the application gave, when it was no UUID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFacts:
    """An exception as text and numbers; the exception itself would keep frames and their locals alive."""

    type_name: str
    module: str
    message: str
    status_code: int | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at one deployment inside a Router Call, as the leaf's arguments told at entry (litellm_map.md 3.2, 3.3)."""

    number: int
    """1 for the first try under its parent."""
    model_group: str | None = None
    original_model_group: str | None = None
    """The group that the application asked for, when a fallback led here."""
    deployment: str | None = None
    deployment_id: str | None = None
    fallback_depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """Everything known of an ended Call. Objects of LiteLLM in it are only read."""

    operation: Operation
    name: str
    """Event name, for example `litellm.acompletion`."""
    is_chain: bool
    """Whether the Call only led to other Calls (Router, retries): its tokens are theirs."""
    event_id: str
    parent_id: str
    session: Session
    started_ms: float
    ended_ms: float
    arguments: Mapping[str, Any]
    """The recorded arguments by name, as they were when the call was made."""
    ending: Ending
    result: object | None = None
    answer: Mapping[str, Any] | None = None
    """The choices of the result, as they were when the call returned."""
    chunks: Sequence[object] = ()
    """What a stream handed out, in order."""
    is_stream: bool = False
    time_to_first_token_ms: float | None = None
    error: ErrorFacts | None = None
    attempt: Attempt | None = None
    attempt_count: int = 0
    """On a chain: the Attempts below it."""
    api_base: str | None = None
    provider: str | None = None
    """By the name of the model; the response knows better where it says."""
    cost_usd: float | None = None
    """LiteLLM's price when the response does not carry it."""
    litellm_version: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
