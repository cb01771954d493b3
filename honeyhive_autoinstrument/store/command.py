"""`honeyhive-events`: look at the local store, send it once a key is there. Exit status 0, 1 (not all done) or 2 (usage)."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from honeyhive_autoinstrument._version import __version__
from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.delivery.http import HttpSink
from honeyhive_autoinstrument.delivery.sink import Batch, Outcome, Record
from honeyhive_autoinstrument.delivery.spool import LOCAL, Spool, destination_name, waiting_events
from honeyhive_autoinstrument.store.reader import read_sessions
from honeyhive_autoinstrument.store.tree import draw

if TYPE_CHECKING:
    from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    parser = _parser()
    given = parser.parse_args(arguments)
    overrides = {
        name: getattr(given, name, None) for name in ("home", "api_key", "api_url") if getattr(given, name, None)
    }
    config = Config.from_env(**overrides)
    for notice in config.notices:
        print(f"honeyhive-events: {notice}", file=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the lines of a tree shows question marks
    try:
        return show(config, given.last) if given.command == "show" else send(config, given.source)
    except BrokenPipeError:
        # `honeyhive-events show | head`: the reader has seen enough.
        sys.stderr.close()
        return 0


def show(config: Config, last: int) -> int:
    """Print the last sessions of the local store as trees."""
    spools = [_spool(config, name) for name in waiting_events(config.home_folder)]
    sessions = read_sessions(spools)
    if not sessions:
        print(
            f"No events in {config.home_folder}. Run a program under `honeyhive-instrument` without HONEYHIVE_API_KEY to"
            " record into the local store; with a key, events go to HoneyHive and only wait here when it is away."
        )
        return 0
    for session in sessions[-last:]:
        for line in draw(session):
            print(line)
    if len(sessions) > last:
        earlier = len(sessions) - last
        print(f"({earlier} earlier session{'s' if earlier != 1 else ''}; --last {len(sessions)} shows all)")
    return 0


def send(config: Config, source: str | None = None) -> int:
    """Send what was recorded without a key, and what waits for this destination.

    :param source: instead, the folder of another destination, whose events are to go out under this key.
    """
    if not config.api_key:
        print(
            "honeyhive-events: no key. Set HONEYHIVE_API_KEY, or give --api-key, and run this again.", file=sys.stderr
        )
        return 2
    if not config.is_url_usable:
        print("honeyhive-events: no usable URL; nothing was sent.", file=sys.stderr)
        return 2
    waiting = waiting_events(config.home_folder)
    if source is not None and source not in waiting:
        known = ", ".join(waiting) or "none"
        print(f"honeyhive-events: nothing is kept under {source!r}; there is: {known}", file=sys.stderr)
        return 2
    names = (LOCAL, destination_name(config.api_url, config.api_key)) if source is None else (source,)
    sink = HttpSink(url=config.api_url, api_key=config.api_key, timeout_s=config.timeout, project=config.project)
    sent = failed = rejected = 0
    try:
        for name in names:
            spool = _spool(config, name)
            with spool.claimed() as is_mine:
                if not is_mine:
                    if not spool.is_empty():
                        print(f"honeyhive-events: another process is sending {spool.folder} right now", file=sys.stderr)
                    continue
                for path in spool.paths():
                    counts, detail = _send_file(sink, spool, path)
                    sent, failed, rejected = sent + counts[0], failed + counts[1], rejected + counts[2]
                    if counts[1]:
                        print(f"honeyhive-events: {detail}", file=sys.stderr)
                        break
    finally:
        sink.close()
    print(
        f"{sent} event{'s' if sent != 1 else ''} sent to {config.shown_url}"
        + (f", {rejected} refused and set aside" if rejected else "")
        + (f", {failed} or more still here" if failed else "")
    )
    for name, count in waiting.items():
        if count and name not in names:
            # Kept apart, so that one project's events never go out under another's key.
            print(
                f"{count} event{'s' if count != 1 else ''} of another key or server left alone; to send them under this"
                f" key: honeyhive-events send --from {name}"
            )
    return 1 if failed or rejected else 0


def _send_file(sink: HttpSink, spool: Spool, path: Path) -> tuple[tuple[int, int, int], str]:
    """((sent, left, refused), what the server said) for one file of the store."""
    batch = spool.load(path)
    if batch is None:
        return (0, 0, 0), ""
    sent, left, refused, detail = _send_batch(sink, batch)
    if left:
        return (0, len(batch), 0), detail  # the file stays whole; ids make a repeat harmless
    if refused:
        spool.reject(Batch.of(refused), detail)
    spool.remove(path)
    return (sent, 0, len(refused)), detail


def _send_batch(sink: HttpSink, batch: Batch) -> tuple[int, int, tuple[Record, ...], str]:
    if not len(batch):
        return 0, 0, (), ""
    answer = sink.send(batch)
    if answer.outcome is Outcome.DELIVERED:
        return len(batch), 0, (), ""
    if answer.outcome is Outcome.PARTLY:
        rest = batch.without(answer.accepted)
        sent, left, refused, detail = (
            _send_batch(sink, rest) if len(rest) < len(batch) else (0, len(rest), (), answer.detail)
        )
        return len(batch) - len(rest) + sent, left, refused, detail
    if answer.outcome in (Outcome.RETRY_LATER, Outcome.UNAUTHORISED):
        return 0, len(batch), (), answer.detail
    if len(batch) == 1:
        return 0, 0, batch.records, answer.detail
    first, second = (_send_batch(sink, half) for half in batch.halves())
    return first[0] + second[0], first[1] + second[1], (*first[2], *second[2]), first[3] or second[3]


def _spool(config: Config, destination: str) -> Spool:
    return Spool(config.home_folder, destination, max_bytes=config.spool_max_bytes, max_age_s=config.spool_max_age)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="honeyhive-events",
        description="Look at the events that are kept on this machine, and send them to HoneyHive.",
    )
    parser.add_argument("--version", action="version", version=f"honeyhive-events {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show_parser = commands.add_parser("show", help="print the last sessions as trees")
    show_parser.add_argument("--last", type=_positive, default=3, metavar="N", help="how many sessions (default 3)")
    send_parser = commands.add_parser("send", help="send what is kept here, with HONEYHIVE_API_KEY or --api-key")
    send_parser.add_argument("--api-key", help="key of the HoneyHive project; HONEYHIVE_API_KEY is safer, since other"
                             " users of this machine can see command lines")  # fmt: skip
    send_parser.add_argument("--api-url", help="base URL of the HoneyHive server")
    send_parser.add_argument(
        "--from", dest="source", metavar="FOLDER", help="send what waits for another key or server"
    )
    for each in (show_parser, send_parser):
        each.add_argument("--home", help="folder of the store (HONEYHIVE_HOME)")
    return parser


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return number


if __name__ == "__main__":
    sys.exit(main())
