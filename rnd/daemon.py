"""The composition root: the one place that knows every room, and the only one that takes time and chance from the host.

Start: lock the data directory, open identity and database, build the line api -> WorkflowManager -> JobManager ->
DataWorker, listen, say that it is ready. Stop: listeners first, then the managers, then the database. Native jobs go on
without the daemon; the next one finds them.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import secrets
import signal
import sqlite3
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rnd import __version__, crash_points
from rnd.api.auth import TicketBook, TokenGate
from rnd.api.context import ApiContext, Endpoints
from rnd.api.events import EventHub
from rnd.api.handlers_node import capabilities_of
from rnd.api.server import ApiServer
from rnd.api.sockets import AddressInUse
from rnd.api.uploads import UploadStore
from rnd.core.container_sweep import ContainerSweep
from rnd.database import job_executions, transfers, workflow_executions
from rnd.database.connection import Database
from rnd.log import close_logging, configure_logging, get_logger
from rnd.own_side import OwnSide
from rnd.p2p.identity import Identity, load_identity
from rnd.peer_side import PeerSide
from rnd.services import linux, processes
from rnd.services.data_directory import prepare_data_directory
from rnd.services.docker_service import DockerExecutor
from rnd.services.image_pulls import ImagePulls
from rnd.services.standalone_service import StandaloneExecutor
from rnd.services.vault import Vault, load_vault
from rnd.types.config import Config
from rnd.types.enums import ServiceType
from rnd.types.errors import DatabaseCorrupt, DatabaseGone, DatabaseTooNew, RndError
from rnd.types.ids import ExecutionUid, TransferId
from rnd.types.log_events import LogEvent

DATABASE_FILE: Final = "rnd.db"
LOCK_FILE: Final = "daemon.lock"
LOG_FILE: Final = "logs/peer.log"

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_DATABASE: Final = 65
"""The database is damaged or too new. It is left as it is; a service manager must not try again."""
EXIT_IN_USE: Final = 69
"""The data directory or an address is in use by another process."""

SWITCH_INTERVAL_S: Final = 0.0005
"""How long one thread may keep the interpreter from another: event loop and database writer wait for each other often."""

log = get_logger()


class SystemClock:
    """The host's time."""

    def now(self) -> datetime:
        """Return the wall-clock time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()


class SystemEntropy:
    """The host's randomness."""

    def random_bytes(self, count: int) -> bytes:
        """Return `count` bytes fit for keys."""
        return secrets.token_bytes(count)

    def new_execution_uid(self) -> ExecutionUid:
        """Return 128 random bits as hexadecimal digits."""
        return ExecutionUid(secrets.token_hex(16))

    def new_transfer_id(self) -> TransferId:
        """Return a random UUID."""
        return TransferId(str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)))


class DataDirectoryInUse(RndError):
    """Another daemon serves this data directory."""


def run(config: Config) -> int:
    """Serve one peer until SIGTERM or SIGINT; return the exit code of the process."""
    linux.share_one_heap()
    try:
        prepare_data_directory(config.data_dir, group=config.api_group)
        lock = _lock(config.data_dir)
    except DataDirectoryInUse as error:
        print(f"rnd: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return EXIT_IN_USE
    except OSError as error:
        reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
        print(f"rnd: {config.data_dir} cannot hold a peer: {reason}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return EXIT_FAILED
    try:
        configure_logging(config.log_level, log_path=_log_path(config), stream=sys.stderr, for_good=True, gather=True)
        log.info(LogEvent.DAEMON_STARTING, version=__version__, data_dir=config.data_dir)
        return _serve(config)
    finally:
        close_logging()
        os.close(lock)


def _serve(config: Config) -> int:
    try:
        crash_points.arm(os.environ)
    except ValueError as error:
        log.critical(LogEvent.DAEMON_FAILED, reason=str(error))
        return EXIT_FAILED
    path = config.data_dir / DATABASE_FILE
    new = not path.exists()
    try:
        database = Database.open(path)
    except (DatabaseCorrupt, DatabaseTooNew) as error:
        log.critical(LogEvent.DATABASE_REFUSED, path=path, reason=str(error))
        return EXIT_DATABASE
    except RndError as error:
        log.critical(LogEvent.DAEMON_FAILED, reason=str(error))
        return EXIT_FAILED
    if new:
        log.info(LogEvent.DATABASE_CREATED, path=path)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        return asyncio.run(_Daemon(config, database).run())
    except AddressInUse as error:
        log.critical(LogEvent.DAEMON_FAILED, reason=str(error))
        return EXIT_IN_USE
    except DatabaseCorrupt as error:
        log.critical(LogEvent.DAEMON_FAILED, reason=str(error))
        return EXIT_DATABASE
    except (RndError, OSError, ValueError) as error:
        log.critical(LogEvent.DAEMON_FAILED, reason=str(error))
        return EXIT_FAILED


class _Daemon:
    """The parts of one running peer."""

    def __init__(self, config: Config, database: Database) -> None:
        self._config = config
        self._database = database
        self._clock = SystemClock()
        self._entropy = SystemEntropy()
        self._stop = asyncio.Event()
        self._reason = ""

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop, number)
        started_s = self._clock.monotonic()
        try:
            identity = load_identity(self._config.data_dir, self._entropy)
            await self._run_parts(identity, load_vault(self._config.data_dir, self._entropy))
        finally:
            await self._database.close()
        log.info(LogEvent.DAEMON_STOPPED, uptime_s=round(self._clock.monotonic() - started_s, 3))
        return EXIT_OK

    async def _run_parts(self, identity: Identity, vault: Vault) -> None:
        config, database, clock, entropy = self._config, self._database, self._clock, self._entropy
        peer_id = identity.peer_id
        standalone = StandaloneExecutor(config.data_dir)
        docker = DockerExecutor(config.data_dir)
        own = OwnSide(
            config=config,
            database=database,
            clock=clock,
            entropy=entropy,
            peer_id=peer_id,
            vault=vault,
            executors={ServiceType.STANDALONE: standalone, ServiceType.DOCKER: docker},
            pulls=ImagePulls(images=docker, database=database, clock=clock),
            boot_id=processes.boot_id(),
        )
        _, sandbox = await asyncio.gather(own.data_service.sweep(), standalone.sandbox())
        name = config.name or os.uname().nodename
        peer_side = PeerSide(
            config=config,
            database=database,
            clock=clock,
            entropy=entropy,
            identity=identity,
            folders=own.folders,
            disk=own.disk,
            board=own.board,
            desk=own.desk,
            name=name,
        )
        own.attach(peer_side, sandbox)
        peer_side.attach(own.job_manager, lambda: capabilities_of(context))
        endpoints = Endpoints()
        context = ApiContext(
            config=config,
            name=name,
            peer_id=peer_id,
            started_at=clock.now(),
            started_at_s=clock.monotonic(),
            database=database,
            clock=clock,
            entropy=entropy,
            workflow_manager=own.workflow_manager,
            job_manager=own.job_manager,
            peers=peer_side.peer_desk,
            data_service=own.data_service,
            vault=vault,
            pulls=own.pulls,
            secrets=own.secrets,
            executors={executor.name: executor for executor in own.executors.values()},
            hub=EventHub(database, clock),
            gate=TokenGate(database, clock),
            tickets=TicketBook(clock, entropy),
            uploads=UploadStore(config.data_dir / "uploads", database, clock, config.limits),
            endpoints=endpoints,
            peers_connected=lambda: len(peer_side.links.connected()),
        )
        server = ApiServer(context)
        await self._log_recovery()
        endpoints.peer_addresses = await peer_side.start()
        await server.start()
        sweep = ContainerSweep(database=database, clock=clock, store=docker, runner=own.runner)
        parts = [
            asyncio.create_task(part.run(), name=type(part).__name__)
            for part in (standalone, docker, sweep, *own.parts(), peer_side, server)
        ]
        log.info(
            LogEvent.DAEMON_READY,
            peer_id=peer_id,
            api=endpoints.url or "off",
            socket=endpoints.socket,
            peer=" ".join(endpoints.peer_addresses) or "off",
        )
        gc.collect()
        gc.freeze()  # what was built so far lives as long as the daemon; no collection need look at it again
        try:
            await self._until_stopped(parts)
        finally:
            await server.stop()
            for part in reversed(parts):
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _until_stopped(self, parts: list[asyncio.Task[None]]) -> None:
        """Wait for the signal to stop. A part that ends before has failed, and the daemon with it."""
        stop = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait({stop, *parts}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        log.info(LogEvent.DAEMON_STOPPING, reason=self._reason or "a part of it has failed")
        for part in done - {stop}:
            error = part.exception()
            if error is not None:
                raise root_cause(error)

    def _ask_to_stop(self, number: signal.Signals) -> None:
        self._reason = number.name
        self._stop.set()

    async def _log_recovery(self) -> None:
        def count(conn: sqlite3.Connection) -> tuple[int, int, int]:
            jobs = job_executions.count_by_status(conn)
            return (
                workflow_executions.count_open(conn),
                sum(jobs.get(status, 0) for status in ("IDLE", "READY", "RUNNING")),
                transfers.count_open(conn),
            )

        executions, jobs, moving = await self._database.read(count)
        if executions or jobs or moving:
            log.info(LogEvent.RECOVERY_STARTED, executions=executions, jobs=jobs, transfers=moving)


def root_cause(error: BaseException) -> BaseException:
    """Return the one error that a part of the daemon has failed with: of a group, what its database said goes first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [root_cause(each) for each in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, DatabaseGone)), causes[0])


def _lock(data_dir: Path) -> int:
    """Hold the data directory for this process alone. Raises `DataDirectoryInUse`."""
    fd = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise DataDirectoryInUse(f"another daemon serves {data_dir}; stop it, or choose another --data-dir") from None
    return fd


def _log_path(config: Config) -> Path | None:
    """Return the log file: on by default, but not under the journal, which keeps the lines itself."""
    wanted = config.log_file if config.log_file is not None else "JOURNAL_STREAM" not in os.environ
    return config.data_dir / LOG_FILE if wanted else None
