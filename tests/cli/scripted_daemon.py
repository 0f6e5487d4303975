"""A small HTTP server on a unix socket that answers the contract's JSON-RPC as a test scripts it: hostile, broken, away.

What a good daemon does is tested against the real one; this is for answers that the real one never gives.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Answer = Callable[[dict[str, Any]], Any]


class Refusal(Exception):
    """Raised by an answer: the JSON-RPC error object to send."""

    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "data": data}


class ScriptedDaemon(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers each method by the callable or value that `methods` holds, and each GET by the bytes in `files`.

    `raw` and `status` replace every answer; `hang_ups` is how many of the next requests get none.
    """

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        # The socket is bound by way of the folder's descriptor, so that long paths work.
        self.folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        super().__init__(f"/proc/self/fd/{self.folder}/{path.name}", _Handler)
        self.methods: dict[str, Answer | Any] = {}
        self.files: dict[str, bytes] = {}
        self.raw: bytes | None = None
        self.status = 200
        self.hang_ups = 0
        self.connections = 0
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        request, _ = super().get_request()
        self.connections += 1
        return request, ("client", 0)

    def called(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of each call of a method."""
        return [params for name, params in self.calls if name == method]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedDaemon

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.hang_ups:
            self.server.hang_ups -= 1
            self.close_connection = True
            return
        if self.server.raw is not None:
            self._send(self.server.status, self.server.raw)
            return
        self.server.calls.append((request["method"], request["params"]))
        answer: Mapping[str, Any]
        try:
            scripted = self.server.methods[request["method"]]
            answer = {"result": scripted(request["params"]) if callable(scripted) else scripted}
        except Refusal as refusal:
            answer = {"error": refusal.error}
        except KeyError:
            answer = {"error": {"code": -32601, "message": "Method not found"}}
        self._send(200, json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}).encode())

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        self._send(200 if content is not None else 404, content or b"{}")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(self.server.status, self.server.raw or b"{}")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class calls it so
        pass

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def scripted_daemon(path: Path) -> Iterator[ScriptedDaemon]:
    """Serve on a socket path until the test ends."""
    server = ScriptedDaemon(path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        os.close(server.folder)
