"""What another attempt needs is there already: neither an attempt within an execution nor `execution.retry` moves its bytes again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.peer_sites import MOUNT_IN
from tests.integration.test_peers_recognise import LIST_ALL, TALK_BYTES, Lane, lane, listing

__all__ = ["lane"]  # a fixture

MADE_BYTES = 18 << 20


def _sent(lane: Lane) -> tuple[int, int]:
    """Return how many bytes the giver has sent to the taker so far, and the taker to the giver."""
    return lane.proxy.to_client, lane.proxy.to_server


def test_another_attempt_of_a_job_that_is_retry_safe_keeps_its_inputs(lane: Lane, tmp_path: Path) -> None:
    count = tmp_path / "count"
    data = lane.giver.give("folder", lane.folder)
    script = f"echo x >> '{count}'; test $(grep -c x '{count}') -ge 3 || exit 9; {LIST_ALL}"
    more = {"retry_safe": True, "retry": {"attempts": 3, "backoff_s": 0.2}}
    flaky = lane.taker.offer("flaky", script, interfaces=[MOUNT_IN], **more)
    workflow = lane.giver.workflow("attempts")
    end = lane.giver.remote_node(workflow, lane.taker, flaky)
    lane.giver.connect(workflow, lane.giver.node(workflow, data["id"]), end, "STDOUT->MOUNT")
    lane.giver.connect(workflow, end, None)
    execution = lane.giver.run(workflow)
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    assert list(lane.giver.results(execution["id"]).values()) == [listing(lane.folder).encode()]
    of_flaky = "SELECT status, attempt FROM job_executions WHERE job_name = 'flaky'"
    assert (lane.giver.rows(of_flaky), lane.taker.rows(of_flaky)) == ([("COMPLETED", 3)], [("COMPLETED", 3)])
    size = sum(path.stat().st_size for path in lane.folder.rglob("*.bin"))
    assert size <= _sent(lane)[0] < size + 2 * TALK_BYTES


def test_there_are_as_many_attempts_as_the_owner_says_and_one_where_he_does_not(lane: Lane, tmp_path: Path) -> None:
    for name, more, attempts in (
        ("twice", {"retry_safe": True, "retry": {"attempts": 2, "backoff_s": 0.1}}, 2),
        ("once", {}, 1),
    ):
        runs = tmp_path / name
        workflow = lane.giver.workflow(name)
        lane.giver.remote_node(workflow, lane.taker, lane.taker.offer(name, f"echo x >> '{runs}'; exit 9", **more))
        assert lane.giver.run(workflow)["status"] == "FAILED"
        assert runs.read_text().split() == ["x"] * attempts


def test_a_retried_execution_moves_nothing_that_was_moved_before(lane: Lane, tmp_path: Path) -> None:
    """What ran on either peer serves again; what it made is there where it was brought, also at home."""
    giver, taker = lane.giver, lane.taker
    flag, runs = tmp_path / "flag", tmp_path / "runs"
    make = giver.offer("make", f"echo make >> '{runs}'; head -c {MADE_BYTES} /dev/urandom")
    turn = taker.offer("turn", f"echo turn >> '{runs}'; cat; echo turned")
    bad = taker.offer("bad", f"echo bad >> '{runs}'; test -e '{flag}' && cat | wc -c")
    workflow = giver.workflow("retried")
    first = giver.node(workflow, make["id"])
    second, third, fourth = (giver.remote_node(workflow, taker, offer) for offer in (turn, bad, bad))
    giver.connect(workflow, first, second)
    giver.connect(workflow, first, third)
    giver.connect(workflow, second, fourth)
    home = [giver.connect(workflow, node, None) for node in (second, third, fourth)]
    failed = giver.run(workflow, timeout_s=120)
    assert failed["status"] == "FAILED"
    taker.until("SELECT COUNT(*) FROM transfers WHERE status IN ('PENDING', 'ACTIVE')", 0)
    before = _sent(lane)
    assert before[0] >= MADE_BYTES
    assert before[1] >= MADE_BYTES
    flag.touch()
    retry: dict[str, Any] = giver.wait(giver.call("execution.retry", execution_id=failed["id"])["execution_id"])
    assert (retry["status"], retry["error"]) == ("COMPLETED", None)
    results = giver.results(retry["id"])
    assert len(results[home[0], "stdout.txt"]) == MADE_BYTES + len("turned\n")
    assert results[home[1], "stdout.txt"] == f"{MADE_BYTES}\n".encode()
    assert sorted(runs.read_text().split()) == ["bad"] * 4 + ["make", "turn"]
    moved = [after - earlier for earlier, after in zip(before, _sent(lane), strict=True)]
    assert max(moved) < TALK_BYTES, moved
