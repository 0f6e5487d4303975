"""What makes a database that was put back from a backup fit to be served: nothing that it says is repeated.

Between the backup and now its peer went on: what was open then may have ended since, and other peers, engines and people may hold
ids that the database has not given out yet. So what was open ends, as if a person had typed it (docs/adr/0005-repairs-by-hand.md),
and ids leap over those that may have been given out.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Final

from rnd.types.ids import PeerId
from rnd.types.times import to_text

REPORTS_LEAP: Final = 1_000_000
"""By so much the reports of ended jobs are newer than those in the backup: an orderer takes no older one than it has."""


def end_open_executions(conn: sqlite3.Connection, reason: str, *, now: datetime) -> int:
    """Set every execution that was open to FAILED; return how many. Their jobs on other peers are cancelled by the daemon."""
    return conn.execute(
        """
        UPDATE workflow_executions
        SET status = 'FAILED', completed_at = :now, error = :reason
        WHERE status IN ('PENDING', 'RUNNING')
        """,
        {"now": to_text(now), "reason": reason},
    ).rowcount


def end_open_jobs(conn: sqlite3.Connection, reason: str, *, executor: PeerId, now: datetime) -> int:
    """Set every job of this peer that was open, whoever ordered it, to ERRORED; return how many."""
    return conn.execute(
        """
        UPDATE job_executions
        SET status = 'ERRORED', ended_at = :now, error_message = :reason, status_seq = status_seq + :leap
        WHERE status IN ('IDLE', 'READY', 'RUNNING')
          AND executor_peer_id = :executor
        """,
        {"now": to_text(now), "reason": reason, "executor": executor, "leap": REPORTS_LEAP},
    ).rowcount


def leap_ids(conn: sqlite3.Connection, by: int) -> None:
    """Have every table go on with ids that are greater by so much, also one that has given out none yet."""
    conn.execute(
        """
        INSERT INTO sqlite_sequence (name, seq)
        SELECT m.name, 0
        FROM sqlite_master AS m
        WHERE m.type = 'table'
          AND m.sql LIKE '%AUTOINCREMENT%'
          AND m.name NOT IN (SELECT s.name FROM sqlite_sequence AS s)
        """
    )
    conn.execute("UPDATE sqlite_sequence SET seq = seq + :by", {"by": by})


def forget_files(conn: sqlite3.Connection) -> None:
    """Strike out files that are in no backup: uploads that nothing has taken, and where deliveries have come before."""
    conn.execute("DELETE FROM uploads")
    conn.execute("DELETE FROM arrived_folders")
