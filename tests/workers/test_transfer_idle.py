"""A delivery that shows no sign of life ends at transfer_idle; one that works, however slowly, does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rnd.daemon import SystemClock
from rnd.database import transfers
from rnd.database.connection import Database
from rnd.database.transfers import NewTransfer
from rnd.services.data_service import DataService
from rnd.services.vault import load_vault
from rnd.types.config import Config
from rnd.types.enums import TransferDirection
from rnd.types.errors import JobFailed
from rnd.types.executions import FileEntry, Transfer
from rnd.types.ids import SELF_PEER_JOB, ConnectionId, ExecutionUid, JobExecutionId, PeerId, TransferId
from rnd.workers.data_worker import DataWorker
from rnd.workers.deliveries import Delivery, DeliveryDesk
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard
from rnd.workers.underway import Underway
from tests.seams import CountingEntropy

ME = PeerId("rnme")
DELIVERY = TransferId("t1")


class StalledWorker(DataWorker):
    """Its threads stand for a disk that does not answer: they end only when the delivery is called off."""

    def _carry(self, delivery: Delivery, underway: Underway) -> list[FileEntry]:
        underway._called_off.wait(30)  # must_stop would be a sign of life
        return []


class HashingWorker(DataWorker):
    """Its threads read and hash for longer than the bound, and no byte has moved yet."""

    def _carry(self, delivery: Delivery, underway: Underway) -> list[FileEntry]:
        end = SystemClock().monotonic() + 3 * delivery.idle_s
        while SystemClock().monotonic() < end:
            underway.must_stop()
        return []


def supervised(kind: type[DataWorker], data_dir: Path, *, idle_s: float) -> DataWorker:
    """Have a worker of a kind watch one delivery to its end."""

    async def play() -> DataWorker:
        database = Database.open(data_dir / "rnd.db")
        clock, entropy, config = SystemClock(), CountingEntropy(), Config(data_dir=data_dir)
        disk = DiskGuard(data_dir, floor_bytes=0)
        worker = kind(
            database=database,
            clock=clock,
            entropy=entropy,
            config=config,
            folders=JobFolders(data_dir),
            desk=DeliveryDesk(
                config=config,
                folders=JobFolders(data_dir),
                data_service=DataService(
                    database=database, clock=clock, entropy=entropy, config=config, vault=load_vault(data_dir, entropy)
                ),
            ),
            disk=disk,
            board=NewsBoard(),
            peer_id=ME,
        )
        try:
            await database.write(lambda conn: transfers.create_transfer(conn, NEW, now=clock.now()))
            transfer = await database.read(lambda conn: transfers.get_transfer(conn, DELIVERY))
            delivery = _delivery(transfer, data_dir, idle_s=idle_s)
            await worker._supervise(delivery, Underway(started_at=clock.now(), disk=disk))
        finally:
            await database.close()
        return worker

    return asyncio.run(play())


NEW = NewTransfer(
    transfer_id=DELIVERY,
    direction=TransferDirection.LOCAL,
    workflow_execution_id=None,
    ordering_peer_id=ME,
    execution_uid=ExecutionUid("0" * 32),
    connection_id=ConnectionId(1),
    source_peer_id=ME,
    source_job_execution_id=JobExecutionId(1),
    dest_peer_id=ME,
    dest_job_execution_id=SELF_PEER_JOB,
    source_peer_row_id=None,
    dest_peer_row_id=None,
    result_id=None,
    source_path=None,
)


def _delivery(transfer: Transfer, data_dir: Path, *, idle_s: float) -> Delivery:
    return Delivery(
        transfer=transfer,
        source_job=None,
        source_interfaces=(),
        outputs_job=None,
        outputs={},
        service=None,
        data_entries=[],
        data_key=None,
        dest_job=None,
        include=(),
        file_name=None,
        source_path=None,
        source_end=None,
        destination=data_dir,
        idle_s=idle_s,
    )


def test_a_delivery_that_stalls_ends_in_words_and_is_called_off(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=r"no byte has moved for 0\.4 s \(transfer_idle\)"):
        supervised(StalledWorker, tmp_path, idle_s=0.4)


def test_reading_and_hashing_for_long_is_no_stall(tmp_path: Path) -> None:
    supervised(HashingWorker, tmp_path, idle_s=0.8)
