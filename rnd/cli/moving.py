"""Deliveries in words: who sends to whom, how much of it is done, how fast, how long it still takes, or what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rnd.cli import words
from rnd.cli.session import Session

SHOWN_AT_MOST: Final = 10
LOOKED_AT_MOST: Final = 200
"""How many deliveries that have not begun are looked through for those that wait for more than their turn."""


def rate_and_rest(moving: Mapping[str, Any]) -> str:
    """Return `12.0 MiB/s, 40s left`, as far as that is known; "" where nothing is."""
    rate, left_s = moving.get("rate_bytes_s"), moving.get("left_s")
    if rate is None:
        return ""
    if not rate:
        return "standing still"
    return f"{words.size(rate)}/s" + ("" if left_s is None else f", {words.duration(left_s)} left")


def open_deliveries(session: Session, execution_id: int) -> list[dict[str, Any]]:
    """Return the deliveries of an execution that are under way or wait for something, as far as this peer has a part in them."""
    under_way = session.call("transfer.list", execution_id=execution_id, status="ACTIVE", limit=SHOWN_AT_MOST)
    pending = session.call("transfer.list", execution_id=execution_id, status="PENDING", limit=LOOKED_AT_MOST)
    waiting = [transfer for transfer in pending["items"] if transfer.get("error")]
    return [*under_way["items"], *waiting][:SHOWN_AT_MOST]


def what_it_waits_for(transfer: Mapping[str, Any], *, time: datetime) -> str:
    """Return why a delivery does not go on, how often it was tried and when it is again; "" where it does."""
    if not transfer.get("error"):
        return ""
    return "  ".join(part for part in (str(transfer["error"]), tries(transfer, time=time)) if part)


def tries(transfer: Mapping[str, Any], *, time: datetime) -> str:
    """Return `tried 4 times, again in 12s`, as far as there is something to say of a delivery that has not ended."""
    count = transfer.get("attempts") or 0
    if transfer.get("status") != "PENDING" or not count:
        return ""
    next_at = words.moment(transfer.get("next_attempt_at"))
    again = "" if next_at is None else f", again in {words.duration(max(0.0, (next_at - time).total_seconds()))}"
    return f"tried {words.count(count, 'time')}{again}"


def line_of(transfer: Mapping[str, Any], execution: Mapping[str, Any], *, time: datetime) -> str:
    """Return one line about a delivery of an execution."""
    done, size = transfer["bytes_done"], transfer["size_bytes"]
    share = f" ({100 * done // size}%)" if size else ""
    parts = [
        f"{_end(transfer, 'source', execution)} -> {_end(transfer, 'dest', execution)}",
        f"{words.size(done)} of {words.size(size)}{share}",
        what_it_waits_for(transfer, time=time) or rate_and_rest(transfer),
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
