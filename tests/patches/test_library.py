"""What is asked of the loaded LiteLLM: prices, providers, keys; and nothing at all where it is not loaded."""

from __future__ import annotations

import sys

import litellm
import pytest

from honeyhive_autoinstrument.patches.library import credentials_of_library, price_of_tokens, provider_of


def test_counts_are_priced_by_litellms_table() -> None:
    row = litellm.model_cost["gpt-4o"]

    prices = price_of_tokens(["openai/gpt-4o"], "openai", None, {"prompt_tokens": 100, "completion_tokens": 10})

    assert prices == pytest.approx((100 * row["input_cost_per_token"], 10 * row["output_cost_per_token"]))


def test_tokens_read_from_a_cache_cost_what_the_table_says() -> None:
    row = litellm.model_cost["gpt-4o"]
    tokens = {"prompt_tokens": 100, "completion_tokens": 0, "cache_read_input_tokens": 60, "reasoning_tokens": 0}

    prices = price_of_tokens(["gpt-4o"], "openai", None, tokens)

    assert prices is not None
    assert prices[0] == pytest.approx(40 * row["input_cost_per_token"] + 60 * row["cache_read_input_token_cost"])


def test_an_unknown_model_has_no_price() -> None:
    assert price_of_tokens(["nobody-knows-this"], None, None, {"prompt_tokens": 1}) is None


def test_a_local_model_is_not_asked_for_its_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "cost_per_token", lambda **_: pytest.fail("asked"))
    monkeypatch.setitem(litellm.model_cost, "ollama/here", {"litellm_provider": "ollama"})

    assert price_of_tokens(["ollama/here"], "ollama", None, {"prompt_tokens": 1}) == (0.0, 0.0)


def test_keys_that_are_set_on_litellm_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "openai_key", "sk-0123456789abcdef")

    assert ("openai_key", "sk-0123456789abcdef") in credentials_of_library()


def test_without_litellm_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "litellm")

    assert price_of_tokens(["gpt-4o"], None, None, {"prompt_tokens": 1}) is None
    assert provider_of("openai/gpt-4o") is None
    assert credentials_of_library() == []
