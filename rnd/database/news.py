"""What a transaction changed beyond what its caller asked for: to be logged and acted upon once it is committed."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from rnd.database import job_executions
from rnd.database.job_moves import JobHead
from rnd.types.executions import Transfer
from rnd.types.ids import ExecutionId, InterfacePeerId, JobExecutionId


@dataclass(slots=True)
class News:
    """What a transaction changed beyond what its caller asked for. Filled while the transaction runs."""

    ready: list[JobHead] = field(default_factory=list)
    waiting: list[JobExecutionId] = field(default_factory=list)
    ended: list[tuple[JobHead, str | None]] = field(default_factory=list)
    acknowledged: list[InterfacePeerId] = field(default_factory=list)
    inputs_changed: list[JobExecutionId] = field(default_factory=list)
    transfers_created: int = 0
    outgoing_created: int = 0
    transfers_ended: list[Transfer] = field(default_factory=list)
    executions: set[ExecutionId] = field(default_factory=set)

    def touch(self, conn: sqlite3.Connection, execution_id: ExecutionId | None) -> None:
        """Note that an own execution may have come to its end: nothing of it is open any more."""
        if execution_id is not None and not job_executions.has_open_jobs(conn, execution_id):
            self.executions.add(execution_id)
