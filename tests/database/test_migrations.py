"""Migrations: from every version to the newest, wholly or not at all, with a copy of what was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rnd.database import migrations
from rnd.types.errors import DatabaseCorrupt, DatabaseFailed, DatabaseTooNew

ADD_COLUMN = """
    ALTER TABLE node_facts ADD COLUMN note TEXT NOT NULL DEFAULT 'old';
    PRAGMA user_version = 2;
"""
ADD_TABLE = """
    CREATE TABLE toys (id INTEGER PRIMARY KEY) STRICT;
    PRAGMA user_version = 3;
"""
BREAKS_HALFWAY = """
    CREATE TABLE toys (id INTEGER PRIMARY KEY) STRICT;
    INSERT INTO nowhere VALUES (1);
    PRAGMA user_version = 2;
"""
FORGETS_ITS_VERSION = """
    CREATE TABLE toys (id INTEGER PRIMARY KEY) STRICT;
"""
LEAVES_DANGLING_KEYS = """
    DELETE FROM workflows;
    PRAGMA user_version = 2;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rnd.db"


@pytest.fixture
def old(path: Path) -> Iterator[sqlite3.Connection]:
    """A database of version 1 with a fact and a node in it."""
    conn = sqlite3.connect(path, isolation_level=None)
    migrations.migrate(conn, path, ())
    conn.execute("INSERT INTO node_facts (key, value) VALUES ('name', 'lab')")
    conn.execute("INSERT INTO workflows (id, name, definition) VALUES (1, 'w', '{}')")
    conn.execute("INSERT INTO workflow_nodes (workflow_id) VALUES (1)")
    yield conn
    conn.close()


def table_names(conn: sqlite3.Connection) -> set[str]:
    return {row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_an_empty_file_gets_the_whole_schema_and_no_copy(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        migrations.migrate(conn, path)
        assert migrations.read_version(conn) == 1 + len(migrations.MIGRATIONS)
        assert "job_executions" in table_names(conn)
        migrations.migrate(conn, path)
    assert [file.name for file in path.parent.iterdir()] == ["rnd.db"]


def test_an_old_database_goes_through_every_script_and_keeps_its_rows(old: sqlite3.Connection, path: Path) -> None:
    migrations.migrate(old, path, (ADD_COLUMN, ADD_TABLE))
    assert migrations.read_version(old) == 3
    assert old.execute("SELECT key, value, note FROM node_facts").fetchall() == [("name", "lab", "old")]
    assert "toys" in table_names(old)
    assert old.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_database_halfway_goes_through_the_rest_only(old: sqlite3.Connection, path: Path) -> None:
    migrations.migrate(old, path, (ADD_COLUMN,))
    migrations.migrate(old, path, (ADD_COLUMN, ADD_TABLE))
    assert migrations.read_version(old) == 3


def test_a_new_database_goes_through_the_scripts_too(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        migrations.migrate(conn, path, (ADD_COLUMN, ADD_TABLE))
        assert migrations.read_version(conn) == 3


def test_what_was_is_kept_in_a_private_copy(old: sqlite3.Connection, path: Path) -> None:
    migrations.migrate(old, path, (ADD_COLUMN,))
    copy_path = path.with_name("rnd.db.before-version-2")
    assert copy_path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy_path)) as copy:
        assert migrations.read_version(copy) == 1
        assert copy.execute("SELECT key, value FROM node_facts").fetchall() == [("name", "lab")]
    assert not path.with_name("rnd.db.before-version-2.part").exists()


@pytest.mark.parametrize("script", [BREAKS_HALFWAY, FORGETS_ITS_VERSION, LEAVES_DANGLING_KEYS])
def test_a_script_that_fails_leaves_the_database_as_it_was(old: sqlite3.Connection, path: Path, script: str) -> None:
    before = list(old.iterdump())
    with pytest.raises(DatabaseFailed, match="version 2"):
        migrations.migrate(old, path, (script,))
    assert migrations.read_version(old) == 1
    assert list(old.iterdump()) == before
    assert not old.in_transaction
    assert old.execute("PRAGMA foreign_keys").fetchone() == (1,)
    migrations.migrate(old, path, (ADD_COLUMN,))
    assert migrations.read_version(old) == 2


def test_a_newer_database_is_refused(old: sqlite3.Connection, path: Path) -> None:
    migrations.migrate(old, path, (ADD_COLUMN, ADD_TABLE))
    with pytest.raises(DatabaseTooNew, match=r"version 3 .* up to 2"):
        migrations.migrate(old, path, (ADD_COLUMN,))


def test_tables_of_another_program_are_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE theirs (a)")
        with pytest.raises(DatabaseCorrupt, match="not one of rnd"):
            migrations.migrate(conn, path)
        assert table_names(conn) == {"theirs"}
