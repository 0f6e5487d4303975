import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { copied, pasted } from "../src/canvas/clipboard";
import { applyAll } from "../src/graph/drawing";
import type { Drawing, DrawnNode, DrawnWire } from "../src/graph/drawing";
import { Keys } from "../src/graph/ids";

const NODE: DrawnNode = {
  key: 1,
  service_id: 4,
  peer_id: "here",
  name: "words",
  service_name: "count",
  service_type: "DOCKER",
  order: 1,
  gui_x: 20.5,
  gui_y: -40,
  interfaces: [{ interface_type: "MOUNT", path: "/in", mount_function: "INPUT", required: true, description: "" }],
  entrypoint: null,
  cmd: ["a", ""],
  pricing_amount: 0.5,
  pricing_type: "FREE",
  service_revision: null,
  pin: true,
};
const WIRE: DrawnWire = {
  key: 1,
  from: null,
  from_interface_type: "MOUNT",
  from_interface_path: "",
  to: 1,
  to_interface_type: "MOUNT",
  to_interface_path: "/in",
  destination_file_name: null,
  include: ["*.csv"],
  source_path: "/x",
};
const DRAWN: Drawing = { nodes: new Map([[1, NODE]]), wires: new Map([[1, WIRE]]), selfPeer: { x: 0, y: 0 } };

function paste(text: string): ReturnType<typeof pasted> {
  return pasted(text, DRAWN, new Keys(), new Keys());
}

/** What Ctrl C gives, changed at one place. */
function forged(change: (value: { nodes: Record<string, unknown>[]; wires: Record<string, unknown>[] }) => void): string {
  const value = JSON.parse(copied(DRAWN, [1]) ?? "");
  change(value);
  return JSON.stringify(value);
}

describe("what is pasted", () => {
  test("is what was copied, under keys and a name of its own, beside it", () => {
    const found = paste(copied(DRAWN, [1]) ?? "");
    const after = applyAll(DRAWN, found?.edits ?? []);
    const [key = 0] = found?.keys ?? [];
    assert.deepEqual(after.nodes.get(key), { ...NODE, key, name: "words 2", order: 2, gui_x: 60.5, gui_y: 0 });
    assert.deepEqual([...after.wires.values()][1], { ...WIRE, key: -1, to: key });
  });

  const lies: [string, Parameters<typeof forged>[0]][] = [
    ["an interface without a path", ({ nodes }) => (nodes[0]!.interfaces = [{ interface_type: "MOUNT" }])],
    ["interfaces that are no list", ({ nodes }) => (nodes[0]!.interfaces = "MOUNT")],
    ["a type that there is not", ({ nodes }) => (nodes[0]!.service_type = "constructor")],
    ["a place that is no number", ({ nodes }) => (nodes[0]!.gui_x = "0")],
    ["a place beyond every screen", ({ nodes }) => (nodes[0]!.gui_x = 1e300)],
    ["a name that is an object", ({ nodes }) => (nodes[0]!.name = {})],
    ["a command that is a text", ({ nodes }) => (nodes[0]!.cmd = "rm")],
    ["words that are numbers", ({ nodes }) => (nodes[0]!.cmd = [1])],
    ["a node that is nothing", ({ nodes }) => nodes.push(null as never)],
    ["a wire that names no interface", ({ wires }) => delete wires[0]!.to_interface_type],
    ["patterns that are no list", ({ wires }) => (wires[0]!.include = null)],
  ];
  for (const [what, lie] of lies) test(`is nothing with ${what}`, () => assert.equal(paste(forged(lie)), null));

  test("is nothing where it is another text", () => {
    for (const text of ["", "rnd.nodes/1", "null", '"rnd.nodes/1"', '{"format":"rnd.nodes/1"}']) {
      assert.equal(paste(text), null);
    }
  });
});
