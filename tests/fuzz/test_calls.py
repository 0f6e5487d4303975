"""A real daemon that is called with anything: only documented errors come back, and whoever is honest is served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp
import pytest

from rnd.api.method_table import build_table
from rnd.types import errors
from tests.figures import note_figures
from tests.fuzz.fuzzing import MEMORY_MAX, SEED
from tests.fuzz.mutation import RAW, Mutator
from tests.fuzz.schemas import Schemas
from tests.protocol.examples import ORCHESTRATOR
from tests.running_peer import RunningPeer, running_peer

CALLS: Final = int(os.environ.get("RND_TEST_FUZZ_CALLS", "10000"))
WARM_CALLS: Final = 500
AT_ONCE: Final = 8
HONEST_WITHIN_S: Final = 5.0
WAITING: Final = frozenset(
    {"execution.wait", "events.poll", "service.search", "workflow.plan", "peer.ping", "peer.connect", "peer.join"}
)
"""What waits for others, by design: called seldom."""
PROTOCOL_CODES: Final = frozenset({-32700, -32600, -32601, -32602})
CODES: Final = PROTOCOL_CODES | {
    kind.code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ApplicationError) and kind is not errors.ApplicationError
}


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[RunningPeer]:
    """A daemon with something of each kind in it, and no way to a file that is not the test's."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "a.txt").write_text("a\n")
    config = f'allowed_roots = ["{files}"]\n[limits]\ndisk_floor_bytes = 0\n'
    with running_peer(tmp_path / "daemon", config=config) as peer:
        yield peer


def furnish(peer: RunningPeer, files: Path) -> dict[str, list[Any]]:
    """Make what calls can name; return values by the names of parameters."""
    program, data = peer.program("cat", "cat"), peer.data("data", files / "a.txt")
    workflow = peer.workflow("flow")
    first, second = peer.node(workflow, data), peer.node(workflow, program)
    between, home = peer.connect(workflow, first, second), peer.connect(workflow, second, None)
    execution = peer.run(workflow)
    jobs = [job["job_execution_id"] for job in execution["jobs"]]
    assert peer.put("/upload/known", b"known")[0] == 201
    return {
        "service_id": [program, data],
        "workflow_id": [workflow],
        "node_id": [first, second],
        "from_node_id": [first, second, None],
        "to_node_id": [first, second, None],
        "connection_id": [between, home],
        "execution_id": [execution["id"]],
        "job_execution_id": jobs,
        "peer_id": [ORCHESTRATOR.peer_id, peer.call("node.status")["peer_id"], "*"],
        "peer_ids": [[ORCHESTRATOR.peer_id]],
        "addresses": [["127.0.0.1:1"], []],
        "paths": [[str(files)], [str(files / "a.txt")], ["upload:known"], ["/etc/passwd"]],
        "executable": ["/bin/true", "/bin/cat"],
        "name": ["known", "cat", "flow"],
        "timeout_s": [0, 0.01],
        "wait_s": [0],
        "limit": [1, 1000],
        "token": ["rnd_AAAA"],
    }


class Caller:
    """Calls a daemon again and again, by the socket, and judges each answer."""

    def __init__(self, peer: RunningPeer, mutator: Mutator, known: dict[str, list[Any]]) -> None:
        self._peer = peer
        self._mutator = mutator
        table = build_table()
        self._schemas = Schemas(table, known)
        self._quick = [name for name in table.methods if name not in WAITING]
        self.codes: Counter[int] = Counter()
        self.sent = 0

    def body(self) -> bytes:
        """Return the next request: most often one call, sometimes several, or what is no request."""
        random = self._mutator.random
        kind = random.random()
        if kind < 0.8:
            return self._request()
        if kind < 0.85:
            return b"[" + b",".join(self._request() for _ in range(random.choice((1, 2, 50, 51)))) + b"]"
        if kind < 0.9:
            return self._mutator.of_bytes(self._request(), other=self._request())
        if kind < 0.92:
            return random.choice(RAW).encode("utf-8", "surrogatepass")
        request = json.loads(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": random.choice(self._quick), "params": {"a": [1]}})
        )
        return self._mutator.of_json(request).encode("utf-8", "surrogatepass")

    async def send(self, session: aiohttp.ClientSession) -> None:
        """Send the next request and judge its answer."""
        body = self.body()
        self.sent += 1
        async with session.post("http://rnd/rpc", data=body) as response:
            answer = await response.read()
            assert response.status in (200, 204), (response.status, answer[:500], body[:2_000])
        if response.status == 204:
            assert answer == b""
            return
        said = json.loads(answer)
        for each in said if isinstance(said, list) else [said]:
            code = each["error"]["code"] if "error" in each else 0
            self.codes[code] += 1
            assert code == 0 or code in CODES, (each, body[:4_000])
            assert "result" in each or set(each["error"]) <= {"code", "message", "data"}

    def _request(self) -> bytes:
        random = self._mutator.random
        names = (random.choice(tuple(WAITING)),) if random.random() < 0.01 else self._quick
        method, named = self._schemas.call(self._mutator, names)
        text = json.dumps({"jsonrpc": "2.0", "id": self.sent, "method": method, "params": named})
        return re.sub(r'"@@([0-9]{1,3})@@"', lambda match: RAW[int(match[1]) % len(RAW)], text).encode(
            "utf-8", "surrogatepass"
        )


@contextlib.asynccontextmanager
async def by_socket(peer: RunningPeer) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(path=str(peer.socket_path), limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


def memory(peer: RunningPeer, which: str) -> int:
    """Return how many bytes of memory the daemon has (VmRSS), or has had at most since it was last asked (VmHWM)."""
    assert peer.process is not None
    process = Path(f"/proc/{peer.process.pid}")
    (kib,) = re.findall(rf"{which}:\s+(\d+) kB", (process / "status").read_text())
    (process / "clear_refs").write_text("5")
    return int(kib) << 10


async def honest(session: aiohttp.ClientSession, waits_s: list[float]) -> None:
    """Ask as an owner does, until cancelled."""
    while True:
        begun = time.monotonic()
        async with session.post("http://rnd/rpc", data=b'{"jsonrpc":"2.0","id":1,"method":"node.status"}') as response:
            assert "result" in json.loads(await response.read())
        waits_s.append(time.monotonic() - begun)
        await asyncio.sleep(0.05)


@pytest.mark.timeout(1_800)
def test_random_calls_are_answered_with_documented_errors(peer: RunningPeer, tmp_path: Path) -> None:
    caller = Caller(peer, Mutator(Random(f"calls {SEED}")), furnish(peer, tmp_path / "files"))
    waits_s: list[float] = []

    async def send_until(count: int, session: aiohttp.ClientSession) -> None:
        while caller.sent < count:
            await caller.send(session)

    async def play() -> tuple[int, int]:
        async with by_socket(peer) as session, by_socket(peer) as owners:
            await send_until(WARM_CALLS, session)
            before = memory(peer, "VmRSS")
            owner = asyncio.ensure_future(honest(owners, waits_s))
            async with asyncio.TaskGroup() as tasks:
                for _ in range(AT_ONCE):
                    tasks.create_task(send_until(CALLS, session))
            assert not owner.done(), owner
            owner.cancel()
            return before, memory(peer, "VmHWM")

    begun = time.monotonic()
    try:
        before, most = asyncio.run(play())
    except BaseException as error:
        error.add_note(f"request {caller.sent} of RND_TEST_FUZZ_SEED={SEED}")
        raise
    log = "\n".join(peer.log_lines())
    assert "Traceback" not in peer.stderr()
    assert not re.findall(r".*(?:error_id|INTERNAL).*", log)[:5]
    assert most - before <= MEMORY_MAX, (before, most)
    assert max(waits_s) < HONEST_WITHIN_S
    assert {0, -32602, 1000, 1100, 1200} <= set(caller.codes), caller.codes  # they get far enough to meet all of these
    note_figures(
        "fuzz",
        what="calls",
        runs=caller.sent,
        answers=sum(caller.codes.values()),
        succeeded=caller.codes[0],
        seed=SEED,
        seconds=round(time.monotonic() - begun, 1),
        grown=most - before,
        longest_wait_ms=round(max(waits_s) * 1000),
    )
