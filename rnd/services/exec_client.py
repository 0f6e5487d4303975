"""The daemon's side of rnd-exec: starts it when it is needed, and asks it over one lasting connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rnd.services import seat
from rnd.types.errors import ExecutorUnavailable

SEAT: Final = "exec"
REQUEST_TIMEOUT_S: Final = 180.0
"""Longer than the bound that each of the few calls to the engine behind one request has."""
START_TIMEOUT_S: Final = 20.0
TRIES: Final = 3
AGAIN_S: Final = 0.2
AGAIN_MAX_S: Final = 5.0
ANSWER_MAX_BYTES: Final = 4 << 20
ENVIRONMENT: Final = ("DOCKER_HOST", "DOCKER_CONFIG", "HOME", "XDG_RUNTIME_DIR")
"""Where the engine is and how its owner has logged in to registries; nothing else of ours reaches rnd-exec."""

News = Callable[[dict[str, Any]], None]


class ExecGone(Exception):
    """The connection ended before the answer came."""


class ExecClient:
    """Asks the rnd-exec of one data directory; many requests may be under way at once."""

    def __init__(self, data_dir: Path, *, version: str) -> None:
        self._data_dir = data_dir
        self._version = version
        self._connecting = asyncio.Lock()
        self._link: _Link | None = None

    async def request(
        self, operation: str, *, timeout_s: float | None = REQUEST_TIMEOUT_S, news: News | None = None, **fields: object
    ) -> dict[str, Any]:
        """Ask, starting rnd-exec if there is none, and return the answer's fields.

        Raises `ExecutorUnavailable` with its words if it refuses, or if there is no getting through.
        """
        for _ in range(TRIES):
            link = await self._connect()
            try:
                answer = await link.ask(operation, fields, timeout_s=timeout_s, news=news)
            except ExecGone:
                continue
            except TimeoutError:
                raise ExecutorUnavailable(f"rnd-exec has not answered for {timeout_s:.0f} s") from None
            if "error" in answer:
                raise ExecutorUnavailable(str(answer["error"]))
            return answer
        raise ExecutorUnavailable("rnd-exec ends as soon as it is asked; see run/exec.log in the data directory")

    async def request_until_answered(self, operation: str, **fields: object) -> dict[str, Any]:
        """Ask for what comes in its time, and again whenever rnd-exec has gone meanwhile. Raises `ExecutorUnavailable`."""
        pause_s = AGAIN_S
        while True:
            try:
                link = await self._connect()
                answer = await link.ask(operation, fields, timeout_s=None, news=None)
            except (ExecGone, ExecutorUnavailable):
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, AGAIN_MAX_S)
                continue
            if "error" in answer:
                raise ExecutorUnavailable(str(answer["error"]))
            return answer

    async def close(self, *, stop: bool) -> None:
        """Hang up; with `stop` tell rnd-exec that it may go as soon as it keeps nothing."""
        link, self._link = self._link, None
        if link is None:
            return
        if stop:
            with contextlib.suppress(ExecGone, TimeoutError):
                await link.ask("stop", {}, timeout_s=REQUEST_TIMEOUT_S, news=None)
        link.close()

    async def _connect(self) -> _Link:
        if self._link is not None and not self._link.lost:
            return self._link
        async with self._connecting:
            for _ in range(TRIES):
                if self._link is not None and not self._link.lost:
                    return self._link
                link = await self._reach()
                if link is None:
                    await asyncio.to_thread(self._start)
                    continue
                try:
                    await link.ask("hello", {}, timeout_s=REQUEST_TIMEOUT_S, news=None)
                except ExecGone:
                    link.close()
                    continue
                except TimeoutError:
                    link.close()
                    raise ExecutorUnavailable("rnd-exec does not answer") from None
                self._link = link
                return link
        raise ExecutorUnavailable("rnd-exec cannot be reached; see run/exec.log in the data directory")

    async def _reach(self) -> _Link | None:
        """Connect to the rnd-exec that is there; `None` if none is."""
        folder = seat.open_folder(os.fspath(self._data_dir))
        try:
            path = seat.socket_path(folder, SEAT)
            _, link = await asyncio.get_running_loop().create_unix_connection(_Link, path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        finally:
            os.close(folder)
        return link

    def _start(self) -> None:
        """Start rnd-exec and return when it listens."""
        entry = Path(seat.__file__).with_name("exec_main.py")
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        try:
            # The process that is waited for here forks rnd-exec and ends.
            done = subprocess.run(
                [sys.executable, "-P", os.fspath(entry), os.fspath(self._data_dir.absolute()), self._version],
                check=False,
                cwd="/",
                env={"PATH": os.defpath, "LANG": "C.UTF-8", **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                timeout=START_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExecutorUnavailable(f"rnd-exec does not start: {error}") from error
        if done.returncode != 0:
            last_words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise ExecutorUnavailable(f"rnd-exec does not start: {last_words}")


class _Link(asyncio.Protocol):
    """One connection: requests out, news and answers matched to them by id."""

    def __init__(self) -> None:
        self.lost = False
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._last_id = 0
        self._waiting: dict[int, tuple[asyncio.Future[dict[str, Any]], News | None]] = {}

    async def ask(
        self, operation: str, fields: dict[str, object], *, timeout_s: float | None, news: News | None
    ) -> dict[str, Any]:
        """Send one request and wait for its answer. Raises `ExecGone`, and `TimeoutError` where there is a bound."""
        if self.lost or self._transport is None:
            raise ExecGone
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer, news
        self._transport.write(json.dumps({"id": number, "op": operation, **fields}).encode() + b"\n")
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """Hang up."""
        self.lost = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        *lines, self._unread = self._unread.split(b"\n")
        if len(self._unread) > ANSWER_MAX_BYTES:
            self.close()
            return
        for line in lines:
            self._take(json.loads(line))

    def _take(self, answer: dict[str, Any]) -> None:
        future, news = self._waiting.get(answer.get("id", 0), (None, None))
        if "news" in answer:
            if news is not None:
                news(answer["news"])
        elif future is not None and not future.done():
            future.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.lost = True
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(ExecGone())
