"""What an event costs to hide and to shorten is not the caller's: none of it runs in the thread of the call."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import litellm

from tests.conftest import Recording

MADE_LATER = ("redaction.py", "patterns.py", "build.py", "encode.py", "user_functions.py", "surroundings.py:facts")
MADE_NOW = ("credentials.py:is_credential_name",)
"""Asked of the names of arguments, to leave them out."""


def test_nothing_is_hidden_shortened_or_encoded_in_the_thread_of_the_call(recording: Recording) -> None:
    entered: dict[int, set[str]] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            name = f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_code.co_name}"
            if "honeyhive_autoinstrument" in frame.f_code.co_filename:
                entered.setdefault(threading.get_ident(), set()).add(name)

    messages = [{"role": "user", "content": "a key: sk-proj-" + "a1B2" * 12 + " " + "long " * 100_000}]
    litellm.completion(
        model="gpt-4o", messages=messages, mock_response="warm"
    )  # the first one opens what there is to open
    recording.events()

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        litellm.completion(model="gpt-4o", messages=messages, mock_response="hello")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    mine = entered[threading.get_ident()]
    assert "recorder.py:start" in mine
    assert [name for name in mine if name.startswith(MADE_LATER)] == []
    assert {name for name in mine if name.startswith("credentials.py")} <= {*MADE_NOW}
    shown = recording.events()[-1]["inputs"]["chat_history"][0]["content"]
    assert "[hidden]" in shown
    assert "sha256" in shown
