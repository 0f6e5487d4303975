-- The database of one rnd peer: <data-dir>/rnd.db (SQLite, WAL, synchronous=FULL, foreign keys on).
--
-- A short tour.
--
-- What people draw:   workflows -> workflow_nodes -> workflow_connections, and workflow_ui_state for the canvas.
-- What a peer offers: offered_services; data_files lists the snapshot of a DATA service; service_revisions is what
--                     services were when jobs were ordered of them.
-- What runs:          workflow_executions is one run of a workflow, with its definition frozen. workflow_jobs is the
--                     orchestrator's view of its jobs. job_executions is a job on its executor; on the orchestrator it
--                     also mirrors the jobs that other peers execute. job_interfaces and job_interface_peers are a
--                     job's complete routing: who sends to it, who receives from it, and whether that duty is done.
-- What moves:         transfers is one delivery along one connection; job_outputs is what a job left to be carried;
--                     results and result_files are what came home to the orchestrator.
-- Other peers:        peers and what they may do (grants), invites, their signed addresses; introductions admit the peers
--                     of a job that another peer ordered. outbox is what others have yet to be told.
-- What is told:       events, numbered without gaps in meaning: a state change and its event share a transaction.
--
-- The tables of the document ("Database Schema Summary") stand here column for column and CHECK for CHECK; columns
-- that rnd adds follow after a blank comment line in each table. A column named id is a label for people and is never
-- used twice (AUTOINCREMENT). Work is keyed by (ordering_peer_id, execution_uid, node_id, attempt).
--
-- Times are RFC 3339 in UTC with milliseconds (2026-01-31T12:00:00.000Z); what is typed by hand as datetime('now') is
-- understood too. Durations end in _s, sizes in _bytes. JSON columns hold UTF-8 text.
--
-- States move only along these lines, each by one guarded UPDATE that names the old state:
--   workflow_executions  PENDING -> RUNNING -> COMPLETED | FAILED | CANCELLED
--   job_executions       IDLE -> READY -> RUNNING -> COMPLETED | ERRORED | CANCELLED
--                        (IDLE and READY may end ERRORED or CANCELLED at once; RUNNING -> READY is another attempt)
--   transfers            PENDING -> ACTIVE -> COMPLETED | FAILED | CANCELLED (ACTIVE -> PENDING after a restart;
--                        a delivery of less than half a second goes from PENDING to its end at once)
-- What has not begun may end at once as well: a cancel or a refusal finds executions, jobs and transfers PENDING.
-- Repairs by hand are honoured: settled_status remembers what the daemon has acted on, so a status that was typed into
-- sqlite3 differs from it and is noticed within a tick.

-- Node-wide facts: one row a key ('name', 'created_at', ...). Secrets are never here.
CREATE TABLE node_facts (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- ---------------------------------------------------------------- services

CREATE TABLE offered_services (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT '',
    service_type TEXT NOT NULL CHECK(service_type IN ('DATA', 'DOCKER', 'STANDALONE')),
    -- ACTIVE takes orders; INACTIVE refuses new ones and lets running jobs end
    status TEXT NOT NULL DEFAULT 'ACTIVE' CHECK(status IN ('ACTIVE', 'INACTIVE')),
    interfaces TEXT NOT NULL,         -- JSON: [{interface_type, path, mount_function, required, description}]
    pricing_amount REAL NOT NULL DEFAULT 0,
    pricing_type TEXT NOT NULL DEFAULT 'FREE',
    -- allowed: every allowed peer may order; granted: only peers with a grant
    access TEXT NOT NULL DEFAULT 'allowed' CHECK(access IN ('allowed', 'granted')),
    retry_safe INTEGER NOT NULL DEFAULT 0 CHECK(retry_safe IN (0, 1)),
    retry TEXT NOT NULL DEFAULT '{"attempts": 1, "backoff_s": 0}',  -- JSON
    revision INTEGER NOT NULL DEFAULT 1,
    service_path TEXT NOT NULL DEFAULT '',   -- DATA: folder of the snapshot below services/; STANDALONE: executable; DOCKER: image
    settings TEXT NOT NULL,           -- JSON: what only this type of service has
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;

CREATE INDEX offered_services_by_type ON offered_services(service_type, status);

-- What decides a result, as it was when jobs were ordered of a revision: a job runs with its own service_revision, however
-- its service is changed meanwhile. Written with the first job that is ordered of a revision.
CREATE TABLE service_revisions (
    service_id INTEGER NOT NULL REFERENCES offered_services(id) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    interfaces TEXT NOT NULL,         -- JSON, as in offered_services
    service_path TEXT NOT NULL,
    settings TEXT NOT NULL,           -- JSON, as in offered_services; of secrets the present ones are given
    PRIMARY KEY (service_id, revision)
) STRICT, WITHOUT ROWID;

-- The snapshot of a DATA service, one row an entry. A path that ends in '/' is an empty folder.
CREATE TABLE data_files (
    service_id INTEGER NOT NULL REFERENCES offered_services(id) ON DELETE CASCADE,
    relative_path TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,      -- of the plain content
    sha256 TEXT NOT NULL,             -- of the plain content, hexadecimal; '' for a folder
    executable INTEGER NOT NULL CHECK(executable IN (0, 1)),
    stored_name TEXT NOT NULL,        -- file below the service's folder; '' for a folder
    PRIMARY KEY (service_id, relative_path)
) STRICT, WITHOUT ROWID;

-- How the data key of an encrypted DATA service is wrapped. Neither passphrase nor key is ever here in clear.
CREATE TABLE data_keys (
    service_id INTEGER PRIMARY KEY REFERENCES offered_services(id) ON DELETE CASCADE,
    header TEXT NOT NULL,             -- JSON: version, kdf, its parameters, salt
    wrapped_key BLOB NOT NULL         -- the data key under the key derived from the passphrase
) STRICT;

-- Keys and secrets sealed under the node's vault key. execution_id set: a data key unwrapped for that execution,
-- deleted at its end. execution_id NULL: a secret of a service, or an unlocked data key until valid_until.
CREATE TABLE sealed_secrets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- service_secret: given to its jobs as a file; registry_auth: who asks a registry for the image of a DOCKER service
    purpose TEXT NOT NULL CHECK(purpose IN ('execution_data_key', 'unlocked_data_key', 'service_secret', 'registry_auth')),
    service_id INTEGER REFERENCES offered_services(id) ON DELETE CASCADE,
    workflow_execution_id INTEGER,
    name TEXT NOT NULL DEFAULT '',
    sealed BLOB NOT NULL,
    valid_until TEXT,
    UNIQUE (purpose, service_id, workflow_execution_id, name)
) STRICT;

CREATE INDEX sealed_secrets_by_execution ON sealed_secrets(workflow_execution_id);

-- Files that a client has uploaded and no service has taken yet.
CREATE TABLE uploads (
    name TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    created_at TEXT NOT NULL,
    used_at TEXT NOT NULL
) STRICT;

-- API tokens; only the SHA-256 of a token is kept.
CREATE TABLE api_tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL CHECK(scope IN ('read', 'operate', 'admin')),
    token_sha256 TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    valid_until TEXT,
    revoked_at TEXT
) STRICT;

-- ---------------------------------------------------------------- other peers

CREATE TABLE peers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    peer_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL DEFAULT '',    -- as the operator calls it, else as it calls itself
    -- pending: known, may do no more than a stranger; allowed: what grants and access say; denied: nothing, whatever
    -- else says so
    state TEXT NOT NULL CHECK(state IN ('pending', 'allowed', 'denied')),
    addresses TEXT NOT NULL DEFAULT '[]',   -- JSON: host:port as the operator or an invite gave them, DNS names too
    instance_id TEXT,                 -- of its daemon when it was last linked; a new one: it was restarted
    last_seen_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;

-- Where peers say they can be reached, signed by themselves, so that it can be passed on.
CREATE TABLE address_records (
    peer_id TEXT PRIMARY KEY,
    addresses TEXT NOT NULL,          -- JSON: numeric host:port, at most 4
    issued_at_ms INTEGER NOT NULL,    -- the highest one holds
    signature TEXT NOT NULL,          -- base64
    received_at TEXT NOT NULL,
    told_by TEXT NOT NULL             -- the peer that it came from: itself, or one that passed it on
) STRICT, WITHOUT ROWID;

CREATE INDEX address_records_by_teller ON address_records(told_by, received_at);

-- What a peer (or every allowed one: '*') may do with a service (NULL: with all of them).
CREATE TABLE grants (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    peer_id TEXT NOT NULL,
    service_id INTEGER REFERENCES offered_services(id) ON DELETE CASCADE,
    verbs TEXT NOT NULL,              -- JSON: some of discover, order, fetch
    limits TEXT NOT NULL DEFAULT '{}',      -- JSON: concurrent_jobs, max_runtime_s, max_bytes
    created_at TEXT NOT NULL
) STRICT;

CREATE INDEX grants_by_peer ON grants(peer_id, service_id);
CREATE INDEX grants_by_service ON grants(service_id);

-- One-time invites. Neither the line nor its secret is kept, only what checks a proof.
CREATE TABLE peer_invites (
    invite_id TEXT PRIMARY KEY,
    key BLOB NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    tries_left INTEGER NOT NULL,
    used_by TEXT,
    used_at TEXT
) STRICT, WITHOUT ROWID;

-- Peers that a job ordered by another peer exchanges bytes with: admitted to data links for that job's transfers alone.
CREATE TABLE introductions (
    peer_id TEXT NOT NULL,
    job_execution_id INTEGER NOT NULL REFERENCES job_executions(id) ON DELETE CASCADE,
    valid_until TEXT NOT NULL,
    PRIMARY KEY (peer_id, job_execution_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX introductions_by_job ON introductions(job_execution_id);
CREATE INDEX introductions_by_end ON introductions(valid_until);

-- What another peer has yet to be told; written with the change that it tells of, deleted when that peer has it on record.
-- A newer message of the same topic and key takes the place of the older one.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    peer_id TEXT NOT NULL,
    topic TEXT NOT NULL,              -- the type of the message
    key TEXT NOT NULL,                -- what it is about
    body TEXT NOT NULL,               -- JSON: the fields of the message
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,         -- nobody wants to know any more
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    UNIQUE (peer_id, topic, key)
) STRICT;

CREATE INDEX outbox_by_peer ON outbox(peer_id, id);
CREATE INDEX outbox_by_end ON outbox(expires_at);

-- Orders that were cancelled before they came: a request for one is refused.
CREATE TABLE cancelled_orders (
    ordering_peer_id TEXT NOT NULL,
    execution_uid TEXT NOT NULL,
    node_id INTEGER NOT NULL,
    reason TEXT NOT NULL,
    cancelled_at TEXT NOT NULL,
    PRIMARY KEY (ordering_peer_id, execution_uid, node_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX cancelled_orders_by_time ON cancelled_orders(cancelled_at);
CREATE INDEX cancelled_orders_by_peer ON cancelled_orders(ordering_peer_id);  -- counts them without their reasons

-- ---------------------------------------------------------------- what people draw

CREATE TABLE workflows (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    description TEXT,
    definition TEXT NOT NULL,  -- JSON with jobs array
    created_at DATETIME,
    updated_at DATETIME
);

CREATE TABLE workflow_nodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_id INTEGER,
    service_id INTEGER,
    peer_id TEXT,
    service_name TEXT,
    service_type TEXT,
    "order" INTEGER,
    gui_x INTEGER,
    gui_y INTEGER,
    interfaces TEXT,      -- JSON: service interfaces
    entrypoint TEXT,      -- JSON: ["python3"]; NULL leaves the service's own
    cmd TEXT,             -- JSON: ["script.py"]; NULL leaves the service's own
    pricing_amount REAL,
    pricing_type TEXT,
    --
    name TEXT,            -- what people call it; NULL: as its service is called
    service_revision INTEGER,            -- of its service when the node was drawn; NULL: not known
    pin INTEGER NOT NULL DEFAULT 0,      -- 1: refuse to run with any other revision
    FOREIGN KEY (workflow_id) REFERENCES workflows(id)
);

CREATE UNIQUE INDEX workflow_nodes_by_name ON workflow_nodes(workflow_id, name) WHERE name IS NOT NULL;
CREATE INDEX workflow_nodes_by_workflow ON workflow_nodes(workflow_id);
CREATE INDEX workflow_nodes_by_service ON workflow_nodes(service_id);

CREATE TABLE workflow_connections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_id INTEGER,
    from_node_id INTEGER,           -- NULL: the self-peer
    from_interface_type TEXT,
    to_node_id INTEGER,             -- NULL: the self-peer
    to_interface_type TEXT,
    destination_file_name TEXT,
    --
    from_interface_path TEXT NOT NULL DEFAULT '',
    to_interface_path TEXT NOT NULL DEFAULT '',
    include TEXT NOT NULL DEFAULT '[]',   -- JSON: globs; empty: everything
    source_path TEXT,                     -- self-peer as source: file or folder on this host
    FOREIGN KEY (workflow_id) REFERENCES workflows(id),
    FOREIGN KEY (from_node_id) REFERENCES workflow_nodes(id),
    FOREIGN KEY (to_node_id) REFERENCES workflow_nodes(id)
);

CREATE INDEX workflow_connections_by_workflow ON workflow_connections(workflow_id);
CREATE INDEX workflow_connections_by_from_node ON workflow_connections(from_node_id);
CREATE INDEX workflow_connections_by_to_node ON workflow_connections(to_node_id);

CREATE TABLE workflow_ui_state (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_id INTEGER UNIQUE,
    snap_to_grid BOOLEAN DEFAULT 1,
    zoom_level REAL DEFAULT 1.0,
    pan_x REAL DEFAULT 0,
    pan_y REAL DEFAULT 0,
    self_peer_x REAL DEFAULT 0,
    self_peer_y REAL DEFAULT 0,
    FOREIGN KEY (workflow_id) REFERENCES workflows(id)
);

-- ---------------------------------------------------------------- what runs

CREATE TABLE workflow_executions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_id INTEGER,            -- NULL once the workflow was deleted; workflow_name stays
    -- PENDING: accepted, nothing created yet; RUNNING: from phase 1 on; the rest are ends
    status TEXT CHECK(status IN ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    error TEXT,
    started_at DATETIME,
    completed_at DATETIME,
    --
    workflow_name TEXT NOT NULL DEFAULT '',
    execution_uid TEXT NOT NULL UNIQUE,
    -- CREATING: phase 1; STARTING: phase 2; STARTED: every job has its start command
    phase TEXT NOT NULL DEFAULT 'CREATING' CHECK(phase IN ('CREATING', 'STARTING', 'STARTED')),
    retry_of INTEGER,               -- the execution whose completed jobs this one reuses
    created_at TEXT NOT NULL,
    deadline_at TEXT NOT NULL,
    start_by_s REAL NOT NULL,
    max_runtime_s REAL NOT NULL,
    transfer_idle_s REAL NOT NULL,
    hold_s REAL NOT NULL,           -- how long after their end other peers keep what it has left with them
    cancel_requested_at TEXT,
    cancel_reason TEXT,
    cancel_by TEXT,
    settled_status TEXT,            -- the status that the daemon has acted on; differs after a repair by hand
    cleared_at TEXT,                -- when its intermediate data here was let go of (keep_intermediate_s); results stay
    definition TEXT NOT NULL,       -- JSON, frozen when the execution was accepted; last, since to read past it is slow
    FOREIGN KEY (workflow_id) REFERENCES workflows(id) ON DELETE SET NULL
);

CREATE INDEX workflow_executions_by_workflow ON workflow_executions(workflow_id);
CREATE INDEX workflow_executions_open ON workflow_executions(id) WHERE status IN ('PENDING', 'RUNNING');
CREATE INDEX workflow_executions_uncleared ON workflow_executions(completed_at)
    WHERE cleared_at IS NULL AND completed_at IS NOT NULL;
CREATE INDEX workflow_executions_unsettled ON workflow_executions(id) WHERE status IS NOT settled_status;
CREATE INDEX workflow_executions_by_status ON workflow_executions(status);

CREATE TABLE workflow_jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_execution_id INTEGER,
    workflow_id INTEGER,
    node_id INTEGER,
    job_name TEXT,
    service_id INTEGER,
    executor_peer_id TEXT,
    remote_job_execution_id INTEGER,
    status TEXT,                    -- the words of job_executions.status, and PENDING before the job exists
    result TEXT,                    -- 'reused:<execution_id>' where the outputs come from an earlier execution
    error TEXT,
    --
    service_type TEXT NOT NULL DEFAULT 'STANDALONE',
    UNIQUE (workflow_execution_id, node_id),
    FOREIGN KEY (workflow_execution_id) REFERENCES workflow_executions(id)
);

CREATE TABLE job_executions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_job_id INTEGER,        -- own executions only
    service_id INTEGER,
    executor_peer_id TEXT,
    ordering_peer_id TEXT,
    remote_job_execution_id INTEGER,
    -- IDLE: created, waits for its start command or its inputs; READY: waits for a worker; RUNNING: at work
    status TEXT CHECK(status IN ('IDLE', 'READY', 'RUNNING', 'COMPLETED', 'ERRORED', 'CANCELLED')),
    entrypoint TEXT,
    commands TEXT,
    execution_constraint TEXT CHECK(execution_constraint IN ('NONE', 'INPUTS_READY')),
    constraint_detail TEXT,
    start_received INTEGER DEFAULT 0,
    started_at DATETIME,
    ended_at DATETIME,
    error_message TEXT,
    --
    workflow_execution_id INTEGER,  -- own executions only
    order_workflow_job_id INTEGER NOT NULL,   -- the orchestrator's id of this job; the one that paths use
    execution_uid TEXT NOT NULL,
    node_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 1,
    request_digest TEXT NOT NULL DEFAULT '',
    job_name TEXT NOT NULL DEFAULT '',
    service_name TEXT NOT NULL DEFAULT '',
    service_type TEXT NOT NULL CHECK(service_type IN ('DATA', 'DOCKER', 'STANDALONE')),
    service_revision INTEGER NOT NULL DEFAULT 1,  -- what it runs with: a row of service_revisions on its executor
    created_at TEXT NOT NULL,
    start_by TEXT NOT NULL,         -- IDLE without a start command ends here
    max_runtime_s REAL NOT NULL,
    run_by TEXT,                    -- set when RUNNING: started_at + the job's timeout; of a container from when its image is here
    pull_by TEXT,                   -- DOCKER, RUNNING: its image is being pulled, until then at most; run_by is empty until it is here and has a worker
    image_digest TEXT,              -- DOCKER, once RUNNING: the image, as name@sha256:... of its registry, else by its id
    not_before TEXT,                -- READY for another attempt, but not before this time
    exit_code INTEGER,
    exit_signal INTEGER,
    cancel_requested_at TEXT,
    cancel_reason TEXT,
    result TEXT,                    -- 'reused:<execution_id>' as in workflow_jobs; ordered by another peer: 'reused:<execution_uid>'
    remark TEXT,                    -- COMPLETED, and yet a person should know: what it left behind, what was cut
    settled_status TEXT,            -- the status that the daemon has acted on; differs after a repair by hand
    status_seq INTEGER NOT NULL DEFAULT 0,  -- between peers: grows with every change on the executor; a mirror takes only higher ones
    deadline_at TEXT,               -- ordered by another peer: the end of its execution's time, by this peer's clock
    transfer_idle_s REAL,           -- ordered by another peer: its bound on a transfer without progress
    hold_s REAL,                    -- ordered by another peer: how long after its end rows and files are kept
    left_bytes INTEGER NOT NULL DEFAULT 0,  -- what it has written here, as measured while it runs and at its end
    UNIQUE (ordering_peer_id, execution_uid, node_id)
);

CREATE INDEX job_executions_by_workflow_job ON job_executions(workflow_job_id);
CREATE INDEX job_executions_by_execution ON job_executions(workflow_execution_id, status);
-- A turn of the queue looks for a few of many READY jobs; each kind has an index of its own, so that none is read past.
CREATE INDEX job_executions_ready_programs ON job_executions(id)
    WHERE status = 'READY' AND start_received = 1 AND service_type <> 'DATA';
CREATE INDEX job_executions_ready_data ON job_executions(id)
    WHERE status = 'READY' AND start_received = 1 AND service_type = 'DATA';
CREATE INDEX job_executions_delayed ON job_executions(not_before) WHERE not_before IS NOT NULL;
CREATE INDEX job_executions_idle ON job_executions(id) WHERE status = 'IDLE';
CREATE INDEX job_executions_running ON job_executions(id) WHERE status = 'RUNNING';
CREATE INDEX job_executions_unsettled ON job_executions(id) WHERE status IS NOT settled_status;
CREATE INDEX job_executions_by_status ON job_executions(status, service_type);
CREATE INDEX job_executions_foreign_open ON job_executions(deadline_at)
    WHERE deadline_at IS NOT NULL AND status IN ('IDLE', 'READY', 'RUNNING');
CREATE INDEX job_executions_held ON job_executions(ended_at) WHERE hold_s IS NOT NULL AND ended_at IS NOT NULL;
-- What one orderer holds here is summed up from the index alone.
CREATE INDEX job_executions_of_orderer ON job_executions(ordering_peer_id, left_bytes) WHERE hold_s IS NOT NULL;
CREATE INDEX job_executions_reusing ON job_executions(result) WHERE result IS NOT NULL;
CREATE INDEX job_executions_open_by_service ON job_executions(service_id)
    WHERE status IN ('IDLE', 'READY', 'RUNNING');

CREATE TABLE job_interfaces (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_execution_id INTEGER,
    interface_type TEXT CHECK(interface_type IN ('STDIN', 'STDOUT', 'STDERR', 'LOGS', 'MOUNT')),
    path TEXT,
    --
    mount_function TEXT CHECK(mount_function IN ('INPUT', 'OUTPUT', 'BOTH')),  -- MOUNT only: what the job does
    FOREIGN KEY (job_execution_id) REFERENCES job_executions(id)
);

CREATE INDEX job_interfaces_by_job ON job_interfaces(job_execution_id);

CREATE TABLE job_interface_peers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_interface_id INTEGER,
    peer_id TEXT,
    peer_workflow_job_id INTEGER,
    peer_job_execution_id INTEGER,  -- NULL until phase 2; 0: the self-peer
    peer_path TEXT,
    peer_file_name TEXT,
    -- what the peer does: OUTPUT sends to this job, INPUT receives from it
    peer_mount_function TEXT CHECK(peer_mount_function IN ('INPUT', 'OUTPUT', 'BOTH')),
    duty_acknowledged BOOLEAN DEFAULT 0,
    --
    connection_id INTEGER NOT NULL,
    peer_interface_type TEXT NOT NULL,
    include TEXT NOT NULL DEFAULT '[]',   -- JSON: globs
    source_path TEXT,                     -- the self-peer sends this file or folder of its host
    lane TEXT NOT NULL DEFAULT '',        -- 'c<connection_id>' where several connections join the same two ends
    FOREIGN KEY (job_interface_id) REFERENCES job_interfaces(id)
);

CREATE INDEX job_interface_peers_by_interface ON job_interface_peers(job_interface_id);
CREATE INDEX job_interface_peers_by_peer_job ON job_interface_peers(peer_job_execution_id, connection_id);

-- What a completed job left to be carried: the durable output manifest. Written with COMPLETED.
CREATE TABLE job_outputs (
    job_execution_id INTEGER NOT NULL REFERENCES job_executions(id) ON DELETE CASCADE,
    origin TEXT NOT NULL,             -- stdout, stderr, logs, output, or mount:<path>
    relative_path TEXT NOT NULL,      -- a path that ends in '/' is an empty folder
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    executable INTEGER NOT NULL CHECK(executable IN (0, 1)),
    PRIMARY KEY (job_execution_id, origin, relative_path)
) STRICT, WITHOUT ROWID;

-- Handles of what runs on an executor's engine: committed before the engine is asked, so that a restarted daemon finds
-- its process or container again instead of running it twice.
CREATE TABLE executor_handles (
    job_execution_id INTEGER NOT NULL REFERENCES job_executions(id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    executor TEXT NOT NULL,           -- standalone, docker
    engine_name TEXT NOT NULL UNIQUE, -- the name by which the engine knows it; submit is idempotent on it
    handle TEXT,                      -- JSON, opaque to all but the executor
    intent_at TEXT NOT NULL,
    boot_id TEXT NOT NULL DEFAULT '', -- of this machine's boot at that time; under another one "not found" proves nothing
    submitted_at TEXT,
    PRIMARY KEY (job_execution_id, attempt)
) STRICT, WITHOUT ROWID;

-- ---------------------------------------------------------------- what moves

CREATE TABLE transfers (
    transfer_id TEXT PRIMARY KEY,
    direction TEXT NOT NULL CHECK(direction IN ('LOCAL', 'OUTGOING', 'INCOMING')),
    status TEXT NOT NULL CHECK(status IN ('PENDING', 'ACTIVE', 'COMPLETED', 'FAILED', 'CANCELLED')),
    workflow_execution_id INTEGER,
    ordering_peer_id TEXT NOT NULL,
    execution_uid TEXT NOT NULL,
    connection_id INTEGER NOT NULL,
    source_peer_id TEXT NOT NULL,
    source_job_execution_id INTEGER NOT NULL,   -- 0: the self-peer sends
    dest_peer_id TEXT NOT NULL,
    dest_job_execution_id INTEGER NOT NULL,     -- 0: the self-peer receives
    source_peer_row_id INTEGER,                 -- job_interface_peers.id of the sending end
    dest_peer_row_id INTEGER,                   -- job_interface_peers.id of the receiving end
    result_id INTEGER,
    source_path TEXT,
    file_count INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    bytes_done INTEGER NOT NULL DEFAULT 0,
    rate_bytes_s REAL,                          -- while ACTIVE: of late; afterwards: the mean of the last attempt
    progress_at TEXT,                           -- when the two above were written down last, while ACTIVE
    sealed INTEGER NOT NULL DEFAULT 0 CHECK(sealed IN (0, 1)), -- whether its bytes travel sealed from end to end
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TEXT,                       -- for people: when it is tried again at the latest, while it waits
    error TEXT,                                 -- why it failed, or what it waits for
    created_at TEXT NOT NULL,
    started_at TEXT,
    completed_at TEXT,
    UNIQUE (ordering_peer_id, execution_uid, connection_id, direction)
) STRICT;

CREATE INDEX transfers_open ON transfers(created_at) WHERE status IN ('PENDING', 'ACTIVE');
CREATE INDEX transfers_by_status ON transfers(status);
CREATE INDEX transfers_by_execution ON transfers(workflow_execution_id, status);
CREATE INDEX transfers_by_source_job ON transfers(source_job_execution_id, connection_id);
CREATE INDEX transfers_by_dest_job ON transfers(dest_job_execution_id);
CREATE INDEX transfers_of_orderer ON transfers(ordering_peer_id, execution_uid, status, size_bytes, bytes_done)
    WHERE direction <> 'OUTGOING';

-- Where deliveries of other peers have arrived: a file that came there is copied from there when it is offered again, and not
-- sent. Looked through for the same sender and the same orderer only, so nobody learns what others hold; which files came
-- stands in the manifest beside the folder. Nothing else depends on these rows: the newest 256 of 30 days are kept for each two.
CREATE TABLE arrived_folders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sender_peer_id TEXT NOT NULL,
    ordering_peer_id TEXT NOT NULL,
    folder TEXT NOT NULL,             -- relative to the data directory; perhaps deleted or changed since
    entry_count INTEGER NOT NULL,     -- of its manifest
    arrived_at TEXT NOT NULL
) STRICT;

CREATE INDEX arrived_folders_by_peers ON arrived_folders(sender_peer_id, ordering_peer_id);
CREATE INDEX arrived_folders_by_age ON arrived_folders(arrived_at);

-- Deliveries to the self-peer: one row a connection that ends there.
CREATE TABLE results (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_execution_id INTEGER NOT NULL REFERENCES workflow_executions(id),
    node_id INTEGER NOT NULL,
    connection_id INTEGER NOT NULL,
    source_peer_id TEXT NOT NULL,
    source_job_execution_id INTEGER,
    directory TEXT NOT NULL,          -- relative to the data directory
    duty_acknowledged INTEGER NOT NULL DEFAULT 0 CHECK(duty_acknowledged IN (0, 1)),
    error TEXT,
    UNIQUE (workflow_execution_id, connection_id)
) STRICT;

CREATE TABLE result_files (
    result_id INTEGER NOT NULL REFERENCES results(id) ON DELETE CASCADE,
    relative_path TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    executable INTEGER NOT NULL CHECK(executable IN (0, 1)),
    PRIMARY KEY (result_id, relative_path)
) STRICT, WITHOUT ROWID;

-- Files and folders below the data directory that nobody needs any more (limit executions_kept, keep_intermediate_s, hold_s):
-- deleted soon, struck out afterwards.
CREATE TABLE doomed_folders (
    path TEXT PRIMARY KEY,            -- relative to the data directory
    doomed_at TEXT NOT NULL,
    error TEXT                        -- why it is still there
) STRICT, WITHOUT ROWID;

-- ---------------------------------------------------------------- what is told

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    type TEXT NOT NULL,
    workflow_execution_id INTEGER,
    data TEXT NOT NULL                -- JSON
) STRICT;

CREATE INDEX events_by_execution ON events(workflow_execution_id, seq);

-- ---------------------------------------------------------------- views for people who debug

-- One line a job: where it stands, since when, and why.
--   SELECT node, status, took_s, error FROM v_job_story WHERE execution = 1;
CREATE VIEW v_job_story AS
SELECT
    we.id AS execution,
    we.workflow_name AS workflow,
    wj.job_name AS node,
    wj.node_id AS node_id,
    je.id AS job,
    wj.executor_peer_id AS executor,
    wj.status AS status,
    je.attempt AS attempt,
    je.start_received AS start_received,
    je.created_at AS created_at,
    je.started_at AS started_at,
    je.ended_at AS ended_at,
    ROUND((julianday(je.ended_at) - julianday(je.started_at)) * 86400, 3) AS took_s,
    je.exit_code AS exit_code,
    COALESCE(wj.error, je.error_message) AS error
FROM workflow_jobs AS wj
JOIN workflow_executions AS we ON we.id = wj.workflow_execution_id
LEFT JOIN job_executions AS je ON je.workflow_job_id = wj.id;

-- Every job that has not ended, with what it waits for.
CREATE VIEW v_stuck AS
SELECT
    je.workflow_execution_id AS execution,
    je.id AS job,
    je.job_name AS node,
    je.status AS status,
    je.execution_constraint AS execution_constraint,
    CASE
        WHEN je.cancel_requested_at IS NOT NULL THEN 'being cancelled: ' || COALESCE(je.cancel_reason, '')
        WHEN je.status = 'IDLE' AND je.start_received = 0 THEN 'start command not received (start_by ' || je.start_by || ')'
        WHEN je.status = 'IDLE' THEN 'waiting for ' || (
            SELECT COUNT(*)
            FROM job_interfaces AS ji
            JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
            WHERE ji.job_execution_id = je.id
              AND jip.peer_mount_function = 'OUTPUT'
              AND jip.duty_acknowledged = 0
        ) || ' input(s)'
        WHEN je.status = 'READY' AND je.not_before IS NOT NULL THEN 'waiting for another attempt (not before ' || je.not_before || ')'
        WHEN je.status = 'READY' THEN 'waiting for a free worker'
        WHEN je.pull_by IS NOT NULL THEN 'its image is being pulled, or here and waiting for a free worker (pull_by ' || je.pull_by || ')'
        ELSE 'running since ' || COALESCE(je.started_at, '?') || ' (run_by ' || COALESCE(je.run_by, '?') || ')'
    END AS because
FROM job_executions AS je
WHERE je.status IN ('IDLE', 'READY', 'RUNNING');

-- One line a transfer.
CREATE VIEW v_transfers AS
SELECT
    t.workflow_execution_id AS execution,
    t.transfer_id AS transfer_id,
    t.direction AS direction,
    t.connection_id AS connection_id,
    COALESCE(src.job_name, CASE t.source_job_execution_id WHEN 0 THEN 'self-peer' ELSE t.source_peer_id END) AS from_node,
    COALESCE(dst.job_name, CASE t.dest_job_execution_id WHEN 0 THEN 'self-peer' ELSE t.dest_peer_id END) AS to_node,
    t.status AS status,
    t.bytes_done AS bytes_done,
    t.size_bytes AS size_bytes,
    t.rate_bytes_s AS rate_bytes_s,
    t.progress_at AS progress_at,
    t.file_count AS file_count,
    t.attempts AS attempts,
    t.next_attempt_at AS next_attempt_at,
    t.error AS error,
    t.started_at AS started_at,
    t.completed_at AS completed_at
FROM transfers AS t
LEFT JOIN job_executions AS src ON src.id = t.source_job_execution_id AND t.direction <> 'INCOMING'
LEFT JOIN job_executions AS dst ON dst.id = t.dest_job_execution_id AND t.direction <> 'OUTGOING';
