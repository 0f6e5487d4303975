"""What only one type of service has, as the JSON of `offered_services.settings`: field for field, nothing by magic."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, assert_never

from rnd.types.enums import Confine, Egress, ServiceType
from rnd.types.ids import PeerId
from rnd.types.services import (
    DataSettings,
    DockerSettings,
    HostPath,
    ResourceLimits,
    RetryPolicy,
    ServiceSettings,
    StandaloneSettings,
)


def settings_to_text(settings: ServiceSettings) -> str:
    """Return settings as JSON text."""
    match settings:
        case DataSettings():
            fields = _data_fields(settings)
        case StandaloneSettings():
            fields = _standalone_fields(settings)
        case DockerSettings():
            fields = _docker_fields(settings)
        case _:
            assert_never(settings)
    return json.dumps(fields, ensure_ascii=False)


@lru_cache(maxsize=128)  # the queue reads the same few services again and again
def settings_from_text(service_type: ServiceType, text: str) -> ServiceSettings:
    """Return the settings of a service of that type; fields that are left out have their defaults."""
    fields = json.loads(text)
    match service_type:
        case ServiceType.DATA:
            return _data_settings(fields)
        case ServiceType.STANDALONE:
            return _standalone_settings(fields)
        case ServiceType.DOCKER:
            return _docker_settings(fields)
        case _:
            assert_never(service_type)


def retry_to_text(retry: RetryPolicy) -> str:
    """Return a retry policy as JSON text."""
    return json.dumps({"attempts": retry.attempts, "backoff_s": retry.backoff_s})


@lru_cache(maxsize=128)
def retry_from_text(text: str) -> RetryPolicy:
    """Return the retry policy of that JSON."""
    fields = json.loads(text)
    return RetryPolicy(attempts=int(fields.get("attempts", 1)), backoff_s=float(fields.get("backoff_s", 0.0)))


def _data_fields(settings: DataSettings) -> dict[str, object]:
    return {
        "file_count": settings.file_count,
        "size_bytes": settings.size_bytes,
        "manifest_sha256": settings.manifest_sha256,
        "encrypted": settings.encrypted,
        "egress": settings.egress,
        "egress_peers": list(settings.egress_peers),
        "downloadable": settings.downloadable,
        "seal": settings.seal,
    }


def _data_settings(fields: dict[str, Any]) -> DataSettings:
    return DataSettings(
        file_count=fields["file_count"],
        size_bytes=fields["size_bytes"],
        manifest_sha256=fields["manifest_sha256"],
        encrypted=fields.get("encrypted", False),
        egress=Egress(fields.get("egress", Egress.ANY_JOB)),
        egress_peers=tuple(PeerId(peer) for peer in fields.get("egress_peers", ())),
        downloadable=fields.get("downloadable", True),
        seal=fields.get("seal", False),
    )


def _standalone_fields(settings: StandaloneSettings) -> dict[str, object]:
    return {
        "executable": settings.executable,
        "cmd": list(settings.cmd),
        "env": dict(settings.env),
        "working_directory": settings.working_directory,
        "limits": _limit_fields(settings.limits),
        "timeout_s": settings.timeout_s,
        "allow_override": settings.allow_override,
        "confine": settings.confine,
        "host_paths": [{"path": host.path, "writable": host.writable} for host in settings.host_paths],
        "network": settings.network,
        "min_sandbox": settings.min_sandbox,
        "secret_names": list(settings.secret_names),
    }


def _standalone_settings(fields: dict[str, Any]) -> StandaloneSettings:
    return StandaloneSettings(
        executable=fields["executable"],
        cmd=tuple(fields.get("cmd", ())),
        env=dict(fields.get("env", {})),
        working_directory=fields.get("working_directory", ""),
        limits=_limits(fields.get("limits", {})),
        timeout_s=fields.get("timeout_s"),
        allow_override=fields.get("allow_override", False),
        confine=Confine(fields.get("confine", Confine.AUTO)),
        host_paths=tuple(
            HostPath(path=host["path"], writable=host.get("writable", False)) for host in fields.get("host_paths", ())
        ),
        network=fields.get("network", ""),
        min_sandbox=fields.get("min_sandbox", ""),
        secret_names=tuple(fields.get("secret_names", ())),
    )


def _docker_fields(settings: DockerSettings) -> dict[str, object]:
    return {
        "image": settings.image,
        "image_id": settings.image_id,
        "digest": settings.digest,
        "entrypoint": None if settings.entrypoint is None else list(settings.entrypoint),
        "cmd": None if settings.cmd is None else list(settings.cmd),
        "env": dict(settings.env),
        "limits": _limit_fields(settings.limits),
        "network": settings.network,
        "timeout_s": settings.timeout_s,
        "allow_override": settings.allow_override,
        "user": settings.user,
        "read_only_root": settings.read_only_root,
        "tmpfs_bytes": settings.tmpfs_bytes,
        "cap_add": list(settings.cap_add),
        "secret_names": list(settings.secret_names),
    }


def _docker_settings(fields: dict[str, Any]) -> DockerSettings:
    known = DockerSettings(image=fields["image"], image_id=fields["image_id"])
    return DockerSettings(
        image=known.image,
        image_id=known.image_id,
        digest=fields.get("digest", known.digest),
        entrypoint=_words(fields.get("entrypoint")),
        cmd=_words(fields.get("cmd")),
        env=dict(fields.get("env", {})),
        limits=_limits(fields.get("limits", {})),
        network=fields.get("network", known.network),
        timeout_s=fields.get("timeout_s"),
        allow_override=fields.get("allow_override", known.allow_override),
        user=fields.get("user", known.user),
        read_only_root=fields.get("read_only_root", known.read_only_root),
        tmpfs_bytes=fields.get("tmpfs_bytes", known.tmpfs_bytes),
        cap_add=tuple(fields.get("cap_add", ())),
        secret_names=tuple(fields.get("secret_names", ())),
    )


def _words(words: list[str] | None) -> tuple[str, ...] | None:
    return None if words is None else tuple(words)


def _limit_fields(limits: ResourceLimits) -> dict[str, object]:
    return {
        "cpus": limits.cpus,
        "memory_bytes": limits.memory_bytes,
        "pids": limits.pids,
        "disk_bytes": limits.disk_bytes,
        "open_files": limits.open_files,
        "gpus": limits.gpus,
    }


def _limits(fields: dict[str, Any]) -> ResourceLimits:
    return ResourceLimits(
        cpus=fields.get("cpus"),
        memory_bytes=fields.get("memory_bytes"),
        pids=fields.get("pids"),
        disk_bytes=fields.get("disk_bytes"),
        open_files=fields.get("open_files"),
        gpus=fields.get("gpus"),
    )
