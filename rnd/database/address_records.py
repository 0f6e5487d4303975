"""Where peers say they can be reached, signed by themselves: table `address_records`.

Whoever stores a record has checked its signature; what is read from here is passed on as it came.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime

from rnd.types.ids import PeerId
from rnd.types.peers import AddressRecord
from rnd.types.times import to_text


def store_record(conn: sqlite3.Connection, record: AddressRecord, *, told_by: PeerId, now: datetime) -> bool:
    """Keep a record in place of an older one of that peer; False if the one that is kept is as new or newer.

    `told_by` is the peer that it came from.
    """
    cursor = conn.execute(
        """
        INSERT INTO address_records (peer_id, addresses, issued_at_ms, signature, received_at, told_by)
        VALUES (:peer_id, :addresses, :issued_at_ms, :signature, :now, :told_by)
        ON CONFLICT (peer_id) DO UPDATE
        SET addresses = excluded.addresses,
            issued_at_ms = excluded.issued_at_ms,
            signature = excluded.signature,
            received_at = excluded.received_at,
            told_by = excluded.told_by
        WHERE excluded.issued_at_ms > address_records.issued_at_ms
        """,
        {
            "peer_id": record.peer_id,
            "addresses": json.dumps(list(record.addresses)),
            "issued_at_ms": record.issued_at_ms,
            "signature": record.signature,
            "now": to_text(now),
            "told_by": told_by,
        },
    )
    return cursor.rowcount == 1


def find_record(conn: sqlite3.Connection, peer_id: PeerId) -> AddressRecord | None:
    """Return the newest record of a peer; `None` if none ever came."""
    row = conn.execute(
        """
        SELECT peer_id, addresses, issued_at_ms, signature
        FROM address_records
        WHERE peer_id = :peer_id
        """,
        {"peer_id": peer_id},
    ).fetchone()
    if row is None:
        return None
    return AddressRecord(
        peer_id=PeerId(row["peer_id"]),
        addresses=tuple(json.loads(row["addresses"])),
        issued_at_ms=row["issued_at_ms"],
        signature=row["signature"],
    )


def newest_addresses(conn: sqlite3.Connection, peer_id: PeerId) -> tuple[str, ...]:
    """Return where a peer may be reached: the operator's addresses, then those of its own record, each once."""
    row = conn.execute(
        """
        SELECT
            (SELECT addresses FROM peers WHERE peer_id = :peer_id) AS given,
            (SELECT addresses FROM address_records WHERE peer_id = :peer_id) AS signed
        """,
        {"peer_id": peer_id},
    ).fetchone()
    return tuple(dict.fromkeys([*json.loads(row["given"] or "[]"), *json.loads(row["signed"] or "[]")]))


def forget_record(conn: sqlite3.Connection, peer_id: PeerId) -> None:
    """Forget where a peer says it can be reached; nothing happens if it never said."""
    conn.execute("DELETE FROM address_records WHERE peer_id = :peer_id", {"peer_id": peer_id})


def drop_strangers(conn: sqlite3.Connection, *, received_before: datetime) -> int:
    """Drop older records of peers that the owner has no word on and no job introduces; return how many."""
    return conn.execute(
        """
        DELETE FROM address_records
        WHERE received_at < :received_before
          AND NOT EXISTS (
            SELECT 1
            FROM peers
            WHERE peers.peer_id = address_records.peer_id
          )
          AND NOT EXISTS (
            SELECT 1
            FROM introductions
            WHERE introductions.peer_id = address_records.peer_id
          )
        """,
        {"received_before": to_text(received_before)},
    ).rowcount


def drop_strangers_told_by(conn: sqlite3.Connection, teller: PeerId, *, keep: int) -> int:
    """Drop the records of such strangers that one peer has passed on, except for the newest `keep`; return how many."""
    return conn.execute(
        """
        DELETE FROM address_records
        WHERE peer_id IN (
            SELECT told.peer_id
            FROM address_records AS told
            WHERE told.told_by = :teller
              AND NOT EXISTS (
                SELECT 1
                FROM peers
                WHERE peers.peer_id = told.peer_id
              )
              AND NOT EXISTS (
                SELECT 1
                FROM introductions
                WHERE introductions.peer_id = told.peer_id
              )
            ORDER BY told.received_at DESC
            LIMIT -1 OFFSET :keep
        )
        """,
        {"teller": teller, "keep": keep},
    ).rowcount
