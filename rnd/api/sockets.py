"""The two listening sockets: a unix socket at a path of any length, and TCP; made here or handed over by a service manager."""

from __future__ import annotations

import contextlib
import errno
import grp
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rnd.types.errors import AddressInUse

BACKLOG: Final = 128
USER_TIMEOUT_MS: Final = 60_000
"""A TCP client that takes nothing for this long is cut off (a stalled download resumes with Range)."""


class UnixListener:
    """A listening unix socket; `close` removes the file if it is still ours."""

    def __init__(
        self, sock: socket.socket, path: Path, directory_fd: int = -1, inode: tuple[int, int] = (0, 0)
    ) -> None:
        """`directory_fd` is the folder of a file that is ours to remove; it is not where somebody else has made it."""
        self.sock = sock
        self.path = path
        self._directory_fd = directory_fd
        self._inode = inode

    def close(self) -> None:
        """Close the socket and remove its file. Idempotent."""
        self.sock.close()
        if self._directory_fd < 0:
            return
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self.path.name, dir_fd=self._directory_fd, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == self._inode:
                os.unlink(self.path.name, dir_fd=self._directory_fd)
        os.close(self._directory_fd)
        self._directory_fd = -1


def listen_unix(path: Path, *, group: str = "") -> UnixListener:
    """Listen at `path`, mode 0600, or 0660 and owned by `group`. A socket that nobody answers at is replaced.

    Raises `AddressInUse` where somebody does answer, `LookupError` for an unknown group, `OSError`.
    """
    directory_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path, directory_fd)
        # Linux gives the file the mode of the socket's own inode, so it is never open to others, not even at first.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(_short(directory_fd, path.name))
        if group:
            os.chown(path.name, -1, _group_id(group), dir_fd=directory_fd, follow_symlinks=False)
            os.chmod(path.name, 0o660, dir_fd=directory_fd)
        made = os.stat(path.name, dir_fd=directory_fd, follow_symlinks=False)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        os.close(directory_fd)
        raise
    return UnixListener(sock, path, directory_fd, (made.st_dev, made.st_ino))


def connect_unix(path: Path) -> socket.socket:
    """Return a blocking connection to the unix socket at `path`, which may be longer than a socket address."""
    with _directory(path) as directory_fd:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(_short(directory_fd, path.name))
        except BaseException:
            sock.close()
            raise
    return sock


def listen_tcp(address: str) -> socket.socket:
    """Listen at `host:port` of the loopback (`[::1]:0` takes a free port of IPv6).

    Raises `AddressInUse`, `ValueError`, `OSError`.

    The API is plain HTTP with a bearer token, so it never listens where others could read along.
    """
    host, port = parse_address(address)
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    _require_loopback(str(where[0]), address)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)  # accepted sockets inherit it
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"{address} is in use by another process: stop what listens there, or choose another address with --api"
            ) from error
        raise
    return sock


def take_over(passed: Sequence[socket.socket]) -> tuple[UnixListener | None, socket.socket | None]:
    """Return the unix listener and the TCP listener among sockets that a service manager has opened.

    Who may connect to the unix socket is what its file says, which is the unit's to say. Raises `ValueError` with words for
    the person who wrote the unit: for two of a kind, and for what the API would not listen at by itself.
    """
    unix: UnixListener | None = None
    tcp: socket.socket | None = None
    for sock in passed:
        name = sock.getsockname()
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError(
                f"the socket {name!r} that was handed over does not listen for streams (use ListenStream=)"
            )
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX and unix is None:
            if not isinstance(name, str) or not name.startswith("/"):
                raise ValueError("the API listens at no abstract socket: everybody on this machine could connect to it")
            unix = UnixListener(sock, Path(name))
        elif sock.family in {socket.AF_INET, socket.AF_INET6} and tcp is None:
            _require_loopback(name[0], f"{name[0]}:{name[1]}")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            tcp = sock
        else:
            raise ValueError("the API takes one unix socket and one TCP socket from the service manager, no other")
    return unix, tcp


def parse_address(address: str) -> tuple[str, int]:
    """Return the host and port of `host:port` or `[v6]:port`. Raises `ValueError`."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r}: an IPv6 address stands in brackets, as in [::1]:30069")
    return host, int(port)


def _require_loopback(host: str, address: str) -> None:
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError(
            f"the API listens on the loopback only, not at {address}; an SSH tunnel reaches it from elsewhere"
        )


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[int]:
    directory_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory_fd
    finally:
        os.close(directory_fd)


def _short(directory_fd: int, name: str) -> str:
    """Return a name of the same file that fits a socket address (108 bytes) however long its folder's path is."""
    return f"/proc/self/fd/{directory_fd}/{name}"


def _remove_stale(path: Path, directory_fd: int) -> None:
    try:
        found = os.stat(path.name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise AddressInUse(errno.EADDRINUSE, "something that is not a socket is in the way", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        outcome = probe.connect_ex(_short(directory_fd, path.name))
    if outcome != errno.ECONNREFUSED:
        raise AddressInUse(errno.EADDRINUSE, "another daemon listens at this socket", str(path))
    os.unlink(path.name, dir_fd=directory_fd)


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise LookupError(f"there is no group {group!r} (api_group)") from None
