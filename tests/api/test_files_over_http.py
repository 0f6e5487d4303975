"""Uploads and downloads are streamed, bounded, private, and follow no link."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import resource
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft7Validator

from rnd.api.confined_files import open_below
from rnd.database import results, workflow_executions, workflows
from rnd.database.results import NewResult
from rnd.types.config import Limits
from rnd.types.errors import NotFound
from rnd.types.executions import FileEntry
from rnd.types.ids import ConnectionId, ExecutionId, JobExecutionId, NodeId
from rnd.types.orders import ExecutionOrder
from tests.api.live_api import PEER_ID, LiveApi, run_with_api

HOUR_S = 3600.0


async def put(api: LiveApi, name: str, body: Any, **more: Any) -> tuple[int, dict[str, Any]]:
    async with api.unix("PUT", f"/upload/{name}", data=body, **more) as response:
        return response.status, await response.json()


async def nothing_is_held_open(folder: Path) -> None:
    """Wait until the daemon has let go of every file below `folder`; the last byte is out a moment before that."""
    async with asyncio.timeout(5):
        while held_open(folder):
            await asyncio.sleep(0.01)


def held_open(folder: Path) -> list[str]:
    """Return what this process holds open below a folder."""
    targets = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            targets.append(os.readlink(link))
        except FileNotFoundError:
            continue
    return [target for target in targets if target.startswith(f"{folder}/")]


# ---------------------------------------------------------------- uploads


def test_an_upload_is_kept_whole_with_its_hash(tmp_path: Path) -> None:
    body = os.urandom(300_000)

    async def test(api: LiveApi) -> None:
        status, told = await put(api, "a-b_c.1", body)
        assert status == 201
        assert (told["size_bytes"], told["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
        kept = api.config.data_dir / "uploads" / "a-b_c.1"
        assert kept.read_bytes() == body
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        listed = await api.call("upload.list")
        Draft7Validator(api.server.table.methods["upload.list"].result).validate(listed)
        assert listed["items"] == [told]

    run_with_api(tmp_path / "data", test)


def test_an_empty_upload_is_one(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        status, told = await put(api, "empty", b"")
        assert (status, told["size_bytes"]) == (201, 0)
        assert told["sha256"] == hashlib.sha256().hexdigest()

    run_with_api(tmp_path / "data", test)


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        await put(api, "x", b"first")
        status, told = await put(api, "x", b"second")
        assert (status, told["error"]) == (409, "CONFLICT")
        assert (api.config.data_dir / "uploads" / "x").read_bytes() == b"first"

    run_with_api(tmp_path / "data", test)


def test_of_two_uploads_of_one_name_at_once_one_is_kept(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        outcomes = await asyncio.gather(*(put(api, "x", bytes([n]) * 2_000_00) for n in range(8)))
        assert sorted(status for status, _ in outcomes) == [201] + [409] * 7
        winner = next(told for status, told in outcomes if status == 201)
        kept = (api.config.data_dir / "uploads" / "x").read_bytes()
        assert hashlib.sha256(kept).hexdigest() == winner["sha256"]

    run_with_api(tmp_path / "data", test)


@pytest.mark.parametrize(
    "name", [".hidden", "..", "a%2Fb", "..%2Fx", "a%00b", "ä", "a b", "x" * 129, "%2e%2e%2f%2e%2e%2fetc"]
)
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    async def test(api: LiveApi) -> None:
        async with api.unix("PUT", f"/upload/{name}", data=b"x") as response:
            assert response.status in (400, 404, 405)
        assert not (api.config.data_dir / "uploads").exists()
        assert (await api.call("upload.list"))["total"] == 0

    run_with_api(tmp_path / "data", test)


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "uploads"

    async def breaking() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        while not (folder / ".x.part").exists():
            await asyncio.sleep(0.01)
        raise ConnectionAbortedError

    async def test(api: LiveApi) -> None:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await put(api, "x", breaking())
        while list(folder.iterdir()):
            await asyncio.sleep(0.01)
        assert (await api.call("upload.list"))["total"] == 0
        assert (await put(api, "x", b"again"))[0] == 201
        assert held_open(api.config.data_dir / "uploads") == []

    run_with_api(tmp_path / "data", test)


def test_an_upload_past_the_limit_is_refused_announced_or_not(tmp_path: Path) -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    async def test(api: LiveApi) -> None:
        assert (await put(api, "exact", b"x" * 1000))[0] == 201
        assert (await put(api, "announced", b"x" * 1001))[0] == 413
        status, told = await put(api, "streamed", unannounced())
        assert (status, told["error"]) == (413, "LIMIT_EXCEEDED")
        assert [path.name for path in (api.config.data_dir / "uploads").iterdir()] == ["exact"]

    run_with_api(tmp_path / "data", test, limits=Limits(disk_floor_bytes=0, upload_bytes=1000))


def test_the_disk_floor_is_kept(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        status, told = await put(api, "x", b"x")
        assert (status, told["error"]) == (413, "LIMIT_EXCEEDED")
        assert "disk" in told["hint"]

    run_with_api(tmp_path / "data", test, limits=Limits(disk_floor_bytes=1 << 60))


def test_an_upload_becomes_data_and_is_taken_off_the_list(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        await put(api, "words.txt", b"one two")
        created = await api.call("service.create", name="d", service_type="DATA", paths=["upload:words.txt"])
        assert (created["file_count"], created["size_bytes"]) == (1, 7)
        assert (await api.call("upload.list"))["total"] == 0
        assert list((api.config.data_dir / "uploads").iterdir()) == []
        error = await api.refusal("service.create", name="e", service_type="DATA", paths=["upload:words.txt"])
        assert (error.code, error.data["error"]) == (1000, "NOT_FOUND")

    run_with_api(tmp_path / "data", test)


def test_an_upload_is_deleted_on_request(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        await put(api, "x", b"1")
        assert (await api.call("upload.delete", name="x"))["deleted"] is True
        assert list((api.config.data_dir / "uploads").iterdir()) == []
        assert (await api.refusal("upload.delete", name="x")).code == 1000
        assert (await api.refusal("upload.delete", name="../rnd.db")).code == -32602

    run_with_api(tmp_path / "data", test)


def test_an_upload_that_nobody_takes_is_dropped_after_a_day(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        await put(api, "old", b"1")
        api.clock.ahead_s = 23 * HOUR_S
        await put(api, "new", b"2")
        await api.context.uploads.sweep()
        assert (await api.call("upload.list"))["total"] == 2
        api.clock.ahead_s = 25 * HOUR_S
        await api.context.uploads.sweep()
        assert [item["name"] for item in (await api.call("upload.list"))["items"]] == ["new"]
        assert [path.name for path in (api.config.data_dir / "uploads").iterdir()] == ["new"]

    run_with_api(tmp_path / "data", test)


def test_a_start_clears_what_a_crash_left_behind(tmp_path: Path) -> None:
    async def first(api: LiveApi) -> None:
        await put(api, "kept", b"1")
        await put(api, "lost", b"2")

    run_with_api(tmp_path / "data", first)
    folder = tmp_path / "data" / "uploads"
    (folder / "lost").unlink()
    (folder / ".half.part").write_bytes(b"x")
    (folder / "unknown").write_bytes(b"x")

    async def second(api: LiveApi) -> None:
        assert [path.name for path in folder.iterdir()] == ["kept"]
        assert [item["name"] for item in (await api.call("upload.list"))["items"]] == ["kept"]

    run_with_api(tmp_path / "data", second)


def test_a_large_upload_is_never_held_in_memory(tmp_path: Path) -> None:
    size, piece = 192 << 20, b"\xa5" * (1 << 20)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(size // len(piece)):
            yield piece

    async def test(api: LiveApi) -> None:
        await put(api, "warm-up", b"x")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        status, told = await put(api, "large", body())
        assert (status, told["size_bytes"]) == (201, size)
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kib < 64 << 10

    run_with_api(tmp_path / "data", test)


# ---------------------------------------------------------------- downloads


async def deliver(api: LiveApi, files: dict[str, bytes], *, arrived: bool = True) -> tuple[int, Path]:
    """Write down an execution with one result and put its files in place; return the execution and the folder."""
    now = api.clock.now()
    order = {"start_by_s": 1.0, "max_runtime_s": 1.0, "transfer_idle_s": 1.0, "hold_s": 1.0}
    order["workflow_deadline_s"] = 1.0

    def write(conn: Any) -> ExecutionId:
        workflow = workflows.create_workflow(conn, name="w", now=now)
        execution = workflow_executions.create_execution(
            conn,
            ExecutionOrder(
                workflow_id=workflow.id,
                workflow_name="w",
                definition='{"jobs": []}',
                execution_uid=api.entropy.new_execution_uid(),
                retry_of=None,
                **order,
            ),
            now=now,
        )
        results.create_result(
            conn,
            NewResult(
                workflow_execution_id=execution.id,
                node_id=NodeId(2),
                connection_id=ConnectionId(3),
                source_peer_id=PEER_ID,
                source_job_execution_id=JobExecutionId(4),
                directory="workflows/home",
            ),
        )
        return execution.id

    execution_id = await api.database.write(write)
    folder = api.config.data_dir / "workflows" / "home"
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        entries.append(
            FileEntry(relative_path=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        )
    if arrived:
        found = await api.database.read(
            lambda conn: results.get_result(
                conn, execution_id=execution_id, node_id=NodeId(2), connection_id=ConnectionId(3)
            )
        )
        await api.database.write(lambda conn: results.mark_arrived(conn, found.id, entries))
    return int(execution_id), folder


def test_a_result_is_an_attachment_that_no_browser_interprets(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        content = b"<script>alert(1)</script>"
        execution_id, _ = await deliver(api, {"sub/ä b.html": content})
        listed = await api.call("execution.results", execution_id=execution_id)
        Draft7Validator(api.server.table.methods["execution.results"].result).validate(listed)
        (item,) = listed["items"]
        assert item["path"] == "sub/ä b.html"
        assert Path(item["absolute_path"]).read_bytes() == content
        async with api.unix("GET", item["url"]) as response:
            assert response.status == 200
            assert await response.read() == content
            headers = response.headers
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''%C3%A4%20b.html"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in headers["Content-Security-Policy"]
        assert "Content-Encoding" not in headers

    run_with_api(tmp_path / "data", test)


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=4-", 206, b"456789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=0-99", 206, b"0123456789"),
        ("bytes=10-", 416, b""),
        ("bytes=-0", 416, b""),
        ("bytes=x", 200, b"0123456789"),
        ("bytes=-", 200, b"0123456789"),
        ("bytes=5-2", 200, b"0123456789"),
        ("bytes=0-1,4-5", 200, b"0123456789"),
        ("items=0-3", 200, b"0123456789"),
        ("Bytes=0-3", 206, b"0123"),
    ],
)
def test_ranges_are_honoured(tmp_path: Path, asked: str, status: int, part: bytes) -> None:
    async def test(api: LiveApi) -> None:
        execution_id, _ = await deliver(api, {"a.txt": b"0123456789"})
        async with api.unix("GET", f"/results/{execution_id}/2/3/a.txt", headers={"Range": asked}) as response:
            assert response.status == status
            if status == 416:
                assert response.headers["Content-Range"] == "bytes */10"
            else:
                assert await response.read() == part

    run_with_api(tmp_path / "data", test)


def test_a_range_holds_for_the_state_of_the_file_that_it_was_asked_for(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        execution_id, _ = await deliver(api, {"a.txt": b"0123456789"})
        url = f"/results/{execution_id}/2/3/a.txt"
        async with api.unix("GET", url) as response:
            tag, modified = response.headers["ETag"], response.headers["Last-Modified"]
        early = "Mon, 01 Jan 2001 00:00:00 GMT"
        for state, status in ((tag, 206), (modified, 206), ('"x"', 200), (f"W/{tag}", 200), (early, 200), ("?", 200)):
            headers = {"Range": "bytes=2-3", "If-Range": state}
            async with api.unix("GET", url, headers=headers) as response:
                wanted = b"23" if status == 206 else b"0123456789"
                assert (response.status, await response.read()) == (status, wanted), state
        async with api.unix("GET", url, headers={"If-None-Match": tag}) as response:
            assert response.status == 304

    run_with_api(tmp_path / "data", test)


def test_a_result_is_sent_with_its_hash_or_not_at_all(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        execution_id, folder = await deliver(api, {"a.txt": b"0123456789"})
        url = f"/results/{execution_id}/2/3/a.txt"
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(b'0123456789').digest()).decode()}:"
        for method, headers in (("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=0-3"})):
            async with api.unix(method, url, headers=headers) as response:
                assert response.headers["Repr-Digest"] == digest
        (folder / "a.txt").write_bytes(b"01234")
        async with api.unix("GET", url) as response:
            told = await response.json()
            assert (response.status, told["error"]) == (500, "TRANSFER_FAILED")
            assert "5 bytes" in told["message"]

    run_with_api(tmp_path / "data", test)


def test_every_answer_is_rnds(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        execution_id, _ = await deliver(api, {"a.txt": b"fine"})
        for path in ("/", f"/results/{execution_id}/2/3/a.txt", "/healthz", "/nothing"):
            async with api.unix("GET", path) as response:
                assert response.headers["Server"] == "rnd"
        async with api.websocket() as ws:
            assert ws._response.headers["Server"] == "rnd"
        reader, writer = await asyncio.open_connection(*api.url.removeprefix("http://").split(":"))
        writer.write(b"this is no HTTP\r\n\r\n")
        assert b"Server: rnd\r\n" in await reader.read()
        writer.close()
        await writer.wait_closed()

    run_with_api(tmp_path / "data", test)


def test_a_large_result_is_streamed(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        execution_id, folder = await deliver(api, {"big": b""})
        with (folder / "big").open("wb") as file:
            file.truncate(256 << 20)
        await api.database.write(
            lambda conn: conn.execute("UPDATE result_files SET size_bytes = :size", {"size": 256 << 20})
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = 0
        async with api.tcp("GET", f"/results/{execution_id}/2/3/big", token=api.token) as response:
            async for chunk in response.content.iter_chunked(1 << 20):
                size += len(chunk)
        assert size == 256 << 20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
        await nothing_is_held_open(folder)

    run_with_api(tmp_path / "data", test)


def test_no_link_folder_or_device_is_ever_sent(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        came = {"a.txt": b"fine", "sub/b.txt": b"fine", "link": b"fine", "inside": b"fine", "fifo": b"fine"}
        execution_id, folder = await deliver(api, {**came, "folder-link/api_token": b"fine"})
        for name in ("link", "inside", "fifo", "folder-link/api_token"):
            (folder / name).unlink()
        (folder / "folder-link").rmdir()
        (folder / "link").symlink_to(api.config.data_dir / "api_token")
        (folder / "inside").symlink_to(folder / "a.txt")
        (folder / "folder-link").symlink_to(api.config.data_dir)
        os.mkfifo(folder / "fifo")
        for path in ("link", "inside", "folder-link/api_token", "fifo", "sub", "sub/", "nothing", "a.txt/x"):
            async with api.unix("GET", f"/results/{execution_id}/2/3/{path}") as response:
                assert response.status == 404, path
                assert api.token not in await response.text()
        await nothing_is_held_open(folder)

    run_with_api(tmp_path / "data", test)


@pytest.mark.parametrize(
    "path",
    ["..%2f..%2f..%2fapi_token", "%2e%2e/%2e%2e/api_token", "a%00b", "%2fetc%2fpasswd", "sub%2f..%2f..%2fx", "."],
)
def test_paths_that_lead_out_are_not_found(tmp_path: Path, path: str) -> None:
    async def test(api: LiveApi) -> None:
        execution_id, _ = await deliver(api, {"a.txt": b"fine"})
        reader, writer = await asyncio.open_connection(*api.url.removeprefix("http://").split(":"))
        host = api.url.removeprefix("http://")
        writer.write(
            f"GET /results/{execution_id}/2/3/{path} HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {api.token}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))
        assert api.token.encode() not in answer

    run_with_api(tmp_path / "data", test)


@pytest.mark.parametrize(
    "where", ["99/2/3", "1/99/3", "1/2/99", "x/2/3", "1/-2/3", "1/2/99999999999999999999", "١/2/3"]
)
def test_results_that_are_none_are_not_found(tmp_path: Path, where: str) -> None:
    async def test(api: LiveApi) -> None:
        await deliver(api, {"a.txt": b"fine"})
        async with api.unix("GET", f"/results/{where}/a.txt") as response:
            assert response.status == 404

    run_with_api(tmp_path / "data", test)


def test_a_result_that_has_not_arrived_whole_is_not_sent(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        execution_id, _ = await deliver(api, {"a.txt": b"half"}, arrived=False)
        async with api.unix("GET", f"/results/{execution_id}/2/3/a.txt") as response:
            assert response.status == 404
        listed = await api.call("execution.results", execution_id=execution_id)
        assert listed["items"] == []
        assert listed["outstanding"] == [{"node_id": 2, "connection_id": 3, "error": None}]

    run_with_api(tmp_path / "data", test)


def test_a_ticket_opens_one_file_once_within_its_time(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        execution_id, _ = await deliver(api, {"a b.txt": b"yes", "c.txt": b"no"})
        wanted = {"execution_id": execution_id, "node_id": 2, "connection_id": 3, "path": "a b.txt"}

        async def issue() -> dict[str, Any]:
            issued: dict[str, Any] = await api.call("execution.ticket", **wanted)
            return issued

        async def fetch(url: str) -> tuple[int, bytes]:
            async with api.tcp("GET", url) as response:
                return response.status, await response.read()

        issued = await issue()
        Draft7Validator(api.server.table.methods["execution.ticket"].result).validate(issued)
        async with api.tcp("HEAD", issued["url"]) as response:
            assert (response.status, response.headers["Content-Length"]) == (200, "3")
        assert await fetch(issued["url"]) == (200, b"yes")
        assert (await fetch(issued["url"]))[0] == 401
        other = (await issue())["ticket"]
        assert (await fetch(f"/results/{execution_id}/2/3/c.txt?ticket={other}"))[0] == 401
        assert (await fetch(f"/results/{execution_id}/2/3/a%20b.txt?ticket={other}"))[0] == 401
        late = await issue()
        api.clock.ahead_s = 61
        assert (await fetch(late["url"]))[0] == 401
        assert (await fetch(f"/results/{execution_id}/2/3/c.txt?ticket="))[0] == 401
        assert (await api.refusal("execution.ticket", **{**wanted, "node_id": 9})).code == 1000
        assert (await api.refusal("execution.ticket", **{**wanted, "path": "nothing"})).code == 1000

    run_with_api(tmp_path / "data", test)


def test_tickets_are_bounded(tmp_path: Path) -> None:
    async def test(api: LiveApi) -> None:
        execution_id, _ = await deliver(api, {"a": b""})
        for _ in range(1000):
            api.context.tickets.issue("x")
        wanted = {"execution_id": execution_id, "node_id": 2, "connection_id": 3, "path": "a"}
        assert (await api.refusal("execution.ticket", **wanted)).code == 1700
        api.clock.ahead_s = 61
        await api.call("execution.ticket", **wanted)

    run_with_api(tmp_path / "data", test)


def test_opening_below_a_folder_stays_below_it(tmp_path: Path) -> None:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "sub" / "a").write_text("fine")
    (tmp_path / "secret").write_text("no")
    (tmp_path / "root" / "out").symlink_to(tmp_path)
    os.close(open_below(tmp_path / "root", "sub/a"))
    for path in (
        "",
        ".",
        "..",
        "../secret",
        "out/secret",
        "sub/../../secret",
        "/etc/passwd",
        "sub//a",
        "sub/a\0",
        "sub",
    ):
        with pytest.raises(NotFound):
            open_below(tmp_path / "root", path)
