"""What switching on costs a process before its first line runs, for us and for the peers' launchers.

Each figure is the median of differences between a run and a bare run right before it, so that a machine that slows down
for a while slows both. Wall time is what a user waits; CPU (user and system, of the process and its children) is shown
beside it, because other work on the machine disturbs it less. A slow command gets fewer runs.

Two programs: `pass`, a process that never imports LiteLLM, and `import litellm`. For the latter the steady figure is the
one timed inside the process, from the end of the import to recording being on.

    python benchmarks/startup.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import peers
import report
import sink

BENCHMARK = "startup"

NOTHING = "pass"
IMPORT = "import litellm"
# Timed inside the process: the import takes seconds and varies by more than what is looked for.
TIMED = """
import time
import litellm
start = time.perf_counter()
{}
print((time.perf_counter() - start) * 1e3)
"""
OURS_LATE = TIMED.format("import honeyhive_autoinstrument.auto")
OPENINFERENCE = TIMED.format(
    """
from openinference.instrumentation.litellm import LiteLLMInstrumentor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
LiteLLMInstrumentor().instrument(tracer_provider=provider)
"""
)
"""With the exporter that its documentation sets up; without one it records nothing."""

AUTO = {"HONEYHIVE_AUTO": "1"}
AUTO_LABEL = "HONEYHIVE_AUTO=1"
LATE_LABEL = "honeyhive_autoinstrument.auto"


@dataclass(frozen=True, slots=True)
class Effort:
    """Most runs of one command, and the time after which no further run of it begins."""

    pass_runs: int
    pass_seconds: float
    import_runs: int


FULL = Effort(pass_runs=40, pass_seconds=6.5, import_runs=4)
QUICK = Effort(pass_runs=12, pass_seconds=0.5, import_runs=1)

SLOW_MS = 1000.0
"""A bare run that takes longer than this serves all commands of its round."""


@dataclass(frozen=True, slots=True)
class Command:
    """One thing to start, and the bare command that it is compared with."""

    name: str
    words: Sequence[str]
    bare: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One process from start to end, in milliseconds."""

    wall: float
    cpu: float
    inside: float | None
    """What the program itself measured and printed last, if it did."""


def run(words: Sequence[str], environment: Mapping[str, str], folder: Path) -> Run:
    """One fresh process, to its end.

    :raises Skipped: it failed.
    """
    with open(folder / "stderr", "w+b") as errors, open(folder / "stdout", "w+b") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            words,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_ms = (time.perf_counter() - start) * 1e3
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise peers.Skipped(f"ended with status {process.returncode}: {lines[-1] if lines else 'said nothing'}")
        output.seek(0)
        printed = output.read().decode(errors="replace").strip().splitlines()
    try:
        inside = float(printed[-1])
    except (IndexError, ValueError):
        inside = None
    return Run(wall_ms, (usage.ru_utime + usage.ru_stime) * 1e3, inside)


@dataclass(slots=True)
class Runs:
    """Runs of one command, each with the bare run that it is compared with."""

    pairs: list[tuple[Run, Run]] = field(default_factory=list)

    def forget_first(self) -> None:
        """The first run brings files into the cache and may write bytecode; it counts only if it is all there is."""
        if len(self.pairs) > 1:
            del self.pairs[0]

    def figures(self) -> dict[str, float | None]:
        """Medians; what was added is taken pair by pair."""
        inside = [own.inside for own, _ in self.pairs if own.inside is not None]
        return {
            "added_wall": round(report.median([own.wall - bare.wall for own, bare in self.pairs]), 2),
            "added_cpu": round(report.median([own.cpu - bare.cpu for own, bare in self.pairs]), 2),
            "added_inside": round(report.median(inside), 2) if inside else None,
            "wall": round(report.median([own.wall for own, _ in self.pairs]), 2),
            "bare_wall": round(report.median([bare.wall for _, bare in self.pairs]), 2),
            "bare_cpu": round(report.median([bare.cpu for _, bare in self.pairs]), 2),
            "runs": len(self.pairs),
        }


def run_pairs(
    commands: Sequence[Command], environment: Mapping[str, str], folder: Path, runs: int, seconds: float
) -> tuple[dict[str, Runs], dict[str, str]]:
    """All commands in turns, each after its bare command, until it had its runs or its time."""
    found: dict[str, Runs] = {}
    skipped: dict[str, str] = {}
    spent: dict[str, float] = {}
    for _ in range(runs):
        slow_bare: dict[tuple[str, ...], Run] = {}
        for command in commands:
            if command.name in skipped or spent.get(command.name, 0.0) > seconds:
                continue
            bare_words = tuple(command.bare)
            bare = slow_bare.get(bare_words) or run(bare_words, environment, folder)
            if bare.wall > SLOW_MS:
                slow_bare[bare_words] = bare
            try:
                own = run(command.words, {**environment, **command.settings}, folder)
            except (peers.Skipped, OSError) as reason:
                skipped[command.name] = str(reason)
                continue
            found.setdefault(command.name, Runs()).pairs.append((own, bare))
            spent[command.name] = spent.get(command.name, 0.0) + own.wall / 1e3
    for one in found.values():
        one.forget_first()
    return {name: one for name, one in found.items() if name not in skipped}, skipped


def launcher_path(contestant: peers.Contestant) -> str | None:
    """The launcher beside this interpreter, or on PATH."""
    beside = Path(sys.executable).parent / contestant.launcher[0]
    return str(beside) if beside.exists() else shutil.which(contestant.launcher[0])


def pass_commands(environment: Mapping[str, str]) -> tuple[list[Command], dict[str, str]]:
    """Ways to start a program that does nothing."""
    python = [sys.executable, "-c", NOTHING]
    true = shutil.which("true", path=environment.get("PATH")) or "/bin/true"
    commands = [Command(AUTO_LABEL, python, python, AUTO)]
    skipped: dict[str, str] = {}
    for name, contestant in peers.CONTESTANTS.items():
        label = contestant.launcher[0]
        path = launcher_path(contestant) if contestant.version is not None else None
        if path is None:
            skipped[label] = f"{contestant.distribution} is not installed, or has no {label} here"
            continue
        commands.append(Command(label, [path, *python], python))
        if name == peers.OURS:
            commands.append(Command(f"{label}, launcher alone", [path, true], [true]))
            shim = os.path.join(os.path.dirname(_package_folder()), "sitecustomize_shim")
            commands.append(Command(f"{label}, in the program", python, python, {"PYTHONPATH": shim}))
    return commands, skipped


def _package_folder() -> str:
    import honeyhive_autoinstrument

    return os.path.dirname(os.path.abspath(honeyhive_autoinstrument.__file__))


def import_commands() -> tuple[list[Command], dict[str, str]]:
    """Ways to import LiteLLM with recording switched on."""
    bare = [sys.executable, "-c", IMPORT]
    commands = [
        Command(AUTO_LABEL, bare, bare, AUTO),
        Command(LATE_LABEL, [sys.executable, "-c", OURS_LATE], bare),
    ]
    skipped: dict[str, str] = {}
    if peers.CONTESTANTS["openinference"].version is None:
        skipped["openinference"] = "openinference-instrumentation-litellm is not installed"
    else:
        commands.append(Command("openinference", [sys.executable, "-c", OPENINFERENCE], bare))
    return commands, skipped


def report_group(
    program: str, ours: str, found: Mapping[str, Runs], skipped: Mapping[str, str], notes: Sequence[str]
) -> None:
    """Print the measurements of one program, then its table."""
    for name, reason in skipped.items():
        report.emit(BENCHMARK, program=program, peer=name, skipped=reason)
    figures = {name: runs.figures() for name, runs in found.items()}
    for name, each in figures.items():
        report.emit(BENCHMARK, program=program, contestant=name, measure="startup_ms", **each)
    measure = "added_inside" if any(each["added_inside"] for each in figures.values()) else "added_wall"
    base = figures[ours][measure] if ours in figures else None
    rows = [
        [
            name,
            report.shown(each["added_wall"], "ms"),
            report.shown(each["added_cpu"], "ms"),
            report.shown(each["added_inside"], "ms"),
            report.times(each[measure], base),
            report.shown(each["wall"], "ms"),
            report.shown(each["bare_wall"], "ms"),
            str(each["runs"]),
        ]
        for name, each in figures.items()
    ]
    tables.append(
        (
            f"Start-up, python -c '{program}'",
            ["", "added", "added CPU", "timed inside", f"times {ours}", "in all", "bare", "runs"],
            rows,
            [*notes, *report.skipped_notes(skipped)],
        )
    )


tables: list[tuple[str, list[str], list[list[str]], list[str]]] = []
"""Printed at the end, after all JSON lines."""


def main() -> None:
    """Measure both programs, print every measurement, then the tables."""
    parser = argparse.ArgumentParser(description="Start-up of a process, ours against the peers' launchers.")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    effort = QUICK if parser.parse_args().quick else FULL
    report.emit_machine(BENCHMARK)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, sink.SinkProcess() as server:
        folder = Path(name)
        environment = peers.clean_environment(server.url, folder)
        commands, missing = pass_commands(environment)
        found, skipped = run_pairs(commands, environment, folder, effort.pass_runs, effort.pass_seconds)
        report_group(
            NOTHING,
            peers.CONTESTANTS[peers.OURS].launcher[0],
            found,
            {**missing, **skipped},
            [
                "launcher alone: honeyhive-instrument in front of /bin/true, against /bin/true; in the program: what",
                "its shim adds to the interpreter that it starts. Peers' exporters point to a sink on loopback.",
            ],
        )
        commands, missing = import_commands()
        found, skipped = run_pairs(commands, environment, folder, effort.import_runs, float("inf"))
        report_group(IMPORT, LATE_LABEL, found, {**missing, **skipped}, [])
    for title, headings, rows, notes in tables:
        report.print_table(title, headings, rows, notes)


if __name__ == "__main__":
    main()
