"""A job's complete routing: tables `job_interfaces` and `job_interface_peers` (document: Interface System)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rnd.types.definitions import InterfacePlan
from rnd.types.enums import InterfaceType, MountFunction
from rnd.types.errors import NotFound
from rnd.types.executions import InterfacePeer, JobInterface
from rnd.types.ids import ConnectionId, InterfacePeerId, JobExecutionId, JobInterfaceId, PeerId
from rnd.types.orders import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class DutyEnd:
    """The other end of a connection on this peer: which row, of which job."""

    interface_peer_id: InterfacePeerId
    job_execution_id: JobExecutionId


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedDuty:
    """The receiving end of a connection that has not got what it waits for; `job_execution_id` is that peer's own id."""

    peer_id: PeerId
    job_execution_id: JobExecutionId
    workflow_job_id: int | None
    connection_id: ConnectionId


def create_interfaces(conn: sqlite3.Connection, jobs: Iterable[tuple[JobExecutionId, Sequence[InterfacePlan]]]) -> None:
    """Write the interfaces of jobs and the peers of each, in the given order."""
    first_id = _last_interface_id(conn) + 1
    numbered = list(
        enumerate(((job_id, interface) for job_id, interfaces in jobs for interface in interfaces), first_id)
    )
    conn.executemany(
        """
        INSERT INTO job_interfaces (id, job_execution_id, interface_type, path, mount_function)
        VALUES (?, ?, ?, ?, ?)
        """,
        [
            (
                interface_id,
                job_id,
                interface.interface_type.value,
                interface.path,
                None if interface.mount_function is None else interface.mount_function.value,
            )
            for interface_id, (job_id, interface) in numbered
        ],
    )
    _create_peers(conn, [(interface_id, interface) for interface_id, (_, interface) in numbered])


def _last_interface_id(conn: sqlite3.Connection) -> int:
    """Return the highest id that an interface ever had; ids are given here, so that all rows go in one statement."""
    row = conn.execute("SELECT seq FROM sqlite_sequence WHERE name = 'job_interfaces'").fetchone()
    return 0 if row is None else int(row[0])


def _create_peers(conn: sqlite3.Connection, interfaces: Iterable[tuple[int, InterfacePlan]]) -> None:
    conn.executemany(
        """
        INSERT INTO job_interface_peers (
            job_interface_id, peer_id, peer_job_execution_id, peer_path, peer_file_name, peer_mount_function,
            duty_acknowledged, connection_id, peer_interface_type, include, source_path, lane
        )
        VALUES (
            :interface_id, :peer_id, :peer_job_execution_id, :peer_path, :peer_file_name, :peer_mount_function,
            0, :connection_id, :peer_interface_type, :include, :source_path, :lane
        )
        """,
        [
            {
                "interface_id": interface_id,
                "peer_id": peer.peer_id,
                "peer_job_execution_id": peer.peer_job_execution_id,
                "peer_path": peer.peer_path,
                "peer_file_name": peer.peer_file_name,
                "peer_mount_function": peer.peer_mount_function,
                "connection_id": peer.connection_id,
                "peer_interface_type": peer.peer_interface_type,
                "include": json.dumps(peer.include),
                "source_path": peer.source_path,
                "lane": peer.lane,
            }
            for interface_id, interface in interfaces
            for peer in interface.interface_peers
        ],
    )


def list_interfaces(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> tuple[JobInterface, ...]:
    """Return a job's interfaces with their peers in connection order."""
    return list_interfaces_of(conn, [job_execution_id])[job_execution_id]


def list_interfaces_of(
    conn: sqlite3.Connection, job_execution_ids: Sequence[JobExecutionId]
) -> dict[JobExecutionId, tuple[JobInterface, ...]]:
    """Return the interfaces of each of these jobs, with their peers in connection order."""
    rows = conn.execute(
        """
        SELECT ji.id AS interface_id, ji.job_execution_id, ji.interface_type, ji.path, ji.mount_function, jip.id, jip.job_interface_id,
               jip.peer_id, jip.peer_workflow_job_id, jip.peer_job_execution_id, jip.peer_path, jip.peer_file_name,
               jip.peer_mount_function, jip.duty_acknowledged, jip.connection_id, jip.peer_interface_type, jip.include,
               jip.source_path, jip.lane
        FROM job_interfaces AS ji
        LEFT JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
        WHERE ji.job_execution_id IN (SELECT value FROM json_each(:job_ids))
        ORDER BY ji.id, jip.connection_id
        """,
        {"job_ids": json.dumps(job_execution_ids)},
    ).fetchall()
    heads: dict[int, sqlite3.Row] = {}
    peers: dict[int, list[InterfacePeer]] = {}
    for row in rows:
        heads.setdefault(row["interface_id"], row)
        peers_here = peers.setdefault(row["interface_id"], [])
        if row["id"] is not None:
            peers_here.append(_peer(row))
    found: dict[JobExecutionId, list[JobInterface]] = {job_id: [] for job_id in job_execution_ids}
    for interface_id, head in heads.items():
        job_id = JobExecutionId(head["job_execution_id"])
        interface = JobInterface(
            id=JobInterfaceId(interface_id),
            job_execution_id=job_id,
            interface_type=InterfaceType(head["interface_type"]),
            path=head["path"],
            mount_function=None if head["mount_function"] is None else MountFunction(head["mount_function"]),
            peers=tuple(peers[interface_id]),
        )
        found[job_id].append(interface)
    return {job_id: tuple(interfaces) for job_id, interfaces in found.items()}


def set_routes(conn: sqlite3.Connection, jobs: Iterable[tuple[JobExecutionId, Sequence[Route]]]) -> None:
    """Write the other ends' job ids into the routing of jobs (phase 2); repeating it changes nothing."""
    conn.executemany(
        """
        UPDATE job_interface_peers
        SET peer_workflow_job_id = :peer_workflow_job_id, peer_job_execution_id = :peer_job_execution_id
        WHERE connection_id = :connection_id
          AND job_interface_id IN (SELECT id FROM job_interfaces WHERE job_execution_id = :job_id)
        """,
        [
            {
                "job_id": job_id,
                "connection_id": route.connection_id,
                "peer_workflow_job_id": route.peer_workflow_job_id,
                "peer_job_execution_id": route.peer_job_execution_id,
            }
            for job_id, routes in jobs
            for route in routes
        ],
    )


def has_other_routes(conn: sqlite3.Connection, job_execution_id: JobExecutionId, routes: Sequence[Route]) -> bool:
    """Say whether the routing of a job says something else than these routes."""
    row = conn.execute(
        """
        SELECT 1
        FROM job_interfaces AS ji
        JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
        JOIN json_each(:routes) AS route ON route.value ->> 0 = jip.connection_id
        WHERE ji.job_execution_id = :job_id
          AND (jip.peer_workflow_job_id IS NOT route.value ->> 1 OR jip.peer_job_execution_id IS NOT route.value ->> 2)
        LIMIT 1
        """,
        {
            "job_id": job_execution_id,
            "routes": json.dumps(
                [[route.connection_id, route.peer_workflow_job_id, route.peer_job_execution_id] for route in routes]
            ),
        },
    ).fetchone()
    return row is not None


def acknowledge_duty(conn: sqlite3.Connection, interface_peer_id: InterfacePeerId) -> bool:
    """Set a duty's flag; False if it was set before."""
    changed = conn.execute(
        """
        UPDATE job_interface_peers
        SET duty_acknowledged = 1
        WHERE id = :id
          AND duty_acknowledged = 0
        """,
        {"id": interface_peer_id},
    ).rowcount
    return bool(changed)


def acknowledge_inputs(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> None:
    """Set the flags of all that is to be delivered to a job: it needs nothing of that any more."""
    conn.execute(
        """
        UPDATE job_interface_peers
        SET duty_acknowledged = 1
        WHERE job_interface_id IN (SELECT id FROM job_interfaces WHERE job_execution_id = :job_id)
          AND peer_mount_function = 'OUTPUT'
          AND duty_acknowledged = 0
        """,
        {"job_id": job_execution_id},
    )


def open_inputs(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> int:
    """Return how many of a job's inputs have not been acknowledged."""
    row = conn.execute(
        """
        SELECT COUNT(*)
        FROM job_interfaces AS ji
        JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
        WHERE ji.job_execution_id = :job_id
          AND jip.peer_mount_function = 'OUTPUT'
          AND jip.duty_acknowledged = 0
        """,
        {"job_id": job_execution_id},
    ).fetchone()
    return int(row[0])


def find_open_input(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> InterfacePeer | None:
    """Return the first of a job's inputs that has not been acknowledged; `None` where all have."""
    row = conn.execute(
        """
        SELECT jip.id, jip.job_interface_id, jip.peer_id, jip.peer_workflow_job_id, jip.peer_job_execution_id,
               jip.peer_path, jip.peer_file_name, jip.peer_mount_function, jip.duty_acknowledged, jip.connection_id,
               jip.peer_interface_type, jip.include, jip.source_path, jip.lane
        FROM job_interfaces AS ji
        JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
        WHERE ji.job_execution_id = :job_id
          AND jip.peer_mount_function = 'OUTPUT'
          AND jip.duty_acknowledged = 0
        LIMIT 1
        """,
        {"job_id": job_execution_id},
    ).fetchone()
    return None if row is None else _peer(row)


def owes_deliveries(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> bool:
    """Say whether a receiver of a job's outputs has not confirmed them."""
    row = conn.execute(
        """
        SELECT EXISTS (
            SELECT 1
            FROM job_interfaces AS ji
            JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
            WHERE ji.job_execution_id = :job_id
              AND jip.peer_mount_function = 'INPUT'
              AND jip.duty_acknowledged = 0
        )
        """,
        {"job_id": job_execution_id},
    ).fetchone()
    return bool(row[0])


def get_peer(conn: sqlite3.Connection, interface_peer_id: InterfacePeerId) -> InterfacePeer:
    """Return one row of a job's routing. Raises `NotFound`."""
    row = conn.execute(
        """
        SELECT id, job_interface_id, peer_id, peer_workflow_job_id, peer_job_execution_id, peer_path, peer_file_name,
               peer_mount_function, duty_acknowledged, connection_id, peer_interface_type, include, source_path, lane
        FROM job_interface_peers
        WHERE id = :id
        """,
        {"id": interface_peer_id},
    ).fetchone()
    if row is None:
        raise NotFound(f"Interface peer {interface_peer_id} not found")
    return _peer(row)


def find_end(
    conn: sqlite3.Connection, *, job_execution_id: JobExecutionId, connection_id: ConnectionId
) -> DutyEnd | None:
    """Return a job's own row for a connection; `None` if the job is not here or the connection does not touch it."""
    row = conn.execute(
        """
        SELECT jip.id
        FROM job_interfaces AS ji
        JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
        WHERE ji.job_execution_id = :job_id
          AND jip.connection_id = :connection_id
        """,
        {"job_id": job_execution_id, "connection_id": connection_id},
    ).fetchone()
    if row is None:
        return None
    return DutyEnd(interface_peer_id=InterfacePeerId(row["id"]), job_execution_id=job_execution_id)


def list_unserved_duties(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> list[UnservedDuty]:
    """Return what still waits for output of the given job, wherever it is; the self-peer is left out."""
    rows = conn.execute(
        """
        SELECT jip.peer_id, jip.peer_job_execution_id, jip.peer_workflow_job_id, jip.connection_id
        FROM job_interfaces AS ji
        JOIN job_interface_peers AS jip ON jip.job_interface_id = ji.id
        WHERE ji.job_execution_id = :job_id
          AND jip.peer_mount_function = 'INPUT'
          AND jip.duty_acknowledged = 0
          AND jip.peer_job_execution_id > 0
        ORDER BY jip.peer_job_execution_id, jip.connection_id
        """,
        {"job_id": job_execution_id},
    ).fetchall()
    return [
        UnservedDuty(
            peer_id=PeerId(row["peer_id"]),
            job_execution_id=JobExecutionId(row["peer_job_execution_id"]),
            workflow_job_id=row["peer_workflow_job_id"],
            connection_id=ConnectionId(row["connection_id"]),
        )
        for row in rows
    ]


def _peer(row: sqlite3.Row) -> InterfacePeer:
    job = row["peer_job_execution_id"]
    return InterfacePeer(
        id=InterfacePeerId(row["id"]),
        job_interface_id=JobInterfaceId(row["job_interface_id"]),
        peer_id=PeerId(row["peer_id"]),
        peer_workflow_job_id=row["peer_workflow_job_id"],
        peer_job_execution_id=None if job is None else JobExecutionId(job),
        peer_path=row["peer_path"],
        peer_file_name=row["peer_file_name"],
        peer_mount_function=MountFunction(row["peer_mount_function"]),
        duty_acknowledged=bool(row["duty_acknowledged"]),
        connection_id=ConnectionId(row["connection_id"]),
        peer_interface_type=InterfaceType(row["peer_interface_type"]),
        include=tuple(json.loads(row["include"])),
        source_path=row["source_path"],
        lane=row["lane"],
    )
