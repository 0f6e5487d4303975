"""The daemon's side of the spawner: starts it when it is needed, and asks it over one lasting connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rnd.services import seat, spawner
from rnd.types.errors import ExecutorUnavailable

REQUEST_TIMEOUT_S = 30.0
START_TIMEOUT_S = 10.0
EndTold = dict[str, Any]
"""The last line of a run's record as its keeper told it; empty where it has to be read there."""
TRIES = 3
"""A spawner may be on its way out just when it is asked; each try finds another one or starts it."""
ANSWER_MAX_BYTES = 1 << 16


class SpawnerGone(Exception):
    """The connection ended before the answer came."""


class SpawnerClient:
    """Asks the spawner of one data directory; many requests may be under way at once."""

    def __init__(self, data_dir: Path, *, version: str) -> None:
        self._data_dir = data_dir
        self._version = version
        self._connecting = asyncio.Lock()
        self._link: _Link | None = None

    async def submit(self, run: dict[str, Any]) -> dict[str, Any]:
        """Have a run started, or found, and return its handle. Raises `ExecutorUnavailable` as `request` does."""
        return dict((await self.request("submit", run=run))["handle"])

    async def request(self, operation: str, **fields: object) -> dict[str, Any]:
        """Ask, starting the spawner if there is none, and return the answer's fields.

        Raises `ExecutorUnavailable` with the spawner's words if it refuses, or if there is no getting through.
        """
        for _ in range(TRIES):
            link = await self._connect()
            assert link is not None
            try:
                answer = await link.ask(operation, fields, timeout_s=REQUEST_TIMEOUT_S)
            except SpawnerGone:
                continue
            except TimeoutError:
                raise ExecutorUnavailable(f"the spawner has not answered for {REQUEST_TIMEOUT_S:.0f} s") from None
            if "error" in answer:
                raise ExecutorUnavailable(str(answer["error"]))
            return answer
        raise ExecutorUnavailable("the spawner ends as soon as it is asked; see run/spawner.log in the data directory")

    def tells(self, engine_name: str) -> bool:
        """Say whether the spawner tells the end of a run without being asked: of those it started for this client."""
        return self._link is not None and engine_name in self._link.ends

    async def ended(self, engine_name: str, keeper_pid: int) -> EndTold | None:
        """Wait until a run has ended; return how, `None` at once where that cannot be learned from a spawner.

        That is so if none is there, if it goes, or if the run has a keeper that is not its own. How a run ended is told
        once; whoever asks again finds it in the record.
        """
        try:
            link = await self._connect(start=False)
            if link is None:
                return None
            if engine_name in link.ends:
                told = await asyncio.shield(link.ends[engine_name])
                link.ends.pop(engine_name, None)
                return told
            answer = await link.ask("wait", {"engine_name": engine_name, "keeper_pid": keeper_pid})
        except (SpawnerGone, ExecutorUnavailable):
            return None
        if "stranger" in answer or "error" in answer:
            return None
        return answer.get("ended") or {}

    def forget(self, engine_name: str) -> None:
        """Drop what is known of a run that nobody will ask for any more."""
        if self._link is not None:
            self._link.ends.pop(engine_name, None)

    async def close(self, *, stop: bool) -> None:
        """Hang up; with `stop` tell the spawner that it may go as soon as it keeps nothing."""
        link, self._link = self._link, None
        if link is None:
            return
        if stop:
            with contextlib.suppress(SpawnerGone, TimeoutError):
                await link.ask("stop", {}, timeout_s=REQUEST_TIMEOUT_S)
        link.close()

    async def _connect(self, *, start: bool = True) -> _Link | None:
        """Return the connection, making one; `None` only if nothing is there and nothing is to be started."""
        if self._link is not None and not self._link.lost:
            return self._link
        async with self._connecting:
            for _ in range(TRIES):
                if self._link is not None and not self._link.lost:
                    return self._link
                link = await self._reach()
                if link is None and not start:
                    return None
                if link is None:
                    await asyncio.to_thread(self._start)
                    continue
                try:
                    greeting = await link.ask("hello", {}, timeout_s=REQUEST_TIMEOUT_S)
                    if greeting.get("version") == self._version:
                        self._link = link
                        return link
                    # an older release's: it keeps what it has and takes no more
                    await link.ask("retire", {}, timeout_s=REQUEST_TIMEOUT_S)
                except SpawnerGone:
                    pass
                except TimeoutError:
                    link.close()
                    raise ExecutorUnavailable(f"the spawner has not answered for {REQUEST_TIMEOUT_S:.0f} s") from None
                link.close()
        raise ExecutorUnavailable("the spawner cannot be reached; see run/spawner.log in the data directory")

    async def _reach(self) -> _Link | None:
        """Connect to the spawner that is there; `None` if none is."""
        folder = seat.open_folder(os.fspath(self._data_dir))
        try:
            path = seat.socket_path(folder, spawner.SEAT)
            _, link = await asyncio.get_running_loop().create_unix_connection(_Link, path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        finally:
            os.close(folder)
        return link

    def _start(self) -> None:
        """Start a spawner and return when it listens. It gets nothing of ours but the data directory's name."""
        try:
            # The process that is waited for here forks the spawner and ends.
            done = _run_entry(self._data_dir, self._version, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExecutorUnavailable(f"the spawner does not start: {error}") from error
        if done.returncode != 0:
            last_words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise ExecutorUnavailable(f"the spawner does not start: {last_words}")


def probe_confinement(data_dir: Path) -> str:
    """Return "" or why programs cannot be confined here. Blocks while a process of its own tries it."""
    try:
        done = _run_entry(data_dir, "--probe", stdout=subprocess.PIPE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the probe of it does not run: {error}"
    words = (done.stderr if done.returncode != 0 else done.stdout).decode(errors="replace").strip()
    return words.rpartition("\n")[2] or ("" if done.returncode == 0 else "the probe of it failed")


def _run_entry(data_dir: Path, argument: str, *, stdout: int) -> subprocess.CompletedProcess[bytes]:
    entry = Path(spawner.__file__).with_name("spawner_main.py")
    return subprocess.run(
        [sys.executable, "-I", "-S", os.fspath(entry), os.fspath(data_dir.absolute()), argument],
        check=False,
        cwd="/",
        env={"PATH": os.defpath, "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        start_new_session=True,
        timeout=START_TIMEOUT_S,
    )


class _Link(asyncio.Protocol):
    """One connection: requests out, answers matched to them by id.

    `ends` holds, by engine name, the runs whose end comes without another request: `None` if the connection was lost.
    """

    def __init__(self) -> None:
        self.lost = False
        self.ends: dict[str, asyncio.Future[EndTold | None]] = {}
        self._started: dict[int, asyncio.Future[EndTold | None]] = {}
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._unsent: list[bytes] = []
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def ask(self, operation: str, fields: dict[str, object], *, timeout_s: float | None = None) -> dict[str, Any]:
        """Send one request and wait for its answer. Raises `SpawnerGone`, and `TimeoutError` where there is a bound."""
        if self.lost or self._transport is None:
            raise SpawnerGone
        self._last_id += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._last_id] = answer
        message = {"id": self._last_id, "op": operation, **fields}
        self._write_soon(json.dumps(message).encode() + b"\n")
        if timeout_s is None:
            return await answer
        bound = asyncio.get_running_loop().call_later(timeout_s, _time_out, answer)
        try:
            return await answer
        finally:
            bound.cancel()

    def _write_soon(self, line: bytes) -> None:
        """Write what one turn of the event loop asks as one: each write wakes the spawner, which then takes our processor."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._write)
        self._unsent.append(line)

    def _write(self) -> None:
        lines, self._unsent = self._unsent, []
        if self._transport is not None and not self.lost:
            self._transport.write(b"".join(lines))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line.decode()))  # of bytes it would guess the encoding anew each time
        if len(self._unread) > ANSWER_MAX_BYTES and self._transport is not None:
            self._transport.abort()

    def _take(self, answer: dict[str, Any]) -> None:
        number = answer["id"]
        end = self._started.pop(number, None)
        if end is not None:
            if not end.done():
                end.set_result(answer["ended"] or {})
            return
        if answer.get("tells"):
            end = asyncio.get_running_loop().create_future()
            self._started[number] = self.ends[answer["handle"]["engine_name"]] = end
        future = self._waiting.pop(number, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.lost = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(SpawnerGone())
        self._waiting.clear()
        for end in self._started.values():
            if not end.done():
                end.set_result(None)
        self._started.clear()


def _time_out(answer: asyncio.Future[dict[str, Any]]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
