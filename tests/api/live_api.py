"""An API server in the test's own process: real rows, files and sockets. Nothing is run in it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from rnd.api.auth import TicketBook, TokenGate
from rnd.api.context import ApiContext
from rnd.api.events import EventHub
from rnd.api.server import ApiServer
from rnd.api.sockets import connect_unix
from rnd.api.uploads import UploadStore
from rnd.database.connection import Database
from rnd.rules.peer_id import peer_id_from_key
from rnd.services.data_service import DataService
from rnd.services.executor import Executor
from rnd.services.image_pulls import ImagePulls
from rnd.services.images import Images
from rnd.services.service_secrets import ServiceSecrets
from rnd.services.standalone_service import StandaloneExecutor
from rnd.services.vault import load_vault
from rnd.types.config import Config, Limits
from rnd.types.ids import ExecutionUid, TransferId
from tests.api.peer_desk import DeskInMemory

T = TypeVar("T")

PEER_ID = peer_id_from_key(bytes(range(32)))


class TestClock:
    """The real clock, which a test may set forward."""

    __test__ = False

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self.ahead_s, UTC)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


class SystemEntropy:
    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def new_execution_uid(self) -> ExecutionUid:
        return ExecutionUid(os.urandom(16).hex())

    def new_transfer_id(self) -> TransferId:
        return TransferId(str(uuid.uuid4()))


class Absent:
    """Stands where a manager would: runs are tested with a whole daemon (test_run_methods), not here."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a test of rows has asked a manager for {name}")


class RpcError(AssertionError):
    """The server answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(json.dumps(error))
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: dict[str, Any] = error.get("data") or {}


class LiveApi:
    """One server and its parts. Clients: `call` over the unix socket, `http` for anything else."""

    def __init__(
        self, config: Config, *, images: Images | None = None, executors: dict[str, Executor] | None = None
    ) -> None:
        self.config = config
        self.clock = TestClock()
        self.entropy = SystemEntropy()
        self.database = Database.open(config.data_dir / "rnd.db")
        self.vault = load_vault(config.data_dir, self.entropy)
        self.data_service = DataService(
            database=self.database, clock=self.clock, entropy=self.entropy, config=config, vault=self.vault
        )
        self.hub = EventHub(self.database, self.clock)
        self.peers = DeskInMemory(self.database, self.clock, PEER_ID)
        self.images = images
        self.executors: dict[str, Executor] = {"standalone": StandaloneExecutor(config.data_dir), **(executors or {})}
        self.context = self._context()
        self.server = ApiServer(self.context)
        self._ids = itertools.count(1)
        self._unix = aiohttp.ClientSession(connector=_UnixConnector(config.data_dir / "api.sock"))
        self.http = aiohttp.ClientSession()

    def _context(self) -> ApiContext:
        config, database, clock = self.config, self.database, self.clock
        return ApiContext(
            config=config,
            name="alpha",
            peer_id=PEER_ID,
            started_at=clock.now(),
            started_at_s=clock.monotonic(),
            database=database,
            clock=clock,
            entropy=self.entropy,
            workflow_manager=Absent(),  # type: ignore[arg-type]  # nothing is run here
            job_manager=Absent(),  # type: ignore[arg-type]  # nothing is run here
            peers=self.peers,
            data_service=self.data_service,
            vault=self.vault,
            secrets=ServiceSecrets(database, self.vault),
            pulls=None if self.images is None else ImagePulls(images=self.images, database=database, clock=clock),
            executors=self.executors,
            hub=self.hub,
            gate=TokenGate(database, clock),
            tickets=TicketBook(clock, self.entropy),
            uploads=UploadStore(config.data_dir / "uploads", database, clock, config.limits),
        )

    # ---- clients

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def token(self) -> str:
        return (self.config.data_dir / "api_token").read_text().strip()

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Send raw bytes to /rpc over the unix socket; return status and body."""
        async with self._unix.post("http://rnd/rpc", data=body) as response:
            return response.status, await response.read()

    async def call(self, method: str, /, **params: Any) -> Any:
        """Call a method over the unix socket. Raises `RpcError`."""
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        status, body = await self.post(json.dumps(request).encode())
        assert status == 200, (status, body)
        answer = json.loads(body)
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def unix(self, method: str, path: str, **more: Any) -> Any:
        """Make any request over the unix socket."""
        return self._unix.request(method, f"http://rnd{path}", **more)

    def tcp(self, method: str, path: str, *, token: str | None = None, **more: Any) -> Any:
        """Make any request over TCP; `token` goes into the header."""
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.http.request(method, self.url + path, headers=headers, **more)

    def websocket(self, **more: Any) -> Any:
        """Open a websocket over the unix socket."""
        return self._unix.ws_connect("http://rnd/ws", **more)

    async def refusal(self, method: str, /, **params: Any) -> RpcError:
        """Return the error that a call is refused with."""
        try:
            answer = await self.call(method, **params)
        except RpcError as error:
            return error
        raise AssertionError(f"{method} was not refused: {answer}")

    async def close(self) -> None:
        await self._unix.close()
        await self.http.close()
        await self.server.stop()
        self.data_service.close()
        await self.database.close()


class _UnixConnector(aiohttp.BaseConnector):
    """Connects to a unix socket whose path may be longer than a socket address."""

    def __init__(self, path: Path) -> None:
        super().__init__(limit=100)
        self._path = path

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        sock = connect_unix(self._path)
        sock.setblocking(False)
        _, protocol = await asyncio.get_running_loop().create_unix_connection(self._factory, sock=sock)
        return protocol


@contextlib.asynccontextmanager
async def serving(
    data_dir: Path,
    *,
    limits: Limits | None = None,
    images: Images | None = None,
    executors: dict[str, Executor] | None = None,
    **config: Any,
) -> AsyncIterator[LiveApi]:
    """Serve an API below `data_dir` for the time of a test."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    small = Limits(disk_floor_bytes=0) if limits is None else limits
    known = Config(data_dir=data_dir, api="127.0.0.1:0", limits=small)
    api = LiveApi(replace(known, **config), images=images, executors=executors)
    running: asyncio.Task[None] | None = None
    try:
        await api.server.start()
        running = asyncio.create_task(api.server.run())
        yield api
    finally:
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await api.close()


def run_with_api(data_dir: Path, test: Callable[[LiveApi], Awaitable[T]], **more: Any) -> T:
    """Run an async test against a server of its own."""

    async def run() -> T:
        async with serving(data_dir, **more) as api:
            async with asyncio.timeout(60):
                return await test(api)

    return asyncio.run(run())
