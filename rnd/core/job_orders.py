"""Taking orders for jobs: what an owner refuses, and the rows of what is accepted (document: Phase 1)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from rnd.core.earlier_orders import let_serve
from rnd.core.foreign_orders import foreign_refusals, introduce_peers, with_own_service_id, within_limits
from rnd.database import (
    grants,
    job_executions,
    job_interfaces,
    job_moves,
    offered_services,
    peers,
    service_revisions,
)
from rnd.database.job_moves import NewJob
from rnd.rules import policy
from rnd.rules.confinement import confinement_refusal
from rnd.rules.definition import definition_to_json
from rnd.rules.policy import Standing
from rnd.rules.reuse import is_reused
from rnd.services.executor import Executor
from rnd.types.config import Deadlines, Limits
from rnd.types.definitions import WorkflowDefinition
from rnd.types.enums import ServiceStatus, ServiceType, Verb
from rnd.types.errors import NotFound
from rnd.types.ids import NodeId, PeerId, ServiceId
from rnd.types.orders import JobRequest, JobResponse
from rnd.types.peers import Grant
from rnd.types.services import Sandbox, Service

CHECK_TIMEOUT_S: Final = 5.0
"""How long an engine may take to say whether it works."""


class OfferedServices:
    """The services of this peer, and who may order them, within one transaction; each is read once."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn
        self._known: dict[ServiceId, Service | None] = {}
        self._callers: dict[PeerId, tuple[Standing, list[Grant]]] = {}

    def find(self, service_id: ServiceId) -> Service | None:
        """Return a service; `None` if there is none."""
        if service_id not in self._known:
            try:
                self._known[service_id] = offered_services.get_service(self.conn, service_id)
            except NotFound:
                self._known[service_id] = None
        return self._known[service_id]

    def caller(self, peer_id: PeerId) -> tuple[Standing, list[Grant]]:
        """Return the standing of another peer that orders, and its grants."""
        if peer_id not in self._callers:
            peer = peers.find_peer(self.conn, peer_id)
            self._callers[peer_id] = (
                policy.standing(peer, introduced=False),
                grants.list_grants_for(self.conn, peer_id),
            )
        return self._callers[peer_id]


def engine_refusals(
    services: Sequence[Service | None],
    requests: Sequence[JobRequest],
    executors: Mapping[ServiceType, Executor],
    *,
    self_peer_id: PeerId,
    serving: Collection[NodeId] = (),
) -> list[str | None]:
    """In a thread: ask the engines why they could not run what is requested of these services; `None` where they can.

    They run nothing for nodes in `serving`, whose earlier job serves again. Many nodes of one service that differ in nothing
    which an engine looks at are asked for once.
    """
    known: dict[tuple[object, ...], str | None] = {}

    def refusal(service: Service | None, request: JobRequest) -> str | None:
        executor = None if service is None else executors.get(service.service_type)
        if service is None or executor is None or not needs_engine(request, serving, self_peer_id=self_peer_id):
            return None
        foreign = request.orchestrator_peer_id != self_peer_id
        asked = (service.id, request.plan.entrypoint, request.plan.cmd, foreign)
        if asked not in known:
            known[asked] = executor.refusal(service, request.plan, foreign=foreign)
        return known[asked]

    return [refusal(service, request) for service, request in zip(services, requests, strict=True)]


async def why_unavailable(executor: Executor | None) -> str | None:
    """Return why the container engine takes no work now, in its words, or `None`; `executor` is `None` on a peer without."""
    if executor is None:
        return "this peer runs no containers"
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            health = await executor.check()
    except TimeoutError:
        return f"this peer runs no containers now: its engine does not answer within {CHECK_TIMEOUT_S:g} s"
    return None if health.available else f"this peer runs no containers now: {health.reason or 'no reason given'}"


def needs_engine(request: JobRequest, serving: Collection[NodeId], *, self_peer_id: PeerId) -> bool:
    """Say whether anything is run for a request: not where an earlier job serves again."""
    return request.plan.node_id not in serving and not _runs_nothing(request, self_peer_id)


def refusals(
    offered: OfferedServices,
    request: JobRequest,
    *,
    self_peer_id: PeerId,
    sandbox: Sandbox,
    limits: Limits,
    now: datetime,
    engine_reason: str | None = None,
) -> tuple[str, ...]:
    """Return every reason why this peer does not take a job; none if it does. `sandbox` is what it confines programs with.

    The owner enforces its own rules here, whatever the orchestrator has checked (rulings 7 and 24). Who may not order a
    service is told that and nothing about it. `engine_reason` is why its engine could not run it.
    """
    plan, orderer = request.plan, request.orchestrator_peer_id
    if _runs_nothing(request, self_peer_id):
        return ()
    service = offered.find(plan.service_id)
    if service is None:
        return (f"Service {plan.service_id} not found",)
    caller, granted = (Standing.SELF, []) if orderer == self_peer_id else offered.caller(orderer)
    refusal = policy.permits(Verb.ORDER, service, caller, granted)
    if refusal is not None:
        return (refusal,)
    reasons: list[str] = []
    if service.name != plan.service_name:
        reasons.append(f"service {service.id} is called {service.name} here, not {plan.service_name}")
    if service.service_type is not plan.service_type:
        reasons.append(f"Service type mismatch: {service.name} is {service.service_type}, not {plan.service_type}")
    if service.status is not ServiceStatus.ACTIVE:
        reasons.append(policy.inactive(service))
    if plan.pinned_revision not in (None, service.revision):
        reasons.append(
            f"service {service.name} is at revision {service.revision}, and the job is pinned to {plan.pinned_revision}"
        )
    unconfined = confinement_refusal(service, sandbox, foreign=orderer != self_peer_id)
    if unconfined is not None:
        reasons.append(unconfined)
    override = None if caller is Standing.SELF else policy.override_refusal(service, plan)
    unfit = override or engine_reason
    if unfit is not None:
        reasons.append(unfit)
    if request.bounds is not None:
        reasons += foreign_refusals(
            offered.conn, request, service, granted, self_peer_id=self_peer_id, limits=limits, now=now
        )
    reasons += policy.data_refusals(
        service, plan, orderer=orderer, self_peer_id=self_peer_id, caller=caller, grants=granted
    )
    return tuple(reasons)


def _runs_nothing(request: JobRequest, self_peer_id: PeerId) -> bool:
    """Say whether an own earlier job serves in place of a run, which needs its service no more."""
    return request.reused_from is not None and request.orchestrator_peer_id == self_peer_id


def accept_jobs(
    conn: sqlite3.Connection,
    requests: Sequence[JobRequest],
    *,
    self_peer_id: PeerId,
    deadlines: Deadlines,
    serving: Collection[NodeId] = (),
    now: datetime,
) -> list[JobResponse]:
    """Write the IDLE rows, interfaces and routing of accepted requests. Raises `StaleState` on a changed repetition.

    `deadlines` are this peer's own: what another peer orders gets no more time than they give. `serving` are the nodes whose
    earlier job was found to serve again; those are COMPLETED at once.
    """
    offered = OfferedServices(conn)
    jobs: list[NewJob] = []
    for request in requests:
        order = request if request.bounds is None else with_own_service_id(conn, request)
        service = offered.find(order.plan.service_id)
        if order.bounds is not None and service is not None:
            order = within_limits(order, service, offered.caller(order.orchestrator_peer_id)[1], deadlines)
        revision = 1 if service is None else service.revision
        # Of what was asked for, so that it is known again whatever it was understood as.
        jobs.append(NewJob(request=order, digest=request_digest(request), service_revision=revision))
    for service_id in {job.request.plan.service_id for job in jobs}:
        service_revisions.keep_revision(conn, service_id)
    created = job_moves.create_jobs(conn, jobs, now=now)
    job_interfaces.create_interfaces(
        conn,
        (
            (job_id, request.plan.interfaces)
            for request, (job_id, is_new) in zip(requests, created, strict=True)
            if is_new
        ),
    )
    for job, (job_id, is_new) in zip(jobs, created, strict=True):
        if is_new:
            introduce_peers(conn, job.request, job_id, self_peer_id=self_peer_id, now=now)
    for request, (job_id, is_new) in zip(requests, created, strict=True):
        if is_new and request.plan.node_id in serving:
            let_serve(conn, request, job_id, now=now)
    return [
        JobResponse(
            node_id=job.request.plan.node_id,
            job_execution_id=job_id,
            service_revision=job.service_revision,
            reused=job.request.reuse_of is not None and is_reused(job_executions.get_job(conn, job_id)),
        )
        for job, (job_id, _) in zip(jobs, created, strict=True)
    ]


def request_digest(request: JobRequest) -> str:
    """Return a fingerprint of what was asked for: the same request gives the same one."""
    asked: dict[str, object] = {
        "job": definition_to_json(WorkflowDefinition(jobs=(request.plan,))),
        "workflow_job_id": request.workflow_job_id,
        "start_by_s": request.start_by_s,
        "max_runtime_s": request.max_runtime_s,
        "reused_from": request.reused_from,
    }
    if request.reuse_of is not None:
        asked["reuse_of"] = request.reuse_of
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
