"""Services of other peers over the API: found, drawn into workflows, imported by name, and what their jobs wrote."""

from __future__ import annotations

import itertools
import sqlite3
from typing import Any

import pytest
from jsonschema import Draft7Validator

from rnd.protocol.link_messages import ServiceOffer
from rnd.rules.explain import Check, Explanation
from rnd.types.enums import InterfaceType, JobStatus, MountFunction, ServiceStatus, ServiceType
from rnd.types.ids import PeerId, ServiceId
from rnd.types.services import ServiceInterface
from tests.api.conftest import Peer
from tests.api.live_api import PEER_ID
from tests.api.peer_desk import Linked
from tests.api.test_peer_methods import other

numbers = itertools.count(1)

STREAMS = tuple(ServiceInterface(interface_type=kind) for kind in (InterfaceType.STDIN, InterfaceType.STDOUT))
MOUNT = ServiceInterface(interface_type=InterfaceType.MOUNT, path="/in", mount_function=MountFunction.INPUT)


def offer(number: int, name: str, **more: Any) -> ServiceOffer:
    return ServiceOffer(
        **{
            "id": ServiceId(number),
            "name": name,
            "description": "",
            "service_type": ServiceType.STANDALONE,
            "status": ServiceStatus.ACTIVE,
            "interfaces": (*STREAMS, MOUNT),
            "pricing_amount": 2.5,
            "pricing_type": "PER_RUN",
            "revision": 3,
            **more,
        }
    )


def checked(peer: Peer, method: str, /, **params: Any) -> Any:
    answer = peer.call(method, **params)
    Draft7Validator(peer.api.server.table.methods[method].result).validate(answer)
    return answer


def workflow(peer: Peer) -> int:
    return int(peer.call("workflow.create", name=f"remote {next(numbers)}")["id"])


@pytest.fixture
def beta(peer: Peer) -> PeerId:
    """A linked peer of a number of its own, called `beta<number>`."""
    number = next(numbers)
    peer_id = other(number)
    peer.call("peer.add", peer_id=peer_id, addresses=[], name=f"beta{number}")
    peer.api.peers.linked[peer_id] = Linked(
        offers=(
            offer(7, "count"),
            offer(8, "texts", service_type=ServiceType.DATA, interfaces=(STREAMS[1],)),
            offer(9, "asleep", status=ServiceStatus.INACTIVE),
        )
    )
    return peer_id


def name_of(peer: Peer, peer_id: PeerId) -> str:
    return str(peer.call("peer.get", peer_id=peer_id)["name"])


# ---------------------------------------------------------------- service.search


def test_services_of_this_and_of_linked_peers_are_found_together(peer: Peer, beta: PeerId) -> None:
    own = peer.call("service.create", name="count here", service_type="STANDALONE", executable="/bin/cat")
    found = checked(peer, "service.search", query="count")
    mine = [(item["peer_id"], item["service_id"]) for item in found["items"] if item["peer_id"] in {PEER_ID, beta}]
    assert mine == [(PEER_ID, own["id"]), (beta, 7)]
    (theirs,) = [item for item in found["items"] if item["peer_id"] == beta]
    assert (theirs["pricing_amount"], theirs["revision"], theirs["interfaces"][2]["path"]) == (2.5, 3, "/in")


def test_a_search_keeps_to_the_type_and_to_what_takes_orders_whatever_a_peer_answers(peer: Peer, beta: PeerId) -> None:
    only = {"peer_ids": [beta]}
    assert [item["name"] for item in checked(peer, "service.search", **only)["items"]] == ["count", "texts"]
    data = checked(peer, "service.search", service_type="DATA", **only)
    assert [item["name"] for item in data["items"]] == ["texts"]
    assert checked(peer, "service.search", active_only=False, **only)["total"] == 3


def test_a_search_is_answered_in_pages(peer: Peer, beta: PeerId) -> None:
    first = checked(peer, "service.search", peer_ids=[beta], limit=1)
    assert ([item["name"] for item in first["items"]], first["total"], first["next_offset"]) == (["count"], 2, 1)
    second = checked(peer, "service.search", peer_ids=[beta], limit=1, offset=first["next_offset"])
    assert ([item["name"] for item in second["items"]], second["next_offset"]) == (["texts"], None)


def test_who_cannot_be_asked_is_told_with_the_reason(peer: Peer, beta: PeerId) -> None:
    peer.call("peer.set_state", peer_id=beta, state="denied")
    stranger = other(200)
    found = checked(peer, "service.search", peer_ids=[beta, stranger])
    assert found["items"] == []
    assert found["unreachable"] == [
        {"peer_id": stranger, "reason": "not connected"},
        {"peer_id": beta, "reason": "denied here"},
    ]
    assert peer.api.peers.questions[-1] == ("", (stranger,))


def test_a_search_of_all_names_the_allowed_peers_that_are_not_connected(peer: Peer, beta: PeerId) -> None:
    assert beta not in [each["peer_id"] for each in checked(peer, "service.search")["unreachable"]]
    del peer.api.peers.linked[beta]
    assert {"peer_id": beta, "reason": "connection refused"} in checked(peer, "service.search")["unreachable"]
    peer.call("peer.set_state", peer_id=beta, state="pending")
    assert beta not in [each["peer_id"] for each in checked(peer, "service.search")["unreachable"]]


# ---------------------------------------------------------------- drawing


def test_a_node_takes_over_what_the_other_peer_says_of_its_service(peer: Peer, beta: PeerId) -> None:
    added = checked(peer, "workflow.add_node", workflow_id=workflow(peer), service_id=7, peer_id=beta)
    assert (added["service_name"], added["service_type"], added["peer_id"]) == ("count", "STANDALONE", beta)
    assert (added["pricing_amount"], added["pricing_type"]) == (2.5, "PER_RUN")
    assert added["interfaces"][2]["mount_function"] == "INPUT"


def test_what_is_given_for_a_node_stays_and_is_compared(peer: Peer, beta: PeerId) -> None:
    where = {"workflow_id": workflow(peer), "service_id": 7, "peer_id": beta}
    added = peer.call("workflow.add_node", **where, service_name="count", interfaces=[{"interface_type": "STDOUT"}])
    assert [interface["interface_type"] for interface in added["interfaces"]] == ["STDOUT"]
    assert peer.api.peers.questions[-1] == ("count", (beta,))
    assert peer.refusal("workflow.add_node", **where, service_type="DATA").message == "Service type mismatch"


def test_a_service_that_the_other_peer_does_not_offer_is_not_found(peer: Peer, beta: PeerId) -> None:
    error = peer.refusal("workflow.add_node", workflow_id=workflow(peer), service_id=77, peer_id=beta)
    assert (error.code, error.message) == (1000, f"Service 77 not found on peer {beta}")
    assert "service.search" in error.data["hint"]


def test_a_peer_that_is_away_has_to_be_described(peer: Peer, beta: PeerId) -> None:
    where = {"workflow_id": workflow(peer), "service_id": 7, "peer_id": beta}
    del peer.api.peers.linked[beta]
    error = peer.refusal("workflow.add_node", **where, service_name="count")
    assert (error.code, error.data["error"]) == (1300, "PEER_UNREACHABLE")
    assert "peer.connect" in error.data["hint"]
    asked = len(peer.api.peers.questions)
    said = {"service_name": "count", "service_type": "STANDALONE", "interfaces": [{"interface_type": "STDOUT"}]}
    assert peer.call("workflow.add_node", **where, **said)["pricing_type"] == "FREE"
    assert len(peer.api.peers.questions) == asked


def test_a_node_is_moved_to_another_peers_service(peer: Peer, beta: PeerId) -> None:
    own = peer.call("service.create", name=f"own {beta}", service_type="STANDALONE", executable="/bin/cat")
    node = {"workflow_id": workflow(peer)}
    node["node_id"] = peer.call("workflow.add_node", workflow_id=node["workflow_id"], service_id=own["id"])["id"]
    moved = checked(peer, "workflow.update_node", **node, service_id=8, peer_id=beta)
    assert (moved["service_name"], moved["service_type"], moved["peer_id"]) == ("texts", "DATA", beta)
    back = checked(peer, "workflow.update_node", **node, service_id=own["id"], peer_id=PEER_ID)
    assert (back["service_name"], back["peer_id"]) == (own["name"], PEER_ID)


# ---------------------------------------------------------------- files


def document(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    named = [{"name": f"n{index}", **node} for index, node in enumerate(nodes)]
    return {"format": "rnd.workflow/1", "name": f"file {next(numbers)}", "nodes": named, **more}


def imported(peer: Peer, said: dict[str, Any]) -> list[dict[str, Any]]:
    workflow_id = peer.call("workflow.import", document=said)["id"]
    nodes: list[dict[str, Any]] = peer.call("workflow.list_nodes", workflow_id=workflow_id)["items"]
    return nodes


def problems(peer: Peer, said: dict[str, Any]) -> list[tuple[str, str]]:
    error = peer.refusal("workflow.import", document=said)
    assert error.code == 1100
    return [(problem["check"], problem["message"]) for problem in error.data["problems"]]


def test_a_file_names_a_service_of_another_peer_in_four_ways(peer: Peer, beta: PeerId) -> None:
    name = name_of(peer, beta)
    nodes = imported(
        peer,
        document(
            {"service_name": f"{name}/count"},
            {"service_name": f"{beta}/count"},
            {"service_name": "count", "peer": name},
            {"service_name": "count", "peer_id": beta},
        ),
    )
    assert {(n["peer_id"], n["service_id"], n["service_name"], n["pricing_amount"]) for n in nodes} == {
        (beta, 7, "count", 2.5)
    }
    assert peer.api.peers.questions[-1] == ("count", (beta,))


def test_an_export_names_other_peers_by_id_and_is_imported_into_the_same(peer: Peer, beta: PeerId) -> None:
    said = document(
        {"service_name": f"{name_of(peer, beta)}/texts"},
        {"service_name": "count", "peer": beta},
        connections=[{"from": "n0", "from_interface_type": "STDOUT", "to": "n1", "to_interface_type": "STDIN"}],
    )
    exported = checked(peer, "workflow.export", workflow_id=peer.call("workflow.import", document=said)["id"])
    assert [(node["service_name"], node["peer_id"]) for node in exported["nodes"]] == [("texts", beta), ("count", beta)]
    del peer.api.peers.linked[beta]  # what is exported says enough for an import without asking
    again = peer.call("workflow.import", document=exported)["id"]
    assert peer.call("workflow.export", workflow_id=again) == exported


def test_this_peer_may_be_named_as_well(peer: Peer) -> None:
    own = peer.call("service.create", name=f"mine {next(numbers)}", service_type="STANDALONE", executable="/bin/cat")
    nodes = imported(
        peer,
        document(
            {"service_name": own["name"], "peer": PEER_ID},
            {"service_name": f"alpha/{own['name']}"},
        ),
    )
    assert [(node["peer_id"], node["service_id"]) for node in nodes] == [(PEER_ID, own["id"])] * 2


def test_a_service_of_this_peer_with_a_slash_in_its_name_comes_first(peer: Peer, beta: PeerId) -> None:
    name = f"{name_of(peer, beta)}/count"
    own = peer.call("service.create", name=name, service_type="STANDALONE", executable="/bin/cat")
    (node,) = imported(peer, document({"service_name": name}))
    assert (node["peer_id"], node["service_id"]) == (PEER_ID, own["id"])
    peer.call("service.delete", service_id=own["id"])


def test_every_problem_with_peers_is_told_at_once(peer: Peer, beta: PeerId) -> None:
    name, away, kept_out = name_of(peer, beta), other(201), other(202)
    peer.call("peer.add", peer_id=away, addresses=[], name="away")
    peer.call("peer.add", peer_id=kept_out, addresses=[], name="kept out", state="denied")
    told = problems(
        peer,
        document(
            {"service_name": f"{name}x/count"},
            {"service_name": "count", "peer": "kept out"},
            {"service_name": f"{name}/nothing"},
            {"service_name": f"{name}/count", "service_type": "DATA"},
            {"service_name": "away/count"},
            {"service_name": "not there"},
        ),
    )
    assert told == [
        ("peer", f"Node n0: no allowed peer is called '{name}x' (did you mean {name}?)"),
        ("peer", "Node n1: peer 'kept out' is denied here, not allowed"),
        ("service", f"Service nothing not found on peer {beta}, or not offered to this one"),
        ("service_type", "Service type mismatch"),
        (
            "service_type",
            f"Node n4: a service of another peer needs its service_type, and peer {away} cannot be asked: not connected",
        ),
        ("service", "Service not there not found"),
    ]
    peer.call("peer.remove", peer_id=away)
    peer.call("peer.remove", peer_id=kept_out)


def test_a_name_of_two_peers_is_not_guessed(peer: Peer, beta: PeerId) -> None:
    twin = other(203)
    peer.call("peer.add", peer_id=twin, addresses=[], name=name_of(peer, beta))
    ((check, message),) = problems(peer, document({"service_name": "count", "peer": name_of(peer, beta)}))
    assert check == "peer"
    assert message.endswith("give the peer's id")
    peer.call("peer.remove", peer_id=twin)


def test_a_described_service_of_a_peer_that_is_away_is_imported(peer: Peer, beta: PeerId) -> None:
    del peer.api.peers.linked[beta]
    (node,) = imported(peer, document({"service_name": "count", "peer": beta, "service_type": "STANDALONE"}))
    assert (node["peer_id"], node["service_name"]) == (beta, "count")
    assert [interface["interface_type"] for interface in node["interfaces"]] == ["STDIN", "STDOUT", "STDERR", "LOGS"]


def test_a_file_pins_a_node_to_a_revision_and_an_export_says_so(peer: Peer, beta: PeerId) -> None:
    said = document(
        {"service_name": "count", "peer": beta}, {"service_name": "count", "peer": beta, "pin": 2, "interfaces": []}
    )
    made = peer.call("workflow.import", document=said)["id"]
    nodes = peer.call("workflow.list_nodes", workflow_id=made)["items"]
    assert [(node["service_id"], node["service_revision"], node["pin"]) for node in nodes] == [
        (nodes[0]["service_id"], 3, False),
        (nodes[0]["service_id"], 2, True),
    ]
    exported = peer.call("workflow.export", workflow_id=made)
    assert [node.get("pin") for node in exported["nodes"]] == [None, 2]
    assert peer.call("workflow.validate", workflow_id=made)["definition"]["jobs"][1]["pinned_revision"] == 2


def test_a_pinned_service_of_a_peer_that_is_away_is_not_imported(peer: Peer, beta: PeerId) -> None:
    del peer.api.peers.linked[beta]
    node = {"service_name": "count", "peer": beta, "service_type": "STANDALONE", "pin": 2}
    message = f"Node n0 is pinned, and peer {beta} cannot be asked: not connected"
    assert problems(peer, document(node)) == [("pin", message)]


def test_a_node_that_is_pinned_to_no_known_revision_is_a_problem(peer: Peer, beta: PeerId) -> None:
    made = workflow(peer)
    described = {"service_name": "count", "service_type": "STANDALONE", "interfaces": []}
    node = peer.call("workflow.add_node", workflow_id=made, peer_id=beta, service_id=7, pin=True, **described)
    report = peer.call("workflow.validate", workflow_id=made)
    message = "Which revision of count the node is pinned to is not known"
    assert report["problems"] == [{"check": "pin", "message": message, "node_id": node["id"]}]


# ---------------------------------------------------------------- jobs


@pytest.fixture
def job(peer: Peer, beta: PeerId) -> int:
    """The mirror of a job that runs on beta."""

    def insert(conn: sqlite3.Connection) -> int:
        number = conn.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM job_executions").fetchone()[0]
        conn.execute(
            """
            INSERT INTO job_executions
                (id, order_workflow_job_id, execution_uid, node_id, job_name, service_id, service_name, service_type,
                 executor_peer_id, ordering_peer_id, status, execution_constraint, created_at, start_by,
                 max_runtime_s)
            VALUES (:id, 1, printf('%032x', :id), 1, 'count', 7, 'count', 'STANDALONE', :beta, :me, 'RUNNING', 'NONE',
                    '2026-01-31T12:00:00.000Z', '2026-01-31T12:15:00.000Z',
                    60)
            """,
            {"id": number, "beta": beta, "me": PEER_ID},
        )
        return int(number)

    return peer.run(peer.api.database.write(insert))


def test_logs_of_a_job_elsewhere_come_from_its_executor_in_whole_characters(peer: Peer, beta: PeerId, job: int) -> None:
    peer.api.peers.linked[beta].log = "grün ist die Heide\n".encode()
    whole, offset = "", 0
    while True:
        piece = checked(peer, "job.logs", job_execution_id=job, offset=offset, limit_bytes=16)
        whole, offset = whole + piece["data"], piece["next_offset"]
        if piece["eof"]:
            break
    assert whole == "grün ist die Heide\n"
    peer.api.peers.linked[beta].log = b"0123456789abcde\xc3\xbc"
    cut = checked(peer, "job.logs", job_execution_id=job, limit_bytes=16)
    assert (cut["data"], cut["next_offset"], cut["eof"], cut["status"]) == ("0123456789abcde", 15, False, "RUNNING")


def test_an_executor_says_itself_why_its_job_has_not_ended(peer: Peer, beta: PeerId, job: int) -> None:
    peer.api.peers.linked[beta].explanation = Explanation(
        status=JobStatus.RUNNING, because="it runs", checks=(Check(check="c", ok=True, evidence="e"),), do="wait"
    )
    told = checked(peer, "job.explain", job_execution_id=job)
    assert told == {
        "status": "RUNNING",
        "because": "it runs",
        "checks": [{"check": "c", "ok": True, "evidence": "e"}],
        # The first is for here: what a job has for a number there means another one here.
        "do": f"rnd logs {job}   (its owner, there: wait)",
    }


def test_the_logs_of_an_executor_that_is_away_cannot_be_read(peer: Peer, beta: PeerId, job: int) -> None:
    del peer.api.peers.linked[beta]
    error = peer.refusal("job.logs", job_execution_id=job)
    assert (error.code, error.data["error"]) == (1300, "PEER_UNREACHABLE")


def test_a_job_whose_executor_is_away_is_explained_by_what_was_last_heard(peer: Peer, beta: PeerId, job: int) -> None:
    del peer.api.peers.linked[beta]
    told = checked(peer, "job.explain", job_execution_id=job)
    why = f"Peer {beta} is not connected"
    assert told == {
        "status": "RUNNING",
        "because": f"Its peer was last heard to say RUNNING, and cannot be asked now: {why}.",
        "checks": [{"check": "peer can be asked", "ok": False, "evidence": why}],
        "do": "Check that the peer runs and that its address is right.",
    }
