"""What must be true of a simulated world, whatever befalls it, and the words for what is not.

The numbers N1 to N7 are those of docs/simulation.md. The oracle believes no daemon: it reads what is committed through a connection of
its own, what programs find through the engine, what is said through the wire; and what should be there it works out from
the plan.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rnd.services.executor import Phase
from rnd.types.enums import InterfaceType
from tests.simulation.engine import Run
from tests.simulation.faults import FATAL_TO_JOBS
from tests.simulation.plan import HOME, Data, Drawing, Edge
from tests.simulation.programs import Inputs, Program, data_bytes, stdout_of, tree_of

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.wire import End
    from tests.simulation.world import World

ENDS: Final = frozenset({"COMPLETED", "ERRORED", "CANCELLED", "FAILED"})
MOVES: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "job_executions": {
        "IDLE": frozenset({"READY", "ERRORED", "CANCELLED"}),
        "READY": frozenset({"RUNNING", "ERRORED", "CANCELLED"}),
        "RUNNING": frozenset({"READY", "COMPLETED", "ERRORED", "CANCELLED"}),
    },
    "workflow_executions": {
        "PENDING": frozenset({"RUNNING", "FAILED", "CANCELLED"}),
        "RUNNING": frozenset({"COMPLETED", "FAILED", "CANCELLED"}),
    },
    "transfers": {
        "PENDING": frozenset({"ACTIVE", "COMPLETED", "FAILED", "CANCELLED"}),
        "ACTIVE": frozenset({"PENDING", "COMPLETED", "FAILED", "CANCELLED"}),
    },
}
"""The documented tables, written down a second time: the product's own would prove nothing."""

_WATCH: Final = """
    CREATE TEMP TABLE moves (table_name TEXT, row TEXT, old TEXT, new TEXT, old_attempt INTEGER, new_attempt INTEGER,
                             executor TEXT, result TEXT);
    CREATE TEMP TRIGGER watch_jobs AFTER UPDATE ON main.job_executions
    WHEN OLD.status IS NOT NEW.status OR OLD.attempt IS NOT NEW.attempt
    BEGIN
        INSERT INTO moves VALUES ('job_executions', NEW.id, OLD.status, NEW.status, OLD.attempt, NEW.attempt,
                                  NEW.executor_peer_id, NEW.result);
    END;
    CREATE TEMP TRIGGER watch_executions AFTER UPDATE ON main.workflow_executions
    WHEN OLD.status IS NOT NEW.status
    BEGIN
        INSERT INTO moves VALUES ('workflow_executions', NEW.id, OLD.status, NEW.status, 0, 0, '', NULL);
    END;
    CREATE TEMP TRIGGER watch_transfers AFTER UPDATE ON main.transfers
    WHEN OLD.status IS NOT NEW.status
    BEGIN
        INSERT INTO moves VALUES ('transfers', NEW.transfer_id, OLD.status, NEW.status, 0, 0, '', NULL);
    END;
    CREATE TEMP TRIGGER watch_duties AFTER UPDATE ON main.job_interface_peers
    WHEN OLD.duty_acknowledged = 1 AND NEW.duty_acknowledged = 0
    BEGIN
        INSERT INTO moves VALUES ('job_interface_peers', NEW.id, 'acknowledged', 'open', 0, 0, '', NULL);
    END;
"""


class Oracle:
    """Watches one world; what it finds goes to `World.fail`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._looks: dict[int, sqlite3.Connection] = {}
        self._lives: dict[tuple[str, str, int], list[Run]] = {}
        """All runs of one job, oldest first."""
        self._outputs: dict[tuple[str, int], dict[str, bytes]] = {}
        self._facts: dict[int, dict[str, tuple[str, tuple[object, ...]]]] = {}
        """What each peer has told others, and the query that finds it."""
        self.checked: dict[str, int] = {}

    # ---- rows

    def rows(self, machine: Machine, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask what is committed on a machine."""
        look = self._looks.get(machine.number)
        if look is None:
            look = self._looks[machine.number] = sqlite3.connect(machine.data_dir / "rnd.db", isolation_level=None)
        return look.execute(query, values).fetchall()

    def watch(self, machine: Machine, conn: sqlite3.Connection) -> None:
        """Have the moves of a daemon's rows noted by its own connection, within its transactions."""
        conn.executescript(_WATCH)

    def committed(self, machine: Machine, conn: sqlite3.Connection) -> None:
        """Look at what a commit has moved (N7: only along the tables; N5: a new attempt is the next one)."""
        moves = conn.execute(
            "SELECT table_name, row, old, new, old_attempt, new_attempt, executor, result FROM moves"
        ).fetchall()
        if not moves:
            return
        conn.execute("DELETE FROM moves")
        for table, row, old, new, old_attempt, new_attempt, executor, result in moves:
            self._count("moves")
            is_mirror = table == "job_executions" and executor != machine.peer_id
            if old == new:
                if new_attempt < old_attempt:
                    self._fail("N5", machine, f"job {row} is in attempt {new_attempt} after {old_attempt}")
                continue
            if is_mirror and old not in ENDS:
                continue  # a mirror sees what it is told of, not every step
            if (old, new) == ("IDLE", "COMPLETED") and result:
                continue  # an earlier execution's outputs serve, and nothing of it runs
            if new not in MOVES.get(table, {}).get(old, ()):
                self._fail("N7", machine, f"{table} {row} moved from {old} to {new}")
            if (table, new) == ("workflow_executions", "COMPLETED"):
                self._check_completion(machine, int(row))
            is_again = table == "job_executions" and not is_mirror and (old, new) == ("RUNNING", "READY")
            if is_again and new_attempt != old_attempt + 1:
                self._fail("N5", machine, f"job {row} is READY again as attempt {new_attempt} after {old_attempt}")

    def _check_completion(self, machine: Machine, execution_id: int) -> None:
        """Judge an execution at the commit that calls it COMPLETED: all that is to come home has (RESULT)."""
        missing = self.rows(
            machine,
            "SELECT connection_id FROM results WHERE workflow_execution_id = ? AND duty_acknowledged = 0",
            execution_id,
        )
        if missing:
            self._fail("RESULT", machine, f"execution {execution_id} is COMPLETED before result {missing[0][0]} came")

    # ---- programs

    def program_begins(self, machine: Machine, run: Run) -> None:
        """Judge the start of a program: ordered and granted (N2), inputs whole (N4), alone and next in line (N5)."""
        self._count("starts")
        job = self._job(machine, run)
        if job is None:
            self._fail(
                "N2", machine, f"{run.program.name} was started for job {run.run.job_execution_id}, which is no row"
            )
            return
        orderer, uid, node_id, status, attempt, started, executor = job
        name = f"{run.program.name} ({uid[:6]} node {node_id} attempt {run.run.attempt})"
        if status != "RUNNING" or not started or executor != machine.peer_id or attempt != run.run.attempt:
            self._fail(
                "N2", machine, f"{name} was started as its row said {status}, attempt {attempt}, start {started}"
            )
        found = self._order(orderer, uid, node_id)
        if found is None:
            self._fail("N2", machine, f"{name} was started, and nobody has ordered it")
            return
        drawing, place = found
        self._check_right(machine, drawing, place, name)
        earlier = self._lives.setdefault((orderer, uid, node_id), [])
        for other in earlier:
            if other.observation is None:
                self._fail("N5", machine, f"{name} was started while attempt {other.run.attempt} of it runs")
            elif other.run.attempt >= run.run.attempt:
                self._fail("N5", machine, f"{name} was started after attempt {other.run.attempt} of it")
        earlier.append(run)
        if run.run.attempt > run.program.attempts:
            self._fail("N5", machine, f"{name} was started, though {run.program.attempts} attempts are all it may have")
        self._check_inputs(machine, run.inputs, uid, drawing, place, name)

    def program_ends(self, machine: Machine, run: Run, inputs: Inputs) -> None:
        """Judge what a program has before it at its end: it must not have changed meanwhile (N4)."""
        if inputs != run.inputs:
            self._fail("N4", machine, f"the inputs of {run.program.name} changed while it ran")

    def _job(self, machine: Machine, run: Run) -> tuple[Any, ...] | None:
        found = self.rows(
            machine,
            """
            SELECT ordering_peer_id, execution_uid, node_id, status, attempt, start_received, executor_peer_id
            FROM job_executions WHERE id = ?
            """,
            run.run.job_execution_id,
        )
        return found[0] if found else None

    def _order(self, orderer: str, uid: str, node_id: int) -> tuple[Drawing, int] | None:
        """Return what was ordered, from the orderer's own rows."""
        owner = self._world.machine_of(orderer)
        found = self.rows(owner, "SELECT workflow_id FROM workflow_executions WHERE execution_uid = ?", uid)
        drawn = self._world.drawn_by_workflow.get((owner.number, found[0][0])) if found else None
        if drawn is None or node_id not in drawn.nodes:
            return None
        return drawn.drawing, drawn.nodes.index(node_id)

    def _check_right(self, machine: Machine, drawing: Drawing, place: int, name: str) -> None:
        node = drawing.nodes[place]
        if node.peer != machine.number:
            self._fail("N2", machine, f"{name} was ordered from peer-{node.peer}")
        pair = (min(drawing.owner, node.peer), max(drawing.owner, node.peer))
        plan = self._world.plan
        if drawing.owner == node.peer:
            return
        if pair not in plan.acquainted:
            self._fail("N2", machine, f"{name} was ordered by peer-{drawing.owner}, who is not allowed here")
        if isinstance(node, Program) and node.needs_grant and (drawing.owner, node.name) not in plan.granted:
            self._fail("N2", machine, f"{name} was ordered by peer-{drawing.owner}, who has no grant for it")

    # ---- what should be there

    def _check_inputs(self, machine: Machine, seen: Inputs, uid: str, drawing: Drawing, place: int, name: str) -> None:
        stdin, files = b"", {}
        for number, edge in enumerate(drawing.edges):
            if edge.end != place:
                continue
            if edge.start is not HOME:
                self._check_egress(machine, drawing.nodes[edge.start], name)
            carried = self._carried(uid, drawing, number, edge)
            if carried is None:
                self._fail("N4", machine, f"{name} was started before what it needs of node {edge.start} was there")
                return
            if edge.to_type is InterfaceType.STDIN:
                stdin += b"".join(carried.values())
            else:
                files.update(carried)
        if seen.stdin != stdin:
            self._fail(
                "N4", machine, f"{name} has {len(seen.stdin)} bytes of standard input, not the right {len(stdin)}"
            )
        if seen.files != files:
            self._fail("N4", machine, f"{name} has {_sizes(seen.files)} before it, not {_sizes(files)}")

    def _check_egress(self, machine: Machine, source: Program | Data, name: str) -> None:
        if not isinstance(source, Data) or source.listed is None or machine.number in (*source.listed, source.peer):
            return
        self._fail("N12", machine, f"{name} has got {source.name}, which may not come here")

    def _carried(self, uid: str, drawing: Drawing, number: int, edge: Edge) -> dict[str, bytes] | None:
        """Return what a connection brings, by the names that it has there; `None` if its source has not completed."""
        if edge.start is HOME:
            assert edge.host_file is not None
            found = {edge.host_file[0]: data_bytes(drawing.name, *edge.host_file)}
        else:
            output = self._output(uid, drawing, edge.start)
            if output is None:
                return None
            node = drawing.nodes[edge.start]
            if isinstance(node, Data):
                found = output
            elif edge.from_type is InterfaceType.MOUNT:
                found = {path: content for path, content in output.items() if path != "stdout"}
            else:
                found = {"stdout": output["stdout"]}
        name = edge.file_name
        if name is None:
            return found
        if name.endswith("/"):
            return {name + path: content for path, content in found.items()}
        return {name: next(iter(found.values()))}

    def _output(self, uid: str, drawing: Drawing, place: int) -> dict[str, bytes] | None:
        """Return all that a node has left, once its executor says that it has completed."""
        known = self._outputs.get((uid, place))
        if known is not None:
            return known
        node = drawing.nodes[place]
        drawn = self._world.drawn[drawing.name]
        executor, orderer = self._world.machines[node.peer], self._world.machines[drawing.owner]
        found = self.rows(
            executor,
            """
            SELECT status, attempt, result, started_at FROM job_executions
            WHERE ordering_peer_id = ? AND execution_uid = ? AND node_id = ?
            """,
            orderer.peer_id,
            uid,
            drawn.nodes[place],
        )
        if not found:
            return None
        status, attempt, result, started_at = found[0]
        output: dict[str, bytes] | None
        if isinstance(node, Data):
            if started_at is None:  # once begun it may deliver to one and be cancelled before it has to the next
                return None
            output = {path: data_bytes(node.name, path, size) for path, size in node.files}
        elif status != "COMPLETED":
            return None
        elif result:
            output = self._output(self._reused(orderer, result), drawing, place)
        else:
            inputs = self._inputs(uid, drawing, place)
            if inputs is None:
                return None
            output = tree_of(node, attempt, inputs) | {"stdout": stdout_of(node, attempt, inputs)}
        if output is not None:
            self._outputs[uid, place] = output
        return output

    def _reused(self, orderer: Machine, result: str) -> str:
        """Return the uid of the execution whose job serves: named by its number at home, by its uid elsewhere."""
        name = result.removeprefix("reused:")
        if not name.isdigit() or len(name) == 32:
            return name
        return str(self.rows(orderer, "SELECT execution_uid FROM workflow_executions WHERE id = ?", int(name))[0][0])

    def _inputs(self, uid: str, drawing: Drawing, place: int) -> Inputs | None:
        stdin, files = b"", {}
        for number, edge in enumerate(drawing.edges):
            if edge.end == place:
                carried = self._carried(uid, drawing, number, edge)
                if carried is None:
                    return None
                if edge.to_type is InterfaceType.STDIN:
                    stdin += b"".join(carried.values())
                else:
                    files.update(carried)
        return Inputs(stdin=stdin, files=files)

    # ---- what is said

    def said(self, end: End, text: str) -> None:
        """Judge what goes out: whoever says that something is so must have it written down (N6)."""
        message = json.loads(text)
        asked: dict[int, Any] = end.__dict__.setdefault("asked", {})
        if "reply_to" not in message:
            if "id" in message:
                asked[message["id"]] = message
            if message["type"] == "job_status_update":
                self._report(end.me.machine, end.other.peer_id, message)
            return
        request = end.peer.__dict__.get("asked", {}).get(message["reply_to"])
        if request is None:
            return
        machine, other = end.me.machine, end.other.peer_id
        match message["type"]:
            case "job_response" if message["accepted"] and not request["check_only"]:
                self._fact(
                    machine,
                    f"job {message['job_execution_id']} was accepted",
                    "SELECT 1 FROM job_executions WHERE id = ? AND ordering_peer_id = ? AND execution_uid = ?",
                    message["job_execution_id"],
                    other,
                    request["execution_uid"],
                )
            case "job_start_response":
                self._fact(
                    machine,
                    f"job {request['job_execution_id']} was told to start",
                    "SELECT 1 FROM job_executions WHERE id = ? AND (start_received = 1 OR ended_at IS NOT NULL)",
                    request["job_execution_id"],
                )
            case "job_cancel_response":
                self._cancel_fact(machine, other, request, message["status"])
            case "job_status_response":
                for report in message["jobs"]:
                    self._report(machine, other, report)
            case "ack" if request["type"] == "job_status_update":
                self._fact(
                    machine,
                    f"{request['status']} of job {request['job_execution_id']} of peer {other[:8]} was heard",
                    """
                    SELECT 1 WHERE NOT EXISTS (
                        SELECT 1 FROM job_executions
                        WHERE executor_peer_id = ? AND execution_uid = ? AND node_id = ? AND status_seq < ?
                          AND status NOT IN ('COMPLETED', 'ERRORED', 'CANCELLED')
                    )
                    """,
                    other,
                    request["execution_uid"],
                    request["node_id"],
                    request["seq"],
                )
            case "data_transfer_complete" if message["success"] and request["type"] == "data_transfer_complete":
                self._fact(
                    machine,
                    f"transfer {message['transfer_id'][:8]} has arrived",
                    """
                    SELECT 1 FROM transfers AS t
                    LEFT JOIN job_interface_peers AS p ON p.id = t.dest_peer_row_id
                    LEFT JOIN results AS r ON r.id = t.result_id
                    WHERE t.transfer_id = ? AND t.status = 'COMPLETED'
                      AND (p.duty_acknowledged = 1 OR r.duty_acknowledged = 1)
                    """,
                    message["transfer_id"],
                )

    def _cancel_fact(self, machine: Machine, other: str, request: Mapping[str, Any], status: str | None) -> None:
        order = (other, request["execution_uid"], request["node_id"])
        where = "WHERE ordering_peer_id = ? AND execution_uid = ? AND node_id = ?"
        if status is None:
            self._fact(machine, f"a cancel of {order} was kept", f"SELECT 1 FROM cancelled_orders {where}", *order)
            return
        ended = "(cancel_requested_at IS NOT NULL OR status IN ('COMPLETED', 'ERRORED', 'CANCELLED'))"
        self._fact(
            machine, f"a cancel of {order} was heard", f"SELECT 1 FROM job_executions {where} AND {ended}", *order
        )

    def _report(self, machine: Machine, other: str, report: Mapping[str, Any]) -> None:
        self._fact(
            machine,
            f"job {report['job_execution_id']} was said to be {report['status']} ({report['seq']})",
            """
            SELECT 1 FROM job_executions
            WHERE id = ? AND ordering_peer_id = ? AND status_seq >= ?
              AND (? NOT IN ('COMPLETED', 'ERRORED', 'CANCELLED') OR status = ?)
            """,
            report["job_execution_id"],
            other,
            report["seq"],
            report["status"],
            report["status"],
        )

    def acknowledged(self, machine: Machine, words: str, query: str, *values: object) -> None:
        """Take note of what a daemon has told its owner."""
        self._fact(machine, words, query, *values)

    def _fact(self, machine: Machine, words: str, query: str, *values: object) -> None:
        self._count("facts")
        self._facts.setdefault(machine.number, {})[words] = (query, values)
        if not self.rows(machine, query, *values):
            self._fail("N6", machine, f"it was said that {words}, which is not written down")

    def booted(self, machine: Machine) -> None:
        """See whether a new daemon finds all that the ones before it have told others (N6)."""
        for words, (query, values) in self._facts.get(machine.number, {}).items():
            if not self.rows(machine, query, *values):
                self._fail("N6", machine, f"it was said that {words}, and that is lost")

    # ---- at the end

    def what_is_open(self) -> list[str]:
        """Return what has not come to its end yet, in words."""
        found: list[str] = []
        for machine in self._world.machines:
            if not machine.is_up:
                found.append(f"{machine.name} is down")
            for query in (
                "SELECT 'execution ' || id || ' is ' || status FROM workflow_executions WHERE status IN ('PENDING', 'RUNNING')",
                (
                    "SELECT 'job ' || id || ' (' || job_name || ') is ' || status FROM job_executions "
                    "WHERE status IN ('IDLE', 'READY', 'RUNNING')"
                ),
                (
                    "SELECT 'transfer ' || transfer_id || ' (' || direction || ') is ' || status || ' ' || coalesce(error, '')"
                    " FROM transfers WHERE status IN ('PENDING', 'ACTIVE')"
                ),
                "SELECT 'a ' || topic || ' has not been told: ' || coalesce(last_error, '') FROM outbox",
            ):
                found += [f"{machine.name}: {row[0]}" for row in self.rows(machine, query)]
            found += [f"{machine.name}: {run.program.name} runs" for run in machine.engine.running()]
        return found

    def at_rest(self) -> None:
        """Judge the end: everything settled, every word agreed on, every result right to the byte."""
        for machine in self._world.machines:
            self.booted(machine)
            self._check_jobs(machine)
            self._check_executions(machine)

    def _check_jobs(self, machine: Machine) -> None:
        rows = self.rows(
            machine,
            """
            SELECT id, ordering_peer_id, execution_uid, node_id, status, attempt, result, executor_peer_id,
                   remote_job_execution_id, service_type
            FROM job_executions
            """,
        )
        for job_id, orderer, uid, node_id, status, attempt, result, executor, remote_id, service_type in rows:
            if executor != machine.peer_id:
                self._check_mirror(machine, job_id, executor, remote_id, status)
            elif status == "COMPLETED" and service_type != "DATA" and not result:
                runs = self._lives.get((orderer, uid, node_id), [])
                good = [run.run.attempt for run in runs if run.observation is not None and _is_good(run)]
                if good != [attempt]:
                    self._fail("N5", machine, f"job {job_id} is COMPLETED by attempt {attempt}; good were {good}")

    def _check_mirror(self, machine: Machine, job_id: int, executor: str, remote_id: int | None, status: str) -> None:
        other = self._world.machine_of(executor)
        found = self.rows(other, "SELECT status FROM job_executions WHERE id = ?", remote_id)
        if found and found[0][0] != status:
            self._fail("N6", machine, f"job {job_id} is {status} here and {found[0][0]} on {other.name}")

    def _check_executions(self, machine: Machine) -> None:
        for execution_id, uid, workflow_id, status, error, is_cancelled in self.rows(
            machine,
            """
            SELECT id, execution_uid, workflow_id, status, error, cancel_requested_at IS NOT NULL
            FROM workflow_executions
            """,
        ):
            self._world.count(f"execution {status}")
            drawn = self._world.drawn_by_workflow[machine.number, workflow_id]
            if status != "COMPLETED":
                if not error:
                    self._fail("N7", machine, f"execution {execution_id} is {status} for no reason")
                if not is_cancelled and self._must_complete(drawn.drawing) and not self._was_away(error):
                    self._fail(
                        "OUTCOME", machine, f"execution {execution_id} is {status}, and nothing kept it: {error}"
                    )
                continue
            for number, edge in enumerate(drawn.drawing.edges):
                if edge.end is HOME:
                    self._check_result(machine, execution_id, uid, drawn.drawing, number, drawn.connections[number])

    def _was_away(self, error: str) -> bool:
        """Say whether an execution failed because a peer was not there when its jobs were to be created."""
        return (
            bool(self._world.faults)
            and error.startswith("phase 1 was refused")
            and any(
                words in error
                for words in ("cannot be reached", "no link to", "has not answered", "the link to", "the link before")
            )
        )

    def _must_complete(self, drawing: Drawing) -> bool:
        """Say whether nothing in the plan, and no mishap of the world, is a reason for an execution to fail."""
        if any(self._world.counts[f"fault {kind}"] for kind in FATAL_TO_JOBS):
            return False
        plan = self._world.plan
        for node in drawing.nodes:
            if isinstance(node, Program):
                if any(node.exit_codes):
                    return False
                if node.needs_grant and node.peer != drawing.owner and (drawing.owner, node.name) not in plan.granted:
                    return False
            elif node.listed is not None:
                return False
        return True

    def _check_result(
        self, machine: Machine, execution_id: int, uid: str, drawing: Drawing, number: int, connection_id: int
    ) -> None:
        self._count("results")
        right = self._carried(uid, drawing, number, drawing.edges[number])
        found = self.rows(
            machine,
            "SELECT directory, duty_acknowledged FROM results WHERE workflow_execution_id = ? AND connection_id = ?",
            execution_id,
            connection_id,
        )
        if right is None or not found or not found[0][1]:
            self._fail("RESULT", machine, f"execution {execution_id} is COMPLETED without result {connection_id}")
            return
        have = _tree(machine.data_dir / found[0][0])
        if have != right:
            words = f"result {connection_id} of execution {execution_id} is {_sizes(have)}, not {_sizes(right)}"
            self._fail("RESULT", machine, words)

    def _count(self, what: str) -> None:
        self.checked[what] = self.checked.get(what, 0) + 1

    def _fail(self, number: str, machine: Machine, words: str) -> None:
        self._world.fail(f"{number} {machine.name}: {words}")


def _is_good(run: Run) -> bool:
    return run.observation is not None and run.observation.phase is Phase.EXITED and run.observation.exit_code == 0


def _tree(root: Path) -> dict[str, bytes]:
    if root.is_file():
        return {root.name: root.read_bytes()}
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _sizes(files: Mapping[str, bytes]) -> str:
    return json.dumps({path: len(content) for path, content in sorted(files.items())})
