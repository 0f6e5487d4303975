"""The command results: list the files that came home, or fetch them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rnd.cli import lookup, words
from rnd.cli.failures import OK, REFUSED
from rnd.cli.fetching import Fetcher, folder_name
from rnd.cli.session import Session


def results(session: Session) -> int:
    """List the results of an execution, or fetch them with `-o`."""
    terminal, arguments = session.terminal, session.arguments
    execution_id = lookup.execution_id(session, arguments.execution)
    if arguments.output:
        answer = fetch_results(session, execution_id, Path(arguments.output), force=arguments.force)
    else:
        answer = all_results(session, execution_id)
    outstanding = answer.get("outstanding") or []
    if terminal.as_json:
        terminal.data(answer)
    elif arguments.output:
        say_fetched(session, answer)
    elif terminal.quiet:
        for item in answer["items"]:
            terminal.line(words.safe(item["absolute_path"]))
    elif answer["items"]:
        _print_results(session, execution_id, answer["items"])
    elif not outstanding:
        terminal.note("no connection of this workflow leads home: it has no results here")
    for row in outstanding:
        why = f": {row['error']}" if row.get("error") else ", it has not arrived"
        terminal.note(f"missing: connection {row['connection_id']} from node {row['node_id']}{words.safe(why)}")
    return REFUSED if arguments.output and outstanding and not answer["items"] else OK


def _print_results(session: Session, execution_id: int, items: list[dict[str, Any]]) -> None:
    names = _node_names(session, execution_id)
    rows = [
        (
            names.get(i["node_id"], i["node_id"]),
            i["connection_id"],
            words.size(i["size_bytes"]),
            i["sha256"][:12],
            i["path"],
        )
        for i in items
    ]
    session.terminal.table(("NODE", "CONNECTION", "SIZE", "SHA256", "PATH"), rows)
    session.terminal.note(f"to have them: rnd results {execution_id} -o DIR")


def fetch_results(session: Session, execution_id: int, directory: Path, *, force: bool = False) -> dict[str, Any]:
    """Fetch every result into a folder and return the answer of `execution.results`, each item with `saved_as`.

    The files of one connection keep their paths. Where several connections lead home, each has a folder called like
    the node that it comes from, with `-c<connection>` where a node has several.
    """
    answer = all_results(session, execution_id)
    sources = {(row["node_id"], row["connection_id"]) for row in [*answer["items"], *(answer.get("outstanding") or [])]}
    folders = _folders(sources, _node_names(session, execution_id)) if len(sources) > 1 else {}
    places = [folders.get((i["node_id"], i["connection_id"]), "") + i["path"] for i in answer["items"]]
    fetcher = Fetcher(session.daemon, directory, force=force)
    for item, path in zip(answer["items"], fetcher.fetch_all(execution_id, answer["items"], places), strict=True):
        item["saved_as"] = str(path)
    return answer


def all_results(session: Session, execution_id: int) -> dict[str, Any]:
    """Return the whole answer of `execution.results`: the items of every page, and what was outstanding at the first."""
    first: dict[str, Any] = session.call("execution.results", execution_id=execution_id, limit=lookup.PAGE)
    answer = {name: value for name, value in first.items() if name != "next_after_id"}
    after = first.get("next_after_id")
    while after is not None:
        page = session.call("execution.results", execution_id=execution_id, limit=lookup.PAGE, after_id=after)
        answer["items"] += page["items"]
        after = page.get("next_after_id")
    return answer


def say_fetched(session: Session, answer: dict[str, Any]) -> None:
    """Print where each fetched file is."""
    for item in answer["items"]:
        if not item["path"].endswith("/"):
            session.terminal.line(words.safe(item["saved_as"]))


def _folders(sources: set[tuple[int, int]], names: dict[int, str]) -> dict[tuple[int, int], str]:
    cleaned = {node: folder_name(names.get(node, f"node {node}")) for node, _ in sources}
    shared = Counter(cleaned[node] for node, _ in sources)
    return {
        (node, connection): cleaned[node] + (f"-c{connection}" if shared[cleaned[node]] > 1 else "") + "/"
        for node, connection in sources
    }


def _node_names(session: Session, execution_id: int) -> dict[int, str]:
    jobs = session.call("execution.get", execution_id=execution_id)["jobs"]
    return {job["node_id"]: job["job_name"] for job in jobs}
