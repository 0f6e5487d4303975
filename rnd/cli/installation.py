"""What `rnd setup` installs, and where: files with their contents, for a service of the machine or of one person.

The units come from the package (`rnd/systemd`), with the interpreter that runs this in place of theirs; completions and the manual
page are made from the parser. Every file says in a comment that it was installed, and by that is known again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rnd.cli.completion import bash_script, fish_script, walk, zsh_script
from rnd.cli.manual import manual_page
from rnd.cli.parser import build_parser

UNITS: Final = Path(__file__).resolve().parent.parent / "systemd"
MARK: Final = "Installed by `rnd setup`, which overwrites and removes it."
PLACEHOLDER: Final = "/usr/bin/python3 "
"""The interpreter in the units of the package, and what ends it."""
HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - what the unit does not see
"""Folders that the hardened units see nothing of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A file that belongs on the machine. `make` returns its content; `asked` says whether it is put there if it is missing.

    `without` is what a person is told where it is not.
    """

    path: Path
    make: Callable[[], str]
    asked: bool = True
    without: str = ""

    @property
    def is_of_a_unit(self) -> bool:
        """Whether a service that runs has to be started anew when this changes."""
        return "systemd" in self.path.parts

    @property
    def is_ours(self) -> bool:
        """Whether what is there now was installed by this command."""
        try:
            return MARK in self.path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError):
            return False

    @property
    def is_foreign(self) -> bool:
        """Whether something is there that was not."""
        return os.path.lexists(self.path) and not self.is_ours


def of_the_machine(root: Path, *, docker: bool, standalone: bool) -> list[Installed]:
    """Return the files of a service of the machine, below `root`."""
    units = root / "etc/systemd/system"
    shared = root / "usr/local/share"
    return [
        Installed(path=root / "etc/sysusers.d/rnd.conf", make=_unit("rnd.sysusers.conf")),
        Installed(path=root / "etc/tmpfiles.d/rnd.conf", make=_unit("rnd.tmpfiles.conf")),
        *(Installed(path=units / name, make=_unit(name)) for name in ("rnd.service", "rnd@.service", "rnd.socket")),
        Installed(
            path=units / "rnd-exec.service",
            make=_unit("rnd-exec.service"),
            asked=docker,
            without="jobs in containers: off (rnd setup --docker)",
        ),
        Installed(
            path=units / "rnd.service.d/standalone.conf",
            make=_unit("rnd.service.d/standalone.conf"),
            asked=standalone,
            without="programs confined for other peers: off (rnd setup --standalone)",
        ),
        *_for_the_shell(shared, shared / "fish/vendor_completions.d"),
    ]


def of_a_person(environment: Mapping[str, str]) -> list[Installed]:
    """Return the files of a service of one person."""
    home = Path(environment.get("HOME") or Path.home())
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    shared = Path(environment.get("XDG_DATA_HOME") or home / ".local/share")
    return [
        Installed(path=config / "systemd/user/rnd.service", make=_unit("user/rnd.service")),
        *_for_the_shell(shared, config / "fish/completions"),
    ]


def unreachable(paths: Iterable[str]) -> str | None:
    """Return the first of these paths, or a folder on the way there, that a service of another user does not see."""
    for path in (Path(os.path.abspath(each)) for each in paths):
        outward = (path, *path.parents)
        closed = (each for each in outward if each.is_dir() and not each.stat().st_mode & 0o001)
        hidden = next((each for each in outward if str(each) in HIDDEN), None) or next(closed, None)
        if hidden is not None:
            return str(hidden)
    return None


def interpreter_places() -> list[str]:
    """Return what of this interpreter the service has to see."""
    return [sys.executable, os.path.realpath(sys.executable), sys.base_prefix, str(UNITS.parent)]


def _for_the_shell(shared: Path, fish: Path) -> list[Installed]:
    def completion(write: Callable[..., str]) -> Callable[[], str]:
        return lambda: f"{write(list(walk(build_parser(), '', '')))}# {MARK}\n"

    return [
        Installed(path=shared / "bash-completion/completions/rnd", make=completion(bash_script)),
        Installed(path=shared / "zsh/site-functions/_rnd", make=completion(zsh_script)),
        Installed(path=fish / "rnd.fish", make=completion(fish_script)),
        Installed(path=shared / "man/man1/rnd.1", make=lambda: f'{manual_page()}.\\" {MARK}\n'),
    ]


def _unit(name: str) -> Callable[[], str]:
    def make() -> str:
        text = (UNITS / name).read_text(encoding="utf-8")
        return f"{text.replace(f'={PLACEHOLDER}', f'={_word(sys.executable)} ')}\n# {MARK}\n"

    return make


def _word(path: str) -> str:
    """Return the path of an executable as a unit takes it (systemd.service(5)); of variables it knows nothing there."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(each in escaped for each in ' \t"\\;') else escaped
