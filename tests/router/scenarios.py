"""A Scenario: a fleet of deployments, how their provider answers, one call of a Router, and the tree that it has to become.

Trees are compared whole. What is no fact of routing (tokens, ids, times) is left to the tests of the providers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import litellm

from tests.conftest import wait_until
from tests.fakes.provider import KEY, TEXT, Behaviour, FakeProvider

VARIANTS = ("sync", "async", "sync stream", "async stream")
SYNC, ASYNC = ("sync", "sync stream"), ("async", "async stream")
PLAIN, STREAM = ("sync", "async"), ("sync stream", "async stream")

ASKED = "Say hello."
API_BASE = "<the provider>"
MILLISECONDS = "<milliseconds>"

SETTINGS = (
    "routing_strategy", "num_retries", "retry_policy", "model_group_retry_policy", "fallbacks", "context_window_fallbacks",
    "content_policy_fallbacks", "default_fallbacks", "max_fallbacks", "timeout", "stream_timeout", "allowed_fails",
    "allowed_fails_policy", "cooldown_time", "retry_after", "enable_pre_call_checks", "enable_tag_filtering",
)  # fmt: skip
"""The Router's settings that a chain's config shows."""
DEFAULTS: dict[str, tuple[object, ...]] = {
    "routing_strategy": ("simple-shuffle",),
    "num_retries": (2, 3),
    "max_fallbacks": (5,),
    "timeout": (600, 6000),
    "allowed_fails": (3,),
    "cooldown_time": (1, 5, 60),
    "retry_after": (0,),
    "enable_pre_call_checks": (False,),
    "enable_tag_filtering": (False,),
}
"""What a Router has where nobody set anything, by release. A chain may show it or not."""

ON_FAILURE = ("error_type", "status_code", "retry_after_s", "ending")
CHAIN_FACTS = frozenset(
    {
        "attempts", "items", "item", "attempted_retries", "attempted_fallbacks", "fallback_path", "winner_attempt",
        "deployment_id", "model_group", "total_delay_ms", "cooldowns", "selection", "stream_ending", *ON_FAILURE,
        # never on a chain
        "attempt", "is_retry", "is_fallback", "fallback_from", "fallback_reason", "fallback_depth", "delay_ms",
        "cooldown_s", "deployment", "deployment_settings", "prompt_tokens", "completion_tokens", "cost",
    }
)  # fmt: skip
ATTEMPT_FACTS = frozenset(
    {
        "attempt", "is_retry", "is_fallback", "fallback_from", "fallback_reason", "fallback_depth",
        "original_model_group", "model_group", "deployment", "deployment_id", "api_base", "provider", "region",
        "deployment_settings", "delay_ms", "cooldown_s", "selection", "stream_ending", *ON_FAILURE,
        # never on an attempt
        "attempts", "items", "item", "attempted_retries", "attempted_fallbacks", "fallback_path", "winner_attempt",
        "total_delay_ms", "cooldowns",
    }
)  # fmt: skip
"""The metadata that is compared; the names that do not belong to an event are looked for, too."""


@dataclass(frozen=True)
class Maybe:
    """A fact that may be there or not, but is this if it is: nobody has said which."""

    value: Any


@dataclass(frozen=True)
class OneOf:
    """One of several values, each as good as the others."""

    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One entry of a Router's model list."""

    group: str
    model: str
    """With its provider, as in `litellm_params`."""
    id: str
    params: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    def entry(self, provider: FakeProvider) -> dict[str, Any]:
        return {
            "model_name": self.group,
            "litellm_params": {"model": self.model, "api_base": provider.base, "api_key": KEY, **self.params},
            "model_info": {"id": self.id, **self.info},
        }

    @property
    def settings(self) -> dict[str, Any]:
        names = ("weight", "order", "rpm", "tpm", "max_parallel_requests")
        return {name: self.params[name] for name in names if name in self.params}


@dataclass(frozen=True, kw_only=True)
class Hop:
    """What led from one group to another."""

    stands_in_for: str
    reason: Any
    depth: int
    asked: str = "g"
    """The group that the application asked for."""


@dataclass(frozen=True, kw_only=True)
class Try:
    """One attempt."""

    at: str | tuple[str, ...]
    """A deployment's id; several if any of them may be picked: then the provider's record says which it was."""
    is_retry: Any = False
    hop: Hop | None = None
    error: str | None = None
    status: int | None = None
    text: str | None = None
    """The words that came, where that is not the whole answer or none."""
    is_broken_stream: bool = False
    """Whether it failed after it had begun to stream."""
    group: str | None = None
    """Where it is not the deployment's own (an alias, a wildcard, a deployment asked for by its model or id)."""
    model: str | None = None
    """Where it is not the deployment's own (a wildcard)."""
    selection: Any = None
    """Where it is not: every deployment of the group could have been picked."""
    cooldown_s: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where LiteLLM itself behaves otherwise, and why."""

    variants: tuple[str, ...]
    reason: str
    changes: Mapping[str, Any]
    """Fields of the Scenario."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is asked of which Router, and what has to come of it."""

    id: str
    fleet: tuple[Deployment, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, tuple[Behaviour, ...]] = field(default_factory=dict)
    always: Mapping[str, Behaviour] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    """Provider models that never answer."""
    stalling: tuple[str, ...] = ()
    """Provider models whose streams never go on after the first word."""
    call: Mapping[str, Any] = field(default_factory=dict)
    """Arguments besides the group `g` and its messages."""
    method: str = "completion"
    """The sync name."""
    earlier: int = 0
    """Calls of the same kind made before, for what they leave in the Router."""
    tries: tuple[Try, ...] = ()
    path: tuple[str, ...] = ()
    """The groups, where there was more than one."""
    winner: int | None = None
    """Number of the attempt that answered; the last one where nothing failed."""
    error: str | None = None
    status: int | None = None
    text: str | None = TEXT
    """What the application got to read."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings as recorded, where they are not just as given."""
    chain: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the chain that do not follow from the others."""
    variants: tuple[str, ...] = VARIANTS
    differences: tuple[Difference, ...] = ()
    since: tuple[int, int] = (1, 55)
    """The first LiteLLM release (minor line) that behaves like this, as seen by running it."""
    lost: tuple[tuple[int, int], tuple[int, int]] | None = None
    """The releases in between, first and last, that did not."""

    def is_for(self, release: tuple[int, ...]) -> bool:
        return release >= self.since and (self.lost is None or not self.lost[0] <= release <= self.lost[1])

    def in_variant(self, variant: str) -> Scenario:
        changes: dict[str, Any] = {}
        for difference in self.differences:
            if variant in difference.variants:
                changes.update(difference.changes)
        return replace(self, **changes)


@dataclass
class Outcome:
    """What the application saw, and the provider."""

    error: Exception | None = None
    text: str | None = None
    requests: tuple[str, ...] = ()
    """Models, in the order in which the provider was asked for them."""
    cooled_down: frozenset[str] = frozenset()
    """By LiteLLM's own books, at the end."""


def run(scenario: Scenario, variant: str, provider: FakeProvider) -> Outcome:
    """The call, as an application makes it."""
    with silenced(scenario, provider):
        router = litellm.Router(
            model_list=[each.entry(provider) for each in scenario.fleet], **{"num_retries": 0, **scenario.settings}
        )
        for _ in range(scenario.earlier):
            ask(router, scenario, variant)
        before = len(provider.calls)
        outcome = ask(router, scenario, variant)
        # Its thread may still be about to note the last one, where a client has given up.
        wait_until(lambda: len(provider.calls) - before >= len(scenario.tries), what="every request at the provider")
        outcome.requests = tuple(call["model"] for call in provider.calls[before:])
        outcome.cooled_down = cooled_down(router, scenario.fleet)
    return outcome


@contextmanager
def silenced(scenario: Scenario, provider: FakeProvider) -> Iterator[None]:
    """The provider's behaviours; at the end it answers those that it kept waiting, so that its threads end."""
    end = threading.Event()
    for model, plan in scenario.plan.items():
        provider.plan(model, *plan)
    for model, behaviour in scenario.always.items():
        provider.always(model, behaviour)
    for model in scenario.silent:
        provider.always(model, Behaviour(silence=end))
    for model in scenario.stalling:
        provider.always(model, Behaviour(hold=end))
    try:
        yield
    finally:
        end.set()


def ask(router: Any, scenario: Scenario, variant: str) -> Outcome:
    arguments: dict[str, Any] = {"model": "g", "messages": [{"role": "user", "content": ASKED}], **scenario.call}
    if "stream" in variant:
        arguments["stream"] = True
    outcome = Outcome()
    words: list[str] = []
    try:
        if variant in ASYNC:
            function = getattr(router, f"a{scenario.method}", None) or getattr(router, scenario.method)
            outcome.text = asyncio.run(_answer(function, arguments, words))
        else:
            result = getattr(router, scenario.method)(**arguments)
            if "stream" in variant:
                for chunk in result:
                    words.append(_word(chunk))  # noqa: PERF401  (what came before a failure counts)
            outcome.text = "".join(words) if "stream" in variant else result.choices[0].message.content
    except Exception as error:
        outcome.error = error
        outcome.text = "".join(words) or None
    return outcome


async def _answer(function: Callable[..., Any], arguments: dict[str, Any], words: list[str]) -> Any:
    result = await function(**arguments)
    if not arguments.get("stream"):
        return result.choices[0].message.content
    async for chunk in result:
        words.append(_word(chunk))  # noqa: PERF401  (as above)
    return "".join(words)


def _word(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


def cooled_down(router: Any, fleet: Sequence[Deployment]) -> frozenset[str]:
    cache = router.health().cooldowns if hasattr(router, "health") else router.cooldown_cache
    active = cache.get_active_cooldowns(model_ids=[each.id for each in fleet], parent_otel_span=None)
    return frozenset(each[0] for each in active)


def assert_litellm_does_so(scenario: Scenario, outcome: Outcome) -> None:
    """That the Scenario is right about LiteLLM, before anything is asked of the recording."""
    error = None if outcome.error is None else type(outcome.error).__name__
    assert (error, outcome.text) == (scenario.error, scenario.text), f"LiteLLM itself: {outcome.error!r}"
    wanted = [_models_of(each, scenario.fleet) for each in scenario.tries]
    assert len(outcome.requests) == len(wanted), f"LiteLLM itself: {outcome.requests}"
    for number, (found, allowed) in enumerate(zip(outcome.requests, wanted, strict=True), 1):
        assert found in allowed, f"LiteLLM itself: request {number} of {outcome.requests}"


def _models_of(each: Try, fleet: Sequence[Deployment]) -> dict[str, Deployment]:
    """Models as the provider is asked for them -> deployments."""
    ids = (each.at,) if isinstance(each.at, str) else each.at
    found = {}
    for deployment in fleet:
        if deployment.id in ids:
            found[(each.model or deployment.model).partition("/")[2]] = deployment
    return found


# Trees


Tree = dict[str, Any]


def trees_of(events: Sequence[Mapping[str, Any]]) -> list[Tree]:
    """All the events of a run, nested, in the order of their starts; what varies is replaced or left out."""
    assert len({event["event_id"] for event in events}) == len(events)
    below: dict[str, list[Mapping[str, Any]]] = {}
    known = {event["event_id"] for event in events}
    for event in sorted(events, key=lambda each: (each["start_time"], each["metadata"].get("attempt") or 0)):
        parent = event["parent_id"]
        assert parent in known or parent == event["session_id"], f"an orphan: {event}"
        below.setdefault(parent, []).append(event)

    def tree_of(event: Mapping[str, Any]) -> Tree:
        children = below.get(event["event_id"], [])
        assert all(child["session_id"] == event["session_id"] for child in children), "one session for all"
        return {**_own(event), "children": [tree_of(child) for child in children]}

    return [tree_of(event) for event in events if event["parent_id"] == event["session_id"]]


def _own(event: Mapping[str, Any]) -> Tree:
    is_chain = event["event_type"] == "chain"
    config, metadata = event["config"], event["metadata"]
    names = ("model", *SETTINGS) if is_chain else ("model",)
    facts = {name: metadata[name] for name in (CHAIN_FACTS if is_chain else ATTEMPT_FACTS) if name in metadata}
    for name in ("delay_ms", "total_delay_ms"):
        if name in facts:
            assert type(facts[name]) in (int, float), f"{name}: {facts[name]!r}"
            assert facts[name] >= 0, f"{name}: {facts[name]!r}"
            facts[name] = MILLISECONDS
    if str(facts.get("api_base", "")).startswith("http://127.0.0.1:"):
        facts["api_base"] = API_BASE
    if isinstance(facts.get("selection"), dict):
        # Sets, in whatever order LiteLLM keeps them.
        facts["selection"] = {
            name: sorted(part) if isinstance(part, list) else part for name, part in facts["selection"].items()
        }
    return {
        "event": f"{event['event_type']} {event['event_name']}",
        "asked": [each["content"] for each in event["inputs"].get("chat_history", ()) if each["role"] == "user"],
        "config": {name: config[name] for name in names if name in config},
        "facts": facts,
        "error": None if event["error"] is None else event["error"].partition(":")[0],
        "content": event["outputs"].get("content") or None,
    }


def expected_tree(scenario: Scenario, variant: str, requests: Sequence[str]) -> Tree:
    """
    :param requests: the provider's record: where LiteLLM may pick any of several deployments, it says which one it was.
    """
    prefix = "a" if variant in ASYNC and not scenario.method.startswith(("schedule_", "abatch")) else ""
    is_stream = "stream" in variant
    asked = [each["content"] for each in scenario.call.get("messages", [{"content": ASKED}])]
    children = [
        attempt_tree(
            scenario, number, each, request,
            name="litellm.acompletion" if variant in ASYNC else "litellm.completion", is_stream=is_stream, asked=asked,
        )
        for number, (each, request) in enumerate(zip(scenario.tries, requests, strict=True), 1)
    ]  # fmt: skip
    retries = [each.is_retry for each in scenario.tries]
    facts: dict[str, Any] = {
        "attempts": len(children),
        "attempted_retries": OneOf((0, 1)) if any(isinstance(each, Maybe) for each in retries) else sum(retries),
        "attempted_fallbacks": max(0, len(scenario.path) - 1),
    }
    if len(scenario.path) > 1:
        facts["fallback_path"] = list(scenario.path)
    if len(children) > 1:
        facts["total_delay_ms"] = MILLISECONDS
    if scenario.error is None:
        winner = scenario.winner or len(children)
        facts["winner_attempt"] = winner
        facts |= {name: children[winner - 1]["facts"][name] for name in ("deployment_id", "model_group")}
    begun = [
        {"deployment_id": child["facts"]["deployment_id"], "seconds": child["facts"]["cooldown_s"]}
        for child in children
        if "cooldown_s" in child["facts"]
    ]
    if begun:
        facts["cooldowns"] = begun
    if is_stream and scenario.text is not None:
        facts["stream_ending"] = "completed" if scenario.error is None else "failed"
    facts |= _of_failure(scenario.error, scenario.status)
    return {
        "event": f"chain litellm.Router.{prefix}{scenario.method}",
        "asked": asked,
        "config": expected_config(scenario),
        "facts": {**facts, **scenario.chain},
        "error": scenario.error,
        "content": scenario.text,
        "children": children,
    }


def attempt_tree(
    scenario: Scenario, number: int, each: Try, request: str, *, name: str, is_stream: bool, asked: list[str]
) -> Tree:
    deployment = _models_of(each, scenario.fleet)[request]
    group = each.group or deployment.group
    model = each.model or deployment.model
    facts: dict[str, Any] = {
        "attempt": number,
        "model_group": group,
        "deployment": model,
        "deployment_id": deployment.id,
        "api_base": API_BASE,
        "provider": model.partition("/")[0],
        "selection": each.selection
        or {"healthy": sorted(one.id for one in scenario.fleet if one.group == deployment.group)},
    }
    if each.is_retry:
        facts["is_retry"] = each.is_retry
    if each.hop is not None:
        facts |= {
            "is_fallback": True,
            "fallback_from": each.hop.stands_in_for,
            "fallback_reason": each.hop.reason,
            "fallback_depth": each.hop.depth,
            "original_model_group": each.hop.asked,
        }
    if deployment.settings:
        facts["deployment_settings"] = deployment.settings
    if number > 1:
        facts["delay_ms"] = MILLISECONDS
    if each.cooldown_s is not None:
        facts["cooldown_s"] = each.cooldown_s
    if is_stream and (each.error is None or each.is_broken_stream):
        facts["stream_ending"] = "completed" if each.error is None else "failed"
    facts |= _of_failure(each.error, each.status)
    return {
        "event": f"model {name}",
        "asked": asked,
        "config": {"model": model},
        "facts": {**facts, **each.facts},
        "error": each.error,
        "content": each.text if each.error is not None or each.text is not None else TEXT,
        "children": [],
    }


def _of_failure(error: str | None, status: int | None) -> dict[str, Any]:
    if error is None:
        return {}
    return {"error_type": error, "ending": "failed", **({} if status is None else {"status_code": status})}


def expected_config(scenario: Scenario) -> dict[str, Any]:
    """What the Router was made with; what the request gives itself wins."""
    given = {"num_retries": 0, **scenario.settings, **scenario.call}
    kept = {name: value for name, value in given.items() if name in SETTINGS}
    return {"model": scenario.call.get("model", "g"), **kept, **scenario.config}


def settled(expected: Any, found: Any) -> Any:
    """What is expected, with every choice that is left open made as it was found."""
    if isinstance(expected, OneOf):
        return found if found in expected.values else expected.values[0]
    if isinstance(expected, Maybe):
        return settled(expected.value, found)
    if isinstance(expected, dict):
        known = found if isinstance(found, dict) else {}
        return {
            name: settled(value, known.get(name))
            for name, value in expected.items()
            if name in known or not isinstance(value, Maybe)
        }
    if isinstance(expected, list):
        others = found if isinstance(found, list) else []
        return [settled(value, others[place] if place < len(others) else None) for place, value in enumerate(expected)]
    return expected


def without_defaults(found: Tree, expected: Tree) -> Tree:
    """Less the settings of a Router that nobody set, and that are as LiteLLM has them then."""
    config = {
        name: value
        for name, value in found["config"].items()
        if name in expected["config"] or not (name in DEFAULTS and value in DEFAULTS[name])
    }
    return {**found, "config": config}


ESSENTIAL = frozenset(
    {
        "attempts", "items", "item", "attempted_retries", "attempted_fallbacks", "winner_attempt", "deployment_id",
        "model_group", "attempt", "is_retry", "is_fallback", "error_type", "stream_ending", "delay_ms",
        "total_delay_ms",
    }
)  # fmt: skip
"""On releases where not every fact is to be had."""


def essentials(tree: Tree) -> Tree:
    return {
        **tree,
        "config": {"model": tree["config"].get("model")},
        "facts": {name: value for name, value in tree["facts"].items() if name in ESSENTIAL},
        "children": [essentials(child) for child in tree["children"]],
    }


def node(
    name: str,
    children: Sequence[Tree] = (),
    *,
    event_type: str = "chain",
    asked: Sequence[str] = (ASKED,),
    config: Mapping[str, Any] | None = None,
    error: str | None = None,
    content: str | None = TEXT,
    **facts: Any,
) -> Tree:
    """One event with those below it, for the trees that no Scenario describes."""
    return {
        "event": f"{event_type} litellm.{name}",
        "asked": list(asked),
        "config": dict(config or {}),
        "facts": facts,
        "error": error,
        "content": content,
        "children": list(children),
    }
