"""Ways in which a program ends without exit handlers: everything has arrived, and it ends as it would without us."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import BIN, Run
from tests.fakes.honeyhive import FakeHoneyHive

LAUNCHER = BIN / "honeyhive-instrument"
ASK = (
    "import os, signal, sys, litellm\n"
    "def ask(text):\n"
    "    litellm.completion(model='gpt-4o', messages=[{'role': 'user', 'content': text}], mock_response='y')\n"
)
LONG_LINGER = {"HONEYHIVE_LINGER": "30"}
"""What is asked is surely unsent at the end."""


def asked(server: FakeHoneyHive) -> list[str]:
    return sorted(event["inputs"]["chat_history"][0]["content"] for event in server.events)


@pytest.mark.parametrize(
    "call",
    [
        "os.execv(sys.executable, [sys.executable, '-c', 'print(1); raise SystemExit(7)'])",
        pytest.param(
            "os.execve(sys.executable, [sys.executable, '-c', 'print(1); raise SystemExit(7)'], dict(os.environ))",
            marks=pytest.mark.slow,
        ),
        pytest.param("os.execlp('python', 'python', '-c', 'print(1); raise SystemExit(7)')", marks=pytest.mark.slow),
    ],
    ids=["execv", "execve", "execlp"],
)
def test_a_program_that_becomes_another_has_sent_what_it_had(
    run: Run, fake_honeyhive: FakeHoneyHive, call: str
) -> None:
    result = run(LAUNCHER, "python", "-c", f"{ASK}ask('before'); {call}", env={**fake_honeyhive.env, **LONG_LINGER})

    assert (result.status, result.out) == (7, "1\n")
    assert asked(fake_honeyhive) == ["before"]
    assert set(fake_honeyhive.arrivals.values()) == {1}


@pytest.mark.slow
def test_a_program_that_could_not_become_another_is_recorded_on(
    run: Run, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    no_program = tmp_path / "no_program"
    no_program.write_bytes(b"\x00garbage")
    no_program.chmod(0o755)
    code = (
        f"{ASK}ask('before')\n"
        "try:\n"
        f"    os.execv({str(no_program)!r}, ['no_program'])\n"
        "except OSError as error:\n"
        "    print(type(error).__name__, error.errno)\n"
        "ask('after')\n"
    )

    result = run(LAUNCHER, "python", "-c", code, env={**fake_honeyhive.env, **LONG_LINGER})

    assert (result.status, result.out) == (0, "OSError 8\n")
    assert asked(fake_honeyhive) == ["after", "before"]
    assert set(fake_honeyhive.arrivals.values()) == {1}


@pytest.mark.slow
def test_looking_for_a_program_that_is_nowhere_ends_no_stream(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        f"{ASK}stream = litellm.completion(model='gpt-4o', messages=[{{'role': 'user', 'content': 'x'}}],"
        " mock_response='one two three', stream=True)\n"
        "next(stream)\n"
        "try:\n"
        "    os.execvp('no-such-program-anywhere', ['x'])\n"
        "except FileNotFoundError:\n"
        "    print('not found')\n"
        "for _ in stream: pass\n"
    )

    result = run(LAUNCHER, "python", "-c", code, env=fake_honeyhive.env)

    assert (result.status, result.out) == (0, "not found\n")
    (event,) = fake_honeyhive.events
    assert event["metadata"]["stream_ending"] == "completed"


@pytest.mark.parametrize(
    "call",
    [
        "signal.raise_signal(signal.SIGTERM)",
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", marks=pytest.mark.slow),
    ],
    ids=["raise_signal", "kill"],
)
def test_a_program_that_ends_itself_by_a_signal_has_sent_what_it_had(
    run: Run, fake_honeyhive: FakeHoneyHive, call: str
) -> None:
    code = f"{ASK}ask('before'); signal.signal(signal.SIGTERM, signal.SIG_DFL); {call}"

    result = run(LAUNCHER, "python", "-c", code, env={**fake_honeyhive.env, **LONG_LINGER})

    assert result.status == -signal.SIGTERM
    assert asked(fake_honeyhive) == ["before"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="a signal for one thread cannot be sent here")
def test_a_sigterm_that_follows_a_ctrl_c_raised_again_finds_everything_sent(
    run: Run, fake_honeyhive: FakeHoneyHive
) -> None:
    # As uvicorn ends in a child: it has put back how SIGTERM was handled, raises Ctrl-C, and its parent's SIGTERM comes.
    code = (
        f"{ASK}import threading, time\n"
        "ask('before'); signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job would ignore it
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )

    result = run(LAUNCHER, "python", "-c", code, env={**fake_honeyhive.env, **LONG_LINGER})

    assert result.status == -signal.SIGTERM
    assert asked(fake_honeyhive) == ["before"]


AMID_AN_APPEND = """
import threading
main = threading.get_ident()
def strike():
    while True:
        frame = sys._current_frames()[main]
        while frame is not None:
            if frame.f_code.co_filename.endswith("journal.py"):
                signal.pthread_kill(main, signal.SIGTERM)
                return
            frame = frame.f_back
ask('first')
threading.Thread(target=strike, daemon=True).start()
number = 0
while True:
    number += 1
    ask(f'{number:05}')
    print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="a signal for one thread cannot be sent here")
def test_a_signal_amid_our_own_work_still_ends_with_everything_sent_once(
    run: Run, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    env = {**fake_honeyhive.env, **LONG_LINGER, "HONEYHIVE_DURABILITY": "always"}

    result = run(LAUNCHER, "python", "-c", ASK + AMID_AN_APPEND, env=env)

    returned = [f"{int(number):05}" for number in result.out.split()]
    assert result.status == -signal.SIGTERM
    assert set(asked(fake_honeyhive)) >= {"first", *returned}
    assert set(fake_honeyhive.arrivals.values()) == {1}
    home = tmp_path / "home"
    assert [*home.glob("spool/*/*.batch"), *home.glob("spool/*/*.journal")] == []


@pytest.mark.slow
def test_a_signal_that_the_program_handles_itself_ends_nothing(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        f"{ASK}signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
        "ask('before'); signal.raise_signal(signal.SIGTERM); os.kill(os.getpid(), signal.SIGTERM); ask('after')\n"
    )

    result = run(LAUNCHER, "python", "-c", code, env={**fake_honeyhive.env, **LONG_LINGER})

    assert (result.status, result.out) == (0, "handled\nhandled\n")
    assert asked(fake_honeyhive) == ["after", "before"]


@pytest.mark.slow
def test_what_is_wrapped_of_the_standard_library_looks_and_fails_as_before(run: Run) -> None:
    code = (
        "import os, signal, inspect\n{load}"
        "for each in (os.execv, os.execve, os.kill, signal.raise_signal):\n"
        "    print(each.__name__, each.__module__, inspect.signature(each), inspect.isbuiltin(each))\n"
        "    print(each in os.supports_fd)\n"
        "wrong = [lambda: os.execv(), lambda: os.kill('x', 1), lambda: signal.raise_signal(999)]\n"
        "wrong.append(lambda: os.execv('', ['x']))\n"
        "for call in wrong:\n"
        "    try:\n"
        "        call()\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )

    bare = run("python", "-c", code.format(load=""))
    wrapped = run(LAUNCHER, "python", "-c", code.format(load="import litellm\n"))

    assert bare.out.count("\n") == 12
    assert wrapped.out == bare.out
