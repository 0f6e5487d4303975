"""A hostile program in a container of ours: what it can find out, reach, change and use up. Each probe says what holds it."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import signal
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from docker import APIClient

from rnd.services.executor import Executor, Mount, Observation, Phase
from rnd.types.enums import LogStream
from rnd.types.services import ResourceLimits
from tests.docker.engine import import_image
from tests.docker.test_docker_service import DockerRuns
from tests.docker.test_kills import exec_of
from tests.services.conformance import eventually
from tests.services.native_processes import peak_bytes, processes_of

MUCH_BYTES = 200 << 20

# name -> a script, and the whole of what it may say. "no" stands for a command that has failed.
PROBES = {
    "no capability is effective": ("grep CapEff /proc/self/status", "CapEff:\t0000000000000000"),
    "none is permitted": ("grep CapPrm /proc/self/status", "CapPrm:\t0000000000000000"),
    "none can be gained": ("grep CapBnd /proc/self/status", "CapBnd:\t0000000000000000"),
    "none is ambient": ("grep CapAmb /proc/self/status", "CapAmb:\t0000000000000000"),
    "no set-user-id program helps": ("grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
    "system calls are filtered": ("grep Seccomp: /proc/self/status", "Seccomp:\t2"),
    "it is nobody": ("id -u; id -g", "65534\n65534" if os.geteuid() == 0 else f"{os.geteuid()}\n{os.getegid()}"),
    "it cannot become root": ("setuidgid root true || echo no", "no"),
    "it cannot become root by su": ("su root -c true </dev/null || echo no", "no"),
    "no network but its own loopback": ("ls /sys/class/net | grep -v -e tunl -e sit -e gre -e ip6", "lo"),
    "no route to anywhere": ("cat /proc/net/route | tail -n +2", ""),
    "no connection to the host": ("nc -w 1 {host} {port} </dev/null | grep -c reached", "0"),
    "the loopback is not the host's": ("nc -w 1 127.0.0.1 {port} </dev/null | grep -c reached", "0"),
    "no raw socket": ("ping -c 1 -W 1 127.0.0.1 >/dev/null || echo no", "no"),
    "the root is read-only": ("touch /x || echo no", "no"),
    "programs cannot be replaced": ("echo >/bin/evil || echo no; echo >>/etc/passwd || echo no", "no\nno"),
    "nothing can be mounted": ("mount -t tmpfs x /tmp || echo no", "no"),
    "the root cannot be remounted": ("mount -o remount,rw / || echo no", "no"),
    "inputs cannot be remounted": ("mount -o remount,rw /input || echo no", "no"),
    "nothing can be unmounted": ("umount /input || echo no", "no"),
    "no namespace of its own": ("unshare -U true || echo no; unshare -m true || echo no", "no\nno"),
    "no other root": ("chroot /tmp true || echo no", "no"),
    "no device can be made": ("mknod /tmp/sda b 8 0 || echo no; mknod /output/mem c 1 1 || echo no", "no\nno"),
    "no block device is there": ("find /dev -type b", ""),
    "no memory, ports or kernel messages": ("ls /dev/mem /dev/port /dev/kmsg /dev/fuse || true", ""),
    "the kernel's settings stay": ("echo 1 >/proc/sys/kernel/panic || echo no", "no"),
    "no sysrq": ("echo b >/proc/sysrq-trigger || echo no", "no"),
    "no look at the kernel's memory": ("head -c 1 /proc/kcore | wc -c", "0"),
    "no keys of others": ("cat /proc/keys | wc -l", "0"),
    "no firmware": ("ls -A /sys/firmware", ""),
    "/sys is read-only": ("awk '$2 == \"/sys\" {print $3, substr($4, 1, 2)}' /proc/mounts", "sysfs ro"),
    "its limits stay": ("for f in $(find /sys/fs/cgroup -name '*procs'); do echo $$ >$f && echo $f; done", ""),
    "control groups are read-only": ("awk '$3 ~ /^cgroup/ && $4 !~ /^ro/' /proc/mounts", ""),
    "no socket of the engine": ("ls /var/run/docker.sock /run/docker.sock || true", ""),
    "it sees its own processes only": ("ls /proc | grep -c '^[0-9]' | awk '{print ($1 < 10)}'", "1"),
    "it cannot end its init": ("kill -9 1; sleep 0.1; echo still", "still"),
    "it cannot signal the host": ("kill -9 {sleeper}; kill -9 -1 2>/dev/null & sleep 0.2; true", None),
    "it cannot give files away": ("touch /output/f; chown 0:0 /output/f || echo no", "no"),
    "no set-user-id for root": (
        "cp /bin/busybox /output/busybox; chmod 4755 /output/busybox; /output/busybox id -u",
        "65534",
    ),
    "inputs cannot be written": ("echo x >/input/a || echo no; rm -f /input/a || echo no", "no\nno"),
    "nor their modes changed": ("chmod 777 /input/a || echo no", "no"),
    "nor linked to": ("ln /input/a /output/a || echo no", "no"),
    "but read": ("cat /input/a /input/private", "ab"),
    "the host's files have no name": ("ls -d {data_dir} || echo no", "no"),
    "nothing of the daemon's environment": ("env | grep -c -i -e token -e docker -e rnd_", "0"),
    "the clock stays": ("date -s 2000-01-01 >/dev/null; date +%Y | awk '{print ($1 > 2020)}'", "1"),
    "the name stays": ("hostname evil || echo no", "no"),
    "the machine stays up": ("reboot -f || echo no", "no"),
    "no higher priority": ("nice -n -10 true || echo no", "no"),
    "no core is left": ("ulimit -c; ulimit -n", "0\n1024"),
    "nor of that in its init's": ("tr '\\0' '\\n' </proc/1/environ | grep -c -i -e token -e docker -e rnd_", "0"),
    "no other job's messages": ("ls -A /dev/mqueue; ls -A /dev/shm", ""),
    "no messages of the kernel": ("dmesg >/dev/null || echo no", "no"),
    "no modules": ("cp /bin/busybox /tmp/x.ko; insmod /tmp/x.ko 2>&1 | grep -c 'not permitted'", "1"),
    "no swap": (
        "head -c 99999 /dev/zero >f; mkswap f >&2; swapon f 2>&1 | grep -c 'not permitted'",
        "1",
    ),
}


class Bait(NamedTuple):
    """What the host has that a container must not get at: what listens, and a process of the container's own user."""

    host: str
    port: int
    sleeper: subprocess.Popen[bytes]

    def put_on(self, script: str) -> str:
        """Return a script that knows where it is."""
        words = {"host": self.host, "port": self.port, "sleeper": self.sleeper.pid}
        return re.sub("{(host|port|sleeper)}", lambda found: str(words[found[1]]), script)


class Greeting(socketserver.BaseRequestHandler):
    """Says that somebody has come through."""

    def handle(self) -> None:
        self.request.sendall(b"reached\n")


@pytest.fixture(scope="module")
def bait(engine: APIClient) -> Iterator[Bait]:
    """Have something on the host to be reached, to be signalled and, in memory that processes share, to be seen."""
    host = host_address(engine)
    nobody = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    with (
        socketserver.ThreadingTCPServer(("", 0), Greeting) as server,
        tempfile.NamedTemporaryFile(prefix="rnd-bait-", dir="/dev/shm"),
        subprocess.Popen(["sleep", "10000"], **nobody) as sleeper,  # type: ignore[call-overload]  # by name
    ):
        threading.Thread(target=server.serve_forever).start()
        try:
            yield Bait(host=host, port=server.server_address[1], sleeper=sleeper)
        finally:
            server.shutdown()
            sleeper.kill()


def host_address(engine: APIClient) -> str:
    """Return the host's address on the engine's bridge: an engine that has just made it tells its subnet alone."""
    bridge = next(each for each in engine.networks() if each["Driver"] == "bridge")
    known = bridge["IPAM"]["Config"][0]
    return str(known.get("Gateway") or next(ipaddress.ip_network(known["Subnet"]).hosts()))


class TestProbes(DockerRuns):
    """One container a probe."""

    @pytest.mark.parametrize("name", PROBES)
    def test_probe(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch, bait: Bait, name: str) -> None:
        monkeypatch.setenv("DAEMON_TOKEN", "xyzzy")
        script, expected = PROBES[name]
        script = bait.put_on(script)
        folder = self.jobs_folder(data_dir) / "1/input"
        folder.mkdir(parents=True)
        (folder / "a").write_text("a")
        (folder / "private").write_text("b")
        (folder / "private").chmod(0o600)
        output = Mount(source=folder.parent / "output", target="/output", writable=True)
        terms = {"mounts": (output, Mount(source=folder, target="/input"))}
        end, directory = self.end_of(data_dir, script.replace("{data_dir}", str(data_dir)), container=terms)
        if expected is None:
            assert end.phase is Phase.EXITED
        else:
            expected = expected if os.geteuid() == 0 else expected.replace("65534", str(os.geteuid()))
            assert (directory / "logs/stdout.txt").read_text().strip() == expected
        assert (folder / "a").read_text() == "a"
        assert bait.sleeper.poll() is None

    def test_what_the_owner_lets_into_the_network_reaches_the_host(self, data_dir: Path, bait: Bait) -> None:
        """So the probe of it can tell."""
        script, _ = PROBES["no connection to the host"]
        _, directory = self.end_of(data_dir, bait.put_on(script), container={"network": "bridge"})
        assert (directory / "logs/stdout.txt").read_text() == "1\n"


class TestUsingUp(DockerRuns):
    """What has a limit acts at it, in time, and leaves nothing behind."""

    def timed(self, data_dir: Path, script: str, **fields: object) -> tuple[Observation, Path, float]:
        """Run a script and say how long that took from when it began."""
        end, directory = self.end_of(data_dir, script, **fields)
        assert end.started_at is not None
        assert end.ended_at is not None
        return end, directory, (end.ended_at - end.started_at).total_seconds()

    def test_memory(self, data_dir: Path) -> None:
        limits = ResourceLimits(memory_bytes=32 << 20)
        end, _, took_s = self.timed(data_dir, "exec tail /dev/zero", limits=limits)
        assert (end.phase, end.signal) == (Phase.EXITED, signal.SIGKILL)
        assert end.reason == f"killed by the memory limit of {32 << 20} bytes"
        assert took_s < 5

    def test_memory_by_files_in_memory(self, data_dir: Path) -> None:
        script = "dd if=/dev/zero of=/tmp/x bs=1M; dd if=/dev/zero of=/dev/shm/x bs=1M; du -sm /tmp /dev/shm; exit 3"
        limits = ResourceLimits(memory_bytes=512 << 20)
        end, directory, took_s = self.timed(data_dir, script, limits=limits)
        assert end.exit_code == 3
        sizes = [int(line.split()[0]) for line in (directory / "logs/stdout.txt").read_text().splitlines()]
        assert all(63 <= size <= 64 for size in sizes)
        assert took_s < 5

    def test_no_volume_of_an_image_is_a_folder_without_bound(self, data_dir: Path, engine: APIClient) -> None:
        """However the image writes their paths; and where the service has no /tmp of its own."""
        image = import_image(engine, "rnd-test-volumes:latest", "VOLUME /data/", "VOLUME /tmp", "VOLUME /a/../b")
        script = "df -k /data /tmp /b | awk 'NR > 1 {print $1, $2}'"
        _, directory = self.end_of(data_dir, script, container={"image_id": image, "tmpfs_bytes": 0})
        engine.remove_image("rnd-test-volumes:latest", force=True)
        assert (directory / "logs/stdout.txt").read_text() == "tmpfs 65536\n" * 3

    def test_a_fork_bomb(self, data_dir: Path) -> None:
        run = self.order(
            data_dir, "bomb() { bomb | bomb & }; touch up; bomb; sleep 1000", limits=ResourceLimits(pids=64)
        )

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            await eventually((run.directory / "output/up").exists)
            began = time.monotonic()
            before = len([name for name in os.listdir("/proc") if name.isdigit()])
            await eventually(lambda: (run.directory / "logs/stderr.txt").stat().st_size > 0)
            assert time.monotonic() - began < 5
            assert len([name for name in os.listdir("/proc") if name.isdigit()]) < before + 200
            began = time.monotonic()
            await executor.cancel(handle, 1.0)
            end = await executor.wait(handle)
            assert time.monotonic() - began < 15
            assert end.reason == "ended because it was cancelled"
            await executor.cleanup(handle)

        self.go(data_dir, test)

    def test_processors(self, data_dir: Path) -> None:
        script = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us || cut -d' ' -f1 /sys/fs/cgroup/cpu.max"
        _, directory, _ = self.timed(data_dir, script, limits=ResourceLimits(cpus=0.5))
        assert (directory / "logs/stdout.txt").read_text() == "50000\n"

    @pytest.mark.parametrize(
        "script",
        [
            "head -c 100000000 /dev/zero >big; sleep 100",
            "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero >$i; done",
            "mkdir -p a/b/c; while :; do cat /bin/busybox >>a/b/c/d; done",
            "exec 3>big; rm big; head -c 100000000 /dev/zero >&3; sleep 100",
        ],
        ids=["one file", "many files", "deep", "without a name"],
    )
    def test_the_disk_by_outputs(self, data_dir: Path, script: str) -> None:
        end, _, took_s = self.timed(data_dir, script, limits=ResourceLimits(disk_bytes=5_000_000))
        assert end.phase is Phase.EXITED
        assert end.signal == signal.SIGKILL
        assert "killed by the disk limit of 5000000 bytes" in end.reason
        assert took_s < 5

    def test_the_disk_by_a_quick_end(self, data_dir: Path) -> None:
        end, _, _ = self.timed(data_dir, "head -c 6000000 /dev/zero >big", limits=ResourceLimits(disk_bytes=5_000_000))
        assert (end.exit_code, "disk limit" in end.reason) == (None, True)

    def test_the_disk_by_words(self, data_dir: Path) -> None:
        end, directory, _ = self.timed(
            data_dir, "yes | head -c 4000000; head -c 100000000 /dev/zero; exit 4", stream_bytes=1_000_000
        )
        assert end.exit_code == 4
        assert LogStream.STDOUT in end.streams_cut
        assert (directory / "logs/stdout.txt").stat().st_size == 1_000_000
        assert sum(path.stat().st_size for path in (directory / "logs").iterdir()) < 3_000_000

    def test_much_output_is_not_kept_in_memory(self, data_dir: Path) -> None:
        run = self.order(data_dir, f"until test -e go; do sleep 0.02; done; head -c {MUCH_BYTES} /dev/zero")

        async def test(executor: Executor) -> None:
            handle = await executor.submit(run)
            pid = exec_of(data_dir)
            before = peak_bytes(pid)
            (run.directory / "output/go").touch()
            assert (await executor.wait(handle)).exit_code == 0
            assert peak_bytes(pid) - before < MUCH_BYTES // 8
            await executor.cleanup(handle)

        self.go(data_dir, test)
        assert (run.directory / "logs/stdout.txt").stat().st_size == MUCH_BYTES

    def test_what_it_leaves_running_ends_with_it(self, data_dir: Path) -> None:
        end, directory, _ = self.timed(data_dir, "for i in 1 2 3; do setsid nohup sleep 987654 & done; exit 0")
        assert end.exit_code == 0
        assert not any("987654" in line for line in processes_of(Path("987654")).values())
        assert directory.is_dir()

    def test_links_in_outputs_lead_nowhere_in_the_next_attempt(self, data_dir: Path, tmp_path: Path) -> None:
        """What a program left is given to the next one's user again: what its links point to is not."""
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "file").write_text("ours")
        (outside / "file").chmod(0o600)
        before = (outside / "file").stat()
        for attempt in (1, 2):
            script = (
                f"ln -sfn {outside} d; ln -sfn {outside}/file f; mkdir -p e; ln -sfn ../../../../.. e/up; cat f d/file"
            )
            end, _, _ = self.timed(data_dir, script, engine_name=f"job-1-{attempt}", attempt=attempt)
            assert end.exit_code != 0
        after = (outside / "file").stat()
        assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
        assert outside.stat().st_uid == os.geteuid()

    def test_a_writable_mount_can_be_written_and_its_output_removed_again(self, data_dir: Path) -> None:
        folder = self.jobs_folder(data_dir) / "1/mounts/data"
        (folder / "deep").mkdir(parents=True)
        (folder / "deep/file").write_text("before")
        mount = Mount(source=folder, target="/data", writable=True)
        script = "umask 077; echo after >/data/deep/file; mkdir /data/new; echo x >/data/new/y; rmdir /data/none"
        self.end_of(data_dir, script, container={"mounts": (mount,)})
        assert (folder / "deep/file").read_text() == "after\n"
        assert (folder / "new/y").read_text() == "x\n"
        shutil.rmtree(folder)


class TestEnds(DockerRuns):
    """What is said of an end that is not an ordinary one."""

    def test_a_missing_entrypoint_is_named(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "", container={"entrypoint": ("/nowhere/prog",), "cmd": ()})
        assert (end.phase, "/nowhere/prog" in end.reason) == (Phase.REJECTED, True)
        assert "No such file" in end.reason

    def test_a_program_that_is_none_is_named(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "", container={"entrypoint": ("/etc/passwd",), "cmd": ()})
        assert (end.phase, "/etc/passwd" in end.reason) == (Phase.REJECTED, True)

    def test_an_image_without_a_program_is_refused_by_the_engine_in_its_words(self, data_dir: Path) -> None:
        with pytest.raises(Exception, match="o command specified"):
            self.end_of(data_dir, "", container={"entrypoint": None, "cmd": None})

    def test_writing_to_the_root_gets_a_hint(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "set -e; echo x >/result; echo done")
        assert end.exit_code == 1
        assert "root is read-only" in end.reason

    def test_lacking_a_capability_gets_a_hint(self, data_dir: Path) -> None:
        end, _ = self.end_of(data_dir, "touch f; chown 0:0 f; exit 9")
        assert end.exit_code == 9
        assert "cap_add" in end.reason

    def test_the_owner_may_loosen_what_there_is_to_loosen(self, data_dir: Path) -> None:
        terms = {"user": "0:0", "read_only_root": False, "cap_add": ("CHOWN", "DAC_OVERRIDE")}
        end, directory = self.end_of(
            data_dir, "touch /x f; chown 5:5 f; id -u; ls -n f | awk '{print $3}'", container=terms
        )
        assert end.exit_code == 0
        assert (directory / "logs/stdout.txt").read_text() == "0\n5\n"

    def test_a_missing_image_is_a_reason(self, data_dir: Path) -> None:
        with pytest.raises(Exception, match="is not there"):
            self.end_of(data_dir, "", container={"image_id": "sha256:" + "0" * 64})

    def test_a_link_in_the_way_to_a_mount_is_refused(self, data_dir: Path, tmp_path: Path) -> None:
        folder = self.jobs_folder(data_dir) / "1/mounts"
        folder.mkdir(parents=True)
        (folder / "data").symlink_to(tmp_path)
        with pytest.raises(Exception, match="which is no folder"):
            self.end_of(data_dir, "", container={"mounts": (Mount(source=folder / "data", target="/data"),)})
