"""Who may use the API, and how far: table `api_tokens`. A token itself is never kept, only its SHA-256."""

from __future__ import annotations

import hmac
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from rnd.database.rows import moment_or_none, page_of, text_or_none
from rnd.types.enums import Scope
from rnd.types.errors import Conflict, NotFound
from rnd.types.pages import Page
from rnd.types.times import from_text, to_text

_SELECT = """
    SELECT id, name, scope, token_sha256, created_at, valid_until, revoked_at
    FROM api_tokens
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A row of `api_tokens`, without the hash."""

    id: int
    name: str
    scope: Scope
    created_at: datetime
    valid_until: datetime | None
    revoked_at: datetime | None


def create_token(
    conn: sqlite3.Connection,
    *,
    name: str,
    scope: Scope,
    token_sha256: str,
    valid_until: datetime | None = None,
    now: datetime,
) -> ApiToken:
    """Keep a token by its SHA-256 (hexadecimal, lower case). Raises `Conflict` where the name is taken."""
    row = conn.execute(
        """
        INSERT INTO api_tokens (name, scope, token_sha256, created_at, valid_until)
        VALUES (:name, :scope, :token_sha256, :now, :valid_until)
        ON CONFLICT (name) DO NOTHING
        RETURNING id, name, scope, token_sha256, created_at, valid_until, revoked_at
        """,
        {
            "name": name,
            "scope": scope,
            "token_sha256": token_sha256,
            "now": to_text(now),
            "valid_until": text_or_none(valid_until),
        },
    ).fetchone()
    if row is None:
        raise Conflict(f'A token named "{name}" exists already', hint="Choose another name; a revoked token keeps its.")
    return _token(row)


def find_token(conn: sqlite3.Connection, token_sha256: str, *, now: datetime) -> ApiToken | None:
    """Return the token with that hash; `None` if there is none, it is revoked, or its time is up."""
    row = conn.execute(
        _SELECT
        + """
        WHERE token_sha256 = :token_sha256
          AND revoked_at IS NULL
          AND (valid_until IS NULL OR valid_until > :now)
        """,
        {"token_sha256": token_sha256, "now": to_text(now)},
    ).fetchone()
    # The index compares hashes of what was presented, so its timing tells nothing about a token; this settles the rest.
    if row is None or not hmac.compare_digest(row["token_sha256"].encode(), token_sha256.encode()):
        return None
    return _token(row)


def list_tokens(conn: sqlite3.Connection, *, limit: int, after_id: int = 0) -> Page[ApiToken]:
    """Return one page of all tokens, revoked ones too, oldest first."""
    rows = conn.execute(
        _SELECT
        + """
        WHERE id > :after_id
        ORDER BY id
        LIMIT :limit
        """,
        {"after_id": after_id, "limit": limit + 1},
    )
    items = [_token(row) for row in rows]
    total = conn.execute(
        """
        SELECT COUNT(*)
        FROM api_tokens
        """
    ).fetchone()[0]
    return page_of(items, limit=limit, total=total, id_of=lambda token: token.id)


def revoke_token(conn: sqlite3.Connection, token_id: int, *, now: datetime) -> ApiToken:
    """Make a token worthless from now on; one that was revoked before keeps its time. Raises `NotFound`."""
    row = conn.execute(
        """
        UPDATE api_tokens
        SET revoked_at = COALESCE(revoked_at, :now)
        WHERE id = :id
        RETURNING id, name, scope, token_sha256, created_at, valid_until, revoked_at
        """,
        {"id": token_id, "now": to_text(now)},
    ).fetchone()
    if row is None:
        raise NotFound(f"Token {token_id} not found")
    return _token(row)


def _token(row: sqlite3.Row) -> ApiToken:
    return ApiToken(
        id=row["id"],
        name=row["name"],
        scope=Scope(row["scope"]),
        created_at=from_text(row["created_at"]),
        valid_until=moment_or_none(row["valid_until"]),
        revoked_at=moment_or_none(row["revoked_at"]),
    )
