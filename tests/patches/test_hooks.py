"""When our own code fails, the application sees no difference, and a Hook that keeps failing removes itself."""

from __future__ import annotations

import asyncio
import copy
import functools

import litellm
import pytest

import honeyhive_autoinstrument
from honeyhive_autoinstrument._faults import faults
from honeyhive_autoinstrument.capture import recorder as recorder_module
from tests.conftest import Recording


def ask() -> str:
    answer = litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y")
    return str(answer.choices[0].message.content)


def test_a_hook_that_fails_five_times_removes_itself_and_says_so_once(
    recording: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(recorder_module, "text_size", fail)

    answers = [ask() for _ in range(7)]

    assert answers == ["y"] * 7
    # From 1.103 on the function has an inner end, whose Hook steps in for the failed one, and fails as well.
    assert faults.counts() in ({"start a call": 5}, {"start a call": 10})
    assert sum("is no longer watched" in record.message for record in caplog.records) == 1
    assert recording.events() == []
    faults.after_fork()


def test_an_argument_that_cannot_be_copied_costs_only_itself(recording: Recording) -> None:
    class Odd:
        @property
        def __dict__(self) -> dict[str, object]:  # type: ignore[override]
            raise RuntimeError("not now")

    metadata = {"odd": Odd()}
    answer = litellm.completion(
        model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y", metadata=metadata
    )

    event = recording.event()
    assert answer.choices[0].message.content == "y"
    assert event["inputs"]["chat_history"][0]["content"] == "x"
    assert set(faults.counts()) == {"copy an argument"}
    faults.after_fork()


def test_a_structure_that_holds_itself_ends(recording: Recording) -> None:
    nodes: list[dict[str, object]] = [{"number": number} for number in range(12)]
    for node in nodes:
        node["others"] = nodes
    litellm.completion(
        model="gpt-4o",
        messages=[{"role": "user", "content": "x"}],
        mock_response="y",
        tools=None,
        metadata={"graph": nodes},
    )

    assert "too large" in str(recording.event()["metadata"]["graph"])


def test_a_callable_object_in_litellms_place_is_called_as_without_us(request: pytest.FixtureRequest) -> None:
    original = litellm.acompletion
    litellm.acompletion = functools.partial(original, mock_response="y")
    try:
        recording: Recording = request.getfixturevalue("recording")
        answer = asyncio.run(litellm.acompletion(model="gpt-4o", messages=[{"role": "user", "content": "x"}]))
        assert answer.choices[0].message.content == "y"
        assert len(recording.events()) == 1
        honeyhive_autoinstrument.uninstrument()
    finally:
        litellm.acompletion = original


def test_a_bound_method_of_a_router_copies_as_without_us(recording: Recording) -> None:
    router = litellm.Router(model_list=[])

    assert copy.copy(router.acompletion) == router.acompletion


def test_calls_that_a_custom_provider_makes_are_children(recording: Recording) -> None:
    class Provider(litellm.CustomLLM):
        def completion(self, *args: object, **kwargs: object) -> object:
            for number in (1, 2):
                litellm.completion(
                    model="gpt-4o",
                    messages=[{"role": "user", "content": f"inner {number}"}],
                    mock_response="y",
                    litellm_call_id=f"mine-{number}",
                )
            return litellm.completion(
                model="gpt-4o", messages=[{"role": "user", "content": "inner 3"}], mock_response="z"
            )

    litellm.custom_provider_map = [{"provider": "mine", "custom_handler": Provider()}]
    try:
        litellm.completion(model="mine/model", messages=[{"role": "user", "content": "outer"}])
    finally:
        litellm.custom_provider_map = []

    outer, *inner = recording.events()
    assert [event["inputs"]["chat_history"][0]["content"] for event in inner] == ["inner 1", "inner 2", "inner 3"]
    assert {event["parent_id"] for event in inner} == {outer["event_id"]}
