"""What a Router does to answer a call is what its tree of events shows: whole trees, sync and async, plain and streamed."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import litellm
import pytest

from tests.capture.calls import LITELLM_VERSION
from tests.conftest import Recording, wait_until
from tests.fakes.provider import TEXT, Behaviour, FakeProvider
from tests.providers.case import IS_NEWEST, differences
from tests.router.scenarios import (
    API_BASE,
    ASKED,
    ASYNC,
    MILLISECONDS,
    STREAM,
    SYNC,
    Deployment,
    Difference,
    Hop,
    Maybe,
    OneOf,
    Scenario,
    Tree,
    Try,
    assert_litellm_does_so,
    essentials,
    expected_tree,
    node,
    run,
    settled,
    trees_of,
    without_defaults,
)

SERVER_ERROR = "InternalServerError" if LITELLM_VERSION >= (1, 72) else "APIError"
"""What LiteLLM makes of a 500."""
UNWELL = Behaviour(status=500)
BUSY = Behaviour(status=429)
TOO_LONG = Behaviour(status=400, special="context_length_exceeded")
REFUSED = Behaviour(
    status=400, message="Invalid prompt: your prompt was flagged as potentially violating our usage policy."
)
FAILED: dict[str, Any] = {"error": SERVER_ERROR, "status": 500}
LIMITED: dict[str, Any] = {"error": "RateLimitError", "status": 429}
BROKEN = "MidStreamFallbackError"
BROKE_OFF = OneOf((BROKEN, "APIConnectionError"))
"""A stream breaks with an error of LiteLLM's that holds the provider's; either may be called what led to the hop."""

ONE = (Deployment(group="g", model="openai/one", id="d0"),)
TWO = (*ONE, Deployment(group="h", model="openai/two", id="d1"))
THREE = (*TWO, Deployment(group="i", model="openai/three", id="d2"))
HEAVY, LIGHT = 1_000_000_000, 1
PAIR = (
    # Simple shuffle with weights like these takes the first, as long as it may (with a zero LiteLLM up to 1.74 divides by
    # it); and with a second deployment there LiteLLM tries again at once.
    Deployment(group="g", model="openai/one", id="d0", params={"weight": HEAVY}),
    Deployment(group="g", model="openai/two", id="d1", params={"weight": LIGHT}),
)
SAME = (Deployment(group="g", model="openai/one", id="d0"), Deployment(group="g", model="openai/two", id="d1"))
TO_H = Hop(stands_in_for="g", reason=SERVER_ERROR, depth=1)
NEXT_OF_LIST = Hop(stands_in_for="h", reason="RateLimitError", depth=2)
"""Of `g: [h, i]`. LiteLLM's native core says of the second that it stands in for the first, and counts it as one deeper."""
G_TO_H = [{"g": ["h"]}]
ANY = ("d0", "d1")
CALM = {"disable_cooldowns": True}
LONG = [{"role": "user", "content": "word " * 50}]
NOBODY_LEFT: dict[str, Any] = {"error": "RouterRateLimitError", "status": 429, "text": None, "tries": ()}

PLAIN_SCENARIOS = (
    Scenario(id="success", fleet=ONE, tries=(Try(at="d0"),)),
    Scenario(
        id="a deployment with settings",
        fleet=(
            Deployment(
                group="g",
                model="openai/one",
                id="d0",
                params={
                    "weight": 2,
                    "order": 1,
                    "rpm": 50,
                    "tpm": 10_000,
                    "max_parallel_requests": 3,
                    "region_name": "eu",
                },
            ),
        ),
        tries=(Try(at="d0", facts={"region": "eu"}),),
    ),
    Scenario(
        id="a model group's alias",
        fleet=ONE,
        settings={"model_group_alias": {"alias": "g"}},
        call={"model": "alias"},
        tries=(Try(at="d0", group="alias"),),
    ),
    Scenario(
        id="a wildcard deployment",
        fleet=(Deployment(group="openai/*", model="openai/*", id="d0"),),
        call={"model": "openai/one"},
        # Wildcards are matched before LiteLLM looks at who is healthy.
        tries=(Try(at="d0", group="openai/one", model="openai/one", selection=Maybe({"healthy": ["d0"]})),),
    ),
    Scenario(
        id="the only deployment with the model asked for",
        fleet=SAME,
        call={"model": "openai/two", "specific_deployment": True},
        # Nothing is chosen.
        tries=(Try(at="d1", group="openai/two", selection=Maybe({"healthy": ["d1"]})),),
    ),
    Scenario(
        id="a deployment asked for by its id",
        fleet=SAME,
        call={"model": "d1"},
        tries=(Try(at="d1", group="d1", selection=Maybe({"healthy": ["d1"]})),),
    ),
)

RETRIES = (
    Scenario(
        id="retry then success",
        fleet=ONE,
        settings={"num_retries": 2},
        plan={"one": (UNWELL,)},
        tries=(Try(at="d0", **FAILED), Try(at="d0", is_retry=True)),
    ),
    Scenario(
        id="two retries then success",
        fleet=PAIR,
        settings={"num_retries": 2, **CALM},
        plan={"one": (UNWELL, BUSY)},
        tries=(Try(at="d0", **FAILED), Try(at="d0", is_retry=True, **LIMITED), Try(at="d0", is_retry=True)),
    ),
    Scenario(
        id="retries exhausted",
        fleet=PAIR,
        settings={"num_retries": 1, **CALM},
        always={"one": UNWELL},
        tries=(Try(at="d0", **FAILED), Try(at="d0", is_retry=True, **FAILED)),
        text=None,
        **FAILED,
    ),
    Scenario(
        id="an error that is not worth a retry",
        since=(1, 82),
        fleet=PAIR,
        settings={"num_retries": 2, **CALM},
        always={"one": Behaviour(status=400)},
        tries=(Try(at="d0", error="BadRequestError", status=400),),
        error="BadRequestError",
        status=400,
        text=None,
    ),
    Scenario(
        id="the request's own num_retries",
        fleet=PAIR,
        settings={"num_retries": 0, **CALM},
        plan={"one": (UNWELL,)},
        call={"num_retries": 1},
        tries=(Try(at="d0", **FAILED), Try(at="d0", is_retry=True)),
    ),
    Scenario(
        id="a retry policy",
        since=(1, 101),
        fleet=PAIR,
        settings={"num_retries": 0, "retry_policy": {"InternalServerErrorRetries": 1}, **CALM},
        plan={"one": (UNWELL,)},
        tries=(Try(at="d0", **FAILED), Try(at="d0", is_retry=True)),
    ),
    Scenario(
        id="a retry policy of the group",
        since=(1, 101),
        fleet=PAIR,
        settings={"num_retries": 0, "model_group_retry_policy": {"g": {"InternalServerErrorRetries": 1}}, **CALM},
        plan={"one": (UNWELL,)},
        tries=(Try(at="d0", **FAILED), Try(at="d0", is_retry=True)),
    ),
    Scenario(
        id="a retry that the provider asked to be made later",
        fleet=ONE,
        settings={"num_retries": 1},
        plan={"one": (Behaviour(status=429, headers=(("retry-after", "1"),)),)},
        tries=(Try(at="d0", facts={"retry_after_s": 1.0}, **LIMITED), Try(at="d0", is_retry=True)),
    ),
    Scenario(
        id="a rate limit that LiteLLM plays",
        fleet=ONE,
        settings={"num_retries": 1},
        call={"mock_testing_rate_limit_error": True},
        # It is raised before a deployment is picked: what LiteLLM counts as a retry is the first attempt that there is.
        tries=(Try(at="d0", is_retry=Maybe(True)),),
    ),
)

FALLBACKS = (
    Scenario(
        id="a fallback",
        fleet=TWO,
        settings={"fallbacks": G_TO_H},
        always={"one": UNWELL},
        tries=(Try(at="d0", **FAILED), Try(at="d1", hop=TO_H)),
        path=("g", "h"),
    ),
    Scenario(
        id="retries, then a fallback that is retried",
        fleet=(
            *PAIR,
            *(
                Deployment(group="h", model=model, id=id, params={"weight": weight})
                for model, id, weight in (("openai/three", "d2", HEAVY), ("openai/four", "d3", LIGHT))
            ),
        ),
        settings={"num_retries": 1, "fallbacks": G_TO_H, **CALM},
        always={"one": UNWELL},
        plan={"three": (BUSY,)},
        tries=(
            Try(at="d0", **FAILED),
            Try(at="d0", is_retry=True, **FAILED),
            Try(at="d2", hop=TO_H, **LIMITED),
            Try(at="d2", hop=TO_H, is_retry=True),
        ),
        path=("g", "h"),
    ),
    Scenario(
        id="a context-window fallback",
        fleet=TWO,
        settings={"num_retries": 1, "context_window_fallbacks": G_TO_H, "fallbacks": [{"g": ["nobody"]}]},
        always={"one": TOO_LONG},
        tries=(
            Try(at="d0", error="ContextWindowExceededError", status=400),
            Try(at="d1", hop=Hop(stands_in_for="g", reason="ContextWindowExceededError", depth=1)),
        ),
        path=("g", "h"),
    ),
    Scenario(
        id="a content-policy fallback",
        since=(1, 67),
        fleet=TWO,
        settings={"num_retries": 1, "content_policy_fallbacks": G_TO_H, "fallbacks": [{"g": ["nobody"]}]},
        always={"one": REFUSED},
        tries=(
            Try(at="d0", error="ContentPolicyViolationError", status=400),
            Try(at="d1", hop=Hop(stands_in_for="g", reason="ContentPolicyViolationError", depth=1)),
        ),
        path=("g", "h"),
    ),
    Scenario(
        id="default fallbacks",
        fleet=TWO,
        settings={"default_fallbacks": ["h"]},
        always={"one": UNWELL},
        tries=(Try(at="d0", **FAILED), Try(at="d1", hop=TO_H)),
        path=("g", "h"),
        # LiteLLM files them with the fallbacks.
        config={"fallbacks": Maybe([{"*": ["h"]}])},
    ),
    Scenario(
        id="the request's own fallbacks",
        fleet=THREE,
        settings={"fallbacks": G_TO_H},
        always={"one": UNWELL},
        call={"fallbacks": [{"g": ["i"]}]},
        tries=(Try(at="d0", **FAILED), Try(at="d2", hop=TO_H)),
        path=("g", "i"),
    ),
    Scenario(
        id="the request's own list of fallbacks",
        fleet=THREE,
        settings={"fallbacks": G_TO_H},
        always={"one": UNWELL},
        call={"fallbacks": ["i"]},
        tries=(Try(at="d0", **FAILED), Try(at="d2", hop=TO_H)),
        path=("g", "i"),
    ),
    Scenario(
        id="the request's own fallback with other messages",
        fleet=THREE,
        settings={"fallbacks": G_TO_H},
        always={"one": UNWELL},
        call={"fallbacks": [{"model": "i", "temperature": 0.5}]},
        tries=(Try(at="d0", **FAILED), Try(at="d2", hop=TO_H)),
        path=("g", "i"),
        # Names of groups only.
        config={"fallbacks": ["i"]},
    ),
    Scenario(
        id="fallbacks nested twice",
        fleet=THREE,
        settings={"fallbacks": [{"g": ["h"]}, {"h": ["i"]}]},
        always={"one": UNWELL, "two": BUSY},
        tries=(
            Try(at="d0", **FAILED),
            Try(at="d1", hop=TO_H, **LIMITED),
            Try(at="d2", hop=Hop(stands_in_for="h", reason="RateLimitError", depth=2)),
        ),
        path=("g", "h", "i"),
    ),
    Scenario(
        id="a list of fallbacks, the first of which fails",
        fleet=THREE,
        settings={"fallbacks": [{"g": ["h", "i"]}]},
        always={"one": UNWELL, "two": BUSY},
        tries=(
            Try(at="d0", **FAILED),
            Try(at="d1", hop=TO_H, **LIMITED),
            Try(at="d2", hop=NEXT_OF_LIST),
        ),
        path=("g", "h", "i"),
    ),
    Scenario(
        id="a list of fallbacks that all fail",
        since=(1, 60),
        fleet=THREE,
        settings={"fallbacks": [{"g": ["h", "i"]}], "cooldown_time": 30},
        always={"one": UNWELL, "two": BUSY, "three": Behaviour(status=401)},
        tries=(
            Try(at="d0", **FAILED),
            Try(at="d1", hop=TO_H, **LIMITED),
            # LiteLLM puts even the only deployment of a group into cooldown when it refuses the key.
            Try(at="d2", hop=NEXT_OF_LIST, error="AuthenticationError", status=401, cooldown_s=30),
        ),
        path=("g", "h", "i"),
        text=None,
        **FAILED,
    ),
    Scenario(
        id="no more fallbacks than max_fallbacks",
        fleet=THREE,
        settings={"fallbacks": [{"g": ["h"]}, {"h": ["i"]}], "max_fallbacks": 1},
        always={"one": UNWELL, "two": BUSY},
        tries=(Try(at="d0", **FAILED), Try(at="d1", hop=TO_H, **LIMITED)),
        path=("g", "h"),
        text=None,
        **FAILED,
    ),
    Scenario(
        id="fallbacks that the request turns off",
        fleet=TWO,
        settings={"fallbacks": G_TO_H},
        always={"one": UNWELL},
        call={"disable_fallbacks": True},
        tries=(Try(at="d0", **FAILED),),
        text=None,
        **FAILED,
    ),
    *(
        Scenario(
            id=f"a fallback that LiteLLM plays: {name}",
            fleet=TWO,
            settings={"num_retries": 1, fallbacks: G_TO_H},
            call={name: True},
            # The first group is given up without an attempt.
            tries=(Try(at="d1", hop=Hop(stands_in_for="g", reason=reason, depth=1)),),
            path=("g", "h"),
        )
        for name, fallbacks, reason in (
            ("mock_testing_fallbacks", "fallbacks", SERVER_ERROR),
            ("mock_testing_context_fallbacks", "context_window_fallbacks", "ContextWindowExceededError"),
            ("mock_testing_content_policy_fallbacks", "content_policy_fallbacks", "ContentPolicyViolationError"),
        )
    ),
)

COOLING: dict[str, Any] = {"num_retries": 2, "allowed_fails": 0, "cooldown_time": 30}
COOLDOWNS = (
    Scenario(
        id="a cooldown, then another deployment",
        fleet=PAIR,
        settings=COOLING,
        always={"one": UNWELL},
        tries=(
            Try(at="d0", cooldown_s=30, **FAILED),
            Try(at="d1", is_retry=True, selection={"healthy": ["d1"], "cooled_down": ["d0"]}),
        ),
    ),
    Scenario(
        id="a cooldown of the deployment's own length",
        fleet=(
            Deployment(group="g", model="openai/one", id="d0", params={"weight": HEAVY, "cooldown_time": 7}),
            PAIR[1],
        ),
        settings=COOLING,
        always={"one": BUSY},
        tries=(
            Try(at="d0", cooldown_s=7, **LIMITED),
            Try(at="d1", is_retry=True, selection={"healthy": ["d1"], "cooled_down": ["d0"]}),
        ),
    ),
    Scenario(
        id="a cooldown as long as the provider said",
        fleet=PAIR,
        settings=COOLING,
        always={"one": Behaviour(status=429, headers=(("retry-after", "3"),))},
        tries=(
            Try(at="d0", cooldown_s=3, facts={"retry_after_s": 3.0}, **LIMITED),
            Try(at="d1", is_retry=True, selection={"healthy": ["d1"], "cooled_down": ["d0"]}),
        ),
    ),
    Scenario(
        id="cooldowns of a whole group, then a fallback",
        fleet=(*PAIR, Deployment(group="h", model="openai/three", id="d2")),
        settings={**COOLING, "fallbacks": G_TO_H},
        always={"one": BUSY, "two": UNWELL},
        tries=(
            Try(at="d0", cooldown_s=30, **LIMITED),
            Try(at="d1", is_retry=True, cooldown_s=30, selection={"healthy": ["d1"], "cooled_down": ["d0"]}, **FAILED),
            Try(at="d2", hop=TO_H),
        ),
        path=("g", "h"),
    ),
    Scenario(
        id="a call that finds a deployment in cooldown",
        fleet=PAIR,
        settings={"allowed_fails": 0, "cooldown_time": 30},
        always={"one": BUSY},
        earlier=1,
        tries=(Try(at="d1", selection={"healthy": ["d1"], "cooled_down": ["d0"]}),),
    ),
    Scenario(
        id="all deployments in cooldown",
        fleet=SAME,
        settings={"allowed_fails": 0, "cooldown_time": 30},
        always={"one": BUSY, "two": BUSY},
        earlier=2,
        chain={"selection": {"cooled_down": ["d0", "d1"]}},
        **NOBODY_LEFT,
    ),
    Scenario(
        id="all deployments in cooldown, then a fallback",
        fleet=(*SAME, Deployment(group="h", model="openai/three", id="d2")),
        settings={"allowed_fails": 0, "cooldown_time": 30, "fallbacks": G_TO_H},
        always={"one": BUSY, "two": BUSY},
        earlier=2,
        tries=(Try(at="d2", hop=Hop(stands_in_for="g", reason="RouterRateLimitError", depth=1)),),
        path=("g", "h"),
    ),
)

PRICED = (
    Deployment(
        group="g", model="openai/one", id="d0", params={"input_cost_per_token": 1e-3, "output_cost_per_token": 1e-3}
    ),
    Deployment(
        group="g", model="openai/two", id="d1", params={"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    ),
)
NONE_PICKED: dict[str, Any] = {"selection": Maybe(OneOf(({}, {"healthy": ["d0", "d1"]})))}
"""The strategy itself had nothing against any of them and took none: whether they "could be picked" is a matter of words."""
STRATEGIES = (
    *(
        Scenario(
            id=f"strategy {name}", fleet=SAME, settings={"routing_strategy": name}, tries=(Try(at=ANY),), since=since
        )
        for name, since in (
            ("simple-shuffle", (1, 55)),
            ("least-busy", (1, 55)),
            ("latency-based-routing", (1, 55)),
            ("usage-based-routing", (1, 55)),
            ("usage-based-routing-v2", (1, 55)),
        )
    ),
    Scenario(
        id="strategy simple-shuffle, weighted",
        fleet=PAIR,
        settings={"routing_strategy": "simple-shuffle"},
        tries=(Try(at="d0"),),
    ),
    Scenario(
        id="strategy cost-based-routing",
        fleet=PRICED,
        settings={"routing_strategy": "cost-based-routing"},
        tries=(Try(at="d1"),),
        differences=(
            Difference(
                variants=SYNC,
                reason="LiteLLM's sync Router knows no cost-based routing and finds no deployment",
                changes={**NOBODY_LEFT, "chain": NONE_PICKED},
            ),
        ),
    ),
    Scenario(
        id="strategy lar1",
        fleet=SAME,
        settings={"routing_strategy": "lar1"},
        # A plugin of LiteLLM's own: its Router sees no more than which one the plugin chose.
        tries=(Try(at="d0", selection=OneOf(({"healthy": ["d0", "d1"]}, {"healthy": ["d0"]}))),),
        since=(1, 110),
        differences=(
            Difference(
                variants=SYNC,
                reason="LiteLLM refuses LAR-1 in its sync Router",
                changes={
                    "error": "NotImplementedError",
                    "status": None,
                    "text": None,
                    "tries": (),
                    "chain": NONE_PICKED,
                },
            ),
        ),
    ),
    Scenario(
        id="strategy provider-budget-routing",
        fleet=SAME,
        settings={"routing_strategy": "provider-budget-routing"},
        # A member of RoutingStrategy that the Router accepts, and then picks nothing by: budgets are set otherwise.
        chain=NONE_PICKED,
        **NOBODY_LEFT,
    ),
)

TAGGED = (
    Deployment(group="g", model="openai/one", id="d0", params={"tags": ["free"], "weight": HEAVY}),
    Deployment(group="g", model="openai/two", id="d1", params={"tags": ["paid"], "weight": LIGHT}),
)
BY_TAGS = {"enable_tag_filtering": True}
UNTAGGED_SYNC = "LiteLLM's sync Router looks at no tags"
UNTAGGED = ((1, 82), (1, 101))
"""Releases whose async Router shuffles like the sync one, without a look at tags."""
SMALL_FIRST = (
    Deployment(group="g", model="openai/one", id="d0", info={"max_input_tokens": 5}),
    Deployment(group="g", model="openai/two", id="d1", info={"max_input_tokens": 100_000}),
)
SMALL_G = (SMALL_FIRST[0], Deployment(group="h", model="openai/two", id="d1", info={"max_input_tokens": 100_000}))
CHECKED: dict[str, Any] = {"enable_pre_call_checks": True}
EXCLUSIONS = (
    Scenario(
        id="a deployment by its tag",
        lost=UNTAGGED,
        fleet=TAGGED,
        settings=BY_TAGS,
        call={"metadata": {"tags": ["paid"]}},
        tries=(Try(at="d1", selection={"healthy": ["d1"], "excluded": {"d0": "tags"}}),),
        differences=(Difference(variants=SYNC, reason=UNTAGGED_SYNC, changes={"tries": (Try(at="d0"),)}),),
    ),
    Scenario(
        id="a tag that no deployment has",
        lost=UNTAGGED,
        fleet=TAGGED,
        settings=BY_TAGS,
        call={"metadata": {"tags": ["gold"]}},
        error="ValueError",
        text=None,
        chain={"selection": {"excluded": {"d0": "tags", "d1": "tags"}}},
        differences=(
            Difference(
                variants=SYNC,
                reason=UNTAGGED_SYNC,
                changes={"tries": (Try(at="d0"),), "error": None, "text": TEXT, "chain": {}},
            ),
        ),
    ),
    Scenario(
        id="a tag that only the fallback has",
        lost=UNTAGGED,
        fleet=(
            Deployment(group="g", model="openai/one", id="d0", params={"tags": ["free"]}),
            Deployment(group="h", model="openai/two", id="d1", params={"tags": ["paid"]}),
        ),
        settings={**BY_TAGS, "fallbacks": G_TO_H},
        call={"metadata": {"tags": ["paid"]}},
        tries=(Try(at="d1", hop=Hop(stands_in_for="g", reason="ValueError", depth=1)),),
        path=("g", "h"),
        differences=(Difference(variants=SYNC, reason=UNTAGGED_SYNC, changes={"tries": (Try(at="d0"),), "path": ()}),),
    ),
    Scenario(
        id="a pre-call check that leaves one deployment out",
        fleet=SMALL_FIRST,
        settings=CHECKED,
        call={"messages": LONG},
        tries=(Try(at="d1", selection={"healthy": ["d1"], "excluded": {"d0": "pre-call check"}}),),
    ),
    Scenario(
        id="a pre-call check that leaves none",
        fleet=(SMALL_FIRST[0], Deployment(group="g", model="openai/two", id="d1", info={"max_input_tokens": 5})),
        settings={**CHECKED, "num_retries": 1},
        call={"messages": LONG},
        error="ContextWindowExceededError",
        status=400,
        text=None,
        chain={"selection": {"excluded": {"d0": "pre-call check", "d1": "pre-call check"}}},
    ),
    Scenario(
        id="a pre-call check that leaves none, then a context-window fallback",
        fleet=SMALL_G,
        settings={**CHECKED, "num_retries": 1, "context_window_fallbacks": G_TO_H},
        call={"messages": LONG},
        tries=(Try(at="d1", hop=Hop(stands_in_for="g", reason="ContextWindowExceededError", depth=1)),),
        path=("g", "h"),
    ),
)


def patient(**params: Any) -> tuple[Deployment, ...]:
    """TWO, of which the second has its own time to answer, whatever the Router's is."""
    return TWO[0], dataclasses.replace(TWO[1], params={**TWO[1].params, **params})


TIMED_OUT: dict[str, Any] = {"error": "Timeout", "status": 408}
TIMEOUTS = (
    Scenario(
        id="a timeout of the Router's, then a fallback",
        fleet=patient(timeout=60),
        settings={"fallbacks": G_TO_H, "timeout": 0.3},
        silent=("one",),
        tries=(Try(at="d0", **TIMED_OUT), Try(at="d1", hop=Hop(stands_in_for="g", reason="Timeout", depth=1))),
        path=("g", "h"),
    ),
    Scenario(
        id="a timeout of the request's, with a retry",
        fleet=PAIR,
        settings={"num_retries": 1, "timeout": 60, **CALM},
        call={"timeout": 0.3},
        silent=("one",),
        tries=(Try(at="d0", **TIMED_OUT), Try(at="d0", is_retry=True, **TIMED_OUT)),
        text=None,
        **TIMED_OUT,
    ),
    Scenario(
        id="a timeout for streams",
        since=(1, 60),
        fleet=patient(stream_timeout=60),
        settings={"fallbacks": G_TO_H, "stream_timeout": 0.3},
        silent=("one",),
        tries=(Try(at="d0", **TIMED_OUT), Try(at="d1", hop=Hop(stands_in_for="g", reason="Timeout", depth=1))),
        path=("g", "h"),
        variants=STREAM,
    ),
)

STREAMS = (
    Scenario(
        id="a stream that breaks before its first word, then a retry",
        fleet=PAIR,
        settings={"num_retries": 1, **CALM},
        plan={"one": (Behaviour(cut_after=0),)},
        variants=STREAM,
        tries=(Try(at="d0", is_broken_stream=True, error=BROKEN, status=500), Try(at="d0", is_retry=True)),
        since=(1, 110),
    ),
    Scenario(
        id="a stream that breaks before its first word, then a fallback",
        fleet=TWO,
        settings={"fallbacks": G_TO_H},
        always={"one": Behaviour(cut_after=0)},
        variants=STREAM,
        tries=(
            Try(at="d0", is_broken_stream=True, error=BROKEN, status=500),
            Try(at="d1", hop=Hop(stands_in_for="g", reason=BROKE_OFF, depth=1)),
        ),
        path=("g", "h"),
        since=(1, 110),
    ),
    Scenario(
        id="a stream that breaks after some words",
        fleet=TWO,
        settings={"num_retries": 1, "fallbacks": G_TO_H},
        always={"one": Behaviour(cut_after=2)},
        variants=STREAM,
        # LiteLLM 1.110 does not begin anew once the application has read something, unless it was told to go on.
        tries=(Try(at="d0", is_broken_stream=True, error=BROKEN, status=500, text="Hello there"),),
        error="APIConnectionError",
        status=500,
        text="Hello there",
        since=(1, 110),
    ),
    Scenario(
        id="a stream that breaks after some words, and goes on elsewhere",
        fleet=(*ONE, Deployment(group="h", model="openai/two", id="d1", info={"supports_assistant_prefill": True})),
        settings={"fallbacks": G_TO_H, "enable_mid_stream_fallback_continuation": True},
        always={"one": Behaviour(cut_after=2)},
        variants=STREAM,
        tries=(
            Try(at="d0", is_broken_stream=True, error=BROKEN, status=500, text="Hello there"),
            Try(at="d1", hop=Hop(stands_in_for="g", reason=BROKE_OFF, depth=1)),
        ),
        path=("g", "h"),
        since=(1, 110),
        differences=(
            Difference(
                variants=SYNC,
                reason="LiteLLM's sync streams do not go on elsewhere",
                changes={
                    "tries": (Try(at="d0", is_broken_stream=True, error=BROKEN, status=500, text="Hello there"),),
                    "error": "APIConnectionError",
                    "status": 500,
                    "text": "Hello there",
                    "path": (),
                },
            ),
        ),
    ),
    Scenario(
        id="a stream that stalls after its first word",
        fleet=TWO,
        settings={"fallbacks": G_TO_H, "timeout": 0.3},
        stalling=("one",),
        variants=STREAM,
        tries=(Try(at="d0", is_broken_stream=True, error="Timeout", status=408, text="Hello"),),
        error="Timeout",
        status=408,
        text="Hello",
        since=(1, 110),
    ),
)

WITHOUT_ATTEMPT = (
    Scenario(
        id="an unknown group",
        fleet=ONE,
        call={"model": "nobody"},
        error="BadRequestError",
        status=400,
        text=None,
        chain={"selection": Maybe({})},
    ),
    Scenario(
        id="an unknown group that has a fallback",
        fleet=TWO,
        settings={"fallbacks": [{"nobody": ["h"]}]},
        call={"model": "nobody"},
        tries=(Try(at="d1", hop=Hop(stands_in_for="nobody", reason="BadRequestError", depth=1, asked="nobody")),),
        path=("nobody", "h"),
    ),
    Scenario(
        id="a fallback that is given up without an attempt",
        fleet=TWO,
        settings={"fallbacks": [{"openai/one": ["h"]}]},
        call={"model": "openai/one", "specific_deployment": True},
        always={"one": UNWELL},
        # No deployment of `h` has the model `h`.
        tries=(Try(at="d0", group="openai/one", selection=Maybe({"healthy": ["d0"]}), **FAILED),),
        path=("openai/one", "h"),
        chain={"selection": Maybe(OneOf(({}, {"healthy": ["d1"]})))},
        text=None,
        **FAILED,
    ),
    Scenario(
        id="no deployment left to retry at",
        # Before, the error of the attempt before the last came back.
        since=(1, 82),
        fleet=PAIR,
        settings=COOLING,
        always={"one": BUSY, "two": UNWELL},
        tries=(
            Try(at="d0", cooldown_s=30, **LIMITED),
            Try(at="d1", is_retry=True, cooldown_s=30, selection={"healthy": ["d1"], "cooled_down": ["d0"]}, **FAILED),
        ),
        # Whether LiteLLM looks for a third is its own affair.
        chain={"selection": Maybe({"cooled_down": ["d0", "d1"]})},
        text=None,
        **FAILED,
    ),
)

SCHEDULED = (
    Scenario(
        id="a scheduled call",
        method="schedule_acompletion",
        fleet=TWO,
        settings={"fallbacks": G_TO_H},
        always={"one": UNWELL},
        call={"priority": 1},
        variants=ASYNC,
        tries=(Try(at="d0", **FAILED), Try(at="d1", hop=TO_H)),
        path=("g", "h"),
    ),
)

SCENARIOS: tuple[Scenario, ...] = (
    *PLAIN_SCENARIOS,
    *RETRIES,
    *FALLBACKS,
    *COOLDOWNS,
    *STRATEGIES,
    *EXCLUSIONS,
    *TIMEOUTS,
    *STREAMS,
    *WITHOUT_ATTEMPT,
    *SCHEDULED,
)
RUNS = [(scenario, variant) for scenario in SCENARIOS for variant in scenario.variants]


CALLBACKS = tuple(
    name
    for name in (
        "callbacks", "input_callback", "success_callback", "failure_callback", "_async_success_callback",
        "_async_failure_callback",
    )
    if isinstance(getattr(litellm, name, None), list)
)  # fmt: skip


@pytest.fixture(autouse=True)
def routers_leave_nothing_in_litellm() -> Iterator[None]:
    """Up to 1.109 each Router puts itself into LiteLLM's global lists and stays there; from the 30th on LiteLLM takes in no
    more, and the newest begin no cooldowns."""
    before = {name: list(getattr(litellm, name)) for name in CALLBACKS}
    yield
    for name, callbacks in before.items():
        getattr(litellm, name)[:] = callbacks


@pytest.mark.parametrize(("scenario", "variant"), RUNS, ids=[f"{scenario.id}, {variant}" for scenario, variant in RUNS])
def test_a_routers_call_is_recorded_as_the_tree_that_it_was(
    scenario: Scenario, variant: str, recording: Recording, fake_provider: FakeProvider
) -> None:
    if not scenario.is_for(LITELLM_VERSION):
        pytest.skip(f"LiteLLM behaves like this from {scenario.since} on, {scenario.lost or 'no releases'} excepted")
    scenario = scenario.in_variant(variant)

    outcome = run(scenario, variant, fake_provider)

    assert_litellm_does_so(scenario, outcome)
    trees = trees_of(recording.events())
    assert len(trees) == 1 + scenario.earlier
    expected = expected_tree(scenario, variant, outcome.requests)
    if not scenario.earlier:
        begun = {each["deployment_id"] for each in expected["facts"].get("cooldowns", ())}
        assert outcome.cooled_down == begun, "LiteLLM itself: its cooldowns"
    assert_same([trees[-1]], [expected])
    assert_delays_add_up(recording.events())


def assert_same(found: Sequence[Tree], expected: Sequence[Tree]) -> None:
    """Whole trees where LiteLLM's own part in them is known; on other releases what a user cannot do without."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        one, other = (one, other) if IS_NEWEST else (essentials(one), essentials(other))
        wanted = settled(other, one)
        wrong = list(differences(without_defaults(one, wanted), wanted))
        assert not wrong, "\n".join(wrong)


def assert_delays_add_up(events: Sequence[dict[str, Any]]) -> None:
    """A chain's total is what its attempts say one by one."""
    for chain in events:
        if "total_delay_ms" not in chain["metadata"]:
            continue
        below = [event["metadata"].get("delay_ms", 0) for event in events if event["parent_id"] == chain["event_id"]]
        assert chain["metadata"]["total_delay_ms"] == pytest.approx(sum(below), abs=0.01 * len(below))


def attempt(number: int, at: str, model: str, group: str, healthy: Sequence[str], **facts: Any) -> dict[str, Any]:
    """An attempt's facts, where nothing but it happens."""
    return {
        "attempt": number, "model_group": group, "deployment": model, "deployment_id": at, "api_base": API_BASE,
        "provider": "openai", "selection": {"healthy": list(healthy)}, **facts,
    }  # fmt: skip


def answered(group: str, at: str, model: str, *, asked: str = ASKED, **facts: Any) -> Tree:
    """A Router's call that went well at once."""
    leaf = node(
        "acompletion", event_type="model", asked=[asked], config={"model": model}, **attempt(1, at, model, group, [at])
    )
    return node(
        "Router.acompletion",
        [leaf],
        asked=[asked],
        config={"model": group, "num_retries": 0},
        attempts=1,
        attempted_retries=0,
        attempted_fallbacks=0,
        winner_attempt=1,
        deployment_id=at,
        model_group=group,
        **facts,
    )


def router_of(provider: FakeProvider, fleet: Sequence[Deployment], **settings: Any) -> Any:
    return litellm.Router(model_list=[each.entry(provider) for each in fleet], **{"num_retries": 0, **settings})


can_end_a_loop = pytest.mark.skipif(
    LITELLM_VERSION == (1, 77),
    reason="LiteLLM's logging worker can keep asyncio.run from returning when several calls end at once, without us, too",
)


@can_end_a_loop
def test_a_batch_is_a_chain_of_items_each_with_its_attempts(recording: Recording, fake_provider: FakeProvider) -> None:
    fake_provider.always("two", UNWELL)
    router = router_of(fake_provider, TWO)

    answers = asyncio.run(router.abatch_completion(models=["g", "h"], messages=[{"role": "user", "content": ASKED}]))

    assert [type(each).__name__ for each in answers] == ["ModelResponse", SERVER_ERROR]
    (batch,) = trees_of(recording.events())
    assert (batch["event"], batch["error"]) == ("chain litellm.Router.abatch_completion", None)
    assert batch["facts"] == {"items": 2}
    failed: dict[str, Any] = {"error_type": SERVER_ERROR, "status_code": 500, "ending": "failed"}
    broken = node(
        "acompletion",
        event_type="model",
        config={"model": "openai/two"},
        error=SERVER_ERROR,
        content=None,
        **attempt(1, "d1", "openai/two", "h", ["d1"], **failed),
    )
    lost = node(
        "Router.acompletion",
        [broken],
        config={"model": "h", "num_retries": 0},
        error=SERVER_ERROR,
        content=None,
        item=2,
        attempts=1,
        attempted_retries=0,
        attempted_fallbacks=0,
        **failed,
    )
    items = sorted(batch["children"], key=lambda each: each["facts"].get("item", 0))
    assert_same(items, [answered("g", "d0", "openai/one", item=1), lost])


@can_end_a_loop
def test_a_batch_of_several_conversations_is_a_chain_of_all_their_items(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    router = router_of(fake_provider, TWO)
    conversations = [[{"role": "user", "content": text}] for text in ("first", "second")]

    asyncio.run(router.abatch_completion(models=["g", "h"], messages=conversations))

    (batch,) = trees_of(recording.events())
    assert batch["facts"] == {"items": 4}
    items = sorted(batch["children"], key=lambda each: each["facts"].get("item", 0))
    assert_same(
        items,
        [
            answered("g", "d0", "openai/one", asked="first", item=1),
            answered("h", "d1", "openai/two", asked="first", item=2),
            answered("g", "d0", "openai/one", asked="second", item=3),
            answered("h", "d1", "openai/two", asked="second", item=4),
        ],
    )


@can_end_a_loop
def test_the_losers_of_a_fastest_response_batch_are_cancelled(
    recording: Recording, fake_provider: FakeProvider
) -> None:
    both_are_asked, never = threading.Event(), threading.Event()
    fake_provider.always("one", Behaviour(silence=both_are_asked))
    fake_provider.always("two", Behaviour(silence=never))
    router = router_of(fake_provider, TWO)

    async def fastest() -> Any:
        messages = [{"role": "user", "content": ASKED}]
        answer = asyncio.create_task(router.abatch_completion_fastest_response(model="g, h", messages=messages))
        await asyncio.to_thread(wait_until, lambda: len(fake_provider.calls) == 2, what="both requests")
        both_are_asked.set()
        return await answer

    try:
        answer = asyncio.run(fastest())
    finally:
        never.set()

    assert answer.choices[0].message.content == TEXT
    assert sorted(call["model"] for call in fake_provider.calls) == ["one", "two"]
    wait_until(lambda: len(recording.events()) == 5, what="all events")
    (batch,) = trees_of(recording.events())
    cancelled = node(
        "acompletion",
        event_type="model",
        config={"model": "openai/two"},
        content=None,
        **attempt(1, "d1", "openai/two", "h", ["d1"], ending="cancelled"),
    )
    loser = node(
        "Router.acompletion",
        [cancelled],
        config={"model": "h", "num_retries": 0},
        content=None,
        item=2,
        attempts=1,
        attempted_retries=0,
        attempted_fallbacks=0,
        ending="cancelled",
    )
    assert (batch["event"], batch["error"]) == ("chain litellm.Router.abatch_completion_fastest_response", None)
    assert batch["content"] == TEXT
    assert batch["facts"] == {"items": 2}
    items = sorted(batch["children"], key=lambda each: each["facts"].get("item", 0))
    assert_same(items, [answered("g", "d0", "openai/one", item=1), loser])


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "streamed"])
def test_no_attempt_lands_under_another_call_when_many_run_at_once(
    is_stream: bool, recording: Recording, fake_provider: FakeProvider
) -> None:
    calls = 50
    # Each group has one deployment that fails now and then, and one that fails more often still; the fallback answers.
    fleet = [
        Deployment(group=group, model=f"openai/{group}-{place}", id=f"{group}-{place}")
        for group in ("a", "b", "c", "last")
        for place in (1, 2)
    ]
    for deployment in fleet:
        if deployment.group != "last":
            model = deployment.model.partition("/")[2]
            fake_provider.plan(model, *[UNWELL, BUSY, Behaviour(), UNWELL, Behaviour()] * 6)
    groups = ("a", "b", "c")
    router = router_of(fake_provider, fleet, num_retries=1, fallbacks=[{group: ["last"]} for group in groups], **CALM)

    async def one(number: int) -> str:
        messages = [{"role": "user", "content": f"marker-{number}"}]
        result = await router.acompletion(model=groups[number % 3], messages=messages, stream=is_stream)
        if not is_stream:
            return str(result.choices[0].message.content)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in result if chunk.choices])

    async def work() -> list[str]:
        return await asyncio.gather(*map(one, range(calls)))

    assert asyncio.run(work()) == [TEXT] * calls

    trees = trees_of(recording.events())
    assert sorted(tree["asked"][0] for tree in trees) == sorted(f"marker-{number}" for number in range(calls))
    asked_of_provider: dict[str, list[str]] = {}
    for call in fake_provider.calls:
        asked_of_provider.setdefault(call["messages"][0]["content"], []).append(call["model"])
    assert sum(len(tree["children"]) > 1 for tree in trees) > 5, "too few failures to tell anything"
    for tree in trees:
        marker, attempts, facts = tree["asked"][0], tree["children"], tree["facts"]
        assert {child["asked"][0] for child in attempts} == {marker}
        models = [child["config"]["model"].partition("/")[2] for child in attempts]
        assert models == asked_of_provider[marker], "the attempts are the provider's requests, in their order"
        assert [child["facts"]["attempt"] for child in attempts] == list(range(1, len(attempts) + 1))
        assert [child["error"] is None for child in attempts] == [False] * (len(attempts) - 1) + [True]
        assert (tree["error"], tree["content"]) == (None, TEXT)
        assert (facts["attempts"], facts["winner_attempt"]) == (len(attempts), len(attempts))
        assert facts["deployment_id"] == attempts[-1]["facts"]["deployment_id"]
        assert facts["attempted_retries"] == sum("is_retry" in child["facts"] for child in attempts)
        path = list(dict.fromkeys(child["facts"]["model_group"] for child in attempts))
        assert facts.get("fallback_path", path) == path
        assert facts["attempted_fallbacks"] == len(path) - 1
        for child in attempts:
            is_last = child["facts"]["model_group"] == "last"
            assert child["facts"].get("is_fallback", False) == is_last
            assert child["facts"].get("fallback_from") == (path[0] if is_last else None)
        assert [child["facts"].get("delay_ms") for child in attempts] == [None] + [MILLISECONDS] * (len(attempts) - 1)
