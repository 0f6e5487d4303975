"""Landlock by ctypes: which files a process and all below it may open, no TCP, no signal or abstract socket to outside.

What Landlock does not cover (metadata, UDP, sockets by path) is up to the private root and the filter of system calls.
Standard library only. Sources: landlock(7), the kernel's include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterable

from rnd.services import linux

NEEDED_VERSION = 6
"""The first that keeps signals and abstract sockets inside (Linux 6.12)."""

FORBIDDEN = -1

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every machine
_VERSION_ASKED = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_MAKE_CHARACTER_DEVICE, _MAKE_BLOCK_DEVICE = 1 << 6, 1 << 11
_TRUNCATE, _DEVICE_IOCTL = 1 << 14, 1 << 15
_ALL_FILES = (1 << 16) - 1
_FILE_ONLY = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_IOCTL
_ALL_TCP = 0b11
_ALL_SCOPES = 0b11  # abstract unix sockets, signals

LIST = _READ_DIR
READ = _READ_FILE | _READ_DIR
RUN = READ | _EXECUTE
DEVICE = _READ_FILE | _WRITE_FILE
WRITE = _ALL_FILES & ~(_MAKE_CHARACTER_DEVICE | _MAKE_BLOCK_DEVICE)


def version() -> int:
    """Return which version of Landlock the kernel has, 0 for none, `FORBIDDEN` where it may not be asked."""
    try:
        return linux.call(_CREATE_RULESET, None, 0, _VERSION_ASKED)
    except OSError as error:
        return FORBIDDEN if error.errno == errno.EPERM else 0


def restrict(rules: Iterable[tuple[str, int]], *, tcp: bool) -> None:
    """Let this process do with each path, and what is below it, what its rights say, and nothing with any other.

    Paths that are not there are passed over. It needs no_new_privs, cannot be taken back, and holds for all below.
    Raises `OSError`.
    """
    attributes = struct.pack("=QQQ", _ALL_FILES, 0 if tcp else _ALL_TCP, _ALL_SCOPES)
    ruleset = linux.call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path, rights in rules:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                _allow(ruleset, path, rights)
        linux.call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _FILE_ONLY
        linux.call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)
