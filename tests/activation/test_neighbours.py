"""Another instrumentation of LiteLLM whose spans go to HoneyHive, too: each call would show twice, and that is said. Real
ones are tried in tests/beside; here a package of that name on the path is enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import BIN, Run
from tests.fakes.honeyhive import FakeHoneyHive

LAUNCHER = BIN / "honeyhive-instrument"
SAID = "records LiteLLM in this process, too"
INSTRUMENTOR = """
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
class LiteLLMInstrumentor(BaseInstrumentor):
    def instrumentation_dependencies(self): return ()
    def _instrument(self, **given): pass
    def _uninstrument(self, **given): pass
"""
PROGRAM = """
import litellm
from {package} import LiteLLMInstrumentor
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
exporter = ConsoleSpanExporter()
exporter._endpoint = {endpoint!r}  # as OTLP's have it
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(BatchSpanProcessor(exporter))
trace.set_tracer_provider(provider)
if {is_active}: LiteLLMInstrumentor().instrument()
for _ in range(3):
    litellm.completion(model='gpt-4o', messages=[{{'role': 'user', 'content': 'x'}}], mock_response='y')
"""
PACKAGES = {"OpenInference": "openinference.instrumentation.litellm", "OpenLIT": "openlit.instrumentation.litellm"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder on the path with packages of both names, and what an installer notes of one."""
    for package in PACKAGES.values():
        folder = tmp_path / "site" / package.replace(".", "/")
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(INSTRUMENTOR)
    notes = tmp_path / "site" / "openinference_instrumentation_litellm-0.1.51.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: openinference-instrumentation-litellm\nVersion: 0.1.51\n"
    )
    return tmp_path / "site"


@pytest.mark.parametrize(
    ("name", "is_active", "leads_home", "is_said"),
    [
        ("OpenInference", True, True, True),
        pytest.param("OpenLIT", True, True, True, marks=pytest.mark.slow),
        pytest.param("OpenInference", True, False, False, marks=pytest.mark.slow),
        pytest.param("OpenInference", False, True, False, marks=pytest.mark.slow),
    ],
    ids=["OpenInference", "OpenLIT", "its spans go elsewhere", "it is not switched on"],
)
def test_calls_that_honeyhive_gets_twice_are_said_once(
    run: Run, fake_honeyhive: FakeHoneyHive, site: Path, name: str, is_active: bool, leads_home: bool, is_said: bool
) -> None:
    endpoint = (
        f"{fake_honeyhive.url}/opentelemetry/v1/traces" if leads_home else "http://collector.example:4318/v1/traces"
    )
    program = PROGRAM.format(package=PACKAGES[name], endpoint=endpoint, is_active=is_active)

    result = run(LAUNCHER, "python", "-c", program, env={**fake_honeyhive.env, "PYTHONPATH": str(site)})

    assert result.status == 0, result.err
    assert result.err.count(SAID) == is_said, result.err
    assert result.err.count(f"HoneyHive: {name} {SAID}") == is_said
    assert len(fake_honeyhive.events) == 3


@pytest.mark.parametrize(
    "is_home", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["to HoneyHive", "elsewhere"]
)
def test_check_says_where_spans_of_an_instrumentation_go(
    run: Run, fake_honeyhive: FakeHoneyHive, site: Path, is_home: bool
) -> None:
    endpoint = "https://api.dp1.us.honeyhive.ai/opentelemetry" if is_home else "http://collector.example:4318"
    env = {**fake_honeyhive.env, "PYTHONPATH": str(site), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}

    result = run(LAUNCHER, "--check", env=env)

    said = "! OTEL_EXPORTER_OTLP_ENDPOINT sends spans to HoneyHive: where openinference-instrumentation-litellm is switched"
    assert (said in result.out) is is_home
    assert result.status == int(is_home)
