"""Who may do what with the services of this peer, and where DATA may go (rulings 7 and 24). Whatever no rule allows is refused.

A peer's standing is what it is to this peer. Verbs are what it may do with one service; they follow from its standing, the
service's access and the grants that apply to it. Egress is the owner's word on where DATA goes and holds for everybody.

A grant applies where it is made out to that peer or to every peer, for that service or for all, and names the verb. Grants
add up: a verb is held if any grant names it, and of several limits the most generous holds, each limit by itself, where a
grant that sets none is the most generous. Where no grant applies there is no limit either: such a verb is held because the
service's access is `allowed`. So the first grant with limits for a service that is open to all bounds a peer, and every
further one can only widen that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final, TypeVar, assert_never

from rnd.rules.paths import OUTPUT_MOUNT, normalise_mount_path
from rnd.types.definitions import InterfacePlan, JobPlan
from rnd.types.enums import Egress, InterfaceType, MountFunction, PeerState, ServiceAccess, ServiceStatus, Verb
from rnd.types.executions import JobInterface
from rnd.types.ids import PeerId
from rnd.types.peers import Grant, GrantLimits, Peer
from rnd.types.services import DataSettings, DockerSettings, Service, ServiceInterface, StandaloneSettings

Number = TypeVar("Number", int, float)

_DONE_TO_IT: Final = {Verb.DISCOVER: "discovered", Verb.ORDER: "ordered", Verb.FETCH: "fetched"}


class Standing(StrEnum):
    """What a peer is to this peer."""

    STRANGER = "stranger"
    PENDING = "pending"
    DENIED = "denied"
    INTRODUCED = "introduced"
    ALLOWED = "allowed"
    SELF = "self"


def standing(peer: Peer | None, *, introduced: bool) -> Standing:
    """Return the standing of another peer: its row, if there is one, and whether a job introduces it.

    Denied wins over everything. An introduction lifts a pending peer as it does a stranger: to be known without being
    allowed makes nobody less than unknown. The owner of this peer is `Standing.SELF`, which no row can make anybody.
    """
    state = None if peer is None else peer.state
    match state:
        case PeerState.DENIED:
            return Standing.DENIED
        case PeerState.ALLOWED:
            return Standing.ALLOWED
        case PeerState.PENDING:
            return Standing.INTRODUCED if introduced else Standing.PENDING
        case None:
            return Standing.INTRODUCED if introduced else Standing.STRANGER
        case _:
            assert_never(state)


def holds(verb: Verb, service: Service, caller: Standing, grants: Iterable[Grant]) -> str | None:
    """Return `None` if a peer may do that with a service now, else the refusal in words.

    `grants` are those to this peer and to every peer (`grants.list_grants_for`). Its own services are this peer's always;
    others hold nothing on a service that is INACTIVE.
    """
    refusal = permits(verb, service, caller, grants)
    if refusal is None and caller is not Standing.SELF and service.status is not ServiceStatus.ACTIVE:
        return inactive(service)
    return refusal


def permits(verb: Verb, service: Service, caller: Standing, grants: Iterable[Grant]) -> str | None:
    """Return what `holds` does, whether or not the service is ACTIVE: for what goes on after it was ordered.

    The refusal names the service by the id that the caller has given, so that nobody learns a name by asking.
    """
    match caller:
        case Standing.SELF:
            return None
        case Standing.ALLOWED:
            if service.access is ServiceAccess.ALLOWED or any(_applying(verb, service, grants)):
                return None
            return f"service {service.id} may be {_DONE_TO_IT[verb]} only with a grant (owner's rule)"
        case Standing.STRANGER | Standing.PENDING | Standing.DENIED | Standing.INTRODUCED:
            return f"service {service.id} may not be {_DONE_TO_IT[verb]} by a peer that is not allowed here"
        case _:
            assert_never(caller)


def inactive(service: Service) -> str:
    """Return the refusal of a service that takes no orders."""
    return f"service {service.name} is {service.status}"


def limits_of(verb: Verb, service: Service, grants: Iterable[Grant]) -> GrantLimits:
    """Return the bounds on a verb that an allowed peer holds; `grants` as for `holds`.

    Of the grants that apply the most generous holds for each limit; without any there is no limit.
    """
    applying = [grant.limits for grant in _applying(verb, service, grants)]
    return GrantLimits(
        concurrent_jobs=_most([limits.concurrent_jobs for limits in applying]),
        max_runtime_s=_most([limits.max_runtime_s for limits in applying]),
        max_bytes=_most([limits.max_bytes for limits in applying]),
    )


def data_refusals(
    service: Service, plan: JobPlan, *, orderer: PeerId, self_peer_id: PeerId, caller: Standing, grants: Sequence[Grant]
) -> list[str]:
    """Return every reason why the DATA that a job names must not go where the job sends it; none for programs.

    `caller` is the standing of the orderer, `grants` as for `holds`.
    """
    reasons: list[str] = []
    if not isinstance(service.settings, DataSettings):
        return reasons
    for interface in plan.interfaces:
        for peer in interface.interface_peers:
            if peer.peer_mount_function is MountFunction.OUTPUT:
                continue
            to_self_peer = peer.peer_workflow_node_id is None
            refusal = egress_refusal(
                service, peer.peer_id, to_self_peer=to_self_peer, orderer=orderer, self_peer_id=self_peer_id
            )
            if refusal is not None:
                reasons.append(refusal)
            if to_self_peer and (refusal := permits(Verb.FETCH, service, caller, grants)) is not None:
                reasons.append(refusal)
    return list(dict.fromkeys(reasons))


def override_refusal(service: Service, plan: JobPlan) -> str | None:
    """Return why another peer must not have a program run with these words, or `None` (ruling 15).

    What is executed is never its choice, but in a container where the owner allows that; the arguments are where he does. Nor
    are the places in a container at which it finds what was sent.
    """
    settings = service.settings
    if isinstance(settings, DockerSettings):
        words = container_override_refusal(service.name, settings, plan.entrypoint, plan.cmd)
        return words or container_mount_refusal(service, settings, plan.interfaces)
    if not isinstance(settings, StandaloneSettings):
        return None
    if plan.entrypoint not in (None, (settings.executable,)):
        return f"the owner of {service.name} lets nobody else choose what is executed"
    if plan.cmd not in (None, settings.cmd) and not settings.allow_override:
        return f"the owner of {service.name} lets nobody else choose its arguments"
    return None


def container_override_refusal(
    name: str, settings: DockerSettings, entrypoint: Sequence[str] | None, cmd: Sequence[str] | None
) -> str | None:
    """Return why nobody but the owner may have a container run with these words, or `None`; the service's own are free."""
    if settings.allow_override:
        return None
    if entrypoint is not None and tuple(entrypoint) != settings.entrypoint:
        return f"the owner of {name} lets nobody else choose what is executed"
    if cmd is not None and tuple(cmd) != settings.cmd:
        return f"the owner of {name} lets nobody else choose its arguments"
    return None


def container_mount_refusal(
    service: Service, settings: DockerSettings, interfaces: Iterable[ServiceInterface | InterfacePlan | JobInterface]
) -> str | None:
    """Return why nobody but the owner may have a container with these MOUNTs, or `None`; those of the service are free.

    One at another path could take the place of programs and libraries of the image.
    """
    if settings.allow_override:
        return None
    free = {OUTPUT_MOUNT, *_mount_paths(service.interfaces)}
    others = sorted(set(_mount_paths(interfaces)) - free)
    return (
        f"service {service.name} has no MOUNT {others[0]}, and its owner lets nobody else add one" if others else None
    )


def _mount_paths(interfaces: Iterable[ServiceInterface | InterfacePlan | JobInterface]) -> Iterator[str]:
    for each in interfaces:
        if each.interface_type is InterfaceType.MOUNT:
            yield normalise_mount_path(each.path)


def egress_refusal(
    service: Service, receiver: PeerId, *, to_self_peer: bool, orderer: PeerId, self_peer_id: PeerId
) -> str | None:
    """Return why DATA must not go to a receiver, or `None`: a job on that peer, or the self-peer of the order.

    The rule on where it goes (any_job, listed, here_only) holds for any place, a self-peer too. DATA that is not
    downloadable goes to no self-peer, nor to the orderer's own machine under the name of a job there, unless the owner
    has listed that machine. To this peer's own jobs it always goes.
    """
    settings = service.settings
    if not isinstance(settings, DataSettings):
        return None
    listed = settings.egress is Egress.LISTED and receiver in settings.egress_peers
    to_orderer = receiver == orderer and receiver != self_peer_id and not listed
    if not settings.downloadable and (to_self_peer or to_orderer):
        return f"DATA service {service.name} is not downloadable (owner's rule)"
    if not _may_go(settings, receiver, self_peer_id):
        return f"DATA service {service.name} must not go to peer {receiver} (owner's egress rule)"
    return None


def leaves_sealed(service: Service) -> bool:
    """Say whether what a service delivers to another peer is sealed on its way: DATA whose owner demands it, or encrypted DATA."""
    settings = service.settings
    return isinstance(settings, DataSettings) and (settings.seal or settings.encrypted)


def _may_go(settings: DataSettings, receiver: PeerId, self_peer_id: PeerId) -> bool:
    match settings.egress:
        case Egress.ANY_JOB:
            return True
        case Egress.LISTED:
            return receiver == self_peer_id or receiver in settings.egress_peers
        case Egress.HERE_ONLY:
            return receiver == self_peer_id
        case _:
            assert_never(settings.egress)


def _applying(verb: Verb, service: Service, grants: Iterable[Grant]) -> Iterator[Grant]:
    return (grant for grant in grants if verb in grant.verbs and grant.service_id in {None, service.id})


def _most(bounds: Sequence[Number | None]) -> Number | None:
    set_bounds = [bound for bound in bounds if bound is not None]
    return max(set_bounds) if set_bounds and len(set_bounds) == len(bounds) else None
