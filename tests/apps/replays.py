"""Sends what a folder of the spool holds, without LiteLLM, so that twenty of it cost little. Settings come from the
environment. Says `ready`, waits for a line on stdin, then works in the way its argument says: `upload`, as an instrumented
program that goes on with its own work meanwhile, until nothing waits any more; or `send`, as `honeyhive-events send` does.
`upload` prints its ledger.
"""

import json
import sys
import time
import uuid

from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.delivery.http import HttpSink
from honeyhive_autoinstrument.delivery.sink import Record
from honeyhive_autoinstrument.delivery.spool import Spool, destination_name
from honeyhive_autoinstrument.delivery.uploader import Limits, Uploader
from honeyhive_autoinstrument.store.command import main

SESSION = "5e551011-0000-4000-8000-000000000001"
STARTED_MS = 1_780_000_000_000.0
ENDED_WITHIN_S = 90.0
PAUSE_S = 0.05


def record_of(name, text="some text", session_id=SESSION):
    """A whole event, as our own are; its id is new."""
    event = {
        "event_id": str(uuid.uuid4()),
        "session_id": session_id,
        "parent_id": session_id,
        "event_type": "tool",
        "event_name": name,
        "source": "test",
        "start_time": STARTED_MS,
        "end_time": STARTED_MS + 5,
        "duration": 5.0,
        "config": {},
        "inputs": {"text": text},
        "outputs": {},
        "error": None,
        "metadata": {},
    }
    session = {"session_id": session_id, "session_name": "replays", "source": "test", "start_time": STARTED_MS}
    return Record(
        id=event["event_id"],
        body=json.dumps(event).encode(),
        session_id=session_id,
        session_body=json.dumps(session).encode(),
    )


def spool_of(config):
    """Of the destination that the settings name."""
    destination = destination_name(config.api_url, config.api_key)
    return Spool(config.home_folder, destination, max_bytes=config.spool_max_bytes, max_age_s=config.spool_max_age)


def upload():
    config = Config.from_env()
    spool = spool_of(config)
    uploader = Uploader(
        encode=record_of,
        size_of=len,
        sink=HttpSink(url=config.api_url, api_key=config.api_key, timeout_s=config.timeout),
        spool=spool,
        limits=Limits.of(config),
    )
    deadline = time.monotonic() + ENDED_WITHIN_S
    own = 0
    while time.monotonic() < deadline:
        own += 1
        uploader.submit("own")
        uploader.flush(5)
        if spool.is_empty():
            break
        time.sleep(PAUSE_S)
    uploader.close(5)
    print(json.dumps({"own": own, **uploader.stats()}))


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    if sys.argv[1] == "send":
        sys.exit(main(["send"]))
    upload()
