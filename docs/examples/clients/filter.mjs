#!/usr/bin/env node
// Have a peer run a command over a file and print what comes home: a client of rnd's API in JavaScript, for node alone.
//
//     filter.mjs FILE COMMAND        filter.mjs hamlet.txt 'tr a-z A-Z | sort'
//
// It speaks to RND_URL (http://127.0.0.1:30069) with the token RND_TOKEN, or else to the socket below RND_DATA_DIR.

import http from "node:http";
import path from "node:path";

class Refused extends Error {} // the peer has answered with an error; the message has all that a person needs

const { RND_URL, RND_TOKEN = "", RND_DATA_DIR = "/var/lib/rnd" } = process.env;
const place = RND_URL
  ? { hostname: new URL(RND_URL).hostname, port: new URL(RND_URL).port || 80, headers: { Authorization: `Bearer ${RND_TOKEN}` } }
  : { socketPath: path.join(RND_DATA_DIR, "api.sock"), host: "rnd", headers: {} };

/** Send one request and return the body of its answer. */
function send(method, where, body) {
  return new Promise((resolve, reject) => {
    const headers = { ...place.headers, "Content-Type": "application/json" };
    const request = http.request({ ...place, method, path: where, headers, timeout: 60_000 }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", reject);
      response.on("end", () => {
        const content = Buffer.concat(parts);
        if (response.statusCode === 200) resolve(content);
        else reject(new Refused(`HTTP ${response.statusCode}: ${content.toString().trim()}`));
      });
    });
    request.on("timeout", () => request.destroy(new Error("no answer within 60 s")));
    request.on("error", reject);
    request.end(body);
  });
}

let lastId = 0;

/** Return the result of a method; throw Refused where it has none. */
async function call(method, params = {}) {
  const id = ++lastId;
  const answer = JSON.parse(await send("POST", "/rpc", JSON.stringify({ jsonrpc: "2.0", id, method, params })));
  if (answer.error) throw new Refused(inWords(method, answer.error));
  return answer.result;
}

/** Return an error as a person reads it: what is wrong, every problem, and what to do. */
function inWords(method, { code, message, data = {} }) {
  const lines = [`${method}: ${message} (${data.error ?? code})`];
  for (const problem of data.problems ?? []) if (problem.message !== message) lines.push(`  ${problem.message}`);
  if (data.hint) lines.push(`  hint: ${data.hint}`);
  return lines.join("\n");
}

/** Offer the file and the command, connect them, run that, write the results to standard output, and tidy up. */
async function run(file, command) {
  const name = `filter-${process.pid}`;
  const services = [];
  let workflow;
  try {
    const text = { service_type: "DATA", paths: [path.resolve(file)] };
    services.push((await call("service.create", { name: `${name}-text`, ...text })).id);
    const program = { service_type: "STANDALONE", executable: "/bin/sh", cmd: ["-c", command] };
    services.push((await call("service.create", { name: `${name}-program`, ...program })).id);
    workflow = (await call("workflow.create", { name })).id;
    const [source, sink] = [
      (await call("workflow.add_node", { workflow_id: workflow, service_id: services[0] })).node_id,
      (await call("workflow.add_node", { workflow_id: workflow, service_id: services[1] })).node_id,
    ];
    // From the data to the program, and from the program home (null: the peer that runs the workflow).
    for (const [from, to] of [[source, sink], [sink, null]]) {
      const ends = { from_node_id: from, from_interface_type: "STDOUT", to_node_id: to, to_interface_type: "STDIN" };
      await call("workflow.add_connection", { workflow_id: workflow, ...ends });
    }
    const execution = (await call("workflow.execute", { workflow_id: workflow })).execution_id;
    await untilItHasEnded(execution);
    await writeResults(execution);
  } finally {
    if (workflow !== undefined) await call("workflow.delete", { workflow_id: workflow });
    for (const service of services) await call("service.delete", { service_id: service });
  }
}

/** Wait for an execution, for as long as it takes; throw Refused where it has not completed. */
async function untilItHasEnded(execution) {
  let state;
  do {
    state = await call("execution.wait", { execution_id: execution, timeout_s: 25 });
  } while (["PENDING", "RUNNING"].includes(state.status));
  if (state.status === "COMPLETED") return;
  const lines = [`execution ${execution} is ${state.status}: ${state.error}`];
  for (const job of state.jobs.filter((each) => each.status === "ERRORED")) {
    const log = await call("job.logs", { execution_id: execution, node_id: job.node_id, stream: "stderr" });
    lines.push(...log.data.split("\n").filter(Boolean).map((line) => `  ${line}`));
  }
  throw new Refused(lines.join("\n"));
}

/** Write every file that came home to standard output, page after page. */
async function writeResults(execution) {
  for (let after = 0; after !== null;) {
    const page = await call("execution.results", { execution_id: execution, after_id: after });
    for (const item of page.items) {
      const where = [execution, item.node_id, item.connection_id, ...item.path.split("/")].map(encodeURIComponent);
      process.stdout.write(await send("GET", `/results/${where.join("/")}`));
    }
    after = page.next_after_id;
  }
}

const words = process.argv.slice(2);
if (words.length !== 2) {
  console.error("usage: filter.mjs FILE COMMAND");
  process.exitCode = 2;
} else {
  try {
    await run(...words);
  } catch (error) {
    if (!(error instanceof Refused) && !error.syscall) throw error;
    console.error(`filter.mjs: ${error instanceof Refused ? "" : "the peer does not answer: "}${error.message}`);
    process.exitCode = 1;
  }
}
