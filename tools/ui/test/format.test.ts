import assert from "node:assert/strict";
import { test } from "node:test";
import * as format from "../src/parts/format";

test("sizes are short and never 1024 of a unit", () => {
  const told = [0, 1, 1023, 1024, 1536, 102_400, 1_048_575, 1_048_576, 5 * 2 ** 40, null].map(format.bytes);
  assert.deepEqual(told, ["0 B", "1 B", "1023 B", "1 KB", "1.5 KB", "100 KB", "1 MB", "1 MB", "5 TB", "–"]);
});

test("durations have at most two units", () => {
  const told = [0, 0.034, 0.34, 1.26, 12.4, 59.7, 75, 3600, 5400, 86_400, 90_000, null].map(format.duration);
  assert.deepEqual(told, ["0 ms", "34 ms", "0.3 s", "1.3 s", "12 s", "1 min", "1 min 15 s", "1 h", "1 h 30 min", "1 d", "1 d 1 h", "–"]);
});

test("times are told from now, dates beyond a week", () => {
  const now = Date.parse("2026-11-26T12:00:00Z");
  const at = (ms: number): string => format.relative(new Date(now + ms).toISOString(), now);
  assert.deepEqual(
    [at(0), at(-12_000), at(-125_000), at(-7_200_000), at(-86_400_000), at(-3 * 86_400_000), at(840_000)],
    ["just now", "12 s ago", "2 min ago", "2 h ago", "1 day ago", "3 days ago", "in 14 min"],
  );
  assert.match(at(-30 * 86_400_000), /^2026-10-2[67]$/);
  assert.equal(format.relative(null, now), "never");
});

test("what is left counts down to nothing", () => {
  const now = Date.parse("2026-11-26T12:00:00Z");
  assert.equal(format.countdown("2026-11-26T12:14:05.200Z", now), "14:06");
  assert.equal(format.countdown("2026-11-26T11:00:00Z", now), "0:00");
});

test("one is one and more are more", () => {
  assert.deepEqual([format.count(1, "job"), format.count(0, "job"), format.count(2, "delivery", "deliveries")], ["1 job", "0 jobs", "2 deliveries"]);
});

test("a peer id is cut in its middle, a short name not at all", () => {
  assert.equal(format.shortId("rnahttpiphrq7xutka46yzwjjkkvt7fwh6fabrnh3hqrodnlzo4p5x2wui"), "rnahttpi…5x2wui");
  assert.equal(format.shortId("beta"), "beta");
});
