"""docs/privacy.md: what is sent, made from the schema in `events/fields.py` and the settings' own descriptions.

`python -m tests.privacy_page` prints the page, `--write` writes it.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from honeyhive_autoinstrument import config
from honeyhive_autoinstrument.config import DAY_S, DEFAULT_API_URL, KIB, MIB, Config
from honeyhive_autoinstrument.events import fields
from honeyhive_autoinstrument.events.content import KEPT_TEXTS, KEPT_WORDS
from honeyhive_autoinstrument.events.fields import Field
from honeyhive_autoinstrument.events.parameters import CONTENT, CREDENTIALS, IDENTITY, SETTINGS
from honeyhive_autoinstrument.patterns import SETS

PAGE = Path(__file__).parent.parent / "docs" / "privacy.md"

FOUND, KINDS, CHANGED, ORDINARY = 885, 192, 2, 1000
"""What the corpora measure: credentials found and their kinds; ordinary texts that were changed, of how many."""

PRIVACY_SETTINGS = (
    "api_key", "api_url", "exporters", "capture_content", "capture_raw", "capture_headers", "attributes", "redact", "mask",
    "enrich", "hook_timeout", "sample_rate", "sample_keep_errors", "sample_keep_slow", "max_content_bytes",
    "max_event_bytes", "durability", "home", "spool_max_bytes", "spool_max_age",
)  # fmt: skip

METADATA_TABLES = (
    ("Tokens and cost", fields.USAGE),
    ("The call", fields.CALL),
    ("Who answered", fields.ANSWERED),
    ("Failures", fields.FAILED),
    ("Routers, retries, fallbacks", fields.ROUTED),
    ("Who asked, on events of the LiteLLM Proxy", fields.ASKED_BY),
    ("Experiments", fields.EXPERIMENT),
    ("Yours", fields.YOURS),
)

TEXTS_OF_SETS = {
    "email": "e-mail addresses",
    "phone": "phone numbers: international ones (`+` or `00`), and ten digits in the North American form",
    "card": "13 to 19 digits, with blanks or dashes or without, whose check digit fits (Luhn)",
    "iban": "account numbers whose checksum fits (ISO 13616)",
    "ssn": "US social security numbers with dashes or blanks between their parts",
    "ip": "addresses of IPv4 and IPv6",
}


def page() -> str:
    """The whole page."""
    return (
        "\n\n".join([INTRODUCTION, *tables(), NEVER, without_contents(), LESS, *settings(), ADDED, NOT_PROMISED]) + "\n"
    )


INTRODUCTION = f"""# What is sent, field by field

This page is for who has to judge, or to limit, what leaves a program that HoneyHive's auto-instrumentation for
LiteLLM records. It is made from `honeyhive_autoinstrument/events/fields.py` by `python -m tests.privacy_page
--write`; a test runs calls of many kinds and fails where an event has a field that is not listed here.

In short:

- As it is installed, prompts, answers and your metadata are sent in full, with tokens, cost, times and ids.
- Credentials are hidden where they are recognised; images, audio, files and vectors are not sent; an argument that is
  not on a list is not recorded.
- `HONEYHIVE_CAPTURE_CONTENT=false`, or a switch on the call, leaves lengths in place of texts. `REDACT` and `MASK`
  change single pieces of them.
- Without a key nothing is sent.

## To whom, and when

Each recorded call becomes an event (JSON), sent a moment after the call ends to one server, the one that
`HONEYHIVE_API_URL` names ({DEFAULT_API_URL} by default), over HTTPS unless that URL begins with `http://`, and
through a proxy where the environment names one. The key in `HONEYHIVE_API_KEY` decides which HoneyHive project gets
it; it goes in the `Authorization` header, with the name and version of this package beside it in others. The package
sends to nobody else. **Without a key nothing is sent**: events stay in the local store until somebody runs
`honeyhive-events send`. With `HONEYHIVE_EXPORTERS=local` they stay there although there is a key; `console` prints
them on stderr.

What cannot be sent now, or has no key (with `HONEYHIVE_DURABILITY=always` every event until it is sent), lies in
files under `HONEYHIVE_HOME` (`~/.honeyhive/autoinstrument`): files are created with mode 0600, folders with 0700 (one
that is there already keeps its own). They hold what would be sent, not encrypted, and no key of HoneyHive's; the
folder's name has the server's host and a hash of URL and key. What has been sent is removed, what the server refuses
stays in `rejected/`. There are limits of size and of age; they are looked at when something is written.
`honeyhive-events clear` removes what is kept. `HONEYHIVE_DURABILITY=memory` writes no file where there is a server to
send to."""


LEGEND = """In the tables, "withheld" is what `CAPTURE_CONTENT=false`, or a switch on the call, takes away; texts become
their lengths. "Only with" names a setting, or a neighbour in the process, without which the field is not there. A
field is there only where its value is known. What is said below of credentials, `REDACT`, `MASK` and sizes holds for
all of it."""

CHANGES = """`update_event` and a late `enrich` send the id of an event with what is added to its `metadata`, `metrics`,
`feedback`, `user_properties`, or comes in place of its `outputs`."""


def tables() -> list[str]:
    """All the tables of fields."""
    parts = [
        "## What is sent",
        LEGEND,
        "### An event",
        *table(fields.EVENT),
        "### A session",
        "Sent before its first event, by each process that has events of it. Old servers get the setting `PROJECT`, too.",
        *table(fields.SESSION_ROW),
        "### `config`: what the call was asked with",
        *table(fields.CONFIG),
        "### `inputs`: what the model was given",
        *table(fields.INPUTS),
        "### `outputs`: what came back",
        "Of a stream: as much as the program has read.",
        *table(fields.OUTPUTS),
        "### `metadata`",
    ]
    for title, rows in METADATA_TABLES:
        parts += [f"#### {title}", *table(rows)]
    parts += [
        "### `user_properties`",
        *table(fields.USER_PROPERTIES),
        "### `metrics`, `feedback`",
        *table(fields.METRICS),
        "### Changes",
        CHANGES,
    ]
    return parts


def table(rows: Iterable[Field]) -> list[str]:
    """A table, and below it the names of the rows that tell of several fields."""
    rows = tuple(rows)
    has_content = any(row.holds_content for row in rows)
    has_condition = any(row.only_with for row in rows)
    heads = ["field", "what it is", *["withheld"] * has_content, *["only with"] * has_condition]
    lines = [_line(heads), "|" + "---|" * len(heads)]
    for row in rows:
        cells = [row.name if row.names is not None else f"`{row.name}`", row.says]
        if has_content:
            cells.append("yes" if row.holds_content else "")
        if has_condition:
            cells.append(row.only_with or "")
        lines.append(_line(cells))
    several = [f"{row.name[0].upper()}{row.name[1:]}: {_listed(row.names)}." for row in rows if row.names]
    return ["\n".join(lines), *several]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


NEVER = f"""## What is not sent

**Arguments that are not on a list.** {len(CONTENT)} arguments of LiteLLM's are read as contents, {len(SETTINGS)} as
settings, {len(IDENTITY)} as identity (`events/parameters.py`). All others are written nowhere, so a parameter that is
new tomorrow is not sent. Those that can hold credentials ({_listed(CREDENTIALS)}, and every one that is named like a
credential) are looked through for them, so that they are recognised elsewhere.

**Credentials.** They become `[hidden]` in every text, by four tests:

- by value: what was passed to LiteLLM as a credential in this process, is set on LiteLLM, stands in the environment
  under a name like `..._API_KEY` or `..._TOKEN`, or is part of a URL that is called; and the HoneyHive key. Short and
  plain words are not looked for (`ollama` is a common key of local servers), and of very many the oldest are
  forgotten;
- by the name of its field: `password`, `authorization`, `api_key` and many others lose their value whatever it is;
- by its form: those published by providers of models and of other services, JSON Web Tokens, private keys;
- by what stands before it: `Authorization:`, `password=`, user and password in a URL, connection strings, some
  commands.

The last two are no guarantee. On the project's own corpus, {FOUND} credentials of {KINDS} kinds, all are found, and
of {ORDINARY:,} ordinary texts {CHANGED} are changed; a credential of a form that nobody thought of is sent if nothing
else tells of it.

**Images, audio and files.** Bytes, data URLs and base64 in the fields that the APIs have for it become type, size and
SHA-256, an open file its name and size (it is not read). A link stays a link, a path given as text stays text. Base64
that somebody pasted into an ordinary text is text, and is sent.

**Vectors.** Of embeddings, their number and dimension; in a raw answer (`CAPTURE_RAW`) the dimension takes their place.

**The machine.** The package adds no variables of the environment, no stack traces, no name of the host or of its
user. It names the program (`session_name`), and the address of the provider."""


def without_contents() -> str:
    """What contents off means."""
    kept = _listed(KEPT_TEXTS)
    return f"""## Without contents

`HONEYHIVE_CAPTURE_CONTENT=false` for all calls, or for one call (and those that LiteLLM makes for it):

| switch | by whom |
|---|---|
| `metadata={{"honeyhive_capture_content": False}}`, or in `litellm_metadata` | the caller |
| `no-log=True` (`**{{"no-log": True}}`) | the caller |
| `turn_off_message_logging=True` | the caller |
| `litellm.turn_off_message_logging = True` | the program, for all calls |
| header `litellm-enable-message-redaction` or `x-litellm-enable-message-redaction` | a client of the Proxy |

One that protects is enough, except that `honeyhive_capture_content` wins over all others, also with `True` (of
several calls around each other the innermost that says so). A `REDACT` that cannot be read switches contents off
until it is mended, whatever else is said.

Then the fields marked "withheld" have no text, there is no `raw_request`, `raw_response` or `error_debug_info`, and
`error` is the class alone. What stays:

- in `inputs`, `outputs` and withheld fields of `config` the values of {kept},
  by these names wherever they stand; the API's own words for a choice of tools or a format
  ({_listed(KEPT_WORDS)});
- names of fields that look like names (letters, digits, `_`, `-`, `.`, at most 64 of them), so the keys of your
  metadata and the parameters of your tools; others become their length;
- numbers and true or false, wherever they stand, but for lists of whole numbers, which can be token ids;
- the length of each text, in characters;
- all fields that are not marked: counts, cost, times, models, groups and deployments, ids, settings,
  `user_properties`, who asked the Proxy (with e-mail address and tags), names and ids of sessions;
- what you add on purpose: `session(...)`, `enrich(...)`, `update_event(...)` (its `outputs`, too), `ENRICH`,
  `ATTRIBUTES`, `metrics` and `feedback`."""


LESS = """## Less, and in other words

**`REDACT`** replaces what matches, in all texts of events, sessions and changes, in keys that are more than a plain
word, and in whole numbers from a million on:

| set | finds | becomes |
|---|---|---|
{sets}

Everything else in it is a regular expression of yours; what matches becomes `[redacted]`. `source` and the fields of
LiteLLM's own names (`event_name`) are not looked at.

**`MASK`** is a function of yours, `mask(path, value)`, that is given each text of `inputs`, `outputs`, `config`,
`metadata`, `user_properties`, `feedback`, `metrics`, `error` and `session_name`, after hiding and `REDACT`, and answers
what is sent in its place. It is not given the names of fields, numbers, and the other root fields. Where it raises,
answers with what is no plain value, or takes longer than `HOOK_TIMEOUT`, and where it cannot be imported, the text
becomes `[withheld]`; roles, types, ids, the model's name and our own facts stay. After the fourth time in a row that it took
too long, or when it hangs in four threads, all texts are withheld until the program starts anew.

**`ENRICH`** is a function of yours that is given a copy of each event, before `MASK`, and answers what is added to
it. Of a call without contents it sees none. It and `MASK` run inside your process.

**`SAMPLE_RATE`** records a part of the sessions, always whole ones, chosen by a number made from the session's id; of
the others nothing is sent and nothing lies on disk, except failed calls with what is around them
(`SAMPLE_KEEP_ERRORS`) and slow ones (`SAMPLE_KEEP_SLOW`).

**Sizes.** A text of more than `MAX_CONTENT_BYTES` bytes keeps its beginning and its end; between them stand its size
and the SHA-256 of the whole text, after hiding. An event of more than `MAX_EVENT_BYTES` bytes loses the middle of its
longest texts in the same way. A SHA-256 tells who has the same text or file that it is the same.""".format(
    sets="\n".join(f"| `{name}` | {TEXTS_OF_SETS[name]} | `{SETS[name][0].mark}` |" for name in SETS)
)


def settings() -> list[str]:
    """The table of the settings that matter here, in the words of the settings themselves."""
    said = descriptions()
    defaults = {name: shown_default(name) for name in PRIVACY_SETTINGS}
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name.upper()}` | {defaults[name]} | {said[name]} |" for name in PRIVACY_SETTINGS]
    return ["### Settings", "Variables `HONEYHIVE_<NAME>`, or arguments of `init()` in lower case.", "\n".join(lines)]


def descriptions() -> dict[str, str]:
    """What stands below each field of Config."""
    (definition,) = ast.parse(inspect.getsource(Config)).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def shown_default(name: str) -> str:
    """A default as a person would write it."""
    default: Any = Config.__dataclass_fields__[name].default
    if default is None or default == ():
        return config.SAID_DEFAULTS.get(name, "none").partition(":")[0].partition(", and")[0]
    if type(default) is bool:
        return str(default).lower()
    if type(default) is int:
        return f"{default // MIB} MiB" if default >= MIB else f"{default // KIB} KiB"
    return f"{default / DAY_S:g} days" if name == "spool_max_age" else str(default)


ADDED = """## What you add

Your `metadata`, the argument `user`, `session(...)`, `enrich(...)`, `update_event(...)`, `ATTRIBUTES`, `ENRICH`,
`SESSION_NAME` and `SOURCE` are sent as you give them (credentials hidden, `REDACT` applied, but for `SOURCE`). If a
session's id is somebody's e-mail address, it is in `session_name` and `original_session_id`, and its hash is the
`session_id`, which can be tested against a list of addresses."""

NOT_PROMISED = """## What is not promised

- Personal data in prompts, answers, metadata and errors is sent as it is, unless `REDACT` or `MASK` replaces it or
  contents are off. `REDACT` finds forms, not names or addresses; a number of a form that is not listed stays.
- Recognising credentials by form is no guarantee, see above.
- Without contents, what is left (lengths, times, ids, names of fields, users) can still be about a person.
- What HoneyHive keeps, and for how long, is between you and HoneyHive. What another instrumentation, or a callback of
  LiteLLM's, sends from the same process is not changed by these settings; `honeyhive-instrument --check` names those
  that send the same calls to HoneyHive."""


def main() -> None:
    text = page()
    if "--write" in sys.argv[1:]:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
