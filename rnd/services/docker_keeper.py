"""Keeps one run in a container: starts it, takes its output, ends it when it must, writes down how it ended (ADR 13).

It has nothing that its record and the engine do not have too. After a restart of this process, of the daemon or of the
engine the same run is taken up where the engine has it: created is started, running is followed, exited is accounted for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, Final

from rnd.services import captured_output, container_record, job_places
from rnd.services.captured_output import CapturedOutput
from rnd.services.container_end import Circumstances, account, lost, rejected
from rnd.services.container_record import Record
from rnd.services.disk_use import unnamed_bytes, used_bytes
from rnd.services.docker_spec import ENGINE_LOG_BYTES, BadOrder
from rnd.services.engine import Engine
from rnd.services.engine_streams import Demultiplexer, EngineGone, EngineRefused, Opened

FEED_BYTES: Final = 1 << 16
ENTRY_BYTES: Final = 128
"""More than what the engine keeps of a line beside the line itself."""
DRAIN_S: Final = 20.0
"""How long the output of a container that has ended may take to arrive before it is read anew from what the engine kept."""
COUNT_EVERY_S: Final = 0.5
COUNTING_SHARE: Final = 0.1
KILL_AGAIN_S: Final = 2.0
AGAIN_S: Final = 0.1
AGAIN_MAX_S: Final = 5.0
REFUSALS_MAX: Final = 30


class ContainerRun:
    """The life of one run from its creation to the record of its end."""

    def __init__(self, engine: Engine, data_dir: str, directory: str, record: Record, *, fresh: bool) -> None:
        """Keep a run whose container exists; `fresh` says that it was created just now."""
        self.engine_name = record.begun.engine_name
        self.directory = directory
        self.container_id = record.container_id
        self.trouble = ""
        self.ended: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._engine = engine
        self._data_dir = data_dir
        self._begun = record.begun
        self._fresh = fresh
        self._asked = record.starting
        self._to_feed = bool(record.begun.stdin_files) and not record.feeding
        self._cut_short = record.feeding and not record.fed
        self._fault = record.fault
        self._cancelled = record.cancel_grace_s is not None
        self._kill_at: float | None = None
        self._wanted = asyncio.Event()
        self._output: CapturedOutput | None = None
        self._splitter = Demultiplexer()
        self._broken_off: list[str] = []
        self._whole = False
        self._running = False
        self._shaken = False
        if record.cancel_grace_s is not None or record.fault:
            self._end_within(record.cancel_grace_s or 0.0)

    async def live(self) -> None:
        """See the run through, however often the engine goes away meanwhile."""
        pause_s, refusals = AGAIN_S, 0
        while not self.ended.done():
            try:
                self._finish(await self._see_through())
                return
            except EngineGone as error:
                self.trouble = str(error)
                self._shaken = self._shaken or self._running
            except EngineRefused as error:
                self.trouble, refusals = error.words, refusals + 1
                if refusals > REFUSALS_MAX:
                    self._finish(lost(f"the container engine does not do what it is asked: {error.words}"))
            except OSError as error:
                self._fail(f"its logs cannot be written: {error.strerror}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_MAX_S)

    def cancel(self, grace_s: float) -> None:
        """End the run by SIGTERM, and by SIGKILL after `grace_s`; a second call can only shorten that."""
        if self.ended.done():
            return
        if not self._cancelled or self._would_shorten(grace_s):
            container_record.add(self.directory, self.engine_name, cancel=grace_s)
        self._cancelled = True
        self._end_within(grace_s)

    def is_loose(self) -> bool:
        """Say whether another process can take the run up and lose nothing of it: no input is under way, all output is kept."""
        return not self._cut_short and (_is_kept(self._splitter) or bool(self._broken_off))

    def give_up(self, ended: dict[str, Any]) -> None:
        """Call the run ended although nobody saw how."""
        self._finish(ended)

    # ------------------------------------------------------------- from state to state

    async def _see_through(self) -> dict[str, Any]:
        """Take the run from where the engine has it to its end. Raises `EngineGone`, `EngineRefused` and `OSError`."""
        state = {"Status": "created"} if self._fresh else await self._engine.state(self.container_id)
        self._fresh = False
        self.trouble = ""
        if state is None:
            return lost("somebody else has removed its container")
        match state["Status"]:
            case "created" if state.get("Error"):
                return rejected(_start_words(str(state["Error"])))
            case "created" if self._fault:
                return rejected(self._fault)
            case "created" if self._cancelled:
                return rejected("it was cancelled before it started")
            case "created" if self._asked and self._asked != await self._engine.mark():
                return lost("the container engine was restarted while it was to start this, so that it may have run")
            case "created":
                refused = await self._start()
                if refused:
                    return rejected(refused)
            case "running" | "paused" | "restarting":
                await self._follow_again()
            case _:
                self._running = False
                if not self._whole:
                    await self._read_again()
                self._judge_input()
                return await self._account(state)
        state = await self._engine.state(self.container_id)
        if state is None:
            return lost("somebody else has removed its container")
        if state.get("Running"):
            raise EngineGone("the engine says both that it has ended and that it runs")
        return await self._account(state)

    async def _start(self) -> str:
        """Start what was created, with its output caught from the first byte; return "" or why it cannot be started."""
        self._renew_output()
        async with contextlib.AsyncExitStack() as opened:
            output = await self._engine.attach(self.container_id)
            opened.push_async_callback(output.close)
            end = await self._engine.end_of_next(self.container_id)
            if end is not None:
                opened.push_async_callback(end.close)
            if self._asked and (await self._engine.state(self.container_id) or {}).get("Status") != "created":
                raise EngineGone("it was started by a question that nobody had answered")
            self._asked = await self._engine.mark()
            container_record.add(self.directory, self.engine_name, starting=self._asked)
            if self._cancelled:
                return "it was cancelled before it started"
            try:
                await self._engine.start(self.container_id)
            except EngineRefused as error:
                return _start_words(error.words)
            if end is None:
                end = await self._engine.end(self.container_id)
                opened.push_async_callback(end.close)
            await self._until_end(output, end)
        return ""

    async def _follow_again(self) -> None:
        """Follow a container that was started before: from its first byte, as far as the engine has kept that."""
        self._judge_input()
        end = await self._engine.end(self.container_id)
        try:
            if await self._has_all() and self._renews_output():
                output = await self._engine.output(self.container_id, follow=True)
                try:
                    await self._until_end(output, end)
                finally:
                    await output.close()
                self._whole = False  # an engine may end this before the last words, so that they are read once more
                await self._read_again()
            else:
                self._break_off()
                await self._until_end(None, end)
        finally:
            await end.close()

    async def _read_again(self) -> None:
        """Read the output of a container that has ended while nobody listened."""
        if not (await self._has_all() and self._renews_output()):
            self._break_off()
        else:
            output = await self._engine.output(self.container_id, follow=False)
            try:
                trouble = await self._pump_quietly(output)
            finally:
                await output.close()
            if trouble is not None:
                raise trouble
        self._whole = True

    async def _has_all(self) -> bool:
        """Say whether the engine still has every byte: it throws the oldest away only beyond a size that is not reached."""
        if self._broken_off:
            return False
        splitter = Demultiplexer()
        output = await self._engine.output(self.container_id, follow=False)
        try:
            async for _ in output.output(splitter):
                pass
        finally:
            await output.close()
        return _is_kept(splitter)

    # ------------------------------------------------------------- while it runs

    async def _until_end(self, output: Opened | None, end: Opened) -> None:
        """Carry output and input, and heed limits and cancels, until the container has ended and all its output is here."""
        self._running = True
        trouble: EngineGone | None = None
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump_quietly(output))
            helpers = [group.create_task(self._heed_cancel())]
            if self._to_feed:
                helpers.append(group.create_task(self._feed()))
            if self._begun.disk_bytes is not None:
                helpers.append(group.create_task(self._watch_disk(self._begun.disk_bytes)))
            try:
                await end.result()
                self._running = False
                async with asyncio.timeout(DRAIN_S):
                    trouble = await pump
            except EngineGone as error:
                trouble = error
            except TimeoutError:
                trouble = EngineGone("the output of a container that has ended does not come to its end")
            finally:
                for task in (pump, *helpers):
                    task.cancel()
        if trouble is not None:
            raise trouble
        self._whole = True

    async def _pump_quietly(self, output: Opened | None) -> EngineGone | None:
        """Carry output to its end; return what went wrong, for whoever waits for the end of the container."""
        if output is None:
            return None
        try:
            await self._pump(output)
        except EngineGone as error:
            return error
        except OSError as error:
            self._fail(f"its output cannot be written: {error.strerror}")
        return None

    async def _pump(self, output: Opened) -> None:
        assert self._output is not None
        self._splitter = Demultiplexer()
        async for pieces in output.output(self._splitter):
            self._output.take(pieces)
        self._output.finish()

    async def _feed(self) -> None:
        """Write the input files into the program's standard input, and close it.

        The way to it is opened only now: what has been opened to it once closes it for good when it goes.
        """
        self._to_feed = False
        container_record.add(self.directory, self.engine_name, feeding=True)
        self._cut_short = True
        try:
            opened = await self._engine.attach_input(self.container_id)
        except (EngineGone, EngineRefused) as error:
            if await self._may_run():  # and would wait for its input until its time is over
                self._fail(f"its standard input cannot be handed over: {error}")
            return
        try:
            if await self._write_input(opened.writer):
                self._cut_short = False
                container_record.add(self.directory, self.engine_name, fed=True)
                await self._forever()  # the connection goes with the run
        finally:
            await opened.close()

    async def _may_run(self) -> bool:
        try:
            state = await self._engine.state(self.container_id)
        except (EngineGone, EngineRefused):
            return True
        return state is not None and bool(state.get("Running"))

    async def _write_input(self, writer: asyncio.StreamWriter) -> bool:
        """Return whether the program has been given everything, or wants no more."""
        for path in self._begun.stdin_files:
            try:
                file = await asyncio.to_thread(job_places.open_input, self._data_dir, path)
            except (BadOrder, OSError) as error:
                self._fail(f"its standard input cannot be read: {path}: {error}")
                return False
            try:
                while data := await asyncio.to_thread(os.read, file, FEED_BYTES):
                    writer.write(data)
                    await writer.drain()
            except ConnectionError:
                return False  # the engine has hung up, since the program has ended
            except OSError as error:
                self._fail(f"its standard input cannot be read: {path}: {error.strerror}")
                return False
            finally:
                os.close(file)
        with contextlib.suppress(OSError):
            writer.write_eof()
        return True

    async def _forever(self) -> None:
        await asyncio.Event().wait()

    def _judge_input(self) -> None:
        """A program whose feeder is gone may have taken that for the end of its input."""
        if self._cut_short:
            self._fail("its standard input was cut short: the process that fed it was ended")

    async def _watch_disk(self, limit_bytes: int) -> None:
        pid = 0
        while not self._fault:
            began = time.monotonic()
            if not pid:
                with contextlib.suppress(EngineGone, EngineRefused):  # asked again
                    pid = int((await self._engine.state(self.container_id) or {}).get("Pid", 0))
            await asyncio.to_thread(self._count_files, limit_bytes, pid)
            took_s = time.monotonic() - began
            await asyncio.sleep(max(COUNT_EVERY_S, took_s / COUNTING_SHARE))

    def _count_files(self, limit_bytes: int, pid: int = 0) -> None:
        try:
            added = used_bytes(self.directory, besides="") - self._begun.before_bytes
            if pid:
                with contextlib.suppress(
                    OSError
                ):  # it has ended, and with it what had no name; or is not ours to look into
                    added += unnamed_bytes(pid, self.directory)
        except OSError as error:
            self._tell_fault(f"killed by the disk limit of {limit_bytes} bytes: its files cannot be counted ({error})")
            return
        if added > limit_bytes:
            self._tell_fault(f"killed by the disk limit of {limit_bytes} bytes: it had written {added}")

    async def _heed_cancel(self) -> None:
        """Once the run is to end, ask it to, and make it when its time is up; again and again, until it has ended."""
        await self._wanted.wait()
        asked = False
        while True:
            assert self._kill_at is not None
            left_s = self._kill_at - time.monotonic()
            if left_s <= 0:
                await self._kill("SIGKILL")
                await asyncio.sleep(KILL_AGAIN_S)
                continue
            if not asked:
                asked = True
                await self._kill("SIGTERM")
            self._wanted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._kill_at - time.monotonic())):
                    await self._wanted.wait()

    async def _kill(self, name: str) -> None:
        with contextlib.suppress(EngineGone, EngineRefused):  # it has ended meanwhile, or the next try tells
            await self._engine.kill(self.container_id, name)

    # ------------------------------------------------------------- its end

    def _fail(self, fault: str) -> None:
        """End the run at once: what it would leave could not be trusted."""
        if not self._fault:
            self._fault = fault
            with contextlib.suppress(OSError):  # a full disk may be why
                container_record.add(self.directory, self.engine_name, fault=fault)
            self._end_within(0.0)

    def _tell_fault(self, fault: str) -> None:
        self._loop_call(lambda: self._fail(fault))

    def _loop_call(self, act: Callable[[], None]) -> None:
        """Do something in the event loop, from a thread."""
        self.ended.get_loop().call_soon_threadsafe(act)

    def _would_shorten(self, grace_s: float) -> bool:
        return self._kill_at is None or time.monotonic() + grace_s < self._kill_at

    def _end_within(self, grace_s: float) -> None:
        if self._would_shorten(grace_s):
            self._kill_at = time.monotonic() + max(0.0, grace_s)
        self._wanted.set()

    async def _account(self, state: dict[str, Any]) -> dict[str, Any]:
        if self._begun.disk_bytes is not None and not self._fault:
            await asyncio.to_thread(self._count_files, self._begun.disk_bytes)
            await asyncio.sleep(0)  # what the thread has found is told in the loop
        cut = self._broken_off or (self._output.cut() if self._output is not None else [])
        around = Circumstances(
            memory_bytes=self._begun.memory_bytes,
            read_only_root=self._begun.read_only_root,
            program=self._begun.program,
            stderr_tail=captured_output.tail(self.directory, "stderr"),
            streams_cut=tuple(cut),
            streams_lost=bool(self._broken_off),
            fault=self._fault,
            cancelled=self._cancelled,
            shaken=self._shaken,
        )
        return account(state, around)

    def _finish(self, ended: dict[str, Any]) -> None:
        if self.ended.done():
            return
        if self._output is not None:
            self._output.close()
            self._output = None
        job_places.remove_secrets(self._begun.secrets_directory, self.directory, self.engine_name)
        with contextlib.suppress(OSError):  # the engine's own state says it again
            container_record.add(self.directory, self.engine_name, ended=ended)
        self.ended.set_result(ended)

    def _break_off(self) -> None:
        """What the program writes from here on is lost, and its streams must not pass for whole."""
        self._broken_off = ["stdout", "stderr", "logs"]
        with contextlib.suppress(OSError):  # its end says so as well
            captured_output.break_off(self.directory)

    def _renews_output(self) -> bool:
        try:
            self._renew_output()
        except OSError as error:
            self._fail(f"its logs cannot be written: {error.strerror}")
            return False
        return True

    def _renew_output(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None
        self._output = CapturedOutput(self.directory, self._begun.stream_bytes)


def _is_kept(splitter: Demultiplexer) -> bool:
    """Say whether the engine still has every byte of the output that was split."""
    return splitter.payload_bytes + splitter.frames * ENTRY_BYTES < ENGINE_LOG_BYTES


def _start_words(words: str) -> str:
    """Return why a container was not started, without the engine's own preamble."""
    return f"the container cannot be started: {words.rpartition('runtime create failed: ')[2].strip()}"
