"""Puts all that makes a peer into one file while it runs, and makes a peer of that file again (docs/backup.md).

A backup is a tar file: the database as it was at one moment, the keys, the first token, the peer's own rnd.toml, with
`with_data` the snapshots of DATA services, and last `backup.json`, which says what was before it: without that it is not whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Final

from rnd.database import data_files, offered_services, restoring
from rnd.database.opening import mark_closed, open_connections
from rnd.p2p.identity import IDENTITY_FILE, load_identity
from rnd.rules.strict_json import JsonValue, NotStrictJson, parse
from rnd.services.data_service import SERVICES_FOLDER
from rnd.services.vault import VAULT_KEY_FILE, load_vault
from rnd.types.enums import ServiceStatus, ServiceType
from rnd.types.errors import RndError
from rnd.types.ids import PeerId
from rnd.types.seams import Entropy
from rnd.types.times import from_text, to_text
from rnd.workers.durability import sync_filesystem, sync_folder
from rnd.workers.files import clear_tree

FORMAT: Final = "rnd.backup/1"
DATABASE: Final = "rnd.db"
MANIFEST: Final = "backup.json"
KEYS: Final = (IDENTITY_FILE, VAULT_KEY_FILE)
MORE_FILES: Final = ("api_token", "rnd.toml")
LOCK: Final = "daemon.lock"
STAGING: Final = "restoring"

PRIVATE: Final = 0o600
CLOSED: Final = 0o700
BUFFER_BYTES: Final = 1 << 20
MANIFEST_MAX_BYTES: Final = 64 << 10
SERVICES_A_READ: Final = 500

IDS_LEAP_AT_LEAST: Final = 1_000_000
IDS_A_SECOND: Final = 1_000
"""No peer gives out more ids in a second than this, so ids leap over all that may have been given out since the backup."""


class BackupRefused(RndError):
    """A backup cannot be made, or cannot be put back; nothing has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What was put into a file."""

    peer_id: PeerId
    files: int
    size_bytes: int
    has_data: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What has become of a peer that was put back. `without_data` are the DATA services whose snapshots are not there."""

    peer_id: PeerId
    made_at: datetime
    executions_ended: int
    jobs_ended: int
    without_data: tuple[str, ...]


def write_backup(data_dir: Path, target: Path, *, entropy: Entropy, now: datetime, with_data: bool) -> Backup:
    """Put the peer of a data directory into one new file, mode 0600, whether its daemon runs or not.

    Raises `BackupRefused`, and what opening a key raises.
    """
    for name in (DATABASE, *KEYS):
        if not (data_dir / name).is_file():
            raise BackupRefused(f"{data_dir} has no {name}: no peer has lived there, or it is another user's")
    if target.exists():
        raise BackupRefused(f"{target} exists already; a backup replaces nothing: name another file")
    part, copy = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.db")
    peer_id = load_identity(data_dir, entropy).peer_id
    try:
        _copy_database(data_dir / DATABASE, copy)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
        with open(fd, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                members = _write_members(tar, _members_of(data_dir, copy, with_data=with_data))
                facts = {"format": FORMAT, "peer_id": peer_id, "made_at": to_text(now), "has_data": with_data}
                _write_manifest(tar, facts | members.facts())
            file.flush()
            os.fsync(fd)
            size_bytes = os.fstat(fd).st_size
        os.rename(part, target)
        sync_folder(target.parent)
    except OSError as error:
        raise BackupRefused(f"{error.filename or target} cannot be written: {error.strerror or error}") from error
    finally:
        for left in (part, copy):
            left.unlink(missing_ok=True)
    return Backup(peer_id=peer_id, files=members.count, size_bytes=size_bytes, has_data=with_data)


def restore_backup(source: Path, data_dir: Path, *, entropy: Entropy, now: datetime) -> Restored:
    """Make a peer of a backup in an empty or missing folder, ready to be served.

    Raises `BackupRefused` for a folder in use and for a file that is not whole, what opening the database raises for one that
    is damaged or of a newer rnd; the folder is as empty then as it was.
    """
    try:
        data_dir.mkdir(mode=CLOSED, parents=True, exist_ok=True)
        if found := next(data_dir.iterdir(), None):
            raise BackupRefused(
                f"{data_dir} is not empty ({found.name}): a peer is put back into an empty folder only. Stop its daemon and "
                "move away what is there, or name another folder"
            )
        if data_dir.stat().st_uid != os.geteuid():
            raise BackupRefused(f"{data_dir} belongs to another user: restore as the one that runs the daemon")
        data_dir.chmod(CLOSED)
        with _held(data_dir):
            staging = data_dir / STAGING
            try:
                staging.mkdir(mode=CLOSED)
                facts = _extract(source, staging)
                restored = _make_fit(staging, facts, entropy=entropy, now=now)
                _put_in_place(staging, data_dir)
            except BaseException:
                clear_tree(staging)
                (data_dir / LOCK).unlink()
                raise
    except OSError as error:
        raise BackupRefused(f"{error.filename or source}: {error.strerror or error}") from error
    return restored


# ---------------------------------------------------------------- writing


class _Members:
    """The members of a backup as they come: how many, and one digest over all names, sizes and contents."""

    def __init__(self) -> None:
        self.count = 0
        self._digest = hashlib.sha256()

    def note(self, name: str, content: _Hashing | None) -> None:
        """Take one more member into account: a file by what was read of it, or a folder."""
        self.count += 1
        said = "folder" if content is None else f"{content.size_bytes} {content.sha256.hexdigest()}"
        self._digest.update(os.fsencode(name) + b"\0" + said.encode() + b"\0")

    def facts(self) -> dict[str, object]:
        """Return what the manifest says of all members before it."""
        return {"members": self.count, "sha256": self._digest.hexdigest()}


class _Hashing:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data = self._file.read(size)
        self.sha256.update(data)
        self.size_bytes += len(data)
        return data


def _write_members(tar: tarfile.TarFile, paths: Iterable[tuple[Path, str]]) -> _Members:
    members = _Members()
    for path, name in paths:
        info = tarfile.TarInfo(name)
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # its service was deleted meanwhile; a restore sees to those whose files are not there
        info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
        if stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
            members.note(name, None)
        elif stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                info.size = os.fstat(file.fileno()).st_size
                content = _Hashing(file)
                tar.addfile(info, content)
            members.note(name, content)
        else:
            raise BackupRefused(f"{path} is neither a file nor a folder: what a peer keeps has no such thing")
    return members


def _write_manifest(tar: tarfile.TarFile, facts: Mapping[str, object]) -> None:
    text = json.dumps(facts, indent=1).encode() + b"\n"
    info = tarfile.TarInfo(MANIFEST)
    info.size, info.mode = len(text), PRIVATE
    tar.addfile(info, io.BytesIO(text))


def _members_of(data_dir: Path, database: Path, *, with_data: bool) -> Iterator[tuple[Path, str]]:
    yield database, DATABASE
    for name in (*KEYS, *MORE_FILES):
        if (data_dir / name).exists():
            yield data_dir / name, name
    snapshots = data_dir / SERVICES_FOLDER
    if with_data and snapshots.is_dir():
        for snapshot in sorted(snapshots.iterdir()):
            if snapshot.name.startswith("."):  # it is just being taken
                continue
            for folder, folders, files in os.walk(snapshot):
                folders.sort()
                for path in (Path(folder), *(Path(folder, name) for name in sorted(files))):
                    yield path, str(path.relative_to(data_dir))


def _copy_database(source: Path, copy: Path) -> None:
    """Copy the database as it is at one moment, and check the copy: what is damaged is no backup."""
    copy.unlink(missing_ok=True)
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, PRIVATE))
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as reading,
            closing(sqlite3.connect(copy)) as writing,
        ):
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode = DELETE")  # one file, and nothing beside it
            findings = [str(row[0]) for row in writing.execute("PRAGMA integrity_check(5)")]
    except sqlite3.Error as error:
        raise BackupRefused(f"{source} cannot be copied: {error}") from error
    if findings != ["ok"]:
        raise BackupRefused(f"{source} is damaged, so this would be no backup: {'; '.join(findings)}")


# ---------------------------------------------------------------- putting back


@contextmanager
def _held(data_dir: Path) -> Iterator[None]:
    """Keep a daemon out of a folder, as another daemon would."""
    fd = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _extract(source: Path, staging: Path) -> Mapping[str, JsonValue]:
    """Write all members below a folder and return the manifest. Raises `BackupRefused` for a file that is not whole."""
    members = _Members()
    try:
        with source.open("rb") as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for info in tar:
                if info.name == MANIFEST:
                    return _checked_manifest(tar, info, members)
                _extract_member(tar, info, staging, members)
    except tarfile.TarError as error:
        raise BackupRefused(f"{source} is no backup, or not a whole one: {error}") from error
    raise BackupRefused(f"{source} is no backup, or not a whole one: it ends without {MANIFEST}")


def _extract_member(tar: tarfile.TarFile, info: tarfile.TarInfo, staging: Path, members: _Members) -> None:
    place = _safe_place(staging, info.name)
    if info.isdir():
        place.mkdir(mode=CLOSED, parents=True, exist_ok=True)
        members.note(info.name, None)
        return
    file = tar.extractfile(info) if info.isreg() else None
    if file is None:
        raise BackupRefused(f"the backup holds something that is neither a file nor a folder: {info.name}")
    place.parent.mkdir(mode=CLOSED, parents=True, exist_ok=True)
    content = _Hashing(file)
    mode = PRIVATE if place.parent == staging else info.mode & 0o777
    fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    with open(fd, "wb") as out:
        shutil.copyfileobj(content, out, BUFFER_BYTES)
        os.fchmod(fd, mode)
    members.note(info.name, content)


def _safe_place(staging: Path, name: str) -> Path:
    """Return where a member goes. A backup may come from anywhere, so only names that one has are taken."""
    parts = PurePosixPath(name).parts
    known = len(parts) == 1 and name in (DATABASE, *KEYS, *MORE_FILES)
    if not known and (len(parts) < 2 or parts[0] != SERVICES_FOLDER or ".." in parts or "\0" in name):
        raise BackupRefused(f"the backup holds what none of rnd holds: {name}")
    return staging / name


def _checked_manifest(tar: tarfile.TarFile, info: tarfile.TarInfo, members: _Members) -> Mapping[str, JsonValue]:
    file = tar.extractfile(info)
    try:
        manifest = parse(file.read(MANIFEST_MAX_BYTES) if file is not None else b"")
    except NotStrictJson as error:
        raise BackupRefused(f"{MANIFEST} of the backup cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BackupRefused(f"the backup is not of the format {FORMAT}: take the rnd that has made it")
    if {name: manifest.get(name) for name in members.facts()} != members.facts():
        raise BackupRefused("the backup is damaged: its contents are not those that were put into it")
    return manifest


def _make_fit(staging: Path, manifest: Mapping[str, JsonValue], *, entropy: Entropy, now: datetime) -> Restored:
    """Check what was put back, bring the database up to date and end in it what was open."""
    missing = [name for name in (DATABASE, *KEYS) if not (staging / name).is_file()]
    if missing:
        raise BackupRefused(f"the backup has no {missing[0]}")
    peer_id = load_identity(staging, entropy).peer_id
    load_vault(staging, entropy)
    if peer_id != manifest.get("peer_id"):
        raise BackupRefused("the backup is damaged: its key is not that of its peer")
    try:
        made_at = from_text(str(manifest.get("made_at")))
    except ValueError as error:
        raise BackupRefused(f"{MANIFEST} of the backup does not say when it was made") from error
    with closing(open_connections(staging / DATABASE, readers=0, busy_timeout_ms=0)[0]) as conn:
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")  # a file from before rnd did so becomes one that can shrink
        conn.execute("VACUUM")
        conn.execute("BEGIN IMMEDIATE")
        reason = (
            f"open in the backup of {to_text(made_at)} that this peer was restored from; nobody can say how it went on"
        )
        executions = restoring.end_open_executions(conn, reason, now=now)
        jobs = restoring.end_open_jobs(conn, reason, executor=peer_id, now=now)
        restoring.forget_files(conn)
        without_data = tuple(_let_go_of_data(conn, staging / SERVICES_FOLDER, now=now))
        passed_s = max(0.0, (now - made_at).total_seconds())
        restoring.leap_ids(conn, IDS_LEAP_AT_LEAST + int(passed_s * IDS_A_SECOND))
        mark_closed(conn)
        conn.execute("COMMIT")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for copy in staging.glob(f"{DATABASE}.before-*"):  # a migration has made it; the backup is another one
        copy.unlink()
    return Restored(
        peer_id=peer_id, made_at=made_at, executions_ended=executions, jobs_ended=jobs, without_data=without_data
    )


def _let_go_of_data(conn: sqlite3.Connection, snapshots: Path, *, now: datetime) -> Iterator[str]:
    """Have DATA services whose snapshots are not there take no orders; yield their names."""
    after_id: int | None = 0
    while after_id is not None:
        page = offered_services.list_services(
            conn, service_type=ServiceType.DATA, status=ServiceStatus.ACTIVE, limit=SERVICES_A_READ, after_id=after_id
        )
        for service in page.items:
            files = data_files.read_data_files(conn, service.id)
            if not all((snapshots / service.service_path / file.stored_name).exists() for file in files):
                offered_services.set_status(conn, service.id, ServiceStatus.INACTIVE, now=now)
                yield service.name
        after_id = page.next_after_id


def _put_in_place(staging: Path, data_dir: Path) -> None:
    """Move all up into the data directory, the database last, durably."""
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_filesystem(folder)
        for path in sorted(staging.iterdir(), key=lambda each: each.name == DATABASE):
            os.rename(path, data_dir / path.name)
        staging.rmdir()
        os.fsync(folder)
    finally:
        os.close(folder)
