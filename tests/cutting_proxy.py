"""A way between two peers that counts what passes and can be cut, for tests of links that break."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

PIECE_BYTES = 1 << 16


class CuttingProxy:
    """Forwards TCP connections to `target`, a `host:port` that is set before the first one comes.

    `to_client` counts the bytes that went back to those who connected. `pause_s` is how long every piece of them waits.
    """

    def __init__(self) -> None:
        self.target = ""
        self.to_client = 0
        self.pause_s = 0.0
        self._server = socket.create_server(("127.0.0.1", 0))
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
                server = socket.create_connection((host, int(port)), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            for source, sink, counts in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._carry, args=(source, sink, counts), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE_BYTES):
                sink.sendall(data)
                if counts:
                    self._count(len(data))
                    if self.pause_s:
                        time.sleep(self.pause_s)
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
def cutting_proxy() -> Iterator[CuttingProxy]:
    """Have such a way, and nothing of it afterwards."""
    proxy = CuttingProxy()
    try:
        yield proxy
    finally:
        proxy.close()
