// What a window shows of a workflow, and every edit to it with its inverse. Nothing here knows of a daemon or a browser.

import type { InterfaceType, ServiceInterface, ServiceType } from "../rpc/types";

/** What this window calls a node or a wire, for as long as it is open: also before it has an id, and after a deletion. */
export type Key = number;

/** The end of a wire at a node, or at the self-peer. */
export type NodeRef = Key | null;

export interface DrawnNode {
  key: Key;
  service_id: number;
  peer_id: string;
  name: string;
  service_name: string;
  service_type: ServiceType;
  order: number;
  gui_x: number;
  gui_y: number;
  interfaces: readonly ServiceInterface[];
  entrypoint: readonly string[] | null;
  cmd: readonly string[] | null;
  pricing_amount: number;
  pricing_type: string;
  service_revision: number | null;
  pin: boolean;
}

export interface DrawnWire {
  key: Key;
  from: NodeRef;
  from_interface_type: InterfaceType;
  from_interface_path: string;
  to: NodeRef;
  to_interface_type: InterfaceType;
  to_interface_path: string;
  destination_file_name: string | null;
  include: readonly string[];
  source_path: string | null;
}

export interface Point {
  x: number;
  y: number;
}

export interface Drawing {
  nodes: ReadonlyMap<Key, DrawnNode>;
  wires: ReadonlyMap<Key, DrawnWire>;
  selfPeer: Point;
}

export type NodeChanges = Partial<Omit<DrawnNode, "key">>;
export type WireChanges = Partial<Omit<DrawnWire, "key">>;

export type Edit =
  | { kind: "add_node"; node: DrawnNode }
  | { kind: "change_node"; key: Key; changes: NodeChanges }
  | { kind: "remove_node"; key: Key }
  | { kind: "add_wire"; wire: DrawnWire }
  | { kind: "change_wire"; key: Key; changes: WireChanges }
  | { kind: "remove_wire"; key: Key }
  | { kind: "place_self_peer"; at: Point };

export const EMPTY: Drawing = { nodes: new Map(), wires: new Map(), selfPeer: { x: 0, y: 0 } };

/** The drawing after an edit; what did not change stays the same object. An edit of what is gone changes nothing. */
export function apply(drawing: Drawing, edit: Edit): Drawing {
  switch (edit.kind) {
    case "add_node":
      return { ...drawing, nodes: withEntry(drawing.nodes, edit.node.key, edit.node) };
    case "change_node": {
      const node = drawing.nodes.get(edit.key);
      if (!node) return drawing;
      return { ...drawing, nodes: withEntry(drawing.nodes, edit.key, { ...node, ...edit.changes }) };
    }
    case "remove_node": {
      if (!drawing.nodes.has(edit.key)) return drawing;
      const attached = wiresOf(drawing, edit.key);
      return {
        ...drawing,
        nodes: without(drawing.nodes, [edit.key]),
        wires: attached.length === 0 ? drawing.wires : without(drawing.wires, attached.map((wire) => wire.key)),
      };
    }
    case "add_wire":
      return { ...drawing, wires: withEntry(drawing.wires, edit.wire.key, edit.wire) };
    case "change_wire": {
      const wire = drawing.wires.get(edit.key);
      if (!wire) return drawing;
      return { ...drawing, wires: withEntry(drawing.wires, edit.key, { ...wire, ...edit.changes }) };
    }
    case "remove_wire":
      if (!drawing.wires.has(edit.key)) return drawing;
      return { ...drawing, wires: without(drawing.wires, [edit.key]) };
    case "place_self_peer":
      return { ...drawing, selfPeer: edit.at };
  }
}

export function applyAll(drawing: Drawing, edits: Iterable<Edit>): Drawing {
  let result = drawing;
  for (const edit of edits) result = apply(result, edit);
  return result;
}

/** The edits that take back `edits`, which are about to be applied to the drawing: in the order to apply them. */
export function inverse(drawing: Drawing, edits: readonly Edit[]): Edit[] {
  const back: Edit[] = [];
  let current = drawing;
  for (const edit of edits) {
    back.unshift(...inverseOfOne(current, edit));
    current = apply(current, edit);
  }
  return back;
}

/** The edits of a list that still mean something, each judged where those before it are done. */
export function meaningful(drawing: Drawing, edits: readonly Edit[]): Edit[] {
  const kept: Edit[] = [];
  let current = drawing;
  for (const edit of edits) {
    if (!isPossible(current, edit)) continue;
    kept.push(edit);
    current = apply(current, edit);
  }
  return kept;
}

export function wiresOf(drawing: Drawing, key: Key): DrawnWire[] {
  return [...drawing.wires.values()].filter((wire) => wire.from === key || wire.to === key);
}

/** Whether two values of fields are the same, lists and objects by what they hold. */
export function same(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  const keys = Object.keys(one);
  if (keys.length !== Object.keys(other).length) return false;
  return keys.every((key) => same((one as Record<string, unknown>)[key], (other as Record<string, unknown>)[key]));
}

/** Whether two drawings are the same but for where things lie. */
export function sameButPlaces(one: Drawing, other: Drawing): boolean {
  const placeless = (node: DrawnNode): DrawnNode => ({ ...node, gui_x: 0, gui_y: 0 });
  return (
    keepEqual(one.wires, other.wires) === one.wires &&
    one.nodes.size === other.nodes.size &&
    [...one.nodes.values()].every((node) => {
      const next = other.nodes.get(node.key);
      return next === node || (next !== undefined && same(placeless(node), placeless(next)));
    })
  );
}

/** The entries of `next`, but the objects of `before` where they say the same: what is shown from them stays as it is. */
export function keepEqual<V>(before: ReadonlyMap<Key, V>, next: ReadonlyMap<Key, V>): ReadonlyMap<Key, V> {
  let changed = before.size !== next.size;
  const kept = new Map<Key, V>();
  for (const [key, value] of next) {
    const old = before.get(key);
    const equal = old !== undefined && same(old, value);
    kept.set(key, equal ? old : value);
    changed ||= !equal;
  }
  return changed ? kept : before;
}

function inverseOfOne(drawing: Drawing, edit: Edit): Edit[] {
  switch (edit.kind) {
    case "add_node":
      return [{ kind: "remove_node", key: edit.node.key }];
    case "add_wire":
      return [{ kind: "remove_wire", key: edit.wire.key }];
    case "change_node": {
      const node = drawing.nodes.get(edit.key);
      return node ? [{ kind: "change_node", key: edit.key, changes: asTheyWere(node, edit.changes) }] : [];
    }
    case "change_wire": {
      const wire = drawing.wires.get(edit.key);
      return wire ? [{ kind: "change_wire", key: edit.key, changes: asTheyWere(wire, edit.changes) }] : [];
    }
    case "remove_node": {
      const node = drawing.nodes.get(edit.key);
      if (!node) return [];
      return [
        { kind: "add_node", node },
        ...wiresOf(drawing, edit.key).map((wire): Edit => ({ kind: "add_wire", wire })),
      ];
    }
    case "remove_wire": {
      const wire = drawing.wires.get(edit.key);
      return wire ? [{ kind: "add_wire", wire }] : [];
    }
    case "place_self_peer":
      return [{ kind: "place_self_peer", at: drawing.selfPeer }];
  }
}

function isPossible(drawing: Drawing, edit: Edit): boolean {
  switch (edit.kind) {
    case "add_node":
      return !drawing.nodes.has(edit.node.key);
    case "change_node":
    case "remove_node":
      return drawing.nodes.has(edit.key);
    case "add_wire": {
      const { key, from, to } = edit.wire;
      return !drawing.wires.has(key) && [from, to].every((end) => end === null || drawing.nodes.has(end));
    }
    case "change_wire":
    case "remove_wire":
      return drawing.wires.has(edit.key);
    case "place_self_peer":
      return true;
  }
}

function asTheyWere<T extends object, C extends Partial<T>>(object: T, changes: C): C {
  const names = Object.keys(changes) as (keyof T)[];
  return Object.fromEntries(names.map((name) => [name, object[name]])) as C;
}

function withEntry<V>(map: ReadonlyMap<Key, V>, key: Key, value: V): ReadonlyMap<Key, V> {
  return new Map(map).set(key, value);
}

function without<V>(map: ReadonlyMap<Key, V>, keys: readonly Key[]): ReadonlyMap<Key, V> {
  const rest = new Map(map);
  for (const key of keys) rest.delete(key);
  return rest;
}
