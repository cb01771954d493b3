"""The house: an import points to a room below or to the foundations, never up."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "honeyhive_autoinstrument"
FLOORS = {
    "__init__": 9, "auto": 8, "otel": 8, "store": 8,
    "activation": 7,
    "patches": 6,
    "capture": 5,
    "events": 4,
    "delivery": 3,
    "redaction": 1, "config": 1,
    "_faults": 0, "_version": 0, "credentials": 0, "patience": 0, "patterns": 0,
}  # fmt: skip
"""A room may import rooms with a smaller number, and itself."""

STANDARD_LIBRARY_ONLY = [
    "__init__.py", "auto.py", "config.py", "_faults.py", "_version.py", "credentials.py", "patience.py", "patterns.py",
    "redaction.py",
    "activation/__init__.py", "activation/bootstrap.py", "activation/launcher.py",
]  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_no_arrow_points_up(path: Path) -> None:
    room = room_of(path)
    upward = []
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != PACKAGE.name or len(parts) < 2 or parts[1] not in FLOORS:
            continue
        target = parts[1]
        if target != room and FLOORS[target] >= FLOORS[room]:
            upward.append(f"{room} -> {target}")

    assert upward == []


def test_delivery_does_not_know_what_it_carries() -> None:
    for path in (PACKAGE / "delivery").glob("*.py"):
        assert not [name for name in imports_of(path) if ".events" in name or ".capture" in name], path


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_what_runs_before_litellm_uses_the_standard_library_only(name: str) -> None:
    outside = {
        module.partition(".")[0]
        for module in imports_of(PACKAGE / name, top_level_only=True)
        if module.partition(".")[0] not in sys.stdlib_module_names
    } - {PACKAGE.name}

    assert outside == set()


def test_litellm_is_imported_by_the_check_command_only() -> None:
    importing = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(name.partition(".")[0] == "litellm" for name in imports_of(path))
    ]

    assert importing == ["activation/check.py"]


def test_broad_excepts_live_in_faults_or_say_why() -> None:
    for path in FILES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.strip().startswith("except Exception") and path.name != "_faults.py":
                assert "noqa: BLE001  (" in line, f"{path}:{number}"
