"""The command transfers: deliveries from and to this peer, how far each is, and what it waits for."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from rnd.cli import lookup, moving, words
from rnd.cli.failures import OK
from rnd.cli.session import Session
from rnd.cli.terminal import now

OPEN: Final = ("ACTIVE", "PENDING")


def transfers(session: Session) -> int:
    """List the deliveries that are not over, or all of one execution."""
    arguments, terminal = session.arguments, session.terminal
    if arguments.execution:
        execution_id = lookup.execution_id(session, arguments.execution)
        found = list(lookup.list_all(session, "transfer.list", execution_id=execution_id))
    else:
        found = list(chain(*(lookup.list_all(session, "transfer.list", status=status) for status in OPEN)))
    if terminal.listed(found, total=len(found), key="transfer_id"):
        return OK
    if not found:
        terminal.note("no deliveries" if arguments.execution else "nothing is on its way, and nothing waits")
        return OK
    peers, time = lookup.peer_names(session), now()
    rows = [
        (
            "-" if transfer["execution_id"] is None else transfer["execution_id"],
            transfer["connection_id"],
            transfer["direction"],
            lookup.peer_label(transfer["peer_id"], peers),
            transfer["status"],
            f"{words.size(transfer['bytes_done'])} of {words.size(transfer['size_bytes'])}",
            transfer["attempts"],
            words.brief(_remark(transfer, moving.tries(transfer, time=time))),
        )
        for transfer in found
    ]
    terminal.table(("EXEC", "CONN", "WAY", "PEER", "STATUS", "DONE", "TRIES", ""), rows)
    return OK


def _remark(transfer: dict[str, Any], tries: str) -> str:
    """Return why it does not go on or how fast it goes, and when it is tried again."""
    parts = (transfer.get("error") or moving.rate_and_rest(transfer), tries.partition(", ")[2])
    return "  ".join(part for part in parts if part)
