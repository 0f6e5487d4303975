"""Finding and checking the files of a new DATA service before they become its snapshot. Synchronous, for threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rnd.database.uploads import Upload
from rnd.services.snapshot import HostRules, Source, check_side_by_side, find_host_source, find_upload, take_snapshot
from rnd.types.config import Config
from rnd.types.errors import LimitExceeded, Problem, UnfitFiles, ValidationFailed
from rnd.types.executions import FileEntry
from rnd.workers.files import clear_tree, free_bytes
from rnd.workers.staged_folder import write_failure


def ingest(
    paths: Sequence[str | Path],
    known_uploads: Mapping[Path, Upload],
    snapshot: Path,
    *,
    config: Config,
    data_key: bytes | None,
    cancelled: Callable[[], bool],
) -> list[FileEntry]:
    """Find what the paths name, check it, and copy it to `snapshot`; return the manifest.

    Raises `ValidationFailed` with all paths that are at fault, `LimitExceeded` where the disk has no room,
    `TransferFailed` where a file cannot be read or written, `CalledOff`. Nothing is left then.
    """
    sources = _find_sources(paths, known_uploads, config)
    _check_room(sum(entry.size_bytes for source in sources for entry in source.found), config)
    try:
        return take_snapshot(sources, snapshot, data_key=data_key, cancelled=cancelled)
    except UnfitFiles as error:
        raise bad_paths([str(error)]) from error
    except OSError as error:
        raise write_failure("the snapshot", error) from error


def clear_unknown(services_folder: Path, known_uids: set[str]) -> int:
    """Delete every snapshot, whole or half, that is not known; return how many there were."""
    if not services_folder.is_dir():
        return 0
    unknown = [path for path in services_folder.iterdir() if path.name not in known_uids]
    for path in unknown:
        clear_tree(path)
    return len(unknown)


def bad_paths(messages: Sequence[str]) -> ValidationFailed:
    """Return the refusal that names what is wrong with each path."""
    return ValidationFailed([Problem(check="paths", message=message) for message in messages])


def _find_sources(paths: Sequence[str | Path], known_uploads: Mapping[Path, Upload], config: Config) -> list[Source]:
    rules = HostRules(
        allowed_roots=tuple(Path(root).resolve() for root in config.allowed_roots),
        data_dir=config.data_dir.resolve(),
        max_files=config.limits.files_per_transfer,
        max_file_bytes=config.limits.file_bytes,
    )
    sources: list[Source] = []
    faults: list[str] = []
    for path in paths:
        try:
            upload = known_uploads.get(Path(path))
            sources.append(find_host_source(str(path), rules) if upload is None else _upload_source(upload, rules))
        except UnfitFiles as error:
            faults.append(str(error))
    if faults:
        raise bad_paths(faults)
    try:
        check_side_by_side(sources, max_files=rules.max_files)
    except UnfitFiles as error:
        raise bad_paths([str(error)]) from error
    return sources


def _upload_source(upload: Upload, rules: HostRules) -> Source:
    source = find_upload(upload.name, rules)
    if source.found[0].size_bytes != upload.size_bytes:
        raise UnfitFiles(f"upload {upload.name} is not what arrived: upload it again")
    return replace(source, sha256=upload.sha256)


def _check_room(wanted_bytes: int, config: Config) -> None:
    floor_bytes = config.limits.disk_floor_bytes
    room_bytes = max(free_bytes(config.data_dir) - floor_bytes, 0)
    if wanted_bytes > room_bytes:
        raise LimitExceeded(
            f"These files have {wanted_bytes:,} bytes; the data directory has room for {room_bytes:,} above the floor "
            f"of {floor_bytes:,}",
            hint="Free space on the peer's disk, offer less, or lower limits.disk_floor_bytes.",
        )
