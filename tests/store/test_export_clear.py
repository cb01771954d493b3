"""What is kept on this machine handed out, removed and sent: `honeyhive-events export`, `clear` and what `send` says."""

from __future__ import annotations

import functools
import json
import os
import pty
import re
import select
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from honeyhive_autoinstrument.delivery.sink import Batch, Record
from honeyhive_autoinstrument.delivery.spool import LOCAL, Spool, destination_name
from tests.apps.replays import SESSION, record_of
from tests.conftest import BIN, Finished, Run, app, order_from, wait_until
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.server import Reply, Request

EVENTS = BIN / "honeyhive-events"
LAUNCHER = BIN / "honeyhive-instrument"
OTHER_SESSION = "5e551011-0000-4000-8000-000000000002"
ANSWERED_WITHIN_S = 20


def keep(home: Path, folder: str, *files: list[Record]) -> None:
    """Files of the store, with these events."""
    spool = Spool(str(home), folder, max_bytes=1 << 30, max_age_s=1e6)
    for records in files:
        spool.put(Batch.of(records))


def batches(home: Path) -> list[Path]:
    return sorted((home / "spool").glob("*/*.batch"))


def journals(home: Path) -> list[Path]:
    return sorted((home / "spool").glob("*/*.journal"))


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def ids_of(lines: list[dict[str, Any]], *, sessions: bool) -> list[str]:
    return sorted(line["event_id"] for line in lines if (line["event_type"] == "session") is sessions)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def two_folders(home: Path) -> tuple[list[Record], list[Record]]:
    """Three events in two files of the local store, one in another folder."""
    local = [record_of("one"), record_of("two"), record_of("three", session_id=OTHER_SESSION)]
    elsewhere = [record_of("four")]
    keep(home, LOCAL, local[:1], local[1:])
    keep(home, "elsewhere-0123456789abcdef", elsewhere)
    return local, elsewhere


# -- export ------------------------------------------------------------------------------------------------------------


def test_export_prints_every_session_and_event_as_a_line_of_json(
    run: Run, home: Path, two_folders: tuple[list[Record], list[Record]]
) -> None:
    local, elsewhere = two_folders

    result = run(EVENTS, "export")

    assert (result.status, result.err) == (0, "")
    lines = lines_of(result.out)
    assert ids_of(lines, sessions=True) == [SESSION, OTHER_SESSION]
    assert ids_of(lines, sessions=False) == sorted(record.id for record in local + elsewhere)
    by_id = {line["event_id"]: line for line in lines}
    for record in local + elsewhere:
        assert by_id[record.id] == json.loads(record.body)
        row = by_id[record.session_id]
        assert row["session_id"] == record.session_id
        assert row.items() >= json.loads(record.session_body).items()
    assert len(batches(home)) == 3


def test_export_prints_an_event_once_that_stands_in_two_files(run: Run, home: Path) -> None:
    twice, once = record_of("twice"), record_of("once")
    keep(home, LOCAL, [twice], [twice, once])
    keep(home, "elsewhere-0123456789abcdef", [twice])

    lines = lines_of(run(EVENTS, "export").out)

    assert ids_of(lines, sessions=False) == sorted([twice.id, once.id])
    assert ids_of(lines, sessions=True) == [SESSION]


def test_export_out_writes_a_private_file_and_says_so_on_stderr(
    run: Run, tmp_path: Path, two_folders: tuple[list[Record], list[Record]]
) -> None:
    printed = run(EVENTS, "export")

    result = run(EVENTS, "export", "--out", tmp_path / "events.jsonl")

    written = tmp_path / "events.jsonl"
    assert (result.status, result.out) == (0, "")
    assert "events.jsonl" in result.err
    assert re.search(r"\b4 events\b", result.err), result.err
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert written.read_text() == printed.out


def test_export_to_a_place_that_cannot_be_written_says_so(
    run: Run, tmp_path: Path, two_folders: tuple[list[Record], list[Record]]
) -> None:
    result = run(EVENTS, "export", "--out", tmp_path / "nowhere" / "events.jsonl")

    assert result.status in (1, 2)
    assert "Traceback" not in result.err
    assert "events.jsonl" in result.err


def test_export_of_an_empty_store_prints_nothing_on_stdout(run: Run) -> None:
    result = run(EVENTS, "export")

    assert (result.status, result.out) == (0, "")


def test_export_from_a_folder_prints_what_is_kept_there(
    run: Run, two_folders: tuple[list[Record], list[Record]]
) -> None:
    local, _ = two_folders

    result = run(EVENTS, "export", "--from", LOCAL)

    assert ids_of(lines_of(result.out), sessions=False) == sorted(record.id for record in local)


def test_export_into_a_reader_that_has_seen_enough_ends_quietly(run: Run, home: Path) -> None:
    keep(home, LOCAL, [record_of("large", text="x" * 200_000), record_of("another", text="x" * 200_000)])

    result = run("sh", "-c", f"'{EVENTS}' export | head -c 10 > head.txt")

    assert result.err == ""


# -- clear -------------------------------------------------------------------------------------------------------------


def test_clear_yes_removes_what_waits_and_says_how_much(
    run: Run, home: Path, two_folders: tuple[list[Record], list[Record]]
) -> None:
    result = run(EVENTS, "clear", "--yes")

    assert result.status == 0
    assert re.search(r"\b4 events\b.*\b2 folders\b", result.out + result.err), result.out + result.err
    assert batches(home) == []
    assert run(EVENTS, "export").out == ""


def test_clear_of_an_empty_store_is_fine(run: Run) -> None:
    result = run(EVENTS, "clear", "--yes")

    assert result.status == 0
    assert "Traceback" not in result.err


def test_clear_without_a_terminal_and_without_yes_removes_nothing(
    run: Run, home: Path, two_folders: tuple[list[Record], list[Record]]
) -> None:
    result = run(EVENTS, "clear", stdin="y\n")

    assert result.status == 2
    assert "--yes" in result.err
    assert len(batches(home)) == 3


def on_terminal(command: list[object], answer: str, env: dict[str, str]) -> tuple[int, str]:
    """(status, what the terminal showed) of a command that is answered when it asks."""
    ours, its = pty.openpty()
    process = subprocess.Popen([str(word) for word in command], env=env, stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = ""
    is_answered = False
    deadline = time.monotonic() + ANSWERED_WITHIN_S
    try:
        while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other side has closed it
                break
            if not piece:
                break
            shown += piece.decode()
            if not is_answered and "[y/N]" in shown:
                is_answered = True
                os.write(ours, f"{answer}\n".encode())
        assert is_answered, f"nothing was asked: {shown!r}"
        return process.wait(ANSWERED_WITHIN_S), shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(
    ("answer", "are_kept"), [("n", True), ("", True), ("no idea", True), ("y", False), ("Y", False)]
)
def test_clear_on_a_terminal_asks_first(
    environ: dict[str, str],
    home: Path,
    two_folders: tuple[list[Record], list[Record]],
    answer: str,
    are_kept: bool,
) -> None:
    status, shown = on_terminal([EVENTS, "clear"], answer, environ)

    assert len(batches(home)) == (3 if are_kept else 0)
    assert "4 events" in shown
    assert "Traceback" not in shown
    if not are_kept:
        assert status == 0


def test_clear_from_a_folder_leaves_the_others_alone(
    run: Run, home: Path, two_folders: tuple[list[Record], list[Record]]
) -> None:
    _, elsewhere = two_folders

    result = run(EVENTS, "clear", "--yes", "--from", LOCAL)

    assert result.status == 0
    assert re.search(r"\b3 events\b", result.out + result.err)
    left = lines_of(run(EVENTS, "export").out)
    assert ids_of(left, sessions=False) == [elsewhere[0].id]


@pytest.mark.parametrize("command", [("export",), ("clear", "--yes"), ("send",)], ids=lambda words: words[0])
@pytest.mark.parametrize("folder", ["nowhere", "..", "local/rejected", "."])
def test_a_folder_that_is_none_is_wrong_usage_and_the_known_ones_are_named(
    run: Run,
    home: Path,
    fake_honeyhive: FakeHoneyHive,
    two_folders: tuple[list[Record], list[Record]],
    command: tuple[str, ...],
    folder: str,
) -> None:
    result = run(EVENTS, *command, "--from", folder, env=fake_honeyhive.env)

    assert (result.status, result.out) == (2, "")
    assert LOCAL in result.err
    assert "elsewhere-0123456789abcdef" in result.err
    assert len(batches(home)) == 3


def test_all_commands_take_the_home_as_an_argument(run: Run, tmp_path: Path, fake_honeyhive: FakeHoneyHive) -> None:
    other = tmp_path / "other"
    kept = record_of("kept")
    keep(other, LOCAL, [kept])

    shown = run(EVENTS, "show", "--home", other)
    exported = run(EVENTS, "export", "--home", other)
    sent = run(EVENTS, "send", "--home", other, env=fake_honeyhive.env)
    keep(other, LOCAL, [kept])
    cleared = run(EVENTS, "clear", "--yes", "--home", other)

    assert "kept" in shown.out
    assert ids_of(lines_of(exported.out), sessions=False) == [kept.id]
    assert (sent.status, sent.out) == (0, f"1 event sent to {fake_honeyhive.url}\n")
    assert cleared.status == 0
    assert batches(other) == []


# -- send --------------------------------------------------------------------------------------------------------------


def test_send_says_how_far_it_is_and_what_it_did(run: Run, home: Path, fake_honeyhive: FakeHoneyHive) -> None:
    keep(home, LOCAL, *([record_of(f"file {number} event {part}") for part in range(3)] for number in range(40)))

    result = run(EVENTS, "send", env=fake_honeyhive.env)

    assert (result.status, result.out) == (0, f"120 events sent to {fake_honeyhive.url}\n")
    assert re.search(r"\d+ of 120\b", result.err), result.err
    assert set(fake_honeyhive.arrivals.values()) == {1}
    assert len(fake_honeyhive.arrivals) == 120


# -- while a program runs, and after one was killed --------------------------------------------------------------------


class HeldHoneyHive(FakeHoneyHive):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()

    def answer(self, request: Request) -> Reply:
        self.may_answer.wait(60)
        return super().answer(request)


@pytest.fixture
def held() -> Iterator[HeldHoneyHive]:
    with HeldHoneyHive() as server:
        yield server
        server.may_answer.set()


Order = Callable[[str], None]
LONG = "30"
"""A LINGER that leaves events in the journal: what waits two seconds for a worker has a file of its own."""


@contextmanager
def program(env: dict[str, str], linger: str = "0.05") -> Iterator[tuple[subprocess.Popen[str], Order]]:
    """An instrumented program that asks when it is told to."""
    process = subprocess.Popen(
        [LAUNCHER, "python", app("asks_on_demand.py")],
        env={**env, "HONEYHIVE_LINGER": linger},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    order = functools.partial(order_from, process)

    try:
        yield process, order
    finally:
        if process.poll() is None:
            process.communicate(timeout=60)


def asked(events: list[dict[str, Any]]) -> list[str]:
    return sorted(event["inputs"]["chat_history"][0]["content"] for event in events)


@pytest.fixture
def left_by_a_killed_program(environ: dict[str, str], home: Path, held: HeldHoneyHive) -> dict[str, str]:
    """Three events of a program with durability `always`, killed while its server did not answer; the server's settings."""
    settings = {**environ, **held.env, "HONEYHIVE_DURABILITY": "always"}
    with program(settings) as (process, order):
        for number in range(3):
            order(f"call {number}")
        process.kill()
        process.communicate()
    assert journals(home) != []
    return held.env


@pytest.mark.slow
def test_events_of_a_killed_program_are_exported(run: Run, left_by_a_killed_program: dict[str, str]) -> None:
    result = run(EVENTS, "export")

    assert result.status == 0
    events = [line for line in lines_of(result.out) if line["event_type"] != "session"]
    assert asked(events) == ["call 0", "call 1", "call 2"]


def test_events_of_a_killed_program_are_shown(run: Run, left_by_a_killed_program: dict[str, str]) -> None:
    result = run(EVENTS, "show")

    assert result.status == 0
    assert "3 model events" in result.out


def test_events_of_a_killed_program_are_sent(
    run: Run, left_by_a_killed_program: dict[str, str], held: HeldHoneyHive, home: Path
) -> None:
    held.may_answer.set()

    result = run(EVENTS, "send", env=left_by_a_killed_program)

    assert (result.status, result.out) == (0, f"3 events sent to {held.url}\n")
    assert asked(held.events) == ["call 0", "call 1", "call 2"]
    assert (batches(home), journals(home)) == ([], [])


@pytest.mark.slow
def test_events_of_a_killed_program_are_cleared(run: Run, left_by_a_killed_program: dict[str, str], home: Path) -> None:
    result = run(EVENTS, "clear", "--yes")

    assert result.status == 0
    assert re.search(r"\b3 events\b", result.out + result.err), result.out + result.err
    assert (batches(home), journals(home)) == ([], [])


@pytest.mark.slow
def test_the_journal_of_a_program_that_runs_is_not_cleared(
    run: Run, environ: dict[str, str], home: Path, held: HeldHoneyHive
) -> None:
    with program({**environ, **held.env, "HONEYHIVE_DURABILITY": "always"}, linger=LONG) as (_, order):
        for number in range(3):
            order(f"call {number}")
        before = journals(home)
        assert before != []

        cleared = run(EVENTS, "clear", "--yes")

        assert cleared.status == 0, cleared.err
        assert journals(home) == before
        held.may_answer.set()
        order("call 3")
    assert asked(held.events) == ["call 0", "call 1", "call 2", "call 3"]
    assert set(held.arrivals.values()) == {1}
    assert journals(home) == []


def test_the_journal_of_a_program_that_runs_is_not_sent_by_somebody_else(
    run: Run, environ: dict[str, str], home: Path, held: HeldHoneyHive
) -> None:
    with program({**environ, **held.env, "HONEYHIVE_DURABILITY": "always"}, linger=LONG) as (_, order):
        order("call 0")
        assert journals(home) != []
        with FakeHoneyHive() as other:
            folder = destination_name(held.url, held.key)
            sent = run(EVENTS, "send", "--from", folder, env=other.env)

            assert other.events == []
        assert sent.status == 0, sent.err
        held.may_answer.set()
    assert len(held.events) == 1
    assert set(held.arrivals.values()) == {1}


@pytest.mark.parametrize("durability", ["on_failure", pytest.param("always", marks=pytest.mark.slow)])
def test_everything_works_while_an_instrumented_program_runs(
    run: Run, environ: dict[str, str], home: Path, fake_honeyhive: FakeHoneyHive, durability: str
) -> None:
    settings = {**environ, **fake_honeyhive.env, "HONEYHIVE_DURABILITY": durability}
    spool = Spool(str(home), destination_name(fake_honeyhive.url, fake_honeyhive.key), max_bytes=1 << 30, max_age_s=1e6)

    def on_disk() -> int:
        return sum(len(batch) for batch in map(spool.peek, spool.paths()) if batch is not None)

    fake_honeyhive.stop()
    with program(settings) as (_, order):
        for number in range(3):
            order(f"away {number}")
        wait_until(lambda: on_disk() == 3 and journals(home) == [], 30, "three events that wait")

        shown = run(EVENTS, "show")
        exported = run(EVENTS, "export")
        unsent = in_its_turn(lambda: run(EVENTS, "send", env=fake_honeyhive.env))
        cleared = in_its_turn(lambda: run(EVENTS, "clear", "--yes"))
        cleared_to = on_disk()
        fake_honeyhive.start()
        order("back")
        wait_until(lambda: len(fake_honeyhive.events) == 1, 40, "the event that came after")

    assert "3 model events" in shown.out
    events = [line for line in lines_of(exported.out) if line["event_type"] != "session"]
    assert asked(events) == ["away 0", "away 1", "away 2"]
    assert [each.status for each in (shown, exported, cleared)] == [0, 0, 0]
    assert unsent.status == 1
    assert_says_nothing_odd(shown, exported, unsent, cleared)
    assert cleared_to == 0
    assert asked(fake_honeyhive.events) == ["back"]


def in_its_turn(command: Callable[[], Finished]) -> Finished:
    """Again, as a person would, if it says that the program is trying the folder just then."""
    for _ in range(20):
        result = command()
        if "another process" not in result.err + result.out:
            return result
    pytest.fail(f"the program tries all the time: {result.err}")


def assert_says_nothing_odd(*results: Finished) -> None:
    assert [result.err for result in results if "Traceback" in result.err] == []
