"""One call in flight. It ends once: by result, error, or the end of the stream that it returned.

Used by the hooks and the stream proxies, in the application's thread; `facts()` is called later, on a worker.
Ending may happen inside garbage collection (an abandoned stream), so it uses only re-entrant operations.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from honeyhive_autoinstrument._faults import guarded, harmless
from honeyhive_autoinstrument.capture.freeze import NO_FIELDS, freeze_answer
from honeyhive_autoinstrument.capture.routing import Routing
from honeyhive_autoinstrument.events.facts import (
    Attempt,
    CallFacts,
    Ending,
    ErrorFacts,
    Operation,
    Place,
    ProxyFacts,
    RequestFacts,
    RoutingFacts,
)
from honeyhive_autoinstrument.events.ids import uuid_of
from honeyhive_autoinstrument.events.parameters import FALLBACKS
from honeyhive_autoinstrument.events.usage import counts_anything
from honeyhive_autoinstrument.events.values import PYDANTIC_MARK, field_of

if TYPE_CHECKING:
    from honeyhive_autoinstrument.capture.additions import Handle
    from honeyhive_autoinstrument.capture.recorder import Recorder
    from honeyhive_autoinstrument.capture.surroundings import Surroundings

# Taken once, early: a test tool that freezes time must not bend our durations.
read_clock = time.time
read_ticks = time.perf_counter

MAX_CHILDREN_TRACKED = 1000
"""LiteLLM 1.82 to 1.105 can loop on one deployment for seconds (litellm_map.md 3.5): a parent's lists stay bounded."""


class Callee(Protocol):
    """What the recorder needs to know of a patched function; a Target fulfils it."""

    @property
    def event_name(self) -> str: ...
    @property
    def attribute(self) -> str: ...
    @property
    def operation(self) -> Operation: ...
    @property
    def is_chain(self) -> bool: ...
    @property
    def has_attempts(self) -> bool: ...
    @property
    def is_tool(self) -> bool: ...
    @property
    def passes_on(self) -> bool: ...
    @property
    def is_repeated(self) -> bool: ...
    @property
    def is_request(self) -> bool: ...
    @property
    def can_repeat(self) -> bool: ...
    def as_batch(self) -> Callee: ...
    def as_repeated(self) -> Callee: ...
    def as_request(self) -> Callee: ...
    @property
    def is_inner(self) -> bool: ...


class Call:
    """One invocation by the application (or one Attempt below it)."""

    __slots__ = (
        "__weakref__",
        "_unended",
        "answer",
        "api_base",
        "arguments",
        "attempt",
        "attempt_count",
        "call_id",
        "callee",
        "chunks",
        "cooldown_s",
        "ended_ticks",
        "ending",
        "entered",
        "error",
        "first_chunk_ticks",
        "generation",
        "handle",
        "has_failure",
        "hidden",
        "instance_id",
        "is_stream",
        "is_unlogged",
        "is_usage_reported",
        "item",
        "logging",
        "number",
        "open_streams",
        "parent",
        "place",
        "proxy",
        "raw_request",
        "raw_response",
        "recorder",
        "request_count",
        "result",
        "returned",
        "routing",
        "scattered",
        "secrets",
        "size",
        "started_s",
        "started_ticks",
        "surroundings",
    )

    def __init__(
        self,
        recorder: Recorder,
        callee: Callee,
        parent: Call | None,
        number: int,
        arguments: dict[str, Any],
        size: int,
        secrets: tuple[tuple[str, Any], ...],
    ) -> None:
        self.recorder = recorder
        self.generation = recorder.generation
        self.callee = callee
        self.parent = parent
        self.number = number
        self.arguments = arguments
        self.size = size
        self.secrets = secrets
        self.api_base: str | None = None
        self.proxy: ProxyFacts | None = None if parent is None else parent.proxy
        self.handle: Handle | None = None
        self.surroundings: Surroundings | None = None
        """On an outermost Call, where there are any."""
        self.place: Place | None = None
        """On an outermost Call, found by a worker."""
        self.is_unlogged = True
        """Whether LiteLLM was told not to log this call, or its texts; until that is known, it was."""
        self.has_failure = False
        """Whether it, or one below it, has failed."""
        self.attempt: Attempt | None = None
        self.attempt_count = 0
        self.cooldown_s: float | None = None
        self.routing: Routing | None = None
        """On a chain of Attempts: what its Router decides."""
        self.item: int | None = None
        self.request_count = 0
        self.logging: Any = None
        self.raw_request: tuple[str, Any] | None = None
        self.raw_response: Any = None
        self.hidden: Any = None
        self.is_usage_reported: bool | None = None
        self.call_id: object = arguments.get("litellm_call_id")
        self.entered: tuple[str, ...] = ()
        """Inner ends that were entered as steps of this Call; each is one once."""
        self.returned = False
        self.instance_id = 0
        self.result: object | None = None
        self.answer: dict[str, Any] | None = None
        self.chunks: list[object] | None = None
        self.is_stream = False
        self.error: ErrorFacts | None = None
        self.ending: Ending | None = None
        self.open_streams: set[Call] | None = None
        self.scattered: tuple[int, ...] = ()
        """Under which the Recorder knows this Call while calls below it run on threads without its context."""
        self.first_chunk_ticks: float | None = None
        self.ended_ticks = 0.0
        self._unended = [True]
        self.started_s = read_clock()
        self.started_ticks = read_ticks()

    def succeed(self, result: Any) -> Any:
        """The function returned. A plain result ends the Call; a stream comes back as a proxy and ends it later."""
        self.returned = True
        if is_stream(type(result)):
            return self._follow(result)
        self.result = result
        self._copy_answer()
        self.end(Ending.COMPLETED)
        return result

    def fail(self, error: BaseException) -> None:
        """The function, or the stream it returned, raised. The error itself is for the caller to raise on."""
        self.returned = True
        if isinstance(error, CancelledError):
            # The Proxy ends the task that reads a stream when its client has gone.
            self.end(Ending.CLOSED if self.is_stream and self.proxy is not None else Ending.CANCELLED)
        elif isinstance(error, GeneratorExit):
            self.end(Ending.CLOSED)
        else:
            self.end(Ending.FAILED, error)

    @harmless("end a call", None)
    def end(self, ending: Ending, error: BaseException | None = None) -> None:
        """End the Call, if it has not ended: compare and set, since a finalizer may race with a close."""
        try:
            self._unended.pop()
        except IndexError:
            return
        if self.generation != self.recorder.generation:
            return  # begun before a fork: the parent ends it
        self.ended_ticks = read_ticks()
        self.ending = ending
        self.returned = True
        if error is not None:
            kind = type(error)
            self.error = error_facts_of(error) or ErrorFacts(
                type_name=kind.__qualname__, module=kind.__module__, message=""
            )
        if ending is Ending.FAILED:
            around: Call | None = self
            while around is not None and not around.has_failure:
                around.has_failure = True
                around = around.parent
        if self.chunks:
            self.size += CHUNK_SIZE * len(self.chunks)
        if self.is_stream:
            self._stop_following(ending)
        if self.scattered:
            self.recorder.gather(self)
        if self.routing is not None:
            self.recorder.release(self)
        parent = self.parent
        if ending is Ending.FAILED and self.attempt is not None and parent is not None and not parent.has_ended:
            self.recorder.hold(self, parent)
        else:
            self.recorder.submit(self)
        if parent is not None and parent.callee.is_request:
            parent._end_like(self)

    def _end_like(self, served: Call) -> None:
        """A request to the Proxy ends with the call that serves it, and as that does."""
        self.result, self.answer, self.error, self.hidden = served.result, served.answer, served.error, served.hidden
        self.chunks, self.is_stream, self.first_chunk_ticks = served.chunks, served.is_stream, served.first_chunk_ticks
        self.end(served.ending or Ending.ABANDONED)

    @property
    def has_ended(self) -> bool:
        return not self._unended

    @harmless("follow a stream", None)
    def _proxy_of(self, stream: Any) -> Any:
        return self.recorder.proxy_of(stream, self)

    def _follow(self, stream: Any) -> Any:
        self.is_stream = True
        self.chunks = []
        self._read_notes(stream)
        proxy = self._proxy_of(stream)
        if proxy is None:
            self.end(Ending.COMPLETED)
            return stream
        self.recorder.open_streams.add(self)
        parent = self.parent
        if parent is not None and not parent.has_ended:
            if parent.open_streams is None:
                parent.open_streams = set()
            if len(parent.open_streams) < MAX_CHILDREN_TRACKED:
                parent.open_streams.add(self)
        return proxy

    @harmless("read LiteLLM's notes on a stream", None)
    def _read_notes(self, stream: Any) -> None:
        # The dictionary, not the stream: the Call never holds that.
        self.hidden = getattr(stream, "_hidden_params", None)

    @harmless("look who counted the tokens of a stream", None)
    def see_end(self, stream: Any) -> None:
        """A stream of LiteLLM's was read to its end. It keeps the chunks as the provider sent them; a usage among them is
        the provider's, while the one that LiteLLM hands out may be its own count."""
        kept = getattr(stream, "chunks", None)
        if type(kept) is list:
            self.is_usage_reported = any(counts_anything(field_of(chunk, "usage")) for chunk in reversed(kept[-8:]))

    @harmless("end a stream", None)
    def _stop_following(self, ending: Ending) -> None:
        self.recorder.open_streams.discard(self)
        if self.parent is not None and self.parent.open_streams is not None:
            self.parent.open_streams.discard(self)
        # The Router's stream reads from its Attempt's; when the reader stops, both have ended the same way. One that
        # was still open when the Router's failed had no error of its own.
        for child in list(self.open_streams or ()):
            child.end(Ending.CLOSED if ending is Ending.FAILED else ending)

    @harmless("copy an answer", None)
    def _copy_answer(self) -> None:
        """An answer of a shape that is not known is read later, as it is then."""
        self.answer = freeze_answer(self.result)
        if self.answer is None:
            self.size += vectors_size(self.result)

    def see(self, chunk: object) -> None:
        """A chunk passed through. It is kept, not looked at: reading it is a worker's job."""
        chunks = self.chunks
        if chunks is not None:
            chunks.append(chunk)
            if self.first_chunk_ticks is None and has_content(chunk):
                self.first_chunk_ticks = read_ticks()

    def facts(
        self,
        place: Place,
        provider_of: Callable[[str], str | None],
        settings_of: Callable[[Any], Mapping[str, Any]],
        litellm_version: str | None,
        attributes: Mapping[str, str],
    ) -> CallFacts:
        """The frozen picture of this ended Call. Runs on a worker thread.

        :param settings_of: a Router -> its settings.
        """
        started_ms = self.started_s * 1000.0
        duration_ms = max(0.0, (self.ended_ticks - self.started_ticks) * 1000.0)
        first = self.first_chunk_ticks
        return CallFacts(
            operation=self.callee.operation,
            name=self.callee.event_name,
            is_chain=self.callee.is_chain,
            has_attempts=self.callee.has_attempts,
            is_tool=self.callee.is_tool,
            event_id=uuid_of(self.number),
            parent_id=(place.parent_id or place.session.id) if self.parent is None else uuid_of(self.parent.number),
            place=place,
            started_ms=round(started_ms, 3),
            ended_ms=round(started_ms + duration_ms, 3),
            arguments=self.arguments,
            ending=self.ending or Ending.ABANDONED,
            result=self.result,
            answer=self.answer,
            chunks=self.chunks or (),
            is_stream=self.is_stream,
            hidden=self.hidden,
            is_usage_reported=self.is_usage_reported,
            item=self.item,
            requests=self._requests(),
            time_to_first_token_ms=None if first is None else round((first - self.started_ticks) * 1000.0, 3),
            error=self.error,
            proxy=self.proxy,
            is_request=self.callee.is_request,
            attempt=self.attempt,
            cooldown_s=self.cooldown_s,
            attempt_count=self.attempt_count,
            routing=self._routing(settings_of),
            fallbacks={}
            if self.routing is None
            else {name: value for name, value in self.secrets if name in FALLBACKS},
            api_base=self.api_base,
            provider=None if self.callee.is_chain else self._provider(provider_of),
            litellm_version=litellm_version,
            attributes=attributes,
            added=self._added(),
        )

    @harmless("take what was added to a call", MappingProxyType({}))
    def _added(self) -> Mapping[str, Mapping[str, Any]]:
        return self.recorder.additions.take(self.handle)

    @harmless("read LiteLLM's logging object", None)
    def _requests(self) -> RequestFacts | None:
        if self.logging is None:
            return None
        url, body = self.raw_request or (None, None)
        return RequestFacts(
            count=self.request_count,
            cost_parts=getattr(self.logging, "cost_breakdown", None),
            raw_url=url,
            raw_body=body,
            raw_response=self.raw_response,
        )

    @harmless("read what a Router decided", None)
    def _routing(self, settings_of: Callable[[Any], Mapping[str, Any]]) -> RoutingFacts | None:
        if self.routing is None:
            return None
        settings: Mapping[str, Any] = {}
        if self.routing.router is not None:
            with guarded("read a Router's settings"):
                settings = settings_of(self.routing.router)
        return self.routing.facts(settings, is_answered=self.ending not in (Ending.FAILED, Ending.CANCELLED))

    @harmless("find a call's provider", None)
    def _provider(self, provider_of: Callable[[str], str | None]) -> str | None:
        model = self.arguments.get("model")
        return provider_of(model) if isinstance(model, str) else None


CHUNK_SIZE = 1024
"""Bytes that a chunk of a stream takes, by estimate."""
NUMBER_SIZE = 32
"""Bytes of a float and its place in a list."""


def vectors_size(result: Any) -> int:
    """What the vectors of an answer weigh in memory, by estimate: of all answers they are what can be large."""
    data = getattr(result, "__dict__", NO_FIELDS).get("data")
    if type(data) is not list or not data:
        return 0
    vector = field_of(data[0], "embedding")
    return len(data) * (NUMBER_SIZE * len(vector) if type(vector) is list else CHUNK_SIZE)


def is_stream(kind: type) -> bool:
    """Whether results of a class are read piece by piece."""
    if kind is dict or PYDANTIC_MARK in kind.__dict__:
        return False  # by far the most; asking a pydantic class for a name that it lacks takes microseconds
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__")


def has_content(chunk: object) -> bool:
    """Whether a chunk brings the first thing a reader would see: text, reasoning or a tool call."""
    if isinstance(chunk, bytes):  # server-sent events of Anthropic's or Google's form
        return b"_delta" in chunk or b'"parts"' in chunk
    kind = getattr(chunk, "type", None)
    if kind is not None:  # an event of the Responses API
        return str(getattr(kind, "value", kind)).endswith(".delta")
    try:
        choice = chunk.choices[0]  # type: ignore[attr-defined]
        delta = getattr(choice, "delta", None)
        if delta is None:
            return bool(choice.text)
        return bool(
            delta.content
            or getattr(delta, "tool_calls", None)
            or getattr(delta, "reasoning_content", None)
            or getattr(delta, "function_call", None)
        )
    except (AttributeError, IndexError, TypeError):
        return False


@harmless("read an error", None)
def error_facts_of(error: BaseException) -> ErrorFacts:
    """What an exception says, as text and numbers (fields: litellm_map.md 5)."""
    status = _attribute_of(error, "status_code")
    provider = _attribute_of(error, "llm_provider")
    headers = _headers_of(error)
    return ErrorFacts(
        type_name=type(error).__qualname__,
        module=type(error).__module__,
        message=_text_of(error),
        status_code=status if type(status) is int else None,
        provider=provider if type(provider) is str and provider else None,
        code=_word_of(_attribute_of(error, "code")),
        retry_after=_header_of(headers, "retry-after"),
        debug_info=_word_of(_attribute_of(error, "litellm_debug_info")),
        headers=headers,
    )


@harmless("read an error's headers", None)
def _headers_of(error: BaseException) -> dict[str, str] | None:
    """Of the provider's answer. LiteLLM gives its exceptions an empty response and keeps the headers beside it."""
    for holder in (error, getattr(error, "response", None)):
        headers = getattr(holder, "litellm_response_headers", None) or getattr(holder, "headers", None)
        if headers:
            return {str(name).lower(): str(value) for name, value in dict(headers).items()}
    return None


def _header_of(headers: dict[str, str] | None, name: str) -> str | None:
    if headers is None:
        return None
    return headers.get(name) or headers.get(f"llm_provider-{name}")


def _word_of(value: Any) -> str | None:
    return str(value) if type(value) in (str, int) and value != "" else None


@harmless("read an error's attribute", None)
def _attribute_of(error: BaseException, name: str) -> Any:
    return getattr(error, name, None)


@harmless("read an error's text", "")
def _text_of(error: BaseException) -> str:
    return str(error)
