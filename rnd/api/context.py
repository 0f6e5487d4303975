"""What the API is given by the composition root, and what a call knows about who makes it.

The managers are named here by what the API needs of them, so that the API stands on their promises alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from rnd.services.executor import Executor
from rnd.types.config import Config
from rnd.types.enums import EventType, Scope
from rnd.types.ids import ConnectionId, ExecutionId, JobExecutionId, NodeId, PeerId, ServiceId, WorkflowId
from rnd.types.orders import JobRequest, JobResponse
from rnd.types.seams import Clock, Entropy

if TYPE_CHECKING:
    from rnd.api.auth import TicketBook, TokenGate
    from rnd.api.events import EventHub
    from rnd.api.uploads import UploadStore
    from rnd.database.connection import Database
    from rnd.rules.explain import Explanation
    from rnd.services.data_service import DataService
    from rnd.services.vault import Vault


class JobAnswer(Protocol):
    """What the executor of one job would answer to its job request."""

    @property
    def node_id(self) -> NodeId:
        """Return the node that the job comes from."""

    @property
    def executor_peer_id(self) -> PeerId:
        """Return the peer that was asked."""

    @property
    def accepted(self) -> bool:
        """Return whether it would take the job."""

    @property
    def reasons(self) -> Sequence[str]:
        """Return why not."""


class EdgeAnswer(Protocol):
    """Whether one connection's sender reaches its receiver."""

    @property
    def connection_id(self) -> ConnectionId:
        """Return the connection."""

    @property
    def from_peer_id(self) -> PeerId:
        """Return the peer that sends."""

    @property
    def to_peer_id(self) -> PeerId:
        """Return the peer that receives."""

    @property
    def reachable(self) -> bool:
        """Return whether the way is open."""

    @property
    def reason(self) -> str | None:
        """Return why not."""


class PlanReport(Protocol):
    """What `workflow.plan` was told by every executor."""

    @property
    def jobs(self) -> Sequence[JobAnswer]:
        """Return one answer a job."""

    @property
    def edges(self) -> Sequence[EdgeAnswer]:
        """Return one answer a connection."""


class WorkflowManager(Protocol):
    """The orchestrator, as far as the API needs it."""

    async def plan(self, workflow_id: WorkflowId) -> PlanReport:
        """Ask every executor. Raises `NotFound`, `ValidationFailed`."""

    async def execute(
        self,
        workflow_id: WorkflowId,
        *,
        passphrase: str | None = None,
        passphrases: Mapping[ServiceId, str] = {},
        inputs: Mapping[ConnectionId, str] = {},
        deadlines: Mapping[str, float] = {},
    ) -> ExecutionId:
        """Validate, write the execution down, and start it in the background."""

    async def cancel(self, execution_id: ExecutionId, *, reason: str) -> None:
        """Record the wish to cancel. Raises `NotFound`, `Conflict`."""

    async def retry(
        self,
        execution_id: ExecutionId,
        *,
        passphrase: str | None = None,
        passphrases: Mapping[ServiceId, str] = {},
    ) -> ExecutionId:
        """Start a new execution of what did not complete. Raises `NotFound`, `Conflict`, `PermissionDenied`."""

    async def wait(self, execution_id: ExecutionId, *, timeout_s: float) -> None:
        """Return when the execution has ended or the time is up. Raises `NotFound`."""


class JobManager(Protocol):
    """The executor side, as far as the API needs it."""

    async def check_jobs(self, requests: Sequence[JobRequest]) -> Sequence[JobResponse]:
        """Say what would be answered to these requests; create nothing."""

    async def explain(self, job_execution_id: JobExecutionId) -> Explanation:
        """Say why a job has not ended. Raises `NotFound`."""


@dataclass(slots=True, kw_only=True)
class Endpoints:
    """The addresses in use. The API server fills in its own, the daemon the peers' side. Empty: not listening."""

    url: str = ""
    socket: str = ""
    peer_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """Everything that handlers may use. `started_at_s` is the clock's monotonic reading at `started_at`."""

    config: Config
    name: str
    peer_id: PeerId
    started_at: datetime
    started_at_s: float
    database: Database
    clock: Clock
    entropy: Entropy
    workflow_manager: WorkflowManager
    job_manager: JobManager
    data_service: DataService
    vault: Vault
    executors: Mapping[str, Executor]
    hub: EventHub
    gate: TokenGate
    tickets: TicketBook
    uploads: UploadStore
    endpoints: Endpoints = field(default_factory=Endpoints)
    peers_connected: Callable[[], int] = lambda: 0


class Session(Protocol):
    """A websocket connection, as far as the methods that need one know it."""

    @property
    def scope(self) -> Scope | None:
        """Return what its caller may do; `None`: not logged in."""

    async def log_in(self, token: str) -> Scope:
        """Take the rights of a token. Raises `PermissionDenied`, and the connection closes then."""

    async def subscribe(
        self, *, types: Sequence[EventType], execution_id: ExecutionId | None, after_seq: int | None
    ) -> Mapping[str, object]:
        """Begin to send events; return the subscription, the seq it starts after, and what was dropped before."""

    async def unsubscribe(self, subscription: int) -> None:
        """Stop sending. Raises `NotFound`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: the daemon's parts, what the caller may do, and the websocket it came over, if it did."""

    api: ApiContext
    scope: Scope | None
    session: Session | None = None
