"""One Batch and a server that takes, refuses or splits it: each Event has one fate."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest

from honeyhive_autoinstrument.delivery.dispatch import MAX_PARTLY, Fate, dispatch
from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome, Record

Server = Callable[[Batch], Answer]
DELIVERED = Answer(outcome=Outcome.DELIVERED)


def record(number: int, text: str = "") -> Record:
    body = json.dumps({"event_id": f"id-{number}", "text": text}).encode()
    return Record(id=f"id-{number}", body=body, session_id="s", session_body=b"{}")


def batch_of(count: int) -> Batch:
    return Batch.of(record(number) for number in range(count))


def fates(batch: Batch, server: Server) -> dict[Fate, list[str]]:
    """The ids by fate; no id has two, none is missing."""
    found: dict[Fate, list[str]] = {}
    for step in dispatch(batch, server, set()):
        found.setdefault(step.fate, []).extend(step.batch.ids)
    assert sorted(each for ids in found.values() for each in ids) == sorted(batch.ids)
    return found


def counting(server: Server) -> tuple[Server, Counter[str]]:
    hits: Counter[str] = Counter()

    def send(batch: Batch) -> Answer:
        hits.update(batch.ids)
        return server(batch)

    return send, hits


def test_what_is_taken_is_sent() -> None:
    assert fates(batch_of(3), lambda batch: DELIVERED) == {Fate.SENT: ["id-0", "id-1", "id-2"]}


def test_an_empty_batch_is_not_sent() -> None:
    assert fates(batch_of(0), lambda batch: pytest.fail("was sent")) == {}


@pytest.mark.parametrize("outcome", [Outcome.RETRY_LATER, Outcome.UNAUTHORISED])
def test_a_failure_of_the_server_leaves_everything(outcome: Outcome) -> None:
    send, hits = counting(lambda batch: Answer(outcome=outcome))

    assert fates(batch_of(3), send) == {Fate.LEFT: ["id-0", "id-1", "id-2"]}
    assert set(hits.values()) == {1}


@pytest.mark.parametrize("bad", [0, 7, 99])
def test_one_bad_event_among_a_hundred_is_found_with_few_requests(bad: int) -> None:
    def server(batch: Batch) -> Answer:
        return Answer(outcome=Outcome.REJECTED) if f"id-{bad}" in batch.ids else DELIVERED

    send, hits = counting(server)
    found = fates(batch_of(100), send)

    assert found[Fate.REFUSED] == [f"id-{bad}"]
    assert len(found[Fate.SENT]) == 99
    assert max(hits.values()) <= 8


def test_a_failure_in_the_middle_of_a_split_leaves_what_has_no_fate_yet_in_order() -> None:
    answers = iter([Answer(outcome=Outcome.REJECTED), DELIVERED, Answer(outcome=Outcome.RETRY_LATER)])

    found = fates(batch_of(4), lambda batch: next(answers))

    assert found == {Fate.SENT: ["id-0", "id-1"], Fate.LEFT: ["id-2", "id-3"]}


def test_of_a_batch_that_is_taken_in_part_the_rest_is_sent_again() -> None:
    answers = iter([Answer(outcome=Outcome.PARTLY, accepted=("id-1",)), DELIVERED])

    send, hits = counting(lambda batch: next(answers))

    assert sorted(fates(batch_of(3), send)[Fate.SENT]) == ["id-0", "id-1", "id-2"]
    assert hits == {"id-0": 2, "id-1": 1, "id-2": 2}


def test_a_server_that_takes_one_event_at_a_time_gets_the_rest_later() -> None:
    send, hits = counting(lambda batch: Answer(outcome=Outcome.PARTLY, accepted=batch.ids[:1]))

    found = fates(batch_of(100), send)

    assert len(found[Fate.SENT]) == MAX_PARTLY + 1
    assert max(hits.values()) == MAX_PARTLY + 1


def test_a_server_that_says_partly_and_takes_nothing_is_not_asked_forever() -> None:
    send, hits = counting(lambda batch: Answer(outcome=Outcome.PARTLY))

    assert fates(batch_of(3), send) == {Fate.LEFT: ["id-0", "id-1", "id-2"]}
    assert set(hits.values()) == {1}


def test_a_batch_that_is_too_large_goes_in_smaller_ones() -> None:
    def server(batch: Batch) -> Answer:
        return DELIVERED if len(batch) <= 3 else Answer(outcome=Outcome.TOO_LARGE)

    send, hits = counting(server)

    assert fates(batch_of(20), send)[Fate.SENT] == [f"id-{number}" for number in range(20)]
    assert max(hits.values()) <= 4


def test_a_single_event_that_is_too_large_is_shortened_until_it_fits() -> None:
    sent: list[bytes] = []

    def server(batch: Batch) -> Answer:
        body = batch.records[0].body
        if len(body) > 20_000:
            return Answer(outcome=Outcome.TOO_LARGE)
        sent.append(body)
        return DELIVERED

    found = fates(Batch.of([record(1, "beginning " + "x" * 300_000 + " end")]), server)

    assert found == {Fate.SENT: ["id-1"]}
    (event,) = map(json.loads, sent)
    assert event["event_id"] == "id-1"
    assert event["text"].startswith("beginning")
    assert event["text"].endswith("end")
    assert "300014 bytes" in event["text"]


def test_an_event_that_is_too_large_however_short_is_refused() -> None:
    send, hits = counting(lambda batch: Answer(outcome=Outcome.TOO_LARGE))

    assert fates(Batch.of([record(1, "x" * 1_000_000)]), send) == {Fate.REFUSED: ["id-1"]}
    assert max(hits.values()) <= 12


def change(number: int, of: str) -> Record:
    return Record(id=f"id-{number}", body=b"{}", session_id="", session_body=b"", updates=of)


def knows_from(number: int, event_id: str) -> Server:
    """A server that gets to know an Event only when so many requests have come."""
    requests = iter(range(1000))

    def send(batch: Batch) -> Answer:
        is_known = next(requests) >= number
        if is_known or all(record.updates != event_id for record in batch.records):
            return DELIVERED
        return Answer(outcome=Outcome.NOT_YET)

    return send


@pytest.mark.parametrize("number", range(1, 8))
def test_changes_of_an_event_that_becomes_known_meanwhile_keep_their_order(number: int) -> None:
    batch = Batch.of([change(0, "a"), change(1, "b"), change(2, "a"), change(3, "a"), change(4, "b")])

    found = fates(batch, knows_from(number, "a"))

    of_a = [*found.get(Fate.SENT, []), *found.get(Fate.LEFT, [])]
    assert [each for each in of_a if each in ("id-0", "id-2", "id-3")] == ["id-0", "id-2", "id-3"]
    assert {"id-1", "id-4"} <= set(found[Fate.SENT])


def test_changes_left_by_a_failure_keep_the_order_of_each_event() -> None:
    def send(batch: Batch) -> Answer:
        if len(batch) > 1 or batch.records[0].updates == "a":
            return Answer(outcome=Outcome.NOT_YET)
        return Answer(outcome=Outcome.RETRY_LATER)

    batch = Batch.of([change(0, "a"), change(1, "a"), change(2, "b"), change(3, "a"), change(4, "b")])

    left = fates(batch, send)[Fate.LEFT]

    assert [each for each in left if each in ("id-0", "id-1", "id-3")] == ["id-0", "id-1", "id-3"]
    assert [each for each in left if each in ("id-2", "id-4")] == ["id-2", "id-4"]
