// What the parts of the canvas share, and how each listens to no more than it shows.

import { createContext, useContext, useSyncExternalStore } from "react";
import type { Drawing, DrawnNode, Key } from "../graph/drawing";
import type { End } from "../graph/handles";
import type { NodeRun, Run, WireRun } from "../graph/run";
import type { Client, Problem } from "../rpc";
import type { DrawnRun } from "./drawn-run";
import type { RunState, RunStore } from "./run-store";
import type { DesignState, DesignStore } from "./store";
import type { Value } from "./value";

/** What a check found, by what it is about. */
export interface Findings {
  /** `validate`: the rules; `plan`: what the executors say; `execute`: what the daemon answered when it was to run. */
  source: "validate" | "plan" | "execute";
  /** What was looked at. */
  drawing: Drawing;
  problems: readonly Finding[];
  nodes: ReadonlyMap<Key, readonly Finding[]>;
  wires: ReadonlyMap<Key, readonly Finding[]>;
}

export interface Finding {
  message: string;
  check: string;
  node: Key | null;
  wire: Key | null;
  /** It is to be known, and hinders nothing. */
  warning: boolean;
}

export interface Selection {
  nodes: readonly Key[];
  wires: readonly Key[];
  selfPeer: boolean;
}

/** The end a wire is being drawn from, with what may be joined to it. */
export interface Drawn {
  from: End;
  allows: (end: End) => boolean;
}

export interface CanvasContext {
  client: Client;
  design: DesignStore;
  runs: RunStore;
  drawnRun: DrawnRun;
  findings: Value<Findings | null>;
  selection: Value<Selection>;
  drawn: Value<Drawn | null>;
  /** Where words of wires are drawn: one place for all, since the library's own would look for it at every move of each. */
  labels: Value<Element | null>;
  /** What the surface is to choose next. */
  wanted: Value<Wanted | null>;
  /** Choose one thing and bring it into sight. */
  reveal: (keys: { node?: Key; wire?: Key }) => void;
}

export interface Wanted {
  nodes?: readonly Key[];
  wires?: readonly Key[];
  intoSight?: boolean;
}

export const Canvas = createContext<CanvasContext | null>(null);

export function useCanvas(): CanvasContext {
  const context = useContext(Canvas);
  if (!context) throw new Error("useCanvas is used outside of a workflow's page");
  return context;
}

export function useDesign(): DesignState {
  const { design } = useCanvas();
  return useSyncExternalStore(design.subscribe, design.getState);
}

export function useDrawing(): Drawing {
  const { design } = useCanvas();
  return useSyncExternalStore(design.subscribe, () => design.drawing);
}

export function useDrawnNode(key: Key): DrawnNode | undefined {
  const { design } = useCanvas();
  return useSyncExternalStore(design.subscribe, () => design.drawing.nodes.get(key));
}

export function useRunState(): RunState {
  const { runs } = useCanvas();
  return useSyncExternalStore(runs.subscribe, runs.getState);
}

export function useShownRun(): Run | null {
  const { runs } = useCanvas();
  return useSyncExternalStore(runs.subscribe, () => runs.shown);
}

/** What one node is doing in the run that is shown; other nodes' news do not draw it again. */
export function useNodeRun(key: Key): NodeRun | undefined {
  return useDrawnRun((drawnRun) => drawnRun.nodeRun(key));
}

export function useWireRun(key: Key): WireRun | undefined {
  return useDrawnRun((drawnRun) => drawnRun.wireRun(key));
}

export function useDrawnRun<T>(select: (drawnRun: DrawnRun) => T): T {
  const { drawnRun } = useCanvas();
  return useSyncExternalStore(drawnRun.subscribe, () => select(drawnRun));
}

export function useValue<T, R>(value: Value<T>, select: (held: T) => R): R {
  return useSyncExternalStore(value.subscribe, () => select(value.get()));
}

/** The findings of a list of the daemon's problems. */
export function findingsOf(design: DesignStore, source: Findings["source"], problems: readonly Problem[]): Findings {
  return group(
    source,
    design.drawing,
    problems.map(({ check, message, node_id, connection_id }) => ({
      check,
      message,
      node: node_id === undefined ? null : design.nodeKeys.keyOf(node_id),
      wire: connection_id === undefined ? null : design.wireKeys.keyOf(connection_id),
      warning: false,
    })),
  );
}

export function group(source: Findings["source"], drawing: Drawing, problems: readonly Finding[]): Findings {
  const nodes = new Map<Key, Finding[]>();
  const wires = new Map<Key, Finding[]>();
  for (const problem of problems) {
    if (problem.node !== null) nodes.set(problem.node, [...(nodes.get(problem.node) ?? []), problem]);
    if (problem.wire !== null) wires.set(problem.wire, [...(wires.get(problem.wire) ?? []), problem]);
  }
  return { source, drawing, problems, nodes, wires };
}
