"""StreamProxy, AsyncStreamProxy, DualStreamProxy: chunks pass through, the last one ends the Call.

A proxy, because LiteLLM and its users ask `isinstance(...)` and read attributes; the stream's own class stays visible.
LiteLLM looks with `hasattr` what a stream can do (litellm_map.md 3.7), so `close`, `aclose`, `__next__` and `__anext__` are
there only when the stream has them. (wrapt's ObjectProxy itself has most other special methods.)

The Call never holds the stream; the proxy's own finalizer ends the Call when a stream is dropped unread or half read.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import wrapt

from honeyhive_autoinstrument._faults import harmless
from honeyhive_autoinstrument.capture.call import Call
from honeyhive_autoinstrument.capture.context import current_call
from honeyhive_autoinstrument.events.facts import Ending

# Generic in wrapt's stubs since 2, not when it runs.
ObjectProxy: Any = wrapt.ObjectProxy


def proxy_of(stream: Any, call: Call) -> Any:
    """The proxy class with the iteration methods that the stream has, around it."""
    kind = type(stream)
    if not hasattr(kind, "__anext__"):
        return StreamProxy(stream, call)
    if not hasattr(kind, "__next__"):
        return AsyncStreamProxy(stream, call)
    return DualStreamProxy(stream, call)


class _Proxy(ObjectProxy):  # type: ignore[misc]
    """What the three have in common: closing, dropping, copying."""

    def __init__(self, stream: Any, call: Call) -> None:
        super().__init__(stream)
        self._self_call = call

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if name == "close" or name == "aclose":
            return _Closing(value, self._self_call)
        return value

    def __enter__(self) -> Any:
        _refuse_unless(self.__wrapped__, "__enter__", "context manager")
        entered = self.__wrapped__.__enter__()
        return self if entered is self.__wrapped__ else entered

    def __exit__(self, *error: Any) -> Any:
        try:
            return self.__wrapped__.__exit__(*error)
        finally:
            self._self_call.end(Ending.CLOSED)

    async def __aenter__(self) -> Any:
        _refuse_unless(self.__wrapped__, "__aenter__", "asynchronous context manager")
        entered = await self.__wrapped__.__aenter__()
        return self if entered is self.__wrapped__ else entered

    async def __aexit__(self, *error: Any) -> Any:
        try:
            return await self.__wrapped__.__aexit__(*error)
        finally:
            self._self_call.end(Ending.CLOSED)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)

    def __copy__(self) -> Any:
        return copy.copy(self.__wrapped__)

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self.__wrapped__, memo)

    def __del__(self) -> None:
        # Also runs when __init__ failed half-way; then there is no Call to end.
        try:
            call = self._self_call
        except (AttributeError, ValueError):
            return
        call.end(Ending.ABANDONED)


def _refuse_unless(stream: Any, method: str, protocol: str) -> None:
    """What `with` does with an object that cannot be used so: TypeError since Python 3.11, AttributeError before."""
    if hasattr(type(stream), method):
        return
    if sys.version_info >= (3, 11):
        raise TypeError(f"{type(stream).__name__!r} object does not support the {protocol} protocol")
    raise AttributeError(method)


class _Closing(ObjectProxy):  # type: ignore[misc]
    """The stream's own `close` or `aclose`: called as it is, and the Call ends whatever comes of it."""

    def __init__(self, method: Callable[..., Any], call: Call) -> None:
        super().__init__(method)
        self._self_call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._self_call.end(Ending.CLOSED)
        return self.__wrapped__(*args, **kwargs)


@harmless("see a chunk", None)
def _see(call: Call, chunk: object) -> None:
    call.see(chunk)


def _next_of(iterator: Any, call: Call) -> Any:
    """`next(iterator)`, watched. A Router's stream falls back to another deployment inside its own `__next__`: what it
    calls there must find its parent."""
    is_chain = call.callee.is_chain
    if is_chain:
        surrounding = current_call.get()
        current_call.set(call)
    try:
        chunk = next(iterator)
    except StopIteration:
        call.end(Ending.COMPLETED)
        raise
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        if is_chain:
            current_call.set(surrounding)
    _see(call, chunk)
    return chunk


async def _anext_of(iterator: Any, call: Call) -> Any:
    """The async twin of _next_of."""
    is_chain = call.callee.is_chain
    if is_chain:
        surrounding = current_call.get()
        current_call.set(call)
    try:
        chunk = await iterator.__anext__()
    except StopAsyncIteration:
        call.end(Ending.COMPLETED)
        raise
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        if is_chain:
            current_call.set(surrounding)
    _see(call, chunk)
    return chunk


class _Next:
    """`__iter__` and `__next__`, for streams that have them."""

    __wrapped__: Any
    _self_call: Call

    def __iter__(self) -> Any:
        # The inherited one would hand out the bare stream.
        iterator = iter(self.__wrapped__)
        return self if iterator is self.__wrapped__ else _Steps(iterator, self)

    def __next__(self) -> Any:
        return _next_of(self.__wrapped__, self._self_call)


class _AsyncNext:
    """`__aiter__` and `__anext__`, for streams that have them."""

    __wrapped__: Any
    _self_call: Call

    def __aiter__(self) -> Any:
        iterator = self.__wrapped__.__aiter__()
        return self if iterator is self.__wrapped__ else _AsyncSteps(iterator, self)

    async def __anext__(self) -> Any:
        return await _anext_of(self.__wrapped__, self._self_call)


class _Steps:
    """An iterator that `iter(stream)` made anew. It keeps the proxy, whose end would otherwise end the Call."""

    def __init__(self, iterator: Any, proxy: _Next) -> None:
        self._iterator = iterator
        self._proxy = proxy

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return _next_of(self._iterator, self._proxy._self_call)


class _AsyncSteps:
    """The async twin of _Steps."""

    def __init__(self, iterator: Any, proxy: _AsyncNext) -> None:
        self._iterator = iterator
        self._proxy = proxy

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return await _anext_of(self._iterator, self._proxy._self_call)


class StreamProxy(_Next, _Proxy):
    """Around a stream with `__next__` only."""


class AsyncStreamProxy(_AsyncNext, _Proxy):
    """Around a stream with `__anext__` only."""


class DualStreamProxy(_Next, _AsyncNext, _Proxy):
    """Around a stream with both, such as LiteLLM's CustomStreamWrapper."""
