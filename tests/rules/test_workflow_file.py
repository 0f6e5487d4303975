"""The file format rnd.workflow/1."""

from __future__ import annotations

import contextlib
import json
import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.reading import MalformedDocument
from rnd.rules.topology import node_name_problem, node_names
from rnd.rules.workflow_export import workflow_to_file
from rnd.rules.workflow_file import (
    FileConnection,
    FileNode,
    Layout,
    WorkflowFile,
    emit_workflow_file,
    parse_workflow_file,
    split_service,
)
from rnd.types.enums import InterfaceType, MountFunction, ServiceType
from rnd.types.ids import PeerId, WorkflowId
from rnd.types.services import ServiceInterface
from rnd.types.workflows import Workflow, WorkflowUIState

WORDS: dict[str, Any] = {
    "format": "rnd.workflow/1",
    "name": "Count words",
    "services": {
        "text": {"service_type": "DATA"},
        "wc": {"service_type": "STANDALONE", "interfaces": [{"interface_type": "STDIN"}]},
    },
    "nodes": [
        {"name": "text", "service_name": "text"},
        {"name": "lines", "service_name": "wc", "cmd": ["-l"], "gui_x": 40},
        {"name": "words", "service_name": "wc", "cmd": [], "peer_id": "rnfar", "interfaces": []},
    ],
    "connections": [
        {"from": "text", "from_interface_type": "STDOUT", "to": "lines", "to_interface_type": "STDIN"},
        {"from": None, "to": "words", "to_interface_type": "STDIN", "source_path": "/etc/hosts"},
        {"from": "lines", "from_interface_type": "STDOUT", "include": ["*.txt"], "destination_file_name": "n"},
    ],
    "layout": {"zoom_level": 2},
}

STDIN = ServiceInterface(interface_type=InterfaceType.STDIN)


def misreadings(document: object) -> list[str]:
    with pytest.raises(MalformedDocument) as caught:
        parse_workflow_file(document)
    return list(caught.value.misreadings)


def changed(**values: Any) -> dict[str, Any]:
    return WORDS | values


def test_a_file_is_read() -> None:
    file = parse_workflow_file(WORDS)
    assert (file.name, file.description, file.layout) == ("Count words", "", Layout(zoom_level=2.0))
    assert file.nodes == (
        FileNode(name="text", service_name="text", service_type=ServiceType.DATA),
        FileNode(
            name="lines",
            service_name="wc",
            service_type=ServiceType.STANDALONE,
            interfaces=(STDIN,),
            cmd=("-l",),
            gui_x=40,
        ),
        FileNode(
            name="words",
            service_name="wc",
            service_type=ServiceType.STANDALONE,
            peer_id="rnfar",
            interfaces=(),
            cmd=(),
        ),
    )
    assert file.connections == (
        FileConnection(
            from_node="text",
            from_interface_type=InterfaceType.STDOUT,
            to_node="lines",
            to_interface_type=InterfaceType.STDIN,
        ),
        FileConnection(
            from_node=None,
            from_interface_type=InterfaceType.STDOUT,
            to_node="words",
            to_interface_type=InterfaceType.STDIN,
            source_path="/etc/hosts",
        ),
        FileConnection(
            from_node="lines",
            from_interface_type=InterfaceType.STDOUT,
            to_node=None,
            to_interface_type=InterfaceType.MOUNT,
            include=("*.txt",),
            destination_file_name="n",
        ),
    )


def test_toml_holds_the_same() -> None:
    text = """
        format = "rnd.workflow/1"
        name = "t"
        [[nodes]]
        name = "a"
        service_name = "echo"
        [[connections]]
        from = "a"
        from_interface_type = "STDOUT"
    """
    file = parse_workflow_file(tomllib.loads(text))
    assert file.nodes == (FileNode(name="a", service_name="echo"),)
    assert file.connections[0].to_node is None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (None, ["must be an object, not null"]),
        ([], ["must be an object, not a list"]),
        ({}, ["format: is missing; it is rnd.workflow/1", "name: is missing", "nodes: is missing"]),
        (changed(format="rnd.workflow/2"), ["format: must be rnd.workflow/1, not 'rnd.workflow/2'"]),
        (changed(format=1), ["format: must be a string, not a number"]),
        (changed(format=""), ["format: must be rnd.workflow/1, not ''"]),
        (changed(name=" "), ["name: must not be empty"]),
        (changed(name="x" * 201), ["name: must have at most 200 characters"]),
        (changed(conections=[]), ["conections: unknown key (did you mean connections?)"]),
        (changed(services=[]), ["services: must be an object, not a list"]),
        (changed(layout={"zoom": 1}), ["layout.zoom: unknown key"]),
        (changed(layout={"pan_x": float("inf")}), ["layout.pan_x: must be a finite number of reasonable size"]),
    ],
)
def test_what_is_wrong_at_the_top(document: object, words: list[str]) -> None:
    assert sorted(misreadings(document)) == sorted(words)


def test_everything_wrong_is_told_at_once_with_its_place() -> None:
    document = {
        "format": "rnd.workflow/1",
        "name": "x",
        "services": {"wc": {"service_type": "BINARY", "interface": []}},
        "nodes": [
            {"name": "a", "service_name": "wc", "cmd": ["-l", 5]},
            {"name": "a", "service_name": "wc", "cmd": "-l", "gui_x": 10**10},
            {"service_nam": "wc"},
            7,
            {"name": "b", "service_name": "wc", "interfaces": [{"interface_type": "PIPE"}, {"path": 1}]},
        ],
        "connections": [
            {"from": "aa", "from_interface_type": "STDOUT", "to": "b", "to_interface_type": "STDIN"},
            {},
            {"from": "a"},
            {"from": "b", "from_interface_type": "OUT"},
            None,
        ],
    }
    assert misreadings(document) == [
        "services.wc.interface: unknown key (did you mean interfaces?)",
        "services.wc.service_type: must be one of DATA, DOCKER, STANDALONE, not BINARY",
        "nodes[2].service_nam: unknown key (did you mean service_name?)",
        "nodes[3]: must be an object, not a number",
        "nodes[0].cmd[1]: must be a string, not a number",
        "nodes[1].gui_x: is too large a number",
        "nodes[1].cmd: must be a list, not a string",
        "nodes[2].service_name: is missing",
        "nodes[2].name: is missing",
        "nodes[4].interfaces: Invalid interface type: PIPE",
        "nodes[4].interfaces[1].interface_type: is missing",
        "nodes[4].interfaces[1].path: must be a string, not a number",
        "nodes[1].name: 'a' is the name of nodes[0] already",
        "connections[4]: must be an object, not null",
        "connections[0].from: no node is named 'aa' (did you mean a?)",
        "connections[1]: needs a node in from or in to; left out, both are the self-peer",
        "connections[2].from_interface_type: is missing",
        "connections[3].from_interface_type: must be one of STDIN, STDOUT, STDERR, LOGS, MOUNT, not OUT",
    ]


def test_what_is_default_is_left_out_and_services_are_said_once() -> None:
    node = FileNode(name="a", service_name="wc", service_type=ServiceType.STANDALONE)
    file = WorkflowFile(name="x", nodes=(node, replace(node, name="b", interfaces=(STDIN,))))
    assert emit_workflow_file(file) == {
        "format": "rnd.workflow/1",
        "name": "x",
        "services": {"wc": {"service_type": "STANDALONE"}},
        "nodes": [
            {"name": "a", "service_name": "wc"},
            {
                "name": "b",
                "service_name": "wc",
                "interfaces": [
                    {
                        "interface_type": "STDIN",
                        "path": "",
                        "mount_function": None,
                        "required": False,
                        "description": "",
                    }
                ],
            },
        ],
    }


def test_a_drawn_workflow_becomes_a_file_without_ids(make: Any) -> None:
    nodes = [make.data(1, "text"), make.node(2, "wc", cmd=("-l",), gui_x=5), make.node(3, "wc", peer_id="far")]
    connections = [
        make.connection(1, (1, "STDOUT"), (2, "STDIN")),
        make.connection(2, (2, "STDOUT"), (None, "MOUNT"), destination_file_name="n/"),
        make.connection(3, (None, "MOUNT"), (3, "STDIN"), source_path="/x"),
    ]
    workflow = Workflow(
        id=WorkflowId(1), name="w", description="d", definition="{}", created_at=make.now, updated_at=make.now
    )
    file = workflow_to_file(
        workflow, nodes, connections, WorkflowUIState(workflow_id=WorkflowId(1), pan_x=3.0), self_peer_id=PeerId("self")
    )
    assert [node.name for node in file.nodes] == list(node_names(nodes).values())
    assert [node.peer_id for node in file.nodes] == [None, None, "far"]
    assert [(edge.from_node, edge.to_node) for edge in file.connections] == [
        ("text", "wc (node 2)"),
        ("wc (node 2)", None),
        (None, "wc (node 3)"),
    ]
    assert file.layout == Layout(pan_x=3.0)
    assert parse_workflow_file(json.loads(json.dumps(emit_workflow_file(file)))) == file


CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
TEXT = st.text(CHARACTERS, max_size=5)
NAMES = st.text(CHARACTERS, min_size=1, max_size=5).filter(str.strip)
NODE_NAMES = NAMES.filter(lambda name: node_name_problem(name) is None)
TEXTS = st.lists(TEXT, max_size=2).map(tuple)
INTERFACES = st.lists(
    st.sampled_from([STDIN])
    | st.builds(
        ServiceInterface,
        interface_type=st.just(InterfaceType.MOUNT),
        path=st.sampled_from(["", "/", "/a", "b/c"]),
        mount_function=st.sampled_from(MountFunction),
        required=st.booleans(),
        description=TEXT,
    ),
    max_size=2,
).map(tuple)
COORDINATES = st.integers(-(10**9), 10**9)
NUMBERS = st.floats(-1e9, 1e9)


@st.composite
def files(draw: st.DrawFn) -> WorkflowFile:
    names = draw(st.lists(NODE_NAMES, min_size=1, max_size=4, unique=True))
    nodes = tuple(
        draw(
            st.builds(
                FileNode,
                name=st.just(name),
                service_name=st.sampled_from(["wc", "sort"]),
                service_type=st.none() | st.sampled_from(ServiceType),
                peer_id=st.none() | TEXT,
                order=COORDINATES,
                gui_x=COORDINATES,
                gui_y=COORDINATES,
                interfaces=st.none() | INTERFACES,
                entrypoint=st.none() | TEXTS,
                cmd=st.none() | TEXTS,
                pin=st.none() | st.integers(1, 2**53),
            )
        )
        for name in names
    )
    ends = st.none() | st.sampled_from(names)
    connections = st.builds(
        FileConnection,
        from_node=ends,
        from_interface_type=st.sampled_from(InterfaceType),
        to_node=ends,
        to_interface_type=st.sampled_from(InterfaceType),
        from_interface_path=TEXT,
        to_interface_path=TEXT,
        destination_file_name=st.none() | TEXT,
        include=TEXTS,
        source_path=st.none() | TEXT,
    ).filter(lambda edge: edge.from_node is not None or edge.to_node is not None)
    layouts = st.builds(
        Layout,
        snap_to_grid=st.booleans(),
        zoom_level=NUMBERS,
        pan_x=NUMBERS,
        pan_y=NUMBERS,
        self_peer_x=NUMBERS,
        self_peer_y=NUMBERS,
    )
    return WorkflowFile(
        name=draw(NAMES),
        description=draw(TEXT),
        nodes=nodes,
        connections=tuple(draw(st.lists(connections, max_size=3))),
        layout=draw(layouts),
    )


@given(files())
def test_emitting_and_parsing_are_inverse(file: WorkflowFile) -> None:
    assert parse_workflow_file(json.loads(json.dumps(emit_workflow_file(file)))) == file


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(JSON | st.fixed_dictionaries({"nodes": JSON, "connections": JSON, "services": JSON, "layout": JSON}))
def test_no_document_makes_the_reader_fail_otherwise_than_by_saying_so(document: object) -> None:
    with contextlib.suppress(MalformedDocument):
        parse_workflow_file(document)


def test_a_node_may_name_a_peer_by_name_or_id_but_not_twice() -> None:
    node = {"name": "a", "service_name": "count", "peer": "office"}
    file = parse_workflow_file(changed(nodes=[node], connections=[]))
    assert (file.nodes[0].peer, file.nodes[0].peer_id) == ("office", None)
    assert parse_workflow_file(emit_workflow_file(file)) == file
    twice = changed(
        nodes=[{**node, "peer_id": "rnfar"}, {"name": "b", "service_name": "x", "peer": ""}], connections=[]
    )
    assert misreadings(twice) == [
        "nodes[0].peer: says the same as peer_id; give one of them",
        "nodes[1].peer: must not be empty",
    ]


@pytest.mark.parametrize(
    ("service_name", "split"),
    [
        ("office/count", ("office", "count")),
        ("office/count/words", ("office", "count/words")),
        ("count", None),
        ("/count", None),
        ("office/", None),
        (" /count", None),
    ],
)
def test_a_service_name_is_cut_at_its_first_slash(service_name: str, split: tuple[str, str] | None) -> None:
    assert split_service(service_name) == split
