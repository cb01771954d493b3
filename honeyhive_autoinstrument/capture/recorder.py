"""Recorder.start(...) -> Call: the only door for hooks.

It decides whether an invocation is a Call of its own or a step of one already recorded, and freezes its arguments.
Runs in the application's thread; never raises, never waits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from threading import current_thread
from typing import Any

from honeyhive_autoinstrument._faults import guarded, harmless
from honeyhive_autoinstrument.capture.additions import Additions, Handle
from honeyhive_autoinstrument.capture.call import Call, Callee
from honeyhive_autoinstrument.capture.context import MUTE, current_call, last_handle, surrounding_call
from honeyhive_autoinstrument.capture.freeze import freeze, text_size
from honeyhive_autoinstrument.capture.request import is_of_proxy, metadata_of_caller, proxy_facts_of
from honeyhive_autoinstrument.capture.routing import Routing
from honeyhive_autoinstrument.capture.stream import proxy_of
from honeyhive_autoinstrument.capture.surroundings import read_surroundings
from honeyhive_autoinstrument.credentials import is_credential_name
from honeyhive_autoinstrument.events.facts import FileFacts, Operation
from honeyhive_autoinstrument.events.parameters import CREDENTIALS, RECORDED

ASYNC_LEGS = ("acompletion", "aembedding", "aimg_generation", "atext_completion", "is_async", "acreate_interaction")
"""Keywords by which LiteLLM's async functions call their sync twins in an executor (litellm_map.md 1.3), where they are not
simply the twin's name (`aresponses=True`)."""

_FAILED = object()

BASE_SIZE = 6656
"""Bytes that a Call and its response take besides their texts; measured for a chat completion with LiteLLM 1.110.2."""

MAX_ATTEMPTS = 1000
"""Of one Router call. LiteLLM 1.82 to 1.105 can ask a deployment again and again, for seconds (litellm_map.md 3.5)."""

MAX_WAIT_S = 3600.0
"""Between the arrival of a request at the Proxy and its call; longer is a clock that was set."""


class Recorder:
    """Starts Calls and hands ended ones on."""

    def __init__(self, submit: Callable[[Call], object]) -> None:
        self.submit = submit
        self.capture_raw = False
        """Whether requests to providers, and their answers, are kept as they are (CAPTURE_RAW)."""
        self.proxy_of = proxy_of
        self.generation = 0
        """Forks so far. A Call that began before a fork is the parent's to end."""
        self.additions = Additions()
        self.is_unlogged: Callable[[Mapping[str, Any]], bool] = _never
        """Whether LiteLLM is told not to log a call, or its texts, by the call's arguments or for good."""
        self.loses_context = False
        """Whether this LiteLLM runs a Router's sync calls on a thread of its own when a loop is running (before 1.59)."""
        self._scattered: dict[int, Call] = {}
        """Calls whose items run on threads without their context, by the identity of the lists that they were given."""
        self._held: dict[Call, Call] = {}
        """Of a chain that goes on, its failed Attempt that is not handed on yet."""
        self.open_streams: set[Call] = set()
        """Calls whose streams are still being read; they are ended at exit. Holds Calls, never streams."""
        # Our own generator: the application's `random.seed()` must neither repeat our ids nor be disturbed by us.
        self._new_number = random.Random().getrandbits

    def start(
        self,
        callee: Callee,
        instance: Any,
        positional: tuple[str, ...],
        args: Any,
        kwargs: Any,
        on_fault: Callable[[], None],
        is_try: bool = False,
    ) -> Call | None:
        """A Call for this invocation, or None if it is a step of a Call already in flight.

        :param instance: the object of a method call, None for a function.
        :param positional: names of the function's positional parameters, in order.
        :param on_fault: told when a Call began with a Fault, and without its arguments.
        :param is_try: one of the tries that LiteLLM makes inside the surrounding Call, under the same arguments.
        """
        call = self._start(callee, instance, positional, args, kwargs, is_try)
        if call is _FAILED:
            on_fault()
            parent = current_call.get()
            if parent is MUTE or (parent is not None and not parent.callee.is_chain and not parent.returned):
                return None  # most likely a step of that one
            bare = Call(self, callee, parent, self._new_number(128), {}, BASE_SIZE, ())
            self._place(bare, kwargs, None)
            return bare
        return call  # type: ignore[return-value]

    @harmless("start a call", _FAILED)
    def _start(
        self, callee: Callee, instance: Any, positional: tuple[str, ...], args: Any, kwargs: Any, is_try: bool
    ) -> Call | object | None:
        parent = current_call.get()
        if parent is MUTE:
            return None
        if parent is None and self._scattered:
            parent = self._parent_elsewhere(args, kwargs)
        if type(kwargs.get("model_list")) is list and not callee.is_chain:
            callee = callee.as_batch()  # LiteLLM asks all the deployments and takes the first answer
        elif not is_try and _is_repeated(callee, parent, kwargs):
            callee = callee.as_repeated()
        if parent is not None and not is_try and _is_step_of(parent, callee, instance, kwargs):
            return None
        # Neither a request to the Proxy nor a deployment that the Router asks on the side counts what is below it.
        chain = parent if parent is not None and parent.callee.is_chain and not parent.callee.is_request else None
        if chain is not None and _is_experiment(kwargs):
            chain = None
        if chain is not None and chain.routing is not None and chain.attempt_count >= MAX_ATTEMPTS:
            return None

        arguments: dict[str, Any] = {}
        secrets: tuple[tuple[str, Any], ...] = ()
        size = BASE_SIZE
        for name, value in (*zip(positional, args, strict=False), *kwargs.items()) if args else kwargs.items():
            if name in RECORDED:
                kind = type(value)
                if kind is str:
                    size += len(value)
                elif kind is dict or kind is list:
                    if kind is dict and ("model_group" in value or is_of_proxy(value)):
                        value = metadata_of_caller(value)  # without the Router's and the Proxy's own notes
                    value = _copy_of(value)
                    size += text_size(value)
                elif kind is bytes:
                    size += len(value)
                elif value is not None and kind is not int and kind is not float and kind is not bool:
                    value = _copy_of(value)
                    if type(value) is list or type(value) is dict or type(value) is FileFacts:
                        size += text_size([value])
                arguments[name] = value
            elif value is not None and (name in CREDENTIALS or is_credential_name(name)):
                # Not asked whether it is empty: that is code of the value's own.
                secrets = (*secrets, (name, value))

        if parent is None and "proxy_server_request" in kwargs:
            parent = self._request(callee, arguments, size, kwargs)
        if parent is not None and parent.proxy is not None:
            secrets = (*secrets, ("api_key", parent.proxy.raw_key))
        call = Call(self, callee, parent, self._new_number(128), arguments, size, secrets)
        self._place(call, kwargs, kwargs.get("metadata"))
        call.instance_id = id(instance) if instance is not None else 0
        if callee.is_inner:
            call.entered = (callee.attribute,)
        if callee.is_chain and (callee.operation is Operation.BATCH or (instance is not None and self.loses_context)):
            self._scatter(call, args, kwargs)
        api_base = kwargs.get("api_base") or kwargs.get("base_url")
        if type(api_base) is str:
            call.api_base = api_base
        if callee.is_chain and callee.has_attempts:
            call.routing = Routing(instance)
        if chain is not None:
            chain.attempt_count += 1
            if chain.routing is not None:
                self.release(chain)
                call.attempt = chain.routing.begin(call, chain.attempt_count, kwargs, _bucket_of(kwargs))
            else:
                call.item = chain.attempt_count
        return call

    def _request(self, callee: Callee, arguments: dict[str, Any], size: int, kwargs: Mapping[str, Any]) -> Call | None:
        """The request to the Proxy that a call serves; it began when it arrived there."""
        proxy = proxy_facts_of(kwargs)
        if proxy is None:
            return None
        secrets = (("api_key", proxy.raw_key),)
        request = Call(self, callee.as_request(), None, self._new_number(128), arguments, size, secrets)
        request.proxy = proxy
        self._place(request, kwargs, None)
        waited_s = request.started_s - (proxy.arrived_s or request.started_s)
        if 0 < waited_s < MAX_WAIT_S:
            request.started_s -= waited_s
            request.started_ticks -= waited_s
        return request

    def _place(self, call: Call, kwargs: Mapping[str, Any], bucket: Any) -> None:
        """Note whether LiteLLM may log it and, where it is an outermost one, what surrounds it.

        :param bucket: the metadata that it was given.
        """
        with SURROUNDED:
            call.is_unlogged = self.is_unlogged(kwargs)
            if call.parent is None:
                call.handle = handle = Handle(call.number, self.generation)
                last_handle.set(handle)
                call.surroundings = read_surroundings(bucket)

    def handle_here(self) -> Handle | None:
        """Of the Call that surrounds the running code, else of the one that began last in this context."""
        call = surrounding_call()
        if call is None or call.generation != self.generation:
            return last_handle.get()
        if call.handle is None:
            call.handle = Handle(call.number, self.generation)
        return call.handle

    def hold(self, call: Call, parent: Call) -> None:
        """A failed Attempt waits for what its failure leads to: LiteLLM 1.110 sets cooldowns after it."""
        self.release(parent)
        self._held[parent] = call
        if parent.has_ended:
            self.release(parent)

    def release(self, parent: Call) -> None:
        """What was held is handed on: the chain goes on, or has ended."""
        call = self._held.pop(parent, None)
        if call is not None:
            self.submit(call)

    @property
    def routing(self) -> Routing | None:
        """The notes on the chain that surrounds the running code."""
        call = surrounding_call()
        while call is not None and call.routing is None:
            call = call.parent
        return None if call is None else call.routing

    def _scatter(self, call: Call, args: Any, kwargs: dict[str, Any]) -> None:
        given = [value for value in (*args, *kwargs.values()) if type(value) is list]
        call.scattered = tuple(id(each) for value in given for each in (value, *value) if type(each) is list)
        self._scattered.update(dict.fromkeys(call.scattered, call))

    def gather(self, call: Call) -> None:
        """A Call whose items ran elsewhere has ended."""
        for key in call.scattered:
            if self._scattered.get(key) is call:
                del self._scattered[key]

    def _parent_elsewhere(self, args: Any, kwargs: dict[str, Any]) -> Call | None:
        """The Call that this one is an item of: it was given the same list, and LiteLLM's thread pool runs it."""
        if not current_thread().name.startswith("ThreadPoolExecutor"):
            return None
        for value in (*args, *kwargs.values()):
            found = self._scattered.get(id(value)) if type(value) is list else None
            if found is not None and (found.callee.operation is Operation.BATCH or "model_group" in _bucket_of(kwargs)):
                return found
        return None

    @harmless("note a request", None)
    def note_request(self, logging: Any, kwargs: dict[str, Any]) -> None:
        """LiteLLM is about to ask a provider.

        :param logging: LiteLLM's logging object of the call.
        :param kwargs: what LiteLLM tells it: `input`, `api_key`, `additional_args` (litellm_map.md 6).
        """
        call = surrounding_call()
        if call is None or call.callee.is_chain:
            return
        call.request_count += 1
        call.logging = logging
        if call.call_id is None:
            call.call_id = getattr(logging, "litellm_call_id", None)
        more = kwargs.get("additional_args")
        more = more if type(more) is dict else {}
        # Keys that LiteLLM has from elsewhere: the environment, a secret manager, a token's provider.
        call.secrets = (*call.secrets, ("api_key", kwargs.get("api_key")), ("headers", more.get("headers")))
        if self.capture_raw and more:
            call.raw_request = (str(more.get("api_base") or ""), freeze(more.get("complete_input_dict")))

    @harmless("note a provider's answer", None)
    def note_answer(self, kwargs: dict[str, Any]) -> None:
        """LiteLLM has a provider's answer; on some paths a coroutine that will bring one, which says nothing."""
        call = surrounding_call()
        if not self.capture_raw or call is None or call.callee.is_chain:
            return
        answer = kwargs.get("original_response")
        if isinstance(answer, str | bytes | dict):
            call.raw_response = freeze(answer)

    def end_open_streams(self, ending: Any) -> None:
        """The process ends: every stream still open ends its Call now, and nothing waits any more."""
        for call in list(self.open_streams):
            call.end(ending)
        for parent in list(self._held):
            self.release(parent)

    def after_fork(self) -> None:
        """In the child: streams that were open belong to the parent; ids must not repeat the parent's."""
        self.open_streams = set()
        self._scattered = {}
        self._held = {}
        self._new_number = random.Random().getrandbits
        self.additions = Additions()
        self.generation += 1


SURROUNDED = guarded("note what surrounds a call")  # one for all: making one takes as long as what it guards


def _never(kwargs: Mapping[str, Any]) -> bool:
    return False


def _is_repeated(callee: Callee, parent: Call | None, kwargs: Mapping[str, Any]) -> bool:
    """Whether LiteLLM may repeat this call itself, at the same model or at others. A Router's Attempt is not repeated."""
    if not callee.can_repeat or kwargs.get("acompletion") is True:
        return False
    if parent is not None and parent.callee.is_chain and not parent.callee.is_repeated:
        return False
    retries = kwargs.get("num_retries")
    return bool(kwargs.get("fallbacks") or kwargs.get("context_window_fallback_dict")) or (
        type(retries) is int and retries > 0
    )


def _is_step_of(call: Call, callee: Callee, instance: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an invocation inside `call` is a further step of the same operation, not a call with a life of its own.

    Steps share LiteLLM's logging object or call id, carry an async leg's flag, or are the inner end of a public
    function (litellm_map.md 1.5). Whatever else runs inside a Call is a child of it.
    """
    if call.returned or call.callee.is_request:
        return False
    if call.callee.is_repeated:
        # The way down to LiteLLM's own repetition, under the same arguments; its tries have fewer of them.
        return callee.is_chain and callee.operation is call.callee.operation
    if call.callee.is_chain:
        # A Router method that leads to another one, or a batch function to another one. A Router's batch leads to calls
        # that are chains themselves.
        return (
            callee.is_chain
            and call.callee.has_attempts is callee.has_attempts
            and (callee.has_attempts or callee.operation is call.callee.operation)
            and call.instance_id == (id(instance) if instance is not None else 0)
        )
    if kwargs.get("litellm_logging_obj") is not None:
        return True
    if callee.is_chain:
        return False
    for flag in ASYNC_LEGS:
        if kwargs.get(flag) is True:
            return True
    if kwargs.get("a" + callee.attribute) is True:
        return True
    if (
        (callee.is_inner or call.callee.passes_on)
        and callee.operation is call.callee.operation
        and callee.attribute not in call.entered
    ):
        call.entered = (*call.entered, callee.attribute)
        return True
    call_id = kwargs.get("litellm_call_id")
    if call_id is None:
        return False
    if call.call_id is None and callee.operation is not call.callee.operation:
        # A bridge from Responses to chat: LiteLLM hands down the id that it made, and in 1.77 nothing else.
        call.call_id = call_id
    return bool(call.call_id == call_id)


@harmless("copy an argument", "[cannot be read]")
def _copy_of(value: Any) -> Any:
    return freeze(value)


def _is_experiment(kwargs: dict[str, Any]) -> bool:
    """Whether the Router asks a further deployment on the side (`silent_model`); that is no try to answer the call."""
    return bool(_bucket_of(kwargs).get("is_silent_experiment"))


def _bucket_of(kwargs: dict[str, Any]) -> dict[str, Any]:
    bucket = kwargs.get("metadata") or kwargs.get("litellm_metadata")
    return bucket if type(bucket) is dict else {}
