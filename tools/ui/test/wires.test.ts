// The designer's rules of wires against the daemon's: every wire between a few nodes, with the reason word for word.

import assert from "node:assert/strict";
import { test } from "node:test";

import { EMPTY, applyAll } from "../src/graph/drawing";
import type { DrawnNode } from "../src/graph/drawing";
import { pairRefusal } from "../src/graph/rules";
import type { InterfaceType } from "../src/rpc/types";
import table from "./wires.json";

type End = [number | null, InterfaceType, string];
const nodes = applyAll(
  EMPTY,
  table.nodes.map((node) => ({ kind: "add_node", node: node as unknown as DrawnNode }) as const),
).nodes;

const ends = table.ends as unknown as End[];

test(`${ends.length ** 2} wires are allowed and refused as the daemon does it`, () => {
  const wrong: unknown[] = [];
  ends.forEach((from, row) => {
    ends.forEach((to, column) => {
      const expected = table.reasons[table.refused[row]?.[column] ?? -1];
      const found = pairRefusal(
        { node: from[0], side: "out", interface_type: from[1], path: from[2] },
        { node: to[0], side: "in", interface_type: to[1], path: to[2] },
        nodes,
      );
      // The daemon also names the parameter with which to choose, which is nothing that people see on a canvas.
      const message = expected?.message.replace(/ with (from|to)_interface_path$/, "");
      if (expected === undefined || found?.check !== expected?.check || found?.message !== message) {
        wrong.push({ from, to, expected, found });
      }
    });
  });
  assert.deepEqual(wrong, []);
});
