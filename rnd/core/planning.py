"""From what people drew to what will run: validation, definition, the order of an execution, and the plan.

Everything that can be refused is refused here, before an execution exists (document: Execution Triggers, Validation Rules).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rnd.database import offered_services, workflow_connections, workflow_nodes, workflows
from rnd.database.workflow_executions import ExecutionBounds
from rnd.rules.definition import build_definition, definition_to_json
from rnd.rules.reading import plain
from rnd.rules.upload_names import UPLOADS_FOLDER, uploaded_name
from rnd.rules.validation import revision_changed, validate_workflow
from rnd.services.data_service import DataService
from rnd.types.config import Config, Deadlines
from rnd.types.definitions import WorkflowDefinition
from rnd.types.enums import ServiceType
from rnd.types.errors import NotFound, Problem, ValidationFailed
from rnd.types.executions import WorkflowExecution
from rnd.types.ids import ConnectionId, NodeId, PeerId, ServiceId, WorkflowId
from rnd.types.services import DataSettings, Service
from rnd.types.workflows import Workflow, WorkflowConnection, WorkflowNode

SHORTENABLE: Final = ("start_by_s", "max_runtime_s", "transfer_idle_s", "hold_s", "workflow_deadline_s")
"""The deadlines that an order may shorten, never lengthen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A workflow as drawn, with the services of this peer that its nodes name, read in one snapshot."""

    workflow: Workflow
    nodes: tuple[WorkflowNode, ...]
    connections: tuple[WorkflowConnection, ...]
    services: Mapping[ServiceId, Service]
    single_files: Mapping[NodeId, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """Every problem of a workflow at once; the definition is there if it could be built."""

    problems: tuple[Problem, ...]
    definition: WorkflowDefinition | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAnswer:
    """What an executor would say to a job request. `warnings` are no reasons to refuse.

    `service_revision` is what the service is there now; `None` where the executor tells nothing of it.
    """

    node_id: NodeId
    executor_peer_id: PeerId
    accepted: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    service_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeAnswer:
    """Whether bytes can travel along a connection."""

    connection_id: ConnectionId
    from_peer_id: PeerId
    to_peer_id: PeerId
    reachable: bool
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """What every executor and every edge would say before a byte moves."""

    jobs: tuple[JobAnswer, ...]
    edges: tuple[EdgeAnswer, ...]

    @property
    def ok(self) -> bool:
        """Say whether everything would be accepted."""
        return all(job.accepted for job in self.jobs) and all(edge.reachable for edge in self.edges)


def read_drawing(
    conn: sqlite3.Connection, workflow_id: WorkflowId, *, self_peer_id: PeerId, data_service: DataService
) -> Drawing:
    """Read a workflow with all that validation needs. Raises `NotFound`."""
    workflow = workflows.get_workflow(conn, workflow_id)
    nodes = tuple(workflow_nodes.list_nodes(conn, workflow_id))
    services: dict[ServiceId, Service] = {}
    single_files: dict[NodeId, str] = {}
    for node in nodes:
        if node.peer_id != self_peer_id:
            continue
        if node.service_id not in services:
            try:
                services[node.service_id] = offered_services.get_service(conn, node.service_id)
            except NotFound:
                continue  # validation says so, with the node's name
        service = services[node.service_id]
        if isinstance(service.settings, DataSettings) and service.settings.file_count == 1:
            entries = data_service.list_entries(conn, service.id)
            single_files[node.id] = next(entry.relative_path for entry in entries if entry.sha256)
    return Drawing(
        workflow=workflow,
        nodes=nodes,
        connections=tuple(workflow_connections.list_connections(conn, workflow_id)),
        services=services,
        single_files=single_files,
    )


def with_inputs(drawing: Drawing, inputs: Mapping[ConnectionId, str]) -> Drawing:
    """Return the drawing with the files named at `workflow.execute` at their connections.

    Raises `ValidationFailed` where an input names no connection that the self-peer sends along.
    """
    from_self = {connection.id for connection in drawing.connections if connection.from_node_id is None}
    strangers = [connection_id for connection_id in inputs if connection_id not in from_self]
    if strangers:
        raise ValidationFailed(
            [
                Problem(
                    check="inputs",
                    message=f"Connection {connection_id} does not come from the self-peer, so it takes no input",
                    connection_id=connection_id,
                )
                for connection_id in strangers
            ]
        )
    connections = tuple(
        replace(connection, source_path=inputs[connection.id]) if connection.id in inputs else connection
        for connection in drawing.connections
    )
    return replace(drawing, connections=connections)


def validate(drawing: Drawing, *, self_peer_id: PeerId, config: Config) -> ValidationReport:
    """Check a workflow in the document's three phases and build its definition."""
    problems = validate_workflow(
        drawing.nodes,
        drawing.connections,
        self_peer_id=self_peer_id,
        services=drawing.services,
        limits=config.limits,
    )
    if problems:
        return ValidationReport(problems=tuple(problems), definition=None)
    definition = build_definition(
        drawing.nodes, drawing.connections, self_peer_id=self_peer_id, single_files=drawing.single_files
    )
    return ValidationReport(problems=(), definition=definition)


def with_warnings(report: PlanReport, drawing: Drawing) -> PlanReport:
    """Return a plan with what a person should know of jobs that can run all the same: a changed service (ruling 24)."""
    nodes = {node.id: node for node in drawing.nodes}

    def warned(job: JobAnswer) -> JobAnswer:
        words = revision_changed(nodes[job.node_id], job.service_revision)
        return job if words is None or not job.accepted else replace(job, warnings=(words,))

    return replace(report, jobs=tuple(map(warned, report.jobs)))


def source_problems(connections: Sequence[WorkflowConnection], config: Config) -> list[Problem]:
    """Return what is wrong with the files that the self-peer is to send: missing, unreadable or out of bounds."""
    problems: list[Problem] = []
    for connection in connections:
        if connection.from_node_id is not None or connection.source_path is None:
            continue
        upload = uploaded_name(connection.source_path)
        if upload is None:
            words = _source_words(Path(connection.source_path), config)
        else:
            waits = (config.data_dir / UPLOADS_FOLDER / upload).is_file()
            words = (
                ""
                if waits
                else f"There is no upload {upload!r} to send; it is sent to this peer by PUT /upload/{upload}"
            )
        if words:
            problems.append(Problem(check="source_path", message=words, connection_id=connection.id))
    return problems


def _source_words(path: Path, config: Config) -> str:
    if not path.is_absolute():
        return f"The file to send must be named by its full path, not {str(path)!r}"
    try:
        resolved = path.resolve(strict=True)
    except FileNotFoundError:
        return f"The file to send is not there: {path}"
    except OSError as error:
        return f"The file to send cannot be reached: {path} ({error.strerror})"
    except RuntimeError:
        return f"The file to send cannot be reached: {path} (its symbolic links lead in a circle)"
    if not resolved.is_file() and not resolved.is_dir():
        return f"{path} is neither a file nor a folder"
    if resolved.is_relative_to(config.data_dir.resolve()):
        return f"{path} is inside the data directory, which is never sent"
    if not any(resolved.is_relative_to(Path(root).resolve()) for root in config.allowed_roots):
        return f"{path} is outside the configured allowed_roots"
    return ""


def definition_text(definition: WorkflowDefinition) -> str:
    """Return the definition as the JSON text that is stored and frozen."""
    return json.dumps(definition_to_json(definition), ensure_ascii=False)


def shortened(deadlines: Deadlines, wishes: Mapping[str, float]) -> Deadlines:
    """Return the deadlines of an order: the configured ones, shortened as wished.

    Raises `ValidationFailed` for a name that is no deadline, a wish that is not positive, or one that would lengthen.
    """
    problems: list[Problem] = []
    for name, seconds in wishes.items():
        if name not in SHORTENABLE:
            known = ", ".join(SHORTENABLE)
            problems.append(Problem(check="deadlines", message=f"There is no deadline {name}; there are {known}"))
        elif not seconds > 0:  # no number is not more than 0 either
            problems.append(Problem(check="deadlines", message=f"{name} must be more than 0 s, not {plain(seconds)}"))
        elif seconds > getattr(deadlines, name):
            bound = getattr(deadlines, name)
            problems.append(
                Problem(
                    check="deadlines",
                    message=f"{name} may only be shortened: at most {plain(bound)} s, not {plain(seconds)}",
                )
            )
    if problems:
        raise ValidationFailed(problems)
    return replace(deadlines, **wishes)


def as_before(deadlines: Deadlines, earlier: WorkflowExecution, bounds: ExecutionBounds) -> Deadlines:
    """Return the deadlines of a retry: those that the earlier execution had, where they are shorter than the configured."""
    workflow_deadline_s = (earlier.deadline_at - earlier.created_at).total_seconds()
    return replace(
        deadlines,
        start_by_s=min(deadlines.start_by_s, bounds.start_by_s),
        max_runtime_s=min(deadlines.max_runtime_s, bounds.max_runtime_s),
        transfer_idle_s=min(deadlines.transfer_idle_s, bounds.transfer_idle_s),
        hold_s=min(deadlines.hold_s, bounds.hold_s),
        workflow_deadline_s=min(deadlines.workflow_deadline_s, workflow_deadline_s),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Passphrases:
    """What opens encrypted DATA in one execution: one for all, and others for single services. Never logged or stored."""

    general: str | None
    by_service: Mapping[ServiceId, str]

    def __repr__(self) -> str:
        return "Passphrases(***)"

    def of(self, service_id: ServiceId) -> str | None:
        """Return the passphrase for a service, if there is one."""
        return self.by_service.get(service_id, self.general)


def encrypted_services(services: Mapping[ServiceId, Service]) -> list[Service]:
    """Return the encrypted DATA services among these."""
    return [
        service
        for service in services.values()
        if service.service_type is ServiceType.DATA
        and isinstance(service.settings, DataSettings)
        and service.settings.encrypted
    ]


def locked(service: Service) -> Problem:
    """Return the problem of encrypted DATA that nothing opens."""
    return Problem(
        check="passphrase",
        message=f"DATA service {service.name} is encrypted: give its passphrase, or have its owner unlock it",
    )
