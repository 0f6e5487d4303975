"""Methods about other peers: who they are, whether they are linked, and what is granted to them (document: Issue 3).

What only the owner's rows say is read here; links, and whatever changes who may have one, are the `PeerDesk`'s. An invite
is a secret: it is in the answer that makes it, and nowhere else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from rnd.api.context import ApiContext, Call
from rnd.api.handlers_node import node_capabilities
from rnd.api.parameters import BadParameter
from rnd.api.rendering import JsonMembers, render, render_page
from rnd.database import address_records, grants, peers
from rnd.log import get_logger
from rnd.protocol.invites import parse_invite
from rnd.types.enums import PeerState, Verb
from rnd.types.errors import Conflict, MalformedInvite
from rnd.types.ids import PeerId, ServiceId
from rnd.types.log_events import LogEvent
from rnd.types.pages import Page
from rnd.types.peers import Grant, GrantLimits, Peer

log = get_logger()


async def peer_list(call: Call, *, state: PeerState | None = None, limit: int, after_id: int) -> JsonMembers:
    """Answer `peer.list`."""
    api = call.api

    def read(conn: sqlite3.Connection) -> tuple[Page[Peer], dict[PeerId, tuple[str, ...]]]:
        page = peers.page_peers(conn, state=state, limit=limit, after_id=after_id)
        return page, {peer.peer_id: address_records.newest_addresses(conn, peer.peer_id) for peer in page.items}

    page, addresses = await api.database.read(read)
    return render_page(page, lambda peer: _rendered(api, peer, addresses[peer.peer_id]))


async def peer_get(call: Call, *, peer_id: PeerId) -> JsonMembers:
    """Answer `peer.get`."""
    return await _render_peer(call.api, await _known(call.api, peer_id))


async def peer_invite(call: Call, *, valid_s: float) -> JsonMembers:
    """Answer `peer.invite`: one line to paste on the other machine, shown this once."""
    api = call.api
    limit = api.config.limits.peers
    await api.database.read(lambda conn: peers.require_room(conn, None, limit=limit))
    invite, expires_at = await api.peers.invite(valid_s)
    log.info(LogEvent.PEER_INVITE_MADE, expires_at=expires_at)
    return {"invite": invite, "expires_at": render(expires_at)}


async def peer_join(call: Call, *, invite: str) -> JsonMembers:
    """Answer `peer.join`. What is wrong with a line is said in words that do not repeat it."""
    api = call.api
    try:
        inviter = parse_invite(invite).peer_id
    except MalformedInvite as error:
        raise BadParameter("invite", str(error)) from None
    if inviter == api.peer_id:
        raise Conflict("This peer has made that invite itself", hint="Paste it on the other machine.")
    await _check_may_come(api, inviter)
    peer = await api.peers.join(invite.strip())
    log.info(LogEvent.PEER_JOINED, peer_id=peer.peer_id)
    return await _render_peer(api, peer)


async def _check_may_come(api: ApiContext, peer_id: PeerId) -> None:
    """Raise `Conflict` where the owner denies a peer, `LimitExceeded` where there is no room for it."""

    def check(conn: sqlite3.Connection) -> None:
        known = peers.find_peer(conn, peer_id)
        if known is not None and known.state is PeerState.DENIED:
            hint = "Set its state to allowed first if it is to come in after all."
            raise Conflict(f"Peer {peer_id} is denied here", hint=hint)
        peers.require_room(conn, peer_id, limit=api.config.limits.peers)

    await api.database.read(check)


async def peer_add(
    call: Call, *, peer_id: PeerId, addresses: Sequence[str], name: str, state: PeerState
) -> JsonMembers:
    """Answer `peer.add`: pairing without an invite, done on both sides."""
    api = call.api
    if state is not PeerState.DENIED:
        limit = api.config.limits.peers
        await api.database.read(lambda conn: peers.require_room(conn, peer_id, limit=limit))
    added = await api.peers.add(peer_id, addresses=tuple(dict.fromkeys(addresses)), name=name, state=state)
    log.info(LogEvent.PEER_ADDED, peer_id=peer_id, state=state, name=name)
    return await _render_peer(api, added)


async def peer_set_addresses(call: Call, *, peer_id: PeerId, addresses: Sequence[str]) -> JsonMembers:
    """Answer `peer.set_addresses`: where a peer has moved to; it is dialled there at once."""
    peer = await call.api.peers.set_addresses(peer_id, tuple(dict.fromkeys(addresses)))
    log.info(LogEvent.PEER_ADDRESSES_SET, peer_id=peer_id, addresses=", ".join(addresses))
    return await _render_peer(call.api, peer)


async def peer_connect(call: Call, *, peer_id: PeerId) -> JsonMembers:
    """Answer `peer.connect`, once the link is up."""
    await _allowed(call.api, peer_id)
    await call.api.peers.connect(peer_id)
    return await peer_get(call, peer_id=peer_id)


async def peer_disconnect(call: Call, *, peer_id: PeerId) -> JsonMembers:
    """Answer `peer.disconnect`."""
    await _known(call.api, peer_id)
    await call.api.peers.disconnect(peer_id)
    return await peer_get(call, peer_id=peer_id)


async def peer_remove(call: Call, *, peer_id: PeerId) -> JsonMembers:
    """Answer `peer.remove`: its grants go with it, and it is a stranger."""
    await _known(call.api, peer_id)
    await call.api.peers.remove(peer_id)
    log.info(LogEvent.PEER_REMOVED, peer_id=peer_id)
    return {"removed": True, "peer_id": peer_id}


async def peer_set_state(call: Call, *, peer_id: PeerId, state: PeerState) -> JsonMembers:
    """Answer `peer.set_state`: whoever is denied loses its link at once."""
    api = call.api
    known = await _known(api, peer_id)
    if known.state is PeerState.DENIED and state is not PeerState.DENIED:
        limit = api.config.limits.peers
        await api.database.read(lambda conn: peers.require_room(conn, peer_id, limit=limit))
    peer = await api.peers.set_state(peer_id, state)
    log.info(LogEvent.PEER_STATE_SET, peer_id=peer_id, state=state)
    return await _render_peer(api, peer)


async def peer_rename(call: Call, *, peer_id: PeerId, name: str) -> JsonMembers:
    """Answer `peer.rename`: the owner's name for a peer; "" gives way to the name that it calls itself."""
    now = call.api.clock.now()
    name = name or call.api.peers.own_name(peer_id)
    peer = await call.api.database.write(lambda conn: peers.rename_peer(conn, peer_id, name, now=now))
    log.info(LogEvent.PEER_RENAMED, peer_id=peer_id, name=name)
    return await _render_peer(call.api, peer)


async def peer_ping(call: Call, *, peer_id: PeerId) -> JsonMembers:
    """Answer `peer.ping`: a sign of life, and how long it took."""
    await _allowed(call.api, peer_id)
    return {"peer_id": peer_id, "rtt_ms": round(await call.api.peers.ping(peer_id), 3)}


async def peer_capabilities(call: Call, *, peer_id: PeerId) -> JsonMembers:
    """Answer `peer.capabilities`: what `node.capabilities` answers there."""
    if peer_id == call.api.peer_id:
        return await node_capabilities(call)
    await _allowed(call.api, peer_id)
    told: JsonMembers = render(await call.api.peers.capabilities(peer_id))
    return told


async def _known(api: ApiContext, peer_id: PeerId) -> Peer:
    """Return the owner's word on a peer. Raises `NotFound`."""
    return await api.database.read(lambda conn: peers.get_peer(conn, peer_id))


async def _allowed(api: ApiContext, peer_id: PeerId) -> None:
    """Raise `NotFound` for a stranger, and `Conflict` for a peer that may have no link."""
    peer = await _known(api, peer_id)
    if peer.state is not PeerState.ALLOWED:
        raise Conflict(f"Peer {peer_id} is {peer.state} here", hint="Only allowed peers are linked: peer.set_state.")


async def _render_peer(api: ApiContext, peer: Peer) -> JsonMembers:
    addresses = await api.database.read(lambda conn: address_records.newest_addresses(conn, peer.peer_id))
    return _rendered(api, peer, addresses)


def _rendered(api: ApiContext, peer: Peer, addresses: Sequence[str]) -> JsonMembers:
    """Return a peer; its addresses are those that the operator gave, then those that it says itself."""
    connected = api.peers.is_connected(peer.peer_id)
    return {
        **render(peer),
        "addresses": list(addresses),
        "connected": connected,
        "rtt_ms": api.peers.rtt_ms(peer.peer_id) if connected else None,
        "last_failure": "" if connected else api.peers.last_failure(peer.peer_id),
    }


# ---------------------------------------------------------------- grants


async def grant_list(
    call: Call, *, peer_id: PeerId | None = None, service_id: ServiceId | None = None, limit: int, after_id: int
) -> JsonMembers:
    """Answer `grant.list`: the grants whose own fields match."""
    page = await call.api.database.read(
        lambda conn: grants.page_grants(conn, peer_id=peer_id, service_id=service_id, limit=limit, after_id=after_id)
    )
    return render_page(page, _render_grant)


async def grant_add(
    call: Call,
    *,
    peer_id: PeerId,
    service_id: ServiceId | None = None,
    verbs: Sequence[Verb],
    limits: GrantLimits | None = None,
) -> JsonMembers:
    """Answer `grant.add`."""
    now = call.api.clock.now()
    grant = await call.api.database.write(
        lambda conn: grants.add_grant(
            conn, peer_id=peer_id, service_id=service_id, verbs=frozenset(verbs), limits=limits, now=now
        )
    )
    log.info(
        LogEvent.GRANT_ADDED,
        grant_id=grant.id,
        peer_id=peer_id,
        service_id=service_id,
        verbs=" ".join(sorted(grant.verbs)),
    )
    return _render_grant(grant)


async def grant_remove(call: Call, *, grant_id: int) -> JsonMembers:
    """Answer `grant.remove`: the grant as it was."""
    grant = await call.api.database.write(lambda conn: grants.remove_grant(conn, grant_id))
    log.info(LogEvent.GRANT_REMOVED, grant_id=grant_id, peer_id=grant.peer_id)
    return {**_render_grant(grant), "removed": True}


def _render_grant(grant: Grant) -> JsonMembers:
    return {
        "id": grant.id,
        "grant_id": grant.id,
        "peer_id": grant.peer_id,
        "service_id": grant.service_id,
        "verbs": [verb.value for verb in Verb if verb in grant.verbs],
        "limits": {name: bound for name, bound in render(grant.limits).items() if bound is not None},
        "created_at": render(grant.created_at),
    }
