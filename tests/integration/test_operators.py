"""What an operator sees of a daemon: metrics that Prometheus takes, under load, and logs for programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.running_peer import PROJECT, RunningPeer, running_peer

OBSERVABILITY = PROJECT / "tools" / "observability"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPeer]:
    peer = RunningPeer(tmp_path_factory.mktemp("operated") / "data", config='log_format = "json"\n')
    try:
        peer.start()
        yield peer
    finally:
        peer.dispose()


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        assert not os.environ.get("CI"), "promtool is needed: Debian's package prometheus has it"
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


def scrape(peer: RunningPeer) -> str:
    status, body = peer.get("/metrics")
    assert status == 200
    return body.decode()


def samples(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert name not in found
            found[name] = float(value)
    return found


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def chain(peer: RunningPeer, name: str) -> int:
    """Make a workflow of data, a program and the way home; return its id."""
    source = peer.data_dir.parent / f"{name}.txt"
    source.write_text("hello\n")
    workflow = peer.workflow(name)
    data = peer.node(workflow, peer.data(f"{name} data", source))
    program = peer.node(workflow, peer.program(f"{name}-program", "cat\n"))
    peer.connect(workflow, data, program)
    peer.connect(workflow, program, None, "STDOUT->MOUNT")
    return workflow


def test_counters_say_what_has_happened(peer: RunningPeer) -> None:
    before = samples(scrape(peer))
    workflow = chain(peer, "counted")
    assert peer.run(workflow)["status"] == "COMPLETED"
    failing = peer.workflow("failing")
    peer.node(failing, peer.program("fails", "exit 3\n"))
    assert peer.run(failing)["status"] == "FAILED"
    after = samples(scrape(peer))
    grown = {name: value - before[name] for name, value in after.items() if "_total" in name or "_count" in name}
    assert {name: by for name, by in grown.items() if by and "events" not in name and "_seconds" not in name} == {
        'rnd_jobs_ended_total{status="COMPLETED",type="DATA"}': 1,
        'rnd_jobs_ended_total{status="COMPLETED",type="STANDALONE"}': 1,
        'rnd_jobs_ended_total{status="ERRORED",type="STANDALONE"}': 1,
        'rnd_executions_ended_total{status="COMPLETED"}': 1,
        'rnd_executions_ended_total{status="FAILED"}': 1,
        'rnd_transfers_ended_total{direction="local",status="COMPLETED"}': 2,
        'rnd_transfer_bytes_total{direction="local"}': 12,
        "rnd_results_total": 1,
    }
    assert grown["rnd_queue_wait_seconds_count"] == 3
    assert grown["rnd_database_write_seconds_count"] > 5
    assert samples(scrape(peer))["rnd_results_total"] == after["rnd_results_total"], "nothing is counted twice"


def test_gauges_say_what_is(peer: RunningPeer) -> None:
    workflow = peer.workflow("sleeper")
    peer.node(workflow, peer.program("sleeps", "sleep 600\n"))
    execution = peer.execute(workflow)
    until(lambda: samples(scrape(peer))['rnd_jobs{status="RUNNING",type="STANDALONE"}'] == 1)
    now = samples(scrape(peer))
    assert now['rnd_executions{status="RUNNING"}'] == 1
    assert now["rnd_disk_free_bytes"] > now["rnd_disk_floor_bytes"] == 1 << 30
    assert now['rnd_database_file_bytes{file="rnd.db"}'] > 0
    peer.call("execution.cancel", execution_id=execution)
    assert peer.wait(execution)["status"] == "CANCELLED"


def test_the_loop_is_watched(peer: RunningPeer) -> None:
    until(lambda: samples(scrape(peer))["rnd_event_loop_lag_seconds_count"] >= 2)


def test_metrics_are_what_prometheus_takes_also_under_load(peer: RunningPeer, promtool: str) -> None:
    workflow = chain(peer, "loaded")
    executions = [peer.execute(workflow) for _ in range(20)]
    for _ in range(5):
        checked = subprocess.run([promtool, "check", "metrics"], input=scrape(peer), capture_output=True, text=True)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    for execution in executions:
        assert peer.wait(execution)["status"] == "COMPLETED"


def test_the_check_of_metrics_can_bite(promtool: str) -> None:
    text = "# HELP rnd_jobs Jobs.\n# TYPE rnd_jobs counter\nrnd_jobs 1\n"
    assert subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True).returncode == 3


def test_the_alert_rules_are_rules(promtool: str) -> None:
    rules = OBSERVABILITY / "rnd-alerts.yml"
    checked = subprocess.run([promtool, "check", "rules", str(rules)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def names_of(text: str) -> set[str]:
    """Return the metrics that an expression or a page names, without what belongs to a histogram's samples."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\brnd_[a-z_]+", text)}


def families(peer: RunningPeer) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", scrape(peer), re.MULTILINE))


def test_rules_and_dashboard_name_metrics_that_are_there(peer: RunningPeer) -> None:
    there = set(families(peer))
    rules = (OBSERVABILITY / "rnd-alerts.yml").read_text()
    panels = json.loads((OBSERVABILITY / "rnd-dashboard.json").read_text())["panels"]
    dashboard = "\n".join(target["expr"] for panel in panels for target in panel["targets"])
    for text in (re.sub(r"(?m)^\s+(summary|description):.*$", "", rules), dashboard):
        assert len(names_of(text)) > 5
        assert names_of(text) <= there


def test_the_page_of_metrics_is_what_a_daemon_answers(peer: RunningPeer) -> None:
    page = (PROJECT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(rnd_\w+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE)
    labels: dict[str, set[str]] = {}
    for name in samples(scrape(peer)):
        family = re.sub(r"_(bucket|sum|count)(?=\{|$)", "", name.partition("{")[0])
        labels.setdefault(family, set()).update(re.findall(r'(\w+)="', name))
    found = {name: (kind, set(re.findall(r"`(\w+)`", cell))) for name, kind, cell in rows}
    assert found == {name: (kind, labels[name]) for name, kind in families(peer).items()}


def test_no_label_has_values_that_others_choose(peer: RunningPeer) -> None:
    """The number of series does not grow with services, workflows, executions and what they are called."""
    before = len(samples(scrape(peer)))
    for number in range(3):
        assert peer.run(chain(peer, f"more-{number}"))["status"] == "COMPLETED"
    assert len(samples(scrape(peer))) == before


def test_every_line_of_a_daemon_is_json_where_that_is_configured(peer: RunningPeer) -> None:
    assert peer.run(chain(peer, "logged"))["status"] == "COMPLETED"
    told = [json.loads(line) for line in peer.log_lines()]
    assert told[0]["event"] == "DAEMON_STARTING"
    assert {line["level"] for line in told} <= {"INFO", "WARNING", "ERROR"}
    assert {"EXECUTING_WORKFLOW", "PROCESS_EXITED", "TRANSFER_COMPLETED"} <= {line.get("event") for line in told}
    first = Path(peer.data_dir / "stderr.txt").read_text().splitlines()[0]
    assert json.loads(first) == told[0]


def test_the_log_file_of_a_daemon_is_kept_short(tmp_path: Path) -> None:
    with running_peer(tmp_path / "short", config="log_file_bytes = 4000\n") as short:
        assert short.run(chain(short, "told"))["status"] == "COMPLETED"
        logs = short.data_dir / "logs"
        assert sorted(path.name for path in logs.iterdir()) == ["peer.log", "peer.log.old"]
        assert max(path.stat().st_size for path in logs.iterdir()) <= 4000
        assert len(Path(short.data_dir / "stderr.txt").read_text()) > 8000


def test_under_the_journal_a_daemon_says_priorities_and_writes_no_file(tmp_path: Path) -> None:
    stderr = tmp_path / "served" / "stderr.txt"
    stderr.parent.mkdir()
    stderr.touch()
    named = f"{stderr.stat().st_dev}:{stderr.stat().st_ino}"
    with running_peer(stderr.parent, env={"JOURNAL_STREAM": named}):
        lines = stderr.read_text().splitlines()
        assert all(re.match(r"<6>\S+Z \[INFO\] ", line) for line in lines)
        assert len(lines) > 3
        assert not (stderr.parent / "logs").exists()


def test_a_variable_that_names_another_stream_leaves_the_file_on(tmp_path: Path) -> None:
    """Who starts a daemon by hand out of a service's shell has the variable in the environment as well."""
    with running_peer(tmp_path / "started", env={"JOURNAL_STREAM": "8:1"}) as started:
        assert started.log_lines()
        assert not started.stderr().startswith("<")
