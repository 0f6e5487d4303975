"""A Debian 12 that was just installed: the package, or the wheel with `rnd setup`, and the tutorial on it as it is written."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.console_pages import is_as_shown, steps_of
from tests.packages.conftest import PROJECT, built
from tests.packages.short_run import short_run
from tests.service.booted_machine import BootedMachine

pytestmark = pytest.mark.timeout(900)

SERVICE = "rnd.service"
TUTORIAL = PROJECT / "docs/tutorial.md"


def install(machine: BootedMachine) -> None:
    """Install the Debian package as a person does."""
    machine.run("apt-get", "install", "--yes", f"/opt/dist/{built('rnd_*.deb').name}")


def service_runs_a_program(machine: BootedMachine, command: str = "rnd") -> None:
    """See that the service is up as its own user and runs a workflow."""
    assert machine.shows(SERVICE, "ActiveState", "UnitFileState") == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
    }
    pid = machine.shows(SERVICE, "MainPID")["MainPID"]
    assert machine.run("ps", "-o", "user=", "-p", pid).stdout.strip() == "rnd"
    done = machine.run("bash", "-c", short_run(command), "bash", "/srv/tour")
    assert "SOME WORDS\n" in done.stdout


def follow_the_tutorial(machine: BootedMachine, path: str) -> None:
    """Do on the machine, as a person without rights, what the tutorial says of one machine, and compare what is printed."""
    steps = [step for step in steps_of(TUTORIAL) if not step.machine]
    script = [f"export PATH={path}:$PATH LC_ALL=C.UTF-8; mkdir ~/notes ~/tour; cd ~/tour"]
    for number, step in enumerate(steps):
        if step.file:
            script.append(f"printf %s {shlex.quote(step.shown)} >{step.file}")
        else:
            script.append(f"printf '%s\\n' {shlex.quote(step.command)} >~/notes/{number}.sh")
            script.append(f"source ~/notes/{number}.sh </dev/null >~/notes/{number}.out 2>&1")
    machine.run("useradd", "--create-home", "--shell", "/bin/bash", "ann")
    machine.run("su", "-", "ann", "-c", "\n".join(script))
    commands = {number: step for number, step in enumerate(steps) if not step.file}
    assert len(commands) > 20
    for number, step in commands.items():
        output = machine.run("cat", f"/home/ann/notes/{number}.out").stdout
        assert is_as_shown(output, step.shown), f"$ {step.command}\n{output}\n--- is not what is shown:\n{step.shown}"


def there(machine: BootedMachine, *paths: str) -> list[str]:
    """Return which of these are there."""
    return [path for path in paths if machine.run("test", "-e", path, check=False).returncode == 0]


def nap(machine: BootedMachine) -> str:
    """Have the service run a program that takes ten minutes, and return its process."""
    program = machine.call(
        "service.create", name="nap", service_type="STANDALONE", executable="/bin/sleep", cmd=["600"]
    )
    workflow = machine.call("workflow.create", name="nap")["id"]
    node = machine.call("workflow.add_node", workflow_id=workflow, service_id=program["id"])["node_id"]
    ends = {"from_node_id": node, "from_interface_type": "STDOUT", "to_node_id": None, "to_interface_type": "STDIN"}
    machine.call("workflow.add_connection", workflow_id=workflow, **ends)
    machine.call("workflow.execute", workflow_id=workflow)
    asleep = ("pgrep", "-u", "rnd", "-x", "sleep")
    machine.until(lambda: machine.run(*asleep, check=False).returncode == 0, "the program runs")
    return machine.run(*asleep).stdout.strip()


def test_the_package_is_installed_upgraded_removed_and_purged(machine: BootedMachine) -> None:
    install(machine)
    service_runs_a_program(machine)
    assert re.fullmatch(r"rnd \d+\.\d+\.\d+\n", machine.run("rnd", "--version").stdout)
    assert machine.run("dpkg", "--verify", "rnd").stdout == ""
    machine.run("man", "-w", "rnd")
    machine.run("logrotate", "--debug", "/etc/logrotate.d/rnd")
    assert (
        machine.run("systemd-analyze", "verify", SERVICE, "rnd@x.service", "rnd.socket", "rnd-exec.service").stderr
        == ""
    )

    # An upgrade starts the new release, and programs run on.
    napping = nap(machine)
    before = machine.shows(SERVICE, "MainPID")["MainPID"]
    machine.run("bash", "-c", "echo '# of the owner' >>/etc/rnd/rnd.toml")
    machine.run("apt-get", "install", "--yes", "--reinstall", f"/opt/dist/{built('rnd_*.deb').name}")
    assert machine.shows(SERVICE, "MainPID")["MainPID"] not in {before, "0"}
    machine.run("kill", "-0", napping)
    service_runs_a_program(machine)
    assert machine.run("tail", "-n", "1", "/etc/rnd/rnd.toml").stdout == "# of the owner\n"

    # What its owner has switched off stays off over an upgrade.
    machine.run("systemctl", "disable", "--now", SERVICE)
    machine.run("dpkg", "-i", f"/opt/dist/{built('rnd_*.deb').name}")
    assert machine.shows(SERVICE, "ActiveState", "UnitFileState") == {
        "ActiveState": "inactive",
        "UnitFileState": "disabled",
    }
    machine.run("systemctl", "enable", "--now", SERVICE)

    machine.run("bash", "-c", "printf 'RND_API=127.0.0.1:30070\\nRND_PEER=127.0.0.1:30907\\n' >/etc/rnd/second.env")
    machine.run("systemctl", "start", "rnd@second.service")
    machine.run("apt-get", "remove", "--yes", "rnd")
    assert machine.shows(SERVICE, "ActiveState")["ActiveState"] == "inactive"
    assert machine.run("pgrep", "-u", "rnd", check=False).stdout == ""
    data, second, settings, code = (
        "/var/lib/rnd/rnd.db",
        "/var/lib/rnd-second/rnd.db",
        "/etc/rnd/rnd.toml",
        "/usr/lib/rnd",
    )
    assert there(machine, data, second, settings, code, "/usr/bin/rnd") == [data, second, settings]

    install(machine)
    service_runs_a_program(machine)

    machine.run("apt-get", "purge", "--yes", "rnd")
    assert there(machine, data, second, settings, code, "/etc/rnd", "/etc/logrotate.d/rnd", "/var/lib/rnd") == []
    machine.run("id", "rnd")
    assert machine.run("dpkg", "-s", "rnd", check=False).returncode != 0
    left = machine.run("find", "/etc/systemd", "/var/lib/systemd/deb-systemd-helper-enabled", "-name", "rnd*").stdout
    assert left == ""


def test_the_tutorial_with_the_package(machine: BootedMachine) -> None:
    install(machine)
    follow_the_tutorial(machine, "/usr/bin")


def test_the_wheel_becomes_a_service_by_setup_and_the_tutorial_runs_with_it(machine: BootedMachine) -> None:
    machine.run("python3", "-m", "venv", "/opt/rnd")
    # As docs/service.md has it, with the files that PyPI would hand out.
    pip = ("env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/opt/dist/wheels", "/opt/rnd/bin/pip")
    machine.run(*pip, "install", "rnd-daemon")
    machine.run("/opt/rnd/bin/rnd", "setup")
    service_runs_a_program(machine, "/opt/rnd/bin/rnd")
    follow_the_tutorial(machine, "/opt/rnd/bin")
    machine.run("/opt/rnd/bin/rnd", "setup", "--uninstall")
    assert machine.run("systemctl", "cat", SERVICE, check=False).returncode != 0
