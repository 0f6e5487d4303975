"""Names under which jobs run on their engine: table `executor_handles`.

The name is committed together with the move to RUNNING, before the engine hears of it, so that a restarted daemon asks
the engine for that very name and never runs a job twice.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from rnd.types.executions import JobExecution
from rnd.types.times import to_text


def engine_name_of(job: JobExecution) -> str:
    """Return the name of a job's current attempt on its engine; unique on this peer and never used again."""
    return f"job-{job.id}-{job.attempt}"


def record_intent(conn: sqlite3.Connection, job: JobExecution, *, executor: str, boot_id: str, now: datetime) -> str:
    """Commit to running a job's current attempt under a name, in this boot of the machine; return the name."""
    engine_name = engine_name_of(job)
    conn.execute(
        """
        INSERT INTO executor_handles (job_execution_id, attempt, executor, engine_name, intent_at, boot_id)
        VALUES (:job_id, :attempt, :executor, :engine_name, :now, :boot_id)
        ON CONFLICT (job_execution_id, attempt) DO NOTHING
        """,
        {
            "job_id": job.id,
            "attempt": job.attempt,
            "executor": executor,
            "engine_name": engine_name,
            "now": to_text(now),
            "boot_id": boot_id,
        },
    )
    return engine_name


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
