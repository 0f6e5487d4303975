"""A moment of a delivery that is made durable beside what still comes (docs/wire.md, section 5). Synchronous, for threads."""

from __future__ import annotations

import os
from collections.abc import Callable

from rnd.workers.durability import sync_filesystem
from rnd.workers.part_notes import PartNotes
from rnd.workers.staged_folder import write_failure


class Checkpoint:
    """What has come of a delivery up to a moment. Not for two threads at once."""

    def __init__(
        self,
        notes: PartNotes,
        *,
        name: str,
        fd: int,
        offset: int,
        stamps: str,
        one_file: bool,
        when_flushed: Callable[[], None],
    ) -> None:
        """`fd` is of the open file, or of the folder where `one_file` is false; it is closed at the end. `stamps` are of the
        files that have ended; `name` is for people.
        """
        self.offset = offset
        self._notes = notes
        self._stamps = stamps
        self._name = name
        self._fd = fd
        self._one_file = one_file
        self._when_flushed = when_flushed

    def make_durable(self) -> None:
        """Flush all that had come by then, and note it.

        Raises `TransferFailed` where it could not be flushed: the system counts as written what it could not write, once it has
        said so, and every later flush succeeds. Nothing of this delivery may be called durable after that. Raises `OSError`
        where only the note could not be written.
        """
        try:
            if self._one_file:
                os.fdatasync(self._fd)
            else:
                sync_filesystem(self._fd)
        except OSError as error:
            raise write_failure(self._name, error) from error
        finally:
            os.close(self._fd)
        self._when_flushed()
        self._notes.note(self.offset, stamps=self._stamps)
