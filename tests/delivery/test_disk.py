"""A disk that cannot be written, and files on it that are damaged: the program does not notice, and nothing good is lost."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.delivery.sink import Batch, Record
from tests.apps.replays import record_of, spool_of
from tests.conftest import BIN, Run, app, order_from, wait_until
from tests.fakes.honeyhive import FakeHoneyHive

LAUNCHER = BIN / "honeyhive-instrument"
EVENTS = BIN / "honeyhive-events"
DURABILITIES = ("on_failure", pytest.param("always", marks=pytest.mark.slow))


# -- a disk that cannot be written -------------------------------------------------------------------------------------

LARGEST_FILE_BLOCKS = 1
"""512 or 1024 bytes, by the shell: less than an event, so that a part of what is written fits."""


@dataclass(frozen=True)
class Disk:
    """What is wrong with it. For root, too, whom permissions do not stop."""

    name: str
    home: str
    is_full: bool = False

    def command(self, *words: object) -> list[str]:
        shell = ["sh", "-c", f'ulimit -f {LARGEST_FILE_BLOCKS} && exec "$@"', "sh"] if self.is_full else []
        return [*shell, *map(str, words)]


DISKS = (
    Disk("the home is a file", home="file"),
    Disk("the home is below a file", home="file/below/home"),
    Disk("no file may grow", home="home", is_full=True),
)


@pytest.fixture(
    params=[*(pytest.param(disk, marks=pytest.mark.slow) for disk in DISKS[:2]), DISKS[2]], ids=lambda disk: disk.name
)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    (tmp_path / "file").write_text("somebody's")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def env(environ: dict[str, str], fake_honeyhive: FakeHoneyHive, disk: Disk, tmp_path: Path) -> dict[str, str]:
    return {
        **environ,
        **fake_honeyhive.env,
        "HONEYHIVE_HOME": str(tmp_path / disk.home),
        "HONEYHIVE_LINGER": "0.05",
        # CPython 3.11 would leave half of a module's bytecode behind where no file may grow.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def warnings_of_the_disk(errors: str) -> int:
    return errors.count("HoneyHive events cannot be kept in")


def lost_at_the_end(errors: str) -> list[str]:
    """What the line, or lines, say that tell of a loss."""
    return re.findall(
        r"^(\d+) HoneyHive events could not be delivered before the program ended, and are lost", errors, re.M
    )


@pytest.mark.parametrize("durability", DURABILITIES)
def test_with_a_server_that_is_there_the_events_arrive_and_the_program_is_as_before(
    run: Run, env: dict[str, str], fake_honeyhive: FakeHoneyHive, disk: Disk, tmp_path: Path, durability: str
) -> None:
    result = run(
        *disk.command(LAUNCHER, "python", app("one_completion.py")), env={**env, "HONEYHIVE_DURABILITY": durability}
    )

    assert (result.status, result.out) == (0, "hello\n")
    assert list(fake_honeyhive.arrivals.values()) == [1]
    assert warnings_of_the_disk(result.err) == (1 if durability == "always" else 0)
    assert len(result.err.splitlines()) == warnings_of_the_disk(result.err)
    assert (tmp_path / "file").read_text() == "somebody's"


@contextmanager
def program(command: list[str], env: dict[str, str], errors: Path) -> Iterator[Callable[[str], None]]:
    """asks_on_demand.py while it runs; its stderr goes through a pipe, since its files may not grow."""
    with errors.open("wb") as sent_on:
        copier = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=sent_on)
    assert copier.stdin is not None
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=copier.stdin, text=True
    )
    copier.stdin.close()

    order = functools.partial(order_from, process)

    try:
        yield order
    finally:
        process.communicate(timeout=60)
        copier.wait(20)
    assert process.returncode == 0


def asked(server: FakeHoneyHive) -> list[str]:
    return sorted(event["inputs"]["chat_history"][0]["content"] for event in server.events)


@pytest.mark.parametrize("disk", DISKS[1:], ids=lambda disk: disk.name, indirect=True)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_with_a_server_that_comes_back_the_events_arrive_from_memory(
    env: dict[str, str], fake_honeyhive: FakeHoneyHive, disk: Disk, tmp_path: Path, durability: str
) -> None:
    errors = tmp_path / "errors"
    fake_honeyhive.stop()
    command = disk.command(LAUNCHER, "python", app("asks_on_demand.py"))

    with program(command, {**env, "HONEYHIVE_DURABILITY": durability}, errors) as order:
        for number in range(5):
            order(f"away {number}")
        wait_until(lambda: b"cannot be kept in" in errors.read_bytes(), what="the warning")
        wait_until(lambda: b"cannot be reached" in errors.read_bytes(), what="the other warning")
        fake_honeyhive.start()
        order("back")
        wait_until(lambda: len(fake_honeyhive.events) == 6, 60, "all six")

    assert asked(fake_honeyhive) == [*(f"away {number}" for number in range(5)), "back"]
    assert set(fake_honeyhive.arrivals.values()) == {1}
    said = errors.read_text()
    assert warnings_of_the_disk(said) == 1
    assert said.count("cannot be reached") == 1
    assert "Traceback" not in said
    assert "internal error" not in said


def test_without_a_key_the_program_is_as_before_and_is_told_what_is_lost(
    run: Run, env: dict[str, str], disk: Disk
) -> None:
    result = run(*disk.command(LAUNCHER, "python", app("asks_many.py")), env={**env, "HONEYHIVE_API_KEY": ""})

    assert (result.status, result.out) == (0, "ending\n")
    assert warnings_of_the_disk(result.err) == 1
    assert lost_at_the_end(result.err) == ["150"]


def test_with_neither_server_nor_disk_the_program_ends_as_before_and_is_told_what_is_lost(
    run: Run, env: dict[str, str], fake_honeyhive: FakeHoneyHive, disk: Disk
) -> None:
    fake_honeyhive.stop()

    result = run(*disk.command(LAUNCHER, "python", app("one_completion.py")), env=env)

    assert (result.status, result.out) == (0, "hello\n")
    assert warnings_of_the_disk(result.err) == 1
    assert lost_at_the_end(result.err) == ["1"]
    assert len(result.err.splitlines()) == 3  # and that the server cannot be reached


@pytest.mark.parametrize(
    "words", [("show",), ("export",), ("clear", "--yes"), ("send",)], ids=lambda words: str(words[0])
)
def test_the_store_is_empty_for_a_person_who_looks_at_it(
    run: Run, env: dict[str, str], disk: Disk, words: tuple[str, ...]
) -> None:
    result = run(*disk.command(EVENTS, *words), env=env)

    assert result.status == 0
    assert "Traceback" not in result.err


# -- damaged files -----------------------------------------------------------------------------------------------------


class Folder:
    """The folder of a destination, with damage among good files."""

    def __init__(self, env: dict[str, str]) -> None:
        self._spool = spool_of(Config.from_env(env))
        self.path = self._spool.folder
        self.good: set[str] = set()
        """Ids of the events that have to arrive."""
        self.lost: set[str] = set()
        """Ids of those that cannot."""

    def put(self, count: int = 3) -> tuple[Path, list[Record]]:
        before = set(self._spool.paths())
        records = [record_of(f"kept {number}", text="é and so on " * 20) for number in range(count)]
        self._spool.put(Batch.of(records))
        (path,) = set(self._spool.paths()) - before
        return path, records

    def put_good(self) -> None:
        self.good |= {record.id for record in self.put()[1]}

    def write(self, name: str, data: bytes) -> None:
        path = self.path / name
        path.write_bytes(data)
        path.chmod(0o600)

    @property
    def waiting(self) -> list[Path]:
        return [path for path in self.path.glob("*.batch") if path.is_file()]

    @property
    def aside(self) -> list[Path]:
        return sorted((self.path / "broken").glob("*"))


def truncated(folder: Folder) -> None:
    """Cut in the middle of the last of three events."""
    path, records = folder.put()
    data = path.read_bytes()
    last = data.rstrip(b"\n").rindex(b"\n") + 1
    path.write_bytes(data[: last + 60])
    folder.good |= {record.id for record in records[:2]}
    folder.lost.add(records[2].id)


def a_bad_line(folder: Folder) -> None:
    """One of three events is no JSON any more."""
    path, records = folder.put()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-2] = b"\0" * len(lines[-2][:-1]) + b"\n"
    path.write_bytes(b"".join(lines))
    folder.good |= {records[0].id, records[2].id}
    folder.lost.add(records[1].id)


def empty(folder: Folder) -> None:
    folder.write("00000000000000000001-1-0-3.batch", b"")


def garbage(folder: Folder) -> None:
    folder.write("00000000000000000002-1-0-3.batch", bytes(range(256)) * 40)


def unknown_format(folder: Folder) -> None:
    folder.write("00000000000000000003-1-0-1.batch", b'{"format":99,"events":1}\n{"what":"is this"}\n')


def old_format(folder: Folder) -> None:
    folder.write("00000000000000000004-1-0-1.batch", b'{"format":0,"events":1}\n{"what":"was this"}\n')


def a_foreign_file(folder: Folder) -> None:
    folder.write("README.txt", b"somebody's")


def a_folder_with_the_name_of_a_file(folder: Folder) -> None:
    (folder.path / "00000000000000000005-1-0-1.batch").mkdir()
    (folder.path / "00000000000000000005-1-0-1.batch" / "inside").write_text("somebody's")


def unreadable(folder: Folder) -> None:
    path, records = folder.put()
    path.chmod(0)
    if os.access(path, os.R_OK):  # root
        folder.good |= {record.id for record in records}


def half_written_by_a_dead_process(folder: Folder) -> None:
    path, records = folder.put()
    data = path.read_bytes()
    path.unlink()
    folder.write(f".{path.stem}.tmp", data[: len(data) // 2])
    folder.lost |= {record.id for record in records[1:]}


Damage = Callable[[Folder], None]
SET_ASIDE: tuple[Damage, ...] = (truncated, a_bad_line, empty, garbage, unknown_format, old_format)
PASSED_OVER: tuple[Damage, ...] = (
    a_foreign_file,
    a_folder_with_the_name_of_a_file,
    unreadable,
    half_written_by_a_dead_process,
)
DAMAGES = (*SET_ASIDE, *PASSED_OVER)


@pytest.fixture
def folder(environ: dict[str, str], fake_honeyhive: FakeHoneyHive) -> Folder:
    made = Folder({**environ, **fake_honeyhive.env})
    made.put_good()
    return made


def assert_foreign_things_are_as_before(folder: Folder) -> None:
    assert (folder.path / "README.txt").read_text() == "somebody's"
    inside = folder.path.rglob("inside")
    assert [path.read_text() for path in inside] == ["somebody's"]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_beside_damage_everything_that_is_good_is_sent(
    run: Run, folder: Folder, fake_honeyhive: FakeHoneyHive, damage: Damage
) -> None:
    damage(folder)
    folder.put_good()

    result = run(EVENTS, "send", env=fake_honeyhive.env)
    again = run(EVENTS, "send", env=fake_honeyhive.env)

    assert {event["event_id"] for event in fake_honeyhive.events} == folder.good
    assert set(fake_honeyhive.arrivals.values()) == {1}
    assert "Traceback" not in result.err
    assert result.out.startswith(f"{len(folder.good)} events sent")
    assert again.out.startswith("0 events sent")
    if damage in SET_ASIDE:
        assert len(folder.aside) == 1
        assert folder.waiting == []
        assert "broken" in result.err
        assert "broken" not in again.err


def test_a_program_sends_what_is_good_and_says_once_that_the_rest_is_set_aside(
    run: Run, folder: Folder, fake_honeyhive: FakeHoneyHive
) -> None:
    for damage in DAMAGES:
        damage(folder)
        folder.put_good()

    result = run(LAUNCHER, "python", app("one_completion.py"), env=fake_honeyhive.env)

    assert (result.status, result.out) == (0, "hello\n")
    arrived = {event["event_id"] for event in fake_honeyhive.events if event["event_type"] == "tool"}
    assert arrived == folder.good
    assert len(fake_honeyhive.events) == len(folder.good) + 1
    assert set(fake_honeyhive.arrivals.values()) == {1}
    assert len(folder.aside) == len(SET_ASIDE)
    assert len([line for line in result.err.splitlines() if "broken" in line]) == 1
    assert len(result.err.splitlines()) == 1
    assert_foreign_things_are_as_before(folder)


def test_what_is_set_aside_is_private_and_holds_the_bad_part(
    run: Run, folder: Folder, fake_honeyhive: FakeHoneyHive
) -> None:
    a_bad_line(folder)
    garbage(folder)

    run(EVENTS, "send", env=fake_honeyhive.env)

    assert (folder.path / "broken").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.aside} == {0o600}
    contents = [path.read_bytes() for path in folder.aside]
    assert any(bytes(range(256)) * 40 in content for content in contents)
    assert any(b"\0" * 100 in content for content in contents)


@pytest.mark.parametrize(
    "words", [("show", "--last", "9"), ("export",), ("clear", "--yes")], ids=lambda words: str(words[0])
)
def test_looking_at_a_damaged_store_and_clearing_it_work(
    run: Run, folder: Folder, fake_honeyhive: FakeHoneyHive, words: tuple[str, ...]
) -> None:
    for damage in DAMAGES:
        damage(folder)
        folder.put_good()
    names_before = sorted(path.name for path in folder.path.iterdir())

    result = run(EVENTS, *words, env=fake_honeyhive.env)

    assert result.status == 0, result.err
    assert "Traceback" not in result.err
    assert_foreign_things_are_as_before(folder)
    if words[0] == "clear":
        assert run(EVENTS, "export").out == ""
        return
    assert sorted(path.name for path in folder.path.iterdir()) == names_before, "looking has changed the store"
    if words[0] == "export":
        assert [event_id for event_id in folder.good if result.out.count(f'"event_id":"{event_id}"') != 1] == []
        assert [event_id for event_id in folder.lost if event_id in result.out] == []
    else:
        assert result.out.count("kept ") == len(folder.good)
