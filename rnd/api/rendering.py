"""How records look to clients: the schema's column names, RFC 3339 times, plain words, nothing secret."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from rnd.types.executions import JobExecution, Transfer, WorkflowExecution
from rnd.types.pages import Page
from rnd.types.services import Service
from rnd.types.times import to_text
from rnd.types.workflows import Workflow

Item = TypeVar("Item")

JsonMembers = dict[str, Any]

_PLAIN: Final = frozenset({type(None), bool, int, float, str})


def render(value: object) -> Any:
    """Return a record, or anything made of records, as JSON can say it. Raises `TypeError` for what has no shape."""
    if type(value) in _PLAIN:  # most of all there is, and lists of executions have a thousand jobs
        return value
    match value:
        case StrEnum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return to_text(value)
        case Path():
            return str(value)
        case Mapping():
            return {str(key): render(item) for key, item in value.items()}
        case Sequence():
            return [render(item) for item in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: render(getattr(value, field.name)) for field in fields(value)}
        case _:
            raise TypeError(f"{type(value).__name__} has no shape for clients")


def render_page(page: Page[Item], shape: Callable[[Item], JsonMembers] = render) -> JsonMembers:
    """Return what a list method answers."""
    return {
        "items": [shape(item) for item in page.items],
        "total": page.total,
        "next_after_id": page.next_after_id,
    }


def render_workflow(workflow: Workflow) -> JsonMembers:
    """Return a workflow, its definition as an object."""
    members: JsonMembers = render(workflow)
    return {**members, "definition": json.loads(workflow.definition)}


def render_service(service: Service) -> JsonMembers:
    """Return a service with what only its type has beside the columns, as service.create takes it."""
    members: JsonMembers = render(service)
    settings: JsonMembers = members.pop("settings")
    if isinstance(settings.get("limits"), dict):
        settings["limits"] = {name: bound for name, bound in settings["limits"].items() if bound is not None}
    return {**settings, **members}


def render_execution(execution: WorkflowExecution) -> JsonMembers:
    """Return an execution without its frozen definition, which can be large (execution.get shows it where it is asked for)."""
    members: JsonMembers = render(execution)
    del members["definition"]
    return {**members, "execution_id": execution.id}


def render_job(job: JobExecution) -> JsonMembers:
    """Return a job; `job_execution_id` repeats its id under the name that other methods take."""
    members: JsonMembers = render(job)
    detail = job.constraint_detail
    return {**members, "job_execution_id": job.id, "constraint_detail": json.loads(detail) if detail else None}


def render_transfer(transfer: Transfer, *, self_peer: str, now: datetime) -> JsonMembers:
    """Return a transfer with the peer at the other end, its rate (while it is under way: of late) and the time left."""
    members: JsonMembers = render(transfer)
    other = transfer.dest_peer_id if transfer.source_peer_id == self_peer else transfer.source_peer_id
    return {
        **members,
        "execution_id": transfer.workflow_execution_id,
        "peer_id": other,
        "rate_bytes_s": transfer.rate(now),
        "left_s": transfer.left_s(now),
    }
