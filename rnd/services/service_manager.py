"""What a process tells the service manager that started it, and what that has handed over to it.

Two small protocols of systemd, which other managers speak too: datagrams with lines of `NAME=value` (sd_notify(3)), and
listening sockets from descriptor 3 on (sd_listen_fds(3)). Both are announced in the environment, from which they are taken:
what this process starts is not the service. Standard library only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import NamedTuple

FIRST_DESCRIPTOR = 3
SOCKETS_MAX = 16
MICROSECONDS = 1_000_000


class ServiceManager:
    """Who started this process, if a service manager did; if none did, there is nobody to tell anything."""

    def __init__(self, address: str = "", *, watchdog_s: float | None = None) -> None:
        """`address` is a path, or a name of the abstract kind behind an `@`. Raises `ValueError` for any other."""
        if address and address[0] not in "/@":
            raise ValueError(f"NOTIFY_SOCKET is {address!r}, which is neither a path nor an abstract socket")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s if address else None
        """Within how long it wants a sign of life; `None`: it wants none."""

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> ServiceManager:
        """Return the one that the environment names, and take it out there. Raises `ValueError` for what makes no sense."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog_us, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        if not watchdog_us or pid not in ("", str(os.getpid())):  # the variables were for another process
            return cls(address)
        if not watchdog_us.isascii() or not watchdog_us.isdigit() or int(watchdog_us) == 0:
            raise ValueError(f"WATCHDOG_USEC is {watchdog_us!r}, which is no time")
        return cls(address, watchdog_s=int(watchdog_us) / MICROSECONDS)

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return bool(self._address)

    def tell(self, *lines: str) -> None:
        """Tell it these lines at once. Never waits. Raises `OSError` where it cannot be told."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
            channel.connect(self._address)
            channel.sendall("\n".join(lines).encode())


def status(words: str) -> str:
    """Return the line that says in words how the process is."""
    return f"STATUS={' '.join(words.split())}"


def extend_timeout(by_s: float) -> str:
    """Return the line that asks for so much more time, counted from now, for the start or the stop."""
    return f"EXTEND_TIMEOUT_USEC={int(by_s * MICROSECONDS)}"


def reloading(monotonic_s: float) -> str:
    """Return the line that says since when the configuration is being read anew; READY=1 says that it is in force."""
    return f"RELOADING=1\nMONOTONIC_USEC={int(monotonic_s * MICROSECONDS)}"


class PassedSocket(NamedTuple):
    """A socket that the service manager has opened, and how its unit calls it."""

    name: str
    sock: socket.socket


class Handover(NamedTuple):
    """All that a service manager gives a process; `credentials` is the folder in which it lays out secrets."""

    manager: ServiceManager
    sockets: list[PassedSocket]
    credentials: Path | None


def take_handover(environment: MutableMapping[str, str]) -> Handover:
    """Return what the environment tells of, and take it out there. Raises `ValueError`, `OSError` as its parts do."""
    manager, sockets = ServiceManager.from_environment(environment), passed_sockets(environment)
    folder = environment.pop("CREDENTIALS_DIRECTORY", "")
    return Handover(manager, sockets, Path(folder) if folder else None)


def passed_sockets(environment: MutableMapping[str, str]) -> list[PassedSocket]:
    """Return the sockets that were handed over, none of which a program started from here gets, and take them out there.

    Raises `ValueError` for what makes no sense, `OSError` where a descriptor is no socket.
    """
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "")
    if not count or pid != str(os.getpid()):
        return []
    if not count.isascii() or not count.isdigit() or not 0 < int(count) <= SOCKETS_MAX:
        raise ValueError(f"LISTEN_FDS is {count!r}; a number from 1 to {SOCKETS_MAX} was to be expected")
    called = names.split(":") if names else ["unknown"] * int(count)
    if len(called) != int(count):
        raise ValueError(f"LISTEN_FDNAMES has {len(called)} names for {count} sockets")
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return [PassedSocket(name, socket.socket(fileno=number)) for name, number in zip(called, descriptors, strict=True)]
