"""OpenAI's routes for files and bytes: transcription, speech, moderation, edits and variations of images.

Written after OpenAI's published API reference ("Audio", "Moderations", "Images"). Kept apart from the chat wire: these
take multipart forms, and answer bytes or shapes of their own.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from tests.fakes.server import Reply, Request
from tests.fakes.wires import TEXT, Behaviour

SOUND = b"ID3\x04\x00 a little sound"
"""What `/audio/speech` answers."""
PICTURE = b"\x89PNG\r\n\x1a\n an edited picture"
CREATED = 1_760_000_000
HEADERS = {"x-request-id": "req_fake"}
SEGMENTS = [
    {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": 1.5,
        "text": TEXT,
        "tokens": [50364, 2425, 50414],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 0.75,
        "no_speech_prob": 0.01,
    }
]
SPOKEN = [{"word": "Hello", "start": 0.0, "end": 0.5}, {"word": "world", "start": 0.75, "end": 1.5}]
CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
EDIT_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
    "output_tokens": 30,
    "total_tokens": 80,
}


class MediaWire:
    """The routes in ROUTES. Specials: `flagged` (moderation), `tokens` (a transcription that is paid by the token)."""

    def model_of(self, request: Request) -> str | None:
        if _path(request) not in ROUTES:
            return None
        model = request.json.get("model")
        return model if isinstance(model, str) else ""

    def error(self, how: Behaviour) -> Reply:
        error = {"message": how.message, "type": "fake_error", "code": None, "param": None}
        return Reply.of({"error": error}, status=how.status, headers=dict(how.headers))

    def answer(self, request: Request, model: str, how: Behaviour) -> Reply:
        return ROUTES[_path(request)]({**request.json, "model": model}, how)


def _path(request: Request) -> str:
    return request.path.partition("?")[0].removeprefix("/v1")


def _transcription(body: dict[str, Any], how: Behaviour) -> Reply:
    form = body.get("response_format", "json")
    if form in ("text", "srt", "vtt"):
        return Reply(body=f"{TEXT}\n".encode(), content_type="text/plain; charset=utf-8", headers=dict(HEADERS))
    answer: dict[str, Any] = {"text": TEXT, "usage": {"type": "duration", "seconds": 2}}
    if form == "verbose_json":
        answer |= {"task": "transcribe", "language": "english", "duration": 1.5, "segments": SEGMENTS}
        if "word" in body.get("timestamp_granularities[]", ()):
            answer["words"] = SPOKEN
    if how.special == "tokens":
        answer["usage"] = {
            "type": "tokens",
            "input_tokens": 14,
            "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
            "output_tokens": 6,
            "total_tokens": 20,
        }
    return Reply.of(answer, headers=dict(HEADERS))


def _speech(body: dict[str, Any], how: Behaviour) -> Reply:
    kind = {"wav": "audio/wav", "opus": "audio/opus"}.get(body.get("response_format", "mp3"), "audio/mpeg")
    return Reply(body=SOUND, content_type=kind, headers=dict(HEADERS))


def moderation_result(*, flagged: bool) -> dict[str, Any]:
    """One element of a moderation's `results`."""
    hit = {"violence"} if flagged else set()
    return {
        "flagged": flagged,
        "categories": {name: name in hit for name in CATEGORIES},
        "category_scores": {name: 0.75 if name in hit else 0.0001 for name in CATEGORIES},
        "category_applied_input_types": {name: ["text"] if name in hit else [] for name in CATEGORIES},
    }


def _moderation(body: dict[str, Any], how: Behaviour) -> Reply:
    count = len(body["input"]) if isinstance(body["input"], list) else 1
    results = [moderation_result(flagged=how.special == "flagged" and number == 0) for number in range(count)]
    answer = {"id": "modr-fake", "model": body["model"] or "omni-moderation-latest", "results": results}
    return Reply.of(answer, headers=dict(HEADERS))


def _image_edit(body: dict[str, Any], how: Behaviour) -> Reply:
    return Reply.of(
        {
            "created": CREATED,
            "background": "opaque",
            "data": [{"b64_json": b64encode(PICTURE).decode()}] * int(body.get("n") or 1),
            "output_format": "png",
            "quality": "low",
            "size": "1024x1024",
            "usage": EDIT_USAGE,
        },
        headers=dict(HEADERS),
    )


def _image_variation(body: dict[str, Any], how: Behaviour) -> Reply:
    images = [{"url": f"https://images.example/{number}.png"} for number in range(1, int(body.get("n") or 1) + 1)]
    return Reply.of({"created": CREATED, "data": images}, headers=dict(HEADERS))


ROUTES = {
    "/audio/transcriptions": _transcription,
    "/audio/speech": _speech,
    "/moderations": _moderation,
    "/images/edits": _image_edit,
    "/images/variations": _image_variation,
}
