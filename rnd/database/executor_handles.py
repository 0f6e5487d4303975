"""Names under which jobs run on their engine: table `executor_handles`.

The name is committed together with the move to RUNNING, before the engine hears of it, so that a restarted daemon asks
the engine for that very name and never runs a job twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from rnd.types.executions import JobExecution
from rnd.types.times import to_text


def engine_name_of(job: JobExecution) -> str:
    """Return the name of a job's current attempt on its engine; unique on this peer and never used again."""
    return f"job-{job.id}-{job.attempt}"


def record_intents(conn: sqlite3.Connection, jobs: Sequence[JobExecution], *, boot_id: str, now: datetime) -> None:
    """Commit to running the current attempt of jobs under their names, in this boot of the machine."""
    conn.executemany(
        """
        INSERT INTO executor_handles (job_execution_id, attempt, executor, engine_name, intent_at, boot_id)
        VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (job_execution_id, attempt) DO NOTHING
        """,
        [(job.id, job.attempt, job.service_type.lower(), engine_name_of(job), to_text(now), boot_id) for job in jobs],
    )


def boot_of_intent(conn: sqlite3.Connection, job: JobExecution) -> str | None:
    """Return in which boot of the machine a job's current attempt was meant to run; `None` if none was recorded."""
    row = conn.execute(
        """
        SELECT boot_id
        FROM executor_handles
        WHERE job_execution_id = :job_id
          AND attempt = :attempt
        """,
        {"job_id": job.id, "attempt": job.attempt},
    ).fetchone()
    return None if row is None else str(row["boot_id"])
