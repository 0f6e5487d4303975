"""What `/metrics` tells: few figures, each read from the rows at the moment it is asked for (Prometheus text format)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rnd import __version__
from rnd.api.context import ApiContext
from rnd.database import job_executions, transfers, workflow_executions
from rnd.database.events import newest_seq
from rnd.types.enums import ExecutionStatus, JobStatus

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


async def exposition(api: ApiContext) -> str:
    """Return the figures as text."""
    jobs, executions, active, seq = await api.database.read(
        lambda conn: (
            job_executions.count_by_status(conn),
            workflow_executions.count_by_status(conn),
            transfers.count_active(conn),
            newest_seq(conn),
        )
    )
    lines = [
        *_family("rnd_info", "gauge", "Version of this daemon.", {f'version="{__version__}"': 1}),
        *_family("rnd_uptime_seconds", "gauge", "Time since it started.", {"": _uptime_s(api)}),
        *_family("rnd_jobs", "gauge", "Jobs by status.", _by_status(JobStatus, jobs)),
        *_family("rnd_executions", "gauge", "Executions by status.", _by_status(ExecutionStatus, executions)),
        *_family("rnd_transfers_active", "gauge", "Transfers under way.", {"": active}),
        *_family("rnd_events_total", "counter", "Events recorded so far.", {"": seq}),
    ]
    return "\n".join(lines) + "\n"


def _uptime_s(api: ApiContext) -> float:
    return round(api.clock.monotonic() - api.started_at_s, 3)


def _by_status(statuses: type[JobStatus | ExecutionStatus], counts: Mapping[str, int]) -> dict[str, float]:
    return {f'status="{status.value}"': counts.get(status.value, 0) for status in statuses}


def _family(name: str, kind: str, meaning: str, samples: Mapping[str, float]) -> list[str]:
    return [
        f"# HELP {name} {meaning}",
        f"# TYPE {name} {kind}",
        *(f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in samples.items()),
    ]
