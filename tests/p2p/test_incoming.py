"""Deliveries that come in: what is taken on, and what happens to their receiver between two looks at the rows."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from rnd.database import arrived_folders, peers
from rnd.p2p import intake
from rnd.p2p.identity import load_identity
from rnd.p2p.incoming import Incoming
from rnd.p2p.link import Link
from rnd.p2p.reception import COPYING_MAX
from rnd.p2p.seals import Seals
from rnd.protocol.frames import HEADER_BYTES, write_header
from rnd.protocol.manifest import write_manifest
from rnd.protocol.messages import Message
from rnd.protocol.transfer_messages import (
    DataTransferAccept,
    DataTransferPresent,
    DataTransferReject,
    DataTransferRequest,
)
from rnd.types.enums import MountFunction, PeerState
from rnd.types.executions import FileEntry
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, PeerId, TransferId, WorkflowJobId
from rnd.types.orders import ForeignBounds, JobRequest, JobStart, Route
from rnd.types.peers import RejectionCode
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.part_notes import manifest_beside
from tests.core.core_peer import ME, Daemon, Machine, edge
from tests.seams import CountingEntropy

ORDERER, SENDER = PeerId("rnorderer"), PeerId("rnsender")
UID = ExecutionUid("ab" * 16)
SOURCE_JOB = JobExecutionId(900)
MANIFEST = write_manifest([FileEntry(relative_path="a.txt", size_bytes=1, sha256="ab" * 32)])

Moment = Callable[[], Awaitable[None]]


@dataclass(eq=False)
class Line:
    """As much of a link as a delivery needs."""

    peer_id: PeerId = SENDER
    told: list[Message] = field(default_factory=list)

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
            "transfer_id": TransferId(f"00000000-0000-4000-8000-{number:012x}"),
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

    async def cancel(self) -> None:
        await self.daemon.job_manager.cancel_jobs([self.job_id], reason="enough")

    async def transfers(self) -> list[tuple[Any, ...]]:
        return await self.daemon.sql("SELECT status FROM transfers WHERE direction = 'INCOMING'")


@contextlib.asynccontextmanager
async def receiving(daemon: Daemon, *, runs: bool = True) -> AsyncIterator[Receiver]:
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
        bounds=ForeignBounds(deadline_s=100.0, transfer_idle_s=5.0, hold_s=50.0),
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
        disk=DiskGuard(daemon.machine.data_dir, floor_bytes=0),
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


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "data")


def play(machine: Machine, test: Callable[[Receiver], Awaitable[None]], *, runs: bool = True) -> None:
    async def whole(daemon: Daemon) -> None:
        async with receiving(daemon, runs=runs) as receiver:
            await test(receiver)

    machine.play(whole, is_idle=True)


def code_of(answer: Message) -> RejectionCode | None:
    return answer.code if isinstance(answer, DataTransferReject) else None


def test_what_a_started_job_waits_for_is_taken_on(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        assert isinstance(await receiver.offer(), DataTransferAccept)
        assert await receiver.transfers() == [("ACTIVE",)]

    play(machine, test)


def test_a_receiver_that_ends_while_its_delivery_is_taken_on_leaves_no_row_and_no_place(machine: Machine) -> None:
    """It was open when it was looked up and is not when the row is written: nobody would ever end that row."""

    async def test(receiver: Receiver) -> None:
        receiver.database.before_write = receiver.cancel
        assert code_of(await receiver.offer()) is RejectionCode.NO_DUTY
        assert await receiver.daemon.sql("SELECT status FROM job_executions") == [("CANCELLED",)]
        assert await receiver.transfers() == []
        assert code_of(await receiver.offer(2)) is RejectionCode.NO_DUTY  # and not busy: its place is free again

    play(machine, test)


def test_a_write_that_cannot_be_made_now_leaves_no_place_taken(machine: Machine) -> None:
    async def locked() -> None:
        raise TimeoutError("the database is locked")

    async def test(receiver: Receiver) -> None:
        receiver.database.before_write = locked
        with pytest.raises(TimeoutError):
            await receiver.offer()
        assert isinstance(await receiver.offer(2), DataTransferAccept)

    play(machine, test)


def test_of_two_offers_at_once_one_is_taken_on(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        answers = await asyncio.gather(receiver.offer(1), receiver.offer(2))
        assert sorted(str(code_of(answer)) for answer in answers) == ["None", "busy"]
        assert await receiver.transfers() == [("ACTIVE",)]

    play(machine, test)


def test_a_peer_that_is_stopping_asks_the_sender_to_come_again(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        assert code_of(await receiver.offer()) is RejectionCode.BUSY

    play(machine, test, runs=False)


def test_a_receiver_that_is_cancelled_later_gets_no_more(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        assert isinstance(await receiver.offer(), DataTransferAccept)
        await receiver.cancel()
        await receiver.daemon.eventually("SELECT status FROM transfers", ("CANCELLED",))
        async with asyncio.timeout(5):
            while code_of(await receiver.offer(2)) is not RejectionCode.NO_DUTY:
                await asyncio.sleep(0.01)
        assert not list(receiver.daemon.folders.data_dir.rglob("*.part"))

    play(machine, test)


# ---- what came before


CONTENT = {"a.txt": b"x" * 700_000, "b.txt": b"y" * 700_000}
LIST = write_manifest(
    [
        FileEntry(relative_path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in CONTENT.items()
    ]
)


async def arrived_before(receiver: Receiver, *paths: str) -> None:
    """Have some files arrive as they would from the sender for the orderer."""
    folder = receiver.daemon.folders.data_dir / "workflows" / "earlier"
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path).write_bytes(CONTENT[path])
    manifest_beside(folder).write_bytes(LIST.data)
    now = receiver.daemon.clock.now()
    await receiver.daemon.database.write(
        lambda conn: arrived_folders.remember(
            conn, "workflows/earlier", sender=SENDER, orderer=ORDERER, entry_count=2, now=now
        )
    )


async def said_to_be_present(receiver: Receiver) -> DataTransferPresent:
    """Offer the content, send its manifest, and return what is said to be there of it."""
    answer = await receiver.offer(
        file_count=2,
        entry_count=2,
        size_bytes=LIST.size_bytes,
        manifest_bytes=len(LIST.data),
        manifest_sha256=LIST.sha256,
    )
    assert isinstance(answer, DataTransferAccept), answer
    assert answer.present is None
    frame = bytearray(HEADER_BYTES) + LIST.data
    write_header(frame, stream=1, offset=0)
    receiver.incoming.take_frame(cast(Link, receiver.line), bytes(frame))
    async with asyncio.timeout(5):
        while not receiver.line.told:
            await asyncio.sleep(0.01)
    (word,) = receiver.line.told
    assert isinstance(word, DataTransferPresent)
    return word


def test_what_came_before_and_is_there_is_said_to_be_present(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        await arrived_before(receiver, "b.txt")
        word = await said_to_be_present(receiver)
        assert (word.present, word.bytes_read) == (b"\2", 700_000)

    play(machine, test)


def test_a_folder_that_is_gone_is_forgotten(machine: Machine) -> None:
    async def test(receiver: Receiver) -> None:
        await arrived_before(receiver)
        manifest_beside(receiver.daemon.folders.data_dir / "workflows" / "earlier").unlink()
        assert (await said_to_be_present(receiver)).present == b""
        assert await receiver.daemon.sql("SELECT COUNT(*) FROM arrived_folders") == [(0,)]

    play(machine, test)


def test_who_waits_too_long_for_others_that_copy_is_sent_all(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "COPYING_WAIT_S", 0.05)

    async def test(receiver: Receiver) -> None:
        await arrived_before(receiver, "a.txt", "b.txt")
        for _ in range(COPYING_MAX):  # others that have much here
            await receiver.incoming._intake._copying.acquire()
        word = await said_to_be_present(receiver)
        assert (word.present, word.bytes_read) == (b"", 0)

    play(machine, test)
