// The latest run on the drawing: states only where what is drawn is what that run has executed.

import type { Key } from "../graph/drawing";
import { stillDrawn } from "../graph/ran";
import type { StillDrawn } from "../graph/ran";
import { wireRun } from "../graph/run";
import type { NodeRun, WireRun } from "../graph/run";
import type { RunStore } from "./run-store";
import type { DesignStore } from "./store";

const NOTHING: StillDrawn = { nodes: new Map(), wires: new Map(), differs: false };

export class DrawnRun {
  private of: readonly unknown[] = [];
  private known = NOTHING;
  private jobs: { of: readonly unknown[]; by: ReadonlyMap<Key, NodeRun> } = { of: [], by: new Map() };

  constructor(
    private readonly design: Pick<DesignStore, "drawing" | "nodeKeys" | "wireKeys" | "subscribe">,
    private readonly runs: Pick<RunStore, "shown" | "subscribe">,
  ) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    const stops = [this.design.subscribe(listener), this.runs.subscribe(listener)];
    return () => {
      for (const stop of stops) stop();
    };
  };

  nodeRun(key: Key): NodeRun | undefined {
    const id = this.still.nodes.get(key);
    return id === undefined ? undefined : this.runs.shown?.nodes.get(id);
  }

  wireRun(key: Key): WireRun | undefined {
    const id = this.still.wires.get(key);
    const { shown } = this.runs;
    return id === undefined || !shown ? undefined : wireRun(shown, id);
  }

  /** The run that has executed a node which is drawn otherwise now. */
  ranOtherwise(key: Key): number | null {
    const id = this.design.nodeKeys.idOf(key);
    const { shown } = this.runs;
    return shown && id !== undefined && shown.ran.jobs.has(id) && !this.still.nodes.has(key) ? shown.execution_id : null;
  }

  /** The run that is shown, where the drawing is another one by now. */
  get otherDrawing(): number | null {
    return this.still.differs ? (this.runs.shown?.execution_id ?? null) : null;
  }

  /** All nodes that have a state; the same object until one of them changes. */
  get nodes(): ReadonlyMap<Key, NodeRun> {
    const { still } = this;
    const told = this.runs.shown?.nodes;
    if (this.jobs.of[0] !== still || this.jobs.of[1] !== told) {
      const by = new Map<Key, NodeRun>();
      for (const [key, id] of still.nodes) {
        const job = told?.get(id);
        if (job) by.set(key, job);
      }
      this.jobs = { of: [still, told], by };
    }
    return this.jobs.by;
  }

  private get still(): StillDrawn {
    const { drawing, nodeKeys, wireKeys } = this.design;
    const ran = this.runs.shown?.ran;
    if (this.of[0] !== drawing || this.of[1] !== ran) {
      this.of = [drawing, ran];
      this.known = ran ? stillDrawn(drawing, nodeKeys, wireKeys, ran) : NOTHING;
    }
    return this.known;
  }
}
