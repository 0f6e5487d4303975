"""Commands about other peers: peer invite, join, list, show, allow, deny, rm, ping, connect, address, rename, add, ..."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from rnd.cli import lookup, words
from rnd.cli.failures import OK, CommandFailed, in_plain_words, usage
from rnd.cli.grants import print_grants
from rnd.cli.session import Session
from rnd.cli.terminal import now

STANDARD_INPUT: Final = "-"
MAX_INVITE_CHARACTERS: Final = 8_192
PAIRING_WAIT_S: Final = 60.0
BETWEEN_PINGS_S: Final = 1.0
_GROUP: Final = 4
_ADDRESSES_IN_INVITE: Final = 3
"""Which part between slashes of an invite names addresses (docs/wire.md)."""
_WHERE_INVITES_COME_FROM: Final = "Paste the line that rnd peer invite has printed on the other machine."


# ---------------------------------------------------------------- pairing


def invite(session: Session) -> int:
    """Make an invite. Its line is all that goes to standard output, so that it can be sent on by a pipe."""
    terminal = session.terminal
    try:
        made = session.call("peer.invite", valid_s=session.arguments.valid)
    except CommandFailed as failed:
        raise in_plain_words(failed, hint="It is how long the invite is good, such as 90s, 15m or 2h.") from None
    if terminal.as_json:
        terminal.data(made)
        return OK
    terminal.line(words.safe(made["invite"]))
    terminal.note(
        f"note: whoever has this line is let in, once, until {words.safe(made['expires_at'])}; "
        "on the other machine: rnd peer join"
    )
    if _is_for_this_machine(made["invite"]):
        terminal.note(
            "warning: it names addresses of this machine alone, so no other machine can use it; "
            "rnd serve --peer 0.0.0.0:30906 listens for others, --set advertise=HOST:PORT names another address"
        )
    return OK


def _is_for_this_machine(invite: str) -> bool:
    """Say whether an invite leads to loopback addresses only."""
    addresses = ",".join(invite.split("/")[_ADDRESSES_IN_INVITE:][:1]).split(",")
    hosts = [address.rpartition(":")[0].strip("[]") for address in addresses]
    return all(host == "localhost" or host.startswith("127.") or host == "::1" for host in hosts)


def join(session: Session) -> int:
    """Use an invite."""
    given: str = session.arguments.invite
    if given == STANDARD_INPUT:
        given = _read_invite(session)
    if not given.strip():
        raise usage("there is no invite", hint=_WHERE_INVITES_COME_FROM)
    try:
        peer = session.call("peer.join", patience_s=PAIRING_WAIT_S, invite=given.strip())
    except CommandFailed as failed:
        raise in_plain_words(failed, hint=_WHERE_INVITES_COME_FROM) from None
    return _say(session, peer, f"paired with {_called(peer)}")


def _read_invite(session: Session) -> str:
    if sys.stdin.isatty():
        session.terminal.note("paste the invite:")
        return sys.stdin.readline(MAX_INVITE_CHARACTERS)
    return sys.stdin.read(MAX_INVITE_CHARACTERS)


def add(session: Session) -> int:
    """Write a peer down."""
    arguments = session.arguments
    try:
        peer = session.call(
            "peer.add",
            peer_id=lookup.ungrouped(arguments.peer_id),
            addresses=arguments.addresses,
            name=arguments.name,
            state=arguments.state,
        )
    except CommandFailed as failed:
        hint = "rnd status shows a peer's id and where it listens, on its own machine."
        raise in_plain_words(failed, hint=hint) from None
    _say(session, peer, f"{_called(peer)} is {peer['state']}")
    if not session.terminal.quiet and not session.terminal.as_json:
        own = session.call("node.status")
        addresses = " ".join(own["peer_addresses"]) or "HOST:PORT"
        session.terminal.note(
            f"on the other machine: rnd peer add {words.safe(own['peer_id'])} {words.safe(addresses)}"
        )
    return OK


# ---------------------------------------------------------------- looking


def list_peers(session: Session) -> int:
    """List the peers."""
    terminal = session.terminal
    peers = list(lookup.list_all(session, "peer.list", state=session.arguments.state))
    if terminal.listed(peers, key="peer_id"):
        return OK
    if not peers:
        terminal.note("no other peer is known here; rnd peer invite makes a line that lets one in")
        return OK
    time_now = now()
    rows = [
        (
            peer["name"] or "-",
            lookup.short_peer_id(peer["peer_id"]),
            peer["state"],
            _link(peer),
            words.ago(peer["last_seen_at"], now=time_now) if peer["last_seen_at"] else "never",
            ", ".join(peer["addresses"]) or "-",
        )
        for peer in peers
    ]
    terminal.table(("NAME", "PEER", "STATE", "LINK", "SEEN", "ADDRESSES"), rows)
    return OK


def _link(peer: dict[str, Any]) -> str:
    if not peer["connected"]:
        return "down" if peer["state"] == "allowed" else "-"
    return "up" if peer["rtt_ms"] is None else f"up, {peer['rtt_ms']:.3g} ms"


def show(session: Session) -> int:
    """Show one peer and its grants."""
    terminal = session.terminal
    peer_id = lookup.peer_id(session, session.arguments.peer)
    peer = session.call("peer.get", peer_id=peer_id)
    grants = list(lookup.list_all(session, "grant.list", peer_id=peer_id))
    if terminal.as_json:
        terminal.data({**peer, "grants": grants})
        return OK
    if terminal.quiet:
        terminal.line(words.safe(peer["peer_id"]))
        return OK
    time_now = now()
    terminal.facts(
        [
            ("peer", peer["peer_id"]),
            ("to read out", grouped(peer["peer_id"])),
            ("name", peer["name"] or None),
            ("state", peer["state"]),
            ("link", _link(peer)),
            ("not reached", words.brief(peer["last_failure"]) if peer.get("last_failure") else None),
            ("addresses", ", ".join(peer["addresses"]) or "none, it dials this peer"),
            ("last seen", words.ago(peer["last_seen_at"], now=time_now) if peer["last_seen_at"] else "never"),
            ("known since", words.ago(peer["created_at"], now=time_now)),
        ]
    )
    if grants:
        terminal.line()
        print_grants(session, grants, peers={})
    return OK


def grouped(peer_id: str) -> str:
    """Return an id in groups of four, as people read it to each other; commands take it with its blanks too."""
    return " ".join(peer_id[start : start + _GROUP] for start in range(0, len(peer_id), _GROUP))


def ping(session: Session) -> int:
    """Ask for signs of life."""
    terminal, count = session.terminal, session.arguments.count
    if count < 1:
        raise usage(f"--count {count}: at least once")
    peer_id = lookup.peer_id(session, session.arguments.peer)
    answers = []
    for number in range(count):
        if number:
            time.sleep(BETWEEN_PINGS_S)
        answers.append(session.call("peer.ping", peer_id=peer_id))
        if not terminal.as_json:
            rtt_ms = f"{answers[-1]['rtt_ms']:.3g}"
            terminal.line(rtt_ms if terminal.quiet else f"{lookup.short_peer_id(peer_id)} answers after {rtt_ms} ms")
    if terminal.as_json:
        terminal.data(answers[0] if count == 1 else {"items": answers})
    return OK


# ---------------------------------------------------------------- changing


def allow(session: Session) -> int:
    """Let peers in."""
    return _set_state(session, "allowed")


def deny(session: Session) -> int:
    """Keep peers out."""
    return _set_state(session, "denied")


def _set_state(session: Session, state: str) -> int:
    # All of them are found before the first is changed, so that a typo changes nothing.
    found = [lookup.peer_id(session, given) for given in session.arguments.peers]
    answers = [session.call("peer.set_state", peer_id=peer_id, state=state) for peer_id in found]
    return _say_all(session, answers, state)


def remove(session: Session) -> int:
    """Forget peers."""
    found = [lookup.peer_id(session, given) for given in session.arguments.peers]
    answers = [session.call("peer.remove", peer_id=peer_id) for peer_id in found]
    return _say_all(session, answers, "forgotten")


def _say_all(session: Session, answers: list[dict[str, Any]], what: str) -> int:
    terminal = session.terminal
    if terminal.as_json:
        terminal.data({"items": answers})
        return OK
    for answer in answers:
        terminal.line(words.safe(answer["peer_id"]) if terminal.quiet else f"{_called(answer)} is {what}")
    return OK


def connect(session: Session) -> int:
    """Link to a peer now."""
    peer_id = lookup.peer_id(session, session.arguments.peer)
    peer = session.call("peer.connect", patience_s=PAIRING_WAIT_S, peer_id=peer_id)
    return _say(session, peer, f"{_called(peer)} is linked")


def disconnect(session: Session) -> int:
    """Close the link to a peer."""
    peer_id = lookup.peer_id(session, session.arguments.peer)
    peer = session.call("peer.disconnect", peer_id=peer_id)
    return _say(session, peer, f"the link to {_called(peer)} is closed; rnd peer deny keeps it out")


def set_addresses(session: Session) -> int:
    """Dial a peer elsewhere from now on."""
    peer_id = lookup.peer_id(session, session.arguments.peer)
    try:
        peer = session.call("peer.set_addresses", peer_id=peer_id, addresses=session.arguments.addresses)
    except CommandFailed as failed:
        hint = "rnd status shows on that peer's own machine where it listens."
        raise in_plain_words(failed, hint=hint) from None
    return _say(session, peer, f"{_called(peer)} is dialled at {words.safe(', '.join(peer['addresses']))}")


def rename(session: Session) -> int:
    """Call a peer by another name."""
    peer_id = lookup.peer_id(session, session.arguments.peer)
    peer = session.call("peer.rename", peer_id=peer_id, name=session.arguments.name)
    return _say(session, peer, f"{lookup.short_peer_id(peer_id)} is called {words.safe(peer['name']) or 'as it likes'}")


def _called(peer: dict[str, Any]) -> str:
    short = lookup.short_peer_id(peer["peer_id"])
    return f"peer {words.safe(peer['name'])} ({short})" if peer.get("name") else f"peer {short}"


def _say(session: Session, peer: dict[str, Any], sentence: str) -> int:
    terminal = session.terminal
    if terminal.as_json:
        terminal.data(peer)
    else:
        terminal.line(words.safe(peer["peer_id"]) if terminal.quiet else sentence)
    return OK
