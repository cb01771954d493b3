"""Celery over files in the folder QUEUE. A task asks LiteLLM for its text, then writes the id of its process to a file.
IMPORTS says whether LiteLLM is imported with the application (`module`), or by the first `task` of each process."""

import os
from pathlib import Path

from celery import Celery

if os.environ.get("IMPORTS", "module") == "module":
    import litellm  # noqa: F401

QUEUE = Path(os.environ["QUEUE"])

app = Celery("tasks", broker="filesystem://localhost")
app.conf.broker_transport_options = {
    "data_folder_in": str(QUEUE / "messages"),
    "data_folder_out": str(QUEUE / "messages"),
    "control_folder": str(QUEUE / "control"),
    "polling_interval": 0.05,
}
app.conf.task_ignore_result = True


@app.task(name="ask")
def ask(text):
    import litellm

    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], mock_response=f"heard {text}")
    (QUEUE / "done" / text).write_text(str(os.getpid()))
