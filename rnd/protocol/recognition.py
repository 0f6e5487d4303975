"""Which entries of a manifest a receiver has and need not be sent, and where that leaves the stream (docs/wire.md, section 5).

Within this peer they are a set of indices, on the wire one bit for each entry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from rnd.types.errors import RndError
from rnd.types.executions import FileEntry

NONE_PRESENT: Final[frozenset[int]] = frozenset()


class PresentRefused(RndError):
    """What the other side says it has cannot be; the message says why."""


class Place(NamedTuple):
    """Where a stream stands: at which entry, and how many bytes of that have come."""

    entry_index: int
    file_offset: int


def write_present(present: Iterable[int], entry_count: int) -> bytes:
    """Return the bits of these entries: entry `i` is bit `i % 8`, the lowest first, of byte `i // 8`. None has no bytes."""
    bits = bytearray((entry_count + 7) // 8)
    for index in present:
        bits[index // 8] |= 1 << index % 8
    return bytes(bits) if any(bits) else b""


def read_present(bits: bytes, entries: Sequence[FileEntry]) -> frozenset[int]:
    """Return the entries that these bits name. Raises `PresentRefused` unless each is a file with content."""
    if not bits:
        return NONE_PRESENT
    if len(bits) != (len(entries) + 7) // 8:
        raise PresentRefused(f"it named files in {len(bits):,} bytes; {len(entries):,} entries have another number")
    present = frozenset(
        8 * place + bit for place, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1
    )
    if any(index >= len(entries) or not entries[index].size_bytes for index in present):
        raise PresentRefused("it named what is no file with content")
    return present


def size_of(present: Collection[int], entries: Sequence[FileEntry]) -> int:
    """Return how many bytes these entries have together."""
    return sum(entries[index].size_bytes for index in present)


def find_place(entries: Sequence[FileEntry], present: Collection[int], content_bytes: int) -> Place:
    """Return where a stream stands of which so much content has come; entries that are present are stepped over, and so are
    those without bytes that follow what has come.
    """
    left = content_bytes
    for index, entry in enumerate(entries):
        if index in present:
            continue
        if left < entry.size_bytes:
            return Place(index, left)
        left -= entry.size_bytes
    return Place(len(entries), 0)
