"""REDACT: what its ready-made sets and a user's own expressions find, in every bucket; and expressions that are none."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import litellm
import pytest

import honeyhive_autoinstrument
from honeyhive_autoinstrument.config import Config
from tests.conftest import BIN, Recording, Run
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.provider import KEY, Behaviour, FakeProvider

RANDOM = random.Random(20)
SETS = ("email", "phone", "card", "iban", "ssn", "ip")
NUMBERS_OF_EACH_LENGTH = 8

Redacted = Callable[..., list[Any]]


@pytest.fixture
def redacted(recording: Recording) -> Iterator[Redacted]:
    """What the event of a call shows of these texts."""

    def ask(redact: list[str], *texts: str) -> list[Any]:
        honeyhive_autoinstrument.init(redact=redact)
        litellm.completion(model="gpt-4o", messages=list(map(said, texts)), mock_response="y")
        return [message["content"] for message in recording.events()[-1]["inputs"]["chat_history"]]

    yield ask
    # The next test of this process would keep them.
    honeyhive_autoinstrument.init().settings.pop("redact", None)
    honeyhive_autoinstrument.init()


def said(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def digits(count: int) -> str:
    return "".join(RANDOM.choices("0123456789", k=count))


def luhn_sum(number: str) -> int:
    doubled = [int(digit) * 2 for digit in number[-2::-2]]
    return sum(map(int, number[-1::-2])) + sum(value - 9 if value > 9 else value for value in doubled)


def card(length: int, beginning: str = "4") -> str:
    stem = beginning + digits(length - len(beginning) - 1)
    return stem + str(-luhn_sum(f"{stem}0") % 10)


def in_groups(text: str, mark: str, size: int = 4) -> str:
    return mark.join(text[at : at + size] for at in range(0, len(text), size))


def iban(country: str, account: str) -> str:
    as_number = "".join(str(int(character, 36)) for character in f"{account}{country}00")
    return f"{country}{98 - int(as_number) % 97:02}{account}"


def with_another_digit(number: str) -> str:
    """The same number with its last digit changed: no checksum holds then."""
    return number[:-1] + str((int(number[-1]) + 1) % 10)


CARDS = [card(length) for length in range(13, 20) for _ in range(NUMBERS_OF_EACH_LENGTH)]
IBANS = [
    iban("DE", digits(18)),
    iban("GB", "WEST" + digits(14)),
    iban("FR", digits(10) + "M" + digits(12)),
    iban("NL", "ABNA" + digits(10)),
    iban("NO", digits(11)),
    iban("MT", "MALT" + digits(5) + "MTLCAST001S" + digits(7)),
    *(iban("CH", digits(17)) for _ in range(NUMBERS_OF_EACH_LENGTH)),
]

FOUND: dict[str, list[str]] = {
    "email": [
        "somebody@example.com",
        "Ada.Lovelace+tag@mail.example.co.uk",
        "ADA_99@EXAMPLE.ORG",
        "ada@sub-domain.example-site.net",
        "a@b.io",
        "x%y@example.com",
    ],
    "phone": [
        "+14155550171",
        "+1 415 555 0171",
        "+1-415-555-0171",
        "(415) 555-0171",
        "415-555-0171",
        "415.555.0171",
        "1-800-555-0199",
        "+44 20 7946 0958",
        "+49 30 901820",
        "+33 1 70 18 99 00",
        "+91 98765 43210",
    ],
    "card": [
        *CARDS,
        in_groups(CARDS[3 * NUMBERS_OF_EACH_LENGTH], " "),
        in_groups(CARDS[3 * NUMBERS_OF_EACH_LENGTH], "-"),
        in_groups(CARDS[-1], " "),
        "{0[0]} {0[1]} {0[2]}".format([(amex := card(15, "37"))[:4], amex[4:10], amex[10:]]),
    ],
    "iban": [*IBANS, *(in_groups(each, " ") for each in IBANS[:6])],
    "ssn": ["078-05-1120", "536-90-4399", "219-09-9999"],
    "ip": [
        "192.168.1.17",
        "8.8.8.8",
        "255.255.255.255",
        "2001:db8:85a3::8a2e:370:7334",
        "2001:0db8:0000:0000:0000:ff00:0042:8329",
        "fe80::1",
        "::1",
        "::ffff:192.0.2.128",
    ],
}

LEFT: dict[str, list[str]] = {
    "email": [
        "@property def name",
        "3 @ 4.50 each",
        "ada at example.com",
        "npm install @scope/package@1.2.3",
        "git@ is no address, and neither is @example.com",
        "a matrix product A@B",
    ],
    "phone": [
        "2026-11-25",
        "2026-11-25T19:04:07Z",
        "25.11.2026 19:04",
        "litellm 1.110.2 on port 8080",
        "7f22137a-6911-4ed3-bc36-110f1dde6b66",
        "at 1760003600 and at 1760003600123",
        "3.14159265358979",
        "10.0.0.1",
        "it costs $1,234,567.89",
        "chatcmpl-123456789012",
        "rows 100-200 of 12345",
        "tokens: 1024 2048 4096",
    ],
    "card": [
        *map(with_another_digit, CARDS),
        card(12),
        card(20),
        card(19) + digits(6),
        "a" + CARDS[24] + "b",
        "7f22137a-6911-4ed3-bc36-110f1dde6b66",
        "one 1 two 2 three 3",
    ],
    "iban": [
        *(each[:2] + f"{(int(each[2:4]) + 1) % 97:02}" + each[4:] for each in IBANS),
        "DE00 and nothing more",
        "AB12CD34",
        "SHA256",
    ],
    "ssn": ["123-456-7890", "12-345-6789", "1123-45-67890", "2026-11-25", "7f22137a-6911-4ed3-bc36-110f1dde6b66"],
    "ip": [
        "litellm 1.110.2",
        "256.1.1.1",
        "999.999.999.999",
        "1.2.3.4.5",
        "at 12:34:56",
        "std::vector<int> and Foo::Bar",
        "00:1a:2b:3c:4d:5e",
        "a slice [1:2] or 10:30",
    ],
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_finds_what_it_is_for_and_leaves_the_words_around_it(redacted: Redacted, name: str) -> None:
    texts = [f"It is {text}, they said." for text in FOUND[name]]

    shown = redacted([name], *texts)

    assert dict(zip(texts, shown, strict=True)) == dict.fromkeys(texts, f"It is [{name}], they said.")


@pytest.mark.parametrize("name", SETS)
def test_a_set_finds_a_text_that_is_nothing_else_and_every_one_of_several(redacted: Redacted, name: str) -> None:
    first, second = FOUND[name][:2]

    assert redacted([name], first, f"{first}\n{second}", f"({first}; {second})") == [
        f"[{name}]",
        f"[{name}]\n[{name}]",
        f"([{name}]; [{name}])",
    ]


@pytest.mark.parametrize("name", SETS)
def test_a_set_leaves_what_only_looks_similar(redacted: Redacted, name: str) -> None:
    assert redacted([name], *LEFT[name]) == LEFT[name]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mailto:ada@example.com", "mailto:[email]"),
        ("<ada@example.com>", "<[email]>"),
        ("Ask ada@example.com.", "Ask [email]."),
        ('{"to": "ada@example.com"}', '{"to": "[email]"}'),
        ("10.0.0.1:8080", "[ip]:8080"),
        ("http://10.0.0.1/path", "http://[ip]/path"),
        ("http://[2001:db8::1]:8080/", "http://[[ip]]:8080/"),
        ("10.0.0.0/8", "[ip]/8"),
    ],
)
def test_what_touches_a_find_stays(redacted: Redacted, text: str, shown: str) -> None:
    assert redacted(["email", "ip"], text) == [shown]


def test_sets_that_were_not_asked_for_find_nothing(redacted: Redacted) -> None:
    others = [f"It is {FOUND[name][0]}." for name in SETS if name != "email"]

    assert redacted(["email"], *others) == others


def test_all_sets_together_find_each_its_own(redacted: Redacted) -> None:
    texts = [FOUND["email"][0], FOUND["card"][0], FOUND["iban"][0], FOUND["ssn"][0], FOUND["ip"][0]]

    shown = redacted(list(SETS), *texts, " and ".join(texts))

    expected = ["[email]", "[card]", "[iban]", "[ssn]", "[ip]"]
    assert shown == [*expected, " and ".join(expected)]


@pytest.mark.parametrize("name", SETS)
def test_without_redact_nothing_is_looked_for(redacted: Redacted, name: str) -> None:
    assert redacted([], *FOUND[name]) == FOUND[name]


@pytest.mark.parametrize(
    ("expressions", "text", "shown"),
    [
        ([r"CUST-\d{6}"], "of CUST-123456 and CUST-12", "of [redacted] and CUST-12"),
        ([r"(?i)acme"], "Acme, ACME", "[redacted], [redacted]"),
        ([r"\bred\b", r"\bgreen\b"], "red green blue", "[redacted] [redacted] blue"),
        ([r"CUST-(\d+)"], "of CUST-7", "of [redacted]"),
        (["email", r"CUST-\d+"], "CUST-7 is ada@example.com", "[redacted] is [email]"),
        (["Müller"], "Frau Müller", "Frau [redacted]"),
        ([r"\d"], "a1b", "a[redacted]b"),
    ],
)
def test_what_an_own_expression_matches_is_redacted(
    redacted: Redacted, expressions: list[str], text: str, shown: str
) -> None:
    assert redacted(expressions, text) == [shown]


def test_credentials_are_hidden_as_ever(redacted: Redacted) -> None:
    key = "sk-proj-" + "".join(RANDOM.choices("abcdefghijkmnpqrstuvwxyz23456789", k=40))

    assert redacted(["email"], f"{key} of ada@example.com") == ["[hidden] of [email]"]


def test_a_find_at_the_place_where_a_long_text_is_cut_is_not_left_in_part(recording: Recording) -> None:
    name = "".join(RANDOM.choices("bcdfghjklm", k=20))
    honeyhive_autoinstrument.init(redact=["email"], max_content_bytes=1000)
    try:
        for before in range(600, 800, 9):
            text = "x " * (before // 2) + f"{name}@example.com" + " y" * 2000
            litellm.completion(model="gpt-4o", messages=[said(text)], mock_response="y")

        shown = json.dumps([event["inputs"] for event in recording.events()])
    finally:
        settings = honeyhive_autoinstrument.init().settings
        for setting in ("redact", "max_content_bytes"):
            settings.pop(setting, None)
        honeyhive_autoinstrument.init()

    assert [name[:length] for length in range(3, 21) if name[:length] in shown] == []
    assert shown.count("[email]") > 0


ADDRESS = "ada.lovelace@example.com"


def test_every_bucket_of_an_event_is_redacted(
    redacted: Redacted, recording: Recording, fake_provider: FakeProvider
) -> None:
    redacted(["email"], ADDRESS)
    honeyhive_autoinstrument.init(capture_raw=True, attributes={"owner": ADDRESS})
    tool = {"type": "function", "function": {"name": "f", "description": f"mails {ADDRESS}", "parameters": {}}}
    fake_provider.always("echo", Behaviour(status=400, message=f"no {ADDRESS} here"))
    arguments: dict[str, Any] = {
        "messages": [{"role": "system", "content": ADDRESS}, {"role": "user", "content": [text_part(ADDRESS)]}],
        "tools": [tool],
        "stop": [ADDRESS],
        "user": ADDRESS,
        "metadata": {"note": ADDRESS, "deep": {"list": [ADDRESS]}, ADDRESS: "a key", "session_id": ADDRESS},
        "api_key": KEY,
        "api_base": fake_provider.base,
        "max_retries": 0,
    }

    litellm.completion(model="gpt-4o", **arguments, mock_response=f"to {ADDRESS}")
    list(litellm.completion(model="gpt-4o", **arguments, mock_response=f"to {ADDRESS}", stream=True))
    litellm.completion(model="openai/gpt-4o-mini", **arguments)
    with pytest.raises(litellm.BadRequestError, match=ADDRESS):
        litellm.completion(model="openai/echo", **arguments)
    honeyhive_autoinstrument.init(capture_raw=False, attributes={})

    sent = b"".join(request.body for request in recording.server.requests)
    assert len(recording.events()) == 5
    assert b"[email]" in sent
    assert b"lovelace" not in sent


def text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def test_the_arguments_of_a_tool_call_stay_json(
    redacted: Redacted, recording: Recording, fake_provider: FakeProvider
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"to": ADDRESS})}}
    fake_provider.always("gpt-4o-mini", Behaviour(tool_calls=[call]))
    redacted(["email"], "x")

    litellm.completion(
        model="openai/gpt-4o-mini", messages=[said("x")], api_key=KEY, api_base=fake_provider.base, max_retries=0
    )

    (answered,) = recording.events()[-1]["outputs"]["tool_calls"]
    assert json.loads(answered["function"]["arguments"]) == {"to": "[email]"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        r"email,CUST-\d+",
        pytest.param(r" email , CUST-\d+ ", marks=pytest.mark.slow),
        pytest.param("email\nCUST-\\d{1,9}\n", marks=pytest.mark.slow),
        json.dumps(["email", r"CUST-\d{1,9}"]),
    ],
    ids=["by commas", "by commas and blanks", "one a line", "as JSON"],
)
def test_the_variable_holds_a_list(run: Run, fake_honeyhive: FakeHoneyHive, given: str) -> None:
    text = "ada@example.com is CUST-77"
    code = (
        "import sys, litellm\n"
        "litellm.completion(model='gpt-4o', messages=[{'role': 'user', 'content': sys.argv[1]}], mock_response='y')\n"
    )

    result = run(
        BIN / "honeyhive-instrument", "python", "-c", code, text, env={**fake_honeyhive.env, "HONEYHIVE_REDACT": given}
    )

    assert (result.status, result.err) == (0, "")
    (event,) = fake_honeyhive.events
    assert event["inputs"]["chat_history"] == [said("[email] is [redacted]")]


@pytest.mark.parametrize("given", [["("], ["email", "[a-"], [r"(?P<n>x)(?P<n>y)"], ["a{3,1}"], [r"\d*"]])
def test_an_expression_that_is_none_is_a_notice_and_nothing_of_the_content_is_captured(
    redacted: Redacted, recording: Recording, given: list[str]
) -> None:
    litellm.completion(model="gpt-4o", messages=[said("before")], mock_response="y")
    recording.events()

    (shown,) = redacted(given, "a secret of ada@example.com")

    assert shown is None
    assert b"secret" not in b"".join(request.body for request in recording.server.requests)
    assert any("redact" in notice.lower() for notice in Config.from_env({}, redact=given).notices)


def test_a_mended_expression_lets_content_be_captured_again(redacted: Redacted) -> None:
    assert redacted(["("], "one") == [None]

    assert redacted([r"\("], "two (") == ["two [redacted]"]


@pytest.mark.parametrize("given", [[5], [None], 5])
def test_what_is_no_list_of_texts_is_a_notice_and_nothing_of_the_content_is_captured(
    redacted: Redacted, given: Any
) -> None:
    assert redacted(given, "a secret") == [None]
    assert any("redact" in notice.lower() for notice in Config.from_env({}, redact=given).notices)


def test_a_bad_expression_in_the_variable_is_said_and_the_program_goes_on(
    run: Run, fake_honeyhive: FakeHoneyHive
) -> None:
    code = (
        "import litellm\n"
        "for _ in range(2):\n"
        "    litellm.completion(model='gpt-4o', messages=[{'role': 'user', 'content': 'a secret'}], mock_response='y')\n"
        "print('done')\n"
    )

    result = run(
        BIN / "honeyhive-instrument", "python", "-c", code, env={**fake_honeyhive.env, "HONEYHIVE_REDACT": "email,("}
    )

    assert (result.status, result.out) == (0, "done\n")
    assert result.err.count("HONEYHIVE_REDACT") == 1
    assert len(fake_honeyhive.events) == 2
    assert b"secret" not in b"".join(request.body for request in fake_honeyhive.requests)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("piece", ["a@", "1 ", "1-", "4", "DE", "::", "1.", "a.", "+1 ", "@a.", "DE12 "])
@pytest.mark.parametrize("name", SETS)
def test_a_text_made_to_keep_a_set_busy_ends(redacted: Redacted, name: str, piece: str) -> None:
    # A prompt may be made so; a pattern that looks at each place of the text again from each other place takes minutes.
    redacted([name], piece * 50_000 + " x")
