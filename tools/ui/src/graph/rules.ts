// Which wires may be drawn, and why not: the daemon's rules (rnd/rules/pairing.py, validation.py) in its own words.
// The daemon has the last word; this is for the hand that draws.

import type { InterfaceType } from "../rpc/types";
import type { Drawing, DrawnNode, DrawnWire, Key, NodeRef } from "./drawing";
import { endsOf, handlesOf, normalisePath } from "./handles";
import type { End } from "./handles";

export interface Refusal {
  check: string;
  message: string;
}

const RULE =
  "Allowed are STDOUT, STDERR, LOGS or MOUNT -> STDIN, MOUNT or self-peer, and self-peer -> STDIN or MOUNT";
const RECEIVERS: readonly InterfaceType[] = ["STDIN", "MOUNT"];

/** Why these two ends cannot be joined, whatever else is drawn; `null` where they can. */
export function pairRefusal(from: End, to: End, nodes: Drawing["nodes"]): Refusal | null {
  const source = nodeAt(from.node, nodes);
  const target = nodeAt(to.node, nodes);
  if (source === undefined || target === undefined) {
    return { check: "connection_nodes", message: "Connection references non-existent node" };
  }
  if (source === null && target === null) {
    return { check: "pair", message: `A connection needs a node at one end at least. ${RULE}` };
  }
  if (target?.service_type === "DATA") {
    if (source?.service_type === "DATA") {
      return { check: "data_to_data", message: "Cannot download from DATA service on remote peer" };
    }
    return { check: "data_input", message: `DATA service ${target.service_name} takes no input: its files are fixed` };
  }
  if (from.side === "in" || to.side === "out") return wrongWay(from, to);
  if (source === null) {
    if (RECEIVERS.includes(to.interface_type)) return endRefusal(target as DrawnNode, to);
    return mismatch("self-peer", to.interface_type);
  }
  if (from.interface_type === "STDIN") {
    return reversed("STDIN", target === null ? "self-peer" : to.interface_type);
  }
  if (target !== null && !RECEIVERS.includes(to.interface_type)) return mismatch(from.interface_type, to.interface_type);
  return endRefusal(source, from) ?? (target === null ? null : endRefusal(target, to));
}

/** Why a wire between these two ends cannot be drawn into this drawing; `null` where it can. */
export function refusal(drawing: Drawing, from: End, to: End): Refusal | null {
  return (
    pairRefusal(from, to, drawing.nodes) ??
    cycleRefusal(drawing, from.node, to.node) ??
    duplicateRefusal(drawing, from, to)
  );
}

/** The circle that a wire from one node to another would close, in the daemon's words. */
export function cycleRefusal(drawing: Drawing, from: NodeRef, to: NodeRef): Refusal | null {
  if (from === null || to === null) return null;
  const path = pathBetween(drawing, to, from);
  if (!path) return null;
  const names = namesOf(drawing.nodes);
  const lowest = path.indexOf(Math.min(...path));
  const circle = [...path.slice(lowest), ...path.slice(0, lowest), path[lowest] as Key];
  return { check: "cycle", message: `Workflow has a cycle: ${circle.map((key) => names.get(key)).join(" -> ")}` };
}

/** A name for each node that no other has: its own, else its service's, with its number where several share that. */
export function namesOf(nodes: Drawing["nodes"]): Map<Key, string> {
  const counts = new Map<string, number>();
  const wanted = [...nodes.values()].map((node): [Key, string, boolean] => [
    node.key,
    node.name || node.service_name || "node",
    node.name !== "",
  ]);
  for (const [, name] of wanted) counts.set(name, (counts.get(name) ?? 0) + 1);
  return new Map(
    wanted.map(([key, name, own]) => [key, own || counts.get(name) === 1 ? name : `${name} (node ${Math.abs(key)})`]),
  );
}

/** Every node that feeds `key`, itself included: a wire from `key` to one of them would close a circle. */
export function feedersOf(drawing: Drawing, key: Key): ReadonlySet<Key> {
  const senders = new Map<Key, Key[]>();
  for (const { from, to } of drawing.wires.values()) {
    if (from === null || to === null) continue;
    const list = senders.get(to);
    if (list) list.push(from);
    else senders.set(to, [from]);
  }
  const found = new Set<Key>([key]);
  for (const next of found) for (const sender of senders.get(next) ?? []) found.add(sender);
  return found;
}

function pathBetween(drawing: Drawing, start: Key, end: Key): Key[] | null {
  const next = new Map<Key, Key[]>();
  for (const { from, to } of drawing.wires.values()) {
    if (from === null || to === null) continue;
    const list = next.get(from);
    if (list) list.push(to);
    else next.set(from, [to]);
  }
  const cameFrom = new Map<Key, Key>([[start, start]]);
  for (const [key] of cameFrom) {
    if (key === end) return trace(cameFrom, start, end);
    for (const receiver of next.get(key) ?? []) if (!cameFrom.has(receiver)) cameFrom.set(receiver, key);
  }
  return null;
}

function trace(cameFrom: ReadonlyMap<Key, Key>, start: Key, end: Key): Key[] {
  const path = [end];
  while (path[0] !== start) path.unshift(cameFrom.get(path[0] as Key) as Key);
  return path;
}

function duplicateRefusal(drawing: Drawing, from: End, to: End): Refusal | null {
  const plain = (wire: DrawnWire): boolean =>
    !wire.destination_file_name && wire.include.length === 0 && !wire.source_path;
  for (const wire of drawing.wires.values()) {
    const [start, end] = endsOf(wire);
    if (plain(wire) && sameEnd(start, from, drawing.nodes) && sameEnd(end, to, drawing.nodes)) {
      return { check: "duplicate_connection", message: "The connection repeats one that is drawn already" };
    }
  }
  return null;
}

function sameEnd(one: End, other: End, nodes: Drawing["nodes"]): boolean {
  if (one.node !== other.node) return false;
  if (one.node === null) return true;
  if (one.interface_type !== other.interface_type) return false;
  if (one.interface_type !== "MOUNT") return true;
  const node = nodes.get(one.node);
  return node !== undefined && mountOf(node, one) === mountOf(node, other);
}

function mountOf(node: DrawnNode, end: End): string {
  if (end.path) return normalisePath(end.path);
  const fitting = fittingMounts(node, end);
  return fitting.length === 1 ? (fitting[0] as string) : "";
}

function fittingMounts(node: DrawnNode, end: End): string[] {
  return handlesOf(node)
    .filter((handle) => handle.side === end.side && handle.interface_type === "MOUNT")
    .map((handle) => handle.path);
}

/** Why a node has no such end. */
function endRefusal(node: DrawnNode, end: End): Refusal | null {
  if (end.interface_type !== "MOUNT") {
    if (node.service_type === "DATA" && !node.interfaces.some((one) => one.interface_type === end.interface_type)) {
      return { check: "interface", message: `${node.service_name} has no ${end.interface_type} interface` };
    }
    return null;
  }
  const fitting = fittingMounts(node, end);
  const [verb, does] = end.side === "out" ? ["send", "OUTPUT"] : ["receive", "INPUT"];
  const which = end.path ? ` ${normalisePath(end.path)}` : "";
  if (end.path ? !fitting.includes(normalisePath(end.path)) : fitting.length === 0) {
    const message = `${node.service_name} has no MOUNT${which} that can ${verb} (mount function ${does} or BOTH)`;
    return { check: "mount_choice", message };
  }
  if (!end.path && fitting.length > 1) {
    const message = `${node.service_name} has several MOUNTs that can ${verb} (${fitting.join(", ")}); choose one`;
    return { check: "ambiguous_mount", message };
  }
  return null;
}

function wrongWay(from: End, to: End): Refusal {
  const start = from.node === null ? "self-peer" : from.interface_type;
  const end = to.node === null ? "self-peer" : to.interface_type;
  if (from.side === "in") return reversed(start, end);
  return mismatch(start, end);
}

function reversed(start: string, end: string): Refusal {
  return { check: "pair", message: `${start} -> ${end} is not allowed: reversed direction. ${RULE}` };
}

function mismatch(start: string, end: string): Refusal {
  return { check: "pair", message: `${start} -> ${end} is not allowed: type mismatch. ${RULE}` };
}

function nodeAt(ref: NodeRef, nodes: Drawing["nodes"]): DrawnNode | null | undefined {
  return ref === null ? null : nodes.get(ref);
}
