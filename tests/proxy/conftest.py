"""One proxy for a module: it takes several seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import FakeProvider
from tests.proxy.server import KEYS, Proxy, failing, running


@pytest.fixture(scope="module")
def module_provider() -> Iterator[FakeProvider]:
    with FakeProvider() as server:
        failing(server)
        yield server


@pytest.fixture(scope="module")
def module_honeyhive() -> Iterator[FakeHoneyHive]:
    with FakeHoneyHive() as server:
        yield server
        bodies = [request.body for request in server.requests]
    assert server.problems == [], "bodies that break the contract"
    assert not [key for key in KEYS for body in bodies if key.encode() in body], "a virtual key has left the proxy"


@pytest.fixture(scope="module")
def proxy(
    module_provider: FakeProvider, module_honeyhive: FakeHoneyHive, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with running(module_provider, module_honeyhive, tmp_path_factory.mktemp("proxy")) as started:
        yield started
    known = {event["metadata"].get("litellm_call_id") for event in module_honeyhive.events}
    assert known - {None} <= set(started.asked), "events of requests that nobody made, or that are to be none"
