"""OpenTelemetry's ways in and out: the entry point of `opentelemetry-instrument`."""
