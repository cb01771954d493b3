"""A notebook, run by nbclient in a real kernel, with one import."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.fakes.honeyhive import FakeHoneyHive

ASK = (
    "answer = completion(model='gpt-4o-mini', messages=[{'role': 'user', 'content': 'cell %d'}], mock_response='ok')\n"
    "print(answer.choices[0].message.content)"
)


@pytest.mark.parametrize(
    "switch_on",
    ["import honeyhive_autoinstrument", pytest.param("%load_ext honeyhive_autoinstrument", marks=pytest.mark.slow)],
    ids=["import", "load_ext"],
)
@pytest.mark.parametrize("order", ["before", pytest.param("after", marks=pytest.mark.slow)])
def test_a_notebook_with_one_import_records_its_cells(
    fake_honeyhive: FakeHoneyHive,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    switch_on: str,
    order: str,
) -> None:
    cells = [switch_on, "from litellm import completion"]
    if order == "after":
        cells.reverse()
    cells += [cells[0], ASK % 1, ASK % 2]  # a cell that is run again changes nothing
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    for name in set(os.environ) - set(environ):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environ, **fake_honeyhive.env, "IPYTHONDIR": str(tmp_path / "ipython")}.items():
        monkeypatch.setenv(name, value)

    NotebookClient(notebook, timeout=90, kernel_name="python3").execute()

    asked = [event["inputs"]["chat_history"][0]["content"] for event in fake_honeyhive.events]
    assert asked == ["cell 1", "cell 2"]
    assert {row["session_name"] for row in fake_honeyhive.sessions.values()} == {"notebook"}
    outputs = [output["text"] for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output]
    # IPython may cut a cell's output anywhere; what it says of a second %load_ext comes before.
    printed = "".join(outputs)
    assert printed.endswith("ok\nok\n")
    assert printed == "ok\nok\n" or "already loaded" in printed
