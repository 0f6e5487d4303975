"""Pages of a database are damaged while its daemon is away or at work: it stops with a code of its own and serves no wrong rows.

`RND_TEST_CORRUPTION_SEEDS` (`first:last`) runs other seeds than these.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running_peer import RpcError
from tests.running_peers import Peer, wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("test_corruption")]  # its tests share daemons

SEEDS = range(*map(int, os.environ.get("RND_TEST_CORRUPTION_SEEDS", "0:8").split(":")))
FACTS = 300
EXIT_DATABASE = 65
INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE = 2, 5, 10, 13
KINDS = {
    "a header": (1, 100),
    "an interior page": (INTERIOR_INDEX, INTERIOR_TABLE),
    "a page of an index": (LEAF_INDEX,),
    "a page of a table": (LEAF_TABLE,),
}


class Damaged:
    """A peer with facts, whose files are as they were after a stop, and after a kill."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.facts = [f"fact-{number:03}" for number in range(FACTS)]
        for name in self.facts:
            peer.workflow(name)
        workflow = peer.workflow("runs")
        peer.connect(workflow, peer.node(workflow, peer.program("says", "echo said")), None)
        assert peer.run(workflow)["status"] == "COMPLETED"
        peer.stop()
        self.clean = self.database.read_bytes()

    @property
    def database(self) -> Path:
        return self.peer.data_dir / "rnd.db"

    def restore(self) -> None:
        """Put the files back as they were after the stop."""
        if self.peer.process is not None:
            self.peer.kill()
        for end in ("-wal", "-shm"):
            self.database.with_name(f"rnd.db{end}").unlink(missing_ok=True)
        self.database.write_bytes(self.clean)

    def known(self) -> list[str]:
        """Return the names that the daemon knows, as its API says them."""
        names: list[str] = []
        after: int | None = 0
        while after is not None:
            page = self.peer.call("workflow.list", limit=100, after_id=after)
            names += [each["name"] for each in page["items"]]
            after = page["next_after_id"]
        return sorted(name for name in names if name.startswith("fact-"))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    peer = Peer(tmp_path_factory.mktemp("corrupt") / "peer")
    try:
        peer.start()
        yield Damaged(peer)
    finally:
        peer.dispose()


def pages_of(content: bytes, kind: str) -> list[int]:
    """Return where the pages of a kind begin."""
    page_bytes = int.from_bytes(content[16:18], "big")
    if kind == "a header":
        return [0]
    return [at for at in range(page_bytes, len(content), page_bytes) if content[at] in KINDS[kind]]


def refuses(peer: Peer) -> None:
    """See that a daemon stops at its start, with the code and the words for a damaged database."""
    with pytest.raises(AssertionError, match=f"the daemon ended with {EXIT_DATABASE}"):
        peer.start()
    assert "Database refused" in peer.stderr().splitlines()[-1]
    assert (
        "Put a backup back" in peer.stderr().splitlines()[-1] or "put a backup back" in peer.stderr().splitlines()[-1]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_page_is_found_at_the_start(damaged: Damaged, seed: int) -> None:
    """Noise where a page says what is in it, or all over it; a flipped bit within an ordinary value is one no check can see."""
    damaged.restore()
    rng = random.Random(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    at = rng.choice(pages_of(damaged.clean, kind))
    content = bytearray(damaged.clean)
    count = rng.choice((8, 64, 512, 4096))
    content[at : at + count] = rng.randbytes(count)
    damaged.database.write_bytes(content)
    refuses(damaged.peer)
    assert damaged.database.read_bytes() == content, "it is left as it is"


def test_damage_that_appears_at_work_ends_the_daemon(damaged: Damaged) -> None:
    damaged.restore()
    peer = damaged.peer
    peer.start()
    with contextlib.closing(sqlite3.connect(f"file:{damaged.database}?mode=ro", uri=True)) as conn:
        ((root,),) = conn.execute("SELECT rootpage FROM sqlite_master WHERE name = 'workflows'")
        ((page_bytes,),) = conn.execute("PRAGMA page_size")
    with damaged.database.open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(b"\xa5" * page_bytes)

    def ask() -> bool:
        with contextlib.suppress(OSError, RpcError, http.client.HTTPException):
            peer.workflow(f"more-{next(numbers)}")
            assert damaged.known() == damaged.facts, "no wrong rows are served"
        return peer.is_dead()

    numbers = itertools.count()
    wait_until(ask, "the daemon finds it")
    assert peer.process is not None
    assert peer.process.returncode == EXIT_DATABASE
    assert "is damaged" in peer.stderr().splitlines()[-1]
    refuses(peer)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_log_has_after_its_last_commit_is_harmless(damaged: Damaged, seed: int) -> None:
    """A kill leaves a write-ahead log; half a commit behind the last whole one is as if it had never been begun."""
    rng = random.Random(seed)
    damaged.restore()
    peer = damaged.peer
    peer.start()
    late = [f"fact-late-{number:02}" for number in range(20)]
    for name in late:
        peer.workflow(name)
    peer.kill()
    log = damaged.database.with_name("rnd.db-wal")
    whole = log.read_bytes()
    assert len(whole) > 10_000
    frame_bytes = 24 + int.from_bytes(whole[8:12], "big")
    frames = (len(whole) - 32) // frame_bytes
    match seed:
        case 0:
            log.write_bytes(whole + rng.randbytes(rng.randrange(1, 3 * frame_bytes)))
            lost = 0
        case 1:
            log.write_bytes(whole + whole[-frame_bytes : -rng.randrange(1, frame_bytes)])
            lost = 0
        case 2:  # what had been promised is gone with the tail: nothing but what came before may be there
            log.write_bytes(whole[: rng.randrange(32, len(whole))])
            lost = len(late)
        case _:
            flipped = bytearray(whole)
            flipped[32 + rng.randrange(frames) * frame_bytes + rng.randrange(frame_bytes)] ^= 1 << rng.randrange(8)
            log.write_bytes(flipped)
            lost = len(late)
    peer.start()
    known = [name for name in damaged.known() if name in late]
    assert known == late[: len(known)], "a log is believed up to one commit, and no further"
    assert len(known) >= len(late) - lost
    assert [name for name in damaged.known() if name not in late] == damaged.facts
