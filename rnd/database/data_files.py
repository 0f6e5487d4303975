"""The snapshot of a DATA service and how its key is wrapped: tables `data_files`, `data_keys` (document: DATA Nodes)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rnd.types.executions import FileEntry
from rnd.types.ids import ServiceId


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One entry of a snapshot: what it is (of the plain content) and the file below the service's folder that has it.

    `stored_name` is "" for an empty folder.
    """

    entry: FileEntry
    stored_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """A data key, wrapped under one that only a passphrase gives; `header` is JSON with the way from one to the other."""

    header: str
    wrapped_key: bytes


def add_data_files(conn: sqlite3.Connection, service_id: ServiceId, files: Iterable[DataFile]) -> None:
    """List the files of a new snapshot."""
    conn.executemany(
        """
        INSERT INTO data_files (service_id, relative_path, size_bytes, sha256, executable, stored_name)
        VALUES (:service_id, :relative_path, :size_bytes, :sha256, :executable, :stored_name)
        """,
        (
            {
                "service_id": service_id,
                "relative_path": file.entry.relative_path,
                "size_bytes": file.entry.size_bytes,
                "sha256": file.entry.sha256,
                "executable": file.entry.executable,
                "stored_name": file.stored_name,
            }
            for file in files
        ),
    )


def read_data_files(conn: sqlite3.Connection, service_id: ServiceId) -> Iterator[DataFile]:
    """Yield the whole snapshot of a service, by path, row by row; nothing for a service that has none."""
    rows = conn.execute(
        """
        SELECT relative_path, size_bytes, sha256, executable, stored_name
        FROM data_files
        WHERE service_id = :service_id
        ORDER BY relative_path
        """,
        {"service_id": service_id},
    )
    for row in rows:
        entry = FileEntry(
            relative_path=row["relative_path"],
            size_bytes=row["size_bytes"],
            sha256=row["sha256"],
            executable=bool(row["executable"]),
        )
        yield DataFile(entry=entry, stored_name=row["stored_name"])


def set_data_key(conn: sqlite3.Connection, service_id: ServiceId, key: DataKey) -> None:
    """Keep the wrapped data key of an encrypted service, in place of an earlier one."""
    conn.execute(
        """
        INSERT INTO data_keys (service_id, header, wrapped_key)
        VALUES (:service_id, :header, :wrapped_key)
        ON CONFLICT (service_id) DO UPDATE
        SET header = excluded.header, wrapped_key = excluded.wrapped_key
        """,
        {"service_id": service_id, "header": key.header, "wrapped_key": key.wrapped_key},
    )


def find_data_key(conn: sqlite3.Connection, service_id: ServiceId) -> DataKey | None:
    """Return the wrapped data key of a service; `None` if it is not encrypted."""
    row = conn.execute(
        """
        SELECT header, wrapped_key
        FROM data_keys
        WHERE service_id = :service_id
        """,
        {"service_id": service_id},
    ).fetchone()
    return None if row is None else DataKey(header=row["header"], wrapped_key=row["wrapped_key"])
