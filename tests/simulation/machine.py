"""A simulated machine with its disk, its engine and its clock, and the daemons that come and go on it.

A daemon is the product's own: `OwnSide` and `PeerSide` as `rnd/daemon.py` makes them, on a real database and real
folders. What it gets from here are the clock, the entropy, the executor and both ends of the wire.
"""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import uuid
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from rnd.database.connection import Database, _Call
from rnd.own_side import OwnSide
from rnd.p2p.identity import load_identity
from rnd.peer_side import PeerSide
from rnd.services.data_directory import prepare_data_directory
from rnd.services.image_pulls import ImagePulls
from rnd.services.vault import load_vault
from rnd.types.config import Config, Deadlines, Limits
from rnd.types.enums import ServiceType
from rnd.types.ids import PeerId, TransferId
from rnd.types.services import Sandbox
from tests.scripted_images import ScriptedImages
from tests.seams import CountingEntropy
from tests.simulation.engine import ScriptedPrograms
from tests.simulation.faults import AFTER_A_COMMIT, BEFORE_A_COMMIT
from tests.simulation.loop import OWNER
from tests.simulation.wire import NoGate, SimulatedDialer, SimulatedListener

T = TypeVar("T")

BEGIN: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
PORT: Final = 7000
DEADLINES: Final = Deadlines(start_by_s=600.0, max_runtime_s=1200.0, transfer_idle_s=60.0, cancel_grace_s=2.0)


class Incarnation:
    """One daemon from its start to its end: whom everything that it does belongs to."""

    def __init__(self, machine: Machine, number: int) -> None:
        self.machine = machine
        self.number = number
        self.peer_id = machine.peer_id
        self.dead = False
        self.stopping = False
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)


class SeededEntropy(CountingEntropy):
    """Ids and bytes that follow from the seed, in the forms that the wire asks for."""

    def new_transfer_id(self) -> TransferId:
        return TransferId(str(uuid.UUID(bytes=self.random_bytes(16), version=4)))


class MachineClock:
    """The clock of one machine: it runs with the world's, and its wall clock may be set."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.step_s = 0.0

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self._loop.time() + self.step_s)

    def monotonic(self) -> float:
        return self._loop.time()


class SimulatedDatabase(Database):
    """The product's database whose work is done in the loop; its daemon may die with a commit."""

    machine: Machine
    dies_in: int | None = None
    """With which commit from now on the daemon dies."""
    is_durable = True
    """Whether that commit is on disk by then; nobody has heard of it either way."""
    _read_connections: Sequence[sqlite3.Connection] = ()

    def __init__(self, path: Path, writer: sqlite3.Connection, readers: Sequence[sqlite3.Connection], **more: Any):
        self._read_connections = readers
        super().__init__(path, writer, readers, **more)

    def _begin(self) -> None:
        """There are no threads."""

    def _send_gathered(self) -> None:
        if self._gathered:
            group, self._gathered = self._gathered, []
            asyncio.get_running_loop().call_later(self.machine.world.commit_s(), self._commit_now, group)

    def _commit_now(self, group: list[_Call[Any]]) -> None:
        is_last = self._is_last()
        if is_last and not self.is_durable:
            self.machine.world.count(f"fault {BEFORE_A_COMMIT}")
            self.machine.crash("died before a commit")
            return
        changed = self._commit_group(group)
        self._checkpoint_if_long()
        self.machine.world.oracle.committed(self.machine, self._writer)
        if is_last:
            self.machine.world.count(f"fault {AFTER_A_COMMIT}")
            self.machine.crash("died after a commit")
            return
        self._hand_over(group, self._write_places, changed)

    def _is_last(self) -> bool:
        if self.dies_in is None:
            return False
        self.dies_in -= 1
        return self.dies_in <= 0

    def _send_read(self, call: _Call[Any]) -> None:
        asyncio.get_running_loop().call_soon(self._read_now, call)

    def _read_now(self, call: _Call[Any]) -> None:
        self._run_read(self._read_connections[0], call)
        self._hand_over([call], self._read_places, changed=False)

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            if self._gathered:
                group, self._gathered = self._gathered, []
                self._commit_now(group)
            for conn in self._read_connections:
                conn.close()
            self._finish()

    def tear_down(self) -> None:
        """What the kernel does with the files of a process that was killed."""
        for conn in (*self._read_connections, self._writer):
            conn.close()


class Daemon:
    """One running daemon."""

    def __init__(self, machine: Machine, incarnation: Incarnation) -> None:
        self.machine = machine
        self.incarnation = incarnation
        world = machine.world
        _host, _port = machine.address.split(":")
        config = Config(
            data_dir=machine.data_dir,
            name=machine.name,
            peer=machine.address,
            chunk_bytes=16 << 10,
            window_bytes=16 << 20,
            job_slots=machine.job_slots,
            deadlines=DEADLINES,
            limits=Limits(disk_floor_bytes=0),
        )
        database = SimulatedDatabase.open(machine.data_dir / "rnd.db", readers=1)
        assert isinstance(database, SimulatedDatabase)
        database.machine = machine
        self.database = database
        world.oracle.watch(machine, database._writer)
        seed = f"{world.seed} {machine.name}"
        entropy = SeededEntropy(f"{seed} {incarnation.number}")
        identity = load_identity(machine.data_dir, CountingEntropy(seed))
        self.own = OwnSide(
            config=config,
            database=database,
            clock=machine.clock,
            entropy=entropy,
            peer_id=identity.peer_id,
            vault=load_vault(machine.data_dir, CountingEntropy(f"{seed} vault")),
            executors={ServiceType.STANDALONE: machine.engine},
            pulls=ImagePulls(images=ScriptedImages(), database=database, clock=machine.clock),
            boot_id=f"boot {machine.boots}",
        )
        self.peer_side = PeerSide(
            config=config,
            database=database,
            clock=machine.clock,
            entropy=entropy,
            identity=identity,
            folders=self.own.folders,
            disk=self.own.disk,
            board=self.own.board,
            desk=self.own.desk,
            name=machine.name,
            make_dialer=lambda _: SimulatedDialer(world.net, incarnation),
            make_listener=self._listener,
            make_gate=lambda *_: NoGate(),
        )
        self.own.attach(self.peer_side, Sandbox(tier="landlock", reason=""))
        self.peer_side.attach(self.own.job_manager, _no_capabilities)
        listener: Any = self.peer_side.listener
        listener.links = self.peer_side.links
        self.parts: list[asyncio.Task[Any]] = []
        self.ready = asyncio.Event()

    def _listener(self, _gate: object, host: str, port: int, *, routes: object, admit: Any) -> Any:
        return SimulatedListener(self.machine.world.net, self.incarnation, host, port, admit)

    async def run(self) -> None:
        """Live until stopped, as `rnd/daemon.py` does."""
        await self.own.data_service.sweep()
        await self.peer_side.start()
        self.parts = [asyncio.create_task(part.run()) for part in (*self.own.parts(), self.peer_side)]
        self.ready.set()
        try:
            done, _ = await asyncio.wait(self.parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                self.machine.world.fail(f"a part of {self.machine.name} has ended: {part.exception()!r}")
        finally:
            for part in reversed(self.parts):
                part.cancel()
            await asyncio.gather(*self.parts, return_exceptions=True)
            await self.database.close()


class Machine:
    """What outlives daemons."""

    def __init__(self, world: Any, number: int, root: Path, *, job_slots: int) -> None:
        self.world = world
        self.number = number
        self.name = f"peer-{number}"
        self.job_slots = job_slots
        self.address = f"10.0.0.{number + 1}:{PORT}"
        self.data_dir = root / self.name
        self.host_dir = root / f"{self.name}-files"
        self.host_dir.mkdir()
        self.clock = MachineClock(world.loop)
        self.boots = 1
        self.daemons = 0
        self.engine = ScriptedPrograms(self)
        self.daemon: Daemon | None = None
        self._main: asyncio.Task[Any] | None = None
        self._restart: asyncio.TimerHandle | None = None
        prepare_data_directory(self.data_dir)
        world.template.copy_to(self.data_dir / "rnd.db")
        self.peer_id: PeerId = load_identity(self.data_dir, CountingEntropy(f"{world.seed} {self.name}")).peer_id

    @property
    def is_up(self) -> bool:
        """Say whether a daemon runs here."""
        return self.daemon is not None

    def boot(self) -> None:
        """Start a daemon."""
        if self.daemon is not None:
            return
        self.world.net.hosts_up.add(self.address)
        self.daemons += 1
        incarnation = Incarnation(self, self.daemons)
        self.world.note(self, f"daemon {self.daemons} starts")
        self.daemon = incarnation.context.run(Daemon, self, incarnation)
        self._main = self.world.loop.create_task(self.daemon.run(), context=incarnation.context)
        self.world.oracle.booted(self)

    def crash(self, words: str) -> None:
        """Kill the daemon where it stands: nothing of it runs any more."""
        if self.daemon is None:
            return
        self.world.note(self, f"daemon {self.daemons} {words}")
        daemon, self.daemon = self.daemon, None
        daemon.incarnation.dead = True
        self.world.dead.append(daemon)
        for task in daemon.incarnation.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio has no public way to drop a task of a machine that died
        self.world.net.listeners.pop(self.address, None)
        self.world.net.daemon_died(daemon.incarnation)
        # Not under the feet of a commit that is the last thing it does.
        self.world.later(0.0, daemon.database.tear_down)
        self.world.daemon_gone(self)

    def lose_power(self, words: str) -> None:
        """Switch the machine off: its programs go with it."""
        self.world.net.hosts_up.discard(self.address)
        self.boots += 1
        if self.daemon is None:
            self.world.note(self, words)
        self.crash(words)
        self.engine.lose_power()

    def stop(self) -> None:
        """Ask the daemon to stop, as SIGTERM does."""
        daemon = self.daemon
        if daemon is None or daemon.incarnation.stopping:
            return
        self.world.note(self, f"daemon {self.daemons} is asked to stop")
        daemon.incarnation.stopping = True
        assert self._main is not None
        self._main.cancel()
        self._main.add_done_callback(lambda _: self._stopped(daemon), context=self.world.net.nobody)

    def _stopped(self, daemon: Daemon) -> None:
        if self.daemon is not daemon:
            return
        self.world.note(self, f"daemon {self.daemons} has stopped")
        self.daemon = None
        daemon.incarnation.dead = True
        self.world.dead.append(daemon)
        self.world.net.daemon_died(daemon.incarnation)
        self.world.daemon_gone(self)

    def call(self, work: Callable[[Daemon], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Have the daemon do something on somebody's behalf; the task never ends if it dies meanwhile."""
        daemon = self.daemon
        assert daemon is not None

        async def when_ready() -> T:
            await daemon.ready.wait()
            return await work(daemon)

        return self.world.loop.create_task(when_ready(), context=daemon.incarnation.context)


async def _no_capabilities() -> dict[str, object]:
    return {}
