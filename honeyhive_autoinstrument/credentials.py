"""How a credential is recognised: by the name of its field, by its own form, or by the words that stand before it in a text.

Foundation: pure, standard library only. Forms are the published ones of the providers that LiteLLM speaks to, and of the
services whose keys end up in prompts. A text is looked at in steps, each as quick as a search for a few words: most texts
hold nothing, and matching holds the interpreter. Every repeat is bounded or starts at a word's beginning, since a prompt may
be made to keep a pattern busy.
"""

from __future__ import annotations

import base64
import binascii
import functools
import itertools
import re

HIDDEN = "[hidden]"

CREDENTIAL_NAME = re.compile(
    r"(?:^|_)(?:api_?keys?|(?:access|secret|private|signing|encryption|subscription|account|master|virtual|admin|openai|"
    r"anthropic|azure|service|shared_access|application|app|license|deploy|auth|client|storage)_?key(?:_id|_data)?|"
    r"secrets?|secret_access_key|client_?secret|(?<!max_)(?<!next_)(?<!page_)token|(?:access|auth|refresh|session|bearer|api)"
    r"token|auth|authorization|bearer|jwt|pat|passwords?|passwd|pass_?phrase|passcode|pwd|pgpassword|passwort|contraseña|"
    r"db_pass|credentials?|connection_?string|(?:set_)?cookies?|raw_headers|extra_headers)$"
)
"""Names of fields that hold credentials, in LiteLLM's, its providers' and others' spellings, in lower case with
underscores."""

WORD_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[\-.\s]")

PASSWORDS = ("pass", "pwd", "contrase")
"""What is in the names of those that people make up: shorter, and of words."""


@functools.lru_cache(maxsize=4096)  # the same few names come with every event
def is_credential_name(name: object) -> bool:
    """Whether a field of this name holds a credential. Token counts (`prompt_tokens`, ...) are none."""
    return type(name) is str and CREDENTIAL_NAME.search(WORD_BORDER.sub("_", name).lower()) is not None


def without_credentials(text: str) -> str:
    """The text with `[hidden]` in place of each credential that can be told by its form or by what stands before it."""
    if "-----BEGIN " in text:
        text = _without_private_keys(text)
    if "PuTTY-User-Key" in text:
        text = PUTTY.sub(r"\1" + HIDDEN, text)
    if "://" in text and "@" in text:
        text = URL_USERINFO.sub("", text)
    if "=" in text and ("&" in text or "?" in text):
        text = URL_KEY.sub(r"\1" + HIDDEN, text)
    text = LONG_WORD.sub(_without_shapes, text)
    # Most texts of an event are one word: an id, a model, a kind.
    return _without_named(text) if SIGN.search(text) else text


# -- by form -------------------------------------------------------------------------------------------------------------

LONG_WORD = re.compile(r"[A-Za-z0-9_\-.+/=:~%|*?&@]{11,}")
"""No credential with a form of its own is shorter. In prose there are few such words."""

BEGIN = r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f][0-9A-Fa-f])|(?<=^[nrtbf])|(?<=^u[0-9a-f]{4}))"
"""Of a word, or what is left of an escape (`\\n`, `\\u003c`) before one in a text of JSON."""

DRAWN = r"(?=[\w\-]{0,60}\d|[a-z_\-]{0,60}[A-Z]|[a-z]{0,12}[_\-]?[a-z]{18})"
"""Of what follows: it has a digit or a capital soon, or is longer than any word: drawn, not written."""

SHAPE = re.compile(
    BEGIN + r"(?:"
    # OpenAI, Anthropic, OpenRouter, DeepSeek, Moonshot, Stripe, Langfuse, virtual keys; half masked ones, too
    r"(?:sk|rk|pk)[-_](?=[\w\-*]{0,60}[0-9A-Z*]|[\w\-]{0,12}[a-z]{18})[\w\-*]{8,}"
    r"|hh_[\w\-]{12,}"  # HoneyHive
    # Groq, xAI, Perplexity, Hugging Face, Replicate, GitHub, GitLab, NVIDIA, Cerebras, Fireworks, Together, Slack,
    # LangSmith, ...
    r"|(?:gsk_|gsk-|xai-|xai_|pplx-|hf_|api_org_|r8_|gh[opsur]_|github_pat_|gl(?:pat|dt|rt|ptt|soat|ft|imt|agent|cbt|oas)-|"
    r"nvapi-|csk-|fw_|tgp_v1_|xox[abeprs]-|xapp-|co-|lsv2_(?:pt|sk)_|whsec_|npm_|dckr_(?:pat|oat)_|do[opr]_v1_|shp(?:at|ca|pa|ss)_|"
    r"ntn_|lin_(?:api|oauth)_|fig[dou]_|glsa_|sntryu_|sbp_|pscale_(?:tkn|oauth|pw)_|aio_|esecret_|flp_|pcsk_|ph[cx]_|pnu_|"
    r"rubygems_|sq[pau]_|tvly-|tfp_|vc[kpria]_|nf[pcoub]_|bkua_|CCIPAT_|CFPAT-|pylf_v1_|HRKU-|NRAK-|NRJS-|PMAK-|xkeysib-|"
    r"xsmtpsib-|tskey-|sgp_|dp\.(?:pt|st|ct|sa|scim|audit)\.|hv[bsr]\.|ya29\.|GOCSPX-|pypi-|sq0(?:atp|csp|idp)-|"
    r"AGE-SECRET-KEY-|ATBB|LTAI|AKCp|pa-(?=[\w\-]{40})|secret_(?=[A-Za-z0-9]{32})|sl\.(?=[\w\-]{40}))"
    + DRAWN
    + r"[\w\-.]{14,}"
    # Of base64: Grafana, Sentry, 1Password, Atlassian, Bedrock, Fly
    r"|(?:glc_|sntrys_|ops_eyJ|ATATT3|ATCTT3|ABSK|bedrock-api-key-|fm[12][a-z]?_)[\w\-+/=.]{24,}"
    r"|(?:key-|fc-|pul-|jina_)[0-9a-f]{32}[\w\-]*|(?:api|sdk)-[0-9a-f]{8}-[0-9a-f\-]{20,}|EZ[AT]K[A-Za-z0-9]{30,}"
    r"|[A-Za-z0-9]{14}\.atlasv1\.[\w\-]{20,}"
    r"|dt0c01\.[A-Z0-9]{24}\.[A-Z0-9]{64}"
    r"|dapi[0-9a-f]{32}"  # Databricks
    r"|AIza[\w\-]{30,}|1//0[\w\-]{20,}"  # Google
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}(?!\w)"  # AWS access key id
    r"|SG\.[\w\-]{16,}\.[\w\-]{16,}|SK[0-9a-f]{32}(?!\w)|EAAA[\w\-]{20,}"
    r"|pat[A-Za-z0-9]{14}\.[0-9a-f]{32,}|pat-[a-z]{2}\d-[0-9a-f\-]{30,}"  # Airtable, HubSpot
    r"|(?:sk|pk|tk)\.eyJ[\w\-]{20,}\.[\w\-]{10,}"
    r"|v1\.0-[0-9a-f]{24}-[0-9a-f]{60,}"
    r"|[MNO][A-Za-z\d_\-]{22,28}\.[\w\-]{6}\.[\w\-]{27,}"  # Discord
    r"|(?:bot)?\d{8,10}:AA[\w\-]{30,}"  # Telegram
    r"|[\w.~\-]{3}\dQ~[\w.~\-]{30,}"  # Azure client secret
    r"|[0-9a-f]{32}-us\d{1,2}(?!\w)"
    r")"
    # JWT. Not in the middle of what looks like one: each beginning would be read to the end.
    r"|(?:(?<![\w\-])|(?<=^[-+nrt]))eyJ[\w\-]{8,4096}\.[\w\-]{8,16384}\.[\w\-]{0,4096}"
)
WEBHOOK = re.compile(
    r"(hooks\.slack\.com/[a-z]+/|/api/webhooks/(?=\d{8})|/webhookb2/)[\w/\-@]{20,}(?:/IncomingWebhook/[\w/\-]+)?"
)


def _without_shapes(word: re.Match[str]) -> str:
    found = word[0]
    if ID.fullmatch(found) or not SHAPE_LETTERS.search(found):
        return found
    found = SHAPE.sub(HIDDEN, found)
    if "hook" in found:
        found = WEBHOOK.sub(r"\1" + HIDDEN, found)
    return found


ID = re.compile(r"(?:chatcmpl-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""In each event; looking for credentials in one takes as long as in a sentence."""

SHAPE_LETTERS = re.compile(r"[\d*A-Z]|[a-z]{18}")
"""Every form has one of these."""

# -- private keys --------------------------------------------------------------------------------------------------------

PEM_BEGIN = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
PEM_END = re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
PEM_BODY = re.compile(
    r"(?:\s|\\[nr]|\\\\n)*(?:[A-Za-z0-9+/=]{16,}(?:\s|\\[nr]|\\\\n)*|[A-Z][A-Za-z\-]{2,20}: [^\n]{0,80}\s*)*"
    r"(?:[A-Za-z0-9+/]{1,15}={0,2}(?=\s*(?:\Z|\n\n|[\"'`])))?"
)
"""What follows the beginning of a key whose end was cut off: lines of base64, and headers."""
PUTTY = re.compile(r"(PuTTY-User-Key-File-\d: [^\n]{0,100}\n)[\s\S]{0,16384}?(?:Private-MAC: [0-9a-f]{0,128}|\Z)")
MAX_PEM = 16_384
"""No private key is longer."""


def _without_private_keys(text: str) -> str:
    pieces = []
    kept_from = 0
    begin = PEM_BEGIN.search(text)
    while begin is not None:
        end = PEM_END.search(text, begin.end(), begin.end() + MAX_PEM)
        if end is None:
            end = PEM_BODY.match(text, begin.end(), begin.end() + MAX_PEM)  # cut off, or only spoken of
        pieces += [text[kept_from : begin.start()], HIDDEN]
        kept_from = end.end() if end is not None else begin.end()
        begin = PEM_BEGIN.search(text, kept_from)
    return "".join((*pieces, text[kept_from:]))


# -- in URLs -------------------------------------------------------------------------------------------------------------

URL_USERINFO = re.compile(
    r"(?<=://)(?!git@)(?:[^/\s?#@:\"']{0,256}:(?!\d{1,5}[/?#])[^\s/\"'<>]{1,1024}|[^/\s?#\"']{1,1024})@"
)
URL_KEY = re.compile(
    r"(?i)([?&](?:[\w\-.]{0,40}(?:key|token|secret|password|passwd|signature|credential)|sig|code|pwd|appid|app_id|auth|"
    r"x-amz-[a-z-]{1,40})=)[^&\s\"'<>]+"
)


# -- by what stands before it --------------------------------------------------------------------------------------------

SIGN = re.compile(r"[\s:=>]")
"""Something of these parts a credential from what stands before it."""

KEYWORDS = (
    "key", "token", "secret", "pass", "pwd", "pw:", "auth", "cookie", "credential", "bearer", "basic ", "_pat", "jwt",
    "connection", "contrase", "sessionid", "received=", "identified by", " -u ", "--user", " -a ", " -p",
)  # fmt: skip
"""One of them is in each name that is_credential_name knows; the others stand before a credential in messages and
commands."""
COMMAND_WORDS = frozenset({" -u ", "--user", " -a ", " -p"})

NAME = re.compile(r"[\w\-.$]{0,60}\Z")
NAME_REST = re.compile(r"[\w\-]{0,40}")
STRONG = re.compile(
    r"""(?:\\*["'`\]]{0,3}\s{0,8}(?::=|=>|==?|:)\s{0,8}|\\*["']?\s{0,8}(?:,\s{0,8}|\n\s{0,40}(?:-\s)?)\\*["']?value\\*["']?:\s*)"""
    r"""(?P<quote>(?:\\*["'`])?)"""
)
"""What parts a name from its value in settings, headers, JSON and code."""
TAG = re.compile(r"(?P<quote>)>\s{0,8}")
WEAK = re.compile(r"""\s{1,3}(?:(?:[^\W\d_]{1,12}|:|=|->|→)[\s:]{1,3}){0,5}(?P<quote>["'`<]?)""")
"""And in prose, SQL and commands."""
VALUE = re.compile(r"[^\s\"'`,;<>\\]{6,8192}")
IN_HEADER = re.compile(r"[^\s\"'`<>\\]{6,8192}")
QUOTED = {
    '"': re.compile(r'[^"\\\n]{6,8192}'),
    "'": re.compile(r"[^'\\\n]{6,8192}"),
    "`": re.compile(r"[^`\\\n]{6,8192}"),
}
GENERAL = frozenset({"key", "keys", "token", "secret"})
BEFORE_GENERAL = re.compile(r"(?i)(?:api|access|secret|private|auth|virtual|my|your|our|the)\s{1,2}\Z")
NO_SECRET_KEYS = frozenset(
    {"cache_key", "public_key", "partition_key", "sort_key", "primary_key", "foreign_key", "row_key", "idempotency_key"}
)
SCHEME = re.compile(
    r"(?i)(?:bearer|basic|token|api-?key|key|ssws|digest|signature|negotiate|aws4-hmac-sha256)\s{1,4}(?:token=)?"
)
LINE = re.compile(r"[^\r\n\"'`]{6,8192}")
PARAMETER = re.compile(
    r"(?i)\b(?:response|signature|credential|nonce|cnonce|opaque|keyid)\s?=\s?\\?\"?([^\s\",\\]{6,4096})"
)
"""Of an Authorization header with several."""
BASIC = re.compile(r"(?i:(?<!\w)basic\s{1,4})([A-Za-z0-9+/_\-]{8,2048}={0,2})")
BEARER = re.compile(
    r"(?i:(?<!\w)bearer[ \t]{1,4})(?=[^\s]{0,200}[0-9A-Z._~+/\-]|[a-z]{16})([A-Za-z0-9._~+/\-]{8,8192}=*)"
)
COMMANDS = re.compile(
    r"(?:\s(?:-u|--user)[ =][\"']?[\w.@+\-]{1,64}:|\bsshpass\s{1,4}-p\s{0,4}|\bredis-cli\b[^\n]{0,80}\s-a\s{1,4}|"
    r"\bmysql\w{0,8}\b[^\n]{0,60}\s-p|\bdocker\b[^\n]{0,80}\s-p\s{1,4}|\brequirepass\s{1,4})[\"']?([^\s\"']{6,256})"
)

CONNECTION = re.compile(r";\w{3,40}=")
"""In a connection string the parts that are secret have names of their own."""

Span = tuple[int, int]


def _without_named(text: str) -> str:
    lower = text.lower()
    if len(lower) != len(text):
        lower = text  # a letter that has no lower case of its own length: what is written small is found
    spans: list[Span] = []
    for word in KEYWORDS:
        at = lower.find(word)
        while at >= 0:
            spans += _spans_after(text, at, word)
            at = lower.find(word, at + len(word))
    return _with_hidden(text, spans) if spans else text


def _with_hidden(text: str, spans: list[tuple[int, int]]) -> str:
    pieces = []
    kept_from = 0
    for start, end in sorted(spans):
        if start >= kept_from:
            pieces += [text[kept_from:start], HIDDEN]
        kept_from = max(kept_from, end)
    return "".join((*pieces, text[kept_from:]))


def _spans_after(text: str, at: int, word: str) -> list[Span]:
    """Where the credentials are that the word at this place speaks of."""
    if word == "bearer":
        match = BEARER.match(text, at)
        return [match.span(1)] if match is not None and not _is_code(match[1]) else []
    if word == "basic ":
        match = BASIC.match(text, at)
        return [match.span(1)] if match is not None and _is_basic(match[1]) else []
    if word in COMMAND_WORDS:
        match = COMMANDS.search(text, max(0, at - 90), at + 400)
        return [match.span(1)] if match is not None and _may_be_password(match[1]) else []
    rest = NAME_REST.match(text, at)
    end = at if rest is None else rest.end()
    before = NAME.search(text, max(0, at - 60), at)
    name = (before[0] if before is not None else "") + text[at:end]
    if word == "received=":
        name, end = "token", at + len(word) - 1
    elif word == "identified by":
        name, end = "password", at + len(word)
    strong = STRONG.match(text, end)
    if strong is None and text[end : end + 1] == ">" and text[end - len(name) - 1 : end - len(name)] == "<":
        strong = TAG.match(text, end)
    if strong is not None:
        return _after_sign(text, at, name.lstrip("-$."), strong)
    weak = WEAK.match(text, end)
    value = None if weak is None else VALUE.match(text, weak.end())
    if value is None:
        return []
    span = _trimmed(text, value.start(), value.end())
    found = text[span[0] : span[1]]
    if found.startswith("-"):
        return []
    is_asked_for = name.startswith("--") or _is_password(name)
    is_one = len(found) >= 8 and _may_be_password(found) if is_asked_for else is_random(found)
    return [span] if is_one else []


def _after_sign(text: str, at: int, name: str, match: re.Match[str]) -> list[Span]:
    """After a name and a sign between it and its value."""
    lower = name.lower().replace("-", "_")
    start = match.end()
    if lower.endswith("authorization") or lower == "auth":
        return _in_authorization(text, start)
    if lower.endswith("cookie"):
        line = LINE.match(text, start)
        return [line.span()] if line is not None and "=" in line[0] else []
    is_general = lower in GENERAL and BEFORE_GENERAL.search(text, max(0, at - 12), at) is not None
    is_key = lower.endswith(("_key", "sessionid")) and lower not in NO_SECRET_KEYS
    if not (is_general or is_key or lower == "pw" or is_credential_name(name)):
        return []
    quote = match["quote"].lstrip("\\")
    is_plain = quote in QUOTED and "\\" not in match["quote"]
    value = (QUOTED[quote] if is_plain else VALUE).match(text, start)
    if value is None or HIDDEN in value[0]:
        return []
    span = value.span() if is_plain else _trimmed(text, *value.span())
    found = text[span[0] : span[1]]
    if _is_password(name) or lower == "pw":
        return [span] if _may_be_password(found) else []
    is_sure = is_credential_name(name) or len(found) >= 24
    if not is_sure or " " in found or CONNECTION.search(found):
        return []
    return [span] if is_random(found) else []


def _in_authorization(text: str, start: int) -> list[Span]:
    scheme = SCHEME.match(text, start)
    if scheme is None:
        value = VALUE.match(text, start)
        return [value.span()] if value is not None and is_random(value[0]) else []
    if scheme[0].strip().lower() in ("digest", "signature", "aws4-hmac-sha256"):
        end = text.find("\n", start)
        return [match.span(1) for match in PARAMETER.finditer(text, scheme.end(), len(text) if end < 0 else end)]
    value = IN_HEADER.match(text, scheme.end())
    if value is None or _is_code(value[0]) or HIDDEN in value[0] or not (_is_mixed(value[0]) or len(value[0]) > 24):
        return []
    return [value.span()]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without the signs of the sentence, or of the brackets, around it."""
    while end > start and text[end - 1] in ".:!?)]}":
        end -= 1
    # `&` parts the fields of a form; what comes after it is another one's.
    part = text.find("&", start, end)
    return start, end if part < 0 else part


def _is_password(name: str) -> bool:
    lower = name.lower()
    return any(word in lower for word in PASSWORDS)


CODE = re.compile(
    r"[A-Za-z_][\w.]*\(|[$%{<\[(*&]|os\.|process\.|settings\.|config\.|self\.|env\b|https?://|\.{2,}|[\w]+\.[a-z_]+\.[a-z_]+$"
)
PLACEHOLDER = re.compile(
    r"(?i)(?:[/~]|[a-z]:\\|x{4,}|\*{3,}|\.{3,}|your[-_ ]|my[-_ ]|change[-_ ]?me|"
    r"example|placeholder|none|null|true|false|redacted)"
)


def _is_code(found: str) -> bool:
    return CODE.match(found) is not None or PLACEHOLDER.match(found) is not None or found.startswith(HIDDEN)


def _is_mixed(found: str) -> bool:
    return any(map(str.isdigit, found)) and any(map(str.isalpha, found))


def _may_be_password(found: str) -> bool:
    """Whether it is what somebody would have as a password, and no word of a sentence or of code."""
    if len(found) < 6 or _is_code(found) or " " in found:
        return False
    return _is_mixed(found) and not found.isdigit()


def is_random(found: str) -> bool:
    """Whether it looks drawn, not written: long, of letters and digits, and not made of words, numbers and dates."""
    if len(found) < 12 or _is_code(found):
        return False
    pieces = re.split(r"[^A-Za-z0-9]+", found)
    mixed = [piece for piece in pieces if _is_mixed(piece)]
    if not mixed:
        return False
    longest = max(mixed, key=len)
    return len(longest) >= 12 or (len(longest) >= 7 and len(found) >= 20 and _changes(found) >= 6)


def _changes(found: str) -> int:
    """How often its characters change between digits, capitals and small letters."""
    kinds = [0 if each.isdigit() else 1 if each.isupper() else 2 for each in found if each.isalnum()]
    return sum(1 for one, other in itertools.pairwise(kinds) if one != other)


def _is_basic(found: str) -> bool:
    try:
        decoded = base64.b64decode(found + "=" * (-len(found) % 4), validate=False)
    except (binascii.Error, ValueError):
        return False
    return b":" in decoded or _is_mixed(found)
