"""Verified, durable copies of files, and the folders that a job mounts (document: Data Streaming; Transfer Completion).

Synchronous, for threads. A copy is read, hashed and written in one pass; a destination appears whole, by one rename,
or not at all. Nothing is ever hard-linked: a job that writes to its own copy must not reach anybody else's.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from rnd.rules.paths import validate_relative_path
from rnd.types.errors import CalledOff, JobFailed, TransferFailed, UnfitFiles
from rnd.types.executions import FileEntry
from rnd.workers.durability import Unflushed, parent_folders
from rnd.workers.files import (
    BUFFER_BYTES,
    OpenTree,
    buffer_bytes,
    clear_tree,
    find_clash,
    never_cancelled,
)
from rnd.workers.staged_folder import WRITE_FLAGS, StagedFolder, write_all, write_failure

KERNEL_SLICE_BYTES: Final = 64 << 20
"""How much the kernel copies at a stretch before somebody may call the work off."""

_FICLONE: Final = 0x40049409
_ZEROS: Final = bytes(BUFFER_BYTES)
_NO_KERNEL_COPY: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY})


class Reader(Protocol):
    """An open file that is read from its beginning to its end."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the buffer from the next bytes; return how many, 0 at the end of the file."""

    def close(self) -> None:
        """Give back what the reader holds."""


OpenEntry = Callable[[FileEntry], Reader]
"""Opens one file of a source for reading; raises `UnfitFiles`, `TransferFailed` or `OSError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSource:
    """What one provider contributes to a mount: verified files below `root`; `label` names the provider to a person."""

    root: Path
    entries: Sequence[FileEntry]
    label: str


def no_progress(_: int) -> None:
    """Tell nobody."""


def copy_entries(
    source: Path | OpenEntry,
    items: Sequence[tuple[FileEntry, str]],
    destination: Path,
    *,
    progress: Callable[[int], None] = no_progress,
    cancelled: Callable[[], bool] = never_cancelled,
) -> list[FileEntry]:
    """Copy entries below a folder (or from whatever opens them) to `destination`, each under the name beside it.

    The folder `destination` appears by one rename when every file has its promised size and SHA-256; one that an
    earlier, perhaps interrupted call left is replaced. All of it is durable when this returns, not before: only then
    may anybody be told. `progress` gets the bytes of each buffer. Returns the entries under their new names. Raises `TransferFailed` (the source is not what the manifest promised,
    two files want one name, the disk is full), `CalledOff`; after either nothing of the copy is left.
    """
    with Unflushed() as unflushed:
        copy = copy_unflushed(source, items, destination, unflushed, progress=progress, cancelled=cancelled)
        with _all_or_nothing(copy.folder):
            unflushed.flush()
            copy.settle()
    return copy.entries


@dataclass(frozen=True, slots=True)
class UnflushedCopy:
    """Entries that are whole and verified in their place, and not durable yet: `settle` once they are, else `discard`."""

    entries: list[FileEntry]
    folder: StagedFolder

    def settle(self) -> None:
        """Have it stay: it is flushed. Raises `OSError` where what it replaced cannot be deleted."""
        self.folder.is_durable()
        self.folder.settle()

    def discard(self) -> None:
        """Delete it."""
        self.folder.discard()


def copy_unflushed(
    source: Path | OpenEntry,
    items: Sequence[tuple[FileEntry, str]],
    destination: Path,
    unflushed: Unflushed,
    *,
    progress: Callable[[int], None] = no_progress,
    cancelled: Callable[[], bool] = never_cancelled,
) -> UnflushedCopy:
    """Copy entries as `copy_entries` does, and add what is to be made durable to `unflushed`."""
    staged = StagedFolder(destination)
    copied = named_entries(items)
    with _all_or_nothing(staged):
        staged.lay_out([name for _, name in items])
        with ExitStack() as stack:
            if isinstance(source, Path):
                source = tree_source(stack.enter_context(OpenTree(source)))
            _fill(source, items, staged, progress, cancelled)
        staged.move_in(unflushed)
    return UnflushedCopy(copied, staged)


@contextmanager
def _all_or_nothing(staged: StagedFolder) -> Iterator[None]:
    """Leave nothing of a copy that comes to nothing, and say why in words."""
    try:
        yield
    except BaseException as error:
        staged.discard()
        if isinstance(error, OSError):
            raise write_failure(staged.destination.name, error) from error
        if isinstance(error, UnfitFiles):
            raise TransferFailed(f"the source {error}") from error
        raise


def named_entries(items: Sequence[tuple[FileEntry, str]]) -> list[FileEntry]:
    """Return entries under the names beside them. Raises `TransferFailed` where these are unsafe or clash."""
    named = [_renamed(entry, _checked_name(entry, name)) for entry, name in items]
    _check_names_differ([name for _, name in items])
    return named


def tree_source(tree: OpenTree) -> OpenEntry:
    """Return the function that opens entries of a plain folder for `copy_entries`."""

    def open_entry(entry: FileEntry) -> Reader:
        fd, _ = tree.open_file(entry.relative_path)
        return io.FileIO(fd)

    return open_entry


def copy_verified(
    reader: Reader,
    entry: FileEntry,
    fd: int,
    buffer: bytearray,
    *,
    progress: Callable[[int], None] = no_progress,
    cancelled: Callable[[], bool] = never_cancelled,
) -> None:
    """Copy one file to an empty descriptor and check its size and SHA-256 on the way.

    Raises `TransferFailed` naming the entry where the source is not what its manifest entry promises.
    """
    done, sha256 = copy_hashed(
        reader,
        fd,
        buffer,
        name=entry.relative_path,
        size_bytes=entry.size_bytes,
        progress=progress,
        cancelled=cancelled,
    )
    check_promise(entry, done, sha256)


def check_promise(entry: FileEntry, read_bytes: int, sha256: str) -> None:
    """Raise `TransferFailed` unless a source file that was read has the size and SHA-256 that its entry promises."""
    check_size(entry, read_bytes)
    if sha256 != entry.sha256:
        raise TransferFailed(f"the source file {entry.relative_path} has changed: its SHA-256 is not the promised one")


def check_size(entry: FileEntry, read_bytes: int) -> None:
    """Raise `TransferFailed` unless a source file that was read has the size that its entry promises."""
    if read_bytes != entry.size_bytes:
        came = "more" if read_bytes > entry.size_bytes else f"{read_bytes:,}"
        raise TransferFailed(
            f"the source file {entry.relative_path} has changed: {entry.size_bytes:,} bytes were promised, {came} came"
        )


def copy_hashed(
    reader: Reader,
    fd: int,
    buffer: bytearray,
    *,
    name: str,
    size_bytes: int,
    progress: Callable[[int], None] = no_progress,
    cancelled: Callable[[], bool] = never_cancelled,
) -> tuple[int, str]:
    """Copy one file to an empty descriptor; return how many bytes came and their SHA-256. Blocks of zeros become holes.

    `buffer` is best of `buffer_bytes`. Stops once more than `size_bytes` have come. Raises `TransferFailed` naming `name` where
    the source cannot be read, `CalledOff`, and `OSError` where the destination cannot be written.
    """
    digest = hashlib.sha256()
    view = memoryview(buffer)
    done = 0
    sparse = False
    while count := read_source(reader, view, name):
        if cancelled():
            raise CalledOff("copying was cancelled")
        done += count
        if done > size_bytes:
            break
        digest.update(view[:count])
        sparse = count == BUFFER_BYTES and buffer == _ZEROS
        if sparse:
            os.lseek(fd, count, os.SEEK_CUR)
        else:
            write_all(fd, view[:count])
        progress(count)
    if sparse:
        os.ftruncate(fd, done)
    return done, digest.hexdigest()


def open_source(open_entry: OpenEntry, entry: FileEntry) -> Reader:
    """Open a source file. Raises `TransferFailed` where the disk refuses, and what `open_entry` raises."""
    try:
        return open_entry(entry)
    except OSError as error:
        raise _read_failure(entry.relative_path, error) from error


def read_source(reader: Reader, buffer: memoryview, name: str) -> int:
    """Read the next bytes of a source file; 0 at its end. Raises `TransferFailed` naming it."""
    try:
        return reader.readinto(buffer) or 0
    except OSError as error:
        raise _read_failure(name, error) from error


def place_mount(
    sources: Sequence[MountSource],
    destination: Path,
    *,
    writable: bool,
    cancelled: Callable[[], bool] = never_cancelled,
) -> None:
    """Lay the files of all providers side by side into the folder that a job mounts, anew each time.

    Reflinked or copied inside the kernel. INPUT: files 0444 (0555 executable) in folders 0555; `writable` (BOTH):
    private copies 0644 (0755) in folders 0755. No providers: an empty folder. Not made durable, since a restart lays it
    again. Raises `JobFailed` where two providers share a name, an input is not what was verified, or the disk is full.
    """
    clash = find_clash((source.label, [entry.relative_path for entry in source.entries]) for source in sources)
    if clash:
        raise JobFailed(clash)
    file_mode, folder_mode = (0o644, 0o755) if writable else (0o444, 0o555)
    try:
        clear_tree(destination)
        destination.mkdir(parents=True)
        folders = parent_folders(entry.relative_path for source in sources for entry in source.entries)
        for folder in folders:
            (destination / folder).mkdir()
        for source in sources:
            _lay_files(source, destination, file_mode, cancelled)
        for folder in [*reversed(folders), ""]:
            os.chmod(destination / folder, folder_mode)
    except OSError as error:
        raise JobFailed(f"the mount {destination.name} could not be laid out: {error.strerror or error}") from error


def _fill(
    open_entry: OpenEntry,
    items: Sequence[tuple[FileEntry, str]],
    staged: StagedFolder,
    progress: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> None:
    """Copy every item into the staging folder, verified but not yet durable."""
    buffer = bytearray(buffer_bytes(entry.size_bytes for entry, _ in items))
    for entry, name in items:
        if name.endswith("/"):
            continue
        fd = staged.create_file(name, executable=entry.executable)
        try:
            reader = open_source(open_entry, entry)
            try:
                copy_verified(reader, entry, fd, buffer, progress=progress, cancelled=cancelled)
            finally:
                reader.close()
        finally:
            os.close(fd)


def _checked_name(entry: FileEntry, name: str) -> str:
    """Return a destination name that is safe and is a folder's exactly where the entry is one."""
    try:
        validate_relative_path(name.removesuffix("/"))
    except ValueError as error:
        raise TransferFailed(f"{name!r} cannot be the name of a copy: {error}") from error
    if name.endswith("/") != entry.relative_path.endswith("/"):
        raise TransferFailed(f"{entry.relative_path!r} cannot be copied to {name!r}: one is a folder, the other a file")
    return name


def _renamed(entry: FileEntry, name: str) -> FileEntry:
    """Return the entry under another name; itself where that is its name already, as it is in most big deliveries."""
    return entry if name == entry.relative_path else replace(entry, relative_path=name)


def _check_names_differ(names: Sequence[str]) -> None:
    files: set[str] = set()
    for name in names:
        if name in files:
            raise TransferFailed(f"two files would both be called {name}")
        files.add(name)
    for folder in parent_folders(names):
        if folder in files:
            raise TransferFailed(f"{folder} would be the name of a file and of a folder")


def _read_failure(name: str, error: OSError) -> TransferFailed:
    return TransferFailed(f"the source file {name} could not be read: {error.strerror or error}")


def _lay_files(source: MountSource, destination: Path, file_mode: int, cancelled: Callable[[], bool]) -> None:
    with OpenTree(source.root) as tree:
        for entry in source.entries:
            if entry.relative_path.endswith("/"):
                continue
            source_fd, facts = tree.open_file(entry.relative_path)
            try:
                if facts.st_size != entry.size_bytes:
                    raise tree.unfit(entry.relative_path, "has changed since it was received and verified")
                fd = os.open(destination / entry.relative_path, WRITE_FLAGS, 0o600)
                try:
                    copy_in_kernel(source_fd, fd, entry.size_bytes, cancelled)
                    os.fchmod(fd, file_mode | (0o111 if entry.executable else 0))
                finally:
                    os.close(fd)
            finally:
                os.close(source_fd)


def copy_in_kernel(source_fd: int, fd: int, size_bytes: int, cancelled: Callable[[], bool] = never_cancelled) -> None:
    """Make an empty file share or copy the bytes of another without passing them through this process; holes stay.

    Raises `CalledOff`, and `OSError` where neither disk nor kernel can.
    """
    if not _reflinked(source_fd, fd):
        at = 0
        while at < size_bytes:
            start, end = _next_data(source_fd, at, size_bytes)
            at = start
            while at < end:
                if cancelled():
                    raise CalledOff("copying was cancelled")
                count = _kernel_slice(source_fd, fd, at, min(end - at, KERNEL_SLICE_BYTES))
                if count == 0:
                    break
                at += count
        os.ftruncate(fd, size_bytes)
    if os.fstat(source_fd).st_size != size_bytes:
        raise OSError(errno.EIO, "the file changed its size while it was copied")


def _reflinked(source_fd: int, fd: int) -> bool:
    try:
        fcntl.ioctl(fd, _FICLONE, source_fd)
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
        return False
    return True


def _next_data(fd: int, at: int, size_bytes: int) -> tuple[int, int]:
    """Return where the next bytes that are not a hole begin and end."""
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
        return start, os.lseek(fd, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size_bytes, size_bytes
        return at, size_bytes


def _kernel_slice(source_fd: int, fd: int, at: int, count: int) -> int:
    try:
        return os.copy_file_range(source_fd, fd, count, at, at)
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
    os.lseek(fd, at, os.SEEK_SET)
    return os.sendfile(fd, source_fd, at, count)
