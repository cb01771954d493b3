"""Images, video, audio and documents: arguments and answers -> inputs and outputs. Pure.

Bytes never travel: files, images and recordings become type, size and SHA-256. Shapes of the responses: litellm_map.md 4.1,
OpenAI's API reference (images, audio, videos), Mistral's (OCR).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from honeyhive_autoinstrument.events.facts import CallFacts, FileFacts
from honeyhive_autoinstrument.events.messages import Outputs
from honeyhive_autoinstrument.events.values import (
    blob_of,
    blob_of_bytes,
    field_of,
    file_as_plain,
    list_of,
    plain_of,
    without_blobs,
    without_nothing,
)


def image_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`prompt`, and the images that an edit or a variation starts from."""
    inputs: dict[str, Any] = {}
    if arguments.get("prompt") is not None:
        inputs["prompt"] = plain_of(arguments["prompt"])
    for name in ("image", "mask", "input_reference"):
        if arguments.get(name) is not None:
            inputs[name] = _files_of(arguments[name])
    if arguments.get("video_id") is not None:
        inputs["video_id"] = plain_of(arguments["video_id"])
    return inputs


def _files_of(given: Any) -> Any:
    if isinstance(given, list) and not _is_named(given):
        return [file_of(each) for each in given]
    return file_of(given)


def _is_named(given: Any) -> bool:
    """Whether a list was the tuple (name, content[, type[, headers]]) that httpx and OpenAI's client take."""
    return isinstance(given, list) and 2 <= len(given) <= 4 and (given[0] is None or isinstance(given[0], str))


def file_of(given: Any) -> Any:
    """A file as LiteLLM takes it: bytes, an open file, a path, or a tuple (name, content, type)."""
    if _is_named(given):
        content = given[1]
        media_type = given[2] if len(given) > 2 and isinstance(given[2], str) else None
        if isinstance(content, FileFacts):
            return file_as_plain(
                replace(content, name=given[0] or content.name, media_type=media_type or content.media_type)
            )
        if isinstance(content, bytes):
            return file_as_plain(FileFacts(name=given[0], media_type=media_type, data=content))
    return without_blobs(plain_of(given))


def image_outputs(facts: CallFacts) -> Outputs:
    """`images`: links, or blobs."""
    images = []
    for each in list_of(field_of(facts.result, "data")):
        image: dict[str, Any] = {}
        for name in ("url", "revised_prompt"):
            if field_of(each, name):
                image[name] = without_blobs(field_of(each, name))
        if field_of(each, "b64_json"):
            image["b64_json"] = blob_of(field_of(each, "b64_json"))
        images.append(image)
    return {"images": images}


VIDEO_FIELDS = ("id", "status", "progress", "seconds", "size", "created_at", "expires_at", "error")


def video_outputs(facts: CallFacts) -> Outputs:
    """The job that the provider works on: id, status, what was ordered."""
    return _named_fields(facts.result, VIDEO_FIELDS)


def transcription_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`file`, and the prompt that leads the transcription."""
    inputs: dict[str, Any] = {"file": file_of(arguments.get("file"))}
    if arguments.get("prompt"):
        inputs["prompt"] = plain_of(arguments["prompt"])
    return inputs


TRANSCRIPTION_FIELDS = ("text", "language", "duration", "segments", "words", "logprobs")


def transcription_outputs(facts: CallFacts) -> Outputs:
    """`text`, and with `verbose_json` language, duration, segments and words."""
    if isinstance(facts.result, str):
        return {"text": facts.result}
    return _named_fields(facts.result, TRANSCRIPTION_FIELDS)


def speech_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The text to speak."""
    return {"input": plain_of(arguments.get("input"))}


def speech_outputs(facts: CallFacts) -> Outputs:
    """`audio` as a blob: only where the answer has been read already, since reading it is the application's to do."""
    response = field_of(facts.result, "response")
    data = getattr(response, "_content", None)
    headers = getattr(response, "headers", None)
    media_type = headers.get("content-type") if headers is not None else None
    if isinstance(data, bytes):
        return {"audio": blob_of_bytes(data, media_type)}
    return {"audio": {"type": media_type or "bytes"}}


def ocr_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The document, by link or as a blob."""
    return {"document": without_blobs(plain_of(arguments.get("document")))}


OCR_FIELDS = ("pages", "document_annotation")


def ocr_outputs(facts: CallFacts) -> Outputs:
    """The pages' text; their images as blobs."""
    return _named_fields(facts.result, OCR_FIELDS)


def _named_fields(response: Any, names: tuple[str, ...]) -> Outputs:
    found = {name: without_blobs(without_nothing(plain_of(field_of(response, name)))) for name in names}
    return {name: value for name, value in found.items() if value is not None and value != [] and value != {}}
