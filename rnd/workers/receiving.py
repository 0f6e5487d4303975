"""The receiving end of a transfer on disk: staged, verified, durable (document: Transfer Completion; docs/wire.md, section 5).

Synchronous, for a thread. Bytes are hashed as they are written, once, and held nowhere: memory is what the caller hands in.
One file is open at a time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from rnd.protocol.instructions import Discard, EndFile, LayOut, StagingInstruction, Write
from rnd.types.errors import CalledOff, TransferFailed
from rnd.types.executions import FileEntry
from rnd.workers.copying import no_progress
from rnd.workers.files import never_cancelled
from rnd.workers.staged_folder import StagedFolder, write_all, write_failure

if TYPE_CHECKING:
    from hashlib import _Hash


class Receiving:
    """Carries out what a `ReceiveTransfer` says, into a folder that appears at `destination` when all of it is durable.

    It outlives the loss of a link: the next machine's instructions go on where the last one's ended. Not for two threads at
    once. Whatever raises has discarded what was staged before; after that, and after `discard`, only a new manifest
    is taken. Raises `TransferFailed` (a file is not what the manifest promised, the disk refuses) and `CalledOff`.
    """

    def __init__(
        self,
        destination: Path,
        *,
        progress: Callable[[int], None] = no_progress,
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> None:
        self._staged = StagedFolder(destination)
        self._progress = progress
        self._cancelled = cancelled
        self._entries: tuple[FileEntry, ...] | None = None
        self._ended = 0
        self._open: _OpenFile | None = None

    def carry_out(self, instructions: Iterable[StagingInstruction]) -> None:
        """Do what is said, in order."""
        with self._all_or_nothing():
            for instruction in instructions:
                match instruction:
                    case LayOut():
                        self._lay_out(instruction.entries)
                    case Write():
                        self._write(instruction.index, instruction.offset, instruction.data)
                    case EndFile():
                        self._end_file(instruction.index)
                    case Discard():
                        self.discard()
                    case _:
                        assert_never(instruction)

    def finish(self) -> tuple[FileEntry, ...]:
        """Put the folder in its place and return its entries. All of it is durable then, and not before."""
        with self._all_or_nothing():
            entries = self._laid_out()
            missing = sum(1 for entry in entries if entry.sha256) - self._ended
            if missing:
                raise TransferFailed(f"{missing:,} files have not arrived")
            self._check_wanted()
            self._staged.put_in_place()
        self._entries = None
        return entries

    def discard(self) -> None:
        """Delete what was staged. Nothing to delete is fine."""
        if self._open is not None:
            self._open.close()
            self._open = None
        if self._entries is not None:
            self._entries = None
            self._staged.discard()

    def _lay_out(self, entries: tuple[FileEntry, ...]) -> None:
        self.discard()
        self._entries = entries
        self._ended = 0
        self._staged.lay_out([entry.relative_path for entry in entries])

    def _write(self, index: int, offset: int, data: memoryview) -> None:
        self._check_wanted()
        file = self._file(index)
        if offset != file.size_bytes:
            raise ValueError(f"file {index} has {file.size_bytes} bytes, written was from {offset} on")
        file.write(data)
        self._progress(len(data))

    def _end_file(self, index: int) -> None:
        self._check_wanted()
        file = self._file(index)
        self._open = None
        file.close()
        entry = self._laid_out()[index]
        if file.size_bytes != entry.size_bytes:
            raise TransferFailed(
                f"the file {entry.relative_path} arrived with {file.size_bytes:,} bytes; {entry.size_bytes:,} were promised"
            )
        if file.sha256 != entry.sha256:
            raise TransferFailed(f"the file {entry.relative_path} did not arrive as promised: its SHA-256 is another")
        self._ended += 1

    def _file(self, index: int) -> _OpenFile:
        """Return the file at this index, created where it is not the open one."""
        if self._open is None:
            entry = self._laid_out()[index]
            fd = self._staged.create_file(entry.relative_path, executable=entry.executable)
            self._open = _OpenFile(index, fd)
        if self._open.index != index:
            raise ValueError(f"file {index} was written while file {self._open.index} was open")
        return self._open

    def _laid_out(self) -> tuple[FileEntry, ...]:
        if self._entries is None:
            raise ValueError("nothing is laid out")
        return self._entries

    def _check_wanted(self) -> None:
        if self._cancelled():
            raise CalledOff("receiving was cancelled")

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError):
                raise write_failure(self._staged.destination.name, error) from error
            raise


class _OpenFile:
    """The file that is being written."""

    def __init__(self, index: int, fd: int) -> None:
        self.index = index
        self.size_bytes = 0
        self._fd = fd
        self._digest: _Hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: memoryview) -> None:
        self._digest.update(data)
        write_all(self._fd, data)
        self.size_bytes += len(data)

    def close(self) -> None:
        os.close(self._fd)
