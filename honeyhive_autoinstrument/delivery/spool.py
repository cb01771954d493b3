"""Spool: Batches on disk that wait for a later try, in this process or a later one. It is the local store, too.

Used by the uploader and by `honeyhive-events`. Safe from any thread and from any number of processes.

One folder for each destination (URL and fingerprint of the key), so that one project's events never go out under another
key; one file for each Batch. A file is written under a temporary name and renamed: a reader never sees half of one. Its
first line is a header, then one line of JSON for each session row and Event. Files are 0600, folders 0700. Keys are never
written.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from honeyhive_autoinstrument.delivery.sink import Batch, Record

FORMAT = 1
SUFFIX = ".batch"
LOCAL = "local"
"""Folder of Batches that were recorded without a key."""
REJECTED = "rejected"
"""Folder, inside a destination's, of what its server will never take, with the answer in the header."""
LOCK = ".lock"
MAX_REJECTED = 1000
"""Files of refused Events that are kept for a person to look at."""
MEASURED_FOR_S = 60.0
"""How long a look at the folder's size holds; what other processes put there meanwhile is not seen."""


def destination_name(url: str, api_key: str) -> str:
    """The folder of a destination: its host, and enough of a hash of URL and key to keep two projects apart."""
    host = re.sub(r"[^\w.-]", "_", urlsplit(url).hostname or "server")
    digest = hashlib.sha256(f"{url}\n{api_key}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{host}-{digest}"


def waiting_events(home: str) -> dict[str, int]:
    """Events on disk, by the folder of their destination; `local` holds what was recorded without a key."""
    try:
        folders = sorted(path for path in (Path(home) / "spool").iterdir() if path.is_dir())
    except OSError:
        return {}
    return {folder.name: sum(map(events_in, _batch_files(folder))) for folder in folders}


class Spool:
    """Batches of one destination on disk."""

    def __init__(self, home: str, destination: str, *, max_bytes: int, max_age_s: float) -> None:
        self.folder = Path(home) / "spool" / destination
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        # Re-entrant: a finalizer that the garbage collector runs while this thread writes may keep a late Event.
        self._lock = threading.RLock()
        self._replaying = threading.Lock()
        self._numbers = itertools.count()
        self._writer = _new_writer()
        self._bytes = 0
        self._measured_until = 0.0

    def new_path(self, batch: Batch) -> Path:
        """A name for a Batch's file that no other has."""
        return self.folder / self._name_for(batch)

    def put(self, batch: Batch, path: Path | None = None) -> list[Path]:
        """Keep a Batch, in a file of that name if `new_path` gave one; the oldest ones go when there is no room for it.

        :returns: the files that were dropped to make room.
        :raises OSError: the disk is full or not writable.
        """
        data = _encode(batch, {})
        with self._lock:
            dropped = self._make_room(len(data))
        self._write(path or self.new_path(batch), data)
        return dropped

    def reject(self, batch: Batch, answer: str) -> None:
        """Set a Batch aside that the server will never take, with its answer. The newest ones are kept.

        :raises OSError: the disk is full or not writable.
        """
        aside = self.folder / REJECTED
        self._write(aside / self._name_for(batch), _encode(batch, {"answer": answer}))
        for path in _batch_files(aside)[:-MAX_REJECTED]:
            self.remove(path)

    def paths(self) -> list[Path]:
        """Files that wait, oldest first (names begin with the time of writing)."""
        return _batch_files(self.folder)

    def is_empty(self) -> bool:
        try:
            with os.scandir(self.folder) as entries:
                return not any(entry.name.endswith(SUFFIX) for entry in entries)
        except OSError:
            return True

    def load(self, path: Path) -> Batch | None:
        """The Batch in a file; None if another process took the file. A broken file is set aside, and counts as gone."""
        try:
            return _decode(path.read_bytes())
        except OSError:
            return None
        except (ValueError, KeyError, TypeError):
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".broken"))
            return None

    def peek(self, path: Path) -> Batch | None:
        """The Batch in a file, for looking at only: None if it is gone or cannot be read."""
        try:
            return _decode(path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove(self, path: Path) -> None:
        """The Batch has been delivered."""
        path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[bool]:
        """Whether this process may replay the folder now: at most one does at a time, so that no file goes out twice."""
        # Two locks: the file's is of the process (and, unlike flock's, no forked child inherits it), so the threads of
        # one process need one of their own.
        replaying = self._replaying
        if not self.folder.is_dir() or not replaying.acquire(blocking=False):
            yield False
            return
        try:
            handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                yield _try_lock(handle)
            finally:
                os.close(handle)  # releases the lock
        finally:
            replaying.release()

    def after_fork(self) -> None:
        """In the child: the locks may be held by threads of the parent."""
        self._writer = _new_writer()
        self._lock = threading.RLock()
        self._replaying = threading.Lock()

    def _name_for(self, batch: Batch) -> str:
        return f"{time.time_ns():020d}-{self._writer}-{next(self._numbers)}-{len(batch)}{SUFFIX}"

    def _write(self, path: Path, data: bytes) -> None:
        make_private(path.parent)
        temporary = path.with_name(f".{path.stem}.tmp")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _make_room(self, needed: int) -> list[Path]:
        self._bytes += needed
        if time.monotonic() < self._measured_until and self._bytes <= self._max_bytes:
            return []
        oldest_first = []
        total = 0
        dropped: list[Path] = []
        too_old_ns = time.time_ns() - int(self._max_age_s * 1e9)
        for path in self.paths():
            if _written_ns(path) < too_old_ns:
                self._drop(path, dropped)
                continue
            try:
                total += path.stat().st_size
            except OSError:
                continue
            oldest_first.append(path)
        for path in oldest_first:
            if total + needed <= self._max_bytes:
                break
            with contextlib.suppress(OSError):
                total -= path.stat().st_size
            self._drop(path, dropped)
        self._bytes = total + needed
        self._measured_until = time.monotonic() + MEASURED_FOR_S
        return dropped

    def _drop(self, path: Path, dropped: list[Path]) -> None:
        with contextlib.suppress(OSError):
            path.unlink()
            dropped.append(path)


def _batch_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    except OSError:
        return []


def _new_writer() -> str:
    # A process id alone would not tell: in containers, most processes have the same.
    return f"{os.getpid()}.{os.urandom(4).hex()}"


def events_in(path: Path) -> int:
    """Events in a Batch file, from its name."""
    try:
        return int(path.stem.rpartition("-")[2])
    except ValueError:
        return 0


def _written_ns(path: Path) -> int:
    try:
        return int(path.name.partition("-")[0])
    except ValueError:
        return 0


def make_private(folder: Path) -> None:
    """Create a folder, and those above it that are missing, for this user only."""
    missing = []
    current = folder
    while not current.exists():
        missing.append(current)
        current = current.parent
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode=0o700)


def _encode(batch: Batch, header: dict[str, Any]) -> bytes:
    lines = [orjson.dumps({"format": FORMAT, "events": len(batch), **header})]
    lines.extend(
        b'{"session_id":' + orjson.dumps(session_id) + b',"session":' + body + b"}"
        for session_id, body in batch.sessions().items()
    )
    lines.extend(
        b'{"event_id":'
        + orjson.dumps(record.id)
        + b',"session_id":'
        + orjson.dumps(record.session_id)
        + b',"event":'
        + record.body
        + b"}"
        for record in batch.records
    )
    return b"\n".join(lines) + b"\n"


def _decode(data: bytes) -> Batch:
    lines = data.split(b"\n")
    header = orjson.loads(lines[0])
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError("not a batch file of this format")
    sessions: dict[str, bytes] = {}
    records = []
    for line in lines[1:]:
        if not line:
            continue
        item = orjson.loads(line)
        if "session" in item:
            sessions[item["session_id"]] = orjson.dumps(item["session"])
        else:
            session_id = item["session_id"]
            records.append(
                Record(
                    id=item["event_id"],
                    body=orjson.dumps(item["event"]),
                    session_id=session_id,
                    session_body=sessions[session_id],
                )
            )
    if len(records) != header["events"]:
        raise ValueError("a batch file is not complete")
    return Batch.of(records)


def _try_lock(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
