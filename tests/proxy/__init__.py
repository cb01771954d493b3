"""LiteLLM's own proxy, a real process under the launcher: what its requests look like as events."""
