"""The three logs of a run in a container, filled from what the engine sends (design, ruling 10)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from rnd.services.streams import Journal, Stream, create_log

TAIL_BYTES: Final = 4096


class CapturedOutput:
    """`stdout.txt`, `stderr.txt` and `logs.txt` of one run, written anew from its first byte."""

    def __init__(self, directory: str, cap_bytes: int) -> None:
        """Create the files. Raises `OSError`."""
        self._directory = directory
        folder = os.open(os.path.join(directory, "logs"), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            self._journal = Journal(create_log(folder, "logs.txt"), cap_bytes)
            self._streams = {
                name: Stream(name, create_log(folder, f"{name}.txt"), cap_bytes, self._journal)
                for name in ("stdout", "stderr")
            }
        finally:
            os.close(folder)

    def take(self, pieces: Iterable[tuple[str, bytes]]) -> None:
        """Keep what has come. Raises `OSError` if the disk does not take it."""
        for name, piece in pieces:
            self._streams[name].take(piece)

    def finish(self) -> None:
        """Nothing more comes. Raises `OSError` as `take` does."""
        for stream in self._streams.values():
            stream.finish()

    def cut(self) -> list[str]:
        """Return the names of the streams that have reached the cap."""
        names = [name for name, stream in self._streams.items() if stream.cut]
        return [*names, "logs"] if self._journal.cut else names

    def close(self) -> None:
        """Close the files."""
        for file in (self._journal.file, *(stream.file for stream in self._streams.values())):
            os.close(file)


def break_off(directory: str) -> None:
    """Leave the logs as an earlier process had them, and say in them that they are not whole. Raises `OSError`."""
    path = os.path.join(directory, "logs", "logs.txt")
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        Journal(file, 0).mark("what was written from here on is lost: nobody was there to take it")
    finally:
        os.close(file)


def tail(directory: str, name: str) -> str:
    """Return the end of a stream as text; "" where there is none."""
    try:
        file = os.open(os.path.join(directory, "logs", f"{name}.txt"), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        size = os.fstat(file).st_size
        return os.pread(file, TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace")
    finally:
        os.close(file)
