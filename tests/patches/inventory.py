"""The inventory: what LiteLLM offers to be called, and what becomes of it. `python -m tests.patches.inventory` prints it.

It walks LiteLLM's exports and the Router's methods. A function counts as a call if LiteLLM's `client` decorator is around
it, if it is a coroutine function or has one for a twin, or if it takes a model and any further keywords. Each of them is a
Target, or stands under EXCLUSIONS with a reason; a new one in a new release makes the test fail.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from honeyhive_autoinstrument.events.facts import Operation
from honeyhive_autoinstrument.patches.apply import class_behind, inner_cell_of, served_names
from honeyhive_autoinstrument.patches.targets import ENDPOINTS, TARGETS, Target

EXCLUSIONS: tuple[tuple[str, str], ...] = (
    (
        r"a?(create|get|delete|list)_assistants?|a?(create|get)_thread|a_?add_message|add_message|a?get_messages|a?run_thread(_stream)?",
        "OpenAI's Assistants API, which OpenAI has shut down",
    ),
    (r"a?(create|retrieve|cancel|list)_(batch|batches)", "a job of the provider's over a file; its answers come as a file"),
    (r"a?\w*fine_tuning_jobs?", "training, no inference"),
    (r"a?(create_file|file_\w+)|_?afile_\w+", "files at the provider"),
    (r"a?\w*(container|containers)(_\w+)?", "containers at the provider"),
    (r"a?\w*_skills?", "skills at the provider"),
    (r"a?\w*_agents?|a?list_agent_versions", "agents at the provider"),
    (r"a?\w*_(eval|evals|run|runs)", "OpenAI's Evals: jobs at the provider"),
    (r"a?vector_store_(create|retrieve|list|update|delete)|a?vector_store_file_\w+", "stores at the provider"),
    (r"a?(cancel|delete)_responses|a?list_input_items", "a stored response is managed, no model works"),
    (r"a?(get|delete|cancel)_interaction", "a stored interaction is managed, no model works"),
    (r"a?video_(list|status|content|create_character|get_character)", "a video job is looked after, no model works"),
    (r"video_(edit|extension)|create_interaction", "on the Router: LiteLLM gives a coroutine that answers nothing"),
    (r"_?a?\w*realtime\w*|_aresponses_websocket", "a WebSocket, or what prepares one"),
    (r"a?llm_passthrough_route", "a request handed through as it is, of which LiteLLM knows nothing"),
    (r"a?create_sandbox|adelete_sandbox|arun_code|acode_interpreter_tool", "code is run, no model works"),
    (r"a?ingest", "a document is stored; the embeddings on the way are recorded"),
    (r"acount_tokens", "tokens are counted, nothing is answered"),
    (r"ahealth_check|realtime_health_check", "the calls that it makes are recorded"),
    (r"aresponses_api_with_mcp", "reached through aresponses, and calls it again"),
    (r"config_completion|completion_with_fallbacks|async_completion_with_fallbacks", "its completions are recorded"),
    (r"aguardrail", "a guardrail is asked; the model calls that it makes are recorded"),
    (r"priority_header_update", "sets a header"),
    (
        r"get_optional_params\w*|mock_completion|client|bill_first_round_on_failure|close_litellm_async_clients"
        r"|maybe_run_chat_completion_agentic_loop|get_llm_provider",
        "a helper of LiteLLM's own",
    ),
    (
        r"(async_)?(deployment_callback\w*|callback_filter\w*|get_available\w*|get_healthy\w*|get_fully\w*|pre_routing\w*"
        r"|routing_strategy\w*|function_with\w*|admit_\w*|sync_deployment\w*)|make_call|arefresh_model_info|aapply|recover_stream"
        r"|report_stream_\w+|retry_stream|select|set_response_headers|outcome_callbacks|stream_policy|call|io_token_usage\w*"
        r"|discard\w*|increment_\w+|failure_exits|cooldown_event\w*|repin_after_success|reset\w*|async_\w+",
        "the Router's own steps",
    ),
)  # fmt: skip
"""Patterns of whole names, and why these are not recorded."""


@dataclass(frozen=True)
class Entry:
    """A call function of LiteLLM's, and what becomes of it."""

    name: str
    """`completion`, `google_genai.generate_content`, `Router.acompletion`."""
    target: Target | None
    reason: str = ""
    """Why there is no Target."""

    @property
    def event_type(self) -> str:
        if self.target is None:
            return ""
        return "chain" if self.target.is_chain else "tool" if self.target.is_tool else "model"


def functions() -> list[str]:
    """Names of the call functions that `litellm` exports."""
    exported = {
        name: value
        for name, value in vars(litellm).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__.startswith("litellm")
    }
    return sorted(name for name, value in exported.items() if is_call(name, value, exported))


def is_call(name: str, function: object, exported: dict[str, object]) -> bool:
    if inner_cell_of(function) is not None or inspect.iscoroutinefunction(function):
        return True
    if f"a{name}" in exported or (name.startswith("a") and name[1:] in exported):
        return True
    parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    return "model" in parameters and any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def methods() -> list[str]:
    """Names of the Router's call methods: its coroutine methods, those with the name of a function, those that it serves."""
    router = litellm.Router(model_list=[])
    core = class_behind(litellm.Router)
    calls = set(functions())
    own = {
        name
        for name, value in ((name, inspect.getattr_static(core, name)) for name in dir(core))
        if not name.startswith("_") and inspect.isfunction(getattr(value, "__wrapped__", value))
        and (inspect.iscoroutinefunction(value) or name in calls)
    }  # fmt: skip
    listed = vars(sys.modules[ENDPOINTS[0]])[ENDPOINTS[1]]() if ENDPOINTS[0] in sys.modules else vars(made_by(router))
    made = {name for name in listed if name in calls or (re.fullmatch(r"a?\w+", name) and name in served_names(core))}
    return sorted(name for name in own | made if callable(getattr(router, name, None)) and not name.startswith("_"))


def made_by(router: object) -> object:
    """The object that has the methods: in 1.109 the one behind the facade."""
    return vars(router).get("_core", router)


def inventory() -> Iterator[Entry]:
    """Every call function and Router method, those of LiteLLM's sub-packages that have Targets, and what becomes of them."""
    targets = {target.name: target for target in TARGETS if target.owner is not None}
    for target in TARGETS:
        if target.owner is None and not target.is_inner:
            function = vars(sys.modules.get(target.module, litellm)).get(target.name)
            if function is not None:
                targets[target.event_name.removeprefix("litellm.")] = target
                targets.update({name: target for name in functions() if vars(litellm)[name] is function})
    names = {*functions(), *(f"Router.{method}" for method in methods()), *targets}
    for name in sorted(names):
        if name.startswith("Router.") and name in targets and name.removeprefix("Router.") not in methods():
            continue
        if name in targets:
            yield Entry(name, targets[name])
        else:
            yield Entry(name, None, reason_of(name.removeprefix("Router.")) or "")


def reason_of(name: str) -> str | None:
    return next((reason for pattern, reason in EXCLUSIONS if re.fullmatch(pattern, name)), None)


def table() -> str:
    """The README's tables: what is recorded, by operation, then what is not and why."""
    entries = list(inventory())
    lines = ["| operation | functions | methods of `Router` (each a `chain`) |", "|---|---|---|"]
    for operation in Operation:
        found = [entry for entry in entries if entry.target is not None and entry.target.operation is operation]
        ours = [entry for entry in found if not entry.name.startswith("Router.")]
        kinds = {entry.name: entry.event_type for entry in ours}
        marked = [f"`{name}`" + ("" if kinds[name] == "model" else f" ({kinds[name]})") for name in kinds]
        routed = [f"`{entry.name.removeprefix('Router.')}`" for entry in found if entry not in ours]
        lines.append(f"| {operation.value} | {', '.join(marked)} | {', '.join(routed)} |")
    lines += ["", "| not recorded | why |", "|---|---|"]
    reasons: dict[str, set[str]] = {}
    for entry in entries:
        if entry.target is None and entry.reason not in INTERNAL:
            reasons.setdefault(entry.reason, set()).add(entry.name.removeprefix("Router."))
    for reason, names in reasons.items():
        shown = sorted(name for name in names if not (name.startswith("a") and name[1:] in names))
        lines.append(f"| {', '.join(f'`{name}`' for name in shown)} | {reason} |")
    return "\n".join(lines)


INTERNAL = frozenset({"a helper of LiteLLM's own", "the Router's own steps", "sets a header"})
"""Reasons that say nothing to a reader."""


if __name__ == "__main__":
    if "--readme" in sys.argv:
        readme = Path(__file__).parents[2] / "README.md"
        before, _, rest = readme.read_text().partition("<!-- inventory -->\n")
        readme.write_text(f"{before}<!-- inventory -->\n{table()}\n<!-- end -->{rest.partition('<!-- end -->')[2]}")
    for each in inventory():
        print(f"{each.event_type or 'not recorded':12}  {each.name:55} {each.reason}")
