"""The command doctor: looks at everything that could be wrong with a peer, whether it runs or not."""

from __future__ import annotations

import os
import platform
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rnd import __version__
from rnd.cli import lookup, words
from rnd.cli.connection import SOCKET_NAME
from rnd.cli.failures import OK, REFUSED, CommandFailed
from rnd.cli.session import Session
from rnd.cli.terminal import now
from rnd.types.config import Config, Limits

DATABASE_FILE: Final = "rnd.db"
PRIVATE_FILES: Final = ("identity.key", "vault.key", "api_token")
# STRICT tables and RETURNING
SQLITE_MINIMUM: Final = (3, 37, 0)
DATABASE_BUSY_S: Final = 5.0
CLOCK_SLACK_S: Final = 60.0
AWAY_AT_MOST: Final = 5
"""How many peers that are away are told of one by one."""
COUNTING_S: Final = 5.0
"""How long the data directory is looked through for what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: `ok`, `warn` or `wrong`, what was seen, and what to do about it."""

    check: str
    verdict: str
    evidence: str
    do: str = ""


def doctor(session: Session) -> int:
    """Look at everything and say what is wrong."""
    terminal = session.terminal
    findings = []
    for finding in _examine(session):
        findings.append(finding)
        if not terminal.as_json and not (terminal.quiet and finding.verdict == "ok"):
            _print(session, finding)
    wrong = sum(finding.verdict == "wrong" for finding in findings)
    if terminal.as_json:
        shown = [{"check": f.check, "verdict": f.verdict, "evidence": f.evidence, "do": f.do} for f in findings]
        terminal.data({"ok": not wrong, "checks": shown})
    elif not terminal.quiet:
        warnings = sum(finding.verdict == "warn" for finding in findings)
        well = f"nothing is wrong; {words.count(warnings, 'warning')}" if warnings else "all is well"
        terminal.line(f"{words.count(wrong, 'thing')} to mend" if wrong else well)
    return REFUSED if wrong else OK


def _print(session: Session, finding: Finding) -> None:
    verdict = session.terminal.paint(f"{finding.verdict:5}")
    session.terminal.line(f"{verdict}  {finding.check:10}  {words.safe(finding.evidence)}")
    if finding.do:
        session.terminal.line(f"{'':5}  {'':10}  -> {words.safe(finding.do)}")


def _examine(session: Session) -> Iterator[Finding]:
    status, failed = _ask(session)
    yield _versions()
    if session.is_remote:
        yield _daemon(status, failed, None)
        yield from _from_status(status)
        yield from _peers(session, status)
        return
    data_dir = session.data_dir()
    config, finding = _config(session, data_dir)
    yield finding
    yield _directory(data_dir)
    yield _daemon(status, failed, data_dir)
    if data_dir.is_dir():
        yield from _private_files(data_dir)
        yield from _database(data_dir / DATABASE_FILE)
    yield _disk(data_dir, config.limits if config is not None else Limits())
    if status is None:
        yield _spawner(data_dir)
        if config is not None:
            yield from _ports(config)
    yield from _from_status(status)
    yield from _peers(session, status)


def _ask(session: Session) -> tuple[dict[str, Any] | None, CommandFailed | None]:
    try:
        return session.call("node.status"), None
    except CommandFailed as failed:
        return None, failed


def _peers(session: Session, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Say which allowed peers there is no link to, and why: each may merely be away."""
    if status is None:
        return
    try:
        allowed = list(lookup.list_all(session, "peer.list", state="allowed"))
    except CommandFailed as failed:
        yield Finding(check="peers", verdict="warn", evidence=failed.message, do=failed.hint)
        return
    away = [peer for peer in allowed if not peer["connected"]]
    for peer in away[:AWAY_AT_MOST]:
        called = peer["name"] or lookup.short_peer_id(peer["peer_id"])
        why = words.brief(peer.get("last_failure") or "it has not been reached yet")
        do = f"It may be away; if it has moved: rnd peer address {lookup.short_peer_id(peer['peer_id'])} HOST:PORT"
        yield Finding(check="peers", verdict="warn", evidence=f"no link to {called}: {why}", do=do)
    if len(away) > AWAY_AT_MOST:
        yield Finding(check="peers", verdict="warn", evidence=f"and to {len(away) - AWAY_AT_MOST} more")
    if allowed and not away:
        yield Finding(check="peers", verdict="ok", evidence=f"{words.count(len(allowed), 'allowed peer')}, all linked")


# ---------------------------------------------------------------- this machine


def _versions() -> Finding:
    import sqlite3

    evidence = f"rnd {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < SQLITE_MINIMUM:
        return Finding(
            check="versions", verdict="wrong", evidence=evidence, do="Use a Python with SQLite 3.37 or later."
        )
    return Finding(check="versions", verdict="ok", evidence=evidence)


def _config(session: Session, data_dir: Path) -> tuple[Config | None, Finding]:
    from rnd.config import DEFAULT_ORIGIN, ConfigInvalid, load_config

    try:
        loaded = load_config(flags={"data_dir": str(data_dir)}, environment=session.environment)
    except ConfigInvalid as error:
        do = "Mend it; rnd config show --origin lists every key."
        return None, Finding(check="config", verdict="wrong", evidence="; ".join(error.problems), do=do)
    chosen = sorted(
        {origin for key, origin in loaded.origins.items() if origin != DEFAULT_ORIGIN and key != "data_dir"}
    )
    return loaded.config, Finding(check="config", verdict="ok", evidence=", ".join(chosen) or "the defaults")


def _directory(data_dir: Path) -> Finding:
    name = "directory"
    try:
        found = data_dir.stat()
    except FileNotFoundError:
        do = f"rnd serve --data-dir {data_dir} makes it."
        return Finding(check=name, verdict="wrong", evidence=f"{data_dir} does not exist", do=do)
    except OSError as error:
        return Finding(
            check=name, verdict="wrong", evidence=f"{data_dir}: {error.strerror}", do="Run this as its owner."
        )
    if not stat.S_ISDIR(found.st_mode):
        return Finding(
            check=name, verdict="wrong", evidence=f"{data_dir} is not a folder", do="Choose another --data-dir."
        )
    if not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
        evidence = f"{data_dir} cannot be written by this user"
        return Finding(check=name, verdict="wrong", evidence=evidence, do="Run this as the daemon's user.")
    if found.st_mode & 0o027:
        evidence = f"{data_dir} is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
        return Finding(check=name, verdict="warn", evidence=evidence, do=f"chmod 700 {data_dir}")
    return Finding(check=name, verdict="ok", evidence=str(data_dir))


def _private_files(data_dir: Path) -> Iterator[Finding]:
    for name in PRIVATE_FILES:
        path = data_dir / name
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if mode & 0o077:
            evidence = f"{path} can be read by others (mode {mode:04o})"
            yield Finding(check="secrets", verdict="wrong", evidence=evidence, do=f"chmod 600 {path}")


def _disk(data_dir: Path, limits: Limits) -> Finding:
    place = next((folder for folder in (data_dir, *data_dir.parents) if folder.is_dir()), Path("/"))
    found = os.statvfs(place)
    free_bytes = found.f_bavail * found.f_frsize
    held_bytes, is_all = _held(data_dir)
    held = f"{'' if is_all else 'more than '}{words.size(held_bytes)} held here"
    evidence = f"{held}, {words.size(free_bytes)} free, the floor is {words.size(limits.disk_floor_bytes)}"
    if free_bytes < limits.disk_floor_bytes:
        do = "Free some space: below the floor no new work is accepted (limits.disk_floor_bytes)."
        return Finding(check="disk", verdict="wrong", evidence=evidence, do=do)
    near = free_bytes < 2 * limits.disk_floor_bytes
    return Finding(
        check="disk", verdict="warn" if near else "ok", evidence=evidence, do="Free some space." if near else ""
    )


def _held(data_dir: Path) -> tuple[int, bool]:
    """Return how much disk everything below the data directory takes, and whether there was time to look at all of it."""
    held_bytes, unseen, until = 0, [data_dir], time.monotonic() + COUNTING_S
    while unseen and time.monotonic() < until:
        try:
            with os.scandir(unseen.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        unseen.append(Path(entry.path))
                    else:
                        held_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue  # deleted meanwhile, or a job's doing
    return held_bytes, not unseen


def _spawner(data_dir: Path) -> Finding:
    """Look at what native jobs need, where no daemon can be asked."""
    name = "programs"
    if not Path("/proc/self/fd").is_dir():
        return Finding(check=name, verdict="wrong", evidence="/proc is not mounted", do="mount -t proc proc /proc")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        evidence = f"the kernel gives no process descriptors ({error.strerror})"
        return Finding(check=name, verdict="wrong", evidence=evidence, do="STANDALONE jobs need Linux 5.3 or later.")
    if data_dir.is_dir() and os.statvfs(data_dir).f_flag & os.ST_NOEXEC:
        evidence = f"{data_dir} is on a disk that is mounted noexec"
        do = "Programs that a job brings cannot run there; use another disk if that matters."
        return Finding(check=name, verdict="warn", evidence=evidence, do=do)
    return Finding(check=name, verdict="ok", evidence="can be started")


def _ports(config: Config) -> Iterator[Finding]:
    for key, address in (("api", config.api), ("peer", config.peer)):
        if not address:
            continue
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, int(port)))
        except OSError as error:
            do = f"Stop what listens there, or choose another address with --{key}."
            evidence = f"{address} for {key}: {(error.strerror or str(error)).lower()}"
            yield Finding(check="ports", verdict="wrong", evidence=evidence, do=do)
        else:
            yield Finding(check="ports", verdict="ok", evidence=f"{address} is free for {key}")


# ---------------------------------------------------------------- the database


def _database(path: Path) -> Iterator[Finding]:
    import sqlite3

    if not path.exists():
        yield Finding(check="database", verdict="ok", evidence="there is none yet")
        return
    restore = "Stop the daemon, keep the file, and put a backup back."
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=DATABASE_BUSY_S)
        try:
            problems = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            newest = connection.execute("SELECT MAX(time) FROM events").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        yield Finding(check="database", verdict="wrong", evidence=f"{path}: {error}", do=restore)
        return
    size_bytes = path.stat().st_size
    if problems != ["ok"]:
        yield Finding(check="database", verdict="wrong", evidence="; ".join(problems), do=restore)
    else:
        evidence = f"whole, {words.size(size_bytes)}, version {version}"
        yield Finding(check="database", verdict="ok", evidence=evidence)
    yield _clock(words.moment(newest) if newest else None)


def _clock(newest: datetime | None) -> Finding:
    time = now()
    if newest is not None and (newest - time).total_seconds() > CLOCK_SLACK_S:
        evidence = f"it is {time:%Y-%m-%d %H:%M} here, but the newest event is of {newest:%Y-%m-%d %H:%M} (UTC)"
        return Finding(
            check="clock", verdict="wrong", evidence=evidence, do="Set the clock; timedatectl shows how it is."
        )
    built = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    if (built - time).total_seconds() > 86400:
        evidence = f"it is {time:%Y-%m-%d %H:%M} UTC here, before this program was installed"
        return Finding(
            check="clock", verdict="wrong", evidence=evidence, do="Set the clock; timedatectl shows how it is."
        )
    return Finding(check="clock", verdict="ok", evidence=f"{time:%Y-%m-%d %H:%M:%S} UTC")


# ---------------------------------------------------------------- the daemon


def _daemon(status: dict[str, Any] | None, failed: CommandFailed | None, data_dir: Path | None) -> Finding:
    if status is None:
        assert failed is not None
        left_over = data_dir is not None and (data_dir / SOCKET_NAME).exists()
        evidence = failed.message + ("; its socket was left behind" if left_over else "")
        return Finding(check="daemon", verdict="wrong", evidence=evidence, do=failed.hint)
    evidence = f"answers, version {status['version']}, up {words.duration(status['uptime_s'])}"
    if status["version"] != __version__:
        do = f"This command is of version {__version__}; restart the daemon to have both alike."
        return Finding(check="daemon", verdict="warn", evidence=evidence, do=do)
    return Finding(check="daemon", verdict="ok", evidence=evidence)


def _confinement(standalone: dict[str, Any]) -> Finding:
    tier = standalone.get("sandbox") or "none"
    if tier != "none":
        evidence = f"{tier}, tried when the daemon started"
        return Finding(check="confinement", verdict="ok", evidence=evidence)
    reason = standalone.get("sandbox_reason") or "the daemon does not say why"
    do = "Other peers' orders for programs are refused; fix this, or set confine to never for a service and take the risk."
    return Finding(check="confinement", verdict="warn", evidence=f"none: {reason}", do=do)


def _from_status(status: dict[str, Any] | None) -> Iterator[Finding]:
    if status is None:
        return
    standalone = status["executors"].get("standalone") or {}
    available = bool(standalone.get("available"))
    reason = standalone.get("reason") or ("can be started" if available else "cannot be started")
    yield Finding(check="programs", verdict="ok" if available else "wrong", evidence=str(reason))
    if available:
        yield _confinement(standalone)
    docker = status["executors"].get("docker") or {}
    # A peer without containers is a healthy peer.
    evidence = str(docker.get("version") or "available") if docker.get("available") else f"off: {docker.get('reason')}"
    yield Finding(check="containers", verdict="ok", evidence=evidence)
    addresses = [address for address in [(status.get("api") or {}).get("url"), *status["peer_addresses"]] if address]
    yield Finding(check="ports", verdict="ok", evidence=", ".join(addresses) or "the socket only")
