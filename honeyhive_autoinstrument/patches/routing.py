"""What a Router tells of its decisions, seen at the functions that make them. Between our notes LiteLLM's own run untouched.

Up to 1.109 these are methods of the Router and functions of its modules, the same in all releases (litellm_map.md 3.1, 3.6);
from 1.110 on the decisions are made in native code, which tells them as events to a driver in Python.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from honeyhive_autoinstrument._faults import harmless
from honeyhive_autoinstrument.capture.recorder import Recorder

Wrapper = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A function to look at, and what to note of it."""

    module: str
    name: str
    """`function`, or `Class.method`; `Router.method` where the Router's methods are (from 1.109 on not in its own class)."""
    wrapper: Callable[[Recorder], Wrapper]


def turn_to_group(recorder: Recorder) -> Wrapper:
    """`async_function_with_fallbacks(*args, model=group, ...)`: once for each group that is tried."""

    @harmless("note a model group", None)
    def note(kwargs: dict[str, Any]) -> None:
        routing = recorder.routing
        if routing is not None:
            routing.enter_group(kwargs.get("model"))

    def wrapper(wrapped: Wrapper, instance: Any, args: Any, kwargs: Any) -> Any:
        note(kwargs)
        return wrapped(*args, **kwargs)

    return wrapper


def fall_back(recorder: Recorder) -> Wrapper:
    """`run_async_fallback(original_model_group=, original_exception=, ...)`: once for each group that is given up."""

    @harmless("note a fallback", None)
    def note(kwargs: dict[str, Any]) -> None:
        routing = recorder.routing
        if routing is not None:
            routing.hop(kwargs.get("original_model_group"), type(kwargs.get("original_exception")).__name__)

    def wrapper(wrapped: Wrapper, instance: Any, args: Any, kwargs: Any) -> Any:
        note(kwargs)
        return wrapped(*args, **kwargs)

    return wrapper


def leave_out_cooled_down(recorder: Recorder) -> Wrapper:
    """`_filter_cooldown_deployments(healthy_deployments, cooldown_deployments)`: the first step of a pick."""

    @harmless("note deployments in cooldown", None)
    def note(args: Any, kwargs: dict[str, Any]) -> None:
        routing = recorder.routing
        if routing is not None:
            given = _by_name(("healthy_deployments", "cooldown_deployments"), args, kwargs)
            routing.start_pick()
            routing.cooled_down = list(given["cooldown_deployments"] or ())
            routing.pick(ids_of(given["healthy_deployments"]))

    def wrapper(wrapped: Wrapper, instance: Any, args: Any, kwargs: Any) -> Any:
        note(args, kwargs)
        return wrapped(*args, **kwargs)

    return wrapper


def check(reason: str, position: int) -> Callable[[Recorder], Wrapper]:
    """A function that takes `healthy_deployments` and returns those that pass.

    :param position: of that parameter, where it is not given by name.
    """

    def of(recorder: Recorder) -> Wrapper:
        @harmless("read deployments", None)
        def given(args: Any, kwargs: dict[str, Any]) -> list[str] | None:
            if recorder.routing is None:
                return None
            return ids_of(kwargs.get("healthy_deployments", args[position] if len(args) > position else ()))

        @harmless("note excluded deployments", None)
        def note(before: list[str] | None, kept: Any) -> None:
            routing = recorder.routing
            if routing is not None and before:
                routing.exclude(before, ids_of(kept), reason)

        async def awaited(pending: Any, before: list[str] | None) -> Any:
            kept: Any = ()  # none, if it raises
            try:
                kept = await pending
            finally:
                note(before, kept)
            return kept

        def wrapper(wrapped: Wrapper, instance: Any, args: Any, kwargs: Any) -> Any:
            before = given(args, kwargs)
            kept: Any = ()
            try:
                kept = wrapped(*args, **kwargs)
            finally:
                if not inspect.iscoroutine(kept):
                    note(before, kept)
            return awaited(kept, before) if inspect.iscoroutine(kept) else kept

        return wrapper

    return of


def cool_down(recorder: Recorder) -> Wrapper:
    """`CooldownCache.add_deployment_to_cooldown(model_id, original_exception, exception_status, cooldown_time)`."""

    @harmless("note a cooldown", None)
    def note(cache: Any, args: Any, kwargs: dict[str, Any]) -> None:
        names = ("model_id", "original_exception", "exception_status", "cooldown_time")
        given = _by_name(names, args, kwargs)
        seconds = given.get("cooldown_time")
        if seconds is None:
            seconds = getattr(cache, "default_cooldown_time", None)
        recorder.note_cooldown(given.get("model_id"), seconds)

    def wrapper(wrapped: Wrapper, instance: Any, args: Any, kwargs: Any) -> Any:
        note(instance, args, kwargs)
        return wrapped(*args, **kwargs)

    return wrapper


def hear_events(recorder: Recorder) -> Wrapper:
    """`_Driver.take_events(events)` of 1.110: what the native core has decided, as dictionaries."""

    @harmless("note a Router's events", None)
    def note(driver: Any, events: Any) -> None:
        routing = recorder.routing
        if routing is None:
            return
        for event in events if isinstance(events, list | tuple) else ():
            kind = event.get("kind")
            if kind == "pick_started":
                routing.enter_group(event.get("model"))
                routing.start_pick()
            elif kind == "pick_failed":
                routing.pick(event.get("error_request_ids") or ())
            elif kind == "fallback":
                routing.hop(event.get("from"), _error_of_level(driver, event.get("parent")))
                routing.enter_group(event.get("to"))
            elif kind == "cooldown_set":
                recorder.note_cooldown(event.get("deployment_id"), event.get("cooldown_time"))

    def wrapper(wrapped: Wrapper, instance: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)  # first: the driver notes the errors that its levels ended with
        note(instance, args[0] if args else None)
        return result

    return wrapper


def _error_of_level(driver: Any, level: Any) -> str | None:
    error = vars(driver)["_level_errors"].get(level) or vars(driver)["_last_error"]
    return None if error is None else type(error).__name__


def see_candidates(recorder: Recorder) -> Wrapper:
    """`_Driver.attempt(step)` of 1.110: a deployment was picked, out of `candidate_ids`."""

    @harmless("note a pick", None)
    def note(step: Any) -> None:
        routing = recorder.routing
        if routing is not None:
            routing.pick(step.get("candidate_ids") or ())

    def wrapper(wrapped: Wrapper, instance: Any, args: Any, kwargs: Any) -> Any:
        note(args[0] if args else {})
        return wrapped(*args, **kwargs)

    return wrapper


def see_cooldowns(recorder: Recorder) -> Wrapper:
    """`RustCore._answer_cache(step)` of 1.110: the core reads which deployments are in cooldown."""

    @harmless("note deployments in cooldown", None)
    def note(step: Any, found: Any) -> None:
        routing = recorder.routing
        if routing is not None and step.get("op") == "batch_get":
            pairs = zip(step.get("keys") or (), found, strict=False)
            ids = [COOLDOWN_KEY.match(key) for key, value in pairs if value is not None]
            routing.cooled_down = [each[1] for each in ids if each is not None]

    return _seeing(note)


COOLDOWN_KEY = re.compile(r"deployment:(.+):cooldown$")


def see_checks(recorder: Recorder) -> Wrapper:
    """`RustCore._answer_select(step, ...)` of 1.110: the core asks for what only Python knows of its candidates."""

    @harmless("note excluded deployments", None)
    def note(step: Any, answer: Any) -> None:
        routing = recorder.routing
        if routing is None:
            return
        candidates = list(step.get("candidates") or ())
        if step.get("stage") == "pre_call" and isinstance(answer, dict):
            length = answer.get("input_tokens")
            limits = {each: facts.get("max_input_tokens") for each, facts in answer.get("deployments", {}).items()}
            fit = [each for each in candidates if length is None or limits.get(each) is None or length <= limits[each]]
            routing.exclude(candidates, fit, PRE_CALL_CHECK)
        elif step.get("stage") in FILTERS and isinstance(answer, list):
            routing.exclude(candidates, answer, PRE_CALL_CHECK)

    return _seeing(note)


FILTERS = frozenset({"text_only", "route_incapable", "media_refusing", "embedding_batch"})
"""Stages of a pick that answer with those of the candidates which can serve the request."""


def _seeing(note: Callable[[Any, Any], None]) -> Wrapper:
    """Around a method of the core's that answers a step, at once or as a coroutine."""

    async def awaited(pending: Any, step: Any) -> Any:
        answer = await pending
        note(step, answer)
        return answer

    def wrapper(wrapped: Wrapper, instance: Any, args: Any, kwargs: Any) -> Any:
        answer = wrapped(*args, **kwargs)
        if not args:
            return answer
        if inspect.iscoroutine(answer):
            return awaited(answer, args[0])
        note(args[0], answer)
        return answer

    return wrapper


def _by_name(names: tuple[str, ...], args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def ids_of(deployments: Any) -> list[str]:
    """The ids of deployments, LiteLLM's dictionaries; a single one instead of a list was asked for by name."""
    several = [deployments] if isinstance(deployments, dict) else deployments or ()
    return [each["model_info"]["id"] for each in several if type(each.get("model_info", {}).get("id")) is str]


PRE_CALL_CHECK = "pre-call check"
TAGS = "tags"

HANDLERS = "litellm.router_utils.fallback_event_handlers"
CORE = "litellm.router_rust.core"

DECISIONS = (
    Decision(module="litellm", name="Router.async_function_with_fallbacks", wrapper=turn_to_group),
    Decision(module=HANDLERS, name="run_async_fallback", wrapper=fall_back),
    Decision(module="litellm", name="Router._filter_cooldown_deployments", wrapper=leave_out_cooled_down),
    Decision(module="litellm", name="Router._pre_call_checks", wrapper=check(PRE_CALL_CHECK, 1)),
    Decision(
        module="litellm.router_strategy.tag_based_routing", name="get_deployments_for_tag", wrapper=check(TAGS, 2)
    ),
    Decision(
        module="litellm.router_utils.cooldown_cache", name="CooldownCache.add_deployment_to_cooldown", wrapper=cool_down
    ),
    Decision(module=CORE, name="_Driver.take_events", wrapper=hear_events),
    Decision(module=CORE, name="_Driver.attempt", wrapper=see_candidates),
    Decision(module=CORE, name="_Driver.attempt_sync", wrapper=see_candidates),
    Decision(module=CORE, name="RustCore._answer_cache", wrapper=see_cooldowns),
    Decision(module=CORE, name="RustCore._answer_cache_sync", wrapper=see_cooldowns),
    Decision(module=CORE, name="RustCore._answer_select", wrapper=see_checks),
    Decision(module=CORE, name="RustCore._answer_select_sync", wrapper=see_checks),
)
"""Those that a release lacks are passed over."""
