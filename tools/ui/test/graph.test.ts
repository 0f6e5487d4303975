import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { EMPTY, apply, applyAll, inverse, keepEqual, meaningful, sameButPlaces } from "../src/graph/drawing";
import type { Drawing, DrawnNode, DrawnWire, Edit, Key, NodeRef } from "../src/graph/drawing";
import { endsOf, handleAt, handleId, handlesOf, handlesWithMissing, parseHandleId } from "../src/graph/handles";
import type { End } from "../src/graph/handles";
import { History } from "../src/graph/history";
import { Keys, nodeElementId, parseNodeElementId } from "../src/graph/ids";
import { GRID, arranging, freePlace, isAnyInSight, layout, nodeHeight, placing, roomyPlace } from "../src/graph/layout";
import { feedersOf, namesOf, pairRefusal, refusal } from "../src/graph/rules";
import type { Ran } from "../src/graph/ran";
import { applyRunEvent, readRun } from "../src/graph/run";
import type { Execution, InterfaceType, MountFunction, ServiceInterface, ServiceType, Transfer } from "../src/rpc/types";

function mount(path: string, mount_function: MountFunction): ServiceInterface {
  return { interface_type: "MOUNT", path, mount_function, required: false, description: "" };
}

function stream(interface_type: InterfaceType): ServiceInterface {
  return { interface_type, path: "", mount_function: null, required: false, description: "" };
}

function node(key: Key, service_type: ServiceType = "DOCKER", interfaces: ServiceInterface[] = []): DrawnNode {
  return {
    key,
    service_id: 1,
    peer_id: "here",
    name: "",
    service_name: `s${key}`,
    service_type,
    order: key,
    gui_x: 0,
    gui_y: 0,
    interfaces: service_type === "DATA" ? [stream("STDOUT"), ...interfaces] : interfaces,
    entrypoint: null,
    cmd: null,
    pricing_amount: 0,
    pricing_type: "FREE",
    service_revision: 1,
    pin: false,
  };
}

function wire(key: Key, from: NodeRef, to: NodeRef, changes: Partial<DrawnWire> = {}): DrawnWire {
  return {
    key,
    from,
    from_interface_type: from === null ? "MOUNT" : "STDOUT",
    from_interface_path: "",
    to,
    to_interface_type: to === null ? "MOUNT" : "STDIN",
    to_interface_path: "",
    destination_file_name: null,
    include: [],
    source_path: null,
    ...changes,
  };
}

function drawing(nodes: DrawnNode[], wires: DrawnWire[] = []): Drawing {
  return {
    nodes: new Map(nodes.map((one) => [one.key, one])),
    wires: new Map(wires.map((one) => [one.key, one])),
    selfPeer: { x: 0, y: 0 },
  };
}

function out(ref: NodeRef, interface_type: InterfaceType = "STDOUT", path = ""): End {
  return { node: ref, side: "out", interface_type, path };
}

function into(ref: NodeRef, interface_type: InterfaceType = "STDIN", path = ""): End {
  return { node: ref, side: "in", interface_type, path };
}

describe("edits", () => {
  const start = drawing([node(1), node(2), node(3)], [wire(1, 1, 2), wire(2, 2, 3), wire(3, null, 1)]);

  test("a deleted node takes its wires along, and its inverse brings all of them back as they were", () => {
    const edits: Edit[] = [{ kind: "remove_node", key: 2 }];
    const after = applyAll(start, edits);
    assert.deepEqual([...after.nodes.keys()], [1, 3]);
    assert.deepEqual([...after.wires.keys()], [3]);
    const back = applyAll(after, inverse(start, edits));
    assert.deepEqual(new Map([...back.nodes].sort()), start.nodes);
    assert.deepEqual(new Map([...back.wires].sort()), start.wires);
  });

  test("the inverse of several edits takes them back in the opposite order", () => {
    const edits: Edit[] = [
      { kind: "add_node", node: node(-1) },
      { kind: "add_wire", wire: wire(-1, 1, -1) },
      { kind: "change_node", key: 1, changes: { gui_x: 40, cmd: ["a"] } },
      { kind: "change_wire", key: 1, changes: { include: ["*.csv"] } },
      { kind: "place_self_peer", at: { x: 5, y: 6 } },
      { kind: "remove_wire", key: 2 },
    ];
    const back = applyAll(applyAll(start, edits), inverse(start, edits));
    assert.deepEqual(new Map([...back.wires].sort()), start.wires);
    assert.deepEqual({ ...back, wires: null }, { ...start, wires: null });
  });

  test("an edit of what somebody else has deleted changes nothing and is not sent", () => {
    const edits: Edit[] = [
      { kind: "change_node", key: 9, changes: { gui_x: 1 } },
      { kind: "add_wire", wire: wire(7, 1, 9) },
      { kind: "remove_wire", key: 1 },
    ];
    assert.equal(apply(start, edits[0] as Edit), start);
    assert.deepEqual(meaningful(start, edits), [{ kind: "remove_wire", key: 1 }]);
  });

  test("what is read anew and says the same stays the same object", () => {
    const again = new Map(start.nodes).set(2, { ...node(2), gui_x: 20 });
    const kept = keepEqual(start.nodes, new Map([...again].map(([key, one]) => [key, structuredClone(one)])));
    assert.equal(kept.get(1), start.nodes.get(1));
    assert.notEqual(kept.get(2), start.nodes.get(2));
    assert.equal(keepEqual(start.nodes, new Map([...start.nodes].map(([k, v]) => [k, { ...v }]))), start.nodes);
  });
});

describe("a drawing that was checked", () => {
  const start = drawing([node(1), node(2)], [wire(1, 1, 2)]);
  const after = (...edits: Edit[]): boolean => sameButPlaces(start, applyAll(start, edits));

  test("is the same when things were only moved, or said again", () => {
    assert.ok(after({ kind: "change_node", key: 1, changes: { gui_x: 9, gui_y: 9 } }, { kind: "place_self_peer", at: { x: 9, y: 9 } }));
    assert.ok(after({ kind: "change_node", key: 1, changes: { cmd: null } }));
  });

  test("is another after every other edit", () => {
    assert.ok(!after({ kind: "change_node", key: 1, changes: { cmd: ["x"] } }));
    assert.ok(!after({ kind: "change_wire", key: 1, changes: { include: ["*.csv"] } }));
    assert.ok(!after({ kind: "remove_wire", key: 1 }));
    assert.ok(!after({ kind: "add_node", node: node(3) }));
    assert.ok(!after({ kind: "remove_node", key: 2 }, { kind: "add_node", node: node(3) }));
  });
});

describe("history", () => {
  test("undo of a deletion restores position, settings and wires, and redo deletes again", () => {
    const history = new History();
    const placed = { ...node(1), gui_x: 120, cmd: ["--fast"] };
    let now = drawing([placed, node(2)], [wire(1, 1, 2, { destination_file_name: "in.csv" })]);
    const edits: Edit[] = [{ kind: "remove_node", key: 1 }];
    history.record(now, "Delete s1", edits, 0);
    now = applyAll(now, edits);
    assert.equal(history.undoLabel, "Delete s1");
    now = applyAll(now, history.undo(now)?.edits ?? []);
    assert.deepEqual(now.nodes.get(1), placed);
    assert.equal(now.wires.get(1)?.destination_file_name, "in.csv");
    assert.equal(history.undoLabel, null);
    now = applyAll(now, history.redo(now)?.edits ?? []);
    assert.equal(now.nodes.size, 1);
    assert.equal(now.wires.size, 0);
  });

  test("pushes of one node shortly after each other go back in one step", () => {
    const history = new History();
    let now = drawing([node(1)]);
    for (const [at, x] of [[0, 20], [100, 40], [5_000, 60]] as const) {
      const edits: Edit[] = [{ kind: "change_node", key: 1, changes: { gui_x: x } }];
      history.record(now, "Move", edits, at, "move:1");
      now = applyAll(now, edits);
    }
    now = applyAll(now, history.undo(now)?.edits ?? []);
    assert.equal(now.nodes.get(1)?.gui_x, 40);
    now = applyAll(now, history.undo(now)?.edits ?? []);
    assert.equal(now.nodes.get(1)?.gui_x, 0);
    assert.equal(history.undo(now), null);
  });

  test("a step that means nothing any more is passed over", () => {
    const history = new History();
    const start = drawing([node(1), node(2)]);
    history.record(start, "Move s2", [{ kind: "change_node", key: 2, changes: { gui_x: 9 } }], 0);
    history.record(start, "Move s1", [{ kind: "change_node", key: 1, changes: { gui_x: 9 } }], 0);
    const elsewhere = applyAll(start, [{ kind: "remove_node", key: 1 }]);
    assert.equal(history.undo(elsewhere)?.label, "Move s2");
  });

  test("what the daemon refused never happened", () => {
    const history = new History();
    const edits: Edit[] = [{ kind: "add_wire", wire: wire(1, 1, 2) }];
    history.record(EMPTY, "Connect", edits, 0);
    history.forget(edits[0] as Edit);
    assert.equal(history.undoLabel, null);
  });

  test("redo brings back what others have added to since, and nothing of how it was at first", () => {
    const history = new History();
    let now = drawing([node(2)]);
    const edits: Edit[] = [{ kind: "add_node", node: node(1) }];
    history.record(now, "Add", edits, 0);
    now = applyAll(now, edits);
    const elsewhere: Edit[] = [
      { kind: "change_node", key: 1, changes: { cmd: ["--fast"], gui_x: 80 } },
      { kind: "add_wire", wire: wire(5, 2, 1) },
    ];
    now = applyAll(now, elsewhere);
    const before = now;
    now = applyAll(now, history.undo(now)?.edits ?? []);
    assert.equal(now.nodes.size, 1);
    now = applyAll(now, history.redo(now)?.edits ?? []);
    assert.deepEqual(now.nodes.get(1), before.nodes.get(1));
    assert.deepEqual(now.wires, before.wires);
    now = applyAll(now, history.undo(now)?.edits ?? []);
    assert.deepEqual([...now.nodes.keys()], [2]);
  });

  test("one edit that the daemon refused leaves the rest of its step to be undone", () => {
    const history = new History();
    const start = drawing([node(1), node(2)]);
    const edits: Edit[] = [1, 2].map((key) => ({ kind: "change_node", key, changes: { gui_x: 60 } }));
    history.record(start, "Arrange", edits, 0);
    history.forget(edits[1] as Edit);
    const now = applyAll(start, [edits[0] as Edit]);
    assert.deepEqual(history.undo(now), {
      label: "Arrange",
      edits: [{ kind: "change_node", key: 1, changes: { gui_x: 0 } }],
    });
  });
});

describe("keys", () => {
  test("a row that is made again has a new id and its old key", () => {
    const keys = new Keys();
    assert.equal(keys.keyOf(5), 5);
    keys.release(5);
    assert.equal(keys.idOf(5), undefined);
    keys.bind(5, 9);
    assert.equal(keys.keyOf(9), 5);
    assert.equal(keys.idOf(5), 9);
  });

  test("an id that gives a key which history speaks of gets another", () => {
    const keys = new Keys();
    keys.bind(keys.keyOf(5), 9);
    const other = keys.keyOf(5);
    assert.ok(other < 0);
    assert.equal(keys.idOf(other), 5);
  });

  test("what the canvas calls a node leads back to it", () => {
    for (const key of [null, 7, -3]) assert.equal(parseNodeElementId(nodeElementId(key)), key);
  });
});

describe("handles", () => {
  test("each interface has a handle at the side where its data goes", () => {
    const handles = handlesOf(node(1, "DOCKER", [mount("/in", "INPUT"), mount("/out/", "OUTPUT"), mount("/b", "BOTH")]));
    assert.deepEqual(
      handles.map((handle) => handle.id),
      ["in:STDIN:", "out:STDOUT:", "out:STDERR:", "out:LOGS:", "in:MOUNT:/in", "out:MOUNT:/out", "in:MOUNT:/b", "out:MOUNT:/b"],
    );
    assert.deepEqual(handlesOf(node(1, "DATA")).map((handle) => handle.id), ["out:STDOUT:"]);
  });

  test("a wire without a path ends at the only MOUNT that fits, as the daemon reads it", () => {
    const one = node(1, "DOCKER", [mount("/in", "INPUT"), mount("/out", "OUTPUT")]);
    assert.equal(handleAt(into(1, "MOUNT"), one), "in:MOUNT:/in");
    assert.equal(handleAt(out(null), undefined), "out:MOUNT:");
    assert.deepEqual(parseHandleId("in:MOUNT:/a:b"), { side: "in", interface_type: "MOUNT", path: "/a:b" });
  });

  test("an end that no interface answers for is shown as missing", () => {
    const missing = handlesWithMissing(node(2), [wire(1, 1, 2, { to_interface_type: "MOUNT", to_interface_path: "/gone" })]);
    assert.deepEqual(missing.filter((handle) => handle.missing).map(handleId), ["in:MOUNT:/gone"]);
  });
});

describe("rules", () => {
  const nodes = [
    node(1, "DATA"),
    node(2, "DOCKER", [mount("/in", "INPUT"), mount("/out", "OUTPUT")]),
    node(3, "STANDALONE", [mount("/a", "BOTH"), mount("/b", "BOTH")]),
    node(4, "DATA"),
  ];
  const all = drawing(nodes).nodes;
  const rule =
    "Allowed are STDOUT, STDERR, LOGS or MOUNT -> STDIN, MOUNT or self-peer, and self-peer -> STDIN or MOUNT";

  for (const [from, to] of [
    [out(1), into(2)],
    [out(1), into(2, "MOUNT", "/in/")],
    [out(1), into(2, "MOUNT")],
    [out(2, "STDERR"), into(3)],
    [out(2, "LOGS"), into(null, "MOUNT")],
    [out(2, "MOUNT"), into(3, "MOUNT", "/a")],
    [out(2, "MOUNT", "/out"), into(3)],
    [out(null, "MOUNT"), into(2)],
    [out(null, "MOUNT"), into(2, "MOUNT", "/in")],
    [out(1), into(null, "MOUNT")],
  ] as const) {
    test(`${JSON.stringify([from.node, from.interface_type])} may go to ${JSON.stringify([to.node, to.interface_type, to.path])}`, () => {
      assert.equal(pairRefusal(from, to, all), null);
    });
  }

  for (const [from, to, message] of [
    [out(null), into(null), `A connection needs a node at one end at least. ${rule}`],
    [out(1), into(4), "Cannot download from DATA service on remote peer"],
    [out(1), out(4), "Cannot download from DATA service on remote peer"],
    [out(2), into(1), "DATA service s1 takes no input: its files are fixed"],
    [into(2), into(3), `STDIN -> STDIN is not allowed: reversed direction. ${rule}`],
    [out(2), out(3, "STDERR"), `STDOUT -> STDERR is not allowed: type mismatch. ${rule}`],
    [out(null), out(2), `self-peer -> STDOUT is not allowed: type mismatch. ${rule}`],
    [out(2, "MOUNT", "/in"), into(3), "s2 has no MOUNT /in that can send (mount function OUTPUT or BOTH)"],
    [out(1), into(2, "MOUNT", "/out"), "s2 has no MOUNT /out that can receive (mount function INPUT or BOTH)"],
    [out(1), into(3, "MOUNT"), "s3 has several MOUNTs that can receive (/a, /b); choose one"],
    [out(1, "STDERR"), into(2), "s1 has no STDERR interface"],
    [out(9), into(2), "Connection references non-existent node"],
  ] as const) {
    test(`refused: ${message.slice(0, 60)}`, () => {
      assert.equal(pairRefusal(from, to, all)?.message, message);
    });
  }

  test("a wire that closes a circle is refused with the way round, beginning at the lowest node", () => {
    const drawn = drawing([node(1), node(2), node(3)], [wire(1, 3, 1), wire(2, 1, 2)]);
    assert.equal(refusal(drawn, out(2), into(3))?.message, "Workflow has a cycle: s1 -> s2 -> s3 -> s1");
    assert.equal(refusal(drawn, out(2), into(2))?.message, "Workflow has a cycle: s2 -> s2");
    assert.equal(refusal(drawn, out(3), into(2)), null);
    assert.deepEqual([...feedersOf(drawn, 2)].sort(), [1, 2, 3]);
  });

  test("a wire that is there already is refused, however its MOUNT is named", () => {
    const drawn = drawing(nodes, [wire(1, 1, 2, { to_interface_type: "MOUNT" })]);
    assert.equal(refusal(drawn, out(1), into(2, "MOUNT", "/in"))?.check, "duplicate_connection");
    const named = drawing(nodes, [wire(1, 1, 2, { destination_file_name: "x" })]);
    assert.equal(refusal(named, out(1), into(2)), null);
  });

  test("nodes of one service are told apart", () => {
    const twins = drawing([{ ...node(1), service_name: "t" }, { ...node(2), service_name: "t" }, { ...node(3), name: "own" }]);
    assert.deepEqual([...namesOf(twins.nodes).values()], ["t (node 1)", "t (node 2)", "own"]);
  });

  test("both ends of a wire are its ends", () => {
    assert.deepEqual(endsOf(wire(1, null, 2)).map((end) => [end.node, end.side]), [[null, "out"], [2, "in"]]);
  });
});

describe("layout", () => {
  const chain = drawing([node(1), node(2), node(3), node(4)], [wire(1, 1, 2), wire(2, 2, 3), wire(3, 1, 3), wire(4, 4, 3)]);

  test("every wire leads to the right, on the grid, and no card lies on another", () => {
    const { nodes, selfPeer } = layout(chain);
    const x = (key: Key): number => nodes.get(key)?.x ?? NaN;
    assert.ok(x(1) < x(2) && x(2) < x(3) && x(4) < x(3) && x(3) < selfPeer.x);
    for (const at of nodes.values()) assert.equal(Math.abs(at.x % GRID) + Math.abs(at.y % GRID), 0);
    const one = nodes.get(1);
    const four = nodes.get(4);
    assert.ok(one && four && one.x === four.x && Math.abs(one.y - four.y) >= nodeHeight(chain, 1));
  });

  test("a self-peer that sends stands left of what it feeds", () => {
    const { nodes, selfPeer } = layout(drawing([node(1)], [wire(1, null, 1), wire(2, 1, null)]));
    assert.ok(selfPeer.x < (nodes.get(1)?.x ?? 0));
  });

  test("a circle that somebody imported is laid out too", () => {
    assert.equal(layout(drawing([node(1), node(2)], [wire(1, 1, 2), wire(2, 2, 1)])).nodes.size, 2);
  });

  test("200 nodes and 400 wires take less than a tenth of a second", () => {
    const many = Array.from({ length: 200 }, (_, index) => node(index + 1));
    const wires = Array.from({ length: 400 }, (_, index) => wire(index + 1, (index % 180) + 1, (index % 180) + 2 + (index % 19)));
    const started = performance.now();
    layout(drawing(many, wires));
    assert.ok(performance.now() - started < 100);
  });

  const covers = (drawn: Drawing, key: Key): boolean => {
    const card = (one: Key) => ({ x: drawn.nodes.get(one)!.gui_x, y: drawn.nodes.get(one)!.gui_y, height: nodeHeight(drawn, one) });
    const own = card(key);
    const others = [...drawn.nodes.keys()].filter((one) => one !== key).map(card);
    others.push({ ...drawn.selfPeer, height: 100 });
    return others.some(
      (one) => Math.abs(one.x - own.x) < 240 && one.y < own.y + own.height && own.y < one.y + one.height,
    );
  };

  for (const [how, place] of [["nobody pointed a place out for", roomyPlace], ["is let go on others", freePlace]] as const) {
    test(`a new card that ${how} covers none, however high they are`, () => {
      let drawn = drawing([]);
      for (let key = 1; key <= 12; key += 1) {
        const mounts = Array.from({ length: (key * 7) % 20 }, (_, index) => mount(`/m${index}`, "INPUT"));
        const card = node(key, "DOCKER", mounts);
        const at = place(drawn, { x: 30, y: -20 }, card);
        drawn = apply(drawn, { kind: "add_node", node: { ...card, gui_x: at.x, gui_y: at.y } });
        assert.ok(!covers(drawn, key), `${key} at ${JSON.stringify(at)}`);
      }
    });
  }

  test("a new card that covers none lies where it was let go, on the grid, and one that does lies near", () => {
    const drawn = drawing([{ ...node(1), gui_x: 0, gui_y: 300 }]);
    assert.deepEqual(freePlace(drawn, { x: 403, y: 298 }, node(2)), { x: 400, y: 300 });
    assert.deepEqual(freePlace(drawn, { x: 200, y: 300 }, node(2)), { x: 260, y: 300 });
    const high = nodeHeight(drawn, 1);
    assert.deepEqual(freePlace(drawn, { x: 0, y: 400 }, node(2)), { x: 0, y: 300 + Math.ceil(high / GRID) * GRID });
  });

  const at = (key: Key, x: number, y: number) => ({ ...node(key), gui_x: x, gui_y: y });
  const isClear = (drawn: Drawing): boolean => [...drawn.nodes.keys()].every((key) => !covers(drawn, key));

  test("what came without places is laid out whole, be it one node on the card of this peer", () => {
    for (const count of [1, 2, 7]) {
      const drawn = drawing(Array.from({ length: count }, (_, index) => node(index + 1)), []);
      assert.ok(!isClear(drawn));
      assert.deepEqual(placing(drawn), arranging(drawn));
      assert.ok(isClear(applyAll(drawn, placing(drawn))), String(count));
    }
  });

  test("what lies where somebody put it stays, also on another card", () => {
    assert.deepEqual(placing(drawing([])), []);
    assert.deepEqual(placing(drawing([at(1, 400, 0)])), []);
    assert.deepEqual(placing(drawing([at(1, 400, 0), at(2, 440, 20)])), []);
    assert.deepEqual(placing({ ...drawing([node(1)]), selfPeer: { x: 20, y: 20 } }, new Set([1, null])), []);
  });

  test("nodes that are added without a place to a drawing that has some move beside it, and nothing else does", () => {
    const drawn = { ...drawing([at(1, 0, 0), at(2, 360, 0), node(3), node(4)]), selfPeer: { x: 720, y: 0 } };
    const edits = placing(drawn, new Set([1, 2, null]));
    assert.deepEqual(edits.map((edit) => edit.kind === "change_node" && edit.key), [3, 4]);
    assert.ok(isClear(applyAll(drawn, edits)));
    assert.deepEqual(placing(applyAll(drawn, edits)), []);
  });

  test("a view shows something where a part of a card is in it", () => {
    const drawn = { ...drawing([at(1, 1000, 1000)]), selfPeer: { x: 1400, y: 1000 } };
    const room = { width: 800, height: 600 };
    assert.equal(isAnyInSight(drawn, { x: 0, y: 0, zoom: 1 }, room), false);
    assert.equal(isAnyInSight(drawn, { x: -250, y: -450, zoom: 1 }, room), true);
    assert.equal(isAnyInSight(drawn, { x: -150, y: -450, zoom: 1 }, room), false);
    assert.equal(isAnyInSight(drawn, { x: 0, y: 0, zoom: 0.5 }, room), true);
    assert.equal(isAnyInSight(drawn, { x: -1630, y: -900, zoom: 1 }, room), true);
    assert.equal(isAnyInSight(drawn, { x: -1650, y: -900, zoom: 1 }, room), false);
  });

  test("the card of this peer moves from under placed nodes: right of them, left where it sends", () => {
    const alone = drawing([at(1, 100, 100)]);
    assert.deepEqual(placing(alone).map(({ kind }) => kind), ["place_self_peer"]);
    assert.ok(isClear(applyAll(alone, placing(alone))));
    for (const [wires, isRight] of [[[wire(1, 2, null)], true], [[wire(1, null, 1)], false]] as const) {
      const drawn = drawing([at(1, 0, 0), at(2, 360, 0)], [...wires]);
      const edits = placing(drawn);
      assert.deepEqual(edits.map(({ kind }) => kind), ["place_self_peer"]);
      const moved = applyAll(drawn, edits);
      assert.equal(moved.selfPeer.x > 360, isRight);
      assert.ok(isClear(moved));
    }
  });
});

describe("a run on the graph", () => {
  const NOTHING_RAN: Ran = { jobs: new Map(), wires: new Map() };
  const job = (node_id: number, status: string) => ({ node_id, status, error: null });
  const execution = (jobs: unknown[]): Execution =>
    ({ execution_id: 3, status: "RUNNING", error: null, jobs }) as unknown as Execution;
  const transfer = (transfer_id: string, changes: Partial<Transfer>): Transfer =>
    ({ transfer_id, connection_id: 1, status: "ACTIVE", bytes_done: 1, size_bytes: 10, ...changes }) as Transfer;

  test("an event about a node replaces that node alone", () => {
    const run = readRun(execution([job(1, "IDLE"), job(2, "IDLE")]), [], NOTHING_RAN, null);
    const after = applyRunEvent(run, { type: "job.updated", data: { execution_id: 3, node_id: 2, status: "RUNNING", error: null } });
    assert.equal(after.nodes.get(1), run.nodes.get(1));
    assert.equal(after.nodes.get(2)?.status, "RUNNING");
    assert.equal(after.wires, run.wires);
    assert.equal(applyRunEvent(after, { type: "job.updated", data: { execution_id: 4, node_id: 1, status: "RUNNING" } }), after);
  });

  test("what has ended stays ended when an older report comes late", () => {
    const run = readRun(execution([job(1, "ERRORED")]), [], NOTHING_RAN, null);
    const late = { type: "job.updated", data: { execution_id: 3, node_id: 1, status: "RUNNING", error: null } };
    assert.equal(applyRunEvent(run, late), run);
    assert.equal(readRun(execution([job(1, "RUNNING")]), [], NOTHING_RAN, run).nodes.get(1), run.nodes.get(1));
    const over = { ...run, status: "COMPLETED" } as const;
    assert.equal(applyRunEvent(over, { type: "execution.updated", data: { execution_id: 3, status: "RUNNING" } }), over);
  });

  test("a wire shows its deliveries together, and a failed one before others", () => {
    const run = readRun(execution([]), [transfer("a", {}), transfer("b", { status: "COMPLETED", bytes_done: 10 })], NOTHING_RAN, null);
    assert.deepEqual([run.wires.get(1)?.bytes_done, run.wires.get(1)?.size_bytes, run.wires.get(1)?.status], [11, 20, "ACTIVE"]);
    const failed = applyRunEvent(run, {
      type: "transfer.progress",
      data: { execution_id: 3, transfer_id: "b", connection_id: 1, status: "FAILED", error: "peer lost" },
    });
    assert.equal(failed.wires.get(1)?.status, "FAILED");
    assert.equal(failed.wires.get(1)?.error, "peer lost");
    assert.equal(failed.wires.get(1)?.bytes_done, 11);
  });

  test("a run that is read anew and says the same keeps its entries", () => {
    const run = readRun(execution([job(1, "RUNNING")]), [transfer("a", {})], NOTHING_RAN, null);
    const again = readRun(execution([job(1, "RUNNING")]), [transfer("a", {})], NOTHING_RAN, run);
    assert.equal(again.nodes.get(1), run.nodes.get(1));
    assert.equal(again.wires.get(1), run.wires.get(1));
  });
});
