"""Every statement of rnd/database finds its rows by an index, so that a full database is as quick as an empty one.

A connection that remembers its statements runs each public function of rnd/database once on a small world; then SQLite
says how it would go about each statement. A new function needs an entry in CALLS, and the test says so. A statement that
reads a growing table from end to end fails, unless ALLOWED_SCANS has the reason why that is right.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

import rnd.database
from rnd.database import (
    address_records,
    api_tokens,
    arrived_folders,
    cancelled_orders,
    data_files,
    duties,
    events,
    executor_handles,
    figures,
    grants,
    holdings,
    introductions,
    job_executions,
    job_interfaces,
    job_moves,
    job_reports,
    migrations,
    mirrors,
    node_facts,
    offered_services,
    outbox,
    peer_invites,
    peers,
    restoring,
    results,
    retention,
    sealed_secrets,
    service_revisions,
    transfers,
    uploads,
    workflow_connections,
    workflow_executions,
    workflow_jobs,
    workflow_nodes,
    workflow_ui_state,
    workflows,
)
from rnd.database.data_files import DataFile, DataKey
from rnd.database.job_moves import JobEnd, NewJob
from rnd.database.offered_services import NewService
from rnd.database.results import NewResult
from rnd.database.transfers import NewTransfer
from rnd.types.config import Limits
from rnd.types.definitions import InterfacePeerPlan, InterfacePlan, JobPlan, WorkflowDefinition
from rnd.types.enums import (
    EventType,
    ExecutionConstraint,
    ExecutionPhase,
    ExecutionStatus,
    InterfaceType,
    JobStatus,
    MountFunction,
    PeerState,
    Scope,
    SecretPurpose,
    ServiceStatus,
    ServiceType,
    TransferDirection,
    TransferStatus,
    Verb,
)
from rnd.types.errors import RndError
from rnd.types.executions import FileEntry, JobExecution, WorkflowExecution
from rnd.types.ids import (
    SELF_PEER_JOB,
    ConnectionId,
    ExecutionUid,
    InterfacePeerId,
    JobExecutionId,
    NodeId,
    PeerId,
    ResultId,
    TransferId,
)
from rnd.types.orders import ExecutionOrder, JobRequest, JobStatusReport, Route
from rnd.types.peers import AddressRecord, PeerInvite
from rnd.types.services import DataSettings, Service
from rnd.types.workflows import Workflow, WorkflowConnection, WorkflowNode, WorkflowUIState

ME: Final = PeerId("rnme")
OTHER: Final = PeerId("rnother")
DELIVERY: Final = TransferId("t1")

SMALL_TABLES: Final = {
    "node_facts": "a handful of facts",
    "offered_services": "made by hand",
    "uploads": "made by hand and dropped after a day",
    "api_tokens": "made by hand",
    "sealed_secrets": "one a service and running execution",
    "workflows": "made by hand",
    "sqlite_sequence": "one row a table",
    "doomed_folders": "emptied within a tick",
    "json_each": "what the caller gave",
    "peers": "a hundred, each by the owner's word",
    "grants": "made by hand",
    "peer_invites": "made by hand and dropped after minutes",
}

ALLOWED_SCANS: Final[dict[tuple[str, str], str]] = {
    ("workflow_executions.count_by_status", "workflow_executions"): "counts all of them, from an index alone",
    ("job_executions.count_by_status", "job_executions"): "counts all of them, from an index alone",
    ("figures.count_jobs", "job_executions"): "counts all of them, from an index alone",
    ("figures.count_letters", "outbox"): "counts all of it, from an index alone",
    ("address_records.drop_strangers", "address_records"): "is what keeps them few, once a while",
    (
        "introductions.list_introduced_peers",
        "introductions",
    ): "asks for all that hold; the others are dropped each tick",
    ("outbox.newest_letters", "outbox"): "asks for all of it, once a start and a tick, from an index alone",
    ("arrived_folders.list_all", "arrived_folders"): "asks for all of it, once a start",
    ("retention.list_unneeded_executions", "workflow_executions"): "walks the ids that are kept, from an index alone",
}

# Modules without statements about rows of their own.
NO_CALLS: Final = {
    "connection",
    "consequences",
    "faults",
    "migrations",
    "opening",
    "news",
    "owing",
    "rows",
    "service_settings",
}


class RememberingConnection(sqlite3.Connection):
    """A connection that keeps every statement and its parameters."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.statements: list[tuple[str, Any]] = []

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.statements.append((sql, parameters))
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        rows = list(parameters)
        self.statements.extend((sql, row) for row in rows[:1])
        return super().executemany(sql, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One of everything, for the calls to work on."""

    now: datetime
    later: datetime
    workflow: Workflow
    node: WorkflowNode
    connection: WorkflowConnection
    service: Service
    execution: WorkflowExecution
    definition: WorkflowDefinition
    request: JobRequest
    job: JobExecution


def plan(node_id: NodeId, service: Service) -> JobPlan:
    peer = InterfacePeerPlan(
        connection_id=ConnectionId(1),
        peer_id=ME,
        peer_workflow_node_id=None,
        peer_job_execution_id=SELF_PEER_JOB,
        peer_interface_type=InterfaceType.STDIN,
        peer_path="/input",
        peer_file_name=None,
        peer_mount_function=MountFunction.OUTPUT,
    )
    return JobPlan(
        node_id=node_id,
        name="job",
        service_id=service.id,
        service_name=service.name,
        service_type=service.service_type,
        executor_peer_id=ME,
        execution_constraint=ExecutionConstraint.NONE,
        constraint_detail=(),
        entrypoint=None,
        cmd=None,
        interfaces=(InterfacePlan(interface_type=InterfaceType.STDIN, path="/input", interface_peers=(peer,)),),
    )


def new_transfer(world: World, transfer_id: TransferId) -> NewTransfer:
    return NewTransfer(
        transfer_id=transfer_id,
        direction=TransferDirection.LOCAL,
        workflow_execution_id=world.execution.id,
        ordering_peer_id=ME,
        execution_uid=world.execution.execution_uid,
        connection_id=ConnectionId(len(transfer_id)),
        source_peer_id=ME,
        source_job_execution_id=world.job.id,
        dest_peer_id=ME,
        dest_job_execution_id=SELF_PEER_JOB,
        source_peer_row_id=InterfacePeerId(1),
        dest_peer_row_id=None,
        result_id=ResultId(1),
        source_path=None,
    )


NO_DUTY = duties.OpenDuty(
    job_execution_id=SELF_PEER_JOB,
    interface_peer_id=None,
    result_id=ResultId(1),
    workflow_execution_id=None,
    is_done=False,
)


def suppressed(call: Callable[[], object]) -> None:
    """Call what fails after its statement for want of a row."""
    with suppress(TypeError):
        call()


def get_result_file(conn: sqlite3.Connection, world: World) -> None:
    """Look for a file that has come home; before that nothing is looked for."""
    results.mark_arrived(conn, ResultId(1), [ENTRY])
    results.get_result_file(
        conn,
        execution_id=world.execution.id,
        node_id=world.node.id,
        connection_id=ConnectionId(1),
        path=ENTRY.relative_path,
    )


def new_report(world: World) -> JobStatusReport:
    return JobStatusReport(
        execution_uid=world.execution.execution_uid,
        node_id=world.node.id,
        job_execution_id=world.job.id,
        attempt=2,
        seq=9,
        status=JobStatus.RUNNING,
        error_message=None,
        exit_code=None,
        exit_signal=None,
        started_at=None,
        ended_at=None,
        duties=(),
    )


def new_result(world: World, connection_id: int) -> NewResult:
    return NewResult(
        workflow_execution_id=world.execution.id,
        node_id=world.node.id,
        connection_id=ConnectionId(connection_id),
        source_peer_id=ME,
        source_job_execution_id=world.job.id,
        directory="d",
    )


def new_service(name: str) -> NewService:
    return NewService(
        name=name,
        service_type=ServiceType.DATA,
        interfaces=(),
        settings=DataSettings(file_count=0, size_bytes=0, manifest_sha256=""),
    )


ENTRY: Final = FileEntry(relative_path="a", size_bytes=1, sha256="ab")
SECRET: Final = SecretPurpose.EXECUTION_DATA_KEY
END: Final = JobEnd(error="why", exit_code=1)

Call = Callable[[sqlite3.Connection, World], object]
CALLS: Final[dict[str, Call]] = {
    "node_facts.find_fact": lambda c, w: node_facts.find_fact(c, "name"),
    "node_facts.set_fact": lambda c, w: node_facts.set_fact(c, "name", "x"),
    "node_facts.delete_fact": lambda c, w: node_facts.delete_fact(c, "name"),
    "events.record_event": lambda c, w: events.record_event(
        c, EventType.JOB_UPDATED, {}, execution_id=w.execution.id, now=w.now
    ),
    "events.record_events": lambda c, w: events.record_events(
        c, EventType.JOB_UPDATED, [({}, w.execution.id)], now=w.now
    ),
    "events.list_events": lambda c, w: (
        events.list_events(c, after_seq=1, limit=9),
        events.list_events(c, after_seq=1, types=[EventType.JOB_UPDATED], limit=9),
        events.list_events(c, after_seq=1, execution_id=w.execution.id, limit=9),
        events.list_events(c, after_seq=1, types=[EventType.JOB_UPDATED], execution_id=w.execution.id, limit=9),
    ),
    "events.oldest_seq": lambda c, w: events.oldest_seq(c),
    "events.newest_seq": lambda c, w: events.newest_seq(c),
    "events.prune_events": lambda c, w: events.prune_events(c, 1),
    "workflows.create_workflow": lambda c, w: workflows.create_workflow(c, name="x", now=w.now),
    "workflows.get_workflow": lambda c, w: workflows.get_workflow(c, w.workflow.id),
    "workflows.list_workflows": lambda c, w: workflows.list_workflows(c, limit=9, after_id=1),
    "workflows.count_workflows": lambda c, w: workflows.count_workflows(c),
    "workflows.update_workflow": lambda c, w: workflows.update_workflow(c, w.workflow, now=w.now),
    "workflows.set_definition": lambda c, w: workflows.set_definition(c, w.workflow.id, "{}", now=w.now),
    "workflows.touch_workflow": lambda c, w: workflows.touch_workflow(c, w.workflow.id, "x", now=w.now),
    "workflows.delete_workflow": lambda c, w: (
        workflow_executions.mark_ended(c, w.execution.id, ExecutionStatus.FAILED, "why", now=w.now),
        workflows.delete_workflow(c, w.workflow.id, now=w.now),
    ),
    "workflow_ui_state.get_ui_state": lambda c, w: workflow_ui_state.get_ui_state(c, w.workflow.id),
    "workflow_ui_state.set_ui_state": lambda c, w: workflow_ui_state.set_ui_state(
        c, WorkflowUIState(workflow_id=w.workflow.id), now=w.now
    ),
    "workflow_ui_state.add_ui_state": lambda c, w: workflow_ui_state.add_ui_state(
        c, WorkflowUIState(workflow_id=w.workflow.id)
    ),
    "workflow_nodes.add_nodes": lambda c, w: workflow_nodes.add_nodes(c, [replace(w.node, name="another")]),
    "workflow_nodes.add_node": lambda c, w: workflow_nodes.add_node(c, w.node, now=w.now),
    "workflow_nodes.get_node": lambda c, w: workflow_nodes.get_node(c, w.workflow.id, w.node.id),
    "workflow_nodes.list_workflows_of_service": lambda c, w: workflow_nodes.list_workflows_of_service(
        c, w.service.id, peer_id=ME
    ),
    "workflow_nodes.list_nodes": lambda c, w: workflow_nodes.list_nodes(c, w.workflow.id),
    "workflow_nodes.page_nodes": lambda c, w: workflow_nodes.page_nodes(c, w.workflow.id, limit=9),
    "workflow_nodes.count_nodes": lambda c, w: workflow_nodes.count_nodes(c, w.workflow.id),
    "workflow_nodes.update_node": lambda c, w: workflow_nodes.update_node(c, w.node, now=w.now),
    "workflow_nodes.delete_node": lambda c, w: workflow_nodes.delete_node(c, w.workflow.id, w.node.id, now=w.now),
    "workflow_connections.add_connections": lambda c, w: workflow_connections.add_connections(c, [w.connection]),
    "workflow_connections.add_connection": lambda c, w: workflow_connections.add_connection(c, w.connection, now=w.now),
    "workflow_connections.get_connection": lambda c, w: workflow_connections.get_connection(
        c, w.workflow.id, w.connection.id
    ),
    "workflow_connections.list_connections": lambda c, w: workflow_connections.list_connections(c, w.workflow.id),
    "workflow_connections.page_connections": lambda c, w: workflow_connections.page_connections(
        c, w.workflow.id, limit=9
    ),
    "workflow_connections.count_connections": lambda c, w: workflow_connections.count_connections(c, w.workflow.id),
    "workflow_connections.update_connection": lambda c, w: workflow_connections.update_connection(
        c, w.connection, now=w.now
    ),
    "workflow_connections.delete_connection": lambda c, w: workflow_connections.delete_connection(
        c, w.workflow.id, w.connection.id, now=w.now
    ),
    "offered_services.create_service": lambda c, w: offered_services.create_service(c, new_service("x"), now=w.now),
    "offered_services.get_service": lambda c, w: offered_services.get_service(c, w.service.id),
    "offered_services.find_service_by_name": lambda c, w: offered_services.find_service_by_name(c, "data"),
    "offered_services.list_services": lambda c, w: offered_services.list_services(
        c, service_type=ServiceType.DATA, status=ServiceStatus.ACTIVE, limit=9
    ),
    "offered_services.search_services": lambda c, w: offered_services.search_services(c, query="a", limit=9),
    "offered_services.update_service": lambda c, w: offered_services.update_service(c, w.service, now=w.now),
    "offered_services.set_status": lambda c, w: offered_services.set_status(
        c, w.service.id, ServiceStatus.INACTIVE, now=w.now
    ),
    "service_revisions.keep_revision": lambda c, w: service_revisions.keep_revision(c, w.service.id),
    "service_revisions.get_ordered": lambda c, w: service_revisions.get_ordered(c, w.service.id, 1),
    "offered_services.delete_service": lambda c, w: offered_services.delete_service(
        c, w.service.id, self_peer_id=PeerId("rnother"), now=w.now
    ),
    "data_files.add_data_files": lambda c, w: data_files.add_data_files(
        c, w.service.id, [DataFile(entry=ENTRY, stored_name="0")]
    ),
    "data_files.read_data_files": lambda c, w: list(data_files.read_data_files(c, w.service.id)),
    "data_files.set_data_key": lambda c, w: data_files.set_data_key(
        c, w.service.id, DataKey(header="{}", wrapped_key=b"")
    ),
    "data_files.find_data_key": lambda c, w: data_files.find_data_key(c, w.service.id),
    "sealed_secrets.set_secret": lambda c, w: sealed_secrets.set_secret(
        c, SECRET, b"", service_id=w.service.id, execution_id=w.execution.id
    ),
    "sealed_secrets.find_secret": lambda c, w: sealed_secrets.find_secret(
        c, SECRET, service_id=w.service.id, execution_id=w.execution.id, now=w.now
    ),
    "sealed_secrets.list_service_secrets": lambda c, w: sealed_secrets.list_service_secrets(c, w.service.id),
    "sealed_secrets.find_registry_auth": lambda c, w: sealed_secrets.find_registry_auth(c, w.service.id),
    "sealed_secrets.delete_secret": lambda c, w: sealed_secrets.delete_secret(c, SECRET, service_id=w.service.id),
    "sealed_secrets.delete_execution_secrets": lambda c, w: sealed_secrets.delete_execution_secrets(c, w.execution.id),
    "sealed_secrets.delete_expired_secrets": lambda c, w: sealed_secrets.delete_expired_secrets(c, now=w.now),
    "uploads.add_upload": lambda c, w: uploads.add_upload(c, name="b", size_bytes=1, sha256="", now=w.now),
    "uploads.get_upload": lambda c, w: uploads.get_upload(c, "a"),
    "uploads.list_uploads": lambda c, w: uploads.list_uploads(c, limit=9),
    "uploads.touch_upload": lambda c, w: uploads.touch_upload(c, "a", now=w.now),
    "uploads.delete_upload": lambda c, w: uploads.delete_upload(c, "a"),
    "uploads.give_up_upload": lambda c, w: uploads.give_up_upload(c, "a"),
    "uploads.delete_unused_uploads": lambda c, w: uploads.delete_unused_uploads(c, before=w.now),
    "api_tokens.create_token": lambda c, w: api_tokens.create_token(
        c, name="t", scope=Scope.READ, token_sha256="ab", now=w.now
    ),
    "api_tokens.find_token": lambda c, w: api_tokens.find_token(c, "ab", now=w.now),
    "api_tokens.list_tokens": lambda c, w: api_tokens.list_tokens(c, limit=9),
    "api_tokens.revoke_token": lambda c, w: api_tokens.revoke_token(c, 1, now=w.now),
    "workflow_executions.create_execution": lambda c, w: workflow_executions.create_execution(
        c, order(w.workflow, "2"), now=w.now
    ),
    "workflow_executions.get_execution": lambda c, w: workflow_executions.get_execution(c, w.execution.id),
    "workflow_executions.get_bounds": lambda c, w: workflow_executions.get_bounds(c, w.execution.id),
    "workflow_executions.list_executions": lambda c, w: [
        workflow_executions.list_executions(
            c, workflow_id=workflow_id, status=status, limit=9, after_id=1, newest_first=newest_first
        )
        for workflow_id in (None, w.workflow.id)
        for status in (None, ExecutionStatus.FAILED)
        for newest_first in (False, True)
    ],
    "workflow_jobs.count_jobs": lambda c, w: workflow_jobs.count_jobs(c, [w.execution.id]),
    "workflow_executions.list_open_executions": lambda c, w: workflow_executions.list_open_executions(c),
    "workflow_executions.list_overdue_executions": lambda c, w: workflow_executions.list_overdue_executions(
        c, now=w.now
    ),
    "workflow_executions.list_unfinished_cancels": lambda c, w: workflow_executions.list_unfinished_cancels(c),
    "workflow_executions.count_open": lambda c, w: workflow_executions.count_open(c),
    "workflow_executions.list_deleted_with_open_jobs": lambda c, w: workflow_executions.list_deleted_with_open_jobs(c),
    "workflow_executions.list_unsettled_executions": lambda c, w: workflow_executions.list_unsettled_executions(c),
    "workflow_executions.count_by_status": lambda c, w: workflow_executions.count_by_status(c),
    "workflow_executions.mark_running": lambda c, w: workflow_executions.mark_running(c, w.execution.id, now=w.now),
    "workflow_executions.set_phase": lambda c, w: (
        workflow_executions.mark_running(c, w.execution.id, now=w.now),
        workflow_executions.set_phase(c, w.execution.id, ExecutionPhase.STARTING),
    ),
    "workflow_executions.mark_ended": lambda c, w: workflow_executions.mark_ended(
        c, w.execution.id, ExecutionStatus.FAILED, "why", now=w.now
    ),
    "workflow_executions.settle_by_hand": lambda c, w: workflow_executions.settle_by_hand(c, w.execution, now=w.now),
    "workflow_executions.forget_secrets": lambda c, w: workflow_executions.forget_secrets(c, w.execution.id),
    "workflow_executions.request_cancel": lambda c, w: workflow_executions.request_cancel(
        c, w.execution.id, reason="why", cancel_by=w.later, now=w.now
    ),
    "workflow_jobs.create_workflow_jobs": lambda c, w: workflow_jobs.create_workflow_jobs(c, w.execution, w.definition),
    "workflow_jobs.list_workflow_jobs": lambda c, w: workflow_jobs.list_workflow_jobs(c, w.execution.id),
    "workflow_executions.get_state": lambda c, w: workflow_executions.get_state(c, w.execution.id),
    "workflow_executions.cancel_reason": lambda c, w: workflow_executions.cancel_reason(c, w.execution.id),
    "workflow_jobs.find_uncreated_job": lambda c, w: workflow_jobs.find_uncreated_job(c, w.execution.id, w.node.id),
    "workflow_jobs.fail_pending_jobs": lambda c, w: workflow_jobs.fail_pending_jobs(c, w.execution.id, "why"),
    "workflow_jobs.note_wait": lambda c, w: workflow_jobs.note_wait(c, w.job.workflow_job_id, "why"),
    "workflow_jobs.find_wait": lambda c, w: workflow_jobs.find_wait(c, w.job.workflow_job_id),
    "workflow_jobs.execution_progress": lambda c, w: workflow_jobs.execution_progress(c, w.execution.id, now=w.now),
    "job_moves.create_jobs": lambda c, w: (
        job_moves.create_jobs(c, [new_job(w.request)], now=w.now),
        job_moves.create_jobs(c, [new_job(replace(w.request, execution_uid=ExecutionUid("x")))], now=w.now),
    ),
    "job_executions.get_job": lambda c, w: job_executions.get_job(c, w.job.id),
    "job_executions.find_job": lambda c, w: job_executions.find_job(c, execution_id=w.execution.id, node_id=w.node.id),
    "job_executions.get_outputs_job": lambda c, w: (
        job_executions.get_outputs_job(c, replace(w.job, result=f"reused:{w.execution.id}")),
        job_executions.get_outputs_job(
            c, replace(w.job, workflow_execution_id=None, result=f"reused:{w.execution.execution_uid}")
        ),
    ),
    "job_executions.find_order": lambda c, w: job_executions.find_order(
        c, orderer=ME, execution_uid=w.execution.execution_uid, node_id=w.node.id, executor=ME
    ),
    "job_executions.request_digest_of": lambda c, w: job_executions.request_digest_of(c, w.job.id),
    "job_executions.count_open_of_orderer": lambda c, w: job_executions.count_open_of_orderer(c, ME),
    "job_executions.list_overdue_orders": lambda c, w: job_executions.list_overdue_orders(c, executor=ME, now=w.now),
    "job_executions.list_jobs": lambda c, w: [
        job_executions.list_jobs(
            c, execution_id=execution_id, status=status, limit=9, after_id=1, newest_first=newest_first
        )
        for execution_id in (None, w.execution.id)
        for status in (None, JobStatus.ERRORED)
        for newest_first in (False, True)
    ],
    "job_executions.list_jobs_of_execution": lambda c, w: job_executions.list_jobs_of_execution(c, w.execution.id),
    "job_executions.list_open_jobs_of_execution": lambda c, w: job_executions.list_open_jobs_of_execution(
        c, w.execution.id
    ),
    "job_executions.has_open_jobs": lambda c, w: job_executions.has_open_jobs(c, w.execution.id),
    "job_executions.list_running": lambda c, w: job_executions.list_running(c, executor=ME),
    "job_executions.list_ready_programs": lambda c, w: job_executions.list_ready_programs(
        c, executor=ME, limit=9, now=w.now
    ),
    "job_executions.list_ready_data": lambda c, w: job_executions.list_ready_data(c, executor=ME, limit=9),
    "job_executions.next_attempt_at": lambda c, w: job_executions.next_attempt_at(c, executor=ME),
    "job_executions.list_expired": lambda c, w: job_executions.list_expired(c, executor=ME, now=w.now),
    "job_executions.list_waiting": lambda c, w: job_executions.list_waiting(c, executor=ME),
    "job_executions.list_unsettled": lambda c, w: job_executions.list_unsettled(c),
    "job_executions.list_taken_away": lambda c, w: job_executions.list_taken_away(c, executor=ME),
    "job_executions.count_by_status": lambda c, w: job_executions.count_by_status(c),
    "job_moves.mark_started_elsewhere": lambda c, w: job_moves.mark_started_elsewhere(c, w.job.id),
    "job_moves.mark_started": lambda c, w: job_moves.mark_started(c, [w.job.id]),
    "job_moves.mark_all_ready": lambda c, w: make_ready(c, w),
    "job_moves.mark_all_running": lambda c, w: make_running(c, w),
    "job_executions.standing_of": lambda c, w: job_executions.standing_of(c, [w.job.id]),
    "offered_services.offers_containers": lambda c, _: offered_services.offers_containers(c),
    "job_moves.record_images": lambda c, w: job_moves.record_images(c, [(w.job.id, "sha256:1")]),
    "job_moves.mark_pulling": lambda c, w: (
        make_running(c, w),
        job_moves.mark_pulling(c, w.job, pull_by=w.later),
    ),
    "job_moves.mark_pulled": lambda c, w: (
        make_running(c, w),
        job_moves.mark_pulled(c, w.job, run_by=w.later),
    ),
    "job_moves.mark_ready_again": lambda c, w: (
        make_running(c, w),
        job_moves.mark_ready_again(c, w.job.id, error="why", not_before=w.later, now=w.now),
    ),
    "job_moves.mark_completed": lambda c, w: (
        make_running(c, w),
        job_moves.mark_completed(c, w.job.id, exit_code=0, now=w.now),
    ),
    "job_moves.mark_errored": lambda c, w: job_moves.mark_errored(c, w.job.id, END, now=w.now),
    "job_moves.mark_cancelled": lambda c, w: job_moves.mark_cancelled(c, w.job.id, END, now=w.now),
    "job_moves.mark_reused": lambda c, w: job_moves.mark_reused(
        c, w.job.id, origin=w.execution.id, service_revision=1, image_digest=None, now=w.now
    ),
    "job_moves.mark_reused_started": lambda c, w: job_moves.mark_reused_started(c, [w.job.id]),
    "job_moves.mirror_status": lambda c, w: job_moves.mirror_status(
        c,
        w.job.id,
        JobStatus.RUNNING,
        attempt=1,
        error=None,
        exit_code=None,
        exit_signal=None,
        started_at=None,
        ended_at=None,
        now=w.now,
    ),
    "job_moves.request_cancel": lambda c, w: job_moves.request_cancel(c, w.job.id, reason="why", now=w.now),
    "job_executions.not_before": lambda c, w: job_executions.not_before(c, w.job.id),
    "job_executions.cancel_reason": lambda c, w: job_executions.cancel_reason(c, w.job.id),
    "job_moves.settle_by_hand": lambda c, w: job_moves.settle_by_hand(c, w.job, now=w.now),
    "job_interfaces.create_interfaces": lambda c, w: job_interfaces.create_interfaces(
        c, [(w.job.id, w.request.plan.interfaces)]
    ),
    "job_interfaces.list_interfaces": lambda c, w: job_interfaces.list_interfaces(c, w.job.id),
    "job_interfaces.list_interfaces_of": lambda c, w: job_interfaces.list_interfaces_of(c, [w.job.id]),
    "job_interfaces.set_routes": lambda c, w: job_interfaces.set_routes(
        c,
        [
            (
                w.job.id,
                [
                    Route(
                        connection_id=ConnectionId(1),
                        peer_workflow_job_id=None,
                        peer_job_execution_id=JobExecutionId(1),
                    )
                ],
            )
        ],
    ),
    "job_interfaces.has_other_routes": lambda c, w: job_interfaces.has_other_routes(
        c, w.job.id, [Route(connection_id=ConnectionId(1), peer_workflow_job_id=None, peer_job_execution_id=w.job.id)]
    ),
    "job_interfaces.acknowledge_duty": lambda c, w: job_interfaces.acknowledge_duty(c, InterfacePeerId(1)),
    "job_interfaces.acknowledge_inputs": lambda c, w: job_interfaces.acknowledge_inputs(c, w.job.id),
    "job_interfaces.open_inputs": lambda c, w: job_interfaces.open_inputs(c, w.job.id),
    "job_interfaces.find_open_input": lambda c, w: job_interfaces.find_open_input(c, w.job.id),
    "job_interfaces.owes_deliveries": lambda c, w: job_interfaces.owes_deliveries(c, w.job.id),
    "job_interfaces.find_end": lambda c, w: job_interfaces.find_end(
        c, job_execution_id=w.job.id, connection_id=ConnectionId(1)
    ),
    "job_interfaces.get_peer": lambda c, w: job_interfaces.get_peer(c, InterfacePeerId(1)),
    "job_interfaces.list_unserved_duties": lambda c, w: job_interfaces.list_unserved_duties(c, w.job.id),
    "executor_handles.record_intents": lambda c, w: executor_handles.record_intents(
        c, [w.job], boot_id="boot", now=w.now
    ),
    "executor_handles.boot_of_intent": lambda c, w: executor_handles.boot_of_intent(c, w.job),
    "job_reports.post_report": lambda c, w: job_reports.post_report(c, w.job.id, now=w.now),
    "job_reports.list_reports": lambda c, w: job_reports.list_reports(
        c, orderer=ME, execution_uid=w.execution.execution_uid, node_ids=[w.node.id]
    ),
    "mirrors.create_mirrors": lambda c, w: mirrors.create_mirrors(c, [], now=w.now),
    "mirrors.find_mirror": lambda c, w: mirrors.find_mirror(
        c, self_peer_id=ME, execution_uid=w.execution.execution_uid, node_id=w.node.id, executor=ME
    ),
    "mirrors.find_by_workflow_job": lambda c, w: mirrors.find_by_workflow_job(c, 1),
    "mirrors.list_open_orders": lambda c, w: mirrors.list_open_orders(c, self_peer_id=ME),
    "mirrors.list_neighbours": lambda c, w: mirrors.list_neighbours(c, ME, self_peer_id=ME, limit=10),
    "mirrors.list_open_of_execution": lambda c, w: mirrors.list_open_of_execution(c, w.execution.id, self_peer_id=ME),
    "mirrors.take_report": lambda c, w: mirrors.take_report(c, w.job, new_report(w), now=w.now),
    "mirrors.acknowledge": lambda c, w: mirrors.acknowledge(c, w.job, [ConnectionId(1)]),
    "mirrors.ask_to_cancel": lambda c, w: mirrors.ask_to_cancel(c, w.job, "why", now=w.now),
    "mirrors.post_cancel": lambda c, w: mirrors.post_cancel(
        c, ME, w.execution.execution_uid, w.node.id, "why", now=w.now
    ),
    "duties.find_duty": lambda c, w: [
        duties.find_duty(
            c,
            ME,
            self_peer_id=ME,
            orderer=ME,
            execution_uid=w.execution.execution_uid,
            connection_id=connection_id,
        )
        for connection_id in (ConnectionId(1), ConnectionId(404))
    ],
    "duties.is_unstarted": lambda c, w: duties.is_unstarted(
        c,
        ME,
        self_peer_id=ME,
        orderer=ME,
        execution_uid=w.execution.execution_uid,
        connection_id=ConnectionId(1),
    ),
    "duties.result_directory": lambda c, w: suppressed(lambda: duties.result_directory(c, NO_DUTY)),
    "duties.list_expected_senders": lambda c, w: duties.list_expected_senders(c, self_peer_id=ME),
    "workflow_jobs.is_awaited": lambda c, w: workflow_jobs.is_awaited(
        c, execution_uid=w.execution.execution_uid, node_id=w.node.id, executor=ME
    ),
    "workflow_jobs.list_pending_elsewhere": lambda c, w: workflow_jobs.list_pending_elsewhere(
        c, w.execution.id, self_peer_id=ME
    ),
    "holdings.tightest_bound": lambda c, w: holdings.tightest_bound(
        c, PeerId("p"), w.execution.execution_uid, self_peer_id=PeerId("q"), limits=Limits()
    ),
    "holdings.bounds_of": lambda c, w: holdings.bounds_of(
        c, PeerId("p"), w.execution.execution_uid, self_peer_id=PeerId("q"), limits=Limits()
    ),
    "holdings.held_by_delivery": lambda c, w: holdings.held_by_delivery(
        c, PeerId("p"), w.execution.execution_uid, ConnectionId(1)
    ),
    "holdings.held_for_peer": lambda c, w: holdings.held_for_peer(c, PeerId("p")),
    "holdings.held_by_execution": lambda c, w: holdings.held_by_execution(c, PeerId("p"), w.execution.execution_uid),
    "holdings.count_jobs_of_orderer": lambda c, w: holdings.count_jobs_of_orderer(c, PeerId("p")),
    "holdings.set_left_bytes": lambda c, w: holdings.set_left_bytes(c, {JobExecutionId(404): 1}),
    "restoring.end_open_executions": lambda c, w: restoring.end_open_executions(c, "why", now=w.now),
    "restoring.end_open_jobs": lambda c, w: restoring.end_open_jobs(c, "why", executor=ME, now=w.now),
    "restoring.leap_ids": lambda c, w: restoring.leap_ids(c, 9),
    "restoring.forget_files": lambda c, w: restoring.forget_files(c),
    "retention.list_unneeded_orders": lambda c, w: retention.list_unneeded_orders(c, now=w.now, limit=9),
    "retention.forget_order": lambda c, w: retention.forget_order(c, JobExecutionId(404), folder="f", now=w.now),
    "results.mark_failed_of_execution": lambda c, w: results.mark_failed_of_execution(c, w.execution.id, "why"),
    "job_executions.list_open_of_orderer": lambda c, w: job_executions.list_open_of_orderer(c, ME),
    "arrived_folders.knows_any": lambda c, w: arrived_folders.knows_any(c, sender=ME, orderer=ME),
    "arrived_folders.list_folders": lambda c, w: arrived_folders.list_folders(c, sender=ME, orderer=ME),
    "arrived_folders.list_all": lambda c, w: arrived_folders.list_all(c),
    "arrived_folders.remember": lambda c, w: arrived_folders.remember(
        c, "f", sender=ME, orderer=ME, entry_count=1, now=w.now
    ),
    "arrived_folders.forget": lambda c, w: arrived_folders.forget(c, [1]),
    "transfers.put_back": lambda c, w: transfers.put_back(c, DELIVERY, "why", now=w.now),
    "transfers.open_incoming": lambda c, w: transfers.open_incoming(
        c, replace(new_transfer(w, TransferId("incoming")), direction=TransferDirection.INCOMING), now=w.now
    ),
    "outbox.post": lambda c, w: outbox.post(c, ME, "topic", "key", {}, now=w.now),
    "figures.count_jobs": lambda c, w: figures.count_jobs(c),
    "figures.count_letters": lambda c, w: figures.count_letters(c),
    "figures.count_allowed_peers": lambda c, w: figures.count_allowed_peers(c),
    "figures.count_ended_executions": lambda c, w: figures.count_ended_executions(c, after_seq=0, to_seq=9),
    "figures.count_ended_jobs": lambda c, w: figures.count_ended_jobs(c, after_seq=0, to_seq=9),
    "figures.sum_ended_deliveries": lambda c, w: figures.sum_ended_deliveries(c, after_seq=0, to_seq=9),
    "figures.list_queue_moves": lambda c, w: figures.list_queue_moves(c, after_seq=0, to_seq=9),
    "figures.transfer_rates": lambda c, w: figures.transfer_rates(c),
    "outbox.list_letters": lambda c, w: outbox.list_letters(c, ME, limit=9),
    "outbox.newest_letters": lambda c, w: outbox.newest_letters(c),
    "outbox.strike_out": lambda c, w: outbox.strike_out(c, 1),
    "outbox.note_failure": lambda c, w: outbox.note_failure(c, 1, "why"),
    "outbox.drop_expired": lambda c, w: outbox.drop_expired(c, now=w.now),
    "outbox.drop_letters": lambda c, w: outbox.drop_letters(c, OTHER),
    "peers.add_peer": lambda c, w: peers.add_peer(
        c, PeerId("rnthird"), self_peer_id=ME, state=PeerState.ALLOWED, now=w.now
    ),
    "peers.pair_peer": lambda c, w: peers.pair_peer(c, OTHER, self_peer_id=ME, name="x", now=w.now),
    "peers.find_peer": lambda c, w: peers.find_peer(c, OTHER),
    "peers.get_peer": lambda c, w: peers.get_peer(c, OTHER),
    "peers.require_room": lambda c, w: peers.require_room(c, OTHER, limit=100),
    "peers.list_peers": lambda c, w: peers.list_peers(c, state=PeerState.ALLOWED),
    "peers.page_peers": lambda c, w: peers.page_peers(c, state=PeerState.ALLOWED, limit=9, after_id=1),
    "peers.set_state": lambda c, w: peers.set_state(c, OTHER, PeerState.DENIED, now=w.now),
    "peers.rename_peer": lambda c, w: peers.rename_peer(c, OTHER, "x", now=w.now),
    "peers.set_addresses": lambda c, w: peers.set_addresses(c, OTHER, ["h:1"], now=w.now),
    "peers.touch_seen": lambda c, w: peers.touch_seen(c, OTHER, instance_id="1", name="x", now=w.now),
    "peers.remove_peer": lambda c, w: peers.remove_peer(c, OTHER, now=w.now),
    "address_records.store_record": lambda c, w: address_records.store_record(
        c,
        AddressRecord(peer_id=OTHER, addresses=("192.0.2.1:1",), issued_at_ms=1, signature=""),
        told_by=OTHER,
        now=w.now,
    ),
    "address_records.find_record": lambda c, w: address_records.find_record(c, OTHER),
    "address_records.newest_addresses": lambda c, w: address_records.newest_addresses(c, OTHER),
    "address_records.forget_record": lambda c, w: address_records.forget_record(c, OTHER),
    "address_records.drop_strangers_told_by": lambda c, w: address_records.drop_strangers_told_by(c, OTHER, keep=1),
    "address_records.drop_strangers": lambda c, w: address_records.drop_strangers(c, received_before=w.now),
    "grants.add_grant": lambda c, w: grants.add_grant(
        c, peer_id=OTHER, service_id=w.service.id, verbs=[Verb.ORDER], now=w.now
    ),
    "grants.list_grants_for": lambda c, w: grants.list_grants_for(c, OTHER),
    "grants.page_grants": lambda c, w: grants.page_grants(c, peer_id=OTHER, service_id=w.service.id, limit=9),
    "grants.remove_grant": lambda c, w: grants.remove_grant(c, 1),
    "grants.forget_grants_of": lambda c, w: grants.forget_grants_of(c, OTHER),
    "peer_invites.create_invite": lambda c, w: new_invite(c, w),
    "peer_invites.find_live": lambda c, w: peer_invites.find_live(c, "i", peer_id=OTHER, now=w.now),
    "peer_invites.has_live": lambda c, w: peer_invites.has_live(c, peer_id=OTHER, now=w.now),
    "peer_invites.count_failed_try": lambda c, w: peer_invites.count_failed_try(c, "i"),
    "peer_invites.use_invite": lambda c, w: (
        new_invite(c, w),
        peer_invites.use_invite(c, "i", peer_id=OTHER, now=w.now),
    ),
    "peer_invites.forget_used_by": lambda c, w: peer_invites.forget_used_by(c, OTHER),
    "peer_invites.drop_expired": lambda c, w: peer_invites.drop_expired(c, now=w.now),
    "introductions.introduce": lambda c, w: introductions.introduce(c, w.job.id, [OTHER], valid_until=w.later),
    "introductions.set_end": lambda c, w: introductions.set_end(c, w.job.id, valid_until=w.later),
    "introductions.is_introduced": lambda c, w: introductions.is_introduced(c, OTHER, now=w.now),
    "introductions.is_introduced_by": lambda c, w: introductions.is_introduced_by(c, ME, OTHER, now=w.now),
    "introductions.count_introduced_by": lambda c, w: introductions.count_introduced_by(c, OTHER, now=w.now),
    "introductions.list_introductions": lambda c, w: introductions.list_introductions(c, OTHER, now=w.now),
    "introductions.list_introduced_peers": lambda c, w: introductions.list_introduced_peers(c, now=w.now),
    "introductions.forget_peer": lambda c, w: introductions.forget_peer(c, OTHER),
    "introductions.drop_expired": lambda c, w: introductions.drop_expired(c, now=w.now),
    "cancelled_orders.add_tombstone": lambda c, w: cancelled_orders.add_tombstone(
        c,
        ordering_peer_id=OTHER,
        execution_uid=w.execution.execution_uid,
        node_id=w.node.id,
        reason="why",
        now=w.now,
    ),
    "cancelled_orders.find_tombstone": lambda c, w: cancelled_orders.find_tombstone(
        c, ordering_peer_id=OTHER, execution_uid=w.execution.execution_uid, node_id=w.node.id
    ),
    "cancelled_orders.drop_older": lambda c, w: cancelled_orders.drop_older(c, cancelled_before=w.now),
    "transfers.create_transfer": lambda c, w: transfers.create_transfer(
        c, new_transfer(w, TransferId("another")), now=w.now
    ),
    "transfers.get_transfer": lambda c, w: transfers.get_transfer(c, DELIVERY),
    "transfers.list_transfers": lambda c, w: [
        transfers.list_transfers(c, execution_id=execution_id, status=status, limit=9, after_id=1)
        for execution_id in (None, w.execution.id)
        for status in (None, TransferStatus.FAILED)
    ],
    "transfers.list_pending_outgoing": lambda c, w: transfers.list_pending_outgoing(c, each=9),
    "transfers.list_pending": lambda c, w: transfers.list_pending(c, direction=TransferDirection.LOCAL, limit=9),
    "transfers.find_pending": lambda c, w: transfers.find_pending(
        c, source_job=w.job.id, connection_id=ConnectionId(1), dest_job=SELF_PEER_JOB
    ),
    "transfers.list_by_source_job": lambda c, w: transfers.list_by_source_job(c, w.job.id),
    "transfers.list_by_dest_job": lambda c, w: transfers.list_by_dest_job(c, w.job.id),
    "transfers.list_active": lambda c, w: transfers.list_active(c),
    "transfers.count_active": lambda c, w: transfers.count_active(c),
    "transfers.count_open": lambda c, w: transfers.count_open(c),
    "transfers.mark_active": lambda c, w: transfers.mark_active(c, DELIVERY, now=w.now),
    "transfers.set_progress": lambda c, w: (
        transfers.mark_active(c, DELIVERY, now=w.now),
        transfers.set_progress(c, DELIVERY, file_count=1, size_bytes=1, bytes_done=1, rate_bytes_s=1.0, now=w.now),
    ),
    "transfers.set_hold_up": lambda c, w: transfers.set_hold_up(c, "why", direction=TransferDirection.LOCAL, now=w.now),
    "transfers.mark_completed": lambda c, w: (
        transfers.mark_active(c, DELIVERY, now=w.now),
        transfers.mark_completed(c, DELIVERY, file_count=1, size_bytes=1, started_at=w.now, now=w.now),
    ),
    "transfers.mark_ended": lambda c, w: transfers.mark_ended(c, DELIVERY, TransferStatus.FAILED, "why", now=w.now),
    "transfers.requeue_active": lambda c, w: transfers.requeue_active(c, direction=TransferDirection.LOCAL),
    "transfers.list_open_of_job": lambda c, w: transfers.list_open_of_job(c, w.job.id),
    "transfers.list_open_from_remote_job": lambda c, w: transfers.list_open_from_remote_job(c, ME, w.job.id),
    "transfers.list_open_to_remote_job": lambda c, w: transfers.list_open_to_remote_job(c, ME, w.job.id),
    "transfers.list_open_of_execution": lambda c, w: transfers.list_open_of_execution(c, w.execution.id),
    "results.create_result": lambda c, w: results.create_result(c, new_result(w, 2)),
    "results.find_result": lambda c, w: results.find_result(
        c, execution_id=w.execution.id, connection_id=ConnectionId(1)
    ),
    "results.get_result_by_id": lambda c, w: results.get_result_by_id(c, ResultId(1)),
    "results.get_result": lambda c, w: results.get_result(
        c, execution_id=w.execution.id, node_id=w.node.id, connection_id=ConnectionId(1)
    ),
    "results.get_result_file": get_result_file,
    "results.list_result_rows": lambda c, w: results.list_result_rows(c, w.execution.id),
    "results.list_results": lambda c, w: results.list_results(c, w.execution.id, limit=9, after_id=1),
    "results.mark_arrived": lambda c, w: results.mark_arrived(c, ResultId(1), [ENTRY]),
    "results.mark_failed": lambda c, w: results.mark_failed(c, ResultId(1), "why"),
    "results.mark_failed_of_job": lambda c, w: results.mark_failed_of_job(c, w.execution.id, w.job.id, "why"),
    "results.add_outputs": lambda c, w: results.add_outputs(c, w.job.id, {"stdout": [ENTRY]}),
    "results.copy_outputs": lambda c, w: results.copy_outputs(c, from_job=w.job.id, to_job=w.job.id),
    "results.list_outputs": lambda c, w: results.list_outputs(c, w.job.id),
    "retention.list_unneeded_executions": lambda c, w: (
        workflow_executions.create_execution(c, order(w.workflow, "3"), now=w.now),
        retention.list_unneeded_executions(c, keep=1, ended_before=w.later, limit=9),
    ),
    "retention.forget_execution": lambda c, w: (
        job_moves.mark_errored(c, w.job.id, END, now=w.now),
        transfers.mark_ended(c, DELIVERY, TransferStatus.FAILED, "why", now=w.now),
        workflow_executions.mark_ended(c, w.execution.id, ExecutionStatus.FAILED, "why", now=w.now),
        retention.forget_execution(c, w.execution.id, ended_before=w.later, folders=["a"], now=w.now),
    ),
    "retention.list_uncleared_executions": lambda c, w: (
        job_moves.mark_errored(c, w.job.id, END, now=w.now),
        transfers.mark_ended(c, DELIVERY, TransferStatus.FAILED, "why", now=w.now),
        workflow_executions.mark_ended(c, w.execution.id, ExecutionStatus.FAILED, "why", now=w.now),
        retention.list_uncleared_executions(c, ended_before=w.later, limit=9),
    ),
    "retention.list_large_streams": lambda c, w: retention.list_large_streams(c, w.execution.id, from_bytes=1),
    "retention.clear_execution": lambda c, w: (
        job_moves.mark_errored(c, w.job.id, END, now=w.now),
        transfers.mark_ended(c, DELIVERY, TransferStatus.FAILED, "why", now=w.now),
        workflow_executions.mark_ended(c, w.execution.id, ExecutionStatus.FAILED, "why", now=w.now),
        retention.clear_execution(c, w.execution.id, ended_before=w.later, paths=["a"], now=w.now),
    ),
    "workflow_executions.is_cleared": lambda c, w: workflow_executions.is_cleared(c, w.execution.id),
    "retention.release_pages": lambda c, w: retention.release_pages(c, spare_bytes=0, at_most=9),
    "retention.list_doomed_folders": lambda c, w: retention.list_doomed_folders(c, limit=9),
    "retention.settle_doomed_folders": lambda c, w: retention.settle_doomed_folders(c, [("a", None), ("b", "why")]),
}


def new_invite(conn: sqlite3.Connection, world: World) -> PeerInvite:
    return peer_invites.create_invite(conn, invite_id="i", key=b"", expires_at=world.later, tries=5, now=world.now)


def make_ready(conn: sqlite3.Connection, world: World) -> None:
    job_moves.mark_started(conn, [world.job.id])
    job_moves.mark_all_ready(conn, [world.job.id], now=world.now)


def new_job(request: JobRequest) -> NewJob:
    return NewJob(request=request, digest="d", service_revision=1)


def make_running(conn: sqlite3.Connection, world: World) -> None:
    make_ready(conn, world)
    job_moves.mark_all_running(conn, [(world.job, world.later)], now=world.now)


def order(workflow: Workflow, uid: str) -> ExecutionOrder:
    return ExecutionOrder(
        workflow_id=workflow.id,
        workflow_name=workflow.name,
        definition="{}",
        execution_uid=ExecutionUid(uid),
        retry_of=None,
        start_by_s=1.0,
        max_runtime_s=1.0,
        transfer_idle_s=1.0,
        hold_s=1.0,
        workflow_deadline_s=1.0,
    )


@pytest.fixture(scope="module")
def remembering() -> Iterator[RememberingConnection]:
    conn = sqlite3.connect(":memory:", isolation_level=None, factory=RememberingConnection)
    conn.row_factory = sqlite3.Row
    migrations.migrate(conn, Path("memory"))
    yield conn
    conn.close()


@pytest.fixture(scope="module")
def world(remembering: RememberingConnection) -> World:
    conn, now = remembering, datetime.fromisoformat("2026-01-31T12:00:00Z")
    workflow = workflows.create_workflow(conn, name="w", now=now)
    service = offered_services.create_service(conn, new_service("data"), now=now)
    node = WorkflowNode(
        id=NodeId(1),
        workflow_id=workflow.id,
        service_id=service.id,
        peer_id=ME,
        service_name=service.name,
        service_type=service.service_type,
        order=0,
        gui_x=0,
        gui_y=0,
        interfaces=(),
        entrypoint=None,
        cmd=None,
        pricing_amount=0.0,
        pricing_type="FREE",
    )
    connection = WorkflowConnection(
        id=ConnectionId(1),
        workflow_id=workflow.id,
        from_node_id=node.id,
        from_interface_type=InterfaceType.STDOUT,
        to_node_id=None,
        to_interface_type=InterfaceType.MOUNT,
        destination_file_name=None,
        from_interface_path="",
        to_interface_path="",
        include=(),
        source_path=None,
    )
    workflow_nodes.add_node(conn, node, now=now)
    workflow_connections.add_connection(conn, connection, now=now)
    uploads.add_upload(conn, name="a", size_bytes=1, sha256="", now=now)
    execution = workflow_executions.create_execution(conn, order(workflow, "1"), now=now)
    definition = WorkflowDefinition(jobs=(plan(node.id, service),))
    [workflow_job] = workflow_jobs.create_workflow_jobs(conn, execution, definition)
    request = JobRequest(
        orchestrator_peer_id=ME,
        execution_uid=execution.execution_uid,
        workflow_execution_id=execution.id,
        workflow_job_id=workflow_job.id,
        plan=definition.jobs[0],
        start_by_s=1.0,
        max_runtime_s=1.0,
    )
    ((job_id, _),) = job_moves.create_jobs(conn, [new_job(request)], now=now)
    job_interfaces.create_interfaces(conn, [(job_id, request.plan.interfaces)])
    made = World(
        now=now,
        later=now + timedelta(hours=1),
        workflow=workflow,
        node=node,
        connection=connection,
        service=service,
        execution=execution,
        definition=definition,
        request=request,
        job=job_executions.get_job(conn, job_id),
    )
    results.create_result(conn, new_result(made, 1))
    transfers.create_transfer(conn, new_transfer(made, DELIVERY), now=now)
    peers.add_peer(conn, OTHER, self_peer_id=ME, state=PeerState.ALLOWED, now=now)
    return made


def statements_of(conn: RememberingConnection, world: World, call: Call) -> list[tuple[str, Any]]:
    """Run a call, take back what it did, and return its statements."""
    conn.execute("SAVEPOINT test")
    conn.statements.clear()
    try:
        with suppress(RndError):
            call(conn, world)
        return list(conn.statements)
    finally:
        conn.execute("ROLLBACK TO test")
        conn.execute("RELEASE test")


def scanned_tables(conn: sqlite3.Connection, sql: str, parameters: Any) -> list[str]:
    """The tables that a statement reads from end to end; a partial index counts as the few rows that it holds."""
    if sql.split(maxsplit=1)[0] not in {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}:
        return []
    partial = {row["name"] for row in conn.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%INDEX%WHERE%'")}
    tables = {row["name"] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    aliases = {alias: table for table, alias in re.findall(r"(?:FROM|JOIN)\s+(\w+)\s+AS\s+(\w+)", sql)}
    scans = []
    for row in conn.execute("EXPLAIN QUERY PLAN " + sql, parameters).fetchall():
        match = re.match(r"SCAN (\w+)(?: .*INDEX (\w+))?", row["detail"])
        if match is None or match[2] in partial:
            continue
        name = aliases.get(match[1], match[1])
        if name in tables or name == "json_each":
            scans.append(name)
    return scans


@pytest.mark.parametrize("name", CALLS)
def test_no_statement_reads_a_growing_table_from_end_to_end(
    remembering: RememberingConnection, world: World, name: str
) -> None:
    statements = statements_of(remembering, world, CALLS[name])
    assert statements
    for sql, parameters in statements:
        for table in scanned_tables(remembering, sql, parameters):
            assert table in SMALL_TABLES or (name, table) in ALLOWED_SCANS, f"{name} scans {table}:\n{sql}"


def test_every_function_of_rows_has_an_entry() -> None:
    expected = set()
    for module_info in pkgutil.iter_modules(rnd.database.__path__):
        if module_info.name in NO_CALLS:
            continue
        module = importlib.import_module(f"rnd.database.{module_info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            own = function.__module__ == module.__name__ and not name.startswith("_")
            if own and "conn" in inspect.signature(function).parameters:
                expected.add(f"{module_info.name}.{name}")
    assert set(CALLS) == expected


def test_every_allowed_scan_is_still_there(remembering: RememberingConnection, world: World) -> None:
    found = {
        (name, table)
        for name, call in CALLS.items()
        for sql, parameters in statements_of(remembering, world, call)
        for table in scanned_tables(remembering, sql, parameters)
    }
    assert set(ALLOWED_SCANS) == {pair for pair in found if pair[1] not in SMALL_TABLES}


def test_a_scan_is_seen_for_what_it_is(remembering: RememberingConnection) -> None:
    for sql, tables in {
        "SELECT t.error FROM transfers AS t WHERE t.error IS NULL": ["transfers"],
        "SELECT seq FROM events WHERE type = 'x'": ["events"],
        "SELECT id FROM job_executions WHERE status = 'IDLE'": [],
        "SELECT type FROM events WHERE seq > 5": [],
        "PRAGMA user_version": [],
    }.items():
        assert scanned_tables(remembering, sql, ()) == tables
