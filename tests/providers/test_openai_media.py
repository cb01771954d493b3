"""OpenAI's audio, moderation and image routes, called through LiteLLM: one whole event each, and no bytes in any.

The provider's side follows OpenAI's published API reference ("Audio", "Moderations", "Images"). What LiteLLM makes of it was
read off its response objects.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import litellm
import pytest

from tests.capture.calls import LITELLM_VERSION
from tests.conftest import Recording
from tests.fakes.provider import KEY, TEXT, Behaviour, FakeProvider
from tests.fakes.wires.openai_media import PICTURE, SEGMENTS, SOUND, SPOKEN, moderation_result
from tests.providers.case import IS_NEWEST, Case, check, event

API: dict[str, Any] = {"api_base": "{url}/v1", "api_key": KEY, "max_retries": 0}
WAV = b"RIFF a question"
PNG = b"\x89PNG\r\n\x1a\n a cat"
MASK = b"\x89PNG\r\n\x1a\n a mask"
FILE = ("hello.wav", WAV, "audio/wav")


def digest(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def media(
    id: str,
    function: str,
    model: str,
    operation: str,
    *,
    given: dict[str, Any],
    settings: dict[str, Any] | None = None,
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    special: str | None = None,
    request_id: bool = True,
    since: tuple[int, int] = (1, 55),
    **metadata: Any,
) -> Case:
    """One call; `given` are its contents, `settings` what else it is asked for."""
    settings = settings or {}
    named = {"provider_request_id": "req_fake"} if request_id else {}
    return Case(
        id=id,
        function=function,
        arguments={"model": model, **API, **given, **settings},
        behaviour=Behaviour(special=special),
        model=model.rpartition("/")[2],
        since=since,
        expected=event(
            f"litellm.{function}",
            config={"model": model, "provider": "openai", "max_retries": 0, **settings},
            inputs=inputs,
            outputs=outputs,
            metadata={
                "operation_name": operation,
                "call_type": function,
                "provider": "openai",
                "api_base": "{url}/v1",
                **named,
                **metadata,
            },
        ),
    )


def costs(total: float, **parts: float) -> dict[str, Any]:
    found = {name: pytest.approx(part) for name, part in {"total_cost": total, "original_cost": total, **parts}.items()}
    return {"cost": pytest.approx(total), "cost_source": "response", "cost_parts": found}


def tokens(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "input_tokens": prompt,
        "output_tokens": completion,
        "total_tokens": prompt + completion,
    }


HEARD_FILE = {"name": "hello.wav", "type": "audio/wav", **digest(WAV)}
HEARD = {"text": TEXT, "language": "english", "duration": 1.5, "segments": SEGMENTS}
BY_SECOND = {
    # LiteLLM asks whisper-1 for verbose_json where the caller asks for nothing else, to know the duration.
    "usage": {"type": "duration", "seconds": 2.0},
    "usage_source": "provider",
    **costs(1.5 * 0.0001, output_cost=1.5 * 0.0001),
}
BY_TOKEN = {
    **tokens(14, 6),
    "audio_input_tokens": 10,
    "usage": {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
        "output_tokens": 6,
        "total_tokens": 20,
    },
    "usage_source": "provider",
    **costs(9.5e-05, input_cost=3.5e-05, output_cost=6e-05),
}
TRANSCRIPTIONS = (
    *(
        media(
            f"transcription, {kind}",
            function,
            "openai/whisper-1",
            "transcription",
            given={"file": FILE},
            inputs={"file": HEARD_FILE},
            outputs=HEARD,
            **BY_SECOND,
        )
        for kind, function in (("sync", "transcription"), ("async", "atranscription"))
    ),
    media(
        "transcription with words",
        "transcription",
        "openai/whisper-1",
        "transcription",
        given={"file": FILE, "prompt": "A greeting."},
        settings={"response_format": "verbose_json", "timestamp_granularities": ["word", "segment"], "language": "en"},
        inputs={"file": HEARD_FILE, "prompt": "A greeting."},
        outputs={**HEARD, "words": SPOKEN},
        **BY_SECOND,
    ),
    *(
        media(
            f"transcription by the token, {kind}",
            function,
            "openai/gpt-4o-transcribe",
            "transcription",
            given={"file": FILE},
            inputs={"file": HEARD_FILE},
            outputs={"text": TEXT},
            special="tokens",
            since=(1, 82),  # older ones have no usage of a transcription
            **BY_TOKEN,
        )
        for kind, function in (("sync", "transcription"), ("async", "atranscription"))
    ),
)

SPEECHES = tuple(
    media(
        f"speech, {kind}",
        function,
        "openai/tts-1",
        "speech",
        given={"input": "Hello."},
        settings={"voice": "alloy", **settings},
        inputs={"input": "Hello."},
        outputs={"audio": {"type": media_type, **digest(SOUND)}},
        **costs(6 * 1.5e-05, input_cost=6 * 1.5e-05),
    )
    for kind, function, settings, media_type in (
        ("sync", "speech", {}, "audio/mpeg"),
        ("async", "aspeech", {}, "audio/mpeg"),
        ("wav", "speech", {"response_format": "wav", "speed": 1.25}, "audio/wav"),
    )
)


def judged(*, flagged: bool) -> dict[str, Any]:
    """As LiteLLM hands it out: every category under OpenAI's name and under the attribute's, empty lists left out."""

    def twice(categories: dict[str, Any]) -> dict[str, Any]:
        return {**categories, **{name.replace("/", "_").replace("-", "_"): value for name, value in categories.items()}}

    found = moderation_result(flagged=flagged)
    applied = {name: kinds for name, kinds in found["category_applied_input_types"].items() if kinds}
    result = {
        "flagged": flagged,
        "categories": twice(found["categories"]),
        "category_scores": twice(found["category_scores"]),
    }
    return {**result, "category_applied_input_types": twice(applied)} if applied else result


MODERATOR = "omni-moderation-latest"
MODERATIONS = tuple(
    media(
        f"moderation, {kind}",
        function,
        MODERATOR,
        "moderation",
        given={"input": given},
        inputs={"input": given},
        outputs={"flagged": flagged[0], "results": [judged(flagged=each) for each in flagged]},
        special="flagged" if any(flagged) else None,
        request_id=False,  # LiteLLM does not keep the headers
        since=(1, 82),  # older ones ask OpenAI itself, whatever the address
        response_model=MODERATOR,
        # LiteLLM's decorator, which prices a call, is around the async function only.
        **({"cost": 0.0, "cost_source": "response"} if function == "amoderation" else {}),
    )
    for kind, function, given, flagged in (
        ("sync", "moderation", "Hello.", (False,)),
        ("async", "amoderation", "Hello.", (False,)),
        ("flagged", "moderation", "I will hit you.", (True,)),
        ("flagged, of two, async", "amoderation", ["I will hit you.", "Hello."], (True, False)),
    )
)

EDITED = {"images": [{"b64_json": {"type": "base64", **digest(PICTURE)}}]}
EDIT_COST = {
    **tokens(50, 30),
    "image_input_tokens": 40,
    "usage_source": "provider",
    # LiteLLM's usage object has OpenAI's names for images, and those of chats with nothing behind them.
    "usage": {
        "input_tokens": 50,
        "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
        "output_tokens": 30,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 80,
    },
    "cost": pytest.approx(40 * 1e-05 + 10 * 5e-06 + 30 * 4e-05),
    "cost_source": "response",
}
EDITS = tuple(
    media(
        f"image edit, {kind}",
        function,
        "openai/gpt-image-1",
        "image_edit",
        given={"prompt": "a hat", **given},
        settings=settings,
        inputs={"prompt": "a hat", **inputs},
        outputs=EDITED,
        since=(1, 82),  # 1.74 takes open files only
        **EDIT_COST,
    )
    for kind, function, given, settings, inputs in (
        ("bytes", "image_edit", {"image": PNG}, {}, {"image": {"type": "bytes", **digest(PNG)}}),
        (
            "async",
            "aimage_edit",
            {"image": PNG},
            {"size": "1024x1024", "quality": "low"},
            {"image": {"type": "bytes", **digest(PNG)}},
        ),
        (
            "two images and a mask",
            "image_edit",
            {"image": [PNG, MASK], "mask": MASK},
            {},
            {
                "image": [{"type": "bytes", **digest(PNG)}, {"type": "bytes", **digest(MASK)}],
                "mask": {"type": "bytes", **digest(MASK)},
            },
        ),
    )
)

CASES = (*TRANSCRIPTIONS, *SPEECHES, *MODERATIONS, *EDITS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "-"))
def test_a_call_is_one_whole_event(case: Case, recording: Recording, fake_provider: FakeProvider) -> None:
    check(case, recording, fake_provider)


def api_of(provider: FakeProvider) -> dict[str, Any]:
    return {**API, "api_base": provider.base}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    return path


has_variations = pytest.mark.skipif(
    not hasattr(litellm, "image_variation"), reason="this LiteLLM has no image variations yet"
)


@has_variations
def test_an_open_file_is_recorded_by_name_and_size_and_still_arrives(
    picture: Path, recording: Recording, fake_provider: FakeProvider
) -> None:
    with picture.open("rb") as image:
        litellm.image_variation(model="openai/dall-e-2", image=image, **api_of(fake_provider))

    found = recording.event()
    assert found["event_name"] == "litellm.image_variation"
    assert found["metadata"]["operation_name"] == "image_variation"
    image_fields = found["inputs"]["image"]
    assert (image_fields["size"], image_fields["name"]) == (len(PNG), picture.name)
    assert found["outputs"] == {"images": [{"url": "https://images.example/1.png"}]}
    assert "prompt_tokens" not in found["metadata"]  # zeros of LiteLLM's own
    (request,) = fake_provider.requests
    assert PNG in request.body


@has_variations
def test_a_variation_is_recorded_async_as_sync(
    picture: Path, recording: Recording, fake_provider: FakeProvider
) -> None:
    async def vary() -> None:
        with picture.open("rb") as image:
            await litellm.aimage_variation(model="openai/dall-e-2", image=image, n=1, **api_of(fake_provider))

    asyncio.run(vary())

    found = recording.event()
    assert found["event_name"] == "litellm.aimage_variation"
    assert found["config"]["n"] == 1
    assert found["inputs"]["image"]["size"] == len(PNG)
    assert found["outputs"] == {"images": [{"url": "https://images.example/1.png"}]}


def test_an_open_recording_is_recorded_and_still_arrives(
    tmp_path: Path, recording: Recording, fake_provider: FakeProvider
) -> None:
    path = tmp_path / "hello.wav"
    path.write_bytes(WAV)

    with path.open("rb") as file:
        litellm.transcription(model="openai/whisper-1", file=file, **api_of(fake_provider))

    found = recording.event()
    assert found["inputs"]["file"]["name"] == "hello.wav"
    assert found["inputs"]["file"]["size"] == len(WAV)
    assert found["outputs"]["text"] == TEXT
    (request,) = fake_provider.requests
    assert WAV in request.body


def test_a_transcription_as_text_is_recorded(recording: Recording, fake_provider: FakeProvider) -> None:
    result = litellm.transcription(model="openai/whisper-1", file=FILE, response_format="text", **api_of(fake_provider))

    assert recording.event()["outputs"]["text"] == result.text


def test_a_speech_is_handed_out_unchanged(tmp_path: Path, recording: Recording, fake_provider: FakeProvider) -> None:
    speech = litellm.speech(model="openai/tts-1", input="Hello.", voice="alloy", **api_of(fake_provider))
    speech.stream_to_file(tmp_path / "hello.mp3")

    assert (tmp_path / "hello.mp3").read_bytes() == speech.content == SOUND
    assert SOUND.decode("latin-1") not in str(recording.event())


@pytest.mark.parametrize(
    ("function", "model", "given"),
    [
        ("transcription", "openai/whisper-1", {"file": FILE}),
        ("speech", "openai/tts-1", {"input": "Hello.", "voice": "alloy"}),
        ("moderation", MODERATOR, {"input": "Hello."}),
        ("image_edit", "openai/gpt-image-1", {"image": PNG, "prompt": "a hat"}),
    ],
)
def test_a_failed_call_is_one_event_without_outputs(
    function: str, model: str, given: dict[str, Any], recording: Recording, fake_provider: FakeProvider
) -> None:
    if function in ("image_edit", "moderation") and LITELLM_VERSION < (1, 82):
        pytest.skip(
            "LiteLLM takes no bytes for image_edit, and its moderation asks OpenAI itself, whatever the address"
        )
    fake_provider.always(model.rpartition("/")[2], Behaviour(status=400, message="no luck"))

    with pytest.raises(Exception) as raised:  # noqa: PT011 - LiteLLM lets the client's own errors through here
        getattr(litellm, function)(model=model, **given, **api_of(fake_provider))

    found = recording.event()
    assert found["event_name"] == f"litellm.{function}"
    assert found["outputs"] == {}
    assert found["error"].startswith(f"{type(raised.value).__name__}: ")
    assert "no luck" in found["error"]
    metadata = found["metadata"]
    assert (metadata["status_code"], metadata["ending"]) == (400, "failed")
    assert metadata["error_module"].split(".")[0] == type(raised.value).__module__.split(".")[0]
    if IS_NEWEST:
        assert metadata["call_type"] == function
