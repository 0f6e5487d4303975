"""The three phases of validation, the document's messages word for word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rnd.rules.connection_checks import source_path_problem
from rnd.rules.definition import build_definition
from rnd.rules.validation import validate_connection, validate_workflow
from rnd.types.config import Limits
from rnd.types.enums import ServiceStatus
from rnd.types.errors import Problem, ValidationFailed
from rnd.types.ids import ConnectionId, PeerId

RULE = "Allowed are STDOUT, STDERR, LOGS or MOUNT -> STDIN, MOUNT or self-peer, and self-peer -> STDIN or MOUNT"


def validate(make: Any, nodes: Any, connections: Any = (), **values: Any) -> list[Problem]:
    """Validate with a matching service of this peer for every node that says nothing else."""
    services = {
        node.service_id: make.service(node.service_id, node.service_name, node.service_type) for node in nodes
    } | values.pop("services", {})
    values.setdefault("limits", Limits())
    return list(validate_workflow(nodes, connections, self_peer_id=PeerId("self"), services=services, **values))


def messages(make: Any, nodes: Any, connections: Any = (), **values: Any) -> list[str]:
    return [problem.message for problem in validate(make, nodes, connections, **values)]


def test_a_sound_workflow_has_no_problems_and_a_definition(make: Any) -> None:
    nodes = [
        make.data(1),
        make.node(2, mounts=(make.mount("/in", "INPUT", required=True), make.mount("/output", "OUTPUT"))),
        make.node(3, peer_id="far", service_type="DOCKER"),
    ]
    connections = [
        make.connection(1, (1, "STDOUT"), (2, "MOUNT"), destination_file_name="d.csv"),
        make.connection(2, (2, "MOUNT"), (3, "STDIN"), include=("*.txt",)),
        make.connection(3, (2, "STDERR"), (3, "STDIN")),
        make.connection(4, (3, "STDOUT"), (None, "STDIN"), destination_file_name="r/"),
        make.connection(5, (None, "STDOUT"), (3, "STDIN"), source_path="/home/x"),
        make.connection(6, (1, "STDOUT"), (None, "MOUNT")),
    ]
    assert messages(make, nodes, connections) == []
    assert len(build_definition(nodes, connections, self_peer_id=PeerId("self")).jobs) == 3


def test_there_is_at_least_one_job(make: Any) -> None:
    assert messages(make, []) == ["Workflow must have at least one job"]


def test_services_of_this_peer_exist_fit_and_are_active(make: Any) -> None:
    nodes = [make.node(1), make.node(2), make.node(3, "slow"), make.node(4, peer_id="far")]
    problems = validate_workflow(
        nodes,
        [],
        self_peer_id=PeerId("self"),
        services={
            102: make.service(102, service_type="DOCKER"),  # type: ignore[dict-item]  # plain numbers read better
            103: make.service(103, "slow", status=ServiceStatus.INACTIVE),  # type: ignore[dict-item]  # the same
        },
        limits=Limits(),
    )
    assert [(problem.check, problem.message, problem.node_id) for problem in problems] == [
        ("service_found", "Service 101 not found", 1),
        ("service_type", "Service type mismatch", 2),
        ("service_active", "Service slow is inactive", 3),
    ]


def test_names_that_somebody_typed_into_the_database_are_checked(make: Any) -> None:
    nodes = [make.node(1, own_name="a"), make.node(2, own_name="a"), make.node(3), make.node(4, own_name="b\n")]
    problems = [problem for problem in validate(make, nodes) if problem.check == "node_name"]
    assert [(problem.message, problem.node_id) for problem in problems] == [
        ("The name of the node must not hold control or invisible characters", 4),
        ("Node 2 is called 'a', as node 1 is already", 2),
    ]


def test_interfaces_are_checked_node_by_node(make: Any) -> None:
    nodes = [make.data(1, interfaces=()), make.node(2, mounts=(make.mount("/a"), make.mount("/a/b")))]
    problems = validate(make, nodes)
    assert [(problem.message, problem.node_id) for problem in problems] == [
        ("DATA service must have STDOUT interface", 1),
        ("MOUNT /a/b lies inside MOUNT /a", 2),
    ]


@pytest.mark.parametrize(
    ("source", "destination"),
    [((1, kind), (2, receiver)) for kind in ("STDOUT", "STDERR", "LOGS", "MOUNT") for receiver in ("STDIN", "MOUNT")]
    + [((1, kind), (None, "MOUNT")) for kind in ("STDOUT", "STDERR", "LOGS", "MOUNT")]
    + [((None, "STDOUT"), (2, receiver)) for receiver in ("STDIN", "MOUNT")],
)
def test_allowed_pairs(make: Any, source: Any, destination: Any) -> None:
    nodes = [make.node(1, mounts=(make.mount("/m"),)), make.node(2, mounts=(make.mount("/m"),))]
    values = {"source_path": "/x"} if source[0] is None else {}
    assert messages(make, nodes, [make.connection(1, source, destination, **values)]) == []


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [
        ((1, "STDIN"), (2, "STDOUT"), f"STDIN -> STDOUT is not allowed: reversed direction. {RULE}"),
        ((1, "STDIN"), (None, "MOUNT"), f"STDIN -> self-peer is not allowed: reversed direction. {RULE}"),
        ((1, "MOUNT"), (2, "STDOUT"), f"MOUNT -> STDOUT is not allowed: type mismatch. {RULE}"),
        ((1, "STDOUT"), (2, "STDERR"), f"STDOUT -> STDERR is not allowed: type mismatch. {RULE}"),
        ((None, "STDOUT"), (2, "LOGS"), f"self-peer -> LOGS is not allowed: type mismatch. {RULE}"),
        ((None, "STDOUT"), (None, "STDIN"), f"A connection needs a node at one end at least. {RULE}"),
        ((3, "STDOUT"), (4, "STDIN"), "Cannot download from DATA service on remote peer"),
        ((1, "STDOUT"), (4, "STDIN"), "DATA service s4 takes no input: its files are fixed"),
        ((None, "STDOUT"), (4, "STDIN"), "DATA service s4 takes no input: its files are fixed"),
        ((3, "STDERR"), (2, "STDIN"), "s3 has no STDERR interface"),
        ((1, "MOUNT"), (2, "STDIN"), "s1 has no MOUNT that can send (mount function OUTPUT or BOTH)"),
        ((1, "STDOUT"), (2, "MOUNT"), "s2 has no MOUNT that can receive (mount function INPUT or BOTH)"),
        ((9, "STDOUT"), (2, "STDIN"), "Connection references non-existent node"),
        ((1, "STDOUT"), (9, "STDIN"), "Connection references non-existent node"),
    ],
)
def test_refused_pairs_name_the_rule(make: Any, source: Any, destination: Any, words: str) -> None:
    nodes = [
        make.node(1, mounts=(make.mount("/m", "INPUT"),)),
        make.node(2, mounts=(make.mount("/m", "OUTPUT"),)),
        make.data(3),
        make.data(4, peer_id="far"),
    ]
    connection = make.connection(7, source, destination, source_path="/x" if source[0] is None else None)
    problems = validate(make, nodes, [connection])
    assert [(problem.message, problem.connection_id) for problem in problems if problem.check != "source_path"] == [
        (words, 7)
    ]
    with pytest.raises(ValidationFailed) as caught:
        validate_connection(connection, nodes)
    assert caught.value.problems[0].message == words


def test_the_choice_of_a_mount(make: Any) -> None:
    mounts = (make.mount("/a", "INPUT"), make.mount("/b", "BOTH"), make.mount("/c", "OUTPUT"))
    nodes = [make.node(1, mounts=mounts), make.node(2, mounts=mounts)]

    def choose(source: str, destination: str) -> list[str]:
        paths = {"from_interface_path": source, "to_interface_path": destination}
        return messages(make, nodes, [make.connection(1, (1, "MOUNT"), (2, "MOUNT"), **paths)])

    assert choose("/c", "/b/") == []
    assert choose("", "/a") == ["s1 has several MOUNTs that can send (/b, /c); choose one with from_interface_path"]
    assert choose("/c", "") == ["s2 has several MOUNTs that can receive (/a, /b); choose one with to_interface_path"]
    assert choose("/a", "/a") == ["s1 has no MOUNT /a that can send (mount function OUTPUT or BOTH)"]
    assert choose("/c", "/x") == ["s2 has no MOUNT /x that can receive (mount function INPUT or BOTH)"]


def test_paths_choose_nothing_where_there_is_no_choice(make: Any) -> None:
    def choose(source: str, destination: str, to: int | None = 2) -> list[str]:
        paths = {"from_interface_path": source, "to_interface_path": destination}
        nodes = [make.node(1), make.node(2)]
        return messages(make, nodes, [make.connection(1, (1, "STDOUT"), (to, "STDIN"), **paths)])

    assert choose("/output", "/input") == []
    assert choose("/x", "") == ["STDOUT has a fixed path; '/x' chooses nothing"]
    assert choose("", "/x", None) == ["The self-peer has no interfaces, so the path '/x' names none"]


def test_required_inputs_are_connected(make: Any) -> None:
    stdin = replace(make.stream("STDIN"), required=True)
    node = make.node(
        1,
        interfaces=(
            stdin,
            make.mount("/in/", "INPUT", required=True),
            make.mount("/out", "OUTPUT", required=True),
            make.mount("/opt", "INPUT"),
        ),
    )
    assert messages(make, [node]) == [
        "s1 requires an input at STDIN, and nothing is connected to it",
        "s1 requires an input at MOUNT /in, and nothing is connected to it",
    ]
    connections = [
        make.connection(1, (2, "STDOUT"), (1, "STDIN")),
        make.connection(2, (2, "STDERR"), (1, "MOUNT"), to_interface_path="/in"),
        make.connection(3, (1, "STDOUT"), (None, "MOUNT")),
    ]
    assert messages(make, [node, make.node(2)], connections) == []


def test_cycles_are_named(make: Any) -> None:
    nodes = [make.node(1, "a"), make.node(2, "b"), make.node(3, "b")]
    connections = [
        make.connection(1, (1, "STDOUT"), (2, "STDIN")),
        make.connection(2, (2, "STDOUT"), (3, "STDIN")),
        make.connection(3, (3, "STDOUT"), (1, "STDIN")),
    ]
    assert messages(make, nodes, connections) == ["Workflow has a cycle: a -> b (node 2) -> b (node 3) -> a"]
    loop = [make.connection(1, (1, "STDOUT"), (1, "STDIN"))]
    assert messages(make, nodes[:1], loop) == ["Workflow has a cycle: a -> a"]
    with pytest.raises(ValidationFailed, match=r"^Workflow has a cycle: a -> a$"):
        validate_connection(loop[0], nodes[:1])  # no drawing mends it
    validate_connection(connections[2], nodes, connections[:2])  # of a longer one, any part may be the wrong one


def test_limits_hold_at_the_limit_and_not_one_past_it(make: Any) -> None:
    limits = Limits(nodes_per_workflow=2, connections_per_workflow=1)
    nodes = [make.node(number) for number in (1, 2, 3)]
    connections = [
        make.connection(1, (1, "STDOUT"), (2, "STDIN")),
        make.connection(2, (2, "STDOUT"), (None, "STDIN")),
    ]
    assert messages(make, nodes[:2], connections[:1], limits=limits) == []
    assert messages(make, nodes, connections, limits=limits) == [
        "Workflow has 3 nodes; at most 2 are allowed",
        "Workflow has 2 connections; at most 1 are allowed",
    ]


@pytest.mark.parametrize("name", ["x.csv", "sub/x.csv", "folder/", "a/b/", "", None])
def test_destination_names_that_are_safe(make: Any, name: str | None) -> None:
    nodes = [make.node(1), make.node(2, mounts=(make.mount("/in"),))]
    assert messages(make, nodes, [make.connection(1, (1, "STDOUT"), (2, "MOUNT"), destination_file_name=name)]) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../x", "destination_file_name '../x' has the part '..'"),
        ("/etc/passwd", "destination_file_name '/etc/passwd' is absolute"),
        ("/", "destination_file_name '/' is empty"),
        ("a//", "destination_file_name 'a//' has an empty part"),
        ("a\nb", "destination_file_name 'a\\nb' has a control character or is not valid UTF-8"),
        ("dir/", "destination_file_name 'dir/' names a folder, but STDIN takes one stream"),
    ],
)
def test_destination_names_that_are_not(make: Any, name: str, words: str) -> None:
    connection = make.connection(1, (1, "STDOUT"), (2, "STDIN"), destination_file_name=name)
    assert messages(make, [make.node(1), make.node(2)], [connection]) == [words]


def test_one_name_for_many_known_files(make: Any) -> None:
    nodes = [make.data(1), make.node(2, mounts=(make.mount("/in"),))]
    three = {101: make.service(101, "data", "DATA", settings=make.data_settings(file_count=3))}
    words = (
        "destination_file_name 'x' needs exactly one file, but DATA service data holds 3; "
        "narrow it with include, or name a folder: 'x/'"
    )
    for values, expected in (
        ({"destination_file_name": "x"}, [words]),
        ({"destination_file_name": "x", "include": ("*.csv",)}, []),
        ({"destination_file_name": "x/"}, []),
        ({}, []),
    ):
        connection = make.connection(1, (1, "STDOUT"), (2, "MOUNT"), **values)
        assert messages(make, nodes, [connection], services=three) == expected


def test_one_name_from_two_senders_is_told_before_anything_runs(make: Any) -> None:
    nodes = [make.node(1, "a"), make.node(2, "b"), make.node(3, "m", mounts=(make.mount("/in"), make.mount("/two")))]

    def collide(one: Any, two: Any, kind: str = "STDOUT", path: str = "/in") -> list[str]:
        to = {"to_interface_path": "/in"}
        connections = [
            make.connection(1, (1, "STDOUT"), (3, "MOUNT"), **(to | one)),
            make.connection(2, (2, kind), (3, "MOUNT"), **(to | {"to_interface_path": path} | two)),
        ]
        return messages(make, nodes, connections)

    words = (
        "a (connection 1) and b (connection 2) would both bring {!r} to MOUNT /in of m; "
        "give one of them another destination_file_name"
    )
    assert collide({}, {}) == [words.format("stdout.txt")]
    assert collide({"destination_file_name": "a/"}, {"destination_file_name": "a/"}) == [words.format("a/stdout.txt")]
    assert collide({"destination_file_name": "x"}, {"destination_file_name": "x"}) == [words.format("x")]
    assert collide({"include": ("*.txt",)}, {}) == [words.format("stdout.txt")]
    assert collide({"include": ("*.csv",)}, {}) == []
    assert collide({"destination_file_name": "x"}, {}) == []
    assert collide({}, {}, kind="STDERR") == []
    assert collide({}, {}, path="/two") == []
    self_peer = [
        make.connection(
            1, (None, "MOUNT"), (3, "MOUNT"), to_interface_path="/in", source_path="/s", destination_file_name="x"
        ),
        make.connection(2, (2, "STDOUT"), (3, "MOUNT"), to_interface_path="/in", destination_file_name="x"),
        make.connection(3, (None, "MOUNT"), (3, "MOUNT"), to_interface_path="/in", source_path="/t"),
    ]
    assert messages(make, nodes, self_peer) == [
        words.replace("a (connection 1)", "self-peer (connection 1)").format("x")
    ]


@pytest.mark.parametrize(
    ("include", "words"),
    [
        (("",), ["include pattern '' is empty"]),
        (("../*", "ok", "a**"), [
            "include pattern '../*' has the part '..': patterns look below the folder that is carried",
            "include pattern 'a**' has '**' beside other characters: it stands for whole folders, as in 'a/**/b.csv'",
        ]),
        (("a",) * 101, ["include has 101 patterns; at most 100 are allowed"]),
    ],
)  # fmt: skip
def test_include_patterns_make_sense(make: Any, include: tuple[str, ...], words: list[str]) -> None:
    nodes = [make.node(1), make.node(2, mounts=(make.mount("/in"),))]
    assert messages(make, nodes, [make.connection(1, (1, "STDOUT"), (2, "MOUNT"), include=include)]) == words


def test_the_self_peer_s_files_are_named_now_or_at_execute(make: Any) -> None:
    nodes = [make.node(1)]
    nothing = make.connection(3, (None, "STDOUT"), (1, "STDIN"))
    words = "Connection 3 from the self-peer names no file or folder: set its source_path, or give it in inputs at "
    assert messages(make, nodes, [nothing]) == [words + "workflow.execute"]
    assert messages(make, nodes, [nothing], inputs={ConnectionId(3)}) == []
    validate_connection(nothing, nodes)
    assert messages(make, nodes, [replace(nothing, source_path="data.csv")]) == [
        "source_path 'data.csv' must be absolute, or upload:NAME"
    ]
    elsewhere = make.connection(3, (1, "STDOUT"), (None, "MOUNT"), source_path="/x")
    assert messages(make, nodes, [elsewhere]) == ["source_path is for connections from the self-peer only"]


def test_source_paths_that_no_system_has() -> None:
    assert source_path_problem("/home/x y/ü") is None
    assert source_path_problem("upload:words.txt") is None
    assert source_path_problem("upload:../rnd.db") == "source_path 'upload:../rnd.db' must be absolute, or upload:NAME"
    assert source_path_problem("/a\0") == "source_path '/a\\x00' is no path of this system"
    assert source_path_problem("/" + "x" * 4096) is not None


def test_a_connection_is_not_repeated(make: Any) -> None:
    nodes = [make.node(1), make.node(2)]
    one = make.connection(1, (1, "STDOUT"), (2, "STDIN"), include=("a", "b"))
    again = replace(one, id=ConnectionId(5), include=("b", "a"), destination_file_name="")
    other = replace(one, id=ConnectionId(6), destination_file_name="x")
    assert [problem.message for problem in validate(make, nodes, [one, other, again])] == [
        "The connection repeats connection 1"
    ]
    with pytest.raises(ValidationFailed, match="The connection repeats connection 1"):
        validate_connection(again, nodes, [one, other])
    validate_connection(one, nodes, [one, other])  # itself, as when it is updated


def test_data_that_its_owner_keeps_from_downloads(make: Any) -> None:
    nodes = [make.data(1, "scans"), make.node(2), make.data(3, peer_id="far")]
    kept = {101: make.service(101, "scans", "DATA", settings=make.data_settings(downloadable=False))}
    connections = [
        make.connection(1, (1, "STDOUT"), (None, "MOUNT")),
        make.connection(2, (1, "STDOUT"), (2, "STDIN")),
        make.connection(3, (3, "STDOUT"), (None, "MOUNT")),
        make.connection(4, (2, "STDOUT"), (None, "MOUNT")),
    ]
    problems = validate(make, nodes, connections, services=kept)
    assert [(problem.message, problem.node_id, problem.connection_id) for problem in problems] == [
        ("DATA service scans is not downloadable: its owner lets it go to jobs only", 1, 1)
    ]


def test_all_problems_come_at_once(make: Any) -> None:
    nodes = [make.data(1, interfaces=()), make.node(2)]
    connections = [
        make.connection(1, (1, "STDOUT"), (2, "STDIN")),
        make.connection(2, (2, "STDIN"), (2, "STDOUT"), include=("",)),
        make.connection(3, (8, "STDOUT"), (2, "STDIN")),
        make.connection(4, (None, "STDOUT"), (2, "STDIN")),
    ]
    assert [problem.check for problem in validate(make, nodes, connections)] == [
        "data_stdout", "interface", "pair", "include", "connection_nodes", "source_path", "cycle",
    ]  # fmt: skip


def test_the_largest_workflow_is_validated_at_once(make: Any) -> None:
    nodes = [make.node(number) for number in range(1, 1001)]
    connections = [
        make.connection(number, (number % 999 + 1, "STDOUT"), (1000, "STDIN"), include=(f"{number}",))
        for number in range(1, 5001)
    ]
    assert messages(make, nodes, connections) == []
    assert len(build_definition(nodes, connections, self_peer_id=PeerId("self")).jobs) == 1000
