"""What is run for a job of a STANDALONE service: arguments, folders, environment, and what is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rnd.services.executor import Confinement, JobRun, Place
from rnd.services.standalone_run import build_run
from rnd.types.enums import (
    Confine,
    ExecutionConstraint,
    InterfaceType,
    JobStatus,
    MountFunction,
    ServiceAccess,
    ServiceStatus,
    ServiceType,
)
from rnd.types.errors import ExecutorUnavailable, JobFailed, PermissionDenied
from rnd.types.executions import JobExecution, JobInterface
from rnd.types.ids import ExecutionUid, JobExecutionId, JobInterfaceId, NodeId, PeerId, ServiceId
from rnd.types.services import (
    HostPath,
    ResourceLimits,
    RetryPolicy,
    Sandbox,
    Service,
    ServiceInterface,
    StandaloneSettings,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HERE, THERE = PeerId("rn-here"), PeerId("rn-there")


def _service(*mounts: str, **settings: Any) -> Service:
    return Service(
        id=ServiceId(3),
        name="counter",
        description="",
        service_type=ServiceType.STANDALONE,
        status=ServiceStatus.ACTIVE,
        interfaces=tuple(
            ServiceInterface(interface_type=InterfaceType.MOUNT, path=path, mount_function=MountFunction.INPUT)
            for path in mounts
        ),
        pricing_amount=0.0,
        pricing_type="",
        access=ServiceAccess.ALLOWED,
        retry_safe=False,
        retry=RetryPolicy(),
        revision=1,
        service_path="/bin/echo",
        settings=StandaloneSettings(**({"executable": "/bin/echo", "cmd": ("a", "b")} | settings)),
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
        "job_name": "count",
        "service_id": ServiceId(3),
        "service_name": "counter",
        "service_type": ServiceType.STANDALONE,
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


def _build(service: Service, directory: Path, **fields: Any) -> JobRun:
    return build_run(_job(**fields), service, directory, (), engine_name="job-7-2", stream_bytes=1000)


def test_the_executable_and_its_own_arguments_run_in_the_output_folder(tmp_path: Path) -> None:
    run = _build(_service(limits=ResourceLimits(pids=3)), tmp_path)
    assert run.argv == ("/bin/echo", "a", "b")
    assert run.working_directory == tmp_path / "output"
    assert (run.job_execution_id, run.attempt, run.engine_name) == (7, 2, "job-7-2")
    assert (run.limits.pids, run.stream_bytes, run.stdin_files) == (3, 1000, ())


@pytest.mark.parametrize(
    ("entrypoint", "commands", "argv"),
    [
        (None, ("x",), ("/bin/echo", "x")),
        (None, (), ("/bin/echo",)),
        (("/bin/cat", "-n"), None, ("/bin/cat", "-n", "a", "b")),
        (("/bin/cat",), ("x",), ("/bin/cat", "x")),
        ((), ("/bin/cat", "x"), ("/bin/cat", "x")),
    ],
)
def test_own_orders_replace_entrypoint_and_arguments_freely(
    tmp_path: Path, entrypoint: tuple[str, ...] | None, commands: tuple[str, ...] | None, argv: tuple[str, ...]
) -> None:
    assert _build(_service(), tmp_path, entrypoint=entrypoint, commands=commands).argv == argv


def test_another_peers_order_replaces_arguments_only_where_the_owner_allows_it(tmp_path: Path) -> None:
    closed = _service(confine=Confine.NEVER)
    opened = _service(confine=Confine.NEVER, allow_override=True)
    assert _build(closed, tmp_path, ordering_peer_id=THERE).argv == ("/bin/echo", "a", "b")
    assert _build(closed, tmp_path, ordering_peer_id=THERE, commands=("a", "b")).argv == ("/bin/echo", "a", "b")
    assert _build(opened, tmp_path, ordering_peer_id=THERE, commands=("c",)).argv == ("/bin/echo", "c")
    with pytest.raises(PermissionDenied, match="arguments"):
        _build(closed, tmp_path, ordering_peer_id=THERE, commands=("c",))
    with pytest.raises(PermissionDenied, match="what is executed"):
        _build(opened, tmp_path, ordering_peer_id=THERE, entrypoint=("/bin/sh",))


@pytest.mark.parametrize(
    ("settings", "ordering", "words"),
    [
        ({"confine": Confine.ALWAYS}, HERE, "always runs confined"),
        ({"confine": Confine.AUTO}, THERE, "another peer orders"),
        ({"min_sandbox": "landlock"}, HERE, "sandbox landlock"),
        ({"network": "none"}, HERE, "without network"),
    ],
)
def test_what_needs_confinement_is_refused_in_words(
    tmp_path: Path, settings: dict[str, Any], ordering: PeerId, words: str
) -> None:
    with pytest.raises(ExecutorUnavailable, match=words) as refusal:
        _build(_service(**settings), tmp_path, ordering_peer_id=ordering)
    assert "cannot be confined here: nobody has looked" in refusal.value.message


def test_mount_tokens_become_absolute_paths_anywhere_in_an_argument(tmp_path: Path) -> None:
    cmd = ("{mount:/input}", "--to={mount:/data/out/}/x y", "{mount}", "{mount:/output}")
    run = _build(_service("/input", "/data/out", "/output", cmd=cmd), tmp_path)
    assert run.argv[1:] == (
        f"{tmp_path}/mounts/input", f"--to={tmp_path}/mounts/data/out/x y", "{mount}", f"{tmp_path}/output",
    )  # fmt: skip


def test_mounts_of_the_jobs_interfaces_count_too(tmp_path: Path) -> None:
    interface = JobInterface(
        id=JobInterfaceId(1),
        job_execution_id=JobExecutionId(7),
        interface_type=InterfaceType.MOUNT,
        path="/older",
        mount_function=MountFunction.INPUT,
        peers=(),
    )
    run = build_run(_job(), _service(), tmp_path, [interface], engine_name="job-7-2", stream_bytes=1)
    assert run.env["RND_MOUNT_OLDER"] == f"{tmp_path}/mounts/older"


def test_a_token_of_an_unknown_mount_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=r"\{mount:/inptu\}"):
        _build(_service("/input", cmd=("{mount:/inptu}",)), tmp_path)


@pytest.mark.parametrize("path", ["/../x", "/", "/proc/x", "relative"])
def test_a_mount_that_would_leave_the_jobs_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(JobFailed):
        _build(_service(path), tmp_path)


def test_the_environment_is_clean_and_says_where_things_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    run = _build(_service("/input", "/data/in", env={"GREETING": "hi", "RND_JOB_ID": "9"}), tmp_path)
    assert run.env == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "TMPDIR": f"{tmp_path}/tmp",
        "GREETING": "hi",
        "RND_JOB_ID": "7",
        "RND_ATTEMPT": "2",
        "RND_OUTPUT": f"{tmp_path}/output",
        "RND_MOUNT_INPUT": f"{tmp_path}/mounts/input",
        "RND_MOUNT_DATA_IN": f"{tmp_path}/mounts/data/in",
    }


def test_mounts_that_would_share_a_variable_get_none(tmp_path: Path) -> None:
    run = _build(_service("/a/b", "/a_b", "/c"), tmp_path)
    assert [name for name in run.env if name.startswith("RND_MOUNT")] == ["RND_MOUNT_C"]


def test_paths_are_absolute_even_where_the_data_directory_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = _build(_service("/input", cmd=("{mount:/input}",)), Path("job"))
    assert run.argv[1] == run.env["RND_MOUNT_INPUT"] == f"{tmp_path}/job/mounts/input"


def test_a_working_directory_of_the_service_is_taken_as_it_is(tmp_path: Path) -> None:
    assert _build(_service(working_directory="/srv/x"), tmp_path).working_directory == Path("/srv/x")
    inside = _build(_service("/both", working_directory="{mount:/both}/sub"), tmp_path)
    assert inside.working_directory == tmp_path / "mounts/both/sub"
    with pytest.raises(JobFailed, match="not absolute"):
        _build(_service(working_directory="srv"), tmp_path)


def test_a_bare_name_is_looked_for_in_a_clean_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only-here").write_text("#!/bin/sh\n")
    (tmp_path / "only-here").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert _build(_service(executable="cat"), tmp_path).argv[0] in {"/usr/bin/cat", "/bin/cat"}
    with pytest.raises(ExecutorUnavailable, match="no executable only-here"):
        _build(_service(executable="only-here"), tmp_path)


def test_programs_that_cannot_run_are_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("text")
    for executable, words in [
        (f"{tmp_path}/missing", "cannot be used: No such file or directory"),
        (f"{tmp_path}/plain", "is not executable"),
        (f"{tmp_path}", "is not a regular file"),
        ("./relative", "neither an absolute path"),
    ]:
        with pytest.raises(ExecutorUnavailable, match=words):
            _build(_service(executable=executable), tmp_path)
    with pytest.raises(JobFailed, match="nothing to run"):
        _build(_service(), tmp_path, entrypoint=(), commands=())


def test_secrets_are_given_by_safe_names_and_never_shown(tmp_path: Path) -> None:
    def build(secrets: dict[str, bytes]) -> JobRun:
        return build_run(_job(), _service(), tmp_path, (), engine_name="job-7-2", stream_bytes=1, secrets=secrets)

    run = build({"api.key": b"hunter2"})
    assert run.secrets == {"api.key": b"hunter2"}
    assert "hunter2" not in repr(run)
    for name in ("../x", "a/b", "", ".hidden", "a\0"):
        with pytest.raises(JobFailed):
            build({name: b""})


def test_only_native_services_are_built(tmp_path: Path) -> None:
    from rnd.types.services import DataSettings

    data = replace(
        _service(),
        service_type=ServiceType.DATA,
        settings=DataSettings(file_count=0, size_bytes=0, manifest_sha256=""),
    )
    with pytest.raises(JobFailed, match="not STANDALONE"):
        _build(data, tmp_path)


LANDLOCK = Sandbox(tier="landlock", reason="")


def _build_confined(
    directory: Path, *mounts: ServiceInterface, data_dir: Path | None = None, **settings: Any
) -> JobRun:
    service = replace(_service(**({"confine": Confine.ALWAYS} | settings)), interfaces=mounts)
    return build_run(
        _job(), service, directory, (), engine_name="job-7-2", stream_bytes=1, sandbox=LANDLOCK, data_dir=data_dir
    )


def test_a_confined_program_sees_of_its_folder_what_its_mounts_say(tmp_path: Path) -> None:
    mounts = [
        ServiceInterface(interface_type=InterfaceType.MOUNT, path=f"/{function}".lower(), mount_function=function)
        for function in (*MountFunction, None)
    ]
    confinement = _build_confined(tmp_path, *mounts).confinement
    assert confinement is not None
    assert not confinement.network
    assert all(place.own for place in confinement.places)
    assert {str(place.path.relative_to(tmp_path)): place.writable for place in confinement.places} == {
        "input": False,
        "output": True,
        "tmp": True,
        "mounts/input": False,
        "mounts/both": True,
        "mounts/none": False,
    }


def test_the_home_of_a_confined_program_is_where_it_can_write(tmp_path: Path) -> None:
    assert _build_confined(tmp_path).env["HOME"] == f"{tmp_path}/tmp"
    assert _build_confined(tmp_path, env={"HOME": "/opt"}).env["HOME"] == "/opt"


def test_confinement_follows_the_service_and_who_orders(tmp_path: Path) -> None:
    def confinement(ordering: PeerId, **settings: Any) -> Confinement | None:
        return build_run(
            _job(ordering_peer_id=ordering), _service(**settings), tmp_path, (), engine_name="j", stream_bytes=1,
            sandbox=LANDLOCK,
        ).confinement  # fmt: skip

    assert confinement(HERE) is None
    assert confinement(THERE) is not None
    assert confinement(THERE, confine=Confine.NEVER) is None
    opened = confinement(THERE, network="host")
    assert opened is not None
    assert opened.network


def test_what_the_owner_opens_is_looked_at_again_when_it_is_used(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    (data_dir / "run").mkdir(parents=True)
    (tmp_path / "fine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "fine")

    def places(path: str) -> list[Place]:
        opened = (HostPath(path=path, writable=True),)
        confinement = _build_confined(data_dir / "job", data_dir=data_dir, host_paths=opened).confinement
        assert confinement is not None
        return [place for place in confinement.places if not place.own]

    assert places(f"{tmp_path}/link") == [Place(path=tmp_path / "link", writable=True)]
    for target in (data_dir, data_dir / "run", tmp_path, Path("/")):
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to(target)
        with pytest.raises(PermissionDenied, match="host path"):
            places(f"{tmp_path}/link")
    with pytest.raises(ExecutorUnavailable, match="is not there"):
        places(f"{tmp_path}/gone")
