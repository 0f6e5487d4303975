"""What a connection carries, under which names it arrives, and how several providers share one folder
(document: Connections and Data Flow, Transfer Initiation)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from rnd.rules.globs import compile_globs
from rnd.rules.paths import OUTPUT_MOUNT, normalise_mount_path
from rnd.types.enums import InterfaceType, LogStream, ServiceType
from rnd.types.errors import JobFailed
from rnd.types.executions import FileEntry

OUTPUT_ORIGIN: Final = "output"
MOUNT_ORIGIN_PREFIX: Final = "mount:"

STREAM_ORIGINS: Final = {
    InterfaceType.STDOUT: LogStream.STDOUT,
    InterfaceType.STDERR: LogStream.STDERR,
    InterfaceType.LOGS: LogStream.LOGS,
}

_NAMES_SHOWN: Final = 3


class SelectionError(JobFailed):
    """What is there and what the connection asks for do not fit; the message names both."""


def stream_file_name(stream: LogStream) -> str:
    """Return under which name a captured stream is kept and travels: `stdout.txt`."""
    return f"{stream.value}.txt"


def carried_origins(
    *,
    service_type: ServiceType,
    interface_type: InterfaceType,
    interface_path: str,
    mounts: Sequence[str],
    peer_interface_type: InterfaceType,
    destination_file_name: str | None,
    include: Sequence[str],
) -> tuple[str, ...]:
    """Return the origins whose entries a connection may carry away from a job: declared, never guessed from emptiness.

    Origins are `stdout`, `stderr`, `logs`, `output` (files left in the output folder; for DATA the snapshot) and
    `mount:<path>`. STDOUT is the stream alone to a STDIN or under a new name, unless `include` asks for files; else it
    is the stream and the files in `output/`, which a declared MOUNT `/output` (among `mounts`) claims for itself.
    Raises `ValueError` for STDIN, which carries nothing away.
    """
    match interface_type:
        case InterfaceType.STDIN:
            raise ValueError("STDIN carries nothing away from a job")
        case InterfaceType.MOUNT:
            return (MOUNT_ORIGIN_PREFIX + normalise_mount_path(interface_path),)
        case InterfaceType.STDERR | InterfaceType.LOGS:
            return (STREAM_ORIGINS[interface_type].value,)
        case InterfaceType.STDOUT:
            if service_type is ServiceType.DATA:
                return (OUTPUT_ORIGIN,)
            claimed = OUTPUT_MOUNT in (normalise_mount_path(path) for path in mounts)
            if claimed or is_stream_alone(peer_interface_type, destination_file_name, include):
                return (LogStream.STDOUT.value,)
            return LogStream.STDOUT.value, OUTPUT_ORIGIN
        case _:
            assert_never(interface_type)


def is_stream_alone(
    peer_interface_type: InterfaceType, destination_file_name: str | None, include: Sequence[str]
) -> bool:
    """Say whether STDOUT at one end means just the stream, given the other end."""
    return not include and (peer_interface_type is InterfaceType.STDIN or bool(destination_file_name))


def deliveries(
    entries: Sequence[FileEntry], include: Sequence[str], destination_file_name: str | None
) -> tuple[tuple[FileEntry, str], ...]:
    """Return what travels and the relative name each entry gets at its destination, in the order given.

    `include` narrows the entries. `name` renames the one file there must be, `name/` puts everything below a folder;
    without a name relative paths stay. An empty folder keeps its trailing `/`. Raises `SelectionError` where nothing
    matches, `name` meets other than one file, or two entries would get one name.
    """
    chosen = list(entries)
    if include:
        matches = compile_globs(include)
        chosen = [entry for entry in entries if matches(entry.relative_path)]
        if not chosen:
            raise SelectionError(f"no file matches {_listed(include)}; there {_inventory(entries)}")
    if destination_file_name and not destination_file_name.endswith("/"):
        return ((_only_file(chosen, destination_file_name), destination_file_name),)
    prefix = destination_file_name or ""
    named = tuple((entry, prefix + entry.relative_path) for entry in chosen)
    clash = name_clash([name for _, name in named])
    if clash is not None:
        raise SelectionError(f"two entries would both be called {clash!r} at the destination")
    return named


def merge_providers(providers: Sequence[tuple[str, Sequence[FileEntry]]]) -> tuple[tuple[int, FileEntry], ...]:
    """Lay the entries of several providers side by side; return each with the index of its provider, in order.

    `providers` are (label for people, entries). An empty folder that several share is kept once. Raises
    `SelectionError` that names both providers of a shared name, and of a file that lies where another has a folder.
    """
    merged: list[tuple[int, FileEntry]] = []
    file_owner: dict[str, int] = {}
    folder_owner: dict[str, int] = {}
    for index, (_, entries) in enumerate(providers):
        for entry in entries:
            path = entry.relative_path.rstrip("/")
            is_folder = entry.relative_path.endswith("/")
            other = _owner_in_the_way(path, is_folder, file_owner, folder_owner)
            if other is not None:
                raise SelectionError(f"{providers[other][0]} and {providers[index][0]} both provide {path!r}")
            if is_folder and path in folder_owner:
                continue
            merged.append((index, entry))
            for folder in _folders_above(path):
                folder_owner.setdefault(folder, index)
            (folder_owner if is_folder else file_owner).setdefault(path, index)
    return tuple(merged)


def name_clash(names: Iterable[str]) -> str | None:
    """Return a name that appears twice, or that is a file here and a folder there; `None` where all fit side by side."""
    files: set[str] = set()
    folders: set[str] = set()
    for name in names:
        path = name.rstrip("/")
        folders.update(_folders_above(path))
        if name.endswith("/"):
            folders.add(path)
        elif path in files:
            return path
        else:
            files.add(path)
    return min(files & folders, default=None)


def _owner_in_the_way(
    path: str, is_folder: bool, file_owner: dict[str, int], folder_owner: dict[str, int]
) -> int | None:
    """Return the provider whose file or folder leaves no room for this entry."""
    if path in file_owner:
        return file_owner[path]
    if not is_folder and path in folder_owner:
        return folder_owner[path]
    return next((file_owner[folder] for folder in _folders_above(path) if folder in file_owner), None)


def _folders_above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _only_file(chosen: Sequence[FileEntry], name: str) -> FileEntry:
    files = [entry for entry in chosen if not entry.relative_path.endswith("/")]
    if len(files) != 1:
        raise SelectionError(f"the name {name!r} needs exactly one file, but there {_inventory(files)}")
    return files[0]


def _inventory(entries: Sequence[FileEntry]) -> str:
    """Return how many entries there are, and the first of them: `are 5 (a.csv, b.csv, c.csv, ...)`."""
    if not entries:
        return "are none"
    shown = ", ".join(entry.relative_path for entry in entries[:_NAMES_SHOWN])
    more = ", ..." if len(entries) > _NAMES_SHOWN else ""
    return f"{'is 1' if len(entries) == 1 else f'are {len(entries)}'} ({shown}{more})"


def _listed(include: Sequence[str]) -> str:
    return " or ".join(repr(pattern) for pattern in include)
