"""A root of its own for a confined program: the system read-only, the job's folders, and nothing else there is.

Built in new user, mount and IPC namespaces, so that it takes no rights. What lies outside has no name any more: it can
be neither read nor have its mode changed, and no socket in it can be connected to. Standard library only. Sources:
user_namespaces(7), open_tree(2), mount_setattr(2), pivot_root(2).
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterable
from typing import NamedTuple

from rnd.services import linux

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/sys/devices/system",
          "/nix/store", "/gnu/store")  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
DEVICE_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - in the new root it is the program's own
SHARED_MEMORY_OPTIONS = b"mode=1777,size=64m"
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - in the new root they are the job's own temporary folder
"""Unless something else has to be seen below them: then they are folders in which nothing can be written."""
NOBODY = 65534
"""What a program sees as its user and group where the daemon is root; it has no rights of root in any case."""

_NEW_NAMESPACES = 0x10000000 | 0x00020000 | 0x08000000  # user, mount, IPC
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR, _PIVOT_ROOT = 428, 429, 442, {"x86_64": 155, "aarch64": 41}
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x100, 0x1000, 0x8000
_CLONE_TREE = 1 | os.O_CLOEXEC
_FROM_DESCRIPTOR = 4
_READ_ONLY, _NO_SETUID, _NO_DEVICES = 1, 2, 4
_MOUNT_PRIVATE, _MOUNT_RECURSIVE = 1 << 18, 1 << 14


class Place(NamedTuple):
    """A file or folder that is to be seen under its own name.

    `own` is one of the job's folders: no link is followed to it, and it may be missing. Any other is the owner's word.
    """

    path: str
    writable: bool
    own: bool


class _Tree(NamedTuple):
    """A copy of what is mounted somewhere, not attached yet."""

    target: str
    descriptor: int
    is_folder: bool


def enter(places: Iterable[Place], *, base: str, temporary: str) -> None:
    """Make the caller, a process of one thread, see the system and `places` alone; paths stay what they are.

    `base` is any folder, in whose place the new root is built; `temporary` the folder that stands for /tmp. The caller
    has every capability in its new namespaces afterwards, and should drop them. Raises `OSError` with a filename.
    """
    _leave_namespaces()
    linux.mount(b"none", b"/", None, _MOUNT_PRIVATE | _MOUNT_RECURSIVE)
    wanted = [*places]
    trees = _copy_trees(wanted, temporary)
    linux.mount(b"rnd", os.fsencode(base), b"tmpfs", _NO_SETUID | _NO_DEVICES, b"mode=0755,size=1m")
    os.chdir(base)
    attached: list[str] = []
    if not any(tree.target == SHARED_MEMORY for tree in trees):
        os.makedirs(f".{SHARED_MEMORY}")
        linux.mount(b"rnd", f".{SHARED_MEMORY}".encode(), b"tmpfs", _NO_SETUID | _NO_DEVICES, SHARED_MEMORY_OPTIONS)
    for tree in trees:
        _attach(tree, attached)
        os.close(tree.descriptor)
    _link(attached)
    linux.call(_PIVOT_ROOT[os.uname().machine], b".", b".")
    linux.detach(b".")
    os.chdir("/")
    _set_attributes(_AT_FDCWD, b"/", 0, _READ_ONLY)


def covers(path: str, outer: str) -> bool:
    """Say whether `path` is `outer` or lies below it, by its letters."""
    return path == outer or path.startswith(outer.rstrip("/") + "/")


def own_temporary(places: Iterable[Place]) -> list[str]:
    """Return which of the machine's temporary folders stand for the job's own beside `places`."""
    seen = [place.path for place in places]
    return [path for path in TEMPORARY if not any(covers(other, path) for other in seen)]


def _leave_namespaces() -> None:
    user, group = os.getuid(), os.getgid()
    linux.unshare(_NEW_NAMESPACES)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user or NOBODY} {user} 1"),
        ("gid_map", f"{group if user else NOBODY} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _copy_trees(places: list[Place], temporary: str) -> list[_Tree]:
    """Copy all that is to be seen, the outer before the inner; what a system does not have is passed over."""
    trees = []
    for path in SYSTEM:
        if not os.path.islink(path):
            with contextlib.suppress(FileNotFoundError):
                trees.append(_copy(path, path, writable=False))
    trees += [_copy(path, path, writable=False, devices=True) for path in DEVICES]
    trees += [_copy(temporary, path, writable=True, follow=False) for path in own_temporary(places)]
    for place in places:
        if not place.own:
            # An opened device is of use only as one.
            devices = covers(place.path, "/dev")
            trees.append(_copy(place.path, place.path, writable=place.writable, devices=devices))
            continue
        with contextlib.suppress(FileNotFoundError):
            trees.append(_copy(place.path, place.path, writable=place.writable, follow=False))
    return sorted(trees, key=lambda tree: tree.target.split("/"))


def _copy(source: str, target: str, *, writable: bool, follow: bool = True, devices: bool = False) -> _Tree:
    path = os.fsencode(source)
    flags = _CLONE_TREE | _AT_RECURSIVE | (0 if follow else _AT_SYMLINK_NOFOLLOW)
    try:
        tree = linux.call(_OPEN_TREE, _AT_FDCWD, path, flags)
        attributes = _NO_SETUID | (0 if writable else _READ_ONLY) | (0 if devices else _NO_DEVICES)
        _set_attributes(tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, attributes)
        mode = os.fstat(tree).st_mode
    except OSError as error:
        error.filename = source
        raise
    if stat.S_ISLNK(mode):
        raise NotADirectoryError(20, "there is a link in the place of a folder of the job", source)
    return _Tree(target, tree, stat.S_ISDIR(mode))


def _attach(tree: _Tree, attached: list[str]) -> None:
    """Attach a tree below the working directory, making the way to it unless it leads through another tree."""
    target = f".{tree.target}"
    if not any(covers(tree.target, outer) for outer in attached):
        os.makedirs(target if tree.is_folder else os.path.dirname(target), mode=0o755, exist_ok=True)
        if not tree.is_folder:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        linux.call(_MOVE_MOUNT, tree.descriptor, b"", _AT_FDCWD, os.fsencode(target), _FROM_DESCRIPTOR)
    except OSError as error:
        error.filename = tree.target
        raise
    attached.append(tree.target)


def _link(attached: list[str]) -> None:
    """Add the links of the system, but where something is attached in their place."""
    links = {path: os.readlink(path) for path in SYSTEM if os.path.islink(path)}
    for path, target in (links | DEVICE_LINKS).items():
        if not any(covers(path, outer) for outer in attached):
            os.symlink(target, f".{path}")


def _set_attributes(descriptor: int, path: bytes, flags: int, attributes: int) -> None:
    changes = struct.pack("=QQQQ", attributes, 0, 0, 0)
    linux.call(_MOUNT_SETATTR, descriptor, path, flags, changes, len(changes))
