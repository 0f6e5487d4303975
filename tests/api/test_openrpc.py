"""The generated OpenRPC document keeps the essentials of OpenRPC 1.3, and the table agrees with its handlers."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from jsonschema import Draft7Validator

from rnd.api.method_table import build_table
from rnd.api.methods import Method, MethodTable
from rnd.api.openrpc import describe
from rnd.api.parameters import OMITTED
from rnd.types.enums import Scope

TABLE = build_table()
DOCUMENT: dict[str, Any] = json.loads(json.dumps(describe(TABLE.methods.values(), version="1.2.3")))

# The parts of https://spec.open-rpc.org (1.3) that this document uses, in our own words.
ESSENTIALS: dict[str, Any] = {
    "type": "object",
    "required": ["openrpc", "info", "methods"],
    "additionalProperties": False,
    "properties": {
        "openrpc": {"type": "string", "pattern": r"^1\.3\.\d+$"},
        "info": {
            "type": "object",
            "required": ["title", "version"],
            "properties": {key: {"type": "string"} for key in ("title", "version", "description")},
            "additionalProperties": False,
        },
        "methods": {"type": "array", "items": {"$ref": "#/definitions/method"}},
        "components": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"errors": {"type": "object", "additionalProperties": {"$ref": "#/definitions/error"}}},
        },
    },
    "definitions": {
        "method": {
            "type": "object",
            "required": ["name", "params"],
            "additionalProperties": False,
            "patternProperties": {"^x-": {}},
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "summary": {"type": "string", "minLength": 1},
                "tags": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                "paramStructure": {"enum": ["by-name", "by-position", "either"]},
                "params": {"type": "array", "items": {"$ref": "#/definitions/descriptor"}},
                "result": {"$ref": "#/definitions/descriptor"},
                "errors": {
                    "type": "array",
                    "items": {"type": "object", "required": ["$ref"], "maxProperties": 1},
                },
            },
        },
        "descriptor": {
            "type": "object",
            "required": ["name", "schema"],
            "additionalProperties": False,
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "summary": {"type": "string"},
                "description": {"type": "string"},
                "required": {"type": "boolean"},
                "schema": {"type": "object"},
            },
        },
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "additionalProperties": False,
            "properties": {"code": {"type": "integer"}, "message": {"type": "string", "minLength": 1}},
        },
    },
}

# rpc.md, as far as it needs no container engine.
CONTRACT: dict[str, list[str]] = {
    "node.status": [],
    "node.capabilities": [],
    "token.create": ["name", "scope", "valid_s"],
    "token.list": ["limit", "after_id"],
    "token.revoke": ["token_id"],
    "peer.list": [],
    "peer.get": ["peer_id"],
    "peer.invite": ["valid_s"],
    "peer.join": ["invite"],
    "peer.add": ["peer_id", "addresses", "name", "state"],
    "peer.connect": ["peer_id"],
    "peer.disconnect": ["peer_id"],
    "peer.remove": ["peer_id"],
    "peer.set_state": ["peer_id", "state"],
    "peer.capabilities": ["peer_id"],
    "peer.ping": ["peer_id"],
    "peer.rename": ["peer_id", "name"],
    "peer.set_addresses": ["peer_id", "addresses"],
    "grant.list": [],
    "grant.add": ["peer_id", "service_id", "verbs", "limits"],
    "grant.remove": ["grant_id"],
    "service.create": [
        *(
            "name",
            "service_type",
            "description",
            "interfaces",
            "pricing_amount",
            "pricing_type",
            "access",
            "retry_safe",
        ),
        *("paths", "passphrase", "egress", "egress_peers", "downloadable", "seal", "image", "build_context"),
        *("entrypoint", "cmd", "env", "limits", "network", "timeout_s", "allow_override", "registry_auth", "user"),
        *("read_only_root", "tmpfs_bytes", "cap_add", "secrets", "executable", "working_directory", "confine"),
        *("host_paths", "min_sandbox", "retry"),
    ],
    "service.unlock": ["service_id", "passphrase"],
    "service.get": ["service_id"],
    "service.list": ["service_type", "status", "limit", "after_id"],
    "service.update": ["service_id", "name", "cmd"],
    "service.delete": ["service_id"],
    "service.set_status": ["service_id", "status"],
    "service.suggest_interfaces": ["service_type", "image"],
    "service.search": ["query", "service_type", "peer_ids", "active_only", "timeout_s"],
    "workflow.create": ["name", "description"],
    "workflow.get": ["workflow_id"],
    "workflow.list": ["limit", "after_id"],
    "workflow.update": ["workflow_id", "name", "description"],
    "workflow.delete": ["workflow_id"],
    "workflow.add_node": [
        *("workflow_id", "service_id", "peer_id", "service_name", "service_type", "order", "gui_x", "gui_y"),
        *("interfaces", "entrypoint", "cmd", "pricing_amount", "pricing_type"),
    ],
    "workflow.update_node": ["workflow_id", "node_id"],
    "workflow.delete_node": ["workflow_id", "node_id"],
    "workflow.list_nodes": ["workflow_id"],
    "workflow.add_connection": [
        *("workflow_id", "from_node_id", "from_interface_type", "to_node_id", "to_interface_type"),
        *("destination_file_name", "from_interface_path", "to_interface_path", "include", "source_path"),
    ],
    "workflow.update_connection": ["workflow_id", "connection_id"],
    "workflow.delete_connection": ["workflow_id", "connection_id"],
    "workflow.list_connections": ["workflow_id"],
    "workflow.get_ui_state": ["workflow_id"],
    "workflow.set_ui_state": [
        *("workflow_id", "snap_to_grid", "zoom_level", "pan_x", "pan_y", "self_peer_x", "self_peer_y"),
    ],
    "workflow.validate": ["workflow_id"],
    "workflow.plan": ["workflow_id"],
    "workflow.export": ["workflow_id"],
    "workflow.import": ["document", "name"],
    "workflow.execute": ["workflow_id", "passphrase", "passphrases", "inputs", "deadlines"],
    "execution.get": ["execution_id", "with_definition"],
    "execution.list": ["workflow_id", "status"],
    "execution.wait": ["execution_id", "timeout_s"],
    "execution.cancel": ["execution_id", "reason"],
    "execution.retry": ["execution_id"],
    "execution.results": ["execution_id"],
    "execution.ticket": ["execution_id"],
    "job.get": ["job_execution_id"],
    "job.list": ["status", "execution_id"],
    "job.interfaces": ["job_execution_id"],
    "job.logs": ["job_execution_id", "execution_id", "node_id", "stream", "offset", "limit_bytes"],
    "job.cancel": ["job_execution_id", "reason"],
    "job.explain": ["job_execution_id", "execution_id", "node_id"],
    "transfer.list": ["execution_id", "status"],
    "transfer.get": ["transfer_id"],
    "events.subscribe": ["types", "execution_id", "after_seq"],
    "events.poll": ["after_seq", "types", "execution_id", "wait_s"],
    "events.unsubscribe": ["subscription"],
    "auth.login": ["token"],
    "upload.list": [],
    "upload.delete": ["name"],
    "rpc.discover": [],
}

ADMIN = {
    *("service.create", "service.update", "service.delete", "service.set_status", "service.unlock"),
    *("token.create", "token.list", "token.revoke"),
    *("peer.invite", "peer.join", "peer.add", "peer.remove", "peer.set_state", "peer.rename"),
    "peer.set_addresses",
    *("grant.add", "grant.remove"),
}
READING = (
    "get",
    "list",
    "status",
    "capabilities",
    "ping",
    "search",
    "validate",
    "plan",
    "poll",
    "subscribe",
    "unsubscribe",
)

each_method = pytest.mark.parametrize("method", TABLE.methods.values(), ids=lambda method: method.name)


def test_the_document_keeps_the_essentials_of_openrpc() -> None:
    Draft7Validator.check_schema(ESSENTIALS)
    Draft7Validator(ESSENTIALS).validate(DOCUMENT)


def test_every_schema_in_it_is_a_schema() -> None:
    for method in DOCUMENT["methods"]:
        for descriptor in (*method["params"], method["result"]):
            Draft7Validator.check_schema(descriptor["schema"])


def test_every_reference_in_it_leads_somewhere() -> None:
    for method in DOCUMENT["methods"]:
        for error in method["errors"]:
            assert error["$ref"].removeprefix("#/components/errors/") in DOCUMENT["components"]["errors"]


def test_the_errors_are_those_of_the_contract() -> None:
    codes = {name: error["code"] for name, error in DOCUMENT["components"]["errors"].items()}
    assert codes == {
        "NOT_FOUND": 1000,
        "VALIDATION_FAILED": 1100,
        "CONFLICT": 1200,
        "PEER_UNREACHABLE": 1300,
        "PEER_REFUSED": 1301,
        "EXECUTOR_UNAVAILABLE": 1400,
        "TRANSFER_FAILED": 1500,
        "PERMISSION_DENIED": 1600,
        "LIMIT_EXCEEDED": 1700,
        "TIMED_OUT": 1800,
    }


def test_no_method_or_parameter_of_the_contract_is_missing() -> None:
    for name, parameters in CONTRACT.items():
        known = {parameter.name for parameter in TABLE.methods[name].parameters}
        assert set(parameters) <= known, name
    assert set(TABLE.methods) == set(CONTRACT)


@each_method
def test_names_are_unique_and_required_parameters_come_first(method: Method) -> None:
    names = [name for parameter in method.parameters for name in (parameter.name, *parameter.aliases)]
    assert len(names) == len(set(names))
    needed = [parameter.required for parameter in method.parameters]
    assert needed == sorted(needed, reverse=True)


@each_method
def test_a_default_is_what_the_parameter_takes(method: Method) -> None:
    for descriptor in describe([method], version="")["methods"][0]["params"]:  # type: ignore[index,call-overload]  # a plain JSON document
        if "default" in descriptor["schema"]:
            Draft7Validator(descriptor["schema"]).validate(descriptor["schema"]["default"])


@each_method
def test_the_handler_takes_what_the_table_declares(method: Method) -> None:
    signature = inspect.signature(method.handler)
    taken = {
        name: parameter for name, parameter in signature.parameters.items() if parameter.kind is parameter.KEYWORD_ONLY
    }
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    declared = {parameter.name: parameter for parameter in method.parameters}
    assert set(taken) <= set(declared)
    assert open_ended or set(taken) == set(declared)
    for name, parameter in taken.items():
        given = declared[name].required or declared[name].default is not OMITTED
        assert given or parameter.default is not parameter.empty, f"{name} may be missing"
    assert inspect.iscoroutinefunction(method.handler)


@each_method
def test_scopes_follow_what_a_method_does(method: Method) -> None:
    if method.name in ADMIN:
        assert method.scope is Scope.ADMIN
    elif method.name == "auth.login":
        assert method.scope is None
    elif method.name.split(".")[1] in READING:
        assert method.scope is Scope.READ
    else:
        assert method.scope in (Scope.READ, Scope.OPERATE)


def test_two_methods_cannot_share_a_name() -> None:
    method = TABLE.methods["node.status"]
    with pytest.raises(ValueError, match=r"node\.status"):
        MethodTable([method, method])
