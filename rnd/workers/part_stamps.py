"""By what a file is known that has come whole and should be as it was: cheap to compare, where reading it again is not
(docs/wire.md, section 5)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MODULUS: Final = 1 << 256


class PartStamps:
    """The stamps of all files of a part that have ended, in one number: whatever their order, and however many they are.

    A stamp is inode, size, and when content and inode were changed last, to the nanosecond. Whoever writes to such a file changes
    it, at the resolution of the system's clock for files, some milliseconds.
    """

    def __init__(self) -> None:
        self._sum = 0

    def add(self, index: int, status: os.stat_result) -> None:
        """Count a file in, by its index in the manifest."""
        digest = hashlib.sha256(f"{index} {stamp_of(status)}".encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest)) % _MODULUS

    def __str__(self) -> str:
        return f"{self._sum:064x}"


def stamp_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return by what a file is known."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def boot_id() -> str:
    """Return what tells this run of the system from every other one; "" where that is not known."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
