"""What a hostile program tries: run by an interpreter as `python -I -S -c THIS JSON`, it prints what came of each attempt.

An outcome is "ok", the name of an errno, or a value. Standard library only; nothing that succeeds does harm.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
AARCH64 = os.uname().machine == "aarch64"


def system_call(x86_64: int, aarch64: int, *arguments: object) -> int:
    """Make a system call by its number; raises `OSError`."""
    passed = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = libc.syscall(ctypes.c_long(aarch64 if AARCH64 else x86_64), *passed)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return int(result)


def read(path: str) -> None:
    """Read a byte."""
    with open(path, "rb") as file:
        file.read(1)


def write(path: str) -> None:
    """Create or open a file for writing."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def connect(family: int, kind: int, address: Any) -> None:
    """Connect, and send a byte."""
    with socket.socket(family, kind) as connection:
        connection.settimeout(5)
        connection.connect(address)
        connection.send(b"x")


def fork_and_wait() -> None:
    """Have a child that ends well."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        raise OSError(errno.ECHILD, "")


def link_out(target: str) -> None:
    """Follow a link of one's own making."""
    name = f"link-{os.path.basename(target)}"
    os.symlink(target, name)
    try:
        read(name)
    finally:
        os.unlink(name)


def hard_link_out(target: str) -> None:
    """Give a file outside a name of one's own."""
    os.link(target, "hard")
    os.unlink("hard")


def attach(segment: int) -> None:
    """Attach System V shared memory; the program ends soon enough to detach it."""
    libc.shmat.restype = ctypes.c_void_p
    if libc.shmat(segment, None, 0o10000) == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "")


def _pair() -> None:
    for each in socket.socketpair():
        each.close()


def with_child(act: Callable[[int], None]) -> None:
    """Do something to a process of one's own, and kill it."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    try:
        act(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def capabilities() -> str:
    """Return effective, permitted and inheritable capabilities, and how many are in the bounding and ambient sets."""
    sets = (ctypes.c_uint32 * 6)()
    libc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), sets)
    bounding = sum(libc.prctl(23, number, 0, 0, 0) == 1 for number in range(64))
    ambient = sum(libc.prctl(47, 1, number, 0, 0) == 1 for number in range(64))
    return f"{[*sets]} {bounding} {ambient}"


def probes(facts: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Return every attempt under its name."""
    data, directory, daemon = facts["data_dir"], facts["directory"], facts["daemon"]
    return {
        "descriptors": lambda: sorted(number for number in range(64) if _is_open(number)),
        **{f"read {name}": lambda path=f"{data}/{name}": read(path) for name in facts["secrets"]},
        **{f"stat {name}": lambda path=f"{data}/{name}": os.stat(path) for name in facts["secrets"]},
        **{f"chmod {name}": lambda path=f"{data}/{name}": os.chmod(path, 0o666) for name in facts["secrets"]},
        **{f"read {path}": lambda path=path: read(path) for path in facts["read"]},
        **{f"list {path}": lambda path=path: os.listdir(path) for path in facts["list"]},
        **{f"write {path}": lambda path=path: write(path) for path in facts["write"]},
        **{f"chmod {path}": lambda path=path: os.chmod(path, 0o777) for path in facts["chmod"]},
        **{
            f"proc {name}": lambda name=name: read(f"/proc/{daemon}/{name}")
            for name in ("environ", "mem", "maps", "cmdline", "status")
        },
        **{f"proc {name}": lambda name=name: os.listdir(f"/proc/{daemon}/{name}") for name in ("root", "cwd", "fd")},
        **{f"readlink {name}": lambda name=name: os.readlink(f"/proc/{daemon}/{name}") for name in ("exe", "root")},
        "way out by a link": lambda: link_out(facts["outside"]),
        "way out by a hard link": lambda: hard_link_out(facts["input"]),
        "way out by ..": lambda: read(f"../../{facts['other_job']}/output/result"),
        "rename output": lambda: os.rename(f"{directory}/output", f"{directory}/elsewhere"),
        "unlink output": lambda: os.rmdir(f"{directory}/output"),
        "record": lambda: write(f"{directory}/{facts['engine_name']}.run.jsonl"),
        "logs": lambda: write(f"{directory}/logs/stdout.txt"),
        "change input": lambda: write(facts["input"]),
        "chmod input": lambda: os.chmod(facts["input"], 0o777),
        "connect api.sock": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, f"{data}/api.sock"),
        "connect spawner.sock": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, f"{data}/run/spawner.sock"),
        "connect abstract": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{facts['abstract']}"),
        "connect TCP": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", facts["tcp"])),
        "send UDP": lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", facts["udp"])),
        "socket IPv6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close(),
        "socket raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
        "socket packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
        "socket netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
        "socket vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close(),
        "socket pair": lambda: _pair(),
        "shared memory of the machine": lambda: attach(facts["shared_memory"]),
        "own shared memory": lambda: attach(libc.shmget(0, 4096, 0o1600)),
        "limits of its own": lambda: resource.prlimit(0, resource.RLIMIT_NOFILE) and None,
        "kill daemon": lambda: os.kill(daemon, 0),
        "kill keeper": lambda: os.kill(os.getppid(), 0),
        "priority of daemon": lambda: os.setpriority(os.PRIO_PROCESS, daemon, 0),
        "priority of user": lambda: os.setpriority(os.PRIO_USER, 0, 0),
        "priority of another": lambda: with_child(lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 1)),
        "processors of another": lambda: with_child(lambda pid: os.sched_setaffinity(pid, os.sched_getaffinity(0))),
        "limits of daemon": lambda: resource.prlimit(daemon, resource.RLIMIT_NOFILE),
        "processors of daemon": lambda: os.sched_setaffinity(daemon, os.sched_getaffinity(0)),
        "ptrace": lambda: system_call(101, 117, 16, daemon, 0, 0),
        "process_vm_readv": lambda: system_call(310, 270, daemon, None, 0, None, 0, 0),
        "pidfd_getfd": lambda: system_call(438, 438, os.pidfd_open(daemon), 0, 0),
        "mount": lambda: system_call(165, 40, b"none", directory.encode(), b"nosuchfs", 0, None),
        "remount": lambda: system_call(442, 442, -100, b"/usr", 0, b"\0" * 32, 32),
        "umount": lambda: system_call(166, 39, b"/usr", 8),
        "pivot_root": lambda: system_call(155, 41, b".", b"."),
        "chroot": lambda: os.chroot("."),
        "unshare user": lambda: system_call(272, 97, 0x10000000),
        "clone user": lambda: system_call(56, 220, 0x10000000, 0, 0, 0, 0) or os._exit(0),
        "clone3": lambda: system_call(435, 435, None, 0),
        "setns": lambda: system_call(308, 268, 0, 0),
        "mknod device": lambda: os.mknod("device", 0o600 | 0o020000, os.makedev(1, 3)),
        "setuid": lambda: os.setuid(facts["other_user"]),
        "chown": lambda: os.chown(".", facts["other_user"], -1),
        "load module": lambda: system_call(175, 105, None, 0, b""),
        "bpf": lambda: system_call(321, 280, 0, None, 0),
        "io_uring": lambda: system_call(425, 425, 1, None),
        "userfaultfd": lambda: system_call(323, 282, 1),
        "keyring": lambda: system_call(250, 219, 0, -3, 0),
        "perf": lambda: system_call(298, 241, None, 0, -1, -1, 0),
        "kernel log": lambda: system_call(103, 116, 10, None, 0),
        "file handle": lambda: system_call(303, 264, -100, b".", None, None, 0),
        "unknown call": lambda: system_call(467, 467, -1, None, 0, None, 0),
        "capabilities": capabilities,
        "no new privileges": lambda: libc.prctl(39, 0, 0, 0, 0),
        "seccomp mode": lambda: libc.prctl(21, 0, 0, 0, 0),
        "session": lambda: os.getsid(0) == os.getpid(),
        "user": os.getuid,
        "fork": fork_and_wait,
        "kill own child": lambda: with_child(lambda _: None),
        "own memory": lambda: write("/dev/shm/own"),
        "own temporary folder": lambda: write(f"{directory}/tmp/own"),
        "write output": lambda: write("left"),
        "chmod output": lambda: os.chmod("left", 0o755),
        "read input": lambda: read(facts["input"]),
        "working directory": lambda: os.getcwd() == f"{directory}/output",
        "null device": lambda: write("/dev/null"),
        "standard output by name": lambda: write("/dev/stderr"),
    }


def _is_open(number: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(number)
        return True
    return False


def attempt(act: Callable[[], object]) -> object:
    """Return what came of one attempt."""
    try:
        result = act()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return result if isinstance(result, bool | int | str | list) else "ok"


if __name__ == "__main__":
    facts = json.loads(sys.argv[1])
    wanted = facts.get("only")
    outcomes = {name: attempt(act) for name, act in probes(facts).items() if wanted is None or name in wanted}
    print(json.dumps(outcomes))
