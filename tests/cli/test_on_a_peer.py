"""The command against a real daemon: services, workflows, runs and how they end, results, tokens."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.command import Done, Rnd
from tests.running_peer import RunningPeer


@pytest.fixture(scope="module", autouse=True)
def services(peer: RunningPeer) -> None:
    """What the workflows of these tests are made of."""
    peer.program("upper", "tr a-z A-Z")
    peer.program("fails", "echo to stdout; echo to stderr >&2; exit 3")
    peer.program("sleeps", "sleep 600")
    peer.program("leaves", "setsid sleep 600 >/dev/null 2>&1 & echo left")
    peer.program("speaks", 'printf "\\033[31mred\\033[0m\\n"; echo second')
    gate = peer.data_dir.parent / "gate"
    peer.program("gated", f"echo before; while ! [ -e '{gate}' ]; do sleep 0.05; done; echo after")


def workflow_file(rnd: Rnd, name: str, *services: str, **first: object) -> Path:
    """Write a workflow: the services in a line, the last one's STDOUT comes home as `out.txt`.

    Nodes are called as their services are, `upper-1` where that is taken.
    """
    ends = [
        service if service not in services[:index] else f"{service}-{index}" for index, service in enumerate(services)
    ]
    nodes = [{"name": name, "service_name": service} for name, service in zip(ends, services, strict=True)]
    connections = [
        {"from": start, "from_interface_type": "STDOUT", "to": end, "to_interface_type": "STDIN"}
        for start, end in itertools.pairwise(ends)
    ]
    home = {"from": ends[-1], "from_interface_type": "STDOUT", "destination_file_name": "out.txt"}
    sent = [{"to": ends[0], "to_interface_type": "STDIN", **first}] if first else []
    document = {"format": "rnd.workflow/1", "nodes": nodes, "connections": [*sent, *connections, home]}
    path = rnd.home / f"{name}.json"
    path.write_text(json.dumps(document))
    return path


def ok(done: Done) -> Done:
    assert done.code == 0, done.err
    return done


# ---------------------------------------------------------------- the peer


def test_status_shows_what_a_person_asks_first(on_peer: Rnd, peer: RunningPeer) -> None:
    lines = ok(on_peer("status")).out.splitlines()
    assert lines[0].split() == ["peer", peer.call("node.status")["peer_id"]]
    assert [line.split()[0] for line in lines[1:5]] == ["name", "version", "socket", "address"]


def test_over_tcp_a_token_opens_and_its_scope_bounds(on_peer: Rnd, peer: RunningPeer) -> None:
    url = peer.call("node.status")["api"]["url"]
    assert on_peer("--url", url, "status", RND_DATA_DIR="").code == 4
    token_file = peer.data_dir / "api_token"
    assert ok(on_peer("--url", url, "--token-file", token_file, "status")).out != ""
    reader = ok(on_peer("token", "create", "reader", "--scope", "read", "--valid", "1h")).out.strip()
    assert ok(on_peer("--url", url, "ps", "-q", RND_TOKEN=reader)).code == 0
    refused = on_peer("--url", url, "token", "list", RND_TOKEN=reader)
    assert (refused.code, refused.out) == (4, "")
    assert "reader" in ok(on_peer("token", "list")).out
    ok(on_peer("token", "revoke", "reader"))
    assert on_peer("--url", url, "ps", RND_TOKEN=reader).code == 4
    assert on_peer("--url", "ftp://x", "ps").code == 2
    assert on_peer("--url", url, "--data-dir", "x", "ps").code == 2


def test_rpc_lists_its_methods_and_calls_them(on_peer: Rnd) -> None:
    names = ok(on_peer("rpc", "--list", "-q")).out.split()
    assert {"node.status", "workflow.execute", "rpc.discover"} <= set(names)
    assert ok(on_peer("rpc", "service.list", "service_type=STANDALONE", "limit=1")).json["total"] >= 5
    unknown = on_peer("rpc", "node.statsu")
    assert (unknown.code, unknown.out) == (1, "")


# ---------------------------------------------------------------- services


def test_data_is_offered_listed_shown_and_removed(on_peer: Rnd) -> None:
    (on_peer.home / "text.txt").write_text("one two\n")
    assert ok(on_peer("service", "add", "data", "greek-text", "text.txt", "--description", "d")).out.endswith(
        "greek-text: 1 file, 8 B\n"
    )
    assert re.search(
        r"^ *\d+  greek-text +DATA +ACTIVE  1 file, 8 B$", ok(on_peer("service", "list")).out, re.MULTILINE
    )
    assert "downloadable  yes" in ok(on_peer("service", "show", "greek-text")).out
    ok(on_peer("service", "set-status", "greek-text", "INACTIVE"))
    assert ok(on_peer("service", "show", "greek-text", "--json")).json["status"] == "INACTIVE"
    ok(on_peer("service", "rm", "greek-text"))
    gone = on_peer("service", "show", "greek-txt")
    assert gone.code == 1
    assert "there is no service 'greek-txt'" in gone.err


def test_a_mistyped_name_is_answered_with_the_near_one(on_peer: Rnd) -> None:
    assert on_peer("service", "show", "uper").err.splitlines()[1] == "hint: Did you mean 'upper'?"


def test_a_program_is_offered_with_everything_that_can_be_said_about_it(on_peer: Rnd) -> None:
    (on_peer.home / "key").write_text("secret\n")
    service = ok(
        on_peer(
            *("service", "add", "standalone", "full", "sh", "--json", "--mount", "/in:input:required"),
            *("--mount", "/out:OUTPUT", "--env", "A=b=c", "--secret", "KEY=key", "--timeout", "2m", "--memory", "1G"),
            *("--cpus", "0.5", "--pids", "9", "--confine", "auto", "--host-path", "/srv:rw", "--attempts", "2"),
            *("--backoff", "1s", "--description", "d", "--arg=-c", "--", "true", "-x"),
        )
    ).json
    assert service["executable"].endswith("/sh")
    assert service["cmd"] == ["-c", "true", "-x"]
    assert service["env"] == {"A": "b=c"}
    assert (service["timeout_s"], service["retry_safe"], service["retry"]["attempts"]) == (120, True, 2)
    assert service["limits"] == {"memory_bytes": 1 << 30, "cpus": 0.5, "pids": 9}
    mounts = {i["path"]: (i["mount_function"], i["required"]) for i in service["interfaces"] if i["path"]}
    assert mounts == {"/in": ("INPUT", True), "/out": ("OUTPUT", False)}
    assert service["secret_names"] == ["KEY"]
    assert "secret\n" not in json.dumps(service)
    shown = ok(on_peer("service", "show", "full")).out
    assert "A=b=c" in shown
    assert "MOUNT      /in" in shown


def test_a_list_goes_on_after_an_option(on_peer: Rnd) -> None:
    assert ok(on_peer("rpc", "service.list", "limit=1", "--json", "service_type=DATA")).json["items"] != [0]
    (on_peer.home / "one").write_text("1")
    (on_peer.home / "two").write_text("2")
    made = ok(on_peer("service", "add", "data", "pair", "one", "--description", "d", "two", "--json")).json
    assert made["file_count"] == 2


@pytest.mark.parametrize(
    "arguments",
    [["--mount", "in:INPUT"], ["--mount", "/in"], ["--env", "A"], ["--backoff", "1s"], ["--secret", "K=/nowhere"]],
)
def test_what_cannot_be_understood_is_a_usage_error(on_peer: Rnd, arguments: list[str]) -> None:
    assert on_peer("service", "add", "standalone", "x", "sh", *arguments).code == 2


def test_a_program_that_is_nowhere_is_refused_here_already(on_peer: Rnd) -> None:
    done = on_peer("service", "add", "standalone", "x", "no-such-program")
    assert done.code == 1
    assert "no program 'no-such-program' in PATH" in done.err


def test_uploads_are_brought_listed_taken_and_dropped(on_peer: Rnd) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (on_peer.home / name).write_text(name)
    assert ok(on_peer("upload", "a.txt", "b.txt", "-q")).out == "a.txt\nb.txt\n"
    again = on_peer("upload", "a.txt")
    assert again.code == 1
    assert "exists already" in again.err
    assert ok(on_peer("upload", "--list", "-q")).out == "a.txt\nb.txt\n"
    ok(on_peer("service", "add", "data", "uploaded", "upload:a.txt"))
    ok(on_peer("service", "add", "data", "uploaded too", "--upload", "c.txt"))
    ok(on_peer("upload", "--rm", "b.txt"))
    assert ok(on_peer("upload", "--list", "--json")).json == {"items": [], "total": 0}
    assert on_peer("upload").code == on_peer("upload", "a.txt", "b.txt", "--name", "x").code == 2
    assert on_peer("upload", ".").code == 2


# ---------------------------------------------------------------- workflows


def test_a_file_is_imported_once_however_often_it_is_run(on_peer: Rnd) -> None:
    (on_peer.home / "in.txt").write_text("abc\n")
    path = workflow_file(on_peer, "shout", "upper", "upper", source_path="in.txt")
    first = ok(on_peer("run", path, "--json")).json
    again = ok(on_peer("run", path, "--json")).json
    assert (first["status"], again["workflow_id"]) == ("COMPLETED", first["workflow_id"])
    by_name = ok(on_peer("run", "shout", "--json")).json
    assert by_name["workflow_id"] == first["workflow_id"]
    path = workflow_file(on_peer, "shout", "upper", source_path="in.txt")
    changed = ok(on_peer("run", path, "--json")).json
    assert changed["workflow_id"] != first["workflow_id"]
    names = [item["name"] for item in ok(on_peer("workflow", "list", "--json")).json["items"]]
    assert names.count("shout") == 1


def test_a_file_replaces_its_running_predecessor_without_touching_it(on_peer: Rnd) -> None:
    path = workflow_file(on_peer, "long", "sleeps")
    running = ok(on_peer("run", path, "--detach", "-q")).out.strip()
    path.write_text(path.read_text().replace("out.txt", "other.txt"))
    done = ok(on_peer("run", path, "--detach"))
    assert "is called 'long (replaced, " in done.err
    assert ok(on_peer("show", running, "--json")).json["status"] in {"PENDING", "RUNNING"}
    ok(on_peer("cancel", running, "last"))


def test_toml_says_the_same_as_json(on_peer: Rnd) -> None:
    path = on_peer.home / "t.toml"
    path.write_text(
        'format = "rnd.workflow/1"\nname = "from toml"\n[[nodes]]\nname = "u"\nservice_name = "upper"\n'
        '[[connections]]\nto = "u"\nto_interface_type = "STDIN"\nsource_path = "t.toml"\n'
        '[[connections]]\nfrom = "u"\nfrom_interface_type = "STDOUT"\ndestination_file_name = "out.txt"\n'
    )
    done = ok(on_peer("run", path, "-o", "out"))
    assert done.out.splitlines()[1:] == ["out/out.txt"]
    assert (on_peer.home / "out" / "out.txt").read_text() == path.read_text().upper()
    assert "from toml" in ok(on_peer("workflow", "list")).out


def test_a_workflow_goes_out_and_comes_back_the_same(on_peer: Rnd) -> None:
    ok(on_peer("workflow", "import", workflow_file(on_peer, "round", "upper", "speaks"), "--name", "trip"))
    exported = ok(on_peer("workflow", "export", "trip")).out
    ok(on_peer("workflow", "export", "trip", "-o", "trip.json"))
    assert (on_peer.home / "trip.json").read_text() == exported
    ok(on_peer("workflow", "rm", "trip"))
    ok(on_peer("workflow", "import", "-", stdin=exported))
    assert ok(on_peer("workflow", "export", "trip")).out == exported
    shown = ok(on_peer("workflow", "show", "trip")).out
    assert re.search(r"upper STDOUT +speaks STDIN +everything", shown)
    assert re.search(r"speaks STDOUT +you +as out.txt", shown)


def test_the_names_of_a_files_nodes_are_what_jobs_are_called(on_peer: Rnd) -> None:
    (on_peer.home / "in.txt").write_text("abc\n")
    path = workflow_file(on_peer, "called", "upper", "upper", source_path="in.txt")
    path.write_text(
        path.read_text()
        .replace('"upper-1"', '"loud"')
        .replace('"name": "upper"', '"name": "first"')
        .replace('"to": "upper"', '"to": "first"')
        .replace('"from": "upper"', '"from": "first"')
    )
    run = ok(on_peer("run", path, "--input", "first=in.txt", "--json")).json
    assert [job["job_name"] for job in run["jobs"]] == ["first", "loud"]
    assert re.search(r"\d+ +first +upper +STANDALONE +here", ok(on_peer("workflow", "show", "called")).out)
    assert re.search(r"\d+ +loud +here +\d+ +STANDALONE +COMPLETED", ok(on_peer("show", "last")).out)
    assert ok(on_peer("logs", "last", "loud", "--stream", "stdout")).out == "ABC\n"
    assert [node["name"] for node in json.loads(ok(on_peer("workflow", "export", "called")).out)["nodes"]] == [
        "first",
        "loud",
    ]
    path.write_text(path.read_text().replace('"loud"', '"last one"'))
    renamed = ok(on_peer("run", path, "--json")).json
    assert renamed["workflow_id"] != run["workflow_id"]


def test_check_finds_every_problem_and_leaves_nothing_behind(on_peer: Rnd) -> None:
    before = ok(on_peer("workflow", "list", "-q")).out
    good = ok(on_peer("workflow", "check", workflow_file(on_peer, "good", "upper", "upper")))
    assert good.out == "fine: 2 jobs accepted, 2 connections possible\n"
    bad = on_peer("workflow", "check", workflow_file(on_peer, "bad", "nobody", "nothing"))
    assert bad.code == 1
    assert bad.err.splitlines() == [
        "rnd: 2 problems found",
        "  - nodes[0]: Service nobody not found",
        "  - nodes[1]: Service nothing not found",
    ]
    (on_peer.home / "empty.json").write_text('{"format": "rnd.workflow/1", "nodes": []}')
    empty = on_peer("workflow", "check", "empty.json")
    assert empty.code == 1
    assert "Workflow must have at least one job" in empty.err
    missing = workflow_file(on_peer, "missing", "upper", source_path="nowhere.txt")
    refused = on_peer("workflow", "check", missing)
    assert (refused.code, refused.err.splitlines()[0]) == (1, "rnd: 1 problem found")
    assert "connections[0]: The file to send is not there" in refused.err
    assert ok(on_peer("workflow", "list", "-q")).out == before


def test_a_check_writes_nothing_and_tells_nobody(on_peer: Rnd, peer: RunningPeer) -> None:
    """So whatever ends the command leaves nothing, and nobody sees a workflow come and go."""
    newest = "SELECT (SELECT MAX(seq) FROM events), (SELECT seq FROM sqlite_sequence WHERE name = 'workflows')"
    before = peer.sql(newest)
    ok(on_peer("workflow", "check", workflow_file(on_peer, "quiet", "upper")))
    assert peer.sql(newest) == before


def test_an_answer_that_cannot_be_written_is_said_and_ends_with_its_code(on_peer: Rnd) -> None:
    for arguments in (["ps"], ["ps", "--json"], ["service", "list"], ["service", "list", "-q"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                on_peer.command(*arguments), stdout=full, stderr=subprocess.PIPE, env=on_peer.environment(), check=False
            )
        assert done.returncode == 74, (arguments, done.stderr)
        assert done.stderr == b"rnd: the answer cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.json", "{", "is not JSON"),
        ("x.json", '{"a": 1, "a": 2}', "'a' stands twice"),
        ("x.json", "[]", "a workflow is an object"),
        ("x.json", "[" * 100_000, "is not JSON"),
        ("x.toml", "= 1", "is not TOML"),
        ("x.toml", "a = " + "[" * 1_000, "is not TOML"),
        ("x.toml", "nodes = [{gui_x = 2026-01-31}]", "x.toml: nodes[0].gui_x: a date (2026-01-31)"),
        ("x.toml", "layout = {pan_x = 1.0, pan_y = inf}", "x.toml: layout.pan_y: inf"),
        ("x.toml", "layout = {zoom_level = nan}", "x.toml: layout.zoom_level: nan"),
        ("x.json", '{"layout": {"zoom_level": NaN}}', "x.json: layout.zoom_level: nan"),
        ("x.json", None, "there is no file"),
    ],
)
def test_a_file_that_is_none_is_a_usage_error(on_peer: Rnd, name: str, content: str | None, words: str) -> None:
    if content is not None:
        (on_peer.home / name).write_text(content)
    for command in (("run",), ("workflow", "check"), ("workflow", "import")):
        done = on_peer(*command, name)
        assert done.code == 2
        assert words in done.err
        assert "Traceback" not in done.err


# ---------------------------------------------------------------- runs and how they end


def test_a_run_ends_with_its_results(on_peer: Rnd) -> None:
    (on_peer.home / "in.txt").write_text("abc\n")
    path = workflow_file(on_peer, "ends", "upper", source_path="in.txt")
    done = ok(on_peer("run", path))
    assert re.fullmatch(r"execution (\d+) COMPLETED in \d+\.\ds\n", done.out)
    assert re.search(r"^execution \d+: upper COMPLETED$", done.err, re.MULTILINE)
    assert re.search(r"^1 file came home \(4 B\): rnd results \d+ -o DIR$", done.err, re.MULTILINE)
    assert re.search(r"upper +\d+ +4 B +[0-9a-f]{12} +out.txt", ok(on_peer("results")).out)
    assert ok(on_peer("results", "last", "-o", "here", "-q")).code == 0
    assert (on_peer.home / "here" / "out.txt").read_text() == "ABC\n"


def test_inputs_are_named_by_the_node_they_lead_to(on_peer: Rnd) -> None:
    (on_peer.home / "in.txt").write_text("first\n")
    (on_peer.home / "other.txt").write_text("second\n")
    path = workflow_file(on_peer, "fed", "upper", source_path="in.txt")
    ok(on_peer("run", path, "--input", "upper=other.txt", "-o", "out"))
    assert (on_peer.home / "out" / "out.txt").read_text() == "SECOND\n"
    wrong = on_peer("run", path, "--input", "lower=other.txt")
    assert wrong.code == 2
    assert "(to upper)" in wrong.err
    assert on_peer("run", path, "--input", "upper").code == 2


def test_encrypted_data_is_opened_by_its_passphrase_only(on_peer: Rnd) -> None:
    (on_peer.home / "phrase").write_text("correct horse battery\n")
    (on_peer.home / "wrong").write_text("wrong horse battery\n")
    (on_peer.home / "text.txt").write_text("hidden\n")
    ok(on_peer("service", "add", "data", "sealed", "text.txt", "--passphrase-file", "phrase"))
    path = workflow_file(on_peer, "opens", "sealed", "upper")
    for code, attempt in ((1, []), (4, ["--passphrase-file", "wrong"])):
        refused = on_peer("run", path, *attempt)
        assert (refused.code, refused.out) == (code, "")
        assert "sealed" in refused.err
        assert "horse" not in refused.err
    ok(on_peer("run", path, "--passphrase-file", "phrase", "-o", "out"))
    assert (on_peer.home / "out" / "out.txt").read_text() == "HIDDEN\n"


def test_a_failed_run_says_which_job_and_why(on_peer: Rnd) -> None:
    done = on_peer("run", workflow_file(on_peer, "failing", "fails", "upper"))
    assert done.code == 3
    assert re.match(r"execution \d+ FAILED after ", done.out)
    assert "job fails failed: " in done.err
    assert "  - upper: " not in done.err
    number = re.search(r"hint: rnd explain -e (\d+)", done.err)
    assert number is not None
    explained = ok(on_peer("explain", "-e", number[1])).out
    assert re.search(r"^job \d+ fails is ERRORED: ", explained, re.MULTILINE)
    assert re.search(r"^job \d+ upper is CANCELLED: ", explained, re.MULTILINE)
    assert ok(on_peer("logs", "last", "fails", "--stream", "stderr")).out == "to stderr\n"
    assert ok(on_peer("logs", "last", "fails", "--stream", "stdout")).out == "to stdout\n"
    assert ok(on_peer("explain", "last", "fails", "--json")).json["status"] == "ERRORED"
    retried = on_peer("retry", number[1], "--json")
    assert (retried.code, retried.json["retry_of"]) == (3, int(number[1]))
    shown = ok(on_peer("show", "last")).out
    assert re.search(r"fails +here +\d+  STANDALONE  ERRORED +3", shown)


def test_a_retry_names_the_jobs_that_have_not_run(on_peer: Rnd) -> None:
    done = on_peer("run", workflow_file(on_peer, "half", "upper", "fails"))
    assert done.code == 3
    number = re.search(r"hint: rnd explain -e (\d+)", done.err)
    assert number is not None
    assert on_peer("retry", number[1]).code == 3
    shown = ok(on_peer("show", "last"))
    assert f"note: upper: has not run, its outputs are those of execution {number[1]}" in shown.out + shown.err
    explained = ok(on_peer("explain", "last", "upper")).out
    assert f"It has not run: what it left in execution {number[1]} serves again" in explained


def test_a_run_that_was_refused_is_explained_by_the_refusal(on_peer: Rnd, peer: RunningPeer) -> None:
    peer.program("vanishes", "true")
    path = workflow_file(on_peer, "vanishing", "vanishes")
    (peer.data_dir.parent / f"{peer.data_dir.name}-programs" / "vanishes").unlink()
    failed = on_peer("run", path)
    assert failed.code == 3
    shown = ok(on_peer("show", "last")).out
    assert "rnd logs" not in shown
    explained = ok(on_peer("explain", "-e", "last")).out
    assert "job vanishes is CANCELLED: It was never created: phase 1 was refused: vanishes: The executable" in explained
    assert "No such file or directory" in explained
    assert ok(on_peer("explain", "last", "vanishes", "--json")).json["job_execution_id"] is None
    logs = on_peer("logs", "-e", "last")
    assert logs.code == 1
    assert "never created: phase 1 was refused" in logs.err


def test_what_a_job_left_behind_is_shown(on_peer: Rnd) -> None:
    ok(on_peer("run", workflow_file(on_peer, "leaving", "leaves")))
    words = "1 of its processes outlived the program and were ended"
    shown = ok(on_peer("show", "last"))
    assert f"note: leaves: {words}" in shown.out + shown.err
    assert f"{words}." in ok(on_peer("explain", "last", "leaves")).out
    assert ok(on_peer("rpc", "job.list", "newest_first=true", "limit=1", "--json")).json["items"][0]["remark"] == words


def test_a_run_that_outlives_its_watching_goes_on_and_is_cancelled_by_name(on_peer: Rnd) -> None:
    path = workflow_file(on_peer, "sleepy", "sleeps")
    done = on_peer("run", path, "--timeout", "0.5s")
    assert done.code == 6
    number = re.search(r"execution (\d+) is still RUNNING", done.out)
    assert number is not None
    assert number[1] in ok(on_peer("ps", "--status", "RUNNING", "-q")).out.split()
    ok(on_peer("cancel", number[1], "--reason", "enough"))
    watched = on_peer("watch", number[1])
    assert watched.code == 7
    assert "enough" in watched.err
    assert on_peer("cancel", number[1]).code == 1


def test_ctrl_c_ends_the_watching_and_not_the_run(on_peer: Rnd) -> None:
    path = workflow_file(on_peer, "interrupted", "sleeps")
    process = subprocess.Popen(
        on_peer.command("run", path),
        cwd=on_peer.home,
        env=on_peer.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = ""
    while "sleeps RUNNING" not in told:
        told = process.stderr.readline()
        assert told
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    number = re.search(r"execution (\d+) goes on; rnd watch \1 shows it, rnd cancel \1 ends it", err)
    assert number is not None
    assert "Traceback" not in err
    assert ok(on_peer("show", number[1], "--json")).json["status"] == "RUNNING"
    ok(on_peer("cancel", number[1]))
    assert on_peer("watch", number[1]).code == 7


def test_a_log_is_followed_to_its_end(on_peer: Rnd, peer: RunningPeer) -> None:
    gate = peer.data_dir.parent / "gate"
    execution = ok(on_peer("run", workflow_file(on_peer, "gated", "gated"), "--detach", "-q")).out.strip()
    process = subprocess.Popen(
        on_peer.command("logs", "-f", execution, "gated", "--stream", "stdout"),
        cwd=on_peer.home,
        env=on_peer.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "before\n"
    gate.touch()
    rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "after\n")


def test_answers_for_programs_are_one_document_and_nothing_else(on_peer: Rnd) -> None:
    path = workflow_file(on_peer, "machine", "speaks")
    done = ok(on_peer("run", path, "--json", "-o", "out"))
    assert done.err == ""
    assert done.json["results"][0]["saved_as"] == "out/out.txt"
    for command in (
        ["status"], ["ps"], ["show"], ["results"], ["explain"], ["service", "list"], ["workflow", "list"],
        ["workflow", "show", "machine"], ["logs", "last", "speaks"], ["doctor"], ["config", "show", "--origin"],
        ["workflow", "check", "machine"], ["token", "list"], ["rpc", "--list"],
    ):  # fmt: skip
        done = ok(on_peer(*command, "--json"))
        assert isinstance(done.json, dict | list), command
        assert done.err == "", command


def test_quiet_answers_are_ids(on_peer: Rnd) -> None:
    path = workflow_file(on_peer, "quiet", "speaks")
    done = ok(on_peer("run", path, "-q"))
    assert re.fullmatch(r"\d+\n", done.out)
    assert done.err == ""
    for command in (["ps"], ["service", "list"], ["workflow", "list"], ["show"], ["token", "list"]):
        assert re.fullmatch(r"(\d+\n)+", ok(on_peer(*command, "-q")).out), command


def on_terminal(rnd: Rnd, *arguments: str | Path, **variables: str) -> tuple[int, str]:
    """Run a command on a terminal of its own and return how it ended and everything it drew."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - it becomes another program
        os.chdir(rnd.home)
        command = rnd.command(*arguments)
        os.execve(command[0], command, rnd.environment(variables))
    drawn = b""
    ends_at = time.monotonic() + 60
    while time.monotonic() < ends_at:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # how Linux says that nobody writes any more
                break
            if not piece:
                break
            drawn += piece
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), drawn.decode()


def test_on_a_terminal_the_progress_is_drawn_in_place(on_peer: Rnd) -> None:
    path = workflow_file(on_peer, "drawn", "speaks", "upper")
    code, drawn = on_terminal(on_peer, "run", path)
    assert code == 0
    assert "\x1b[32mCOMPLETED\x1b[0m" in drawn
    assert re.search(r"\x1b\[\dF", drawn)
    assert re.search(r"2/2 jobs", drawn)
    _, plain = on_terminal(on_peer, "run", path, NO_COLOR="1")
    assert re.search(r"\x1b\[\d+m", plain) is None
    _, dumb = on_terminal(on_peer, "run", path, TERM="dumb")
    assert "\x1b" not in dumb


def test_a_terminal_never_obeys_what_a_job_wrote(on_peer: Rnd) -> None:
    path = workflow_file(on_peer, "coloured", "speaks")
    ok(on_peer("run", path))
    assert ok(on_peer("logs", "last", "speaks", "--stream", "stdout")).out == "\x1b[31mred\x1b[0m\nsecond\n"
    _, drawn = on_terminal(on_peer, "logs", "last", "speaks", "--stream", "stdout")
    assert drawn == "\\x1b[31mred\\x1b[0m\r\nsecond\r\n"


def test_unknown_executions_jobs_and_nodes_are_refused(on_peer: Rnd) -> None:
    ok(on_peer("run", workflow_file(on_peer, "known", "speaks")))
    for command in (["show", "999999"], ["logs", "999999"], ["logs", "last", "nobody"], ["show", "nonsense"]):
        done = on_peer(*command)
        assert (done.code, done.out) == (1, ""), command
        assert done.err.startswith("rnd: ")
    assert on_peer("logs", "1", "2", "3").code == 2


# ---------------------------------------------------------------- doctor


def test_the_doctor_finds_a_running_peer_well(on_peer: Rnd) -> None:
    done = ok(on_peer("doctor"))
    assert done.out.splitlines()[-1] == "all is well"
    assert re.search(r"^ok     database    whole, ", done.out, re.MULTILINE)
