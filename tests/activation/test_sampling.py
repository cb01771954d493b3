"""SAMPLE_RATE: part of the sessions is recorded, the same ones everywhere; of the rest what failed or was slow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import litellm
import pytest

import honeyhive_autoinstrument
from honeyhive_autoinstrument.config import Config
from tests.conftest import BIN, Recording, Run
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import KEY, Behaviour, FakeProvider

LAUNCHER = BIN / "honeyhive-instrument"
EVENTS = BIN / "honeyhive-events"
SESSIONS = 2000

Sampling = Callable[..., Recording]


@pytest.fixture
def sampling(recording: Recording) -> Iterator[Sampling]:
    """A recording that samples, for this test only."""
    given = {"linger", "durability"}

    def begin(rate: float, **settings: Any) -> Recording:
        given.update(("sample_rate", *settings))
        honeyhive_autoinstrument.init(sample_rate=rate, **settings)
        return recording

    yield begin
    for name in given:
        honeyhive_autoinstrument.init().settings.pop(name, None)
    honeyhive_autoinstrument.init(linger=0.05)


def ask(session: str | None = None, **arguments: Any) -> Any:
    metadata = {} if session is None else {"session_id": session}
    arguments = {"model": "gpt-4o", "mock_response": "hello", **arguments}
    return litellm.completion(messages=[{"role": "user", "content": "x"}], metadata=metadata, **arguments)


def stats() -> dict[str, Any]:
    """The ledger, which has to be balanced."""
    found = honeyhive_autoinstrument.stats()
    settled = sum(found[name] for name in ("sent", "pending", "spooled", "rejected", "sampled_out"))
    assert found["created"] == settled + sum(found["dropped"].values()), found
    return found


def router(provider: FakeProvider, **more: Any) -> litellm.Router:
    def deployment(group: str, model: str) -> dict[str, Any]:
        parameters = {"model": model, "api_base": provider.base, "api_key": KEY, "max_retries": 0}
        return {"model_name": group, "litellm_params": parameters}

    models = [deployment("bad", "openai/echo"), deployment("good", "openai/gpt-4o-mini")]
    return litellm.Router(model_list=models, num_retries=0, **more)


def names(events: list[dict[str, Any]]) -> Counter[tuple[str, bool]]:
    return Counter((event["event_type"], event["error"] is not None) for event in events)


def check_parents(server: FakeHoneyHive) -> None:
    """Every event hangs below one that is there, or below its session."""
    for event in server.events:
        assert event["parent_id"] in (event["session_id"], *server.stored), event["event_name"]


# -- by session --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_about_the_rate_of_many_sessions_is_recorded_and_the_rest_is_counted(sampling: Sampling) -> None:
    recording = sampling(0.25)
    for _ in range(SESSIONS):
        litellm.embedding(
            model="text-embedding-3-small", input=["x"], mock_response=[0.5], litellm_session_id=str(uuid4())
        )

    kept = len(recording.events())

    # Six standard deviations: a fair choice is outside of it once in a thousand million runs.
    spread = 6 * (SESSIONS * 0.25 * 0.75) ** 0.5
    assert abs(kept - SESSIONS * 0.25) < spread
    ledger = stats()
    assert (ledger["created"], ledger["sent"], ledger["sampled_out"]) == (SESSIONS, kept, SESSIONS - kept)


def test_ids_that_are_no_uuids_are_sampled_as_evenly(sampling: Sampling) -> None:
    recording = sampling(0.5)
    for number in range(400):
        ask(f"chat-{number}")

    assert abs(len(recording.events()) - 200) < 60


def test_of_each_session_everything_is_recorded_or_nothing(sampling: Sampling) -> None:
    recording = sampling(0.5)
    for _ in range(3):
        for number in range(40):
            ask(f"chat-{number}")
            list(ask(f"chat-{number}", stream=True))

    counts = Counter(event["session_id"] for event in recording.events())

    assert 0 < len(counts) < 40
    assert set(counts.values()) == {6}


PROGRAM = (
    "import litellm\n"
    "for number in range(60):\n"
    "    litellm.completion(model='gpt-4o', messages=[{'role': 'user', 'content': 'x'}], mock_response='y',\n"
    "                       metadata={'session_id': f'chat-{number}'})\n"
)


@pytest.mark.slow
def test_every_process_chooses_the_same_sessions(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    env = {**fake_honeyhive.env, "HONEYHIVE_SAMPLE_RATE": "0.5"}

    for _ in range(2):
        assert run(LAUNCHER, "python", "-c", PROGRAM, env={**env, "PYTHONHASHSEED": "random"}).status == 0

    counts = Counter(event["session_id"] for event in fake_honeyhive.events)
    assert 0 < len(counts) < 60
    assert set(counts.values()) == {2}


def test_sessions_of_a_context_are_sampled_by_their_id(sampling: Sampling) -> None:
    recording = sampling(0.5)
    expected = []
    for number in range(30):
        ask(f"chat-{number}")
    kept = {event["session_id"] for event in recording.events()}
    recording.server.stored.clear()

    for number in range(30):
        with honeyhive_autoinstrument.session(id=f"chat-{number}") as scope:
            ask()
        expected += [scope.id] * (scope.id in kept)

    assert [event["session_id"] for event in recording.events()] == expected


def test_a_rate_of_one_records_everything(sampling: Sampling) -> None:
    recording = sampling(1.0)
    for number in range(20):
        ask(f"chat-{number}")

    assert len(recording.events()) == 20
    assert stats()["sampled_out"] == 0


@pytest.mark.parametrize("durability", ["on_failure", "always", "memory"])
def test_a_rate_of_zero_sends_and_keeps_nothing_not_even_the_sessions(
    sampling: Sampling, tmp_path: Path, durability: str
) -> None:
    recording = sampling(0.0, durability=durability)
    with honeyhive_autoinstrument.session(name="mine", user="ada"):
        ask()
        list(ask(stream=True))
    ask("chat-1")

    assert recording.events() == []
    assert recording.server.requests == []
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"hello" not in kept
    assert b"session_id" not in kept
    ledger = stats()
    assert (ledger["created"], ledger["sampled_out"]) == (3, 3)


@pytest.mark.slow
def test_without_a_key_what_is_sampled_out_is_not_in_the_local_store(run: Run) -> None:
    env = {"HONEYHIVE_SAMPLE_RATE": "0.5"}

    run(LAUNCHER, "python", "-c", PROGRAM, env=env)

    lines = [json.loads(line) for line in run(EVENTS, "export").out.splitlines()]
    events = [line["session_id"] for line in lines if line["event_type"] != "session"]
    rows = [line["session_id"] for line in lines if line["event_type"] == "session"]
    assert 0 < len(events) < 60
    assert sorted(rows) == sorted(events)


# -- what is kept all the same -----------------------------------------------------------------------------------------


def test_a_failed_call_is_kept_with_its_session(sampling: Sampling) -> None:
    recording = sampling(0.0)
    with pytest.raises(litellm.InternalServerError):
        ask(mock_response="litellm.InternalServerError")
    ask()

    (event,) = recording.events()

    assert event["error"] is not None
    assert event["session_id"] in recording.server.sessions
    assert stats()["sampled_out"] == 1


def test_a_stream_that_fails_is_kept(sampling: Sampling, fake_provider: FakeProvider) -> None:
    recording = sampling(0.0)
    fake_provider.always("gpt-4o-mini", Behaviour(cut_after=2))
    with pytest.raises(Exception, match=r".+"):
        list(
            ask(
                model="openai/gpt-4o-mini", mock_response=None, stream=True, api_base=fake_provider.base, api_key=KEY,
                max_retries=0,
            )
        )  # fmt: skip

    assert recording.event()["error"] is not None


def test_an_attempt_that_failed_is_kept_with_the_chain_around_it(
    sampling: Sampling, fake_provider: FakeProvider
) -> None:
    recording = sampling(0.0)
    fake_provider.always("echo", Behaviour(status=500))

    router(fake_provider, fallbacks=[{"bad": ["good"]}]).completion("bad", [{"role": "user", "content": "x"}])
    router(fake_provider).completion("good", [{"role": "user", "content": "x"}])

    found = names(recording.events())
    assert found["chain", False] == 1  # the call succeeded in the end
    assert found["model", True] == 1
    check_parents(recording.server)
    assert stats()["sampled_out"] >= 2


def test_a_router_call_that_failed_for_good_is_kept_whole(sampling: Sampling, fake_provider: FakeProvider) -> None:
    recording = sampling(0.0)
    fake_provider.always("echo", Behaviour(status=500))

    with pytest.raises(litellm.InternalServerError):
        router(fake_provider).completion("bad", [{"role": "user", "content": "x"}])

    assert names(recording.events()) == {("chain", True): 1, ("model", True): 1}
    check_parents(recording.server)


def test_chains_within_chains_are_kept_around_a_failure(sampling: Sampling, fake_provider: FakeProvider) -> None:
    recording = sampling(0.0)
    fake_provider.always("echo", Behaviour(status=500))
    arguments = {"api_base": fake_provider.base, "api_key": KEY, "max_retries": 0}

    litellm.completion(
        model="openai/echo",
        messages=[{"role": "user", "content": "x"}],
        fallbacks=["openai/gpt-4o-mini"],
        **arguments,
    )

    found = names(recording.events())
    assert found["model", True] == 1
    assert found["chain", False] >= 1
    check_parents(recording.server)


def test_failures_are_not_kept_where_that_is_not_wanted(sampling: Sampling) -> None:
    recording = sampling(0.0, sample_keep_errors=False)
    with pytest.raises(litellm.InternalServerError):
        ask(mock_response="litellm.InternalServerError")

    assert recording.events() == []
    assert recording.server.requests == []
    assert stats()["sampled_out"] == 1


def test_a_slow_call_is_kept_and_a_quick_one_is_not(sampling: Sampling) -> None:
    recording = sampling(0.0, sample_keep_slow=0.2)
    ask(mock_response="quick")
    ask(mock_response="slow", mock_delay=0.25)

    assert recording.event()["outputs"]["content"] == "slow"
    assert stats()["sampled_out"] == 1


def test_slow_calls_are_not_kept_unless_that_is_wanted(sampling: Sampling) -> None:
    recording = sampling(0.0)
    ask(mock_delay=0.25)

    assert recording.events() == []


def test_an_attempt_that_was_slow_is_kept_with_the_chain_around_it(
    sampling: Sampling, fake_provider: FakeProvider
) -> None:
    recording = sampling(0.0, sample_keep_slow=0.2)
    models = [
        {"model_name": "group", "litellm_params": {"model": "gpt-4o", "mock_response": "slow", "mock_delay": 0.25}}
    ]

    litellm.Router(model_list=models).completion("group", [{"role": "user", "content": "x"}])

    assert names(recording.events()) == {("chain", False): 1, ("model", False): 1}
    check_parents(recording.server)


@pytest.mark.slow
def test_with_always_a_failure_is_on_disk_before_the_call_returns(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    env = {
        **fake_honeyhive.env,
        "HONEYHIVE_SAMPLE_RATE": "0",
        "HONEYHIVE_DURABILITY": "always",
        "HONEYHIVE_LINGER": "30",
    }
    code = (
        "import os, litellm\n"
        "def ask(answer):\n"
        "    litellm.completion(model='gpt-4o', messages=[{'role': 'user', 'content': 'x'}], mock_response=answer)\n"
        "ask('fine')\n"
        "try: ask('litellm.InternalServerError')\n"
        "except litellm.InternalServerError: pass\n"
        "os._exit(0)\n"
    )

    run(LAUNCHER, "python", "-c", code, env=env)
    run(EVENTS, "send", env=fake_honeyhive.env)

    (event,) = fake_honeyhive.events
    assert event["error"] is not None


# -- what is added to a call that is not recorded ----------------------------------------------------------------------


def test_updates_of_what_is_sampled_out_are_not_sent(sampling: Sampling) -> None:
    recording = sampling(0.0)
    ask()
    honeyhive_autoinstrument.enrich(metadata={"by": "me"})
    recording.events()
    honeyhive_autoinstrument.enrich(metrics={"m": 1})
    ask("chat-1")
    honeyhive_autoinstrument.enrich(metrics={"m": 1})

    assert recording.events() == []
    assert recording.server.requests == []
    stats()


def test_updates_by_the_id_of_what_is_sampled_out_are_not_sent(sampling: Sampling) -> None:
    recording = sampling(0.0)
    ask()
    event_id = honeyhive_autoinstrument.last_event_id()
    assert event_id is not None
    recording.events()

    honeyhive_autoinstrument.update_event(event_id, metadata={"by": "me"})

    recording.events()
    assert recording.server.requests == []


def test_updates_of_what_is_kept_all_the_same_are_sent(sampling: Sampling) -> None:
    recording = sampling(0.0)
    with pytest.raises(litellm.InternalServerError):
        ask(mock_response="litellm.InternalServerError")
    recording.events()

    assert honeyhive_autoinstrument.enrich(feedback={"seen": True}) is True

    assert recording.event()["feedback"] == {"seen": True}


# -- bad settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["half", "2", "-0.1", "nan"])
def test_a_rate_that_is_none_is_a_notice_and_everything_is_recorded(value: str) -> None:
    config = Config.from_env({"HONEYHIVE_SAMPLE_RATE": value})

    assert config.sample_rate == 1.0
    assert any("HONEYHIVE_SAMPLE_RATE" in notice for notice in config.notices)


@pytest.mark.parametrize(("name", "value"), [("SAMPLE_KEEP_SLOW", "soon"), ("SAMPLE_KEEP_ERRORS", "maybe")])
def test_other_bad_settings_are_notices_and_their_defaults_hold(name: str, value: str) -> None:
    config = Config.from_env({f"HONEYHIVE_{name}": value})

    assert (config.sample_keep_errors, config.sample_keep_slow) == (True, None)
    assert any(f"HONEYHIVE_{name}" in notice for notice in config.notices)
