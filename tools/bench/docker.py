"""What rnd adds to a container: no-op runs through the executor, and the bare SDK's calls for the same, turn and turn about.

    python tools/bench/docker.py [--rounds 30] [--parallel 4] [--batches 8]

Bare means create, start, wait and remove of a container without network, with nothing else asked for. Both are measured one
at a time, then several at once: threads with the SDK, tasks with the executor. In turns, since what else the machine does
changes from second to second; medians, and the load, are printed. Needs an engine that runs and busybox (busybox-static).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
sys.path[0] = str(PROJECT)  # in place of this folder, where `docker` is this file

from docker import APIClient  # noqa: E402 - the project is not installed here

from rnd.services.docker_service import DockerExecutor  # noqa: E402 - the project is not installed here
from rnd.services.executor import Container, JobRun, Mount, Phase  # noqa: E402 - the project is not installed here
from rnd.types.ids import JobExecutionId  # noqa: E402 - the project is not installed here
from tests.docker.engine import IMAGE, connect, import_image  # noqa: E402 - the project is not installed here


def bare(client: APIClient, image_id: str) -> None:
    """Run one container as anybody would with the SDK."""
    body = {"Image": image_id, "Cmd": ["/bin/true"], "HostConfig": {"NetworkMode": "none"}}
    container_id = client.create_container_from_config(body)["Id"]
    client.start(container_id)
    client.wait(container_id)
    client.remove_container(container_id)


async def through_rnd(executor: DockerExecutor, data_dir: Path, image_id: str, number: int) -> None:
    """Run one container as a job has it: a folder, an output mount, captured streams, every wall."""
    directory = data_dir / "workflows/rnA/1/jobs/rnB" / str(number)
    run = JobRun(
        job_execution_id=JobExecutionId(number),
        attempt=1,
        engine_name=f"job-{number}-1",
        directory=directory,
        argv=(),
        env={"PATH": "/bin"},
        working_directory=directory / "output",
        container=Container(
            name=f"job-bench-{os.getpid()}-{number}",
            image=IMAGE,
            image_id=image_id,
            digest="",
            entrypoint=("/bin/true",),
            cmd=(),
            mounts=(Mount(source=directory / "output", target="/output", writable=True),),
            labels={"rnd.peer": "rnBENCH", "rnd.job": str(number), "rnd.attempt": "1"},
        ),
    )
    handle = await executor.submit(run)
    end = await executor.wait(handle)
    assert (end.phase, end.exit_code) == (Phase.EXITED, 0), end
    await executor.cleanup(handle)


async def measure(rounds: int, parallel: int, batches: int) -> None:
    """Measure and print."""
    client = connect()
    image_id = import_image(client)
    pool = ThreadPoolExecutor(parallel)
    loop = asyncio.get_running_loop()
    number = 0

    async def ours(count: int) -> float:
        nonlocal number
        numbers = range(number + 1, number + count + 1)
        number += count
        began = time.perf_counter()
        await asyncio.gather(*(through_rnd(executor, data_dir, image_id, each) for each in numbers))
        return time.perf_counter() - began

    async def theirs(count: int) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(loop.run_in_executor(pool, bare, client, image_id) for _ in range(count)))
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory(prefix="rnd-bench-docker-") as folder:
        data_dir = Path(folder)
        executor = DockerExecutor(data_dir)
        await ours(2)
        await theirs(2)
        for name, count, times in (("one at a time", 1, rounds), (f"{parallel} at once", parallel, batches)):
            taken: dict[str, list[float]] = {"bare": [], "rnd": []}
            for turn in range(times):
                for kind in ("bare", "rnd") if turn % 2 else ("rnd", "bare"):
                    taken[kind].append(await (ours if kind == "rnd" else theirs)(count) / count)
            medians = {kind: statistics.median(seconds) for kind, seconds in taken.items()}
            more = medians["rnd"] / medians["bare"] - 1
            spread = " ".join(f"{kind} {min(each):.3f}..{max(each):.3f}" for kind, each in taken.items())
            print(
                f"{name}: bare {medians['bare']:.3f} s, rnd {medians['rnd']:.3f} s a container, {more:+.1%}"
                f"  ({times} turns; {spread}; load {os.getloadavg()[0]:.1f})"
            )
        await executor.close()


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--batches", type=int, default=8)
    options = parser.parse_args()
    asyncio.run(measure(options.rounds, options.parallel, options.batches))


if __name__ == "__main__":
    main()
