// One workflow as this window edits it: shown at once, sent in order, kept while the daemon is away, and in step with
// what others do.
//
// `base` is what the daemon was last heard to hold, `queue` what it has not confirmed yet; what is shown is the one
// applied to the other. So an answer, another window's edit and a refusal all come to the same: a new base or a shorter
// queue, and nothing that is under the hand jumps.

import { EMPTY, applyAll, keepEqual, meaningful, same } from "../graph/drawing";
import type { Drawing, DrawnNode, Edit, Key, NodeRef, Point } from "../graph/drawing";
import { History } from "../graph/history";
import type { Step } from "../graph/history";
import { Keys } from "../graph/ids";
import { placing } from "../graph/layout";
import { OFFLINE, RpcError, asRpcError, readAll } from "../rpc";
import type { Client, DaemonEvent, UiState, Workflow, WorkflowConnection, WorkflowNode } from "../rpc";
import { Coalescer } from "../rpc/coalescer";
import { drawnNode, drawnWire, nodeMembers, wireMembers } from "./rows";

export interface Viewport {
  zoom: number;
  x: number;
  y: number;
}

export interface DesignState {
  phase: "loading" | "ready" | "failed" | "deleted";
  workflow: Workflow | null;
  drawing: Drawing;
  snapToGrid: boolean;
  /** Changes the daemon has not confirmed. */
  unsaved: number;
  online: boolean;
  error: RpcError | null;
  undoLabel: string | null;
  redoLabel: string | null;
}

/** Called where the daemon refused an edit; what was refused is taken back already. */
export type OnRefusal = (error: RpcError, label: string) => void;

interface Queued {
  edit: Edit;
  label: string;
  /** It was sent when the connection broke: the daemon may or may not have done it. */
  inDoubt: boolean;
}

type UiChanges = Partial<Omit<UiState, "workflow_id">>;

const SENT_TOGETHER = 16;
const UI_PAUSE_MS = 400;
const RELOAD_PAUSE_MS = 150;
const NOT_FOUND = "NOT_FOUND";
// What the daemon does to a workflow that changes nothing that is drawn.
const UNDRAWN: ReadonlySet<unknown> = new Set(["definition_built"]);

export class DesignStore {
  readonly nodeKeys = new Keys();
  readonly wireKeys = new Keys();
  /** Where the canvas was left, once it is known. */
  viewport: Viewport | null = null;

  private state: DesignState;
  private base: Drawing = EMPTY;
  private queue: Queued[] = [];
  private sending = false;
  /** Counts what was sent and confirmed: what was read meanwhile may be older than what is known. */
  private epoch = 0;
  /** The cards whose places have been looked at: where they lie from then on, a hand may have put them. */
  private readonly placed = new Set<NodeRef>();
  private uiChanges: UiChanges = {};
  private uiTimer: ReturnType<typeof setTimeout> | undefined;
  private uiSending = false;
  private readonly history = new History();
  private readonly listeners = new Set<() => void>();
  private reloader: Coalescer | null = null;
  private stops: (() => void)[] = [];
  private isLeft = false;

  constructor(
    readonly client: Client,
    readonly workflowId: number,
    private readonly onRefusal: OnRefusal,
  ) {
    this.state = {
      phase: "loading",
      workflow: null,
      drawing: EMPTY,
      snapToGrid: true,
      unsaved: 0,
      online: client.online,
      error: null,
      undoLabel: null,
      redoLabel: null,
    };
  }

  /** Begin to follow the daemon, or go on. Returns how to leave: what is drawn is sent all the same, then it stops. */
  start(): () => void {
    this.isLeft = false;
    if (!this.reloader) {
      this.reloader = new Coalescer(() => this.reload(), RELOAD_PAUSE_MS);
      this.stops = [
        this.client.subscribe(["workflow.updated"], (event) => this.hear(event)),
        this.client.onState(({ state }) => {
          // Nobody is signed in any more, so nothing can be sent.
          if (state === "closed" || state === "refused") this.queue = [];
          this.change({ online: state === "online" });
          if (state === "online") this.reloader?.now();
        }),
      ];
      this.reloader.now();
    }
    return () => {
      this.isLeft = true;
      this.flushUi();
      // Fields that go away with the page still tell what was typed.
      queueMicrotask(() => this.change({}));
    };
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  };

  readonly getState = (): DesignState => this.state;

  /** What is shown: the daemon's rows with everything on top that is still to be confirmed. */
  get drawing(): Drawing {
    return this.state.drawing;
  }

  /** Whether something drawn would be lost with this window. Where it looks is not worth a question. */
  get hasUnsavedEdits(): boolean {
    return this.queue.length > 0;
  }

  // ---------------------------------------------------------------- editing

  /** Do something that can be undone. */
  edit(label: string, edits: readonly Edit[], mergeKey = ""): void {
    const wanted = meaningful(this.drawing, edits);
    if (wanted.length === 0) return;
    this.history.record(this.drawing, label, wanted, Date.now(), mergeKey);
    this.enqueue(label, wanted);
  }

  undo(): string | null {
    return this.step(this.history.undo(this.drawing), "Undo");
  }

  redo(): string | null {
    return this.step(this.history.redo(this.drawing), "Redo");
  }

  setSnapToGrid(snapToGrid: boolean): void {
    this.change({ snapToGrid });
    this.keepUi({ snap_to_grid: snapToGrid });
  }

  keepViewport(viewport: Viewport): void {
    if (this.viewport && same(this.viewport, viewport)) return;
    this.viewport = viewport;
    const round = (value: number, parts: number): number => Math.round(value * parts) / parts;
    // A hundredth of the zoom would be several pixels at the far side of the canvas.
    this.keepUi({ zoom_level: round(viewport.zoom, 10_000), pan_x: round(viewport.x, 100), pan_y: round(viewport.y, 100) });
  }

  /** Change the name or the description; throws what the daemon refuses. */
  async describe(changes: { name?: string; description?: string }): Promise<void> {
    const workflow = await this.client.call<Workflow>("workflow.update", { workflow_id: this.workflowId, ...changes });
    this.change({ workflow });
  }

  /** When everything drawn so far is in the database. Throws where the connection breaks before. */
  async settled(): Promise<void> {
    if (this.queue.length === 0) return;
    await new Promise<void>((resolve, reject) => {
      const stop = this.subscribe(() => {
        if (this.queue.length === 0) resolve();
        else if (!this.client.online) reject(new RpcError(0, "The last changes are not saved yet", { error: OFFLINE }));
        else return;
        stop();
      });
    });
  }

  private step(step: Step | null, verb: string): string | null {
    if (!step) {
      this.change({});
      return null;
    }
    this.enqueue(`${verb}: ${step.label}`, step.edits);
    return step.label;
  }

  private enqueue(label: string, edits: readonly Edit[]): void {
    for (const edit of edits) if (edit.kind === "add_node") this.placed.add(edit.node.key);
    this.queue.push(...edits.map((edit) => ({ edit, label, inDoubt: false })));
    this.show();
    void this.send();
  }

  // ---------------------------------------------------------------- sending

  private async send(): Promise<void> {
    if (this.sending || this.queue.length === 0 || this.state.phase === "loading") return;
    this.sending = true;
    try {
      while (this.queue.length > 0 && this.client.online) {
        const together = this.nextTogether();
        this.epoch += 1;
        const answers = await Promise.allSettled(together.map(({ edit }) => this.call(edit)));
        this.epoch += 1;
        let broken = false;
        answers.forEach((answer, index) => {
          const queued = together[index] as Queued;
          if (answer.status === "fulfilled") this.settle(queued, answer.value);
          else broken = !this.fail(queued, asRpcError(answer.reason)) || broken;
        });
        this.show();
        if (broken) return;
      }
    } finally {
      this.sending = false;
      if (this.queue.length === 0) this.reloader?.ask();
    }
  }

  /** The edits at the head of the queue that do not need each other. */
  private nextTogether(): Queued[] {
    const kind = this.queue[0]?.edit.kind;
    const seen = new Set<Key>();
    const together: Queued[] = [];
    for (const queued of this.queue) {
      const key = keyOf(queued.edit);
      if (queued.edit.kind !== kind || seen.has(key) || together.length === SENT_TOGETHER) break;
      seen.add(key);
      together.push(queued);
    }
    return together;
  }

  private async call(edit: Edit): Promise<unknown> {
    const workflow_id = this.workflowId;
    switch (edit.kind) {
      case "add_node":
        return this.client.call("workflow.add_node", { workflow_id, ...nodeMembers(edit.node) });
      case "change_node": {
        const node_id = known(this.nodeKeys.idOf(edit.key), "node");
        return this.client.call("workflow.update_node", { workflow_id, node_id, ...nodeMembers(edit.changes) });
      }
      case "remove_node": {
        const node_id = known(this.nodeKeys.idOf(edit.key), "node");
        return this.client.call("workflow.delete_node", { workflow_id, node_id });
      }
      case "add_wire": {
        const members = known(wireMembers(edit.wire, this.nodeKeys), "node");
        return this.client.call("workflow.add_connection", { workflow_id, ...members });
      }
      case "change_wire": {
        const connection_id = known(this.wireKeys.idOf(edit.key), "connection");
        const members = known(wireMembers(edit.changes, this.nodeKeys), "node");
        return this.client.call("workflow.update_connection", { workflow_id, connection_id, ...members });
      }
      case "remove_wire": {
        const connection_id = known(this.wireKeys.idOf(edit.key), "connection");
        return this.client.call("workflow.delete_connection", { workflow_id, connection_id });
      }
      case "place_self_peer":
        return this.client.call("workflow.set_ui_state", {
          workflow_id,
          self_peer_x: edit.at.x,
          self_peer_y: edit.at.y,
        });
    }
  }

  /** The daemon has done it: what it answered is the base now. */
  private settle(queued: Queued, answer: unknown): void {
    const { edit } = queued;
    this.drop(queued);
    switch (edit.kind) {
      case "add_node":
      case "change_node": {
        const key = keyOf(edit);
        const row = answer as WorkflowNode;
        if (edit.kind === "add_node") this.nodeKeys.bind(key, row.id);
        this.base = applyAll(this.base, [{ kind: "add_node", node: drawnNode(row, key) }]);
        return;
      }
      case "add_wire":
      case "change_wire": {
        const key = keyOf(edit);
        const row = answer as WorkflowConnection;
        if (edit.kind === "add_wire") this.wireKeys.bind(key, row.id);
        this.base = applyAll(this.base, [{ kind: "add_wire", wire: drawnWire(row, key, this.nodeKeys) }]);
        return;
      }
      case "remove_node":
      case "remove_wire":
      case "place_self_peer":
        this.base = applyAll(this.base, [edit]);
        this.releaseGone();
    }
  }

  /** Returns false where the connection broke: then the edit stays and is sent again. */
  private fail(queued: Queued, error: RpcError): boolean {
    if (error.error === OFFLINE) {
      queued.inDoubt = true;
      return false;
    }
    const isGone = error.error === NOT_FOUND;
    if (isGone && (queued.edit.kind === "remove_node" || queued.edit.kind === "remove_wire")) {
      this.settle(queued, null);
      return true;
    }
    this.drop(queued);
    this.history.forget(queued.edit);
    const rest = meaningful(this.base, this.queue.map(({ edit }) => edit));
    this.queue = this.queue.filter(({ edit }) => rest.includes(edit));
    this.onRefusal(error, queued.label);
    return true;
  }

  private drop(queued: Queued): void {
    this.queue = this.queue.filter((other) => other !== queued);
  }

  // ---------------------------------------------------------------- reading

  private hear(event: DaemonEvent): void {
    const { workflow_id, change } = event.data;
    if (event.type !== "gap" && (workflow_id !== this.workflowId || UNDRAWN.has(change))) return;
    if (change === "deleted") this.end();
    else this.reloader?.ask();
  }

  private async reload(): Promise<void> {
    if (this.sending || this.state.phase === "deleted") return;
    const epoch = this.epoch;
    const of = { workflow_id: this.workflowId };
    try {
      const [workflow, ui, nodes, wires] = await Promise.all([
        this.client.call<Workflow>("workflow.get", of),
        this.client.call<UiState>("workflow.get_ui_state", of),
        readAll<WorkflowNode>(this.client, "workflow.list_nodes", of),
        readAll<WorkflowConnection>(this.client, "workflow.list_connections", of),
      ]);
      if (epoch !== this.epoch) {
        this.reloader?.ask();
        return;
      }
      this.adopt(nodes, wires);
      this.take(workflow, ui, nodes, wires);
    } catch (fault) {
      const error = asRpcError(fault);
      if (error.error === OFFLINE) return;
      if (error.error === NOT_FOUND && this.state.phase === "ready") this.end();
      else if (this.state.phase === "loading") this.change({ phase: "failed", error });
      else this.onRefusal(error, "Read the workflow");
      return;
    }
    void this.send();
    if (this.client.online && Object.keys(this.uiChanges).length > 0) void this.sendUi();
  }

  /** The workflow is gone, and what was drawn on it with it. */
  private end(): void {
    this.queue = [];
    this.change({ phase: "deleted" });
  }

  /** What was sent as the connection broke and is there all the same is not sent again. */
  private adopt(nodes: readonly WorkflowNode[], wires: readonly WorkflowConnection[]): void {
    for (const queued of this.queue.filter(({ inDoubt }) => inDoubt)) {
      queued.inDoubt = false;
      const { edit } = queued;
      if (edit.kind === "add_node") {
        const row = nodes.find((one) => !this.nodeKeys.knows(one.id) && isNode(edit.node, drawnNode(one, edit.node.key)));
        if (row) this.settle(queued, row);
      } else if (edit.kind === "add_wire") {
        const row = wires.find((one) => {
          return !this.wireKeys.knows(one.id) && same(edit.wire, drawnWire(one, edit.wire.key, this.nodeKeys));
        });
        if (row) this.settle(queued, row);
      }
    }
  }

  private take(workflow: Workflow, ui: UiState, nodes: WorkflowNode[], wires: WorkflowConnection[]): void {
    const drawnNodes = nodes.map((row) => drawnNode(row, this.nodeKeys.keyOf(row.id)));
    const drawnWires = wires.map((row) => drawnWire(row, this.wireKeys.keyOf(row.id), this.nodeKeys));
    const at: Point = { x: ui.self_peer_x, y: ui.self_peer_y };
    this.base = {
      nodes: keepEqual(this.base.nodes, byKey(drawnNodes)),
      wires: keepEqual(this.base.wires, byKey(drawnWires)),
      selfPeer: same(at, this.base.selfPeer) ? this.base.selfPeer : at,
    };
    this.releaseGone();
    // Where each window looks is its own; only a window that opens begins where the last one was.
    this.viewport ??= { zoom: ui.zoom_level, x: ui.pan_x, y: ui.pan_y };
    const snapToGrid = this.uiChanges.snap_to_grid ?? ui.snap_to_grid;
    const rest = meaningful(this.base, this.queue.map(({ edit }) => edit));
    this.queue = this.queue.filter(({ edit }) => rest.includes(edit));
    this.state = { ...this.state, phase: "ready", workflow, snapToGrid, error: null };
    this.place();
  }

  /** What came without a place gets one: in the database, or for those who may only read, in what is shown. */
  private place(): void {
    const drawing = this.drawn();
    const edits = this.isReader ? [] : placing(drawing, this.placed);
    for (const key of [null, ...drawing.nodes.keys()]) this.placed.add(key);
    if (edits.length > 0) this.enqueue("Arrange", edits);
    else this.show();
  }

  /** Keys of what is gone have no id any more. */
  private releaseGone(): void {
    this.nodeKeys.releaseAllBut(this.base.nodes);
    this.wireKeys.releaseAllBut(this.base.wires);
  }

  // ---------------------------------------------------------------- the canvas itself

  private keepUi(changes: UiChanges): void {
    this.uiChanges = { ...this.uiChanges, ...changes };
    this.show();
    clearTimeout(this.uiTimer);
    this.uiTimer = setTimeout(() => void this.sendUi(), UI_PAUSE_MS);
  }

  private flushUi(): void {
    clearTimeout(this.uiTimer);
    if (Object.keys(this.uiChanges).length > 0) void this.sendUi();
  }

  private async sendUi(): Promise<void> {
    if (this.uiSending || !this.client.online || this.state.phase !== "ready") return;
    const changes = this.uiChanges;
    if (Object.keys(changes).length === 0) return;
    this.uiSending = true;
    try {
      await this.client.call("workflow.set_ui_state", { workflow_id: this.workflowId, ...changes });
      this.dropUi(changes);
    } catch (fault) {
      // A reader may look around without the daemon keeping it; offline it is sent after the next reading.
      if (asRpcError(fault).error !== OFFLINE) this.dropUi(changes);
    } finally {
      this.uiSending = false;
      this.show();
    }
  }

  /** These have been answered; what was changed meanwhile is still to be sent. */
  private dropUi(answered: UiChanges): void {
    const newer = Object.entries(this.uiChanges).filter(([name, value]) => answered[name as keyof UiChanges] !== value);
    this.uiChanges = Object.fromEntries(newer);
    if (newer.length === 0) return;
    clearTimeout(this.uiTimer);
    this.uiTimer = setTimeout(() => void this.sendUi(), UI_PAUSE_MS);
  }

  // ---------------------------------------------------------------- telling

  private get isReader(): boolean {
    return this.client.scope === "read";
  }

  private drawn(): Drawing {
    return applyAll(this.base, this.queue.map(({ edit }) => edit));
  }

  private show(): void {
    const real = this.drawn();
    const drawing = this.isReader ? applyAll(real, placing(real)) : real;
    const { drawing: before } = this.state;
    const kept: Drawing = {
      nodes: keepEqual(before.nodes, drawing.nodes),
      wires: keepEqual(before.wires, drawing.wires),
      selfPeer: same(before.selfPeer, drawing.selfPeer) ? before.selfPeer : drawing.selfPeer,
    };
    const unchanged =
      kept.nodes === before.nodes && kept.wires === before.wires && kept.selfPeer === before.selfPeer;
    this.change({ drawing: unchanged ? before : kept });
  }

  private change(changes: Partial<DesignState>): void {
    this.state = {
      ...this.state,
      ...changes,
      unsaved: this.queue.length + (Object.keys(this.uiChanges).length > 0 ? 1 : 0),
      undoLabel: this.history.undoLabel,
      redoLabel: this.history.redoLabel,
    };
    for (const listener of [...this.listeners]) listener();
    if (this.isLeft && this.queue.length === 0) this.stop();
  }

  private stop(): void {
    for (const stop of this.stops) stop();
    this.reloader?.stop();
    this.reloader = null;
  }
}

function keyOf(edit: Edit): Key {
  switch (edit.kind) {
    case "add_node":
      return edit.node.key;
    case "add_wire":
      return edit.wire.key;
    case "place_self_peer":
      return 0;
    default:
      return edit.key;
  }
}

function byKey<T extends { key: Key }>(items: readonly T[]): Map<Key, T> {
  return new Map(items.map((item) => [item.key, item]));
}

function isNode(draft: DrawnNode, row: DrawnNode): boolean {
  const { service_id, peer_id, gui_x, gui_y, name } = draft;
  return (
    service_id === row.service_id &&
    peer_id === row.peer_id &&
    name === row.name &&
    Math.round(gui_x) === row.gui_x &&
    Math.round(gui_y) === row.gui_y
  );
}

function known<T>(value: T | undefined, what: string): T {
  if (value !== undefined) return value;
  throw new RpcError(1000, `The ${what} is not there any more`, {
    error: NOT_FOUND,
    hint: "Another window has deleted it.",
  });
}
