"""Who is compared, and how each is switched on the way its documentation says, with everything sent to a loopback sink.

A contestant's `switch_on` runs in a fresh process after `import litellm`, and returns the function that brings out what
is recorded so far. One that is not installed or does not start is reported as skipped, with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

Flush = Callable[[], object]

OURS = "honeyhive"

QUEUE_SIZE = "20000"
"""The peers' span queues are made as long as ours. At their default of 2048 they would drop in a burst what we send."""

# PYTHON*: with PYTHONDONTWRITEBYTECODE inherited, a source that has just changed would be compiled at every start.
FOREIGN_SETTINGS = ("HONEYHIVE_", "HH_", "OTEL_", "OPENLIT_", "DD_", "LITELLM_", "PYTHON")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")


class Skipped(Exception):
    """This contestant cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One library under test."""

    name: str
    distribution: str
    switch_on: Callable[[str], Flush]
    launcher: tuple[str, ...]
    """Its command that runs a program with everything switched on; empty if it has none."""

    @property
    def version(self) -> str | None:
        """The installed version; None if it is not installed."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None


def _switch_on_ours(url: str) -> Flush:
    import honeyhive_autoinstrument

    runtime = honeyhive_autoinstrument.init(api_key="hh_benchmark_key", api_url=url, session_name="benchmark")
    return lambda: runtime.flush(60.0)


def _switch_on_openinference(url: str) -> Flush:
    from openinference.instrumentation.litellm import LiteLLMInstrumentor
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces")))
    LiteLLMInstrumentor().instrument(tracer_provider=provider)
    return lambda: provider.force_flush(60_000)


def _switch_on_openlit(url: str) -> Flush:
    import openlit

    # The price table would be fetched from the network; an empty one in a file keeps it on this machine.
    openlit.init(otlp_endpoint=url, disable_metrics=True, pricing_json=os.environ["OPENLIT_PRICING_JSON"])
    from opentelemetry import _logs, trace

    providers: list[Any] = [trace.get_tracer_provider(), _logs.get_logger_provider()]

    def flush() -> None:
        for provider in providers:
            provider.force_flush(60_000)

    return flush


def _switch_on_ddtrace(url: str) -> Flush:
    # The agent's address is in DD_TRACE_AGENT_URL: ddtrace reads it when it is imported.
    from ddtrace import patch
    from ddtrace.llmobs import LLMObs
    from ddtrace.trace import tracer

    LLMObs.enable(ml_app="benchmark", integrations_enabled=False, agentless_enabled=False)
    patch(litellm=True)

    def flush() -> None:
        LLMObs.flush()
        tracer.flush()

    return flush


CONTESTANTS: Mapping[str, Contestant] = {
    each.name: each
    for each in (
        Contestant(
            name=OURS,
            distribution="honeyhive-autoinstrument",
            switch_on=_switch_on_ours,
            launcher=("honeyhive-instrument",),
        ),
        Contestant(
            name="openinference",
            distribution="openinference-instrumentation-litellm",
            switch_on=_switch_on_openinference,
            launcher=("opentelemetry-instrument",),
        ),
        Contestant(
            name="openlit",
            distribution="openlit",
            switch_on=_switch_on_openlit,
            launcher=("openlit-instrument",),
        ),
        Contestant(
            name="ddtrace",
            distribution="ddtrace",
            switch_on=_switch_on_ddtrace,
            launcher=("ddtrace-run",),
        ),
    )
}


def switch_on(name: str, url: str) -> Flush:
    """Switch a contestant on in this process.

    :raises Skipped: it is not installed, or does not start.
    """
    contestant = CONTESTANTS[name]
    if contestant.version is None:
        raise Skipped(f"{contestant.distribution} is not installed")
    try:
        return contestant.switch_on(url)
    except Exception as error:
        raise Skipped(f"does not start: {type(error).__name__}: {error}") from error


def clean_environment(url: str, home: Path) -> dict[str, str]:
    """The environment of a process under test: nobody's settings but these, no proxy, every exporter on loopback.

    :param home: a temporary folder for what contestants keep on disk.
    """
    prices = home / "prices.json"
    prices.write_text("{}", encoding="utf-8")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN_SETTINGS) and name.lower() not in PROXIES
    }
    return {
        **kept,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HONEYHIVE_HOME": str(home / "honeyhive"),
        "HONEYHIVE_API_URL": url,
        "HONEYHIVE_API_KEY": "hh_benchmark_key",
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_MAX_QUEUE_SIZE": QUEUE_SIZE,
        "OTEL_BLRP_MAX_QUEUE_SIZE": QUEUE_SIZE,
        "OPENLIT_PRICING_JSON": str(prices),
        "OPENLIT_DISABLE_METRICS": "true",
        "DD_TRACE_AGENT_URL": url,
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_CRASHTRACKING_ENABLED": "false",
        "DD_TRACE_STARTUP_LOGS": "false",
    }


class ProcessUnderTest:
    """A benchmark file run again as a fresh process, which measures one phase whenever it is asked to.

    Several of them stay alive side by side and are asked in turns, so that a machine that slows down for a while slows
    all of them down. While it is not asked, a process waits for the next request and does nothing.
    """

    def __init__(self, program: str, arguments: Sequence[str], url: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="benchmark-")
        self._errors = open(Path(self._folder.name) / "stderr", "w+b")  # noqa: SIM115  (closed by close())
        reader, writer = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, program, "--under-test", str(writer), "--url", url, *arguments],
            env=clean_environment(url, Path(self._folder.name)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            pass_fds=(writer,),
            text=True,
        )
        os.close(writer)
        self._answers = open(reader, encoding="utf-8")  # noqa: SIM115

    def ask(self, phase: str) -> dict[str, Any]:
        """Have one phase measured.

        :raises Skipped: it could not be; the text says why.
        """
        self.request(phase)
        return self.answer()

    def request(self, phase: str) -> None:
        """Begin a phase without waiting for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(phase + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # answer() tells why

    def answer(self) -> dict[str, Any]:
        """The answer to the oldest request that has none yet.

        :raises Skipped: it could not be measured; the text says why.
        """
        line = self._answers.readline()
        if not line:
            raise Skipped(f"its process ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "skipped" in answer:
            raise Skipped(answer["skipped"])
        return answer

    def close(self) -> None:
        """End the process; kill it if it does not end by itself."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._errors.close()
        self._folder.cleanup()

    def _last_words(self) -> str:
        self._process.wait(5)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"status {self._process.returncode}"


def answer_requests(pipe: int, phases: Mapping[str, Callable[[], dict[str, Any]]]) -> None:
    """The other side of ProcessUnderTest: measure what is asked for on stdin, answer through the pipe."""
    with open(pipe, "w", encoding="utf-8") as answers:
        for line in sys.stdin:
            try:
                answer = phases[line.strip()]()
            except Skipped as reason:
                answer = {"skipped": str(reason)}
            except Exception as error:
                answer = {"skipped": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    # What contestants do at exit is not measured, and some take seconds for it.
    os._exit(0)
