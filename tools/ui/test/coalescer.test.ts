import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Coalescer } from "../src/rpc/coalescer";

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("many asks are one read", () => {
  let reads = 0;
  const coalescer = new Coalescer(async () => void (reads += 1), 100);
  for (let ask = 0; ask < 50; ask += 1) coalescer.ask();
  mock.timers.tick(99);
  assert.equal(reads, 0);
  mock.timers.tick(1);
  assert.equal(reads, 1);
});

test("reads never overlap, and what is asked for meanwhile is read once more", async () => {
  const ends: (() => void)[] = [];
  const coalescer = new Coalescer(() => new Promise<void>((resolve) => ends.push(resolve)), 100);
  coalescer.now();
  coalescer.now();
  coalescer.ask();
  mock.timers.tick(100);
  assert.equal(ends.length, 1);
  ends[0]?.();
  await settled();
  mock.timers.tick(100);
  assert.equal(ends.length, 2);
});

test("nothing is read once it is stopped", () => {
  let reads = 0;
  const coalescer = new Coalescer(async () => void (reads += 1), 100);
  coalescer.ask();
  coalescer.stop();
  mock.timers.tick(200);
  coalescer.now();
  assert.equal(reads, 0);
});
