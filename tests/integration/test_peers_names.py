"""Every name that is allowed goes from peer to peer and home again as it is; every other one is refused in words."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnd.types.executions import FileEntry
from tests.integration.peer_sites import MOUNT_IN
from tests.running_peers import Peer, introduce, running_peers
from tests.workers.carrying import manifest_of

MOUNT_OUT = {"interface_type": "MOUNT", "path": "/made", "mount_function": "OUTPUT"}
COMPOSED = "\u00e9t\u00e9"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
NAMES = [
    COMPOSED,
    DECOMPOSED,
    unicodedata.normalize("NFD", "\ud55c\uae00"),
    "\u1eb9\u0301",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1ea\U0001f1fa",
    "\u05e9\u05dc\u05d5\u05dd.txt",
    "\u0645\u0631\u062d\u0628\u0627 \u202eabc\u202c",
    "\u65e5\u672c\u8a9e\u306e\u30d5\u30a1\u30a4\u30eb",
    "-rf",
    "--help",
    " leading and trailing ",
    "two  spaces",
    ".hidden",
    "...",
    "~",
    "$(reboot) `x` ; & | < > * ? [a] {b} ! #",
    "quotes ' and \"",
    "back\\slash",
    "percent %2e%2e%2f",
    "CaSe",
    "case",
    "con.part",
    "a" * 255,
    "\u00e9" * 127 + "a",
    "\U0001f600" * 63 + "abc",
]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Peer]]:
    with running_peers(tmp_path_factory.mktemp("names"), "home", "away") as peers:
        home, away = peers
        introduce((home, away))
        yield peers


def there_and_back(home: Peer, away: Peer, source: Path) -> int:
    """Draw a workflow in which a program elsewhere gets a folder, copies what it sees and sends that home; return its id."""
    copy = 'cp -a "$RND_MOUNT_INPUT/." "$RND_MOUNT_MADE/" && chmod -R u+w "$RND_MOUNT_MADE"\n'
    program = away.offer(f"copy {source.parent.name}", copy, interfaces=[MOUNT_IN, MOUNT_OUT])
    workflow = home.workflow("there and back")
    node = home.remote_node(workflow, away, program)
    home.connect(workflow, None, node, "STDOUT->MOUNT", source_path=str(source))
    home.connect(workflow, node, None, "MOUNT->MOUNT")
    return workflow


def run_there_and_back(town: list[Peer], source: Path) -> list[FileEntry]:
    """Send a folder there and back, and return what has come."""
    home, away = town
    execution = home.run(there_and_back(home, away, source))
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    ((directory,),) = home.rows("SELECT directory FROM results WHERE workflow_execution_id = ?", execution["id"])
    return manifest_of(home.data_dir / directory)


def test_names_in_every_script_come_home_as_they_are(town: list[Peer], tmp_path: Path) -> None:
    """As names of files, of empty files that are executable, of folders with something in them and of empty ones."""
    source = tmp_path / "names"
    for kind in ("files", "empty", "folders", "void"):
        (source / kind).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (source / "files" / name).write_text(f"{number}\n")
        (source / "empty" / name).touch(mode=0o755)
        (source / "folders" / name).mkdir()
        (source / "folders" / name / "run").write_text(f"{number}\n")
        (source / "folders" / name / "run").chmod(0o755)
        (source / "void" / name).mkdir()
    sent = manifest_of(source)
    assert len(sent) == 4 * len(NAMES)
    assert sum(entry.executable for entry in sent) == 2 * len(NAMES)
    assert run_there_and_back(town, source) == sent


def test_nothing_but_empty_folders_and_empty_files(town: list[Peer], tmp_path: Path) -> None:
    source = tmp_path / "hollow"
    (source / "a" / "b" / "c").mkdir(parents=True)
    (source / "d").mkdir()
    (source / "d" / "empty").touch()
    assert [entry.relative_path for entry in run_there_and_back(town, source)] == ["a/b/c/", "d/empty"]


def test_a_path_as_deep_and_as_long_as_is_allowed(town: list[Peer], tmp_path: Path) -> None:
    deep, long = "/".join("d" * 63 + "f"), "/".join(["n" * 254] * 4)
    assert (deep.count("/") + 1, len(long)) == (64, 1019)
    source = tmp_path / "far"
    for path in (deep, f"{long}/1234"):
        (source / path).parent.mkdir(parents=True)
        (source / path).write_text("x")
    assert sorted(entry.relative_path for entry in run_there_and_back(town, source)) == sorted([deep, f"{long}/1234"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"two\nlines", "has a control character or is not valid UTF-8"),
        (b"bell\a", "has a control character or is not valid UTF-8"),
        ("line\u2028separator".encode(), "has a control character or is not valid UTF-8"),
        (b"latin \xe9", "convmv -f latin1 -t utf8 -r --notest FOLDER"),
        (b"/".join([b"d"] * 65), "is more than 64 levels deep"),
        (b"/".join([b"n" * 250] * 5), "is longer than 1024 bytes"),
    ],
)
def test_a_name_that_is_not_allowed_is_refused_in_words(
    town: list[Peer], tmp_path: Path, name: bytes, words: str
) -> None:
    home, away = town
    source = tmp_path / "bad"
    source.mkdir()
    (source / "fine").write_text("fine")
    path = os.fsencode(source) + b"/" + name
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    execution = home.run(there_and_back(home, away, source))
    assert execution["status"] == "FAILED"
    assert words in execution["error"]


def test_what_a_job_elsewhere_has_named_wrongly_is_refused_in_words(town: list[Peer]) -> None:
    home, away = town
    program = away.offer("names badly", "cd \"$RND_MOUNT_MADE\" && touch 'two\nlines'\n", interfaces=[MOUNT_OUT])
    workflow = home.workflow("bad result")
    home.connect(workflow, home.remote_node(workflow, away, program), None, "MOUNT->MOUNT")
    execution = home.run(workflow)
    assert execution["status"] == "FAILED"
    assert "has a control character or is not valid UTF-8" in execution["error"]
