"""What is written down of a delivery that has come in part, so that a restarted daemon goes on with it (design section 6).

Beside the folder `.<name>.part` lie `.<name>.part.manifest`, the manifest as it came, and `.<name>.part.json`: how much of the
stream is durable. Neither is flushed: what a power cut leaves of them is read as nothing, and the delivery begins anew. The
manifest stays when all has come, so that the same content is recognised when it is offered again.
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


def parts_of(destination: Path) -> list[Path]:
    """Return everything that may lie beside a folder while it is filled."""
    part = destination.with_name(f".{destination.name}.part")
    return [part, *(part.with_name(part.name + end) for end in (".manifest", ".json", ".json.draft"))]


class PartNotes:
    """The notes on one folder that is being filled, `.<name>.part` beside where it will stand."""

    def __init__(self, destination: Path) -> None:
        self._manifest = destination.with_name(f".{destination.name}.part.manifest")
        self._note = destination.with_name(f".{destination.name}.part.json")
        self._draft = self._note.with_name(f"{self._note.name}.draft")
        self._kept = manifest_beside(destination)
        self._sha256 = ""

    def begin(self, entries: tuple[FileEntry, ...]) -> None:
        """Write down what is to come. Raises `OSError`."""
        manifest = write_manifest(entries)
        self._note.unlink(missing_ok=True)
        self._manifest.write_bytes(manifest.data)
        self._sha256 = manifest.sha256

    def note(self, offset: int) -> None:
        """Write down that everything below `offset` is durable; `begin` or `read` was called before. Raises `OSError`."""
        self._draft.write_text(json.dumps({"manifest_sha256": self._sha256, "offset": offset}))
        os.rename(self._draft, self._note)

    def read(self, offer: Offer, *, max_folders: int) -> PartNote | None:
        """Return what was noted of exactly this offer's content, if anything."""
        try:
            with self._note.open() as file:
                fields = json.loads(file.read(NOTE_BYTES_MAX))
        except (OSError, ValueError):
            return None
        match fields:
            case {"manifest_sha256": offer.manifest_sha256, "offset": int(offset)} if (
                offer.manifest_bytes <= offset <= offer.stream_bytes
            ):
                pass
            case _:
                return None
        entries = read_manifest(self._manifest, offer, max_folders=max_folders)
        if entries is None:
            return None
        self._sha256 = offer.manifest_sha256
        return PartNote(entries, offset)

    def keep_manifest(self) -> None:
        """Remove what is about a part now that all has come; the manifest stays beside it, `.<name>.manifest`."""
        with contextlib.suppress(OSError):  # then it will not be recognised when it comes again
            os.rename(self._manifest, self._kept)
        self.remove()

    def remove(self) -> None:
        """Remove what was written down. What resists says nothing without the folder beside it."""
        for path in (self._note, self._draft, self._manifest):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def manifest_beside(destination: Path) -> Path:
    """Return where the manifest of a folder that has arrived whole is kept."""
    return destination.with_name(f".{destination.name}.manifest")


def read_manifest(path: Path, offer: Offer, *, max_folders: int) -> tuple[FileEntry, ...] | None:
    """Return the entries of a manifest that was written down, if it is exactly the one that is offered."""
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
        with path.open("rb") as file:
            reader.feed(file.read(MANIFEST_BYTES_MAX + 1))
        return reader.finish()
    except (OSError, ManifestRefused):
        return None
