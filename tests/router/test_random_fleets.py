"""Random fleets: whatever deployments fail, and however a Router is told to go on, the tree tells what the provider saw.

FakeProvider's record is the truth: it knows which deployments were asked, in which order, and what each was answered.
Every example is a fleet of its own, all of them in one process and one recording, as calls in a service are.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import litellm
import litellm.utils
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from honeyhive_autoinstrument._faults import faults
from tests.capture.calls import LITELLM_VERSION, MESSAGES
from tests.conftest import Recording
from tests.fakes.provider import KEY, TEXT, Behaviour, FakeProvider

OK = "ok"
CUT = "cut"
ANSWERS: dict[str, Behaviour] = {
    OK: Behaviour(),
    "500": Behaviour(status=500),
    "429": Behaviour(status=429, headers=(("retry-after", "0"),)),
    "400": Behaviour(status=400),
    "401": Behaviour(status=401),
    "too long": Behaviour(status=400, message="This model's maximum context length is 8192 tokens."),
    "refused": Behaviour(status=400, message="invalid_request_error: content_policy_violation"),
    CUT: Behaviour(cut_after=0),
}
"""What a deployment may answer, by name."""

WHOLE = tuple(name for name in ANSWERS if name != CUT)
RETRIED = ("500", "429")
"""Come more often than the rest, else most trees would be bare."""
SYNC, ASYNC, SYNC_IN_A_LOOP = WAYS = ("sync", "async", "sync in a loop")
WAYS_THAT_SHOW_CUTS = tuple(
    # Before, an async stream that the network cuts looks complete, and a sync one is tried for ever (litellm_map.md 3.5).
    way
    for way in WAYS
    if ((1, 99) if way == ASYNC else (1, 106)) <= LITELLM_VERSION
)
RETRY_POLICY = tuple(
    f"{error}Retries" for error in ("BadRequestError", "AuthenticationError", "RateLimitError", "InternalServerError")
)
FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
HANDS_ON_FALLBACKS = LITELLM_VERSION >= (1, 104)
"""Of `{a: [b, c]}`, once b failed too, c stands in for b, as LiteLLM hands the rest of the list on; before, for a. So do
those of a's other fallbacks that fit how b failed."""
COOLDOWN_S = 60
"""Longer than an example."""
SELDOM, SURE = st.sampled_from([False, False, True]), st.just(True)


@dataclass(frozen=True)
class Deployment:
    """How one deployment answers: first some failures, then always the same."""

    first: tuple[str, ...]
    then: str

    def answer(self, number: int) -> str:
        return self.first[number] if number < len(self.first) else self.then


@dataclass(frozen=True)
class Ask:
    """One call of the Router."""

    way: str
    stream: bool
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fleet:
    """A Router and what it is asked; it is always asked for the first group."""

    groups: tuple[tuple[Deployment, ...], ...]
    router: dict[str, Any]
    asks: tuple[Ask, ...]


def group_name(number: int) -> str:
    return f"group-{number}"


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    has_cuts = bool(WAYS_THAT_SHOW_CUTS) and draw(SELDOM)
    ways = WAYS_THAT_SHOW_CUTS if has_cuts else WAYS
    asks = draw(
        st.lists(st.builds(Ask, st.sampled_from(ways), SURE if has_cuts else st.booleans()), min_size=1, max_size=2)
    )
    answers = st.sampled_from([*ANSWERS, *RETRIED, CUT] if has_cuts else [*WHOLE, *RETRIED])
    deployments = st.builds(Deployment, first=st.lists(answers, max_size=3).map(tuple), then=answers)
    groups = [
        draw(st.lists(deployments, min_size=1, max_size=3).map(tuple))
        for _ in range(draw(st.sampled_from([1, 2, 3, 4])))
    ]
    names = [group_name(number) for number in range(len(groups))]

    router: dict[str, Any] = {
        "num_retries": draw(st.integers(0, 3)),
        "retry_after": 0,
        "disable_cooldowns": draw(st.booleans()),
        "cooldown_time": COOLDOWN_S,
        "max_fallbacks": draw(st.integers(1, 4)),
        "fallbacks": draw(_fallbacks(names)),
    }
    optional = {
        "context_window_fallbacks": _fallbacks(names),
        "content_policy_fallbacks": _fallbacks(names),
        "default_fallbacks": st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True),
        "allowed_fails": st.integers(0, 2),
        "retry_policy": st.dictionaries(st.sampled_from(RETRY_POLICY), st.integers(0, 2), min_size=1),
    }
    router.update(draw(st.fixed_dictionaries({}, optional=optional)))
    options = {"num_retries": st.integers(0, 3), "fallbacks": _fallbacks(names), "disable_fallbacks": SURE}
    asks = [
        Ask(ask.way, ask.stream, draw(st.fixed_dictionaries({}, optional=options)) if draw(SELDOM) else {})
        for ask in asks
    ]
    return Fleet(tuple(groups), router, tuple(asks))


@st.composite
def _fallbacks(draw: st.DrawFn, names: Sequence[str]) -> list[dict[str, list[str]]]:
    """For most of the groups one or two others: chains, circles, and what comes of both at once."""
    rows: list[dict[str, list[str]]] = []
    for name in names:
        others = [other for other in names if other != name]
        if others and not draw(SELDOM):
            rows.append({name: draw(st.lists(st.sampled_from(others), min_size=1, max_size=2, unique=True))})
    return rows


class Bench:
    """Runs examples, each on a Router of its own, in one recording."""

    def __init__(self, recording: Recording, provider: FakeProvider) -> None:
        self.recording = recording
        self.provider = provider
        self.loop = asyncio.new_event_loop()
        self._numbers = itertools.count()

    def try_out(self, fleet: Fleet) -> None:
        """Make the Router, ask it, and compare each tree with what the provider and the caller saw."""
        deployments = self._plan(fleet)
        router = self._router_for(fleet, deployments)
        asked: Counter[str] = Counter()
        cooled_down: set[str] = set()
        try:
            for ask in fleet.asks:
                before = len(self.provider.requests)
                session = str(uuid4())
                saw = self._ask(router, ask, session)
                seen = []
                for request in self.provider.requests[before:]:
                    model = request.json["model"]
                    seen.append((f"id of {model}", deployments[model].answer(asked[model])))
                    asked[model] += 1

                chain, attempts = self._tree(session)
                assert_attempts_are_what_the_provider_saw(attempts, seen)
                assert_the_chain_ended_as_the_caller_saw(chain, attempts, saw)
                assert_attempts_say_what_led_to_them(attempts)
                assert_fallbacks_lead_on_from_what_failed(chain, attempts, fleet, ask)
                assert_the_chain_sums_up_its_attempts(chain, attempts)
                assert_the_chain_says_how_it_was_routed(chain, fleet, ask)
                assert_cooldowns_are_of_failed_attempts(chain, attempts)
                assert faults.counts() == {}
                assert_selections_are_of_the_groups(attempts, deployments)
                cooled_down.update(cooldowns_of(chain))
                assert cooled_down_in(router, [f"id of {model}" for model in deployments]) == cooled_down
                tell_statistics(chain, attempts)
        finally:
            # Else each Router's callbacks see the calls of all later ones.
            router.retire() if hasattr(router, "retire") else router.discard()

    def _plan(self, fleet: Fleet) -> dict[str, Deployment]:
        """Deployments by the model's name at the provider, which no other example has."""
        number = next(self._numbers)
        deployments = {
            f"model-{number}-{group}-{place}": deployment
            for group, members in enumerate(fleet.groups)
            for place, deployment in enumerate(members)
        }
        for model, deployment in deployments.items():
            self.provider.plan(model, *(ANSWERS[name] for name in deployment.first))
            self.provider.always(model, ANSWERS[deployment.then])
        return deployments

    def _router_for(self, fleet: Fleet, deployments: dict[str, Deployment]) -> Any:
        model_list = [
            {
                "model_name": group_name(int(model.split("-")[2])),
                "litellm_params": {
                    "model": f"openai/{model}",
                    "api_base": self.provider.base,
                    "api_key": KEY,
                    "max_retries": 0,
                },
                "model_info": {"id": f"id of {model}"},
            }
            for model in deployments
        ]
        # A copy: up to 1.108 LiteLLM adds the default fallbacks to the list of fallbacks that it is given.
        return litellm.Router(model_list=model_list, **deepcopy(fleet.router))

    def _ask(self, router: Any, ask: Ask, session: str) -> str | Exception:
        """What the caller gets: the text or the error."""
        given: dict[str, Any] = {
            "model": group_name(0),
            "messages": MESSAGES,
            "metadata": {"session_id": session},
            "stream": ask.stream,
            **deepcopy(ask.options),
        }

        def call() -> str:
            answer = router.completion(**given)
            return _text_of(list(answer)) if ask.stream else _text_of([answer])

        async def acall() -> str:
            answer = await router.acompletion(**given)
            return _text_of([chunk async for chunk in answer]) if ask.stream else _text_of([answer])

        async def call_in_a_loop() -> str:
            return call()

        try:
            if ask.way == SYNC:
                return call()
            return self.loop.run_until_complete(acall() if ask.way == ASYNC else call_in_a_loop())
        except Exception as error:
            return error

    def _tree(self, session: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The one chain of a session, and the attempts below it by their number."""
        events = [event for event in self.recording.events() if event["session_id"] == session]
        (chain,) = [event for event in events if event["event_type"] == "chain"]
        attempts = [event for event in events if event is not chain]
        assert all(attempt["event_type"] == "model" for attempt in attempts)
        assert all(attempt["parent_id"] == chain["event_id"] for attempt in attempts)
        attempts.sort(key=lambda attempt: int(attempt["metadata"]["attempt"]))
        return chain, attempts

    def close(self) -> None:
        self.loop.run_until_complete(self._cancel_the_rest())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    async def _cancel_the_rest(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _text_of(parts: Sequence[Any]) -> str:
    choices = [part.choices[0] for part in parts if part.choices]
    return "".join((choice.delta if hasattr(choice, "delta") else choice.message).content or "" for choice in choices)


def assert_attempts_are_what_the_provider_saw(
    attempts: Sequence[dict[str, Any]], seen: Sequence[tuple[str, str]]
) -> None:
    told = [(attempt["metadata"].get("deployment_id"), outcome_of(attempt)) for attempt in attempts]

    assert told == [
        (deployment, answer if answer in (OK, CUT) else str(ANSWERS[answer].status)) for deployment, answer in seen
    ]
    assert [attempt["metadata"]["attempt"] for attempt in attempts] == list(range(1, len(attempts) + 1))


def outcome_of(attempt: dict[str, Any]) -> str:
    """An attempt's outcome in the words of ANSWERS, errors by their status."""
    if attempt["error"] is None:
        return OK
    if attempt["metadata"].get("stream_ending") == "failed":
        return CUT
    return str(attempt["metadata"].get("status_code"))


def assert_the_chain_ended_as_the_caller_saw(
    chain: dict[str, Any], attempts: Sequence[dict[str, Any]], saw: str | Exception
) -> None:
    if isinstance(saw, Exception):
        assert chain["error"] is not None, f"the caller got {saw!r}"
        assert chain["error"].startswith(f"{type(saw).__name__}: ")
        assert chain["metadata"]["error_type"] == type(saw).__name__
        assert "winner_attempt" not in chain["metadata"]
        return
    winner = attempts[-1]["metadata"]
    assert saw == TEXT
    assert chain["error"] is None
    assert chain["outputs"]["content"] == TEXT
    assert chain["metadata"]["winner_attempt"] == winner["attempt"]
    assert chain["metadata"]["deployment_id"] == winner["deployment_id"]
    assert chain["metadata"]["model_group"] == winner["model_group"]


def assert_attempts_say_what_led_to_them(attempts: Sequence[dict[str, Any]]) -> None:
    """The asked group comes first and its attempts are no fallbacks; a retry stays in the group of the one before."""
    before: tuple[Any, ...] | None = None
    failures: dict[str, set[str]] = defaultdict(set)
    for attempt in attempts:
        said = attempt["metadata"]
        is_fallback = said.get("is_fallback", False)
        hop = (said["model_group"], is_fallback, said.get("fallback_depth"), said.get("fallback_from"))
        assert said.get("is_retry", False) is (hop == before), f"attempt {said['attempt']}: {hop} after {before}"
        assert ("delay_ms" in said) is (said["attempt"] > 1)
        if not is_fallback:
            assert before is None or hop == before, "the asked group comes once, and first"
            assert said["model_group"] == group_name(0)
        else:
            assert said["fallback_depth"] >= 1
            assert said["fallback_from"] != said["model_group"]
            assert said["original_model_group"] == group_name(0)
            # No deployment of a group may be left, then there is no attempt that tells the reason.
            assert said["fallback_reason"] in {*failures[said["fallback_from"]], "RouterRateLimitError"}
        before = hop
        failures[said["model_group"]].add(said.get("error_type", ""))
        if said.get("error_type") == "MidStreamFallbackError":
            failures[said["model_group"]].add("APIConnectionError")  # what it wraps here, and what the Router acts on


def assert_fallbacks_lead_on_from_what_failed(
    chain: dict[str, Any], attempts: Sequence[dict[str, Any]], fleet: Fleet, ask: Ask
) -> None:
    """Each hop leads to one of the groups that were to stand in, and says for which one it does."""
    given = {**fleet.router, **ask.options}
    rows = [row for kind in FALLBACKS for row in given.get(kind, [])]
    defaults = given.get("default_fallbacks", [])
    path = chain["metadata"].get("fallback_path", [])
    for attempt in attempts:
        said = attempt["metadata"]
        if not said.get("is_fallback"):
            continue
        before = path[: path.index(said["model_group"], 1)]
        assert said["fallback_from"] in before
        sources = before if HANDS_ON_FALLBACKS else [said["fallback_from"]]
        configured = {other for row in rows for source in sources for other in row.get(source, [])}
        assert said["model_group"] in {*configured, *defaults}, f"attempt {said['attempt']} stands in for {sources}"


def assert_the_chain_sums_up_its_attempts(chain: dict[str, Any], attempts: Sequence[dict[str, Any]]) -> None:
    said = chain["metadata"]
    path = said.get("fallback_path", [])
    hops = [attempt["metadata"]["model_group"] for attempt in attempts if not attempt["metadata"].get("is_retry")]

    assert said["attempts"] == len(attempts)
    assert said["attempted_retries"] == sum(attempt["metadata"].get("is_retry", False) for attempt in attempts)
    assert said["attempted_fallbacks"] == max(len(path) - 1, 0)
    assert not path or path[0] == group_name(0)
    assert len(path) != 1
    # A group may be given up before any attempt (its deployments cool down), so the path may know more groups.
    assert _is_within(hops, path or [group_name(0)]), f"{hops} are not tried along {path}"
    if len(attempts) > 1:
        delays = [attempt["metadata"]["delay_ms"] for attempt in attempts[1:]]
        assert all(delay >= 0 for delay in delays)
        assert said["total_delay_ms"] == pytest.approx(sum(delays), abs=0.1)
    else:
        assert "total_delay_ms" not in said


def _is_within(some: Sequence[str], all_of_them: Sequence[str]) -> bool:
    """Whether they come in this order, others may stand between."""
    rest: Iterator[str] = iter(all_of_them)
    return all(each in rest for each in some)


def assert_cooldowns_are_of_failed_attempts(chain: dict[str, Any], attempts: Sequence[dict[str, Any]]) -> None:
    begun = cooldowns_of(chain)
    of_attempts = {
        attempt["metadata"]["deployment_id"]: attempt["metadata"]["cooldown_s"]
        for attempt in attempts
        if "cooldown_s" in attempt["metadata"]
    }
    failed = {attempt["metadata"]["deployment_id"] for attempt in attempts if attempt["error"] is not None}

    assert begun.keys() <= failed
    assert of_attempts == begun
    assert all(seconds == COOLDOWN_S for seconds in begun.values())


def cooldowns_of(chain: dict[str, Any]) -> dict[str, float]:
    """Deployment id -> seconds."""
    return {each["deployment_id"]: each["seconds"] for each in chain["metadata"].get("cooldowns", [])}


def cooled_down_in(router: Any, deployment_ids: Sequence[str]) -> set[str]:
    """Those that the Router itself keeps as cooling down."""
    store = router.health().cooldowns if hasattr(router, "health") else router.cooldown_cache
    return {each for each, _ in store.get_active_cooldowns(model_ids=list(deployment_ids), parent_otel_span=None)}


def assert_the_chain_says_how_it_was_routed(chain: dict[str, Any], fleet: Fleet, ask: Ask) -> None:
    given = {**fleet.router, **ask.options}

    assert chain["config"]["model"] == group_name(0)
    for name in ("num_retries", "max_fallbacks", *FALLBACKS):
        assert chain["config"].get(name) == (given.get(name) or (0 if name == "num_retries" else None))


def assert_selections_are_of_the_groups(attempts: Sequence[dict[str, Any]], deployments: dict[str, Deployment]) -> None:
    for attempt in attempts:
        said = attempt["metadata"]
        group = {
            f"id of {model}" for model in deployments if group_name(int(model.split("-")[2])) == said["model_group"]
        }
        could_be = said["selection"].get("healthy", [])
        could_not = [*said["selection"].get("cooled_down", []), *said["selection"].get("excluded", {})]
        assert said["deployment_id"] in could_be
        assert sorted([*could_be, *could_not]) == sorted(group)


def tell_statistics(chain: dict[str, Any], attempts: Sequence[dict[str, Any]]) -> None:
    """What the examples reach; `pytest --hypothesis-show-statistics` prints it."""
    said = chain["metadata"]
    event(f"attempts: {min(len(attempts), 10)}")
    event(f"fallbacks: {said['attempted_fallbacks']}")
    event(f"retries: {said['attempted_retries']}")
    event("failed" if chain["error"] else "answered")
    if any(attempt["metadata"].get("stream_ending") == "failed" for attempt in attempts):
        event("a stream was cut")
    if "cooldowns" in said:
        event("a deployment was put into cooldown")
    if "selection" in said:
        event("no deployment was left")
    if any("cooled_down" in attempt["metadata"]["selection"] for attempt in attempts):
        event("a deployment was passed over")


@pytest.fixture
def bench(
    recording: Recording,
    fake_provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Bench]:
    let_retries_not_wait(monkeypatch)
    caplog.set_level(logging.CRITICAL, "LiteLLM Router")  # it tells every failure of every example
    made = Bench(recording, fake_provider)
    yield made
    made.close()


def let_retries_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM waits half a second and more before it tries a group of one deployment again, whatever `retry_after` is."""
    # What the environment variables of these names set when LiteLLM is imported.
    for name in ("INITIAL_RETRY_DELAY", "MAX_RETRY_DELAY", "JITTER"):
        monkeypatch.setattr(litellm.utils, name, 0.0, raising=False)
    if LITELLM_VERSION >= (1, 110):
        # Its core is compiled and reads none of them; it leaves the waiting itself to its host.
        from litellm.router_python_host import PythonHost

        monkeypatch.setattr(PythonHost, "sleep", lambda self, seconds: asyncio.sleep(0))
        monkeypatch.setattr(PythonHost, "sleep_sync", lambda self, seconds: None)


# Without the phase that explains a failure: it runs the example many times more.
SHARED = settings(
    deadline=None,
    print_blob=True,
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@settings(SHARED, max_examples=40)
@given(fleet=fleets())
def test_the_tree_of_a_random_fleet_is_what_the_provider_saw(bench: Bench, fleet: Fleet) -> None:
    bench.try_out(fleet)


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(SHARED, max_examples=500, derandomize=False)
@given(fleet=fleets())
def test_the_trees_of_many_random_fleets_are_what_the_provider_saw(bench: Bench, fleet: Fleet) -> None:
    bench.try_out(fleet)
