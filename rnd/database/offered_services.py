"""Services that this peer offers: table `offered_services` (document: Node Types)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field, replace
from datetime import datetime

from rnd.database.events import record_event
from rnd.database.rows import interfaces_from_text, interfaces_to_text, page_of
from rnd.database.service_settings import retry_from_text, retry_to_text, settings_from_text, settings_to_text
from rnd.types.enums import Egress, EventType, ServiceAccess, ServiceStatus, ServiceType
from rnd.types.errors import Conflict, NotFound
from rnd.types.ids import PeerId, ServiceId
from rnd.types.pages import Page
from rnd.types.services import DataSettings, RetryPolicy, Service, ServiceInterface, ServiceSettings
from rnd.types.times import from_text, to_text

_SELECT = """
    SELECT id, name, description, service_type, status, interfaces, pricing_amount, pricing_type, access, retry_safe,
           retry, revision, service_path, settings, created_at, updated_at
    FROM offered_services
"""
_MATCHING = """
    WHERE (:service_type IS NULL OR service_type = :service_type)
      AND (:status IS NULL OR status = :status)
"""
_COUNT = """
    SELECT COUNT(*)
    FROM offered_services
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewService:
    """A service that is about to be offered; its type follows from its settings' type."""

    name: str
    service_type: ServiceType
    interfaces: tuple[ServiceInterface, ...]
    settings: ServiceSettings
    description: str = ""
    service_path: str = ""
    pricing_amount: float = 0.0
    pricing_type: str = "FREE"
    access: ServiceAccess = ServiceAccess.ALLOWED
    retry_safe: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)


def create_service(conn: sqlite3.Connection, new: NewService, *, now: datetime) -> Service:
    """Offer a service, ACTIVE at once. Raises `Conflict` where the name is taken."""
    try:
        row = conn.execute(
            """
            INSERT INTO offered_services (
                name, description, service_type, status, interfaces, pricing_amount, pricing_type, access, retry_safe,
                retry, revision, service_path, settings, created_at, updated_at
            )
            VALUES (
                :name, :description, :service_type, 'ACTIVE', :interfaces, :pricing_amount, :pricing_type, :access,
                :retry_safe, :retry, 1, :service_path, :settings, :now, :now
            )
            RETURNING id, name, description, service_type, status, interfaces, pricing_amount, pricing_type, access,
                      retry_safe, retry, revision, service_path, settings, created_at, updated_at
            """,
            _columns(new) | {"now": to_text(now)},
        ).fetchone()
    except sqlite3.IntegrityError as error:
        raise _broken(new.name, error) from error
    service = _service(row)
    _tell(conn, service, "created", now=now)
    return service


def get_service(conn: sqlite3.Connection, service_id: ServiceId) -> Service:
    """Return one service. Raises `NotFound` with the document's words."""
    row = conn.execute(_SELECT + "WHERE id = :id", {"id": service_id}).fetchone()
    if row is None:
        raise _not_found(service_id)
    return _service(row)


def find_service_by_name(conn: sqlite3.Connection, name: str) -> Service | None:
    """Return the service of that name; names are unique on a peer."""
    row = conn.execute(_SELECT + "WHERE name = :name", {"name": name}).fetchone()
    return None if row is None else _service(row)


def offers_containers(conn: sqlite3.Connection) -> bool:
    """Say whether any service runs containers."""
    row = conn.execute(
        """
        SELECT EXISTS (
            SELECT 1
            FROM offered_services
            WHERE service_type = 'DOCKER'
        )
        """
    ).fetchone()
    return bool(row[0])


def list_services(
    conn: sqlite3.Connection,
    *,
    service_type: ServiceType | None = None,
    status: ServiceStatus | None = None,
    limit: int,
    after_id: int = 0,
) -> Page[Service]:
    """Return one page of the services that match, oldest first."""
    matching = {"service_type": service_type, "status": status}
    rows = conn.execute(
        _SELECT
        + _MATCHING
        + """
          AND id > :after_id
        ORDER BY id
        LIMIT :limit
        """,
        matching | {"after_id": after_id, "limit": limit + 1},
    )
    items = [_service(row) for row in rows]
    total = conn.execute(_COUNT + _MATCHING, matching).fetchone()[0]
    return page_of(items, limit=limit, total=total, id_of=lambda service: service.id)


def search_services(
    conn: sqlite3.Connection,
    *,
    query: str = "",
    service_type: ServiceType | None = None,
    active_only: bool = True,
    limit: int,
) -> list[Service]:
    """Return up to `limit` services whose name or description holds `query`, whatever its case (ASCII), oldest first."""
    rows = conn.execute(
        _SELECT
        + _MATCHING
        + """
          AND (instr(lower(name), lower(:query)) OR instr(lower(description), lower(:query)))
        ORDER BY id
        LIMIT :limit
        """,
        {
            "query": query,
            "service_type": service_type,
            "status": ServiceStatus.ACTIVE if active_only else None,
            "limit": limit,
        },
    )
    return [_service(row) for row in rows]


def update_service(conn: sqlite3.Connection, service: Service, *, now: datetime) -> Service:
    """Write every field of a service but its type, status and revision; return what is stored then.

    The revision grows by one where the change could alter a job's result. Raises `NotFound`, and `Conflict` where the
    name is taken.
    """
    before = get_service(conn, service.id)
    altered = _what_makes_results(before) != _what_makes_results(service)
    try:
        row = conn.execute(
            """
            UPDATE offered_services
            SET name = :name,
                description = :description,
                interfaces = :interfaces,
                pricing_amount = :pricing_amount,
                pricing_type = :pricing_type,
                access = :access,
                retry_safe = :retry_safe,
                retry = :retry,
                revision = revision + :altered,
                service_path = :service_path,
                settings = :settings,
                updated_at = :now
            WHERE id = :id
            RETURNING id, name, description, service_type, status, interfaces, pricing_amount, pricing_type, access,
                      retry_safe, retry, revision, service_path, settings, created_at, updated_at
            """,
            _columns(service) | {"id": service.id, "altered": int(altered), "now": to_text(now)},
        ).fetchone()
    except sqlite3.IntegrityError as error:
        raise _broken(service.name, error) from error
    updated = _service(row)
    _tell(conn, updated, "updated", now=now)
    return updated


def set_status(conn: sqlite3.Connection, service_id: ServiceId, status: ServiceStatus, *, now: datetime) -> Service:
    """Let a service take orders or refuse new ones; return it. Raises `NotFound`."""
    row = conn.execute(
        """
        UPDATE offered_services
        SET status = :status, updated_at = :now
        WHERE id = :id
        RETURNING id, name, description, service_type, status, interfaces, pricing_amount, pricing_type, access,
                  retry_safe, retry, revision, service_path, settings, created_at, updated_at
        """,
        {"id": service_id, "status": status, "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise _not_found(service_id)
    service = _service(row)
    _tell(conn, service, "status", now=now)
    return service


def delete_service(conn: sqlite3.Connection, service_id: ServiceId, *, self_peer_id: PeerId, now: datetime) -> Service:
    """Delete a service with its list of files, wrapped key and secrets; return what it was, so that its files can go.

    Workflows that name it stay and fail their validation. Raises `NotFound`, and `Conflict` while a job of this peer
    that uses it has not ended.
    """
    service = get_service(conn, service_id)
    _refuse_while_in_use(conn, service, self_peer_id)
    conn.execute(
        """
        DELETE FROM offered_services
        WHERE id = :id
        """,
        {"id": service_id},
    )
    _tell(conn, service, "deleted", now=now)
    return service


def _refuse_while_in_use(conn: sqlite3.Connection, service: Service, self_peer_id: PeerId) -> None:
    # A mirror row of a job on another peer bears that peer's service id, which says nothing about ours.
    row = conn.execute(
        """
        SELECT id, status
        FROM job_executions
        WHERE service_id = :service_id
          AND status IN ('IDLE', 'READY', 'RUNNING')
          AND executor_peer_id = :self_peer_id
        LIMIT 1
        """,
        {"service_id": service.id, "self_peer_id": self_peer_id},
    ).fetchone()
    if row is not None:
        raise Conflict(
            f'Service "{service.name}" is in use by job {row["id"]}, which is {row["status"]}',
            hint="Set the service INACTIVE so that it takes no new orders, and delete it when its jobs have ended.",
        )


def _what_makes_results(service: Service) -> tuple[object, ...]:
    settings = service.settings
    if isinstance(settings, DataSettings):
        # Where its owner lets the data go does not change what it says.
        settings = replace(settings, egress=Egress.ANY_JOB, egress_peers=(), downloadable=True, seal=False)
    return service.interfaces, service.service_path, settings


def _tell(conn: sqlite3.Connection, service: Service, change: str, *, now: datetime) -> None:
    data = {
        "service_id": service.id,
        "name": service.name,
        "service_type": service.service_type,
        "status": service.status,
        "revision": service.revision,
        "change": change,
    }
    record_event(conn, EventType.SERVICE_UPDATED, data, execution_id=None, now=now)


def _not_found(service_id: ServiceId) -> NotFound:
    return NotFound(f"Service {service_id} not found")


def _broken(name: str, error: sqlite3.IntegrityError) -> Exception:
    return name_taken(name) if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE else error


def name_taken(name: str) -> Conflict:
    """Return the refusal of a name that another service has."""
    return Conflict(f'A service named "{name}" exists already', hint="Choose another name, or update that service.")


def _columns(service: Service | NewService) -> dict[str, object]:
    return {
        "name": service.name,
        "description": service.description,
        "service_type": service.service_type,
        "interfaces": interfaces_to_text(service.interfaces),
        "pricing_amount": service.pricing_amount,
        "pricing_type": service.pricing_type,
        "access": service.access,
        "retry_safe": service.retry_safe,
        "retry": retry_to_text(service.retry),
        "service_path": service.service_path,
        "settings": settings_to_text(service.settings),
    }


def _service(row: sqlite3.Row) -> Service:
    service_type = ServiceType(row["service_type"])
    return Service(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        service_type=service_type,
        status=ServiceStatus(row["status"]),
        interfaces=interfaces_from_text(row["interfaces"]),
        pricing_amount=row["pricing_amount"],
        pricing_type=row["pricing_type"],
        access=ServiceAccess(row["access"]),
        retry_safe=bool(row["retry_safe"]),
        retry=retry_from_text(row["retry"]),
        revision=row["revision"],
        service_path=row["service_path"],
        settings=settings_from_text(service_type, row["settings"]),
        created_at=from_text(row["created_at"]),
        updated_at=from_text(row["updated_at"]),
    )
