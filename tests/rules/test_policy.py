"""Who may do what: nothing that no rule allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.policy import Standing, data_refusals, egress_refusal, holds, leaves_sealed, limits_of, permits, standing
from rnd.types.definitions import InterfacePeerPlan, InterfacePlan, JobPlan
from rnd.types.enums import (
    Egress,
    ExecutionConstraint,
    InterfaceType,
    MountFunction,
    PeerState,
    ServiceAccess,
    ServiceStatus,
    Verb,
)
from rnd.types.ids import ConnectionId, NodeId, PeerId, ServiceId
from rnd.types.peers import EVERY_PEER, Grant, GrantLimits, Peer
from rnd.types.services import Service
from tests.rules.conftest import Make

MAKE: Final = Make()
ME, ORDERER, LISTED, THIRD = PeerId("rnme"), PeerId("rnorderer"), PeerId("rnlisted"), PeerId("rnthird")
PLACES: Final = (ME, ORDERER, LISTED, THIRD)
OUTSIDE: Final = [Standing.STRANGER, Standing.PENDING, Standing.DENIED, Standing.INTRODUCED]

BOUNDS = st.none() | st.integers(0, 9)
LIMITS = st.builds(GrantLimits, concurrent_jobs=BOUNDS, max_runtime_s=BOUNDS, max_bytes=BOUNDS)
GRANTS = st.builds(
    Grant,
    id=st.integers(1, 99),
    peer_id=st.sampled_from([ORDERER, EVERY_PEER]),
    service_id=st.none() | st.integers(1, 2).map(ServiceId),
    verbs=st.frozensets(st.sampled_from(Verb)),
    limits=LIMITS,
    created_at=st.just(MAKE.now),
)
GRANT_LISTS = st.lists(GRANTS, max_size=4)
VERBS = st.sampled_from(Verb)


def service(access: str = "allowed", status: str = "ACTIVE", service_id: int = 1) -> Service:
    return MAKE.service(service_id, "wc", access=ServiceAccess(access), status=ServiceStatus(status))


SERVICES = st.builds(service, st.sampled_from(ServiceAccess), st.sampled_from(ServiceStatus), st.integers(1, 2))


def peer(state: PeerState) -> Peer:
    return Peer(
        id=1,
        peer_id=ORDERER,
        name="",
        state=state,
        addresses=(),
        instance_id=None,
        last_seen_at=None,
        created_at=MAKE.now,
        updated_at=MAKE.now,
    )


def grant(
    *verbs: Verb, service_id: int | None = None, peer_id: PeerId = ORDERER, limits: GrantLimits | None = None
) -> Grant:
    return Grant(
        id=1,
        peer_id=peer_id,
        service_id=None if service_id is None else ServiceId(service_id),
        verbs=frozenset(verbs),
        limits=limits or GrantLimits(),
        created_at=MAKE.now,
    )


@pytest.mark.parametrize(
    ("state", "introduced", "expected"),
    [
        (None, False, Standing.STRANGER),
        (None, True, Standing.INTRODUCED),
        (PeerState.PENDING, False, Standing.PENDING),
        (PeerState.PENDING, True, Standing.INTRODUCED),
        (PeerState.DENIED, False, Standing.DENIED),
        (PeerState.DENIED, True, Standing.DENIED),
        (PeerState.ALLOWED, False, Standing.ALLOWED),
        (PeerState.ALLOWED, True, Standing.ALLOWED),
    ],
)
def test_a_standing_follows_from_the_owners_word_and_introductions(
    state: PeerState | None, introduced: bool, expected: Standing
) -> None:
    assert standing(None if state is None else peer(state), introduced=introduced) is expected


@pytest.mark.parametrize(
    ("access", "status", "grants", "is_held"),
    [
        ("allowed", "ACTIVE", [], True),
        ("allowed", "INACTIVE", [], False),
        ("granted", "ACTIVE", [], False),
        ("granted", "ACTIVE", [grant(Verb.ORDER)], True),
        ("granted", "ACTIVE", [grant(Verb.ORDER, service_id=1)], True),
        ("granted", "ACTIVE", [grant(Verb.ORDER, peer_id=EVERY_PEER, service_id=1)], True),
        ("granted", "ACTIVE", [grant(Verb.ORDER, service_id=2)], False),
        ("granted", "ACTIVE", [grant(Verb.DISCOVER, Verb.FETCH)], False),
        ("granted", "ACTIVE", [grant()], False),
        ("granted", "ACTIVE", [grant(), grant(Verb.ORDER, service_id=2), grant(Verb.ORDER, Verb.FETCH)], True),
        ("granted", "INACTIVE", [grant(Verb.ORDER)], False),
    ],
)
def test_an_allowed_peer_orders_what_is_open_or_granted(
    access: str, status: str, grants: list[Grant], is_held: bool
) -> None:
    assert (holds(Verb.ORDER, service(access, status), Standing.ALLOWED, grants) is None) is is_held


def test_a_refusal_says_what_is_missing() -> None:
    needs_grant = service("granted")
    assert holds(Verb.FETCH, needs_grant, Standing.ALLOWED, []) == (
        "service 1 may be fetched only with a grant (owner's rule)"
    )
    assert holds(Verb.ORDER, needs_grant, Standing.STRANGER, []) == (
        "service 1 may not be ordered by a peer that is not allowed here"
    )
    assert holds(Verb.DISCOVER, service(status="INACTIVE"), Standing.ALLOWED, []) == "service wc is INACTIVE"


@given(VERBS, SERVICES, st.sampled_from(OUTSIDE), GRANT_LISTS)
def test_whoever_is_not_allowed_holds_nothing_whatever_is_granted(
    verb: Verb, offered: Service, caller: Standing, grants: list[Grant]
) -> None:
    assert holds(verb, offered, caller, grants) is not None
    assert permits(verb, offered, caller, grants) is not None


@given(VERBS, SERVICES, st.booleans(), GRANT_LISTS)
def test_a_denied_or_unknown_peer_holds_nothing(
    verb: Verb, offered: Service, introduced: bool, grants: list[Grant]
) -> None:
    for known in (None, peer(PeerState.DENIED), peer(PeerState.PENDING)):
        assert holds(verb, offered, standing(known, introduced=introduced), grants) is not None


@given(VERBS, SERVICES, GRANT_LISTS)
def test_this_peers_own_services_are_its_own_always(verb: Verb, offered: Service, grants: list[Grant]) -> None:
    assert holds(verb, offered, Standing.SELF, grants) is None


@given(VERBS, SERVICES, st.sampled_from(Standing), GRANT_LISTS, GRANTS)
def test_another_grant_never_takes_a_verb_away(
    verb: Verb, offered: Service, caller: Standing, grants: list[Grant], more: Grant
) -> None:
    if holds(verb, offered, caller, grants) is None:
        assert holds(verb, offered, caller, [*grants, more]) is None


@given(VERBS, SERVICES, GRANT_LISTS)
def test_a_verb_on_a_granted_service_is_held_by_a_grant_that_names_it_and_by_no_other(
    verb: Verb, offered: Service, grants: list[Grant]
) -> None:
    named = [each for each in grants if verb in each.verbs and each.service_id in {None, offered.id}]
    refusal = permits(verb, replace(offered, access=ServiceAccess.GRANTED), Standing.ALLOWED, grants)
    assert (refusal is None) is bool(named)


def limited(jobs: int | None = None, max_bytes: int | None = None) -> GrantLimits:
    return GrantLimits(concurrent_jobs=jobs, max_bytes=max_bytes)


@pytest.mark.parametrize(
    ("grants", "expected"),
    [
        ([], limited()),
        ([grant(Verb.ORDER, limits=limited(2, 10))], limited(2, 10)),
        ([grant(Verb.ORDER, peer_id=EVERY_PEER, limits=limited(2))], limited(2)),
        ([grant(Verb.ORDER, limits=limited(2, 10)), grant(Verb.ORDER, limits=limited(1, 20))], limited(2, 20)),
        ([grant(Verb.ORDER, limits=limited(2, 10)), grant(Verb.ORDER, limits=limited(1))], limited(2)),
        ([grant(Verb.ORDER, limits=limited(2, 10)), grant(Verb.ORDER)], limited()),
        ([grant(Verb.ORDER, limits=limited(0))], limited(0)),
        ([grant(Verb.ORDER, service_id=1, limits=limited(2)), grant(Verb.ORDER, service_id=2)], limited(2)),
        ([grant(Verb.ORDER, limits=limited(2)), grant(Verb.FETCH)], limited(2)),
    ],
)
def test_the_most_generous_of_the_grants_that_apply_holds_limit_by_limit(
    grants: list[Grant], expected: GrantLimits
) -> None:
    assert limits_of(Verb.ORDER, service(), grants) == expected


def as_room(bound: float | None) -> float:
    return float("inf") if bound is None else bound


def rooms(limits: GrantLimits) -> list[float]:
    return [as_room(bound) for bound in (limits.concurrent_jobs, limits.max_runtime_s, limits.max_bytes)]


@given(VERBS, SERVICES, st.lists(GRANTS, min_size=1, max_size=4), GRANTS)
def test_another_grant_never_narrows_what_a_grant_gives(
    verb: Verb, offered: Service, grants: list[Grant], more: Grant
) -> None:
    by_grant = replace(offered, access=ServiceAccess.GRANTED)
    if permits(verb, by_grant, Standing.ALLOWED, grants) is None:
        before, after = limits_of(verb, offered, grants), limits_of(verb, offered, [*grants, more])
        assert all(then <= now for then, now in zip(rooms(before), rooms(after), strict=True))


def data(egress: str = "any_job", *, downloadable: bool = True, access: str = "allowed") -> Service:
    listed = (LISTED,) if egress == "listed" else ()
    settings = MAKE.data_settings(egress=Egress(egress), egress_peers=listed, downloadable=downloadable)
    return MAKE.service(1, "scans", "DATA", settings=settings, access=ServiceAccess(access))


NOT_DOWNLOADABLE = "DATA service scans is not downloadable (owner's rule)"


def must_not_go(receiver: PeerId) -> str:
    return f"DATA service scans must not go to peer {receiver} (owner's egress rule)"


# Where a job of another peer sends DATA: by the owner's rule and whether it is downloadable, what each receiver meets
# as the place of a job, in the order of PLACES. None: it may.
JOB_TABLE = [
    ("any_job", True, [None, None, None, None]),
    ("any_job", False, [None, NOT_DOWNLOADABLE, None, None]),
    ("listed", True, [None, must_not_go(ORDERER), None, must_not_go(THIRD)]),
    ("listed", False, [None, NOT_DOWNLOADABLE, None, must_not_go(THIRD)]),
    ("here_only", True, [None, must_not_go(ORDERER), must_not_go(LISTED), must_not_go(THIRD)]),
    ("here_only", False, [None, NOT_DOWNLOADABLE, must_not_go(LISTED), must_not_go(THIRD)]),
]


@pytest.mark.parametrize(("egress", "downloadable", "expected"), JOB_TABLE)
def test_data_goes_to_jobs_where_its_owner_lets_it(egress: str, downloadable: bool, expected: list[str | None]) -> None:
    offered = data(egress, downloadable=downloadable)
    met = [egress_refusal(offered, place, to_self_peer=False, orderer=ORDERER, self_peer_id=ME) for place in PLACES]
    assert met == expected


def test_a_listed_orderer_has_jobs_even_of_what_is_not_downloadable() -> None:
    offered = data("listed", downloadable=False)
    assert egress_refusal(offered, LISTED, to_self_peer=False, orderer=LISTED, self_peer_id=ME) is None
    refusal = egress_refusal(offered, LISTED, to_self_peer=True, orderer=LISTED, self_peer_id=ME)
    assert refusal == NOT_DOWNLOADABLE


@pytest.mark.parametrize(
    ("egress", "downloadable", "orderer", "expected"),
    [
        ("any_job", True, ORDERER, None),
        ("any_job", False, ORDERER, NOT_DOWNLOADABLE),
        ("listed", True, ORDERER, must_not_go(ORDERER)),
        ("listed", True, LISTED, None),
        ("here_only", True, ORDERER, must_not_go(ORDERER)),
        ("here_only", True, ME, None),
        ("listed", True, ME, None),
        ("here_only", False, ME, NOT_DOWNLOADABLE),
    ],
)
def test_a_self_peer_is_a_place_like_any_other_and_needs_what_is_downloadable(
    egress: str, downloadable: bool, orderer: PeerId, expected: str | None
) -> None:
    offered = data(egress, downloadable=downloadable)
    assert egress_refusal(offered, orderer, to_self_peer=True, orderer=orderer, self_peer_id=ME) == expected


def job(*receivers: tuple[PeerId, bool], does: MountFunction = MountFunction.INPUT) -> JobPlan:
    """A DATA job that sends to these places; True: as the self-peer."""
    peers = tuple(
        InterfacePeerPlan(
            connection_id=ConnectionId(number),
            peer_id=place,
            peer_workflow_node_id=None if to_self_peer else NodeId(number),
            peer_job_execution_id=None,
            peer_interface_type=InterfaceType.STDIN,
            peer_path="/input",
            peer_file_name=None,
            peer_mount_function=does,
        )
        for number, (place, to_self_peer) in enumerate(receivers, 1)
    )
    return JobPlan(
        node_id=NodeId(1),
        name="scans",
        service_id=ServiceId(1),
        service_name="scans",
        service_type=data().service_type,
        executor_peer_id=ME,
        execution_constraint=ExecutionConstraint.NONE,
        constraint_detail=(),
        entrypoint=None,
        cmd=None,
        interfaces=(InterfacePlan(interface_type=InterfaceType.STDOUT, path="/output", interface_peers=peers),),
    )


def refusals(offered: Service, plan: JobPlan, orderer: PeerId = ORDERER, grants: Sequence[Grant] = ()) -> list[str]:
    caller = Standing.SELF if orderer == ME else Standing.ALLOWED
    return data_refusals(offered, plan, orderer=orderer, self_peer_id=ME, caller=caller, grants=grants)


def test_to_order_data_for_jobs_is_not_to_fetch_it() -> None:
    offered = data(access="granted")
    order_only, both = [grant(Verb.ORDER)], [grant(Verb.ORDER), grant(Verb.FETCH, service_id=1)]
    no_fetch = ["service 1 may be fetched only with a grant (owner's rule)"]
    assert refusals(offered, job((THIRD, False)), grants=order_only) == []
    assert refusals(offered, job((ORDERER, True)), grants=order_only) == no_fetch
    assert refusals(offered, job((ORDERER, True)), grants=both) == []
    assert refusals(offered, job((ME, True)), orderer=ME) == []


def test_every_reason_is_said_once() -> None:
    plan = job((THIRD, False), (THIRD, False), (ORDERER, True), (LISTED, False))
    assert refusals(data("listed", access="granted"), plan) == [
        must_not_go(THIRD),
        must_not_go(ORDERER),
        "service 1 may be fetched only with a grant (owner's rule)",
    ]


def test_what_only_sends_to_data_is_no_receiver_and_anything_else_is_one() -> None:
    offered = data("here_only")
    assert refusals(offered, job((THIRD, False), does=MountFunction.OUTPUT)) == []
    assert refusals(offered, job((THIRD, False), does=MountFunction.BOTH)) == [must_not_go(THIRD)]


@pytest.mark.parametrize(("seal", "encrypted"), [(False, False), (True, False), (False, True), (True, True)])
def test_data_leaves_sealed_where_its_owner_demands_it_or_it_is_encrypted(seal: bool, encrypted: bool) -> None:
    offered = MAKE.service(1, "scans", "DATA", settings=MAKE.data_settings(seal=seal, encrypted=encrypted))
    assert leaves_sealed(offered) == (seal or encrypted)
    assert egress_refusal(offered, THIRD, to_self_peer=False, orderer=ORDERER, self_peer_id=ME) is None


def test_what_programs_make_leaves_open() -> None:
    assert not leaves_sealed(service())


def test_programs_have_no_egress_rule() -> None:
    assert refusals(service(), job((THIRD, True))) == []
    assert egress_refusal(service(), THIRD, to_self_peer=True, orderer=ORDERER, self_peer_id=ME) is None


RECEIVERS = st.lists(st.tuples(st.sampled_from(PLACES), st.booleans()), min_size=1, max_size=4)


@given(RECEIVERS, st.sampled_from(PLACES), st.booleans(), GRANT_LISTS)
def test_here_only_data_never_leaves(
    receivers: list[tuple[PeerId, bool]], orderer: PeerId, downloadable: bool, grants: list[Grant]
) -> None:
    offered = data("here_only", downloadable=downloadable)
    if not refusals(offered, job(*receivers), orderer, grants):
        assert {place for place, _ in receivers} == {ME}


@given(RECEIVERS, st.sampled_from(PLACES), st.sampled_from(Egress), GRANT_LISTS)
def test_what_is_not_downloadable_comes_to_no_self_peer_and_no_orderer_that_is_not_listed(
    receivers: list[tuple[PeerId, bool]], orderer: PeerId, egress: Egress, grants: list[Grant]
) -> None:
    offered = data(egress, downloadable=False)
    if not refusals(offered, job(*receivers), orderer, grants):
        assert not any(to_self_peer for _, to_self_peer in receivers)
        assert orderer in {ME, LISTED} or orderer not in {place for place, _ in receivers}


@given(RECEIVERS, st.sampled_from(PLACES), GRANT_LISTS)
def test_listed_data_comes_to_listed_peers_alone(
    receivers: list[tuple[PeerId, bool]], orderer: PeerId, grants: list[Grant]
) -> None:
    if not refusals(data("listed"), job(*receivers), orderer, grants):
        assert {place for place, _ in receivers} <= {ME, LISTED}
