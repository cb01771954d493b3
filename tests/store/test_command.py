"""honeyhive-events as a person uses it."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_a_server_that_is_away_leaves_everything_in_the_store(run: Run, tmp_path: Path) -> None:
    run(LAUNCHER, "python", app("one_completion.py"))

    result = run(EVENTS, "send", "--api-url", "http://127.0.0.1:9", env={"HONEYHIVE_API_KEY": "hh_test_0123456789abc"})

    assert result.status == 1
    assert "no answer from http://127.0.0.1:9" in result.err
    assert len(list((tmp_path / "home").rglob("*.batch"))) == 1


def test_wrong_usage_has_status_2(run: Run) -> None:
    assert run(EVENTS).status == 2
    assert run(EVENTS, "show", "--last", "0").status == 2
