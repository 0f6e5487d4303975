"""Opens files below a folder without following a symlink anywhere on the way: jobs' outputs are hostile."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rnd.types.errors import NotFound


def open_below(root: Path, relative_path: str) -> int:
    """Return a descriptor of the regular file at `relative_path` below `root`, every component opened O_NOFOLLOW.

    `root` itself is a path of ours. Raises `NotFound` for anything else: a link, a folder, a device, `..`, nothing.
    """
    parts = relative_path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise NotFound("There is no such file")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = inner
            # O_NONBLOCK: opening a fifo that a job has left must not wait for a writer.
            descriptor = os.open(parts[-1], flags | os.O_NONBLOCK, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError:
        raise NotFound("There is no such file") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotFound("There is no such file")
    return descriptor
