"""The owner's word at the moment of a transfer: what another peer's order may carry now, whatever it was when it was taken.

Phase 1 asks the same (`rnd/core/job_orders.py`); between the two, rules may have changed and routes may have said something else.
"""

from __future__ import annotations

import sqlite3

from rnd.database import grants, offered_services, peers
from rnd.rules import policy
from rnd.types.enums import Verb
from rnd.types.errors import NotFound
from rnd.types.executions import JobExecution, Transfer
from rnd.types.ids import SELF_PEER_JOB, PeerId
from rnd.types.services import Service


def data_refusal(conn: sqlite3.Connection, transfer: Transfer, service: Service, *, self_peer_id: PeerId) -> str | None:
    """Return why DATA must not go where a transfer leads, or `None`."""
    orderer = transfer.ordering_peer_id
    to_self_peer = transfer.dest_job_execution_id == SELF_PEER_JOB
    refusal = policy.egress_refusal(
        service, transfer.dest_peer_id, to_self_peer=to_self_peer, orderer=orderer, self_peer_id=self_peer_id
    )
    if refusal is not None or not to_self_peer or orderer == self_peer_id:
        return refusal
    caller = policy.standing(peers.find_peer(conn, orderer), introduced=False)
    return policy.permits(Verb.FETCH, service, caller, grants.list_grants_for(conn, orderer))


def bytes_allowed(
    conn: sqlite3.Connection, job: JobExecution, *, self_peer_id: PeerId, is_download: bool = False
) -> int | None:
    """Return how many bytes one transfer of a job may carry, to it or from it; `None` where nobody has set a bound.

    None at all once its orderer may not order the service any more: a bound does not go with the grant that has set it.
    `is_download`: DATA that goes to the self-peer of its order, which takes the verb for that as well.
    """
    if job.ordering_peer_id == self_peer_id:
        return None
    try:
        service = offered_services.get_service(conn, job.service_id)
    except NotFound:
        return None  # and with it went what was granted
    granted = grants.list_grants_for(conn, job.ordering_peer_id)
    caller = policy.standing(peers.find_peer(conn, job.ordering_peer_id), introduced=False)
    if policy.permits(Verb.ORDER, service, caller, granted) is not None:
        return 0
    verbs = (Verb.ORDER, Verb.FETCH) if is_download else (Verb.ORDER,)
    bounds = [policy.limits_of(verb, service, granted).max_bytes for verb in verbs]
    return min((bound for bound in bounds if bound is not None), default=None)
