"""A data directory with a real database and its DATA services, and a way to play one scenario on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rnd.database.connection import Database
from rnd.services.data_service import DataService
from rnd.services.vault import load_vault
from rnd.types.config import Config, Limits
from rnd.types.enums import InterfaceType
from rnd.types.executions import FileEntry
from rnd.types.ids import ExecutionId
from rnd.types.services import Service, ServiceInterface
from rnd.workers.files import BUFFER_BYTES
from tests.seams import CountingEntropy, StillClock

T = TypeVar("T")

STDOUT = (ServiceInterface(interface_type=InterfaceType.STDOUT),)


@dataclass(slots=True)
class Node:
    """One peer's data directory, as far as DATA services need it."""

    data_dir: Path
    database: Database
    data: DataService
    clock: StillClock

    async def create(self, *paths: Path | str, name: str = "set", passphrase: str | None = None) -> Service:
        """Offer files under a name."""
        return await self.data.create(name=name, paths=list(paths), interfaces=STDOUT, passphrase=passphrase)

    async def manifest(self, service: Service) -> list[FileEntry]:
        """Return the rows of a snapshot."""
        return await self.database.read(lambda conn: self.data.list_entries(conn, service.id))

    async def key(self, service: Service, execution_id: ExecutionId | None) -> bytes | None:
        """Return the key that an execution would be given now."""
        return await self.database.read(lambda conn: self.data.data_key_for(conn, service, execution_id))

    def content(self, service: Service, entry: FileEntry, key: bytes | None = None) -> bytes:
        """Read one file of a snapshot to its end."""
        reader = self.data.open_entry(service, entry, key)
        try:
            buffer = bytearray(BUFFER_BYTES)
            whole = b""
            while count := reader.readinto(memoryview(buffer)):
                whole += buffer[:count]
            return whole
        finally:
            reader.close()

    def snapshots(self) -> list[str]:
        """Return what lies in `services/`, half-done or whole."""
        folder = self.data_dir / "services"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A data directory on which daemons come and go."""

    data_dir: Path
    limits: Limits
    allowed_roots: tuple[str, ...] = ("/",)
    clock: StillClock = field(default_factory=StillClock)

    def run(self, scenario: Callable[[Node], Awaitable[T]], *, seed: str = "first") -> T:
        """Open everything, play one scenario, close everything. Each daemon of one test needs a seed of its own."""
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        entropy = CountingEntropy(seed)
        database = Database.open(self.data_dir / "rnd.db")
        data = DataService(
            database=database,
            clock=self.clock,
            entropy=entropy,
            config=Config(data_dir=self.data_dir, allowed_roots=self.allowed_roots, limits=self.limits),
            vault=load_vault(self.data_dir, entropy),
        )

        async def play() -> T:
            try:
                return await scenario(Node(data_dir=self.data_dir, database=database, data=data, clock=self.clock))
            finally:
                data.close()
                await database.close()

        return asyncio.run(play())
