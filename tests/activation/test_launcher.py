"""honeyhive-instrument as a person uses it: real processes, their output and exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import APPS, BIN, Run, app
from tests.fakes.honeyhive import FakeHoneyHive

LAUNCHER = BIN / "honeyhive-instrument"


def test_an_instrumented_app_behaves_as_before_and_sends_one_event_per_call(
    run: Run, fake_honeyhive: FakeHoneyHive
) -> None:
    result = run(LAUNCHER, "python", app("one_completion.py"), env=fake_honeyhive.env)

    assert (result.status, result.out) == (0, "hello\n")
    (event,) = fake_honeyhive.events
    assert event["event_name"] == "litellm.completion"
    assert event["outputs"]["content"] == "hello"
    assert fake_honeyhive.sessions[event["session_id"]]["session_name"] == "one_completion.py"


def test_a_script_is_run_with_this_python(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    result = run(LAUNCHER, app("one_completion.py"), env={**fake_honeyhive.env, "PATH": "/usr/bin:/bin"})

    assert (result.status, result.out) == (0, "hello\n")
    assert len(fake_honeyhive.events) == 1


@pytest.mark.slow
def test_a_module_is_run_with_this_python(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    result = run(LAUNCHER, "-m", "packaged", "one", "-x", env=fake_honeyhive.env, cwd=APPS)

    assert (result.status, result.out) == (0, "packaged ['one', '-x'] from a module\n")
    (event,) = fake_honeyhive.events
    assert fake_honeyhive.sessions[event["session_id"]]["session_name"] == "packaged"


def test_code_is_run_with_this_python(run: Run) -> None:
    result = run(LAUNCHER, "-c", "import sys; print(sys.executable)")

    assert Path(result.out.strip()).samefile(sys.executable)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "no command given"),
        ([""], 2, "no command given"),
        (["--check", "python"], 2, "--check takes no command"),
        (["--nonsense", "python"], 2, "unknown option --nonsense"),
        (["--source"], 2, "option --source needs a value"),
        (["-m"], 2, "-m needs a module"),
        (["no-such-command-anywhere"], 127, "no-such-command-anywhere: command not found"),
        (["./missing.py"], 127, "./missing.py: no such file"),
        (["./missing"], 127, "./missing: no such file"),
        (["/etc"], 126, "/etc: not executable"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_the_status_a_shell_gives(
    run: Run, words: list[str], status: int, said: str
) -> None:
    result = run(LAUNCHER, *words)

    assert result.status == status
    assert result.out == ""
    assert result.err.startswith("honeyhive-instrument: ")
    assert said in result.err
    assert result.err.count("\n") == 1


def test_a_file_without_execute_permission_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")

    result = run(LAUNCHER, "./tool", cwd=tmp_path)

    assert result.status == 126
    assert "./tool: not executable" in result.err


def test_help_teaches_and_version_tells(run: Run) -> None:
    assert "honeyhive-instrument python app.py" in run(LAUNCHER, "--help").out
    assert run(LAUNCHER, "--version").out.startswith("honeyhive-instrument 0.")


def test_options_become_settings(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    run(
        LAUNCHER,
        f"--api-url={fake_honeyhive.url}",
        "--api-key",
        fake_honeyhive.key,
        "--session-name",
        "nightly",
        "--source=staging",
        "--attributes",
        "team=search",
        "--no-content",
        app("one_completion.py"),
    )

    (event,) = fake_honeyhive.events
    assert fake_honeyhive.sessions[event["session_id"]]["session_name"] == "nightly"
    assert event["source"] == "staging"
    assert event["metadata"]["team"] == "search"
    assert event["outputs"]["content"] is None
    assert "Say hello" not in str(event)


def test_the_process_is_the_commands_own(environ: dict[str, str], fake_honeyhive: FakeHoneyHive) -> None:
    process = subprocess.Popen(
        [LAUNCHER, "python", "-c", "import os, sys; print(os.getpid()); print(sys.stdin.read())"],
        env={**environ, **fake_honeyhive.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    out, _ = process.communicate("typed", timeout=30)
    assert out == f"{process.pid}\ntyped\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_as_without_us_and_its_events_arrive(
    environ: dict[str, str], fake_honeyhive: FakeHoneyHive, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [LAUNCHER, "python", app("waits.py")],
        env={**environ, **fake_honeyhive.env, "HONEYHIVE_LINGER": "30"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # A shell that started the tests in the background has them ignore Ctrl-C, and they hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    process.send_signal(number)

    assert process.wait(30) == -number
    assert len(fake_honeyhive.events) == 1
    process.stdout.close()


def test_pythonpath_keeps_what_was_there(run: Run, tmp_path: Path) -> None:
    result = run(
        LAUNCHER, "python", "-c", "import os, sys; print(os.environ['PYTHONPATH']); print(sys.path[1])",
        env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip

    variable, second = result.out.splitlines()
    assert variable.split(os.pathsep)[1:] == [str(tmp_path)]
    assert second == str(tmp_path)


@pytest.mark.parametrize("option", ["-I", pytest.param("-E", marks=pytest.mark.slow)])
def test_a_python_that_does_not_look_at_pythonpath_is_covered(
    run: Run, fake_honeyhive: FakeHoneyHive, option: str
) -> None:
    result = run(LAUNCHER, "python", option, app("one_completion.py"), env=fake_honeyhive.env)

    assert (result.status, result.out) == (0, "hello\n")
    assert len(fake_honeyhive.events) == 1


@pytest.mark.parametrize("given", [":/nonexistent", "/nonexistent:"])
def test_an_empty_entry_of_pythonpath_still_means_the_current_folder(run: Run, tmp_path: Path, given: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "beside.py").write_text("print('found')\n")
    (tmp_path / "program.py").write_text("import beside\n")

    result = run(LAUNCHER, "python", "../program.py", env={"PYTHONPATH": given}, cwd=tmp_path / "work")

    assert (result.status, result.out) == (0, "found\n")


def test_check_tells_settings_targets_and_delivery(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    result = run(LAUNCHER, "--source", "staging", "--check", env=fake_honeyhive.env)

    assert result.status == 0, result.out
    assert "HONEYHIVE_SOURCE" in result.out
    assert "litellm.Router.acompletion" in result.out
    assert f"{fake_honeyhive.url} answers and takes the key" in result.out
    assert fake_honeyhive.key not in result.out


def test_check_fails_when_the_key_is_wrong(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    result = run(LAUNCHER, "--check", env={**fake_honeyhive.env, "HONEYHIVE_API_KEY": "hh_wrong_0123456789"})

    assert result.status == 1
    assert "answered 401" in result.out


@pytest.mark.slow
def test_check_fails_when_a_setting_is_bad(run: Run) -> None:
    result = run(LAUNCHER, "--check", env={"HONEYHIVE_WORKERS": "many"})

    assert result.status == 1
    assert "HONEYHIVE_WORKERS: workers='many' is not a number; using 2" in result.out
