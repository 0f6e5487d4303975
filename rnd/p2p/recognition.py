"""What has come from other peers before and is not sent again (design section 6; docs/wire.md, section 5).

Only what the same sender has sent for the same orderer is ever compared with what is offered, so that neither learns what
others hold here.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from rnd.database import arrived_folders
from rnd.database.connection import Database
from rnd.p2p.reception import ReceivingThreads
from rnd.protocol.instructions import Offer
from rnd.types.errors import DatabaseNotNow, ToldToStop
from rnd.types.executions import FileEntry
from rnd.types.ids import PeerId
from rnd.types.seams import Clock
from rnd.workers.earlier_files import RECOGNISED_FROM_BYTES, EarlierFile, EarlierFolder, look_through
from rnd.workers.job_folders import JobFolders
from rnd.workers.part_notes import PartNotes


class Recognition:
    """Remembers what has arrived, and finds it again."""

    def __init__(self, *, database: Database, clock: Clock, folders: JobFolders, threads: ReceivingThreads) -> None:
        self._database = database
        self._clock = clock
        self._folders = folders
        self._threads = threads

    async def may_know(self, sender: PeerId, offer: Offer) -> bool:
        """Say whether it is worth looking which files of an offer are here."""
        if offer.size_bytes < RECOGNISED_FROM_BYTES:
            return False
        orderer = offer.ends.ordering_peer_id
        return await self._database.read(partial(arrived_folders.knows_any, sender=sender, orderer=orderer))

    async def find(self, entries: Sequence[FileEntry], *, sender: PeerId, orderer: PeerId) -> dict[int, EarlierFile]:
        """Return where files of the same content have arrived before, by their indices in `entries`."""
        known = await self._database.read(partial(arrived_folders.list_folders, sender=sender, orderer=orderer))
        ids = {self._folders.data_dir / each.folder: each.id for each in known}
        earlier = [EarlierFolder(self._folders.data_dir / each.folder, each.entry_count) for each in known]
        found = await self._threads.do(partial(look_through, earlier, entries))
        if found.gone:
            with contextlib.suppress(DatabaseNotNow):
                await self._database.write(partial(arrived_folders.forget, ids=[ids[path] for path in found.gone]))
        return found.files

    def remember(
        self, conn: sqlite3.Connection, folder: Path, files: Sequence[FileEntry], *, sender: PeerId, orderer: PeerId
    ) -> None:
        """Write down that a delivery has arrived in a folder, in the transaction that says so of the delivery."""
        if sum(file.size_bytes for file in files) >= RECOGNISED_FROM_BYTES:
            arrived_folders.remember(
                conn,
                os.fspath(folder.relative_to(self._folders.data_dir)),
                sender=sender,
                orderer=orderer,
                entry_count=len(files),
                now=self._clock.now(),
            )

    async def tidy_up(self) -> None:
        """Put in order what is noted beside folders of which an earlier daemon has committed that they arrived, and no more.

        What is long enough to be noted is long enough to be recognised, so each of them is among these.
        """
        with contextlib.suppress(DatabaseNotNow, ToldToStop):  # at the next start, then: nobody reads these notes
            arrived = await self._database.read(arrived_folders.list_all)
            folders = [self._folders.data_dir / folder for folder in arrived]
            await self._threads.do_long(partial(_tidy_up, folders, self._threads.is_stopping))


def _tidy_up(folders: Iterable[Path], is_stopping: Callable[[], bool]) -> None:
    for folder in folders:
        if is_stopping():
            return
        PartNotes(folder).tidy_up()
