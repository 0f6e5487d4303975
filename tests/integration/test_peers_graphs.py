"""Workflows over three executors that know only their orchestrator, which offers nothing: every byte, every name, once."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.running_peers import Peer, introduce, running_peers

MOUNT_IN = {"interface_type": "MOUNT", "path": "/input", "mount_function": "INPUT"}
MOUNT_OUT = {"interface_type": "MOUNT", "path": "/made", "mount_function": "OUTPUT"}


class Site(NamedTuple):
    """The daemons; `runs` is the file in which programs note that they have run."""

    home: Peer
    a: Peer
    b: Peer
    c: Peer
    runs: Path

    def ran(self) -> Counter[str]:
        return Counter(self.runs.read_text().split()) if self.runs.exists() else Counter()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("peers")
    with running_peers(place, "home", "a", "b", "c") as (home, a, b, c):
        introduce((home, a), (home, b), (home, c))
        yield Site(home, a, b, c, place / "runs")


def _tree(folder: Path) -> dict[str, tuple[bytes | None, bool]]:
    """Return everything below a folder: content (`None`: a folder) and whether it is executable."""
    found: dict[str, tuple[bytes | None, bool]] = {}
    for path in sorted(folder.rglob("*")):
        content = None if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(folder))] = content, content is not None and os.access(path, os.X_OK)
    return found


def test_data_fans_out_to_two_peers_and_in_again_and_comes_home(site: Site, tmp_path: Path) -> None:
    content = random.Random(7).randbytes(3_000_001)
    (tmp_path / "source.bin").write_bytes(content)
    data = site.a.give("fan source", tmp_path / "source.bin")
    left = site.b.offer("left", f"echo left >> '{site.runs}'; printf '<b>'; cat")
    right = site.c.offer("right", f"echo right >> '{site.runs}'; printf '<c>'; cat")
    join = site.b.offer("join", f"echo join >> '{site.runs}'; cat")
    workflow = site.home.workflow("fan")
    start = site.home.remote_node(workflow, site.a, data)
    ways = [site.home.remote_node(workflow, peer, tag) for peer, tag in ((site.b, left), (site.c, right))]
    end = site.home.remote_node(workflow, site.b, join)
    for way in ways:
        site.home.connect(workflow, start, way)
        site.home.connect(workflow, way, end)
    result = site.home.connect(workflow, end, None, "STDOUT->STDIN", destination_file_name="joined.bin")
    execution = site.home.run(workflow)
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    assert site.home.results(execution["id"]) == {(result, "joined.bin"): b"<b>" + content + b"<c>" + content}
    ran = site.ran()
    assert [ran[name] for name in ("left", "right", "join")] == [1, 1, 1]
    assert site.home.rows("SELECT COUNT(*) FROM job_executions WHERE executor_peer_id = ?", site.home.peer_id) == [(0,)]
    assert site.a.rows("SELECT peer_id FROM peers") == [(site.home.peer_id,)]


def test_names_empty_things_and_exec_bits_survive_three_hops(site: Site, tmp_path: Path) -> None:
    """A folder goes from DATA on A through MOUNTs of B and C, and what comes home is the same folder."""
    folder = tmp_path / "folder"
    (folder / "empty folder").mkdir(parents=True)
    (folder / "deep" / "er" / "Ünïcode ✓").mkdir(parents=True)
    (folder / "deep" / "er" / "Ünïcode ✓" / "naïve file.txt").write_bytes(b"\x00\xff\n")
    (folder / "-n").write_text("looks like an option\n")
    (folder / "a 'quoted\" name").write_text("quotes\n")
    (folder / "empty").write_bytes(b"")
    (folder / ".hidden").write_text("hidden\n")
    (folder / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (folder / "run.sh").chmod(0o755)
    data = site.a.give("tree", folder)
    copy = 'cp -a "$RND_MOUNT_INPUT/." "$RND_MOUNT_MADE/" && chmod -R u+w "$RND_MOUNT_MADE"'
    workflow = site.home.workflow("tree")
    previous = site.home.remote_node(workflow, site.a, data)
    types = "STDOUT->MOUNT"
    for peer in (site.b, site.c):
        program = peer.offer("copy", copy, interfaces=[MOUNT_IN, MOUNT_OUT])
        node = site.home.remote_node(workflow, peer, program)
        site.home.connect(workflow, previous, node, types)
        previous, types = node, "MOUNT->MOUNT"
    site.home.connect(workflow, previous, None, "MOUNT->MOUNT")
    execution = site.home.run(workflow)
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    (directory,) = site.home.rows("SELECT directory FROM results WHERE workflow_execution_id = ?", execution["id"])
    assert _tree(site.home.data_dir / directory[0]) == _tree(folder)


def test_several_connections_between_the_same_two_jobs_of_two_peers(site: Site) -> None:
    """Stream, errors and a folder go side by side from a job of B to one of C, each kept apart, some renamed."""
    script = (
        "echo stream; echo trouble >&2; echo '1;2' > t.csv; mkdir d; echo '3;4' > d/u.csv; echo no > t.txt; "
        'mkdir -p "$RND_MOUNT_MADE/deep"; echo file > "$RND_MOUNT_MADE/deep/x.txt"'
    )
    first = site.b.offer("many out", script, interfaces=[MOUNT_OUT])
    tables_in, made_in, errors_in = (
        {"interface_type": "MOUNT", "path": path, "mount_function": "INPUT"}
        for path in ("/tables", "/made_there", "/errors")
    )
    second = site.c.offer(
        "many in",
        'cat; cat "$RND_MOUNT_ERRORS/trouble.txt"; cd "$RND_MOUNT_TABLES" && find . -type f | sort | xargs cat; '
        'cat "$RND_MOUNT_MADE_THERE/deep/x.txt"',
        interfaces=[tables_in, made_in, errors_in],
    )
    workflow = site.home.workflow("many")
    start = site.home.remote_node(workflow, site.b, first)
    end = site.home.remote_node(workflow, site.c, second)
    # With a file name and no `include`, STDOUT is the stream alone.
    site.home.connect(workflow, start, end, "STDOUT->STDIN")
    site.home.connect(workflow, start, end, "STDOUT->MOUNT", include=["*.csv"], to_interface_path="/tables")
    site.home.connect(
        workflow, start, end, "STDERR->MOUNT", to_interface_path="/errors", destination_file_name="trouble.txt"
    )
    site.home.connect(workflow, start, end, "MOUNT->MOUNT", to_interface_path="/made_there")
    home = site.home.connect(workflow, end, None, destination_file_name="all.txt")
    tables = site.home.connect(workflow, start, None, include=["*.csv"], destination_file_name="tables/")
    one = site.home.connect(workflow, start, None, include=["t.txt"], destination_file_name="renamed.txt")
    execution = site.home.run(workflow)
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    assert site.home.results(execution["id"]) == {
        (home, "all.txt"): b"stream\ntrouble\n3;4\n1;2\nfile\n",
        (tables, "tables/t.csv"): b"1;2\n",
        (tables, "tables/d/u.csv"): b"3;4\n",
        (one, "renamed.txt"): b"no\n",
    }


def test_an_include_that_matches_nothing_fails_the_receiver_on_the_other_peer(site: Site) -> None:
    maker = site.b.offer("makes text", "echo x > a.txt")
    taker = site.c.offer("takes tables", f"echo took >> '{site.runs}'", interfaces=[MOUNT_IN])
    workflow = site.home.workflow("nothing")
    start = site.home.remote_node(workflow, site.b, maker)
    end = site.home.remote_node(workflow, site.c, taker)
    site.home.connect(workflow, start, end, "STDOUT->MOUNT", include=["*.csv"])
    execution = site.home.run(workflow)
    assert execution["status"] == "FAILED"
    assert "*.csv" in execution["error"]
    assert site.ran()["took"] == 0


def test_the_self_peer_sends_files_and_folders_to_jobs_of_others(site: Site, tmp_path: Path) -> None:
    """A file into STDIN, a folder into a MOUNT, and another file named only when the workflow is executed."""
    (tmp_path / "in.txt").write_text("from home\n")
    (tmp_path / "late.txt").write_text("named late\n")
    folder = tmp_path / "folder"
    (folder / "empty").mkdir(parents=True)
    (folder / "x.sh").write_text("#!/bin/sh\necho script\n")
    (folder / "x.sh").chmod(0o755)
    late = {"interface_type": "MOUNT", "path": "/late", "mount_function": "INPUT"}
    program = site.b.offer(
        "takes all",
        'cat; cd "$RND_MOUNT_INPUT" && ls -d empty && ./x.sh; cat "$RND_MOUNT_LATE"/*',
        interfaces=[MOUNT_IN, late],
    )
    workflow = site.home.workflow("self")
    node = site.home.remote_node(workflow, site.b, program)
    site.home.connect(workflow, None, node, "STDOUT->STDIN", source_path=str(tmp_path / "in.txt"))
    site.home.connect(workflow, None, node, "MOUNT->MOUNT", source_path=str(folder), to_interface_path="/input")
    named_late = site.home.connect(workflow, None, node, "STDOUT->MOUNT", to_interface_path="/late")
    home = site.home.connect(workflow, node, None)
    execution = site.home.run(workflow, inputs={str(named_late): str(tmp_path / "late.txt")})
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    assert site.home.results(execution["id"]) == {
        (home, "stdout.txt"): b"from home\nempty\nscript\nnamed late\n",
    }


def test_data_of_another_peer_comes_home_without_any_job_between(site: Site, tmp_path: Path) -> None:
    for name in ("one.txt", "two.bin"):
        (tmp_path / name).write_bytes(random.Random(name).randbytes(70_000))
    (tmp_path / "nothing").write_bytes(b"")
    data = site.a.give("downloads", *(tmp_path / name for name in ("one.txt", "two.bin", "nothing")))
    workflow = site.home.workflow("download")
    node = site.home.remote_node(workflow, site.a, data)
    everything = site.home.connect(workflow, node, None)
    one = site.home.connect(workflow, node, None, include=["one.*"], destination_file_name="uno.txt")
    execution = site.home.run(workflow)
    assert (execution["status"], execution["error"]) == ("COMPLETED", None)
    assert site.home.results(execution["id"]) == {
        (everything, "one.txt"): (tmp_path / "one.txt").read_bytes(),
        (everything, "two.bin"): (tmp_path / "two.bin").read_bytes(),
        (everything, "nothing"): b"",
        (one, "uno.txt"): (tmp_path / "one.txt").read_bytes(),
    }


def test_a_workflow_that_needs_nobody_in_between_leaves_nothing_to_be_told(site: Site) -> None:
    """When everything has ended, no outbox holds a letter and no transfer is open, on any peer."""
    for peer in (site.home, site.a, site.b, site.c):
        peer.until("SELECT COUNT(*) FROM outbox", 0)
        peer.until("SELECT COUNT(*) FROM transfers WHERE status IN ('PENDING', 'ACTIVE')", 0)
