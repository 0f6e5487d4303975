// What the form of a service holds, and the parameters of service.create and service.update that it stands for. Pure.

import { readWords, shownWords } from "../parts/words";
import type { InterfaceType, MountFunction, Service, ServiceInterface, ServiceType } from "../rpc/types";

export interface InterfaceRow {
  interface_type: InterfaceType;
  path: string;
  mount_function: MountFunction | "";
  required: boolean;
  description: string;
}

/** Everything as people type it; lists have one entry a line. */
export interface ServiceForm {
  service_type: ServiceType;
  name: string;
  description: string;
  access: string;
  pricing_amount: string;
  pricing_type: string;
  retry_safe: boolean;
  attempts: string;
  backoff_s: string;
  /** `null`: the defaults of the type. */
  interfaces: InterfaceRow[] | null;

  paths: string;
  uploads: string[];
  passphrase: string;
  egress: string;
  egress_peers: string[];
  downloadable: boolean;
  seal: boolean;

  image: string;
  build_context: string;
  entrypoint: string;
  user: string;
  read_only_root: boolean;
  tmpfs: string;
  cap_add: string;
  registry_username: string;
  registry_password: string;

  executable: string;
  working_directory: string;
  confine: string;
  host_paths: string;
  min_sandbox: string;

  cmd: string;
  env: string;
  network: string;
  timeout_s: string;
  allow_override: boolean;
  cpus: string;
  memory: string;
  pids: string;
  disk: string;
  open_files: string;
  gpus: string;
  secrets: string;
  secrets_removed: string[];
}

export type FormErrors = Partial<Record<keyof ServiceForm, string>>;
export type Params = Record<string, unknown>;

export const EMPTY_FORM: ServiceForm = {
  service_type: "DATA",
  name: "",
  description: "",
  access: "allowed",
  pricing_amount: "",
  pricing_type: "",
  retry_safe: false,
  attempts: "",
  backoff_s: "",
  interfaces: null,
  paths: "",
  uploads: [],
  passphrase: "",
  egress: "any_job",
  egress_peers: [],
  downloadable: true,
  seal: false,
  image: "",
  build_context: "",
  entrypoint: "",
  user: "",
  read_only_root: true,
  tmpfs: "",
  cap_add: "",
  registry_username: "",
  registry_password: "",
  executable: "",
  working_directory: "",
  confine: "auto",
  host_paths: "",
  min_sandbox: "",
  cmd: "",
  env: "",
  network: "",
  timeout_s: "",
  allow_override: false,
  cpus: "",
  memory: "",
  pids: "",
  disk: "",
  open_files: "",
  gpus: "",
  secrets: "",
  secrets_removed: [],
};

export const DEFAULT_INTERFACES: Record<ServiceType, InterfaceType[]> = {
  DATA: ["STDOUT"],
  DOCKER: ["STDIN", "STDOUT", "STDERR", "LOGS"],
  STANDALONE: ["STDIN", "STDOUT", "STDERR", "LOGS"],
};

// ---------------------------------------------------------------- small languages of fields

const UNIT_BYTES: Record<string, number> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** "512 MB", "1.5g", "4096" -> bytes (of 1024); `undefined`: it is no size. */
export function parseSize(text: string): number | undefined {
  const found = /^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*$/i.exec(text);
  if (!found) return undefined;
  const unit = UNIT_BYTES[(found[2] ?? "").toUpperCase()];
  return unit === undefined ? undefined : Math.round(Number(found[1]) * unit);
}

/** Bytes as `parseSize` takes them, exactly. */
export function sizeText(count: number | null | undefined): string {
  if (count === null || count === undefined) return "";
  for (const unit of ["T", "G", "M", "K"]) {
    const size = UNIT_BYTES[unit] ?? 1;
    if (count >= size && count % size === 0) return `${count / size} ${unit}B`;
  }
  return String(count);
}

/** The lines that say something. */
export function linesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.replace(/\r$/, ""))
    .filter((line) => line.trim() !== "");
}

/** "NAME=value" lines; a text instead of them says which line is none. */
export function pairsOf(text: string): Record<string, string> | string {
  const pairs: Record<string, string> = {};
  for (const line of linesOf(text)) {
    const at = line.indexOf("=");
    const name = line.slice(0, at).trim();
    if (at < 1 || !name) return `“${line}” is not NAME=value.`;
    if (Object.hasOwn(pairs, name)) return `${name} is given twice.`;
    pairs[name] = line.slice(at + 1);
  }
  return pairs;
}

/** "/data" is read, "/data rw" is written too. */
export function hostPathsOf(text: string): { path: string; writable: boolean }[] {
  return linesOf(text).map((line) => {
    const found = /^(.*\S)\s+(rw|ro)$/.exec(line.trim());
    return { path: found?.[1] ?? line.trim(), writable: found?.[2] === "rw" };
  });
}

// ---------------------------------------------------------------- form -> parameters

/** The parameters of service.create, or what is wrong by field. */
export function createParams(form: ServiceForm): { params: Params; errors: FormErrors } {
  const { params, errors } = settingsOf(form);
  params.service_type = form.service_type;
  if (form.service_type === "DATA") {
    const paths = [...linesOf(form.paths).map((line) => line.trim()), ...form.uploads.map((name) => `upload:${name}`)];
    if (!paths.length) errors.paths = "Name a file or folder of this machine, or upload one.";
    params.paths = paths;
    if (form.passphrase) params.passphrase = form.passphrase;
  }
  return { params: withoutDefaults(params), errors };
}

/** What service.update can change and not take away. */
const LASTING: readonly (readonly [field: keyof ServiceForm, name: string])[] = [
  ["working_directory", "working_directory"],
  ["min_sandbox", "min_sandbox"],
  ["network", "network"],
  ["tmpfs", "tmpfs_bytes"],
];

/** The parameters of service.update: only what differs from what the service is. */
export function updateParams(service: Service, form: ServiceForm): { params: Params; errors: FormErrors } {
  const before = settingsOf(formOf(service)).params;
  const interfaces = form.interfaces ?? DEFAULT_INTERFACES[form.service_type].map(plainInterface);
  const { params, errors } = settingsOf({ ...form, interfaces });
  const changed: Params = { service_id: service.id };
  for (const [name, value] of Object.entries(params)) {
    if (JSON.stringify(value) !== JSON.stringify(before[name])) changed[name] = value;
  }
  for (const [field, name] of LASTING) {
    if (before[name] !== undefined && params[name] === undefined && !errors[field]) {
      errors[field] = "A service that has one keeps one: give another instead of none.";
    }
  }
  if (form.secrets_removed.length) {
    const given = (changed.secrets ?? {}) as Record<string, string | null>;
    changed.secrets = { ...Object.fromEntries(form.secrets_removed.map((name) => [name, null])), ...given };
  }
  return { params: changed, errors };
}

function settingsOf(form: ServiceForm): { params: Params; errors: FormErrors } {
  const errors: FormErrors = {};
  const params: Params = {
    name: form.name.trim(),
    description: form.description,
    access: form.access,
    pricing_amount: numberOf(form.pricing_amount, "pricing_amount", errors) ?? 0,
    pricing_type: form.pricing_type.trim() || "FREE",
    retry_safe: form.retry_safe,
  };
  if (!params.name) errors.name = "A service needs a name.";
  if (form.retry_safe) {
    params.retry = {
      attempts: wholeOf(form.attempts, "attempts", errors) ?? 1,
      backoff_s: numberOf(form.backoff_s, "backoff_s", errors) ?? 0,
    };
  }
  if (form.interfaces) {
    params.interfaces = form.interfaces.map(interfaceOf);
    const wrong = form.interfaces.find((row) => row.interface_type === "MOUNT" && !row.path.startsWith("/"));
    if (wrong) errors.interfaces = "A MOUNT needs an absolute path.";
  }
  if (form.service_type === "DATA") {
    params.egress = form.egress;
    params.egress_peers = form.egress === "listed" ? form.egress_peers : [];
    params.downloadable = form.downloadable;
    params.seal = form.seal;
    return { params, errors };
  }
  params.env = pairs(form.env, "env", errors);
  params.timeout_s = numberOf(form.timeout_s, "timeout_s", errors) ?? null;
  params.allow_override = form.allow_override;
  params.limits = limitsOf(form, errors);
  const secrets = pairs(form.secrets, "secrets", errors);
  if (Object.keys(secrets).length) params.secrets = secrets;
  if (form.service_type === "DOCKER") containerSettings(form, params, errors);
  else nativeSettings(form, params, errors);
  return { params, errors };
}

function containerSettings(form: ServiceForm, params: Params, errors: FormErrors): void {
  params.image = form.image.trim();
  if (form.build_context.trim()) params.build_context = form.build_context.trim();
  if (!params.image) errors.image = "Name the image, or what a built one is to be called.";
  const entrypoint = wordsOf(form, "entrypoint", errors);
  const cmd = wordsOf(form, "cmd", errors);
  params.entrypoint = entrypoint.length ? entrypoint : null;
  params.cmd = cmd.length ? cmd : null;
  params.network = form.network || "none";
  params.user = form.user.trim();
  params.read_only_root = form.read_only_root;
  const tmpfs = sizeOf(form.tmpfs, "tmpfs", errors);
  if (tmpfs !== undefined) params.tmpfs_bytes = tmpfs;
  params.cap_add = form.cap_add.split(/[\s,]+/).filter(Boolean);
  if (form.registry_username || form.registry_password) {
    params.registry_auth = { username: form.registry_username, password: form.registry_password };
    if (!form.registry_username) errors.registry_username = "Both or neither.";
    if (!form.registry_password) errors.registry_password = "Both or neither.";
  }
}

function nativeSettings(form: ServiceForm, params: Params, errors: FormErrors): void {
  params.executable = form.executable.trim();
  if (!form.executable.trim().startsWith("/")) errors.executable = "Give the absolute path of the program on this machine.";
  params.cmd = wordsOf(form, "cmd", errors);
  if (form.working_directory.trim()) params.working_directory = form.working_directory.trim();
  params.confine = form.confine;
  params.host_paths = hostPathsOf(form.host_paths);
  if (form.network) params.network = form.network;
  if (form.min_sandbox) params.min_sandbox = form.min_sandbox;
}

function limitsOf(form: ServiceForm, errors: FormErrors): Params {
  const limits: Params = {
    cpus: numberOf(form.cpus, "cpus", errors),
    memory_bytes: sizeOf(form.memory, "memory", errors),
    pids: wholeOf(form.pids, "pids", errors),
    disk_bytes: sizeOf(form.disk, "disk", errors),
    open_files: wholeOf(form.open_files, "open_files", errors),
    gpus: wholeOf(form.gpus, "gpus", errors),
  };
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}

function interfaceOf(row: InterfaceRow): Params {
  return {
    interface_type: row.interface_type,
    path: row.path.trim(),
    mount_function: row.interface_type === "MOUNT" ? row.mount_function || "BOTH" : null,
    required: row.required,
    description: row.description,
  };
}

export function plainInterface(interface_type: InterfaceType): InterfaceRow {
  return { interface_type, path: "", mount_function: "", required: false, description: "" };
}

/** What a new service has anyway need not be said. */
function withoutDefaults(params: Params): Params {
  const plain: Params = { description: "", access: "allowed", pricing_amount: 0, pricing_type: "FREE", retry_safe: false };
  const empty = (value: unknown): boolean =>
    value === null ||
    value === "" ||
    (Array.isArray(value) && value.length === 0) ||
    (typeof value === "object" && value !== null && Object.keys(value).length === 0);
  return Object.fromEntries(
    Object.entries(params).filter(([name, value]) => name === "name" || (value !== plain[name] && !empty(value))),
  );
}

function numberOf(text: string, field: keyof ServiceForm, errors: FormErrors): number | undefined {
  if (!text.trim()) return undefined;
  const value = Number(text);
  if (Number.isFinite(value) && value >= 0) return value;
  errors[field] = "This is not a number.";
  return undefined;
}

function wholeOf(text: string, field: keyof ServiceForm, errors: FormErrors): number | undefined {
  const value = numberOf(text, field, errors);
  if (value === undefined || Number.isInteger(value)) return value;
  errors[field] = "Give a whole number.";
  return undefined;
}

function sizeOf(text: string, field: keyof ServiceForm, errors: FormErrors): number | undefined {
  if (!text.trim()) return undefined;
  const value = parseSize(text);
  if (value === undefined) errors[field] = "Give a size such as 512 MB or 2 GB.";
  return value;
}

function wordsOf(form: ServiceForm, field: "entrypoint" | "cmd", errors: FormErrors): string[] {
  const words = readWords(form[field], "");
  if (!words) errors[field] = 'This is no JSON list of texts, such as ["-c", "a b"].';
  return words ?? [];
}

function pairs(text: string, field: keyof ServiceForm, errors: FormErrors): Record<string, string> {
  const found = pairsOf(text);
  if (typeof found !== "string") return found;
  errors[field] = found;
  return {};
}

// ---------------------------------------------------------------- service -> form

/** A service as its form shows it. What is write-only stays empty. */
export function formOf(service: Service): ServiceForm {
  const number = (value: number | null | undefined): string => (value === null || value === undefined ? "" : String(value));
  const limits = service.limits ?? {};
  return {
    ...EMPTY_FORM,
    service_type: service.service_type,
    name: service.name,
    description: service.description,
    access: service.access,
    pricing_amount: service.pricing_amount ? String(service.pricing_amount) : "",
    pricing_type: service.pricing_type === "FREE" ? "" : service.pricing_type,
    retry_safe: service.retry_safe,
    attempts: number(service.retry?.attempts),
    backoff_s: number(service.retry?.backoff_s),
    interfaces: service.interfaces.map(rowOf),
    egress: service.egress ?? "any_job",
    egress_peers: service.egress_peers ?? [],
    downloadable: service.downloadable ?? true,
    seal: service.seal ?? false,
    image: service.image ?? "",
    build_context: "",
    entrypoint: shownWords(service.entrypoint ?? []),
    user: service.user ?? "",
    read_only_root: service.read_only_root ?? true,
    tmpfs: sizeText(service.tmpfs_bytes),
    cap_add: (service.cap_add ?? []).join(" "),
    executable: service.executable ?? "",
    working_directory: service.working_directory ?? "",
    confine: service.confine ?? "auto",
    host_paths: (service.host_paths ?? []).map(({ path, writable }) => (writable ? `${path} rw` : path)).join("\n"),
    min_sandbox: service.min_sandbox ?? "",
    cmd: shownWords(service.cmd ?? []),
    env: Object.entries(service.env ?? {})
      .map(([name, value]) => `${name}=${value}`)
      .join("\n"),
    network: service.network ?? "",
    timeout_s: number(service.timeout_s),
    allow_override: service.allow_override ?? false,
    cpus: number(limits.cpus),
    memory: sizeText(limits.memory_bytes),
    pids: number(limits.pids),
    disk: sizeText(limits.disk_bytes),
    open_files: number(limits.open_files),
    gpus: number(limits.gpus),
  };
}

export function rowOf(face: ServiceInterface): InterfaceRow {
  return {
    interface_type: face.interface_type,
    path: face.path,
    mount_function: face.mount_function ?? "",
    required: face.required,
    description: face.description,
  };
}
