"""HoneyHiveInstrumentor: entry point `honeyhive` in the group `opentelemetry_instrumentor`.

`opentelemetry-instrument python app.py` finds it and switches the recording on, before the program runs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from honeyhive_autoinstrument.activation import bootstrap


class HoneyHiveInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Records LiteLLM calls as HoneyHive events; no spans are made."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """What has to be installed for this instrumentor to be used."""
        return ("litellm >= 1.55",)

    def _instrument(self, **kwargs: Any) -> None:
        bootstrap.activate("opentelemetry-instrument")

    def _uninstrument(self, **kwargs: Any) -> None:
        from honeyhive_autoinstrument.activation.runtime import uninstrument

        uninstrument()
