"""A way between two peers that counts what passes and can be cut, for tests of links that break."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

PIECE_BYTES = 1 << 16
SLOW_PIECE_BYTES = 1 << 12
SLOW_BUFFER_BYTES = 1 << 14
"""How much a slow way takes before it has passed it on, besides what the system rounds that up to."""


class CuttingProxy:
    """Forwards TCP connections to `target`, a `host:port` that is set before the first one comes.

    `to_client` counts the bytes that went back to those who connected, `to_server` the others. `pause_s` is how long every piece of them waits. With
    `rate_bytes_s` so much goes in either direction of a connection. While `is_held` nothing goes and nothing ends.
    """

    def __init__(self, *, rate_bytes_s: float | None = None) -> None:
        self.target = ""
        self.to_client = 0
        self.to_server = 0
        self.pause_s = 0.0
        self.is_held = False
        self._rate_bytes_s = rate_bytes_s
        self._server = socket.create_server(("127.0.0.1", 0))
        if rate_bytes_s is not None:
            self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._due: tuple[int, Callable[[], None]] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where it listens, as `host:port`."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def after(self, count: int, do: Callable[[], None]) -> None:
        """Do something once, in a thread of the proxy, when so many more bytes have gone to clients."""
        self._due = (self.to_client + count, do)

    def cut(self) -> None:
        """Reset every connection that is open."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                connection.close()

    def close(self) -> None:
        """End it."""
        self.is_held = False
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            host, _, port = self.target.rpartition(":")
            try:
                server = self._connect(host, int(port))
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            for source, sink, counts in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._carry, args=(source, sink, counts), daemon=True).start()

    def _connect(self, host: str, port: int) -> socket.socket:
        server = socket.socket()
        server.settimeout(5)
        if self._rate_bytes_s is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
        try:
            server.connect((host, port))
        except BaseException:
            server.close()
            raise
        return server

    def _carry(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE_BYTES if self._rate_bytes_s is None else SLOW_PIECE_BYTES):
                if self._rate_bytes_s is not None:
                    time.sleep(len(data) / self._rate_bytes_s)
                while self.is_held:
                    time.sleep(0.01)
                sink.sendall(data)
                if counts:
                    self._count(len(data))
                    if self.pause_s:
                        time.sleep(self.pause_s)
                else:
                    with self._lock:
                        self.to_server += len(data)
        for connection in (source, sink):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _count(self, count: int) -> None:
        with self._lock:
            self.to_client += count
            due = self._due
            if due is None or self.to_client < due[0]:
                return
            self._due = None
        due[1]()


@contextlib.contextmanager
def cutting_proxy(*, rate_bytes_s: float | None = None) -> Iterator[CuttingProxy]:
    """Have such a way, and nothing of it afterwards."""
    proxy = CuttingProxy(rate_bytes_s=rate_bytes_s)
    try:
        yield proxy
    finally:
        proxy.close()
