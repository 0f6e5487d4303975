"""The command workflow plan: what every peer of a workflow says before a byte moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnd.cli import lookup, words
from rnd.cli.failures import OK, REFUSED, CommandFailed
from rnd.cli.session import Session
from rnd.cli.workflow_files import means_a_file, read_document
from rnd.cli.workflows import SELF_PEER, node_labels, problem_line


def plan(session: Session) -> int:
    """Print every job's answer and every connection's, with all reasons. A file is imported for that and removed again."""
    given = session.arguments.workflow
    if not means_a_file(given):
        return _plan(session, lookup.workflow_id(session, given))
    workflow: int = session.call("workflow.import", document=read_document(given))["id"]
    try:
        return _plan(session, workflow)
    finally:
        session.call("workflow.delete", workflow_id=workflow)


def _plan(session: Session, workflow: int) -> int:
    terminal = session.terminal
    report = session.call("workflow.validate", workflow_id=workflow)
    told = session.call("workflow.plan", workflow_id=workflow) if report["valid"] else {"jobs": [], "edges": []}
    fine = bool(report["valid"] and told["ok"])
    if terminal.as_json:
        terminal.data({"ok": fine, "problems": report["problems"], "jobs": told["jobs"], "edges": told["edges"]})
        return OK if fine else REFUSED
    names = node_labels(list(lookup.list_all(session, "workflow.list_nodes", workflow_id=workflow)))
    if not report["valid"]:
        problems = [problem_line(problem, names) for problem in report["problems"]]
        raise CommandFailed(f"{words.count(len(problems), 'problem')} found", problems=problems)
    if terminal.quiet:
        return OK if fine else REFUSED
    peers = lookup.peer_names(session)
    _print_jobs(session, told["jobs"], names, peers)
    if told["edges"]:
        terminal.line()
        connections = lookup.list_all(session, "workflow.list_connections", workflow_id=workflow)
        _print_edges(session, told["edges"], {each["id"]: each for each in connections}, names, peers)
    terminal.line()
    terminal.line(_sum(told, fine))
    return OK if fine else REFUSED


def _print_jobs(
    session: Session, jobs: list[dict[str, Any]], names: Mapping[int, str], peers: Mapping[str, str]
) -> None:
    rows: list[tuple[object, ...]] = []
    for job in jobs:
        answer = "accepted" if job["accepted"] else "refused"
        first, *more = [words.brief(said) for said in job["reasons"] or job["warnings"]] or [""]
        node = job["node_id"]
        rows.append((node, names.get(node, node), lookup.peer_label(job["executor_peer_id"], peers), answer, first))
        rows += [("", "", "", "", reason) for reason in more]
    session.terminal.table(("NODE", "NAME", "PEER", "ANSWER", "REMARK"), rows)


def _print_edges(
    session: Session,
    edges: list[dict[str, Any]],
    connections: Mapping[int, dict[str, Any]],
    names: Mapping[int, str],
    peers: Mapping[str, str],
) -> None:
    rows = []
    for edge in edges:
        connection = connections.get(edge["connection_id"], {})
        ends = [
            f"{_node(connection.get(f'{side}_node_id'), names)} on {lookup.peer_label(edge[f'{side}_peer_id'], peers)}"
            for side in ("from", "to")
        ]
        way = "possible" if edge["reachable"] else "no way"
        rows.append((edge["connection_id"], *ends, way, words.brief(edge.get("reason") or "")))
    session.terminal.table(("CONNECTION", "FROM", "TO", "WAY", "BECAUSE"), rows)


def _node(node: int | None, names: Mapping[int, str]) -> object:
    return SELF_PEER if node is None else names.get(node, node)


def _sum(told: dict[str, Any], fine: bool) -> str:
    if fine:
        jobs, edges = words.count(len(told["jobs"]), "job"), words.count(len(told["edges"]), "connection")
        return f"fine: {jobs} accepted, {edges} possible"
    refused = sum(not job["accepted"] for job in told["jobs"])
    cut = sum(not edge["reachable"] for edge in told["edges"])
    parts = [words.count(refused, "job") + " refused"] if refused else []
    parts += [words.count(cut, "connection") + " without a way"] if cut else []
    return "cannot run as things are: " + ", ".join(parts)
