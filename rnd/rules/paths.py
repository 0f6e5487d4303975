"""Where a job's files live, and which names may become paths at all (document: Path Hierarchy)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath
from typing import Final, assert_never

from rnd.types.ids import JobExecutionId, PeerId

PART_BYTES_MAX: Final = 255
PATH_BYTES_MAX: Final = 1024
DEPTH_MAX: Final = 64

OUTPUT_MOUNT: Final = "/output"
"""The MOUNT that is the job's `output/` folder itself, where programs leave their files anyway."""

# What a container engine or the kernel owns inside a container; a job's files must never cover it.
_RESERVED_TARGETS: Final = ("/proc", "/sys", "/dev")
# Control characters, line and paragraph separators, halves of surrogate pairs: they break logs, listings and UTF-8.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})
_LANE: Final = re.compile(r"c[1-9][0-9]*")


class UnsafePath(ValueError):
    """The name cannot be used as a path; the message says which rule it breaks."""


class PathType(StrEnum):
    """The folders of one job; JOB is the folder that holds the others."""

    JOB = "JOB"
    INPUT = "INPUT"
    OUTPUT = "OUTPUT"
    MOUNT = "MOUNT"
    LOGS = "LOGS"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPathInfo:
    """Whose files are meant.

    `workflow_job_id` is the orchestrator's id of this very job; for the self-peer as a receiver it is the sender's,
    and `job_execution_id` is 0. The sender's fields matter for INPUT only (job 0: the self-peer sends), `lane` keeps
    several connections between the same two ends apart, `mount_path` matters for MOUNT only.
    """

    orchestrator_peer_id: PeerId
    workflow_job_id: int
    executor_peer_id: PeerId
    job_execution_id: JobExecutionId
    sender_peer_id: PeerId | None = None
    sender_job_execution_id: JobExecutionId | None = None
    lane: str = ""
    mount_path: str = ""


def build_job_path(workflows_dir: Path, info: JobPathInfo, path_type: PathType) -> Path:
    """Return a job's folder (document: BuildJobPath): each side computes its own, no path ever travels.

    Below `workflows_dir` that is `<orchestrator>/<workflow_job_id>/jobs/<executor>/<job_execution_id>/`, and in it
    `input/<sender>/<sender_job>[/<lane>]`, `output`, `mounts/<mount_path>` or `logs`. The MOUNT `/output` is `output`.
    Raises `UnsafePath` where an id or a mount path could lead elsewhere.
    """
    base = workflows_dir.joinpath(
        _peer_part(info.orchestrator_peer_id),
        _id_part(info.workflow_job_id),
        "jobs",
        _peer_part(info.executor_peer_id),
        _id_part(info.job_execution_id),
    )
    match path_type:
        case PathType.JOB:
            return base
        case PathType.INPUT:
            sender = (
                base / "input" / _peer_part(info.sender_peer_id or "") / _id_part(info.sender_job_execution_id or 0)
            )
            return sender / _lane_part(info.lane) if info.lane else sender
        case PathType.OUTPUT:
            return base / "output"
        case PathType.MOUNT:
            return base / mount_folder(info.mount_path)
        case PathType.LOGS:
            return base / "logs"
        case _:
            assert_never(path_type)


def mount_folder(mount_path: str) -> PurePosixPath:
    """Return the folder of a MOUNT below its job's folder: `/data/in` is `mounts/data/in`, `/output` is `output`.

    Raises `UnsafePath` for a target that no job may have.
    """
    target = normalise_mount_path(mount_path)
    problem = mount_target_problem(target)
    if problem:
        raise UnsafePath(problem)
    return PurePosixPath("output") if target == OUTPUT_MOUNT else PurePosixPath("mounts", target[1:])


def normalise_mount_path(mount_path: str) -> str:
    """Return a mount path without the slashes at its end; `/input/` and `/input` are the same place."""
    return mount_path.rstrip("/") or mount_path[:1]


def mount_target_problem(mount_path: str) -> str | None:
    """Return why a job must not have a MOUNT there, or `None`."""
    if not mount_path.startswith("/"):
        return f"MOUNT path {mount_path!r} must be absolute"
    if mount_path == "/":
        return "MOUNT path '/' would hide the whole system"
    for reserved in _RESERVED_TARGETS:
        if mount_path == reserved or mount_path.startswith(reserved + "/"):
            return f"MOUNT path {mount_path!r} lies in {reserved}, which belongs to the system"
    problem = relative_path_problem(mount_path[1:])
    return f"MOUNT path {mount_path!r} {problem}" if problem else None


def nested_mounts(mount_paths: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return (outer, inner) for every mount path that equals or lies in another, with the outermost it lies in."""
    pairs: list[tuple[str, str]] = []
    outer: str | None = None
    for path in sorted(mount_paths, key=lambda path: path.split("/")):
        if outer is not None and (path == outer or path.startswith(outer + "/")):
            pairs.append((outer, path))
        else:
            outer = path
    return tuple(pairs)


def validate_relative_path(path: str) -> str:
    """Return `path` unchanged if it is a safe name below some folder. Raises `UnsafePath` otherwise.

    Safe: relative, parts joined by single `/`, none of them empty, `.` or `..`; UTF-8 without control characters; at most
    255 bytes a part, 1024 bytes and 64 parts in all. A backslash is an ordinary character. Names are what their bytes are:
    case and Unicode's forms make different names.
    """
    problem = relative_path_problem(path)
    if problem:
        raise UnsafePath(f"path {path!r} {problem}")
    return path


def relative_path_problem(path: str) -> str | None:
    """Return which rule of `validate_relative_path` the path breaks (`has an empty part`), or `None`."""
    if not path:
        return "is empty"
    if path.startswith("/"):
        return "is absolute"
    is_plain = path.isascii() and path.isprintable()  # which is quick to see: a transfer has 100,000 names
    if not is_plain and any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in path):
        return "has a control character or is not valid UTF-8"
    if len(path.encode()) > PATH_BYTES_MAX:
        return f"is longer than {PATH_BYTES_MAX} bytes"
    parts = path.split("/")
    if len(parts) > DEPTH_MAX:
        return f"is more than {DEPTH_MAX} levels deep"
    for part in parts:
        if not part:
            return "has an empty part"
        if part in (".", ".."):
            return f"has the part {part!r}"
        if len(part.encode()) > PART_BYTES_MAX:
            return f"has a part longer than {PART_BYTES_MAX} bytes"
    return None


def is_within(path: PurePath, root: PurePath) -> bool:
    """Say whether `path` is `root` or lies below it, by its letters alone; a path with `..` never does."""
    return ".." not in path.parts and path.is_relative_to(root)


@lru_cache(maxsize=256)  # a few peers, and many paths
def _peer_part(peer_id: str) -> str:
    """Return a peer id as the name of one folder."""
    problem = relative_path_problem(peer_id) or ("has a '/'" if "/" in peer_id else None)
    if problem:
        raise UnsafePath(f"peer id {peer_id!r} {problem}")
    return peer_id


def _id_part(number: int) -> str:
    if number < 0:
        raise UnsafePath(f"id {number} is negative")
    return str(number)


def _lane_part(lane: str) -> str:
    if not _LANE.fullmatch(lane):
        raise UnsafePath(f"lane {lane!r} is not c<connection_id>")
    return lane
