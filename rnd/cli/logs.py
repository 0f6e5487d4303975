"""The command logs: what a job wrote, once or as it grows."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from rnd.cli import words
from rnd.cli.executions import chosen_jobs, pass_over
from rnd.cli.failures import OK, CommandFailed, usage
from rnd.cli.session import Session

PIECE_BYTES: Final = 256 << 10
POLL_S: Final = 0.2
MAX_POLL_S: Final = 1.0


def logs(session: Session) -> int:
    """Print a captured stream; with `-f` until the job has ended."""
    terminal, arguments = session.terminal, session.arguments
    jobs = [job for job in chosen_jobs(session) if job.get("service_type") != "DATA"] or chosen_jobs(session)
    if arguments.follow and len(jobs) > 1:
        raise usage("-f follows one job", hint="Give JOB, or EXECUTION NODE.")
    collected, code = [], OK
    for job in jobs:
        if len(jobs) > 1:
            terminal.note(f"== job {job['job_execution_id']} {words.safe(job['job_name'])}")
        try:
            text = _print_log(session, job["job_execution_id"])
        except CommandFailed as failed:
            code = pass_over(session, job, failed, among=len(jobs))
            continue
        collected.append({"job_execution_id": job["job_execution_id"], "stream": arguments.stream, "data": text})
    if terminal.as_json:
        terminal.data(collected[0] if len(jobs) == 1 else {"items": collected})
    return code


def _print_log(session: Session, job: int) -> str:
    """Print the log of a job as it comes; return it only where it is to become JSON."""
    terminal, arguments = session.terminal, session.arguments
    offset, pause, kept = 0, POLL_S, []
    while True:
        piece: dict[str, Any] = session.call(
            "job.logs", job_execution_id=job, stream=arguments.stream, offset=offset, limit_bytes=PIECE_BYTES
        )
        text, offset = piece["data"], piece["next_offset"]
        if terminal.as_json:
            kept.append(text)
        elif text:
            # A pipe gets what the job wrote; a terminal must not obey it.
            terminal.text(words.safe_lines(text.replace("\r\n", "\n")) if sys.stdout.isatty() else text)
        if piece["eof"] or (not text and not arguments.follow):
            return "".join(kept)
        if not text:
            time.sleep(pause)
        pause = POLL_S if text else min(pause * 1.5, MAX_POLL_S)
