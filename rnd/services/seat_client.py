"""The daemon's side of a process that has a seat in the data directory (`seat`): starts it, and asks it over one connection.

Both speak in lines of JSON. A request carries `id` and `op`, and what comes back says by its `id` what it answers. One of
another release is asked to make room; whoever has the seat then is asked instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

from rnd.services import seat
from rnd.types.errors import ExecutorUnavailable

TRIES: Final = 5
"""Who has the seat may be on its way out just when it is asked: greeted, gone, another one started, and that one greeted."""

News = Callable[[dict[str, Any]], None]


class SeatGone(Exception):
    """The connection ended before the answer came."""


class SeatLink(asyncio.Protocol):
    """One connection: requests out, news and answers matched to them by id."""

    answer_max_bytes: ClassVar[int]

    def __init__(self) -> None:
        self.lost = False
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._unsent: list[bytes] = []
        self._last_id = 0
        self._waiting: dict[int, tuple[asyncio.Future[dict[str, Any]], News | None]] = {}

    async def ask(
        self,
        operation: str,
        fields: Mapping[str, object] | None = None,
        *,
        timeout_s: float | None = None,
        news: News | None = None,
    ) -> dict[str, Any]:
        """Send one request and wait for its answer. Raises `SeatGone`, and `TimeoutError` where there is a bound."""
        if self.lost or self._transport is None:
            raise SeatGone
        loop = asyncio.get_running_loop()
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._waiting[number] = answer, news
        self.write({"id": number, "op": operation, **(fields or {})})
        bound = None if timeout_s is None else loop.call_later(timeout_s, _time_out, answer)
        try:
            return await answer
        except (asyncio.CancelledError, TimeoutError):
            self.abandoned(number)
            raise
        finally:
            del self._waiting[number]
            if bound is not None:
                bound.cancel()

    def write(self, message: Mapping[str, object]) -> None:
        """Write what one turn of the event loop says as one: each write wakes the other side, which then takes our processor."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._write)
        self._unsent.append(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Hang up."""
        self.lost = True
        if self._transport is not None:
            self._transport.close()

    def abandoned(self, number: int) -> None:
        """Nobody waits for the answer to a request any more."""

    def heard(self, answer: dict[str, Any]) -> None:
        """Take one line that has come."""
        future, news = self._waiting.get(answer["id"], (None, None))
        if "news" in answer:
            if news is not None:
                news(answer["news"])
        elif future is not None and not future.done():
            future.set_result(answer)

    # ------------------------------------------------------------- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self.heard(json.loads(line.decode()))  # of bytes it would guess the encoding anew each time
        if len(self._unread) > self.answer_max_bytes and self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.lost = True
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(SeatGone())

    def _write(self) -> None:
        lines, self._unsent = self._unsent, []
        if self._transport is not None and not self.lost:
            self._transport.write(b"".join(lines))


L = TypeVar("L", bound=SeatLink)


class SeatClient(ABC, Generic[L]):
    """Asks whoever has one seat of a data directory; many requests may be under way at once."""

    seat_name: ClassVar[str]
    title: ClassVar[str]
    """How it is called in words."""
    request_timeout_s: ClassVar[float]
    retire_timeout_s: ClassVar[float]
    """How long one of another release may take to make room."""

    def __init__(self, data_dir: Path, *, version: str) -> None:
        self.data_dir = data_dir
        self.version = version
        self.link: L | None = None
        self._connecting = asyncio.Lock()
        self._retired: set[str] = set()

    async def request(
        self, operation: str, *, timeout_s: float | None = None, news: News | None = None, **fields: object
    ) -> dict[str, Any]:
        """Ask, starting who is to answer if nobody has the seat, and return the answer's fields.

        Raises `ExecutorUnavailable` with the other side's words if it refuses, or if there is no getting through.
        """
        timeout_s = timeout_s or self.request_timeout_s
        for _ in range(TRIES):
            link = await self.connect()
            try:
                answer = await link.ask(operation, fields, timeout_s=timeout_s, news=news)
            except SeatGone:
                continue
            except TimeoutError:
                raise ExecutorUnavailable(f"{self.title} has not answered for {timeout_s:.0f} s") from None
            if "error" in answer:
                raise ExecutorUnavailable(str(answer["error"]))
            return answer
        raise ExecutorUnavailable(f"{self.title} ends as soon as it is asked; {self._see_log()}")

    async def close(self, *, stop: bool) -> None:
        """Hang up; with `stop` tell the other side that it may go as soon as it keeps nothing."""
        link, self.link = self.link, None
        if link is None:
            return
        if stop:
            with contextlib.suppress(SeatGone, TimeoutError):
                await link.ask("stop", timeout_s=self.request_timeout_s)
        link.close()

    async def connect(self) -> L:
        """Return the connection, making one, and starting who is to answer. Raises `ExecutorUnavailable`, `OSError`."""
        link = await self.find(start=True)
        assert link is not None
        return link

    async def find(self, *, start: bool = False) -> L | None:
        """Return the connection to who is there and of this release; `None` only if nobody is and nobody is to be started."""
        if self.link is not None and not self.link.lost:
            return self.link
        async with self._connecting:
            for _ in range(TRIES):
                if self.link is not None and not self.link.lost:
                    return self.link
                link = await self._reach()
                if link is not None and await self._is_of_this_release(link):
                    self.link = link
                    return link
                if link is not None:
                    link.close()
                elif start:
                    await asyncio.to_thread(self.start)
                else:
                    return None
        raise ExecutorUnavailable(f"{self.title} cannot be reached; {self._see_log()}")

    async def _reach(self) -> L | None:
        """Connect to who has the seat; `None` if nobody has."""
        folder = seat.open_folder(os.fspath(self.data_dir))
        try:
            path = seat.socket_path(folder, self.seat_name)
            _, link = await asyncio.get_running_loop().create_unix_connection(self.new_link, path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        finally:
            os.close(folder)
        return link

    async def _is_of_this_release(self, link: L) -> bool:
        """Greet who is there, and ask it to make room if it is of another release: once, since who keeps it there may start it anew."""
        try:
            found = str((await link.ask("hello", timeout_s=self.request_timeout_s)).get("version"))
            if found == self.version:
                return True
            if found in self._retired:
                link.close()
                words = f"{self.title} is of release {found} and this daemon of {self.version}; restart whichever is the older"
                raise ExecutorUnavailable(words)
            self._retired.add(found)
            await link.ask("retire", timeout_s=self.retire_timeout_s)
        except SeatGone:
            pass
        except TimeoutError:
            link.close()
            raise ExecutorUnavailable(f"{self.title} does not answer") from None
        return False

    @abstractmethod
    def new_link(self) -> L:
        """Return a connection that is yet to be made."""

    @abstractmethod
    def start(self) -> None:
        """In a thread: start who is to answer, and return when it listens. Raises `ExecutorUnavailable`."""

    def _see_log(self) -> str:
        return f"see run/{self.seat_name}.log in the data directory"

    def start_entry(self, entry: str, options: Sequence[str], env: Mapping[str, str], *, timeout_s: float) -> None:
        """Run the entry that forks who is to answer, and wait until it ends. Raises `ExecutorUnavailable` with its last words."""
        try:
            done = run_entry(entry, options, self.data_dir, self.version, env=env, timeout_s=timeout_s)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExecutorUnavailable(f"{self.title} does not start: {error}") from error
        if done.returncode != 0:
            last_words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise ExecutorUnavailable(f"{self.title} does not start: {last_words}")


def run_entry(
    entry: str,
    options: Sequence[str],
    data_dir: Path,
    argument: str,
    *,
    env: Mapping[str, str],
    timeout_s: float,
    stdout: int = subprocess.DEVNULL,
) -> subprocess.CompletedProcess[bytes]:
    """Run a module of this folder as a program of its own, which gets nothing of ours but what is named here."""
    return subprocess.run(
        [
            *(sys.executable, *options, os.fspath(Path(seat.__file__).with_name(entry))),
            *(os.fspath(data_dir.absolute()), argument),
        ],
        check=False,
        cwd="/",
        env={"PATH": os.defpath, "LANG": "C.UTF-8", **env},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        start_new_session=True,
        timeout=timeout_s,
    )


def _time_out(answer: asyncio.Future[dict[str, Any]]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
