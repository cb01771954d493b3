"""`honeyhive-events`: look at the local store, send it once a key is there, hand it out, empty it. Exit status 0, 1 (not all
done) or 2 (usage)."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence

from honeyhive_autoinstrument._version import __version__
from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.delivery.http import HttpSink
from honeyhive_autoinstrument.delivery.spool import LOCAL, Spool, destination_name, waiting_events
from honeyhive_autoinstrument.store.clear import clear_kept
from honeyhive_autoinstrument.store.export import exported_lines
from honeyhive_autoinstrument.store.reader import read_sessions
from honeyhive_autoinstrument.store.send import send_kept
from honeyhive_autoinstrument.store.tree import draw


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
        if given.command == "show":
            return show(config, given.last)
        if given.command == "send":
            return send(config, given.source)
        if given.command == "export":
            return export(config, given.source, given.out)
        return clear(config, given.source, given.yes)
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
    if not _is_known(source, waiting):
        return 2
    names = (LOCAL, destination_name(config.api_url, config.api_key)) if source is None else (source,)
    sink = HttpSink(url=config.api_url, api_key=config.api_key, timeout_s=config.timeout, project=config.project)
    try:
        result = send_kept([_spool(config, name) for name in names], sink)
    finally:
        sink.close()
    print(
        f"{events(result.sent)} sent to {config.shown_url}"
        + (f", {result.changed} change{'s' if result.changed != 1 else ''} of events" if result.changed else "")
        + (f", {result.refused} refused and set aside" if result.refused else "")
        + (f", {result.left} or more still here" if result.left else "")
    )
    for name, count in waiting.items():
        if count and name not in names:
            # Kept apart, so that one project's events never go out under another's key.
            print(
                f"{events(count)} of another key or server left alone; to send them under this key:"
                f" honeyhive-events send --from {name}"
            )
    return 1 if result.left or result.refused else 0


def export(config: Config, source: str | None, out: str | None) -> int:
    """Write what is kept as JSON Lines.

    :param out: a file, made or replaced, for this user only; by default stdout.
    """
    waiting = waiting_events(config.home_folder)
    if not _is_known(source, waiting):
        return 2
    lines = exported_lines(_spool(config, name) for name in ([source] if source is not None else waiting))
    if out is None:
        for _, line in lines:
            sys.stdout.buffer.write(line)
        sys.stdout.flush()
        return 0
    try:
        with open(out, "wb", opener=_open_privately) as file:
            count = 0
            for is_event, line in lines:
                file.write(line)
                count += is_event
    except OSError as error:
        print(f"honeyhive-events: {out} cannot be written ({error.strerror}); give another --out.", file=sys.stderr)
        return 1
    print(f"{events(count)} written to {out}", file=sys.stderr)
    return 0


def clear(config: Config, source: str | None, is_sure: bool) -> int:
    """Remove what is kept, after asking."""
    waiting = waiting_events(config.home_folder)
    if not _is_known(source, waiting):
        return 2
    names = [source] if source is not None else list(waiting)
    count = sum(waiting[name] for name in names)
    if not is_sure:
        if not sys.stdin.isatty():
            print(
                f"honeyhive-events: nothing was removed. There is nobody to ask; say --yes to remove {events(count)}.",
                file=sys.stderr,
            )
            return 2
        print(f"Remove {events(count)} in {config.home_folder}, and what was set aside? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("Nothing was removed.")
            return 1
    result = clear_kept(_spool(config, name) for name in names)
    print(f"{events(result.events)} of {result.folders} folder{'s' if result.folders != 1 else ''} removed")
    for name in result.busy:
        print(f"honeyhive-events: another process is sending {name} right now; it was left alone", file=sys.stderr)
    return 1 if result.busy else 0


def events(count: int) -> str:
    """`1 event`, `2 events`."""
    return f"{count} event{'s' if count != 1 else ''}"


def _is_known(source: str | None, waiting: Mapping[str, int]) -> bool:
    if source is None or source in waiting:
        return True
    known = ", ".join(waiting) or "none"
    print(f"honeyhive-events: nothing is kept under {source!r}; there is: {known}", file=sys.stderr)
    return False


def _open_privately(path: str, flags: int) -> int:
    handle = os.open(path, flags, 0o600)
    os.chmod(path, 0o600)
    return handle


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
    export_parser = commands.add_parser("export", help="write what is kept here as JSON Lines")
    export_parser.add_argument("--out", metavar="FILE", help="a file of its own (default: stdout)")
    clear_parser = commands.add_parser("clear", help="remove what is kept here, after asking")
    clear_parser.add_argument("--yes", action="store_true", help="do not ask")
    for each in (export_parser, clear_parser):
        each.add_argument("--from", dest="source", metavar="FOLDER", help="one destination's only (default: all)")
    for each in (show_parser, send_parser, export_parser, clear_parser):
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
