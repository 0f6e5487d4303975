"""The HTTP server: a unix socket for the daemon's own user, loopback TCP for those who hold a token.

RPC-level errors are HTTP 200. 401, 403, 408, 413 and 415 are faults of the transport, answered before any method runs.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final
from weakref import WeakSet

from aiohttp import hdrs, web, web_response

from rnd.api import metrics
from rnd.api.auth import AllowList, Caller, allow_list, ensure_first_token, token_of_header
from rnd.api.context import ApiContext, Call
from rnd.api.designer import Designer
from rnd.api.downloads import requested_key, send_result
from rnd.api.envelope import Envelope
from rnd.api.figures import Figures
from rnd.api.method_table import build_table
from rnd.api.methods import error_data, may
from rnd.api.sockets import UnixListener, listen_tcp, listen_unix, take_over
from rnd.api.uploads import render_upload
from rnd.api.websocket import GOING_AWAY, WebSocketSession
from rnd.database.node_facts import delete_fact, set_fact
from rnd.log import get_logger
from rnd.p2p.http_faults import guard
from rnd.rules.strict_json import JsonObject, encode
from rnd.rules.upload_names import is_upload_name
from rnd.types.config import Config
from rnd.types.enums import Scope
from rnd.types.errors import ApplicationError, Conflict, LimitExceeded, NotFound, RndError, TransferFailed
from rnd.types.log_events import LogEvent

SOCKET_FILE: Final = "api.sock"
KEEPALIVE_S: Final = 30.0
"""A connection that has sent no whole request header for this long is closed."""
BODY_WITHIN_S: Final = 30.0
CHUNK_WITHIN_S: Final = 60.0
MAX_CONNECTIONS: Final = 256
SHUTDOWN_S: Final = 3.0
LINGER_S: Final = 2.0
"""How long the rest of a body is taken in that was refused, so that the client reads the refusal."""
UPLOAD_CHUNK_BYTES: Final = 256 << 10
PUBLIC_PATHS: Final = frozenset({"/", "/healthz", "/readyz"})
STATIC: Final = "/static/"
JSON_TYPES: Final = frozenset({"application/json", "application/json-rpc", "application/jsonrequest"})
"""What client libraries say of a call. A page of another origin can send none of them unless it is allowed to."""

log = get_logger()

# aiohttp names itself and its version in every answer where nothing else is said, also in those to what is no HTTP request,
# which reach no middleware and no signal.
web_response.SERVER_SOFTWARE = "rnd"  # type: ignore[attr-defined]  # it is a name that the module has imported

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admission:
    """What a request may do, and by whose token; the unix socket needs none."""

    scope: Scope | None
    caller: Caller | None = None


_ADMISSION: Final = web.RequestKey("admission", _Admission)


class TransportFault(Exception):
    """The request is turned away before any method runs."""

    def __init__(self, status: int, reason: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


class ApiServer:
    """Listens, checks who calls, and hands bytes to the envelope."""

    def __init__(self, api: ApiContext, passed: Sequence[socket.socket] = ()) -> None:
        """`passed` are sockets that a service manager listens at for it; what is not among them it opens itself."""
        self._api = api
        self._passed = passed
        self._designer = Designer()
        self._figures = Figures(api.database, api.clock)
        self.table = build_table()
        self._envelope = Envelope(
            self.table.entries(self._log_fault), max_batch=api.config.limits.rpc_batch, on_fault=self._log_fault
        )
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            # A body is what was sent: no decompression bombs, and the size limit is the sender's.
            auto_decompress=False,
            lingering_time=LINGER_S,
            shutdown_timeout=SHUTDOWN_S,
        )
        self._allowed: AllowList = AllowList(hosts=frozenset(), origins=frozenset())
        self._tcp_address: tuple[str, int] = ("", 0)
        self._unix: UnixListener | None = None
        self._servers: list[asyncio.Server] = []
        self.files_moving = 0
        """How many uploads and downloads are under way: what would have to begin anew if this ended now."""
        self._sessions: set[WebSocketSession] = set()
        self._admitted: WeakSet[asyncio.BaseTransport] = WeakSet()
        """The connections on which a token was shown, or that need none."""

    @property
    def url(self) -> str:
        """Return the URL of the TCP listener; "": there is none."""
        return self._api.endpoints.url

    @property
    def socket_path(self) -> str:
        """Return the path of the unix socket; "": not listening yet."""
        return self._api.endpoints.socket

    @property
    def open_websockets(self) -> int:
        """Return how many websocket connections are open."""
        return len(self._sessions)

    def allow(self, config: Config) -> None:
        """From now on let in whom this configuration allows."""
        host, port = self._tcp_address
        self._allowed = allow_list(
            (host, port), allowed_hosts=config.allowed_hosts, allowed_origins=config.allowed_origins
        )

    async def start(self) -> None:
        """Write the first token if there is none, and listen. Raises `AddressInUse`, `OSError`, `ValueError`."""
        api = self._api
        written = await ensure_first_token(api.config.data_dir, api.database, api.clock, api.entropy)
        if written is not None:
            log.info(LogEvent.API_TOKEN_CREATED, path=str(written))
        await api.uploads.sweep(starting=True)
        await self._figures.begin()
        await self._runner.setup()
        guard(self._runner.server)
        with ExitStack() as unused:  # both before anybody is answered: where one is taken, this daemon is none
            unix, sock = take_over(self._passed)
            if sock is None and api.config.api:
                sock = unused.enter_context(listen_tcp(api.config.api))
            self._unix = unix or listen_unix(api.config.data_dir / SOCKET_FILE, group=api.config.api_group)
            unused.pop_all()
        await self._serve(self._unix.sock)
        api.endpoints.socket = str(self._unix.path)
        log.info(LogEvent.API_LISTENING, address=api.endpoints.socket)
        if sock is None:
            return
        host, port = self._tcp_address = sock.getsockname()[:2]
        self.allow(api.config)
        await self._serve(sock)
        api.endpoints.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info(LogEvent.API_LISTENING, address=api.endpoints.url)

    async def run(self) -> None:
        """Feed events to subscribers, drop old uploads and measure until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._api.hub.run())
            tasks.create_task(self._api.uploads.run())
            tasks.create_task(self._figures.run())

    def close_doors(self) -> None:
        """Stop listening; who is connected already is still answered."""
        for server in self._servers:
            server.close()

    async def stop(self) -> None:
        """Stop listening, tell websockets, give running calls `SHUTDOWN_S`, and remove the socket file."""
        self.close_doors()
        for session in tuple(self._sessions):
            session.end(GOING_AWAY, "the daemon stops")
        await self._runner.cleanup()
        if self._unix is not None:
            self._unix.close()

    # ------------------------------------------------------------------ routes

    def _application(self) -> web.Application:
        application = web.Application(
            middlewares=[self._boundary], client_max_size=self._api.config.limits.rpc_body_bytes
        )
        application.add_routes(
            [
                web.get("/", self._designer.send_page),
                web.get(STATIC + "{name}", self._designer.send_file),
                web.post("/rpc", self._rpc),
                web.get("/ws", self._websocket, allow_head=False),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/results/{execution_id}/{node_id}/{connection_id}/{path:.+}", self._counted(self._result)),
                web.put("/upload/{name}", self._counted(self._upload)),
            ]
        )
        return application

    def _counted(self, handler: Handler) -> Handler:
        async def counted(request: web.Request) -> web.StreamResponse:
            self.files_moving += 1
            try:
                return await handler(request)
            finally:
                self.files_moving -= 1

        return counted

    async def _rpc(self, request: web.Request) -> web.StreamResponse:
        scope = request[_ADMISSION].scope
        if _is_tcp(request) and request.content_type not in JSON_TYPES:
            raise TransportFault(415, "Content-Type must be application/json")
        body = await self._read_body(request)
        answer = await self._envelope.answer(body, Call(api=self._api, scope=scope))
        if answer is None:
            return web.Response(status=204)
        return web.Response(body=answer, content_type="application/json")

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        session = WebSocketSession(
            self._api,
            self._envelope,
            request,
            scope=request[_ADMISSION].scope,
            caller=request[_ADMISSION].caller,
            on_login=partial(self._admit_connection, request),
        )
        self._sessions.add(session)
        try:
            return await session.run()
        except ExceptionGroup as faults:
            for fault in faults.exceptions:
                self._log_fault("websocket", fault)
            return session.response
        finally:
            self._sessions.discard(session)

    async def _result(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket")
        if not may(request[_ADMISSION].scope, Scope.READ) and not (ticket and self._opens(ticket, request)):
            raise _unauthorised()
        self._admit_connection(request)
        return await send_result(self._api, request)

    def _opens(self, ticket: str, request: web.Request) -> bool:
        """Tell whether a ticket opens this download; to ask what it would be (HEAD) does not use it up."""
        tickets, key = self._api.tickets, requested_key(request)
        return tickets.fits(ticket, key) if request.method == hdrs.METH_HEAD else tickets.redeem(ticket, key)

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        if not may(request[_ADMISSION].scope, Scope.OPERATE):
            raise TransportFault(403, "an upload needs a token of scope operate")
        name = request.match_info["name"]
        if not is_upload_name(name):
            return _json(
                400, {"error": "INVALID_PARAMS", "hint": "A name has 1 to 128 of A-Za-z0-9._- and no leading dot."}
            )
        try:
            upload = await self._api.uploads.receive(name, _chunks(request), announced_bytes=request.content_length)
        except Conflict as error:
            return _json(409, error_data(error))
        except LimitExceeded as error:
            return _json(413, error_data(error))
        return _json(201, render_upload(upload))

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(5):
                await self._api.database.write(_touch_a_row)
        except (RndError, TimeoutError):
            return web.Response(status=503, text="not ready\n")
        return web.Response(text="ready\n")

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        text = await metrics.exposition(self._api, self._figures)
        return web.Response(text=text, headers={hdrs.CONTENT_TYPE: metrics.CONTENT_TYPE})

    # ------------------------------------------------------------------ the boundary of one request

    @web.middleware
    async def _boundary(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            await self._admit(request)
            response = await handler(request)
        except TransportFault as fault:
            log.warning(LogEvent.REQUEST_REFUSED, status=fault.status, reason=fault.reason, remote=request.remote or "")
            response = _json(fault.status, {"error": "TRANSPORT", "hint": fault.reason}, headers=fault.headers)
        except NotFound as error:
            response = _json(404, error_data(error))
        except web.HTTPException as error:
            response = _json(error.status, {"error": "TRANSPORT", "hint": error.reason}, headers=_allow(error))
        except ConnectionError:
            response = web.Response(status=400)  # the client has gone; nobody will read this
        except TransferFailed as error:
            response = _json(500, {**error_data(error), "message": error.message})
        except ApplicationError as error:
            response = _json(400, error_data(error))
        except Exception as error:  # noqa: BLE001 - the boundary of one request: what went wrong stays in the log
            error_id = self._log_fault(f"{request.method} {request.path}", error)
            response = _json(500, {"error": "INTERNAL", "error_id": error_id})
        if not response.prepared:
            response.headers.setdefault("X-Content-Type-Options", "nosniff")
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    async def _admit(self, request: web.Request) -> None:
        """Set what the caller may do (`_ADMISSION`), or raise `TransportFault`."""
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
            raise TransportFault(415, "a compressed body is not taken")
        if not _is_tcp(request):
            request[_ADMISSION] = _Admission(scope=Scope.ADMIN)
            self._admit_connection(request)
            return
        if not self._allowed.admits_host(request.headers.getall(hdrs.HOST, [])):
            raise TransportFault(403, "this Host is not allowed (allowed_hosts)")
        if not self._allowed.admits_origin(request.headers.getall(hdrs.ORIGIN, [])):
            raise TransportFault(403, "this Origin is not allowed (allowed_origins)")
        caller = await self._caller(request)
        request[_ADMISSION] = _Admission(scope=None if caller is None else caller.scope, caller=caller)
        # Two ways in have a proof of their own: auth.login as a websocket's first message, a ticket for a download.
        ticketed = request.path.startswith("/results/") and "ticket" in request.query
        public = request.path in PUBLIC_PATHS or request.path.startswith(STATIC)
        open_path = public or request.path == "/ws" or ticketed
        if caller is None and not open_path:
            raise _unauthorised()
        if caller is not None:
            self._admit_connection(request)

    def _admit_connection(self, request: web.Request) -> None:
        if request.transport is not None:
            self._admitted.add(request.transport)

    async def _caller(self, request: web.Request) -> Caller | None:
        header = request.headers.get(hdrs.AUTHORIZATION)
        if header is None:
            return None
        caller = await self._api.gate.admit(token_of_header(header))
        if caller is None:
            raise _unauthorised()
        return caller

    async def _read_body(self, request: web.Request) -> bytes:
        limit = self._api.config.limits.rpc_body_bytes
        if request.content_length is not None and request.content_length > limit:
            raise TransportFault(413, f"a request has at most {limit} bytes")
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise TransportFault(413, f"a request has at most {limit} bytes") from None
        except TimeoutError:
            raise TransportFault(408, "the body did not come in time", headers={"Connection": "close"}) from None

    # ------------------------------------------------------------------ private

    async def _serve(self, sock: socket.socket) -> None:
        self._servers.append(
            await asyncio.get_running_loop().create_server(partial(self._connection, sock.family), sock=sock)
        )

    def _connection(self, family: socket.AddressFamily) -> asyncio.Protocol:
        """Make the protocol of a new connection. Each listener has its own limit: strangers cannot use up the socket's.

        Where there are too many, the oldest gives way on which nobody has shown a token: who has one needs a moment, whoever
        sends a byte a second wants to stay.
        """
        server = self._runner.server
        if server is None:
            return _TurnedAway()
        transports = [handler.transport for handler in server.connections]
        alike = [each for each in transports if each is not None and _family(each) == family and not each.is_closing()]
        if len(alike) >= MAX_CONNECTIONS:
            oldest = next((each for each in alike if each not in self._admitted), None)
            if oldest is None:
                return _TurnedAway()
            oldest.abort()
        return server()

    def _log_fault(self, method: str, error: BaseException) -> str:
        error_id = self._api.entropy.random_bytes(8).hex()
        log.error(LogEvent.REQUEST_FAILED, method=method, error_id=error_id, exc_info=error)
        return error_id


class _TurnedAway(asyncio.Protocol):
    """A connection beyond the limit: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(CHUNK_WITHIN_S):
                chunk = await request.content.read(UPLOAD_CHUNK_BYTES)
        except TimeoutError:
            raise TransportFault(408, "the body did not come in time", headers={"Connection": "close"}) from None
        if not chunk:
            return
        yield chunk


def _touch_a_row(conn: sqlite3.Connection) -> None:
    """Prove that the database takes writes; nothing is left of it."""
    set_fact(conn, "readyz", "1")
    delete_fact(conn, "readyz")


def _is_tcp(request: web.Request) -> bool:
    return _family(request.transport) != socket.AF_UNIX


def _family(transport: asyncio.BaseTransport | None) -> socket.AddressFamily | None:
    """Return the address family of a connection; `None` where it is gone, which is treated as the strictest kind."""
    sock = None if transport is None else transport.get_extra_info("socket")
    return None if sock is None else sock.family


def _unauthorised() -> TransportFault:
    return TransportFault(401, "a valid token is needed", headers={"WWW-Authenticate": 'Bearer realm="rnd"'})


def _json(status: int, content: JsonObject, *, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=encode(content), content_type="application/json", headers=headers)


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
