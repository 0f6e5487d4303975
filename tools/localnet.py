"""What `tools/localnet` does once it has an interpreter: start peers, pair them, say how to reach them, wait."""

from __future__ import annotations

import argparse
import fcntl
import itertools
import shlex
import sys
from pathlib import Path
from typing import Final

from rnd.cli.failures import CommandFailed
from rnd.cli.local_peers import LocalPeers

MOST_PEERS: Final = 50


def main() -> int:
    """Run until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(prog="tools/localnet", allow_abbrev=False)
    parser.add_argument("peers", metavar="PEERS", type=int, nargs="?", default=3)
    default = Path(__file__).resolve().parent.parent / ".tools" / "localnet"
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", default=default)
    parser.add_argument("--star", action="store_true")
    arguments = parser.parse_args()
    if not 1 <= arguments.peers <= MOST_PEERS:
        parser.error(f"PEERS must be between 1 and {MOST_PEERS}")
    folder = arguments.folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"tools/localnet: another one is at work in {folder}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"tools/localnet: {folder} cannot be used: {error.strerror}", file=sys.stderr)
        return 2
    names = [f"peer-{number}" for number in range(1, arguments.peers + 1)]
    try:
        with lock, LocalPeers(folder, names) as peers:
            _serve(peers, star=arguments.star)
    except CommandFailed as failed:
        print(f"tools/localnet: {failed.message}", file=sys.stderr)
        if failed.hint:
            print(f"hint: {failed.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    print("\nAll peers have stopped.")
    return 0


def _serve(peers: LocalPeers, *, star: bool) -> None:
    peers.start()
    ids = {name: str(peers.call(name, "node.status")["peer_id"]) for name in peers.names}
    first, *others = peers.names
    pairs = [(first, other) for other in others] if star else itertools.combinations(peers.names, 2)
    for one, other in pairs:
        known = {peer["peer_id"]: peer["state"] for peer in peers.call(one, "peer.list", limit=1000)["items"]}
        if known.get(ids[other]) != "allowed":
            peers.pair(one, other)
        else:
            peers.await_link(one, ids[other])
    for name in peers.names:
        status = peers.call(name, "node.status")
        print(f"{name:<9}{ids[name]}  {' '.join(status['peer_addresses'])}  {status['peers_connected']} linked")
    print(f'\n  rnd() {{ {shlex.join([sys.executable, "-m", "rnd"])} "$@"; }}   # the command, without installing it')
    print(f"  cd {shlex.quote(str(peers.folder))}; rnd --data-dir {first} peer list")
    print("\nCtrl-C stops them all.", flush=True)
    peers.await_end()


if __name__ == "__main__":
    sys.exit(main())
