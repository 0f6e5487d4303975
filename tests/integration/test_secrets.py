"""A secret is where it is documented to be and nowhere else: on no disk, in no log, event, answer, argument or environment."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rnd.protocol.invites import parse_invite
from rnd.protocol.sealing import derive_key, header_from_json, unwrap_key
from tests.integration.canaries import SHARED_MEMORY, Canaries, Hit, at_rest, everywhere, files_below, processes, rows
from tests.running_peer import RpcError
from tests.running_peers import Peer, wait_until

PROGRAM = """
sha256sum < "$RND_SECRETS/key" >&2
cat > ../running; while [ ! -e ../go ]; do sleep 0.1; done
sha256sum < ../running
"""


@dataclass(kw_only=True)
class World:
    """An orchestrator with encrypted DATA, an executor whose program has a secret, and what all of them must not let out."""

    place: Path
    here: Peer
    far: Peer
    canaries: Canaries
    known: dict[str, Sequence[Any]]

    def hits(self) -> set[Hit]:
        """Return where secrets are, while both run."""
        return set(self.canaries.hits(everywhere((self.here, self.far), (self.place,), self.known)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    peers = []
    for name in ("here", "far"):
        temporary = tmp_path / f"{name}-tmp"
        temporary.mkdir()
        peers.append(Peer(tmp_path / name, env={"TMPDIR": str(temporary), "RND_LOG_LEVEL": "DEBUG"}))
    here, far = peers
    try:
        here.start()
        far.start()
        yield World(place=tmp_path, here=here, far=far, canaries=Canaries(), known={})
    finally:
        here.dispose()
        far.dispose()


def documented(world: World) -> set[Hit]:
    """Return where secrets are by design, each in a file that only its owner can read."""
    found = set()
    for peer in (world.here, world.far):
        files = {"api_token": "token", "identity.key": "identity", "vault.key": "vault"}
        for name, secret in files.items():
            path = peer.data_dir / name
            assert path.stat().st_mode & 0o077 == 0
            found.add(Hit(secret=f"{secret} of {peer.data_dir.name}", place=str(path)))
    return found


def key_files(world: World) -> None:
    """Look for what both daemons have made for themselves."""
    for peer in (world.here, world.far):
        name = peer.data_dir.name
        world.canaries.add(f"token of {name}", (peer.data_dir / "api_token").read_bytes().strip())
        world.canaries.add(f"vault of {name}", (peer.data_dir / "vault.key").read_bytes())
        pem = (peer.data_dir / "identity.key").read_bytes().splitlines()
        der = base64.b64decode(b"".join(pem[1:-1]))
        world.canaries.add(f"identity of {name}", der[-32:])
        whole = world.canaries.forms[f"identity of {name}"]
        world.canaries.forms[f"identity of {name}"] = (*whole, pem[1][24:])


def data_key(peer: Peer, service_id: int, passphrase: str) -> bytes:
    """Return the key of encrypted DATA, as only who knows its passphrase can."""
    ((header, wrapped, path),) = peer.rows(
        "SELECT k.header, k.wrapped_key, s.service_path FROM data_keys k JOIN offered_services s ON s.id = k.service_id"
        " WHERE s.id = ?",
        service_id,
    )
    return unwrap_key(derive_key(header_from_json(header), passphrase), wrapped, context=str(path).encode())


def test_secrets_are_nowhere_but_where_they_must_be(world: World) -> None:
    here, far, canaries = world.here, world.far, world.canaries
    key_files(world)

    invite = here.call("peer.invite")["invite"]
    canaries.add("invite", invite.split("/")[2].encode())
    secret = parse_invite(invite).secret
    canaries.forms["invite"] += (secret, secret.hex().encode())
    far.call("peer.join", invite=invite)
    wait_until(lambda: here.call("peer.get", peer_id=far.peer_id)["connected"], "the link is up")

    token = here.call("token.create", name="second", scope="read")["token"]
    canaries.add("second token", token.encode())

    source = world.place.parent / f"{world.place.name}-source"
    source.mkdir()
    content = canaries.word("content")
    (source / "plain.txt").write_text(content * 3)
    passphrase = canaries.word("passphrase")
    encrypted = here.data("encrypted", source / "plain.txt", passphrase=passphrase, seal=True)
    canaries.add("data key", data_key(here, encrypted, passphrase))
    shutil.rmtree(source)
    with pytest.raises(RpcError):
        here.call("service.unlock", service_id=encrypted, passphrase=canaries.word("wrong passphrase"))

    before, key = canaries.word("old secret"), canaries.word("secret")
    program = far.offer("program", PROGRAM, secrets={"key": before})
    far.call("service.update", service_id=program["id"], secrets={"key": key})
    password = canaries.word("registry password")
    with contextlib.suppress(
        RpcError
    ):  # without an engine the image cannot be asked for; nothing of it is to stay either
        far.call(
            "service.create",
            name="image",
            service_type="DOCKER",
            image="registry.invalid/team/tool",
            registry_auth={"username": "me", "password": password},
        )

    workflow = here.workflow("secrets")
    start, job = here.node(workflow, encrypted), here.remote_node(workflow, far, program)
    connection = here.connect(workflow, start, job)
    home = here.connect(workflow, job, None)
    execution = here.execute(workflow, passphrases={str(encrypted): passphrase})
    world.known = {
        "workflow_id": [workflow],
        "execution_id": [execution],
        "service_id": [encrypted, program["id"]],
        "node_id": [start, job],
        "job_execution_id": [1, 2],
        "peer_id": [here.peer_id, far.peer_id],
        "service_type": ["DATA"],
        "after_seq": [0],
        "wait_s": [0],
        "timeout_s": [0.1],
    }
    far.until("SELECT status FROM job_executions WHERE service_id = ?", "RUNNING", program["id"])
    wait_until(lambda: any(far.data_dir.rglob("running")), "the program has read its input")
    folder = next(far.data_dir.rglob("running")).parent

    # What a job gets is not hidden from the peer that runs it; where it was encrypted it still is.
    inputs = {Hit(secret="content", place=name) for name, data in files_below(far.data_dir) if content.encode() in data}
    assert inputs
    assert all("/jobs/" in hit.place for hit in inputs)
    (seen,) = SHARED_MEMORY.glob("rnd-secrets-*/key")
    assert seen.stat().st_mode & 0o077 == 0
    assert seen.parent.stat().st_mode & 0o077 == 0
    must = documented(world)
    assert world.hits() == must | inputs | {Hit(secret="secret", place=str(seen))}

    (folder / "go").touch()
    assert here.wait(execution)["status"] == "COMPLETED"
    told = hashlib.sha256((content * 3).encode()).hexdigest().encode()
    assert [data[:64] for data in here.results(execution).values()] == [told]  # the program had all of it
    assert home != connection
    wait_until(lambda: not seen.exists(), "the secrets of the program are gone")
    assert world.hits() <= must | inputs

    far.process.send_signal(signal.SIGABRT)  # type: ignore[union-attr]  # as the bug that ends it would
    far.process.wait(30)  # type: ignore[union-attr]  # a peer that runs has a process
    here.stop()
    places = at_rest((world.place,))
    assert set(canaries.hits(places)) <= must | inputs


def test_a_crash_of_the_daemon_leaves_no_picture_of_its_memory(world: World) -> None:
    assert world.here.process is not None
    limits = Path(f"/proc/{world.here.process.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]


def test_the_scan_finds_a_secret_in_answers_events_and_rows(world: World) -> None:
    secret = world.canaries.word("lost")
    workflow = int(world.here.call("workflow.create", name=secret)["id"])
    world.known = {"workflow_id": [workflow], "after_seq": [0], "wait_s": [0], "timeout_s": [0.1]}
    found = {hit.place for hit in world.hits()}
    for place in ("answer of workflow.get ['workflow_id']", "answer of workflow.list []", "table workflows"):
        assert place in found
    assert any(place.endswith(("/rnd.db", "/rnd.db-wal")) for place in found)


def _row(canaries: Canaries, place: Path, secret: str) -> list[Hit]:
    with contextlib.closing(sqlite3.connect(place / "rnd.db")) as conn:
        conn.execute("CREATE TABLE t (a)")
        conn.execute("INSERT INTO t VALUES (?)", ("x" * 5_000 + secret,))
        conn.commit()
        return canaries.hits(rows(place))


def _file(content: Callable[[str], bytes], name: str = "peer.log") -> Callable[[Canaries, Path, str], list[Hit]]:
    def find(canaries: Canaries, place: Path, secret: str) -> list[Hit]:
        (place / name).write_bytes(content(secret))
        return canaries.hits(files_below(place))

    return find


def _named(canaries: Canaries, place: Path, secret: str) -> list[Hit]:
    (place / secret).touch()
    return canaries.hits(files_below(place))


def _in_memory(canaries: Canaries, place: Path, secret: str) -> list[Hit]:
    path = SHARED_MEMORY / f"{place.name}-{os.getpid()}"
    path.write_text(secret)
    try:
        return canaries.hits(at_rest(()))
    finally:
        path.unlink()


def _process(*arguments: str, variable: bool = False) -> Callable[[Canaries, Path, str], list[Hit]]:
    def find(canaries: Canaries, place: Path, secret: str) -> list[Hit]:
        code = "print(flush=True), input()"
        command = [sys.executable, "-c", code, *([] if variable else [f"--password={secret}"])]
        env = {**os.environ, "PASSWORD": secret} if variable else None
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
            assert process.stdout is not None
            try:
                # For a moment after exec(2) the kernel shows no arguments: Popen returns before that moment is over.
                assert process.stdout.readline() == b"\n"
                return canaries.hits(processes())
            finally:
                process.communicate(b"\n")

    return find


PLACES = {
    "a row": _row,
    "a log": _file(lambda secret: f"1 INFO password={secret}\n".encode()),
    "a hidden file in hexadecimal": _file(lambda secret: secret.encode().hex().encode(), ".job.draft"),
    "a file in base64": _file(lambda secret: base64.b64encode(secret.encode())),
    "the name of a file": _named,
    "shared memory": _in_memory,
    "an argument": _process(),
    "an environment": _process(variable=True),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_scan_finds_a_secret_that_has_got_out(name: str, tmp_path: Path) -> None:
    canaries = Canaries()
    secret = canaries.word("lost")
    assert [hit.secret for hit in PLACES[name](canaries, tmp_path, secret)] == ["lost"]
