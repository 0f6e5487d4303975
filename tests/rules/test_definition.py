"""The definition builder and its JSON."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.definition import build_definition, definition_from_json, definition_to_json
from rnd.rules.reading import MalformedDocument
from rnd.types.definitions import InputWait, InterfacePeerPlan, InterfacePlan, JobPlan, WorkflowDefinition
from rnd.types.enums import ExecutionConstraint, InterfaceType, MountFunction, ServiceType
from rnd.types.errors import ValidationFailed
from rnd.types.ids import ConnectionId, JobExecutionId, NodeId, PeerId

SELF = PeerId("self")

# Word for word from the document, Key Data Structures -> Workflow Definition (JSON).
DOCUMENTED = json.loads("""
{
  "jobs": [
    {
      "node_id": 123,
      "name": "Load Dataset",
      "service_id": 456,
      "service_type": "DATA",
      "executor_peer_id": "peer_data",
      "execution_constraint": "NONE",
      "interfaces": [
        {
          "type": "STDOUT",
          "path": "/output/dataset.csv",
          "interface_peers": [
            {
              "peer_id": "peer_worker",
              "peer_workflow_job_id": 124,
              "peer_job_execution_id": null,
              "peer_path": "/input/dataset.csv",
              "peer_mount_function": "INPUT"
            }
          ]
        }
      ]
    },
    {
      "node_id": 124,
      "name": "Train Model",
      "service_id": 789,
      "service_type": "DOCKER",
      "executor_peer_id": "peer_worker",
      "execution_constraint": "INPUTS_READY",
      "entrypoint": ["python3"],
      "cmd": ["train.py", "--epochs", "10"],
      "interfaces": [
        {
          "type": "MOUNT",
          "path": "/input",
          "interface_peers": [
            {
              "peer_id": "peer_data",
              "peer_workflow_job_id": 123,
              "peer_job_execution_id": null,
              "peer_path": "/output/dataset.csv",
              "peer_mount_function": "OUTPUT"
            }
          ]
        },
        {
          "type": "MOUNT",
          "path": "/output",
          "interface_peers": [
            {
              "peer_id": "peer_orchestrator",
              "peer_workflow_job_id": null,
              "peer_job_execution_id": null,
              "peer_path": "/results/model.pth",
              "peer_mount_function": "INPUT"
            }
          ]
        }
      ]
    }
  ]
}
""")

# What rnd adds beside the documented fields.
ADDED = {
    "service_name", "constraint_detail", "mount_function", "peer_workflow_node_id", "peer_file_name",
    "peer_interface_type", "connection_id", "include", "source_path", "lane",
}  # fmt: skip


def without_added(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_added(item) for key, item in value.items() if key not in ADDED}
    return [without_added(item) for item in value] if isinstance(value, list) else value


def build(nodes: Any, connections: Any, **values: Any) -> dict[int, JobPlan]:
    definition = build_definition(nodes, connections, self_peer_id=SELF, **values)
    return {job.node_id: job for job in definition.jobs}


def interface(job: JobPlan, kind: str, path: str = "") -> InterfacePlan:
    (found,) = [item for item in job.interfaces if item.interface_type == kind and path in ("", item.path)]
    return found


def test_a_job_is_called_as_its_node_is(make: Any) -> None:
    nodes = [make.node(1, "count", own_name="first"), make.node(2, "count")]
    definition = build_definition(nodes, [], self_peer_id=PeerId("self"))
    assert [(job.name, job.service_name) for job in definition.jobs] == [("first", "count"), ("count", "count")]


def test_the_document_s_example_field_for_field(make: Any) -> None:
    nodes = [
        make.node(
            124, "Train Model", service_type="DOCKER", service_id=789, peer_id="peer_worker",
            interfaces=(make.mount("/input", "INPUT"), make.mount("/output", "OUTPUT")),
            entrypoint=("python3",), cmd=("train.py", "--epochs", "10"),
        ),
        make.data(123, "Load Dataset", service_id=456, peer_id="peer_data"),
    ]  # fmt: skip
    connections = [
        make.connection(1, (123, "STDOUT"), (124, "MOUNT")),
        make.connection(2, (124, "MOUNT"), (None, "MOUNT"), destination_file_name="model.pth"),
    ]
    definition = build_definition(
        nodes,
        connections,
        self_peer_id=PeerId("peer_orchestrator"),
        single_files={NodeId(123): "dataset.csv"},
    )
    written = definition_to_json(definition)
    assert without_added(written) == DOCUMENTED
    jobs: Any = written["jobs"]
    assert jobs[0]["interfaces"][0]["interface_peers"][0]["peer_workflow_node_id"] == 124
    assert jobs[1]["constraint_detail"] == [{"connection_id": 1, "from_node_id": 123}]
    assert definition_from_json(json.loads(json.dumps(written))) == definition


def test_both_ends_see_each_other_and_what_the_other_does(make: Any) -> None:
    nodes = [make.node(1, peer_id="far"), make.node(2)]
    jobs = build(nodes, [make.connection(5, (1, "STDOUT"), (2, "STDIN"), include=("a",), destination_file_name="x")])
    (to_two,) = interface(jobs[1], "STDOUT").interface_peers
    (from_one,) = interface(jobs[2], "STDIN").interface_peers
    shared: dict[str, Any] = {
        "connection_id": 5, "include": ("a",), "peer_file_name": "x", "lane": "", "source_path": None,
        "peer_job_execution_id": None,
    }  # fmt: skip
    assert to_two == InterfacePeerPlan(
        peer_id=SELF, peer_workflow_node_id=NodeId(2), peer_interface_type=InterfaceType.STDIN,
        peer_path="/input/x", peer_mount_function=MountFunction.INPUT, **shared,
    )  # fmt: skip
    assert from_one == InterfacePeerPlan(
        peer_id=PeerId("far"), peer_workflow_node_id=NodeId(1), peer_interface_type=InterfaceType.STDOUT,
        peer_path="/output", peer_mount_function=MountFunction.OUTPUT, **shared,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "path"),
    [("STDOUT", "/output"), ("STDERR", "/logs/stderr.txt"), ("LOGS", "/logs/logs.txt")],
)
def test_streams_have_their_paths(make: Any, kind: str, path: str) -> None:
    jobs = build([make.node(1), make.node(2)], [make.connection(1, (1, kind), (2, "STDIN"))])
    assert interface(jobs[1], kind).path == path
    (peer,) = interface(jobs[2], "STDIN", "/input").interface_peers
    assert peer.peer_path == path
    assert peer.peer_interface_type == kind


def test_jobs_wait_for_their_inputs_only(make: Any) -> None:
    nodes = [make.data(1), make.node(2), make.node(3)]
    connections = [
        make.connection(4, (1, "STDOUT"), (2, "STDIN")),
        make.connection(3, (None, "STDOUT"), (2, "STDIN"), source_path="/home/x/in.txt"),
        make.connection(5, (2, "STDOUT"), (None, "STDIN")),
    ]
    jobs = build(nodes, connections)
    assert jobs[1].execution_constraint is ExecutionConstraint.NONE
    assert jobs[3].execution_constraint is ExecutionConstraint.NONE
    assert jobs[2].execution_constraint is ExecutionConstraint.INPUTS_READY
    assert [(wait.connection_id, wait.from_node_id) for wait in jobs[2].constraint_detail] == [(3, None), (4, 1)]


def test_the_self_peer_is_a_folder_with_job_0(make: Any) -> None:
    connections = [
        make.connection(1, (None, "STDOUT"), (1, "STDIN"), source_path="/home/x/in.txt"),
        make.connection(2, (1, "STDOUT"), (None, "STDIN")),
        make.connection(3, (None, "MOUNT"), (2, "STDIN")),
        make.connection(4, (None, "MOUNT"), (3, "STDIN"), source_path="/"),
    ]
    jobs = build([make.node(1), make.node(2), make.node(3)], connections)
    (source,) = interface(jobs[1], "STDIN").interface_peers
    (destination,) = interface(jobs[1], "STDOUT").interface_peers
    assert (source.peer_id, source.peer_job_execution_id, source.peer_path) == ("self", 0, "/source/in.txt")
    assert (source.source_path, source.peer_interface_type) == ("/home/x/in.txt", "MOUNT")
    assert (destination.peer_workflow_node_id, destination.peer_job_execution_id) == (None, 0)
    assert (destination.peer_path, destination.peer_interface_type) == ("/results", "MOUNT")
    assert [interface(jobs[number], "STDIN").interface_peers[0].peer_path for number in (2, 3)] == ["/source"] * 2


def test_several_connections_between_two_ends_get_lanes(make: Any) -> None:
    nodes = [make.node(1), make.node(2), make.node(3)]
    connections = [
        make.connection(1, (1, "STDOUT"), (2, "STDIN")),
        make.connection(2, (1, "STDERR"), (2, "STDIN")),
        make.connection(3, (1, "STDOUT"), (3, "STDIN")),
        make.connection(4, (1, "STDOUT"), (None, "MOUNT")),
        make.connection(5, (1, "LOGS"), (None, "MOUNT")),
        make.connection(6, (None, "MOUNT"), (3, "STDIN"), source_path="/a"),
    ]
    jobs = build(nodes, connections)
    outgoing = {peer.connection_id: peer.lane for item in jobs[1].interfaces for peer in item.interface_peers}
    assert outgoing == {1: "c1", 2: "c2", 3: "", 4: "c4", 5: "c5"}
    incoming = {peer.connection_id: peer.lane for peer in interface(jobs[2], "STDIN").interface_peers}
    assert incoming == {1: "c1", 2: "c2"}
    assert {peer.connection_id: peer.lane for peer in interface(jobs[3], "STDIN").interface_peers} == {3: "", 6: ""}


def test_mounts_are_chosen_by_function_or_by_path(make: Any) -> None:
    nodes = [
        make.node(1, mounts=(make.mount("/in", "INPUT"), make.mount("/out", "OUTPUT"))),
        make.node(2, mounts=(make.mount("/a/", "INPUT"), make.mount("/b", "BOTH"), make.mount("/c", "OUTPUT"))),
    ]
    jobs = build(nodes, [make.connection(1, (1, "MOUNT"), (2, "MOUNT"), to_interface_path="/a")])
    (peer,) = interface(jobs[1], "MOUNT", "/out").interface_peers
    assert peer.peer_path == "/a"
    assert interface(jobs[2], "MOUNT", "/a").mount_function is MountFunction.INPUT
    (peer,) = interface(jobs[2], "MOUNT", "/a").interface_peers
    assert peer.peer_path == "/out"
    assert interface(jobs[2], "MOUNT", "/b").interface_peers == ()


def test_declared_interfaces_are_all_there_and_connected_streams_besides(make: Any) -> None:
    nodes = [make.node(1, interfaces=(make.mount("/m"), make.stream("STDERR"))), make.node(2)]
    jobs = build(nodes, [make.connection(1, (1, "STDOUT"), (2, "STDIN"))])
    assert [item.interface_type for item in jobs[1].interfaces] == ["MOUNT", "STDERR", "STDOUT"]
    assert [item.interface_type for item in jobs[2].interfaces] == ["STDIN", "STDOUT", "STDERR", "LOGS"]


@pytest.mark.parametrize(
    ("chosen", "known", "path"),
    [
        (None, "d.csv", "/in/d.csv"),
        ("x.csv", "d.csv", "/in/x.csv"),
        ("sub/", "d.csv", "/in/sub/d.csv"),
        ("sub/", None, "/in/sub"),
        (None, None, "/in"),
    ],
)
def test_the_path_of_a_known_file_is_told(make: Any, chosen: str | None, known: str | None, path: str) -> None:
    nodes = [make.data(1), make.node(2, mounts=(make.mount("/in", "INPUT"),))]
    jobs = build(
        nodes,
        [make.connection(1, (1, "STDOUT"), (2, "MOUNT"), destination_file_name=chosen)],
        single_files={1: known} if known else {},
    )
    assert interface(jobs[1], "STDOUT").interface_peers[0].peer_path == path


def test_feeders_stand_before_those_they_feed(make: Any) -> None:
    nodes = [make.node(1), make.node(2), make.node(3)]
    connections = [make.connection(1, (3, "STDOUT"), (2, "STDIN")), make.connection(2, (2, "STDOUT"), (1, "STDIN"))]
    assert list(build(nodes, connections)) == [3, 2, 1]


def test_what_cannot_be_resolved_is_refused_all_at_once(make: Any) -> None:
    connections = [
        make.connection(2, (1, "STDIN"), (2, "STDOUT")),
        make.connection(1, (1, "STDOUT"), (99, "STDIN")),
    ]
    with pytest.raises(ValidationFailed) as caught:
        build([make.node(1), make.node(2)], connections)
    assert [(problem.check, problem.connection_id) for problem in caught.value.problems] == [
        ("connection_nodes", 1),
        ("pair", 2),
    ]


def test_a_cycle_is_refused_and_named(make: Any) -> None:
    connections = [make.connection(1, (1, "STDOUT"), (2, "STDIN")), make.connection(2, (2, "STDOUT"), (1, "STDIN"))]
    with pytest.raises(ValidationFailed, match=r"^Workflow has a cycle: s1 -> s2 -> s1$"):
        build([make.node(1), make.node(2)], connections)


def test_a_malformed_definition_is_told_with_every_place() -> None:
    with pytest.raises(MalformedDocument) as caught:
        definition_from_json({"jobs": [{"node_id": "1"}, 5]})
    assert caught.value.misreadings[:3] == (
        "jobs[0].node_id: must be a whole number, not a string",
        "jobs[0].name: is missing",
        "jobs[0].service_id: is missing",
    )
    assert caught.value.misreadings[-1] == "jobs[1]: must be an object, not a number"
    malformed: list[object] = [None, [], {}, {"jobs": {}}, {"jobs": [{"interfaces": [{"interface_peers": [1]}]}]}]
    for broken in malformed:
        with pytest.raises(ValueError):
            definition_from_json(broken)


def test_an_empty_definition() -> None:
    assert definition_from_json({"jobs": []}) == WorkflowDefinition(jobs=())
    assert build_definition([], [], self_peer_id=SELF) == WorkflowDefinition(jobs=())


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
NUMBER = st.integers(1, 2**40)


@st.composite
def peers(draw: st.DrawFn) -> InterfacePeerPlan:
    node_id = draw(st.none() | NUMBER)
    job_id = 0 if node_id is None else draw(st.none() | NUMBER)
    return InterfacePeerPlan(
        connection_id=ConnectionId(draw(NUMBER)),
        peer_id=PeerId(draw(TEXT)),
        peer_workflow_node_id=None if node_id is None else NodeId(node_id),
        peer_job_execution_id=None if job_id is None else JobExecutionId(job_id),
        peer_interface_type=draw(st.sampled_from(InterfaceType)),
        peer_path=draw(TEXT),
        peer_file_name=draw(st.none() | TEXT),
        peer_mount_function=draw(st.sampled_from(MountFunction)),
        include=draw(TEXTS),
        source_path=draw(st.none() | TEXT),
        lane=draw(TEXT),
    )


INTERFACES = st.builds(
    InterfacePlan,
    interface_type=st.sampled_from(InterfaceType),
    path=TEXT,
    mount_function=st.none() | st.sampled_from(MountFunction),
    interface_peers=st.lists(peers(), max_size=2).map(tuple),
)
JOBS = st.builds(
    JobPlan,
    node_id=NUMBER,
    name=TEXT,
    service_id=NUMBER,
    service_name=TEXT,
    service_type=st.sampled_from(ServiceType),
    executor_peer_id=TEXT,
    execution_constraint=st.sampled_from(ExecutionConstraint),
    constraint_detail=st.lists(
        st.builds(InputWait, connection_id=NUMBER, from_node_id=st.none() | NUMBER), max_size=2
    ).map(tuple),
    entrypoint=st.none() | TEXTS,
    cmd=st.none() | TEXTS,
    interfaces=st.lists(INTERFACES, max_size=2).map(tuple),
)


@given(st.lists(JOBS, max_size=3).map(lambda jobs: WorkflowDefinition(jobs=tuple(jobs))))
def test_writing_and_reading_are_inverse(definition: WorkflowDefinition) -> None:
    assert definition_from_json(json.loads(json.dumps(definition_to_json(definition)))) == definition


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(JSON | st.builds(lambda jobs: {"jobs": jobs}, JSON) | st.builds(lambda job: {"jobs": [job]}, JSON))
def test_no_json_makes_the_reader_fail_otherwise_than_by_saying_so(value: object) -> None:
    with contextlib.suppress(MalformedDocument):
        assert definition_from_json(value).jobs is not None
