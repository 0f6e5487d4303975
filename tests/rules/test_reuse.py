"""What of an earlier execution serves again: by itself completed, still held, and ordered by the same plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from rnd.rules.reuse import (
    could_not_deliver,
    data_to_reuse,
    is_held,
    is_same_work,
    never_ran,
    programs_to_reuse,
    reused_execution,
    reused_order,
    serves_again,
)
from rnd.types.definitions import InputWait, InterfacePeerPlan, InterfacePlan, JobPlan, WorkflowDefinition
from rnd.types.enums import ExecutionConstraint, InterfaceType, MountFunction, ServiceType
from rnd.types.executions import JobExecution, JobInterface
from rnd.types.ids import ConnectionId, NodeId, PeerId, ServiceId

DATA, PROGRAM = ServiceType.DATA, ServiceType.STANDALONE
B = PeerId("b")


def _end(connection: int, node: int | None, does: MountFunction, **values: Any) -> InterfacePeerPlan:
    end = InterfacePeerPlan(
        connection_id=ConnectionId(connection),
        peer_id=B,
        peer_workflow_node_id=None if node is None else NodeId(node),
        peer_job_execution_id=None,
        peer_interface_type=InterfaceType.STDIN,
        peer_path="/input",
        peer_file_name=None,
        peer_mount_function=does,
    )
    return replace(end, **values)


def _plan(node: int, kind: ServiceType = PROGRAM, *, feeds: tuple[int | None, ...] = (), **values: Any) -> JobPlan:
    stdout = InterfacePlan(
        interface_type=InterfaceType.STDOUT,
        path="/output",
        interface_peers=tuple(
            _end(10 * node + place, receiver, MountFunction.INPUT) for place, receiver in enumerate(feeds)
        ),
    )
    plan = JobPlan(
        node_id=NodeId(node),
        name=f"job{node}",
        service_id=ServiceId(9),
        service_name="wc",
        service_type=kind,
        executor_peer_id=PeerId("self"),
        execution_constraint=ExecutionConstraint.NONE,
        constraint_detail=(),
        entrypoint=None,
        cmd=None,
        interfaces=(stdout,),
    )
    return replace(plan, **values)


def _earlier(make: Any, **values: Mapping[str, Any]) -> dict[NodeId, JobExecution]:
    """Return the jobs of an earlier execution by node: `n1={"status": ..., ...}`."""
    return {
        NodeId(int(name[1:])): make.job(node_id=int(name[1:]), **{"status": "COMPLETED", **facts})
        for name, facts in values.items()
    }


@pytest.mark.parametrize(
    ("facts", "serves"),
    [
        ({"status": "COMPLETED", "exit_code": 0}, True),
        ({"status": "COMPLETED", "result": "reused:2"}, True),
        ({"status": "COMPLETED", "service_type": DATA}, True),
        ({"status": "COMPLETED", "exit_code": None}, False),
        ({"status": "ERRORED", "exit_code": 3}, False),
        ({"status": "CANCELLED", "result": "reused:2"}, False),
        ({"status": "RUNNING"}, False),
    ],
)
def test_a_job_serves_again_if_it_completed_by_itself(make: Any, facts: dict[str, Any], *, serves: bool) -> None:
    assert serves_again(make.job(**facts)) is serves


def test_programs_are_reused_wherever_they_ran_and_data_is_none(make: Any) -> None:
    definition = WorkflowDefinition(jobs=(_plan(1, DATA), _plan(2), _plan(3), _plan(4), _plan(5)))
    earlier = _earlier(
        make,
        n1={"service_type": DATA},
        n2={"exit_code": 0},
        n3={"exit_code": 0, "executor_peer_id": "b", "remote_job_execution_id": 70},
        n4={"status": "ERRORED", "exit_code": 1},
    )
    assert programs_to_reuse(definition, earlier) == {2, 3}


@pytest.mark.parametrize(
    ("facts", "never"),
    [
        ({"status": "CANCELLED", "started_at": None}, True),
        ({"status": "ERRORED", "started_at": None}, True),
        ({"status": "CANCELLED"}, False),
        ({"status": "ERRORED", "exit_code": 1}, False),
        ({"status": "COMPLETED", "exit_code": 0, "started_at": None}, False),
    ],
)
def test_what_ended_before_it_began_never_ran(make: Any, facts: dict[str, Any], *, never: bool) -> None:
    assert never_ran(make.job(**facts)) is never


def test_what_was_reused_and_could_not_be_delivered_is_made_anew(make: Any) -> None:
    reused, ran = make.job("COMPLETED", result="reused:2"), make.job("COMPLETED", exit_code=0)
    failed, made = make.transfer("FAILED"), make.transfer("COMPLETED")
    assert could_not_deliver(reused, [made, failed])
    assert not could_not_deliver(reused, [made, make.transfer("CANCELLED")])
    assert not could_not_deliver(ran, [failed])


@pytest.mark.parametrize(
    ("feeds", "programs", "expected"),
    [
        ((2, 3), {2, 3}, {1}),
        ((2, 3), {2}, set()),
        ((2, None), {2, 3}, set()),
        ((), set(), {1}),
    ],
    ids=["all of it is reused", "one is not", "it comes home as well", "it feeds nobody"],
)
def test_data_is_needed_no_more_where_all_that_it_feeds_is_reused(
    make: Any, feeds: tuple[int | None, ...], programs: set[NodeId], expected: set[int]
) -> None:
    definition = WorkflowDefinition(jobs=(_plan(1, DATA, feeds=feeds), _plan(2), _plan(3)))
    assert data_to_reuse(definition, _earlier(make, n1={"service_type": DATA}), programs) == expected
    failed = _earlier(make, n1={"service_type": DATA, "status": "ERRORED"})
    assert data_to_reuse(definition, failed, programs) == set()


def test_a_job_is_held_from_its_end_for_as_long_as_it_was_ordered_to_be(make: Any) -> None:
    job = make.job("COMPLETED", ended_at=make.now, hold_s=50.0)
    assert is_held(job, now=make.now + timedelta(seconds=49.9))
    assert not is_held(job, now=make.now + timedelta(seconds=50))
    assert not is_held(replace(job, ended_at=None), now=make.now)
    assert not is_held(replace(job, hold_s=None), now=make.now)


def test_what_is_reused_is_an_execution_of_this_peer_or_one_that_another_names(make: Any) -> None:
    own = make.job("COMPLETED", result="reused:12")
    assert (reused_execution(own), reused_order(own)) == (12, None)
    ordered = make.job("COMPLETED", workflow_execution_id=None, result=f"reused:{'1' * 32}")
    assert (reused_execution(ordered), reused_order(ordered)) == (None, "1" * 32)
    ran = make.job("COMPLETED", exit_code=0)
    assert (reused_execution(ran), reused_order(ran)) == (None, None)


PLAN = _plan(
    1,
    feeds=(2, None),
    execution_constraint=ExecutionConstraint.INPUTS_READY,
    constraint_detail=(InputWait(connection_id=ConnectionId(5), from_node_id=NodeId(4)),),
    cmd=("-l",),
)


def _ordered(make: Any, plan: JobPlan) -> tuple[JobExecution, tuple[JobInterface, ...]]:
    """Return the rows of a job that was ordered by a plan, after its start."""
    waits = [{"connection_id": w.connection_id, "from_node_id": w.from_node_id} for w in plan.constraint_detail]
    job = make.job(
        "COMPLETED",
        node_id=plan.node_id,
        job_name=plan.name,
        entrypoint=plan.entrypoint,
        commands=plan.cmd,
        constraint_detail=json.dumps(waits),
        execution_constraint=plan.execution_constraint,
    )
    interfaces = tuple(
        replace(
            make.interface(
                interface.interface_type,
                *(
                    make.peer(
                        end.connection_id,
                        end.peer_mount_function,
                        acknowledged=True,
                        peer_id=end.peer_id,
                        peer_path=end.peer_path,
                        peer_file_name=end.peer_file_name,
                        peer_interface_type=end.peer_interface_type,
                        include=end.include,
                        lane=end.lane,
                    )
                    for end in interface.interface_peers
                ),
            ),
            path=interface.path,
            mount_function=interface.mount_function,
        )
        for interface in plan.interfaces
    )
    return job, interfaces


def _other_end(**values: Any) -> JobPlan:
    (stdout,) = PLAN.interfaces
    first, second = stdout.interface_peers
    return replace(PLAN, interfaces=(replace(stdout, interface_peers=(replace(first, **values), second)),))


def test_the_same_plan_is_the_same_work_however_it_was_routed(make: Any) -> None:
    job, interfaces = _ordered(make, PLAN)
    assert is_same_work(PLAN, job, interfaces)
    assert is_same_work(_other_end(source_path="/of/nobody"), job, interfaces)


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAN, name="else"),
        replace(PLAN, service_id=ServiceId(8)),
        replace(PLAN, service_name="cat"),
        replace(PLAN, service_type=ServiceType.DOCKER),
        replace(PLAN, executor_peer_id=B),
        replace(PLAN, entrypoint=("sh",)),
        replace(PLAN, cmd=None),
        replace(PLAN, cmd=("-l", "")),
        replace(PLAN, constraint_detail=()),
        replace(PLAN, execution_constraint=ExecutionConstraint.NONE),
        replace(PLAN, interfaces=()),
        replace(PLAN, interfaces=(replace(PLAN.interfaces[0], path="/logs"),)),
        replace(PLAN, interfaces=(replace(PLAN.interfaces[0], interface_peers=()),)),
        _other_end(connection_id=ConnectionId(99)),
        _other_end(peer_id=PeerId("c")),
        _other_end(peer_path="/else"),
        _other_end(peer_file_name="x.csv"),
        _other_end(peer_mount_function=MountFunction.OUTPUT),
        _other_end(peer_interface_type=InterfaceType.MOUNT),
        _other_end(include=("*.csv",)),
        _other_end(lane="c10"),
    ],
)
def test_whatever_else_a_plan_says_it_is_other_work(make: Any, other: JobPlan) -> None:
    job, interfaces = _ordered(make, PLAN)
    assert not is_same_work(other, job, interfaces)
