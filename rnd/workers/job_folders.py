"""Where the folders of jobs and their inputs are: rows in, paths of this host out (document: Path Hierarchy)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from rnd.rules.paths import JobPathInfo, PathType, build_job_path
from rnd.types.executions import InterfacePeer, JobExecution, Transfer
from rnd.types.ids import SELF_PEER_JOB, JobExecutionId, PeerId, WorkflowJobId


@lru_cache(maxsize=512)  # asked for many times while a job is in hand
def _job_folder(
    workflows_dir: Path, orchestrator: PeerId, workflow_job_id: WorkflowJobId, executor: PeerId, job_id: JobExecutionId
) -> Path:
    info = JobPathInfo(
        orchestrator_peer_id=orchestrator,
        workflow_job_id=workflow_job_id,
        executor_peer_id=executor,
        job_execution_id=job_id,
    )
    return build_job_path(workflows_dir, info, PathType.JOB)


class JobFolders:
    """Computes this peer's own paths from its own rows; nothing another peer says becomes a path."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.workflows_dir = data_dir / "workflows"

    def job(self, job: JobExecution) -> Path:
        """Return the folder that a job owns: input/, output/, mounts/ and logs/ are below it."""
        return _job_folder(
            self.workflows_dir, job.ordering_peer_id, job.order_workflow_job_id, job.executor_peer_id, job.id
        )

    def workflow_job(self, orchestrator: PeerId, workflow_job_id: WorkflowJobId) -> Path:
        """Return the folder that holds all that this peer has of one workflow job, what came home included."""
        return self.workflows_dir / orchestrator / str(workflow_job_id)

    def output(self, job: JobExecution) -> Path:
        """Return the folder a job leaves its files in."""
        return self.job(job) / "output"

    def logs(self, job: JobExecution) -> Path:
        """Return the folder of a job's captured streams."""
        return self.job(job) / "logs"

    def mount(self, job: JobExecution, mount_path: str) -> Path:
        """Return the folder that stands for a declared MOUNT."""
        return self._path(job, PathType.MOUNT, mount_path=mount_path)

    def input(self, job: JobExecution, peer: InterfacePeer) -> Path:
        """Return the folder that one connection fills for a job."""
        sender_job = peer.peer_job_execution_id
        return self._path(
            job,
            PathType.INPUT,
            sender_peer_id=peer.peer_id,
            sender_job_execution_id=SELF_PEER_JOB if sender_job is None else sender_job,
            lane=peer.lane,
        )

    def result(self, sender: JobExecution, orchestrator: PeerId, lane: str) -> Path:
        """Return the folder that a connection to the self-peer fills: job 0 under the sender's workflow_job_id."""
        info = JobPathInfo(
            orchestrator_peer_id=orchestrator,
            workflow_job_id=sender.order_workflow_job_id,
            executor_peer_id=orchestrator,
            job_execution_id=SELF_PEER_JOB,
            sender_peer_id=sender.executor_peer_id,
            sender_job_execution_id=sender.remote_job_execution_id or sender.id,
            lane=lane,
        )
        return Path(build_job_path(self.workflows_dir, info, PathType.INPUT))

    def receiving(self, sender: JobExecution, peer: InterfacePeer) -> Path | None:
        """Return the folder that a connection fills for another job of an own order here; `None` without its route."""
        if peer.peer_job_execution_id is None or peer.peer_workflow_job_id is None:
            return None
        info = JobPathInfo(
            orchestrator_peer_id=sender.ordering_peer_id,
            workflow_job_id=peer.peer_workflow_job_id,
            executor_peer_id=peer.peer_id,
            job_execution_id=peer.peer_job_execution_id,
            sender_peer_id=sender.executor_peer_id,
            sender_job_execution_id=sender.id,
            lane=peer.lane,
        )
        return Path(build_job_path(self.workflows_dir, info, PathType.INPUT))

    def delivery(self, transfer: Transfer, receiver: JobExecution, lane: str) -> Path:
        """Return the folder that a delivery to a job of this peer fills."""
        info = JobPathInfo(
            orchestrator_peer_id=receiver.ordering_peer_id,
            workflow_job_id=receiver.order_workflow_job_id,
            executor_peer_id=receiver.executor_peer_id,
            job_execution_id=receiver.id,
            sender_peer_id=transfer.source_peer_id,
            sender_job_execution_id=transfer.source_job_execution_id,
            lane=lane,
        )
        return Path(build_job_path(self.workflows_dir, info, PathType.INPUT))

    def exists(self, path: str) -> bool:
        """Say whether a folder that this class has named is there."""
        return Path(path).exists()

    def _path(
        self,
        job: JobExecution,
        path_type: PathType,
        *,
        sender_peer_id: PeerId | None = None,
        sender_job_execution_id: JobExecutionId | None = None,
        lane: str = "",
        mount_path: str = "",
    ) -> Path:
        info = JobPathInfo(
            orchestrator_peer_id=job.ordering_peer_id,
            workflow_job_id=job.order_workflow_job_id,
            executor_peer_id=job.executor_peer_id,
            job_execution_id=job.id,
            sender_peer_id=sender_peer_id,
            sender_job_execution_id=sender_job_execution_id,
            lane=lane,
            mount_path=mount_path,
        )
        return Path(build_job_path(self.workflows_dir, info, path_type))
