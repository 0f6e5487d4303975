"""Rows of one order on three peers: the orchestrator with its mirrors, and two executors; messages are carried by the test."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rnd.database import (
    duties,
    job_executions,
    job_interfaces,
    job_moves,
    job_reports,
    migrations,
    mirrors,
    outbox,
    results,
    retention,
    transfers,
    workflow_executions,
    workflow_jobs,
    workflows,
)
from rnd.database.consequences import (
    complete_job,
    complete_transfer,
    fail_job,
    fail_transfer,
    give_up_mirror,
    start_jobs,
    take_notice,
    take_report,
)
from rnd.database.job_moves import JobEnd, NewJob
from rnd.database.mirrors import AcceptedOrder
from rnd.database.news import News
from rnd.database.owing import owe_inputs_from_self_peer
from rnd.database.results import NewResult
from rnd.database.transfers import NewTransfer
from rnd.protocol.codec import message_from_fields
from rnd.protocol.job_messages import JobCancel, JobStatusUpdate
from rnd.protocol.transfer_messages import DataTransferFailed
from rnd.rules.peer_id import peer_id_from_key
from rnd.types.definitions import InterfacePeerPlan, InterfacePlan, JobPlan, WorkflowDefinition
from rnd.types.enums import (
    ExecutionConstraint,
    InterfaceType,
    JobStatus,
    MountFunction,
    ServiceType,
    TransferDirection,
    TransferStatus,
)
from rnd.types.errors import JobFailed, StaleState
from rnd.types.executions import FileEntry, WorkflowExecution
from rnd.types.ids import (
    SELF_PEER_JOB,
    ConnectionId,
    ExecutionUid,
    JobExecutionId,
    NodeId,
    PeerId,
    ServiceId,
    TransferId,
    WorkflowJobId,
)
from rnd.types.orders import ExecutionOrder, ForeignBounds, JobRequest, JobStart, JobStatusReport, Route

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
A, B, C = (peer_id_from_key(bytes([number]) * 32) for number in (1, 2, 3))
UID = ExecutionUid("0" * 32)
FILE = FileEntry(relative_path="stdout.txt", size_bytes=1, sha256="ab" * 32)
BOUNDS = ForeignBounds(deadline_s=60.0, transfer_idle_s=5.0, hold_s=30.0)
FIRST, SECOND = NodeId(1), NodeId(2)
HALFWAY, HOME, FROM_HOME = ConnectionId(1), ConnectionId(2), ConnectionId(3)


def _end(
    connection: ConnectionId, peer: PeerId, node: NodeId | None, does: MountFunction, source: str | None = None
) -> InterfacePeerPlan:
    return InterfacePeerPlan(
        connection_id=connection,
        peer_id=peer,
        peer_workflow_node_id=node,
        peer_job_execution_id=SELF_PEER_JOB if node is None else None,
        peer_interface_type=InterfaceType.STDIN,
        peer_path="/input",
        peer_file_name=None,
        peer_mount_function=does,
        source_path=source,
    )


def _plan(node: NodeId, executor: PeerId, *interfaces: InterfacePlan) -> JobPlan:
    return JobPlan(
        node_id=node,
        name=f"job {node}",
        service_id=ServiceId(7),
        service_name="program",
        service_type=ServiceType.STANDALONE,
        executor_peer_id=executor,
        execution_constraint=ExecutionConstraint.INPUTS_READY,
        constraint_detail=(),
        entrypoint=None,
        cmd=None,
        interfaces=interfaces,
    )


FIRST_PLAN = _plan(
    FIRST,
    B,
    InterfacePlan(
        interface_type=InterfaceType.STDIN,
        path="/input",
        interface_peers=(_end(FROM_HOME, A, None, MountFunction.OUTPUT, "/etc/hostname"),),
    ),
    InterfacePlan(
        interface_type=InterfaceType.STDOUT,
        path="/output",
        interface_peers=(_end(HALFWAY, C, SECOND, MountFunction.INPUT),),
    ),
)
SECOND_PLAN = _plan(
    SECOND,
    C,
    InterfacePlan(
        interface_type=InterfaceType.STDIN,
        path="/input",
        interface_peers=(_end(HALFWAY, B, FIRST, MountFunction.OUTPUT),),
    ),
    InterfacePlan(
        interface_type=InterfaceType.STDOUT,
        path="/output",
        interface_peers=(_end(HOME, A, None, MountFunction.INPUT),),
    ),
)


def _database() -> sqlite3.Connection:
    conn = sqlite3.connect(":memory:", isolation_level=None)
    conn.row_factory = sqlite3.Row
    migrations.migrate(conn, Path("memory"))
    return conn


@dataclass
class Executor:
    """A peer that was ordered one job, with its rows."""

    peer_id: PeerId
    plan: JobPlan
    conn: sqlite3.Connection
    job_id: JobExecutionId
    made: int = 0

    def new_transfer_id(self) -> TransferId:
        self.made += 1
        return TransferId(f"{self.peer_id[:6]}-{self.made}")

    def start(self, *routes: Route) -> News:
        news = News()
        start = JobStart(job_execution_id=self.job_id, routes=routes)
        start_jobs(self.conn, [start], new_transfer_id=self.new_transfer_id, now=NOW, news=news)
        return news

    def run(self) -> None:
        for row in job_interfaces.list_interfaces(self.conn, self.job_id):
            for peer in row.peers:
                if peer.peer_mount_function is MountFunction.OUTPUT:
                    job_interfaces.acknowledge_duty(self.conn, peer.id)
        job_moves.mark_all_ready(self.conn, [self.job_id], now=NOW)
        job_moves.mark_all_running(self.conn, [(job_executions.get_job(self.conn, self.job_id), NOW)], now=NOW)

    def complete(self) -> News:
        news = News()
        complete_job(
            self.conn,
            job_executions.get_job(self.conn, self.job_id),
            job_interfaces.list_interfaces(self.conn, self.job_id),
            {"stdout": [FILE]},
            exit_code=0,
            new_transfer_id=self.new_transfer_id,
            now=NOW,
            news=news,
        )
        return news

    def fail(self, error: str) -> News:
        news = News()
        fail_job(self.conn, self.job_id, JobEnd(error=error), now=NOW, news=news)
        return news

    @property
    def status(self) -> JobStatus:
        return job_executions.get_job(self.conn, self.job_id).status

    def letters(self, peer: PeerId) -> list[object]:
        """Return the messages that a peer is to be told."""
        return [message_from_fields(each.topic, each.body) for each in outbox.list_letters(self.conn, peer, limit=99)]

    def report(self) -> JobStatusReport:
        (update,) = [each for each in self.letters(A) if isinstance(each, JobStatusUpdate)]
        return update.report


@dataclass
class Order:
    """One order: `home` is the orchestrator's database, `first` feeds `second`, which sends home."""

    home: sqlite3.Connection
    execution: WorkflowExecution
    first: Executor
    second: Executor
    mirror_of: dict[NodeId, JobExecutionId]

    def mirror(self, node: NodeId) -> JobStatus:
        return job_executions.get_job(self.home, self.mirror_of[node]).status

    def take(self, report: JobStatusReport, executor: PeerId) -> News:
        news = News()
        mirror = mirrors.find_mirror(
            self.home, self_peer_id=A, execution_uid=UID, node_id=report.node_id, executor=executor
        )
        assert mirror is not None
        take_report(self.home, mirror, report, now=LATER, news=news)
        return news

    def cancels(self, peer: PeerId) -> list[JobCancel]:
        found = [message_from_fields(each.topic, each.body) for each in outbox.list_letters(self.home, peer, limit=99)]
        return [each for each in found if isinstance(each, JobCancel)]


def _ordered(plan: JobPlan, workflow_job_id: WorkflowJobId) -> Executor:
    conn = _database()
    request = JobRequest(
        orchestrator_peer_id=A,
        execution_uid=UID,
        workflow_execution_id=None,
        workflow_job_id=workflow_job_id,
        plan=plan,
        start_by_s=60.0,
        max_runtime_s=60.0,
        bounds=BOUNDS,
    )
    conn.execute(
        "INSERT INTO sqlite_sequence (name, seq) VALUES ('job_executions', ?)",
        (40 if plan.executor_peer_id == B else 80,),
    )
    ((job_id, _),) = job_moves.create_jobs(conn, [NewJob(request=request, digest="d", service_revision=1)], now=NOW)
    job_interfaces.create_interfaces(conn, [(job_id, plan.interfaces)])
    return Executor(peer_id=plan.executor_peer_id, plan=plan, conn=conn, job_id=job_id)


@pytest.fixture
def order() -> Iterator[Order]:
    home = _database()
    workflow = workflows.create_workflow(home, name="across", now=NOW)
    execution = workflow_executions.create_execution(
        home,
        ExecutionOrder(
            workflow_id=workflow.id,
            workflow_name="across",
            definition="{}",
            execution_uid=UID,
            retry_of=None,
            start_by_s=60.0,
            max_runtime_s=60.0,
            transfer_idle_s=5.0,
            hold_s=30.0,
            workflow_deadline_s=60.0,
        ),
        now=NOW,
    )
    workflow_executions.mark_running(home, execution.id, now=NOW)
    rows = workflow_jobs.create_workflow_jobs(home, execution, WorkflowDefinition(jobs=(FIRST_PLAN, SECOND_PLAN)))
    ids = {row.node_id: row.id for row in rows}
    first, second = _ordered(FIRST_PLAN, ids[FIRST]), _ordered(SECOND_PLAN, ids[SECOND])
    accepted = [
        AcceptedOrder(
            request=JobRequest(
                orchestrator_peer_id=A,
                execution_uid=UID,
                workflow_execution_id=execution.id,
                workflow_job_id=ids[executor.plan.node_id],
                plan=executor.plan,
                start_by_s=60.0,
                max_runtime_s=60.0,
            ),
            remote_job_execution_id=executor.job_id,
            service_revision=1,
        )
        for executor in (first, second)
    ]
    made = mirrors.create_mirrors(home, accepted, now=NOW)
    mirror_of = dict(zip((FIRST, SECOND), made, strict=True))
    results.create_result(
        home,
        NewResult(
            workflow_execution_id=execution.id,
            node_id=SECOND,
            connection_id=HOME,
            source_peer_id=C,
            source_job_execution_id=mirror_of[SECOND],
            directory="home",
        ),
    )
    to_second = Route(connection_id=HALFWAY, peer_workflow_job_id=ids[SECOND], peer_job_execution_id=second.job_id)
    to_first = replace(to_second, peer_workflow_job_id=ids[FIRST], peer_job_execution_id=first.job_id)
    from_home = Route(connection_id=FROM_HOME, peer_workflow_job_id=None, peer_job_execution_id=SELF_PEER_JOB)
    to_home = replace(from_home, connection_id=HOME)
    for node, routes in ((FIRST, (from_home, to_second)), (SECOND, (to_first, to_home))):
        job_interfaces.set_routes(home, [(mirror_of[node], routes)])
        job_moves.mark_started_elsewhere(home, mirror_of[node])
    first.start(from_home, to_second)
    second.start(to_first, to_home)
    yield Order(home=home, execution=execution, first=first, second=second, mirror_of=mirror_of)
    for conn in (home, first.conn, second.conn):
        conn.close()


# ---- mirrors and reports


def test_the_orchestrator_shows_every_job_with_the_executors_own_id(order: Order) -> None:
    rows = order.home.execute(
        """
        SELECT wj.status, wj.remote_job_execution_id, je.remote_job_execution_id, je.executor_peer_id
        FROM workflow_jobs AS wj
        JOIN job_executions AS je ON je.workflow_job_id = wj.id
        ORDER BY wj.node_id
        """
    ).fetchall()
    assert [tuple(row) for row in rows] == [("IDLE", 41, 41, B), ("IDLE", 81, 81, C)]


def test_creating_mirrors_again_changes_nothing(order: Order) -> None:
    before = list(order.home.iterdump())
    mirrors.create_mirrors(order.home, [], now=LATER)
    assert list(order.home.iterdump()) == before


def test_every_move_of_an_ordered_job_posts_one_report_that_takes_the_place_of_the_last(order: Order) -> None:
    order.first.run()
    order.first.complete()
    letters = [each for each in order.first.letters(A) if isinstance(each, JobStatusUpdate)]
    assert len(letters) == 1
    assert letters[0].report.status is JobStatus.COMPLETED
    assert letters[0].report.seq == 3  # READY, RUNNING, COMPLETED: the answer to the order has told of IDLE


def test_own_jobs_are_reported_to_nobody(order: Order) -> None:
    job_reports.post_report(order.home, order.mirror_of[FIRST], now=NOW)
    assert outbox.newest_letters(order.home) == []


def test_a_report_moves_the_mirror_and_the_orchestrators_row_together(order: Order) -> None:
    order.first.run()
    order.take(order.first.report(), B)
    assert order.mirror(FIRST) is JobStatus.RUNNING
    row = order.home.execute("SELECT status FROM workflow_jobs WHERE node_id = 1").fetchone()
    assert row[0] == "RUNNING"


@pytest.mark.parametrize("has_ended", [False, True], ids=["it runs", "it has ended"])
def test_a_report_that_comes_before_the_answer_to_the_start_leaves_a_job_that_is_started(
    order: Order, has_ended: bool
) -> None:
    order.home.execute("UPDATE job_executions SET start_received = 0")
    order.first.run()
    if has_ended:
        order.first.complete()
    order.take(order.first.report(), B)
    mirror = order.mirror_of[FIRST]
    assert has_ended or job_executions.get_job(order.home, mirror).start_received
    job_moves.mark_started_elsewhere(order.home, mirror)
    assert job_executions.get_job(order.home, mirror).start_received


def test_a_late_report_changes_nothing(order: Order) -> None:
    order.first.run()
    late = order.first.report()
    order.first.complete()
    order.take(order.first.report(), B)
    order.take(late, B)
    assert order.mirror(FIRST) is JobStatus.COMPLETED


def test_a_mirror_goes_with_its_execution_whatever_time_its_executor_says_it_ended(order: Order) -> None:
    """With it would go the folder into which its results are coming home."""
    order.first.run()
    order.first.complete()
    order.take(replace(order.first.report(), ended_at=NOW - timedelta(days=365)), B)
    assert order.mirror(FIRST) is JobStatus.COMPLETED
    assert retention.list_unneeded_orders(order.home, now=NOW + timedelta(days=365), limit=9) == []
    order.home.execute("UPDATE job_executions SET hold_s = 30.0")  # as earlier versions wrote it
    assert retention.list_unneeded_orders(order.home, now=NOW + timedelta(days=365), limit=9) == []


def test_a_report_after_the_end_changes_nothing(order: Order) -> None:
    order.first.run()
    order.first.complete()
    report = order.first.report()
    order.take(report, B)
    again = replace(report, seq=report.seq + 1, status=JobStatus.ERRORED, error_message="no")
    order.take(again, B)
    assert order.mirror(FIRST) is JobStatus.COMPLETED


def test_only_the_executor_has_a_mirror_to_report_of(order: Order) -> None:
    assert mirrors.find_mirror(order.home, self_peer_id=A, execution_uid=UID, node_id=FIRST, executor=C) is None


def test_duties_that_are_done_elsewhere_show_in_the_mirror(order: Order) -> None:
    order.first.run()
    order.first.complete()
    report = replace(order.first.report(), duties=(FROM_HOME,))
    news = order.take(report, B)
    assert len(news.acknowledged) == 1
    rows = job_interfaces.list_interfaces(order.home, order.mirror_of[FIRST])
    flags = {peer.connection_id: peer.duty_acknowledged for row in rows for peer in row.peers}
    assert flags == {FROM_HOME: True, HALFWAY: False}


def test_open_orders_are_listed_until_their_end_is_reported(order: Order) -> None:
    both = mirrors.list_open_orders(order.home, self_peer_id=A)
    assert {(each.executor_peer_id, each.node_ids) for each in both} == {(B, (FIRST,)), (C, (SECOND,))}
    order.first.run()
    order.first.complete()
    order.take(order.first.report(), B)
    (left,) = mirrors.list_open_orders(order.home, self_peer_id=A)
    assert (left.executor_peer_id, left.node_ids) == (C, (SECOND,))


# ---- failure


def test_an_executor_tells_the_receiver_of_a_failed_job_that_nothing_comes(order: Order) -> None:
    order.first.run()
    order.first.fail("broken")
    (notice,) = order.first.letters(C)
    assert isinstance(notice, DataTransferFailed)
    assert (notice.ordering_peer_id, notice.execution_uid, notice.connection_id) == (A, UID, HALFWAY)
    assert notice.reason == "upstream job job 1 failed: broken"


def test_the_receiver_that_is_told_so_cancels_its_job_and_reports_it(order: Order) -> None:
    news = News()
    assert _notice(order.second, B, news)
    assert order.second.status is JobStatus.CANCELLED
    assert order.second.report().error_message == "nothing comes"


def test_nobody_but_the_sender_can_say_that_nothing_comes(order: Order) -> None:
    assert not _notice(order.second, A, News())
    assert order.second.status is JobStatus.IDLE


def _notice(executor: Executor, sender: PeerId, news: News) -> bool:
    return take_notice(
        executor.conn,
        sender,
        self_peer_id=executor.peer_id,
        orderer=A,
        execution_uid=UID,
        connection_id=HALFWAY,
        reason="nothing comes",
        now=NOW,
        news=news,
    )


def test_the_orchestrator_that_hears_of_a_failure_has_the_receiver_cancelled(order: Order) -> None:
    order.first.run()
    order.first.fail("broken")
    order.take(order.first.report(), B)
    assert order.mirror(FIRST) is JobStatus.ERRORED
    (cancel,) = order.cancels(C)
    assert (cancel.execution_uid, cancel.node_id) == (UID, SECOND)
    assert "broken" in cancel.reason
    assert order.mirror(SECOND) is JobStatus.IDLE  # its executor has the word on that


def test_what_a_failed_job_was_to_send_home_will_not_come(order: Order) -> None:
    order.second.run()
    order.second.fail("broken")
    order.take(order.second.report(), C)
    (row,) = results.list_result_rows(order.home, order.execution.id)
    assert row.error == "upstream job job 2 failed: broken"


def _broken_off(order: Order) -> TransferId:
    """Have what the second job was to send home begin to come, and its sender break off."""
    incoming = NewTransfer(
        transfer_id=TransferId("homeward"),
        direction=TransferDirection.INCOMING,
        workflow_execution_id=order.execution.id,
        ordering_peer_id=A,
        execution_uid=UID,
        connection_id=HOME,
        source_peer_id=C,
        source_job_execution_id=order.second.job_id,
        dest_peer_id=A,
        dest_job_execution_id=SELF_PEER_JOB,
        source_peer_row_id=None,
        dest_peer_row_id=None,
        result_id=results.list_result_rows(order.home, order.execution.id)[0].id,
        source_path=None,
    )
    assert transfers.open_incoming(order.home, incoming, now=NOW) is not None
    transfers.put_back(order.home, incoming.transfer_id, "the link was lost", now=NOW)
    return incoming.transfer_id


def test_what_has_begun_to_come_home_ends_with_the_job_that_sent_it(order: Order) -> None:
    transfer_id = _broken_off(order)
    order.second.run()
    order.second.fail("broken")
    news = order.take(order.second.report(), C)
    ended = transfers.get_transfer(order.home, transfer_id)
    assert (ended.status, ended.error) == (TransferStatus.CANCELLED, "upstream job job 2 failed: broken")
    assert [each.transfer_id for each in news.transfers_ended] == [transfer_id]


def test_what_has_begun_to_come_home_ends_when_its_sender_says_that_nothing_comes(order: Order) -> None:
    transfer_id = _broken_off(order)
    news = News()
    assert take_notice(
        order.home,
        C,
        self_peer_id=A,
        orderer=A,
        execution_uid=UID,
        connection_id=HOME,
        reason="nothing comes",
        now=LATER,
        news=news,
    )
    ended = transfers.get_transfer(order.home, transfer_id)
    assert (ended.status, ended.error) == (TransferStatus.FAILED, "nothing comes")
    assert [each.transfer_id for each in news.transfers_ended] == [transfer_id]
    (row,) = results.list_result_rows(order.home, order.execution.id)
    assert row.error == "nothing comes"


def test_a_silent_executors_job_is_given_up_and_its_peer_told_to_cancel_it(order: Order) -> None:
    news = News()
    mirror = job_executions.get_job(order.home, order.mirror_of[FIRST])
    give_up_mirror(order.home, mirror, "silence", now=LATER, news=news)
    assert order.mirror(FIRST) is JobStatus.ERRORED
    assert [each.reason for each in order.cancels(B)] == ["silence"]
    assert len(order.cancels(C)) == 1


# ---- deliveries


def test_what_is_owed_to_another_peer_is_outgoing(order: Order) -> None:
    order.first.run()
    news = order.first.complete()
    assert (news.outgoing_created, news.transfers_created) == (1, 0)
    (owed,) = transfers.list_by_source_job(order.first.conn, order.first.job_id)
    assert owed.direction is TransferDirection.OUTGOING
    assert (owed.dest_peer_id, owed.dest_job_execution_id) == (C, order.second.job_id)


def test_a_delivery_that_fails_for_good_is_told_to_its_receiver(order: Order) -> None:
    order.first.run()
    order.first.complete()
    (owed,) = transfers.list_by_source_job(order.first.conn, order.first.job_id)
    fail_transfer(order.first.conn, owed.transfer_id, "disk full", now=NOW, news=News())
    (notice,) = order.first.letters(C)
    assert isinstance(notice, DataTransferFailed)
    assert notice.reason == "an input could not be delivered: disk full"


def test_the_self_peer_owes_its_files_to_a_started_mirror(order: Order) -> None:
    news = News()
    owe_inputs_from_self_peer(
        order.home, order.mirror_of[FIRST], new_transfer_id=lambda: TransferId("t"), now=NOW, news=news
    )
    assert news.outgoing_created == 1
    owed = transfers.get_transfer(order.home, TransferId("t"))
    assert (owed.source_job_execution_id, owed.dest_peer_id, owed.dest_job_execution_id) == (0, B, order.first.job_id)
    done = complete_transfer(order.home, TransferId("t"), [FILE], now=LATER, news=news)
    assert done.status is TransferStatus.COMPLETED
    assert news.inputs_changed == []  # the job is not here


def test_a_route_to_a_job_of_another_execution_here_is_refused(order: Order) -> None:
    conn = order.first.conn
    stranger = replace(_request_of(order.first), execution_uid=ExecutionUid("f" * 32))
    ((other_id, _),) = job_moves.create_jobs(conn, [NewJob(request=stranger, digest="d", service_revision=1)], now=NOW)
    order.first.run()
    conn.execute(
        "UPDATE job_interface_peers SET peer_id = ?, peer_job_execution_id = ? WHERE connection_id = ?",
        (B, other_id, HALFWAY),
    )
    with pytest.raises(JobFailed, match="leads to a job of another execution"):
        order.first.complete()


def _request_of(executor: Executor) -> JobRequest:
    return JobRequest(
        orchestrator_peer_id=A,
        execution_uid=UID,
        workflow_execution_id=None,
        workflow_job_id=WorkflowJobId(1),
        plan=executor.plan,
        start_by_s=60.0,
        max_runtime_s=60.0,
        bounds=BOUNDS,
    )


# ---- duties


def _duty(executor: Executor, sender: PeerId, *, connection: ConnectionId = HALFWAY, orderer: PeerId = A) -> object:
    return duties.find_duty(
        executor.conn,
        sender,
        self_peer_id=executor.peer_id,
        orderer=orderer,
        execution_uid=UID,
        connection_id=connection,
    )


def test_a_started_job_waits_for_its_sender_and_for_nobody_else(order: Order) -> None:
    found = _duty(order.second, B)
    assert isinstance(found, duties.OpenDuty)
    assert (found.job_execution_id, found.is_done) == (order.second.job_id, False)
    assert _duty(order.second, A) is None
    assert _duty(order.second, B, orderer=B) is None
    assert _duty(order.second, B, connection=HOME) is None


def test_a_duty_that_is_done_stays_known_as_done(order: Order) -> None:
    order.second.run()
    found = _duty(order.second, B)
    assert isinstance(found, duties.OpenDuty)
    assert found.is_done


def test_a_job_that_has_ended_waits_for_nothing(order: Order) -> None:
    order.second.fail("broken")
    assert _duty(order.second, B) is None


def test_the_self_peer_waits_for_results_of_its_own_executions(order: Order) -> None:
    found = duties.find_duty(order.home, C, self_peer_id=A, orderer=A, execution_uid=UID, connection_id=HOME)
    assert found is not None
    assert (found.job_execution_id, found.result_id) == (SELF_PEER_JOB, 1)
    assert duties.result_directory(order.home, found) == "home"
    assert duties.find_duty(order.home, B, self_peer_id=A, orderer=A, execution_uid=UID, connection_id=HOME) is None


def test_peers_that_are_to_send_are_known(order: Order) -> None:
    assert duties.list_expected_senders(order.second.conn, self_peer_id=C) == [B]
    assert duties.list_expected_senders(order.home, self_peer_id=A) == [C]


def test_a_request_of_the_same_key_with_other_content_is_refused(order: Order) -> None:
    request = _request_of(order.first)
    with pytest.raises(StaleState):
        job_moves.create_jobs(order.first.conn, [NewJob(request=request, digest="other", service_revision=1)], now=NOW)
