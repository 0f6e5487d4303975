"""What makes files and folders survive a power cut: flushing, by the piece where few, by the file system where many."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Final

FSYNC_EACH_MAX: Final = 32
"""Up to so many files and folders are flushed one by one; beyond it one syncfs of the file system is cheaper."""

FLUSHES_AT_ONCE: Final = 8
"""By all threads together."""

_KEEP_SIZE: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Flushing:
    """Threads that flush; kept, since starting three takes as long as the flushes of a small delivery."""

    def __init__(self) -> None:
        self.begin()
        os.register_at_fork(after_in_child=self.begin)  # a child has none of its parent's threads

    def begin(self) -> None:
        self.threads = ThreadPoolExecutor(FLUSHES_AT_ONCE, thread_name_prefix="rnd-flushing")


_flushing = _Flushing()


def parent_folders(relative_paths: Iterable[str]) -> list[str]:
    """Return every folder that these paths need (`a/b` and `a` for `a/b/c`; `a/b` too for `a/b/`), parents first."""
    folders: set[str] = set()
    for path in relative_paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return sorted(folders)


def flushes_each(relative_paths: Sequence[str]) -> bool:
    """Say whether so few files and folders are to be made durable that each is flushed on its own."""
    return len(relative_paths) <= FSYNC_EACH_MAX and len(parent_folders(relative_paths)) <= FSYNC_EACH_MAX


def flush_folders(open_folder: Callable[[str], int], relative_paths: Sequence[str], *, flush_each: bool) -> None:
    """Make the folders of these paths durable: one by one, or with the whole file system and all files in it.

    `open_folder` gives a descriptor of a folder by its relative path ("": the root). Raises `OSError`.
    """
    if not flush_each:
        sync_filesystem(open_folder(""))
        return
    for folder in ["", *parent_folders(relative_paths)]:
        os.fsync(open_folder(folder))


def sync_filesystem(fd: int) -> None:
    """Flush the file system that holds `fd` (syncfs, which Python does not offer). Raises `OSError`."""
    if _libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def reserve(fd: int, offset: int, count: int) -> None:
    """Have room set aside for bytes of a file, whose size stays as it is; nothing where the file system does not know that.

    Raises `OSError` where the disk has not so much.
    """
    if _libc.fallocate(fd, _KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(count)) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise OSError(code, os.strerror(code))


def sync_together(descriptors: Sequence[int]) -> None:
    """Flush several files and folders side by side: they share commits of the journal, which one after the other each wait
    for their own. Raises `OSError`."""
    if not descriptors:
        return
    flushes = [_flushing.threads.submit(os.fsync, fd) for fd in descriptors[1:]]
    try:
        os.fsync(descriptors[0])
    finally:
        wait(flushes)  # the caller may close them then
    for flush in flushes:
        flush.result()


class Unflushed(ExitStack):
    """Files and folders that are to be made durable in one go; they are kept open until its end."""

    def __init__(self) -> None:
        super().__init__()
        self._descriptors: list[int] = []

    def add(self, fd: int) -> None:
        """Take a descriptor over."""
        self.callback(os.close, fd)
        self._descriptors.append(fd)

    def add_folder(self, folder: Path) -> None:
        """Have the names in a folder made durable. Raises `OSError`."""
        self.add(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def flush(self) -> None:
        """Make durable what was added since the last time. Raises `OSError`."""
        descriptors, self._descriptors = self._descriptors, []
        sync_together(descriptors)


def sync_folder(folder: Path) -> None:
    """Make the names in one folder durable."""
    with Unflushed() as unflushed:
        unflushed.add_folder(folder)
        unflushed.flush()


def create_folders(folder: Path) -> list[Path]:
    """Create a folder and what is missing above it; return the folders that got a new name in them.

    The names are not durable yet: flush what is returned once everything is in place. Flushing at the end costs one
    commit of the file system's journal, flushing at each step one a step.
    """
    if folder.is_dir():
        return []
    changed = create_folders(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
    return [*changed, folder.parent]


def make_folders(folder: Path) -> None:
    """Create a folder and what is missing above it, each durable in its parent."""
    for changed in create_folders(folder):
        sync_folder(changed)
