// An execution drawn onto a graph: what each node and each wire is doing, kept true by events.

import type { Execution, ExecutionStatus, Transfer, TransferStatus, WorkflowJobStatus } from "../rpc/types";
import type { Ran, RanWire } from "./ran";

export interface NodeRun {
  status: WorkflowJobStatus;
  error: string | null;
  /** What is being waited for while an image is fetched; empty otherwise. */
  note: string;
}

/** What two jobs tell of a delivery between them of which this peer has no row of its own. */
type Derived = "WAITING" | "BEING_SENT" | "ARRIVED" | "NOT_SENT" | "NOT_KNOWN";

export interface WireRun {
  status: TransferStatus | Derived;
  /** It follows from the states of the jobs at both ends: how many bytes there are is not known here. */
  derived: boolean;
  bytes_done: number;
  size_bytes: number;
  rate_bytes_s: number | null;
  left_s: number | null;
  attempts: number;
  error: string | null;
}

/** Ids are the daemon's. A map is replaced where one of its entries is, and an entry only where it says something else. */
export interface Run {
  execution_id: number;
  status: ExecutionStatus;
  error: string | null;
  cancelRequested: boolean;
  nodes: ReadonlyMap<number, NodeRun>;
  wires: ReadonlyMap<number, WireRun>;
  transfers: ReadonlyMap<string, TransferState>;
  ran: Ran;
}

export interface RunEvent {
  type: string;
  data: Record<string, unknown>;
}

interface TransferState extends WireRun {
  status: TransferStatus;
  connection_id: number;
}

const WEIGHT: Record<TransferStatus, number> = { COMPLETED: 0, PENDING: 1, CANCELLED: 2, ACTIVE: 3, FAILED: 4 };

export function isOver(status: ExecutionStatus): boolean {
  return status === "COMPLETED" || status === "FAILED" || status === "CANCELLED";
}

export function isJobOver(status: WorkflowJobStatus): boolean {
  return status === "COMPLETED" || status === "ERRORED" || status === "CANCELLED";
}

/** A run as the daemon tells it; entries of `before` that still hold stay the same objects, and what has ended has ended. */
export function readRun(execution: Execution, transfers: readonly Transfer[], ran: Ran, before: Run | null): Run {
  const old = before?.execution_id === execution.execution_id ? before : null;
  const nodes = new Map<number, NodeRun>();
  for (const job of execution.jobs) {
    const known = old?.nodes.get(job.node_id);
    const note = known && !isJobOver(job.status) && job.status !== "RUNNING" ? known.note : "";
    const run: NodeRun = { status: job.status, error: job.error, note };
    nodes.set(job.node_id, known && (equal(known, run) || isOlder(run, known)) ? known : run);
  }
  const states = new Map(transfers.map((transfer): [string, TransferState] => [transfer.transfer_id, state(transfer)]));
  const wires = new Map<number, WireRun>();
  for (const id of new Set([...states.values()].map((one) => one.connection_id))) {
    const wire = ofConnection(states, id);
    const known = old?.wires.get(id);
    wires.set(id, known && equal(known, wire) ? known : wire);
  }
  const { execution_id, status, error } = execution;
  const cancelRequested = (old?.cancelRequested ?? false) && !isOver(status);
  return { execution_id, status, error, cancelRequested, nodes, wires, transfers: states, ran };
}

/** The run after an event; the same object where the event says nothing new or is about another execution. */
export function applyRunEvent(run: Run, event: RunEvent): Run {
  const { data } = event;
  if (data.execution_id !== run.execution_id) return run;
  switch (event.type) {
    case "execution.updated": {
      if (isOver(run.status)) return run;
      const status = data.status as ExecutionStatus;
      const asked = (run.cancelRequested || data.cancel_requested === true) && !isOver(status);
      const error = typeof data.error === "string" ? data.error : run.error;
      if (status === run.status && asked === run.cancelRequested && error === run.error) return run;
      return { ...run, status, error, cancelRequested: asked };
    }
    case "job.updated":
      return withNode(run, data.node_id as number, {
        status: data.status as WorkflowJobStatus,
        error: textOrNull(data.error),
        note: "",
      });
    case "image.progress": {
      const node = run.nodes.get(data.node_id as number);
      if (!node || isJobOver(node.status)) return run;
      return withNode(run, data.node_id as number, { ...node, note: pullNote(data) });
    }
    case "transfer.progress":
      return withTransfer(run, data);
    default:
      return run;
  }
}

/** What a connection is doing: what this peer's own rows say, or else what follows from the jobs at its ends. */
export function wireRun(run: Run, id: number): WireRun | undefined {
  const wire = run.ran.wires.get(id);
  return run.wires.get(id) ?? (wire && DERIVED[derivedStatus(run, wire)]);
}

function derivedStatus(run: Run, wire: RanWire): Derived {
  const statusOf = (id: number): WorkflowJobStatus => run.nodes.get(id)?.status ?? "PENDING";
  const sender = wire.from === null ? null : statusOf(wire.from);
  const receiver = wire.to === null ? null : statusOf(wire.to);
  const isData = wire.from !== null && run.ran.jobs.get(wire.from)?.service_type === "DATA";
  // A job begins when all of its inputs are there; DATA ends, and a run is complete, when all that is owed has arrived.
  if (receiver === "READY" || receiver === "RUNNING" || receiver === "COMPLETED") return "ARRIVED";
  if (run.status === "COMPLETED" || (isData && sender === "COMPLETED")) return "ARRIVED";
  // Of a job's outputs nothing goes out unless it completes; DATA may have sent to some and failed at others.
  if (sender === "ERRORED" || sender === "CANCELLED") return isData ? "NOT_KNOWN" : "NOT_SENT";
  if (receiver === "ERRORED" || receiver === "CANCELLED" || isOver(run.status)) return "NOT_KNOWN";
  return sender === "COMPLETED" || (isData && sender === "RUNNING") ? "BEING_SENT" : "WAITING";
}

function derived(status: Derived): WireRun {
  return {
    status, derived: true, bytes_done: 0, size_bytes: 0, rate_bytes_s: null, left_s: null, attempts: 0, error: null,
  };
}

const DERIVED: Record<Derived, WireRun> = {
  WAITING: derived("WAITING"),
  BEING_SENT: derived("BEING_SENT"),
  ARRIVED: derived("ARRIVED"),
  NOT_SENT: derived("NOT_SENT"),
  NOT_KNOWN: derived("NOT_KNOWN"),
};

function withNode(run: Run, id: number, node: NodeRun): Run {
  const known = run.nodes.get(id);
  if (known && equal(known, node)) return run;
  if (known && isOlder(node, known)) return run;
  return { ...run, nodes: new Map(run.nodes).set(id, node) };
}

/** Reports can overtake each other: one of a job that goes on is older than one of its end. */
function isOlder(report: NodeRun, known: NodeRun): boolean {
  return isJobOver(known.status) && !isJobOver(report.status);
}

function withTransfer(run: Run, data: Record<string, unknown>): Run {
  const id = String(data.transfer_id);
  const before = run.transfers.get(id);
  const after = state({ ...before, ...data } as unknown as Transfer);
  if (typeof after.connection_id !== "number" || (before && equal(before, after))) return run;
  const transfers = new Map(run.transfers).set(id, after);
  const wire = ofConnection(transfers, after.connection_id);
  const known = run.wires.get(after.connection_id);
  const wires = known && equal(known, wire) ? run.wires : new Map(run.wires).set(after.connection_id, wire);
  return { ...run, transfers, wires };
}

/** All deliveries of one connection as one: their bytes together, and the state that people must know of. */
function ofConnection(transfers: ReadonlyMap<string, TransferState>, id: number): WireRun {
  const own = [...transfers.values()].filter((one) => one.connection_id === id);
  const worst = own.reduce((a, b) => (WEIGHT[b.status] > WEIGHT[a.status] ? b : a));
  const sum = (field: (one: TransferState) => number): number => own.reduce((total, one) => total + field(one), 0);
  return {
    status: worst.status,
    derived: false,
    bytes_done: sum((one) => one.bytes_done),
    size_bytes: sum((one) => one.size_bytes),
    rate_bytes_s: worst.rate_bytes_s,
    left_s: worst.left_s,
    attempts: worst.attempts,
    error: worst.error,
  };
}

function state(transfer: Transfer): TransferState {
  return {
    connection_id: transfer.connection_id,
    status: transfer.status,
    derived: false,
    bytes_done: transfer.bytes_done ?? 0,
    size_bytes: transfer.size_bytes ?? 0,
    rate_bytes_s: transfer.rate_bytes_s ?? null,
    left_s: transfer.left_s ?? null,
    attempts: transfer.attempts ?? 0,
    error: transfer.error ?? null,
  };
}

function pullNote(data: Record<string, unknown>): string {
  const image = typeof data.image === "string" ? data.image : "the image";
  const { bytes_done: done, bytes_total: total } = data;
  const known = typeof done === "number" && typeof total === "number" && total > 0;
  return known ? `Fetching ${image}: ${Math.floor((done / total) * 100)} %` : `Fetching ${image}`;
}

function equal<T extends object>(one: T, other: T): boolean {
  const keys = Object.keys(other) as (keyof T)[];
  return keys.every((key) => one[key] === other[key]);
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
