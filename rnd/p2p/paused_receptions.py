"""What has come of deliveries whose link was lost, until their senders come again (document: Transfer Acceptance)."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from rnd.database import job_executions, job_interfaces, results, transfers
from rnd.database.connection import Database
from rnd.p2p.copying_places import CopyingPlaces
from rnd.p2p.reception import DutyKey, ReceivingThreads, Receptions, key_of
from rnd.protocol.instructions import Kept, Offer
from rnd.types.errors import DatabaseNotNow, NotFound, RndError
from rnd.types.executions import Transfer
from rnd.types.ids import PeerId, TransferId
from rnd.workers.job_folders import JobFolders
from rnd.workers.receiving import NOTED_FROM_BYTES, Receiving

PAUSED_MAX: Final = 64
PAUSED_ENTRIES_MAX: Final = 200_000
"""How many deliveries whose link was lost keep an open file and their names in memory, and how many names those are in all;
others are read from their notes."""

PLACE_WITHIN_S: Final = 15.0
"""How long an offer waits for a place to look through what has come of it: its sender waits for the answer."""


class PlacesTaken(RndError):
    """Others look through what has come of their deliveries, or as many of the same sender as may at a time."""


class _Paused(NamedTuple):
    """A delivery whose link was lost: what has come of it waits for its sender."""

    receiving: Receiving
    kept: Kept


class PausedReceptions:
    """Keeps what has come, a bounded part of it open in memory and the rest as it was noted on disk."""

    def __init__(
        self,
        *,
        database: Database,
        folders: JobFolders,
        receptions: Receptions,
        threads: ReceivingThreads,
        places: CopyingPlaces,
        max_folders: int,
    ) -> None:
        """`max_folders` bounds the folders of a manifest that is read from its notes."""
        self._database = database
        self._folders = folders
        self._receptions = receptions
        self._threads = threads
        self._places = places
        self._max_folders = max_folders
        self._paused: dict[DutyKey, _Paused] = {}

    async def put(self, key: DutyKey, receiving: Receiving, kept: Kept | None) -> None:
        """Have what has come of a delivery wait for its sender; of what is too much, only what is noted."""
        if kept is None:
            return
        self._paused[key] = _Paused(receiving, kept)
        while len(self._paused) > 1 and (
            len(self._paused) > PAUSED_MAX
            or sum(len(each.kept.entries) for each in self._paused.values()) > PAUSED_ENTRIES_MAX
        ):
            longest = next(iter(self._paused))
            evicted = self._paused.pop(longest)
            with self._receptions.holding(longest):
                await self._threads.do(evicted.receiving.let_go)

    async def take_up(self, offer: Offer, destination: Path, *, sender: PeerId) -> tuple[Receiving, Kept | None]:
        """Return what has come of an offer already: over a link that was lost, or, as its notes say, before a restart.

        Where somebody has touched the files since the link was lost, their notes are all that is believed. Raises `PlacesTaken` where
        it takes too long until they can be looked at, and `ToldToStop`.
        """
        paused = self._paused.pop(key_of(offer), None)
        if paused is not None:
            if await self._threads.do(partial(paused.receiving.is_as_left, paused.kept)):
                return paused.receiving, paused.kept
            await self._threads.do(paused.receiving.let_go)
        receiving = Receiving(destination, is_stopping=self._threads.is_stopping)
        if offer.size_bytes < NOTED_FROM_BYTES:
            return receiving, None
        if not await self._threads.do(receiving.may_have_come):
            await self._threads.do(receiving.clear_away)
            return receiving, None
        async with self._places.place(sender, within_s=PLACE_WITHIN_S) as has_place:
            if not has_place:
                raise PlacesTaken("others look through what has come of their deliveries; offer it again")
            take_up = partial(receiving.take_up, offer, max_folders=self._max_folders)
            return receiving, await self._threads.do_long(take_up)

    async def discard(self, key: DutyKey) -> None:
        """Delete what waits for a sender that is not wanted any more."""
        paused = self._paused.pop(key, None)
        if paused is not None:
            await self._threads.do(paused.receiving.discard)

    async def clear_away(self, transfer_id: TransferId) -> None:
        """Delete what has come of a delivery that has ended and is not under way, by this daemon or an earlier one."""

        def work(conn: sqlite3.Connection) -> tuple[DutyKey, Path]:
            transfer = transfers.get_transfer(conn, transfer_id)
            key = transfer.ordering_peer_id, transfer.execution_uid, transfer.connection_id
            return key, self._destination(conn, transfer)

        try:
            key, destination = await self._database.read(work)
        except (NotFound, DatabaseNotNow):
            return  # it goes with the folder of its job
        if self._receptions.is_in_hand(key):
            return  # whoever has it in hand learns that nobody waits for it
        paused = self._paused.pop(key, None)
        receiving = Receiving(destination) if paused is None else paused.receiving
        await self._threads.do(receiving.clear_away)

    def _destination(self, conn: sqlite3.Connection, transfer: Transfer) -> Path:
        if transfer.result_id is not None:
            return self._folders.data_dir / results.get_result_by_id(conn, transfer.result_id).directory
        if transfer.dest_peer_row_id is None:
            raise NotFound(f"Transfer {transfer.transfer_id} has no receiving end")
        job = job_executions.get_job(conn, transfer.dest_job_execution_id)
        return self._folders.input(job, job_interfaces.get_peer(conn, transfer.dest_peer_row_id))
