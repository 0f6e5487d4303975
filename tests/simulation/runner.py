"""Runs seeds, each in a process of its own that is forked off and forgotten: what a crash leaves lying dies with it."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO, Final

from rnd.workers import durability
from tests.simulation.world import SCRATCH, Template, Verdict, World

SEED_SECONDS_MAX: Final = 120
"""Of the host's time; a world that takes longer is stuck."""

WARM_UP_SEED: Final = 3

Change = Callable[[], None]

_kept: list[World] = []


def run_seed(seed: int, template: Template, change: Change | None = None) -> Verdict:
    """Run one seed in a child process; `change` is done there first."""
    read_end, write_end = os.pipe()
    root = Path(tempfile.mkdtemp(prefix="rnd-world-", dir=SCRATCH))
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _be_the_child(seed, template, root, write_end, change)
    os.close(write_end)
    try:
        with open(read_end, "rb") as pipe:
            content = pipe.read()
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if not content:
        problem = f"the world ended without a word (status {status})"
        return Verdict(seed=seed, problems=[problem], log_hash="", counts=Counter())
    verdict = pickle.loads(content)
    assert isinstance(verdict, Verdict)
    return verdict


def _be_the_child(seed: int, template: Template, root: Path, write_end: int, change: Change | None) -> None:
    signal.alarm(SEED_SECONDS_MAX)
    gc.disable()  # what is dead must not come to its `finally` blocks
    try:
        if change is not None:
            change()
        verdict = World(seed, root, template).run()
    except BaseException:  # noqa: BLE001 - whatever it is, it is this seed's verdict
        verdict = Verdict(seed=seed, problems=[traceback.format_exc()], log_hash="", counts=Counter())
    if not verdict.problems:
        verdict.story = []
    data = pickle.dumps(verdict)
    with open(write_end, "wb") as pipe:
        pipe.write(data)
    os._exit(0)


class _AtOnce:
    """Flushes where it is asked to: the threads of a parent are not there in its child, and have no place in a simulation."""

    def submit(self, work: Callable[[int], None], descriptor: int) -> Future[None]:
        done: Future[None] = Future()
        done.set_result(work(descriptor))
        return done


def warm_up(template: Template) -> World:
    """Run a world in this process, so that its children find compiled and cached what every world needs."""
    gc.disable()  # what is left of it must not come to its end here either
    durability._flushing.threads = _AtOnce()  # type: ignore[assignment]  # flushes at once: no thread may run in a simulated world
    root = Path(tempfile.mkdtemp(prefix="rnd-world-", dir=SCRATCH))
    try:
        world = World(WARM_UP_SEED, root, template)
        world.run()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    gc.freeze()
    return world


def run_seeds(seeds: Iterable[int], change: Change | None = None) -> Iterator[Verdict]:
    """Run seeds one after the other."""
    with tempfile.TemporaryDirectory(prefix="rnd-template-", dir=SCRATCH) as folder:
        template = Template(Path(folder))
        _kept.append(warm_up(template))
        for seed in seeds:
            sys.stdout.flush()
            yield run_seed(seed, template, change)


def run_range(first: int, last: int, *, workers: int, change: Change | None = None) -> Iterator[Verdict]:
    """Run seeds `first` to `last` in so many processes; verdicts come as they are reached, `change` as for `run_seed`."""
    with contextlib.ExitStack() as stack:
        pipes = [_fork_worker(range(first + offset, last + 1, workers), change, stack) for offset in range(workers)]
        while pipes:
            for pipe in select.select(pipes, [], [])[0]:
                length = _read(pipe, 4)
                if length:
                    yield pickle.loads(_read(pipe, int.from_bytes(length, "big")))
                else:
                    pipes.remove(pipe)


def _fork_worker(seeds: Iterable[int], change: Change | None, stack: contextlib.ExitStack) -> BinaryIO:
    """Start a process that runs seeds, and return what it says; leaving the stack ends it."""
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # on the way out its folders are removed
        try:
            with contextlib.suppress(BrokenPipeError, SystemExit), open(write_end, "wb") as pipe:
                for verdict in run_seeds(seeds, change):
                    data = pickle.dumps(verdict)
                    pipe.write(len(data).to_bytes(4, "big") + data)
                    pipe.flush()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends now; nobody behind it is to hear of a signal
        finally:
            os._exit(0)
    os.close(write_end)
    stack.callback(_end, pid)
    return stack.enter_context(open(read_end, "rb", buffering=0))


def _read(pipe: BinaryIO, count: int) -> bytes:
    """Read so many bytes from a pipe without a buffer, in which `select` would not see them; less at its end."""
    content = b""
    while len(content) < count and (piece := pipe.read(count - len(content))):
        content += piece
    return content


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
