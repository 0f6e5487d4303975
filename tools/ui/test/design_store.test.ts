import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { designOf, follow, isAnythingUnsent } from "../src/canvas/open-designs";
import { DesignStore } from "../src/canvas/store";
import type { DrawnNode, DrawnWire, Key, NodeRef } from "../src/graph/drawing";
import { OFFLINE, RpcError } from "../src/rpc/client";
import type { Client, DaemonEvent, StateChange } from "../src/rpc/client";

type Row = Record<string, unknown> & { id: number };

const BREAK = new RpcError(0, "no connection", { error: OFFLINE });

/** As much of a daemon as a design talks to: rows, events, and a connection that can break before or after a call is done. */
class FakeDaemon {
  nodes = new Map<number, Row>();
  connections = new Map<number, Row>();
  ui = { workflow_id: 1, snap_to_grid: true, zoom_level: 1, pan_x: 0, pan_y: 0, self_peer_x: 0, self_peer_y: 0 };
  calls: string[] = [];
  refuse: ((method: string, params: Record<string, unknown>) => RpcError | null) | null = null;
  breakAfter: string | null = null;
  scope: string | null = null;
  private nextId = 1;
  private up = true;
  private readonly listeners = new Set<(event: DaemonEvent) => void>();
  private readonly stateListeners = new Set<(change: StateChange) => void>();

  readonly client = Object.defineProperties({
    call: (method: string, params: Record<string, unknown>) => this.call(method, params),
    subscribe: (_types: string[], listener: (event: DaemonEvent) => void) => {
      this.listeners.add(listener);
      return () => this.listeners.delete(listener);
    },
    onState: (listener: (change: StateChange) => void) => {
      this.stateListeners.add(listener);
      return () => this.stateListeners.delete(listener);
    },
  }, { online: { get: () => this.up }, scope: { get: () => this.scope } }) as unknown as Client;

  get followers(): number {
    return this.listeners.size + this.stateListeners.size;
  }

  refuseToken(): void {
    for (const listener of [...this.stateListeners]) listener({ state: "refused", retryAt: null });
  }

  setUp(up: boolean): void {
    this.up = up;
    for (const listener of this.stateListeners) listener({ state: up ? "online" : "offline", retryAt: null });
  }

  /** What another window does. */
  elsewhere(change: () => void): void {
    change();
    this.tell();
  }

  tell(data: Record<string, unknown> = { workflow_id: 1, change: "node_updated" }): void {
    for (const listener of this.listeners) listener({ seq: 1, time: null, type: "workflow.updated", data });
  }

  private async call(method: string, params: Record<string, unknown>): Promise<unknown> {
    await new Promise((resolve) => setTimeout(resolve, 1));
    if (!this.up) throw BREAK;
    this.calls.push(method);
    const refused = this.refuse?.(method, params) ?? null;
    if (refused) throw refused;
    const answer = structuredClone(this.done(method, params));
    if (this.breakAfter === method) {
      this.breakAfter = null;
      this.setUp(false);
      throw BREAK;
    }
    return answer;
  }

  private done(method: string, params: Record<string, unknown>): unknown {
    const { workflow_id: _, node_id, connection_id, ...fields } = params;
    const change = (rows: Map<number, Row>, id: number): Row => {
      const row = rows.get(id);
      if (!row) throw new RpcError(1000, "not found", { error: "NOT_FOUND" });
      rows.set(id, { ...row, ...fields });
      return rows.get(id) as Row;
    };
    switch (method) {
      case "workflow.get":
        return { id: 1, name: "w", description: "" };
      case "workflow.get_ui_state":
        return this.ui;
      case "workflow.set_ui_state":
        this.ui = { ...this.ui, ...fields };
        return this.ui;
      case "workflow.list_nodes":
        return { items: [...this.nodes.values()], total: this.nodes.size, next_after_id: null };
      case "workflow.list_connections":
        return { items: [...this.connections.values()], total: this.connections.size, next_after_id: null };
      case "workflow.add_node":
        return this.add(this.nodes, fields);
      case "workflow.add_connection":
        return this.add(this.connections, fields);
      case "workflow.update_node":
        return change(this.nodes, node_id as number);
      case "workflow.update_connection":
        return change(this.connections, connection_id as number);
      case "workflow.delete_node":
        change(this.nodes, node_id as number);
        this.nodes.delete(node_id as number);
        for (const [id, row] of this.connections) {
          if (row.from_node_id === node_id || row.to_node_id === node_id) this.connections.delete(id);
        }
        return { deleted: true };
      case "workflow.delete_connection":
        change(this.connections, connection_id as number);
        this.connections.delete(connection_id as number);
        return { deleted: true };
      default:
        throw new Error(method);
    }
  }

  /** A row as somebody adds it who says no place. */
  addNode(changes: Partial<DrawnNode> = {}): Row {
    const { key: _, ...row } = node(0, changes);
    return this.add(this.nodes, row);
  }

  private add(rows: Map<number, Row>, fields: Record<string, unknown>): Row {
    const row = { name: null, ...fields, id: this.nextId++ };
    rows.set(row.id, row);
    return row;
  }
}

function node(key: Key, changes: Partial<DrawnNode> = {}): DrawnNode {
  return {
    key,
    service_id: 1,
    peer_id: "here",
    name: "",
    service_name: "s",
    service_type: "DOCKER",
    order: 1,
    gui_x: 0,
    gui_y: 0,
    interfaces: [],
    entrypoint: null,
    cmd: null,
    pricing_amount: 0,
    pricing_type: "FREE",
    service_revision: 1,
    pin: false,
    ...changes,
  };
}

function wire(key: Key, from: NodeRef, to: NodeRef): DrawnWire {
  return {
    key,
    from,
    from_interface_type: "STDOUT",
    from_interface_path: "",
    to,
    to_interface_type: "STDIN",
    to_interface_path: "",
    destination_file_name: null,
    include: [],
    source_path: null,
  };
}

interface Opened {
  daemon: FakeDaemon;
  design: DesignStore;
  refusals: string[];
  add: (changes?: Partial<DrawnNode>) => Key;
  stop: () => void;
}

async function opened(daemon = new FakeDaemon()): Promise<Opened> {
  const refusals: string[] = [];
  const design = new DesignStore(daemon.client, 1, (error, label) => refusals.push(`${label}: ${error.message}`));
  const stop = design.start();
  const add = (changes: Partial<DrawnNode> = {}): Key => {
    const key = design.nodeKeys.fresh();
    design.edit("Add", [{ kind: "add_node", node: node(key, changes) }]);
    return key;
  };
  await until(() => design.getState().phase === "ready");
  return { daemon, design, refusals, add, stop };
}

async function until(holds: () => boolean): Promise<void> {
  const end = Date.now() + 3_000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`not in time: ${holds.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function saved(design: DesignStore): Promise<void> {
  await until(() => design.getState().unsaved === 0);
}

describe("a design", () => {
  test("is shown at once, and in the database soon after, wires after their nodes", async () => {
    const { daemon, design, add, stop } = await opened();
    const [a, b] = [add({ gui_x: 20 }), add()];
    design.edit("Connect", [{ kind: "add_wire", wire: wire(design.wireKeys.fresh(), a, b) }]);
    assert.equal(design.drawing.nodes.size, 2);
    assert.equal(design.drawing.wires.size, 1);
    assert.ok(design.getState().unsaved > 0);
    await saved(design);
    assert.equal(daemon.nodes.get(design.nodeKeys.idOf(a) ?? 0)?.gui_x, 20);
    assert.deepEqual(
      [...daemon.connections.values()].map((row) => [row.from_node_id, row.to_node_id]),
      [[design.nodeKeys.idOf(a), design.nodeKeys.idOf(b)]],
    );
    stop();
  });

  test("keeps the object of a node that nothing was done to, however often it is read", async () => {
    const { daemon, design, add, stop } = await opened();
    const [a, b] = [add(), add()];
    await saved(design);
    const [before, other] = [design.drawing.nodes.get(a), design.drawing.nodes.get(b)];
    daemon.elsewhere(() => {
      const row = daemon.nodes.get(design.nodeKeys.idOf(b) ?? 0) as Row;
      row.gui_y = 400;
    });
    await until(() => design.drawing.nodes.get(b)?.gui_y === 400);
    assert.equal(design.drawing.nodes.get(a), before);
    assert.notEqual(design.drawing.nodes.get(b), other);
    stop();
  });

  test("undo of a deletion brings back the node with its wire, under new ids and the old keys", async () => {
    const { daemon, design, add, stop } = await opened();
    const [a, b] = [add({ cmd: ["x"], gui_x: 60 }), add()];
    const w = design.wireKeys.fresh();
    design.edit("Connect", [{ kind: "add_wire", wire: wire(w, a, b) }]);
    await saved(design);
    const oldId = design.nodeKeys.idOf(a);
    design.edit("Delete", [{ kind: "remove_node", key: a }]);
    await until(() => daemon.nodes.size === 1 && daemon.connections.size === 0);
    assert.equal(design.undo(), "Delete");
    await saved(design);
    const row = daemon.nodes.get(design.nodeKeys.idOf(a) ?? 0);
    assert.deepEqual([row?.cmd, row?.gui_x], [["x"], 60]);
    assert.notEqual(row?.id, oldId);
    assert.equal([...daemon.connections.values()][0]?.from_node_id, row?.id);
    assert.ok(design.drawing.wires.has(w));
    stop();
  });

  test("takes back what the daemon refuses, says so, and forgets it", async () => {
    const { daemon, design, add, refusals, stop } = await opened();
    daemon.refuse = (method) => (method === "workflow.add_node" ? new RpcError(1700, "too many nodes") : null);
    const a = add();
    design.edit("Connect", [{ kind: "add_wire", wire: wire(design.wireKeys.fresh(), a, null) }]);
    await saved(design);
    assert.equal(design.drawing.nodes.size, 0);
    assert.equal(design.drawing.wires.size, 0);
    assert.deepEqual(refusals, ["Add: too many nodes"]);
    stop();
  });

  test("keeps edits while the daemon is away and sends them in order when it is back", async () => {
    const { daemon, design, add, stop } = await opened();
    const a = add();
    await saved(design);
    daemon.setUp(false);
    design.edit("Move", [{ kind: "change_node", key: a, changes: { gui_x: 80 } }]);
    const b = add({ gui_x: 300 });
    assert.equal(design.getState().online, false);
    assert.equal(design.drawing.nodes.get(a)?.gui_x, 80);
    daemon.setUp(true);
    await saved(design);
    assert.deepEqual([...daemon.nodes.values()].map((row) => row.gui_x), [80, 300]);
    assert.ok(design.nodeKeys.idOf(b));
    stop();
  });

  test("does not add twice what was added as the connection broke", async () => {
    const { daemon, design, add, stop } = await opened();
    daemon.breakAfter = "workflow.add_node";
    const a = add({ gui_x: 140 });
    await until(() => !design.getState().online);
    assert.equal(daemon.nodes.size, 1);
    design.edit("Connect", [{ kind: "add_wire", wire: wire(design.wireKeys.fresh(), a, null) }]);
    daemon.setUp(true);
    await saved(design);
    await until(() => daemon.connections.size === 1);
    assert.equal(daemon.nodes.size, 1);
    assert.equal(design.drawing.nodes.size, 1);
    assert.equal(design.nodeKeys.idOf(a), [...daemon.nodes.keys()][0]);
    stop();
  });

  test("an edit of a node that another window has deleted is dropped with it", async () => {
    const { daemon, design, add, stop } = await opened();
    const a = add();
    await saved(design);
    daemon.setUp(false);
    design.edit("Move", [{ kind: "change_node", key: a, changes: { gui_x: 80 } }]);
    daemon.nodes.clear();
    daemon.setUp(true);
    await saved(design);
    assert.equal(design.drawing.nodes.size, 0);
    assert.equal(daemon.nodes.size, 0);
    stop();
  });

  test("what is under the hand is not set back by a reading that began before it was saved", async () => {
    const { daemon, design, add, stop } = await opened();
    const a = add();
    await saved(design);
    const seen = new Set<number>();
    design.subscribe(() => seen.add(design.drawing.nodes.get(a)?.gui_x ?? -1));
    for (const x of [20, 40, 60]) {
      daemon.tell();
      design.edit("Move", [{ kind: "change_node", key: a, changes: { gui_x: x } }]);
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    await saved(design);
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.deepEqual([...seen], [20, 40, 60]);
    stop();
  });

  const placesOf = (design: DesignStore): string[] =>
    [...design.drawing.nodes.values()].map(({ gui_x, gui_y }) => `${gui_x} ${gui_y}`);

  test("nodes without a place get one that is kept, those that come later too, and undo has nothing to do with it", async () => {
    const daemon = new FakeDaemon();
    daemon.addNode();
    daemon.addNode();
    const { design, stop } = await opened(daemon);
    assert.equal(new Set(placesOf(design)).size, 2);
    assert.equal(design.getState().undoLabel, null);
    await saved(design);
    assert.equal(new Set([...daemon.nodes.values()].map(({ gui_x, gui_y }) => `${String(gui_x)} ${String(gui_y)}`)).size, 2);
    assert.notEqual(daemon.ui.self_peer_x, 0);
    const before = placesOf(design);
    daemon.elsewhere(() => daemon.addNode());
    await until(() => design.drawing.nodes.size === 3);
    assert.deepEqual(placesOf(design).slice(0, 2), before);
    assert.equal(new Set(placesOf(design)).size, 3);
    stop();
  });

  test("whoever may only read sees no heap either, and nothing is sent for it", async () => {
    const daemon = new FakeDaemon();
    daemon.scope = "read";
    for (let count = 0; count < 3; count += 1) daemon.addNode();
    const { design, stop } = await opened(daemon);
    assert.equal(new Set(placesOf(design)).size, 3);
    daemon.elsewhere(() => daemon.nodes.set(2, { ...(daemon.nodes.get(2) as Row), gui_x: 500 }));
    await until(() => placesOf(design).includes("500 0"));
    assert.equal(new Set(placesOf(design)).size, 3);
    assert.deepEqual(daemon.calls.filter((method) => !/get|list/.test(method)), []);
    stop();
  });

  test("a place that a hand chose is not changed by what comes later", async () => {
    const { daemon, design, add, stop } = await opened();
    const key = add({ gui_x: 20 });
    await saved(design);
    design.edit("Move", [{ kind: "change_node", key, changes: { gui_x: 0 } }]);
    await saved(design);
    daemon.elsewhere(() => daemon.addNode({ gui_x: 900 }));
    await until(() => design.drawing.nodes.size === 2);
    assert.deepEqual(placesOf(design), ["0 0", "900 0"]);
    assert.equal(daemon.ui.self_peer_x, 0);
    stop();
  });

  test("where it looks is kept by the daemon and left alone by other windows", async () => {
    const { daemon, design, stop } = await opened();
    design.keepViewport({ x: 10.004, y: -5, zoom: 1.5 });
    await saved(design);
    assert.deepEqual([daemon.ui.pan_x, daemon.ui.pan_y, daemon.ui.zoom_level], [10, -5, 1.5]);
    daemon.elsewhere(() => {
      daemon.ui = { ...daemon.ui, pan_x: 999, snap_to_grid: false, self_peer_x: 40 };
    });
    await until(() => design.drawing.selfPeer.x === 40);
    assert.equal(design.viewport?.x, 10.004);
    assert.equal(design.getState().snapToGrid, false);
    stop();
  });

  test("what is changed about the canvas while the daemon refuses another change is sent all the same", async () => {
    const { daemon, design, stop } = await opened();
    let refusedOnce = false;
    daemon.refuse = (method) => {
      if (method !== "workflow.set_ui_state" || refusedOnce) return null;
      refusedOnce = true;
      design.setSnapToGrid(false);
      return new RpcError(1200, "no", { error: "CONFLICT" });
    };
    design.keepViewport({ x: 10, y: 0, zoom: 1 });
    await until(() => !daemon.ui.snap_to_grid);
    await saved(design);
    assert.equal(daemon.ui.pan_x, 0);
    stop();
  });

  test("one that nobody touches asks for nothing", async () => {
    const { daemon, design, add, stop } = await opened();
    add();
    await saved(design);
    await new Promise((resolve) => setTimeout(resolve, 400));
    const before = daemon.calls.length;
    await new Promise((resolve) => setTimeout(resolve, 600));
    assert.equal(daemon.calls.length, before);
    stop();
  });

  test("a workflow that is deleted elsewhere says so", async () => {
    const { daemon, design, stop } = await opened();
    daemon.tell({ workflow_id: 2, change: "deleted" });
    assert.equal(design.getState().phase, "ready");
    daemon.tell({ workflow_id: 1, change: "deleted" });
    assert.equal(design.getState().phase, "deleted");
    stop();
  });

  test("one that is left while the daemon is away is sent when it is back, then lets go", async () => {
    const { daemon, design, add, stop } = await opened();
    const a = add();
    await saved(design);
    daemon.setUp(false);
    design.edit("Move", [{ kind: "change_node", key: a, changes: { gui_x: 80 } }]);
    stop();
    daemon.setUp(true);
    await until(() => [...daemon.nodes.values()][0]?.gui_x === 80);
    await until(() => daemon.followers === 0);
    assert.equal(design.hasUnsavedEdits, false);
  });

  test("one that is left with something unsent is gone on with when it is opened again", async () => {
    const daemon = new FakeDaemon();
    const first = designOf(daemon.client, 1, () => undefined);
    const leave = follow(first);
    await until(() => first.getState().phase === "ready");
    daemon.setUp(false);
    first.edit("Add", [{ kind: "add_node", node: node(first.nodeKeys.fresh()) }]);
    leave();
    assert.equal(isAnythingUnsent(), true);
    assert.notEqual(designOf(daemon.client, 2, () => undefined), first);
    const again = designOf(daemon.client, 1, () => undefined);
    assert.equal(again, first);
    const leaveAgain = follow(again);
    daemon.setUp(true);
    await saved(again);
    assert.equal(isAnythingUnsent(), false);
    daemon.elsewhere(() => daemon.nodes.clear());
    await until(() => again.drawing.nodes.size === 0);
    leaveAgain();
    await until(() => daemon.followers === 0);
    assert.notEqual(designOf(daemon.client, 1, () => undefined), first);
  });

  test("one that is left hears of a field that goes away with it", async () => {
    const { daemon, add, stop } = await opened();
    daemon.setUp(false);
    stop();
    add({ gui_x: 20 });
    daemon.setUp(true);
    await until(() => daemon.nodes.size === 1);
    await until(() => daemon.followers === 0);
  });

  for (const end of ["deleted", "refused"] as const) {
    test(`one that is left and can never be sent lets go: ${end}`, async () => {
      const { daemon, design, add, stop } = await opened();
      daemon.setUp(false);
      add();
      stop();
      assert.equal(design.hasUnsavedEdits, true);
      if (end === "deleted") daemon.tell({ workflow_id: 1, change: "deleted" });
      else daemon.refuseToken();
      assert.equal(design.hasUnsavedEdits, false);
      assert.equal(daemon.followers, 0);
    });
  }
});
