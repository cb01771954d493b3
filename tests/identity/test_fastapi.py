"""A FastAPI service that enters a session for each request: of hundreds at once, nothing of one is in another's."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import fastapi
import httpx
import litellm
import pytest
import uvicorn
from fastapi.responses import StreamingResponse

import honeyhive_autoinstrument
from tests.conftest import Recording, wait_until

COUNTS = [40, pytest.param(200, marks=pytest.mark.slow)]
"""Requests at once."""
SESSION_HEADER = "x-chat"

Event = dict[str, Any]


def question(request: fastapi.Request, step: str) -> list[dict[str, str]]:
    """What a request asks; it says whose it is, so that an event in another's session is found."""
    return [{"role": "user", "content": f"{request.headers[SESSION_HEADER]} {step}"}]


def new_router() -> litellm.Router:
    def deployment(group: str, answer: str, **more: Any) -> dict[str, Any]:
        return {"model_name": group, "litellm_params": {"model": "gpt-4o", "mock_response": answer, **more}}

    return litellm.Router(
        model_list=[deployment("bad", "litellm.InternalServerError"), deployment("good", "routed", mock_delay=0.01)],
        fallbacks=[{"bad": ["good"]}],
        num_retries=0,
        disable_cooldowns=True,  # else one request's failure would spare another's
    )


def application() -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    router = new_router()

    async def enter(request: fastapi.Request) -> AsyncIterator[None]:
        async with honeyhive_autoinstrument.session(id=request.headers[SESSION_HEADER], user="ada"):
            yield

    @app.middleware("http")
    async def enter_around(
        request: fastapi.Request, go_on: Callable[[fastapi.Request], Awaitable[fastapi.Response]]
    ) -> fastapi.Response:
        if not request.url.path.startswith("/middleware/"):
            return await go_on(request)
        with honeyhive_autoinstrument.session(id=request.headers[SESSION_HEADER], user="ada"):
            return await go_on(request)

    async def work(request: fastapi.Request) -> None:
        await litellm.acompletion(
            model="gpt-4o", messages=question(request, "first"), mock_response="y", mock_delay=0.01
        )
        await asyncio.sleep(0.005)
        stream: Any = await litellm.acompletion(
            model="gpt-4o", messages=question(request, "stream"), mock_response="one two three", stream=True
        )
        async for _ in stream:
            await asyncio.sleep(0)
        await router.acompletion(model="bad", messages=question(request, "routed"))

    def work_in_thread(request: fastapi.Request) -> None:
        litellm.completion(model="gpt-4o", messages=question(request, "first"), mock_response="y", mock_delay=0.005)
        for _ in litellm.completion(
            model="gpt-4o", messages=question(request, "stream"), mock_response="one two", stream=True
        ):
            pass
        router.completion(model="bad", messages=question(request, "routed"))

    @app.get("/middleware/async")
    @app.get("/dependency/async", dependencies=[fastapi.Depends(enter)])
    async def ask(request: fastapi.Request) -> str:
        await work(request)
        return request.headers[SESSION_HEADER]

    @app.get("/middleware/sync")
    @app.get("/dependency/sync", dependencies=[fastapi.Depends(enter)])
    def ask_in_thread(request: fastapi.Request) -> str:
        work_in_thread(request)
        return request.headers[SESSION_HEADER]

    @app.get("/middleware/background")
    @app.get("/dependency/background", dependencies=[fastapi.Depends(enter)])
    async def ask_later(request: fastapi.Request, later: fastapi.BackgroundTasks) -> str:
        later.add_task(work, request)
        return request.headers[SESSION_HEADER]

    @app.get("/middleware/sync-background")
    async def ask_later_in_thread(request: fastapi.Request, later: fastapi.BackgroundTasks) -> str:
        later.add_task(work_in_thread, request)
        return request.headers[SESSION_HEADER]

    @app.get("/middleware/tasks")
    @app.get("/dependency/tasks", dependencies=[fastapi.Depends(enter)])
    async def ask_side_by_side(request: fastapi.Request) -> str:
        calls = [
            asyncio.create_task(
                litellm.acompletion(
                    model="gpt-4o", messages=question(request, "first"), mock_response="y", mock_delay=0.01
                )
            ),
            asyncio.to_thread(
                lambda: list(
                    litellm.completion(
                        model="gpt-4o", messages=question(request, "stream"), mock_response="one two", stream=True
                    )
                )
            ),
            router.acompletion(model="bad", messages=question(request, "routed")),
        ]
        await asyncio.gather(*calls)
        return request.headers[SESSION_HEADER]

    @app.get("/middleware/streamed")
    async def ask_as_it_comes(request: fastapi.Request) -> StreamingResponse:
        await litellm.acompletion(model="gpt-4o", messages=question(request, "first"), mock_response="y")

        async def pieces() -> AsyncIterator[str]:
            stream: Any = await litellm.acompletion(
                model="gpt-4o", messages=question(request, "stream"), mock_response="one two three", stream=True
            )
            async for chunk in stream:
                yield chunk.choices[0].delta.content or ""
            await router.acompletion(model="bad", messages=question(request, "routed"))

        return StreamingResponse(pieces(), media_type="text/plain")

    return app


class Service:
    """The application under uvicorn, on a thread of this process."""

    def __init__(self) -> None:
        config = uvicorn.Config(application(), host="127.0.0.1", port=0, log_level="warning", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def __enter__(self) -> Service:
        self.thread.start()
        wait_until(lambda: self.server.started, what="the service")
        return self

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive(), "the service does not end"

    def ask(self, path: str, count: int) -> list[str]:
        """Ask so many times at once; the names of the sessions that answered."""

        async def ask_all() -> list[str]:
            limits = httpx.Limits(max_connections=count)
            async with httpx.AsyncClient(base_url=self.url, timeout=90, limits=limits) as client:

                async def ask_one(number: int) -> str:
                    chat = f"{path} {number}"
                    answer = await client.get(path, headers={SESSION_HEADER: chat})
                    assert answer.status_code == 200, answer.text
                    return chat

                return list(await asyncio.gather(*map(ask_one, range(count))))

        return asyncio.run(ask_all())


@pytest.fixture
def service(recording: Recording) -> Iterator[Service]:
    with Service() as running:
        yield running


def uuid_of(chat: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"honeyhive-autoinstrument:{chat}"))


KINDS = Counter(
    {
        ("model", "first", None): 1,
        ("model", "stream", None): 1,
        ("chain", "routed", None): 1,
        ("model", "routed", "InternalServerError"): 1,
        ("model", "routed", None): 1,
    }
)
"""What each request leaves: a call, a stream, a Router call whose first attempt fails."""


def check_sessions(recording: Recording, chats: list[str]) -> None:
    """Each session is complete, and holds nothing of another's."""
    wait_until(lambda: len(recording.server.events) >= len(chats) * KINDS.total(), 60, "every event")
    by_session: dict[str, list[Event]] = defaultdict(list)
    for event in recording.events():
        by_session[event["session_id"]].append(event)
    assert set(by_session) == set(map(uuid_of, chats))
    for chat in chats:
        events = by_session[uuid_of(chat)]
        found: Counter[tuple[str, str, str | None]] = Counter()
        for event in events:
            whose, _, step = event["inputs"]["chat_history"][0]["content"].rpartition(" ")
            assert whose == chat, "an event in another's session"
            found[event["event_type"], step, event["metadata"].get("error_type")] += 1
        assert found == KINDS
        (chain,) = [event for event in events if event["event_type"] == "chain"]
        parents = {event["parent_id"] for event in events if event["inputs"] == chain["inputs"] and event is not chain}
        assert parents == {chain["event_id"]}
        assert {event["user_properties"]["user_id"] for event in events} == {"ada"}
        row = recording.server.sessions[uuid_of(chat)]
        assert (row["session_name"], row["metadata"]["original_session_id"]) == (chat, chat)
    assert set(recording.server.arrivals.values()) == {1}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("way", ["middleware", "dependency"])
@pytest.mark.parametrize("kind", ["async", "sync", "background", "tasks"])
def test_requests_at_once_stay_apart(recording: Recording, service: Service, way: str, kind: str, count: int) -> None:
    chats = service.ask(f"/{way}/{kind}", count)

    check_sessions(recording, chats)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["sync-background", "streamed"])
def test_what_goes_on_after_the_answer_began_stays_apart(
    recording: Recording, service: Service, kind: str, count: int
) -> None:
    chats = service.ask(f"/middleware/{kind}", count)

    check_sessions(recording, chats)


def test_one_chat_over_several_requests_is_one_session(recording: Recording, service: Service) -> None:
    for _ in range(3):
        service.ask("/middleware/async", 4)

    wait_until(lambda: len(recording.server.events) >= 12 * KINDS.total(), 30, "every event")
    counts = Counter(event["session_id"] for event in recording.events())
    assert counts == {uuid_of(f"/middleware/async {number}"): 3 * KINDS.total() for number in range(4)}
    assert len(recording.server.sessions) == 4
