"""Watches an execution to its end: a few lines drawn again on a terminal, else one line for every change of a state."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from rnd.cli import lookup, moving, words
from rnd.cli.executions import FINISHED, ended_with
from rnd.cli.failures import UNREACHABLE, CommandFailed
from rnd.cli.session import Session
from rnd.cli.terminal import now

T = TypeVar("T")

EVENT_TYPES: Final = ["execution.updated", "job.updated", "transfer.progress"]
LONGEST_POLL_S: Final = 25.0
TICK_S: Final = 1.0
SHORTEST_REDRAW_S: Final = 0.1
# How long a daemon may be away (a restart) before watching gives up.
PATIENCE_S: Final = 30.0
JOBS_SHOWN_AT_MOST: Final = 30
# Without a terminal a delivery under way is told again after this time; with --json, to standard error, as JSON.
TELL_AGAIN_S: Final = 5.0
TELL_AGAIN_JSON_S: Final = 1.0
# Above this many jobs the times of each are not asked for at every redraw.
TIMED_AT_MOST: Final = 200

_NOT_BEGUN: Final = frozenset({"PENDING", "IDLE"})
_UNDER_WAY: Final = frozenset({"RUNNING", "READY", "ERRORED"})


class Watcher:
    """Follows one execution. `watch` returns its last state, finished or not."""

    def __init__(self, session: Session, execution_id: int, *, timeout_s: float | None) -> None:
        self._session = session
        self._terminal = session.terminal
        self._execution_id = execution_id
        self._ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        self._live = session.terminal.live() if session.terminal.is_live else None
        self._seq = 0
        self._told: dict[object, str] = {}
        self._moving_told_at = 0.0

    def watch(self) -> dict[str, Any]:
        """Show what happens until the execution has ended or the time is up, and return the execution then."""
        while True:
            drawn_at = time.monotonic()
            execution = self._patiently("execution.get")
            self._show(execution)
            left_s = self._left_s()
            if execution["status"] in FINISHED or left_s <= 0:
                return execution
            # Not before something has happened; several events in a row are drawn once.
            is_moving = bool(execution["progress"].get("transfers_active"))
            wait_s = min(left_s, TICK_S if self._live else TELL_AGAIN_S if is_moving else LONGEST_POLL_S)
            answer = self._patiently("events.poll", after_seq=self._seq, types=EVENT_TYPES, wait_s=round(wait_s, 3))
            self._seq = answer["next_seq"]
            pause_s = min(SHORTEST_REDRAW_S - (time.monotonic() - drawn_at), self._left_s())
            if self._live and pause_s > 0:
                time.sleep(pause_s)

    def _left_s(self) -> float:
        return float("inf") if self._ends_at is None else self._ends_at - time.monotonic()

    def _patiently(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method about the execution; a daemon that is away for a moment is waited for."""

        def call() -> dict[str, Any]:
            answer: dict[str, Any] = self._session.call(
                method, patience_s=params.get("wait_s", 0.0), execution_id=self._execution_id, **params
            )
            return answer

        return self._patiently_do(call)

    def _patiently_do(self, work: Callable[[], T]) -> T:
        gives_up_at = time.monotonic() + PATIENCE_S
        noted = False
        while True:
            try:
                return work()
            except CommandFailed as failed:
                patience_s = min(gives_up_at - time.monotonic(), self._left_s())
                if failed.exit_code != UNREACHABLE or patience_s <= 0:
                    raise
            if not noted:
                self._terminal.note("the daemon is away; waiting for it")
                noted = True
            time.sleep(0.5)

    # ------------------------------------------------------------------ showing

    def _show(self, execution: dict[str, Any]) -> None:
        if self._live is not None:
            self._live.draw(self._lines(execution))
        elif not self._terminal.quiet:
            if not self._terminal.as_json:
                self._tell(execution)
            self._tell_moving(execution)

    def _under_way(self, execution: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the deliveries of the execution that this peer has a part in and that are under way, or wait."""
        if execution["status"] in FINISHED:
            return []
        return self._patiently_do(lambda: moving.open_deliveries(self._session, self._execution_id))

    def _tell_moving(self, execution: dict[str, Any]) -> None:
        """Tell of each delivery under way now and then: a line, or with `--json` an object on standard error."""
        as_json = self._terminal.as_json
        again_s = TELL_AGAIN_JSON_S if as_json else TELL_AGAIN_S
        if time.monotonic() - self._moving_told_at < again_s:
            return
        for transfer in self._under_way(execution):
            self._moving_told_at = time.monotonic()
            if as_json:
                self._terminal.write_error(json.dumps({"transfer": transfer}) + "\n")
            else:
                self._terminal.note(
                    f"execution {self._execution_id}: {moving.line_of(transfer, execution, time=now())}"
                )

    def _tell(self, execution: dict[str, Any]) -> None:
        """Print one line for everything whose state is another than when it was told last."""
        if execution["status"] not in FINISHED:  # the end has a line of its own
            self._tell_once("execution", f"execution {self._execution_id} {execution['status']}")
        for job in execution["jobs"]:
            if job["status"] in _NOT_BEGUN:
                continue
            reason = job["error"] or ""
            line = f"execution {self._execution_id}: {job['job_name']} {job['status']}" + (
                f": {reason}" if reason else ""
            )
            self._tell_once(("job", job["id"]), line)

    def _tell_once(self, key: object, line: str) -> None:
        if self._told.get(key) != line:
            self._told[key] = line
            self._terminal.note(words.brief(line))

    def _lines(self, execution: dict[str, Any]) -> list[str]:
        time_now = now()
        progress = execution["progress"]
        head = [
            f"execution {self._execution_id}",
            words.safe(execution.get("workflow_name") or ""),
            execution["status"],
            f"{progress['jobs_terminal']}/{progress['jobs_total']} jobs",
            words.took(execution["started_at"], execution["completed_at"], now=time_now),
        ]
        if progress["bytes_total"]:
            head.insert(4, f"{words.size(progress['bytes_done'])} of {words.size(progress['bytes_total'])}")
            if progress.get("transfers_active"):
                head.insert(5, moving.rate_and_rest(progress))
        jobs = execution["jobs"]
        if len(jobs) > JOBS_SHOWN_AT_MOST:
            jobs = [job for job in jobs if job["status"] in _UNDER_WAY][:JOBS_SHOWN_AT_MOST]
        runs = {}
        if len(execution["jobs"]) <= TIMED_AT_MOST:
            found = lookup.list_all(self._session, "job.list", execution_id=self._execution_id)
            runs = {run["id"]: run for run in found}
        rows = []
        for job in jobs:
            run = runs.get(job.get("job_execution_id")) or {}
            took = words.took(run.get("started_at"), run.get("ended_at"), now=time_now)
            rows.append((job["job_name"], job["status"], took, job["error"] or run.get("error_message") or ""))
        table = words.table(("", "", "", ""), rows)[1:]
        deliveries = [moving.line_of(transfer, execution, time=time_now) for transfer in self._under_way(execution)]
        return ["  ".join(part for part in head if part), *(f"  {line}" for line in [*table, *deliveries])]


def job_failures(session: Session, execution: dict[str, Any]) -> list[str]:
    """Return a line for each job that went wrong by itself: those that were only taken along come from these."""
    errored = [job for job in execution["jobs"] if job["status"] == "ERRORED"]
    runs = (
        {run["id"]: run for run in lookup.list_all(session, "job.list", execution_id=execution["id"])}
        if errored
        else {}
    )
    lines = []
    for job in errored:
        run = runs.get(job.get("job_execution_id")) or {}
        reason = job["error"] or run.get("error_message") or f"ended with {ended_with(run)}"
        lines.append(f"{job['job_name']}: {reason}")
    return lines
