"""Counts what a run adds to its job's folder, so that its disk limit holds for all of it and not file by file.

What was there before (inputs, mounts filled from them) does not count. What a program writes elsewhere cannot be seen
here: only confinement keeps it from doing so. Standard library only, since keepers use it.
"""

from __future__ import annotations

import os
import stat

RESERVE_BYTES = 1 << 20
"""What a filesystem may keep for a file that grows, beside as much again as is in it; more is a program's own doing."""


class DiskUse:
    """What one run may add to a folder, counted from the moment this is made. Sizes in bytes."""

    def __init__(self, directory: str, limit_bytes: int) -> None:
        """Take stock. Raises `OSError` where the folder cannot be looked through."""
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._before = _sizes(directory)

    @property
    def file_limit_bytes(self) -> int:
        """How large the kernel may let any file become: one that is cut there is always found to be too much."""
        return self._limit_bytes + 1 + max(self._before.values(), default=0)

    def excess(self) -> str:
        """Return "" while the limit holds, else the words for the end of the run."""
        try:
            sizes = _sizes(self._directory)
        except OSError as error:  # what hides its files does not get around its limit
            return (
                f"killed by the disk limit of {self._limit_bytes} bytes: its files cannot be counted ({error.strerror})"
            )
        added = sum(max(0, size - self._before.get(file, 0)) for file, size in sizes.items())
        if added <= self._limit_bytes:
            return ""
        return f"killed by the disk limit of {self._limit_bytes} bytes: it had written {added}"


def used_bytes(directory: str, *, besides: str) -> int:
    """Return how large the files below a folder are, but for those below one folder in it. Raises `OSError`."""
    return sum(_sizes(directory, besides=os.path.join(directory, besides)).values())


def _sizes(directory: str, besides: str = "") -> dict[tuple[int, int], int]:
    """Return the size of every file below a folder, by device and inode: a file of several names counts once."""
    sizes: dict[tuple[int, int], int] = {}
    unseen = [directory]
    while unseen:
        folder = unseen.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.path != besides:
                            unseen.append(entry.path)
                        continue
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # the program works on, and has deleted it meanwhile
                    sizes[found.st_dev, found.st_ino] = _size(found)
        except (FileNotFoundError, NotADirectoryError):
            continue  # replaced or deleted meanwhile
    return sizes


def unnamed_bytes(pid: int, directory: str) -> int:
    """Return how large the files are that have no name any more, and are open in a container whose first process is `pid`.

    Of those on the disk of a folder, and in processes that the caller may look into. Raises `OSError` where `pid` is none.
    """
    device, space = os.stat(directory).st_dev, os.stat(f"/proc/{pid}/ns/pid").st_ino
    sizes: dict[int, int] = {}
    if space == os.stat("/proc/self/ns/pid").st_ino:
        return 0  # the container has ended, and somebody else has its number by now
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{process}/ns/pid").st_ino == space:
                for descriptor in os.listdir(f"/proc/{process}/fd"):
                    found = os.stat(f"/proc/{process}/fd/{descriptor}")
                    if found.st_dev == device and found.st_nlink == 0 and stat.S_ISREG(found.st_mode):
                        sizes[found.st_ino] = _size(found)
        except OSError:
            continue  # it has ended or closed that, or it is not ours to look into
    return sum(sizes.values())


def _size(found: os.stat_result) -> int:
    """Return how large a file is; room that was taken beyond its end counts too."""
    taken = found.st_blocks * 512
    return taken if taken > 2 * found.st_size + RESERVE_BYTES else found.st_size
