"""Secrets that can be told from everything else, and a scan of all places to which one could have got."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rnd.api.method_table import build_table
from tests.running_peer import RpcError, RunningPeer

SHARED_MEMORY: Final = Path("/dev/shm")
ASKED: Final = ("list", "get", "status", "capabilities", "export", "results", "logs", "explain", "interfaces", "poll", "discover",
    "plan", "validate", "search", "list_nodes", "list_connections", "get_ui_state", "ping", "suggest_interfaces")  # fmt: skip
"""The last parts of the names of methods that change nothing and tell something."""
FILE_BYTES_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A secret was found; `place` says where."""

    secret: str
    place: str


@dataclass
class Canaries:
    """Secrets by name, each in the forms in which it could be written down."""

    forms: dict[str, tuple[bytes, ...]] = field(default_factory=dict)

    def word(self, name: str) -> str:
        """Return a new secret that is text."""
        text = f"canary-{name}-{secrets.token_hex(12)}"
        self.add(name, text.encode())
        return text

    def add(self, name: str, secret: bytes) -> None:
        """Look for a secret as it is, in hexadecimal digits and in base64."""
        assert len(secret) >= 16, name
        digits, text = secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")
        url_text = base64.urlsafe_b64encode(secret).rstrip(b"=")
        # The last digits of base64 depend on what follows.
        self.forms[name] = tuple(dict.fromkeys((secret, digits, digits.upper(), text[:-2], url_text[:-2])))

    def hits(self, places: Iterable[tuple[str, bytes]]) -> list[Hit]:
        """Return where secrets are."""
        return [
            Hit(secret=name, place=place)
            for place, content in places
            for name, forms in self.forms.items()
            if any(form in content for form in forms)
        ]


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file below a folder, hidden ones and those of the database too, and every name."""
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield f"name of {where}/{name}", os.fsencode(name)
        for name in names:
            path = Path(where, name)
            if path.is_symlink() or not path.is_file():
                continue
            with contextlib.suppress(FileNotFoundError):
                assert path.stat().st_size <= FILE_BYTES_MAX, path
                yield str(path), path.read_bytes()


def processes() -> Iterator[tuple[str, bytes]]:
    """Yield command line and environment of every process of this machine but the test's own."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            for kind in ("cmdline", "environ"):
                with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                    yield f"{kind} of process {entry.name}", (entry / kind).read_bytes()


def rows(data_dir: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every value of the database: within a page it may lie in pieces."""
    with contextlib.closing(sqlite3.connect(f"file:{data_dir}/rnd.db?mode=ro", uri=True, timeout=30)) as conn:
        tables = [row[0] for row in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            for row in conn.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    yield f"table {table}", value if isinstance(value, bytes) else str(value).encode()


def answers(peer: RunningPeer, known: dict[str, Sequence[Any]]) -> Iterator[tuple[str, bytes]]:
    """Yield what every method that tells something answers, refusals too, with each of the known values of its parameters."""
    for name, method in build_table().methods.items():
        if name.rpartition(".")[2] not in ASKED:
            continue
        wanted = [each.name for each in method.parameters if each.name in known]
        needed = {each.name for each in method.parameters if each.required}
        sets = [{each: known[each][0] for each in needed if each in known}]
        sets += [sets[0] | {each: value} for each in wanted for value in known[each]]
        for params in sets:
            try:
                answer = peer.call(name, **params)
            except RpcError as error:
                answer = str(error)
            yield f"answer of {name} {sorted(params)}", repr(answer).encode()
    for path in ("/metrics", "/"):
        yield f"GET {path}", peer.get(path)[1]


def everywhere(
    peers: Sequence[RunningPeer], folders: Sequence[Path], known: dict[str, Sequence[Any]]
) -> Iterator[tuple[str, bytes]]:
    """Yield all of it, of peers that run."""
    for peer in peers:
        yield from answers(peer, known)
        yield from rows(peer.data_dir)
    yield from at_rest([*(peer.data_dir for peer in peers), *folders])


def at_rest(folders: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield what there is of folders, memory file systems and processes."""
    for folder in (*folders, SHARED_MEMORY):
        yield from files_below(folder)
    yield from processes()
