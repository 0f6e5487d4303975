// The shapes of the JSON-RPC contract that this page reads, in the contract's own words.

export type ServiceType = "DATA" | "DOCKER" | "STANDALONE";
export type ServiceStatus = "ACTIVE" | "INACTIVE";
export type InterfaceType = "STDIN" | "STDOUT" | "STDERR" | "LOGS" | "MOUNT";
export type MountFunction = "INPUT" | "OUTPUT" | "BOTH";
export type ExecutionStatus = "PENDING" | "RUNNING" | "COMPLETED" | "FAILED" | "CANCELLED";
export type JobStatus = "IDLE" | "READY" | "RUNNING" | "COMPLETED" | "ERRORED" | "CANCELLED";
export type WorkflowJobStatus = "PENDING" | JobStatus;
export type TransferStatus = "PENDING" | "ACTIVE" | "COMPLETED" | "FAILED" | "CANCELLED";
export type TransferDirection = "LOCAL" | "OUTGOING" | "INCOMING";
export type PeerState = "pending" | "allowed" | "denied";
export type Scope = "read" | "operate" | "admin";
export type Verb = "discover" | "order" | "fetch";
export type LogStream = "stdout" | "stderr" | "logs";

export interface Page<T> {
  items: T[];
  total: number;
  next_after_id: number | null;
}

export interface ServiceInterface {
  interface_type: InterfaceType;
  path: string;
  mount_function: MountFunction | null;
  required: boolean;
  description: string;
}

export interface Executor {
  available: boolean;
  version?: string;
  reason?: string;
  sandbox?: string;
  sandbox_reason?: string;
}

export interface Executors {
  docker: Executor;
  standalone: Executor;
}

export interface NodeStatus {
  peer_id: string;
  name: string;
  version: string;
  started_at: string;
  uptime_s: number;
  api: { url: string; socket: string };
  peer_addresses: string[];
  executors: Executors;
  jobs: Record<string, number>;
  executions: Record<string, number>;
  transfers_active: number;
  peers_connected: number;
  disk_free_bytes: number;
}

export interface NodeCapabilities {
  platform: string;
  architecture: string;
  cpu_cores: number;
  memory_bytes: number;
  disk_free_bytes: number;
  gpus: string[];
  docker: string | null;
  python: string;
  executors: Executors;
}

export interface Token {
  id: number;
  name: string;
  scope: Scope;
  created_at: string;
  valid_until: string | null;
  revoked_at: string | null;
  token?: string;
}

export interface Peer {
  id: number;
  peer_id: string;
  name: string;
  state: PeerState;
  addresses: string[];
  connected: boolean;
  rtt_ms: number | null;
  last_failure: string;
  last_seen_at: string | null;
  instance_id: string | null;
  created_at: string;
  updated_at: string;
}

export interface Grant {
  id: number;
  grant_id: number;
  peer_id: string;
  service_id: number | null;
  verbs: Verb[];
  limits: Record<string, unknown>;
  created_at: string;
}

export interface Limits {
  cpus?: number | null;
  memory_bytes?: number | null;
  pids?: number | null;
  disk_bytes?: number | null;
  open_files?: number | null;
  gpus?: number | null;
}

export interface Service {
  id: number;
  name: string;
  description: string;
  service_type: ServiceType;
  status: ServiceStatus;
  interfaces: ServiceInterface[];
  pricing_amount: number;
  pricing_type: string;
  access: "allowed" | "granted";
  retry_safe: boolean;
  revision: number;
  created_at: string;
  updated_at: string;
  warn?: string;
  // By type; which of them are there is the daemon's to say.
  paths?: string[];
  encrypted?: boolean;
  egress?: "any_job" | "listed" | "here_only";
  egress_peers?: string[];
  downloadable?: boolean;
  seal?: boolean;
  image?: string;
  build_context?: string;
  executable?: string;
  entrypoint?: string[] | null;
  cmd?: string[] | null;
  env?: Record<string, string>;
  working_directory?: string;
  limits?: Limits;
  timeout_s?: number | null;
  allow_override?: boolean;
  confine?: "auto" | "always" | "never";
  host_paths?: { path: string; writable?: boolean }[];
  network?: "none" | "host" | "bridge";
  min_sandbox?: "none" | "landlock" | "bubblewrap";
  user?: string;
  read_only_root?: boolean;
  tmpfs_bytes?: number;
  cap_add?: string[];
  retry?: { attempts?: number; backoff_s?: number };
  [setting: string]: unknown;
}

/** A service as service.search answers it: of this peer or of another. */
export interface FoundService {
  id: number;
  service_id: number;
  peer_id: string;
  name: string;
  description: string;
  service_type: ServiceType;
  status: ServiceStatus;
  interfaces: ServiceInterface[];
  pricing_amount: number;
  pricing_type: string;
  revision: number;
}

export interface SearchResult {
  items: FoundService[];
  unreachable: { peer_id: string; reason: string }[];
  total: number;
  next_offset: number | null;
}

export interface WorkflowSummary {
  id: number;
  name: string;
  description: string;
  node_count: number;
  connection_count: number;
  created_at: string;
  updated_at: string;
}

export interface Workflow {
  id: number;
  name: string;
  description: string;
  definition: { jobs: Record<string, unknown>[] };
  created_at: string;
  updated_at: string;
}

export interface WorkflowNode {
  id: number;
  node_id: number;
  workflow_id: number;
  service_id: number;
  peer_id: string;
  name: string;
  service_name: string;
  service_type: ServiceType;
  order: number;
  gui_x: number;
  gui_y: number;
  interfaces: ServiceInterface[];
  entrypoint: string[] | null;
  cmd: string[] | null;
  pricing_amount: number;
  pricing_type: string;
  service_revision: number | null;
  pin: boolean;
}

export interface WorkflowConnection {
  id: number;
  connection_id: number;
  workflow_id: number;
  from_node_id: number | null;
  from_interface_type: InterfaceType;
  to_node_id: number | null;
  to_interface_type: InterfaceType;
  destination_file_name: string | null;
  from_interface_path: string;
  to_interface_path: string;
  include: string[];
  source_path: string | null;
}

export interface UiState {
  workflow_id: number;
  snap_to_grid: boolean;
  zoom_level: number;
  pan_x: number;
  pan_y: number;
  self_peer_x: number;
  self_peer_y: number;
}

export interface ValidationProblem {
  check: string;
  message: string;
  node_id?: number;
  connection_id?: number;
  place?: string;
}

export interface Validation {
  valid: boolean;
  problems: ValidationProblem[];
  definition: Record<string, unknown> | null;
}

export interface Plan {
  ok: boolean;
  jobs: {
    node_id: number;
    executor_peer_id: string;
    accepted: boolean;
    reasons: string[];
    warnings: string[];
    service_revision: number | null;
  }[];
  edges: { connection_id: number; from_peer_id: string; to_peer_id: string; reachable: boolean; reason?: string }[];
}

export interface WorkflowJob {
  id: number;
  node_id: number;
  job_name: string;
  service_id: number;
  service_type: ServiceType;
  executor_peer_id: string;
  remote_job_execution_id: number | null;
  status: WorkflowJobStatus;
  result: string | null;
  error: string | null;
}

/** What was executed, as far as it is compared with what is drawn. */
export interface Definition {
  jobs: DefinitionJob[];
}

export interface DefinitionJob {
  node_id: number;
  service_id: number;
  service_type: ServiceType;
  executor_peer_id: string;
  entrypoint?: string[];
  cmd?: string[];
  pinned_revision?: number;
  interfaces: {
    type: InterfaceType;
    path: string;
    mount_function: MountFunction | null;
    interface_peers: {
      connection_id: number;
      peer_workflow_node_id: number | null;
      /** What the other end does: OUTPUT, it sends to this job. */
      peer_mount_function: MountFunction;
      peer_file_name: string | null;
      include: string[];
      source_path?: string | null;
    }[];
  }[];
}

export interface Progress {
  jobs_total: number;
  jobs_terminal: number;
  bytes_total: number;
  bytes_done: number;
  transfers_active: number;
  rate_bytes_s: number;
  left_s: number | null;
}

export interface Execution {
  id: number;
  execution_id: number;
  workflow_id: number | null;
  status: ExecutionStatus;
  error: string | null;
  started_at: string | null;
  completed_at: string | null;
  cleared_at: string | null;
  jobs: WorkflowJob[];
  progress: Progress;
  /** Where it was asked for. */
  definition?: Definition;
}

export interface ExecutionSummary {
  id: number;
  execution_id: number;
  workflow_id: number | null;
  workflow_name: string;
  status: ExecutionStatus;
  error: string | null;
  started_at: string | null;
  completed_at: string | null;
  jobs_total: number;
  jobs_terminal: number;
}

export interface Job {
  id: number;
  job_execution_id: number;
  workflow_execution_id: number | null;
  node_id: number;
  job_name: string;
  service_id: number;
  service_name: string;
  service_type: ServiceType;
  service_revision: number;
  executor_peer_id: string;
  ordering_peer_id: string;
  status: JobStatus;
  execution_constraint: "NONE" | "INPUTS_READY";
  start_received: boolean;
  started_at: string | null;
  ended_at: string | null;
  error_message: string | null;
  exit_code: number | null;
  remark: string | null;
}

export interface Transfer {
  transfer_id: string;
  direction: TransferDirection;
  status: TransferStatus;
  execution_id: number | null;
  connection_id: number;
  peer_id: string;
  file_count: number;
  size_bytes: number;
  bytes_done: number;
  sealed: boolean;
  attempts: number;
  next_attempt_at: string | null;
  error: string | null;
  started_at: string | null;
  completed_at: string | null;
  rate_bytes_s: number | null;
  left_s: number | null;
}

export interface ResultFile {
  id: number;
  node_id: number;
  connection_id: number;
  path: string;
  absolute_path: string;
  size_bytes: number;
  sha256: string;
  url: string;
}

export interface Results extends Page<ResultFile> {
  outstanding: Record<string, unknown>[];
}

export interface Ticket {
  ticket: string;
  url: string;
  expires_at: string;
}

export interface JobLogs {
  data: string;
  next_offset: number;
  eof: boolean;
}

export interface Explanation {
  status: string;
  because: string;
  checks: { check: string; ok: boolean | null; evidence: string }[];
  do: string;
}

export interface Invite {
  invite: string;
  expires_at: string;
}

export interface Upload {
  name: string;
  size_bytes: number;
  sha256: string;
  created_at: string;
  expires_at: string;
}
