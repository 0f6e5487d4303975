"""The sending end of a transfer on disk: a manifest, and the bytes of its stream from any offset on
(document: Transfer Initiation; docs/wire.md, section 5).

Synchronous, for a thread. What is read is not hashed again: the receiver hashes all of it and takes nothing that is not what
the manifest promises. Where it objects, `verify` tells whether a source has changed since its manifest was made. Memory is
the manifest and the caller's buffer; one file is open at a time.
"""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from types import TracebackType
from typing import Final, Self

from rnd.protocol.manifest import Manifest, ManifestRefused, write_manifest
from rnd.types.errors import CalledOff, TransferFailed, UnfitFiles
from rnd.types.executions import FileEntry
from rnd.workers.copying import OpenEntry, Reader, check_promise, check_size, named_entries, open_source, read_source
from rnd.workers.files import buffer_bytes, never_cancelled


class Sending:
    """The stream of one transfer: the manifest of `items` under the names beside them, and then their content.

    `open_entry` gets the entries as they are in `items`. Not for two threads at once. Raises `TransferFailed` where a name cannot travel, or
    a source is not what its entry promises, and `CalledOff`.
    """

    def __init__(
        self,
        open_entry: OpenEntry,
        items: Sequence[tuple[FileEntry, str]],
        *,
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> None:
        try:
            self.manifest: Final[Manifest] = write_manifest(named_entries(items))
        except ManifestRefused as error:
            raise TransferFailed(f"this cannot be sent: {error}") from error
        self._entries = [entry for entry, _ in items]
        self._take_sources(frozenset())
        self._open_entry = open_entry
        self._cancelled = cancelled
        self._at = 0
        self._index = 0
        self._open: _OpenSource | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def leave_out(self, present: Collection[int]) -> None:
        """Have the stream go on without the content of these entries, by their places among the items; offsets in it count the
        rest.
        """
        self.close()
        self._take_sources(present)

    @property
    def stream_bytes(self) -> int:
        """How long the stream is."""
        return self._starts[-1]

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill the buffer with the bytes of the stream from `offset` on.

        Going on where the last call ended is the quick way. The last bytes of a file come only if it has, with them, the size
        that its entry promises.
        """
        if not 0 <= offset <= offset + len(buffer) <= self.stream_bytes:
            raise ValueError(f"the stream has {self.stream_bytes} bytes, not {offset} and {len(buffer)} more")
        try:
            if offset != self._at:
                self._seek(offset)
            while buffer:
                if self._cancelled():
                    raise CalledOff("sending was cancelled")
                buffer = buffer[self._read_some(buffer) :]
            if self._at == self.stream_bytes:
                self._check_empty_files()
        except BaseException as error:
            self.close()
            if isinstance(error, UnfitFiles):
                raise TransferFailed(f"the source {error}") from error
            raise

    def verify(self) -> None:
        """Read every source and raise `TransferFailed`, naming it, where one is not what its entry promises."""
        self.close()
        buffer = memoryview(bytearray(buffer_bytes(entry.size_bytes for entry in self._sources)))
        try:
            for entry in self._sources:
                self._verify(entry, buffer)
        except UnfitFiles as error:
            raise TransferFailed(f"the source {error}") from error

    def close(self) -> None:
        """Close the file that is open; a later call opens it again."""
        if self._open is not None:
            self._open.close()
            self._open = None
        self._at = -1

    def _take_sources(self, left_out: Collection[int]) -> None:
        self._sources = [entry for index, entry in enumerate(self._entries) if entry.sha256 and index not in left_out]
        self._starts = list(accumulate((entry.size_bytes for entry in self._sources), initial=len(self.manifest.data)))

    def _read_some(self, buffer: memoryview) -> int:
        """Read from the manifest or from one file, as much as both it and the buffer have."""
        data = self.manifest.data
        if self._at < len(data):
            count = min(len(buffer), len(data) - self._at)
            buffer[:count] = memoryview(data)[self._at : self._at + count]
        else:
            self._check_empty_files()
            source = self._source()
            count = source.read(buffer)
            if source.left == 0:
                self._check_source(source)
        self._at += count
        return count

    def _check_empty_files(self) -> None:
        """Open every empty file that is next and see that it still is empty."""
        while self._index < len(self._sources) and self._sources[self._index].size_bytes == 0:
            self._check_source(self._source())

    def _source(self) -> _OpenSource:
        if self._open is None:
            entry = self._sources[self._index]
            self._open = _OpenSource(open_source(self._open_entry, entry), entry)
        return self._open

    def _check_source(self, source: _OpenSource) -> None:
        """Check a file that was read to its end, and step over it."""
        source.check()
        source.close()
        self._open = None
        self._index += 1

    def _verify(self, entry: FileEntry, buffer: memoryview) -> None:
        digest = hashlib.sha256()
        done = 0
        reader = open_source(self._open_entry, entry)
        try:
            while count := read_source(reader, buffer, entry.relative_path):
                if self._cancelled():
                    raise CalledOff("sending was cancelled")
                digest.update(buffer[:count])
                done += count
        finally:
            reader.close()
        check_promise(entry, done, digest.hexdigest())

    def _seek(self, offset: int) -> None:
        self.close()
        self._index = max(0, bisect_right(self._starts, offset) - 1)
        into_file = offset - self._starts[self._index]
        if into_file > 0:
            self._source().skip(into_file, self._cancelled)
        self._at = offset


class _OpenSource:
    """A source file on its way."""

    def __init__(self, reader: Reader, entry: FileEntry) -> None:
        self.left = entry.size_bytes
        self._reader = reader
        self._entry = entry

    def read(self, buffer: memoryview) -> int:
        """Read at most as much as is promised, and at least a byte."""
        wanted = buffer[: min(len(buffer), self.left)]
        count = read_source(self._reader, wanted, self._entry.relative_path)
        if count == 0:
            self.check()
        self.left -= count
        return count

    def skip(self, count: int, cancelled: Callable[[], bool]) -> None:
        """Step over bytes: at once in a plain file, by reading where its content has to be opened on the way."""
        if isinstance(self._reader, io.FileIO):
            self._reader.seek(count)
            self.left -= count
            return
        scratch = memoryview(bytearray(buffer_bytes([count])))
        while count:
            if cancelled():
                raise CalledOff("sending was cancelled")
            count -= self.read(scratch[: min(count, len(scratch))])

    def check(self) -> None:
        """Raise `TransferFailed` unless the file ends here, as promised."""
        done = self._entry.size_bytes - self.left
        if self.left == 0:
            done += read_source(self._reader, memoryview(bytearray(1)), self._entry.relative_path)
        check_size(self._entry, done)

    def close(self) -> None:
        self._reader.close()
