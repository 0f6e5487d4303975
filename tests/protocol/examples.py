"""One example of every message, and of those that can be sealed a sealed one, which golden/messages.txt holds as text."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rnd.protocol.address_records import sign_addresses
from rnd.protocol.messages import (
    Ack,
    CapabilitiesRequest,
    CapabilitiesResponse,
    ChunkAck,
    DataChunk,
    DataTransferAccept,
    DataTransferComplete,
    DataTransferFailed,
    DataTransferPresent,
    DataTransferReject,
    DataTransferRequest,
    DataTransferStop,
    Hello,
    JobCancel,
    JobCancelResponse,
    JobExplainRequest,
    JobExplainResponse,
    JobLogsRequest,
    JobLogsResponse,
    JobRequestMessage,
    JobResponseMessage,
    JobStartMessage,
    JobStartResponse,
    JobStatusRequest,
    JobStatusResponse,
    JobStatusUpdate,
    Message,
    PeerAddresses,
    Ping,
    Pong,
    ReachRequest,
    ReachResponse,
    Refusal,
    ServiceOffer,
    ServiceSearchRequest,
    ServiceSearchResponse,
)
from rnd.protocol.transfer_messages import SealShare
from rnd.rules.explain import Check
from rnd.rules.peer_id import peer_id_from_key
from rnd.types.definitions import InputWait, InterfacePeerPlan, InterfacePlan, JobPlan
from rnd.types.enums import (
    ExecutionConstraint,
    InterfaceType,
    JobStatus,
    LogStream,
    MountFunction,
    ServiceStatus,
    ServiceType,
)
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
from rnd.types.peers import AddressRecord, RefusalCode, RejectionCode
from rnd.types.services import ServiceInterface


class Peer:
    """A peer whose key is made from a number."""

    def __init__(self, number: int) -> None:
        self.seed = bytes([number]) * 32
        self.key = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.peer_id: PeerId = peer_id_from_key(self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def record(self, *addresses: str, issued_at_ms: int = 1_769_860_800_000) -> AddressRecord:
        return sign_addresses(self.peer_id, addresses, issued_at_ms=issued_at_ms, sign=self.key.sign)


ORCHESTRATOR = Peer(1)
EXECUTOR = Peer(2)
UID = ExecutionUid("00112233445566778899aabbccddeeff")
LATER_UID = ExecutionUid("ffeeddccbbaa99887766554433221100")
TRANSFER = TransferId("01234567-89ab-cdef-0123-456789abcdef")
SHARE = SealShare(key="0123456789abcdef" * 4, signature="fedcba9876543210" * 8)
RECORD = ORCHESTRATOR.record("192.0.2.1:30906", "[2001:db8::1]:30906")
JOB = JobPlan(
    node_id=NodeId(2),
    name="train",
    service_id=ServiceId(7),
    service_name="Train Model",
    service_type=ServiceType.STANDALONE,
    executor_peer_id=EXECUTOR.peer_id,
    execution_constraint=ExecutionConstraint.INPUTS_READY,
    constraint_detail=(InputWait(connection_id=ConnectionId(1), from_node_id=NodeId(1)),),
    entrypoint=None,
    cmd=("--epochs", "3"),
    pinned_revision=3,
    interfaces=(
        InterfacePlan(
            interface_type=InterfaceType.MOUNT,
            path="/input",
            mount_function=MountFunction.INPUT,
            interface_peers=(
                InterfacePeerPlan(
                    connection_id=ConnectionId(1),
                    peer_id=ORCHESTRATOR.peer_id,
                    peer_workflow_node_id=NodeId(1),
                    peer_job_execution_id=None,
                    peer_interface_type=InterfaceType.STDOUT,
                    peer_path="/output/dataset.csv",
                    peer_file_name=None,
                    peer_mount_function=MountFunction.OUTPUT,
                    include=("*.csv",),
                ),
            ),
        ),
        InterfacePlan(
            interface_type=InterfaceType.STDOUT,
            path="/output",
            interface_peers=(
                InterfacePeerPlan(
                    connection_id=ConnectionId(2),
                    peer_id=ORCHESTRATOR.peer_id,
                    peer_workflow_node_id=None,
                    peer_job_execution_id=SELF_PEER_JOB,
                    peer_interface_type=InterfaceType.MOUNT,
                    peer_path="/results/model.bin",
                    peer_file_name="model.bin",
                    peer_mount_function=MountFunction.INPUT,
                ),
            ),
        ),
    ),
)
REPORT = JobStatusReport(
    execution_uid=UID,
    node_id=NodeId(2),
    job_execution_id=JobExecutionId(200),
    attempt=1,
    seq=4,
    status=JobStatus.ERRORED,
    error_message="exit code 3: Größe überschritten",
    exit_code=3,
    exit_signal=None,
    started_at=datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC),
    ended_at=datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC),
    duties=(ConnectionId(1),),
    remark="stdout was cut at 10 bytes",
    image_digest="python@sha256:00ff",
)

# Answers name the message that they answer: (message, reply_to).
EXAMPLES: tuple[tuple[Message, int | None], ...] = (
    (
        Hello(
            protocol_min=1,
            protocol_max=1,
            instance_id="0f1e2d3c4b5a69788796a5b4c3d2e1f0",
            name="lab",
            addresses=RECORD,
        ),
        None,
    ),
    (Ping(), None),
    (Pong(), 7),
    (Ack(), 7),
    (Refusal(code=RefusalCode.NOT_FOUND, reason="There is no such job."), 7),
    (
        JobRequestMessage(
            execution_uid=UID,
            workflow_job_id=WorkflowJobId(31),
            job=JOB,
            start_by_s=900.0,
            max_runtime_s=86400.0,
            transfer_idle_s=300.0,
            hold_s=86400.0,
            deadline_s=604800.0,
            check_only=False,
            addresses=(RECORD,),
        ),
        None,
    ),
    (JobResponseMessage(accepted=True, job_execution_id=JobExecutionId(200), service_revision=3, reasons=()), 7),
    (
        JobStartMessage(
            execution_uid=UID,
            node_id=NodeId(2),
            job_execution_id=JobExecutionId(200),
            routes=(
                Route(
                    connection_id=ConnectionId(1),
                    peer_workflow_job_id=WorkflowJobId(30),
                    peer_job_execution_id=JobExecutionId(100),
                ),
                Route(connection_id=ConnectionId(2), peer_workflow_job_id=None, peer_job_execution_id=SELF_PEER_JOB),
            ),
        ),
        None,
    ),
    (JobStartResponse(status=JobStatus.IDLE), 7),
    (JobCancel(execution_uid=UID, node_id=NodeId(2), reason="The workflow was cancelled."), None),
    (JobCancelResponse(status=None), 7),
    (JobStatusRequest(execution_uid=UID, node_ids=(NodeId(1), NodeId(2))), None),
    (JobStatusResponse(jobs=(REPORT,)), 7),
    (JobStatusUpdate(report=REPORT), None),
    (
        JobLogsRequest(execution_uid=UID, node_id=NodeId(2), stream=LogStream.STDERR, offset=0, limit_bytes=65_536),
        None,
    ),
    (JobLogsResponse(data=b"epoch 1\n\xff", next_offset=9, eof=False), 7),
    (JobExplainRequest(execution_uid=UID, node_id=NodeId(2)), None),
    (
        JobExplainResponse(
            status=JobStatus.IDLE,
            because="It waits for its input from load.",
            checks=(Check(check="start command received", ok=True, evidence="start_received = 1"),),
            do="rnd rpc transfer.get transfer_id=t-1",
        ),
        7,
    ),
    (ReachRequest(addresses=RECORD), None),
    (ReachResponse(reachable=False, reason="Connection refused."), 7),
    (ServiceSearchRequest(query="train", service_type=ServiceType.STANDALONE, active_only=True), None),
    (
        ServiceSearchResponse(
            services=(
                ServiceOffer(
                    id=ServiceId(7),
                    name="Train Model",
                    description="Fits a model to a table.",
                    service_type=ServiceType.STANDALONE,
                    status=ServiceStatus.ACTIVE,
                    interfaces=(
                        ServiceInterface(interface_type=InterfaceType.STDOUT),
                        ServiceInterface(
                            interface_type=InterfaceType.MOUNT,
                            path="/input",
                            mount_function=MountFunction.INPUT,
                            required=True,
                            description="a table",
                        ),
                    ),
                    pricing_amount=0.5,
                    pricing_type="per_job",
                    revision=3,
                ),
            )
        ),
        7,
    ),
    (CapabilitiesRequest(), None),
    (CapabilitiesResponse(capabilities={"cpu_cores": 8, "docker": None, "gpus": ["A100"], "platform": "linux"}), 7),
    (
        DataTransferRequest(
            transfer_id=TRANSFER,
            stream=1,
            ordering_peer_id=ORCHESTRATOR.peer_id,
            execution_uid=UID,
            connection_id=ConnectionId(1),
            source_job_execution_id=JobExecutionId(100),
            dest_job_execution_id=JobExecutionId(200),
            source_path="/output/dataset.csv",
            dest_path="/input",
            file_count=1,
            entry_count=2,
            size_bytes=1_099_511_627_776,
            manifest_bytes=117,
            manifest_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            encrypted=False,
        ),
        None,
    ),
    (
        DataTransferRequest(
            transfer_id=TRANSFER,
            stream=1,
            ordering_peer_id=ORCHESTRATOR.peer_id,
            execution_uid=UID,
            connection_id=ConnectionId(1),
            source_job_execution_id=JobExecutionId(100),
            dest_job_execution_id=JobExecutionId(200),
            source_path="/output/dataset.csv",
            dest_path="/input",
            file_count=1,
            entry_count=2,
            size_bytes=1_099_511_627_776,
            manifest_bytes=117,
            manifest_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            encrypted=True,
            seal=SHARE,
        ),
        None,
    ),
    (DataTransferAccept(transfer_id=TRANSFER, offset=0), 7),
    (DataTransferAccept(transfer_id=TRANSFER, offset=0, present=None, seal=SHARE), 7),
    (DataTransferAccept(transfer_id=TRANSFER, offset=8_388_608, present=b"\x05\x80"), 7),
    (DataTransferPresent(transfer_id=TRANSFER, bytes_read=4_194_304, present=None), None),
    (DataTransferPresent(transfer_id=TRANSFER, bytes_read=8_388_608, present=b"\x05\x80"), None),
    (DataTransferReject(transfer_id=TRANSFER, code=RejectionCode.NO_ROOM, reason="The disk is nearly full."), 7),
    (DataChunk(stream=3, offset=8_388_608, data=b"\x00\xff some bytes"), None),
    (ChunkAck(transfer_id=TRANSFER, offset=8_388_608), None),
    (DataTransferStop(transfer_id=TRANSFER, reason="The disk is full."), None),
    (DataTransferStop(transfer_id=TRANSFER, reason="The disk is full.", paused=True), None),
    (DataTransferComplete(transfer_id=TRANSFER, success=True, bytes_received=0, error=None), None),
    (DataTransferComplete(transfer_id=TRANSFER, success=True, bytes_received=1_099_511_627_893, error=None), 7),
    (
        DataTransferFailed(
            ordering_peer_id=ORCHESTRATOR.peer_id,
            execution_uid=UID,
            connection_id=ConnectionId(1),
            reason="The job that should send this was cancelled.",
        ),
        None,
    ),
    (PeerAddresses(addresses=(RECORD,)), None),
    (
        JobRequestMessage(
            execution_uid=LATER_UID,
            workflow_job_id=WorkflowJobId(35),
            job=JOB,
            start_by_s=900.0,
            max_runtime_s=86400.0,
            transfer_idle_s=300.0,
            hold_s=86400.0,
            deadline_s=604800.0,
            check_only=False,
            addresses=(),
            reuse_of=UID,
        ),
        None,
    ),
    (
        JobResponseMessage(
            accepted=True, job_execution_id=JobExecutionId(204), service_revision=3, reasons=(), reused=True
        ),
        7,
    ),
)
