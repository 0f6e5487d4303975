"""Watches the disk of the data directory: below `limits.disk_floor_bytes` nothing new is taken and deliveries pause.

Status, cancel and everything else that frees room go on. Safe to ask from any thread; asking costs a microsecond.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from rnd.log import get_logger
from rnd.types.log_events import LogEvent
from rnd.workers.files import free_bytes

log = get_logger()


class DiskGuard:
    """Says whether there is room, and tells the log when that changes.

    After it was low, the disk has room again only a twentieth above the floor, so that the answer does not flutter.
    `measure` returns the free bytes of the disk that holds a path.
    """

    def __init__(self, data_dir: Path, *, floor_bytes: int, measure: Callable[[Path], int] = free_bytes) -> None:
        self._data_dir = data_dir
        self._floor_bytes = floor_bytes
        self._measure = measure
        self._lock = threading.Lock()
        self._is_low = False

    def refusal(self, *, more_bytes: int = 0) -> str | None:
        """Return why nothing new is taken now, as the end of a sentence; `None` while there is room.

        `more_bytes` is how much it will take up, where that is known beforehand.
        """
        free = self._measure(self._data_dir)
        with self._lock:
            needed = self._floor_bytes + (self._floor_bytes // 20 if self._is_low else 0)
            is_low = free < needed
            has_changed = is_low is not self._is_low
            self._is_low = is_low
        if has_changed and is_low:
            log.error(LogEvent.DISK_NEARLY_FULL, free_bytes=free, floor_bytes=self._floor_bytes)
        elif has_changed:
            log.info(LogEvent.DISK_HAS_ROOM, free_bytes=free)
        if is_low:
            return f"the disk of this peer is nearly full (limits.disk_floor_bytes is {self._floor_bytes:,})"
        if free - more_bytes < self._floor_bytes:
            return f"{more_bytes:,} bytes are more than the disk of this peer has room for"
        return None
