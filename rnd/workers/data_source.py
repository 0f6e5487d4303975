"""What carrying files needs of the DATA services of this peer, so that this room need not know theirs."""

from __future__ import annotations

import sqlite3
from typing import Protocol

from rnd.types.executions import FileEntry
from rnd.types.ids import ExecutionId, ServiceId
from rnd.types.services import Service
from rnd.workers.copying import Reader


class DataSource(Protocol):
    """The snapshots of DATA services, opened for reading."""

    def data_key_for(
        self, conn: sqlite3.Connection, service: Service, execution_id: ExecutionId | None
    ) -> bytes | None:
        """Return the key that opens a service's files now; plain: `None`. Raises `JobFailed` where it is locked."""

    def list_entries(self, conn: sqlite3.Connection, service_id: ServiceId) -> list[FileEntry]:
        """Return the manifest of a snapshot, by path."""

    def open_entry(self, service: Service, entry: FileEntry, data_key: bytes | None) -> Reader:
        """Open one file for reading its plain content. Raises `TransferFailed`."""
