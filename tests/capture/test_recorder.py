"""What is a call of its own, what a step of one in flight; and what a Call does when something is odd."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import litellm
import pytest

import honeyhive_autoinstrument.capture.call as call_module
import honeyhive_autoinstrument.capture.recorder as recorder_module
from honeyhive_autoinstrument._faults import faults
from honeyhive_autoinstrument.capture.call import Call
from honeyhive_autoinstrument.capture.context import enter_call, leave_call
from honeyhive_autoinstrument.capture.freeze import freeze, freeze_answer, text_size
from honeyhive_autoinstrument.capture.recorder import Recorder
from honeyhive_autoinstrument.events.facts import Ending, FileFacts
from honeyhive_autoinstrument.patches.targets import TARGETS, Target
from tests.conftest import Recording

BY_NAME = {target.name: target for target in TARGETS if target.module == "litellm"}
MESSAGES = [{"role": "user", "content": "x"}]


@pytest.fixture
def ended() -> list[Call]:
    return []


@pytest.fixture
def recorder(ended: list[Call]) -> Recorder:
    return Recorder(ended.append)


def start(recorder: Recorder, name: str, instance: object = None, **kwargs: Any) -> Call | None:
    return recorder.start(target(name), instance, (), (), kwargs, lambda: None)


def target(name: str) -> Target:
    return BY_NAME[name]


@pytest.fixture
def outer(recorder: Recorder) -> Iterator[Call]:
    call = start(recorder, "completion", model="m", messages=MESSAGES)
    assert call is not None
    surrounding = enter_call(call)
    yield call
    leave_call(call, surrounding)


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("completion", "acompletion"),
        ("rerank", "arerank"),
        ("image_generation", "aimg_generation"),
        ("search", "asearch"),
    ],
)
def test_the_sync_leg_of_an_async_call_is_a_step(name: str, flag: str, recorder: Recorder, outer: Call) -> None:
    assert start(recorder, name, model="m", **{flag: True}) is None


def test_a_call_with_litellms_logging_object_is_a_step(recorder: Recorder, outer: Call) -> None:
    assert start(recorder, "completion", litellm_logging_obj=object()) is None


def test_a_bridge_with_the_id_that_litellm_made_is_a_step_and_one_with_another_id_is_not(recorder: Recorder) -> None:
    call = start(recorder, "responses", model="m", input="x")
    assert call is not None
    surrounding = enter_call(call)

    steps = [start(recorder, "completion", litellm_call_id=name) for name in ("made", "made", "other")]

    leave_call(call, surrounding)
    assert [step is None for step in steps] == [True, True, False]


def test_a_router_call_inside_a_call_is_a_child(recorder: Recorder, outer: Call) -> None:
    inner = start(recorder, "Router.completion", instance=object(), model="group")

    assert inner is not None
    assert inner.parent is outer


def test_a_call_on_another_thread_during_a_batch_is_an_item_only_if_it_was_given_its_list(recorder: Recorder) -> None:
    conversations = [MESSAGES, [{"role": "user", "content": "y"}]]
    batch = start(recorder, "batch_completion", messages=conversations)
    assert batch is not None

    with ThreadPoolExecutor(1) as pool:
        item = pool.submit(start, recorder, "completion", messages=conversations[1]).result()
        other = pool.submit(start, recorder, "completion", messages=[{"role": "user", "content": "y"}]).result()
    here = start(recorder, "completion", messages=conversations[0])
    batch.end(Ending.COMPLETED)

    assert item is not None
    assert other is not None
    assert here is not None
    assert [item.parent, other.parent, here.parent] == [batch, None, None]
    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(start, recorder, "completion", messages=conversations[1]).result()
    assert later is not None
    assert later.parent is None


def test_a_call_that_began_before_a_fork_is_not_ended_in_the_child(recorder: Recorder, ended: list[Call]) -> None:
    call = start(recorder, "completion", model="m")
    assert call is not None

    recorder.after_fork()
    call.end(Ending.COMPLETED)

    assert ended == []


def test_a_stream_that_cannot_be_followed_goes_to_the_application_as_it_is(
    recorder: Recorder, ended: list[Call]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("ours")

    recorder.proxy_of = fail
    call = start(recorder, "completion", model="m", stream=True)
    assert call is not None
    stream = iter([1, 2])

    assert call.succeed(stream) is stream
    assert ended == [call]
    assert faults.counts() == {"follow a stream": 1}
    faults.after_fork()


def test_children_beyond_the_limit_are_recorded_but_not_tracked(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_module, "MAX_CHILDREN_TRACKED", 1)
    parent = start(recorder, "Router.completion", instance=object(), model="group")
    assert parent is not None
    surrounding = enter_call(parent)
    children = [start(recorder, "completion", model="m", stream=True) for _ in range(2)]
    leave_call(parent, surrounding)

    streams = [child.succeed(iter([1])) for child in children if child is not None]

    assert len(streams) == 2
    assert len(parent.open_streams or ()) == 1


def test_attempts_beyond_the_limit_are_not_recorded(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_ATTEMPTS", 2)
    chain = start(recorder, "Router.completion", instance=object(), model="group")
    assert chain is not None
    surrounding = enter_call(chain)

    attempts = [start(recorder, "completion", model="m") for _ in range(4)]
    leave_call(chain, surrounding)

    assert [attempt is not None for attempt in attempts] == [True, True, False, False]
    assert chain.attempt_count == 2


def test_items_of_a_batch_have_no_limit(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_ATTEMPTS", 2)
    batch = start(recorder, "batch_completion", model="m", messages=[MESSAGES] * 4)
    assert batch is not None
    surrounding = enter_call(batch)

    items = [start(recorder, "completion", model="m") for _ in range(4)]
    leave_call(batch, surrounding)

    assert None not in items
    assert batch.attempt_count == 4


def test_a_failed_attempt_is_handed_on_when_the_chain_goes_on_or_the_process_ends(
    recorder: Recorder, ended: list[Call]
) -> None:
    chain = start(recorder, "Router.completion", instance=object(), model="group")
    assert chain is not None
    surrounding = enter_call(chain)
    first = start(recorder, "completion", model="m")
    assert first is not None
    first.fail(ValueError("no"))
    assert ended == []

    second = start(recorder, "completion", model="m")
    leave_call(chain, surrounding)
    assert ended == [first]
    assert second is not None
    second.fail(ValueError("no"))
    assert ended == [first]

    recorder.end_open_streams(Ending.ABANDONED)
    assert ended == [first, second]
    chain.fail(ValueError("no"))
    assert ended == [first, second, chain]


def test_a_chunk_of_a_call_that_is_no_stream_is_ignored(recorder: Recorder) -> None:
    call = start(recorder, "completion", model="m")
    assert call is not None

    call.see("a chunk")

    assert call.chunks is None


def test_a_router_that_a_custom_provider_asks_is_a_child_of_its_call(recording: Recording) -> None:
    deployment = {"model_name": "group", "litellm_params": {"model": "openai/gpt-4o", "api_key": "sk-0123456789"}}
    router = litellm.Router(model_list=[deployment])

    class Provider(litellm.CustomLLM):
        def completion(self, *args: object, **kwargs: object) -> object:
            return router.completion(model="group", messages=MESSAGES, mock_response="inner")

    litellm.custom_provider_map = [{"provider": "mine", "custom_handler": Provider()}]
    try:
        litellm.completion(model="mine/model", messages=MESSAGES)
    finally:
        litellm.custom_provider_map = []

    outer, chain, attempt = recording.events()
    assert (chain["event_type"], chain["parent_id"]) == ("chain", outer["event_id"])
    assert attempt["parent_id"] == chain["event_id"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (io.BytesIO(b"ab"), FileFacts(data=b"ab")),
        ((None, b"ab"), [None, b"ab"]),
        (Path("/nowhere/a.wav"), FileFacts(name="a.wav")),
    ],
)
def test_bytes_and_files_are_kept_as_what_can_be_known_of_them(given: object, expected: object) -> None:
    assert freeze(given) == expected


def test_a_file_that_is_closed_has_its_name_only(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        opened = freeze(file)

    assert (opened, freeze(file)) == (FileFacts(name="a.wav", size=3), FileFacts(name="a.wav"))


def test_an_answer_of_dictionaries_is_copied() -> None:
    class Answer:
        pass

    answer = Answer()
    answer.choices = [{"message": {"content": "x"}}]  # type: ignore[attr-defined]

    copied = freeze_answer(answer)
    answer.choices[0]["message"]["content"] = "y"  # type: ignore[attr-defined]

    assert copied == {"choices": [{"message": {"content": "x"}}]}


def test_the_size_of_odd_parts_is_estimated() -> None:
    assert text_size([{"content": ["word", 5, {"text": "abc", "n": 1}]}]) == 64 + 4 + 64 + 3 + 256
    assert text_size([b"abc", FileFacts(data=b"abcd"), FileFacts()]) == 7
