"""The folder of a peer: closed to everyone but its owner, or with `api_group` passable for that group on its way to the
socket, and nothing but the socket (the methods' contract: Transport)."""

from __future__ import annotations

import errno
import grp
import os
import stat
from pathlib import Path
from typing import Final

from rnd.services.data_service import SERVICES_FOLDER
from rnd.workers.job_folders import JobFolders

CLOSED: Final = 0o700
PASSABLE: Final = 0o710
_OF_OTHERS: Final = 0o077


def prepare_data_directory(path: Path, *, group: str = "") -> None:
    """Make the data directory if it is not there, and let nobody in, or the members of `group` as far as the socket.

    A folder that was open until now is closed. Raises `OSError`, also where there is no such group.
    """
    group_id = _group_id(group) if group else None
    path.mkdir(mode=CLOSED, parents=True, exist_ok=True)
    if group_id is None:
        _set_mode(path, CLOSED)
        return
    _close_entries(path)
    # What is made below these later is made as the daemon's umask says; closed as they are, they keep it out of reach.
    for folder in (path / SERVICES_FOLDER, JobFolders(path).workflows_dir):
        folder.mkdir(mode=CLOSED, exist_ok=True)
    if path.stat().st_gid != group_id:
        _set_mode(path, CLOSED)  # whose group it was shall not pass, and the new one not yet
        os.chown(path, -1, group_id)
    _set_mode(path, PASSABLE)


def _close_entries(path: Path) -> None:
    """Take from everyone else what they may do with each entry: whoever may pass can open what they can name.

    The socket gets its mode where it is made, a link has none, and what is another user's that user has opened.
    """
    own = os.geteuid()
    with os.scandir(path) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            mode = found.st_mode
            if found.st_uid == own and mode & _OF_OTHERS and not stat.S_ISLNK(mode) and not stat.S_ISSOCK(mode):
                os.chmod(entry.path, stat.S_IMODE(mode) & ~_OF_OTHERS)


def _set_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise OSError(errno.EINVAL, f"there is no group {group!r} (api_group)") from None
