"""Keys and secrets under the node's vault key: table `sealed_secrets` (document: DATA Service Execution).

Nothing here is in clear; only the vault opens what these functions keep.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from rnd.database.rows import text_or_none
from rnd.types.enums import SecretPurpose
from rnd.types.ids import ExecutionId, ServiceId
from rnd.types.times import to_text

_DELETE = """
    DELETE FROM sealed_secrets
    WHERE purpose = :purpose
      AND service_id IS :service_id
      AND workflow_execution_id IS :execution_id
      AND name = :name
"""


def set_secret(
    conn: sqlite3.Connection,
    purpose: SecretPurpose,
    sealed: bytes,
    *,
    service_id: ServiceId | None,
    execution_id: ExecutionId | None = None,
    name: str = "",
    valid_until: datetime | None = None,
) -> None:
    """Keep a sealed secret, in place of an earlier one with the same purpose, service, execution and name."""
    key = {"purpose": purpose, "service_id": service_id, "execution_id": execution_id, "name": name}
    # Not an upsert: a UNIQUE constraint takes two NULLs for different.
    conn.execute(_DELETE, key)
    conn.execute(
        """
        INSERT INTO sealed_secrets (purpose, service_id, workflow_execution_id, name, sealed, valid_until)
        VALUES (:purpose, :service_id, :execution_id, :name, :sealed, :valid_until)
        """,
        key | {"sealed": sealed, "valid_until": text_or_none(valid_until)},
    )


def find_secret(
    conn: sqlite3.Connection,
    purpose: SecretPurpose,
    *,
    service_id: ServiceId | None,
    execution_id: ExecutionId | None = None,
    name: str = "",
    now: datetime,
) -> bytes | None:
    """Return a sealed secret; `None` if there is none or its time is up."""
    row = conn.execute(
        """
        SELECT sealed
        FROM sealed_secrets
        WHERE purpose = :purpose
          AND service_id IS :service_id
          AND workflow_execution_id IS :execution_id
          AND name = :name
          AND (valid_until IS NULL OR valid_until > :now)
        """,
        {
            "purpose": purpose,
            "service_id": service_id,
            "execution_id": execution_id,
            "name": name,
            "now": to_text(now),
        },
    ).fetchone()
    return None if row is None else bytes(row["sealed"])


def list_service_secrets(conn: sqlite3.Connection, service_id: ServiceId) -> dict[str, bytes]:
    """Return the sealed secrets of a service by name."""
    rows = conn.execute(
        """
        SELECT name, sealed
        FROM sealed_secrets
        WHERE purpose = 'service_secret'
          AND service_id = :service_id
        ORDER BY name
        """,
        {"service_id": service_id},
    )
    return {row["name"]: bytes(row["sealed"]) for row in rows}


def find_registry_auth(conn: sqlite3.Connection, service_id: ServiceId) -> bytes | None:
    """Return the sealed credentials for the registry of a service's image, or `None`."""
    row = conn.execute(
        """
        SELECT sealed
        FROM sealed_secrets
        WHERE purpose = 'registry_auth'
          AND service_id = :service_id
        """,
        {"service_id": service_id},
    ).fetchone()
    return None if row is None else bytes(row["sealed"])


def delete_secret(
    conn: sqlite3.Connection,
    purpose: SecretPurpose,
    *,
    service_id: ServiceId | None,
    execution_id: ExecutionId | None = None,
    name: str = "",
) -> None:
    """Forget a secret; nothing happens if there is none."""
    conn.execute(
        _DELETE,
        {"purpose": purpose, "service_id": service_id, "execution_id": execution_id, "name": name},
    )


def delete_execution_secrets(conn: sqlite3.Connection, execution_id: ExecutionId) -> int:
    """Forget every key that was unwrapped for an execution, at its end; return how many there were."""
    return conn.execute(
        """
        DELETE FROM sealed_secrets
        WHERE workflow_execution_id = :execution_id
        """,
        {"execution_id": execution_id},
    ).rowcount


def delete_expired_secrets(conn: sqlite3.Connection, *, now: datetime) -> int:
    """Forget the unlocked data keys whose time is up; return how many there were."""
    return conn.execute(
        """
        DELETE FROM sealed_secrets
        WHERE purpose = 'unlocked_data_key'
          AND valid_until <= :now
        """,
        {"now": to_text(now)},
    ).rowcount
