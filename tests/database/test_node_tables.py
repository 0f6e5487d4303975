"""The node's own tables: facts, sealed secrets, uploads and API tokens."""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import datetime, timedelta

import pytest

from rnd.database import api_tokens, node_facts, sealed_secrets, uploads
from rnd.types.enums import Scope, SecretPurpose
from rnd.types.errors import Conflict, NotFound
from rnd.types.ids import ExecutionId, ServiceId

EXECUTION_KEY = SecretPurpose.EXECUTION_DATA_KEY
UNLOCKED_KEY = SecretPurpose.UNLOCKED_DATA_KEY
SERVICE_SECRET = SecretPurpose.SERVICE_SECRET


@pytest.fixture
def services(conn: sqlite3.Connection) -> tuple[ServiceId, ServiceId]:
    conn.execute(
        """
        INSERT INTO offered_services (id, name, service_type, interfaces, settings, created_at, updated_at)
        VALUES (1, 'a', 'DATA', '[]', '{}', '', ''), (2, 'b', 'DATA', '[]', '{}', '', '')
        """
    )
    return ServiceId(1), ServiceId(2)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def test_a_fact_is_set_changed_and_forgotten(conn: sqlite3.Connection) -> None:
    assert node_facts.find_fact(conn, "name") is None
    for value in ("lab", "hospital"):
        node_facts.set_fact(conn, "name", value)
        assert node_facts.find_fact(conn, "name") == value
    node_facts.delete_fact(conn, "name")
    node_facts.delete_fact(conn, "name")
    assert node_facts.find_fact(conn, "name") is None


def test_a_secret_takes_the_place_of_the_one_before(
    conn: sqlite3.Connection, services: tuple[ServiceId, ServiceId], now: datetime
) -> None:
    """Also where a part of its key is NULL, which a UNIQUE constraint does not see."""
    first, second = services
    for sealed in (b"one", b"two"):
        sealed_secrets.set_secret(conn, UNLOCKED_KEY, sealed, service_id=first)
    sealed_secrets.set_secret(conn, UNLOCKED_KEY, b"other", service_id=second)
    assert sealed_secrets.find_secret(conn, UNLOCKED_KEY, service_id=first, now=now) == b"two"
    assert conn.execute("SELECT COUNT(*) FROM sealed_secrets").fetchone()[0] == 2
    sealed_secrets.delete_secret(conn, UNLOCKED_KEY, service_id=first)
    assert sealed_secrets.find_secret(conn, UNLOCKED_KEY, service_id=first, now=now) is None
    assert sealed_secrets.find_secret(conn, UNLOCKED_KEY, service_id=second, now=now) == b"other"


def test_an_unlocked_key_ends_at_its_time(
    conn: sqlite3.Connection, services: tuple[ServiceId, ServiceId], now: datetime
) -> None:
    first, second = services
    end = now + timedelta(minutes=5)
    sealed_secrets.set_secret(conn, UNLOCKED_KEY, b"k", service_id=first, valid_until=end)
    sealed_secrets.set_secret(conn, UNLOCKED_KEY, b"k", service_id=second, valid_until=end + timedelta(minutes=1))
    just_before = end - timedelta(milliseconds=1)
    assert sealed_secrets.find_secret(conn, UNLOCKED_KEY, service_id=first, now=just_before) == b"k"
    assert sealed_secrets.find_secret(conn, UNLOCKED_KEY, service_id=first, now=end) is None
    assert sealed_secrets.delete_expired_secrets(conn, now=end) == 1
    assert sealed_secrets.find_secret(conn, UNLOCKED_KEY, service_id=second, now=end) == b"k"


def test_the_keys_of_an_execution_go_with_it(
    conn: sqlite3.Connection, services: tuple[ServiceId, ServiceId], now: datetime
) -> None:
    run, other_run = ExecutionId(1), ExecutionId(2)
    for service_id in services:
        sealed_secrets.set_secret(conn, EXECUTION_KEY, b"k", service_id=service_id, execution_id=run)
    sealed_secrets.set_secret(conn, EXECUTION_KEY, b"k", service_id=services[0], execution_id=other_run)
    assert sealed_secrets.delete_execution_secrets(conn, run) == 2
    kept = sealed_secrets.find_secret(conn, EXECUTION_KEY, service_id=services[0], execution_id=other_run, now=now)
    assert kept == b"k"


def test_the_secrets_of_a_service_are_listed_by_name(
    conn: sqlite3.Connection, services: tuple[ServiceId, ServiceId]
) -> None:
    sealed_secrets.set_secret(conn, SERVICE_SECRET, b"2", service_id=services[0], name="password")
    sealed_secrets.set_secret(conn, SERVICE_SECRET, b"1", service_id=services[0], name="login")
    sealed_secrets.set_secret(conn, UNLOCKED_KEY, b"3", service_id=services[0])
    assert sealed_secrets.list_service_secrets(conn, services[0]) == {"login": b"1", "password": b"2"}
    assert sealed_secrets.list_service_secrets(conn, services[1]) == {}


def test_an_upload_is_listed_taken_and_gone(conn: sqlite3.Connection, now: datetime) -> None:
    upload = uploads.add_upload(conn, name="a.txt", size_bytes=3, sha256="ab", now=now)
    assert uploads.get_upload(conn, "a.txt") == upload
    assert (upload.size_bytes, upload.sha256, upload.created_at, upload.used_at) == (3, "ab", now, now)
    with pytest.raises(Conflict, match=r'"a.txt" exists'):
        uploads.add_upload(conn, name="a.txt", size_bytes=9, sha256="cd", now=now)
    uploads.delete_upload(conn, "a.txt")
    for call in (
        lambda: uploads.get_upload(conn, "a.txt"),
        lambda: uploads.delete_upload(conn, "a.txt"),
        lambda: uploads.touch_upload(conn, "a.txt", now=now),
    ):
        with pytest.raises(NotFound, match=r'"a.txt" not found'):
            call()


def test_uploads_come_in_pages(conn: sqlite3.Connection, now: datetime) -> None:
    listed = [uploads.add_upload(conn, name=name, size_bytes=1, sha256="", now=now) for name in "cab"]
    page = uploads.list_uploads(conn, limit=2)
    assert (list(page.items), page.total, page.next_after_id) == (listed[:2], 3, listed[1].id)
    rest = uploads.list_uploads(conn, limit=2, after_id=listed[1].id)
    assert (list(rest.items), rest.total, rest.next_after_id) == (listed[2:], 3, None)


def test_uploads_of_no_use_are_dropped(conn: sqlite3.Connection, now: datetime) -> None:
    for name in ("old", "older", "touched"):
        uploads.add_upload(conn, name=name, size_bytes=1, sha256="", now=now)
    later = now + timedelta(hours=1)
    uploads.touch_upload(conn, "touched", now=later)
    assert uploads.delete_unused_uploads(conn, before=now) == []
    assert uploads.delete_unused_uploads(conn, before=later) == ["old", "older"]
    assert uploads.get_upload(conn, "touched").used_at == later


def test_a_token_is_found_by_its_hash_alone(conn: sqlite3.Connection, now: datetime) -> None:
    token = api_tokens.create_token(conn, name="ci", scope=Scope.OPERATE, token_sha256=digest("hunter2"), now=now)
    assert api_tokens.find_token(conn, digest("hunter2"), now=now) == token
    assert (token.name, token.scope, token.created_at) == ("ci", Scope.OPERATE, now)
    assert api_tokens.find_token(conn, digest("other"), now=now) is None
    assert api_tokens.find_token(conn, "", now=now) is None
    assert "hunter2" not in "\n".join(conn.iterdump())


def test_a_token_ends_at_its_time(conn: sqlite3.Connection, now: datetime) -> None:
    end = now + timedelta(seconds=1)
    api_tokens.create_token(conn, name="t", scope=Scope.READ, token_sha256=digest("t"), valid_until=end, now=now)
    assert api_tokens.find_token(conn, digest("t"), now=now) is not None
    assert api_tokens.find_token(conn, digest("t"), now=end) is None


def test_a_revoked_token_is_worthless_and_stays_listed(conn: sqlite3.Connection, now: datetime) -> None:
    token = api_tokens.create_token(conn, name="t", scope=Scope.ADMIN, token_sha256=digest("t"), now=now)
    revoked = api_tokens.revoke_token(conn, token.id, now=now)
    assert revoked.revoked_at == now
    assert api_tokens.revoke_token(conn, token.id, now=now + timedelta(seconds=1)) == revoked
    assert api_tokens.find_token(conn, digest("t"), now=now) is None
    page = api_tokens.list_tokens(conn, limit=5)
    assert (list(page.items), page.total, page.next_after_id) == ([revoked], 1, None)
    with pytest.raises(NotFound):
        api_tokens.revoke_token(conn, 404, now=now)


def test_a_token_name_is_given_once(conn: sqlite3.Connection, now: datetime) -> None:
    api_tokens.create_token(conn, name="t", scope=Scope.READ, token_sha256=digest("1"), now=now)
    with pytest.raises(Conflict, match='"t" exists'):
        api_tokens.create_token(conn, name="t", scope=Scope.READ, token_sha256=digest("2"), now=now)
    with pytest.raises(sqlite3.IntegrityError):
        api_tokens.create_token(conn, name="u", scope=Scope.READ, token_sha256=digest("1"), now=now)
