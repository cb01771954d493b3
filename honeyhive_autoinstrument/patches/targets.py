"""TARGETS: every function and method that is wrapped, one row each.

A public function that LiteLLM binds twice has two rows: the name that users call, and its inner end. Up to 1.102 both
are one object, and the inner row finds it wrapped already; from 1.103 on `litellm.completion` is a dispatch function
that calls `litellm.main.completion`, and helpers such as `text_completion` call the latter only (litellm_map.md 0, 1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from honeyhive_autoinstrument.events.facts import Operation


class Shape(Enum):
    """Whether the function returns its result or a coroutine."""

    SYNC = "sync"
    ASYNC = "async"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to wrap: a function of a module of LiteLLM's, or a method of its Router."""

    module: str
    """Looked up in `sys.modules`, never imported: `litellm.responses` and others are shadowed by functions."""
    name: str
    shape: Shape
    operation: Operation
    is_chain: bool = False
    """Leads to other Calls, which carry the tokens."""
    is_inner: bool = False
    """The inner end of a public function; alone it counts as that function."""
    positional: tuple[str, ...] = ()
    """Names of positional parameters where the signature has only `*args`."""

    @property
    def owner(self) -> str | None:
        """The class that has the method, None for a function."""
        return self.name.partition(".")[0] if "." in self.name else None

    @property
    def attribute(self) -> str:
        """The name on its module or class."""
        return self.name.rpartition(".")[2]

    @property
    def event_name(self) -> str:
        """The name users know: `litellm.completion`, also for the inner end; `litellm.Router.completion`."""
        return f"litellm.{self.name}"


CHAT, TEXT, EMBEDDING, IMAGE = Operation.CHAT, Operation.TEXT, Operation.EMBEDDING, Operation.IMAGE
MESSAGES = ("model", "messages")


def _function(name: str, operation: Operation, *, positional: tuple[str, ...] = (), is_chain: bool = False) -> Target:
    shape = Shape.ASYNC if name.startswith("a") else Shape.SYNC
    return Target(
        module="litellm", name=name, shape=shape, operation=operation, positional=positional, is_chain=is_chain
    )


def _inner(module: str, name: str, operation: Operation, *, positional: tuple[str, ...]) -> Target:
    shape = Shape.ASYNC if name.startswith("a") else Shape.SYNC
    return Target(module=module, name=name, shape=shape, operation=operation, positional=positional, is_inner=True)


def _router(name: str, operation: Operation, *, positional: tuple[str, ...]) -> Target:
    shape = Shape.ASYNC if name.startswith("a") else Shape.SYNC
    return Target(
        module="litellm",
        name=f"Router.{name}",
        shape=shape,
        operation=operation,
        positional=positional,
        is_chain=True,
    )


TARGETS = (
    _function("completion", CHAT, positional=MESSAGES),
    _function("acompletion", CHAT, positional=MESSAGES),
    _function("text_completion", TEXT, positional=("prompt", "model")),
    # LiteLLM reads its first positional argument as the model and hands all of them to text_completion(prompt, model).
    _function("atext_completion", TEXT, positional=("prompt", "model")),
    _function("embedding", EMBEDDING, positional=("model", "input")),
    _function("aembedding", EMBEDDING, positional=("model", "input")),
    _function("image_generation", IMAGE, positional=("prompt", "model")),
    _function("aimage_generation", IMAGE, positional=("prompt", "model")),
    _function("completion_with_retries", CHAT, positional=MESSAGES, is_chain=True),
    _function("acompletion_with_retries", CHAT, positional=MESSAGES, is_chain=True),
    _inner("litellm.main", "completion", CHAT, positional=MESSAGES),
    _inner("litellm.main", "acompletion", CHAT, positional=MESSAGES),
    _inner("litellm.main", "embedding", EMBEDDING, positional=("model", "input")),
    _inner("litellm.main", "aembedding", EMBEDDING, positional=("model", "input")),
    _router("completion", CHAT, positional=MESSAGES),
    _router("acompletion", CHAT, positional=MESSAGES),
    _router("text_completion", TEXT, positional=("model", "prompt")),
    _router("atext_completion", TEXT, positional=("model", "prompt")),
    _router("embedding", EMBEDDING, positional=("model", "input")),
    _router("aembedding", EMBEDDING, positional=("model", "input")),
    _router("image_generation", IMAGE, positional=("prompt", "model")),
    _router("aimage_generation", IMAGE, positional=("prompt", "model")),
)

ROUTER_CORE = ("litellm.router_rust.core", "RustCore")
"""Module and name of the class that has the Router's methods from 1.110 on."""

CONTEXT_CARRIERS = (("litellm.litellm_core_utils.asyncify", "run_async_function"),)
"""Functions that run a coroutine on a new thread without the caller's context; the surrounding Call is carried over
(sync Router methods inside a running loop, litellm_map.md 1.5)."""
