"""What a job finds when it starts and what is taken when it ends (document: Interface System; steps 2, 3 and 7 of execution).

Plain functions for a thread: they read and write the job's own folder and nothing else. A job's outputs are hostile;
they are read through `workers/files.py`, which follows no link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rnd.rules.selection import carried_origins
from rnd.services.run_files import make_way
from rnd.types.config import Limits
from rnd.types.enums import InterfaceType, LogStream, MountFunction, ServiceType
from rnd.types.errors import JobFailed, UnfitFiles
from rnd.types.executions import FileEntry, InterfacePeer, JobExecution, JobInterface
from rnd.workers.copying import MountSource, place_mount
from rnd.workers.durability import Unflushed
from rnd.workers.files import FoundEntry, clear_tree, found_file, hash_unflushed, never_cancelled, scan_tree
from rnd.workers.job_folders import JobFolders


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedJob:
    """A job's folder, ready for its program: the streams to feed it, in order."""

    directory: Path
    stdin_files: tuple[Path, ...] = ()


def is_bare(job: JobExecution, interfaces: Sequence[JobInterface]) -> bool:
    """Say whether a job finds nothing when it starts but empty folders, which its executor makes."""
    return (
        job.attempt == 1
        and not has_inputs(interfaces)
        and not any(interface.interface_type is InterfaceType.MOUNT for interface in interfaces)
    )


def stage_job(
    folders: JobFolders,
    job: JobExecution,
    interfaces: Sequence[JobInterface],
    limits: Limits,
    *,
    cancelled: Callable[[], bool] = never_cancelled,
) -> StagedJob:
    """Lay out a job's folder for a new attempt: empty output/ and logs/, mounts filled from the verified inputs.

    Inputs are kept between attempts. Raises `JobFailed` where an input has not been delivered or is not there any more,
    or two providers of a mount share a name, and `CalledOff`.
    """
    directory = folders.job(job)
    path = os.fspath(directory)
    make_way(path)
    for name in ("output", "logs"):
        folder = f"{path}/{name}"
        try:
            os.mkdir(folder)
        except FileExistsError:
            clear_tree(Path(folder))
            os.mkdir(folder)
    if job.attempt > 1:
        clear_tree(directory / "mounts")
    stdin_files: list[Path] = []
    for interface in interfaces:
        sources = [peer for peer in interface.peers if peer.peer_mount_function is MountFunction.OUTPUT]
        if interface.interface_type is InterfaceType.MOUNT:
            _stage_mount(folders, job, interface, sources, limits, cancelled)
        elif interface.interface_type is InterfaceType.STDIN:
            stdin_files += [path for peer in sources for path in _files_of(folders, job, peer, limits)]
    return StagedJob(directory=directory, stdin_files=tuple(stdin_files))


def collect_outputs(
    folders: JobFolders,
    job: JobExecution,
    interfaces: Sequence[JobInterface],
    limits: Limits,
    unflushed: Unflushed,
    *,
    cancelled: Callable[[], bool] = never_cancelled,
) -> dict[str, list[FileEntry]]:
    """Hash what the connections of an ended job carry; return its manifest by origin, a fact once `unflushed` is flushed.

    Raises `UnfitFiles` (a `JobFailed`) where a job left a link, a special file or too much, `OSError` where the disk
    fails, and `CalledOff`.
    """
    origins = {
        origin
        for interface in interfaces
        for peer in interface.peers
        if peer.peer_mount_function is MountFunction.INPUT
        for origin in carried_origins_of(job, interface, interfaces, peer)
    }
    # What was delivered to a job has made the way to its folder durable already.
    top = folders.job(job) if has_inputs(interfaces) else folders.workflows_dir
    try:
        return {origin: _collect(folders, job, origin, top, limits, unflushed, cancelled) for origin in sorted(origins)}
    except UnfitFiles as error:
        if not folders.exists(os.fspath(folders.job(job))):
            raise JobFailed("the job has removed its own folder, and its outputs with it") from error
        raise


def _collect(
    folders: JobFolders,
    job: JobExecution,
    origin: str,
    top: Path,
    limits: Limits,
    unflushed: Unflushed,
    cancelled: Callable[[], bool],
) -> list[FileEntry]:
    """Hash what one origin has, and have it made durable with the names that lead to it from `top`."""
    root = origin_root(folders, job, origin)
    way = [parent for parent in root.parents if parent.is_relative_to(top)]
    if origin in tuple(LogStream):
        # No bound but that of any file: what was captured is cut already, and the mark of that comes on top.
        found = [found_file(root / f"{origin}.txt", max_file_bytes=limits.file_bytes, hard_links=False)]
    else:
        found = scan_tree(root, max_files=limits.files_per_transfer, max_file_bytes=limits.file_bytes)
    return hash_unflushed(root, found, unflushed, above=way, cancelled=cancelled)


def has_inputs(interfaces: Sequence[JobInterface]) -> bool:
    """Say whether anything is delivered to a job."""
    return any(peer.peer_mount_function is MountFunction.OUTPUT for interface in interfaces for peer in interface.peers)


def carried_origins_of(
    job: JobExecution, interface: JobInterface, interfaces: Sequence[JobInterface], peer: InterfacePeer
) -> tuple[str, ...]:
    """Return the origins that one connection carries away from a job."""
    return carried_origins(
        service_type=job.service_type,
        interface_type=interface.interface_type,
        interface_path=interface.path,
        mounts=tuple(other.path for other in interfaces if other.interface_type is InterfaceType.MOUNT),
        peer_interface_type=peer.peer_interface_type,
        destination_file_name=peer.peer_file_name,
        include=peer.include,
    )


def origin_root(folders: JobFolders, job: JobExecution, origin: str) -> Path:
    """Return the folder that the entries of an origin are relative to."""
    if origin in tuple(LogStream):
        return folders.logs(job)
    if origin == "output":
        return folders.output(job)
    if origin.startswith("mount:"):
        return folders.mount(job, origin.removeprefix("mount:"))
    raise ValueError(f"{origin!r} is no origin of a {ServiceType.STANDALONE} or {ServiceType.DOCKER} job")


def lies_where_it_was_left(folders: JobFolders, job: JobExecution, outputs: Mapping[str, Sequence[FileEntry]]) -> bool:
    """Say whether every file of a job's manifest is still in its folder, in its size; its content is verified when it is sent."""
    for origin, entries in outputs.items():
        root = origin_root(folders, job, origin)
        for entry in entries:
            try:
                found = os.lstat(root / entry.relative_path)
            except OSError:
                return False
            if entry.sha256 and (not stat.S_ISREG(found.st_mode) or found.st_size != entry.size_bytes):
                return False
    return True


def _stage_mount(
    folders: JobFolders,
    job: JobExecution,
    interface: JobInterface,
    sources: Sequence[InterfacePeer],
    limits: Limits,
    cancelled: Callable[[], bool],
) -> None:
    destination = folders.mount(job, interface.path)
    if interface.mount_function is MountFunction.OUTPUT:
        destination.mkdir(parents=True, exist_ok=True)
        return
    mounted = [
        MountSource(
            root=folders.input(job, peer),
            entries=[_entry(found) for found in _received(folders, job, peer, limits)],
            label=f"connection {peer.connection_id}",
        )
        for peer in sources
    ]
    place_mount(mounted, destination, writable=interface.mount_function is MountFunction.BOTH, cancelled=cancelled)


def _files_of(folders: JobFolders, job: JobExecution, peer: InterfacePeer, limits: Limits) -> list[Path]:
    root = folders.input(job, peer)
    return [
        root / found.relative_path
        for found in _received(folders, job, peer, limits)
        if not found.relative_path.endswith("/")
    ]


def _received(folders: JobFolders, job: JobExecution, peer: InterfacePeer, limits: Limits) -> list[FoundEntry]:
    root = folders.input(job, peer)
    if not peer.duty_acknowledged:
        raise JobFailed(
            f"the input of connection {peer.connection_id} has not been delivered, so the job was not ready to run"
        )
    if not root.is_dir():
        raise JobFailed(f"the input of connection {peer.connection_id} was delivered but is gone: {root}")
    return scan_tree(root, max_files=limits.files_per_transfer, max_file_bytes=limits.file_bytes)


def _entry(found: FoundEntry) -> FileEntry:
    """Return a manifest entry for a file of our own making, whose hash was checked when it was delivered."""
    return FileEntry(
        relative_path=found.relative_path, size_bytes=found.size_bytes, sha256="", executable=found.executable
    )
