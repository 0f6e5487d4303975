// The places on a node where wires begin and end: one for each interface and direction.

import type { InterfaceType, MountFunction } from "../rpc/types";
import type { DrawnNode, DrawnWire, NodeRef } from "./drawing";

export type Side = "out" | "in";

export interface NodeHandle {
  id: string;
  side: Side;
  interface_type: InterfaceType;
  /** Which MOUNT; empty for streams and for the self-peer. */
  path: string;
  mount_function: MountFunction | null;
  required: boolean;
  description: string;
  /** A wire names it and the node has it no more. */
  missing: boolean;
}

/** One end that a wire has or could have. */
export interface End {
  node: NodeRef;
  side: Side;
  interface_type: InterfaceType;
  path: string;
}

const OUTPUT_STREAMS: readonly InterfaceType[] = ["STDOUT", "STDERR", "LOGS"];

/** `/input/` and `/input` are the same place. */
export function normalisePath(path: string): string {
  return path.replace(/\/+$/, "") || path.slice(0, 1);
}

/** What a node offers, in the order it is shown. Every DOCKER and STANDALONE job has the streams, declared or not. */
export function handlesOf(node: Pick<DrawnNode, "service_type" | "interfaces">): NodeHandle[] {
  const declared = new Map(
    node.interfaces.filter((one) => one.interface_type !== "MOUNT").map((one) => [one.interface_type, one]),
  );
  const streams: readonly InterfaceType[] =
    node.service_type === "DATA" ? [...declared.keys()] : ["STDIN", ...OUTPUT_STREAMS];
  const handles = streams.map((type): NodeHandle => {
    const found = declared.get(type);
    return handle(type === "STDIN" ? "in" : "out", type, "", null, found?.required ?? false, found?.description ?? "");
  });
  for (const one of node.interfaces) {
    if (one.interface_type !== "MOUNT") continue;
    const path = normalisePath(one.path);
    const { mount_function: does } = one;
    if (does !== "OUTPUT") handles.push(handle("in", "MOUNT", path, does, one.required, one.description));
    if (does !== "INPUT") handles.push(handle("out", "MOUNT", path, does, false, one.description));
  }
  return handles;
}

/** The self-peer is a plain folder: it sends and receives. */
export const SELF_HANDLES: readonly NodeHandle[] = [
  handle("in", "MOUNT", "", null, false, "Results arrive here"),
  handle("out", "MOUNT", "", null, false, "Files of this peer"),
];

/** The handles of a node, and one more for every end of a wire that no interface answers for. */
export function handlesWithMissing(node: DrawnNode, wires: readonly DrawnWire[]): NodeHandle[] {
  const handles = handlesOf(node);
  const known = new Set(handles.map((one) => one.id));
  for (const wire of wires) {
    for (const end of endsOf(wire)) {
      if (end.node !== node.key) continue;
      const id = handleId(resolved(end, handles));
      if (known.has(id)) continue;
      known.add(id);
      handles.push({ ...handle(end.side, end.interface_type, normalisePath(end.path), null, false, ""), missing: true });
    }
  }
  return handles;
}

export function endsOf(wire: DrawnWire): [End, End] {
  return [
    { node: wire.from, side: "out", interface_type: wire.from_interface_type, path: wire.from_interface_path },
    { node: wire.to, side: "in", interface_type: wire.to_interface_type, path: wire.to_interface_path },
  ];
}

/** The handle a wire is drawn to. Of MOUNTs without a path the only one that fits is meant, as the daemon reads it. */
export function handleAt(end: End, node: DrawnNode | undefined): string {
  if (end.node === null) return handleId({ side: end.side, interface_type: "MOUNT", path: "" });
  return handleId(resolved(end, node ? handlesOf(node) : []));
}

export function handleId(end: Pick<End, "side" | "interface_type" | "path">): string {
  return `${end.side}:${end.interface_type}:${end.path}`;
}

export function parseHandleId(id: string): Pick<End, "side" | "interface_type" | "path"> {
  const [side, type, ...path] = id.split(":");
  return { side: side as Side, interface_type: type as InterfaceType, path: path.join(":") };
}

/** What people read at a handle, and in lists of ends. */
export function endLabel(end: Pick<End, "node" | "side" | "interface_type" | "path">): string {
  if (end.node === null) return end.side === "out" ? "Files" : "Results";
  return end.interface_type === "MOUNT" && end.path ? `MOUNT ${end.path}` : end.interface_type;
}

function resolved(end: End, handles: readonly NodeHandle[]): Pick<End, "side" | "interface_type" | "path"> {
  const { side, interface_type } = end;
  if (interface_type !== "MOUNT") return { side, interface_type, path: "" };
  if (end.path) return { side, interface_type, path: normalisePath(end.path) };
  const fitting = handles.filter((one) => one.side === side && one.interface_type === "MOUNT" && !one.missing);
  const only = fitting.length === 1 ? fitting[0] : undefined;
  return { side, interface_type, path: only?.path ?? "" };
}

function handle(
  side: Side,
  interface_type: InterfaceType,
  path: string,
  mount_function: MountFunction | null,
  required: boolean,
  description: string,
): NodeHandle {
  const id = handleId({ side, interface_type, path });
  return { id, side, interface_type, path, mount_function, required, description, missing: false };
}
