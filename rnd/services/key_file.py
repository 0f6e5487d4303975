"""Key files of a node: one secret each, made at the first start, private to the daemon's user, never replaced."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rnd.types.errors import KeyFileUnsafe

_KEY_FILE_MAX_BYTES: Final = 4096


def load_or_create(path: Path, make_key: Callable[[], bytes]) -> bytes:
    """Return the content of a key file, after creating it durably (0600) from `make_key` where there is none.

    Raises `KeyFileUnsafe` for a file that is a link, belongs to somebody else's group or world too, or is no key file.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        _create(path, make_key())
        return _read(path)


def load_given_or_own(path: Path, make_key: Callable[[], bytes], *, credentials: Path | None) -> bytes:
    """Return the key that the service manager has laid out in its folder under the name of `path`, or what is at `path`.

    Raises `KeyFileUnsafe` as `load_or_create` does, and where there are two keys that differ: whoever is this peer by one of them
    is somebody else by the other.
    """
    given = None if credentials is None else _read_given(credentials / path.name)
    if given is None:
        return load_or_create(path, make_key)
    if path.exists() and _read(path) != given:
        raise KeyFileUnsafe(
            f"{path} and the credential {path.name} are different keys: remove the file if the credential is the one that this "
            "peer has always had, or LoadCredential= from the unit if the file is"
        )
    return given


def _read_given(path: Path) -> bytes | None:
    """Return a credential; the service manager sees to who can enter its folder, so no mode but everybody's is wrong."""
    if not path.exists():
        return None
    return _read(path, closed_to=0o007)


def _read(path: Path, *, closed_to: int = 0o077) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        raise KeyFileUnsafe(f"{path} cannot be used as a key file: {error.strerror}") from error
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise KeyFileUnsafe(f"{path} is not a regular file")
        if facts.st_mode & closed_to:
            raise KeyFileUnsafe(
                f"{path} can be read or changed by others (mode {stat.S_IMODE(facts.st_mode):04o}): run chmod 600 on it, "
                "and replace the key if anybody may have read it"
            )
        return os.read(fd, _KEY_FILE_MAX_BYTES)
    finally:
        os.close(fd)


def _create(path: Path, content: bytes) -> None:
    """Write beside, flush, rename, flush the folder: after a crash there is the whole key or none."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(fresh, path)
    folder_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)
