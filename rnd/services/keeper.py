"""Keeps one job's program: starts it, catches its output, sees to it that nothing outlives it, writes down its end.

A keeper is a fork of the spawner in a session of its own. It is the adoptive parent of whatever the program leaves
behind, and it ends only when no process of the job is left; so the end of the keeper is the end of the run, and
whoever holds a pidfd of it waits for both. It outlives spawner and daemon. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import time
import traceback
from typing import NoReturn

from rnd.services import linux, processes, program, run_files, streams

LINGER_S = 1.0
"""What the program leaves running has this long to end by itself (a shell's `> >(tee log)` is still writing then)."""
LEFTOVER_GRACE_S = 2.0
KILL_AGAIN_S = 0.02
KILL_AGAIN_MAX_S = 1.0
COUNT_EVERY_S = 0.25
"""How often the processes of a job with a limit on them are counted."""

SIGNALS = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1})


class Kept(Exception):
    """Another keeper has this run."""


def keep(order: program.Program, folder: int, signals: linux.SignalQueue, boot_id: str, sink: int) -> NoReturn:
    """Be the keeper of `order` and exit: a freshly forked child of the spawner calls this and nothing else.

    `folder` is a descriptor of the run folder, `signals` the spawner's queue of SIGNALS, blocked already, `sink` an
    open /dev/null.
    """
    code = 1
    try:
        os.setsid()
        linux.name_process(b"rnd-keeper")
        linux.adopt_orphans()
        signals.reopen()
        Keeper(order, folder, signals, boot_id, sink).run()
        code = 0
    except Kept:
        code = 0
    except BaseException:  # noqa: BLE001 - the boundary of one job: its end must be written whatever happens
        traceback.print_exc()
    finally:
        os._exit(code)


class Keeper:
    """The life of one run, from the claim to the record of its end."""

    def __init__(
        self, order: program.Program, folder: int, signals: linux.SignalQueue, boot_id: str, sink: int
    ) -> None:
        """Claim the run. Raises `Kept` if it is another's, `OSError` if the job's folder cannot be written."""
        self._order = order
        self._folder = folder
        self._signals = signals
        self._sink = sink
        self._poller = select.poll()
        self._captures: dict[int, streams.Capture] = {}
        self._every_capture: tuple[streams.Capture, ...] = ()
        self._main: int | None = None
        self._feeder: int | None = None
        self._status: int | None = None  # of the program, negative for a signal
        self._ended_at = ""
        self._childless = False
        self._fault = ""
        self._cancelled = False
        self._ending = False  # SIGTERM is out
        self._term_at: float | None = None
        self._kill_at: float | None = None
        self._kill_again_s = KILL_AGAIN_S
        self._left_over: set[int] = set()
        self._pid = os.getpid()
        self._started_at = streams.time_text(time.time())
        started = run_files.Started(
            order.engine_name,
            self._pid,
            processes.start_time(self._pid) or 0,
            boot_id,
            self._started_at,
            order.secrets_directory,
        )
        if not run_files.claim(self._folder, started):
            raise Kept

    def run(self) -> None:
        """Run the program to its end and write down how it ended."""
        try:
            self._start()
            self._supervise()
            record = self._account()
        except program.NotStarted as error:
            record = {"phase": "REJECTED", "reason": str(error), "ended_at": streams.time_text(time.time())}
        except Exception as error:  # noqa: BLE001 - the boundary of one job: its processes must not be left behind
            traceback.print_exc()
            self._abandon()
            record = {"phase": "LOST", "reason": f"its keeper failed: {error!r}"}
        if self._order.secrets_directory:
            with contextlib.suppress(OSError, RecursionError):  # cleanup tries again, and the run has ended anyway
                run_files.remove_tree(self._order.secrets_directory)
        record["engine_name"] = self._order.engine_name
        run_files.replace(self._folder, self._order.engine_name, run_files.EXIT, record)

    # ------------------------------------------------------------- the start

    def _start(self) -> None:
        if run_files.cancel_grace_s(self._folder, self._order.engine_name) is not None:
            raise program.NotStarted("it was cancelled before it started")
        self._write_secrets()
        writers = self._open_streams()
        stdin, feed_end = program.open_input(self._order.stdin_files)
        self._main = program.start(self._order, stdin, *writers)
        for descriptor in (stdin, *writers):
            os.close(descriptor)
        if feed_end is not None:
            self._feeder = self._fork_feeder(feed_end)
        self._poller.register(self._signals.fd, select.POLLIN)

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
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.join(self._order.directory, run_files.TEMPORARY_FOLDER), 0o700)
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            self._journal = streams.Journal(streams.create_log(folder, "logs.txt"), cap_bytes)
            for name in ("stdout", "stderr"):
                file = streams.create_log(folder, f"{name}.txt")
                reader, writer = os.pipe()
                writers.append(writer)
                self._captures[reader] = streams.Capture(name, reader, file, self._sink, cap_bytes, self._journal)
                self._poller.register(reader, select.POLLIN)
            os.close(folder)
        except OSError as error:
            raise program.NotStarted(f"its logs cannot be written in {path}: {error.strerror}") from error
        self._every_capture = tuple(self._captures.values())
        return writers[0], writers[1]

    def _fork_feeder(self, pipe: int) -> int:
        """Fork the process that writes the input files into the program's standard input."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                fault = program.feed(self._order.stdin_files, pipe)
                if fault:
                    run_files.replace(self._folder, self._order.engine_name, run_files.FAULT, {"fault": fault})
                code = 1 if fault else 0
            finally:
                os._exit(code)
        os.close(pipe)
        return pid

    # ------------------------------------------------------------- while it runs

    def _supervise(self) -> None:
        """Carry output, reap and, when it is time, end what is left, until no process of the job remains."""
        count_at = time.monotonic() + COUNT_EVERY_S if self._order.bounds.pids else None
        while not self._childless:
            for descriptor, _ in self._poller.poll(self._patience_ms(count_at)):
                if descriptor == self._signals.fd:
                    self._heed_signals()
                else:
                    self._pump(descriptor)
            now = time.monotonic()
            if count_at is not None and now >= count_at:
                self._count_processes()
                count_at = now + COUNT_EVERY_S
            self._end_in_time(now)
        self._drain()

    def _patience_ms(self, count_at: float | None) -> int | None:
        moments = [moment for moment in (count_at, self._term_at, self._kill_at) if moment is not None]
        return max(0, int((min(moments) - time.monotonic()) * 1000) + 1) if moments else None

    def _heed_signals(self) -> None:
        arrived = self._signals.take()
        if signal.SIGCHLD in arrived:
            self._reap()
        if arrived - {signal.SIGCHLD} and not self._childless:
            grace_s = run_files.cancel_grace_s(self._folder, self._order.engine_name)
            self._cancelled = True
            self._end_all(self._order.grace_s if grace_s is None else grace_s)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                break
            if pid == 0:
                break
            if pid == self._main:
                self._status = os.waitstatus_to_exitcode(status)
                self._ended_at = streams.time_text(time.time())
            elif pid == self._feeder:
                self._feeder = None
                if status != 0 and not self._ending:
                    self._fail(self._feeder_fault())
        if self._status is not None and not self._childless:
            self._after_main()

    def _after_main(self) -> None:
        """The program has ended but something is left: nobody reads the feeder; the rest may end by itself."""
        if self._feeder is not None:
            os.kill(self._feeder, signal.SIGKILL)
            os.waitpid(self._feeder, 0)
            self._feeder = None
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

    def _feeder_fault(self) -> str:
        record = run_files.read(self._order.directory, self._order.engine_name, run_files.FAULT) or {}
        return str(record.get("fault", "its standard input could not be fed to the end"))

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

    def _account(self) -> dict[str, object]:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cut = [capture.name for capture in self._every_capture if capture.cut]
        status = self._status if self._status is not None else -signal.SIGKILL
        if self._fault:
            status = -signal.SIGKILL
        return {
            "phase": "EXITED",
            "exit_code": status if status >= 0 else None,
            "signal": -status if status < 0 else None,
            "reason": self._reason(status),
            "started_at": self._started_at,
            "ended_at": self._ended_at or streams.time_text(time.time()),
            "streams_cut": [*cut, "logs"] if self._journal.cut else cut,
            "leftovers_killed": len(self._left_over),
            "rusage": {
                "user_s": round(usage.ru_utime, 6),
                "system_s": round(usage.ru_stime, 6),
                "max_rss_bytes": usage.ru_maxrss * 1024,
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
