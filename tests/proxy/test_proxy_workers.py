"""The proxy with several workers, each of which records its own requests; and the end of a proxy of one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import TEXT, FakeProvider
from tests.proxy.server import Proxy, failing, running
from tests.proxy.test_proxy_requests import CHAT, MESSAGES, check_identity

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WORKERS = 2
REQUESTS = 24


@pytest.fixture
def provider(fake_provider: FakeProvider) -> FakeProvider:
    failing(fake_provider)
    return fake_provider


def wait_for_workers(proxy: Proxy) -> None:
    """The first worker that is there answers for all; the requests are to find the others, too."""
    wait_until(
        lambda: proxy.log.read_text().count("Application startup complete") >= WORKERS, 90, "the start of all workers"
    )


def ask(proxy: Proxy, number: int) -> tuple[str, int]:
    """A plain request, a stream or a fallback; its call id and the number of its attempts."""
    body: dict[str, Any] = {"model": "chat", "messages": MESSAGES}
    kind = ("plain", "stream", "fallback")[number % 3]
    if kind == "fallback":
        body["model"] = "shaky"
    answer = proxy.post(CHAT, {**body, "stream": kind == "stream"})
    assert answer.status_code == 200, answer.text
    if kind == "stream":
        assert answer.text.rstrip().endswith("[DONE]")
    else:
        assert answer.json()["choices"][0]["message"]["content"] == TEXT
    return answer.headers["x-litellm-call-id"], 2 if kind == "fallback" else 1


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--num_workers", str(WORKERS)), id="uvicorn"),
        pytest.param(("--run_gunicorn", "--num_workers", str(WORKERS)), id="gunicorn"),
    ],
)
def test_every_worker_records_its_own_requests(
    options: tuple[str, ...], provider: FakeProvider, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    with running(provider, fake_honeyhive, tmp_path, *options) as proxy:
        wait_for_workers(proxy)
        with ThreadPoolExecutor(6) as pool:
            asked = list(pool.map(lambda number: ask(proxy, number), range(REQUESTS)))
        for call_id, attempts in asked:
            check_identity(proxy.tree(call_id, attempts))
        proxy.stop()

    assert len(fake_honeyhive.events) == sum(attempts + 2 for _, attempts in asked)
    assert set(fake_honeyhive.arrivals.values()) == {1}


def test_no_event_of_a_single_process_is_lost_when_the_proxy_is_ended(
    provider: FakeProvider, fake_honeyhive: FakeHoneyHive, tmp_path: Path
) -> None:
    variables = {"HONEYHIVE_LINGER": "5", "HONEYHIVE_CAPTURE_HEADERS": "true"}
    with running(provider, fake_honeyhive, tmp_path, **variables) as proxy:
        asked = [ask(proxy, number) for number in range(6)]
        proxy.stop()

    trees = [proxy.tree(call_id, attempts) for call_id, attempts in asked]
    assert len(fake_honeyhive.events) == sum(attempts + 2 for _, attempts in asked)
    assert {tree.root["metadata"]["caller_ip"] for tree in trees} == {"127.0.0.1"}
