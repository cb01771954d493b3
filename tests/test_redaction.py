"""What may leave the process: tables of what is hidden, what is not, and how long texts are shortened."""

from __future__ import annotations

import hashlib
import sys
import threading
from typing import Any

import pytest

from honeyhive_autoinstrument.credentials import HIDDEN, is_credential_name
from honeyhive_autoinstrument.redaction import MAX_SECRETS, Redactor, shorten, shorten_to_fit


@pytest.fixture
def redactor() -> Redactor:
    return Redactor(max_content_bytes=10_000, secrets=("a-custom-secret-1",))


@pytest.mark.parametrize(
    "name",
    [
        "api_key", "apiKey", "x-api-key", "aws_secret_access_key", "aws_access_key_id", "aws_session_token",
        "azure_ad_token", "Authorization", "azure_password", "client_secret", "vertex_credentials", "OPENAI_API_KEY",
        "raw_headers", "extra_headers", "private_key", "set-cookie", "token", "github_token", "openaiApiKey",
        "dbPassword", "Ocp-Apim-Subscription-Key", "passphrase", "auth",
    ],
)  # fmt: skip
def test_fields_with_credential_names_are_hidden(redactor: Redactor, name: str) -> None:
    assert redactor.value({"a": [{name: "anything"}]}) == {"a": [{name: HIDDEN}]}


@pytest.mark.parametrize(
    "name",
    ["prompt_tokens", "max_tokens", "total_tokens", "model", "key", "token_count", "content", "keyboard", "secretary"],
)
def test_ordinary_fields_are_left_alone(redactor: Redactor, name: str) -> None:
    assert is_credential_name(name) is False
    assert redactor.value({name: "anything"}) == {name: "anything"}


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnopqrstuvwx",
        "sk-ant-REDACTED",
        "hh_0123456789abcdefghijkl",
        "gsk_abcdefghijklmnopqrstuvwx",
        "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.abcdefghijk",
        "a-custom-secret-1",
        "nvapi-abcdefghijklmnopqrstuvwx",
        "github_pat_abcdefghijklmnopqrstuvwx",
        "dapi0123456789abcdef0123456789abcdef",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_credentials_are_found_in_the_middle_of_a_text(redactor: Redactor, secret: str) -> None:
    assert redactor.text(f"the key is {secret}, is it not?") == f"the key is {HIDDEN}, is it not?"


def test_two_private_keys_and_what_stands_between_them(redactor: Redactor) -> None:
    key = "-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----"

    assert redactor.text(f"one {key} two {key}. And -----BEGIN PRIVATE KEY-----\nMIIEcut") == (
        f"one {HIDDEN} two {HIDDEN}. And {HIDDEN}"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pass@api.example.com/v1", "https://api.example.com/v1"),
        ("https://api.example.com/v1?key=abc&alt=sse", f"https://api.example.com/v1?key={HIDDEN}&alt=sse"),
        ("https://api.example.com/v1?model=x", "https://api.example.com/v1?model=x"),
    ],
)
def test_urls_lose_credentials_and_keep_the_rest(redactor: Redactor, text: str, expected: str) -> None:
    assert redactor.text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "7f22137a-6911-4ed3-bc36-110f1dde6b66",
        "task-force and risk-based skills",
        "write to somebody@example.com",
        "def main(argv): return argv[0]",
        "a" * 64,
    ],
)
def test_ordinary_texts_are_left_alone(redactor: Redactor, text: str) -> None:
    assert redactor.text(text) == text


@pytest.mark.parametrize("word", ["bearer", "Bearer", "BEARER", "bEaReR"])
def test_a_bearers_token_is_hidden_however_the_word_is_written(redactor: Redactor, word: str) -> None:
    assert redactor.text(f"{word} abcdefgh1jklmnop") == f"{word} {HIDDEN}"


def test_a_secret_that_is_learned_later_is_found(redactor: Redactor) -> None:
    redactor.learn(["my-very-own-key-7", "none", "ollama"])

    assert redactor.text("my-very-own-key-7 and none, ollama") == f"{HIDDEN} and none, ollama"


def test_of_many_learned_secrets_the_oldest_are_forgotten_and_the_given_ones_never(redactor: Redactor) -> None:
    secrets = [f"secret-number-{number:06d}" for number in range(MAX_SECRETS + 1)]
    for secret in secrets:
        redactor.learn([secret])

    assert redactor.text(secrets[0]) == secrets[0]
    assert redactor.text(f"{secrets[1]} {secrets[-1]} a-custom-secret-1") == f"{HIDDEN} {HIDDEN} {HIDDEN}"


def test_a_short_secret_is_not_forgotten_for_longer_ones(redactor: Redactor) -> None:
    redactor.learn(["short-key-1"])
    redactor.learn(f"much-longer-secret-number-{number:06d}" for number in range(MAX_SECRETS - 1))

    assert redactor.text("short-key-1") == HIDDEN


def test_secrets_learned_by_many_threads_are_all_known(redactor: Redactor) -> None:
    leaked: list[str] = []

    def learn(number: int) -> None:
        for turn in range(100):
            secret = f"secret-{number}-{turn:06d}"
            redactor.learn([secret])
            if redactor.text(secret) != HIDDEN:
                leaked.append(secret)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=learn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)

    assert leaked == []


def test_a_credential_that_is_a_key_of_a_dictionary_is_hidden(redactor: Redactor) -> None:
    assert redactor.value({"sk-proj-abcdefgh12345678": 1, "a-custom-secret-1": 2, "model_group": 3}) == {
        HIDDEN: 2,
        "model_group": 3,
    }


def test_a_tools_parameter_may_be_named_like_a_credential(redactor: Redactor) -> None:
    schema = {"properties": {"password": {"type": "string", "description": "of the user"}}}

    assert redactor.value(schema) == schema
    assert redactor.value({"password": {"type": "string", "value": "x"}}) == {"password": HIDDEN}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece",
    ["a.", "eyJ-", "sk-", "http://", "://a", "Bearer ", "-----BEGIN ", "gh", "x:y@",
     "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----.", "://aaaa"],
)  # fmt: skip
def test_a_text_made_to_keep_a_pattern_busy_ends(redactor: Redactor, piece: str) -> None:
    # A pattern that looks at each place of the text again from each other place takes minutes for this.
    assert redactor.text(piece * 100_000 + " http://x -----BEGIN ")


def test_a_long_text_keeps_head_tail_size_and_hash() -> None:
    text = "head" + "x" * 5000 + "tail"

    short = shorten(text, 500)

    assert len(short.encode()) <= 500
    assert short.startswith("headx")
    assert short.endswith("xtail")
    assert f"{len(text)} bytes, sha256 {hashlib.sha256(text.encode()).hexdigest()}" in short


def test_characters_are_never_cut_in_half() -> None:
    assert shorten("ü" * 3000, 301).encode("utf-8", "strict")


def test_an_event_that_is_too_large_loses_the_middle_of_its_texts() -> None:
    value = {"small": "s", "large": "x" * 50_000, "list": ["y" * 40_000]}

    smaller = shorten_to_fit(value, 10_000, lambda each: len(str(each)))

    assert len(str(smaller)) <= 10_000
    assert smaller["small"] == "s"
    assert set(smaller) == {"small", "large", "list"}


def test_a_cyclic_structure_ends(redactor: Redactor) -> None:
    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic

    assert "[too deep]" in str(redactor.value(cyclic))
