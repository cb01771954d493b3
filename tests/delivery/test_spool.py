"""Batches on disk: whole, private, kept apart, bounded."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from honeyhive_autoinstrument.delivery import spool as spool_module
from honeyhive_autoinstrument.delivery.sink import Batch, Record
from honeyhive_autoinstrument.delivery.spool import BROKEN, REJECTED, Spool, destination_name


def record(number: int, size: int = 10) -> Record:
    return Record(
        id=f"id-{number}",
        body=b'{"event_id":"id-%d","text":"%s"}' % (number, b"x" * size),
        session_id="s",
        session_body=b'{"session_id":"s"}',
    )


def spool(tmp_path: Path, **limits: float) -> Spool:
    return Spool(str(tmp_path), "somewhere", **{"max_bytes": 1_000_000, "max_age_s": 1000, **limits})  # type: ignore[arg-type]


def test_a_batch_comes_back_as_it_was_put(tmp_path: Path) -> None:
    store = spool(tmp_path)
    batch = Batch.of([record(1), record(2)])

    assert store.put(batch) == []

    (path,) = store.paths()
    assert store.load(path) == batch
    store.remove(path)
    assert store.is_empty()


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    store = spool(tmp_path)
    store.put(Batch.of([record(1)]))

    (path,) = store.paths()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.folder.parent.stat().st_mode) == 0o700


def test_the_oldest_batches_make_room_and_are_counted(tmp_path: Path) -> None:
    store = spool(tmp_path, max_bytes=3600)
    for number in range(3):
        assert store.put(Batch.of([record(number, 800)])) == []

    (oldest, *_) = store.paths()
    assert store.put(Batch.of([record(3, 800)])) == [oldest]

    kept = [store.load(path) for path in store.paths()]
    assert [batch.records[0].id for batch in kept if batch] == ["id-1", "id-2", "id-3"]
    assert sum(path.stat().st_size for path in store.paths()) <= 3600


def test_in_a_full_spool_long_texts_are_shortened_before_a_batch_goes(tmp_path: Path) -> None:
    store = spool(tmp_path, max_bytes=30_000)
    for number in range(5):
        assert store.put(Batch.of([record(number, 8000)])) == []

    batches = [store.peek(path) for path in store.paths()]
    assert [batch.records[0].id for batch in batches if batch] == [f"id-{number}" for number in range(5)]
    sizes = [len(batch.records[0].body) for batch in batches if batch]
    assert sizes[-1] > 8000 > 2500 > sizes[0]
    assert b"sha256" in batches[0].records[0].body  # type: ignore[union-attr]
    assert sum(path.stat().st_size for path in store.paths()) <= 30_000


def test_batches_beyond_their_age_go(tmp_path: Path) -> None:
    spool(tmp_path).put(Batch.of([record(1)]))
    (old,) = spool(tmp_path).paths()

    assert spool(tmp_path, max_age_s=0).put(Batch.of([record(2)])) == [old]


def test_of_refused_events_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MAX_REJECTED", 3)
    store = spool(tmp_path)
    for number in range(5):
        store.reject(Batch.of([record(number)]), "no")

    kept = [store.peek(path) for path in sorted((store.folder / REJECTED).iterdir())]
    assert [batch.records[0].id for batch in kept if batch] == ["id-2", "id-3", "id-4"]


@pytest.mark.parametrize("damage", [b"", b"garbage", b'{"format":99,"events":1}\n', b'{"format":1,"events":2}\n'])
def test_a_broken_file_is_set_aside_and_the_rest_is_used(tmp_path: Path, damage: bytes) -> None:
    store = spool(tmp_path)
    store.put(Batch.of([record(1)]))
    broken = store.folder / "00000000000000000001-1-0-1.batch"
    broken.write_bytes(damage)

    loaded = [store.load(path) for path in store.paths()]

    assert [batch is None for batch in loaded] == [True, False]
    assert (store.folder / BROKEN / broken.name).read_bytes() == damage
    assert len(store.paths()) == 1


def test_only_one_replays_a_folder_at_a_time(tmp_path: Path) -> None:
    store = spool(tmp_path)
    store.put(Batch.of([record(1)]))

    with store.claimed() as first, store.claimed() as second:
        assert (first, second) == (True, False)
    with store.claimed() as third:
        assert third is True


def test_two_keys_of_one_server_have_two_folders() -> None:
    first = destination_name("https://api.example.com", "hh_one_0123456789")
    second = destination_name("https://api.example.com", "hh_two_0123456789")

    assert first != second
    assert first.startswith("api.example.com-")
    assert "hh_one" not in first


DAY_NS = 86_400 * 10**9


@pytest.mark.parametrize("step_days", [30, -30], ids=["forward", "back"])
def test_a_clock_that_is_set_makes_no_batch_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_days: int
) -> None:
    store = spool(tmp_path, max_age_s=7 * 86_400)
    store.put(Batch.of([record(1)]))
    now_ns = time.time_ns
    monkeypatch.setattr(spool_module, "MEASURED_FOR_S", 0)

    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + step_days * DAY_NS)
    dropped = [*store.put(Batch.of([record(2)])), *store.put(Batch.of([record(3)]))]

    assert dropped == []
    kept = [batch.ids[0] for batch in map(store.load, store.paths()) if batch is not None]
    assert sorted(kept) == ["id-1", "id-2", "id-3"]


def test_a_process_that_began_under_a_wrong_clock_drops_nothing_when_it_is_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() - 20_000 * DAY_NS)  # 1970, as on a board without a battery
    store = spool(tmp_path, max_age_s=7 * 86_400)
    store.put(Batch.of([record(1)]))
    monkeypatch.setattr(spool_module, "MEASURED_FOR_S", 0)

    monkeypatch.setattr(time, "time_ns", now_ns)

    assert store.put(Batch.of([record(2)])) == []
    later_process = spool(tmp_path, max_age_s=7 * 86_400)
    assert later_process.put(Batch.of([record(3)])) == []
    assert len(store.paths()) == 3


def test_what_is_set_aside_leaves_most_of_the_room_to_what_can_be_sent(tmp_path: Path) -> None:
    store = spool(tmp_path, max_bytes=80_000)
    for number in range(30):
        store.reject(Batch.of([record(number, 2000)]), "no")

    aside = sorted((store.folder / REJECTED).iterdir())

    assert 2 <= len(aside) <= 5
    assert sum(path.stat().st_size for path in aside) <= 10_000
    newest = store.peek(aside[-1])
    assert newest is not None
    assert newest.ids == ("id-29",)


def test_of_a_file_that_was_cut_short_the_whole_events_are_used(tmp_path: Path) -> None:
    store = spool(tmp_path)
    store.put(Batch.of([record(number) for number in range(5)]))
    (path,) = store.paths()
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])

    batch = store.load(path)
    again = store.load(path)

    assert batch is not None
    assert batch.ids == ("id-0", "id-1", "id-2", "id-3")
    assert again == batch
    assert (store.folder / BROKEN / path.name).read_bytes() == whole[:-30]
    assert len(list((store.folder / BROKEN).iterdir())) == 1


def test_half_written_files_of_long_ago_are_swept_away(tmp_path: Path) -> None:
    store = spool(tmp_path)
    store.put(Batch.of([record(1)]))
    old, new = store.folder / ".one.tmp", store.folder / ".two.tmp"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (1, 1))

    with store.claimed():
        pass

    assert (old.exists(), new.exists(), len(store.paths())) == (False, True, 1)
