import assert from "node:assert/strict";
import { test } from "node:test";

import { errorWords } from "../src/parts/errors";
import { RpcError } from "../src/rpc/client";

test("what is said to programs is not shown to people", () => {
  const words = (message: string, hint: string): unknown => errorWords(new RpcError(1, message, { error: "X", hint }));
  assert.deepEqual(words("Invalid params: invite: this is not an invite", "rpc.discover says what peer.join takes."), {
    message: "invite: this is not an invite",
    hint: "",
  });
  for (const hint of [
    "Mend every problem listed in data.problems and try again.",
    "List what there is with the matching list method and use an id from there.",
  ]) {
    assert.deepEqual(words("Workflow 7 not found", hint), { message: "Workflow 7 not found", hint: "" });
  }
  assert.deepEqual(words("The disk is full", "Free some space."), { message: "The disk is full", hint: "Free some space." });
  assert.deepEqual(errorWords(new Error("plain")), { message: "plain", hint: "" });
});
