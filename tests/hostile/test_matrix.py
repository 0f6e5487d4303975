"""Every message of the wire, said by every kind of caller over both kinds of links: answered or refused as it declares.

The daemon executes one job that `orderer` has ordered, fed by `sender` and feeding `receiver`, which are introduced by it and
nothing else, and has one job of its own run by `executor`. `other` is allowed and has to do with none of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest

from rnd.protocol.job_messages import (
    JobCancel,
    JobCancelResponse,
    JobExplainRequest,
    JobExplainResponse,
    JobLogsRequest,
    JobLogsResponse,
    JobRequestMessage,
    JobResponseMessage,
    JobStartMessage,
    JobStartResponse,
    JobStatusRequest,
    JobStatusResponse,
    JobStatusUpdate,
)
from rnd.protocol.messages import (
    MESSAGE_TYPES,
    Ack,
    CapabilitiesRequest,
    CapabilitiesResponse,
    ChunkAck,
    DataChunk,
    DataTransferAccept,
    DataTransferComplete,
    DataTransferFailed,
    DataTransferPresent,
    DataTransferReject,
    DataTransferRequest,
    DataTransferStop,
    Hello,
    Message,
    PeerAddresses,
    Ping,
    Pong,
    ReachRequest,
    ReachResponse,
    Refusal,
    ServiceSearchRequest,
    ServiceSearchResponse,
)
from rnd.protocol.session import CloseCode
from rnd.types.definitions import JobPlan
from rnd.types.enums import JobStatus, LogStream, MountFunction
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, NodeId, PeerId
from rnd.types.orders import JobStatusReport
from rnd.types.peers import Caller
from tests.hostile.scripted_peer import CONTROL, DATA, ScriptedLink, ScriptedPeer, answer_politely, cast
from tests.hostile.stage import (
    INPUT,
    NODE,
    OUTPUT,
    SOURCE_JOB,
    Daemon,
    FarExecutor,
    daemon,
    end,
    fresh_transfer_id,
    fresh_uid,
    job_plan,
    manifest_of,
    offer,
    order,
    play,
    request,
    route,
    start,
)
from tests.protocol.examples import EXAMPLES
from tests.running_peers import wait_until

ALLOWED: Final = ("orderer", "other", "executor")
INTRODUCED: Final = ("sender", "receiver")
MANIFEST: Final = manifest_of({"a.txt": b"content"})

ANSWERED: Final = "answered"
NOT_PERMITTED: Final = "not_permitted"
NOT_FOUND: Final = "not_found"
UNSUPPORTED: Final = "unsupported"
NO_DUTY: Final = "no_duty"
REFUSED: Final = "refused"


@dataclass(slots=True)
class World:
    """The daemon and those who speak to it; `job_id` is the job that `orderer` has there, `mirror` its own one elsewhere."""

    daemon: Daemon
    job_uid: ExecutionUid
    job_id: JobExecutionId = field(default=SOURCE_JOB, init=False)
    peers: dict[str, ScriptedPeer] = field(default_factory=dict)
    mirror: JobStatusReport | None = None

    def report(self, **more: object) -> JobStatusReport:
        """Return a status of the daemon's own job that says nothing new."""
        fields = {
            "execution_uid": self.mirror_uid(),
            "node_id": NodeId(self.daemon.rows("SELECT node_id FROM job_executions WHERE workflow_job_id > 0")[0][0]),
            "job_execution_id": JobExecutionId(4711),
            "attempt": 1,
            "seq": 0,
            "status": JobStatus.IDLE,
            "error_message": None,
            "exit_code": None,
            "exit_signal": None,
            "started_at": None,
            "ended_at": None,
            "duties": (),
        }
        return JobStatusReport(**(fields | more))  # type: ignore[arg-type]  # a test's shorthand

    def mirror_uid(self) -> ExecutionUid:
        return ExecutionUid(self.daemon.rows("SELECT execution_uid FROM workflow_executions")[0][0])


@dataclass(frozen=True, slots=True)
class Entry:
    """One message: how it is made, and what each caller gets for it over a control and over a data link.

    Whoever is not named gets `others` if allowed; introduced peers, who have data links only, get `introduced`.
    """

    make: Callable[[World], Message]
    answer: type[Message]
    right: tuple[str, ...]
    others: str
    introduced: str
    control: str = ""
    """What everybody gets on a control link, if it is different there."""
    leaves: str = ""
    """A table in which an answer may leave something."""

    def expected(self, caller: str, kind: str) -> str:
        """Return the word for what a caller gets."""
        if kind == CONTROL and self.control:
            return self.control
        if caller in self.right:
            return ANSWERED
        return self.introduced if caller in INTRODUCED else self.others


def _start(world: World) -> Message:
    routes = (route(INPUT, SOURCE_JOB), route(OUTPUT, 901))
    return JobStartMessage(execution_uid=world.job_uid, node_id=NODE, job_execution_id=world.job_id, routes=routes)


def _request(world: World) -> Message:
    plan = _plan(world.daemon, world.peers["sender"], world.peers["receiver"])
    return request(world.job_uid, plan)


def _wrong_executor(world: World) -> Message:
    return request(fresh_uid(), job_plan(world.peers["other"].peer_id, {"id": 1, **_CAT}))


_CAT: Final = {"name": "cat", "service_type": "STANDALONE"}
REQUESTS: Final[dict[type[Message], Entry]] = {
    Ping: Entry(lambda _: Ping(), Pong, (*ALLOWED, *INTRODUCED), ANSWERED, ANSWERED),
    JobRequestMessage: Entry(_request, JobResponseMessage, ("orderer",), REFUSED, NOT_PERMITTED),
    JobStartMessage: Entry(_start, JobStartResponse, ("orderer",), NOT_FOUND, NOT_PERMITTED),
    # Whoever cancels an order that it has not made leaves word about its own orders only.
    JobCancel: Entry(
        lambda world: JobCancel(execution_uid=world.job_uid, node_id=NodeId(77), reason="no more"),
        JobCancelResponse,
        ALLOWED,
        ANSWERED,
        NOT_PERMITTED,
        leaves="cancelled_orders",
    ),
    JobStatusRequest: Entry(
        lambda world: JobStatusRequest(execution_uid=world.job_uid, node_ids=(NODE,)),
        JobStatusResponse,
        ("orderer",),
        "nothing",
        NOT_PERMITTED,
    ),
    JobStatusUpdate: Entry(
        lambda world: JobStatusUpdate(report=world.report()), Ack, ("executor",), ANSWERED, NOT_PERMITTED
    ),
    JobLogsRequest: Entry(
        lambda world: JobLogsRequest(
            execution_uid=world.job_uid, node_id=NODE, stream=LogStream.STDOUT, offset=0, limit_bytes=100
        ),
        JobLogsResponse,
        ("orderer",),
        NOT_FOUND,
        NOT_PERMITTED,
    ),
    JobExplainRequest: Entry(
        lambda world: JobExplainRequest(execution_uid=world.job_uid, node_id=NODE),
        JobExplainResponse,
        ("orderer",),
        NOT_FOUND,
        NOT_PERMITTED,
    ),
    PeerAddresses: Entry(
        lambda world: PeerAddresses(addresses=(world.peers["other"].record("127.0.0.1:9"),)),
        Ack,
        ALLOWED,
        ANSWERED,
        NOT_PERMITTED,
        leaves="address_records",
    ),
    ReachRequest: Entry(
        lambda world: ReachRequest(addresses=world.peers["other"].record("127.0.0.1:9")),
        ReachResponse,
        ALLOWED,
        ANSWERED,
        NOT_PERMITTED,
        leaves="address_records",
    ),
    ServiceSearchRequest: Entry(
        lambda _: ServiceSearchRequest(query="", service_type=None, active_only=False),
        ServiceSearchResponse,
        ALLOWED,
        ANSWERED,
        NOT_PERMITTED,
    ),
    CapabilitiesRequest: Entry(lambda _: CapabilitiesRequest(), CapabilitiesResponse, ALLOWED, ANSWERED, NOT_PERMITTED),
    DataTransferRequest: Entry(
        lambda world: offer(world.peers["orderer"], world.job_uid, world.job_id, MANIFEST),
        DataTransferAccept,
        ("sender",),
        NO_DUTY,
        NO_DUTY,
        control=UNSUPPORTED,
        leaves="transfers",
    ),
    DataTransferComplete: Entry(
        lambda _: DataTransferComplete(transfer_id=fresh_transfer_id(), success=True, bytes_received=0, error=None),
        DataTransferComplete,
        (),
        NOT_FOUND,
        NOT_FOUND,
        control=UNSUPPORTED,
    ),
    # Of a connection that is the caller's it would end the job; that is shown where transfers are.
    DataTransferFailed: Entry(
        lambda world: DataTransferFailed(
            ordering_peer_id=world.peers["orderer"].peer_id,
            execution_uid=world.job_uid,
            connection_id=OUTPUT,
            reason="never",
        ),
        Ack,
        (*ALLOWED, *INTRODUCED),
        ANSWERED,
        ANSWERED,
    ),
}
# Said by who may say it, each of these would move or end what is there; with the one who may.
MOVING: Final[dict[type[Message], tuple[str, Callable[[World], Message]]]] = {
    JobStatusUpdate: (
        "executor",
        lambda world: JobStatusUpdate(
            report=world.report(seq=50, status=JobStatus.ERRORED, error_message="no", duties=(ConnectionId(1),))
        ),
    ),
    JobCancel: ("orderer", lambda world: JobCancel(execution_uid=world.job_uid, node_id=NODE, reason="no more")),
    DataTransferFailed: (
        "sender",
        lambda world: DataTransferFailed(
            ordering_peer_id=world.peers["orderer"].peer_id,
            execution_uid=world.job_uid,
            connection_id=INPUT,
            reason="never",
        ),
    ),
}
UNANSWERED: Final[dict[type[Message], Callable[[], Message]]] = {
    DataChunk: lambda: DataChunk(stream=77, offset=0, data=b"x"),
    ChunkAck: lambda: ChunkAck(transfer_id=fresh_transfer_id(), offset=1),
    DataTransferPresent: lambda: DataTransferPresent(transfer_id=fresh_transfer_id(), bytes_read=0, present=b""),
    DataTransferStop: lambda: DataTransferStop(transfer_id=fresh_transfer_id(), reason="no"),
}
CALLERS: Final = (
    *((name, kind) for name in ALLOWED for kind in (CONTROL, DATA)),
    *((name, DATA) for name in INTRODUCED),
)


def _plan(peer: Daemon, sender: ScriptedPeer, receiver: ScriptedPeer) -> JobPlan:
    (service_id,) = peer.rows("SELECT id FROM offered_services WHERE name = 'cat'")[0]
    return job_plan(
        peer.peer_id,
        {"id": service_id, **_CAT},
        inputs=[end(sender.peer_id, INPUT, MountFunction.OUTPUT)],
        outputs=[end(receiver.peer_id, OUTPUT, MountFunction.INPUT, node=3)],
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    names = (*ALLOWED, *INTRODUCED, "pending", "denied", "stranger")
    peers = {name: ScriptedPeer(f"matrix {name}") for name in names}
    standings = {peers[name]: "allowed" for name in ALLOWED}
    standings |= {peers["pending"]: "pending", peers["denied"]: "denied"}
    with daemon(tmp_path_factory.mktemp("matrix"), standings) as peer:
        service = peer.cat(access="granted")
        peer.grant(peers["orderer"], service["id"], "discover", "order")
        world = World(daemon=peer, job_uid=fresh_uid(), peers=peers)
        play(_set_up(world))
        yield world


async def _set_up(world: World) -> None:
    """Order and start the job of `orderer`, and have the daemon order one of `executor`."""
    peer, peers = world.daemon, world.peers

    orderer = ScriptedPeer("matrix orderer")
    executor = ScriptedPeer("matrix executor")
    async with cast(orderer, executor):
        link = await peer.control(orderer)
        world.job_id = await order(link, world.job_uid, _plan(peer, peers["sender"], peers["receiver"]))
        await start(link, world.job_uid, world.job_id, route(INPUT, SOURCE_JOB), route(OUTPUT, 901))
        await FarExecutor(executor).be_given(peer, "elsewhere")


@asynccontextmanager
async def speaking(world: World, name: str, kind: str) -> AsyncIterator[ScriptedLink]:
    """Give a caller a link."""
    async with ScriptedPeer(f"matrix {name}", reply=_as_executor) as caller:
        yield await caller.link(world.daemon.peer_id, world.daemon.address, kind)


def _as_executor(message: Message) -> Message | None:
    """Answer for the job that runs elsewhere, so that it is not given up."""
    return None if isinstance(message, JobStatusRequest) else answer_politely(message)


def test_every_message_has_its_place_in_the_matrix() -> None:
    requests = {each for each in MESSAGE_TYPES.values() if each.is_request()}
    assert requests == set(REQUESTS)
    rest = {each for each in MESSAGE_TYPES.values() if not each.is_request() and not each.is_answer}
    assert rest == {*UNANSWERED, Hello}


@pytest.mark.parametrize("kind", [CONTROL, DATA])
@pytest.mark.parametrize("name", ["stranger", "pending", "denied", "sender", "receiver"])
def test_who_is_not_allowed_is_turned_away_before_any_upgrade(world: World, name: str, kind: str) -> None:
    before = world.daemon.snapshot()

    async def knock() -> None:
        async with ScriptedPeer(f"matrix {name}") as caller:
            words = await caller.refusal(world.daemon.peer_id, world.daemon.address, kind)
            if kind == DATA and name in INTRODUCED:
                assert words is None
            else:
                assert words is not None
                assert "does not admit" in words

    play(knock())
    assert world.daemon.snapshot() == before


@pytest.mark.parametrize(("name", "kind"), CALLERS, ids=lambda value: value.strip("/"))
@pytest.mark.parametrize("message_type", REQUESTS, ids=lambda each: each.type)
def test_a_request_is_answered_or_refused_as_its_caller_says(
    world: World, message_type: type[Message], name: str, kind: str
) -> None:
    entry = REQUESTS[message_type]
    expected = entry.expected(name, kind)
    before = world.daemon.snapshot()

    async def ask() -> None:
        async with speaking(world, name, kind) as link:
            answer = await link.ask(entry.make(world))
            assert _word(answer, entry) == expected, answer
            assert isinstance(await link.ask(Ping()), Pong)

    play(ask())
    leaves = {entry.leaves} if expected == ANSWERED else set()
    if message_type is DataTransferRequest and expected == ANSWERED:
        # What was accepted has lost its link; it is put back before anybody else has a turn.
        active = "SELECT COUNT(*) FROM transfers WHERE direction = 'INCOMING' AND status = 'ACTIVE'"
        wait_until(lambda: world.daemon.rows(active) == [(0,)], "a delivery without a link is put back")
    assert _without(world.daemon.snapshot(), leaves) == _without(before, leaves)


def _word(answer: Message, entry: Entry) -> str:
    match answer:
        case Refusal(code=code):
            return code.value
        case DataTransferReject(code=rejection):
            return rejection.value
        case JobResponseMessage(accepted=False):
            return REFUSED
        case JobStatusResponse(jobs=()):
            return "nothing"
    assert isinstance(answer, entry.answer)
    return ANSWERED


def _without(snapshot: dict[str, list[tuple[object, ...]]], tables: set[str]) -> dict[str, list[tuple[object, ...]]]:
    return {table: rows for table, rows in snapshot.items() if table not in tables}


@pytest.mark.parametrize(("name", "kind"), CALLERS, ids=lambda value: value.strip("/"))
def test_what_wants_no_answer_and_names_nothing_of_the_caller_changes_nothing(
    world: World, name: str, kind: str
) -> None:
    before = world.daemon.snapshot()

    async def tell() -> None:
        async with speaking(world, name, kind) as link:
            for make in UNANSWERED.values():
                await link.say(make())
            assert isinstance(await link.ask(Ping()), Pong)

    play(tell())
    assert world.daemon.snapshot() == before


@pytest.mark.parametrize(("name", "kind"), CALLERS, ids=lambda value: value.strip("/"))
def test_answers_to_nothing_are_ignored_and_a_second_greeting_ends_the_link(world: World, name: str, kind: str) -> None:
    before = world.daemon.snapshot()

    async def answer() -> None:
        async with speaking(world, name, kind) as link:
            for message, _ in EXAMPLES:
                if message.is_answer:
                    await link.say(message, reply_to=1_000_000)
            assert isinstance(await link.ask(Ping()), Pong)
            await link.say(ScriptedPeer("anybody").hello())
            assert await link.until_over() == CloseCode.MALFORMED

    play(answer())
    assert world.daemon.snapshot() == before


@pytest.mark.parametrize(("name", "kind"), CALLERS, ids=lambda value: value.strip("/"))
@pytest.mark.parametrize("message_type", MOVING, ids=lambda each: each.type)
def test_nobody_moves_or_ends_what_is_anothers(world: World, message_type: type[Message], name: str, kind: str) -> None:
    who_may, make = MOVING[message_type]
    if name == who_may:
        return  # its turn comes at the end
    before = world.daemon.snapshot()

    async def say() -> None:
        async with speaking(world, name, kind) as link:
            answer = await link.ask(make(world))
            assert not isinstance(answer, JobCancelResponse) or answer.status is None

    play(say())
    leaves = {"cancelled_orders"} if message_type is JobCancel else set()
    assert _without(world.daemon.snapshot(), leaves) == _without(before, leaves)


def test_a_job_for_another_peer_is_refused(world: World) -> None:
    before = world.daemon.snapshot()

    async def ask() -> None:
        async with speaking(world, "orderer", CONTROL) as link:
            answer = await link.ask(_wrong_executor(world))
            assert isinstance(answer, Refusal)
            assert answer.code.value == NOT_PERMITTED

    play(ask())
    assert world.daemon.snapshot() == before


def test_the_matrix_names_every_kind_of_caller() -> None:
    assert {each.caller for each in REQUESTS} | {each.caller for each in UNANSWERED} == set(Caller)


def test_the_job_and_its_mirror_are_as_they_were_after_all_of_this(world: World) -> None:
    assert world.daemon.job(world.job_id)["status"] == "IDLE"
    wait_until(
        lambda: world.daemon.rows("SELECT status FROM workflow_jobs") == [("IDLE",)], "the job elsewhere is still idle"
    )
    assert PeerId(world.peers["executor"].peer_id) in {
        row[0] for row in world.daemon.rows("SELECT executor_peer_id FROM job_executions")
    }


@pytest.mark.parametrize("message_type", [JobStatusUpdate, JobCancel], ids=lambda each: each.type)
def test_the_same_words_of_who_may_say_them_are_heard(world: World, message_type: type[Message]) -> None:
    """Last of all: nothing above could have passed because the words mean nothing."""
    who_may, make = MOVING[message_type]
    before = world.daemon.snapshot()

    async def say() -> None:
        async with speaking(world, who_may, CONTROL) as link:
            assert not isinstance(await link.ask(make(world)), Refusal)

    play(say())
    assert world.daemon.snapshot()["job_executions"] != before["job_executions"]


def test_a_notice_of_the_sender_ends_its_receiver(world: World) -> None:
    """As above; the job of the matrix has ended by now, so that another stands in for it."""

    async def say() -> None:
        async with speaking(world, "orderer", CONTROL) as orders, speaking(world, "sender", DATA) as link:
            world.job_uid = fresh_uid()
            plan = _plan(world.daemon, world.peers["sender"], world.peers["receiver"])
            world.job_id = await order(orders, world.job_uid, plan)
            await start(orders, world.job_uid, world.job_id, route(INPUT, SOURCE_JOB), route(OUTPUT, 901))
            _, make = MOVING[DataTransferFailed]
            assert isinstance(await link.ask(make(world)), Ack)

    play(say())
    assert world.daemon.job(world.job_id)["status"] == "CANCELLED"
