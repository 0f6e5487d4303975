"""Commands about what other peers may do here: grant add, list, rm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rnd.cli import lookup, words
from rnd.cli.failures import OK
from rnd.cli.session import Session

EVERY_PEER: Final = "*"


def add(session: Session) -> int:
    """Grant verbs."""
    arguments, terminal = session.arguments, session.terminal
    bounds = {
        "concurrent_jobs": arguments.max_jobs,
        "max_runtime_s": arguments.max_runtime,
        "max_bytes": arguments.max_bytes,
    }
    grant = session.call(
        "grant.add",
        peer_id=_peer(session, arguments.peer),
        service_id=None if arguments.service is None else lookup.service_id(session, arguments.service),
        verbs=list(dict.fromkeys(arguments.verbs)),
        limits={name: bound for name, bound in bounds.items() if bound is not None} or None,
    )
    if terminal.as_json:
        terminal.data(grant)
    elif terminal.quiet:
        terminal.line(str(grant["id"]))
    else:
        service = "every service" if grant["service_id"] is None else f"service {words.safe(arguments.service)}"
        bounded = f", at most {_limits(grant)}" if grant["limits"] else ""
        whom = "every allowed peer" if grant["peer_id"] == EVERY_PEER else words.safe(arguments.peer)
        terminal.line(f"grant {grant['id']}: {whom} may {', '.join(grant['verbs'])} {service}{bounded}")
    return OK


def list_grants(session: Session) -> int:
    """List the grants."""
    arguments, terminal = session.arguments, session.terminal
    grants = list(
        lookup.list_all(
            session,
            "grant.list",
            peer_id=None if arguments.peer is None else _peer(session, arguments.peer),
            service_id=None if arguments.service is None else lookup.service_id(session, arguments.service),
        )
    )
    if terminal.listed(grants):
        return OK
    if grants:
        print_grants(session, grants, peers=lookup.peer_names(session))
    else:
        terminal.note("nothing is granted: allowed peers may use what has access 'allowed', and nothing else")
    return OK


def print_grants(session: Session, grants: list[dict[str, Any]], *, peers: Mapping[str, str]) -> None:
    """Print grants as a table, with the peers they are for where `peers` names any."""
    services = {service["id"]: service["name"] for service in lookup.list_all(session, "service.list")}
    headings = ("GRANT", "PEER", "SERVICE", "VERBS", "AT MOST")
    rows = [
        (
            grant["id"],
            "every allowed one" if grant["peer_id"] == EVERY_PEER else lookup.peer_label(grant["peer_id"], peers),
            "every one" if grant["service_id"] is None else services.get(grant["service_id"], grant["service_id"]),
            ", ".join(grant["verbs"]),
            _limits(grant) or "-",
        )
        for grant in grants
    ]
    session.terminal.table(headings, rows)


def remove(session: Session) -> int:
    """Take grants back."""
    terminal = session.terminal
    hint = "Give a grant's id as in rnd grant list."
    numbers = [lookup.whole_number(given, "grant", hint) for given in session.arguments.grants]
    answers = [session.call("grant.remove", grant_id=number) for number in numbers]
    if terminal.as_json:
        terminal.data({"items": answers})
        return OK
    for answer in answers:
        terminal.line(str(answer["id"]) if terminal.quiet else f"grant {answer['id']} is taken back")
    return OK


def _peer(session: Session, given: str) -> str:
    return given if given == EVERY_PEER else lookup.peer_id(session, given)


def _limits(grant: dict[str, Any]) -> str:
    limits = grant["limits"]
    said = []
    if limits.get("concurrent_jobs") is not None:
        said.append(words.count(limits["concurrent_jobs"], "job"))
    if limits.get("max_runtime_s") is not None:
        said.append(f"{words.duration(limits['max_runtime_s'])} a job")
    if limits.get("max_bytes") is not None:
        said.append(f"{words.size(limits['max_bytes'])} a transfer")
    return ", ".join(said)
