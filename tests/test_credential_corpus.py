"""How well credentials are recognised by shape, measured on two corpora: what must go and what must stay."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from honeyhive_autoinstrument.events.values import plain_of
from honeyhive_autoinstrument.redaction import Redactor
from tests.corpora.credentials import CREDENTIALS, KINDS, Credential
from tests.corpora.ordinary import ORDINARY

REDACTOR = Redactor(max_content_bytes=262_144)
"""It has learned nothing: only the shape of a credential, or what stands around it, can give it away."""

PIECE = 12
"""So many characters of a secret, one after the other, are a part of it that was left."""

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False),
    st.text(string.ascii_letters + string.digits + " .-_äß漢", max_size=30),
)
NAMES = st.one_of(
    st.sampled_from(
        ("content", "messages", "arguments", "metadata", "tool_calls", "password", "api_key", "max_tokens")
    ),
    st.text(string.ascii_letters + string.digits + " .-_", max_size=15),
)


def is_left(credential: Credential, text: str) -> bool:
    for secret in credential.secrets:
        length = min(PIECE, len(secret))
        if any(secret[start : start + length] in text for start in range(len(secret) - length + 1)):
            return True
    return False


@dataclass
class Settings:
    content: str


class Message(BaseModel):
    content: str
    role: str = "user"


def cyclic(text: str) -> dict[str, Any]:
    structure: dict[str, Any] = {"content": text}
    structure["parent"] = structure
    return structure


PLANTS: dict[str, Callable[[str], Any]] = {
    "value": lambda text: text,
    "inside a text": lambda text: f"Before it.\n{text}\nAfter it.",
    "key of a dictionary": lambda text: {text: 1},
    "bytes": lambda text: text.encode(),
    "dataclass": Settings,
    "pydantic model": lambda text: Message(content=text),
    "cyclic structure": cyclic,
}


@st.composite
def planted(draw: st.DrawFn) -> tuple[Credential, Any]:
    """A credential and a structure, up to eight levels deep, that holds its text somewhere."""
    credential = draw(st.sampled_from(CREDENTIALS))
    value = PLANTS[draw(st.sampled_from(sorted(PLANTS)))](credential.text)
    for _ in range(draw(st.integers(0, 8))):
        around = draw(st.lists(LEAVES, max_size=3))
        around.insert(draw(st.integers(0, len(around))), value)
        kind = draw(st.sampled_from((list, tuple, dict)))
        # A name may come twice; the value under it is then one of the two, so the planted one goes in last.
        value = {**{draw(NAMES): item for item in around}, draw(NAMES): value} if kind is dict else kind(around)
    return credential, value


def test_the_corpora_are_as_large_as_the_measure_says() -> None:
    assert (len(CREDENTIALS) >= 330, len(KINDS) >= 70, len(set(ORDINARY))) == (True, True, 1000)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_a_credential_in_a_text(kind: str) -> None:
    credentials = [credential for credential in CREDENTIALS if credential.kind == kind]

    left = [each.text for each in credentials if is_left(each, REDACTOR.text(each.text))]

    assert left == [], f"{len(left)} of {len(credentials)}"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_a_credential_in_the_messages_of_a_call(kind: str) -> None:
    credentials = [credential for credential in CREDENTIALS if credential.kind == kind]

    left = [each.text for each in credentials if is_left(each, dumped({"messages": [{"content": each.text}]}))]

    assert left == [], f"{len(left)} of {len(credentials)}"


def dumped(value: Any) -> str:
    return orjson.dumps(REDACTOR.value(plain_of(value))).decode()


def test_at_most_one_ordinary_text_of_a_hundred_is_changed() -> None:
    changed = [(text, result) for text in ORDINARY if (result := REDACTOR.text(text)) != text]

    assert len(changed) <= len(ORDINARY) // 100, "\n".join(f"{text!r}\n  -> {result!r}" for text, result in changed)


def test_the_words_around_a_credential_survive() -> None:
    before, after = "The first line of it.", "The last line of it."

    lost = []
    for credential in CREDENTIALS:
        result = REDACTOR.text(f"{before}\n\n{credential.text}\n\n{after}")
        words = (before, *credential.kept, after)
        lost += [(credential.kind, each, result) for each in words if each not in result]

    assert lost == []


@settings(max_examples=500, deadline=None)
@given(planted())
def test_a_credential_is_hidden_wherever_it_stands_in_a_structure(case: tuple[Credential, Any]) -> None:
    credential, structure = case

    result = dumped(structure)

    assert not is_left(credential, result), credential


@pytest.mark.parametrize(
    "alphabet",
    [
        string.ascii_letters + " .,!?\n",
        string.digits + " .,-+",
        "0123456789abcdef -",
        "abcdefghijklmnopqrstuvwxyz-_ ",
        "абвгдеёжзийклмнопрстуфхцчшщъыьэюя .,—",
        "的一是不了人我在有他这为之大来以个中上们、。",
    ],
    ids=["Latin", "digits", "hexadecimal", "hyphenated", "Cyrillic", "Chinese"],
)
def test_a_text_of_a_plain_alphabet_comes_back_unchanged(alphabet: str) -> None:
    @settings(max_examples=150, deadline=None, database=None)
    @given(st.text(alphabet, max_size=200))
    def comes_back(text: str) -> None:
        assert REDACTOR.text(text) == text

    comes_back()
