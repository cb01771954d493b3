"""The local store as a person uses it: `honeyhive-events`. Reads what delivery keeps on disk; nothing imports it."""
