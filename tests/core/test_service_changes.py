"""A service that is changed is another one for later orders only: what was accepted runs as it was ordered (rulings 3, 24)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace

import pytest

from rnd.database import offered_services, workflow_nodes
from rnd.services.executor import Observation, Phase
from rnd.types.enums import ExecutionStatus
from rnd.types.errors import ValidationFailed
from rnd.types.services import Service, StandaloneSettings
from rnd.types.workflows import WorkflowNode
from tests.core.core_peer import Daemon, Drawn, Machine, Script, edge
from tests.scripted_images import image_facts


async def _change(daemon: Daemon, service: Service, *cmd: str) -> Service:
    """Have a service run with other arguments."""
    assert isinstance(service.settings, StandaloneSettings)
    changed = replace(service, settings=replace(service.settings, cmd=cmd))
    return await daemon.database.write(
        lambda conn: offered_services.update_service(conn, changed, now=daemon.clock.now())
    )


async def _drawn_behind_a_held_job(daemon: Daemon, behind: Service) -> Drawn:
    first = await daemon.program("first", Script(holds=True))
    return await daemon.draw([first, behind], [edge(0, 1), edge(1, None)])


def _arguments(daemon: Daemon, engine_name: str) -> tuple[str, ...]:
    return daemon.engine.runs[engine_name].run.argv[1:]


def test_an_accepted_job_runs_as_its_service_was_when_it_was_ordered(machine: Machine) -> None:
    """And the revision on record is the one that ran; the next order gets the next revision."""

    async def play(daemon: Daemon) -> None:
        service = await daemon.program("old")
        drawn = await _drawn_behind_a_held_job(daemon, service)
        execution_id = await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.until(lambda: bool(daemon.engine.running()))
        assert (await _change(daemon, service, "new")).revision == 2
        daemon.engine.let_go("first")
        assert (await daemon.ended(execution_id)).status is ExecutionStatus.COMPLETED
        again = await daemon.workflow_manager.execute(drawn.workflow_id)
        assert (await daemon.ended(again)).status is ExecutionStatus.COMPLETED
        assert [_arguments(daemon, name) for name in ("job-2-1", "job-4-1")] == [("old",), ("new",)]
        assert await daemon.sql("SELECT service_revision FROM job_executions WHERE id IN (2, 4)") == [(1,), (2,)]

    machine.play(play)


def test_a_further_attempt_runs_as_the_first(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        fails = Script(observation=Observation(phase=Phase.EXITED, exit_code=1), holds=True)
        service = await daemon.program("old", fails, attempts=2)
        drawn = await daemon.draw([service], [edge(0, None)])
        execution_id = await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.until(lambda: bool(daemon.engine.running()))
        await _change(daemon, service, "new")
        daemon.engine.let_go("old")
        await daemon.ended(execution_id)
        assert _arguments(daemon, "job-1-2") == ("old",)

    machine.play(play)


def test_a_job_found_after_a_restart_is_bounded_by_what_was_ordered(machine: Machine) -> None:
    async def order(daemon: Daemon) -> None:
        service = await daemon.program("old", timeout_s=50.0)
        drawn = await _drawn_behind_a_held_job(daemon, service)
        await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.until(lambda: bool(daemon.engine.running()))
        assert isinstance(service.settings, StandaloneSettings)
        changed = replace(service, settings=replace(service.settings, timeout_s=7.0))
        await daemon.database.write(lambda conn: offered_services.update_service(conn, changed, now=daemon.clock.now()))

    async def go_on(daemon: Daemon) -> None:
        daemon.engine.scripts["old"] = Script(holds=True)
        daemon.engine.let_go("first")
        await daemon.until(lambda: "job-2-1" in daemon.engine.running())
        assert await daemon.sql(
            "SELECT ROUND((julianday(run_by) - julianday(started_at)) * 86400) FROM job_executions WHERE id = 2"
        ) == [(50.0,)]

    machine.play(order)
    machine.play(go_on)


def test_reused_outputs_bear_the_revision_that_made_them(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        first = await daemon.program("first")
        bad = await daemon.program("bad", Script(observation=Observation(phase=Phase.EXITED, exit_code=1)))
        drawn = await daemon.draw([first, bad], [edge(0, 1), edge(1, None)])
        execution_id = await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.ended(execution_id)
        await _change(daemon, first, "other")
        await daemon.ended(await daemon.workflow_manager.retry(execution_id))
        assert await daemon.sql("SELECT result, service_revision FROM job_executions WHERE id = 3") == [("reused:1", 1)]

    machine.play(play)


def test_reused_outputs_bear_the_image_that_made_them(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        first = await daemon.container("first")
        bad = await daemon.program("bad", Script(observation=Observation(phase=Phase.EXITED, exit_code=1)))
        drawn = await daemon.draw([first, bad], [edge(0, 1), edge(1, None)])
        execution_id = await daemon.workflow_manager.execute(drawn.workflow_id)
        await daemon.ended(execution_id)
        await daemon.ended(await daemon.workflow_manager.retry(execution_id))
        rows = await daemon.sql("SELECT result, image_digest FROM job_executions WHERE id IN (1, 3) ORDER BY id")
        assert rows == [(None, image_facts(1).digest), ("reused:1", image_facts(1).digest)]

    machine.play(play)


async def _alter_node(daemon: Daemon, drawn: Drawn, change: Callable[[WorkflowNode], WorkflowNode]) -> None:
    def work(conn: sqlite3.Connection) -> None:
        node = workflow_nodes.get_node(conn, drawn.workflow_id, drawn.nodes[0])
        workflow_nodes.update_node(conn, change(node), now=daemon.clock.now())

    await daemon.database.write(work)


@pytest.mark.parametrize("pin", [False, True])
def test_a_service_changed_since_it_was_drawn_is_a_warning_or_with_pin_a_refusal(
    machine: Machine, *, pin: bool
) -> None:
    async def play(daemon: Daemon) -> None:
        service = await daemon.program("x")
        drawn = await daemon.draw([service], [])
        await _alter_node(daemon, drawn, lambda node: replace(node, service_revision=1, pin=pin))
        [answer] = (await daemon.workflow_manager.plan(drawn.workflow_id)).jobs
        assert (answer.accepted, answer.warnings) == (True, ())
        await _change(daemon, service, "other")
        words = "Service x has been changed since this node was drawn: revision 1 then, 2 now"
        if pin:
            with pytest.raises(ValidationFailed, match=f"{words}; the node is pinned"):
                await daemon.workflow_manager.execute(drawn.workflow_id)
            return
        [answer] = (await daemon.workflow_manager.plan(drawn.workflow_id)).jobs
        assert (answer.accepted, answer.warnings) == (True, (words,))

    machine.play(play, is_idle=True)
