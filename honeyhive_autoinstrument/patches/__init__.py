"""Wraps LiteLLM's functions and Router methods. Knows LiteLLM's names and nothing of events. Never imports LiteLLM."""
