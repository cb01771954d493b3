"""honeyhive-events as a person uses it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import BIN, ROOT, Run, app
from tests.fakes.honeyhive import FakeHoneyHive

EVENTS = BIN / "honeyhive-events"
LAUNCHER = BIN / "honeyhive-instrument"

TREE = """\
session quickstart.py  TIME  ID  7 model events, N tokens, $COST, 1 failed
├─ model litellm.completion  gpt-4o-mini  N+N tokens  $COST  MS ms  ok
├─ model litellm.completion  gpt-4o-mini  MS ms  stream completed  ok
├─ model litellm.completion  gpt-4o-mini  N+N tokens  $COST  MS ms  ok
├─ model litellm.completion  gpt-4o-mini  N+N tokens  $COST  MS ms  ok
├─ model litellm.embedding  text-embedding-3-small  N+N tokens  $COST  MS ms  ok
└─ chain litellm.Router.completion  primary  @west-1  2 attempts  MS ms  ok
   ├─ model litellm.completion  gpt-4o  @east-1  attempt 1  MS ms  FAILED
   │     InternalServerError: litellm.InternalServerError: this is a mock internal server error
   └─ model litellm.completion  gpt-4o-mini  @west-1  attempt 2  N+N tokens  $COST  MS ms  ok
"""


def without_figures(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"\$[\d.]+", "$COST", text)
    text = re.sub(r"\d+ ms", "MS ms", text)
    text = re.sub(r"\d+\.\d s\b", "MS ms", text)
    text = re.sub(r"\d+\+\d+ tokens", "N+N tokens", text)
    text = re.sub(r"\d+ tokens,", "N tokens,", text)
    # Whether LiteLLM itself counts the tokens of a mocked stream differs by release.
    return re.sub(r"gpt-4o-mini  N\+N tokens  \$COST  MS ms  stream", "gpt-4o-mini  MS ms  stream", text)


def test_the_quickstart_is_shown_as_a_tree(run: Run) -> None:
    run(LAUNCHER, "python", ROOT / "examples" / "quickstart.py")

    result = run(EVENTS, "show")

    assert result.status == 0
    assert without_figures(result.out) == TREE


def test_an_empty_store_says_how_to_fill_it(run: Run) -> None:
    result = run(EVENTS, "show")

    assert result.status == 0
    assert "honeyhive-instrument" in result.out


def test_what_was_recorded_without_a_key_is_sent_once_a_key_is_there(
    run: Run, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    run(LAUNCHER, "python", app("one_completion.py"))
    run(LAUNCHER, "python", app("one_completion.py"))
    without_key = run(EVENTS, "send")

    result = run(EVENTS, "send", env=fake_honeyhive.env)
    again = run(EVENTS, "send", env=fake_honeyhive.env)

    assert without_key.status == 2
    assert "HONEYHIVE_API_KEY" in without_key.err
    assert (result.status, result.out) == (0, f"2 events sent to {fake_honeyhive.url}\n")
    assert again.out == f"0 events sent to {fake_honeyhive.url}\n"
    assert len(fake_honeyhive.events) == 2
    assert len(fake_honeyhive.sessions) == 2
    assert list((tmp_path / "home").rglob("*.batch")) == []


@pytest.mark.slow
def test_what_waits_for_another_key_is_named_and_sent_on_demand(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    wrong = {**fake_honeyhive.env, "HONEYHIVE_API_KEY": "hh_wrong_0123456789"}
    run(LAUNCHER, "python", app("one_completion.py"), env=wrong)

    left = run(EVENTS, "send", env=fake_honeyhive.env)
    folder = left.out.split()[-1]
    unknown = run(EVENTS, "send", "--from", "nowhere", env=fake_honeyhive.env)
    sent = run(EVENTS, "send", "--from", folder, env=fake_honeyhive.env)

    assert left.out.startswith("0 events sent")
    assert "1 event of another key or server left alone" in left.out
    assert (unknown.status, folder in unknown.err) == (2, True)
    assert (sent.status, sent.out) == (0, f"1 event sent to {fake_honeyhive.url}\n")
    assert len(fake_honeyhive.events) == 1


def test_a_url_that_is_none_sends_nothing_anywhere(run: Run) -> None:
    result = run(EVENTS, "send", "--api-key", "hh_test_0123456789abc", "--api-url", "bad")

    assert result.status == 2
    assert "api_url='bad' does not start with http:// or https://" in result.err
    assert "nothing was sent" in result.err


@pytest.mark.slow
def test_a_terminal_without_unicode_gets_a_tree_all_the_same(run: Run) -> None:
    run(LAUNCHER, "python", app("one_completion.py"))

    result = run(EVENTS, "show", env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})

    assert (result.status, result.err) == (0, "")
    assert "model litellm.completion" in result.out


def test_a_server_that_is_away_leaves_everything_in_the_store(run: Run, tmp_path: Path) -> None:
    run(LAUNCHER, "python", app("one_completion.py"))

    result = run(EVENTS, "send", "--api-url", "http://127.0.0.1:9", env={"HONEYHIVE_API_KEY": "hh_test_0123456789abc"})

    assert result.status == 1
    assert "no answer from http://127.0.0.1:9" in result.err
    assert len(list((tmp_path / "home").rglob("*.batch"))) == 1


def put_lines(home: Path, *events: object) -> None:
    """A file of the store as another release, or another hand, may have written it."""
    folder = home / "spool" / "local"
    folder.mkdir(parents=True)
    lines: list[object] = [{"format": 1, "events": len(events)}, {"session_id": "s", "session": {"start_time": "soon"}}]
    for number, event in enumerate(events):
        lines.append({"event_id": f"e{number}", "session_id": "s", "event": event})
    (folder / "00000000000000000001-1-0-9.batch").write_text("\n".join(map(json.dumps, lines)) + "\n")


def test_odd_events_are_shown_as_far_as_they_can_be_read(run: Run, tmp_path: Path) -> None:
    put_lines(
        tmp_path / "home",
        {"event_type": "model", "event_name": "first", "metadata": {"cost": "low", "total_tokens": "many"}},
        {"event_name": "second", "parent_id": "e1", "duration": None, "config": None},
        {"event_name": "third", "parent_id": "e3"},
        {"event_name": "fourth", "parent_id": "e2", "error": {"odd": 1}},
        ["no event at all"],
    )

    result = run(EVENTS, "show")

    assert (result.status, result.err) == (0, "")
    assert [name for name in ("first", "second", "third", "fourth") if result.out.count(name) != 1] == []


@pytest.mark.slow
def test_a_server_that_claims_to_have_stored_everything_and_fails_ends_the_sending(
    run: Run, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    run(LAUNCHER, "python", app("one_completion.py"))
    fake_honeyhive.misbehave(status=500, takes_first=10, path="/v1/events/batch")

    result = run(EVENTS, "send", env=fake_honeyhive.env)

    assert (result.status, result.out) == (0, f"1 event sent to {fake_honeyhive.url}\n")
    assert len(fake_honeyhive.requests) == 2


@pytest.mark.slow
def test_a_proxy_that_cannot_be_used_is_named(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    run(LAUNCHER, "python", app("one_completion.py"))

    result = run(EVENTS, "send", env={**fake_honeyhive.env, "ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": ""})

    assert result.status == 1
    assert "Traceback" not in result.err
    assert "cannot reach" in result.err or "no answer from" in result.err


def test_wrong_usage_has_status_2(run: Run) -> None:
    assert run(EVENTS).status == 2
    assert run(EVENTS, "show", "--last", "0").status == 2
