"""Commands about what could be run: workflow list, show, check, import, export, rm."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from rnd.cli import lookup, words
from rnd.cli.failures import OK, REFUSED, CommandFailed, usage
from rnd.cli.session import Session
from rnd.cli.terminal import now
from rnd.cli.workflow_files import means_a_file, read_document

SELF_PEER = "you"
"""The orchestrator as a place where data comes from and goes to, in words."""


def list_workflows(session: Session) -> int:
    """List the workflows."""
    terminal = session.terminal
    workflows = list(lookup.list_all(session, "workflow.list"))
    if terminal.listed(workflows):
        return OK
    if not workflows:
        terminal.note("there is no workflow yet; rnd workflow import FILE makes one")
    else:
        time = now()
        rows = [
            (w["id"], w["name"], w["node_count"], words.ago(w["updated_at"], now=time), w["description"] or "")
            for w in workflows
        ]
        terminal.table(("ID", "NAME", "NODES", "CHANGED", "DESCRIPTION"), rows)
    return OK


def show(session: Session) -> int:
    """Show nodes and connections."""
    terminal = session.terminal
    workflow = lookup.workflow_id(session, session.arguments.workflow)
    facts = session.call("workflow.get", workflow_id=workflow)
    nodes = list(lookup.list_all(session, "workflow.list_nodes", workflow_id=workflow))
    connections = list(lookup.list_all(session, "workflow.list_connections", workflow_id=workflow))
    if terminal.as_json:
        terminal.data({**facts, "nodes": nodes, "connections": connections})
        return OK
    if terminal.quiet:
        terminal.line(str(workflow))
        return OK
    terminal.facts([("workflow", f"{workflow} {facts['name']}"), ("description", facts["description"] or None)])
    terminal.line()
    here = session.call("node.status")["peer_id"]
    peers = lookup.peer_names(session) if any(node["peer_id"] != here for node in nodes) else {here: lookup.HERE}
    names = node_labels(nodes)
    rows = [
        (
            n["id"],
            names[n["id"]],
            n["service_name"],
            n["service_type"],
            lookup.peer_label(n["peer_id"], peers),
        )
        for n in nodes
    ]
    terminal.table(("NODE", "NAME", "SERVICE", "TYPE", "PEER"), rows)
    terminal.line()
    table = [(c["id"], end(c, "from", names), end(c, "to", names), carried(c)) for c in connections]
    terminal.table(("CONNECTION", "FROM", "TO", "CARRIES"), table)
    return OK


def node_labels(nodes: list[dict[str, Any]]) -> dict[int, str]:
    """Return what to call each node, as its job is: its own name, else its service's, with its id where that is taken."""
    names = [node["name"] or node["service_name"] for node in nodes]
    uses = Counter(names)
    return {
        node["id"]: name if node["name"] or uses[name] == 1 else f"{name} (node {node['id']})"
        for node, name in zip(nodes, names, strict=True)
    }


def end(connection: dict[str, Any], side: str, names: dict[int, str]) -> str:
    """Return one end of a connection as `split STDOUT`."""
    node = connection[f"{side}_node_id"]
    if node is None:
        return SELF_PEER
    path = connection.get(f"{side}_interface_path")
    return f"{names.get(node, node)} {connection[f'{side}_interface_type']}{' ' + path if path else ''}"


def carried(connection: dict[str, Any]) -> str:
    """Return what a connection carries and under which name, as far as it says."""
    parts = []
    if connection.get("source_path"):
        parts.append(connection["source_path"])
    if connection.get("include"):
        parts.append("only " + ", ".join(connection["include"]))
    if connection.get("destination_file_name"):
        parts.append(f"as {connection['destination_file_name']}")
    return " ".join(parts) or "everything"


# ---------------------------------------------------------------- check


def check(session: Session) -> int:
    """Find every problem: validation, then what each executor says. Of a file nothing is stored for that."""
    terminal, given = session.terminal, session.arguments.workflow
    names: dict[int, str] = {}
    if means_a_file(given):
        report = session.call("workflow.validate", document=read_document(given))
        plan = report.get("plan")
    else:
        workflow = lookup.workflow_id(session, given)
        report = session.call("workflow.validate", workflow_id=workflow)
        plan = session.call("workflow.plan", workflow_id=workflow) if report["valid"] else None
        if not report["valid"] and not terminal.as_json:
            names = node_labels(list(lookup.list_all(session, "workflow.list_nodes", workflow_id=workflow)))
    return _say_checked(session, report, plan, names)


def _say_checked(session: Session, report: dict[str, Any], plan: dict[str, Any] | None, names: dict[int, str]) -> int:
    terminal = session.terminal
    fine = bool(report["valid"] and plan and plan["ok"])
    if terminal.as_json:
        terminal.data({"ok": fine, "problems": report["problems"], "plan": plan})
        return OK if fine else REFUSED
    if not report["valid"]:
        count = words.count(len(report["problems"]), "problem")
        raise CommandFailed(f"{count} found", problems=[problem_line(problem, names) for problem in report["problems"]])
    assert plan is not None
    refused = _refusals(plan)
    if refused:
        raise CommandFailed("the workflow is valid but cannot run as things are", problems=refused)
    if not terminal.quiet:
        jobs, edges = words.count(len(plan["jobs"]), "job"), words.count(len(plan["edges"]), "connection")
        terminal.line(f"fine: {jobs} accepted, {edges} possible")
        for job in plan["jobs"]:
            for words_of_it in (*(job.get("reasons") or ()), *(job.get("warnings") or ())):
                terminal.note(f"note: {_part(job, 'node')}: {words.safe(words_of_it)}")
    return OK


def problem_line(problem: dict[str, Any], names: dict[int, str]) -> str:
    """Return a problem with the place it is about in words."""
    if problem.get("place"):
        return f"{problem['place']}: {problem['message']}"
    if problem.get("node_id") is not None:
        return f"{names.get(problem['node_id'], 'node')} (node {problem['node_id']}): {problem['message']}"
    if problem.get("connection_id") is not None:
        return f"connection {problem['connection_id']}: {problem['message']}"
    return str(problem["message"])


def _part(answer: dict[str, Any], word: str) -> str:
    """Return which node or connection of a plan is meant: by its place in a file, else by its id."""
    return str(answer.get("place") or f"{word} {answer[f'{word}_id']}")


def _refusals(plan: dict[str, Any]) -> list[str]:
    refused = [
        f"{_part(job, 'node')} on {job['executor_peer_id']}: {'; '.join(job['reasons']) or 'refused'}"
        for job in plan["jobs"]
        if not job["accepted"]
    ]
    unreachable = [
        f"{_part(edge, 'connection')}: {edge.get('reason') or 'not reachable'}"
        for edge in plan["edges"]
        if not edge["reachable"]
    ]
    return refused + unreachable


# ---------------------------------------------------------------- files


def import_file(session: Session) -> int:
    """Make a workflow from a file."""
    arguments, terminal = session.arguments, session.terminal
    workflow = session.call("workflow.import", document=read_document(arguments.file), name=arguments.name)
    if terminal.as_json:
        terminal.data(workflow)
    elif terminal.quiet:
        terminal.line(str(workflow["id"]))
    else:
        terminal.line(f"workflow {workflow['id']} {words.safe(workflow['name'])} is made")
    return OK


def export(session: Session) -> int:
    """Write a workflow as a file."""
    arguments, terminal = session.arguments, session.terminal
    document = session.call("workflow.export", workflow_id=lookup.workflow_id(session, arguments.workflow))
    text = json.dumps(document, indent=2) + "\n"
    if not arguments.output:
        terminal.text(text)
        return OK
    path = Path(arguments.output)
    if path.suffix.lower() == ".toml":
        raise usage("an export is JSON", hint="Choose a name that ends in .json; TOML is only read.")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}") from None
    terminal.note(f"written to {words.safe(path)}")
    return OK


def remove(session: Session) -> int:
    """Delete workflows."""
    terminal = session.terminal
    answers = []
    for given in session.arguments.workflows:
        workflow = lookup.workflow_id(session, given)
        name = words.safe(session.call("workflow.get", workflow_id=workflow)["name"])
        answers.append(session.call("workflow.delete", workflow_id=workflow))
        if terminal.quiet:
            terminal.line(str(workflow))
        elif not terminal.as_json:
            terminal.line(f"workflow {workflow} {name} is gone")
    if terminal.as_json:
        terminal.data({"items": answers})
    return OK
