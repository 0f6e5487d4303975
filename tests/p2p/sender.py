"""A sender with one delivery to another peer, on a real database and real files; the receiver is what a test says of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from rnd.database import peers, transfers
from rnd.database.consequences import call_off_transfer
from rnd.database.news import News
from rnd.database.transfers import NewTransfer
from rnd.p2p.identity import load_identity
from rnd.p2p.outgoing import Outgoing
from rnd.p2p.peer_manager import PeerManager
from rnd.p2p.seals import Seals
from rnd.protocol.messages import Message
from rnd.protocol.transfer_messages import (
    ChunkAck,
    DataTransferAccept,
    DataTransferComplete,
    DataTransferReject,
    DataTransferRequest,
)
from rnd.types.definitions import JobPlan
from rnd.types.enums import PeerState, TransferDirection
from rnd.types.errors import PeerUnreachable
from rnd.types.ids import (
    SELF_PEER_JOB,
    ConnectionId,
    ExecutionUid,
    InterfacePeerId,
    JobExecutionId,
    PeerId,
    TransferId,
    WorkflowJobId,
)
from rnd.types.orders import ForeignBounds, JobRequest
from rnd.types.peers import RejectionCode
from rnd.types.times import to_text
from rnd.workers.deliveries import DeliveryDesk
from rnd.workers.disk_guard import DiskGuard
from tests.core.core_peer import ME, Daemon, Machine, edge
from tests.seams import CountingEntropy

ORDERER, RECEIVER = PeerId("rnorderer"), PeerId("rnreceiver")
UID = ExecutionUid("ab" * 16)
TRANSFER = TransferId("00000000-0000-4000-8000-000000000001")
HOLD_S = 50.0

_END_JOBS = "UPDATE job_executions SET status = 'COMPLETED', settled_status = 'COMPLETED', ended_at = :now"

Answer = Callable[["Line", Message], Awaitable[Message]]


async def busy(_line: Line, message: Message) -> Message:
    """Answer that such a delivery is under way."""
    assert isinstance(message, DataTransferRequest)
    return reject(message, RejectionCode.BUSY, "such a transfer is under way")


async def takes_all(line: Line, message: Message) -> Message:
    """Answer as a receiver does that has room for everything."""
    if isinstance(message, DataTransferRequest):
        line.stream_bytes = message.manifest_bytes + message.size_bytes
        return DataTransferAccept(transfer_id=message.transfer_id, offset=0, seal=None)
    assert isinstance(message, DataTransferComplete), message
    return DataTransferComplete(
        transfer_id=message.transfer_id, success=True, bytes_received=line.stream_bytes, error=None
    )


def reject(request: DataTransferRequest, code: RejectionCode, reason: str) -> DataTransferReject:
    """Return the rejection of an offer."""
    return DataTransferReject(transfer_id=request.transfer_id, code=code, reason=reason)


@dataclass(eq=False)
class Line:
    """As much of a link as a delivery needs: it takes bytes at once, and answers as the test says, the last way for ever."""

    answers: deque[Answer] = field(default_factory=lambda: deque([takes_all]))
    asked: list[Message] = field(default_factory=list)
    sent_bytes: int = 0
    stream_bytes: int = 0
    sender: Outgoing | None = None
    frame_bytes: int = 8 << 20
    mark: int = 0
    deliveries: int = 0
    why_closed: str = "the connection ended"

    def has_left(self, _mark: int) -> bool:
        return True

    async def ask(self, message: Message, *, timeout_s: float) -> Message:
        self.asked.append(message)
        is_offer = isinstance(message, DataTransferRequest)
        answer = self.answers.popleft() if is_offer and len(self.answers) > 1 else self.answers[0]
        return await answer(self, message)

    async def send_frame(self, frame: memoryview, give_back: Callable[[], None]) -> None:
        self.sent_bytes += len(frame) - 16
        give_back()
        assert self.sender is not None
        self.sender.shipping.take_ack(cast(Any, self), ChunkAck(transfer_id=TRANSFER, offset=self.sent_bytes))

    def offers(self) -> int:
        """Return how often the delivery was offered."""
        return sum(isinstance(message, DataTransferRequest) for message in self.asked)


class Way:
    """As much of the links as a sender needs: its receiver is there, or it is not."""

    def __init__(self) -> None:
        self.line = Line()
        self.is_there = True
        self.looks = 0

    async def data_link(self, _peer_id: PeerId) -> Line:
        self.looks += 1
        if not self.is_there:
            raise PeerUnreachable("nobody is there")
        return self.line


class CountedDatabase:
    """The daemon's database, which counts how often it is read."""

    def __init__(self, daemon: Daemon) -> None:
        self._database = daemon.database
        self.write = daemon.database.write
        self.reads = 0

    async def read(self, work: Any) -> Any:
        self.reads += 1
        return await self._database.read(work)


@dataclass(kw_only=True)
class Sender:
    """Files of the self-peer that a job of another peer waits for, and what sends them."""

    daemon: Daemon
    database: CountedDatabase
    outgoing: Outgoing
    way: Way
    source: Path
    desk: DeliveryDesk

    async def row(self, columns: str) -> tuple[Any, ...]:
        """Return columns of the delivery."""
        (found,) = await self.daemon.sql(f"SELECT {columns} FROM transfers WHERE direction = 'OUTGOING'")
        return found

    async def becomes(self, status: str) -> None:
        """Wait until the delivery has a state."""
        await self.daemon.eventually("SELECT status FROM transfers WHERE direction = 'OUTGOING'", (status,))

    async def tried(self, times: int) -> None:
        """Wait until so many attempts are written down as made in vain."""
        async with asyncio.timeout(20):
            while (await self.row("attempts"))[0] < times:
                await asyncio.sleep(0.005)

    async def cancel(self) -> None:
        """Have the delivery called off, as its receiver's end does."""
        news = News()
        now = self.daemon.clock.now()
        await self.daemon.database.write(
            lambda conn: call_off_transfer(conn, TRANSFER, "not wanted any more", now=now, news=news)
        )
        self.daemon.board.publish(news)


@contextlib.asynccontextmanager
async def sending(
    daemon: Daemon, source: Path, *, way: Way, slots: int = 8, from_job: bool = False
) -> AsyncIterator[Sender]:
    """Have one delivery waiting, of `source` or of what a job has left that has just ended, and run what makes it."""
    job_id, row, own_row = await _ended_job(daemon)
    transfer = _transfer(source, row)
    if from_job:
        transfer = replace(
            transfer,
            source_job_execution_id=job_id,
            source_path=None,
            source_peer_row_id=own_row,
            dest_peer_row_id=None,
        )
    await daemon.database.write(lambda conn: transfers.create_transfer(conn, transfer, now=daemon.clock.now()))
    config = replace(daemon.config, transfer_slots=slots, queue_interval_s=10.0)
    database = CountedDatabase(daemon)
    desk = DeliveryDesk(config=config, folders=daemon.folders, data_service=daemon.data)
    outgoing = Outgoing(
        database=cast(Any, database),
        clock=daemon.clock,
        config=config,
        desk=desk,
        disk=DiskGuard(daemon.machine.data_dir, floor_bytes=0),
        board=daemon.board,
        links=cast(PeerManager, way),
        seals=Seals(load_identity(daemon.machine.data_dir, CountingEntropy()), CountingEntropy()),
        peer_id=ME,
    )
    way.line.sender = outgoing
    task = asyncio.create_task(outgoing.run())
    try:
        yield Sender(daemon=daemon, database=database, outgoing=outgoing, way=way, source=source, desk=desk)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def play(
    machine: Machine, source: Path, test: Callable[[Sender], Awaitable[None]], *, way: Way | None = None, **more: Any
) -> None:
    """Play one test with one delivery."""

    async def whole(daemon: Daemon) -> None:
        async with sending(daemon, source, way=way or Way(), **more) as sender:
            await test(sender)

    machine.play(whole, is_idle=True)


def _transfer(source: Path, row: InterfacePeerId) -> NewTransfer:
    return NewTransfer(
        transfer_id=TRANSFER,
        direction=TransferDirection.OUTGOING,
        workflow_execution_id=None,
        ordering_peer_id=ORDERER,
        execution_uid=UID,
        connection_id=ConnectionId(1),
        source_peer_id=ME,
        source_job_execution_id=SELF_PEER_JOB,
        dest_peer_id=RECEIVER,
        dest_job_execution_id=JobExecutionId(900),
        source_peer_row_id=None,
        dest_peer_row_id=row,
        result_id=None,
        source_path=str(source),
    )


async def _ended_job(daemon: Daemon) -> tuple[JobExecutionId, InterfacePeerId, InterfacePeerId]:
    """Return a job that another peer ordered and that has just ended, and its rows of what it gets and what it gives."""
    now = daemon.clock.now()
    await daemon.database.write(
        lambda conn: peers.add_peer(conn, ORDERER, self_peer_id=ME, state=PeerState.ALLOWED, now=now)
    )
    drawn = await daemon.draw([await daemon.program("a"), await daemon.program("b")], [edge(0, 1), edge(1, None)])
    report = await daemon.workflow_manager.validate(drawn.workflow_id)
    assert report.definition is not None
    plan: JobPlan = report.definition.jobs[1]
    request = JobRequest(
        orchestrator_peer_id=ORDERER,
        execution_uid=UID,
        workflow_execution_id=None,
        workflow_job_id=WorkflowJobId(5),
        plan=plan,
        start_by_s=60.0,
        max_runtime_s=60.0,
        bounds=ForeignBounds(deadline_s=100.0, transfer_idle_s=5.0, hold_s=HOLD_S),
    )
    (answer,) = await daemon.job_manager.create_jobs([request])
    assert answer.job_execution_id is not None, answer.reasons
    (row,), (own_row,) = await daemon.sql("SELECT id FROM job_interface_peers ORDER BY peer_mount_function DESC")
    await daemon.database.write(lambda conn: conn.execute(_END_JOBS, {"now": to_text(now)}).rowcount)
    return answer.job_execution_id, InterfacePeerId(row), InterfacePeerId(own_row)
