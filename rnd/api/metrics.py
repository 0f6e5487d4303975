"""What `/metrics` tells: figures read at the moment it is asked for, most from the rows (Prometheus text format).

No label has values that others choose, such as a peer, a service or a file: what a scrape costs, and what is stored of it, is
the same however many there are. docs/metrics.md is the list of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from rnd import __version__
from rnd.api.context import ApiContext
from rnd.api.figures import Figures
from rnd.database import figures as rows
from rnd.database import transfers, workflow_executions
from rnd.database.events import newest_seq
from rnd.rules.histogram import Histogram
from rnd.types.enums import ExecutionStatus, JobStatus, ServiceType, TransferDirection, TransferStatus
from rnd.workers.files import free_bytes

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_JOB_ENDS: Final = (JobStatus.COMPLETED, JobStatus.ERRORED, JobStatus.CANCELLED)
_EXECUTION_ENDS: Final = (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)
_TRANSFER_ENDS: Final = (TransferStatus.COMPLETED, TransferStatus.FAILED, TransferStatus.CANCELLED)


async def exposition(api: ApiContext, figures: Figures) -> str:
    """Return the figures as text."""
    await figures.catch_up()
    jobs, executions, active, rates, letters, allowed, seq = await api.database.read(
        lambda conn: (
            rows.count_jobs(conn),
            workflow_executions.count_by_status(conn),
            transfers.count_active(conn),
            rows.transfer_rates(conn),
            rows.count_letters(conn),
            rows.count_allowed_peers(conn),
            newest_seq(conn),
        )
    )
    free, sizes = await asyncio.to_thread(_on_disk, api.config.data_dir, api.database.path)
    lines = [
        *_family("rnd_info", "gauge", "Version of this daemon.", {f'version="{__version__}"': 1}),
        *_family("rnd_uptime_seconds", "gauge", "Time since it started.", {"": _uptime_s(api)}),
        *_family("rnd_tasks", "gauge", "Tasks of its event loop: few while nothing is done.", {"": _tasks()}),
        *_family("rnd_jobs", "gauge", "Jobs by status and type.", _of_jobs(JobStatus, jobs)),
        *_family("rnd_jobs_ended_total", "counter", "Jobs that have ended.", _of_jobs(_JOB_ENDS, figures.ended_jobs)),
        *_histogram(
            "rnd_queue_wait_seconds", "Time from READY to RUNNING of jobs that run on this peer.", figures.queue_wait
        ),
        *_family("rnd_executions", "gauge", "Executions by status.", _by("status", list(ExecutionStatus), executions)),
        *_family(
            "rnd_executions_ended_total",
            "counter",
            "Executions that have ended.",
            _by("status", list(_EXECUTION_ENDS), figures.ended_executions),
        ),
        *_family("rnd_results_total", "counter", "Deliveries that have come home.", {"": figures.results}),
        *_family("rnd_transfers_active", "gauge", "Transfers under way.", {"": active}),
        *_family(
            "rnd_transfers_ended_total",
            "counter",
            "Transfers that have ended.",
            _of_transfers(figures.ended_deliveries),
        ),
        *_family(
            "rnd_transfer_bytes_total",
            "counter",
            "Bytes of transfers that have come whole.",
            _by("direction", list(TransferDirection), figures.delivered_bytes),
        ),
        *_family(
            "rnd_transfer_rate_bytes",
            "gauge",
            "Bytes a second of the transfers under way, of late.",
            _by("direction", list(TransferDirection), rates),
        ),
        *_family("rnd_peers_connected", "gauge", "Peers that are linked.", {"": api.peers_connected()}),
        *_family("rnd_peers_allowed", "gauge", "Peers that this one lets in.", {"": allowed}),
        *_family("rnd_outbox_letters", "gauge", "What other peers have yet to be told.", {"": letters}),
        *_family("rnd_events_total", "counter", "Events recorded so far.", {"": seq}),
        *_histogram("rnd_database_write_seconds", "Time of a group commit.", figures.database_write),
        *_family("rnd_database_file_bytes", "gauge", "Sizes of the files of the database.", sizes),
        *_histogram("rnd_event_loop_lag_seconds", "How late the event loop is, once a second.", figures.loop_lag),
        *_family("rnd_disk_free_bytes", "gauge", "Room on the disk of the data directory.", {"": free}),
        *_family(
            "rnd_disk_floor_bytes",
            "gauge",
            "Room below which orders are refused and transfers pause.",
            {"": api.config.limits.disk_floor_bytes},
        ),
    ]
    return "\n".join(lines) + "\n"


def _uptime_s(api: ApiContext) -> float:
    return round(api.clock.monotonic() - api.started_at_s, 3)


def _tasks() -> int:
    return len(asyncio.all_tasks())


def _on_disk(data_dir: Path, database: Path) -> tuple[int, dict[str, float]]:
    sizes = {}
    for name in (database.name, f"{database.name}-wal"):
        try:
            sizes[f'file="{name}"'] = float(os.stat(database.with_name(name)).st_size)
        except FileNotFoundError:
            sizes[f'file="{name}"'] = 0.0
    return free_bytes(data_dir), sizes


def _of_jobs(
    statuses: type[JobStatus] | tuple[JobStatus, ...], counts: Mapping[tuple[str, str], int]
) -> dict[str, float]:
    return {
        f'status="{status}",type="{kind}"': counts.get((status.value, kind.value), 0)
        for status in statuses
        for kind in ServiceType
    }


def _of_transfers(counts: Mapping[tuple[str, str], int]) -> dict[str, float]:
    return {
        f'direction="{direction.lower()}",status="{status}"': counts.get((direction.value, status.value), 0)
        for direction in TransferDirection
        for status in _TRANSFER_ENDS
    }


def _by(
    label: str, words: list[ExecutionStatus] | list[TransferDirection], counts: Mapping[str, float]
) -> dict[str, float]:
    lower = label == "direction"
    return {f'{label}="{word.lower() if lower else word}"': counts.get(word.value, 0) for word in words}


def _histogram(name: str, meaning: str, histogram: Histogram) -> Iterator[str]:
    buckets = list(histogram.cumulative())
    samples = {
        f'_bucket{{le="{"+Inf" if bound == float("inf") else f"{bound:g}"}"}}': count for bound, count in buckets
    }
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} histogram"
    for rest, count in samples.items():
        yield f"{name}{rest} {count}"
    yield f"{name}_sum {histogram.sum:.6f}"
    yield f"{name}_count {buckets[-1][1]}"


def _family(name: str, kind: str, meaning: str, samples: Mapping[str, float]) -> list[str]:
    return [
        f"# HELP {name} {meaning}",
        f"# TYPE {name} {kind}",
        *(f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in samples.items()),
    ]
