"""Starts one program the way a STANDALONE job runs: own session, clean descriptors, bounded, its input fed in order.

Everything that can be inherited (no_new_privs, umask, no core dumps) the spawner has set already. posix_spawn does the
rest: it shares the keeper's memory until the exec (a plain fork of a Python process costs more than many a program),
and it reports a failed exec by its errno. What runs confined is forked, since posix_spawn can put up no walls.
Standard library only.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from typing import Any, NamedTuple

from rnd.services import confinement, run_files
from rnd.services.private_root import Place

FEED_BYTES = 1 << 20
DEFAULT_SIGNALS = tuple(
    number
    for number in signal.valid_signals()
    if number not in (signal.SIGKILL, signal.SIGSTOP) and (number < signal.SIGRTMIN)
)


class Bounds(NamedTuple):
    """Limits of one program; `None` is no limit. See docs on what each of them can and cannot hold."""

    cpus: float | None
    memory_bytes: int | None
    pids: int | None
    disk_bytes: int | None
    open_files: int | None


class Program(NamedTuple):
    """What a keeper is told to run; paths are absolute.

    `secrets_directory` is "" where there are no secrets, `confinement` is `None` for an ordinary process.
    """

    engine_name: str
    directory: str
    argv: list[str]
    env: dict[str, str]
    working_directory: str
    stdin_files: list[str]
    bounds: Bounds
    stream_bytes: int
    grace_s: float
    secrets: dict[str, bytes]
    secrets_directory: str
    confinement: confinement.Confinement | None


class NotStarted(Exception):
    """The program was not started; the message says why to a person."""


def program_from_message(fields: dict[str, Any]) -> Program:
    """Return the program of a submit message, to which the spawner has added `secrets_directory`.

    Raises `KeyError`, `TypeError`, `AttributeError` or `ValueError` for any other.
    """
    marker, _, place = run_files.marker(str(fields["directory"]), str(fields["engine_name"])).partition("=")
    return Program(
        engine_name=str(fields["engine_name"]),
        directory=str(fields["directory"]),
        argv=[str(argument) for argument in fields["argv"]],
        env={str(name): str(value) for name, value in fields["env"].items()} | {marker: place},
        working_directory=str(fields["working_directory"]),
        stdin_files=[str(path) for path in fields["stdin_files"]],
        bounds=Bounds(**fields["limits"]),
        stream_bytes=int(fields["stream_bytes"]),
        grace_s=float(fields["grace_s"]),
        secrets={str(name): bytes.fromhex(value) for name, value in fields["secrets"].items()},
        secrets_directory=str(fields["secrets_directory"]),
        confinement=confinement.confinement_from_message(fields["confinement"]),
    )


def open_input(files: list[str]) -> tuple[int, int | None]:
    """Return what the program reads from, and the end of a pipe that `feed` writes to if there are several files.

    Raises `NotStarted` if the only file cannot be opened.
    """
    if not files:
        return os.open(os.devnull, os.O_RDONLY), None
    if len(files) > 1:
        return os.pipe()
    try:
        return os.open(files[0], os.O_RDONLY), None
    except OSError as error:
        raise NotStarted(f"its input {files[0]} cannot be read: {error.strerror}") from error


def feed(files: list[str], pipe: int) -> str:
    """Write `files` one after the other into `pipe`; return "" or, in words, why the stream is not whole.

    The kernel moves the bytes. A program that stops reading is its own affair.
    """
    for path in files:
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError as error:
            return f"its input {path} cannot be read: {error.strerror}"
        try:
            _feed_file(file, pipe)
        except BrokenPipeError:
            return ""
        except OSError as error:
            return f"its input {path} cannot be read: {error.strerror}"
        finally:
            os.close(file)
    return ""


def start(program: Program, stdin: int, stdout: int, stderr: int) -> int:
    """Start `program` on these descriptors and return its pid. Raises `NotStarted`."""
    if program.confinement is not None:
        return _start_confined(program, program.confinement, stdin, stdout, stderr)
    _enter(program.working_directory)
    bounded = _bound_self(program.bounds)
    try:
        pid = os.posix_spawn(
            program.argv[0],
            program.argv,
            program.env,
            file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1),
                          (os.POSIX_SPAWN_DUP2, stderr, 2)],
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise NotStarted(_why_not(program, error)) from error
    finally:
        for kind, (_, before) in bounded.items():
            resource.setrlimit(kind, before)
    for kind, (limit, _) in bounded.items():
        try:
            resource.prlimit(pid, kind, (limit, limit))
        except OSError:
            break  # it has ended already
    return pid


def why_signal(number: int, bounds: Bounds) -> str:
    """Return in words what a death by this signal says, as far as it can be known."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"number {number}"
    match number:
        case signal.SIGXFSZ:
            why = f"killed by the disk limit of {bounds.disk_bytes} bytes"
        case signal.SIGXCPU:
            why = "it used up its processor time"
        case signal.SIGKILL:
            why = "rnd did not send it: most often the kernel does, when memory runs out"
        case signal.SIGSEGV | signal.SIGBUS | signal.SIGABRT if bounds.memory_bytes is not None:
            why = f"a fault of the program, perhaps at its memory limit of {bounds.memory_bytes} bytes"
        case signal.SIGSEGV | signal.SIGBUS | signal.SIGABRT | signal.SIGILL | signal.SIGFPE:
            why = "a fault of the program"
        case signal.SIGSYS:
            why = "it made a system call that is not allowed here"
        case _:
            why = ""
    return f"ended by signal {name}" + (f": {why}" if why else "")


def _start_confined(program: Program, confined: confinement.Confinement, stdin: int, stdout: int, stderr: int) -> int:
    places = confined.places
    if program.secrets_directory:
        places += (Place(program.secrets_directory, writable=False, own=True),)
    order = confinement.Start(
        argv=program.argv,
        env=program.env,
        directory=program.directory,
        temporary=os.path.join(program.directory, run_files.TEMPORARY_FOLDER),
        working_directory=program.working_directory,
        confinement=confined._replace(places=places),
        prepare=lambda: _settle_confined(program.bounds),
    )
    try:
        return confinement.start(order, stdin, stdout, stderr)
    except confinement.CannotConfine as error:
        raise NotStarted(f"{program.argv[0]} cannot be confined: {error}") from error
    except confinement.CannotStart as error:
        words = os.strerror(error.number)
        if error.step == "argument":
            raise NotStarted(_why_not(program, ValueError(words))) from error
        if error.step == "chdir":
            raise NotStarted(
                f"its working directory {program.working_directory} cannot be entered: {words} (it runs confined)"
            ) from error
        raise NotStarted(f"{_why_not(program, OSError(error.number, words))} (it runs confined)") from error
    except (OSError, ValueError) as error:
        raise NotStarted(_why_not(program, error)) from error


def _settle_confined(bounds: Bounds) -> None:
    """In the fork: bound itself for good, and take back what Python and the keeper have made of its signals."""
    if bounds.cpus is not None:
        _choose_processors(bounds.cpus)
    for kind, limit in _limits(bounds).items():
        resource.setrlimit(kind, (limit, limit))
    for number in DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _feed_file(file: int, pipe: int) -> None:
    try:
        while os.splice(file, pipe, FEED_BYTES):
            pass
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        while chunk := os.read(file, 1 << 16):  # a file system without splice
            os.write(pipe, chunk)


def _enter(working_directory: str) -> None:
    try:
        os.chdir(working_directory)
    except OSError as error:
        raise NotStarted(f"its working directory {working_directory} cannot be entered: {error.strerror}") from error


def _bound_self(bounds: Bounds) -> dict[int, tuple[int, tuple[int, int]]]:
    """Lower the own soft limits, which the program inherits; return kind -> (limit, own limits before).

    The hard limits follow by prlimit once it runs, since an unprivileged keeper could not raise its own again.
    """
    if bounds.cpus is not None:
        _choose_processors(bounds.cpus)
    changed: dict[int, tuple[int, tuple[int, int]]] = {}
    for kind, limit in _limits(bounds).items():
        soft, hard = resource.getrlimit(kind)
        changed[kind] = (limit, (soft, hard))
        resource.setrlimit(kind, (limit, hard))
    return changed


def _limits(bounds: Bounds) -> dict[int, int]:
    """Return kind of resource -> limit, for those that are bounded and never above what this process may have."""
    limits: dict[int, int] = {}
    for kind, wanted in (
        (resource.RLIMIT_DATA, bounds.memory_bytes),
        (resource.RLIMIT_FSIZE, bounds.disk_bytes),
        (resource.RLIMIT_NOFILE, bounds.open_files),
    ):
        if wanted is not None:
            hard = resource.getrlimit(kind)[1]
            limits[kind] = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    return limits


def _choose_processors(cpus: float) -> None:
    """Stay, with the program, on `cpus` processors rounded up; which ones follows from the pid, so jobs spread."""
    here = sorted(os.sched_getaffinity(0))
    count = max(1, -int(-cpus // 1))
    if count < len(here):
        first = os.getpid() % len(here)
        os.sched_setaffinity(0, {here[(first + step) % len(here)] for step in range(count)})


def _why_not(program: Program, error: OSError | ValueError) -> str:
    path = program.argv[0]
    if isinstance(error, ValueError):
        return f"{path} cannot be started: an argument or a variable holds a NUL byte or '=' in its name"
    match error.errno:
        case errno.ENOENT if os.path.exists(path):
            return f"{path} cannot be started: the interpreter that it names is not on this machine"
        case errno.ENOENT:
            return f"{path} is not there"
        case errno.EACCES:
            return f"{path} is not executable"
        case errno.ENOEXEC:
            return f"{path} is not in a format that this machine can run (exec format error)"
        case errno.ENOMEM:
            return f"{path} cannot be started: not enough memory, or its memory limit leaves none to start with"
        case errno.E2BIG:
            return f"{path} cannot be started: its arguments and environment are too long"
        case _:
            return f"{path} cannot be started: {error.strerror}"
