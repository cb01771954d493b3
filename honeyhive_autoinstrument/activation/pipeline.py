"""Pipeline: the way of ended Calls under one set of settings: an Encoder, and an Uploader for each exporter.

Imported and made with the first ended Call, in the application's thread. Not earlier: httpx and what it needs take 40 ms,
and by then LiteLLM has loaded them for its own request. Not on a worker: an import there could be cut in half by a fork
(the child would hold a half-made module), and one made while the interpreter ends makes CPython 3.11 forget that a Ctrl-C
ended the program.
"""

from __future__ import annotations

import time
from typing import Any

from honeyhive_autoinstrument.activation.encoder import Encoder
from honeyhive_autoinstrument.capture.additions import Update
from honeyhive_autoinstrument.capture.call import Call
from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.delivery.console import ConsoleSink
from honeyhive_autoinstrument.delivery.http import HttpSink
from honeyhive_autoinstrument.delivery.sink import Sink
from honeyhive_autoinstrument.delivery.spool import LOCAL, Spool, destination_name
from honeyhive_autoinstrument.delivery.uploader import Limits, Uploader
from honeyhive_autoinstrument.events.facts import Session


class Pipeline:
    """Takes ended Calls. Each exporter has its own Uploader, and so its own queue, cursor and ledger."""

    def __init__(self, config: Config, process_session: Session) -> None:
        self._encoder = Encoder(config, process_session, self.submit)
        self._encoder.start()
        self._uploaders: dict[str, Uploader[Call | Update]] = {
            name: self._open(name, config) for name in config.active_exporters
        }

    def submit(self, item: Call | Update) -> None:
        """Take an ended Call, or a change of an Event. Never waits."""
        are_taken = [uploader.submit(item) for uploader in self._uploaders.values()]
        if any(are_taken):
            self._encoder.note(item)

    def flush(self, timeout_s: float) -> bool:
        """Bring out what is submitted so far. True: nothing is pending any more."""
        deadline = time.monotonic() + timeout_s
        done = [uploader.flush(max(0.0, deadline - time.monotonic())) for uploader in self._uploaders.values()]
        return all(done)

    def close(self, timeout_s: float) -> None:
        """Bring out what can be brought out in the time, keep the rest on disk."""
        deadline = time.monotonic() + timeout_s
        for uploader in self._uploaders.values():
            uploader.close(max(0.0, deadline - time.monotonic()))
        self._encoder.close()

    def reopen(self) -> None:
        """Go on after `close`."""
        for uploader in self._uploaders.values():
            uploader.reopen()

    def is_locked_here(self) -> bool:
        """Whether the calling thread is in the middle of a change; see Uploader."""
        return any(uploader.is_locked_here() for uploader in self._uploaders.values())

    def stats(self) -> dict[str, Any]:
        """The ledger of the first exporter, and of each under `exporters`."""
        ledgers = {name: uploader.stats() for name, uploader in self._uploaders.items()}
        return {
            **next(iter(ledgers.values())),
            "exporters": ledgers,
            "session_id": self._encoder.sessions.process_session.id,
            "hooks": self._encoder.counts_of_functions(),
        }

    def before_fork(self) -> None:
        """Hold what must not be cut in half; see Encoder."""
        self._encoder.before_fork()
        for uploader in self._uploaders.values():
            uploader.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._encoder.after_fork_in_parent()
        for uploader in self._uploaders.values():
            uploader.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Fresh queues, locks and threads. Assigns only."""
        self._encoder.after_fork_in_child()
        for uploader in self._uploaders.values():
            uploader.after_fork()

    def _open(self, exporter: str, config: Config) -> Uploader[Call | Update]:
        sink, spool = open_exporter(config, exporter)
        return Uploader(
            encode=self._encoder,
            size_of=_size_of,
            sink=sink,
            spool=spool if config.durability != "memory" or sink is None else None,
            limits=Limits.of(config),
            is_durable=config.durability == "always",
            is_change=_is_change,
        )


def open_exporter(config: Config, exporter: str) -> tuple[Sink | None, Spool | None]:
    """The Sink and Spool of an exporter: `honeyhive` has both, `console` keeps nothing, `local` sends nothing."""
    if exporter == "console":
        return ConsoleSink(), None
    sink: Sink | None = None
    destination = LOCAL
    key = config.api_key if config.can_send else None
    if exporter == "honeyhive" and key is not None:
        sink = HttpSink(url=config.api_url, api_key=key, timeout_s=config.timeout, project=config.project)
        destination = destination_name(config.api_url, key)
    spool = Spool(config.home_folder, destination, max_bytes=config.spool_max_bytes, max_age_s=config.spool_max_age)
    return sink, spool


def _size_of(item: Call | Update) -> int:
    return item.size


def _is_change(item: Call | Update) -> bool:
    return isinstance(item, Update)
