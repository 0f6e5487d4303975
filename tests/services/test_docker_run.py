"""What is run for a job of a DOCKER service: words, mounts, environment, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rnd.services.docker_run import build_run, with_image
from rnd.services.executor import Container, JobRun
from rnd.services.images import ImageFacts
from rnd.types.enums import (
    ExecutionConstraint,
    InterfaceType,
    JobStatus,
    MountFunction,
    ServiceAccess,
    ServiceStatus,
    ServiceType,
)
from rnd.types.errors import JobFailed, PermissionDenied
from rnd.types.executions import InterfacePeer, JobExecution, JobInterface
from rnd.types.ids import (
    ConnectionId,
    ExecutionUid,
    InterfacePeerId,
    JobExecutionId,
    JobInterfaceId,
    NodeId,
    PeerId,
    ServiceId,
)
from rnd.types.services import (
    DockerSettings,
    ResourceLimits,
    RetryPolicy,
    Service,
    ServiceInterface,
    StandaloneSettings,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HERE, THERE = PeerId("rn-here"), PeerId("rn-there")
IMAGE_ID, DIGEST = "sha256:" + "1" * 64, "docker.io/library/python@sha256:" + "2" * 64
FACTS = ImageFacts(
    image_id=IMAGE_ID, digest=DIGEST, architecture="amd64", size_bytes=1, entrypoint=("py",), cmd=("-i",)
)


def _mount(path: str, function: str = "INPUT") -> ServiceInterface:
    return ServiceInterface(interface_type=InterfaceType.MOUNT, path=path, mount_function=MountFunction(function))


def _service(*mounts: ServiceInterface, **settings: Any) -> Service:
    return Service(
        id=ServiceId(3),
        name="train",
        description="",
        service_type=ServiceType.DOCKER,
        status=ServiceStatus.ACTIVE,
        interfaces=mounts,
        pricing_amount=0.0,
        pricing_type="",
        access=ServiceAccess.ALLOWED,
        retry_safe=False,
        retry=RetryPolicy(),
        revision=1,
        service_path="python:3",
        settings=DockerSettings(**({"image": "python:3", "image_id": IMAGE_ID, "digest": DIGEST} | settings)),
        created_at=NOW,
        updated_at=NOW,
    )


def _job(**fields: Any) -> JobExecution:
    known: dict[str, Any] = dict.fromkeys(JobExecution.__slots__)
    known |= {
        "id": JobExecutionId(7),
        "order_workflow_job_id": 1,
        "execution_uid": ExecutionUid("00" * 16),
        "node_id": NodeId(1),
        "attempt": 2,
        "job_name": "train",
        "service_id": ServiceId(3),
        "service_name": "train",
        "service_type": ServiceType.DOCKER,
        "executor_peer_id": HERE,
        "ordering_peer_id": HERE,
        "status": JobStatus.RUNNING,
        "execution_constraint": ExecutionConstraint.NONE,
        "constraint_detail": "[]",
        "start_received": True,
        "created_at": NOW,
        "start_by": NOW,
        "max_runtime_s": 60.0,
    }
    return JobExecution(**(known | fields))


def _stdin(*, is_connected: bool) -> JobInterface:
    peer = InterfacePeer(
        id=InterfacePeerId(1),
        job_interface_id=JobInterfaceId(1),
        connection_id=ConnectionId(1),
        peer_id=HERE,
        peer_workflow_job_id=None,
        peer_job_execution_id=JobExecutionId(6),
        peer_interface_type=InterfaceType.STDOUT,
        peer_path="",
        peer_file_name=None,
        peer_mount_function=MountFunction.OUTPUT,
        include=(),
        duty_acknowledged=True,
        source_path=None,
        lane="",
    )
    return JobInterface(
        id=JobInterfaceId(1),
        job_execution_id=JobExecutionId(7),
        interface_type=InterfaceType.STDIN,
        path="",
        mount_function=None,
        peers=(peer,) if is_connected else (),
    )


def _build(service: Service, *interfaces: JobInterface, secrets: dict[str, bytes] | None = None, **job: Any) -> JobRun:
    return build_run(
        _job(**job), service, Path("/job"), interfaces, engine_name="job-7-2", stream_bytes=1000, secrets=secrets
    )


def _container(service: Service, *interfaces: JobInterface, **job: Any) -> Container:
    container = _build(service, *interfaces, **job).container
    assert container is not None
    return container


def _mounts(service: Service, *interfaces: JobInterface) -> list[tuple[str, str, bool]]:
    return [(str(each.source), each.target, each.writable) for each in _container(service, *interfaces).mounts]


def test_a_container_is_named_labelled_and_pinned() -> None:
    run = _build(_service(limits=ResourceLimits(pids=3)))
    container = run.container
    assert container is not None
    assert container.name == "job-7"
    assert container.labels == {
        "rnd.peer": HERE,
        "rnd.job": "7",
        "rnd.attempt": "2",
        "rnd.engine_name": "job-7-2",
    }
    assert (container.image, container.image_id, container.digest) == ("python:3", IMAGE_ID, DIGEST)
    assert (run.engine_name, run.argv, run.limits.pids, run.stream_bytes) == ("job-7-2", (), 3, 1000)
    assert run.confinement is None


def test_without_the_owners_word_a_container_has_nothing_beyond_the_safe_defaults() -> None:
    container = _container(_service())
    assert (container.network, container.user, container.read_only_root, container.cap_add) == ("none", "", True, ())
    loose = _container(
        _service(network="bridge", user="0:0", read_only_root=False, cap_add=("CHOWN",), tmpfs_bytes=1 << 20)
    )
    assert (loose.network, loose.user, loose.read_only_root, loose.cap_add) == ("bridge", "0:0", False, ("CHOWN",))
    assert loose.tmpfs_bytes == 1 << 20


# ---------------------------------------------------------------- mounts


def test_the_output_folder_is_always_there_and_writable() -> None:
    assert _mounts(_service()) == [("/job/output", "/output", True)]
    for function in ("OUTPUT", "BOTH"):
        assert _mounts(_service(_mount("/output/", function))) == [("/job/output", "/output", True)]


def test_mounts_are_at_their_paths_and_inputs_cannot_be_written() -> None:
    service = _service(_mount("/data/in"), _mount("/model", "OUTPUT"), _mount("/shared/", "BOTH"))
    assert _mounts(service) == [
        ("/job/mounts/data/in", "/data/in", False),
        ("/job/mounts/model", "/model", True),
        ("/job/output", "/output", True),
        ("/job/mounts/shared", "/shared", True),
    ]


def test_what_stdin_gets_is_at_input_read_only_where_it_gets_anything() -> None:
    assert ("/job/input", "/input", False) in _mounts(_service(), _stdin(is_connected=True))
    assert _mounts(_service(), _stdin(is_connected=False)) == [("/job/output", "/output", True)]


@pytest.mark.parametrize("path", ["/input", "/input/table"])
def test_a_declared_mount_at_input_wins_over_stdin(path: str) -> None:
    targets = {target: source for source, target, _ in _mounts(_service(_mount(path)), _stdin(is_connected=True))}
    assert targets == {path: f"/job/mounts{path}", "/output": "/job/output"}


@pytest.mark.parametrize(
    "path", ["/", "/proc", "/sys/fs", "/dev/shm", "/tmp", "/run/secrets", "/output/a", "x", "/a/../b"]
)
def test_mounts_over_the_system_are_refused(path: str) -> None:
    with pytest.raises(JobFailed, match="MOUNT"):
        _build(_service(_mount(path)))


def test_nested_mounts_are_refused() -> None:
    with pytest.raises(JobFailed, match="lies inside MOUNT /a"):
        _build(_service(_mount("/a"), _mount("/a/b", "OUTPUT")))


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("settings", "job", "entrypoint", "cmd"),
    [
        ({}, {}, None, None),
        ({"cmd": ("a",)}, {}, None, ("a",)),
        ({"entrypoint": ("sh",), "cmd": ("a",)}, {}, ("sh",), ("a",)),
        ({"entrypoint": ("sh",), "cmd": ("a",)}, {"commands": ("b",)}, ("sh",), ("b",)),
        ({"entrypoint": ("sh",), "cmd": ("a",)}, {"entrypoint": ("cat", "-n")}, ("cat", "-n"), ("a",)),
        ({"cmd": ("a",)}, {"entrypoint": ("cat",), "commands": ()}, ("cat",), ()),
        ({"entrypoint": ("sh",)}, {"entrypoint": (), "commands": ("cat", "x")}, ("cat",), ("x",)),
        ({"entrypoint": (), "cmd": ("cat",)}, {}, ("cat",), ()),
    ],
)
def test_own_orders_replace_entrypoint_and_cmd_freely(
    settings: dict[str, Any], job: dict[str, Any], entrypoint: tuple[str, ...] | None, cmd: tuple[str, ...] | None
) -> None:
    container = _container(_service(**settings), **job)
    assert (container.entrypoint, container.cmd) == (entrypoint, cmd)


def test_another_peers_order_replaces_them_only_where_the_owner_allows_it() -> None:
    words: dict[str, Any] = {"entrypoint": ("sh",), "cmd": ("a",)}
    foreign: dict[str, Any] = {"ordering_peer_id": THERE}
    assert _container(_service(**words), **foreign, entrypoint=("sh",), commands=("a",)).cmd == ("a",)
    for change in ({"entrypoint": ("cat",)}, {"commands": ("b",)}, {"entrypoint": ()}):
        with pytest.raises(PermissionDenied, match="lets nobody else"):
            _build(_service(**words), **foreign, **change)
    allowed = _container(_service(**words, allow_override=True), **foreign, entrypoint=("cat",), commands=("b",))
    assert (allowed.entrypoint, allowed.cmd) == (("cat",), ("b",))


def test_another_peers_order_adds_a_mount_only_where_the_owner_allows_it() -> None:
    bin_, data = (
        replace(
            _stdin(is_connected=False),
            interface_type=InterfaceType.MOUNT,
            path=path,
            mount_function=MountFunction.INPUT,
        )
        for path in ("/usr/bin", "/data")
    )
    declared = _service(_mount("/data"))
    assert _build(declared, data, ordering_peer_id=THERE)
    with pytest.raises(PermissionDenied, match="no MOUNT /usr/bin"):
        _build(declared, data, bin_, ordering_peer_id=THERE)
    assert _build(declared, bin_)
    assert _build(_service(allow_override=True), bin_, ordering_peer_id=THERE)


def test_an_empty_entrypoint_without_arguments_runs_nothing() -> None:
    with pytest.raises(JobFailed, match="nothing to run"):
        _build(_service(), entrypoint=())


def test_the_image_fills_in_what_nobody_says() -> None:
    def words(run: JobRun, facts: ImageFacts = FACTS) -> tuple[object, object]:
        container = with_image(run, facts).container
        assert container is not None
        return container.entrypoint, container.cmd

    assert words(_build(_service())) == (None, None)
    assert words(_build(_service(cmd=()))) == (("py",), ())
    assert words(_build(_service(cmd=("x",)))) == (None, ("x",))
    with pytest.raises(JobFailed, match="nothing to run"):
        words(_build(_service()), replace(FACTS, entrypoint=(), cmd=()))
    with pytest.raises(JobFailed, match="nothing to run"):
        words(_build(_service(cmd=())), replace(FACTS, entrypoint=()))


def test_another_image_under_the_same_digest_is_never_run() -> None:
    with pytest.raises(JobFailed, match="is not the image"):
        with_image(_build(_service()), replace(FACTS, image_id="sha256:" + "3" * 64))


def test_a_mount_token_is_the_mounts_place_in_the_container() -> None:
    service = _service(_mount("/data"), cmd=("--in={mount:/data/}", "{mount:/output}/x", "{other}"))
    assert _container(service).cmd == ("--in=/data", "/output/x", "{other}")
    with pytest.raises(JobFailed, match="does not have"):
        _build(_service(cmd=("{mount:/nowhere}",)))


# ---------------------------------------------------------------- environment and secrets


def test_the_environment_is_the_services_own_and_says_where_things_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEMONS_OWN", "x")
    run = _build(_service(_mount("/data/in"), env={"LANG": "C", "RND_JOB_ID": "666"}))
    assert run.env == {
        "HOME": "/tmp",
        "LANG": "C",
        "RND_JOB_ID": "7",
        "RND_ATTEMPT": "2",
        "RND_OUTPUT": "/output",
        "RND_MOUNT_DATA_IN": "/data/in",
        "RND_MOUNT_OUTPUT": "/output",
    }


def test_mounts_whose_names_would_clash_have_none() -> None:
    run = _build(_service(_mount("/a-b"), _mount("/a_b")))
    assert not any(name.startswith("RND_MOUNT_A") for name in run.env)


def test_secrets_are_files_and_never_words() -> None:
    run = _build(_service(), secrets={"token": b"hush"})
    assert run.secrets == {"token": b"hush"}
    assert run.env["RND_SECRETS"] == "/run/secrets"
    assert "hush" not in repr(run)
    with pytest.raises(JobFailed, match="file name"):
        _build(_service(), secrets={"../x": b""})


def test_a_service_of_another_type_is_no_container() -> None:
    service = replace(_service(), settings=StandaloneSettings(executable="/bin/cat"))
    with pytest.raises(JobFailed, match="not DOCKER"):
        _build(service)
