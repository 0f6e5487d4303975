"""Commands about what runs and ran: ps, show, cancel, explain."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rnd.cli import lookup, moving, words
from rnd.cli.failures import OK, REFUSED, CommandFailed, another_peers, usage
from rnd.cli.session import Session
from rnd.cli.terminal import now

FINISHED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "ERRORED"})
EXPLAINED_AT_MOST: Final = 20


def ps(session: Session) -> int:
    """List executions."""
    arguments, terminal = session.arguments, session.terminal
    filters = {
        "workflow_id": lookup.workflow_id(session, arguments.workflow) if arguments.workflow else None,
        "status": arguments.status,
    }
    if arguments.all:
        executions = list(lookup.list_all(session, "execution.list", **filters))
        total = len(executions)
    else:
        executions, total = lookup.list_newest(session, "execution.list", max(arguments.last, 0), **filters)
    if terminal.listed(executions, total=total):
        return OK
    if not executions:
        terminal.note(
            "none of these"
            if total
            else "nothing has been run from here yet: rnd run WORKFLOW; what others have run here: rnd jobs"
        )
    else:
        _print_executions(session, executions)
        if total > len(executions):
            terminal.note(f"{total - len(executions):,} older ones: rnd ps --all")
    return OK


def _print_executions(session: Session, executions: list[dict[str, Any]]) -> None:
    time = now()
    rows = [
        (
            execution["id"],
            execution.get("workflow_name") or execution.get("workflow_id"),
            execution["status"],
            f"{execution['jobs_terminal']}/{execution['jobs_total']}",
            words.ago(execution["started_at"] or execution.get("created_at"), now=time),
            words.took(execution["started_at"], execution["completed_at"], now=time),
        )
        for execution in executions
    ]
    session.terminal.table(("EXEC", "WORKFLOW", "STATUS", "JOBS", "STARTED", "TOOK"), rows)


# ---------------------------------------------------------------- show


def show(session: Session) -> int:
    """Show one execution with its jobs."""
    terminal = session.terminal
    execution_id = lookup.execution_id(session, session.arguments.execution)
    execution = session.call("execution.get", execution_id=execution_id)
    if terminal.as_json:
        terminal.data(execution)
        return OK
    if terminal.quiet:
        for job in execution["jobs"]:
            if job.get("job_execution_id") is not None:
                terminal.line(str(job["job_execution_id"]))
        return OK
    time = now()
    terminal.facts(_facts(execution, time))
    runs = {job["id"]: job for job in lookup.list_all(session, "job.list", execution_id=execution_id)}
    peers = lookup.peer_names(session)
    terminal.line()
    rows = [_job_row(job, runs.get(job.get("job_execution_id")) or {}, peers, time) for job in execution["jobs"]]
    terminal.table(("NODE", "NAME", "PEER", "JOB", "TYPE", "STATUS", "EXIT", "TOOK", "ERROR"), rows)
    for run in runs.values():
        if str(run.get("result") or "").startswith("reused:"):
            earlier = run["result"].removeprefix("reused:")
            terminal.note(
                f"note: {words.safe(run['job_name'])}: has not run, its outputs are those of execution {earlier}"
            )
        if run.get("remark"):
            terminal.note(f"note: {words.safe(run['job_name'])}: {words.safe(run['remark'])}")
    if execution["status"] not in FINISHED:
        for transfer in moving.open_deliveries(session, execution_id):
            terminal.note(f"delivery: {moving.line_of(transfer, execution, time=time)}")
    if execution["status"] in ("FAILED", "CANCELLED"):
        wrote = f"   what they wrote: rnd logs -e {execution_id}" if runs else ""
        terminal.note(f"why: rnd explain -e {execution_id}{wrote}")
    return OK


def _facts(execution: dict[str, Any], time: datetime) -> list[tuple[str, object]]:
    progress = execution["progress"]
    pace = moving.rate_and_rest(progress) if progress.get("transfers_active") else ""
    return [
        ("execution", f"{execution['id']} {execution.get('workflow_name') or ''}".rstrip()),
        ("status", execution["status"]),
        ("error", words.brief(execution["error"]) if execution["error"] else None),
        ("jobs", f"{progress['jobs_terminal']} of {progress['jobs_total']} ended"),
        (
            "data",
            f"{words.size(progress['bytes_done'])} of {words.size(progress['bytes_total'])} delivered"
            + (f", {pace}" if pace else ""),
        ),
        ("started", words.ago(execution["started_at"], now=time)),
        ("took", words.took(execution["started_at"], execution["completed_at"], now=time)),
        ("retry of", execution.get("retry_of")),
        ("intermediate data", _cleared(execution, time)),
        ("cancelled because", execution.get("cancel_reason")),
    ]


def _cleared(execution: Mapping[str, Any], time: datetime) -> str | None:
    cleared_at = execution.get("cleared_at")
    return f"deleted {words.ago(cleared_at, now=time)} (keep_intermediate_s)" if cleared_at else None


def _job_row(job: dict[str, Any], run: dict[str, Any], peers: Mapping[str, str], time: datetime) -> tuple[object, ...]:
    return (
        job["node_id"],
        job["job_name"],
        lookup.peer_label(job["executor_peer_id"], peers),
        job.get("job_execution_id"),
        job["service_type"],
        job["status"],
        ended_with(run),
        words.took(run.get("started_at"), run.get("ended_at"), now=time),
        words.brief(job["error"] or run.get("error_message") or ""),
    )


def ended_with(run: dict[str, Any]) -> str:
    """Return the exit code of a job, or its signal."""
    if run.get("exit_signal") is not None:
        return f"signal {run['exit_signal']}"
    return "-" if run.get("exit_code") is None else str(run["exit_code"])


# ---------------------------------------------------------------- cancel


def cancel(session: Session) -> int:
    """Stop executions, and jobs that other peers have ordered here."""
    arguments, terminal = session.arguments, session.terminal
    if not arguments.executions and not arguments.job:
        raise usage("give an EXECUTION, or --job JOB", hint="rnd ps and rnd jobs list them.")
    answers = []
    reason = arguments.reason or f"by {_who()}"
    for given in arguments.job:
        number = lookup.whole_number(given, "job", "Give a job's id as in rnd jobs.")
        # Whoever ordered it reads the reason, and is not told who sits here.
        answers.append(session.call("job.cancel", job_execution_id=number, reason=arguments.reason))
        if not terminal.as_json:
            terminal.line(str(number) if terminal.quiet else f"job {number} is being stopped")
    for given in arguments.executions:
        execution_id = lookup.execution_id(session, given)
        answer = session.call("execution.cancel", execution_id=execution_id, reason=reason)
        answers.append(answer)
        if terminal.quiet:
            terminal.line(str(execution_id))
        elif not terminal.as_json:
            ended = answer["status"] in FINISHED
            terminal.line(f"execution {execution_id} " + (answer["status"] if ended else "is being stopped"))
    if terminal.as_json:
        terminal.data({"items": answers})
    return OK


def _who() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


# ---------------------------------------------------------------- explain


def explain(session: Session) -> int:
    """Say why jobs are not finished, and what to do."""
    terminal = session.terminal
    jobs = chosen_jobs(session, uncreated=True)
    explanations, code = [], OK
    for job in jobs[:EXPLAINED_AT_MOST]:
        job_id = job.get("job_execution_id")
        which = (
            {"execution_id": job["workflow_execution_id"], "node_id": job["node_id"]}
            if job_id is None
            else {"job_execution_id": job_id}
        )
        try:
            explanation = session.call("job.explain", **which)
        except CommandFailed as failed:
            code = pass_over(session, job, failed, among=len(jobs))
            continue
        explanations.append({"job_execution_id": job_id, **explanation})
        if not terminal.as_json and not terminal.quiet:
            _print_explanation(session, job, explanation)
    if terminal.as_json:
        single = len(session.arguments.job) == 2 or (session.arguments.job and session.arguments.job[0].isdigit())
        terminal.data(explanations[0] if single else {"items": explanations})
    elif terminal.quiet:
        for explanation in explanations:
            if explanation["job_execution_id"] is not None:
                terminal.line(str(explanation["job_execution_id"]))
    elif len(jobs) > EXPLAINED_AT_MOST:
        terminal.note(f"{len(jobs) - EXPLAINED_AT_MOST} more: rnd explain EXECUTION NODE explains one")
    return code


def pass_over(session: Session, job: dict[str, Any], failed: CommandFailed, *, among: int) -> int:
    """Say which of several jobs its peer tells nothing of, and return the exit code; raise what is no such failure."""
    if among == 1 or not another_peers(failed):
        raise failed
    name = f" {words.safe(job['job_name'])}" if job.get("job_name") else ""
    session.terminal.note(f"job {job['job_execution_id']}{name}: {words.safe(failed.message)}")
    return REFUSED


def _print_explanation(session: Session, job: dict[str, Any], explanation: dict[str, Any]) -> None:
    terminal = session.terminal
    name = f" {words.safe(job['job_name'])}" if job.get("job_name") else ""
    number = "" if job.get("job_execution_id") is None else f" {job['job_execution_id']}"
    status = terminal.paint(words.safe(explanation["status"]))
    terminal.line(f"job{number}{name} is {status}: {words.brief(explanation['because'])}")
    checks = explanation["checks"]
    longest = max((words.width(words.safe(check["check"])) for check in checks), default=0)
    for check in checks:
        verdict = terminal.paint("ok   " if check["ok"] else "wrong")
        terminal.line(
            f"  {verdict}  {words.pad(words.safe(check['check']), longest)}  {words.brief(check['evidence'])}"
        )
    if explanation.get("do"):
        terminal.line(f"do: {words.safe(explanation['do'])}")


def chosen_jobs(session: Session, *, uncreated: bool = False) -> list[dict[str, Any]]:
    """Return the jobs that the arguments `JOB`, `EXECUTION NODE` or `-e EXECUTION` mean, with `job_execution_id`.

    Those that were never created have none; without `uncreated` they are left out, and none at all is a failure.
    """
    arguments = session.arguments
    given: list[str] = arguments.job
    if arguments.execution and not given:
        return _worth_a_look(session, lookup.execution_id(session, arguments.execution), uncreated=uncreated)
    if arguments.execution:
        given = [arguments.execution, *given]
    match given:
        case [] | [lookup.LAST]:
            return _worth_a_look(session, lookup.execution_id(session, lookup.LAST), uncreated=uncreated)
        case [job]:
            hint = "Give a job's id as in the column JOB of rnd show, or EXECUTION NODE, or -e EXECUTION."
            number = lookup.whole_number(job, "job", hint)
            try:
                found = session.call("job.get", job_execution_id=number)
            except CommandFailed as failed:
                if failed.error is not None:  # the daemon's hint speaks of methods, not of commands
                    failed.hint = hint
                raise
            return [{"job_execution_id": number, **found}]
        case [execution, node]:
            found = lookup.job_of_node(session, lookup.execution_id(session, execution), node)
            return [found] if uncreated else _with_ids([found])
        case _:
            raise usage("give JOB, or EXECUTION NODE", hint="For example: rnd logs last count")


def _worth_a_look(session: Session, execution_id: int, *, uncreated: bool) -> list[dict[str, Any]]:
    """Return the jobs of an execution that are not well; all of them where all are."""
    execution = session.call("execution.get", execution_id=execution_id)
    jobs = execution["jobs"]
    if not jobs:
        raise CommandFailed(
            f"execution {execution_id} is {execution['status']}: {execution['error'] or 'it has no jobs'}"
        )
    unwell = [job for job in jobs if job["status"] != "COMPLETED"] or jobs
    return unwell if uncreated else _with_ids(unwell)


def _with_ids(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [job for job in jobs if job.get("job_execution_id") is not None]
    if not found:
        never = next((str(job["error"]) for job in jobs if job.get("error")), "")
        if never:
            raise CommandFailed(f"that job was never created: {never}")
        raise CommandFailed("that job has not been created yet", hint="rnd show says how far its execution is.")
    return found
