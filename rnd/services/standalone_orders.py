"""Whether this machine can run what is ordered of a STANDALONE service, and what that is (document: Phase 1, ruling 15).

Asked before a job is created, and again when it is run: a program can be gone by then. Reads nothing but the modes of
files and what a program is built for.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Sequence

from rnd.rules.capabilities import ELF_HEADER_BYTES, platform_refusal
from rnd.types.definitions import JobPlan
from rnd.types.errors import ExecutorUnavailable, JobFailed, PermissionDenied, RndError
from rnd.types.services import Service, StandaloneSettings

SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
_HANDLERS = "/proc/sys/fs/binfmt_misc"


def order_refusal(service: Service, plan: JobPlan, *, foreign: bool) -> str | None:
    """Return why a job of a STANDALONE service could not be run here as things are, or `None`; blocks on the disk.

    `foreign` says that another peer orders it, which is not told where anything lies here. Whether it can be confined is a
    rule of its own (`rules/confinement.py`).
    """
    settings = service.settings
    if not isinstance(settings, StandaloneSettings):
        return None
    try:
        path = find_executable(merge_arguments(service, settings, plan.entrypoint, plan.cmd, foreign=foreign)[0])
    except ExecutorUnavailable as error:
        return f"the executable of {service.name} cannot be used there" if foreign else str(error)
    except RndError as error:
        return str(error)
    misfit = platform_refusal(_header(path), platform.machine())
    if misfit is not None and not emulates():
        what = f"executable of {service.name}" if foreign else f"executable {path}"
        return f"The {what} cannot be used: {misfit}"
    folder = settings.working_directory
    if folder and "{mount:" not in folder and not os.path.isdir(folder):
        return f"the working directory {'' if foreign else f'{folder} '}of {service.name} is not a folder"
    return None


def _header(path: str) -> bytes:
    """Return the beginning of a program; nothing where it may be executed but not read."""
    try:
        with open(path, "rb") as file:
            return file.read(ELF_HEADER_BYTES)
    except OSError:
        return b""


def emulates() -> bool:
    """Say whether the owner has something that runs programs of other machines here."""
    return any(name.startswith("qemu-") for name in _names(_HANDLERS))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def merge_arguments(
    service: Service,
    settings: StandaloneSettings,
    entrypoint: Sequence[str] | None,
    commands: Sequence[str] | None,
    *,
    foreign: bool,
) -> tuple[str, ...]:
    """Return entrypoint and commands as one list: the order's where it has them and may, else the service's.

    Raises `PermissionDenied` where another peer's order goes beyond what the owner allows, `JobFailed` where nothing is
    left to run.
    """
    own_entrypoint = (settings.executable,)
    entrypoint = own_entrypoint if entrypoint is None else tuple(entrypoint)
    commands = settings.cmd if commands is None else tuple(commands)
    if foreign:
        if entrypoint != own_entrypoint:
            raise PermissionDenied(f"the owner of {service.name} lets nobody else choose what is executed")
        if commands != settings.cmd and not settings.allow_override:
            raise PermissionDenied(f"the owner of {service.name} lets nobody else choose its arguments")
    merged = (*entrypoint, *commands)
    if not merged or not merged[0]:
        raise JobFailed(f"entrypoint and cmd of {service.name} are empty: there is nothing to run")
    return merged


def find_executable(name: str) -> str:
    """Return the absolute path of a program; a bare name is looked for where a clean PATH would find it.

    Raises `ExecutorUnavailable`.
    """
    if "/" not in name:
        found = shutil.which(name, path=SEARCH_PATH)
        if found is None:
            raise ExecutorUnavailable(f"there is no executable {name} in {SEARCH_PATH}")
        return found
    if not name.startswith("/"):
        raise ExecutorUnavailable(f"{name} is neither an absolute path nor a bare name")
    check_executable(name)
    return name


def check_executable(path: str) -> None:
    """Raise `ExecutorUnavailable` unless the path is a regular file that this user may execute."""
    hint = "Give the absolute path of a program on the machine that rnd runs on."
    try:
        found = os.stat(path)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ExecutorUnavailable(f"The executable {path} cannot be used: {reason}", hint=hint) from None
    if not stat.S_ISREG(found.st_mode):
        raise ExecutorUnavailable(f"The executable {path} is not a regular file", hint=hint)
    if not os.access(path, os.X_OK):
        raise ExecutorUnavailable(f"The file {path} is not executable by rnd's user", hint="Set its executable bit.")
