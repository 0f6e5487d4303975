"""The command `rnd demo`: two peers on this machine run one workflow together, with the commands shown."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from rnd.cli.failures import OK, CommandFailed, usage
from rnd.cli.local_peers import LocalPeers
from rnd.cli.session import Session
from rnd.cli.terminal import Terminal

HOME: Final = "home"
WORKER: Final = "worker"
PROGRAM: Final = r"""#!/bin/sh
LC_ALL=C tr -cs A-Za-z '\n' | tr A-Z a-z | sed '/^$/d' | LC_ALL=C sort | uniq -c | sort -k1,1nr -k2
"""
TEXT: Final = """\
A peer offers what its owner wants to offer, and keeps what its owner wants to keep.
What leaves a peer leaves it for a job that was allowed, and a job runs where its program is offered.
"""
WORKFLOW: Final = """\
format = "rnd.workflow/1"
name = "demo"
description = "The words of a text at home, counted by a program that another peer offers."

[[nodes]]
name = "text"
service_name = "text"

[[nodes]]
name = "count"
service_name = "worker/count"

[[connections]]
from = "text"
from_interface_type = "STDOUT"
to = "count"
to_interface_type = "STDIN"

[[connections]]
from = "count"
from_interface_type = "STDOUT"
destination_file_name = "counts.txt"
"""


def demo(session: Session) -> int:
    """Start two peers, pair them, run a workflow across them, show its result, and stop them."""
    arguments, terminal = session.arguments, session.terminal
    if terminal.as_json or terminal.quiet:
        raise usage("the demo is for people and has no --json and no -q")
    text = _text_file(arguments.file)
    place = _place(arguments.directory)
    with LocalPeers(place, (HOME, WORKER)) as peers:
        try:
            _show(terminal, peers, text)
            if arguments.keep:
                terminal.note(f"the same in a browser: rnd --data-dir {shlex.quote(str(place / HOME))} open")
                terminal.note(f"both peers go on until Ctrl-C; their process ids: {peers.pids()}")
                peers.await_end()
        except KeyboardInterrupt:
            if not arguments.keep:
                raise
    terminal.note("both peers have stopped")
    return OK


def _text_file(given: str | None) -> Path | None:
    if given is None:
        return None
    path = Path(os.path.expanduser(given)).absolute()
    if not path.is_file():
        raise usage(f"{given} is no file", hint="Name a text file, or none to take a text of the demo's own.")
    return path


def _place(given: str | None) -> Path:
    """Return a new directory for the demo. Raises `CommandFailed` for one that holds something."""
    if given is None:
        return Path(tempfile.mkdtemp(prefix="rnd-demo-"))
    place = Path(os.path.expanduser(given)).absolute()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        empty = not any(place.iterdir())
    except OSError as error:
        raise usage(f"{given} cannot be used: {error.strerror}") from None
    if not empty:
        raise usage(f"{given} is not empty", hint="The demo begins in an empty directory; it deletes nothing.")
    return place


def _show(terminal: Terminal, peers: LocalPeers, text: Path | None) -> None:
    place = peers.folder
    if text is None:
        (place / "text.txt").write_text(TEXT, encoding="utf-8")
    program = place / "count.sh"
    program.write_text(PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    (place / "demo.toml").write_text(WORKFLOW, encoding="utf-8")
    terminal.line(f"== Two peers of different owners, here side by side in {place}")
    peers.start()
    for name in peers.names:
        status = peers.call(name, "node.status")
        terminal.line(f"   {name:<7}{status['peer_id']} on {' '.join(status['peer_addresses'])}")

    terminal.line("\n== They are paired by a one-time line that one owner sends to the other")
    terminal.line("   $ rnd --data-dir worker peer invite | rnd --data-dir home peer join")
    peers.pair(WORKER, HOME)

    terminal.line("\n== The worker's owner offers a program, the one at home a text")
    unconfined = peers.call(WORKER, "node.status")["executors"]["standalone"].get("sandbox", "none") == "none"
    if unconfined:
        terminal.note(
            "note: this machine cannot confine other peers' programs (rnd doctor says why); "
            "the demo's own program runs unconfined"
        )
    confine = ("--confine", "never") if unconfined else ()
    _run(terminal, place, WORKER, "service", "add", "standalone", "count", "./count.sh", *confine)
    _run(terminal, place, HOME, "service", "add", "data", "text", "text.txt" if text is None else str(text))
    _run(terminal, place, HOME, "service", "search", "count", "--peer", WORKER)

    terminal.line("\n== One workflow: the text at home -> the worker's program -> home")
    _run(terminal, place, HOME, "workflow", "plan", "demo.toml")
    _run(terminal, place, HOME, "run", "demo.toml", "-o", "results")
    counts = place / "results" / "counts.txt"
    terminal.line("\n== The most frequent words")
    for line in counts.read_text(errors="replace").splitlines()[:5]:
        terminal.line(line)
    terminal.line(f"\n== Look further\n   cd {shlex.quote(str(place))}")
    for name, query in (
        (HOME, "SELECT node, executor, status, took_s FROM v_job_story"),
        (WORKER, "SELECT id, ordering_peer_id, status FROM job_executions"),
    ):
        terminal.line(f'   sqlite3 -readonly {name}/rnd.db "{query}"')
    terminal.line('   grep -h "job_id=" home/logs/peer.log worker/logs/peer.log')


def _run(terminal: Terminal, place: Path, peer: str, *words: str) -> None:
    """Show a command as a person would type it, and run it. Raises `CommandFailed`."""
    terminal.line(f"   $ rnd --data-dir {peer} {shlex.join(words)}")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RND_")}
    ended = subprocess.run(
        [sys.executable, "-m", "rnd", "--data-dir", str(place / peer), *words], cwd=place, env=clean, check=False
    )
    if ended.returncode:
        raise CommandFailed(f"rnd {words[0]} ended with exit code {ended.returncode}", exit_code=ended.returncode)
