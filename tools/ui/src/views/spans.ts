// What a timeline shows of an execution: its jobs and its deliveries, called as they were when it ran. Pure.

import type { Ran } from "../graph/ran";
import * as format from "../parts/format";
import type { Job, Transfer, WorkflowJob } from "../rpc/types";
import type { Span } from "./gantt";

/** A job as its orchestrator sees it, with what its executor told of it. */
export interface JobRow extends WorkflowJob {
  run: Job | undefined;
}

/** Jobs by their start, then deliveries by theirs. `wires` is what the execution has run, by connection id. */
export function spansOf(
  jobs: readonly JobRow[],
  transfers: readonly Transfer[],
  wires: Ran["wires"] | undefined,
  nameOf: (peerId: string) => string,
): Span[] {
  const names = new Map(jobs.map((job) => [job.node_id, job.job_name]));
  const end = (nodeId: number | null): string => (nodeId === null ? "this peer" : (names.get(nodeId) ?? `node ${nodeId}`));
  const time = (text: string | null | undefined): number | null => (text ? Date.parse(text) : null);
  const ofJobs = jobs.map<Span>((job) => ({
    key: `job ${job.id}`,
    label: job.job_name,
    title: `${job.job_name} on ${nameOf(job.executor_peer_id)}`,
    kind: "job",
    state: job.status,
    start: time(job.run?.started_at),
    end: time(job.run?.ended_at),
    detail: job.error ?? "",
  }));
  const ofTransfers = transfers.map<Span>((transfer) => {
    const wire = wires?.get(transfer.connection_id);
    const label = wire ? `${end(wire.from)} → ${end(wire.to)}` : "Delivery";
    return {
      key: `transfer ${transfer.transfer_id}`,
      label,
      title: `${label} (${transfer.direction.toLowerCase()}, ${nameOf(transfer.peer_id)})`,
      kind: "transfer",
      state: transfer.status,
      start: time(transfer.started_at),
      end: time(transfer.completed_at),
      detail: transfer.error || transferDetail(transfer),
    };
  });
  const late = Number.MAX_SAFE_INTEGER;
  const byStart = (a: Span, b: Span): number => (a.start ?? late) - (b.start ?? late);
  return [...ofJobs.sort(byStart), ...ofTransfers.sort(byStart)];
}

function transferDetail(transfer: Transfer): string {
  if (transfer.status === "ACTIVE") {
    return `${format.bytes(transfer.bytes_done)} of ${format.bytes(transfer.size_bytes)}, ${format.rate(transfer.rate_bytes_s)}`;
  }
  return `${format.bytes(transfer.size_bytes)}, ${format.count(transfer.file_count, "file")}`;
}

