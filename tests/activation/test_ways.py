"""Every way to switch it on: the same program, byte for byte, gives the same output, status and exception."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import APPS, BIN, ROOT, Finished, Run, app
from tests.fakes.honeyhive import FakeHoneyHive

WAYS: dict[str, tuple[list[str], dict[str, str]]] = {
    "launcher": ([str(BIN / "honeyhive-instrument")], {}),
    "variable": ([], {"HONEYHIVE_AUTO": "1"}),
    "opentelemetry": ([str(BIN / "opentelemetry-instrument")], {}),
    "all at once": (
        [str(BIN / "honeyhive-instrument"), str(BIN / "opentelemetry-instrument")],
        {"HONEYHIVE_AUTO": "1"},
    ),
}
PROGRAMS = {
    "one_completion.py": (app("one_completion.py"), 1),
    "fails.py": (app("fails.py"), 1),
    "exits.py": (app("exits.py"), 2),
    "quickstart.py": (str(ROOT / "examples" / "quickstart.py"), 7),
}


def start(run: Run, way: str, program: str, server: FakeHoneyHive) -> Finished:
    prefix, variables = WAYS[way]
    return run(*prefix, "python", program, "an argument", env={**server.env, **variables}, stdin="typed\n")


def exception_of(finished: Finished) -> str:
    """The last line of a traceback. (A random id stands in some of LiteLLM's messages.)"""
    lines = [line for line in finished.err.splitlines() if re.match(r"^[\w.]+(Error|Exception)\b", line)]
    return lines[-1] if lines else ""


QUICK = ("launcher", "variable")
"""Ways that are tried in the standard run, too."""


@pytest.fixture(scope="module")
def bare_runs() -> dict[str, Finished]:
    """What each program does without us; run once for all ways."""
    return {}


@pytest.mark.parametrize(
    ("program", "way"),
    [
        pytest.param(program, way, marks=() if program == "quickstart.py" and way in QUICK else pytest.mark.slow)
        for program in PROGRAMS
        for way in WAYS
    ],
)
def test_a_program_is_the_same_with_and_without_us(
    run: Run, fake_honeyhive: FakeHoneyHive, bare_runs: dict[str, Finished], way: str, program: str
) -> None:
    path, events = PROGRAMS[program]
    if program not in bare_runs:
        bare_runs[program] = run("python", path, "an argument", stdin="typed\n")
    bare = bare_runs[program]

    recorded = start(run, way, path, fake_honeyhive)

    assert (recorded.status, recorded.out) == (bare.status, bare.out)
    assert exception_of(recorded) == exception_of(bare)
    models = [event for event in fake_honeyhive.events if event["event_type"] == "model"]
    assert len(models) == events


@pytest.mark.parametrize("word", ["0", *(pytest.param(word, marks=pytest.mark.slow) for word in ("false", "off"))])
def test_honeyhive_auto_0_wins_over_the_launcher(run: Run, fake_honeyhive: FakeHoneyHive, word: str) -> None:
    result = run(
        BIN / "honeyhive-instrument",
        "python",
        app("one_completion.py"),
        env={**fake_honeyhive.env, "HONEYHIVE_AUTO": word},
    )

    assert (result.status, result.out) == (0, "hello\n")
    assert fake_honeyhive.requests == []


def test_without_any_way_nothing_is_recorded(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    run("python", app("one_completion.py"), env=fake_honeyhive.env)

    assert fake_honeyhive.requests == []


def test_one_import_switches_it_on_before_litellm(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = f"import honeyhive_autoinstrument.auto, runpy; runpy.run_path({app('one_completion.py')!r})"

    assert run("python", "-c", code, env=fake_honeyhive.env).out == "hello\n"
    assert len(fake_honeyhive.events) == 1


def test_one_import_switches_it_on_after_litellm(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        "from litellm import completion\n"
        "import honeyhive_autoinstrument.auto\n"
        "import honeyhive_autoinstrument.auto\n"
        "completion(model='gpt-4o', messages=[{'role': 'user', 'content': 'x'}], mock_response='y')"
    )

    assert run("python", "-c", code, env=fake_honeyhive.env).status == 0
    assert len(fake_honeyhive.events) == 1


ROUTER_CALL = (
    "router = litellm.Router(model_list=[{'model_name': 'group', 'litellm_params':"
    " {'model': 'gpt-4o', 'mock_response': 'y'}}])\n"
    "router.completion('group', [{'role': 'user', 'content': 'x'}])\n"
)


@pytest.mark.slow
def test_the_first_router_after_a_late_switch_on_is_recorded(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = f"import litellm\nimport honeyhive_autoinstrument.auto\n{ROUTER_CALL}"

    assert run("python", "-c", code, env=fake_honeyhive.env).status == 0
    chain, attempt = fake_honeyhive.events
    assert chain["event_name"] == "litellm.Router.completion"
    assert chain["inputs"]["chat_history"] == [{"role": "user", "content": "x"}]
    assert attempt["parent_id"] == chain["event_id"]


@pytest.mark.slow
def test_the_first_router_after_uninstrument_is_left_alone(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = f"import litellm, honeyhive_autoinstrument as hh\nhh.init()\nhh.uninstrument()\n{ROUTER_CALL}"

    assert run("python", "-c", code, env=fake_honeyhive.env).status == 0
    assert fake_honeyhive.events == []


@pytest.mark.slow
def test_init_wins_over_honeyhive_auto_0_and_takes_settings(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        "import honeyhive_autoinstrument as hh\n"
        f"hh.init(api_key={fake_honeyhive.key!r}, api_url={fake_honeyhive.url!r}, session_name='mine')\n"
        f"hh.init(api_key={fake_honeyhive.key!r}, api_url={fake_honeyhive.url!r}, session_name='mine')\n"
        "import litellm\n"
        "litellm.completion(model='gpt-4o', messages=[{'role': 'user', 'content': 'x'}], mock_response='y')\n"
        "assert hh.flush(10)\n"
        "print(hh.stats()['sent'])"
    )

    result = run("python", "-c", code, env={"HONEYHIVE_AUTO": "0"})

    assert result.out == "1\n", result.err
    (event,) = fake_honeyhive.events
    assert fake_honeyhive.sessions[event["session_id"]]["session_name"] == "mine"


@pytest.mark.slow
def test_settings_given_later_leave_the_process_in_its_session(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        "import honeyhive_autoinstrument as hh, litellm\n"
        "def ask():\n"
        "    litellm.completion(model='gpt-4o', messages=[{'role': 'user', 'content': 'x'}], mock_response='y')\n"
        "hh.init(workers=99); ask(); hh.init(attributes={'team': 'search'}); ask(); hh.init(session_name='mine'); ask()\n"
    )

    result = run("python", "-c", code, env=fake_honeyhive.env)

    first, second, third = (event["session_id"] for event in fake_honeyhive.events)
    assert first == second != third
    assert [event["metadata"].get("team") for event in fake_honeyhive.events] == [None, "search", "search"]
    assert result.err.count("workers=99 is not between 1 and 4") == 1


def test_a_process_that_never_imports_litellm_loads_nothing_but_the_bootstrap(run: Run) -> None:
    code = "import sys; print(sorted(name for name in sys.modules if name.startswith('honeyhive')))"
    forbidden = "print([n for n in ('wrapt', 'httpx', 'orjson', 'opentelemetry', 'logging', 'dataclasses', 'typing')"

    for prefix, variables in (WAYS["launcher"], WAYS["variable"]):
        modules = run(*prefix, "python", "-c", code, env=variables).out
        loaded = run(*prefix, "python", "-c", f"import sys; {forbidden} if n in sys.modules])", env=variables).out
        assert modules.strip() == str(
            ["honeyhive_autoinstrument", "honeyhive_autoinstrument.activation",
             "honeyhive_autoinstrument.activation.bootstrap"]
        )  # fmt: skip
        bare = run("python", "-c", f"import sys; {forbidden} if n in sys.modules])").out
        assert loaded == bare


def test_importing_the_package_imports_nothing_else(run: Run) -> None:
    code = (
        "import honeyhive_autoinstrument, sys;"
        "print([n for n in ('wrapt', 'httpx', 'orjson', 'litellm') if n in sys.modules])"
    )

    assert run("python", "-c", code).out == "[]\n"


@pytest.mark.parametrize(
    "way", ["fork", *(pytest.param(way, marks=pytest.mark.slow) for way in ("subprocess", "spawn", "forkserver"))]
)
def test_children_are_covered(run: Run, fake_honeyhive: FakeHoneyHive, way: str) -> None:
    bare = run("python", app("children.py"), way)

    result = run(BIN / "honeyhive-instrument", "python", app("children.py"), way, env=fake_honeyhive.env)

    assert (result.status, result.out) == (0, bare.out)
    asked = sorted(event["inputs"]["chat_history"][0]["content"] for event in fake_honeyhive.events)
    expected = ["child 1", "child parent"] if way == "subprocess" else [
        "child 1", "child 2", "child 3", "child parent"
    ]  # fmt: skip
    assert asked == expected
    assert set(fake_honeyhive.arrivals.values()) == {1}


def test_a_fork_by_hand_sends_each_process_its_own_events_once(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    env = {**fake_honeyhive.env, "HONEYHIVE_LINGER": "30"}

    result = run(BIN / "honeyhive-instrument", "python", app("forks.py"), env=env)

    assert result.out == "child ended with 0\n"
    asked = sorted(event["inputs"]["chat_history"][0]["content"] for event in fake_honeyhive.events)
    assert asked == ["before", "child", "parent"]
    assert set(fake_honeyhive.arrivals.values()) == {1}


@pytest.mark.slow
def test_a_fork_while_a_stream_is_read_leaves_its_event_to_the_parent(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    result = run(BIN / "honeyhive-instrument", "python", app("forks_in_stream.py"), env=fake_honeyhive.env)

    assert result.out == "True\n"
    (event,) = fake_honeyhive.events
    assert event["metadata"]["stream_ending"] == "completed"
    assert set(fake_honeyhive.arrivals.values()) == {1}


def test_calls_in_exit_handlers_and_streams_open_at_exit_are_recorded(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    run(BIN / "honeyhive-instrument", "python", app("exit_handler.py"), env=fake_honeyhive.env)

    first, second = fake_honeyhive.events
    assert first["metadata"]["stream_ending"] == "abandoned"
    assert second["inputs"]["chat_history"][0]["content"] == "at exit"


@pytest.mark.slow
def test_a_program_with_its_own_sitecustomize_still_runs_it(
    run: Run, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.mine = 'mine'\n")
    code = "import sitecustomize; print(mine, sitecustomize.__file__)"
    program = f"{code}\nimport runpy; runpy.run_path({app('one_completion.py')!r})"

    result = run(
        BIN / "honeyhive-instrument", "python", "-c", program,
        env={**fake_honeyhive.env, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip

    assert result.out == f"mine {tmp_path / 'sitecustomize.py'}\nhello\n"
    assert len(fake_honeyhive.events) == 1


def test_without_a_sitecustomize_importing_it_fails_as_without_us(run: Run) -> None:
    code = "import sitecustomize"

    bare = run("python", "-c", code)
    result = run(BIN / "honeyhive-instrument", "python", "-c", code)

    assert (result.status, exception_of(result)) == (bare.status, exception_of(bare))


def test_a_failing_sitecustomize_fails_as_without_us(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise RuntimeError('mine')\n")
    env = {"PYTHONPATH": str(tmp_path)}

    bare = run("python", "-c", "print('on')", env=env)
    result = run(BIN / "honeyhive-instrument", "python", "-c", "print('on')", env=env)

    assert (result.status, result.out) == (bare.status, bare.out)
    assert "RuntimeError: mine" in bare.err
    assert "RuntimeError: mine" in result.err


@pytest.mark.slow
def test_modules_named_like_ours_in_the_programs_folder_do_not_get_in_the_way(
    run: Run, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    for name in ("honeyhive_autoinstrument", "config", "activation", "capture", "events", "delivery", "redaction"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')\n")
    (tmp_path / "program.py").write_text(Path(app("one_completion.py")).read_text())

    result = run(
        BIN / "honeyhive-instrument", "python", "program.py",
        env=fake_honeyhive.env, cwd=tmp_path,
    )  # fmt: skip

    assert (result.status, result.out) == (0, "hello\n")
    assert len(fake_honeyhive.events) == 1


def test_a_child_python_without_our_dependencies_is_silently_left_alone(run: Run, tmp_path: Path) -> None:
    run("python", "-m", "venv", "--without-pip", tmp_path / "bare")
    (tmp_path / "litellm.py").write_text("Router = acompletion = object()\nprint('their own')\n")

    result = run(
        BIN / "honeyhive-instrument", tmp_path / "bare" / "bin" / "python", "-c", "import litellm", cwd=tmp_path
    )

    assert (result.status, result.out, result.err) == (0, "their own\n", "")


def test_the_shim_parses_on_old_pythons() -> None:
    import ast

    for path in (ROOT / "sitecustomize_shim").glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 4))


@pytest.mark.slow
def test_an_isolated_python_is_covered_by_the_variable(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    result = run("python", "-I", app("one_completion.py"), env={**fake_honeyhive.env, "HONEYHIVE_AUTO": "1"}, cwd=APPS)

    assert result.out == "hello\n"
    assert len(fake_honeyhive.events) == 1


@pytest.mark.slow
def test_an_import_hook_of_another_tool_does_not_double_us(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        "import wrapt\n"
        "@wrapt.when_imported('litellm')\n"
        "def hook(module):\n"
        "    wrapt.wrap_function_wrapper('litellm', 'completion', lambda w, i, a, k: w(*a, **k))\n"
        "import honeyhive_autoinstrument.auto\n"
        f"import runpy; runpy.run_path({app('one_completion.py')!r})"
    )

    assert run("python", "-c", code, env=fake_honeyhive.env).out == "hello\n"
    assert len(fake_honeyhive.events) == 1


def test_a_reload_of_litellm_is_recorded_once(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        "import importlib, litellm; importlib.reload(litellm)\n"
        "litellm.completion(model='gpt-4o', messages=[{'role': 'user', 'content': 'x'}], mock_response='y')"
    )

    run(BIN / "honeyhive-instrument", "python", "-c", code, env=fake_honeyhive.env)

    assert len(fake_honeyhive.events) == 1
