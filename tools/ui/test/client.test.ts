// The client over a socket that the test holds: what it sends, what it makes of answers, how it comes back.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Client, OFFLINE, RpcError } from "../src/rpc/client";
import type { DaemonEvent, Socket } from "../src/rpc/client";

interface Call {
  id: number;
  method: string;
  params: Record<string, unknown>;
}

class HeldSocket implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  readyState = 1;
  sent: Call[] = [];
  closed = false;

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Call);
  }

  close(): void {
    this.closed = true;
  }

  say(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  answer(method: string, result: unknown): void {
    const call = this.sent.findLast((each) => each.method === method);
    assert.ok(call, `${method} was not called`);
    this.say({ jsonrpc: "2.0", id: call.id, result });
  }

  refuse(method: string, error: unknown): void {
    this.say({ jsonrpc: "2.0", id: this.sent.findLast((each) => each.method === method)?.id, error });
  }

  event(seq: number, type: string, data: Record<string, unknown> = {}): void {
    this.say({ jsonrpc: "2.0", method: "event", params: { subscription: 1, seq, time: null, type, data } });
  }

  drop(): void {
    this.onclose?.({ code: 1006, reason: "" });
  }

  get methods(): string[] {
    return this.sent.map(({ method }) => method);
  }
}

let sockets: HeldSocket[] = [];
const last = (): HeldSocket => sockets.at(-1) ?? assert.fail("no socket was opened");
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function start(): Client {
  return new Client("secret", {
    url: "ws://daemon/ws",
    connect: () => {
      const socket = new HeldSocket();
      sockets.push(socket);
      return socket;
    },
  });
}

async function logIn(seq = 10): Promise<void> {
  last().onopen?.(undefined as never);
  last().answer("auth.login", { scope: "admin" });
  await settled();
  last().answer("events.subscribe", { subscription: 1, seq });
  await settled();
}

beforeEach(() => {
  sockets = [];
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
});
afterEach(() => mock.timers.reset());

test("it logs in, subscribes, and only then sends the calls that waited", async () => {
  const client = start();
  const waited = client.call<number>("workflow.list");
  assert.deepEqual(last().methods, []);
  last().onopen?.(undefined as never);
  assert.deepEqual(last().sent[0]?.params, { token: "secret" });
  assert.deepEqual(last().methods, ["auth.login"]);
  last().answer("auth.login", { scope: "operate" });
  await settled();
  assert.deepEqual(last().methods, ["auth.login", "events.subscribe", "workflow.list"]);
  assert.equal(client.online, true);
  assert.equal(client.scope, "operate");
  last().answer("workflow.list", 7);
  assert.equal(await waited, 7);
  client.close();
});

test("an error keeps the contract's word, its hint and every problem", async () => {
  const client = start();
  await logIn();
  const call = client.call("workflow.execute", { workflow_id: 1 });
  const problems = [{ check: "services", message: "Service 4 not found", node_id: 2 }];
  last().refuse("workflow.execute", {
    code: 1100,
    message: "Workflow must have at least one job",
    data: { error: "VALIDATION_FAILED", hint: "Add a node.", problems },
  });
  await assert.rejects(call, (error: RpcError) => {
    assert.deepEqual([error.code, error.error, error.hint, error.problems], [1100, "VALIDATION_FAILED", "Add a node.", problems]);
    return true;
  });
  client.close();
});

test("calls fail clearly when the connection breaks, and while it is away", async () => {
  const client = start();
  await logIn();
  const pending = client.call("execution.get");
  last().drop();
  await assert.rejects(pending, (error: RpcError) => error.error === OFFLINE && error.hint !== "");
  await assert.rejects(client.call("execution.get"), (error: RpcError) => error.error === OFFLINE);
  client.close();
});

test("nothing is sent on a socket that is closing", async () => {
  const client = start();
  await logIn();
  const socket = last();
  const sent = socket.sent.length;
  socket.readyState = 2;
  await assert.rejects(client.call("execution.get"), (error: RpcError) => error.error === OFFLINE);
  assert.equal(socket.sent.length, sent);
  assert.equal(client.connection.state, "offline");
  client.close();
});

test("it comes back after growing pauses, and at once when told to", async () => {
  const client = start();
  await logIn();
  last().drop();
  mock.timers.tick(499);
  assert.equal(sockets.length, 1);
  mock.timers.tick(1);
  assert.equal(sockets.length, 2);
  last().drop();
  mock.timers.tick(999);
  assert.equal(sockets.length, 2);
  client.retryNow();
  assert.equal(sockets.length, 3);
  await logIn();
  assert.equal(client.online, true);
  client.close();
});

test("it goes on after the last event that it heard, and tells of a gap", async () => {
  const client = start();
  await logIn(10);
  const heard: DaemonEvent[] = [];
  client.subscribe(["job.updated"], (event) => heard.push(event));
  last().event(11, "job.updated", { node_id: 1 });
  last().event(12, "peer.updated");
  last().drop();
  mock.timers.tick(500);
  last().onopen?.(undefined as never);
  last().answer("auth.login", { scope: "admin" });
  await settled();
  assert.deepEqual(last().sent.find(({ method }) => method === "events.subscribe")?.params, { after_seq: 12 });
  last().event(40, "events.dropped");
  assert.deepEqual(
    heard.map(({ seq, type }) => [seq, type]),
    [
      [11, "job.updated"],
      [40, "gap"],
    ],
  );
  client.close();
});

test("a listener that stopped hears nothing more", async () => {
  const client = start();
  await logIn();
  let heard = 0;
  const stop = client.subscribe([], () => (heard += 1));
  last().event(11, "job.updated");
  stop();
  last().event(12, "job.updated");
  assert.equal(heard, 1);
  client.close();
});

test("a token that is refused ends the attempts", async () => {
  const client = start();
  last().onopen?.(undefined as never);
  last().refuse("auth.login", { code: 1600, message: "The token is not valid", data: { error: "PERMISSION_DENIED" } });
  await settled();
  assert.equal(client.connection.state, "refused");
  assert.equal(last().closed, true);
  mock.timers.tick(60_000);
  assert.equal(sockets.length, 1);
});

test("a connection on which nothing is answered is given up", async () => {
  const client = start();
  await logIn();
  mock.timers.tick(20_000);
  assert.equal(last().methods.at(-1), "node.status");
  mock.timers.tick(20_000);
  assert.equal(client.connection.state, "offline");
  client.close();
});
