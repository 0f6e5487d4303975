"""The command starts in a blink, and its arguments say what is wrong with them."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys

import pytest

from rnd.cli.arguments import seconds, size_bytes
from rnd.cli.parser import _PARTS, OVERVIEW, build_parser
from tests.cli.command import Rnd
from tests.cli.scripted_daemon import ScriptedDaemon

HEAVY = ("aiohttp", "structlog", "cryptography", "jsonrpcserver", "sqlite3", "asyncio", "docker", "rnd.daemon")
STATUS = {
    "peer_id": "rnpeer", "name": "n", "version": "0", "uptime_s": 1, "api": {}, "peer_addresses": [], "executors": {},
    "jobs": {}, "executions": {}, "transfers_active": 0, "peers_connected": 0, "disk_free_bytes": 1,
}  # fmt: skip


def test_asking_for_the_status_loads_nothing_heavy(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["node.status"] = STATUS
    program = (
        "import sys\n"
        "from rnd.cli.main import main\n"
        "code = main(['status', '--json'])\n"
        f"print([name for name in {HEAVY} if name in sys.modules], code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        # Without what measures coverage in every process: that loads sqlite3 itself.
        env={name: value for name, value in rnd.environment().items() if not name.startswith("COV")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_the_start_takes_less_than_a_tenth_of_a_second(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["node.status"] = STATUS
    environment = {name: value for name, value in rnd.environment().items() if not name.startswith("COV")}

    def processor_time_s(command: list[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # A busy machine stretches every process alike, so the measure is what the standard library alone costs there.
    alone = [sys.executable, "-c", "import argparse, http.client, json"]
    pairs = [(processor_time_s(rnd.command("status", "--json")), processor_time_s(alone)) for _ in range(7)]
    status_s, library_s = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
    assert status_s < max(0.1, 2 * library_s)


def test_every_command_is_in_the_overview_and_in_its_part() -> None:
    actions = build_parser()._actions
    (commands,) = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
    listed = [line.split()[0] for line in OVERVIEW.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(commands.choices)
    assert sorted(name for names in _PARTS.values() for name in names) == sorted(commands.choices)


def test_options_count_before_and_after_the_command(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["node.status"] = STATUS
    assert rnd("-q", "status").out == rnd("status", "-q").out == "rnpeer\n"
    assert rnd("--json", "status").json == rnd("status", "--json").json == STATUS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stauts"], "did you mean 'status'?"),
        (["service", "ad"], "did you mean 'add'?"),
        (["ps", "--status", "FAILD"], "did you mean 'FAILED'?"),
        (["ps", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["run"], "the following arguments are required: WORKFLOW"),
        (["run", "x", "--timeout", "soon"], "'soon' is no time; write 90, 30s, 10m or 2h"),
        (["service", "add", "standalone", "x", "/x", "--memory", "much"], "'much' is no size"),
        (["show", "1", "2"], "unrecognized arguments: 2"),
        (["\x1b[31mred"], "\\x1b[31mred"),
    ],
)
def test_a_mistyped_command_is_answered_in_two_lines(rnd: Rnd, arguments: list[str], words: str) -> None:
    done = rnd(*arguments)
    assert (done.code, done.out) == (2, "")
    message, hint = done.err.splitlines()
    assert message.startswith("rnd: ")
    assert words in message
    assert hint.startswith("hint: rnd ")
    assert hint.endswith(" --help")


@pytest.mark.parametrize("arguments", [[], ["service"], ["service", "add"], ["config"]])
def test_half_a_command_shows_how_it_goes_on(rnd: Rnd, arguments: list[str]) -> None:
    done = rnd(*arguments)
    assert done.code == 2
    assert done.err.startswith("usage: ")


def test_help_and_version_are_answers(rnd: Rnd) -> None:
    assert rnd("--version").out.startswith("rnd 0.")
    for command in (
        ["--help"],
        ["run", "--help"],
        ["service", "add", "standalone", "--help"],
        ["service", "add", "docker", "--help"],
    ):
        done = rnd(*command)
        assert (done.code, done.err) == (0, "")
        assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("text", "amount"), [("90", 90), ("30s", 30), ("1.5m", 90), ("2h", 7200), ("7d", 604800), ("250ms", 0.25)]
)
def test_times_are_written_with_units(text: str, amount: float) -> None:
    assert seconds(text) == amount


@pytest.mark.parametrize("text", ["", "x", "-1", "1y", "1 2", "١s", "nan", "inf"])
def test_no_times(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seconds(text)


@pytest.mark.parametrize(("text", "amount"), [("1", 1), ("1k", 1024), ("512M", 512 << 20), ("1.5GiB", 3 << 29)])
def test_sizes_are_written_with_units(text: str, amount: int) -> None:
    assert size_bytes(text) == amount


def test_a_reader_that_goes_away_is_no_traceback(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    items = [
        {"id": n, "name": "x" * 200, "description": "", "node_count": 0, "updated_at": None} for n in range(1, 1000)
    ]
    daemon.methods["workflow.list"] = {"items": items, "total": len(items), "next_after_id": None}
    read, write = os.pipe()
    process = subprocess.Popen(
        rnd.command("workflow", "list"), env=rnd.environment(), stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    os.read(read, 1)
    os.close(read)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")
