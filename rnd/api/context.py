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
from rnd.types.enums import EventType, LogStream, PeerState, Scope, ServiceType
from rnd.types.ids import ConnectionId, ExecutionId, JobExecutionId, NodeId, PeerId, ServiceId, WorkflowId
from rnd.types.seams import Clock, Entropy

if TYPE_CHECKING:
    from rnd.api.auth import TicketBook, TokenGate
    from rnd.api.events import EventHub
    from rnd.api.uploads import UploadStore
    from rnd.database.connection import Database
    from rnd.p2p.search_report import SearchReport
    from rnd.rules.explain import Explanation
    from rnd.services.data_service import DataService
    from rnd.services.image_pulls import ImagePulls
    from rnd.services.service_secrets import ServiceSecrets
    from rnd.services.vault import Vault
    from rnd.types.definitions import WorkflowDefinition
    from rnd.types.executions import JobExecution
    from rnd.types.peers import Peer
    from rnd.types.workflows import WorkflowConnection


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

    async def plan_definition(
        self, definition: WorkflowDefinition, connections: Sequence[WorkflowConnection]
    ) -> PlanReport:
        """Ask every executor of a definition that is stored nowhere."""

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

    async def cancel_jobs(self, job_execution_ids: Sequence[JobExecutionId], *, reason: str) -> None:
        """End jobs that this peer executes; returns when the wish is durable."""

    async def explain(self, job_execution_id: JobExecutionId) -> Explanation:
        """Say why a job has not ended. Raises `NotFound`."""


class PeerDesk(Protocol):
    """Other peers, as far as the API needs them: who is linked, what is asked of them, and the owner's word on them.

    Whatever needs a link raises `PeerUnreachable` where there is none, and `PeerRefused` where the peer says no. Methods
    that change a row raise `NotFound` for a peer that the owner has no word on.
    """

    def is_connected(self, peer_id: PeerId) -> bool:
        """Say whether the link to a peer is up."""

    def rtt_ms(self, peer_id: PeerId) -> float | None:
        """Return how long the last sign of life took there and back, in milliseconds; `None`: not known."""

    def last_failure(self, peer_id: PeerId) -> str:
        """Return why the last attempt to reach a peer came to nothing; "" where none has."""

    def own_name(self, peer_id: PeerId) -> str:
        """Return what a linked peer calls itself; "" where that is not known."""

    async def invite(self, valid_s: float) -> tuple[str, datetime]:
        """Make a one-time invite; return its line, which is a secret, and until when it is good."""

    async def join(self, invite: str) -> Peer:
        """Use another peer's invite; afterwards both sides hold each other as allowed."""

    async def add(self, peer_id: PeerId, *, addresses: Sequence[str], name: str, state: PeerState) -> Peer:
        """Write a peer down on the operator's word. Raises `Conflict`."""

    async def set_addresses(self, peer_id: PeerId, addresses: Sequence[str]) -> Peer:
        """Dial a peer elsewhere from now on."""

    async def connect(self, peer_id: PeerId) -> None:
        """Link to a peer now; return when the link is up."""

    async def disconnect(self, peer_id: PeerId) -> None:
        """Close the link to a peer."""

    async def remove(self, peer_id: PeerId) -> None:
        """Forget a peer and close its link."""

    async def set_state(self, peer_id: PeerId, state: PeerState) -> Peer:
        """Let a peer in or keep it out; whoever is denied loses its link at once."""

    async def ping(self, peer_id: PeerId) -> float:
        """Return how long a sign of life takes there and back now, in milliseconds."""

    async def capabilities(self, peer_id: PeerId) -> Mapping[str, object]:
        """Return what `node.capabilities` answers there."""

    async def search(
        self,
        *,
        query: str,
        service_type: ServiceType | None,
        peer_ids: Sequence[PeerId] | None,
        active_only: bool,
        timeout_s: float,
    ) -> SearchReport:
        """Ask other peers what they offer: those named, or (`None`) every allowed one that is connected."""

    async def job_logs(
        self, job: JobExecution, *, stream: LogStream, offset: int, limit_bytes: int
    ) -> tuple[bytes, int, bool]:
        """Return a piece of a log of a job elsewhere, where the next begins, and whether no more can follow."""

    async def explain(self, job: JobExecution) -> Explanation:
        """Ask the executor of a job elsewhere why it has not ended."""


@dataclass(slots=True, kw_only=True)
class Endpoints:
    """The addresses in use. The API server fills in its own, the daemon the peers' side. Empty: not listening."""

    url: str = ""
    socket: str = ""
    peer_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """Everything that handlers may use. `started_at_s` is the clock's monotonic reading at `started_at`; `pulls` is `None` on
    a peer without a container engine.
    """

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
    peers: PeerDesk
    data_service: DataService
    vault: Vault
    secrets: ServiceSecrets
    pulls: ImagePulls | None
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
