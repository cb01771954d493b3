"""MASK and ENRICH: functions of the user's that see each event before it leaves. They run on threads of ours, what they
return is used as far as it can be, and nothing that they do harms the program or loses an event."""

from __future__ import annotations

import itertools
import json
import logging
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest

import honeyhive_autoinstrument
from honeyhive_autoinstrument._faults import faults
from honeyhive_autoinstrument.config import Config
from tests.conftest import BIN, Recording, Run
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import KEY, Behaviour, FakeProvider

LAUNCHER = BIN / "honeyhive-instrument"
WITHHELD = "[withheld]"
BUCKETS = ("config", "inputs", "outputs", "metadata", "user_properties", "feedback", "metrics")
LOGGER = "honeyhive_autoinstrument"

Path_ = tuple[Any, ...]
Set = Callable[..., None]


@pytest.fixture
def hooks(recording: Recording) -> Iterator[Set]:
    """Give settings to `init()`, for this test only."""
    given: set[str] = set()

    def set_them(**settings: Any) -> None:
        given.update(settings)
        honeyhive_autoinstrument.init(**settings)

    faults._said_at.clear()
    yield set_them
    for name in given:
        honeyhive_autoinstrument.init().settings.pop(name, None)
    honeyhive_autoinstrument.init()


def ask(text: str = "Say hello.", **arguments: Any) -> Any:
    arguments = {"model": "gpt-4o", "mock_response": "hello", **arguments}
    return litellm.completion(messages=[{"role": "user", "content": text}], **arguments)


def texts_of(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    """Every text below a value, with the way to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts_of(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from texts_of(item, (*path, at))


def texts_in_buckets(event: dict[str, Any]) -> dict[Path_, str]:
    found = dict(itertools.chain(*(texts_of(event.get(name), (name,)) for name in BUCKETS)))
    return found if event["error"] is None else {**found, ("error",): event["error"]}


def written_in(event: dict[str, Any]) -> list[Any]:
    """What somebody has written: the question and the answer."""
    return [event["inputs"]["chat_history"][0]["content"], event["outputs"]["content"]]


def hook_counts(which: str) -> dict[str, int]:
    return dict(honeyhive_autoinstrument.stats()["hooks"][which])


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


class Seen:
    """A mask that changes nothing and notes what it was given."""

    def __init__(self) -> None:
        self.texts: dict[Path_, str] = {}
        self.threads: set[int] = set()

    def __call__(self, path: Path_, value: str) -> str:
        self.threads.add(threading.get_ident())
        self.texts[path] = value
        return value


# -- what a mask is given, and what is done with what it returns -------------------------------------------------------


def event_session_name(recording: Recording) -> str:
    (session,) = recording.server.sessions.values()
    return str(session["session_name"])


def test_a_mask_is_given_every_text_of_an_event_and_the_way_to_it(hooks: Set, recording: Recording) -> None:
    seen = Seen()
    hooks(mask=seen)
    tool = {"type": "function", "function": {"name": "f", "description": "does f", "parameters": {"type": "object"}}}

    ask(tools=[tool], user="ada", metadata={"feature": "search", "deep": {"list": ["one", 2]}})

    event = recording.event()
    assert seen.texts.pop(("session_name",), event_session_name(recording)) == event_session_name(recording)
    assert seen.texts == texts_in_buckets(event)
    assert seen.texts["inputs", "chat_history", 0, "content"] == "Say hello."
    assert seen.texts["outputs", "content"] == "hello"
    assert seen.texts["metadata", "deep", "list", 0] == "one"
    assert seen.texts["config", "tools", 0, "function", "description"] == "does f"


def test_a_mask_is_given_the_text_of_an_error(hooks: Set, recording: Recording, fake_provider: FakeProvider) -> None:
    seen = Seen()
    hooks(mask=seen)
    fake_provider.always("echo", Behaviour(status=400, message="your prompt is bad"))

    with pytest.raises(litellm.BadRequestError):
        ask(model="openai/echo", mock_response=None, api_base=fake_provider.base, api_key=KEY, max_retries=0)

    event = recording.event()
    seen.texts.pop(("session_name",), None)  # of a session that is new here
    assert seen.texts == texts_in_buckets(event)
    assert "your prompt is bad" in seen.texts[("error",)]


def test_what_a_mask_returns_stands_in_the_event(hooks: Set, recording: Recording, fake_provider: FakeProvider) -> None:
    hooks(mask=lambda path, value: "Ada" if path[0] == "user_properties" else value.replace("secret", "s*****"))
    fake_provider.always("echo", Behaviour(status=400, message="a secret is bad"))

    ask("a secret", user="me", mock_response="the secret answer", metadata={"note": "secret"})
    with pytest.raises(litellm.BadRequestError):
        ask(
            "a secret", model="openai/echo", mock_response=None, api_base=fake_provider.base, api_key=KEY, max_retries=0
        )

    first, second = recording.events()
    assert first["inputs"]["chat_history"][0]["content"] == "a s*****"
    assert first["outputs"]["content"] == "the s***** answer"
    assert first["metadata"]["note"] == "s*****"
    assert first["user_properties"]["user_id"] == "Ada"
    assert "a s***** is bad" in second["error"]
    assert b"secret" not in b"".join(request.body for request in recording.server.requests)


def test_no_text_reaches_the_disk_before_it_is_masked(hooks: Set, recording: Recording, tmp_path: Path) -> None:
    hooks(mask=lambda path, value: value.replace("secret", "s*****"), durability="always")
    recording.server.stop()

    ask("a secret")
    honeyhive_autoinstrument.flush(1)

    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"a s*****" in kept
    assert b"secret" not in kept
    recording.server.start()


@pytest.mark.parametrize(
    "value", ["", "text", 5, 2.5, True, ["a", 1, {"b": False}], {"a": {"b": ["c"]}}, [], {}], ids=repr
)
def test_a_mask_may_return_text_numbers_flags_and_lists_and_dictionaries_of_them(
    hooks: Set, recording: Recording, value: Any
) -> None:
    hooks(mask=lambda path, text: value if path == ("metadata", "note") else text)

    ask(metadata={"note": "secret"})

    assert recording.event()["metadata"]["note"] == value
    assert honeyhive_autoinstrument.stats()["hooks"]["mask"]["failed"] == 0


@pytest.mark.parametrize(
    "value",
    [None, object(), b"bytes", {1, 2}, ["a", object()], {"a": b"bytes"}, {"a": [{"b": {1}}]}, Seen, float],
    ids=["None", "object", "bytes", "set", "list of odd", "dict of odd", "deep", "class", "type"],
)
def test_anything_else_that_a_mask_returns_withholds_the_text(hooks: Set, recording: Recording, value: Any) -> None:
    hooks(mask=lambda path, text: value if path == ("metadata", "note") else text)

    ask("as it is", metadata={"note": "secret"})

    event = recording.event()
    assert event["metadata"]["note"] == WITHHELD
    assert event["inputs"]["chat_history"][0]["content"] == "as it is"


def test_a_structure_that_holds_itself_withholds_the_text(hooks: Set, recording: Recording) -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    hooks(mask=lambda path, text: cyclic if path == ("metadata", "note") else text)

    ask(metadata={"note": "secret"})

    assert b"secret" not in json.dumps(recording.event()).encode()
    assert recording.event()["outputs"]["content"] == "hello"


def test_an_error_stays_text_whatever_a_mask_returns(
    hooks: Set, recording: Recording, fake_provider: FakeProvider
) -> None:
    hooks(mask=lambda path, text: {"not": "text"} if path == ("error",) else text)
    fake_provider.always("echo", Behaviour(status=400, message="a secret"))

    with pytest.raises(litellm.BadRequestError):
        ask(model="openai/echo", mock_response=None, api_base=fake_provider.base, api_key=KEY, max_retries=0)

    # A server takes no other error than a text: the fixture fails where one came.
    error = recording.event()["error"]
    assert isinstance(error, str)
    assert "a secret" not in error


def test_texts_that_are_credentials_are_hidden_before_a_mask_sees_them(hooks: Set, recording: Recording) -> None:
    seen = Seen()
    hooks(mask=seen)
    key = "sk-proj-" + "".join(random.Random(3).choices("abcdefghijkmnpqrstuvwxyz23456789", k=40))

    ask(f"my key is {key}")

    assert recording.event()["inputs"]["chat_history"][0]["content"] == "my key is [hidden]"
    assert seen.texts["inputs", "chat_history", 0, "content"] == "my key is [hidden]"


def test_what_is_said_of_a_session_is_masked_too(hooks: Set, recording: Recording) -> None:
    hooks(mask=lambda path, value: value.replace("secret", "s*****"))

    with honeyhive_autoinstrument.session(user="secret", metadata={"note": "secret"}, user_properties={"x": "secret"}):
        ask()

    event = recording.event()
    assert event["user_properties"] == {"user_id": "s*****", "x": "s*****"}
    row = recording.server.sessions[event["session_id"]]
    assert row["metadata"]["note"] == "s*****"
    assert row["user_properties"] == {"user_id": "s*****", "x": "s*****"}


def test_an_update_is_masked_too(hooks: Set, recording: Recording) -> None:
    hooks(mask=lambda path, value: f"{path[0]} masked" if "secret" in value else value)
    ask()
    (event,) = recording.events()

    honeyhive_autoinstrument.update_event(
        event["event_id"], metadata={"note": "secret"}, feedback={"said": ["secret"]}, outputs={"content": "secret"}
    )

    (event,) = recording.events()
    assert event["metadata"]["note"] == "metadata masked"
    assert event["feedback"]["said"] == ["feedback masked"]
    assert event["outputs"] == {"content": "outputs masked"}


# -- what enrich is given, and what is done with what it returns -------------------------------------------------------


def test_enrich_is_given_the_event_as_it_is_sent(hooks: Set, recording: Recording) -> None:
    given: list[dict[str, Any]] = []
    hooks(enrich=given.append)

    ask("my question", metadata={"feature": "search"})

    assert given == [recording.event()]


def test_enrich_adds_to_the_buckets_that_it_names_and_the_rest_to_metadata(hooks: Set, recording: Recording) -> None:
    hooks(
        enrich=lambda event: {
            "metadata": {"team": "blue", "length": len(event["inputs"]["chat_history"][0]["content"])},
            "metrics": {"quality": 0.5},
            "feedback": {"rating": 5},
            "user_properties": {"plan": "free"},
            "zone": "north",
        }
    )

    ask("12345", user="ada", metadata={"feature": "search"})

    event = recording.event()
    assert {key: event["metadata"].get(key) for key in ("team", "length", "zone", "feature")} == {
        "team": "blue", "length": 5, "zone": "north", "feature": "search",
    }  # fmt: skip
    assert event["metrics"] == {"quality": 0.5}
    assert event["feedback"] == {"rating": 5}
    assert event["user_properties"] == {"user_id": "ada", "plan": "free"}


def test_enrich_cannot_pass_its_values_for_facts_of_ours(hooks: Set, recording: Recording) -> None:
    hooks(enrich=lambda event: {"metadata": {"cost": 99, "total_tokens": 99}, "operation_name": "mine"})

    ask()

    metadata = recording.event()["metadata"]
    assert metadata["cost"] != 99
    assert metadata["total_tokens"] != 99
    assert metadata["operation_name"] == "chat"
    assert metadata["user_metadata"] == {"cost": 99, "total_tokens": 99, "operation_name": "mine"}


def test_what_enrich_adds_is_redacted_and_masked(hooks: Set, recording: Recording) -> None:
    key = "sk-proj-" + "".join(random.Random(4).choices("abcdefghijkmnpqrstuvwxyz23456789", k=40))
    seen = Seen()
    hooks(enrich=lambda event: {"metadata": {"note": f"{key} of Ada"}}, mask=seen)

    ask()

    assert recording.event()["metadata"]["note"] == "[hidden] of Ada"
    assert seen.texts["metadata", "note"] == "[hidden] of Ada"


@pytest.mark.parametrize(
    "result",
    [None, "text", 5, ["a"], {}, {"metadata": {}}, object()],
    ids=["None", "text", "number", "list", "nothing", "an empty bucket", "object"],
)
def test_where_enrich_returns_nothing_that_can_be_added_the_event_is_as_it_was(
    hooks: Set, recording: Recording, result: Any
) -> None:
    given: list[dict[str, Any]] = []

    def enrich(event: dict[str, Any]) -> Any:
        given.append(event)
        return result

    hooks(enrich=enrich)

    ask(user="ada")

    assert [recording.event()] == given


CYCLIC: dict[str, Any] = {}
CYCLIC["self"] = CYCLIC
ODD: dict[str, Any] = {
    "object": {"metadata": {"odd": object()}},
    "cyclic": {"metadata": CYCLIC},
    "keys that are no text": {"metadata": {1: 2, None: 3}, 5: 6},
    "no number": {"metrics": {"x": float("nan")}},
    "half a character": {"metadata": {"s": "\ud800"}},
    "bytes": {"feedback": {"b": b"bytes"}},
}


@pytest.mark.parametrize("odd", ODD)
def test_an_event_arrives_whatever_enrich_puts_into_its_answer(hooks: Set, recording: Recording, odd: str) -> None:
    hooks(enrich=lambda event: ODD[odd])

    ask("still there")

    assert recording.event()["inputs"]["chat_history"][0]["content"] == "still there"


def test_what_enrich_does_to_the_event_that_it_is_given_has_no_effect(hooks: Set, recording: Recording) -> None:
    def enrich(event: dict[str, Any]) -> None:
        event["metadata"].clear()
        event["inputs"]["chat_history"][0]["content"] = "changed"
        event["inputs"]["chat_history"].append({"role": "user"})
        event["event_id"] = event["session_id"] = "changed"
        del event["event_type"]

    hooks(enrich=enrich)

    ask()

    event = recording.event()
    assert event["inputs"]["chat_history"] == [{"role": "user", "content": "Say hello."}]
    assert event["metadata"]["operation_name"] == "chat"
    assert event["event_type"] == "model"
    assert "changed" not in event.values()


# -- hooks that fail ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, RecursionError, MemoryError])
def test_a_mask_that_raises_withholds_that_text_and_no_other(
    hooks: Set, recording: Recording, error: type[BaseException]
) -> None:
    def mask(path: Path_, value: str) -> str:
        if value == "secret":
            raise error(value)
        return value

    hooks(mask=mask)

    ask("secret", metadata={"note": "as it is"})
    ask("again")

    first, second = recording.events()
    assert first["inputs"]["chat_history"] == [{"role": "user", "content": WITHHELD}]
    assert first["metadata"]["note"] == "as it is"
    assert second["inputs"]["chat_history"][0]["content"] == "again"
    assert hook_counts("mask") == {"failed": 1, "timed_out": 0}


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_enrich_that_raises_leaves_the_event_as_it_was(
    hooks: Set, recording: Recording, error: type[BaseException]
) -> None:
    def enrich(event: dict[str, Any]) -> dict[str, Any]:
        event["metadata"]["half"] = "done"
        if event["inputs"]["chat_history"][0]["content"] == "bad":
            raise error
        return {"team": "blue"}

    hooks(enrich=enrich)

    ask("bad")
    ask("good")

    first, second = recording.events()
    assert "half" not in first["metadata"]
    assert "team" not in first["metadata"]
    assert second["metadata"]["team"] == "blue"
    assert hook_counts("enrich") == {"failed": 1, "timed_out": 0}


@pytest.mark.parametrize("which", ["mask", "enrich"])
def test_a_hook_that_raises_is_a_warning_once_a_minute_and_no_fault_of_ours(
    hooks: Set, recording: Recording, caplog: pytest.LogCaptureFixture, which: str
) -> None:
    def fail(*_: object) -> Any:
        raise ValueError("the text of the prompt")

    hooks(**{which: fail})

    for _ in range(3):
        ask()
    assert len(recording.events()) == 3

    (warning,) = [message for message in said(caplog) if which.upper() in message.upper()]
    assert "the text of the prompt" not in warning
    assert hook_counts(which)["failed"] >= 3
    assert honeyhive_autoinstrument.stats()["faults"] == {}


@pytest.mark.parametrize("mask", [lambda value: value, lambda: "", lambda path, value, more: value])
def test_a_mask_that_takes_other_arguments_withholds_everything(
    hooks: Set, recording: Recording, mask: Callable[..., Any]
) -> None:
    hooks(mask=mask)

    ask("secret", metadata={"note": "secret"})

    assert written_in(recording.event()) == [WITHHELD, WITHHELD]
    assert recording.event()["metadata"]["note"] == WITHHELD


def test_calls_that_a_hook_makes_itself_end(hooks: Set, recording: Recording) -> None:
    # Each of them would be an event that is masked, and asks again.
    def mask(path: Path_, value: str) -> str:
        if path[0] == "outputs":
            ask("asked by the mask")
        return value

    hooks(mask=mask)

    ask("asked by the program")

    assert honeyhive_autoinstrument.flush(10)
    asked = [event["inputs"]["chat_history"][0]["content"] for event in recording.server.events]
    assert "asked by the program" in asked
    assert asked.count("asked by the mask") <= 10


# -- the program's threads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["on_failure", "always", "memory"])
def test_hooks_never_run_on_a_thread_of_the_program(hooks: Set, recording: Recording, durability: str) -> None:
    seen, also_seen = Seen(), Seen()
    hooks(mask=seen, enrich=lambda event: also_seen((), ""), durability=durability)
    threads = [threading.Thread(target=ask, args=(f"question {number}",)) for number in range(4)]
    of_the_program = {threading.get_ident()}

    for thread in threads:
        thread.start()
        of_the_program.add(thread.ident or 0)
    ask()
    for thread in threads:
        thread.join()

    assert len(recording.events()) == 5
    assert seen.threads
    assert also_seen.threads
    assert (seen.threads | also_seen.threads) & of_the_program == set()


@pytest.mark.parametrize("which", ["mask", "enrich"])
def test_a_call_returns_while_a_hook_is_still_busy_with_it(hooks: Set, recording: Recording, which: str) -> None:
    entered, gate = threading.Event(), threading.Event()

    def mask(path: Path_, value: str) -> str:
        entered.set()
        assert gate.wait(30)
        return value

    def enrich(event: dict[str, Any]) -> None:
        mask((), "")

    hooks(**{which: {"mask": mask, "enrich": enrich}[which]}, hook_timeout=60)

    ask("first")
    assert entered.wait(10)
    ask("second")
    list(ask("third", stream=True))

    assert not gate.is_set()
    gate.set()
    events = recording.events()
    assert [event["inputs"]["chat_history"][0]["content"] for event in events] == ["first", "second", "third"]
    assert hook_counts(which) == {"failed": 0, "timed_out": 0}


# -- hooks that hang, in programs of their own: a hook that is switched off stays so for the process -------------------

ASK = """
import sys, threading, time
import litellm, honeyhive_autoinstrument as hh
gate, entered, calls, threads = threading.Event(), threading.Event(), [], set()
def hang(value):
    threads.add(threading.get_ident())
    if "hang" in value:
        entered.set()
        gate.wait()
def mask(path, value):
    calls.append(value)
    hang(value)
    return value
def enrich(event):
    text = event["inputs"]["chat_history"][0]["content"]
    calls.append(text)
    hang(text)
    return {"team": "blue"}
def ask(text, **more):
    litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": text}], mock_response="hello", **more)
def begin(which, **settings):
    hh.init(**{which: globals()[which]}, hook_timeout=0.3, linger=0.02, **settings)
def counts(which):
    return hh.stats()["hooks"][which]
"""


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["on_failure", "always"])
def test_texts_that_a_hanging_mask_has_not_masked_are_withheld(
    run: Run, fake_honeyhive: FakeHoneyHive, durability: str
) -> None:
    code = (
        f"{ASK}begin('mask', durability={durability!r})\n"
        "ask('hang on', metadata={'name': 'a'})\n"
        "assert not gate.is_set()\n"
        "assert hh.flush(20)\n"
        "print(counts('mask'))\n"
    )

    result = run("python", "-c", code, env=fake_honeyhive.env, timeout=40)

    assert (result.status, result.out) == (0, "{'failed': 0, 'timed_out': 1}\n"), result.err
    (event,) = fake_honeyhive.events
    assert event["inputs"]["chat_history"][0]["content"] == WITHHELD
    assert "MASK" in result.err
    assert "hang on" not in result.err


@pytest.mark.slow
def test_an_event_whose_enrich_hangs_goes_out_as_it_was(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        f"{ASK}begin('enrich')\n"
        "ask('hang on'); ask('fine')\n"
        "assert hh.flush(20)\n"
        "print(counts('enrich'))\n"
    )  # fmt: skip

    result = run("python", "-c", code, env=fake_honeyhive.env, timeout=40)

    assert (result.status, result.out) == (0, "{'failed': 0, 'timed_out': 1}\n"), result.err
    hung, fine = fake_honeyhive.events
    assert (hung["inputs"]["chat_history"][0]["content"], "team" in hung["metadata"]) == ("hang on", False)
    assert fine["metadata"]["team"] == "blue"
    assert "ENRICH" in result.err


@pytest.mark.parametrize("which", ["mask", "enrich"])
@pytest.mark.slow
def test_a_hook_that_hangs_again_and_again_is_switched_off_and_every_event_arrives(
    run: Run, fake_honeyhive: FakeHoneyHive, which: str
) -> None:
    code = (
        f"{ASK}begin({which!r})\n"
        "for number in range(8):\n"
        "    ask('hang on' if number % 2 else 'fine', metadata={'name': str(number)})\n"
        "    assert hh.flush(20)\n"
        "known = len(calls)\n"
        "for number in range(8, 12):\n"
        "    ask('fine', metadata={'name': str(number)})\n"
        "assert hh.flush(20)\n"
        f"print(len(calls) - known, len(threads), counts({which!r})['timed_out'], hh.stats()['faults'])\n"
    )

    result = run("python", "-c", code, env=fake_honeyhive.env, timeout=60)

    more, threads, timed_out, no_faults = result.out.split(maxsplit=3)
    assert (result.status, more, no_faults) == (0, "0", "{}\n"), result.err
    assert 3 <= int(threads) <= 4
    assert 3 <= int(timed_out) <= 4
    assert len(fake_honeyhive.events) == 12
    last = fake_honeyhive.events[-4:]
    if which == "mask":
        assert [written_in(event) for event in last] == [[WITHHELD, WITHHELD]] * 4
    else:
        assert [event["inputs"]["chat_history"][0]["content"] for event in last] == ["fine"] * 4
    assert result.err.count("not asked any more") == 1, result.err


@pytest.mark.slow
def test_a_hook_that_is_late_now_and_then_is_still_asked(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        f"{ASK}"
        "def mask(path, value):\n"
        "    if value == 'late':\n"
        "        gate.wait()\n"
        "    return 'masked'\n"
        "begin('mask')\n"
        "for number in range(12):\n"
        "    gate.clear()\n"
        "    ask('late' if number % 2 else 'in time')\n"
        "    assert hh.flush(20)\n"
        "    gate.set()\n"
        "print(counts('mask'))\n"
    )

    result = run("python", "-c", code, env=fake_honeyhive.env, timeout=60)

    assert (result.status, result.out) == (0, "{'failed': 0, 'timed_out': 6}\n"), result.err
    asked = [event["inputs"]["chat_history"][0]["content"] for event in fake_honeyhive.events]
    assert asked == ["masked", WITHHELD] * 6
    assert "not asked any more" not in result.err


@pytest.mark.slow
def test_many_calls_at_once_do_not_get_a_hook_more_threads(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        f"{ASK}begin('mask')\n"
        "askers = [threading.Thread(target=ask, args=('hang on',)) for _ in range(20)]\n"
        "for asker in askers: asker.start()\n"
        "for asker in askers: asker.join(20)\n"
        "print(any(asker.is_alive() for asker in askers), gate.is_set())\n"
        "assert hh.flush(30)\n"
        "print(len(threads))\n"
    )

    result = run("python", "-c", code, env=fake_honeyhive.env, timeout=60)

    returned, threads = result.out.splitlines()
    assert (result.status, returned) == (0, "False False"), result.err
    assert int(threads) <= 4
    assert len(fake_honeyhive.events) == 20
    assert {event["inputs"]["chat_history"][0]["content"] for event in fake_honeyhive.events} == {WITHHELD}


@pytest.mark.slow
def test_hook_timeout_says_how_long_a_hook_is_waited_for(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        f"{ASK}hh.init(mask=mask, hook_timeout=20, linger=0.02)\n"
        "ask('hang on')\n"
        "entered.wait(); time.sleep(1.5); gate.set()\n"  # longer than the default, which must not count
        "assert hh.flush(20)\n"
        "print(counts('mask'))\n"
    )

    result = run("python", "-c", code, env=fake_honeyhive.env, timeout=40)

    assert result.out == "{'failed': 0, 'timed_out': 0}\n", result.err
    (event,) = fake_honeyhive.events
    assert event["inputs"]["chat_history"][0]["content"] == "hang on"


@pytest.mark.parametrize("which", ["mask", "enrich"])
@pytest.mark.slow
def test_a_program_ends_while_a_hook_hangs_and_its_events_arrive(
    run: Run, fake_honeyhive: FakeHoneyHive, which: str
) -> None:
    code = f"{ASK}begin({which!r})\nask('hang on')\nentered.wait()\nprint('end', gate.is_set())\n"

    result = run("python", "-c", code, env=fake_honeyhive.env, timeout=30)

    assert (result.status, result.out) == (0, "end False\n"), result.err
    (event,) = fake_honeyhive.events
    shown = event["inputs"]["chat_history"][0]["content"]
    assert shown == (WITHHELD if which == "mask" else "hang on")


@pytest.mark.slow
def test_hooks_work_in_a_forked_child_as_in_its_parent(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        "import os\n"
        f"{ASK}def star(path, value): return value.replace('secret', 's*****')\n"
        "hh.init(mask=star, enrich=lambda event: {'team': 'blue'})\n"
        "ask('a secret before'); assert hh.flush(20)\n"
        "child = os.fork()\n"
        'ask(f\'a secret of {"parent" if child else "child"}\')\n'
        "if child: assert os.waitpid(child, 0)[1] == 0\n"
    )

    result = run("python", "-c", code, env=fake_honeyhive.env, timeout=40)

    assert result.status == 0, result.err
    asked = sorted(event["inputs"]["chat_history"][0]["content"] for event in fake_honeyhive.events)
    assert asked == ["a s***** before", "a s***** of child", "a s***** of parent"]
    assert {event["metadata"]["team"] for event in fake_honeyhive.events} == {"blue"}


@pytest.mark.slow
def test_a_fork_while_a_hook_hangs_leaves_the_child_working_hooks(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        "import os\n"
        f"{ASK}begin('mask')\n"
        "ask('hang on'); entered.wait()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    ask('of the child')\n"
        "    raise SystemExit(0 if hh.flush(10) else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "ask('of the parent')\n"
    )

    result = run("python", "-c", code, env=fake_honeyhive.env, timeout=40)

    assert result.status == 0, result.err
    asked = sorted(event["inputs"]["chat_history"][0]["content"] for event in fake_honeyhive.events)
    assert asked == [WITHHELD, "of the child", "of the parent"]
    assert set(fake_honeyhive.arrivals.values()) == {1}


# -- hooks that are named in the environment ---------------------------------------------------------------------------

ONE_CALL = (
    "import litellm\n"
    "for text in ('a secret', 'another secret'):\n"
    "    litellm.completion(model='gpt-4o', messages=[{'role': 'user', 'content': text}], mock_response='hello')\n"
    "print('done')\n"
)


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A folder with a module of hooks, and modules that cannot be imported."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "my_hooks.py").write_text(
        "def mask(path, value):\n"
        "    return value.replace('secret', 's*****')\n"
        "def enrich(event):\n"
        "    return {'metadata': {'team': 'blue'}, 'metrics': {'length': len(event['inputs']['chat_history'])}}\n"
        "not_callable = 5\n"
    )
    (folder / "fails.py").write_text("raise RuntimeError('no')\n")
    (folder / "exits.py").write_text("raise SystemExit(3)\n")
    return folder


def test_hooks_are_named_as_module_and_function(run: Run, fake_honeyhive: FakeHoneyHive, module: Path) -> None:
    env = {"PYTHONPATH": str(module), "HONEYHIVE_MASK": "my_hooks:mask", "HONEYHIVE_ENRICH": "my_hooks:enrich"}

    result = run(LAUNCHER, "python", "-c", ONE_CALL, env={**fake_honeyhive.env, **env})

    assert (result.status, result.out, result.err) == (0, "done\n", "")
    first, second = fake_honeyhive.events
    assert first["inputs"]["chat_history"][0]["content"] == "a s*****"
    assert second["metadata"]["team"] == "blue"
    assert second["metrics"] == {"length": 1}


@pytest.mark.slow
def test_init_takes_a_name_as_well(run: Run, fake_honeyhive: FakeHoneyHive, module: Path) -> None:
    code = f"import honeyhive_autoinstrument as hh\nhh.init(mask='my_hooks:mask')\n{ONE_CALL}"

    run("python", "-c", code, env={**fake_honeyhive.env, "PYTHONPATH": str(module)})

    assert [event["inputs"]["chat_history"][0]["content"] for event in fake_honeyhive.events] == [
        "a s*****",
        "another s*****",
    ]


BAD_NAMES = [
    "no_such_module:mask",
    "my_hooks:no_such_function",
    "my_hooks:not_callable",
    "fails:mask",
    "exits:mask",
    "my_hooks",
    ":mask",
    "my_hooks:",
    "not a name:at all",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_mask_that_cannot_be_imported_withholds_every_text_and_is_said_once(
    hooks: Set,
    recording: Recording,
    module: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.syspath_prepend(module)
    hooks(mask=name)

    ask("a secret", user="secret")
    ask("a secret", mock_response="secret", metadata={"note": "secret"})

    assert [written_in(event) for event in recording.events()] == [[WITHHELD, WITHHELD]] * 2
    assert b"secret" not in b"".join(request.body for request in recording.server.requests)
    assert len([message for message in said(caplog) if "HONEYHIVE_MASK" in message]) == 1


BAD_ENRICH = ["no_such_module:enrich", "my_hooks:no_such_function", "my_hooks:not_callable", "fails:x", "exits:x"]


@pytest.mark.parametrize("name", BAD_ENRICH)
def test_an_enrich_that_cannot_be_imported_changes_nothing_and_is_said_once(
    hooks: Set,
    recording: Recording,
    module: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.syspath_prepend(module)
    hooks(enrich=name)

    ask("one")
    ask("two")

    assert [written_in(event) for event in recording.events()] == [["one", "hello"], ["two", "hello"]]
    assert len([message for message in said(caplog) if "HONEYHIVE_ENRICH" in message]) == 1


@pytest.mark.slow
def test_a_program_whose_hooks_cannot_be_imported_goes_on(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    env = {**fake_honeyhive.env, "HONEYHIVE_MASK": "no_such_module:mask", "HONEYHIVE_ENRICH": "no_such_module:enrich"}

    result = run(LAUNCHER, "python", "-c", ONE_CALL, env=env)

    assert (result.status, result.out) == (0, "done\n")
    assert [written_in(event) for event in fake_honeyhive.events] == [[WITHHELD, WITHHELD]] * 2
    assert (result.err.count("HONEYHIVE_MASK"), result.err.count("HONEYHIVE_ENRICH")) == (1, 1), result.err


@pytest.mark.parametrize("value", [5, object(), ["my_hooks:mask"]], ids=["number", "object", "list"])
def test_a_mask_that_is_neither_a_name_nor_callable_withholds_every_text(
    hooks: Set, recording: Recording, value: Any
) -> None:
    hooks(mask=value)

    ask("secret")

    assert written_in(recording.event()) == [WITHHELD, WITHHELD]


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "0"])
def test_a_hook_timeout_that_is_none_is_a_notice(value: str) -> None:
    config = Config.from_env({"HONEYHIVE_HOOK_TIMEOUT": value})

    assert config.hook_timeout == 1.0
    assert any("HONEYHIVE_HOOK_TIMEOUT" in notice for notice in config.notices)


def test_without_hooks_nothing_of_them_is_counted(recording: Recording, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger=LOGGER)
    ask()
    recording.event()

    assert honeyhive_autoinstrument.stats()["hooks"] == {
        "mask": {"failed": 0, "timed_out": 0},
        "enrich": {"failed": 0, "timed_out": 0},
    }
