"""Changes of Events keep their order, come after their Event, and hold up nothing else, whatever fails meanwhile."""

from __future__ import annotations

import itertools
import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from honeyhive_autoinstrument.delivery import courier as courier_module
from honeyhive_autoinstrument.delivery import uploader as uploader_module
from honeyhive_autoinstrument.delivery.http import UNKNOWN_FOR_S, HttpSink
from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome, Record
from honeyhive_autoinstrument.delivery.spool import Spool
from tests.conftest import wait_until
from tests.delivery.test_uploader import MemorySink, assert_adds_up, encode, on_disk, uploader
from tests.fakes.honeyhive import FakeHoneyHive

PATIENCE_S = 30.0


class KnowingSink(MemorySink):
    """Takes changes of Events that it knows, one after the other, as HttpSink does."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[str] = set()
        self.arrived: list[str] = []
        self.failures = 0
        """Requests that fail from now on."""

    def send(self, batch: Batch) -> Answer:
        self.is_asked.set()
        self.may_answer.wait(PATIENCE_S)
        if self.failures:
            self.failures -= 1
            return Answer(outcome=Outcome.RETRY_LATER, detail="503")
        accepted = batch.creations().ids
        self.known.update(accepted)
        self.arrived += accepted
        for record in batch.records:
            if record.updates is None:
                continue
            if record.updates not in self.known:
                if accepted:
                    return Answer(outcome=Outcome.PARTLY, accepted=accepted)
                return Answer(outcome=Outcome.NOT_YET)
            self.arrived.append(record.id)
            accepted = (*accepted, record.id)
        return Answer(outcome=Outcome.DELIVERED)


def change(number: int, of: str = "id-0") -> Any:
    return Record(id=f"change-{number}", body=b"{}", session_id="", session_body=b"", updates=of, made_s=time.time())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path), "somewhere", max_bytes=1 << 20, max_age_s=1000)


def changes_in(arrived: list[str]) -> list[str]:
    return [each for each in arrived if each.startswith("change-")]


def names(count: int) -> list[str]:
    return [f"change-{number}" for number in range(count)]


def test_a_change_waits_for_the_event_that_is_under_way_and_others_do_not(spool: Spool) -> None:
    sink = KnowingSink()
    line = uploader(sink, spool, batch_max_events=1, name="pair")
    busy = itertools.count(100)
    while sum(thread.name.startswith("pair-uploader") for thread in threading.enumerate()) < 2:
        for _ in range(3):
            line.submit(next(busy))
        assert line.flush(PATIENCE_S)
    sink.arrived.clear()
    sink.may_answer.clear()
    sink.is_asked.clear()

    line.submit(0)
    assert sink.is_asked.wait(PATIENCE_S)
    line.submit(change(0))
    sink.is_asked.clear()
    line.submit(3)

    assert sink.is_asked.wait(PATIENCE_S), "what comes after the change waits, too"
    sink.may_answer.set()
    wait_until(lambda: {"id-0", "id-3", "change-0"} <= set(sink.arrived), PATIENCE_S, what="all of them")
    assert sink.arrived.index("change-0") > sink.arrived.index("id-0")
    line.close(1)
    assert_adds_up(line.stats())


@pytest.mark.parametrize("is_on_disk", [True, False], ids=["on disk", "in memory"])
def test_changes_arrive_in_their_order_through_failures(spool: Spool, is_on_disk: bool) -> None:
    sink = KnowingSink()
    sink.known.add("id-0")
    line = uploader(sink, spool if is_on_disk else None, batch_max_events=1, workers=4)

    sink.failures = 4
    for number in range(30):
        line.submit(change(number))
    line.flush(PATIENCE_S)

    wait_until(lambda: len(sink.arrived) == 30, PATIENCE_S, what="all of them")
    assert sink.arrived == names(30)
    line.close(1)
    assert_adds_up(line.stats())


def test_a_process_that_makes_nothing_but_changes_recovers_while_it_makes_them(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PROBE_S", "IDLE_S", "SHORT_IDLE_S"):
        monkeypatch.setattr(uploader_module, name, 1e3)  # no worker looks by itself
    for module in (courier_module, uploader_module):
        monkeypatch.setattr(module, "MEMORY_S", math.inf)  # however long its tries take
    sink = KnowingSink()
    sink.known.add("id-0")
    sink.failures = 3
    line = uploader(sink, spool, workers=1)
    line.submit(change(0))
    wait_until(lambda: line.stats()["spooled"] == 1, PATIENCE_S, what="one on disk")

    line.submit(change(1))

    wait_until(lambda: len(sink.arrived) == 2, PATIENCE_S, what="both")
    assert sink.arrived == names(2)
    line.close(1)


def test_a_change_of_an_event_that_nobody_knows_holds_up_nothing_on_disk(spool: Spool) -> None:
    spool.put(Batch.of([change(0, of="nobody's")]))
    spool.put(Batch.of([encode(0)]))
    spool.put(Batch.of([change(1), change(2, of="nobody's")]))
    sink = KnowingSink()
    line = uploader(sink, spool, workers=1)

    line.submit(5)

    wait_until(lambda: {"id-0", "change-1"} <= set(sink.arrived), PATIENCE_S, what="what can be sent")
    wait_until(lambda: on_disk(spool) == ["change-0", "change-2"], PATIENCE_S, what="the rest, in its order")
    sink.known.add("nobody's")
    line.submit(6)
    wait_until(lambda: changes_in(sink.arrived) == ["change-1", "change-0", "change-2"], PATIENCE_S, what="the rest")
    line.close(1)
    assert_adds_up(line.stats())


def test_a_change_does_not_go_to_disk_before_its_event(spool: Spool) -> None:
    sink = KnowingSink()
    sink.may_answer.clear()
    sink.failures = 1000
    line = uploader(sink, spool, workers=1)
    line.submit(0)
    assert sink.is_asked.wait(PATIENCE_S)

    line.submit(change(0))
    line.submit(1)
    wait_until(lambda: on_disk(spool) == ["id-1"], PATIENCE_S, what="what the keeper can take")
    sink.may_answer.set()
    line.close(0.1)

    assert on_disk(spool).index("id-0") < on_disk(spool).index("change-0")
    sink.failures = 0
    after = uploader(sink, spool, workers=1)
    after.submit(2)
    wait_until(lambda: spool.is_empty(), PATIENCE_S, what="an empty folder")
    assert changes_in(sink.arrived) == ["change-0"]
    after.close(1)


def test_more_changes_than_one_worker_brings_out_go_to_disk_and_none_is_dropped(spool: Spool) -> None:
    sink = KnowingSink()
    sink.known.add("id-0")
    sink.may_answer.clear()
    line = uploader(sink, spool, queue_max_events=40, batch_max_events=4, workers=2)

    for number in range(30):
        line.submit(change(number))
    sink.may_answer.set()
    for number in range(30, 200):
        wait_until(lambda: line.stats()["pending"] < 40, PATIENCE_S, what="room")  # type: ignore[operator]
        line.submit(change(number))

    wait_until(lambda: len(sink.arrived) == 200, PATIENCE_S, what="all of them")
    assert sink.arrived == names(200)
    assert not any(line.stats()["dropped"].values())  # type: ignore[attr-defined]
    line.close(1)
    assert_adds_up(line.stats())


def test_without_a_disk_a_change_of_a_known_event_is_sent_at_the_end_beside_one_that_is_not() -> None:
    sink = KnowingSink()
    sink.known.add("id-0")
    line = uploader(sink, None, workers=1)
    line.submit(change(0, of="nobody's"))
    wait_until(lambda: line.stats()["pending"] == 1 and not line.flush(0), PATIENCE_S, what="one that waits")

    line.submit(change(1))
    line.close(5)

    assert sink.arrived == ["change-1"]
    assert_adds_up(line.stats())


def test_a_flush_does_not_ask_again_and_again_for_an_event_that_nobody_knows() -> None:
    sink = KnowingSink()
    requests: list[Batch] = []
    line = uploader(sink, None, workers=1)
    answer = sink.send
    sink.send = lambda batch: (requests.append(batch), answer(batch))[1]  # type: ignore[method-assign, func-returns-value]
    line.submit(change(0, of="nobody's"))

    assert not line.flush(3)

    assert 1 <= len(requests) <= 8
    line.close(0.1)


def test_a_finalizer_in_a_thread_that_is_just_starting_can_submit(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = uploader(KnowingSink(), spool, workers=1)
    bootstrap = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]
    submitted: list[bool] = []

    def collect_first(thread: threading.Thread) -> None:
        if "uploader" in thread.name and not submitted:
            submitted.append(line.submit(1))
        bootstrap(thread)

    monkeypatch.setattr(threading.Thread, "_bootstrap_inner", collect_first)
    asking = threading.Thread(target=line.submit, args=(0,), daemon=True)
    asking.start()
    asking.join(PATIENCE_S)

    assert not asking.is_alive(), "the submit hangs"
    assert submitted == [True]
    assert line.flush(PATIENCE_S)
    line.close(1)


@pytest.mark.parametrize("age_s", [0.0, UNKNOWN_FOR_S + 10], ids=["new", "old"])
def test_a_change_that_meets_a_wrong_key_is_never_given_up(fake_honeyhive: FakeHoneyHive, age_s: float) -> None:
    sink = HttpSink(url=fake_honeyhive.url, api_key="hh_another", timeout_s=10, project=None)
    record = Record(
        id="c", body=b'{"event_id":"e"}', session_id="", session_body=b"", updates="e", made_s=time.time() - age_s
    )

    answer = sink.send(Batch.of([record]))
    sink.close()

    assert answer.outcome in (Outcome.UNAUTHORISED, Outcome.NOT_YET)
    if age_s:
        assert answer.outcome is Outcome.UNAUTHORISED
