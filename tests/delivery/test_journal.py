"""The journal: on disk when `append` returns, gone when settled, read by others once its process is dead."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from honeyhive_autoinstrument.delivery.journal import Journal
from honeyhive_autoinstrument.delivery.sink import Record
from honeyhive_autoinstrument.delivery.spool import Spool, journals


def record(number: int, session: str = "s") -> Record:
    return Record(
        id=f"id-{number}",
        body=b'{"event_id":"id-%d"}' % number,
        session_id=session,
        session_body=b'{"session_id":"%b"}' % session.encode(),
    )


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path), "somewhere", max_bytes=1 << 20, max_age_s=1000)


def journal(spool: Spool, events: int = 100) -> Journal:
    return Journal(spool, segment_events=events, segment_bytes=1 << 20)


def held(spool: Spool) -> list[str]:
    batches = [spool.peek(path) for path in journals(spool.folder)]
    return [each for batch in batches if batch is not None for each in batch.ids]


def test_an_event_is_on_disk_when_append_returns(spool: Spool) -> None:
    line = journal(spool)

    line.append(record(1))

    assert held(spool) == ["id-1"]
    (path,) = journals(spool.folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_settled_is_not_in_it_any_more(spool: Spool) -> None:
    line = journal(spool)
    for number in range(4):
        line.append(record(number))

    line.settle(["id-0", "id-2", "unknown"])

    assert held(spool) == ["id-1", "id-3"]
    assert (line.holds(["id-1"]), line.holds(["id-1", "id-0"])) == (True, False)


def test_a_file_of_which_everything_is_settled_is_gone(spool: Spool) -> None:
    line = journal(spool)
    for number in range(4):
        line.append(record(number))

    line.settle([f"id-{number}" for number in range(4)])
    assert journals(spool.folder) == []

    line.append(record(5))
    assert held(spool) == ["id-5"]


def test_a_full_file_is_followed_by_another(spool: Spool) -> None:
    line = journal(spool, events=2)

    for number in range(5):
        line.append(record(number))

    assert len(journals(spool.folder)) == 3
    line.settle(["id-0", "id-1"])
    assert held(spool) == ["id-2", "id-3", "id-4"]


def test_each_session_has_its_row_in_each_file(spool: Spool) -> None:
    line = journal(spool, events=2)
    for number, session in enumerate(["a", "b", "a"]):
        line.append(record(number, session))

    batches = [spool.peek(path) for path in journals(spool.folder)]

    assert [set(batch.sessions()) for batch in batches if batch] == [{"a", "b"}, {"a"}]


def test_the_journal_of_this_process_is_not_replayed(spool: Spool) -> None:
    journal(spool).append(record(1))

    assert (spool.is_empty(), spool.replayable()) == (True, [])


OTHER_PROCESS = """
import sys
from honeyhive_autoinstrument.delivery.journal import Journal
from honeyhive_autoinstrument.delivery.sink import Record
from honeyhive_autoinstrument.delivery.spool import Spool

line = Journal(
    Spool(sys.argv[1], "somewhere", max_bytes=1 << 20, max_age_s=1000), segment_events=100, segment_bytes=1 << 20
)
for number in range(3):
    line.append(Record(id=f"id-{number}", body=b"{}", session_id="s", session_body=b"{}"))
line.settle(["id-1"])
print("written", flush=True)
sys.stdin.read()
"""


def test_the_journal_of_another_process_is_replayed_once_that_is_dead(spool: Spool, tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "written\n"
    while_it_lives = spool.replayable()

    other.kill()
    other.communicate()
    (path,) = spool.replayable()
    batch = spool.load(path)

    assert while_it_lives == []
    assert batch is not None
    assert batch.ids == ("id-0", "id-2")


def test_what_a_dead_process_left_behind_is_swept_away(spool: Spool, tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "written\n"
    other.kill()
    other.communicate()

    with spool.claimed() as is_mine:
        assert is_mine
        for path in spool.replayable():
            spool.remove(path)

    assert [path.name for path in spool.folder.iterdir()] == [".lock"]


def test_a_line_that_was_being_written_when_its_process_died_is_left_out(spool: Spool) -> None:
    line = journal(spool)
    for number in range(3):
        line.append(record(number))
    (path,) = journals(spool.folder)
    os.truncate(path, path.stat().st_size - 5)

    assert held(spool) == ["id-0", "id-1"]


def test_a_forked_child_has_files_of_its_own_and_leaves_the_parents_alone(spool: Spool) -> None:
    line = journal(spool)
    line.append(record(1))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            spool.after_fork()
            line.after_fork()
            line.append(record(2))
            line.settle(["id-1", "id-2"])
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert held(spool) == ["id-1"]
    line.append(record(3))
    assert held(spool) == ["id-1", "id-3"]
