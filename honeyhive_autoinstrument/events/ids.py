"""Ids in HoneyHive's form: UUIDs in lower case. Pure.

An id of the application's that is no UUID gets a stable one made of it, the same in every process.
"""

from __future__ import annotations

from uuid import NAMESPACE_URL, UUID, uuid5


def uuid_of(number: int) -> str:
    """A version 4 UUID from 128 random bits. Made on a worker: the text costs more than the bits."""
    digits = f"{number & ~(0xF000 << 64 | 0xC000 << 48) | 0x4000 << 64 | 0x8000 << 48:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def as_uuid(given: str) -> tuple[str, str | None]:
    """A lower-case UUID for an id: itself if it is one, else a stable one made of it, with the original beside it."""
    own = uuid_in(given)
    if own is not None:
        return own, None
    text = given.encode("utf-8", "replace").decode()  # half of a surrogate pair has no bytes
    return str(uuid5(NAMESPACE_URL, f"honeyhive-autoinstrument:{text}")), text


def uuid_in(given: object) -> str | None:
    """The UUID that a text is, in lower case; None for whatever else."""
    if not isinstance(given, str):
        return None
    try:
        return str(UUID(given))
    except ValueError:
        return None
