"""Confined programs from inside: what they try and cannot, what they still can, and that each wall holds by itself."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rnd.services import system_calls
from rnd.services.executor import Place
from rnd.services.spawner_client import probe_confinement
from tests.services import confined_probes
from tests.services.confined import NativeConfinedHarness

INTERPRETER = os.path.realpath(sys.executable)
PROBES = Path(confined_probes.__file__).read_text()
SECRETS = (
    "identity.key", "vault.key", "api_token", "rnd.db", "services/7/1/patients.csv", "logs/peer.log",
    "jobs/2/output/result", "jobs/2/input/given",
)  # fmt: skip
HOSTNAME = "/proc/sys/kernel/hostname"

pytestmark = pytest.mark.usefixtures("confinement")


@pytest.fixture
def facts(data_dir: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a hostile program would like to get at, all of it there, and what it has to be told to try."""
    for name in SECRETS:
        path = data_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
        path.chmod(0o600)
    outside = tmp_path / "outside"
    outside.write_text("x")
    with contextlib.ExitStack() as opened:

        def listener(family: int, kind: int, address: Any) -> socket.socket:
            sock = opened.enter_context(socket.socket(family, kind))
            sock.bind(address)
            if kind == socket.SOCK_STREAM:
                sock.listen(50)
            return sock

        opened.enter_context(contextlib.chdir(data_dir))  # the path of a socket has to be short
        listener(socket.AF_UNIX, socket.SOCK_STREAM, "api.sock")
        abstract = f"rnd-test-{os.getpid()}"
        listener(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{abstract}")
        tcp = listener(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        udp = listener(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        yield {
            "data_dir": str(data_dir),
            "directory": str(data_dir / "jobs/1"),
            "engine_name": "job-1-1",
            "daemon": os.getpid(),
            "secrets": SECRETS,
            "outside": str(outside),
            "other_job": 2,
            "other_user": 12345,
            "input": str(data_dir / "jobs/1/input/given"),
            "read": ["/etc/shadow", "/etc/machine-id", str(outside), HOSTNAME, "/proc/1/cmdline", "/proc/self/environ"],
            "list": ["/", "/root", "/home", "/etc", "/proc", "/sys/devices", "/run", "/var/lib", str(data_dir.parent)],
            "write": [
                "/usr/bin/new",
                "/etc/new",
                f"{tmp_path}/new",
                "/new",
                "/proc/self/oom_score_adj",
                f"{data_dir}/new",
            ],
            "chmod": [str(outside), str(data_dir)],
            "abstract": abstract,
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "shared_memory": _shared_memory(opened),
        }


def _shared_memory(opened: contextlib.ExitStack) -> int:
    """Return the id of a System V shared memory segment of this machine; it is removed with `opened`."""
    libc = ctypes.CDLL(None, use_errno=True)
    segment = int(libc.shmget(0, 4096, 0o1600))
    assert segment >= 0
    opened.callback(libc.shmctl, segment, 0, None)
    return segment


class _Confined(NativeConfinedHarness):
    def probe(self, facts: dict[str, Any], *only: str, **fields: Any) -> dict[str, Any]:
        """Run the probes, or those named, as a job and return what came of each."""
        data_dir = Path(facts["data_dir"])
        given = Path(facts["input"])
        given.parent.mkdir(parents=True, exist_ok=True)
        given.write_text("given")
        told = json.dumps(facts | ({"only": only} if only else {}))
        fields["places"] = (Place(path=Path(sys.base_prefix)), *fields.get("places", ()))
        end, directory = self.end_of(data_dir, "", argv=(INTERPRETER, "-I", "-S", "-c", PROBES, told), **fields)
        assert end.exit_code == 0, (end, (directory / "logs/stderr.txt").read_text())
        outcomes: dict[str, Any] = json.loads((directory / "logs/stdout.txt").read_text())
        return outcomes


GONE = {"ENOENT", "ENOTDIR"}
REFUSED = {"EACCES", "EPERM", "EROFS", *GONE}

OUTCOMES: dict[str, set[Any]] = {
    **{f"{verb} {name}": GONE for verb in ("read", "stat", "chmod") for name in SECRETS},
    **{f"read {path}": REFUSED for path in ("/etc/shadow", HOSTNAME, "/proc/1/cmdline", "/proc/self/environ")},
    **{f"list {path}": REFUSED for path in ("/", "/root", "/home", "/etc", "/proc", "/run", "/var/lib")},
    **{f"write {path}": REFUSED for path in ("/usr/bin/new", "/etc/new", "/new", "/proc/self/oom_score_adj")},
    **{f"proc {name}": REFUSED for name in ("environ", "mem", "maps", "cmdline", "status", "root", "cwd", "fd")},
    **{f"readlink {name}": REFUSED for name in ("exe", "root")},
    "way out by a link": REFUSED,
    "way out by a hard link": {"EXDEV", "EACCES"},
    "way out by ..": REFUSED,
    "rename output": {"EBUSY", "EROFS", "EACCES"},
    "unlink output": {"EBUSY", "EROFS", "EACCES"},
    "record": REFUSED,
    "logs": REFUSED,
    "change input": REFUSED,
    "chmod input": {"EROFS"},
    "connect api.sock": GONE,
    "connect spawner.sock": GONE,
    "connect abstract": {"EPERM"},
    **{
        name: {"EAFNOSUPPORT"}
        for name in ("connect TCP", "send UDP", *(f"socket {kind}" for kind in ("IPv6", "raw", "packet", "netlink", "vsock")))
    },
    "shared memory of the machine": {"EINVAL"},
    "own shared memory": {"ok"},
    "limits of its own": {"ok"},
    "kill daemon": {"EPERM"},
    "kill keeper": {"EPERM"},
    "priority of daemon": {"EPERM"},
    "priority of user": {"EPERM"},
    "limits of daemon": {"EPERM"},
    "processors of daemon": {"EPERM"},
    **{
        name: {"EPERM"}
        for name in (
            "ptrace", "process_vm_readv", "pidfd_getfd", "mount", "remount", "umount", "pivot_root", "chroot",
            "unshare user", "clone user", "setns", "load module", "bpf", "io_uring", "userfaultfd", "keyring", "perf",
            "kernel log", "file handle",
        )
    },
    "clone3": {"ENOSYS"},
    "unknown call": {"ENOSYS"},
    "mknod device": {"EPERM", "EACCES"},
    "setuid": {"EPERM", "EINVAL"},
    "chown": {"EPERM", "EINVAL"},
    "capabilities": {"[0, 0, 0, 0, 0, 0] 0 0"},
    "no new privileges": {1},
    "seccomp mode": {2},
    "session": {True},
    "user": {os.getuid() or 65534},
    "socket pair": {"ok"},
    "fork": {"ok"},
    "kill own child": {"ok"},
    "own memory": {"ok"},
    "own temporary folder": {"ok"},
    "write output": {"ok"},
    "chmod output": {"ok"},
    "read input": {"ok"},
    "working directory": {True},
    "null device": {"ok"},
    "standard output by name": {"ok"},
}  # fmt: skip

POSSIBLE_UNCONFINED = (
    *(f"{verb} {name}" for verb in ("read", "stat") for name in SECRETS),
    *(
        "read /proc/self/environ",
        "list /",
        "list /etc",
        "list /proc",
        f"read {HOSTNAME}",
        "proc environ",
        "proc cmdline",
    ),
    *("way out by a link", "way out by a hard link", "way out by ..", "change input", "chmod input"),
    *("connect api.sock", "connect spawner.sock", "connect abstract", "connect TCP", "send UDP", "socket IPv6"),
    *("socket netlink", "kill daemon", "kill keeper", "priority of daemon", "limits of daemon", "processors of daemon"),
    *("shared memory of the machine", "record", "logs", "write output", "fork", "null device", "socket pair"),
)


class TestFromInside(_Confined):
    """One run that tries everything."""

    def test_a_confined_program_gets_at_nothing_but_what_is_its_own(self, facts: dict[str, Any]) -> None:
        outcomes = self.probe(facts)
        wrong = {name: outcomes[name] for name, allowed in OUTCOMES.items() if outcomes[name] not in [*allowed]}
        assert wrong == {}
        assert outcomes["descriptors"] == [0, 1, 2]
        for path in (*facts["list"], *facts["read"], *facts["write"], *facts["chmod"]):
            tried = [outcome for name, outcome in outcomes.items() if name.endswith(f" {path}")]
            assert [outcome for outcome in tried if outcome not in [*REFUSED]] == [], path
        assert (Path(facts["directory"]) / "output/left").exists()

    def test_an_ordinary_program_gets_at_all_of_it(self, facts: dict[str, Any]) -> None:
        """So the attempts are ones that succeed where nothing stands in their way."""
        outcomes = self.probe(facts, *POSSIBLE_UNCONFINED, confinement=None)
        assert {name: out for name, out in outcomes.items() if isinstance(out, str) and out != "ok"} == {}
        assert len(outcomes) == len(POSSIBLE_UNCONFINED)

    def test_network_host_opens_the_internet_and_no_more(self, facts: dict[str, Any]) -> None:
        names = ("connect TCP", "send UDP", "socket IPv6", "socket raw", "socket packet", "socket netlink",
                 "connect abstract", "connect api.sock")  # fmt: skip
        outcomes = self.probe(facts, *names, network=True)
        assert [outcomes[name] for name in names] == [
            "ok", "ok", "ok", "EPERM", "EAFNOSUPPORT", "EAFNOSUPPORT", "EPERM", "ENOENT",
        ]  # fmt: skip

    def test_the_owner_opens_paths_to_read_or_to_write(self, facts: dict[str, Any], tmp_path: Path) -> None:
        for name in ("readable", "writable", "readable/writable", "closed"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "file").write_text("x")
        places = (
            Place(path=tmp_path / "readable"),
            Place(path=tmp_path / "writable", writable=True),
            Place(path=tmp_path / "readable/writable", writable=True),
        )
        names = ("readable", "writable", "readable/writable", "closed")
        facts["read"] = facts["write"] = facts["chmod"] = [f"{tmp_path}/{name}/file" for name in names]
        outcomes = self.probe(facts, places=places)
        got = [[outcomes[f"{verb} {path}"] for path in facts["read"]] for verb in ("read", "write", "chmod")]
        assert got[0] == ["ok", "ok", "ok", "ENOENT"]
        assert [outcome == "ok" for outcome in got[1]] == [False, True, True, False]
        assert got[2] == ["EROFS", "ok", "ok", "ENOENT"]
        assert outcomes["read identity.key"] == "ENOENT"

    def test_opening_proc_shows_processes_and_still_not_into_them(self, facts: dict[str, Any]) -> None:
        outcomes = self.probe(facts, places=(Place(path=Path("/proc")),))
        assert outcomes["proc cmdline"] == outcomes["proc status"] == outcomes["read /proc/self/environ"] == "ok"
        for name in ("environ", "mem", "maps", "root", "cwd"):
            assert outcomes[f"proc {name}"] in [*REFUSED], name
        assert outcomes["write /proc/self/oom_score_adj"] in REFUSED


_DRIVER = """
import contextlib, json, os, sys
sys.path.insert(0, sys.argv[1])
from rnd.services import confinement, landlock, linux, private_root
facts = json.loads(sys.argv[3])
for wall in sys.argv[2].split():
    module, name = {
        "root": (private_root, "enter"), "landlock": (landlock, "restrict"),
        "capabilities": (linux, "drop_capabilities"), "calls": (linux, "filter_system_calls"),
    }[wall]
    setattr(module, name, lambda *_, **__: None)
places = [confinement.Place(path, writable, False) for path, writable in json.loads(sys.argv[4])]
confinement.put_up_walls(
    confinement.Confinement(tuple(places), network=False),
    directory=facts["directory"], temporary=facts["directory"] + "/tmp", executable=sys.executable,
)
os.chdir(facts["directory"] + "/output")
os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", sys.argv[5], sys.argv[3]])
"""


_CALLS = """
import ctypes, json, os, sys
sys.path.insert(0, sys.argv[1])
from rnd.services import linux, system_calls
linux.forgo_privileges()
if int(sys.argv[2]):
    linux.filter_system_calls(system_calls.build_filter(network=True))
column = system_calls._MACHINES[os.uname().machine][0]
outcomes = {}
others = {name: numbers for name, (numbers, _) in system_calls._PRIORITIES.items()}
for name, numbers in (system_calls._REFUSED | system_calls._OWN_PROCESS | others).items():
    if numbers[column] is not None:
        try:
            linux.call(numbers[column], -1, -1, -1, -1, -1, -1)
            outcomes[name] = 0
        except OSError as error:
            outcomes[name] = error.errno
print(json.dumps(outcomes))
"""
REFUSED_CALLS = {
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "move_pages",
    "perf_event_open", "mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsmount",
    "mount_setattr", "unshare", "setns", "open_by_handle_at", "fanotify_init", "quotactl", "bpf", "userfaultfd",
    "io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key", "request_key", "init_module",
    "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "syslog",
    "settimeofday", "clock_settime", "sethostname", "setdomainname", "iopl", "ioperm", "prlimit64", "sched_setaffinity",
    "sched_setscheduler", "sched_setparam", "sched_setattr", "setpriority", "ioprio_set",
}  # fmt: skip


class TestEachWall:
    """Without one of the walls something gets through that was held before: so none of them is there for show."""

    def probe(self, facts: dict[str, Any], *only: str, without: str = "") -> dict[str, Any]:
        """Run probes behind all walls but those named."""
        directory = Path(facts["directory"])
        for name in ("input", "output", "tmp"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        Path(facts["input"]).write_text("given")
        places = [(sys.base_prefix, False), (f"{directory}/input", False)]
        places += [(f"{directory}/output", True), (f"{directory}/tmp", True)]
        done = subprocess.run(
            [INTERPRETER, "-I", "-S", "-c", _DRIVER, Path(__file__).parents[2], without, json.dumps(facts | {"only": only}),
             json.dumps(places), PROBES],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        outcomes: dict[str, Any] = json.loads(done.stdout)
        return outcomes

    @pytest.mark.parametrize(
        ("wall", "name", "behind", "without"),
        [
            ("root capabilities", "stat identity.key", "ENOENT", "ok"),
            ("root capabilities", "chmod identity.key", "ENOENT", "ok"),
            ("root capabilities", "chmod input", "EROFS", "ok"),
            ("root capabilities", "connect api.sock", "ENOENT", "ok"),
            ("landlock", f"read {HOSTNAME}", "EACCES", "ok"),
            ("landlock", "list /etc", "EACCES", None),
            ("landlock", "proc cmdline", "EACCES", "ok"),
            ("landlock", "kill daemon", "EPERM", "ok"),
            ("landlock", "connect abstract", "EPERM", "ok"),
            ("calls", "socket IPv6", "EAFNOSUPPORT", "ok"),
            ("calls", "send UDP", "EAFNOSUPPORT", "ok"),
            ("calls", "connect TCP", "EAFNOSUPPORT", "EACCES"),
            ("calls", "socket netlink", "EAFNOSUPPORT", "ok"),
            ("calls", "limits of daemon", "EPERM", "ok"),
            ("calls", "priority of another", "EPERM", "ok"),
            ("calls", "processors of another", "EPERM", "ok"),
            ("calls", "unshare user", "EPERM", 0),
            ("calls", "clone3", "ENOSYS", "EINVAL"),
            ("calls", "keyring", "EPERM", None),
            ("calls", "seccomp mode", 2, 0),
            ("calls landlock", "connect TCP", "EAFNOSUPPORT", "ok"),
        ],
    )  # fmt: skip
    def test_without_a_wall_the_attempt_gets_further(
        self, facts: dict[str, Any], wall: str, name: str, behind: object, without: object
    ) -> None:
        assert self.probe(facts, name)[name] == behind
        got = self.probe(facts, name, without=wall)[name]
        assert got == without if without is not None else got != behind

    def test_without_the_drop_of_capabilities_there_are_some(self, facts: dict[str, Any]) -> None:
        assert self.probe(facts, "capabilities") == {"capabilities": "[0, 0, 0, 0, 0, 0] 0 0"}
        with_some = self.probe(facts, "capabilities", without="capabilities")["capabilities"]
        assert not with_some.endswith(" 0 0")

    def test_dropped_capabilities_are_gone_at_once(self) -> None:
        script = """
import os, sys
sys.path.insert(0, sys.argv[1])
from rnd.services import linux, private_root
private_root._leave_namespaces()
linux.drop_capabilities()
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")], linux._libc.prctl(27, 0, 0, 0, 0))
"""
        command = [INTERPRETER, "-I", "-S", "-c", script, Path(__file__).parents[2]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"{['0' * 16] * 5} {0xEF}\n"

    def test_every_call_of_the_filter_is_refused_by_it_alone(self) -> None:
        """Tried with arguments that make no sense, so that without the filter it is those that are refused."""
        named = {*system_calls._REFUSED, *system_calls._OWN_PROCESS, *system_calls._PRIORITIES}
        assert named >= REFUSED_CALLS
        for filtered in (True, False):
            done = subprocess.run(
                [INTERPRETER, "-I", "-S", "-c", _CALLS, Path(__file__).parents[2], str(int(filtered))],
                capture_output=True, text=True, check=True, start_new_session=True,
            )  # fmt: skip
            outcomes: dict[str, int] = json.loads(done.stdout)
            through = {name for name, number in outcomes.items() if number != errno.EPERM}
            assert not through if filtered else len(through) > 20

    def test_the_probe_of_the_machine_says_what_is_missing(self, tmp_path: Path) -> None:
        assert probe_confinement(tmp_path) == ""
        assert "/usr, which every program may see" in probe_confinement(Path("/usr/share/rnd"))
