"""The doctor finds what is wrong with a peer that does not run."""

from __future__ import annotations

import socket
import sqlite3

from tests.cli.command import Rnd


def verdicts(rnd: Rnd, **variables: str) -> dict[str, tuple[str, str]]:
    done = rnd("doctor", "--json", RND_API="127.0.0.1:0", **variables)
    return {check["check"]: (check["verdict"], check["evidence"]) for check in done.json["checks"]}


def make_database(rnd: Rnd, *, newest: str = "2026-01-01T00:00:00.000Z", rows: int = 1) -> None:
    connection = sqlite3.connect(rnd.data_dir / "rnd.db")
    connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, time TEXT NOT NULL, data TEXT)")
    connection.execute("CREATE INDEX events_by_time ON events(time)")
    connection.executemany("INSERT INTO events (time, data) VALUES (?, ?)", [(newest, "x" * 500)] * rows)
    connection.commit()
    connection.close()


def test_a_peer_that_was_never_started(rnd: Rnd) -> None:
    rnd.data_dir.rmdir()
    found = verdicts(rnd)
    assert found["directory"] == ("wrong", f"{rnd.data_dir} does not exist")
    assert found["daemon"][0] == "wrong"
    assert found["versions"][0] == "ok"
    assert rnd("doctor").code == 1


def test_secrets_that_others_can_read(rnd: Rnd) -> None:
    (rnd.data_dir / "identity.key").write_text("k")
    (rnd.data_dir / "identity.key").chmod(0o644)
    rnd.data_dir.chmod(0o755)
    found = verdicts(rnd)
    assert found["secrets"][0] == "wrong"
    assert found["directory"] == ("warn", f"{rnd.data_dir} is open to others (mode 0755)")


def test_a_whole_database(rnd: Rnd) -> None:
    make_database(rnd)
    assert verdicts(rnd)["database"][0] == "ok"


def test_a_damaged_database(rnd: Rnd) -> None:
    make_database(rnd, rows=2000)
    content = bytearray((rnd.data_dir / "rnd.db").read_bytes())
    content[8192:40960] = b"\xa5" * (40960 - 8192)
    (rnd.data_dir / "rnd.db").write_bytes(content)
    assert verdicts(rnd)["database"][0] == "wrong"
    (rnd.data_dir / "rnd.db").write_bytes(b"this is no database at all, whatever its name says" * 100)
    assert verdicts(rnd)["database"][0] == "wrong"


def test_a_clock_that_went_back(rnd: Rnd) -> None:
    make_database(rnd, newest="2199-01-01T00:00:00.000Z")
    verdict, evidence = verdicts(rnd)["clock"]
    assert verdict == "wrong"
    assert "2199-01-01" in evidence


def test_a_port_that_is_taken(rnd: Rnd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        verdict, evidence = verdicts(rnd, RND_PEER=address)["ports"]
    assert (verdict, evidence) == ("wrong", f"{address} for peer: address already in use")


def test_a_configuration_that_cannot_be_used(rnd: Rnd) -> None:
    (rnd.data_dir / "rnd.toml").write_text("job_slots = -1\n")
    verdict, evidence = verdicts(rnd)["config"]
    assert verdict == "wrong"
    assert "job_slots = -1" in evidence


def test_a_floor_that_the_disk_is_below(rnd: Rnd) -> None:
    assert verdicts(rnd, RND_LIMITS_DISK_FLOOR_BYTES=str(1 << 50))["disk"][0] == "wrong"


def test_the_disk_that_a_peer_takes_is_shown(rnd: Rnd) -> None:
    before = verdicts(rnd)["disk"][1]
    (rnd.data_dir / "workflows/deep").mkdir(parents=True)
    (rnd.data_dir / "workflows/deep/left").write_bytes(bytes(3 << 20))
    after = verdicts(rnd)["disk"][1]
    assert "held here, " in before
    assert not before.startswith("3.")
    assert after.startswith("3.")


def test_the_configuration_is_shown_with_its_origins(rnd: Rnd) -> None:
    (rnd.data_dir / "rnd.toml").write_text("job_slots = 3\n")
    done = rnd("config", "show", "--origin", "--api", "127.0.0.1:5", RND_LOG_LEVEL="DEBUG")
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines()}
    assert rows["job_slots"] == ["3", f"{rnd.data_dir}/rnd.toml:1"]
    assert rows["api"] == ["127.0.0.1:5", "--api"]
    assert rows["log_level"] == ["DEBUG", "RND_LOG_LEVEL"]
    assert rows["data_dir"] == [str(rnd.data_dir), "RND_DATA_DIR"]
    assert rows["limits.rpc_batch"] == ["50", "default"]
    assert rnd("config", "show", "--json").json["job_slots"] == 3


def test_the_configuration_is_checked_without_a_daemon(rnd: Rnd) -> None:
    file = rnd.data_dir / "rnd.toml"
    file.write_text("job_slots = 3\n")
    done = rnd("config", "check")
    assert (done.code, done.out.splitlines()[1:]) == (0, [f"read: {file}"])
    assert rnd("config", "check", "--json").json == {"files": [str(file)], "set": ["data_dir", "job_slots"]}
    file.write_text("job_slot = 3\n")
    done = rnd("config", "check")
    assert (done.code, done.out) == (2, "")
    assert f"  - unknown key 'job_slot' ({file}:1); did you mean 'job_slots'?" in done.err.splitlines()


def test_a_wrong_configuration_stops_serve_with_every_problem(rnd: Rnd) -> None:
    done = rnd("serve", "--api", "x", "--set", "limits.file_byte=1", "--set", "job_slots=x", RND_NAM="y")
    assert done.code == 2
    assert [line[:4] for line in done.err.splitlines()] == ["rnd:", "  - ", "  - ", "  - ", "  - ", "hint"]
    assert rnd("serve", "--set", "x").code == 2
    assert rnd("serve", "--url", "http://127.0.0.1:1").code == 2


def test_the_data_directory_is_found_through_the_configuration(rnd: Rnd) -> None:
    config = rnd.home / ".config" / "rnd" / "rnd.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'data_dir = "{rnd.data_dir}/by config"\n')
    assert "by config/api.sock" in rnd("status", RND_DATA_DIR="").err
    config.write_text("nonsense")
    assert rnd("status", RND_DATA_DIR="", XDG_STATE_HOME=str(rnd.home)).err.startswith(
        f"rnd: no daemon answers at {rnd.home}/rnd/api.sock"
    )
