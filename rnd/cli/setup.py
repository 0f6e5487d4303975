"""The command `rnd setup`: has systemd run the daemon, step by step, each printed, and undoes that but for the data."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rnd.cli import installation
from rnd.cli.failures import OK, CommandFailed, usage
from rnd.cli.installation import Installed
from rnd.cli.session import Session
from rnd.cli.terminal import Terminal

DATA: Final = "/var/lib/rnd"
RUNS_HERE: Final = Path("/run/systemd/system")
"""There where systemd runs the machine (sd_booted(3))."""
PACKAGED: Final = "usr/lib/systemd/system/rnd.service"
"""The unit that the Debian package installs; one in /etc would stand before it for ever."""
STEP_TIMEOUT_S: Final = 300.0
KILL_TRIES: Final = 20


def setup(session: Session) -> int:
    """Install, or uninstall."""
    arguments = session.arguments
    if arguments.user and (arguments.root or arguments.docker or arguments.standalone):
        raise usage(
            "--user goes with neither --root, --docker nor --standalone",
            hint="A service of yours may do what you may: be in the group docker, or use an engine of your own.",
        )
    if not arguments.user and not arguments.root and not arguments.dry_run and os.geteuid() != 0:
        raise CommandFailed("a service of the machine is installed by root", hint="sudo rnd setup, or rnd setup --user")
    work = _Work(session.terminal, is_dry=arguments.dry_run)
    place = _of_a_person(session) if arguments.user else _of_the_machine(session)
    if arguments.uninstall:
        place.uninstall(work)
    else:
        place.install(work)
    work.finish()
    return OK


class _Work:
    """Takes steps, or only says which, and keeps what it has said."""

    def __init__(self, terminal: Terminal, *, is_dry: bool) -> None:
        self.units_changed = False
        self._terminal = terminal
        self._is_dry = is_dry
        self._steps: list[dict[str, object]] = []

    def write(self, file: Installed) -> None:
        """Put a file in its place, unless it is there as it is to be."""
        content = file.make()
        if file.is_ours and file.path.read_text(encoding="utf-8") == content:
            self._say("unchanged", str(file.path))
            return
        self._say("write", str(file.path))
        self.units_changed = self.units_changed or file.is_of_a_unit
        if self._is_dry:
            return
        try:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = file.path.with_name(f".{file.path.name}.new")
            fresh.write_text(content, encoding="utf-8")
            fresh.chmod(0o644)
            fresh.replace(file.path)
        except OSError as error:
            raise CommandFailed(f"{file.path} cannot be written: {error.strerror}") from error

    def remove(self, file: Installed) -> None:
        """Remove a file that was installed; another's of that name stays."""
        if file.is_foreign:
            self._say("leave", f"{file.path} (not installed by rnd setup)")
        if not file.is_ours:
            return
        self._say("remove", str(file.path))
        if self._is_dry:
            return
        try:
            file.path.unlink()
            if file.path.parent.name.endswith(".d"):
                with contextlib.suppress(OSError):  # drop-ins of somebody else are in it
                    file.path.parent.rmdir()
        except OSError as error:
            raise CommandFailed(f"{file.path} cannot be removed: {error.strerror}") from error

    def run(self, *command: str) -> None:
        """Run a program of the system. Raises `CommandFailed` with its words."""
        self._say("run", " ".join(command))
        if not self._is_dry and (words := self._words_of_failure(command)):
            raise CommandFailed(
                f"{' '.join(command)} has failed: {words}",
                hint="What was done before it stays; rnd setup goes on from there.",
            )

    def end_all(self, *command: str) -> None:
        """Run what kills all processes of a unit. Raises `CommandFailed` where some may be left.

        A unit that is not loaded has none. A process that ends while systemd reads the list fails the command before its end.
        """
        self._say("run", " ".join(command))
        words = ""
        for _ in range(0 if self._is_dry else KILL_TRIES):
            words = self._words_of_failure(command)
            if not words or "not loaded" in words:
                return
        if words:
            raise CommandFailed(
                f"{' '.join(command)} has failed: {words}", hint="rnd setup --uninstall goes on from there."
            )

    @staticmethod
    def _words_of_failure(command: Sequence[str]) -> str:
        """Run a program, and return "" or what it says of why it has failed. Raises `CommandFailed` where it does not run."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CommandFailed(f"{command[0]} does not run: {error}", hint="Is systemd installed?") from error
        return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"

    def note(self, words: str) -> None:
        """Say something that is left to the person."""
        self._say("note", words)

    def finish(self) -> None:
        """Print the one document of --json."""
        if self._terminal.as_json:
            self._terminal.data({"dry_run": self._is_dry, "steps": self._steps})

    def _say(self, action: str, what: str) -> None:
        self._steps.append({"action": action, "what": what})
        if not self._terminal.as_json and not self._terminal.quiet:
            would = "would " if self._is_dry and action in {"write", "remove", "run"} else ""
            self._terminal.line(f"{would + action:12} {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """One of the two kinds of service: its files, how its systemd is asked, and what is said at the end."""

    is_a_persons: bool
    files: Sequence[Installed]
    systemctl: tuple[str, ...]
    makers: Sequence[tuple[str, ...]]
    """What makes users and folders from what was written."""
    starts: bool
    is_live: bool
    """Whether there is a systemd to be told of changes."""
    at_end: Sequence[str]
    left: Sequence[str]

    def install(self, work: _Work) -> None:
        """Write what is missing or behind, then have systemd make users, read units, and start."""
        wanted = [file for file in self.files if file.asked or file.is_ours]
        if foreign := [str(file.path) for file in wanted if file.is_foreign]:
            raise CommandFailed(
                "what is there was not installed by rnd setup",
                problems=foreign,
                hint="Move it away. Changes to a unit belong into a drop-in: systemctl edit rnd.",
            )
        for file in wanted:
            work.write(file)
        for command in self.makers:
            work.run(*command)
        units = [name for name in ("rnd-exec.service", "rnd.service") if name in {file.path.name for file in wanted}]
        if self.is_live:
            work.run(*self.systemctl, "daemon-reload")
        if self.starts:
            if self.is_live or not self.is_a_persons:
                work.run(*self.systemctl, "enable", *units)
            if self.is_live:
                # One that runs goes on as it is, unless its unit has changed.
                work.run(*self.systemctl, "restart" if work.units_changed else "start", *units)
            else:
                work.note("not started: there is no systemd here to start it")
        for words in (*(file.without for file in self.files if file not in wanted), *self.at_end):
            work.note(words)

    def uninstall(self, work: _Work) -> None:
        """Stop it, and remove every file that was installed."""
        units = [
            file.path.name
            for file in self.files
            if file.is_ours and file.path.suffix in {".service", ".socket"} and "@" not in file.path.name
        ]
        if units and (self.is_live or not self.is_a_persons):
            work.run(*self.systemctl, "disable", *(("--now",) if self.is_live else ()), *units)
        if units and self.is_live:
            # Programs of jobs have outlived it, and nobody would see to them any more.
            work.end_all(*self.systemctl, "kill", "--kill-whom=all", "--signal=SIGKILL", "rnd.service")
            if not self.is_a_persons:
                work.run(*self.systemctl, "stop", "rnd@*.service")
        for file in self.files:
            work.remove(file)
        if self.is_live:
            work.run(*self.systemctl, "daemon-reload")
        for words in self.left:
            work.note(f"left: {words}")


def _of_the_machine(session: Session) -> _Place:
    arguments = session.arguments
    root = Path(arguments.root).absolute() if arguments.root else None
    if root is not None and not root.is_dir():
        raise usage(f"--root {arguments.root}: there is no such folder")
    if not arguments.uninstall and (packaged := (root or Path("/")) / PACKAGED).exists():
        raise CommandFailed(
            f"a package of the system has installed the service already: {packaged}",
            hint="It starts by systemctl enable --now rnd, containers by systemctl enable --now rnd-exec. Changes belong into drop-ins.",
        )
    if root is None and not arguments.uninstall:
        _require_visible_interpreter()
        if arguments.docker:
            _require_group("docker")
    at = (f"--root={root}",) if root else ()
    return _Place(
        is_a_persons=False,
        files=installation.of_the_machine(root or Path("/"), docker=arguments.docker, standalone=arguments.standalone),
        systemctl=("systemctl", *at),
        makers=(
            ("systemd-sysusers", *at, "rnd.conf"),
            ("systemd-tmpfiles", *at, "--create", "rnd.conf"),
        ),
        starts=not arguments.no_start,
        is_live=root is None and RUNS_HERE.is_dir(),
        at_end=("the configuration is /etc/rnd/rnd.toml; other peers reach this one when `peer` there says so",),
        left=(f"{DATA} and its owner, the user rnd; all of it goes with: rm -r {DATA} {DATA}-* /etc/rnd; userdel rnd",),
    )


def _of_a_person(session: Session) -> _Place:
    runtime = session.environment.get("XDG_RUNTIME_DIR", "")
    return _Place(
        is_a_persons=True,
        files=installation.of_a_person(session.environment),
        systemctl=("systemctl", "--user"),
        makers=(),
        starts=not session.arguments.no_start,
        is_live=bool(runtime) and Path(runtime, "systemd").is_dir(),
        at_end=(
            "loginctl enable-linger has it run while you are not logged in",
            "zsh finds the completion where $fpath has ~/.local/share/zsh/site-functions",
        ),
        left=("the data directory, $XDG_STATE_HOME/rnd or ~/.local/state/rnd; rm -r deletes it",),
    )


def _require_visible_interpreter() -> None:
    """Refuse an interpreter that the service, as its own user and shut in, could not start."""
    advice = (
        "Install rnd where everybody may read it: python3 -m venv /opt/rnd && /opt/rnd/bin/pip install rnd-daemon, "
        "then /opt/rnd/bin/rnd setup. Or rnd setup --user."
    )
    if hidden := installation.unreachable(installation.interpreter_places()):
        raise CommandFailed(f"the service would not see {hidden}, where this rnd is", hint=advice)
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import rnd"], cwd="/", env={}, capture_output=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise CommandFailed(f"{sys.executable} finds rnd only from this folder or with this environment", hint=advice)


def _require_group(name: str) -> None:
    import grp

    try:
        grp.getgrnam(name)
    except KeyError:
        raise CommandFailed(f"there is no group {name}", hint="Install the container engine first.") from None
