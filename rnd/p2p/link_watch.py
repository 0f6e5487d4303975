"""Watches the TCP connection under a link: gives it no more than leaves soon, and tells when nobody is there any more.

What is judged by is in `outflow` and `signs_of_life`; here are the socket, the waiting and the ping.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from aiohttp import ClientWebSocketResponse, web

from rnd.p2p.outflow import FIRST_BYTES, Outflow
from rnd.p2p.signs_of_life import SignsOfLife
from rnd.p2p.tcp_progress import TcpProgress, look_at

LOOK_FIRST_S: Final = 0.001
LOOK_MOST_S: Final = 0.05
"""How often to look whether what was given to the socket has left: first soon, then less and less often."""

WebSocket = web.WebSocketResponse | ClientWebSocketResponse


class LinkWatch:
    """The connection of one websocket. Where nothing can be known of it, all that was given to it counts as gone."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._outflow: Outflow | None = None
        self._signs: SignsOfLife | None = None

    @property
    def frame_bytes(self) -> int:
        """How long a frame should be at most, so that what comes after it need not wait long."""
        return FIRST_BYTES if self._outflow is None else self._outflow.frame_bytes

    def begin(self) -> None:
        """Look for the first time, before anything is given."""
        progress, now_s = self._progress(), asyncio.get_running_loop().time()
        if progress is not None:
            self._outflow, self._signs = Outflow(progress), SignsOfLife(progress, now_s)

    def give(self, length: int) -> None:
        """Take note of what is given to the socket next."""
        if self._outflow is not None:
            self._outflow.give(length, asyncio.get_running_loop().time())

    def has_left(self, items: int) -> bool:
        """Say whether so many of all items that were ever given are on the wire."""
        self._look()
        return self._outflow is None or self._outflow.items_left >= items

    async def await_way(self) -> None:
        """Return when most of what was given has left."""
        pause_s = LOOK_FIRST_S
        while self._look() is not None and self._outflow is not None and not self._outflow.has_room:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_MOST_S)

    async def run(self, give_up: Callable[[str], None], group: asyncio.TaskGroup) -> None:
        """Ask for a sign of life when there was none for a while; `give_up`, with the reason, where none comes."""
        while self._signs is not None and (progress := self._look()) is not None:
            now_s = asyncio.get_running_loop().time()
            self._signs.note(progress, now_s)
            why = self._signs.why_given_up(now_s)
            if why:
                give_up(why)
                return
            if self._signs.wants_ping(now_s):
                self._signs.note_ping()
                group.create_task(self._ping())  # it may have to wait for the transport
            await asyncio.sleep(self._signs.pause_s(now_s))

    def cut(self) -> None:
        """End the connection under the link: who reads nothing would not read a goodbye either."""
        sock = self._socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    async def _ping(self) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):  # the connection is gone, which is noticed by itself
            await self._websocket.ping()

    def _look(self) -> TcpProgress | None:
        """Look at the connection; `None` where it is gone, which is noticed by itself."""
        progress = self._progress()
        if progress is not None and self._outflow is not None:
            self._outflow.note(progress, asyncio.get_running_loop().time())
        return progress

    def _progress(self) -> TcpProgress | None:
        sock = self._socket()
        try:
            return None if sock is None else look_at(sock)
        except OSError:
            return None

    def _socket(self) -> socket.socket | None:
        try:
            sock: socket.socket | None = self._websocket.get_extra_info("socket")
        except AttributeError:  # asyncio's TLS transport has let go of its protocol: the connection is gone
            return None
        return sock
