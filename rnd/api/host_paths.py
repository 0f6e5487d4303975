"""Which paths of this host a client may name: inside the config's allowed_roots, outside the data directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from rnd.rules.paths import is_within
from rnd.types.config import Config
from rnd.types.errors import NotFound, PermissionDenied


async def check_host_path(config: Config, path: str, *, must_exist: bool = True, whole: bool = False) -> None:
    """Raise `PermissionDenied` for a path that leads to a place that is not open, `NotFound` for one that is not there.

    `whole` says that all below the path is to be opened, so that the data directory must not be below it either.
    Links are followed first, so that a link cannot lead out; whoever opens the path later has to look again.
    """
    await asyncio.to_thread(_check, config, path, must_exist=must_exist, whole=whole)


async def check_host_paths(config: Config, paths: Iterable[str]) -> None:
    """Do as `check_host_paths_now` on a thread."""
    await asyncio.to_thread(check_host_paths_now, config, paths)


def check_host_paths_now(config: Config, paths: Iterable[str]) -> None:
    """Raise `PermissionDenied` for the first of these paths that leads to a place that is not open. Looks at the disk."""
    for path in dict.fromkeys(paths):
        _check(config, path, must_exist=False, whole=False)


def _check(config: Config, path: str, *, must_exist: bool, whole: bool) -> None:
    real = Path(os.path.realpath(path))
    data_dir = Path(os.path.realpath(config.data_dir))
    if is_within(real, data_dir):
        raise PermissionDenied(
            f"{path} lies in the data directory of rnd",
            hint="Copy the files to a place of their own, or PUT them to /upload/NAME and name upload:NAME.",
        )
    if whole and is_within(data_dir, real):
        raise PermissionDenied(
            f"{path} holds the data directory of rnd", hint="Open only the folders in it that the program needs."
        )
    if not any(is_within(real, Path(os.path.realpath(root))) for root in config.allowed_roots):
        raise PermissionDenied(
            f"{path} is outside the folders that are open to services",
            hint="Add its folder to allowed_roots in the configuration, or move the files.",
        )
    if must_exist and not os.path.lexists(real):
        raise NotFound(f"{path} does not exist on this host", hint="Paths are those of the machine that rnd runs on.")
