"""What is written down of a delivery that has come in part, so that a restarted daemon goes on with it (design section 6).

Beside the folder `.<name>.part` lie `.<name>.part.manifest`, the manifest as it came, and `.<name>.part.json`: how much of the
stream is durable, and which files are no part of it, since they were here. Neither is flushed: what a power cut leaves of them
is read as nothing, and the delivery begins anew. The manifest stays when all has come, so that a file of it is recognised when
it is offered again. Synchronous, for threads: what is noted by one is not there any more once another has removed it.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import threading
from pathlib import Path
from typing import Final, NamedTuple

from rnd import crash_points
from rnd.protocol.fields import PRESENT_BYTES_MAX
from rnd.protocol.instructions import Offer
from rnd.protocol.manifest import MANIFEST_BYTES_MAX, Announced, ManifestReader, ManifestRefused, write_manifest
from rnd.protocol.recognition import NONE_PRESENT, PresentRefused, read_present, size_of, write_present
from rnd.types.executions import FileEntry
from rnd.workers.part_stamps import boot_id

NOTE_BYTES_MAX: Final = (1 << 12) + 2 * PRESENT_BYTES_MAX


class PartNote(NamedTuple):
    """Everything below `offset`, in bytes of the stream, is durable, and what ends there is verified; so are the entries that
    were `present` and are no part of the stream.

    `stamps` are of the files that have ended, "" where they say nothing: the system has been started anew since.
    """

    entries: tuple[FileEntry, ...]
    present: frozenset[int]
    offset: int
    stamps: str


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
        self._present = ""
        self._writing = threading.Lock()

    def begin(self, entries: tuple[FileEntry, ...]) -> None:
        """Write down what is to come. Raises `OSError`."""
        manifest = write_manifest(entries)
        self._note.unlink(missing_ok=True)
        self._manifest.write_bytes(manifest.data)
        self._sha256 = manifest.sha256
        self.leave_out(NONE_PRESENT, len(entries))

    def leave_out(self, present: frozenset[int], entry_count: int) -> None:
        """Have it noted from now on that these entries are here, verified, and no part of the stream."""
        self._present = base64.b64encode(write_present(present, entry_count)).decode()

    def note(self, offset: int, *, stamps: str) -> None:
        """Write down that everything below `offset` is durable, what is left out too, and the stamps of the files that have ended.

        `begin` or `read` was called before; after `remove` there is nothing to note. Raises `OSError`.
        """
        with self._writing:
            if not self._sha256:
                return
            note = {
                "manifest_sha256": self._sha256,
                "boot_id": boot_id(),
                "stamps": stamps,
                "present": self._present,
                "offset": offset,
            }
            self._draft.write_text(json.dumps(note))
            crash_points.reach("rename", "part note")
            os.rename(self._draft, self._note)

    def is_there(self) -> bool:
        """Say whether anything may be noted: also where that cannot be looked at now."""
        try:
            os.lstat(self._note)
        except OSError as error:
            return not is_gone(error)
        return True

    def read(self, offer: Offer, *, max_folders: int) -> PartNote | None:
        """Return what was noted of exactly this offer's content, if anything. Raises `OSError` where it cannot be read now."""
        try:
            with self._note.open() as file:
                fields = json.loads(file.read(NOTE_BYTES_MAX))
        except (ValueError, RecursionError):
            return None
        match fields:
            case {
                "manifest_sha256": offer.manifest_sha256,
                "boot_id": str(boot),
                "stamps": str(stamps),
                "present": str(bits),
                "offset": int(offset),
            }:
                pass
            case _:
                return None
        try:
            entries = _read_manifest(self._manifest, offer, max_folders=max_folders)
            present = read_present(base64.b64decode(bits, validate=True), entries)
        except (ValueError, ManifestRefused, PresentRefused):
            return None
        if not offer.manifest_bytes <= offset <= offer.stream_bytes - size_of(present, entries):
            return None
        self._sha256, self._present = offer.manifest_sha256, bits
        return PartNote(entries, present, offset, stamps if boot == boot_id() != "" else "")

    def keep_manifest(self, entries: tuple[FileEntry, ...]) -> None:
        """Remove what is about a part now that all has come; its manifest stays beside it, `.<name>.manifest`."""
        with contextlib.suppress(OSError):  # then nothing of it is recognised when it comes again
            if not self._sha256:
                self._manifest.write_bytes(write_manifest(entries).data)
            os.rename(self._manifest, self._kept)
        self.remove()

    def tidy_up(self) -> None:
        """Do what `keep_manifest` does for a process that has ended before it came to that: the folder has arrived whole."""
        with contextlib.suppress(OSError):  # most often there is nothing
            os.rename(self._manifest, self._kept)
        self.remove()

    def remove(self) -> None:
        """Remove what was written down. What resists says nothing without the folder beside it."""
        with self._writing:
            self._sha256 = ""
            for path in (self._note, self._draft, self._manifest):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def is_gone(error: OSError) -> bool:
    """Say whether a file or folder is not there as such: other errors say nothing of what is on the disk."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


def manifest_beside(destination: Path) -> Path:
    """Return where the manifest of a folder that has arrived whole is kept, if it is."""
    return destination.with_name(f".{destination.name}.manifest")


def _read_manifest(path: Path, offer: Offer, *, max_folders: int) -> tuple[FileEntry, ...]:
    """Return the entries of a manifest that was written down. Raises `OSError`, and `ManifestRefused` unless it is the one that
    is offered.
    """
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
    with path.open("rb") as file:
        reader.feed(file.read(MANIFEST_BYTES_MAX + 1))
    return reader.finish()
