import assert from "node:assert/strict";
import { test } from "node:test";

import { runWords } from "../src/canvas/wire-words";
import type { WireRun } from "../src/graph/run";

const run: WireRun = {
  status: "ACTIVE", derived: false, bytes_done: 3 << 20, size_bytes: 12 << 20, rate_bytes_s: 1 << 20, left_s: 9, attempts: 1, error: null,
};

for (const [about, changes, words] of [
  ["under way: how fast it is, and how far", {}, ["Active · 1 MB/s", "3 MB of 12 MB"]],
  ["that has just begun: how far it is", { rate_bytes_s: null }, ["Active", "3 MB of 12 MB"]],
  ["whose size is not known: how much has passed", { size_bytes: 0 }, ["Active · 1 MB/s", "3 MB"]],
  ["that has arrived: how much that was", { status: "COMPLETED", bytes_done: 12 << 20 }, ["Arrived", "12 MB"]],
  ["that has failed before: that it waits to be tried again", { status: "PENDING" }, ["Waiting", "to try again"]],
  ["that has not been tried", { status: "PENDING", attempts: 0 }, ["Pending", ""]],
  ["between two other peers: a word, and no bytes", { status: "BEING_SENT", derived: true }, ["Being sent", ""]],
] as const) {
  test(`a wire says of a delivery ${about}`, () => assert.deepEqual(runWords({ ...run, ...changes }), words));
}
