"""Workflow files of format `rnd.workflow/1` on the client's side: read JSON or TOML, import, reuse or replace."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any, Final

from rnd.cli import lookup
from rnd.cli.failures import USAGE, CommandFailed
from rnd.cli.session import Session

FORMAT: Final = "rnd.workflow/1"
SUFFIXES: Final = (".json", ".toml")
UPLOAD_PREFIX: Final = "upload:"
STANDARD_INPUT: Final = "-"
CONFLICT: Final = "CONFLICT"


def means_a_file(given: str) -> bool:
    """Tell whether an argument is a file and no name or id: it is there, or it looks like nothing else."""
    if given.isdigit():
        return False
    path = Path(given)
    return given == STANDARD_INPUT or path.suffix.lower() in SUFFIXES or ("/" in given and path.is_file())


def read_document(given: str) -> dict[str, Any]:
    """Return the document of a file, with its `source_path`s made absolute from the file's folder.

    Without a name in it, the file's own is taken. Raises `CommandFailed`.
    """
    if given == STANDARD_INPUT:
        text, suffix, folder, stem = sys.stdin.read(), ".json", Path.cwd(), ""
    else:
        path = Path(given)
        text, suffix, folder, stem = _read(path), path.suffix.lower(), path.absolute().parent, path.stem
    document = _parse(text, suffix, given)
    try:
        strange = next(_no_json(document, ""), None)
    except RecursionError:
        strange = "is nested without end"
    if strange is not None:
        raise CommandFailed(f"{given}: {strange}", exit_code=USAGE, hint="Write it as text, in quotes.")
    if not isinstance(document, dict):
        raise CommandFailed(f"{given}: a workflow is an object with nodes and connections", exit_code=USAGE)
    if stem:
        document.setdefault("name", stem)
    connections = document.get("connections")
    for connection in connections if isinstance(connections, list) else ():
        source = connection.get("source_path") if isinstance(connection, dict) else None
        if isinstance(source, str) and source and not source.startswith(UPLOAD_PREFIX):
            connection["source_path"] = str(folder / Path(os.path.expanduser(source)))
    return document


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CommandFailed(f"there is no file {path}", exit_code=USAGE) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise CommandFailed(f"{path} cannot be read: {why}", exit_code=USAGE) from None


def _parse(text: str, suffix: str, given: str) -> object:
    try:
        if suffix == ".toml":
            import tomllib

            return tomllib.loads(text)
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if suffix == ".toml" else "JSON"
        raise CommandFailed(f"{given} is not {kind}: {error}", exit_code=USAGE) from None


def _no_json(value: object, where: str) -> Iterator[str]:
    """Yield what TOML, or Python's reading of JSON, can say and JSON cannot, with its place: `nodes[0].gui_x`."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _no_json(item, f"{where}.{key}" if where else key)
        case list():
            for index, item in enumerate(value):
                yield from _no_json(item, f"{where}[{index}]")
        case float() if not isfinite(value):
            yield f"{where}: {value} is no number that a workflow can hold"
        case None | bool() | int() | float() | str():
            pass
        case _:
            yield f"{where}: a {type(value).__name__} ({value}) is nothing that a workflow can hold"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def import_or_reuse(session: Session, document: dict[str, Any]) -> dict[str, Any]:
    """Return the workflow that says what the document says, under its name.

    It is imported. Where a workflow of that name says the same already, that one is kept and the new one dropped, so
    that its executions stay together; where it says something else, the new one takes its place. A workflow that is
    running cannot go, and steps aside under another name.
    """
    before = lookup.workflows_named(session, str(document.get("name", "")))
    new: dict[str, Any] = session.call("workflow.import", document=document)
    if not before:
        return new
    said = _content(session, new)
    same = [old for old in before if _content(session, old) == said]
    if same:
        session.call("workflow.delete", workflow_id=new["id"])
        return same[-1]
    for old in before:
        _put_away(session, old)
    return new


def _content(session: Session, workflow: dict[str, Any]) -> dict[str, Any]:
    """Return what a workflow says, names of nodes included, without this peer's ids."""
    document: dict[str, Any] = session.call("workflow.export", workflow_id=workflow["id"])
    return document


def _put_away(session: Session, old: dict[str, Any]) -> None:
    try:
        session.call("workflow.delete", workflow_id=old["id"])
    except CommandFailed as failed:
        if ((failed.error or {}).get("data") or {}).get("error") != CONFLICT:
            raise
        aside = f"{old['name']} (replaced, {old['id']})"
        session.call("workflow.update", workflow_id=old["id"], name=aside)
        session.terminal.note(f"note: the workflow before it is still running; it is called {aside!r} now")
