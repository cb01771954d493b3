"""`honeyhive-events clear`: removes what is kept here, also what was set aside, but not what a running program is at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from honeyhive_autoinstrument.delivery.spool import BROKEN, REJECTED, Spool, events_in, files_in


@dataclass(slots=True)
class Cleared:
    """What was removed, and what was not."""

    events: int = 0
    folders: int = 0
    busy: tuple[str, ...] = ()
    """Folders that another process is sending right now."""


def clear_kept(spools: Iterable[Spool]) -> Cleared:
    """Remove what these folders hold."""
    result = Cleared()
    for spool in spools:
        if not spool.folder.is_dir():
            continue
        with spool.claimed() as is_mine:
            if not is_mine:
                result.busy += (spool.folder.name,)
                continue
            removed = 0
            for path in (*spool.replayable(), *files_in(spool.folder / REJECTED), *files_in(spool.folder / BROKEN)):
                count = events_in(path)
                if spool.remove(path):
                    removed += count
            result.events += removed
            result.folders += removed > 0
    return result
