"""Workflows as people draw them: containers, nodes, connections, canvas state (document: Workflow Structure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rnd.types.enums import InterfaceType, ServiceType
from rnd.types.ids import ConnectionId, NodeId, PeerId, ServiceId, WorkflowId
from rnd.types.services import ServiceInterface


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A row of `workflows`; `definition` is the JSON text that was built last."""

    id: WorkflowId
    name: str
    description: str
    definition: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSummary:
    """A workflow as lists show it: how much is drawn in it, but not its definition, which can be large."""

    id: WorkflowId
    name: str
    description: str
    node_count: int
    connection_count: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowNode:
    """A row of `workflow_nodes`.

    `interfaces` are copied from the service when the node is made. `entrypoint` and `cmd` are `None` where the node
    leaves the service's own in force, and a list (perhaps empty) where it replaces them. `name` is what people call
    it, no two nodes of a workflow the same; "" where it is called as its service is. `service_revision` is what the
    service was when the node was drawn (`None`: not known); with `pin` the node runs with no other.
    """

    id: NodeId
    workflow_id: WorkflowId
    service_id: ServiceId
    peer_id: PeerId
    service_name: str
    service_type: ServiceType
    order: int
    gui_x: int
    gui_y: int
    interfaces: tuple[ServiceInterface, ...]
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    pricing_amount: float
    pricing_type: str
    name: str = ""
    service_revision: int | None = None
    pin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowConnection:
    """A row of `workflow_connections`; a node id of `None` is the self-peer.

    `from_interface_path` and `to_interface_path` choose among several MOUNTs ("" lets the rules choose), `include`
    holds globs that narrow what the connection carries (empty: everything), and `source_path` names the file or
    folder of this host that a self-peer source sends.
    """

    id: ConnectionId
    workflow_id: WorkflowId
    from_node_id: NodeId | None
    from_interface_type: InterfaceType
    to_node_id: NodeId | None
    to_interface_type: InterfaceType
    destination_file_name: str | None
    from_interface_path: str
    to_interface_path: str
    include: tuple[str, ...]
    source_path: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowUIState:
    """A row of `workflow_ui_state`: how the canvas was left (document: UI State Management)."""

    workflow_id: WorkflowId
    snap_to_grid: bool = True
    zoom_level: float = 1.0
    pan_x: float = 0.0
    pan_y: float = 0.0
    self_peer_x: float = 0.0
    self_peer_y: float = 0.0
