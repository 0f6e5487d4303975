"""Under a real systemd as PID 1: what `rnd setup` installs starts, keeps programs over a restart, is watched, reloads and goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.booted_machine import RND, BootedMachine, CannotBoot, why_not

pytestmark = pytest.mark.timeout(300)  # a machine is booted, and starts services again and again

SERVICE = "rnd.service"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedMachine]:
    """A machine on which `rnd setup` has been run."""
    if (reason := why_not()) and not os.environ.get("CI"):
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        try:
            machine = stack.enter_context(BootedMachine(tmp_path_factory.mktemp("booted") / "layer"))
        except CannotBoot as error:
            pytest.skip(f"systemd cannot be booted in a container here: {error}")
        machine.rnd("setup")
        yield machine


@pytest.fixture(autouse=True)
def fresh(machine: BootedMachine) -> Iterator[None]:
    """The service runs before a test and after it."""
    machine.run("systemctl", "reset-failed", SERVICE, check=False)
    machine.run("systemctl", "start", SERVICE)
    yield
    machine.run("systemctl", "stop", "rnd.socket", SERVICE, check=False)


def test_it_is_up_enabled_and_a_user_of_its_own(machine: BootedMachine) -> None:
    facts = machine.shows(SERVICE, "ActiveState", "SubState", "UnitFileState", "Type", "MainPID", "StatusText")
    assert (facts["ActiveState"], facts["SubState"], facts["UnitFileState"]) == ("active", "running", "enabled")
    assert facts["StatusText"]  # what the daemon has told it
    assert machine.call("node.status")["executors"]["standalone"]["available"]
    status = machine.run("cat", f"/proc/{facts['MainPID']}/status").stdout
    assert "CapBnd:\t0000000000000000" in status
    assert "Seccomp:\t2" in status
    assert machine.run("ps", "-o", "user=", "-p", facts["MainPID"]).stdout.strip() == "rnd"
    assert "Daemon ready: " in machine.run("journalctl", "-u", SERVICE, "--no-pager").stdout


def slow_program(machine: BootedMachine, name: str) -> int:
    """Have a program run that waits for a file and has one in /tmp meanwhile, and return its execution."""
    script = (
        f"echo $$ >>/var/lib/rnd/{name}.runs; echo kept >/tmp/{name}; "
        f"until test -e /var/lib/rnd/{name}.go; do sleep 0.05; done; echo >/tmp/{name}.more && cat /tmp/{name}"
    )
    execution = execute(machine, name, executable="/bin/sh", cmd=["-c", script])
    machine.until(
        lambda: machine.run("test", "-s", f"/var/lib/rnd/{name}.runs", check=False).returncode == 0, "it runs"
    )
    return execution


def execute(machine: BootedMachine, name: str, **program: Any) -> int:
    """Run a program whose output comes home, and return its execution."""
    service = machine.call("service.create", name=name, service_type="STANDALONE", **program)
    workflow = machine.call("workflow.create", name=name)["id"]
    node = machine.call("workflow.add_node", workflow_id=workflow, service_id=service["id"])["node_id"]
    machine.call(
        "workflow.add_connection",
        workflow_id=workflow,
        from_node_id=node,
        from_interface_type="STDOUT",
        to_node_id=None,
        to_interface_type="STDIN",
    )
    return int(machine.call("workflow.execute", workflow_id=workflow)["execution_id"])


def ended(machine: BootedMachine, execution: int, name: str) -> str:
    """Let the program go on, and return how its execution has ended."""
    machine.run("touch", f"/var/lib/rnd/{name}.go")
    machine.until(
        lambda: machine.call("execution.get", execution_id=execution)["status"] not in {"PENDING", "RUNNING"}, "it ends"
    )
    return str(machine.call("execution.get", execution_id=execution)["status"])


def runs_of(machine: BootedMachine, name: str) -> list[str]:
    return machine.run("cat", f"/var/lib/rnd/{name}.runs").stdout.split()


def test_a_native_program_runs_on_over_a_restart(machine: BootedMachine) -> None:
    execution = slow_program(machine, "restarted")
    before = machine.shows(SERVICE, "MainPID")["MainPID"]
    machine.run("systemctl", "restart", SERVICE)
    assert machine.shows(SERVICE, "MainPID")["MainPID"] != before
    [pid] = runs_of(machine, "restarted")
    machine.run("kill", "-0", pid)
    assert ended(machine, execution, "restarted") == "COMPLETED"
    assert runs_of(machine, "restarted") == [pid]


def test_a_native_program_runs_on_over_a_stop_and_ends_when_all_is_killed(machine: BootedMachine) -> None:
    execution = slow_program(machine, "stopped")
    machine.run("systemctl", "stop", SERVICE)
    [pid] = runs_of(machine, "stopped")
    machine.run("kill", "-0", pid)
    machine.run("systemctl", "start", SERVICE)
    assert ended(machine, execution, "stopped") == "COMPLETED"
    slow_program(machine, "killed")
    [pid] = runs_of(machine, "killed")
    # A process that ends while systemd reads the list (control groups of version 1) fails the command before its end.
    kill = ("systemctl", "kill", "--kill-whom=all", "--signal=SIGKILL", SERVICE)
    machine.until(lambda: machine.run(*kill, check=False).returncode == 0, "all are killed")
    machine.until(lambda: machine.run("kill", "-0", pid, check=False).returncode != 0, "it ends with the rest")


def test_one_that_is_stuck_is_started_anew_and_its_programs_run_on(machine: BootedMachine) -> None:
    with machine.drop_in(SERVICE, "WatchdogSec=2"):
        machine.run("systemctl", "restart", SERVICE)
        execution = slow_program(machine, "watched")
        before = machine.shows(SERVICE, "MainPID", "NRestarts")
        machine.run("kill", "-STOP", before["MainPID"])
        machine.until(
            lambda: (
                int(machine.shows(SERVICE, "NRestarts")["NRestarts"]) > int(before["NRestarts"])
                and machine.shows(SERVICE, "ActiveState")["ActiveState"] == "active"
            ),
            "it is started anew",
        )
        assert ended(machine, execution, "watched") == "COMPLETED"
        assert len(runs_of(machine, "watched")) == 1


def test_a_reload_keeps_the_process_and_reads_the_configuration(machine: BootedMachine) -> None:
    before = machine.shows(SERVICE, "MainPID")
    machine.run("bash", "-c", 'echo "job_slots = 3" >/etc/rnd/rnd.toml')
    machine.run("systemctl", "reload", SERVICE)
    machine.until(
        lambda: 'Configuration reloaded: changed=["job_slots"]' in machine.run("journalctl", "-u", SERVICE).stdout,
        "it says what has changed",
    )
    assert machine.shows(SERVICE, "MainPID") == before
    assert machine.shows(SERVICE, "ActiveState")["ActiveState"] == "active"
    machine.run("rm", "/etc/rnd/rnd.toml")


def test_a_damaged_database_is_not_tried_again(machine: BootedMachine) -> None:
    with machine.drop_in(
        SERVICE, "ExecStart=\nExecStart=/opt/rnd/bin/python -P -m rnd serve --data-dir /var/lib/rnd/bad"
    ):
        machine.run("systemctl", "stop", SERVICE)
        machine.run("install", "-d", "-o", "rnd", "-g", "rnd", "-m", "0700", "/var/lib/rnd/bad")
        machine.run(
            "bash",
            "-c",
            "yes 'no database' | head -c 20000 >/var/lib/rnd/bad/rnd.db; chown rnd: /var/lib/rnd/bad/rnd.db",
        )
        machine.run("systemctl", "start", SERVICE, check=False)
        machine.until(lambda: machine.shows(SERVICE, "ActiveState")["ActiveState"] == "failed", "it gives up")
        assert machine.shows(SERVICE, "ExecMainStatus", "NRestarts") == {"ExecMainStatus": "65", "NRestarts": "0"}
    machine.run("systemctl", "reset-failed", SERVICE)


def test_the_first_call_starts_it_where_systemd_holds_its_sockets(machine: BootedMachine) -> None:
    machine.run("systemctl", "stop", SERVICE)
    machine.run("systemctl", "start", "rnd.socket")
    assert machine.shows(SERVICE, "ActiveState")["ActiveState"] == "inactive"
    api = machine.call("node.status")["api"]
    assert api == {"socket": "/var/lib/rnd/api.sock", "url": "http://127.0.0.1:30069"}
    assert machine.shows(SERVICE, "ActiveState")["ActiveState"] == "active"
    machine.run("systemctl", "restart", SERVICE)
    machine.call("node.status")


def test_neither_listening_everywhere_nor_a_number_of_processors_is_forbidden(machine: BootedMachine) -> None:
    machine.run("bash", "-c", "echo 'peer = \"0.0.0.0:30906\"' >/etc/rnd/rnd.toml")
    machine.run("systemctl", "restart", SERVICE)
    machine.run("rm", "/etc/rnd/rnd.toml")
    assert machine.call("node.status")["peer_addresses"]
    execution = execute(machine, "processors", executable="/usr/bin/nproc", limits={"cpus": 1})
    assert machine.call("execution.wait", execution_id=execution, timeout_s=30)["status"] == "COMPLETED"


def test_several_peers_have_data_of_their_own(machine: BootedMachine) -> None:
    machine.run("bash", "-c", "printf 'RND_API=127.0.0.1:30070\\nRND_PEER=127.0.0.1:30907\\n' >/etc/rnd/lab.env")
    machine.run("systemctl", "start", "rnd@lab")
    lab, main = machine.call("node.status", data_dir="/var/lib/rnd-lab"), machine.call("node.status")
    assert (lab["name"], lab["api"]["url"]) == ("lab", "http://127.0.0.1:30070")
    assert lab["peer_id"] != main["peer_id"]
    machine.run("systemctl", "stop", "rnd@lab")


def test_keys_come_as_credentials(machine: BootedMachine) -> None:
    peer_id = machine.call("node.status")["peer_id"]
    machine.run("systemctl", "stop", SERVICE)
    machine.run(
        "bash", "-c", "umask 077 && mkdir -p /etc/rnd/credentials && mv /var/lib/rnd/*.key /etc/rnd/credentials"
    )
    lines = "".join(f"LoadCredential={name}:/etc/rnd/credentials/{name}\n" for name in ("identity.key", "vault.key"))
    with machine.drop_in(SERVICE, lines):
        machine.run("systemctl", "start", SERVICE)
        assert machine.call("node.status")["peer_id"] == peer_id
        assert machine.run("bash", "-c", "ls /var/lib/rnd/*.key", check=False).returncode != 0
        machine.run("systemctl", "stop", SERVICE)
    machine.run("bash", "-c", "mv /etc/rnd/credentials/*.key /var/lib/rnd && chown rnd: /var/lib/rnd/*.key")


def test_programs_are_confined_where_the_unit_lets_them_be(machine: BootedMachine) -> None:
    assert machine.call("node.status")["executors"]["standalone"]["sandbox"] == "none"
    assert "rnd setup --standalone" in machine.rnd("doctor", check=False).stdout
    try:
        machine.rnd("setup", "--standalone")
        assert machine.call("node.status")["executors"]["standalone"]["sandbox"] == "landlock"
        execution = execute(machine, "confined", executable="/usr/bin/id", confine="always")
        assert machine.call("execution.wait", execution_id=execution, timeout_s=30)["status"] == "COMPLETED"
    finally:
        machine.run("rm", "-r", "/etc/systemd/system/rnd.service.d")
        machine.run("systemctl", "daemon-reload")


def test_rnd_exec_is_a_unit_of_its_own_that_the_daemon_asks(machine: BootedMachine) -> None:
    """There is no engine on this machine; that is what it says, in its own words."""
    machine.run("groupadd", "--force", "docker")
    try:
        machine.rnd("setup", "--docker")
        pid = machine.shows("rnd-exec.service", "MainPID")["MainPID"]
        docker = machine.call("node.status")["executors"]["docker"]
        assert docker["reason"].startswith("the container engine at /var/run/docker.sock does not answer")
        assert machine.shows("rnd-exec.service", "ActiveState", "MainPID") == {"ActiveState": "active", "MainPID": pid}
        running = machine.run("pgrep", "--full", "rnd.services.exec_main").stdout.split()
        assert running == [pid]  # the daemon has started none
    finally:
        machine.run("systemctl", "disable", "--now", "rnd-exec.service")
        machine.run("rm", "/etc/systemd/system/rnd-exec.service", "/var/lib/rnd/run/exec.unit")
        machine.run("systemctl", "daemon-reload")


def test_a_person_has_one_without_root(machine: BootedMachine) -> None:
    machine.run("systemctl", "stop", SERVICE)  # it listens where theirs will
    machine.run("useradd", "--create-home", "--home-dir", "/home/ann", "ann")
    runtime = "/run/rnd-test-ann"
    machine.run("install", "-d", "-o", "ann", "-m", "0700", runtime)
    machine.run(
        *("systemd-run", "--quiet", "--unit=ann", "--uid=ann", "--property=Type=notify", "--property=Delegate=yes"),
        *(f"--setenv=XDG_RUNTIME_DIR={runtime}", "/lib/systemd/systemd", "--user", "--unit=basic.target"),
    )
    environment = ("env", f"XDG_RUNTIME_DIR={runtime}", "HOME=/home/ann")

    def ann(*command: str) -> str:
        return machine.run("setpriv", "--reuid=ann", "--regid=ann", "--clear-groups", *environment, *command).stdout

    said = ann(RND, "setup", "--user")
    assert "run          systemctl --user restart rnd.service\n" in said
    before = ann("systemctl", "--user", "show", "rnd", "--property=ActiveState,MainPID")
    assert "ActiveState=active" in before
    ann("systemctl", "--user", "restart", "rnd")
    assert ann("systemctl", "--user", "show", "rnd", "--property=ActiveState,MainPID") != before
    assert "/home/ann/.local/state/rnd/api.sock" in ann(RND, "status")
    ann(RND, "setup", "--user", "--uninstall")
    assert "ActiveState=inactive" in ann("systemctl", "--user", "show", "rnd", "--property=ActiveState")
    machine.run("systemctl", "stop", "ann.service")


def test_uninstalling_ends_what_runs_and_leaves_the_data(machine: BootedMachine) -> None:
    slow_program(machine, "orphan")
    [pid] = runs_of(machine, "orphan")
    said = machine.rnd("setup", "--uninstall").stdout
    machine.until(lambda: machine.run("kill", "-0", pid, check=False).returncode != 0, "it ends with the service")
    assert "note         left: /var/lib/rnd and its owner" in said
    assert machine.shows(SERVICE, "LoadState", "ActiveState") == {"LoadState": "not-found", "ActiveState": "inactive"}
    machine.run("test", "-s", "/var/lib/rnd/rnd.db")
    machine.rnd("setup")
    machine.call("node.status")
    machine.run("systemctl", "stop", SERVICE)
    machine.rnd("setup", "--uninstall")  # nothing is left that could be ended
    machine.rnd("setup")
