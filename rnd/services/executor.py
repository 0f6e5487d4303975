"""The interface between the JobManager and whatever runs a job's program (document: Node Execution Details).

An executor is asked to run something under a name (`engine_name`) that is never used for anything else; asking again
under the same name finds what is already there. So a daemon that dies between asking and writing down the answer
simply asks again. Everything an executor needs to find a run after a restart is in the handle, a JSON text that is
opaque to everybody else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from rnd.types.definitions import JobPlan
from rnd.types.enums import LogStream
from rnd.types.ids import JobExecutionId
from rnd.types.services import ResourceLimits, Service

LABEL_PEER: Final = "rnd.peer"
LABEL_JOB: Final = "rnd.job"
LABEL_ATTEMPT: Final = "rnd.attempt"
LABEL_ENGINE_NAME: Final = "rnd.engine_name"
"""What a container of ours says of itself; by the last its run is found again."""

SECRETS_TARGET: Final = "/run/secrets"
"""The folder in a container that has the files of `JobRun.secrets`."""


class Phase(StrEnum):
    """How far one run has got, as its engine sees it."""

    RUNNING = "RUNNING"
    """The program, or something it left behind, is still there."""
    EXITED = "EXITED"
    """The program and all its processes have ended; `exit_code` or `signal` says how."""
    LOST = "LOST"
    """It ran, is gone, and nobody wrote down how it ended."""
    REJECTED = "REJECTED"
    """The program was never started; `reason` says why."""
    UNKNOWN = "UNKNOWN"
    """The engine could not be asked. Nothing follows from this; ask again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether an executor can take work now.

    `sandbox` is the tier that confined jobs get; "none" means that none can run, and `sandbox_reason` says why.
    """

    available: bool
    version: str | None = None
    reason: str | None = None
    sandbox: str = "none"
    sandbox_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file or folder that a confined program sees, under its own name.

    `own` is one of the job's own folders; it may be missing, and a link in its place is refused.
    """

    path: Path
    writable: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What a confined run sees beside the system and its executable. Without `network` it gets no socket to anywhere."""

    places: tuple[Place, ...]
    network: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder of the job's own that its container sees at `target`, an absolute path."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What a run in a container takes beside what every run has; the terms are the owner's (see `DockerSettings`).

    `entrypoint` and `cmd` are merged with the order's already; `None` leaves them to the image, and an `entrypoint` is never
    empty. `name` is the wish: where a foreign container has it, ours gets a suffix. `labels` are all four of ours.
    """

    name: str
    image: str
    image_id: str
    digest: str
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    mounts: tuple[Mount, ...]
    network: str = "none"
    user: str = ""
    read_only_root: bool = True
    tmpfs_bytes: int = 64 << 20
    cap_add: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnContainer:
    """A container of this data directory, as the engine has it; `labels` say of which peer, job and attempt."""

    container_id: str
    name: str
    engine_name: str
    directory: Path
    labels: Mapping[str, str]
    state: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One attempt of one job, ready to run.

    `directory` is the job's own folder with `input/`, `output/`, `mounts/` and `logs/` below it; the executor makes it,
    `output/` and `logs/` where they are missing, and whoever lays out more for the job does so before. `argv[0]` is the
    executable. `stdin_files` are fed in order as one stream; none means end of file at once. `stream_bytes` caps each
    captured stream. `grace_s` is the longest that processes left behind by the program get between SIGTERM and
    SIGKILL. `secrets` are given as files of these names and never appear in arguments, environment or logs.
    `confinement` is `None` where the run may do what the daemon's user may. `container` is set where it runs in one, and
    `argv` is empty then.
    """

    job_execution_id: JobExecutionId
    attempt: int
    engine_name: str
    directory: Path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    working_directory: Path
    stdin_files: tuple[Path, ...] = ()
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    stream_bytes: int = 1 << 30
    grace_s: float = 2.0
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    confinement: Confinement | None = None
    container: Container | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What an executor knows about a run. `reason` is a sentence for a person, "" where there is nothing to say.

    `streams_cut` names the streams that reached the cap, or, with `streams_lost`, of which a part was written while nobody
    was there to take it; `leftovers_killed` counts processes that outlived the program and were ended with it. `exit_code` is
    set for an ordinary exit, `signal` for a death by signal.
    """

    phase: Phase
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    streams_cut: tuple[LogStream, ...] = ()
    streams_lost: bool = False
    leftovers_killed: int = 0


def container_id_of(handle: str) -> str:
    """Return the id of the container that a handle stands for: the one member of it that is not for its executor alone."""
    return str(json.loads(handle)["container_id"])


class Executor(Protocol):
    """Runs programs. Every method may be called again after the daemon or the engine was restarted.

    None is for logs: whoever runs a program writes its streams to `logs/` of the job's folder as they come, and that is where all read them.
    """

    name: str

    async def check(self) -> Health:
        """Say whether work can be taken, and why not."""

    def refusal(self, service: Service, plan: JobPlan, *, foreign: bool) -> str | None:
        """Return why a job of a service could not be run here as things are, in words, or `None`.

        Asked before anything is created; of `plan` only entrypoint and cmd count; `foreign` says that another peer orders it.
        May look at the disk, so call it in a thread.
        """

    def expect_runs(self, at_once: int = 0) -> None:
        """Have ready what takes long to start: this peer offers services of this kind, and so many runs may begin soon and at once.

        Nothing depends on it: runs that nobody has expected take longer to begin, and what was got ready in vain goes by itself.
        """

    async def submit(self, run: JobRun) -> str:
        """Start `run`, or find the run that already has its `engine_name`, and return its handle.

        Returns as soon as the engine has taken it on; a program that cannot be started is REJECTED by `wait`.
        Raises `ExecutorUnavailable` when the engine refuses it or cannot be asked; submitting again is always safe.
        """

    async def find(self, engine_name: str, directory: Path) -> str | None:
        """Return the handle of a run that was started under this name, whatever became of it, or `None`."""

    async def wait(self, handle: str) -> Observation:
        """Return once the run has ended. Cancelling the wait leaves the run alone."""

    async def poll(self, handles: Sequence[str]) -> dict[str, Observation]:
        """Return what is known about each of these runs now; never raises for a single run."""

    async def cancel(self, handle: str, grace_s: float) -> None:
        """Ask the run and all its processes to end, and make them after `grace_s`; `wait` confirms. Idempotent."""

    async def cleanup(self, handle: str) -> None:
        """Remove what the run held: secrets, temporary files, a container. Idempotent; only after its result is committed.

        Whether `find` still knows the run is the engine's affair; its name is never used again.
        """
