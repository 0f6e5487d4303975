"""The file of a delivery that is being written, hashed as it grows (document: Transfer Completion). Synchronous, for a thread."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rnd.workers.durability import reserve
from rnd.workers.files import buffer_bytes
from rnd.workers.staged_folder import write_all

if TYPE_CHECKING:
    from hashlib import _Hash

RESERVE_BYTES: Final = 64 << 20
RESERVE_FROM_BYTES: Final = 1 << 20
"""Room on the disk is reserved for so much ahead, of files from this size on: less pieces, and it is known early that it is full."""
HOLE_FROM_BYTES: Final = 64 << 10
"""What comes at a time, from this size on, becomes a hole where all of it is zeros."""


class PartFile:
    """The file at `index` among the entries of its delivery, by a descriptor that is its own from now on."""

    def __init__(self, index: int, fd: int, *, promised_bytes: int) -> None:
        self.index = index
        self.size_bytes = 0
        self._promised_bytes = promised_bytes
        self._reserved_bytes = 0
        self._fd = fd
        self._digest: _Hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The digest of all that is in the file."""
        return self._digest.hexdigest()

    def status(self) -> os.stat_result:
        """Return what the system says of the file."""
        return os.fstat(self._fd)

    def stand_at(self, size_bytes: int, check_wanted: Callable[[], None]) -> bool:
        """Hash what an earlier process has written, up to this size, and cut off the rest; False if there is less."""
        if not self.read_again(size_bytes, check_wanted):
            return False
        os.ftruncate(self._fd, size_bytes)
        return True

    def read_again(self, size_bytes: int, check_wanted: Callable[[], None]) -> bool:
        """Hash what an earlier process has written, up to this size; False if there is less. `check_wanted` may raise."""
        buffer = memoryview(bytearray(buffer_bytes([size_bytes])))
        while self.size_bytes < size_bytes:
            count = os.readv(self._fd, [buffer[: size_bytes - self.size_bytes]])
            check_wanted()
            if count == 0:
                return False
            self._digest.update(buffer[:count])
            self.size_bytes += count
        return True

    def duplicate(self) -> int:
        """Return another descriptor of the file; the caller closes it."""
        return os.dup(self._fd)

    def write(self, data: memoryview) -> None:
        """Write the next bytes. Room is reserved ahead of them, in steps: nobody takes all of it with a promise."""
        self._digest.update(data)
        if len(data) >= HOLE_FROM_BYTES and _is_zeros(data):
            self._leave_hole(len(data))
            return
        if self.size_bytes + len(data) > self._reserved_bytes and self._promised_bytes >= RESERVE_FROM_BYTES:
            ahead = min(max(RESERVE_BYTES, len(data)), self._promised_bytes - self.size_bytes)
            reserve(self._fd, self.size_bytes, ahead)
            self._reserved_bytes = self.size_bytes + ahead
        write_all(self._fd, data)
        self.size_bytes += len(data)

    def _leave_hole(self, count: int) -> None:
        """Have the next bytes be zeros that take up no room. The size says at once that they are there: notes count on it."""
        if self._reserved_bytes > self.size_bytes:
            self.give_back_room()
        self.size_bytes += count
        os.ftruncate(self._fd, self.size_bytes)
        os.lseek(self._fd, count, os.SEEK_CUR)

    def give_back_room(self) -> None:
        """Give back what is reserved ahead."""
        os.ftruncate(self._fd, self.size_bytes)  # also frees what is reserved beyond the end
        self._reserved_bytes = self.size_bytes

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        os.close(self._fd)


def _is_zeros(data: memoryview) -> bool:
    # A bytearray is compared as memory is, a memoryview item by item.
    return not data[0] and bytearray(len(data)) == data
