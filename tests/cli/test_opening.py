"""`rnd open` shows the designer signed in, tells nobody else the token, and says what to do where it cannot."""

from __future__ import annotations

import http.client
import json
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.command import Rnd
from tests.cli.scripted_daemon import ScriptedDaemon
from tests.running_peer import RunningPeer

# What stands in for a browser writes down its command line and the page that it was given.
BROWSER = """#!/bin/sh
printf '%s\\n' "$@" >"$0.arguments"
cat "$(printf '%s' "$1" | sed 's,^file://,,; s,%20, ,g')" >"$0.page"
"""


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    program = tmp_path / "browser"
    program.write_text(BROWSER)
    program.chmod(0o755)
    return program


def token_of(peer: RunningPeer) -> str:
    return (peer.data_dir / "api_token").read_text().strip()


def test_the_address_carries_the_token_in_its_fragment_alone(on_peer: Rnd, peer: RunningPeer) -> None:
    done = on_peer("open", "--no-browser")
    assert (done.code, done.err) == (0, "")
    address = urlsplit(done.out.strip())
    assert f"{address.scheme}://{address.netloc}" == peer.call("node.status")["api"]["url"]
    assert (address.path, address.query, address.fragment) == ("/", "", f"token={token_of(peer)}")
    assert on_peer("open", "--json").json == {"url": done.out.strip()}
    assert on_peer("open", "-q").out == done.out

    connection = http.client.HTTPConnection(address.netloc, timeout=20)
    try:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "node.status"})
        token = address.fragment.removeprefix("token=")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", "/rpc", body, headers)
        assert "result" in json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_the_browser_gets_a_private_page_and_no_token_in_its_command_line(
    on_peer: Rnd, peer: RunningPeer, browser: Path
) -> None:
    done = on_peer("open", BROWSER=str(browser))
    assert (done.code, done.err) == (0, "")
    page = peer.data_dir / "rnd-open.html"
    assert browser.with_name("browser.arguments").read_text().strip() == page.as_uri()
    assert f'content="0; url={done.out.strip()}"' in browser.with_name("browser.page").read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


def test_the_page_is_never_written_through_a_link(on_peer: Rnd, browser: Path, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    (tmp_path / "precious").write_text("kept")
    (runtime / "rnd-open.html").symlink_to(tmp_path / "precious")
    done = on_peer("open", BROWSER=str(browser), XDG_RUNTIME_DIR=str(runtime))
    assert done.code == 0
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (runtime / "rnd-open.html").is_symlink()


def test_without_a_display_it_says_how_to_get_there(on_peer: Rnd, peer: RunningPeer) -> None:
    done = on_peer("open")
    port = urlsplit(peer.call("node.status")["api"]["url"]).port
    assert done.code == 0
    assert f"ssh -L {port}:127.0.0.1:{port}" in done.err
    assert "#token=" in done.out


def test_a_browser_that_does_not_start_is_no_failure(on_peer: Rnd, tmp_path: Path) -> None:
    done = on_peer("open", BROWSER=str(tmp_path / "nothing"), PATH="")
    assert done.code == 0
    assert "no browser could be started" in done.err


def test_a_peer_without_an_address_says_how_to_give_it_one(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["node.status"] = {"api": {"url": "", "socket": "x"}}
    done = rnd("open")
    assert done.code == 1
    assert "listens at its socket only" in done.err
    assert "hint: Start it with an address" in done.err


def test_a_token_that_cannot_be_used_is_told_apart_from_no_daemon(on_peer: Rnd, peer: RunningPeer) -> None:
    kept = peer.data_dir / "api_token"
    token = kept.read_text()
    try:
        kept.write_text("rnd_somethingelse\n")
        stale = on_peer("open")
        kept.unlink()
        gone = on_peer("open")
    finally:
        kept.write_text(token)
    assert (stale.code, gone.code) == (4, 4)
    assert "does not hold any more" in stale.err
    assert "cannot be read" in gone.err
    for done in (stale, gone):
        assert "rnd token create" in done.err
        assert done.out == ""


def test_where_nothing_runs_it_says_so(rnd: Rnd) -> None:
    assert rnd("open").code == 5
