// The files that an execution has brought to this peer, read again only when there can be more of them.

import { useRef } from "react";
import { isTerminal } from "../parts/states";
import { readAll, useLive } from "../rpc";
import type { DaemonEvent, Live, ResultFile, Results } from "../rpc";

export interface Arrived {
  files: ResultFile[];
  outstanding: Record<string, unknown>[];
}

const GATHER_MS = 600;

export function useResults(executionId: number): Live<Arrived> {
  const awaited = useRef<ReadonlySet<unknown> | null>(null);
  return useLive<Arrived>(
    async (client) => {
      awaited.current = null;
      const { total, outstanding } = await client.call<Results>("execution.results", { execution_id: executionId, limit: 1 });
      const files = total ? await readAll<ResultFile>(client, "execution.results", { execution_id: executionId }) : [];
      // Before phase 1 is over nobody knows what is to come.
      if (total || outstanding.length) awaited.current = new Set(outstanding.map((row) => row.connection_id));
      return { files, outstanding };
    },
    ["execution.updated", "transfer.progress"],
    [executionId],
    { concerns: (event) => changesResults(event, executionId, awaited.current), gatherMs: GATHER_MS },
  );
}

/** Whether an event can change the results of an execution; `awaited`: the connections still to bring some, `null`: not known. */
export function changesResults(
  { type, data }: Pick<DaemonEvent, "type" | "data">,
  executionId: number,
  awaited: ReadonlySet<unknown> | null,
): boolean {
  if (data.execution_id !== executionId) return false;
  if (type === "execution.updated") return true;
  return isTerminal(String(data.status)) && (awaited === null || awaited.has(data.connection_id));
}
