"""The spawner: one small process a data directory that has a keeper run every STANDALONE job (ADR: spawner and keepers).

The daemon starts it, speaks to it over `<data-dir>/run/spawner.sock` in lines of JSON, and may die and come back; the
spawner stays, and so do the keepers if the spawner dies. It is single-threaded, imports little and holds no state that
the run files do not hold too. Standard library only: it runs under `python -I -S`.

Requests carry `id` and `op`; each is answered by a line with that `id` and either its result or `error`:
  hello                   -> {version, pid}
  submit {run}            -> {handle, tells}   starts it, or finds what was started under its engine name; if it starts
                                               it, `tells` is true and {ended} follows under the same id
  wait {engine_name, keeper_pid} -> {ended}    when that run has ended; or {stranger: true} if its keeper is another's
  expect {at_once}        -> {}                so many runs may come soon: keepers are forked while there is nothing else to do
  stop                    -> {}                exit as soon as no run is left
  retire                  -> {}                the same, and make room for another spawner at once
`ended` holds the fields of the last line of the run's record, or is null where that is to be read there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import json
import os
import resource
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

from rnd.services import confinement, keeper, linux, processes, program, run_files, seat, streams
from rnd.services.keeper_pool import IDLE_KEEPER_S, UNTOLD, KeeperLink, KeeperPool, Kept

SEAT = "spawner"
"""Names its socket, lock and log in `<data-dir>/run`."""
MESSAGE_MAX_BYTES = 16 << 20
"""Well above the largest argument list and environment that Linux takes."""
UNREAD_MAX_BYTES = 4 << 20
"""A daemon that lets more answers than this lie is cut off; it can ask again."""
IDLE_S = 60.0
KEEPER_TIMEOUT_S = 5.0
"""How long a keeper may take to read its order before it is given up."""
STRANGERS_AGAIN_S = 0.05


class Client:
    """One connected daemon and what has been read from it and not yet been written to it."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.unread = bytearray()
        self.unsent = bytearray()
        self.is_clogged = False  # the socket takes no more; the poller says when it does


def main(data_dir: str, version: str) -> None:
    """Become the spawner of `data_dir`, or find that there is one; return when it can be connected to."""
    os.umask(0o077)
    folder = seat.open_folder(data_dir)
    lock = seat.take(folder, SEAT)
    if lock is None:
        return
    listener = seat.listen(folder, SEAT)
    if os.fork():
        return
    _settle(folder)
    confinement.prepare()
    try:
        Spawner(folder, lock, listener, version).serve()
    except BaseException:  # noqa: BLE001 - the last thing this process can do is to say why it ends
        traceback.print_exc()
    finally:
        os._exit(0)


class Spawner:
    """Takes orders, forks keepers, and ends whatever a dead keeper has left to it."""

    def __init__(self, folder: int, lock: int, listener: socket.socket, version: str) -> None:
        self._folder = folder
        self._lock: int | None = lock
        self._listener: socket.socket | None = listener
        self._version = version
        self._boot_id = processes.boot_id()
        self._shared_memory = _has_shared_memory()
        self._signals = linux.SignalQueue(keeper.SIGNALS)
        self._sink = os.open(os.devnull, os.O_WRONLY)
        self._poller = select.poll()
        self._poller.register(self._signals.fd, select.POLLIN)
        self._poller.register(listener.fileno(), select.POLLIN)
        self._clients: dict[int, Client] = {}
        self._keepers = KeeperPool(self._signals, self._sink, self._poller, self._forget_all)
        self._runs: dict[str, KeeperLink] = {}  # by the engine name of the run that they have
        self._stopping = False
        self._strangers = False
        self._idle_since = time.monotonic()

    def serve(self) -> None:
        """Serve until told to stop, or until nobody has needed this process for a while."""
        gc.collect()
        gc.freeze()
        gc.disable()
        while not self._done():
            events = self._poller.poll(self._patience_ms())
            for descriptor, event in events:
                self._attend(descriptor, event)
            self._send_answers()
            if not events:
                self._keepers.prepare_one()
            if self._strangers:
                self._end_strangers()
            self._keepers.dismiss_idle()
        self._withdraw()

    def _done(self) -> bool:
        if self._runs or self._strangers:
            return False
        if self._stopping:
            return True
        return not self._clients and time.monotonic() - self._idle_since >= IDLE_S

    def _patience_ms(self) -> int | None:
        if self._keepers.wanted:
            return 0
        if self._strangers:
            return int(STRANGERS_AGAIN_S * 1000)
        if self._keepers.idle:
            return int(IDLE_KEEPER_S * 1000)
        if self._clients or self._runs:
            return None
        return max(1, int((self._idle_since + IDLE_S - time.monotonic()) * 1000) + 1)

    def _attend(self, descriptor: int, event: int) -> None:
        if descriptor == self._signals.fd:
            self._heed_signals()
        elif self._listener is not None and descriptor == self._listener.fileno():
            self._admit()
        elif link := self._keepers.find(descriptor):
            self._hear(link)
        elif client := self._clients.get(descriptor):
            if event & select.POLLOUT:
                self._send(client)
            if event & ~select.POLLOUT:
                self._receive(client)

    # ------------------------------------------------------------- daemons

    def _admit(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if not seat.may_speak(connection):
            connection.close()
            return
        self._clients[connection.fileno()] = Client(connection)
        self._poller.register(connection.fileno(), select.POLLIN)

    def _dismiss(self, client: Client) -> None:
        descriptor = client.connection.fileno()
        if self._clients.pop(descriptor, None) is None:
            return
        self._poller.unregister(descriptor)
        client.connection.close()
        self._idle_since = time.monotonic()

    def _receive(self, client: Client) -> None:
        try:
            data = client.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.unread += data
        *lines, rest = client.unread.split(b"\n") if b"\n" in data else [client.unread]
        if not data or len(rest) > MESSAGE_MAX_BYTES:
            self._dismiss(client)
            return
        client.unread = rest
        for line in lines:
            self._answer(client, line)

    def _send_answers(self) -> None:
        """Send what there is to tell, once for all that has just happened: each time wakes the daemon."""
        for client in list(self._clients.values()):
            if client.unsent:
                self._send(client)

    def _send(self, client: Client) -> None:
        try:
            if client.unsent:
                del client.unsent[: client.connection.send(client.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._dismiss(client)
            return
        if len(client.unsent) > UNREAD_MAX_BYTES:
            self._dismiss(client)
            return
        if client.is_clogged != bool(client.unsent):
            client.is_clogged = bool(client.unsent)
            wanted = select.POLLIN | select.POLLOUT if client.is_clogged else select.POLLIN
            self._poller.modify(client.connection.fileno(), wanted)

    def _answer(self, client: Client, line: bytearray) -> None:
        number: object = None
        try:
            request = json.loads(line)
            number = request["id"]
            facts = self._act(request["op"], request, client)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            facts = {"error": f"the spawner does not understand this: {error!r}"}
        except OSError as error:
            facts = {"error": f"{error.strerror}" + (f": {error.filename}" if error.filename else "")}
        if facts is not None:
            client.unsent += json.dumps({"id": number, **facts}).encode() + b"\n"

    def _act(self, operation: str, request: dict[str, Any], client: Client) -> dict[str, Any] | None:
        """Return what to answer, or `None` if the answer comes later."""
        match operation:
            case "hello":
                self._stopping = self._listener is None  # a daemon that comes back wants this one after all
                return {"version": self._version, "pid": os.getpid()}
            case "submit":
                return self._submit(request["run"], functools.partial(self._tell, client, request["id"]))
            case "wait":
                return self._wait(request["engine_name"], request["keeper_pid"], client, request["id"])
            case "expect":
                self._keepers.expect(int(request["at_once"]))
                return {}
            case "stop":
                self._stopping = True
                return {}
            case "retire":
                self._retire()
                return {}
        raise ValueError(operation)

    # ------------------------------------------------------------- jobs

    def _submit(self, fields: dict[str, Any], tell: Callable[[bytes], None]) -> dict[str, object]:
        """Give a run to a keeper, unless it was ever given to one. Raises `OSError` if that cannot be done here."""
        name, directory = str(fields["engine_name"]), str(fields["directory"])
        if not run_files.ENGINE_NAME.fullmatch(name):
            raise ValueError("engine_name")
        if record := run_files.read(directory, name):
            return {"handle": run_files.handle(record.started, directory), "tells": False}
        if self._listener is None:
            raise OSError(errno.ESHUTDOWN, "the spawner takes no more runs")
        fields["secrets_directory"] = ""
        if fields["secrets"]:
            fields["secrets_directory"] = run_files.secrets_directory(
                directory, name, shared_memory=self._shared_memory
            )
        program.program_from_message(fields)  # refuse here what a keeper could not understand
        link = self._keepers.take()
        moment = streams.time_text(time.time())
        started = run_files.Started(name, link.pid, link.start, self._boot_id, moment, fields["secrets_directory"])
        try:
            run_files.begin(directory, started)
        except OSError:
            self._keepers.rest(link)
            raise
        self._hand_over(link, Kept(name, fields["secrets_directory"], [tell]), fields)
        return {"handle": run_files.handle(started, directory), "tells": True}

    def _hand_over(self, link: KeeperLink, kept: Kept, fields: dict[str, Any]) -> None:
        """Send the order. A keeper that does not take it is killed, and the run is lost: nobody knows that it did not."""
        link.kept = kept
        self._runs[kept.engine_name] = link
        try:
            link.connection.settimeout(KEEPER_TIMEOUT_S)
            link.connection.sendall(json.dumps(fields).encode() + b"\n")
            link.connection.setblocking(False)
        except OSError:
            os.kill(link.pid, signal.SIGKILL)

    def _wait(self, name: str, keeper_pid: int, client: Client, number: object) -> dict[str, Any] | None:
        link = self._runs.get(name)
        if link is not None and link.kept is not None:
            link.kept.waiters.append(functools.partial(self._tell, client, number))
            return None
        return {"ended": None} if keeper_pid in self._keepers else {"stranger": True}

    def _forget_all(self) -> None:
        """Close what only the spawner may hold: a keeper with the lock or a connection would keep them alive."""
        for client in self._clients.values():
            client.connection.close()
        if self._listener is not None:
            self._listener.close()
        if self._lock is not None:
            os.close(self._lock)
        os.close(self._folder)

    def _hear(self, link: KeeperLink) -> None:
        """A keeper has ended its run, or itself."""
        try:
            word = link.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if not word:
            self._keepers.hang_up(link)
            return
        link.unread += word
        if not link.unread.endswith(b"\n"):
            return
        told, link.unread = bytes(link.unread), bytearray()
        self._end_run(link, told[1:-1])
        if told.startswith(keeper.ENDED):
            self._keepers.rest(link)

    def _end_run(self, link: KeeperLink, ended: bytes = UNTOLD) -> None:
        if link.kept is None:
            return
        kept, link.kept = link.kept, None
        del self._runs[kept.engine_name]
        for tell in kept.waiters:
            tell(ended)
        self._idle_since = time.monotonic()

    def _tell(self, client: Client, number: object, ended: bytes) -> None:
        """Say how a run ended to one who waits; a client that has gone meanwhile is passed over."""
        if client.connection.fileno() >= 0:
            client.unsent += b'{"id": %s, "ended": %s}\n' % (json.dumps(number).encode(), ended)

    def _heed_signals(self) -> None:
        arrived = self._signals.take()
        if arrived & {signal.SIGTERM, signal.SIGINT}:
            self._retire()
        if signal.SIGCHLD not in arrived:
            return
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._strangers = False
                break
            if pid == 0:
                break
            self._bury(pid)

    def _bury(self, pid: int) -> None:
        """A child has ended: a keeper whose run has not has left us its processes, and its waiters to tell."""
        link = self._keepers.bury(pid)
        if link is None:
            return
        if link.kept is not None and link.connection.fileno() >= 0:
            self._hear_last(link)
        self._keepers.hang_up(link)
        if link.kept is None:
            return
        self._strangers = True
        self._end_strangers()
        if link.kept.secrets_directory:
            with contextlib.suppress(OSError, RecursionError):  # cleanup tries again
                run_files.remove_tree(link.kept.secrets_directory)
        self._end_run(link)

    def _hear_last(self, link: KeeperLink) -> None:
        """Read what a keeper that is dead by now may have said before."""
        with contextlib.suppress(OSError):
            while word := link.connection.recv(1 << 16):
                link.unread += word
        if link.unread.endswith(b"\n"):
            self._end_run(link, bytes(link.unread[1:-1]))

    def _end_strangers(self) -> None:
        """Kill what has fallen to this process because its keeper died before it."""
        mine = self._keepers.pids()
        processes.kill_descendants(os.getpid(), mine)
        self._strangers = any(pid not in mine for pid in processes.children(os.getpid()))

    # ------------------------------------------------------------- the end

    def _retire(self) -> None:
        self._withdraw()
        self._stopping = True
        self._keepers.close()
        for client in tuple(self._clients.values()):
            self._dismiss(client)  # to come back to the next spawner

    def _withdraw(self) -> None:
        """Give up the socket before the lock, so that the next spawner finds neither."""
        if self._listener is not None:
            self._poller.unregister(self._listener.fileno())
            os.unlink(seat.socket_name(SEAT), dir_fd=self._folder)
            self._listener.close()
            self._listener = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _settle(folder: int) -> None:
    """Become a daemon whose descendants inherit what every job is to have."""
    seat.settle(folder, SEAT)
    linux.name_process(b"rnd-spawner")
    linux.adopt_orphans()
    linux.forgo_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _has_shared_memory() -> bool:
    """Return whether /dev/shm is memory (a file there never reaches a disk) and we may write to it."""
    try:
        with open("/proc/mounts") as file:
            mounts = [line.split() for line in file]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES):
            return False
        raise
    in_memory = any(mount[1:3] == [run_files.SHARED_MEMORY, "tmpfs"] for mount in mounts)
    return in_memory and os.access(run_files.SHARED_MEMORY, os.W_OK | os.X_OK)
