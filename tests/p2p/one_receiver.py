"""One started job that waits for an input of another peer, what takes that, and as much of a link as it needs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from rnd.database import peers
from rnd.p2p.identity import load_identity
from rnd.p2p.incoming import Incoming
from rnd.p2p.link import Link
from rnd.p2p.seals import Seals
from rnd.protocol.frames import HEADER_BYTES, write_header
from rnd.protocol.manifest import write_manifest
from rnd.protocol.messages import Message
from rnd.protocol.transfer_messages import (
    DataTransferAccept,
    DataTransferComplete,
    DataTransferReject,
    DataTransferRequest,
)
from rnd.types.enums import MountFunction, PeerState
from rnd.types.executions import FileEntry
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, PeerId, TransferId, WorkflowJobId
from rnd.types.orders import ForeignBounds, JobRequest, JobStart, Route
from rnd.types.peers import RejectionCode
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.files import free_bytes
from tests.core.core_peer import ME, Daemon, Machine, edge
from tests.live_files import found_below
from tests.seams import CountingEntropy

ORDERER, SENDER = PeerId("rnorderer"), PeerId("rnsender")
UID = ExecutionUid("ab" * 16)
SOURCE_JOB = JobExecutionId(900)
MANIFEST = write_manifest([FileEntry(relative_path="a.txt", size_bytes=1, sha256="ab" * 32)])
FRAME_BYTES = 1 << 20

Moment = Callable[[], Awaitable[None]]


@dataclass(eq=False)
class Line:
    """As much of a link as a delivery needs."""

    peer_id: PeerId = SENDER
    told: list[Message] = field(default_factory=list)
    is_open: bool = True
    why_closed: str = "the connection ended"
    unwanted_bytes: int = 0

    def tell(self, message: Message) -> None:
        self.told.append(message)


class Interrupted:
    """The daemon's database; just before the next write, something else happens."""

    def __init__(self, daemon: Daemon) -> None:
        self._database = daemon.database
        self.read = daemon.database.read
        self.before_write: Moment | None = None

    async def write(self, work: Any) -> Any:
        if self.before_write is not None:
            before, self.before_write = self.before_write, None
            await before()
        return await self._database.write(work)


class Parcel:
    """What a sender offers and sends: the files `0.bin`, `1.bin` and so on."""

    def __init__(self, *contents: bytes) -> None:
        manifest = write_manifest(
            FileEntry(
                relative_path=f"{number}.bin", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
            )
            for number, content in enumerate(contents)
        )
        self.contents = contents
        self.stream = manifest.data + b"".join(contents)
        self.fields: Mapping[str, Any] = {
            "file_count": len(contents),
            "entry_count": len(contents),
            "size_bytes": sum(map(len, contents)),
            "manifest_bytes": len(manifest.data),
            "manifest_sha256": manifest.sha256,
        }


@dataclass(kw_only=True)
class Receiver:
    """A started job that waits for one input of another peer, and what takes that."""

    daemon: Daemon
    database: Interrupted
    incoming: Incoming
    job_id: JobExecutionId
    connection: ConnectionId
    line: Line = field(default_factory=Line)

    async def offer(self, number: int = 1, **more: Any) -> Message:
        fields: Mapping[str, Any] = {
            "transfer_id": transfer_id(number),
            "stream": number,
            "ordering_peer_id": ORDERER,
            "execution_uid": UID,
            "connection_id": self.connection,
            "source_job_execution_id": SOURCE_JOB,
            "dest_job_execution_id": self.job_id,
            "source_path": "",
            "dest_path": "",
            "file_count": 1,
            "entry_count": 1,
            "size_bytes": 1,
            "manifest_bytes": len(MANIFEST.data),
            "manifest_sha256": MANIFEST.sha256,
            "encrypted": False,
        }
        request = DataTransferRequest(**{**fields, **more})
        return await self.incoming.answer_request(cast(Link, self.line), request)

    async def offer_again(self, number: int, **more: Any) -> DataTransferAccept:
        """Offer until the attempt before has given its place back, and expect to be accepted."""
        async with asyncio.timeout(10):
            while code_of(answer := await self.offer(number, **more)) is RejectionCode.BUSY:
                await asyncio.sleep(0.01)
        assert isinstance(answer, DataTransferAccept), answer
        return answer

    def send(self, parcel: Parcel, number: int = 1, *, begin: int = 0, end: int | None = None) -> None:
        """Have frames of a parcel's stream come over the link, from one offset up to another or to its end."""
        end = len(parcel.stream) if end is None else end
        for offset in range(begin, end, FRAME_BYTES):
            frame = bytearray(HEADER_BYTES) + parcel.stream[offset : min(end, offset + FRAME_BYTES)]
            write_header(frame, stream=number, offset=offset)
            self.incoming.take_frame(cast(Link, self.line), bytes(frame))

    def announce(self, number: int = 1, *, success: bool = True) -> asyncio.Task[Message]:
        """Have the sender say that this was all, or that it is called off; return what will be answered."""
        message = DataTransferComplete(
            transfer_id=transfer_id(number), success=success, bytes_received=0, error=None if success else "enough"
        )
        return asyncio.create_task(self.incoming.answer_complete(cast(Link, self.line), message))

    def lose_link(self) -> None:
        """Have the link end, and another one come."""
        lost, self.line = self.line, Line()
        lost.is_open = False
        self.incoming.link_lost(cast(Link, lost))

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(10):
            while not await holds():
                await asyncio.sleep(0.01)

    async def until_transfer_is(self, status: str) -> None:
        """Wait until the one row of a delivery has a status."""

        async def holds() -> bool:
            return await self.transfers() == [(status,)]

        await self.until(holds)

    async def until_written(self, parcel: Parcel, end: int) -> None:
        """Wait until the files of a parcel up to an offset of its stream are in the folder that is being filled."""
        content_bytes = end - (len(parcel.stream) - sum(map(len, parcel.contents)))

        async def holds() -> bool:
            files = found_below(self.daemon.folders.data_dir, ".*.part/*.bin")
            return sum(path.stat().st_size for path in files) == content_bytes

        await self.until(holds)

    @property
    def parts(self) -> list[str]:
        """The names of all that is there of deliveries that have not arrived."""
        return sorted(path.name for path in found_below(self.daemon.folders.data_dir, "*.part*"))

    async def cancel(self) -> None:
        await self.daemon.job_manager.cancel_jobs([self.job_id], reason="enough")

    async def transfers(self) -> list[tuple[Any, ...]]:
        return await self.daemon.sql("SELECT status FROM transfers WHERE direction = 'INCOMING'")


def transfer_id(number: int) -> TransferId:
    return TransferId(f"00000000-0000-4000-8000-{number:012x}")


@contextlib.asynccontextmanager
async def receiving(
    daemon: Daemon, *, runs: bool = True, measure: Callable[[Path], int] = free_bytes
) -> AsyncIterator[Receiver]:
    now = daemon.clock.now()
    await daemon.database.write(
        lambda conn: peers.add_peer(conn, ORDERER, self_peer_id=ME, state=PeerState.ALLOWED, now=now)
    )
    drawn = await daemon.draw([await daemon.program("a"), await daemon.program("b")], [edge(0, 1)])
    report = await daemon.workflow_manager.validate(drawn.workflow_id)
    assert report.definition is not None
    plan = report.definition.jobs[1]
    interfaces = tuple(
        replace(
            interface,
            interface_peers=tuple(
                replace(peer, peer_id=SENDER) if peer.peer_mount_function is MountFunction.OUTPUT else peer
                for peer in interface.interface_peers
            ),
        )
        for interface in plan.interfaces
    )
    request = JobRequest(
        orchestrator_peer_id=ORDERER,
        execution_uid=UID,
        workflow_execution_id=None,
        workflow_job_id=WorkflowJobId(5),
        plan=replace(plan, interfaces=interfaces),
        start_by_s=60.0,
        max_runtime_s=60.0,
        bounds=ForeignBounds(deadline_s=100.0, transfer_idle_s=50.0, hold_s=50.0),
    )
    (answer,) = await daemon.job_manager.create_jobs([request])
    assert answer.job_execution_id is not None, answer.reasons
    (connection,) = drawn.connections
    route = Route(connection_id=connection, peer_workflow_job_id=WorkflowJobId(4), peer_job_execution_id=SOURCE_JOB)
    await daemon.job_manager.start_jobs([JobStart(job_execution_id=answer.job_execution_id, routes=(route,))])
    database = Interrupted(daemon)
    incoming = Incoming(
        database=cast(Any, database),
        clock=daemon.clock,
        config=daemon.config,
        folders=daemon.folders,
        disk=DiskGuard(daemon.machine.data_dir, floor_bytes=1, measure=measure),
        board=daemon.board,
        seals=Seals(load_identity(daemon.machine.data_dir, CountingEntropy()), CountingEntropy()),
        peer_id=ME,
    )
    task = asyncio.create_task(incoming.run()) if runs else None
    await asyncio.sleep(0.05)
    try:
        yield Receiver(
            daemon=daemon,
            database=database,
            incoming=incoming,
            job_id=answer.job_execution_id,
            connection=connection,
        )
    finally:
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def play(
    machine: Machine,
    test: Callable[[Receiver], Awaitable[None]],
    *,
    runs: bool = True,
    measure: Callable[[Path], int] = free_bytes,
) -> None:
    """Play a test against a receiver; `measure` says how much room its disk has."""

    async def whole(daemon: Daemon) -> None:
        async with receiving(daemon, runs=runs, measure=measure) as receiver:
            await test(receiver)

    machine.play(whole, is_idle=True)


def code_of(answer: Message) -> RejectionCode | None:
    return answer.code if isinstance(answer, DataTransferReject) else None
