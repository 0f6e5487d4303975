"""Imports go one way (types <- rules <- protocol <- database <- workers, core, services, p2p <- api <- daemon).

The pure rooms import no effects, and only the composition root touches clock, ids and randomness.
"""

from __future__ import annotations

import ast
import functools
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
    "protocol": frozenset({"types", "rules"}),
    "crash_points": frozenset(),
    "log_sink": frozenset({"types"}),
    "log": frozenset({"types", "log_sink"}),
    "config": frozenset({"types", "rules"}),
    "system_clock": frozenset({"types", "log"}),
    "database": frozenset({"crash_points", "types", "rules", "protocol", "log"}),
    "workers": frozenset({"crash_points", "types", "rules", "protocol", "log", "database", "services"}),
    "services": frozenset({"types", "rules", "protocol", "log", "database", "workers"}),
    "p2p": frozenset({"crash_points", "types", "rules", "protocol", "log", "database", "workers", "services", "core"}),
    "core": frozenset({"crash_points", "types", "rules", "protocol", "log", "database", "workers", "services", "p2p"}),
    "api": frozenset({"types", "rules", "protocol", "log", "database", "workers", "services", "p2p", "core"}),
    "peer_side": frozenset({"types", "rules", "protocol", "log", "database", "workers", "services", "p2p", "core"}),
    "backup": frozenset({"types", "rules", "database", "services", "p2p", "workers"}),
    "own_side": frozenset({"types", "database", "workers", "services", "core", "peer_side"}),
    "reloading": frozenset({"types", "config"}),
    "supervision": frozenset({"types", "log", "database", "services", "core", "api"}),
    "daemon": frozenset(
        {
            *(
                "crash_points",
                "types",
                "rules",
                "protocol",
                "log",
                "log_sink",
                "config",
                "database",
                "workers",
                "services",
                "p2p",
                "core",
                "api",
            ),
            *("peer_side", "own_side", "reloading", "supervision", "system_clock"),
        }
    ),
    "cli": frozenset({"types"}),
    "__main__": frozenset({"cli"}),
    "__init__": frozenset(),
}

# `rnd serve` is the one door from the CLI to the daemon, and it opens only when it is used.
LAZY_DOORS = {("cli", "daemon"), ("cli", "config"), ("cli", "backup")}

# The spawner is a program of its own that outlives the daemon: it and all it imports need nothing but Python.
SPAWNER = "services/spawner.py"
# So is rnd-exec, which alone may speak to the container engine.
EXEC = "services/exec_server.py"
ENGINE_SDK = frozenset({"docker", "requests", "urllib3"})

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
# The simulation runs neither the spawner's program nor rnd-exec's, which may use them as well.
MAY_USE_SEAMS = {
    "daemon.py": "the composition root makes the real clock and the real entropy",
    "system_clock.py": "the real clock",
    "log.py": "a line is stamped with the time at which it is written; nothing is decided by it",
}
# What rnd-exec shares with the daemon has to keep to the daemon's rules.
DAEMONS_TOO = frozenset({"services/executor.py", "services/images.py"})
ROOMS_FREE_OF_SEAMS = {"cli": "a client in a process of its own, outside the simulation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported module by its full name, what is taken from it, and whether the import waits for a call
    (or for a type checker)."""

    name: str
    member: str
    line: int
    lazy: bool


def room_of(path: Path) -> str:
    """Return the room of a module: its folder below rnd/, or its own name at the top."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(source: str) -> Iterator[Import]:
    """Yield every import of a module, those inside functions and under TYPE_CHECKING too."""
    tree = ast.parse(source)
    waiting = {id(node) for part in ast.walk(tree) if runs_later(part) for node in ast.walk(part)}
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(name=alias.name, member="", line=node.lineno, lazy=id(node) in waiting)
            case ast.ImportFrom():
                for alias in node.names:
                    name = f"rnd.{alias.name}" if node.module == "rnd" else node.module or ""
                    yield Import(name=name, member=alias.name, line=node.lineno, lazy=id(node) in waiting)


def runs_later(part: ast.AST) -> bool:
    """Say whether what stands in a part of a module does not run when the module is imported."""
    match part:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
    return False


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


def name_of(path: Path) -> str:
    """Return `services/spawner.py` for a module's path."""
    return str(path.relative_to(PACKAGE))


def own_imports(path: Path) -> set[str]:
    """Return the modules of rnd that a module imports when it is itself imported."""
    found = set()
    for imported in imports_of(path.read_text(encoding="utf-8")):
        parts = imported.name.split(".")
        if parts[0] == "rnd" and not imported.lazy:
            for candidate in ([*parts[1:], imported.member], parts[1:]):
                module = PACKAGE.joinpath(*candidate).with_suffix(".py")
                if candidate[-1] and module.is_file():
                    found.add(name_of(module))
                    break
    return found


def spawner_program() -> frozenset[str]:
    """Return the spawner and every module of rnd that it imports, directly or not."""
    return program_of(SPAWNER)


@functools.cache
def program_of(entry: str) -> frozenset[str]:
    """Return a module and every module of rnd that it imports, directly or not."""
    program: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name not in program and (PACKAGE / name).is_file():
            program.add(name)
            waiting += own_imports(PACKAGE / name)
    return frozenset(program)


def rings(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that reach each other both ways."""

    def reached_from(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in edges.get(waiting.pop(), set()) - seen:
                seen.add(target)
                waiting.append(target)
        return seen

    reached = {name: reached_from(name) for name in edges}
    groups = {
        frozenset(other for other in reached[name] if name in reached.get(other, set()))
        for name in edges
        if name in reached[name]
    }
    return sorted(sorted(group) for group in groups)


def modules() -> list[Path]:
    """Return every module of the package."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "web" not in path.relative_to(PACKAGE).parts)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    assert room_of(path) in MAY_IMPORT, "a new room: say in MAY_IMPORT what it may import"
    assert upward_edges(room_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_the_composition_root_touches_clock_ids_and_randomness(path: Path) -> None:
    if name_of(path) in MAY_USE_SEAMS or room_of(path) in ROOMS_FREE_OF_SEAMS:
        return
    if name_of(path) in spawner_program() | (program_of(EXEC) - DAEMONS_TOO):
        return
    assert uses_of_seams(path.read_text(encoding="utf-8")) == []


def test_the_spawner_needs_nothing_but_the_standard_library() -> None:
    outside = {
        (name, imported.name)
        for name in sorted(spawner_program())
        for imported in imports_of((PACKAGE / name).read_text(encoding="utf-8"))
        if imported.name.split(".")[0] not in {*sys.stdlib_module_names, "rnd"}
    }
    assert outside == set()
    assert SPAWNER in spawner_program()
    assert {room_of(PACKAGE / name) for name in spawner_program()} == {"services"}


def test_nobody_but_rnd_exec_imports_the_engines_sdk_and_it_only_when_it_calls() -> None:
    who = {
        (name_of(path), imported.lazy)
        for path in modules()
        for imported in imports_of(path.read_text(encoding="utf-8"))
        if imported.name.split(".")[0] in ENGINE_SDK
    }
    assert who == {("services/engine.py", True), ("services/engine_images.py", True)}


def test_the_daemon_imports_nothing_of_the_process_that_speaks_to_the_engine() -> None:
    assert "services/engine.py" in program_of(EXEC)
    assert {"services/engine.py", EXEC}.isdisjoint(program_of("daemon.py") | program_of("services/docker_service.py"))


def test_no_modules_import_each_other_in_a_ring() -> None:
    assert rings({name_of(path): own_imports(path) for path in modules()}) == []


def test_the_check_of_rings_can_bite() -> None:
    assert rings({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]


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
        ("cli", "if TYPE_CHECKING:\n    from rnd.config import Config", []),
        ("rules", "if TYPE_CHECKING:\n    from rnd.database import rows", ["line 2: rules imports rnd.database"]),
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
