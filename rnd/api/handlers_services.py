"""Methods about what this peer offers (document: Node Types; table `offered_services`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, assert_never

from rnd.api import container_services
from rnd.api.context import ApiContext, Call
from rnd.api.host_paths import check_host_path
from rnd.api.parameters import MAX_INT64, BadParameter, UnknownParameter
from rnd.api.rendering import JsonMembers, render, render_page, render_service
from rnd.database import offered_services, workflow_nodes
from rnd.database.offered_services import NewService
from rnd.log import get_logger
from rnd.rules.containers import registry_of, suggested_mounts
from rnd.rules.interfaces import default_interfaces, validate_interfaces, with_streams
from rnd.rules.upload_names import UPLOAD_PREFIX
from rnd.services.images import RegistryAuth
from rnd.services.service_secrets import keep_registry_auth, keep_secrets
from rnd.services.standalone_orders import check_executable
from rnd.types.enums import Egress, ServiceStatus, ServiceType
from rnd.types.errors import Conflict, NotFound, Problem, ValidationFailed
from rnd.types.ids import PeerId, ServiceId
from rnd.types.log_events import LogEvent
from rnd.types.services import DataSettings, DockerSettings, RetryPolicy, Service, ServiceInterface, StandaloneSettings

# What runs any program that its arguments name: who may set the arguments of these may run anything.
INTERPRETERS: Final = (
    "ash", "awk", "bash", "bun", "busybox", "csh", "dash", "deno", "env", "expect", "find", "fish", "gawk", "gdb",
    "guile", "java", "julia", "ksh", "lua", "make", "mawk", "node", "octave", "parallel", "perl", "php", "pwsh", "pypy",
    "python", "rscript", "r", "ruby", "sed", "sh", "sqlite3", "ssh", "sudo", "tar", "tclsh", "tcsh", "vim", "xargs", "zsh",
)  # fmt: skip

COMMON: Final = frozenset(
    {"name", "description", "interfaces", "pricing_amount", "pricing_type", "access", "retry_safe", "retry"}
)
DATA_ONLY: Final = frozenset({"paths", "passphrase", "egress", "egress_peers", "downloadable", "seal"})
STANDALONE_ONLY: Final = frozenset(
    {
        "executable", "cmd", "env", "working_directory", "limits", "timeout_s", "allow_override", "confine", "host_paths",
        "network", "min_sandbox", "secrets",
    }
)  # fmt: skip
DOCKER_ONLY: Final = frozenset(
    {
        "image", "build_context", "entrypoint", "cmd", "env", "limits", "network", "timeout_s", "allow_override", "user",
        "read_only_root", "tmpfs_bytes", "cap_add", "secrets", "registry_auth",
    }
)  # fmt: skip
_CONTENT: Final = frozenset({"paths", "passphrase"})
"""What makes the snapshot of a DATA service, once and for all."""
_TAKEN_BY: Final = {
    ServiceType.DATA: DATA_ONLY,
    ServiceType.STANDALONE: STANDALONE_ONLY,
    ServiceType.DOCKER: DOCKER_ONLY,
}

log = get_logger()


async def service_create(call: Call, *, service_type: ServiceType, **given: Any) -> JsonMembers:
    """Answer `service.create`."""
    _refuse_foreign(service_type, given)
    interfaces = _interfaces(service_type, given.get("interfaces"))
    _check_retry(given.get("retry_safe", False), given.get("retry", RetryPolicy()))
    match service_type:
        case ServiceType.DATA:
            service, warn = await _create_data(call.api, interfaces, given), ""
        case ServiceType.STANDALONE:
            service, warn = await _create_standalone(call.api, interfaces, given)
        case ServiceType.DOCKER:
            service, warn = await _create_docker(call.api, interfaces, given)
        case _:
            assert_never(service_type)
    log.info(LogEvent.SERVICE_CREATED, service_id=service.id, name=service.name, type=service.service_type)
    if warn:
        log.warning(LogEvent.SERVICE_WARNING, name=service.name, warning=warn)
    return render_service(service) | ({"warn": warn} if warn else {})


def _refuse_foreign(service_type: ServiceType, given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in COMMON and name not in _TAKEN_BY[service_type]:
            raise _foreign(service_type, name)


def _foreign(service_type: ServiceType, name: str) -> BadParameter:
    known = ", ".join(sorted(COMMON | _TAKEN_BY[service_type] - _CONTENT))
    hint = "The files of a DATA service are a snapshot that stays: offer the changed ones as a new service, by service.create."
    return BadParameter(
        name,
        f"is not a parameter of a {service_type} service (known: {known})",
        hint=hint if name in _CONTENT and service_type is ServiceType.DATA else "",
    )


async def explain_unknown(call: Call, named: Mapping[str, object], error: UnknownParameter) -> BadParameter:
    """Say for `service.update` what a service of its type takes, and how the files of DATA are changed."""
    service_id = named.get("service_id")
    if type(service_id) is not int or not 0 < service_id <= MAX_INT64:
        return error
    try:
        service = await call.api.database.read(lambda conn: offered_services.get_service(conn, ServiceId(service_id)))
    except NotFound:
        return error
    return _foreign(service.service_type, error.where)


def _interfaces(service_type: ServiceType, declared: Sequence[ServiceInterface] | None) -> tuple[ServiceInterface, ...]:
    """Return the interfaces a service gets: its own with the streams that every job has, or the defaults."""
    if declared is None:
        return default_interfaces(service_type)
    problems = validate_interfaces(service_type, declared)
    if problems:
        raise ValidationFailed(problems)
    return with_streams(service_type, declared)


def _check_retry(retry_safe: bool, retry: RetryPolicy) -> None:
    if retry.attempts > 1 and not retry_safe:
        message = "retry.attempts above 1 needs retry_safe: only then may a job run twice"
        raise ValidationFailed([Problem(check="retry_safe", message=message)])


def _common(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in COMMON and name != "interfaces"}


# ---------------------------------------------------------------- DATA


async def _create_data(api: ApiContext, interfaces: tuple[ServiceInterface, ...], given: Mapping[str, Any]) -> Service:
    if "paths" not in given:
        raise BadParameter("paths", "is missing")
    _check_egress(given.get("egress", Egress.ANY_JOB), given.get("egress_peers", ()))
    uploads = [path.removeprefix(UPLOAD_PREFIX) for path in given["paths"] if path.startswith(UPLOAD_PREFIX)]
    sources = [await _data_source(api, path) for path in given["paths"]]
    rules = {name: given[name] for name in ("egress", "egress_peers", "downloadable", "seal") if name in given}
    service = await api.data_service.create(
        paths=sources,
        passphrase=given.get("passphrase"),
        interfaces=interfaces,
        **rules,
        **_common(given),
    )
    for name in uploads:
        with contextlib.suppress(Conflict):  # an execution has yet to send it; it is dropped a day after its last use
            await api.uploads.delete(name)  # the service has its own copy now
    return service


async def _data_source(api: ApiContext, path: str) -> Path:
    if path.startswith(UPLOAD_PREFIX):
        return await api.uploads.claim(path.removeprefix(UPLOAD_PREFIX))
    return Path(path)  # the DATA service judges every path itself, all at once


def _check_egress(egress: Egress, egress_peers: Sequence[PeerId]) -> None:
    if (egress is Egress.LISTED) != bool(egress_peers):
        message = "egress 'listed' and egress_peers belong together: give both or neither"
        raise ValidationFailed([Problem(check="egress", message=message)])


# ---------------------------------------------------------------- STANDALONE


async def _create_standalone(
    api: ApiContext, interfaces: tuple[ServiceInterface, ...], given: Mapping[str, Any]
) -> tuple[Service, str]:
    if "executable" not in given:
        raise BadParameter("executable", "is missing")
    secrets = _new_secrets(given)
    if given.get("cmd", ()) is None:
        raise BadParameter("cmd", "must be a list")
    settings = StandaloneSettings(**_standalone_fields(given), secret_names=tuple(sorted(secrets)))
    await _check_standalone(api, settings)
    new = NewService(
        service_type=ServiceType.STANDALONE,
        interfaces=interfaces,
        settings=settings,
        service_path=settings.executable,
        **_common(given),
    )
    now = api.clock.now()

    def create(conn: sqlite3.Connection) -> Service:
        service = offered_services.create_service(conn, new, now=now)
        keep_secrets(conn, api.vault, service.id, secrets)
        return service

    created = await api.database.write(create)
    api.executors["standalone"].expect_runs()
    return created, override_warning(settings)


def _new_secrets(given: Mapping[str, Any]) -> Mapping[str, str]:
    secrets: Mapping[str, str] = given.get("secrets", {})
    if None in secrets.values():
        raise BadParameter("secrets", "null removes a secret, which only service.update does")
    return secrets


def _standalone_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(StandaloneSettings)}
    return {name: value for name, value in given.items() if name in names and name not in COMMON}


async def _check_standalone(api: ApiContext, settings: StandaloneSettings) -> None:
    if settings.network == "bridge":
        raise BadParameter("network", "must be one of none, host for a STANDALONE service")
    await asyncio.to_thread(check_executable, settings.executable)
    for host_path in settings.host_paths:
        await check_host_path(api.config, host_path.path, whole=True)
    if settings.working_directory:
        await check_host_path(api.config, settings.working_directory)


def override_warning(settings: StandaloneSettings) -> str:
    """Return what an owner should hear who lets others choose the arguments of a shell or interpreter; "": nothing."""
    if not settings.allow_override:
        return ""
    names = {PurePosixPath(settings.executable).name, os.path.basename(os.path.realpath(settings.executable))}
    for name in sorted(names):
        if name.lower().rstrip("0123456789.-") in INTERPRETERS:
            return (
                f"allow_override lets every peer that may order this service choose the arguments of {name}, "
                "which runs any program its arguments name"
            )
    return ""


# ---------------------------------------------------------------- DOCKER


async def _create_docker(
    api: ApiContext, interfaces: tuple[ServiceInterface, ...], given: Mapping[str, Any]
) -> tuple[Service, str]:
    secrets = _new_secrets(given)
    name: str = given["name"]
    if await api.database.read(lambda conn: offered_services.find_service_by_name(conn, name)) is not None:
        raise offered_services.name_taken(name)  # before an image is pulled for it
    auth: RegistryAuth | None = given.get("registry_auth")
    settings = await container_services.describe(api, name, given, auth=auth)
    settings = replace(settings, secret_names=tuple(sorted(secrets)))
    new = NewService(
        service_type=ServiceType.DOCKER,
        interfaces=interfaces,
        settings=settings,
        service_path=settings.image,
        **_common(given),
    )
    now = api.clock.now()

    def create(conn: sqlite3.Connection) -> Service:
        service = offered_services.create_service(conn, new, now=now)
        keep_secrets(conn, api.vault, service.id, secrets)
        keep_registry_auth(conn, api.vault, service.id, registry_of(settings.image), auth)
        return service

    return await api.database.write(create), container_services.looseness(settings)


async def _changed_docker(
    api: ApiContext, before: Service, settings: DockerSettings, given: Mapping[str, Any]
) -> tuple[DockerSettings, RegistryAuth | None]:
    """Return the settings of a DOCKER service after a change, and who asks its registry from then on."""
    if "registry_auth" in given:
        auth: RegistryAuth | None = given["registry_auth"]
    else:
        auth = await api.secrets.registry_auth(before.id, registry_of(given.get("image", settings.image)))
    return await container_services.describe(api, before.name, given, before=settings, auth=auth), auth


# ---------------------------------------------------------------- reading and changing


async def service_get(call: Call, *, service_id: ServiceId) -> JsonMembers:
    """Answer `service.get`."""
    return render_service(await call.api.database.read(lambda conn: offered_services.get_service(conn, service_id)))


async def service_list(
    call: Call,
    *,
    service_type: ServiceType | None = None,
    status: ServiceStatus | None = None,
    limit: int,
    after_id: int,
) -> JsonMembers:
    """Answer `service.list`."""
    page = await call.api.database.read(
        lambda conn: offered_services.list_services(
            conn, service_type=service_type, status=status, limit=limit, after_id=after_id
        )
    )
    return render_page(page, render_service)


async def service_update(call: Call, *, service_id: ServiceId, **given: Any) -> JsonMembers:
    """Answer `service.update`: what is given is changed; a change that could alter a result raises the revision."""
    api = call.api
    before = await api.database.read(lambda conn: offered_services.get_service(conn, service_id))
    _refuse_foreign(before.service_type, given)
    secrets: Mapping[str, str | None] = given.get("secrets", {})
    after = _changed(before, given)
    _check_retry(after.retry_safe, after.retry)
    warn = ""
    auth: RegistryAuth | None = None
    match after.settings:
        case DataSettings():
            _check_egress(after.settings.egress, after.settings.egress_peers)
        case StandaloneSettings():
            await _check_standalone(api, after.settings)
            warn = override_warning(after.settings)
        case DockerSettings():
            settings, auth = await _changed_docker(api, before, after.settings, given)
            after = replace(after, settings=settings, service_path=settings.image)
            warn = container_services.looseness(settings)
        case _:
            assert_never(after.settings)
    now = api.clock.now()

    def update(conn: sqlite3.Connection) -> Service:
        if offered_services.get_service(conn, service_id) != before:
            raise Conflict(
                f"Service {service_id} was changed by another call", hint="Read it again and repeat the call."
            )
        keep_secrets(conn, api.vault, service_id, secrets)
        if isinstance(after.settings, DockerSettings):
            keep_registry_auth(conn, api.vault, service_id, registry_of(after.settings.image), auth)
        return offered_services.update_service(conn, after, now=now)

    service = await api.database.write(update)
    log.info(LogEvent.SERVICE_UPDATED, service_id=service.id, revision=service.revision)
    if warn:
        log.warning(LogEvent.SERVICE_WARNING, name=service.name, warning=warn)
    return render_service(service) | ({"warn": warn} if warn else {})


def _changed(before: Service, given: Mapping[str, Any]) -> Service:
    settings = before.settings
    after = replace(before, **_common(given))
    if "interfaces" in given:
        after = replace(after, interfaces=_interfaces(before.service_type, given["interfaces"]))
    if isinstance(settings, DataSettings):
        rules = {name: given[name] for name in ("egress", "egress_peers", "downloadable", "seal") if name in given}
        if rules.get("egress", Egress.LISTED) is not Egress.LISTED and "egress_peers" not in rules:
            rules["egress_peers"] = ()
        return replace(after, settings=replace(settings, **rules))
    secrets: Mapping[str, str | None] = given.get("secrets", {})
    kept = set(settings.secret_names) - secrets.keys()
    added = {name for name, secret in secrets.items() if secret is not None}
    secret_names = tuple(sorted(kept | added))
    if isinstance(settings, DockerSettings):
        return replace(after, settings=replace(settings, secret_names=secret_names))
    if given.get("cmd", ()) is None:
        raise BadParameter("cmd", "must be a list")
    changed = replace(settings, **_standalone_fields(given), secret_names=secret_names)
    return replace(after, settings=changed, service_path=changed.executable)


async def service_set_status(call: Call, *, service_id: ServiceId, status: ServiceStatus) -> JsonMembers:
    """Answer `service.set_status`."""
    now = call.api.clock.now()
    service = await call.api.database.write(lambda conn: offered_services.set_status(conn, service_id, status, now=now))
    log.info(LogEvent.SERVICE_STATUS_SET, service_id=service_id, status=status)
    return render_service(service)


async def service_delete(call: Call, *, service_id: ServiceId) -> JsonMembers:
    """Answer `service.delete`: refused while a job uses it; the workflows that name it are told, and stay as they are."""
    api = call.api
    now = api.clock.now()
    service, left = await api.database.write(
        lambda conn: (
            offered_services.delete_service(conn, service_id, self_peer_id=api.peer_id, now=now),
            workflow_nodes.list_workflows_of_service(conn, service_id, peer_id=api.peer_id),
        )
    )
    if service.service_type is ServiceType.DATA:
        await api.data_service.remove_files(service)
    log.info(LogEvent.SERVICE_DELETED, service_id=service_id, name=service.name)
    workflows = [{"workflow_id": workflow_id, "name": name} for workflow_id, name in left]
    return {"deleted": True, "service_id": service_id, "workflows": workflows}


async def service_unlock(call: Call, *, service_id: ServiceId, passphrase: str) -> JsonMembers:
    """Answer `service.unlock`: for a while, other peers' orders can read this encrypted DATA."""
    unlocked_until = await call.api.data_service.unlock(service_id, passphrase)
    return {"unlocked_until": render(unlocked_until)}


async def service_suggest_interfaces(
    call: Call, *, service_type: ServiceType, image: str | None = None
) -> list[JsonMembers]:
    """Answer `service.suggest_interfaces`: the streams, and for an image that is here its volumes and working directory."""
    suggested = default_interfaces(service_type)
    if image is not None:
        if service_type is not ServiceType.DOCKER:
            raise BadParameter("image", f"says nothing of a {service_type} service")
        facts = await container_services.look_at(call.api, image)
        suggested += suggested_mounts(facts.volumes, facts.working_directory)
    return [render(interface) for interface in suggested]
