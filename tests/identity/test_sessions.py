"""`session()` and `with_context()`: which calls join the session, under which id, and what its row and events say."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import random
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import litellm
import pytest

import honeyhive_autoinstrument as hh
from tests.conftest import Recording, Run
from tests.fakes.honeyhive import FakeHoneyHive


def repr_short(value: object) -> str:
    return repr(value)[:12]


ID = "3f6f7a52-0c1e-4a7b-9d51-6f1f0a3c2b11"


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def ask(text: str = "x", **more: Any) -> Any:
    return litellm.completion(model="gpt-4o-mini", messages=messages(text), mock_response="hello", **more)


async def ask_async(text: str = "x", **more: Any) -> Any:
    return await litellm.acompletion(model="gpt-4o-mini", messages=messages(text), mock_response="hello", **more)


def router() -> Any:
    deployment = {"model": "openai/gpt-4o-mini", "api_key": "k", "mock_response": "hello"}
    return litellm.Router(model_list=[{"model_name": "group", "litellm_params": deployment}], num_retries=0)


def in_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def as_uuid(text: str) -> str:
    """The id of a session whose id is no UUID."""
    return str(uuid5(NAMESPACE_URL, f"honeyhive-autoinstrument:{text}"))


def text_of(event: dict[str, Any]) -> str:
    return str(event["inputs"]["chat_history"][0]["content"])


def sessions(recording: Recording) -> dict[str, str]:
    """What was asked, and the session that its event is in; "process" for the session of the process."""
    events = recording.events()
    process = hh.stats()["session_id"]
    return {
        text_of(event): "process" if event["session_id"] == process else str(event["session_id"]) for event in events
    }


def row_of(recording: Recording, session_id: str) -> dict[str, Any]:
    """The first row of a session."""
    recording.events()
    return next(row for row in recording.server.rows if row["session_id"] == session_id)


def told_of(recording: Recording, session_id: str, bucket: str) -> dict[str, Any]:
    """What the rows and updates of a session have said so far, later ones over earlier ones."""
    recording.events()
    server = recording.server
    bodies = [row for row in server.rows if row["session_id"] == session_id]
    bodies += [body for event_id, body in server.updates if event_id == session_id]
    merged: dict[str, Any] = {}
    for body in bodies:
        merged |= body.get(bucket) or {}
    return merged


# Which calls join.


def test_calls_inside_join_the_session_and_calls_around_it_do_not(recording: Recording) -> None:
    ask("before")
    with hh.session(ID):
        ask("inside")
    ask("after")

    assert sessions(recording) == {"before": "process", "inside": ID, "after": "process"}


def test_an_async_with_statement_holds_a_session_too(recording: Recording) -> None:
    async def work() -> None:
        async with hh.session(ID) as scope:
            assert scope.id == ID
            await ask_async("inside")
        await ask_async("after")

    asyncio.run(work())

    assert sessions(recording) == {"inside": ID, "after": "process"}


def test_a_session_that_an_exception_leaves_is_over_and_hides_nothing(recording: Recording) -> None:
    with pytest.raises(KeyError, match="mine"), hh.session(ID):
        raise KeyError("mine")
    ask("after")

    assert sessions(recording) == {"after": "process"}


def test_a_router_call_and_its_attempt_share_the_session(recording: Recording) -> None:
    with hh.session(ID):
        router().completion(model="group", messages=messages("x"))

    assert [(event["event_type"], event["session_id"]) for event in recording.events()] == [
        ("chain", ID),
        ("model", ID),
    ]


def test_a_batch_and_its_items_share_the_session(recording: Recording) -> None:
    """LiteLLM runs the items on threads that do not have the context."""
    with hh.session(ID):
        litellm.batch_completion(
            model="gpt-4o-mini", messages=[messages("one"), messages("two")], mock_response="hello"
        )

    assert [event["session_id"] for event in recording.events()] == [ID] * 3


def test_a_stream_stays_in_the_session_that_it_began_in(recording: Recording) -> None:
    with hh.session(ID):
        stream = ask("streamed", stream=True)
    list(stream)

    assert sessions(recording) == {"streamed": ID}


def test_tasks_and_to_thread_carry_the_session(recording: Recording) -> None:
    async def work() -> None:
        with hh.session(ID):
            await asyncio.gather(
                asyncio.create_task(ask_async("task")),
                asyncio.to_thread(ask, "to_thread"),
            )

    asyncio.run(work())

    assert sessions(recording) == {"task": ID, "to_thread": ID}


def test_sessions_of_concurrent_tasks_do_not_mix(recording: Recording) -> None:
    async def serve(number: int) -> None:
        async with hh.session(f"user-{number}"):
            await ask_async(f"{number} first")
            await asyncio.sleep(0)
            await ask_async(f"{number} second")

    async def work() -> None:
        await asyncio.gather(*(serve(number) for number in range(5)))

    asyncio.run(work())

    assert sessions(recording) == {
        f"{number} {turn}": as_uuid(f"user-{number}") for number in range(5) for turn in ("first", "second")
    }


def test_an_executor_with_a_copied_context_carries_the_session(recording: Recording) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        with hh.session(ID), ThreadPoolExecutor(1) as pool:
            await loop.run_in_executor(pool, contextvars.copy_context().run, ask, "copied")
            await loop.run_in_executor(pool, ask, "not copied")

    asyncio.run(work())

    assert sessions(recording) == {"copied": ID, "not copied": "process"}


def test_a_plain_thread_begins_in_the_session_of_the_process(recording: Recording) -> None:
    with hh.session(ID):
        in_thread(lambda: ask("thread"))

    assert sessions(recording) == {"thread": "process"}


# with_context.


def test_with_context_carries_the_session_into_a_thread(recording: Recording) -> None:
    with hh.session(ID):
        carried = hh.with_context(ask)
    in_thread(lambda: carried("thread"))

    assert sessions(recording) == {"thread": ID}


def test_with_context_carries_the_session_into_an_executor(recording: Recording) -> None:
    with ThreadPoolExecutor(1) as pool:
        with hh.session(ID):
            carried = pool.submit(hh.with_context(ask), "carried")
        plain = pool.submit(ask, "plain")
        carried.result()
        plain.result()

    assert sessions(recording) == {"carried": ID, "plain": "process"}


def test_a_function_with_context_takes_and_gives_and_raises_what_the_function_does() -> None:
    def function(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("fails"):
            raise KeyError("mine")
        return args, kwargs

    carried = hh.with_context(function)

    assert carried(1, two=2) == ((1,), {"two": 2})
    with pytest.raises(KeyError, match="mine"):
        carried(fails=True)


def test_a_function_with_context_can_run_on_several_threads_at_once(recording: Recording) -> None:
    together = threading.Barrier(3, timeout=20)

    def work(text: str) -> None:
        together.wait()  # fails where they run one after another
        ask(text)

    with hh.session(ID):
        carried = hh.with_context(work)
    threads = [threading.Thread(target=carried, args=(f"thread {number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sessions(recording) == {f"thread {number}": ID for number in range(3)}


def test_a_function_with_context_leaves_the_context_of_its_caller_alone() -> None:
    variable = contextvars.ContextVar("variable", default="before")

    def change() -> str:
        variable.set("changed")
        return variable.get()

    assert hh.with_context(change)() == "changed"
    assert variable.get() == "before"


# The id.


def test_a_uuid_stays_itself_in_lower_case(recording: Recording) -> None:
    with hh.session(ID.upper()) as scope:
        ask()

    event = recording.event()
    assert (scope.id, event["session_id"], event["parent_id"]) == (ID, ID, ID)
    assert "original_session_id" not in event["metadata"]


def test_another_text_becomes_a_stable_uuid_and_is_kept_beside_it(recording: Recording) -> None:
    with hh.session("chat 7/ä") as scope:
        ask()

    event = recording.event()
    assert scope.id == event["session_id"] == as_uuid("chat 7/ä")
    assert event["metadata"]["original_session_id"] == "chat 7/ä"
    assert row_of(recording, scope.id)["metadata"]["original_session_id"] == "chat 7/ä"


def test_without_an_id_each_entry_is_a_session_of_its_own(recording: Recording) -> None:
    session = hh.session()
    with session as scope:
        first = scope.id
        ask("first")
    with session as scope:
        second = scope.id
        ask("second")

    assert first != second
    assert {UUID(first).version, UUID(second).version} == {4}
    assert sessions(recording) == {"first": first, "second": second}


def test_a_session_can_be_entered_while_it_is_entered(recording: Recording) -> None:
    session = hh.session(ID)
    with session:
        with session:
            ask("both")
        ask("one")
    ask("after")

    assert sessions(recording) == {"both": ID, "one": ID, "after": "process"}


@pytest.mark.parametrize("given", [7, b"seven", " ", "a\x00b", "\ud800", "x" * 100_000], ids=repr_short)
def test_an_odd_id_is_an_id_all_the_same(recording: Recording, given: Any) -> None:
    with hh.session(given) as scope:
        ask("inside")

    assert sessions(recording) == {"inside": scope.id}
    assert UUID(scope.id).version == 5


# The row and what stands on the events.


def test_the_name_is_that_of_the_row(recording: Recording) -> None:
    with hh.session(ID, "Support chat"):
        ask()

    assert row_of(recording, ID)["session_name"] == "Support chat"


def test_without_a_name_the_row_is_named_by_the_id_as_it_was_given(recording: Recording) -> None:
    with hh.session("chat-7") as scope:
        ask()

    assert row_of(recording, scope.id)["session_name"] == "chat-7"


def test_without_a_name_and_an_id_the_row_is_named_by_the_program(recording: Recording) -> None:
    ask("in the session of the process")
    with hh.session() as scope:
        ask()

    recording.events()
    process = hh.stats()["session_id"]
    assert row_of(recording, scope.id)["session_name"] == row_of(recording, process)["session_name"] != ""


def test_the_user_is_on_the_row_and_on_every_event(recording: Recording) -> None:
    with hh.session(ID, user="u-1", user_properties={"plan": "pro"}):
        router().completion(model="group", messages=messages("x"))

    wanted = {"user_id": "u-1", "plan": "pro"}
    assert [event["user_properties"] for event in recording.events()] == [wanted, wanted]
    assert row_of(recording, ID)["user_properties"] == wanted


def test_metadata_is_on_the_row_alone(recording: Recording) -> None:
    with hh.session(ID, metadata={"release": "7", "tags": ["a"]}):
        ask()

    metadata = row_of(recording, ID)["metadata"]
    assert (metadata["release"], metadata["tags"]) == ("7", ["a"])
    assert {"release", "tags"}.isdisjoint(recording.event()["metadata"])


def test_a_session_has_its_row_before_its_first_event_and_once(recording: Recording) -> None:
    with hh.session(ID):
        ask("one")
        ask("two")

    recording.events()
    assert [row["session_id"] for row in recording.server.rows].count(ID) == 1


def test_a_session_without_calls_sends_nothing(recording: Recording) -> None:
    with hh.session(ID, "nothing happens here", user="u-1"):
        pass

    recording.events()
    assert recording.server.rows == []


def test_credentials_in_what_the_session_says_are_not_sent(recording: Recording) -> None:
    secret = f"sk-{random.Random(11).randbytes(24).hex()}"

    with hh.session(ID, user_properties={"note": f"key {secret}"}, metadata={"api_key": secret, "note": secret}):
        ask()

    recording.events()
    assert row_of(recording, ID)["user_properties"]["note"].startswith("key ")
    assert [request.path for request in recording.server.requests if secret.encode() in request.body] == []


def test_values_that_json_does_not_know_disturb_nothing(recording: Recording) -> None:
    odd = {"object": object(), "set": {1}, "nan": float("nan"), 5: "key", "bytes": b"\xff"}

    with hh.session(ID, user_properties=odd, metadata=odd):  # type: ignore[arg-type]
        ask()

    assert recording.event()["session_id"] == ID


def test_what_the_caller_changes_after_the_call_is_not_on_its_event(recording: Recording) -> None:
    properties = {"plan": "pro"}

    with hh.session(ID, user_properties=properties):
        ask()
        properties["plan"] = "free"

    assert recording.event()["user_properties"]["plan"] == "pro"


@pytest.mark.parametrize("value", ["text", ["list"], 5])
def test_properties_and_metadata_that_are_no_dictionaries_are_left_out(recording: Recording, value: Any) -> None:
    with hh.session(ID, user_properties=value, metadata=value):
        ask()

    assert (recording.event()["session_id"], recording.event()["user_properties"]) == (ID, {})


def test_a_session_that_is_known_already_is_told_what_comes_later(recording: Recording) -> None:
    """As where one request names the session of a chat, and the next one its user, too."""
    ask("first", metadata={"session_id": ID})
    recording.events()
    with hh.session(ID, user="u-1", metadata={"release": "7"}):
        ask("second")

    assert told_of(recording, ID, "user_properties").get("user_id") == "u-1"
    assert told_of(recording, ID, "metadata").get("release") == "7"


# Nested.


def test_inside_a_session_one_without_id_and_name_goes_on_with_it(recording: Recording) -> None:
    with hh.session(ID) as outer, hh.session() as inner:
        ask("inside")

    assert outer.id == inner.id == ID
    assert sessions(recording) == {"inside": ID}


def test_what_a_nested_session_adds_counts_for_what_is_inside_it(recording: Recording) -> None:
    with hh.session(ID, user="u-1", user_properties={"plan": "pro"}):
        ask("before")
        with hh.session(user="u-2", user_properties={"step": "2"}):
            ask("inside")
        ask("after")

    assert {text_of(event): event["user_properties"] for event in recording.events()} == {
        "before": {"user_id": "u-1", "plan": "pro"},
        "inside": {"user_id": "u-2", "plan": "pro", "step": "2"},
        "after": {"user_id": "u-1", "plan": "pro"},
    }


@pytest.mark.parametrize("first", ["outer", "inner"])
def test_metadata_of_a_session_and_of_those_nested_in_it_is_all_on_its_row(recording: Recording, first: str) -> None:
    with hh.session(ID, metadata={"outer": 1}):
        if first == "outer":
            ask("outer")
        with hh.session(metadata={"inner": 2}):
            ask("inner")
        ask("outer again")

    metadata = told_of(recording, ID, "metadata")
    assert (metadata.get("outer"), metadata.get("inner")) == (1, 2)


def test_a_nested_session_with_an_id_is_another_one_until_it_ends(recording: Recording) -> None:
    with hh.session("outer", user="u-1"):
        ask("before")
        with hh.session("inner"):
            ask("inside")
        ask("after")

    outer, inner = as_uuid("outer"), as_uuid("inner")
    assert sessions(recording) == {"before": outer, "inside": inner, "after": outer}
    assert row_of(recording, inner)["session_name"] == "inner"


def test_a_nested_session_with_a_name_is_another_one(recording: Recording) -> None:
    with hh.session("outer"), hh.session(name="inner") as scope:
        ask("inside")

    assert scope.id != as_uuid("outer")
    assert sessions(recording) == {"inside": scope.id}
    assert row_of(recording, scope.id)["session_name"] == "inner"


# As a decorator.


def test_each_call_of_a_decorated_function_is_a_session_of_its_own(recording: Recording) -> None:
    @hh.session(name="job")
    def job(text: str) -> str:
        ask(text)
        return text.upper()

    assert [job("one"), job("two")] == ["ONE", "TWO"]

    found = sessions(recording)
    assert len({"process", *found.values()}) == 3
    assert row_of(recording, found["one"])["session_name"] == "job"


def test_calls_of_a_function_decorated_with_an_id_share_the_session(recording: Recording) -> None:
    @hh.session(ID)
    def job(text: str) -> None:
        ask(text)

    job("one")
    job("two")
    ask("after")

    assert sessions(recording) == {"one": ID, "two": ID, "after": "process"}


def test_concurrent_calls_of_a_decorated_coroutine_function_do_not_mix(recording: Recording) -> None:
    @hh.session()
    async def job(number: int) -> None:
        await ask_async(f"{number} first")
        await asyncio.sleep(0)
        await ask_async(f"{number} second")

    async def work() -> None:
        await asyncio.gather(job(1), job(2))

    asyncio.run(work())

    found = sessions(recording)
    assert found["1 first"] == found["1 second"] != found["2 first"] == found["2 second"]
    assert "process" not in found.values()


def test_a_decorated_generator_is_in_the_session_and_its_reader_is_not(recording: Recording) -> None:
    @hh.session(ID)
    def produce() -> Iterator[int]:
        ask("made 1")
        yield 1
        ask("made 2")
        yield 2

    for number in produce():
        ask(f"read {number}")

    assert sessions(recording) == {"made 1": ID, "read 1": "process", "made 2": ID, "read 2": "process"}


def test_a_session_that_is_open_where_a_decorated_generator_yields_is_not_its_readers(recording: Recording) -> None:
    @hh.session(ID)
    def produce() -> Iterator[int]:
        with hh.session("inner"):
            ask("made 1")
            yield 1
            ask("made 2")
        ask("made 3")
        yield 2

    def read() -> None:
        for number in produce():
            ask(f"read {number}")
        ask("after")

    contextvars.copy_context().run(read)  # what leaks is not to reach other tests

    inner = as_uuid("inner")
    assert sessions(recording) == {
        "made 1": inner,
        "read 1": "process",
        "made 2": inner,
        "made 3": ID,
        "read 2": "process",
        "after": "process",
    }


def test_decorated_generators_that_are_read_in_turn_do_not_mix(recording: Recording) -> None:
    @hh.session()
    def produce(name: str) -> Iterator[None]:
        for number in range(2):
            ask(f"{name} {number}")
            yield

    list(zip(produce("a"), produce("b"), strict=True))

    found = sessions(recording)
    assert found["a 0"] == found["a 1"] != found["b 0"] == found["b 1"]
    assert "process" not in found.values()


def test_a_decorated_generator_is_sent_to_and_thrown_at_and_closed_like_any(recording: Recording) -> None:
    log: list[object] = []

    @hh.session(ID)
    def produce() -> Generator[str, str, str]:
        try:
            log.append((yield "first"))
            try:
                yield "second"
            except KeyError:
                ask("caught")
            yield "third"
        finally:
            log.append("closed")
        return "never"

    generator = produce()

    assert next(generator) == "first"
    assert generator.send("sent") == "second"
    assert generator.throw(KeyError("x")) == "third"
    generator.close()
    assert log == ["sent", "closed"]
    assert sessions(recording) == {"caught": ID}


def test_what_a_decorated_generator_returns_arrives() -> None:
    @hh.session(ID)
    def produce() -> Generator[int, None, str]:
        yield 1
        return "returned"

    def outer() -> Generator[int, None, str]:
        return (yield from produce())

    generator = outer()

    next(generator)
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "returned"


def test_a_decorated_async_generator_is_in_the_session_and_its_reader_is_not(recording: Recording) -> None:
    @hh.session(ID)
    async def produce() -> AsyncIterator[int]:
        await ask_async("made 1")
        yield 1
        await ask_async("made 2")
        yield 2

    async def work() -> None:
        async for number in produce():
            await ask_async(f"read {number}")

    asyncio.run(work())

    assert sessions(recording) == {"made 1": ID, "read 1": "process", "made 2": ID, "read 2": "process"}


def test_a_decorated_async_generator_that_is_left_early_is_closed(recording: Recording) -> None:
    closed: list[str] = []

    @hh.session(ID)
    async def produce() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("closed")

    async def work() -> None:
        generator: Any = produce()
        async for _ in generator:
            break
        await generator.aclose()
        await ask_async("after")

    asyncio.run(work())

    assert closed == ["closed"]
    assert sessions(recording) == {"after": "process"}


def a_function() -> None:
    """Its words."""


async def a_coroutine() -> None: ...


def a_generator() -> Iterator[None]:
    yield


async def an_async_generator() -> AsyncIterator[None]:
    yield


def test_a_decorated_function_keeps_its_name_and_words() -> None:
    decorated = hh.session(ID)(a_function)

    assert (decorated.__name__, decorated.__doc__) == ("a_function", "Its words.")


@pytest.mark.parametrize(
    ("function", "is_kind"),
    [
        (a_coroutine, inspect.iscoroutinefunction),
        (a_generator, inspect.isgeneratorfunction),
        (an_async_generator, inspect.isasyncgenfunction),
    ],
    ids=["coroutine", "generator", "async generator"],
)
def test_a_decorated_function_is_of_its_kind_for_frameworks_that_ask(
    function: Callable[..., Any], is_kind: Callable[[object], bool]
) -> None:
    """FastAPI asks its dependencies, pytest its fixtures."""
    assert is_kind(hh.session(ID)(function))


def test_a_decorated_method_gets_its_object(recording: Recording) -> None:
    class Service:
        name = "service"

        @hh.session(ID)
        def work(self) -> str:
            ask("method")
            return self.name

    assert Service().work() == "service"
    assert sessions(recording) == {"method": ID}


# Other processes, and none that records.


@pytest.mark.slow
def test_a_forked_child_goes_on_in_the_session(run: Run, fake_honeyhive: FakeHoneyHive) -> None:
    program = f"""
import multiprocessing
import honeyhive_autoinstrument as hh
import litellm

hh.init()

def ask(text):
    litellm.completion(model="gpt-4o-mini", messages=[{{"role": "user", "content": text}}], mock_response="hello")

with hh.session({ID!r}, "parent and child", user="u-1"):
    ask("parent")
    child = multiprocessing.get_context("fork").Process(target=ask, args=("child",))
    child.start()
    child.join()
"""

    finished = run("python", "-c", program, env=fake_honeyhive.env)

    assert finished.status == 0, finished.err
    assert {text_of(event): event["session_id"] for event in fake_honeyhive.events} == {"parent": ID, "child": ID}
    assert {event["user_properties"]["user_id"] for event in fake_honeyhive.events} == {"u-1"}
    assert {row["session_name"] for row in fake_honeyhive.rows} == {"parent and child"}


def test_where_nothing_records_everything_can_be_called_and_does_nothing(run: Run) -> None:
    program = """
import asyncio, sys
import honeyhive_autoinstrument as hh

@hh.session("x", user="u")
def function():
    return "function"

@hh.session()
async def coroutine():
    async with hh.session():
        return "coroutine"

with hh.session("x", "name", user="u", user_properties={"a": 1}, metadata={"b": 2}) as scope:
    print(len(scope.id), hh.with_context(function)(), asyncio.run(coroutine()))
print(hh.last_event_id(), hh.enrich(metadata={"a": 1}), "litellm" in sys.modules)
"""

    finished = run("python", "-c", program)

    assert (finished.status, finished.err) == (0, "")
    assert finished.out.splitlines() == ["36 function coroutine", "None False False"]
