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
    IMAGE_EDIT = "image_edit"
    IMAGE_VARIATION = "image_variation"
    VIDEO = "video_generation"
    RESPONSES = "responses"
    MESSAGES = "anthropic_messages"
    GENERATE = "generate_content"
    RERANK = "rerank"
    MODERATION = "moderation"
    TRANSCRIPTION = "transcription"
    SPEECH = "speech"
    OCR = "ocr"
    SEARCH = "search"
    BATCH = "batch"
    """Several conversations, or one for several models; each is a Call of its own below it."""
    OTHER = "other"
    """What has no form of its own: arguments and answer as they are."""


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
    user_properties: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the application says of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurroundingFacts:
    """What OpenTelemetry's context and HoneyHive's own tracer say of an outermost Call."""

    baggage_session: str | None = None
    span_session: str | None = None
    context_session: str | None = None
    tracer_session: tuple[str, str | None] | None = None
    """Id and name."""
    trace_id: str | None = None
    span_id: str | None = None
    is_trace_of_call: bool = False
    """Whether the trace begins with another instrumentation's span of this very call, and surrounds nothing else."""
    span_name: str | None = None
    parent_id: str | None = None
    """The event around the call, a UUID."""
    experiment: Mapping[str, str] = field(default_factory=dict)
    """Run, dataset and datapoint of `honeyhive.evaluate`."""
    user_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """OpenInference's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a Call belongs: its Session, and what every event of its tree says of that."""

    session: Session
    parent_id: str | None = None
    """Of the outermost Call: an event of somebody else's around it."""
    trace_id: str | None = None
    span_id: str | None = None
    """Of the span around the outermost Call."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """OpenInference's, as much the application's own as that of the call."""
    experiment: Mapping[str, str] = field(default_factory=dict)
    """Run, dataset and datapoint of `honeyhive.evaluate`."""
    user_properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """A file, an image or a recording given as an argument. Open files are never read: that would move their position."""

    name: str | None = None
    media_type: str | None = None
    size: int | None = None
    data: bytes | None = None
    """The bytes themselves, where they were at hand; they go no further than their hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What LiteLLM's logging object tells of the requests that a call led to (litellm_map.md 6)."""

    count: int = 0
    """Requests that LiteLLM made for the call, its own repetitions included; an SDK's below it are not seen."""
    cost_parts: Mapping[str, Any] | None = None
    """`cost_breakdown`: US dollars by part."""
    raw_url: str | None = None
    raw_body: object | None = None
    raw_response: object | None = None
    """With CAPTURE_RAW: the last request as sent, and its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFacts:
    """An exception as text and numbers; the exception itself would keep frames and their locals alive."""

    type_name: str
    module: str
    message: str
    status_code: int | None = None
    provider: str | None = None
    code: str | None = None
    """The provider's own, for example `context_length_exceeded`."""
    retry_after: str | None = None
    """The header of the answer, seconds or a date."""
    debug_info: str | None = None
    """LiteLLM's `litellm_debug_info`; holds the API base and may hold the prompt."""
    headers: Mapping[str, Any] | None = None
    """Of the provider's answer, where LiteLLM keeps them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a Router could choose from when it picked a deployment; ids of deployments of one group."""

    healthy: tuple[str, ...] = ()
    """Those that could be picked."""
    cooled_down: tuple[str, ...] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    """Id -> the check that took it out."""
    auto_router: Mapping[str, Any] = field(default_factory=dict)
    """What an auto router decided beforehand (LiteLLM's `routing_decision`, 1.99 and later)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldown:
    """A deployment was put aside after a failure."""

    deployment_id: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at one deployment inside a Router Call, as the leaf's arguments told at entry (litellm_map.md 3.2, 3.3); or
    one try at one model where LiteLLM repeats a call itself."""

    number: int
    """1 for the first try under its parent."""
    model_group: str | None = None
    original_model_group: str | None = None
    """The group that the application asked for, when a fallback led here."""
    deployment: str | None = None
    deployment_id: str | None = None
    fallback_depth: int = 0
    is_retry: bool = False
    """A further try in the same group, on the same level."""
    fallback_from: str | None = None
    """The group that this one stands in for."""
    fallback_reason: str | None = None
    """Class name of the error for which that group was given up."""
    delay_ms: float | None = None
    """Since the end of the Attempt before; None for the first one, and while that one's stream is open."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """How the deployment is configured for the Router: weight, order, limits."""
    selection: Selection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingFacts:
    """What a chain of Attempts adds up to."""

    settings: Mapping[str, Any]
    """Of the Router, by their LiteLLM names."""
    path: tuple[str, ...] = ()
    """Model groups in the order in which they were turned to."""
    retries: int = 0
    total_delay_ms: float = 0.0
    cooldowns: tuple[Cooldown, ...] = ()
    winner: Attempt | None = None
    selection: Selection | None = None
    """Of a choice that led to no Attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyFacts:
    """A request to the LiteLLM Proxy, as its notes tell (litellm_map.md 8.2)."""

    identity: Mapping[str, Any]
    """Who asks, by our names."""
    raw_key: str | None = None
    """The virtual key itself, where the Proxy hands that on. Never recorded; looked for in texts, to be hidden there."""
    session_id: str | None = None
    """The session that the request names."""
    route: str | None = None
    user_agent: str | None = None
    caller_ip: str | None = None
    arrived_s: float | None = None
    """Unix time."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """The Proxy's own dictionary of them; guardrails enter themselves there while the request is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """Everything known of an ended Call. Objects of LiteLLM in it are only read."""

    operation: Operation
    name: str
    """Event name, for example `litellm.acompletion`."""
    is_chain: bool
    """Whether the Call only led to other Calls (Router, retries, batches): its tokens are theirs."""
    has_attempts: bool = True
    """Of a chain: whether the Calls below it are tries to answer it, or pieces of work of their own (a batch's items)."""
    is_tool: bool = False
    """Whether the Call looks something up (a search, a stored response) and no model works on it."""
    event_id: str
    parent_id: str
    place: Place
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
    hidden: object | None = None
    """LiteLLM's notes on a stream, `_hidden_params`; an answer that is no stream carries its own."""
    is_usage_reported: bool | None = None
    """Of a stream: whether the provider itself sent a usage; None if that cannot be seen."""
    item: int | None = None
    """Place in a batch, from 1."""
    requests: RequestFacts | None = None
    time_to_first_token_ms: float | None = None
    error: ErrorFacts | None = None
    proxy: ProxyFacts | None = None
    """Of whatever serves a request to the Proxy."""
    is_request: bool = False
    """Whether this is the request itself."""
    attempt: Attempt | None = None
    cooldown_s: float | None = None
    """On an Attempt: for how long its failure put the deployment aside."""
    attempt_count: int = 0
    """On a chain: the Attempts below it."""
    routing: RoutingFacts | None = None
    """On a chain of Attempts."""
    fallbacks: Mapping[str, Any] = field(default_factory=dict)
    """`fallbacks=` and its kin as the call itself gave them; they may hold credentials."""
    api_base: str | None = None
    provider: str | None = None
    """By the name of the model; the response knows better where it says."""
    litellm_version: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What `enrich(...)` added, by bucket."""
