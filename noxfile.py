"""The version matrix: LiteLLM x Python. `nox` runs all of it; `nox -s 'litellm(1.60.8)'` one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent))
from tests.releases import NEWEST, OTHER_PYTHONS, RELEASES, RESULTS, Release

nox.options.default_venv_backend = "uv"  # for twenty environments; pip takes 45 s for one
nox.options.reuse_existing_virtualenvs = False
nox.options.error_on_missing_interpreters = True

TESTS = (
    "tests/capture", "tests/providers", "tests/patches", "--ignore=tests/capture/test_faults.py",
)  # fmt: skip
"""What depends on LiteLLM's version. Activation, delivery and our own code's failures are tried on the newest one (pytest
alone)."""


@nox.session(python="3.11")
@nox.parametrize("release", [nox.param(release, id=release.version) for release in RELEASES])
def litellm(session: nox.Session, release: Release) -> None:
    """The tests that depend on LiteLLM, on one release of it."""
    _install(session, f"litellm=={release.over or release.version}", *release.needs)
    if release.over is not None:
        session.install("--quiet", "--no-deps", f"litellm=={release.version}")
    _test(session, f"litellm-{release.version}", release.version)


@nox.session(python=list(OTHER_PYTHONS))
def python(session: nox.Session) -> None:
    """The same tests on another Python, with the newest LiteLLM that resolves."""
    _install(session, "litellm")
    _test(session, f"python-{session.python}", None)


BESIDE = (
    "openinference-instrumentation-litellm", "openlit", "ddtrace", "logfire", "langfuse", "honeyhive",
    "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http",
)  # fmt: skip


@nox.session(python="3.11")
def beside(session: nox.Session) -> None:
    """Side by side with other tools that watch LiteLLM."""
    session.install(
        "--quiet", "-e", ".[litellm]", f"litellm=={NEWEST}", "pytest", "pytest-timeout", "pytest-xdist", "hypothesis",
        "jsonschema", "trustme", *BESIDE,
    )  # fmt: skip
    # The file runs its programs two at a time itself.
    session.run("pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *(session.posargs or ("tests/beside",)))


def _install(session: nox.Session, *requirements: str) -> None:
    session.install("--quiet", "-e", ".[test]", *requirements)


def _test(session: nox.Session, name: str, version: str | None) -> None:
    session.run(
        "python", "-c", "from importlib.metadata import version; print('LiteLLM', version('litellm'))", silent=False
    )
    if version is not None:
        session.run("python", "-c", f"from importlib.metadata import version; assert version('litellm') == '{version}'")
    session.run(
        "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", f"--junitxml={RESULTS / name}.xml",
        *(session.posargs or TESTS), env={"CI": os.environ.get("CI", "")},
    )  # fmt: skip
