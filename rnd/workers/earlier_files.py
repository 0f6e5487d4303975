"""Files of deliveries that have arrived earlier: found in the manifests beside their folders, and opened to be copied into
another delivery (design section 6).

Synchronous, for a thread. What is found may have been changed or deleted since; whoever copies it hashes it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from rnd.protocol.manifest import LINE_BYTES_MAX
from rnd.rules.paths import relative_path_problem
from rnd.types.executions import FileEntry
from rnd.workers.copying import Reader
from rnd.workers.files import OpenTree
from rnd.workers.part_notes import manifest_beside

RECOGNISED_FROM_BYTES: Final = 1 << 20
"""Shorter deliveries are always sent, and not remembered: one frame brings them sooner than the sender could be told what is
here, which takes a way there and back. Most deliveries are that short, and cost nothing for it."""
LINES_FOR_EACH: Final = 4
LINES_MORE: Final = 10_000
"""How many lines of earlier manifests are read to find the files of a new one: so many for each of its entries, and so many
more. A line costs half a microsecond and a file that comes fifty or more: looking in vain is never what takes the time."""


class EarlierFolder(NamedTuple):
    """A folder in which so many entries have arrived."""

    path: Path
    entry_count: int


class EarlierFile(NamedTuple):
    """Where a file has arrived."""

    folder: Path
    relative_path: str


@dataclass(frozen=True, slots=True)
class Found:
    """Where files lie, by the indices of the entries whose content they had, those of one folder together; and the folders
    that are not there any more."""

    files: dict[int, EarlierFile] = field(default_factory=dict)
    gone: list[Path] = field(default_factory=list)


def look_through(folders: Sequence[EarlierFolder], entries: Sequence[FileEntry]) -> Found:
    """Look for files with the size and SHA-256 of these entries in folders, in this order. Folders of too many entries are passed
    over.
    """
    wanted: dict[bytes, list[int]] = {}
    for index, entry in enumerate(entries):
        if entry.size_bytes:
            wanted.setdefault(b'"%b"' % entry.sha256.encode(), []).append(index)
    found = Found()
    left = LINES_FOR_EACH * len(entries) + LINES_MORE
    for folder in folders:
        if not wanted:
            break
        if folder.entry_count > left:
            continue
        left -= folder.entry_count
        try:
            for content, path, size_bytes in _lines(manifest_beside(folder.path), wanted):
                for index in wanted.pop(content):
                    if entries[index].size_bytes == size_bytes:
                        found.files[index] = EarlierFile(folder.path, path)
        except FileNotFoundError:
            found.gone.append(folder.path)
        except (OSError, ValueError):
            continue  # half a manifest is as good as it goes
    return found


def _lines(manifest: Path, wanted: Mapping[bytes, object]) -> Iterator[tuple[bytes, str, int]]:
    """Yield content, path and size of those entries of a manifest whose content, the SHA-256 as it stands there, is wanted.

    Only these are parsed. Raises `OSError`, and `ValueError` where the manifest is spoilt.
    """
    with manifest.open("rb") as file:
        while line := file.readline(LINE_BYTES_MAX + 1):
            _, content, _ = line.rsplit(b",", 2)
            if content not in wanted:
                continue
            match json.loads(line.decode()):
                case [str(path), int(size_bytes), str(), bool()] if relative_path_problem(path) is None:
                    yield content, path, size_bytes
                case _:
                    raise ValueError("this is no file of a manifest")


class EarlierFolders:
    """Opens such files. One folder is open at a time, so files that lie together are best opened together."""

    def __init__(self) -> None:
        self._tree: OpenTree | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._close()

    def open(self, file: EarlierFile) -> Reader:
        """Open a file for reading; links are not followed. Raises `UnfitFiles` where it is not there as a file any more."""
        if self._tree is None or self._folder != file.folder:
            self._close()
            self._tree, self._folder = OpenTree(file.folder), file.folder
        fd, _ = self._tree.open_file(file.relative_path)
        return io.FileIO(fd)

    def _close(self) -> None:
        if self._tree is not None:
            self._tree.close()
            self._tree = None
