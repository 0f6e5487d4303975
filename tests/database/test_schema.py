"""The schema is the document's ("Database Schema Summary"), column for column and CHECK for CHECK, and a bit more."""

from __future__ import annotations

import re
import sqlite3
from enum import StrEnum

import pytest

from rnd.types import enums

# The statements of the document, as they stand there.
DOCUMENTED = """
CREATE TABLE workflows (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    definition TEXT NOT NULL,
    created_at DATETIME,
    updated_at DATETIME
);
CREATE TABLE workflow_nodes (
    id INTEGER PRIMARY KEY,
    workflow_id INTEGER,
    service_id INTEGER,
    peer_id TEXT,
    service_name TEXT,
    service_type TEXT,
    "order" INTEGER,
    gui_x INTEGER,
    gui_y INTEGER,
    interfaces TEXT,
    entrypoint TEXT,
    cmd TEXT,
    pricing_amount REAL,
    pricing_type TEXT,
    FOREIGN KEY (workflow_id) REFERENCES workflows(id)
);
CREATE TABLE workflow_connections (
    id INTEGER PRIMARY KEY,
    workflow_id INTEGER,
    from_node_id INTEGER,
    from_interface_type TEXT,
    to_node_id INTEGER,
    to_interface_type TEXT,
    destination_file_name TEXT,
    FOREIGN KEY (workflow_id) REFERENCES workflows(id),
    FOREIGN KEY (from_node_id) REFERENCES workflow_nodes(id),
    FOREIGN KEY (to_node_id) REFERENCES workflow_nodes(id)
);
CREATE TABLE workflow_ui_state (
    id INTEGER PRIMARY KEY,
    workflow_id INTEGER UNIQUE,
    snap_to_grid BOOLEAN DEFAULT 1,
    zoom_level REAL DEFAULT 1.0,
    pan_x REAL DEFAULT 0,
    pan_y REAL DEFAULT 0,
    self_peer_x REAL DEFAULT 0,
    self_peer_y REAL DEFAULT 0,
    FOREIGN KEY (workflow_id) REFERENCES workflows(id)
);
CREATE TABLE workflow_executions (
    id INTEGER PRIMARY KEY,
    workflow_id INTEGER,
    status TEXT CHECK(status IN ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    error TEXT,
    started_at DATETIME,
    completed_at DATETIME,
    FOREIGN KEY (workflow_id) REFERENCES workflows(id)
);
CREATE TABLE workflow_jobs (
    id INTEGER PRIMARY KEY,
    workflow_execution_id INTEGER,
    workflow_id INTEGER,
    node_id INTEGER,
    job_name TEXT,
    service_id INTEGER,
    executor_peer_id TEXT,
    remote_job_execution_id INTEGER,
    status TEXT,
    result TEXT,
    error TEXT,
    FOREIGN KEY (workflow_execution_id) REFERENCES workflow_executions(id)
);
CREATE TABLE job_executions (
    id INTEGER PRIMARY KEY,
    workflow_job_id INTEGER,
    service_id INTEGER,
    executor_peer_id TEXT,
    ordering_peer_id TEXT,
    remote_job_execution_id INTEGER,
    status TEXT CHECK(status IN ('IDLE', 'READY', 'RUNNING', 'COMPLETED', 'ERRORED', 'CANCELLED')),
    entrypoint TEXT,
    commands TEXT,
    execution_constraint TEXT CHECK(execution_constraint IN ('NONE', 'INPUTS_READY')),
    constraint_detail TEXT,
    start_received INTEGER DEFAULT 0,
    started_at DATETIME,
    ended_at DATETIME,
    error_message TEXT
);
CREATE TABLE job_interfaces (
    id INTEGER PRIMARY KEY,
    job_execution_id INTEGER,
    interface_type TEXT CHECK(interface_type IN ('STDIN', 'STDOUT', 'STDERR', 'LOGS', 'MOUNT')),
    path TEXT,
    FOREIGN KEY (job_execution_id) REFERENCES job_executions(id)
);
CREATE TABLE job_interface_peers (
    id INTEGER PRIMARY KEY,
    job_interface_id INTEGER,
    peer_id TEXT,
    peer_workflow_job_id INTEGER,
    peer_job_execution_id INTEGER,
    peer_path TEXT,
    peer_file_name TEXT,
    peer_mount_function TEXT CHECK(peer_mount_function IN ('INPUT', 'OUTPUT', 'BOTH')),
    duty_acknowledged BOOLEAN DEFAULT 0,
    FOREIGN KEY (job_interface_id) REFERENCES job_interfaces(id)
);
"""

DOCUMENTED_TABLES = re.findall(r"CREATE TABLE (\w+)", DOCUMENTED)

WRITTEN_BY_THE_DAEMON = {"workflow_executions", "job_executions", "job_interface_peers"}

CHECKED_COLUMNS: dict[tuple[str, str], type[StrEnum]] = {
    ("peers", "state"): enums.PeerState,
    ("offered_services", "service_type"): enums.ServiceType,
    ("offered_services", "status"): enums.ServiceStatus,
    ("offered_services", "access"): enums.ServiceAccess,
    ("sealed_secrets", "purpose"): enums.SecretPurpose,
    ("api_tokens", "scope"): enums.Scope,
    ("workflow_executions", "status"): enums.ExecutionStatus,
    ("workflow_executions", "phase"): enums.ExecutionPhase,
    ("job_executions", "status"): enums.JobStatus,
    ("job_executions", "execution_constraint"): enums.ExecutionConstraint,
    ("job_executions", "service_type"): enums.ServiceType,
    ("job_interfaces", "interface_type"): enums.InterfaceType,
    ("job_interfaces", "mount_function"): enums.MountFunction,
    ("job_interface_peers", "peer_mount_function"): enums.MountFunction,
    ("transfers", "direction"): enums.TransferDirection,
    ("transfers", "status"): enums.TransferStatus,
}

# A foreign key whose column no index begins with makes each deletion of what it points to read the whole table.
KEYS_WITHOUT_INDEX = {
    ("sealed_secrets", "service_id"): "a handful of rows, and services are deleted by hand",
}


@pytest.fixture
def documented() -> sqlite3.Connection:
    conn = sqlite3.connect(":memory:")
    conn.row_factory = sqlite3.Row
    conn.executescript(DOCUMENTED)
    return conn


def columns(conn: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return [tuple(row)[1:] for row in conn.execute("SELECT * FROM pragma_table_info(:table)", {"table": table})]


def checks(conn: sqlite3.Connection, table: str) -> dict[str, set[str]]:
    """The words that each CHECK of the form `column IN (...)` of a table allows."""
    sql = conn.execute("SELECT sql FROM sqlite_master WHERE name = :table", {"table": table}).fetchone()[0]
    found = re.findall(r"CHECK\((\w+) IN \(([^)]*)\)\)", sql)
    return {column: set(re.findall(r"'([^']*)'", words)) for column, words in found}


def foreign_keys(conn: sqlite3.Connection, table: str) -> set[tuple[str, str, str]]:
    rows = conn.execute("SELECT * FROM pragma_foreign_key_list(:table)", {"table": table})
    return {(row["from"], row["table"], row["to"]) for row in rows}


def tables(conn: sqlite3.Connection) -> list[str]:
    rows = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [row["name"] for row in rows]


@pytest.mark.parametrize("table", DOCUMENTED_TABLES)
def test_a_documented_table_begins_with_the_documents_columns(
    conn: sqlite3.Connection, documented: sqlite3.Connection, table: str
) -> None:
    expected = columns(documented, table)
    assert columns(conn, table)[: len(expected)] == expected


@pytest.mark.parametrize("table", DOCUMENTED_TABLES)
def test_a_documented_table_has_the_documents_checks_and_keys(
    conn: sqlite3.Connection, documented: sqlite3.Connection, table: str
) -> None:
    for column, words in checks(documented, table).items():
        assert checks(conn, table)[column] == words
    assert foreign_keys(conn, table) >= foreign_keys(documented, table)


@pytest.mark.parametrize("table", [table for table in DOCUMENTED_TABLES if table not in WRITTEN_BY_THE_DAEMON])
def test_a_row_typed_as_the_document_has_it_needs_only_what_is_documented_or_defaulted(
    conn: sqlite3.Connection, documented: sqlite3.Connection, table: str
) -> None:
    """Columns that rnd adds to the drawn tables never keep a person from inserting a documented row."""
    added = columns(conn, table)[len(columns(documented, table)) :]
    required = [name for name, _type, not_null, default, _key in added if not_null and default is None]
    assert required == []


def test_a_documented_id_is_never_used_twice(conn: sqlite3.Connection) -> None:
    for table in DOCUMENTED_TABLES:
        sql = conn.execute("SELECT sql FROM sqlite_master WHERE name = :table", {"table": table}).fetchone()[0]
        assert "id INTEGER PRIMARY KEY AUTOINCREMENT" in sql


def test_every_view_can_be_selected_from(conn: sqlite3.Connection) -> None:
    views = [row["name"] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
    assert sorted(views) == ["v_job_story", "v_stuck", "v_transfers"]
    for view in views:
        assert conn.execute("SELECT * FROM " + view).fetchall() == []


@pytest.mark.parametrize(("table", "column"), CHECKED_COLUMNS)
def test_an_enumeration_has_exactly_the_words_of_its_check(conn: sqlite3.Connection, table: str, column: str) -> None:
    words = {member.value for member in CHECKED_COLUMNS[table, column]}
    assert checks(conn, table)[column] == words


def test_every_check_of_words_has_its_enumeration(conn: sqlite3.Connection) -> None:
    found = {(table, column) for table in tables(conn) for column, words in checks(conn, table).items() if words}
    assert found == set(CHECKED_COLUMNS)


def test_foreign_keys_are_enforced(conn: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        conn.execute("INSERT INTO workflow_nodes (workflow_id) VALUES (404)")


def test_every_foreign_key_is_the_beginning_of_an_index(conn: sqlite3.Connection) -> None:
    missing = set()
    for table in tables(conn):
        first_columns = {row["name"] for row in conn.execute(_FIRST_COLUMNS, {"table": table})}
        missing |= {(table, column) for column, _, _ in foreign_keys(conn, table) if column not in first_columns}
    assert missing == set(KEYS_WITHOUT_INDEX)


_FIRST_COLUMNS = """
    SELECT info.name
    FROM pragma_index_list(:table) AS list
    JOIN pragma_index_info(list.name) AS info
    WHERE info.seqno = 0
      AND list.partial = 0
    UNION
    SELECT name
    FROM pragma_table_info(:table)
    WHERE pk = 1
"""
