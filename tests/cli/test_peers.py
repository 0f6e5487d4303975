"""The commands about other peers: on a real daemon as far as rows go, on a scripted one for what only links answer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rnd.rules.peer_id import peer_id_from_key
from tests.cli.command import Done, Rnd
from tests.cli.scripted_daemon import Refusal, ScriptedDaemon
from tests.running_peer import RunningPeer

TIME = "2026-01-31T12:00:00.000Z"
EVIL = "\x1b[31mred\u202e"
SHOWN = "\\x1b[31mred\\u202e"


def other(number: int) -> str:
    return peer_id_from_key(bytes([number]) * 32)


def ok(done: Done) -> Done:
    assert done.code == 0, done.err
    return done


def page(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "total": len(items), "next_after_id": None}


def known(peer_id: str, name: str = "", **more: Any) -> dict[str, Any]:
    return {
        "id": 1, "peer_id": peer_id, "name": name, "state": "allowed", "addresses": [], "connected": False,
        "rtt_ms": None, "last_failure": "", "last_seen_at": None, "instance_id": None,
        "created_at": TIME, "updated_at": TIME, **more,
    }  # fmt: skip


# ---------------------------------------------------------------- on a real daemon


def test_a_peer_is_added_listed_shown_renamed_denied_and_forgotten(on_peer: Rnd) -> None:
    added = on_peer("peer", "add", other(1), "host.example:30906", "--name", "office")
    assert ok(added).out == f"peer office ({other(1)[:12]}…) is allowed\n"
    assert added.err.startswith("on the other machine: rnd peer add rn")
    row = ok(on_peer("peer", "list")).out.splitlines()[1].split()
    assert row == ["office", f"{other(1)[:12]}…", "allowed", "down", "never", "host.example:30906"]
    shown = ok(on_peer("peer", "show", "office")).out
    assert f"peer         {other(1)}\n" in shown
    assert f"to read out  {other(1)[:4]} {other(1)[4:8]} " in shown
    assert ok(on_peer("peer", "rename", other(1)[:8], "the office")).out.endswith("is called the office\n")
    assert ok(on_peer("peer", "deny", "the office", "-q")).out == f"{other(1)}\n"
    assert ok(on_peer("peer", "list", "--state", "denied", "--json")).json["items"][0]["state"] == "denied"
    assert ok(on_peer("peer", "allow", "the office", "--json")).json["items"][0]["state"] == "allowed"
    ok(on_peer("peer", "rm", "the office"))
    assert on_peer("peer", "list").err.startswith("no other peer is known here")


def test_an_id_is_taken_as_it_is_read_out_and_from_its_beginning(on_peer: Rnd) -> None:
    peer_id = other(2)
    ok(on_peer("peer", "add", " ".join(re.findall(".{1,4}", peer_id)), "-q"))
    for given in (peer_id, peer_id[:8], f"{peer_id[:12]}…", f"{peer_id[:4]}-{peer_id[4:8]} {peer_id[8:12]}"):
        assert ok(on_peer("peer", "show", given, "-q")).out == f"{peer_id}\n"
    short = on_peer("peer", "show", peer_id[:7])
    assert (short.code, short.err.splitlines()[1]) == (1, "hint: Give 8 characters of its id at least.")
    ok(on_peer("peer", "rm", peer_id))


def test_a_name_never_stands_in_front_of_an_id_that_begins_so(on_peer: Rnd) -> None:
    ok(on_peer("peer", "add", other(3), "-q"))
    ok(on_peer("peer", "add", other(4), "-q", "--name", other(3)[:10]))
    refused = on_peer("peer", "deny", other(3)[:10])
    assert refused.code == 1
    assert "2 peers are meant by" in refused.err
    assert {peer["state"] for peer in ok(on_peer("peer", "list", "--json")).json["items"]} == {"allowed"}
    ok(on_peer("peer", "rm", other(3), other(4)))


def test_a_typo_among_several_peers_changes_none(on_peer: Rnd) -> None:
    ok(on_peer("peer", "add", other(5), "--name", "five", "-q"))
    refused = on_peer("peer", "rm", "five", "fife")
    assert (refused.code, refused.err.splitlines()[1]) == (1, "hint: Did you mean 'five'?")
    ok(on_peer("peer", "rm", "five"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["peer", "add", "office"], "a peer id begins with 'rn'"),
        (["peer", "add", other(6), "nowhere"], "an address of a peer is host:port"),
        (["peer", "show", other(6)], "not found"),
        (["peer", "ping", other(6)], "not found"),
        (["grant", "rm", "99"], "Grant 99 not found"),
        (
            ["peer", "invite", "--valid", "5"],
            "rnd: must be between 10 and 86400\nhint: It is how long the invite is good",
        ),
    ],
)
def test_what_the_daemon_refuses_is_told_in_its_words(on_peer: Rnd, arguments: list[str], words: str) -> None:
    refused = on_peer(*arguments)
    assert (refused.code, refused.out) == (1, "")
    assert words in refused.err


def test_grants_are_given_listed_and_taken_back(on_peer: Rnd, peer: RunningPeer) -> None:
    peer.program("granted", "cat")
    ok(on_peer("peer", "add", other(7), "--name", "lab", "-q"))
    narrow = on_peer(
        *("grant", "add", "lab", "order", "discover", "--service", "granted"),
        *("--max-jobs", "2", "--max-runtime", "1h", "--max-bytes", "1G"),
    )
    said = "lab may discover, order service granted, at most 2 jobs, 1h 00m a job, 1.0 GiB a transfer"
    assert re.fullmatch(rf"grant \d+: {said}\n", ok(narrow).out)
    number = ok(on_peer("grant", "add", "*", "fetch", "-q")).out.strip()
    rows = [re.split(r"  +", line.strip())[1:] for line in ok(on_peer("grant", "list")).out.splitlines()]
    assert rows == [
        ["PEER", "SERVICE", "VERBS", "AT MOST"],
        ["lab", "granted", "discover, order", "2 jobs, 1h 00m a job, 1.0 GiB a transfer"],
        ["every allowed one", "every one", "fetch", "-"],
    ]
    assert ok(on_peer("grant", "list", "--peer", "*", "-q")).out == f"{number}\n"
    assert ok(on_peer("grant", "list", "--service", "granted", "--json")).json["total"] == 1
    assert "granted" in ok(on_peer("peer", "show", "lab")).out
    assert ok(on_peer("grant", "rm", number)).out == f"grant {number} is taken back\n"
    ok(on_peer("peer", "rm", "lab"))
    assert on_peer("grant", "list").err.startswith("nothing is granted")


@pytest.mark.parametrize(
    ("addresses", "warned"),
    [
        ("127.0.0.1:1,[::1]:1", True),
        ("localhost:1", True),
        ("127.0.0.1:1,192.0.2.1:1", False),
        ("lab.example:1", False),
    ],
)
def test_an_invite_that_leads_nowhere_else_is_made_with_a_warning(
    rnd: Rnd, daemon: ScriptedDaemon, addresses: str, *, warned: bool
) -> None:
    daemon.methods["peer.invite"] = {"invite": f"rnd-invite:1/rnx/secret/{addresses}/check", "expires_at": TIME}
    assert ("warning: it names addresses of this machine alone" in ok(rnd("peer", "invite")).err) is warned
    assert ok(rnd("peer", "invite", "-q")).err == ""


def test_a_verb_is_one_of_three(on_peer: Rnd) -> None:
    refused = on_peer("grant", "add", "*", "ordr")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "rnd: unknown: 'ordr'; did you mean 'order'?")


def test_a_search_finds_what_is_offered_here_and_tells_who_is_away(on_peer: Rnd, peer: RunningPeer) -> None:
    peer.program("find-me", "cat")
    peer_id = peer.call("node.status")["peer_id"]
    found = ok(on_peer("service", "search", "find-"))
    assert re.split(r"  +", found.out.splitlines()[1])[:2] == ["here", "find-me"]
    assert ok(on_peer("service", "search", "find-", "-q", "--peer", "here")).out == f"{peer_id}/find-me\n"
    assert ok(on_peer("service", "search", "find-", "--type", "DATA")).err.startswith("nothing of that kind")
    ok(on_peer("peer", "add", other(8), "--name", "away", "-q"))
    alone = on_peer("service", "search", "find-", "--peer", "away", "--timeout", "100ms")
    assert alone.code == 1
    assert alone.err.startswith(f"not asked: away: no address of peer {other(8)[:12]}… is known")
    both = ok(on_peer("service", "search", "find-", "--peer", "away", "--peer", "here", "--timeout", "100ms", "--json"))
    assert both.json["total"] == 1
    ok(on_peer("peer", "rm", "away"))


def test_a_plan_shows_every_answer_and_leaves_nothing(on_peer: Rnd, peer: RunningPeer) -> None:
    peer.program("planned", "cat")
    document = {
        "format": "rnd.workflow/1",
        "nodes": [{"name": "a", "service_name": "planned"}],
        "connections": [{"from": "a", "from_interface_type": "STDOUT"}],
    }
    path = on_peer.home / "plan.json"
    path.write_text(json.dumps(document))
    before = peer.call("workflow.list")["total"]
    lines = ok(on_peer("workflow", "plan", path)).out.splitlines()
    assert [line.split() for line in lines[1:2]] == [[lines[1].split()[0], "a", "here", "accepted"]]
    assert re.split(r"  +", lines[4].strip())[1:] == ["a on here", "you on here", "possible"]
    assert lines[-1] == "fine: 1 job accepted, 1 connection possible"
    assert ok(on_peer("workflow", "plan", path, "--json")).json["ok"] is True
    assert peer.call("workflow.list")["total"] == before
    path.write_text(json.dumps({**document, "connections": []}))
    assert on_peer("workflow", "plan", path, "-q").code in {0, 1}


# ---------------------------------------------------------------- pairing


def test_an_invite_alone_is_on_standard_output(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["peer.invite"] = {"invite": "rnd-invite:1/x", "expires_at": TIME}
    done = ok(rnd("peer", "invite", "--valid", "5m"))
    assert done.out == "rnd-invite:1/x\n"
    assert f"until {TIME}" in done.err
    assert daemon.called("peer.invite") == [{"valid_s": 300}]
    assert ok(rnd("peer", "invite", "-q")).err == ""


@pytest.mark.parametrize(("arguments", "stdin"), [([], "the line\n"), (["-"], "the line"), (["the line"], "")])
def test_an_invite_comes_from_standard_input_or_an_argument(
    rnd: Rnd, daemon: ScriptedDaemon, arguments: list[str], stdin: str
) -> None:
    daemon.methods["peer.join"] = known(other(1), "office")
    done = ok(rnd("peer", "join", *arguments, stdin=stdin))
    assert done.out == f"paired with peer office ({other(1)[:12]}…)\n"
    assert daemon.called("peer.join") == [{"invite": "the line"}]


def test_without_an_invite_nothing_is_asked(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    assert rnd("peer", "join", stdin="\n").code == 2
    assert daemon.calls == []


# ---------------------------------------------------------------- links


def test_links_are_listed_with_their_time(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["peer.list"] = page(
        known(other(1), "up", connected=True, rtt_ms=12.345, last_seen_at=TIME),
        known(other(2), "out", state="denied"),
        known(other(3), EVIL, addresses=[EVIL]),
    )
    lines = ok(rnd("peer", "list")).out.splitlines()
    assert "allowed  up, 12.3 ms" in lines[1]
    assert re.search(r"denied +- +never +-$", lines[2])
    assert lines[3].count(SHOWN) == 2
    assert ok(rnd("peer", "list", "-q")).out.splitlines() == [other(1), other(2), other(3)]


def test_a_ping_says_how_long_it_took(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["peer.list"] = page(known(other(1), "office"))
    daemon.methods["peer.ping"] = {"peer_id": other(1), "rtt_ms": 1.25}
    assert ok(rnd("peer", "ping", "office")).out == f"{other(1)[:12]}… answers after 1.25 ms\n"
    assert ok(rnd("peer", "ping", "office", "--json")).json == {"peer_id": other(1), "rtt_ms": 1.25}
    assert rnd("peer", "ping", "office", "-c", "0").code == 2

    def away(params: dict[str, Any]) -> None:
        raise Refusal(1300, f"Peer {params['peer_id']} is not connected", error="PEER_UNREACHABLE", hint="Look there.")

    daemon.methods["peer.ping"] = away
    done = rnd("peer", "ping", "office")
    assert (done.code, done.err.splitlines()[1]) == (1, "hint: Look there.")


def test_a_peer_that_calls_itself_here_is_not_taken_for_this_one(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["node.status"] = {"peer_id": other(9)}
    daemon.methods["peer.list"] = page(known(other(1), "here"), known(other(2), "twin"), known(other(3), "twin"))
    offered = [
        {
            "peer_id": peer,
            "service_id": 1,
            "name": EVIL,
            "service_type": "DATA",
            "revision": 1,
            "status": "ACTIVE",
            "description": "",
        }
        for peer in (other(9), other(1), other(2))
    ]
    daemon.methods["service.search"] = {"items": offered, "unreachable": [], "total": 9, "next_offset": 3}
    done = ok(rnd("service", "search"))
    labels = [line.split()[0] for line in done.out.splitlines()[1:]]
    assert labels == ["here", f"{other(1)[:12]}…", f"{other(2)[:12]}…"]
    assert EVIL not in done.out
    assert done.err == "6 more; give QUERY or --type to narrow it\n"


# ---------------------------------------------------------------- plans


@pytest.fixture
def planned(daemon: ScriptedDaemon) -> ScriptedDaemon:
    """A workflow of two nodes, here and on a peer called office, whose plan is bad."""
    nodes = [
        {"id": 1, "name": "split", "service_name": "s", "service_type": "STANDALONE", "peer_id": other(9)},
        {"id": 2, "name": "", "service_name": "count", "service_type": "STANDALONE", "peer_id": other(1)},
    ]
    daemon.methods |= {
        "node.status": {"peer_id": other(9)},
        "peer.list": page(known(other(1), "office")),
        "workflow.get": {"name": "w", "description": ""},
        "workflow.list_nodes": page(*nodes),
        "workflow.list_connections": page(
            {
                "id": 4,
                "from_node_id": 1,
                "from_interface_type": "STDOUT",
                "to_node_id": 2,
                "to_interface_type": "STDIN",
            },
            {
                "id": 5,
                "from_node_id": 2,
                "from_interface_type": "STDOUT",
                "to_node_id": None,
                "to_interface_type": "MOUNT",
            },
        ),
        "workflow.validate": {"valid": True, "problems": [], "definition": {}},
        "workflow.plan": {
            "ok": False,
            "jobs": [
                {"node_id": 1, "executor_peer_id": other(9), "accepted": True, "reasons": [], "warnings": ["old"]},
                {
                    "node_id": 2,
                    "executor_peer_id": other(1),
                    "accepted": False,
                    "reasons": ["full", EVIL],
                    "warnings": [],
                },
            ],
            "edges": [
                {"connection_id": 4, "from_peer_id": other(9), "to_peer_id": other(1), "reachable": True},
                {
                    "connection_id": 5,
                    "from_peer_id": other(1),
                    "to_peer_id": other(9),
                    "reachable": False,
                    "reason": "NAT",
                },
            ],
        },
    }
    return daemon


def test_a_bad_plan_shows_all_reasons_and_warnings_and_ends_with_1(rnd: Rnd, planned: ScriptedDaemon) -> None:
    done = rnd("workflow", "plan", "1")
    assert (done.code, done.err) == (1, "")
    rows = [re.split(r"  +", line.strip()) for line in done.out.splitlines() if line]
    assert rows == [
        ["NODE", "NAME", "PEER", "ANSWER", "REMARK"],
        ["1", "split", "here", "accepted", "old"],
        ["2", "count", "office", "refused", "full"],
        [SHOWN],
        ["CONNECTION", "FROM", "TO", "WAY", "BECAUSE"],
        ["4", "split on here", "count on office", "possible"],
        ["5", "count on office", "you on here", "no way", "NAT"],
        ["cannot run as things are: 1 job refused, 1 connection without a way"],
    ]
    assert (rnd("workflow", "plan", "1", "-q").code, rnd("workflow", "plan", "1", "-q").out) == (1, "")
    as_json = rnd("workflow", "plan", "1", "--json")
    assert (as_json.code, as_json.json["ok"], len(as_json.json["jobs"])) == (1, False, 2)


def test_a_workflow_that_is_not_valid_is_not_planned(rnd: Rnd, planned: ScriptedDaemon) -> None:
    problem = {"check": "x", "message": "it is wrong", "node_id": 2}
    planned.methods["workflow.validate"] = {"valid": False, "problems": [problem], "definition": None}
    done = rnd("workflow", "plan", "1")
    assert (done.code, done.out) == (1, "")
    assert "count (node 2): it is wrong" in done.err
    assert planned.called("workflow.plan") == []


def test_a_workflow_is_shown_with_its_peers_by_name(rnd: Rnd, planned: ScriptedDaemon) -> None:
    lines = ok(rnd("workflow", "show", "1")).out.splitlines()
    assert [line.split()[-1] for line in lines if "STANDALONE" in line] == ["here", "office"]


def test_names_of_peers_are_completed_and_ids_of_those_that_have_none(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["node.status"] = {"peer_id": other(9)}
    daemon.methods["peer.list"] = page(known(other(1), "office"), known(other(2)), known(other(3), EVIL))
    assert ok(rnd("completion", "--candidates", "peers")).out.splitlines() == ["office", other(2)]


def test_data_is_listed_for_peers_by_name(rnd: Rnd, daemon: ScriptedDaemon, tmp_path: Path) -> None:
    daemon.methods["peer.list"] = page(known(other(1), "office"))
    made = {"id": 1, "name": "d", "service_type": "DATA", "file_count": 1, "size_bytes": 1}
    daemon.methods["service.create"] = made
    ok(rnd("service", "add", "data", "d", tmp_path, "--egress", "listed", "--egress-peer", "office"))
    assert daemon.called("service.create")[0]["egress_peers"] == [other(1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["peer", "join", "hello"], "rnd: this is not an invite: an invite begins with rnd-invite:1/"),
        (["peer", "add", "rnabc"], "rnd: a peer id has 58 characters, not 5"),
    ],
)
def test_a_mistyped_word_is_told_without_the_terms_of_the_api(on_peer: Rnd, arguments: list[str], message: str) -> None:
    done = on_peer(*arguments)
    assert (done.code, done.err.splitlines()[0]) == (1, message)
    assert "rpc.discover" not in done.err
    assert on_peer(*arguments, "--json").json["error"]["data"]["error"] == "INVALID_PARAMS"


# ---------------------------------------------------------------- jobs elsewhere


@pytest.mark.parametrize("command", ["explain", "logs"])
def test_a_peer_that_is_away_keeps_nothing_of_the_other_jobs_back(
    rnd: Rnd, daemon: ScriptedDaemon, command: str
) -> None:
    jobs = [
        {"id": n, "job_execution_id": n, "node_id": n, "job_name": f"n{n}", "status": "RUNNING", "service_type": "X"}
        for n in (1, 2)
    ]
    daemon.methods["execution.get"] = {"jobs": jobs}

    def told(params: dict[str, Any]) -> dict[str, Any]:
        if params["job_execution_id"] == 1:
            raise Refusal(1300, f"Peer {EVIL} is not connected", error="PEER_UNREACHABLE")
        explanation = {"status": "RUNNING", "because": "it runs", "checks": [], "do": ""}
        return {**explanation, "data": "it wrote\n", "next_offset": 9, "eof": True}

    daemon.methods["job.explain"] = daemon.methods["job.logs"] = told
    done = rnd(command, "-e", "1")
    assert done.code == 1
    assert f"job 1 n1: Peer {SHOWN} is not connected\n" in done.err
    assert "it runs" in done.out or "it wrote" in done.out
    assert len(rnd(command, "-e", "1", "--json").json["items"]) == 1
    alone = rnd(command, "1", "n1")
    assert (alone.code, alone.out) == (1, "")
