"""Daemons that a wire or a network joins, and an oracle that believes none of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.live_files import found_below
from tests.running_peers import Peer, await_links, wait_until

CONVERGED_WITHIN_S = 60.0
"""How long after the last fault everything may take to be as it should."""
OPEN_JOBS = """
    SELECT job_name, status FROM job_executions
    WHERE status NOT IN ('COMPLETED', 'ERRORED', 'CANCELLED') OR settled_status IS NOT status
    """
OPEN_DUTIES = """
    SELECT je.job_name, jip.connection_id FROM job_interface_peers AS jip
    JOIN job_interfaces AS ji ON ji.id = jip.job_interface_id
    JOIN job_executions AS je ON je.id = ji.job_execution_id
    WHERE je.execution_uid = ? AND je.executor_peer_id = ? AND NOT jip.duty_acknowledged
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The daemons, the first of which orders; programs note below `place` that they have run."""

    peers: Sequence[Peer]
    place: Path

    @property
    def home(self) -> Peer:
        """Who orders."""
        return self.peers[0]

    def await_links(self) -> None:
        """Wait until everybody is linked to home."""
        for peer in self.peers:
            await_links(peer, len(self.peers) - 1 if peer is self.home else 1)

    def note(self, name: str) -> str:
        """Return the shell words by which a program notes that it has run."""
        return f"echo {name} >> '{self.place}/runs'"

    def ran(self) -> Counter[str]:
        """Return how often each program has run."""
        runs = self.place / "runs"
        return Counter(runs.read_text().split()) if runs.exists() else Counter()

    def uid(self, execution_id: int) -> str:
        """Return the execution_uid of an execution."""
        ((uid,),) = self.home.rows("SELECT execution_uid FROM workflow_executions WHERE id = ?", execution_id)
        return str(uid)

    def await_rest(self, execution_uid: str, *, is_completed: bool, within_s: float = CONVERGED_WITHIN_S) -> None:
        """Wait until nothing is open anywhere and everybody tells the same story of an execution."""

        def found() -> list[str]:
            return self.unrest() + self.disagreements(execution_uid, is_completed=is_completed)

        wait_until(lambda: not found(), lambda: f"all is settled: {'; '.join(found())}", within_s=within_s)

    def unrest(self) -> list[str]:
        """Return what is still open, to be told, or left over, on any peer."""
        found = []
        for peer in self.peers:
            name = peer.data_dir.name
            if peer.is_dead():
                found.append(f"{name} has ended by itself")
            found += [f"{name}: job {job} is {status}" for job, status in peer.rows(OPEN_JOBS)]
            found += [
                f"{name}: {topic} {key} is not told: {error}"
                for topic, key, error in peer.rows("SELECT topic, key, last_error FROM outbox")
            ]
            found += [
                f"{name}: transfer {direction} of connection {connection} is {status}: {error}"
                for direction, connection, status, error in peer.rows(
                    "SELECT direction, connection_id, status, error FROM transfers WHERE status IN ('PENDING', 'ACTIVE')"
                )
            ]
            found += [f"{name}: {path} is left" for path in found_below(peer.data_dir / "workflows", "*.part*")]
        return found

    def disagreements(self, execution_uid: str, *, is_completed: bool) -> list[str]:
        """Return where the databases tell different stories of an execution, or one that is not the right one."""
        names = {peer.peer_id: peer.data_dir.name for peer in self.peers}
        told: dict[str, str] = {}
        found = []
        jobs = "SELECT job_name, status || ' ' || attempt FROM job_executions WHERE execution_uid = ? AND executor_peer_id = ?"
        for peer in self.peers:
            own = dict(peer.rows(jobs, execution_uid, peer.peer_id))
            seen = dict(self.home.rows(jobs, execution_uid, peer.peer_id))
            if own != seen and (is_completed or seen):
                found.append(f"jobs of {names[peer.peer_id]}: {own} there, {seen} at home")
            if is_completed:
                found += [f"{job} is {status}" for job, status in own.items() if status != "COMPLETED 1"]
                duties = peer.rows(OPEN_DUTIES, execution_uid, peer.peer_id)
                found += [f"{job}: the duty of connection {connection} is open" for job, connection in duties]
        for peer in self.peers:
            for connection, direction, status, size_bytes in peer.rows(
                """
                SELECT connection_id, direction, status, size_bytes FROM transfers
                WHERE execution_uid = ? AND direction <> 'LOCAL'
                """,
                execution_uid,
            ):
                words = f"{status}, {size_bytes} bytes"
                other = told.setdefault(connection, words)
                if is_completed and (status != "COMPLETED" or words != other):
                    found.append(
                        f"connection {connection}: {direction} at {names[peer.peer_id]} is {words}, not {other}"
                    )
        return found

    def arrived_bytes(self, execution_uid: str) -> int:
        """Return how many bytes of an execution's deliveries have come to other peers."""
        query = "SELECT COALESCE(SUM(bytes_done), 0) FROM transfers WHERE execution_uid = ? AND direction = 'INCOMING'"
        return sum(int(peer.rows(query, execution_uid)[0][0]) for peer in self.peers)

    def attempts(self, execution_uid: str) -> int:
        """Return in how many attempts its deliveries were made, beyond the first of each."""
        query = "SELECT COALESCE(SUM(MAX(attempts - 1, 0)), 0) FROM transfers WHERE execution_uid = ? AND direction = 'OUTGOING'"
        return sum(int(peer.rows(query, execution_uid)[0][0]) for peer in self.peers)
