"""What a recorded call costs: on the caller's thread, and in CPU of the whole process, for us and for the peers.

LiteLLM's function is replaced by a stub before anyone wraps it (stub.py), so the figures are the instrumentation's own.
Each contestant lives in a process of its own; they are measured in turns, and each time the bare stub is measured right
before, with the same loop, and subtracted. The sink is another process, so its CPU is nobody's. Two modes, because pace
matters: "burst" (as fast as possible; queues fill, the exporter competes for the interpreter's lock) and "paced" (200
calls a second and asleep in between; the first code to run after a sleep finds the processor's caches cold). CPU of the
process includes the flush that brings out the last record.

    python benchmarks/per_call.py [--quick]
"""

from __future__ import annotations

import argparse
import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import peers
import report
import sink
import stub

BENCHMARK = "per_call"

PROMPT_LENGTH = 1000
BLOCK = 20
"""Calls between two readings of the thread's CPU clock, which costs about as much to read as a bare call takes."""
PACE = 200
"""Calls a second in paced mode."""
SHORT, LONG = 20, 200
"""Chunks of a short and a long stream: their difference is what a chunk costs, without start and end of the call."""
SETTLE_S = 2.0
"""How long at most to wait for what a contestant still sends after its flush has returned."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    burst_calls: int
    paced_calls: int
    streams: int


FULL = Effort(rounds=3, burst_calls=5000, paced_calls=150, streams=40)
QUICK = Effort(rounds=1, burst_calls=1000, paced_calls=100, streams=20)

PHASES = ("burst", "paced", "stream")

# -- in the process under test -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Cost:
    """Microseconds per call."""

    thread: list[float] = field(default_factory=list)
    """CPU of the caller's thread; one figure per block in a burst, else per call or stream."""
    wall: list[float] = field(default_factory=list)
    process: float = 0.0
    """CPU of all threads, flush included."""


def burst(call: Callable[[], object], count: int, flush: peers.Flush) -> Cost:
    """Call as fast as possible."""
    cost = Cost()
    read_wall, read_thread = time.perf_counter_ns, time.thread_time_ns
    gc.collect()
    process_start = time.process_time_ns()
    for _ in range(count // BLOCK):
        block_start = read_thread()
        for _ in range(BLOCK):
            start = read_wall()
            call()
            cost.wall.append((read_wall() - start) / 1e3)
        cost.thread.append((read_thread() - block_start) / BLOCK / 1e3)
    flush()
    cost.process = (time.process_time_ns() - process_start) / count / 1e3
    return cost


def paced(call: Callable[[], object], count: int, flush: peers.Flush) -> Cost:
    """Call at a steady pace, asleep in between."""
    cost = Cost()
    read_wall, read_thread = time.perf_counter_ns, time.thread_time_ns
    gc.collect()
    process_start = time.process_time_ns()
    due = time.perf_counter()
    for _ in range(count):
        due += 1 / PACE
        time.sleep(max(0.0, due - time.perf_counter()))
        thread_start = read_thread()
        start = read_wall()
        call()
        cost.wall.append((read_wall() - start) / 1e3)
        cost.thread.append((read_thread() - thread_start) / 1e3)
    flush()
    cost.process = (time.process_time_ns() - process_start) / count / 1e3
    return cost


def streamed(call: Callable[[int], Any], count: int, flush: peers.Flush) -> tuple[Cost, Cost]:
    """Read short and long streams to their end, in turns, as fast as possible. CPU of the process: long ones only."""
    costs = {SHORT: Cost(), LONG: Cost()}
    gc.collect()
    for _ in range(count):
        for length, cost in costs.items():
            thread_start = time.thread_time_ns()
            start = time.perf_counter_ns()
            for _ in call(length):
                pass
            cost.wall.append((time.perf_counter_ns() - start) / 1e3)
            cost.thread.append((time.thread_time_ns() - thread_start) / 1e3)
    flush()
    process_start = time.process_time_ns()
    for _ in range(count):
        for _ in call(LONG):
            pass
    flush()
    costs[LONG].process = (time.process_time_ns() - process_start) / count / 1e3
    return costs[SHORT], costs[LONG]


def added(on: Cost, bare: Cost) -> dict[str, float]:
    """Medians and 99th percentiles, less those of the bare stub."""
    return {
        "caller_thread_us": report.median(on.thread) - report.median(bare.thread),
        "caller_thread_us_p99": report.percentile(on.thread, 0.99) - report.percentile(bare.thread, 0.99),
        "caller_wall_us": report.median(on.wall) - report.median(bare.wall),
        "caller_wall_us_p99": report.percentile(on.wall, 0.99) - report.percentile(bare.wall, 0.99),
        "process_cpu_us": on.process - bare.process,
        "bare_caller_thread_us": report.median(bare.thread),
        "bare_process_cpu_us": bare.process,
    }


class Measured:
    """One contestant, in this process."""

    def __init__(self, name: str, url: str, effort: Effort) -> None:
        self._name = name
        self._url = url
        self._effort = effort
        self._messages = stub.prompt_of(PROMPT_LENGTH)
        self._bare = SimpleNamespace()
        self._library: Any = None
        self._flush: peers.Flush = _nothing
        self._markers_per_record = 0.0

    def prepare(self) -> dict[str, Any]:
        """Import LiteLLM and replace its function. Not timed."""
        contestant = peers.CONTESTANTS[self._name]
        if contestant.version is None:
            raise peers.Skipped(f"{contestant.distribution} is not installed")
        import litellm

        self._bare.completion = stub.install((SHORT, LONG))
        self._library = litellm
        return {}

    def start(self) -> dict[str, Any]:
        """Switch on, warm up."""
        litellm = self._library
        start = time.perf_counter()
        self._flush = peers.switch_on(self._name, self._url)
        switched = time.perf_counter()
        if litellm.completion is self._bare.completion:
            raise peers.Skipped("it did not wrap litellm.completion")
        call = self._call(litellm)
        call_start = time.perf_counter()
        call()
        called = time.perf_counter()

        # Few records and a flush tell how often one record carries the prompt's marker.
        self._flush()
        before = settled(self._url)
        for _ in range(20):
            call()
        self._flush()
        self._markers_per_record = settled(self._url).since(before).markers / 20
        burst(call, 10 * BLOCK, self._flush)
        streamed(self._stream(litellm), 5, self._flush)
        return {"switch_on_ms": (switched - start) * 1e3, "first_call_ms": (called - call_start) * 1e3}

    def burst(self) -> dict[str, Any]:
        """Bare, then on."""
        count = self._effort.burst_calls
        bare = burst(self._call(self._bare), count, _nothing)
        before = settled(self._url)
        on = burst(self._call(self._library), count, self._flush)
        return {**added(on, bare), **self._arrived(count, before)}

    def paced(self) -> dict[str, Any]:
        """Bare, then on."""
        count = self._effort.paced_calls
        bare = paced(self._call(self._bare), count, _nothing)
        before = settled(self._url)
        on = paced(self._call(self._library), count, self._flush)
        return {**added(on, bare), **self._arrived(count, before)}

    def stream(self) -> dict[str, Any]:
        """Bare, then on. `all_in`: start and end of the call spread over the chunks of a long stream."""
        count = self._effort.streams
        bare_short, bare_long = streamed(self._stream(self._bare), count, _nothing)
        before = settled(self._url)
        on_short, on_long = streamed(self._stream(self._library), count, self._flush)
        short, long = added(on_short, bare_short), added(on_long, bare_long)
        return {
            "chunk_thread_us": (long["caller_thread_us"] - short["caller_thread_us"]) / (LONG - SHORT),
            "chunk_thread_us_all_in": long["caller_thread_us"] / LONG,
            "chunk_wall_us": (long["caller_wall_us"] - short["caller_wall_us"]) / (LONG - SHORT),
            "chunk_process_cpu_us": long["process_cpu_us"] / LONG,
            **self._arrived(3 * count, before),
        }

    def _call(self, library: Any) -> Callable[[], object]:
        messages = self._messages
        return lambda: library.completion(model=stub.MODEL, messages=messages, temperature=0.2)

    def _stream(self, library: Any) -> Callable[[int], Any]:
        messages = self._messages
        return lambda length: library.completion(model=stub.MODEL, messages=messages, stream=True, max_tokens=length)

    def _arrived(self, sent: int, before: sink.Counts) -> dict[str, float]:
        """Whether everything that was recorded has reached the sink: who drops records works less than it shows."""
        came = settled(self._url).since(before)
        found = {"wire_bytes_per_call": came.wire_bytes / sent}
        if self._markers_per_record:
            found["arrived_share"] = came.markers / self._markers_per_record / sent
        return found


def _nothing() -> None:
    """There is nothing to flush."""


def settled(url: str) -> sink.Counts:
    """The sink's counts once they have stopped moving."""
    deadline = time.monotonic() + SETTLE_S
    counts = sink.counts_at(url)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        later = sink.counts_at(url)
        if later == counts:
            break
        counts = later
    return counts


# -- in the program that compares --------------------------------------------------------------------------------------

ROWS = (
    ("burst: caller's thread, CPU", "burst", "caller_thread_us", "us"),
    ("burst: caller's thread, CPU, p99", "burst", "caller_thread_us_p99", "us"),
    ("burst: caller, wall", "burst", "caller_wall_us", "us"),
    ("burst: caller, wall, p99", "burst", "caller_wall_us_p99", "us"),
    ("burst: whole process, CPU", "burst", "process_cpu_us", "us"),
    ("paced: caller's thread, CPU", "paced", "caller_thread_us", "us"),
    ("paced: caller's thread, CPU, p99", "paced", "caller_thread_us_p99", "us"),
    ("paced: caller, wall", "paced", "caller_wall_us", "us"),
    ("paced: caller, wall, p99", "paced", "caller_wall_us_p99", "us"),
    ("paced: whole process, CPU", "paced", "process_cpu_us", "us"),
    ("per chunk: caller's thread, CPU", "stream", "chunk_thread_us", "us"),
    ("  with start and end of the call", "stream", "chunk_thread_us_all_in", "us"),
    ("per chunk: whole process, CPU", "stream", "chunk_process_cpu_us", "us"),
    ("switching on", "start", "switch_on_ms", "ms"),
    ("first call", "start", "first_call_ms", "ms"),
    ("bytes on the wire, per call", "paced", "wire_bytes_per_call", ""),
    ("arrived, burst (share)", "burst", "arrived_share", ""),
    ("arrived, paced (share)", "paced", "arrived_share", ""),
    ("arrived, streams (share)", "stream", "arrived_share", ""),
)


class Comparison:
    """Runs the contestants and keeps what they measured, by contestant, phase and measure, one figure a round."""

    def __init__(self, is_quick: bool) -> None:
        self._is_quick = is_quick
        self._effort = QUICK if is_quick else FULL
        self._found: dict[str, dict[tuple[str, str], list[float]]] = {}
        self._skipped: dict[str, str] = {}

    def run(self) -> None:
        """Measure everything, print every measurement, then the table."""
        report.emit_machine(BENCHMARK)
        sinks = {name: sink.SinkProcess(marker=stub.MARKER) for name in peers.CONTESTANTS}
        flags = ["--quick"] if self._is_quick else []
        processes: dict[str, peers.ProcessUnderTest] = {}
        try:
            for name, server in sinks.items():
                processes[name] = peers.ProcessUnderTest(__file__, ["--contestant", name, *flags], server.url)
                processes[name].request("prepare")
            for name, process in processes.items():
                self._note(name, process, "prepare")
            for phase in ("start", *PHASES * self._effort.rounds):
                for name, process in processes.items():
                    if name not in self._skipped:
                        process.request(phase)
                        self._note(name, process, phase)
        finally:
            for process in processes.values():
                process.close()
            for server in sinks.values():
                server.close()
        self._emit()
        self._print()

    def _note(self, name: str, process: peers.ProcessUnderTest, phase: str) -> None:
        try:
            answer = process.answer()
        except peers.Skipped as reason:
            self._skipped[name] = str(reason)
            self._found.pop(name, None)
            report.emit(BENCHMARK, peer=name, version=peers.CONTESTANTS[name].version, skipped=str(reason))
            return
        figures = self._found.setdefault(name, {})
        for measure, figure in answer.items():
            figures.setdefault((phase, measure), []).append(figure)

    def _emit(self) -> None:
        for name, figures in self._found.items():
            for (phase, measure), rounds in figures.items():
                report.emit(
                    BENCHMARK,
                    contestant=name,
                    version=peers.CONTESTANTS[name].version,
                    mode=phase,
                    measure=measure,
                    value=round(report.median(rounds), 3),
                    least=round(min(rounds), 3),
                    rounds=[round(each, 3) for each in rounds],
                )

    def _value(self, name: str, phase: str, measure: str) -> float | None:
        rounds = self._found.get(name, {}).get((phase, measure))
        return None if rounds is None else report.median(rounds)

    def _print(self) -> None:
        rows = []
        for label, phase, measure, unit in ROWS:
            ours = self._value(peers.OURS, phase, measure)
            cells = [label]
            for name in self._found:
                value = self._value(name, phase, measure)
                cell = report.shown(value, unit)
                if name != peers.OURS and measure != "arrived_share":
                    cell += f" ({report.times(value, ours)})"
                cells.append(cell)
            rows.append(cells)
        effort = self._effort
        report.print_table(
            f"Added per call, LiteLLM stubbed out, prompt of {PROMPT_LENGTH} characters (in brackets: times ours)",
            ["", *self._found],
            rows,
            [
                f"Medians of {effort.rounds} round(s) of {effort.burst_calls} calls (burst), {effort.paced_calls} calls"
                f" at {PACE}/s (paced), {effort.streams} streams of {LONG} chunks; the bare stub is subtracted.",
                "Who did not deliver everything (last rows) worked less than it shows.",
                *report.skipped_notes(self._skipped),
            ],
        )


def main() -> None:
    """Compare; or, with the hidden options, be the process under test."""
    parser = argparse.ArgumentParser(description="Cost per call, ours against the peers'.")
    parser.add_argument("--quick", action="store_true", help="fewer calls, one round")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--under-test", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant is None:
        Comparison(options.quick).run()
        return
    logging.disable(logging.CRITICAL)  # nobody is charged for writing to a terminal
    measured = Measured(options.contestant, options.url, QUICK if options.quick else FULL)
    peers.answer_requests(
        options.under_test,
        {
            "prepare": measured.prepare,
            "start": measured.start,
            "burst": measured.burst,
            "paced": measured.paced,
            "stream": measured.stream,
        },
    )


if __name__ == "__main__":
    main()
