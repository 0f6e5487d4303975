"""Lets go of what nobody needs any more: of the intermediate data of executions some time after their end
(`keep_intermediate_s`), of the oldest executions beyond `limits.executions_kept`, rows first, then folders, and of other
peers' orders when their hold is over.

A sweep does a bounded amount, so that nobody waits long for the writer; the next tick goes on. What a kept execution
reuses stays, however old it is; its data, until that execution's own is let go of.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from rnd.database import (
    address_records,
    cancelled_orders,
    introductions,
    job_executions,
    outbox,
    peer_invites,
    results,
    retention,
    workflow_jobs,
)
from rnd.database.connection import Database
from rnd.database.retention import DoomedFolder
from rnd.log import get_logger
from rnd.types.config import Config
from rnd.types.ids import ExecutionId, JobExecutionId, PeerId, WorkflowJobId
from rnd.types.log_events import LogEvent
from rnd.types.seams import Clock
from rnd.workers.files import clear_tree
from rnd.workers.job_folders import JobFolders
from rnd.workers.part_notes import parts_of

EXECUTIONS_A_SWEEP: Final = 100
FOLDERS_A_SWEEP: Final = 1_000
PAGES_A_SWEEP: Final = 500
SPARE_BYTES: Final = 64 << 20
"""So much of the database's file is left for rows to come rather than given back to the disk."""
_INTERMEDIATE: Final = ("input", "output", "mounts")
_STREAMS: Final = ("logs/stdout.txt", "logs/stderr.txt", "logs/logs.txt")
STREAM_KEPT_BYTES: Final = 1 << 20
"""The logs of a job are kept, unless a stream that was carried as its output is this long."""
REST_S: Final = 60.0
"""How long an execution is left alone after its end: whoever waited for it may still be reading."""

EXPIRED_EVERY: Final = timedelta(minutes=1)
TOMBSTONES_KEPT: Final = timedelta(days=8)
"""Longer than any workflow may take: then no late request can be one of these."""
STRANGERS_KEPT: Final = timedelta(days=1)

log = get_logger()


class Retention:
    """Keeps the number of executions, and the disk they take, within the limit."""

    def __init__(
        self, *, database: Database, clock: Clock, config: Config, folders: JobFolders, peer_id: PeerId
    ) -> None:
        self._database = database
        self._clock = clock
        self._keep = config.limits.executions_kept
        self._keep_data = timedelta(seconds=config.keep_intermediate_s)
        self._folders = folders
        self._peer_id = peer_id
        self._is_sweeping = False
        self._expired_at = clock.now() - EXPIRED_EVERY

    async def sweep(self) -> None:
        """Forget what is beyond the limit, a bounded number; does nothing while an earlier sweep goes on."""
        if self._is_sweeping:
            return
        self._is_sweeping = True
        try:
            await self._clear_executions()
            await self._forget_executions()
            await self._forget_orders()
            await self._forget_what_expired()
            await self._delete_folders()
            await self._release_pages()
        finally:
            self._is_sweeping = False

    async def _clear_executions(self) -> None:
        """Delete what jobs of executions that ended long ago received and left here."""
        now = self._clock.now()
        ended_before = now - self._keep_data
        found = await self._database.read(
            lambda conn: retention.list_uncleared_executions(conn, ended_before=ended_before, limit=EXECUTIONS_A_SWEEP)
        )
        count = 0
        for execution_id in found:
            count += await self._database.write(partial(self._clear, execution_id, ended_before, now))
        if count:
            log.debug(LogEvent.CLEANED_UP, what="intermediate data of executions", count=count)

    def _clear(
        self, execution_id: ExecutionId, ended_before: datetime, now: datetime, conn: sqlite3.Connection
    ) -> bool:
        large = set(retention.list_large_streams(conn, execution_id, from_bytes=STREAM_KEPT_BYTES))
        paths = [
            folder / name
            for job in job_executions.list_jobs_of_execution(conn, execution_id)
            if job.remote_job_execution_id is None
            for folder in [self._folders.job(job)]
            for name in (*_INTERMEDIATE, *(_STREAMS if job.id in large else ()))
        ]
        for result in results.list_result_rows(conn, execution_id):
            if not result.duty_acknowledged:  # what has come of it, should it have been given up half-way
                paths += parts_of(self._folders.data_dir / result.directory)
        names = [str(path.relative_to(self._folders.data_dir)) for path in paths]
        return retention.clear_execution(conn, execution_id, ended_before=ended_before, paths=names, now=now)

    async def _forget_executions(self) -> None:
        now = self._clock.now()
        ended_before = now - timedelta(seconds=REST_S)
        unneeded = await self._database.read(
            lambda conn: retention.list_unneeded_executions(
                conn, keep=self._keep, ended_before=ended_before, limit=EXECUTIONS_A_SWEEP
            )
        )
        count = 0
        for execution_id in unneeded:
            count += await self._forget(execution_id, ended_before, now)
        if count:
            log.debug(LogEvent.CLEANED_UP, what="executions", count=count)

    async def _forget(self, execution_id: ExecutionId, ended_before: datetime, now: datetime) -> bool:
        def work(conn: sqlite3.Connection) -> bool:
            jobs = workflow_jobs.list_workflow_jobs(conn, execution_id)
            folders = [
                str(self._folders.workflow_job(self._peer_id, job.id).relative_to(self._folders.data_dir))
                for job in jobs
            ]
            return retention.forget_execution(conn, execution_id, ended_before=ended_before, folders=folders, now=now)

        return await self._database.write(work)

    async def _forget_orders(self) -> None:
        """Forget what other peers ordered once its hold is over."""
        now = self._clock.now()

        def work(conn: sqlite3.Connection, job_id: JobExecutionId) -> None:
            job = job_executions.get_job(conn, job_id)
            folder = self._folders.workflow_job(job.ordering_peer_id, WorkflowJobId(job.order_workflow_job_id))
            retention.forget_order(conn, job_id, folder=str(folder.relative_to(self._folders.data_dir)), now=now)

        unneeded = await self._database.read(
            lambda conn: retention.list_unneeded_orders(conn, now=now, limit=EXECUTIONS_A_SWEEP)
        )
        for job_id in unneeded:
            await self._database.write(partial(work, job_id=job_id))
        if unneeded:
            log.debug(LogEvent.CLEANED_UP, what="orders", count=len(unneeded))

    async def _forget_what_expired(self) -> None:
        """Drop what has a time of its own: introductions, invites, tombstones, letters, addresses of strangers."""
        now = self._clock.now()

        def work(conn: sqlite3.Connection) -> int:
            return (
                introductions.drop_expired(conn, now=now)
                + peer_invites.drop_expired(conn, now=now)
                + outbox.drop_expired(conn, now=now)
                + cancelled_orders.drop_older(conn, cancelled_before=now - TOMBSTONES_KEPT)
                + address_records.drop_strangers(conn, received_before=now - STRANGERS_KEPT)
            )

        if now - self._expired_at > EXPIRED_EVERY:
            self._expired_at = now
            count = await self._database.write(work)
            if count:
                log.debug(LogEvent.CLEANED_UP, what="expired rows of peers", count=count)

    async def _release_pages(self) -> None:
        """Let the database's file become smaller after many rows have gone, a little at each sweep."""
        count = await self._database.write(
            lambda conn: retention.release_pages(conn, spare_bytes=SPARE_BYTES, at_most=PAGES_A_SWEEP)
        )
        if count:
            log.debug(LogEvent.CLEANED_UP, what="pages of the database", count=count)

    async def _delete_folders(self) -> None:
        doomed = await self._database.read(lambda conn: retention.list_doomed_folders(conn, limit=FOLDERS_A_SWEEP))
        if not doomed:
            return
        outcomes = await asyncio.to_thread(_delete, self._folders.data_dir, doomed)
        await self._database.write(lambda conn: retention.settle_doomed_folders(conn, outcomes))
        gone = sum(1 for _, error in outcomes if error is None)
        log.debug(LogEvent.CLEANED_UP, what="folders", count=gone)


def _delete(data_dir: Path, doomed: Sequence[DoomedFolder]) -> list[tuple[str, str | None]]:
    """Delete folders; return each with `None`, or with why it is still there."""
    outcomes: list[tuple[str, str | None]] = []
    for folder in doomed:
        try:
            clear_tree(data_dir / folder.path)
        except OSError as error:
            outcomes.append((folder.path, error.strerror or str(error)))
        else:
            outcomes.append((folder.path, None))
    return outcomes
