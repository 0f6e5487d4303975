"""What a start, an end or a delivery entails, over random small graphs: no state moves off the table, nothing waits in vain.

The rows are real; the order in which jobs begin, end, fail, and are cancelled, and deliveries arrive or fail, is drawn.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rnd.core.job_orders import accept_jobs
from rnd.database import (
    job_executions,
    job_interfaces,
    job_moves,
    migrations,
    offered_services,
    results,
    transfers,
    workflow_executions,
    workflow_jobs,
    workflows,
)
from rnd.database.consequences import (
    cancel_job,
    check_inputs,
    complete_job,
    complete_transfer,
    fail_job,
    fail_open_job,
    fail_transfer,
    settle_data_job,
    spread_failure,
    start_jobs,
)
from rnd.database.job_moves import JobEnd
from rnd.database.news import News
from rnd.database.offered_services import NewService
from rnd.database.owing import owe_deliveries
from rnd.database.results import NewResult
from rnd.rules.definition import build_definition
from rnd.rules.lifecycle import allowed, execution_outcome, job_is_terminal
from rnd.types.config import Deadlines
from rnd.types.enums import InterfaceType, JobStatus, MountFunction, ServiceType, TransferDirection, TransferStatus
from rnd.types.errors import StaleState
from rnd.types.executions import FileEntry
from rnd.types.ids import (
    SELF_PEER_JOB,
    ConnectionId,
    ExecutionUid,
    JobExecutionId,
    NodeId,
    PeerId,
    TransferId,
    WorkflowId,
)
from rnd.types.orders import ExecutionOrder, JobRequest, JobStart, Route
from rnd.types.services import DataSettings, ServiceInterface, StandaloneSettings
from rnd.types.workflows import WorkflowConnection, WorkflowNode

ME = PeerId("rnme")
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
FILE = FileEntry(relative_path="stdout.txt", size_bytes=1, sha256="ab")
OPEN = (TransferStatus.PENDING, TransferStatus.ACTIVE)
FAILED = (JobStatus.ERRORED, JobStatus.CANCELLED)
PICK = st.integers(0, 1_000_000)


class Graph:
    """An execution of a small graph, its rows brought as far as phase 2 begins."""

    def __init__(self, kinds: list[ServiceType], edges: list[tuple[int | None, int | None]]) -> None:
        self.conn = sqlite3.connect(":memory:", isolation_level=None)
        self.conn.row_factory = sqlite3.Row
        migrations.migrate(self.conn, Path("memory"))
        self.transfer_count = 0
        workflow = workflows.create_workflow(self.conn, name="drawn", now=NOW)
        services = {kind: self._service(kind) for kind in (ServiceType.DATA, ServiceType.STANDALONE)}
        nodes = [self._node(number, kind, services[kind], workflow.id) for number, kind in enumerate(kinds)]
        connections = [self._connection(number, pair, workflow.id) for number, pair in enumerate(edges)]
        self.definition = build_definition(nodes, connections, self_peer_id=ME)
        order = ExecutionOrder(
            workflow_id=workflow.id,
            workflow_name="drawn",
            definition="{}",
            execution_uid=ExecutionUid("00"),
            retry_of=None,
            start_by_s=60.0,
            max_runtime_s=60.0,
            transfer_idle_s=60.0,
            hold_s=60.0,
            workflow_deadline_s=60.0,
        )
        self.execution = workflow_executions.create_execution(self.conn, order, now=NOW)
        workflow_executions.mark_running(self.conn, self.execution.id, now=NOW)
        self._create_jobs()

    def _service(self, kind: ServiceType) -> object:
        data = DataSettings(file_count=1, size_bytes=1, manifest_sha256="ab")
        program = StandaloneSettings(executable="/bin/true")
        new = NewService(
            name=kind.lower(),
            service_type=kind,
            interfaces=(),
            settings=data if kind is ServiceType.DATA else program,
        )
        return offered_services.create_service(self.conn, new, now=NOW).id

    def _node(self, number: int, kind: ServiceType, service_id: object, workflow_id: WorkflowId) -> WorkflowNode:
        streams = (InterfaceType.STDOUT,) if kind is ServiceType.DATA else (InterfaceType.STDIN, InterfaceType.STDOUT)
        return WorkflowNode(
            id=NodeId(number + 1),
            workflow_id=workflow_id,
            service_id=service_id,  # type: ignore[arg-type]  # as it came from create_service
            peer_id=ME,
            service_name=kind.lower(),
            service_type=kind,
            order=0,
            gui_x=0,
            gui_y=0,
            interfaces=tuple(ServiceInterface(interface_type=stream) for stream in streams),
            entrypoint=None,
            cmd=None,
            pricing_amount=0.0,
            pricing_type="ONE_TIME",
        )

    def _connection(
        self, number: int, pair: tuple[int | None, int | None], workflow_id: WorkflowId
    ) -> WorkflowConnection:
        start, end = pair
        return WorkflowConnection(
            id=ConnectionId(number + 1),
            workflow_id=workflow_id,
            from_node_id=None if start is None else NodeId(start + 1),
            from_interface_type=InterfaceType.STDOUT,
            to_node_id=None if end is None else NodeId(end + 1),
            to_interface_type=InterfaceType.STDIN,
            destination_file_name=None,
            from_interface_path="",
            to_interface_path="",
            include=(),
            source_path="/etc/hostname" if start is None else None,
        )

    def _create_jobs(self) -> None:
        rows = workflow_jobs.create_workflow_jobs(self.conn, self.execution, self.definition)
        by_node = {row.node_id: row.id for row in rows}
        requests = [
            JobRequest(
                orchestrator_peer_id=ME,
                execution_uid=self.execution.execution_uid,
                workflow_execution_id=self.execution.id,
                workflow_job_id=by_node[plan.node_id],
                plan=plan,
                start_by_s=60.0,
                max_runtime_s=60.0,
            )
            for plan in self.definition.jobs
        ]
        answers = accept_jobs(self.conn, requests, self_peer_id=ME, deadlines=Deadlines(), now=NOW)
        self.job_of = {answer.node_id: answer.job_execution_id for answer in answers}
        for plan in self.definition.jobs:
            for interface in plan.interfaces:
                for peer in interface.interface_peers:
                    if peer.peer_workflow_node_id is None and peer.peer_mount_function is MountFunction.INPUT:
                        results.create_result(
                            self.conn,
                            NewResult(
                                workflow_execution_id=self.execution.id,
                                node_id=plan.node_id,
                                connection_id=peer.connection_id,
                                source_peer_id=ME,
                                source_job_execution_id=self.job(plan.node_id),
                                directory="d",
                            ),
                        )

    # ---- what happens

    def job(self, node_id: NodeId) -> JobExecutionId:
        job_id = self.job_of[node_id]
        assert job_id is not None
        return job_id

    def new_transfer_id(self) -> TransferId:
        self.transfer_count += 1
        return TransferId(f"t{self.transfer_count}")

    def start(self, node_id: NodeId) -> bool:
        plan = next(plan for plan in self.definition.jobs if plan.node_id == node_id)
        routes = tuple(
            Route(
                connection_id=peer.connection_id,
                peer_workflow_job_id=None,
                peer_job_execution_id=SELF_PEER_JOB
                if peer.peer_workflow_node_id is None
                else self.job(peer.peer_workflow_node_id),
            )
            for interface in plan.interfaces
            for peer in interface.interface_peers
        )
        start = JobStart(job_execution_id=self.job(node_id), routes=routes)
        return bool(start_jobs(self.conn, [start], new_transfer_id=self.new_transfer_id, now=NOW, news=News()))

    def begin(self, job_id: JobExecutionId) -> None:
        job_moves.mark_all_running(self.conn, [(job_executions.get_job(self.conn, job_id), NOW)], now=NOW)
        job = job_executions.get_job(self.conn, job_id)
        if job.service_type is ServiceType.DATA:
            interfaces = job_interfaces.list_interfaces(self.conn, job_id)
            owe_deliveries(self.conn, job, interfaces, new_transfer_id=self.new_transfer_id, now=NOW, news=News())
            settle_data_job(self.conn, job_id, now=NOW, news=News())

    def complete(self, job_id: JobExecutionId) -> None:
        complete_job(
            self.conn,
            job_executions.get_job(self.conn, job_id),
            job_interfaces.list_interfaces(self.conn, job_id),
            {"stdout": [FILE]},
            exit_code=0,
            new_transfer_id=self.new_transfer_id,
            now=NOW,
            news=News(),
        )

    def deliver(self, transfer_id: TransferId) -> None:
        news = News()
        complete_transfer(self.conn, transfer_id, [FILE], now=NOW, news=news)
        for job_id in news.inputs_changed:
            job = job_executions.get_job(self.conn, job_id)
            if job.start_received:
                check_inputs(self.conn, job_id, now=NOW, news=news)

    # ---- what is seen

    def in_status(self, *statuses: JobStatus) -> list[JobExecutionId]:
        jobs = job_executions.list_jobs_of_execution(self.conn, self.execution.id)
        return [job.id for job in jobs if job.status in statuses]

    def open_transfers(self) -> list[TransferId]:
        return transfers.list_open_of_execution(self.conn, self.execution.id)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[ServiceType], list[tuple[int | None, int | None]]]:
    kinds = draw(st.lists(st.sampled_from([ServiceType.DATA, ServiceType.STANDALONE]), min_size=1, max_size=6))
    programs = [number for number, kind in enumerate(kinds) if kind is ServiceType.STANDALONE]
    pairs: list[tuple[int | None, int | None]] = [
        (start, end)
        for start in range(len(kinds))
        for end in programs
        if start < end or kinds[start] is ServiceType.DATA
    ]
    pairs += [(None, end) for end in programs] + [(start, None) for start in range(len(kinds))]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=9, unique=True))
    fed = {start for start, _ in chosen}
    # DATA that feeds nobody is refused before an execution exists.
    chosen += [(number, None) for number, kind in enumerate(kinds) if kind is ServiceType.DATA and number not in fed]
    return kinds, chosen


class Consequences(RuleBasedStateMachine):
    """Everything that may happen to an execution between phase 2 and its end, in any order."""

    @initialize(graph=graphs())
    def create(self, graph: tuple[list[ServiceType], list[tuple[int | None, int | None]]]) -> None:
        self.graph = Graph(*graph)
        self.unstarted = [plan.node_id for plan in self.graph.definition.jobs]

    def teardown(self) -> None:
        if hasattr(self, "graph"):
            self.graph.conn.close()

    @precondition(lambda self: self.unstarted)
    @rule(pick=PICK)
    def start(self, pick: int) -> None:
        node_id = self.unstarted.pop(pick % len(self.unstarted))
        job_id = self.graph.job(node_id)
        was_idle = job_id in self.graph.in_status(JobStatus.IDLE)
        assert self.graph.start(node_id) is was_idle
        assert self.graph.start(node_id) is False
        job = job_executions.get_job(self.graph.conn, job_id)
        if job.status is JobStatus.IDLE:
            check_inputs(self.graph.conn, job_id, now=NOW, news=News())

    @precondition(lambda self: self.graph.in_status(JobStatus.READY))
    @rule(pick=PICK)
    def begin(self, pick: int) -> None:
        ready = self.graph.in_status(JobStatus.READY)
        self.graph.begin(ready[pick % len(ready)])

    @precondition(lambda self: self._programs())
    @rule(pick=PICK)
    def complete(self, pick: int) -> None:
        running = self._programs()
        self.graph.complete(running[pick % len(running)])

    @precondition(lambda self: self.graph.in_status(JobStatus.RUNNING))
    @rule(pick=PICK)
    def fail(self, pick: int) -> None:
        running = self.graph.in_status(JobStatus.RUNNING)
        fail_job(self.graph.conn, running[pick % len(running)], JobEnd(error="broken"), now=NOW, news=News())

    @precondition(lambda self: not self.unstarted)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        alive = self.graph.in_status(JobStatus.IDLE, JobStatus.READY, JobStatus.RUNNING)
        if alive:
            cancel_job(self.graph.conn, alive[pick % len(alive)], JobEnd(error="enough"), now=NOW, news=News())

    @precondition(lambda self: self.unstarted)
    @rule(pick=PICK)
    def cancel_before_its_start(self, pick: int) -> None:
        job_id = self.graph.job(self.unstarted[pick % len(self.unstarted)])
        if job_id in self.graph.in_status(JobStatus.IDLE):
            cancel_job(self.graph.conn, job_id, JobEnd(error="early"), now=NOW, news=News())

    @precondition(lambda self: self.graph.open_transfers())
    @rule(pick=PICK)
    def deliver(self, pick: int) -> None:
        waiting = self.graph.open_transfers()
        self.graph.deliver(waiting[pick % len(waiting)])

    @precondition(lambda self: self.graph.open_transfers())
    @rule(pick=PICK)
    def lose(self, pick: int) -> None:
        waiting = self.graph.open_transfers()
        fail_transfer(self.graph.conn, waiting[pick % len(waiting)], "lost", now=NOW, news=News())

    @precondition(lambda self: self.graph.open_transfers())
    @rule()
    def restart(self) -> None:
        transfers.requeue_active(self.graph.conn, direction=TransferDirection.LOCAL)
        for job_id in self.graph.in_status(JobStatus.RUNNING):
            job = job_executions.get_job(self.graph.conn, job_id)
            if job.service_type is ServiceType.DATA:
                interfaces = job_interfaces.list_interfaces(self.graph.conn, job_id)
                owed = owe_deliveries(
                    self.graph.conn, job, interfaces, new_transfer_id=self.graph.new_transfer_id, now=NOW, news=News()
                )
                assert owed == 0

    # ---- what must hold

    @invariant()
    def states_move_along_the_table(self) -> None:
        seen: dict[int, JobStatus] = {}
        for (data,) in self.graph.conn.execute("SELECT data FROM events WHERE type = 'job.updated' ORDER BY seq"):
            told = json.loads(data)
            new = JobStatus(told["status"])
            old = seen.get(told["job_execution_id"])
            assert (new is JobStatus.IDLE) if old is None else allowed(old, new), (told, old)
            seen[told["job_execution_id"]] = new

    @invariant()
    def rows_of_both_sides_agree(self) -> None:
        for row in workflow_jobs.list_workflow_jobs(self.graph.conn, self.graph.execution.id):
            assert row.job_execution_id is not None
            job = job_executions.get_job(self.graph.conn, row.job_execution_id)
            assert (row.status.value, row.error) == (job.status.value, job.error_message)

    @invariant()
    def whoever_runs_has_all_its_inputs(self) -> None:
        for job_id in self.graph.in_status(JobStatus.READY, JobStatus.RUNNING, JobStatus.COMPLETED):
            assert job_interfaces.open_inputs(self.graph.conn, job_id) == 0

    @invariant()
    def whoever_waits_waits_for_something_that_may_come(self) -> None:
        """A started job that waits has, for each open input, a sender that may still send or a delivery on its way."""
        for job_id in self.graph.in_status(JobStatus.IDLE):
            job = job_executions.get_job(self.graph.conn, job_id)
            if not job.start_received:
                continue
            moves = {move.connection_id: move for move in transfers.list_by_dest_job(self.graph.conn, job_id)}
            for interface in job_interfaces.list_interfaces(self.graph.conn, job_id):
                for peer in interface.peers:
                    if peer.peer_mount_function is not MountFunction.OUTPUT or peer.duty_acknowledged:
                        continue
                    move = moves.get(peer.connection_id)
                    if move is not None:
                        assert move.status in OPEN, (job, move)
                        continue
                    assert peer.peer_job_execution_id, peer
                    sender = job_executions.get_job(self.graph.conn, peer.peer_job_execution_id)
                    waits_for_its_start = not sender.start_received and bool(self.unstarted)
                    assert not job_is_terminal(sender.status) or waits_for_its_start, (job, sender)

    @invariant()
    def a_failure_takes_down_exactly_who_needed_it(self) -> None:
        for job_id in self.graph.in_status(JobStatus.CANCELLED):
            job = job_executions.get_job(self.graph.conn, job_id)
            if job.error_message in ("enough", "early"):
                continue
            sources = [
                move
                for move in transfers.list_by_dest_job(self.graph.conn, job_id)
                if move.status is not TransferStatus.COMPLETED
            ]
            acknowledged = {
                peer.connection_id
                for interface in job_interfaces.list_interfaces(self.graph.conn, job_id)
                for peer in interface.peers
                if peer.duty_acknowledged
            }
            plan = next(plan for plan in self.graph.definition.jobs if plan.node_id == job.node_id)
            senders = [
                job_executions.get_job(self.graph.conn, self.graph.job(wait.from_node_id))
                for wait in plan.constraint_detail
                if wait.connection_id not in acknowledged and wait.from_node_id is not None
            ]
            lost = any(move.status is TransferStatus.FAILED for move in sources)
            assert lost or any(sender.status in FAILED for sender in senders), job

    @invariant()
    def data_ends_exactly_when_its_deliveries_have(self) -> None:
        for job in job_executions.list_jobs_of_execution(self.graph.conn, self.graph.execution.id):
            if job.service_type is not ServiceType.DATA or job.status in (JobStatus.IDLE, JobStatus.READY):
                continue
            owed = transfers.list_by_source_job(self.graph.conn, job.id)
            is_moving = any(move.status in OPEN for move in owed)
            assert is_moving is (job.status is JobStatus.RUNNING), job
            if job.status is JobStatus.COMPLETED:
                assert all(move.status is not TransferStatus.FAILED for move in owed)

    @invariant()
    def an_execution_always_ends(self) -> None:
        """Nothing runs, nothing moves, everything was started: then it has an outcome."""
        if self.unstarted or self.graph.open_transfers() or self.graph.in_status(JobStatus.READY, JobStatus.RUNNING):
            return
        jobs = workflow_jobs.list_workflow_jobs(self.graph.conn, self.graph.execution.id)
        home = results.list_result_rows(self.graph.conn, self.graph.execution.id)
        outcome = execution_outcome(jobs, home, cancel_requested=False)
        assert outcome is not None, (jobs, home)
        is_perfect = all(job.status.value == "COMPLETED" for job in jobs) and all(row.duty_acknowledged for row in home)
        assert (outcome.status.value == "COMPLETED") is is_perfect

    def _programs(self) -> list[JobExecutionId]:
        return [
            job_id
            for job_id in self.graph.in_status(JobStatus.RUNNING)
            if job_executions.get_job(self.graph.conn, job_id).service_type is ServiceType.STANDALONE
        ]


TestConsequences = Consequences.TestCase
TestConsequences.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


# ---------------------------------------------------------------- single things


@pytest.fixture
def chain() -> Graph:
    """Three programs in a row, the last one's output comes home; all started, the first one running."""
    graph = Graph([ServiceType.STANDALONE] * 3, [(0, 1), (1, 2), (2, None)])
    for plan in graph.definition.jobs:
        graph.start(plan.node_id)
    graph.begin(JobExecutionId(1))
    return graph


def test_a_failure_of_what_has_ended_is_refused_or_left_out(chain: Graph) -> None:
    chain.complete(JobExecutionId(1))
    with pytest.raises(StaleState):
        fail_job(chain.conn, JobExecutionId(1), JobEnd(error="late"), now=NOW, news=News())
    assert not fail_open_job(chain.conn, JobExecutionId(1), JobEnd(error="late"), now=NOW, news=News())
    assert fail_open_job(chain.conn, JobExecutionId(2), JobEnd(error="first"), now=NOW, news=News())
    assert not fail_open_job(chain.conn, JobExecutionId(3), JobEnd(error="late"), now=NOW, news=News())


def test_the_first_failure_keeps_its_name_along_a_chain(chain: Graph) -> None:
    news = News()
    fail_job(chain.conn, JobExecutionId(1), JobEnd(error="broken", exit_code=3), now=NOW, news=news)
    words = [(head.status.value, error) for head, error in news.ended]
    spread = "upstream job standalone failed: broken"
    assert [status for status, _ in words] == ["ERRORED", "CANCELLED", "CANCELLED"]
    assert all("failed: broken" in str(error) for _, error in words[1:]), spread
    assert news.executions == {chain.execution.id}
    (home,) = results.list_result_rows(chain.conn, chain.execution.id)
    assert "failed: broken" in str(home.error)


def test_a_delivery_to_somebody_who_has_ended_is_not_owed(chain: Graph) -> None:
    cancel_job(chain.conn, JobExecutionId(2), JobEnd(error="enough"), now=NOW, news=News())
    chain.complete(JobExecutionId(1))
    assert chain.open_transfers() == []


def test_a_delivery_that_ends_twice_is_stale(chain: Graph) -> None:
    chain.complete(JobExecutionId(1))
    (transfer_id,) = chain.open_transfers()
    chain.deliver(transfer_id)
    with pytest.raises(StaleState):
        chain.deliver(transfer_id)
    with pytest.raises(StaleState):
        fail_transfer(chain.conn, transfer_id, "late", now=NOW, news=News())


def test_spreading_twice_changes_nothing(chain: Graph) -> None:
    fail_job(chain.conn, JobExecutionId(1), JobEnd(error="broken"), now=NOW, news=News())
    head = job_moves.head_of(job_executions.get_job(chain.conn, JobExecutionId(1)))
    again = News()
    spread_failure(chain.conn, head, "broken", now=NOW, news=again)
    assert again.ended == []


def test_data_whose_row_is_gone_is_settled_by_nobody(chain: Graph) -> None:
    news = News()
    settle_data_job(chain.conn, JobExecutionId(99), now=NOW, news=news)
    settle_data_job(chain.conn, SELF_PEER_JOB, now=NOW, news=news)
    assert news.ended == []
