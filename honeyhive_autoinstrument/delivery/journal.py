"""Journal: Events on disk before the call that they tell of returns (durability `always`), until they are settled.

Used by the uploader, in the application's threads (`append`) and on workers (`settle`). It shadows what is in memory:
whatever is sent, or put to disk as a Batch, leaves it. What a killed process leaves behind is a file of the Spool's like
any other (`Spool.replayable`). Nothing is fsynced: the promise is for the death of the process, not of the machine.

Re-entrant: the garbage collector may run a finalizer, and that may append, in the middle of an append.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

from honeyhive_autoinstrument.delivery.batch_file import done_line, event_line, header_line, session_line
from honeyhive_autoinstrument.delivery.sink import Record
from honeyhive_autoinstrument.delivery.spool import Spool


class _Segment:
    """One file of a Journal."""

    __slots__ = ("handle", "held", "path", "sessions", "size", "taken")

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.handle = handle
        self.held: set[str] = set()
        """Ids of the Events that are not settled."""
        self.sessions: set[str] = set()
        self.taken = 0
        self.size = 0


class Journal:
    """The files of one process, a segment of so many Events or bytes each. Safe from any thread."""

    def __init__(self, spool: Spool, *, segment_events: int, segment_bytes: int) -> None:
        self._spool = spool
        self._segment_events = segment_events
        self._segment_bytes = segment_bytes
        self._make_fresh()

    def _make_fresh(self) -> None:
        self._lock = threading.RLock()
        self._current: _Segment | None = None
        self._segment_of: dict[str, _Segment] = {}
        self._left: set[str] = set()
        """Ids of Events that were not settled when it was left; their files are replayed."""
        self._is_appending = False

    def append(self, record: Record) -> None:
        """Write an Event; it is in the file when this returns.

        :raises OSError: the disk is full or not writable.
        """
        with self._lock:
            # A finalizer in the middle of an append gets a segment of its own: the current one is half changed.
            segment = self._open() if self._is_appending or self._current is None else self._current
            is_nested, self._is_appending = self._is_appending, True
            try:
                if not is_nested:
                    self._current = segment
                data = (
                    b""
                    if record.session_id in segment.sessions
                    else session_line(record.session_id, record.session_body)
                )
                data += event_line(record)
                self._write(segment, data)
                segment.sessions.add(record.session_id)
                segment.held.add(record.id)
                segment.taken += 1
                segment.size += len(data)
                self._segment_of[record.id] = segment
                if segment.taken >= self._segment_events or segment.size >= self._segment_bytes:
                    self._seal(segment)
            except OSError:
                self._seal(segment)  # it may end in the middle of a line
                if not segment.held:
                    self._remove(segment)
                raise
            finally:
                self._is_appending = is_nested

    def settle(self, ids: Iterable[str]) -> None:
        """These Events have been sent, given up, or put to disk elsewhere. Does not raise for a disk that fails."""
        with self._lock:
            left: dict[_Segment, list[str]] = {}
            for each in ids:
                segment = self._segment_of.pop(each, None)
                if segment is not None:
                    segment.held.discard(each)
                    left.setdefault(segment, []).append(each)
            for segment, gone in left.items():
                if not segment.held:
                    self._seal(segment)
                    self._remove(segment)
                    continue
                try:
                    self._write(segment, done_line(gone))
                except OSError:
                    self._seal(segment)  # a later process sends them again, under the same ids

    def holds(self, ids: Iterable[str]) -> bool:
        """Whether all of these Events are on disk here."""
        with self._lock:
            return all(each in self._segment_of or each in self._left for each in ids)

    def leave(self) -> None:
        """What is still in it is a later process's, or this one's under another name (`Spool.close`)."""
        with self._lock:
            self._close_files()
            self._current = None
            self._left.update(self._segment_of)
            self._segment_of = {}

    def is_locked_here(self) -> bool:
        """Whether the calling thread is in the middle of an append: a signal's handler may find itself there."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]  # as threading's own Condition asks

    def after_fork(self) -> None:
        """In the child: the files are the parent's."""
        self._close_files()
        self._make_fresh()

    def _close_files(self) -> None:
        for segment in {*self._segment_of.values(), *([self._current] if self._current is not None else [])}:
            os.close(segment.handle)

    def _open(self) -> _Segment:
        path = self._spool.new_journal()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        segment = _Segment(path, handle)
        try:
            self._write(segment, header_line(journal=True))
        except OSError:
            self._remove(segment)
            raise
        return segment

    def _seal(self, segment: _Segment) -> None:
        """Nothing is appended to it any more, but what is done with."""
        if self._current is segment:
            self._current = None

    @staticmethod
    def _write(segment: _Segment, data: bytes) -> None:
        # One call for the line: a process that is killed leaves it out or whole, but for a disk that is full.
        written = os.write(segment.handle, data)
        while written < len(data):
            written += os.write(segment.handle, data[written:])

    @staticmethod
    def _remove(segment: _Segment) -> None:
        os.close(segment.handle)
        segment.path.unlink(missing_ok=True)
