"""The clients of docs/examples/clients, in four languages: each runs a workflow over HTTP or the socket, and says what went wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_peer import PROJECT, RunningPeer, running_peer

CLIENTS = PROJECT / "docs/examples/clients"
NEEDS = {
    "filter.py": (sys.executable,),
    "filter.mjs": ("node",),
    "filter.sh": ("bash", "curl", "jq"),
    "filter.pl": ("perl",),
}
SPEAK_SOCKET = [name for name in NEEDS if name != "filter.pl"]  # Perl's own library speaks HTTP over TCP alone


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    """One daemon for all clients."""
    with running_peer(tmp_path_factory.mktemp("clients") / "peer") as running:
        yield running


@pytest.fixture(scope="module")
def text(peer: RunningPeer) -> Path:
    """A file whose name has to be quoted in a shell and in a URL, and is not ASCII."""
    path = peer.data_dir.parent / "some wörds%.txt"
    path.write_text("to\nbé\nor\nnot\n", encoding="utf-8")
    return path


@pytest.fixture
def client(request: pytest.FixtureRequest) -> str:
    """The name of a client whose language is here."""
    name = str(request.param)
    missing = [program for program in NEEDS[name] if shutil.which(program) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"there is no {', '.join(missing)}")
    return name


def run(client: str, *arguments: str | Path, **door: str) -> subprocess.CompletedProcess[str]:
    """Run a client as a person does, with nothing else to find the peer by."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RND_")}
    return subprocess.run(
        [NEEDS[client][0], CLIENTS / client, *arguments],
        env={**kept, **door},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def over_http(peer: RunningPeer) -> dict[str, str]:
    url = peer.call("node.status")["api"]["url"]
    return {"RND_URL": url, "RND_TOKEN": (peer.data_dir / "api_token").read_text().strip()}


def left_behind(peer: RunningPeer) -> list[int]:
    return [int(peer.call(f"{kind}.list")["total"]) for kind in ("service", "workflow")]


@pytest.mark.parametrize("client", NEEDS, indirect=True)
def test_it_signs_in_runs_a_workflow_and_reads_every_result(client: str, peer: RunningPeer, text: Path) -> None:
    door = over_http(peer)
    done = run(client, text, "sort; echo more >'a b%ü.txt'", **door)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "more\nbé\nnot\nor\nto\n"
    assert left_behind(peer) == [0, 0]


@pytest.mark.parametrize("client", SPEAK_SOCKET, indirect=True)
def test_it_comes_by_the_socket_without_a_token(client: str, peer: RunningPeer, text: Path) -> None:
    done = run(client, text, "rev", RND_DATA_DIR=str(peer.data_dir))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ot\néb\nro\nton\n", "")


@pytest.mark.parametrize("client", NEEDS, indirect=True)
def test_it_says_what_went_wrong_and_leaves_nothing(client: str, peer: RunningPeer, text: Path) -> None:
    door = over_http(peer)
    refused = run(client, text.with_name("missing"), "cat", **door)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "service.create: " in refused.stderr
    assert "missing cannot be found: No such file or directory (VALIDATION_FAILED)\n  hint: " in refused.stderr

    failed = run(client, text, "echo 'too few wörds' >&2; exit 3", **door)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "is FAILED: job " in failed.stderr
    assert "\n  too few wörds\n" in failed.stderr
    assert left_behind(peer) == [0, 0]

    unknown = run(client, text, "cat", **{**door, "RND_TOKEN": "rnd_wrong"})
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "a valid token is needed" in unknown.stderr

    away = run(client, text, "cat", RND_URL="http://127.0.0.1:1")
    assert (away.returncode, away.stdout) == (1, "")
    assert "the peer does not answer" in away.stderr

    assert run(client).returncode == 2
