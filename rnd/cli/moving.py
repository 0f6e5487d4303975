"""Deliveries under way in words: who sends to whom, how much of it is done, how fast, and how long it still takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnd.cli import words


def rate_and_rest(moving: Mapping[str, Any]) -> str:
    """Return `12.0 MiB/s, 40s left`, as far as that is known; "" where nothing is."""
    rate, left_s = moving.get("rate_bytes_s"), moving.get("left_s")
    if rate is None:
        return ""
    if not rate:
        return "standing still"
    return f"{words.size(rate)}/s" + ("" if left_s is None else f", {words.duration(left_s)} left")


def line_of(transfer: Mapping[str, Any], execution: Mapping[str, Any]) -> str:
    """Return one line about a delivery of an execution."""
    done, size = transfer["bytes_done"], transfer["size_bytes"]
    share = f" ({100 * done // size}%)" if size else ""
    parts = [
        f"{_end(transfer, 'source', execution)} -> {_end(transfer, 'dest', execution)}",
        f"{words.size(done)} of {words.size(size)}{share}",
        transfer.get("error") or rate_and_rest(transfer),
    ]
    return words.brief("  ".join(part for part in parts if part))


def _end(transfer: Mapping[str, Any], end: str, execution: Mapping[str, Any]) -> str:
    """Return the name of the job at one end; each end's job id is that of its own peer."""
    job_id, peer_id = transfer.get(f"{end}_job_execution_id"), transfer.get(f"{end}_peer_id")
    for job in execution["jobs"]:
        own_id = job.get("remote_job_execution_id") or job.get("job_execution_id")
        if job_id and (job.get("executor_peer_id"), own_id) == (peer_id, job_id):
            return words.safe(job["job_name"])
    return "self-peer" if job_id == 0 else f"job {words.safe(job_id)}"
