"""Encrypted DATA: sealed at rest, opened by its passphrase alone, and every tampering noticed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from rnd.database import sealed_secrets
from rnd.database.data_files import DataKey, find_data_key, set_data_key
from rnd.protocol import sealing
from rnd.protocol.sealing import SEALED_CHUNK_BYTES
from rnd.services import data_service
from rnd.types.errors import (
    Conflict,
    JobFailed,
    NotFound,
    PermissionDenied,
    TransferFailed,
    ValidationFailed,
)
from rnd.types.executions import FileEntry
from rnd.types.ids import ExecutionId, ServiceId
from rnd.types.services import DataSettings, Service
from rnd.workers.copying import copy_entries
from tests.services.data_peer import Node, Peer

PASSPHRASE = "correct horse battery staple"
EXECUTION = ExecutionId(7)


@pytest.fixture(autouse=True)
def _quick_kdf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harden passphrases at a hundredth of the cost; others of these tests pay the whole."""
    monkeypatch.setattr(sealing, "_ARGON2_MEMORY_KIB", range(256, 257))
    monkeypatch.setattr(data_service, "preferred_kdf", lambda: sealing.Argon2idParameters(memory_kib=256))


def stored(node: Node, service: Service, name: str) -> Path:
    return node.data_dir / "services" / service.service_path / name


def test_nothing_of_the_content_the_passphrase_or_the_key_lies_on_the_disk(peer: Peer, files: Path) -> None:
    secret = b"the patients and their findings"
    (files / "secret").write_bytes(secret * 1000)

    async def scenario(node: Node) -> bytes:
        service = await node.create(files, passphrase=PASSPHRASE)
        assert isinstance(service.settings, DataSettings)
        assert service.settings.encrypted
        key = await node.data.unwrap(service.id, PASSPHRASE)
        await node.database.write(lambda conn: node.data.seal_for_execution(conn, service.id, EXECUTION, key))
        await node.data.unlock(service.id, PASSPHRASE)
        return key

    key = peer.run(scenario)
    whole = b"".join(path.read_bytes() for path in peer.data_dir.rglob("*") if path.is_file())
    for hidden in (secret, PASSPHRASE.encode(), key, key.hex().encode()):
        assert hidden not in whole


def test_the_passphrase_opens_every_file(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)
        key = await node.data.unwrap(service.id, PASSPHRASE)
        for entry in await node.manifest(service):
            if entry.sha256:
                assert node.content(service, entry, key) == (files / entry.relative_path).read_bytes()

    peer.run(scenario)


def test_a_reader_serves_buffers_smaller_than_a_chunk(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)
        key = await node.data.unwrap(service.id, PASSPHRASE)
        entry = next(entry for entry in await node.manifest(service) if entry.relative_path == "sub/big")
        reader = node.data.open_entry(service, entry, key)
        buffer = memoryview(bytearray(100_001))
        whole = b""
        while count := reader.readinto(buffer):
            whole += buffer[:count]
        reader.close()
        assert whole == (files / "sub" / "big").read_bytes()

    peer.run(scenario)


def test_encrypted_data_travels_whole(peer: Peer, files: Path, tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)
        key = await node.data.unwrap(service.id, PASSPHRASE)
        entries = await node.manifest(service)
        items = [(entry, entry.relative_path) for entry in entries]
        copy_entries(lambda entry: node.data.open_entry(service, entry, key), items, tmp_path / "arrived")
        assert (tmp_path / "arrived" / "sub" / "big").read_bytes() == (files / "sub" / "big").read_bytes()
        assert os.access(tmp_path / "arrived" / "sub" / "run", os.X_OK)

    peer.run(scenario)


def test_a_wrong_passphrase_is_refused_with_a_hint(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)
        for wrong in ("", "wrong", PASSPHRASE + " "):
            with pytest.raises(PermissionDenied, match="The passphrase does not open DATA service set") as caught:
                await node.data.unwrap(service.id, wrong)
            assert "Give the passphrase that the service was created with" in caught.value.hint

    peer.run(scenario)


def test_many_passphrases_can_be_tried_at_once(peer: Peer, files: Path) -> None:
    """Two keys that were derived at the same time have waited for each other without end."""

    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)
        tries = [node.data.unwrap(service.id, PASSPHRASE) for _ in range(4)]
        async with asyncio.timeout(60):
            keys = await asyncio.gather(*tries)
        assert len(set(keys)) == 1

    peer.run(scenario)


def test_an_empty_passphrase_protects_nothing_and_is_refused(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        with pytest.raises(ValidationFailed, match="The passphrase is empty"):
            await node.create(files, passphrase="")

    peer.run(scenario)


def test_plain_data_has_no_key(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files)
        with pytest.raises(Conflict, match="is not encrypted"):
            await node.data.unwrap(service.id, PASSPHRASE)
        with pytest.raises(NotFound):
            await node.data.unwrap(ServiceId(99), PASSPHRASE)
        assert await node.key(service, EXECUTION) is None

    peer.run(scenario)


def test_locked_data_says_what_is_missing(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)
        for execution_id in (EXECUTION, None):
            with pytest.raises(JobFailed, match="DATA service set is encrypted and locked"):
                await node.key(service, execution_id)

    peer.run(scenario)


def test_an_executions_key_survives_a_restart_and_ends_with_the_execution(peer: Peer, files: Path) -> None:
    async def before(node: Node) -> tuple[Service, bytes]:
        service = await node.create(files, passphrase=PASSPHRASE)
        key = await node.data.unwrap(service.id, PASSPHRASE)
        await node.database.write(lambda conn: node.data.seal_for_execution(conn, service.id, EXECUTION, key))
        return service, key

    service, key = peer.run(before)

    async def after(node: Node) -> None:
        assert await node.key(service, EXECUTION) == key
        for other in (ExecutionId(8), None):
            with pytest.raises(JobFailed):
                await node.key(service, other)
        await node.database.write(lambda conn: sealed_secrets.delete_execution_secrets(conn, EXECUTION))
        with pytest.raises(JobFailed):
            await node.key(service, EXECUTION)

    peer.run(after, seed="second")


def test_a_key_that_was_moved_to_another_execution_does_not_open(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)
        key = await node.data.unwrap(service.id, PASSPHRASE)

        def move(conn: sqlite3.Connection) -> None:
            node.data.seal_for_execution(conn, service.id, EXECUTION, key)
            conn.execute("UPDATE sealed_secrets SET workflow_execution_id = 8")

        await node.database.write(move)
        with pytest.raises(JobFailed, match="encrypted and locked"):
            await node.key(service, ExecutionId(8))

    peer.run(scenario)


def test_unlocked_data_is_open_until_its_time_is_up(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)
        assert not await node.data.is_unlocked(service.id)
        until = await node.data.unlock(service.id, PASSPHRASE, valid_s=60)
        assert (until - node.clock.now()).total_seconds() == 60
        assert await node.data.is_unlocked(service.id)
        key = await node.key(service, None)
        assert key == await node.data.unwrap(service.id, PASSPHRASE)
        node.clock.move(61)
        assert not await node.data.is_unlocked(service.id)
        await node.data.sweep()
        left = await node.database.read(lambda conn: conn.execute("SELECT COUNT(*) FROM sealed_secrets").fetchone()[0])
        assert left == 0

    peer.run(scenario)


def test_data_is_locked_again_when_the_vaults_key_was_lost(peer: Peer, files: Path) -> None:
    async def before(node: Node) -> Service:
        service = await node.create(files, passphrase=PASSPHRASE)
        await node.data.unlock(service.id, PASSPHRASE)
        return service

    service = peer.run(before)
    (peer.data_dir / "vault.key").unlink()

    async def after(node: Node) -> None:
        assert not await node.data.is_unlocked(service.id)
        await node.data.unlock(service.id, PASSPHRASE)
        assert await node.data.is_unlocked(service.id)

    peer.run(after, seed="second")


def test_a_changed_passphrase_opens_the_same_files(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)
        key = await node.data.unwrap(service.id, PASSPHRASE)
        with pytest.raises(PermissionDenied):
            await node.data.rewrap(service.id, "wrong", "new")
        await node.data.rewrap(service.id, PASSPHRASE, "a new passphrase")
        assert await node.data.unwrap(service.id, "a new passphrase") == key
        with pytest.raises(PermissionDenied):
            await node.data.unwrap(service.id, PASSPHRASE)

    peer.run(scenario)


def test_a_weakened_key_header_is_refused(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)

        def weaken(conn: sqlite3.Connection) -> None:
            key = find_data_key(conn, service.id)
            assert key is not None
            weak = key.header.replace('"iterations": 3', '"iterations": 1')
            set_data_key(conn, service.id, DataKey(header=weak, wrapped_key=key.wrapped_key))

        await node.database.write(weaken)
        with pytest.raises(Conflict, match="the key header's iterations is out of bounds"):
            await node.data.unwrap(service.id, PASSPHRASE)

    peer.run(scenario)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[SEALED_CHUNK_BYTES + 5] ^= 1
    path.write_bytes(content)


def swap(path: Path) -> None:
    content = path.read_bytes()
    one, two = content[:SEALED_CHUNK_BYTES], content[SEALED_CHUNK_BYTES : 2 * SEALED_CHUNK_BYTES]
    path.write_bytes(two + one + content[2 * SEALED_CHUNK_BYTES :])


ATTACKS: dict[str, Callable[[Path], object]] = {
    "a bit flipped": flip,
    "chunks swapped": swap,
    "cut at a chunk's edge": lambda path: os.truncate(path, 2 * SEALED_CHUNK_BYTES),
    "cut by a byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "bytes appended": lambda path: path.write_bytes(path.read_bytes() + bytes(16)),
    "another file in its place": lambda path: path.write_bytes((path.parent / "twin").read_bytes()),
    "the plain content in its place": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_a_stored_file_that_was_tampered_with_is_refused_by_name(
    peer: Peer, files: Path, attack: Callable[[Path], object]
) -> None:
    (files / "sub" / "twin").write_bytes((files / "sub" / "big").read_bytes())

    async def scenario(node: Node) -> None:
        service = await node.create(files, passphrase=PASSPHRASE)
        key = await node.data.unwrap(service.id, PASSPHRASE)
        entry = next(entry for entry in await node.manifest(service) if entry.relative_path == "sub/big")
        attack(stored(node, service, "sub/big"))
        with pytest.raises(TransferFailed, match="the stored file sub/big of DATA service set was changed or cut"):
            node.content(service, entry, key)

    peer.run(scenario)


def test_another_services_file_under_another_key_is_refused(peer: Peer, files: Path) -> None:
    async def scenario(node: Node) -> None:
        one = await node.create(files, name="one", passphrase=PASSPHRASE)
        two = await node.create(files, name="two", passphrase=PASSPHRASE)
        stored(node, one, "a.csv").write_bytes(stored(node, two, "a.csv").read_bytes())
        key = await node.data.unwrap(one.id, PASSPHRASE)
        entry = FileEntry(relative_path="a.csv", size_bytes=4, sha256="")
        with pytest.raises(TransferFailed, match=r"a\.csv of DATA service one was changed"):
            node.content(one, entry, key)

    peer.run(scenario)
