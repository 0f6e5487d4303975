"""What of an earlier execution serves again in a retry (ruling 21): what is worth asking for, and what is the same work."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from rnd.types.definitions import InterfacePeerPlan, InterfacePlan, JobPlan, WorkflowDefinition
from rnd.types.enums import JobStatus, MountFunction, ServiceType, TransferStatus
from rnd.types.executions import InterfacePeer, JobExecution, JobInterface, Transfer
from rnd.types.ids import ExecutionId, ExecutionUid, NodeId

REUSED: Final = "reused:"
"""How `result` begins where an earlier execution's outputs stand in for a run.

The id of that execution follows; on the executor of another peer's job its `execution_uid`, which is all that is known there.
"""


def is_reused(job: JobExecution) -> bool:
    """Say whether a job has not run because an earlier one serves."""
    return job.result is not None and job.result.startswith(REUSED)


def reused_execution(job: JobExecution) -> ExecutionId | None:
    """Return the earlier own execution whose outputs a job of an own execution reuses; `None` if it ran on its own."""
    if job.result is None or job.workflow_execution_id is None or not is_reused(job):
        return None
    return ExecutionId(int(job.result.removeprefix(REUSED)))


def reused_order(job: JobExecution) -> ExecutionUid | None:
    """Return the earlier execution whose outputs a job of another peer's order reuses; `None` if it ran on its own."""
    if job.result is None or job.workflow_execution_id is not None or not is_reused(job):
        return None
    return ExecutionUid(job.result.removeprefix(REUSED))


def serves_again(job: JobExecution) -> bool:
    """Say whether a job is COMPLETED by itself: one that was set so by hand has left no manifest."""
    if job.status is not JobStatus.COMPLETED:
        return False
    return job.service_type is ServiceType.DATA or job.exit_code == 0 or is_reused(job)


def never_ran(job: JobExecution) -> bool:
    """Say whether a job ended before it began, as all do where phase 1 is refused."""
    return job.status in (JobStatus.CANCELLED, JobStatus.ERRORED) and job.started_at is None


def could_not_deliver(job: JobExecution, deliveries: Sequence[Transfer]) -> bool:
    """Say whether what was reused once could not be delivered: then it is made anew, lest every retry fail of the same.

    What truly ran is given another chance: most often its receiver was to blame.
    """
    return is_reused(job) and any(delivery.status is TransferStatus.FAILED for delivery in deliveries)


def programs_to_reuse(definition: WorkflowDefinition, earlier: Mapping[NodeId, JobExecution]) -> set[NodeId]:
    """Return the nodes whose program completed in an earlier execution, here or elsewhere."""
    return {
        plan.node_id
        for plan in definition.jobs
        if plan.service_type is not ServiceType.DATA and plan.node_id in earlier and serves_again(earlier[plan.node_id])
    }


def data_to_reuse(
    definition: WorkflowDefinition, earlier: Mapping[NodeId, JobExecution], programs: Collection[NodeId]
) -> set[NodeId]:
    """Return the nodes of DATA that has been delivered and is needed no more: all that it feeds is among `programs`.

    DATA has no outputs of its own to reuse, so it runs again for anybody else.
    """
    return {
        plan.node_id
        for plan in definition.jobs
        if plan.service_type is ServiceType.DATA
        and plan.node_id in earlier
        and serves_again(earlier[plan.node_id])
        and set(_receivers(plan)) <= set(programs)
    }


def is_held(job: JobExecution, *, now: datetime) -> bool:
    """Say whether a job that another peer ordered has ended and is still kept for it."""
    if job.ended_at is None or job.hold_s is None:
        return False
    return now < job.ended_at + timedelta(seconds=job.hold_s)


def is_same_work(plan: JobPlan, job: JobExecution, interfaces: Sequence[JobInterface]) -> bool:
    """Say whether a job was ordered by the same plan, its service by this peer's own id; revisions are not looked at."""
    return (
        plan.node_id,
        plan.name,
        plan.service_id,
        plan.service_name,
        plan.service_type,
        plan.executor_peer_id,
        plan.execution_constraint,
        [(wait.connection_id, wait.from_node_id) for wait in plan.constraint_detail],
        plan.entrypoint,
        plan.cmd,
        [_facts(interface, interface.interface_peers) for interface in plan.interfaces],
    ) == (
        job.node_id,
        job.job_name,
        job.service_id,
        job.service_name,
        job.service_type,
        job.executor_peer_id,
        job.execution_constraint,
        [(wait["connection_id"], wait["from_node_id"]) for wait in json.loads(job.constraint_detail or "[]")],
        job.entrypoint,
        job.commands,
        [_facts(interface, interface.peers) for interface in interfaces],
    )


def _facts(
    interface: InterfacePlan | JobInterface, peers: Sequence[InterfacePeerPlan | InterfacePeer]
) -> tuple[object, ...]:
    """Return what an interface is and is connected to, without what differs from one execution to the next."""
    ends = sorted(peers, key=lambda peer: peer.connection_id)
    return (
        interface.interface_type,
        interface.path,
        interface.mount_function,
        [
            (
                peer.connection_id,
                peer.peer_id,
                peer.peer_interface_type,
                peer.peer_path,
                peer.peer_file_name,
                peer.peer_mount_function,
                peer.include,
                peer.lane,
            )
            for peer in ends
        ],
    )


def _receivers(plan: JobPlan) -> list[NodeId | None]:
    return [
        peer.peer_workflow_node_id
        for interface in plan.interfaces
        for peer in interface.interface_peers
        if peer.peer_mount_function is MountFunction.INPUT
    ]
