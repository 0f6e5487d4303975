"""The arguments of the commands about other peers: `rnd peer` and `rnd grant`."""

from __future__ import annotations

import argparse
from typing import Any, Final

from rnd.cli.arguments import add_command, add_group, add_list, seconds, size_bytes

STATES: Final = ("pending", "allowed", "denied")
VERBS: Final = ("discover", "order", "fetch")
_PEER_HELP: Final = "its name, its id, or the beginning of its id (8 characters at least)"


def peer_commands(commands: Any) -> None:
    """Add `rnd peer`."""
    peer = add_group(commands, "peer", "Pair with other peers, let them in, keep them out.")
    invite = add_command(
        peer, "invite", "peers:invite", "Make a line for another machine; whoever has it is let in, once."
    )
    invite.add_argument("--valid", type=seconds, metavar="TIME", help="how long it is good (default: 15m)")
    join = add_command(
        peer,
        "join",
        "peers:join",
        "Use the invite of another peer; afterwards both let each other in.",
        epilog="An argument can be seen by everybody on this machine while the command runs; standard input cannot.",
    )
    join.add_argument("invite", metavar="INVITE", nargs="?", default="-", help="- (default): from standard input")
    listing = add_command(peer, "list", "peers:list_peers", "List the peers that are known here.")
    listing.add_argument("--state", choices=STATES, help="only these")
    _add_peer(add_command(peer, "show", "peers:show", "Show one peer, and what is granted to it."))
    _add_peers(add_command(peer, "allow", "peers:allow", "Let peers in."))
    _add_peers(add_command(peer, "deny", "peers:deny", "Keep peers out, and close their links."))
    _add_peers(add_command(peer, "rm", "peers:remove", "Forget peers and what is granted to them."))
    ping = add_command(peer, "ping", "peers:ping", "Ask a peer for a sign of life.")
    _add_peer(ping)
    ping.add_argument("-c", "--count", type=int, metavar="N", default=1, help="how often (default: once)")
    _add_peer(
        add_command(peer, "connect", "peers:connect", "Link to a peer now, without waiting for the next attempt.")
    )
    _add_peer(
        add_command(peer, "disconnect", "peers:disconnect", "Close the link to a peer; either side may link again.")
    )
    address = add_command(
        peer,
        "address",
        "peers:set_addresses",
        "Say where a peer is to be dialled from now on: it has moved.",
        epilog="example:\n  rnd peer address office 192.0.2.8:30906",
    )
    _add_peer(address)
    add_list(address, "addresses", "HOST:PORT", "+", "in place of what was said before")
    rename = add_command(peer, "rename", "peers:rename", "Call a peer by another name; '' gives it its own again.")
    _add_peer(rename)
    rename.add_argument("name", metavar="NAME")
    add = add_command(
        peer,
        "add",
        "peers:add",
        "Write a peer down without an invite; its owner does the same there.",
        epilog="example:\n  rnd peer add rnafom... 192.0.2.7:30906 --name office",
    )
    add.add_argument("peer_id", metavar="PEER_ID", help="all 58 characters, as rnd status shows it there")
    add_list(add, "addresses", "HOST:PORT", "*", "where it can be dialled; none: it dials this one")
    add.add_argument("--name", metavar="NAME", help="what to call it (default: as it calls itself)")
    add.add_argument("--state", choices=STATES, help="default: allowed")


def grant_commands(commands: Any) -> None:
    """Add `rnd grant`."""
    grant = add_group(commands, "grant", "Say what other peers may do with which service.")
    add = add_command(
        grant,
        "add",
        "grants:add",
        "Grant verbs to a peer, or to every allowed one.",
        epilog="example:\n  rnd grant add office order discover --service count --max-jobs 2",
    )
    add.add_argument("peer", metavar="PEER", help=f"{_PEER_HELP}, or '*' for every allowed one")
    add.add_argument("verbs", metavar="VERB", nargs="+", choices=VERBS, help=", ".join(VERBS))
    add.add_argument("--service", metavar="SERVICE", help="name or id (default: every service)")
    add.add_argument("--max-jobs", type=int, metavar="N", help="that have not ended, at once")
    add.add_argument("--max-runtime", type=seconds, metavar="TIME", help="of one job")
    add.add_argument("--max-bytes", type=size_bytes, metavar="SIZE", help="of one transfer")
    listing = add_command(grant, "list", "grants:list_grants", "List what is granted.")
    listing.add_argument("--peer", metavar="PEER", help="only what names this peer, or '*'")
    listing.add_argument("--service", metavar="SERVICE", help="only what names this service")
    add_list(add_command(grant, "rm", "grants:remove", "Take grants back."), "grants", "GRANT", "+", "id")


def _add_peer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help=_PEER_HELP)


def _add_peers(parser: argparse.ArgumentParser) -> None:
    add_list(parser, "peers", "PEER", "+", _PEER_HELP)
