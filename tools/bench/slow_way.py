"""A way between two peers on one machine that takes its time: each byte arrives a fixed time after it was sent.

Two threads a direction and a queue between them, so that only time is added: how much passes at no delay through the same
way is what a delay is compared with.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time

PIECE_BYTES = 1 << 18
QUEUED_PIECES = 1_024


class SlowWay:
    """Forwards TCP connections to `target` (`host:port`); `one_way_s` may be changed at any time."""

    def __init__(self, target: str, one_way_s: float = 0.0) -> None:
        self.target = target
        self.one_way_s = one_way_s
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where it listens, as `host:port`."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            host, _, port = self.target.rpartition(":")
            try:
                server = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            for source, sink in ((client, server), (server, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(QUEUED_PIECES)
                threading.Thread(target=self._take, args=(source, pieces), daemon=True).start()
                threading.Thread(target=self._give, args=(sink, pieces), daemon=True).start()

    def _take(self, source: socket.socket, pieces: queue.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(PIECE_BYTES)
            except OSError:
                data = b""
            pieces.put((time.monotonic() + self.one_way_s, data))

    def _give(self, sink: socket.socket, pieces: queue.Queue[tuple[float, bytes]]) -> None:
        while True:
            due, data = pieces.get()
            wait_s = due - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            if not data:
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            try:
                sink.sendall(data)
            except OSError:
                return
