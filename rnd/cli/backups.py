"""Commands that put a peer into a file and make a peer of one again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rnd.cli import words
from rnd.cli.failures import OK, CommandFailed, usage
from rnd.cli.session import Session
from rnd.cli.terminal import now
from rnd.types.errors import RndError

if TYPE_CHECKING:
    from rnd.backup import Restored


def backup(session: Session) -> int:
    """Put the peer into a file, whether its daemon runs or not."""
    from rnd.backup import write_backup
    from rnd.daemon import SystemEntropy

    arguments, terminal = session.arguments, session.terminal
    _needs_folder(session)
    target = Path(arguments.file).absolute()
    try:
        made = write_backup(
            session.data_dir(), target, entropy=SystemEntropy(), now=now(), with_data=arguments.with_data
        )
    except RndError as error:
        raise CommandFailed(str(error)) from None
    if terminal.as_json:
        terminal.data(
            {"file": str(target), "peer_id": made.peer_id, "size_bytes": made.size_bytes, "has_data": made.has_data}
        )
        return OK
    if not terminal.quiet:
        terminal.line(f"{words.safe(str(target))}: peer {made.peer_id}, {words.size(made.size_bytes)}")
    terminal.note(
        "note: whoever can read this file can be this peer; it holds its keys, and only you can read it (0600)"
    )
    if not made.has_data:
        terminal.note("note: without the files of DATA services; --with-data takes them along")
    return OK


def restore(session: Session) -> int:
    """Make a peer of a backup, in an empty folder."""
    from rnd.backup import restore_backup
    from rnd.daemon import SystemEntropy

    arguments, terminal = session.arguments, session.terminal
    _needs_folder(session)
    data_dir = session.data_dir()
    try:
        restored = restore_backup(Path(arguments.file), data_dir, entropy=SystemEntropy(), now=now())
    except RndError as error:
        raise CommandFailed(str(error)) from None
    if terminal.as_json:
        terminal.data(
            {
                "data_dir": str(data_dir),
                "peer_id": restored.peer_id,
                "executions_ended": restored.executions_ended,
                "jobs_ended": restored.jobs_ended,
                "without_data": list(restored.without_data),
            }
        )
    elif terminal.quiet:
        terminal.line(restored.peer_id)
    else:
        terminal.line(f"restored: peer {restored.peer_id} in {words.safe(str(data_dir))}")
        _tell_what_is_different(session, restored)
    return OK


def _tell_what_is_different(session: Session, restored: Restored) -> None:
    terminal = session.terminal
    if restored.executions_ended or restored.jobs_ended:
        terminal.note(
            f"note: {restored.executions_ended} executions and {restored.jobs_ended} jobs were open in the backup and end as "
            "failed: nobody can say how they went on, so nothing of them runs again by itself (rnd retry)"
        )
    if restored.without_data:
        names = ", ".join(words.safe(name) for name in restored.without_data)
        terminal.note(f"note: these services are INACTIVE until their files are back below services/: {names}")
    terminal.note(
        "note: what was denied, revoked or granted after the backup is as before: rnd peer list, rnd grant list, rnd token list"
    )
    terminal.note("note: before rnd serve, be sure that the peer this one takes the place of does not run any more")


def _needs_folder(session: Session) -> None:
    if session.arguments.url:
        raise usage("a backup is of a folder on this machine; --url is for the other commands")
