"""What the client does with answers that no good daemon gives, with bytes that are not as announced, and with silence."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Rnd
from tests.cli.scripted_daemon import Refusal, ScriptedDaemon, scripted_daemon

EVIL = "\x1b[31mred\x1b[0m\r\nsecond \x07\u202ename"
SHOWN = "\\x1b[31mred\\x1b[0m\\r\\nsecond \\x07\\u202ename"
TIME = "2026-01-31T12:00:00.000Z"


def refuse(code: int, message: str, **data: Any) -> Any:
    def answer(params: dict[str, Any]) -> None:
        raise Refusal(code, message, **data)

    return answer


def page(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "total": len(items), "next_after_id": None}


def execution(**more: Any) -> dict[str, Any]:
    return {
        "id": 1, "execution_id": 1, "workflow_id": 1, "workflow_name": "w", "status": "COMPLETED", "error": None,
        "created_at": TIME, "started_at": TIME, "completed_at": TIME, "jobs": [],
        "jobs_total": 0, "jobs_terminal": 0,
        "progress": {"jobs_total": 0, "jobs_terminal": 0, "bytes_total": 0, "bytes_done": 0}, **more,
    }  # fmt: skip


def job(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number, "job_execution_id": number, "node_id": number, "job_name": f"n{number}", "status": "COMPLETED",
        "service_type": "STANDALONE", "error": None, **more,
    }  # fmt: skip


# ---------------------------------------------------------------- no daemon, or none that speaks


def test_no_daemon_is_said_with_how_to_start_it(rnd: Rnd) -> None:
    done = rnd("status")
    assert (done.code, done.out) == (5, "")
    message, hint = done.err.splitlines()
    assert message == f"rnd: no daemon answers at {rnd.data_dir}/api.sock (no such file or directory)"
    assert hint.startswith(f"hint: Start it: rnd serve --data-dir {rnd.data_dir}")


def test_a_socket_that_a_dead_daemon_left_is_no_daemon(rnd: Rnd) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(rnd.data_dir / "api.sock"))
    done = rnd("ps", "--json")
    assert done.code == 5
    assert done.json["error"]["exit_code"] == 5
    assert "connection refused" in done.err


def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a folder with a rather long name"] * 6)
    deep.mkdir(parents=True)
    assert len(str(deep)) > 200
    with scripted_daemon(deep / "api.sock") as daemon:
        daemon.methods["service.list"] = page()
        assert Rnd(data_dir=deep, home=tmp_path)("service", "list", "--json").json == {"items": [], "total": 0}


@contextlib.contextmanager
def server_that_sends(path: Path, content: bytes) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(content)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize(
    "content",
    [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe"],
)
def test_what_is_not_a_daemon_is_said_in_a_sentence(rnd: Rnd, content: bytes) -> None:
    with server_that_sends(rnd.data_dir / "api.sock", content):
        done = rnd("status")
    assert done.code == 5
    assert done.err.startswith("rnd: ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("status", "raw", "code", "words"),
    [
        (401, b"{}", 4, "wants a valid token"),
        (403, b'{"error": "TRANSPORT", "hint": "this Host is not allowed"}', 4, "rnd: this Host is not allowed"),
        (
            413,
            b'{"error": "LIMIT_EXCEEDED", "hint": "Ask for less."}',
            1,
            "refused: LIMIT_EXCEEDED\nhint: Ask for less.",
        ),
        (413, b"<html>", 1, "answered HTTP 413"),
        (500, b"\x1b[31m", 1, "\\x1b[31m"),
        (200, b"[]", 5, "not JSON"),
        (200, b'{"jsonrpc": "2.0"}', 5, "not JSON-RPC"),
    ],
)
def test_transport_faults_have_their_exit_codes(
    rnd: Rnd, daemon: ScriptedDaemon, status: int, raw: bytes, code: int, words: str
) -> None:
    daemon.status, daemon.raw = status, raw
    done = rnd("status")
    assert done.code == code
    assert words in done.err


# ---------------------------------------------------------------- refusals


def test_a_refusal_is_its_sentence_each_problem_and_the_hint(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    problems: list[dict[str, Any]] = [
        {"check": "service", "message": "Service X not found", "node_id": 3},
        {"check": "cycle", "message": "Workflow has a cycle: a -> b -> a"},
        {"check": "c", "message": EVIL, "connection_id": 7},
    ]
    message = "; ".join(str(problem["message"]) for problem in problems)
    daemon.methods["workflow.execute"] = refuse(1100, message, problems=problems, hint="Mend it.")
    done = rnd("run", "1")
    assert done.code == 1
    assert done.err.splitlines() == [
        "rnd: 3 problems found",
        "  - node 3: Service X not found",
        "  - Workflow has a cycle: a -> b -> a",
        f"  - connection 7: {SHOWN}",
        "hint: Mend it.",
    ]


@pytest.mark.parametrize(
    ("code", "data", "exit_code", "words"),
    [
        (1600, {"error": "PERMISSION_DENIED", "hint": "Ask."}, 4, "hint: Ask."),
        (1301, {"error": "PEER_REFUSED", "reason": "not you"}, 1, "rnd: no: not you"),
        (-32603, {"error": "INTERNAL", "error_id": "ab12"}, 1, "error_id=ab12"),
        (1000, None, 1, "rnd: no"),
        (1000, "odd", 1, "rnd: no"),
    ],
)
def test_error_codes_become_exit_codes(
    rnd: Rnd, daemon: ScriptedDaemon, code: int, data: Any, exit_code: int, words: str
) -> None:
    def answer(params: dict[str, Any]) -> None:
        refusal = Refusal(code, "no")
        refusal.error["data"] = data
        raise refusal

    daemon.methods["execution.get"] = answer
    done = rnd("show", "1")
    assert done.code == exit_code
    assert words in done.err


def test_with_json_a_refusal_is_a_document_too(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["execution.get"] = refuse(1000, "Execution 1 not found", error="NOT_FOUND", hint="h")
    done = rnd("show", "1", "--json")
    assert done.json == {
        "error": {
            "code": 1000, "message": "Execution 1 not found", "data": {"error": "NOT_FOUND", "hint": "h"}, "exit_code": 1,
        }
    }  # fmt: skip


# ---------------------------------------------------------------- text that acts on terminals


def test_nothing_of_a_name_or_an_error_reaches_the_terminal_raw(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    service = {
        "id": 1, "name": EVIL, "service_type": "STANDALONE", "status": EVIL, "executable": EVIL, "cmd": [EVIL],
        "interfaces": [{"interface_type": EVIL}], "description": EVIL, "env": {EVIL: EVIL}, "created_at": EVIL,
    }  # fmt: skip
    bad_job = job(1, job_name=EVIL, status="ERRORED", error=EVIL)
    bad = execution(status="FAILED", workflow_name=EVIL, error=EVIL, jobs=[bad_job])
    explanation = {
        "status": EVIL, "because": EVIL, "do": EVIL, "checks": [{"check": EVIL, "ok": False, "evidence": EVIL}],
    }  # fmt: skip
    result = {"node_id": 1, "connection_id": 1, "path": EVIL, "absolute_path": EVIL, "size_bytes": 1, "sha256": EVIL}
    daemon.methods |= {
        "service.list": page(service),
        "service.get": service,
        "execution.list": page(bad),
        "execution.get": bad,
        "job.list": page({"id": 1, "error_message": EVIL}),
        "job.explain": explanation,
        "execution.results": {"items": [result], "outstanding": [{"node_id": 1, "connection_id": 2, "error": EVIL}]},
        "workflow.list": page({"id": 1, "name": EVIL, "description": EVIL, "node_count": EVIL, "updated_at": EVIL}),
        "token.list": page({"id": 1, "name": EVIL, "scope": EVIL, "created_at": EVIL}),
        "upload.list": page({"id": 1, "name": EVIL, "size_bytes": 1, "created_at": EVIL}),
        "rpc.discover": {"methods": [{"name": EVIL, "summary": EVIL, "params": [{"name": EVIL}]}]},
        "execution.cancel": {**bad, "status": EVIL},
        "job.logs": {"data": EVIL, "next_offset": 10, "eof": True},
    }
    for arguments in (
        ["service", "list"], ["service", "show", "1"], ["ps"], ["show", "1"], ["explain", "-e", "1"], ["results", "1"],
        ["workflow", "list"], ["token", "list"], ["upload", "--list"], ["rpc", "--list"], ["watch", "1"],
        ["service", "list", "--json"], ["results", "1", "-q"], ["completion", "--candidates", "services"],
    ):  # fmt: skip
        done = rnd(*arguments)
        for raw in ("\x1b", "\x07", "\r", "\u202e"):
            assert raw not in done.out + done.err, arguments
        assert "Traceback" not in done.err, (arguments, done.err)


def test_logs_are_raw_in_a_pipe_and_json_escapes_them(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["job.get"] = job(1)
    daemon.methods["job.logs"] = {"data": EVIL, "next_offset": 10, "eof": True}
    assert rnd("logs", "1").out == EVIL
    assert rnd("logs", "1", "--json").json["data"] == EVIL


# ---------------------------------------------------------------- results that lead astray


def offer(daemon: ScriptedDaemon, path: str, content: bytes, **more: Any) -> None:
    item = {
        "node_id": 1, "connection_id": 2, "path": path, "absolute_path": f"/x/{path}", "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(), "executable": False, **more,
    }  # fmt: skip
    daemon.methods["execution.results"] = {"items": [item], "outstanding": []}
    daemon.methods["execution.get"] = execution(jobs=[job(1)])
    daemon.files[f"/results/1/1/2/{path}"] = content


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a/../../out", "a//b", "./a", "", "a\0b"])
def test_no_result_is_written_outside_of_the_folder(rnd: Rnd, daemon: ScriptedDaemon, path: str) -> None:
    offer(daemon, path, b"x")
    done = rnd("results", "1", "-o", rnd.home / "out")
    assert done.code == 1
    assert "leads out of the folder" in done.err
    assert not (rnd.home / "out").exists()


def test_no_symbolic_link_below_the_folder_is_followed(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    elsewhere = rnd.home / "elsewhere"
    elsewhere.mkdir()
    (rnd.home / "out").mkdir()
    (rnd.home / "out" / "sub").symlink_to(elsewhere)
    offer(daemon, "sub/f", b"x")
    done = rnd("results", "1", "-o", rnd.home / "out")
    assert done.code == 1
    assert "symbolic link" in done.err
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_written_through(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    (rnd.home / "precious").write_text("mine")
    (rnd.home / "out").mkdir()
    (rnd.home / "out" / "f").symlink_to(rnd.home / "precious")
    offer(daemon, "f", b"new")
    assert rnd("results", "1", "-o", rnd.home / "out").code == 1
    assert rnd("results", "1", "-o", rnd.home / "out", "--force").code == 0
    assert (rnd.home / "out" / "f").read_bytes() == b"new"
    assert (rnd.home / "precious").read_text() == "mine"


@pytest.mark.parametrize("wrong", [b"other bytes", b"short", b""])
def test_bytes_that_are_not_as_announced_are_thrown_away(rnd: Rnd, daemon: ScriptedDaemon, wrong: bytes) -> None:
    offer(daemon, "f", b"right bytes")
    daemon.files["/results/1/1/2/f"] = wrong
    done = rnd("results", "1", "-o", rnd.home / "out")
    assert done.code == 1
    assert "did not arrive as it was announced" in done.err
    assert list((rnd.home / "out").iterdir()) == []


def test_a_file_that_is_there_is_kept_if_it_is_the_same_and_else_needs_force(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    offer(daemon, "a/f", b"content", executable=True)
    place = rnd.home / "out" / "a" / "f"
    done = rnd("results", "1", "-o", rnd.home / "out", "--json")
    assert done.json["items"][0]["saved_as"] == str(place)
    assert os.access(place, os.X_OK)
    daemon.files.clear()  # the second time nothing is asked for
    assert rnd("results", "1", "-o", rnd.home / "out").out == f"{place}\n"
    place.write_bytes(b"changed")
    done = rnd("results", "1", "-o", rnd.home / "out")
    assert (done.code, place.read_bytes()) == (1, b"changed")
    assert "is there already" in done.err


def test_results_of_several_connections_have_folders_of_their_own(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    items = []
    for node, connection in ((1, 10), (2, 20), (2, 21)):
        content = f"{connection}".encode()
        items.append(
            {
                "node_id": node, "connection_id": connection, "path": "f", "absolute_path": "", "size_bytes": 2,
                "sha256": hashlib.sha256(content).hexdigest(), "executable": False,
            }
        )  # fmt: skip
        daemon.files[f"/results/1/{node}/{connection}/f"] = content
    items.append({**items[0], "path": "empty/", "size_bytes": 0, "sha256": ""})
    daemon.methods["execution.results"] = {"items": items, "outstanding": []}
    daemon.methods["execution.get"] = execution(jobs=[job(1, job_name="../up"), job(2)])
    assert rnd("results", "1", "-o", "out").code == 0
    found = sorted(
        str(path.relative_to(rnd.home / "out")) for path in (rnd.home / "out").rglob("*") if path != rnd.home
    )
    assert found == ["_up", "_up/empty", "_up/f", "n2-c20", "n2-c20/f", "n2-c21", "n2-c21/f"]


def test_many_results_come_over_a_few_connections_page_by_page(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    items = []
    for number in range(60):
        content = b"x" * (number + 1)
        offer(daemon, f"f{number}", content)
        items += daemon.methods["execution.results"]["items"]

    def listing(params: dict[str, Any]) -> dict[str, Any]:
        after = params.get("after_id", 0)
        end = after + 25
        more = end if end < len(items) else None
        return {"items": items[after:end], "total": len(items), "next_after_id": more, "outstanding": []}

    daemon.methods["execution.results"] = listing
    done = rnd("results", "1", "-o", rnd.home / "out")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [str(rnd.home / "out" / f"f{number}") for number in range(60)]
    assert [(rnd.home / "out" / f"f{number}").stat().st_size for number in range(60)] == list(range(1, 61))
    assert daemon.connections <= 9
    assert len(rnd("results", "1", "-q").out.splitlines()) == 60


def test_one_file_of_many_that_is_not_as_announced_fails_the_command(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    items = []
    for number in range(20):
        offer(daemon, f"f{number}", b"right")
        items += daemon.methods["execution.results"]["items"]
    daemon.files["/results/1/1/2/f7"] = b"wrong"
    daemon.methods["execution.results"] = {"items": items, "outstanding": []}
    done = rnd("results", "1", "-o", rnd.home / "out")
    assert done.code == 1
    assert "f7 did not arrive as it was announced" in done.err
    assert not [path for path in (rnd.home / "out").iterdir() if path.name.endswith(".part")]


# ---------------------------------------------------------------- long histories, daemons that come and go


def test_the_newest_of_a_long_history_is_asked_for_and_not_searched(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    ids = [number for number in range(1, 40_000) if number % 7]

    def listing(params: dict[str, Any]) -> dict[str, Any]:
        assert params["newest_first"]
        rest = [number for number in reversed(ids) if number < params.get("after_id", ids[-1] + 1)]
        items = rest[: params["limit"]]
        more = items[-1] if len(rest) > len(items) else None
        return {"items": [execution(id=number) for number in items], "total": len(ids), "next_after_id": more}

    daemon.methods["execution.list"] = listing
    done = rnd("ps", "-q", "-n", "5")
    assert done.out.split() == [str(number) for number in ids[-5:]]
    assert len(daemon.calls) == 1
    assert rnd("ps", "-q", "-n", "2500").out.split() == [str(number) for number in ids[-2500:]]
    assert len(daemon.calls) == 1 + 3
    daemon.methods["execution.get"] = lambda params: execution(id=params["execution_id"])
    assert rnd("show", "last", "--json").json["id"] == ids[-1]


def test_watching_waits_for_a_daemon_that_is_away_for_a_moment(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    def poll(params: dict[str, Any]) -> Any:
        daemon.hang_ups = 2
        daemon.methods["execution.get"] = execution()
        return {"items": [], "next_seq": 5}

    daemon.methods |= {
        "execution.get": execution(status="RUNNING", completed_at=None),
        "events.poll": poll,
        "execution.results": {"items": []},
        "transfer.list": page(),
    }
    done = rnd("watch", "1")
    assert done.code == 0, done.err
    assert done.err == "execution 1 RUNNING\nthe daemon is away; waiting for it\n"
    assert done.out == "execution 1 COMPLETED in 0.0s\n"


def test_watching_ends_at_its_timeout_even_if_the_daemon_stays_away(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.hang_ups = 1_000_000
    done = rnd("watch", "1", "--timeout", "0.1s")
    assert done.code == 5


def test_passphrases_go_to_the_daemon_and_nowhere_else(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["service.unlock"] = {"unlocked_until": TIME}
    (rnd.home / "phrase").write_text("correct horse\n")
    done = rnd("service", "unlock", "3", "--passphrase-file", "phrase")
    assert done.code == 0
    assert daemon.called("service.unlock") == [{"service_id": 3, "passphrase": "correct horse"}]
    assert "horse" not in done.out + done.err


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"\xff", "not UTF-8"), (b"x" * 70_000, "too big"), (None, "cannot be read")]
)
def test_no_passphrase_in_a_file_is_a_usage_error(
    rnd: Rnd, daemon: ScriptedDaemon, content: bytes | None, words: str
) -> None:
    if content is not None:
        (rnd.home / "phrase").write_bytes(content)
    done = rnd("service", "unlock", "3", "--passphrase-file", "phrase")
    assert done.code == 2
    assert words in done.err
    assert daemon.calls == []


def test_rpc_takes_json_where_it_parses_and_text_else(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["m"] = lambda params: params
    done = rnd("rpc", "m", "a=1", "b=x y", 'c={"d": [null]}', "e=NaN", "f=", "g=a=b", 'h="1"')
    assert done.json == {
        "a": 1, "b": "x y", "c": {"d": [None]}, "e": "NaN", "f": "", "g": "a=b", "h": "1",
    }  # fmt: skip
    assert json.loads(done.out) == done.json
    assert rnd("rpc", "m", "nothing").code == 2
    assert rnd("rpc").code == 2
