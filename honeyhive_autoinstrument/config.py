"""The settings: one frozen Config, made once from `init()` arguments and the environment.

Foundation: standard library only, imports no other room, never raises on a bad value. Every problem is a Notice in
`Config.notices` that names the variable, the value and what is used instead; who makes the Config decides how to say it
(the Runtime logs it, `--check` prints it).
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from honeyhive_autoinstrument.patterns import rules_of

DEFAULT_API_URL = "https://api.dp1.us.honeyhive.ai"
"""Default of the official Python SDK since 1.0.1 (honeyhive_api.md 1.1)."""

EXPORTERS = ("honeyhive", "local", "console")
DURABILITIES = ("on_failure", "always", "memory")

KIB = 1024
MIB = 1024 * KIB
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of the product. Field `x` is `HONEYHIVE_X` in the environment and `x` in `init()`."""

    api_key: str | None = field(default=None, repr=False)
    """Key of the HoneyHive project (or an ingestion key). Without one, events stay in the local store."""
    api_url: str = DEFAULT_API_URL
    """Base URL of the HoneyHive data plane; a dedicated tenant or a self-hosted server has its own."""
    project: str | None = None
    """Project name; only the legacy routes of old servers use it, the key fixes the project."""
    source: str = "production"
    """Environment label shown with every event."""
    session_id: str | None = None
    """Join this session instead of opening one for the process. An id that is no UUID is mapped onto one."""
    session_name: str | None = None
    """Name of the process session; by default the name of the program."""
    exporters: tuple[str, ...] = ()
    """Where events go: honeyhive, local, console (comma separated). Default: honeyhive with a key, local without."""
    capture_content: bool = True
    """Record prompts, answers and error texts. Without it: ids, roles, sizes, tokens, times."""
    capture_raw: bool = False
    """Record each request as LiteLLM sent it, and the provider's answer, without credentials."""
    capture_headers: bool = False
    """Record the provider's response headers that tell of limits, request ids and the like; a Proxy's caller's address."""
    attributes: tuple[tuple[str, str], ...] = ()
    """`key=value,key=value`, added to the metadata of every event."""
    redact: tuple[str, ...] = ()
    """Hide what matches: email, phone, card, iban, ssn, ip, or regular expressions of your own."""
    mask: Callable[..., Any] | str | None = None
    """`module:function`, or a function: is given each text's place and the text, answers what is sent instead."""
    enrich: Callable[..., Any] | str | None = None
    """`module:function`, or a function: is given a copy of each event, answers what is added to it."""
    hook_timeout: float = 1.0
    """Seconds that MASK, and ENRICH, may take for an event."""
    sample_rate: float = 1.0
    """Part of the sessions that is recorded, 0 to 1; whole sessions, the same ones in every process."""
    sample_keep_errors: bool = True
    """Record failed calls of the other sessions, too, what they are part of, and what comes after in it."""
    sample_keep_slow: float | None = None
    """The same for calls that take at least so many seconds."""
    max_content_bytes: int = 256 * KIB
    """A longer text field keeps head and tail, its size and its SHA-256."""
    max_event_bytes: int = 1 * MIB
    """A larger event loses the middle of its longest texts until it fits."""
    durability: str = "on_failure"
    """on_failure: what could not be sent goes to disk. always: on disk before the call returns. memory: not on disk, where
    there is a key and a server."""
    home: str = "~/.honeyhive/autoinstrument"
    """Folder of the local store and of batches that wait to be sent."""
    spool_max_bytes: int = 512 * MIB
    """Room on disk for events that wait for one server and key; beyond it the oldest lose long texts, then go, counted."""
    spool_max_age: float = 7 * DAY_S
    """Seconds that a waiting batch is kept; older ones go when another is written."""
    queue_max_events: int = 20_000
    """Calls waiting in memory; the next one beyond it is dropped and counted (with durability `always`: on disk)."""
    queue_max_bytes: int = 64 * MIB
    """Memory for waiting calls, by estimate."""
    batch_max_events: int = 100
    """Events of one request."""
    batch_max_bytes: int = 1 * MIB
    """Bytes of one request; the API names 5 MB as the ceiling (honeyhive_api.md 2.6)."""
    linger: float = 0.5
    """Seconds that a batch waits for company."""
    workers: int = 2
    """Threads that build and send, 1 to 4."""
    timeout: float = 10.0
    """Seconds for one request."""
    exit_timeout: float = 5.0
    """Seconds at most that the end of the program waits for delivery; the rest goes to disk."""
    debug: bool = False
    """Log what the recording does to stderr."""

    is_redact_usable: bool = True
    """False where REDACT could not be read: no contents are recorded until it can be."""
    is_url_usable: bool = True
    """False where a URL was given that is none. The default server is somebody else's then: nothing is sent to it."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where each setting came from: `init()`, a variable's name, or `default`."""
    notices: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What was wrong with the settings, one sentence each."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **arguments: Any) -> Config:
        """Settings from `init()` arguments first, then the environment, then defaults. Never raises.

        :param environ: variables to read; by default those of the process.
        :param arguments: settings by field name; None means "not given".
        """
        return _Reader(os.environ if environ is None else environ, arguments).read()

    @property
    def active_exporters(self) -> tuple[str, ...]:
        """The exporters asked for, or the one that fits: `honeyhive` with a key, `local` without."""
        return self.exporters or (("honeyhive",) if self.can_send else ("local",))

    @property
    def can_send(self) -> bool:
        """Whether there is a key, and a server to send to."""
        return self.api_key is not None and self.is_url_usable

    @property
    def home_folder(self) -> str:
        """`home` with `~` resolved."""
        return os.path.expanduser(self.home)

    @property
    def shown_url(self) -> str:
        """`api_url` without a user's name and password in it, for a person to see."""
        parts = urlsplit(self.api_url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def variables_of(name: str) -> tuple[str, ...]:
    """The variables read for a setting, in order."""
    return (f"HONEYHIVE_{name.upper()}", *ALSO_READ.get(name, ()))


def setting_names() -> tuple[str, ...]:
    """All settings, in the order of their definition."""
    return tuple(each.name for each in dataclasses.fields(Config) if each.name not in NO_SETTINGS)


NO_SETTINGS = ("is_redact_usable", "is_url_usable", "origins", "notices")
"""Fields that tell of the settings and are none."""


ALSO_READ: Mapping[str, tuple[str, ...]] = {
    "api_key": ("HH_INGESTION_API_KEY", "HH_API_KEY", "HH_PROJECT_API_KEY"),
    "api_url": ("HH_API_URL", "HH_DATA_PLANE_URL", "HONEYHIVE_SERVER_URL", "HH_SERVER_URL"),
    "project": ("HH_PROJECT",),
    "source": ("HONEYHIVE_ENVIRONMENT", "HH_SOURCE"),
    "timeout": ("HH_API_TIMEOUT",),
    "debug": ("HH_VERBOSE",),
}

SAID_DEFAULTS = {
    "exporters": "honeyhive with a key, local without",
    "attributes": "none",
    "redact": "none, and contents are not recorded until it is mended",
    "mask": "none",
    "enrich": "none",
    "sample_keep_slow": "none",
    "api_key": "none: events stay in the local store",
    "api_url": "no server: events stay in the local store",
}
"""How a default is told to a person, where its value would not say it."""

USERINFO = re.compile(r"//[^/\s]*@")
SECRET_SETTINGS = frozenset({"api_key"})


class _Reader:
    def __init__(self, environ: Mapping[str, str], arguments: Mapping[str, Any]) -> None:
        self._environ = environ
        self._arguments = arguments
        self._notices: list[str] = []
        self._origins: dict[str, str] = {}
        self._refused: set[str] = set()

    def read(self) -> Config:
        known = setting_names()
        for name in self._arguments:
            if name not in known:
                self._notices.append(f"init({name}=...) is not a setting and is ignored. Settings: {', '.join(known)}.")
        values = {}
        for each in dataclasses.fields(Config):
            if each.name in known:
                values[each.name] = self._value_of(each.name, each.default)
        is_url_usable = not ("api_url" in self._refused and self._origins["api_url"] == "default")
        if "honeyhive" in values["exporters"] and not values["api_key"]:
            self._notices.append(
                f"{self._origins['exporters']}: exporters has 'honeyhive', and there is no key; its events stay in the"
                " local store. Set HONEYHIVE_API_KEY."
            )
        return Config(
            **values,
            is_redact_usable="redact" not in self._refused,
            is_url_usable=is_url_usable,
            origins=self._origins,
            notices=tuple(self._notices),
        )

    def _value_of(self, name: str, default: Any) -> Any:
        given = self._arguments.get(name)
        candidates = [("init()", given)] if given is not None else []
        for variable in variables_of(name):
            text = self._environ.get(variable, "").strip()
            if text:
                candidates.append((variable, text))
        value, chosen = default, "default"
        refused: list[str] = []
        for origin, raw in candidates:
            try:
                parse: Callable[[Any], Any] = PARSERS.get(name, _text)
                value = parse(raw)
            except (ValueError, TypeError, AttributeError) as problem:
                shown = "(hidden)" if name in SECRET_SETTINGS else USERINFO.sub("//", repr(raw))
                refused.append(f"{origin}: {name}={shown} {problem}")
            else:
                chosen = origin
                break
        self._origins[name] = chosen
        if refused:
            is_default = (
                chosen == "default" or name == "redact"
            )  # contents are not recorded with half of what was asked
            instead = SAID_DEFAULTS.get(name, repr(default)) if is_default else chosen
            self._notices += [f"{each}; using {instead}." for each in refused]
            self._refused.add(name)
        return value


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise TypeError("is not text")
    return raw.strip()


def _flag(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError("is neither true nor false")


def _number(least: float, most: float, kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def parse(raw: Any) -> Any:
        try:
            value = kind(raw)
        except (ValueError, TypeError, OverflowError):
            raise ValueError("is not a number") from None
        if not least <= value <= most:
            raise ValueError(f"is not between {least:,} and {most:,}")
        return value

    return parse


def _url(raw: Any) -> str:
    text = _text(raw).rstrip("/")
    if not text.startswith(("http://", "https://")):
        raise ValueError("does not start with http:// or https://")
    try:
        text.encode()
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a bracket without its twin, a port that is none, bytes that are no text
        has_host = False
    if not has_host:
        raise ValueError("is not a URL with a host that can be asked")
    return text


def _choice(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def parse(raw: Any) -> str:
        word = _text(raw).lower()
        if word not in choices:
            raise ValueError(f"is none of {', '.join(choices)}")
        return word

    return parse


def _exporters(raw: Any) -> tuple[str, ...]:
    words = _text(raw).split(",") if isinstance(raw, str) else list(raw)
    for word in words:
        if word.strip() and word.strip().lower() not in EXPORTERS:
            raise ValueError(f"has {word.strip()!r}, which is none of {', '.join(EXPORTERS)}")
    return tuple(dict.fromkeys(word.strip().lower() for word in words if word.strip()))


def _attributes(raw: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(raw, Mapping):
        return tuple((str(key), str(value)) for key, value in raw.items())
    if not isinstance(raw, str):
        raise TypeError("is neither a dictionary nor a text key=value,key=value")
    pairs = []
    for piece in raw.split(","):
        key, equals, value = piece.partition("=")
        if not equals or not key.strip():
            raise ValueError("is not of the form key=value,key=value")
        pairs.append((key.strip(), value.strip()))
    return tuple(pairs)


def _redact(raw: Any) -> tuple[str, ...]:
    """A list; as text a JSON list, or one word a line, or words with commas between them."""
    words: list[Any]
    if not isinstance(raw, str):
        words = list(raw)
    elif raw.strip().startswith('["'):
        words = json.loads(raw)
    else:
        words = raw.split("\n" if "\n" in raw.strip() else ",")
    if not all(isinstance(word, str) for word in words):
        raise ValueError("has something that is no text")
    found = tuple(word.strip() for word in words if word.strip())
    rules_of(found)
    return found


def _function(raw: Any) -> Callable[..., Any] | str | None:
    # Whether it can be had is found out when it is needed: importing the program's modules now would be too early.
    return raw if callable(raw) else str(raw).strip() or None


def _folder(raw: Any) -> str:
    # Made absolute now: the program may change its folder later.
    if not isinstance(raw, str | os.PathLike):
        raise TypeError("is not a path")
    return os.path.abspath(os.path.expanduser(str(os.fspath(raw))))


def _key(raw: Any) -> str:
    text = _text(raw)
    if not text.isascii() or any(character.isspace() for character in text):
        raise ValueError("has characters that cannot stand in an HTTP header")
    return text


PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "api_key": _key,
    "api_url": _url,
    "exporters": _exporters,
    "capture_content": _flag,
    "capture_raw": _flag,
    "capture_headers": _flag,
    "attributes": _attributes,
    "redact": _redact,
    "mask": _function,
    "enrich": _function,
    "hook_timeout": _number(0.01, 60, float),
    "sample_rate": _number(0, 1, float),
    "sample_keep_errors": _flag,
    "sample_keep_slow": _number(0, 86_400, float),
    "max_content_bytes": _number(64, 64 * MIB, int),
    "max_event_bytes": _number(4 * KIB, 64 * MIB, int),
    "durability": _choice(DURABILITIES),
    "spool_max_bytes": _number(0, 1 << 50, int),
    "spool_max_age": _number(0, 3650 * DAY_S, float),
    "queue_max_events": _number(1, 10_000_000, int),
    "queue_max_bytes": _number(64 * KIB, 1 << 40, int),
    "batch_max_events": _number(1, 10_000, int),
    "batch_max_bytes": _number(1 * KIB, 64 * MIB, int),
    "linger": _number(0, 60, float),
    "workers": _number(1, 4, int),
    "timeout": _number(0.1, 600, float),
    "exit_timeout": _number(0, 600, float),
    "debug": _flag,
    "home": _folder,
}
