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
from honeyhive_autoinstrument.capture.routing import Routing

Wrapper = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A function to look at, and what to note of it."""

    module: str
    name: str
    """`function`, or `Class.method`; `Router.method` where the Router's methods are (from 1.109 on not in its own class)."""
    before: Callable[[Routing, Any, Any, dict[str, Any]], Any] | None = None
    """(notes, instance, args, kwargs), before LiteLLM's own runs; what it gives is handed to `after`."""
    after: Callable[[Routing, Any, Any, Any, Any], None] | None = None
    """(notes, instance, args, what `before` gave, answer), after it; the answer is None if it raised."""

    def wrapper(self, recorder: Recorder) -> Wrapper:
        """What wrapt calls. Outside a chain of Attempts it only passes the call on."""

        @harmless("note what a Router is about to decide", None)
        def note_before(routing: Routing, instance: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            return self.before(routing, instance, args, kwargs) if self.before is not None else None

        @harmless("note what a Router decided", None)
        def note_after(routing: Routing, instance: Any, args: Any, given: Any, answer: Any) -> None:
            if self.after is not None:
                self.after(routing, instance, args, given, answer)

        async def awaited(pending: Any, *noted: Any) -> Any:
            answer = None
            try:
                answer = await pending
            finally:
                note_after(*noted, answer)
            return answer

        def run(wrapped: Wrapper, instance: Any, args: Any, kwargs: Any) -> Any:
            routing = recorder.routing
            if routing is None:
                return wrapped(*args, **kwargs)
            noted = routing, instance, args, note_before(routing, instance, args, kwargs)
            if self.after is None:
                return wrapped(*args, **kwargs)
            answer = None
            try:
                answer = wrapped(*args, **kwargs)
            finally:
                if not inspect.iscoroutine(answer):
                    note_after(*noted, answer)
            return awaited(answer, *noted) if inspect.iscoroutine(answer) else answer

        return run


def turn_to_group(routing: Routing, instance: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """`async_function_with_fallbacks(*args, model=group, ...)`: once for each group that is tried."""
    routing.enter_group(kwargs.get("model"))


def fall_back(routing: Routing, instance: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """`run_async_fallback(original_model_group=, original_exception=, ...)`: once for each group that is given up."""
    routing.hop(kwargs.get("original_model_group"), type(kwargs.get("original_exception")).__name__)


def leave_out_cooled_down(routing: Routing, instance: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """`_filter_cooldown_deployments(healthy_deployments, cooldown_deployments)`: the first step of a pick."""
    given = _by_name(("healthy_deployments", "cooldown_deployments"), args, kwargs)
    routing.start_pick()
    routing.cooled_down = list(given["cooldown_deployments"] or ())
    routing.pick(ids_of(given["healthy_deployments"]))


def cool_down(routing: Routing, instance: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """`CooldownCache.add_deployment_to_cooldown(model_id, original_exception, exception_status, cooldown_time)`."""
    given = _by_name(("model_id", "original_exception", "exception_status", "cooldown_time"), args, kwargs)
    seconds = given.get("cooldown_time")
    routing.cool_down(given.get("model_id"), instance.default_cooldown_time if seconds is None else seconds)


def candidates_of(position: int) -> Callable[[Routing, Any, Any, dict[str, Any]], list[str]]:
    """Of a check: the ids in its parameter `healthy_deployments`, at that position where it is not given by name."""

    def read(routing: Routing, instance: Any, args: Any, kwargs: dict[str, Any]) -> list[str]:
        return ids_of(kwargs.get("healthy_deployments", args[position] if len(args) > position else ()))

    return read


def leave_out(reason: str) -> Callable[[Routing, Any, Any, Any, Any], None]:
    """After a check: it returns the deployments that pass, or raises where none does."""

    def note(routing: Routing, instance: Any, args: Any, before: list[str] | None, kept: Any) -> None:
        routing.exclude(before or (), ids_of(kept), reason)

    return note


def hear_events(routing: Routing, driver: Any, args: Any, given: Any, answer: Any) -> None:
    """After `_Driver.take_events(events)` of 1.110, which notes the errors that its levels ended with: what the native core
    has decided, as dictionaries."""
    for event in args[0] if isinstance(args[0], list | tuple) else ():
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
            routing.cool_down(event.get("deployment_id"), event.get("cooldown_time"))


def _error_of_level(driver: Any, level: Any) -> str | None:
    error = vars(driver)["_level_errors"].get(level) or vars(driver)["_last_error"]
    return None if error is None else type(error).__name__


def see_candidates(routing: Routing, instance: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """`_Driver.attempt(step)` of 1.110: a deployment was picked, out of `candidate_ids`."""
    routing.pick(args[0].get("candidate_ids") or ())


def see_cooldowns(routing: Routing, core: Any, args: Any, given: Any, found: Any) -> None:
    """After `RustCore._answer_cache(step)` of 1.110: the core has read which deployments are in cooldown."""
    if args[0].get("op") == "batch_get" and found is not None:
        pairs = zip(args[0].get("keys") or (), found, strict=False)
        ids = [COOLDOWN_KEY.match(key) for key, value in pairs if value is not None]
        routing.cooled_down = [each[1] for each in ids if each is not None]


COOLDOWN_KEY = re.compile(r"deployment:(.+):cooldown$")


def see_checks(routing: Routing, core: Any, args: Any, given: Any, answer: Any) -> None:
    """After `RustCore._answer_select(step, ...)` of 1.110: the core has asked what only Python knows of its candidates."""
    step = args[0]
    candidates = list(step.get("candidates") or ())
    if step.get("stage") == "pre_call" and isinstance(answer, dict):
        length = answer.get("input_tokens")
        limits = {each: facts.get("max_input_tokens") for each, facts in answer.get("deployments", {}).items()}
        fit = [each for each in candidates if length is None or limits.get(each) is None or length <= limits[each]]
        routing.exclude(candidates, fit, PRE_CALL_CHECK)
    elif step.get("stage") in FILTERS and isinstance(answer, list):
        routing.exclude(candidates, answer, PRE_CALL_CHECK)


FILTERS = frozenset({"text_only", "route_incapable", "media_refusing", "embedding_batch"})
"""Stages of a pick that answer with those of the candidates which can serve the request."""


def _by_name(names: tuple[str, ...], args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def ids_of(deployments: Any) -> list[str]:
    """The ids of deployments, LiteLLM's dictionaries; a single one instead of a list was asked for by name."""
    several = [deployments] if isinstance(deployments, dict) else deployments or ()
    return [each["model_info"]["id"] for each in several if type(each.get("model_info", {}).get("id")) is str]


PRE_CALL_CHECK = "pre-call check"
TAGS = "tags"

HANDLERS = "litellm.router_utils.fallback_event_handlers"
COOLDOWNS = "litellm.router_utils.cooldown_cache"
TAG_ROUTING = "litellm.router_strategy.tag_based_routing"
CORE = "litellm.router_rust.core"

DECISIONS = (
    Decision(module="litellm", name="Router.async_function_with_fallbacks", before=turn_to_group),
    Decision(module=HANDLERS, name="run_async_fallback", before=fall_back),
    Decision(module="litellm", name="Router._filter_cooldown_deployments", before=leave_out_cooled_down),
    Decision(
        module="litellm", name="Router._pre_call_checks", before=candidates_of(1), after=leave_out(PRE_CALL_CHECK)
    ),
    Decision(module=TAG_ROUTING, name="get_deployments_for_tag", before=candidates_of(2), after=leave_out(TAGS)),
    Decision(module=COOLDOWNS, name="CooldownCache.add_deployment_to_cooldown", before=cool_down),
    Decision(module=CORE, name="_Driver.take_events", after=hear_events),
    Decision(module=CORE, name="_Driver.attempt", before=see_candidates),
    Decision(module=CORE, name="_Driver.attempt_sync", before=see_candidates),
    Decision(module=CORE, name="RustCore._answer_cache", after=see_cooldowns),
    Decision(module=CORE, name="RustCore._answer_cache_sync", after=see_cooldowns),
    Decision(module=CORE, name="RustCore._answer_select", after=see_checks),
    Decision(module=CORE, name="RustCore._answer_select_sync", after=see_checks),
)
"""Those that a release lacks are passed over."""
