"""A drawn workflow as a file of format `rnd.workflow/1`: ids give way to names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rnd.rules.topology import node_names
from rnd.rules.workflow_file import FileConnection, FileNode, Layout, WorkflowFile
from rnd.types.ids import NodeId, PeerId
from rnd.types.workflows import Workflow, WorkflowConnection, WorkflowNode, WorkflowUIState


def workflow_to_file(
    workflow: Workflow,
    nodes: Sequence[WorkflowNode],
    connections: Sequence[WorkflowConnection],
    ui_state: WorkflowUIState,
    *,
    self_peer_id: PeerId,
) -> WorkflowFile:
    """Return a drawn workflow as a file: nodes by name, services by name, nodes of this peer without a peer_id.

    Raises `KeyError` for a connection to a node that is not among `nodes`.
    """
    names = node_names(nodes)
    return WorkflowFile(
        name=workflow.name,
        description=workflow.description,
        nodes=tuple(
            FileNode(
                name=names[node.id],
                service_name=node.service_name,
                service_type=node.service_type,
                peer_id=None if node.peer_id == self_peer_id else node.peer_id,
                order=node.order,
                gui_x=node.gui_x,
                gui_y=node.gui_y,
                interfaces=node.interfaces,
                entrypoint=node.entrypoint,
                cmd=node.cmd,
                pin=node.service_revision if node.pin else None,
            )
            for node in nodes
        ),
        connections=tuple(_connection_to_file(connection, names) for connection in connections),
        layout=Layout(
            snap_to_grid=ui_state.snap_to_grid,
            zoom_level=ui_state.zoom_level,
            pan_x=ui_state.pan_x,
            pan_y=ui_state.pan_y,
            self_peer_x=ui_state.self_peer_x,
            self_peer_y=ui_state.self_peer_y,
        ),
    )


def _connection_to_file(connection: WorkflowConnection, names: Mapping[NodeId, str]) -> FileConnection:
    return FileConnection(
        from_node=None if connection.from_node_id is None else names[connection.from_node_id],
        from_interface_type=connection.from_interface_type,
        to_node=None if connection.to_node_id is None else names[connection.to_node_id],
        to_interface_type=connection.to_interface_type,
        from_interface_path=connection.from_interface_path,
        to_interface_path=connection.to_interface_path,
        destination_file_name=connection.destination_file_name,
        include=connection.include,
        source_path=connection.source_path,
    )
