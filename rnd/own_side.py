"""The half of the composition root that makes everything that this peer does by itself: the line of managers down to its files.

Of other peers it knows only what finds their endpoints; programs are run by the executors that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rnd.core.claims import Claims
from rnd.core.docker_jobs import DockerJobs
from rnd.core.explaining import Explainer
from rnd.core.job_manager import JobManager
from rnd.core.job_queue import JobQueue
from rnd.core.job_runner import JobRunner
from rnd.core.worker_slots import WorkerSlots
from rnd.core.workflow_manager import WorkflowManager
from rnd.database.connection import Database
from rnd.peer_side import PeerSide
from rnd.services.data_service import DataService
from rnd.services.executor import Executor
from rnd.services.image_pulls import ImagePulls
from rnd.services.service_secrets import ServiceSecrets
from rnd.services.vault import Vault
from rnd.types.config import Config
from rnd.types.enums import ServiceType
from rnd.types.ids import PeerId
from rnd.types.seams import Clock, Entropy
from rnd.types.services import Sandbox
from rnd.workers.data_worker import DataWorker
from rnd.workers.deliveries import DeliveryDesk
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard


@dataclass(slots=True, kw_only=True)
class OwnSide:
    """Everything of one peer but other peers and the API. `attach` completes it; `parts` live until cancelled."""

    config: Config
    database: Database
    clock: Clock
    entropy: Entropy
    peer_id: PeerId
    vault: Vault
    executors: Mapping[ServiceType, Executor]
    pulls: ImagePulls
    boot_id: str
    board: NewsBoard = field(init=False, default_factory=NewsBoard)
    folders: JobFolders = field(init=False)
    disk: DiskGuard = field(init=False)
    data_service: DataService = field(init=False)
    secrets: ServiceSecrets = field(init=False)
    desk: DeliveryDesk = field(init=False)
    data_worker: DataWorker = field(init=False)
    slots: WorkerSlots = field(init=False)
    runner: JobRunner = field(init=False)
    job_manager: JobManager = field(init=False)
    workflow_manager: WorkflowManager = field(init=False)

    def __post_init__(self) -> None:
        config, database, clock = self.config, self.database, self.clock
        self.folders = JobFolders(config.data_dir)
        self.disk = DiskGuard(config.data_dir, floor_bytes=config.limits.disk_floor_bytes)
        self.data_service = DataService(
            database=database, clock=clock, entropy=self.entropy, config=config, vault=self.vault
        )
        self.secrets = ServiceSecrets(database, self.vault)
        self.desk = DeliveryDesk(config=config, folders=self.folders, data_service=self.data_service)

    def attach(self, peer_side: PeerSide, sandbox: Sandbox) -> None:
        """Make the managers; `sandbox` is what native programs are confined with on this machine."""
        config, database, clock, entropy = self.config, self.database, self.clock, self.entropy
        board, folders, peer_id = self.board, self.folders, self.peer_id
        self.data_worker = DataWorker(
            database=database,
            clock=clock,
            entropy=entropy,
            config=config,
            folders=folders,
            desk=self.desk,
            disk=self.disk,
            board=board,
            peer_id=peer_id,
        )
        slots = self.slots = WorkerSlots(config, board, clock)
        claims = Claims(board=board, slots=slots, peer_id=peer_id, boot_id=self.boot_id)
        self.runner = JobRunner(
            database=database,
            clock=clock,
            entropy=entropy,
            config=config,
            folders=folders,
            executors=self.executors,
            secrets=self.secrets,
            docker_jobs=DockerJobs(
                database=database, clock=clock, config=config, pulls=self.pulls, secrets=self.secrets, slots=slots
            ),
            data_worker=self.data_worker,
            disk=self.disk,
            board=board,
            claims=claims,
            slots=slots,
            sandbox=sandbox,
        )
        queue = JobQueue(
            database=database,
            clock=clock,
            config=config,
            folders=folders,
            runner=self.runner,
            claims=claims,
            slots=slots,
            board=board,
            peer_id=peer_id,
            boot_id=self.boot_id,
        )
        self.job_manager = JobManager(
            database=database,
            clock=clock,
            entropy=entropy,
            config=config,
            folders=folders,
            executors=self.executors,
            is_unlocked=self.data_service.is_unlocked,
            runner=self.runner,
            explainer=Explainer(
                database=database,
                clock=clock,
                folders=folders,
                runner=self.runner,
                disk=self.disk,
                why_away=peer_side.links.why_away,
                peer_id=peer_id,
            ),
            disk=self.disk,
            board=board,
            queue=queue,
            slots=slots,
            peer_id=peer_id,
            sandbox=sandbox,
        )
        self.workflow_manager = WorkflowManager(
            database=database,
            clock=clock,
            entropy=entropy,
            config=config,
            folders=folders,
            data_service=self.data_service,
            disk=self.disk,
            endpoint_of=peer_side.endpoint_of(lambda: self.job_manager),
            why_not_between=peer_side.peer_desk.why_not_between,
            board=board,
            peer_id=peer_id,
        )

    def parts(self) -> tuple[DataWorker, JobManager, WorkflowManager]:
        """Return what lives for as long as the daemon."""
        return self.data_worker, self.job_manager, self.workflow_manager
