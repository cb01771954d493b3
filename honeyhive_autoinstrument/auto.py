"""`import honeyhive_autoinstrument.auto` switches the recording on at once, in any program, before or after LiteLLM."""

from honeyhive_autoinstrument.activation.bootstrap import activate_on_import

activate_on_import()
