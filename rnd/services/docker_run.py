"""What is run for a job of a DOCKER service: its container, mounts, words and environment (rulings 14 and 15; document:
DOCKER Service Execution, steps 1 to 4). Reads nothing and asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rnd.rules.containers import INPUT_MOUNT, SCRATCH, mounts_problem, shows_stdin
from rnd.rules.paths import OUTPUT_MOUNT, mount_folder, normalise_mount_path
from rnd.rules.policy import container_mount_refusal, container_override_refusal
from rnd.services.executor import (
    LABEL_ATTEMPT,
    LABEL_ENGINE_NAME,
    LABEL_JOB,
    LABEL_PEER,
    SECRETS_TARGET,
    Container,
    JobRun,
    Mount,
)
from rnd.services.images import ImageFacts
from rnd.services.service_secrets import check_secret_names
from rnd.services.standalone_run import MOUNT_TOKEN
from rnd.types.enums import InterfaceType, MountFunction
from rnd.types.errors import JobFailed, PermissionDenied
from rnd.types.executions import JobExecution, JobInterface
from rnd.types.services import DockerSettings, Service, ServiceInterface

Words = tuple[str, ...]


def build_run(
    job: JobExecution,
    service: Service,
    directory: Path,
    interfaces: Sequence[JobInterface],
    stdin_files: Sequence[Path] = (),
    *,
    engine_name: str,
    stream_bytes: int,
    secrets: Mapping[str, bytes] | None = None,
    grace_s: float = 2.0,
) -> JobRun:
    """Return what to run for a job of a DOCKER service.

    Raises `PermissionDenied` where another peer's order goes beyond what the owner allows, `JobFailed` where the definition
    makes no sense here. What only the image can tell is filled in by `with_image`.
    """
    settings = service.settings
    if not isinstance(settings, DockerSettings):
        raise JobFailed(f"service {service.name} is {service.service_type}, not DOCKER")
    if job.ordering_peer_id != job.executor_peer_id:
        refusal = container_override_refusal(service.name, settings, job.entrypoint, job.commands)
        refusal = refusal or container_mount_refusal(service, settings, interfaces)
        if refusal is not None:
            raise PermissionDenied(refusal)
    mounts = tuple(_mounts(service, directory, interfaces))
    targets = frozenset(mount.target for mount in mounts)
    entrypoint, cmd = _merge(job, settings)
    container = Container(
        name=f"job-{job.id}",
        image=settings.image,
        image_id=settings.image_id,
        digest=settings.digest,
        entrypoint=None if entrypoint is None else tuple(_with_mounts(word, targets) for word in entrypoint),
        cmd=None if cmd is None else tuple(_with_mounts(word, targets) for word in cmd),
        mounts=mounts,
        network=settings.network,
        user=settings.user,
        read_only_root=settings.read_only_root,
        tmpfs_bytes=settings.tmpfs_bytes,
        cap_add=settings.cap_add,
        labels={
            LABEL_PEER: job.executor_peer_id,
            LABEL_JOB: str(job.id),
            LABEL_ATTEMPT: str(job.attempt),
            LABEL_ENGINE_NAME: engine_name,
        },
    )
    secrets = check_secret_names(secrets or {})
    return JobRun(
        job_execution_id=job.id,
        attempt=job.attempt,
        engine_name=engine_name,
        directory=directory,
        argv=(),
        env=_environment(job, settings, targets, has_secrets=bool(secrets)),
        working_directory=directory / "output",
        stdin_files=tuple(stdin_files),
        limits=settings.limits,
        stream_bytes=stream_bytes,
        grace_s=grace_s,
        secrets=secrets,
        container=container,
    )


def with_image(run: JobRun, facts: ImageFacts) -> JobRun:
    """Return a run with the words that its image has for it where neither service nor order has any.

    Raises `JobFailed` where the image is another one than the container's, or nothing is left to run.
    """
    container = run.container
    assert container is not None  # only what build_run has made comes here
    if facts.image_id != container.image_id:
        raise JobFailed(f"{container.digest} is not the image {container.image_id} that the service was made with")
    entrypoint, cmd = container.entrypoint, container.cmd
    if entrypoint is None and cmd == ():
        # An engine takes "no arguments" for "the image's arguments", unless it is told what to execute.
        entrypoint = facts.entrypoint or None
    if not runs_anything(entrypoint, cmd, facts):
        raise JobFailed(nothing_to_run(container.image))
    return replace(run, container=replace(container, entrypoint=entrypoint))


def runs_anything(entrypoint: Words | None, cmd: Words | None, facts: ImageFacts) -> bool:
    """Say whether a container of an image has anything to run, with these words in place of the image's own."""
    if entrypoint is None:
        return bool((*facts.entrypoint, *(facts.cmd if cmd is None else cmd)))
    return bool((*entrypoint, *(cmd or ())))


def nothing_to_run(image: str) -> str:
    """Return why a container of an image cannot be run that has neither entrypoint nor cmd."""
    return f"image {image} names no program, and neither entrypoint nor cmd does: there is nothing to run"


def _merge(job: JobExecution, settings: DockerSettings) -> tuple[Words | None, Words | None]:
    """Return entrypoint and cmd, each the order's where it has it, else the service's; `None`: the image's."""
    entrypoint = settings.entrypoint if job.entrypoint is None else tuple(job.entrypoint)
    cmd = settings.cmd if job.commands is None else tuple(job.commands)
    if entrypoint == ():
        # Engines differ in what an empty entrypoint means; the first argument is what is executed then.
        if not cmd:
            raise JobFailed(nothing_to_run(settings.image))
        return cmd[:1], cmd[1:]
    return entrypoint, cmd


def _mounts(service: Service, directory: Path, interfaces: Sequence[JobInterface]) -> Iterator[Mount]:
    """Yield the folders that a container sees, by their targets' names: `output/`, the MOUNTs, and what STDIN gets."""
    declared: Sequence[JobInterface | ServiceInterface] = (*service.interfaces, *interfaces)
    functions = {
        normalise_mount_path(each.path): each.mount_function
        for each in declared
        if each.interface_type is InterfaceType.MOUNT
    }
    problem = mounts_problem(sorted(functions))
    if problem is not None:
        raise JobFailed(problem)
    found = [Mount(source=directory / "output", target=OUTPUT_MOUNT, writable=True)]
    for target, function in functions.items():
        if target != OUTPUT_MOUNT:
            writable = function in (MountFunction.OUTPUT, MountFunction.BOTH)
            found.append(Mount(source=directory / mount_folder(target), target=target, writable=writable))
    if _has_stdin(interfaces) and shows_stdin(functions):
        found.append(Mount(source=directory / "input", target=INPUT_MOUNT))
    yield from sorted(found, key=lambda mount: mount.target)


def _has_stdin(interfaces: Sequence[JobInterface]) -> bool:
    return any(
        interface.interface_type is InterfaceType.STDIN
        and any(peer.peer_mount_function is MountFunction.OUTPUT for peer in interface.peers)
        for interface in interfaces
    )


def _with_mounts(text: str, targets: frozenset[str]) -> str:
    """Replace `{mount:/input}` by what a container has it at, so that one workflow fits native programs and containers."""

    def place(token: re.Match[str]) -> str:
        path = normalise_mount_path(token[1])
        if path not in targets:
            raise JobFailed(f"{token[0]} names a MOUNT that the service does not have")
        return path

    return MOUNT_TOKEN.sub(place, text)


def _environment(
    job: JobExecution, settings: DockerSettings, targets: frozenset[str], *, has_secrets: bool
) -> dict[str, str]:
    """Return what a container's environment has beside the image's: the service's own, and where its things are.

    Nothing of the daemon's. A MOUNT is in `RND_MOUNT_` and its path, as for a native program.
    """
    environment = {
        "HOME": SCRATCH,
        **settings.env,
        "RND_JOB_ID": str(job.id),
        "RND_ATTEMPT": str(job.attempt),
        "RND_OUTPUT": OUTPUT_MOUNT,
    }
    names = {path: "RND_MOUNT_" + re.sub(r"[^A-Za-z0-9]", "_", path.strip("/")).upper() for path in targets}
    environment |= {name: path for path, name in names.items() if list(names.values()).count(name) == 1}
    if has_secrets:
        environment["RND_SECRETS"] = SECRETS_TARGET
    return environment
