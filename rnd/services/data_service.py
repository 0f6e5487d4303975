"""DATA services: files taken in as a snapshot, kept, opened for reading (document: DATA Nodes, DATA Service Execution).

A data key is in clear only while it is used. It rests wrapped under its passphrase (`data_keys`), and sealed under the
node's vault for an execution that was given the passphrase, or until a time for other peers' orders (`sealed_secrets`).
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm

from rnd.database import data_files, offered_services, sealed_secrets, uploads
from rnd.database.connection import Database
from rnd.database.data_files import DataFile, DataKey
from rnd.database.offered_services import NewService
from rnd.log import get_logger
from rnd.protocol.sealing import (
    KEY_BYTES,
    NONCE_BYTES,
    SALT_BYTES,
    KdfHeader,
    derive_key,
    header_from_json,
    header_to_json,
    preferred_kdf,
    unwrap_key,
    wrap_key,
)
from rnd.rules.upload_names import UPLOADS_FOLDER
from rnd.services.ingest import bad_paths, clear_unknown, ingest
from rnd.services.snapshot import manifest_sha256, open_stored
from rnd.services.vault import Vault
from rnd.types.config import Config
from rnd.types.enums import Egress, SecretPurpose, ServiceAccess, ServiceType
from rnd.types.errors import CalledOff, Conflict, JobFailed, PermissionDenied, Problem, SealBroken, ValidationFailed
from rnd.types.executions import FileEntry
from rnd.types.ids import ExecutionId, PeerId, ServiceId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock, Entropy
from rnd.types.services import DataSettings, RetryPolicy, Service, ServiceInterface
from rnd.types.times import to_text
from rnd.workers.copying import Reader
from rnd.workers.files import clear_tree

T = TypeVar("T")

SERVICES_FOLDER: Final = "services"
UNLOCKED_FOR_S: Final = 24 * 3600.0

INGEST_THREADS: Final = 2
"""How many snapshots are taken at once; more would only fight over the disk."""

KDF_THREADS: Final = 1
"""How many passphrases are hardened at once; each takes 64 MiB, and `derive_key` allows no two."""

SERVICES_A_READ: Final = 1000
RUN_ONCE: Final = RetryPolicy()

_UID_BYTES: Final = 16
_UID: Final = re.compile(r"[0-9a-f]{32}")

log = get_logger()


class DataService:
    """Everything about the files of DATA services. `close` after the last call."""

    def __init__(self, *, database: Database, clock: Clock, entropy: Entropy, config: Config, vault: Vault) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy
        self._config = config
        self._vault = vault
        self._folder = config.data_dir / SERVICES_FOLDER
        self._uploads = config.data_dir / UPLOADS_FOLDER
        self._ingest_threads = ThreadPoolExecutor(INGEST_THREADS, thread_name_prefix="rnd-ingest")
        self._kdf_threads = ThreadPoolExecutor(KDF_THREADS, thread_name_prefix="rnd-kdf")

    def close(self) -> None:
        """End the threads once they are idle; what still runs has been called off by its caller's cancellation."""
        self._ingest_threads.shutdown(wait=False, cancel_futures=True)
        self._kdf_threads.shutdown(wait=False, cancel_futures=True)

    # ---------------------------------------------------------------- taking in and letting go

    async def create(
        self,
        *,
        name: str,
        paths: Sequence[str | Path],
        interfaces: tuple[ServiceInterface, ...],
        passphrase: str | None = None,
        description: str = "",
        egress: Egress = Egress.ANY_JOB,
        egress_peers: tuple[PeerId, ...] = (),
        downloadable: bool = True,
        seal: bool = False,
        pricing_amount: float = 0.0,
        pricing_type: str = "FREE",
        access: ServiceAccess = ServiceAccess.ALLOWED,
        retry_safe: bool = False,
        retry: RetryPolicy = RUN_ONCE,
    ) -> Service:
        """Take in files and folders of this host and offer them.

        `paths` are absolute. A file keeps its name; a folder gives what is in it; several lie side by side. A path in
        `<data-dir>/uploads/` is an upload, which the caller takes off the list afterwards. With a passphrase every file
        is sealed under a fresh data key. Raises `ValidationFailed` naming every path that is at fault, `Conflict` (name
        taken), `LimitExceeded` (disk nearly full), `TransferFailed` (a file could not be read or written). After an error
        or a cancellation nothing is left.
        """
        await self._check_request(name, paths, passphrase)
        data_key = None if passphrase is None else self._entropy.random_bytes(KEY_BYTES)
        uid = self._entropy.random_bytes(_UID_BYTES).hex()
        wrapped = None if passphrase is None or data_key is None else await self._wrap(uid, data_key, passphrase)
        known_uploads = await self._known_uploads(paths)
        try:
            entries = await self._in_ingest_thread(
                lambda cancelled: ingest(
                    paths,
                    known_uploads,
                    self._snapshot(uid),
                    config=self._config,
                    data_key=data_key,
                    cancelled=cancelled,
                )
            )
        except asyncio.CancelledError:
            await self._discard(uid)
            raise
        files = [entry for entry in entries if entry.sha256]
        settings = DataSettings(
            file_count=len(files),
            size_bytes=sum(entry.size_bytes for entry in files),
            manifest_sha256=manifest_sha256(entries),
            encrypted=data_key is not None,
            egress=egress,
            egress_peers=egress_peers,
            downloadable=downloadable,
            seal=seal,
        )
        new = NewService(
            name=name,
            service_type=ServiceType.DATA,
            interfaces=interfaces,
            settings=settings,
            description=description,
            service_path=uid,
            pricing_amount=pricing_amount,
            pricing_type=pricing_type,
            access=access,
            retry_safe=retry_safe,
            retry=retry,
        )
        service = await self._offer(new, entries, wrapped)
        log.info(
            LogEvent.DATA_INGESTED,
            service_id=service.id,
            files=settings.file_count,
            bytes=settings.size_bytes,
            encrypted=settings.encrypted,
        )
        return service

    async def remove_files(self, service: Service) -> None:
        """Delete the snapshot of a service whose row is gone."""
        if _UID.fullmatch(service.service_path):
            await self._discard(service.service_path)

    async def sweep(self) -> int:
        """At start, before any order: delete snapshots that no row knows and keys whose time is up.

        Returns how many folders there were: what a crash or a cancellation left between a rename and its commit.
        """
        now = self._clock.now()
        await self._database.write(lambda conn: sealed_secrets.delete_expired_secrets(conn, now=now))
        known = await self._database.read(_known_uids)
        return await asyncio.to_thread(clear_unknown, self._folder, known)

    # ---------------------------------------------------------------- keys

    async def unwrap(self, service_id: ServiceId, passphrase: str) -> bytes:
        """Return the data key of an encrypted service.

        Raises `PermissionDenied` (wrong passphrase), `Conflict` (not encrypted), `NotFound`.
        """
        service, wrapped = await self._database.read(lambda conn: self._wrapped_key(conn, service_id))
        return await self._in_kdf_thread(lambda: _unwrap(service, wrapped, passphrase))

    async def unlock(self, service_id: ServiceId, passphrase: str, valid_s: float = UNLOCKED_FOR_S) -> datetime:
        """Open encrypted DATA for other peers' orders, and for own ones without a passphrase; return until when.

        Raises as `unwrap` does.
        """
        data_key = await self.unwrap(service_id, passphrase)
        sealed = self._vault.seal(data_key, purpose=_purpose(SecretPurpose.UNLOCKED_DATA_KEY, service_id, None))
        until = self._clock.now() + timedelta(seconds=valid_s)
        await self._database.write(
            lambda conn: sealed_secrets.set_secret(
                conn, SecretPurpose.UNLOCKED_DATA_KEY, sealed, service_id=service_id, valid_until=until
            )
        )
        log.info(LogEvent.DATA_UNLOCKED, service_id=service_id, until=to_text(until))
        return until

    async def is_unlocked(self, service_id: ServiceId) -> bool:
        """Say whether the owner has unlocked this service and the time is not up."""
        return await self._database.read(lambda conn: self._find_key(conn, service_id, None)) is not None

    async def rewrap(self, service_id: ServiceId, old: str, new: str) -> None:
        """Change the passphrase; the files stay as they are. Raises as `unwrap` does, and `ValidationFailed`."""
        _check_passphrase(new)
        data_key = await self.unwrap(service_id, old)
        service = await self._database.read(lambda conn: offered_services.get_service(conn, service_id))
        wrapped = await self._wrap(service.service_path, data_key, new)
        await self._database.write(lambda conn: data_files.set_data_key(conn, service_id, wrapped))

    def seal_for_execution(
        self, conn: sqlite3.Connection, service_id: ServiceId, execution_id: ExecutionId, data_key: bytes
    ) -> None:
        """Keep a data key for one execution, so that a restarted daemon goes on; the execution's end deletes it."""
        purpose = _purpose(SecretPurpose.EXECUTION_DATA_KEY, service_id, execution_id)
        sealed_secrets.set_secret(
            conn,
            SecretPurpose.EXECUTION_DATA_KEY,
            self._vault.seal(data_key, purpose=purpose),
            service_id=service_id,
            execution_id=execution_id,
        )

    def data_key_for(
        self, conn: sqlite3.Connection, service: Service, execution_id: ExecutionId | None
    ) -> bytes | None:
        """Return the key that opens a service's files now: the execution's own, or the unlocked one; plain: `None`.

        Raises `JobFailed` with words where encrypted DATA is locked.
        """
        if not _data_settings(service).encrypted:
            return None
        key = None if execution_id is None else self._find_key(conn, service.id, execution_id)
        key = key or self._find_key(conn, service.id, None)
        if key is None:
            raise JobFailed(
                f"DATA service {service.name} is encrypted and locked: its passphrase was not given, or the time of "
                "service.unlock is up"
            )
        return key

    # ---------------------------------------------------------------- reading

    def list_entries(self, conn: sqlite3.Connection, service_id: ServiceId) -> list[FileEntry]:
        """Return the manifest of a snapshot, by path."""
        return [file.entry for file in data_files.read_data_files(conn, service_id)]

    def open_entry(self, service: Service, entry: FileEntry, data_key: bytes | None) -> Reader:
        """Open one file of a snapshot for reading its plain content; blocks, so call it in a thread.

        Raises `TransferFailed` (also while reading) where the stored file is gone, cut or changed.
        """
        key = data_key if _data_settings(service).encrypted else None
        return open_stored(self._snapshot(service.service_path), entry, key, label=f"DATA service {service.name}")

    # ---------------------------------------------------------------- private

    def _snapshot(self, uid: str) -> Path:
        return self._folder / uid

    async def _check_request(self, name: str, paths: Sequence[str | Path], passphrase: str | None) -> None:
        """Refuse early what would be refused after hours of copying."""
        if not paths:
            raise bad_paths(["give at least one file or folder in paths"])
        if passphrase is not None:
            _check_passphrase(passphrase)
        if await self._database.read(lambda conn: offered_services.find_service_by_name(conn, name)) is not None:
            raise Conflict(f'A service named "{name}" exists already', hint="Choose another name, or delete that one.")

    async def _known_uploads(self, paths: Sequence[str | Path]) -> dict[Path, uploads.Upload]:
        given = [Path(path) for path in paths if Path(path).parent == self._uploads]

        def work(conn: sqlite3.Connection) -> dict[Path, uploads.Upload]:
            return {path: uploads.get_upload(conn, path.name) for path in given}

        return await self._database.read(work)

    async def _offer(self, new: NewService, entries: Sequence[FileEntry], wrapped: DataKey | None) -> Service:
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> Service:
            service = offered_services.create_service(conn, new, now=now)
            listed = (
                DataFile(entry=entry, stored_name=entry.relative_path if entry.sha256 else "") for entry in entries
            )
            data_files.add_data_files(conn, service.id, listed)
            if wrapped is not None:
                data_files.set_data_key(conn, service.id, wrapped)
            return service

        try:
            return await self._database.write(work)
        except Conflict:
            # Only where the rows are surely not there. After a cancellation they may be: then the next start's sweep
            # decides by what was committed.
            await self._discard(new.service_path)
            raise

    async def _discard(self, uid: str) -> None:
        await asyncio.to_thread(clear_tree, self._snapshot(uid))

    async def _wrap(self, uid: str, data_key: bytes, passphrase: str) -> DataKey:
        header = KdfHeader(parameters=preferred_kdf(), salt=self._entropy.random_bytes(SALT_BYTES))
        kek = await self._in_kdf_thread(lambda: derive_key(header, passphrase))
        nonce = self._entropy.random_bytes(NONCE_BYTES)
        return DataKey(
            header=header_to_json(header), wrapped_key=wrap_key(kek, data_key, context=uid.encode(), nonce=nonce)
        )

    def _wrapped_key(self, conn: sqlite3.Connection, service_id: ServiceId) -> tuple[Service, DataKey]:
        service = offered_services.get_service(conn, service_id)
        wrapped = data_files.find_data_key(conn, service_id)
        if wrapped is None:
            raise Conflict(f"Service {service.name} is not encrypted", hint="It can be ordered without a passphrase.")
        return service, wrapped

    def _find_key(
        self, conn: sqlite3.Connection, service_id: ServiceId, execution_id: ExecutionId | None
    ) -> bytes | None:
        purpose = SecretPurpose.UNLOCKED_DATA_KEY if execution_id is None else SecretPurpose.EXECUTION_DATA_KEY
        sealed = sealed_secrets.find_secret(
            conn, purpose, service_id=service_id, execution_id=execution_id, now=self._clock.now()
        )
        if sealed is None:
            return None
        try:
            return self._vault.open(sealed, purpose=_purpose(purpose, service_id, execution_id))
        except SealBroken:
            return None  # the vault's key was replaced, or the row was moved: the passphrase has to be given again

    async def _in_kdf_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._kdf_threads, work)

    async def _in_ingest_thread(self, work: Callable[[Callable[[], bool]], T]) -> T:
        """Run work in a thread; a cancellation calls it off and waits until it has stopped."""
        begun, called_off = threading.Event(), threading.Event()

        def begin() -> T:
            begun.set()
            if called_off.is_set():
                raise CalledOff("taking the files in was cancelled before it had begun")
            return work(called_off.is_set)

        outcome = asyncio.get_running_loop().run_in_executor(self._ingest_threads, begin)
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            called_off.set()
            if begun.is_set():
                await asyncio.wait([outcome])
                outcome.exception()  # it has been called off; what it says of that is of no more interest
            else:
                outcome.cancel()
            raise


def _known_uids(conn: sqlite3.Connection) -> set[str]:
    known: set[str] = set()
    after_id: int | None = 0
    while after_id is not None:
        page = offered_services.list_services(
            conn, service_type=ServiceType.DATA, limit=SERVICES_A_READ, after_id=after_id
        )
        known |= {service.service_path for service in page.items}
        after_id = page.next_after_id
    return known


def _unwrap(service: Service, wrapped: DataKey, passphrase: str) -> bytes:
    try:
        header = header_from_json(wrapped.header)
        kek = derive_key(header, passphrase)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Conflict(
            f"The key of DATA service {service.name} cannot be opened here: {error}",
            hint="Its row in data_keys was changed, or this machine's OpenSSL lacks the key derivation function.",
        ) from error
    try:
        return unwrap_key(kek, wrapped.wrapped_key, context=service.service_path.encode())
    except SealBroken as error:
        raise PermissionDenied(
            f"The passphrase does not open DATA service {service.name}",
            hint="Give the passphrase that the service was created with; rnd keeps no other way to open it.",
        ) from error


def _purpose(purpose: SecretPurpose, service_id: ServiceId, execution_id: ExecutionId | None) -> str:
    return f"{purpose}:{service_id}" if execution_id is None else f"{purpose}:{service_id}:{execution_id}"


def _data_settings(service: Service) -> DataSettings:
    if not isinstance(service.settings, DataSettings):
        raise JobFailed(f"service {service.name} is no DATA service")
    return service.settings


def _check_passphrase(passphrase: str) -> None:
    if not passphrase:
        raise ValidationFailed([Problem(check="passphrase", message="The passphrase is empty")])
