"""Canaries: random secrets by the place they were put in, the search for them in whatever left a program, and a provider
that repeats everything it is sent.

A canary has no shape that gives it away, unless one is asked for: it can be recognised by its place only. The seed is new
with every run; a test that fails says which one it was, and `CANARY_SEED` sets it.
"""

from __future__ import annotations

import json
import os
import random
import re
import string
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from tests.fakes.provider import WIRES, Behaviour, FakeProvider
from tests.fakes.server import Reply, Request, Server

SEED = int(os.environ.get("CANARY_SEED") or random.SystemRandom().randrange(10**9))
LETTERS = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits

PIECE = 12
"""Bytes of a secret that are too many to have left."""

# The forms that providers publish, filled at random; put together here so that no scanner takes the source for a key.
SHAPES: dict[str, tuple[str, str, int]] = {
    "openai": ("sk-" + "proj-", LETTERS + "-_", 64),
    "anthropic": ("sk-" + "ant-api03-", LETTERS + "-_", 90),
    "openrouter": ("sk-" + "or-v1-", "0123456789abcdef", 64),
    "honeyhive": ("hh_", LETTERS, 32),
    "groq": ("gsk" + "_", LETTERS, 52),
    "xai": ("xai" + "-", LETTERS, 80),
    "perplexity": ("pplx" + "-", LETTERS, 48),
    "huggingface": ("hf" + "_", LETTERS, 34),
    "replicate": ("r8" + "_", LETTERS, 37),
    "nvidia": ("nvapi" + "-", LETTERS + "-_", 64),
    "cerebras": ("csk" + "-", LETTERS, 48),
    "github": ("ghp" + "_", LETTERS, 36),
    "github, of one project": ("github" + "_pat_", LETTERS + "_", 70),
    "slack": ("xoxb" + "-", LETTERS + "-", 48),
    "databricks": ("dapi", "0123456789abcdef", 32),
    "google": ("AI" + "za", LETTERS + "-_", 35),
    "aws": ("AK" + "IA", UPPER, 16),
    "aws, for a session": ("AS" + "IA", UPPER, 16),
}


class Canaries:
    """The secrets of one test, by the place each was put in."""

    def __init__(self, name: str) -> None:
        self._random = random.Random(f"{SEED} {name}")
        self.by_place: dict[str, str] = {}

    def at(self, place: str, alphabet: str = LETTERS) -> str:
        """The shapeless secret of a place; a second question has the same answer."""
        if place not in self.by_place:
            length = self._random.randint(32, 48)
            # A digit and a letter: a run of letters alone could pass for a long word.
            self.by_place[place] = f"{self._text(alphabet, length - 2)}7q"
        return self.by_place[place]

    def shaped(self, shape: str) -> str:
        """A secret of a published form."""
        if shape not in self.by_place:
            beginning, alphabet, length = SHAPES[shape]
            # Its last character is a letter or digit: a reader, too, would take any other for the sentence's.
            last = [character for character in alphabet if character.isalnum()]
            self.by_place[shape] = beginning + self._text(alphabet, length - 1) + self._random.choice(last)
        return self.by_place[shape]

    def token(self) -> str:
        """A signed token in three parts (JWT)."""
        head = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
        body = urlsafe_b64encode(json.dumps({"sub": self._text(LETTERS, 24)}).encode()).decode().rstrip("=")
        return self.by_place.setdefault("a signed token", f"{head}.{body}.{self._text(LETTERS, 43)}")

    def private_key(self) -> str:
        """What stands between the lines of a PEM file is the secret."""
        words = " PRIVATE" + " KEY-----"
        lines = [self._text(LETTERS + "+/", 64) for _ in range(6)]
        self.by_place.update({f"line {number} of a private key": line for number, line in enumerate(lines)})
        return "\n".join((f"-----BEGIN{words}", *lines, f"-----END{words}", ""))

    def _text(self, alphabet: str, length: int) -> str:
        return "".join(self._random.choices(alphabet, k=length))

    def check(self, surfaces: Mapping[str, bytes]) -> None:
        """
        :raises AssertionError: a secret is there, in whatever form; says which, where and in what.
        """
        found = leaks(self.by_place, surfaces)
        assert not found, "\n".join((f"leaked (CANARY_SEED={SEED}):", *found))


def forms_of(secret: str) -> Iterator[bytes]:
    """A secret as it may be written: itself, quoted for a URL, as JSON text, in base64 wherever it may begin there."""
    data = secret.encode()
    yield data
    yield quote(secret, safe="").encode()
    yield json.dumps(secret)[1:-1].encode()
    yield data.hex().encode()
    for encode in (b64encode, urlsafe_b64encode):
        for before in range(3):
            # The first and the last characters depend on the neighbours.
            yield encode(b"\0" * before + data)[4 * bool(before) :].rstrip(b"=")[:-1]


def leaks(secrets: Mapping[str, str], surfaces: Mapping[str, bytes]) -> list[str]:
    """Which secrets, or pieces of them, are on which surfaces."""
    places: dict[bytes, str] = {}
    for place, secret in secrets.items():
        for form in forms_of(secret):
            for begin in range(len(form) - PIECE + 1):
                places.setdefault(form[begin : begin + PIECE], place)
    found: list[str] = []
    for surface, data in surfaces.items():
        hits: dict[str, int] = {}
        for begin in range(len(data) - PIECE + 1):
            whose = places.get(data[begin : begin + PIECE])
            if whose is not None:
                hits.setdefault(whose, begin)
        found += [
            f"{place}: {surface}: ...{data[max(0, begin - 60) : begin + 60]!r}..." for place, begin in hits.items()
        ]
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    """Contents and names of everything below a folder."""
    paths = sorted(folder.rglob("*"))
    return {
        "names of files": "\n".join(str(path.relative_to(folder)) for path in paths).encode(),
        **{f"file {path.name}": path.read_bytes() for path in paths if path.is_file()},
    }


def requests_of(server: Server) -> dict[str, bytes]:
    """What a HoneyHive server was sent, but for the one header that carries its key."""
    sent: list[bytes] = []
    for request in list(server.requests):
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        sent += [f"{request.method} {request.path} {json.dumps(headers)}".encode(), request.body]
    return {"requests to HoneyHive": b"\n".join(sent)}


@dataclass(frozen=True)
class Parrot:
    """How a model of the Parrots answers; the model's name says which."""

    name: str
    status: int = 200
    is_stream: bool = False
    cut_after: int | None = None


REFUSES = Parrot("parrot-refuses", status=400)
DENIES = Parrot("parrot-denies", status=401)
FAILS = Parrot("parrot-fails", status=500)
ANSWERS = Parrot("parrot-answers")
STREAMS = Parrot("parrot-streams", is_stream=True)
BREAKS = Parrot("parrot-breaks", is_stream=True, cut_after=3)
PARROTS = (REFUSES, DENIES, FAILS, ANSWERS, STREAMS, BREAKS)


MAX_HEADER = 8000
"""HTTP clients take no line that is much longer."""


class Parrots(FakeProvider):
    """A provider that repeats the address, the headers and the body of each request: in the error of a refusal, in the
    headers of its answer, in the answer's text, in two pieces of a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.more: tuple[str, ...] = ()
        """What it says besides."""

    def answer(self, request: Request) -> Reply:
        model, wire = next((found, wire) for wire in WIRES if (found := wire.model_of(request)) is not None)
        parrot = next((each for each in PARROTS if each.name in model), ANSWERS)
        said = self.said_of(request)
        # Of the headers that are recorded. No secret is cut here: half of one cannot be recognised.
        header = said if len(said) < MAX_HEADER else said[:MAX_HEADER].rpartition(" | ")[0]
        headers = {"x-request-id": header, "x-ratelimit-of": header, "x-goog-said": header}
        if parrot.status != 200:
            return wire.error(Behaviour(status=parrot.status, message=said, headers=tuple(headers.items())))
        reply = wire.answer(request, model, Behaviour(cut_after=parrot.cut_after))
        if reply.chunks is None:
            return replace(reply, headers=headers, body=_with_words(reply.body, said, ""))
        # Cut in the middle of what follows the scheme of an Authorization header, where there is one.
        at = said.find("authorization: Bearer ") + len("authorization: Bearer ") + 8
        halves = (said[:at], said[at:])
        return replace(reply, headers=headers, chunks=[_with_words(chunk, *halves) for chunk in reply.chunks])

    def said_of(self, request: Request) -> str:
        headers = [f"{name}: {value}" for name, value in request.headers.items()]
        # "Incorrect API key provided: ...", without the scheme before it.
        keys = [value.rpartition(" ")[2] for name, value in request.headers.items() if "auth" in name]
        body = request.body.decode("utf-8", "replace")
        return " | ".join((*self.more, request.path, *headers, *keys, body))


def _with_words(data: bytes, first: str, second: str) -> bytes:
    """An answer with these in the place of the words that the wires know."""
    for word, said in (
        ("Hello there, world", first),
        ("Hello", first),
        (" there", second),
    ):
        data = data.replace(json.dumps(word).encode(), json.dumps(said).encode())
    return data


class Echo(Server):
    """A HoneyHive server that takes nothing, and says what it was sent: `status`, then a message around the key."""

    def __init__(self, status: int, message: str = "the header was {authorization}") -> None:
        super().__init__()
        self.status = status
        self.message = message

    def answer(self, request: Request) -> Reply:
        authorization = request.headers.get("authorization", "")
        said = self.message.format(authorization=authorization, key=authorization.rpartition(" ")[2])
        headers = {"x-said": said, "www-authenticate": said}
        return Reply.of({"statusCode": self.status, "message": said}, status=self.status, headers=headers)


NAME_OF_SECRET = re.compile(r"[A-Z][A-Z0-9_]*(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?|JWT)")
READ_FROM_ENVIRONMENT = re.compile(
    r"(?:get_secret(?:_str)?|getenv|environ\.get|environ)\s*[(\[]\s*(?:secret_name\s*=\s*)?[\"']([A-Z][A-Z0-9_]+)[\"']"
)


def variables_of_litellm(folder: Path, no_secrets: Iterable[str]) -> list[str]:
    """Names of the environment's variables that LiteLLM's source reads and that are named like secrets."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        found.update(READ_FROM_ENVIRONMENT.findall(path.read_text(encoding="utf-8", errors="replace")))
    return sorted(name for name in found if NAME_OF_SECRET.fullmatch(name) and name not in set(no_secrets))
