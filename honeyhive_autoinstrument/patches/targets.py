"""TARGETS: every function and method that is wrapped, one row each.

A public function that LiteLLM binds twice has two rows: the name that users call, and its inner end. Up to 1.102 both
are one object, and the inner row finds it wrapped already; from 1.103 on `litellm.completion` is a dispatch function
that calls `litellm.main.completion`, and helpers such as `text_completion` call the latter only (litellm_map.md 0, 1.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    has_attempts: bool = True
    """Of a chain: whether the Calls below are tries to answer it, not pieces of work of their own (a batch's items)."""
    is_tool: bool = False
    """Looks something up; no model works on it, so that its tokens (if any) were counted before."""
    is_inner: bool = False
    """The inner end of a public function; alone it counts as that function."""
    passes_on: bool = False
    """Does nothing but call another Target, once; both are one call."""
    is_request: bool = False
    """No function, but a request to the LiteLLM Proxy, which this operation serves."""
    is_repeated: bool = False
    """This time LiteLLM may repeat it: the Calls below are its tries."""
    positional: tuple[str, ...] = ()
    """Names of positional parameters where the signature has only `*args`."""
    public: str | None = None
    """The name users know, where it is another one (`litellm.google_genai.generate_content`)."""

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
        return self.public or f"litellm.{self.name}"

    @property
    def can_repeat(self) -> bool:
        """Whether LiteLLM repeats a call of this function itself, given `num_retries=`, `fallbacks=` or
        `context_window_fallback_dict=` (litellm_map.md 1.2)."""
        return self.operation is Operation.CHAT and self.attribute in REPEATED

    def as_repeated(self) -> Target:
        """The same function, called so that LiteLLM may repeat it."""
        return replace(self, is_chain=True, is_repeated=True)

    def as_request(self) -> Target:
        """The request to the Proxy that a call of this function serves."""
        return Target(
            module="litellm.proxy",
            name="proxy",
            shape=self.shape,
            operation=self.operation,
            is_chain=True,
            has_attempts=False,
            is_request=True,
        )

    def as_batch(self) -> Target:
        """The same function, called in a way that makes it ask several models (`completion(model_list=...)`)."""
        return replace(self, operation=Operation.BATCH, is_chain=True, has_attempts=False)


REPEATED = frozenset({"completion", "acompletion"})

CHAT, TEXT, EMBEDDING, IMAGE = Operation.CHAT, Operation.TEXT, Operation.EMBEDDING, Operation.IMAGE
RESPONSES, MESSAGES, GENERATE = Operation.RESPONSES, Operation.MESSAGES, Operation.GENERATE
BATCH, VIDEO, OTHER = Operation.BATCH, Operation.VIDEO, Operation.OTHER
MODEL_MESSAGES, MODEL_INPUT, PROMPT_MODEL = ("model", "messages"), ("model", "input"), ("prompt", "model")


def _row(name: str, operation: Operation, positional: tuple[str, ...] = (), **more: Any) -> Target:
    is_async = (name.rpartition(".")[2].startswith("a") or name in ASYNC_WITHOUT_A) and name not in SYNC_WITH_A
    shape = Shape.ASYNC if is_async else Shape.SYNC
    return Target(**{"module": "litellm", **more}, name=name, shape=shape, operation=operation, positional=positional)


def _pair(name: str, operation: Operation, positional: tuple[str, ...] = (), **more: Any) -> tuple[Target, Target]:
    """A function and its async twin."""
    owner, dot, attribute = name.rpartition(".")
    twin = dict(more)
    if "public" in more:
        twin["public"] = more["public"].removesuffix(attribute) + "a" + attribute
    return _row(name, operation, positional, **more), _row(f"{owner}{dot}a{attribute}", operation, positional, **twin)


SYNC_WITH_A = frozenset({"adapter_completion", "anthropic_messages_handler"})
ASYNC_WITHOUT_A = frozenset({"_PYTHON_AMESSAGES", "Router.schedule_acompletion"})
"""Names that say the wrong thing: async functions begin with an `a`, others do not."""

ANTHROPIC = "litellm.anthropic_interface.messages"
GOOGLE = "litellm.google_genai.main"
DISPATCH = "litellm.messages.dispatch"
STORES = "litellm.vector_stores.main"
INTERACTIONS = "litellm.interactions.main"

FUNCTIONS = (
    *_pair("completion", CHAT, MODEL_MESSAGES),
    # LiteLLM reads atext_completion's first positional argument as the model, and hands all of them to
    # text_completion(prompt, model).
    *_pair("text_completion", TEXT, PROMPT_MODEL),
    *_pair("responses", RESPONSES, MODEL_INPUT),
    _row("anthropic_messages", MESSAGES),
    _row("anthropic_messages_handler", MESSAGES),
    *_pair("create", MESSAGES, module=ANTHROPIC, public="litellm.anthropic.messages.create", passes_on=True),
    *_pair("embedding", EMBEDDING, MODEL_INPUT),
    *_pair("rerank", Operation.RERANK),
    *_pair("moderation", Operation.MODERATION),
    *_pair("image_generation", IMAGE, PROMPT_MODEL),
    *_pair("image_edit", Operation.IMAGE_EDIT),
    *_pair("image_variation", Operation.IMAGE_VARIATION),
    *_pair("transcription", Operation.TRANSCRIPTION),
    *_pair("speech", Operation.SPEECH),
    *_pair("ocr", Operation.OCR, ("model", "document")),
    *_pair("search", Operation.SEARCH, is_tool=True),
    *_pair("generate_content", GENERATE, module=GOOGLE, public="litellm.google_genai.generate_content"),
    *_pair("generate_content_stream", GENERATE, module=GOOGLE, public="litellm.google_genai.generate_content_stream"),
    *_pair("video_generation", VIDEO),
    *_pair("video_remix", VIDEO),
    *_pair("video_edit", VIDEO),
    *_pair("video_extension", VIDEO),
    *_pair("compact_responses", RESPONSES),
    *_pair("get_responses", RESPONSES, is_tool=True),
    *_pair("decisions", OTHER),
    *_pair("extraction", OTHER),
    *_pair("systemone", OTHER),
    *_pair("search", Operation.SEARCH, module=STORES, public="litellm.vector_stores.search", is_tool=True),
    *_pair("create", OTHER, module=INTERACTIONS, public="litellm.interactions.create"),
)
"""One call, one event."""

LEADING = (
    *_pair("completion_with_retries", CHAT, MODEL_MESSAGES, is_chain=True),
    *_pair("responses_with_retries", RESPONSES, is_chain=True),
    *(
        _row(name, BATCH, is_chain=True, has_attempts=False)
        for name in ("batch_completion", "batch_completion_models", "batch_completion_models_all_responses")
    ),
    *_pair("adapter_completion", CHAT, is_chain=True, has_attempts=False),
    _row("aadapter_generate_content", GENERATE, is_chain=True, has_attempts=False),
    *_pair("run_tool_loop", CHAT, is_chain=True, has_attempts=False),
    *_pair("query", CHAT, is_chain=True, has_attempts=False),
)
"""Functions that lead to other recorded calls."""

INNER = (
    *_pair("completion", CHAT, MODEL_MESSAGES, module="litellm.main", is_inner=True),
    *_pair("embedding", EMBEDDING, MODEL_INPUT, module="litellm.main", is_inner=True),
    *_pair("responses", RESPONSES, MODEL_INPUT, module="litellm.responses.main", is_inner=True),
    _row("_PYTHON_MESSAGES", MESSAGES, module=DISPATCH, is_inner=True, public="litellm.anthropic_messages_handler"),
    _row("_PYTHON_AMESSAGES", MESSAGES, module=DISPATCH, is_inner=True, public="litellm.anthropic_messages"),
)
"""Inner ends. Those of the Messages API move between releases; its dispatch module names them (1.103 and later)."""

ROUTER = (
    *_pair("Router.completion", CHAT, MODEL_MESSAGES, is_chain=True),
    *_pair("Router.text_completion", TEXT, ("model", "prompt"), is_chain=True),
    *_pair("Router.embedding", EMBEDDING, MODEL_INPUT, is_chain=True),
    *_pair("Router.image_generation", IMAGE, PROMPT_MODEL, is_chain=True),
    *_pair("Router.responses", RESPONSES, is_chain=True),
    _row("Router.anthropic_messages", MESSAGES, is_chain=True),
    _row("Router.aanthropic_messages", MESSAGES, is_chain=True),
    _row("Router.arerank", Operation.RERANK, is_chain=True),
    _row("Router.amoderation", Operation.MODERATION, is_chain=True),
    _row("Router.atranscription", Operation.TRANSCRIPTION, ("file", "model"), is_chain=True),
    _row("Router.aspeech", Operation.SPEECH, ("model", "input", "voice"), is_chain=True),
    _row("Router.aimage_edit", Operation.IMAGE_EDIT, is_chain=True),
    *_pair("Router.ocr", Operation.OCR, is_chain=True),
    *_pair("Router.search", Operation.SEARCH, is_chain=True),
    *_pair("Router.generate_content", GENERATE, is_chain=True),
    *_pair("Router.generate_content_stream", GENERATE, is_chain=True),
    *_pair("Router.video_generation", VIDEO, is_chain=True),
    *_pair("Router.video_remix", VIDEO, is_chain=True),
    _row("Router.avideo_edit", VIDEO, is_chain=True),
    _row("Router.avideo_extension", VIDEO, is_chain=True),
    _row("Router.acompact_responses", RESPONSES, is_chain=True),
    _row("Router.aget_responses", RESPONSES, is_chain=True),
    *_pair("Router.decisions", OTHER, is_chain=True),
    *_pair("Router.extraction", OTHER, is_chain=True),
    *_pair("Router.systemone", OTHER, is_chain=True),
    *_pair("Router.vector_store_search", Operation.SEARCH, is_chain=True),
    _row("Router.acreate_interaction", OTHER, is_chain=True),
    _row("Router.aadapter_completion", CHAT, is_chain=True),
    _row("Router.aadapter_generate_content", GENERATE, is_chain=True),
    _row("Router.schedule_acompletion", CHAT, is_chain=True),
    *(
        _row(f"Router.{name}", BATCH, is_chain=True, has_attempts=False)
        for name in (
            "abatch_completion",
            "abatch_completion_one_model_multiple_requests",
            "abatch_completion_fastest_response",
        )
    ),
)
"""Methods of the Router, among them those that it makes for each instance or serves by name (see apply.py)."""

TARGETS = (*FUNCTIONS, *LEADING, *INNER, *ROUTER)

ROUTER_CORE = ("litellm.router_rust.core", "RustCore")
"""Module and name of the class that has the Router's methods from 1.110 on."""

ENDPOINTS = ("litellm.router_rust.invoke.endpoints", "endpoint_names")
"""Module and function that tell which methods that class serves by name."""

CONTEXT_CARRIERS = (("litellm.litellm_core_utils.asyncify", "run_async_function"),)
"""Functions that run a coroutine on a new thread without the caller's context; the surrounding Call is carried over
(sync Router methods inside a running loop, litellm_map.md 1.5)."""

LOGGING = ("litellm.litellm_core_utils.litellm_logging", "Logging")
"""LiteLLM's logging object, told of every request (`pre_call`) and answer (`post_call`); same signatures in all releases
(litellm_map.md 6)."""
