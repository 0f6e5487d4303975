import assert from "node:assert/strict";
import { test } from "node:test";
import type { Service } from "../src/rpc/types";
import { EMPTY_FORM, createParams, formOf, hostPathsOf, pairsOf, parseSize, sizeText, updateParams } from "../src/views/service_form";
import type { ServiceForm } from "../src/views/service_form";

const form = (changes: Partial<ServiceForm>): ServiceForm => ({ ...EMPTY_FORM, ...changes });

const NATIVE: Service = {
  id: 2,
  name: "count",
  description: "",
  service_type: "STANDALONE",
  status: "ACTIVE",
  interfaces: [{ interface_type: "STDOUT", path: "", mount_function: null, required: false, description: "" }],
  pricing_amount: 0,
  pricing_type: "FREE",
  access: "allowed",
  retry_safe: false,
  retry: { attempts: 1, backoff_s: 0 },
  revision: 1,
  created_at: "",
  updated_at: "",
  executable: "/usr/bin/wc",
  cmd: ["-w"],
  env: {},
  limits: { cpus: 1, memory_bytes: 2 ** 29 },
  timeout_s: null,
  allow_override: false,
  confine: "auto",
  host_paths: [{ path: "/srv", writable: true }],
  secret_names: ["key"],
};

test("sizes are read as people write them, and written so that they are read back", () => {
  const read = ["4096", "512 MB", "1.5g", "2 GiB", "1 kb", "", "much", "-1"].map(parseSize);
  assert.deepEqual(read, [4096, 2 ** 29, 1.5 * 2 ** 30, 2 ** 31, 1024, undefined, undefined, undefined]);
  for (const bytes of [1, 1000, 1024, 2 ** 29, 3 * 2 ** 40, 2 ** 20 + 1]) assert.equal(parseSize(sizeText(bytes)), bytes);
});

test("pairs keep everything after the first =, and say which line is none", () => {
  assert.deepEqual(pairsOf("A=1\n\nB=x=y \n"), { A: "1", B: "x=y " });
  assert.equal(pairsOf("A=1\nB"), "“B” is not NAME=value.");
  assert.equal(pairsOf("A=1\nA=2"), "A is given twice.");
});

test("paths are read-only where nothing else is said", () => {
  assert.deepEqual(hostPathsOf("/a\n/b c rw\n/d ro"), [
    { path: "/a", writable: false },
    { path: "/b c", writable: true },
    { path: "/d", writable: false },
  ]);
});

test("a DATA service says its files and only what differs from the defaults", () => {
  const { params, errors } = createParams(form({ name: " words ", uploads: ["a.txt"], paths: "/srv/x\n", passphrase: "secret" }));
  assert.deepEqual(errors, {});
  assert.deepEqual(params, {
    name: "words",
    service_type: "DATA",
    paths: ["/srv/x", "upload:a.txt"],
    passphrase: "secret",
    egress: "any_job",
    downloadable: true,
    seal: false,
  });
});

test("a DOCKER service carries its container's settings", () => {
  const { params, errors } = createParams(
    form({ service_type: "DOCKER", name: "train", image: "python:3", cmd: "a b\nc", cpus: "1.5", memory: "1 GB", env: "A=1", cap_add: "CHOWN, SETUID", network: "bridge", timeout_s: "60", secrets: "key=v", registry_username: "u", registry_password: "p" }),
  );
  assert.deepEqual(errors, {});
  assert.deepEqual(params, {
    name: "train",
    service_type: "DOCKER",
    image: "python:3",
    cmd: ["a b", "c"],
    env: { A: "1" },
    timeout_s: 60,
    allow_override: false,
    limits: { cpus: 1.5, memory_bytes: 2 ** 30 },
    secrets: { key: "v" },
    network: "bridge",
    read_only_root: true,
    cap_add: ["CHOWN", "SETUID"],
    registry_auth: { username: "u", password: "p" },
  });
});

test("every field that is wrong is named at once", () => {
  const { errors } = createParams(form({ service_type: "STANDALONE", executable: "wc", memory: "lots", cpus: "-1", pids: "1.5", env: "x" }));
  assert.deepEqual(Object.keys(errors).sort(), ["cpus", "env", "executable", "memory", "name", "pids"]);
  assert.deepEqual(Object.keys(createParams(form({ name: "x" })).errors), ["paths"]);
});

test("a MOUNT needs a path and says what the job does with it; others have neither", () => {
  const row = { path: "", required: false, description: "", mount_function: "" } as const;
  const made = createParams(
    form({ service_type: "STANDALONE", name: "x", executable: "/bin/x", interfaces: [{ ...row, interface_type: "MOUNT", path: "/in", mount_function: "INPUT" }, { ...row, interface_type: "STDOUT", mount_function: "BOTH" }] }),
  );
  assert.deepEqual((made.params.interfaces as { mount_function: string | null }[]).map(({ mount_function }) => mount_function), ["INPUT", null]);
  assert.ok(createParams(form({ name: "x", interfaces: [{ ...row, interface_type: "MOUNT" }] })).errors.interfaces);
});

test("a service whose form was not touched is not changed", () => {
  assert.deepEqual(updateParams(NATIVE, formOf(NATIVE)).params, { service_id: 2 });
});

test("what a service cannot be without again is told at its field", () => {
  const service = { ...NATIVE, working_directory: "/srv", min_sandbox: "landlock" as const };
  const { errors } = updateParams(service, { ...formOf(service), working_directory: "", min_sandbox: "" });
  assert.deepEqual(Object.keys(errors), ["working_directory", "min_sandbox"]);
});

test("only what was changed is sent, a secret that goes as null", () => {
  const { params } = updateParams(NATIVE, { ...formOf(NATIVE), cmd: "-l", memory: "1 GB", secrets: "new=1", secrets_removed: ["key"] });
  assert.deepEqual(params, {
    service_id: 2,
    cmd: ["-l"],
    limits: { cpus: 1, memory_bytes: 2 ** 30 },
    secrets: { key: null, new: "1" },
  });
});

test("arguments that a line cannot hold are as they were after a change of something else", () => {
  const service = { ...NATIVE, cmd: ["-c", "first\nsecond", ""] };
  assert.equal(formOf(service).cmd, '["-c","first\\nsecond",""]');
  assert.deepEqual(updateParams(service, { ...formOf(service), description: "new" }).params, { service_id: 2, description: "new" });
  const docker = { service_type: "DOCKER", name: "x", image: "x", entrypoint: '["a\\nb", ""]', cmd: "" } as const;
  assert.deepEqual(createParams(form(docker)).params.entrypoint, ["a\nb", ""]);
});

test("arguments that begin as JSON and are none are told at their field", () => {
  const { errors } = createParams(form({ service_type: "DOCKER", name: "x", image: "x", entrypoint: '["a"', cmd: '["a", 1]' }));
  assert.deepEqual(Object.keys(errors), ["entrypoint", "cmd"]);
  assert.match(errors.cmd ?? "", /no JSON list/);
});
