"""Confinement of native programs: what a program may see, and how a process becomes one that sees no more.

Four walls, each of the kernel and none needing rights: a root of its own (`private_root`), no capability, Landlock, and a
filter of system calls. They are put up in a fork of the keeper, between the fork and the exec; where one of them cannot
be, nothing is executed. Standard library only (docs: ADR 8).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from rnd.services import landlock, linux, private_root, system_calls
from rnd.services.private_root import Place, covers

START_TIMEOUT_S = 30.0
"""How long a program may take from its fork to its exec: a folder of the owner's may lie on a disk that hangs."""

SYSTEM_PROGRAMS = (
    *(f"/usr/{name}" for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "share", "include", "games")),
    *(f"/usr/local/{name}" for name in ("bin", "sbin", "lib", "lib64", "libexec", "share", "include", "games")),
    *("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"),
)  # fmt: skip
SYSTEM_FILES = (
    *(f"/etc/{name}" for name in (
        "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld.so.preload", "alternatives", "passwd", "group", "nsswitch.conf",
        "localtime", "timezone", "locale.alias", "locale.conf", "default/locale", "os-release", "debian_version",
        "mime.types", "magic", "fonts", "terminfo", "inputrc", "bash.bashrc", "profile", "protocols", "services", "hosts",
        "host.conf", "gai.conf", "resolv.conf", "ssl/certs", "ssl/openssl.cnf", "pki/tls/certs", "pki/ca-trust/extracted",
        "ca-certificates", "crypto-policies", "python3", "python3.11", "python3.12", "python3.13", "python3.14", "perl",
        "R", "java", "OpenCL",
    )),
    *(f"/proc/{name}" for name in (
        "cpuinfo", "meminfo", "stat", "loadavg", "uptime", "version", "filesystems", "sys/kernel/osrelease",
        "sys/kernel/ostype", "sys/kernel/version", "sys/kernel/pid_max", "sys/kernel/cap_last_cap",
        "sys/kernel/ngroups_max", "sys/kernel/random/uuid", "sys/vm/overcommit_memory", "sys/vm/max_map_count",
        "sys/fs/file-max", "sys/fs/nr_open", "sys/fs/pipe-max-size",
    )),
    *("/sys/devices/system/cpu", "/sys/devices/system/node"),
)  # fmt: skip
"""What programs of all kinds read. Nothing else of /etc can be opened, nor of /proc, where other processes are to be seen."""


HOLE = "a program that should be confined can"
"""How a probe begins that found the walls put up, and one of them of no use."""


class Confinement(NamedTuple):
    """What a confined program sees beside the system. `network` lets it have sockets of the internet."""

    places: tuple[Place, ...]
    network: bool


class CannotConfine(Exception):
    """The program was not started, because it could not be confined; the message says why to a person."""


class CannotStart(Exception):
    """The confined program could not be executed.

    `step` is "chdir", "exec" or, where an argument cannot be one, "argument"; `number` an errno.
    """

    def __init__(self, step: str, number: int) -> None:
        super().__init__(step, number)
        self.step = step
        self.number = number


class Start(NamedTuple):
    """A program that is to be started confined. `directory` is its job's folder; `prepare` is called before the exec."""

    argv: list[str]
    env: dict[str, str]
    directory: str
    temporary: str
    working_directory: str
    confinement: Confinement
    prepare: Callable[[], None]


class Prepared(NamedTuple):
    """What is the same for every confined program; `filters` by whether there is a network."""

    filters: dict[bool, bytes]
    linked_files: tuple[Place, ...]
    rules: tuple[tuple[str, int], ...]


_prepared: list[Prepared] = []


def confinement_from_message(fields: dict[str, Any] | None) -> Confinement | None:
    """Return the confinement of a submit message. Raises `KeyError`, `TypeError` or `ValueError` for any other."""
    if fields is None:
        return None
    places = tuple(
        Place(path=str(place["path"]), writable=bool(place["writable"]), own=bool(place["own"]))
        for place in fields["places"]
    )
    return Confinement(places=places, network=bool(fields["network"]))


def prepare() -> None:
    """Look at the system once, before anything is forked that would have to; what is installed later is passed over."""
    if not _prepared and not system_calls.problem():
        filters = {network: system_calls.build_filter(network=network) for network in (False, True)}
        _prepared.append(Prepared(filters, tuple(_linked_system_files()), tuple(_system_rules())))


def start(order: Start, stdin: int, stdout: int, stderr: int) -> int:
    """Start a program confined, on these descriptors, and return its pid once it runs.

    Raises `CannotConfine`, `CannotStart` or, where no process can be made, `OSError`.
    """
    hears, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(order, (stdin, stdout, stderr), tells)
    os.close(tells)
    try:
        report = _hear(hears)
    finally:
        os.close(hears)
    if not report:
        return pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    step, number, words = report.split("\0", 2)
    if step == "confine":
        raise CannotConfine(words)
    raise CannotStart(step, int(number))


def put_up_walls(confinement: Confinement, *, directory: str, temporary: str, executable: str) -> None:
    """Make the caller, a process of one thread, one that sees what a confined program may see, for good.

    Raises `OSError` with a filename where a path is the reason, or `CannotConfine`.
    """
    if problem := system_calls.problem():
        raise CannotConfine(problem)
    if landlock.version() < landlock.NEEDED_VERSION:
        raise CannotConfine(_landlock_problem(landlock.version()))
    prepare()
    [prepared] = _prepared
    places = [*confinement.places, *prepared.linked_files]
    seen = [*SYSTEM_PROGRAMS, *(place.path for place in places)]
    if not any(covers(executable, path) for path in seen):
        places.append(Place(executable, writable=False, own=False))
    linux.forgo_privileges()
    private_root.enter(places, base=directory, temporary=temporary)
    rules = [(place.path, landlock.WRITE if place.writable else landlock.RUN) for place in places]
    rules += [(path, landlock.WRITE) for path in private_root.own_temporary(places)]
    landlock.restrict((*prepared.rules, *rules, (directory, landlock.LIST)), tcp=confinement.network)
    linux.drop_capabilities()
    linux.filter_system_calls(prepared.filters[confinement.network])


def probe(data_dir: str) -> str:
    """Put up the walls here, try each of them, and return "" or why programs cannot be confined on this machine.

    Call it in a process that is of no further use.
    """
    for path in (*private_root.SYSTEM, *private_root.DEVICES):
        if covers(os.path.realpath(data_dir), os.path.realpath(path)):
            return f"the data directory {data_dir} lies in {path}, which every program may see"
    with tempfile.TemporaryDirectory(prefix="rnd-probe-") as folder:
        hears, tells = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(tells, os.fsencode(_probe_in(folder, data_dir))[:4096])
            finally:
                os._exit(0)
        os.close(tells)
        report = _hear(hears)
        os.waitpid(pid, 0)
    return "" if report == "fine" else report.rpartition("\0")[2] or "the probe of it came to no end"


def _probe_in(folder: str, data_dir: str) -> str:
    output = os.path.join(folder, "output")
    os.mkdir(output)
    confinement = Confinement(places=(Place(output, writable=True, own=True),), network=False)
    try:
        put_up_walls(confinement, directory=folder, temporary=output, executable=sys.executable)
        with open(os.path.join(output, "written"), "w") as file:
            file.write("x")
    except CannotConfine as error:
        return str(error)
    except OSError as error:
        return _words(error)
    for name, attempt in (
        ("see the data directory", lambda: os.listdir(data_dir)),
        ("open a socket of the internet", lambda: socket.socket(socket.AF_INET).close()),
        ("read /etc/shadow", lambda: os.close(os.open("/etc/shadow", os.O_RDONLY))),
        ("read /proc/1/status", lambda: os.close(os.open("/proc/1/status", os.O_RDONLY))),
        ("signal its parent", lambda: os.kill(os.getppid(), 0)),
    ):
        with contextlib.suppress(OSError):
            attempt()
            return f"{HOLE} {name}"
    return "fine"


def _landlock_problem(version: int) -> str:
    if version == landlock.FORBIDDEN:
        return "the service manager's SystemCallFilter= lets nothing here confine itself (rnd setup --standalone)"
    if version == 0:
        return "the kernel has no Landlock, or it is switched off"
    return f"Landlock of this kernel is version {version}; version {landlock.NEEDED_VERSION} is needed (Linux 6.12)"


def _linked_system_files() -> list[Place]:
    """Return what links in /etc lead to outside of the system's folders, such as resolv.conf of systemd-resolved."""
    targets = {os.path.realpath(path) for path in SYSTEM_FILES if os.path.islink(path)}
    return [
        Place(target, writable=False, own=False)
        for target in sorted(targets)
        if os.path.exists(target) and not any(covers(target, path) for path in private_root.SYSTEM)
    ]


def _system_rules() -> list[tuple[str, int]]:
    """Return for Landlock, which knows nothing of mounts, what may be done in the system."""
    rules = [(path, landlock.RUN) for path in SYSTEM_PROGRAMS if not os.path.islink(path)]
    rules += [(path, landlock.READ) for path in SYSTEM_FILES]
    rules += [(path, landlock.DEVICE) for path in private_root.DEVICES]
    return [(path, rights) for path, rights in rules if os.path.exists(path)] + [
        (private_root.SHARED_MEMORY, landlock.WRITE)
    ]


def _become(order: Start, descriptors: tuple[int, int, int], tells: int) -> NoReturn:
    """In the fork: become the program, or say into the pipe why not."""
    step = "confine"
    try:
        os.setsid()
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        put_up_walls(order.confinement, directory=order.directory, temporary=order.temporary, executable=order.argv[0])
        step = "chdir"
        os.chdir(order.working_directory)
        order.prepare()
        step = "exec"
        os.execve(order.argv[0], order.argv, order.env)  # noqa: S606 - no shell is the point
    except CannotConfine as error:
        report = f"confine\0000\0{error}"
    except ValueError as error:
        report = f"argument\0{errno.EINVAL}\0{error}"
    except OSError as error:
        report = f"{step}\0{error.errno}\0{_words(error)}"
    except BaseException as error:  # noqa: BLE001 - a fork of the keeper must not go on as one
        report = f"confine\0000\0{error!r}"
    try:
        os.write(tells, os.fsencode(report)[:4096])
    finally:
        os._exit(127)


def _words(error: OSError) -> str:
    return f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else str(error.strerror)


def _hear(pipe: int) -> str:
    """Return what is said into a pipe until its other end is closed, which an exec does."""
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    if not poller.poll(int(START_TIMEOUT_S * 1000)):
        return f"confine\0000\0it has not begun within {START_TIMEOUT_S:.0f} s"
    return os.fsdecode(os.read(pipe, 4096))
