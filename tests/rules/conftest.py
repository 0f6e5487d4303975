"""Makers of records: each test says only what matters to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rnd.types.enums import (
    ExecutionConstraint,
    InterfaceType,
    JobStatus,
    MountFunction,
    ServiceAccess,
    ServiceStatus,
    ServiceType,
    TransferDirection,
    TransferStatus,
    WorkflowJobStatus,
)
from rnd.types.executions import InterfacePeer, JobExecution, JobInterface, Result, Transfer, WorkflowJob
from rnd.types.services import DataSettings, RetryPolicy, Service, ServiceInterface, StandaloneSettings
from rnd.types.workflows import WorkflowConnection, WorkflowNode

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class Make:
    """Returns records with sensible values where the test gives none."""

    now = NOW

    def stream(self, kind: str) -> ServiceInterface:
        return ServiceInterface(interface_type=InterfaceType(kind))

    def mount(self, path: str, function: str = "BOTH", *, required: bool = False) -> ServiceInterface:
        return ServiceInterface(
            interface_type=InterfaceType.MOUNT, path=path, mount_function=MountFunction(function), required=required
        )

    def node(self, node_id: int, name: str = "", *, own_name: str = "", **values: Any) -> WorkflowNode:
        service_type = ServiceType(values.pop("service_type", "STANDALONE"))
        streams = ("STDOUT",) if service_type is ServiceType.DATA else ("STDIN", "STDOUT", "STDERR", "LOGS")
        mounts = values.pop("mounts", ())
        values.setdefault("interfaces", (*map(self.stream, streams), *mounts))
        fields: dict[str, Any] = {
            "id": node_id,
            "workflow_id": 1,
            "service_id": node_id + 100,
            "peer_id": "self",
            "service_name": name or f"s{node_id}",
            "service_type": service_type,
            "order": 0,
            "gui_x": 0,
            "gui_y": 0,
            "entrypoint": None,
            "cmd": None,
            "pricing_amount": 0.0,
            "pricing_type": "FREE",
            "name": own_name,
        }
        return WorkflowNode(**(fields | values))

    def data(self, node_id: int, name: str = "", **values: Any) -> WorkflowNode:
        return self.node(node_id, name, service_type="DATA", **values)

    def connection(
        self,
        connection_id: int,
        source: tuple[int | None, str],
        destination: tuple[int | None, str],
        **values: Any,
    ) -> WorkflowConnection:
        fields: dict[str, Any] = {
            "id": connection_id,
            "workflow_id": 1,
            "from_node_id": source[0],
            "from_interface_type": InterfaceType(source[1]),
            "to_node_id": destination[0],
            "to_interface_type": InterfaceType(destination[1]),
            "destination_file_name": None,
            "from_interface_path": "",
            "to_interface_path": "",
            "include": (),
            "source_path": None,
        }
        return WorkflowConnection(**(fields | values))

    def service(self, service_id: int, name: str = "s", service_type: str = "STANDALONE", **values: Any) -> Service:
        is_data = service_type == "DATA"
        fields: dict[str, Any] = {
            "id": service_id,
            "name": name,
            "description": "",
            "service_type": ServiceType(service_type),
            "status": ServiceStatus.ACTIVE,
            "interfaces": (),
            "pricing_amount": 0.0,
            "pricing_type": "FREE",
            "access": ServiceAccess.ALLOWED,
            "retry_safe": False,
            "retry": RetryPolicy(),
            "revision": 1,
            "service_path": "/bin/true",
            "settings": self.data_settings() if is_data else StandaloneSettings(executable="/bin/true"),
            "created_at": NOW,
            "updated_at": NOW,
        }
        return Service(**(fields | values))

    def data_settings(self, **values: Any) -> DataSettings:
        return replace(DataSettings(file_count=1, size_bytes=1, manifest_sha256=""), **values)

    def workflow_job(self, job_id: int, status: str, error: str | None = None, **values: Any) -> WorkflowJob:
        fields: dict[str, Any] = {
            "id": job_id,
            "job_execution_id": job_id,
            "workflow_execution_id": 1,
            "workflow_id": 1,
            "node_id": job_id,
            "job_name": f"job{job_id}",
            "service_id": 1,
            "service_type": ServiceType.STANDALONE,
            "executor_peer_id": "self",
            "remote_job_execution_id": None,
            "status": WorkflowJobStatus(status),
            "result": None,
            "error": error,
        }
        return WorkflowJob(**(fields | values))

    def result(self, node_id: int, *, acknowledged: bool = False, error: str | None = None) -> Result:
        fields: dict[str, Any] = {
            "id": node_id,
            "workflow_execution_id": 1,
            "node_id": node_id,
            "connection_id": node_id + 10,
            "source_peer_id": "self",
            "source_job_execution_id": None,
            "directory": "",
            "duty_acknowledged": acknowledged,
            "error": error,
        }
        return Result(**fields)

    def peer(
        self, connection_id: int, does: str = "OUTPUT", *, acknowledged: bool = False, **values: Any
    ) -> InterfacePeer:
        fields: dict[str, Any] = {
            "id": connection_id,
            "job_interface_id": 1,
            "peer_id": "other",
            "peer_workflow_job_id": 7,
            "peer_job_execution_id": 8,
            "peer_path": "/output",
            "peer_file_name": None,
            "peer_mount_function": MountFunction(does),
            "duty_acknowledged": acknowledged,
            "connection_id": connection_id,
            "peer_interface_type": InterfaceType.STDOUT,
            "include": (),
            "source_path": None,
            "lane": "",
        }
        return InterfacePeer(**(fields | values))

    def interface(self, kind: str, *peers: InterfacePeer) -> JobInterface:
        fields: dict[str, Any] = {
            "id": 1,
            "job_execution_id": 1,
            "interface_type": InterfaceType(kind),
            "path": "",
            "mount_function": None,
            "peers": peers,
        }
        return JobInterface(**fields)

    def job(self, status: str, **values: Any) -> JobExecution:
        fields: dict[str, Any] = {
            "id": 5,
            "workflow_job_id": 1,
            "order_workflow_job_id": 1,
            "workflow_execution_id": 3,
            "execution_uid": "0" * 32,
            "node_id": 1,
            "attempt": 1,
            "job_name": "count",
            "service_id": 9,
            "service_name": "wc",
            "service_type": ServiceType.STANDALONE,
            "executor_peer_id": "self",
            "ordering_peer_id": "self",
            "remote_job_execution_id": None,
            "status": JobStatus(status),
            "entrypoint": None,
            "commands": None,
            "execution_constraint": ExecutionConstraint.INPUTS_READY,
            "constraint_detail": "[]",
            "start_received": True,
            "created_at": NOW,
            "started_at": NOW,
            "ended_at": None,
            "start_by": NOW + timedelta(minutes=15),
            "run_by": NOW + timedelta(hours=24),
            "pull_by": None,
            "image_digest": None,
            "error_message": None,
            "exit_code": None,
            "exit_signal": None,
            "cancel_requested_at": None,
            "result": None,
        }
        return JobExecution(**(fields | values))

    def transfer(self, status: str, error: str | None = None) -> Transfer:
        fields: dict[str, Any] = {
            "transfer_id": "t-1",
            "direction": TransferDirection.LOCAL,
            "status": TransferStatus(status),
            "workflow_execution_id": 3,
            "ordering_peer_id": "self",
            "execution_uid": "0" * 32,
            "connection_id": 1,
            "source_peer_id": "self",
            "source_job_execution_id": 1,
            "dest_peer_id": "self",
            "dest_job_execution_id": 5,
            "source_peer_row_id": None,
            "dest_peer_row_id": None,
            "result_id": None,
            "source_path": None,
            "file_count": 1,
            "size_bytes": 100,
            "bytes_done": 40,
            "rate_bytes_s": None,
            "progress_at": None,
            "sealed": False,
            "attempts": 1,
            "error": error,
            "created_at": NOW,
            "started_at": NOW,
            "completed_at": None,
        }
        return Transfer(**fields)


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()
