"""The version matrix: LiteLLM x Python. `nox` runs all of it; `nox -s 'litellm(1.60.8)'` one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = False
nox.options.error_on_missing_interpreters = True

TESTS = ("tests/capture", "tests/patches", "tests/events", "tests/delivery/test_outage.py")
"""What depends on LiteLLM's version. Activation with real processes runs on the newest one (pytest alone)."""


@dataclass(frozen=True)
class Release:
    """A LiteLLM to test, and what it takes to install it."""

    version: str
    needs: tuple[str, ...] = ()
    """Constraints that the release itself forgot."""
    over: str | None = None
    """Installed without its own pins over the dependencies of this release: one of its pins (certifi, of the very day)
    is not always to be had."""


RELEASES = (
    # Era A: one function object behind each name.
    Release("1.60.8", needs=("openai<1.70",)),  # its image responses do not know fields of later openai clients
    Release("1.74.9"),
    Release("1.82.6"),  # 1.82.7 and 1.82.8 were compromised
    Release("1.91.5"),
    Release("1.99.4"),
    # Era B: dispatch modules.
    Release("1.103.11", over="1.106.2"),
    Release("1.105.7", over="1.106.2"),
    Release("1.106.2"),
    # Era C: the Router as a facade.
    Release("1.109.1", over="1.106.2"),
    # Era D: the class behind the facade is loaded with the first Router.
    Release("1.110.2"),
)
OTHER_PYTHONS = ("3.10", "3.12", "3.13")


@nox.session(python="3.11")
@nox.parametrize("release", [nox.param(release, id=release.version) for release in RELEASES])
def litellm(session: nox.Session, release: Release) -> None:
    """The tests that depend on LiteLLM, on one release of it."""
    _install(session, f"litellm=={release.over or release.version}", *release.needs)
    if release.over is not None:
        session.install("--quiet", "--no-deps", f"litellm=={release.version}")
    _test(session, release.version)


@nox.session(python=list(OTHER_PYTHONS))
def python(session: nox.Session) -> None:
    """The same tests on another Python, with the newest LiteLLM that resolves."""
    _install(session, "litellm")
    _test(session, None)


def _install(session: nox.Session, *requirements: str) -> None:
    session.install("--quiet", "-e", ".[test]", *requirements)


def _test(session: nox.Session, version: str | None) -> None:
    session.run(
        "python", "-c", "from importlib.metadata import version; print('LiteLLM', version('litellm'))", silent=False
    )
    if version is not None:
        session.run("python", "-c", f"from importlib.metadata import version; assert version('litellm') == '{version}'")
    session.run(
        "pytest", "-q", "-p", "no:cacheprovider", *(session.posargs or TESTS), env={"CI": os.environ.get("CI", "")}
    )
