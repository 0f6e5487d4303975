import assert from "node:assert/strict";
import { test } from "node:test";

import { readRan } from "../src/graph/ran";
import type { Definition, Transfer } from "../src/rpc/types";
import { spansOf } from "../src/views/spans";
import type { JobRow } from "../src/views/spans";

const DEFINITION = {
  jobs: [
    {
      node_id: 1, service_id: 1, service_type: "STANDALONE", executor_peer_id: "there",
      interfaces: [
        {
          type: "STDOUT", path: "/output", mount_function: null,
          interface_peers: [
            { connection_id: 5, peer_workflow_node_id: 2, peer_mount_function: "INPUT", include: [], peer_file_name: null },
            { connection_id: 6, peer_workflow_node_id: null, peer_mount_function: "INPUT", include: [], peer_file_name: null },
          ],
        },
      ],
    },
    { node_id: 2, service_id: 1, service_type: "STANDALONE", executor_peer_id: "there", interfaces: [] },
  ],
} as unknown as Definition;

const job = (id: number, job_name: string, started_at: string | null): JobRow =>
  ({ id, node_id: id, job_name, status: "RUNNING", error: null, executor_peer_id: "there", run: { started_at, ended_at: null } }) as unknown as JobRow;
const transfer = (transfer_id: string, connection_id: number, started_at: string): Transfer =>
  ({
    transfer_id, connection_id, started_at, completed_at: null, status: "COMPLETED", direction: "RECEIVE", peer_id: "there",
    file_count: 1, size_bytes: 3, error: null,
  }) as unknown as Transfer;
const JOBS = [job(2, "later", "2026-01-01T00:00:02.000Z"), job(1, "early", "2026-01-01T00:00:01.000Z")];
const TRANSFERS = [transfer("b", 6, "2026-01-01T00:00:04.000Z"), transfer("a", 5, "2026-01-01T00:00:03.000Z")];

test("deliveries are called as the execution ran them, jobs come first, each by its start", () => {
  const spans = spansOf(JOBS, TRANSFERS, readRan(DEFINITION).wires, () => "office");
  assert.deepEqual(spans.map(({ label }) => label), ["early", "later", "early → later", "early → this peer"]);
  assert.equal(spans[0]?.title, "early on office");
  assert.equal(spans[3]?.detail, "3 B, 1 file");
});

test("as long as nobody knows what has run, a delivery is called no more than that", () => {
  assert.deepEqual(spansOf([], TRANSFERS, undefined, () => "office").map(({ label }) => label), ["Delivery", "Delivery"]);
});
