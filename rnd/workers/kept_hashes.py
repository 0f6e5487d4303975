"""What the files of a delivery have hashed to, kept from one attempt to the next, so that none reads them again.

A file is taken for the same while its name, device, inode, size and both its times are those that the walk found before it was
hashed. The receiver hashes whatever comes, so that a disk that lies about them is found out all the same.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rnd.types.executions import FileEntry
from rnd.types.ids import TransferId
from rnd.workers.files import FoundEntry, hash_tree

ENTRIES_MAX: Final = 200_000
"""How many entries of all deliveries together are kept, about 100 MB; those that were used longest ago go first."""


class _Hashed(NamedTuple):
    root: Path
    found: Sequence[FoundEntry]
    entries: list[FileEntry]


class KeptHashes:
    """The hashes of open deliveries. For any thread."""

    def __init__(self, *, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._kept: OrderedDict[TransferId, _Hashed] = OrderedDict()
        self._lock = threading.Lock()

    def hash(
        self, transfer_id: TransferId, root: Path, found: Sequence[FoundEntry], *, cancelled: Callable[[], bool]
    ) -> list[FileEntry]:
        """Return the manifest of what the owner's folder `root` holds; what nobody has changed since is not read again.

        Raises what `hash_tree` raises.
        """
        with self._lock:
            kept = self._kept.get(transfer_id)
            if kept is not None and kept.root == root and kept.found == found:
                self._kept.move_to_end(transfer_id)
                return kept.entries
        entries = hash_tree(root, found, hard_links=True, cancelled=cancelled)
        with self._lock:
            self._kept[transfer_id] = _Hashed(root, found, entries)
            self._kept.move_to_end(transfer_id)
            while sum(len(each.entries) for each in self._kept.values()) > self._entries_max:
                self._kept.popitem(last=False)
        return entries

    def forget(self, transfer_id: TransferId) -> None:
        """Let go of a delivery that has ended."""
        with self._lock:
            self._kept.pop(transfer_id, None)
