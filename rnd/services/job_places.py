"""The folders of a job that a container sees: that they are what they seem, and that the container's user can use them.

An order names paths; whoever sends it may not be believed. Each is walked from the data directory down, and a link
anywhere on the way is refused. What is not the container's user's already is made so (see `arrange`): a data directory is
closed to everybody but its owner, so what is opened within it is open to nobody on the host.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from rnd.services import run_files
from rnd.services.docker_spec import USER, BadOrder, ContainerOrder

JOBS_FOLDER = "workflows"
NOBODY = 65534
EVERYBODY_MAY_READ = stat.S_IRGRP | stat.S_IROTH
EVERYBODY_MAY_ENTER = stat.S_IXGRP | stat.S_IXOTH
EVERYBODY_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def own_user() -> str:
    """Return the `uid:gid` that containers run as unless their owner says otherwise: this process's, nobody for root."""
    if os.geteuid() == 0:
        return f"{NOBODY}:{NOBODY}"
    return f"{os.geteuid()}:{os.getegid()}"


def lay_out(order: ContainerOrder, data_dir: str) -> None:
    """Make what is missing of a job's folder and check every path of the order. Raises `BadOrder` and `OSError`."""
    with _opened(data_dir, order.directory, make=True):
        pass
    for name in ("output", "logs"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(order.directory, name), 0o700)
    for mount in order.mounts:
        with _opened(data_dir, mount.source):
            pass
    for path in order.stdin_files:
        _parts(data_dir, path)


def check_job_folder(data_dir: str, directory: str) -> None:
    """Check that a folder is a job's and is there, through no link. Raises `BadOrder` and `OSError`."""
    with _opened(data_dir, directory):
        pass


def open_input(data_dir: str, path: str) -> int:
    """Open an input file of a job for reading, through no link. Raises `BadOrder` and `OSError`."""
    with _opened(data_dir, os.path.dirname(path)) as folder:
        file = os.open(os.path.basename(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise BadOrder(f"{path} is no ordinary file")
    return file


def arrange(order: ContainerOrder, user: str) -> None:
    """Let the container's user read what is mounted, and write what is mounted writable. Raises `OSError`.

    Nothing to do where that is this process's user. Root gives what is writable to the user; without that right it is
    opened to everybody, and so is what is only read: it may be linked into other places, so its owner stays.
    """
    match = USER.fullmatch(user)
    uid, gid = (int(match[1]), int(match[2] or 0)) if match else (-1, -1)
    if uid == os.geteuid():
        return
    for mount in order.mounts:
        if mount.writable and uid >= 0 and os.geteuid() == 0:
            _give(mount.source, uid, gid)
        else:
            _open_up(mount.source, writable=mount.writable)


def lay_out_secrets(folder: str, secrets: dict[str, bytes], user: str) -> None:
    """Write secrets into a new folder that only the container's user can read. Raises `OSError`."""
    os.mkdir(folder, 0o700)
    for name, value in secrets.items():
        file = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(file, "wb") as secret:
            secret.write(value)
    match = USER.fullmatch(user)
    if match and int(match[1]) != os.geteuid() and os.geteuid() == 0:
        _give(folder, int(match[1]), int(match[2] or 0))
    elif not match or int(match[1]) != os.geteuid():
        _open_up(folder, writable=False)  # a name that only the image knows


def remove_secrets(folder: str, directory: str, engine_name: str) -> None:
    """Remove the folder of a run's secrets, if it is one. Idempotent."""
    if folder and run_files.is_secrets_directory(folder, directory, engine_name):
        with contextlib.suppress(OSError, RecursionError):
            run_files.remove_tree(folder)


def _parts(data_dir: str, path: str) -> list[str]:
    prefix = data_dir.rstrip("/") + f"/{JOBS_FOLDER}/"
    parts = path.removeprefix(prefix).split("/") if path.startswith(prefix) else []
    if not parts or any(part in ("", ".", "..") for part in parts):
        raise BadOrder(f"{path} is not below the folders of jobs of this data directory")
    return [JOBS_FOLDER, *parts]


@contextlib.contextmanager
def _opened(data_dir: str, path: str, *, make: bool = False) -> Iterator[int]:
    """Open a folder below the folders of jobs, through no link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    parts = _parts(data_dir, path)
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=folder)
            try:
                inner = os.open(part, flags, dir_fd=folder)
            except NotADirectoryError as error:
                raise BadOrder(f"{path} leads through {part!r}, which is no folder") from error
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _give(top: str, uid: int, gid: int) -> None:
    for _, folders, files, folder in os.fwalk(top):
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        os.fchown(folder, uid, gid)


def _open_up(top: str, *, writable: bool) -> None:
    more = EVERYBODY_MAY_READ | (EVERYBODY_MAY_WRITE if writable else 0)
    for _, _, files, folder in os.fwalk(top):
        os.fchmod(folder, stat.S_IMODE(os.fstat(folder).st_mode) | more | EVERYBODY_MAY_ENTER)
        for name in files:
            try:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            except OSError:
                continue  # a link, or not ours: the container finds it as it is
            try:
                mode = os.fstat(file).st_mode
                if stat.S_ISREG(mode):
                    runs = EVERYBODY_MAY_ENTER if mode & stat.S_IXUSR else 0
                    os.fchmod(file, stat.S_IMODE(mode) | more | runs)
            finally:
                os.close(file)
