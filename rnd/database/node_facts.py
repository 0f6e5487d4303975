"""What the node knows about itself, one row a fact: table `node_facts`. Never a secret."""

from __future__ import annotations

import sqlite3


def find_fact(conn: sqlite3.Connection, key: str) -> str | None:
    """Return the value of a fact; `None` if it was never set."""
    row = conn.execute(
        """
        SELECT value
        FROM node_facts
        WHERE key = :key
        """,
        {"key": key},
    ).fetchone()
    return None if row is None else str(row["value"])


def set_fact(conn: sqlite3.Connection, key: str, value: str) -> None:
    """Set a fact, whatever it was before."""
    conn.execute(
        """
        INSERT INTO node_facts (key, value)
        VALUES (:key, :value)
        ON CONFLICT (key) DO UPDATE
        SET value = excluded.value
        """,
        {"key": key, "value": value},
    )


def delete_fact(conn: sqlite3.Connection, key: str) -> None:
    """Forget a fact; nothing happens if there is none."""
    conn.execute(
        """
        DELETE FROM node_facts
        WHERE key = :key
        """,
        {"key": key},
    )
