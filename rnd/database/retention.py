"""Old executions: which of them nobody needs any more, and how their rows go (limit `executions_kept`); before that, what
their jobs received and left (`keep_intermediate_s`).

The rows go in one transaction that also writes down which folders go with them (table `doomed_folders`), so that a stop
in between leaves nothing behind for good. Events stay until they are pruned themselves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rnd.types.ids import ExecutionId, JobExecutionId
from rnd.types.times import to_text

# Ended, taken notice of, with nothing left to run here or to carry, and no retry that looks for what it may reuse. What
# came in part and whose sender has not come again waits for nobody's sake.
_AT_REST: Final = """
    SELECT we.id
    FROM workflow_executions AS we
    WHERE we.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
      AND we.settled_status = we.status
      AND we.completed_at < :ended_before
      AND NOT EXISTS (
          SELECT 1
          FROM job_executions AS je
          WHERE je.workflow_execution_id = we.id
            AND je.status IN ('IDLE', 'READY', 'RUNNING')
            AND je.remote_job_execution_id IS NULL
      )
      AND NOT EXISTS (
          SELECT 1
          FROM transfers AS t
          WHERE t.workflow_execution_id = we.id
            AND t.status IN ('PENDING', 'ACTIVE')
            AND NOT (t.direction = 'INCOMING' AND t.status = 'PENDING')
      )
      AND NOT EXISTS (
          SELECT 1
          FROM workflow_executions AS retry
          WHERE retry.status IN ('PENDING', 'RUNNING')
            AND retry.retry_of = we.id
      )
"""
# No source of outputs for an execution that is kept.
_NOT_REUSED: Final = """
      AND NOT EXISTS (
          SELECT 1
          FROM job_executions AS reusing
          WHERE reusing.result = 'reused:' || we.id
      )
"""
# Not cleared yet, and no source of outputs for an execution that keeps its own.
_NOT_CLEARED: Final = """
      AND we.cleared_at IS NULL
      AND we.completed_at IS NOT NULL
      AND NOT EXISTS (
          SELECT 1
          FROM job_executions AS reusing
          JOIN workflow_executions AS later ON later.id = reusing.workflow_execution_id
          WHERE reusing.result = 'reused:' || we.id
            AND later.cleared_at IS NULL
      )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoomedFolder:
    """A folder that is to be deleted; `path` is relative to the data directory."""

    path: str
    error: str | None


def list_unneeded_executions(
    conn: sqlite3.Connection, *, keep: int, ended_before: datetime, limit: int
) -> list[ExecutionId]:
    """Return executions beyond the newest `keep` that nobody needs any more, oldest first."""
    # Ids only grow, so this answers for every peer that is not full without counting anything.
    span = conn.execute("SELECT MAX(id) - MIN(id) + 1 FROM workflow_executions").fetchone()[0]
    if span is None or span <= keep:
        return []
    beyond = conn.execute(
        "SELECT id FROM workflow_executions ORDER BY id DESC LIMIT 1 OFFSET :keep", {"keep": keep}
    ).fetchone()
    if beyond is None:
        return []
    rows = conn.execute(
        _AT_REST + _NOT_REUSED + "AND we.id <= :newest ORDER BY we.id LIMIT :limit",
        {"newest": beyond[0], "ended_before": to_text(ended_before), "limit": limit},
    ).fetchall()
    return [ExecutionId(row[0]) for row in rows]


def forget_execution(
    conn: sqlite3.Connection,
    execution_id: ExecutionId,
    *,
    ended_before: datetime,
    folders: Sequence[str],
    now: datetime,
) -> bool:
    """Delete an execution with all its rows and doom its folders; False if it has come to be needed meanwhile."""
    values = {"id": execution_id, "ended_before": to_text(ended_before)}
    if conn.execute(_AT_REST + _NOT_REUSED + "AND we.id = :id", values).fetchone() is None:
        return False
    for statement in _DELETIONS:
        conn.execute(statement, {"id": execution_id})
    _doom(conn, folders, now=now)
    return True


def list_uncleared_executions(conn: sqlite3.Connection, *, ended_before: datetime, limit: int) -> list[ExecutionId]:
    """Return executions whose intermediate data has been kept for long enough, oldest end first."""
    rows = conn.execute(
        _AT_REST + _NOT_CLEARED + "ORDER BY we.completed_at LIMIT :limit",
        {"ended_before": to_text(ended_before), "limit": limit},
    ).fetchall()
    return [ExecutionId(row[0]) for row in rows]


def list_large_streams(conn: sqlite3.Connection, execution_id: ExecutionId, *, from_bytes: int) -> list[JobExecutionId]:
    """Return the jobs of an own execution that have left a captured stream of this size or more to be carried."""
    rows = conn.execute(
        """
        SELECT DISTINCT je.id
        FROM job_executions AS je
        JOIN job_outputs AS jo ON jo.job_execution_id = je.id
        WHERE je.workflow_execution_id = :id
          AND jo.origin IN ('stdout', 'stderr', 'logs')
          AND jo.size_bytes >= :from_bytes
        """,
        {"id": execution_id, "from_bytes": from_bytes},
    ).fetchall()
    return [JobExecutionId(row[0]) for row in rows]


def clear_execution(
    conn: sqlite3.Connection,
    execution_id: ExecutionId,
    *,
    ended_before: datetime,
    paths: Sequence[str],
    now: datetime,
) -> bool:
    """Doom what the jobs of an execution received and left; False if it has come to be needed meanwhile. Its rows stay."""
    values = {"id": execution_id, "ended_before": to_text(ended_before)}
    if conn.execute(_AT_REST + _NOT_CLEARED + "AND we.id = :id", values).fetchone() is None:
        return False
    conn.execute(
        "UPDATE workflow_executions SET cleared_at = :now WHERE id = :id", {"id": execution_id, "now": to_text(now)}
    )
    _doom(conn, paths, now=now)
    return True


def list_unneeded_orders(conn: sqlite3.Connection, *, now: datetime, limit: int) -> list[JobExecutionId]:
    """Return jobs that other peers ordered, that have ended, and whose hold is over.

    What a job that is kept reuses is kept with it, and a reused job itself until its start command can come no more. A mirror
    goes with its execution, and its end is a time of another machine's clock: earlier versions gave it a hold as well.
    """
    rows = conn.execute(
        """
        SELECT je.id
        FROM job_executions AS je INDEXED BY job_executions_held
        WHERE je.hold_s IS NOT NULL
          AND je.workflow_execution_id IS NULL
          AND je.ended_at IS NOT NULL
          AND je.ended_at < :now
          AND julianday(je.ended_at) + je.hold_s / 86400.0 < julianday(:now)
          AND je.status IN ('COMPLETED', 'ERRORED', 'CANCELLED')
          AND je.settled_status = je.status
          AND NOT (je.result IS NOT NULL AND je.start_received = 0 AND je.start_by > :now)
          AND NOT EXISTS (
              SELECT 1
              FROM job_executions AS reusing
              WHERE reusing.result = 'reused:' || je.execution_uid
                AND reusing.ordering_peer_id = je.ordering_peer_id
                AND reusing.node_id = je.node_id
          )
          AND NOT EXISTS (
              SELECT 1
              FROM transfers AS t
              WHERE t.source_job_execution_id = je.id
                AND t.direction IN ('LOCAL', 'OUTGOING')
                AND t.status IN ('PENDING', 'ACTIVE')
          )
        ORDER BY je.ended_at
        LIMIT :limit
        """,
        {"now": to_text(now), "limit": limit},
    ).fetchall()
    return [JobExecutionId(row[0]) for row in rows]


def forget_order(conn: sqlite3.Connection, job_execution_id: JobExecutionId, *, folder: str, now: datetime) -> None:
    """Delete a job that another peer ordered with all its rows, and doom its folder."""
    for statement in _ORDER_DELETIONS:
        conn.execute(statement, {"id": job_execution_id})
    _doom(conn, [folder], now=now)


def list_doomed_folders(conn: sqlite3.Connection, *, limit: int) -> list[DoomedFolder]:
    """Return folders whose rows are gone, those that resisted last."""
    rows = conn.execute(
        """
        SELECT path, error
        FROM doomed_folders
        ORDER BY error IS NOT NULL, doomed_at
        LIMIT :limit
        """,
        {"limit": limit},
    ).fetchall()
    return [DoomedFolder(path=row["path"], error=row["error"]) for row in rows]


def settle_doomed_folders(conn: sqlite3.Connection, outcomes: Sequence[tuple[str, str | None]]) -> None:
    """Strike out folders that are gone (`None`); keep the others, with the error that keeps them."""
    conn.executemany(
        "DELETE FROM doomed_folders WHERE path = :path",
        [{"path": path} for path, error in outcomes if error is None],
    )
    conn.executemany(
        "UPDATE doomed_folders SET error = :error WHERE path = :path",
        [{"path": path, "error": error} for path, error in outcomes if error is not None],
    )


def release_pages(conn: sqlite3.Connection, *, spare_bytes: int, at_most: int) -> int:
    """Give pages that no row needs back to the disk, where they are many; return how many, `at_most` in one call.

    A quarter of the file, and `spare_bytes`, stay for rows to come. A file that was made before rnd did this has to be
    vacuumed by hand once (docs/backup.md).
    """
    page_bytes, pages, free = (
        int(conn.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "page_count", "freelist_count")
    )
    spare = max(pages // 4, spare_bytes // page_bytes)
    if free <= spare:
        return 0
    for _ in range(min(at_most, free - spare)):
        conn.execute("PRAGMA incremental_vacuum(1)")  # of more than one, Python's module takes the first step only
    return pages - int(conn.execute("PRAGMA page_count").fetchone()[0])


def _doom(conn: sqlite3.Connection, paths: Sequence[str], *, now: datetime) -> None:
    conn.executemany(
        """
        INSERT INTO doomed_folders (path, doomed_at)
        VALUES (:path, :now)
        ON CONFLICT DO NOTHING
        """,
        [{"path": path, "now": to_text(now)} for path in paths],
    )


_DELETIONS: Final = (
    "DELETE FROM results WHERE workflow_execution_id = :id",
    "DELETE FROM transfers WHERE workflow_execution_id = :id",
    """
    DELETE FROM job_interface_peers
    WHERE job_interface_id IN (
        SELECT ji.id
        FROM job_executions AS je
        JOIN job_interfaces AS ji ON ji.job_execution_id = je.id
        WHERE je.workflow_execution_id = :id
    )
    """,
    """
    DELETE FROM job_interfaces
    WHERE job_execution_id IN (SELECT id FROM job_executions WHERE workflow_execution_id = :id)
    """,
    "DELETE FROM job_executions WHERE workflow_execution_id = :id",
    "DELETE FROM workflow_jobs WHERE workflow_execution_id = :id",
    "DELETE FROM sealed_secrets WHERE workflow_execution_id = :id",
    "DELETE FROM workflow_executions WHERE id = :id",
)
"""In the order that foreign keys ask for; outputs, handles and result files go with what they belong to."""

_ORDER_DELETIONS: Final = (
    "DELETE FROM transfers WHERE source_job_execution_id = :id AND direction IN ('LOCAL', 'OUTGOING')",
    "DELETE FROM transfers WHERE dest_job_execution_id = :id AND direction IN ('LOCAL', 'INCOMING')",
    """
    DELETE FROM job_interface_peers
    WHERE job_interface_id IN (SELECT id FROM job_interfaces WHERE job_execution_id = :id)
    """,
    "DELETE FROM job_interfaces WHERE job_execution_id = :id",
    "DELETE FROM job_executions WHERE id = :id",
)
"""In the order that foreign keys ask for; outputs, handles and introductions go with the job."""
