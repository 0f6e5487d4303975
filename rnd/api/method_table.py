"""Every method of the API: what it takes, what it answers, who may call it. `rpc.discover` is made from this table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rnd import __version__
from rnd.api import handlers_events as events
from rnd.api import handlers_jobs as jobs
from rnd.api import handlers_node as node
from rnd.api import handlers_uploads as uploads
from rnd.api import result_schemas as answers
from rnd.api.context import Call
from rnd.api.methods import Method, MethodTable
from rnd.api.openrpc import describe
from rnd.api.parameters import (
    ID,
    MAX_INT64,
    Boolean,
    Choice,
    Integer,
    ListOf,
    Name,
    Number,
    Parameter,
    Text,
    optional,
    required,
)
from rnd.api.peer_methods import peer_methods
from rnd.api.result_schemas import members
from rnd.api.service_methods import service_methods
from rnd.api.workflow_methods import PASSPHRASES, workflow_methods
from rnd.rules.strict_json import JsonObject
from rnd.rules.upload_names import UPLOAD_NAME_PATTERN, UPLOAD_NAME_WORDS
from rnd.types.enums import EventType, ExecutionStatus, JobStatus, LogStream, Scope, TransferStatus

PAGE: Final[tuple[Parameter, ...]] = (
    optional("limit", Integer(minimum=1, maximum=1_000), 100, "How many items at most."),
    optional("after_id", Integer(minimum=0), 0, "Continue after this: `next_after_id` of the page before."),
)
_NEWEST_FIRST: Final = optional(
    "newest_first", Boolean(), False, "Ids go down, and after_id means: continue below this (0: from the newest)."
)
_WITH_DEFINITION: Final = optional(
    "with_definition",
    Boolean(),
    False,
    "Also answer `definition`: every job with its routing, as it was when it was executed.",
)
WAIT_S_MAX: Final = 25.0
EXECUTION_WAIT_S_MAX: Final = 3_600.0
POLL_SLACK_S: Final = 30.0

_JOB_CHOICE: Final = (
    optional("job_execution_id", ID),
    optional("execution_id", ID, summary="With node_id, in place of job_execution_id."),
    optional("node_id", ID),
)


def build_table() -> MethodTable:
    """Return the table of every method."""
    table = MethodTable(
        [
            *_node_methods(),
            *peer_methods(PAGE),
            *service_methods(PAGE),
            *workflow_methods(PAGE),
            *_execution_methods(),
            *_job_methods(),
            *_event_methods(),
            *_upload_methods(),
        ]
    )
    document: JsonObject = {}

    async def rpc_discover(_call: Call) -> JsonObject:
        """Answer `rpc.discover`."""
        return document

    table.add(
        Method(
            name="rpc.discover",
            summary="Return this API as an OpenRPC document.",
            scope=Scope.READ,
            handler=rpc_discover,
            result=members(
                {"openrpc": answers.TEXT, "info": answers.OBJECT, "methods": answers.list_of(answers.OBJECT)}
            ),
        )
    )
    document.update(describe(table.methods.values(), version=__version__))
    return table


def _node_methods() -> Iterable[Method]:
    executors = members({"docker": answers.EXECUTOR, "standalone": answers.EXECUTOR})
    yield Method(
        name="node.status",
        summary="Who this peer is, where it listens, and how much it has to do.",
        scope=Scope.READ,
        handler=node.node_status,
        result=members(
            {
                "peer_id": answers.TEXT,
                "name": answers.TEXT,
                "version": answers.TEXT,
                "started_at": answers.TIME,
                "uptime_s": answers.NUMBER,
                "api": members({"url": answers.TEXT, "socket": answers.TEXT}),
                "peer_addresses": answers.list_of(answers.TEXT),
                "executors": executors,
                "jobs": answers.OBJECT,
                "executions": answers.OBJECT,
                "transfers_active": answers.COUNT,
                "peers_connected": answers.COUNT,
                "disk_free_bytes": answers.COUNT,
            }
        ),
    )
    yield Method(
        name="node.capabilities",
        summary="What a job could count on here.",
        scope=Scope.READ,
        handler=node.node_capabilities,
        result=members(
            {
                "platform": answers.TEXT,
                "architecture": answers.TEXT,
                "cpu_cores": answers.COUNT,
                "memory_bytes": answers.COUNT,
                "disk_free_bytes": answers.COUNT,
                "gpus": answers.list_of(answers.TEXT),
                "docker": answers.nullable(answers.TEXT),
                "python": answers.TEXT,
                "executors": executors,
            }
        ),
    )
    yield Method(
        name="token.create",
        summary="Make a token for the TCP API; it is shown this once and kept as SHA-256 only.",
        scope=Scope.ADMIN,
        handler=node.token_create,
        parameters=(
            required("name", Name()),
            required(
                "scope",
                Choice(Scope),
                "read looks; operate draws and runs workflows of services as they are offered; admin acts as the owner.",
            ),
            optional(
                "valid_s",
                Number(minimum=1, maximum=10 * 366 * 86400),
                summary="How long it is valid; left out: for good.",
            ),
        ),
        result=answers.TOKEN,
    )
    yield Method(
        name="token.list",
        summary="List tokens by name, scope and times.",
        scope=Scope.ADMIN,
        handler=node.token_list,
        parameters=PAGE,
        result=answers.page_of(answers.TOKEN),
    )
    yield Method(
        name="token.revoke",
        summary="Make a token worthless at once; websockets that use it are closed.",
        scope=Scope.ADMIN,
        handler=node.token_revoke,
        parameters=(required("token_id", ID),),
        result=answers.TOKEN,
    )


def _execution_methods() -> Iterable[Method]:
    by_id = required("execution_id", ID)
    yield Method(
        name="execution.get",
        summary="Return one execution with its jobs and progress.",
        scope=Scope.READ,
        handler=jobs.execution_get,
        parameters=(by_id, _WITH_DEFINITION),
        result=answers.EXECUTION,
    )
    yield Method(
        name="execution.list",
        summary="List executions, oldest first or newest first.",
        scope=Scope.READ,
        handler=jobs.execution_list,
        parameters=(optional("workflow_id", ID), optional("status", Choice(ExecutionStatus)), _NEWEST_FIRST, *PAGE),
        result=answers.page_of(answers.EXECUTION_SUMMARY),
    )
    yield Method(
        name="execution.wait",
        summary="Return the execution at its end, or as it is when the time is up.",
        scope=Scope.READ,
        handler=jobs.execution_wait,
        parameters=(by_id, optional("timeout_s", Number(minimum=0, maximum=EXECUTION_WAIT_S_MAX), 30.0)),
        result=answers.EXECUTION,
        timeout_s=EXECUTION_WAIT_S_MAX + POLL_SLACK_S,
    )
    yield Method(
        name="execution.cancel",
        summary="Cancel an execution on every peer and kill what runs.",
        scope=Scope.OPERATE,
        handler=jobs.execution_cancel,
        parameters=(by_id, optional("reason", Text(max_chars=1_000), "cancelled by the API")),
        result=answers.EXECUTION,
    )
    yield Method(
        name="execution.retry",
        summary="Start a new execution that runs only what did not complete.",
        scope=Scope.OPERATE,
        handler=jobs.execution_retry,
        parameters=(by_id, *PASSPHRASES),
        result=members({"execution_id": answers.INTEGER}),
    )
    yield Method(
        name="execution.results",
        summary="List the files that reached the self-peer.",
        scope=Scope.READ,
        handler=jobs.execution_results,
        parameters=(by_id, *PAGE),
        result=members(
            {
                "items": answers.list_of(
                    members(
                        {
                            "id": answers.INTEGER,
                            "node_id": answers.INTEGER,
                            "connection_id": answers.INTEGER,
                            "path": answers.TEXT,
                            "absolute_path": answers.TEXT,
                            "size_bytes": answers.COUNT,
                            "sha256": answers.TEXT,
                            "url": answers.TEXT,
                        }
                    )
                ),
                "total": answers.COUNT,
                "next_after_id": answers.nullable(answers.INTEGER),
                "outstanding": answers.list_of(answers.OBJECT),
            }
        ),
    )
    yield Method(
        name="execution.ticket",
        summary="Make a link that downloads one result file once, within 60 s, without a token.",
        scope=Scope.READ,
        handler=jobs.execution_ticket,
        parameters=(
            by_id,
            required("node_id", ID),
            required("connection_id", ID),
            required("path", Text(min_chars=1, max_chars=4_096)),
        ),
        result=members({"ticket": answers.TEXT, "url": answers.TEXT, "expires_at": answers.TIME}),
    )


def _job_methods() -> Iterable[Method]:
    yield Method(
        name="job.get",
        summary="Return one job, mirrors of remote jobs included.",
        scope=Scope.READ,
        handler=jobs.job_get,
        parameters=(required("job_execution_id", ID),),
        result=answers.JOB,
    )
    yield Method(
        name="job.cancel",
        summary="End a job that another peer has ordered here; its execution there fails with the reason.",
        scope=Scope.OPERATE,
        handler=jobs.job_cancel,
        parameters=(
            required("job_execution_id", ID),
            optional("reason", Text(max_chars=1_000), "cancelled by the owner of the peer that ran it"),
        ),
        result=answers.JOB,
    )
    yield Method(
        name="job.list",
        summary="List jobs, oldest first or newest first.",
        scope=Scope.READ,
        handler=jobs.job_list,
        parameters=(optional("status", Choice(JobStatus)), optional("execution_id", ID), _NEWEST_FIRST, *PAGE),
        result=answers.page_of(answers.JOB),
    )
    yield Method(
        name="job.interfaces",
        summary="Return a job's interfaces and who is connected to them, with every duty.",
        scope=Scope.READ,
        handler=jobs.job_interfaces_of,
        parameters=(required("job_execution_id", ID),),
        result=answers.list_of(answers.JOB_INTERFACE),
    )
    yield Method(
        name="job.logs",
        summary="Return a piece of a job's captured stream from a byte offset.",
        scope=Scope.READ,
        handler=jobs.job_logs,
        parameters=(
            *_JOB_CHOICE,
            optional("stream", Choice(LogStream), LogStream.STDOUT),
            optional("offset", Integer(minimum=0, maximum=MAX_INT64 - jobs.LOG_BYTES_MAX), 0),
            optional("limit_bytes", Integer(minimum=jobs.LOG_BYTES_MIN, maximum=jobs.LOG_BYTES_MAX), 64 << 10),
        ),
        result=members({"data": answers.TEXT, "next_offset": answers.COUNT, "eof": answers.FLAG}),
    )
    yield Method(
        name="job.explain",
        summary="Say why a job is not finished, as the Debugging Guide would find it.",
        scope=Scope.READ,
        handler=jobs.job_explain,
        parameters=_JOB_CHOICE,
        result=members(
            {
                "status": answers.TEXT,
                "because": answers.TEXT,
                "checks": answers.list_of(
                    members({"check": answers.TEXT, "ok": answers.nullable(answers.FLAG), "evidence": answers.TEXT})
                ),
                "do": answers.TEXT,
            }
        ),
    )
    yield Method(
        name="transfer.list",
        summary="List transfers in the order they were written down.",
        scope=Scope.READ,
        handler=jobs.transfer_list,
        parameters=(optional("execution_id", ID), optional("status", Choice(TransferStatus)), *PAGE),
        result=answers.page_of(answers.TRANSFER),
    )
    yield Method(
        name="transfer.get",
        summary="Return one transfer.",
        scope=Scope.READ,
        handler=jobs.transfer_get,
        parameters=(required("transfer_id", Text(min_chars=1, max_chars=100)),),
        result=answers.TRANSFER,
    )


def _event_methods() -> Iterable[Method]:
    types = optional("types", ListOf(items=Choice(EventType), max_items=len(EventType)), (), "Left out: every type.")
    execution = optional("execution_id", ID, summary="Only what concerns this execution.")
    yield Method(
        name="events.subscribe",
        summary="On a websocket: send events as notifications, beginning after `after_seq` (left out: from now on).",
        scope=Scope.READ,
        handler=events.events_subscribe,
        parameters=(types, execution, optional("after_seq", Integer(minimum=0))),
        result=members({"subscription": answers.INTEGER, "seq": answers.COUNT}),
    )
    yield Method(
        name="events.unsubscribe",
        summary="Stop a subscription.",
        scope=Scope.READ,
        handler=events.events_unsubscribe,
        parameters=(required("subscription", ID),),
        result=members({"unsubscribed": answers.FLAG}),
    )
    yield Method(
        name="events.poll",
        summary="Return events after `after_seq`, waiting for the first up to `wait_s`.",
        scope=Scope.READ,
        handler=events.events_poll,
        parameters=(
            required("after_seq", Integer(minimum=0)),
            types,
            execution,
            optional("wait_s", Number(minimum=0, maximum=WAIT_S_MAX), 0.0),
        ),
        result=members({"items": answers.list_of(answers.EVENT), "next_seq": answers.COUNT}),
        timeout_s=WAIT_S_MAX + POLL_SLACK_S,
    )
    yield Method(
        name="auth.login",
        summary="As the first message of a websocket that could not send a header: take the rights of a token.",
        scope=None,
        handler=events.auth_login,
        parameters=(required("token", Text(min_chars=1, max_chars=256)),),
        result=members({"scope": answers.words(Scope)}),
    )


def _upload_methods() -> Iterable[Method]:
    yield Method(
        name="upload.list",
        summary="List the uploads that no service has taken yet.",
        scope=Scope.READ,
        handler=uploads.upload_list,
        parameters=PAGE,
        result=answers.page_of(answers.UPLOAD),
    )
    yield Method(
        name="upload.delete",
        summary="Remove an upload.",
        scope=Scope.OPERATE,
        handler=uploads.upload_delete,
        parameters=(
            required("name", Text(max_chars=128, pattern=UPLOAD_NAME_PATTERN, words=f"must be {UPLOAD_NAME_WORDS}")),
        ),
        result=members({"deleted": answers.FLAG}),
    )
