"""Imports go one way (types <- rules, protocol <- database <- workers, core, services, p2p <- api <- daemon).

The pure rooms import no effects, and only the composition root touches clock, ids and randomness.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import rnd

PACKAGE = Path(rnd.__file__).parent

# What each room may import of rnd besides itself. `log` is a leaf that every effects room may use.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "types": frozenset(),
    "rules": frozenset({"types"}),
    "protocol": frozenset({"types"}),
    "log": frozenset({"types"}),
    "config": frozenset({"types", "rules"}),
    "database": frozenset({"types", "rules", "protocol", "log"}),
    "workers": frozenset({"types", "rules", "protocol", "log", "database", "services"}),
    "services": frozenset({"types", "rules", "protocol", "log", "database", "workers"}),
    "p2p": frozenset({"types", "rules", "protocol", "log", "database", "workers", "services", "core"}),
    "core": frozenset({"types", "rules", "protocol", "log", "database", "workers", "services", "p2p"}),
    "api": frozenset({"types", "rules", "protocol", "log", "database", "workers", "services", "p2p", "core"}),
    "daemon": frozenset(
        {"types", "rules", "protocol", "log", "config", "database", "workers", "services", "p2p", "core", "api"}
    ),
    "cli": frozenset({"types"}),
    "__main__": frozenset({"cli"}),
    "__init__": frozenset(),
}

# `rnd serve` is the one door from the CLI to the daemon, and it opens only when it is used.
LAZY_DOORS = {("cli", "daemon"), ("cli", "config")}

# The spawner is a program of its own that outlives the daemon: nothing but the standard library.
STANDARD_LIBRARY_ONLY = {"services/spawner.py"}

IMPURE_MODULES = frozenset(
    {"asyncio", "sqlite3", "aiohttp", "time", "random", "secrets", "os", "socket", "ssl", "subprocess", "threading",
     "tempfile", "shutil", "uuid", "structlog", "docker", "logging", "select", "signal", "urllib.request"}
)  # fmt: skip
PURE_ROOMS = frozenset({"types", "rules", "protocol"})

# Calls that read the clock or make ids or randomness, by their full names.
SEAMS = frozenset(
    {"datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today",
     "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.localtime",
     "os.urandom", "os.getrandom", "uuid.uuid1", "uuid.uuid4",
     "random.random", "random.randint", "random.choice", "random.uniform", "random.randbytes", "random.Random",
     "random.SystemRandom", "secrets.token_bytes", "secrets.token_hex", "secrets.token_urlsafe", "secrets.choice",
     "secrets.randbits"}
)  # fmt: skip
MAY_USE_SEAMS = {
    "daemon.py": "the composition root makes the real clock and the real entropy",
    "log.py": "a line is stamped with the time at which it is written; nothing is decided by it",
    "services/spawner.py": "a process of its own that the simulation does not run",
}
ROOMS_FREE_OF_SEAMS = {"cli": "a client in a process of its own, outside the simulation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported module by its full name, and whether the import waits inside a function."""

    name: str
    line: int
    lazy: bool


def room_of(path: Path) -> str:
    """Return the room of a module: its folder below rnd/, or its own name at the top."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(source: str) -> Iterator[Import]:
    """Yield every import of a module, those inside functions and under TYPE_CHECKING too."""
    tree = ast.parse(source)
    inside_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(name=alias.name, line=node.lineno, lazy=id(node) in inside_functions)
            case ast.ImportFrom():
                for alias in node.names:
                    name = f"{node.module or ''}.{alias.name}" if node.module == "rnd" else node.module or ""
                    yield Import(name=name, line=node.lineno, lazy=id(node) in inside_functions)


def upward_edges(room: str, source: str) -> list[str]:
    """Return the imports of a module that its room may not have."""
    wrong = []
    for imported in imports_of(source):
        parts = imported.name.split(".")
        if parts[0] == "rnd" and len(parts) > 1:
            target = parts[1]
            allowed = target == room or target == "__version__" or target in MAY_IMPORT[room]
            if not allowed and not ((room, target) in LAZY_DOORS and imported.lazy):
                wrong.append(f"line {imported.line}: {room} imports rnd.{target}")
        elif room in PURE_ROOMS and (parts[0] in IMPURE_MODULES or imported.name in IMPURE_MODULES):
            wrong.append(f"line {imported.line}: {room} imports {imported.name}")
    return wrong


def uses_of_seams(source: str) -> list[str]:
    """Return every mention of a clock, id or randomness function, called or handed on."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names |= {alias.asname or alias.name: alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module)):
                names |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
    return [
        f"line {node.lineno}: {full}"
        for node in ast.walk(tree)
        if isinstance(node, (ast.Attribute, ast.Name)) and (full := full_name(node, names)) in SEAMS
    ]


def full_name(node: ast.expr, names: dict[str, str]) -> str:
    """Return `datetime.datetime.now` for a dotted expression, with what its first name was imported as."""
    match node:
        case ast.Name(id=name):
            return names.get(name, "")
        case ast.Attribute(value=value, attr=attr):
            return f"{full_name(value, names)}.{attr}"
    return ""


def modules() -> list[Path]:
    """Return every module of the package."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "web" not in path.relative_to(PACKAGE).parts)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    assert room_of(path) in MAY_IMPORT, "a new room: say in MAY_IMPORT what it may import"
    assert upward_edges(room_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_composition_root_touches_clock_ids_and_randomness(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) in MAY_USE_SEAMS or room_of(path) in ROOMS_FREE_OF_SEAMS:
        return
    assert uses_of_seams(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", sorted(STANDARD_LIBRARY_ONLY))
def test_the_spawner_needs_nothing_but_the_standard_library(name: str) -> None:
    path = PACKAGE / name
    outside = [
        imported.name
        for imported in imports_of(path.read_text(encoding="utf-8"))
        if imported.name.split(".")[0] not in sys.stdlib_module_names
    ]
    assert outside == []


def test_no_two_rooms_import_each_other() -> None:
    edges: dict[str, set[str]] = {}
    for path in modules():
        room = room_of(path)
        for imported in imports_of(path.read_text(encoding="utf-8")):
            parts = imported.name.split(".")
            if parts[0] == "rnd" and len(parts) > 1 and parts[1] != room and parts[1] in MAY_IMPORT:
                edges.setdefault(room, set()).add(parts[1])
    both_ways = sorted(
        {tuple(sorted((a, b))) for a, targets in edges.items() for b in targets if a in edges.get(b, ())}
    )
    assert both_ways == []


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("rules", "from rnd.database import connection", ["line 1: rules imports rnd.database"]),
        ("rules", "import sqlite3", ["line 1: rules imports sqlite3"]),
        ("protocol", "import os.path", ["line 1: protocol imports os.path"]),
        ("protocol", "from asyncio import Queue", ["line 1: protocol imports asyncio"]),
        ("database", "from rnd.core.job_manager import JobManager", ["line 1: database imports rnd.core"]),
        ("database", "from rnd import api", ["line 1: database imports rnd.api"]),
        ("types", "def f():\n    import time", ["line 2: types imports time"]),
        ("cli", "from rnd.daemon import serve", ["line 1: cli imports rnd.daemon"]),
        ("cli", "def serve():\n    from rnd.daemon import serve", []),
        ("cli", "def f():\n    from rnd.api import server", ["line 2: cli imports rnd.api"]),
        ("core", "from rnd import __version__\nfrom rnd.database import jobs\nimport time", []),
    ],
)
def test_the_check_of_imports_can_bite(room: str, source: str, wrong: list[str]) -> None:
    assert upward_edges(room, source) == wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from datetime import datetime\nx = datetime.now()", ["line 2: datetime.datetime.now"]),
        ("import datetime as d\nx = d.datetime.now()", ["line 2: datetime.datetime.now"]),
        ("from time import monotonic as m\nx = m()", ["line 2: time.monotonic"]),
        ("import os\ndef f(make=os.urandom): ...", ["line 2: os.urandom"]),
        ("import uuid\nx = uuid.uuid4()", ["line 2: uuid.uuid4"]),
        ("import time\ntime.strftime('%Y')", []),
        ("def f(clock):\n    return clock.now(), clock.monotonic()", []),
    ],
)
def test_the_check_of_seams_can_bite(source: str, wrong: list[str]) -> None:
    assert uses_of_seams(textwrap.dedent(source)) == wrong
