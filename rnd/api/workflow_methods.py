"""The methods that draw and start workflows, as rows of the method table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rnd.api import handlers_workflow_checks as checks
from rnd.api import handlers_workflow_files as files
from rnd.api import handlers_workflows as workflows
from rnd.api import result_schemas as answers
from rnd.api.drawing_parameters import CANVAS, INTERFACES, CanvasPosition, DestinationName, NodeName
from rnd.api.methods import Method
from rnd.api.parameters import (
    ID,
    ID_KEY_PATTERN,
    ID_KEY_WORDS,
    AnyObject,
    Boolean,
    Choice,
    Integer,
    ListOf,
    MapOf,
    Name,
    Nullable,
    Number,
    Parameter,
    SourcePath,
    Text,
    id_key,
    optional,
    required,
)
from rnd.api.result_schemas import members
from rnd.rules.paths import PATH_BYTES_MAX
from rnd.types.enums import Scope, ServiceType

MAX_WORDS: Final = 1_000
MAX_WORD_CHARS: Final = 128 << 10
MAX_PASSPHRASE_CHARS: Final = 1_024
DEADLINES: Final = "start_by_s|max_runtime_s|transfer_idle_s|hold_s|workflow_deadline_s"

WORDS: Final = ListOf(items=Text(max_chars=MAX_WORD_CHARS), max_items=MAX_WORDS)
PASSPHRASE: Final = Text(min_chars=1, max_chars=MAX_PASSPHRASE_CHARS)
PEER_ID: Final = Text(min_chars=1, max_chars=64, pattern="[A-Za-z0-9._-]+", words="must be the id of a peer")
DESCRIPTION: Final = Text(max_chars=10_000)


_WORKFLOW: Final = required("workflow_id", ID)
_NODE: Final = required("node_id", ID)
_CONNECTION: Final = required("connection_id", ID)
_INTERFACE_TYPE: Final = Text(min_chars=1, max_chars=100)

PASSPHRASES: Final = (
    optional("passphrase", Nullable(PASSPHRASE), summary="Opens this peer's encrypted DATA; never stored."),
    optional(
        "passphrases",
        MapOf(values=PASSPHRASE, key=id_key, key_pattern=ID_KEY_PATTERN, key_words=ID_KEY_WORDS, max_items=1_000),
        {},
        "By service id, where they differ.",
    ),
)
_NODE_FIELDS: Final = (
    optional("name", NodeName(), summary="What people call it, once in a workflow; left out: as its service."),
    optional("service_name", Name()),
    optional("service_type", Choice(ServiceType)),
    optional("order", Integer(minimum=-(2**31), maximum=2**31)),
    optional("gui_x", CanvasPosition()),
    optional("gui_y", CanvasPosition()),
    optional("interfaces", INTERFACES),
    optional("entrypoint", Nullable(WORDS), summary="Replaces the service's own; null: the service's own."),
    optional(
        "cmd", Nullable(WORDS), summary="Replaces the service's own; null: the service's own.", aliases=("commands",)
    ),
    optional("pricing_amount", Number(minimum=0)),
    optional("pricing_type", Name(max_chars=50)),
    optional(
        "service_revision",
        Nullable(Integer(minimum=1, maximum=2**53)),
        summary="What its service was when it was drawn; another one is a warning in workflow.plan.",
    ),
    optional("pin", Boolean(), summary="True: it runs with no other revision of its service."),
)
_CONNECTION_FIELDS: Final = (
    optional(
        "destination_file_name",
        Nullable(DestinationName()),
        summary="`name` for exactly one file; `name/` is a folder.",
    ),
    optional("from_interface_path", Text(max_chars=PATH_BYTES_MAX), summary="Which MOUNT of several."),
    optional("to_interface_path", Text(max_chars=PATH_BYTES_MAX), summary="Which MOUNT of several."),
    optional(
        "include",
        ListOf(items=Text(min_chars=1, max_chars=PATH_BYTES_MAX), max_items=100),
        summary="Globs: which files it carries; empty: all.",
    ),
    optional(
        "source_path",
        Nullable(SourcePath()),
        summary="Self-peer as source: the file or folder of this host that it sends, or upload:NAME.",
    ),
)


def workflow_methods(page: Sequence[Parameter]) -> Iterable[Method]:
    """Return the methods about workflows; `page` are the parameters of a list method."""
    yield from _container_methods(page)
    yield from _node_methods(page)
    yield from _connection_methods(page)
    yield from _canvas_methods()
    yield from _running_methods()


def _container_methods(page: Sequence[Parameter]) -> Iterable[Method]:
    yield Method(
        name="workflow.create",
        summary="Create an empty workflow.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_create,
        parameters=(required("name", Name()), optional("description", DESCRIPTION, "")),
        result=answers.WORKFLOW,
    )
    yield Method(
        name="workflow.get",
        summary="Return one workflow.",
        scope=Scope.READ,
        handler=workflows.workflow_get,
        parameters=(_WORKFLOW,),
        result=answers.WORKFLOW,
    )
    yield Method(
        name="workflow.list",
        summary="List workflows, oldest first, without their definitions.",
        scope=Scope.READ,
        handler=workflows.workflow_list,
        parameters=tuple(page),
        result=answers.page_of(answers.WORKFLOW_SUMMARY),
    )
    yield Method(
        name="workflow.update",
        summary="Change a workflow's name or description.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_update,
        parameters=(_WORKFLOW, optional("name", Name()), optional("description", DESCRIPTION)),
        result=answers.WORKFLOW,
    )
    yield Method(
        name="workflow.delete",
        summary="Delete a workflow that is not running; its executions stay.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_delete,
        parameters=(_WORKFLOW,),
        result=members({"deleted": answers.FLAG}),
    )


def _node_methods(page: Sequence[Parameter]) -> Iterable[Method]:
    yield Method(
        name="workflow.add_node",
        summary="Put a service into a workflow; what is left out is copied from it, of which another peer is asked.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_add_node,
        parameters=(
            _WORKFLOW,
            required("service_id", ID),
            optional("peer_id", Nullable(PEER_ID), summary="Left out: this peer."),
            *_NODE_FIELDS,
        ),
        result=answers.NODE,
    )
    yield Method(
        name="workflow.update_node",
        summary="Change what is given of a node.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_update_node,
        parameters=(_WORKFLOW, _NODE, optional("service_id", ID), optional("peer_id", PEER_ID), *_NODE_FIELDS),
        result=answers.NODE,
    )
    yield Method(
        name="workflow.delete_node",
        summary="Delete a node and its connections.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_delete_node,
        parameters=(_WORKFLOW, _NODE),
        result=members({"deleted": answers.FLAG}),
    )
    yield Method(
        name="workflow.list_nodes",
        summary="List a workflow's nodes.",
        scope=Scope.READ,
        handler=workflows.workflow_list_nodes,
        parameters=(_WORKFLOW, *page),
        result=answers.page_of(answers.NODE),
    )


def _connection_methods(page: Sequence[Parameter]) -> Iterable[Method]:
    yield Method(
        name="workflow.add_connection",
        summary="Let data flow from one interface to another; null is the self-peer.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_add_connection,
        parameters=(
            _WORKFLOW,
            required("from_node_id", Nullable(ID)),
            required("from_interface_type", _INTERFACE_TYPE),
            required("to_node_id", Nullable(ID)),
            required("to_interface_type", _INTERFACE_TYPE),
            *_CONNECTION_FIELDS,
        ),
        result=answers.CONNECTION,
    )
    yield Method(
        name="workflow.update_connection",
        summary="Change what is given of a connection.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_update_connection,
        parameters=(
            _WORKFLOW,
            _CONNECTION,
            optional("from_node_id", Nullable(ID)),
            optional("from_interface_type", _INTERFACE_TYPE),
            optional("to_node_id", Nullable(ID)),
            optional("to_interface_type", _INTERFACE_TYPE),
            *_CONNECTION_FIELDS,
        ),
        result=answers.CONNECTION,
    )
    yield Method(
        name="workflow.delete_connection",
        summary="Delete a connection.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_delete_connection,
        parameters=(_WORKFLOW, _CONNECTION),
        result=members({"deleted": answers.FLAG}),
    )
    yield Method(
        name="workflow.list_connections",
        summary="List a workflow's connections.",
        scope=Scope.READ,
        handler=workflows.workflow_list_connections,
        parameters=(_WORKFLOW, *page),
        result=answers.page_of(answers.CONNECTION),
    )


def _canvas_methods() -> Iterable[Method]:
    yield Method(
        name="workflow.get_ui_state",
        summary="Return how the canvas was left.",
        scope=Scope.READ,
        handler=workflows.workflow_get_ui_state,
        parameters=(_WORKFLOW,),
        result=answers.UI_STATE,
    )
    yield Method(
        name="workflow.set_ui_state",
        summary="Keep how the canvas is left.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_set_ui_state,
        parameters=(
            _WORKFLOW,
            optional("snap_to_grid", Boolean()),
            optional("zoom_level", Number(minimum=0.01, maximum=100), aliases=("zoom",)),
            optional("pan_x", CANVAS),
            optional("pan_y", CANVAS),
            optional("self_peer_x", CANVAS),
            optional("self_peer_y", CANVAS),
        ),
        result=answers.UI_STATE,
    )


def _running_methods() -> Iterable[Method]:
    yield Method(
        name="workflow.validate",
        summary="Find every problem of a workflow; changes nothing.",
        scope=Scope.READ,
        handler=checks.workflow_validate,
        parameters=(
            optional("workflow_id", ID),
            optional(
                "document",
                AnyObject(description="A document of format rnd.workflow/1."),
                summary="In place of workflow_id: a document to look at. Nothing is stored, and parts are named by place.",
            ),
        ),
        result=members(
            {
                "valid": answers.FLAG,
                "problems": answers.list_of(answers.PROBLEM),
                "definition": answers.nullable(answers.OBJECT),
            },
            optional={"plan": answers.nullable(answers.OBJECT)},
        ),
    )
    yield Method(
        name="workflow.plan",
        summary="Ask every executor what it would answer to its job request.",
        scope=Scope.READ,
        handler=workflows.workflow_plan,
        parameters=(_WORKFLOW,),
        result=members(
            {
                "ok": answers.FLAG,
                "jobs": answers.list_of(
                    members(
                        {
                            "node_id": answers.INTEGER,
                            "executor_peer_id": answers.TEXT,
                            "accepted": answers.FLAG,
                            "reasons": answers.list_of(answers.TEXT),
                            "warnings": answers.list_of(answers.TEXT),
                            "service_revision": answers.nullable(answers.INTEGER),
                        }
                    )
                ),
                "edges": answers.list_of(
                    members(
                        {
                            "connection_id": answers.INTEGER,
                            "from_peer_id": answers.TEXT,
                            "to_peer_id": answers.TEXT,
                            "reachable": answers.FLAG,
                        }
                    )
                ),
            }
        ),
    )
    yield Method(
        name="workflow.execute",
        summary="Validate a workflow and run it; the answer comes before the run.",
        scope=Scope.OPERATE,
        handler=workflows.workflow_execute,
        parameters=(
            _WORKFLOW,
            *PASSPHRASES,
            optional(
                "inputs",
                MapOf(
                    values=SourcePath(), key=id_key, key_pattern=ID_KEY_PATTERN, key_words=ID_KEY_WORDS, max_items=5_000
                ),
                {},
                "By connection id: what the self-peer sends this time: a file or folder of this host, or upload:NAME, which stays.",
            ),
            optional(
                "deadlines",
                MapOf(
                    values=Number(minimum=0.001, maximum=366 * 86400),
                    key_pattern=DEADLINES,
                    key_words=f"must be one of {DEADLINES.replace('|', ', ')}",
                    max_items=5,
                ),
                {},
                "May only shorten the defaults.",
            ),
        ),
        result=members({"execution_id": answers.INTEGER, "status": answers.TEXT}),
    )
    yield Method(
        name="workflow.export",
        summary="Return a workflow as a document of format rnd.workflow/1, services by name.",
        scope=Scope.READ,
        handler=files.workflow_export,
        parameters=(_WORKFLOW,),
        result=members({"format": answers.TEXT}),
    )
    yield Method(
        name="workflow.import",
        summary="Create a workflow from such a document: all of it or nothing.",
        scope=Scope.OPERATE,
        handler=files.workflow_import,
        parameters=(
            required("document", AnyObject(description="A document of format rnd.workflow/1.")),
            optional("name", Name(), summary="In place of the document's name."),
        ),
        result=answers.WORKFLOW,
    )
