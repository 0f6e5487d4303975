// The latest run of a workflow, followed by events: what nodes and wires of the canvas are doing.

import { readRan } from "../graph/ran";
import { applyRunEvent, isOver, readRun } from "../graph/run";
import type { Run } from "../graph/run";
import { OFFLINE, asRpcError, readAll } from "../rpc";
import type { Client, DaemonEvent, Execution, ExecutionSummary, Page, RpcError, Transfer } from "../rpc";
import { Coalescer } from "../rpc/coalescer";

export interface RunState {
  /** Nothing has been read yet. */
  loading: boolean;
  run: Run | null;
  execution: Execution | null;
  /** People do not want to see it on the canvas now. */
  hidden: boolean;
  error: RpcError | null;
}

const TYPES = ["execution.updated", "job.updated", "transfer.progress", "image.progress"];
const GATHER_MS = 300;

export class RunStore {
  private state: RunState = { loading: true, run: null, execution: null, hidden: false, error: null };
  private readonly listeners = new Set<() => void>();
  private readonly reader: Coalescer;
  private frame = 0;
  private next: Run | null = null;
  private isReading = false;
  /** What events said while a read is out: its answers may be older than they are. */
  private meanwhile: DaemonEvent[] = [];

  constructor(
    private readonly client: Client,
    private readonly workflowId: number,
  ) {
    this.reader = new Coalescer(() => this.read(), GATHER_MS);
  }

  start(): () => void {
    const stops = [
      this.client.subscribe(TYPES, (event) => this.hear(event)),
      this.client.onState(({ state }) => {
        if (state === "online") this.reader.now();
      }),
    ];
    this.reader.now();
    return () => {
      for (const stop of stops) stop();
      this.reader.stop();
      cancelAnimationFrame(this.frame);
    };
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  };

  readonly getState = (): RunState => this.state;

  /** The run as the canvas shows it. */
  get shown(): Run | null {
    return this.state.hidden ? null : this.state.run;
  }

  /** A run was begun here: do not wait for its first event. */
  follow(): void {
    this.change({ hidden: false });
    this.reader.now();
  }

  setHidden(hidden: boolean): void {
    this.change({ hidden });
  }

  private hear(event: DaemonEvent): void {
    if (this.isReading) this.meanwhile.push(event);
    const { run } = this.state;
    const { execution_id, workflow_id } = event.data;
    if (event.type === "gap" || (event.type === "execution.updated" && execution_id !== run?.execution_id)) {
      if (event.type === "gap" || workflow_id === this.workflowId) this.reader.ask();
      return;
    }
    const before = this.next ?? run;
    if (!before) return;
    const after = applyRunEvent(before, event);
    if (after === before) return;
    if (after.status !== before.status) this.reader.ask();
    this.next = after;
    // Many events, one picture: nodes are drawn at most once a frame.
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.flush());
  }

  private flush(): void {
    this.frame = 0;
    if (this.next) this.change({ run: this.next });
    this.next = null;
  }

  private async read(): Promise<void> {
    this.meanwhile = [];
    this.isReading = true;
    try {
      const latest = await this.client.call<Page<ExecutionSummary>>("execution.list", {
        workflow_id: this.workflowId,
        newest_first: true,
        limit: 1,
      });
      const id = latest.items[0]?.execution_id;
      if (id === undefined) {
        this.change({ loading: false, run: null, execution: null, error: null });
        return;
      }
      const known = this.state.run?.execution_id === id ? this.state.run.ran : null;
      const [execution, transfers] = await Promise.all([
        this.client.call<Execution>("execution.get", { execution_id: id, with_definition: known === null }),
        readAll<Transfer>(this.client, "transfer.list", { execution_id: id }),
      ]);
      const isNew = this.state.run !== null && this.state.run.execution_id !== id;
      const ran = known ?? readRan(execution.definition ?? { jobs: [] });
      const told = readRun(execution, transfers, ran, this.next ?? this.state.run);
      const run = this.meanwhile.reduce(applyRunEvent, told);
      this.next = null;
      this.change({ loading: false, run, execution, error: null, ...(isNew ? { hidden: false } : {}) });
    } catch (fault) {
      const error = asRpcError(fault);
      if (error.error !== OFFLINE) this.change({ loading: false, error });
    } finally {
      this.isReading = false;
    }
  }

  private change(changes: Partial<RunState>): void {
    this.state = { ...this.state, ...changes };
    for (const listener of [...this.listeners]) listener();
  }
}

export { isOver };
