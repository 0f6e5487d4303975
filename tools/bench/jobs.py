"""How much a job costs: 1,000 independent no-op STANDALONE jobs and a chain of 100, beside other ways to run them.

    python tools/bench/jobs.py [--rounds 5] [--jobs 1000] [--chain 100] [--only rnd,bare]

Every round runs all contenders one after another on the same machine, in changing order; the table gives medians and
the ratio to the bare asyncio-subprocess loop of the same run. `confined` is rnd with every program confined. dask.distributed and parsl take part where they are
installed: both call `subprocess.run` in a worker, `parsl-bash` is parsl's own way to run a program, its streams kept in files. Nothing here is a test: machines differ, ratios less so.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import contextlib
import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(PROJECT))

from tests.running_peer import RunningPeer, running_peer  # noqa: E402 - the project is not installed here

NOOP = shutil.which("true") or "/bin/true"
CAT = shutil.which("cat") or "/bin/cat"
PARALLEL = os.cpu_count() or 2
# Nothing is deleted before the end: ext4 searches long for free inodes for half a minute after many were given back.
KEPT = tempfile.mkdtemp(prefix="rnd-bench-")
atexit.register(shutil.rmtree, KEPT, ignore_errors=True)


def bare_jobs(count: int) -> float:
    """Run no-ops by asyncio's subprocesses, as many at once as there are processors."""

    async def work() -> None:
        places = asyncio.Semaphore(PARALLEL)

        async def one() -> None:
            async with places:
                process = await asyncio.create_subprocess_exec(NOOP)
                assert await process.wait() == 0

        await asyncio.gather(*(one() for _ in range(count)))

    begun = time.perf_counter()
    asyncio.run(work())
    return time.perf_counter() - begun


def bare_chain(count: int) -> float:
    """Run `cat` after `cat`, each on the output file of the one before."""

    async def work(folder: Path) -> None:
        previous = folder / "0"
        previous.write_text("seed\n")
        for number in range(1, count + 1):
            following = folder / str(number)
            with previous.open("rb") as source, following.open("wb") as target:
                process = await asyncio.create_subprocess_exec(CAT, stdin=source, stdout=target)
                assert await process.wait() == 0
            previous = following
        assert previous.read_text() == "seed\n"

    folder = tempfile.mkdtemp(dir=KEPT)
    begun = time.perf_counter()
    asyncio.run(work(Path(folder)))
    return time.perf_counter() - begun


def make_jobs(count: int) -> float:
    """Run no-ops by `make -j`."""
    names = " ".join(f"t{number}" for number in range(count))
    return _make(f".PHONY: all {names}\nall: {names}\n{names}:\n\t@{NOOP}\n", f"-j{PARALLEL}")


def make_chain(count: int) -> float:
    """Run `cat` after `cat` by make."""
    rules = "".join(f"{number}: {number - 1}\n\t@{CAT} {number - 1} > {number}\n" for number in range(1, count + 1))
    return _make(f"all: {count}\n0:\n\t@echo seed > 0\n{rules}", "-j1")


def _make(makefile: str, *arguments: str) -> float:
    folder = tempfile.mkdtemp(dir=KEPT)
    Path(folder, "Makefile").write_text(makefile)
    begun = time.perf_counter()
    subprocess.run(["make", "-s", *arguments], cwd=folder, check=True)
    return time.perf_counter() - begun


def _call(path: str) -> int:
    import subprocess  # parsl sends the function without its module

    return subprocess.run([path], check=True).returncode


def _call_after(path: str, _: int) -> int:
    return subprocess.run([path], check=True).returncode


def dask_jobs(count: int) -> float:
    """Run no-ops by dask.distributed with worker processes."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=PARALLEL, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        Client(cluster) as client,
    ):
        client.submit(_call, NOOP, pure=False).result()
        begun = time.perf_counter()
        client.gather([client.submit(_call, NOOP, pure=False) for _ in range(count)])
        return time.perf_counter() - begun


def dask_chain(count: int) -> float:
    """Run no-ops in a row by dask.distributed with worker processes."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=PARALLEL, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        Client(cluster) as client,
    ):
        client.submit(_call, NOOP, pure=False).result()
        begun = time.perf_counter()
        future = client.submit(_call, NOOP, pure=False)
        for _ in range(count - 1):
            future = client.submit(_call_after, NOOP, future, pure=False)
        future.result()
        return time.perf_counter() - begun


def _command(path: str, stdout: str | None = None, stderr: str | None = None) -> str:
    del stdout, stderr  # parsl itself reads them from the call
    return path


def parsl_jobs(count: int) -> float:
    """Run no-ops as a function of ours, in worker processes of parsl's high-throughput executor; nothing is kept."""
    import parsl

    with _parsl():
        app = parsl.python_app(_call)
        app(NOOP).result()
        begun = time.perf_counter()
        for future in [app(NOOP) for _ in range(count)]:
            future.result()
        return time.perf_counter() - begun


def parsl_commands(count: int) -> float:
    """Run no-ops as parsl runs programs, with their streams kept in files."""
    import parsl

    with _parsl() as folder:
        app = parsl.bash_app(_command)
        app(NOOP).result()
        begun = time.perf_counter()
        futures = [app(NOOP, stdout=f"{folder}/{each}.out", stderr=f"{folder}/{each}.err") for each in range(count)]
        for future in futures:
            future.result()
        return time.perf_counter() - begun


@contextlib.contextmanager
def _parsl():  # type: ignore[no-untyped-def]  # a generator of its folder; the tools are not part of the typed package
    """Have parsl's high-throughput executor there, with as many worker processes as there are processors."""
    import parsl
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    # parsl starts scripts of its own by name
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    folder = tempfile.mkdtemp(dir=KEPT)
    with contextlib.chdir(folder):
        executor = HighThroughputExecutor(
            label="htex",
            address="127.0.0.1",
            loopback_address="127.0.0.1",
            max_workers_per_node=PARALLEL,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        parsl.load(Config(executors=[executor], run_dir=folder, usage_tracking=0))
        try:
            yield folder
        finally:
            parsl.dfk().cleanup()
            parsl.clear()


def rnd_jobs(count: int, confine: str = "auto") -> float:
    """Run no-ops as one workflow of a peer; from `workflow.execute` to COMPLETED."""
    with _peer() as peer:
        service = _service(peer, NOOP, confine)
        workflow = peer.workflow("noops")
        for _ in range(count):
            peer.node(workflow, service)
        begun = time.perf_counter()
        execution = peer.run(workflow, timeout_s=600)
        took = time.perf_counter() - begun
        assert execution["status"] == "COMPLETED", execution["error"]
        assert len(execution["jobs"]) == count
        return took


def rnd_chain(count: int, confine: str = "auto") -> float:
    """Run `cat` after `cat` as one workflow of a peer, each fed with the output of the one before."""
    with _peer() as peer:
        service = _service(peer, CAT, confine)
        workflow = peer.workflow("chain")
        previous = peer.node(workflow, service)
        for _ in range(count - 1):
            node = peer.node(workflow, service)
            peer.connect(workflow, previous, node)
            previous = node
        begun = time.perf_counter()
        execution = peer.run(workflow, timeout_s=600)
        took = time.perf_counter() - begun
        assert execution["status"] == "COMPLETED", execution["error"]
        return took


def _service(peer: RunningPeer, executable: str, confine: str) -> int:
    offered = peer.call(
        "service.create", name="measured", service_type="STANDALONE", executable=executable, confine=confine
    )
    return int(offered["id"])


@contextlib.contextmanager
def _peer():  # type: ignore[no-untyped-def]  # a generator of RunningPeer; the tools are not part of the typed package
    folder = tempfile.mkdtemp(dir=KEPT)
    with running_peer(Path(folder, "peer"), env={"RND_QUEUE_INTERVAL_S": "10", "RND_STATUS_INTERVAL_S": "10"}) as peer:
        assert isinstance(peer, RunningPeer)
        yield peer


Contender = tuple[str, Callable[[int], float], Callable[[int], float] | None]
CONTENDERS: list[Contender] = [
    ("bare", bare_jobs, bare_chain),
    ("make", make_jobs, make_chain),
    ("rnd", rnd_jobs, rnd_chain),
    ("confined", functools.partial(rnd_jobs, confine="always"), functools.partial(rnd_chain, confine="always")),
    ("dask", dask_jobs, dask_chain),
    ("parsl", parsl_jobs, None),
    ("parsl-bash", parsl_commands, None),
]


def _installed(name: str) -> bool:
    if name == "make":
        return shutil.which("make") is not None
    module = {"dask": "distributed", "parsl": "parsl", "parsl-bash": "parsl"}.get(name)
    if module is None:
        return True
    from importlib.util import find_spec

    return find_spec(module) is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--chain", type=int, default=100)
    parser.add_argument("--only", default="", help="contenders, separated by commas")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [name for name, _, _ in CONTENDERS]
    contenders = [contender for contender in CONTENDERS if contender[0] in wanted and _installed(contender[0])]
    for name in wanted:
        if not _installed(name):
            print(f"{name} is not installed and takes no part", file=sys.stderr)
    jobs: dict[str, list[float]] = {}
    chains: dict[str, list[float]] = {}
    for number in range(options.rounds):
        order = contenders[number % len(contenders) :] + contenders[: number % len(contenders)]
        for name, run_jobs, run_chain in order:
            jobs.setdefault(name, []).append(run_jobs(options.jobs))
            if run_chain is not None:
                chains.setdefault(name, []).append(run_chain(options.chain))
            print(f"round {number + 1}: {name} {jobs[name][-1]:.2f} s", file=sys.stderr)
    print(f"| contender | {options.jobs} no-ops, s | ratio | chain of {options.chain}, s | ms a hop over bare |")
    print("|---|---|---|---|---|")
    for name, _, _ in contenders:
        took = statistics.median(jobs[name])
        ratio = took / statistics.median(jobs["bare"]) if "bare" in jobs else float("nan")
        chain, over = "", ""
        if name in chains:
            seconds = statistics.median(chains[name])
            chain = f"{seconds:.2f}"
            if "bare" in chains:
                over = f"{(seconds - statistics.median(chains['bare'])) / options.chain * 1000:.1f}"
        print(f"| {name} | {took:.2f} | {ratio:.2f} | {chain} | {over} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
