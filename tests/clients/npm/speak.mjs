// Speaks to a daemon by one public JSON-RPC client library, as its documentation has it, and prints what came of it as JSON.
//
//     speak.mjs LIBRARY WORKFLOW    with RND_URL and RND_TOKEN; WORKFLOW is the id of a workflow

import jayson from "jayson";
import { JSONRPCClient, createJSONRPCRequest, createJSONRPCNotification } from "json-rpc-2.0";

const [library, word] = process.argv.slice(2);
const workflow = Number(word);
const missing = 1e9;
const { RND_URL, RND_TOKEN } = process.env;
const Authorization = `Bearer ${RND_TOKEN}`;

const speakers = { "json-rpc-2.0": ofJsonRpc20, jayson: ofJayson };
console.log(JSON.stringify(await speakers[library]()));

async function ofJsonRpc20() {
  const client = new JSONRPCClient(async (payload) => {
    const headers = { "Content-Type": "application/json", Authorization };
    const response = await fetch(`${RND_URL}/rpc`, { method: "POST", headers, body: JSON.stringify(payload) });
    if (response.status === 200) client.receive(await response.json());
    else if (response.status !== 204) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  });
  const refusal = (promise) => promise.then(() => null, ({ code, message, data }) => ({ code, message, data }));
  const named = await client.request("workflow.get", { workflow_id: workflow });
  const positional = await client.request("workflow.get", [workflow]);
  client.notify("workflow.create", { name: `noted by ${library}` });
  const answers = await client.requestAdvanced([
    createJSONRPCRequest(1, "workflow.get", { workflow_id: workflow }),
    createJSONRPCNotification("workflow.create", { name: `noted in a batch by ${library}` }),
    createJSONRPCRequest("two", "workflow.get", { workflow_id: missing }),
  ]);
  const error = await refusal(client.request("workflow.get", { workflow_id: missing }));
  const unknown = await refusal(client.request("no.such"));
  return { named, positional, batch: answers.map((answer) => answer.result ?? answer.error), error, unknown };
}

async function ofJayson() {
  const { hostname, port } = new URL(RND_URL);
  const client = jayson.Client.http({ hostname, port, path: "/rpc", headers: { Authorization } });
  const answered = (...call) =>
    new Promise((resolve, reject) => client.request(...call, (fault, answer) => (fault ? reject(fault) : resolve(answer))));
  const named = (await answered("workflow.get", { workflow_id: workflow })).result;
  const positional = (await answered("workflow.get", [workflow])).result;
  await answered("workflow.create", { name: `noted by ${library}` }, null); // an id of null: it makes a notification
  const answers = await answered([
    client.request("workflow.get", { workflow_id: workflow }, undefined, false),
    client.request("workflow.create", { name: `noted in a batch by ${library}` }, null, false),
    client.request("workflow.get", { workflow_id: missing }, undefined, false),
  ]);
  const error = (await answered("workflow.get", { workflow_id: missing })).error;
  const unknown = (await answered("no.such", [])).error;
  return { named, positional, batch: answers.map((answer) => answer.result ?? answer.error), error, unknown };
}
