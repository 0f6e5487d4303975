"""What the engine is ever asked to create: every key and every value that there may be, whatever is ordered."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.containers import CAPABILITIES
from rnd.services.docker_spec import (
    BadOrder,
    ContainerOrder,
    Surroundings,
    create_body,
    order_from_message,
)

DIRECTORY = "/data/workflows/rnA/7/jobs/rnB/9"
IMAGE = "sha256:" + "ab" * 32
AROUND = Surroundings(user="65534:65534", cpus=2)

TOP = {
    *("Image", "User", "Env", "Labels", "Tty", "AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce"),
    *("Healthcheck", "HostConfig", "Entrypoint", "Cmd"),
}
HOST = {
    *("NetworkMode", "IpcMode", "CgroupnsMode", "Init", "Privileged", "CapDrop", "CapAdd", "SecurityOpt", "Tmpfs"),
    *("ReadonlyRootfs", "Mounts", "ShmSize", "Memory", "MemorySwap", "PidsLimit", "Ulimits", "LogConfig"),
    *("RestartPolicy", "AutoRemove", "NanoCpus", "DeviceRequests"),
}
NOTHING = {"cpus": None, "memory_bytes": None, "pids": None, "disk_bytes": None, "open_files": None, "gpus": None}


def message(**fields: Any) -> dict[str, Any]:
    """Return an order as it comes over the socket."""
    return {
        "engine_name": "job-9-1",
        "directory": DIRECTORY,
        "name": "job-9",
        "image_id": IMAGE,
        "entrypoint": None,
        "cmd": None,
        "env": {},
        "mounts": [{"source": f"{DIRECTORY}/output", "target": "/output", "writable": True}],
        "network": "none",
        "user": "",
        "read_only_root": True,
        "tmpfs_bytes": 1 << 20,
        "cap_add": [],
        "labels": {"rnd.peer": "rnA", "rnd.job": "9"},
        "stdin_files": [],
        "limits": NOTHING,
        "stream_bytes": 1 << 20,
        "grace_s": 2.0,
        "secrets": {},
    } | fields


def body(around: Surroundings = AROUND, **fields: Any) -> dict[str, Any]:
    """Return what the engine is sent for an order."""
    return create_body(order_from_message(message(**fields)), around)


def bind(target: str, source: str = f"{DIRECTORY}/output") -> dict[str, Any]:
    """Return one mount of a message."""
    return {"source": source, "target": target, "writable": False}


# ---------------------------------------------------------------- the whole list

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
maybe = st.none() | st.integers(1, 1 << 20)
good_messages = st.fixed_dictionaries(
    {
        "entrypoint": st.none() | st.lists(words, min_size=1, max_size=3),
        "cmd": st.none() | st.lists(words, max_size=3),
        "env": st.dictionaries(st.from_regex(r"[A-Za-z_]{1,8}", fullmatch=True), words, max_size=3),
        "network": st.sampled_from(["none", "bridge"]),
        "user": st.sampled_from(["", "0", "1000", "1000:100"]),
        "read_only_root": st.booleans(),
        "tmpfs_bytes": st.integers(0, 1 << 30),
        "cap_add": st.lists(st.sampled_from(sorted(CAPABILITIES)), max_size=3),
        "stdin_files": st.lists(st.just(f"{DIRECTORY}/input/a"), max_size=2),
        "limits": st.fixed_dictionaries(
            {
                "cpus": st.none() | st.floats(0.01, 64),
                "memory_bytes": st.none() | st.integers(6 << 20, 1 << 40),
                **dict.fromkeys(("pids", "disk_bytes", "open_files"), maybe),
                "gpus": st.none() | st.integers(0, 8),
            }
        ),
        "secrets": st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.just("00"), max_size=2),
        "mounts": st.lists(
            st.builds(
                lambda name, writable: {"source": f"{DIRECTORY}/{name}", "target": f"/{name}", "writable": writable},
                st.sampled_from(["input", "output", "data", "tmp"]),
                st.booleans(),
            ),
            max_size=3,
            unique_by=lambda mount: mount["target"],
        ),
    }
)
surroundings = st.builds(
    Surroundings,
    user=st.sampled_from(["65534:65534", "1000:1000"]),
    cpus=st.integers(1, 64),
    image_volumes=st.lists(
        st.sampled_from(["/data", "/vol/", "/", "/tmp", "/dev/x", "../x", "/a//b/../c", "/var/lib/x"])
    ).map(tuple),
    secrets_directory=st.sampled_from(["", "/dev/shm/rnd-secrets-0123"]),
)

DOCKER_LOG = {"Type": "local", "Config": {"max-size": "16777216", "max-file": "2", "compress": "false"}}
PODMAN_LOG = {"Type": "k8s-file", "Config": {"max-size": "33554432"}}


@given(good_messages, surroundings)
def test_whatever_is_ordered_the_engine_is_asked_for_nothing_off_the_list(
    fields: dict[str, Any], around: Surroundings
) -> None:
    order = order_from_message(message(**fields))
    sent = create_body(order, around)
    assert set(sent) <= TOP
    host = sent["HostConfig"]
    assert set(host) <= HOST
    assert (
        host
        | {
            "NetworkMode": "none" if fields["network"] == "none" else "bridge",
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "Init": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": fields["read_only_root"],
            "ShmSize": 64 << 20,
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "LogConfig": PODMAN_LOG if around.is_podman else DOCKER_LOG,
        }
        == host
    )
    assert set(host["CapAdd"]) == set(fields["cap_add"]) <= set(CAPABILITIES)
    assert host["Memory"] == host["MemorySwap"] > 0
    assert host["PidsLimit"] > 0
    assert [limit["Name"] for limit in host["Ulimits"]] == ["nofile", "core", *["nproc"] * around.is_podman]
    assert 0 < host.get("NanoCpus", 1) <= around.cpus * 1_000_000_000
    assert ("DeviceRequests" in host) == bool(fields["limits"]["gpus"])
    assert (sent["User"], sent["Tty"]) == (fields["user"] or around.user, False)
    check_mounts(order, around, host)


def check_mounts(order: ContainerOrder, around: Surroundings, host: dict[str, Any]) -> None:
    """Hold the mounts against what they may be, and have none missing: an engine gives each volume a folder without bound."""
    volumes = {os.path.normpath(f"/{volume}").replace("//", "/") for volume in around.image_volumes} - {"/"}
    for mount in host["Mounts"]:
        assert re.fullmatch(r"/[^/].*", mount["Target"])
        match mount["Type"]:
            case "bind":
                assert set(mount) == {"Type", "Source", "Target", "ReadOnly", "BindOptions"}
                assert not re.match(r"/(proc|sys|dev)(/|$)", mount["Target"])
                assert mount["BindOptions"] == {"Propagation": "rprivate"}
                own = mount["Source"].startswith(DIRECTORY + "/")
                assert own or (mount["Source"], mount["ReadOnly"]) == (around.secrets_directory, True)
            case "tmpfs":
                assert set(mount) == {"Type", "Target", "TmpfsOptions"}
                assert mount["TmpfsOptions"] == {"SizeBytes": 64 << 20, "Mode": 0o1777}
                assert mount["Target"] in volumes
            case other:
                raise AssertionError(other)
    targets = [mount["Target"] for mount in host["Mounts"]] + list(host.get("Tmpfs", ()))
    assert len(targets) == len(set(targets))
    assert volumes <= set(targets)
    for target, options in host.get("Tmpfs", {}).items():
        assert target == "/tmp"
        assert re.sub(",uid=[0-9]+,gid=[0-9]+$", "", options) == (
            f"rw,nosuid,nodev,exec,size={order.tmpfs_bytes},mode=1777"
        )


# ---------------------------------------------------------------- what is refused

BAD = {
    "no id of an image": {"image_id": "busybox:latest"},
    "a name that is not ours": {"name": "postgres"},
    "a name with a slash": {"name": "job-1/../x"},
    "the network of the host": {"network": "host"},
    "the network of another": {"network": "container:x"},
    "an empty entrypoint": {"entrypoint": []},
    "a command that is no list": {"cmd": "sh -c"},
    "NUL in an argument": {"cmd": ["a\0b"]},
    "NUL in the environment": {"env": {"A": "x\0y"}},
    "= in a name": {"env": {"A=B": "x"}},
    "a capability of the host": {"cap_add": ["SYS_ADMIN"]},
    "all capabilities": {"cap_add": ["ALL"]},
    "devices by capability": {"cap_add": ["MKNOD"]},
    "raw sockets": {"cap_add": ["NET_RAW"]},
    "a user that is none": {"user": "1:2:3"},
    "a user with a space": {"user": "1 2"},
    "a user by name": {"user": "www-data"},
    "a label of another": {"labels": {"com.docker.compose.project": "x"}},
    "a relative folder": {"directory": "workflows/x"},
    "a folder with ..": {"directory": "/data/../etc"},
    "negative tmpfs": {"tmpfs_bytes": -1},
    "truth as a number": {"tmpfs_bytes": True},
    "a number as truth": {"read_only_root": 1},
    "no memory": {"limits": NOTHING | {"memory_bytes": 0}},
    "endless processes": {"limits": NOTHING | {"pids": -1}},
    "no processor": {"limits": NOTHING | {"cpus": 0}},
    "not a number of processors": {"limits": NOTHING | {"cpus": float("nan")}},
    "every GPU": {"limits": NOTHING | {"gpus": -1}},
    "a secret with a path": {"secrets": {"../x": "00"}},
    "an endless grace": {"grace_s": float("inf")},
    "the root as a target": {"mounts": [bind("/")]},
    "/proc": {"mounts": [bind("/proc")]},
    "below /proc": {"mounts": [bind("/proc/sys")]},
    "/sys": {"mounts": [bind("/sys/fs/cgroup")]},
    "/dev": {"mounts": [bind("/dev/shm")]},
    "a target with ..": {"mounts": [bind("/x/../proc")]},
    "a target with //": {"mounts": [bind("//proc")]},
    "a relative target": {"mounts": [bind("x")]},
    "one in another": {"mounts": [bind("/a"), bind("/a/b")]},
    "one over another": {"mounts": [bind("/a/b"), bind("/a")]},
    "the same twice": {"mounts": [bind("/a"), bind("/a")]},
    "over the secrets": {"mounts": [bind("/run")], "secrets": {"key": "00"}},
    "the engine's socket": {"mounts": [bind("/x", "/var/run/docker.sock")]},
    "the root of the host": {"mounts": [bind("/x", "/")]},
    "another job's folder": {"mounts": [bind("/x", "/data/workflows/rnA/7/jobs/rnB/91/output")]},
    "a source with ..": {"mounts": [bind("/x", f"{DIRECTORY}/../8")]},
    "the job's folder itself": {"mounts": [bind("/x", DIRECTORY)]},
    "no mounts at all": {"mounts": None},
}


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD.keys())
def test_an_order_that_asks_for_more_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadOrder):
        body(**fields)


@pytest.mark.parametrize("field", sorted(message()))
def test_an_order_that_lacks_a_field_is_refused(field: str) -> None:
    incomplete = message()
    del incomplete[field]
    with pytest.raises(BadOrder):
        order_from_message(incomplete)


@given(st.sampled_from(sorted(message())), st.none() | st.booleans() | st.integers() | words | st.lists(words))
def test_a_field_of_any_other_kind_is_refused_or_means_what_it_says(field: str, value: Any) -> None:
    try:
        order = order_from_message(message(**{field: value}))
    except BadOrder:
        return
    sent = create_body(order, AROUND)
    assert set(sent) <= TOP
    assert set(sent["HostConfig"]) <= HOST


def test_what_an_order_has_beside_its_fields_is_not_looked_at() -> None:
    assert body(privileged=True, HostConfig={"Privileged": True}) == body()


# ---------------------------------------------------------------- single rules


def test_what_the_image_says_counts_only_where_the_order_says_nothing() -> None:
    assert {"Entrypoint", "Cmd"}.isdisjoint(body())
    assert body(entrypoint=["python3"], cmd=[])["Entrypoint"] == ["python3"]
    assert body(entrypoint=["python3"], cmd=[])["Cmd"] == []


def test_secrets_are_a_read_only_folder_and_only_its_name_is_in_the_environment() -> None:
    sent = body(Surroundings(user="1:1", cpus=1, secrets_directory="/dev/shm/s"), secrets={"key": "73337263"})
    assert "RND_SECRETS=/run/secrets" in sent["Env"]
    assert "73337263" not in str(sent)
    assert {"Type": "bind", "Source": "/dev/shm/s", "Target": "/run/secrets", "ReadOnly": True} in [
        {key: value for key, value in mount.items() if key != "BindOptions"} for mount in sent["HostConfig"]["Mounts"]
    ]


def test_the_home_is_tmp_unless_the_service_says_otherwise() -> None:
    assert "HOME=/tmp" in body()["Env"]
    assert "HOME=/output" in body(env={"HOME": "/output"})["Env"]


def test_a_mount_at_tmp_takes_the_place_of_the_memory_there() -> None:
    assert "Tmpfs" not in body(mounts=[bind("/tmp")])["HostConfig"]


def test_the_labels_that_say_whose_it_is_cannot_be_ordered_away() -> None:
    labels = body(labels={"rnd.engine_name": "job-1-1", "rnd.directory": "/x"})["Labels"]
    assert labels == {"rnd.engine_name": "job-9-1", "rnd.directory": DIRECTORY}
