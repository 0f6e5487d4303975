"""What other peers may do with services: table `grants`. What follows from them is decided in `rnd/rules/policy.py`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime

from rnd.database.rows import page_of
from rnd.types.enums import Verb
from rnd.types.errors import NotFound
from rnd.types.ids import PeerId, ServiceId
from rnd.types.pages import Page
from rnd.types.peers import Grant, GrantLimits
from rnd.types.times import from_text, to_text

_SELECT = """
    SELECT id, peer_id, service_id, verbs, limits, created_at
    FROM grants
"""
_MATCHING = """
    WHERE (:peer_id IS NULL OR peer_id = :peer_id)
      AND (:service_id IS NULL OR service_id = :service_id)
"""
_COUNT = """
    SELECT COUNT(*)
    FROM grants
"""


def add_grant(
    conn: sqlite3.Connection,
    *,
    peer_id: PeerId,
    service_id: ServiceId | None,
    verbs: Collection[Verb],
    limits: GrantLimits | None = None,
    now: datetime,
) -> Grant:
    """Grant verbs on a service (`None`: on all) to a peer or to `EVERY_PEER`.

    Raises `NotFound` where the owner has no word on that peer or there is no such service, so that a typo does not go
    unnoticed.
    """
    try:
        row = conn.execute(
            """
            INSERT INTO grants (peer_id, service_id, verbs, limits, created_at)
            SELECT :peer_id, :service_id, :verbs, :limits, :now
            WHERE :peer_id = '*'
               OR EXISTS (
                SELECT 1
                FROM peers
                WHERE peer_id = :peer_id
               )
            RETURNING id, peer_id, service_id, verbs, limits, created_at
            """,
            {
                "peer_id": peer_id,
                "service_id": service_id,
                "verbs": json.dumps(sorted(verbs)),
                "limits": _limits_to_text(limits or GrantLimits()),
                "now": to_text(now),
            },
        ).fetchone()
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            raise
        raise NotFound(f"Service {service_id} not found") from error
    if row is None:
        raise NotFound(f"Peer {peer_id} not found", hint="Add the peer first; '*' stands for every allowed peer.")
    return _grant(row)


def list_grants_for(conn: sqlite3.Connection, peer_id: PeerId) -> list[Grant]:
    """Return all that is granted to a peer, by its name or as to every peer, oldest first."""
    rows = conn.execute(
        _SELECT
        + """
        WHERE peer_id IN (:peer_id, '*')
        ORDER BY id
        """,
        {"peer_id": peer_id},
    )
    return [_grant(row) for row in rows]


def page_grants(
    conn: sqlite3.Connection,
    *,
    peer_id: PeerId | None = None,
    service_id: ServiceId | None = None,
    limit: int,
    after_id: int = 0,
) -> Page[Grant]:
    """Return one page of the grants whose own fields match, oldest first."""
    matching = {"peer_id": peer_id, "service_id": service_id}
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
    items = [_grant(row) for row in rows]
    total = conn.execute(_COUNT + _MATCHING, matching).fetchone()[0]
    return page_of(items, limit=limit, total=total, id_of=lambda grant: grant.id)


def remove_grant(conn: sqlite3.Connection, grant_id: int) -> Grant:
    """Take a grant back; return what it was. Raises `NotFound`."""
    row = conn.execute(
        """
        DELETE FROM grants
        WHERE id = :id
        RETURNING id, peer_id, service_id, verbs, limits, created_at
        """,
        {"id": grant_id},
    ).fetchone()
    if row is None:
        raise NotFound(f"Grant {grant_id} not found")
    return _grant(row)


def forget_grants_of(conn: sqlite3.Connection, peer_id: PeerId) -> int:
    """Take back all that is granted to a peer by its name; return how many grants there were."""
    return conn.execute("DELETE FROM grants WHERE peer_id = :peer_id", {"peer_id": peer_id}).rowcount


def _limits_to_text(limits: GrantLimits) -> str:
    fields = {
        "concurrent_jobs": limits.concurrent_jobs,
        "max_runtime_s": limits.max_runtime_s,
        "max_bytes": limits.max_bytes,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None})


def _grant(row: sqlite3.Row) -> Grant:
    # Strict on purpose: a limit that cannot be read must not become no limit.
    return Grant(
        id=row["id"],
        peer_id=PeerId(row["peer_id"]),
        service_id=None if row["service_id"] is None else ServiceId(row["service_id"]),
        verbs=frozenset(Verb(word) for word in json.loads(row["verbs"])),
        limits=GrantLimits(**json.loads(row["limits"])),
        created_at=from_text(row["created_at"]),
    )
