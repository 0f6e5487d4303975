import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { DrawnRun } from "../src/canvas/drawn-run";
import { apply } from "../src/graph/drawing";
import type { Drawing, DrawnNode, DrawnWire, Edit } from "../src/graph/drawing";
import { Keys } from "../src/graph/ids";
import { readRan, stillDrawn } from "../src/graph/ran";
import { readRun, wireRun } from "../src/graph/run";
import type { Run } from "../src/graph/run";
import type { Definition, Execution, ServiceType } from "../src/rpc/types";

// text (DATA, 1) -> sort (STANDALONE, 2): STDOUT to the MOUNT /in; sort -> this peer: the MOUNT /out.
const PEER = { include: [], peer_file_name: null };
const DEFINITION: Definition = {
  jobs: [
    {
      node_id: 1, service_id: 11, service_type: "DATA", executor_peer_id: "there",
      interfaces: [
        {
          type: "STDOUT", path: "/output/text.txt", mount_function: null,
          interface_peers: [{ ...PEER, connection_id: 5, peer_workflow_node_id: 2, peer_mount_function: "INPUT" }],
        },
      ],
    },
    {
      node_id: 2, service_id: 12, service_type: "STANDALONE", executor_peer_id: "elsewhere", cmd: ["-n"],
      interfaces: [
        {
          type: "MOUNT", path: "/in", mount_function: "INPUT",
          interface_peers: [{ ...PEER, connection_id: 5, peer_workflow_node_id: 1, peer_mount_function: "OUTPUT" }],
        },
        {
          type: "MOUNT", path: "/out", mount_function: "OUTPUT",
          interface_peers: [
            { ...PEER, connection_id: 6, peer_workflow_node_id: null, peer_mount_function: "INPUT", peer_file_name: "sorted/" },
          ],
        },
      ],
    },
  ],
};

function node(key: number, service_type: ServiceType, changes: Partial<DrawnNode>): DrawnNode {
  return {
    key, service_id: 10 + key, peer_id: "elsewhere", name: "", service_name: "s", service_type, order: key, gui_x: 0, gui_y: 0,
    interfaces: [], entrypoint: null, cmd: null, pricing_amount: 0, pricing_type: "FREE", service_revision: 1, pin: false, ...changes,
  };
}

function wire(key: number, from: number, to: number | null, changes: Partial<DrawnWire>): DrawnWire {
  return {
    key, from, from_interface_type: "MOUNT", from_interface_path: "", to, to_interface_type: "MOUNT", to_interface_path: "",
    destination_file_name: null, include: [], source_path: null, ...changes,
  };
}

const mount = { interface_type: "MOUNT", required: false, description: "" } as const;
const DRAWN: Drawing = {
  nodes: new Map([
    [1, node(1, "DATA", { peer_id: "there", interfaces: [{ ...mount, interface_type: "STDOUT", path: "", mount_function: null }] })],
    [
      2,
      node(2, "STANDALONE", {
        cmd: ["-n"],
        interfaces: [{ ...mount, path: "/out/", mount_function: "OUTPUT" }, { ...mount, path: "/in", mount_function: "INPUT" }],
      }),
    ],
  ]),
  wires: new Map([
    [5, wire(5, 1, 2, { from_interface_type: "STDOUT" })],
    [6, wire(6, 2, null, { from_interface_path: "/out", destination_file_name: "sorted/" })],
  ]),
  selfPeer: { x: 0, y: 0 },
};

function keys(ids: number[]): Keys {
  const made = new Keys();
  for (const id of ids) made.keyOf(id);
  return made;
}

const NODE_KEYS = keys([1, 2, 3]);
const WIRE_KEYS = keys([5, 6, 7]);
const RAN = readRan(DEFINITION);

describe("what is still drawn as it ran", () => {
  const of = (...edits: Edit[]): [number[], number[], boolean] => {
    const { nodes, wires, differs } = stillDrawn(edits.reduce(apply, DRAWN), NODE_KEYS, WIRE_KEYS, RAN);
    return [[...nodes.keys()], [...wires.keys()], differs];
  };
  const node2 = (changes: Partial<DrawnNode>): Edit => ({ kind: "change_node", key: 2, changes });
  const wire6 = (changes: Partial<DrawnWire>): Edit => ({ kind: "change_wire", key: 6, changes });

  test("all of it, where nothing but names and places have changed", () => {
    assert.deepEqual(of(), [[1, 2], [5, 6], false]);
    assert.deepEqual(of(node2({ name: "mine", gui_x: 400 }), { kind: "place_self_peer", at: { x: 9, y: 9 } }), [[1, 2], [5, 6], false]);
  });

  for (const changes of [
    { cmd: ["-r"] }, { cmd: null }, { entrypoint: ["/bin/sort"] }, { service_id: 99 }, { peer_id: "there" }, { pin: true },
    { interfaces: [{ ...mount, path: "/out", mount_function: "OUTPUT" as const }, { ...mount, path: "/in", mount_function: "BOTH" as const }] },
  ]) {
    test(`not a node whose ${Object.keys(changes)[0]} has changed`, () => assert.deepEqual(of(node2(changes)), [[1], [5, 6], true]));
  }

  for (const changes of [{ destination_file_name: null }, { include: ["*.csv"] }, { from_interface_path: "/in" }, { to: 1 }]) {
    test(`not a wire whose ${Object.keys(changes)[0]} has changed`, () => assert.deepEqual(of(wire6(changes)), [[1, 2], [5], true]));
  }

  test("what was added or taken away makes it another drawing", () => {
    assert.deepEqual(of({ kind: "add_node", node: node(3, "DATA", {}) }), [[1, 2], [5, 6], true]);
    assert.deepEqual(of({ kind: "remove_wire", key: 6 }), [[1, 2], [5], true]);
  });
});

function runOf(sender: string, receiver: string, status = "RUNNING"): Run {
  const jobs = [{ node_id: 1, status: sender, error: null }, { node_id: 2, status: receiver, error: null }];
  return readRun({ execution_id: 3, status, error: null, jobs } as unknown as Execution, [], RAN, null);
}

describe("a delivery between two other peers", () => {
  for (const [sender, receiver, word] of [
    ["PENDING", "PENDING", "WAITING"],
    ["READY", "IDLE", "WAITING"],
    ["RUNNING", "IDLE", "BEING_SENT"], // DATA runs as long as it delivers
    ["RUNNING", "READY", "ARRIVED"],
    ["COMPLETED", "IDLE", "ARRIVED"],
    ["ERRORED", "CANCELLED", "NOT_KNOWN"], // DATA may have sent to some and failed at others
    ["RUNNING", "ERRORED", "NOT_KNOWN"],
  ]) {
    test(`is ${word} where its sender is ${sender} and its receiver ${receiver}`, () => {
      const told = wireRun(runOf(sender as string, receiver as string), 5);
      assert.deepEqual([told?.status, told?.derived], [word, true]);
    });
  }

  test("of a program is being sent once that has ended, and has arrived when the run is complete", () => {
    assert.equal(wireRun(runOf("COMPLETED", "RUNNING"), 6)?.status, "WAITING");
    assert.equal(wireRun(runOf("COMPLETED", "COMPLETED"), 6)?.status, "BEING_SENT");
    assert.equal(wireRun(runOf("COMPLETED", "COMPLETED", "COMPLETED"), 6)?.status, "ARRIVED");
    assert.equal(wireRun(runOf("COMPLETED", "ERRORED"), 6)?.status, "NOT_SENT");
  });
});

test("a run is shown on nodes that are as it ran, and where one is not, which run has", () => {
  let shown: Run | null = runOf("COMPLETED", "RUNNING");
  const design = { drawing: DRAWN, nodeKeys: NODE_KEYS, wireKeys: WIRE_KEYS, subscribe: () => () => undefined };
  const drawnRun = new DrawnRun(design, { get shown() { return shown; }, subscribe: () => () => undefined });
  assert.equal(drawnRun.nodeRun(2)?.status, "RUNNING");
  assert.equal(drawnRun.otherDrawing, null);
  const { nodes } = drawnRun;
  assert.equal(drawnRun.nodes, nodes);
  design.drawing = apply(DRAWN, { kind: "change_node", key: 2, changes: { cmd: ["-r"] } });
  assert.deepEqual([drawnRun.nodeRun(2), drawnRun.ranOtherwise(2), drawnRun.ranOtherwise(1)], [undefined, 3, null]);
  assert.deepEqual([[...drawnRun.nodes.keys()], drawnRun.otherDrawing], [[1], 3]);
  shown = null;
  assert.deepEqual([drawnRun.nodeRun(1), drawnRun.otherDrawing], [undefined, null]);
});
