"""Two peers in two network namespaces: start, pair by invite, run workflows across in both directions, clean up.

Exit code 0 if every result is right, 77 where this machine cannot do it (the reason is on standard error), 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PORT = 30906
WITHIN_S = 40.0
CANNOT = 77
TEXT = "to be or not to be\n" * 2_000


class CannotTry(Exception):
    """This machine cannot make two namespaces; the message says why."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the API's unix socket, which no namespace of networks hides."""

    def __init__(self, path: Path) -> None:
        super().__init__("rnd", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Machine:
    """A namespace with a peer in it."""

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name = name
        self.namespace = f"rnd-{name}-{os.getpid()}"
        self.address = address
        self.data_dir = folder / name
        self.process: subprocess.Popen[bytes] | None = None
        self.peer_id = ""

    def ip(self, *arguments: str) -> None:
        """Run `ip` in the namespace."""
        run("ip", "-n", self.namespace, *arguments)

    def start(self) -> None:
        """Start its peer."""
        self.data_dir.mkdir()
        command = [sys.executable, "-m", "rnd", "serve", "--data-dir", str(self.data_dir)]
        command += ["--peer", f"{self.address}:{PORT}", "--api", "127.0.0.1:0"]
        with (self.data_dir / "stderr.txt").open("ab") as output:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *command],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"RND_NAME": self.name, "RND_QUEUE_INTERVAL_S": "1", "RND_STATUS_INTERVAL_S": "1"},
            )
        wait_until(self._is_ready, f"the peer on {self.name} is ready")
        self.peer_id = self.call("node.status")["peer_id"]

    def stop(self) -> None:
        """Stop its peer."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def call(self, method: str, /, **params: Any) -> Any:
        """Call a JSON-RPC method of its peer."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        with contextlib.closing(UnixConnection(self.data_dir / "api.sock")) as connection:
            connection.request("POST", "/rpc", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        if "error" in answer:
            raise RuntimeError(f"{method} on {self.name}: {answer['error']}")
        return answer["result"]

    def rnd(self, *arguments: str) -> str:
        """Run a command of the CLI there and return what it prints."""
        command = [sys.executable, "-m", "rnd", *arguments]
        environment = os.environ | {"RND_DATA_DIR": str(self.data_dir)}
        return subprocess.run(
            command, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError((self.data_dir / "stderr.txt").read_text())
        try:
            return bool(self.call("node.status")["peer_id"])
        except OSError:
            return False


def run(*command: str) -> None:
    """Run a command of the system. Raises `CannotTry` with its words where it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise CannotTry(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def wait_until(found: Callable[[], bool], what: str) -> None:
    """Return when something has come about. Raises `RuntimeError` with what it was."""
    deadline = time.monotonic() + WITHIN_S
    while not found():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {WITHIN_S:g} s: {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def two_machines(folder: Path, *, behind_nat: bool) -> Iterator[tuple[Machine, Machine]]:
    """Make two namespaces with a cable between them, and take both away again."""
    if os.geteuid() != 0:
        raise CannotTry("network namespaces take root")
    for program in ("ip", *(["iptables"] if behind_nat else [])):
        if shutil.which(program) is None:
            raise CannotTry(f"there is no {program}")
    # Of 198.18.0.0/15, which is for trials between two networks (RFC 2544).
    machines = Machine("a", "198.18.77.1", folder), Machine("b", "198.18.77.2", folder)
    one, other = machines
    made: list[Machine] = []
    try:
        for machine in machines:
            run("ip", "netns", "add", machine.namespace)
            made.append(machine)
            machine.ip("link", "set", "lo", "up")
        cable = "rnd0"
        one.ip("link", "add", cable, "type", "veth", "peer", "name", cable, "netns", other.namespace)
        for machine in machines:
            machine.ip("address", "add", f"{machine.address}/30", "dev", cable)
            machine.ip("link", "set", cable, "up")
        if behind_nat:  # what opens a connection does not get in
            rule = ("INPUT", "-i", cable, "-p", "tcp", "--syn", "-j", "DROP")
            run("ip", "netns", "exec", other.namespace, "iptables", "-w", "10", "-A", *rule)
        yield machines
    finally:
        for machine in made:
            machine.stop()
            subprocess.run(["ip", "netns", "del", machine.namespace], check=False, timeout=20)


def pair(inviter: Machine, joiner: Machine) -> None:
    """Have two peers allow each other, by one line that their owners carry."""
    joiner.rnd("peer", "join", inviter.rnd("peer", "invite").strip())
    for machine in (inviter, joiner):
        wait_until(
            lambda machine=machine: machine.call("node.status")["peers_connected"] > 0, f"{machine.name} is linked"
        )


def offer(machine: Machine) -> dict[str, dict[str, Any]]:
    """Offer a text and a program that makes it loud; return both services."""
    path = machine.data_dir.parent / f"{machine.name}.txt"
    path.write_text(f"{machine.name} says: {TEXT}")
    text = machine.call("service.create", name="text", service_type="DATA", paths=[str(path)])
    loud = machine.call(
        "service.create",
        name="loud",
        service_type="STANDALONE",
        executable="/usr/bin/tr",
        cmd=["a-z", "A-Z"],
        confine="never",  # it reads its input and nothing else
    )
    return {"text": text, "loud": loud}


def run_across(
    orchestrator: Machine, source: Machine, program: Machine, offers: dict[str, dict[str, dict[str, Any]]]
) -> None:
    """Run a text of one peer through the program of the other and bring the result home. Raises `RuntimeError`."""

    def node(machine: Machine, service: dict[str, Any]) -> int:
        there = (
            {}
            if machine is orchestrator
            else {
                "peer_id": machine.peer_id,
                "service_name": service["name"],
                "service_type": service["service_type"],
                "interfaces": service["interfaces"],
            }
        )
        return int(
            orchestrator.call("workflow.add_node", workflow_id=workflow, service_id=service["id"], **there)["node_id"]
        )

    name = f"text of {source.name}, program of {program.name}"
    workflow = orchestrator.call("workflow.create", name=name)["id"]
    text, loud = node(source, offers[source.name]["text"]), node(program, offers[program.name]["loud"])
    for start, end, to, more in (
        (text, loud, "STDIN", {}),
        (loud, None, "MOUNT", {"destination_file_name": "loud.txt"}),
    ):
        orchestrator.call(
            "workflow.add_connection",
            workflow_id=workflow,
            from_node_id=start,
            from_interface_type="STDOUT",
            to_node_id=end,
            to_interface_type=to,
            **more,
        )
    execution_id = orchestrator.call("workflow.execute", workflow_id=workflow)["execution_id"]
    ended = orchestrator.call("execution.wait", execution_id=execution_id, timeout_s=WITHIN_S)
    if ended["status"] != "COMPLETED":
        raise RuntimeError(f"{name}, ordered by {orchestrator.name}: {ended['status']}: {ended['error']}")
    (result,) = orchestrator.call("execution.results", execution_id=execution_id)["items"]
    content = Path(result["absolute_path"]).read_text()
    if content != f"{source.name} says: {TEXT}".upper():
        raise RuntimeError(f"{name}, ordered by {orchestrator.name}: another result than it should be")
    print(f"ordered by {orchestrator.name}, {name}: {len(content):,} bytes, right: {content.splitlines()[0]}")


def main() -> int:
    """Do all of it."""
    parser = argparse.ArgumentParser(prog="tools/two-machines", description=__doc__)
    parser.add_argument("--behind-nat", action="store_true", help="nobody can open a connection to the second machine")
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("RND_")]:
        del os.environ[name]  # the settings of whoever runs this are not meant for these peers
    with tempfile.TemporaryDirectory(prefix="rnd-two-") as folder:
        try:
            with two_machines(Path(folder), behind_nat=arguments.behind_nat) as (one, other):
                for machine in (one, other):
                    machine.start()
                pair(one, other)
                print("a and b are paired by an invite")
                offers = {machine.name: offer(machine) for machine in (one, other)}
                for orchestrator in (one, other):
                    run_across(orchestrator, one, other, offers)
                    run_across(orchestrator, other, one, offers)
        except CannotTry as error:
            print(f"tools/two-machines: {error}", file=sys.stderr)
            return CANNOT
        except RuntimeError as error:
            print(f"tools/two-machines: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
