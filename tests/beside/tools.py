"""The other tools: how each is switched on and off, and what it has recorded.

Used inside the program under test (program.py); a tool's packages are imported when it is switched on. Whatever a tool
sends goes to a collector on loopback or stays in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.server import Reply, Request, Server

PUBLIC_KEY, SECRET_KEY = "pk-lf-test", "sk-lf-test"
OK, ERROR = "ok", "error"


class Record(NamedTuple):
    """One span or invocation of a callback."""

    text: str
    address: str = ""
    """Of a request, where it went."""


class Collector(Server):
    """Takes whatever a tool sends."""

    def answer(self, request: Request) -> Reply:
        return Reply.of({})


class Tool:
    """One tool in this process."""

    can_be_removed = True
    wraps = True
    """Whether it puts wrappers around LiteLLM's functions."""
    puts_back_what_it_found = True
    """Whether the very object that it wrapped is back when it goes."""
    removes_its_own = True
    """Whether it takes away its own wrapper, and not the one that somebody has put around it since."""

    def environment(self, collector: Collector, folder: Path) -> Mapping[str, str]:
        """What has to stand in the environment before anything is imported."""
        return {}

    def switch_on(self) -> None:
        raise NotImplementedError

    def switch_off(self) -> None:
        raise NotImplementedError

    def records(self) -> list[Record]:
        """All that it has recorded so far."""
        raise NotImplementedError


class InMemorySpans(Tool):
    """A tool that makes OpenTelemetry spans; they are kept in memory."""

    def __init__(self) -> None:
        self._exporter: Any = None

    def processor(self) -> Any:
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self._exporter = InMemorySpanExporter()
        return SimpleSpanProcessor(self._exporter)

    def provider(self) -> Any:
        from opentelemetry.sdk.trace import TracerProvider

        provider = TracerProvider()
        provider.add_span_processor(self.processor())
        return provider

    def records(self) -> list[Record]:
        return described(self._exporter.get_finished_spans())


class OpenInference(InMemorySpans):
    """Its instrumentor."""

    def switch_on(self) -> None:
        openinference_instrumentor().instrument(tracer_provider=self.provider())

    def switch_off(self) -> None:
        openinference_instrumentor().uninstrument()


class Logfire(InMemorySpans):
    """`logfire.instrument_litellm()`, which sends nothing away here."""

    def switch_on(self) -> None:
        logfire = import_module("logfire")
        logfire.configure(
            send_to_logfire=False, console=False, additional_span_processors=[self.processor()], inspect_arguments=False
        )
        logfire.instrument_litellm()

    def switch_off(self) -> None:
        # Logfire has no call for this; what it switches on is OpenInference's instrumentor.
        openinference_instrumentor().uninstrument()


class OpenLIT(InMemorySpans):
    """With all its instrumentors, those of openai and httpx among them, as `openlit.init()` has them."""

    can_be_removed = False  # its instrumentor's `uninstrument` does nothing

    def environment(self, collector: Collector, folder: Path) -> Mapping[str, str]:
        # The list of prices would be fetched from the network.
        (folder / "prices.json").write_text("{}")
        return {"OPENLIT_PRICING_JSON": str(folder / "prices.json"), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}

    def switch_on(self) -> None:
        from opentelemetry import _logs, trace
        from opentelemetry.sdk._logs import LoggerProvider

        # It takes the providers that are there. Its own would print to stdout.
        trace.set_tracer_provider(self.provider())
        _logs.set_logger_provider(LoggerProvider())
        import_module("openlit").init(disable_metrics=True)


class DDTrace(Tool):
    """With its integrations of LiteLLM and httpx, and LLM Observability."""

    puts_back_what_it_found = False  # of a method it puts back what `Router.completion` gives, bound to nothing
    removes_its_own = False

    def __init__(self) -> None:
        self._spans: list[Any] = []

    def environment(self, collector: Collector, folder: Path) -> Mapping[str, str]:
        return {
            "DD_TRACE_AGENT_URL": collector.url,
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "DD_CRASHTRACKING_ENABLED": "false",
            "DD_TRACE_STARTUP_LOGS": "false",
        }

    def switch_on(self) -> None:
        trace = import_module("ddtrace.trace")
        spans = self._spans

        def keep(self: object, finished: list[Any]) -> None:
            spans.extend(finished)  # and None: nothing is sent

        trace.tracer.configure(trace_processors=[type("Keep", (trace.TraceFilter,), {"process_trace": keep})()])
        import_module("ddtrace.llmobs").LLMObs.enable(
            ml_app="beside", integrations_enabled=False, agentless_enabled=False
        )
        import_module("ddtrace").patch(litellm=True, httpx=True)

    def switch_off(self) -> None:
        for library in ("litellm", "httpx"):
            import_module(f"ddtrace.contrib.internal.{library}.patch").unpatch()

    def records(self) -> list[Record]:
        # A span is handed on with its whole trace. The Router's streams never end theirs, with us or without.
        names = {span.span_id: span.name for span in self._spans}
        return [
            Record(
                f"{names.get(span.parent_id, '-')} > {span.name} {span.resource} {ERROR if span.error else OK}",
                span.get_tag("http.url") or "",
            )
            for span in self._spans
        ]


class LiteLLMLists(Tool):
    """What stands in LiteLLM's lists of callbacks."""

    wraps = False
    LISTS = (
        "callbacks", "input_callback", "success_callback", "failure_callback", "_async_success_callback",
        "_async_failure_callback", "_async_input_callback", "service_callback",
    )  # fmt: skip

    def __init__(self) -> None:
        self._found: dict[str, list[Any]] = {}
        self._seen: list[Record] = []
        self._lock = threading.Lock()

    def switch_on(self) -> None:
        import litellm

        self._found = {name: list(getattr(litellm, name)) for name in self.LISTS}
        self.register()

    def register(self) -> None:
        raise NotImplementedError

    def switch_off(self) -> None:
        import litellm

        for name, found in self._found.items():
            getattr(litellm, name)[:] = found

    def note(self, what: str, details: Mapping[str, Any]) -> None:
        if what == "success" and details.get("stream") and not details.get("complete_streaming_response"):
            return  # called for chunks, too; for how many of them is a matter of which thread is faster
        with self._lock:
            self._seen.append(Record(f"{what} {details.get('call_type')} {details.get('model')}"))

    def records(self) -> list[Record]:
        with self._lock:
            return list(self._seen)


class CustomLoggerObject(LiteLLMLists):
    """An object of a class of the user's in `litellm.callbacks`."""

    def register(self) -> None:
        import litellm
        from litellm.integrations.custom_logger import CustomLogger

        note = self.note

        class Mine(CustomLogger):  # type: ignore[misc]
            def log_pre_api_call(self, model: str, messages: Any, kwargs: dict[str, Any]) -> None:
                note("pre", kwargs)

            def log_post_api_call(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
                note("post", kwargs)

            def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
                note("success", kwargs)

            def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
                note("failure", kwargs)

            async def async_log_success_event(
                self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
            ) -> None:
                note("async success", kwargs)

            async def async_log_failure_event(
                self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
            ) -> None:
                note("async failure", kwargs)

            async def log_success_fallback_event(
                self, original_model_group: str, kwargs: Any, original_exception: Exception
            ) -> None:
                note("fallback success", kwargs)

        litellm.callbacks.append(Mine())


class Functions(LiteLLMLists):
    """Functions in `litellm.success_callback` and the other lists."""

    def register(self) -> None:
        import litellm

        def before(kwargs: dict[str, Any]) -> None:
            self.note("input", kwargs)

        def success(kwargs: dict[str, Any], answer: object, start: object, end: object) -> None:
            self.note("success", kwargs)

        async def async_success(kwargs: dict[str, Any], answer: object, start: object, end: object) -> None:
            self.note("async success", kwargs)

        def failure(kwargs: dict[str, Any], answer: object, start: object, end: object) -> None:
            self.note("failure", kwargs)

        litellm.input_callback.append(before)
        litellm.success_callback += [success, async_success]
        litellm.failure_callback.append(failure)


class Langfuse(LiteLLMLists):
    """LiteLLM's callback `langfuse_otel`."""

    def __init__(self) -> None:
        super().__init__()
        self._collector: Collector | None = None

    def environment(self, collector: Collector, folder: Path) -> Mapping[str, str]:
        self._collector = collector
        return {
            "LANGFUSE_PUBLIC_KEY": PUBLIC_KEY,
            "LANGFUSE_SECRET_KEY": SECRET_KEY,
            "LANGFUSE_OTEL_HOST": collector.url,
        }

    def register(self) -> None:
        import litellm

        litellm.callbacks.append("langfuse_otel")

    def records(self) -> list[Record]:
        from litellm.integrations.langfuse.langfuse_otel import LangfuseOtelLogger
        from litellm.litellm_core_utils.litellm_logging import _in_memory_loggers
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        for logger in _in_memory_loggers:
            if isinstance(logger, LangfuseOtelLogger):
                for each in logger._tracer_provider_cache.values():  # one for each set of keys
                    each.provider.force_flush()
        assert self._collector is not None
        spans = [
            span
            for request in self._collector.requests
            for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        names = {span.span_id: span.name for span in spans}
        return [
            Record(f"{names.get(span.parent_span_id, '-')} > {span.name} {ERROR if span.status.code == 2 else OK}")
            for span in spans
        ]


def openinference_instrumentor() -> Any:
    return import_module("openinference.instrumentation.litellm").LiteLLMInstrumentor()


def described(spans: Iterable[Any]) -> list[Record]:
    """OpenTelemetry spans: whose child, name, status."""
    names = {span.context.span_id: span.name for span in spans}
    return [
        Record(
            f"{names.get(span.parent.span_id, '?') if span.parent else '-'} > {span.name} {span.status.status_code.name}",
            str(span.attributes.get("url.full") or span.attributes.get("http.url") or ""),
        )
        for span in spans
    ]


TOOLS: Mapping[str, type[Tool]] = {
    "openinference": OpenInference,
    "openlit": OpenLIT,
    "ddtrace": DDTrace,
    "logfire": Logfire,
    "langfuse": Langfuse,
    "custom_logger": CustomLoggerObject,
    "functions": Functions,
}
