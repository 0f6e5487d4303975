"""One attempt of one job, as facts: what was claimed, what stops it, and how its end reads to a person."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from typing import Final

from rnd.services.executor import Observation, Phase
from rnd.services.images import PullProgress
from rnd.types.enums import InterfaceType, LogStream, MountFunction
from rnd.types.executions import JobExecution, JobInterface
from rnd.types.services import DataSettings, Service

_TAIL_BYTES: Final = 2_000
_TAIL_CHARACTERS: Final = 200
_STREAM_OF: Final = {
    LogStream.STDOUT: InterfaceType.STDOUT,
    LogStream.STDERR: InterfaceType.STDERR,
    LogStream.LOGS: InterfaceType.LOGS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job that this peer has committed to run, with everything it takes.

    `found` is set where it may be running already, after a restart; `rebooted` where the machine was restarted as well,
    so that its engine not knowing of it does not prove that it never ran. `stop` is a decision taken before.
    """

    job: JobExecution
    service: Service
    interfaces: tuple[JobInterface, ...]
    engine_name: str
    run_by: datetime
    found: bool = False
    rebooted: bool = False
    stop: Stop | None = None


class StopKind(Enum):
    """Why a running job is being stopped."""

    CANCELLED = auto()
    """Somebody asked for it."""
    TIMED_OUT = auto()
    """Its max_runtime or its service's timeout has passed."""
    BEYOND_LIMIT = auto()
    """What it writes is more than its order may hold here; another attempt would write it again."""
    DISOWNED = auto()
    """Its row has ended without it, for example by hand; whatever it still does counts for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A decision to stop a running job, with the words for its row."""

    kind: StopKind
    reason: str


@dataclass(slots=True)
class RunningJob:
    """A job in the hands of an executor. `handle` is `None` until the engine has taken it on.

    `bound` ends the wait for its image or its program, at its time or as soon as somebody wants it stopped; `pull` is how
    far its image is while that is on its way; `waits_for_worker` is set when that is here; `trouble` is why its engine cannot be
    asked; `began_s` is when its program began, by the monotonic clock; `left` is set when its task is over, however that came.
    """

    claimed: ClaimedJob
    handle: str | None = None
    ended: bool = False
    stop: Stop | None = None
    bound: asyncio.Timeout | None = None
    pull: PullProgress | None = None
    trouble: str = ""
    holds_slot: bool = False
    shares_slot: bool = False
    began_s: float | None = None
    waits_for_worker: bool = False
    left: bool = False

    def decide(self, stop: Stop) -> None:
        """Take a decision to stop the job, unless one was taken before, and wake its task."""
        if self.stop is not None:
            return
        self.stop = stop
        if self.bound is not None and not self.bound.expired():
            self.bound.reschedule(asyncio.get_running_loop().time())

    def called_off(self) -> bool:
        """Say whether what is done for the job in a thread is of no use any more."""
        return self.stop is not None or self.left


def runtime_bound(job: JobExecution, service: Service) -> tuple[float, str]:
    """Return how many seconds an attempt may run and whose word that is: the order's, or the service's if shorter."""
    timeout_s = None if isinstance(service.settings, DataSettings) else service.settings.timeout_s
    if timeout_s is not None and timeout_s < job.max_runtime_s:
        return timeout_s, f"timeout_s of service {service.name}"
    return job.max_runtime_s, "max_runtime"


def failure_words(observation: Observation, logs: Path, *, what: str = "Process") -> str:
    """Return why a run of `what` that was not stopped by us did not succeed, with the last line on standard error."""
    match observation.phase:
        case Phase.LOST:
            return f"lost: {observation.reason or 'nobody wrote down how it ended'}"
        case Phase.REJECTED:
            return observation.reason or "the program could not be started"
        case Phase.EXITED | Phase.RUNNING | Phase.UNKNOWN:
            pass
    if observation.signal is not None:
        words = f"{what} killed by signal {observation.signal} ({_signal_name(observation.signal)})"
    else:
        words = f"{what} exited with code {observation.exit_code}"
    if observation.reason:
        words = f"{words}: {observation.reason}"
    last = _last_line(logs / f"{LogStream.STDERR}.txt")
    return f"{words}; last words on stderr: {last}" if last else words


def remark(observation: Observation, *, stream_bytes: int) -> str | None:
    """Return what a person should know of a run that has succeeded, in words; `None` where all went as usual."""
    how = "is not whole" if observation.streams_lost else f"was cut at {stream_bytes} bytes"
    cut = [f"{stream} {how}" for stream in observation.streams_cut]
    return "; ".join(filter(None, [observation.reason, *cut])) or None


def cut_and_connected(observation: Observation, interfaces: tuple[JobInterface, ...]) -> LogStream | None:
    """Return a stream that was cut although a connection carries it on: half an output must not pass for a whole."""
    for stream in observation.streams_cut:
        for interface in interfaces:
            carried = any(peer.peer_mount_function is MountFunction.INPUT for peer in interface.peers)
            if interface.interface_type is _STREAM_OF[stream] and carried:
                return stream
    return None


def cut_words(observation: Observation, stream: LogStream, *, stream_bytes: int) -> str:
    """Return why a stream that a connection carries on does not do."""
    if observation.streams_lost:
        how = "is not whole, since what took it was killed while the program wrote more than the engine keeps"
    else:
        how = f"grew beyond the limit of {stream_bytes} bytes and was cut"
    return f"{stream} {how}, but a connection needs all of it"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _last_line(path: Path) -> str:
    """Return the last line of a captured stream, printable and short; "" where there is none."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - _TAIL_BYTES))
            tail = stream.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""  # the words are a courtesy; the job's end does not depend on them
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    if not lines:
        return ""
    printable = "".join(character if character.isprintable() else "?" for character in lines[-1])
    return printable[:_TAIL_CHARACTERS]
