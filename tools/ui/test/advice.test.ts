import assert from "node:assert/strict";
import { test } from "node:test";

import { adviceOf, plainly } from "../src/views/advice";

// Every command that rules/reasons.py and rules/explain.py lead on with.
for (const command of [
  "rnd watch 3",
  "rnd show 3",
  "rnd retry 3",
  "rnd results 3",
  "rnd transfers",
  "rnd transfers 3",
  "rnd logs 8",
  "rnd logs 8 --stream stderr",
  "rnd rpc job.get job_execution_id=8",
  "rnd rpc job.interfaces job_execution_id=8",
  "rnd rpc job.list status=RUNNING",
  "rnd service list",
  "rnd service set-status 4 ACTIVE",
  "rnd status",
  "Its owner has to let this peer in: rnd peer allow there, or rnd peer invite there and rnd peer join here.",
]) {
  test(`nobody is sent to a shell for ${command}`, () => {
    const { text, isCommand } = adviceOf(command, 3);
    assert.equal(isCommand, undefined);
    assert.ok(text && !text.includes("rnd "), text);
  });
}

test("what the page has nothing for stays a command, and words stay words", () => {
  assert.deepEqual(adviceOf("rnd frobnicate 3", 3), { text: "rnd frobnicate 3", isCommand: true });
  assert.deepEqual(adviceOf("Check that the peer runs.", 3), { text: "Check that the peer runs." });
});

test("what its owner can do there is said beside what can be done here", () => {
  assert.deepEqual(adviceOf("rnd show 3   (its owner, there: rnd service set-status 4 ACTIVE)", 3), {
    text: "See the jobs and transfers of execution 3.",
    href: "#/executions/3",
    atOwner: "Activate it again, under Services.",
  });
  assert.equal(adviceOf("rnd logs 8   (its owner, there: rnd watch 5)", 3).atOwner, undefined);
});

for (const [told, plain] of [
  ["The input from slow (connection 5) comes when that job has ended; it is RUNNING.", "The input from slow comes when that job has ended; it is running."],
  ["Service count is INACTIVE.", "Service count is inactive."],
  ["It failed (exit code 3): Process exited with code 3; last words on stderr: no", "It failed with exit code 3: last words on stderr: no"],
  ["It failed (exit code 3): Process exited with code 3", "It failed with exit code 3"],
  ["It failed (exit code 3): Process exited with code 31", "It failed (exit code 3): Process exited with code 31"],
  ["It waits for RUNNING (a name) and for what is called (connection five).", "It waits for RUNNING (a name) and for what is called (connection five)."],
] as const) {
  test(`a reason in words: ${told}`, () => assert.equal(plainly(told), plain));
}
