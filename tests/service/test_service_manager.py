"""What a process tells its service manager and takes from it, over the real sockets of the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

from rnd.database.connection import Database
from rnd.services.service_manager import ServiceManager, extend_timeout, passed_sockets, reloading, status
from rnd.supervision import Supervision
from rnd.system_clock import SystemClock
from tests.running_peer import PROJECT
from tests.service.managed_peer import HAND_OVER, Manager


def test_lines_go_as_one_datagram_to_a_path(tmp_path: Path) -> None:
    with Manager(str(tmp_path / "notify")) as manager:
        ServiceManager(manager.address).tell("READY=1", status("two\nlines"))
        assert manager.listen(5) == ["READY=1", "STATUS=two lines"]


def test_lines_go_to_an_abstract_socket() -> None:
    with Manager(f"@rnd-test-{os.getpid()}") as manager:
        ServiceManager(manager.address).tell("STOPPING=1")
        assert manager.listen(5) == ["STOPPING=1"]


def test_times_are_told_in_microseconds() -> None:
    assert extend_timeout(1.5) == "EXTEND_TIMEOUT_USEC=1500000"
    assert reloading(2.25) == "RELOADING=1\nMONOTONIC_USEC=2250000"


def test_without_a_service_manager_nothing_is_told_and_no_sign_of_life_is_due() -> None:
    manager = ServiceManager.from_environment({"WATCHDOG_USEC": "1000000"})
    manager.tell("READY=1")
    assert (manager.is_there, manager.watchdog_s) == (False, None)


def test_the_environment_keeps_nothing_of_it_for_the_programs_that_are_started() -> None:
    environment = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    manager = ServiceManager.from_environment(environment)
    assert (manager.is_there, manager.watchdog_s) == (True, 30.0)
    environment |= {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "api"}
    assert passed_sockets(environment) == []
    assert environment == {"HOME": "/"}


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})
    assert manager.watchdog_s is None


@pytest.mark.parametrize(
    "environment",
    [
        {"NOTIFY_SOCKET": "notify"},
        {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"},
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is "):
        ServiceManager.from_environment(environment)


@pytest.mark.parametrize("told", [{"LISTEN_FDS": "0"}, {"LISTEN_FDS": "x"}, {"LISTEN_FDS": "99"}, {"LISTEN_FDS": "2"}])
def test_sockets_that_make_no_sense_are_refused(told: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="LISTEN_"):
        passed_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "api", **told})


SHOW = """
import json, os, subprocess, sys
from rnd.services.service_manager import passed_sockets
found = passed_sockets(os.environ)
left = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True, close_fds=False).stdout.split()
print(json.dumps([[each.name, each.sock.fileno(), each.sock.getsockname()] for each in found] + [left]))
"""


def test_sockets_come_with_their_names_and_go_to_no_program_that_is_started(tmp_path: Path) -> None:
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        unix.bind(path)
        unix.listen()
        port = tcp.getsockname()[1]
        descriptors = [unix.fileno(), tcp.fileno()]
        done = subprocess.run(
            [sys.executable, "-c", HAND_OVER, "2", *map(str, descriptors), sys.executable, "-c", SHOW],
            env={**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "api:web"},
            cwd=PROJECT,
            pass_fds=descriptors,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    *found, left = json.loads(done.stdout)
    assert found == [["api", 3, path], ["web", 4, ["127.0.0.1", port]]]
    assert "4" not in left  # 3 is what ls looks with


class TestWatchdog:
    """Signs of life come from the event loop and the database's writer together."""

    WATCHDOG_S = 0.3

    def watch(self, tmp_path: Path, work: Callable[[Database, Manager], Coroutine[None, None, None]]) -> None:
        database = Database.open(tmp_path / "rnd.db", busy_timeout_ms=100)
        with Manager(str(tmp_path / "notify")) as manager:

            async def test() -> None:
                told = ServiceManager(manager.address, watchdog_s=self.WATCHDOG_S)
                watching = asyncio.create_task(Supervision(told, SystemClock()).watch(database, lambda: 0))
                try:
                    await work(database, manager)
                finally:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)
                    await database.close()

            asyncio.run(test())

    def test_they_come_more_than_twice_in_its_time(self, tmp_path: Path) -> None:
        async def work(_: Database, manager: Manager) -> None:
            loop = asyncio.get_running_loop()
            moments = []
            for _each in range(5):
                await asyncio.to_thread(manager.hear, "WATCHDOG=1", 5)
                moments.append(loop.time())
            assert (moments[-1] - moments[0]) / 4 < self.WATCHDOG_S / 2

        self.watch(tmp_path, work)

    def test_none_comes_while_the_writer_is_stuck(self, tmp_path: Path) -> None:
        async def work(database: Database, manager: Manager) -> None:
            await asyncio.to_thread(manager.hear, "WATCHDOG=1", 5)
            gate = threading.Event()
            stuck = asyncio.create_task(database.write(lambda _: gate.wait(30)))
            try:
                await asyncio.to_thread(manager.listen, self.WATCHDOG_S)  # one may have been on its way
                assert await asyncio.to_thread(manager.listen, 3 * self.WATCHDOG_S) == []
            finally:
                gate.set()
            await stuck
            await asyncio.to_thread(manager.hear, "WATCHDOG=1", 5)

        self.watch(tmp_path, work)

    def test_none_comes_while_the_event_loop_is_stuck(self, tmp_path: Path) -> None:
        async def work(_: Database, manager: Manager) -> None:
            await asyncio.to_thread(manager.hear, "WATCHDOG=1", 5)
            manager.listen(self.WATCHDOG_S)  # in the loop: nothing else runs there meanwhile
            assert manager.listen(3 * self.WATCHDOG_S) == []
            await asyncio.to_thread(manager.hear, "WATCHDOG=1", 5)

        self.watch(tmp_path, work)

    def test_a_person_who_locks_the_database_is_no_reason_for_a_restart(self, tmp_path: Path) -> None:
        async def work(database: Database, manager: Manager) -> None:
            with locked(database.path):
                for _ in range(3):
                    await asyncio.to_thread(manager.hear, "WATCHDOG=1", 5)

        self.watch(tmp_path, work)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """A person at the sqlite3 shell, in the middle of a transaction."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        yield
        conn.execute("ROLLBACK")
