"""From the facts of an ended Call to an Event and its bytes. Pure: no clock, no environment, no thread, no LiteLLM."""
