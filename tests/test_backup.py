"""A backup is whole or refused, and so is putting it back: nothing half, nothing from elsewhere, nothing over what is there."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import sqlite3
import stat
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rnd.backup import BackupRefused, restore_backup, write_backup
from rnd.daemon import SystemEntropy
from rnd.database.connection import Database
from rnd.p2p.identity import load_identity
from rnd.services.vault import load_vault
from rnd.types.errors import DatabaseCorrupt, DatabaseTooNew

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ENTROPY = SystemEntropy()


@pytest.fixture
def peer(tmp_path: Path) -> Path:
    """A data directory with keys, a database and a snapshot; no daemon runs on it."""
    data_dir = tmp_path / "peer"
    data_dir.mkdir()
    load_identity(data_dir, ENTROPY)
    load_vault(data_dir, ENTROPY)
    asyncio.run(Database.open(data_dir / "rnd.db").close())
    (data_dir / "rnd.toml").write_text('name = "kept"\n')
    snapshot = data_dir / "services" / "a1"
    (snapshot / "empty").mkdir(parents=True)
    (snapshot / os.fsdecode(b"na\xffme")).write_bytes(b"content")
    (snapshot / "program").write_text("#!/bin/sh\n")
    (snapshot / "program").chmod(0o500)
    (data_dir / "services" / ".b2.part").mkdir()
    return data_dir


def backup(peer: Path, *, with_data: bool = True) -> Path:
    target = peer.parent / "backup.tar"
    write_backup(peer, target, entropy=ENTROPY, now=NOW, with_data=with_data)
    return target


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"/"
        for path in folder.rglob("*")
        if path.name not in {"rnd.db", "daemon.lock"}
    }


def test_a_backup_is_only_the_owners_and_has_all_that_makes_a_peer(peer: Path) -> None:
    target = backup(peer)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(peer.parent.iterdir()) == [target, peer], "nothing is left beside it"
    new = peer.parent / "new"
    restored = restore_backup(target, new, entropy=ENTROPY, now=NOW)
    assert restored.peer_id == load_identity(peer, ENTROPY).peer_id
    wanted = {name: content for name, content in tree(peer).items() if not name.startswith(("rnd.db", "services/."))}
    assert tree(new) == wanted
    assert stat.S_IMODE((new / "services/a1/program").stat().st_mode) == 0o500
    assert {stat.S_IMODE((new / name).stat().st_mode) for name in ("rnd.db", "identity.key", "vault.key")} == {0o600}
    assert stat.S_IMODE(new.stat().st_mode) == 0o700


def test_without_data_the_snapshots_stay_where_they_are(peer: Path) -> None:
    restore_backup(backup(peer, with_data=False), peer.parent / "new", entropy=ENTROPY, now=NOW)
    assert not (peer.parent / "new" / "services").exists()


def test_a_peer_without_data_has_a_backup_with_all_its_data(peer: Path) -> None:
    shutil.rmtree(peer / "services")
    restore_backup(backup(peer, with_data=True), peer.parent / "new", entropy=ENTROPY, now=NOW)


def test_what_a_killed_daemon_has_committed_is_in_the_backup(peer: Path) -> None:
    """It is in the write-ahead log only, and nobody has taken that into the database yet."""
    killed = peer.parent / "killed"
    with contextlib.closing(sqlite3.connect(peer / "rnd.db")) as conn:
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        conn.execute("INSERT INTO workflows (id, name, definition) VALUES (7, 'w', '{}')")
        conn.commit()
        shutil.copytree(peer, killed)
    assert (killed / "rnd.db-wal").stat().st_size > 0
    restore_backup(backup(killed), killed.parent / "new", entropy=ENTROPY, now=NOW)
    with contextlib.closing(sqlite3.connect(killed.parent / "new" / "rnd.db")) as conn:
        assert conn.execute("SELECT name FROM workflows").fetchall() == [("w",)]


def test_a_backup_replaces_nothing(peer: Path) -> None:
    target = peer.parent / "backup.tar"
    target.write_text("precious")
    with pytest.raises(BackupRefused, match="exists already"):
        backup(peer)
    assert target.read_text() == "precious"


def test_where_no_peer_lives_there_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupRefused, match=r"has no rnd\.db: no peer has lived there"):
        write_backup(tmp_path, tmp_path / "backup.tar", entropy=ENTROPY, now=NOW, with_data=False)


def test_of_a_damaged_database_there_is_no_backup(peer: Path) -> None:
    with (peer / "rnd.db").open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(4096))
    for left in peer.glob("rnd.db-*"):
        left.unlink()
    with pytest.raises(BackupRefused, match=r"is damaged|cannot be copied"):
        backup(peer)
    assert sorted(peer.parent.iterdir()) == [peer]


def test_a_disk_without_room_leaves_no_half_backup(peer: Path) -> None:
    with pytest.raises(BackupRefused, match="cannot be written"):
        write_backup(peer, Path("/proc/backup.tar"), entropy=ENTROPY, now=NOW, with_data=False)


@pytest.mark.parametrize("name", ["rnd.db", "leftover"])
def test_a_folder_that_is_not_empty_is_left_alone(peer: Path, name: str) -> None:
    new = peer.parent / "new"
    new.mkdir()
    (new / name).write_text("precious")
    with pytest.raises(BackupRefused, match=f"is not empty \\({name}\\)"):
        restore_backup(backup(peer), new, entropy=ENTROPY, now=NOW)
    assert [path.read_text() for path in new.iterdir()] == ["precious"]


def refused(source: Path, words: str, error: type[Exception] = BackupRefused) -> None:
    new = source.parent / "new"
    with pytest.raises(error, match=words):
        restore_backup(source, new, entropy=ENTROPY, now=NOW)
    assert list(new.iterdir()) == []


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_backup_that_was_cut_is_refused(peer: Path, part: float) -> None:
    source = backup(peer)
    content = source.read_bytes()
    whole = content.rindex(b"rnd.backup/1")  # what follows is the padding of the tar
    source.write_bytes(content[: int(part * whole)])
    refused(source, "no backup, or not a whole one")


@pytest.mark.parametrize("content", [b"content", b"BEGIN PRIVATE KEY", b"kept"])
def test_a_backup_that_was_changed_is_refused(peer: Path, content: bytes) -> None:
    source = backup(peer)
    there = source.read_bytes()
    assert content in there
    source.write_bytes(there.replace(content, content.swapcase()))
    refused(source, "damaged")


def rewritten(source: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> None:
    """Write a backup anew with other members."""
    with tarfile.open(source) as tar:
        members = [(info, file.read() if (file := tar.extractfile(info)) else b"") for info in tar]
    change(members)
    with tarfile.open(source, "w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/outside", "services/../../outside", "services", "workflows/x", "daemon.lock"]
)
def test_a_member_that_no_backup_has_is_refused(peer: Path, name: str) -> None:
    source = backup(peer)
    rewritten(source, lambda members: members.insert(0, (tarfile.TarInfo(name), b"x")))
    refused(source, "holds what none of rnd holds")
    assert not (peer.parent / "outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_file_is_refused(peer: Path, kind: bytes) -> None:
    source = backup(peer)
    info = tarfile.TarInfo("services/a1/link")
    info.type, info.linkname = kind, "/etc/passwd"
    rewritten(source, lambda members: members.insert(0, (info, b"")))
    refused(source, "neither a file nor a folder")


def test_a_manifest_of_another_format_is_refused(peer: Path) -> None:
    source = backup(peer)

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info, text = members.pop()
        members.append((info, json.dumps({**json.loads(text), "format": "rnd.backup/2"}).encode()))

    rewritten(source, change)
    refused(source, "not of the format rnd.backup/1: take the rnd that has made it")


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(os.urandom(10_000))
    refused(source, "no backup")
    refused(tmp_path / "nothing", "No such file")


@contextlib.contextmanager
def changed_database(peer: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(peer / "rnd.db")) as conn:
        yield conn
        conn.commit()


def test_a_database_of_a_newer_rnd_is_refused(peer: Path) -> None:
    with changed_database(peer) as conn:
        conn.execute("PRAGMA user_version = 99")
    refused(backup(peer), "install the newer rnd", DatabaseTooNew)


def test_a_database_of_another_program_is_refused(peer: Path) -> None:
    with changed_database(peer) as conn:
        conn.execute("PRAGMA user_version = 0")
    refused(backup(peer), "not one of rnd", DatabaseCorrupt)


def test_ids_leap_over_all_that_may_have_been_given_out(peer: Path) -> None:
    with changed_database(peer) as conn:
        conn.execute("INSERT INTO workflows (id, name, definition) VALUES (7, 'w', '{}')")
    new = peer.parent / "new"
    restore_backup(backup(peer), new, entropy=ENTROPY, now=NOW + timedelta(days=1))
    with contextlib.closing(sqlite3.connect(new / "rnd.db")) as conn:
        given = dict(conn.execute("SELECT name, seq FROM sqlite_sequence"))
        tables = {row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")}
    leap = 1_000_000 + 86_400 * 1_000
    assert set(given) == tables
    assert given["workflows"] == 7 + leap
    assert min(given.values()) == leap


def test_a_backup_from_the_future_leaps_as_well(peer: Path) -> None:
    """Clocks of two machines differ."""
    restore_backup(backup(peer), peer.parent / "new", entropy=ENTROPY, now=NOW - timedelta(days=1))
    with contextlib.closing(sqlite3.connect(peer.parent / "new" / "rnd.db")) as conn:
        assert conn.execute("SELECT MIN(seq) FROM sqlite_sequence").fetchone() == (1_000_000,)


def test_a_database_that_cannot_shrink_can_when_it_was_put_back(peer: Path) -> None:
    with changed_database(peer) as conn:
        conn.execute("PRAGMA auto_vacuum = NONE")
        conn.execute("VACUUM")
        assert conn.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    restore_backup(backup(peer), peer.parent / "new", entropy=ENTROPY, now=NOW)
    with contextlib.closing(sqlite3.connect(peer.parent / "new" / "rnd.db")) as conn:
        assert conn.execute("PRAGMA auto_vacuum").fetchone() == (2,)
