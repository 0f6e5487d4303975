"""Taking orders for jobs: what an owner refuses, and the rows of what is accepted (document: Phase 1)."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from rnd.database import job_interfaces, job_moves, offered_services
from rnd.database.job_moves import NewJob
from rnd.rules.definition import definition_to_json
from rnd.types.definitions import WorkflowDefinition
from rnd.types.enums import Egress, MountFunction, ServiceStatus, ServiceType
from rnd.types.errors import NotFound
from rnd.types.ids import PeerId, ServiceId
from rnd.types.orders import JobRequest, JobResponse
from rnd.types.services import DataSettings, Service


class OfferedServices:
    """The services of this peer within one transaction; each is read once, however many jobs name it."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._known: dict[ServiceId, Service | None] = {}

    def find(self, service_id: ServiceId) -> Service | None:
        """Return a service; `None` if there is none."""
        if service_id not in self._known:
            try:
                self._known[service_id] = offered_services.get_service(self._conn, service_id)
            except NotFound:
                self._known[service_id] = None
        return self._known[service_id]


def refusals(offered: OfferedServices, request: JobRequest, *, self_peer_id: PeerId) -> tuple[str, ...]:
    """Return every reason why this peer does not take a job; none if it does.

    The owner enforces its own rules here, whatever the orchestrator has checked (rulings 7 and 24).
    """
    plan = request.plan
    service = offered.find(plan.service_id)
    if service is None:
        return (f"Service {plan.service_id} not found",)
    reasons: list[str] = []
    if service.name != plan.service_name:
        reasons.append(f"service {service.id} is called {service.name} here, not {plan.service_name}")
    if service.service_type is not plan.service_type:
        reasons.append(f"Service type mismatch: {service.name} is {service.service_type}, not {plan.service_type}")
    if service.status is not ServiceStatus.ACTIVE:
        reasons.append(f"service {service.name} is {service.status}")
    if service.service_type is ServiceType.DOCKER:
        reasons.append("this peer runs no containers")
    reasons += _egress_refusals(service, request, self_peer_id)
    return tuple(reasons)


def accept_jobs(conn: sqlite3.Connection, requests: Sequence[JobRequest], *, now: datetime) -> list[JobResponse]:
    """Write the IDLE rows, interfaces and routing of accepted requests. Raises `StaleState` on a changed repetition."""
    offered = OfferedServices(conn)
    jobs: list[NewJob] = []
    for request in requests:
        service = offered.find(request.plan.service_id)
        revision = 1 if service is None else service.revision
        jobs.append(NewJob(request=request, digest=request_digest(request), service_revision=revision))
    created = job_moves.create_jobs(conn, jobs, now=now)
    job_interfaces.create_interfaces(
        conn,
        (
            (job_id, request.plan.interfaces)
            for request, (job_id, is_new) in zip(requests, created, strict=True)
            if is_new
        ),
    )
    return [
        JobResponse(node_id=request.plan.node_id, job_execution_id=job_id)
        for request, (job_id, _) in zip(requests, created, strict=True)
    ]


def request_digest(request: JobRequest) -> str:
    """Return a fingerprint of what was asked for: the same request gives the same one."""
    asked = {
        "job": definition_to_json(WorkflowDefinition(jobs=(request.plan,))),
        "start_by_s": request.start_by_s,
        "max_runtime_s": request.max_runtime_s,
        "reused_from": request.reused_from,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _egress_refusals(service: Service, request: JobRequest, self_peer_id: PeerId) -> list[str]:
    if not isinstance(service.settings, DataSettings):
        return []
    reasons: list[str] = []
    for interface in request.plan.interfaces:
        for peer in interface.interface_peers:
            if peer.peer_mount_function is not MountFunction.INPUT:
                continue
            if peer.peer_workflow_node_id is None:
                if not service.settings.downloadable:
                    reasons.append(f"DATA service {service.name} is not downloadable (owner's rule)")
            elif not _egress_allowed(service.settings, peer.peer_id, self_peer_id):
                reasons.append(f"DATA service {service.name} must not go to peer {peer.peer_id} (owner's egress rule)")
    return reasons


def _egress_allowed(settings: DataSettings, receiver: PeerId, self_peer_id: PeerId) -> bool:
    match settings.egress:
        case Egress.ANY_JOB:
            return True
        case Egress.LISTED:
            return receiver == self_peer_id or receiver in settings.egress_peers
        case Egress.HERE_ONLY:
            return receiver == self_peer_id
