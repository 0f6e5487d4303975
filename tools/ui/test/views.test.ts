// The pure parts of the views.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { executionsHash, parseRoute, tokenOfHash } from "../src/routes";
import { saveName, uploadName } from "../src/views/file_names";
import { layOut, markText, stepFor } from "../src/views/gantt";
import type { Span } from "../src/views/gantt";
import { offsetNearEnd } from "../src/views/log_tail";
import { imageType, previewOf } from "../src/views/preview";
import { pathOf, qrCode } from "../src/views/qr";

test("addresses name views, and what is none is none", () => {
  assert.deepEqual(parseRoute(""), { view: "workflows" });
  assert.deepEqual(parseRoute("#/workflows/12"), { view: "workflow", workflowId: 12 });
  assert.deepEqual(parseRoute("#/executions/3"), { view: "execution", executionId: 3 });
  assert.deepEqual(parseRoute("#/node"), { view: "node" });
  for (const hash of ["#/workflows/0", "#/workflows/x", "#/workflows/1/2", "#/peers/1", "#/nothing", "#/workflows/1e3"]) {
    assert.deepEqual(parseRoute(hash), { view: "unknown" }, hash);
  }
});

test("the filter of the executions is in the address", () => {
  assert.equal(executionsHash(4, "FAILED"), "#/executions?workflow=4&status=FAILED");
  assert.equal(executionsHash(null, null), "#/executions");
  assert.deepEqual(parseRoute(executionsHash(4, "FAILED")), { view: "executions", workflowId: 4, status: "FAILED" });
  assert.deepEqual(parseRoute("#/executions?workflow=-1"), { view: "executions", workflowId: null, status: null });
});

test("a token is found in an address and nowhere else", () => {
  assert.equal(tokenOfHash("#token=ab%2Bc"), "ab+c");
  assert.equal(tokenOfHash("#t=abc"), "abc");
  for (const hash of ["", "#/workflows", "#token=", "#token=%E0%A4%A", "#/x?token=abc"]) assert.equal(tokenOfHash(hash), null, hash);
});

test("any file name becomes one that an upload may have", () => {
  assert.equal(uploadName("words.txt"), "words.txt");
  assert.equal(uploadName("..résumé (final).pdf"), "resume-final-.pdf");
  assert.equal(uploadName("日本"), "file");
  assert.equal(uploadName("a".repeat(300)).length, 128);
  assert.equal(uploadName("words.txt", new Set(["words.txt", "words-2.txt"])), "words-3.txt");
  const long = `${"a".repeat(124)}.txt`;
  assert.match(uploadName(long, new Set([long])), /^[A-Za-z0-9._-]{1,128}$/);
});

test("a workflow is saved under its name without what file systems dislike", () => {
  assert.equal(saveName("Zählen / ../etc", ".rnd.json"), "Zählen - ..-etc.rnd.json");
  assert.equal(saveName("///", ".rnd.json"), "-.rnd.json".replace("-", "workflow"));
});

const span = (start: number | null, end: number | null, state = "COMPLETED"): Span => ({
  key: `${start}`,
  label: "job",
  title: "job",
  kind: "job",
  state,
  start,
  end,
  detail: "",
});

test("bars lie between the beginning and the end of an execution", () => {
  const { bars, marks, now, seconds } = layOut([span(2000, 4000), span(4000, 10_000), span(null, null, "IDLE")], 0, 10_000, 99_000);
  assert.deepEqual(bars.map(({ from, to }) => [from, to]), [[0.2, 0.4], [0.4, 1], [null, null]]);
  assert.deepEqual(marks.map(({ text }) => text), ["0", "2 s", "4 s", "6 s", "8 s", "10 s"]);
  assert.equal(now, null);
  assert.equal(seconds, 10);
});

test("what goes on reaches to now", () => {
  const { bars, now } = layOut([span(5000, null, "RUNNING")], 0, null, 20_000);
  assert.deepEqual(bars.map(({ from, to }) => [from, to]), [[0.25, 1]]);
  assert.equal(now, 1);
});

test("a clock of another peer that is ahead or behind leaves every bar on the drawing", () => {
  const { bars } = layOut([span(-500, 200), span(900, 4000)], 0, 1000, 9000);
  for (const { from, to } of bars) assert.ok(from !== null && to !== null && from >= 0 && to <= 1 && from <= to);
});

test("an execution without jobs has a timeline all the same", () => {
  assert.deepEqual(layOut([], null, null, 1000).bars, []);
});

test("there are never too many marks, and they share a unit", () => {
  for (const seconds of [0.05, 0.3, 7, 61, 4000, 90_000, 3e7]) assert.ok(seconds / stepFor(seconds, 6) <= 6, String(seconds));
  assert.deepEqual([markText(0.2, 0.1), markText(75, 15), markText(600, 300), markText(5400, 900), markText(7200, 3600)], [
    "0.2 s",
    "1:15 min",
    "10 min",
    "1:30 h",
    "2 h",
  ]);
});

test("the end of a long stream is found in few steps", async () => {
  for (const size of [300_000, 1_000_000, 3_000_000_001]) {
    let asked = 0;
    const at = await offsetNearEnd(async (offset) => (asked++, offset < size), 262_144, 65_536);
    assert.ok(at < size && size - at <= 65_536 + 1, `${size}: ${at}`);
    assert.ok(asked <= 34, `${size}: ${asked}`);
  }
});

test("a result is what its bytes say", () => {
  const text = (words: string): Uint8Array => new TextEncoder().encode(words);
  assert.equal(imageType(Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0)), "image/png");
  assert.equal(imageType(Uint8Array.of(0xff, 0xd8, 0xff, 0xe0)), "image/jpeg");
  assert.equal(imageType(text("RIFF1234WEBPVP8 ")), "image/webp");
  assert.equal(imageType(text("1234567 WEBP")), null);
  assert.equal(imageType(text("BMW is a make of cars, and this is text")), null);
  assert.deepEqual(previewOf(text("<svg onload=alert(1)>")), { kind: "text", text: "<svg onload=alert(1)>" });
  assert.deepEqual(previewOf(text("caf\u00e9").slice(0, 4)), { kind: "text", text: "caf" });
  assert.deepEqual(previewOf(Uint8Array.of(0, 1, 2, 3)), { kind: "none" });
  assert.deepEqual(previewOf(Uint8Array.of(0xc3, 0x28)), { kind: "none" });
});

// Made once with the Python package qrcode 8.2 (byte mode, level M, the version and mask given).
const CODES: [text: string, version: number, mask: number, sha256: string][] = [
  ["rnd", 1, 0, "7745ef3c6b961435a985e584119e0944460026ca83e8338f44f777e60877b2b1"],
  [
    "rnd-invite:1/rnahttpiphrq7xutka46yzwjjkkvt7fwh6fabrnh3hqrodnlzo4p5x2wui/codzkelv4iwu7c2ows4pouphqi/127.0.0.1:33825/ulnw6bl4",
    8,
    2,
    "17cea6ac360541f2dffa193f9309105ca6b1448ec71d9948ef44c3e39e442f08",
  ],
  ["é".repeat(100), 10, 5, "34e48fce3ca8606b348881a1ba2f7af995480e52c778c2fc4150939cbe3d8047"],
  ["x".repeat(1000), 26, 7, "741156d013c5c8f8f8771003aed6908c3b3e13b2311d61d2c6951364cf9ff0bb"],
];

test("QR codes are, module by module, those of another encoder", () => {
  for (const [text, version, mask, sha256] of CODES) {
    const code = qrCode(text, mask);
    const rows = code.modules.map((row) => row.map((dark) => (dark ? "1" : "0")).join("")).join("\n");
    assert.equal(code.version, version);
    assert.equal(createHash("sha256").update(rows).digest("hex"), sha256, `version ${version}`);
  }
});

test("a QR code holds 2331 bytes and not one more", () => {
  assert.equal(qrCode("x".repeat(2331), 0).version, 40);
  assert.throws(() => qrCode("x".repeat(2332)), RangeError);
});

test("the path of a QR code is made of runs", () => {
  assert.equal(pathOf([[true, true, false, true], [false, false, false, false]]), "M0 0h2v1h-2zM3 0h1v1h-1z");
});
