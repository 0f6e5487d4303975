"""Faults put into the product on purpose, one place each, to see that some world notices.

Each is done in a process that is forked off for one seed and never comes back from it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rnd.core import execution_watch, job_runner
from rnd.core.job_ends import JobEnds
from rnd.core.job_runner import JobRunner
from rnd.database import cancelled_orders, job_moves
from rnd.p2p import outgoing
from rnd.p2p.courier import Courier
from rnd.p2p.intake import Intake
from rnd.p2p.job_handler import JobHandler
from rnd.p2p.rests import Rests
from rnd.protocol.job_messages import JobStartResponse
from rnd.rules import policy
from rnd.workers import staging

_kept: list[asyncio.Task[Any]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One fault of the product: what it is, which invariants may notice, the seeds of which one does, and how it is made."""

    name: str
    noticed_by: tuple[str, ...]
    seeds: range
    make: Callable[[], None]


def _no_grants() -> None:
    policy.permits = lambda *_: None  # type: ignore[assignment]  # the code is broken on purpose


def _no_egress_rules() -> None:
    policy.data_refusals = lambda *_, **__: []  # type: ignore[assignment]  # the code is broken on purpose
    outgoing.data_refusal = lambda *_, **__: None  # type: ignore[assignment]  # the code is broken on purpose


def _stdin_in_another_order() -> None:
    real = job_runner.stage_job

    def stage_job(*arguments: Any, **more: Any) -> Any:
        staged = real(*arguments, **more)
        return dataclasses.replace(staged, stdin_files=tuple(reversed(staged.stdin_files)))

    job_runner.stage_job = stage_job


def _leftovers_of_the_attempt_before() -> None:
    real = staging.clear_tree

    def clear_tree(path: Path) -> None:
        if path.name != "mounts":
            real(path)

    staging.clear_tree = clear_tree


def _the_same_attempt_again() -> None:
    real = job_moves.mark_ready_again

    def mark_ready_again(conn: Any, job_id: Any, **more: Any) -> Any:
        head = real(conn, job_id, **more)
        conn.execute("UPDATE job_executions SET attempt = attempt - 1 WHERE id = ?", (job_id,))
        return head

    job_moves.mark_ready_again = mark_ready_again


def _more_attempts_than_allowed() -> None:
    real = JobEnds.fail

    async def fail(self: JobEnds, claimed: Any, end: Any, *, retry: bool) -> None:
        retry_policy = dataclasses.replace(claimed.service.retry, attempts=9)
        service = dataclasses.replace(claimed.service, retry_safe=True, retry=retry_policy)
        await real(self, dataclasses.replace(claimed, service=service), end, retry=retry)

    JobEnds.fail = fail  # type: ignore[method-assign]  # the code is broken on purpose


def _started_anew_after_a_restart() -> None:
    real = JobRunner._prepare

    async def find(self: JobRunner, running: Any) -> None:
        return None

    async def prepare(self: JobRunner, running: Any) -> Any:
        run = await real(self, running)
        return dataclasses.replace(run, engine_name=run.engine_name + "-again") if running.claimed.found else run

    JobRunner._find = find  # type: ignore[method-assign,assignment]
    JobRunner._prepare = prepare  # type: ignore[method-assign]  # the code is broken on purpose


def _any_exit_code_is_success() -> None:
    real = JobEnds.settle

    async def settle(self: JobEnds, running: Any, observation: Any) -> None:
        if observation is not None and observation.exit_code:
            observation = dataclasses.replace(observation, exit_code=0)
        await real(self, running, observation)

    JobEnds.settle = settle  # type: ignore[method-assign]  # the code is broken on purpose


def _start_confirmed_before_it_is_written_down() -> None:
    real = JobHandler._start

    async def start(self: JobHandler, peer: Any, message: Any) -> Any:
        job = await self._find(peer, message.execution_uid, message.node_id)
        if job is None:
            return await real(self, peer, message)
        _kept.append(asyncio.get_running_loop().create_task(real(self, peer, message)))
        return JobStartResponse(status=job.status)

    JobHandler._start = start  # type: ignore[method-assign]  # the code is broken on purpose


def _early_cancel_forgotten() -> None:
    cancelled_orders.add_tombstone = lambda *_, **__: None  # type: ignore[assignment]  # the code is broken on purpose


def _arrival_confirmed_before_it_is_written_down() -> None:
    real = Intake._finish

    async def finish(self: Intake, reception: Any) -> None:
        await self._follow(reception, reception.machine.mark_finished())
        reception.over.set()
        await real(self, reception)

    Intake._finish = finish  # type: ignore[method-assign]  # the code is broken on purpose


def _cancels_not_carried() -> None:
    real = Courier._deliver

    async def deliver(self: Courier, letter: Any) -> str | None:
        return None if letter.topic == "job_cancel" else await real(self, letter)

    Courier._deliver = deliver  # type: ignore[method-assign]  # the code is broken on purpose


def _deliveries_not_tried_again() -> None:
    def begin(self: Rests, rest: Any, *, now_s: float, **_: Any) -> None:
        rest.until_s = now_s + 1e6

    Rests.begin = begin  # type: ignore[method-assign]  # the code is broken on purpose
    Rests.peer_came = lambda *_: None  # type: ignore[method-assign]  # the code is broken on purpose


def _runs_forgotten_by_a_restart() -> None:
    def reattach(self: JobRunner, claimed: Any, group: Any) -> None:
        """Leave what an earlier daemon was running to itself."""

    JobRunner.reattach = reattach  # type: ignore[method-assign]  # the code is broken on purpose


def _what_has_completed_is_ready_again() -> None:
    real = job_moves.mark_completed

    def mark_completed(conn: Any, job_id: Any, **more: Any) -> Any:
        head = real(conn, job_id, **more)
        conn.execute("UPDATE job_executions SET status = 'READY' WHERE id = ?", (job_id,))
        return head

    job_moves.mark_completed = mark_completed


def _results_not_waited_for() -> None:
    real = execution_watch.execution_outcome

    def execution_outcome(jobs: Any, results: Any, **more: Any) -> Any:
        return real(jobs, [], **more)

    execution_watch.execution_outcome = execution_outcome


MUTATIONS: Final = (
    Mutation(name="grants do not count", noticed_by=("N2",), seeds=range(26, 86), make=_no_grants),
    Mutation(name="DATA goes anywhere", noticed_by=("N12",), seeds=range(55, 115), make=_no_egress_rules),
    Mutation(name="stdin in another order", noticed_by=("N4",), seeds=range(1, 61), make=_stdin_in_another_order),
    Mutation(
        name="leftovers of the attempt before",
        noticed_by=("N4", "RESULT"),
        seeds=range(1, 61),
        make=_leftovers_of_the_attempt_before,
    ),
    Mutation(name="the same attempt again", noticed_by=("N5",), seeds=range(1, 61), make=_the_same_attempt_again),
    Mutation(
        name="more attempts than allowed", noticed_by=("N5",), seeds=range(9, 69), make=_more_attempts_than_allowed
    ),
    Mutation(
        name="started anew after a restart", noticed_by=("N5",), seeds=range(1, 61), make=_started_anew_after_a_restart
    ),
    Mutation(
        name="any exit code is success", noticed_by=("N5", "RESULT"), seeds=range(1, 61), make=_any_exit_code_is_success
    ),
    Mutation(
        name="start confirmed before it is written down",
        noticed_by=("N6",),
        seeds=range(1, 61),
        make=_start_confirmed_before_it_is_written_down,
    ),
    Mutation(name="early cancel forgotten", noticed_by=("N6",), seeds=range(2, 62), make=_early_cancel_forgotten),
    Mutation(
        name="arrival confirmed before it is written down",
        noticed_by=("N6",),
        seeds=range(1, 61),
        make=_arrival_confirmed_before_it_is_written_down,
    ),
    Mutation(name="cancels not carried", noticed_by=("N6", "N7"), seeds=range(11, 71), make=_cancels_not_carried),
    Mutation(
        name="deliveries not tried again", noticed_by=("N7",), seeds=range(1, 61), make=_deliveries_not_tried_again
    ),
    Mutation(
        name="runs forgotten by a restart", noticed_by=("N7",), seeds=range(18, 78), make=_runs_forgotten_by_a_restart
    ),
    Mutation(
        name="what has completed is READY again",
        noticed_by=("N7",),
        seeds=range(1, 61),
        make=_what_has_completed_is_ready_again,
    ),
    Mutation(name="results not waited for", noticed_by=("RESULT",), seeds=range(1, 61), make=_results_not_waited_for),
)
