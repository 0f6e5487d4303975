"""Every knob of the daemon as one frozen record; `rnd/config.py` reads it from files, environment and flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes and counts beyond which a request is refused with LIMIT_EXCEEDED (or a stream is cut).

    `peer_bytes` and `peer_jobs` are what the orders of one other peer hold here, ended ones until their hold is over;
    `execution_bytes` is what one execution holds here, whoever has ordered it: what is delivered to its jobs and to the
    self-peer, and what its jobs write. An order or a delivery that would go beyond is refused before a byte of it comes,
    a running job that goes beyond is ended.
    """

    nodes_per_workflow: int = 1_000
    connections_per_workflow: int = 5_000
    concurrent_jobs: int = 200
    peers: int = 100
    files_per_transfer: int = 100_000
    file_bytes: int = 1 << 40
    stream_bytes: int = 1 << 30
    executions_kept: int = 100_000
    events_kept: int = 200_000
    rpc_body_bytes: int = 1 << 20
    rpc_batch: int = 50
    disk_floor_bytes: int = 1 << 30
    peer_bytes: int = 1 << 39
    execution_bytes: int = 1 << 40
    peer_jobs: int = 50_000
    upload_bytes: int = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Bounds on every wait, in seconds; `workflow.execute` may only shorten the first five.

    `image_pull_s` is how long the image of a container may be on its way here; that time is not the job's own.
    """

    start_by_s: float = 15 * 60.0
    max_runtime_s: float = 24 * 3600.0
    transfer_idle_s: float = 5 * 60.0
    hold_s: float = 24 * 3600.0
    workflow_deadline_s: float = 7 * 24 * 3600.0
    cancel_grace_s: float = 10.0
    cancel_by_s: float = 60.0
    image_pull_s: float = 30 * 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one daemon runs. `api` and `peer` are `host:port`; port 0 takes a free one; `api` empty: socket only; `peer`
    empty: no other peer can dial this one. `advertise` are the numeric `host:port` that others are told, by default what
    this machine has. `tls_gate` is `open` or `pinned`.

    `keep_intermediate_s` is how long after its end an execution's intermediate data stays here, what its jobs received and
    left: for `execution.retry`, which runs again what it does not find, and for people. Results and logs stay with the
    execution. What other peers ordered stays for their `hold_s`.

    `job_slots` is how many DOCKER and STANDALONE jobs run at once (0: four a processor, at least 8, and four times as many of
    services whose programs end within a tenth of a second; at most `limits.concurrent_jobs`). `operate_roots` are the folders whose files a token of scope `operate` may name (none: it
    sends what it has uploaded). A delivery to another peer goes in frames of at most `chunk_bytes`, of which at most `window_bytes`
    are on their way unacknowledged; what a receiver holds of a delivery is bounded by that. `data_codec` `base64` sends them as text,
    for people who read along: slower, and any receiver takes it. `drain_s` is how long SIGTERM waits at most for uploads, downloads and
    deliveries that are under way; programs run on without the daemon and are not waited for. `log_file` True writes `<data-dir>/logs/peer.log` beside standard error;
    at `log_file_bytes` it becomes `peer.log.old` (0: it grows). `log_format` is `text` or `json`.
    """

    data_dir: Path
    name: str = ""
    api: str = "127.0.0.1:30069"
    peer: str = "127.0.0.1:30906"
    advertise: tuple[str, ...] = ()
    tls_gate: str = "open"
    api_group: str = ""
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    allowed_roots: tuple[str, ...] = ("/",)
    operate_roots: tuple[str, ...] = ()
    job_slots: int = 0
    transfer_slots: int = 8
    queue_interval_s: float = 10.0
    status_interval_s: float = 10.0
    keep_intermediate_s: float = 7 * 24 * 3600.0
    chunk_bytes: int = 1 << 20
    data_codec: str = "binary"
    window_bytes: int = 32 << 20
    drain_s: float = 10.0
    log_level: str = "INFO"
    log_format: str = "text"
    log_file: bool | None = None
    log_file_bytes: int = 64 << 20
    deadlines: Deadlines = field(default_factory=Deadlines)
    limits: Limits = field(default_factory=Limits)
