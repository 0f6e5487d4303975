"""What an owner may say of a container, and what an image suggests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rnd.rules.capabilities import image_refusal
from rnd.rules.containers import (
    built_image_name,
    capability_name,
    image_name_problem,
    mounts_problem,
    registry_of,
    shows_stdin,
    suggested_mounts,
)
from rnd.rules.interfaces import validate_interfaces
from rnd.rules.operating import override_refusal as operating_refusal
from rnd.rules.policy import override_refusal
from rnd.types.definitions import InterfacePlan, JobPlan
from rnd.types.enums import ExecutionConstraint, InterfaceType, MountFunction, ServiceType
from rnd.types.ids import NodeId, PeerId, ServiceId
from rnd.types.services import DockerSettings, ServiceInterface
from tests.rules.conftest import Make

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("busybox", "docker.io"),
        ("python:3-slim", "docker.io"),
        ("pytorch/pytorch:latest", "docker.io"),
        ("docker.io/library/busybox:1.36", "docker.io"),
        ("localhost/tool", "localhost"),
        ("localhost:5000/team/tool:1.2", "localhost:5000"),
        ("registry.example/a/b/c_d/e__f/g--h", "registry.example"),
        ("[::1]:5000/tool", "[::1]:5000"),
        (f"registry.example:5000/tool@{DIGEST}", "registry.example:5000"),
        (f"tool:1@{DIGEST}", "docker.io"),
        (DIGEST, "docker.io"),
    ],
)
def test_the_name_of_an_image_says_its_registry(image: str, registry: str) -> None:
    assert image_name_problem(image) is None
    assert registry_of(image) == registry


@pytest.mark.parametrize(
    "image",
    [
        "",
        "-v",
        "--help",
        "Busybox",
        "a b",
        "a\n",
        "a/",
        "/a",
        "a//b",
        "../a",
        "a:",
        "a:b:c",
        "a@sha256:0a",
        "a@md5:" + "0" * 32,
        "http://registry.example/a",
        "user:pass@registry.example/a",
        "ä",
        "a" * 501,
    ],
)
def test_what_names_no_image_is_refused(image: str) -> None:
    assert "must be the name of an image" in (image_name_problem(image) or "")


def test_a_built_image_is_called_after_its_service() -> None:
    assert built_image_name("Train Model (v2)") == "rnd/train-model-v2"
    assert built_image_name("模型") == "rnd/service"
    for name in ("Train Model (v2)", "模型", "x" * 200):
        assert image_name_problem(built_image_name(name)) is None


def test_harmless_capabilities_have_one_name_and_others_none() -> None:
    assert [capability_name(name) for name in ("SETUID", "cap_setuid", "CAP_CHOWN")] == ["SETUID", "SETUID", "CHOWN"]
    refused = ("ALL", "CAP_ALL", "", "ROOT", "SYS_ADMIN", "CAP_NET_RAW", "MKNOD")
    assert [capability_name(name) for name in refused] == [None] * len(refused)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["/input", "/output", "/data/in"], None),
        (["/tmp/work", "/run/lock", "/run/secretsome"], None),
        (["/"], "whole system"),
        (["data"], "absolute"),
        (["/proc/self"], "/proc"),
        (["/sys"], "/sys"),
        (["/dev/shm"], "/dev"),
        (["/tmp"], "every container has"),
        (["/run"], "every container has"),
        (["/run/secrets"], "every container has"),
        (["/run/secrets/a"], "every container has"),
        (["/output/sub"], "inside /output"),
        (["/a", "/a/b"], "inside MOUNT /a"),
        (["/a", "/a"], "declared twice"),
        (["/a/../b"], "'..'"),
    ],
)
def test_mounts_stay_out_of_what_is_not_theirs(paths: list[str], words: str | None) -> None:
    problem = mounts_problem(paths)
    assert (problem is None) if words is None else words in (problem or "")


def test_a_docker_service_is_told_at_once_where_no_mount_may_be(make: Make) -> None:
    def messages(service_type: ServiceType) -> list[str]:
        declared = (make.mount("/tmp"), make.mount("/output/x"))
        return [problem.message for problem in validate_interfaces(service_type, declared)]

    assert len(messages(ServiceType.DOCKER)) == 2
    assert messages(ServiceType.STANDALONE) == []


def test_a_mount_at_input_wins_over_what_stdin_gets() -> None:
    assert [shows_stdin(paths) for paths in ((), ("/data",), ("/inputs",))] == [True] * 3
    assert [shows_stdin(paths) for paths in (("/input",), ("/input/a",))] == [False] * 2


def test_an_image_suggests_its_volumes_and_its_working_directory() -> None:
    suggested = suggested_mounts(["/data/", "/input", "/output", "/proc/x", "/var/lib/db"], "/data/work")
    assert [(mount.path, mount.mount_function) for mount in suggested] == [
        ("/data", MountFunction.BOTH),
        ("/input", MountFunction.INPUT),
        ("/output", MountFunction.OUTPUT),
        ("/var/lib/db", MountFunction.BOTH),
    ]
    assert [mount.path for mount in suggested_mounts([], "/app")] == ["/app"]
    assert [suggested_mounts([], folder) for folder in ("", "/", "/tmp", "relative")] == [()] * 4


@pytest.mark.parametrize(
    ("architecture", "machine", "refused"),
    [
        ("amd64", "x86_64", False),
        ("386", "x86_64", False),
        ("arm64", "x86_64", True),
        ("amd64", "aarch64", True),
        ("arm", "aarch64", False),
        ("", "x86_64", False),
        ("wasm", "x86_64", False),
        ("amd64", "loongarch64", False),
    ],
)
def test_an_image_for_another_machine_is_told_by_its_architecture(
    architecture: str, machine: str, refused: bool
) -> None:
    words = f"it is built for {architecture}, and this machine is {machine}" if refused else None
    assert image_refusal(architecture, machine) == words


def _plan(
    entrypoint: tuple[str, ...] | None = None, cmd: tuple[str, ...] | None = None, *, mounts: tuple[str, ...] = ()
) -> JobPlan:
    return JobPlan(
        node_id=NodeId(1),
        name="n",
        service_id=ServiceId(1),
        service_name="s",
        service_type=ServiceType.DOCKER,
        executor_peer_id=PeerId("p"),
        entrypoint=entrypoint,
        cmd=cmd,
        interfaces=tuple(
            InterfacePlan(
                interface_type=InterfaceType.MOUNT, path=path, mount_function=MountFunction.INPUT, interface_peers=()
            )
            for path in mounts
        ),
        execution_constraint=ExecutionConstraint.NONE,
        constraint_detail=(),
    )


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "words"),
    [
        (None, None, None),
        (("python",), ("a",), None),
        (("sh",), None, "what is executed"),
        ((), None, "what is executed"),
        (None, ("b",), "its arguments"),
    ],
)
def test_nobody_but_the_owner_chooses_what_a_container_runs_unless_the_owner_says_so(
    make: Make, entrypoint: tuple[str, ...] | None, cmd: tuple[str, ...] | None, words: str | None
) -> None:
    fixed = DockerSettings(image="i", image_id=DIGEST, entrypoint=("python",), cmd=("a",))
    free = DockerSettings(image="i", image_id=DIGEST, allow_override=True)
    service = make.service(1, service_type="DOCKER", settings=fixed)
    for refusal in (override_refusal(service, _plan(entrypoint, cmd)), operating_refusal(service, entrypoint, cmd)):
        assert (refusal is None) if words is None else words in (refusal or "")
    assert override_refusal(make.service(1, service_type="DOCKER", settings=free), _plan(entrypoint, cmd)) is None


@pytest.mark.parametrize(
    ("mounts", "words"),
    [
        ((), None),
        (("/data/", "/output"), None),
        (("/data", "/usr/bin"), "no MOUNT /usr/bin"),
        (("/data/in",), "/data/in"),
    ],
)
def test_nobody_but_the_owner_says_where_in_a_container_a_mount_is(
    make: Make, mounts: tuple[str, ...], words: str | None
) -> None:
    """What is delivered to `/usr/bin` would be executed in place of the image's programs."""
    data = ServiceInterface(interface_type=InterfaceType.MOUNT, path="/data", mount_function=MountFunction.INPUT)
    fixed = DockerSettings(image="i", image_id=DIGEST)
    free = DockerSettings(image="i", image_id=DIGEST, allow_override=True)
    service = make.service(1, service_type="DOCKER", settings=fixed, interfaces=(data,))
    node = tuple(replace(data, path=path) for path in mounts)
    for refusal in (override_refusal(service, _plan(mounts=mounts)), operating_refusal(service, None, None, node)):
        assert (refusal is None) if words is None else words in (refusal or "")
    assert override_refusal(make.service(1, service_type="DOCKER", settings=free), _plan(mounts=mounts)) is None
