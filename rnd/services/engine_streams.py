"""The answers of the container engine that take their time: a container's output, word of its end, news of a pull.

They are read from the engine's socket in the event loop, since a thread each is what many containers could not have, and a
thread cannot be called off. All other calls are `engine.Engine`'s. Source: Engine API, ContainerAttach ("Stream format"),
ContainerLogs, ContainerWait, ImageCreate, ImageBuild.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

HEADER_TIMEOUT_S = 60.0
HEADER_MAX_BYTES = 1 << 16
CHUNK_BYTES = 1 << 16
NEWS_MAX_BYTES = 1 << 20
NO_ROOM = "no space left on device"
FREE_ROOM = (
    "the disk of the container engine is full: docker system df shows what takes it, docker system prune frees it"
)
STREAM_NAMES = {1: "stdout", 2: "stderr"}
_FRAME_HEADER_BYTES = 8


class EngineGone(Exception):
    """The engine could not be asked, or went away before it had answered; the text says how."""


class EngineRefused(Exception):
    """The engine has answered, and the answer is no."""

    def __init__(self, status: int, words: str) -> None:
        self.status = status
        self.words = f"{words} ({FREE_ROOM})" if NO_ROOM in words and FREE_ROOM not in words else words
        super().__init__(self.words)


class Demultiplexer:
    """Takes apart the frames in which the engine sends two streams over one connection. No I/O."""

    def __init__(self) -> None:
        self._header = b""
        self._stream = ""
        self._left_bytes = 0
        self.frames = 0
        self.payload_bytes = 0

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Return what `data` adds to which stream, in order. Raises `ValueError` where it makes no sense."""
        pieces = []
        at = 0
        while at < len(data):
            if self._left_bytes == 0:
                taken = data[at : at + _FRAME_HEADER_BYTES - len(self._header)]
                self._header += taken
                at += len(taken)
                if len(self._header) < _FRAME_HEADER_BYTES:
                    break
                self._begin_frame()
                continue
            piece = data[at : at + self._left_bytes]
            self._left_bytes -= len(piece)
            at += len(piece)
            if self._stream:
                pieces.append((self._stream, piece))
        return pieces

    def _begin_frame(self) -> None:
        kind, padding, self._left_bytes = self._header[0], self._header[1:4], int.from_bytes(self._header[4:], "big")
        if kind > max(STREAM_NAMES) or padding != b"\0\0\0":
            raise ValueError(f"the engine sends no frames of two streams but {self._header!r}")
        self._stream = STREAM_NAMES.get(kind, "")
        self._header = b""
        self.frames += 1
        self.payload_bytes += self._left_bytes


class Opened(NamedTuple):
    """An answer that goes on."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def output(self, splitter: Demultiplexer) -> AsyncIterator[list[tuple[str, bytes]]]:
        """Yield what arrives of both streams until the end. Raises `EngineGone`."""
        while True:
            try:
                data = await self.reader.read(CHUNK_BYTES)
                if not data:
                    return
                yield splitter.feed(data)
            except (OSError, ValueError) as error:
                raise EngineGone(f"the output breaks off: {error}") from error

    async def result(self) -> dict[str, object]:
        """Return the JSON object that an answer ends with. Raises `EngineGone` where it ends without."""
        try:
            data = await self.reader.read(-1)
            found = json.loads(data.rpartition(b"\r\n\r\n")[2])  # its header may have come only now
        except (OSError, ValueError) as error:
            raise EngineGone("the engine went away before it had answered") from error
        if not isinstance(found, dict):
            raise EngineGone(f"the engine answers {data[:100]!r}")
        return found

    async def news(self, silence_s: float) -> AsyncIterator[dict[str, object]]:
        """Yield the JSON objects that arrive, a line each, until the end. Raises `EngineGone`, also after so long a silence."""
        unread = b""
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    data = await self.reader.read(CHUNK_BYTES)
                *lines, unread = (unread + data).split(b"\n")
                pieces = [json.loads(line) for line in lines if line.strip()]
            except TimeoutError:
                raise EngineGone(f"nothing has been heard for {silence_s:.0f} s") from None
            except (OSError, ValueError) as error:
                raise EngineGone(f"the engine's news break off: {error}") from error
            for piece in pieces:
                yield piece
            if not data:
                return
            if len(unread) > NEWS_MAX_BYTES:
                raise EngineGone("the engine's news make no sense")

    async def close(self) -> None:
        """Hang up at once, whatever has not been sent."""
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def open_stream(
    socket_path: str,
    method: str,
    path: str,
    *,
    both_ways: bool = False,
    headers: Mapping[str, str] | None = None,
    body: int | None = None,
    timeout_s: float = HEADER_TIMEOUT_S,
    begins_late: bool = False,
) -> Opened:
    """Ask the engine and return once its answer has begun. Raises `EngineGone` and `EngineRefused`.

    `path` begins with the version of the API. `both_ways` keeps the connection for what is sent after the question; `body` is
    an open file that is sent with it. `timeout_s` is how long the answer may take to begin; with `begins_late` it is not waited
    for, since the engine has nothing to say before the end.
    """
    try:
        async with asyncio.timeout(HEADER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(socket_path, limit=HEADER_MAX_BYTES)
    except (OSError, TimeoutError) as error:
        raise EngineGone(f"the engine does not answer at {socket_path}: {error}") from error
    stream = Opened(reader, writer)
    try:
        # HTTP/1.0, so that the answer is not cut into chunks; a connection both ways has none, but asks to be upgraded.
        version, upgrade = ("1.1", "Connection: Upgrade\r\nUpgrade: tcp\r\n") if both_ways else ("1.0", "")
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        size = 0 if body is None else os.fstat(body).st_size
        question = f"{method} {path} HTTP/{version}\r\nHost: docker\r\n{upgrade}{more}Content-Length: {size}\r\n\r\n"
        writer.write(question.encode("ascii"))
        async with asyncio.timeout(timeout_s):
            if body is not None:
                await _send_body(writer, body)
            await writer.drain()
            if begins_late:
                return stream
            header = await reader.readuntil(b"\r\n\r\n")
            status = int(header.split(b" ", 2)[1])
            if status not in (101, 200):
                raise EngineRefused(status, _words(await reader.read(CHUNK_BYTES)))
    except (OSError, EOFError, ValueError, IndexError, TimeoutError, asyncio.LimitOverrunError) as error:
        await stream.close()
        raise EngineGone(f"the engine does not answer {method} {path.partition('?')[0]}: {error!r}") from error
    except BaseException:
        writer.transport.abort()
        raise
    return stream


async def _send_body(writer: asyncio.StreamWriter, body: int) -> None:
    with contextlib.suppress(ConnectionError):  # an engine that wants no more of it says in its answer why
        while data := await asyncio.to_thread(os.read, body, CHUNK_BYTES):
            writer.write(data)
            await writer.drain()


def _words(body: bytes) -> str:
    try:
        return str(json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["message"])
    except (KeyError, TypeError, ValueError):
        return body.decode(errors="replace").strip()
