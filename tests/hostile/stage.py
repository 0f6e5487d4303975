"""Where scripted peers meet a real daemon: its data directory with everybody's standing in it, orders, and what it writes down."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import sqlite3
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rnd.database.opening import open_connections
from rnd.protocol.fields import Message
from rnd.protocol.manifest import Manifest, write_manifest
from rnd.protocol.messages import (
    JobRequestMessage,
    JobResponseMessage,
    JobStartMessage,
    JobStartResponse,
    JobStatusRequest,
)
from rnd.protocol.transfer_messages import DataTransferRequest
from rnd.types.definitions import InputWait, InterfacePeerPlan, InterfacePlan, JobPlan
from rnd.types.enums import ExecutionConstraint, InterfaceType, JobStatus, MountFunction, ServiceType
from rnd.types.executions import FileEntry
from rnd.types.ids import (
    SELF_PEER_JOB,
    ConnectionId,
    ExecutionUid,
    JobExecutionId,
    NodeId,
    PeerId,
    ServiceId,
    TransferId,
    WorkflowJobId,
)
from rnd.types.orders import JobStatusReport, Route
from rnd.types.times import to_text
from tests.hostile.scripted_peer import CONTROL, DATA, ScriptedLink, ScriptedPeer, answer_politely
from tests.live_files import found_below
from tests.running_peers import Peer, wait_until

NODE = NodeId(2)
INPUT = ConnectionId(1)
OUTPUT = ConnectionId(2)
SOURCE_JOB = JobExecutionId(900)
"""The job of a scripted sender, as it says itself."""

# What a daemon writes down of time, meetings and news, whatever is said to it.
_RESTLESS = {"peers", "events", "sqlite_sequence", "node_runs", "outbox"}
_numbers = itertools.count(1)


def fresh_uid() -> ExecutionUid:
    """Return an execution_uid that no test has used."""
    return ExecutionUid(f"{next(_numbers):032x}")


def fresh_transfer_id() -> TransferId:
    """Return a transfer_id that no test has used."""
    return TransferId(f"00000000-0000-4000-8000-{next(_numbers):012x}")


class Daemon(Peer):
    """A real daemon that knows a cast of scripted peers from its first moment on."""

    def know(self, standings: Mapping[ScriptedPeer, str]) -> None:
        """Write down who is who, as the owner's word would; before `start`."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for connection in open_connections(self.data_dir / "rnd.db", readers=1, busy_timeout_ms=5_000):
            connection.close()
        now = to_text(datetime.now(UTC))
        self._write(
            "INSERT INTO peers (peer_id, name, state, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
            [(peer.peer_id, peer.name, state, now, now) for peer, state in standings.items()],
        )

    def grant(
        self, peer: ScriptedPeer, service_id: int | None, *verbs: str, limits: Mapping[str, float] | None = None
    ) -> None:
        """Grant verbs on a service."""
        row = (
            peer.peer_id,
            service_id,
            json.dumps(sorted(verbs)),
            json.dumps(limits or {}),
            to_text(datetime.now(UTC)),
        )
        self._write("INSERT INTO grants (peer_id, service_id, verbs, limits, created_at) VALUES (?, ?, ?, ?, ?)", [row])

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        with contextlib.closing(sqlite3.connect(self.data_dir / "rnd.db", timeout=30)) as conn, conn:
            conn.executemany(statement, rows)

    def snapshot(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table that only changes when something is done."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data_dir}/rnd.db?mode=ro", uri=True, timeout=30)) as conn:
            tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            return {
                table: conn.execute(f'SELECT * FROM "{table}" ORDER BY 1').fetchall()
                for table in tables
                if table not in _RESTLESS
            }

    def tracebacks(self) -> str:
        """Return the log from the first traceback on; "" where nothing unforeseen has happened."""
        output = (self.data_dir / "stderr.txt").read_text(errors="replace")
        return output[output.index("Traceback") :] if "Traceback" in output else ""

    def files(self) -> set[str]:
        """Return every path below the folders of jobs, and every other entry of the data directory's own level."""
        below = {str(path.relative_to(self.data_dir)) for path in found_below(self.data_dir / "workflows", "*")}
        return below | {path.name for path in self.data_dir.iterdir() if not path.name.startswith("rnd.db")}

    def job(self, job_id: int) -> dict[str, Any]:
        """Return how a job stands: the columns that tests look at."""
        (row,) = self.rows("SELECT status, error_message, start_received FROM job_executions WHERE id = ?", job_id)
        return dict(zip(("status", "error", "started"), row, strict=True))

    def has_started(self, execution_id: int) -> bool:
        """Say whether both phases of an own execution are over, as the daemon has written it down."""
        starts = "SELECT MIN(start_received) FROM job_executions WHERE workflow_execution_id = ?"
        phases = "SELECT phase FROM workflow_executions WHERE id = ?"
        return self.rows(starts, execution_id) == [(1,)] and self.rows(phases, execution_id) == [("STARTED",)]

    async def control(self, peer: ScriptedPeer, *, instance: int = 1) -> ScriptedLink:
        """Return a control link of a scripted peer."""
        return await peer.link(self.peer_id, self.address, CONTROL, hello=peer.hello(instance=instance))

    async def data_link(self, peer: ScriptedPeer) -> ScriptedLink:
        """Return a data link of a scripted peer."""
        return await peer.link(self.peer_id, self.address, DATA)

    def cat(self, name: str = "cat", **more: Any) -> dict[str, Any]:
        """Offer a program that hands on what it reads."""
        return dict(
            self.call(
                "service.create", name=name, service_type="STANDALONE", executable="/bin/cat", confine="never", **more
            )
        )


@contextlib.contextmanager
def daemon(
    folder: Path, standings: Mapping[ScriptedPeer, str], *, config: str = "", env: Mapping[str, str] | None = None
) -> Iterator[Daemon]:
    """Run a daemon that knows these peers so; end it, and what it has left, afterwards."""
    peer = Daemon(folder / "daemon", config=config, env=env)
    peer.know(standings)
    try:
        peer.start()
        yield peer
    finally:
        peer.dispose()


def end(
    peer_id: str,
    connection: ConnectionId,
    function: MountFunction,
    *,
    node: int | None = 1,
    interface_type: InterfaceType = InterfaceType.MOUNT,
    **more: Any,
) -> InterfacePeerPlan:
    """Return the other end of a connection of a job; `node` `None`: the self-peer."""
    return InterfacePeerPlan(
        connection_id=connection,
        peer_id=PeerId(peer_id),
        peer_workflow_node_id=None if node is None else NodeId(node),
        peer_job_execution_id=SELF_PEER_JOB if node is None else None,
        peer_interface_type=interface_type,
        peer_path="/output",
        peer_file_name=None,
        peer_mount_function=function,
        **more,
    )


def job_plan(
    executor: str,
    service: Mapping[str, Any],
    *,
    inputs: Sequence[InterfacePeerPlan] = (),
    outputs: Sequence[InterfacePeerPlan] = (),
    output_type: InterfaceType = InterfaceType.STDOUT,
    **more: Any,
) -> JobPlan:
    """Return a job of a service with these other ends."""
    interfaces = (InterfacePlan(interface_type=InterfaceType.STDIN, path="/input", interface_peers=tuple(inputs)),)
    if outputs:
        interfaces += (InterfacePlan(interface_type=output_type, path="/output", interface_peers=tuple(outputs)),)
    waits = tuple(
        InputWait(connection_id=peer.connection_id, from_node_id=peer.peer_workflow_node_id) for peer in inputs
    )
    plan = {
        "node_id": NODE,
        "name": "job",
        "service_id": ServiceId(service["id"]),
        "service_name": service["name"],
        "service_type": ServiceType(service["service_type"]),
        "executor_peer_id": PeerId(executor),
        "execution_constraint": ExecutionConstraint.INPUTS_READY if inputs else ExecutionConstraint.NONE,
        "constraint_detail": waits,
        "entrypoint": None,
        "cmd": None,
        "interfaces": interfaces,
    }
    return JobPlan(**(plan | more))


def request(uid: ExecutionUid, plan: JobPlan, **more: Any) -> JobRequestMessage:
    """Return an order for a job."""
    fields: dict[str, Any] = {
        "execution_uid": uid,
        "workflow_job_id": WorkflowJobId(31),
        "job": plan,
        "start_by_s": 900.0,
        "max_runtime_s": 3600.0,
        "transfer_idle_s": 300.0,
        "hold_s": 3600.0,
        "deadline_s": 86_400.0,
        "check_only": False,
        "addresses": (),
    }
    return JobRequestMessage(**(fields | more))


def route(connection: ConnectionId, job: int, workflow_job: int | None = 30) -> Route:
    """Return where the other end of a connection lives."""
    return Route(
        connection_id=connection,
        peer_workflow_job_id=None if workflow_job is None else WorkflowJobId(workflow_job),
        peer_job_execution_id=JobExecutionId(job),
    )


class FarExecutor:
    """A scripted peer that takes every job of the daemon, and reports of it what a test likes."""

    def __init__(self, peer: ScriptedPeer, job_id: int = 4711) -> None:
        self.peer = peer
        self.job_id = JobExecutionId(job_id)
        peer.reply = self.reply
        self.link: ScriptedLink | None = None
        self.requests: list[JobRequestMessage] = []
        self.starts: list[JobStartMessage] = []

    def reply(self, message: Message) -> Message | None:
        """Take jobs; stay silent where the daemon asks how they stand."""
        match message:
            case JobRequestMessage():
                self.requests.append(message)
                return JobResponseMessage(accepted=True, job_execution_id=self.job_id, reasons=())
            case JobStartMessage():
                self.starts.append(message)
                return JobStartResponse(status=JobStatus.IDLE)
            case JobStatusRequest():
                return None
        return answer_politely(message)

    async def be_given(self, daemon: Daemon, name: str) -> int:
        """Have the daemon order and start one job whose output goes home; return the execution's id."""
        self.link = await daemon.control(self.peer)
        workflow = daemon.workflow(name)
        node = daemon.call(
            "workflow.add_node",
            workflow_id=workflow,
            peer_id=self.peer.peer_id,
            service_id=7,
            service_name="far",
            service_type="STANDALONE",
            interfaces=[{"interface_type": "STDOUT", "path": "/output"}],
        )["node_id"]
        daemon.connect(workflow, node, None, "STDOUT->MOUNT")
        execution = await asyncio.to_thread(daemon.execute, workflow)
        await self.link.until(lambda: bool(self.starts), "the daemon starts its job there")
        await asyncio.to_thread(wait_until, lambda: daemon.has_started(execution), "the start is written down")
        return execution

    def report(self, **more: Any) -> JobStatusReport:
        """Return a report of that job."""
        job = self.requests[-1]
        fields: dict[str, Any] = {
            "execution_uid": job.execution_uid,
            "node_id": job.job.node_id,
            "job_execution_id": self.job_id,
            "attempt": 1,
            "seq": 1,
            "status": JobStatus.RUNNING,
            "error_message": None,
            "exit_code": None,
            "exit_signal": None,
            "started_at": None,
            "ended_at": None,
            "duties": (),
        }
        return JobStatusReport(**(fields | more))


async def order(link: ScriptedLink, uid: ExecutionUid, plan: JobPlan, **more: Any) -> JobExecutionId:
    """Order a job that is accepted; return its id."""
    answer = await link.ask(request(uid, plan, **more))
    assert isinstance(answer, JobResponseMessage), answer
    assert answer.job_execution_id is not None, answer.reasons
    return answer.job_execution_id


async def start(link: ScriptedLink, uid: ExecutionUid, job_id: JobExecutionId, *routes: Route) -> JobStartResponse:
    """Start a job of an own order."""
    answer = await link.ask(JobStartMessage(execution_uid=uid, node_id=NODE, job_execution_id=job_id, routes=routes))
    assert isinstance(answer, JobStartResponse), answer
    return answer


def manifest_of(content: Mapping[str, bytes]) -> Manifest:
    """Return the manifest of files by their path."""
    return write_manifest(
        FileEntry(relative_path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in content.items()
    )


def offer(
    orderer: ScriptedPeer, uid: ExecutionUid, job_id: JobExecutionId, manifest: Manifest, **more: Any
) -> DataTransferRequest:
    """Return the offer of what a manifest lists along the connection INPUT."""
    fields: dict[str, Any] = {
        "transfer_id": fresh_transfer_id(),
        "stream": 1,
        "ordering_peer_id": orderer.peer_id,
        "execution_uid": uid,
        "connection_id": INPUT,
        "source_job_execution_id": SOURCE_JOB,
        "dest_job_execution_id": job_id,
        "source_path": "../../etc/passwd",
        "dest_path": "/etc/passwd",
        "file_count": manifest.file_count,
        "entry_count": len(manifest.entries),
        "size_bytes": manifest.size_bytes,
        "manifest_bytes": len(manifest.data),
        "manifest_sha256": manifest.sha256,
        "encrypted": False,
    }
    return DataTransferRequest(**(fields | more))


def play(test: Coroutine[Any, Any, None], *, within_s: float = 60.0) -> None:
    """Run a test to its end, within a minute."""

    async def whole() -> None:
        async with asyncio.timeout(within_s):
            await test
        async with asyncio.timeout(5):  # what was closed is gone when the loop has no socket left but its own
            while len(asyncio.get_running_loop()._selector.get_map()) > 1:  # type: ignore[attr-defined]  # no public way to count
                await asyncio.sleep(0.005)

    asyncio.run(whole())
