// Which designs this window has to answer for: the open one, and those left before the daemon had all that was drawn.

import type { Client } from "../rpc";
import { DesignStore } from "./store";
import type { OnRefusal } from "./store";

let open: DesignStore[] = [];

/** The design of a workflow: one that was left with something unsent is gone on with. */
export function designOf(client: Client, workflowId: number, onRefusal: OnRefusal): DesignStore {
  const left = open.find((one) => one.client === client && one.workflowId === workflowId && one.hasUnsavedEdits);
  return left ?? new DesignStore(client, workflowId, onRefusal);
}

/** Begin to follow a design. Returns how to leave it. */
export function follow(design: DesignStore): () => void {
  open = [...open.filter((one) => one !== design && one.hasUnsavedEdits), design];
  return design.start();
}

/** Whether something drawn would be lost with this window. */
export function isAnythingUnsent(): boolean {
  return open.some((one) => one.hasUnsavedEdits);
}
