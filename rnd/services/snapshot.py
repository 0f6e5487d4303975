"""Taking in files of this host as the snapshot of a DATA service, and reading them back (document: DATA Nodes).

A snapshot is a folder `<data-dir>/services/<uid>/` that appears by one rename and never changes. Each file lies in it
under its own relative path: as it is, or sealed in STREAM form under the service's data key. Synchronous, for threads.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rnd.protocol.sealing import CHUNK_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES, Stream, chunk_count, sealed_bytes
from rnd.rules.upload_names import UPLOADS_FOLDER
from rnd.types.errors import CalledOff, SealBroken, TransferFailed, UnfitFiles
from rnd.types.executions import FileEntry
from rnd.workers.copying import Reader, copy_hashed
from rnd.workers.durability import flush_folders, flushes_each, make_folders, parent_folders
from rnd.workers.files import (
    BUFFER_BYTES,
    READ_FLAGS,
    FoundEntry,
    OpenTree,
    check_unchanged,
    clear_tree,
    find_clash,
    found_file,
    scan_tree,
)
from rnd.workers.staged_folder import WRITE_FLAGS, replace_folder, write_all

_CONTEXT_LABEL: Final = "rnd data file"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRules:
    """Which files of this host may be taken in, and how many. Both kinds of folder are resolved paths."""

    allowed_roots: tuple[Path, ...]
    data_dir: Path
    max_files: int
    max_file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What one given path contributes: entries below `root`. `label` is the path as it was given.

    `sha256` is set for an upload: it was hashed as it arrived, and is linked instead of copied where it stays plain.
    """

    root: Path
    found: Sequence[FoundEntry]
    label: str
    sha256: str = ""


def find_host_source(given: str, rules: HostRules) -> Source:
    """Find what a given path names: a file under its own name, or everything in a folder.

    The path itself may lead through symbolic links of the owner's; what lies below it may not. Raises `UnfitFiles`
    with words for a path that is relative, missing, outside the allowed roots, or holds what cannot be carried.
    """
    if not given or not Path(given).is_absolute():
        raise UnfitFiles(f"path {given!r} must be absolute")
    try:
        path = Path(given).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnfitFiles(f"{given} cannot be found: {reason}") from error
    if not any(path.is_relative_to(root) for root in rules.allowed_roots):
        raise UnfitFiles(f"{given} lies outside the folders that may be offered (allowed_roots)")
    if path.is_relative_to(rules.data_dir) or rules.data_dir.is_relative_to(path):
        raise UnfitFiles(f"{given} lies in the daemon's data directory or holds it; that cannot be offered")
    if not path.is_dir():
        found = [found_file(path, max_file_bytes=rules.max_file_bytes)]
        return Source(root=path.parent, found=found, label=given)
    entries = scan_tree(path, max_files=rules.max_files, max_file_bytes=rules.max_file_bytes, hard_links=True)
    if not entries:
        raise UnfitFiles(f"there is nothing in {given}")
    return Source(root=path, found=entries, label=given)


def find_upload(name: str, rules: HostRules) -> Source:
    """Find a file that a client has uploaded. Raises `UnfitFiles`."""
    folder = (rules.data_dir / UPLOADS_FOLDER).resolve()
    found = found_file(folder / name, max_file_bytes=rules.max_file_bytes)
    return Source(root=folder, found=[found], label=f"upload {name}")


def check_side_by_side(sources: Sequence[Source], *, max_files: int) -> None:
    """Check that the sources fit into one folder. Raises `UnfitFiles` naming the clash or the number."""
    clash = find_clash((source.label, [entry.relative_path for entry in source.found]) for source in sources)
    if clash:
        raise UnfitFiles(clash)
    count = sum(len(source.found) for source in sources)
    if count > max_files:
        raise UnfitFiles(f"these paths hold {count:,} files; the limit is {max_files:,}")


def take_snapshot(
    sources: Sequence[Source],
    folder: Path,
    *,
    data_key: bytes | None,
    cancelled: Callable[[], bool],
) -> list[FileEntry]:
    """Copy the sources into `folder`, which appears whole, durable and by one rename; return its manifest by path.

    Each file is read once: hashed, sealed where there is a data key, and written in the same pass. Raises `UnfitFiles`
    where a file is not what was found a moment ago, `CalledOff`, `TransferFailed` where it cannot be read, and
    `OSError` where the disk refuses. After an error nothing is left.
    """
    staging = folder.with_name(f".{folder.name}.part")
    paths = [entry.relative_path for source in sources for entry in source.found]
    flush_each = flushes_each(paths)
    entries: dict[str, FileEntry] = {}
    try:
        make_folders(folder.parent)
        staging.mkdir(mode=0o700)
        for inner in parent_folders(paths):
            (staging / inner).mkdir(mode=0o700)
        taker = _Taker(staging, folder.name, data_key, flush_each=flush_each, cancelled=cancelled)
        for source in sources:
            taker.take(source, entries)
        with OpenTree(staging) as tree:
            flush_folders(tree.folder, paths, flush_each=flush_each)
        replace_folder(staging, folder)
    except BaseException:
        clear_tree(staging)
        raise
    return _without_filled_folders(entries)


def manifest_sha256(entries: Iterable[FileEntry]) -> str:
    """Return the hash of a manifest: of one line an entry, `<sha256 or -> <bytes> <x or -> <path>`, sorted by path."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.relative_path):
        mark = "x" if entry.executable else "-"
        digest.update(f"{entry.sha256 or '-'} {entry.size_bytes} {mark} {entry.relative_path}\n".encode())
    return digest.hexdigest()


def open_stored(folder: Path, entry: FileEntry, data_key: bytes | None, *, label: str) -> Reader:
    """Open one file of a snapshot for reading, opening its seal on the way where there is a data key.

    Raises `TransferFailed`, naming the file and the service (`label`), where it is gone, cut or changed; a plain one
    is known by its SHA-256, which the copy checks.
    """
    try:
        fd = os.open(folder / entry.relative_path, READ_FLAGS)
    except OSError as error:
        raise TransferFailed(f"{entry.relative_path} of {label} cannot be opened: {error.strerror}") from error
    if data_key is None:
        return io.FileIO(fd)
    return SealedReader(fd, entry, Stream(data_key, _context(folder.name, entry.relative_path)), label=label)


class SealedReader:
    """Reads the plain content of one sealed file, a chunk at a time; every byte that it gives was authenticated."""

    def __init__(self, fd: int, entry: FileEntry, stream: Stream, *, label: str) -> None:
        self._fd = fd
        self._name = f"{entry.relative_path} of {label}"
        self._stream = stream
        self._chunks = chunk_count(entry.size_bytes)
        self._index = 0
        self._sealed = bytearray(min(SEALED_CHUNK_BYTES, sealed_bytes(entry.size_bytes)))
        self._plain = bytearray()
        self._left = memoryview(b"")
        if os.fstat(fd).st_size != sealed_bytes(entry.size_bytes):
            os.close(fd)
            raise self._broken()

    def readinto(self, buffer: memoryview, /) -> int:
        """Give the next bytes; 0 at the end. Raises `TransferFailed` where the stored file was tampered with."""
        if not self._left:
            if self._index == self._chunks:
                return 0
            if len(buffer) >= CHUNK_BYTES:
                return self._next_chunk(buffer)
            self._plain = self._plain or bytearray(len(self._sealed) - TAG_BYTES)
            self._left = memoryview(self._plain)[: self._next_chunk(memoryview(self._plain))]
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        """Close the stored file."""
        os.close(self._fd)

    def _next_chunk(self, into: memoryview) -> int:
        sealed = memoryview(self._sealed)
        sealed = sealed[: read_full(self._fd, sealed)]
        final = self._index == self._chunks - 1
        try:
            size = self._stream.open_chunk(self._index, sealed, final=final, into=into)
        except SealBroken as error:
            raise self._broken() from error
        self._index += 1
        return size

    def _broken(self) -> TransferFailed:
        return TransferFailed(f"the stored file {self._name} was changed or cut since it was taken in")


def read_full(fd: int, buffer: memoryview) -> int:
    """Fill the buffer unless the file ends before; return how many bytes it holds."""
    done = 0
    while done < len(buffer) and (count := os.readv(fd, [buffer[done:]])):
        done += count
    return done


class _Taker:
    """The pass over all files of one snapshot, with its buffers."""

    def __init__(
        self, staging: Path, uid: str, data_key: bytes | None, *, flush_each: bool, cancelled: Callable[[], bool]
    ) -> None:
        self._staging = staging
        self._uid = uid
        self._data_key = data_key
        self._flush_each = flush_each
        self._cancelled = cancelled
        self._buffer = bytearray(BUFFER_BYTES)
        self._sealed = memoryview(bytearray(SEALED_CHUNK_BYTES if data_key else 0))

    def take(self, source: Source, entries: dict[str, FileEntry]) -> None:
        """Take every entry of one source into the staging folder and its manifest entry into `entries`."""
        with OpenTree(source.root) as tree:
            _check_place(tree, source)
            for found in source.found:
                path = found.relative_path
                sha256 = ""
                if not path.endswith("/"):
                    sha256 = self._take_upload(source, found) or self._take_file(tree, found)
                entries[path] = FileEntry(
                    relative_path=path, size_bytes=found.size_bytes, sha256=sha256, executable=found.executable
                )

    def _take_upload(self, source: Source, found: FoundEntry) -> str:
        """Link an upload that stays plain, since nobody will ever write to it again; "": it has to be read."""
        if not source.sha256 or self._data_key is not None:
            return ""
        try:
            os.link(source.root / found.relative_path, self._staging / found.relative_path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK):
                raise
            return ""
        return source.sha256

    def _take_file(self, tree: OpenTree, found: FoundEntry) -> str:
        source_fd, facts = tree.open_file(found.relative_path)
        reader = io.FileIO(source_fd)
        fd = -1
        try:
            fd = os.open(f"{self._staging}/{found.relative_path}", WRITE_FLAGS, 0o600)
            done, sha256 = self._store(reader, fd, found)
            check_unchanged(tree, source_fd, facts, found, read_bytes=done)
            if self._flush_each:
                os.fsync(fd)
        finally:
            reader.close()
            if fd >= 0:
                os.close(fd)
        return sha256

    def _store(self, reader: io.FileIO, fd: int, found: FoundEntry) -> tuple[int, str]:
        if self._data_key is not None:
            return self._store_sealed(
                reader, fd, found, Stream(self._data_key, _context(self._uid, found.relative_path))
            )
        return copy_hashed(
            reader,
            fd,
            self._buffer,
            name=found.relative_path,
            size_bytes=found.size_bytes,
            cancelled=self._cancelled,
        )

    def _store_sealed(self, reader: io.FileIO, fd: int, found: FoundEntry, stream: Stream) -> tuple[int, str]:
        digest = hashlib.sha256()
        done = 0
        last = chunk_count(found.size_bytes) - 1
        for index in range(last + 1):
            if self._cancelled():
                raise CalledOff("taking the files in was cancelled")
            wanted = min(CHUNK_BYTES, found.size_bytes - done)
            plain = memoryview(self._buffer)[:wanted]
            count = read_full(reader.fileno(), plain)
            done += count
            if count < wanted:
                break
            digest.update(plain)
            size = stream.seal_chunk(index, plain, final=index == last, into=self._sealed)
            write_all(fd, self._sealed[:size])
        return done, digest.hexdigest()


def _check_place(tree: OpenTree, source: Source) -> None:
    """Refuse a folder that was moved or swapped for a link between finding it and opening it."""
    if os.readlink(f"/proc/self/fd/{tree.folder('')}") != str(source.root):
        raise UnfitFiles(f"{source.label} changed while it was taken in")


def _without_filled_folders(entries: Mapping[str, FileEntry]) -> list[FileEntry]:
    """Return the manifest by path, without a folder that was empty in one source and has files from another."""
    filled = {f"{folder}/" for folder in parent_folders(path.rstrip("/") for path in entries)}
    return [entries[path] for path in sorted(entries) if path not in filled]


def _context(uid: str, relative_path: str) -> bytes:
    return f"{_CONTEXT_LABEL}\0{uid}\0{relative_path}".encode()
