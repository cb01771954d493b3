"""Wrapping and restoring: every original object is back, whatever held it; others' wrappers are left alone."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any

import litellm
import pytest
import wrapt

import honeyhive_autoinstrument
from honeyhive_autoinstrument.capture.recorder import Recorder
from honeyhive_autoinstrument.patches.apply import Patches, class_behind, inner_cell_of, positional_names
from honeyhive_autoinstrument.patches.hooks import Hook, Patched, ServedMethod
from honeyhive_autoinstrument.patches.targets import CONTEXT_CARRIERS, TARGETS, Shape, Target
from tests.capture.calls import LITELLM_VERSION
from tests.conftest import Recording

NAMES = [
    target.name
    for target in TARGETS
    if target.module == "litellm" and target.owner is None and target.name in vars(litellm)
]
litellm.Router(model_list=[])  # from 1.110 on the class behind it is loaded with the first one
CORE = class_behind(litellm.Router)


def places() -> dict[tuple[str, str], int]:
    """Identity of every object that a Target names, and of every reference to one in any module."""
    found: dict[tuple[str, str], int] = {}
    wanted = {target.attribute for target in TARGETS} | {name for _, name in CONTEXT_CARRIERS}
    for module_name, module in list(sys.modules.items()):
        if isinstance(module, types.ModuleType) and type(vars(module)) is dict:
            for name, value in list(vars(module).items()):
                if name in wanted or name.startswith("_PYTHON_") or (callable(value) and isinstance(value, Patched)):
                    found[module_name, name] = id(value)
    for target in TARGETS:
        if target.owner is not None and target.attribute in vars(CORE):
            found["Router", target.attribute] = id(vars(CORE)[target.attribute])
    for name in NAMES:
        function = getattr(litellm, name)
        while isinstance(function, Patched):
            function = function.__wrapped__
        cell = inner_cell_of(function)
        if cell is not None:
            found["cell", name] = id(cell.cell_contents)
    return found


def found_at(target: Target) -> Any:
    """What this LiteLLM has where a Target points, if it has that."""
    if target.owner:
        return inspect.getattr_static(CORE, target.attribute, None)
    return vars(sys.modules.get(target.module, types)).get(target.attribute)


@pytest.fixture
def early() -> Iterator[types.ModuleType]:
    module = types.ModuleType("early_names")
    for name in NAMES:
        setattr(module, name, getattr(litellm, name))
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_uninstrument_puts_back_every_original_object(early: Any, request: pytest.FixtureRequest) -> None:
    before = places()

    request.getfixturevalue("recording")
    during = places()
    honeyhive_autoinstrument.uninstrument()

    assert places() == before
    changed = {place for place in before if before[place] != during[place]}
    assert {("early_names", name) for name in NAMES} <= changed
    assert {("litellm", name) for name in NAMES} <= changed
    assert {place for place in before if place[0] == "Router"} <= changed


def test_uninstrument_puts_back_names_imported_after_switching_on(early: Any, request: pytest.FixtureRequest) -> None:
    originals = {name: getattr(early, name) for name in NAMES}
    request.getfixturevalue("recording")
    later = types.ModuleType("later_names")
    for name in NAMES:
        setattr(later, name, getattr(litellm, name))
    sys.modules[later.__name__] = later

    honeyhive_autoinstrument.uninstrument()
    del sys.modules[later.__name__]

    assert {name: getattr(later, name) for name in NAMES} == originals
    assert not [name for name in NAMES if isinstance(getattr(later, name), Patched)]


class Restless:
    """Garbage that gives a module another name whenever the collector comes across it, as a finalizer or a thread may."""

    def __init__(self, module: types.ModuleType) -> None:
        self.module = module
        self.itself = self

    def __del__(self) -> None:
        if self.module.__name__ in sys.modules:
            setattr(self.module, f"name_{len(vars(self.module))}", None)
            Restless(self.module)


def test_a_module_that_gets_names_meanwhile_is_put_back_like_the_others(
    early: types.ModuleType, frozen_library: None, request: pytest.FixtureRequest
) -> None:
    originals = {name: getattr(early, name) for name in NAMES}
    vars(early).update((f"name_{number}", None) for number in range(20_000))
    before = len(vars(early))
    thresholds = gc.get_threshold()
    gc.set_threshold(10)
    try:
        Restless(early)
        request.getfixturevalue("recording")
        honeyhive_autoinstrument.uninstrument()
    finally:
        gc.set_threshold(*thresholds)

    assert len(vars(early)) > before, "it did not change meanwhile"
    assert {name: getattr(early, name) for name in NAMES} == originals


def test_every_target_of_this_litellm_is_wrapped(recording: Recording) -> None:
    bare = [
        target.event_name
        for target in TARGETS
        if (found := found_at(target)) is not None and not isinstance(found, Patched | ServedMethod)
    ]

    assert bare == []
    wrapped = {target.event_name for target in TARGETS if found_at(target) is not None}
    assert {"litellm.completion", "litellm.Router.acompletion"} <= wrapped


@pytest.mark.parametrize("name", NAMES)
def test_a_wrapped_function_answers_inspect_as_before(name: str, recording: Recording) -> None:
    function = getattr(litellm, name)
    bare = function.__wrapped__

    assert inspect.signature(function) == inspect.signature(bare)
    assert inspect.iscoroutinefunction(function) == inspect.iscoroutinefunction(bare)
    assert (function.__name__, function.__module__, function.__doc__) == (bare.__name__, bare.__module__, bare.__doc__)
    assert isinstance(function, types.FunctionType)
    assert copy.deepcopy(function) is copy.copy(function) is function
    assert pickle.loads(pickle.dumps(function)) is function


def test_shapes_in_the_table_are_those_of_litellm(recording: Recording) -> None:
    router = litellm.Router(model_list=[])
    for target in TARGETS:
        function = found_at(target)
        if isinstance(function, ServedMethod):
            function = getattr(router, target.attribute, None)
        if function is not None and (target.name != "create" or LITELLM_VERSION >= (1, 74)):
            assert inspect.iscoroutinefunction(function) is (target.shape is Shape.ASYNC), target.event_name


def test_switching_on_twice_wraps_once(recording: Recording) -> None:
    config = {"api_key": recording.server.key, "api_url": recording.server.url}
    honeyhive_autoinstrument.init(**config)

    assert not isinstance(litellm.completion.__wrapped__, Patched)
    litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y")
    honeyhive_autoinstrument.flush(5)
    assert len(recording.events()) == 1


def test_a_wrapper_put_on_top_of_ours_survives_uninstrument(recording: Recording) -> None:
    calls: list[str] = []

    def theirs(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        calls.append("theirs")
        return wrapped(*args, **kwargs)

    ours = litellm.completion
    litellm.completion = wrapt.FunctionWrapper(ours, theirs)
    try:
        honeyhive_autoinstrument.uninstrument()
        litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y")
    finally:
        litellm.completion = ours.__wrapped__

    assert calls == ["theirs"]
    assert recording.events() == []


def test_a_wrapper_put_on_top_of_ours_is_not_wrapped_again(recording: Recording) -> None:
    ours = litellm.completion

    @functools.wraps(ours)
    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    litellm.completion = theirs
    try:
        honeyhive_autoinstrument.init(session_name="again")
        litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y")
    finally:
        litellm.completion = ours

    assert len(recording.events()) == 1


def test_an_original_that_somebody_put_back_is_wrapped_again(recording: Recording) -> None:
    litellm.completion = litellm.completion.__wrapped__
    honeyhive_autoinstrument.init(session_name="again")

    litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y")

    assert len(recording.events()) == 1


def test_a_method_of_the_router_class_copies_and_pickles_as_without_us(recording: Recording) -> None:
    method = litellm.Router.acompletion

    assert copy.deepcopy(method) == copy.copy(method) == method
    assert pickle.loads(pickle.dumps(method)) == method
    assert repr(method).startswith("<function ")


def test_functions_look_as_without_us(recording: Recording) -> None:
    assert repr(litellm.completion) == repr(litellm.completion.__wrapped__)


def test_switching_on_again_after_uninstrument_records_again(recording: Recording) -> None:
    honeyhive_autoinstrument.uninstrument()
    honeyhive_autoinstrument.init(api_key=recording.server.key, api_url=recording.server.url, session_name="again")
    litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": "x"}], mock_response="y")

    assert len(recording.events()) == 1


def test_a_partial_of_a_wrapped_function_is_recorded(recording: Recording) -> None:
    ask = functools.partial(litellm.completion, model="gpt-4o", mock_response="y")
    ask(messages=[{"role": "user", "content": "x"}])

    assert len(recording.events()) == 1


def test_a_coroutine_that_is_never_awaited_warns_under_its_own_name(recording: Recording) -> None:
    with pytest.warns(RuntimeWarning, match="coroutine 'acompletion' was never awaited"):
        litellm.acompletion(model="gpt-4o", messages=[])


def test_what_a_litellm_lacks_is_missing_and_the_rest_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(litellm, "rerank")
    for module in ("litellm.vector_stores.main", "litellm.messages.dispatch"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    patches = Patches(Recorder(lambda call: None))

    patches.apply(is_late=False)
    patches.restore()

    assert {"litellm.rerank", "litellm.vector_stores.search"} <= set(patches.missing)
    assert not isinstance(litellm.completion, Patched)


def test_a_router_method_that_others_wrapped_after_us_is_left_to_them(request: pytest.FixtureRequest) -> None:
    original = vars(CORE)["completion"]
    request.getfixturevalue("recording")
    theirs = functools.partial(vars(CORE)["completion"])
    CORE.completion = theirs

    honeyhive_autoinstrument.uninstrument()
    left = vars(CORE)["completion"]
    CORE.completion = original

    assert left is theirs


def test_names_of_positional_parameters_are_read_to_the_end() -> None:
    def function(model: str, messages: object) -> None: ...

    assert positional_names(TARGETS[0], function) == ("model", "messages")


class Owner:
    def method(self) -> str:
        return "own"


def test_a_wrapped_method_copies_and_pickles_as_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Owner, "method", Patched(Owner.method, lambda wrapped, instance, args, kwargs: wrapped(*args, **kwargs))
    )
    method = Owner().method

    assert copy.copy(method) is method
    assert copy.deepcopy(method)() == pickle.loads(pickle.dumps(method))() == "own"
    assert copy.deepcopy(Owner.method)(Owner()) == pickle.loads(pickle.dumps(Owner.method))(Owner()) == "own"


def test_a_served_method_is_the_instances_own_for_everybody_else() -> None:
    class Made:
        served = ServedMethod(Hook(TARGETS[0], (), Recorder(lambda call: None)))

    made = Made()
    assert not hasattr(Made, "served")
    assert not hasattr(made, "completion")
    served = vars(Made)["served"]

    served.__set__(made, "method")
    assert vars(made)["completion"] == "method"
    served.__delete__(made)
    with pytest.raises(AttributeError):
        served.__delete__(made)
    with pytest.raises(AttributeError):
        made.served  # noqa: B018
