"""One simulated world from its seed to its verdict."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from rnd.database import grants, offered_services, peers, workflow_connections, workflow_nodes, workflows
from rnd.database.offered_services import NewService
from rnd.log import render
from rnd.types.enums import Egress, InterfaceType, MountFunction, PeerState, ServiceAccess, ServiceType, Verb
from rnd.types.errors import ApplicationError
from rnd.types.ids import ConnectionId, ExecutionId, NodeId, WorkflowId
from rnd.types.services import RetryPolicy, Service, ServiceInterface, StandaloneSettings
from rnd.types.workflows import WorkflowConnection, WorkflowNode
from tests.simulation.faults import KINDS, Fault, draw_faults
from tests.simulation.loop import OWNER, Standstill, VirtualLoop, WorldFailed
from tests.simulation.machine import Daemon, Machine
from tests.simulation.oracle import Oracle
from tests.simulation.plan import FAULTS_UNTIL_S, Act, Data, Drawing, draw_plan
from tests.simulation.programs import IN, OUT, Program, data_bytes
from tests.simulation.wire import Net

SCRATCH: Final = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
BOUND_S: Final = 900.0
"""How long after the last fault was mended everything may still take: longer than any deadline that is in force."""

STREAMS: Final = tuple(
    ServiceInterface(interface_type=each)
    for each in (InterfaceType.STDIN, InterfaceType.STDOUT, InterfaceType.STDERR, InterfaceType.LOGS)
)
MOUNTS: Final = (
    ServiceInterface(interface_type=InterfaceType.MOUNT, path=IN, mount_function=MountFunction.INPUT),
    ServiceInterface(interface_type=InterfaceType.MOUNT, path=OUT, mount_function=MountFunction.OUTPUT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A drawing in its owner's database."""

    drawing: Drawing
    workflow_id: WorkflowId
    nodes: tuple[NodeId, ...]
    connections: tuple[ConnectionId, ...]


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What became of a seed."""

    seed: int
    problems: list[str]
    log_hash: str
    counts: Counter[str]
    story: list[str] = field(default_factory=list)
    virtual_s: float = 0.0
    steps: int = 0


class World:
    """Machines, wire, plan and faults of one seed."""

    def __init__(self, seed: int, root: Path, template: Template) -> None:
        self.seed = seed
        self.root = root
        self.template = template
        self.rng = random.Random(seed)
        self.plan = draw_plan(self.rng)
        self.faults = draw_faults(self.rng, self.plan)
        self.loop = VirtualLoop(self.thread_s)
        self.nobody = contextvars.copy_context()
        self.nobody.run(OWNER.set, None)
        self.net = Net(self.loop, self.rng, self.nobody, lambda end, text: self.oracle.said(end, text))
        self.oracle = Oracle(self)
        self.problems = self.loop.problems
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()
        self.dead: list[Daemon] = []
        self.rest_s: dict[int, float] = {}
        """How long a peer that has gone down stays down."""
        self.services: dict[str, Service] = {}
        self.drawn: dict[str, Drawn] = {}
        self.drawn_by_workflow: dict[tuple[int, int], Drawn] = {}
        self.executions: dict[int, ExecutionId] = {}
        """The newest execution of each drawing that its owner has heard of."""
        self._acts_open = 0
        self._is_mended = False
        self._zero_s = 0.0
        self.machines: list[Machine] = []

    # ---- what the parts of the world ask

    def thread_s(self) -> float:
        return self.rng.choice((0.0001, 0.0005, 0.002))

    def commit_s(self) -> float:
        return self.rng.choice((0.0002, 0.0005, 0.003))

    def later(self, delay_s: float, work: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Have something happen that belongs to no daemon."""
        return self.loop.call_later(delay_s, work, *args, context=self.nobody)

    def machine_of(self, peer_id: str) -> Machine:
        return next(machine for machine in self.machines if machine.peer_id == peer_id)

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def note(self, machine: Machine | None, words: str) -> None:
        """Write a line into the story that is the world's own."""
        self.line("world" if machine is None else machine.name, f"-- {words}")

    def line(self, who: str, text: str) -> None:
        self.lines.append(f"{self.loop.time():10.4f} {who:8} {text.replace(str(self.root), '~')}")

    def fail(self, words: str) -> None:
        """Take note of what is not as it must be; the world ends with the first."""
        self.note(None, f"WRONG: {words}")
        self.problems.append(words)

    def daemon_gone(self, machine: Machine) -> None:
        """Have a daemon started again after its rest; what is down for good would prove nothing."""
        rest_s = self.rest_s.pop(machine.number, 1.0)
        if self._is_mended:
            rest_s = min(rest_s, 1.0)
        self.later(rest_s, machine.boot)

    # ---- the course of things

    def run(self) -> Verdict:
        """Let it happen."""
        structlog.configure(
            processors=[render],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            context_class=dict,
            logger_factory=lambda: _LogLines(self),
            cache_logger_on_first_use=False,
        )
        self.loop.set_exception_handler(self._complain)
        try:
            main = self.loop.create_task(self._live(), context=self.nobody)
            self.loop.run_until_complete(main)
            self.oracle.at_rest()
        except (WorldFailed, Standstill) as error:
            if not self.problems:
                self.fail(f"the world stands still: {error}")
        self.counts["duplicate connection"] += self.net.duplicates
        self.counts.update({f"checked {what}": number for what, number in self.oracle.checked.items()})
        digest = hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
        return Verdict(
            seed=self.seed,
            problems=self.problems,
            log_hash=digest,
            counts=self.counts,
            story=self.lines,
            virtual_s=self.loop.time(),
            steps=self.loop.steps,
        )

    def _complain(self, _loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, WorldFailed):
            return
        self.fail(f"{context.get('message')}: {error!r}")

    async def _live(self) -> None:
        for number in range(self.plan.peers):
            self.machines.append(Machine(self, number, self.root, job_slots=self.plan.job_slots[number]))
        for machine in self.machines:
            machine.boot()
        for machine in self.machines:
            await machine.call(self._furnish)
        for drawing in self.plan.drawings:
            await self.machines[drawing.owner].call(lambda daemon, drawing=drawing: self._draw(daemon, drawing))
        await asyncio.sleep(self.rng.choice((0.0, 0.0, 5.0)))
        self._zero_s = self.loop.time()
        self.note(None, "everything is set up")
        for fault in self.faults:
            self.later(fault.at_s, self._inflict, fault)
        for act in self.plan.acts:
            self._acts_open += 1
            self.later(act.at_s, self._act, act)
        last_s = max(fault.at_s + fault.lasts_s for fault in self.faults) if self.faults else 0.0
        await asyncio.sleep(min(FAULTS_UNTIL_S, max(last_s, self.plan.acts[-1].at_s) + 1.0))
        self._mend()
        await self._await_rest()

    def _mend(self) -> None:
        """End every fault that is still there."""
        self.note(None, "everything is mended")
        self._is_mended = True
        for one in self.machines:
            if one.daemon is not None:
                one.daemon.database.dies_in = None
            one.engine.away_until_s = 0.0
            for other in self.machines[: one.number]:
                self.net.join(one.number, other.number)
                self.net.slow_down(one.number, other.number, 0.0)
            if not one.is_up:
                self.later(1.0, one.boot)

    async def _await_rest(self) -> None:
        until_s = self.loop.time() + BOUND_S
        pause_s = 0.5
        while self._acts_open or (left := self.oracle.what_is_open()):
            if self.loop.time() > until_s:
                self.fail(f"N7 {BOUND_S:g} s after everything was mended, {'; '.join(left[:6])}")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 10.0)
        await asyncio.sleep(1.0)

    def _inflict(self, fault: Fault) -> None:
        if self._is_mended:
            return
        self.note(
            None, f"FAULT {fault.kind}: peer-{fault.peer} peer-{fault.other} {fault.lasts_s:.2f} s {fault.number}"
        )
        if KINDS[fault.kind](self, fault):
            self.count(f"fault {fault.kind}")

    # ---- owners

    def _act(self, act: Act) -> None:
        machine = self.machines[self.plan.drawings[act.drawing].owner]
        if machine.daemon is None:
            self.later(1.0, self._act, act)  # the owner tries again
            return
        drawing = self.plan.drawings[act.drawing]
        incarnation = machine.daemon.incarnation
        task = machine.call(lambda daemon: self._do(daemon, act, drawing))
        self._acts_open += 1

        def done(_: object) -> None:
            self._acts_open -= 1

        def look() -> None:
            if task.done() or incarnation.dead:
                done(None)
            else:
                self.later(1.0, look)

        look_at: Callable[[], None] = look
        self._acts_open -= 1
        self.later(1.0, look_at)

    async def _do(self, daemon: Daemon, act: Act, drawing: Drawing) -> None:
        machine, manager = daemon.machine, daemon.own.workflow_manager
        try:
            match act.what:
                case "execute":
                    execution_id = await manager.execute(self.drawn[drawing.name].workflow_id)
                    self._executing(machine, act, execution_id, "accepted")
                case "cancel" if act.drawing in self.executions:
                    execution_id = self.executions[act.drawing]
                    await manager.cancel(execution_id, reason="its owner has changed his mind")
                    self.note(machine, f"cancel of execution {execution_id} accepted")
                    self.count("act cancel")
                    query = "SELECT 1 FROM workflow_executions WHERE id = ? AND (cancel_requested_at IS NOT NULL)"
                    self.oracle.acknowledged(machine, f"execution {execution_id} is cancelled", query, execution_id)
                case "retry" if act.drawing in self.executions:
                    execution_id = await manager.retry(self.executions[act.drawing])
                    self._executing(machine, act, execution_id, "accepted as a retry")
        except ApplicationError as error:
            self.note(machine, f"{act.what} of {drawing.name} refused: {error.message}")
            self.count(f"act {act.what} refused")

    def _executing(self, machine: Machine, act: Act, execution_id: ExecutionId, words: str) -> None:
        self.executions[act.drawing] = execution_id
        self.note(machine, f"execution {execution_id} of {self.plan.drawings[act.drawing].name} {words}")
        self.count(f"act {act.what}")
        query = "SELECT 1 FROM workflow_executions WHERE id = ?"
        self.oracle.acknowledged(machine, f"execution {execution_id} was accepted", query, execution_id)

    # ---- furnishing

    async def _furnish(self, daemon: Daemon) -> None:
        """Offer the services of a peer and let in whom it knows."""
        machine = daemon.machine
        for data in self.plan.data.values():
            if data.peer == machine.number:
                self.services[data.name] = await self._offer_data(daemon, data)
        now = machine.clock.now()

        def work(conn: sqlite3.Connection) -> None:
            for one, other in self.plan.acquainted:
                if machine.number in (one, other):
                    friend = self.machines[other if one == machine.number else one]
                    peers.add_peer(
                        conn,
                        friend.peer_id,
                        self_peer_id=machine.peer_id,
                        state=PeerState.ALLOWED,
                        name=friend.name,
                        addresses=(friend.address,),
                        now=now,
                    )
            for program in self.plan.programs.values():
                if program.peer == machine.number:
                    service = offered_services.create_service(conn, _new_service(program), now=now)
                    self.services[program.name] = service
                    for peer, name in self.plan.granted:
                        if name == program.name and peer != machine.number:
                            grants.add_grant(
                                conn,
                                peer_id=self.machines[peer].peer_id,
                                service_id=service.id,
                                verbs=(Verb.ORDER, Verb.FETCH),
                                now=now,
                            )

        await daemon.database.write(work)
        await daemon.peer_side.book.refresh()

    async def _offer_data(self, daemon: Daemon, data: Data) -> Service:
        source = daemon.machine.host_dir / data.name
        for path, size in data.files:
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(data_bytes(data.name, path, size))
        listed = data.listed
        return await daemon.own.data_service.create(
            name=data.name,
            paths=[source],
            interfaces=(ServiceInterface(interface_type=InterfaceType.STDOUT),),
            egress=Egress.ANY_JOB if listed is None else Egress.LISTED,
            egress_peers=() if listed is None else tuple(self.machines[peer].peer_id for peer in listed),
        )

    async def _draw(self, daemon: Daemon, drawing: Drawing) -> None:
        machine = daemon.machine
        now = machine.clock.now()
        for edge in drawing.edges:
            if edge.host_file is not None:
                path = machine.host_dir / edge.host_file[0]
                path.write_bytes(data_bytes(drawing.name, *edge.host_file))

        def work(conn: sqlite3.Connection) -> Drawn:
            workflow = workflows.create_workflow(conn, name=drawing.name, now=now)
            nodes = tuple(
                workflow_nodes.add_node(conn, self._node(workflow.id, node, place), now=now).id
                for place, node in enumerate(drawing.nodes)
            )
            connections = []
            for edge in drawing.edges:
                source = None if edge.host_file is None else str(machine.host_dir / edge.host_file[0])
                connection = WorkflowConnection(
                    id=ConnectionId(0),
                    workflow_id=workflow.id,
                    from_node_id=None if edge.start is None else nodes[edge.start],
                    from_interface_type=edge.from_type,
                    to_node_id=None if edge.end is None else nodes[edge.end],
                    to_interface_type=edge.to_type,
                    destination_file_name=edge.file_name,
                    from_interface_path="",
                    to_interface_path="",
                    include=(),
                    source_path=source,
                )
                connections.append(workflow_connections.add_connection(conn, connection, now=now).id)
            return Drawn(drawing=drawing, workflow_id=workflow.id, nodes=nodes, connections=tuple(connections))

        drawn = await daemon.database.write(work)
        self.drawn[drawing.name] = self.drawn_by_workflow[machine.number, drawn.workflow_id] = drawn

    def _node(self, workflow_id: WorkflowId, node: Program | Data, place: int) -> WorkflowNode:
        service = self.services[node.name]
        return WorkflowNode(
            id=NodeId(0),
            workflow_id=workflow_id,
            service_id=service.id,
            peer_id=self.machines[node.peer].peer_id,
            service_name=service.name,
            service_type=service.service_type,
            order=place,
            gui_x=0,
            gui_y=0,
            interfaces=service.interfaces,
            entrypoint=None,
            cmd=None,
            pricing_amount=0.0,
            pricing_type="FREE",
            name=f"n{place}",
        )


def _new_service(program: Program) -> NewService:
    return NewService(
        name=program.name,
        service_type=ServiceType.STANDALONE,
        interfaces=STREAMS + MOUNTS,
        settings=StandaloneSettings(executable="/bin/true", cmd=(program.name,)),
        retry_safe=program.attempts > 1,
        retry=RetryPolicy(attempts=program.attempts, backoff_s=1.0 if program.attempts > 2 else 0.0),
        service_path="/bin/true",
        access=ServiceAccess.GRANTED if program.needs_grant else ServiceAccess.ALLOWED,
    )


class _LogLines:
    """Where the product's log lines go: each to the peer whose daemon says it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _write(self, text: str) -> None:
        owner: Any = OWNER.get()
        self._world.line("world" if owner is None else owner.machine.name, text.strip())
        if "Internal error" in text or " [CRITICAL]" in text:
            self._world.fail(f"{text.strip()[:1500]}")

    debug = info = warning = error = critical = exception = msg = _write


class Template:
    """An empty database, made once: migrating one takes longer than most of a world."""

    def __init__(self, folder: Path) -> None:
        from rnd.database.opening import mark_closed, open_connections

        self._path = folder / "template.db"
        (conn,) = open_connections(self._path, readers=0, busy_timeout_ms=1000)
        mark_closed(conn)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        conn.close()

    def copy_to(self, path: Path) -> None:
        shutil.copyfile(self._path, path)
        path.chmod(0o600)
