"""The manifest: what a transfer will bring, told before the first byte of it (docs/wire.md, section 5).

One line an entry: a JSON array `[path, size_bytes, sha256, executable]` and a line feed. What a peer sends is hostile: it is read
a piece at a time, and the first thing that is wrong with it ends the reading.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from rnd.rules.paths import relative_path_problem
from rnd.types.errors import RndError
from rnd.types.executions import FileEntry

MANIFEST_BYTES_MAX: Final = 64 << 20
LINE_BYTES_MAX: Final = 8 << 10
"""Enough for the longest path with every one of its bytes escaped (`\\u0022`), and the rest of the line."""
FILE_BYTES_MAX: Final = 1 << 40

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SHOWN: Final = 120

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class ManifestRefused(RndError):
    """A manifest breaks a rule; the message names the rule and the entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Entries in the order in which their content is sent, and their bytes on the wire."""

    entries: tuple[FileEntry, ...]
    data: bytes
    sha256: str
    file_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What a sender has said of its manifest beforehand, and is held to."""

    manifest_bytes: int
    manifest_sha256: str
    entry_count: int
    file_count: int
    size_bytes: int


def is_sha256(text: str) -> bool:
    """Say whether a text is a SHA-256 as the wire has it: 64 hexadecimal digits in lower case."""
    return _SHA256.fullmatch(text) is not None


def write_manifest(entries: Iterable[FileEntry]) -> Manifest:
    """Return the manifest of these entries, held to the same rules as one that comes. Raises `ManifestRefused`."""
    kept = tuple(entries)
    names = _Names(max_folders=MANIFEST_BYTES_MAX)
    lines: list[str] = []
    for entry in kept:
        _check_entry(entry)
        names.add(entry.relative_path)
        lines.append(_encode([entry.relative_path, entry.size_bytes, entry.sha256, entry.executable]))
    data = "".join(line + "\n" for line in lines).encode()
    if len(data) > MANIFEST_BYTES_MAX:
        raise ManifestRefused(
            f"the names of {len(kept):,} entries make a manifest of {len(data):,} bytes; "
            f"the limit is {MANIFEST_BYTES_MAX:,}"
        )
    return Manifest(
        entries=kept,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        file_count=sum(1 for entry in kept if not _is_folder(entry)),
        size_bytes=sum(entry.size_bytes for entry in kept),
    )


class ManifestReader:
    """Reads the bytes of a manifest as they come, and holds no more of them than the line that has begun.

    `max_folders` bounds the folders that its entries lie in or are: each costs memory, and then an inode.
    """

    def __init__(self, announced: Announced, *, max_folders: int) -> None:
        self._announced = announced
        self._names = _Names(max_folders)
        self._digest = hashlib.sha256()
        self._rest = bytearray()
        self._entries: list[FileEntry] = []
        self._seen_bytes = 0
        self._file_count = 0
        self._size_bytes = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes. Raises `ManifestRefused`; the reader is of no use after that."""
        self._seen_bytes += len(data)
        if self._seen_bytes > self._announced.manifest_bytes:
            raise ManifestRefused(f"the manifest is longer than the announced {self._announced.manifest_bytes:,} bytes")
        self._digest.update(data)
        begin, searched = 0, len(self._rest)
        self._rest += data
        # One line at a time: a piece of nothing but line feeds must not become millions of lines before the first is refused.
        while (end := self._rest.find(b"\n", searched)) != -1:
            self._take_line(self._rest[begin:end])
            begin = searched = end + 1
        del self._rest[:begin]
        if len(self._rest) > LINE_BYTES_MAX:
            raise ManifestRefused(f"line {self._line_number()} is longer than {LINE_BYTES_MAX:,} bytes")

    def finish(self) -> tuple[FileEntry, ...]:
        """Return the entries, all of them in keeping with what was announced. Raises `ManifestRefused`."""
        announced = self._announced
        if self._rest:
            raise ManifestRefused(f"line {self._line_number()} has no end")
        for what, came, said in (
            ("bytes", self._seen_bytes, announced.manifest_bytes),
            ("entries", len(self._entries), announced.entry_count),
            ("files", self._file_count, announced.file_count),
            ("bytes of content", self._size_bytes, announced.size_bytes),
        ):
            if came != said:
                raise ManifestRefused(f"the manifest has {came:,} {what}, announced were {said:,}")
        if self._digest.hexdigest() != announced.manifest_sha256:
            raise ManifestRefused("the SHA-256 of the manifest is not the announced one")
        return tuple(self._entries)

    def _take_line(self, line: bytearray) -> None:
        if len(line) > LINE_BYTES_MAX:
            raise ManifestRefused(f"line {self._line_number()} is longer than {LINE_BYTES_MAX:,} bytes")
        if len(self._entries) >= self._announced.entry_count:
            raise ManifestRefused(f"the manifest has more than the announced {self._announced.entry_count:,} entries")
        entry = _parse_line(line, self._line_number())
        _check_entry(entry)
        self._names.add(entry.relative_path)
        self._size_bytes += entry.size_bytes
        if self._size_bytes > self._announced.size_bytes:
            raise ManifestRefused(f"the files have more than the announced {self._announced.size_bytes:,} bytes")
        self._file_count += not _is_folder(entry)
        self._entries.append(entry)

    def _line_number(self) -> int:
        return len(self._entries) + 1


_Folder: TypeAlias = "dict[str, _Folder | None]"


class _Names:
    """The names of a manifest as a tree: `None` is an entry, a dict a folder that entries lead through.

    Names that differ in case or in Unicode's form are different names, as everywhere here.
    """

    def __init__(self, max_folders: int) -> None:
        self._top: _Folder = {}
        self._max_folders = max_folders
        self._folder_count = 0

    def add(self, path: str) -> None:
        bare = path.removesuffix("/")
        problem = relative_path_problem(bare)
        if problem:
            raise ManifestRefused(f"the path {_show(path)} {problem}")
        *above, name = bare.split("/")
        folder = self._top
        for part in above:
            if part not in folder:
                self._count_folder()
                folder[part] = {}
            inner = folder[part]
            if inner is None:
                raise ManifestRefused(f"the path {_show(path)} leads through another entry")
            folder = inner
        if name in folder:
            what = "appears twice" if folder[name] is None else "is an entry and a folder of other entries"
            raise ManifestRefused(f"the path {_show(path)} {what}")
        if path.endswith("/"):
            self._count_folder()
        folder[name] = None

    def _count_folder(self) -> None:
        self._folder_count += 1
        if self._folder_count > self._max_folders:
            raise ManifestRefused(f"the entries lie in more than {self._max_folders:,} folders")


def _parse_line(line: bytearray, number: int) -> FileEntry:
    try:
        fields = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ManifestRefused(f"line {number} is not JSON in UTF-8") from error
    match fields:
        case [str(path), int(size_bytes), str(sha256), bool(executable)] if not isinstance(size_bytes, bool):
            return FileEntry(relative_path=path, size_bytes=size_bytes, sha256=sha256, executable=executable)
    raise ManifestRefused(f"line {number} is not an array of path, size, SHA-256 and executable")


def _check_entry(entry: FileEntry) -> None:
    """Refuse sizes and hashes that no entry has."""
    if _is_folder(entry):
        if entry.size_bytes or entry.sha256 or entry.executable:
            raise ManifestRefused(
                f"the folder {_show(entry.relative_path)} has a size, a SHA-256 or the executable bit"
            )
        return
    if not 0 <= entry.size_bytes <= FILE_BYTES_MAX:
        raise ManifestRefused(f"the size of {_show(entry.relative_path)} is not from 0 to {FILE_BYTES_MAX:,} bytes")
    if not is_sha256(entry.sha256):
        raise ManifestRefused(f"the SHA-256 of {_show(entry.relative_path)} is not 64 hexadecimal digits in lower case")


def _is_folder(entry: FileEntry) -> bool:
    return entry.relative_path.endswith("/")


def _show(path: str) -> str:
    """Return a path as it may stand in a message: escaped, and not too long."""
    return ascii(path) if len(path) <= _SHOWN else f"{path[:_SHOWN]!a}..."
