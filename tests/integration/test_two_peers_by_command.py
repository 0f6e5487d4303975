"""Two peers as their owners drive them: paired by a line from one to the other, and run by the commands alone."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from tests.cli.command import Done, Rnd
from tests.running_peers import pair, running_peers, wait_until


def ok(done: Done) -> Done:
    assert done.code == 0, done.err
    return done


def test_an_invite_pairs_two_peers_and_a_file_runs_across_them(tmp_path: Path) -> None:
    words = "to be or not to be\n" * 100
    (tmp_path / "text.txt").write_text(words)
    with running_peers(tmp_path, "here", "office") as (one, other):
        here, office = Rnd(data_dir=one.data_dir, home=tmp_path), Rnd(data_dir=other.data_dir, home=tmp_path)
        ok(office("service", "add", "standalone", "upper", "/usr/bin/tr", "--", "a-z", "A-Z"))
        ok(here("service", "add", "data", "text", "text.txt"))

        line = ok(here("peer", "invite")).out
        ok(office("peer", "join", stdin=line))
        office_id = other.call("node.status")["peer_id"]
        ok(here("peer", "rename", office_id, "office"))
        wait_until(lambda: one.call("peer.get", peer_id=office_id)["connected"], "the link is up")
        assert "answers after" in ok(here("peer", "ping", "office")).out
        assert json.loads(ok(here("rpc", "peer.capabilities", f"peer_id={office_id}")).out)["platform"] == "linux"
        assert ok(here("service", "search", "upper", "-q")).out == f"{office_id}/upper\n"

        document = {
            "format": "rnd.workflow/1",
            "nodes": [{"name": "text", "service_name": "text"}, {"name": "upper", "service_name": "office/upper"}],
            "connections": [
                {"from": "text", "from_interface_type": "STDOUT", "to": "upper", "to_interface_type": "STDIN"},
                {"from": "upper", "from_interface_type": "STDOUT", "destination_file_name": "upper.txt"},
            ],
        }
        (tmp_path / "across.json").write_text(json.dumps(document))
        plan = ok(here("workflow", "plan", "across.json")).out
        assert plan.endswith("fine: 2 jobs accepted, 2 connections possible\n")
        assert "upper on office" in plan
        ok(here("run", "across.json", "-o", "results"))
        assert (tmp_path / "results" / "upper.txt").read_text() == words.upper()
        assert ok(here("logs", "last", "upper", "--stream", "stdout")).out == words.upper()
        assert "COMPLETED" in ok(here("explain", "last", "upper")).out

        rows = [re.split(r"  +", line.strip()) for line in ok(here("show", "last")).out.splitlines()[-2:]]
        assert [row[1:3] for row in rows] == [["text", "here"], ["upper", "office"]]
        ok(office("peer", "rename", one.peer_id, "desk"))
        assert "what others have run here: rnd jobs" in ok(office("ps")).err
        (heading, row) = [re.split(r"  +", line.strip()) for line in ok(office("jobs")).out.splitlines()]
        assert heading == ["JOB", "NAME", "SERVICE", "FOR", "ON", "STATUS", "EXIT", "STARTED", "TOOK"]
        assert row[1:7] == ["upper", "upper", "desk", "here", "COMPLETED", "0"]
        assert [row.split()[3:5] for row in ok(here("jobs")).out.splitlines()[1:]] == [
            ["here", "here"],
            ["here", "office"],
        ]

        ok(here("peer", "deny", "office"))
        refused = here("workflow", "plan", "across.json")
        assert refused.code == 1
        assert here("peer", "ping", "office").code == 1
        ended = ok(here("explain", "last", "upper")).out  # on record here, whoever is linked
        assert "is COMPLETED" in ended
        secret = line.split("/")[2]
        assert secret not in one.log() + other.log()


def test_a_peer_that_is_not_admitted_is_told_at_once_and_what_to_do(tmp_path: Path) -> None:
    with running_peers(tmp_path, "here", "office") as (one, other):
        here, office = Rnd(data_dir=one.data_dir, home=tmp_path), Rnd(data_dir=other.data_dir, home=tmp_path)
        line = ok(here("peer", "invite")).out
        ok(office("peer", "join", stdin=line))
        ok(office("peer", "rename", one.peer_id, "friend"))
        ok(office("peer", "ping", "friend"))
        ok(here("peer", "deny", other.peer_id))
        begun = time.monotonic()
        refused = office("peer", "ping", "friend")
        took_s = time.monotonic() - begun
        assert refused.code == 1
        assert "does not admit this peer: its owner can allow or invite you" in refused.err
        assert "hint: Its owner has to let this peer in: rnd peer allow there" in refused.err
        assert took_s < 5  # and not the time that a link may take
        assert "does not admit this peer" in ok(office("service", "search")).err
        used = office("peer", "join", stdin=line)
        assert "hint: Ask for a new invite on the other machine: rnd peer invite." in used.err


def test_a_peer_that_has_moved_is_found_again_by_its_new_address(tmp_path: Path) -> None:
    with running_peers(tmp_path, "here", "office") as (one, other):
        here = Rnd(data_dir=one.data_dir, home=tmp_path)
        one.allow(other)
        other.call("peer.add", peer_id=one.peer_id, addresses=[], name="here")
        wait_until(lambda: one.call("peer.get", peer_id=other.peer_id)["connected"], "the link is up")
        assert "1 allowed peer, all linked" in ok(here("doctor")).out
        other.stop()
        away = ok(here("doctor")).out  # the others of an owner may well be away
        assert "no link to office: " in away
        assert "rnd peer address" in away
        assert away.endswith("\nnothing is wrong; 1 warning\n")
        other.start()  # on another port
        told = ok(here("peer", "address", "office", other.address)).out
        assert other.address in told
        assert "is linked" in ok(here("peer", "connect", "office")).out
        ok(here("peer", "disconnect", "office"))


def test_an_owner_ends_a_job_that_another_peer_has_ordered(tmp_path: Path) -> None:
    with running_peers(tmp_path, "here", "office") as (one, other):
        pair(one, other)
        office = Rnd(data_dir=other.data_dir, home=tmp_path)
        workflow = one.workflow("long")
        one.remote_node(workflow, other, other.offer("slow", "sleep 600"))
        execution_id = one.execute(workflow)
        other.until("SELECT status FROM job_executions", "RUNNING")
        assert ok(office("cancel", "--job", "1", "--reason", "the machine is needed")).out == "job 1 is being stopped\n"
        ended = one.wait(execution_id)
        assert ended["status"] == "FAILED"
        assert "the machine is needed" in ended["error"]
        again = office("cancel", "--job", "1")
        assert (again.code, again.err.splitlines()[0]) == (1, "rnd: Job 1 is CANCELLED already")
        own = Rnd(data_dir=one.data_dir, home=tmp_path)("cancel", "--job", "1")
        assert "belongs to execution 1 of this peer" in own.err
        assert office("cancel").code == 2
        assert ok(office("jobs", "--status", "RUNNING")).err == "none of these\n"
