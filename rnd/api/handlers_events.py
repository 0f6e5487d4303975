"""Methods that tell what happens as it happens, and that let a websocket log in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from rnd.api.context import Call, Session
from rnd.api.rendering import JsonMembers
from rnd.api.websocket import event_params
from rnd.types.enums import EventType
from rnd.types.errors import Conflict
from rnd.types.ids import ExecutionId


async def events_subscribe(
    call: Call,
    *,
    types: Sequence[EventType],
    execution_id: ExecutionId | None = None,
    after_seq: int | None = None,
) -> Mapping[str, object]:
    """Answer `events.subscribe`: what follows `after_seq` (default: from now on) comes as notifications."""
    return await _session(call).subscribe(types=types, execution_id=execution_id, after_seq=after_seq)


async def events_unsubscribe(call: Call, *, subscription: int) -> JsonMembers:
    """Answer `events.unsubscribe`."""
    await _session(call).unsubscribe(subscription)
    return {"unsubscribed": True, "subscription": subscription}


async def events_poll(
    call: Call,
    *,
    after_seq: int,
    types: Sequence[EventType],
    execution_id: ExecutionId | None = None,
    wait_s: float,
) -> JsonMembers:
    """Answer `events.poll`: what followed `after_seq`, at once if there is any, else within `wait_s`."""
    subscription = call.api.hub.subscribe(types=types, execution_id=execution_id, after_seq=after_seq)
    try:
        batch = await subscription.poll()
        if not batch.events and not batch.dropped and wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    batch = await subscription.next()
            except TimeoutError:
                batch = await subscription.poll()
    finally:
        subscription.close()
    return {"items": event_params(batch), "next_seq": batch.seq}


async def auth_login(call: Call, *, token: str) -> JsonMembers:
    """Answer `auth.login`: a websocket that could not send a header takes the rights of a token."""
    return {"scope": await _session(call).log_in(token)}


def _session(call: Call) -> Session:
    if call.session is None:
        raise Conflict(
            "This method needs a websocket",
            hint="Connect to /ws; over HTTP use events.poll and the Authorization header.",
        )
    return call.session
