"""Taking files in as a DATA service: what is taken, what is refused in which words, and what a failure leaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rnd.database import offered_services, uploads
from rnd.database.data_files import read_data_files
from rnd.services.snapshot import HostRules, find_host_source, manifest_sha256, take_snapshot
from rnd.types.enums import Egress
from rnd.types.errors import (
    ApplicationError,
    Conflict,
    LimitExceeded,
    NotFound,
    TransferFailed,
    UnfitFiles,
    ValidationFailed,
)
from rnd.types.executions import FileEntry
from rnd.types.ids import PeerId
from rnd.types.services import DataSettings, Service
from tests.services.data_peer import STDOUT, Node, Peer


def settings(service: Service) -> DataSettings:
    assert isinstance(service.settings, DataSettings)
    return service.settings


def refusal(peer: Peer, *paths: Path | str, error: type[ApplicationError] = ValidationFailed) -> str:
    """Return the words with which these paths are refused; nothing may be left of the attempt."""

    async def scenario(node: Node) -> str:
        with pytest.raises(error) as caught:
            await node.create(*paths)
        assert node.snapshots() == []
        assert (await node.database.read(lambda conn: offered_services.list_services(conn, limit=1))).total == 0
        return caught.value.message

    return peer.run(scenario)


def test_a_folder_is_taken_in_with_hashes_exec_bits_and_empty_folders(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files)
        entries = await node.manifest(service)
        assert [(entry.relative_path, entry.executable) for entry in entries] == [
            ("a.csv", False),
            ("none", False),
            ("sub/big", False),
            ("sub/empty/", False),
            ("sub/run", True),
        ]
        for entry in entries:
            if entry.sha256:
                original = (files / entry.relative_path).read_bytes()
                assert entry.sha256 == hashlib.sha256(original).hexdigest()
                assert node.content(service, entry) == original
        assert settings(service).file_count == 4
        assert settings(service).size_bytes == sum(entry.size_bytes for entry in entries)
        assert settings(service).manifest_sha256 == manifest_sha256(entries)
        assert not settings(service).encrypted
        assert node.snapshots() == [service.service_path]

    peer.run(scenario)


def test_the_snapshot_stays_what_it_was_when_the_original_changes(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files / "a.csv")
        (files / "a.csv").write_bytes(b"changed")
        [entry] = await node.manifest(service)
        assert node.content(service, entry) == b"1,2\n"

    peer.run(scenario)


def test_files_and_folders_lie_side_by_side(peer: Peer, files: Path, tmp_path: Path) -> None:
    (tmp_path / "single.txt").write_text("single")
    (tmp_path / "more" / "sub" / "empty").mkdir(parents=True)
    (tmp_path / "more" / "sub" / "empty" / "not").write_text("")

    async def scenario(node: Node) -> None:
        service = await node.create(files, tmp_path / "single.txt", str(tmp_path / "more"))
        paths = [entry.relative_path for entry in await node.manifest(service)]
        assert paths == ["a.csv", "none", "single.txt", "sub/big", "sub/empty/not", "sub/run"]

    peer.run(scenario)


def test_two_names_of_one_file_are_two_copies(peer: Peer, files: Path) -> None:
    os.link(files / "a.csv", files / "b.csv")

    async def scenario(node: Node) -> None:
        service = await node.create(files)
        stored = node.data_dir / "services" / service.service_path / "b.csv"
        assert stored.read_bytes() == b"1,2\n"
        assert stored.stat().st_nlink == 1

    peer.run(scenario)


def test_the_owners_rules_are_kept_with_the_service(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.data.create(
            name="guarded",
            paths=[files],
            interfaces=STDOUT,
            egress=Egress.LISTED,
            egress_peers=(PeerId("rnsomebody"),),
            downloadable=False,
            seal=True,
        )
        kept = settings(await node.database.read(lambda conn: offered_services.get_service(conn, service.id)))
        assert (kept.egress, kept.egress_peers, kept.downloadable, kept.seal) == (
            Egress.LISTED,
            ("rnsomebody",),
            False,
            True,
        )

    peer.run(scenario)


def test_a_path_may_lead_through_the_owners_own_link(peer: Peer, files: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(files)

    async def scenario(node: Node) -> None:
        service = await node.create(tmp_path / "link")
        assert len(await node.manifest(service)) == 5

    peer.run(scenario)


def test_an_upload_becomes_a_service_without_being_copied(peer: Peer) -> None:
    async def scenario(node: Node) -> None:
        folder = node.data_dir / "uploads"
        folder.mkdir()
        (folder / "table.csv").write_bytes(b"uploaded")
        sha256 = hashlib.sha256(b"uploaded").hexdigest()
        now = node.clock.now()
        await node.database.write(
            lambda conn: uploads.add_upload(conn, name="table.csv", size_bytes=8, sha256=sha256, now=now)
        )
        service = await node.create(folder / "table.csv")
        [entry] = await node.manifest(service)
        assert entry == FileEntry(relative_path="table.csv", size_bytes=8, sha256=sha256)
        assert node.content(service, entry) == b"uploaded"
        stored = node.data_dir / "services" / service.service_path / "table.csv"
        assert stored.stat().st_ino == (folder / "table.csv").stat().st_ino

        encrypted = await node.create(folder / "table.csv", name="sealed", passphrase="open sesame")
        key = await node.data.unwrap(encrypted.id, "open sesame")
        assert node.content(encrypted, entry, key) == b"uploaded"

        (folder / "table.csv").write_bytes(b"cut")
        with pytest.raises(ValidationFailed, match=r"upload table\.csv is not what arrived"):
            await node.create(folder / "table.csv", name="cut")

    peer.run(scenario)


def test_an_upload_on_another_disk_is_copied(peer: Peer, tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        (node.data_dir / "uploads").symlink_to(other_disk)
        Path(other_disk, "table.csv").write_bytes(b"uploaded")
        sha256 = hashlib.sha256(b"uploaded").hexdigest()
        now = node.clock.now()
        await node.database.write(
            lambda conn: uploads.add_upload(conn, name="table.csv", size_bytes=8, sha256=sha256, now=now)
        )
        service = await node.create(node.data_dir / "uploads" / "table.csv")
        [entry] = await node.manifest(service)
        assert entry == FileEntry(relative_path="table.csv", size_bytes=8, sha256=sha256)
        assert node.content(service, entry) == b"uploaded"

    with tempfile.TemporaryDirectory(dir="/dev/shm") as other_disk:
        assert os.stat(other_disk).st_dev != tmp_path.stat().st_dev
        peer.run(scenario)


def test_an_upload_that_is_not_listed_is_not_found(peer: Peer) -> None:
    async def scenario(node: Node) -> None:
        with pytest.raises(NotFound, match='Upload "part" not found'):
            await node.create(node.data_dir / "uploads" / "part")

    peer.run(scenario)


def test_no_paths_are_refused(peer: Peer) -> None:
    assert refusal(peer) == "give at least one file or folder in paths"


def test_every_faulty_path_is_named_at_once(peer: Peer, files: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    words = refusal(peer, files, "relative/path", "", tmp_path / "missing", tmp_path / "void", "/dev/null")
    assert "path 'relative/path' must be absolute" in words
    assert "path '' must be absolute" in words
    assert f"{tmp_path}/missing cannot be found: No such file or directory" in words
    assert f"there is nothing in {tmp_path}/void" in words
    assert "dev/null is a character device; only files and folders can be carried" in words


def test_a_link_inside_a_folder_is_refused_by_its_path(peer: Peer, files: Path) -> None:
    (files / "sub" / "link").symlink_to("/etc/passwd")
    assert refusal(peer, files) == "files/sub/link is a symbolic link; only files and folders can be carried"


def test_a_special_file_inside_a_folder_is_refused_by_its_path(peer: Peer, files: Path) -> None:
    os.mkfifo(files / "sub" / "pipe")
    assert refusal(peer, files) == "files/sub/pipe is a named pipe; only files and folders can be carried"


def test_names_that_collide_name_both_paths(peer: Peer, files: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.csv").write_text("")
    words = refusal(peer, files, tmp_path / "other")
    assert words == f"a.csv comes from both {files} and {tmp_path / 'other'}"


@pytest.mark.parametrize("inside", ["rnd.db", "", ".."])
def test_the_data_directory_cannot_be_offered(peer: Peer, inside: str) -> None:
    assert "the daemon's data directory" in refusal(peer, peer.data_dir / inside)


def test_nor_can_it_through_a_link(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "innocent").symlink_to(peer.data_dir)
    assert "the daemon's data directory" in refusal(peer, tmp_path / "innocent" / "vault.key")


def test_what_lies_outside_the_allowed_roots_is_refused_through_links_too(
    peer: Peer, files: Path, tmp_path: Path
) -> None:
    (files / "sub" / "out").symlink_to("/etc/passwd")
    narrow = replace(peer, allowed_roots=(str(files / "sub"),))
    for path in ("/etc/passwd", files / "sub" / "out", files / "a.csv", tmp_path / "files-beside"):
        (tmp_path / "files-beside").write_text("")
        assert "lies outside the folders that may be offered" in refusal(narrow, path)


def test_the_limits_of_number_and_size_hold(peer: Peer, files: Path) -> None:
    few = replace(peer, limits=replace(peer.limits, files_per_transfer=3))
    assert "holds more than 3 files or folders" in refusal(few, files)
    small = replace(peer, limits=replace(peer.limits, file_bytes=3))
    assert "files/a.csv has 4 bytes; the limit for a file is 3" in refusal(small, files / "a.csv")


def test_several_paths_share_the_limit_of_number(peer: Peer, files: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).write_text("")
    few = replace(peer, limits=replace(peer.limits, files_per_transfer=5))
    assert refusal(few, files, tmp_path / "x") == "these paths hold 6 files; the limit is 5"


def test_a_disk_without_room_is_noticed_before_copying(peer: Peer, files: Path) -> None:
    full = replace(peer, limits=replace(peer.limits, disk_floor_bytes=1 << 60))
    assert "has room for 0 above the floor" in refusal(full, files, error=LimitExceeded)


def test_a_taken_name_is_refused_and_its_files_are_gone(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files)
        with pytest.raises(Conflict, match='A service named "set" exists already'):
            await node.create(files)
        assert node.snapshots() == [service.service_path]

    peer.run(scenario)


def test_of_two_who_want_one_name_at_once_one_gets_it_and_nothing_else_stays(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        outcomes = await asyncio.gather(*(node.create(files) for _ in range(4)), return_exceptions=True)
        made = [outcome for outcome in outcomes if isinstance(outcome, Service)]
        assert len(made) == 1
        assert all(isinstance(outcome, Conflict) for outcome in outcomes if outcome is not made[0])
        assert node.snapshots() == [made[0].service_path]

    peer.run(scenario)


def test_a_file_that_grows_while_it_is_taken_in_is_refused(peer: Peer, files: Path) -> None:
    growing = threading.Event()

    def grow() -> None:
        with (files / "log").open("ab") as file:
            while not growing.is_set():
                file.write(b"line\n" * 100)
                file.flush()

    (files / "log").write_bytes(bytes(8 << 20))
    writer = threading.Thread(target=grow)
    writer.start()
    try:
        assert "files/log changed while it was read" in refusal(peer, files)
    finally:
        growing.set()
        writer.join()


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_a_cancelled_ingest_stops_and_leaves_nothing(peer: Peer, tmp_path: Path, passphrase: str | None) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(1 << 40)

    async def scenario(node: Node) -> None:
        task = asyncio.ensure_future(node.create(big, passphrase=passphrase))
        while not any(name.endswith(".part") for name in node.snapshots()):
            await asyncio.to_thread(os.sched_yield)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert node.snapshots() == []

    with_room = replace(peer, limits=replace(peer.limits, disk_floor_bytes=-(1 << 41)))
    with_room.run(scenario)


def test_an_ingest_that_waits_for_its_turn_can_be_cancelled_at_once(peer: Peer, tmp_path: Path, files: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(1 << 40)

    async def scenario(node: Node) -> None:
        busy = [asyncio.ensure_future(node.create(big, name=str(number))) for number in range(2)]
        while len(node.snapshots()) < 2:
            await asyncio.to_thread(os.sched_yield)
        waiting = asyncio.ensure_future(node.create(files, name="waiting"))
        for _ in range(20):
            await asyncio.to_thread(os.sched_yield)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not any(task.done() for task in busy)
        for task in busy:
            task.cancel()
        await asyncio.wait(busy)
        assert node.snapshots() == []

    with_room = replace(peer, limits=replace(peer.limits, disk_floor_bytes=-(1 << 41)))
    with_room.run(scenario)


def test_the_event_loop_is_free_while_files_are_taken_in(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "some").write_bytes(bytes(64 << 20))

    async def scenario(node: Node) -> int:
        task = asyncio.ensure_future(node.create(tmp_path / "some"))
        turns = 0
        while not task.done():
            await asyncio.to_thread(os.sched_yield)
            turns += 1
        await task
        return turns

    assert peer.run(scenario) > 10


def test_a_deleted_service_gives_its_space_back(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files)
        now = node.clock.now()
        await node.database.write(
            lambda conn: offered_services.delete_service(conn, service.id, self_peer_id=PeerId("me"), now=now)
        )
        await node.data.remove_files(service)
        assert node.snapshots() == []
        assert await node.database.read(lambda conn: list(read_data_files(conn, service.id))) == []

    peer.run(scenario)


def test_removing_files_never_leaves_the_services_folder(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files)
        for path in ("", ".", "..", "../uploads", "/"):
            await node.data.remove_files(replace(service, service_path=path))
        assert node.snapshots() == [service.service_path]

    peer.run(scenario)


def test_the_sweep_at_start_removes_what_no_row_knows(peer: Peer, files: Path) -> None:
    async def before(node: Node) -> str:
        service = await node.create(files)
        for orphan in ("." + "a" * 32 + ".part", "b" * 32):
            (node.data_dir / "services" / orphan / "deep").mkdir(parents=True)
            (node.data_dir / "services" / orphan / "deep" / "f").write_text("half")
        return service.service_path

    async def after(node: Node) -> list[str]:
        assert await node.data.sweep() == 2
        assert await node.data.sweep() == 0
        return node.snapshots()

    kept = peer.run(before)
    assert peer.run(after, seed="second") == [kept]


def test_a_sweep_of_a_new_peer_finds_nothing(peer: Peer) -> None:
    async def scenario(node: Node) -> int:
        return await node.data.sweep()

    assert peer.run(scenario) == 0


def test_a_stored_file_that_is_gone_is_named(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files / "a.csv")
        [entry] = await node.manifest(service)
        (node.data_dir / "services" / service.service_path / "a.csv").unlink()
        with pytest.raises(TransferFailed, match=r"a\.csv of DATA service set cannot be opened: No such file"):
            node.content(service, entry)

    peer.run(scenario)


def test_a_folder_swapped_for_a_link_between_look_and_copy_is_refused(peer: Peer, files: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    files.rename(tmp_path / "above" / "files")
    rules = HostRules(allowed_roots=(Path("/"),), data_dir=peer.data_dir, max_files=100, max_file_bytes=1 << 40)
    source = find_host_source(str(tmp_path / "above" / "files"), rules)
    (tmp_path / "above").rename(tmp_path / "elsewhere")
    (tmp_path / "above").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnfitFiles, match="above/files changed while it was taken in"):
        take_snapshot([source], peer.data_dir / "services" / "uid", data_key=None, cancelled=lambda: False)
    assert list((peer.data_dir / "services").iterdir()) == []


@pytest.mark.parametrize("data_key", [None, bytes(32)])
def test_a_file_that_shrinks_between_look_and_copy_is_refused(peer: Peer, files: Path, data_key: bytes | None) -> None:
    rules = HostRules(allowed_roots=(Path("/"),), data_dir=peer.data_dir, max_files=100, max_file_bytes=1 << 40)
    source = find_host_source(str(files), rules)
    os.truncate(files / "sub" / "big", 3)
    with pytest.raises(UnfitFiles, match="files/sub/big changed while it was read"):
        take_snapshot([source], peer.data_dir / "services" / "uid", data_key=data_key, cancelled=lambda: False)
    assert list((peer.data_dir / "services").iterdir()) == []


FULL_DISK = """
import asyncio, subprocess, sys
from pathlib import Path
from rnd.types.config import Limits
from rnd.types.errors import TransferFailed
from tests.services.data_peer import Node, Peer
disk, big = map(Path, sys.argv[1:])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
async def scenario(node):
    for passphrase in (None, "open sesame"):
        try:
            await node.create(big, passphrase=passphrase)
        except TransferFailed as error:
            assert "No space left on device" in error.message and "Free some space" in error.hint
        else:
            sys.exit("a full disk was not noticed")
        assert node.snapshots() == []
Peer(data_dir=disk / "data", limits=Limits(disk_floor_bytes=-(1 << 40))).run(scenario)
"""

DIE_AT_STEP = """
import os, sys
from pathlib import Path
from rnd.types.config import Limits
from tests.services.data_peer import Node, Peer
files, data_dir = map(Path, sys.argv[1:])
peer = Peer(data_dir=data_dir, limits=Limits(disk_floor_bytes=0))
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir")
def die_at(last_step):
    steps = 0
    def count(event, args):
        nonlocal steps
        if event in EVENTS:
            steps += 1
            if steps == last_step:
                os._exit(9)
    async def create(node):
        sys.addaudithook(count)
        await node.create(files, name=f"set {last_step}")
    if os.fork() == 0:
        with open(os.devnull, "w") as sys.stdout:
            peer.run(create, seed=str(last_step))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.wait()[1])
async def check(node):
    await node.data.sweep()
    def work(conn):
        from rnd.database import offered_services
        return offered_services.list_services(conn, limit=1000).items
    services = await node.database.read(work)
    assert node.snapshots() == sorted(service.service_path for service in services), node.snapshots()
    for service in services:
        for entry in await node.manifest(service):
            if entry.sha256:
                assert len(node.content(service, entry)) == entry.size_bytes
    return len(services)
step = before = 0
while True:
    step += 1
    code = die_at(step)
    assert code in (0, 9), code
    more = peer.run(check, seed="check") - before
    before += more
    # Whoever dies behind the commit, where a library may still open something, leaves a whole service too.
    assert more == 1 if code == 0 else more in (0, 1), (step, more)
    if code == 0:
        break
print(step)
"""


def run_script(script: str, *arguments: Path, before: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*before, sys.executable, "-c", script, *map(str, arguments)],
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def test_a_full_disk_is_said_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "big").write_bytes(os.urandom(8 << 20))
    run_script(FULL_DISK, tmp_path / "disk", tmp_path / "big", before=("unshare", "--mount", "--map-root-user"))


def test_a_daemon_that_dies_at_any_step_leaves_a_whole_service_or_none(peer: Peer, files: Path) -> None:
    assert int(run_script(DIE_AT_STEP, files, peer.data_dir)) > 15


def test_rows_that_fail_for_reasons_unknown_leave_the_files_to_the_next_starts_sweep(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        def forget(conn: sqlite3.Connection) -> None:
            conn.execute("DROP TABLE data_files")

        await node.database.write(forget)
        with pytest.raises(sqlite3.Error):
            await node.create(files)
        assert len(node.snapshots()) == 1
        assert await node.data.sweep() == 1

    peer.run(scenario)
