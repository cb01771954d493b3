"""READERS: for each Operation, how its inputs and outputs are read. The one place that knows all the shapes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from honeyhive_autoinstrument.events.anthropic import anthropic_inputs, anthropic_outputs, whole_message
from honeyhive_autoinstrument.events.facts import CallFacts, Operation
from honeyhive_autoinstrument.events.google import google_inputs, google_outputs, whole_generation
from honeyhive_autoinstrument.events.media import (
    image_inputs,
    image_outputs,
    ocr_inputs,
    ocr_outputs,
    speech_inputs,
    speech_outputs,
    transcription_inputs,
    transcription_outputs,
    video_outputs,
)
from honeyhive_autoinstrument.events.messages import (
    Outputs,
    chat_inputs,
    chat_outputs,
    merged_chat,
    merged_text,
    text_inputs,
    text_outputs,
)
from honeyhive_autoinstrument.events.parameters import CONTENT
from honeyhive_autoinstrument.events.responses import responses_inputs, responses_outputs, whole_response
from honeyhive_autoinstrument.events.retrieval import (
    embedding_inputs,
    embedding_outputs,
    moderation_inputs,
    moderation_outputs,
    rerank_inputs,
    rerank_outputs,
    search_inputs,
    search_outputs,
)
from honeyhive_autoinstrument.events.values import plain_of, without_blobs, without_nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How one Operation is read."""

    inputs: Callable[[Mapping[str, Any]], dict[str, Any]]
    outputs: Callable[[CallFacts], Outputs]
    merged: Callable[[CallFacts], Outputs] | None = None
    """Outputs of a stream whose chunks are pieces of a message."""
    whole: Callable[[Sequence[object]], Any] | None = None
    """The answer that a stream's events add up to, in the shape of one that is no stream."""
    is_chat: bool = False
    """Whether it is a conversation, and reads like one in the event."""


def _other_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: without_blobs(plain_of(value)) for name, value in arguments.items() if name in CONTENT}


def _other_outputs(facts: CallFacts) -> Outputs:
    answer = without_blobs(without_nothing(plain_of(facts.result)))
    return answer if isinstance(answer, dict) else {"result": answer}


def _batch_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Several conversations as `chat_histories`; one, for several models, as `chat_history`."""
    messages = arguments.get("messages")
    if isinstance(messages, list) and any(isinstance(each, list) for each in messages):
        histories = [chat_inputs({"messages": each})["chat_history"] for each in messages]
        return {"chat_histories": histories}
    return chat_inputs(arguments)


def _batch_outputs(facts: CallFacts) -> Outputs:
    """`results` in the order of the items; those of one model each under another where there were several models."""
    if not isinstance(facts.result, list):
        return chat_outputs(facts)
    return {"results": [_result_of(facts, each) for each in facts.result]}


def _result_of(facts: CallFacts, result: Any) -> Any:
    if isinstance(result, list):
        return [_result_of(facts, each) for each in result]
    if isinstance(result, BaseException):
        return {"error": type(result).__qualname__}
    return chat_outputs(replace(facts, result=result, answer=None))


CHAT = Reader(inputs=chat_inputs, outputs=chat_outputs, merged=merged_chat, is_chat=True)
IMAGE = Reader(inputs=image_inputs, outputs=image_outputs)

READERS: Mapping[Operation, Reader] = {
    Operation.CHAT: CHAT,
    Operation.TEXT: Reader(inputs=text_inputs, outputs=text_outputs, merged=merged_text),
    Operation.RESPONSES: Reader(inputs=responses_inputs, outputs=responses_outputs, whole=whole_response, is_chat=True),
    Operation.MESSAGES: Reader(inputs=anthropic_inputs, outputs=anthropic_outputs, whole=whole_message, is_chat=True),
    Operation.GENERATE: Reader(inputs=google_inputs, outputs=google_outputs, whole=whole_generation, is_chat=True),
    Operation.EMBEDDING: Reader(inputs=embedding_inputs, outputs=embedding_outputs),
    Operation.RERANK: Reader(inputs=rerank_inputs, outputs=rerank_outputs),
    Operation.MODERATION: Reader(inputs=moderation_inputs, outputs=moderation_outputs),
    Operation.SEARCH: Reader(inputs=search_inputs, outputs=search_outputs),
    Operation.IMAGE: IMAGE,
    Operation.IMAGE_EDIT: IMAGE,
    Operation.IMAGE_VARIATION: IMAGE,
    Operation.VIDEO: Reader(inputs=image_inputs, outputs=video_outputs),
    Operation.TRANSCRIPTION: Reader(inputs=transcription_inputs, outputs=transcription_outputs),
    Operation.SPEECH: Reader(inputs=speech_inputs, outputs=speech_outputs),
    Operation.OCR: Reader(inputs=ocr_inputs, outputs=ocr_outputs),
    Operation.BATCH: Reader(inputs=_batch_inputs, outputs=_batch_outputs),
    Operation.OTHER: Reader(inputs=_other_inputs, outputs=_other_outputs),
}


def inputs_of(facts: CallFacts) -> dict[str, Any]:
    """The `inputs` bucket: what the model was given."""
    return READERS[facts.operation].inputs(facts.arguments)


def outputs_of(facts: CallFacts) -> Outputs:
    """The `outputs` bucket: what came back, or as much of a stream as was read."""
    reader = READERS[facts.operation]
    if facts.is_stream and reader.merged is not None:
        return reader.merged(facts)
    return {} if facts.result is None else reader.outputs(facts)


def with_whole_answer(facts: CallFacts) -> CallFacts:
    """Facts of a stream with the answer that its events add up to, where there is such a thing."""
    whole = READERS[facts.operation].whole
    if not facts.is_stream or whole is None:
        return facts
    return replace(facts, result=whole(facts.chunks))
