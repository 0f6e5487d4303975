"""Workflows of every shape give byte-exact results, through a real daemon and real processes."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from tests.running_peer import RunningPeer


def test_fan_out_to_three_and_fan_in_of_three(peer: RunningPeer, tmp_path: Path) -> None:
    """One DATA file feeds three jobs side by side; a fourth gets their three outputs as one stream, in order."""
    content = random.Random(1).randbytes(300_001)
    source = tmp_path / "source.bin"
    source.write_bytes(content)
    workflow = peer.workflow("fans")
    start = peer.node(workflow, peer.data("source", source))
    join = peer.node(workflow, peer.program("join", "cat"))
    for number in range(3):
        middle = peer.node(workflow, peer.program(f"tag-{number}", f"printf '<{number}>'; cat"))
        peer.connect(workflow, start, middle)
        peer.connect(workflow, middle, join)
    home = peer.connect(workflow, join, None, "STDOUT->STDIN", destination_file_name="joined.bin")
    execution = peer.run(workflow)
    assert execution["status"] == "COMPLETED", execution
    expected = b"".join(b"<%d>" % number + content for number in range(3))
    assert peer.results(execution["id"]) == {(home, "joined.bin"): expected}


def test_a_diamond_with_mounts_side_by_side(peer: RunningPeer, tmp_path: Path) -> None:
    """A folder goes down two ways of a diamond; the last job finds both sides' files in one mounted folder."""
    folder = tmp_path / "folder"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text("alpha\n")
    (folder / "b.txt").write_text("")
    (folder / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (folder / "run.sh").chmod(0o755)
    interfaces_in = [{"interface_type": "MOUNT", "path": "/input", "mount_function": "INPUT"}]
    workflow = peer.workflow("diamond")
    start = peer.node(workflow, peer.data("folder", folder))
    list_script = "cd ../mounts/input && find . | sort"
    left = peer.node(workflow, peer.program("left", list_script, interfaces=interfaces_in))
    right = peer.node(
        workflow,
        peer.program(
            "right",
            'cd "$RND_MOUNT_INPUT" && ./run.sh && test ! -w sub/a.txt -o "$(id -u)" = 0 && cat sub/a.txt b.txt',
            interfaces=interfaces_in,
        ),
    )
    last = peer.node(
        workflow,
        peer.program("last", 'cat "$1"/left.txt "$1"/right.txt', interfaces=interfaces_in, cmd=["{mount:/input}"]),
    )
    peer.connect(workflow, start, left, "STDOUT->MOUNT")
    peer.connect(workflow, start, right, "STDOUT->MOUNT")
    peer.connect(workflow, left, last, "STDOUT->MOUNT", destination_file_name="left.txt")
    peer.connect(workflow, right, last, "STDOUT->MOUNT", destination_file_name="right.txt")
    home = peer.connect(workflow, last, None)
    execution = peer.run(workflow)
    assert execution["status"] == "COMPLETED", execution
    listing = b".\n./b.txt\n./run.sh\n./sub\n./sub/a.txt\n./sub/empty\n"
    assert peer.results(execution["id"]) == {(home, "stdout.txt"): listing + b"ran\nalpha\n"}


def test_two_edges_between_the_same_two_jobs(peer: RunningPeer) -> None:
    """Standard output and a mounted folder go from one job to another along two connections, each kept apart."""
    workflow = peer.workflow("two edges")
    out = [{"interface_type": "MOUNT", "path": "/made", "mount_function": "OUTPUT"}]
    into = [{"interface_type": "MOUNT", "path": "/given", "mount_function": "INPUT"}]
    script = 'echo stream; mkdir -p "$RND_MOUNT_MADE/deep"; echo file > "$RND_MOUNT_MADE/deep/x.txt"'
    first = peer.node(workflow, peer.program("first", script, interfaces=out))
    second = peer.node(workflow, peer.program("second", 'cat; cat "$RND_MOUNT_GIVEN/deep/x.txt"', interfaces=into))
    peer.connect(workflow, first, second, "STDOUT->STDIN")
    peer.connect(workflow, first, second, "MOUNT->MOUNT")
    home = peer.connect(workflow, second, None)
    execution = peer.run(workflow)
    assert execution["status"] == "COMPLETED", execution
    assert peer.results(execution["id"]) == {(home, "stdout.txt"): b"stream\nfile\n"}


def test_a_chain_of_fifty_steps(peer: RunningPeer, tmp_path: Path) -> None:
    """Fifty jobs in a row each add a line; the last one's output holds all of them in order."""
    seed = tmp_path / "seed.txt"
    seed.write_text("seed\n")
    step = peer.program("step", 'cat; echo "step $1"')
    workflow = peer.workflow("chain")
    previous = peer.node(workflow, peer.data("seed", seed))
    for number in range(50):
        node = peer.node(workflow, step, cmd=[str(number)])
        peer.connect(workflow, previous, node)
        previous = node
    home = peer.connect(workflow, previous, None, destination_file_name="all.txt")
    execution = peer.run(workflow)
    assert execution["status"] == "COMPLETED", execution
    expected = "seed\n" + "".join(f"step {number}\n" for number in range(50))
    assert peer.results(execution["id"]) == {(home, "all.txt"): expected.encode()}


def test_globs_renames_and_several_ways_home(peer: RunningPeer) -> None:
    """`include` narrows, a folder name collects, standard error and the log travel too."""
    workflow = peer.workflow("selection")
    script = "echo out; echo err >&2; mkdir d; echo 1 > d/a.csv; echo 2 > b.csv; echo 3 > c.txt"
    node = peer.node(workflow, peer.program("maker", script))
    tables = peer.connect(workflow, node, None, include=["*.csv"], destination_file_name="tables/")
    one = peer.connect(workflow, node, None, include=["c.txt"], destination_file_name="renamed.txt")
    errors = peer.connect(workflow, node, None, "STDERR->STDIN")
    everything = peer.connect(workflow, node, None, "STDOUT->MOUNT")
    execution = peer.run(workflow)
    assert execution["status"] == "COMPLETED", execution
    assert peer.results(execution["id"]) == {
        (tables, "tables/d/a.csv"): b"1\n",
        (tables, "tables/b.csv"): b"2\n",
        (one, "renamed.txt"): b"3\n",
        (errors, "stderr.txt"): b"err\n",
        (everything, "stdout.txt"): b"out\n",
        (everything, "d/a.csv"): b"1\n",
        (everything, "b.csv"): b"2\n",
        (everything, "c.txt"): b"3\n",
    }


def test_the_self_peer_as_source_at_the_connection_and_at_the_execution(peer: RunningPeer, tmp_path: Path) -> None:
    """A file named at the connection is sent; one named at `workflow.execute` takes its place for that run."""
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("one\n")
    second.write_text("two\n")
    workflow = peer.workflow("self source")
    node = peer.node(workflow, peer.program("echo", "cat"))
    given = peer.connect(workflow, None, node, "STDOUT->STDIN", source_path=str(first))
    home = peer.connect(workflow, node, None)
    execution = peer.run(workflow)
    assert peer.results(execution["id"]) == {(home, "stdout.txt"): b"one\n"}
    execution = peer.run(workflow, inputs={str(given): str(second)})
    assert peer.results(execution["id"]) == {(home, "stdout.txt"): b"two\n"}


def test_data_straight_home_and_encrypted_at_rest(peer: RunningPeer, tmp_path: Path) -> None:
    """Encrypted DATA comes home whole with the passphrase; the snapshot on disk does not show its content."""
    content = b"very secret line\n" * 100_000
    source = tmp_path / "secret.txt"
    source.write_bytes(content)
    workflow = peer.workflow("home")
    node = peer.node(workflow, peer.data("secret", source, passphrase="correct horse"))
    home = peer.connect(workflow, node, None)
    stored = b"".join(path.read_bytes() for path in (peer.data_dir / "services").rglob("*") if path.is_file())
    assert b"very secret" not in stored
    execution = peer.run(workflow, passphrase="correct horse")
    assert execution["status"] == "COMPLETED", execution
    assert peer.results(execution["id"]) == {(home, "secret.txt"): content}
    assert peer.sql("SELECT COUNT(*) FROM sealed_secrets") == [(0,)]


def test_a_thousand_jobs_in_one_workflow_none_twice(peer: RunningPeer, tmp_path: Path) -> None:
    """A thousand independent jobs complete; each has run exactly once."""
    marks = tmp_path / "marks"
    marks.mkdir()
    service = peer.program("mark", f"echo x >> '{marks}'/$1")
    workflow = peer.workflow("thousand")
    nodes = [peer.node(workflow, service, cmd=[str(number)]) for number in range(1000)]
    execution = peer.run(workflow, timeout_s=110)
    assert execution["status"] == "COMPLETED", execution["error"]
    assert execution["progress"]["jobs_terminal"] == len(nodes)
    assert {path.name: path.read_text() for path in marks.iterdir()} == {str(n): "x\n" for n in range(1000)}


def test_a_large_file_passes_through_a_job_without_the_daemon_growing(peer: RunningPeer, tmp_path: Path) -> None:
    """512 MiB of DATA go through a job and home, byte-exact, with a bounded daemon."""
    assert peer.process is not None
    block = random.Random(2).randbytes(1 << 20)
    digest = hashlib.sha256()
    source = tmp_path / "large.bin"
    with source.open("wb") as file:
        for _ in range(512):
            file.write(block)
            digest.update(block)
    workflow = peer.workflow("large")
    start = peer.node(workflow, peer.data("large", source))
    node = peer.node(workflow, peer.program("pass", "cat"))
    peer.connect(workflow, start, node)
    peer.connect(workflow, node, None, destination_file_name="copy.bin")
    before = _peak_rss_mib(peer.process.pid)
    execution = peer.run(workflow, timeout_s=110)
    assert execution["status"] == "COMPLETED", execution
    [item] = peer.call("execution.results", execution_id=execution["id"])["items"]
    assert item["sha256"] == digest.hexdigest()
    assert _peak_rss_mib(peer.process.pid) - before < 50


def _peak_rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")
