"""`honeyhive-instrument --check`: settings and their origins, versions, what would be wrapped, neighbours, server and key.

Runs in a process of its own, never in the application's. It may import LiteLLM, print and wait.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import metadata

from honeyhive_autoinstrument._version import __version__
from honeyhive_autoinstrument.activation.neighbours import ENDPOINTS, leads_home
from honeyhive_autoinstrument.config import SECRET_SETTINGS, Config, setting_names
from honeyhive_autoinstrument.credentials import HIDDEN, is_credential_name

NEIGHBOURS = {
    "openinference-instrumentation-litellm": "OpenInference; records LiteLLM calls too",
    "opentelemetry-instrumentation-litellm": "OpenLLMetry; records LiteLLM calls too",
    "openlit": "OpenLIT; records LiteLLM calls too, once openlit.init() is called",
    "ddtrace": "Datadog; records LiteLLM calls too, under ddtrace-run",
    "logfire": "Logfire; records LiteLLM calls too, through OpenInference",
    "langfuse": "Langfuse; may be among LiteLLM's callbacks",
    "honeyhive": "HoneyHive's own SDK",
}
KNOWN_BAD = {"1.82.7": "a compromised release", "1.82.8": "a compromised release"}
"""Releases of LiteLLM that must not be used."""


def check() -> int:
    """Print the table. 0: everything would work; 1: something would not."""
    config = Config.from_env()
    is_fine = True
    print(f"honeyhive-autoinstrument {__version__}, Python {sys.version.split()[0]} ({sys.executable})\n")
    print("settings")
    for name, shown, origin in _settings(config):
        print(f"  {name:<18} {shown:<48} {origin}")
    for notice in config.notices:
        is_fine = False
        print(f"  ! {notice}")
    print("\nversions")
    for line in _versions():
        print(f"  {line}")
    print("\nwrapped in LiteLLM")
    is_fine = _print_targets() and is_fine
    print("\nother instrumentations installed here")
    for line in list(_neighbours()) or ["none"]:
        print(f"  {line}")
    is_fine = _print_double_recording(config) and is_fine
    print("\ndelivery")
    is_fine = _print_delivery(config) and is_fine
    print(f"\n{'Everything is in order.' if is_fine else 'Something is not in order; see the lines marked with !'}")
    return 0 if is_fine else 1


def _settings(config: Config) -> Iterator[tuple[str, str, str]]:
    for name in setting_names():
        value = getattr(config, name)
        if name in SECRET_SETTINGS and value:
            value = f"set, {len(value)} characters"
        elif name == "api_url":
            value = config.shown_url
        elif name == "exporters":
            value = ",".join(config.active_exporters)
        elif name == "attributes":
            value = ",".join(f"{key}={HIDDEN if is_credential_name(key) else text}" for key, text in value)
        yield name, "-" if value is None or value == "" else str(value), config.origins.get(name, "default")
    auto = os.environ.get("HONEYHIVE_AUTO")
    yield "auto", auto or "-", "HONEYHIVE_AUTO" if auto else "default"


def _versions() -> Iterator[str]:
    for package in ("litellm", "wrapt", "httpx", "orjson", "opentelemetry-instrumentation"):
        yield f"{package} {_version(package) or 'not installed'}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _print_targets() -> bool:
    installed = _version("litellm")
    if installed is None:
        print("  ! LiteLLM is not installed in this environment; there is nothing to record")
        return False
    if installed in KNOWN_BAD:
        print(f"  ! LiteLLM {installed} is {KNOWN_BAD[installed]}: install another one")
        return False
    # LiteLLM prints and fetches a price list when imported; neither belongs into this table.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        print(f"  ! LiteLLM {installed} cannot be imported: {error}")
        return False
    # From 1.110 on the class behind the Router is loaded with the first one, or by asking for a name of it.
    getattr(litellm.Router, "acompletion", None)
    from honeyhive_autoinstrument._faults import log
    from honeyhive_autoinstrument.activation.runtime import init, uninstrument

    log.disabled = True  # what is wrong with the settings stands above
    patches = init().patches
    for name in patches.wrapped:
        print(f"  {name}")
    for name in patches.missing:
        print(f"  {name} (not in LiteLLM {installed})")
    found = bool(patches.wrapped)
    uninstrument()
    return found


def _neighbours() -> Iterator[str]:
    for package, what in NEIGHBOURS.items():
        version = _version(package)
        if version is not None:
            yield f"{package} {version} ({what})"


def _print_double_recording(config: Config) -> bool:
    """In the program itself more can be seen, and is said in its log (`neighbours.py`)."""
    installed = [package for package, what in NEIGHBOURS.items() if "records LiteLLM" in what and _version(package)]
    variables = [name for name in ENDPOINTS if leads_home(os.environ.get(name, ""), config.api_url)]
    if not installed or not variables:
        return True
    print(
        f"  ! {variables[0]} sends spans to HoneyHive: where {' or '.join(installed)} is switched on, each call shows twice"
    )
    return False


def _print_delivery(config: Config) -> bool:
    from honeyhive_autoinstrument.delivery.http import HttpSink
    from honeyhive_autoinstrument.delivery.spool import waiting_events

    waiting = {name: count for name, count in waiting_events(config.home_folder).items() if count}
    print(f"  kept on this machine, in {config.home_folder}/spool: {'' if waiting else 'nothing'}")
    for name, count in waiting.items():
        print(f"    {name}: {count} event{'s' if count != 1 else ''}")
    if not config.is_url_usable:
        print("  ! no usable URL: events stay in the local store")
        return False
    if not config.api_key:
        print("  no key: events stay in the local store (`honeyhive-events show`, later `honeyhive-events send`)")
        return True
    sink = HttpSink(url=config.api_url, api_key=config.api_key, timeout_s=config.timeout, project=config.project)
    is_fine, said = sink.check()
    sink.close()
    print(f"  {'' if is_fine else '! '}{said}")
    return is_fine
