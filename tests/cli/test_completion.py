"""Completion scripts: made from the parser, and tried in the shell itself where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rnd.cli.completion import bash_script, fish_script, walk, zsh_script
from rnd.cli.parser import build_parser
from tests.cli.command import Rnd
from tests.cli.scripted_daemon import ScriptedDaemon

NODES = list(walk(build_parser(), "", ""))


def complete(rnd: Rnd, *words: str) -> list[str]:
    """Return what bash offers for the last of these words."""
    program = rnd.home / "bin" / "rnd"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rnd "$@"\n')
    program.chmod(0o755)
    script = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rnd; printf "%s\\n" "${COMPREPLY[@]}"'
    source = rnd.home / "completion.bash"
    source.write_text(bash_script(NODES))
    done = subprocess.run(
        ["bash", "--norc", "-c", script, str(source), str(program), *words],
        cwd=rnd.home,
        env=rnd.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["s"], ["serve", "status", "setup", "service", "show"]),
        (["service", ""], ["add", "list", "search", "suggest", "show", "rm", "set-status", "unlock"]),
        (["service", "add", "d"], ["data", "docker"]),
        (["ps", "--st"], ["--status"]),
        (["ps", "--status", "C"], ["COMPLETED", "CANCELLED"]),
        (["--data-dir", "status", "comp"], ["completion"]),
        (["--json", "completion", "b"], ["bash"]),
        (["service", "add", "data", "--egress", "h"], ["here_only"]),
        (["nonsense", "sta"], ["status"]),
    ],
)
def test_bash_offers_commands_options_and_choices(rnd: Rnd, words: list[str], offered: list[str]) -> None:
    assert complete(rnd, *words) == offered


def test_bash_offers_files_where_files_go(rnd: Rnd) -> None:
    (rnd.home / "a workflow.json").touch()
    (rnd.home / "a folder").mkdir()
    assert complete(rnd, "workflow", "import", "a w") == ["a workflow.json"]
    assert complete(rnd, "results", "-o", "a") == ["a folder"]
    assert complete(rnd, "run", "a w") == ["a workflow.json"]


def test_bash_asks_the_daemon_for_names(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    names = ["text", "test me", "other", "$(touch hacked)", "ev\x1bil"]
    items = [{"id": index, "name": name} for index, name in enumerate(names)]
    daemon.methods["service.list"] = {"items": items, "total": len(items), "next_after_id": None}
    assert complete(rnd, "service", "show", "te") == ["text", "test\\ me"]
    assert complete(rnd, "service", "show", "$") == ["\\$\\(touch\\ hacked\\)"]
    assert not (rnd.home / "hacked").exists()
    daemon.methods["execution.list"] = {"items": [{"id": 7}], "total": 1, "next_after_id": None}
    assert complete(rnd, "show", "") == ["last", "7"]


def test_without_a_daemon_completion_is_silent(rnd: Rnd) -> None:
    assert complete(rnd, "service", "show", "te") == []


def test_every_command_and_option_is_in_every_script() -> None:
    scripts = [bash_script(NODES), zsh_script(NODES), fish_script(NODES)]
    for node in NODES:
        for option in node.options:
            long = [flag for flag in option.flags if flag.startswith("--")]
            assert all(flag[2:] in script for flag in long for script in scripts)
        for name, _ in node.commands:
            assert all(name in script for script in scripts)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_command_prints_the_script_and_the_shell_can_read_it(rnd: Rnd, tmp_path: Path, shell: str) -> None:
    done = rnd("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "rnd" in done.out
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(done.out)
        subprocess.run([shell, "-n", str(script)], check=True, timeout=60)


def test_a_shell_has_to_be_named(rnd: Rnd) -> None:
    assert rnd("completion").code == 2
    assert rnd("completion", "csh").code == 2
