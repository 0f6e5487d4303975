"""From what a person types (a name, an id, `last`) to the id that a method takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rnd.cli.failures import CommandFailed
from rnd.cli.session import Session

PAGE: Final = 1000
LAST: Final = "last"
PEER_ID_CHARACTERS: Final = 58
PEER_ID_BEGINNING: Final = 8
"""How much of a peer's id has to be given; what tells peers apart in tables has a few more characters."""
_SHORT_CHARACTERS: Final = 12
HERE: Final = "here"
CUT: Final = "…"


def list_all(session: Session, method: str, **params: Any) -> Iterator[dict[str, Any]]:
    """Yield every item of a list method, page after page."""
    after: int | None = None
    while True:
        page = session.call(method, limit=PAGE, after_id=after, **params)
        yield from page["items"]
        after = page.get("next_after_id")
        if after is None:
            return


def list_newest(session: Session, method: str, count: int, **params: Any) -> tuple[list[dict[str, Any]], int]:
    """Return the newest `count` items of a list method in ascending order, and how many there are in all."""
    found: list[dict[str, Any]] = []
    after: int | None = None
    while True:
        limit = max(1, min(PAGE, count - len(found)))
        page = session.call(method, newest_first=True, limit=limit, after_id=after, **params)
        found += page["items"]
        after = page.get("next_after_id")
        if after is None or len(found) >= count:
            return found[:count][::-1], page["total"]


def execution_id(session: Session, given: str) -> int:
    """Return the id of an execution that is named by its id or as `last`. Raises `CommandFailed`."""
    if given == LAST:
        newest, _ = list_newest(session, "execution.list", 1)
        if not newest:
            raise CommandFailed("nothing has been run here yet", hint="rnd run WORKFLOW starts one.")
        return int(newest[0]["id"])
    return whole_number(given, "execution", "Give an execution's id as in rnd ps, or last.")


def whole_number(given: str, noun: str, hint: str) -> int:
    """Return an id as a number. Raises `CommandFailed`."""
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        raise CommandFailed(f"{given!r} is no {noun} id", hint=hint)
    return int(given)


def workflow_id(session: Session, given: str) -> int:
    """Return the id of a workflow that is named by its name or its id. Raises `CommandFailed`."""
    return _by_name_or_id(session, "workflow", given)


def service_id(session: Session, given: str) -> int:
    """Return the id of a service that is named by its name or its id. Raises `CommandFailed`."""
    return _by_name_or_id(session, "service", given)


def token_id(session: Session, given: str) -> int:
    """Return the id of a token that is named by its name or its id. Raises `CommandFailed`."""
    return _by_name_or_id(session, "token", given)


def peer_id(session: Session, given: str, *, here: bool = False) -> str:
    """Return the id of a peer that is named by its name, its id, or an unambiguous beginning of its id.

    With `here`, this peer itself can be meant, as `here` or by its id. Raises `CommandFailed`.
    """
    text = ungrouped(given)
    if _is_peer_id(text):
        return text  # the daemon knows whether there is such a peer
    if here and given == HERE:
        return str(session.call("node.status")["peer_id"])
    peers = list(list_all(session, "peer.list"))
    begun = text.startswith("rn") and len(text) >= PEER_ID_BEGINNING
    # A name is what its owner says; it never stands in front of an id that begins so.
    found = [peer for peer in peers if peer["name"] == given or (begun and peer["peer_id"].startswith(text))]
    if len(found) == 1:
        return str(found[0]["peer_id"])
    if found:
        ids = ", ".join(str(peer["peer_id"]) for peer in found)
        raise CommandFailed(f"{len(found)} peers are meant by {given!r}", hint=f"Give one of their ids: {ids}")
    if text.startswith("rn") and any(peer["peer_id"].startswith(text) for peer in peers):
        raise CommandFailed(f"{given!r} is too short", hint=f"Give {PEER_ID_BEGINNING} characters of its id at least.")
    raise CommandFailed(
        f"there is no peer {given!r}", hint=_did_you_mean("peer", given, [peer["name"] for peer in peers])
    )


def ungrouped(given: str) -> str:
    """Return a peer's id, or its beginning, as it is written: without the blanks of groups and the sign of a cut."""
    joined = given.replace(" ", "").replace("-", "").removesuffix(CUT)
    return joined if joined.startswith("rn") else given


def _is_peer_id(text: str) -> bool:
    return len(text) == PEER_ID_CHARACTERS and text.startswith("rn") and text.isascii() and text.isalnum()


def short_peer_id(peer: str) -> str:
    """Return the beginning of a peer's id, which commands take for it."""
    return str(peer) if len(peer) <= _SHORT_CHARACTERS else f"{str(peer)[:_SHORT_CHARACTERS]}{CUT}"


def peer_names(session: Session) -> dict[str, str]:
    """Return what to call each peer by its id: `here`, its name, or the beginning of its id where no name tells it."""
    peers = list(list_all(session, "peer.list"))
    # A peer chooses its own name: one that is not its alone, or that stands for this peer, tells nothing.
    uses = Counter([HERE, *(peer["name"] for peer in peers)])
    called = {
        peer["peer_id"]: peer["name"] if peer["name"] and uses[peer["name"]] == 1 else short_peer_id(peer["peer_id"])
        for peer in peers
    }
    return {**called, session.call("node.status")["peer_id"]: HERE}


def peer_label(peer: str, names: Mapping[str, str]) -> str:
    """Return what to call a peer, known or not."""
    return names.get(peer) or short_peer_id(peer)


def workflows_named(session: Session, name: str) -> list[dict[str, Any]]:
    """Return the workflows of one name; names need not be unique."""
    return [workflow for workflow in list_all(session, "workflow.list") if workflow["name"] == name]


def _by_name_or_id(session: Session, noun: str, given: str) -> int:
    if given.isascii() and given.isdigit() and len(given) < 19:
        return int(given)
    items = list(list_all(session, f"{noun}.list"))
    found = [item for item in items if item["name"] == given]
    if len(found) == 1:
        return int(found[0]["id"])
    if found:
        ids = ", ".join(str(item["id"]) for item in found)
        raise CommandFailed(f"{len(found)} {noun}s are called {given!r}", hint=f"Give one of their ids: {ids}")
    raise CommandFailed(f"there is no {noun} {given!r}", hint=_did_you_mean(noun, given, [i["name"] for i in items]))


def _did_you_mean(noun: str, given: str, names: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(given, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"rnd {noun} list shows what there is."


def job_of_node(session: Session, execution: int, given: str) -> dict[str, Any]:
    """Return the job of an execution that a node's name or id means. Raises `CommandFailed`."""
    jobs: list[dict[str, Any]] = session.call("execution.get", execution_id=execution)["jobs"]
    found = (
        [job for job in jobs if job["job_name"] == given]
        or [job for job in jobs if str(job["node_id"]) == given]
        # Nodes of one service are called `count (node 3)`.
        or [job for job in jobs if str(job["job_name"]).startswith(f"{given} (node ")]
    )
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(str(job["node_id"]) for job in found)
        raise CommandFailed(f"{len(found)} nodes are called {given!r}", hint=f"Give one of their ids: {ids}")
    names = [str(job["job_name"]) for job in jobs]
    raise CommandFailed(
        f"execution {execution} has no node {given!r}", hint=f"It has {', '.join(names[:20])}." if names else ""
    )
