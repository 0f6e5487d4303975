// The drawing as the canvas library wants it: its nodes and edges, the same objects wherever nothing has changed.

import type { Edge, Node } from "@xyflow/react";
import type { Drawing, DrawnNode, DrawnWire, Key, NodeRef } from "../graph/drawing";
import { endLabel, endsOf, handleAt, handlesOf, handlesWithMissing } from "../graph/handles";
import type { NodeHandle } from "../graph/handles";
import { nodeElementId, wireElementId } from "../graph/ids";
import { namesOf } from "../graph/rules";

export type ServiceFlowNode = Node<{ node: DrawnNode; title: string; handles: readonly NodeHandle[] }, "service">;
export type SelfFlowNode = Node<Record<string, never>, "self">;
export type FlowNode = ServiceFlowNode | SelfFlowNode;
export type WireEdge = Edge<{ key: Key; label: string }, "wire">;

const NOTHING: Record<string, never> = {};

/** The nodes for a drawing. One that is being dragged stays where the hand has it. */
export function flowNodes(before: readonly FlowNode[], drawing: Drawing): FlowNode[] {
  const old = new Map(before.map((node) => [node.id, node]));
  const titles = namesOf(drawing.nodes);
  const attached = attachedWires(drawing);
  const nodes: FlowNode[] = [selfNode(old.get(nodeElementId(null)), drawing)];
  for (const node of drawing.nodes.values()) {
    const id = nodeElementId(node.key);
    const known = old.get(id) as ServiceFlowNode | undefined;
    const title = titles.get(node.key) ?? "";
    const handles = handlesFor(known, node, attached.get(node.key) ?? []);
    if (known && known.data.node === node && known.data.title === title && known.data.handles === handles) {
      nodes.push(known);
      continue;
    }
    const position = known?.dragging ? known.position : { x: node.gui_x, y: node.gui_y };
    nodes.push({
      ...known,
      id,
      type: "service",
      position,
      data: { node, title, handles },
      ariaLabel: `${title}, ${node.service_type}`,
    });
  }
  return nodes;
}

export function flowEdges(before: readonly WireEdge[], drawing: Drawing): WireEdge[] {
  const old = new Map(before.map((edge) => [edge.id, edge]));
  const titles = namesOf(drawing.nodes);
  const edges: WireEdge[] = [];
  for (const wire of drawing.wires.values()) {
    const edge = edgeOf(wire, drawing, titles);
    // A wire to a node that another window has just deleted is on its way out.
    if (!edge) continue;
    const known = old.get(edge.id);
    edges.push(known && isSame(known, edge) ? known : { ...known, ...edge });
  }
  return edges;
}

/** What a wire is called: "STDOUT of words to STDIN of count". */
export function wireName(wire: DrawnWire, titles: ReadonlyMap<Key, string>): string {
  const [from, to] = endsOf(wire).map((end) => {
    return end.node === null ? "this peer" : `${endLabel(end)} of ${titles.get(end.node) ?? "a deleted node"}`;
  });
  return `${from} to ${to}`;
}

function selfNode(known: FlowNode | undefined, drawing: Drawing): FlowNode {
  const { x, y } = drawing.selfPeer;
  if (known && (known.dragging || (known.position.x === x && known.position.y === y))) return known;
  return {
    ...(known as SelfFlowNode | undefined),
    id: nodeElementId(null),
    type: "self",
    position: { x, y },
    data: NOTHING,
    deletable: false,
    ariaLabel: "This peer, source and destination",
  };
}

function handlesFor(
  known: ServiceFlowNode | undefined,
  node: DrawnNode,
  wires: readonly DrawnWire[],
): readonly NodeHandle[] {
  const handles = wires.length === 0 ? handlesOf(node) : handlesWithMissing(node, wires);
  const old = known?.data.handles;
  if (old?.length === handles.length && old.every((one, index) => isSameHandle(one, handles[index]))) return old;
  return handles;
}

function isSameHandle(one: NodeHandle, other: NodeHandle | undefined): boolean {
  return (
    one.id === other?.id &&
    one.required === other.required &&
    one.description === other.description &&
    one.missing === other.missing
  );
}

function attachedWires(drawing: Drawing): Map<NodeRef, DrawnWire[]> {
  const attached = new Map<NodeRef, DrawnWire[]>();
  for (const wire of drawing.wires.values()) {
    for (const end of [wire.from, wire.to]) {
      const list = attached.get(end);
      if (list) list.push(wire);
      else attached.set(end, [wire]);
    }
  }
  return attached;
}

function edgeOf(wire: DrawnWire, drawing: Drawing, titles: ReadonlyMap<Key, string>): WireEdge | null {
  const [from, to] = endsOf(wire);
  const nodeAt = (ref: NodeRef): DrawnNode | undefined => (ref === null ? undefined : drawing.nodes.get(ref));
  if ((from.node !== null && !nodeAt(from.node)) || (to.node !== null && !nodeAt(to.node))) return null;
  return {
    id: wireElementId(wire.key),
    type: "wire",
    source: nodeElementId(from.node),
    target: nodeElementId(to.node),
    sourceHandle: handleAt(from, nodeAt(from.node)),
    targetHandle: handleAt(to, nodeAt(to.node)),
    data: { key: wire.key, label: labelOf(wire) },
    ariaLabel: wireName(wire, titles),
  };
}

/** What a wire says beside itself while nothing runs. */
function labelOf(wire: DrawnWire): string {
  const what = wire.include.length > 0 ? wire.include.join(", ") : (wire.source_path?.split("/").at(-1) ?? "");
  const text = wire.destination_file_name ? `${what} → ${wire.destination_file_name}`.trim() : what;
  return text.length > 32 ? `${text.slice(0, 31)}…` : text;
}

function isSame(one: WireEdge, other: WireEdge): boolean {
  return (
    one.source === other.source &&
    one.target === other.target &&
    one.sourceHandle === other.sourceHandle &&
    one.targetHandle === other.targetHandle &&
    one.data?.label === other.data?.label &&
    one.ariaLabel === other.ariaLabel
  );
}
