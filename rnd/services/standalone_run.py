"""What is run for a job of a STANDALONE service: arguments, folders, environment, confinement (ruling 13, design section 8)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rnd.rules.confinement import confinement_refusal, has_network, why_confined
from rnd.rules.paths import UnsafePath, is_within, mount_folder, normalise_mount_path
from rnd.services import run_files
from rnd.services.executor import Confinement, JobRun, Place
from rnd.services.service_secrets import check_secret_names
from rnd.services.standalone_orders import SEARCH_PATH, find_executable, merge_arguments
from rnd.types.enums import InterfaceType, MountFunction
from rnd.types.errors import ExecutorUnavailable, JobFailed, PermissionDenied
from rnd.types.executions import JobExecution, JobInterface
from rnd.types.services import Sandbox, Service, ServiceInterface, StandaloneSettings

MOUNT_TOKEN = re.compile(r"\{mount:(/[^{}]*)\}")
UNKNOWN_SANDBOX = Sandbox()


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
    sandbox: Sandbox = UNKNOWN_SANDBOX,
    data_dir: Path | None = None,
) -> JobRun:
    """Return what to run for a job of a STANDALONE service (ruling 13), reading little but the executable's mode.

    `sandbox` is what this machine confines programs with. No path that the owner opens may lead to `data_dir`, or be
    above it. Raises `ExecutorUnavailable` where the program or the confinement that the service asks for is not there,
    `PermissionDenied` where another peer's order goes beyond what the owner allows (ruling 15), `JobFailed` where the
    definition makes no sense here.
    """
    settings = service.settings
    if not isinstance(settings, StandaloneSettings):
        raise JobFailed(f"service {service.name} is {service.service_type}, not STANDALONE")
    foreign = job.ordering_peer_id != job.executor_peer_id
    refusal = confinement_refusal(service, sandbox, foreign=foreign)
    if refusal is not None:
        raise ExecutorUnavailable(refusal, hint="The owner can set confine to never, and takes the risk.")
    mounts = _mount_directories(service, directory, interfaces)
    words = merge_arguments(service, settings, job.entrypoint, job.commands, foreign=foreign)
    argv = tuple(_with_mounts(argument, mounts) for argument in words)
    confinement: Confinement | None = None
    if why_confined(settings, foreign=foreign):
        places = (*_job_places(directory, service, interfaces), *_host_places(service, settings, data_dir))
        confinement = Confinement(places=places, network=has_network(settings))
    output = directory / "output"
    working_directory = output
    if settings.working_directory:
        working_directory = Path(_with_mounts(settings.working_directory, mounts))
        if not working_directory.is_absolute():
            raise JobFailed(f"the working directory {settings.working_directory} of {service.name} is not absolute")
    return JobRun(
        job_execution_id=job.id,
        attempt=job.attempt,
        engine_name=engine_name,
        directory=directory,
        argv=(find_executable(argv[0]), *argv[1:]),
        env=_environment(job, settings, directory, mounts, confined=confinement is not None),
        working_directory=working_directory,
        stdin_files=tuple(stdin_files),
        limits=settings.limits,
        stream_bytes=stream_bytes,
        grace_s=grace_s,
        secrets=check_secret_names(secrets or {}),
        confinement=confinement,
    )


def _mount_directories(service: Service, directory: Path, interfaces: Sequence[JobInterface]) -> dict[str, Path]:
    """Return where each MOUNT of the service lies in the job's folder, connected or not, by its path."""
    declared: Sequence[JobInterface | ServiceInterface] = (*service.interfaces, *interfaces)
    paths = {normalise_mount_path(each.path) for each in declared if each.interface_type is InterfaceType.MOUNT}
    try:
        return {path: directory / mount_folder(path) for path in sorted(paths)}
    except UnsafePath as error:
        raise JobFailed(str(error)) from error


def _with_mounts(text: str, mounts: Mapping[str, Path]) -> str:
    def place(token: re.Match[str]) -> str:
        path = normalise_mount_path(token[1])
        if path not in mounts:
            raise JobFailed(f"{token[0]} names a MOUNT that the service does not have")
        return os.fspath(mounts[path].absolute())

    return MOUNT_TOKEN.sub(place, text)


def _job_places(directory: Path, service: Service, interfaces: Sequence[JobInterface]) -> Iterator[Place]:
    """Yield what a confined job sees of its own folder: not its record and its logs, which the keeper writes."""
    yield Place(path=directory / "input", own=True)
    for name in ("output", run_files.TEMPORARY_FOLDER):
        yield Place(path=directory / name, writable=True, own=True)
    functions: dict[Path, MountFunction | None] = {}
    declared: Sequence[JobInterface | ServiceInterface] = (*service.interfaces, *interfaces)
    for each in declared:
        if each.interface_type is InterfaceType.MOUNT:
            functions[directory / mount_folder(each.path)] = each.mount_function
    functions.pop(directory / "output", None)
    for path, function in functions.items():
        yield Place(path=path, writable=function in (MountFunction.OUTPUT, MountFunction.BOTH), own=True)


def _host_places(service: Service, settings: StandaloneSettings, data_dir: Path | None) -> Iterator[Place]:
    """Yield what the owner opens, after a look at where it leads now; the links may have changed since it was declared."""
    for opened in settings.host_paths:
        real = Path(os.path.realpath(opened.path))
        for secret in () if data_dir is None else {data_dir.absolute(), Path(os.path.realpath(data_dir))}:
            if is_within(real, secret) or is_within(secret, real):
                raise PermissionDenied(f"the host path {opened.path} of {service.name} opens the data directory of rnd")
        if real == Path("/"):
            raise PermissionDenied(f"the host path {opened.path} of {service.name} opens the whole machine")
        if not real.exists():
            raise ExecutorUnavailable(f"the host path {opened.path} of {service.name} is not there")
        yield Place(path=Path(opened.path), writable=opened.writable)


def _environment(
    job: JobExecution, settings: StandaloneSettings, directory: Path, mounts: Mapping[str, Path], *, confined: bool
) -> dict[str, str]:
    """Return a clean environment, the service's own, and what tells the program where its things are.

    A MOUNT is in RND_MOUNT_ and its path with everything but letters and digits as `_`: `/data/in` is
    RND_MOUNT_DATA_IN. Where two MOUNTs would share a name, neither gets one; the `{mount:...}` tokens remain. A confined
    program cannot write into its job's folder itself, so its home is the temporary folder.
    """
    folder = os.fspath(directory.absolute())
    temporary = os.path.join(folder, run_files.TEMPORARY_FOLDER)
    environment = {
        "PATH": SEARCH_PATH,
        "HOME": temporary if confined else folder,
        "LANG": "C.UTF-8",
        "TMPDIR": temporary,
        **settings.env,
        "RND_JOB_ID": str(job.id),
        "RND_ATTEMPT": str(job.attempt),
        "RND_OUTPUT": os.path.join(folder, "output"),
    }
    names = {path: "RND_MOUNT_" + re.sub(r"[^A-Za-z0-9]", "_", path.strip("/")).upper() for path in mounts}
    for path, name in names.items():
        if list(names.values()).count(name) == 1:
            environment[name] = os.fspath(mounts[path].absolute())
    return environment
