"""The Uploader by itself, with a Sink in memory: every item is in exactly one place, whatever happens."""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from honeyhive_autoinstrument._faults import faults
from honeyhive_autoinstrument.delivery import breaker as breaker_module
from honeyhive_autoinstrument.delivery import uploader as uploader_module
from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome, Record
from honeyhive_autoinstrument.delivery.spool import Spool, journals
from honeyhive_autoinstrument.delivery.uploader import Limits, Uploader
from tests.conftest import wait_until


class MemorySink:
    """Keeps what it is sent; answers by plan, else that it is delivered. May be made to wait."""

    def __init__(self, *plan: Answer) -> None:
        self.plan = deque(plan)
        self.taken: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_asked = threading.Event()

    def send(self, batch: Batch) -> Answer:
        self.is_asked.set()
        self.may_answer.wait(20)
        answer = self.plan.popleft() if self.plan else Answer(outcome=Outcome.DELIVERED)
        if answer.outcome is Outcome.DELIVERED:
            self.taken += [record.id for record in batch.records]
        self.taken += answer.accepted
        return answer

    def hurry(self, seconds: float) -> None:
        self.seconds_left = seconds

    def has_contact(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def before_fork(self) -> None:
        pass

    def after_fork_in_parent(self) -> None:
        pass

    def after_fork(self) -> None:
        pass


def encode(number: int) -> Record:
    return Record(id=f"id-{number}", body=b"{}", session_id="s", session_body=b"{}")


def uploader(sink: Any, spool: Spool | None, **more: Any) -> Uploader[int]:
    limits = Limits(
        queue_max_events=more.pop("queue_max_events", 1000),
        queue_max_bytes=1 << 20,
        batch_max_events=more.pop("batch_max_events", 10),
        batch_max_bytes=1 << 20,
        linger_s=more.pop("linger_s", 0.01),
        workers=more.pop("workers", 2),
        request_s=more.pop("request_s", 10),
    )
    return Uploader(
        encode=more.pop("encode", encode), size_of=lambda _: 10, sink=sink, spool=spool, limits=limits, **more
    )


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path), "somewhere", max_bytes=1 << 20, max_age_s=1000)


def on_disk(spool: Spool) -> list[str]:
    return [record.id for path in spool.paths() for record in getattr(spool.peek(path), "records", ())]


def assert_adds_up(stats: dict[str, Any]) -> None:
    parts = stats["sent"] + stats["pending"] + stats["spooled"] + stats["rejected"] + sum(stats["dropped"].values())
    assert stats["created"] == parts, stats


def test_what_a_worker_is_still_building_at_close_is_not_lost(spool: Spool) -> None:
    may_build = threading.Event()

    def build_slowly(number: int) -> Record:
        if threading.current_thread() is not threading.main_thread():
            may_build.wait(20)
        return encode(number)

    line = uploader(MemorySink(), spool, encode=build_slowly)
    for number in range(10):
        line.submit(number)
    wait_until(lambda: line.stats()["pending"] == 10, what="ten pending")

    line.close(0.05)
    may_build.set()

    assert sorted(on_disk(spool)) == sorted(f"id-{number}" for number in range(10))
    assert_adds_up(line.stats())


def test_no_worker_is_amid_building_when_close_is_done(spool: Spool) -> None:
    # Prices are LiteLLM's; a thread that the interpreter's end meets inside of pydantic aborts the process.
    begun, is_taken = threading.Event(), threading.Event()
    built_by_worker: list[int] = []

    def build_slowly(number: int) -> Record:
        if threading.current_thread() is threading.main_thread():
            is_taken.set()
        else:
            begun.set()
            is_taken.wait(20)
            time.sleep(0.05)  # what it takes to build it
            built_by_worker.append(number)
        return encode(number)

    line = uploader(MemorySink(), spool, encode=build_slowly, workers=1)
    for number in range(10):
        line.submit(number)
    begun.wait(20)

    line.close(0.01)

    assert built_by_worker == [0], "it goes on with what was taken from it, or is waited for not at all"
    assert sorted(on_disk(spool)) == sorted(f"id-{number}" for number in range(10))
    assert_adds_up(line.stats())


def test_what_a_server_that_hangs_has_not_taken_at_close_goes_to_disk(spool: Spool) -> None:
    sink = MemorySink()
    sink.may_answer.clear()
    line = uploader(sink, spool)
    for number in range(25):
        line.submit(number)
    sink.is_asked.wait(10)

    line.close(0.05)

    assert sorted(on_disk(spool)) == sorted(f"id-{number}" for number in range(25))
    assert_adds_up(line.stats())
    sink.may_answer.set()


def test_a_second_close_does_not_wait_and_keeps_the_rest(spool: Spool) -> None:
    sink = MemorySink()
    sink.may_answer.clear()
    line = uploader(sink, spool)
    for number in range(5):
        line.submit(number)
    sink.is_asked.wait(10)
    first = threading.Thread(target=line.close, args=(15,))
    first.start()
    wait_until(lambda: line._courier.is_closing, what="the first close")

    line.close(15)

    assert sorted(on_disk(spool)) == sorted(f"id-{number}" for number in range(5))
    sink.may_answer.set()
    first.join()


def test_after_a_partly_taken_batch_only_the_rest_is_kept(spool: Spool) -> None:
    later = Answer(outcome=Outcome.RETRY_LATER, retry_after_s=200)
    sink = MemorySink(Answer(outcome=Outcome.PARTLY, accepted=("id-0", "id-2")), later)
    line = uploader(sink, spool, batch_max_events=4, linger_s=2)
    for number in range(4):
        line.submit(number)
    line.flush(10)

    assert on_disk(spool) == ["id-1", "id-3"]
    stats = line.stats()
    assert (stats["sent"], stats["spooled"]) == (2, 2)
    assert_adds_up(stats)
    line.close(1)


def test_a_sink_that_raises_loses_nothing(spool: Spool) -> None:
    class Broken(MemorySink):
        def send(self, batch: Batch) -> Answer:
            raise RuntimeError("broken")

    line = uploader(Broken(), spool)
    line.submit(1)
    wait_until(lambda: line.stats()["spooled"] == 1, what="the event on disk")

    assert on_disk(spool) == ["id-1"]
    assert_adds_up(line.stats())
    line.close(1)
    faults.after_fork()


def test_files_of_other_processes_join_the_ledger_when_they_are_sent(spool: Spool, tmp_path: Path) -> None:
    other = Spool(str(tmp_path), "somewhere", max_bytes=1 << 20, max_age_s=1000)
    other.put(Batch.of([encode(100), encode(101)]))
    sink = MemorySink()
    line = uploader(sink, spool)

    line.submit(1)
    wait_until(lambda: len(sink.taken) == 3, what="all three")

    wait_until(lambda: on_disk(spool) == [], what="an empty folder")
    wait_until(lambda: line.stats()["sent"] == 3, what="the ledger")
    assert line.stats()["created"] == 3
    assert_adds_up(line.stats())
    line.close(1)


def test_files_of_other_processes_are_counted_once_however_often_they_cannot_be_sent(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader_module, "PROBE_S", 0.02)
    monkeypatch.setattr(breaker_module, "PROBE_S", 0.02)
    other = Spool(str(tmp_path), "somewhere", max_bytes=1 << 20, max_age_s=1000)
    other.put(Batch.of([encode(100), encode(101)]))
    sink = MemorySink(*[Answer(outcome=Outcome.RETRY_LATER)] * 12)
    line = uploader(sink, spool)

    line.submit(1)
    wait_until(lambda: line.stats()["sent"] == 3, seconds=60, what="all three")

    assert (line.stats()["created"], line.stats()["spooled"]) == (3, 0)
    assert_adds_up(line.stats())
    line.close(1)


def test_a_file_of_another_process_that_makes_room_is_no_drop_of_ours(tmp_path: Path) -> None:
    other = Spool(str(tmp_path), "somewhere", max_bytes=1 << 20, max_age_s=1000)
    other.put(Batch.of([encode(number) for number in range(100)]))
    small = Spool(str(tmp_path), "somewhere", max_bytes=2000, max_age_s=1000)
    line = uploader(None, small)

    line.submit(1)
    line.close(5)

    assert on_disk(small) == ["id-1"]
    assert (line.stats()["spooled"], line.stats()["dropped"]) == (1, {})


def test_flush_waits_for_what_goes_to_disk_first(spool: Spool) -> None:
    sink = MemorySink()
    line = uploader(sink, spool, is_durable=True)
    for number in range(30):
        line.submit(number)

    assert line.flush(20)
    assert line.stats()["sent"] == 30
    assert_adds_up(line.stats())
    line.close(1)


def test_a_server_that_asks_for_a_long_pause_gets_it(spool: Spool) -> None:
    sink = MemorySink(Answer(outcome=Outcome.RETRY_LATER, retry_after_s=60))
    line = uploader(sink, spool)
    line.submit(1)
    wait_until(lambda: line.stats()["spooled"] == 1, what="the event on disk")

    line.submit(2)
    line.flush(10)

    assert sink.taken == []
    assert line.stats()["spooled"] == 2
    line.close(1)


def test_without_a_disk_what_waits_gets_a_last_try_at_close() -> None:
    sink = MemorySink(*[Answer(outcome=Outcome.RETRY_LATER, retry_after_s=200)])
    line = uploader(sink, None)
    line.submit(1)
    sink.is_asked.wait(10)
    wait_until(lambda: line._holdings.waiting > 0, what="the event in memory")

    line.close(5)

    assert sink.taken == ["id-1"]
    assert line.stats()["dropped"] == {}
    assert_adds_up(line.stats())


def test_without_a_disk_batches_wait_in_memory_until_the_server_is_back() -> None:
    later = Answer(outcome=Outcome.RETRY_LATER)
    sink = MemorySink(later, later, later)
    line = uploader(sink, None)

    line.submit(1)
    wait_until(lambda: sink.taken == ["id-1"], seconds=30, what="the event")

    wait_until(lambda: line.stats()["sent"] == 1, what="the ledger")
    assert_adds_up(line.stats())
    line.close(1)


def test_without_a_disk_what_is_left_at_close_is_a_counted_drop() -> None:
    sink = MemorySink(*[Answer(outcome=Outcome.RETRY_LATER)] * 100)
    line = uploader(sink, None)
    line.submit(1)
    sink.is_asked.wait(10)

    line.close(2)

    assert line.stats()["dropped"] == {"program ended": 1}
    assert_adds_up(line.stats())


def test_an_item_that_cannot_be_built_is_a_counted_drop(spool: Spool) -> None:
    def fail_on_two(number: int) -> Record:
        if number == 2:
            raise ValueError("two")
        return encode(number)

    sink = MemorySink()
    line = uploader(sink, spool, encode=fail_on_two)
    for number in (1, 2, 3):
        line.submit(number)
    assert line.flush(10)

    assert sorted(sink.taken) == ["id-1", "id-3"]
    assert line.stats()["dropped"] == {"not built": 1}
    assert_adds_up(line.stats())
    line.close(1)
    assert faults.counts() == {"build an event": 1}
    faults.after_fork()


def test_an_item_that_wants_to_end_the_program_ends_nothing(spool: Spool) -> None:
    def exit_on_two(number: int) -> Record:
        if number == 2:
            sys.exit("not here")
        return encode(number)

    sink = MemorySink()
    line = uploader(sink, spool, encode=exit_on_two)
    for number in (1, 2):
        line.submit(number)
    assert line.flush(10)
    line.submit(3)
    assert line.flush(10)

    assert sorted(sink.taken) == ["id-1", "id-3"]
    assert line.stats()["dropped"] == {"not built": 1}
    assert_adds_up(line.stats())
    line.close(1)
    faults.after_fork()


def test_a_full_queue_drops_the_next_item_and_counts_it(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    # The keeper puts nothing to disk, whenever it looks.
    monkeypatch.setattr(uploader_module, "SPILL_AT", 2.0)
    monkeypatch.setattr(uploader_module, "MEMORY_S", 1e6)
    sink = MemorySink()
    sink.may_answer.clear()
    line = uploader(sink, spool)

    taken = [line.submit(number) for number in range(1200)]

    assert taken.count(False) == line.stats()["dropped"]["queue full"] > 0
    assert_adds_up(line.stats())
    sink.may_answer.set()
    line.close(5)
    assert_adds_up(line.stats())


def test_where_no_thread_starts_any_more_the_closing_one_delivers(spool: Spool) -> None:
    sink = MemorySink()
    line = uploader(sink, spool)
    before = threading.stack_size(
        1 << 46
    )  # bytes, more than there are: as at the end of a program from CPython 3.12 on
    try:
        line.submit(1)
    finally:
        threading.stack_size(before)

    line.close(5)

    assert sink.taken == ["id-1"]
    assert 0 < sink.seconds_left <= 5
    assert on_disk(spool) == []
    assert_adds_up(line.stats())


def test_items_submitted_after_close_go_to_disk_at_once(spool: Spool) -> None:
    line = uploader(MemorySink(), spool)
    line.close(1)

    line.submit(7)

    assert on_disk(spool) == ["id-7"]
    assert_adds_up(line.stats())


def test_a_durable_item_is_on_disk_when_submit_returns(spool: Spool) -> None:
    sink = MemorySink()
    sink.may_answer.clear()
    line = uploader(sink, spool, is_durable=True)

    for number in range(5):
        line.submit(number)
    written = [spool.peek(path) for path in journals(spool.folder)]
    sink.may_answer.set()

    assert [each for batch in written if batch for each in batch.ids] == [f"id-{number}" for number in range(5)]
    assert line.flush(10)
    assert journals(spool.folder) == []
    assert (line.stats()["sent"], on_disk(spool)) == (5, [])
    line.close(1)


def test_durable_items_beyond_the_queue_are_kept_on_disk_and_not_dropped(spool: Spool) -> None:
    sink = MemorySink()
    sink.may_answer.clear()
    line = uploader(sink, spool, is_durable=True, queue_max_events=20)

    for number in range(60):
        assert line.submit(number)
    assert_adds_up(line.stats())
    assert line.stats()["dropped"] == {}
    sink.may_answer.set()
    line.close(10)

    assert sorted({*sink.taken, *on_disk(spool)}) == sorted(f"id-{number}" for number in range(60))
    assert_adds_up(line.stats())


def test_what_is_left_of_durable_items_at_close_stays_in_one_place_and_is_sent_by_the_next(spool: Spool) -> None:
    sink = MemorySink()
    sink.may_answer.clear()
    line = uploader(sink, spool, is_durable=True)
    for number in range(30):
        line.submit(number)
    sink.is_asked.wait(10)

    line.close(0.05)

    kept = [each for path in (*spool.paths(), *journals(spool.folder)) for each in getattr(spool.peek(path), "ids", ())]
    assert sorted(kept) == sorted(f"id-{number}" for number in range(30))
    assert (line.stats()["spooled"], line.stats()["pending"]) == (30, 0)
    sink.may_answer.set()
    heir = MemorySink()
    follower = uploader(heir, Spool(str(spool.folder.parent.parent), "somewhere", max_bytes=1 << 20, max_age_s=1000))
    follower.submit(99)
    wait_until(lambda: len(heir.taken) == 31, what="all of it, and one more")
    wait_until(lambda: journals(spool.folder) == [], what="an empty folder")
    follower.close(5)


def test_while_every_worker_waits_for_the_server_the_rest_goes_to_disk_in_time(spool: Spool) -> None:
    sink = MemorySink()
    sink.may_answer.clear()
    line = uploader(sink, spool)
    for number in range(100):
        line.submit(number)

    wait_until(lambda: line.stats()["spooled"] >= 80, what="all but what is in hand on disk")

    assert len(on_disk(spool)) == line.stats()["spooled"]
    assert_adds_up(line.stats())
    sink.may_answer.set()
    line.close(10)
    assert_adds_up(line.stats())


def test_a_queue_that_fills_by_three_quarters_is_put_to_disk_at_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader_module, "MEMORY_S", 1e6)  # nothing has waited too long
    sink = MemorySink()
    sink.may_answer.clear()
    line = uploader(sink, spool)
    for number in range(900):
        line.submit(number)

    wait_until(lambda: line.stats()["pending"] <= 520, what="half a queue")

    assert line.stats()["dropped"] == {}
    assert_adds_up(line.stats())
    sink.may_answer.set()
    line.close(10)


def test_a_worker_that_hangs_is_replaced_and_what_it_had_is_kept(spool: Spool) -> None:
    class HangsOnce(MemorySink):
        def send(self, batch: Batch) -> Answer:
            if not self.is_asked.is_set():
                self.is_asked.set()
                self.may_answer.wait(20)
            return super().send(batch)

    sink = HangsOnce()
    sink.may_answer.clear()
    line = uploader(sink, spool, request_s=0.2, workers=1, batch_max_events=5)
    line.submit(0)
    sink.is_asked.wait(10)
    line.submit(1)
    sink.may_answer.clear()
    wait_until(lambda: "id-0" in on_disk(spool) or line.stats()["sent"] > 0, what="what the hung worker had on disk")
    sink.plan.extend([Answer(outcome=Outcome.DELIVERED)] * 10)
    sink.may_answer.set()

    assert line.flush(10)
    wait_until(lambda: {"id-0", "id-1"} <= {*sink.taken}, what="both events")
    assert_adds_up(line.stats())
    line.close(5)


def test_a_thread_that_has_died_is_replaced(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    sink = MemorySink()
    line = uploader(sink, spool)
    line.submit(0)
    assert line.flush(10)
    worker = line._threads[0]

    # Exceptions of the kind that a thread cannot keep out for good: one hits while another is dealt with.
    number = 0
    while worker.is_alive():
        if line.stats()["pending"] == 0:
            number += 1
            line.submit(number)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident or 0), ctypes.py_object(SystemExit))
    line.submit(number + 1)

    wait_until(lambda: f"id-{number + 1}" in sink.taken, what="the event after the thread's death")
    line.close(5)
    faults.after_fork()


def test_an_application_whose_log_handler_ends_the_program_ends_no_worker_of_ours(spool: Spool) -> None:
    class Ends(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sys.exit("a line was logged")

    def fail_on_two(number: int) -> Record:
        if number == 2:
            raise ValueError("two")
        return encode(number)

    sink = MemorySink()
    line = uploader(sink, spool, encode=fail_on_two)
    handler = Ends()
    logging.getLogger("honeyhive_autoinstrument").addHandler(handler)
    try:
        for number in (1, 2, 3):
            line.submit(number)
        assert line.flush(10)
    finally:
        logging.getLogger("honeyhive_autoinstrument").removeHandler(handler)

    assert sorted(sink.taken) == ["id-1", "id-3"]
    assert line.stats()["dropped"] == {"not built": 1}
    assert_adds_up(line.stats())
    line.close(1)
    faults.after_fork()


def test_a_closed_uploader_that_is_opened_again_goes_on(spool: Spool) -> None:
    sink = MemorySink()
    line = uploader(sink, spool)
    line.submit(1)
    line.close(5)
    line.submit(2)

    line.reopen()
    line.submit(3)

    assert line.flush(10)
    wait_until(lambda: sorted(sink.taken) == ["id-1", "id-2", "id-3"], what="all three, also the one from disk")
    assert_adds_up(line.stats())
    line.close(5)


def test_a_program_that_ends_does_not_wait_for_a_server_that_cannot_be_found(spool: Spool) -> None:
    class Unreachable(MemorySink):
        def has_contact(self) -> bool:
            return False

    sink = Unreachable()
    sink.may_answer.clear()
    line = uploader(sink, spool)
    line.submit(1)
    sink.is_asked.wait(10)
    began = time.monotonic()

    line.close(30)

    assert time.monotonic() - began < 10
    assert on_disk(spool) == ["id-1"]
    sink.may_answer.set()


def test_events_stay_in_memory_while_the_disk_fails_and_are_sent_when_the_server_is_back(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    sink = MemorySink(*[Answer(outcome=Outcome.RETRY_LATER)] * 3)
    line = uploader(sink, Spool(str(tmp_path), "somewhere", max_bytes=1 << 20, max_age_s=1000))

    line.submit(1)
    wait_until(lambda: sink.taken == ["id-1"], seconds=30, what="the event")

    wait_until(lambda: line.stats()["sent"] == 1, what="the ledger")
    assert line.stats()["dropped"] == {}
    line.close(5)


def test_what_neither_disk_nor_server_take_is_a_counted_drop(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    sink = MemorySink(*[Answer(outcome=Outcome.RETRY_LATER)] * 100)
    line = uploader(sink, Spool(str(tmp_path), "somewhere", max_bytes=1 << 20, max_age_s=1000))
    line.submit(1)
    sink.is_asked.wait(10)

    line.close(2)

    assert line.stats()["dropped"] == {"disk failed": 1}
    assert_adds_up(line.stats())
