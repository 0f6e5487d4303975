"""The one seat that a helper process has in a data directory: its socket, its lock and its log in `<data-dir>/run`.

Whoever holds the lock is the process that is spoken to; a second one that is started finds it taken and leaves. Standard
library only, since the spawner uses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys
import time

LOG_MAX_BYTES = 1 << 20
START_TIMEOUT_S = 5.0


def open_folder(data_dir: str) -> int:
    """Open `<data-dir>/run`, making it for the owner alone if it is missing, and return a descriptor."""
    path = os.path.join(data_dir, "run")
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def socket_name(name: str) -> str:
    """Return how the socket of a helper is called in its folder."""
    return f"{name}.sock"


def socket_path(run_folder: int, name: str) -> str:
    """Return a path to the socket that is short enough for any data directory (sockaddr_un holds 107 bytes)."""
    return f"/proc/self/fd/{run_folder}/{socket_name(name)}"


def take(folder: int, name: str) -> int | None:
    """Return the lock of this seat, or `None` if another process has it and can be connected to. Exits with words else."""
    lock = os.open(f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=folder)
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(socket_path(folder, name)) == 0:
                    os.close(lock)
                    return None
        if time.monotonic() > until:
            sys.exit(f"another {name} holds the lock of this data directory and does not answer")
        time.sleep(0.01)


def listen(folder: int, name: str) -> socket.socket:
    """Listen on the socket of a seat that was taken, for this user alone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket_name(name), dir_fd=folder)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(socket_path(folder, name))
    os.chmod(socket_path(folder, name), 0o600)
    listener.listen(128)
    return listener


def unit_name(name: str) -> str:
    """Return how the file is called that says that a service manager runs who has this seat."""
    return f"{name}.unit"


def note_unit(folder: int, name: str) -> None:
    """Say that a service manager runs who has this seat: nobody else is to take it while that one is away."""
    os.close(os.open(unit_name(name), os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder))


def has_unit(data_dir: str, name: str) -> bool:
    """Say whether a service manager runs who has this seat."""
    return os.path.exists(os.path.join(data_dir, "run", unit_name(name)))


def await_listener(data_dir: str, name: str, timeout_s: float) -> bool:
    """Return whether somebody listens at this seat, or does so before the time is up."""
    folder = open_folder(data_dir)
    until = time.monotonic() + timeout_s
    try:
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(socket_path(folder, name)) == 0:
                    return True
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
    finally:
        os.close(folder)


def may_speak(connection: socket.socket) -> bool:
    """Say whether who has connected is this user, or root."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (os.geteuid(), 0)


def settle(folder: int, name: str) -> None:
    """Leave the session of who started this process, its folder and its streams; standard error goes to the log."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600, dir_fd=folder)
    if os.fstat(log).st_size > LOG_MAX_BYTES:
        os.ftruncate(log, 0)
    for descriptor, target in ((null, 0), (null, 1), (log, 2)):
        os.dup2(descriptor, target)
    os.close(null)
    os.close(log)
