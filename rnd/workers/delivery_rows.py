"""What becomes of a delivery's row while it is made, whoever carries its bytes: progress, success, failure."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime

from rnd.database import transfers
from rnd.database.connection import Database
from rnd.database.consequences import complete_transfer, fail_transfer
from rnd.database.holdings import tightest_bound
from rnd.types.config import Limits
from rnd.types.errors import DatabaseNotNow, StaleState, TransferFailed
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
        monotonic_s = self._clock.monotonic()
        try:
            await self._database.write(
                lambda conn: _note(conn, transfer_id, underway, now=now, monotonic_s=monotonic_s)
            )
        except (DatabaseNotNow, StaleState):
            return  # progress is a courtesy; its end will be written down
        underway.active = True

    async def take_room(self, transfer: Transfer, underway: Underway, limits: Limits) -> str | None:
        """Have a delivery within this peer counted whose size is known now; return why it is too large, or `None`.

        Deliveries that begin at once are counted one after the other. Raises `StaleState` where it has ended meanwhile.
        """
        now = self._clock.now()
        monotonic_s = self._clock.monotonic()

        def work(conn: sqlite3.Connection) -> None:
            _note(conn, transfer.transfer_id, underway, now=now, monotonic_s=monotonic_s)
            bound = tightest_bound(
                conn,
                transfer.ordering_peer_id,
                transfer.execution_uid,
                self_peer_id=transfer.dest_peer_id,
                limits=limits,
            )
            if bound.room_bytes < 0:
                raise TransferFailed(f"{underway.size_bytes:,} bytes are too many: with them {bound.words}")

        try:
            await insist(self._database, lambda conn, _: work(conn))
        except TransferFailed as refusal:
            return str(refusal)
        underway.active = True
        return None

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
                sealed=underway.sealed,
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


def _note(
    conn: sqlite3.Connection, transfer_id: TransferId, underway: Underway, *, now: datetime, monotonic_s: float
) -> None:
    """Say in the row how far a delivery is; the first time makes it ACTIVE."""
    bytes_done, rate_bytes_s = min(underway.bytes_done, underway.size_bytes), 0.0
    if underway.pace is not None:
        rate_bytes_s = underway.pace.note(bytes_done, monotonic_s)
    if not underway.active:
        transfers.mark_active(conn, transfer_id, now=underway.started_at)
    transfers.set_progress(
        conn,
        transfer_id,
        file_count=underway.file_count,
        size_bytes=underway.size_bytes,
        bytes_done=bytes_done,
        rate_bytes_s=rate_bytes_s,
        sealed=underway.sealed,
        held_up=underway.held_up,
        now=now,
    )
