"""Every call function of the newest LiteLLM is recorded, or left out for a reason that stands in the README."""

from __future__ import annotations

import re
from importlib import metadata

import pytest

from tests.conftest import ROOT
from tests.patches.inventory import EXCLUSIONS, functions, inventory, methods, reason_of, table
from tests.releases import NEWEST

IS_NEWEST = metadata.version("litellm") == NEWEST
newest_only = pytest.mark.skipif(not IS_NEWEST, reason=f"the inventory is that of LiteLLM {NEWEST}")


@newest_only
def test_every_call_function_is_a_target_or_excluded_with_a_reason() -> None:
    unknown = [entry.name for entry in inventory() if entry.target is None and not entry.reason]

    assert unknown == []


@newest_only
def test_no_exclusion_hides_a_function_that_is_recorded_or_gone() -> None:
    left_out = {entry.name.removeprefix("Router.") for entry in inventory() if entry.target is None}

    assert [pattern for pattern, _ in EXCLUSIONS if not any(re.fullmatch(pattern, name) for name in left_out)] == []


@newest_only
def test_the_tables_in_the_readme_are_those_of_the_inventory() -> None:
    readme = (ROOT / "README.md").read_text()
    between = re.search(r"<!-- inventory -->\n(.*?)\n<!-- end -->", readme, re.DOTALL)

    assert between is not None
    assert between.group(1).strip() == table(), "python -m tests.patches.inventory --readme writes it"


def test_the_walk_finds_the_calls_that_everybody_knows() -> None:
    assert {"completion", "acompletion", "embedding", "rerank", "moderation", "speech"} <= set(functions())
    assert {"completion", "acompletion", "aembedding", "arerank", "amoderation"} <= set(methods())


def test_a_function_that_nobody_knows_has_no_reason() -> None:
    assert reason_of("telepathy") is None
