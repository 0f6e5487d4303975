"""`rnd setup` on a folder in the machine's place, or in a home of the test's own: this machine is not touched."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rnd.cli import installation
from tests.cli.command import PROJECT, Rnd

SERVICE = "etc/systemd/system/rnd.service"
EXEC = "etc/systemd/system/rnd-exec.service"
FILES = {
    "etc/sysusers.d/rnd.conf",
    "etc/tmpfiles.d/rnd.conf",
    SERVICE,
    "etc/systemd/system/rnd@.service",
    "etc/systemd/system/rnd.socket",
    "usr/local/share/bash-completion/completions/rnd",
    "usr/local/share/zsh/site-functions/_rnd",
    "usr/local/share/fish/vendor_completions.d/rnd.fish",
    "usr/local/share/man/man1/rnd.1",
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes a user and gives it a folder, below another root")


def there(folder: Path) -> set[str]:
    """Return the files below a folder that are not systemd's own records of users."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}
    return found - {f"etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", ".pwd.lock")}


@needs_root
def test_it_installs_a_service_that_starts_with_the_machine_and_says_each_step(rnd: Rnd, root: Path) -> None:
    done = rnd("setup", "--root", root)
    assert (done.code, done.err) == (0, "")
    assert there(root) == FILES
    for name in FILES:
        assert f"write        {root / name}\n" in done.out
    assert f"run          systemctl --root={root} enable rnd.service\n" in done.out
    assert f"={sys.executable} -P -m rnd serve --data-dir /var/lib/rnd\n" in (root / SERVICE).read_text()
    assert (root / "etc/systemd/system/multi-user.target.wants/rnd.service").is_symlink()
    account = next(line for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("rnd:"))
    assert account.endswith(":/var/lib/rnd:/usr/sbin/nologin")
    data = (root / "var/lib/rnd").stat()
    assert (stat.S_IMODE(data.st_mode), data.st_uid) == (0o700, int(account.split(":")[2]))


@needs_root
def test_done_again_it_writes_nothing(rnd: Rnd, root: Path) -> None:
    rnd("setup", "--root", root)
    before = {name: (root / name).stat().st_mtime_ns for name in FILES}
    done = rnd("setup", "--root", root)
    assert (done.code, done.out.count("unchanged ")) == (0, len(FILES))
    assert {name: (root / name).stat().st_mtime_ns for name in FILES} == before


@needs_root
def test_what_is_behind_is_brought_up_to_date_and_what_was_asked_for_once_stays(rnd: Rnd, root: Path) -> None:
    first = rnd("setup", "--root", root, "--docker")
    assert "jobs in containers: off" not in first.out
    content = (root / EXEC).read_text()
    for name in (SERVICE, EXEC):
        (root / name).write_text(f"# of an earlier release\n# {installation.MARK}\n")
    again = rnd("setup", "--root", root)
    assert (root / EXEC).read_text() == content
    assert there(root) == FILES | {EXEC}
    assert "programs confined for other peers: off (rnd setup --standalone)" in again.out
    assert "jobs in containers: off" not in again.out


def test_what_somebody_else_has_put_there_is_left_alone(rnd: Rnd, root: Path) -> None:
    (root / SERVICE).parent.mkdir(parents=True)
    (root / SERVICE).write_text("[Service]\n")
    done = rnd("setup", "--root", root)
    assert (done.code, there(root)) == (1, {SERVICE})
    assert str(root / SERVICE) in done.err
    assert "systemctl edit rnd" in done.err
    done = rnd("setup", "--root", root, "--uninstall")
    assert (done.code, (root / SERVICE).read_text()) == (0, "[Service]\n")
    assert f"leave        {root / SERVICE} (not installed by rnd setup)\n" in done.out


def test_a_service_that_a_package_has_installed_is_not_installed_again(rnd: Rnd, root: Path) -> None:
    packaged = root / "usr/lib/systemd/system/rnd.service"
    packaged.parent.mkdir(parents=True)
    packaged.write_text("[Service]\n")
    done = rnd("setup", "--root", root)
    assert (done.code, there(root)) == (1, {str(packaged.relative_to(root))})
    assert f"a package of the system has installed the service already: {packaged}" in done.err
    assert rnd("setup", "--root", root, "--uninstall").code == 0
    assert there(root) == {str(packaged.relative_to(root))}


def test_a_dry_run_says_the_same_steps_and_takes_none(rnd: Rnd, root: Path) -> None:
    done = rnd("setup", "--root", root, "--dry-run", "--docker", "--json")
    assert list(root.iterdir()) == []
    steps = done.json["steps"]
    assert {step["what"] for step in steps if step["action"] == "write"} == {
        str(root / name) for name in FILES | {EXEC}
    }
    assert steps[-1]["action"] == "note"
    assert "would write  " in rnd("setup", "--root", root, "--dry-run").out


@needs_root
def test_uninstalling_undoes_everything_but_the_data_and_says_how_to_delete_that(rnd: Rnd, root: Path) -> None:
    rnd("setup", "--root", root, "--docker", "--standalone")
    (root / "var/lib/rnd/rnd.db").write_text("data")
    done = rnd("setup", "--root", root, "--uninstall")
    assert (done.code, done.err) == (0, "")
    assert there(root) == {"var/lib/rnd/rnd.db"}
    assert [path for path in (root / "etc/systemd/system").rglob("*") if not path.is_dir()] == []
    assert not (root / "etc/systemd/system/rnd.service.d").exists()
    assert "rm -r /var/lib/rnd /var/lib/rnd-* /etc/rnd; userdel rnd" in done.out
    again = rnd("setup", "--root", root, "--uninstall")
    assert (again.code, "remove " in again.out, "run " in again.out) == (0, False, False)


def test_a_service_of_a_person_lies_in_their_home(rnd: Rnd) -> None:
    done = rnd("setup", "--user")
    assert (done.code, done.err) == (0, "")
    assert there(rnd.home) == {
        ".config/systemd/user/rnd.service",
        ".config/fish/completions/rnd.fish",
        ".local/share/bash-completion/completions/rnd",
        ".local/share/zsh/site-functions/_rnd",
        ".local/share/man/man1/rnd.1",
    }
    assert f"={sys.executable} -P -m rnd serve\n" in (rnd.home / ".config/systemd/user/rnd.service").read_text()
    assert "not started: there is no systemd here to start it" in done.out
    assert rnd("setup", "--user", "--uninstall").code == 0
    assert there(rnd.home) == set()


def test_options_that_do_not_go_together_are_refused(rnd: Rnd, root: Path) -> None:
    assert rnd("setup", "--user", "--docker").code == 2
    done = rnd("setup", "--root", root / "missing")
    assert (done.code, "there is no such folder" in done.err) == (2, True)


def test_who_is_not_root_is_told_what_to_do(rnd: Rnd) -> None:
    done = subprocess.run(
        ["unshare", "--user", *rnd.command("setup")],  # nobody, to itself
        cwd="/",
        env=rnd.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "rnd: a service of the machine is installed by root\nhint: sudo rnd setup, or rnd setup --user\n",
    )


def test_an_interpreter_that_the_service_would_not_see_is_refused(rnd: Rnd, tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    done = subprocess.run(
        [tmp_path / "python", "-m", "rnd", "setup", "--dry-run"],
        cwd="/",
        env=rnd.environment({"PYTHONPATH": str(PROJECT)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "rnd: the service would not see " in done.stderr
    assert "python3 -m venv /opt/rnd" in done.stderr


def test_a_folder_that_others_cannot_enter_hides_what_is_in_it(tmp_path: Path) -> None:
    assert installation.unreachable(["/root/.local/bin/python"]) == "/root"
    assert installation.unreachable([str(tmp_path / "python")]) == "/tmp"
    assert installation.unreachable(["/usr/bin/env", "/usr/lib"]) is None


@needs_root
def test_the_unit_has_the_interpreter_whatever_its_name(rnd: Rnd, root: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a %n $HOME folder/python"
    odd.parent.mkdir()
    odd.symlink_to(sys.executable)
    subprocess.run(
        [odd, "-m", "rnd", "setup", "--root", root],
        env=rnd.environment({"PYTHONPATH": str(PROJECT)}),
        cwd="/",
        check=True,
        capture_output=True,
    )
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", root / SERVICE], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    odd.unlink()  # else the check would have passed whatever stood there
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", root / SERVICE], capture_output=True, text=True, check=False
    )
    assert str(odd) in checked.stderr
