"""What an owner refuses, whatever the orchestrator has checked (rulings 7 and 24)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from rnd.core.job_orders import request_digest
from rnd.database import grants, offered_services, peers
from rnd.rules.definition import definition_from_json
from rnd.types.definitions import JobPlan
from rnd.types.enums import Confine, Egress, PeerState, ServiceType, Verb
from rnd.types.errors import StaleState
from rnd.types.ids import ExecutionUid, PeerId, ServiceId, WorkflowJobId
from rnd.types.orders import JobRequest
from rnd.types.services import Sandbox, Service, StandaloneSettings
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


async def _know(daemon: Daemon, state: PeerState) -> None:
    """Take the other peer in, in a state."""
    now = daemon.clock.now()
    await daemon.database.write(lambda conn: peers.add_peer(conn, OTHER, self_peer_id=ME, state=state, now=now))


async def _grant(daemon: Daemon, verb: Verb) -> None:
    now = daemon.clock.now()
    await daemon.database.write(
        lambda conn: grants.add_grant(conn, peer_id=OTHER, service_id=None, verbs=[verb], now=now)
    )


async def _set(daemon: Daemon, service: Service, **settings: Any) -> None:
    """Change how a service runs."""
    assert isinstance(service.settings, StandaloneSettings)
    changed = replace(service, settings=replace(service.settings, **settings))
    now = daemon.clock.now()
    await daemon.database.write(lambda conn: offered_services.update_service(conn, changed, now=now))


async def _plans(
    daemon: Daemon,
    egress: Egress = Egress.ANY_JOB,
    *,
    downloadable: bool = True,
    orderer: PeerState | None = PeerState.ALLOWED,
) -> list[JobPlan]:
    """Return the plans of DATA that feeds a program and the self-peer, under the owner's rules and word on the orderer."""
    if orderer is not None:
        await _know(daemon, orderer)
    data = await daemon.files("x", {"x": b"1"})
    await daemon.by_hand(
        f"""
        UPDATE offered_services
        SET settings = json_set(settings, '$.egress', '{egress}', '$.downloadable', json('{json.dumps(downloadable)}'))
        WHERE id = {data.id}
        """
    )
    program = await daemon.program("a")
    await _set(daemon, program, allow_override=True)
    drawn = await daemon.draw([data, program], [edge(0, 1)] + ([edge(0, None)] if downloadable else []))
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


def test_data_that_is_not_downloadable_does_not_go_to_a_job_on_the_orderers_machine_either(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        data, _ = await _plans(daemon, downloadable=False)
        (answer,) = await daemon.job_manager.check_jobs([_request(_to(data, OTHER))])
        assert answer.reasons == ("DATA service x is not downloadable (owner's rule)",)
        (answer,) = await daemon.job_manager.check_jobs([_request(_to(data, PeerId("rnthird")))])
        assert answer.reasons == ()
        (answer,) = await daemon.job_manager.check_jobs([replace(_request(_to(data, OTHER)), orchestrator_peer_id=ME)])
        assert answer.reasons == ()

    machine.play(play, is_idle=True)


@pytest.mark.parametrize("orderer", [None, PeerState.PENDING, PeerState.DENIED])
def test_only_an_allowed_peers_orders_are_taken(machine: Machine, orderer: PeerState | None) -> None:
    """Whatever is granted; and a peer that may not order a service learns no more about it."""

    async def play(daemon: Daemon) -> None:
        _, plan = await _plans(daemon, orderer=orderer)
        if orderer is not None:
            await _grant(daemon, Verb.ORDER)
        (answer,) = await daemon.job_manager.create_jobs([_request(replace(plan, service_name="guess"))])
        assert answer.reasons == (f"service {plan.service_id} may not be ordered by a peer that is not allowed here",)
        assert await daemon.sql("SELECT COUNT(*) FROM job_executions") == [(0,)]

    machine.play(play, is_idle=True)


def test_what_is_granted_is_taken_verb_by_verb(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        data, _ = await _plans(daemon)
        await daemon.by_hand("UPDATE offered_services SET access = 'granted'")
        request = _request(_to(data, OTHER))
        needed = f"service {data.service_id} may be %s only with a grant (owner's rule)"
        (answer,) = await daemon.job_manager.check_jobs([request])
        assert answer.reasons == (needed % "ordered",)
        await _grant(daemon, Verb.ORDER)
        (answer,) = await daemon.job_manager.check_jobs([request])
        assert answer.reasons == (needed % "fetched",)
        await _grant(daemon, Verb.FETCH)
        (answer,) = await daemon.job_manager.create_jobs([request])
        assert answer.job_execution_id is not None

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


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"executable": "/no/such"}, "The executable /no/such cannot be used: No such file or directory"),
        ({"executable": "/etc/passwd"}, "The file /etc/passwd is not executable by rnd's user"),
        ({"working_directory": "/no/such"}, "the working directory /no/such of a is not a folder"),
        ({"confine": Confine.ALWAYS}, "service a always runs confined, and programs cannot be confined here"),
        ({"network": "none"}, "service a runs without network, which takes confinement, and programs cannot"),
    ],
)
def test_what_the_engine_cannot_run_is_refused_before_anything_is_created(
    machine: Machine, settings: dict[str, Any], reason: str
) -> None:
    machine.sandbox = Sandbox(reason="the kernel has no Landlock")

    async def play(daemon: Daemon) -> None:
        service = await daemon.program("a")
        await _set(daemon, service, **settings)
        drawn = await daemon.draw([service], [edge(0, None)])
        [planned] = (await daemon.workflow_manager.plan(drawn.workflow_id)).jobs
        assert not planned.accepted
        assert planned.reasons[0].startswith(reason)
        execution = await daemon.ended(await daemon.workflow_manager.execute(drawn.workflow_id))
        assert execution.error == f"phase 1 was refused: a: {planned.reasons[0]}"
        assert await daemon.sql("SELECT COUNT(*) FROM job_executions") == [(0,)]

    machine.play(play)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"executable": "/no/such"}, "the executable of a cannot be used there"),
        ({"working_directory": "/no/such"}, "the working directory of a is not a folder"),
    ],
)
def test_where_things_lie_here_is_not_told_to_another_peer(
    machine: Machine, settings: dict[str, Any], reason: str
) -> None:
    async def play(daemon: Daemon) -> None:
        _, plan = await _plans(daemon)
        service = await daemon.database.read(lambda conn: offered_services.get_service(conn, plan.service_id))
        await _set(daemon, service, **settings)
        (answer,) = await daemon.job_manager.check_jobs([_request(plan)])
        assert answer.reasons == (reason,)

    machine.play(play, is_idle=True)


def test_each_choice_of_what_runs_has_an_answer_of_its_own_for_whoever_orders(machine: Machine) -> None:
    """One service, ordered together with and without a program that is not there, by its owner and by another peer."""

    async def play(daemon: Daemon) -> None:
        _, plan = await _plans(daemon)
        strange = replace(plan, entrypoint=("/no/such",))
        own = [replace(_request(each), orchestrator_peer_id=ME) for each in (plan, strange, plan, strange)]
        answers = await daemon.job_manager.check_jobs([own[0], own[1], _request(strange), own[2], own[3]])
        missing = "The executable /no/such cannot be used: No such file or directory"
        nobody_else = "the owner of a lets nobody else choose what is executed"
        assert [each.reasons for each in answers] == [(), (missing,), (nobody_else,), (), (missing,)]

    machine.play(play, is_idle=True)


def test_another_peers_choice_of_what_runs_is_refused_before_anything_is_created(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        _, plan = await _plans(daemon)
        (answer,) = await daemon.job_manager.check_jobs([_request(replace(plan, entrypoint=("/bin/sh",)))])
        assert answer.reasons == ("the owner of a lets nobody else choose what is executed",)

    machine.play(play, is_idle=True)


def test_a_program_that_cannot_be_confined_here_is_not_taken_on_for_another_peer(machine: Machine) -> None:
    machine.sandbox = Sandbox(reason="the kernel has no Landlock")

    async def play(daemon: Daemon) -> None:
        _, plan = await _plans(daemon)
        (foreign,) = await daemon.job_manager.create_jobs([_request(plan)])
        (reason,) = foreign.reasons
        assert reason.startswith("service a runs confined when another peer orders it, and")
        assert reason.endswith("programs cannot be confined here: the kernel has no Landlock")
        (own,) = await daemon.job_manager.check_jobs([replace(_request(plan), orchestrator_peer_id=ME)])
        assert own.reasons == ()
        assert await daemon.sql("SELECT COUNT(*) FROM job_executions") == [(0,)]

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
