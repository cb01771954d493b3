"""Other instrumentations of LiteLLM in this process, and whether their spans go to HoneyHive, too: calls would show twice.

Only reads what others have loaded; imports nothing of theirs. On a worker thread, now and then.

Sources: `BaseInstrumentor` of opentelemetry-instrumentation (`_instance`, `_is_instrumented_by_opentelemetry`), which
OpenInference
0.1.51 and OpenLIT 1.45 derive from; `_active_span_processor` of opentelemetry-sdk's TracerProvider, `span_exporter` of its
processors, `_endpoint` of the OTLP exporters (1.20 to 1.40).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

INSTRUMENTORS = {
    "OpenInference": ("openinference.instrumentation.litellm", "LiteLLMInstrumentor"),
    "OpenLIT": ("openlit.instrumentation.litellm", "LiteLLMInstrumentor"),
}
HOME = "honeyhive"
"""In the host of every server of HoneyHive's own."""

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "HH_OTLP_ENDPOINT")


def double_recorders(api_url: str, environ: Mapping[str, str]) -> list[str]:
    """Names of the instrumentations that are active and whose spans HoneyHive gets, too."""
    active = [name for name in INSTRUMENTORS if is_active(name)]
    return active if active and any(leads_home(each, api_url) for each in endpoints(environ)) else []


def is_active(name: str) -> bool:
    """Whether an instrumentation has wrapped LiteLLM in this process."""
    module, attribute = INSTRUMENTORS[name]
    kind = getattr(sys.modules.get(module), attribute, None)
    instance = getattr(kind, "_instance", None)
    return getattr(instance, "_is_instrumented_by_opentelemetry", False) is True


def endpoints(environ: Mapping[str, str]) -> Iterator[str]:
    """Where spans of this process go: exporters of the active provider, those of HoneyHive's own tracers, the
    environment."""
    yield from (environ[name] for name in ENDPOINTS if environ.get(name))
    for provider in _providers():
        processor = getattr(provider, "_active_span_processor", None)
        for each in list(getattr(processor, "_span_processors", ()) or ()):
            exporter = getattr(each, "span_exporter", None) or getattr(each, "otlp_exporter", None)
            endpoint = getattr(exporter, "_endpoint", None)
            if isinstance(endpoint, str):
                yield endpoint
    if _tracers():
        yield f"https://{HOME}"


def leads_home(endpoint: str, api_url: str) -> bool:
    """Whether spans that go there reach HoneyHive."""
    host = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").hostname or ""
    return bool(host) and (HOME in host or host == urlsplit(api_url).hostname)


def _providers() -> Iterator[Any]:
    api = sys.modules.get("opentelemetry.trace")
    provider = getattr(api, "_TRACER_PROVIDER", None)  # asking for it would make one
    if provider is not None:
        yield provider


def _tracers() -> list[Any]:
    registry = sys.modules.get("honeyhive.tracer.registry")
    return list(registry.get_all_tracers()) if registry is not None else []
