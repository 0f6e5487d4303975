"""A machine of the test's own: systemd as PID 1 in a container, on this machine's files, of which it changes none.

Its root is this machine's, below a layer in memory that goes with it. The interpreter and what it imports are seen in /opt, since
a service looks into nobody's home. Another tree may stand in for this machine's files, and then nothing of this machine is in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from tests.cli.command import PROJECT

BOOTED_WITHIN_S = 120.0
COMMAND_WITHIN_S = 120.0
RND = "/opt/rnd/bin/rnd"
IN_THERE = ("bash", "-c", 'env "$@"; exit $?', "run")

# In a mount namespace of its own, so that nothing is left behind however this ends.
BOOT = """
set -e
mount -t tmpfs -o mode=0755 rnd-test "$1"
mkdir "$1/upper" "$1/work" "$1/root"
layer=$1 machine=$2 tree=$3
shift 3
mount -t overlay -o "lowerdir=$tree,upperdir=$layer/upper,workdir=$layer/work" rnd-test "$layer/root"
rm -rf "$layer/root/etc/systemd/system"/*.wants
exec systemd-nspawn --quiet --boot --directory="$layer/root" --machine="$machine" --register=no --keep-unit --private-network \
    --console=pipe --link-journal=no --suppress-sync=yes --system-call-filter=@known "$@" systemd.unit=sysinit.target
"""
# A virtual environment as pip would make it, with the packages of the test's.
INSTALL = """
set -e
echo /opt/python/lib >/etc/ld.so.conf.d/0-rnd-test.conf  # its own libraries, where it was built to look for them in a home
ldconfig
/opt/python/bin/"$1" -m venv --without-pip /opt/rnd
site=$(/opt/rnd/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\\n' /opt/project /opt/site >"$site/rnd.pth"
printf '#!/opt/rnd/bin/python -P\\nimport sys\\nfrom rnd.cli.main import main\\nsys.exit(main())\\n' >/opt/rnd/bin/rnd
chmod 755 /opt/rnd/bin/rnd
"""


def why_not() -> str:
    """Return why no machine can be booted here; "": one can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    missing = [each for each in ("systemd-nspawn", "nsenter", "unshare") if shutil.which(each) is None]
    return f"there is no {', '.join(missing)}" if missing else ""


class CannotBoot(Exception):
    """The container has ended before its systemd was up: this machine does not let one run. Its last words say why."""


class BootedMachine:
    """One machine, up within the context: with this machine's files and rnd installed, or with those of `tree` and nothing else.

    Of `seen`, each folder is seen there, read-only, at its path.
    """

    def __init__(self, folder: Path, *, tree: Path | None = None, seen: Mapping[str, Path] | None = None) -> None:
        self._folder = folder
        self._tree = tree
        self._seen = dict(seen or {})
        self._log = folder.with_name("boot.txt")
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> Self:
        self._folder.mkdir()
        if self._tree is None:
            own = {"python": sys.base_prefix, "site": sysconfig.get_path("purelib"), "project": PROJECT}
            self._seen |= {f"/opt/{name}": Path(path) for name, path in own.items()}
        binds = [f"--bind-ro={path}:{place}" for place, path in self._seen.items()]
        name = f"rnd-test-{os.getpid()}"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "unshare",
                    "--mount",
                    "--propagation=private",
                    "bash",
                    "-c",
                    BOOT,
                    "boot",
                    self._folder,
                    name,
                    self._tree or "/",
                    *binds,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._await_boot()
            if self._tree is None:
                self.run("bash", "-c", INSTALL, "install", os.path.basename(os.path.realpath(sys.executable)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()  # systemd-nspawn has the machine switch itself off
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the machine, as root."""
        done = subprocess.run(
            # The shell makes the process that is in there: nsenter's own fork has been seen not to reap it.
            ["nsenter", f"--target={self._leader}", "--all", "--no-fork", "--", *IN_THERE, *command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_WITHIN_S,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}\n{self.journal()}"
            )
        return done

    def rnd(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command `rnd` there."""
        return self.run(RND, *arguments, check=check)

    def call(self, method: str, /, *, data_dir: str = "/var/lib/rnd", **params: Any) -> Any:
        """Call a method of the peer there."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        curl = ("curl", "--silent", "--show-error", "--max-time", "60", "--unix-socket", f"{data_dir}/api.sock")
        answer = json.loads(self.run(*curl, "--data", body, "http://rnd/rpc").stdout)
        assert "error" not in answer, answer
        return answer["result"]

    def shows(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit."""
        lines = self.run("systemctl", "show", unit, f"--property={','.join(names)}").stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def until(self, question: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Wait until something is so."""
        ends = time.monotonic() + timeout_s
        while not question():
            if time.monotonic() > ends:
                raise AssertionError(f"{what}: not within {timeout_s} s\n{self.journal()}")
            time.sleep(0.1)

    def journal(self) -> str:
        """Return the last lines of the machine's journal."""
        return self.run("journalctl", "--no-pager", "-n", "60", check=False).stdout

    @contextlib.contextmanager
    def drop_in(self, unit: str, settings: str) -> Iterator[None]:
        """Have a drop-in hold for a unit meanwhile, as `systemctl edit` makes it."""
        path = f"/run/systemd/system/{unit}.d/test.conf"
        self.run("bash", "-c", 'mkdir -p "${1%/*}" && printf "[Service]\\n%s\\n" "$2" >"$1"', "edit", path, settings)
        self.run("systemctl", "daemon-reload")
        yield
        self.run("rm", path)
        self.run("systemctl", "daemon-reload")

    def _await_boot(self) -> None:
        assert self._process is not None
        ends = time.monotonic() + BOOTED_WITHIN_S
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                raise CannotBoot(self._log.read_text(errors="replace").strip()[-500:])
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            with contextlib.suppress(OSError, IndexError, AssertionError):
                self._leader = int(children.read_text().split()[0])
                if self.run("systemctl", "is-active", "sysinit.target", check=False).stdout == "active\n":
                    return
            time.sleep(0.2)
        raise AssertionError(
            f"systemd has not come up in a container in {BOOTED_WITHIN_S:.0f} s:\n{self._log.read_text(errors='replace')}"
        )
