"""Drawing workflows over the API: what is documented works, and everything else is refused with its documented error."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from rnd.types.config import Limits
from tests.api.conftest import Peer
from tests.api.live_api import PEER_ID, LiveApi, run_with_api

numbers = itertools.count(1)


def workflow(peer: Peer) -> int:
    return int(peer.call("workflow.create", name=f"workflow {next(numbers)}")["id"])


def service(peer: Peer, **more: Any) -> dict[str, Any]:
    given = {"name": f"service {next(numbers)}", "service_type": "STANDALONE", "executable": "/bin/cat", **more}
    created: dict[str, Any] = peer.call("service.create", **given)
    return created


def node(peer: Peer, workflow_id: int, **more: Any) -> dict[str, Any]:
    added: dict[str, Any] = peer.call(
        "workflow.add_node", **{"workflow_id": workflow_id, "service_id": service(peer)["id"], **more}
    )
    return added


def connect(peer: Peer, workflow_id: int, start: int | None, end: int | None, **more: Any) -> dict[str, Any]:
    given = {"from_interface_type": "STDOUT", "to_interface_type": "STDIN", **more}
    added: dict[str, Any] = peer.call(
        "workflow.add_connection", workflow_id=workflow_id, from_node_id=start, to_node_id=end, **given
    )
    return added


def check(peer: Peer, method: str, answer: object) -> None:
    """Check an answer against the result schema that `rpc.discover` promises."""
    Draft7Validator(peer.api.server.table.methods[method].result).validate(answer)


# ---------------------------------------------------------------- containers


def test_a_workflow_is_created_whole_and_empty(peer: Peer) -> None:
    created = peer.call("workflow.create", name="My Workflow", description="counts")
    check(peer, "workflow.create", created)
    assert created["definition"] == {"jobs": []}
    assert peer.call("workflow.get", workflow_id=created["id"]) == created


def test_only_what_is_given_is_updated(peer: Peer) -> None:
    created = peer.call("workflow.create", name="before", description="kept")
    updated = peer.call("workflow.update", workflow_id=created["id"], name="after")
    check(peer, "workflow.update", updated)
    assert (updated["name"], updated["description"]) == ("after", "kept")


def test_lists_are_paged(peer: Peer) -> None:
    ids = [workflow(peer) for _ in range(3)]
    page = peer.call("workflow.list", limit=2, after_id=ids[0] - 1)
    check(peer, "workflow.list", page)
    assert [item["id"] for item in page["items"]] == ids[:2]
    assert page["next_after_id"] == ids[1]
    assert "definition" not in page["items"][0]
    rest = peer.call("workflow.list", limit=2, after_id=page["next_after_id"])
    assert [item["id"] for item in rest["items"]] == ids[2:]
    assert rest["next_after_id"] is None


def test_a_list_says_how_much_is_drawn_in_a_workflow(peer: Peer) -> None:
    workflow_id = workflow(peer)
    first = node(peer, workflow_id)["id"]
    node(peer, workflow_id)
    connect(peer, workflow_id, first, None, to_interface_type="MOUNT")
    listed = peer.call("workflow.list", limit=1, after_id=workflow_id - 1)["items"][0]
    assert (listed["id"], listed["node_count"], listed["connection_count"]) == (workflow_id, 2, 1)


def test_a_deleted_workflow_is_gone(peer: Peer) -> None:
    workflow_id = workflow(peer)
    connect(peer, workflow_id, node(peer, workflow_id)["id"], None, to_interface_type="MOUNT")
    assert peer.call("workflow.delete", workflow_id=workflow_id)["deleted"] is True
    assert peer.refusal("workflow.get", workflow_id=workflow_id).code == 1000


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\0", "\x1b[2J", "x" * 201, "a\u202eb", None, 5, ["a"], {}])
def test_hostile_names_are_refused_by_name(peer: Peer, name: object) -> None:
    error = peer.refusal("workflow.create", name=name)
    assert error.code == -32602
    assert error.data["parameter"] == "name"


@pytest.mark.parametrize("workflow_id", ["1", 1.5, True, None, 0, -1, 2**63, 10**30, [1], {"id": 1}])
def test_ids_that_are_none_are_refused_by_name(peer: Peer, workflow_id: object) -> None:
    error = peer.refusal("workflow.get", workflow_id=workflow_id)
    assert (error.code, error.data["parameter"]) == (-32602, "workflow_id")


UNKNOWN = 2**63 - 1


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("workflow.get", {}),
        ("workflow.update", {"name": "x"}),
        ("workflow.delete", {}),
        ("workflow.add_node", {"service_id": 1}),
        ("workflow.update_node", {"node_id": 1}),
        ("workflow.delete_node", {"node_id": 1}),
        ("workflow.list_nodes", {}),
        (
            "workflow.add_connection",
            {"from_node_id": None, "from_interface_type": "STDOUT", "to_node_id": 1, "to_interface_type": "STDIN"},
        ),
        ("workflow.update_connection", {"connection_id": 1}),
        ("workflow.delete_connection", {"connection_id": 1}),
        ("workflow.list_connections", {}),
        ("workflow.get_ui_state", {}),
        ("workflow.set_ui_state", {"zoom": 1.0}),
        ("workflow.export", {}),
    ],
)
def test_an_unknown_workflow_is_not_found(peer: Peer, method: str, params: dict[str, Any]) -> None:
    error = peer.refusal(method, workflow_id=UNKNOWN, **params)
    assert (error.code, error.data["error"]) == (1000, "NOT_FOUND")
    assert str(UNKNOWN) in error.message
    assert error.data["hint"]


# ---------------------------------------------------------------- nodes


def test_a_node_has_the_name_that_it_is_given(peer: Peer) -> None:
    workflow_id = workflow(peer)
    named = node(peer, workflow_id, name="first look")
    check(peer, "workflow.add_node", named)
    unnamed = node(peer, workflow_id)
    assert (named["name"], unnamed["name"]) == ("first look", "")
    again = peer.call("workflow.update_node", workflow_id=workflow_id, node_id=unnamed["id"], name="second")
    assert again["name"] == "second"
    assert (
        peer.call("workflow.update_node", workflow_id=workflow_id, node_id=unnamed["id"], order=7)["name"] == "second"
    )
    bare = peer.call("workflow.update_node", workflow_id=workflow_id, node_id=unnamed["id"], name=None)
    assert bare["name"] == ""


def test_two_nodes_of_a_workflow_never_share_a_name(peer: Peer) -> None:
    workflow_id = workflow(peer)
    node(peer, workflow_id, name="one")
    other = node(peer, workflow_id, name="two")
    given = {"workflow_id": workflow_id, "name": "one"}
    for method, more in (("add_node", {"service_id": other["service_id"]}), ("update_node", {"node_id": other["id"]})):
        error = peer.refusal(f"workflow.{method}", **given, **more)
        assert (error.code, error.data["error"]) == (1200, "CONFLICT")
        assert "is called 'one' already" in error.message
    same = peer.call("workflow.update_node", workflow_id=workflow_id, node_id=other["id"], name="two", order=3)
    assert same["name"] == "two"
    node(peer, workflow(peer), name="one")


@pytest.mark.parametrize("name", [" a", "a\n", "x" * 129, "a\u202eb", 5, ["a"]])
def test_a_name_that_no_node_can_have_is_refused(peer: Peer, name: object) -> None:
    error = peer.refusal("workflow.add_node", workflow_id=1, service_id=1, name=name)
    assert (error.code, error.data["parameter"]) == (-32602, "name")


def test_names_of_nodes_survive_a_file(peer: Peer) -> None:
    workflow_id = workflow(peer)
    offered = service(peer)
    for name in ("here", "there"):
        node(peer, workflow_id, service_id=offered["id"], name=name)
    document = peer.call("workflow.export", workflow_id=workflow_id)
    imported = peer.call("workflow.import", document=document)["id"]
    assert [item["name"] for item in peer.call("workflow.list_nodes", workflow_id=imported)["items"]] == [
        "here",
        "there",
    ]
    assert peer.call("workflow.export", workflow_id=imported) == document


def test_a_node_copies_what_is_not_given_from_its_service(peer: Peer) -> None:
    offered = service(peer, pricing_amount=2.5, pricing_type="PER_RUN")
    added = node(peer, workflow(peer), service_id=offered["id"])
    check(peer, "workflow.add_node", added)
    assert added["node_id"] == added["id"]
    assert added["peer_id"] == PEER_ID
    for field in ("name", "type"):
        assert added[f"service_{field}"] == offered[field if field == "name" else "service_type"]
    assert added["interfaces"] == offered["interfaces"]
    assert (added["pricing_amount"], added["pricing_type"]) == (2.5, "PER_RUN")
    assert (added["entrypoint"], added["cmd"]) == (None, None)


def test_what_the_document_sends_for_a_node_is_taken(peer: Peer) -> None:
    offered = service(peer)
    added = node(
        peer,
        workflow(peer),
        service_id=offered["id"],
        peer_id=PEER_ID,
        service_name=offered["name"],
        service_type="STANDALONE",
        gui_x=100,
        gui_y=199.6,
        entrypoint=["python3"],
        commands=["train.py"],
    )
    assert (added["gui_x"], added["gui_y"]) == (100, 200)
    assert (added["entrypoint"], added["cmd"]) == (["python3"], ["train.py"])


def test_an_unknown_service_is_not_found_in_the_documents_words(peer: Peer) -> None:
    error = peer.refusal("workflow.add_node", workflow_id=workflow(peer), service_id=999_999)
    assert (error.code, error.message) == (1000, "Service 999999 not found")


def test_a_service_of_another_type_is_refused_in_the_documents_words(peer: Peer) -> None:
    error = peer.refusal(
        "workflow.add_node", workflow_id=workflow(peer), service_id=service(peer)["id"], service_type="DATA"
    )
    assert (error.code, error.message) == (1100, "Service type mismatch")
    assert error.data["problems"] == [{"check": "service_type", "message": "Service type mismatch"}]


def test_a_node_of_another_peer_needs_to_say_what_it_is(peer: Peer) -> None:
    bare = {"workflow_id": workflow(peer), "service_id": 7, "peer_id": "rnotherpeer"}
    assert peer.refusal("workflow.add_node", **bare).code == 1300
    added = peer.call(
        "workflow.add_node",
        **bare,
        service_name="theirs",
        service_type="DOCKER",
        interfaces=[{"interface_type": "MOUNT", "path": "/input", "mount_function": "INPUT"}],
    )
    assert added["peer_id"] == "rnotherpeer"
    assert added["interfaces"][0]["path"] == "/input"


@pytest.mark.parametrize(
    ("interfaces", "message"),
    [
        ([{"interface_type": "STDFOO"}], "Invalid interface type: STDFOO"),
        (
            [{"interface_type": "MOUNT", "path": "/x", "mount_function": "SIDEWAYS"}],
            "Invalid mount function: SIDEWAYS",
        ),
    ],
)
def test_wrong_interfaces_are_refused_in_the_documents_words(
    peer: Peer, interfaces: list[dict[str, str]], message: str
) -> None:
    error = peer.refusal(
        "workflow.add_node", workflow_id=workflow(peer), service_id=service(peer)["id"], interfaces=interfaces
    )
    assert error.code == 1100
    assert [problem["message"] for problem in error.data["problems"]] == [message]


def test_a_node_is_updated_field_by_field_and_null_gives_back_the_services_own(peer: Peer) -> None:
    workflow_id = workflow(peer)
    added = node(peer, workflow_id, cmd=["-n"])
    moved = peer.call("workflow.update_node", workflow_id=workflow_id, node_id=added["id"], gui_x=5)
    check(peer, "workflow.update_node", moved)
    assert (moved["gui_x"], moved["cmd"]) == (5, ["-n"])
    reset = peer.call("workflow.update_node", workflow_id=workflow_id, node_id=added["id"], cmd=None)
    assert reset["cmd"] is None


def test_a_node_that_is_given_another_service_takes_over_what_that_is(peer: Peer) -> None:
    workflow_id = workflow(peer)
    added = node(peer, workflow_id, gui_x=7, cmd=["-n"])
    other = service(peer, interfaces=[{"interface_type": "MOUNT", "path": "/in", "mount_function": "INPUT"}])
    ids = {"workflow_id": workflow_id, "node_id": added["id"]}
    changed = peer.call("workflow.update_node", **ids, service_id=other["id"])
    assert (changed["service_name"], changed["interfaces"]) == (other["name"], other["interfaces"])
    assert (changed["gui_x"], changed["cmd"]) == (7, ["-n"])
    assert peer.refusal("workflow.update_node", **ids, service_id=999_999).code == 1000


def test_a_deleted_node_takes_its_connections_with_it(peer: Peer) -> None:
    workflow_id = workflow(peer)
    first, second = node(peer, workflow_id)["id"], node(peer, workflow_id)["id"]
    connect(peer, workflow_id, first, second)
    peer.call("workflow.delete_node", workflow_id=workflow_id, node_id=first)
    nodes = peer.call("workflow.list_nodes", workflow_id=workflow_id)
    check(peer, "workflow.list_nodes", nodes)
    assert [item["id"] for item in nodes["items"]] == [second]
    assert peer.call("workflow.list_connections", workflow_id=workflow_id)["items"] == []


def test_a_node_of_another_workflow_is_not_found(peer: Peer) -> None:
    added = node(peer, workflow(peer))
    error = peer.refusal("workflow.update_node", workflow_id=workflow(peer), node_id=added["id"], gui_x=1)
    assert error.code == 1000


# ---------------------------------------------------------------- connections


def test_a_connection_joins_two_nodes(peer: Peer) -> None:
    workflow_id = workflow(peer)
    first, second = node(peer, workflow_id)["id"], node(peer, workflow_id)["id"]
    added = connect(peer, workflow_id, first, second, destination_file_name="in.txt", include=["*.csv"])
    check(peer, "workflow.add_connection", added)
    assert added["connection_id"] == added["id"]
    assert (added["destination_file_name"], added["include"]) == ("in.txt", ["*.csv"])


def test_the_self_peer_is_null_at_either_end(peer: Peer, tmp_path: Path) -> None:
    workflow_id = workflow(peer)
    only = node(peer, workflow_id)["id"]
    source = tmp_path / "in.txt"
    source.write_text("x")
    first = connect(peer, workflow_id, None, only, source_path=str(source))
    assert first["source_path"] == str(source)
    connect(peer, workflow_id, only, None, to_interface_type="MOUNT")
    listed = peer.call("workflow.list_connections", workflow_id=workflow_id)
    check(peer, "workflow.list_connections", listed)
    assert listed["total"] == 2


@pytest.mark.parametrize(
    ("from_type", "to_type"),
    [("STDIN", "STDOUT"), ("MOUNT", "STDOUT"), ("STDOUT", "STDERR"), ("STDIN", "STDIN")],
)
def test_interfaces_that_do_not_fit_are_refused_at_once(peer: Peer, from_type: str, to_type: str) -> None:
    workflow_id = workflow(peer)
    first, second = node(peer, workflow_id)["id"], node(peer, workflow_id)["id"]
    error = peer.refusal(
        "workflow.add_connection",
        workflow_id=workflow_id,
        from_node_id=first,
        from_interface_type=from_type,
        to_node_id=second,
        to_interface_type=to_type,
    )
    assert error.code == 1100
    assert error.data["problems"]


def test_an_unknown_interface_type_is_refused_in_the_documents_words(peer: Peer) -> None:
    workflow_id = workflow(peer)
    error = peer.refusal(
        "workflow.add_connection",
        workflow_id=workflow_id,
        from_node_id=node(peer, workflow_id)["id"],
        from_interface_type="STDFOO",
        to_node_id=None,
        to_interface_type="MOUNT",
    )
    assert (error.code, error.message) == (1100, "Invalid interface type: STDFOO")


def test_a_connection_to_a_node_that_is_not_there_is_refused(peer: Peer) -> None:
    workflow_id = workflow(peer)
    error = peer.refusal(
        "workflow.add_connection",
        workflow_id=workflow_id,
        from_node_id=node(peer, workflow_id)["id"],
        from_interface_type="STDOUT",
        to_node_id=999_999,
        to_interface_type="STDIN",
    )
    assert (error.code, error.message) == (1100, "Connection references non-existent node")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../b", "", "a\0b", "a//b", ".", "x" * 2000, 5])
def test_a_destination_that_leads_out_is_refused_by_name(peer: Peer, name: object) -> None:
    workflow_id = workflow(peer)
    error = peer.refusal(
        "workflow.add_connection",
        workflow_id=workflow_id,
        from_node_id=node(peer, workflow_id)["id"],
        from_interface_type="STDOUT",
        to_node_id=None,
        to_interface_type="MOUNT",
        destination_file_name=name,
    )
    assert (error.code, error.data["parameter"]) == (-32602, "destination_file_name")


def test_the_self_peer_sends_nothing_of_the_data_directory(peer: Peer, tmp_path: Path) -> None:
    workflow_id = workflow(peer)
    link = tmp_path / "innocent"
    link.symlink_to(peer.data_dir / "api_token")
    for path in (peer.data_dir, peer.data_dir / "vault.key", link, tmp_path / os.path.relpath(peer.data_dir, tmp_path)):
        error = peer.refusal(
            "workflow.add_connection",
            workflow_id=workflow_id,
            from_node_id=None,
            from_interface_type="STDOUT",
            to_node_id=node(peer, workflow_id)["id"],
            to_interface_type="STDIN",
            source_path=str(path),
        )
        assert (error.code, error.data["error"]) == (1600, "PERMISSION_DENIED"), path


def test_the_self_peer_sends_only_from_allowed_roots(tmp_path: Path) -> None:
    inside, outside = tmp_path / "open", tmp_path / "closed"
    inside.mkdir()
    outside.mkdir()
    (inside / "escape").symlink_to(outside)

    async def test(api: LiveApi) -> None:
        offered = await api.call("service.create", name="cat", service_type="STANDALONE", executable="/bin/cat")
        workflow_id = (await api.call("workflow.create", name="w"))["id"]
        node_id = (await api.call("workflow.add_node", workflow_id=workflow_id, service_id=offered["id"]))["id"]
        ends = {
            "workflow_id": workflow_id,
            "from_node_id": None,
            "from_interface_type": "STDOUT",
            "to_node_id": node_id,
            "to_interface_type": "STDIN",
        }
        for path in (outside, inside / "escape" / "x", tmp_path):
            error = await api.refusal("workflow.add_connection", **ends, source_path=str(path))
            assert error.code == 1600
        await api.call("workflow.add_connection", **ends, source_path=str(inside / "x"))

    run_with_api(tmp_path / "data", test, allowed_roots=(str(inside),))


def test_a_connection_is_updated_field_by_field_and_checked_again(peer: Peer) -> None:
    workflow_id = workflow(peer)
    first, second = node(peer, workflow_id)["id"], node(peer, workflow_id)["id"]
    added = connect(peer, workflow_id, first, second)
    ids = {"workflow_id": workflow_id, "connection_id": added["id"]}
    updated = peer.call("workflow.update_connection", **ids, destination_file_name="b.txt")
    check(peer, "workflow.update_connection", updated)
    assert (updated["destination_file_name"], updated["from_node_id"]) == ("b.txt", first)
    assert peer.refusal("workflow.update_connection", **ids, to_interface_type="STDOUT").code == 1100
    assert peer.call("workflow.delete_connection", **ids)["deleted"] is True
    assert peer.refusal("workflow.delete_connection", **ids).code == 1000


# ---------------------------------------------------------------- canvas, limits, checks


def test_the_canvas_is_kept_as_it_is_left(peer: Peer) -> None:
    workflow_id = workflow(peer)
    fresh = peer.call("workflow.get_ui_state", workflow_id=workflow_id)
    check(peer, "workflow.get_ui_state", fresh)
    assert (fresh["snap_to_grid"], fresh["zoom_level"]) == (True, 1.0)
    peer.call("workflow.set_ui_state", workflow_id=workflow_id, zoom=1.5, pan_x=-10.5)
    kept = peer.call("workflow.set_ui_state", workflow_id=workflow_id, snap_to_grid=False)
    assert (kept["zoom_level"], kept["pan_x"], kept["snap_to_grid"]) == (1.5, -10.5, False)


def test_limits_hold_at_one_past_them(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        offered = await api.call("service.create", name="cat", service_type="STANDALONE", executable="/bin/cat")
        workflow_id = (await api.call("workflow.create", name="w"))["id"]
        ids = {"workflow_id": workflow_id, "service_id": offered["id"]}
        nodes = [(await api.call("workflow.add_node", **ids))["id"] for _ in range(2)]
        error = await api.refusal("workflow.add_node", **ids)
        assert (error.code, error.data["error"]) == (1700, "LIMIT_EXCEEDED")
        ends = {
            "workflow_id": workflow_id,
            "from_node_id": nodes[0],
            "from_interface_type": "STDOUT",
            "to_interface_type": "STDIN",
        }
        await api.call("workflow.add_connection", **ends, to_node_id=nodes[1])
        error = await api.refusal("workflow.add_connection", **ends, to_node_id=nodes[1], destination_file_name="b")
        assert error.code == 1700

    limits = Limits(nodes_per_workflow=2, connections_per_workflow=1, disk_floor_bytes=0)
    run_with_api(tmp_path / "data", test, limits=limits)


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({"passphrases": {"x": "y"}}, "passphrases.x"),
        ({"passphrases": {"1": 5}}, "passphrases.1"),
        ({"inputs": {"1": "relative"}}, "inputs.1"),
        ({"deadlines": {"forever_s": 1}}, "deadlines.forever_s"),
        ({"deadlines": {"start_by_s": -1}}, "deadlines.start_by_s"),
        ({"deadlines": {"start_by_s": True}}, "deadlines.start_by_s"),
        ({"passphrase": ""}, "passphrase"),
    ],
)
def test_wrong_orders_are_refused_by_name(peer: Peer, params: dict[str, Any], where: str) -> None:
    error = peer.refusal("workflow.execute", workflow_id=1, **params)
    assert (error.code, error.data["parameter"]) == (-32602, where)


def test_an_input_of_the_data_directory_is_refused(peer: Peer) -> None:
    error = peer.refusal("workflow.execute", workflow_id=1, inputs={"1": str(peer.data_dir / "identity.key")})
    assert error.code == 1600


# ---------------------------------------------------------------- files


def drawn(peer: Peer) -> int:
    workflow_id = workflow(peer)
    first = node(peer, workflow_id, gui_x=10, cmd=["-n"])["id"]
    second = node(peer, workflow_id)["id"]
    connect(peer, workflow_id, first, second, destination_file_name="a.txt")
    connect(peer, workflow_id, second, None, to_interface_type="MOUNT")
    peer.call("workflow.set_ui_state", workflow_id=workflow_id, zoom=0.5)
    return workflow_id


def test_an_exported_workflow_is_imported_into_the_same(peer: Peer) -> None:
    document = peer.call("workflow.export", workflow_id=drawn(peer))
    check(peer, "workflow.export", document)
    assert document["format"] == "rnd.workflow/1"
    copied = peer.call("workflow.import", document=document, name="a copy")
    check(peer, "workflow.import", copied)
    assert copied["name"] == "a copy"
    again = peer.call("workflow.export", workflow_id=copied["id"])
    assert again == {**document, "name": "a copy"}
    assert peer.call("workflow.get_ui_state", workflow_id=copied["id"])["zoom_level"] == 0.5


@pytest.mark.parametrize("path", ["/../etc", "relative", "/a/../../b", "/proc", "/x\n", "/" + "a" * 2000])
def test_hostile_mounts_are_refused_where_they_come_in(peer: Peer, path: str) -> None:
    """By each of the three ways in, before anything is stored, with the name of the field."""
    workflow_id, offered = workflow(peer), service(peer)
    hostile = [{"interface_type": "MOUNT", "path": path, "mount_function": "INPUT"}]
    added = node(peer, workflow_id, service_id=offered["id"])
    for method, given in (
        ("workflow.add_node", {"service_id": offered["id"]}),
        ("workflow.update_node", {"node_id": added["id"]}),
    ):
        error = peer.refusal(method, workflow_id=workflow_id, interfaces=hostile, **given)
        assert "interfaces" in str(error), error
    document = peer.call("workflow.export", workflow_id=workflow_id)
    document["nodes"][0]["interfaces"] = hostile
    error = peer.refusal("workflow.import", document=document)
    assert "interfaces" in str(error), error
    assert peer.call("workflow.list_nodes", workflow_id=workflow_id)["items"] == [added]


def test_a_service_demands_a_sandbox_by_its_name(peer: Peer) -> None:
    assert service(peer, min_sandbox="landlock")["min_sandbox"] == "landlock"
    error = peer.refusal("service.create", name="s", service_type="STANDALONE", executable="/bin/cat", min_sandbox="x")
    assert "none, landlock, bubblewrap" in str(error)


def test_an_import_is_all_or_nothing(peer: Peer) -> None:
    document = peer.call("workflow.export", workflow_id=drawn(peer))
    before = peer.call("workflow.list")["total"]
    missing = {**document, "nodes": [*document["nodes"], {"name": "x", "service_name": "nowhere"}]}
    error = peer.refusal("workflow.import", document=missing)
    assert (error.code, error.message) == (1100, "Service nowhere not found")
    backwards = {
        **document,
        "connections": [
            *document["connections"],
            {
                "from": None,
                "from_interface_type": "STDIN",
                "to": document["nodes"][0]["name"],
                "to_interface_type": "STDERR",
            },
        ],
    }
    assert peer.refusal("workflow.import", document=backwards).code == 1100
    assert peer.call("workflow.list")["total"] == before


@pytest.mark.parametrize(
    "document",
    [{}, {"format": "rnd.workflow/9", "name": "x", "nodes": []}, {"format": "rnd.workflow/1", "name": 5, "nodes": 7}],
)
def test_a_document_of_another_shape_is_refused_with_every_place(peer: Peer, document: dict[str, Any]) -> None:
    error = peer.refusal("workflow.import", document=document)
    assert error.code == 1100
    assert all(problem["check"] == "document" for problem in error.data["problems"])


def test_a_document_cannot_bring_in_a_path_of_the_data_directory(peer: Peer) -> None:
    document = peer.call("workflow.export", workflow_id=drawn(peer))
    document["connections"].append(
        {
            "from": None,
            "from_interface_type": "STDOUT",
            "to": document["nodes"][0]["name"],
            "to_interface_type": "STDIN",
            "source_path": str(peer.data_dir / "identity.key"),
        }
    )
    assert peer.refusal("workflow.import", document=document).code == 1600


def large(peer: Peer, nodes: int, connections: int) -> dict[str, Any]:
    """Return a document of nodes that each feed those after them."""
    name = service(peer)["name"]
    pairs = itertools.islice(itertools.combinations(range(nodes), 2), connections)
    return {
        "format": "rnd.workflow/1",
        "name": "large",
        "nodes": [{"name": f"n{number}", "service_name": name} for number in range(nodes)],
        "connections": [
            {"from": f"n{a}", "from_interface_type": "STDOUT", "to": f"n{b}", "to_interface_type": "STDIN"}
            for a, b in pairs
        ],
    }


def test_an_import_and_its_deletion_are_one_event_each(peer: Peer) -> None:
    before = peer.call("events.poll", after_seq=0)["next_seq"]
    imported = peer.call("workflow.import", document={**large(peer, 5, 8), "layout": {"zoom_level": 2.0}})["id"]
    peer.call("workflow.delete", workflow_id=imported)
    told = peer.call("events.poll", after_seq=before, types=["workflow.updated"])["items"]
    assert [event["data"] for event in told] == [
        {"workflow_id": imported, "change": "created"},
        {"workflow_id": imported, "change": "deleted"},
    ]


def test_an_import_costs_as_much_as_is_in_it(peer: Peer) -> None:
    """Four times the connections are not sixteen times the work; a quadratic import takes ten seconds of this size."""
    document = large(peer, 1000, 5000)
    began = time.process_time()
    assert peer.call("workflow.import", document=document)["id"]
    assert time.process_time() - began < 3


# ---------------------------------------------------------------- documents that are only looked at


def problems(peer: Peer, document: dict[str, Any]) -> list[tuple[str | None, str]]:
    """Return place and message of everything that a check finds; the import finds all that keeps it from being stored."""
    report = peer.call("workflow.validate", document=document)
    check(peer, "workflow.validate", report)
    found = [(problem.get("place"), problem["message"]) for problem in report["problems"]]
    assert not any("node_id" in problem or "connection_id" in problem for problem in report["problems"])
    refused = peer.refusal("workflow.import", document=document).data["problems"]
    told = [(problem.get("place"), problem["message"]) for problem in refused]
    assert set(told) <= set(found)
    return found


def test_misread_parts_hide_nothing_of_the_others(peer: Peer) -> None:
    """The shape, names, services, interfaces and connections: each is told, whatever else is wrong."""
    document = large(peer, 3, 2)
    document["nodes"][0]["colour"] = "red"
    document["nodes"].append({"name": "lost", "service_name": "nowhere"})
    document["nodes"].append({"name": "odd", "service_name": document["nodes"][1]["service_name"], "interfaces": []})
    document["nodes"][4]["interfaces"] = [{"interface_type": "MOUNT", "path": "/proc"}]
    document["connections"] = [
        {"from": "n1", "from_interface_type": "STDOUT", "to": "n2", "to_interface_type": "STDIN"},
        {"from": "n1", "from_interface_type": "STDOUT", "to": "n2", "to_interface_type": "STDIN"},
        {"from": "n22", "from_interface_type": "STDOUT", "to": "n2", "to_interface_type": "STDIN"},
        {"from": "n1", "from_interface_type": "STDIN", "to": "n2", "to_interface_type": "STDIN"},
        {"to": "lost", "to_interface_type": "STDIN", "source_path": "relative"},
    ]
    found = problems(peer, document)
    assert (None, "nodes[0].colour: unknown key") in found
    assert (None, "connections[2].from: no node is named 'n22' (did you mean n2?)") in found
    assert ("nodes[3]", "Service nowhere not found") in found
    assert any(place == "nodes[4].interfaces" and "/proc" in message for place, message in found)
    assert ("connections[1]", "The connection repeats connections[0]") in found
    assert any(place == "connections[3]" and "reversed direction" in message for place, message in found)
    assert any(place == "connections[4]" and "must be absolute" in message for place, message in found)
    assert not [place for place, _ in found if place == "connections[2]"]
    assert len(found) == len(set(found)) == 7


def test_a_check_finds_what_only_keeps_it_from_being_run(peer: Peer) -> None:
    document = large(peer, 3, 1)
    document["connections"] += [
        {"from": "n1", "from_interface_type": "STDOUT", "to": "n2", "to_interface_type": "STDIN"},
        {"from": "n2", "from_interface_type": "STDOUT", "to": "n0", "to_interface_type": "STDIN"},
        {"to": "n0", "to_interface_type": "STDIN"},
    ]
    found = peer.call("workflow.validate", document=document)["problems"]
    assert [(problem["check"], problem["place"]) for problem in found] == [
        ("source_path", "connections[3]"),
        ("cycle", "nodes[0]"),
    ]
    assert found[0]["message"].startswith("connections[3] from the self-peer names no file or folder")
    assert peer.call("workflow.import", document=document)["id"]  # half a drawing is kept all the same


def test_a_hostile_name_of_a_document_hides_nothing_either(peer: Peer) -> None:
    document = {**large(peer, 1, 0), "name": "a\x1b[2Jb"}
    document["nodes"].append({"name": "lost", "service_name": "nowhere"})
    assert problems(peer, document) == [
        (None, "name: must not hold control or invisible characters"),
        ("nodes[1]", "Service nowhere not found"),
    ]


def test_a_check_is_of_a_workflow_or_of_a_document(peer: Peer) -> None:
    for given in ({}, {"workflow_id": workflow(peer), "document": {}}):
        assert peer.refusal("workflow.validate", **given).data["parameter"] == "workflow_id"


def test_a_fraction_of_a_pixel_is_rounded_wherever_it_comes_in(peer: Peer) -> None:
    document = large(peer, 1, 0)
    document["nodes"][0]["gui_x"] = 1.6
    imported = peer.call("workflow.import", document=document)["id"]
    [drawn_node] = peer.call("workflow.list_nodes", workflow_id=imported)["items"]
    assert (drawn_node["gui_x"], node(peer, imported, gui_x=1.6)["gui_x"]) == (2, 2)


def test_a_node_that_would_wait_for_itself_is_refused_where_it_is_drawn(peer: Peer) -> None:
    workflow_id = workflow(peer)
    first, second = (node(peer, workflow_id, name=name)["id"] for name in ("a", "b"))
    ends = {"from_interface_type": "STDOUT", "to_interface_type": "STDIN", "workflow_id": workflow_id}
    error = peer.refusal("workflow.add_connection", from_node_id=first, to_node_id=first, **ends)
    assert (error.code, error.message) == (1100, "Workflow has a cycle: a -> a")
    there = connect(peer, workflow_id, first, second)["id"]
    error = peer.refusal("workflow.add_connection", from_node_id=second, to_node_id=first, **ends)
    assert error.message == "Workflow has a cycle: a -> b -> a"
    # Turned round, a connection stands in nobody's way.
    peer.call(
        "workflow.update_connection",
        workflow_id=workflow_id,
        connection_id=there,
        from_node_id=second,
        to_node_id=first,
    )
    document = peer.call("workflow.export", workflow_id=workflow_id)
    document["connections"].append({**document["connections"][0], "from": "a", "to": "b"})
    assert problems(peer, document) == [("connections[1]", "Workflow has a cycle: b -> a -> b")]


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("workflow.execute", {"workflow_id": 1, "inputs": {"x": "/a"}}, "must be an id"),
        ("workflow.execute", {"workflow_id": 1, "deadlines": {"soon": 1}}, "must be one of start_by_s, max_runtime_s"),
        (
            "workflow.execute",
            {"workflow_id": 1, "deadlines": {"cancel_by_s": 1}},
            "must be one of start_by_s, max_runtime_s",
        ),
        ("workflow.execute", {"workflow_id": 1, "deadlines": {"start_by_s": 1e9}}, "between 0.001 and 31622400"),
        ("workflow.execute", {"workflow_id": 1, "inputs": {"1": "upload:.x"}}, "1 to 128 letters, digits"),
        ("workflow.add_node", {"workflow_id": 1, "service_id": 1, "peer_id": "a b"}, "must be the id of a peer"),
        ("upload.delete", {"name": "../x"}, "must be 1 to 128 letters, digits"),
        ("service.create", {"name": "n", "service_type": "STANDALONE", "env": {"1": "x"}}, "not begin with a digit"),
        (
            "service.create",
            {"name": "n", "service_type": "DATA", "paths": ["x"]},
            "must be an absolute path, or upload:",
        ),
    ],
)
def test_what_a_parameter_must_be_is_said_in_words(peer: Peer, method: str, params: dict[str, Any], words: str) -> None:
    error = peer.refusal(method, **params)
    assert error.code == -32602
    assert words in error.message
    assert not set("[]{}\\^") & set(error.message.partition("must")[2]), error.message
    assert error.data["hint"] == f"rpc.discover says what {method} takes."
