"""Confined programs in whole workflows: inputs come in, outputs go on, and what cannot be confined never starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.running_peer import RunningPeer
from tests.services.confined import require_confinement


@pytest.fixture(autouse=True)
def _confinement() -> None:
    require_confinement()


def test_a_workflow_of_confined_programs_gives_what_an_ordinary_one_gives(peer: RunningPeer, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("b\na\nb\n")
    workflow = peer.workflow("confined")
    source = peer.node(workflow, peer.data("text", text))
    mount = [{"interface_type": "STDOUT"}, {"interface_type": "MOUNT", "path": "/in", "mount_function": "INPUT"}]
    script = (
        'cp "$RND_MOUNT_IN"/* . && echo x >> "$RND_MOUNT_IN"/new || sort text; rm -f text; echo tidy > "$HOME/note"'
    )
    sort = peer.node(workflow, peer.program("sort", script, interfaces=mount, confine="always"))
    count = peer.node(workflow, peer.program("count", "uniq -c | tr -s ' '", network="none", min_sandbox="landlock"))
    peer.connect(workflow, source, sort, "STDOUT->MOUNT")
    peer.connect(workflow, sort, count)
    home = peer.connect(workflow, count, None)
    execution = peer.run(workflow)
    assert execution["status"] == "COMPLETED", execution
    assert peer.results(execution["id"]) == {(home, "stdout.txt"): b" 1 a\n 2 b\n"}


def test_a_confined_program_sees_neither_the_peers_keys_nor_the_network(peer: RunningPeer) -> None:
    script = f"""
        for path in identity.key vault.key api_token rnd.db api.sock run/spawner.sock; do
            test -e '{peer.data_dir}'/$path && echo $path
        done
        cat /etc/shadow && echo shadow
        exit 0
    """
    workflow = peer.workflow("hostile")
    node = peer.node(workflow, peer.program("hostile", script, confine="always"))
    home = peer.connect(workflow, node, None)
    execution = peer.run(workflow)
    assert execution["status"] == "COMPLETED", execution
    assert peer.results(execution["id"]) == {(home, "stdout.txt"): b""}


def test_a_sandbox_that_is_not_here_refuses_the_execution_before_anything_starts(peer: RunningPeer) -> None:
    assert peer.call("node.status")["executors"]["standalone"]["sandbox"] == "landlock"
    workflow = peer.workflow("demanding")
    peer.node(workflow, peer.program("demanding", "exit 0", min_sandbox="bubblewrap"))
    execution = peer.run(workflow)
    assert execution["status"] == "FAILED"
    assert "demands the sandbox bubblewrap, and the one here is landlock" in execution["error"]
    assert peer.call("job.list", execution_id=execution["id"])["items"] == []
