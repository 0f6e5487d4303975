"""The composition root: the one place that knows every room, and the only one that takes time and chance from the host.

Start: lock the data directory, open identity and database, build the line api -> WorkflowManager -> JobManager ->
DataWorker, listen, say that it is ready. SIGTERM: listeners first, then what is under way may end, then the managers, then
the database. SIGINT does not wait. SIGHUP reads the configuration anew. Native jobs go on without the daemon; the next one finds them.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import resource
import secrets
import signal
import socket
import sqlite3
import sys
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

from rnd import __version__, crash_points
from rnd.api.auth import TicketBook, TokenGate
from rnd.api.context import ApiContext, Endpoints
from rnd.api.events import EventHub
from rnd.api.handlers_node import capabilities_of
from rnd.api.server import ApiServer
from rnd.api.uploads import UploadStore
from rnd.config import ConfigInvalid, LoadedConfig
from rnd.core.container_sweep import ContainerSweep
from rnd.core.worker_slots import WorkerSlots
from rnd.database import job_executions, offered_services, transfers, workflow_executions
from rnd.database.connection import Database
from rnd.log import close_logging, configure_logging, get_logger, reopen
from rnd.log_sink import is_journal
from rnd.own_side import OwnSide
from rnd.p2p.identity import Identity, load_identity
from rnd.peer_side import PeerSide
from rnd.reloading import changed_keys, reloaded
from rnd.services import linux, processes
from rnd.services.data_directory import prepare_data_directory
from rnd.services.docker_service import DockerExecutor
from rnd.services.image_pulls import ImagePulls
from rnd.services.service_manager import Handover, PassedSocket, take_handover
from rnd.services.standalone_service import StandaloneExecutor
from rnd.services.vault import Vault, load_vault
from rnd.supervision import Drain, Supervision
from rnd.system_clock import SystemClock
from rnd.types.config import Config
from rnd.types.enums import LogFormat, ServiceStatus, ServiceType
from rnd.types.errors import AddressInUse, DatabaseCorrupt, DatabaseGone, DatabaseTooNew, RndError
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
GARBAGE_AFTER: Final = 10_000
"""So many objects more than before, and those that only hold each other are looked for; a few jobs make Python's own 700."""

log = get_logger()


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


def run(config: Config, *, reread: Callable[[], LoadedConfig]) -> int:
    """Serve one peer until SIGTERM or SIGINT; return the exit code of the process. `reread` is what SIGHUP reads."""
    linux.share_one_heap()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a picture of its memory would hold its keys
    try:
        handover = take_handover(os.environ)
    except (OSError, ValueError) as error:
        _say(f"what the service manager has handed over cannot be used: {error}")
        return EXIT_FAILED
    try:
        prepare_data_directory(config.data_dir, group=config.api_group)
        lock = _lock(config.data_dir)
    except DataDirectoryInUse as error:
        _say(str(error))
        return EXIT_IN_USE
    except OSError as error:
        reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
        _say(f"{config.data_dir} cannot hold a peer: {reason}")
        return EXIT_FAILED
    try:
        try:
            _open_log(config)
        except OSError as error:
            _say(f"{error.filename} cannot be written: {error.strerror}")
            return EXIT_FAILED
        log.info(LogEvent.DAEMON_STARTING, version=__version__, data_dir=config.data_dir)
        return _serve(config, handover, reread)
    finally:
        close_logging()
        os.close(lock)


def _serve(config: Config, handover: Handover, reread: Callable[[], LoadedConfig]) -> int:
    clock = SystemClock()
    supervision = Supervision(handover.manager, clock)
    try:
        crash_points.arm(os.environ)
    except ValueError as error:
        log.critical(LogEvent.DAEMON_FAILED, reason=str(error))
        return EXIT_FAILED
    path = config.data_dir / DATABASE_FILE
    new = not path.exists()
    supervision.starting()
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
        return asyncio.run(_Daemon(config, database, clock, handover, supervision, reread).run())
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

    def __init__(
        self,
        config: Config,
        database: Database,
        clock: SystemClock,
        handover: Handover,
        supervision: Supervision,
        reread: Callable[[], LoadedConfig],
    ) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._handover = handover
        self._supervision = supervision
        self._reread = reread
        self._entropy = SystemEntropy()
        # With nohup it outlives its terminal.
        self._ends_with_terminal = has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reload = asyncio.Event()
        self._reason = ""

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._hear_hangup)
        started_s = self._clock.monotonic()
        try:
            data_dir, credentials = self._config.data_dir, self._handover.credentials
            identity = load_identity(data_dir, self._entropy, credentials=credentials)
            await self._run_parts(identity, load_vault(data_dir, self._entropy, credentials=credentials))
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
        server = ApiServer(context, [_of_api(passed) for passed in self._handover.sockets])
        await self._log_recovery()
        if await self._database.read(_offers_programs):
            standalone.expect_runs()
        endpoints.peer_addresses = await peer_side.start()
        await server.start()
        sweep = ContainerSweep(database=database, clock=clock, store=docker, runner=own.runner)
        parts = [
            asyncio.create_task(each.run(), name=type(each).__name__)
            for each in (standalone, docker, sweep, *own.parts(), peer_side, server)
        ]
        watch = self._supervision.watch(database, context.peers_connected)
        reload = self._reload_when_told(server, own.slots)
        for work, name in ((database.watch(), "Database"), (watch, "Supervision"), (reload, "Reload")):
            parts.append(asyncio.create_task(work, name=name))
        log.info(
            LogEvent.DAEMON_READY,
            peer_id=peer_id,
            api=endpoints.url or "off",
            socket=endpoints.socket,
            peer=" ".join(endpoints.peer_addresses) or "off",
        )
        gc.collect()
        gc.freeze()  # what was built so far lives as long as the daemon; no collection need look at it again
        gc.set_threshold(GARBAGE_AFTER)
        self._supervision.ready()
        drain = Drain(
            supervision=self._supervision,
            server=server,
            slots=own.slots,
            database=database,
            clock=clock,
        )
        try:
            await self._until_stopped(parts, drain)
        finally:
            await server.stop()
            for part in reversed(parts):
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _until_stopped(self, parts: list[asyncio.Task[None]], drain: Drain) -> None:
        """Wait for the signal to stop, and then for what it lets come to an end. A part that ends before has failed."""
        failed = await _first(self._stop.wait(), parts)
        drain_s = 0.0 if failed or self._reason != signal.SIGTERM.name else self._config.drain_s
        self._supervision.stopping(drain_s)
        log.info(LogEvent.DAEMON_STOPPING, reason=self._reason or "a part of it has failed")
        if drain_s:
            failed = await _first(drain.run(drain_s, self._hurry), parts)
        for part in failed:
            error = part.exception()
            if error is not None:
                raise root_cause(error)

    def _ask_to_stop(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._reason = self._reason or number.name
        self._stop.set()

    def _hear_hangup(self) -> None:
        """SIGHUP: somebody has sent it, or the terminal that this was started at has gone."""
        if self._ends_with_terminal and not has_terminal():
            self._ask_to_stop(signal.SIGHUP)
        else:
            self._reload.set()

    async def _reload_when_told(self, server: ApiServer, slots: WorkerSlots) -> None:
        """Read the configuration anew whenever SIGHUP says so, and open the log file anew, until cancelled."""
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._supervision.reloading()
            reopen()  # also where what follows comes to nothing
            try:
                wanted = (await asyncio.to_thread(self._reread)).config
                config = reloaded(self._config, wanted)
                _open_log(config)
            except (ConfigInvalid, OSError) as error:
                log.error(LogEvent.CONFIG_REFUSED, reason=str(error))
            else:
                changed = changed_keys(self._config, config)
                self._config = config
                server.allow(config)
                slots.resize(config)
                log.info(LogEvent.CONFIG_RELOADED, changed=changed)
                if keys := changed_keys(config, wanted):
                    log.warning(LogEvent.CONFIG_NEEDS_RESTART, keys=keys)
            self._supervision.ready()

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


def _say(words: str) -> None:
    """Tell who started this process what is wrong, while there is no log."""
    sys.stderr.write(f"rnd: {words}\n")


def _offers_programs(conn: sqlite3.Connection) -> bool:
    return bool(
        offered_services.list_services(
            conn, service_type=ServiceType.STANDALONE, status=ServiceStatus.ACTIVE, limit=1
        ).items
    )


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


def _of_api(passed: PassedSocket) -> socket.socket:
    """Return a socket that is the API's. Raises `ValueError`: other peers are listened for by the daemon itself."""
    if passed.name not in {"api", "unknown"} and not passed.name.endswith(".socket"):
        raise ValueError(
            f"the socket {passed.name!r} that was handed over is none of rnd: only the API's can be, as 'api'"
        )
    return passed.sock


def has_terminal() -> bool:
    """Say whether this process belongs to a terminal that is there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


async def _first(event: Coroutine[None, None, object], parts: list[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait for an event, or for a part that ends before it; return the parts that have ended."""
    waiting = asyncio.create_task(event)
    try:
        done, _ = await asyncio.wait({waiting, *parts}, return_when=asyncio.FIRST_COMPLETED)
        if waiting in done:
            waiting.result()
    finally:
        waiting.cancel()
    return {part for part in parts if part in done}


def _open_log(config: Config) -> None:
    """Have lines go to standard error and, unless that is the journal, which keeps them itself, to the log file."""
    wanted = config.log_file if config.log_file is not None else not is_journal(sys.stderr, os.environ)
    configure_logging(
        config.log_level,
        log_path=config.data_dir / LOG_FILE if wanted else None,
        stream=sys.stderr,
        for_good=True,
        gather=True,
        log_format=LogFormat(config.log_format),
        log_bytes=config.log_file_bytes,
    )
