"""What `workflow.validate` finds: in a workflow that is drawn, and in a document that is nowhere but in the call.

A large workflow takes a second to walk, so all of it happens on threads; nothing is ever written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rnd.api.context import ApiContext, Call
from rnd.api.handlers_workflow_files import document_title, override_refusals, read_document
from rnd.api.host_paths import check_host_paths_now
from rnd.api.operate_scope import is_owner, path_refusal
from rnd.api.parameters import BadParameter
from rnd.api.rendering import JsonMembers, render
from rnd.core.planning import read_drawing, source_problems, validate
from rnd.rules.definition import build_definition, definition_to_json
from rnd.rules.strict_json import JsonObject
from rnd.rules.upload_names import uploaded_name
from rnd.rules.workflow_file import FileReading
from rnd.rules.workflow_import import (
    DrawnDocument,
    KnownServices,
    connection_place,
    draw,
    drawing_problems,
    node_place,
    placed,
)
from rnd.types.definitions import WorkflowDefinition
from rnd.types.errors import PermissionDenied, Problem
from rnd.types.ids import WorkflowId


@dataclass(frozen=True, slots=True, kw_only=True)
class _Examined:
    """What was found in a document. Without problems there is a definition, its ids being positions counted from 1."""

    drawn: DrawnDocument
    problems: tuple[Problem, ...]
    definition: WorkflowDefinition | None


async def workflow_validate(
    call: Call, *, workflow_id: WorkflowId | None = None, document: JsonObject | None = None
) -> JsonMembers:
    """Answer `workflow.validate`: every problem at once; changes nothing."""
    if document is not None and workflow_id is None:
        return await _check_document(call, document)
    if workflow_id is None or document is not None:
        raise BadParameter("workflow_id", "give either this, or a document")
    api, wanted = call.api, workflow_id
    drawing = await api.database.read(
        lambda conn: read_drawing(conn, wanted, self_peer_id=api.peer_id, data_service=api.data_service)
    )

    def found() -> JsonMembers:
        report = validate(drawing, self_peer_id=api.peer_id, config=api.config)
        return _render(report.problems, report.definition)

    return await asyncio.to_thread(found)


async def _check_document(call: Call, document: JsonObject) -> JsonMembers:
    """Say what an import of a document, and then an execution, would be refused for; without problems, also the plan."""
    read, services = await read_document(call.api, document)
    examined = await asyncio.to_thread(_examine, call, read, services)
    found = await asyncio.to_thread(_render, examined.problems, examined.definition)
    plan = None if examined.definition is None else await _plan(call.api, examined.definition, examined.drawn)
    return {**found, "plan": plan}


def _examine(call: Call, read: FileReading, services: KnownServices) -> _Examined:
    api = call.api
    drawn = draw(read, services, self_peer_id=api.peer_id)
    _, name_problems = document_title(read)
    problems = (
        *name_problems,
        *drawing_problems(
            drawn,
            {service.id: service for service in services.here.values()},
            self_peer_id=api.peer_id,
            limits=api.config.limits,
        ),
        *(Problem(check="scope", message=refusal) for refusal in override_refusals(call, drawn, services)),
        *_source_problems(call, drawn),
    )
    definition = None
    if not problems:
        definition = build_definition(drawn.nodes, drawn.connections, self_peer_id=api.peer_id)
    return _Examined(drawn=drawn, problems=problems, definition=definition)


def _source_problems(call: Call, drawn: DrawnDocument) -> list[Problem]:
    """Return which files the caller may not name, and which are not there; of the former nothing more is said."""
    problems: list[Problem] = []
    open_to_caller = []
    for connection in drawn.connections:
        refusal = None if is_owner(call) else path_refusal(call.api.config, connection.source_path)
        if refusal is None and connection.source_path is not None and uploaded_name(connection.source_path) is None:
            try:
                check_host_paths_now(call.api.config, [connection.source_path])
            except PermissionDenied as denied:
                refusal = denied.message
        if refusal is None:
            open_to_caller.append(connection)
        else:
            problems.append(Problem(check="scope", message=refusal, place=connection_place(connection.id)))
    return problems + [placed(problem) for problem in source_problems(open_to_caller, call.api.config)]


async def _plan(api: ApiContext, definition: WorkflowDefinition, drawn: DrawnDocument) -> JsonMembers:
    """Return what every executor would answer, as `workflow.plan` does, by place in the document."""
    report = await api.workflow_manager.plan_definition(definition, drawn.connections)
    names = {job.node_id: job.name for job in definition.jobs}
    jobs = [
        {
            "place": node_place(answer.node_id),
            "name": names[answer.node_id],
            "executor_peer_id": answer.executor_peer_id,
            "accepted": answer.accepted,
            "reasons": list(answer.reasons),
        }
        for answer in report.jobs
    ]
    edges = [
        {"place": connection_place(edge.connection_id), "reachable": edge.reachable, "reason": edge.reason}
        for edge in report.edges
    ]
    ok = all(answer.accepted for answer in report.jobs) and all(edge.reachable for edge in report.edges)
    return {"ok": ok, "jobs": jobs, "edges": edges}


def _render(problems: Sequence[Problem], definition: WorkflowDefinition | None) -> JsonMembers:
    return {
        "valid": not problems,
        "problems": [_render_problem(problem) for problem in problems],
        "definition": None if definition is None else definition_to_json(definition),
    }


def _render_problem(problem: Problem) -> JsonMembers:
    """Return a problem without the ids that it does not have."""
    members: JsonMembers = render(problem)
    return {name: value for name, value in members.items() if value is not None}
