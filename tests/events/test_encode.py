"""Bytes of an event: whatever value is in it, JSON comes out, and no more of it than allowed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pydantic
import pytest

from honeyhive_autoinstrument.events.encode import encode
from honeyhive_autoinstrument.events.schema import Event, EventType
from honeyhive_autoinstrument.events.values import plain_of


class Colour(Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    name: str
    inner: Any = None


class Odd:
    pass


EMPTY = Event(
    event_id="e", session_id="s", parent_id="s", event_type=EventType.MODEL, event_name="n", source="test",
    start_time=1.0, end_time=2.0, duration=1.0, config={}, inputs={}, outputs={}, error=None, metadata={},
)  # fmt: skip


def encoded(value: Any, max_bytes: int = 1 << 20) -> Any:
    """What stands for a value in the bytes of an event."""
    data = encode(replace(EMPTY, metadata={"value": value}), max_bytes=max_bytes)
    assert len(data) <= max_bytes
    return json.loads(data)["metadata"]["value"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("lone \ud800 surrogate", "lone ? surrogate"),
        (2**80, str(2**80)),
        (-(2**70), str(-(2**70))),
        (math.inf, None),
        ([math.nan, 1], [None, 1]),
        ({3: "three", None: "none"}, {"3": "three", "None": "none"}),
        ((1, [2, {"a": 2**70}]), [1, [2, {"a": str(2**70)}]]),
        ({"big": 2**80, "colour": Colour.RED}, {"big": str(2**80), "colour": "red"}),
        (Decimal("1.5"), "1.5"),
    ],
)
def test_a_value_that_json_does_not_have_becomes_one_that_it_has(value: Any, expected: Any) -> None:
    assert encoded(value) == expected


def test_a_structure_deeper_than_json_allows_is_cut() -> None:
    deep: Any = "bottom"
    for _ in range(400):
        deep = [deep]

    assert "[too deep]" in json.dumps(encoded(deep))


def test_an_event_above_the_limit_loses_the_middle_of_its_texts() -> None:
    shortened = encoded("head" + "x" * 50_000 + "tail", max_bytes=5000)

    assert shortened.startswith("head")
    assert shortened.endswith("tail")
    assert "50008 bytes, sha256" in shortened


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Model(name="x", inner=Model(name="y")), {"name": "x", "inner": {"name": "y", "inner": None}}),
        (Colour.RED, "red"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a/b"), "/a/b"),
        (b"bytes", {"type": "bytes", "size": 5, "sha256": sha256(b"bytes").hexdigest()}),
        ({1}, [1]),
        (Odd, {"class": "Odd"}),
        (True, True),
    ],
)
def test_a_value_of_pythons_is_described(value: Any, expected: Any) -> None:
    assert plain_of(value) == expected


def test_a_class_with_a_schema_is_described_by_it() -> None:
    assert plain_of(Model)["json_schema"]["properties"].keys() == {"name", "inner"}


def test_an_object_that_says_nothing_is_named_by_its_class_and_not_by_its_content() -> None:
    assert plain_of(Odd()) == f"<{Odd.__module__}.Odd>"
