"""Offering containers by command: what is asked of the daemon, and what is shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.command import Rnd
from tests.cli.scripted_daemon import ScriptedDaemon

SERVICE: dict[str, Any] = {
    "id": 7,
    "name": "train",
    "description": "",
    "service_type": "DOCKER",
    "status": "ACTIVE",
    "revision": 2,
    "access": "allowed",
    "image": "python:3-slim",
    "image_id": "sha256:" + "1" * 64,
    "digest": "python@sha256:" + "2" * 64,
    "entrypoint": None,
    "cmd": ["python3", "-c", "print(1)"],
    "env": {},
    "network": "none",
    "user": "",
    "read_only_root": False,
    "cap_add": ["CHOWN"],
    "secret_names": [],
    "interfaces": [{"interface_type": "MOUNT", "path": "/model", "mount_function": "OUTPUT", "required": False}],
    "created_at": "2026-01-31T12:00:00.000Z",
}


def test_a_container_is_offered_with_everything_that_can_be_said_about_it(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["service.create"] = SERVICE
    (rnd.home / "password").write_text("hush\n")
    (rnd.home / "key").write_text("secret\n")
    done = rnd(
        *("service", "add", "docker", "train", "python:3-slim", "--mount", "/model:OUTPUT", "--env", "A=b"),
        *("--secret", "KEY=key", "--timeout", "2m", "--memory", "1G", "--gpus", "1", "--network", "bridge"),
        *("--user", "1000:1000", "--writable-root", "--tmpfs", "1M", "--cap-add", "CHOWN", "--entrypoint", "sh"),
        *("--registry-user", "robot", "--registry-password-file", "password", "--allow-override", "--", "-c", "true"),
    )
    assert (done.code, done.out) == (0, "service 7 train: python:3-slim python3 -c print(1)\n")
    assert daemon.called("service.create") == [
        {
            "name": "train",
            "service_type": "DOCKER",
            "image": "python:3-slim",
            "entrypoint": ["sh"],
            "cmd": ["-c", "true"],
            "interfaces": [{"interface_type": "MOUNT", "path": "/model", "mount_function": "OUTPUT"}],
            "env": {"A": "b"},
            "secrets": {"KEY": "secret"},
            "timeout_s": 120,
            "limits": {"memory_bytes": 1 << 30, "gpus": 1},
            "network": "bridge",
            "user": "1000:1000",
            "read_only_root": False,
            "tmpfs_bytes": 1 << 20,
            "cap_add": ["CHOWN"],
            "registry_auth": {"username": "robot", "password": "hush"},
            "allow_override": True,
        }
    ]
    assert "hush" not in done.out + done.err


def test_an_image_is_built_from_a_folder_beside_the_caller(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods["service.create"] = SERVICE
    assert rnd("service", "add", "docker", "tool", "--build", "tool").code == 0
    assert daemon.called("service.create") == [
        {"name": "tool", "service_type": "DOCKER", "build_context": str(rnd.home / "tool")}
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which image?"),
        (["busybox", "--registry-user", "x"], "belong together"),
        (["busybox", "--network", "host"], "there is none, bridge"),
        (["busybox", "--confine", "never"], "unrecognized"),
    ],
)
def test_what_makes_no_container_is_a_usage_error(
    rnd: Rnd, daemon: ScriptedDaemon, arguments: list[str], words: str
) -> None:
    done = rnd("service", "add", "docker", "x", *arguments)
    assert done.code == 2
    assert words in done.err
    assert daemon.calls == []


def test_a_container_is_shown_with_what_it_is_pinned_to_and_what_was_loosened(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    daemon.methods |= {"service.get": SERVICE, "service.list": {"items": [SERVICE], "total": 1, "next_after_id": None}}
    shown = rnd("service", "show", "7").out
    for words in ("python@sha256:2222", "network", "can be written", "CHOWN"):
        assert words in shown


def test_an_image_suggests_mounts_as_options(rnd: Rnd, daemon: ScriptedDaemon) -> None:
    mount = {"interface_type": "MOUNT", "path": "/data", "mount_function": "BOTH", "description": "volume of the image"}
    stream = {"interface_type": "STDIN", "path": "", "mount_function": None, "description": ""}
    daemon.methods["service.suggest_interfaces"] = [stream, mount]
    assert rnd("service", "suggest", "tool").out == "--mount /data:BOTH   volume of the image\n"
    assert daemon.called("service.suggest_interfaces") == [{"service_type": "DOCKER", "image": "tool"}]
