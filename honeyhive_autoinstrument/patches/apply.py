"""Wrap the rows that exist, note those that do not, restore the originals.

Every Target stands alone: one that is missing or odd in some release is skipped, the others are wrapped. References to
the original that other modules hold (`from litellm import completion`) are rebound by identity, and put back by
identity. Works on `sys.modules`; never imports, never calls `getattr` on a module (LiteLLM resolves names lazily).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import CellType, ModuleType
from typing import Any

from honeyhive_autoinstrument._faults import guarded, log
from honeyhive_autoinstrument.capture.recorder import Recorder
from honeyhive_autoinstrument.patches.hooks import (
    Hook,
    Patched,
    ServedMethod,
    TryHook,
    carry_context,
    note_answer,
    note_request,
)
from honeyhive_autoinstrument.patches.library import is_unlogged
from honeyhive_autoinstrument.patches.routing import DECISIONS, Decision
from honeyhive_autoinstrument.patches.targets import (
    CONTEXT_CARRIERS,
    ENDPOINTS,
    LOGGING,
    ROUTER_CORE,
    TARGETS,
    Shape,
    Target,
)

INNER_CELL = "original_function"
"""The variable by which LiteLLM's `client` decorator holds the function that it wraps."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A method or closure cell that was changed, and how to change it back."""

    place: str
    patched: object
    read: Callable[[], object]
    undo: Callable[[], None]


class Patches:
    """What was wrapped in this process."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        recorder.is_unlogged = is_unlogged
        self._hooks: list[Hook] = []
        self._changes: list[_Change] = []
        self._functions: dict[int, Patched] = {}
        """Wrappers of functions, by id; names that hold one are found again by it."""
        self._done: dict[Target, tuple[object, object]] = {}
        """What is wrapped already: the module or class, and the original in it."""
        self._noted: set[tuple[str, object]] = set()
        """Methods that are wrapped and no Targets: of LiteLLM's logging class, and where a Router decides."""
        self._served: frozenset[str] | None = None
        """Names that this Router gives its instances. Reading them takes milliseconds, inside `import litellm`."""
        self.missing: list[str] = []
        """Event names of Targets that this LiteLLM does not have."""

    @property
    def wrapped(self) -> list[str]:
        """Event names of the Targets that are wrapped, each once."""
        return list(dict.fromkeys(hook.target.event_name for hook in self._hooks))

    def apply(self, *, is_late: bool) -> None:
        """Wrap everything there is. Repeating it wraps only what is not wrapped yet.

        :param is_late: LiteLLM was imported before; references to its functions may be anywhere.
        """
        self.missing.clear()
        self._served = None
        replaced: dict[int, Patched] = {}
        originals: list[object] = []  # keeps the ids in `replaced` valid
        for target in TARGETS:
            with guarded(f"wrap {target.event_name}"):
                original = self._wrap(target, replaced, is_late)
                if original is not None:
                    originals.append(original)
        for module_name, name in CONTEXT_CARRIERS:
            with guarded(f"wrap {name}"):
                originals.append(self._replace(module_name, name, carry_context, replaced))
        for decision in DECISIONS:
            with guarded(f"wrap {decision.name}"):
                originals.append(self._wrap_decision(decision, replaced))
        self._recorder.loses_context = not any(
            name in vars(sys.modules[module]) for module, name in CONTEXT_CARRIERS if module in sys.modules
        )
        for name, wrapper in (("pre_call", note_request), ("post_call", note_answer)):
            with guarded(f"wrap {name}"):
                self._note_at(LOGGING[0], LOGGING[1], name, wrapper(self._recorder))
        if replaced:
            with guarded("rebind early names"):
                self._rebind(replaced, everywhere=is_late)

    def restore(self) -> None:
        """Put every original object back, newest change first, and switch the Hooks off."""
        for hook in self._hooks:
            hook.is_on = False
        for change in reversed(self._changes):
            with guarded(f"restore {change.place}"):
                if change.read() is change.patched:
                    change.undo()
                else:
                    # Somebody wrapped our wrapper; it stays in the chain and only passes calls on.
                    log.debug("%s was changed by another library after us; left in place, switched off", change.place)
        with guarded("restore names"):
            self._put_back_functions()
        self._changes.clear()
        self._functions.clear()
        self._hooks.clear()
        self._done.clear()
        self._noted.clear()

    def _put_back_functions(self) -> None:
        # By looking, not by a list of what was rebound: code that came later (`from litellm import completion`) holds our
        # wrappers, too. A wrapper that somebody else put around one of ours stays, and ours in it only passes calls on.
        for namespace in namespaces(everywhere=True):
            for name, value in namespace.copy().items():
                if type(value) is Patched and id(value) in self._functions:
                    namespace[name] = value.__wrapped__

    def _wrap(self, target: Target, replaced: dict[int, Patched], is_late: bool) -> object | None:
        module = sys.modules.get(target.module)
        if module is None:
            self._miss(target)
            return None
        if target.owner is not None:
            self._wrap_method(target, class_behind(vars(module)[target.owner]))
            return None
        original: object | None = vars(module).get(target.attribute)
        if original is None:
            self._miss(target)
            return None
        if self._is_done(target, module, original) or id(original) in replaced:
            return None
        hook = self._hook(target, original)
        replaced[id(original)] = Patched(original, hook.wrapper)
        self._wrap_inside(original, hook, is_late)
        return original

    def _wrap_method(self, target: Target, owner: Any) -> None:
        original = next(
            (vars(kind)[target.attribute] for kind in owner.__mro__ if target.attribute in vars(kind)), None
        )
        if original is None:
            self._serve_method(target, owner)
            return
        if self._is_done(target, owner, original):
            return
        self._set(target.event_name, owner, target.attribute, original, self._hook(target, original).wrapper)

    def _serve_method(self, target: Target, owner: Any) -> None:
        """A method that is no attribute of the class, but of what it makes."""
        if self._served is None:
            self._served = served_names(owner)
        if target.attribute not in self._served:
            self._miss(target)
            return
        hook = Hook(target, target.positional, self._recorder)
        self._hooks.append(hook)
        served = ServedMethod(hook)
        setattr(owner, target.attribute, served)
        self._done[target] = owner, served

        def undo() -> None:
            delattr(owner, target.attribute)

        self._changes.append(_Change(target.event_name, served, lambda: vars(owner).get(target.attribute), undo))

    def _replace(
        self, module_name: str, name: str, wrapper: Callable[..., Any], replaced: dict[int, Patched]
    ) -> object:
        """Wrap a function that is no Target, wherever it is bound."""
        module = sys.modules.get(module_name)
        original: object | None = vars(module).get(name) if module is not None else None
        if original is not None and not isinstance(original, Patched):
            replaced[id(original)] = Patched(original, wrapper)
        return original

    def _wrap_decision(self, decision: Decision, replaced: dict[int, Patched]) -> object | None:
        class_name, dot, name = decision.name.rpartition(".")
        if not dot:
            return self._replace(decision.module, name, decision.wrapper(self._recorder), replaced)
        self._note_at(decision.module, class_name, name, decision.wrapper(self._recorder))
        return None

    def _note_at(self, module_name: str, class_name: str, name: str, wrapper: Callable[..., Any]) -> None:
        """Wrap a method that is no Target, where this release has it."""
        module = sys.modules.get(module_name)
        owner = vars(module).get(class_name) if module is not None else None
        if owner is not None and class_name == "Router":
            owner = class_behind(owner)
        original = vars(owner).get(name) if owner is not None else None
        if original is None or (name, owner) in self._noted:
            return
        self._noted.add((name, owner))
        self._set(f"{class_name}.{name}", owner, name, original, wrapper)

    def _set(self, place: str, owner: Any, name: str, original: Any, wrapper: Callable[..., Any]) -> None:
        is_own = name in vars(owner)
        patched = Patched(original, wrapper)
        setattr(owner, name, patched)

        def undo() -> None:
            if is_own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)

        self._changes.append(_Change(place, patched, lambda: vars(owner).get(name), undo))

    def _is_done(self, target: Target, holder: object, found: object) -> bool:
        """Whether the Target needs no wrapper any more. If not, it is noted as wrapped from now on.

        What is found there may be somebody else's wrapper around ours; another one of ours would record each call twice.
        """
        known = self._done.get(target)
        if known is not None and known[0] is holder and known[1] is not found:
            return True
        self._done[target] = holder, found
        return isinstance(found, Patched | ServedMethod)

    def _hook(self, target: Target, original: Any) -> Hook:
        if inspect.iscoroutinefunction(original):
            target = replace(target, shape=Shape.ASYNC)  # up to 1.72 `litellm.anthropic.messages.create` is async, too
        hook = Hook(target, positional_names(target, original), self._recorder)
        self._hooks.append(hook)
        return hook

    def _miss(self, target: Target) -> None:
        if not target.is_inner:
            self.missing.append(target.event_name)

    def _wrap_inside(self, original: Any, hook: Hook, is_late: bool) -> None:
        """The function inside the `client` decorator: for the tries of a call that LiteLLM repeats, and, late, for
        references that were taken before and can be where no sweep reaches (partials, closures, containers).

        Up to 1.102 every such reference is the `client` closure; wrapping the function inside it catches them. From
        1.103 on it is a dispatch function, which reads the inner end at each call and needs nothing of this kind.
        """
        cell = inner_cell_of(original)
        if cell is None or isinstance(cell.cell_contents, Patched):
            return
        inner = patched = cell.cell_contents
        if hook.target.can_repeat:
            tries = TryHook(hook.target, hook.positional, self._recorder)
            self._hooks.append(tries)
            patched = Patched(patched, tries.wrapper)
        if is_late:
            patched = Patched(patched, hook.wrapper)
        if patched is inner:
            return
        cell.cell_contents = patched

        def undo() -> None:
            cell.cell_contents = inner

        self._changes.append(
            _Change(f"inside {hook.target.event_name}", patched, lambda: cell.cell_contents, undo),
        )

    def _rebind(self, replaced: dict[int, Patched], *, everywhere: bool) -> None:
        self._functions.update((id(patched), patched) for patched in replaced.values())
        for namespace in namespaces(everywhere=everywhere):
            for name, value in namespace.copy().items():
                patched = replaced.get(id(value))
                if patched is None or name == "__wrapped__":
                    continue
                namespace[name] = patched


def namespaces(*, everywhere: bool) -> Iterator[dict[str, Any]]:
    """Module dictionaries that may hold a reference: LiteLLM's own, or those of all modules. Other threads change them
    meanwhile: who goes through one goes through `namespace.copy()`, which is one step of C code (a list of its items is
    not: their tuples can set off the garbage collector).

    Right after `import litellm` nobody else can have one. Modules with a dictionary of a special kind are passed over.
    """
    for name, module in sys.modules.copy().items():
        if not everywhere and name != "litellm" and not name.startswith("litellm."):
            continue
        if not isinstance(module, ModuleType):
            continue
        namespace = vars(module)
        if type(namespace) is dict:
            yield namespace


def class_behind(router: Any) -> Any:
    """The class that has the Router's methods.

    From 1.109 on the Router is a facade. It names the class behind it; from 1.110 on that class is in a module which is
    loaded with the first Router. Until then the facade itself is the answer, and has none of the methods. It is looked
    into and never asked: asking it for a name loads the module.
    """
    module_name, name = ROUTER_CORE
    module = sys.modules.get(module_name)
    core = vars(module).get(name) if module is not None else None
    return core or vars(router).get("_core_class", router)


def served_names(owner: Any) -> frozenset[str]:
    """Names that a Router class gives its instances beside its own attributes.

    Up to 1.109 `__init__` and its helpers assign them, so that their code names them; from 1.110 on a module lists them.
    """
    names: set[str] = set()
    for member in vars(owner).copy().values():
        code = getattr(member, "__code__", None)
        if code is not None:
            names.update(code.co_names)
            names.update(text for constant in code.co_consts for text in _texts_of(constant))
    endpoints = sys.modules.get(ENDPOINTS[0])
    listed = vars(endpoints).get(ENDPOINTS[1]) if endpoints is not None else None
    if listed is not None:
        names.update(listed())
    return frozenset(names)


def _texts_of(constant: object) -> tuple[str, ...]:
    """Names in a function's constants: some are assigned by `setattr`, from a tuple."""
    if isinstance(constant, str):
        return (constant,)
    return tuple(each for each in constant if isinstance(each, str)) if isinstance(constant, tuple) else ()


def positional_names(target: Target, original: Any) -> tuple[str, ...]:
    """Names of the parameters that can be given by position. LiteLLM's wrappers keep the signature of what they wrap."""
    names = []
    for parameter in inspect.signature(original).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        names.append(parameter.name)
    if target.owner is not None:
        names = names[1:]
    return tuple(names) or target.positional


def inner_cell_of(function: Any) -> CellType | None:
    """The closure cell in which LiteLLM's `client` decorator keeps the function itself, if this is one of its wrappers."""
    while function is not None:
        code = getattr(function, "__code__", None)
        if code is not None and INNER_CELL in code.co_freevars:
            cell: CellType = function.__closure__[code.co_freevars.index(INNER_CELL)]
            return cell
        function = getattr(function, "__wrapped__", None)
    return None
