"""The receiving end of a transfer on disk: staged, verified, durable (document: Transfer Completion; docs/wire.md, section 5).

Synchronous, for a thread. Bytes are hashed as they are written, once, and held nowhere: memory is what the caller hands in.
One file is open at a time. Of what is long enough it is noted now and then how much is durable, so that a restarted daemon
goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, assert_never

from rnd.protocol.instructions import Discard, EndFile, Kept, LayOut, Offer, StagingInstruction, Unseal, Write
from rnd.protocol.recognition import Place, find_place
from rnd.types.errors import CalledOff, ToldToStop, TransferFailed, UnfitFiles
from rnd.types.executions import FileEntry
from rnd.workers.checkpoints import Checkpoint
from rnd.workers.copying import Reader, copy_verified, no_progress
from rnd.workers.earlier_files import RECOGNISED_FROM_BYTES, EarlierFile, EarlierFolders
from rnd.workers.files import buffer_bytes, never_cancelled
from rnd.workers.part_file import PartFile
from rnd.workers.part_notes import PartNote, PartNotes, is_gone
from rnd.workers.part_stamps import PartStamps, stamp_of
from rnd.workers.staged_folder import StagedFolder, write_failure

NOTED_FROM_BYTES: Final = 8 << 20
"""Deliveries shorter than this begin anew after a restart; noting how far they are would take longer."""


class Receiving:
    """Carries out what a `ReceiveTransfer` says, into a folder that appears at `destination` when all of it is durable.

    It outlives the loss of a link: the next machine's instructions go on where the last one's ended. Not for two threads at
    once. Whatever raises has discarded what was staged before; after that, and after `discard`, only a new manifest
    is taken. Raises `TransferFailed` (a file is not what the manifest promised, the disk refuses) and `CalledOff`. Only `ToldToStop`,
    once `is_stopping`, leaves what is on the disk to the `take_up` of a later process.
    """

    def __init__(
        self,
        destination: Path,
        *,
        progress: Callable[[int], None] = no_progress,
        cancelled: Callable[[], bool] = never_cancelled,
        is_stopping: Callable[[], bool] = never_cancelled,
    ) -> None:
        self.destination = destination
        self._staged = StagedFolder(destination)
        self._notes = PartNotes(destination)
        self._is_noted = False
        self._ended_durable = 0
        self._progress = progress
        self._cancelled = cancelled
        self._is_stopping = is_stopping
        self._entries: tuple[FileEntry, ...] | None = None
        self._ended = 0
        self._stamps = PartStamps()
        self._open: PartFile | None = None
        self._left_as: object = None

    def report_to(self, progress: Callable[[int], None]) -> None:
        """Tell somebody else of the bytes that come from now on."""
        self._progress = progress

    def carry_out(self, instructions: Iterable[StagingInstruction]) -> None:
        """Do what is said, in order."""
        with self._all_or_nothing():
            for instruction in instructions:
                match instruction:
                    case LayOut():
                        self._lay_out(instruction.entries)
                    case Unseal():
                        instruction.open()
                    case Write():
                        self._write(instruction.index, instruction.offset, instruction.data)
                    case EndFile():
                        self._end_file(instruction.index)
                    case Discard():
                        self.discard()
                    case _:
                        assert_never(instruction)

    def may_have_come(self) -> bool:
        """Say whether an earlier process has noted anything here, so that `take_up` may take long."""
        return self._notes.is_there()

    def take_up(self, offer: Offer, *, max_folders: int) -> Kept | None:
        """Go on with what an earlier process has received of this offer; `None`, and nothing is left of it, if nothing can be.

        The part of the file that was being written is hashed again; those before it were verified before they were noted, and
        are hashed again where one of them has been touched since, or the system was started anew. Where all was in its place, and
        not settled, it is staged again. Raises `OSError` where it cannot be looked at now, and leaves it as it is.
        """
        try:
            note = self._notes.read(offer, max_folders=max_folders)
            if note is not None and self._stand_at(note, note.offset - offer.manifest_bytes):
                self._is_noted = True
                return Kept(offer=offer, entries=note.entries, offset=note.offset, present=note.present)
        except (CalledOff, ToldToStop):
            self.close()
            raise
        except OSError as error:
            if not is_gone(error):
                self.close()
                raise
        self.clear_away()
        return None

    def fill(
        self,
        earlier: Mapping[int, EarlierFile],
        *,
        has_room: Callable[[int], bool],
        progress: Callable[[int], None] = no_progress,
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> frozenset[int]:
        """Copy files that have arrived before to the places of these entries; return which of them are there now, verified.

        Every file is hashed as it is copied, so what has been changed or deleted since is not among them, nor is, from there on,
        what `has_room` says there is no room for. `progress` gets the bytes of each buffer. Right after a manifest was laid out;
        raises what the other instructions raise.
        """
        entries = self._laid_out()
        buffer = bytearray(buffer_bytes(entries[index].size_bytes for index in earlier))
        filled: set[int] = set()
        with self._all_or_nothing(), EarlierFolders() as folders:
            for index, file in earlier.items():
                if not has_room(entries[index].size_bytes):
                    break
                try:
                    reader = folders.open(file)
                except UnfitFiles:
                    continue
                if self._copy(reader, index, entries[index], buffer, progress, cancelled):
                    filled.add(index)
        present = frozenset(filled)
        self._ended += len(present)
        self._notes.leave_out(present, len(entries))
        return present

    def _copy(
        self,
        reader: Reader,
        index: int,
        entry: FileEntry,
        buffer: bytearray,
        progress: Callable[[int], None],
        cancelled: Callable[[], bool],
    ) -> bool:
        """Copy what has come before to the place of an entry; false, and nothing there, if it is not what is promised."""
        try:
            fd = self._staged.create_file(entry.relative_path, executable=entry.executable)
            try:
                copy_verified(
                    reader, entry, fd, buffer, progress=progress, cancelled=lambda: self._is_stopping() or cancelled()
                )
                self._stamps.add(index, os.fstat(fd))
            except TransferFailed:
                self._staged.remove_file(entry.relative_path)
                return False
            except CalledOff:
                self._check_not_stopping()
                raise
            finally:
                os.close(fd)
        finally:
            reader.close()
        return True

    def checkpoint(self, offset: int) -> Checkpoint | None:
        """Return this moment, at which everything below `offset` of the stream was carried out; `None` if it is not worth it.

        Call it while nothing else is under way here.
        """
        if not self._is_noted or self._entries is None:
            return None
        one_file = self._open is not None and self._ended == self._ended_durable
        try:
            fd = self._open.duplicate() if one_file and self._open is not None else self._staged.duplicate()
        except OSError:
            return None  # out of descriptors; the next moment will do
        return Checkpoint(
            self._notes,
            name=self.destination.name,
            fd=fd,
            offset=offset,
            stamps=str(self._stamps),
            one_file=one_file,
            when_flushed=partial(self._mark_durable, self._ended),
        )

    def _mark_durable(self, ended: int) -> None:
        self._ended_durable = ended

    def finish(self, offset: int | None = None) -> tuple[FileEntry, ...]:
        """Put the folder in its place and return its entries. All of it is durable then, and not before.

        Until `settle`, `discard` takes it away again, and so does `take_up` of a later process: `offset`, where the stream has ended,
        is noted for that.
        """
        with self._all_or_nothing():
            entries = self._laid_out()
            missing = sum(1 for entry in entries if entry.sha256) - self._ended
            if missing:
                raise TransferFailed(f"{missing:,} files have not arrived")
            self._check_wanted()
            self._staged.put_in_place()
        if self._is_noted and offset is not None:
            with suppress(OSError):  # then some of it comes again if this process is killed now
                self._notes.note(offset, stamps=str(self._stamps))
        return entries

    def settle(self) -> None:
        """Have what was put in its place stay there: it is committed."""
        self._entries = None
        self._staged.settle()

    def tidy(self, entries: tuple[FileEntry, ...]) -> None:
        """Remove what was noted of a delivery that is settled, but for its manifest where it may be recognised by that."""
        if sum(entry.size_bytes for entry in entries) >= RECOGNISED_FROM_BYTES:
            self._notes.keep_manifest(entries)
            self._is_noted = False
        self._forget_notes()

    def discard(self) -> None:
        """Delete what was staged. Nothing to delete is fine."""
        if self._open is not None:
            self._open.close()
            self._open = None
        if self._entries is not None:
            self._entries = None
            self._forget_notes()
            self._staged.discard()

    def clear_away(self) -> None:
        """Delete what an earlier process may have left here, too."""
        self._entries = ()
        self._is_noted = True
        self.discard()

    def give_back_room(self) -> None:
        """Give back what room was reserved ahead: nobody knows when more will come. Until then nobody has it in hand."""
        with self._all_or_nothing():
            if self._open is not None:
                self._open.give_back_room()
                self._left_as = stamp_of(self._open.status())

    def is_as_left(self, kept: Kept) -> bool:
        """Say whether all files are on disk as they were when room was given back; `kept` is what had come by then."""
        place = find_place(kept.entries, kept.present, kept.offset - kept.offer.manifest_bytes)
        try:
            stamps, _ = self._stamps_of(_ended(kept.entries, kept.present, place))
            if str(stamps) != str(self._stamps):
                return False
            if self._open is None:
                return True
            path = self._staged.path / kept.entries[self._open.index].relative_path
            return stamp_of(os.lstat(path)) == self._left_as
        except OSError:
            return False

    def let_go(self) -> None:
        """Leave what has come to `take_up`, if it was noted; what nobody can go on with is deleted."""
        if self._is_noted:
            self.close()
        else:
            self.discard()

    def close(self) -> None:
        """Let go of the open file and the folder; what has come stays, for `take_up`."""
        if self._open is not None:
            self._open.close()
            self._open = None
        self._staged.close()

    def _lay_out(self, entries: tuple[FileEntry, ...]) -> None:
        self.discard()
        self._entries = entries
        self._ended = self._ended_durable = 0
        self._stamps = PartStamps()
        self._notes.remove()  # an earlier process may have noted other content
        self._staged.lay_out([entry.relative_path for entry in entries])
        if sum(entry.size_bytes for entry in entries) >= NOTED_FROM_BYTES:
            self._notes.begin(entries)
            self._is_noted = True

    def _forget_notes(self) -> None:
        if self._is_noted:
            self._is_noted = False
            self._notes.remove()

    def _stand_at(self, note: PartNote, content_bytes: int) -> bool:
        """Stand where so many bytes of content have come; False where what is on disk does not bear that out."""
        entries, place = note.entries, find_place(note.entries, note.present, content_bytes)
        self._staged.take_up([entry.relative_path for entry in entries])
        ended = _ended(entries, note.present, place)
        self._stamps, have_promised_sizes = self._stamps_of(ended)
        if not have_promised_sizes:
            return False
        if str(self._stamps) != note.stamps and not all(self._is_as_promised(*item) for item in ended):
            return False
        self._ended = self._ended_durable = len(ended)
        if place.file_offset:
            file = self._reopen(place.entry_index, entries[place.entry_index])
            self._open = file  # `discard` closes it where this comes to nothing
            if not file.stand_at(place.file_offset, self._check_wanted):
                return False
            self._left_as = stamp_of(file.status())
        self._remove_behind(entries, note.present, place)
        self._entries = entries
        return True

    def _remove_behind(self, entries: tuple[FileEntry, ...], present: frozenset[int], place: Place) -> None:
        """Remove the files of which nothing is noted."""
        begin = place.entry_index + bool(place.file_offset)
        for index, entry in enumerate(entries[begin:], begin):
            if entry.sha256 and index not in present:
                (self._staged.path / entry.relative_path).unlink(missing_ok=True)

    def _stamps_of(self, ended: Iterable[tuple[int, FileEntry]]) -> tuple[PartStamps, bool]:
        """Return the stamps of files as they are now, and whether all have their promised sizes. Raises `OSError`."""
        stamps, have_promised_sizes = PartStamps(), True
        for index, entry in ended:
            status = os.lstat(self._staged.path / entry.relative_path)
            have_promised_sizes &= status.st_size == entry.size_bytes
            stamps.add(index, status)
        return stamps, have_promised_sizes

    def _is_as_promised(self, index: int, entry: FileEntry) -> bool:
        """Hash a file again that has come whole."""
        file = self._reopen(index, entry)
        try:
            return file.read_again(entry.size_bytes, self._check_wanted) and file.sha256 == entry.sha256
        finally:
            file.close()

    def _reopen(self, index: int, entry: FileEntry) -> PartFile:
        return PartFile(index, self._staged.reopen_file(entry.relative_path), promised_bytes=entry.size_bytes)

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
        self._stamps.add(index, file.status())
        file.close()
        entry = self._laid_out()[index]
        if file.size_bytes != entry.size_bytes:
            raise TransferFailed(
                f"the file {entry.relative_path} arrived with {file.size_bytes:,} bytes; {entry.size_bytes:,} were promised"
            )
        if file.sha256 != entry.sha256:
            raise TransferFailed(f"the file {entry.relative_path} did not arrive as promised: its SHA-256 is another")
        self._ended += 1

    def _file(self, index: int) -> PartFile:
        """Return the file at this index, created where it is not the open one."""
        if self._open is None:
            entry = self._laid_out()[index]
            fd = self._staged.create_file(entry.relative_path, executable=entry.executable)
            self._open = PartFile(index, fd, promised_bytes=entry.size_bytes)
        if self._open.index != index:
            raise ValueError(f"file {index} was written while file {self._open.index} was open")
        return self._open

    def _laid_out(self) -> tuple[FileEntry, ...]:
        if self._entries is None:
            raise ValueError("nothing is laid out")
        return self._entries

    def _check_wanted(self) -> None:
        self._check_not_stopping()
        if self._cancelled():
            raise CalledOff("receiving was cancelled")

    def _check_not_stopping(self) -> None:
        if self._is_stopping():
            raise ToldToStop("this peer is stopping")

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        try:
            yield
        except ToldToStop:
            self.close()
            raise
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError):
                raise write_failure(self._staged.destination.name, error) from error
            raise


def _ended(entries: tuple[FileEntry, ...], present: frozenset[int], place: Place) -> list[tuple[int, FileEntry]]:
    """Return the files that have ended at a place of the stream, or were there before, with their indexes."""
    return [
        (index, entry)
        for index, entry in enumerate(entries)
        if entry.sha256 and (index < place.entry_index or index in present)
    ]
