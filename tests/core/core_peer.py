"""The managers of one peer on a real database and real folders, without sockets; programs are scripts of the test.

A `Machine` is what outlives a daemon: the data directory, the clock and the engine with its runs. `serve` brings up a
daemon's managers on it; leaving the block pulls the plug, and the next one finds what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from rnd.core.claims import Claims
from rnd.core.docker_jobs import DockerJobs
from rnd.core.explaining import Explainer
from rnd.core.job_manager import JobManager
from rnd.core.job_queue import JobQueue
from rnd.core.job_runner import JobRunner
from rnd.core.worker_slots import WorkerSlots
from rnd.core.workflow_manager import WorkflowManager
from rnd.database import offered_services, workflow_connections, workflow_executions, workflow_nodes, workflows
from rnd.database.connection import Database
from rnd.database.offered_services import NewService
from rnd.rules.lifecycle import execution_is_terminal
from rnd.services.data_service import DataService
from rnd.services.executor import Executor, Health, JobRun, Observation, Phase
from rnd.services.image_pulls import ImagePulls
from rnd.services.images import ImageFacts
from rnd.services.service_secrets import ServiceSecrets
from rnd.services.standalone_orders import order_refusal
from rnd.services.vault import load_vault
from rnd.types.config import Config, Deadlines, Limits
from rnd.types.definitions import JobPlan
from rnd.types.enums import InterfaceType, MountFunction, ServiceType
from rnd.types.errors import DatabaseFailed, RndError
from rnd.types.executions import WorkflowExecution
from rnd.types.ids import ConnectionId, ExecutionId, NodeId, PeerId, WorkflowId
from rnd.types.services import (
    DockerSettings,
    RetryPolicy,
    Sandbox,
    Service,
    ServiceInterface,
    StandaloneSettings,
)
from rnd.types.workflows import WorkflowConnection, WorkflowNode
from rnd.workers.data_worker import DataWorker
from rnd.workers.deliveries import DeliveryDesk
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.job_folders import JobFolders
from rnd.workers.news_board import NewsBoard
from rnd.workers.prompt_delivery import PROMPT_BYTES
from tests.scripted_images import ScriptedImages, image_facts
from tests.seams import CountingEntropy, StillClock

T = TypeVar("T")

ME = PeerId("rnme")
PATIENCE_S = 20.0
"""How long a test waits for what must come."""

PROGRAM_INTERFACES = (
    ServiceInterface(interface_type=InterfaceType.STDIN),
    ServiceInterface(interface_type=InterfaceType.STDOUT),
    ServiceInterface(interface_type=InterfaceType.STDERR),
    ServiceInterface(interface_type=InterfaceType.LOGS),
)
IN_AND_OUT = (
    ServiceInterface(interface_type=InterfaceType.MOUNT, path="/in", mount_function=MountFunction.INPUT),
    ServiceInterface(interface_type=InterfaceType.MOUNT, path="/out", mount_function=MountFunction.OUTPUT),
)
STDOUT = (ServiceInterface(interface_type=InterfaceType.STDOUT),)


@dataclass(slots=True)
class Script:
    """What a program of a test does: it holds until let go, leaves files, and ends as observed."""

    observation: Observation = field(default_factory=lambda: Observation(phase=Phase.EXITED, exit_code=0))
    holds: bool = False
    deaf: bool = False
    """It ignores the first kill."""
    leaves: Callable[[JobRun], None] | None = None


@dataclass(slots=True)
class _Run:
    run: JobRun
    script: Script
    asked_to_end: int = 0
    observation: Observation | None = None


MUCH = bytes(PROMPT_BYTES + 1)


def says_much(run: JobRun) -> None:
    """Leave more on standard output than is delivered with the end of its job."""
    (run.directory / "logs/stdout.txt").write_bytes(MUCH)


class ScriptedEngine:
    """An executor whose programs are scripts. It goes on while no daemon is there, as an engine does."""

    name = "standalone"

    def __init__(self) -> None:
        self.health = Health(available=True)
        self.scripts: dict[str, Script] = {}
        self.expected: list[int] = []
        self.submitted: list[str] = []
        self.cleaned: list[str] = []
        self.runs: dict[str, _Run] = {}
        self.submit_error: RndError | None = None
        self.is_answer_lost = False
        self.is_silent = False
        """What it is asked to end goes on, and what became of it is not known."""
        self.kill_errors = 0
        self.find_error: RndError | None = None
        self.cleanup_error: RndError | None = None
        self.finds = 0
        self._news = asyncio.Event()

    async def check(self) -> Health:
        return self.health

    def refusal(self, service: Service, plan: JobPlan, *, foreign: bool) -> str | None:
        return order_refusal(service, plan, foreign=foreign)

    def expect_runs(self, at_once: int = 0) -> None:
        self.expected.append(at_once)

    async def submit(self, run: JobRun) -> str:
        if self.submit_error is not None and not self.is_answer_lost:
            raise self.submit_error
        if run.engine_name not in self.runs:
            self.submitted.append(run.engine_name)
            script = self.scripts.get(_words(run)[1], Script())
            self.runs[run.engine_name] = _Run(run, script)
            self._look(run.engine_name)
        if self.submit_error is not None:
            raise self.submit_error
        return run.engine_name

    async def find(self, engine_name: str, directory: Path) -> str | None:
        self.finds += 1
        if self.find_error is not None:
            raise self.find_error
        return engine_name if engine_name in self.runs else None

    async def wait(self, handle: str) -> Observation:
        while (observation := self.runs[handle].observation) is None:
            await self._news.wait()
        return observation

    async def poll(self, handles: Sequence[str]) -> dict[str, Observation]:
        if self.is_silent:
            return dict.fromkeys(handles, Observation(phase=Phase.UNKNOWN, reason="no engine answers"))
        return {handle: self.runs[handle].observation or Observation(phase=Phase.RUNNING) for handle in handles}

    async def cancel(self, handle: str, grace_s: float) -> None:
        if self.kill_errors > 0:
            self.kill_errors -= 1
            raise OSError("the engine did not hear")
        run = self.runs[handle]
        run.asked_to_end += 1
        if self.is_silent:
            return
        if run.observation is None and not (run.script.deaf and run.asked_to_end == 1):
            self._end(run, Observation(phase=Phase.EXITED, signal=15))

    async def cleanup(self, handle: str) -> None:
        if self.cleanup_error is not None:
            raise self.cleanup_error
        self.cleaned.append(handle)

    def let_go(self, name: str) -> None:
        """Let a program that holds come to its end."""
        self.scripts[name].holds = False
        for engine_name, run in self.runs.items():
            if _words(run.run)[1] == name:
                self._look(engine_name)

    def renew(self) -> None:
        """Belong to the loop of the next daemon."""
        self._news = asyncio.Event()

    def running(self) -> list[str]:
        """Return the runs that have not ended."""
        return [name for name, run in self.runs.items() if run.observation is None]

    def _look(self, engine_name: str) -> None:
        run = self.runs[engine_name]
        if run.script.holds or run.observation is not None:
            return
        logs = run.run.directory / "logs"
        for folder in (logs, run.run.directory / "output"):
            folder.mkdir(parents=True, exist_ok=True)
        stdin = b"".join(path.read_bytes() for path in run.run.stdin_files)
        said = stdin + " ".join(_words(run.run)[1:]).encode() + b"\n"
        (logs / "stdout.txt").write_bytes(said)
        (logs / "stderr.txt").write_bytes(b"")
        (logs / "logs.txt").write_bytes(said)
        if run.script.leaves is not None:
            run.script.leaves(run.run)
        self._end(run, run.script.observation)

    def _end(self, run: _Run, observation: Observation) -> None:
        run.observation = observation
        self._news.set()
        self._news = asyncio.Event()


def _words(run: JobRun) -> tuple[str, ...]:
    """Return what a run executes and its arguments; the first of these names its script."""
    if run.container is None:
        return run.argv
    return (run.container.image, *(run.container.cmd or ("",)))


class ScriptedContainers(ScriptedEngine):
    """The same for containers: a handle tells the container's id, and what is left is what nobody has removed."""

    name = "docker"

    def refusal(self, service: Service, plan: JobPlan, *, foreign: bool) -> str | None:
        return None

    def expect_runs(self, at_once: int = 0) -> None:
        """Nothing takes long to start here."""

    async def submit(self, run: JobRun) -> str:
        assert run.container is not None
        return _handle(await super().submit(run))

    async def find(self, engine_name: str, directory: Path) -> str | None:
        found = await super().find(engine_name, directory)
        return None if found is None else _handle(found)

    async def wait(self, handle: str) -> Observation:
        return await super().wait(_engine_name(handle))

    async def poll(self, handles: Sequence[str]) -> dict[str, Observation]:
        seen = await super().poll([_engine_name(handle) for handle in handles])
        return {handle: seen[_engine_name(handle)] for handle in handles}

    async def cancel(self, handle: str, grace_s: float) -> None:
        await super().cancel(_engine_name(handle), grace_s)

    async def cleanup(self, handle: str) -> None:
        await super().cleanup(_engine_name(handle))


def _handle(engine_name: str) -> str:
    return json.dumps({"container_id": f"id-of-{engine_name}", "engine_name": engine_name})


def _engine_name(handle: str) -> str:
    return str(json.loads(handle)["engine_name"])


class MortalDatabase(Database):
    """A database whose daemon dies with the commit number `dies_at`: it is durable, and nobody hears of it."""

    dies_at: int | None = None
    commits = 0

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self.dies_at is not None and self.commits >= self.dies_at:
            raise DatabaseFailed("the plug is out")
        self.commits += 1
        value = await super().write(work)
        if self.dies_at is not None and self.commits >= self.dies_at:
            raise DatabaseFailed("the plug is out")
        return value


@dataclass(slots=True)
class Machine:
    """What outlives a daemon."""

    data_dir: Path
    clock: StillClock = field(default_factory=StillClock)
    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    containers: ScriptedContainers = field(default_factory=ScriptedContainers)
    images: ScriptedImages = field(default_factory=ScriptedImages)
    has_containers: bool = True
    deadlines: Deadlines = field(default_factory=Deadlines)
    limits: Limits = field(default_factory=lambda: Limits(disk_floor_bytes=0))
    boot_id: str = "boot 1"
    sandbox: Sandbox = field(default_factory=lambda: Sandbox(tier="landlock", reason=""))
    tick_s: float = 0.2
    job_slots: int = 4
    daemons: int = 0

    @contextlib.asynccontextmanager
    async def serve(
        self, *, dies_at: int | None = None, is_idle: bool = False, busy_timeout_ms: int = 200
    ) -> AsyncIterator[Daemon]:
        """Bring up a daemon's managers; with `is_idle` nothing runs by itself."""
        self.data_dir.mkdir(exist_ok=True)
        self.daemons += 1
        self.engine.renew()
        self.containers.renew()
        self.images.renew()
        database = MortalDatabase.open(self.data_dir / "rnd.db", busy_timeout_ms=busy_timeout_ms)
        assert isinstance(database, MortalDatabase)
        database.dies_at = dies_at
        daemon = Daemon(self, database)
        parts = [] if is_idle else [asyncio.create_task(part) for part in daemon.parts()]
        daemon.tasks = parts
        try:
            yield daemon
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            daemon.data.close()
            database.dies_at = None
            await database.close()

    def play(self, scenario: Callable[[Daemon], Awaitable[T]], **options: Any) -> T:
        """Play one scenario with one daemon."""

        async def whole() -> T:
            async with self.serve(**options) as daemon:
                return await scenario(daemon)

        return asyncio.run(whole())


async def nobody_else(sender: PeerId, receiver: PeerId) -> str | None:
    return f"no way from {sender} to {receiver}"


class Daemon:
    """The managers of a daemon, and what tests do with them."""

    def __init__(self, machine: Machine, database: MortalDatabase) -> None:
        self.machine = machine
        self.clock = machine.clock
        self.engine = machine.engine
        self.containers = machine.containers
        self.images = machine.images
        self.database = database
        self.board = NewsBoard()
        self.folders = JobFolders(machine.data_dir)
        self.tasks: list[asyncio.Task[None]] = []
        self.config = Config(
            data_dir=machine.data_dir,
            job_slots=machine.job_slots,
            queue_interval_s=machine.tick_s,
            status_interval_s=machine.tick_s,
            deadlines=machine.deadlines,
            limits=machine.limits,
        )
        entropy = CountingEntropy(f"daemon {machine.daemons}")
        vault = load_vault(machine.data_dir, CountingEntropy("vault"))
        disk = DiskGuard(machine.data_dir, floor_bytes=machine.limits.disk_floor_bytes)
        seams: Any = {"database": database, "clock": machine.clock, "entropy": entropy, "config": self.config}
        self.data = DataService(**seams, vault=vault)
        executors: dict[ServiceType, Executor] = {ServiceType.STANDALONE: machine.engine}
        pulls: ImagePulls | None = None
        if machine.has_containers:
            executors[ServiceType.DOCKER] = machine.containers
            pulls = ImagePulls(images=machine.images, database=database, clock=machine.clock)
        self.vault = vault
        secrets = ServiceSecrets(database, vault)
        desk = DeliveryDesk(config=self.config, folders=self.folders, data_service=self.data)
        self.data_worker = DataWorker(**seams, folders=self.folders, desk=desk, disk=disk, board=self.board, peer_id=ME)
        slots = WorkerSlots(self.config, self.board, machine.clock)
        claims = Claims(board=self.board, slots=slots, peer_id=ME, boot_id=machine.boot_id)
        self.runner = JobRunner(
            **seams,
            folders=self.folders,
            executors=executors,
            secrets=secrets,
            docker_jobs=DockerJobs(
                database=database, clock=machine.clock, config=self.config, pulls=pulls, secrets=secrets, slots=slots
            ),
            data_worker=self.data_worker,
            disk=disk,
            board=self.board,
            claims=claims,
            slots=slots,
            sandbox=machine.sandbox,
        )
        queue = JobQueue(
            database=database,
            clock=machine.clock,
            config=self.config,
            folders=self.folders,
            runner=self.runner,
            claims=claims,
            slots=slots,
            board=self.board,
            peer_id=ME,
            boot_id=machine.boot_id,
        )
        explainer = Explainer(
            database=database,
            clock=machine.clock,
            folders=self.folders,
            runner=self.runner,
            disk=disk,
            why_away=lambda peer_id: f"no link to {peer_id}",
            peer_id=ME,
        )
        self.job_manager = JobManager(
            **seams,
            folders=self.folders,
            executors=executors,
            is_unlocked=self.data.is_unlocked,
            runner=self.runner,
            explainer=explainer,
            disk=disk,
            board=self.board,
            queue=queue,
            slots=slots,
            peer_id=ME,
            sandbox=machine.sandbox,
        )
        self.workflow_manager = WorkflowManager(
            **seams,
            folders=self.folders,
            data_service=self.data,
            disk=disk,
            endpoint_of=lambda _: self.job_manager,
            why_not_between=nobody_else,
            board=self.board,
            peer_id=ME,
        )

    def parts(self) -> list[Any]:
        """Return the loops of the daemon, unstarted."""
        return [self.data_worker.run(), self.job_manager.run(), self.workflow_manager.run()]

    def is_dead(self) -> bool:
        """Say whether a loop has ended."""
        return any(task.done() for task in self.tasks)

    def tick(self, seconds: float = 11.0) -> None:
        """Let so much time pass that every ticker strikes."""
        self.clock.move(seconds)
        self.board.jobs.ring()
        self.board.executions.ring()
        self.board.transfers.ring()

    # ---- drawing

    async def program(
        self,
        name: str,
        script: Script | None = None,
        *,
        interfaces: tuple[ServiceInterface, ...] = (),
        attempts: int = 1,
        backoff_s: float = 0.0,
        timeout_s: float | None = None,
    ) -> Service:
        """Offer a program."""
        if script is not None:
            self.engine.scripts[name] = script
        new = NewService(
            name=name,
            service_type=ServiceType.STANDALONE,
            interfaces=PROGRAM_INTERFACES + interfaces,
            settings=StandaloneSettings(executable="/bin/true", cmd=(name,), timeout_s=timeout_s),
            retry_safe=attempts > 1,
            retry=RetryPolicy(attempts=attempts, backoff_s=backoff_s),
            service_path="/bin/true",
        )
        return await self.database.write(lambda conn: offered_services.create_service(conn, new, now=self.clock.now()))

    async def container(
        self,
        name: str,
        script: Script | None = None,
        *,
        facts: ImageFacts | None = None,
        interfaces: tuple[ServiceInterface, ...] = (),
        attempts: int = 1,
        **settings: Any,
    ) -> Service:
        """Offer a container, called with its name; its image is in the registry, and here only where a test puts it here."""
        if script is not None:
            self.containers.scripts[name] = script
        if facts is None:
            facts = image_facts(1)
            self.images.offer("python:3", facts=facts)
        known: dict[str, Any] = {
            "image": "python:3",
            "image_id": facts.image_id,
            "digest": facts.digest,
            "cmd": (name,),
        }
        new = NewService(
            name=name,
            service_type=ServiceType.DOCKER,
            interfaces=PROGRAM_INTERFACES + interfaces,
            settings=DockerSettings(**(known | settings)),
            retry_safe=attempts > 1,
            retry=RetryPolicy(attempts=attempts),
            service_path="python:3",
        )
        return await self.database.write(lambda conn: offered_services.create_service(conn, new, now=self.clock.now()))

    async def files(self, name: str, content: Mapping[str, bytes], *, passphrase: str | None = None) -> Service:
        """Offer files as DATA."""
        source = self.machine.data_dir.parent / f"{name}-source"
        for path, data in content.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(data)
        return await self.data.create(name=name, paths=[source], interfaces=STDOUT, passphrase=passphrase)

    async def draw(self, services: Sequence[Service], edges: Sequence[Edge]) -> Drawn:
        """Draw a workflow of one node a service; edges name nodes by their place, `None` is the self-peer."""
        now = self.clock.now()

        def work(conn: sqlite3.Connection) -> Drawn:
            workflow = workflows.create_workflow(conn, name="drawn", now=now)
            nodes = [
                workflow_nodes.add_node(
                    conn,
                    WorkflowNode(
                        id=NodeId(0),
                        workflow_id=workflow.id,
                        service_id=service.id,
                        peer_id=ME,
                        service_name=service.name,
                        service_type=service.service_type,
                        order=0,
                        gui_x=0,
                        gui_y=0,
                        interfaces=service.interfaces,
                        entrypoint=None,
                        cmd=None,
                        pricing_amount=0.0,
                        pricing_type="ONE_TIME",
                    ),
                    now=now,
                ).id
                for service in services
            ]
            connections = [
                workflow_connections.add_connection(
                    conn,
                    WorkflowConnection(
                        id=ConnectionId(0),
                        workflow_id=workflow.id,
                        from_node_id=None if edge.start is None else nodes[edge.start],
                        from_interface_type=edge.from_type,
                        to_node_id=None if edge.end is None else nodes[edge.end],
                        to_interface_type=edge.to_type,
                        destination_file_name=edge.file_name,
                        from_interface_path="",
                        to_interface_path="",
                        include=edge.include,
                        source_path=edge.source_path,
                    ),
                    now=now,
                ).id
                for edge in edges
            ]
            return Drawn(workflow_id=workflow.id, nodes=tuple(nodes), connections=tuple(connections))

        return await self.database.write(work)

    # ---- watching

    async def sql(self, query: str, /, **values: object) -> list[tuple[Any, ...]]:
        """Ask the rows."""
        return await self.database.read(lambda conn: [tuple(row) for row in conn.execute(query, values).fetchall()])

    async def by_hand(self, statement: str, /) -> None:
        """Type a statement into an sqlite3 shell of another process, as far as the database can tell."""

        def type_it() -> None:
            with contextlib.closing(sqlite3.connect(self.machine.data_dir / "rnd.db", timeout=10)) as conn, conn:
                conn.execute(statement)

        await asyncio.to_thread(type_it)

    async def eventually(self, query: str, *expected: tuple[Any, ...]) -> None:
        """Wait until a query answers as expected."""
        answer: list[tuple[Any, ...]] = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                while (answer := await self.sql(query)) != list(expected):
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"{query} answers {answer}, not {list(expected)}") from None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.005)

    async def ended(self, execution_id: ExecutionId) -> WorkflowExecution:
        """Wait for the end of an execution."""
        await self.workflow_manager.wait(execution_id, timeout_s=PATIENCE_S)
        execution = await self.database.read(lambda conn: workflow_executions.get_execution(conn, execution_id))
        assert execution_is_terminal(execution.status), (execution.status, await self.story())
        return execution

    async def story(self) -> list[tuple[Any, ...]]:
        """Return every job's name, status and error."""
        return await self.sql("SELECT job_name, status, error_message FROM job_executions ORDER BY id")

    async def home(self, execution_id: ExecutionId) -> dict[str, bytes]:
        """Return the content of what came home, by node name and path."""
        rows = await self.sql(
            """
            SELECT wj.job_name || '/' || rf.relative_path, r.directory, rf.relative_path
            FROM results AS r
            JOIN result_files AS rf ON rf.result_id = r.id
            JOIN workflow_jobs AS wj ON wj.workflow_execution_id = r.workflow_execution_id AND wj.node_id = r.node_id
            WHERE r.workflow_execution_id = :id AND r.duty_acknowledged = 1 AND rf.sha256 <> ''
            """,
            id=execution_id,
        )
        return {name: (self.machine.data_dir / folder / path).read_bytes() for name, folder, path in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A connection to be drawn: nodes by their place in the drawing, `None` for the self-peer."""

    start: int | None
    end: int | None
    from_type: InterfaceType = InterfaceType.STDOUT
    to_type: InterfaceType = InterfaceType.STDIN
    file_name: str | None = None
    include: tuple[str, ...] = ()
    source_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A workflow in the database."""

    workflow_id: WorkflowId
    nodes: tuple[NodeId, ...]
    connections: tuple[ConnectionId, ...]


def edge(start: int | None, end: int | None, types: str = "STDOUT->STDIN", **more: Any) -> Edge:
    """Return an edge by the two interface types."""
    from_type, to_type = types.split("->")
    return replace(
        Edge(start=start, end=end), from_type=InterfaceType(from_type), to_type=InterfaceType(to_type), **more
    )
