// What the daemon finds in a drawing: by its rules, and by asking every peer that would run a part of it.

import { useEffect } from "react";
import { sameButPlaces } from "../graph/drawing";
import { namesOf } from "../graph/rules";
import type { Client, Plan, Validation } from "../rpc";
import { findingsOf, group, useDesign, useValue } from "./context";
import type { Finding, Findings } from "./context";
import type { DesignStore } from "./store";
import type { Value } from "./value";

export async function validated(client: Client, design: DesignStore): Promise<Findings> {
  const { drawing } = design;
  const answer = await client.call<Validation>("workflow.validate", { workflow_id: design.workflowId });
  const found = findingsOf(design, "validate", answer.problems);
  const problems = found.problems.map((finding) => {
    const wire = finding.wire === null ? undefined : design.drawing.wires.get(finding.wire);
    // A file that is chosen when it is executed is no fault of the drawing.
    const comesLater = finding.check === "source_path" && wire?.from === null && !wire.source_path;
    return comesLater ? { ...finding, warning: true } : finding;
  });
  return group("validate", drawing, problems);
}

export async function planned(client: Client, design: DesignStore): Promise<Findings> {
  const { drawing } = design;
  const plan = await client.call<Plan>("workflow.plan", { workflow_id: design.workflowId });
  const problems: Finding[] = [];
  const names = namesOf(drawing.nodes);
  for (const job of plan.jobs) {
    const node = design.nodeKeys.keyOf(job.node_id);
    const name = names.get(node) ?? `node ${job.node_id}`;
    const note = (message: string, warning: boolean): void => {
      problems.push({ check: "plan", message: `${name}: ${message}`, node, wire: null, warning });
    };
    if (!job.accepted) for (const reason of job.reasons.length > 0 ? job.reasons : ["not accepted"]) note(reason, false);
    for (const warning of job.warnings) note(warning, true);
  }
  for (const edge of plan.edges) {
    if (edge.reachable) continue;
    const message = edge.reason ?? "The two peers of this wire cannot reach each other";
    problems.push({ check: "plan", message, node: null, wire: design.wireKeys.keyOf(edge.connection_id), warning: false });
  }
  return group("plan", drawing, problems);
}

const CHECK_PAUSE_MS = 600;

/** Marks of a check stay true while the drawing changes: it is done again, quietly. Others are not so cheap, and grow old. */
export function useStillTrue(design: DesignStore, client: Client, findings: Value<Findings | null>): void {
  const { drawing } = useDesign();
  const held = useValue(findings, (value) => value);
  useEffect(() => {
    if (held?.source !== "validate" || sameButPlaces(held.drawing, drawing)) return undefined;
    const again = async (): Promise<void> => {
      await design.settled();
      const next = await validated(client, design);
      if (findings.get() === held) findings.set(next);
    };
    const timer = setTimeout(() => again().catch(() => undefined), CHECK_PAUSE_MS);
    return () => clearTimeout(timer);
  }, [held, drawing, design, client, findings]);
}
