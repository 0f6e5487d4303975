"""What becomes of a delivery's row while it is made, whoever carries its bytes: progress, success, failure."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from rnd.database import transfers
from rnd.database.connection import Database
from rnd.database.consequences import complete_transfer, fail_transfer
from rnd.types.errors import DatabaseNotNow, StaleState
from rnd.types.executions import FileEntry, Transfer
from rnd.types.ids import TransferId
from rnd.types.seams import Clock
from rnd.workers.insistence import insist
from rnd.workers.news_board import NewsBoard
from rnd.workers.underway import Underway


class DeliveryRows:
    """Writes down how deliveries go, and publishes what follows from it."""

    def __init__(self, *, database: Database, clock: Clock, board: NewsBoard) -> None:
        self._database = database
        self._clock = clock
        self._board = board

    async def tell_progress(self, transfer_id: TransferId, underway: Underway) -> None:
        """Say in the row how far a delivery is; the first time makes it ACTIVE. What cannot be written now is left out."""
        now = self._clock.now()
        bytes_done, rate_bytes_s = min(underway.bytes_done, underway.size_bytes), 0.0
        if underway.pace is not None:
            rate_bytes_s = underway.pace.note(bytes_done, self._clock.monotonic())

        def work(conn: sqlite3.Connection) -> None:
            if not underway.active:
                transfers.mark_active(conn, transfer_id, now=underway.started_at)
            transfers.set_progress(
                conn,
                transfer_id,
                file_count=underway.file_count,
                size_bytes=underway.size_bytes,
                bytes_done=bytes_done,
                rate_bytes_s=rate_bytes_s,
                held_up=underway.held_up,
                now=now,
            )

        try:
            await self._database.write(work)
        except (DatabaseNotNow, StaleState):
            return  # progress is a courtesy; its end will be written down
        underway.active = True

    async def complete(
        self,
        transfer_id: TransferId,
        underway: Underway,
        files: Sequence[FileEntry],
        *,
        log_done: Callable[[Transfer], None],
    ) -> None:
        """Commit that a delivery is whole and durable at its receiver, log it, and publish. Raises `StaleState`."""
        now = self._clock.now()
        pace = underway.pace
        rate_bytes_s = None if pace is None else pace.mean(underway.size_bytes, self._clock.monotonic())
        done, news = await insist(
            self._database,
            lambda conn, news: complete_transfer(
                conn,
                transfer_id,
                files,
                started_at=underway.started_at,
                rate_bytes_s=rate_bytes_s,
                now=now,
                news=news,
            ),
        )
        log_done(done)
        self._board.publish(news)

    async def fail(self, transfer_id: TransferId, error: str) -> None:
        """Commit that a delivery has failed, and what follows; nothing happens if it has ended meanwhile."""
        now = self._clock.now()
        try:
            _, news = await insist(
                self._database, lambda conn, news: fail_transfer(conn, transfer_id, error, now=now, news=news)
            )
        except StaleState:
            return
        self._board.publish(news)
