"""What an orchestrator may not do with services of others, whatever it says: grants, their limits, and where DATA goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from rnd.protocol.job_messages import JobResponseMessage
from rnd.protocol.messages import (
    DataTransferAccept,
    DataTransferFailed,
    DataTransferReject,
    DataTransferRequest,
    Message,
    Refusal,
    ServiceSearchRequest,
    ServiceSearchResponse,
)
from rnd.types.definitions import JobPlan
from rnd.types.enums import InterfaceType, MountFunction
from rnd.types.ids import SELF_PEER_JOB, ConnectionId
from rnd.types.peers import RejectionCode
from rnd.types.times import to_text
from tests.hostile.scripted_peer import ScriptedLink, ScriptedPeer, answer_politely, cast
from tests.hostile.stage import (
    INPUT,
    OUTPUT,
    SOURCE_JOB,
    Daemon,
    daemon,
    end,
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
from tests.running_peers import wait_until

SECRET = b"the patients' data\n" * 100
BIG = 10_000


def orderer() -> ScriptedPeer:
    return ScriptedPeer("rules orderer")


def receiver(name: str = "rules receiver") -> ScriptedPeer:
    """Return somebody who notes what is offered to it, and takes none of it."""

    def reply(message: Message) -> Message | None:
        if isinstance(message, DataTransferRequest):
            return DataTransferReject(transfer_id=message.transfer_id, code=RejectionCode.TOO_LARGE, reason="no")
        return answer_politely(message)

    return ScriptedPeer(name, reply=reply)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("rules")
    (folder / "secret.txt").write_bytes(SECRET)
    standings = {orderer(): "allowed", receiver(): "allowed", ScriptedPeer("rules other"): "allowed"}
    with daemon(folder, standings) as peer:
        yield peer


def data(peer: Daemon, name: str, **more: Any) -> dict[str, Any]:
    """Offer the secret under some rules."""
    path = str(peer.data_dir.parent / "secret.txt")
    return dict(peer.call("service.create", name=name, service_type="DATA", paths=[path], **more))


def carrying(peer: Daemon, service: Mapping[str, Any], to: str, *, node: int | None = 3, **more: Any) -> JobPlan:
    """Return a job that sends DATA to a peer."""
    outputs = [end(to, OUTPUT, MountFunction.INPUT, node=node, **more)]
    return job_plan(peer.peer_id, service, outputs=outputs, output_type=InterfaceType.MOUNT)


async def refused(link: ScriptedLink, plan: JobPlan, words: str) -> None:
    """Order what is not to be had."""
    for check_only in (True, False):
        answer = await link.ask(request(fresh_uid(), plan, check_only=check_only))
        assert isinstance(answer, JobResponseMessage), answer
        assert not answer.accepted
        assert words in "; ".join(answer.reasons)


# ---- grants


def test_a_service_is_seen_and_ordered_only_with_its_verbs(peer: Daemon) -> None:
    closed = peer.cat("closed", access="granted")
    seen = peer.cat("seen", access="granted")
    ours = peer.cat("ours", access="granted")
    peer.grant(orderer(), seen["id"], "discover")
    peer.grant(orderer(), ours["id"], "discover", "order")
    peer.grant(ScriptedPeer("rules other"), closed["id"], "discover", "order", "fetch")

    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            found = await link.ask(ServiceSearchRequest(query="", service_type=None, active_only=False))
            assert isinstance(found, ServiceSearchResponse)
            names = {service.name for service in found.services}
            assert names >= {"seen", "ours"}
            assert "closed" not in names
            await refused(link, job_plan(peer.peer_id, closed), "only with a grant")
            await refused(link, job_plan(peer.peer_id, seen), "only with a grant")
            await order(link, fresh_uid(), job_plan(peer.peer_id, ours))
            # What may not be ordered is not told apart from what has another name or type.
            by_name = job_plan(peer.peer_id, {**closed, "id": 10_000})
            await refused(link, by_name, "only with a grant")

    play(test())


def test_an_inactive_service_takes_no_order(peer: Daemon) -> None:
    service = peer.cat("asleep")
    peer.call("service.set_status", service_id=service["id"], status="INACTIVE")

    async def test() -> None:
        async with orderer() as who:
            await refused(await peer.control(who), job_plan(peer.peer_id, service), "INACTIVE")

    play(test())


def test_no_more_jobs_at_once_than_granted_even_side_by_side(peer: Daemon) -> None:
    service = peer.cat("two at a time", access="granted")
    other = ScriptedPeer("rules other")
    peer.grant(other, service["id"], "order", limits={"concurrent_jobs": 2})

    async def test() -> None:
        async with other as who:
            link = await peer.control(who)
            plan = job_plan(peer.peer_id, service, inputs=[end(who.peer_id, INPUT, MountFunction.OUTPUT)])
            begun = [await link.begin(request(fresh_uid(), plan)) for _ in range(10)]
            answers = [await link.answer_to(number) for number in begun]
            taken = [each for each in answers if isinstance(each, JobResponseMessage) and each.accepted]
            assert len(taken) == 2
            await refused(link, plan, "your grant allows 2")

    play(test())


def test_a_job_runs_no_longer_than_granted(peer: Daemon) -> None:
    service = peer.cat("short", access="granted")
    peer.grant(orderer(), service["id"], "order", limits={"max_runtime_s": 5})

    async def test() -> None:
        async with orderer() as who:
            job_id = await order(await peer.control(who), fresh_uid(), job_plan(peer.peer_id, service))
            assert peer.rows("SELECT max_runtime_s FROM job_executions WHERE id = ?", job_id) == [(5.0,)]

    play(test())


def test_no_more_bytes_come_in_than_granted(peer: Daemon) -> None:
    service = peer.cat("small inputs", access="granted")
    peer.grant(orderer(), service["id"], "order", limits={"max_bytes": BIG})

    async def test() -> None:
        async with orderer() as who:
            link, bytes_link = await peer.control(who), await peer.data_link(who)
            plan = job_plan(peer.peer_id, service, inputs=[end(who.peer_id, INPUT, MountFunction.OUTPUT)])
            uid = fresh_uid()
            job_id = await order(link, uid, plan)
            await start(link, uid, job_id, route(INPUT, SOURCE_JOB))
            answer = await bytes_link.ask(offer(who, uid, job_id, manifest_of({"a": bytes(BIG + 1)})))
            assert isinstance(answer, DataTransferReject)
            assert answer.code is RejectionCode.TOO_LARGE
            answer = await bytes_link.ask(offer(who, uid, job_id, manifest_of({"a": bytes(BIG)})))
            assert isinstance(answer, DataTransferAccept)

    play(test())


def test_no_more_bytes_go_out_than_granted(peer: Daemon) -> None:
    service = data(peer, "large", access="granted")
    peer.grant(orderer(), service["id"], "order", limits={"max_bytes": len(SECRET) - 1})

    async def test() -> None:
        await sent_nothing(peer, carrying(peer, service, receiver().peer_id), "your grant allows")

    play(test())


def test_a_grant_that_is_taken_back_leaves_no_bytes_instead_of_no_bound(peer: Daemon) -> None:
    service = peer.cat("granted for a time", access="granted")
    large = data(peer, "large for a time", access="granted")
    for each in (service, large):
        peer.grant(orderer(), each["id"], "order", limits={"max_bytes": BIG})

    def take_back(service_id: int) -> None:
        (grant,) = peer.call("grant.list", service_id=service_id)["items"]
        peer.call("grant.remove", grant_id=grant["id"])

    async def test() -> None:
        async with orderer() as who:
            link, bytes_link = await peer.control(who), await peer.data_link(who)
            plan = job_plan(peer.peer_id, service, inputs=[end(who.peer_id, INPUT, MountFunction.OUTPUT)])
            uid = fresh_uid()
            job_id = await order(link, uid, plan)
            await start(link, uid, job_id, route(INPUT, SOURCE_JOB))
            take_back(service["id"])
            answer = await bytes_link.ask(offer(who, uid, job_id, manifest_of({"a": b"?"})))
            assert isinstance(answer, DataTransferReject)
            assert answer.code is RejectionCode.TOO_LARGE
        async with orderer() as who:
            link, uid = await peer.control(who), fresh_uid()
            job_id = await order(link, uid, carrying(peer, large, receiver().peer_id))
            take_back(large["id"])
            await start(link, uid, job_id, route(OUTPUT, 901))
            await until_job_ended(peer, job_id)
            assert "your grant allows 0" in peer.job(job_id)["error"]

    play(test())


# ---- the owner's arguments


@pytest.mark.parametrize("more", [{"entrypoint": ("/bin/sh", "-c")}, {"cmd": ("-n",)}], ids=["entrypoint", "cmd"])
def test_what_is_executed_is_the_owners_word(peer: Daemon, more: dict[str, Any]) -> None:
    service = peer.cat(f"fixed {next(iter(more))}")

    async def test() -> None:
        async with orderer() as who:
            await refused(await peer.control(who), job_plan(peer.peer_id, service, **more), "lets nobody else choose")

    play(test())


def test_arguments_that_may_be_chosen_do_not_choose_the_program(peer: Daemon) -> None:
    service = peer.cat("free arguments", allow_override=True)

    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            await order(link, fresh_uid(), job_plan(peer.peer_id, service, cmd=("-n",)))
            plan = job_plan(peer.peer_id, service, entrypoint=("/bin/sh",), cmd=("-c", "id"))
            await refused(link, plan, "lets nobody else choose")

    play(test())


# ---- where DATA goes


def test_phase_1_refuses_every_place_that_the_owner_has_not_named(peer: Daemon) -> None:
    here = data(peer, "here only", egress="here_only")
    listed = data(peer, "listed", egress="listed", egress_peers=[receiver().peer_id])
    kept = data(peer, "kept", downloadable=False)
    stranger = ScriptedPeer("rules stranger")

    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            await refused(link, carrying(peer, here, receiver().peer_id), "owner's egress rule")
            await refused(link, carrying(peer, here, who.peer_id, node=None), "owner's egress rule")
            await refused(link, carrying(peer, listed, stranger.peer_id), "owner's egress rule")
            await refused(link, carrying(peer, listed, who.peer_id, node=None), "owner's egress rule")
            await refused(link, carrying(peer, kept, who.peer_id, node=None), "not downloadable")
            await refused(link, carrying(peer, kept, who.peer_id), "not downloadable")
            # A job on the way that neither sends nor receives by its own word is asked about all the same.
            both = end(receiver().peer_id, OUTPUT, MountFunction.BOTH, node=3)
            plan = job_plan(peer.peer_id, here, outputs=[both], output_type=InterfaceType.MOUNT)
            await refused(link, plan, "owner's egress rule")

    play(test())


async def sent_nothing(peer: Daemon, plan: JobPlan, words: str, *, to_job: int = 901, change: str = "") -> None:
    """Order a DATA job that phase 1 takes, change the rules if so, start it, and see that nothing of it is even offered."""
    async with cast(who := orderer(), taker := receiver()):
        link = await peer.control(who)
        theirs = [await peer.data_link(who), await peer.data_link(taker), await peer.control(taker)]
        uid = fresh_uid()
        job_id = await order(link, uid, plan)
        if change:
            peer.sql(change)
        await start(link, uid, job_id, route(OUTPUT, to_job, None if to_job == SELF_PEER_JOB else 30))
        query = "SELECT status, error FROM transfers WHERE source_job_execution_id = ? AND direction = 'OUTGOING'"
        await until_ended(peer, query, job_id)
        ((status, error),) = peer.rows(query, job_id)
        assert status == "FAILED"
        assert words in error
        offers = [each for one in theirs for each in one.heard_of(DataTransferRequest)]
        assert not [each for each in offers if isinstance(each, DataTransferRequest) and each.execution_uid == uid]
        assert not any(one.frames for one in theirs)


async def until_ended(peer: Daemon, query: str, job_id: int) -> None:
    """Wait until a job's one delivery has ended, while links go on."""
    await asyncio.to_thread(
        wait_until,
        lambda: [row[0] for row in peer.rows(query, job_id)] not in ([], ["PENDING"], ["ACTIVE"]),
        "the delivery has ended",
    )


@pytest.mark.parametrize("rule", ["here_only", "listed"])
def test_a_rule_that_changed_after_phase_1_holds_at_the_transfer(peer: Daemon, rule: str) -> None:
    service = data(peer, f"changed to {rule}")
    settings = f"json_set(settings, '$.egress', '{rule}', '$.egress_peers', json('[]'))"

    async def test() -> None:
        change = f"UPDATE offered_services SET settings = {settings} WHERE id = {service['id']}"
        await sent_nothing(peer, carrying(peer, service, receiver().peer_id), "owner's egress rule", change=change)

    play(test())


def test_a_start_that_turns_a_job_into_the_self_peer_does_not_download(peer: Daemon) -> None:
    """The request names a job on the receiver; the start says that it is the self-peer after all."""
    kept = data(peer, "kept from self-peers", downloadable=False)
    unfetched = data(peer, "ordered, not fetched", access="granted")
    peer.grant(orderer(), unfetched["id"], "order")

    async def test() -> None:
        await sent_nothing(peer, carrying(peer, kept, receiver().peer_id), "not downloadable", to_job=SELF_PEER_JOB)
        plan = carrying(peer, unfetched, orderer().peer_id)
        await sent_nothing(peer, plan, "only with a grant", to_job=SELF_PEER_JOB)

    play(test())


def test_a_start_that_names_a_job_of_another_order_here_feeds_nobody(peer: Daemon) -> None:
    service, victim = data(peer, "for the neighbour"), peer.cat("victim")

    async def test() -> None:
        async with cast(who := orderer(), other := ScriptedPeer("rules other")):
            link, theirs = await peer.control(who), await peer.control(other)
            plan = job_plan(peer.peer_id, victim, inputs=[end(peer.peer_id, OUTPUT, MountFunction.OUTPUT)])
            their_uid, uid = fresh_uid(), fresh_uid()
            their_job = await order(theirs, their_uid, plan)
            await start(theirs, their_uid, their_job, route(OUTPUT, 1))
            job_id = await order(link, uid, carrying(peer, service, peer.peer_id))
            await start(link, uid, job_id, route(OUTPUT, their_job))
            await until_job_ended(peer, job_id)
            assert "another execution" in peer.job(job_id)["error"]
            assert peer.job(their_job)["status"] == "IDLE"
            assert peer.rows("SELECT COUNT(*) FROM transfers WHERE dest_job_execution_id = ?", their_job) == [(0,)]

    play(test())


async def until_job_ended(peer: Daemon, job_id: int) -> None:
    """Wait until a job has ended, while links go on."""
    await asyncio.to_thread(
        wait_until, lambda: peer.job(job_id)["status"] not in ("IDLE", "READY", "RUNNING"), "the job has ended"
    )


def test_routes_of_connections_that_the_request_did_not_name_lead_nowhere(peer: Daemon) -> None:
    service = data(peer, "one way")

    async def test() -> None:
        async with orderer() as who:
            link = await peer.control(who)
            uid = fresh_uid()
            job_id = await order(link, uid, carrying(peer, service, who.peer_id))
            before = peer.rows("SELECT COUNT(*) FROM job_interface_peers")
            await start(link, uid, job_id, route(ConnectionId(66), 5), route(OUTPUT, 901))
            assert peer.rows("SELECT COUNT(*) FROM job_interface_peers") == before
            assert peer.rows("SELECT COUNT(*) FROM transfers WHERE connection_id = 66") == [(0,)]

    play(test())


def test_a_peer_that_is_denied_is_no_end_of_a_job(peer: Daemon) -> None:
    service = data(peer, "to the denied")
    denied = ScriptedPeer("rules denied")
    peer.sql(
        "INSERT INTO peers (peer_id, name, state, created_at, updated_at) VALUES (:id, 'denied', 'denied', :now, :now)",
        id=denied.peer_id,
        now=to_text(datetime.now(UTC)),
    )

    async def test() -> None:
        async with orderer() as who:
            await refused(await peer.control(who), carrying(peer, service, denied.peer_id), "is denied here")

    play(test())


def test_a_notice_about_a_connection_of_others_ends_nothing(peer: Daemon) -> None:
    service = peer.cat("waiting")

    async def test() -> None:
        async with cast(who := orderer(), other := ScriptedPeer("rules other")):
            link, theirs = await peer.control(who), await peer.control(other)
            uid = fresh_uid()
            plan = job_plan(peer.peer_id, service, inputs=[end(receiver().peer_id, INPUT, MountFunction.OUTPUT)])
            job_id = await order(link, uid, plan)
            await start(link, uid, job_id, route(INPUT, SOURCE_JOB))
            notice = DataTransferFailed(
                ordering_peer_id=who.peer_id, execution_uid=uid, connection_id=INPUT, reason="never"
            )
            assert not isinstance(await theirs.ask(notice), Refusal)
            assert peer.job(job_id)["status"] == "IDLE"

    play(test())
