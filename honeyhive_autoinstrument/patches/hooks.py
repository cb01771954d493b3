"""One Hook per Shape: start, call, end. Between our two steps the application's call runs untouched.

The wrapped function is called exactly once, outside any guard of ours; its result or exception goes on as it is.
"""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable
from typing import Any

import wrapt

from honeyhive_autoinstrument._faults import faults, guarded
from honeyhive_autoinstrument.capture.context import enter_call, leave_call, surrounding_call
from honeyhive_autoinstrument.capture.recorder import Recorder
from honeyhive_autoinstrument.patches.targets import Shape, Target

# Generic in wrapt's stubs since 2, not when it runs.
FunctionWrapper: Any = wrapt.FunctionWrapper
BoundFunctionWrapper: Any = wrapt.BoundFunctionWrapper

STARTING = guarded("start a call")
ENDING = guarded("end a call")
"""They hold nothing, and serve every Call."""

MAX_FAULTS = 5
"""A Hook that failed this often in a row takes itself out of the way."""


class PatchedMethod(BoundFunctionWrapper):  # type: ignore[misc]
    """What `router.acompletion` is: a Patched bound to its object, and `Router.acompletion`: one bound to none.

    Copies and pickles as a method and as a function do.
    """

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        if self._self_instance is None:
            return self
        return getattr(copy.deepcopy(self._self_instance, memo), self.__name__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        owner = self._self_instance
        if owner is None:
            path = self.__qualname__.split(".")[:-1]
            owner = functools.reduce(getattr, path, sys.modules[self.__module__])
        return getattr, (owner, self.__name__)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


class Patched(FunctionWrapper):  # type: ignore[misc]
    """The wrapper put in a function's place. Looks like the function to `inspect`, pickles by name, copies as itself."""

    __bound_function_wrapper__ = PatchedMethod

    def __reduce_ex__(self, protocol: Any) -> Any:
        # By qualified name, as the bare function does; FunctionWrapper alone refuses.
        return self.__qualname__

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


class Hook:
    """What runs around one Target."""

    is_try = False

    def __init__(self, target: Target, positional: tuple[str, ...], recorder: Recorder) -> None:
        self.target = target
        self.positional = positional
        self._recorder = recorder
        self.is_on = True
        self._faults = 0

    @property
    def wrapper(self) -> Callable[..., Any]:
        """The function that wrapt calls."""
        return self.run if self.target.shape is Shape.SYNC else self.run_async

    def run(self, wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        """Around a function that returns its result."""
        call = self._start(instance, args, kwargs)
        if call is None:
            return wrapped(*args, **kwargs)
        surrounding = enter_call(call)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:  # cancellation and Ctrl-C are endings too
            leave_call(call, surrounding)
            with ENDING:
                call.fail(error)
            raise
        leave_call(call, surrounding)
        with ENDING:
            return call.succeed(result)
        return result

    def run_async(self, wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        """Around a function that returns a coroutine."""
        coroutine: Any = self._await(wrapped, instance, args, kwargs)
        # "coroutine 'acompletion' was never awaited" has to name the function that the application called.
        # A partial or another callable object put in LiteLLM's place before us has no name.
        name, qualified = getattr(wrapped, "__name__", None), getattr(wrapped, "__qualname__", None)
        if type(name) is str and type(qualified) is str:
            coroutine.__name__, coroutine.__qualname__ = name, qualified
        return coroutine

    async def _await(self, wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        # Everything happens when the coroutine first runs: LiteLLM, too, reads its arguments then, and a context
        # variable set any earlier would be set for the code that made the coroutine, not for the one that awaits it.
        call = self._start(instance, args, kwargs)
        if call is None:
            return await wrapped(*args, **kwargs)
        surrounding = enter_call(call)
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            leave_call(call, surrounding)
            with ENDING:
                call.fail(error)
            raise
        leave_call(call, surrounding)
        with ENDING:
            return call.succeed(result)
        return result

    def _start(self, instance: Any, args: Any, kwargs: Any) -> Any:
        if not self.is_on:
            return None
        before = self._faults
        with STARTING:
            call = self._recorder.start(self.target, instance, self.positional, args, kwargs, self._failed, self.is_try)
            if before and call is not None and self._faults == before:
                self._faults = 0
            return call
        return None

    def _failed(self) -> None:
        self._faults += 1
        if self._faults == MAX_FAULTS:
            self.is_on = False
            faults.say(
                f"hook: {self.target.event_name}",
                "HoneyHive recording: %s failed to be recorded %d times in a row and is no longer watched here. The"
                " program is not affected. Please report this with the output of `honeyhive-instrument --check`.",
                self.target.event_name,
                MAX_FAULTS,
            )


class TryHook(Hook):
    """What runs around the function inside a Target, which LiteLLM calls once for each try when it repeats a call itself
    (`num_retries=`, `context_window_fallback_dict=`; litellm_map.md 1.2). Tries at the models of `fallbacks=` are calls of
    the Target, and recorded as such."""

    is_try = True

    def _start(self, instance: Any, args: Any, kwargs: Any) -> Any:
        call = surrounding_call()
        if call is None or not call.callee.is_repeated or kwargs.get("fallbacks"):
            return None
        return super()._start(instance, args, kwargs)


def carry_context(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """Around `run_async_function(function, ...)`: the coroutine finds the surrounding Call on whatever thread it runs."""
    call = surrounding_call()
    if call is None or not args:
        return wrapped(*args, **kwargs)
    function = args[0]

    # functools.wraps: the Router chooses a metadata bucket by the function's name.
    @functools.wraps(function)
    async def in_call(*inner_args: Any, **inner_kwargs: Any) -> Any:
        surrounding = enter_call(call)
        try:
            return await function(*inner_args, **inner_kwargs)
        finally:
            leave_call(call, surrounding)

    return wrapped(in_call, *args[1:], **kwargs)


class ServedMethod:
    """A Router method that is no attribute of its class: made for each instance by its `__init__` (up to 1.109), or served
    by `__getattr__` (from 1.110 on).

    A data descriptor, so that it comes before the instance's own attribute: routers that exist already are recorded, too.
    """

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._name = hook.target.attribute

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        try:
            method = vars(instance)[self._name]
        except (KeyError, TypeError):
            serve = getattr(owner, "__getattr__", None)
            if serve is None:
                raise AttributeError(f"{owner.__name__!r} object has no attribute {self._name!r}") from None
            method = serve(instance, self._name)
        hook = self._hook

        def around(wrapped: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
            return hook.wrapper(wrapped, instance, args, kwargs)

        return Patched(method, around)

    def __set__(self, instance: Any, value: Any) -> None:
        # What was read through us and is put back (a test's stub being taken out again) is stored bare.
        instance.__dict__[self._name] = value.__wrapped__ if type(value) is Patched else value

    def __delete__(self, instance: Any) -> None:
        try:
            del instance.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None


def note_request(recorder: Recorder) -> Callable[..., Any]:
    """Around `Logging.pre_call`."""

    def wrapper(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        recorder.note_request(instance, kwargs)
        return wrapped(*args, **kwargs)

    return wrapper


def note_answer(recorder: Recorder) -> Callable[..., Any]:
    """Around `Logging.post_call`."""

    def wrapper(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        recorder.note_answer(kwargs)
        return wrapped(*args, **kwargs)

    return wrapper
