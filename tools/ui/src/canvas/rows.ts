// The daemon's rows as this window draws them, and what a drawing becomes in a call.

import type { DrawnNode, DrawnWire, Key, NodeChanges, NodeRef, WireChanges } from "../graph/drawing";
import type { Keys } from "../graph/ids";
import type { WorkflowConnection, WorkflowNode } from "../rpc";

export function drawnNode(row: WorkflowNode, key: Key): DrawnNode {
  return {
    key,
    service_id: row.service_id,
    peer_id: row.peer_id,
    name: row.name ?? "",
    service_name: row.service_name,
    service_type: row.service_type,
    order: row.order,
    gui_x: row.gui_x,
    gui_y: row.gui_y,
    interfaces: row.interfaces,
    entrypoint: row.entrypoint,
    cmd: row.cmd,
    pricing_amount: row.pricing_amount,
    pricing_type: row.pricing_type,
    service_revision: row.service_revision,
    pin: row.pin,
  };
}

export function drawnWire(row: WorkflowConnection, key: Key, nodes: Keys): DrawnWire {
  const end = (id: number | null): NodeRef => (id === null ? null : nodes.keyOf(id));
  return {
    key,
    from: end(row.from_node_id),
    from_interface_type: row.from_interface_type,
    from_interface_path: row.from_interface_path,
    to: end(row.to_node_id),
    to_interface_type: row.to_interface_type,
    to_interface_path: row.to_interface_path,
    destination_file_name: row.destination_file_name,
    include: row.include,
    source_path: row.source_path,
  };
}

/** Members of workflow.add_node and workflow.update_node. */
export function nodeMembers(changes: NodeChanges): Record<string, unknown> {
  const members: Record<string, unknown> = { ...changes };
  delete members.key;
  if (members.name === "") members.name = null;
  return members;
}

/** Members of workflow.add_connection and workflow.update_connection; `undefined` where a node has no row yet. */
export function wireMembers(changes: WireChanges, nodes: Keys): Record<string, unknown> | undefined {
  const { from, to, ...rest } = changes;
  const members: Record<string, unknown> = { ...rest };
  delete members.key;
  for (const [name, ref] of [["from_node_id", from], ["to_node_id", to]] as const) {
    if (ref === undefined) continue;
    const id = ref === null ? null : nodes.idOf(ref);
    if (id === undefined) return undefined;
    members[name] = id;
  }
  return members;
}
