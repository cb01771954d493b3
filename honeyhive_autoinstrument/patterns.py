"""What the setting REDACT can ask for: ready-made sets (e-mail, phone, card, ...) and the user's own expressions.

Foundation: pure, standard library only. Every repeat of ours is bounded or starts at a word's beginning, since matching
holds the interpreter; a user's expression is as quick as it was written.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

OWN_MARK = "[redacted]"
"""What stands in place of a match of the user's own expression."""


def _always(found: str) -> int:
    return len(found)


@dataclass(frozen=True, slots=True)
class Rule:
    """What is looked for in every text, and what takes its place."""

    expression: re.Pattern[str]
    mark: str
    measure: Callable[[str], int] = _always
    """How many characters of a match are what is looked for, from its beginning; 0: it only looks like it."""

    def apply(self, text: str) -> str:
        """The text without it."""
        return self.expression.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        found = match[0]
        return self.mark + found[length:] if (length := self.measure(found)) else found


def rules_of(words: Iterable[str]) -> tuple[Rule, ...]:
    """The Rules that REDACT names, sets before the user's own expressions.

    :raises ValueError: one of them is neither a set nor a regular expression; the text says which.
    """
    sets: list[Rule] = []
    own: list[Rule] = []
    for word in words:
        if word.lower() in SETS:
            sets += SETS[word.lower()]
            continue
        try:
            expression = re.compile(word)
        except (re.error, OverflowError, RecursionError) as problem:
            raise ValueError(
                f"has {word!r}, which is neither one of {', '.join(SETS)} nor a regular expression ({problem})"
            ) from None
        if expression.match(""):
            raise ValueError(f"has {word!r}, which matches everywhere, even where there is nothing")
        own.append(Rule(expression, OWN_MARK))
    return (*sets, *own)


def passes_luhn(found: str) -> int:
    """For card numbers (ISO/IEC 7812): the length of the text where the check digit fits its digits, else 0."""
    digits = [int(each) for each in found if each.isdigit()]
    doubled = (digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2])
    is_card = (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 and len(set(digits)) > 1
    return len(found) if is_card else 0


def iban_length(found: str) -> int:
    """How much of a text is an account number whose checksum fits (ISO 13616, mod 97): words may follow it directly."""
    ends = [len(found), *(place for place in range(len(found) - 1, 0, -1) if found[place] == " ")]
    for end in ends:
        compact = found[:end].replace(" ", "").upper()
        if not 15 <= len(compact) <= 34:
            continue
        turned = compact[4:] + compact[:4]
        if int("".join(str(int(each, 36)) for each in turned)) % 97 == 1:
            return end
    return 0


def _phone_length(found: str) -> int:
    return len(found) if 7 <= sum(map(str.isdigit, found)) <= 15 else 0


def _address_length(found: str) -> int:
    try:
        ipaddress.ip_address(found)
    except ValueError:
        return 0
    return len(found)


SETS: dict[str, tuple[Rule, ...]] = {
    "email": (
        Rule(re.compile(r"(?<![\w.%+\-])[\w.%+\-]{1,64}@(?:[\w\-]{1,63}\.){1,8}[^\W\d_]{2,63}(?![\w])"), "[email]"),
    ),
    "iban": (
        Rule(
            re.compile(r"(?i)(?<![\w])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"),
            "[iban]",
            iban_length,
        ),
    ),
    "card": (Rule(re.compile(r"(?<![\w.\-])\d(?:[ \-]?\d){12,18}(?![\w\-]|\.\d)"), "[card]", passes_luhn),),
    "ssn": (
        Rule(re.compile(r"(?<![\w\-])(?!000|666|9\d\d)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w\-])"), "[ssn]"),
    ),
    "ip": (
        Rule(
            re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{2,39}(?:(?<=:)(?:\d{1,3}\.){3}\d{1,3})?(?![\w:]|\.\d)"),
            "[ip]",
            _address_length,
        ),
        Rule(re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)"), "[ip]", _address_length),
    ),
    "phone": (
        Rule(
            re.compile(r"(?<![\w.+\-])(?:\+|00)\d{1,3}(?:[ .\-/]?(?:\(\d{1,5}\)|\d{1,5})){2,6}(?![\w])"), "[phone]",
            _phone_length
        ),
        Rule(re.compile(r"(?<![\w.\-])(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w\-])"), "[phone]"),
    ),
}  # fmt: skip
"""Card numbers before phone numbers: the longer ones first."""
