import type { JSX, ReactNode } from "react";
import { StateBadge, format } from "../parts";
import type { Executor, NodeCapabilities } from "../rpc";

/** What a machine is and can execute. */
export function capabilityFacts(what: NodeCapabilities): (readonly [string, ReactNode])[] {
  return [
    ["Platform", `${what.platform}, ${what.architecture}`],
    ["CPU cores", what.cpu_cores],
    ["Memory", format.bytes(what.memory_bytes)],
    ["Free disk", format.bytes(what.disk_free_bytes)],
    ["GPUs", what.gpus?.length ? what.gpus.join(", ") : "none"],
    ["Python", what.python],
    ["DOCKER", <ExecutorState key="docker" executor={what.executors?.docker} />],
    ["STANDALONE", <ExecutorState key="standalone" executor={what.executors?.standalone} />],
  ];
}

export function ExecutorState({ executor }: { executor: Executor | undefined }): JSX.Element {
  if (!executor) return <span className="muted">not told</span>;
  const sandbox = executor.sandbox ? `sandbox ${executor.sandbox}` : "";
  const about = [executor.available && executor.version ? `version ${executor.version}` : "", sandbox, executor.sandbox_reason ?? ""];
  return (
    <span className="stack stack--tight">
      <span className="row">
        <StateBadge
          state={executor.available ? "available" : "unavailable"}
          word={executor.available ? "Available" : "Not available"}
          tone={executor.available ? "done" : "idle"}
        />
        <span className="muted small">{about.filter(Boolean).join(", ")}</span>
      </span>
      {!executor.available && executor.reason && <span className="muted small">{executor.reason}</span>}
    </span>
  );
}
