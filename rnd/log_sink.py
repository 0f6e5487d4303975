"""Where finished log lines go: to a stream, as the journal wants them where it is that, and to a file that is kept short.

Whoever rotates the file needs no signal: one that was moved away is opened anew within a second, or at once by `reopen`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TextIO

from rnd.types.enums import LogFormat

LOG_FILE_MODE: Final = 0o600
LOG_FOLDER_MODE: Final = 0o700
OLD_SUFFIX: Final = ".old"
_UNREAD: Final = frozenset({errno.EPIPE, errno.EBADF})
"""With these nobody reads the stream any more; what any other fault takes, such as a full disk, is lost and the next line is not."""
# What sd-daemon(3) calls them, by a level's first letter, which stands in both formats at the same place of a line.
_PRIORITIES: Final = {"C": "<2>", "E": "<3>", "W": "<4>", "I": "<6>", "D": "<7>"}
_STAMP_CHARACTERS: Final = len("2026-01-31T12:00:00.000Z")
_BEFORE_TIME: Final = {LogFormat.TEXT: "", LogFormat.JSON: '{"time": "'}
_BEFORE_LEVEL: Final = {LogFormat.TEXT: " [", LogFormat.JSON: '", "level": "'}


class Sink:
    """Where finished lines go, to the stream and to the file, from any thread.

    Lines are written one by one, or gathered until the event loop's next turn; their order is kept either way. A file that
    was rotated away is noticed when the second changes: at worst the lines of one second are still in the old file.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.format = LogFormat.TEXT
        self._lock = threading.Lock()
        self._stream: TextIO | None = None
        self._stream_fd = -1
        self._path: Path | None = None
        self._fd = -1
        self._file_key = (0, 0)
        self._file_bytes = 0
        self._file_bytes_at_most = 0
        self._file_fault_told = False
        self._is_journal = False
        self._now_s = now_s
        self._second = -1
        self._second_text = ""
        self._gathers = False
        self._gathered: list[str] = []

    def open(
        self,
        stream: TextIO,
        path: Path | None,
        now_s: Callable[[], float],
        *,
        gather: bool,
        log_format: LogFormat,
        file_bytes: int,
    ) -> None:
        with self._lock:
            self._flush()
            self._gathers = gather
            self._close_file()
            self._stream = stream
            self._stream_fd = _descriptor_of(stream)
            self.format = log_format
            self._is_journal = is_journal(stream, os.environ)
            self._file_bytes_at_most = file_bytes
            self._path = path
            self._now_s = now_s
            self._second = -1
            self._file_fault_told = False
            if path is not None:
                self._open_file(path)

    def close(self) -> None:
        with self._lock:
            self._flush()
            self._gathers = False
            self._path = None
            self._close_file()

    def reopen(self) -> None:
        """Close the file and open it again by its name."""
        with self._lock:
            self._flush()
            if self._path is not None:
                self._open_again(self._path)

    def write_line(self, text: str) -> None:
        """Write one line, after those that were gathered before it."""
        with self._lock:
            self._gathered.append(self._stamped(text))
            self._flush()

    def gather_line(self, text: str) -> None:
        """Write one line, at once or, from within an event loop, with the others of this turn."""
        with self._lock:
            self._gathered.append(self._stamped(text))
            if len(self._gathered) == 1 or not self._gathers:
                self._flush_soon()

    debug = info = gather_line
    warning = error = critical = exception = msg = write_line

    def _stamped(self, text: str) -> str:
        now_s = self._now_s()
        second = int(now_s)
        if second != self._second:
            self._begin_second(second)
        return f"{self._second_text}{int((now_s - second) * 1000):03d}Z{text}\n"

    def _flush_soon(self) -> None:
        if self._gathers:
            with contextlib.suppress(RuntimeError):  # no loop runs in this thread
                asyncio.get_running_loop().call_soon(self.flush)
                return
        self._flush()

    def flush(self) -> None:
        """Write what was gathered."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if not self._gathered:
            return
        lines = "".join(self._gathered)
        told = "".join(map(self._with_priority, self._gathered)) if self._is_journal else lines
        self._gathered.clear()
        data = lines.encode("utf-8", "backslashreplace")
        if self._stream_fd >= 0:
            self._write_descriptor(told.encode("utf-8", "backslashreplace") if self._is_journal else data)
        else:
            self._write_stream(told)
        if self._path is not None:
            self._write_file(data, self._path)

    def _with_priority(self, line: str) -> str:
        level = line[len(_BEFORE_TIME[self.format]) + _STAMP_CHARACTERS + len(_BEFORE_LEVEL[self.format])]
        return _PRIORITIES[level] + line

    def _begin_second(self, second: int) -> None:
        self._second = second
        self._second_text = _BEFORE_TIME[self.format] + time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        if self._path is not None:
            self._reopen_if_rotated(self._path)

    def _reopen_if_rotated(self, path: Path) -> None:
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) == self._file_key:
                return
        except OSError:
            pass  # rotated away, nothing new in its place yet: opening makes it
        self._open_again(path)

    def _open_again(self, path: Path) -> None:
        self._close_file()
        try:
            self._open_file(path)
        except OSError as error:
            self._tell_file_fault(error)

    def _open_file(self, path: Path) -> None:
        path.parent.mkdir(mode=LOG_FOLDER_MODE, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, LOG_FILE_MODE)
        status = os.fstat(self._fd)
        self._file_key = (status.st_dev, status.st_ino)
        self._file_bytes = status.st_size

    def _put_aside(self, path: Path) -> None:
        """Begin a new file; where the old one cannot be moved, it is tried again after as many bytes."""
        self._file_bytes = 0
        try:
            os.replace(path, path.with_name(path.name + OLD_SUFFIX))
        except OSError as error:
            self._tell_file_fault(error)
        else:
            self._open_again(path)

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._file_key = (0, 0)

    def _write_file(self, data: bytes, path: Path) -> None:
        if self._fd >= 0 and 0 < self._file_bytes_at_most < self._file_bytes + len(data) and self._file_bytes:
            self._put_aside(path)
        if self._fd < 0:
            return
        try:
            self._file_bytes += os.write(self._fd, data)
            self._file_fault_told = False
        except OSError as error:
            self._tell_file_fault(error)

    def _tell_file_fault(self, error: OSError) -> None:
        if not self._file_fault_told:
            self._file_fault_told = True
            text = f"Log file not written: {error}"
            if self.format is LogFormat.JSON:
                line = f'{self._second_text}000Z", "level": "ERROR", "text": {json.dumps(text)}}}\n'
            else:
                line = f"{self._second_text}000Z [ERROR] {text}\n"
            self._write_stream(self._with_priority(line) if self._is_journal else line)

    def _write_descriptor(self, data: bytes) -> None:
        """Write past the stream's buffer, which would be emptied at every line anyway."""
        try:
            while data:
                data = data[os.write(self._stream_fd, data) :]
        except OSError as error:
            if error.errno in _UNREAD:  # the file goes on
                self._stream_fd = -1
                self._stream = None

    def _write_stream(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(line)
            self._stream.flush()
        except ValueError:
            self._stream = None  # it is closed; the file goes on
        except OSError as error:
            if error.errno in _UNREAD:
                self._stream = None


def _descriptor_of(stream: TextIO) -> int:
    """Return where a stream writes to, with nothing left in its buffer; -1 if it is no file."""
    try:
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError):
        return -1


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Say whether a stream is the journal's: systemd names its device and inode in JOURNAL_STREAM."""
    named = environment.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"
