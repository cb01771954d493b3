"""proxy_of(stream, call): a stream that passes its chunks through and ends the Call with the last one.

A proxy, because LiteLLM and its users ask `isinstance(...)` and read attributes: the stream's own class, attributes and
text form stay visible. LiteLLM looks with `hasattr` what a stream can do (litellm_map.md 3.7), and so do `collections.abc`
and others, so the proxy's class has just those special methods that the stream's has. (wrapt's ObjectProxy has nearly all
of them: a stream in one is `Sized`, a `Collection`, a context manager.)

The Call never holds the stream; the proxy's own finalizer ends the Call when a stream is dropped unread or half read.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import wrapt

from honeyhive_autoinstrument._faults import harmless
from honeyhive_autoinstrument.capture.call import Call
from honeyhive_autoinstrument.capture.context import enter_call, leave_call
from honeyhive_autoinstrument.events.facts import Ending

# Generic in wrapt's stubs since 2, not when it runs.
ObjectProxy: Any = wrapt.ObjectProxy


def proxy_of(stream: Any, call: Call) -> Any:
    """The stream in a proxy that can do what the stream can."""
    kind = type(stream)
    abilities = tuple(base for method, base in ABILITIES if hasattr(kind, method))
    return _class_like(kind.__name__, kind.__module__, kind.__qualname__, kind.__doc__, abilities)(stream, call)


# Bounded, and by name: LiteLLM makes some of its stream classes anew with each call.
@functools.lru_cache(maxsize=64)
def _class_like(
    name: str, module: str, qualname: str, doc: str | None, abilities: tuple[type, ...]
) -> Callable[[Any, Call], Any]:
    """A class that goes by the name of the stream's, as messages of Python's own have it."""
    body = {"__slots__": (), "__module__": module, "__qualname__": qualname, "__doc__": doc}
    return type(name, (*abilities, _Proxy), body)


class _Proxy:
    """Around any stream: attributes, closing, dropping, copying."""

    __slots__ = ("__weakref__", "__wrapped__", "_self_call")

    def __init__(self, stream: Any, call: Call) -> None:
        object.__setattr__(self, "__wrapped__", stream)
        object.__setattr__(self, "_self_call", call)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.__wrapped__.__class__  # not its type: it may be somebody else's proxy

    def __getattr__(self, name: str) -> Any:
        # Without the slots filled (`__new__` alone, by a copier) there is nothing to look in.
        if name in OWN:
            raise AttributeError(name)
        value = getattr(self.__wrapped__, name)
        if name == "close" or name == "aclose":
            return _Closing(value, self._self_call)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__wrapped__, name)

    def __dir__(self) -> list[str]:
        return dir(self.__wrapped__)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __str__(self) -> str:
        return str(self.__wrapped__)

    def __eq__(self, other: object) -> bool:
        return other is self or bool(self.__wrapped__ == other)

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)

    def __copy__(self) -> Any:
        return copy.copy(self.__wrapped__)

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self.__wrapped__, memo)

    def __del__(self) -> None:
        try:
            call = self._self_call
        except AttributeError:
            return  # never initialised
        call.end(Ending.ABANDONED)


OWN = frozenset(_Proxy.__slots__)


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
    """`next(iterator)`, watched. A Router's stream falls back to another deployment inside its own `__next__`, and a custom
    provider's stream may ask other models: what is called there must find its parent."""
    surrounding = enter_call(call)
    try:
        chunk = next(iterator)
    except StopIteration:
        call.see_end(iterator)
        call.end(Ending.COMPLETED)
        raise
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        leave_call(call, surrounding)
    _see(call, chunk)
    return chunk


async def _anext_of(iterator: Any, call: Call) -> Any:
    """The async twin of _next_of."""
    surrounding = enter_call(call)
    try:
        chunk = await iterator.__anext__()
    except StopAsyncIteration:
        call.see_end(iterator)
        call.end(Ending.COMPLETED)
        raise
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        leave_call(call, surrounding)
    _see(call, chunk)
    return chunk


class _Ability:
    """Special methods of a stream. Nothing of its own; the slots are those of _Proxy, which always comes after it."""

    __slots__ = ()
    __wrapped__: Any
    _self_call: Call


class _Iter(_Ability):
    __slots__ = ()

    def __iter__(self) -> Any:
        iterator = iter(self.__wrapped__)
        return self if iterator is self.__wrapped__ else _Steps(iterator, self)


class _Next(_Ability):
    __slots__ = ()

    def __next__(self) -> Any:
        return _next_of(self.__wrapped__, self._self_call)


class _AsyncIter(_Ability):
    __slots__ = ()

    def __aiter__(self) -> Any:
        iterator = self.__wrapped__.__aiter__()
        return self if iterator is self.__wrapped__ else _AsyncSteps(iterator, self)


class _AsyncNext(_Ability):
    __slots__ = ()

    async def __anext__(self) -> Any:
        return await _anext_of(self.__wrapped__, self._self_call)


class _With(_Ability):
    __slots__ = ()

    def __enter__(self) -> Any:
        entered = self.__wrapped__.__enter__()
        return self if entered is self.__wrapped__ else entered

    def __exit__(self, *error: Any) -> Any:
        try:
            return self.__wrapped__.__exit__(*error)
        finally:
            self._self_call.end(Ending.CLOSED)


class _AsyncWith(_Ability):
    __slots__ = ()

    async def __aenter__(self) -> Any:
        entered = await self.__wrapped__.__aenter__()
        return self if entered is self.__wrapped__ else entered

    async def __aexit__(self, *error: Any) -> Any:
        try:
            return await self.__wrapped__.__aexit__(*error)
        finally:
            self._self_call.end(Ending.CLOSED)


class _Bool(_Ability):
    __slots__ = ()

    def __bool__(self) -> bool:
        return bool(self.__wrapped__)


class _Sized(_Ability):
    __slots__ = ()

    def __len__(self) -> int:
        return len(self.__wrapped__)


ABILITIES: tuple[tuple[str, type], ...] = (
    ("__iter__", _Iter),
    ("__next__", _Next),
    ("__aiter__", _AsyncIter),
    ("__anext__", _AsyncNext),
    ("__enter__", _With),
    ("__aenter__", _AsyncWith),
    ("__bool__", _Bool),
    ("__len__", _Sized),
)
"""What a stream may be able to do, by the method that tells, and what gives a proxy the same ability."""


class _Steps:
    """An iterator that `iter(stream)` made anew. It keeps the proxy, whose end would otherwise end the Call."""

    def __init__(self, iterator: Any, proxy: _Iter) -> None:
        self._iterator = iterator
        self._proxy = proxy

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return _next_of(self._iterator, self._proxy._self_call)


class _AsyncSteps:
    """The async twin of _Steps."""

    def __init__(self, iterator: Any, proxy: _AsyncIter) -> None:
        self._iterator = iterator
        self._proxy = proxy

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return await _anext_of(self._iterator, self._proxy._self_call)
