// Which two ends a new wire may join, where a person has chosen none or only one of them. Pure.

import type { Drawing, NodeRef } from "./drawing";
import { SELF_HANDLES, handleId, handlesOf, parseHandleId } from "./handles";
import type { End, NodeHandle, Side } from "./handles";
import { refusal } from "./rules";

/** What is known of the ends of a wire that is to be drawn. */
export interface Ends {
  from?: Partial<End> | undefined;
  to?: Partial<End> | undefined;
}

export function handlesAt(drawing: Drawing, ref: NodeRef, side: Side): NodeHandle[] {
  const node = ref === null ? undefined : drawing.nodes.get(ref);
  const handles = ref === null ? SELF_HANDLES : node ? handlesOf(node) : [];
  return handles.filter((handle) => handle.side === side);
}

/** The chosen end of a node; without a choice the first that fits the other end, else the first at all. */
export function endAt(drawing: Drawing, ref: NodeRef, side: Side, chosen: string, other?: End | null): End | null {
  const ends = handlesAt(drawing, ref, side).map(({ id }): End => ({ node: ref, ...parseHandleId(id) }));
  const found = ends.find((end) => handleId(end) === chosen);
  if (found) return found;
  const fitting = other ? ends.find((end) => refusal(drawing, other, end) === null) : undefined;
  return fitting ?? ends[0] ?? null;
}

export function chosenHandle(end: Partial<End> | undefined, side: Side): string {
  if (end?.interface_type === undefined) return "";
  return handleId({ side, interface_type: end.interface_type, path: end.path ?? "" });
}

/** Two nodes that no wire joins and one may: first from those that send nothing yet, to this peer last. */
export function fittingPair(drawing: Drawing, start: Ends): [from: NodeRef, to: NodeRef] {
  const wires = [...drawing.wires.values()];
  const senders = new Set(wires.map(({ from }) => from));
  const joined = new Set(wires.map(({ from, to }) => `${from} ${to}`));
  const tos = start.to?.node === undefined ? [...drawing.nodes.keys(), null] : [start.to.node];
  const rank = (ref: NodeRef): number => (ref === null ? 2 : Number(senders.has(ref)));
  const froms =
    start.from?.node === undefined
      ? [...drawing.nodes.keys(), null].sort((one, other) => rank(one) - rank(other))
      : [start.from.node];
  for (const node of froms) {
    const from = endAt(drawing, node, "out", chosenHandle(start.from, "out"));
    for (const other of from ? tos : []) {
      if (joined.has(`${node} ${other}`)) continue;
      const to = endAt(drawing, other, "in", chosenHandle(start.to, "in"), from);
      if (from && to && !refusal(drawing, from, to)) return [node, other];
    }
  }
  const from = froms[0] ?? null;
  return [from, tos.find((ref) => ref !== from) ?? null];
}
