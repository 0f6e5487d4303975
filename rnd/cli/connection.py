"""Talks to one daemon: JSON-RPC calls, downloads and uploads over its unix socket or TCP (`http.client`, blocking)."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import socket
from pathlib import Path
from typing import Any, BinaryIO, Final

from rnd.cli.failures import AUTH, UNREACHABLE, CommandFailed, refused_by_daemon, usage

SOCKET_NAME: Final = "api.sock"
CONNECT_TIMEOUT_S: Final = 5.0
CALL_TIMEOUT_S: Final = 60.0
MAX_ERROR_BODY_BYTES: Final = 64 << 10
TRANSPORT_FAULT: Final = "TRANSPORT"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, at any path length: sun_path holds 107 bytes, but a descriptor's path is short."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("rnd", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect through the descriptor of the socket's directory."""
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connected.settimeout(self.timeout)
                connected.connect(f"/proc/self/fd/{directory}/{self._path.name}")
            except BaseException:
                connected.close()
                raise
        finally:
            os.close(directory)
        self.sock = connected


class Daemon:
    """A daemon as its client sees it. One connection is kept for the calls of a command."""

    def __init__(self, *, data_dir: Path | None = None, url: str = "", token: str = "") -> None:
        """Name the daemon by its data directory, or by `url` (http://HOST:PORT) and `token`."""
        if (data_dir is None) == (not url):
            raise ValueError("a daemon is named by its data directory or by its url")
        self._data_dir = data_dir
        self._host, self._port = _host_and_port(url) if url else ("", 0)
        self._url = url
        self._token = token
        self._ids = itertools.count(1)
        self._kept: http.client.HTTPConnection | None = None

    @property
    def place(self) -> str:
        """Say where this daemon is, for messages."""
        return self._url or str(self._socket_path)

    @property
    def _socket_path(self) -> Path:
        assert self._data_dir is not None
        return self._data_dir / SOCKET_NAME

    def call(self, method: str, params: dict[str, Any] | list[Any] | None = None, *, patience_s: float = 0.0) -> Any:
        """Return the result of one call. Raises `CommandFailed`; `patience_s` is how long the method itself may take."""
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params or {}}
        try:
            body = json.dumps(request, allow_nan=False).encode()
        except ValueError as error:
            raise usage(f"the parameters are no JSON: {error}") from None
        response = self._send_kept("POST", "/rpc", body, CALL_TIMEOUT_S + patience_s)
        try:
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        if response.status != http.client.OK:
            raise self._refused_by_transport(response.status, text)
        answer = _json_object(text)
        if isinstance(answer.get("error"), dict):
            raise refused_by_daemon(answer["error"])
        if "result" not in answer:
            raise CommandFailed(f"{self.place} answered something that is not JSON-RPC", exit_code=UNREACHABLE)
        return answer["result"]

    def download(self, path: str) -> http.client.HTTPResponse:
        """Start a download and return the response. Raises `CommandFailed`.

        Its body has to be read to the end before this daemon is asked anything else, or the connection closed.
        """
        response = self._send_kept("GET", path, None, CALL_TIMEOUT_S)
        if response.status != http.client.OK:
            refusal = response.read(MAX_ERROR_BODY_BYTES)
            self.close()
            raise self._refused_by_transport(response.status, refusal)
        return response

    def upload(self, path: str, file: BinaryIO, size_bytes: int) -> Any:
        """Stream a file up and return the JSON answer. Raises `CommandFailed`."""
        headers = {"Content-Length": str(size_bytes), "Content-Type": "application/octet-stream"}
        response = self._send(self._open(CALL_TIMEOUT_S), "PUT", path, file, headers)
        text = response.read()
        if response.status not in {http.client.OK, http.client.CREATED}:
            raise self._refused_by_transport(response.status, text)
        return _json_object(text)

    def another(self) -> Daemon:
        """Return the same daemon by a connection of its own."""
        return Daemon(data_dir=self._data_dir, url=self._url, token=self._token)

    def close(self) -> None:
        """Close the kept connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    # ------------------------------------------------------------------ private

    def _send_kept(self, verb: str, path: str, body: bytes | None, timeout_s: float) -> http.client.HTTPResponse:
        """Send on the kept connection; one that the daemon has closed meanwhile shows itself before anything is sent."""
        if self._kept is not None and self._kept.sock is not None and _is_closed(self._kept.sock):
            self.close()
        if self._kept is None:
            self._kept = self._open(timeout_s)
        if self._kept.sock is not None:
            self._kept.sock.settimeout(timeout_s)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            return self._send(self._kept, verb, path, body, headers)
        except CommandFailed:
            self.close()
            raise

    def _open(self, timeout_s: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._url:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT_S)
        else:
            connection = _UnixConnection(self._socket_path, CONNECT_TIMEOUT_S)
        try:
            connection.connect()
        except OSError as error:
            raise self._unreachable(error) from None
        connection.sock.settimeout(timeout_s)
        return connection

    def _send(
        self,
        connection: http.client.HTTPConnection,
        verb: str,
        path: str,
        body: bytes | BinaryIO | None,
        headers: dict[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        authorization = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            try:
                connection.request(verb, path, body=body, headers={**(headers or {}), **authorization})
            except (BrokenPipeError, ConnectionResetError):
                # A daemon that refuses an upload answers and hangs up before it has read everything.
                if verb != "PUT":
                    raise
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> CommandFailed:
        if isinstance(error, TimeoutError):
            return CommandFailed(
                f"the daemon at {self.place} does not answer",
                exit_code=UNREACHABLE,
                hint="See what it does in its log, <data-dir>/logs/peer.log.",
            )
        if isinstance(error, PermissionError):
            return CommandFailed(
                f"no right to open {self.place}",
                exit_code=AUTH,
                hint="Run this as the daemon's user, or use --url and --token-file.",
            )
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        if self._data_dir is not None:
            from shlex import quote  # only a failure needs it

            hint = f"Start it: rnd serve --data-dir {quote(str(self._data_dir))}   (another one: --data-dir or --url)"
        else:
            hint = "Start it there with rnd serve, and check the address."
        return CommandFailed(f"no daemon answers at {self.place} ({why.lower()})", exit_code=UNREACHABLE, hint=hint)

    def _refused_by_transport(self, status: int, body: bytes) -> CommandFailed:
        if status == http.client.UNAUTHORIZED:
            hint = "Give a token: --token-file <data-dir>/api_token, RND_TOKEN_FILE or RND_TOKEN."
            if self._token:
                hint = "The token is unknown, has ended or was revoked; make one with rnd token create."
            return CommandFailed(f"{self.place} wants a valid token", exit_code=AUTH, hint=hint)
        message, hint, error = _said_in(body)
        message = message or f"{self.place} answered HTTP {status} {http.client.responses.get(status, '')}".rstrip()
        code = AUTH if status == http.client.FORBIDDEN else 1
        return CommandFailed(message, exit_code=code, hint=hint, error=error)


def _said_in(body: bytes) -> tuple[str, str, dict[str, Any] | None]:
    """Return message, hint and error object of a refusal's body; empty where it says nothing that can be shown."""
    try:
        answer = json.loads(body)
    except ValueError:
        text = body.decode("utf-8", errors="replace").strip()
        return (text if 0 < len(text) <= 300 and "<" not in text else ""), "", None
    if not isinstance(answer, dict):
        return "", "", None
    error = answer.get("error")
    if isinstance(error, dict):
        failed = refused_by_daemon(error)
        return failed.message, failed.hint, error
    hint = str(answer.get("hint") or "")
    if error == TRANSPORT_FAULT:
        return hint, "", answer  # what was wrong with the request is all there is to say
    message = str(answer.get("message") or (f"refused: {error}" if error else ""))
    return message, hint, answer


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise CommandFailed("the answer is not JSON; is this really a daemon of rnd?", exit_code=UNREACHABLE)
    return answer


def _host_and_port(url: str) -> tuple[str, int]:
    from urllib.parse import urlsplit  # loaded by http.client anyway

    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        raise usage(f"--url {url}: this is not an address", hint="Write it as http://127.0.0.1:30069") from None
    if parts.scheme != "http" or not parts.hostname or parts.username or parts.query:
        raise usage(f"--url {url}: must be http://HOST:PORT", hint="The daemon speaks HTTP on the loopback address.")
    return parts.hostname, port


def _is_closed(connected: socket.socket) -> bool:
    """Tell whether the other side has hung up (anything readable between two calls means that)."""
    connected.settimeout(0)
    try:
        connected.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
