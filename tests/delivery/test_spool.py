"""Batches on disk: whole, private, kept apart, bounded."""

from __future__ import annotations

import stat
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
