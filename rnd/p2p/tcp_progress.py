"""What the system knows of a TCP connection: how much has come, and where that is which was sent (tcp(7); Linux 4.6)."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Final, NamedTuple

_INFO_BYTES: Final = 232
_BYTE_COUNTS: Final = struct.Struct("=QQ")
_BYTE_COUNTS_AT: Final = 120
"""Where `tcpi_bytes_acked` and `tcpi_bytes_received` are in `struct tcp_info`."""
_CAME_AGO: Final = struct.Struct("=I")
_CAME_AGO_AT: Final = 52
_UNSENT: Final = struct.Struct("=I")
_UNSENT_AT: Final = 144
_QUEUED: Final = struct.Struct("=i")


class TcpProgress(NamedTuple):
    """One look at a connection. All of it is the system's own count, whether this process has been busy or not."""

    received: int
    """How many bytes have come; this process may not have read them yet."""
    came_ago_s: float
    """How long ago the last of them came."""
    acknowledged: int
    """How many bytes the other side's system has."""
    queued: int
    """How many more were given to this system, on their way ones included."""
    unsent: int
    """How many of these have not been put on the wire yet."""

    @property
    def left(self) -> int:
        """How many bytes have been put on the wire."""
        return self.acknowledged + self.queued - self.unsent


def look_at(sock: socket.socket) -> TcpProgress:
    """Look at a connection. Raises `OSError` where it is gone."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    # Asked second: what is acknowledged in between is counted in neither, and never in both.
    (queued,) = _QUEUED.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_QUEUED.size)))
    acknowledged, received = _BYTE_COUNTS.unpack_from(info, _BYTE_COUNTS_AT)
    (came_ago_ms,) = _CAME_AGO.unpack_from(info, _CAME_AGO_AT)
    (unsent,) = _UNSENT.unpack_from(info, _UNSENT_AT)
    return TcpProgress(received, came_ago_ms / 1000, acknowledged, queued, min(unsent, queued))
