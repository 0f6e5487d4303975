"""What no workflow can mean: the parts of another peer's job and its routes that would name files, folders or patterns here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rnd.rules.globs import PATTERNS_MAX, glob_problem
from rnd.rules.paths import mount_target_problem, normalise_mount_path, relative_path_problem
from rnd.types.definitions import InterfacePeerPlan, JobPlan
from rnd.types.enums import InterfaceType, MountFunction
from rnd.types.executions import JobInterface
from rnd.types.ids import SELF_PEER_JOB
from rnd.types.orders import Route


def plan_problems(plan: JobPlan) -> list[str]:
    """Return every reason why no orchestrator that builds definitions as the document says can have sent this job."""
    reasons: list[str] = []
    for interface in plan.interfaces:
        if interface.interface_type is InterfaceType.MOUNT:
            problem = mount_target_problem(normalise_mount_path(interface.path))
            if problem is not None:
                reasons.append(problem)
        for peer in interface.interface_peers:
            reasons += (f"connection {peer.connection_id}: {problem}" for problem in _end_problems(peer))
    ends = Counter(peer.connection_id for interface in plan.interfaces for peer in interface.interface_peers)
    reasons += (
        f"connection {connection_id} has {count} ends at one job" for connection_id, count in ends.items() if count > 1
    )
    return list(dict.fromkeys(reasons))


def shared_folder(interfaces: Sequence[JobInterface], routes: Sequence[Route]) -> str:
    """Return which inputs of a job would come into one folder, or one into another's, by these routes; "" if none would.

    Several connections between the same two jobs have a lane each; without one a delivery would take the place of another.
    """
    sender_jobs = {route.connection_id: route.peer_job_execution_id for route in routes}
    senders = [
        (peer.peer_id, sender_jobs.get(peer.connection_id, SELF_PEER_JOB), peer.lane)
        for interface in interfaces
        for peer in interface.peers
        if peer.peer_mount_function is MountFunction.OUTPUT
    ]
    count = Counter((peer_id, job_id) for peer_id, job_id, _ in senders)
    for peer_id, job_id, lane in senders:
        if count[peer_id, job_id] > 1 and not lane:
            return (
                f"{count[peer_id, job_id]} inputs come from job {job_id} of peer {peer_id}, and one of them has no lane"
            )
    return ""


def _end_problems(peer: InterfacePeerPlan) -> Iterator[str]:
    if peer.lane not in {"", f"c{peer.connection_id}"}:
        yield f"its lane {peer.lane!r} is not c{peer.connection_id}"
    if peer.peer_mount_function is MountFunction.BOTH:
        yield "its other end either sends or receives"
    if peer.peer_file_name is not None:
        problem = relative_path_problem(peer.peer_file_name.removesuffix("/"))
        if problem is not None:
            yield f"its file name {problem}"
    if len(peer.include) > PATTERNS_MAX:
        yield f"it has more than {PATTERNS_MAX} patterns"
    for pattern in peer.include[:PATTERNS_MAX]:
        problem = glob_problem(pattern)
        if problem is not None:
            yield f"its pattern {pattern[:100]!r} {problem}"
