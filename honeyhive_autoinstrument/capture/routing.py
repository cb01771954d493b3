"""Routing: what a Router decides while it answers one Call, noted as it happens.

One for each chain whose Calls below are Attempts. Written in the threads that run the call (one at a time, LiteLLM awaits
each attempt before the next); read by a worker when the Call has ended. Assigns and appends only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from honeyhive_autoinstrument.events.facts import Attempt, Cooldown, RoutingFacts, Selection

if TYPE_CHECKING:
    from honeyhive_autoinstrument.capture.call import Call

MAX_GROUPS = 1000
"""Of a path; LiteLLM stops after `max_fallbacks` (5) on each level."""

DEPLOYMENT_SETTINGS = ("weight", "order", "rpm", "tpm", "max_parallel_requests")
"""What a deployment is configured with for the Router; LiteLLM hands it to the leaf with the other parameters."""

DECISION = ("router_model_name", "router_type", "routed_model", "cause", "tier", "tier_label", "request_type")
"""What is kept of an auto router's decision; other fields can quote the prompt."""

BY_COOLDOWN = "cooldown"


class Pick:
    """One choice of a deployment: the group's deployments, and why some could not be picked."""

    __slots__ = ("deployments", "refused")

    def __init__(self, deployments: Sequence[str], refused: dict[str, str]) -> None:
        self.deployments = deployments
        self.refused = refused
        """Deployment id -> reason."""


class Routing:
    """The notes on one chain."""

    def __init__(self, router: Any) -> None:
        self.router = router
        """The Router, None outside one. Its settings are read when the Call is built."""
        self.cooled_down: list[str] = []
        """Deployments in cooldown, when the Router last looked."""
        self._path: list[str] = []
        self._pick: Pick | None = None
        self._hop: tuple[str | None, str | None] = (None, None)
        """The last hop: the group that it stands in for, and the class of the error that led to it."""
        self._group: object = None
        self._last: Attempt | None = None
        self._last_call: Call | None = None
        self._retries = 0
        self._total_delay_ms = 0.0
        self._cooldowns: list[Cooldown] = []

    def enter_group(self, group: Any) -> None:
        """The Router turns to a model group: the one asked for, or a fallback."""
        if type(group) is str and group != (self._path[-1] if self._path else None) and len(self._path) < MAX_GROUPS:
            self._path.append(group)

    def hop(self, stands_in_for: Any, reason: str | None) -> None:
        """A group was given up, perhaps before any Attempt; others are tried instead of it."""
        if not self._path:
            self.enter_group(stands_in_for)
        self._hop = (stands_in_for if type(stands_in_for) is str else None, reason)

    def start_pick(self) -> None:
        """The Router is about to choose a deployment."""
        self._pick = None

    def pick(self, deployments: Iterable[str]) -> None:
        """The Router looks at a group's deployments."""
        among = tuple(deployments)
        refused = {each: BY_COOLDOWN for each in self.cooled_down if each in among}
        if self._pick is not None:
            refused.update(self._pick.refused)
        self._pick = Pick(among, refused)

    def exclude(self, before: Iterable[str], after: Iterable[str], reason: str) -> None:
        """A check took deployments out of the choice."""
        kept = frozenset(after)
        gone = [each for each in before if each not in kept]
        if gone:
            pick = self._pick = self._pick or Pick((), {})
            for each in gone:
                pick.refused.setdefault(each, reason)

    def cool_down(self, deployment_id: Any, seconds: Any) -> None:
        """A failure puts a deployment into cooldown. LiteLLM tells it up to three times for each (litellm_map.md 3.6),
        inside the Attempt, or after it, when a failed one is still held.

        :param seconds: for how long, a number.
        """
        if type(deployment_id) is not str or type(seconds) not in (int, float):
            return
        last, call = self._last, self._last_call
        if last is not None and call is not None and last.deployment_id == deployment_id:
            if call.cooldown_s is not None:
                return
            call.cooldown_s = float(seconds)
        elif any(each.deployment_id == deployment_id for each in self._cooldowns):
            return
        self._cooldowns.append(Cooldown(deployment_id=deployment_id, seconds=float(seconds)))

    def begin(self, call: Call, number: int, kwargs: Mapping[str, Any], bucket: Mapping[str, Any]) -> Attempt:
        """An Attempt begins. Its facts are in the leaf's arguments (litellm_map.md 3.2, 3.3); outside a Router there are
        none but the model, which takes the place of the group."""
        is_routed = self.router is not None
        info = kwargs.get("model_info") or bucket.get("model_info")
        if type(info) is not dict:
            info = {}
        group = bucket.get("model_group") if is_routed else kwargs.get("model")
        depth = kwargs.get("fallback_depth") or 0
        last, before = self._last, self._last_call
        if not is_routed and last is not None:
            depth = last.fallback_depth + (group != self._group)
            if depth > last.fallback_depth:
                self.hop(self._group, before.error.type_name if before is not None and before.error else None)
        is_retry = last is not None and last.fallback_depth == depth and self._group == group
        delay_ms: float | None = None
        if before is not None and before.has_ended:
            delay_ms = round(max(0.0, call.started_ticks - before.ended_ticks) * 1000.0, 3)
            self._total_delay_ms += delay_ms
        self.enter_group(group)
        self._retries += is_retry
        fallback_from, fallback_reason = self._hop if depth else (None, None)
        attempt = Attempt(
            number=number,
            model_group=group if is_routed else None,
            original_model_group=bucket.get("original_model_group") or (self._path[0] if self._path else None),
            deployment=bucket.get("deployment"),
            deployment_id=info.get("id"),
            fallback_depth=depth,
            is_retry=is_retry,
            fallback_from=fallback_from,
            fallback_reason=fallback_reason,
            delay_ms=delay_ms,
            settings={name: kwargs[name] for name in DEPLOYMENT_SETTINGS if is_routed and kwargs.get(name) is not None},
            selection=self._selection(bucket.get("routing_decision")),
        )
        self._group, self._last, self._last_call, self._pick = group, attempt, call, None
        return attempt

    def _selection(self, decision: Any = None) -> Selection | None:
        pick = self._pick
        if pick is None:
            if type(decision) is not dict:
                return None
            pick = Pick((), {})
        # The group's own where it is known; a check that leaves none ends the pick before.
        refused = {each: pick.refused[each] for each in pick.deployments or pick.refused if each in pick.refused}
        return Selection(
            healthy=tuple(each for each in pick.deployments if each not in refused),
            cooled_down=tuple(each for each, reason in refused.items() if reason == BY_COOLDOWN),
            excluded={each: reason for each, reason in refused.items() if reason != BY_COOLDOWN},
            auto_router={name: decision[name] for name in DECISION if name in decision} if decision else {},
        )

    def facts(self, settings: Mapping[str, Any], *, is_answered: bool) -> RoutingFacts:
        """
        :param settings: of the Router.
        :param is_answered: whether the application got an answer, or a part of one.
        """
        return RoutingFacts(
            settings=settings,
            path=tuple(self._path),
            retries=self._retries,
            total_delay_ms=round(self._total_delay_ms, 3),
            cooldowns=tuple(self._cooldowns),
            winner=self._last if is_answered else None,
            selection=self._selection(),
        )
