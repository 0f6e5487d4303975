"""Writes result files below one folder: streamed, verified, renamed into place, and never outside of that folder."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_native_id, local
from typing import Any, Final
from urllib.parse import quote

from rnd.cli import words
from rnd.cli.connection import Daemon
from rnd.cli.failures import CommandFailed

CHUNK_BYTES: Final = 1 << 20
AT_ONCE: Final = 8
"""How many files are fetched at the same time: while one waits for the disk, others come in."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Fetcher:
    """Brings result files below `directory`. A file that is there already and is the same is left as it is."""

    def __init__(self, daemon: Daemon, directory: Path, *, force: bool = False) -> None:
        self._daemon = daemon
        self._own = local()
        self._daemons: list[Daemon] = []
        self._directory = directory
        self._force = force

    def fetch_all(self, execution_id: int, items: list[dict[str, Any]], places: list[str]) -> list[Path]:
        """Fetch every item to its place as `fetch` does, several at once; return where they are, in the same order.

        Raises the first `CommandFailed`; what was under way then is finished and the rest left.
        """
        for place in places:
            safe_parts(place)  # nothing is written where one of them leads astray
        if len(items) <= 1:
            return [self.fetch(execution_id, item, place) for item, place in zip(items, places, strict=True)]
        from concurrent.futures import ThreadPoolExecutor  # only many files need it

        pool = ThreadPoolExecutor(max_workers=min(AT_ONCE, len(items)))
        try:
            return list(pool.map(lambda item, place: self.fetch(execution_id, item, place), items, places))
        finally:
            pool.shutdown(cancel_futures=True)
            for daemon in self._daemons:
                daemon.close()

    def fetch(self, execution_id: int, item: dict[str, Any], place: str) -> Path:
        """Fetch one item of `execution.results` to the relative `place`, and return where it is.

        Raises `CommandFailed` for a path that leads out of the folder, an existing other file, and bytes that are not
        those the peer has announced.
        """
        parts = safe_parts(place)
        with self._folder(parts[:-1]) as folder:
            if item["path"].endswith("/"):
                _make_folder(folder, parts[-1], self._directory.joinpath(*parts))
            elif not self._is_there(folder, parts, item):
                self._download(folder, parts, execution_id, item)
        return self._directory.joinpath(*parts)

    def _connected(self) -> Daemon:
        """Return the daemon by a connection of this thread's own, which serves one file after the other."""
        daemon: Daemon | None = getattr(self._own, "daemon", None)
        if daemon is None:
            daemon = self._own.daemon = self._daemon.another()
            self._daemons.append(daemon)
        return daemon

    @contextmanager
    def _folder(self, parts: list[str]) -> Iterator[int]:
        """Open the folder of these parts, made where it is missing; no symbolic link below the folder is followed."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CommandFailed(f"{self._directory} cannot be written: {error.strerror}") from None
        try:
            for index, part in enumerate(parts):
                inner = _make_folder(folder, part, self._directory.joinpath(*parts[: index + 1]), keep=True)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _is_there(self, folder: int, parts: list[str], item: dict[str, Any]) -> bool:
        """Tell whether the very same file is there. Raises `CommandFailed` where another one is."""
        try:
            found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        path = self._directory.joinpath(*parts)
        if stat.S_ISDIR(found.st_mode):
            raise CommandFailed(f"{path} is a folder, where a file has to go", hint="Choose another -o DIR.")
        if stat.S_ISREG(found.st_mode) and found.st_size == item["size_bytes"]:
            descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            with open(descriptor, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == item["sha256"]:
                    return True
        if not self._force:
            raise CommandFailed(
                f"{path} is there already and says something else",
                hint="Choose another -o DIR, or use rnd results --force.",
            )
        return False

    def _download(self, folder: int, parts: list[str], execution_id: int, item: dict[str, Any]) -> None:
        url = f"/results/{execution_id}/{item['node_id']}/{item['connection_id']}/{_quoted(item['path'])}"
        response = self._connected().download(url)
        part = f".{parts[-1][:80]}.{get_native_id()}.part"
        mode = 0o777 if item.get("executable") else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        path = self._directory.joinpath(*parts)
        complete = False
        try:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
            with open(os.open(part, flags, mode, dir_fd=folder), "wb", buffering=0) as file:
                digest, size_bytes = hashlib.sha256(), 0
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    digest.update(chunk)
                    size_bytes += len(chunk)
                complete = True
                os.fsync(file.fileno())
            if size_bytes != item["size_bytes"] or digest.hexdigest() != item["sha256"]:
                raise CommandFailed(
                    f"{path} did not arrive as it was announced ({size_bytes} of {item['size_bytes']} bytes)",
                    hint="Fetch it again; if that does not help, the file on the peer's disk has changed.",
                )
            os.rename(part, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise CommandFailed(f"{path} cannot be written: {error.strerror or error}") from None
        finally:
            response.close()
            if not complete:
                self._connected().close()  # the rest of the body would be taken for the next answer
            with suppress(OSError):
                os.unlink(part, dir_fd=folder)


def _quoted(path: str) -> str:
    # Names that are no UTF-8 travel in JSON as lone surrogates, and in a URL as the bytes they stand for.
    return quote(path, errors="surrogateescape")


def _make_folder(folder: int, name: str, path: Path, *, keep: bool = False) -> int:
    """Make a folder where it is missing; with `keep` return it opened. Raises `CommandFailed`."""
    try:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
        opened = os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            message = f"{path} is a file or a symbolic link, where a folder has to be"
            raise CommandFailed(message, hint="Choose another -o DIR.") from None
        raise CommandFailed(f"{path} cannot be written: {error.strerror}") from None
    if not keep:
        os.close(opened)
        return -1
    return opened


def safe_parts(place: str) -> list[str]:
    """Return the parts of a relative path. Raises `CommandFailed` for one that could lead anywhere else."""
    parts = place.rstrip("/").split("/")
    if place.startswith("/") or any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise CommandFailed(f"the peer names a result {words.safe(place)!r}, which leads out of the folder")
    return parts


def folder_name(name: str) -> str:
    """Return a job's name as the name of one folder: no separators, nothing hidden, nothing that a shell would stumble on."""
    cleaned = "".join(c if c.isalnum() or c in "-_. ()" else "_" for c in name).strip(" .")
    return cleaned[:100] or "node"
