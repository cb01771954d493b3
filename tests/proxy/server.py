"""A LiteLLM proxy process under the launcher, between FakeProvider and FakeHoneyHive, and the trees of its requests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

from tests.conftest import BIN, FAULT_MARK, wait_until
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import KEY as PROVIDER_KEY
from tests.fakes.provider import Behaviour, FakeProvider
from tests.fakes.server import free_port

HERE = Path(__file__).parent
READY_WITHIN_S = 90.0
"""Importing LiteLLM's proxy takes 5 to 20 s of a processor, for each worker."""
ENDED_WITHIN_S = 30.0
ARRIVED_WITHIN_S = 20.0

# What custom_auth.py knows; it runs in the proxy's process, where this package is not on the path.
VIRTUAL_KEY = "sk-virtual-0123456789abcdef"
TEAMLESS_KEY = "sk-teamless-0123456789abcdef"
OPAQUE_KEY = "opaque-virtual-key-0123456789abcdef"
KEYS = (VIRTUAL_KEY, TEAMLESS_KEY, OPAQUE_KEY)
MASTER_KEY = "sk-3f9a7c51e8b24d06a1f7c2958be0d34e6b8a90f1d2c3e4b5"

CALL_ID = "x-litellm-call-id"

Event = dict[str, Any]


def configuration(provider: FakeProvider) -> dict[str, Any]:
    """Groups by what they are for. `shaky` fails and falls back to `steady`; `doomed` fails with nothing to fall back to."""

    def deployment(group: str, model: str, base: str = provider.base) -> dict[str, Any]:
        return {
            "model_name": group,
            "litellm_params": {"model": model, "api_base": base, "api_key": PROVIDER_KEY, "max_retries": 0},
            "model_info": {"id": f"{group}-1"},
        }

    return {
        "model_list": [
            deployment("chat", "openai/gpt-4o-mini"),
            deployment("shaky", "openai/shaky"),
            deployment("steady", "openai/steady"),
            deployment("flaky", "openai/flaky"),
            deployment("doomed", "openai/doomed"),
            deployment("held", "openai/held"),
            deployment("vectors", "openai/text-embedding-3-small"),
            deployment("pictures", "openai/gpt-image-1"),
            deployment("claude", "anthropic/claude-sonnet-4-5", provider.url),
        ],
        "router_settings": {
            "num_retries": 0,
            "retry_after": 0,
            "disable_cooldowns": True,  # else one test's failures would be another test's cooldown
            "fallbacks": [{"shaky": ["steady"]}],
        },
        # Even with custom_auth the proxy does not start without a master key that is hard to guess.
        "general_settings": {"custom_auth": "custom_auth.user_api_key_auth", "master_key": MASTER_KEY},
    }


@dataclass
class Tree:
    """The events of one request: `litellm.proxy`, the Router's chain, its attempts by start time."""

    root: Event
    chain: Event
    attempts: list[Event]
    session: dict[str, Any]
    """The row that FakeHoneyHive keeps of the session."""

    @property
    def events(self) -> list[Event]:
        return [self.root, self.chain, *self.attempts]

    @property
    def attempt(self) -> Event:
        (attempt,) = self.attempts
        return attempt


@dataclass
class Proxy:
    """A running proxy, and what was asked of it."""

    url: str
    provider: FakeProvider
    honeyhive: FakeHoneyHive
    log: Path
    process: subprocess.Popen[bytes]
    asked: list[str] = field(default_factory=list)
    """Call ids of the requests that have to be events."""

    def openai(self, key: str = VIRTUAL_KEY) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)

    def http(self, key: str = VIRTUAL_KEY) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=30)

    def post(self, path: str, body: dict[str, Any], *, key: str = VIRTUAL_KEY, **headers: str) -> httpx.Response:
        """Ask, and read the answer to its end; `_` in a header's name stands for `-`."""
        with self.http(key) as client:
            return client.post(path, json=body, headers={name.replace("_", "-"): v for name, v in headers.items()})

    def tree(self, answer: Any, attempts: int = 1) -> Tree:
        """The events of a request, by what the client was answered; waits until there are so many of them."""
        call_id = answer if isinstance(answer, str) else answer.headers[CALL_ID]
        if call_id not in self.asked:
            self.asked.append(call_id)
        return tree_of(self.honeyhive, call_id, attempts)

    def stop(self) -> int:
        """Ask it to end, as a supervisor does, and wait until it has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ENDED_WITHIN_S)


def tree_of(honeyhive: FakeHoneyHive, call_id: str, attempts: int = 1) -> Tree:
    def found() -> list[Event]:
        return request_events(honeyhive, call_id)

    try:
        wait_until(lambda: len(found()) >= attempts + 2, ARRIVED_WITHIN_S, f"the tree of {call_id}")
    except AssertionError as late:
        raise AssertionError(f"{late}\n{drawn(found())}\nof all of these:\n{drawn(honeyhive.events)}") from None
    events = found()
    assert len(events) == attempts + 2, drawn(events)
    root, chain, *rest = events
    assert (root["event_type"], root["event_name"]) == ("chain", "litellm.proxy"), drawn(events)
    assert root["parent_id"] == root["session_id"], drawn(events)
    assert (chain["event_type"], chain["parent_id"]) == ("chain", root["event_id"]), drawn(events)
    assert {(event["event_type"], event["parent_id"]) for event in rest} == {("model", chain["event_id"])}, drawn(
        events
    )
    assert {event["session_id"] for event in events} == {root["session_id"]}, drawn(events)
    assert {honeyhive.arrivals[event["event_id"]] for event in events} == {1}, "an event arrived twice"
    return Tree(root, chain, rest, honeyhive.sessions[root["session_id"]])


def request_events(honeyhive: FakeHoneyHive, call_id: str) -> list[Event]:
    """Everything below the `litellm.proxy` event of a call id, by depth and start time."""
    events = honeyhive.events
    level = [
        event
        for event in events
        if event["event_name"] == "litellm.proxy" and event["metadata"].get("litellm_call_id") == call_id
    ]
    found: list[Event] = []
    while level:
        found += level
        parents = {event["event_id"] for event in level}
        level = [event for event in events if event["parent_id"] in parents]
    return found


def drawn(events: list[Event]) -> str:
    lines = [
        f"{event['event_type']} {event['event_name']} {event['event_id'][:8]} below {str(event['parent_id'])[:8]}"
        f" in {event['session_id'][:8]}, call {event['metadata'].get('litellm_call_id')}, error {event['error']}"
        for event in events
    ]
    return "\n".join(lines) or "(no event)"


@contextmanager
def running(
    provider: FakeProvider, honeyhive: FakeHoneyHive, folder: Path, *options: str, **variables: str
) -> Iterator[Proxy]:
    """`honeyhive-instrument litellm --config ... options`, ready to be asked. Ends what is left of it afterwards, and fails
    if our own code failed in it."""
    config = folder / "config.yaml"
    config.write_text(json.dumps(configuration(provider), indent=1))  # JSON is YAML
    shutil.copy(HERE / "custom_auth.py", folder)  # LiteLLM looks for it next to the config
    port = free_port()
    log = folder / "proxy.log"
    command: list[str | Path] = [BIN / "honeyhive-instrument", "litellm", "--config", config]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), *options],
            env={**environment(folder), **honeyhive.env, **variables},
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    proxy = Proxy(f"http://127.0.0.1:{port}", provider, honeyhive, log, process)
    try:
        wait_until_ready(proxy)
        yield proxy
        proxy.stop()
    finally:
        end_group(process)
    assert FAULT_MARK not in log.read_text(), log.read_text()


def environment(folder: Path) -> dict[str, str]:
    """This machine's variables, none of ours; nothing of the network is wanted."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HONEYHIVE_", "HH_", "OTEL_", "LITELLM_", "DATABASE_")) and name != "PYTHONPATH"
    }
    return {
        **kept,
        "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', '')}",
        "HOME": str(folder),  # gunicorn puts a socket there
        "HONEYHIVE_HOME": str(folder / "home"),
        "HONEYHIVE_LINGER": "0.05",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_DOCS": "True",
    }


def wait_until_ready(proxy: Proxy) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        assert proxy.process.poll() is None, f"the proxy ended:\n{proxy.log.read_text()[-4000:]}"
        assert time.monotonic() < deadline, f"the proxy is not ready:\n{proxy.log.read_text()[-4000:]}"
        try:
            if httpx.get(f"{proxy.url}/health/liveliness", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Workers that outlived their parent are ended with it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(ENDED_WITHIN_S)


def failing(provider: FakeProvider) -> None:
    """The groups that always fail."""
    provider.always("shaky", Behaviour(status=500, message="the shaky one is unwell"))
    provider.always("doomed", Behaviour(status=500, message="the doomed one is unwell"))
