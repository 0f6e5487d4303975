"""What an owner refuses, whatever the orchestrator has checked (rulings 7 and 24)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rnd.core.job_orders import request_digest
from rnd.rules.definition import definition_from_json
from rnd.types.definitions import JobPlan
from rnd.types.enums import Egress, ServiceType
from rnd.types.errors import StaleState
from rnd.types.ids import ExecutionUid, PeerId, ServiceId, WorkflowJobId
from rnd.types.orders import JobRequest
from tests.core.core_peer import ME, Daemon, Machine, edge

OTHER = PeerId("rnother")


def _request(plan: JobPlan) -> JobRequest:
    return JobRequest(
        orchestrator_peer_id=OTHER,
        execution_uid=ExecutionUid("ab"),
        workflow_execution_id=None,
        workflow_job_id=WorkflowJobId(1),
        plan=plan,
        start_by_s=60.0,
        max_runtime_s=60.0,
    )


async def _plans(daemon: Daemon, egress: Egress = Egress.ANY_JOB, *, downloadable: bool = True) -> list[JobPlan]:
    """Return the plans of DATA that feeds a program and the self-peer, under the owner's rules."""
    data = await daemon.files("x", {"x": b"1"})
    await daemon.by_hand(
        f"""
        UPDATE offered_services
        SET settings = json_set(settings, '$.egress', '{egress}', '$.downloadable', json('{json.dumps(downloadable)}'))
        WHERE id = {data.id}
        """
    )
    drawn = await daemon.draw(
        [data, await daemon.program("a")], [edge(0, 1)] + ([edge(0, None)] if downloadable else [])
    )
    report = await daemon.workflow_manager.validate(drawn.workflow_id)
    assert report.definition is not None, report.problems
    return list(report.definition.jobs)


def _to(plan: JobPlan, peer_id: PeerId) -> JobPlan:
    """Return a plan whose receivers are another peer's."""
    return replace(
        plan,
        interfaces=tuple(
            replace(
                interface, interface_peers=tuple(replace(peer, peer_id=peer_id) for peer in interface.interface_peers)
            )
            for interface in plan.interfaces
        ),
    )


@pytest.mark.parametrize(
    ("egress", "receiver", "is_refused"),
    [
        (Egress.ANY_JOB, OTHER, False),
        (Egress.LISTED, OTHER, True),
        (Egress.LISTED, ME, False),
        (Egress.HERE_ONLY, OTHER, True),
        (Egress.HERE_ONLY, ME, False),
    ],
)
def test_data_goes_only_where_its_owner_lets_it(
    machine: Machine, egress: Egress, receiver: PeerId, is_refused: bool
) -> None:
    async def play(daemon: Daemon) -> None:
        data, _ = await _plans(daemon, egress)
        (answer,) = await daemon.job_manager.create_jobs([_request(_to(data, receiver))])
        assert bool(answer.reasons) is is_refused
        assert all("egress rule" in reason for reason in answer.reasons)
        assert await daemon.sql("SELECT COUNT(*) FROM job_executions") == [(0 if is_refused else 1,)]

    machine.play(play, is_idle=True)


def test_a_service_that_is_not_what_was_ordered_is_refused_with_every_reason(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        _, plan = await _plans(daemon)
        await daemon.by_hand("UPDATE offered_services SET status = 'INACTIVE' WHERE name = 'a'")
        wrong = replace(plan, service_name="b", service_type=ServiceType.DATA)
        (answer,) = await daemon.job_manager.check_jobs([_request(wrong)])
        assert len(answer.reasons) == 3
        (gone,) = await daemon.job_manager.check_jobs([_request(replace(plan, service_id=ServiceId(99)))])
        assert gone.reasons == ("Service 99 not found",)

    machine.play(play, is_idle=True)


def test_all_jobs_of_an_order_are_created_or_none(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        data, plan = await _plans(daemon)
        bad = replace(plan, service_id=ServiceId(99))
        answers = await daemon.job_manager.create_jobs([_request(data), _request(bad)])
        assert [answer.job_execution_id for answer in answers] == [None, None]
        assert await daemon.sql("SELECT COUNT(*) FROM job_executions") == [(0,)]

    machine.play(play, is_idle=True)


def test_the_same_order_gets_the_same_answer_and_another_under_its_key_is_refused(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        _, plan = await _plans(daemon)
        first = await daemon.job_manager.create_jobs([_request(plan)])
        assert await daemon.job_manager.create_jobs([_request(plan)]) == first
        with pytest.raises(StaleState, match="other content"):
            await daemon.job_manager.create_jobs([_request(replace(plan, cmd=("other",)))])

    machine.play(play, is_idle=True)


def test_the_digest_survives_the_wire(machine: Machine) -> None:
    """What was frozen as JSON and read again is the same order."""

    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("a")], [edge(0, None)])
        await daemon.workflow_manager.execute(drawn.workflow_id)
        ((text,),) = await daemon.sql("SELECT definition FROM workflow_executions")
        (plan,) = definition_from_json(json.loads(text)).jobs
        report = await daemon.workflow_manager.validate(drawn.workflow_id)
        assert report.definition is not None
        assert request_digest(_request(plan)) == request_digest(_request(report.definition.jobs[0]))

    machine.play(play, is_idle=True)
