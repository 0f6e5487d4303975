"""Jobs that another peer orders here: answered as before, bounded, cancelled before they come, let go of after their hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rnd.core.retention import Retention
from rnd.database import cancelled_orders, grants, introductions, peers
from rnd.types.config import Deadlines, Limits
from rnd.types.definitions import InterfacePeerPlan, JobPlan
from rnd.types.enums import InterfaceType, MountFunction, PeerState, Verb
from rnd.types.errors import StaleState
from rnd.types.ids import ConnectionId, ExecutionUid, JobExecutionId, NodeId, PeerId, ServiceId, WorkflowJobId
from rnd.types.orders import ForeignBounds, JobRequest, JobResponse, JobStart, Route
from rnd.types.peers import GrantLimits
from rnd.types.times import to_text
from tests.core.core_peer import ME, Daemon, Machine, Script, edge

ORDERER, THIRD = PeerId("rnorderer"), PeerId("rnthird")
UID = ExecutionUid("ab" * 16)
BOUNDS = ForeignBounds(deadline_s=100.0, transfer_idle_s=5.0, hold_s=50.0)


def _request(plan: JobPlan, *, node: int | None = None) -> JobRequest:
    return JobRequest(
        orchestrator_peer_id=ORDERER,
        execution_uid=UID,
        workflow_execution_id=None,
        workflow_job_id=WorkflowJobId(5),
        plan=plan if node is None else replace(plan, node_id=NodeId(node)),
        start_by_s=60.0,
        max_runtime_s=60.0,
        bounds=BOUNDS,
    )


async def _plan(daemon: Daemon, script: Script | None = None, *, feeds: PeerId | None = None) -> JobPlan:
    """Return the plan of a program that an allowed peer may order, and that feeds a job of `feeds` if one is given."""
    now = daemon.clock.now()
    await daemon.database.write(
        lambda conn: peers.add_peer(conn, ORDERER, self_peer_id=ME, state=PeerState.ALLOWED, now=now)
    )
    services = [await daemon.program("a", script), await daemon.program("b")]
    edges = [] if feeds is None else [edge(0, 1)]
    drawn = await daemon.draw(services, edges)
    report = await daemon.workflow_manager.validate(drawn.workflow_id)
    assert report.definition is not None
    plan = report.definition.jobs[0]
    if feeds is None:
        return plan
    interfaces = tuple(
        replace(interface, interface_peers=tuple(replace(peer, peer_id=feeds) for peer in interface.interface_peers))
        for interface in plan.interfaces
    )
    return replace(plan, interfaces=interfaces)


async def _order(daemon: Daemon, request: JobRequest) -> JobResponse:
    (answer,) = await daemon.job_manager.create_jobs([request])
    return answer


def test_an_ordered_job_runs_and_reports_its_end(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        answer = await _order(daemon, _request(await _plan(daemon)))
        assert answer.job_execution_id is not None
        await daemon.job_manager.start_jobs([JobStart(job_execution_id=answer.job_execution_id, routes=())])
        await daemon.eventually("SELECT status FROM job_executions", ("COMPLETED",))
        query = "SELECT peer_id, json_extract(body, '$.status'), json_extract(body, '$.seq') FROM outbox"
        assert await daemon.sql(query) == [(ORDERER, "COMPLETED", 3)]
        assert await daemon.sql("SELECT workflow_job_id, order_workflow_job_id FROM job_executions") == [(None, 5)]

    machine.play(play)


def test_the_same_request_gets_the_same_answer_whatever_has_changed_since(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        request = _request(await _plan(daemon))
        first = await _order(daemon, request)
        await daemon.by_hand("UPDATE offered_services SET status = 'INACTIVE'")
        assert await _order(daemon, request) == first
        assert (await _order(daemon, replace(request, plan=replace(request.plan, node_id=NodeId(99))))).reasons != ()

    machine.play(play, is_idle=True)


def test_the_same_key_with_other_content_is_a_contradiction(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        request = _request(await _plan(daemon))
        await _order(daemon, request)
        with pytest.raises(StaleState, match="was requested before with other content"):
            await _order(daemon, replace(request, max_runtime_s=59.0))

    machine.play(play, is_idle=True)


def test_a_pinned_job_runs_with_the_revision_that_it_names_and_with_no_other(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        request = _request(await _plan(daemon))
        await daemon.by_hand("UPDATE offered_services SET revision = 4 WHERE name = 'a'")
        wrong = replace(request, plan=replace(request.plan, pinned_revision=3))
        reasons = ("service a is at revision 4, and the job is pinned to 3",)
        assert (await daemon.job_manager.check_jobs([wrong]))[0].reasons == reasons
        assert (await _order(daemon, wrong)).reasons == reasons
        answer = await _order(daemon, replace(request, plan=replace(request.plan, pinned_revision=4)))
        assert answer.job_execution_id is not None
        assert answer.service_revision == 4

    machine.play(play, is_idle=True)


def test_no_other_service_of_its_name_stands_in_for_that_of_a_pinned_job(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        request = _request(await _plan(daemon))
        elsewhere = replace(request.plan, service_id=ServiceId(99))
        assert (await daemon.job_manager.check_jobs([replace(request, plan=elsewhere)]))[0].reasons == ()
        pinned = replace(request, plan=replace(elsewhere, pinned_revision=1))
        assert (await _order(daemon, pinned)).reasons == ("Service 99 not found",)

    machine.play(play, is_idle=True)


def test_an_order_that_was_cancelled_before_it_came_is_refused(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        request = _request(await _plan(daemon))
        now = daemon.clock.now()
        await daemon.database.write(
            lambda conn: cancelled_orders.add_tombstone(
                conn,
                ordering_peer_id=ORDERER,
                execution_uid=UID,
                node_id=request.plan.node_id,
                reason="no more",
                now=now,
            )
        )
        answer = await _order(daemon, request)
        assert answer.reasons == ("the order was cancelled before it came: no more",)

    machine.play(play, is_idle=True)


def test_a_service_is_found_by_name_only_where_its_id_is_not_known(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _plan(daemon)
        elsewhere = await _order(daemon, _request(replace(plan, service_id=ServiceId(404))))
        assert elsewhere.job_execution_id is not None
        other = replace(plan, node_id=NodeId(9), service_name="b")
        assert (await _order(daemon, _request(other))).reasons == ("service 1 is called a here, not b",)
        unknown = replace(plan, node_id=NodeId(10), service_id=ServiceId(404), service_name="nobody's")
        assert (await _order(daemon, _request(unknown))).reasons == ("Service 404 not found",)

    machine.play(play, is_idle=True)


def test_the_peers_that_a_job_exchanges_data_with_are_introduced_until_its_hold_ends(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        request = _request(await _plan(daemon, feeds=THIRD))
        answer = await _order(daemon, request)
        assert answer.reasons == ()
        now = daemon.clock.now()

        async def is_introduced() -> bool:
            moment = daemon.clock.now()
            return await daemon.database.read(lambda conn: introductions.is_introduced(conn, THIRD, now=moment))

        assert await is_introduced()
        daemon.clock.move(BOUNDS.deadline_s + BOUNDS.hold_s + 1)
        assert not await is_introduced()
        assert daemon.clock.now() > now

    machine.play(play, is_idle=True)


def test_the_jobs_of_one_peer_introduce_no_more_others_than_this_peer_may_know(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _plan(daemon, feeds=THIRD)
        most = Limits().peers

        def naming(*numbers: int) -> JobPlan:
            (interface,) = (each for each in plan.interfaces if each.interface_peers)
            (peer,) = interface.interface_peers
            named = tuple(
                replace(peer, peer_id=PeerId(f"rn{number}"), connection_id=ConnectionId(number)) for number in numbers
            )
            return replace(plan, interfaces=(replace(interface, interface_peers=named),))

        refusal = f"your jobs here would name {most + 1} other peers; {most} are allowed (limits.peers)"
        assert (await _order(daemon, _request(naming(*range(1, most + 2)), node=1))).reasons == (refusal,)
        assert (await _order(daemon, _request(naming(*range(1, most + 1)), node=2))).reasons == ()
        assert (await _order(daemon, _request(naming(1, 2, most), node=3))).reasons == ()
        assert (await _order(daemon, _request(naming(1, most + 1), node=4))).reasons == (refusal,)

        daemon.clock.move(BOUNDS.deadline_s + BOUNDS.hold_s + 1)
        assert (await _order(daemon, _request(naming(most + 1), node=5))).reasons == ()

    machine.play(play, is_idle=True)


def test_nobodys_order_gets_more_time_than_the_owner_gives(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _plan(daemon, feeds=THIRD)
        forever = ForeignBounds(deadline_s=1e9, transfer_idle_s=1e9, hold_s=1e9)
        request = replace(_request(plan), start_by_s=1e9, max_runtime_s=1e9, bounds=forever)
        now, own = daemon.clock.now(), Deadlines()
        assert (await _order(daemon, request)).reasons == ()
        columns = "start_by, deadline_at, max_runtime_s, transfer_idle_s, hold_s"
        assert await daemon.sql(f"SELECT {columns} FROM job_executions") == [
            (
                to_text(now + timedelta(seconds=own.start_by_s)),
                to_text(now + timedelta(seconds=own.workflow_deadline_s)),
                own.max_runtime_s,
                own.transfer_idle_s,
                own.hold_s,
            )
        ]
        end = to_text(now + timedelta(seconds=own.workflow_deadline_s + own.hold_s))
        assert await daemon.sql("SELECT valid_until FROM introductions") == [(end,)]
        assert (await _order(daemon, request)).job_execution_id == 1  # known again by what was asked for

    machine.play(play, is_idle=True)


def test_a_job_that_names_a_denied_peer_is_refused(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        now = daemon.clock.now()
        await daemon.database.write(
            lambda conn: peers.add_peer(conn, THIRD, self_peer_id=ME, state=PeerState.DENIED, now=now)
        )
        answer = await _order(daemon, _request(await _plan(daemon, feeds=THIRD)))
        assert answer.reasons == (f"peer {THIRD}, with which the job exchanges data, is denied here",)

    machine.play(play, is_idle=True)


def test_a_name_that_would_lead_out_of_the_jobs_folder_is_refused(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _plan(daemon, feeds=THIRD)
        interfaces = tuple(
            replace(
                interface,
                interface_peers=tuple(replace(peer, lane="../../..") for peer in interface.interface_peers),
            )
            for interface in plan.interfaces
        )
        answer = await _order(daemon, _request(replace(plan, interfaces=interfaces)))
        assert len(answer.reasons) == 1
        assert "lane" in answer.reasons[0]

    machine.play(play, is_idle=True)


def test_a_grant_bounds_how_many_jobs_are_open_and_how_long_they_run(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _plan(daemon)
        now = daemon.clock.now()
        limits = GrantLimits(concurrent_jobs=1, max_runtime_s=7.0)
        await daemon.database.write(
            lambda conn: grants.add_grant(
                conn, peer_id=ORDERER, service_id=None, verbs=[Verb.ORDER], limits=limits, now=now
            )
        )
        assert (await _order(daemon, _request(plan))).reasons == ()
        assert await daemon.sql("SELECT max_runtime_s FROM job_executions") == [(7.0,)]
        answer = await _order(daemon, _request(plan, node=9))
        assert answer.reasons == ("1 of your jobs are open here; your grant allows 1",)

    machine.play(play, is_idle=True)


def test_what_has_not_begun_when_its_workflows_time_is_up_ends(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        plan = await _plan(daemon, feeds=None)
        waiting = replace(
            plan,
            interfaces=tuple(
                replace(interface, interface_peers=(_sender(),))
                if interface.interface_type is InterfaceType.STDIN
                else interface
                for interface in plan.interfaces
            ),
        )
        answer = await _order(daemon, _request(waiting))
        assert answer.job_execution_id is not None
        route = Route(
            connection_id=_sender().connection_id, peer_workflow_job_id=None, peer_job_execution_id=JobExecutionId(3)
        )
        await daemon.job_manager.start_jobs([JobStart(job_execution_id=answer.job_execution_id, routes=(route,))])
        daemon.tick(BOUNDS.deadline_s + 1)
        await daemon.eventually(
            "SELECT status, error_message FROM job_executions",
            ("ERRORED", "the deadline of the workflow that ordered it has passed"),
        )

    machine.play(play)


def _sender() -> InterfacePeerPlan:
    return InterfacePeerPlan(
        connection_id=ConnectionId(77),
        peer_id=THIRD,
        peer_workflow_node_id=NodeId(3),
        peer_job_execution_id=None,
        peer_interface_type=InterfaceType.STDOUT,
        peer_path="/output",
        peer_file_name=None,
        peer_mount_function=MountFunction.OUTPUT,
    )


def test_an_ordered_job_is_forgotten_with_its_folder_once_its_hold_is_over(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        answer = await _order(daemon, _request(await _plan(daemon)))
        assert answer.job_execution_id is not None
        await daemon.job_manager.start_jobs([JobStart(job_execution_id=answer.job_execution_id, routes=())])
        await daemon.eventually("SELECT status FROM job_executions", ("COMPLETED",))
        folder = daemon.folders.workflow_job(ORDERER, WorkflowJobId(5))
        await daemon.until(folder.exists)
        retention = Retention(
            database=daemon.database, clock=daemon.clock, config=daemon.config, folders=daemon.folders, peer_id=ME
        )
        await retention.sweep()
        assert folder.exists()
        daemon.clock.move(BOUNDS.hold_s + 1)
        await retention.sweep()
        assert await daemon.sql("SELECT COUNT(*) FROM job_executions") == [(0,)]
        assert not folder.exists()

    machine.play(play)


def test_encrypted_data_is_ordered_only_while_its_owner_has_it_unlocked(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        now = daemon.clock.now()
        await daemon.database.write(
            lambda conn: peers.add_peer(conn, ORDERER, self_peer_id=ME, state=PeerState.ALLOWED, now=now)
        )
        files = await daemon.files("secret", {"x.txt": b"secret"}, passphrase="open sesame")
        drawn = await daemon.draw([files, await daemon.program("b")], [edge(0, 1)])
        report = await daemon.workflow_manager.validate(drawn.workflow_id)
        assert report.definition is not None
        request = _request(report.definition.jobs[0])
        refused = await _order(daemon, request)
        assert refused.reasons == ("DATA service secret is encrypted, and its owner has not unlocked it",)
        await daemon.data.unlock(files.id, "open sesame")
        assert (await _order(daemon, request)).reasons == ()

    machine.play(play)
