"""What lies below a folder in which a daemon is at work: entries may go away while somebody looks."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path


def found_below(folder: Path, pattern: str) -> list[Path]:
    """Return the files and folders below `folder` whose last names, as many as `pattern` has, match it."""
    count = pattern.count("/") + 1
    found = []
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if fnmatchcase("/".join(path.relative_to(folder).parts[-count:]), pattern):
                found.append(path)
    return sorted(found)


def bytes_of(path: Path) -> int:
    """Return how many bytes of the disk a file or folder takes; 0 if it is gone."""
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0
