"""How results are said: one JSON line per measurement, and plain tables at the end. Pure but for printing."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence


def emit(benchmark: str, **fields: object) -> None:
    """One measurement, as one JSON line on stdout."""
    print(json.dumps({"benchmark": benchmark, **fields}), flush=True)


def emit_machine(benchmark: str) -> None:
    """Where it was measured: absolute figures mean little without it."""
    emit(
        benchmark,
        measure="machine",
        python=platform.python_version(),
        system=platform.system(),
        machine=platform.machine(),
        cores=os.cpu_count(),
        load_1min=round(os.getloadavg()[0], 2),
    )


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return float(statistics.median(values))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of all values lie; the nearest one that was measured."""
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))])


def times(value: float | None, base: float | None) -> str:
    """`value` as a multiple of `base`."""
    if value is None or base is None or base <= 0:
        return "-"
    ratio = value / base
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def shown(value: float | None, unit: str = "") -> str:
    """A number with three digits that count."""
    if value is None:
        return "-"
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{text} {unit}".rstrip()


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """A plain-text table: first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]
    print(f"\n{title}")
    for row in (headings, ["-" * width for width in widths], *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())
    for note in notes:
        print(f"  {note}")


def skipped_notes(skipped: Mapping[str, str]) -> list[str]:
    """A peer that was not measured is named with the reason."""
    return [f"not measured: {name}: {reason}" for name, reason in skipped.items()]
