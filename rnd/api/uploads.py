"""Files that clients send ahead of `service.create` or `workflow.execute`: streamed to `<data-dir>/uploads/`, never held in memory."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
from collections.abc import AsyncIterable
from datetime import timedelta
from pathlib import Path
from typing import Final

from rnd.api.rendering import JsonMembers, render
from rnd.database import uploads
from rnd.database.connection import Database
from rnd.database.uploads import Upload
from rnd.log import get_logger
from rnd.types.config import Limits
from rnd.types.errors import Conflict, LimitExceeded, NotFound, RndError
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock
from rnd.types.times import to_text

KEPT_FOR_S: Final = 24 * 3600.0
SWEEP_INTERVAL_S: Final = 600.0
FLOOR_CHECK_BYTES: Final = 64 << 20
MAX_UPLOADS: Final = 10_000

log = get_logger()


class _PartFile:
    """A file that is not there until it is whole: hidden name, hash while writing, then made durable and renamed."""

    def __init__(self, directory: Path, name: str) -> None:
        """Create the part file. Raises `FileExistsError` where another upload of that name is under way."""
        self._final = directory / name
        self._part = directory / f".{name}.part"
        self._descriptor = os.open(
            self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._digest.update(chunk)
        self.size_bytes += len(chunk)

    def finish(self) -> str:
        """Make it durable under its name and return its sha256. Raises `FileExistsError`."""
        os.fsync(self._descriptor)
        os.link(self._part, self._final)  # refuses an existing name, which rename would replace
        self._part.unlink()
        _fsync_directory(self._final.parent)
        return self._digest.hexdigest()

    def close(self) -> None:
        os.close(self._descriptor)
        self._part.unlink(missing_ok=True)


class UploadStore:
    """The folder of waiting uploads and their rows."""

    def __init__(self, directory: Path, database: Database, clock: Clock, limits: Limits) -> None:
        self.directory = directory
        self._database = database
        self._clock = clock
        self._limits = limits

    async def receive(self, name: str, chunks: AsyncIterable[bytes], *, announced_bytes: int | None) -> Upload:
        """Store a stream under a name. Raises `Conflict` (name taken), `LimitExceeded` (too big, disk nearly full)."""
        self._check_room(announced_bytes or 0)
        waiting = await self._database.read(lambda conn: uploads.list_uploads(conn, limit=1))
        if waiting.total >= MAX_UPLOADS:
            raise LimitExceeded(f"{MAX_UPLOADS} uploads wait already", hint="upload.delete those that nobody needs.")
        try:
            part = await asyncio.to_thread(self._begin, name)
        except FileExistsError:
            raise _taken(name) from None
        try:
            checked_bytes = 0
            async for chunk in chunks:
                if part.size_bytes + len(chunk) - checked_bytes >= FLOOR_CHECK_BYTES:
                    self._check_room(0)
                    checked_bytes = part.size_bytes
                if part.size_bytes + len(chunk) > self._limits.upload_bytes:
                    raise _too_big(self._limits.upload_bytes)
                await asyncio.to_thread(part.write, chunk)
            sha256 = await asyncio.to_thread(part.finish)
        except FileExistsError:
            raise _taken(name) from None
        finally:
            await asyncio.to_thread(part.close)
        now = self._clock.now()
        upload = await self._database.write(
            lambda conn: uploads.add_upload(conn, name=name, size_bytes=part.size_bytes, sha256=sha256, now=now)
        )
        log.info(LogEvent.UPLOAD_RECEIVED, name=name, bytes=part.size_bytes)
        return upload

    async def claim(self, name: str) -> Path:
        """Return the path of a waiting upload and keep it from expiring for another day. Raises `NotFound`."""
        now = self._clock.now()
        await self._database.write(lambda conn: uploads.touch_upload(conn, name, now=now))
        return self.directory / name

    async def delete(self, name: str) -> None:
        """Remove a waiting upload. Raises `NotFound`, `Conflict` while an execution has it to send."""
        await self._database.write(lambda conn: uploads.give_up_upload(conn, name))
        await asyncio.to_thread((self.directory / name).unlink, missing_ok=True)

    async def run(self) -> None:
        """Drop what was not used for a day, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                await self.sweep()
            except (RndError, OSError) as error:  # the disk or the database may be well again next time
                log.error(LogEvent.INTERNAL_ERROR, where="dropping old uploads", exc_info=error)

    async def sweep(self, *, starting: bool = False) -> None:
        """Drop expired uploads that no execution has to send; when starting, before any comes in, also what a crash left: files or rows alone."""
        before = self._clock.now() - timedelta(seconds=KEPT_FOR_S)
        for name in await self._database.write(lambda conn: uploads.delete_unused_uploads(conn, before=before)):
            await asyncio.to_thread((self.directory / name).unlink, missing_ok=True)
            log.info(LogEvent.UPLOAD_DROPPED, name=name)
        if starting:
            await self._agree_with_rows()

    # ------------------------------------------------------------------ private

    def _begin(self, name: str) -> _PartFile:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        if (self.directory / name).exists():
            raise FileExistsError(name)
        return _PartFile(self.directory, name)

    def _check_room(self, announced_bytes: int) -> None:
        if announced_bytes > self._limits.upload_bytes:
            raise _too_big(self._limits.upload_bytes)
        status = os.statvfs(self.directory.parent)
        if status.f_bavail * status.f_frsize - announced_bytes < self._limits.disk_floor_bytes:
            raise LimitExceeded(
                "The disk is nearly full", hint="Free space on the peer's disk, or lower limits.disk_floor_bytes."
            )

    async def _agree_with_rows(self) -> None:
        rows = await self._database.read(lambda conn: uploads.list_uploads(conn, limit=MAX_UPLOADS))
        known = {row.name for row in rows.items}
        for name in known - await asyncio.to_thread(self._files_kept, known):
            with contextlib.suppress(NotFound):
                await self._database.write(functools.partial(uploads.delete_upload, name=name))

    def _files_kept(self, known: set[str]) -> set[str]:
        """Remove files that no row knows, which a crash left behind, and return the names of the others."""
        found = set()
        for path in self.directory.iterdir() if self.directory.is_dir() else ():
            if path.name in known:
                found.add(path.name)
            elif not path.is_dir() or path.is_symlink():
                path.unlink(missing_ok=True)
        return found


def render_upload(upload: Upload) -> JsonMembers:
    """Return an upload as clients see it."""
    members: JsonMembers = render(upload)
    del members["used_at"]
    return {**members, "expires_at": to_text(upload.used_at + timedelta(seconds=KEPT_FOR_S))}


def _taken(name: str) -> Conflict:
    return Conflict(f"Upload {name} exists already", hint="Choose another name, or upload.delete the old file first.")


def _too_big(limit_bytes: int) -> LimitExceeded:
    return LimitExceeded(f"An upload has at most {limit_bytes} bytes", hint="Split it, or raise limits.upload_bytes.")


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
