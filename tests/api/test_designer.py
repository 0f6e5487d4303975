"""The designer comes without a token, whole, fenced in and compressed; what is not of it does not come at all."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import http.client
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from rnd.api.designer import BUNDLE, Designer
from rnd.types.errors import NotFound
from tests.api.conftest import Peer

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FENCE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
TYPES = {
    "/": "text/html; charset=utf-8",
    "/static/main.js": "text/javascript; charset=utf-8",
    "/static/main.css": "text/css; charset=utf-8",
    "/static/icon.svg": "image/svg+xml; charset=utf-8",
    "/static/main.js.LEGAL.txt": "text/plain; charset=utf-8",
}

Answer = tuple[int, Mapping[str, str], bytes]


async def answer(request: Any) -> Answer:
    async with request as response:
        return response.status, response.headers, await response.read()


@pytest.mark.parametrize(("path", "content_type"), TYPES.items())
def test_every_file_comes_without_a_token_and_behind_the_fence(peer: Peer, path: str, content_type: str) -> None:
    for ask in (peer.api.tcp, peer.api.unix):
        status, headers, body = peer.run(answer(ask("GET", path)))
        assert status == 200
        assert headers["Content-Type"] == content_type
        assert {name: headers.get(name) for name in FENCE} == FENCE
        assert body == (BUNDLE / (path.removeprefix("/static/").strip("/") or "index.html")).read_bytes()


def test_the_page_loads_nothing_but_what_is_served_here() -> None:
    page = (BUNDLE / "index.html").read_text(encoding="utf-8")
    assert "http://" not in page
    assert "https://" not in page
    assert "style=" not in page
    assert page.count("<script") == page.count('<script type="module" src="static/main.js">') == 1


def test_a_strange_host_or_origin_gets_no_page(peer: Peer) -> None:
    for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert peer.run(answer(peer.api.tcp("GET", "/", headers=header)))[0] == 403
        assert peer.run(answer(peer.api.tcp("GET", "/static/main.js", headers=header)))[0] == 403


@pytest.mark.parametrize(
    "name",
    [
        "BUILD.json",
        "other.js",
        ".hidden.js",
        "..%2fserver.py",
        "..%2f..%2fschema.sql",
        "main.js/",
        "main.js%00.txt",
        "a/b.js",
    ],
)
def test_what_is_not_of_the_designer_is_not_found(peer: Peer, name: str) -> None:
    status, _, body = peer.run(answer(peer.api.tcp("GET", f"/static/{name}")))
    assert status == 404
    assert b"import" not in body


@pytest.mark.parametrize(
    ("accepted", "gzipped"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("identity", False),
        ("gzip;q=0, identity", False),
        ("gzip; q=0.0", False),
    ],
)
def test_it_comes_compressed_to_those_who_take_it(peer: Peer, accepted: str, gzipped: bool) -> None:
    address = peer.api.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("GET", "/static/main.js", headers={"Accept-Encoding": accepted})
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    assert (response.headers["Content-Encoding"] == "gzip") is gzipped
    assert response.headers["Vary"] == "Accept-Encoding"
    assert int(response.headers["Content-Length"]) == len(body)
    assert (gzip.decompress(body) if gzipped else body) == (BUNDLE / "main.js").read_bytes()


def test_who_has_it_already_is_told_so(peer: Peer) -> None:
    status, headers, _ = peer.run(answer(peer.api.tcp("GET", "/static/main.css")))
    tag = headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        status, headers, body = peer.run(
            answer(peer.api.tcp("GET", "/static/main.css", headers={"If-None-Match": known}))
        )
        assert (status, body) == (304, b"")
        assert headers["ETag"] == tag
        assert headers["Content-Security-Policy"] == POLICY
    status, _, body = peer.run(answer(peer.api.tcp("GET", "/static/main.css", headers={"If-None-Match": '"other"'})))
    assert status == 200
    assert body


def test_head_says_the_same_and_sends_nothing(peer: Peer) -> None:
    status, headers, body = peer.run(answer(peer.api.tcp("HEAD", "/")))
    assert (status, body) == (200, b"")
    assert headers["Content-Security-Policy"] == POLICY


# ---------------------------------------------------------------- other bundles


def serve(bundle: Path, work: Callable[[Callable[[str], Awaitable[Answer]]], Awaitable[None]]) -> None:
    """Serve a bundle of the test's own; `work` gets what asks for a path."""

    @web.middleware
    async def boundary(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)  # type: ignore[no-any-return]  # aiohttp's handlers are untyped here
        except NotFound:
            return web.Response(status=404)

    async def run() -> None:
        designer = Designer(bundle)
        application = web.Application(middlewares=[boundary])
        application.add_routes([web.get("/", designer.send_page), web.get("/static/{name}", designer.send_file)])
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            async with ClientSession() as session:
                port = runner.addresses[0][1]
                await work(lambda path: answer(session.get(f"http://127.0.0.1:{port}{path}")))
        finally:
            await runner.cleanup()

    asyncio.run(run())


def test_where_the_bundle_is_missing_the_page_says_what_to_do(tmp_path: Path) -> None:
    async def work(get: Callable[[str], Awaitable[Answer]]) -> None:
        status, headers, body = await get("/")
        assert status == 503
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Content-Security-Policy"] == POLICY
        assert b"npm run build" in body
        assert b"rnd --help" in body
        assert (await get("/static/main.js"))[0] == 404

    serve(tmp_path / "nothing", work)


def test_a_file_that_has_been_built_anew_is_served_anew(tmp_path: Path) -> None:
    async def work(get: Callable[[str], Awaitable[Answer]]) -> None:
        (tmp_path / "main.js").write_text("old")
        _, old, body = await get("/static/main.js")
        assert body == b"old"
        (tmp_path / "main.js").write_text("newer")
        _, new, body = await get("/static/main.js")
        assert body == b"newer"
        assert old["ETag"] != new["ETag"]

    serve(tmp_path, work)


def test_what_is_too_large_or_no_file_is_not_found(tmp_path: Path) -> None:
    async def work(get: Callable[[str], Awaitable[Answer]]) -> None:
        with (tmp_path / "large.js").open("wb") as file:
            file.truncate((4 << 20) + 1)
        (tmp_path / "folder.js").mkdir()
        (tmp_path / "notes.md").write_text("x")
        assert [(await get(f"/static/{name}"))[0] for name in ("large.js", "folder.js", "notes.md")] == [404, 404, 404]

    serve(tmp_path, work)


# ---------------------------------------------------------------- the committed bundle


UI = Path(__file__).resolve().parents[2] / "tools" / "ui"
# What decides over the bytes of the bundle, besides everything below src/; build.mjs has the same list.
ROOT_SOURCES = ("build.mjs", "icon.svg", "index.html", "package.json", "tsconfig.json")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_bundle_was_made_from_these_sources_and_nobody_has_touched_it() -> None:
    made = json.loads((BUNDLE / "BUILD.json").read_text(encoding="utf-8"))
    sources = [UI / name for name in ROOT_SOURCES]
    sources += [path for path in (UI / "src").rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert made["sources"] == {path.relative_to(UI).as_posix(): digest(path) for path in sources}, "run: npm run build"
    assert made["lockfile"] == digest(UI / "package-lock.json")
    assert made["outputs"] == {path.name: digest(path) for path in BUNDLE.iterdir() if path.name != "BUILD.json"}
    assert list(made["outputs"]) == sorted(made["outputs"])


def test_the_bundle_is_under_two_hundred_kilobytes() -> None:
    fetched = [path for path in BUNDLE.iterdir() if path.suffix in (".html", ".js", ".css", ".svg")]
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in fetched) < 200_000


def test_every_package_in_the_bundle_is_there_with_its_licence() -> None:
    licences = (BUNDLE / "main.js.LEGAL.txt").read_text(encoding="utf-8")
    locked = json.loads((UI / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name, version in json.loads((UI / "package.json").read_text(encoding="utf-8"))["dependencies"].items():
        assert locked[f"node_modules/{name}"]["version"] == version, "versions are exact"
        assert f"{name} {version} (" in licences
