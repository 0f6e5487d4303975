"""The half of the composition root that makes everything between this peer and others, and runs it.

The managers of this peer know of it only what they are given: endpoints of other peers, and bells.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from rnd.core.job_manager import JobManager
from rnd.core.two_phases import EndpointOf
from rnd.database import job_executions, mirrors, node_facts
from rnd.database.connection import Database
from rnd.database.consequences import give_up_mirror
from rnd.database.news import News
from rnd.log import get_logger
from rnd.p2p.address_news import AddressNews
from rnd.p2p.courier import Courier
from rnd.p2p.data_handler import DataHandler
from rnd.p2p.dialing import Dialer
from rnd.p2p.identity import Identity
from rnd.p2p.incoming import Incoming
from rnd.p2p.job_handler import JobHandler
from rnd.p2p.listener import PeerListener
from rnd.p2p.outgoing import Outgoing
from rnd.p2p.own_addresses import own_record
from rnd.p2p.pairing import Pairing
from rnd.p2p.peer_book import PeerBook
from rnd.p2p.peer_desk import PeerDesk
from rnd.p2p.peer_manager import PeerManager
from rnd.p2p.questions import Questions
from rnd.p2p.remote_executor import RemoteExecutor
from rnd.p2p.seals import Seals
from rnd.p2p.tls import ServerGate
from rnd.protocol.job_messages import JobCancel, JobCancelResponse
from rnd.protocol.messages import Hello, Message
from rnd.protocol.session import PROTOCOL_MAX, PROTOCOL_MIN
from rnd.types.config import Config
from rnd.types.enums import LogStream, TlsGate
from rnd.types.errors import DatabaseGone
from rnd.types.executions import JobExecution
from rnd.types.ids import PeerId
from rnd.types.log_events import LogEvent
from rnd.types.orders import JobEndpoint
from rnd.types.peers import AddressRecord
from rnd.types.seams import Clock, Entropy
from rnd.workers.deliveries import DeliveryDesk
from rnd.workers.disk_guard import DiskGuard
from rnd.workers.insistence import insist
from rnd.workers.job_folders import JobFolders
from rnd.workers.job_logs import read_log
from rnd.workers.news_board import NewsBoard

ADDRESSES_ISSUED_AT_MS: Final = "addresses_issued_at_ms"

Capabilities = Callable[[], Awaitable[Mapping[str, object]]]

log = get_logger()


@dataclass(slots=True, kw_only=True)
class PeerSide:
    """Everything about other peers. `attach` completes it, `start` listens, `run` lives until cancelled.

    `make_dialer` and `make_listener` make both ends of connections: whatever they speak, it has to prove who is there.
    `make_gate` makes what the listener is told of whom it may let through.
    """

    config: Config
    database: Database
    clock: Clock
    entropy: Entropy
    identity: Identity
    folders: JobFolders
    disk: DiskGuard
    board: NewsBoard
    desk: DeliveryDesk
    name: str
    make_dialer: Callable[[Identity], Dialer] = Dialer
    make_listener: Callable[..., PeerListener] = PeerListener
    make_gate: Callable[[Identity, TlsGate], ServerGate] = ServerGate
    dialer: Dialer = field(init=False)
    book: PeerBook = field(init=False)
    links: PeerManager = field(init=False)
    pairing: Pairing = field(init=False)
    peer_desk: PeerDesk = field(init=False)
    listener: PeerListener | None = field(init=False, default=None)
    _instance_id: str = field(init=False)
    _record: AddressRecord | None = field(init=False, default=None)
    _job_manager: JobManager = field(init=False)
    _job_handler: JobHandler = field(init=False)
    _data_handler: DataHandler = field(init=False)
    _courier: Courier = field(init=False)
    _address_news: AddressNews = field(init=False)
    _group: asyncio.TaskGroup | None = field(init=False, default=None)
    _polls: dict[PeerId, bool] = field(init=False, default_factory=dict)
    """The peers that are being asked after their jobs, and whether each is to be asked once more."""

    def __post_init__(self) -> None:
        self._instance_id = self.entropy.random_bytes(16).hex()
        self.dialer = self.make_dialer(self.identity)
        gate = self.make_gate(self.identity, TlsGate(self.config.tls_gate))
        peer_id = self.identity.peer_id
        self.book = PeerBook(database=self.database, clock=self.clock, gate=gate, peer_id=peer_id)
        self.links = PeerManager(
            database=self.database,
            clock=self.clock,
            entropy=self.entropy,
            dialer=self.dialer,
            book=self.book,
            hello=self._hello,
            peer_id=peer_id,
        )
        self.pairing = Pairing(
            database=self.database,
            clock=self.clock,
            entropy=self.entropy,
            dialer=self.dialer,
            book=self.book,
            name=self.name,
            peers_at_most=self.config.limits.peers,
            peer_id=peer_id,
            own_record=lambda: self._record,
            own_addresses=lambda: () if self._record is None else self._record.addresses,
        )
        self.peer_desk = PeerDesk(
            database=self.database,
            clock=self.clock,
            links=self.links,
            book=self.book,
            pairing=self.pairing,
            stop_orders=self._stop_orders,
            peer_id=peer_id,
        )
        if self.config.peer:
            host, _, port = self.config.peer.rpartition(":")
            self.listener = self.make_listener(
                gate,
                host.strip("[]"),
                int(port),
                routes=[*self.links.routes(), *self.pairing.routes()],
                admit=self.book.admit,
            )

    def endpoint_of(self, here: Callable[[], JobEndpoint]) -> EndpointOf:
        """Return what finds the endpoint of an executor: this peer's JobManager, or one of another peer."""
        endpoints: dict[PeerId, JobEndpoint] = {}

        def find(executor: PeerId) -> JobEndpoint:
            if executor == self.identity.peer_id:
                return here()
            if executor not in endpoints:
                endpoints[executor] = RemoteExecutor(
                    executor,
                    database=self.database,
                    clock=self.clock,
                    entropy=self.entropy,
                    links=self.links,
                    board=self.board,
                    own_record=lambda: self._record,
                    peer_id=self.identity.peer_id,
                )
            return endpoints[executor]

        return find

    def attach(self, job_manager: JobManager, capabilities: Capabilities) -> None:
        """Take what answers other peers' orders and questions."""
        peer_id = self.identity.peer_id
        self._job_manager = job_manager
        seals = Seals(self.identity, self.entropy)
        incoming = Incoming(
            database=self.database,
            clock=self.clock,
            config=self.config,
            folders=self.folders,
            disk=self.disk,
            board=self.board,
            seals=seals,
            peer_id=peer_id,
        )
        outgoing = Outgoing(
            database=self.database,
            clock=self.clock,
            config=self.config,
            desk=self.desk,
            disk=self.disk,
            board=self.board,
            links=self.links,
            seals=seals,
            peer_id=peer_id,
        )
        self._data_handler = DataHandler(
            database=self.database, links=self.links, outgoing=outgoing, incoming=incoming, peer_id=peer_id
        )
        self._job_handler = JobHandler(
            database=self.database,
            clock=self.clock,
            links=self.links,
            job_manager=job_manager,
            board=self.board,
            read_log=self._read_log,
            peers_changed=self.book.refresh,
            duties_changed=self._data_handler.duties_changed,
            data_dir=self.folders.data_dir,
            peer_id=peer_id,
        )
        self._courier = Courier(
            database=self.database,
            clock=self.clock,
            links=self.links,
            book=self.book,
            answers={JobCancel: self._cancel_answered},
        )
        questions = Questions(database=self.database, links=self.links, book=self.book, capabilities=capabilities)
        self._address_news = AddressNews(database=self.database, links=self.links, peer_id=peer_id)
        self.links.answer_with(
            {**self._job_handler.handlers(), **questions.handlers(), **self._address_news.handlers()}
        )
        self.links.when_reached(self._courier.wake)
        self.links.when_connected(self._newcomer)
        self.database.on_commit(self._committed)
        self.board.when_started = self._data_handler.duties_changed

    async def start(self) -> tuple[str, ...]:
        """Listen, and return the addresses that others are told."""
        await self.book.refresh()
        host, port = "", 0
        if self.listener is not None:
            await self.listener.start()
            host, port = self.config.peer.rpartition(":")[0].strip("[]"), self.listener.port
        if host or self.config.advertise:
            issued_at_ms, _ = await insist(self.database, self._next_issue)
            self._record = own_record(
                self.identity,
                advertised=self.config.advertise,
                host=host or "127.0.0.1",
                port=port,
                issued_at_ms=issued_at_ms,
            )
        return () if self._record is None else self._record.addresses

    def _next_issue(self, conn: sqlite3.Connection, _: News) -> int:
        """Return a moment for a record of addresses that is later than that of any before, whatever the clock was then.

        Others keep the newest record: had a clock once been a year ahead, they would not hear of new addresses for a year.
        """
        now_ms = int(self.clock.now().timestamp() * 1000)
        issued_at_ms = max(now_ms, int(node_facts.find_fact(conn, ADDRESSES_ISSUED_AT_MS) or 0) + 1)
        node_facts.set_fact(conn, ADDRESSES_ISSUED_AT_MS, str(issued_at_ms))
        return issued_at_ms

    async def run(self) -> None:
        """Keep links, carry letters and bytes, and ask after jobs, until cancelled."""
        async with self.dialer, asyncio.TaskGroup() as group:
            self._group = group
            if self.listener is not None:
                group.create_task(self.listener.run())
            for part in (self.links, self._courier, self._data_handler):
                group.create_task(part.run())
            try:
                while True:
                    await asyncio.sleep(self.config.status_interval_s)
                    for peer_id in self.links.connected():
                        self._poll(peer_id)
            finally:
                self._group = None  # a group that is ending takes no more tasks

    def _newcomer(self, peer_id: PeerId) -> None:
        self._poll(peer_id)
        if self._group is not None:
            self._group.create_task(self._pass_on_addresses(peer_id))

    async def _pass_on_addresses(self, peer_id: PeerId) -> None:
        try:
            await self._address_news.pass_on(peer_id)
        except DatabaseGone:
            raise
        except Exception:
            log.exception(LogEvent.INTERNAL_ERROR, where="addresses", peer_id=peer_id)

    def _poll(self, peer_id: PeerId) -> None:
        """Have a peer asked after its jobs: each by itself, so that one that is silent holds up no other."""
        if peer_id in self._polls:
            self._polls[peer_id] = True
        elif self._group is not None:
            self._polls[peer_id] = True
            self._group.create_task(self._poll_while_due(peer_id))

    async def _poll_while_due(self, peer_id: PeerId) -> None:
        try:
            while self._polls[peer_id] and self.links.is_connected(peer_id):
                self._polls[peer_id] = False
                await self._job_handler.poll(peer_id)
        except DatabaseGone:
            raise
        except Exception:
            log.exception(LogEvent.INTERNAL_ERROR, where="poll", peer_id=peer_id)
        finally:
            del self._polls[peer_id]

    def _committed(self) -> None:
        if self.links.connected() or self.book.has_introduced():
            self._courier.ring()

    def _hello(self) -> Hello:
        return Hello(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            instance_id=self._instance_id,
            name=self.name[:256],
            addresses=self._record,
        )

    async def _read_log(
        self, job: JobExecution, stream: LogStream, offset: int, limit_bytes: int
    ) -> tuple[bytes, bool]:
        return await asyncio.to_thread(read_log, self.folders, job, stream, offset, limit_bytes)

    async def _cancel_answered(self, peer: PeerId, letter: Message, answer: Message) -> None:
        """Where an executor has no such job, its mirror, if there is one, has nothing more to report."""
        assert isinstance(letter, JobCancel)
        if not isinstance(answer, JobCancelResponse) or answer.status is not None:
            return
        now = self.clock.now()

        def work(conn: sqlite3.Connection, news: News) -> None:
            mirror = mirrors.find_mirror(
                conn,
                self_peer_id=self.identity.peer_id,
                execution_uid=letter.execution_uid,
                node_id=letter.node_id,
                executor=peer,
            )
            if mirror is not None:
                give_up_mirror(conn, mirror, letter.reason, now=now, news=news)

        _, news = await insist(self.database, work)
        self.board.publish(news)

    async def _stop_orders(self, peer: PeerId, reason: str) -> None:
        """Cancel what a peer has ordered here that has not ended."""
        ids = await self.database.read(lambda conn: job_executions.list_open_of_orderer(conn, peer))
        if ids:
            await self._job_manager.cancel_jobs(ids, reason=reason)
