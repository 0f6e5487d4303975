import assert from "node:assert/strict";
import { test } from "node:test";

import { RunStore } from "../src/canvas/run-store";
import type { Client, DaemonEvent } from "../src/rpc/client";

/** A daemon that is slow to answer: what happens before `answer` is not in what it says. */
function slowDaemon(latest: number | null = 3): {
  client: Client;
  calls: string[];
  tell: (type: string, data: Record<string, unknown>) => void;
  answer: () => void;
} {
  let tell: (event: DaemonEvent) => void = () => undefined;
  const held: (() => void)[] = [];
  const answers: Record<string, unknown> = {
    "execution.list": { items: latest === null ? [] : [{ execution_id: latest }], total: 1, next_after_id: null },
    "execution.get": { execution_id: 3, status: "RUNNING", error: null, jobs: [{ node_id: 1, status: "RUNNING", error: null }] },
    "transfer.list": {
      items: [{ transfer_id: "t", connection_id: 7, status: "ACTIVE", bytes_done: 1, size_bytes: 2 }],
      total: 1,
      next_after_id: null,
    },
  };
  const calls: string[] = [];
  const client = {
    call: (method: string) => {
      calls.push(method);
      return new Promise((resolve) => held.push(() => resolve(structuredClone(answers[method]))));
    },
    subscribe: (_types: string[], listener: typeof tell) => {
      tell = listener;
      return () => undefined;
    },
    onState: () => () => undefined,
  } as unknown as Client;
  return {
    client,
    calls,
    tell: (type, data) => tell({ seq: 1, time: null, type, data: { execution_id: 3, ...data } }),
    answer: () => held.splice(0).forEach((give) => give()),
  };
}

globalThis.requestAnimationFrame = () => 1;
globalThis.cancelAnimationFrame = () => undefined;
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));
// Longer than events are gathered for.
const gathered = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 400));

test("a run of another workflow is nothing to read for, one of this workflow is", async () => {
  const { client, calls, tell, answer } = slowDaemon(null);
  const runs = new RunStore(client, 1);
  const stop = runs.start();
  answer();
  await turn();
  for (const workflow_id of [2, null]) tell("execution.updated", { workflow_id, status: "PENDING" });
  await gathered();
  assert.deepEqual(calls, ["execution.list"]);
  tell("execution.updated", { workflow_id: 1, status: "PENDING" });
  await gathered();
  assert.deepEqual(calls, ["execution.list", "execution.list"]);
  stop();
});

test("nothing is said of whether it has run before that is known", async () => {
  const { client, answer } = slowDaemon(null);
  const runs = new RunStore(client, 1);
  const stop = runs.start();
  assert.deepEqual([runs.getState().loading, runs.getState().run], [true, null]);
  answer();
  await turn();
  assert.deepEqual([runs.getState().loading, runs.getState().run], [false, null]);
  stop();
});

test("what ends while a run is being read has ended, though the answer is older", async () => {
  const { client, tell, answer } = slowDaemon();
  const runs = new RunStore(client, 1);
  const stop = runs.start();
  answer();
  await turn();
  tell("job.updated", { node_id: 1, status: "COMPLETED", error: null });
  tell("transfer.progress", { transfer_id: "t", connection_id: 7, status: "COMPLETED", bytes_done: 2, size_bytes: 2 });
  answer();
  await turn();
  assert.equal(runs.shown?.nodes.get(1)?.status, "COMPLETED");
  assert.equal(runs.shown?.wires.get(7)?.status, "COMPLETED");
  stop();
});
