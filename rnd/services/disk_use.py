"""Counts what a run adds to its job's folder, so that its disk limit holds for all of it and not file by file.

What was there before (inputs, mounts filled from them) does not count. What a program writes elsewhere cannot be seen
here: only confinement keeps it from doing so. Standard library only, since keepers use it.
"""

from __future__ import annotations

import os


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
                    sizes[found.st_dev, found.st_ino] = found.st_size
        except (FileNotFoundError, NotADirectoryError):
            continue  # replaced or deleted meanwhile
    return sizes
