"""What is different where another peer orders a job (rulings 19 to 22 and 24): whom it knows, what bounds it, what came before.

Everything here happens within the transaction of the order.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from rnd.database import cancelled_orders, holdings, introductions, job_executions, offered_services, peers
from rnd.rules import policy
from rnd.rules.foreign_plans import plan_problems
from rnd.rules.paths import JobPathInfo, PathType, UnsafePath, build_job_path
from rnd.types.config import Deadlines, Limits
from rnd.types.enums import InterfaceType, PeerState, ServiceStatus, Verb
from rnd.types.errors import NotFound, StaleState
from rnd.types.executions import JobExecution
from rnd.types.ids import JobExecutionId, PeerId
from rnd.types.orders import ForeignBounds, JobRequest
from rnd.types.peers import Grant
from rnd.types.services import Service


def known_job(conn: sqlite3.Connection, request: JobRequest, digest: str) -> JobExecution | None:
    """Return the job that this very request has created before; `None` if it is new.

    Raises `StaleState` where a request of the same key asked for something else.
    """
    found = job_executions.find_order(
        conn,
        orderer=request.orchestrator_peer_id,
        execution_uid=request.execution_uid,
        node_id=request.plan.node_id,
        executor=request.plan.executor_peer_id,
    )
    if found is None:
        return None
    if job_executions.request_digest_of(conn, found.id) != digest:
        raise StaleState(f"job of node {request.plan.node_id} was requested before with other content")
    return found


def with_own_service_id(conn: sqlite3.Connection, request: JobRequest) -> JobRequest:
    """Return the request with the id that its service has here: the named one, or that of the one ACTIVE service of its name.

    A pinned job means one service at one revision, which no other of that name stands in for.
    """
    plan = request.plan
    if plan.pinned_revision is not None:
        return request
    try:
        offered_services.get_service(conn, plan.service_id)
    except NotFound:
        named = offered_services.find_service_by_name(conn, plan.service_name)
    else:
        return request
    if named is None or named.service_type is not plan.service_type or named.status is not ServiceStatus.ACTIVE:
        return request
    return replace(request, plan=replace(plan, service_id=named.id))


def foreign_refusals(
    conn: sqlite3.Connection,
    request: JobRequest,
    service: Service,
    grants: list[Grant],
    *,
    self_peer_id: PeerId,
    limits: Limits,
    now: datetime,
) -> list[str]:
    """Return why an order of another peer is not taken, beside what holds for every order.

    `limits` are this peer's own, on what the orders of one peer may use up.
    """
    reasons = plan_problems(request.plan) or _unsafe_paths(request)
    tombstone = cancelled_orders.find_tombstone(
        conn,
        ordering_peer_id=request.orchestrator_peer_id,
        execution_uid=request.execution_uid,
        node_id=request.plan.node_id,
    )
    if tombstone is not None:
        reasons.append(f"the order was cancelled before it came: {tombstone.reason}")
    for peer_id in sorted(_others(request, self_peer_id)):
        peer = peers.find_peer(conn, peer_id)
        if peer is not None and peer.state is PeerState.DENIED:
            reasons.append(f"peer {peer_id}, with which the job exchanges data, is denied here")
    granted = policy.limits_of(Verb.ORDER, service, grants)
    if granted.concurrent_jobs is not None:
        open_jobs = job_executions.count_open_of_orderer(conn, request.orchestrator_peer_id)
        if open_jobs >= granted.concurrent_jobs:
            reasons.append(f"{open_jobs} of your jobs are open here; your grant allows {granted.concurrent_jobs}")
    reasons += _too_many_introduced(conn, request, self_peer_id, limits.peers, now=now)
    return [*reasons, *_too_much_held(conn, request, self_peer_id, limits)]


def _too_much_held(conn: sqlite3.Connection, request: JobRequest, self_peer_id: PeerId, limits: Limits) -> list[str]:
    """Return why the orders of this peer may not hold yet more rows or bytes here."""
    orderer = request.orchestrator_peer_id
    reasons: list[str] = []
    jobs = holdings.count_jobs_of_orderer(conn, orderer)
    if jobs >= limits.peer_jobs:
        reasons.append(
            f"{jobs:,} of your jobs are kept here, and limits.peer_jobs is {limits.peer_jobs:,}; wait until what has ended "
            "is let go of (hold_s after its end), or have the owner of this peer raise the limit"
        )
    bound = holdings.tightest_bound(conn, orderer, request.execution_uid, self_peer_id=self_peer_id, limits=limits)
    if bound.room_bytes <= 0:
        reasons.append(f"no more bytes are taken: {bound.words}")
    return reasons


def _too_many_introduced(
    conn: sqlite3.Connection, request: JobRequest, self_peer_id: PeerId, peers_at_most: int, *, now: datetime
) -> list[str]:
    """Return why the jobs of this orderer may not introduce yet more peers; each is somebody to let in, and costs for that."""
    orderer = request.orchestrator_peer_id
    new = sum(
        not introductions.is_introduced_by(conn, orderer, peer, now=now) for peer in _strangers(request, self_peer_id)
    )
    if not new:
        return []
    known = introductions.count_introduced_by(conn, orderer, now=now)
    if known + new <= peers_at_most:
        return []
    return [f"your jobs here would name {known + new:,} other peers; {peers_at_most:,} are allowed (limits.peers)"]


def _unsafe_paths(request: JobRequest) -> list[str]:
    """Return which of the names in a job could not become folders of it: nothing a peer says becomes a path unchecked."""
    plan = request.plan
    reasons: list[str] = []
    for interface in plan.interfaces:
        mount = interface.path if interface.interface_type is InterfaceType.MOUNT else ""
        for peer in interface.interface_peers:
            info = JobPathInfo(
                orchestrator_peer_id=request.orchestrator_peer_id,
                workflow_job_id=request.workflow_job_id,
                executor_peer_id=plan.executor_peer_id,
                job_execution_id=JobExecutionId(1),
                sender_peer_id=peer.peer_id,
                sender_job_execution_id=JobExecutionId(1),
                lane=peer.lane,
                mount_path=mount,
            )
            try:
                build_job_path(Path(), info, PathType.INPUT)
                if mount:
                    build_job_path(Path(), info, PathType.MOUNT)
            except UnsafePath as error:
                reasons.append(f"connection {peer.connection_id}: {error}")
    return reasons


def within_limits(request: JobRequest, service: Service, grants: list[Grant], deadlines: Deadlines) -> JobRequest:
    """Return the request with no more time than the owner gives to anybody, nor to run than the orderer's grant allows."""
    bounds = request.bounds
    granted_s = policy.limits_of(Verb.ORDER, service, grants).max_runtime_s
    runtime_s = deadlines.max_runtime_s if granted_s is None else min(granted_s, deadlines.max_runtime_s)
    return replace(
        request,
        start_by_s=min(request.start_by_s, deadlines.start_by_s),
        max_runtime_s=min(request.max_runtime_s, runtime_s),
        bounds=bounds
        and ForeignBounds(
            deadline_s=min(bounds.deadline_s, deadlines.workflow_deadline_s),
            transfer_idle_s=min(bounds.transfer_idle_s, deadlines.transfer_idle_s),
            hold_s=min(bounds.hold_s, deadlines.hold_s),
        ),
    )


def introduce_peers(
    conn: sqlite3.Connection, request: JobRequest, job_id: JobExecutionId, *, self_peer_id: PeerId, now: datetime
) -> None:
    """Admit the peers that a job exchanges bytes with, for its transfers, until its hold ends."""
    if request.bounds is None:
        return
    others = _strangers(request, self_peer_id)
    if others:
        valid_until = now + timedelta(seconds=request.bounds.deadline_s + request.bounds.hold_s)
        introductions.introduce(conn, job_id, others, valid_until=valid_until)


def _strangers(request: JobRequest, self_peer_id: PeerId) -> set[PeerId]:
    return _others(request, self_peer_id) - {request.orchestrator_peer_id}


def _others(request: JobRequest, self_peer_id: PeerId) -> set[PeerId]:
    return {peer.peer_id for interface in request.plan.interfaces for peer in interface.interface_peers} - {
        self_peer_id
    }
