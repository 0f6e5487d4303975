"""A way between two daemons on which deliveries come to harm at random points, and what the harms are."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rnd.protocol.transfer import WINDOW_BYTES
from tests.cutting_proxy import CuttingProxy, cutting_proxy
from tests.figures import note_figures
from tests.live_files import found_below
from tests.running_peers import Peer, pair, wait_until

UNNOTED_BYTES_MAX = 7 << 20
"""What need not be noted of a delivery, and a frame: more than 5 % of those that have less than 140 MiB."""


class Way(NamedTuple):
    """A sender whose only way to its receiver leads through a proxy; the receiver cannot be dialled."""

    sender: Peer
    receiver: Peer
    proxy: CuttingProxy
    folder: Path
    """Where tests keep what they send."""


@contextlib.contextmanager
def running_way(folder: Path) -> Iterator[Way]:
    """Start the daemons of such a way; end them afterwards."""
    with cutting_proxy() as proxy:
        sender = Peer(folder / "sender", env={"RND_ADVERTISE": proxy.address})
        receiver = Peer(folder / "receiver")
        receiver.listen_at = ""
        try:
            for peer in (sender, receiver):
                peer.start()
            proxy.target, sender.address = listening_at(sender), proxy.address
            pair(sender, receiver)
            yield Way(sender, receiver, proxy, folder)
        finally:
            sender.dispose()
            receiver.dispose()


def listening_at(peer: Peer) -> str:
    lines = [line for line in peer.log_lines() if "Listening for peers: address=" in line]
    return lines[-1].rpartition("=")[2]


def killed(peer: Peer, way: Way) -> None:
    assert peer.process is not None
    peer.process.send_signal(signal.SIGKILL)
    peer.process.wait()
    peer.start()
    way.proxy.target = listening_at(way.sender)


def asked_to_stop(peer: Peer, way: Way) -> None:
    peer.stop()
    peer.start()
    way.proxy.target = listening_at(way.sender)


HARMS: list[tuple[str, Callable[[Way], None]]] = [
    ("link cut", lambda way: way.proxy.cut()),
    ("sender killed", lambda way: killed(way.sender, way)),
    ("receiver killed", lambda way: killed(way.receiver, way)),
    ("receiver restarted", lambda way: asked_to_stop(way.receiver, way)),
    ("sender restarted", lambda way: asked_to_stop(way.sender, way)),
]


class Harmed(NamedTuple):
    """A delivery that came to harm after `at_bytes` had passed and has arrived; so much of it has passed twice."""

    execution_id: int
    harm: str
    at_bytes: int
    twice_bytes: int


def harmed_delivery(way: Way, workflow: int, seed: int, *, from_bytes: int, stream_bytes: int) -> Harmed:
    """Have a delivery come to harm at a random point from `from_bytes` on, and its execution complete all the same."""
    harm, do_harm = HARMS[seed % len(HARMS)]
    happened = threading.Event()
    way.proxy.after(random.Random(seed).randrange(from_bytes, stream_bytes), happened.set)
    before = way.proxy.to_client
    execution_id = way.sender.execute(workflow)
    assert happened.wait(60), "the bytes did not move"
    at_bytes = way.proxy.to_client - before
    do_harm(way)
    ended = way.sender.wait(execution_id, timeout_s=120)
    assert ended["status"] == "COMPLETED", (harm, ended["error"])
    return Harmed(execution_id, harm, at_bytes, way.proxy.to_client - before - stream_bytes)


def check_harmed(way: Way, harmed: Harmed, seed: int, *, what: str, stream_bytes: int, is_exact: bool) -> None:
    """Check that a delivery arrived exact, with little of it sent twice, and left nothing; note the figures of it."""
    allowed_bytes = max(stream_bytes * 5 // 100, UNNOTED_BYTES_MAX) + WINDOW_BYTES
    note_figures(
        "cuts",
        what=what,
        seed=seed,
        harm=harmed.harm,
        at_bytes=harmed.at_bytes,
        twice_bytes=harmed.twice_bytes,
        allowed_bytes=allowed_bytes,
        is_exact=is_exact,
    )
    assert is_exact, harmed
    assert harmed.twice_bytes < allowed_bytes, harmed
    parts = found_below(way.receiver.data_dir / "workflows", "*.part*")
    assert parts == [], parts
    wait_until(lambda: not way.sender.rows("SELECT 1 FROM transfers WHERE status IN ('PENDING', 'ACTIVE')"), "open")


class Seen(NamedTuple):
    """What there was of an input when it was first seen."""

    files: int
    size_bytes: int


@contextlib.contextmanager
def watched_inputs(receiver: Peer) -> Iterator[dict[Path, Seen]]:
    """Watch what inputs of jobs become visible meanwhile: folder -> what it had when it was first seen."""
    before = set(visible_inputs(receiver))
    seen: dict[Path, Seen] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            for folder in visible_inputs(receiver):
                if folder not in before and folder not in seen:
                    with contextlib.suppress(FileNotFoundError):  # a daemon that started anew has taken it away again
                        seen[folder] = look_at(folder)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def visible_inputs(receiver: Peer) -> list[Path]:
    """Return the folders that hold what one connection has brought: `<job>/input/<sender>/<sender's job>`."""
    inputs = (receiver.data_dir / "workflows").glob("*/*/jobs/*/*/input/*/*")
    return [folder for folder in inputs if not folder.name.startswith(".")]


def look_at(folder: Path) -> Seen:
    """Return what there is below a folder now. Raises `FileNotFoundError` where it goes meanwhile."""
    sizes = [os.stat(os.path.join(above, name)).st_size for above, _, names in os.walk(folder) for name in names]
    folder.stat()
    return Seen(files=len(sizes), size_bytes=sum(sizes))
