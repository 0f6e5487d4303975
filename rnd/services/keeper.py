"""Keeps a job's program: starts it, catches its output, sees to it that nothing outlives it, writes down its end.

A keeper is a fork of the spawner in a session of its own, and the adoptive parent of whatever its program leaves
behind. A run has ended when its exit file is there and not before no process of it is left. After a run without
incident a keeper takes the next one, since a fork of Python costs more than a short job; after any other it ends. It
outlives daemon and spawner, but without a spawner it takes no further run: then its end is the end of its run.
Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
import traceback
from typing import NoReturn

from rnd.services import linux, processes, program, run_files, streams
from rnd.services.disk_use import DiskUse

LINGER_S = 1.0
"""What the program leaves running has this long to end by itself (a shell's `> >(tee log)` is still writing then)."""
LEFTOVER_GRACE_S = 2.0
KILL_AGAIN_S = 0.02
KILL_AGAIN_MAX_S = 1.0
COUNT_EVERY_S = 0.25
"""How often the processes and the files of a job with a limit on them are counted."""
COUNTING_SHARE = 0.1
"""How much of the time may go into counting: what takes long to count is counted less often."""
RUNS_MAX = 500
"""After so many runs a keeper makes room for a fresh one; its garbage is never collected."""

SIGNALS = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1})
ENDED = b"+"
ENDED_FOR_GOOD = b"-"


def serve(link: socket.socket, signals: linux.SignalQueue, sink: int) -> NoReturn:
    """Be a keeper and exit: a freshly forked child of the spawner calls this and nothing else.

    Orders come over `link` as lines of JSON; each is answered, when its run has ended, by ENDED or ENDED_FOR_GOOD and
    the last line of its record.
    `signals` is the spawner's queue of SIGNALS, blocked already; `sink` an open /dev/null.
    """
    code = 1
    try:
        os.setsid()
        linux.name_process(b"rnd-keeper")
        linux.adopt_orphans()
        signals.reopen()
        for number in range(1, RUNS_MAX + 1):
            order = _next_order(link)
            if order is None:
                break
            ended, reusable = Keeper(order, signals, sink).run()
            del order
            reusable = reusable and number < RUNS_MAX  # said before it ends, or the spawner would have it run another
            link.sendall((ENDED if reusable else ENDED_FOR_GOOD) + ended)
            if not reusable:
                break
        code = 0
    except BrokenPipeError:
        code = 0  # the spawner is gone, and the run was the last
    except BaseException:  # noqa: BLE001 - the boundary of one job: what went wrong must be found in the log
        traceback.print_exc()
    finally:
        os._exit(code)


def _next_order(link: socket.socket) -> program.Program | None:
    """Return what to run next, or `None` if there will be nothing."""
    message = bytearray()
    while not message.endswith(b"\n"):
        data = link.recv(1 << 16)
        if not data:
            return None
        message += data
    return program.program_from_message(json.loads(message))


class Keeper:
    """The life of one run, from its order to the record of its end."""

    def __init__(self, order: program.Program, signals: linux.SignalQueue, sink: int) -> None:
        """Prepare; raises `OSError` if the record of the run is not there any more."""
        self._order = order
        self._signals = signals
        self._sink = sink
        self._record = run_files.open_record(order.directory, order.engine_name)
        self._poller = select.poll()
        self._captures: dict[int, streams.Capture] = {}
        self._every_capture: list[streams.Capture] = []
        self._journal: streams.Journal | None = None
        self._disk_use: DiskUse | None = None
        self._main: int | None = None
        self._feeder: int | None = None
        self._status: int | None = None  # of the program, negative for a signal
        self._started_at = streams.time_text(time.time())
        self._ended_at = ""
        self._usage = [0.0, 0.0, 0]
        self._childless = False
        self._fault = ""
        self._cancelled = False
        self._ending = False  # SIGTERM is out
        self._term_at: float | None = None
        self._kill_at: float | None = None
        self._kill_again_s = KILL_AGAIN_S
        self._left_over: set[int] = set()
        self._pid = os.getpid()

    def run(self) -> tuple[bytes, bool]:
        """Run the program to its end, write down how it ended, and return that line and whether all went as usual."""
        self._signals.take()  # what came before is about earlier runs; a cancel of this one has left its file
        try:
            self._start()
            self._supervise()
            record = self._account()
        except program.NotStarted as error:
            record = {"phase": "REJECTED", "reason": str(error)}
        except Exception as error:  # noqa: BLE001 - the boundary of one job: its processes must not be left behind
            traceback.print_exc()
            self._fault = "the keeper"
            self._abandon()
            record = {"phase": "LOST", "reason": f"its keeper failed: {error!r}"}
        record["started_at"] = self._started_at
        record["ended_at"] = self._ended_at or streams.time_text(time.time())
        record["tidy"] = not self._fault and not self._has_temporary()
        if self._order.secrets_directory:
            with contextlib.suppress(OSError, RecursionError):  # cleanup tries again, and the run has ended anyway
                run_files.remove_tree(self._order.secrets_directory)
        return run_files.end(self._record, record), self._leave_as_found()

    def _leave_as_found(self) -> bool:
        """Give back what the run took, if that is all it did to this process; return whether it is."""
        if (
            self._status is None
            or self._journal is None
            or self._fault
            or self._ending
            or self._captures
            or self._order.secrets_directory
            or len(self._order.stdin_files) > 1
            or any(bound is not None for bound in self._order.bounds)
        ):
            return False
        for descriptor in (self._journal.file, *(capture.file for capture in self._every_capture)):
            os.close(descriptor)
        os.chdir("/")
        return True

    # ------------------------------------------------------------- the start

    def _start(self) -> None:
        if run_files.cancel_grace_s(self._order.directory, self._order.engine_name) is not None:
            raise program.NotStarted("it was cancelled before it started")
        self._write_secrets()
        bounds = self._bounds()
        writers = self._open_streams()
        stdin, feed_end = program.open_input(self._order.stdin_files)
        self._main = program.start(self._order._replace(bounds=bounds), stdin, *writers)
        for descriptor in (stdin, *writers):
            os.close(descriptor)
        if feed_end is not None:
            self._feeder = self._fork_feeder(feed_end)
        self._poller.register(self._signals.fd, select.POLLIN)

    def _bounds(self) -> program.Bounds:
        """Return the limits to start with: the kernel's on single files is the last resort for what is counted here."""
        bounds = self._order.bounds
        if bounds.disk_bytes is None:
            return bounds
        try:
            self._disk_use = DiskUse(self._order.directory, bounds.disk_bytes)
        except OSError as error:
            raise program.NotStarted(f"its folder cannot be looked through: {error.strerror}") from error
        return bounds._replace(disk_bytes=self._disk_use.file_limit_bytes)

    def _write_secrets(self) -> None:
        folder = self._order.secrets_directory
        if not folder:
            return
        try:
            os.mkdir(folder, 0o700)
            for name, value in self._order.secrets.items():
                file = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(file, "wb") as secret:
                    secret.write(value)
        except OSError as error:
            raise program.NotStarted(f"its secrets cannot be laid out in {folder}: {error.strerror}") from error
        self._order.env["RND_SECRETS"] = folder
        self._order.secrets.clear()

    def _open_streams(self) -> tuple[int, int]:
        """Create the three logs and the two pipes; return the ends that the program writes to."""
        path = os.path.join(self._order.directory, "logs")
        cap_bytes = self._order.stream_bytes
        writers = []
        try:
            for name in ("output", "logs", run_files.TEMPORARY_FOLDER):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(os.path.join(self._order.directory, name), 0o700)
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            self._journal = streams.Journal(streams.create_log(folder, "logs.txt"), cap_bytes)
            for name in ("stdout", "stderr"):
                file = streams.create_log(folder, f"{name}.txt")
                reader, writer = os.pipe()
                writers.append(writer)
                self._captures[reader] = streams.Capture(name, reader, file, self._sink, cap_bytes, self._journal)
                self._every_capture.append(self._captures[reader])
                self._poller.register(reader, select.POLLIN)
            os.close(folder)
        except OSError as error:
            raise program.NotStarted(f"its logs cannot be written in {path}: {error.strerror}") from error
        return writers[0], writers[1]

    def _fork_feeder(self, pipe: int) -> int:
        """Fork the process that writes the input files into the program's standard input."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                fault = program.feed(self._order.stdin_files, pipe)
                if fault:
                    run_files.leave_fault(self._order.directory, self._order.engine_name, fault)
                code = 1 if fault else 0
            finally:
                os._exit(code)
        os.close(pipe)
        return pid

    # ------------------------------------------------------------- while it runs

    def _supervise(self) -> None:
        """Carry output, reap and, when it is time, end what is left, until no process of the job remains."""
        is_counted = self._order.bounds.pids is not None or self._disk_use is not None
        count_at = time.monotonic() + COUNT_EVERY_S if is_counted else None
        while not self._childless:
            for descriptor, _ in self._poller.poll(self._patience_ms(count_at)):
                if descriptor == self._signals.fd:
                    self._heed_signals()
                else:
                    self._pump(descriptor)
            now = time.monotonic()
            if count_at is not None and now >= count_at:
                self._count_processes()
                self._count_files()
                took_s = time.monotonic() - now
                count_at = now + took_s + max(COUNT_EVERY_S, took_s / COUNTING_SHARE)
            self._end_in_time(now)
        self._drain()
        if (self._status or 0) >= 0:  # what a limit has cut must not pass for whole, nor for another failure
            self._count_files()

    def _patience_ms(self, count_at: float | None) -> int | None:
        moments = [moment for moment in (count_at, self._term_at, self._kill_at) if moment is not None]
        return max(0, int((min(moments) - time.monotonic()) * 1000) + 1) if moments else None

    def _heed_signals(self) -> None:
        arrived = self._signals.take()
        if signal.SIGCHLD in arrived:
            self._reap()
        if arrived - {signal.SIGCHLD} and not self._childless:
            grace_s = run_files.cancel_grace_s(self._order.directory, self._order.engine_name)
            if grace_s is not None:  # else the cancel was of an earlier run
                self._cancelled = True
                self._end_all(grace_s)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                break
            if pid == 0:
                break
            user_s, system_s, max_rss = self._usage
            self._usage = [user_s + usage.ru_utime, system_s + usage.ru_stime, max(max_rss, usage.ru_maxrss)]
            if pid == self._main:
                self._status = os.waitstatus_to_exitcode(status)
                self._ended_at = streams.time_text(time.time())
            elif pid == self._feeder:
                self._judge_feeder(status)
        if self._status is not None and not self._childless:
            self._after_main()

    def _after_main(self) -> None:
        """The program has ended but something is left: nobody reads the feeder; the rest may end by itself."""
        if self._feeder is not None:
            os.kill(self._feeder, signal.SIGKILL)
            self._judge_feeder(os.waitpid(self._feeder, 0)[1])
            self._reap()
        elif self._term_at is None and not self._ending:
            self._term_at = time.monotonic() + LINGER_S

    def _pump(self, descriptor: int) -> bool:
        capture = self._captures[descriptor]
        try:
            goes_on = capture.pump()
        except OSError as error:
            capture.give_up()
            self._fail(f"its {capture.name} cannot be written: {error.strerror}")
            return True
        if not goes_on:
            self._poller.unregister(descriptor)
            del self._captures[descriptor]
            os.close(descriptor)
        return goes_on

    def _drain(self) -> None:
        """Take what the pipes still hold. All writers are gone, unless a descriptor was handed to a stranger."""
        self._poller.unregister(self._signals.fd)
        ends_at = time.monotonic() + LEFTOVER_GRACE_S
        while self._captures and time.monotonic() < ends_at:
            ready = self._poller.poll(0)
            if not ready:
                break
            for descriptor, _ in ready:
                self._pump(descriptor)

    # ------------------------------------------------------------- the end

    def _fail(self, fault: str) -> None:
        """End the run at once: what it would leave could not be trusted."""
        if not self._fault:
            self._fault = fault
            self._end_all(0.0)

    def _end_all(self, grace_s: float) -> None:
        """Ask everything to end, and see to it after `grace_s`; a second call can only shorten that."""
        kill_at = time.monotonic() + max(0.0, grace_s)
        if grace_s > 0 and not self._ending:
            self._note(processes.signal_descendants(self._pid, (signal.SIGTERM, signal.SIGCONT), self._spared()))
        self._ending = True
        self._term_at = None
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _end_in_time(self, now: float) -> None:
        if self._childless:
            return
        if self._term_at is not None and now >= self._term_at:
            self._end_all(min(self._order.grace_s, LEFTOVER_GRACE_S))
        if self._kill_at is not None and now >= self._kill_at:
            self._note(processes.kill_descendants(self._pid))
            self._kill_at = now + self._kill_again_s
            self._kill_again_s = min(2 * self._kill_again_s, KILL_AGAIN_MAX_S)

    def _note(self, reached: set[int]) -> None:
        """Remember whom we had to end although the program was over."""
        if self._status is not None:
            self._left_over |= reached

    def _spared(self) -> frozenset[int]:
        return frozenset() if self._feeder is None else frozenset({self._feeder})

    def _count_processes(self) -> None:
        limit = self._order.bounds.pids
        if limit is not None and len(processes.descendants(self._pid, self._spared())) > limit:
            self._fail(f"it had more than its limit of {limit} processes at once")

    def _count_files(self) -> None:
        excess = self._disk_use.excess() if self._disk_use is not None else ""
        if excess:
            self._fail(excess)

    def _judge_feeder(self, status: int) -> None:
        """A feeder that gave up closed the pipe by ending, so what the program took for the end of its input was not.

        One that was killed, by us or by another, has left the program without an end of file that it could trust only
        if the program is still reading.
        """
        self._feeder = None
        gave_up = os.waitstatus_to_exitcode(status) > 0
        if gave_up or (status != 0 and self._status is None and not self._ending):
            fault = run_files.read_fault(self._order.directory, self._order.engine_name)
            self._fail(fault or "its standard input could not be fed to the end")

    def _abandon(self) -> None:
        """After a fault of the keeper itself: kill, and reap without looking."""
        while True:
            processes.kill_descendants(self._pid)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(KILL_AGAIN_S)

    # ------------------------------------------------------------- the record

    def _has_temporary(self) -> bool:
        try:
            with os.scandir(os.path.join(self._order.directory, run_files.TEMPORARY_FOLDER)) as entries:
                return next(entries, None) is not None
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def _account(self) -> dict[str, object]:
        user_s, system_s, max_rss = self._usage
        cut = [capture.name for capture in self._every_capture if capture.cut]
        status = self._status if self._status is not None else -signal.SIGKILL
        if self._fault:
            status = -signal.SIGKILL
        return {
            "phase": "EXITED",
            "exit_code": status if status >= 0 else None,
            "signal": -status if status < 0 else None,
            "reason": self._reason(status),
            "streams_cut": [*cut, "logs"] if self._journal and self._journal.cut else cut,
            "leftovers_killed": len(self._left_over),
            "rusage": {
                "user_s": round(user_s, 6),
                "system_s": round(system_s, 6),
                "max_rss_bytes": int(max_rss) * 1024,
            },
        }

    def _reason(self, status: int) -> str:
        if self._fault:
            return self._fault
        if self._cancelled:
            return "ended because it was cancelled"
        if status < 0:
            return program.why_signal(-status, self._order.bounds)
        if self._left_over:
            return f"{len(self._left_over)} of its processes outlived the program and were ended"
        return ""
