import assert from "node:assert/strict";
import { test } from "node:test";
import { changesResults } from "../src/views/results";

const transfer = (status: string, connection_id = 3, execution_id = 7) => ({
  type: "transfer.progress",
  data: { execution_id, connection_id, status },
});

test("results are read again when a delivery that is awaited has ended, not while bytes move", () => {
  const awaited = new Set([3]);
  assert.deepEqual(
    ["PENDING", "ACTIVE", "COMPLETED", "FAILED"].map((status) => changesResults(transfer(status), 7, awaited)),
    [false, false, true, true],
  );
  assert.equal(changesResults(transfer("COMPLETED", 4), 7, awaited), false, "between two jobs");
  assert.equal(changesResults(transfer("COMPLETED", 3, 8), 7, awaited), false, "of another execution");
  assert.equal(changesResults(transfer("COMPLETED", 4), 7, null), true, "what is awaited is not known yet");
});

test("results are read again when the execution moves on", () => {
  assert.equal(changesResults({ type: "execution.updated", data: { execution_id: 7, status: "RUNNING" } }, 7, new Set()), true);
  assert.equal(changesResults({ type: "execution.updated", data: { execution_id: 8, status: "FAILED" } }, 7, null), false);
});
