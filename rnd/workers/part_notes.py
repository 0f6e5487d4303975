"""What is written down of a delivery that has come in part, so that a restarted daemon goes on with it (design section 6).

Beside the folder `.<name>.part` lie `.<name>.part.manifest`, the manifest as it came, and `.<name>.part.json`: how much of the
stream is durable. Neither is flushed: what a power cut leaves of them is read as nothing, and the delivery begins anew.
Synchronous, for threads.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from rnd.protocol.instructions import Offer
from rnd.protocol.manifest import MANIFEST_BYTES_MAX, Announced, ManifestReader, ManifestRefused, write_manifest
from rnd.types.executions import FileEntry

NOTE_BYTES_MAX = 1 << 12


class PartNote(NamedTuple):
    """Everything below `offset`, in bytes of the stream, is durable, and what ends there is verified."""

    entries: tuple[FileEntry, ...]
    offset: int


class PartNotes:
    """The notes on one folder that is being filled."""

    def __init__(self, part: Path) -> None:
        self._manifest = part.with_name(f"{part.name}.manifest")
        self._note = part.with_name(f"{part.name}.json")
        self._sha256 = ""

    def begin(self, entries: tuple[FileEntry, ...]) -> None:
        """Write down what is to come. Raises `OSError`."""
        manifest = write_manifest(entries)
        self._note.unlink(missing_ok=True)
        self._manifest.write_bytes(manifest.data)
        self._sha256 = manifest.sha256

    def note(self, offset: int) -> None:
        """Write down that everything below `offset` is durable; `begin` or `read` was called before. Raises `OSError`."""
        draft = self._note.with_name(f"{self._note.name}.draft")
        draft.write_text(json.dumps({"manifest_sha256": self._sha256, "offset": offset}))
        os.rename(draft, self._note)

    def read(self, offer: Offer, *, max_folders: int) -> PartNote | None:
        """Return what was noted of exactly this offer's content, if anything."""
        try:
            with self._note.open() as file:
                fields = json.loads(file.read(NOTE_BYTES_MAX))
            with self._manifest.open("rb") as file:
                data = file.read(MANIFEST_BYTES_MAX + 1)
        except (OSError, ValueError):
            return None
        match fields:
            case {"manifest_sha256": offer.manifest_sha256, "offset": int(offset)} if (
                offer.manifest_bytes <= offset <= offer.stream_bytes
            ):
                pass
            case _:
                return None
        reader = ManifestReader(
            Announced(
                manifest_bytes=offer.manifest_bytes,
                manifest_sha256=offer.manifest_sha256,
                entry_count=offer.entry_count,
                file_count=offer.file_count,
                size_bytes=offer.size_bytes,
            ),
            max_folders=max_folders,
        )
        try:
            reader.feed(data)
            entries = reader.finish()
        except ManifestRefused:
            return None
        self._sha256 = offer.manifest_sha256
        return PartNote(entries, offset)

    def remove(self) -> None:
        """Remove what was written down. What resists says nothing without the folder beside it."""
        for path in (self._note, self._manifest):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
