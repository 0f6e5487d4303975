"""What is turned away before any method runs, and how: tokens, Host, Origin, sizes, types, slow and broken clients."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rnd.api import server as api_server
from rnd.api.auth import allow_list, token_of_header
from rnd.api.sockets import connect_unix
from rnd.types.config import Limits
from rnd.types.errors import AddressInUse
from tests.api.live_api import LiveApi, run_with_api, serving

STATUS = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "node.status"}).encode()
JSON = {"Content-Type": "application/json"}


async def post(api: LiveApi, body: bytes = STATUS, *, token: str | None = None, **headers: str) -> tuple[int, Any]:
    """POST /rpc over TCP; header names are given with underscores."""
    given = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with api.tcp("POST", "/rpc", token=token, data=body, headers=given) as response:
        raw = await response.read()
        return response.status, json.loads(raw) if raw else None


def raw_exchange(sock: socket.socket, request: bytes) -> bytes:
    """Send bytes as they are and return all that comes until the server closes."""
    sock.settimeout(20)
    with contextlib.suppress(ConnectionError):
        sock.sendall(request)
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(65536):
            received += piece
    return received


def raw_tcp(api: LiveApi, request: bytes) -> bytes:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        return raw_exchange(sock, request)


# ---------------------------------------------------------------- tokens


def test_the_first_token_is_written_for_the_owner_alone_and_opens_the_api(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        mode = os.stat(api.config.data_dir / "api_token").st_mode
        assert stat.S_IMODE(mode) == 0o600
        assert len(api.token) > 40
        status, answer = await post(api, token=api.token)
        assert status == 200
        assert answer["result"]["name"] == "alpha"
        listed = await api.call("token.list")
        assert [(item["name"], item["scope"]) for item in listed["items"]] == [("first", "admin")]
        assert api.token not in json.dumps(listed)

    run_with_api(tmp_path / "data", test)


def test_the_first_token_is_made_once_and_stays_gone_when_it_is_deleted(tmp_path: Path) -> None:
    async def first(api: LiveApi) -> str:
        return api.token

    token = run_with_api(tmp_path / "data", first)
    assert run_with_api(tmp_path / "data", first) == token
    (tmp_path / "data" / "api_token").unlink()

    async def second(api: LiveApi) -> None:
        assert not (api.config.data_dir / "api_token").exists()
        assert (await post(api, token=token))[0] == 200

    run_with_api(tmp_path / "data", second)


def test_without_a_valid_token_nothing_is_answered_over_tcp(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        wrong = [
            "",
            "Bearer",
            "Bearer x",
            f"Bearer {api.token}x",
            f"Token {api.token}",
            "Basic !!!",
            "Bearer " + "a" * 5000,
        ]
        wrong += ["Basic " + base64.b64encode(text).decode() for text in (b"user", b"user:", b"user:x", b"\xff:\xff")]
        for header in wrong:
            status, answer = await post(api, Authorization=header)
            assert (status, answer["error"]) == (401, "TRANSPORT"), header
        for path in ("/rpc", "/metrics", "/results/1/1/1/a", "/upload/x", "/nowhere"):
            async with api.tcp("GET", path) as response:
                assert response.status == 401, path
                assert "Bearer" in response.headers["WWW-Authenticate"]

    run_with_api(tmp_path / "data", test)


def test_basic_authentication_takes_the_token_as_password(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        basic = base64.b64encode(f"anyone:{api.token}".encode()).decode()
        assert (await post(api, Authorization=f"Basic {basic}"))[0] == 200
        assert (await post(api, Authorization=f"bearer {api.token}"))[0] == 200

    run_with_api(tmp_path / "data", test)


def test_a_token_never_counts_in_a_url(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        for query in (f"?token={api.token}", f"?access_token={api.token}", f"?ticket={api.token}"):
            async with api.tcp("POST", "/rpc" + query, data=STATUS, headers=JSON) as response:
                assert response.status == 401, query
            async with api.tcp("GET", "/metrics" + query) as response:
                assert response.status == 401, query

    run_with_api(tmp_path / "data", test)


def test_each_scope_does_what_it_may_and_no_more(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        tokens = {}
        for scope in ("read", "operate", "admin"):
            created = await api.call("token.create", name=scope, scope=scope)
            tokens[scope] = created["token"]
        allowed = {"read": 1, "operate": 2, "admin": 3}
        calls = [("workflow.list", {}), ("workflow.create", {"name": "w"}), ("token.list", {})]
        for scope, count in allowed.items():
            for position, (method, params) in enumerate(calls):
                body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
                status, answer = await post(api, body, token=tokens[scope])
                assert status == 200
                assert ("result" in answer) == (position < count), (scope, method)
                if position >= count:
                    assert answer["error"]["data"]["error"] == "PERMISSION_DENIED"
        async with api.tcp("PUT", "/upload/x", token=tokens["read"], data=b"x") as response:
            assert response.status == 403

    run_with_api(tmp_path / "data", test)


def test_a_revoked_token_is_worthless_at_once(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        created = await api.call("token.create", name="t", scope="read")
        assert (await post(api, token=created["token"]))[0] == 200
        revoked = await api.call("token.revoke", token_id=created["id"])
        assert revoked["revoked_at"]
        assert "token" not in revoked
        assert (await post(api, token=created["token"]))[0] == 401
        assert (await api.refusal("token.revoke", token_id=99)).code == 1000

    run_with_api(tmp_path / "data", test)


def test_a_token_ends_when_its_time_is_up(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        created = await api.call("token.create", name="t", scope="read", valid_s=60)
        assert (await post(api, token=created["token"]))[0] == 200
        api.clock.ahead_s = 61
        assert (await post(api, token=created["token"]))[0] == 401

    run_with_api(tmp_path / "data", test)


def test_a_revocation_by_hand_holds_within_seconds(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        created = await api.call("token.create", name="t", scope="read")
        assert (await post(api, token=created["token"]))[0] == 200
        await api.database.write(
            lambda conn: (
                conn.execute("UPDATE api_tokens SET revoked_at = '2026-01-01 00:00:00' WHERE name = 't'") and None
            )
        )
        api.clock.ahead_s = 6
        assert (await post(api, token=created["token"]))[0] == 401

    run_with_api(tmp_path / "data", test)


def test_a_token_name_is_taken_once(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        assert (await api.refusal("token.create", name="first", scope="read")).code == 1200
        assert (await api.refusal("token.create", name="t", scope="root")).code == -32602
        assert (await api.refusal("token.create", name="t", scope="read", valid_s=0)).code == -32602

    run_with_api(tmp_path / "data", test)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer ", "Digest abc", "Basic ===", "Basic YQ==", "Basic é", "Basic \udcff"]
)
def test_headers_without_a_token_give_none(header: str | None) -> None:
    assert token_of_header(header) is None


# ---------------------------------------------------------------- Host and Origin


def test_only_listed_hosts_are_served_over_tcp(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        port = api.url.rpartition(":")[2]
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", f"[::1]:{port}"):
            assert (await post(api, token=api.token, Host=host))[0] == 200, host
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", "localhost:1", "", f"127.0.0.1.evil:{port}"):
            assert (await post(api, token=api.token, Host=host))[0] == 403, host
        async with api.tcp("GET", "/healthz", headers={"Host": "evil.example"}) as response:
            assert response.status == 403

    run_with_api(tmp_path / "data", test)


def test_two_hosts_or_none_are_refused(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        host = api.url.removeprefix("http://").encode()
        two = b"GET /healthz HTTP/1.1\r\nHost: %s\r\nHost: evil\r\nConnection: close\r\n\r\n" % host
        none = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"
        for request in (two, none):
            answer = await asyncio.to_thread(raw_tcp, api, request)
            assert answer.split()[1] in (b"400", b"403")

    run_with_api(tmp_path / "data", test)


def test_only_listed_origins_are_served_over_tcp(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        port = api.url.rpartition(":")[2]
        for origin in (f"http://localhost:{port}", api.url, "https://designer.example"):
            assert (await post(api, token=api.token, Origin=origin))[0] == 200, origin
        for origin in (
            "http://evil.example",
            "null",
            f"https://localhost:{port}",
            "http://localhost",
            "http://localhost:1",
        ):
            assert (await post(api, token=api.token, Origin=origin))[0] == 403, origin

    run_with_api(tmp_path / "data", test, allowed_origins=("https://designer.example",))


def test_a_websocket_from_another_origin_is_refused_before_the_upgrade(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        headers = {"Authorization": f"Bearer {api.token}", "Origin": "http://evil.example"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await api.http.ws_connect(api.url + "/ws", headers=headers)
        assert refused.value.status == 403

    run_with_api(tmp_path / "data", test)


def test_configured_hosts_count_with_and_without_the_port() -> None:
    listed = allow_list(("0.0.0.0", 30069), allowed_hosts=("peer.example", "other.example:80"))
    for host in ("peer.example", "Peer.Example:30069", "other.example:80", "localhost:30069"):
        assert listed.admits_host([host]), host
    for host in ("other.example", "other.example:30069", "0.0.0.0:30069", "peer.example:1"):
        assert not listed.admits_host([host]), host
    assert allow_list(("192.0.2.1", 1)).admits_host(["192.0.2.1:1"])
    assert allow_list(("::1", 80)).admits_host(["[::1]"])


def test_the_unix_socket_asks_for_no_token_host_or_type(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with api.unix("POST", "/rpc", data=STATUS, headers={"Content-Type": "text/plain"}) as response:
            assert response.status == 200
        headers = {"Host": "evil.example", "Origin": "http://evil.example"}
        async with api.unix("POST", "/rpc", data=STATUS, headers=headers) as response:
            assert response.status == 200
            assert response.headers["Server"] == "rnd"

    run_with_api(tmp_path / "data", test)


# ---------------------------------------------------------------- bodies


def test_tcp_insists_on_json(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", "multipart/form-data"):
            status, _ = await post(api, token=api.token, Content_Type=kind)
            assert status == 415, kind
        for kind in ("application/json; charset=utf-8", "application/json-rpc", "application/jsonrequest"):
            assert (await post(api, token=api.token, Content_Type=kind))[0] == 200, kind

    run_with_api(tmp_path / "data", test)


def test_a_compressed_body_is_refused_and_never_unpacked(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        assert (await post(api, token=api.token, Content_Encoding="gzip"))[0] == 415
        async with api.unix("POST", "/rpc", data=STATUS, headers={"Content-Encoding": "deflate"}) as response:
            assert response.status == 415

    run_with_api(tmp_path / "data", test)


def test_a_body_is_taken_up_to_the_limit_and_no_further(tmp_path: Path) -> None:
    async def chunks(size: int) -> Any:
        for at in range(0, size, 65536):
            yield b" " * min(65536, size - at)

    async def test(api: LiveApi) -> None:
        limit = api.config.limits.rpc_body_bytes
        status, _ = await api.post(STATUS + b" " * (limit - len(STATUS)))
        assert status == 200
        too_long = io.BytesIO(STATUS + b" " * (limit - len(STATUS) + 1))
        async with api.unix("POST", "/rpc", data=too_long) as response:
            assert response.status == 413
        async with api.unix("POST", "/rpc", data=chunks(limit + 1)) as response:
            assert response.status == 413

    run_with_api(tmp_path / "data", test)


def test_rpc_level_errors_are_http_200_and_notifications_204(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        assert (await api.post(b"{"))[0] == 200
        assert (await api.post(b'{"jsonrpc":"2.0","id":1,"method":"nope"}'))[0] == 200
        assert await api.post(b'{"jsonrpc":"2.0","method":"node.status"}') == (204, b"")
        assert await api.post(b'[{"jsonrpc":"2.0","method":"node.status"}]') == (204, b"")

    run_with_api(tmp_path / "data", test)


def test_other_paths_and_methods_are_refused_without_detail(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        for method, path, status in (
            ("GET", "/rpc", 405),
            ("GET", "/nope", 404),
            ("POST", "/", 405),
            ("PUT", "/upload/a/b", 404),
        ):
            async with api.unix(method, path) as response:
                assert response.status == status, path

    run_with_api(tmp_path / "data", test)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 1000,
        b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
def test_garbage_is_turned_away_and_the_next_client_is_served(tmp_path: Path, garbage: bytes) -> None:
    def exchange(path: Path) -> bytes:
        with connect_unix(path) as sock:
            sock.settimeout(20)
            with contextlib.suppress(ConnectionError):
                sock.sendall(garbage)
                sock.shutdown(socket.SHUT_WR)
            received = b""
            with contextlib.suppress(ConnectionError):
                while piece := sock.recv(65536):
                    received += piece
            return received

    async def test(api: LiveApi) -> None:
        answer = await asyncio.to_thread(exchange, api.config.data_dir / "api.sock")
        assert answer == b"" or answer.split()[1].startswith(b"4")
        assert (await api.call("node.status"))["name"] == "alpha"

    run_with_api(tmp_path / "data", test)


@pytest.mark.parametrize(
    "wrong",
    [
        b"GET /\x9a HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer a_lost_token\0\r\n",
        b"PUT /upload/a HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-\xd1\r\n",
        b"GET /nowhere HTTP/1.1\r\nExpect: 100-\xd1\r\n",
        b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: \x8a\r\n",
    ],
)
def test_what_is_no_http_is_not_repeated_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: bytes
) -> None:
    def exchange(path: Path) -> bytes:
        with connect_unix(path) as sock:
            return raw_exchange(sock, wrong + b"Host: x\r\n\r\n")

    async def test(api: LiveApi) -> None:
        answer = await asyncio.to_thread(exchange, api.config.data_dir / "api.sock")
        assert answer.split()[1] == b"400"

    run_with_api(tmp_path / "data", test)
    assert caplog.records == []


def test_a_body_that_never_comes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "BODY_WITHIN_S", 0.1)
    request = b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"

    def exchange(path: Path) -> bytes:
        with connect_unix(path) as sock:
            return raw_exchange(sock, request)

    async def test(api: LiveApi) -> None:
        answer = await asyncio.to_thread(exchange, api.config.data_dir / "api.sock")
        assert answer.startswith(b"HTTP/1.1 408")

    run_with_api(tmp_path / "data", test)


def test_a_client_that_never_ends_its_header_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "KEEPALIVE_S", 0.1)

    def exchange(path: Path) -> bytes:
        with connect_unix(path) as sock:
            return raw_exchange(sock, b"POST /rpc HTTP/1.1\r\nHost:")

    async def test(api: LiveApi) -> None:
        assert await asyncio.to_thread(exchange, api.config.data_dir / "api.sock") == b""

    run_with_api(tmp_path / "data", test)


def test_connections_past_the_limit_are_closed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "MAX_CONNECTIONS", 3)

    def exchange(path: Path) -> bytes:
        with contextlib.ExitStack() as open_ones:
            held = [open_ones.enter_context(connect_unix(path)) for _ in range(3)]
            for sock in held:
                sock.settimeout(20)
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert sock.recv(1000).startswith(b"HTTP/1.1 200")
            with connect_unix(path) as one_more:
                return raw_exchange(one_more, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")

    async def test(api: LiveApi) -> None:
        assert await asyncio.to_thread(exchange, api.config.data_dir / "api.sock") == b""

    run_with_api(tmp_path / "data", test)


# ---------------------------------------------------------------- pages without methods


def test_health_needs_no_token_and_tells_no_detail(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        for path, text in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
            async with api.tcp("GET", path) as response:
                assert (response.status, await response.text()) == (200, text)
        async with api.tcp("GET", "/") as response:
            assert response.status == 200
            assert "rnd" in await response.text()
        await api.database.close()
        async with api.tcp("GET", "/readyz") as response:
            assert (response.status, await response.text()) == (503, "not ready\n")
        async with api.tcp("GET", "/healthz") as response:
            assert response.status == 200

    run_with_api(tmp_path / "data", test)


def test_metrics_need_a_token_and_are_prometheus_text(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        async with api.tcp("GET", "/metrics", token=api.token) as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            lines = (await response.text()).splitlines()
        samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        assert samples['rnd_jobs{status="RUNNING",type="DOCKER"}'] == "0"
        assert samples['rnd_executions{status="PENDING"}'] == "0"
        assert float(samples["rnd_uptime_seconds"]) >= 0
        assert int(samples["rnd_tasks"]) >= 1

    run_with_api(tmp_path / "data", test)


# ---------------------------------------------------------------- listening


def test_the_socket_is_private_and_goes_with_the_daemon(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        path = api.config.data_dir / "api.sock"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        status = await api.call("node.status")
        assert status["api"] == {"url": api.url, "socket": str(path)}

    run_with_api(tmp_path / "data", test)
    assert not (tmp_path / "data" / "api.sock").exists()


def test_a_long_path_with_spaces_works(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        assert (await api.call("node.status"))["name"] == "alpha"

    run_with_api(tmp_path.joinpath(*["a folder with a long name"] * 6), test)


def test_an_empty_api_address_listens_on_the_socket_alone(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        assert api.url == ""
        assert (await api.call("node.status"))["api"]["url"] == ""

    run_with_api(tmp_path / "data", test, api="")


def test_a_second_daemon_does_not_take_the_socket_away(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        second = api_server.ApiServer(api.context)
        with pytest.raises(AddressInUse):
            await second.start()
        await second.stop()
        assert (await api.call("node.status"))["name"] == "alpha"

    run_with_api(tmp_path / "data", test)


def test_a_daemon_whose_address_is_taken_answers_nobody(tmp_path: Path) -> None:
    """It would end in the middle of what it was asked on its socket."""

    async def test(api: LiveApi) -> None:
        second = tmp_path / "second"
        second.mkdir(mode=0o700)
        other = LiveApi(replace(api.config, data_dir=second, api=api.url.removeprefix("http://")))
        try:
            with pytest.raises(AddressInUse):
                await other.server.start()
            assert not (second / "api.sock").exists()
        finally:
            await other.close()

    run_with_api(tmp_path / "data", test)


def test_an_ipv6_listener_names_itself_in_brackets(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path / "data", api="[::1]:0") as api:
            assert api.url.startswith("http://[::1]:")
            assert (await post(api, token=api.token))[0] == 200

    asyncio.run(run())


def test_an_internal_fault_is_told_by_an_id_that_is_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(api: LiveApi) -> str:
        await api.database.close()
        error = await api.refusal("workflow.list")
        assert error.code == -32603
        assert error.message == "The database is closed."
        assert error.data["hint"] == "The daemon stops; its log says why."
        return str(error.data["error_id"])

    error_id = run_with_api(tmp_path / "data", test, limits=Limits(disk_floor_bytes=0))
    logged = capsys.readouterr()
    assert error_id in logged.out + logged.err


def test_a_fault_behind_a_page_or_a_websocket_is_told_by_an_id_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(api: LiveApi) -> str:
        await api.database.close()
        async with api.unix("GET", "/metrics") as response:
            assert response.status == 500
            told = await response.json()
        async with api.websocket() as ws:
            await ws.send_json({"jsonrpc": "2.0", "id": 1, "method": "events.subscribe", "params": {"after_seq": 0}})
            while not (await ws.receive(timeout=20)).type.name.startswith("CLOS"):
                continue
        assert set(told) == {"error", "error_id"}
        return str(told["error_id"])

    error_id = run_with_api(tmp_path / "data", test)
    logged = capsys.readouterr()
    assert error_id in logged.out + logged.err
    assert "method=websocket" in logged.out + logged.err
