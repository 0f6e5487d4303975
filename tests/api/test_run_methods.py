"""What the API tells of real runs: executions, jobs, logs, transfers and results of a real daemon."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from rnd.api.handlers_jobs import _whole_characters
from rnd.api.method_table import build_table
from tests.running_peer import RpcError, RunningPeer

TABLE = build_table()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    running = RunningPeer(tmp_path_factory.mktemp("run methods") / "data")
    running.start()
    yield running
    running.dispose()


@pytest.fixture(scope="module")
def finished(peer: RunningPeer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A finished execution: DATA -> a program -> the self-peer."""
    source = tmp_path_factory.mktemp("source") / "words.txt"
    source.write_text("ein zwei drei\n")
    workflow_id = peer.workflow("finished")
    words = peer.node(workflow_id, peer.data("words", source))
    count = peer.node(workflow_id, peer.program("count", "printf 'größer: '; wc -w; echo oops >&2\n"))
    peer.connect(workflow_id, words, count)
    home = peer.connect(workflow_id, count, None, "STDOUT->MOUNT", destination_file_name="count.txt")
    execution = peer.wait(peer.execute(workflow_id))
    return {"execution": execution, "workflow_id": workflow_id, "words": words, "count": count, "home": home}


def checked(peer: RunningPeer, method: str, /, **params: Any) -> Any:
    """Call a method and hold its answer against the schema that `rpc.discover` promises."""
    answer = peer.call(method, **params)
    Draft7Validator(TABLE.methods[method].result).validate(answer)
    return answer


def refusal(peer: RunningPeer, method: str, /, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as refused:
        peer.call(method, **params)
    return refused.value


# ---------------------------------------------------------------- checking and starting


def test_validation_names_every_problem_and_changes_nothing(peer: RunningPeer) -> None:
    workflow_id = peer.workflow("checked")
    empty = checked(peer, "workflow.validate", workflow_id=workflow_id)
    assert empty["valid"] is False
    assert empty["problems"][0]["message"] == "Workflow must have at least one job"
    peer.node(workflow_id, peer.program("checked", "true\n"))
    sound = checked(peer, "workflow.validate", workflow_id=workflow_id)
    assert (sound["valid"], len(sound["definition"]["jobs"])) == (True, 1)
    assert peer.call("workflow.get", workflow_id=workflow_id)["definition"] == {"jobs": []}


def test_an_invalid_workflow_is_refused_before_it_is_run(peer: RunningPeer) -> None:
    error = refusal(peer, "workflow.execute", workflow_id=peer.workflow("empty"))
    assert (error.code, error.data["error"]) == (1100, "VALIDATION_FAILED")
    assert error.data["problems"]


def test_an_accepted_workflow_is_pending_and_cannot_be_deleted(peer: RunningPeer) -> None:
    workflow_id = peer.workflow("accepted")
    peer.node(workflow_id, peer.program("accepted", "exec sleep 600\n"))
    accepted = checked(peer, "workflow.execute", workflow_id=workflow_id, deadlines={"max_runtime_s": 60})
    assert accepted["status"] == "PENDING"
    error = refusal(peer, "workflow.delete", workflow_id=workflow_id)
    assert (error.code, error.data["error"]) == (1200, "CONFLICT")
    peer.call("execution.cancel", execution_id=accepted["execution_id"])
    peer.wait(accepted["execution_id"])


def test_a_plan_says_what_every_executor_would_answer(peer: RunningPeer) -> None:
    workflow_id = peer.workflow("planned")
    node_id = peer.node(workflow_id, peer.program("planned", "true\n"))
    peer.connect(workflow_id, node_id, None, "STDOUT->MOUNT")
    plan = checked(peer, "workflow.plan", workflow_id=workflow_id)
    assert plan["ok"] is True
    peer_id = peer.call("node.status")["peer_id"]
    accepted = {"node_id": node_id, "executor_peer_id": peer_id, "accepted": True, "reasons": [], "warnings": []}
    assert plan["jobs"] == [{**accepted, "service_revision": 1}]
    assert plan["edges"][0]["reachable"] is True


def test_the_node_tells_that_programs_can_be_run(peer: RunningPeer) -> None:
    assert checked(peer, "node.status")["executors"]["standalone"]["available"] is True
    assert checked(peer, "node.capabilities")["executors"]["standalone"]["available"] is True


# ---------------------------------------------------------------- looking back


def test_a_finished_execution_tells_its_jobs_and_progress(peer: RunningPeer, finished: dict[str, Any]) -> None:
    execution = checked(peer, "execution.get", execution_id=finished["execution"]["execution_id"])
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    assert [job["node_id"] for job in execution["jobs"]] == [finished["words"], finished["count"]]
    assert {job["status"] for job in execution["jobs"]} == {"COMPLETED"}
    assert execution["progress"]["jobs_total"] == execution["progress"]["jobs_terminal"] == 2
    assert "definition" not in execution


def test_an_execution_tells_what_it_has_run_though_the_drawing_has_changed(peer: RunningPeer) -> None:
    workflow_id = peer.workflow("frozen")
    node_id = peer.node(workflow_id, peer.program("frozen", "true\n"))
    connection_id = peer.connect(workflow_id, node_id, None, "STDOUT->MOUNT")
    execution_id = peer.run(workflow_id)["execution_id"]
    peer.call("workflow.delete_connection", workflow_id=workflow_id, connection_id=connection_id)
    execution = checked(peer, "execution.get", execution_id=execution_id, with_definition=True)
    (job,) = execution["definition"]["jobs"]
    (interface,) = (each for each in job["interfaces"] if each["interface_peers"])
    assert (job["node_id"], interface["type"]) == (node_id, "STDOUT")
    assert [each["connection_id"] for each in interface["interface_peers"]] == [connection_id]


def test_executions_are_listed_by_workflow_and_status(peer: RunningPeer, finished: dict[str, Any]) -> None:
    listed = checked(peer, "execution.list", workflow_id=finished["workflow_id"], status="COMPLETED")
    assert [item["id"] for item in listed["items"]] == [finished["execution"]["id"]]
    assert (listed["items"][0]["jobs_total"], listed["items"][0]["jobs_terminal"]) == (2, 2)
    assert checked(peer, "execution.list", workflow_id=finished["workflow_id"], status="FAILED")["items"] == []


@pytest.mark.parametrize("method", ["execution.list", "job.list"])
def test_lists_go_down_from_the_newest_as_they_go_up_from_the_oldest(
    peer: RunningPeer, finished: dict[str, Any], method: str
) -> None:
    peer.run(finished["workflow_id"])
    up = [item["id"] for item in checked(peer, method)["items"]]
    assert len(up) > 1
    assert up == sorted(up)
    down: list[int] = []
    after_id = 0
    while after_id is not None:
        page = checked(peer, method, newest_first=True, limit=1, after_id=after_id)
        assert page["total"] == len(up)
        down += [item["id"] for item in page["items"]]
        after_id = page["next_after_id"]
    assert down == up[::-1]
    completed = [item["id"] for item in checked(peer, method, newest_first=True, status="COMPLETED")["items"]]
    assert completed == [item["id"] for item in checked(peer, method, status="COMPLETED")["items"]][::-1]


def test_waiting_for_what_has_ended_returns_at_once(peer: RunningPeer, finished: dict[str, Any]) -> None:
    waited = checked(peer, "execution.wait", execution_id=finished["execution"]["id"], timeout_s=60)
    assert waited["status"] == "COMPLETED"


def test_cancelling_what_has_ended_is_a_conflict(peer: RunningPeer, finished: dict[str, Any]) -> None:
    error = refusal(peer, "execution.cancel", execution_id=finished["execution"]["id"])
    assert (error.code, error.data["error"]) == (1200, "CONFLICT")


def test_results_are_listed_and_downloaded(peer: RunningPeer, finished: dict[str, Any]) -> None:
    listed = checked(peer, "execution.results", execution_id=finished["execution"]["id"])
    (item,) = listed["items"]
    assert (item["path"], item["connection_id"]) == ("count.txt", finished["home"])
    status, body = peer.get(item["url"])
    assert (status, body.split()) == (200, ["größer:".encode(), b"3"])
    assert Path(item["absolute_path"]).read_bytes() == body
    assert listed["outstanding"] == []


def test_a_job_is_found_with_its_routing(peer: RunningPeer, finished: dict[str, Any]) -> None:
    listed = checked(peer, "job.list", execution_id=finished["execution"]["id"])
    count = next(item for item in listed["items"] if item["node_id"] == finished["count"])
    job = checked(peer, "job.get", job_execution_id=count["id"])
    assert (job["status"], job["exit_code"], job["service_name"], job["service_type"]) == (
        *("COMPLETED", 0, "count"),
        "STANDALONE",
    )
    interfaces = checked(peer, "job.interfaces", job_execution_id=count["id"])
    duties = {
        (interface["interface_type"], end["peer_mount_function"], end["duty_acknowledged"])
        for interface in interfaces
        for end in interface["peers"]
    }
    assert duties == {("STDIN", "OUTPUT", True), ("STDOUT", "INPUT", True)}


def test_logs_are_read_piece_by_piece_without_breaking_a_character(peer: RunningPeer, finished: dict[str, Any]) -> None:
    where = {"execution_id": finished["execution"]["id"], "node_id": finished["count"]}
    whole = checked(peer, "job.logs", **where)
    assert whole["data"].split() == ["größer:", "3"]
    assert whole["eof"] is True
    text, offset, eof = "", 0, False
    while not eof:
        piece = checked(peer, "job.logs", **where, offset=offset, limit_bytes=16)
        text, offset, eof = text + piece["data"], piece["next_offset"], piece["eof"]
    assert (text, offset) == (whole["data"], whole["next_offset"])
    assert checked(peer, "job.logs", **where, stream="stderr")["data"] == "oops\n"
    assert "oops" in checked(peer, "job.logs", **where, stream="logs")["data"]
    past = checked(peer, "job.logs", **where, offset=10**9)
    assert (past["data"], past["eof"]) == ("", True)


def test_a_data_job_has_no_logs(peer: RunningPeer, finished: dict[str, Any]) -> None:
    told = checked(peer, "job.logs", execution_id=finished["execution"]["id"], node_id=finished["words"])
    assert (told["data"], told["eof"]) == ("", True)


def test_logs_never_follow_a_link(peer: RunningPeer) -> None:
    workflow_id = peer.workflow("link")
    count = peer.node(workflow_id, peer.program("linker", "echo fine\n"))
    execution = peer.wait(peer.execute(workflow_id))
    (log,) = peer.data_dir.glob(f"workflows/*/*/jobs/*/{execution['jobs'][0]['job_execution_id']}/logs/stdout.txt")
    log.unlink()
    log.symlink_to(peer.data_dir / "api_token")
    told = checked(peer, "job.logs", execution_id=execution["id"], node_id=count)
    assert told["data"] == ""


def test_a_finished_job_is_explained(peer: RunningPeer, finished: dict[str, Any]) -> None:
    told = checked(peer, "job.explain", execution_id=finished["execution"]["id"], node_id=finished["count"])
    assert told["status"] == "COMPLETED"
    assert told["because"]


@pytest.mark.parametrize("method", ["job.logs", "job.explain"])
@pytest.mark.parametrize(
    "which",
    [
        {},
        {"execution_id": 1},
        {"node_id": 1},
        {"job_execution_id": 1, "execution_id": 1},
        {"job_execution_id": 1, "node_id": 1},
    ],
)
def test_a_job_is_named_in_one_of_two_ways(peer: RunningPeer, method: str, which: dict[str, int]) -> None:
    error = refusal(peer, method, **which)
    assert (error.code, error.data["parameter"]) == (-32602, "job_execution_id")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("workflow.validate", {"workflow_id": 999}),
        ("workflow.plan", {"workflow_id": 999}),
        ("workflow.execute", {"workflow_id": 999}),
        ("execution.get", {"execution_id": 999}),
        ("execution.wait", {"execution_id": 999, "timeout_s": 0}),
        ("execution.cancel", {"execution_id": 999}),
        ("execution.retry", {"execution_id": 999}),
        ("execution.results", {"execution_id": 999}),
        ("execution.ticket", {"execution_id": 999, "node_id": 1, "connection_id": 1, "path": "x"}),
        ("job.get", {"job_execution_id": 999}),
        ("job.interfaces", {"job_execution_id": 999}),
        ("job.logs", {"job_execution_id": 999}),
        ("job.logs", {"execution_id": 999, "node_id": 1}),
        ("job.explain", {"job_execution_id": 999}),
        ("transfer.get", {"transfer_id": "nope"}),
    ],
)
def test_what_is_not_there_is_not_found(peer: RunningPeer, method: str, params: dict[str, Any]) -> None:
    error = refusal(peer, method, **params)
    assert (error.code, error.data["error"]) == (1000, "NOT_FOUND")
    assert error.data["hint"]


@pytest.mark.parametrize(
    ("method", "params", "where"),
    [
        ("job.logs", {"job_execution_id": 1, "stream": "stdin"}, "stream"),
        ("job.logs", {"job_execution_id": 1, "offset": -1}, "offset"),
        ("job.logs", {"job_execution_id": 1, "offset": 2**63}, "offset"),
        ("job.logs", {"job_execution_id": 1, "limit_bytes": 10**9}, "limit_bytes"),
        ("execution.wait", {"execution_id": 1, "timeout_s": 10**6}, "timeout_s"),
        ("execution.list", {"status": "completed"}, "status"),
        ("job.list", {"limit": 1001}, "limit"),
        ("job.list", {"limit": 0}, "limit"),
        ("transfer.list", {"after_id": -1}, "after_id"),
        ("transfer.get", {"transfer_id": 5}, "transfer_id"),
        ("execution.ticket", {"execution_id": 1, "node_id": 1, "connection_id": 1, "path": "a\0"}, "path"),
    ],
)
def test_wrong_questions_are_refused_by_name(
    peer: RunningPeer, method: str, params: dict[str, Any], where: str
) -> None:
    error = refusal(peer, method, **params)
    assert (error.code, error.data["parameter"]) == (-32602, where)


def test_transfers_tell_what_moved_and_how_fast(peer: RunningPeer, finished: dict[str, Any]) -> None:
    listed = checked(peer, "transfer.list", execution_id=finished["execution"]["id"], status="COMPLETED")
    assert len(listed["items"]) == 2
    first = checked(peer, "transfer.get", transfer_id=listed["items"][0]["transfer_id"])
    assert first["direction"] == "LOCAL"
    assert first["bytes_done"] == first["size_bytes"] == len("ein zwei drei\n")
    assert first["execution_id"] == finished["execution"]["id"]


def test_a_failed_execution_is_retried_and_cancelled(peer: RunningPeer) -> None:
    workflow_id = peer.workflow("fails")
    peer.node(workflow_id, peer.program("fails", "exit 3\n"))
    failed = peer.wait(peer.execute(workflow_id))
    assert failed["status"] == "FAILED"
    assert failed["jobs"][0]["status"] == "ERRORED"
    retried = checked(peer, "execution.retry", execution_id=failed["id"])
    assert retried["execution_id"] != failed["id"]
    assert peer.wait(retried["execution_id"])["status"] == "FAILED"


def test_a_running_execution_is_cancelled_with_a_reason(peer: RunningPeer) -> None:
    workflow_id = peer.workflow("sleeps")
    peer.node(workflow_id, peer.program("sleeps", "exec sleep 600\n"))
    execution_id = peer.execute(workflow_id)
    assert checked(peer, "execution.wait", execution_id=execution_id, timeout_s=0.2)["status"] in ("PENDING", "RUNNING")
    checked(peer, "execution.cancel", execution_id=execution_id, reason="enough")
    assert peer.wait(execution_id)["status"] == "CANCELLED"


def test_a_browser_downloads_with_a_ticket_over_tcp(peer: RunningPeer, finished: dict[str, Any]) -> None:
    wanted = {"node_id": finished["count"], "connection_id": finished["home"], "path": "count.txt"}
    issued = checked(peer, "execution.ticket", execution_id=finished["execution"]["id"], **wanted)
    host = peer.call("node.status")["api"]["url"].removeprefix("http://")
    statuses = []
    for _ in range(2):
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("GET", issued["url"])
        response = connection.getresponse()
        statuses.append(response.status)
        response.read()
        connection.close()
    assert statuses == [200, 401]


def test_no_answer_about_a_job_holds_what_the_environment_of_the_daemon_does(
    peer: RunningPeer, finished: dict[str, Any]
) -> None:
    told = json.dumps([peer.call("job.list"), peer.call("node.status"), peer.call("service.list")])
    assert "PATH=" not in told


@pytest.mark.parametrize(
    ("piece", "final", "text", "taken"),
    [
        (b"abc", False, "abc", 3),
        ("ä".encode(), False, "ä", 2),
        ("aä".encode()[:2], False, "a", 1),
        ("a€".encode()[:3], False, "a", 1),
        ("a😀".encode()[:4], False, "a", 1),
        ("a😀".encode(), False, "a😀", 5),
        ("a€".encode()[:3], True, "a\ufffd", 3),
        (b"\x80\x80\x80\x80", False, "\ufffd\ufffd\ufffd\ufffd", 4),
        (b"a\xff", False, "a", 1),
        (b"", False, "", 0),
    ],
)
def test_a_cut_off_character_waits_for_the_next_piece(piece: bytes, final: bool, text: str, taken: int) -> None:
    assert _whole_characters(piece, final=final) == (text, taken)
