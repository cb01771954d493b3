"""A secret in every place from which LiteLLM takes one, a provider and a server that repeat what they are sent, everything
recorded that can be: no secret, no piece of one and no other way of writing one leaves the program.

Places: LiteLLM's parameters and attributes (litellm 1.60 to 1.110), the environment's variables that its source reads, the
Proxy's configuration and its clients' requests.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import litellm
import openai
import pytest

import honeyhive_autoinstrument
from honeyhive_autoinstrument._faults import LOGGER_NAME, faults
from tests.conftest import BIN, FAULT_MARK, Finished, Recording, Run, wait_until
from tests.fakes.honeyhive import FakeHoneyHive
from tests.fakes.server import Server, free_port
from tests.privacy.canaries import (
    ANSWERS,
    BREAKS,
    DENIES,
    PARROTS,
    REFUSES,
    SHAPES,
    STREAMS,
    Canaries,
    Echo,
    Parrot,
    Parrots,
    files_of,
    leaks,
    requests_of,
    variables_of_litellm,
)
from tests.providers.case import IS_NEWEST
from tests.proxy.server import Proxy, end_group, environment, wait_until_ready

QUESTION = "Say what you were sent."
MESSAGES = [{"role": "user", "content": QUESTION}]


@pytest.fixture
def canaries(request: pytest.FixtureRequest) -> Canaries:
    return Canaries(request.node.name)


@pytest.fixture
def parrots() -> Iterator[Parrots]:
    with Parrots() as server:
        yield server


class Watched:
    """LiteLLM in this process, recorded with everything on, and all that leaves it."""

    def __init__(self, recording: Recording, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.recording = recording
        self.folder = folder
        self.caplog = caplog

    def surfaces(self) -> dict[str, bytes]:
        """What has left. Fails if nothing was recorded."""
        assert len(self.recording.events()) > 1
        return self.surfaces_of(self.recording.server)

    def surfaces_of(self, server: Server) -> dict[str, bytes]:
        ours = [record.getMessage() for record in self.caplog.records if record.name.startswith(LOGGER_NAME)]
        return {
            **requests_of(server),
            **files_of(self.folder),
            "log": "\n".join(ours).encode(),
        }


@pytest.fixture
def watched(
    recording: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Watched:
    # `debug` sets up the logger for the rest of the process.
    logger = logging.getLogger(LOGGER_NAME)
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logging.Logger.manager._clear_cache()  # type: ignore[attr-defined]
    caplog.handler.setLevel(logging.DEBUG)
    faults._said_at.clear()
    honeyhive_autoinstrument.init(capture_raw=True, capture_headers=True, debug=True)
    # The first call opens the way out; what is set later is not there yet.
    litellm.completion(model="gpt-4o", messages=MESSAGES, mock_response="heard")
    assert honeyhive_autoinstrument.flush(10)
    return Watched(recording, tmp_path, caplog)


# -- the search itself -------------------------------------------------------------------------------------------------

PLANTED: dict[str, Callable[[str], bytes]] = {
    "itself": lambda secret: secret.encode(),
    "its beginning": lambda secret: secret[:12].encode(),
    "its end": lambda secret: secret[-12:].encode(),
    "a piece of its middle": lambda secret: secret[9:21].encode(),
    "quoted for a URL": lambda secret: f"?key={httpx.QueryParams({'k': secret})}".encode(),
    "in JSON": lambda secret: json.dumps({"k": secret}).encode(),
    "in base64": lambda secret: b64encode(secret.encode()),
    "in base64, after one byte": lambda secret: b64encode(b":" + secret.encode()),
    "in base64, after two bytes": lambda secret: b64encode(b"u:" + secret.encode()),
    "in base64, among other things": lambda secret: b64encode(b"user:" + secret.encode() + b"\n more"),
    "in digits": lambda secret: secret.encode().hex().encode(),
}


@pytest.mark.parametrize("way", PLANTED)
@pytest.mark.parametrize("alphabet", ["abcdefgh01234567", 'a1/+="\\&% '])
def test_the_search_finds_a_planted_secret(canaries: Canaries, way: str, alphabet: str) -> None:
    planted = b"nothing here " + PLANTED[way](canaries.at("a place", alphabet)) + b", and nothing there"

    found = leaks(canaries.by_place, {"an empty one": b"", "a surface": planted})

    assert [leak.partition(": ...")[0] for leak in found] == ["a place: a surface"]


def test_the_search_finds_secrets_of_every_surface(tmp_path: Path, canaries: Canaries) -> None:
    in_name, in_file, in_body, in_path, in_header = (
        canaries.at(each) for each in ("name", "file", "body", "path", "h")
    )
    folder = tmp_path / "deeper"
    folder.mkdir()
    (folder / f"{in_name}.txt").write_text(in_file)
    with Echo(400) as server:
        httpx.post(f"{server.url}/{in_path}", content=in_body, headers={"x-other": in_header, "authorization": "none"})

        found = leaks(canaries.by_place, {**files_of(tmp_path), **requests_of(server)})

    assert {leak.partition(": ")[0] for leak in found} == {"name", "file", "body", "path", "h"}


def test_the_search_finds_nothing_where_nothing_is(canaries: Canaries) -> None:
    other = Canaries("another test").at("a place")

    found = leaks({"a place": canaries.at("a place")}, {"a surface": other.encode() * 100})

    assert found == []


def test_a_check_that_finds_a_secret_fails_and_says_where_it_was(canaries: Canaries) -> None:
    secret = canaries.at("a place")

    with pytest.raises(AssertionError, match=r"a place: a surface: .*in an odd corner"):
        canaries.check({"a surface": f"in an odd corner: {secret}".encode()})


# -- calls -------------------------------------------------------------------------------------------------------------


@dataclass
class Setting:
    """What a place may use: the secrets, the provider, and a way to set things for the test's time."""

    canaries: Canaries
    parrots: Parrots
    monkeypatch: pytest.MonkeyPatch
    way: str = ""

    def at(self, place: str) -> str:
        """A secret that the provider says if LiteLLM sends it; no other way has it."""
        return self.canaries.at(f"{place}, {self.way}")

    def told(self, place: str) -> str:
        """A secret that the provider says in any case."""
        secret = self.at(place)
        self.parrots.more = (*self.parrots.more, secret)
        return secret

    def set(self, **attributes: Any) -> dict[str, Any]:
        for name, value in attributes.items():
            self.monkeypatch.setattr(litellm, name, value)
        return {}

    def base_with(self, userinfo: str) -> str:
        return self.parrots.base.replace("://", f"://{userinfo}@")


def argument(name: str) -> Callable[[Setting], dict[str, Any]]:
    return lambda setting: {name: setting.told(name)}


def headers(argument_name: str, name: str, before: str = "") -> Callable[[Setting], dict[str, Any]]:
    return lambda setting: {argument_name: {name: before + setting.at(name)}}


CREDENTIAL_ARGUMENTS = (
    "api_key", "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_web_identity_token",
    "azure_ad_token", "azure_password", "client_secret", "s3_access_key_id", "s3_secret_access_key", "vertex_credentials",
    "vertex_ai_credentials", "watsonx_credentials", "zen_api_key", "oci_key", "gigachat_access_token", "auth_token",
    "langfuse_secret_key", "langsmith_api_key",
)  # fmt: skip
HEADERS = (
    ("Authorization", "Bearer "), ("x-api-key", ""), ("api-key", ""), ("X-Goog-Api-Key", ""), ("X-Auth-Token", ""),
    ("Ocp-Apim-Subscription-Key", ""), ("Helicone-Auth", "Bearer "), ("cf-aig-authorization", "Bearer "),
    ("X-Amz-Security-Token", ""), ("Proxy-Authorization", "Basic "), ("CF-Access-Client-Secret", ""), ("Cookie", ""),
)  # fmt: skip
ATTRIBUTES = tuple(sorted(name for name, value in vars(litellm).items() if value is None and name.endswith("_key")))
"""`litellm.api_key`, `litellm.openai_key`, ..."""

PLACES: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "arguments": lambda setting: {name: setting.told(name) for name in CREDENTIAL_ARGUMENTS},
    "a service key": argument("service_key"),
    "extra_headers": lambda setting: {"extra_headers": {name: before + setting.at(name) for name, before in HEADERS}},
    **{
        f"a header that begins with {before or 'nothing'}": headers("extra_headers", "Authorization", before)
        for before in ("Basic ", "ApiKey ", "")
    },
    "a cookie": lambda setting: {"extra_headers": {"Cookie": f"theme=dark; session={setting.told('cookie')}; last=1"}},
    "headers": headers("headers", "Authorization", "Bearer "),
    "headers of httpx": lambda setting: {"extra_headers": httpx.Headers({"x-api-key": setting.at("header")})},
    "a service account as JSON": lambda setting: {
        "vertex_credentials": json.dumps(
            {"client_secret": setting.told("client_secret"), "refresh_token": setting.told("refresh_token")}
        )
    },
    "a service account as a dictionary": lambda setting: {
        "vertex_credentials": {"client_secret": setting.told("client_secret"), "refresh_token": setting.told("refresh")}
    },
    "a body of the caller's": lambda setting: {"extra_body": {"auth": {"client_secret": setting.at("client_secret")}}},
    "a query of the caller's": lambda setting: {"extra_query": {"api-key": setting.at("query")}},
    "a query named key": lambda setting: {"extra_query": {"key": setting.at("query")}},
    "the caller's metadata": lambda setting: {"metadata": {"api_key": setting.at("metadata")}},
    "previous_models": lambda setting: {
        "metadata": {"previous_models": [{"model": "m", "api_key": setting.at("previous"), "messages": MESSAGES}]}
    },
    "fallbacks": lambda setting: {
        "fallbacks": [
            {
                "model": "openai/parrot-refuses",
                "api_base": setting.parrots.base,
                "api_key": setting.at("fallback"),
                "extra_headers": {"Authorization": f"Bearer {setting.at('header of a fallback')}"},
            }
        ]
    },
    "a client": lambda setting: {
        "client": openai.OpenAI(api_key=setting.at("client"), base_url=setting.parrots.base, max_retries=0)
    },
    "a client's headers": lambda setting: {
        "client": openai.OpenAI(
            api_key=setting.at("client"),
            base_url=setting.parrots.base,
            max_retries=0,
            default_headers={"X-Auth-Token": setting.at("header of a client")},
        )
    },
    "a password in the address": lambda setting: {"api_base": setting.base_with(f"user:{setting.at('password')}")},
    "a token in the address": lambda setting: {"api_base": setting.base_with(setting.at("token"))},
    "a key in the address": lambda setting: {"api_base": f"{setting.parrots.base}?key={setting.at('key')}"},
    "attributes of litellm": lambda setting: setting.set(**{name: setting.at(name) for name in ATTRIBUTES}),
    "litellm.api_key": lambda setting: setting.set(api_key=setting.at("api_key")),
    "litellm.openai_key": lambda setting: setting.set(openai_key=setting.at("openai_key")),
    "litellm.headers": lambda setting: setting.set(headers={"X-Api-Key": setting.at("headers")}),
    "a variable set while the program runs": lambda setting: (
        setting.monkeypatch.setenv("OPENAI_API_KEY", setting.at("OPENAI_API_KEY")) or {}  # type: ignore[func-returns-value]
    ),
}
if hasattr(litellm, "credential_list"):  # since 1.63
    PLACES["litellm.credential_list"] = lambda setting: {
        **setting.set(
            credential_list=[
                litellm.types.utils.CredentialItem(
                    credential_name="mine", credential_values={"api_key": setting.at("credential")}, credential_info={}
                )
            ]
        ),
        "litellm_credential_name": "mine",
    }
WITHOUT_ANOTHER_KEY = (
    "arguments", "a client", "attributes", "litellm.api_key", "litellm.openai_key", "litellm.credential_list", "a variable",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    name: str
    parrot: Parrot
    is_raw: bool = True


WAYS = (
    Way("refused", REFUSES),
    Way("refused and nothing raw recorded", REFUSES, is_raw=False),
    Way("answered and nothing raw recorded", ANSWERS, is_raw=False),
    Way("answered", ANSWERS),
    Way("streamed", STREAMS),
    Way("broken off", BREAKS),
)


def ask(function: Callable[..., Any], parrot: Parrot, arguments: dict[str, Any]) -> None:
    """Call, and read what comes; it may fail."""

    async def finish(coroutine: Any) -> None:
        result = await coroutine
        if parrot.is_stream:
            async for _ in result:
                pass

    if parrot.is_stream:
        arguments = {**arguments, "stream": True}
    try:
        result = function(**arguments)
        if asyncio.iscoroutine(result):
            asyncio.run(finish(result))
        elif parrot.is_stream:
            list(result)
    except Exception:
        pass  # what LiteLLM says of it is its own; what we record is looked at


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_given_to_a_call_stays(
    watched: Watched, canaries: Canaries, parrots: Parrots, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    for way in WAYS:
        honeyhive_autoinstrument.init(capture_raw=way.is_raw)
        parrots.more = ()
        setting = Setting(canaries, parrots, monkeypatch, way.name)
        own = {} if place.startswith(WITHOUT_ANOTHER_KEY) else {"api_key": setting.at("the key beside it")}
        given = PLACES[place](setting)

        ask(
            litellm.completion,
            way.parrot,
            {
                "model": f"openai/{way.parrot.name}",
                "messages": MESSAGES,
                "api_base": parrots.base,
                "max_retries": 0,
                **own,
                **given,
            },
        )

    assert len(parrots.requests) >= len(WAYS)
    canaries.check(watched.surfaces())


@pytest.mark.parametrize("is_raw", [True, False], ids=["raw", "nothing raw"])
def test_a_key_that_cannot_be_sent_for_its_line_break_stays(
    watched: Watched, canaries: Canaries, parrots: Parrots, is_raw: bool
) -> None:
    honeyhive_autoinstrument.init(capture_raw=is_raw)
    # As it is read from a file; the error of the HTTP client quotes the header.
    for model, base in (("openai/gpt-4o", parrots.base), ("anthropic/claude-sonnet-4-5", parrots.url)):
        key = canaries.at(model) + "\n"

        ask(
            litellm.completion,
            REFUSES,
            {"model": model, "messages": MESSAGES, "api_base": base, "api_key": key, "max_retries": 0},
        )

    canaries.check(watched.surfaces())


# -- providers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Provider:
    """How LiteLLM reaches one, and where it takes the key from."""

    model: str
    base: str
    variables: tuple[str, ...]
    arguments: tuple[str, ...] = ("api_key",)
    more: tuple[tuple[str, str], ...] = ()
    needs: str | None = None


PROVIDERS = (
    Provider("openai/{}", "{}/v1", ("OPENAI_API_KEY",)),
    Provider("azure/{}", "{}", ("AZURE_API_KEY",), more=(("api_version", "2024-10-21"),)),
    Provider("azure/{}", "{}", (), ("azure_ad_token",), more=(("api_version", "2024-10-21"),)),
    Provider("anthropic/{}", "{}", ("ANTHROPIC_API_KEY",)),
    Provider("gemini/{}", "{}/v1beta", ("GEMINI_API_KEY",)),
    Provider("mistral/{}", "{}/v1", ("MISTRAL_API_KEY",)),
    Provider("cohere_chat/{}", "{}/v2/chat", ("COHERE_API_KEY",)),
    Provider("groq/{}", "{}/v1", ("GROQ_API_KEY",)),
    Provider("deepseek/{}", "{}/v1", ("DEEPSEEK_API_KEY",)),
    Provider("hosted_vllm/{}", "{}/v1", ("HOSTED_VLLM_API_KEY",)),
    Provider("ollama_chat/{}", "{}", ("OLLAMA_API_KEY",)),
    Provider("cometapi/{}", "{}/v1", ("COMETAPI_KEY",)),
    Provider("aiml/{}", "{}/v1", ("AIML_API_KEY",)),
    Provider("fireworks_ai/{}", "{}/v1", ("FIREWORKS_AI_TOKEN",)),
    Provider(
        "bedrock/converse/{}",
        "{}",
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
        more=(("aws_region_name", "us-east-1"),),
        needs="boto3",
    ),
)
FUNCTIONS = {"completion": litellm.completion, "acompletion": litellm.acompletion}
PROVIDER_WAYS = tuple(way for way in WAYS if way.parrot is not BREAKS)


@pytest.mark.skipif(not IS_NEWEST, reason="earlier releases take other addresses for some of the providers")
@pytest.mark.parametrize("source", ["argument", "variable"])
@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda each: f"{each.model} {each.arguments[0]}")
def test_the_secret_of_a_provider_stays(
    watched: Watched,
    canaries: Canaries,
    parrots: Parrots,
    monkeypatch: pytest.MonkeyPatch,
    provider: Provider,
    source: str,
) -> None:
    if provider.needs is not None and find_spec(provider.needs) is None:
        pytest.skip(f"{provider.needs} is not installed")
    if source == "variable" and not provider.variables:
        pytest.skip("LiteLLM reads no variable for it")
    for way, (name, function) in product(PROVIDER_WAYS, FUNCTIONS.items()):
        honeyhive_autoinstrument.init(capture_raw=way.is_raw)
        setting = Setting(canaries, parrots, monkeypatch, f"{name}, {way.name}")
        secrets = [setting.at(each) for each in provider.arguments]
        arguments: dict[str, Any] = dict(provider.more)
        if source == "argument":
            arguments.update(zip(provider.arguments, secrets, strict=True))
        else:
            for variable, secret in zip(provider.variables, secrets, strict=True):
                monkeypatch.setenv(variable, secret)

        ask(
            function,
            way.parrot,
            {
                "model": provider.model.format(way.parrot.name),
                "messages": MESSAGES,
                "api_base": provider.base.format(parrots.url),
                "max_retries": 0,
                **arguments,
            },
        )

    assert len(parrots.requests) >= 2 * len(PROVIDER_WAYS)
    canaries.check(watched.surfaces())


# -- shapes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parrot", PARROTS, ids=lambda parrot: parrot.name)
def test_a_secret_of_a_published_form_stays_wherever_it_came_from(
    watched: Watched, canaries: Canaries, parrots: Parrots, parrot: Parrot
) -> None:
    """None of these is given to LiteLLM as a credential."""
    shaped = [canaries.shaped(shape) for shape in SHAPES]
    shaped += [canaries.token(), canaries.private_key(), f"Bearer {canaries.at('bearer')}"]
    texts = [f"{before}{secret}{after}" for before, after in WRITTEN for secret in shaped]
    parrots.more = tuple(text.replace("\n", "\\n") for text in texts)

    ask(
        litellm.completion,
        parrot,
        {
            "model": f"openai/{parrot.name}",
            "messages": [
                {"role": "system", "content": "\n".join(texts)},
                {"role": "user", "content": [{"type": "text", "text": text} for text in texts]},
            ],
            "metadata": {"notes": texts, "by text": dict.fromkeys(texts, 1)},
            "user": shaped[0],
            "stop": texts[:2],
            "api_base": parrots.base,
            "api_key": "none",
            "max_retries": 0,
        },
    )

    canaries.check(watched.surfaces())


WRITTEN = (
    ("", ""), ("my key is ", ", thanks"), ('{"key": "', '"}'), ("KEY=", ";"), ("(", ")"), ("<", ">"), ("'", "'"),
    ("key:", "\n"), ("https://service.example/?key=", "&more=1"),
)  # fmt: skip


# -- Router ------------------------------------------------------------------------------------------------------------


def deployment(setting: Setting, group: str, parrot: Parrot, number: int) -> dict[str, Any]:
    name = f"{group} {number}"
    return {
        "model_name": group,
        "litellm_params": {
            "model": f"openai/{parrot.name}",
            "api_base": setting.parrots.base,
            "api_key": setting.at(f"key of {name}"),
            "extra_headers": {
                "Authorization": f"Bearer {setting.at(f'header of {name}')}",
                "x-api-key": setting.at(f"x-api-key of {name}"),
            },
            "max_retries": 0,
        },
    }


def router_of(setting: Setting, last: Parrot) -> litellm.Router:
    return litellm.Router(
        model_list=[
            deployment(setting, "first", REFUSES, 1),
            deployment(setting, "first", DENIES, 2),
            deployment(setting, "second", REFUSES, 1),
            deployment(setting, "last", last, 1),
        ],
        fallbacks=[{"first": ["second", "last"]}],
        num_retries=1,
        retry_after=0,
    )


@pytest.mark.parametrize("name", ["completion", "acompletion"])
@pytest.mark.parametrize("last", [ANSWERS, STREAMS, BREAKS, REFUSES], ids=lambda parrot: parrot.name)
def test_the_secrets_of_a_routers_deployments_stay(
    watched: Watched,
    canaries: Canaries,
    parrots: Parrots,
    monkeypatch: pytest.MonkeyPatch,
    last: Parrot,
    name: str,
) -> None:
    for is_raw in (True, False):
        honeyhive_autoinstrument.init(capture_raw=is_raw)
        setting = Setting(canaries, parrots, monkeypatch, "raw" if is_raw else "nothing raw")
        router = router_of(setting, last)

        ask(
            getattr(router, name),
            last,
            {
                "model": "first",
                "messages": MESSAGES,
                "metadata": {"authorization": setting.at("the caller's")},
                "extra_body": {"auth": {"client_secret": setting.at("the body's")}},
            },
        )

    surfaces = watched.surfaces()
    assert len(watched.recording.server.events) >= 8
    canaries.check(surfaces)


def test_the_secret_of_an_attempt_stays_when_its_chain_is_built_by_another_thread(
    watched: Watched, canaries: Canaries, parrots: Parrots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain's error repeats a key that only the attempt was given."""
    honeyhive_autoinstrument.init(workers=4, batch_max_events=1, linger=0.0)
    setting = Setting(canaries, parrots, monkeypatch)
    for number in range(40):
        router = litellm.Router(model_list=[deployment(setting, "group", REFUSES, number)], num_retries=0)
        ask(router.completion, REFUSES, {"model": "group", "messages": MESSAGES})

    canaries.check(watched.surfaces())


# -- the HoneyHive server ----------------------------------------------------------------------------------------------

SERVER_MESSAGES = {
    "as it came": "the header was {authorization}",
    "alone": "unknown key {key}",
    # What is said of a server's message is cut at some length.
    **{f"cut after {kept} letters": f"{'no ' * 70}"[: 199 - kept] + " {key}" for kept in (13, 20, 28)},
}


@pytest.mark.parametrize("status", [400, 401, 500])
@pytest.mark.parametrize("message", SERVER_MESSAGES)
def test_the_key_of_honeyhive_stays_when_the_server_repeats_it(
    watched: Watched, canaries: Canaries, message: str, status: int
) -> None:
    with Echo(status, SERVER_MESSAGES[message]) as server:
        honeyhive_autoinstrument.init(api_url=server.url, api_key=canaries.at("key of HoneyHive"))
        litellm.completion(model="gpt-4o", messages=MESSAGES, mock_response="heard")
        wait_until(lambda: bool(server.requests) and server.is_quiet, what="a request")
        honeyhive_autoinstrument.shutdown(0.2)

        canaries.check(watched.surfaces_of(server))


# -- whole programs ----------------------------------------------------------------------------------------------------

EVERYTHING = {"HONEYHIVE_CAPTURE_RAW": "true", "HONEYHIVE_CAPTURE_HEADERS": "true", "HONEYHIVE_DEBUG": "true"}
IN_A_HURRY = {
    "HONEYHIVE_TIMEOUT": "2",
    "HONEYHIVE_EXIT_TIMEOUT": "1",
}
QUOTES_VARIABLES = """
import os, litellm
values = [os.environ[name] for name in os.environ["QUOTED"].split(",")]
litellm.completion(
    model="gpt-4o", mock_response=" ".join(values), messages=[{"role": "user", "content": each} for each in values]
)
"""
NO_SECRETS = (
    "LANGFUSE_PUBLIC_KEY",
    "LITELLM_CONFIG_BUCKET_OBJECT_KEY",  # the name of a file in a bucket
    "HCP_VAULT_CLIENT_KEY",  # paths of files
    "CYBERARK_CLIENT_KEY",
)
MORE_VARIABLES = {
    # What stands in the places of real deployments: base64 begins with a slash in one of 64.
    "MY_SECRET_ACCESS_KEY": "/",
    "OTHER_API_KEY": ".",
    "THIRD_AUTH_TOKEN": "~",
}


def ours_of(finished: Finished) -> dict[str, bytes]:
    return {"stdout": finished.out.encode(), "stderr": finished.err.encode()}


def looked_at(run: Run, env: dict[str, str]) -> dict[str, bytes]:
    """What the command shows of the store."""
    shown = run(BIN / "honeyhive-events", "show", "--last", "9", env=env)
    exported = run(BIN / "honeyhive-events", "export", env=env)
    assert (shown.status, exported.status) == (0, 0)
    assert "litellm.completion" in shown.out
    assert "litellm.completion" in exported.out
    return {
        **{f"show {name}": data for name, data in ours_of(shown).items()},
        **{f"export {name}": data for name, data in ours_of(exported).items()},
    }


def test_the_environments_secrets_stay(run: Run, tmp_path: Path, canaries: Canaries) -> None:
    names = variables_of_litellm(Path(litellm.__file__).parent, NO_SECRETS)
    env = {name: canaries.at(name) for name in names}
    for name, beginning in MORE_VARIABLES.items():
        env[name] = beginning + canaries.at(name)
    env["QUOTED"] = ",".join(env)

    finished = run(
        BIN / "honeyhive-instrument", "python", "-c", QUOTES_VARIABLES, env={**EVERYTHING, **IN_A_HURRY, **env}
    )

    assert finished.status == 0, finished.err
    assert len(names) > 100
    surfaces = {**ours_of(finished), **files_of(tmp_path), **looked_at(run, {})}
    canaries.check(surfaces)


ASKS_PARROTS = """
import sys, litellm
litellm.suppress_debug_info = True
base, names = sys.argv[1], sys.argv[2].split(",")
for name in names:
    try:
        answer = litellm.completion(
            model="openai/" + name, api_base=base, api_key=sys.argv[4], max_retries=0, stream="streams" in name,
            messages=[{"role": "user", "content": "Say what you were sent."}],
        )
        list(answer)
    except Exception:
        pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("exporters", ["honeyhive,console", "local"])
def test_the_secrets_of_a_program_stay_while_the_server_is_away(
    run: Run, tmp_path: Path, parrots: Parrots, canaries: Canaries, exporters: str
) -> None:
    with Echo(500) as gone:
        address = gone.url
    parrots.more = (canaries.at("key of HoneyHive"),)
    env = {
        **EVERYTHING,
        **IN_A_HURRY,
        "HONEYHIVE_API_KEY": canaries.at("key of HoneyHive"),
        "HONEYHIVE_API_URL": address.replace("://", f"://user:{canaries.at('password of HoneyHive')}@"),
        "HONEYHIVE_EXPORTERS": exporters,
    }
    names = ",".join(each.name for each in (ANSWERS, STREAMS, REFUSES))
    program = tmp_path / "program.py"
    program.write_text(ASKS_PARROTS)

    finished = run(
        BIN / "honeyhive-instrument", "python", program, parrots.base, names, "--key", canaries.at("argument"), env=env
    )

    assert finished.status == 0, finished.err
    surfaces = {**ours_of(finished), **files_of(tmp_path), **looked_at(run, env)}
    canaries.check(surfaces)


@pytest.mark.slow
@pytest.mark.parametrize("status", [200, 401, None])
def test_check_shows_no_secret(run: Run, tmp_path: Path, canaries: Canaries, status: int | None) -> None:
    with Echo(status or 200, "{authorization} " * 20) as server:
        address = server.url.replace("://", f"://user:{canaries.at('password of HoneyHive')}@")
        env = {
            **EVERYTHING,
            **IN_A_HURRY,
            "HONEYHIVE_API_KEY": canaries.at("key of HoneyHive"),
            "HONEYHIVE_API_URL": address if status is not None else address.replace("http", "ftp"),
            **{name: canaries.at(name) for name in ("OPENAI_API_KEY", "LITELLM_MASTER_KEY", "AWS_SECRET_ACCESS_KEY")},
        }

        checked = run(BIN / "honeyhive-instrument", "--check", env=env)

        assert bool(server.requests) == (status is not None)
    assert "wrapped in LiteLLM" in checked.out
    canaries.check({**ours_of(checked), **files_of(tmp_path)})


# -- the Proxy ---------------------------------------------------------------------------------------------------------

CUSTOM_AUTH = """
import json
import pathlib

from litellm.proxy._types import ProxyException, UserAPIKeyAuth

KEYS = json.loads((pathlib.Path(__file__).parent / "keys.json").read_text())


async def user_api_key_auth(request, api_key):
    if api_key not in KEYS:
        raise ProxyException(message=f"no such key: {api_key}", type="auth_error", param="api_key", code=401)
    return UserAPIKeyAuth(api_key=api_key, key_alias="of-the-test", user_id="user-ada")
"""
OUR_LINES = ("HoneyHive recording:", "Recording LiteLLM:", "A batch of ", "Internal error in ")
"""LiteLLM's own lines in the same log repeat what the providers say."""


def proxy_configuration(parrots: Parrots, canaries: Canaries) -> dict[str, Any]:
    def group(parrot: Parrot, model: str = "openai/{}", base: str = "{}/v1") -> dict[str, Any]:
        name = model.format(parrot.name)
        return {
            "model_name": name,
            "litellm_params": {
                "model": name,
                "api_base": base.format(parrots.url),
                "api_key": canaries.at(f"key of {name}"),
                "extra_headers": {"x-group-api-key": canaries.at(f"header of {name}")},
                "max_retries": 0,
            },
        }

    without_key = {"model": f"openai/{ANSWERS.name}", "api_base": parrots.base}
    by_variable = {**without_key, "api_key": "os.environ/UPSTREAM_ONE"}
    by_name = {**without_key, "litellm_credential_name": "mine"}
    return {
        "model_list": [
            *(group(parrot) for parrot in PARROTS),
            *(group(parrot, "anthropic/{}", "{}") for parrot in (ANSWERS, REFUSES)),
            {"model_name": "by variable", "litellm_params": by_variable},
            {"model_name": "by name", "litellm_params": by_name},
        ],
        "credential_list": [
            {
                "credential_name": "mine",
                "credential_values": {"api_key": canaries.at("credential of the list")},
                "credential_info": {},
            }
        ],
        "router_settings": {
            "num_retries": 1,
            "retry_after": 0,
            "disable_cooldowns": True,
            "fallbacks": [{f"openai/{DENIES.name}": [f"openai/{REFUSES.name}", f"openai/{ANSWERS.name}"]}],
        },
        "general_settings": {
            "custom_auth": "custom_auth.user_api_key_auth",
            "master_key": canaries.at("master key"),
            "allow_client_side_credentials": True,
            "forward_client_headers_to_llm_api": True,
        },
    }


@contextmanager
def canary_proxy(parrots: Parrots, honeyhive: FakeHoneyHive, canaries: Canaries, folder: Path) -> Iterator[Proxy]:
    keys = [f"sk-{canaries.at('virtual key')}", canaries.at("opaque key"), canaries.at("master key")]
    (folder / "config.yaml").write_text(json.dumps(proxy_configuration(parrots, canaries)))
    (folder / "custom_auth.py").write_text(CUSTOM_AUTH)
    (folder / "keys.json").write_text(json.dumps(keys))
    port = free_port()
    variables = {
        **environment(folder),
        **honeyhive.env,
        **EVERYTHING,
        "UPSTREAM_ONE": canaries.at("a variable that only the configuration names"),
        "OPENAI_API_KEY": canaries.at("OPENAI_API_KEY"),
        "LITELLM_SALT_KEY": canaries.at("LITELLM_SALT_KEY"),
    }
    log = folder / "proxy.log"
    command: list[Any] = [BIN / "honeyhive-instrument", "litellm", "--config", folder / "config.yaml"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=variables,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    proxy = Proxy(f"http://127.0.0.1:{port}", parrots, honeyhive, log, process)
    try:
        wait_until_ready(proxy)
        yield proxy
        proxy.stop()
    finally:
        end_group(process)
    assert FAULT_MARK not in log.read_text()


def ask_proxy(proxy: Proxy, canaries: Canaries) -> list[str]:
    """Requests of every kind; the models that answered."""
    keys = [f"sk-{canaries.at('virtual key')}", canaries.at("opaque key"), canaries.at("master key")]
    headers = {
        "cookie": f"theme=dark; session={canaries.at('cookie')}",
        "x-upstream-token": canaries.at("a client's header"),
        "x-forwarded-authorization": f"Basic {canaries.at('a header of a load balancer')}",
    }
    quoting = [{"role": "user", "content": f"My keys are {', '.join(keys)}."}]
    chat, messages, responses = "/v1/chat/completions", "/v1/messages", "/v1/responses"
    requests: list[tuple[str, dict[str, Any]]] = [
        *((chat, {"model": f"openai/{each.name}", "messages": MESSAGES, "stream": each.is_stream}) for each in PARROTS),
        (chat, {"model": f"openai/{ANSWERS.name}", "messages": quoting}),
        (chat, {"model": "by variable", "messages": MESSAGES}),
        (chat, {"model": "by name", "messages": MESSAGES}),
        (responses, {"model": f"openai/{REFUSES.name}", "input": QUESTION}),
        (messages, {"model": f"anthropic/{ANSWERS.name}", "messages": MESSAGES, "max_tokens": 9}),
        (messages, {"model": f"anthropic/{REFUSES.name}", "messages": MESSAGES, "max_tokens": 9}),
        *(
            (
                chat,
                {
                    "model": f"openai/{each.name}",
                    "messages": MESSAGES,
                    "stream": each.is_stream,
                    "api_key": canaries.at(f"a client's own key for {each.name}"),
                    "extra_headers": {"x-other-api-key": canaries.at(f"a header in the body for {each.name}")},
                    "metadata": {"previous_models": [{"api_key": canaries.at("previous model")}], "password": keys[1]},
                },
            )
            for each in (ANSWERS, STREAMS, REFUSES)
        ),
    ]
    answered = []
    for number, (path, body) in enumerate(requests):
        key = keys[number % len(keys)]
        with proxy.http(key) as client:
            try:
                answer = client.post(f"{path}?key={canaries.at('query of a client')}", json=body, headers=headers)
            except httpx.HTTPError:  # the one that breaks off
                continue
        if answer.status_code == 200:
            answered.append(body["model"])
    return answered


@pytest.mark.slow
@pytest.mark.skipif(not IS_NEWEST, reason="earlier releases know some of the settings under other names")
@pytest.mark.timeout(240)
def test_the_secrets_of_a_proxy_and_its_clients_stay(
    parrots: Parrots, fake_honeyhive: FakeHoneyHive, tmp_path: Path, canaries: Canaries
) -> None:
    with canary_proxy(parrots, fake_honeyhive, canaries, tmp_path) as proxy:
        answered = ask_proxy(proxy, canaries)
        refused = proxy.post("/v1/chat/completions", {"model": "by name"}, key=canaries.at("key of a stranger"))
        proxy.stop()

    assert refused.status_code == 401
    assert {f"openai/{each.name}" for each in (ANSWERS, STREAMS)} | {"by variable", "by name"} <= set(answered)
    events = fake_honeyhive.events
    assert len([event for event in events if event["event_name"] == "litellm.proxy"]) >= 12
    lines = [line for line in proxy.log.read_text().splitlines() if line.startswith(OUR_LINES)]
    assert lines
    canaries.check({**requests_of(fake_honeyhive), **files_of(tmp_path / "home"), "log": "\n".join(lines).encode()})
