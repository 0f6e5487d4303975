"""Events reach those who asked, once, in order and from where they left off; slow clients hold up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rnd.api import events as api_events
from rnd.api import websocket as api_websocket
from rnd.api.events import EventHub
from rnd.api.sockets import connect_unix
from rnd.database.connection import Database
from rnd.database.events import prune_events, record_event
from rnd.types.enums import EventType
from rnd.types.ids import ExecutionId, TransferId
from tests.api.live_api import LiveApi, TestClock, run_with_api


class Client:
    """A websocket client: calls, and events put aside until they are asked for."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.events: list[dict[str, Any]] = []
        self._id = 0

    async def call(self, method: str, /, **params: Any) -> Any:
        self._id += 1
        await self.ws.send_json({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params})
        while True:
            message = await self.ws.receive_json(timeout=20)
            if message.get("id") == self._id:
                return message.get("result", message.get("error"))
            self.events.append(message["params"])

    async def event(self) -> dict[str, Any]:
        if not self.events:
            message = await self.ws.receive_json(timeout=20)
            assert message["method"] == "event"
            assert "id" not in message
            self.events.append(message["params"])
        return self.events.pop(0)

    async def closed(self) -> tuple[int | None, str]:
        """Wait for the end of the connection; return its code and reason."""
        reason = ""
        while True:
            message = await self.ws.receive(timeout=20)
            if message.type is aiohttp.WSMsgType.CLOSE:
                reason = message.extra or ""
            if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR):
                return self.ws.close_code, reason


async def record(database: Database, event_type: EventType, *, execution_id: int | None = None, **data: object) -> int:
    """Commit one event."""
    now = TestClock().now()
    which = None if execution_id is None else ExecutionId(execution_id)
    return await database.write(lambda conn: record_event(conn, event_type, data, execution_id=which, now=now))


# ---------------------------------------------------------------- subscriptions


def test_a_subscriber_is_told_what_is_committed_from_now_on(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        await api.call("workflow.create", name="before")
        async with api.websocket() as ws:
            client = Client(ws)
            subscribed = await client.call("events.subscribe")
            assert subscribed["seq"] > 0
            created = await api.call("workflow.create", name="after")
            told = await client.event()
            assert told["type"] == "workflow.updated"
            assert told["data"] == {"workflow_id": created["id"], "change": "created"}
            assert told["subscription"] == subscribed["subscription"]
            assert told["seq"] > subscribed["seq"]
            assert told["time"].endswith("Z")

    run_with_api(tmp_path / "data", test)


def test_whoever_comes_back_misses_nothing(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        for number in range(5):
            await api.call("workflow.create", name=f"w{number}")
        async with api.websocket() as ws:
            client = Client(ws)
            await client.call("events.subscribe", after_seq=0)
            first = [(await client.event())["seq"] for _ in range(3)]
        for number in range(5):
            await api.call("workflow.create", name=f"v{number}")
        async with api.websocket() as ws:
            client = Client(ws)
            await client.call("events.subscribe", after_seq=first[-1])
            rest = [(await client.event())["seq"] for _ in range(7)]
        assert first + rest == list(range(1, 11))

    run_with_api(tmp_path / "data", test)


def test_nothing_is_lost_or_repeated_while_events_pour_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_events, "PAGE", 7)
    monkeypatch.setattr(api_events, "RECENT_EVENTS", 20)
    count = 300

    async def read(api: LiveApi, pause: bool) -> list[int]:
        async with api.websocket() as ws:
            client = Client(ws)
            await client.call("events.subscribe", after_seq=0)
            seqs = []
            for _ in range(count):
                seqs.append((await client.event())["seq"])
                if pause:
                    await asyncio.sleep(0)
            return seqs

    async def test(api: LiveApi) -> None:
        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(read(api, pause)) for pause in (False, True, False)]
            for number in range(count):
                tasks.create_task(record(api.database, EventType.JOB_UPDATED, number=number))
        for reader in readers:
            assert reader.result() == list(range(1, count + 1))

    run_with_api(tmp_path / "data", test)


def test_a_subscription_is_narrowed_by_type_and_execution(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with api.websocket() as ws:
            client = Client(ws)
            types = await client.call("events.subscribe", types=["job.updated"])
            one = await client.call("events.subscribe", execution_id=7)
            await record(api.database, EventType.EXECUTION_UPDATED, execution_id=7, what="execution 7")
            await record(api.database, EventType.JOB_UPDATED, execution_id=8, what="job of 8")
            await record(api.database, EventType.JOB_UPDATED, execution_id=7, what="job of 7")
            told = [await client.event() for _ in range(4)]
            by_subscription = {
                number: [event["data"]["what"] for event in told if event["subscription"] == number]
                for number in (types["subscription"], one["subscription"])
            }
            assert by_subscription[types["subscription"]] == ["job of 8", "job of 7"]
            assert by_subscription[one["subscription"]] == ["execution 7", "job of 7"]

    run_with_api(tmp_path / "data", test)


def test_a_subscriber_is_told_that_events_are_gone(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        for number in range(10):
            await record(api.database, EventType.JOB_UPDATED, number=number)
        await api.database.write(lambda conn: prune_events(conn, 3))
        async with api.websocket() as ws:
            client = Client(ws)
            await client.call("events.subscribe", after_seq=2)
            told = await client.event()
            assert told["type"] == "events.dropped"
            assert told["data"] == {"after_seq": 2, "oldest_seq": 8}
            assert [(await client.event())["seq"] for _ in range(3)] == [8, 9, 10]
        polled = await api.call("events.poll", after_seq=2)
        assert [item["type"] for item in polled["items"]] == ["events.dropped"] + ["job.updated"] * 3
        assert polled["next_seq"] == 10

    run_with_api(tmp_path / "data", test)


def test_a_seq_of_another_life_is_told_as_a_gap(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        await record(api.database, EventType.JOB_UPDATED)
        polled = await api.call("events.poll", after_seq=500)
        assert polled["items"][0]["type"] == "events.dropped"
        assert polled["next_seq"] == 1

    run_with_api(tmp_path / "data", test)


def test_unsubscribing_ends_it(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with api.websocket() as ws:
            client = Client(ws)
            subscribed = await client.call("events.subscribe")
            ended = await client.call("events.unsubscribe", subscription=subscribed["subscription"])
            assert ended["unsubscribed"] is True
            await record(api.database, EventType.JOB_UPDATED)
            await client.call("node.status")
            assert client.events == []
            again = await client.call("events.unsubscribe", subscription=subscribed["subscription"])
            assert again["code"] == 1000

    run_with_api(tmp_path / "data", test)


def test_a_connection_holds_so_many_subscriptions_and_no_more(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with api.websocket() as ws:
            client = Client(ws)
            for _ in range(api_websocket.MAX_SUBSCRIPTIONS):
                assert "subscription" in await client.call("events.subscribe")
            assert (await client.call("events.subscribe"))["code"] == 1700

    run_with_api(tmp_path / "data", test)


def test_a_subscription_from_beyond_the_newest_event_is_told_so_and_goes_on(tmp_path: Path) -> None:
    """The client speaks of another life of this database; it must not wait for a number that comes in years."""

    async def test(api: LiveApi) -> None:
        await record(api.database, EventType.JOB_UPDATED)
        async with api.websocket() as other, api.websocket() as ws:
            first = Client(other)
            await first.call("events.subscribe", after_seq=0)  # somebody keeps the hub awake, and it has caught up
            assert (await first.event())["seq"] == 1
            client = Client(ws)
            await client.call("events.subscribe", after_seq=500)
            told = await client.event()
            assert (told["type"], told["data"]) == ("events.dropped", {"after_seq": 500, "oldest_seq": 1})
            new = await record(api.database, EventType.JOB_UPDATED)
            assert (await client.event())["seq"] == new

    run_with_api(tmp_path / "data", test)


@pytest.mark.parametrize("params", [{"types": ["job.exploded"]}, {"types": "job.updated"}, {"after_seq": -1}])
def test_wrong_subscriptions_are_refused(tmp_path: Path, params: dict[str, Any]) -> None:
    async def test(api: LiveApi) -> None:
        async with api.websocket() as ws:
            assert (await Client(ws).call("events.subscribe", **params))["code"] == -32602

    run_with_api(tmp_path / "data", test)


def test_over_http_subscribing_is_refused_with_the_way_to_go(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        error = await api.refusal("events.subscribe")
        assert error.code == 1200
        assert "events.poll" in error.data["hint"]

    run_with_api(tmp_path / "data", test)


# ---------------------------------------------------------------- polling


def test_a_poll_returns_at_once_what_is_there(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        await api.call("workflow.create", name="w")
        polled = await api.call("events.poll", after_seq=0, wait_s=25)
        assert [item["seq"] for item in polled["items"]] == [1]
        assert polled["next_seq"] == 1
        assert await api.call("events.poll", after_seq=1) == {"items": [], "next_seq": 1}

    run_with_api(tmp_path / "data", test)


def test_a_poll_waits_for_news_that_it_is_about(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        waiting = asyncio.create_task(api.call("events.poll", after_seq=0, wait_s=25, types=["job.updated"]))
        await api.call("workflow.create", name="not this")
        await record(api.database, EventType.JOB_UPDATED, job=5)
        polled = await waiting
        assert [item["data"] for item in polled["items"]] == [{"job": 5}]
        assert polled["next_seq"] == 2

    run_with_api(tmp_path / "data", test)


def test_a_poll_without_news_ends_when_its_time_is_up_past_what_it_is_not_about(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        await api.call("workflow.create", name="not this")
        polled = await api.call("events.poll", after_seq=0, wait_s=0.05, types=["job.updated"])
        assert polled == {"items": [], "next_seq": 1}
        assert (await api.refusal("events.poll", after_seq=0, wait_s=26)).code == -32602
        assert (await api.refusal("events.poll")).data["parameter"] == "after_seq"

    run_with_api(tmp_path / "data", test)


# ---------------------------------------------------------------- progress


def test_progress_is_told_four_times_a_second_a_transfer_and_never_stored(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        before = await record(api.database, EventType.JOB_UPDATED)
        async with api.websocket() as ws:
            client = Client(ws)
            await client.call("events.subscribe", after_seq=0)
            assert (await client.event())["seq"] == before
            for step in range(9):
                api.clock.ahead_s += 0.125
                for name in ("a", "b"):
                    publish(api.hub, name, bytes_done=step)
                await asyncio.sleep(0.01)
            await record(api.database, EventType.JOB_UPDATED)
            told = []
            while not told or told[-1]["type"] != "job.updated":
                told.append(await client.event())
            steps = {
                name: [event["data"]["bytes_done"] for event in told[:-1] if event["data"]["transfer_id"] == name]
                for name in ("a", "b")
            }
            assert steps == {"a": [0, 2, 4, 6, 8], "b": [0, 2, 4, 6, 8]}
            assert all(event["durable"] is False and event["seq"] == before for event in told[:-1])
            assert told[-1]["seq"] == before + 1

    run_with_api(tmp_path / "data", test)


def publish(hub: EventHub, name: str, *, execution_id: int | None = None, **data: object) -> None:
    which = None if execution_id is None else ExecutionId(execution_id)
    hub.publish_progress(TransferId(name), data, execution_id=which)


def test_progress_goes_only_to_those_it_is_about(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with api.websocket() as ws:
            client = Client(ws)
            await client.call("events.subscribe", types=["job.updated"])
            await client.call("events.subscribe", execution_id=8)
            await client.call("events.subscribe", execution_id=7, types=["transfer.progress"])
            publish(api.hub, "a", execution_id=7, bytes_done=1)
            told = await client.event()
            assert (told["subscription"], told["data"]) == (3, {"transfer_id": "a", "bytes_done": 1})
            await client.call("node.status")
            assert client.events == []

    run_with_api(tmp_path / "data", test)


def test_of_progress_that_was_not_taken_the_newest_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        clock = TestClock()
        database = Database.open(tmp_path / "rnd.db")
        try:
            hub = EventHub(database, clock)
            subscription = hub.subscribe(types=(), execution_id=None, after_seq=0)
            for step in range(1000):
                clock.ahead_s += 1
                publish(hub, "a", bytes_done=step)
            batch = await subscription.next()
            assert [dict(progress.data) for progress in batch.progress] == [{"transfer_id": "a", "bytes_done": 999}]
            subscription.close()
            publish(hub, "a", bytes_done=1000)
        finally:
            await database.close()

    asyncio.run(run())


# ---------------------------------------------------------------- logging in


async def knock(api: LiveApi, **headers: str) -> aiohttp.ClientWebSocketResponse:
    return await api.http.ws_connect(api.url + "/ws", headers=headers)


def test_over_tcp_a_header_or_the_first_message_opens_the_websocket(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with await knock(api, Authorization=f"Bearer {api.token}") as ws:
            assert (await Client(ws).call("node.status"))["name"] == "alpha"
        async with await knock(api) as ws:
            client = Client(ws)
            assert (await client.call("node.status"))["code"] == 1600
            assert await client.call("auth.login", token=api.token) == {"scope": "admin"}
            assert (await client.call("node.status"))["name"] == "alpha"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await knock(api, Authorization="Bearer wrong")
        assert refused.value.status == 401

    run_with_api(tmp_path / "data", test)


def test_a_wrong_login_is_answered_and_the_connection_closed(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with await knock(api) as ws:
            client = Client(ws)
            error = await client.call("auth.login", token="wrong")
            assert (error["code"], error["data"]["error"]) == (1600, "PERMISSION_DENIED")
            code, reason = await client.closed()
            assert (code, reason) == (1008, "the token is not valid")

    run_with_api(tmp_path / "data", test)


def test_without_a_login_the_connection_is_closed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_websocket, "LOGIN_WITHIN_S", 0.05)

    async def test(api: LiveApi) -> None:
        async with await knock(api) as ws:
            code, reason = await Client(ws).closed()
            assert code == 1008
            assert "auth.login" in reason

    run_with_api(tmp_path / "data", test)


def test_a_revoked_or_ended_token_closes_its_websockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(api: LiveApi) -> None:
        created = await api.call("token.create", name="t", scope="read")
        async with await knock(api, Authorization=f"Bearer {created['token']}") as ws:
            await Client(ws).call("node.status")
            await api.call("token.revoke", token_id=created["id"])
            assert await Client(ws).closed() == (1008, "the token was revoked")
        short = await api.call("token.create", name="short", scope="read", valid_s=1)
        async with await knock(api, Authorization=f"Bearer {short['token']}") as ws:
            assert await Client(ws).closed() == (1008, "the token has ended")

    run_with_api(tmp_path / "data", test)


# ---------------------------------------------------------------- rough clients


def test_a_binary_message_ends_the_connection(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with api.websocket() as ws:
            await ws.send_bytes(b"{}")
            assert (await Client(ws).closed())[0] == 1003

    run_with_api(tmp_path / "data", test)


def test_too_long_a_message_ends_the_connection(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with api.websocket(max_msg_size=0) as ws:
            with contextlib.suppress(ConnectionError):
                await ws.send_str(" " * (api.config.limits.rpc_body_bytes + 4097))
            assert (await Client(ws).closed())[0] in (1006, 1009)
        assert (await api.call("node.status"))["name"] == "alpha"

    run_with_api(tmp_path / "data", test)


@pytest.mark.parametrize("text", ["", "{", "[]", "[1]", "NaN", '"\\ud800"', "null"])
def test_nonsense_is_answered_and_the_connection_lives_on(tmp_path: Path, text: str) -> None:
    async def test(api: LiveApi) -> None:
        async with api.websocket() as ws:
            await ws.send_str(text)
            answer = json.loads((await ws.receive(timeout=20)).data)
            assert (answer[0] if isinstance(answer, list) else answer)["error"]["code"] in (-32700, -32600)
            assert (await Client(ws).call("node.status"))["name"] == "alpha"

    run_with_api(tmp_path / "data", test)


def test_a_long_call_does_not_hold_up_others_of_the_connection(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with api.websocket() as ws:
            poll = {"jsonrpc": "2.0", "id": "slow", "method": "events.poll", "params": {"after_seq": 0, "wait_s": 20}}
            await ws.send_json(poll)
            client = Client(ws)
            assert (await client.call("node.status"))["name"] == "alpha"
            await record(api.database, EventType.JOB_UPDATED)
            assert (await ws.receive_json(timeout=20))["id"] == "slow"

    run_with_api(tmp_path / "data", test)


def test_a_client_that_takes_nothing_is_dropped_with_a_reason_and_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api_websocket, "SEND_TIMEOUT_S", 3.0)
    monkeypatch.setattr(api_websocket, "CLOSE_TIMEOUT_S", 0.2)

    def open_deaf(path: Path) -> socket.socket:
        """Return a websocket that has subscribed and never reads again."""
        sock = connect_unix(path)
        sock.settimeout(20)
        sock.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 101")
        call = b'{"jsonrpc":"2.0","method":"events.subscribe","params":{"after_seq":0}}'
        sock.sendall(bytes([0x81, 0x80 | len(call)]) + b"\0\0\0\0" + call)
        return sock

    async def test(api: LiveApi) -> None:
        deaf = await asyncio.to_thread(open_deaf, api.config.data_dir / "api.sock")
        with deaf:
            async with api.websocket() as ws:
                client = Client(ws)
                await client.call("events.subscribe", after_seq=0)
                for number in range(40):
                    seq = await record(api.database, EventType.JOB_UPDATED, number=number, filler="x" * 100_000)
                    assert (await client.event())["seq"] == seq
            while api.server.open_websockets:
                await asyncio.sleep(0.02)

    run_with_api(tmp_path / "data", test)
    logged = capsys.readouterr()
    assert "too slow" in logged.out + logged.err


def test_stopping_tells_websockets_that_the_daemon_goes(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with api.websocket() as ws:
            client = Client(ws)
            await client.call("node.status")
            stopping = asyncio.create_task(api.server.stop())
            assert await client.closed() == (1001, "the daemon stops")
            await stopping

    run_with_api(tmp_path / "data", test)
