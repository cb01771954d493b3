"""What is copied when a call is made: containers to the bottom, nothing that the application can still change."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from typing import Any

import pydantic
import pytest

from honeyhive_autoinstrument.capture.freeze import CUT, MAX_DEPTH, freeze


class Message(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    role: str
    parts: list[str] = []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, "a", None, True, 2.5], [1, "a", None, True, 2.5]),
        (("a", ("b",)), ["a", ["b"]]),
        ({"x": {"y": [1]}}, {"x": {"y": [1]}}),
        (OrderedDict(a=[1]), {"a": [1]}),
        (UserDict(a={"b": 1}), {"a": {"b": 1}}),
        ([Message(role="user", parts=["p"], note="extra")], [{"role": "user", "parts": ["p"], "note": "extra"}]),
        (int, int),
        ("text", "text"),
    ],
)
def test_a_value_is_copied_as_plain_containers(value: Any, expected: Any) -> None:
    assert freeze(value) == expected


def test_later_changes_do_not_reach_the_copy() -> None:
    message = Message(role="user", parts=["one"])
    given: dict[str, Any] = {"list": [{"text": "one"}], "message": message}

    copied = freeze(given)
    given["list"][0]["text"] = "two"
    given["list"].append("more")
    message.parts.append("two")
    message.role = "system"

    assert copied == {"list": [{"text": "one"}], "message": {"role": "user", "parts": ["one"]}}


def test_a_structure_that_never_ends_is_cut() -> None:
    endless: list[Any] = []
    endless.append(endless)

    copied = freeze(endless)
    depth = 0
    while isinstance(copied, list):
        copied, depth = copied[0], depth + 1

    assert (copied, depth) == (CUT, MAX_DEPTH)
