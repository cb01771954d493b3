"""Spool: Batches on disk that wait for a later try, in this process or a later one. It is the local store, too.

Used by the uploader and by `honeyhive-events`. Safe from any thread and from any number of processes.

One folder for each destination (URL and fingerprint of the key), so that one project's events never go out under another
key; one file for each Batch. A file is written under a temporary name and renamed: a reader never sees half of one. Journals
(journal.py) lie beside them; whose process has died, theirs are read like Batches. Files are 0600, folders 0700. Keys are
never written. `batch_file.py` knows the form.
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
from urllib.parse import urlsplit

from honeyhive_autoinstrument._faults import faults
from honeyhive_autoinstrument.delivery.batch_file import Decoded, decode, encode_batch
from honeyhive_autoinstrument.delivery.sink import Batch

SUFFIX = ".batch"
JOURNAL_SUFFIX = ".journal"
OWNER_SUFFIX = ".owner"
"""A file that a process holds locked as long as it lives, so that others know whose journals are left over."""
TEMPORARY_SUFFIX = ".tmp"
LOCAL = "local"
"""Folder of Batches that were recorded without a key."""
REJECTED = "rejected"
"""Folder, inside a destination's, of what its server will never take, with the answer in the header."""
BROKEN = "broken"
"""Folder, inside a destination's, of files and lines that nothing can be made of."""
LOCK = ".lock"
MAX_REJECTED = 1000
"""Files of refused Events that are kept for a person to look at."""
MAX_BROKEN = 100
"""The same for damaged ones."""
ASIDE_SHARE = 8
"""What is set aside takes no more than this part of the Spool's room: what can still be sent needs it more."""
MEASURED_FOR_S = 10.0
"""How long a look at the folder's size holds; what other processes put there meanwhile is not seen."""
FULL_SHARE = 0.97
"""Where a Spool counts as full; a Batch that is thinned is on disk twice for a moment."""
ROOM_SHARE = 0.9
"""A Spool that is full is thinned down to this part of its limit at once, and not for each Batch anew."""
THIN_EVENT_BYTES = 2048
"""What is left of an Event in a Spool that is full: ids, times, counts, and the head and tail of its texts."""
THICK = 1.25
"""A Batch is worth thinning whose Events are by this factor longer."""
ABANDONED_S = 3600.0
"""A temporary file that is older was left by a process that was killed as it wrote."""
EARLIEST_NS = 1_767_225_600 * 10**9
"""The year 2026. A file that says that it is older was written under a wrong clock, and has no age."""
CLOCK_STEP_S = 600.0
"""The wall clock and the one that only goes forward differ by more only where somebody has set the former."""


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
    return {folder.name: sum(map(events_in, (*batch_files(folder), *journals(folder)))) for folder in folders}


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
        self._owning = threading.RLock()
        """Guards the owner's file. Not `_lock`: that is held while room is made, and an append must not wait for it."""
        self._owner: int | None = None
        """Handle of the file that says that this process lives."""
        self._bytes = 0
        self._granted = 0
        """Bytes that threads were given room for and are writing now."""
        self._measured_until = 0.0
        self._thinned: set[Path] = set()
        self._began = (time.time_ns(), time.monotonic_ns())

    def new_path(self, batch: Batch, part_of: Path | None = None) -> Path:
        """A name for a Batch's file that no other has.

        :param part_of: the file that it is what is left of, whose place it takes.
        """
        return self.folder / self._name_for(batch, written_ns(part_of) if part_of is not None else time.time_ns())

    def put(self, batch: Batch, path: Path | None = None) -> list[Path]:
        """Keep a Batch, in a file of that name if `new_path` gave one; the oldest ones go when there is no room for it.

        :returns: the files that were dropped to make room.
        :raises OSError: the disk is full or not writable.
        """
        data = encode_batch(batch)
        with self._lock:
            dropped = self._make_room(len(data))
            self._granted += len(data)
        try:
            self._write(path or self.new_path(batch), data)
        finally:
            with self._lock:
                self._granted -= len(data)
        return dropped

    def new_journal(self) -> Path:
        """A name for a journal of this process, whose owner is seen to live from now on.

        :raises OSError: the disk is full or not writable.
        """
        with self._owning:
            if self._owner is None:
                make_private(self.folder)
                path = self._owner_path(self._writer)
                unlocked = path.with_suffix(TEMPORARY_SUFFIX)
                handle = os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o600)
                _try_lock(handle)
                os.rename(unlocked, path)  # nobody sees it without its lock, and takes it for a dead process's
                self._owner = handle
            return self.folder / f"{time.time_ns():020d}-{self._writer}-{next(self._numbers)}{JOURNAL_SUFFIX}"

    def reject(self, batch: Batch, answer: str) -> None:
        """Set a Batch aside that the server will never take, with its answer. The newest ones are kept.

        :raises OSError: the disk is full or not writable.
        """
        aside = self.folder / REJECTED
        self._write(aside / self._name_for(batch, time.time_ns()), encode_batch(batch, answer=answer))
        self._bound(aside, MAX_REJECTED)

    def paths(self) -> list[Path]:
        """Batches that wait, oldest first (names begin with the time of writing)."""
        return batch_files(self.folder)

    def replayable(self) -> list[Path]:
        """Batches, and the journals of processes that have died, oldest first. Only for who has claimed the folder."""
        left_over = [path for path in journals(self.folder) if not self._is_alive(_writer_of(path))]
        return sorted((*self.paths(), *left_over), key=lambda path: path.name)

    def is_empty(self) -> bool:
        """Whether there is nothing to replay. (Journals of others may turn out to be of processes that live.)"""
        try:
            with os.scandir(self.folder) as entries:
                own = f"-{self._writer}-"
                return not any(
                    entry.name.endswith(SUFFIX) or (entry.name.endswith(JOURNAL_SUFFIX) and own not in entry.name)
                    for entry in entries
                )
        except OSError:
            return True

    def load(self, path: Path) -> Batch | None:
        """The Batch in a file; None if another process took the file, or nothing can be made of it. What is damaged is set
        aside, the rest of the file is used."""
        try:
            data = path.read_bytes()
        except OSError:
            return None
        try:
            decoded = decode(data)
        except (ValueError, KeyError, TypeError):
            decoded = Decoded(Batch.of(()), damaged=1)
        if not decoded.damaged and not decoded.missing:
            return decoded.batch
        self._set_aside(path, data, decoded.batch)
        return decoded.batch if len(decoded.batch) else None

    def peek(self, path: Path) -> Batch | None:
        """The Batch in a file, for looking at only: None if it is gone or cannot be read."""
        try:
            return decode(path.read_bytes()).batch
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove(self, path: Path) -> bool:
        """The Batch has been delivered. False where the disk has become read-only: the file stays."""
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return False
        return True

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
            with self._locked() as is_mine:
                yield is_mine
                if is_mine:
                    self._sweep()
        finally:
            replaying.release()

    def close(self) -> None:
        """The journals that this process has written are left to who replays the folder next, be it this one."""
        with self._owning:
            owner, self._owner = self._owner, None
            writer, self._writer = self._writer, _new_writer()
            if owner is not None and not any(_writer_of(path) == writer for path in journals(self.folder)):
                self.remove(self._owner_path(writer))
        if owner is not None:
            os.close(owner)

    def is_locked_here(self) -> bool:
        """Whether the calling thread is in the middle of a change: a signal's handler may find itself there."""
        locks = (self._lock, self._owning)
        return any(lock._is_owned() for lock in locks)  # type: ignore[attr-defined]  # as threading's own Condition asks

    def after_fork(self) -> None:
        """In the child: the locks may be held by threads of the parent."""
        if self._owner is not None:
            os.close(self._owner)  # the lock stays the parent's: it is of the process, not of the handle
            self._owner = None
        self._writer = _new_writer()
        self._lock = threading.RLock()
        self._owning = threading.RLock()
        self._granted = 0
        self._replaying = threading.Lock()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        try:
            handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            yield False  # a disk that cannot be written: what is sent from there could not be removed
            return
        try:
            yield _try_lock(handle)
        finally:
            os.close(handle)  # releases the lock

    def _owner_path(self, writer: str) -> Path:
        return self.folder / f".{writer}{OWNER_SUFFIX}"

    def _is_alive(self, writer: str) -> bool:
        """Whether the process that writes under this name lives. Never asks for our own: closing a second handle of a file
        gives up its lock."""
        if writer == self._writer:
            return True
        try:
            handle = os.open(self._owner_path(writer), os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            return not _try_lock(handle)
        finally:
            os.close(handle)

    def _sweep(self) -> None:
        """Remove what killed processes left: files that say that they live, and half-written ones."""
        try:
            entries = list(os.scandir(self.folder))
        except OSError:
            return
        writing = {_writer_of(path) for path in journals(self.folder)}
        for entry in entries:
            if entry.name.endswith(OWNER_SUFFIX):
                writer = entry.name[1 : -len(OWNER_SUFFIX)]
                if writer not in writing and not self._is_alive(writer):
                    self.remove(Path(entry.path))
            elif entry.name.endswith(TEMPORARY_SUFFIX):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > ABANDONED_S:
                        os.unlink(entry.path)

    def _set_aside(self, path: Path, data: bytes, readable: Batch) -> None:
        """Keep a damaged file for a person to look at, and leave in its place what can be used."""
        faults.say(
            f"damaged {self.folder}",
            "HoneyHive events in %s are damaged. The file is in %s; what can be read of it is used.",
            path,
            self.folder / BROKEN,
        )
        with contextlib.suppress(OSError):
            self._write(self.folder / BROKEN / path.name, data)
            self._bound(self.folder / BROKEN, MAX_BROKEN)
            if not len(readable):
                path.unlink()
            elif path.suffix == SUFFIX:
                self._write(path, encode_batch(readable))

    def _name_for(self, batch: Batch, at_ns: int) -> str:
        return f"{at_ns:020d}-{self._writer}-{next(self._numbers)}-{len(batch)}{SUFFIX}"

    def _write(self, path: Path, data: bytes) -> None:
        make_private(path.parent)
        # Not of the path alone: two threads, or two processes, may thin the same file at once.
        temporary = path.with_name(f".{path.stem}.{self._writer}.{next(self._numbers)}{TEMPORARY_SUFFIX}")
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
        """Room for so many bytes: the oldest Batches lose their long texts, and only then go altogether."""
        self._bytes += needed
        full = int(self._max_bytes * FULL_SHARE)
        if time.monotonic() < self._measured_until and self._bytes <= full:
            return []
        dropped: list[Path] = []
        too_old_ns = self._now_ns() - int(self._max_age_s * 1e9)
        sizes: dict[Path, int] = {}
        for path in self.paths():
            if EARLIEST_NS <= written_ns(path) < too_old_ns:
                self._drop(path, dropped)
            else:
                sizes[path] = _size_of(path)
        total = self._granted + sum(sizes.values()) + sum(map(_size_of, journals(self.folder)))
        for folder in (REJECTED, BROKEN):
            total += self._bound(self.folder / folder, MAX_REJECTED)
        if total + needed > full:
            room = int(self._max_bytes * ROOM_SHARE) - needed
            for shrink in (self._thin, lambda path: self._drop(path, dropped)):
                for path in list(sizes):
                    if total <= room:
                        break
                    shrink(path)
                    total -= sizes[path]
                    sizes[path] = _size_of(path)
                    total += sizes[path]
            self._thinned.intersection_update(sizes)
        self._bytes = total + needed
        self._measured_until = time.monotonic() + MEASURED_FOR_S
        return dropped

    def _now_ns(self) -> int:
        """The time to judge ages by. Where the wall clock has been set since this process began, what is older by it need
        not be old: then the time that has really gone by counts."""
        wall = time.time_ns()
        began, began_ticks = self._began
        passed = began + time.monotonic_ns() - began_ticks
        return wall if abs(wall - passed) < CLOCK_STEP_S * 1e9 else min(wall, passed)

    def _thin(self, path: Path) -> None:
        """Cut the texts of a Batch's Events to head and tail."""
        if path in self._thinned or _size_of(path) < THICK * THIN_EVENT_BYTES * events_in(path):
            return
        self._thinned.add(path)
        batch = self.peek(path)
        if batch is None:
            return
        thin = Batch.of(
            (len(record.body) > THIN_EVENT_BYTES and record.shortened(THIN_EVENT_BYTES)) or record
            for record in batch.records
        )
        with contextlib.suppress(OSError):
            if path.exists():  # another process may have sent it meanwhile
                self._write(path, encode_batch(thin))

    def _bound(self, aside: Path, most: int) -> int:
        """Keep the newest of a folder of files that were set aside, within their share; the bytes that they take."""
        total = 0
        for number, path in enumerate(reversed(files_in(aside))):
            size = _size_of(path)
            is_too_much = number >= most or total + size > self._max_bytes // ASIDE_SHARE
            if number and is_too_much:  # the newest one stays, whatever its size
                self.remove(path)
            else:
                total += size
        return total

    def _drop(self, path: Path, dropped: list[Path]) -> None:
        with contextlib.suppress(OSError):
            path.unlink()
            dropped.append(path)


def batch_files(folder: Path) -> list[Path]:
    """The Batches in a folder, oldest first."""
    return [path for path in files_in(folder) if path.suffix == SUFFIX]


def journals(folder: Path) -> list[Path]:
    """The journals in a folder, of processes that live or not, oldest first."""
    return [path for path in files_in(folder) if path.suffix == JOURNAL_SUFFIX]


def files_in(folder: Path) -> list[Path]:
    """What lies in a folder, by name, but for our own locks and half-written files; nothing where there is none."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _writer_of(journal: Path) -> str:
    return journal.stem.split("-")[1] if journal.stem.count("-") >= 2 else ""


def _new_writer() -> str:
    # A process id alone would not tell: in containers, most processes have the same.
    return f"{os.getpid()}.{os.urandom(4).hex()}"


def events_in(path: Path) -> int:
    """Events in a file: a Batch's name tells, a journal is read."""
    if path.suffix == JOURNAL_SUFFIX:
        try:
            return len(decode(path.read_bytes()).batch)
        except (OSError, ValueError, KeyError, TypeError):
            return 0
    try:
        return int(path.stem.rpartition("-")[2])
    except ValueError:
        return 0


def written_ns(path: Path) -> int:
    """When a file was written, in ns since 1970, from its name; 0 where it does not say."""
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
