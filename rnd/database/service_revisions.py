"""What services were when jobs were ordered of them: table `service_revisions` (document: Node Execution Details).

A service may be changed at any time; a job that was accepted before runs with what its service was then.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from rnd.database.offered_services import get_service
from rnd.database.rows import interfaces_from_text
from rnd.database.service_settings import settings_from_text
from rnd.types.errors import NotFound
from rnd.types.ids import ServiceId
from rnd.types.services import DataSettings, Service


def keep_revision(conn: sqlite3.Connection, service_id: ServiceId) -> None:
    """Keep what a service is at its present revision; nothing where there is no such service.

    What changes without a new revision, because it decides no result, follows here too.
    """
    conn.execute(
        """
        INSERT INTO service_revisions (service_id, revision, interfaces, service_path, settings)
        SELECT id, revision, interfaces, service_path, settings
        FROM offered_services
        WHERE id = :id
        ON CONFLICT (service_id, revision) DO UPDATE
        SET interfaces = excluded.interfaces, service_path = excluded.service_path, settings = excluded.settings
        WHERE (interfaces, service_path, settings)
           IS NOT (excluded.interfaces, excluded.service_path, excluded.settings)
        """,
        {"id": service_id},
    )


def get_ordered(conn: sqlite3.Connection, service_id: ServiceId, revision: int) -> Service:
    """Return a service as it was when a job of that revision was ordered.

    What decides no result is as it is now: name, status, access, retry policy, and which secrets there are. Raises
    `NotFound`.
    """
    service = get_service(conn, service_id)
    row = conn.execute(
        """
        SELECT interfaces, service_path, settings
        FROM service_revisions
        WHERE service_id = :id
          AND revision = :revision
        """,
        {"id": service_id, "revision": revision},
    ).fetchone()
    if row is None:
        raise NotFound(f"Revision {revision} of service {service.name} not found")
    settings = settings_from_text(service.service_type, row["settings"])
    if not isinstance(settings, DataSettings) and not isinstance(service.settings, DataSettings):
        settings = replace(settings, secret_names=service.settings.secret_names)
    return replace(
        service,
        revision=revision,
        interfaces=interfaces_from_text(row["interfaces"]),
        service_path=row["service_path"],
        settings=settings,
    )
