import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY } from "../src/graph/drawing";
import type { Drawing, DrawnNode, DrawnWire, Key, NodeRef } from "../src/graph/drawing";
import { fittingPair } from "../src/graph/pairs";
import type { ServiceType } from "../src/rpc/types";

const NODE: Omit<DrawnNode, "key" | "service_type" | "interfaces"> = {
  service_id: 1, peer_id: "here", name: "", service_name: "s", order: 1, gui_x: 0, gui_y: 0, entrypoint: null, cmd: null,
  pricing_amount: 0, pricing_type: "FREE", service_revision: 1, pin: false,
};

/** Nodes 1, 2, 3 ... of these types, and plain wires between them. */
function drawing(types: ServiceType[], ...wires: [NodeRef, NodeRef][]): Drawing {
  const stdout = { interface_type: "STDOUT" as const, path: "", mount_function: null, required: false, description: "" };
  const nodes = types.map((service_type, index): [Key, DrawnNode] => [
    index + 1,
    { ...NODE, key: index + 1, service_type, interfaces: service_type === "DATA" ? [stdout] : [] },
  ]);
  const drawn = wires.map(([from, to], index): [Key, DrawnWire] => [
    index + 1,
    {
      key: index + 1, from, from_interface_type: from === null ? "MOUNT" : "STDOUT", from_interface_path: "", to,
      to_interface_type: to === null ? "MOUNT" : "STDIN", to_interface_path: "", destination_file_name: null, include: [],
      source_path: null,
    },
  ]);
  return { ...EMPTY, nodes: new Map(nodes), wires: new Map(drawn) };
}

test("a first wire leads from one node to the next", () => {
  assert.deepEqual(fittingPair(drawing(["DATA", "DOCKER"]), {}), [1, 2]);
  assert.deepEqual(fittingPair(drawing(["DOCKER", "DATA"]), {}), [1, null]);
});

test("a pair that a wire joins already is not chosen, nor one that would close a circle", () => {
  assert.deepEqual(fittingPair(drawing(["DATA", "DOCKER"], [1, 2]), {}), [2, null]);
  assert.deepEqual(fittingPair(drawing(["DATA", "DOCKER", "DOCKER"], [1, 2]), {}), [2, 3]);
  assert.deepEqual(fittingPair(drawing(["DATA", "DOCKER"], [1, 2], [2, null]), {}), [1, null]);
});

test("an end that is known stays", () => {
  const two = drawing(["DATA", "DOCKER", "DOCKER"], [1, 2]);
  assert.deepEqual(fittingPair(two, { from: { node: 1 } }), [1, 3]);
  assert.deepEqual(fittingPair(two, { to: { node: 2 } }), [3, 2]);
  assert.deepEqual(fittingPair(two, { from: { node: 1 }, to: { node: 2 } }), [1, 2]);
  assert.deepEqual(fittingPair(two, { from: { node: null } }), [null, 2]);
});

test("where nothing fits there is a pair all the same", () => {
  assert.deepEqual(fittingPair(EMPTY, {}), [null, null]);
  assert.deepEqual(fittingPair(drawing(["DATA"], [1, null]), {}), [1, null]);
});
