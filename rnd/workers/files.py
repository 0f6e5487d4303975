"""Walking, hashing and clearing of folders that a hostile job may have filled (document: Path Hierarchy).

Everything here is synchronous and meant for a thread. No call ever follows a symbolic link below the folder that it is
given: files are opened relative to folders that are already open, and what counts is what the open file says of itself.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from rnd.rules.paths import validate_relative_path
from rnd.types.errors import CalledOff, UnfitFiles
from rnd.types.executions import FileEntry
from rnd.workers.durability import Unflushed, flushes_each, parent_folders, sync_filesystem

BUFFER_BYTES: Final = 1 << 20
"""One reused buffer of this size serves a whole call: freshly allocated ones cost a page fault every 4 KiB."""

READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEntry:
    """A regular file, or an empty folder (`relative_path` ends in `/`), as a walk found it.

    The last four fields tell the file that was seen from another that took its name, or from itself changed later.
    """

    relative_path: str
    size_bytes: int
    executable: bool
    device: int
    inode: int
    mtime_ns: int
    ctime_ns: int


def buffer_bytes(sizes: Iterable[int]) -> int:
    """Return how big a buffer serves files of these sizes best: a whole small file, and the end that comes after it."""
    return min(BUFFER_BYTES, max(sizes, default=0) + 1)


def never_cancelled() -> bool:
    """Say that nobody has called the work off."""
    return False


class OpenTree:
    """A folder that stays open, below which files are opened one component at a time and links are never followed.

    It keeps the parent folder of the last file open as well, so that a sorted list of files costs one `open` each.
    Not safe for use by two threads at once. Raises `UnfitFiles` with words for what it refuses.
    """

    def __init__(self, root: Path) -> None:
        self.name = root.name
        try:
            self._root_fd = os.open(root, FOLDER_FLAGS)
        except OSError as error:
            raise UnfitFiles(f"{_show(root.name)} {_refusal(error, 'a folder')}") from error
        self._folder = ""
        self._folder_fd = self._root_fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close both folders."""
        self._leave_folder()
        os.close(self._root_fd)

    def folder(self, relative_path: str) -> int:
        """Return a descriptor of the folder at `relative_path` ("" is the root); it stays this object's own."""
        if relative_path == self._folder:
            return self._folder_fd
        self._leave_folder()
        fd = self._root_fd
        for part in filter(None, relative_path.split("/")):
            outer = fd
            try:
                fd = os.open(part, FOLDER_FLAGS, dir_fd=outer)
            except OSError as error:
                raise self.unfit(relative_path, _refusal(error, "a folder")) from error
            finally:
                if outer != self._root_fd:
                    os.close(outer)
        self._folder, self._folder_fd = relative_path, fd
        return fd

    def open_file(self, relative_path: str, *, hard_links: bool = True) -> tuple[int, os.stat_result]:
        """Open a regular file for reading; return its descriptor, which the caller closes, and what it says of itself.

        With `hard_links` false a file of more than one name is refused: the other name may be somebody else's secret.
        """
        parent, _, name = relative_path.rpartition("/")
        folder_fd = self.folder(parent)
        try:
            fd = os.open(name, READ_FLAGS, dir_fd=folder_fd)
        except OSError as error:
            raise self.unfit(relative_path, _refusal(error, "a file")) from error
        facts = os.fstat(fd)
        objection = _objection(facts, hard_links=hard_links)
        if objection:
            os.close(fd)
            raise self.unfit(relative_path, objection)
        return fd, facts

    def unfit(self, relative_path: str, what: str) -> UnfitFiles:
        """Return the error that names a path below this tree and what is wrong with it."""
        return UnfitFiles(f"{_show(self.name)}/{_show(relative_path)} {what}", relative_path=relative_path)

    def _leave_folder(self) -> None:
        if self._folder_fd != self._root_fd:
            os.close(self._folder_fd)
        self._folder, self._folder_fd = "", self._root_fd


def scan_tree(root: Path, *, max_files: int, max_file_bytes: int, hard_links: bool = False) -> list[FoundEntry]:
    """List every regular file and every empty folder below `root`, sorted by relative path.

    Nothing is opened but folders. `max_files` bounds the files and, apart, the folders; `hard_links` allows files of
    more than one name (only for the owner's own folders). Raises `UnfitFiles` naming the first entry that is a link, a
    special file, badly named or too big.
    """
    files: list[FoundEntry] = []
    empty: list[FoundEntry] = []
    pending = [""]
    folders = 0
    with OpenTree(root) as tree:
        while pending:
            folder = pending.pop()
            folders += 1
            before = len(files) + len(pending)
            with os.scandir(tree.folder(folder)) as listing:
                for found in listing:
                    path = f"{folder}/{found.name}" if folder else found.name
                    _check_name(tree, path)
                    facts = found.stat(follow_symlinks=False)
                    if stat.S_ISDIR(facts.st_mode):
                        pending.append(path)
                    else:
                        files.append(_found_file(tree, path, facts, max_file_bytes, hard_links=hard_links))
                    if len(files) > max_files or folders + len(pending) > max_files + 1:
                        raise UnfitFiles(f"{_show(root.name)} holds more than {max_files:,} files or folders")
            if folder and len(files) + len(pending) == before:
                facts = os.fstat(tree.folder(folder))
                empty.append(_found(f"{folder}/", facts, size_bytes=0, executable=False))
    return sorted(files + empty, key=lambda entry: entry.relative_path)


def found_file(path: Path, *, max_file_bytes: int, hard_links: bool = True) -> FoundEntry:
    """Return one regular file as a walk of its folder would find it, by its name alone. Raises `UnfitFiles`."""
    with OpenTree(path.parent) as tree:
        _check_name(tree, path.name)
        fd, facts = tree.open_file(path.name, hard_links=hard_links)
        os.close(fd)
        return _found_file(tree, path.name, facts, max_file_bytes, hard_links=hard_links)


def hash_tree(
    root: Path,
    entries: Sequence[FoundEntry],
    *,
    above: Iterable[Path] = (),
    hard_links: bool = False,
    cancelled: Callable[[], bool] = never_cancelled,
) -> list[FileEntry]:
    """Hash what a walk found and make it durable, so that the manifest returned here may be committed.

    Each file is read through the descriptor that was checked. The names in the folders `above`, on the same file system, are made
    durable with them. Raises what `hash_unflushed` raises.
    """
    with Unflushed() as unflushed:
        hashed = hash_unflushed(root, entries, unflushed, above=above, hard_links=hard_links, cancelled=cancelled)
        unflushed.flush()
    return hashed


def hash_unflushed(
    root: Path,
    entries: Sequence[FoundEntry],
    unflushed: Unflushed,
    *,
    above: Iterable[Path] = (),
    hard_links: bool = False,
    cancelled: Callable[[], bool] = never_cancelled,
) -> list[FileEntry]:
    """Hash what a walk found as `hash_tree` does, and add what is to be made durable to `unflushed`; what is much is flushed at once.

    Raises `UnfitFiles` where a file is not what the walk saw or changes while it is read, `CalledOff`, and
    `OSError` where the disk fails.
    """
    buffer = memoryview(bytearray(buffer_bytes(entry.size_bytes for entry in entries)))
    paths = [entry.relative_path for entry in entries]
    flush_each = flushes_each(paths)
    hashed: list[FileEntry] = []
    with OpenTree(root) as tree:
        for entry in entries:
            sha256 = ""
            if not entry.relative_path.endswith("/"):
                fd, facts = tree.open_file(entry.relative_path, hard_links=hard_links)
                try:
                    sha256 = _hash_open_file(tree, fd, facts, entry, buffer, cancelled)
                    if flush_each:
                        unflushed.add(os.dup(fd))
                finally:
                    os.close(fd)
            hashed.append(_file_entry(entry, sha256))
        if flush_each:
            for folder in ["", *parent_folders(paths)]:
                unflushed.add(os.dup(tree.folder(folder)))
            for way in above:
                unflushed.add_folder(way)
        else:
            sync_filesystem(tree.folder(""))
    return hashed


def check_unchanged(tree: OpenTree, fd: int, facts: os.stat_result, entry: FoundEntry, *, read_bytes: int) -> None:
    """Raise `UnfitFiles` unless a file is what the walk saw, when it was opened (`facts`) and now that it was read."""
    seen = (entry.device, entry.inode, entry.size_bytes, entry.mtime_ns)
    if read_bytes != entry.size_bytes or seen != _identity(facts) or seen != _identity(os.fstat(fd)):
        raise tree.unfit(entry.relative_path, "changed while it was read")


def find_clash(providers: Iterable[tuple[str, Sequence[str]]]) -> str | None:
    """Say which name two providers (label, relative paths) want, or one's file and the other's folder; else `None`."""
    owners: dict[str, str] = {}
    providers = list(providers)
    for label, paths in providers:
        for path in paths:
            if path.endswith("/"):
                continue
            if path in owners:
                return f"{path} comes from both {owners[path]} and {label}"
            owners[path] = label
    for label, paths in providers:
        for folder in parent_folders(paths):
            if folder in owners:
                return f"{folder} is a file from {owners[folder]} and a folder from {label}"
    return None


def free_bytes(path: Path) -> int:
    """Return how many bytes an ordinary user can still write to the file system that holds `path`."""
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize


def clear_tree(path: Path) -> None:
    """Delete a file or a whole folder, read-only folders in it too; links are removed, never followed. Missing is fine.

    However deep the tree, three descriptors and no recursion: folders found inside a folder are moved up to the top
    and emptied from there. Raises `OSError` where something cannot be deleted.
    """
    try:
        parent_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _unlink_unless_folder(parent_fd, path.name):
            return
        with _writable_folder(parent_fd, path.name) as top_fd:
            _empty_folder(top_fd)
        os.rmdir(path.name, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def _empty_folder(top_fd: int) -> None:
    moved = 0
    while names := os.listdir(top_fd):
        for name in names:
            if _unlink_unless_folder(top_fd, name):
                continue
            with _writable_folder(top_fd, name) as folder_fd:
                for inner in os.listdir(folder_fd):
                    if not _unlink_unless_folder(folder_fd, inner):
                        moved = _move_up(folder_fd, inner, top_fd, moved)
            os.rmdir(name, dir_fd=top_fd)


def _move_up(folder_fd: int, name: str, top_fd: int, moved: int) -> int:
    """Move a folder into the top folder under the next free number; return that number."""
    with _writable_folder(folder_fd, name):
        while True:
            moved += 1
            try:
                os.rename(name, f"{moved}.clearing", src_dir_fd=folder_fd, dst_dir_fd=top_fd)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
            else:
                return moved


def _unlink_unless_folder(folder_fd: int, name: str) -> bool:
    """Unlink a name and return true, also where it is gone already; false says that it is a folder."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=folder_fd)
    except FileNotFoundError:
        pass
    return True


@contextmanager
def _writable_folder(parent_fd: int, name: str) -> Iterator[int]:
    """Open a folder that is to be emptied, after giving its owner every right to it."""
    # O_PATH needs no right to the folder itself, and the way through /proc cannot be turned aside by a link.
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        if os.fstat(handle).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{handle}", stat.S_IRWXU)
        fd = os.open(".", FOLDER_FLAGS, dir_fd=handle)
    finally:
        os.close(handle)
    try:
        yield fd
    finally:
        os.close(fd)


def _found_file(
    tree: OpenTree, path: str, facts: os.stat_result, max_file_bytes: int, *, hard_links: bool
) -> FoundEntry:
    objection = _objection(facts, hard_links=hard_links)
    if objection:
        raise tree.unfit(path, objection)
    if facts.st_size > max_file_bytes:
        raise tree.unfit(path, f"has {facts.st_size:,} bytes; the limit for a file is {max_file_bytes:,}")
    return _found(path, facts, size_bytes=facts.st_size, executable=bool(facts.st_mode & stat.S_IXUSR))


def _found(path: str, facts: os.stat_result, *, size_bytes: int, executable: bool) -> FoundEntry:
    return FoundEntry(
        relative_path=path,
        size_bytes=size_bytes,
        executable=executable,
        device=facts.st_dev,
        inode=facts.st_ino,
        mtime_ns=facts.st_mtime_ns,
        ctime_ns=facts.st_ctime_ns,
    )


def _file_entry(entry: FoundEntry, sha256: str) -> FileEntry:
    return FileEntry(
        relative_path=entry.relative_path, size_bytes=entry.size_bytes, sha256=sha256, executable=entry.executable
    )


def _hash_open_file(
    tree: OpenTree,
    fd: int,
    facts: os.stat_result,
    entry: FoundEntry,
    buffer: memoryview,
    cancelled: Callable[[], bool],
) -> str:
    digest = hashlib.sha256()
    done = 0
    while count := os.readv(fd, [buffer]):
        if cancelled():
            raise CalledOff("hashing was cancelled")
        digest.update(buffer[:count])
        done += count
    check_unchanged(tree, fd, facts, entry, read_bytes=done)
    return digest.hexdigest()


def _identity(facts: os.stat_result) -> tuple[int, int, int, int]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _objection(facts: os.stat_result, *, hard_links: bool) -> str:
    """Return why this is not a file that may be carried, or ""."""
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "a folder")
        return f"is {kind}; only files and folders can be carried"
    if facts.st_nlink > 1 and not hard_links:
        return "is a hard link to a file that has another name too; make it a copy"
    return ""


def _check_name(tree: OpenTree, path: str) -> None:
    try:
        validate_relative_path(path)
    except ValueError as error:
        raise tree.unfit(path, f"has a name that cannot be carried: {error}; {_rename_words(path)}") from error


def _rename_words(path: str) -> str:
    if not any("\udc80" <= character <= "\udcff" for character in path):
        return "give it another name"
    return (
        "give it another name: convmv -f latin1 -t utf8 -r --notest FOLDER does so for a folder whose names are Latin-1"
    )


def _refusal(error: OSError, wanted: str) -> str:
    """Say why something below a tree could not be opened."""
    match error.errno:
        case errno.ENOENT:
            return "is missing"
        case errno.ELOOP:
            return "is a symbolic link; only files and folders can be carried"
        case errno.ENOTDIR:
            return f"is not {wanted}"
        case errno.ENXIO:
            return "is a socket or a device; only files and folders can be carried"
        case _:
            return f"cannot be read: {error.strerror}"


def _show(name: str) -> str:
    """Return a name as it may stand in a message and a log: control characters and broken UTF-8 escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]
