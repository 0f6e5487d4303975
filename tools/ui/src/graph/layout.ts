// A layout for drawings that have none: nodes in columns along the flow of data, each near what it is connected to.

import { apply } from "./drawing";
import type { Drawing, DrawnNode, Edit, Key, NodeRef, Point } from "./drawing";
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
  const sends = isSending(drawing);
  const columns: NodeRef[][] = [];
  if (sends) columns.push([null]);
  const first = columns.length;
  for (const key of keys) (columns[first + (depth.get(key) ?? 0)] ??= []).push(key);
  if (!sends) columns.push([null]);
  const neighbours = neighboursOf(drawing, sends);
  order(columns, neighbours);
  return place(columns, neighbours, (ref) => (ref === null ? selfPeerHeight() : nodeHeight(drawing, ref)));
}

/** The edits that lay out the whole drawing. */
export function arranging(drawing: Drawing): Edit[] {
  const { nodes, selfPeer } = layout(drawing);
  const moved = [...nodes].flatMap(([key, at]): Edit[] => {
    const { gui_x, gui_y } = drawing.nodes.get(key) as DrawnNode;
    return gui_x === at.x && gui_y === at.y ? [] : [placed(key, at)];
  });
  const { x, y } = drawing.selfPeer;
  return x === selfPeer.x && y === selfPeer.y ? moved : [...moved, { kind: "place_self_peer", at: selfPeer }];
}

/**
 * The edits that give a place to what nobody has placed: cards that lie at the origin, where the daemon puts them, on
 * another. Everything is laid out where all nodes lie on one spot. What is `known` stays: a hand may have put it there.
 */
export function placing(drawing: Drawing, known: ReadonlySet<NodeRef> = new Set()): Edit[] {
  const nodes = [...drawing.nodes.values()].sort((a, b) => a.order - b.order || a.key - b.key);
  if (nodes.length === 0) return [];
  const isNew = (node: DrawnNode): boolean => !known.has(node.key);
  const isSelfNew = !known.has(null) && isAtOrigin(drawing.selfPeer);
  const [first] = nodes.map(boxOf) as [Box];
  const isHeap = nodes.every((node) => isNew(node) && node.gui_x === first.x && node.gui_y === first.y);
  const isUnderSelf = isSelfNew && isAtOrigin(first);
  if (isHeap && (nodes.length > 1 || isUnderSelf)) return arranging(drawing);

  const strays = nodes.filter((node) => isNew(node) && isAtOrigin(boxOf(node)));
  let current: Drawing = { ...drawing, nodes: new Map(nodes.filter((node) => !strays.includes(node)).map((node) => [node.key, node])) };
  const edits: Edit[] = [];
  for (const stray of strays) {
    const others = isSelfNew ? [] : [boxOfSelf(drawing)];
    for (const node of current.nodes.values()) others.push(boxOf(node));
    const isCovered = others.some((other) => cover(other, boxOf(stray)));
    const at = isCovered ? roomyPlace(current, { x: 0, y: 0 }, stray) : { x: 0, y: 0 };
    if (isCovered) edits.push(placed(stray.key, at));
    current = apply(current, { kind: "add_node", node: { ...stray, gui_x: at.x, gui_y: at.y } });
  }
  const boxes = [...current.nodes.values()].map(boxOf);
  if (isSelfNew && boxes.some((box) => cover(box, boxOfSelf(drawing)))) {
    edits.push({ kind: "place_self_peer", at: besideAll(drawing, boxes) });
  }
  return edits;
}

function isAtOrigin({ x, y }: Point): boolean {
  return x === 0 && y === 0;
}

function placed(key: Key, at: Point): Edit {
  return { kind: "change_node", key, changes: { gui_x: at.x, gui_y: at.y } };
}

/** Left of all cards where the self-peer sends, else right of them, as high as their middle. */
function besideAll(drawing: Drawing, boxes: readonly Box[]): Point {
  const step = NODE_WIDTH + COLUMN_GAP;
  const [left, right] = [Math.min(...boxes.map(({ x }) => x)) - step, Math.max(...boxes.map(({ x }) => x)) + step];
  const [top, foot] = [Math.min(...boxes.map(({ y }) => y)), Math.max(...boxes.map(({ y, height }) => y + height))];
  return { x: snap(isSending(drawing) ? left : right), y: snap((top + foot - selfPeerHeight()) / 2) };
}

function isSending(drawing: Drawing): boolean {
  return [...drawing.wires.values()].some(({ from }) => from === null);
}

/** Whether a view of so many pixels shows a part of any card; what is at (0, 0) is drawn at (x, y). */
export function isAnyInSight(
  drawing: Drawing,
  { x, y, zoom }: Point & { zoom: number },
  room: { width: number; height: number },
): boolean {
  const isSeen = (at: number, size: number, pan: number, most: number): boolean =>
    at * zoom + pan < most && (at + size) * zoom + pan > 0;
  return [...drawing.nodes.values()].map(boxOf).concat(boxOfSelf(drawing)).some((box) => {
    return isSeen(box.x, NODE_WIDTH, x, room.width) && isSeen(box.y, box.height, y, room.height);
  });
}

interface Box extends Point {
  height: number;
}

function boxOf(node: DrawnNode): Box {
  return { x: node.gui_x, y: node.gui_y, height: cardHeight(node) };
}

function boxOfSelf({ selfPeer }: Drawing): Box {
  return { ...selfPeer, height: selfPeerHeight() };
}

/** Whether two cards lie on each other, or all but touch side by side. */
function cover(one: Box, other: Box): boolean {
  return Math.abs(one.x - other.x) < NODE_WIDTH + GRID && one.y < other.y + other.height && other.y < one.y + one.height;
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
  const taken = [...[...drawing.nodes.values()].map(boxOf), boxOfSelf(drawing)];
  for (let ring = 0; ; ring += 1) {
    for (const { x, y } of cells(ring)) {
      const at = { x: snap(wanted.x + x * step.x), y: snap(wanted.y + y * step.y) };
      if (!taken.some((other) => cover(other, { ...at, height }))) return at;
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
