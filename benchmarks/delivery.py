"""How fast Events leave one process: ours against a bare httpx loop that posts the same bodies ready-made.

The bare loop is what no delivery built on httpx can beat by much: no queue, no threads, one connection, batches that
were joined before the clock started. "Delivery only" drives the Uploader and its HttpSink with ready-made Records;
"whole way" is `init()` and stubbed `litellm.completion` calls, so capture, building, redaction and encoding are in it.
All three take turns in one process. Submitting is held back so that the queue never fills, the ledger must show that
nothing was dropped, and the sink must have counted every Event; otherwise the figure is not given.

    python benchmarks/delivery.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import peers
import report
import sink
import stub

BENCHMARK = "delivery"

EVENT_BYTES = 2048
BATCH = 100
IN_FLIGHT = 4000
"""Events submitted and not settled, at most: well below the share of the queue from which on events go to disk."""
CHECK_EVERY = 200
"""Calls between two looks at the ledger."""
DISTINCT = 2000
"""Ready-made Events, sent again and again."""
MARKER = '"event_id":"'
"""Once in every Event; the sink counts it."""
KEY = "hh_benchmark_key"
SESSION_ID = "11111111-1111-4111-8111-111111111111"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    events: int
    whole_way_events: int


FULL = Effort(rounds=3, events=40_000, whole_way_events=20_000)
QUICK = Effort(rounds=1, events=20_000, whole_way_events=8_000)

BARE, DELIVERY_ONLY, WHOLE_WAY = "bare httpx loop", "delivery only", "whole way"

# -- in the process under test -----------------------------------------------------------------------------------------


class Measured:
    """All three ways, in this process."""

    def __init__(self, url: str, effort: Effort) -> None:
        self._url = url
        self._effort = effort
        self._bodies = [event_body(number) for number in range(DISTINCT)]
        self._prompt_length = EVENT_BYTES // 2

    def bare(self) -> dict[str, Any]:
        """The loop to compare with: ready-made bodies, one after the other."""
        import httpx

        batches = [
            b'{"events":[' + b",".join(self._bodies[at : at + BATCH]) + b"]}" for at in range(0, DISTINCT, BATCH)
        ]
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        with httpx.Client(base_url=self._url, headers=headers) as client:

            def send(count: int) -> None:
                for number in range(count // BATCH):
                    client.post("/v1/events/batch", content=batches[number % len(batches)]).raise_for_status()

            send(10 * BATCH)
            return self._timed(send, self._effort.events)

    def delivery_only(self) -> dict[str, Any]:
        """Uploader and HttpSink, fed with Records that need no work."""
        from honeyhive_autoinstrument.config import Config
        from honeyhive_autoinstrument.delivery.http import HttpSink
        from honeyhive_autoinstrument.delivery.sink import Record
        from honeyhive_autoinstrument.delivery.uploader import Limits, Uploader

        config = Config()
        session = json.dumps({"session_id": SESSION_ID, "session_name": BENCHMARK}).encode()
        records = [
            Record(id=str(UUID(int=number)), body=body, session_id=SESSION_ID, session_body=session)
            for number, body in enumerate(self._bodies)
        ]
        uploader: Uploader[Record] = Uploader(
            encode=lambda record: record,
            size_of=lambda record: len(record.body),
            sink=HttpSink(url=self._url, api_key=KEY, timeout_s=config.timeout),
            spool=None,
            limits=Limits.of(config),
        )

        def send(count: int) -> None:
            for number in range(count):
                uploader.submit(records[number % DISTINCT])
                if number % CHECK_EVERY == 0:
                    wait_for_room(uploader.stats)
            uploader.flush(60.0)

        send(10 * BATCH)
        before = uploader.stats()
        figures = self._timed(send, self._effort.events)
        check_ledger(before, uploader.stats(), self._effort.events)
        uploader.close(5.0)
        return figures

    def prepare_whole_way(self) -> dict[str, Any]:
        """Import LiteLLM, stub it, switch on; then find the prompt that makes Events of the wanted size."""
        import litellm

        import honeyhive_autoinstrument

        stub.install()
        self._library = litellm
        self._runtime = honeyhive_autoinstrument.init(api_key=KEY, api_url=self._url, session_name=BENCHMARK)
        self._call(10 * BATCH)
        before = sink.counts_at(self._url)
        self._call(10 * BATCH)
        came = sink.counts_at(self._url).since(before)
        self._prompt_length += EVENT_BYTES - came.body_bytes // (10 * BATCH)
        return {"prompt_length": self._prompt_length}

    def whole_way(self) -> dict[str, Any]:
        """Stubbed calls, from the first one to the end of the flush."""
        before = self._runtime.stats()
        figures = self._timed(self._call, self._effort.whole_way_events)
        after = self._runtime.stats()
        if after["faults"]:
            raise peers.Skipped(f"the product counted faults: {after['faults']}")
        check_ledger(before, after, self._effort.whole_way_events)
        return figures

    def _call(self, count: int) -> None:
        completion = self._library.completion
        messages = stub.prompt_of(self._prompt_length)
        for number in range(count):
            completion(model=stub.MODEL, messages=messages, temperature=0.2)
            if number % CHECK_EVERY == 0:
                wait_for_room(self._runtime.stats)
        self._runtime.flush(60.0)

    def _timed(self, send: Callable[[int], None], count: int) -> dict[str, Any]:
        before = sink.counts_at(self._url)
        start, cpu_start = time.perf_counter(), time.process_time()
        send(count)
        took_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        came = sink.counts_at(self._url).since(before)
        if came.markers != count:
            raise peers.Skipped(f"{count} events were sent, {came.markers} arrived")
        return {
            "events_per_s": count / took_s,
            "cpu_us_per_event": cpu_s / count * 1e6,
            "wire_bytes_per_event": came.wire_bytes / count,
            "events_per_request": count / came.requests,
            "events_sent": count,
            "events_arrived": came.markers,
        }


def event_body(number: int) -> bytes:
    """An encoded Event of EVENT_BYTES bytes, in the form that HoneyHive takes."""
    event = {
        "event_id": str(UUID(int=number)),
        "session_id": SESSION_ID,
        "parent_id": SESSION_ID,
        "event_type": "model",
        "event_name": "litellm.completion",
        "source": "production",
        "start_time": 1_760_000_000_000.0 + number,
        "end_time": 1_760_000_000_250.0 + number,
        "duration": 250.0,
        "config": {"model": stub.MODEL, "provider": "openai", "temperature": 0.2},
        "inputs": {"chat_history": stub.prompt_of(1)},
        "outputs": {"role": "assistant", "content": stub.ANSWER, "finish_reason": "stop"},
        "error": None,
        "metadata": {"prompt_tokens": 250, "completion_tokens": 50, "total_tokens": 300},
        "user_properties": {},
    }
    room = EVENT_BYTES - len(dumped(event)) + 1
    event["inputs"] = {"chat_history": stub.prompt_of(room)}
    return dumped(event)


def dumped(event: dict[str, Any]) -> bytes:
    """JSON without spaces, as it goes over the wire."""
    return json.dumps(event, separators=(",", ":")).encode()


def wait_for_room(stats: Callable[[], dict[str, Any]]) -> None:
    """Hold the feeding back until fewer than IN_FLIGHT Events wait."""
    while stats()["pending"] > IN_FLIGHT:
        time.sleep(0.002)


def check_ledger(before: dict[str, Any], after: dict[str, Any], count: int) -> None:
    """Everything that was created has been sent.

    :raises Skipped: it was not, so that the figure would mean nothing.
    """
    lost = {name: after[name] for name in ("pending", "spooled", "rejected", "dropped") if after[name]}
    if lost or after["sent"] - before["sent"] != count:
        raise peers.Skipped(f"{count} events: {after['sent'] - before['sent']} sent, and {lost}")


# -- in the program that compares --------------------------------------------------------------------------------------

WAYS = {BARE: "bare", DELIVERY_ONLY: "delivery_only", WHOLE_WAY: "whole_way"}


def compare(is_quick: bool) -> None:
    """Run the three ways in turns, print every measurement, then the table."""
    report.emit_machine(BENCHMARK)
    effort = QUICK if is_quick else FULL
    found: dict[str, list[dict[str, Any]]] = {}
    skipped: dict[str, str] = {}
    with sink.SinkProcess(marker=MARKER) as server:
        process = peers.ProcessUnderTest(__file__, ["--quick"] if is_quick else [], server.url)
        try:
            try:
                # Before LiteLLM is imported: its half a million objects make every garbage collection dearer.
                for _ in range(effort.rounds):
                    for way in (BARE, DELIVERY_ONLY):
                        found.setdefault(way, []).append(process.ask(WAYS[way]))
                process.ask("prepare_whole_way")
                for _ in range(effort.rounds):
                    for way in (BARE, WHOLE_WAY):
                        found.setdefault(way, []).append(process.ask(WAYS[way]))
            except peers.Skipped as reason:
                skipped[way] = str(reason)
                report.emit(BENCHMARK, peer=way, skipped=str(reason))
        finally:
            process.close()
    rates = {way: report.median([each["events_per_s"] for each in rounds]) for way, rounds in found.items()}
    for way, rounds in found.items():
        for measure in rounds[0]:
            values = [each[measure] for each in rounds]
            report.emit(
                BENCHMARK,
                contestant=way,
                measure=measure,
                value=round(report.median(values), 2),
                rounds=[round(each, 2) for each in values],
            )
    ratios = {DELIVERY_ONLY: ratio_to_bare(found, DELIVERY_ONLY, effort.rounds, is_late=False)}
    ratios[WHOLE_WAY] = ratio_to_bare(found, WHOLE_WAY, effort.rounds, is_late=True)
    for way, ratio in ratios.items():
        if ratio is not None:
            report.emit(BENCHMARK, contestant=way, measure="ratio_to_bare", value=round(ratio, 3))

    def cell(way: str, measure: str) -> str:
        return report.shown(report.median([each[measure] for each in found[way]]))

    report.print_table(
        f"Delivery from one process to a sink on loopback, events of about {EVENT_BYTES} bytes, batches of {BATCH}",
        ["", "events/s", "of the bare loop", "CPU us/event", "bytes/event", "events/request", "arrived"],
        [
            [
                way,
                report.shown(rates[way]),
                report.times(ratios.get(way, 1.0), 1.0),
                cell(way, "cpu_us_per_event"),
                cell(way, "wire_bytes_per_event"),
                cell(way, "events_per_request"),
                f"{sum(each['events_arrived'] for each in rounds):,} of "
                f"{sum(each['events_sent'] for each in rounds):,}",
            ]
            for way, rounds in found.items()
        ],
        [
            "Ratio: median of each round's rate over that of the bare loop right before it.",
            *report.skipped_notes(skipped),
        ],
    )


def ratio_to_bare(found: dict[str, list[dict[str, Any]]], way: str, rounds: int, *, is_late: bool) -> float | None:
    """Rate over the bare loop's in the same round; the bare loop ran once for each of the other two ways."""
    if way not in found:
        return None
    bare = found[BARE][rounds:] if is_late else found[BARE][:rounds]
    return report.median(
        [own["events_per_s"] / base["events_per_s"] for own, base in zip(found[way], bare, strict=False)]
    )


def main() -> None:
    """Compare; or, with the hidden options, be the process under test."""
    parser = argparse.ArgumentParser(description="Delivery, ours against a bare httpx loop.")
    parser.add_argument("--quick", action="store_true", help="fewer events, one round")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--under-test", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.under_test is None:
        compare(options.quick)
        return
    logging.disable(logging.CRITICAL)
    measured = Measured(options.url, QUICK if options.quick else FULL)
    phases = {name: getattr(measured, name) for name in ("bare", "delivery_only", "prepare_whole_way", "whole_way")}
    peers.answer_requests(options.under_test, phases)


if __name__ == "__main__":
    main()
