"""TARGETS: every function and method that is wrapped, one row each.

A public function that LiteLLM binds twice has two rows: the name that users call, and its inner end. Up to 1.102 both
are one object, and the inner row finds it wrapped already; from 1.103 on `litellm.completion` is a dispatch function
that calls `litellm.main.completion`, and helpers such as `text_completion` call the latter only (litellm_map.md 0, 1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

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
MESSAGES, INPUT, PROMPT = ("model", "messages"), ("model", "input"), ("prompt", "model")


def _row(name: str, operation: Operation, positional: tuple[str, ...], **more: Any) -> Target:
    is_async = name.rpartition(".")[2].startswith("a")
    shape = Shape.ASYNC if is_async else Shape.SYNC
    return Target(**{"module": "litellm", **more}, name=name, shape=shape, operation=operation, positional=positional)


TARGETS = (
    _row("completion", CHAT, MESSAGES),
    _row("acompletion", CHAT, MESSAGES),
    _row("text_completion", TEXT, ("prompt", "model")),
    # LiteLLM reads its first positional argument as the model and hands all of them to text_completion(prompt, model).
    _row("atext_completion", TEXT, ("prompt", "model")),
    _row("embedding", EMBEDDING, INPUT),
    _row("aembedding", EMBEDDING, INPUT),
    _row("image_generation", IMAGE, PROMPT),
    _row("aimage_generation", IMAGE, PROMPT),
    _row("completion_with_retries", CHAT, MESSAGES, is_chain=True),
    _row("acompletion_with_retries", CHAT, MESSAGES, is_chain=True),
    _row("completion", CHAT, MESSAGES, module="litellm.main", is_inner=True),
    _row("acompletion", CHAT, MESSAGES, module="litellm.main", is_inner=True),
    _row("embedding", EMBEDDING, INPUT, module="litellm.main", is_inner=True),
    _row("aembedding", EMBEDDING, INPUT, module="litellm.main", is_inner=True),
    _row("Router.completion", CHAT, MESSAGES, is_chain=True),
    _row("Router.acompletion", CHAT, MESSAGES, is_chain=True),
    _row("Router.text_completion", TEXT, ("model", "prompt"), is_chain=True),
    _row("Router.atext_completion", TEXT, ("model", "prompt"), is_chain=True),
    _row("Router.embedding", EMBEDDING, INPUT, is_chain=True),
    _row("Router.aembedding", EMBEDDING, INPUT, is_chain=True),
    _row("Router.image_generation", IMAGE, PROMPT, is_chain=True),
    _row("Router.aimage_generation", IMAGE, PROMPT, is_chain=True),
)

ROUTER_CORE = ("litellm.router_rust.core", "RustCore")
"""Module and name of the class that has the Router's methods from 1.110 on."""

CONTEXT_CARRIERS = (("litellm.litellm_core_utils.asyncify", "run_async_function"),)
"""Functions that run a coroutine on a new thread without the caller's context; the surrounding Call is carried over
(sync Router methods inside a running loop, litellm_map.md 1.5)."""
