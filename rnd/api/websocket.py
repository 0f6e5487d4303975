"""One websocket connection: the same methods as over HTTP, and events pushed to those who subscribe.

Everything that is sent goes through one bounded queue and one writer. A client that takes nothing for `SEND_TIMEOUT_S`
is dropped with a reason (close code 1013 and a log line); until then only its own calls and subscriptions wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiohttp import WSMsgType, web

from rnd.api.auth import Caller, refuse_login
from rnd.api.context import ApiContext, Call
from rnd.api.envelope import Envelope
from rnd.api.events import Batch, Subscription
from rnd.log import get_logger
from rnd.rules.strict_json import encode
from rnd.types.enums import EventType, Scope
from rnd.types.errors import Conflict, LimitExceeded, NotFound
from rnd.types.ids import ExecutionId
from rnd.types.log_events import LogEvent
from rnd.types.times import to_text

HEARTBEAT_S: Final = 20.0
LOGIN_WITHIN_S: Final = 5.0
SEND_TIMEOUT_S: Final = 20.0
CLOSE_TIMEOUT_S: Final = 5.0
QUEUED_MESSAGES: Final = 256
CALLS_AT_ONCE: Final = 16
MAX_SUBSCRIPTIONS: Final = 16
MESSAGE_SLACK_BYTES: Final = 4096

GOING_AWAY: Final = 1001
TEXT_ONLY: Final = 1003
POLICY: Final = 1008
TRY_LATER: Final = 1013

log = get_logger()


class WebSocketSession:
    """Serves one connection until it ends. `caller` `None` on TCP: `auth.login` has to come first, and soon."""

    def __init__(
        self,
        api: ApiContext,
        envelope: Envelope,
        request: web.Request,
        *,
        scope: Scope | None,
        caller: Caller | None,
        on_login: Callable[[], None],
    ) -> None:
        self._api = api
        self._envelope = envelope
        self._request = request
        self._scope = scope
        self._caller = caller
        self._on_login = on_login
        self._ws = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S,
            compress=False,
            max_msg_size=api.config.limits.rpc_body_bytes + MESSAGE_SLACK_BYTES,
            timeout=CLOSE_TIMEOUT_S,
        )
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue(QUEUED_MESSAGES)
        self._places = asyncio.Semaphore(CALLS_AT_ONCE)
        self._subscriptions: dict[int, tuple[Subscription, asyncio.Task[None]]] = {}
        self._next_subscription = 1
        self._tasks: asyncio.TaskGroup | None = None
        self._ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._farewell: tuple[int, str] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def scope(self) -> Scope | None:
        """Return what the caller may do; `None`: not logged in."""
        return self._scope

    @property
    def response(self) -> web.WebSocketResponse:
        """Return what aiohttp wants back from the handler."""
        return self._ws

    async def run(self) -> web.WebSocketResponse:
        """Serve until the client leaves or is dropped; return the response for aiohttp.

        Raises `ExceptionGroup` for a fault of ours; the connection is over then.
        """
        await self._ws.prepare(self._request)
        forget = self._api.gate.on_revoke(self._token_revoked)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._watch_deadline()
                writer = tasks.create_task(self._write())
                closer = tasks.create_task(self._close_when_told())
                await self._read()
                self.end(GOING_AWAY, "")
                await closer
                # Calls that still run finish on their own, as they would over HTTP; nobody hears their answer.
                for task in (writer, *(task for _, task in self._subscriptions.values())):
                    task.cancel()
        finally:
            self._abort()
            forget()
            self._cancel_deadline()
            for subscription, _ in self._subscriptions.values():
                subscription.close()
        return self._ws

    def end(self, code: int, reason: str) -> None:
        """Close the connection soon, with a code and a reason; the first word holds."""
        if not self._ending.done():
            self._ending.set_result((code, reason))

    # ------------------------------------------------------------------ what methods ask of a session

    async def log_in(self, token: str) -> Scope:
        """Take the rights of a token. Raises `PermissionDenied`, after which the connection closes."""
        caller = await self._api.gate.admit(token)
        if caller is None:
            self._farewell = (POLICY, "the token is not valid")
            raise refuse_login()
        self._caller = caller
        self._scope = caller.scope
        self._on_login()
        self._watch_deadline()
        return caller.scope

    async def subscribe(
        self, *, types: Sequence[EventType], execution_id: ExecutionId | None, after_seq: int | None
    ) -> Mapping[str, object]:
        """Begin to send events. Raises `LimitExceeded`, `Conflict`."""
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise LimitExceeded(
                f"A connection holds at most {MAX_SUBSCRIPTIONS} subscriptions",
                hint="Unsubscribe first, or ask for several types in one subscription.",
            )
        if self._tasks is None or self._ending.done():
            raise Conflict("The connection is closing")
        hub = self._api.hub
        seq = await hub.newest_seq() if after_seq is None else after_seq
        number, self._next_subscription = self._next_subscription, self._next_subscription + 1
        subscription = hub.subscribe(types=types, execution_id=execution_id, after_seq=seq)
        self._subscriptions[number] = (subscription, self._tasks.create_task(self._push(number, subscription)))
        return {"subscription": number, "seq": seq}

    async def unsubscribe(self, subscription: int) -> None:
        """Stop sending. Raises `NotFound`."""
        found = self._subscriptions.pop(subscription, None)
        if found is None:
            raise NotFound(f"Subscription {subscription} not found", hint="events.subscribe answers with its number.")
        found[0].close()
        found[1].cancel()

    # ------------------------------------------------------------------ tasks of the connection

    async def _read(self) -> None:
        assert self._tasks is not None
        async for message in self._ws:
            if message.type is WSMsgType.ERROR:  # too long, or no websocket frames at all; aiohttp has said so
                self.end(POLICY, f"broken or too long a message: {message.data}")
                return
            if message.type is not WSMsgType.TEXT:
                self.end(TEXT_ONLY, "send JSON as text frames")
                return
            await self._places.acquire()
            task = self._tasks.create_task(self._answer(message.data))
            task.add_done_callback(lambda _: self._places.release())
            if self._scope is None:
                await task  # nothing is read ahead of the login

    async def _answer(self, text: str) -> None:
        call = Call(api=self._api, scope=self._scope, session=self)
        answer = await self._envelope.answer(text.encode("utf-8", errors="surrogatepass"), call)
        if answer is not None:
            await self._send(answer)
        if self._farewell is not None:
            self.end(*self._farewell)

    async def _push(self, number: int, subscription: Subscription) -> None:
        while True:
            for params in event_params(await subscription.next()):
                notification = {"jsonrpc": "2.0", "method": "event", "params": {"subscription": number, **params}}
                await self._send(encode(notification))

    async def _send(self, message: bytes) -> None:
        if self._ending.done():
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._outbox.put(message)
        except TimeoutError:
            self._too_slow()

    async def _write(self) -> None:
        while True:
            message = await self._outbox.get()
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await self._ws.send_str(message.decode("utf-8"))
            except TimeoutError:
                self._too_slow()
                return
            except (ConnectionError, RuntimeError):  # the client has gone; the reader notices as well
                self.end(GOING_AWAY, "")
                return
            self._outbox.task_done()

    async def _close_when_told(self) -> None:
        code, reason = await self._ending
        if reason:
            log.warning(LogEvent.REQUEST_REFUSED, status=code, reason=reason, remote=self._request.remote)
        try:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    if code != TRY_LATER and not self._ws.closed:
                        await self._outbox.join()
                    # No drain: in aiohttp a send that timed out leaves a cancelled future that any later drain raises.
                    await self._ws.close(code=code, message=reason.encode(), drain=False)
        finally:
            self._abort()

    # ------------------------------------------------------------------ ends

    def _abort(self) -> None:
        transport = self._request.transport
        if transport is not None:
            transport.abort()

    def _too_slow(self) -> None:
        self.end(TRY_LATER, f"too slow: took nothing for {SEND_TIMEOUT_S:g} s; come back with after_seq")

    def _token_revoked(self, token_id: int) -> None:
        if self._caller is not None and self._caller.token_id == token_id:
            self.end(POLICY, "the token was revoked")

    def _watch_deadline(self) -> None:
        self._cancel_deadline()
        later: Callable[..., asyncio.TimerHandle] = asyncio.get_running_loop().call_later
        if self._scope is None:
            self._expiry = later(LOGIN_WITHIN_S, self.end, POLICY, "no auth.login came within 5 s")
        elif self._caller is not None and self._caller.valid_until is not None:
            left_s = (self._caller.valid_until - self._api.clock.now()).total_seconds()
            self._expiry = later(min(max(left_s, 0.0), 1e6), self.end, POLICY, "the token has ended")

    def _cancel_deadline(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None


def event_params(batch: Batch) -> list[dict[str, object]]:
    """Return what a batch says, one object an event, as events.subscribe and events.poll give it.

    `events.dropped` tells that events were pruned before they could be sent; progress carries `durable: false`.
    """
    told: list[dict[str, object]] = []
    if batch.dropped is not None:
        told.append(
            {
                "seq": max(batch.dropped.oldest_seq - 1, 0),
                "time": None,
                "type": "events.dropped",
                "data": {"after_seq": batch.dropped.after_seq, "oldest_seq": batch.dropped.oldest_seq},
            }
        )
    told += [
        {"seq": event.seq, "time": to_text(event.time), "type": str(event.type), "data": event.data}
        for event in batch.events
    ]
    told += [
        {
            "seq": batch.seq,
            "time": to_text(progress.time),
            "type": "transfer.progress",
            "data": progress.data,
            "durable": False,
        }
        for progress in batch.progress
    ]
    return told
