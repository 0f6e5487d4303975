"""Workflows across the daemons of a wired site, each drawn from a seed: what is big and what is small goes side by side."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.oracle import Site
from tests.running_peers import Peer

BIG_BYTES = (1 << 20, 6 << 20)
HEAVY_BYTES = 24 << 20
"""More than `window_bytes` of the daemons: its sender has to wait for acknowledgements."""
SMALL_FILES = 30
MOUNT = {"interface_type": "MOUNT", "path": "/many", "mount_function": "INPUT"}
SUM_OF_MANY = 'cd "$RND_MOUNT_MANY/" && find . -type f | sort | xargs cat | sha256sum | cut -c 1-64'


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A workflow that is drawn; `results` is what is to come home, `programs` are the names of all that run."""

    workflow_id: int
    results: dict[tuple[int, str], bytes] = field(default_factory=dict)
    programs: list[str] = field(default_factory=list)

    def check_completed(self, site: Site, execution: Mapping[str, Any], runs: Mapping[str, int]) -> None:
        """Check that every program has run once, and that the right bytes came home."""
        assert execution["status"] == "COMPLETED", execution["error"]
        assert execution["error"] is None
        came = site.home.results(execution["id"])
        assert sorted(came) == sorted(self.results)
        assert [key for key in came if came[key] != self.results[key]] == [], "other bytes came home"
        assert {name: runs[name] for name in self.programs} == dict.fromkeys(self.programs, 1)

    def check_cancelled(self, site: Site, execution: Mapping[str, Any], runs: Mapping[str, int]) -> None:
        """Check that no program has run twice, and that what came home is right."""
        assert execution["status"] == "CANCELLED", execution["error"]
        assert all(self.results[key] == content for key, content in site.home.results(execution["id"]).items())
        assert max(runs[name] for name in self.programs) <= 1, runs


def draw_errand(
    site: Site,
    name: str,
    rng: random.Random,
    folder: Path,
    *,
    peers: int,
    big_bytes: tuple[int, int] = BIG_BYTES,
    is_heavy: bool = False,
    giver: Peer | None = None,
) -> Errand:
    """A big file fans out to two programs that feed a third; a small one goes from peer to peer; many small ones are counted."""
    some = site.peers[:peers]
    errand = Errand(workflow_id=site.home.workflow(name))
    drawing = _Drawing(site, errand, name, rng)
    _draw_fan(drawing, some, folder, rng.randbytes(rng.randint(*big_bytes)), giver)
    if rng.random() < 0.7:
        _draw_chain(drawing, some, folder)
    if rng.random() < 0.7:
        _draw_many(drawing, some, folder)
    if is_heavy:
        _draw_heavy(drawing, some, folder)
    return errand


@dataclass(frozen=True, slots=True)
class _Drawing:
    site: Site
    errand: Errand
    name: str
    rng: random.Random

    def program(self, part: str, peer: Peer, what: str = "cat") -> int:
        """Draw a node of a program that notes that it runs, and says its name before what it does."""
        own = f"{self.name}-{part}"
        script = f"{self.site.note(own)}; sleep {self.rng.uniform(0, 0.4):.2f}; printf '<{part}>'; {what}"
        self.errand.programs.append(own)
        return self.site.home.remote_node(
            self.errand.workflow_id, peer, peer.offer(own, script, interfaces=_interfaces(what)), name=own
        )

    def data(self, part: str, peer: Peer, *paths: Path) -> int:
        """Draw a node of files that a peer offers."""
        given = peer.give(f"{self.name}-{part}", *paths)
        return self.site.home.remote_node(self.errand.workflow_id, peer, given)

    def connect(
        self, start: int | None, end: int | None, types: str = "STDOUT->STDIN", source: Path | None = None
    ) -> int:
        """Draw a connection."""
        more = {} if source is None else {"source_path": str(source)}
        return self.site.home.connect(self.errand.workflow_id, start, end, types, **more)

    def bring_home(self, node: int, content: bytes, name: str = "stdout.txt") -> None:
        """Have what a node makes come home."""
        self.errand.results[self.connect(node, None), name] = content


def _interfaces(what: str) -> list[dict[str, str]]:
    streams = [{"interface_type": "STDIN", "path": ""}, {"interface_type": "STDOUT", "path": ""}]
    return [MOUNT, *streams] if what is SUM_OF_MANY else streams


def _draw_fan(drawing: _Drawing, peers: Sequence[Peer], folder: Path, content: bytes, giver: Peer | None) -> None:
    rng = drawing.rng
    (folder / "big.bin").write_bytes(content)
    drawn = rng.choice(peers)
    data = drawing.data("big", giver or drawn, folder / "big.bin")
    left, right = drawing.program("left", peers[1]), drawing.program("right", peers[-1])
    join = drawing.program("join", rng.choice(peers))
    for way in (left, right):
        drawing.connect(data, way)
        drawing.connect(way, join)
    drawing.bring_home(join, b"<join><left>" + content + b"<right>" + content)
    if rng.random() < 0.5:
        drawing.bring_home(data, content, "big.bin")


def _draw_chain(drawing: _Drawing, peers: Sequence[Peer], folder: Path) -> None:
    content = drawing.rng.randbytes(drawing.rng.randint(0, 3000))
    (folder / "small.bin").write_bytes(content)
    before: int | None = None
    for number in range(drawing.rng.randint(2, 4)):
        node = drawing.program(f"link{number}", peers[number % len(peers)])
        drawing.connect(before, node, source=None if before else folder / "small.bin")
        before, content = node, f"<link{number}>".encode() + content
    assert before is not None
    drawing.bring_home(before, content)


def _draw_many(drawing: _Drawing, peers: Sequence[Peer], folder: Path) -> None:
    many = folder / "many"
    many.mkdir()
    contents = {
        f"./{number:02}.bin": drawing.rng.randbytes(drawing.rng.randint(0, 20_000)) for number in range(SMALL_FILES)
    }
    for path, content in contents.items():
        (many / path).write_bytes(content)
    node = drawing.program("many", drawing.rng.choice(peers[1:]), SUM_OF_MANY)
    drawing.connect(None, node, "STDOUT->MOUNT", source=many)
    total = hashlib.sha256(b"".join(contents[path] for path in sorted(contents))).hexdigest()
    drawing.bring_home(node, f"<many>{total}\n".encode())


def _draw_heavy(drawing: _Drawing, peers: Sequence[Peer], folder: Path) -> None:
    (folder / "heavy.bin").write_bytes(os.urandom(HEAVY_BYTES))
    with (folder / "heavy.bin").open("rb") as file:
        total = hashlib.file_digest(file, "sha256").hexdigest()
    data = drawing.data("heavy", peers[1], folder / "heavy.bin")
    node = drawing.program("sum", peers[0], "sha256sum | cut -c 1-64")
    drawing.connect(data, node)
    drawing.bring_home(node, f"<sum>{total}\n".encode())
