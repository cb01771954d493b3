"""When a request may go out after failures: no clock but the number that is handed in."""

from __future__ import annotations

import pytest

from honeyhive_autoinstrument.delivery.breaker import BREAKER_AT, PROBE_S, PROBE_TAKES_S, UNAUTHORISED_PROBE_S, Breaker
from honeyhive_autoinstrument.delivery.sink import Answer, Outcome

LATER = Answer(outcome=Outcome.RETRY_LATER)
DELIVERED = Answer(outcome=Outcome.DELIVERED)
REFUSED_KEY = Answer(outcome=Outcome.UNAUTHORISED)


def breaker(unit: float = 0.5) -> Breaker:
    return Breaker(lambda: unit)


def after(failures: int, answer: Answer = LATER, unit: float = 0.5) -> Breaker:
    made = breaker(unit)
    for _ in range(failures):
        made.learn(answer, 0.0)
    return made


def test_fewer_failures_than_five_in_a_row_park_nothing() -> None:
    assert after(BREAKER_AT - 1).may_send(0.0)


def test_five_failures_in_a_row_park_every_send() -> None:
    parked = after(BREAKER_AT)

    assert parked.is_parked(PROBE_S - 0.1)
    assert not parked.may_send(PROBE_S - 0.1)


@pytest.mark.parametrize(("unit", "parked_s"), [(0.0, 0.5 * PROBE_S), (1.0, 1.5 * PROBE_S)])
def test_the_probes_of_a_fleet_are_spread(unit: float, parked_s: float) -> None:
    parked = after(BREAKER_AT, unit=unit)

    assert (parked.may_send(parked_s - 0.1), parked.may_send(parked_s)) == (False, True)


def test_after_the_park_one_probe_goes_out_and_the_others_wait_for_its_answer() -> None:
    parked = after(BREAKER_AT)

    assert [parked.may_send(PROBE_S) for _ in range(3)] == [True, False, False]


def test_a_probe_that_fails_parks_again() -> None:
    parked = after(BREAKER_AT)
    assert parked.may_send(PROBE_S)

    parked.learn(LATER, PROBE_S)

    assert not parked.may_send(2 * PROBE_S - 0.1)
    assert parked.may_send(2 * PROBE_S)


def test_a_probe_that_gets_through_lets_all_others_go() -> None:
    parked = after(BREAKER_AT)
    assert parked.may_send(PROBE_S)

    parked.learn(DELIVERED, PROBE_S)

    assert (parked.failures, [parked.may_send(PROBE_S) for _ in range(3)]) == (0, [True, True, True])


def test_a_probe_without_any_answer_is_given_up() -> None:
    parked = after(BREAKER_AT)
    assert parked.may_send(PROBE_S)

    assert not parked.may_send(PROBE_S + PROBE_TAKES_S - 0.1)
    assert parked.may_send(PROBE_S + PROBE_TAKES_S)


def test_a_refused_key_is_probed_once_a_minute_from_the_first_answer_on() -> None:
    parked = after(1, REFUSED_KEY)

    assert not parked.may_send(UNAUTHORISED_PROBE_S - 0.1)
    assert [parked.may_send(UNAUTHORISED_PROBE_S) for _ in range(2)] == [True, False]


def test_an_answer_to_an_earlier_request_does_not_end_the_pause_that_the_server_asks_for() -> None:
    paused = breaker()
    paused.learn(Answer(outcome=Outcome.RETRY_LATER, retry_after_s=200), 0.0)
    paused.pause(200, 0.0)

    paused.learn(DELIVERED, 0.1)

    assert (paused.may_send(199.9), paused.may_send(200.0)) == (False, True)


def test_a_refused_event_is_no_failure_of_the_server() -> None:
    parked = after(BREAKER_AT - 1)

    parked.learn(Answer(outcome=Outcome.REJECTED), 0.0)

    assert (parked.failures, parked.may_send(0.0)) == (0, True)


def test_a_pause_that_the_server_asks_for_is_longer_than_the_breakers() -> None:
    parked = after(BREAKER_AT, Answer(outcome=Outcome.RETRY_LATER, retry_after_s=200))

    assert (parked.may_send(199.9), parked.may_send(200.0)) == (False, True)
