"""A wire to one daemon that goes wrong in every way that TCP connections do, while it is told to, and is whole again afterwards.

Whoever dials the daemon comes here. Bytes go `TOWARD` the daemon that is dialled and `BACK` to who has dialled it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

T = TypeVar("T")

TOWARD: Final = "toward"
BACK: Final = "back"
DIRECTIONS: Final = (TOWARD, BACK)

PIECE_BYTES: Final = 1 << 16
SLICE_S: Final = 0.05
"""A piece goes on in slices, so that a change of speed is felt so soon."""
ON_THE_WAY_PIECES: Final = 64
"""So many pieces of a connection are taken in one direction before they are passed on, besides what the system holds."""
CONNECT_S: Final = 5.0


@dataclass(slots=True)
class _Way:
    """One direction of one connection."""

    source: socket.socket
    sink: socket.socket
    direction: str
    swallow_bytes: int
    cut_after_bytes: int | None
    is_dead: bool = False
    is_over: bool = False
    passed_bytes: int = 0
    pieces: asyncio.Queue[tuple[float, bytes]] = field(default_factory=lambda: asyncio.Queue(ON_THE_WAY_PIECES))
    """When each piece may go on, by the event loop's clock; an empty one is the end."""


@dataclass(eq=False, slots=True)
class _Connection:
    ways: tuple[_Way, _Way]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def sockets(self) -> tuple[socket.socket, socket.socket]:
        return self.ways[0].source, self.ways[0].sink


class FaultyWire:
    """Listens on `address` and passes on to `target`, a `host:port` that is set before anybody comes.

    `taken_bytes` counts what was taken of either side, whether it was passed on or not. `rate_bytes_s` is what each direction of a connection
    carries as long as nothing is wrong with it.
    """

    def __init__(self, *, rate_bytes_s: float) -> None:
        self.target = ""
        self.taken_bytes = 0
        self._sound_rate_bytes_s = rate_bytes_s
        self._rate_bytes_s = rate_bytes_s
        self._delay_s = 0.0
        self._swallow_bytes = dict.fromkeys(DIRECTIONS, 0)
        self._cut_after_bytes: int | None = None
        self._connections: set[_Connection] = set()
        self._flows: dict[str, asyncio.Event] = {}
        self._loop = asyncio.new_event_loop()
        self._holder = socket.socket()  # holds the port while nobody listens there
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._holder.getsockname()[1]}"
        self._server: socket.socket | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._begin)

    # ---- faults

    def cut(self, *, is_reset: bool) -> None:
        """End every connection: with RST, or with FIN, as if either side had closed it."""
        self._do(self._reset_all if is_reset else self._finish_all)

    def stall(self, *directions: str) -> None:
        """Take bytes and pass none; those that exist then go on once the wire is sound again."""
        self._do(lambda: self._stop_flows(directions))

    def flow(self) -> None:
        """Pass on again what is taken."""
        self._do(self._start_flows)

    def forget(self, *directions: str) -> None:
        """Let what goes in these directions of the connections that there are now vanish for ever, and say nothing of it."""
        self._do(lambda: self._forget(directions))

    def drip(self, rate_bytes_s: float | None) -> None:
        """Pass on so many bytes a second only; `None` for as many as before."""
        self._rate_bytes_s = self._sound_rate_bytes_s if rate_bytes_s is None else rate_bytes_s

    def delay(self, delay_s: float) -> None:
        """Have everything take so much longer."""
        self._delay_s = delay_s

    def refuse(self) -> None:
        """Refuse connections."""
        self._do(self._stop_listening)

    def accept(self) -> None:
        """Take connections again."""
        self._do(self._listen)

    def swallow(self, direction: str, count: int) -> None:
        """Have each new connection lose its first bytes in a direction."""
        self._swallow_bytes[direction] = count

    def cut_early(self, after_bytes: int | None) -> None:
        """Have each new connection reset when so many bytes have come toward the daemon; `None` for never."""
        self._cut_after_bytes = after_bytes

    def heal(self) -> None:
        """Be whole again. What a connection has lost it has lost."""
        self.drip(None)
        self.delay(0.0)
        self.cut_early(None)
        for direction in DIRECTIONS:
            self.swallow(direction, 0)
        self.flow()
        self.accept()

    @property
    def open_connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def close(self) -> None:
        """End it."""
        self._do(self._stop_listening)
        self._do(self._reset_all)
        asyncio.run_coroutine_threadsafe(self._come_to_rest(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._holder.close()

    # ---- in the thread of the loop

    def _do(self, work: Callable[[], T]) -> T:
        async def in_loop() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(in_loop(), self._loop).result(10)

    async def _come_to_rest(self) -> None:
        """Wait until nothing is done for a connection any more."""
        while self._chores:
            await asyncio.wait(self._chores)
            self._reset_all()

    def _begin(self) -> None:
        self._flows = {direction: asyncio.Event() for direction in DIRECTIONS}
        self._start_flows()
        self._listen()

    def _stop_flows(self, directions: tuple[str, ...]) -> None:
        for direction in directions:
            self._flows[direction].clear()

    def _start_flows(self) -> None:
        for flow in self._flows.values():
            flow.set()

    def _listen(self) -> None:
        if self._server is None:
            self._server = socket.socket()
            self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._server.bind(self._holder.getsockname())
            self._server.listen(128)
            self._server.setblocking(False)
            self._loop.add_reader(self._server, self._take_in, self._server)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._loop.remove_reader(self._server)
            self._server.close()
            self._server = None

    def _take_in(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # who came has gone again
            client, _ = server.accept()
            self._see_to(self._connect(client))

    async def _connect(self, client: socket.socket) -> None:
        host, _, port = self.target.rpartition(":")
        server = socket.socket()
        server.setblocking(False)
        client.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._loop.sock_connect(server, (host, int(port)))
            if self._server is None:
                raise ConnectionRefusedError("nobody may come in any more")
        except OSError:  # or the daemon is away
            _reset(client)
            server.close()
            return
        toward = _Way(client, server, TOWARD, self._swallow_bytes[TOWARD], self._cut_after_bytes)
        back = _Way(server, client, BACK, self._swallow_bytes[BACK], None)
        connection = _Connection((toward, back))
        self._connections.add(connection)
        for way in connection.ways:
            connection.tasks.append(self._loop.create_task(self._take(connection, way)))
            connection.tasks.append(self._loop.create_task(self._pass_on(connection, way)))

    async def _take(self, connection: _Connection, way: _Way) -> None:
        """Take what comes, and when it comes."""
        while True:
            try:
                data = await self._loop.sock_recv(way.source, PIECE_BYTES)
            except OSError:
                if not way.is_dead:
                    self._end(connection)
                return
            self.taken_bytes += len(data)
            swallowed = min(way.swallow_bytes, len(data))
            way.swallow_bytes -= swallowed
            if not way.is_dead and (len(data) > swallowed or not data):
                await way.pieces.put((self._loop.time() + self._delay_s, data[swallowed:]))
            if not data:
                return

    async def _pass_on(self, connection: _Connection, way: _Way) -> None:
        """Pass on what was taken, when it may go."""
        with contextlib.suppress(OSError):
            while True:
                due_s, data = await way.pieces.get()
                await asyncio.sleep(due_s - self._loop.time())
                await self._flows[way.direction].wait()
                if way.is_dead:
                    continue
                if not data:
                    way.sink.shutdown(socket.SHUT_WR)
                    way.is_over = True
                    if all(each.is_over for each in connection.ways):
                        self._end(connection, is_reset=False)
                    return
                if way.cut_after_bytes is not None and way.passed_bytes + len(data) >= way.cut_after_bytes:
                    await self._loop.sock_sendall(way.sink, data[: way.cut_after_bytes - way.passed_bytes])
                    break
                await self._send_slowly(way.sink, data)
                way.passed_bytes += len(data)
        self._end(connection)

    async def _send_slowly(self, sink: socket.socket, data: bytes) -> None:
        at = 0
        while at < len(data):
            rate_bytes_s = self._rate_bytes_s
            piece = data[at : at + max(1, int(rate_bytes_s * SLICE_S))]
            await self._loop.sock_sendall(sink, piece)
            at += len(piece)
            await asyncio.sleep(len(piece) / rate_bytes_s)

    def _forget(self, directions: tuple[str, ...]) -> None:
        for connection in self._connections:
            for way in connection.ways:
                way.is_dead |= way.direction in directions

    def _reset_all(self) -> None:
        for connection in list(self._connections):
            self._end(connection)

    def _finish_all(self) -> None:
        """Say FIN to either side of every connection, and hear nothing of it any more until both have gone too."""
        for connection in list(self._connections):
            for way in connection.ways:
                way.is_dead = True
                with contextlib.suppress(OSError):
                    way.sink.shutdown(socket.SHUT_WR)
                while not way.pieces.empty():  # who takes may wait for room
                    way.pieces.get_nowait()
            for task in connection.tasks[1::2]:
                task.cancel()
            connection.tasks.append(self._loop.create_task(self._until_both_have_gone(connection)))

    async def _until_both_have_gone(self, connection: _Connection) -> None:
        await asyncio.wait(connection.tasks[0:4:2])
        self._end(connection, is_reset=False)

    def _end(self, connection: _Connection, *, is_reset: bool = True) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        this = asyncio.current_task()
        for task in connection.tasks:
            if task is not this:
                task.cancel()
        self._see_to(self._close_sockets(connection, is_reset=is_reset))

    async def _close_sockets(self, connection: _Connection, *, is_reset: bool) -> None:
        await asyncio.wait(connection.tasks)  # before that the loop still watches their descriptors
        for each in connection.sockets:
            if is_reset:
                _reset(each)
            else:
                each.close()

    def _see_to(self, chore: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def faulty_wires(count: int, *, rate_bytes_s: float) -> Iterator[list[FaultyWire]]:
    """Have so many wires, and nothing of them afterwards."""
    wires = [FaultyWire(rate_bytes_s=rate_bytes_s) for _ in range(count)]
    try:
        yield wires
    finally:
        for wire in wires:
            wire.close()
