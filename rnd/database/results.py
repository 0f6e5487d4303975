"""What came home: tables `results` and `result_files`, and the manifests of what jobs left, `job_outputs`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rnd.database.rows import page_of
from rnd.types.errors import NotFound
from rnd.types.executions import FileEntry, Result
from rnd.types.ids import ConnectionId, ExecutionId, JobExecutionId, NodeId, PeerId, ResultId
from rnd.types.pages import Page

_PLACE_BITS: Final = 27
"""A file's place in its delivery fits: `limits.files_per_transfer` is at most 100 million."""
_PLACE_MASK: Final = (1 << _PLACE_BITS) - 1

_SELECT = """
    SELECT id, workflow_execution_id, node_id, connection_id, source_peer_id, source_job_execution_id, directory,
           duty_acknowledged, error
    FROM results
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """One file that reached the self-peer. `directory` is relative to the data directory, `id` goes on in a list."""

    id: int
    node_id: NodeId
    connection_id: ConnectionId
    relative_path: str
    directory: str
    size_bytes: int
    sha256: str
    executable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewResult:
    """A delivery to the self-peer that an execution is to wait for."""

    workflow_execution_id: ExecutionId
    node_id: NodeId
    connection_id: ConnectionId
    source_peer_id: PeerId
    source_job_execution_id: JobExecutionId
    directory: str


def create_result(conn: sqlite3.Connection, result: NewResult) -> None:
    """Write down a delivery to wait for; repeating it changes nothing."""
    conn.execute(
        """
        INSERT INTO results (
            workflow_execution_id, node_id, connection_id, source_peer_id, source_job_execution_id, directory
        )
        VALUES (:execution_id, :node_id, :connection_id, :peer_id, :job_id, :directory)
        ON CONFLICT (workflow_execution_id, connection_id) DO NOTHING
        """,
        {
            "execution_id": result.workflow_execution_id,
            "node_id": result.node_id,
            "connection_id": result.connection_id,
            "peer_id": result.source_peer_id,
            "job_id": result.source_job_execution_id,
            "directory": result.directory,
        },
    )


def find_result(conn: sqlite3.Connection, *, execution_id: ExecutionId, connection_id: ConnectionId) -> Result | None:
    """Return what a connection is to bring home in an execution; `None` if it does not lead home."""
    row = conn.execute(
        _SELECT + "WHERE workflow_execution_id = :execution_id AND connection_id = :connection_id",
        {"execution_id": execution_id, "connection_id": connection_id},
    ).fetchone()
    return None if row is None else _result(row)


def get_result_by_id(conn: sqlite3.Connection, result_id: ResultId) -> Result:
    """Return one delivery to the self-peer. Raises `NotFound`."""
    row = conn.execute(_SELECT + "WHERE id = :id", {"id": result_id}).fetchone()
    if row is None:
        raise NotFound(f"Result {result_id} not found")
    return _result(row)


def get_result(
    conn: sqlite3.Connection, *, execution_id: ExecutionId, node_id: NodeId, connection_id: ConnectionId
) -> Result:
    """Return what one connection of a node brought home. Raises `NotFound`."""
    row = conn.execute(
        _SELECT
        + """
        WHERE workflow_execution_id = :execution_id
          AND connection_id = :connection_id
          AND node_id = :node_id
        """,
        {"execution_id": execution_id, "node_id": node_id, "connection_id": connection_id},
    ).fetchone()
    if row is None:
        raise NotFound(f"Execution {execution_id} has no result of node {node_id} by connection {connection_id}")
    return _result(row)


def get_result_file(
    conn: sqlite3.Connection, *, execution_id: ExecutionId, node_id: NodeId, connection_id: ConnectionId, path: str
) -> ResultFile:
    """Return one file that one connection of a node brought home. Raises `NotFound`, also while it has not arrived."""
    result = get_result(conn, execution_id=execution_id, node_id=node_id, connection_id=connection_id)
    if not result.duty_acknowledged:
        raise NotFound("There is no such file", hint="The result has not arrived yet; see execution.get.")
    row = conn.execute(
        """
        SELECT r.node_id, r.connection_id, r.directory, rf.relative_path, rf.size_bytes, rf.sha256, rf.executable
        FROM results AS r
        JOIN result_files AS rf ON rf.result_id = r.id
        WHERE r.id = :result_id
          AND rf.relative_path = :path
          AND rf.sha256 <> ''
        """,
        {"result_id": result.id, "path": path},
    ).fetchone()
    if row is None:
        raise NotFound("There is no such file", hint="execution.results lists the files that came home.")
    return _result_file(row)


def list_result_rows(conn: sqlite3.Connection, execution_id: ExecutionId) -> list[Result]:
    """Return every delivery to the self-peer of an execution, arrived or not."""
    rows = conn.execute(_SELECT + "WHERE workflow_execution_id = :id ORDER BY id", {"id": execution_id}).fetchall()
    return [_result(row) for row in rows]


def list_results(
    conn: sqlite3.Connection, execution_id: ExecutionId, *, limit: int, after_id: int = 0
) -> Page[ResultFile]:
    """Return one page of the files that have reached the self-peer in an execution; empty folders are left out.

    The id of a file is made of its delivery's and its place there, which stay: what arrives meanwhile moves nothing.
    """
    first_result, place = after_id >> _PLACE_BITS, after_id & _PLACE_MASK
    rows = conn.execute(
        """
        SELECT r.id, r.node_id, r.connection_id, r.directory, rf.relative_path, rf.size_bytes, rf.sha256, rf.executable
        FROM results AS r
        JOIN result_files AS rf ON rf.result_id = r.id
        WHERE r.workflow_execution_id = :execution_id
          AND r.id >= :first_result
          AND r.duty_acknowledged = 1
          AND rf.sha256 <> ''
        ORDER BY r.id, rf.relative_path
        LIMIT :limit OFFSET :place
        """,
        {"execution_id": execution_id, "first_result": first_result, "limit": limit + 1, "place": place},
    )
    items: list[ResultFile] = []
    for row in rows:
        place = place + 1 if row["id"] == first_result else 1
        first_result = row["id"]
        items.append(_result_file(row, first_result << _PLACE_BITS | place))
    total = conn.execute(
        """
        SELECT COUNT(*)
        FROM results AS r
        JOIN result_files AS rf ON rf.result_id = r.id
        WHERE r.workflow_execution_id = :execution_id
          AND r.duty_acknowledged = 1
          AND rf.sha256 <> ''
        """,
        {"execution_id": execution_id},
    ).fetchone()
    return page_of(items, limit=limit, total=int(total[0]), id_of=lambda file: file.id)


def mark_arrived(conn: sqlite3.Connection, result_id: ResultId, files: Iterable[FileEntry]) -> None:
    """Record that everything of a delivery is home, with its manifest."""
    conn.execute(
        "UPDATE results SET duty_acknowledged = 1, error = NULL WHERE id = :id",
        {"id": result_id},
    )
    conn.executemany(
        """
        INSERT INTO result_files (result_id, relative_path, size_bytes, sha256, executable)
        VALUES (:result_id, :relative_path, :size_bytes, :sha256, :executable)
        ON CONFLICT (result_id, relative_path) DO NOTHING
        """,
        (_file_values("result_id", result_id, entry) for entry in files),
    )


def mark_failed(conn: sqlite3.Connection, result_id: ResultId, error: str) -> None:
    """Record that a delivery will never come, and why."""
    conn.execute(
        "UPDATE results SET error = :error WHERE id = :id AND duty_acknowledged = 0",
        {"id": result_id, "error": error},
    )


def mark_failed_of_job(
    conn: sqlite3.Connection, execution_id: ExecutionId, job_execution_id: JobExecutionId, error: str
) -> None:
    """Record for everything that a job was to bring home that it will never come, and why."""
    conn.execute(
        """
        UPDATE results
        SET error = :error
        WHERE workflow_execution_id = :execution_id
          AND source_job_execution_id = :job_id
          AND duty_acknowledged = 0
        """,
        {"execution_id": execution_id, "job_id": job_execution_id, "error": error},
    )


def mark_failed_of_execution(conn: sqlite3.Connection, execution_id: ExecutionId, error: str) -> None:
    """Record for everything that has not come home in an execution that it will never come, and why."""
    conn.execute(
        """
        UPDATE results
        SET error = :error
        WHERE workflow_execution_id = :execution_id
          AND duty_acknowledged = 0
          AND error IS NULL
        """,
        {"execution_id": execution_id, "error": error},
    )


def add_outputs(
    conn: sqlite3.Connection, job_execution_id: JobExecutionId, outputs: Mapping[str, Sequence[FileEntry]]
) -> None:
    """Write a job's output manifest: its entries by origin (stdout, stderr, logs, output, mount:<path>)."""
    if not outputs:
        return
    conn.executemany(
        """
        INSERT INTO job_outputs (job_execution_id, origin, relative_path, size_bytes, sha256, executable)
        VALUES (:job_id, :origin, :relative_path, :size_bytes, :sha256, :executable)
        """,
        (
            {**_file_values("job_id", job_execution_id, entry), "origin": origin}
            for origin, entries in outputs.items()
            for entry in entries
        ),
    )


def copy_outputs(conn: sqlite3.Connection, *, from_job: JobExecutionId, to_job: JobExecutionId) -> None:
    """Give a job the manifest of an earlier one whose outputs it reuses."""
    conn.execute(
        """
        INSERT INTO job_outputs (job_execution_id, origin, relative_path, size_bytes, sha256, executable)
        SELECT :to_job, origin, relative_path, size_bytes, sha256, executable
        FROM job_outputs
        WHERE job_execution_id = :from_job
        ON CONFLICT DO NOTHING
        """,
        {"from_job": from_job, "to_job": to_job},
    )


def list_outputs(conn: sqlite3.Connection, job_execution_id: JobExecutionId) -> dict[str, list[FileEntry]]:
    """Return a job's output manifest by origin."""
    rows = conn.execute(
        """
        SELECT origin, relative_path, size_bytes, sha256, executable
        FROM job_outputs
        WHERE job_execution_id = :id
        ORDER BY origin, relative_path
        """,
        {"id": job_execution_id},
    )
    outputs: dict[str, list[FileEntry]] = {}
    for row in rows:
        entry = FileEntry(
            relative_path=row["relative_path"],
            size_bytes=row["size_bytes"],
            sha256=row["sha256"],
            executable=bool(row["executable"]),
        )
        outputs.setdefault(row["origin"], []).append(entry)
    return outputs


def _file_values(key: str, owner: int, entry: FileEntry) -> dict[str, object]:
    return {
        key: owner,
        "relative_path": entry.relative_path,
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
        "executable": int(entry.executable),
    }


def _result_file(row: sqlite3.Row, file_id: int = 0) -> ResultFile:
    return ResultFile(
        id=file_id,
        node_id=NodeId(row["node_id"]),
        connection_id=ConnectionId(row["connection_id"]),
        relative_path=row["relative_path"],
        directory=row["directory"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        executable=bool(row["executable"]),
    )


def _result(row: sqlite3.Row) -> Result:
    job = row["source_job_execution_id"]
    return Result(
        id=ResultId(row["id"]),
        workflow_execution_id=ExecutionId(row["workflow_execution_id"]),
        node_id=NodeId(row["node_id"]),
        connection_id=ConnectionId(row["connection_id"]),
        source_peer_id=PeerId(row["source_peer_id"]),
        source_job_execution_id=None if job is None else JobExecutionId(job),
        directory=row["directory"],
        duty_acknowledged=bool(row["duty_acknowledged"]),
        error=row["error"],
    )
