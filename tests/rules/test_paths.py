"""Where files live, and which names may become paths."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rnd.rules.paths import (
    JobPathInfo,
    PathType,
    UnsafePath,
    build_job_path,
    is_within,
    mount_folder,
    mount_target_problem,
    nested_mounts,
    normalise_mount_path,
    validate_relative_path,
)

ROOT = Path("/app_data/workflows")


def path_of(path_type: PathType, **values: Any) -> str:
    fields: dict[str, Any] = {
        "orchestrator_peer_id": "peer_orch",
        "workflow_job_id": 10,
        "executor_peer_id": "peer_worker",
        "job_execution_id": 456,
    }
    return str(build_job_path(ROOT, JobPathInfo(**(fields | values)), path_type))


JOB = "/app_data/workflows/peer_orch/10/jobs/peer_worker/456"


@pytest.mark.parametrize(
    ("path_type", "values", "expected"),
    [
        (PathType.JOB, {}, JOB),
        (PathType.OUTPUT, {}, f"{JOB}/output"),
        (PathType.LOGS, {}, f"{JOB}/logs"),
        (PathType.MOUNT, {"mount_path": "/data/in/"}, f"{JOB}/mounts/data/in"),
        (PathType.MOUNT, {"mount_path": "/output"}, f"{JOB}/output"),
        (PathType.INPUT, {"sender_peer_id": "peer_data", "sender_job_execution_id": 123}, f"{JOB}/input/peer_data/123"),
        (PathType.INPUT, {"sender_peer_id": "peer_orch"}, f"{JOB}/input/peer_orch/0"),
        (
            PathType.INPUT,
            {"sender_peer_id": "peer_data", "sender_job_execution_id": 123, "lane": "c7"},
            f"{JOB}/input/peer_data/123/c7",
        ),
    ],
)
def test_a_job_owns_one_folder_and_all_below_it(path_type: PathType, values: Any, expected: str) -> None:
    assert path_of(path_type, **values) == expected


def test_the_document_s_example_of_a_path() -> None:
    assert path_of(PathType.INPUT, sender_peer_id="peer_data", sender_job_execution_id=123) == (
        "/app_data/workflows/peer_orch/10/jobs/peer_worker/456/input/peer_data/123"
    )


def test_results_come_home_under_job_0() -> None:
    info: dict[str, Any] = {"executor_peer_id": "peer_orch", "job_execution_id": 0}
    sender: dict[str, Any] = {"sender_peer_id": "peer_worker", "sender_job_execution_id": 456}
    assert path_of(PathType.INPUT, **info, **sender) == (
        "/app_data/workflows/peer_orch/10/jobs/peer_orch/0/input/peer_worker/456"
    )


@pytest.mark.parametrize(
    ("path_type", "values"),
    [
        (PathType.JOB, {"orchestrator_peer_id": ".."}),
        (PathType.JOB, {"executor_peer_id": "a/b"}),
        (PathType.JOB, {"executor_peer_id": ""}),
        (PathType.JOB, {"job_execution_id": -1}),
        (PathType.INPUT, {}),
        (PathType.INPUT, {"sender_peer_id": "/etc"}),
        (PathType.INPUT, {"sender_peer_id": "p", "lane": "../x"}),
        (PathType.INPUT, {"sender_peer_id": "p", "lane": "c0"}),
        (PathType.MOUNT, {"mount_path": "/../etc"}),
        (PathType.MOUNT, {"mount_path": "etc"}),
        (PathType.MOUNT, {"mount_path": ""}),
    ],
)
def test_ids_that_could_lead_elsewhere_make_no_path(path_type: PathType, values: Any) -> None:
    with pytest.raises(UnsafePath):
        path_of(path_type, **values)


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b.txt",
        "a b",
        "a\\b",
        "..a",
        "a..",
        "...",
        "é",
        "e\u0301",
        "x" * 255,
        "/".join(["x"] * 16),
        "/".join(["y" * 204] * 5),
    ],
)
def test_safe_names_pass_unchanged(path: str) -> None:
    assert validate_relative_path(path) == path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "is empty"),
        ("/a", "is absolute"),
        (".", "has the part '.'"),
        ("..", "has the part '..'"),
        ("a/../b", "has the part '..'"),
        ("a//b", "has an empty part"),
        ("a/", "has an empty part"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\x7f", "control character"),
        ("a\u2028b", "control character"),
        ("a\udc80", "not valid UTF-8"),
        ("x" * 256, "a part longer than 255 bytes"),
        ("é" * 128, "a part longer than 255 bytes"),
        ("/".join(["x"] * 65), "more than 64 levels"),
        ("/".join(["y" * 205] * 5), "longer than 1024 bytes"),
    ],
)
def test_unsafe_names_are_refused_with_the_rule(path: str, words: str) -> None:
    with pytest.raises(UnsafePath, match=words):
        validate_relative_path(path)


@given(st.text(alphabet=st.sampled_from("ab./\\\0é~-"), max_size=20))
@example("..")
@example("a/../../b")
def test_what_passes_stays_below_its_root(path: str) -> None:
    try:
        joined = Path("/root/dir") / validate_relative_path(path)
    except UnsafePath:
        return
    assert is_within(joined, Path("/root/dir"))
    assert joined != Path("/root/dir")
    assert str(joined) == f"/root/dir/{path}"


@pytest.mark.parametrize(
    ("path", "inside"),
    [("/r", True), ("/r/a", True), ("/ra", False), ("/r/../x", False), ("/r/a/../b", False), ("/x", False)],
)
def test_containment_goes_by_whole_parts(path: str, inside: bool) -> None:
    assert is_within(PurePosixPath(path), PurePosixPath("/r")) is inside


@pytest.mark.parametrize("path", ["/input", "/output", "/a/b/c", "/process", "/devices", "/tmp"])
def test_mount_targets_that_a_job_may_have(path: str) -> None:
    assert mount_target_problem(path) is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "must be absolute"),
        ("input", "must be absolute"),
        ("/", "hide the whole system"),
        ("/proc", "belongs to the system"),
        ("/sys/kernel", "belongs to the system"),
        ("/dev/shm", "belongs to the system"),
        ("/a/../proc", "has the part '..'"),
        ("//proc", "is absolute"),
        ("/a:b\n", "control character"),
    ],
)
def test_mount_targets_that_are_refused(path: str, words: str) -> None:
    problem = mount_target_problem(path)
    assert problem is not None
    assert words in problem


def test_mount_paths_are_the_same_with_and_without_a_slash_at_the_end() -> None:
    assert [normalise_mount_path(path) for path in ("/input/", "/input", "/", "//", "")] == [
        "/input", "/input", "/", "/", ""
    ]  # fmt: skip
    assert mount_folder("/input/") == PurePosixPath("mounts/input")


@pytest.mark.parametrize(
    ("paths", "pairs"),
    [
        ([], ()),
        (["/a", "/b"], ()),
        (["/a", "/ab", "/a-b"], ()),
        (["/a/b", "/a"], (("/a", "/a/b"),)),
        (["/a", "/a/b", "/a/c"], (("/a", "/a/b"), ("/a", "/a/c"))),
        (["/a", "/a-b", "/a/c", "/b"], (("/a", "/a/c"),)),
        (["/a", "/a"], (("/a", "/a"),)),
    ],
)
def test_mounts_inside_mounts_are_found(paths: list[str], pairs: Any) -> None:
    assert nested_mounts(paths) == pairs
