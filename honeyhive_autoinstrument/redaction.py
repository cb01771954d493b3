"""What may leave the process: credentials are hidden, long texts are shortened. The choke point before bytes are made.

Foundation: pure. A Redactor is given the limits and the secrets; it never looks at the environment and works on copies
only. It runs on worker threads.

A credential is recognised in three ways: by the name of its field, by its shape, and by being equal to a secret that
this process handed to LiteLLM or HoneyHive (places: litellm_map.md 9).
"""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

from honeyhive_autoinstrument.credentials import HIDDEN, is_credential_name, without_credentials
from honeyhive_autoinstrument.patterns import Rule

SHORTEST = 8
"""No credential is shorter."""

MAX_SECRETS = 1000
"""Learned secrets remembered; a service that passes a key for each user forgets the oldest."""

SCHEMA_WORDS = frozenset({"type", "description", "title", "format", "minLength", "maxLength", "pattern", "nullable"})
"""What describes a field in a JSON schema: a tool's parameter may be named `password`, and its description is no secret."""

MAX_DEPTH = 40
"""Deeper structures are cut; cyclic ones end here too."""


class Redactor:
    """Makes a value fit to leave the process. Safe from any thread once made; `learn` may be called at any time."""

    def __init__(self, *, max_content_bytes: int, secrets: Iterable[str] = (), rules: Iterable[Rule] = ()) -> None:
        """
        :param rules: what the user wants hidden besides.
        """
        self._rules = tuple(rules)
        self._max_content_bytes = max_content_bytes
        self._lock = threading.RLock()  # re-entrant: a finalizer may redact in the middle of `learn`
        self._given = frozenset(filter(is_distinct, secrets))
        """Never forgotten."""
        self._learned: dict[str, None] = {}
        self._longest_first: tuple[str, ...] = ()
        self._arrange()

    def learn(self, secrets: Iterable[str]) -> None:
        """Remember secrets, so that they are recognised wherever they turn up again. Ordinary words are none."""
        fresh = [each for each in secrets if each not in self._learned and each not in self._given]
        fresh = [each for each in fresh if is_distinct(each)]
        if not fresh:
            return
        with self._lock:
            self._learned.update(dict.fromkeys(fresh))
            while len(self._learned) > MAX_SECRETS:
                del self._learned[next(iter(self._learned))]
            self._arrange()

    def after_fork(self) -> None:
        """In the child: the lock may be held by a thread of the parent."""
        self._lock = threading.RLock()

    def _arrange(self) -> None:
        # Longest first: a key that contains another one must not be left in part.
        self._longest_first = tuple(sorted((*self._given, *self._learned), key=len, reverse=True))

    def value(self, value: Any, depth: int = 0) -> Any:
        """A copy of a JSON-like value without credentials and with long texts shortened."""
        kind = type(value)
        if kind is str:
            return self.text(value)
        if kind is float or kind is bool or value is None:
            return value
        if kind is int:
            return self._number(value) if self._rules else value
        if depth >= MAX_DEPTH:
            return "[too deep]"
        if kind is dict:
            return {
                key if is_plain_name(key) else self.text(str(key)): HIDDEN
                if item is not None
                and item != ""
                and is_credential_name(key)
                and not _is_schema(item)
                and not (key == "token" and "logprob" in value)  # a word of an answer and its probability
                else self.value(item, depth + 1)
                for key, item in value.items()
            }
        if kind is list or kind is tuple:
            return [self.value(item, depth + 1) for item in value]
        return value

    def text(self, text: str) -> str:
        """The text without credentials, shortened to the limit."""
        if len(text) < SHORTEST:
            return self._by_rules(text)
        for secret in self._longest_first:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        text = without_credentials(text)
        text = self._by_rules(text)
        if len(text) > self._max_content_bytes or len(text) * 4 > self._max_content_bytes:
            return shorten(text, self._max_content_bytes)
        return text

    def _by_rules(self, text: str) -> str:
        for rule in self._rules:
            text = rule.apply(text)
        return text

    def _number(self, value: int) -> int | str:
        """A card's number may come as one."""
        if abs(value) < SMALLEST_NUMBER:
            return value
        shown = str(value)
        text = self.text(shown)
        return value if text == shown else text


SMALLEST_NUMBER = 10**6
"""No number that somebody would have hidden is smaller."""


def _is_schema(value: Any) -> bool:
    return type(value) is dict and "type" in value and SCHEMA_WORDS.issuperset(value)


@functools.lru_cache(maxsize=4096)
def is_plain_name(name: object) -> bool:
    """Whether a key is a word such as `prompt_tokens`, which cannot be or hold a credential."""
    return type(name) is str and PLAIN_NAME.fullmatch(name) is not None


PLAIN_NAME = re.compile(r"(?![A-Z]{12})(?![A-Za-z_]*[A-Za-z]{18})[A-Za-z_]{1,40}")  # but no key of capitals only


def is_distinct(text: str) -> bool:
    """Whether a value given as a credential can be looked for in other texts. Local servers are called with keys such
    as `ollama` or `none`; hiding those would hide the model's name."""
    if len(text) >= 16:
        return True
    return len(text) >= 8 and any(map(str.isdigit, text)) and any(map(str.isalpha, text))


def shorten(text: str, max_bytes: int) -> str:
    """Head and tail of a text above the limit, with its size and SHA-256 between them."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= max_bytes:
        return text
    mark = f" …[{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}]… "
    room = max(0, max_bytes - len(mark.encode()))
    head = data[: room - room // 4].decode("utf-8", "ignore")
    tail = data[len(data) - room // 4 :].decode("utf-8", "ignore") if room // 4 else ""
    return head + mark + tail


def shorten_to_fit(value: Any, max_bytes: int, size_of: Callable[[Any], int]) -> Any:
    """The value with its longest texts shortened, step by step, until `size_of` says that it fits.

    :returns: a value no larger than the limit if texts are what makes it large; the smallest one reached otherwise.
    """
    limit = max_bytes // 4
    while size_of(value) > max_bytes and limit >= 64:
        value = _shorten_texts(value, limit)
        limit //= 4
    return value


def _shorten_texts(value: Any, max_bytes: int) -> Any:
    if type(value) is str:
        return shorten(value, max_bytes) if len(value) * 4 > max_bytes else value
    if type(value) is dict:
        return {key: _shorten_texts(item, max_bytes) for key, item in value.items()}
    if type(value) is list:
        return [_shorten_texts(item, max_bytes) for item in value]
    return value
