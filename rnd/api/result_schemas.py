"""JSON Schemas of what methods answer. They name what clients may rely on; more members may come."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from rnd.rules.strict_json import JsonObject
from rnd.types import enums

ANY: Final[JsonObject] = {}
INTEGER: Final[JsonObject] = {"type": "integer"}
COUNT: Final[JsonObject] = {"type": "integer", "minimum": 0}
NUMBER: Final[JsonObject] = {"type": "number"}
TEXT: Final[JsonObject] = {"type": "string"}
FLAG: Final[JsonObject] = {"type": "boolean"}
OBJECT: Final[JsonObject] = {"type": "object"}
TIME: Final[JsonObject] = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
    "description": "RFC 3339, UTC, milliseconds",
}


def words(enumeration: type[StrEnum]) -> JsonObject:
    """Return the schema of one word of an enumeration."""
    return {"type": "string", "enum": [word.value for word in enumeration]}


def nullable(schema: JsonObject) -> JsonObject:
    """Return a schema that takes `null` too."""
    return {"anyOf": [schema, {"type": "null"}]}


def members(required: dict[str, JsonObject], *, optional: dict[str, JsonObject] | None = None) -> JsonObject:
    """Return the schema of an object with these members at least."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def list_of(items: JsonObject) -> JsonObject:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def page_of(items: JsonObject) -> JsonObject:
    """Return the schema of what a list method answers."""
    return members({"items": list_of(items), "total": COUNT, "next_after_id": nullable(INTEGER)})


INTERFACE: Final = members(
    {
        "interface_type": words(enums.InterfaceType),
        "path": TEXT,
        "mount_function": nullable(words(enums.MountFunction)),
        "required": FLAG,
        "description": TEXT,
    }
)

WORKFLOW: Final = members(
    {
        "id": INTEGER,
        "name": TEXT,
        "description": TEXT,
        "definition": members({"jobs": list_of(OBJECT)}),
        "created_at": TIME,
        "updated_at": TIME,
    }
)

WORKFLOW_SUMMARY: Final = members(
    {
        "id": INTEGER,
        "name": TEXT,
        "description": TEXT,
        "node_count": COUNT,
        "connection_count": COUNT,
        "created_at": TIME,
        "updated_at": TIME,
    }
)

NODE: Final = members(
    {
        "id": INTEGER,
        "node_id": INTEGER,
        "workflow_id": INTEGER,
        "service_id": INTEGER,
        "peer_id": TEXT,
        "name": TEXT,
        "service_name": TEXT,
        "service_type": words(enums.ServiceType),
        "order": INTEGER,
        "gui_x": INTEGER,
        "gui_y": INTEGER,
        "interfaces": list_of(INTERFACE),
        "entrypoint": nullable(list_of(TEXT)),
        "cmd": nullable(list_of(TEXT)),
        "pricing_amount": NUMBER,
        "pricing_type": TEXT,
        "service_revision": nullable(INTEGER),
        "pin": FLAG,
    }
)

CONNECTION: Final = members(
    {
        "id": INTEGER,
        "connection_id": INTEGER,
        "workflow_id": INTEGER,
        "from_node_id": nullable(INTEGER),
        "from_interface_type": words(enums.InterfaceType),
        "to_node_id": nullable(INTEGER),
        "to_interface_type": words(enums.InterfaceType),
        "destination_file_name": nullable(TEXT),
        "from_interface_path": TEXT,
        "to_interface_path": TEXT,
        "include": list_of(TEXT),
        "source_path": nullable(TEXT),
    }
)

UI_STATE: Final = members(
    {
        "workflow_id": INTEGER,
        "snap_to_grid": FLAG,
        "zoom_level": NUMBER,
        "pan_x": NUMBER,
        "pan_y": NUMBER,
        "self_peer_x": NUMBER,
        "self_peer_y": NUMBER,
    }
)

PROBLEM: Final = members(
    {"check": TEXT, "message": TEXT}, optional={"node_id": INTEGER, "connection_id": INTEGER, "place": TEXT}
)

SERVICE: Final = members(
    {
        "id": INTEGER,
        "name": TEXT,
        "description": TEXT,
        "service_type": words(enums.ServiceType),
        "status": words(enums.ServiceStatus),
        "interfaces": list_of(INTERFACE),
        "pricing_amount": NUMBER,
        "pricing_type": TEXT,
        "access": words(enums.ServiceAccess),
        "retry_safe": FLAG,
        "revision": INTEGER,
        "created_at": TIME,
        "updated_at": TIME,
    },
    optional={"warn": TEXT},
)

OFFER: Final = members(
    {
        "id": INTEGER,
        "service_id": INTEGER,
        "peer_id": TEXT,
        "name": TEXT,
        "description": TEXT,
        "service_type": words(enums.ServiceType),
        "status": words(enums.ServiceStatus),
        "interfaces": list_of(INTERFACE),
        "pricing_amount": NUMBER,
        "pricing_type": TEXT,
        "revision": INTEGER,
    }
)

PEER: Final = members(
    {
        "id": INTEGER,
        "peer_id": TEXT,
        "name": TEXT,
        "state": words(enums.PeerState),
        "addresses": list_of(TEXT),
        "connected": FLAG,
        "rtt_ms": nullable(NUMBER),
        "last_failure": TEXT,
        "last_seen_at": nullable(TIME),
        "instance_id": nullable(TEXT),
        "created_at": TIME,
        "updated_at": TIME,
    }
)

GRANT: Final = members(
    {
        "id": INTEGER,
        "grant_id": INTEGER,
        "peer_id": TEXT,
        "service_id": nullable(INTEGER),
        "verbs": list_of(words(enums.Verb)),
        "limits": OBJECT,
        "created_at": TIME,
    }
)

WORKFLOW_JOB: Final = members(
    {
        "id": INTEGER,
        "node_id": INTEGER,
        "job_name": TEXT,
        "service_id": INTEGER,
        "service_type": words(enums.ServiceType),
        "executor_peer_id": TEXT,
        "remote_job_execution_id": nullable(INTEGER),
        "status": words(enums.WorkflowJobStatus),
        "result": nullable(TEXT),
        "error": nullable(TEXT),
    }
)

EXECUTION_SUMMARY: Final = members(
    {
        "id": INTEGER,
        "execution_id": INTEGER,
        "workflow_id": nullable(INTEGER),
        "workflow_name": TEXT,
        "status": words(enums.ExecutionStatus),
        "error": nullable(TEXT),
        "started_at": nullable(TIME),
        "completed_at": nullable(TIME),
        "jobs_total": COUNT,
        "jobs_terminal": COUNT,
    }
)

EXECUTION: Final = members(
    {
        "id": INTEGER,
        "execution_id": INTEGER,
        "workflow_id": nullable(INTEGER),
        "status": words(enums.ExecutionStatus),
        "error": nullable(TEXT),
        "started_at": nullable(TIME),
        "completed_at": nullable(TIME),
        "cleared_at": nullable(TIME),
        "jobs": list_of(WORKFLOW_JOB),
        "progress": members(
            {
                "jobs_total": COUNT,
                "jobs_terminal": COUNT,
                "bytes_total": COUNT,
                "bytes_done": COUNT,
                "transfers_active": COUNT,
                "rate_bytes_s": NUMBER,
                "left_s": nullable(NUMBER),
            }
        ),
    },
    optional={"definition": members({"jobs": list_of(OBJECT)})},
)

JOB: Final = members(
    {
        "id": INTEGER,
        "job_execution_id": INTEGER,
        "workflow_execution_id": nullable(INTEGER),
        "node_id": INTEGER,
        "job_name": TEXT,
        "service_id": INTEGER,
        "service_name": TEXT,
        "service_type": words(enums.ServiceType),
        "service_revision": INTEGER,
        "executor_peer_id": TEXT,
        "ordering_peer_id": TEXT,
        "status": words(enums.JobStatus),
        "execution_constraint": words(enums.ExecutionConstraint),
        "start_received": FLAG,
        "started_at": nullable(TIME),
        "ended_at": nullable(TIME),
        "error_message": nullable(TEXT),
        "exit_code": nullable(INTEGER),
        "remark": nullable(TEXT),
        "run_by": nullable(TIME),
        "pull_by": nullable(TIME),
        "image_digest": nullable(TEXT),
    }
)

JOB_INTERFACE: Final = members(
    {
        "id": INTEGER,
        "interface_type": words(enums.InterfaceType),
        "path": TEXT,
        "mount_function": nullable(words(enums.MountFunction)),
        "peers": list_of(
            members(
                {
                    "id": INTEGER,
                    "peer_id": TEXT,
                    "peer_mount_function": words(enums.MountFunction),
                    "duty_acknowledged": FLAG,
                    "connection_id": INTEGER,
                }
            )
        ),
    }
)

TRANSFER: Final = members(
    {
        "transfer_id": TEXT,
        "direction": words(enums.TransferDirection),
        "status": words(enums.TransferStatus),
        "execution_id": nullable(INTEGER),
        "connection_id": INTEGER,
        "peer_id": TEXT,
        "file_count": COUNT,
        "size_bytes": COUNT,
        "bytes_done": COUNT,
        "sealed": FLAG,
        "attempts": COUNT,
        "next_attempt_at": nullable(TIME),
        "error": nullable(TEXT),
        "started_at": nullable(TIME),
        "completed_at": nullable(TIME),
        "rate_bytes_s": nullable(NUMBER),
        "left_s": nullable(NUMBER),
    }
)

TOKEN: Final = members(
    {
        "id": INTEGER,
        "name": TEXT,
        "scope": words(enums.Scope),
        "created_at": TIME,
        "valid_until": nullable(TIME),
        "revoked_at": nullable(TIME),
    },
    optional={"token": TEXT},
)

UPLOAD: Final = members({"name": TEXT, "size_bytes": COUNT, "sha256": TEXT, "created_at": TIME, "expires_at": TIME})

EVENT: Final = members({"seq": COUNT, "time": nullable(TIME), "type": TEXT, "data": OBJECT}, optional={"durable": FLAG})

EXECUTOR: Final = members(
    {"available": FLAG}, optional={"version": TEXT, "reason": TEXT, "sandbox": TEXT, "sandbox_reason": TEXT}
)
