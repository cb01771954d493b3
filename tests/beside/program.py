"""A program with us, another tool, both or none: switches on and off as told, asks LiteLLM in between, and writes what
the program saw, what we recorded and what the other tool did.

`program.py REPORT TOOL STEP...`, with the steps `+ours`, `-ours`, `+theirs`, `-theirs` and `ask`. TOOL is "-" for none.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.beside.tools import TOOLS, Collector, Record, Tool
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import KEY, Behaviour, FakeProvider

MESSAGES = [{"role": "user", "content": "Say hello."}]
CHAT = "openai/gpt-4o-mini"
BAD = "openai/bad"
FALLBACK = [{"group": ["other"]}]
PHASE = "-- asking --"
"""Printed before each round of calls."""
VOLATILE = ("id", "created", "system_fingerprint", "provider_specific_fields")
OWN_NAMES = ("completion", "acompletion", "embedding", "aembedding", "text_completion", "get_llm_provider")


class Program:
    def __init__(self, tool: Tool | None, provider: FakeProvider, honeyhive: FakeHoneyHive) -> None:
        self.tool = tool
        self.provider = provider
        self.honeyhive = honeyhive
        self._events: set[str] = set()
        self._records = 0

    def take(self, step: str) -> dict[str, Any] | None:
        """One step; what came of it, if it was to ask."""
        match step:
            case "+ours":
                import honeyhive_autoinstrument

                honeyhive_autoinstrument.init(
                    api_key=self.honeyhive.key, api_url=self.honeyhive.url, session_name="beside", linger=0.05
                )
            case "-ours":
                import honeyhive_autoinstrument

                honeyhive_autoinstrument.uninstrument()
            case "+theirs":
                assert self.tool is not None
                self.tool.switch_on()
            case "-theirs":
                assert self.tool is not None
                self.tool.switch_off()
            case "ask":
                return self.ask()
        return None

    def ask(self) -> dict[str, Any]:
        """Ask LiteLLM for everything, and tell what each side has of it."""
        import litellm

        print(PHASE)
        before = len(self.provider.calls)
        litellm.suppress_debug_info = False  # the first Router of a process sets it
        # Each in a context of its own: a span that a tool leaves open would be above all that comes later.
        seen = {name: contextvars.copy_context().run(seen_of, call) for name, call in self.calls().items()}
        seen.update(asyncio.run(self.async_answers()))
        wait_for_callbacks()
        events = self.new_events()
        records = self.new_records()
        return {
            "seen": seen,
            "requests": sorted(call["model"] for call in self.provider.calls[before:]),
            "events": events,
            "records": sorted(record.text for record in records if not self._is_ours(record)),
            "uploads": sum(map(self._is_ours, records)),
            "functions": functions(),
        }

    def calls(self) -> dict[str, Callable[[], Any]]:
        import litellm

        ours = {"api_base": self.provider.base, "api_key": KEY, "max_retries": 0}
        return {
            "mocked": lambda: litellm.completion(model="gpt-4o", messages=MESSAGES, mock_response="mocked"),
            "completion": lambda: litellm.completion(CHAT, MESSAGES, **ours),
            "stream": lambda: litellm.completion(
                model=CHAT, messages=MESSAGES, stream=True, stream_options={"include_usage": True}, **ours
            ),
            "failure": lambda: litellm.completion(model=BAD, messages=MESSAGES, **ours),
            "embedding": lambda: litellm.embedding(
                model="openai/text-embedding-3-small", input=["red", "green"], **ours
            ),
            "router": lambda: self.router().completion(model="group", messages=MESSAGES),
            "router stream": lambda: self.router().completion(model="group", messages=MESSAGES, stream=True),
        }

    async def async_answers(self) -> dict[str, Any]:
        import litellm
        from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

        ours = {"api_base": self.provider.base, "api_key": KEY, "max_retries": 0}
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "acompletion": lambda: litellm.acompletion(CHAT, MESSAGES, **ours),
            "async stream": lambda: litellm.acompletion(model=CHAT, messages=MESSAGES, stream=True, **ours),
            "async failure": lambda: litellm.acompletion(model=BAD, messages=MESSAGES, **ours),
            "aembedding": lambda: litellm.aembedding(
                model="openai/text-embedding-3-small", input=["red", "green"], **ours
            ),
            "async router": lambda: self.router().acompletion(model="group", messages=MESSAGES),
            "async router stream": lambda: self.router().acompletion(model="group", messages=MESSAGES, stream=True),
        }
        seen = {name: await asyncio.create_task(async_seen_of(call)) for name, call in calls.items()}
        await GLOBAL_LOGGING_WORKER.flush()
        return seen

    def router(self) -> Any:
        """A Router whose first group fails."""
        import litellm

        return litellm.Router(
            model_list=[
                {
                    "model_name": group,
                    "litellm_params": {
                        "model": model,
                        "api_base": self.provider.base,
                        "api_key": KEY,
                        "max_retries": 0,
                    },
                    "model_info": {"id": f"deployment-{group}"},
                }
                for group, model in (("group", BAD), ("other", CHAT))
            ],
            fallbacks=FALLBACK,
            num_retries=0,
        )

    def new_events(self) -> list[dict[str, Any]]:
        """Our events since the last time, without what differs from run to run."""
        import honeyhive_autoinstrument

        assert honeyhive_autoinstrument.flush(20)
        assert self.honeyhive.problems == []
        events = {event["event_id"]: event for event in self.honeyhive.events if event["event_id"] not in self._events}
        self._events.update(events)
        return [event_without_chance(event, events) for event in events.values()]

    def new_records(self) -> list[Record]:
        """What the other tool has recorded since the last time."""
        records = [] if self.tool is None else self.tool.records()
        new = records[self._records :]
        self._records = len(records)
        return new

    def _is_ours(self, record: Record) -> bool:
        """Whether it tells of a request that is us sending events."""
        return record.address.startswith(self.honeyhive.url)


def seen_of(call: Callable[[], Any]) -> dict[str, Any]:
    """What the application sees of a call: a stream is read to its end."""
    try:
        result = call()
        if not hasattr(type(result), "__next__"):
            return answer_of(result)
        return stream_of(result, list(result))
    except Exception as error:
        return error_of(error)


async def async_seen_of(call: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    try:
        result = await call()
        if not hasattr(type(result), "__anext__"):
            return answer_of(result)
        return stream_of(result, [chunk async for chunk in result])
    except Exception as error:
        return error_of(error)


def answer_of(result: Any) -> dict[str, Any]:
    print(type(result).__name__)
    return {
        "type": type_of(result),
        "is": classes_of(result),
        "value": without_chance(result.model_dump()),
        "hidden": sorted(result._hidden_params),
    }


def stream_of(stream: Any, chunks: list[Any]) -> dict[str, Any]:
    print("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
    return {
        "is": classes_of(stream),
        "chunks": [[type_of(chunk), without_chance(chunk.model_dump())] for chunk in chunks],
    }


def error_of(error: Exception) -> dict[str, Any]:
    print(type(error).__name__, error)
    return {
        "error": type_of(error),
        "is": classes_of(error),
        "text": str(error),
        "status": getattr(error, "status_code", None),
        "cause": type_of(error.__cause__),
    }


def classes_of(value: Any) -> list[str]:
    """The classes that `isinstance` says it is of; a stand-in's type is not among them, what it stands for is."""
    return [name_of(kind) for kind in value.__class__.__mro__ if isinstance(value, kind)]


def name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def type_of(value: Any) -> str:
    return name_of(type(value))


def without_chance(value: Any) -> Any:
    """A value without ids and times."""
    if isinstance(value, dict):
        return {str(key): without_chance(each) for key, each in value.items() if key not in VOLATILE}
    if isinstance(value, list | tuple):
        return [without_chance(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def event_without_chance(event: dict[str, Any], events: dict[str, dict[str, Any]]) -> dict[str, Any]:
    path = [event["event_name"]]
    above = events.get(event["parent_id"])
    while above is not None:
        path.insert(0, above["event_name"])
        above = events.get(above["parent_id"])
    return {
        "path": path,
        "type": event["event_type"],
        "error": event["error"],
        "inputs": event["inputs"],
        "outputs": event["outputs"],
        # Where another tool's span is around the call, we name it.
        "metadata": sorted(event["metadata"].keys() - {"trace_id", "span_id"}),
        "tokens": {name: value for name, value in event["metadata"].items() if name.endswith("_tokens")},
    }


def wait_for_callbacks() -> None:
    """Wait until LiteLLM's threads have run the callbacks of all calls so far.

    Each thread takes one of these tasks only after what it took before, and is held in it until all have one.
    """
    from litellm.litellm_core_utils.thread_pool_executor import MAX_THREADS, executor

    everybody = threading.Barrier(MAX_THREADS + 1)
    for _ in range(MAX_THREADS):
        executor.submit(everybody.wait, 60)
    everybody.wait(60)


def functions() -> dict[str, list[str]]:
    """What stands behind LiteLLM's names, from the outermost wrapper to the function."""
    import litellm

    found = {f"litellm.{name}": getattr(litellm, name) for name in OWN_NAMES}
    found.update({f"Router.{name}": getattr(litellm.Router, name) for name in OWN_NAMES[:2]})
    return {name: layers_of(function) for name, function in found.items()}


def layers_of(function: Any) -> list[str]:
    layers = []
    while function is not None:
        layers.append(f"{type_of(function)} {getattr(function, '__module__', '')}")
        function = getattr(function, "__wrapped__", None)
    return layers


def main() -> None:
    report, name, *steps = sys.argv[1:]
    tool = None if name == "-" else TOOLS[name]()
    provider, honeyhive, collector = FakeProvider(), FakeHoneyHive(), Collector()
    for server in (provider, honeyhive, collector):
        server.start()  # and never stopped: at the end of the process everybody still wants to send something
    provider.always("bad", Behaviour(status=400, message="not like this"))
    with tempfile.TemporaryDirectory() as folder:
        if tool is not None:
            os.environ.update(tool.environment(collector, Path(folder)))
        program = Program(tool, provider, honeyhive)
        phases = [phase for phase in map(program.take, steps) if phase is not None]
    Path(report).write_text(json.dumps(phases))


if __name__ == "__main__":
    main()
