"""The commands run, retry and watch: start an execution, follow it, and end with an exit code that says how it ended."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Final

from rnd.cli import lookup, words
from rnd.cli.arguments import seconds
from rnd.cli.failures import (
    EXECUTION_CANCELLED,
    EXECUTION_FAILED,
    INTERRUPTED,
    OK,
    STILL_RUNNING,
    CommandFailed,
    usage,
)
from rnd.cli.results import all_results, fetch_results, say_fetched
from rnd.cli.session import Session, read_passphrase
from rnd.cli.terminal import now
from rnd.cli.watching import Watcher, job_failures
from rnd.cli.workflow_files import UPLOAD_PREFIX, import_or_reuse, means_a_file, read_document
from rnd.cli.workflows import node_labels

EXIT_CODES: Final = {"COMPLETED": OK, "FAILED": EXECUTION_FAILED, "CANCELLED": EXECUTION_CANCELLED}


def run(session: Session) -> int:
    """Start a workflow and watch it."""
    arguments = session.arguments
    passphrase = read_passphrase(session)
    deadlines = _deadlines(arguments.deadline)
    if means_a_file(arguments.workflow):
        workflow = int(import_or_reuse(session, read_document(arguments.workflow))["id"])
    else:
        workflow = lookup.workflow_id(session, arguments.workflow)
    started = session.call(
        "workflow.execute",
        workflow_id=workflow,
        passphrase=passphrase,
        inputs=_inputs(session, workflow, arguments.input) or None,
        deadlines=deadlines or None,
    )
    return _after_start(session, started)


def retry(session: Session) -> int:
    """Run again what did not complete, and watch it."""
    before = lookup.execution_id(session, session.arguments.execution)
    return _after_start(session, session.call("execution.retry", execution_id=before))


def watch(session: Session) -> int:
    """Watch an execution to its end."""
    return _watch(session, lookup.execution_id(session, session.arguments.execution))


# ---------------------------------------------------------------- what to send


def _deadlines(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        try:
            if not separator:
                raise argparse.ArgumentTypeError("must be NAME=TIME")
            found[name] = seconds(value)
        except argparse.ArgumentTypeError as error:
            raise usage(f"--deadline {text}: {error}", hint="For example --deadline start_by_s=30s") from None
    return found


def _inputs(session: Session, workflow: int, texts: list[str]) -> dict[str, str]:
    """Return for connection ids the paths to send; a node stands for the connection that leads to it from here."""
    if not texts:
        return {}
    nodes = list(lookup.list_all(session, "workflow.list_nodes", workflow_id=workflow))
    connections = list(lookup.list_all(session, "workflow.list_connections", workflow_id=workflow))
    sources = [connection for connection in connections if connection["from_node_id"] is None]
    found = {}
    for text in texts:
        where, separator, path = text.partition("=")
        if not separator or not path:
            raise usage(f"--input {text}: must be WHERE=PATH", hint="For example --input count=./words.txt")
        connection = _source(where, sources, nodes)
        sent = (
            path
            if session.is_remote or path.startswith(UPLOAD_PREFIX)
            else str(Path(os.path.expanduser(path)).absolute())
        )
        found[str(connection["id"])] = sent
    return found


def _source(where: str, sources: list[dict[str, Any]], nodes: list[dict[str, Any]]) -> dict[str, Any]:
    by_id = [connection for connection in sources if str(connection["id"]) == where]
    labels = node_labels(nodes)
    named = {node["id"] for node in nodes if labels[node["id"]] == where}
    meant = named or {node["id"] for node in nodes if where in {str(node["id"]), node["service_name"]}}
    found = by_id or [connection for connection in sources if connection["to_node_id"] in meant]
    if len(found) == 1:
        return found[0]
    ways = ", ".join(f"{c['id']} (to {labels.get(c['to_node_id'])})" for c in sources)
    hint = f"Connections from here: {ways}" if sources else "No connection of this workflow starts here."
    raise usage(f"--input {where}: " + ("is ambiguous" if found else "there is no such way in"), hint=hint)


# ---------------------------------------------------------------- watching


def _after_start(session: Session, started: dict[str, Any]) -> int:
    terminal, execution_id = session.terminal, int(started["execution_id"])
    if terminal.quiet and not terminal.as_json:
        terminal.line(str(execution_id))
    if not session.arguments.detach:
        return _watch(session, execution_id)
    if terminal.as_json:
        terminal.data(started)
    elif not terminal.quiet:
        terminal.line(f"execution {execution_id} is on its way")
        terminal.note(f"to see it: rnd watch {execution_id}")
    return OK


def _watch(session: Session, execution_id: int) -> int:
    try:
        execution = Watcher(session, execution_id, timeout_s=session.arguments.timeout).watch()
    except KeyboardInterrupt:
        goes_on = (
            f"execution {execution_id} goes on; rnd watch {execution_id} shows it, rnd cancel {execution_id} ends it"
        )
        session.terminal.write_error(f"\n{goes_on}\n")
        return INTERRUPTED
    code = EXIT_CODES.get(execution["status"], STILL_RUNNING)
    fetched = None
    if code == OK and session.arguments.output:
        fetched = fetch_results(session, execution_id, Path(session.arguments.output))
    if session.terminal.as_json:
        session.terminal.data(execution if fetched is None else {**execution, "results": fetched["items"]})
    else:
        _say_end(session, execution, code, fetched)
    return code


def _say_end(session: Session, execution: dict[str, Any], code: int, fetched: dict[str, Any] | None) -> None:
    terminal, number = session.terminal, execution["id"]
    took = words.took(execution["started_at"], execution["completed_at"], now=now())
    if not terminal.quiet:
        verb = "in" if code == OK else "after"
        status = terminal.paint(execution["status"])
        still = "is still " if code == STILL_RUNNING else ""
        terminal.line(f"execution {number} {still}{status} {verb} {took}")
    if code == OK:
        if fetched is not None:
            say_fetched(session, fetched)
        else:
            _say_results(session, number)
    elif code == STILL_RUNNING:
        terminal.note(f"to go on: rnd watch {number}   why it takes so long: rnd explain -e {number}")
    else:
        problems = job_failures(session, execution)
        message = execution["error"] or execution.get("cancel_reason") or f"execution {number} {execution['status']}"
        hint = f"rnd explain -e {number}   rnd logs -e {number}   rnd retry {number}"
        told = problems if len(problems) > 1 else ()  # the execution's error names the first
        terminal.failure(CommandFailed(message, hint=hint, problems=told))


def _say_results(session: Session, execution_id: int) -> None:
    if session.terminal.quiet:
        return
    items = all_results(session, execution_id)["items"]
    if items:
        size = words.size(sum(item["size_bytes"] for item in items))
        session.terminal.note(
            f"{words.count(len(items), 'file')} came home ({size}): rnd results {execution_id} -o DIR"
        )
