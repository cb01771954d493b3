"""enrich(), last_event_id(), update_event(): what is added to a call reaches its event, whenever it is added."""

from __future__ import annotations

import asyncio
import contextvars
import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

import honeyhive_autoinstrument
from honeyhive_autoinstrument import enrich, last_event_id, update_event
from honeyhive_autoinstrument._faults import faults
from tests.conftest import BIN, Recording, Run, wait_until
from tests.fakes.honeyhive import FakeHoneyHive

LAUNCHER = BIN / "honeyhive-instrument"
EVENTS = BIN / "honeyhive-events"
LOGGER = "honeyhive_autoinstrument"


@pytest.fixture(autouse=True)
def empty_context() -> None:
    """Each test in a context that remembers no call of another test, and a log that has said nothing yet."""
    for variable in contextvars.copy_context():
        if variable.name.startswith("honeyhive"):
            variable.set(None)
    faults._said_at.clear()


@pytest.fixture
def setting(recording: Recording) -> Iterator[Callable[..., None]]:
    """Give settings to `init()`, for this test only."""
    given: set[str] = set()

    def set_them(**settings: Any) -> None:
        given.update(settings)
        honeyhive_autoinstrument.init(**settings)

    yield set_them
    for name in given:
        honeyhive_autoinstrument.init().settings.pop(name, None)
    honeyhive_autoinstrument.init()


def ask(text: str = "Say hello.", **arguments: Any) -> Any:
    arguments = {"model": "gpt-4o", "mock_response": "hello", **arguments}
    return litellm.completion(messages=[{"role": "user", "content": text}], **arguments)


def added(event: dict[str, Any]) -> dict[str, Any]:
    """What somebody has added to an event: `by` in metadata, and the buckets that no call fills by itself."""
    found: dict[str, Any] = {
        name: event[name] for name in ("metrics", "feedback", "user_properties") if event.get(name)
    }
    if "by" in event["metadata"]:
        found["by"] = event["metadata"]["by"]
    return found


def puts(server: FakeHoneyHive) -> list[str]:
    with server.lock:
        return [request.path for request in server.requests if request.method == "PUT"]


class OwnProvider(litellm.CustomLLM):  # type: ignore[misc]
    """A custom provider, which runs inside the call that asks it."""

    def __init__(self, during: Callable[[], object]) -> None:
        super().__init__()
        self.during = during

    def completion(self, *args: Any, **kwargs: Any) -> Any:
        self.during()
        return litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="own")

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return self.completion()


Own = Callable[[Callable[[], object]], None]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Own:
    """What is done inside calls of model `own/model`."""

    def use(during: Callable[[], object]) -> None:
        monkeypatch.setattr(
            litellm, "custom_provider_map", [{"provider": "own", "custom_handler": OwnProvider(during)}]
        )

    monkeypatch.setattr(litellm, "_custom_providers", ["own"])
    monkeypatch.setattr(litellm, "provider_list", [*litellm.provider_list, "own"])
    return use


# -- which call is meant -----------------------------------------------------------------------------------------------


def test_before_the_first_call_there_is_nothing_to_add_to(recording: Recording) -> None:
    assert last_event_id() is None
    assert enrich(metadata={"by": "me"}) is False
    assert recording.events() == []
    assert recording.server.requests == []


def test_the_last_event_id_is_that_of_the_last_call(recording: Recording) -> None:
    ids = []
    for text in ("one", "two"):
        ask(text)
        ids.append(last_event_id())

    assert [event["event_id"] for event in recording.events()] == ids


def test_of_a_router_call_it_is_the_chains(recording: Recording) -> None:
    router = litellm.Router(
        model_list=[{"model_name": "group", "litellm_params": {"model": "gpt-4o", "mock_response": "y"}}]
    )
    router.completion("group", [{"role": "user", "content": "x"}])

    found = last_event_id()
    enrich(metadata={"by": "me"})

    by_type = {event["event_type"]: event for event in recording.events()}
    assert found == by_type["chain"]["event_id"]
    assert added(by_type["chain"]) == {"by": "me"}
    assert added(by_type["model"]) == {}


def test_inside_a_call_it_is_that_calls(recording: Recording, own: Own) -> None:
    ids: list[str | None] = []
    own(lambda: ids.append(last_event_id()))
    ask("before")
    before = last_event_id()

    ask(model="own/model", mock_response=None)

    ids.append(last_event_id())
    assert ids[0] == ids[1] != before
    outermost = [event["event_id"] for event in recording.events() if event["config"]["model"] == "own/model"]
    assert outermost == [ids[0]]


def test_a_failed_call_can_be_added_to(recording: Recording) -> None:
    with pytest.raises(litellm.InternalServerError):
        ask(mock_response="litellm.InternalServerError")

    assert enrich(feedback={"seen": True}) is True

    assert added(recording.event()) == {"feedback": {"seen": True}}


def test_another_context_has_its_own_last_call(recording: Recording) -> None:
    ask()
    found: list[Any] = []

    def elsewhere() -> None:
        found.extend((last_event_id(), enrich(metadata={"by": "another thread"})))
        ask("elsewhere")
        found.append(last_event_id())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    here, there = recording.events()
    assert found == [None, False, there["event_id"]]
    assert last_event_id() == here["event_id"]
    assert added(here) == {}


def test_a_thread_with_this_context_adds_to_the_call_of_this_context(recording: Recording) -> None:
    ask()
    thread = threading.Thread(
        target=honeyhive_autoinstrument.with_context(lambda: enrich(metadata={"by": "another thread"}))
    )
    thread.start()
    thread.join()

    assert added(recording.event()) == {"by": "another thread"}


def test_tasks_that_run_side_by_side_each_add_to_their_own_call(recording: Recording) -> None:
    async def work(name: str) -> None:
        await litellm.acompletion(
            model="gpt-4o", messages=[{"role": "user", "content": name}], mock_response="y", mock_delay=0.01
        )
        await asyncio.sleep(random.Random(name).random() / 50)
        assert enrich(metadata={"by": name})
        await asyncio.sleep(0)

    async def work_together() -> None:
        await asyncio.gather(*(work(f"task {number}") for number in range(20)))

    asyncio.run(work_together())

    events = recording.events()
    assert len(events) == 20
    assert [event["metadata"]["by"] for event in events] == [
        event["inputs"]["chat_history"][0]["content"] for event in events
    ]


# -- while it is recorded, and after -----------------------------------------------------------------------------------


def test_what_is_added_inside_a_call_is_part_of_its_event(recording: Recording, own: Own) -> None:
    own(
        lambda: (
            enrich(metadata={"by": "provider"}, metrics={"m": 1}, feedback={"f": "x"}, user_properties={"plan": "free"})
            and None
        )
    )

    ask(model="own/model", mock_response=None)

    outermost, inner = recording.events()
    assert added(outermost) == {
        "by": "provider",
        "metrics": {"m": 1},
        "feedback": {"f": "x"},
        "user_properties": {"plan": "free"},
    }
    assert added(inner) == {}
    assert puts(recording.server) == []


def test_the_same_in_an_async_call(recording: Recording, own: Own) -> None:
    own(lambda: enrich(metadata={"by": "provider"}))

    asyncio.run(litellm.acompletion(model="own/model", messages=[{"role": "user", "content": "x"}]))

    outermost, _ = recording.events()
    assert added(outermost) == {"by": "provider"}
    assert puts(recording.server) == []


def test_what_is_added_while_a_stream_is_read_is_part_of_its_event(recording: Recording) -> None:
    stream = ask(stream=True)
    next(stream)
    assert enrich(metadata={"by": "reader"}) is True
    recording.events()
    list(stream)

    assert added(recording.event()) == {"by": "reader"}
    assert puts(recording.server) == []


def test_what_is_added_before_the_event_is_sent_is_part_of_it(
    recording: Recording, setting: Callable[..., None]
) -> None:
    setting(linger=30)
    ask()
    assert enrich(metrics={"m": 1}) is True
    assert enrich(metadata={"by": "me"}) is True

    assert added(recording.event()) == {"metrics": {"m": 1}, "by": "me"}


def test_what_is_added_after_the_event_was_sent_is_an_update(recording: Recording) -> None:
    ask(metadata={"feature": "search"})
    event_id = recording.event()["event_id"]

    assert enrich(metadata={"by": "me"}, metrics={"m": 1}, feedback={"rating": 5}) is True

    event = recording.event()
    assert added(event) == {"by": "me", "metrics": {"m": 1}, "feedback": {"rating": 5}}
    assert event["metadata"]["feature"] == "search"
    assert puts(recording.server) == [f"/v1/events/{event_id}"]
    assert recording.server.updates == [
        (event_id, {"metadata": {"by": "me"}, "metrics": {"m": 1}, "feedback": {"rating": 5}})
    ]


@pytest.mark.parametrize("settings", [{}, {"workers": 4, "batch_max_events": 1, "linger": 0}], ids=["", "many workers"])
def test_a_later_addition_wins_over_an_earlier_one_whenever_either_was_made(
    recording: Recording, settings: dict[str, Any]
) -> None:
    honeyhive_autoinstrument.init(**settings)
    for times in range(12):
        ask(f"call {times}")
        for number in range(times):
            enrich(metadata={"by": number, f"n{number}": number})
            if number % 4 == 3:
                recording.events()
        enrich(metadata={"by": "last"})

    events = recording.events()
    assert [event["metadata"]["by"] for event in events] == ["last"] * 12
    assert all(
        event["metadata"][f"n{number}"] == number for times, event in enumerate(events) for number in range(times)
    )


@pytest.mark.slow
def test_updates_that_wait_in_memory_do_not_wait_for_each_other(recording: Recording) -> None:
    honeyhive_autoinstrument.init(durability="memory", batch_max_events=1)
    ask()
    recording.events()
    recording.server.stop()

    for number in range(3):
        enrich(metadata={f"n{number}": number})
    wait_until(lambda: honeyhive_autoinstrument.stats()["pending"] == 3, what="three that wait")
    honeyhive_autoinstrument.flush(3)
    recording.server.start()

    wait_until(lambda: len(recording.server.updates) == 3, 60, what="all of them")
    metadata = [body["metadata"] for _, body in recording.server.updates]
    assert sorted(metadata, key=str) == [{"n0": 0}, {"n1": 1}, {"n2": 2}]


def test_update_event_adds_from_anywhere_by_the_id(recording: Recording) -> None:
    ask()
    event_id = last_event_id()
    assert event_id is not None
    results: list[bool] = []

    thread = threading.Thread(
        target=lambda: results.append(
            update_event(event_id, metadata={"by": "elsewhere"}, metrics={"m": 1}, outputs={"content": "replaced"})
        )
    )
    thread.start()
    thread.join()

    event = recording.event()
    assert results == [True]
    assert added(event) == {"by": "elsewhere", "metrics": {"m": 1}}
    assert event["outputs"] == {"content": "replaced"}


def test_update_event_adds_to_a_session(recording: Recording) -> None:
    with honeyhive_autoinstrument.session(metadata={"note": "kept"}) as scope:
        ask()
    recording.events()

    assert update_event(scope.id, feedback={"rating": 4}, metadata={"by": "me"}) is True

    recording.events()
    row = recording.server.sessions[scope.id]
    assert row["feedback"] == {"rating": 4}
    assert (row["metadata"]["note"], row["metadata"]["by"]) == ("kept", "me")


def test_an_update_of_a_session_never_comes_before_its_row(recording: Recording) -> None:
    with honeyhive_autoinstrument.session() as scope:
        ask()
        assert update_event(scope.id, feedback={"rating": 4}) is True

    recording.events()
    assert recording.server.sessions[scope.id]["feedback"] == {"rating": 4}
    assert recording.server.refused_updates == []


# -- LiteLLM's callbacks -----------------------------------------------------------------------------------------------


class Adding(CustomLogger):  # type: ignore[misc]
    """A callback of the user's that adds to the call which it is about."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[tuple[str, bool, str | None]] = []

    @property
    def texts(self) -> set[str]:
        """What the calls ask that it was told of."""
        return {text for text, _, _ in self.added}

    def _add(self, kwargs: dict[str, Any]) -> None:
        text = kwargs["messages"][0]["content"]
        self.added.append((text, enrich(metadata={"by": text}), last_event_id()))

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._add(kwargs)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._add(kwargs)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._add(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._add(kwargs)


@pytest.fixture
def callback(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> Adding:
    # What another test's loop has left undone would come to this callback, and add to events that this server never had.
    asyncio.run(GLOBAL_LOGGING_WORKER.flush())
    adding = Adding()
    monkeypatch.setattr(litellm, "callbacks", [adding])
    for name in ("input", "success", "failure", "_async_success", "_async_failure", "_async_input"):
        # LiteLLM puts the callback into these as well, and takes no second one of its class.
        if hasattr(litellm, f"{name}_callback"):
            monkeypatch.setattr(litellm, f"{name}_callback", [])
    return adding


def check_callbacks(recording: Recording, callback: Adding, texts: set[str]) -> None:
    wait_until(lambda: texts <= callback.texts, what="the callbacks")
    events = recording.events()
    ids = {event["inputs"]["chat_history"][0]["content"]: event["event_id"] for event in events}
    assert {text: event["metadata"].get("by") for text, event in zip(ids, events, strict=True)} == {
        text: text for text in texts
    }
    # LiteLLM may also bring it what another test's loop left undone.
    assert {(text, *found) for text, *found in callback.added if text in texts} == {
        (text, True, event_id) for text, event_id in ids.items()
    }


def test_a_callback_of_a_sync_call_adds_to_that_call(recording: Recording, callback: Adding) -> None:
    texts = {f"call {number}" for number in range(5)}
    for text in sorted(texts):
        ask(text)

    check_callbacks(recording, callback, texts)


def test_a_callback_of_a_failed_call_adds_to_that_call(recording: Recording, callback: Adding) -> None:
    with pytest.raises(litellm.InternalServerError):
        ask("bad", mock_response="litellm.InternalServerError")

    check_callbacks(recording, callback, {"bad"})


def test_callbacks_of_async_calls_side_by_side_each_add_to_their_own(recording: Recording, callback: Adding) -> None:
    texts = {f"call {number}" for number in range(10)}

    async def work_together() -> None:
        calls = [
            litellm.acompletion(model="gpt-4o", messages=[{"role": "user", "content": text}], mock_response="y")
            for text in texts
        ]
        await asyncio.gather(*calls)
        while not texts <= callback.texts:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(work_together(), 20))

    check_callbacks(recording, callback, texts)


# -- what can be added -------------------------------------------------------------------------------------------------


def test_what_is_added_passes_the_redaction(recording: Recording) -> None:
    key = "sk-proj-" + "".join(random.Random(5).choices("abcdefghijkmnpqrstuvwxyz23456789", k=40))
    ask()
    recording.events()

    enrich(metadata={"by": f"{key} of Ada", "api_key": "anything"}, feedback={"deep": [{"said": key}]})

    event = recording.event()
    assert event["metadata"]["by"] == "[hidden] of Ada"
    assert event["metadata"]["api_key"] == "[hidden]"
    assert event["feedback"] == {"deep": [{"said": "[hidden]"}]}


@pytest.mark.parametrize("is_sent", [False, True], ids=["merged", "as an update"])
def test_what_is_added_cannot_pass_for_a_fact_of_ours(recording: Recording, own: Own, is_sent: bool) -> None:
    own(lambda: None if is_sent else enrich(metadata={"cost": 99, "by": "me"}))
    ask(model="own/model", mock_response=None)
    if is_sent:
        recording.events()
        enrich(metadata={"cost": 99, "by": "me"})

    metadata = recording.events()[0]["metadata"]
    assert metadata.get("cost") != 99
    assert metadata["user_metadata"] == {"cost": 99}
    assert metadata["by"] == "me"


def test_what_is_changed_after_it_was_added_stays_as_it_was(recording: Recording, setting: Callable[..., None]) -> None:
    setting(linger=30)
    ask()
    mine = {"by": ["me"]}
    enrich(metadata=mine)
    mine["by"].append("and later")

    assert recording.event()["metadata"]["by"] == ["me"]


CYCLIC: dict[str, Any] = {}
CYCLIC["self"] = CYCLIC


@pytest.mark.parametrize(
    "odd",
    [object(), {1, 2}, b"bytes", float("nan"), 2**80, "\ud800", CYCLIC, {5: {None: 1}}],
    ids=["object", "set", "bytes", "nan", "large", "half a character", "cyclic", "odd keys"],
)
@pytest.mark.parametrize("is_sent", [False, True], ids=["merged", "as an update"])
def test_values_that_json_does_not_know_lose_neither_event_nor_update(
    recording: Recording, own: Own, odd: Any, is_sent: bool
) -> None:
    own(lambda: None if is_sent else enrich(metadata={"odd": odd, "by": "me"}))
    ask(model="own/model", mock_response=None)
    if is_sent:
        recording.events()
        assert enrich(metadata={"odd": odd, "by": "me"}) is True

    assert added(recording.events()[0]) == {"by": "me"}


def test_nothing_to_add_adds_nothing(recording: Recording) -> None:
    ask()
    recording.events()

    assert [enrich(), enrich(metadata=None), enrich(metadata={})] == [False] * 3
    assert update_event(last_event_id() or "") is False
    recording.events()
    assert puts(recording.server) == []


@pytest.mark.parametrize("wrong", ["text", 5, ["a"], object(), True])
def test_values_that_are_no_dictionaries_are_refused_and_said_once(
    recording: Recording, caplog: pytest.LogCaptureFixture, wrong: Any
) -> None:
    ask()
    recording.events()

    results = [update_event(last_event_id() or "", metadata=wrong) for _ in range(3)]
    results += [enrich(metadata=wrong), enrich(metrics=wrong)]

    assert results == [False] * 5
    recording.events()
    assert puts(recording.server) == []
    said = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert len([message for message in said if "update_event" in message]) == 1


@pytest.mark.parametrize("wrong", [None, "", 5, "no uuid", object()])
def test_what_is_no_id_is_refused_and_said_once(
    recording: Recording, caplog: pytest.LogCaptureFixture, wrong: Any
) -> None:
    ask()
    recording.events()

    assert [update_event(wrong, metadata={"by": "me"}) for _ in range(3)] == [False] * 3
    recording.events()
    assert puts(recording.server) == []
    assert (
        len([record for record in caplog.records if record.name == LOGGER and "update_event" in record.getMessage()])
        == 1
    )


def test_what_can_be_used_is_added_beside_what_cannot(recording: Recording) -> None:
    ask()
    wrong: Any = "no dictionary"

    assert enrich(metadata={"by": "me"}, metrics=wrong) is True
    assert added(recording.event()) == {"by": "me"}


def test_an_upper_case_id_is_the_same_id(recording: Recording) -> None:
    ask()
    event = recording.event()

    assert update_event(event["event_id"].upper(), metadata={"by": "me"}) is True
    assert added(recording.event()) == {"by": "me"}


def test_where_nothing_is_recorded_everything_can_be_called_and_does_nothing(run: Run, tmp_path: Path) -> None:
    code = (
        "import uuid, honeyhive_autoinstrument as hh\n"
        "known = hh.update_event(str(uuid.uuid4()), metadata={'a': 1})\n"
        "print(hh.last_event_id(), hh.enrich(metadata={'a': 1}), known)\n"
        "with hh.session(id='x', user='ada') as scope: print(len(scope.id))\n"
        "print(hh.session()(lambda: 'ran')(), hh.with_context(lambda: 'ran')())\n"
    )

    result = run("python", "-c", code)

    assert (result.status, result.out, result.err) == (0, "None False False\n36\nran ran\n", "")
    assert not (tmp_path / "home").exists()


# -- delivery ----------------------------------------------------------------------------------------------------------


def test_an_update_never_comes_before_its_event(recording: Recording) -> None:
    recording.server.misbehave(status=503, path="/v1/events/batch", times=4)
    ask()
    honeyhive_autoinstrument.flush(1)

    assert enrich(metadata={"by": "me"}) is True

    wait_until(lambda: bool(recording.server.events) and added(recording.server.events[0]) == {"by": "me"}, 30)
    assert recording.server.refused_updates == []
    assert set(recording.server.arrivals.values()) == {1}


def test_an_update_that_the_server_cannot_take_now_is_sent_again(recording: Recording) -> None:
    ask()
    event_id = recording.event()["event_id"]
    how = recording.server.misbehave(status=503, path="/v1/events/", holds=b'"by"', times=2)

    enrich(metadata={"by": "me"})

    wait_until(lambda: len(recording.server.updates) == 1, 30, "the update")
    assert how.met == 2
    assert recording.server.updates == [(event_id, {"metadata": {"by": "me"}})]


@pytest.mark.slow
def test_an_update_of_an_event_that_another_process_brings_later_waits_for_it(recording: Recording) -> None:
    ask()
    event = recording.event()
    later = {**event, "event_id": str(uuid4())}

    assert update_event(later["event_id"], metadata={"by": "me"}) is True
    wait_until(lambda: bool(recording.server.refused_updates), what="a first try")
    recording.server._store([later])

    wait_until(lambda: bool(recording.server.updates), 30, "the update")
    assert recording.server.updates == [(later["event_id"], {"metadata": {"by": "me"}})]


def test_an_update_of_an_event_that_nobody_knows_holds_up_nothing_else(recording: Recording) -> None:
    assert update_event(str(uuid4()), metadata={"by": "me"}) is True
    for number in range(5):
        ask(f"call {number}")
        enrich(metadata={"by": number})

    honeyhive_autoinstrument.flush(10)

    wait_until(lambda: len(recording.server.events) == 5, what="the events")
    wait_until(
        lambda: [event["metadata"].get("by") for event in recording.server.events] == [*range(5)], what="updates"
    )


def ledger_holds() -> bool:
    stats = honeyhive_autoinstrument.stats()
    settled = sum(stats[name] for name in ("sent", "pending", "spooled", "rejected")) + stats.get("sampled_out", 0)
    return bool(stats["created"] == settled + sum(stats["dropped"].values()))


def test_updates_keep_the_ledger_balanced(recording: Recording) -> None:
    ask()
    recording.events()
    enrich(metadata={"by": "me"})
    update_event(str(uuid4()), metadata={"by": "nobody"})
    honeyhive_autoinstrument.flush(5)

    assert ledger_holds(), honeyhive_autoinstrument.stats()


@pytest.mark.slow
def test_a_server_that_is_away_gets_event_and_update_once_it_is_back_in_this_order(recording: Recording) -> None:
    recording.server.stop()
    ask()
    honeyhive_autoinstrument.flush(2)
    assert enrich(metadata={"by": "me"}) is True
    honeyhive_autoinstrument.flush(1)

    recording.server.start()

    wait_until(lambda: bool(recording.server.events) and added(recording.server.events[0]) == {"by": "me"}, 60)
    assert recording.server.refused_updates == []
    assert len(recording.server.updates) <= 1
    assert set(recording.server.arrivals.values()) == {1}


def test_an_update_whose_event_is_there_already_outlives_an_outage(recording: Recording) -> None:
    ask()
    event_id = recording.event()["event_id"]
    recording.server.stop()
    enrich(metadata={"by": "me"})
    honeyhive_autoinstrument.flush(2)

    recording.server.start()

    wait_until(lambda: bool(recording.server.updates), 60, "the update")
    assert recording.server.updates == [(event_id, {"metadata": {"by": "me"}})]
    assert recording.server.arrivals[event_id] == 1


@pytest.mark.slow
def test_a_server_with_old_routes_only_gets_updates_on_its_own(
    run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    with FakeHoneyHive(has_v1=False) as server:
        code = f"{PROGRAM}ask()\nassert hh.flush(10)\nassert hh.enrich(metadata={{'by': 'me'}})\n"

        result = run(LAUNCHER, "python", "-c", code, env=server.env)

        assert result.status == 0, result.err
        (event,) = server.events
        assert added(event) == {"by": "me"}
        (update,) = [request for request in server.requests if request.method == "PUT" and request.path == "/events"]
        assert update.json == {"event_id": event["event_id"], "metadata": {"by": "me"}}
        assert server.problems == []


PROGRAM = """
import os, sys, litellm, honeyhive_autoinstrument as hh
def ask(text="x"):
    litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": text}], mock_response="hello")
"""


def test_a_program_that_ends_at_once_has_sent_its_updates(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        f"{PROGRAM}ask(); assert hh.flush(10)\n"
        "hh.enrich(metadata={'by': 'me'}); ask('last'); hh.enrich(metrics={'m': 1})\n"
    )

    result = run(LAUNCHER, "python", "-c", code, env=fake_honeyhive.env)

    assert result.status == 0, result.err
    assert [added(event) for event in fake_honeyhive.events] == [{"by": "me"}, {"metrics": {"m": 1}}]
    assert fake_honeyhive.refused_updates == []


LOCAL = (
    "ask('merged'); hh.enrich(metadata={'by': 'at once'})\n"
    "ask('updated'); hh.flush(10); hh.enrich(metadata={'by': 'later', 'deep': {'a': 1}}, feedback={'rating': 5})\n"
    "hh.flush(10); hh.enrich(metadata={'by': 'last'}, metrics={'m': 1})\n"
)


def exported(run: Run) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in run(EVENTS, "export").out.splitlines()]
    return [line for line in lines if line["event_type"] != "session"]


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["on_failure", "always"])
def test_without_a_key_what_is_kept_shows_each_event_with_its_updates(run: Run, durability: str) -> None:
    result = run(LAUNCHER, "python", "-c", PROGRAM + LOCAL, env={"HONEYHIVE_DURABILITY": durability})
    assert result.status == 0, result.err

    merged, updated = exported(run)

    assert added(merged) == {"by": "at once"}
    assert added(updated) == {"by": "last", "metrics": {"m": 1}, "feedback": {"rating": 5}}
    assert updated["metadata"]["deep"] == {"a": 1}
    shown = run(EVENTS, "show").out
    assert shown.count("litellm.completion") == 2
    assert "2 model events" in shown


@pytest.mark.slow
def test_what_was_kept_without_a_key_is_sent_later_with_its_updates(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    run(LAUNCHER, "python", "-c", PROGRAM + LOCAL)

    result = run(EVENTS, "send", env=fake_honeyhive.env)

    assert result.status == 0
    assert result.out.startswith("2 events")
    merged, updated = fake_honeyhive.events
    assert added(merged) == {"by": "at once"}
    assert added(updated) == {"by": "last", "metrics": {"m": 1}, "feedback": {"rating": 5}}
    assert fake_honeyhive.refused_updates == []
    assert exported(run) == []


@pytest.mark.slow
def test_updates_that_wait_on_disk_are_sent_by_a_later_process(
    run: Run, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    fake_honeyhive.stop()
    result = run(LAUNCHER, "python", "-c", PROGRAM + LOCAL, env={**fake_honeyhive.env, "HONEYHIVE_EXIT_TIMEOUT": "1"})
    assert result.status == 0, result.err
    fake_honeyhive.start()

    run(EVENTS, "send", env=fake_honeyhive.env)

    assert [added(event) for event in fake_honeyhive.events] == [
        {"by": "at once"},
        {"by": "last", "metrics": {"m": 1}, "feedback": {"rating": 5}},
    ]
    assert fake_honeyhive.refused_updates == []
    assert list((tmp_path / "home").rglob("*.batch")) == []


@pytest.mark.slow
def test_a_killed_program_loses_no_update_that_had_returned(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    env = {**fake_honeyhive.env, "HONEYHIVE_DURABILITY": "always", "HONEYHIVE_LINGER": "30"}
    code = (
        f"{PROGRAM}ask(); hh.enrich(metadata={{'by': 'me'}}); hh.update_event(hh.last_event_id(), metrics={{'m': 1}})\n"
        "os._exit(0)\n"
    )

    run(LAUNCHER, "python", "-c", code, env=env)
    run(EVENTS, "send", env=fake_honeyhive.env)

    assert [added(event) for event in fake_honeyhive.events] == [{"by": "me", "metrics": {"m": 1}}]


@pytest.mark.slow
def test_a_forked_child_adds_to_the_call_of_its_parent(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    code = (
        f"{PROGRAM}ask('of the parent')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    assert hh.enrich(metadata={'by': 'child'})\n"
        "    ask('of the child'); hh.enrich(metrics={'m': 1})\n"
        "    raise SystemExit(0)\n"
        "hh.enrich(feedback={'f': 'parent'})\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )

    result = run(LAUNCHER, "python", "-c", code, env={**fake_honeyhive.env, "HONEYHIVE_LINGER": "0.05"})
    run(EVENTS, "send", env=fake_honeyhive.env)  # what the child could not bring before its parent's event

    assert result.status == 0, result.err
    parent, child = sorted(fake_honeyhive.events, key=lambda event: str(event["inputs"]), reverse=True)
    assert added(parent) == {"by": "child", "feedback": {"f": "parent"}}
    assert added(child) == {"metrics": {"m": 1}}
    assert set(fake_honeyhive.arrivals.values()) == {1}


def test_additions_of_many_threads_are_all_there(recording: Recording) -> None:
    ask()
    event_id = last_event_id()
    assert event_id is not None
    add = honeyhive_autoinstrument.with_context(lambda number: enrich(metadata={f"n{number}": number}))
    threads = [threading.Thread(target=add, args=(number,)) for number in range(40)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    metadata = recording.event()["metadata"]
    assert [metadata.get(f"n{number}") for number in range(40)] == [*range(40)]


def test_after_uninstrument_nothing_new_is_there_to_add_to(recording: Recording) -> None:
    ask()
    known = last_event_id()
    honeyhive_autoinstrument.uninstrument()

    ask("not recorded")

    assert last_event_id() == known
    assert len(recording.events()) == 1
