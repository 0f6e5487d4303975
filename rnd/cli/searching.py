"""The command service search: what this peer and others offer."""

from __future__ import annotations

from rnd.cli import lookup, words
from rnd.cli.failures import OK, REFUSED
from rnd.cli.session import Session


def search(session: Session) -> int:
    """Find services. Peers that could not be asked are told on standard error; only if nobody could, it has failed."""
    arguments, terminal = session.arguments, session.terminal
    asked = [lookup.peer_id(session, given, here=True) for given in arguments.peer]
    found = session.call(
        "service.search",
        patience_s=arguments.timeout,
        query=arguments.query,
        service_type=arguments.type,
        peer_ids=asked or None,
        active_only=not arguments.all,
        timeout_s=arguments.timeout,
    )
    items, unreachable = found["items"], found["unreachable"]
    code = REFUSED if asked and len(unreachable) == len(set(asked)) else OK
    if terminal.as_json:
        terminal.data(found)
        return code
    if terminal.quiet:
        for item in items:
            terminal.line(words.safe(f"{item['peer_id']}/{item['name']}"))
        return code
    peers = lookup.peer_names(session)
    if items:
        rows = [
            (
                lookup.peer_label(item["peer_id"], peers),
                item["name"],
                item["service_id"],
                item["service_type"],
                item["revision"],
                item["status"],
                item["description"] or "-",
            )
            for item in items
        ]
        terminal.table(("PEER", "SERVICE", "ID", "TYPE", "REV", "STATUS", "DESCRIPTION"), rows)
    elif code == OK:
        terminal.note("nothing of that kind is offered to this peer")
    if found.get("next_offset") is not None:
        terminal.note(f"{found['total'] - len(items):,} more; give QUERY or --type to narrow it")
    for peer in unreachable:
        terminal.note(
            f"not asked: {words.safe(lookup.peer_label(peer['peer_id'], peers))}: {words.brief(peer['reason'])}"
        )
    return code
