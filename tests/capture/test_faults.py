"""Each function of ours that a call passes through is made to raise, in turn: the application sees no difference, and the
event is still sent with what could be read."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import litellm
import pytest

from honeyhive_autoinstrument._faults import faults
from honeyhive_autoinstrument.capture.recorder import Recorder
from honeyhive_autoinstrument.redaction import Redactor
from tests.capture.calls import FUNCTIONS
from tests.conftest import Recording
from tests.fakes.provider import Behaviour, FakeProvider

ROOMS = ("capture", "events", "patches.library")
LAST_RESORTS = {
    "uuid_of": "an event without an id is none",
    "encode": "nothing can be sent but bytes",
    "_dump": "nothing can be sent but bytes",
    "bare_event": "what is left when everything else fails",
    "_event_type": "part of it",
    "session_row": "an event without its session is refused",
    "enter_call": "sets a context variable, two lines",
    "leave_call": "sets a context variable, two lines",
    "surrounding_call": "reads one, two lines",
    "_next_of": "reads the stream for the application",
    "_anext_of": "reads the stream for the application",
    "is_stream": "decides what the application gets back; a failure hands it the stream itself",
}
"""Functions that have nothing below them to fall back on."""


class Injected(Exception):
    pass


def fail(*args: object, **kwargs: object) -> Any:
    raise Injected("made to raise by the test")


def own_functions() -> Iterator[tuple[str, str]]:
    """Module and name of each function in the rooms that run around a call."""
    for room in ROOMS:
        package = importlib.import_module(f"honeyhive_autoinstrument.{room}")
        modules = [package] if not hasattr(package, "__path__") else [
            importlib.import_module(f"{package.__name__}.{each.name}") for each in pkgutil.iter_modules(package.__path__)
        ]  # fmt: skip
        for module in modules:
            for name, value in vars(module).items():
                if inspect.isfunction(value) and value.__module__ == module.__name__ and name not in LAST_RESORTS:
                    yield module.__name__, name


def everywhere(original: Any, replacement: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a function in another one's place in every module, table and reader of ours that holds it."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("honeyhive_autoinstrument"):
            for name, value in list(vars(module).items()):
                if value is original:
                    monkeypatch.setattr(module, name, replacement)
                elif type(value) is dict:
                    for key, item in value.items():
                        if item is original:
                            monkeypatch.setitem(value, key, replacement)
                        else:
                            _in_reader(item, original, replacement, monkeypatch)


def _in_reader(reader: Any, original: Any, replacement: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if type(reader).__name__ == "Reader":
        for field in ("inputs", "outputs", "merged", "whole"):
            if getattr(reader, field) is original:
                held = getattr(reader, field)
                object.__setattr__(reader, field, replacement)
                monkeypatch.callbacks.append((reader, field, held))  # type: ignore[attr-defined]


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    monkeypatch.callbacks = []  # type: ignore[attr-defined]

    def put(original: Any) -> None:
        guarded = getattr(original, "__wrapped__", None)
        if guarded is None:
            everywhere(original, fail, monkeypatch)
            return
        for cell in original.__closure__:
            if cell.cell_contents is guarded:  # fails inside the guard that is around it
                cells.append((cell, guarded))
                cell.cell_contents = fail

    cells: list[tuple[Any, Any]] = []
    yield put
    for cell, function in cells:
        cell.cell_contents = function
    for reader, field, held in monkeypatch.callbacks:  # type: ignore[attr-defined]
        object.__setattr__(reader, field, held)
    faults.after_fork()


def program(provider: FakeProvider) -> list[object]:
    """A plain call, a stream, a failing call, an embedding, a Router that falls back; what the application sees of them."""
    chat, _, _, _, embedding = FUNCTIONS[:5]
    seen: list[object] = []
    plain = chat.arguments(provider)
    seen.append(litellm.completion(**plain).choices[0].message.content)
    stream = litellm.completion(**plain, stream=True)
    seen.append((isinstance(stream, litellm.CustomStreamWrapper), [chunk.choices[0].delta.content for chunk in stream]))
    try:
        litellm.completion(**{**plain, "model": "openai/unwell"})
    except litellm.BadRequestError as error:
        seen.append((type(error), error.status_code))
    seen.append(litellm.embedding(**embedding.arguments(provider)).data[0]["embedding"])
    deployment = {"api_base": provider.base, "api_key": "sk-router-1"}
    router = litellm.Router(
        model_list=[
            {"model_name": "first", "litellm_params": {"model": "openai/unwell", **deployment}},
            {"model_name": "second", "litellm_params": {"model": "openai/gpt-4o-mini", **deployment}},
        ],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
    )
    seen.append(router.completion(model="first", messages=plain["messages"]).choices[0].message.content)
    return seen


@pytest.fixture(scope="module")
def bare() -> list[object]:
    """What the application sees without us."""
    with FakeProvider() as provider:
        provider.always("unwell", Behaviour(status=400))
        return program(provider)


EVENTS = 7
"""Four calls, and a chain with two attempts."""


@pytest.mark.parametrize(("module", "name"), list(own_functions()), ids=lambda value: value.rpartition(".")[2])
def test_a_function_that_raises_costs_the_application_nothing_and_no_event(
    module: str,
    name: str,
    bare: list[object],
    recording: Recording,
    fake_provider: FakeProvider,
    inject: Callable[[Any], None],
) -> None:
    fake_provider.always("unwell", Behaviour(status=400))

    inject(getattr(sys.modules[module], name))
    seen = program(fake_provider)

    assert seen == bare
    events = recording.events()
    assert len(events) == EVENTS
    assert all("litellm." in event["event_name"] for event in events)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Recorder, "start"),
        (Redactor, "value"),
        (Redactor, "text"),
        (Redactor, "learn"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_part_that_raises_is_counted_as_a_fault_and_costs_the_application_nothing(
    owner: type,
    name: str,
    bare: list[object],
    recording: Recording,
    fake_provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_provider.always("unwell", Behaviour(status=400))

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        seen = program(fake_provider)
        events = recording.events()

    assert seen == bare
    assert sum(faults.counts().values()) > 0
    if owner is Redactor:
        assert len(events) == EVENTS
    faults.after_fork()


def test_a_part_that_cannot_be_read_leaves_the_rest_of_the_event(
    recording: Recording, fake_provider: FakeProvider, inject: Callable[[Any], None]
) -> None:
    from honeyhive_autoinstrument.events.messages import chat_outputs

    inject(chat_outputs)

    litellm.completion(**FUNCTIONS[0].arguments(fake_provider))

    event = recording.event()
    assert event["outputs"] == {"role": "assistant"}
    assert event["inputs"]["chat_history"][0]["content"] == "Say hello."
    assert event["metadata"]["prompt_tokens"] == 11
    assert faults.counts() == {"read the outputs of a call": 1}
