// Nodes and the wires among them as a text that can be pasted: here, into another window, into another workflow.

import type { Drawing, DrawnNode, DrawnWire, Edit, Key } from "../graph/drawing";
import type { Keys } from "../graph/ids";
import { GRID } from "../graph/layout";
import type { InterfaceType, MountFunction, ServiceInterface, ServiceType } from "../rpc";

const FORMAT = "rnd.nodes/1";
const PASTED_MAX = 500;

/** Takes a value for what it has to be; throws where it is something else. */
type Reader<T> = (value: unknown) => T;

const string: Reader<string> = (value) => oneOf(String(value))(value);
const number: Reader<number> = (value) => {
  if (typeof value === "number" && Math.abs(value) <= Number.MAX_SAFE_INTEGER) return value;
  throw new TypeError();
};
const oneOf =
  <T,>(...choices: T[]): Reader<T> =>
  (value) => {
    if (choices.includes(value as T)) return value as T;
    throw new TypeError();
  };
const listOf =
  <T,>(read: Reader<T>): Reader<T[]> =>
  (value) => (value as unknown[]).map((one) => read(one));
const orNull =
  <T,>(read: Reader<T>): Reader<T | null> =>
  (value) => (value === null ? null : read(value));
const record =
  <T extends object>(fields: { [K in keyof T]: Reader<T[K]> }): Reader<T> =>
  (value) =>
    Object.fromEntries(
      Object.entries<Reader<unknown>>(fields).map(([name, read]) => [name, read((value as Record<string, unknown>)[name])]),
    ) as T;

const interfaceType = oneOf<InterfaceType>("STDIN", "STDOUT", "STDERR", "LOGS", "MOUNT");
const flag = oneOf(true, false);
const COPIED = record({
  format: oneOf(FORMAT),
  nodes: listOf(
    record<DrawnNode>({
      key: number,
      service_id: number,
      peer_id: string,
      name: string,
      service_name: string,
      service_type: oneOf<ServiceType>("DATA", "DOCKER", "STANDALONE"),
      order: number,
      gui_x: number,
      gui_y: number,
      interfaces: listOf(
        record<ServiceInterface>({
          interface_type: interfaceType,
          path: string,
          mount_function: orNull(oneOf<MountFunction>("INPUT", "OUTPUT", "BOTH")),
          required: flag,
          description: string,
        }),
      ),
      entrypoint: orNull(listOf(string)),
      cmd: orNull(listOf(string)),
      pricing_amount: number,
      pricing_type: string,
      service_revision: orNull(number),
      pin: flag,
    }),
  ),
  wires: listOf(
    record<DrawnWire>({
      key: number,
      from: orNull(number),
      from_interface_type: interfaceType,
      from_interface_path: string,
      to: orNull(number),
      to_interface_type: interfaceType,
      to_interface_path: string,
      destination_file_name: orNull(string),
      include: listOf(string),
      source_path: orNull(string),
    }),
  ),
});

export function copied(drawing: Drawing, keys: readonly Key[]): string | null {
  const nodes = keys.map((key) => drawing.nodes.get(key)).filter((node): node is DrawnNode => node !== undefined);
  if (nodes.length === 0) return null;
  const chosen = new Set(nodes.map((node) => node.key));
  const isInside = (ref: Key | null): boolean => ref === null || chosen.has(ref);
  const wires = [...drawing.wires.values()].filter((wire) => isInside(wire.from) && isInside(wire.to));
  return JSON.stringify({ format: FORMAT, nodes, wires });
}

/** The edits that paste a text, beside what was copied; `null` where the text is something else. */
export function pasted(
  text: string,
  drawing: Drawing,
  nodeKeys: Keys,
  wireKeys: Keys,
): { edits: Edit[]; keys: Key[] } | null {
  const found = parse(text);
  if (!found) return null;
  const shift = freeShift(drawing, found.nodes);
  const names = new Set([...drawing.nodes.values()].map((node) => node.name).filter(Boolean));
  const keyOf = new Map<Key, Key>(found.nodes.map((node) => [node.key, nodeKeys.fresh()]));
  const end = (ref: Key | null): Key | null => (ref === null ? null : (keyOf.get(ref) as Key));
  const edits: Edit[] = found.nodes.map((node, index) => {
    const name = node.name === "" ? "" : freeName(node.name, names);
    return {
      kind: "add_node",
      node: {
        ...node,
        key: keyOf.get(node.key) as Key,
        name,
        order: drawing.nodes.size + index + 1,
        gui_x: node.gui_x + shift,
        gui_y: node.gui_y + shift,
      },
    };
  });
  for (const wire of found.wires) {
    edits.push({ kind: "add_wire", wire: { ...wire, key: wireKeys.fresh(), from: end(wire.from), to: end(wire.to) } });
  }
  return { edits, keys: [...keyOf.values()] };
}

/** Anything may be in a clipboard: every field is what it has to be, or the text is something else. */
function parse(text: string): { nodes: DrawnNode[]; wires: DrawnWire[] } | null {
  if (!text.includes(FORMAT)) return null;
  try {
    const { nodes: all, wires } = COPIED(JSON.parse(text));
    const nodes = all.slice(0, PASTED_MAX);
    const keys = new Set<Key | null>([null, ...nodes.map((node) => node.key)]);
    return { nodes, wires: wires.filter((wire) => keys.has(wire.from) && keys.has(wire.to)) };
  } catch {
    return null;
  }
}

function freeShift(drawing: Drawing, nodes: readonly DrawnNode[]): number {
  const taken = new Set([...drawing.nodes.values()].map((node) => `${node.gui_x},${node.gui_y}`));
  let shift = 0;
  while (nodes.some((node) => taken.has(`${node.gui_x + shift},${node.gui_y + shift}`))) shift += 2 * GRID;
  return shift;
}

function freeName(name: string, taken: Set<string>): string {
  let free = name;
  for (let number = 2; taken.has(free); number += 1) free = `${name.slice(0, 120)} ${number}`;
  taken.add(free);
  return free;
}
