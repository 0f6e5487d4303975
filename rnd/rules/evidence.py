"""What is known of a job when somebody asks why it has not ended (document: Debugging Guide)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from rnd.types.enums import ExecutionPhase, ExecutionStatus, WorkflowJobStatus
from rnd.types.executions import InterfacePeer, JobExecution, JobInterface, Transfer
from rnd.types.ids import ConnectionId


class HandleState(StrEnum):
    """What the engine says of a job's program. NONE: nothing was handed to an engine; PULLING: its image is on its way; QUEUED:
    that has come, and it waits for a worker; LOST: the engine knows nothing.
    """

    NONE = "NONE"
    PULLING = "PULLING"
    QUEUED = "QUEUED"
    SUBMITTING = "SUBMITTING"
    RUNNING = "RUNNING"
    EXITED = "EXITED"
    LOST = "LOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEnd:
    """What is known of the job at the other end of a connection, and of the delivery along it.

    `status` is `None` for the self-peer and for a job of which this peer hears nothing. `path` is where the files
    belong on this peer, `path_exists` whether that folder is there (`None`: not looked at). `away` says why there is no link
    to its peer ("" where there is one, and on this peer).
    """

    name: str
    status: WorkflowJobStatus | None = None
    error: str | None = None
    transfer: Transfer | None = None
    path: str = ""
    path_exists: bool | None = None
    away: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOnItsWay:
    """How far the image of a container is; bytes of what is known of it so far."""

    image: str
    status: str
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that decides the answer, gathered in one snapshot at `now`.

    `other_ends` are by connection. `service_found` and `service_active` concern the service on this peer;
    `executor_reason` says why its engine is not available ("" where it is). `not_before` holds back another attempt.
    `pull` is set where its image is being pulled. `start_trouble` is why its executor could not be told to start it so far.
    `disk_trouble` is why no delivery is taken in here now ("" where there is room).
    `orchestrator_away` and `executor_away` say why there is no link to these, where they are other peers.
    """

    job: JobExecution
    interfaces: Sequence[JobInterface]
    now: datetime
    other_ends: Mapping[ConnectionId, OtherEnd] = field(default_factory=dict)
    execution_status: ExecutionStatus | None = None
    execution_phase: ExecutionPhase | None = None
    service_found: bool = True
    service_active: bool = True
    executor_reason: str = ""
    slots_in_use: int = 0
    slots_total: int = 0
    handle: HandleState = HandleState.NONE
    pull: ImageOnItsWay | None = None
    not_before: datetime | None = None
    start_trouble: str = ""
    disk_trouble: str = ""
    orchestrator_away: str = ""
    executor_away: str = ""

    def other_end(self, peer: InterfacePeer) -> OtherEnd:
        """Return what is known of the other end of a connection, be it only whose it is."""
        return self.other_ends.get(peer.connection_id) or OtherEnd(name=f"a job of peer {peer.peer_id}")
