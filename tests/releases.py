"""The releases of LiteLLM that are tested: the one list for nox, the README's table and the tests that ask which is newest.

`python -m tests.releases --readme` writes the README's table from the results that the last `nox` left in `.nox/results`;
`--sessions` lists nox's sessions.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / ".nox" / "results"


@dataclass(frozen=True)
class Release:
    """A LiteLLM to test, and what it takes to install it."""

    version: str
    needs: tuple[str, ...] = ()
    """Constraints that the release itself forgot."""
    over: str | None = None
    """Installed without its own pins over the dependencies of this release: one of its pins (certifi, of the very day)
    is not always to be had."""


OLD_OPENAI = ("openai<1.70",)  # their image responses do not know fields of later openai clients

RELEASES = (
    # Up to 1.102: one function object behind each name.
    Release("1.55.12", needs=OLD_OPENAI),
    Release("1.60.8", needs=OLD_OPENAI),
    Release("1.67.6", needs=OLD_OPENAI),
    Release("1.70.4", needs=OLD_OPENAI),
    Release("1.74.9"),
    Release("1.77.7"),
    Release("1.82.6"),
    Release("1.88.6"),
    Release("1.91.5"),
    Release("1.95.1"),
    Release("1.99.4"),
    # Dispatch modules.
    Release("1.103.11", over="1.106.2"),
    Release("1.105.7", over="1.106.2"),
    Release("1.106.2"),
    # The Router as a facade.
    Release("1.109.1", over="1.106.2"),
    # The class behind the facade is loaded with the first Router.
    Release("1.110.2"),
)
NEWEST = RELEASES[-1].version
OTHER_PYTHONS = ("3.10", "3.12", "3.13")

KNOWN_BAD = {
    "1.82.7": "a compromised release; never install it",
    "1.82.8": "a compromised release; never install it",
    "1.82 to 1.105": "a Router's sync stream that breaks before its first word is asked for again and again, for seconds;"
    " a thousand of these attempts are recorded, then no more",
    "1.74 to 1.90": "an async stream cut by the network ends as if it were whole; its event says so, too",
    "1.105 to 1.108": "a stream whose provider does not count reports 0 tokens; its event has an estimate",
}
"""Releases to avoid, or to know something of."""


def table() -> str:
    """The README's table of releases."""
    lines = ["| LiteLLM | Python | tests passed | not there yet |", "|---|---|---|---|"]
    for release in RELEASES:
        passed, skipped = counts_of(RESULTS / f"litellm-{release.version}.xml")
        lines.append(f"| {release.version} | 3.11 | {passed} | {skipped} |")
    for python in OTHER_PYTHONS:
        passed, skipped = counts_of(RESULTS / f"python-{python}.xml")
        lines.append(f"| {NEWEST} | {python} | {passed} | {skipped} |")
    lines += ["", "| release | known |", "|---|---|"]
    lines += [f"| {version} | {what} |" for version, what in KNOWN_BAD.items()]
    return "\n".join(lines)


def counts_of(result: Path) -> tuple[object, object]:
    """Tests that passed and tests that were skipped, of one session's JUnit report; "not run" without one.

    :raises SystemExit: if the session failed.
    """
    if not result.exists():
        return "not run", ""
    suite = next(ElementTree.parse(result).getroot().iter("testsuite"))
    total, skipped, failed = (
        int(suite.get("tests", 0)),
        int(suite.get("skipped", 0)),
        int(suite.get("failures", 0)) + int(suite.get("errors", 0)),
    )
    if failed:
        raise SystemExit(f"{result}: {failed} tests failed")
    return total - skipped, skipped


if __name__ == "__main__":
    if "--sessions" in sys.argv:
        # The newest first: it is the slowest, and tells most.
        print(*(f"litellm({release.version})" for release in reversed(RELEASES)), sep="\n")
        print("beside")
        print(*(f"python-{python}" for python in OTHER_PYTHONS), sep="\n")
    elif "--readme" in sys.argv:
        readme = ROOT / "README.md"
        before, _, rest = readme.read_text().partition("<!-- releases -->\n")
        readme.write_text(f"{before}<!-- releases -->\n{table()}\n<!-- end -->{rest.partition('<!-- end -->')[2]}")
    else:
        print(table())
