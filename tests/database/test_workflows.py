"""Workflows, nodes, connections and the canvas: what is written is what is read, and every change is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnd.database import events, workflow_connections, workflow_nodes, workflow_ui_state, workflows
from rnd.types.enums import EventType, InterfaceType, MountFunction, ServiceType
from rnd.types.errors import Conflict, NotFound
from rnd.types.ids import ConnectionId, NodeId, PeerId, ServiceId, WorkflowId
from rnd.types.services import ServiceInterface
from rnd.types.workflows import Workflow, WorkflowConnection, WorkflowNode, WorkflowUIState

MISSING = WorkflowId(404)
INT64 = st.integers(-(2**63), 2**63 - 1)
REAL = st.floats(allow_nan=False)
WORDS = st.lists(st.text(), max_size=3).map(tuple)
INTERFACES = st.lists(
    st.builds(
        ServiceInterface,
        interface_type=st.sampled_from(InterfaceType),
        path=st.text(),
        mount_function=st.none() | st.sampled_from(MountFunction),
        required=st.booleans(),
        description=st.text(),
    ),
    max_size=3,
).map(tuple)
NODES = st.builds(
    WorkflowNode,
    id=st.just(NodeId(0)),
    workflow_id=st.just(WorkflowId(1)),
    service_id=INT64.map(ServiceId),
    peer_id=st.text().map(PeerId),
    service_name=st.text(),
    service_type=st.sampled_from(ServiceType),
    order=INT64,
    gui_x=INT64,
    gui_y=INT64,
    interfaces=INTERFACES,
    entrypoint=st.none() | WORDS,
    cmd=st.none() | WORDS,
    pricing_amount=REAL,
    pricing_type=st.text(),
)
CONNECTIONS = st.builds(
    WorkflowConnection,
    id=st.just(ConnectionId(0)),
    workflow_id=st.just(WorkflowId(1)),
    from_node_id=st.sampled_from([None, NodeId(1)]),
    from_interface_type=st.sampled_from(InterfaceType),
    to_node_id=st.sampled_from([None, NodeId(2)]),
    to_interface_type=st.sampled_from(InterfaceType),
    destination_file_name=st.none() | st.text(),
    from_interface_path=st.text(),
    to_interface_path=st.text(),
    include=WORDS,
    source_path=st.none() | st.text(),
)
UI_STATES = st.builds(
    WorkflowUIState,
    workflow_id=st.just(WorkflowId(1)),
    snap_to_grid=st.booleans(),
    zoom_level=REAL,
    pan_x=REAL,
    pan_y=REAL,
    self_peer_x=REAL,
    self_peer_y=REAL,
)
same_connection = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def node(workflow: Workflow, name: str = "n") -> WorkflowNode:
    return WorkflowNode(
        id=NodeId(0),
        workflow_id=workflow.id,
        service_id=ServiceId(7),
        peer_id=PeerId("rnpeer"),
        service_name=name,
        service_type=ServiceType.STANDALONE,
        order=0,
        gui_x=1,
        gui_y=2,
        interfaces=(),
        entrypoint=None,
        cmd=("-v",),
        pricing_amount=0.0,
        pricing_type="FREE",
    )


def connection(workflow: Workflow, *, source: NodeId | None, target: NodeId | None) -> WorkflowConnection:
    return WorkflowConnection(
        id=ConnectionId(0),
        workflow_id=workflow.id,
        from_node_id=source,
        from_interface_type=InterfaceType.STDOUT,
        to_node_id=target,
        to_interface_type=InterfaceType.STDIN,
        destination_file_name=None,
        from_interface_path="",
        to_interface_path="",
        include=("*.txt",),
        source_path=None,
    )


@pytest.fixture
def workflow(conn: sqlite3.Connection, now: datetime) -> Workflow:
    return workflows.create_workflow(conn, name="words", description="counts them", now=now)


@pytest.fixture
def pair(conn: sqlite3.Connection, workflow: Workflow, now: datetime) -> tuple[WorkflowNode, WorkflowNode]:
    first = workflow_nodes.add_node(conn, node(workflow, "first"), now=now)
    return first, workflow_nodes.add_node(conn, node(workflow, "second"), now=now)


@pytest.fixture
def told(conn: sqlite3.Connection) -> Callable[[], list[dict[str, object]]]:
    """What the events since the last time said."""
    seen = 0

    def since() -> list[dict[str, object]]:
        nonlocal seen
        found = events.list_events(conn, after_seq=seen, limit=100)
        assert {event.type for event in found} <= {EventType.WORKFLOW_UPDATED}
        seen = events.newest_seq(conn)
        return [dict(event.data) for event in found]

    return since


def execution(conn: sqlite3.Connection, workflow: Workflow, status: str) -> int:
    row = conn.execute(
        """
        INSERT INTO workflow_executions (
            workflow_id, status, execution_uid, definition, created_at, deadline_at, start_by_s, max_runtime_s,
            transfer_idle_s, hold_s
        )
        VALUES (:workflow_id, :status, hex(randomblob(16)), '{}', '', '', 1, 1, 1, 1)
        RETURNING id
        """,
        {"workflow_id": workflow.id, "status": status},
    ).fetchone()
    return int(row["id"])


def test_a_name_is_kept_and_no_two_nodes_of_a_workflow_share_it(
    conn: sqlite3.Connection, workflow: Workflow, pair: tuple[WorkflowNode, WorkflowNode], now: datetime
) -> None:
    first, second = (replace(each, name=name) for each, name in zip(pair, ("a", "b"), strict=True))
    for each in (first, second):
        assert workflow_nodes.update_node(conn, each, now=now) == each
    with pytest.raises(Conflict, match="is called 'a' already"):
        workflow_nodes.add_node(conn, replace(first, id=NodeId(0)), now=now)
    with pytest.raises(Conflict):
        workflow_nodes.update_node(conn, replace(second, name="a"), now=now)
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute("UPDATE workflow_nodes SET name = 'a'")


def test_a_new_workflow_has_an_empty_definition(conn: sqlite3.Connection, workflow: Workflow, now: datetime) -> None:
    assert workflow == Workflow(
        id=WorkflowId(1),
        name="words",
        description="counts them",
        definition='{"jobs": []}',
        created_at=now,
        updated_at=now,
    )
    assert workflows.get_workflow(conn, workflow.id) == workflow


def test_an_update_writes_name_and_description(conn: sqlite3.Connection, workflow: Workflow, now: datetime) -> None:
    later = now + timedelta(seconds=1)
    changed = workflows.update_workflow(conn, replace(workflow, name="letters", definition="ignored"), now=later)
    assert changed == replace(workflow, name="letters", updated_at=later)
    assert workflows.get_workflow(conn, workflow.id) == changed


def test_a_definition_is_kept_without_a_new_update_time(
    conn: sqlite3.Connection, workflow: Workflow, now: datetime
) -> None:
    workflows.set_definition(conn, workflow.id, '{"jobs": [1]}', now=now + timedelta(seconds=1))
    assert workflows.get_workflow(conn, workflow.id) == replace(workflow, definition='{"jobs": [1]}')


def test_workflows_come_in_pages(conn: sqlite3.Connection, now: datetime) -> None:
    ids = [workflows.create_workflow(conn, name=str(number), now=now).id for number in range(5)]
    first = workflows.list_workflows(conn, limit=2)
    assert [item.id for item in first.items] == ids[:2]
    assert (first.total, first.next_after_id) == (5, ids[1])
    last = workflows.list_workflows(conn, limit=3, after_id=ids[1])
    assert [item.id for item in last.items] == ids[2:]
    assert (last.total, last.next_after_id) == (5, None)
    assert list(workflows.list_workflows(conn, limit=3, after_id=ids[-1]).items) == []


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_workflow_that_runs_is_not_deleted(
    conn: sqlite3.Connection, workflow: Workflow, status: str, now: datetime
) -> None:
    execution(conn, workflow, status)
    with pytest.raises(Conflict, match=status):
        workflows.delete_workflow(conn, workflow.id, now=now)
    assert workflows.get_workflow(conn, workflow.id) == workflow


@pytest.mark.usefixtures("pair")
def test_a_deleted_workflow_leaves_only_its_executions(
    conn: sqlite3.Connection, workflow: Workflow, pair: tuple[WorkflowNode, WorkflowNode], now: datetime
) -> None:
    workflow_connections.add_connection(conn, connection(workflow, source=pair[0].id, target=pair[1].id), now=now)
    workflow_ui_state.set_ui_state(conn, WorkflowUIState(workflow_id=workflow.id), now=now)
    ended = execution(conn, workflow, "COMPLETED")
    workflows.delete_workflow(conn, workflow.id, now=now)
    for table in ("workflows", "workflow_nodes", "workflow_connections", "workflow_ui_state"):
        assert conn.execute("SELECT * FROM " + table).fetchall() == []
    kept = conn.execute("SELECT id, workflow_id FROM workflow_executions").fetchall()
    assert [tuple(row) for row in kept] == [(ended, None)]


def test_an_id_is_never_used_twice(conn: sqlite3.Connection, workflow: Workflow, now: datetime) -> None:
    workflows.delete_workflow(conn, workflow.id, now=now)
    assert workflows.create_workflow(conn, name="next", now=now).id == workflow.id + 1


@same_connection
@given(drawn=NODES)
def test_a_node_comes_back_as_it_was_added(conn: sqlite3.Connection, now: datetime, drawn: WorkflowNode) -> None:
    conn.execute("INSERT OR IGNORE INTO workflows (id, name, definition) VALUES (1, 'w', '{}')")
    added = workflow_nodes.add_node(conn, drawn, now=now)
    assert added == replace(drawn, id=added.id)
    assert workflow_nodes.get_node(conn, added.workflow_id, added.id) == added


@same_connection
@given(drawn=NODES)
def test_an_updated_node_comes_back_as_it_was_written(
    conn: sqlite3.Connection, now: datetime, drawn: WorkflowNode
) -> None:
    conn.execute("INSERT OR IGNORE INTO workflows (id, name, definition) VALUES (1, 'w', '{}')")
    conn.execute("INSERT OR IGNORE INTO workflow_nodes (id, workflow_id) VALUES (1, 1)")
    changed = replace(drawn, id=NodeId(1))
    assert workflow_nodes.update_node(conn, changed, now=now) == changed
    assert workflow_nodes.list_nodes(conn, WorkflowId(1)) == [changed]


@same_connection
@given(drawn=CONNECTIONS, changed=CONNECTIONS)
def test_a_connection_comes_back_as_it_was_written(
    conn: sqlite3.Connection, now: datetime, drawn: WorkflowConnection, changed: WorkflowConnection
) -> None:
    conn.execute("INSERT OR IGNORE INTO workflows (id, name, definition) VALUES (1, 'w', '{}')")
    conn.execute(
        """
        INSERT OR IGNORE INTO workflow_nodes (id, workflow_id, service_type)
        VALUES (1, 1, 'DATA'), (2, 1, 'STANDALONE')
        """
    )
    added = workflow_connections.add_connection(conn, drawn, now=now)
    assert added == replace(drawn, id=added.id)
    updated = workflow_connections.update_connection(conn, replace(changed, id=added.id), now=now)
    assert updated == replace(changed, id=added.id)
    assert workflow_connections.get_connection(conn, WorkflowId(1), added.id) == updated
    assert workflow_connections.list_connections(conn, WorkflowId(1))[-1] == updated


@same_connection
@given(state=UI_STATES)
def test_the_canvas_comes_back_as_it_was_left(conn: sqlite3.Connection, now: datetime, state: WorkflowUIState) -> None:
    conn.execute("INSERT OR IGNORE INTO workflows (id, name, definition) VALUES (1, 'w', '{}')")
    assert workflow_ui_state.set_ui_state(conn, state, now=now) == state
    assert workflow_ui_state.get_ui_state(conn, WorkflowId(1)) == state


def test_a_canvas_that_was_never_left_has_the_documents_defaults(conn: sqlite3.Connection, workflow: Workflow) -> None:
    assert workflow_ui_state.get_ui_state(conn, workflow.id) == WorkflowUIState(workflow_id=workflow.id)


def test_nodes_and_connections_come_in_pages(
    conn: sqlite3.Connection, workflow: Workflow, pair: tuple[WorkflowNode, WorkflowNode], now: datetime
) -> None:
    drawn = [
        workflow_connections.add_connection(conn, connection(workflow, source=None, target=end.id), now=now)
        for end in pair
    ]
    nodes = workflow_nodes.page_nodes(conn, workflow.id, limit=1)
    assert (list(nodes.items), nodes.total, nodes.next_after_id) == ([pair[0]], 2, pair[0].id)
    edges = workflow_connections.page_connections(conn, workflow.id, limit=9, after_id=drawn[0].id)
    assert (list(edges.items), edges.total, edges.next_after_id) == ([drawn[1]], 2, None)


def test_a_deleted_node_takes_its_connections_along(
    conn: sqlite3.Connection, workflow: Workflow, pair: tuple[WorkflowNode, WorkflowNode], now: datetime
) -> None:
    first, second = pair
    for source, target in ((first.id, second.id), (second.id, first.id), (None, first.id), (first.id, None)):
        workflow_connections.add_connection(conn, connection(workflow, source=source, target=target), now=now)
    kept = workflow_connections.add_connection(conn, connection(workflow, source=second.id, target=None), now=now)
    workflow_nodes.delete_node(conn, workflow.id, first.id, now=now)
    assert workflow_nodes.list_nodes(conn, workflow.id) == [second]
    assert workflow_connections.list_connections(conn, workflow.id) == [kept]


def test_a_connection_to_a_node_of_another_workflow_is_refused(
    conn: sqlite3.Connection, workflow: Workflow, pair: tuple[WorkflowNode, WorkflowNode], now: datetime
) -> None:
    other = workflows.create_workflow(conn, name="other", now=now)
    with pytest.raises(NotFound, match=f"Node {pair[0].id} not found in workflow {other.id}"):
        workflow_connections.add_connection(conn, connection(other, source=pair[0].id, target=None), now=now)
    drawn = workflow_connections.add_connection(
        conn, connection(workflow, source=pair[0].id, target=pair[1].id), now=now
    )
    with pytest.raises(NotFound):
        workflow_connections.update_connection(conn, replace(drawn, to_node_id=NodeId(404)), now=now)
    assert workflow_connections.list_connections(conn, workflow.id) == [drawn]


def test_every_change_is_told_with_what_it_was(
    conn: sqlite3.Connection, now: datetime, told: Callable[[], list[dict[str, object]]]
) -> None:
    workflow = workflows.create_workflow(conn, name="w", now=now)
    assert told() == [{"workflow_id": workflow.id, "change": "created"}]
    workflows.update_workflow(conn, workflow, now=now)
    assert told() == [{"workflow_id": workflow.id, "change": "updated"}]
    workflows.set_definition(conn, workflow.id, "{}", now=now)
    assert told() == [{"workflow_id": workflow.id, "change": "definition_built"}]
    workflow_ui_state.set_ui_state(conn, WorkflowUIState(workflow_id=workflow.id), now=now)
    assert told() == [{"workflow_id": workflow.id, "change": "ui_state"}]
    added = workflow_nodes.add_node(conn, node(workflow), now=now)
    workflow_nodes.update_node(conn, added, now=now)
    drawn = workflow_connections.add_connection(conn, connection(workflow, source=added.id, target=None), now=now)
    workflow_connections.update_connection(conn, drawn, now=now)
    workflow_connections.delete_connection(conn, workflow.id, drawn.id, now=now)
    workflow_nodes.delete_node(conn, workflow.id, added.id, now=now)
    assert told() == [
        {"workflow_id": workflow.id, "change": "node_added", "node_id": added.id},
        {"workflow_id": workflow.id, "change": "node_updated", "node_id": added.id},
        {"workflow_id": workflow.id, "change": "connection_added", "connection_id": drawn.id},
        {"workflow_id": workflow.id, "change": "connection_updated", "connection_id": drawn.id},
        {"workflow_id": workflow.id, "change": "connection_deleted", "connection_id": drawn.id},
        {"workflow_id": workflow.id, "change": "node_deleted", "node_id": added.id},
    ]
    workflows.delete_workflow(conn, workflow.id, now=now)
    assert told() == [{"workflow_id": workflow.id, "change": "deleted"}]


def test_a_change_of_a_part_moves_the_workflows_update_time(
    conn: sqlite3.Connection, workflow: Workflow, now: datetime
) -> None:
    later = now + timedelta(hours=1)
    workflow_nodes.add_node(conn, node(workflow), now=later)
    assert workflows.get_workflow(conn, workflow.id).updated_at == later


@pytest.mark.parametrize(
    "call",
    [
        lambda conn, now: workflows.get_workflow(conn, MISSING),
        lambda conn, now: workflows.set_definition(conn, MISSING, "{}", now=now),
        lambda conn, now: workflows.delete_workflow(conn, MISSING, now=now),
        lambda conn, now: workflows.touch_workflow(conn, MISSING, "x", now=now),
        lambda conn, now: workflow_nodes.page_nodes(conn, MISSING, limit=1),
        lambda conn, now: workflow_connections.page_connections(conn, MISSING, limit=1),
        lambda conn, now: workflow_ui_state.get_ui_state(conn, MISSING),
        lambda conn, now: workflow_ui_state.set_ui_state(conn, WorkflowUIState(workflow_id=MISSING), now=now),
    ],
)
def test_a_workflow_that_is_not_there_is_named(
    conn: sqlite3.Connection, now: datetime, call: Callable[[sqlite3.Connection, datetime], object]
) -> None:
    with pytest.raises(NotFound, match=r"^Workflow 404 not found$"):
        call(conn, now)
    assert events.newest_seq(conn) == 0


def test_what_is_not_there_cannot_be_changed(
    conn: sqlite3.Connection, workflow: Workflow, pair: tuple[WorkflowNode, WorkflowNode], now: datetime
) -> None:
    other = workflows.create_workflow(conn, name="other", now=now)
    stray = replace(pair[0], workflow_id=other.id)
    drawn = workflow_connections.add_connection(conn, connection(workflow, source=None, target=pair[0].id), now=now)
    gone = replace(connection(workflow, source=None, target=None), id=ConnectionId(404))
    calls: list[Callable[[], object]] = [
        lambda: workflows.update_workflow(conn, replace(workflow, id=MISSING), now=now),
        lambda: workflow_nodes.add_node(conn, replace(pair[0], workflow_id=MISSING), now=now),
        lambda: workflow_nodes.get_node(conn, other.id, pair[0].id),
        lambda: workflow_nodes.update_node(conn, stray, now=now),
        lambda: workflow_nodes.delete_node(conn, other.id, pair[0].id, now=now),
        lambda: workflow_connections.get_connection(conn, other.id, drawn.id),
        lambda: workflow_connections.update_connection(conn, gone, now=now),
        lambda: workflow_connections.delete_connection(conn, other.id, drawn.id, now=now),
    ]
    before = list(conn.iterdump())
    for call in calls:
        with pytest.raises(NotFound):
            call()
    assert list(conn.iterdump()) == before


def test_rows_that_people_typed_are_read_kindly(conn: sqlite3.Connection, now: datetime) -> None:
    conn.execute("INSERT INTO workflows (id, name, definition, updated_at) VALUES (1, 'w', '{}', datetime('now'))")
    conn.execute("INSERT INTO workflow_nodes (workflow_id, service_id, service_type) VALUES (1, 7, 'DATA')")
    assert workflows.get_workflow(conn, WorkflowId(1)).description == ""
    [typed] = workflow_nodes.list_nodes(conn, WorkflowId(1))
    assert (typed.service_name, typed.order, typed.interfaces, typed.cmd) == ("", 0, (), None)
