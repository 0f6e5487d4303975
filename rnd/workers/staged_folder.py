"""A folder that is filled beside its destination and appears there by one rename, durable, or not at all
(document: Transfer Completion). Synchronous, for threads."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rnd import crash_points
from rnd.types.errors import TransferFailed
from rnd.workers.durability import (
    Unflushed,
    create_folders,
    flushes_each,
    parent_folders,
    sync_filesystem,
    sync_folder,
)
from rnd.workers.files import OpenTree, clear_tree

WRITE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class StagedFolder:
    """The folder `.<name>.part` beside `destination`, until it is put in its place.

    It is kept open from the beginning: the system tells of what it could not write once only, to whoever has the file system
    open by then. Let go of it by `put_in_place`, `discard` or `close`.
    Every method raises `OSError` where the disk refuses; `discard` it then. It never does so itself.
    """

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        self.path = destination.with_name(f".{destination.name}.part")
        self._names: Sequence[str] = ()
        self._changed: list[Path] = []
        self._is_in_doubt = False
        self._is_taken_up = False
        self._fd: int | None = None

    def lay_out(self, names: Sequence[str]) -> None:
        """Make the folder anew, with all folders that these relative names need; what an earlier run left is deleted."""
        self._names = names
        self._changed += create_folders(self.destination.parent)  # also those of a folder that was discarded
        clear_tree(self.path)
        clear_tree(_displaced(self.destination))
        self.path.mkdir()
        self._open()
        for folder in parent_folders(names):
            (self.path / folder).mkdir()

    def take_up(self, names: Sequence[str]) -> None:
        """Go on with the folder that an earlier process has left in this state, or has put in its place and not settled.

        Raises `OSError` where it is not there.
        """
        try:
            self._open()
        except FileNotFoundError:
            os.rename(self.destination, self.path)
            self._open()
        self._names = names
        self._is_taken_up = True

    def duplicate(self) -> int:
        """Return a descriptor for flushing the file system that the folder is on; the caller closes it."""
        return os.dup(self._descriptor())

    def reopen_file(self, name: str) -> int:
        """Return a descriptor of a file that an earlier process has begun, for reading and writing; the caller closes it."""
        return os.open(f"{self.path}/{name}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

    def create_file(self, name: str, *, executable: bool) -> int:
        """Return a descriptor of a new, empty file; the caller closes it."""
        fd = os.open(f"{self.path}/{name}", WRITE_FLAGS, 0o600)
        try:
            os.fchmod(fd, 0o755 if executable else 0o644)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def remove_file(self, name: str) -> None:
        """Delete a file that was created and is not what it should be."""
        os.unlink(f"{self.path}/{name}")

    def put_in_place(self) -> None:
        """Rename the folder to its destination and make all of it durable; what stood there is deleted.

        Renamed first and flushed then: files, folders and the new name share one commit of the file system's journal, and nobody
        looks at the place before the commit that comes after (ruling 17). `discard` takes it away again, until `settle`.
        """
        with Unflushed() as unflushed:
            self.move_in(unflushed)
            unflushed.flush()
        self.is_durable()

    def move_in(self, unflushed: Unflushed) -> None:
        """Rename the folder to its destination and add to `unflushed` what makes it durable; what is much is flushed at once.

        `is_durable` is due once that is flushed.
        """
        _put_in_place(self.path, self.destination)
        self._is_in_doubt = True
        self._gather(unflushed)

    def is_durable(self) -> None:
        """Delete what stood in its place: what is there now is flushed."""
        self._changed = []
        self.close()
        clear_tree(_displaced(self.destination))

    def settle(self) -> None:
        """Have what was put in its place stay there."""
        self._is_in_doubt = False

    def discard(self) -> None:
        """Delete what was staged, and what is in its place but not settled.

        What resists is hidden or unacknowledged, and the next folder for the same place clears it.
        """
        self.close()
        for path in [self.path, self.destination] if self._is_in_doubt else [self.path]:
            try:
                clear_tree(path)
            except OSError:
                continue

    def close(self) -> None:
        """Let go of the folder; what is in it stays."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> None:
        self.close()
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def _descriptor(self) -> int:
        if self._fd is None:
            raise ValueError("the folder is not open")
        return self._fd

    def _gather(self, unflushed: Unflushed) -> None:
        """Add the folder: its files, its folders, and the names that lead to it."""
        if self._is_taken_up or not flushes_each(self._names):  # nobody knows which folders are durable already
            sync_filesystem(self._descriptor())
            return
        with OpenTree(self.destination) as tree:
            for name in self._names:
                if not name.endswith("/"):
                    unflushed.add(tree.open_file(name)[0])
            for folder in ["", *parent_folders(self._names)]:
                unflushed.add(os.dup(tree.folder(folder)))
            for above in [self.destination.parent, *self._changed]:
                unflushed.add_folder(above)


def replace_folder(staging: Path, destination: Path) -> None:
    """Rename a finished, durable folder into place, durably; what stood there is deleted after it has made way."""
    _put_in_place(staging, destination)
    sync_folder(destination.parent)
    clear_tree(_displaced(destination))


def write_all(fd: int, data: memoryview) -> None:
    """Write all of `data`, however little the system takes at a time."""
    while data:
        data = data[os.write(fd, data) :]


def write_failure(name: str, error: OSError) -> TransferFailed:
    """Return a refusal by the disk in words a person can act on."""
    hint = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free some space on the disk of the data directory, then try again."
    return TransferFailed(f"{name} could not be written: {error.strerror or error}", hint=hint)


def _put_in_place(staging: Path, destination: Path) -> None:
    """Rename a finished folder into place; what stood there makes way under another name."""
    crash_points.reach("rename", "arrived folder")
    try:
        os.rename(staging, destination)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        os.rename(destination, _displaced(destination))
        os.rename(staging, destination)
    crash_points.reach("renamed", "arrived folder")


def _displaced(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.old")
