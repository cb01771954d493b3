"""Settings: where each comes from, and what a bad value does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from honeyhive_autoinstrument.activation.launcher import OPTIONS
from honeyhive_autoinstrument.config import ALSO_READ, SAID_DEFAULTS, Config, setting_names, variables_of
from tests.conftest import ROOT
from tests.releases import KNOWN_BAD, NEWEST, OTHER_PYTHONS, RELEASES


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("api_key", " hh_abc ", "hh_abc"),
        ("api_url", "https://tenant.example/ ", "https://tenant.example"),
        ("exporters", "Console, local", ("console", "local")),
        ("capture_content", "off", False),
        ("attributes", "team=search, tier = gold", (("team", "search"), ("tier", "gold"))),
        ("durability", "ALWAYS", "always"),
        ("queue_max_events", "7", 7),
        ("linger", "0.25", 0.25),
        ("debug", "yes", True),
    ],
)
def test_a_setting_is_read_from_its_variable(name: str, text: str, expected: Any) -> None:
    config = Config.from_env({f"HONEYHIVE_{name.upper()}": text})

    assert getattr(config, name) == expected
    assert config.origins[name] == f"HONEYHIVE_{name.upper()}"
    assert config.notices == ()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("api_url", "ftp://x", "does not start with http:// or https://"),
        ("api_url", "http://[::1", "is not a URL with a host"),
        ("api_url", "http://host:port", "is not a URL with a host"),
        ("api_url", "https://", "does not start with http:// or https://"),
        ("api_url", "http://\udcff.example", "is not a URL with a host"),
        ("exporters", "local,kafka", "has 'kafka', which is none of honeyhive, local, console"),
        ("capture_content", "maybe", "is neither true nor false"),
        ("attributes", "team", "is not of the form key=value,key=value"),
        ("durability", "never", "is none of on_failure, always, memory"),
        ("queue_max_events", "lots", "is not a number"),
        ("queue_max_events", "0", "is not between 1 and"),
        ("workers", "9", "is not between 1 and 4"),
        ("linger", "nan", "is not between 0 and 60"),
        ("api_key", "two words", "cannot stand in an HTTP header"),
    ],
)
def test_a_bad_value_is_named_with_what_is_used_instead(name: str, text: str, reason: str) -> None:
    config = Config.from_env({f"HONEYHIVE_{name.upper()}": text})

    (notice,) = config.notices
    assert notice.startswith(f"HONEYHIVE_{name.upper()}: ")
    assert reason in notice
    assert notice.endswith(f"; using {SAID_DEFAULTS.get(name, repr(getattr(Config(), name)))}.")
    assert getattr(config, name) == getattr(Config(), name)


def test_a_bad_value_beside_a_good_one_of_another_source_is_named_with_that_source() -> None:
    config = Config.from_env({"HONEYHIVE_TIMEOUT": "soon", "HH_API_TIMEOUT": "20"})

    assert config.notices == ("HONEYHIVE_TIMEOUT: timeout='soon' is not a number; using HH_API_TIMEOUT.",)
    assert config.timeout == 20


def test_one_expression_that_cannot_be_read_withholds_contents_whatever_another_source_says() -> None:
    config = Config.from_env({"HONEYHIVE_REDACT": "email"}, redact="[")

    (notice,) = config.notices
    assert notice.endswith("and contents are not recorded until it is mended.")
    assert not config.is_redact_usable


def test_a_folder_is_the_same_wherever_the_program_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config.from_env({"HONEYHIVE_HOME": "events"})
    monkeypatch.chdir("/")

    assert config.home_folder == str(tmp_path / "events")


def test_a_url_is_shown_without_its_password() -> None:
    assert Config.from_env({"HONEYHIVE_API_URL": "http://me:pass@host:8080/x"}).shown_url == "http://host:8080/x"


def test_with_a_url_that_is_none_nothing_is_sent_to_the_default_server() -> None:
    config = Config.from_env({"HONEYHIVE_API_KEY": "k", "HONEYHIVE_API_URL": "tenant.example"})
    second = Config.from_env(
        {"HONEYHIVE_API_URL": "tenant.example", "HH_API_URL": "https://tenant.example"}, api_key="k"
    )

    assert (config.can_send, config.active_exporters) == (False, ("local",))
    assert (second.can_send, second.api_url) == (True, "https://tenant.example")


def test_an_exporter_that_lacks_its_key_is_named() -> None:
    (notice,) = Config.from_env({"HONEYHIVE_EXPORTERS": "honeyhive"}).notices

    assert "there is no key" in notice


def test_a_bad_key_is_not_shown() -> None:
    (notice,) = Config.from_env({"HONEYHIVE_API_KEY": "hh_secret with blank"}).notices

    assert "hh_secret" not in notice


def test_an_argument_wins_over_the_environment_and_the_first_variable_over_the_others() -> None:
    environ = {"HH_API_KEY": "third", "HH_INGESTION_API_KEY": "second", "HONEYHIVE_API_KEY": "first"}

    assert Config.from_env(environ, api_key="zeroth").api_key == "zeroth"
    assert Config.from_env(environ).api_key == "first"
    del environ["HONEYHIVE_API_KEY"]
    assert Config.from_env(environ).api_key == "second"
    assert Config.from_env({**environ, "HH_INGESTION_API_KEY": " "}).api_key == "third"


def test_an_unknown_argument_is_named() -> None:
    (notice,) = Config.from_env({}, apikey="x").notices

    assert "init(apikey=...) is not a setting" in notice


def test_without_a_key_events_stay_local_and_with_one_they_go_to_honeyhive() -> None:
    assert Config.from_env({}).active_exporters == ("local",)
    assert Config.from_env({"HONEYHIVE_API_KEY": "k"}).active_exporters == ("honeyhive",)
    assert Config.from_env({"HONEYHIVE_EXPORTERS": "console"}).active_exporters == ("console",)


def test_a_config_never_shows_its_key() -> None:
    assert "hh_secret" not in repr(Config(api_key="hh_secret"))


def test_every_setting_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()

    missing = [name for name in setting_names() if f"`{name.upper()}`" not in readme]
    also = [variable for names in ALSO_READ.values() for variable in names if variable not in readme]
    assert (missing, also) == ([], [])


def test_every_launcher_option_is_a_setting() -> None:
    known = {variable for name in setting_names() for variable in variables_of(name)}

    assert set(OPTIONS.values()) <= known


def test_the_readme_has_a_row_for_every_release_that_is_tested() -> None:
    readme = (ROOT / "README.md").read_text()

    rows = [f"| {release.version} | 3.11 |" for release in RELEASES]
    rows += [f"| {NEWEST} | {python} |" for python in OTHER_PYTHONS]
    rows += [f"| {version} | {what} |" for version, what in KNOWN_BAD.items()]
    assert [row for row in rows if row not in readme] == []
