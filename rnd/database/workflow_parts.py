"""What nodes and connections have in common: rows that belong to a workflow (document: Node Types, Connections and Data Flow)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rnd.database.rows import page_of
from rnd.database.workflows import get_workflow
from rnd.types.errors import NotFound
from rnd.types.ids import WorkflowId
from rnd.types.pages import Page
from rnd.types.workflows import WorkflowConnection, WorkflowNode

Part = TypeVar("Part", WorkflowNode, WorkflowConnection)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowParts(Generic[Part]):
    """How one table is read: its word for people, two statements without their conditions, and what a row becomes."""

    word: str
    select: str
    count: str
    read: Callable[[sqlite3.Row], Part]

    def get(self, conn: sqlite3.Connection, workflow_id: WorkflowId, part_id: int) -> Part:
        """Return one part of a workflow. Raises `NotFound`, also for a part of another workflow."""
        row = conn.execute(
            self.select
            + """
            WHERE id = :id
              AND workflow_id = :workflow_id
            """,
            {"id": part_id, "workflow_id": workflow_id},
        ).fetchone()
        if row is None:
            raise self.not_found(workflow_id, part_id)
        return self.read(row)

    def all_of(self, conn: sqlite3.Connection, workflow_id: WorkflowId) -> list[Part]:
        """Return every part of a workflow in id order; none where there is no such workflow."""
        rows = conn.execute(
            self.select
            + """
            WHERE workflow_id = :workflow_id
            ORDER BY id
            """,
            {"workflow_id": workflow_id},
        )
        return [self.read(row) for row in rows]

    def page(self, conn: sqlite3.Connection, workflow_id: WorkflowId, *, limit: int, after_id: int) -> Page[Part]:
        """Return one page of a workflow's parts. Raises `NotFound` without such a workflow."""
        get_workflow(conn, workflow_id)
        rows = conn.execute(
            self.select
            + """
            WHERE workflow_id = :workflow_id
              AND id > :after_id
            ORDER BY id
            LIMIT :limit
            """,
            {"workflow_id": workflow_id, "after_id": after_id, "limit": limit + 1},
        )
        items = [self.read(row) for row in rows]
        return page_of(items, limit=limit, total=self.count_of(conn, workflow_id), id_of=lambda part: part.id)

    def count_of(self, conn: sqlite3.Connection, workflow_id: WorkflowId) -> int:
        """Return how many parts a workflow has."""
        row = conn.execute(self.count + "WHERE workflow_id = :workflow_id", {"workflow_id": workflow_id}).fetchone()
        return int(row[0])

    def not_found(self, workflow_id: WorkflowId, part_id: int) -> NotFound:
        """Return the error that says which part is missing where."""
        return NotFound(f"{self.word} {part_id} not found in workflow {workflow_id}")
