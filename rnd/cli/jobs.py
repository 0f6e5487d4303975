"""The command jobs: what this peer runs and has run, for its own executions and for those of other peers."""

from __future__ import annotations

from rnd.cli import lookup, words
from rnd.cli.executions import ended_with
from rnd.cli.failures import OK
from rnd.cli.session import Session
from rnd.cli.terminal import now


def jobs(session: Session) -> int:
    """List jobs: whose they are, and which peer runs them."""
    arguments, terminal = session.arguments, session.terminal
    found, total = lookup.list_newest(session, "job.list", max(arguments.last, 0), status=arguments.status)
    if terminal.listed(found, total=total):
        return OK
    if not found:
        terminal.note("none of these" if total or arguments.status else "no job has run here yet, for nobody")
        return OK
    peers, time = lookup.peer_names(session), now()
    rows = [
        (
            job["id"],
            job["job_name"],
            job["service_name"],
            lookup.peer_label(job["ordering_peer_id"], peers),
            lookup.peer_label(job["executor_peer_id"], peers),
            job["status"],
            ended_with(job),
            words.ago(job["started_at"] or job["created_at"], now=time),
            words.took(job["started_at"], job["ended_at"], now=time),
        )
        for job in found
    ]
    terminal.table(("JOB", "NAME", "SERVICE", "FOR", "ON", "STATUS", "EXIT", "STARTED", "TOOK"), rows)
    if total > len(found):
        terminal.note(f"{total - len(found):,} older ones: rnd jobs -n {total}")
    return OK
