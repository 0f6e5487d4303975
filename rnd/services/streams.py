"""Carries a program's output from its pipes to `logs/stdout.txt`, `logs/stderr.txt` and, with times, `logs/logs.txt`.

A keeper holds one chunk a stream in memory, whatever the program writes. Bytes go to the two stream files unchanged;
what passes the cap is drained and dropped, so that a program is never blocked by it. Standard library only.
"""

from __future__ import annotations

import os
import time

CHUNK_BYTES = 1 << 16
"""One read: what a pipe holds by default. Also the longest line in `logs.txt`; longer ones go on in the next."""
DRAIN_BYTES = 1 << 20


def time_text(moment: float) -> str:
    """Return seconds since the epoch as RFC 3339 in UTC with milliseconds."""
    seconds, milliseconds = divmod(int(moment * 1000), 1000)
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    # Not strftime: its first use in a fresh fork costs more than all the rest of a short job's record.
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z"


def create_log(folder: int, name: str) -> int:
    """Create a log file anew and return its descriptor; whatever an earlier attempt left under the name is removed.

    `folder` is a descriptor of `logs/`. Raises `OSError`.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(name, flags, 0o600, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        return os.open(name, flags, 0o600, dir_fd=folder)


class Journal:
    """`logs.txt`: the lines of both streams in the order of their arrival, each after its time and its stream."""

    def __init__(self, file: int, cap_bytes: int) -> None:
        self.file = file
        self.cut = False
        self._room_bytes = cap_bytes

    def write_lines(self, tag: str, lines: bytes) -> None:
        """Write `lines`, whose last byte is a newline. Raises `OSError` if the disk does not take them."""
        if self.cut:
            return
        prefix = f"{time_text(time.time())} {tag} ".encode()
        text = prefix + lines[:-1].replace(b"\n", b"\n" + prefix) + b"\n"
        if len(text) > self._room_bytes:
            text = text[: text.rfind(b"\n", 0, self._room_bytes) + 1]
            self.cut = True
        self._room_bytes -= len(text)
        _write_all(self.file, text)
        if self.cut:
            self.mark("logs.txt is cut here: it has reached its limit")

    def mark(self, words: str) -> None:
        """Add a line of our own, beyond the cap if need be."""
        _write_all(self.file, f"{time_text(time.time())} rnd {words}\n".encode())


class Stream:
    """One stream of a program on its way to its file and to the journal."""

    def __init__(self, name: str, file: int, cap_bytes: int, journal: Journal) -> None:
        self.name = name
        self.file = file
        self.cut = False
        self._cap_bytes = self._room_bytes = cap_bytes
        self._journal = journal
        self._unended = b""

    def take(self, chunk: bytes) -> None:
        """Keep what the program has written, up to the cap. Raises `OSError` if the disk does not take it."""
        if self.cut:
            return
        if len(chunk) > self._room_bytes:
            chunk = chunk[: self._room_bytes]
            self.cut = True
        _write_all(self.file, chunk)
        self._room_bytes -= len(chunk)
        self._journal_chunk(chunk)

    def finish(self) -> None:
        """Write down the last line if it has no end: nothing more comes."""
        if self._unended:
            self._journal.write_lines(self.name, self._unended + b"\n")
            self._unended = b""

    def give_up(self) -> None:
        """Keep nothing more of this stream; the program can still write."""
        self.cut = True

    def _journal_chunk(self, chunk: bytes) -> None:
        if self._journal.cut and not self.cut:
            self._unended = b""
            return
        whole, newline, self._unended = (self._unended + chunk).rpartition(b"\n")
        if newline:
            self._journal.write_lines(self.name, whole + newline)
        if self._unended and (self.cut or len(self._unended) >= CHUNK_BYTES):
            self._journal.write_lines(self.name, self._unended + b"\n")
            self._unended = b""
        if self.cut:
            self._journal.mark(f"{self.name} is cut here: it has reached its limit of {self._cap_bytes} bytes")


class Capture(Stream):
    """A stream that comes through a pipe."""

    def __init__(self, name: str, pipe: int, file: int, sink: int, cap_bytes: int, journal: Journal) -> None:
        """Capture `pipe` as the stream `name`; `sink` is an open /dev/null for what passes the cap."""
        super().__init__(name, file, cap_bytes, journal)
        self.pipe = pipe
        self._sink = sink

    def pump(self) -> bool:
        """Move what one read yields; return False at the end of the stream. Call it when the pipe is readable.

        Raises `OSError` if the disk does not take it; `give_up` then lets the rest go.
        """
        if self.cut:
            return os.splice(self.pipe, self._sink, DRAIN_BYTES) > 0
        chunk = os.read(self.pipe, CHUNK_BYTES)
        if not chunk:
            self.finish()
            return False
        self.take(chunk)
        return True


def _write_all(file: int, data: bytes) -> None:
    written = os.write(file, data)
    while written < len(data):
        data = data[written:]
        written = os.write(file, data)
