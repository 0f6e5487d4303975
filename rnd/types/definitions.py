"""The workflow definition: what is built from nodes and connections and frozen with an execution.

These records mirror the document's JSON (Key Data Structures) field for field; `rules/definition.py` builds them and
turns them into that JSON and back.
"""

from __future__ import annotations

from dataclasses import dataclass

from rnd.types.enums import ExecutionConstraint, InterfaceType, MountFunction, ServiceType
from rnd.types.ids import ConnectionId, JobExecutionId, NodeId, PeerId, ServiceId


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfacePeerPlan:
    """One end of a connection as the job that owns the interface sees it.

    `peer_mount_function` says what the peer does: OUTPUT, it sends to this job; INPUT, it receives from this job.
    `peer_workflow_node_id` is `None` for the self-peer. `peer_job_execution_id` stays `None` until phase 2 (0 for the
    self-peer from the start). `lane` is the extra folder `c<connection_id>` that keeps several connections between
    the same two ends apart, "" where there is only one. On the receiving side `peer_file_name` is what the receiver's
    file is to be called (the connection's destination_file_name); it is the same on both ends.
    """

    connection_id: ConnectionId
    peer_id: PeerId
    peer_workflow_node_id: NodeId | None
    peer_job_execution_id: JobExecutionId | None
    peer_interface_type: InterfaceType
    peer_path: str
    peer_file_name: str | None
    peer_mount_function: MountFunction
    include: tuple[str, ...] = ()
    source_path: str | None = None
    lane: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfacePlan:
    """One interface of a job and every peer connected to it. `mount_function` is the service's, for a MOUNT only."""

    interface_type: InterfaceType
    path: str
    mount_function: MountFunction | None = None
    interface_peers: tuple[InterfacePeerPlan, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InputWait:
    """One thing an INPUTS_READY job waits for; `from_node_id` is `None` for the self-peer."""

    connection_id: ConnectionId
    from_node_id: NodeId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """One job of a definition. `entrypoint` and `cmd` are `None` where the service's own hold.

    `pinned_revision` is the one revision of its service that it may run with; `None`: any.
    """

    node_id: NodeId
    name: str
    service_id: ServiceId
    service_name: str
    service_type: ServiceType
    executor_peer_id: PeerId
    execution_constraint: ExecutionConstraint
    constraint_detail: tuple[InputWait, ...]
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    interfaces: tuple[InterfacePlan, ...]
    pinned_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDefinition:
    """Every job of a workflow, in an order in which no job stands before one that feeds it (where no cycle is)."""

    jobs: tuple[JobPlan, ...]
