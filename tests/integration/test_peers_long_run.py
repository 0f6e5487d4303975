"""Two daemons under jobs and deliveries without pause, with short retention: nothing that they hold grows.

`RND_TEST_LONG_MINUTES` says for how long (`tools/soak long`), else for a moment. What retention leaves is judged in runs of a
minute and more, growth in runs of twenty.
"""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rnd.p2p.copying_places import COPYING_MAX
from rnd.services.data_service import INGEST_THREADS, KDF_THREADS
from rnd.services.engine import CALLERS
from rnd.workers.durability import FLUSHES_AT_ONCE
from tests.daemon_holdings import Holdings, holdings_of
from tests.figures import note_figures
from tests.integration.steady_load import Driver, drive
from tests.running_peers import Peer, introduce, running_peers, wait_until

MINUTES = float(os.environ.get("RND_TEST_LONG_MINUTES", "0.2"))
IS_LONG = MINUTES >= 20
FORGETS = MINUTES >= 1
SAMPLE_S = 60.0 if IS_LONG else MINUTES * 60 / 3
WARM_UP_ROUNDS = 20 if IS_LONG else 3
JOBS_AT_LEAST = 5_000 if IS_LONG else 20
WINDOW_S = 15 * 60.0
"""How long before its end a run is looked at for growth, by the straight line through its samples."""
RSS_GROWTH_MAX = 2 << 20
DATABASE_GROWTH_MAX = 1 << 20
WAL_BYTES_MAX = 16 << 20
"""The log of the database is emptied from 8 MiB on; who reads meanwhile may hold that up a little."""
EXECUTIONS_KEPT = 50
ENTRIES_AN_EXECUTION_MAX = 60
"""Files and folders of an execution that is kept: its results, its logs, the folders that lead there."""
ENTRIES_BESIDES_MAX = 200
TRANSFER_SLOTS = 8
CONFIG = f"""
transfer_slots = {TRANSFER_SLOTS}
keep_intermediate_s = 5

[deadlines]
hold_s = 15

[limits]
executions_kept = {EXECUTIONS_KEPT}
events_kept = 1000
"""
PROCESSORS = os.cpu_count() or 1
POOLS = (3 * TRANSFER_SLOTS, FLUSHES_AT_ONCE, COPYING_MAX, INGEST_THREADS, KDF_THREADS, 4 + PROCESSORS)
THREADS_MAX = {"threads of daemon": 1 + 3 + sum(POOLS), "threads of exec": 1 + CALLERS + 4 + PROCESSORS}
"""With their pools full: a pool starts threads as it needs them, and keeps them. Of a daemon three more are its database's."""
BACK_WITHIN_S = 60.0
FORGOTTEN_WITHIN_S = 180.0
"""An execution is left alone for a minute after its end, and a sweep takes no more than a hundred."""

BEYOND_THE_LIMIT = f"""
    SELECT COUNT(*)
    FROM workflow_executions AS we
    WHERE NOT EXISTS (SELECT 1 FROM workflow_executions AS retry WHERE retry.retry_of = we.id)
      AND (SELECT COUNT(*) FROM workflow_executions AS newer WHERE newer.id > we.id) >= {EXECUTIONS_KEPT}
"""
"""What a kept execution takes outputs from is kept with it."""

Samples = list[tuple[float, Holdings]]


@pytest.mark.timeout(MINUTES * 60 + 600)
def test_nothing_grows_under_a_load_that_does_not_end(tmp_path: Path) -> None:
    with running_peers(tmp_path, "one", "two", config=CONFIG) as peers:
        introduce((peers[0], peers[1]))
        drivers = [Driver(*peers, tmp_path / "drive-one"), Driver(*reversed(peers), tmp_path / "drive-two")]
        drive(drivers, threading.Event(), rounds=WARM_UP_ROUNDS)
        baseline = [_at_rest(peer) for peer in peers]
        before, began_s = sum(driver.jobs for driver in drivers), time.monotonic()
        samples = _samples_under_load(drivers, peers)
        jobs, took_s = sum(driver.jobs for driver in drivers) - before, time.monotonic() - began_s
        for peer, first in zip(peers, baseline, strict=True):
            wait_until(
                lambda peer=peer, first=first: not _beyond(peer, first),
                lambda peer=peer, first=first: f"{peer.data_dir.name} is as it was: {_beyond(peer, first)}",
                within_s=BACK_WITHIN_S,
            )
            if FORGETS:
                _until_forgotten(peer)
        after = [holdings_of(peer) for peer in peers]
        growths = [_growths(taken) for taken in samples]
        note_figures(
            "long",
            what=f"two daemons under load, {MINUTES:g} minutes",
            jobs=jobs,
            jobs_a_second=round(jobs / took_s, 1),
            **{f"{name.replace(' ', '_')}_grew_kib": most for name, most in _most_kib(growths).items()},
            wal_bytes_max=max(each.wal_bytes for taken in samples for _, each in taken),
            database_bytes=max(each.database_bytes for each in after),
            entries=max(sum(each.entries.values()) for each in after),
        )
        assert jobs >= JOBS_AT_LEAST
        for taken, growth, end in zip(samples, growths, after, strict=True):
            assert max(each.wal_bytes for _, each in taken) <= WAL_BYTES_MAX
            if IS_LONG:
                assert {name: each for name, each in growth.items() if each >= _growth_max(name)} == {}
            if FORGETS:
                most = EXECUTIONS_KEPT * ENTRIES_AN_EXECUTION_MAX + ENTRIES_BESIDES_MAX
                assert sum(end.entries.values()) <= most, end.entries


def _at_rest(peer: Peer) -> Holdings:
    """Return what a daemon holds once nothing that the work before needed goes on falling away."""
    seen: list[dict[str, int]] = []

    def is_steady() -> bool:
        seen.append(_to_come_back(holdings_of(peer)))
        time.sleep(1)
        return len(seen) > 8 and all(each == seen[-1] for each in seen[-8:])

    wait_until(is_steady, lambda: f"{peer.data_dir.name} comes to rest: {seen[-3:]}", within_s=BACK_WITHIN_S)
    return holdings_of(peer)


def _to_come_back(holdings: Holdings) -> dict[str, int]:
    """Return what must be after the load as it was before: tasks, and every process's open files and threads."""
    figures = {"tasks": holdings.tasks}
    for role, process in holdings.processes.items():
        figures |= {f"fds of {role}": process.fds, f"threads of {role}": process.threads}
    return figures


def _beyond(peer: Peer, before: Holdings) -> dict[str, tuple[int, int]]:
    """Return what a daemon holds more of now than before, by name: before and now."""
    was, now = _to_come_back(before), _to_come_back(holdings_of(peer))
    was = {name: max(count, THREADS_MAX.get(name, 0)) for name, count in was.items()}
    return {name: (was[name], now[name]) for name in now if now[name] > was.get(name, 0)}


def _samples_under_load(drivers: Sequence[Driver], peers: Sequence[Peer]) -> list[Samples]:
    """Have the drivers work for as long as the run is; look at each peer at the end of each minute."""
    stop = threading.Event()
    samples: list[Samples] = [[] for _ in peers]
    with ThreadPoolExecutor(1) as threads:
        work = threads.submit(drive, drivers, stop)
        began_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < MINUTES * 60 and not stop.wait(SAMPLE_S):
            for peer, taken in zip(peers, samples, strict=True):
                taken.append((passed_s + SAMPLE_S, holdings_of(peer)))
                print(json.dumps({"at_s": round(taken[-1][0]), "peer": peer.data_dir.name} | taken[-1][1].figures))
        stop.set()
        work.result()
    return samples


def _until_forgotten(peer: Peer) -> None:
    """Wait until retention has done all that it has to."""
    peer.until("SELECT COUNT(*) FROM transfers WHERE status IN ('PENDING', 'ACTIVE')", 0)
    peer.until("SELECT COUNT(*) FROM outbox", 0)
    for query, expected in (
        (BEYOND_THE_LIMIT, 0),
        ("SELECT COUNT(*) FROM workflow_executions WHERE cleared_at IS NULL", 0),
        ("SELECT COUNT(*) FROM job_executions WHERE workflow_execution_id IS NULL", 0),
        ("SELECT COUNT(*) FROM doomed_folders", 0),
    ):
        peer.until(query, expected, within_s=FORGOTTEN_WITHIN_S)


def _growths(samples: Samples) -> dict[str, float]:
    """Return by how many bytes memory and database have grown at the end, by the straight line through the samples."""
    last = [each for each in samples if each[0] > samples[-1][0] - WINDOW_S]

    def growth(of: Callable[[Holdings], int]) -> float:
        times, values = [at for at, _ in last], [of(holdings) for _, holdings in last]
        return statistics.linear_regression(times, values).slope * (times[-1] - times[0])

    roles = last[-1][1].processes
    found = {f"memory of {role}": growth(lambda each, role=role: each.processes[role].rss_bytes) for role in roles}
    return found | {"database": growth(lambda each: each.database_bytes)}


def _most_kib(growths: Sequence[dict[str, float]]) -> dict[str, int]:
    return {name: round(max(each[name] for each in growths) / 1024) for name in growths[0]}


def _growth_max(name: str) -> int:
    return DATABASE_GROWTH_MAX if name == "database" else RSS_GROWTH_MAX
