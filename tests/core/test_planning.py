"""What is refused before an execution exists: validation, plans, inputs, passphrases, deadlines."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rnd.core.planning import Passphrases, shortened, source_problems, with_inputs
from rnd.types.config import Config, Deadlines
from rnd.types.errors import NotFound, PermissionDenied, ValidationFailed
from rnd.types.ids import ConnectionId, ServiceId, WorkflowId
from tests.core.core_peer import Daemon, Machine, edge

WISHABLE = Deadlines()


def test_deadlines_may_be_shortened() -> None:
    wishes = {"start_by_s": 1.0, "max_runtime_s": 2.0, "transfer_idle_s": 3.0, "hold_s": 5.0}
    wishes["workflow_deadline_s"] = 4.0
    short = shortened(WISHABLE, wishes)
    assert (short.start_by_s, short.max_runtime_s, short.transfer_idle_s, short.workflow_deadline_s) == (1, 2, 3, 4)
    assert short.hold_s == 5
    assert shortened(WISHABLE, {}) == WISHABLE
    assert shortened(WISHABLE, {"start_by_s": WISHABLE.start_by_s}) == WISHABLE


@pytest.mark.parametrize(
    ("name", "seconds", "words"),
    [
        ("start_by_s", 0.0, "more than 0 s"),
        ("start_by_s", -1.0, "more than 0 s"),
        ("start_by_s", math.nan, "more than 0 s"),
        ("start_by_s", math.inf, "may only be shortened"),
        ("max_runtime_s", WISHABLE.max_runtime_s + 1, "may only be shortened"),
        ("cancel_by_s", 1.0, "no deadline cancel_by_s"),
        ("tea_time_s", 1.0, "no deadline tea_time_s"),
    ],
)
def test_other_wishes_are_refused(name: str, seconds: float, words: str) -> None:
    with pytest.raises(ValidationFailed, match=words):
        shortened(WISHABLE, {name: seconds})


def test_every_wrong_wish_is_named_at_once() -> None:
    with pytest.raises(ValidationFailed) as refusal:
        shortened(WISHABLE, {"start_by_s": 0.0, "nonsense": 1.0})
    assert [problem.check for problem in refusal.value.problems] == ["deadlines", "deadlines"]


def test_a_passphrase_of_its_own_goes_before_the_general_one_and_none_is_shown() -> None:
    passphrases = Passphrases(general="general", by_service={ServiceId(1): "own"})
    assert passphrases.of(ServiceId(1)) == "own"
    assert passphrases.of(ServiceId(2)) == "general"
    assert "own" not in repr(passphrases)
    assert "general" not in repr(passphrases)


def test_what_the_self_peer_is_to_send_has_to_be_there(machine: Machine, tmp_path: Path) -> None:
    """Missing, relative, of a wrong kind, inside the data directory, or outside the allowed roots."""
    there = tmp_path / "there.txt"
    there.write_text("x")
    (machine.data_dir / "inside").mkdir(parents=True)

    async def play(daemon: Daemon) -> None:
        service = await daemon.program("a")
        paths = [str(there), "relative.txt", str(tmp_path / "missing"), "/dev/null", str(machine.data_dir / "inside")]
        for number, path in enumerate(paths):
            drawn = await daemon.draw([service], [edge(None, 0, source_path=path)])
            if number == 0:
                await daemon.workflow_manager.execute(drawn.workflow_id)
                continue
            with pytest.raises(ValidationFailed) as refusal:
                await daemon.workflow_manager.execute(drawn.workflow_id)
            assert {problem.connection_id for problem in refusal.value.problems} == {drawn.connections[0]}

    machine.play(play, is_idle=True)


def test_a_source_outside_the_allowed_roots_is_refused(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "x").write_text("x")
    (tmp_path / "allowed" / "way_out").symlink_to(tmp_path / "x")
    config = Config(data_dir=machine.data_dir, allowed_roots=(str(tmp_path / "allowed"),))

    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("a")], [edge(None, 0, source_path=str(tmp_path / "x"))])
        drawing = await daemon.workflow_manager._drawing(drawn.workflow_id)
        (problem,) = source_problems(drawing.connections, config)
        assert "outside the configured allowed_roots" in problem.message
        around = with_inputs(drawing, {drawn.connections[0]: str(tmp_path / "allowed" / "way_out")})
        assert len(source_problems(around.connections, config)) == 1

    machine.play(play, is_idle=True)


def test_inputs_name_connections_of_the_self_peer_only(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("a")], [edge(None, 0), edge(0, None)])
        for wrong in (drawn.connections[1], ConnectionId(99)):
            with pytest.raises(ValidationFailed, match="does not come from the self-peer"):
                await daemon.workflow_manager.execute(drawn.workflow_id, inputs={wrong: "/etc/hostname"})
        assert await daemon.sql("SELECT COUNT(*) FROM workflow_executions") == [(0,)]

    machine.play(play, is_idle=True)


def test_encrypted_data_needs_its_passphrase_before_anything_exists(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        service = await daemon.files("x", {"x": b"1"}, passphrase="open sesame")
        drawn = await daemon.draw([service, await daemon.program("a")], [edge(0, 1)])
        with pytest.raises(PermissionDenied):
            await daemon.workflow_manager.execute(drawn.workflow_id, passphrase="wrong one")
        with pytest.raises(ValidationFailed, match="give its passphrase"):
            await daemon.workflow_manager.execute(drawn.workflow_id, passphrases={ServiceId(77): "open sesame"})
        await daemon.workflow_manager.execute(drawn.workflow_id, passphrases={service.id: "open sesame"})
        await daemon.data.unlock(service.id, "open sesame")
        await daemon.workflow_manager.execute(drawn.workflow_id)
        assert await daemon.sql("SELECT COUNT(*) FROM workflow_executions") == [(2,)]

    machine.play(play, is_idle=True)


def test_a_plan_says_what_every_executor_would_answer_and_changes_nothing(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        services = [await daemon.program("a"), await daemon.program("b")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(1, None)])
        report = await daemon.workflow_manager.plan(drawn.workflow_id)
        assert report.ok
        assert [(job.node_id, job.accepted) for job in report.jobs] == [(node, True) for node in drawn.nodes]
        assert [(end.from_peer_id, end.to_peer_id, end.reachable) for end in report.edges] == [
            ("rnme", "rnme", True)
        ] * 2
        await daemon.by_hand("UPDATE offered_services SET service_type = 'DOCKER' WHERE name = 'b'")
        counts = "SELECT (SELECT COUNT(*) FROM job_executions) + (SELECT COUNT(*) FROM workflow_executions)"
        assert await daemon.sql(counts) == [(0,)]

    machine.play(play, is_idle=True)


def test_problems_are_all_told_and_no_definition_is_built(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        services = [await daemon.program("a"), await daemon.program("b")]
        drawn = await daemon.draw(services, [edge(0, 1), edge(1, 0)])
        report = await daemon.workflow_manager.validate(drawn.workflow_id)
        assert report.definition is None
        assert any("cycle" in problem.message.lower() for problem in report.problems)
        with pytest.raises(ValidationFailed):
            await daemon.workflow_manager.plan(drawn.workflow_id)
        with pytest.raises(NotFound):
            await daemon.workflow_manager.validate(WorkflowId(77))

    machine.play(play, is_idle=True)


def test_a_service_that_is_gone_is_a_problem_of_its_node(machine: Machine) -> None:
    async def play(daemon: Daemon) -> None:
        drawn = await daemon.draw([await daemon.program("a")], [])
        await daemon.by_hand("DELETE FROM offered_services")
        report = await daemon.workflow_manager.validate(drawn.workflow_id)
        assert [problem.node_id for problem in report.problems] == [drawn.nodes[0]]

    machine.play(play, is_idle=True)
