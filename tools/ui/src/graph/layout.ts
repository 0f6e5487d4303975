// A layout for drawings that have none: nodes in columns along the flow of data, each near what it is connected to.

import type { Drawing, DrawnNode, Key, NodeRef, Point } from "./drawing";
import { handlesOf } from "./handles";

export const GRID = 20;
export const NODE_WIDTH = 240;
export const HEADER_HEIGHT = 64;
export const HANDLE_HEIGHT = 24;

const COLUMN_GAP = 120;
const ROW_GAP = 40;
const SWEEPS = 8;

export interface Layout {
  nodes: Map<Key, Point>;
  selfPeer: Point;
}

/** Positions on the grid, the first column at x = 0. The self-peer stands left where it sends, else right of all. */
export function layout(drawing: Drawing): Layout {
  const keys = [...drawing.nodes.values()].sort((a, b) => a.order - b.order || a.key - b.key).map((node) => node.key);
  const links = linksOf(drawing);
  const depth = depths(keys, links);
  const sends = [...drawing.wires.values()].some((wire) => wire.from === null);
  const columns: NodeRef[][] = [];
  if (sends) columns.push([null]);
  const first = columns.length;
  for (const key of keys) (columns[first + (depth.get(key) ?? 0)] ??= []).push(key);
  if (!sends) columns.push([null]);
  const neighbours = neighboursOf(drawing, sends);
  order(columns, neighbours);
  return place(columns, neighbours, (ref) => (ref === null ? selfPeerHeight() : nodeHeight(drawing, ref)));
}

/** Whether a drawing was never laid out: imported without positions, every node lies on another. */
export function isUnplaced(drawing: Drawing): boolean {
  const places = new Set([...drawing.nodes.values()].map((node) => `${node.gui_x},${node.gui_y}`));
  return drawing.nodes.size > 1 && places.size === 1;
}

type Card = Pick<DrawnNode, "service_type" | "interfaces">;

/** The place on the grid nearest to where the hand let a new card go, so that it covers no other. */
export function freePlace(drawing: Drawing, wanted: Point, card: Card): Point {
  return nearestFree(drawing, wanted, card, { x: GRID, y: GRID });
}

/** The spot nearest to the wanted one, in rows and columns: for nodes that nobody has pointed a place out for. */
export function roomyPlace(drawing: Drawing, wanted: Point, card: Card): Point {
  return nearestFree(drawing, wanted, card, { x: NODE_WIDTH + 3 * GRID, y: 9 * GRID });
}

function nearestFree(drawing: Drawing, wanted: Point, card: Card, step: Point): Point {
  const height = cardHeight(card);
  const taken = [...drawing.nodes.values()].map((node) => ({ x: node.gui_x, y: node.gui_y, height: cardHeight(node) }));
  taken.push({ ...drawing.selfPeer, height: selfPeerHeight() });
  const isCovering = ({ x, y }: Point): boolean =>
    taken.some((other) => Math.abs(other.x - x) < NODE_WIDTH + GRID && y < other.y + other.height && other.y < y + height);
  for (let ring = 0; ; ring += 1) {
    for (const { x, y } of cells(ring)) {
      const at = { x: snap(wanted.x + x * step.x), y: snap(wanted.y + y * step.y) };
      if (!isCovering(at)) return at;
    }
  }
}

/** The cells of a ring: straight ones before corners, the right and below before left and above, as drawings grow. */
function cells(ring: number): Point[] {
  const cost = ({ x, y }: Point): number => Math.abs(x) + Math.abs(y) + (x < 0 || y < 0 ? 0.5 : 0);
  return Array.from({ length: 2 * ring + 1 }, (_, index) => index - ring)
    .flatMap((k) => [{ x: k, y: ring }, { x: ring, y: k }, { x: k, y: -ring }, { x: -ring, y: k }])
    .sort((one, other) => cost(one) - cost(other));
}

export function snap(value: number): number {
  return Math.round(value / GRID) * GRID;
}

export function nodeHeight(drawing: Drawing, key: Key): number {
  const node = drawing.nodes.get(key);
  return node ? cardHeight(node) : HEADER_HEIGHT;
}

function cardHeight(card: Card): number {
  const handles = handlesOf(card);
  const ins = handles.filter((handle) => handle.side === "in").length;
  return HEADER_HEIGHT + Math.max(ins, handles.length - ins) * HANDLE_HEIGHT + GRID;
}

function selfPeerHeight(): number {
  return HEADER_HEIGHT + HANDLE_HEIGHT + GRID;
}

interface Links {
  receivers: Map<Key, Key[]>;
  senders: Map<Key, Key[]>;
}

function linksOf(drawing: Drawing): Links {
  const receivers = new Map<Key, Key[]>();
  const senders = new Map<Key, Key[]>();
  for (const { from, to } of drawing.wires.values()) {
    if (from === null || to === null || !drawing.nodes.has(from) || !drawing.nodes.has(to)) continue;
    push(receivers, from, to);
    push(senders, to, from);
  }
  return { receivers, senders };
}

/** The longest way to each node from one that nothing feeds. What is left in a circle stands behind what feeds it. */
function depths(keys: readonly Key[], { receivers, senders }: Links): Map<Key, number> {
  const open = new Map(keys.map((key) => [key, senders.get(key)?.length ?? 0]));
  const depth = new Map<Key, number>(keys.map((key) => [key, 0]));
  const ready = keys.filter((key) => open.get(key) === 0);
  const settle = (key: Key): void => {
    open.delete(key);
    for (const receiver of receivers.get(key) ?? []) {
      if (!open.has(receiver)) continue;
      depth.set(receiver, Math.max(depth.get(receiver) ?? 0, (depth.get(key) ?? 0) + 1));
      const left = (open.get(receiver) ?? 0) - 1;
      open.set(receiver, left);
      if (left === 0) ready.push(receiver);
    }
  };
  while (open.size > 0) {
    const next = ready.shift() ?? (open.keys().next().value as Key);
    if (open.has(next)) settle(next);
  }
  return depth;
}

function neighboursOf(drawing: Drawing, selfSends: boolean): Map<NodeRef, NodeRef[]> {
  const neighbours = new Map<NodeRef, NodeRef[]>();
  for (const { from, to } of drawing.wires.values()) {
    // A card that stands left pulls only at what it feeds.
    if (to === null && selfSends) continue;
    push(neighbours, from, to);
    push(neighbours, to, from);
  }
  return neighbours;
}

/** Sort each column by the mean place of its neighbours, to and fro: few crossings, in time that grows with the wires. */
function order(columns: NodeRef[][], neighbours: ReadonlyMap<NodeRef, NodeRef[]>): void {
  const rank = new Map<NodeRef, number>();
  const note = (column: readonly NodeRef[]): void => {
    column.forEach((ref, index) => rank.set(ref, (index + 0.5) / column.length));
  };
  columns.forEach(note);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const turn = sweep % 2 === 0 ? columns : [...columns].reverse();
    for (const column of turn) {
      const wish = new Map(column.map((ref) => [ref, mean(neighbours.get(ref), rank) ?? rank.get(ref) ?? 0]));
      column.sort((a, b) => (wish.get(a) ?? 0) - (wish.get(b) ?? 0) || (rank.get(a) ?? 0) - (rank.get(b) ?? 0));
      note(column);
    }
  }
}

function place(
  columns: readonly NodeRef[][],
  neighbours: ReadonlyMap<NodeRef, NodeRef[]>,
  heightOf: (ref: NodeRef) => number,
): Layout {
  const centre = new Map<NodeRef, number>();
  const nodes = new Map<Key, Point>();
  let selfPeer: Point = { x: 0, y: 0 };
  columns.forEach((column, index) => {
    const heights = column.map(heightOf);
    const total = heights.reduce((sum, height) => sum + height + ROW_GAP, -ROW_GAP);
    const wishes = column.map((ref) => mean(neighbours.get(ref), centre));
    const known = wishes.filter((wish): wish is number => wish !== null);
    const middle = known.length === 0 ? 0 : known.reduce((sum, wish) => sum + wish, 0) / known.length;
    let top = middle - total / 2;
    column.forEach((ref, row) => {
      const height = heights[row] ?? 0;
      const at = { x: index * snap(NODE_WIDTH + COLUMN_GAP), y: snap(top) };
      if (ref === null) selfPeer = at;
      else nodes.set(ref, at);
      centre.set(ref, at.y + height / 2);
      top += Math.ceil((height + ROW_GAP) / GRID) * GRID;
    });
  });
  return upright({ nodes, selfPeer });
}

/** The same layout with its uppermost card at y = 0. */
function upright({ nodes, selfPeer }: Layout): Layout {
  const top = Math.min(selfPeer.y, ...[...nodes.values()].map((at) => at.y));
  return {
    nodes: new Map([...nodes].map(([key, at]) => [key, { x: at.x, y: at.y - top }])),
    selfPeer: { x: selfPeer.x, y: selfPeer.y - top },
  };
}

function mean(refs: readonly NodeRef[] | undefined, values: ReadonlyMap<NodeRef, number>): number | null {
  const known = (refs ?? []).map((ref) => values.get(ref)).filter((value): value is number => value !== undefined);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
